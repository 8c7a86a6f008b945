// SPDX-License-Identifier: Apache-2.0
/*
 * Launching: the parent's part around the clone
 *
 * Opens what the plan wants open, clones, and does for the child what needs the host's rights: id maps, clock offsets, the OOM score, limits
 * above those of the daemon, network devices, the state that hooks read. Most of that runs beside the child, which waits
 * (PLAN_WAIT) only when it has to.
 *
 * All fds are the plan's and are closed with it; nothing outlives a failure: the child is ended and waited for. The reaper of the daemon may be
 * quicker to reap it, which is as good.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sched.h>

#include "runtime/cgroup_internal.h"
#include "runtime/child.h"
#include "runtime/hook.h"
#include "runtime/launch_internal.h"
#include "runtime/plan.h"
#include "util/cleanup.h"
#include "util/fd.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define THREAD_STACK (256u << 10)
#define AWAIT_MS                                                                                   \
	60000 /* for what the child does before the parent has to help: joining, and mounting a rootfs list */

struct cloning {
	struct plan *p;
	struct clone_args args;
	int sock; /* the child's end */
	long pid; /* or -errno */
	const char *step;
};

static void do_clone(struct cloning *c)
{
	c->step = "clone";
	c->pid = syscall(SYS_clone3, &c->args, sizeof(c->args));
	if (!c->pid)
		child_run(c->p, c->sock);
	if (c->pid < 0)
		c->pid = -errno;
}

/* The thread ends with whatever namespaces it has joined; the child keeps them. */
static void *clone_thread(void *user)
{
	struct cloning *c = user;
	struct plan *p = c->p;

	c->step = "join namespace";
	if (p->thread_flags & CLONE_NEWNS && unshare(CLONE_FS) < 0) {
		c->pid = -errno;
		return NULL;
	}
	if (p->exec && setns(p->join_pidfd, (int)p->thread_flags) < 0) {
		c->pid = -errno;
		return NULL;
	}
	for (size_t i = 0; !p->exec && i < p->n_opens; i++) {
		const struct plan_open *o = &p->opens[i];

		if (o->kind != PLAN_OPEN_NS || !(p->thread_flags & (uint64_t)(unsigned)o->ns_flag))
			continue;
		if (setns(p->fds[o->slot], o->ns_flag) < 0) {
			c->pid = -errno;
			return NULL;
		}
	}
	do_clone(c);
	return NULL;
}

static int clone_child(struct cloning *c)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (!c->p->in_thread) {
		do_clone(c);
		return c->pid < 0 ? (int)c->pid : 0;
	}
	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	r = pthread_attr_setstacksize(&attr, THREAD_STACK);
	if (!r)
		r = pthread_create(&thread, &attr, clone_thread, c);
	pthread_attr_destroy(&attr);
	if (r)
		return -r;
	pthread_join(thread, NULL);
	return c->pid < 0 ? (int)c->pid : 0;
}

/* The next message, waiting for it. A failure of the child becomes the fault. */
static int await(int sock, enum wire_kind want, int32_t *pid, int *fd, struct fault *f)
{
	struct wire_failed msg;
	size_t n = 1;
	int got = -1;
	struct pollfd p = { .fd = sock, .events = POLLIN };
	ssize_t size;
	int r;

	do {
		r = poll(&p, 1, AWAIT_MS);
	} while (r < 0 && errno == EINTR);
	if (!r)
		return fault_set(f, FAULT_DEADLINE_EXCEEDED, ETIMEDOUT,
				 "the container's init does not get on");
	size = fd_recv(sock, &msg, sizeof(msg), &got, &n, 0);
	if (size < 0)
		return fault_sys(f, (int)-size, "read from the container's init", NULL);
	if (!size)
		return fault_set(f, FAULT_ABORTED, ECHILD,
				 "the container's init ended while it was set up");
	if (msg.head.kind == WIRE_FAILED && size == (ssize_t)sizeof(msg))
		return launch_wire_fault(&msg, f);
	if (msg.head.kind != (int32_t)want) {
		if (n)
			close(got);
		return fault_set(f, FAULT_INTERNAL, EPROTO, "message %d from the container's init",
				 msg.head.kind);
	}
	if (pid)
		*pid = msg.head.pid;
	if (fd && n)
		*fd = got;
	else if (n)
		close(got);
	return fd && !n ? fault_set(f, FAULT_INTERNAL, EPROTO, "a message without its fd") : 0;
}

