// SPDX-License-Identifier: Apache-2.0
/*
 * A process in the foreground
 *
 * Without a terminal no byte passes here: the container has our own stdin, stdout and stderr. The
 * loop then waits for signals, which it passes on by tasks.kill, and for the answer of tasks.wait.
 * With a terminal one end of a socket pair is given to the daemon (tasks.attach), and the loop
 * copies: stdin, without the detach keys, to it, and what comes from it to stdout. Input that the
 * container does not take yet is kept (one buffer) and stdin is not read meanwhile, so that a busy
 * container cannot block the output.
 *
 * All signals that end or resize a program are blocked from session_new on and read from a
 * signalfd. When the connection breaks the container runs on; the session connects again and waits,
 * and attaches, anew.
 */
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/tty.h"
#include "util/clock.h"
#include "util/fd.h"

#define CHUNK 16384u
#define DRAIN_MS 2000 /* output that is still on its way after the end */
#define REATTACH_MS 500 /* a stream that ended without the process: the daemon found us too slow */

struct session {
	struct cli *cli;
	const char *id, *exec_id;
	bool tty, interactive, raw_wanted;

	int signal_fd, stream; /* stream: our end of the socket pair, -1 when there is none */
	sigset_t old_mask;
	uint32_t wait_id;
	bool waiting;

	/* parameters of events.subscribe, from the last event before it on; NULL without one */
	json_object *subscription;
	bool notified; /* an event of it came */
	bool lost; /* the stream ended and the end of the process is not known yet */

	bool stdin_open, held, last_newline;
	char input[CHUNK + 1]; /* not yet taken by the container */
	unsigned input_at, input_n;
};

static const int passed_on[] = { SIGHUP,  SIGINT,    SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
				 SIGALRM, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR };

int session_new(struct session **out, struct cli *cli, const char *id, const char *exec_id,
		bool tty, bool interactive, struct fault *f)
{
	struct session *s = mem_alloc(sizeof(*s));
	sigset_t mask;

	s->cli = cli;
	s->id = id;
	s->exec_id = exec_id;
	s->tty = tty;
	s->interactive = interactive;
	s->stdin_open = tty && interactive;
	s->raw_wanted = s->stdin_open && isatty(STDIN_FILENO);
	s->last_newline = true;
	s->stream = -1;
	sigemptyset(&mask);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		sigaddset(&mask, passed_on[i]);
	if (tty) {
		sigaddset(&mask, SIGWINCH);
		sigaddset(&mask, SIGTSTP);
	}
	/* A reader that went away is seen by the write that fails. */
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &mask, &s->old_mask);
	s->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signal_fd < 0) {
		int r = fault_sys(f, errno, "making a signalfd", NULL);

		session_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	tty_restore();
	fd_close(&s->stream);
	fd_close(&s->signal_fd);
	json_object_put(s->subscription);
	sigprocmask(SIG_SETMASK, &s->old_mask, NULL);
	free(s);
}

int session_subscribe(struct session *s, json_object *params, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	int r;

	if (!s->subscription)
		s->subscription = params;
	r = cli_call(s->cli, "events.subscribe", json_object_get(params), &answer, f);
	if (r == 0 && !js_get(params, "since")) {
		js_set_int(params, "since", js_int(answer, "last_seq", 0));
		js_set_str(params, "journal", js_str(answer, "journal"));
	}
	return r;
}

bool session_notified(const struct session *s)
{
	return s->notified;
}

static void pass_fd(json_object *params, const char *name, int fd, int *fds, size_t *n_fds)
{
	char text[8];

	if (fd < 0 || fcntl(fd, F_GETFD) < 0) {
		js_set_str(params, name, NULL);
		return;
	}
	snprintf(text, sizeof(text), "fd:%zu", *n_fds);
	fds[(*n_fds)++] = fd;
	js_set_str(params, name, text);
}

