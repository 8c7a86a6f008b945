// SPDX-License-Identifier: Apache-2.0
/*
 * Starting criu
 *
 * The child shares the memory of its parent until its exec, which waits for it (vfork): nothing is
 * copied, however large the daemon is, and what failed is simply written where the parent reads it.
 * Everything is prepared beforehand; the child makes system calls and nothing else. It has its own
 * table of fds, its own root and folder, and its own signal dispositions.
 *
 * Only clone3(2) puts a child into a v2 cgroup without cgroup.procs, whose lock over all processes waits for RCU: 12 ms on
 * a host that was idle. It is called without a stack of the child's own, and so with a copy of the memory;
 * what failed is then in a page that both share.
 *
 * The mount namespace is a copy of the daemon's, made anew by each child, so that it has every mount
 * that the host has then, whether or not the host passes mounts on; and a slave of it, so that what is
 * mounted later is seen where it does.
 *
 * Where the host's /run is no tmpfs, one and the same tmpfs is laid over it in all of these copies. It
 * lives as the root of a namespace that a thread has made and left, with nothing else in it, so that no
 * disk of the host's is kept busy. Folders below /run that criu is to see are laid into it again.
 */
#include "checkpoint/criu_process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

#define STACK (64u << 10)
#define FD_HIGH 600 /* beyond any number that is given to criu, below the limit on any host */
#define RUN "/run"
#define PROGRAMS "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct criu_base {
	int ns; /* its root is the tmpfs; -1 where the host's /run is one */
};

/* ---- the tmpfs for /run */

struct base_job {
	int ns; /* made by base_thread, used by copy_thread */
	int tree; /* of copy_thread: a detached mount of the tmpfs */
	int err;
	const char *step;
};

static bool run_is_tmpfs(void)
{
	struct statfs st;

	return statfs(RUN, &st) == 0 && st.f_type == TMPFS_MAGIC;
}

/* The tmpfs becomes the root of the thread's namespace, and all else goes. */
static int base_root(struct base_job *j)
{
	j->step = "mount a tmpfs on /run";
	if (mkdir(RUN, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (mount("tmpfs", RUN, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m") < 0 ||
	    chdir(RUN) < 0)
		return -errno;
	j->step = "pivot_root";
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH) < 0 ? -errno : 0;
	/* where / is the kernel's first file system, it can only be covered */
	if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) < 0)
		return -errno;
	return 0;
}

static void *base_thread(void *arg)
{
	struct base_job *j = arg;

	j->step = "unshare";
	if (unshare(CLONE_FS | CLONE_NEWNS) < 0 ||
	    (j->step = "make the mounts private",
	     mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0) ||
	    (j->step = "open /proc/thread-self/ns/mnt",
	     (j->ns = open("/proc/thread-self/ns/mnt", O_RDONLY | O_CLOEXEC)) < 0)) {
		j->err = errno;
		return NULL;
	}
	j->err = -base_root(j);
	return NULL;
}

/* Only there can the mount be copied from. */
static void *copy_thread(void *arg)
{
	struct base_job *j = arg;

	j->step = "setns";
	if (unshare(CLONE_FS) < 0 || setns(j->ns, CLONE_NEWNS) < 0 ||
	    (j->step = "open_tree",
	     (j->tree = open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)) < 0))
		j->err = errno;
	return NULL;
}

static int in_thread(void *(*main)(void *), struct base_job *j, struct fault *f)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, main, j);

	if (r)
		return fault_sys(f, r, "pthread_create", "for criu's mount namespace");
	pthread_join(thread, NULL);
	return j->err ? fault_sys(f, j->err, j->step, "for criu's mount namespace") : 0;
}

int criu_base_new(struct criu_base **out, struct fault *f)
{
	struct base_job j = { .ns = -1, .tree = -1 };
	struct criu_base *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return fault_sys(f, ENOMEM, "prepare criu's namespace", NULL);
	r = run_is_tmpfs() ? 0 : in_thread(base_thread, &j, f);
	if (r < 0) {
		fd_close(&j.ns);
		free(b);
		return r;
	}
	b->ns = j.ns;
	*out = b;
	return 0;
}

void criu_base_free(struct criu_base *b)
{
	if (!b)
		return;
	fd_close(&b->ns);
	free(b);
}

