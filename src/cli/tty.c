// SPDX-License-Identifier: Apache-2.0
/*
 * The user's terminal: raw mode and its size
 *
 * A terminal that stays raw is useless to its owner, so the saved settings are put back on each way
 * out: by the caller, at exit(), and by handlers of the signals that end a broken program. Signals
 * that can be waited for are the session's.
 */
#include "cli/tty.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "util/cleanup.h"

#define CTRL_P 0x10
#define CTRL_Q 0x11

/* Process-wide, as the terminal is. Handlers read them. */
static struct termios saved;
static volatile sig_atomic_t raw_fd = -1;

void tty_restore(void)
{
	int fd = raw_fd;

	if (fd < 0)
		return;
	raw_fd = -1;
	tcsetattr(fd, TCSADRAIN, &saved);
}

static void crashed(int sig)
{
	tty_restore();
	/*
	 * The handler was reset when it was entered: this ends the program as it would have ended.
	 */
	raise(sig);
}

bool tty_is_raw(void)
{
	return raw_fd >= 0;
}

int tty_raw(int fd, bool output_only)
{
	static const int deadly[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };
	static bool prepared;
	struct termios raw;

	if (tcgetattr(fd, &saved) < 0)
		return -errno;
	if (!prepared) {
		struct sigaction sa = { .sa_handler = crashed,
					.sa_flags = (int)SA_RESETHAND | SA_NODEFER };

		for (size_t i = 0; i < ARRAY_SIZE(deadly); i++)
			sigaction(deadly[i], &sa, NULL);
		atexit(tty_restore);
		prepared = true;
	}
	raw = saved;
	if (output_only)
		raw.c_oflag &= ~(tcflag_t)OPOST;
	else
		cfmakeraw(&raw);
	raw_fd = fd;
	if (tcsetattr(fd, TCSADRAIN, &raw) < 0) {
		raw_fd = -1;
		return -errno;
	}
	return 0;
}

bool tty_size(uint16_t *width, uint16_t *height)
{
	static const int fds[] = { STDOUT_FILENO, STDIN_FILENO, STDERR_FILENO };
	struct winsize ws;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (ioctl(fds[i], TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row) {
			*width = ws.ws_col;
			*height = ws.ws_row;
			return true;
		}
	}
	return false;
}

bool tty_detach_keys(bool *held, const char *in, unsigned n, char *out, unsigned *out_n)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n; i++) {
		if (*held && in[i] == CTRL_Q) {
			*held = false;
			*out_n = used;
			return true;
		}
		/* A ctrl-p is held back until the next key tells what it is. */
		if (*held)
			out[used++] = CTRL_P;
		*held = in[i] == CTRL_P;
		if (!*held)
			out[used++] = in[i];
	}
	*out_n = used;
	return false;
}
