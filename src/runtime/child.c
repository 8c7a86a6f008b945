// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: the executor
 *
 * Runs the plan's operations in order. An operation returns 0 or -errno; the first that fails ends the child: step, path and errno go to the
 * parent in one message, and the exit status is 1, or 126 and 127 where the program could not be run. Mounts need no undoing, they are
 * in the child's mount namespace.
 *
 * Before the first operation the child becomes what a container's init has to be: nothing of the daemon's is open but what the plan needs (another launch's
 * socket held open here would keep that launch from seeing its exec), no handlers and no blocked signals, a session of its own, and not
 * dumpable, since the daemon's memory is still mapped. The exec makes it dumpable again.
 *
 * The parent's end of the socket is the child's life line: when it is closed before the start, the wait ends and so does the child.
 */
#include "runtime/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

static child_fn *const table[PLAN_KINDS] = {
	[PLAN_AFFINITY] = child_affinity,
	[PLAN_CGROUPS] = child_cgroups,
	[PLAN_NS_JOIN] = child_ns_join,
	[PLAN_NS_JOIN_PIDFD] = child_ns_join_pidfd,
	[PLAN_UNSHARE] = child_unshare,
	[PLAN_REFORK] = child_refork,
	[PLAN_TIME] = child_time,
	[PLAN_WAIT] = child_wait_go,
	[PLAN_IDS] = child_ids,
	[PLAN_KEYRING] = child_keyring,
	[PLAN_LABEL] = child_label,
	[PLAN_LO_UP] = child_lo_up,
	[PLAN_SYSCTL] = child_sysctl,
	[PLAN_HOSTNAME] = child_hostname,
	[PLAN_DOMAINNAME] = child_domainname,
	[PLAN_PROPAGATE] = child_propagate,
	[PLAN_PARENT_PRIVATE] = child_parent_private,
	[PLAN_ROOT] = child_root,
	[PLAN_ROOT_MOUNT] = child_root_mount,
	[PLAN_ROOT_OPEN] = child_root_open,
	[PLAN_MOUNT] = child_mount,
	[PLAN_ATTR] = child_attr,
	[PLAN_SYMLINK] = child_symlink,
	[PLAN_DEVICE] = child_device,
	[PLAN_TTY] = child_tty,
	[PLAN_CONSOLE] = child_console,
	[PLAN_MASK] = child_mask,
	[PLAN_READONLY] = child_readonly,
	[PLAN_HOOKS] = child_hooks,
	[PLAN_HOOK] = child_hook,
	[PLAN_GIVE_ROOT] = child_give_root,
	[PLAN_ROOT_PROPAGATE] = child_root_propagate,
	[PLAN_ROOT_RO] = child_root_ro,
	[PLAN_PIVOT] = child_pivot,
	[PLAN_CHROOT] = child_chroot,
	[PLAN_CHROOT_PROC] = child_chroot_proc,
	[PLAN_STDIO] = child_stdio,
	[PLAN_RLIMIT] = child_rlimit,
	[PLAN_PERSONALITY] = child_personality,
	[PLAN_MEMPOLICY] = child_mempolicy,
	[PLAN_SCHEDULER] = child_scheduler,
	[PLAN_IOPRIO] = child_ioprio,
	[PLAN_CWD] = child_cwd,
	[PLAN_FIND] = child_find,
	[PLAN_READY] = child_ready,
	[PLAN_CREDS] = child_creds,
	[PLAN_EXEC] = child_exec,
};

size_t child_copy(char *to, size_t size, const char *from)
{
	size_t len = strlen(from), n = len < size ? len : size - 1;

	memcpy(to, from, n);
	to[n] = 0;
	return len;
}

size_t child_add(char *to, size_t size, const char *from)
{
	size_t used = strlen(to);

	return used + child_copy(to + used, size - used, from);
}