/* A detached mount for /run, or -1: it stays as it is. 0 or negative */
static int copy_run(const struct criu_base *b, const struct criu_start *s, int *tree,
		    struct fault *f)
{
	struct base_job j = { .ns = b->ns, .tree = -1 };
	int r;

	*tree = -1;
	if (b->ns < 0 || run_is_tmpfs())
		return 0;
	for (size_t i = 0; i < s->n_see; i++)
		if (!strcmp(s->see[i], RUN))
			return 0;
	r = in_thread(copy_thread, &j, f);
	*tree = j.tree;
	return r;
}

/* ---- the child */

struct child {
	const struct criu_start *s;
	int run; /* a mount for /run, or -1 */
	char *path; /* PATH=… */
	int *high; /* room for n_fds */
	/* what failed, for the parent: all of this is in memory that both have */
	const char *step, *what;
	int err;
};

/* Remembers the first failure; the child is at its end. */
static void child_fail(struct child *c, const char *step, const char *what)
{
	c->err = errno;
	c->step = step;
	c->what = what;
	_exit(127);
}

/* mkdir -p */
static void child_path(struct child *c, const char *path)
{
	char copy[PATH_MAX];
	size_t n = strlen(path);

	if (n >= sizeof(copy)) {
		errno = ENAMETOOLONG;
		child_fail(c, "mkdir", path);
	}
	for (size_t i = 1; i <= n; i++) {
		if (path[i] && path[i] != '/')
			continue;
		memcpy(copy, path, i);
		copy[i] = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			child_fail(c, "mkdir", path);
	}
}

static bool below_run(const char *path)
{
	return !strncmp(path, RUN "/", strlen(RUN "/"));
}

