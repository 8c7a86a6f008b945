// SPDX-License-Identifier: Apache-2.0
/*
 * criu's small image files, out of their tar
 *
 * The way back of capture_small.c, with input that may be anybody's. libarchive takes the tar apart;
 * the bytes come to it through a source of our own, which unpacks zstd, bounds the whole, and sees to
 * it that the stream has a proper end: libarchive would take a tar that is cut off between two
 * entries for a shorter one.
 */
#include "checkpoint/files_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "checkpoint/wire.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define CHUNK (64u << 10)
#define TAR_BLOCK 512u
#define TAR_END 1024u /* zeros at the end of a tar, at least */
#define WINDOW_LOG_MOST 27 /* 128 MiB of memory: what zstd's own tools take */

/* ---- the list */

struct serve_file *ckpt_files_add(struct serve_files *files, const char *name, size_t n_parts)
{
	size_t n = files->n;
	struct serve_file *file;

	/* grows when it is full, which is at powers of two */
	if (!(n & (n - 1))) {
		struct serve_file *grown = reallocarray(files->v, n ? n * 2 : 1, sizeof(*files->v));

		if (!grown)
			return NULL;
		files->v = grown;
	}
	file = &files->v[n];
	*file = (struct serve_file){ .name = strdup(name),
				     .parts = calloc(n_parts, sizeof(*file->parts)) };
	if (!file->name || !file->parts) {
		free(file->name);
		free(file->parts);
		return NULL;
	}
	files->n++;
	return file;
}

int ckpt_files_add_data(struct serve_files *files, const char *name, void *data, size_t size)
{
	struct serve_file *file = ckpt_files_add(files, name, 1);

	if (!file) {
		free(data);
		return -ENOMEM;
	}
	file->parts[0] = (struct serve_part){ .fd = -1, .size = size, .data = data, .digest = "" };
	file->n_parts = 1;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct serve_file *)a)->name, ((const struct serve_file *)b)->name);
}

const char *ckpt_files_sort(struct serve_files *files)
{
	if (!files->n)
		return NULL;
	qsort(files->v, files->n, sizeof(*files->v), by_name);
	for (size_t i = 1; i < files->n; i++)
		if (!strcmp(files->v[i - 1].name, files->v[i].name))
			return files->v[i].name;
	return NULL;
}

const struct serve_file *ckpt_files_find(const struct serve_files *files, const char *name)
{
	struct serve_file key = { .name = (char *)name };

	return files->n ? bsearch(&key, files->v, files->n, sizeof(*files->v), by_name) : NULL;
}

/* ---- the source of bytes */

struct source {
	int fd;
	const char *digest;
	struct fault *f;
	int result; /* negative: the fault is set */
	ZSTD_DStream *zstd; /* NULL: plain */
	ZSTD_inBuffer in;
	size_t in_frame; /* of zstd: 0 between frames */
	bool begun, input_ended, ended;
	uint64_t total; /* bytes of the tar */
	uint64_t zeros; /* at its end so far */
	uint64_t entries_end; /* where the last entry ends, or before that */
	unsigned char packed[CHUNK], out[CHUNK];
};

static int damaged(struct source *s, const char *why)
{
	fault_set(s->f, FAULT_FAILED_PRECONDITION, 0,
		  "the image files of the checkpoint (%s) are damaged: %s", s->digest, why);
	return s->result = -EBADMSG;
}

static int failed(struct source *s, int err, const char *step)
{
	return s->result = fault_sys(s->f, err, step, "the image files of the checkpoint");
}

