// SPDX-License-Identifier: Apache-2.0
/*
 * Frames: packing, unpacking, and the seek table around them
 *
 * The table as stored: a skippable frame (magic, size), for each frame its packed and unpacked size,
 * and a footer (number of frames, descriptor, magic), all little-endian. It is found from the end of
 * the blob by its footer. Nothing in it is believed before the sums are right: the frames have to
 * fill the blob exactly, so no frame can lie outside of it or overlap another.
 */
#include "checkpoint/frames.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "util/cleanup.h"
#include "util/limits.h"

#define SKIPPABLE_MAGIC 0x184d2a5eu
#define SEEKABLE_MAGIC 0x8f92eab1u
#define HEADER 8
#define FOOTER 9
#define ENTRY 8
#define DESCRIPTOR_CHECKSUM 0x80
#define DESCRIPTOR_RESERVED 0x7c

_Static_assert(FRAME_PACKED_MOST >= ZSTD_COMPRESSBOUND(FRAME_BYTES), "room for any frame");

struct frame_codec {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	int level;
};

int frame_codec_new(struct frame_codec **out, int level)
{
	struct frame_codec *c;

	if (level < -7 || level > 19)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->level = level;
	*out = c;
	return 0;
}

void frame_codec_free(struct frame_codec *c)
{
	if (!c)
		return;
	ZSTD_freeCCtx(c->pack);
	ZSTD_freeDCtx(c->unpack);
	free(c);
}

/* Contexts are large, and most codecs need one of the two. */
static int need_pack(struct frame_codec *c)
{
	if (c->pack)
		return 0;
	c->pack = ZSTD_createCCtx();
	if (!c->pack)
		return -ENOMEM;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_compressionLevel, c->level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c->pack, ZSTD_c_checksumFlag, 1)))
		return -EINVAL;
	return 0;
}

ssize_t frame_pack(struct frame_codec *c, const void *data, size_t size, void *out)
{
	size_t n;
	int r = need_pack(c);

	if (r < 0)
		return r;
	if (size > FRAME_BYTES)
		return -EINVAL;
	n = ZSTD_compress2(c->pack, out, FRAME_PACKED_MOST, data, size);
	/* there is room for any input: memory is all that can be missing */
	return ZSTD_isError(n) ? -ENOMEM : (ssize_t)n;
}

int frame_unpack(struct frame_codec *c, const void *packed, size_t packed_size, void *out,
		 size_t size)
{
	size_t n;

	if (!c->unpack)
		c->unpack = ZSTD_createDCtx();
	if (!c->unpack)
		return -ENOMEM;
	n = ZSTD_decompressDCtx(c->unpack, out, size, packed, packed_size);
	if (ZSTD_isError(n))
		return ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation ? -ENOMEM : -EBADMSG;
	return n == size ? 0 : -EBADMSG;
}

/* ---- the table */

void frame_table_clear(struct frame_table *t)
{
	free(t->v);
	*t = (struct frame_table){ 0 };
}

int frame_table_add(struct frame_table *t, uint32_t packed, uint32_t size)
{
	if (t->n == FRAME_TABLE_MOST)
		return -E2BIG;
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		struct frame_place *grown = reallocarray(t->v, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		t->v = grown;
		t->room = room;
	}
	t->v[t->n++] = (struct frame_place){
		.at = t->packed, .offset = t->size, .packed = packed, .size = size
	};
	t->packed += packed;
	t->size += size;
	return 0;
}

size_t frame_table_bytes(const struct frame_table *t)
{
	return HEADER + t->n * ENTRY + FOOTER;
}

static uint8_t *put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof(v));
	return to + sizeof(v);
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t v;

	memcpy(&v, from, sizeof(v));
	return le32toh(v);
}

void frame_table_write(const struct frame_table *t, void *out)
{
	uint8_t *p = out;

	p = put32(p, SKIPPABLE_MAGIC);
	p = put32(p, (uint32_t)(t->n * ENTRY + FOOTER));
	for (size_t i = 0; i < t->n; i++) {
		p = put32(p, t->v[i].packed);
		p = put32(p, t->v[i].size);
	}
	p = put32(p, (uint32_t)t->n);
	*p++ = 0; /* no checksums: each frame has its own */
	put32(p, SEEKABLE_MAGIC);
}

static int bad(struct fault *f, const char *why)
{
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "its seek table is damaged: %s", why);
	return -EBADMSG;
}

static int read_at(int fd, void *data, size_t size, uint64_t at, struct fault *f)
{
	uint8_t *p = data;

	while (size) {
		ssize_t n = pread(fd, p, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_sys(f, errno, "read", "a blob's seek table");
		if (!n)
			return bad(f, "the blob is shorter than it says");
		p += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int read_entries(struct frame_table *t, const uint8_t *p, size_t n, size_t entry,
			uint64_t most, struct fault *f)
{
	for (size_t i = 0; i < n; i++, p += entry) {
		uint32_t packed = get32(p), size = get32(p + 4);
		int r;

		if (!packed || packed > FRAME_PACKED_MOST || !size || size > FRAME_BYTES)
			return bad(f, "a frame is larger than any may be");
		if (t->size + size > most)
			return bad(f, "the file would be larger than any may be");
		r = frame_table_add(t, packed, size);
		if (r < 0)
			return fault_sys(f, -r, "keep", "a blob's seek table");
	}
	return 0;
}

int frame_table_read(struct frame_table *t, int fd, uint64_t size, uint64_t most, struct fault *f)
{
	CLEANUP_FREE uint8_t *table = NULL;
	uint8_t footer[FOOTER];
	uint64_t n, bytes;
	size_t entry;
	int r;

	*t = (struct frame_table){ 0 };
	if (size < HEADER + FOOTER)
		return bad(f, "the blob is too small to have one");
	r = read_at(fd, footer, FOOTER, size - FOOTER, f);
	if (r < 0)
		return r;
	if (get32(footer + 5) != SEEKABLE_MAGIC)
		return bad(f, "there is none at the blob's end");
	if (footer[4] & DESCRIPTOR_RESERVED)
		return bad(f, "reserved bits are set");
	n = get32(footer);
	entry = footer[4] & DESCRIPTOR_CHECKSUM ? ENTRY + 4 : ENTRY;
	bytes = HEADER + n * entry + FOOTER;
	/* no more memory than the blob has bytes */
	if (bytes > size)
		return bad(f, "it is larger than the blob");
	if (n > LIMIT_CHECKPOINT_FRAMES)
		return bad(f, "it has more frames than any may have");
	table = malloc(bytes);
	if (!table)
		return fault_sys(f, ENOMEM, "read", "a blob's seek table");
	r = read_at(fd, table, bytes, size - bytes, f);
	if (r < 0)
		return r;
	if (get32(table) != SKIPPABLE_MAGIC || get32(table + 4) != bytes - HEADER)
		return bad(f, "its header does not fit");
	r = read_entries(t, table + HEADER, n, entry, most, f);
	if (!r && t->packed != size - bytes)
		r = bad(f, "the frames do not fill the blob");
	if (r < 0)
		frame_table_clear(t);
	return r;
}

size_t frame_table_find(const struct frame_table *t, uint64_t offset)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (t->v[mid].offset + t->v[mid].size <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}