char *child_number(char *to, int64_t n)
{
	char digits[24];
	uint64_t v = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;
	size_t i = 0, at = 0;

	do {
		digits[i++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	if (n < 0)
		to[at++] = '-';
	while (i)
		to[at++] = digits[--i];
	to[at] = 0;
	return to;
}

int child_say(struct child *c, int err, enum fault_code code, const char *text, const char *path)
{
	c->failed.code = (int32_t)code;
	if (text)
		child_copy(c->failed.text, sizeof(c->failed.text), text);
	if (path)
		child_copy(c->failed.path, sizeof(c->failed.path), path);
	return -err;
}

static int send_bytes(int sock, const void *data, size_t size, int fd)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)data, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *h;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		h = CMSG_FIRSTHDR(&msg);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	}
	while (sendmsg(sock, &msg, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int child_send(struct child *c, enum wire_kind kind, int pid, int fd)
{
	struct wire_head head = { .kind = (int32_t)kind, .pid = pid };

	return send_bytes(c->sock, &head, sizeof(head), fd);
}

int child_wait(struct child *c, enum wire_kind kind)
{
	char byte = 0;
	ssize_t n;

	do {
		n = recv(c->sock, &byte, 1, 0);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		_exit(1); /* nobody is there to be told */
	return byte == (char)kind ? 0 : -EPROTO;
}

static void fail(struct child *c, const struct plan_op *op, int err) __attribute__((noreturn));
static void fail(struct child *c, const struct plan_op *op, int err)
{
	struct wire_failed *w = &c->failed;

	w->head.kind = WIRE_FAILED;
	w->err = err;
	child_copy(w->step, sizeof(w->step), op->step);
	if (!w->path[0] && op->path)
		child_copy(w->path, sizeof(w->path), op->path);
	(void)send_bytes(c->sock, w, sizeof(*w), -1);
	_exit(w->exit_code ? w->exit_code : 1);
}

/* Keeps the fds of the sorted list `keep` and closes all others. */
static void close_others(const int *keep, size_t n)
{
	unsigned from = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned fd = (unsigned)keep[i];

		if (i && keep[i] == keep[i - 1])
			continue;
		if (fd > from)
			(void)syscall(SYS_close_range, from, fd - 1, 0);
		from = fd + 1;
	}
	(void)syscall(SYS_close_range, from, ~0u, 0);
}

static void keep_fd(int *keep, size_t *n, int fd)
{
	size_t at = *n;

	if (fd < 0)
		return;
	/* sorted as it comes; most come in order already */
	for (; at && keep[at - 1] > fd; at--)
		keep[at] = keep[at - 1];
	keep[at] = fd;
	(*n)++;
}

static void close_what_is_not_ours(struct child *c, const struct plan *p)
{
	int keep[PLAN_FDS + 32] = { 0 };
	size_t n = 0;

	for (int fd = 0; fd < 3; fd++)
		keep_fd(keep, &n, fd);
	keep_fd(keep, &n, c->sock);
	for (size_t i = 0; i < p->join.n; i++)
		keep_fd(keep, &n, p->join.tasks[i]);
	keep_fd(keep, &n, p->join_pidfd);
	keep_fd(keep, &n, p->state_fds[0]);
	keep_fd(keep, &n, p->state_fds[1]);
	for (size_t i = 0; i < p->n_fds; i++)
		keep_fd(keep, &n, p->fds[i]);
	close_others(keep, n);
}

/*
 * 0, 1 and 2 are taken before anything else is opened, so that no later fd can land there. What is -1, and all three with a terminal, is the host's
 * /dev/null until the container's own is there (child_stdio).
 */
static int place_stdio(const struct plan *p)
{
	int from[3], null = -1;

	for (int i = 0; i < 3; i++) {
		from[i] = p->terminal ? -1 : p->stdio[i];
		/* one that would be overwritten before its turn moves out of the way */
		if (from[i] >= 0 && from[i] < i) {
			from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, 3);
			if (from[i] < 0)
				return -errno;
		}
	}
	for (int i = 0; i < 3; i++) {
		for (int j = i + 1; j < 3 && from[i] != i; j++)
			if (from[j] == i) {
				from[j] = fcntl(i, F_DUPFD_CLOEXEC, 3);
				if (from[j] < 0)
					return -errno;
			}
		if (from[i] < 0 && null < 0) {
			null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
			if (null < 0)
				return -errno;
		}
		if (from[i] == i) {
			if (fcntl(i, F_SETFD, 0) < 0)
				return -errno;
		} else if (dup2(from[i] < 0 ? null : from[i], i) < 0) {
			return -errno;
		}
	}
	return 0;
}

static void reset_signals(const struct plan *p)
{
	/* the kernel's own struct: libc's wrapper would do, but it asks for a restorer that nobody needs here */
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} act = { 0 };
	uint64_t none = 0;

	/* CLONE_CLEAR_SIGHAND has taken the handlers; what is ignored stays so */
	for (int sig = 1; sig <= 64; sig++)
		if (p->ignored_signals & (1ull << (sig - 1)))
			(void)syscall(SYS_rt_sigaction, sig, &act, NULL, sizeof(none));
	(void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof(none));
}

void child_run(struct plan *plan, int sock)
{
	static const struct plan_op stdio = { .step = "stdio" };
	struct child c;
	int r;

	memset(&c, 0, offsetof(struct child, found_path));
	memset(&c.failed, 0, sizeof(c.failed));
	c.home[0] = 0;
	c.plan = plan;
	c.sock = sock;
	c.root = c.folder = c.devnull = c.empty = c.master = c.slave = c.label = -1;
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	reset_signals(plan);
	r = place_stdio(plan);
	if (r < 0)
		fail(&c, &stdio, -r);
	close_what_is_not_ours(&c, plan);
	(void)setsid();
	(void)umask(0);
	for (size_t i = 0; i < plan->n_ops; i++) {
		const struct plan_op *op = &plan->ops[i];

		r = table[op->kind](&c, op);
		if (r < 0)
			fail(&c, op, -r);
	}
	_exit(1); /* the last operation is the exec */
}