void session_stdio(struct session *s, json_object *params, int *fds, size_t *n_fds)
{
	uint16_t width, height;

	*n_fds = 0;
	if (s->tty) {
		js_set_bool(params, "terminal", true);
		if (tty_size(&width, &height)) {
			js_set_int(params, "width", width);
			js_set_int(params, "height", height);
		}
		return;
	}
	pass_fd(params, "stdin", s->interactive ? STDIN_FILENO : -1, fds, n_fds);
	pass_fd(params, "stdout", STDOUT_FILENO, fds, n_fds);
	pass_fd(params, "stderr", STDERR_FILENO, fds, n_fds);
}

int session_attach(struct session *s, struct fault *f)
{
	json_object *p;
	int pair[2], r;

	if (!s->tty)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return fault_sys(f, errno, "making a socket pair", NULL);
	p = cli_params(s->id, s->exec_id);
	js_set_str(p, "stream", "fd:0");
	r = cli_call_fds(s->cli, "tasks.attach", p, &pair[1], 1, NULL, f);
	close(pair[1]);
	if (r < 0) {
		close(pair[0]);
		return r;
	}
	fd_nonblock(pair[0], 1);
	fd_close(&s->stream);
	s->stream = pair[0];
	return 0;
}

int session_wait(struct session *s, struct fault *f)
{
	int r = cli_send(s->cli, "tasks.wait", cli_params(s->id, s->exec_id), NULL, 0, &s->wait_id,
			 f);

	s->waiting = r == 0;
	return r;
}

/*
 * Its answer is not waited for, and an error of it changes nothing: the process may just have
 * ended.
 */
static void request(struct session *s, const char *method, json_object *params)
{
	struct fault ignored;

	(void)cli_send(s->cli, method, params, NULL, 0, NULL, &ignored);
}

static void resize(struct session *s)
{
	json_object *p;
	uint16_t width, height;

	if (!tty_size(&width, &height))
		return;
	p = cli_params(s->id, s->exec_id);
	js_set_int(p, "width", width);
	js_set_int(p, "height", height);
	request(s, "tasks.resize_pty", p);
}

/* The container's terminal has made its line ends already: ours must not do it again. */
static int set_raw(struct session *s)
{
	if (s->raw_wanted)
		return tty_raw(STDIN_FILENO, false);
	return isatty(STDOUT_FILENO) ? tty_raw(STDOUT_FILENO, true) : 0;
}

/* Suspends this program with the terminal as it was before. */
static void suspend(struct session *s)
{
	bool raw = tty_is_raw();

	tty_restore();
	raise(SIGSTOP);
	if (raw)
		set_raw(s);
	resize(s);
}

static void on_signals(struct session *s)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		json_object *p;

		if (info.ssi_signo == SIGWINCH) {
			resize(s);
		} else if (info.ssi_signo == SIGTSTP) {
			suspend(s);
		} else {
			p = cli_params(s->id, s->exec_id);
			js_set_int(p, "signal", info.ssi_signo);
			request(s, "tasks.kill", p);
		}
	}
}

static void flush_input(struct session *s)
{
	while (s->input_at < s->input_n) {
		ssize_t n = send(s->stream, s->input + s->input_at, s->input_n - s->input_at,
				 MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) /* the stream's own end tells the rest */
			break;
		s->input_at += (unsigned)n;
	}
	s->input_at = s->input_n = 0;
}

static int on_stdin(struct session *s)
{
	char chunk[CHUNK];
	ssize_t n = read(STDIN_FILENO, chunk, sizeof(chunk));
	bool detached = false;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		s->stdin_open = false;
		/* Our terminal is gone: nobody looks any more. */
		if (s->raw_wanted)
			return SESSION_E_DETACHED;
		/*
		 * A pipe has ended: the terminal's way to say so is ctrl-d, after a line's end
		 * once, within a line twice.
		 */
		s->input_n = s->last_newline ? 1 : 2;
		memcpy(s->input, "\4\4", s->input_n);
	} else if (s->raw_wanted) {
		detached = tty_detach_keys(&s->held, chunk, (unsigned)n, s->input, &s->input_n);
	} else {
		memcpy(s->input, chunk, (size_t)n);
		s->input_n = (unsigned)n;
		s->last_newline = chunk[n - 1] == '\n';
	}
	flush_input(s);
	return detached ? SESSION_E_DETACHED : 0;
}

