// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: what an entry of an archive becomes
 *
 * A file is made anew and never written over: what has its name is removed first, since it may have
 * other names. A folder that is there stays, and gets the entry's owner, mode and xattrs. The order
 * in which a file gets its parts is the kernel's: data, owner (which clears setuid and
 * capabilities), mode, xattrs, times.
 *
 * A folder's time, and its default ACL, which files made later would inherit, are set at the very
 * end, by its real path; when it is no folder any more, they are dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define ACL_DEFAULT "system.posix_acl_default"

struct target {
	struct layer_dir dir;
	const char *name;
	char path[PATH_MAX]; /* the real one */
};

/* ---- faults */

/* A hostile name must not reach a terminal as it is. */
void layer_entry_named(struct applier *a, const char *name)
{
	size_t n = name ? strnlen(name, sizeof(a->entry) - 4) : 0;

	for (size_t i = 0; i < n; i++)
		a->entry[i] = (unsigned char)name[i] < 0x20 || name[i] == 0x7f ? '?' : name[i];
	strcpy(a->entry + n, n && name[n] ? "..." : "");
	a->behind = false;
}

static void prefix(struct applier *a)
{
	if (!a->entry[0])
		return;
	fault_prefix(a->c->f, "%sentry '%s' of the layer", a->behind ? "behind the " : "",
		     a->entry);
	fault_at(a->c->f, "unpack the layer", a->entry);
}

int layer_refuse(struct applier *a, enum fault_code code, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = fault_setv(a->c->f, code, 0, fmt, ap);
	va_end(ap);
	prefix(a);
	return r;
}

int layer_entry_fault(struct applier *a, int err, const char *what)
{
	enum fault_code code = fault_code_of_errno(err);

	/* The folder is ours: what is not there, or in the way, is the archive's mistake. */
	if (code == FAULT_NOT_FOUND || code == FAULT_ALREADY_EXISTS ||
	    code == FAULT_INVALID_ARGUMENT)
		code = FAULT_FAILED_PRECONDITION;
	fault_set(a->c->f, code, err, "%s", what);
	prefix(a);
	return -err;
}

int layer_archive_fault(struct applier *a)
{
	const char *why = archive_error_string(a->archive);

	if (a->ring_failed < 0) {
		*a->c->f = a->ring_fault;
		prefix(a);
		return a->ring_failed;
	}
	if (archive_errno(a->archive) == ENOMEM)
		return layer_entry_fault(a, ENOMEM, "read the archive");
	fault_set(a->c->f, FAULT_FAILED_PRECONDITION, 0, "the tar archive is damaged: %s",
		  why ? why : "unknown reason");
	prefix(a);
	return -EBADMSG;
}

int layer_remember(struct applier *a, size_t bytes)
{
	a->memory += bytes;
	if (a->memory <= a->limits.memory)
		return 0;
	layer_refuse(a, FAULT_RESOURCE_EXHAUSTED, "the layer's names take more than %llu bytes",
		     (unsigned long long)a->limits.memory);
	return -E2BIG;
}

static int no_memory(struct applier *a)
{
	return layer_entry_fault(a, ENOMEM, "remember the entry");
}

/* ---- what all have */

/* Of the open file, or with a name of the one in that folder. */
static int set_xattrs(struct applier *a, struct archive_entry *e, int fd, const char *name,
		      bool keep_default_acl)
{
	const char *xattr;
	const void *value;
	size_t size, total = 0;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &xattr, &value, &size) == ARCHIVE_OK) {
		int r;

		total += size + strlen(xattr);
		if (total > LIMIT_LAYER_XATTR_BYTES) {
			layer_refuse(a, FAULT_RESOURCE_EXHAUSTED,
				     "its extended attributes are larger than %u bytes",
				     LIMIT_LAYER_XATTR_BYTES);
			return -E2BIG;
		}
		if (!layer_xattr_wanted(xattr) || (keep_default_acl && !strcmp(xattr, ACL_DEFAULT)))
			continue;
		r = layer_xattr_set(fd, name, xattr, value, size);
		/* not every file system has them; a program without its capabilities would fail */
		if (r == -ENOTSUP && strcmp(xattr, "security.capability") != 0)
			continue;
		if (r < 0)
			return layer_entry_fault(a, -r, "set its extended attributes");
	}
	return 0;
}

