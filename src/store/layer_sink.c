// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: packing with a compression, into an ingest
 *
 * The hash runs over what comes in; the ingest hashes what goes out. The bytes that go out depend
 * on those that come in, the level, and the version of the library, and on nothing else: zstd
 * always runs with threads of its own, since its output without any differs (their number makes no
 * difference), and gzip gets neither a time nor a name.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "store/content.h"
#include "store/layer.h"

#define ZSTD_LEVEL 3
#define GZIP_LEVEL 6
#define GZIP_LEVEL_MAX 9
#define ZSTD_THREADS_MAX 4
#define OUT_BYTES (256u << 10)

struct layer_sink {
	struct ingest *to; /* the caller's */
	enum layer_compression kind;
	struct hasher *hasher;
	uint64_t size_in;
	ZSTD_CCtx *zstd;
	struct archive *gzip;
	struct archive_entry *entry;
	struct fault why; /* of a failed write under libarchive */
	int failed;
	bool discard;
	unsigned char out[OUT_BYTES];
};

static int no_memory(struct fault *f)
{
	return fault_sys(f, ENOMEM, "pack the layer", NULL);
}

/* ---- zstd */

static int zstd_new(struct layer_sink *s, int level, struct fault *f)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int threads = cpus < 1 ? 1 : cpus > ZSTD_THREADS_MAX ? ZSTD_THREADS_MAX : (int)cpus;
	size_t r;

	if (level < 0 || level > ZSTD_maxCLevel())
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "zstd has no level %d", level);
	s->zstd = ZSTD_createCCtx();
	if (!s->zstd)
		return no_memory(f);
	r = ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_compressionLevel, level ? level : ZSTD_LEVEL);
	if (!ZSTD_isError(r))
		r = ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_checksumFlag, 1);
	if (ZSTD_isError(r))
		return fault_set(f, FAULT_INTERNAL, 0, "zstd: %s", ZSTD_getErrorName(r));
	/* a library without threads refuses, and packs on this one */
	ZSTD_CCtx_setParameter(s->zstd, ZSTD_c_nbWorkers, threads);
	return 0;
}

static int zstd_write(struct layer_sink *s, const void *data, size_t size, ZSTD_EndDirective end,
		      struct fault *f)
{
	ZSTD_inBuffer in = { .src = data, .size = size };
	size_t left;

	do {
		ZSTD_outBuffer out = { .dst = s->out, .size = sizeof(s->out) };

		left = ZSTD_compressStream2(s->zstd, &out, &in, end);
		if (ZSTD_isError(left)) {
			if (ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation)
				return no_memory(f);
			return fault_set(f, FAULT_INTERNAL, 0, "zstd: %s", ZSTD_getErrorName(left));
		}
		if (out.pos) {
			int r = ingest_write(s->to, s->out, out.pos, f);

			if (r < 0)
				return r;
		}
	} while (in.pos < in.size || (end == ZSTD_e_end && left));
	return 0;
}

/* ---- gzip */

/*
 * libarchive is not told of a failure: when it is freed it packs what it was given last once more,
 * and by then that memory is gone. Whoever calls it looks at `failed`.
 */
static la_ssize_t take_packed(struct archive *a, void *user, const void *data, size_t size)
{
	struct layer_sink *s = user;

	(void)a;
	if (!s->discard && !s->failed)
		s->failed = ingest_write(s->to, data, size, &s->why);
	return (la_ssize_t)size;
}

static int gzip_fault(struct layer_sink *s, struct fault *f)
{
	const char *why = archive_error_string(s->gzip);

	if (s->failed < 0) {
		if (f)
			*f = s->why;
		return s->failed;
	}
	if (archive_errno(s->gzip) == ENOMEM)
		return no_memory(f);
	return fault_set(f, FAULT_INTERNAL, 0, "gzip: %s", why ? why : "unknown reason");
}

