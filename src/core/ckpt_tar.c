// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: writing their archives
 *
 * A tar as libarchive writes it, plain or through its zstd or gzip, with nothing in it that depends
 * on when it was written. Its fd is a stranger's (store/image_io.h). A tar within a tar needs its
 * size before its bytes: such a one is written twice, the first time only to be counted, so that
 * neither is ever kept anywhere.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/ckpt_formats.h"
#include "store/image_io.h"

#define OUT (256u << 10) /* gathered before it is written */

struct ckpt_tar {
	struct store_call *c;
	struct archive *a;
	struct image_io *io; /* NULL: not to an fd */
	layer_write_fn tap;
	void *user;
	uint64_t written;
	int failed; /* no more is written; the call's fault says why */
	size_t n_out;
	char out[OUT];
};

void ckpt_locale_enter(struct ckpt_locale *l)
{
	/* one that is not there changes nothing: then names pass as bytes */
	l->mine = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	if (l->mine)
		l->before = uselocale(l->mine);
}

void ckpt_locale_leave(struct ckpt_locale *l)
{
	if (!l->mine)
		return;
	uselocale(l->before);
	freelocale(l->mine);
	l->mine = (locale_t)0;
}

static int flush(struct ckpt_tar *t)
{
	int r = 0;

	if (t->n_out && t->io)
		r = image_io_write(t->c, t->io, t->out, t->n_out);
	t->n_out = 0;
	return r;
}

static int put_out(struct ckpt_tar *t, const char *data, size_t size)
{
	int r = store_cancelled(t->c);

	t->written += size;
	if (!r && t->tap)
		r = t->tap(t->user, data, size, t->c->f);
	while (!r && t->io && size) {
		size_t n = sizeof(t->out) - t->n_out;

		n = n < size ? n : size;
		memcpy(t->out + t->n_out, data, n);
		t->n_out += n;
		data += n;
		size -= n;
		if (t->n_out == sizeof(t->out))
			r = flush(t);
	}
	return r;
}

/*
 * libarchive is not told of a failure: it would give up at once, and then never free what it has for
 * its client. Whoever calls it looks at `failed`.
 */
static la_ssize_t on_write(struct archive *a, void *user, const void *data, size_t size)
{
	struct ckpt_tar *t = user;

	(void)a;
	if (!t->failed)
		t->failed = put_out(t, data, size);
	return (la_ssize_t)size;
}

static int tar_fault(struct ckpt_tar *t)
{
	const char *text = archive_error_string(t->a);

	if (t->failed)
		return t->failed;
	if (archive_errno(t->a) == ENOMEM)
		return t->failed = checkpoint_no_memory(t->c->f);
	fault_set(t->c->f, FAULT_INTERNAL, 0, "the archive cannot be written: %s",
		  text ? text : "unknown error");
	return t->failed = -EIO;
}

static int add_filter(struct archive *a, enum layer_compression compression)
{
	switch (compression) {
	case LAYER_ZSTD:
		return archive_write_add_filter_zstd(a);
	case LAYER_GZIP:
		/* no time, so that the same checkpoint gives the same bytes */
		return archive_write_add_filter_gzip(a) < ARCHIVE_WARN
			       ? ARCHIVE_FATAL
			       : archive_write_set_filter_option(a, "gzip", "timestamp", NULL);
	case LAYER_NONE:
		break;
	}
	return ARCHIVE_OK;
}

int ckpt_tar_new(struct ckpt_tar **out, struct store_call *c, int fd,
		 enum layer_compression compression)
{
	struct ckpt_tar *t = calloc(1, sizeof(*t));
	int r = 0;

	*out = NULL;
	if (!t)
		return checkpoint_no_memory(c->f);
	t->c = c;
	t->a = archive_write_new();
	if (!t->a || archive_write_set_format_pax_restricted(t->a) < ARCHIVE_WARN ||
	    archive_write_set_bytes_per_block(t->a, 0) < ARCHIVE_WARN ||
	    add_filter(t->a, compression) < ARCHIVE_WARN)
		r = checkpoint_no_memory(c->f);
	if (!r && fd >= 0)
		r = image_io_open(&t->io, fd, true, c->f);
	if (!r && archive_write_open(t->a, t, NULL, on_write, NULL) != ARCHIVE_OK)
		r = tar_fault(t);
	if (r < 0) {
		ckpt_tar_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void ckpt_tar_free(struct ckpt_tar *t)
{
	if (!t)
		return;
	/* nothing more is to be written, not even an end */
	if (!t->failed)
		t->failed = -ECANCELED;
	if (t->a)
		archive_write_free(t->a);
	image_io_free(t->io);
	free(t);
}

void ckpt_tar_tap(struct ckpt_tar *t, layer_write_fn put, void *user)
{
	t->tap = put;
	t->user = user;
}

int ckpt_tar_entry(struct ckpt_tar *t, struct archive_entry *e)
{
	int r = archive_write_header(t->a, e);

	return r < ARCHIVE_WARN || t->failed ? tar_fault(t) : 0;
}

static int put_header(struct ckpt_tar *t, const char *name, unsigned type, unsigned mode,
		      uint64_t size)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return t->failed = checkpoint_no_memory(t->c->f);
	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, (mode_t)mode);
	archive_entry_set_size(e, (int64_t)size);
	archive_entry_set_mtime(e, 0, 0);
	archive_entry_set_uid(e, 0);
	archive_entry_set_gid(e, 0);
	r = ckpt_tar_entry(t, e);
	archive_entry_free(e);
	return r;
}

int ckpt_tar_folder(struct ckpt_tar *t, const char *name)
{
	return put_header(t, name, AE_IFDIR, 0700, 0);
}

int ckpt_tar_header(struct ckpt_tar *t, const char *name, uint64_t size)
{
	return put_header(t, name, AE_IFREG, 0600, size);
}

int ckpt_tar_data(void *user, const void *data, size_t size, struct fault *f)
{
	struct ckpt_tar *t = user;
	la_ssize_t n = size ? archive_write_data(t->a, data, size) : 0;

	(void)f;
	return n < 0 || (size_t)n != size || t->failed ? tar_fault(t) : 0;
}

int ckpt_tar_file(struct ckpt_tar *t, const char *name, const void *data, size_t size)
{
	int r = ckpt_tar_header(t, name, size);

	return r < 0 ? r : ckpt_tar_data(t, data, size, t->c->f);
}

int ckpt_tar_close(struct ckpt_tar *t, uint64_t *size)
{
	int r = 0;

	if (archive_write_close(t->a) < ARCHIVE_WARN || t->failed)
		r = tar_fault(t);
	if (!r)
		r = flush(t);
	*size = t->written;
	return r;
}
