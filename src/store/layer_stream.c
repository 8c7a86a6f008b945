// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: unpacking their compression
 *
 * What a stream is packed with is seen in its first bytes, which are read when it is opened. Plain
 * data goes into the reader's buffer as it is, zstd through libzstd, which takes any number of
 * frames and skippable ones between them, gzip through libarchive, which takes any number of
 * members. An end in the middle of a frame or a member is an error: without one, everything up to
 * the end of the input has been read.
 *
 * A stream belongs to one thread at a time. The fd stays its opener's.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

#define PACKED_BYTES (256u << 10)

struct layer_stream {
	int fd;
	enum layer_compression kind;
	struct store_progress *progress; /* may be NULL */
	struct archive *gzip;
	ZSTD_DCtx *zstd;
	ZSTD_inBuffer in; /* what was read and not yet taken, in `packed` */
	size_t zstd_left; /* 0: between frames */
	bool input_ended, ended;
	int err; /* of reading, positive */
	uint64_t bytes_in;
	unsigned char packed[PACKED_BYTES];
};

/* ---- media types */

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && !strcmp(text + n - m, end);
}

int layer_media_type(const char *media_type, enum layer_compression *out, struct fault *f)
{
	static const char *const plain[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
	};

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		size_t n = strlen(plain[i]);
		const char *suffix = media_type + n;

		if (strncmp(media_type, plain[i], n) != 0)
			continue;
		if (!*suffix)
			*out = LAYER_NONE;
		else if (!strcmp(suffix, "+gzip") || !strcmp(suffix, ".gzip"))
			*out = LAYER_GZIP;
		else if (!strcmp(suffix, "+zstd") || !strcmp(suffix, ".zstd"))
			*out = LAYER_ZSTD;
		else
			continue;
		return 0;
	}
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "'%s' is no media type of a layer%s", media_type,
		  ends_with(media_type, "+encrypted") ? " that can be read: it is encrypted" : "");
	return -EINVAL;
}

/* ---- packed bytes */

/* Fills `in` when it is empty; less than that many bytes only at the end. -errno. */
static int fill(struct layer_stream *s)
{
	size_t size = 0;

	if (s->in.pos < s->in.size || s->input_ended)
		return 0;
	while (size < sizeof(s->packed)) {
		ssize_t n = read(s->fd, s->packed + size, sizeof(s->packed) - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -(s->err = errno);
		if (n == 0) {
			s->input_ended = true;
			break;
		}
		size += (size_t)n;
	}
	s->in = (ZSTD_inBuffer){ .src = s->packed, .size = size };
	s->bytes_in += size;
	store_progress_add(s->progress, size);
	return 0;
}

static int read_fault(const struct layer_stream *s, struct fault *f)
{
	return fault_sys(f, s->err, "read the packed data", NULL);
}

static int damaged(struct fault *f, const char *kind, const char *why)
{
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "the %s data is damaged: %s", kind, why);
	return -EBADMSG;
}

static bool begins(const struct layer_stream *s, const char *magic, size_t n)
{
	return s->in.size >= n && !memcmp(s->packed, magic, n);
}

/* RFC 8878: a frame, or a skippable one, 0x184D2A50 to 0x184D2A5F */
static bool begins_zstd(const struct layer_stream *s)
{
	return begins(s, "\x28\xb5\x2f\xfd", 4) ||
	       (s->in.size >= 4 && (s->packed[0] & 0xf0) == 0x50 &&
		!memcmp(s->packed + 1, "\x2a\x4d\x18", 3));
}

/* ---- gzip */

static la_ssize_t give_packed(struct archive *a, void *user, const void **data)
{
	struct layer_stream *s = user;
	size_t n;

	if (fill(s) < 0) {
		archive_set_error(a, s->err, "read");
		return -1;
	}
	*data = (const unsigned char *)s->in.src + s->in.pos;
	n = s->in.size - s->in.pos;
	s->in.pos = s->in.size;
	return (la_ssize_t)n;
}

static int gzip_fault(struct layer_stream *s, struct fault *f)
{
	const char *why = archive_error_string(s->gzip);

	if (s->err)
		return read_fault(s, f);
	if (archive_errno(s->gzip) == ENOMEM)
		return fault_sys(f, ENOMEM, "unpack gzip", NULL);
	return damaged(f, "gzip", why ? why : "unknown reason");
}

/* What is left behind a text in the header, NULL when it does not end. */
static const unsigned char *behind_text(const unsigned char *p, const unsigned char *end)
{
	p = p < end ? memchr(p, 0, (size_t)(end - p)) : NULL;
	return p ? p + 1 : NULL;
}

/*
 * RFC 1952. libarchive takes what has no good header for the end of the data, as it may be behind
 * a member; at the beginning it is damage. There has to be room for the trailer as well.
 */
static bool gzip_header(const struct layer_stream *s)
{
	enum { CRC = 2, EXTRA = 4, NAME = 8, COMMENT = 16, RESERVED = 0xe0 };
	const unsigned char *p = s->packed, *end = p + s->in.size;
	unsigned flags;

	if (s->in.size < 18 || p[2] != 8 || (p[3] & RESERVED))
		return false;
	flags = p[3];
	p += 10;
	if (flags & EXTRA) {
		size_t n = 2 + p[0] + 256u * p[1];

		if (n > (size_t)(end - p))
			return false;
		p += n;
	}
	if (flags & NAME)
		p = behind_text(p, end);
	if (p && (flags & COMMENT))
		p = behind_text(p, end);
	if (p && (flags & CRC))
		p += 2;
	return p && p + 8 <= end;
}

