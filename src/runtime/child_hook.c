// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: hooks
 *
 * prestart and createRuntime hooks are the parent's; it is told, and the child waits. createContainer and startContainer hooks run here, in the
 * container's namespaces: a clone of the child executes the hook with the state JSON (a memfd that the parent has filled) on stdin, and
 * a pipe on stdout and stderr, whose beginning goes into the fault if the hook fails. CLONE_VFORK makes the failure of its exec known
 * when the clone returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/sched.h>

#include "runtime/child.h"
#include "util/fault.h"

int child_hooks(struct child *c, const struct plan_op *op)
{
	int r = child_send(c, WIRE_HOOKS, 0, -1);

	(void)op;
	return r < 0 ? r : child_wait(c, WIRE_CONTINUE);
}

static void hook_exec(const struct plan_hook *h, int state, int out, int status)
	__attribute__((noreturn));
static void hook_exec(const struct plan_hook *h, int state, int out, int status)
{
	int err;

	if (lseek(state, 0, SEEK_SET) < 0 || dup2(state, 0) < 0 || dup2(out, 1) < 0 ||
	    dup2(out, 2) < 0) {
		err = errno;
	} else {
		execve(h->path, h->argv, h->envp);
		err = errno;
	}
	(void)!write(status, &err, sizeof(err));
	_exit(127);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

/* Reads what there is into the fault's log, and past its end into nothing. Returns false at the end of file. */
static bool take_output(struct child *c, int fd, size_t *used)
{
	char spill[512];
	size_t room = sizeof(c->failed.log) - 1 - *used;
	ssize_t n = read(fd, room ? c->failed.log + *used : spill, room ? room : sizeof(spill));

	if (n > 0 && room)
		*used += (size_t)n;
	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Until the hook has ended. 0 or -ETIMEDOUT. */
static int hook_wait(struct child *c, const struct plan_hook *h, int pidfd, int out)
{
	int64_t until = h->timeout_ms < 0 ? 0 : now_ms() + h->timeout_ms;
	size_t used = 0;
	bool open = true;

	for (;;) {
		/* the third ends the hook when the parent is gone */
		struct pollfd p[3] = {
			{ .fd = pidfd, .events = POLLIN },
			{ .fd = c->sock },
			{ .fd = open ? out : -1, .events = POLLIN },
		};
		int64_t left = h->timeout_ms < 0 ? -1 : until - now_ms();

		if (h->timeout_ms >= 0 && left <= 0)
			return -ETIMEDOUT;
		if (poll(p, 3, left > INT_MAX ? INT_MAX : (int)left) < 0 && errno != EINTR)
			return -errno;
		if (p[2].revents)
			open = take_output(c, out, &used);
		if (p[1].revents & (POLLHUP | POLLERR))
			return -ECANCELED;
		if (p[0].revents) {
			while (open && used < sizeof(c->failed.log) - 1) {
				size_t before = used;

				open = take_output(c, out, &used);
				if (used == before)
					break;
			}
			return 0;
		}
	}
}

static int hook_failed(struct child *c, const struct plan_hook *h, int err, const char *why,
		       int number)
{
	char text[sizeof(c->failed.text)], digits[24];

	child_copy(text, sizeof(text), h->name);
	child_add(text, sizeof(text), " hook ");
	child_add(text, sizeof(text), h->path);
	child_add(text, sizeof(text), why);
	if (number >= 0)
		child_add(text, sizeof(text), child_number(digits, number));
	child_say(c, err, err == ETIMEDOUT ? FAULT_DEADLINE_EXCEEDED : FAULT_FAILED_PRECONDITION,
		  text, h->path);
	/* what failed is told by the text; there is an errno only where a call failed */
	return err ? -err : -EPROTO;
}

int child_hook(struct child *c, const struct plan_op *op)
{
	const struct plan_hook *h = op->hook;
	int out[2] = { -1, -1 }, status[2] = { -1, -1 }, pidfd = -1, err = 0, r;
	struct clone_args args = {
		.flags = CLONE_PIDFD | CLONE_VFORK,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
	};
	siginfo_t info = { 0 };
	long pid;

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(status, O_CLOEXEC) < 0)
		return -errno;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (!pid)
		hook_exec(h, c->plan->state_fds[h->started], out[1], status[1]);
	close(out[1]);
	close(status[1]);
	if (read(status[0], &err, sizeof(err)) != (ssize_t)sizeof(err))
		err = 0;
	close(status[0]);
	r = fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : hook_wait(c, h, pidfd, out[0]);
	if (r < 0)
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR)
		;
	close(out[0]);
	close(pidfd);
	if (err)
		return hook_failed(c, h, err, "", -1);
	if (r == -ETIMEDOUT)
		return hook_failed(c, h, ETIMEDOUT, " took too long", -1);
	if (r < 0)
		return hook_failed(c, h, -r, "", -1);
	if (info.si_code != CLD_EXITED)
		return hook_failed(c, h, 0, ": ended by signal ", info.si_status);
	if (info.si_status)
		return hook_failed(c, h, 0, ": exit status ", info.si_status);
	memset(c->failed.log, 0, sizeof(c->failed.log));
	return 0;
}
