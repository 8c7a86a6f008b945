// SPDX-License-Identifier: Apache-2.0
/*
 * Copying a whole tree
 *
 * For snapshotters that cannot put folders on top of each other. Data is shared where the file
 * system can (FICLONE), else copied within the kernel, holes left out. Names of one inode become
 * names of one inode: the first is copied and gets a second name in a folder of its own, from where
 * the others are linked; so neither memory nor a path is needed for them. That folder is emptied
 * after. Owner, xattrs (ACLs and file capabilities among them), mode and times are set in this
 * order, since each of the former would undo the latter; a folder's after all that is in it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/snapshot_internal.h"
#include "util/cleanup.h"

#define CHUNK (16u << 20) /* between two looks at cancel */
#define BUFFER (256u << 10)
#define XATTR_MAX 65536u /* the kernel's limit of a list and of a value */
#define OVERLAY_XATTRS "trusted.overlay."

struct copy {
	struct store_call *c;
	int links;
	bool no_clone, no_range; /* the file system cannot */
	char *buffer; /* BUFFER bytes, when wanted */
	char *names, *value; /* XATTR_MAX bytes each, when wanted */
};

/* ---- metadata */

/* What is neither a file nor a folder has no fd with which its xattrs are read: then by path. */
static int copy_xattrs(struct copy *k, int from, int to, bool by_path, const char *but)
{
	char a[40], b[40];
	ssize_t size, n;

	snprintf(a, sizeof(a), "/proc/self/fd/%d", from);
	snprintf(b, sizeof(b), "/proc/self/fd/%d", to);
	/* mostly there are none */
	size = by_path ? listxattr(a, NULL, 0) : flistxattr(from, NULL, 0);
	if (size <= 0)
		return size < 0 && errno != ENOTSUP ? -errno : 0;
	if (!k->names)
		k->names = malloc(XATTR_MAX);
	if (!k->value)
		k->value = malloc(XATTR_MAX);
	if (!k->names || !k->value)
		return -ENOMEM;
	size = by_path ? listxattr(a, k->names, XATTR_MAX) : flistxattr(from, k->names, XATTR_MAX);
	if (size < 0)
		return -errno;
	for (const char *name = k->names; name < k->names + size; name += strlen(name) + 1) {
		if (but && !strncmp(name, but, strlen(but)))
			continue;
		n = by_path ? getxattr(a, name, k->value, XATTR_MAX)
			    : fgetxattr(from, name, k->value, XATTR_MAX);
		if (n < 0)
			return -errno;
		if ((by_path ? setxattr(b, name, k->value, (size_t)n, 0)
			     : fsetxattr(to, name, k->value, (size_t)n, 0)) < 0)
			return -errno;
	}
	return 0;
}

static int copy_meta(struct copy *k, int from, int to, const struct stat *st, const char *but)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	int r;

	if (fchown(to, st->st_uid, st->st_gid) < 0)
		return -errno;
	r = copy_xattrs(k, from, to, false, but);
	if (r < 0)
		return r;
	return fchmod(to, st->st_mode & 07777) < 0 || futimens(to, times) < 0 ? -errno : 0;
}

static void copy_clear(struct copy *k)
{
	free(k->buffer);
	free(k->names);
	free(k->value);
}

int snapshot_tree_inherit(int from, int to, struct fault *f)
{
	struct copy k = { 0 };
	struct stat st;
	int r = fstat(from, &st) < 0 ? -errno : copy_meta(&k, from, to, &st, OVERLAY_XATTRS);

	copy_clear(&k);
	return r < 0 ? fault_sys(f, -r, "set mode and owner of", "fs") : 0;
}

/* ---- data */

static int copy_by_hand(struct copy *k, int from, int to, off_t at, off_t end)
{
	if (!k->buffer)
		k->buffer = malloc(BUFFER);
	if (!k->buffer)
		return -ENOMEM;
	while (at < end) {
		size_t want = end - at < (off_t)BUFFER ? (size_t)(end - at) : BUFFER;
		ssize_t n = pread(from, k->buffer, want, at);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		for (ssize_t done = 0; done < n;) {
			ssize_t m = pwrite(to, k->buffer + done, (size_t)(n - done), at + done);

			if (m < 0)
				return -errno;
			done += m;
		}
		at += n;
		if (cancelled(k->c->cancel))
			return -ECANCELED;
	}
	return 0;
}

static int copy_range(struct copy *k, int from, int to, off_t at, off_t end)
{
	off_t target = at;

	while (!k->no_range && at < end) {
		size_t want = end - at < (off_t)CHUNK ? (size_t)(end - at) : CHUNK;
		ssize_t n = copy_file_range(from, &at, to, &target, want, 0);

		if (n < 0 &&
		    (errno == EXDEV || errno == ENOSYS || errno == EOPNOTSUPP || errno == EINVAL)) {
			k->no_range = true;
			break;
		}
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		if (cancelled(k->c->cancel))
			return -ECANCELED;
	}
	return copy_by_hand(k, from, to, at, end);
}

