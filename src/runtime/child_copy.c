// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: copying a folder (tmpcopyup)
 *
 * What an image has below a folder is copied into the tmpfs that covers it: folders, files, links, devices and FIFOs, with owner, mode, times
 * and extended attributes. Nothing is followed: each entry is opened by its name in its folder's fd. The depth is bounded, because the
 * stack is that of the thread that cloned us.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "runtime/child.h"

#define DEPTH_MAX 48
#define BUFFER_BYTES 2048 /* of directory entries, a frame a level */

struct entry { /* of getdents64(2) */
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

static int copy_folder(int from, int to, int depth);

static int copy_xattrs(int from, int to)
{
	char names[1024], value[1024];
	ssize_t n = flistxattr(from, names, sizeof(names));

	if (n < 0)
		return errno == EOPNOTSUPP || errno == EBADF ? 0 : -errno;
	for (const char *p = names; p < names + n; p += strlen(p) + 1) {
		ssize_t size = fgetxattr(from, p, value, sizeof(value));

		if (size < 0)
			return -errno;
		/* a tmpfs takes no user.* before Linux 6.6, and labels of a security module are its own matter */
		if (fsetxattr(to, p, value, (size_t)size, 0) < 0 && errno != EOPNOTSUPP &&
		    errno != EPERM)
			return -errno;
	}
	return 0;
}

static int copy_meta(int to, const struct stat *st)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };

	if (fchown(to, st->st_uid, st->st_gid) < 0)
		return -errno;
	if (fchmod(to, st->st_mode & 07777) < 0)
		return -errno;
	return futimens(to, times) < 0 ? -errno : 0;
}

static int copy_bytes(int from, int to)
{
	char buf[BUFFER_BYTES];

	for (;;) {
		ssize_t n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);

		if (!n)
			return 0;
		if (n < 0)
			break;
	}
	if (errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	for (;;) {
		ssize_t n = read(from, buf, sizeof(buf));

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (ssize_t at = 0; at < n;) {
			ssize_t w = write(to, buf + at, (size_t)(n - at));

			if (w < 0)
				return -errno;
			at += w;
		}
	}
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK), to, r;

	if (from < 0)
		return -errno;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0) {
		r = -errno;
	} else {
		r = copy_bytes(from, to);
		if (!r)
			r = copy_xattrs(from, to);
		if (!r)
			r = copy_meta(to, st);
		close(to);
	}
	close(from);
	return r;
}

static int copy_subfolder(int from_dir, int to_dir, const char *name, const struct stat *st,
			  int depth)
{
	int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), to, r;

	if (from < 0)
		return -errno;
	r = mkdirat(to_dir, name, 0700) < 0 ? -errno : 0;
	to = r ? -1 : openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0) {
		r = r ? r : -errno;
	} else {
		r = copy_folder(from, to, depth + 1);
		if (!r)
			r = copy_xattrs(from, to);
		if (!r)
			r = copy_meta(to, st);
		close(to);
	}
	close(from);
	return r;
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from_dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	if (symlinkat(target, to_dir, name) < 0)
		return -errno;
	return fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_node(int to_dir, const char *name, const struct stat *st)
{
	if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0)
		return -errno;
	if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0 ? -errno : 0;
}

static int copy_one(int from, int to, const char *name, int depth)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return copy_file(from, to, name, &st);
	case S_IFDIR:
		return copy_subfolder(from, to, name, &st, depth);
	case S_IFLNK:
		return copy_link(from, to, name, &st);
	default:
		return copy_node(to, name, &st);
	}
}

static int copy_folder(int from, int to, int depth)
{
	_Alignas(struct entry) char buf[BUFFER_BYTES];

	if (depth > DEPTH_MAX)
		return -ELOOP;
	for (;;) {
		long n = syscall(SYS_getdents64, from, buf, sizeof(buf));

		if (n <= 0)
			return n < 0 ? -errno : 0;
		for (long at = 0; at < n;) {
			const struct entry *e = (const struct entry *)(buf + at);
			int r;

			at += e->reclen;
			if (!strcmp(e->name, ".") || !strcmp(e->name, ".."))
				continue;
			r = copy_one(from, to, e->name, depth);
			if (r < 0)
				return r;
		}
	}
}

int child_copy_tree(struct child *c, int from, int to)
{
	struct stat st;
	int r;

	(void)c;
	if (fstat(from, &st) < 0)
		return -errno;
	r = copy_folder(from, to, 0);
	if (r)
		return r;
	/* the folder itself too, but its mode may have been an option of the mount */
	return fchown(to, st.st_uid, st.st_gid) < 0 ? -errno : 0;
}
