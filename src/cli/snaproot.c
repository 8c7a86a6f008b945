// SPDX-License-Identifier: Apache-2.0
/*
 * The files of a snapshot, before a container runs on it
 *
 * A few things about an image can only be known, or done, in its root file system: who the user
 * "www-data" is, whether the working directory is there, what a volume begins with. An overlay's
 * folders one by one would tell it wrongly (whiteouts, links from one layer into another), so the
 * kernel puts them together: a child with a mount namespace of its own mounts them and passes an fd
 * of a clone, detached, back. Nobody else sees the mount, and it goes with the fd.
 *
 * All paths of the image are resolved with openat2 (RESOLVE_IN_ROOT): its links lead nowhere else.
 */
#include "cli/snaproot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "cli/overlay.h"
#include "util/fd.h"

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif

#define COPY_CHUNK (1u << 20)
#define COPY_DEPTH 256u /* folders in folders */
#define XATTRS_MAX (64u << 10)

/* ---- mounting */

struct mounting { /* what the child needs, made before it */
	const char *type, *source, *target;
	/* folder: the working directory that paths in data may be relative to */
	char *data, *folder;
	unsigned long flags;
};

static void append(char **text, const char *more)
{
	char *longer = mem_printf("%s%s%s", *text ? *text : "", *text && **text ? "," : "", more);

	free(*text);
	*text = longer;
}

static void options_read(struct mounting *m, json_object *options)
{
	static const struct {
		const char *name;
		unsigned long flag;
	} flags[] = { { "ro", MS_RDONLY },     { "rw", 0 },
		      { "bind", MS_BIND },     { "rbind", MS_BIND },
		      { "nosuid", MS_NOSUID }, { "nodev", MS_NODEV },
		      { "noexec", MS_NOEXEC }, { "noatime", MS_NOATIME } };

	m->data = mem_strdup("");
	m->folder = overlay_folder(options);
	for (size_t i = 0; i < js_len(options); i++) {
		const char *o = json_object_get_string(js_at(options, i));
		size_t k = 0;

		while (k < ARRAY_SIZE(flags) && strcmp(o, flags[k].name) != 0)
			k++;
		if (k < ARRAY_SIZE(flags)) {
			m->flags |= flags[k].flag;
		} else {
			char *text CLEANUP_FREE = overlay_relative(o, m->folder);

			append(&m->data, text);
		}
	}
}

static void mounting_clear(struct mounting *m)
{
	free(m->data);
	free(m->folder);
}

struct child_report {
	int err;
	char step[40];
};

static _Noreturn void child_fail(int sock, int err, const char *step)
{
	struct child_report report = { .err = err };

	snprintf(report.step, sizeof(report.step), "%s", step);
	(void)fd_send(sock, &report, sizeof(report), NULL, 0, MSG_NOSIGNAL);
	_exit(1);
}