static int copy_data(struct copy *k, int from, int to, off_t size)
{
	off_t at = 0, end;

	if (!size)
		return 0;
	if (!k->no_clone) {
		if (ioctl(to, FICLONE, from) == 0)
			return 0;
		if (errno != EOPNOTSUPP && errno != ENOTTY && errno != EXDEV && errno != EINVAL &&
		    errno != ENOSYS)
			return -errno;
		k->no_clone = true;
	}
	if (ftruncate(to, size) < 0)
		return -errno;
	while (at < size) {
		int r;

		at = lseek(from, at, SEEK_DATA);
		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return -errno;
		if (end > size)
			end = size;
		r = copy_range(k, from, to, at, end);
		if (r < 0)
			return r;
		at = end;
	}
	return 0;
}

/* ---- entries */

static int copy_file(struct copy *k, const struct snapshot_entry *e)
{
	CLEANUP_CLOSE int from = openat(e->from, e->name,
					O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);
	CLEANUP_CLOSE int to = -1;
	int r;

	if (from < 0)
		return -errno;
	to = openat(e->to, e->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (to < 0)
		return -errno;
	r = copy_data(k, from, to, e->st->st_size);
	return r < 0 ? r : copy_meta(k, from, to, e->st, NULL);
}

static int copy_node(struct copy *k, const struct snapshot_entry *e)
{
	struct timespec times[2] = { e->st->st_atim, e->st->st_mtim };
	CLEANUP_CLOSE int from = -1, to = -1;
	char target[PATH_MAX];
	ssize_t n;
	int r;

	if (S_ISLNK(e->st->st_mode)) {
		n = readlinkat(e->from, e->name, target, sizeof(target) - 1);
		if (n < 0)
			return -errno;
		target[n] = '\0';
		if (symlinkat(target, e->to, e->name) < 0)
			return -errno;
	} else if (mknodat(e->to, e->name, (e->st->st_mode & S_IFMT) | 0600, e->st->st_rdev) < 0) {
		return -errno;
	}
	from = openat(e->from, e->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	to = openat(e->to, e->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (from < 0 || to < 0)
		return -errno;
	if (fchownat(to, "", e->st->st_uid, e->st->st_gid, AT_EMPTY_PATH) < 0)
		return -errno;
	r = copy_xattrs(k, from, to, true, NULL);
	if (r < 0)
		return r;
	if (!S_ISLNK(e->st->st_mode) && fchmodat(e->to, e->name, e->st->st_mode & 07777, 0) < 0)
		return -errno;
	return utimensat(e->to, e->name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

/* 1: it is a further name of what was copied already. */
static int link_known(struct copy *k, const struct snapshot_entry *e, const char *known)
{
	if (linkat(k->links, known, e->to, e->name, 0) == 0)
		return 1;
	if (errno == ENOENT)
		return 0;
	/* the most names an inode may have are its own, so this is the last */
	if (errno == EMLINK && renameat(k->links, known, e->to, e->name) == 0)
		return 1;
	return -errno;
}

static int copy_entry(struct snapshot_walk *w, const struct snapshot_entry *e)
{
	struct copy *k = snapshot_walk_user(w);
	bool several = !S_ISDIR(e->st->st_mode) && e->st->st_nlink > 1;
	char known[24];
	int r = 0;

	snprintf(known, sizeof(known), "%llx", (unsigned long long)e->st->st_ino);
	if (several)
		r = link_known(k, e, known);
	if (!r) {
		if (S_ISDIR(e->st->st_mode))
			r = mkdirat(e->to, e->name, 0700) < 0 ? -errno : 0;
		else if (S_ISREG(e->st->st_mode))
			r = copy_file(k, e);
		else
			r = copy_node(k, e);
		if (!r && several && linkat(e->to, e->name, k->links, known, 0) < 0)
			r = -errno;
	}
	if (r == -ECANCELED)
		return store_cancelled(k->c);
	return r < 0 ? snapshot_walk_fault(w, -r, "copy") : 0;
}

static int copy_leave(struct snapshot_walk *w, const struct snapshot_entry *e)
{
	int r = copy_meta(snapshot_walk_user(w), e->from, e->to, e->st, NULL);

	return r < 0 ? snapshot_walk_fault(w, -r, "set mode and owner of") : 0;
}

static int empty(int folder)
{
	int own = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!dir) {
		r = -errno;
		if (own >= 0)
			close(own);
		return r;
	}
	while (!r && (errno = 0, e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") &&
		    unlinkat(folder, e->d_name, 0) < 0)
			r = -errno;
	if (!r && errno)
		r = -errno;
	closedir(dir);
	return r;
}

int snapshot_tree_copy(struct store_call *c, int from, int to, int links)
{
	static const struct snapshot_visitor visitor = { .entry = copy_entry,
							 .leave = copy_leave,
							 .step = "copy" };
	struct copy k = { .c = c, .links = links };
	int r = snapshot_walk(c, from, to, &visitor, &k);

	copy_clear(&k);
	if (r < 0)
		return r;
	r = empty(links);
	return r < 0 ? fault_sys(c->f, -r, "copy", "links") : 0;
}
