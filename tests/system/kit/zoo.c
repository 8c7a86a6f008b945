// SPDX-License-Identifier: Apache-2.0
/*
 * A zoo of what processes can hold, for tests of checkpoints
 *
 *   zoo KIND...   sets up each kind in a process of its own and prints "ready"; after SIGUSR1 each
 *                 looks whether all of it is still as it was and prints "KIND: ok" or what is not.
 *                 The exit status is the number of kinds that have lost something.
 *
 * Between "ready" and the signal nothing moves, so a checkpoint may be taken, restored and taken
 * again. Built statically: it runs in any root file system.
 */
#include "zoo.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *kind_name;
static int go_fd, ready_fd;

void lost(const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = snprintf(text, sizeof(text), "%s: ", kind_name);
	n += vsnprintf(text + n, sizeof(text) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(text) - 2)
		n = sizeof(text) - 2;
	text[n++] = '\n';
	if (write(1, text, (size_t)n) < 0)
		_exit(2);
	_exit(1);
}

void ready_and_wait(void)
{
	char c;

	must(write(ready_fd, "r", 1) == 1);
	while (read(go_fd, &c, 1) != 1)
		if (errno != EINTR)
			_exit(3);
}

static const struct {
	const char *name;
	void (*run)(void);
} kinds[] = {
	{ "tree", zoo_tree },	    { "threads", zoo_threads }, { "timers", zoo_timers },
	{ "epoll", zoo_epoll },	    { "signals", zoo_signals }, { "inotify", zoo_inotify },
	{ "pipes", zoo_pipes },	    { "unix", zoo_unix },	{ "inflight", zoo_inflight },
	{ "shm", zoo_shm },	    { "sysv", zoo_sysv },	{ "maps", zoo_maps },
	{ "files", zoo_files },	    { "locks", zoo_locks },	{ "deleted", zoo_deleted },
	{ "listen", zoo_listen },   { "tcp", zoo_tcp },		{ "tcpgone", zoo_tcpgone },
	{ "udp", zoo_udp },	    { "status", zoo_status },	{ "ids", zoo_ids },
	{ "outside", zoo_outside }, { "uring", zoo_uring },	{ "mqueue", zoo_mqueue },
	{ "seccomp", zoo_seccomp }, { "times", zoo_times },	{ "linked", zoo_linked },
	{ "netlink", zoo_netlink }, { "pidfd", zoo_pidfd },	{ "tun", zoo_tun },
	{ "packet", zoo_packet },   { "big", zoo_big },
};
#define N (sizeof(kinds) / sizeof(kinds[0]))

static pid_t begin(const char *name, int *go)
{
	int go_pipe[2], ready_pipe[2];
	pid_t pid;
	char c;

	must(!pipe(go_pipe) && !pipe(ready_pipe));
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		sigset_t none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		prctl(PR_SET_NAME, name);
		close(go_pipe[1]);
		close(ready_pipe[0]);
		kind_name = name;
		go_fd = go_pipe[0];
		ready_fd = ready_pipe[1];
		for (size_t i = 0; i < N; i++)
			if (!strcmp(name, kinds[i].name)) {
				kinds[i].run();
				dprintf(1, "%s: ok\n", name);
				_exit(0);
			}
		lost("there is no such kind");
	}
	close(go_pipe[0]);
	close(ready_pipe[1]);
	*go = go_pipe[1];
	if (read(ready_pipe[0], &c, 1) != 1) {
		dprintf(1, "%s: could not be set up\n", name);
		_exit(100);
	}
	close(ready_pipe[0]);
	return pid;
}

int main(int argc, char **argv)
{
	int go[N], status, wrong = 0, sig;
	pid_t pids[N];
	sigset_t set;

	kind_name = "zoo";
	if (argc < 2 || argc - 1 > (int)N)
		return 100;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 1; i < argc; i++)
		pids[i - 1] = begin(argv[i], &go[i - 1]);
	dprintf(1, "ready\n");
	while (sigwait(&set, &sig) || sig != SIGUSR1)
		;
	for (int i = 0; i < argc - 1; i++)
		if (write(go[i], "g", 1) != 1)
			dprintf(1, "zoo: %s is gone\n", argv[i + 1]);
	for (int i = 0; i < argc - 1; i++) {
		pid_t pid;

		do
			pid = waitpid(pids[i], &status, 0);
		while (pid < 0 && errno == EINTR);
		if (pid != pids[i] || status) {
			if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
				dprintf(1, "%s: ended with status %#x\n", argv[i + 1], status);
			wrong++;
		}
	}
	return wrong;
}
