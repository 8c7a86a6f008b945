// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: applying an archive to a folder
 *
 * Two threads: one unpacks and hashes (layer_ring.c), the caller's reads the tar through libarchive
 * and writes files. libarchive gets the buffers as they are, so file data is copied once, by the
 * kernel. When the archive has ended, whatever is behind it is still hashed: the diff id is that of
 * the whole stream, padding and all.
 *
 * Nothing is synced: who makes the folder last does that for all of it at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

#define TAR_BLOCK 512u

void layer_result_clear(struct layer_result *r)
{
	free(r->implied);
	free(r->marked);
	memset(r, 0, sizeof(*r));
}

/* ---- the archive's bytes */

/*
 * The zeros behind the last file's data, which some writers leave out. Whether that was all that was
 * missing is looked at in the end (check_padding).
 */
static la_ssize_t give_padding(struct applier *a, const void **data)
{
	static const char zeros[TAR_BLOCK];

	if (!(a->tar_bytes % TAR_BLOCK))
		return 0;
	a->padding = TAR_BLOCK - a->tar_bytes % TAR_BLOCK;
	a->tar_bytes += a->padding;
	*data = zeros;
	return (la_ssize_t)a->padding;
}

/* libarchive is done with a piece when it asks for the next. */
static la_ssize_t give_tar(struct archive *archive, void *user, const void **data)
{
	struct applier *a = user;
	ssize_t n;

	if (cancelled(a->c->cancel)) {
		a->ring_failed = store_cancelled(a->c);
		a->ring_fault = *a->c->f;
		archive_set_error(archive, ECANCELED, "cancelled");
		return -1;
	}
	if (a->piece)
		layer_ring_release(a->ring);
	n = layer_ring_next(a->ring, data, &a->ring_fault);
	a->piece = n > 0;
	if (n < 0) {
		a->ring_failed = (int)n;
		archive_set_error(archive, EIO, "unpacking failed");
		return -1;
	}
	a->tar_bytes += (uint64_t)n;
	return n ? n : give_padding(a, data);
}

/* A file whose data ended before it should. */
static int check_padding(struct applier *a)
{
	uint64_t missing = a->last_size % TAR_BLOCK ? TAR_BLOCK - a->last_size % TAR_BLOCK : 0;

	if (a->padding <= missing)
		return 0;
	return layer_refuse(a, FAULT_FAILED_PRECONDITION, "the archive is truncated");
}

/* What is behind the archive's end. */
static int read_rest(struct applier *a)
{
	const void *data;
	ssize_t n;

	do {
		if (store_cancelled(a->c) < 0)
			return -ECANCELED;
		if (a->piece)
			layer_ring_release(a->ring);
		n = layer_ring_next(a->ring, &data, a->c->f);
		a->piece = n > 0;
	} while (n > 0);
	return (int)n;
}

/* ---- folders to come back to */

/* Adds a path and its NUL to a list. */
static int add_path(struct applier *a, char **list, size_t *used, size_t *room, const char *path)
{
	size_t size = strlen(path) + 1;

	if (layer_remember(a, size + 2 * sizeof(uint64_t)) < 0)
		return -E2BIG;
	/* of each power of two once */
	if (*room < *used + size) {
		size_t more = *room * 2 + size;
		char *grown = realloc(*list, more);

		if (!grown)
			return layer_entry_fault(a, ENOMEM, "remember the folder");
		*list = grown;
		*room = more;
	}
	memcpy(*list + *used, path, size);
	*used += size;
	return 0;
}

int layer_marked(struct applier *a, const char *folder)
{
	if (!a->overlay || layer_names_has(&a->marked, folder))
		return 0;
	if (layer_names_add(&a->marked, folder) < 0)
		return layer_entry_fault(a, ENOMEM, "remember the folder");
	return add_path(a, &a->out->marked, &a->out->marked_size, &a->marked_room, folder);
}

/* A folder was made that the layer has no entry for, perhaps in the place of a whiteout. */
static int folder_made(void *user, const char *path, bool replaced)
{
	struct applier *a = user;
	int r = add_path(a, &a->out->implied, &a->out->implied_size, &a->implied_room, path);

	if (!r && layer_names_add(&a->names, path) < 0)
		r = layer_entry_fault(a, ENOMEM, "remember the folder");
	if (!r && replaced) {
		CLEANUP_CLOSE int fd = layer_open_folder(a->root_fd, path);

		r = fd < 0 ? fd : layer_xattr_set(fd, NULL, OVERLAY_OPAQUE, "y", 1);
		if (r < 0)
			r = layer_entry_fault(a, -r, "make the folder opaque");
	}
	a->told = r < 0;
	a->out->inodes++;
	return r;
}

/* Drops those that have got an entry after all. */
static int settle_implied(struct applier *a)
{
	struct layer_names entered = { 0 };
	struct layer_result *out = a->out;
	size_t kept = 0;
	int r = 0;

	for (struct deferred *d = a->deferred; d && !r; d = d->next)
		r = layer_names_add(&entered, d->path);
	for (size_t at = 0, size; at < out->implied_size && !r; at += size) {
		size = strlen(out->implied + at) + 1;
		if (layer_names_has(&entered, out->implied + at))
			continue;
		memmove(out->implied + kept, out->implied + at, size);
		kept += size;
	}
	out->implied_size = kept;
	out->has_root = layer_names_has(&entered, "");
	layer_names_clear(&entered);
	return r < 0 ? layer_entry_fault(a, -r, "remember the folders") : 0;
}

/* ---- entries */

