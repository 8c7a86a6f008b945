// SPDX-License-Identifier: Apache-2.0
/*
 * Export: writing the archive
 *
 * A tar as libarchive writes it, ustar where that is enough, with nothing in it that depends on who,
 * where or when: owner 0, time 0, fixed modes, entries in the order of their names. Blobs are hashed
 * while they are read, so that a damaged one is an error here and not a surprise elsewhere.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "store/image_export_internal.h"

#define PIECE (1u << 20)
#define OUT (64u << 10) /* headers are gathered */
#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
static const char LAYOUT[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

struct writer {
	struct export_plan *p;
	struct store_call *c;
	struct archive *a;
	struct image_io *io;
	struct hasher *hasher;
	uint64_t written;
	int failed; /* no more is written; the call's fault says why */
	size_t n_out;
	char out[OUT], buf[PIECE];
};

static int flush(struct writer *w)
{
	int r = w->n_out ? image_io_write(w->c, w->io, w->out, w->n_out) : 0;

	w->written += w->n_out;
	w->n_out = 0;
	return r;
}

static int put_out(struct writer *w, const void *data, size_t size)
{
	int r = w->n_out + size > sizeof(w->out) ? flush(w) : 0;

	if (r < 0)
		return r;
	if (size <= sizeof(w->out)) {
		memcpy(w->out + w->n_out, data, size);
		w->n_out += size;
		return 0;
	}
	w->written += size;
	return image_io_write(w->c, w->io, data, size);
}

/*
 * libarchive is not told of a failure: it would give up at once, and then never free what it has for
 * its client. Whoever calls it looks at `failed`.
 */
static la_ssize_t on_write(struct archive *a, void *user, const void *data, size_t size)
{
	struct writer *w = user;

	(void)a;
	if (!w->failed)
		w->failed = put_out(w, data, size);
	return (la_ssize_t)size;
}

static int tar_fault(struct writer *w)
{
	const char *text = archive_error_string(w->a);

	if (w->failed)
		return w->failed;
	if (archive_errno(w->a) == ENOMEM)
		return image_no_memory(w->c->f);
	fault_set(w->c->f, FAULT_INTERNAL, 0, "the archive cannot be written: %s",
		  text ? text : "unknown error");
	return -EIO;
}

static int put_header(struct writer *w, const char *name, unsigned type, unsigned mode,
		      uint64_t size)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return image_no_memory(w->c->f);
	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, (mode_t)mode);
	archive_entry_set_size(e, (int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	archive_entry_set_uid(e, 0);
	archive_entry_set_gid(e, 0);
	r = archive_write_header(w->a, e);
	archive_entry_free(e);
	return r < ARCHIVE_WARN || w->failed ? tar_fault(w) : 0;
}

static int put_data(struct writer *w, const void *data, size_t size)
{
	la_ssize_t n = archive_write_data(w->a, data, size);

	return n < 0 || (size_t)n != size || w->failed ? tar_fault(w) : 0;
}

static int put_text(struct writer *w, const char *name, const char *text)
{
	size_t n = strlen(text);
	int r = put_header(w, name, AE_IFREG, 0644, n);

	return r < 0 ? r : put_data(w, text, n);
}

static int put_json(struct writer *w, const char *name, json_object *json)
{
	const char *text = json_object_to_json_string_ext(json, PLAIN);

	return text ? put_text(w, name, text) : image_no_memory(w->c->f);
}

/* Bytes of the blob, unpacked if need be; 0 at the end. */
static ssize_t get_data(struct writer *w, int fd, struct layer_stream *stream)
{
	ssize_t n;

	if (stream)
		return layer_stream_read(stream, w->buf, sizeof(w->buf), w->c->f);
	do
		n = read(fd, w->buf, sizeof(w->buf));
	while (n < 0 && errno == EINTR);
	return n < 0 ? fault_sys(w->c->f, errno, "read the content", NULL) : n;
}

static int put_stream(struct writer *w, const struct export_blob *b, int fd,
		      struct layer_stream *stream)
{
	struct digest found;
	uint64_t size = 0;
	ssize_t n;
	int r = 0;

	hasher_reset(w->hasher);
	while (!r && (n = get_data(w, fd, stream)) != 0) {
		if (n < 0)
			return (int)n;
		size += (uint64_t)n;
		if (size > b->size)
			break;
		hasher_add(w->hasher, w->buf, (size_t)n);
		r = put_data(w, w->buf, (size_t)n);
		store_progress_add(w->c->progress, (uint64_t)n);
		if (!r)
			r = store_cancelled(w->c);
	}
	if (r < 0)
		return r;
	if (hasher_digest(w->hasher, &found) < 0)
		return image_no_memory(w->c->f);
	if (size == b->size && !strcmp(found.text, b->digest.text))
		return 0;
	fault_set(w->c->f, FAULT_FAILED_PRECONDITION, 0,
		  "the content %s is damaged: its digest is %s",
		  *b->packed.text ? b->packed.text : b->digest.text, found.text);
	return -EBADMSG;
}

static int put_blob(struct writer *w, const struct export_blob *b)
{
	char name[sizeof("blobs/sha256/") + DIGEST_HEX];
	struct layer_stream *stream = NULL;
	CLEANUP_CLOSE int fd = -1;
	int r;

	snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(&b->digest));
	if (b->text)
		return put_text(w, name, b->text);
	r = content_open(w->c, *b->packed.text ? b->packed.text : b->digest.text, &fd, NULL);
	if (!r && *b->packed.text)
		r = layer_stream_open(&stream, fd, w->c->f);
	if (!r)
		r = put_header(w, name, AE_IFREG, 0644, b->size);
	if (!r)
		r = put_stream(w, b, fd, stream);
	layer_stream_free(stream);
	return r;
}

