// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: writing entries
 *
 * Through libarchive's pax format, which writes an extended header only where ustar's fields do not
 * do: for fractions of seconds, long names, xattrs, holes. What an entry gets is set here and
 * nothing else: no names of users, no times but mtime, so that equal files give equal bytes.
 *
 * A file's size stands before its data, and is what fstat(2) said of the opened file. One that
 * turns out to be shorter changed under our hands: that is an error, since the archive cannot be
 * right any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

#define BLOCK_BYTES (256u << 10)
#define READ_BYTES (256u << 10)
/* Less than this is written out: what is a hole then depends less on the file system. */
#define HOLES_MIN (1ll << 20)
#define HOLE_MIN (64ll << 10)
#define SEGMENTS_MAX 16384u

struct segment {
	int64_t at, size;
};

struct layer_writer {
	struct store_call *c;
	layer_write_fn fn;
	void *user;
	struct archive *archive;
	struct archive_entry *entry;
	struct layer_locale locale;
	int failed; /* of fn */
	bool discard;
	struct segment *segments;
	size_t n_segments;
	char buf[READ_BYTES];
};

/*
 * libarchive is not told of a failure: it would never free what it has for its client then. Whoever
 * calls it looks at `failed`.
 */
static la_ssize_t take_tar(struct archive *a, void *user, const void *data, size_t size)
{
	struct layer_writer *w = user;

	(void)a;
	if (!w->discard && !w->failed)
		w->failed = w->fn(w->user, data, size, w->c->f);
	return (la_ssize_t)size;
}

int layer_writer_new(struct layer_writer **out, struct store_call *c, layer_write_fn fn, void *user)
{
	struct layer_writer *w = malloc(sizeof(*w));

	*out = NULL;
	if (!w)
		return fault_sys(c->f, ENOMEM, "write the layer", NULL);
	memset(w, 0, offsetof(struct layer_writer, buf));
	w->c = c;
	w->fn = fn;
	w->user = user;
	w->archive = archive_write_new();
	w->entry = archive_entry_new();
	if (!w->archive || !w->entry || layer_locale_enter(&w->locale) < 0) {
		layer_writer_free(w);
		return fault_sys(c->f, ENOMEM, "write the layer", NULL);
	}
	if (archive_write_set_format_pax(w->archive) != ARCHIVE_OK ||
	    archive_write_set_format_option(w->archive, "pax", "xattrheader", "SCHILY") !=
		    ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(w->archive, BLOCK_BYTES) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(w->archive, 1) != ARCHIVE_OK ||
	    archive_write_open(w->archive, w, NULL, take_tar, NULL) != ARCHIVE_OK) {
		const char *why = archive_error_string(w->archive);
		int r = fault_set(c->f, FAULT_INTERNAL, 0, "begin a tar archive: %s",
				  why ? why : "unknown reason");

		layer_writer_free(w);
		return r;
	}
	*out = w;
	return 0;
}

void layer_writer_free(struct layer_writer *w)
{
	if (!w)
		return;
	w->discard = true;
	archive_write_free(w->archive);
	archive_entry_free(w->entry);
	layer_locale_leave(&w->locale);
	free(w->segments);
	free(w);
}

static int archive_fault(struct layer_writer *w, const char *path)
{
	const char *why = archive_error_string(w->archive);
	int err = archive_errno(w->archive);

	if (w->failed < 0)
		return w->failed;
	if (err == ENOMEM)
		return fault_sys(w->c->f, ENOMEM, "write the layer", path);
	fault_set(w->c->f, FAULT_FAILED_PRECONDITION, 0, "'%.300s' cannot be put into a layer: %s",
		  path, why ? why : "unknown reason");
	fault_at(w->c->f, "write the layer", path);
	return -EINVAL;
}

static int file_fault(struct layer_writer *w, int err, const char *what, const char *path)
{
	return fault_sys(w->c->f, err, what, path);
}

static int changed(struct layer_writer *w, const char *path)
{
	fault_set(w->c->f, FAULT_ABORTED, 0, "'%.300s' changed while it was read", path);
	fault_at(w->c->f, "write the layer", path);
	return -EAGAIN;
}

/* ---- holes */