static int fill(struct source *s)
{
	size_t size = 0;

	if (s->in.pos < s->in.size || s->input_ended)
		return 0;
	while (size < CHUNK) {
		ssize_t n = read(s->fd, s->packed + size, CHUNK - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return failed(s, errno, "read");
		if (!n) {
			s->input_ended = true;
			break;
		}
		size += (size_t)n;
	}
	s->in = (ZSTD_inBuffer){ .src = s->packed, .size = size };
	return 0;
}

static int begin(struct source *s)
{
	static const unsigned char magic[] = { 0x28, 0xb5, 0x2f, 0xfd };

	s->begun = true;
	if (fill(s) < 0)
		return s->result;
	if (s->in.size < sizeof(magic) || memcmp(s->packed, magic, sizeof(magic)) != 0)
		return 0;
	s->zstd = ZSTD_createDStream();
	if (!s->zstd)
		return failed(s, ENOMEM, "unpack");
	ZSTD_DCtx_setParameter(s->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MOST);
	return 0;
}

/* Bytes unpacked into out, 0 at the end, negative. */
static ssize_t unpack(struct source *s)
{
	ZSTD_outBuffer out = { .dst = s->out, .size = CHUNK };

	while (!out.pos) {
		if (fill(s) < 0)
			return s->result;
		if (s->in.pos == s->in.size && s->input_ended && !s->in_frame)
			return 0;
		size_t before = s->in.pos;

		s->in_frame = ZSTD_decompressStream(s->zstd, &out, &s->in);
		if (ZSTD_isError(s->in_frame))
			return damaged(s, ZSTD_getErrorName(s->in_frame));
		if (!out.pos && s->in.pos == before && s->input_ended)
			return damaged(s, "they are cut off");
	}
	return (ssize_t)out.pos;
}

static ssize_t plain(struct source *s)
{
	size_t n;

	if (fill(s) < 0)
		return s->result;
	n = s->in.size - s->in.pos;
	memcpy(s->out, (const unsigned char *)s->in.src + s->in.pos, n);
	s->in.pos = s->in.size;
	return (ssize_t)n;
}

/* The next bytes of the tar, in s->out. */
static ssize_t next(struct source *s)
{
	ssize_t n;

	if (s->result < 0 || s->ended)
		return s->result;
	if (!s->begun && begin(s) < 0)
		return s->result;
	n = s->zstd ? unpack(s) : plain(s);
	if (n < 0)
		return n;
	s->ended = !n;
	s->total += (uint64_t)n;
	if (s->total > LIMIT_CHECKPOINT_FILES_BYTES)
		return damaged(s, "they are larger than image files in a tar may be");
	for (ssize_t i = n; i > 0; i--)
		if (s->out[i - 1]) {
			s->zeros = (uint64_t)(n - i);
			return n;
		}
	s->zeros += (uint64_t)n;
	return n;
}

static la_ssize_t on_read(struct archive *a, void *user, const void **data)
{
	struct source *s = user;
	ssize_t n = next(s);

	if (n < 0)
		archive_set_error(a, EIO, "the blob cannot be read");
	*data = s->out;
	return n < 0 ? -1 : n;
}

/* What is behind the last entry: nothing but the end. */
static int check_end(struct source *s)
{
	ssize_t n;

	while ((n = next(s)) > 0)
		;
	if (n < 0)
		return (int)n;
	if (s->zeros < TAR_END || s->total < s->entries_end + TAR_END || s->total % TAR_BLOCK)
		return damaged(s, "they are cut off");
	return 0;
}

/* ---- entries */

static int entry_data(struct source *s, struct archive *a, size_t size, void **out)
{
	char *data = malloc(size + 1);
	size_t done = 0;

	*out = data;
	if (!data)
		return failed(s, ENOMEM, "read");
	while (done < size) {
		la_ssize_t n = archive_read_data(a, data + done, size - done);

		if (n < 0)
			return s->result < 0 ? s->result : damaged(s, archive_error_string(a));
		if (!n)
			return damaged(s, "an entry is shorter than it says");
		done += (size_t)n;
	}
	return 0;
}

static int add_entry(struct source *s, struct archive *a, struct archive_entry *e,
		     struct serve_files *files, uint64_t *sum)
{
	const char *name = archive_entry_pathname(e);
	CLEANUP_FREE void *data = NULL;
	uint64_t size;
	int r;

	if (!name || !wire_name_valid(name, strlen(name)))
		return damaged(s, "an entry has a name that no image file has");
	if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e) ||
	    !archive_entry_size_is_set(e) || archive_entry_size(e) < 0)
		return damaged(s, "an entry is no regular file");
	size = (uint64_t)archive_entry_size(e);
	if (size > LIMIT_CHECKPOINT_FILES_BYTES - *sum)
		return damaged(s, "they are larger than image files in a tar may be");
	*sum += size;
	s->entries_end = (uint64_t)archive_read_header_position(a) + TAR_BLOCK +
			 (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
	if (files->n >= LIMIT_CHECKPOINT_FILES)
		return damaged(s, "there are more than a checkpoint may have");
	r = entry_data(s, a, size, &data);
	if (r < 0)
		return r;
	if (ckpt_files_add_data(files, name, TAKE_PTR(data), size) < 0)
		return failed(s, ENOMEM, "read");
	return 0;
}

static int read_tar(struct source *s, struct archive *a, struct serve_files *files)
{
	struct archive_entry *e;
	uint64_t sum = 0;
	int r = 0, step;

	if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
	    archive_read_open(a, s, NULL, on_read, NULL) != ARCHIVE_OK)
		return s->result < 0 ? s->result : damaged(s, archive_error_string(a));
	while (!r && (step = archive_read_next_header(a, &e)) == ARCHIVE_OK)
		r = add_entry(s, a, e, files, &sum);
	if (r < 0 || s->result < 0)
		return r < 0 ? r : s->result;
	if (step != ARCHIVE_EOF)
		return damaged(s, archive_error_string(a) ? archive_error_string(a) : "no tar");
	return check_end(s);
}

int ckpt_files_tar(struct serve_files *files, int fd, const char *digest, struct fault *f)
{
	struct archive *a = archive_read_new();
	struct source *s = calloc(1, sizeof(*s));
	const char *twice;
	int r;

	if (a && s) {
		s->fd = fd;
		s->digest = digest;
		s->f = f;
		r = read_tar(s, a, files);
		twice = r < 0 ? NULL : ckpt_files_sort(files);
		if (twice) {
			r = damaged(s, "an entry is there twice");
			fault_at(f, NULL, twice);
		}
		ZSTD_freeDStream(s->zstd);
	} else {
		r = fault_sys(f, ENOMEM, "read", "the image files of the checkpoint");
	}
	archive_read_free(a);
	free(s);
	return r;
}