static int gzip_new(struct layer_sink *s, int level, struct fault *f)
{
	char text[4] = { (char)('0' + (level ? level : GZIP_LEVEL)) };

	if (level < 0 || level > GZIP_LEVEL_MAX)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "gzip has no level %d", level);
	s->gzip = archive_write_new();
	s->entry = archive_entry_new();
	if (!s->gzip || !s->entry)
		return no_memory(f);
	/* its only use is a header that the raw format does not write */
	archive_entry_set_filetype(s->entry, AE_IFREG);
	archive_entry_set_pathname(s->entry, "layer");
	if (archive_write_set_format_raw(s->gzip) != ARCHIVE_OK ||
	    archive_write_add_filter_gzip(s->gzip) != ARCHIVE_OK ||
	    archive_write_set_filter_option(s->gzip, "gzip", "compression-level", text) !=
		    ARCHIVE_OK ||
	    archive_write_set_filter_option(s->gzip, "gzip", "timestamp", NULL) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(s->gzip, OUT_BYTES) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(s->gzip, 1) != ARCHIVE_OK ||
	    archive_write_open(s->gzip, s, NULL, take_packed, NULL) != ARCHIVE_OK ||
	    archive_write_header(s->gzip, s->entry) != ARCHIVE_OK || s->failed)
		return gzip_fault(s, f);
	return 0;
}

static int gzip_write(struct layer_sink *s, const void *data, size_t size, struct fault *f)
{
	while (size) {
		la_ssize_t n = archive_write_data(s->gzip, data, size);

		if (n <= 0 || s->failed)
			return gzip_fault(s, f);
		data = (const char *)data + n;
		size -= (size_t)n;
	}
	return 0;
}

/* ---- all */

int layer_sink_new(struct layer_sink **out, struct ingest *to, enum layer_compression compression,
		   int level, struct fault *f)
{
	struct layer_sink *s = malloc(sizeof(*s));
	int r;

	*out = NULL;
	if (!s)
		return no_memory(f);
	memset(s, 0, offsetof(struct layer_sink, out));
	s->to = to;
	s->kind = compression;
	r = hasher_new(&s->hasher);
	if (r < 0)
		r = no_memory(f);
	else if (compression == LAYER_ZSTD)
		r = zstd_new(s, level, f);
	else if (compression == LAYER_GZIP)
		r = gzip_new(s, level, f);
	if (r < 0) {
		layer_sink_free(s);
		return r;
	}
	*out = s;
	return 0;
}

int layer_sink_write(void *sink, const void *data, size_t size, struct fault *f)
{
	struct layer_sink *s = sink;

	hasher_add(s->hasher, data, size);
	s->size_in += size;
	if (s->kind == LAYER_ZSTD)
		return zstd_write(s, data, size, ZSTD_e_continue, f);
	if (s->kind == LAYER_GZIP)
		return gzip_write(s, data, size, f);
	return ingest_write(s->to, data, size, f);
}

int layer_sink_finish(struct layer_sink *s, struct digest *diff_id, uint64_t *size_in,
		      struct fault *f)
{
	int r = 0;

	if (s->kind == LAYER_ZSTD)
		r = zstd_write(s, NULL, 0, ZSTD_e_end, f);
	else if (s->kind == LAYER_GZIP && (archive_write_close(s->gzip) != ARCHIVE_OK || s->failed))
		r = gzip_fault(s, f);
	if (!r && hasher_digest(s->hasher, diff_id) < 0)
		r = no_memory(f);
	if (!r && size_in)
		*size_in = s->size_in;
	return r;
}

void layer_sink_free(struct layer_sink *s)
{
	if (!s)
		return;
	/* what is left of one that was not finished goes nowhere */
	s->discard = true;
	archive_write_free(s->gzip);
	archive_entry_free(s->entry);
	ZSTD_freeCCtx(s->zstd);
	hasher_free(s->hasher);
	free(s);
}