static int owner_of(struct applier *a, struct archive_entry *e, uid_t *uid, gid_t *gid)
{
	int64_t u = archive_entry_uid(e), g = archive_entry_gid(e);

	if (u < 0 || g < 0 || u >= UINT32_MAX || g >= UINT32_MAX) {
		layer_refuse(a, FAULT_FAILED_PRECONDITION, "its owner %lld:%lld is out of range",
			     (long long)u, (long long)g);
		return -ERANGE;
	}
	*uid = (uid_t)u;
	*gid = (gid_t)g;
	return 0;
}

static void times_of(struct archive_entry *e, struct timespec times[2])
{
	long ns = archive_entry_mtime_nsec(e);

	times[1].tv_sec = archive_entry_mtime(e);
	/* the one number whose decimal form libarchive reads as another */
	if (times[1].tv_sec == INT64_MIN)
		times[1].tv_sec = -INT64_MAX;
	times[1].tv_nsec = ns < 0 || ns > 999999999 ? 0 : ns;
	times[0] = times[1];
}

/* Owner, mode and xattrs of an open file. */
static int dress(struct applier *a, struct archive_entry *e, int fd, bool folder)
{
	uid_t uid;
	gid_t gid;
	int r = owner_of(a, e, &uid, &gid);

	if (r < 0)
		return r;
	if (fchown(fd, uid, gid) < 0)
		return layer_entry_fault(a, errno, "set its owner");
	if (fchmod(fd, archive_entry_perm(e) & 07777) < 0)
		return layer_entry_fault(a, errno, "set its mode");
	return set_xattrs(a, e, fd, NULL, folder);
}