/* Only what says that a name is not UTF-8, which names need not be, is let pass. */
static bool is_damage(struct applier *a, int r)
{
	const char *why;

	if (r == ARCHIVE_OK)
		return false;
	why = archive_error_string(a->archive);
	return r != ARCHIVE_WARN || (why && !strncmp(why, "Ignoring malformed", 18));
}

static int apply_entries(struct applier *a)
{
	struct archive_entry *e = archive_entry_new();
	char path[PATH_MAX];
	const char *why, *name;
	int r = e ? 0 : layer_entry_fault(a, ENOMEM, "read the archive");

	while (!r) {
		int got;

		if (store_cancelled(a->c) < 0) {
			r = -ECANCELED;
			break;
		}
		a->behind = true;
		got = archive_read_next_header2(a->archive, e);
		if (got == ARCHIVE_EOF)
			break;
		if (is_damage(a, got)) {
			r = layer_archive_fault(a);
			break;
		}
		name = archive_entry_pathname(e);
		layer_entry_named(a, name && *name ? name : "(no name)");
		if (++a->entries > a->limits.entries) {
			layer_refuse(a, FAULT_RESOURCE_EXHAUSTED,
				     "the layer has more than %llu entries",
				     (unsigned long long)a->limits.entries);
			r = -E2BIG;
			break;
		}
		/* of a sparse file other bytes are in the archive, and a header is none of these */
		a->last_size = archive_entry_sparse_count(e) || archive_entry_hardlink(e) ||
					       archive_entry_filetype(e) != AE_IFREG
				       ? 0
				       : (uint64_t)archive_entry_size(e);
		why = name && *name ? layer_name_clean(name, path) : "it has no name";
		r = why ? layer_refuse(a, FAULT_FAILED_PRECONDITION, "%s", why)
			: layer_entry_apply(a, e, path);
	}
	if (!r && !a->padding)
		layer_entry_named(a, NULL);
	archive_entry_free(e);
	return r;
}

static int open_archive(struct applier *a)
{
	a->archive = archive_read_new();
	if (!a->archive)
		return layer_entry_fault(a, ENOMEM, "read the archive");
	if (archive_read_support_format_tar(a->archive) != ARCHIVE_OK ||
	    archive_read_support_format_empty(a->archive) != ARCHIVE_OK ||
	    archive_read_open(a->archive, a, NULL, give_tar, NULL) != ARCHIVE_OK)
		return layer_archive_fault(a);
	return 0;
}

static int apply(struct applier *a)
{
	struct layer_locale locale;
	int r = layer_locale_enter(&locale);

	if (r < 0)
		return layer_entry_fault(a, -r, "read the archive");
	r = open_archive(a);
	if (!r)
		r = apply_entries(a);
	if (!r)
		r = check_padding(a);
	if (!r)
		r = layer_entries_finish(a);
	if (!r)
		r = read_rest(a);
	if (!r && layer_ring_digest(a->ring, &a->out->diff_id, &a->out->size) < 0)
		r = layer_entry_fault(a, ENOMEM, "hash the layer");
	if (!r)
		r = settle_implied(a);
	archive_read_free(a->archive);
	layer_locale_leave(&locale);
	return r;
}

/* ---- all */

static void applier_clear(struct applier *a)
{
	struct deferred *d;

	while ((d = a->deferred)) {
		a->deferred = d->next;
		free(d->acl);
		free(d);
	}
	layer_dirs_free(a->dirs);
	layer_names_clear(&a->marked);
	layer_names_clear(&a->names);
	if (a->root_fd >= 0)
		close(a->root_fd);
}

static uint64_t limit_or(uint64_t limit, uint64_t usual)
{
	return limit ? limit : usual;
}

/* What the media type promises; plain octets may be anything. */
static int check_compression(struct layer_stream *s, enum layer_compression said, struct fault *f)
{
	enum layer_compression is = layer_stream_kind(s);

	/* either of them is told by its beginning, whatever it was called */
	if (said == LAYER_NONE || is != LAYER_NONE)
		return 0;
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "the layer is not packed with %s",
		  said == LAYER_GZIP ? "gzip" : "zstd");
	return -EBADMSG;
}

int layer_apply(struct store_call *c, int fd, enum layer_compression compression, int root_fd,
		enum layer_target target, const struct layer_limits *limits,
		struct layer_result *out)
{
	static const struct layer_limits none;
	struct applier a = { .c = c, .overlay = target == LAYER_OVERLAY, .out = out };
	struct layer_stream *stream = NULL;
	int r;

	memset(out, 0, sizeof(*out));
	if (!limits)
		limits = &none;
	a.limits.bytes = limit_or(limits->bytes, LIMIT_LAYER_BYTES);
	a.limits.entries = limit_or(limits->entries, LIMIT_LAYER_ENTRIES);
	a.limits.ratio = limit_or(limits->ratio, LIMIT_LAYER_RATIO);
	a.limits.memory = limit_or(limits->memory, LIMIT_LAYER_MEMORY);
	a.deferred_last = &a.deferred;
	a.root_fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (a.root_fd < 0)
		return fault_sys(c->f, errno, "open the layer's folder", NULL);
	r = layer_dirs_new(&a.dirs, a.root_fd, folder_made, &a);
	if (r < 0)
		r = fault_sys(c->f, -r, "unpack the layer", NULL);
	if (!r)
		r = layer_stream_new(&stream, fd, c->progress, c->f);
	if (!r)
		r = check_compression(stream, compression, c->f);
	if (!r)
		r = layer_ring_new(&a.ring, stream, a.limits.ratio, c->f);
	if (!r)
		r = apply(&a);
	layer_ring_free(a.ring);
	layer_stream_free(stream);
	out->bytes = a.bytes;
	applier_clear(&a);
	if (r < 0)
		layer_result_clear(out);
	return r;
}