static _Noreturn void child_main(int sock, const struct mounting *m)
{
	struct child_report report = { 0 };
	/* Any folder will do to mount on: this one is there, and nobody looks at it from here. */
	const char *at = "/";
	int fd;

	if (unshare(CLONE_NEWNS) < 0)
		child_fail(sock, errno, "making a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		child_fail(sock, errno, "making its mounts private");
	if (*m->folder) {
		if (chdir(m->folder) < 0)
			child_fail(sock, errno, "entering the snapshots' folder");
		at = m->folder;
	}
	if (mount(m->source, at, m->type, m->flags, m->data) < 0)
		child_fail(sock, errno, "mounting the snapshot");
	fd = (int)syscall(SYS_open_tree, AT_FDCWD, at, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (fd < 0)
		child_fail(sock, errno, "opening the mounted snapshot");
	if (fd_send(sock, &report, sizeof(report), &fd, 1, MSG_NOSIGNAL) != sizeof(report))
		_exit(1);
	_exit(0);
}

static int mount_apart(const struct mounting *m, int *out, struct fault *f)
{
	int pair[2] = { -1, -1 }, fd = -1, r = 0;
	struct child_report report;
	size_t n = 1;
	ssize_t got;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fault_sys(f, errno, "making a socket pair", NULL);
	pid = fork();
	if (pid == 0)
		child_main(pair[1], m);
	fd_close(&pair[1]);
	if (pid < 0) {
		r = fault_sys(f, errno, "starting a process", NULL);
	} else {
		got = fd_recv(pair[0], &report, sizeof(report), &fd, &n, 0);
		if (got != sizeof(report))
			r = fault_set(f, FAULT_UNKNOWN, 0, "the snapshot could not be mounted");
		else if (report.err)
			r = fault_sys(f, report.err, report.step,
				      *m->folder ? m->folder : m->source);
		else if (n != 1)
			r = fault_set(f, FAULT_UNKNOWN, 0, "the snapshot was mounted in vain");
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	fd_close(&pair[0]);
	if (r == 0)
		*out = fd;
	return r;
}

int snaproot_open(json_object *mounts, int *fd, struct fault *f)
{
	json_object *mount = js_at(mounts, 0);
	struct mounting m CLEANUP(mounting_clear) = { .type = js_str(mount, "type"),
						      .source = js_str(mount, "source") };

	*fd = -1;
	if (js_len(mounts) != 1 || *js_str(mount, "target"))
		return fault_set(f, FAULT_UNIMPLEMENTED, 0,
				 "a root file system of %zu mounts cannot be looked into",
				 js_len(mounts));
	options_read(&m, js_get(mount, "options"));
	if (m.flags & MS_BIND || strcmp(m.type, "bind") == 0) {
		/* A folder is what it is without being mounted. */
		*fd = open(m.source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return *fd < 0 ? fault_sys(f, errno, "opening the snapshot", m.source) : 0;
	}
	if (!overlay_fits(m.data))
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "the paths of the snapshot's layers are too long to look into it");
	return mount_apart(&m, fd, f);
}

/* ---- folders */

int snaproot_mkdir(int root, const char *path, uid_t uid, gid_t gid, struct fault *f)
{
	char *copy CLEANUP_FREE = mem_strdup(path);
	char *so_far CLEANUP_FREE = mem_alloc(strlen(path) + 3);
	char *part, *save = NULL, *end = so_far;
	int dir CLEANUP_CLOSE = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int made = 0;

	if (dir < 0)
		return fault_sys(f, errno, "opening", "/");
	for (part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		int next;

		*end++ = '/';
		end = stpcpy(end, part);
		next = fd_open_in_root(root, so_far, O_PATH | O_DIRECTORY, 0);
		made = 0;
		if (next == -ENOENT) {
			/* Its name may be a link that leads to nothing: that stays an error. */
			if (mkdirat(dir, part, 0755) < 0)
				return fault_sys(f, errno, "making the folder", so_far);
			made = 1;
			next = openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (next < 0)
				next = -errno;
			/* mkdir's mode went through the umask */
			else if (fchmod(next, 0755) < 0)
				next = (close(next), -errno);
		}
		if (next < 0)
			return fault_sys(f, -next, "opening the folder", so_far);
		close(dir);
		dir = next;
	}
	if (made && fchown(dir, uid, gid) < 0)
		return fault_sys(f, errno, "setting the owner of", path);
	return made;
}

/* ---- copies */

static int copy_tree(int from, int to, unsigned depth, const char *where, struct fault *f);

static int copy_xattrs(int from, int to)
{
	char *names CLEANUP_FREE = mem_alloc(XATTRS_MAX);
	char *value CLEANUP_FREE = mem_alloc(XATTRS_MAX);
	ssize_t n = flistxattr(from, names, XATTRS_MAX);

	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t size;

		/* The overlay's own are not the files'. */
		if (strncmp(name, "trusted.overlay.", 16) == 0)
			continue;
		size = fgetxattr(from, name, value, XATTRS_MAX);
		if (size < 0 ||
		    (fsetxattr(to, name, value, (size_t)size, 0) < 0 && errno != ENOTSUP))
			return -errno;
	}
	return 0;
}

/* Owner before mode: a change of owner drops the bits that make a program setuid. */
static int copy_attributes(int from, int to, const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r;

	if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
		return -errno;
	r = copy_xattrs(from, to);
	if (r < 0)
		return r;
	return futimens(to, times) < 0 ? -errno : 0;
}

static int copy_data(int from, int to)
{
	char *buf CLEANUP_FREE = NULL;
	ssize_t n;
	int r;

	while ((n = copy_file_range(from, NULL, to, NULL, 1u << 30, 0)) > 0)
		;
	if (n == 0)
		return 0;
	/* Not between these file systems: from where it has come to, by hand. */
	buf = mem_alloc(COPY_CHUNK);
	while ((n = read(from, buf, COPY_CHUNK)) > 0) {
		r = fd_write_all(to, buf, (size_t)n);
		if (r < 0)
			return r;
	}
	return n < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	int from CLEANUP_CLOSE = openat(from_dir, name,
					O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	int to CLEANUP_CLOSE = -1;
	int r;

	if (from < 0)
		return -errno;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = copy_data(from, to);
	return r < 0 ? r : copy_attributes(from, to, st);
}

/* What cannot be opened: links, FIFOs, devices. */
static int copy_other(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	char target[PATH_MAX + 1];

	if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(from_dir, name, target, PATH_MAX);

		if (n < 0)
			return -errno;
		target[n] = '\0';
		if (symlinkat(target, to_dir, name) < 0)
			return -errno;
	} else if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0) {
		return -errno;
	}
	if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	return utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_folder(int from_dir, int to_dir, const char *name, const struct stat *st,
		       unsigned depth, const char *where, struct fault *f)
{
	int from CLEANUP_CLOSE = openat(from_dir, name,
					O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int to CLEANUP_CLOSE = -1;
	int r;

	if (from < 0)
		return -errno;
	if (mkdirat(to_dir, name, 0700) < 0)
		return -errno;
	to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return -errno;
	r = copy_tree(from, to, depth + 1, where, f);
	return r < 0 ? r : copy_attributes(from, to, st);
}

static int copy_entry(int from, int to, const char *name, unsigned depth, const char *where,
		      struct fault *f)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return copy_folder(from, to, name, &st, depth, where, f);
	if (S_ISREG(st.st_mode))
		return copy_file(from, to, name, &st);
	if (S_ISSOCK(st.st_mode))
		return 0; /* nobody listens on it */
	return copy_other(from, to, name, &st);
}

/* A fault that is set already has the path; the others get it here. */
static int copy_tree(int from, int to, unsigned depth, const char *where, struct fault *f)
{
	int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = again < 0 ? NULL : fdopendir(again);
	struct dirent *e;
	int r = 0;

	if (!dir) {
		r = -errno;
		fd_close(&again);
		return r;
	}
	if (depth > COPY_DEPTH)
		r = fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			      "the image's %s has folders more than %u deep", where, COPY_DEPTH);
	while (r == 0 && (errno = 0, e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		r = copy_entry(from, to, e->d_name, depth, where, f);
		if (r < 0 && !f->code) {
			char *path CLEANUP_FREE = mem_printf("%s/…/%s", where, e->d_name);

			r = fault_sys(f, -r, "copying from the image", depth ? path : e->d_name);
		}
	}
	if (r == 0 && !e && errno)
		r = -errno;
	closedir(dir);
	return r;
}

int snaproot_copy(int root, const char *path, int to, struct fault *f)
{
	int from CLEANUP_CLOSE = fd_open_in_root(root, path, O_RDONLY | O_DIRECTORY, 0);
	struct stat st;
	int r;

	if (from == -ENOENT || from == -ENOTDIR)
		return 0;
	if (from < 0 || fstat(from, &st) < 0)
		return fault_sys(f, from < 0 ? -from : errno, "opening in the image", path);
	memset(f, 0, sizeof(*f));
	r = copy_tree(from, to, 0, path, f);
	if (r == 0)
		r = copy_attributes(from, to, &st);
	if (r < 0 && !f->code)
		r = fault_sys(f, -r, "copying from the image", path);
	return r < 0 ? r : 1;
}