/* The same of what cannot be opened: a link, a device, a FIFO. */
static int dress_special(struct applier *a, struct archive_entry *e, const struct target *t,
			 bool link)
{
	struct timespec times[2];
	char path[32];
	uid_t uid;
	gid_t gid;
	int r = owner_of(a, e, &uid, &gid);

	if (r < 0)
		return r;
	if (fchownat(t->dir.fd, t->name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return layer_entry_fault(a, errno, "set its owner");
	if (!link) {
		CLEANUP_CLOSE int fd = openat(t->dir.fd, t->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0)
			return layer_entry_fault(a, errno, "open it");
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (chmod(path, archive_entry_perm(e) & 07777) < 0)
			return layer_entry_fault(a, errno, "set its mode");
	}
	r = set_xattrs(a, e, t->dir.fd, t->name, false);
	if (r < 0)
		return r;
	times_of(e, times);
	if (utimensat(t->dir.fd, t->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return layer_entry_fault(a, errno, "set its time");
	return 0;
}

/* ---- folders */

static int defer(struct applier *a, struct archive_entry *e, const char *path)
{
	size_t size = strlen(path) + 1, acl_size = 0, n;
	const void *acl = NULL, *value;
	struct timespec times[2];
	struct deferred *d;
	const char *xattr;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &xattr, &value, &n) == ARCHIVE_OK)
		if (!strcmp(xattr, ACL_DEFAULT)) {
			acl = value;
			acl_size = n;
		}
	if (layer_remember(a, sizeof(*d) + size + acl_size) < 0)
		return -E2BIG;
	d = calloc(1, sizeof(*d) + size);
	if (!d)
		return no_memory(a);
	memcpy(d->path, path, size);
	times_of(e, times);
	d->mtime = times[1];
	*a->deferred_last = d;
	a->deferred_last = &d->next;
	if (acl) {
		d->acl = malloc(acl_size + 1);
		if (!d->acl)
			return no_memory(a);
		memcpy(d->acl, acl, acl_size);
		d->acl_size = acl_size;
	}
	return 0;
}

int layer_entries_finish(struct applier *a)
{
	int r;

	layer_entry_named(a, NULL);
	for (struct deferred *d = a->deferred; d; d = d->next) {
		struct timespec times[2] = { d->mtime, d->mtime };
		CLEANUP_CLOSE int fd = layer_open_folder(a->root_fd, d->path);

		r = store_cancelled(a->c);
		if (r < 0)
			return r;
		/* gone, or no folder any more */
		if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
			continue;
		layer_entry_named(a, d->path);
		if (fd < 0)
			return layer_entry_fault(a, -fd, "set its time");
		r = d->acl ? layer_xattr_set(fd, NULL, ACL_DEFAULT, d->acl, d->acl_size) : 0;
		if (r < 0 && r != -ENOTSUP)
			return layer_entry_fault(a, -r, "set its extended attributes");
		if (utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
			return layer_entry_fault(a, errno, "set its time");
	}
	layer_entry_named(a, NULL);
	return 0;
}

static int apply_folder(struct applier *a, struct archive_entry *e, const struct target *t)
{
	CLEANUP_CLOSE int fd = -1;
	bool opaque = false;
	struct stat st;
	int r;

	while (mkdirat(t->dir.fd, t->name, 0700) < 0) {
		if (errno != EEXIST)
			return layer_entry_fault(a, errno, "make the folder");
		if (fstatat(t->dir.fd, t->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return layer_entry_fault(a, errno, "look at what is there");
		if (S_ISDIR(st.st_mode))
			break;
		/* hidden below, and new here: nothing of the layers below may show in it */
		opaque = a->overlay && layer_is_whiteout(&st);
		r = layer_remove(a, &t->dir, t->name);
		if (r < 0)
			return r;
	}
	fd = openat(t->dir.fd, t->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return layer_entry_fault(a, errno, "open the folder");
	if (opaque) {
		r = layer_xattr_set(fd, NULL, OVERLAY_OPAQUE, "y", 1);
		if (r < 0)
			return layer_entry_fault(a, -r, "make the folder opaque");
	}
	r = dress(a, e, fd, true);
	return r ? r : defer(a, e, t->path);
}

static int apply_root(struct applier *a, struct archive_entry *e)
{
	int r;

	if (archive_entry_hardlink(e) || archive_entry_filetype(e) != AE_IFDIR)
		return layer_refuse(a, FAULT_FAILED_PRECONDITION, "the root can only be a folder");
	r = dress(a, e, a->root_fd, true);
	return r ? r : defer(a, e, "");
}

/* ---- files */

static int write_at(int fd, const char *data, size_t size, off_t at)
{
	while (size) {
		ssize_t n = pwrite(fd, data, size, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		size -= (size_t)n;
		at += n;
	}
	return 0;
}

/* What the archive has no data for stays a hole. */
static int write_data(struct applier *a, int fd, int64_t size)
{
	int64_t end = 0;

	for (;;) {
		const void *data;
		size_t n;
		la_int64_t at;
		int r = archive_read_data_block(a->archive, &data, &n, &at);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return layer_archive_fault(a);
		if (at < 0 || at > size || n > (uint64_t)(size - at)) {
			layer_refuse(a, FAULT_FAILED_PRECONDITION,
				     "it has data behind its size of %lld bytes", (long long)size);
			return -EBADMSG;
		}
		r = write_at(fd, data, n, at);
		if (r < 0)
			return layer_entry_fault(a, -r, "write it");
		if (n && at + (int64_t)n > end)
			end = at + (int64_t)n;
		if (store_cancelled(a->c) < 0)
			return -ECANCELED;
	}
	if (end < size && ftruncate(fd, size) < 0)
		return layer_entry_fault(a, errno, "set its size");
	return 0;
}

static int apply_file(struct applier *a, struct archive_entry *e, const struct target *t)
{
	int64_t size = archive_entry_size(e);
	struct timespec times[2];
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (size < 0) {
		layer_refuse(a, FAULT_FAILED_PRECONDITION, "its size is negative");
		return -EBADMSG;
	}
	if ((uint64_t)size > a->limits.bytes - a->bytes) {
		layer_refuse(a, FAULT_RESOURCE_EXHAUSTED,
			     "the layer's files are larger than %llu bytes",
			     (unsigned long long)a->limits.bytes);
		return -EFBIG;
	}
	a->bytes += (uint64_t)size;
	while ((fd = openat(t->dir.fd, t->name,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)) < 0) {
		if (errno != EEXIST)
			return layer_entry_fault(a, errno, "make the file");
		r = layer_remove(a, &t->dir, t->name);
		if (r < 0)
			return r;
	}
	r = size ? write_data(a, fd, size) : 0;
	if (!r)
		r = dress(a, e, fd, false);
	if (r < 0)
		return r;
	times_of(e, times);
	return futimens(fd, times) < 0 ? layer_entry_fault(a, errno, "set its time") : 0;
}

static int apply_symlink(struct applier *a, struct archive_entry *e, const struct target *t)
{
	const char *text = archive_entry_symlink(e);
	int r;

	if (!text || !*text)
		return layer_refuse(a, FAULT_FAILED_PRECONDITION, "the link leads nowhere");
	while (symlinkat(text, t->dir.fd, t->name) < 0) {
		if (errno != EEXIST)
			return layer_entry_fault(a, errno, "make the link");
		r = layer_remove(a, &t->dir, t->name);
		if (r < 0)
			return r;
	}
	return dress_special(a, e, t, true);
}

static int apply_special(struct applier *a, struct archive_entry *e, const struct target *t,
			 mode_t type)
{
	dev_t dev = 0;
	int r;

	if (type != S_IFIFO) {
		uint64_t major_number = archive_entry_rdevmajor(e);
		uint64_t minor_number = archive_entry_rdevminor(e);

		if (major_number > 0xfff || minor_number > 0xfffff)
			return layer_refuse(a, FAULT_FAILED_PRECONDITION,
					    "its device number %llu:%llu is out of range",
					    (unsigned long long)major_number,
					    (unsigned long long)minor_number);
		/* overlayfs takes it as a mark that something is deleted */
		if (type == S_IFCHR && !major_number && !minor_number)
			return layer_refuse(a, FAULT_FAILED_PRECONDITION,
					    "the character device 0:0 is not allowed in layers");
		dev = makedev((unsigned)major_number, (unsigned)minor_number);
	}
	while (mknodat(t->dir.fd, t->name, type | 0600, dev) < 0) {
		if (errno != EEXIST)
			return layer_entry_fault(a, errno, "make the device or FIFO");
		r = layer_remove(a, &t->dir, t->name);
		if (r < 0)
			return r;
	}
	return dress_special(a, e, t, false);
}

/* ---- hard links */

static int get_folder(struct applier *a, const char *path, struct layer_dir *dir)
{
	int r = layer_dirs_get(a->dirs, path, true, dir);

	/* of what was told about a new one there is a fault already */
	if (r < 0 && !a->told)
		return layer_entry_fault(a, -r, "find its folder");
	return r;
}

/* Splits a clean path, which is not the root's: the last component, and the folder's path. */
static const char *split(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash)
		return NULL;
	*slash = '\0';
	return slash + 1;
}

/* What the link is to, opened; the folders that are open may change. */
static int open_linked(struct applier *a, const char *link, int *fd)
{
	char path[PATH_MAX];
	const char *why = layer_name_clean(link, path), *name;
	struct layer_dir dir = { .fd = -1 };
	struct stat st = { 0 };
	int r;

	if (why || !*path)
		return layer_refuse(a, FAULT_FAILED_PRECONDITION,
				    "it is a hard link to a name that is refused: %s",
				    why ? why : "the root");
	name = split(path);
	r = layer_dirs_get(a->dirs, name ? path : "", false, &dir);
	if (!r) {
		*fd = openat(dir.fd, name ? name : path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		r = *fd < 0 || fstat(*fd, &st) < 0 ? -errno : 0;
	}
	if (r == -ENOENT || r == -ENOTDIR)
		return layer_refuse(a, FAULT_FAILED_PRECONDITION,
				    "it is a hard link to something that is not there");
	if (r < 0)
		return layer_entry_fault(a, -r, "find what it is a hard link to");
	if (S_ISDIR(st.st_mode) || layer_is_whiteout(&st))
		return layer_refuse(a, FAULT_FAILED_PRECONDITION, "it is a hard link to %s",
				    S_ISDIR(st.st_mode) ? "a folder" : "what was deleted");
	return 0;
}

static int apply_hardlink(struct applier *a, int from, const struct target *t)
{
	struct stat st, old;
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
	while (linkat(AT_FDCWD, path, t->dir.fd, t->name, AT_SYMLINK_FOLLOW) < 0) {
		if (errno != EEXIST)
			return layer_entry_fault(a, errno, "make the hard link");
		if (fstat(from, &st) < 0 ||
		    fstatat(t->dir.fd, t->name, &old, AT_SYMLINK_NOFOLLOW) < 0)
			return layer_entry_fault(a, errno, "look at what is there");
		if (old.st_dev == st.st_dev && old.st_ino == st.st_ino)
			return 0;
		r = layer_remove(a, &t->dir, t->name);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- one entry */

static int apply_type(struct applier *a, struct archive_entry *e, const struct target *t)
{
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return apply_file(a, e, t);
	case AE_IFDIR:
		return apply_folder(a, e, t);
	case AE_IFLNK:
		return apply_symlink(a, e, t);
	case AE_IFCHR:
		return apply_special(a, e, t, S_IFCHR);
	case AE_IFBLK:
		return apply_special(a, e, t, S_IFBLK);
	case AE_IFIFO:
		return apply_special(a, e, t, S_IFIFO);
	default:
		return layer_refuse(a, FAULT_FAILED_PRECONDITION,
				    "it is of a type that layers cannot have");
	}
}

/* Names that begin as whiteouts do: 1 when that was all, 0 for a usual name. */
static int apply_mark(struct applier *a, const char *folder, const char *name)
{
	size_t n = strlen(WHITEOUT);
	int r;

	if (strncmp(name, WHITEOUT, n) != 0)
		return 0;
	if (!strcmp(name, WHITEOUT_OPAQUE)) {
		r = layer_opaque_apply(a, folder);
		return r ? r : 1;
	}
	/* what aufs keeps for itself */
	if (!strncmp(name + n, WHITEOUT, n))
		return 1;
	name += n;
	if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
		return layer_refuse(a, FAULT_FAILED_PRECONDITION, "it deletes nothing that can be");
	r = layer_whiteout_apply(a, folder, name);
	return r ? r : 1;
}

/* A folder that is called like a whiteout: 1 when it is one of those that are left out. */
static int check_folders(struct applier *a, const char *folder)
{
	size_t n = strlen(WHITEOUT);

	for (const char *at = folder; at; at = strchr(at, '/')) {
		at += *at == '/';
		if (strncmp(at, WHITEOUT, n) != 0)
			continue;
		if (!strncmp(at + n, WHITEOUT, n))
			return 1;
		return layer_refuse(a, FAULT_FAILED_PRECONDITION,
				    "it is in a folder that has the name of a whiteout");
	}
	return 0;
}

/* The path, and with it the folders above: they are this layer's now, whoever made them. */
static int note_written(struct applier *a, char *path)
{
	for (;;) {
		char *slash;

		if (layer_remember(a, 2 * sizeof(uint64_t)) < 0)
			return -E2BIG;
		if (layer_names_add(&a->names, path) < 0)
			return no_memory(a);
		slash = strrchr(path, '/');
		if (!slash)
			return 0;
		*slash = '\0';
		if (layer_names_has(&a->names, path))
			return 0;
	}
}

int layer_entry_apply(struct applier *a, struct archive_entry *e, const char *path)
{
	const char *link = archive_entry_hardlink(e), *folder;
	CLEANUP_CLOSE int linked = -1;
	char at[PATH_MAX];
	struct target t;
	int r;

	t.dir = (struct layer_dir){ .fd = -1, .path = "" };
	if (!*path)
		return apply_root(a, e);
	strcpy(at, path);
	t.name = split(at);
	folder = t.name ? at : "";
	if (!t.name)
		t.name = path;
	r = check_folders(a, folder);
	if (!r)
		r = apply_mark(a, folder, t.name);
	if (r)
		return r < 0 ? r : 0;
	r = link ? open_linked(a, link, &linked) : 0;
	if (!r)
		r = get_folder(a, folder, &t.dir);
	if (r < 0)
		return r;
	if (layer_path_join(t.path, t.dir.path, t.name) < 0)
		return layer_entry_fault(a, ENAMETOOLONG, "make it");
	r = link ? apply_hardlink(a, linked, &t) : apply_type(a, e, &t);
	if (r < 0)
		return r;
	a->out->inodes += !link;
	return note_written(a, t.path);
}
