// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: whether the live container's spec holds
 *
 * criu makes mounts, limits and processes as its images say, and those may be anybody's. What the spec
 * restricts is therefore looked at where it counts: in the restored processes' own mount namespaces,
 * with the kernel's answers, while criu still holds them and none has run. What can be set from
 * outside (limits, the OOM score, sysctls) is set; what cannot is refused.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/restore_internal.h"
#include "runtime/mount_opts.h"
#include "runtime/plan.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define MOUNTINFO_MOST (8u << 20)
#define CHILDREN_MOST (4u << 20)

static bool may(const struct spec *s, const char *cap)
{
	return !s->process.caps.given ||
	       s->process.caps.bounding >> (unsigned)spec_cap_by_name(cap) & 1;
}

/* ---- a mount namespace, from inside */

struct view {
	const struct restore *r;
	int ns, proc, root, result;
	struct fault *f;
};

static int denied(struct view *v, const char *path, const char *what)
{
	return fault_set(v->f, FAULT_PERMISSION_DENIED, 0,
			 "%s is %s in the container's spec, but not in the checkpoint", path, what);
}

/* An O_PATH fd; -ENOENT when there is nothing. */
static int find(struct view *v, const char *path)
{
	int fd = fd_open_in_root(v->root, path, O_PATH, 0);

	if (fd == -ENOTDIR)
		return -ENOENT;
	if (fd < 0 && fd != -ENOENT)
		fault_sys(v->f, -fd, "look at", path);
	return fd;
}

static int check_masked(struct view *v, const char *path)
{
	CLEANUP_CLOSE int fd = find(v, path);
	struct statfs fs;
	struct stat st;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return fault_sys(v->f, errno, "look at", path);
	if (S_ISDIR(st.st_mode) ? fs.f_type == TMPFS_MAGIC && (fs.f_flags & ST_RDONLY)
				: S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
		return 0;
	return denied(v, path, "masked");
}

static int check_flags(struct view *v, int fd, const char *path, uint64_t attributes)
{
	static const struct {
		uint64_t attribute;
		unsigned long flag;
		const char *name;
	} flags[] = {
		{ MOUNT_ATTR_RDONLY, ST_RDONLY, "read-only" },
		{ MOUNT_ATTR_NOSUID, ST_NOSUID, "nosuid" },
		{ MOUNT_ATTR_NODEV, ST_NODEV, "nodev" },
		{ MOUNT_ATTR_NOEXEC, ST_NOEXEC, "noexec" },
	};
	struct statvfs fs;

	if (fstatvfs(fd, &fs) < 0)
		return fault_sys(v->f, errno, "look at", path);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (attributes & flags[i].attribute && !(fs.f_flag & flags[i].flag))
			return denied(v, path, flags[i].name);
	return 0;
}

static int check_read_only(struct view *v, const char *path)
{
	CLEANUP_CLOSE int fd = find(v, path);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	return check_flags(v, fd, path, MOUNT_ATTR_RDONLY);
}

static bool is_below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	while (n > 1 && folder[n - 1] == '/')
		n--;
	return n == 1 || (!strncmp(path, folder, n) && (!path[n] || path[n] == '/'));
}

/* One that a later one lies over cannot be seen, in a new container neither. */
static bool is_hidden(const struct spec *s, size_t i)
{
	for (size_t k = i + 1; k < s->n_mounts; k++)
		if (is_below(s->mounts[i].destination, s->mounts[k].destination))
			return true;
	return false;
}

/* The tmpfs around v1's hierarchies has nothing of the host's in it: their own flags count. */
static int check_cgroups(struct view *v, const struct spec_mount *m, uint64_t attributes)
{
	const struct criu_mounts *all = &v->r->read.record.mounts;
	int e = 0;

	for (size_t i = 0; !e && i < all->n; i++) {
		CLEANUP_CLOSE int fd = -1;

		if (all->v[i].kind != CRIU_MOUNT_CGROUP ||
		    !is_below(all->v[i].path, m->destination))
			continue;
		fd = find(v, all->v[i].path);
		if (fd >= 0)
			e = check_flags(v, fd, all->v[i].path, attributes);
		else if (fd != -ENOENT)
			e = fd;
	}
	return e;
}