/* Mounts the rootfs list in a mount namespace of its own, with the host's rights, and takes the tree. */
static int open_rootfs(struct plan *outer, int *fd, struct fault *f)
{
	CLEANUP_CLOSE int pidfd = -1, mine = -1, theirs = -1;
	struct cloning c = {
		.p = outer,
		.args = { .flags = CLONE_NEWNS | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
			  .pidfd = (uint64_t)(uintptr_t)&pidfd },
	};
	siginfo_t info;
	int socks[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return fault_sys(f, errno, "socketpair", NULL);
	mine = socks[0];
	c.sock = theirs = socks[1];
	do_clone(&c);
	if (c.pid < 0)
		return fault_sys(f, (int)-c.pid, "clone", NULL);
	close(TAKE_FD(theirs));
	r = await(mine, WIRE_ROOT, NULL, fd, f);
	if (r < 0)
		(void)fd_pidfd_send_signal(pidfd, SIGKILL);
	while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL) < 0 &&
	       errno == EINTR)
		;
	return r;
}

static bool same_maps(const struct spec_idmaps *a, const struct spec_idmaps *b)
{
	return a->n == b->n && !memcmp(a->v, b->v, a->n * sizeof(*a->v));
}

/* A user namespace that stands for the mapping; mounts with equal mappings share one. */
static int mapping_fd(struct plan *p, const struct plan_open *o, struct fault *f)
{
	if (p->userns >= 0 && same_maps(p->userns_of->uids, o->uids) &&
	    same_maps(p->userns_of->gids, o->gids))
		return p->userns;
	fd_close(&p->userns);
	p->userns_of = o;
	return userns_open(o->uids, o->gids, &p->userns, f) < 0 ? -1 : p->userns;
}