static int put_all(struct writer *w)
{
	struct export_plan *p = w->p;
	int r = put_header(w, "blobs/", AE_IFDIR, 0755, 0);

	if (!r)
		r = put_header(w, "blobs/sha256/", AE_IFDIR, 0755, 0);
	for (size_t i = 0; !r && i < p->n_blobs; i++)
		r = put_blob(w, &p->blobs[i]);
	if (!r)
		r = put_json(w, "index.json", p->index);
	if (!r && p->docker)
		r = put_json(w, "manifest.json", p->docker);
	if (!r)
		r = put_text(w, "oci-layout", LAYOUT);
	if (!r && (archive_write_close(w->a) < ARCHIVE_WARN || w->failed))
		r = tar_fault(w);
	return r ? r : flush(w);
}

int export_write(struct export_plan *p, int fd, uint64_t *size)
{
	struct writer *w = calloc(1, sizeof(*w));
	int r = 0;

	if (!w)
		return image_no_memory(p->c->f);
	w->p = p;
	w->c = p->c;
	w->a = archive_write_new();
	if (!w->a || hasher_new(&w->hasher) < 0 ||
	    archive_write_set_format_pax_restricted(w->a) < ARCHIVE_WARN ||
	    archive_write_set_bytes_per_block(w->a, 0) < ARCHIVE_WARN)
		r = image_no_memory(p->c->f);
	if (!r)
		r = image_io_open(&w->io, fd, true, p->c->f);
	if (!r) {
		store_progress_phase(p->c->progress, "write", p->total);
		if (archive_write_open(w->a, w, NULL, on_write, NULL) != ARCHIVE_OK)
			r = tar_fault(w);
		else
			r = put_all(w);
	}
	*size = w->written;
	/* after a failure nothing more is to be written, not even an end */
	w->failed = r;
	if (w->a)
		archive_write_free(w->a);
	image_io_free(w->io);
	hasher_free(w->hasher);
	free(w);
	return r;
}