static int check_mount(struct view *v, const struct spec_mount *m)
{
	bool admin = may(v->r->spec, "CAP_SYS_ADMIN");
	struct mount_opts opts = { 0 };
	CLEANUP_CLOSE int fd = -1;
	struct statx st;
	char data[256];

	/* whoever may unmount could have done so */
	if (admin && !restore_is_bind(m))
		return 0;
	fd = find(v, m->destination);
	if (fd < 0 && fd != -ENOENT)
		return fd;
	if (fd >= 0 && statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0)
		return fault_sys(v->f, errno, "look at", m->destination);
	if (fd < 0 || !(st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return fault_set(
			v->f, FAULT_FAILED_PRECONDITION, 0,
			"the container's spec has a mount at %s that the checkpoint has not; a restore does not add mounts",
			m->destination);
	(void)mount_opts_parse((const char *const *)m->options.v, m->options.n, &opts, data,
			       sizeof(data));
	if (admin)
		return 0;
	if (m->type && !strcmp(m->type, "cgroup"))
		return check_cgroups(v, m, opts.set | opts.rset);
	return check_flags(v, fd, m->destination, opts.set | opts.rset);
}

/* Handed in, so its source is the live container's. */
static bool is_ours(const struct view *v, const char *path)
{
	const struct criu_mounts *all = &v->r->read.record.mounts;

	for (size_t i = 0; i < all->n; i++)
		if (!strcmp(all->v[i].path, path))
			return true;
	return false;
}

/* A second procfs shows what is masked in the first. */
static int check_kernel_fs(struct view *v, const struct criu_mount_line *l)
{
	const struct spec *s = v->r->spec;

	if ((strcmp(l->type, "proc") != 0 && strcmp(l->type, "sysfs") != 0) || is_ours(v, l->path))
		return 0;
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		size_t n = strlen(m->destination);

		while (n > 1 && m->destination[n - 1] == '/')
			n--;
		if (m->type && !strcmp(m->type, l->type) && is_below(l->path, m->destination) &&
		    !strcmp(l->path[n] ? l->path + n : "/", l->root))
			return 0;
	}
	return fault_set(
		v->f, FAULT_PERMISSION_DENIED, 0,
		"the checkpoint has a mount of type %s at %s, which the container's spec has not",
		l->type, l->path);
}

static int check_kernel_line(void *user, const struct criu_mount_line *l)
{
	return check_kernel_fs(user, l);
}

static int check_view(struct view *v)
{
	const struct spec *s = v->r->spec;
	CLEANUP_FREE char *mounts = NULL;
	int e = s->root_readonly ? check_flags(v, v->root, "the root", MOUNT_ATTR_RDONLY) : 0;

	for (size_t i = 0; !e && i < s->n_mounts; i++)
		if (!is_hidden(s, i) && strcmp(s->mounts[i].destination, "/") != 0)
			e = check_mount(v, &s->mounts[i]);
	for (size_t i = 0; !e && i < s->masked_paths.n; i++)
		e = check_masked(v, s->masked_paths.v[i]);
	for (size_t i = 0; !e && i < s->readonly_paths.n; i++)
		e = check_read_only(v, s->readonly_paths.v[i]);
	if (e < 0 || may(s, "CAP_SYS_ADMIN") || (!s->masked_paths.n && !s->readonly_paths.n))
		return e;
	e = fd_read_file(v->proc, "thread-self/mountinfo", MOUNTINFO_MOST, &mounts, NULL);
	if (e < 0)
		return fault_sys(v->f, -e, "read the mounts of", "the restored processes");
	e = criu_mount_lines(mounts, check_kernel_line, v);
	return e == -ENOMEM && !v->f->code ? restore_no_memory(v->f) : e;
}

static void *view_thread(void *arg)
{
	struct view *v = arg;

	if (unshare(CLONE_FS) < 0 || setns(v->ns, CLONE_NEWNS) < 0 ||
	    (v->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		v->result = fault_sys(v->f, errno, "enter the mount namespace of",
				      "the restored processes");
	else
		v->result = check_view(v);
	fd_close(&v->root);
	return NULL;
}

/* ns: of a process's mounts */
static int look(const struct restore *r, int ns, struct fault *f)
{
	CLEANUP_CLOSE int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct view v = { .r = r, .ns = ns, .proc = proc, .root = -1, .f = f };
	pthread_t thread;
	int e;

	f->code = 0;
	if (proc < 0)
		return fault_sys(f, errno, "open", "/proc");
	e = pthread_create(&thread, NULL, view_thread, &v);
	if (e)
		return fault_sys(f, e, "look at", "the restored processes");
	pthread_join(thread, NULL);
	return v.result;
}

/* ---- sysctls: a file of /proc/sys answers for the namespaces of who opens it */

struct sysctls {
	const struct restore *r;
	struct fault *f;
	int result;
};

static int enter(pid_t pid, const char *name, int flag)
{
	CLEANUP_CLOSE int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 || setns(fd, flag) < 0 ? -errno : 0;
}

/* As the launch writes it. */
static int set_sysctl(const struct spec *s, const struct spec_sysctl *c, struct fault *f)
{
	bool slashes = strcspn(c->key, "/") < strcspn(c->key, ".");
	CLEANUP_FREE char *path = NULL;
	int e = plan_check_sysctl(s, c, f);

	if (e < 0)
		return e;
	if (!strncmp(c->key, "user", 4))
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"linux.sysctl %s: it is a user namespace's, where a restore sets nothing",
			c->key);
	if (asprintf(&path, "/proc/sys/%s", c->key) < 0) {
		path = NULL;
		return restore_no_memory(f);
	}
	for (char *at = path + strlen("/proc/sys/"); !slashes && *at; at++)
		*at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
	e = fd_write_file(AT_FDCWD, path, c->value);
	return e < 0 ? fault_sys(f, -e, "set linux.sysctl", c->key) : 0;
}

static void *sysctl_thread(void *arg)
{
	struct sysctls *j = arg;
	const struct spec *s = j->r->spec;
	int e = 0;

	for (int k = 0; !e && k < SPEC_NS_KINDS; k++)
		if (k == SPEC_NS_NETWORK || k == SPEC_NS_IPC || k == SPEC_NS_UTS)
			e = enter(j->r->pid, spec_ns_proc(k), spec_ns_flag(k));
	if (e < 0) {
		j->result = fault_sys(j->f, -e, "enter the namespaces of", "the restored init");
		return NULL;
	}
	for (size_t i = 0; !j->result && i < s->n_sysctl; i++)
		j->result = set_sysctl(s, &s->sysctl[i], j->f);
	return NULL;
}

static int set_sysctls(const struct restore *r, struct fault *f)
{
	struct sysctls j = { .r = r, .f = f };
	pthread_t thread;
	int e;

	if (!r->spec->n_sysctl)
		return 0;
	e = pthread_create(&thread, NULL, sysctl_thread, &j);
	if (e)
		return fault_sys(f, e, "set", "linux.sysctl");
	pthread_join(thread, NULL);
	return j.result;
}

/* ---- each process */

/* The spec's score is the least, and 0 if it has none; one that is higher stays. */
static int set_oom_score(const struct spec *s, pid_t pid, struct fault *f)
{
	int64_t wanted = s->process.oom_score_adj == SPEC_ABSENT ? 0 : s->process.oom_score_adj;
	CLEANUP_FREE char *text = NULL;
	char path[64], number[16];
	int e;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
	e = fd_read_file(AT_FDCWD, path, 64, &text, NULL);
	if (!e && strtol(text, NULL, 10) < wanted) {
		snprintf(number, sizeof(number), "%d", (int)wanted);
		e = fd_write_file(AT_FDCWD, path, number);
	}
	return e < 0 && e != -ENOENT && e != -ESRCH ? fault_sys(f, -e, "write", path) : 0;
}

static int set_limits(const struct spec *s, pid_t pid, struct fault *f)
{
	for (size_t i = 0; i < s->process.n_rlimits; i++) {
		const struct spec_rlimit *l = &s->process.rlimits[i];
		struct rlimit has;

		if (prlimit(pid, l->resource, NULL, &has) == 0 && has.rlim_max > l->hard) {
			has.rlim_max = l->hard;
			if (has.rlim_cur > has.rlim_max)
				has.rlim_cur = has.rlim_max;
			if (prlimit(pid, l->resource, &has, NULL) == 0)
				continue;
		} else {
			continue;
		}
		if (errno != ESRCH)
			return fault_sys(f, errno, "set process.rlimits of", "a restored process");
	}
	return 0;
}

struct tree {
	struct restore *r;
	ino_t *seen; /* mount namespaces */
	size_t n_seen;
	struct fault *f;
};

static int check_mounts_of(struct tree *t, pid_t pid)
{
	CLEANUP_CLOSE int ns = -1;
	char path[64];
	struct stat st;
	ino_t *grown;

	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 && (errno == ENOENT || errno == ESRCH))
		return 0; /* a zombie has none */
	if (ns < 0 || fstat(ns, &st) < 0)
		return fault_sys(t->f, errno, "open", path);
	for (size_t i = 0; i < t->n_seen; i++)
		if (t->seen[i] == st.st_ino)
			return 0;
	grown = reallocarray(t->seen, t->n_seen + 1, sizeof(*grown));
	if (!grown)
		return restore_no_memory(t->f);
	t->seen = grown;
	t->seen[t->n_seen++] = st.st_ino;
	return look(t->r, ns, t->f);
}

static int check_process(struct tree *t, pid_t pid)
{
	const struct spec *s = t->r->spec;
	int e = check_mounts_of(t, pid);

	if (!e)
		e = set_oom_score(s, pid, t->f);
	/* who may raise them has them as he likes */
	if (!e && !may(s, "CAP_SYS_RESOURCE"))
		e = set_limits(s, pid, t->f);
	return e;
}

/* ---- all of them: the init's descendants, since criu itself is in their cgroup too */

struct pids {
	pid_t *v;
	size_t n, room;
};

static int add_pid(struct pids *p, pid_t pid)
{
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 64;
		pid_t *grown = reallocarray(p->v, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		p->v = grown;
		p->room = room;
	}
	p->v[p->n++] = pid;
	return 0;
}

static int add_children(struct pids *p, pid_t pid)
{
	char path[64];
	struct dirent *d;
	int e = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT || errno == ESRCH ? 0 : -errno;
	while (!e && (d = readdir(dir))) {
		CLEANUP_FREE char *list = NULL;
		char name[NAME_MAX + 16];

		if (*d->d_name == '.')
			continue;
		snprintf(name, sizeof(name), "%s/children", d->d_name);
		e = fd_read_file(dirfd(dir), name, CHILDREN_MOST, &list, NULL);
		if (e == -ENOENT || e == -ESRCH) {
			e = 0;
			continue;
		}
		for (char *at = list, *end; !e; at = end) {
			long child = strtol(at, &end, 10);

			if (end == at)
				break;
			e = add_pid(p, (pid_t)child);
		}
	}
	closedir(dir);
	return e;
}

int restore_live(struct restore *r, struct fault *f)
{
	struct tree t = { .r = r, .f = f };
	struct pids p = { 0 };
	int e = set_sysctls(r, f);

	if (!e && add_pid(&p, r->pid) < 0)
		e = restore_no_memory(f);
	for (size_t i = 0; !e && i < p.n; i++) {
		e = add_children(&p, p.v[i]);
		e = e < 0 ? fault_sys(f, -e, "list", "the restored processes")
			  : check_process(&t, p.v[i]);
	}
	free(p.v);
	free(t.seen);
	return e;
}