/* 1: more may come, 0: nothing now, -1: the stream has ended. */
static int on_stream(struct session *s)
{
	char chunk[CHUNK];
	ssize_t n = recv(s->stream, chunk, sizeof(chunk), 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		fd_close(&s->stream);
		s->lost = true;
		return -1;
	}
	/* A closed stdout loses output and does not end the container. */
	(void)fd_write_all(STDOUT_FILENO, chunk, (size_t)n);
	return 1;
}

static void drain(struct session *s)
{
	int64_t deadline = clock_mono() + DRAIN_MS * 1000000ll;

	while (s->stream >= 0) {
		struct pollfd p = { .fd = s->stream, .events = POLLIN };
		int64_t left = (deadline - clock_mono()) / 1000000;

		if (left <= 0 || poll(&p, 1, (int)left) == 0)
			break;
		on_stream(s);
	}
}

/* The daemon is being restarted; its tasks go on. */
static int reconnect(struct session *s, struct fault *f)
{
	int r = cli_reconnect(s->cli, f);

	if (r == 0 && s->subscription)
		r = session_subscribe(s, s->subscription, f);
	if (r == 0)
		r = session_wait(s, f);
	if (r == 0 && s->tty && s->stream >= 0) {
		/*
		 * When the process has ended meanwhile, there is nothing to attach to; the wait
		 * tells.
		 */
		fd_close(&s->stream);
		(void)session_attach(s, f);
	}
	return r;
}

/* Answers of this session's requests. 1: the process has ended. */
static int on_reply(struct session *s, json_object **answer, struct fault *f)
{
	for (;;) {
		struct cli_reply *reply;
		int r = cli_recv(s->cli, 0, &reply, f);

		if (r == -EAGAIN)
			return 0;
		if (r < 0)
			return f->err == EPIPE ? reconnect(s, f) : r;
		s->notified |= reply->notification;
		if (reply->notification || reply->msgid != s->wait_id) {
			cli_reply_free(reply);
			continue;
		}
		r = 1;
		if (reply->failed) {
			*f = reply->fault;
			r = -EREMOTEIO;
		} else {
			*answer = TAKE_PTR(reply->result);
		}
		cli_reply_free(reply);
		return r;
	}
}

int session_loop(struct session *s, json_object **answer, struct fault *f)
{
	int r;

	if (s->tty && s->stream >= 0) {
		r = set_raw(s);
		if (r < 0)
			return fault_sys(f, -r, "setting the terminal to raw mode", NULL);
		resize(s); /* it may have changed since the task was made */
	}
	for (;;) {
		struct pollfd p[4] = {
			{ .fd = s->signal_fd, .events = POLLIN },
			{ .fd = cli_fd(s->cli), .events = POLLIN },
			{ .fd = s->stream, .events = POLLIN },
			{ .fd = s->stdin_open && s->stream >= 0 && !s->input_n ? STDIN_FILENO : -1,
			  .events = POLLIN },
		};

		/*
		 * Before the poll: an answer may have come along with an earlier one, and then the
		 * socket is silent.
		 */
		r = on_reply(s, answer, f);
		if (r < 0)
			return r;
		if (r == 1) {
			drain(s);
			tty_restore();
			return 0;
		}
		p[1].fd = cli_fd(s->cli); /* another one after a restart of the daemon */
		p[2].fd = s->stream;
		if (s->input_n)
			p[2].events |= POLLOUT;
		r = poll(p, 4, s->lost ? REATTACH_MS : -1);
		if (r < 0 && errno != EINTR)
			return fault_sys(f, errno, "waiting", NULL);
		if (r == 0 && s->lost) {
			/* Refused when the process has ended just now: then the wait tells. */
			s->lost = false;
			(void)session_attach(s, f);
		}
		if (p[0].revents)
			on_signals(s);
		if (p[2].revents & POLLOUT)
			flush_input(s);
		if (p[2].revents & (POLLIN | POLLHUP | POLLERR))
			on_stream(s);
		if (p[3].revents && on_stdin(s) == SESSION_E_DETACHED) {
			tty_restore();
			/* The prompt that follows begins a line of its own. */
			(void)fd_write_all(STDERR_FILENO, "\n", 1);
			return SESSION_E_DETACHED;
		}
	}
}