/* /run is covered; what is to be seen there is put into it again. */
static void child_run(struct child *c)
{
	const struct criu_start *s = c->s;
	int tree[CRIU_SEE_MOST];

	for (size_t i = 0; i < s->n_see; i++) {
		if (!below_run(s->see[i]))
			continue;
		tree[i] = open_tree(AT_FDCWD, s->see[i],
				    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
		if (tree[i] < 0)
			child_fail(c, "open_tree", s->see[i]);
	}
	if (move_mount(c->run, "", AT_FDCWD, RUN, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		child_fail(c, "move_mount", RUN);
	for (size_t i = 0; i < s->n_see; i++) {
		if (!below_run(s->see[i]))
			continue;
		child_path(c, s->see[i]);
		if (move_mount(tree[i], "", AT_FDCWD, s->see[i], MOVE_MOUNT_F_EMPTY_PATH) < 0)
			child_fail(c, "move_mount", s->see[i]);
	}
}

static void child_step(struct child *c, const struct criu_step *s)
{
	switch (s->kind) {
	case CRIU_MOUNT_TREE:
		if (move_mount(s->fd, "", AT_FDCWD, s->target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			child_fail(c, "move_mount", s->target);
		break;
	case CRIU_MOUNT_TMPFS:
		if (mount("tmpfs", s->target, "tmpfs", s->flags, s->data) < 0)
			child_fail(c, "mount a tmpfs on", s->target);
		break;
	case CRIU_MKDIR:
		if (mkdir(s->target, 0755) < 0 && errno != EEXIST)
			child_fail(c, "mkdir", s->target);
		break;
	case CRIU_REMOUNT:
		if (mount(NULL, s->target, NULL, MS_REMOUNT | MS_BIND | s->flags, NULL) < 0)
			child_fail(c, "remount", s->target);
		break;
	case CRIU_JOIN:
		if (write(s->fd, "0", 1) < 0)
			child_fail(c, "join the cgroup", s->target);
		break;
	case CRIU_CGROUP_NS:
		if (unshare(CLONE_NEWCGROUP) < 0)
			child_fail(c, "unshare", "cgroup namespace");
		break;
	}
}

/* The daemon ignores SIGPIPE and blocks most; criu begins with neither. */
static void child_signals(struct child *c)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int sig = 1; sig < 32; sig++)
		if (sig != SIGKILL && sig != SIGSTOP && sigaction(sig, &dfl, NULL) < 0)
			child_fail(c, "sigaction", NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * First out of the way, so that none is overwritten before it was copied; the copies are closed by the
 * exec, or by close_range.
 */
static void child_fds(struct child *c)
{
	const struct criu_start *s = c->s;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), out;

	out = fcntl(s->output, F_DUPFD_CLOEXEC, FD_HIGH);
	if (null < 0 || out < 0)
		child_fail(c, "open", "/dev/null");
	for (size_t i = 0; i < s->n_fds; i++) {
		c->high[i] = fcntl(s->fds[i], F_DUPFD_CLOEXEC, FD_HIGH);
		if (c->high[i] < 0)
			child_fail(c, "copy an fd for", "criu");
	}
	if ((null && dup2(null, 0) < 0) || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		child_fail(c, "set up the fds of", "criu");
	fcntl(0, F_SETFD, 0);
	for (size_t i = 0; i < s->n_fds; i++)
		if (dup2(c->high[i], CRIU_FD_FIRST + (int)i) < 0)
			child_fail(c, "set up the fds of", "criu");
	if (syscall(SYS_close_range, 3u, CRIU_FD_FIRST - 1u, 0) < 0 ||
	    syscall(SYS_close_range, CRIU_FD_FIRST + (unsigned)s->n_fds, ~0u, 0) < 0)
		child_fail(c, "close_range", NULL);
}

static int child_main(void *arg)
{
	struct child *c = arg;
	char *environment[] = { c->path, (char *)c->s->preload, NULL };

	if (unshare(CLONE_NEWNS) < 0)
		child_fail(c, "unshare", "mount namespace");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		child_fail(c, "make slaves of", "the mounts");
	if (c->run >= 0)
		child_run(c);
	for (size_t i = 0; i < c->s->n_steps; i++)
		child_step(c, &c->s->steps[i]);
	if (chdir("/") < 0)
		child_fail(c, "chdir", "/");
	if (setsid() < 0 && errno != EPERM)
		child_fail(c, "setsid", NULL);
	child_fds(c);
	child_signals(c);
	execve(c->s->path, c->s->argv, environment);
	child_fail(c, "execve", c->s->path);
	return 127;
}

static pid_t start_child(struct child *c)
{
	struct clone_args args = {
		.flags = CLONE_VFORK | CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)c->s->cgroup,
	};
	void *stack;
	pid_t pid;
	int e;

	if (c->s->cgroup > 0) {
		pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
		if (!pid)
			_exit(child_main(c));
		return pid;
	}
	stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
		     -1, 0);
	if (stack == MAP_FAILED)
		return -1;
	pid = clone(child_main, (char *)stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, c);
	e = errno;
	munmap(stack, STACK);
	errno = e;
	return pid;
}

static int start(struct child *c, pid_t *pid, struct fault *f)
{
	sigset_t all, old;
	int e;

	/* no handler of ours may run in the child, which has our memory */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	*pid = start_child(c);
	e = errno;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (*pid < 0) {
		*pid = 0;
		return fault_sys(f, e, "clone", "criu");
	}
	if (!c->err)
		return 0;
	fault_sys(f, c->err, c->step, c->what);
	fault_prefix(f, "starting criu");
	return -c->err;
}

int criu_process_start(const struct criu_base *b, const struct criu_start *s, pid_t *pid,
		       struct fault *f)
{
	CLEANUP_CLOSE int run = -1;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE int *high = NULL;
	struct child *c;
	int e;

	*pid = 0;
	if (s->n_fds > FD_HIGH - CRIU_FD_FIRST || s->n_see > CRIU_SEE_MOST)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0, "too many fds for criu");
	e = copy_run(b, s, &run, f);
	if (e < 0)
		return e;
	if (asprintf(&path, "PATH=%s%s" PROGRAMS, s->first ? s->first : "", s->first ? ":" : "") <
	    0)
		path = NULL;
	high = calloc(s->n_fds + 1, sizeof(*high));
	c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!path || !high || c == MAP_FAILED) {
		e = fault_sys(f, ENOMEM, "start", "criu");
	} else {
		*c = (struct child){ .s = s, .run = run, .path = path, .high = high };
		e = start(c, pid, f);
	}
	if (c != MAP_FAILED)
		munmap(c, sizeof(*c));
	return e;
}