static int open_tree_for(struct plan *p, const struct plan_open *o, int *fd, struct fault *f)
{
	struct mount_attr attr = { .propagation = p->private_root ? MS_PRIVATE : MS_SLAVE };
	int userns;

	*fd = open_tree(AT_FDCWD, o->path,
			OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (o->recursive ? AT_RECURSIVE : 0) |
				(o->nofollow ? AT_SYMLINK_NOFOLLOW : 0));
	if (*fd < 0)
		return fault_sys(f, errno, "open mount source", o->path);
	/* as a copy in a slave tree would be: a clone of a shared mount is its peer, and would show the host what the container mounts */
	if (!p->shared_root &&
	    mount_setattr(*fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return fault_sys(f, errno, "propagation of", o->path);
	if (!o->uids)
		return 0;
	userns = mapping_fd(p, o, f);
	if (userns < 0)
		return -EINVAL;
	attr = (struct mount_attr){ .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns };
	if (mount_setattr(*fd, "", AT_EMPTY_PATH | (o->idmap_recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return fault_sys(f, errno, "id mapping of mount", o->path);
	return 0;
}

static const char *ns_name(int flag)
{
	for (int k = 0; k < SPEC_NS_KINDS; k++)
		if (spec_ns_flag((enum spec_ns_kind)k) == flag)
			return spec_ns_name((enum spec_ns_kind)k);
	return "unknown";
}

/* Not blocking: the path may name a FIFO. */
static int open_ns(const struct plan_open *o, int *fd, struct fault *f)
{
	int kind;

	*fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*fd < 0)
		return fault_sys(f, errno, "open namespace", o->path);
	if (!o->ns_flag)
		return 0;
	kind = ioctl(*fd, NS_GET_NSTYPE);
	if (kind == o->ns_flag)
		return 0;
	fault_set(f, FAULT_INVALID_ARGUMENT, EINVAL,
		  "linux.namespaces: %s is %s%s, not one of the kind %s", o->path,
		  kind < 0 ? "no namespace" : "a namespace of the kind ",
		  kind < 0 ? "" : ns_name(kind), ns_name(o->ns_flag));
	fault_at(f, "open namespace", o->path);
	fault_arg(f, "linux.namespaces");
	return -EINVAL;
}

static int open_one(struct plan *p, const struct plan_open *o, struct fault *f)
{
	int *fd = &p->fds[o->slot];

	switch (o->kind) {
	case PLAN_OPEN_NS:
		return open_ns(o, fd, f);
	case PLAN_OPEN_PATH:
		*fd = open(o->path, O_PATH | O_CLOEXEC);
		return *fd < 0 ? fault_sys(f, errno, "open", o->path) : 0;
	case PLAN_OPEN_PIDFD:
		*fd = fd_pidfd_open(p->join_pid);
		p->join_pidfd = *fd;
		return *fd < 0 ? fault_sys(f, -*fd, "the container's init", NULL) : 0;
	case PLAN_OPEN_TREE:
		return open_tree_for(p, o, fd, f);
	case PLAN_OPEN_ROOTFS:
		return open_rootfs(p->outer, fd, f);
	}
	return fault_set(f, FAULT_INTERNAL, EINVAL, "launch plan");
}

/*
 * The process may open /dev/stdout, so pipes and sockets become its user's, as the host counts users. Files and
 * terminals of the caller stay the caller's. What cannot be changed stays as it is.
 */
static void give_stdio(const struct plan *p)
{
	uid_t uid = p->uid;

	for (size_t i = 0; p->stdio_maps && i < p->stdio_maps->n; i++) {
		const struct spec_idmap *m = &p->stdio_maps->v[i];

		if (p->uid < m->container_id || p->uid - m->container_id >= m->size)
			continue;
		uid = m->host_id + (p->uid - m->container_id);
		break;
	}
	for (int i = 0; uid && !p->terminal && i < 3; i++) {
		struct stat st;

		if (p->stdio[i] >= 0 && !fstat(p->stdio[i], &st) && st.st_uid != uid &&
		    (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)) &&
		    fchown(p->stdio[i], uid, (gid_t)-1) < 0)
			continue;
	}
}

static int prepare(struct plan *p, struct fault *f)
{
	if (p->n_opens > PLAN_FDS)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, EMFILE,
				 "more than %d namespaces and mounts to open", PLAN_FDS);
	for (size_t i = 0; i < p->n_opens; i++) {
		int r = open_one(p, &p->opens[i], f);

		if (r < 0)
			return r;
	}
	fd_close(&p->userns);
	for (int i = 0; p->hooks_inside && i < 2; i++) {
		p->state_fds[i] = memfd_create("state", MFD_CLOEXEC);
		if (p->state_fds[i] < 0)
			return fault_sys(f, errno, "memfd_create", NULL);
	}
	if (p->seccomp && p->seccomp->notify) {
		p->shared = mmap(NULL, PLAN_SHARED_BYTES, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (p->shared == MAP_FAILED) {
			p->shared = NULL;
			return fault_sys(f, errno, "mmap", NULL);
		}
	}
	give_stdio(p);
	for (int sig = 1; sig <= 64; sig++) {
		struct sigaction act;

		if (!sigaction(sig, NULL, &act) && act.sa_handler == SIG_IGN)
			p->ignored_signals |= 1ull << (sig - 1);
	}
	return 0;
}

static int write_state(struct plan *p, pid_t pid, struct fault *f)
{
	static const char *const status[2] = { "creating", "created" };

	for (int i = 0; p->hooks_inside && i < 2; i++) {
		CLEANUP_FREE char *json = NULL;
		int r = hook_state(p->spec, p->id, p->bundle, status[i], pid, &json);

		if (!r)
			r = fd_write_all(p->state_fds[i], json, strlen(json));
		if (r < 0)
			return fault_sys(f, -r, "write state for hooks", NULL);
		/* each hook reads it from its start; the offset is shared with the child */
		fd_close(&p->state_fds[i]);
	}
	return 0;
}

static int set_oom_score(const struct plan *p, pid_t pid, struct fault *f)
{
	bool wanted = p->oom_score_adj != INT_MIN;
	char path[64], text[16];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	snprintf(text, sizeof(text), "%d", wanted ? p->oom_score_adj : 0);
	r = fd_write_file(AT_FDCWD, path, text);
	if (!r || !wanted)
		return 0; /* not wanted: only lest the daemon's own protection is passed on */
	if (r == -EACCES)
		return fault_set(
			f, FAULT_PERMISSION_DENIED, EACCES,
			"process.oomScoreAdj %d: lowering the score below the daemon's takes CAP_SYS_RESOURCE",
			p->oom_score_adj);
	return fault_sys(f, -r, "write", path);
}

/* In a user namespace the child may lower its limits, but not raise hard ones. */
static int raise_limits(const struct plan *p, pid_t pid, struct fault *f)
{
	for (size_t i = 0; i < p->n_ops; i++) {
		const struct plan_op *op = &p->ops[i];
		struct rlimit now;

		if (op->kind != PLAN_RLIMIT)
			continue;
		if (prlimit(pid, (enum __rlimit_resource)op->rlimit.resource, NULL, &now) < 0)
			return fault_sys(f, errno, "getrlimit", op->path);
		if (op->rlimit.hard <= now.rlim_max)
			continue;
		now.rlim_max = op->rlimit.hard;
		/* a failure is the child's to tell: it knows the step by name */
		(void)prlimit(pid, (enum __rlimit_resource)op->rlimit.resource, &now, NULL);
	}
	return 0;
}

static int say_go(int sock, struct fault *f)
{
	char go = WIRE_GO;
	ssize_t r = fd_send(sock, &go, 1, NULL, 0, 0);

	return r < 0 ? fault_sys(f, (int)-r, "write to the container's init", NULL) : 0;
}

/* The first child of a PLAN_REFORK says who the final one is, and ends. */
static int take_final(int sock, pid_t *pid, int *pidfd, struct fault *f)
{
	int32_t final = 0;
	int fd = -1, first = *pidfd, r;
	siginfo_t info;

	r = await(sock, WIRE_PID, &final, &fd, f);
	if (r < 0)
		return r;
	while (waitid((idtype_t)P_PIDFD, (id_t)first, &info, WEXITED) < 0 && errno == EINTR)
		;
	close(first);
	*pid = final;
	*pidfd = fd;
	return 0;
}

static int help_child(struct plan *p, int sock, pid_t *pid, int *pidfd, struct fault *f)
{
	char path[64];
	int r = 0;

	if (p->refork)
		r = take_final(sock, pid, pidfd, f);
	if (!r && p->time_sync) {
		r = await(sock, WIRE_TIME, NULL, NULL, f);
		if (!r && p->time_offsets) {
			snprintf(path, sizeof(path), "/proc/%d/timens_offsets", (int)*pid);
			r = fd_write_file(AT_FDCWD, path, p->time_offsets);
			if (r < 0)
				fault_sys(f, -r, "write", path);
		}
		if (!r)
			r = say_go(sock, f);
	}
	if (!r && p->new_user) {
		r = userns_write(*pid, p->uid_map, p->gid_map, f);
		if (!r)
			r = raise_limits(p, *pid, f);
	}
	if (!r)
		r = set_oom_score(p, *pid, f);
	if (!r && !p->exec && p->spec->n_net_devices)
		r = netdev_move(p->spec->net_devices, p->spec->n_net_devices, *pid, f);
	if (!r)
		r = write_state(p, *pid, f);
	if (!r && p->waits)
		r = say_go(sock, f);
	return r;
}

/* What the child had to say for itself is the better reason. */
static void prefer_child(int sock, struct fault *f)
{
	struct wire_failed msg;

	while (fd_recv(sock, &msg, sizeof(msg), NULL, NULL, MSG_DONTWAIT) > 0)
		if (msg.head.kind == WIRE_FAILED)
			(void)launch_wire_fault(&msg, f);
}

int plan_spawn(struct plan *p, int *sock, pid_t *pid, int *pidfd, struct fault *f)
{
	CLEANUP_CLOSE int mine = -1, theirs = -1;
	int fd = -1, socks[2], r;
	struct cloning c = { .p = p };
	siginfo_t info;
	pid_t child;

	r = prepare(p, f);
	if (r < 0)
		return r;
	if (p->cgroup && (r = cgroup_join_open(p->cgroup, &p->join, f)) < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0) {
		r = fault_sys(f, errno, "socketpair", NULL);
		goto out;
	}
	mine = socks[0];
	c.sock = theirs = socks[1];
	if (theirs < 3 || mine < 3) {
		r = fault_set(f, FAULT_INTERNAL, EBADF,
			      "stdin, stdout or stderr of the daemon is closed");
		goto out;
	}
	c.args = (struct clone_args){
		.flags = p->clone_flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uint64_t)(uintptr_t)&fd,
		.exit_signal = SIGCHLD,
	};
	if (p->cgroup && p->join.v2_dir >= 0) {
		c.args.flags |= CLONE_INTO_CGROUP;
		c.args.cgroup = (uint64_t)p->join.v2_dir;
	}
	r = clone_child(&c);
	if (r == -EBUSY && p->exec && p->join.v2_dir >= 0) {
		/* the container's group hands controllers down: where its init has gone, then */
		int inner = cgroup_init_open(p->cgroup, p->join_pid);

		if (inner >= 0) {
			close(p->join.v2_dir);
			p->join.v2_dir = inner;
			c.args.cgroup = (uint64_t)inner;
			r = clone_child(&c);
		}
	}
	if (r < 0) {
		fault_sys(f, -r, c.step ? c.step : "clone", NULL);
		goto out;
	}
	child = (pid_t)c.pid;
	close(TAKE_FD(theirs));
	if (p->cgroup)
		cgroup_join_close(&p->join);
	r = help_child(p, mine, &child, &fd, f);
	if (r < 0) {
		(void)fd_pidfd_send_signal(fd, SIGKILL);
		prefer_child(mine, f);
		while (waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED) < 0 && errno == EINTR)
			;
		close(fd);
		goto out;
	}
	for (size_t i = 0; i < p->n_fds; i++)
		fd_close(&p->fds[i]);
	*sock = TAKE_FD(mine);
	*pid = child;
	*pidfd = fd;
	return 0;
out:
	if (p->cgroup)
		cgroup_join_close(&p->join);
	return r;
}
