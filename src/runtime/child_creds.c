// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: limits, identity, capabilities, seccomp
 *
 * The order of the last steps is what the kernel's rules leave: a filter without no_new_privs needs CAP_SYS_ADMIN, so it is loaded before the capabilities go
 * and the calls after it have to pass it; with no_new_privs it is loaded last. The bounding set is dropped while CAP_SETPCAP is there,
 * groups before the user, the user with keepcaps, then the sets, then ambient ones.
 *
 * A filter with SCMP_ACT_NOTIFY may stop the very calls by which its listener would be handed over. So a thread that is not under the filter does
 * that: the main thread leaves the listener's number in shared memory and spins, without a system call, until the thread says that the
 * parent has taken it. Threads leave no zombie behind, and the exec ends what is left of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/child.h"

#define HELPER_STACK (PLAN_SHARED_BYTES - 64)

struct shared { /* of plan->shared */
	int listener; /* -1 until it is there */
	int go; /* 1: exec; the thread ends the process instead when the parent is gone */
	_Alignas(16) char stack[HELPER_STACK];
};

int child_rlimit(struct child *c, const struct plan_op *op)
{
	struct rlimit64 want = { .rlim_cur = op->rlimit.soft, .rlim_max = op->rlimit.hard };

	if (!syscall(SYS_prlimit64, 0, op->rlimit.resource, &want, NULL))
		return 0;
	if (errno == EPERM)
		return child_say(
			c, EPERM, FAULT_PERMISSION_DENIED,
			"the limit is above the hard limit of the daemon, and raising it takes CAP_SYS_RESOURCE",
			NULL);
	return -errno;
}

int child_personality(struct child *c, const struct plan_op *op)
{
	(void)c;
	return syscall(SYS_personality, (unsigned long)op->number) < 0 ? -errno : 0;
}

int child_mempolicy(struct child *c, const struct plan_op *op)
{
	const struct plan_bits *b = op->bits;

	(void)c;
	/* the kernel looks at maxnode - 1 bits */
	if (syscall(SYS_set_mempolicy, b->mode, b->bytes ? b->v : NULL,
		    b->bytes ? b->bytes * 8 + 1 : 0) < 0)
		return -errno;
	return 0;
}

int child_scheduler(struct child *c, const struct plan_op *op)
{
	(void)c;
	return syscall(SYS_sched_setattr, 0, op->sched, 0) < 0 ? -errno : 0;
}

int child_ioprio(struct child *c, const struct plan_op *op)
{
	(void)c;
	return syscall(SYS_ioprio_set, 1 /* IOPRIO_WHO_PROCESS */, 0, (int)op->number) < 0 ? -errno
											   : 0;
}

int child_label(struct child *c, const struct plan_op *op)
{
	struct statfs fs;

	c->label = open(op->path, O_WRONLY | O_CLOEXEC);
	if (c->label < 0 || fstatfs(c->label, &fs) < 0)
		return -errno;
	return fs.f_type == PROC_SUPER_MAGIC ? 0 : -EXDEV;
}

static int drop_bounding(uint64_t keep)
{
	for (unsigned cap = 0; cap < 64; cap++) {
		if (keep & (1ull << cap))
			continue;
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			if (errno == EINVAL)
				break; /* the kernel's last one */
			return -errno;
		}
	}
	return 0;
}

static int set_caps(const struct spec_caps *caps)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	for (unsigned i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(caps->effective >> (32 * i));
		data[i].permitted = (uint32_t)(caps->permitted >> (32 * i));
		data[i].inheritable = (uint32_t)(caps->inheritable >> (32 * i));
	}
	if (syscall(SYS_capset, &head, data) < 0)
		return -errno;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	for (unsigned cap = 0; cap < 64 && caps->ambient >> cap; cap++)
		if (caps->ambient & (1ull << cap) &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
			return -errno;
	return 0;
}

static int load_filter(const struct seccomp_program *s, unsigned flags)
{
	struct sock_fprog prog = { .len = s->length, .filter = s->code };
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);

	return r < 0 ? -errno : (int)r;
}

static int helper(void *user)
{
	struct child *c = user;
	struct shared *s = c->plan->shared;
	struct timespec t = { .tv_nsec = 100000 };
	int fd;

	/* errno is the main thread's too, but that one makes no calls now */
	while ((fd = __atomic_load_n(&s->listener, __ATOMIC_ACQUIRE)) == -1)
		(void)syscall(SYS_nanosleep, &t, NULL);
	if (fd >= 0) {
		if (child_send(c, WIRE_LISTENER, 0, fd) < 0 || child_wait(c, WIRE_CONTINUE) < 0)
			_exit(1);
		__atomic_store_n(&s->go, 1, __ATOMIC_RELEASE);
	}
	syscall(SYS_exit, 0);
	__builtin_unreachable();
}

static int load_notify(struct child *c, const struct seccomp_program *p, unsigned flags)
{
	struct shared *s = c->plan->shared;
	int fd;

	s->listener = -1;
	s->go = 0;
	if (clone(helper, s->stack + sizeof(s->stack),
		  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
		  c) < 0)
		return -errno;
	fd = load_filter(p, flags | SECCOMP_FILTER_FLAG_NEW_LISTENER);
	__atomic_store_n(&s->listener, fd < 0 ? -2 : fd, __ATOMIC_RELEASE);
	if (fd < 0)
		return fd;
	while (!__atomic_load_n(&s->go, __ATOMIC_ACQUIRE))
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#else
		__asm__ volatile("" ::: "memory");
#endif
	return 0;
}

static int load_seccomp(struct child *c)
{
	const struct seccomp_program *p = c->plan->seccomp;
	/* there is one thread that the filter is for */
	unsigned flags = p->flags & ~(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER);
	int r = p->notify ? load_notify(c, p, flags) : load_filter(p, flags);

	return r < 0 ? child_say(c, -r, FAULT_NONE, "loading the seccomp filter", NULL) : 0;
}

int child_creds(struct child *c, const struct plan_op *op)
{
	const struct plan *p = c->plan;
	size_t len;
	int r;

	(void)op;
	if (p->label) {
		len = strlen(p->label);
		if (write(c->label, p->label, len) != (ssize_t)len)
			return child_say(c, errno, FAULT_NONE, "setting the process label",
					 p->label);
		close(c->label);
	}
	if (p->seccomp && !p->no_new_privileges) {
		r = load_seccomp(c);
		if (r)
			return r;
	}
	r = drop_bounding(p->caps.bounding);
	if (r < 0)
		return child_say(c, -r, FAULT_NONE, "dropping capabilities", NULL);
	if (syscall(SYS_setgroups, p->n_groups, p->groups) < 0 && (errno != EPERM || p->n_groups))
		return child_say(c, errno, FAULT_NONE, "setgroups", NULL);
	if (syscall(SYS_setresgid, p->gid, p->gid, p->gid) < 0)
		return child_say(c, errno, FAULT_NONE, "setresgid", NULL);
	if (p->uid) {
		if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
			return child_say(c, errno, FAULT_NONE, "keepcaps", NULL);
	}
	if (syscall(SYS_setresuid, p->uid, p->uid, p->uid) < 0)
		return child_say(c, errno, FAULT_NONE, "setresuid", NULL);
	r = set_caps(&p->caps);
	if (r < 0)
		return child_say(c, -r, FAULT_NONE, "setting capabilities", NULL);
	(void)umask(p->umask);
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return p->seccomp && p->no_new_privileges ? load_seccomp(c) : 0;
}
