// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: cgroups and namespaces
 *
 * Order matters and is the plan's: cgroups first (a new cgroup namespace takes what the child is in as its root), then namespaces by
 * path or of a container, then new ones that the clone could not make.
 *
 * What has to be written to the child's /proc files by somebody with rights in the outer user namespace (id maps, clock offsets)
 * is written by the parent, since the files of a process that is not dumpable belong to the host's root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/magic.h>
#include <linux/sched.h>

#include "runtime/child.h"
#include "util/cleanup.h"

int child_affinity(struct child *c, const struct plan_op *op)
{
	(void)c;
	return syscall(SYS_sched_setaffinity, 0, op->bits->bytes, op->bits->v) < 0 ? -errno : 0;
}

int child_cgroups(struct child *c, const struct plan_op *op)
{
	struct cgroup_join *join = &c->plan->join;

	(void)op;
	for (size_t i = 0; i < join->n; i++) {
		if (write(join->tasks[i], "0", 1) != 1)
			return -errno;
		close(join->tasks[i]);
	}
	return 0;
}

int child_ns_join(struct child *c, const struct plan_op *op)
{
	int fd = c->plan->fds[op->join.slot];

	if (setns(fd, op->join.flag) < 0)
		return -errno;
	close(fd);
	return 0;
}

int child_ns_join_pidfd(struct child *c, const struct plan_op *op)
{
	if (setns(c->plan->join_pidfd, (int)op->flags) < 0) {
		if (errno == ESRCH)
			return child_say(c, ESRCH, FAULT_FAILED_PRECONDITION,
					 "the container's init has ended", NULL);
		return -errno;
	}
	close(c->plan->join_pidfd);
	return 0;
}

int child_unshare(struct child *c, const struct plan_op *op)
{
	(void)c;
	return syscall(SYS_unshare, op->flags) < 0 ? -errno : 0;
}

int child_refork(struct child *c, const struct plan_op *op)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = c->plan->refork_flags | CLONE_PARENT | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
	};
	long pid;
	int r;

	(void)op;
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return -errno;
	if (!pid) {
		(void)setsid();
		return 0;
	}
	r = child_send(c, WIRE_PID, (int)pid, pidfd);
	if (r < 0)
		(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	_exit(r < 0);
}

int child_time(struct child *c, const struct plan_op *op)
{
	int fd, r;

	(void)op;
	if (unshare(CLONE_NEWTIME) < 0)
		return -errno;
	r = child_send(c, WIRE_TIME, 0, -1);
	if (!r)
		r = child_wait(c, WIRE_GO);
	if (r < 0)
		return r;
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = setns(fd, CLONE_NEWTIME) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int child_wait_go(struct child *c, const struct plan_op *op)
{
	(void)op;
	return child_wait(c, WIRE_GO);
}

int child_ids(struct child *c, const struct plan_op *op)
{
	(void)c;
	if (syscall(SYS_setresgid, op->ids.gid, op->ids.gid, op->ids.gid) < 0)
		return -errno;
	if (syscall(SYS_setgroups, 0, NULL) < 0 && errno != EPERM)
		return -errno;
	if (syscall(SYS_setresuid, op->ids.uid, op->ids.uid, op->ids.uid) < 0)
		return -errno;
	return 0;
}

int child_keyring(struct child *c, const struct plan_op *op)
{
	(void)c;
	(void)op;
	/* a container must not hold the daemon's session keys; without the syscall there are none */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
		return -errno;
	return 0;
}

int child_lo_up(struct child *c, const struct plan_op *op)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	(void)c;
	(void)op;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? -errno : 0;
	close(fd);
	return r;
}

int child_sysctl(struct child *c, const struct plan_op *op)
{
	size_t size = strlen(op->text);
	struct statfs fs;
	int fd, r = 0;

	(void)c;
	/* the host's /proc, which is still in place; its files answer for the namespaces of who opens them */
	fd = open(op->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) < 0)
		r = -errno;
	else if (fs.f_type != PROC_SUPER_MAGIC)
		r = -EXDEV;
	else if (write(fd, op->text, size) != (ssize_t)size)
		r = errno ? -errno : -EIO;
	close(fd);
	return r;
}

int child_hostname(struct child *c, const struct plan_op *op)
{
	(void)c;
	return sethostname(op->text, strlen(op->text)) < 0 ? -errno : 0;
}

int child_domainname(struct child *c, const struct plan_op *op)
{
	(void)c;
	return setdomainname(op->text, strlen(op->text)) < 0 ? -errno : 0;
}

int child_chroot_proc(struct child *c, const struct plan_op *op)
{
	int fd = c->plan->fds[op->join.slot];

	if (fchdir(fd) < 0 || chroot(".") < 0)
		return -errno;
	close(fd);
	return 0;
}