/* One filter, and only one: what is in there may look like gzip again. */
static int gzip_open(struct layer_stream *s, struct fault *f)
{
	struct archive_entry *entry;
	int r;

	if (!gzip_header(s))
		return damaged(f, "gzip", "its header is not valid");
	s->gzip = archive_read_new();
	if (!s->gzip)
		return fault_sys(f, ENOMEM, "unpack gzip", NULL);
	if (archive_read_append_filter(s->gzip, ARCHIVE_FILTER_GZIP) != ARCHIVE_OK ||
	    archive_read_support_format_raw(s->gzip) != ARCHIVE_OK ||
	    archive_read_support_format_empty(s->gzip) != ARCHIVE_OK ||
	    archive_read_open(s->gzip, s, NULL, give_packed, NULL) != ARCHIVE_OK)
		return gzip_fault(s, f);
	/* data that cannot be unpacked looks empty to the formats' choice, which passes over it */
	if (archive_errno(s->gzip) || s->err)
		return gzip_fault(s, f);
	r = archive_read_next_header(s->gzip, &entry);
	if (r == ARCHIVE_EOF)
		s->ended = true;
	else if (r != ARCHIVE_OK)
		return gzip_fault(s, f);
	return 0;
}

static ssize_t gzip_read(struct layer_stream *s, void *buf, size_t size, struct fault *f)
{
	la_ssize_t n = archive_read_data(s->gzip, buf, size);

	return n < 0 ? gzip_fault(s, f) : n;
}

/* ---- zstd */

static int zstd_open(struct layer_stream *s, struct fault *f)
{
	s->zstd = ZSTD_createDCtx();
	return s->zstd ? 0 : fault_sys(f, ENOMEM, "unpack zstd", NULL);
}

static ssize_t zstd_read(struct layer_stream *s, void *buf, size_t size, struct fault *f)
{
	ZSTD_outBuffer out = { .dst = buf, .size = size };

	while (!out.pos) {
		size_t r;

		if (fill(s) < 0)
			return read_fault(s, f);
		if (s->in.pos == s->in.size && !s->zstd_left)
			return 0;
		r = ZSTD_decompressStream(s->zstd, &out, &s->in);
		if (ZSTD_isError(r)) {
			if (ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
				return fault_sys(f, ENOMEM, "unpack zstd", NULL);
			return damaged(f, "zstd", ZSTD_getErrorName(r));
		}
		s->zstd_left = r;
		if (r && !out.pos && s->in.pos == s->in.size && s->input_ended)
			return damaged(f, "zstd", "it ends in the middle of a frame");
	}
	return (ssize_t)out.pos;
}

/* ---- plain */

static ssize_t plain_read(struct layer_stream *s, void *buf, size_t size, struct fault *f)
{
	size_t n = s->in.size - s->in.pos;
	ssize_t got;

	if (n) {
		n = n < size ? n : size;
		memcpy(buf, (const unsigned char *)s->in.src + s->in.pos, n);
		s->in.pos += n;
		return (ssize_t)n;
	}
	if (s->input_ended)
		return 0;
	do {
		got = read(s->fd, buf, size);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		s->err = errno;
		return read_fault(s, f);
	}
	s->bytes_in += (size_t)got;
	store_progress_add(s->progress, (uint64_t)got);
	return got;
}

/* ---- all */

int layer_stream_new(struct layer_stream **out, int fd, struct store_progress *progress,
		     struct fault *f)
{
	struct layer_stream *s = malloc(sizeof(*s));
	int r = 0;

	*out = NULL;
	if (!s)
		return fault_sys(f, ENOMEM, "open the packed data", NULL);
	memset(s, 0, offsetof(struct layer_stream, packed));
	s->fd = fd;
	s->progress = progress;
	if (fill(s) < 0) {
		r = read_fault(s, f);
	} else if (begins(s, "\x1f\x8b", 2)) {
		s->kind = LAYER_GZIP;
		r = gzip_open(s, f);
	} else if (begins_zstd(s)) {
		s->kind = LAYER_ZSTD;
		r = zstd_open(s, f);
	}
	if (r < 0) {
		layer_stream_free(s);
		return r;
	}
	*out = s;
	return 0;
}

int layer_stream_open(struct layer_stream **out, int fd, struct fault *f)
{
	return layer_stream_new(out, fd, NULL, f);
}

ssize_t layer_stream_read(struct layer_stream *s, void *buf, size_t size, struct fault *f)
{
	ssize_t n;

	if (s->ended || !size)
		return 0;
	if (s->kind == LAYER_GZIP)
		n = gzip_read(s, buf, size, f);
	else if (s->kind == LAYER_ZSTD)
		n = zstd_read(s, buf, size, f);
	else
		n = plain_read(s, buf, size, f);
	if (n == 0)
		s->ended = true;
	return n;
}

enum layer_compression layer_stream_kind(const struct layer_stream *s)
{
	return s->kind;
}

uint64_t layer_stream_packed(const struct layer_stream *s)
{
	return s->bytes_in;
}

void layer_stream_free(struct layer_stream *s)
{
	if (!s)
		return;
	archive_read_free(s->gzip);
	ZSTD_freeDCtx(s->zstd);
	free(s);
}