static int add_segment(struct layer_writer *w, int64_t at, int64_t size)
{
	struct segment *last = w->n_segments ? &w->segments[w->n_segments - 1] : NULL;
	struct segment *v;

	if (last && at - (last->at + last->size) < HOLE_MIN) {
		last->size = at + size - last->at;
		return 0;
	}
	v = realloc(w->segments, (w->n_segments + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	w->segments = v;
	v[w->n_segments++] = (struct segment){ at, size };
	return 0;
}

/* 1: found, 0: there is no telling, or it is too much. */
static int seek_segments(struct layer_writer *w, int fd, int64_t size)
{
	for (int64_t at = 0, to; at < size; at = to) {
		int64_t from = lseek(fd, at, SEEK_DATA);

		if (from < 0)
			return errno == ENXIO;
		to = lseek(fd, from, SEEK_HOLE);
		if (to <= from || w->n_segments == SEGMENTS_MAX)
			return 0;
		if (to > size)
			to = size;
		if (from < to && add_segment(w, from, to - from) < 0)
			return -ENOMEM;
	}
	return 1;
}

/* Where the data is; one segment when holes are not worth it. */
static int find_segments(struct layer_writer *w, int fd, const struct stat *st)
{
	int64_t data = 0;
	int r = 0;

	w->n_segments = 0;
	if (st->st_blocks * 512 + HOLES_MIN <= st->st_size)
		r = seek_segments(w, fd, st->st_size);
	for (size_t i = 0; i < w->n_segments; i++)
		data += w->segments[i].size;
	if (r < 0 || (r && data + HOLES_MIN <= st->st_size))
		return r < 0 ? r : 0;
	w->n_segments = 0;
	return st->st_size ? add_segment(w, 0, st->st_size) : 0;
}

/* ---- data */

static int write_data(struct layer_writer *w, int fd, const struct segment *s, const char *path)
{
	for (int64_t at = s->at, end = s->at + s->size; at < end;) {
		size_t want = end - at < READ_BYTES ? (size_t)(end - at) : READ_BYTES;
		ssize_t n = pread(fd, w->buf, want, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return file_fault(w, errno, "read the file", path);
		if (n == 0)
			return changed(w, path);
		if (archive_write_data(w->archive, w->buf, (size_t)n) != n || w->failed)
			return archive_fault(w, path);
		if (store_cancelled(w->c) < 0)
			return -ECANCELED;
		store_progress_add(w->c->progress, (uint64_t)n);
		at += n;
	}
	return 0;
}

/* libarchive takes the holes' bytes too, and leaves them out. */
static int write_hole(struct layer_writer *w, int64_t size, const char *path)
{
	memset(w->buf, 0, sizeof(w->buf));
	while (size > 0) {
		size_t n = size < READ_BYTES ? (size_t)size : READ_BYTES;

		if (archive_write_data(w->archive, w->buf, n) != (la_ssize_t)n || w->failed)
			return archive_fault(w, path);
		if (store_cancelled(w->c) < 0)
			return -ECANCELED;
		size -= (int64_t)n;
	}
	return 0;
}

static int write_file(struct layer_writer *w, int fd, const struct stat *st, const char *path)
{
	int64_t at = 0;
	int r = 0;

	for (size_t i = 0; i < w->n_segments && !r; i++) {
		const struct segment *s = &w->segments[i];

		r = write_hole(w, s->at - at, path);
		if (!r)
			r = write_data(w, fd, s, path);
		at = s->at + s->size;
	}
	return r ? r : write_hole(w, st->st_size - at, path);
}

static int begin_file(struct layer_writer *w, int fd, const struct stat *st, const char *path)
{
	if (find_segments(w, fd, st) < 0)
		return file_fault(w, ENOMEM, "read the file", path);
	archive_entry_set_size(w->entry, st->st_size);
	if (w->n_segments == 1 && w->segments[0].size == st->st_size)
		return 0;
	for (size_t i = 0; i < w->n_segments; i++)
		archive_entry_sparse_add_entry(w->entry, w->segments[i].at, w->segments[i].size);
	if (!w->n_segments && st->st_size)
		archive_entry_sparse_add_entry(w->entry, st->st_size, 0);
	return 0;
}

/* ---- entries */

static int set_link(struct layer_writer *w, int folder, const char *name, const char *path)
{
	ssize_t n = readlinkat(folder, name, w->buf, PATH_MAX);

	if (n < 0)
		return file_fault(w, errno, "read the link", path);
	w->buf[n] = '\0';
	archive_entry_copy_symlink(w->entry, w->buf);
	return 0;
}

static int set_name(struct layer_writer *w, const char *path, bool folder)
{
	size_t n = strlen(path);

	if (n + 3 > PATH_MAX) {
		fault_set(w->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "the path '%.300s…' is longer than 4095 bytes", path);
		return -ENAMETOOLONG;
	}
	memcpy(w->buf, path, n + 1);
	if (!n)
		strcpy(w->buf, "./");
	else if (folder)
		strcpy(w->buf + n, "/");
	archive_entry_copy_pathname(w->entry, w->buf);
	return 0;
}

static int set_stat(struct layer_writer *w, const char *path, const struct stat *st,
		    const char *link)
{
	struct archive_entry *e = archive_entry_clear(w->entry);
	int r = set_name(w, path, S_ISDIR(st->st_mode));

	if (r < 0)
		return r;
	archive_entry_set_mode(e, st->st_mode);
	archive_entry_set_uid(e, st->st_uid);
	archive_entry_set_gid(e, st->st_gid);
	archive_entry_set_mtime(e, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(e, 0);
	if (link)
		archive_entry_copy_hardlink(e, link);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		archive_entry_set_rdevmajor(e, major(st->st_rdev));
		archive_entry_set_rdevminor(e, minor(st->st_rdev));
	}
	return 0;
}

/* libarchive keeps a list to which it adds at the front. */
/* libarchive writes all other bytes of a name as %XX, and no reader takes that back. */
static bool is_kept(const char *name)
{
	for (; *name; name++)
		if (*name <= ' ' || *name > '~' || *name == '%' || *name == '=')
			return false;
	return true;
}

static int set_xattrs(struct layer_writer *w, const struct layer_xattrs *xattrs, const char *path)
{
	for (size_t i = xattrs->n; i-- > 0;) {
		const struct layer_xattr *x = &xattrs->v[i];

		if (!is_kept(x->name)) {
			fault_set(
				w->c->f, FAULT_FAILED_PRECONDITION, 0,
				"'%.300s' has the extended attribute '%.255s', whose name cannot be in a layer: "
				"letters, digits and signs but %% and =",
				path, x->name);
			return -EINVAL;
		}
		archive_entry_xattr_add_entry(w->entry, x->name, x->value, x->size);
	}
	return 0;
}

static int write_header(struct layer_writer *w, const char *path)
{
	int r = archive_write_header(w->archive, w->entry);

	if ((r == ARCHIVE_OK || r == ARCHIVE_WARN) && !w->failed)
		return 0;
	return archive_fault(w, path);
}

/* Opened without following, and without waiting for a FIFO that has just taken its place. */
static int open_file(struct layer_writer *w, int folder, const char *name, struct stat *st,
		     const char *path, int *fd)
{
	struct stat now;

	*fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (*fd < 0)
		return errno == ENOENT || errno == ELOOP
			       ? changed(w, path)
			       : file_fault(w, errno, "open the file", path);
	if (fstat(*fd, &now) < 0)
		return file_fault(w, errno, "look at the file", path);
	if (!S_ISREG(now.st_mode))
		return changed(w, path);
	*st = now;
	return 0;
}

int layer_writer_entry(struct layer_writer *w, const char *path, int folder, const char *name,
		       const struct stat *st, const struct layer_xattrs *xattrs, const char *link)
{
	struct stat own = *st;
	CLEANUP_CLOSE int fd = -1;
	bool data = S_ISREG(st->st_mode) && !link;
	int r;

	if (layer_is_whiteout(st)) {
		fault_set(w->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "'%.300s' is the character device 0:0, which cannot be in a layer", path);
		return -EINVAL;
	}
	r = data ? open_file(w, folder, name, &own, path, &fd) : 0;
	if (!r)
		r = set_stat(w, path, &own, link);
	if (!r && S_ISLNK(own.st_mode) && !link)
		r = set_link(w, folder, name, path);
	if (!r && data)
		r = begin_file(w, fd, &own, path);
	if (r < 0)
		return r;
	r = link ? 0 : set_xattrs(w, xattrs, path);
	if (!r)
		r = write_header(w, path);
	if (!r && data)
		r = write_file(w, fd, &own, path);
	return r;
}

int layer_writer_whiteout(struct layer_writer *w, const char *path, bool opaque)
{
	static const struct stat none = { .st_mode = S_IFREG };
	char name[PATH_MAX + sizeof(WHITEOUT_OPAQUE) + 1];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) + 1 : 0;
	int r;

	if (opaque)
		snprintf(name, sizeof(name), "%s%s%s", path, *path ? "/" : "", WHITEOUT_OPAQUE);
	else
		snprintf(name, sizeof(name), "%.*s%s%s", (int)n, path, WHITEOUT, path + n);
	r = set_stat(w, name, &none, NULL);
	return r ? r : write_header(w, name);
}

int layer_writer_finish(struct layer_writer *w)
{
	if (archive_write_close(w->archive) == ARCHIVE_OK && !w->failed)
		return 0;
	return archive_fault(w, "the end");
}
