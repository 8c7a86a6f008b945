// SPDX-License-Identifier: Apache-2.0
/*
 * Frames: the pages codec
 *
 * A large file of a checkpoint is stored as independent zstd frames, each of at most FRAME_BYTES of
 * input, and a seek table behind them in zstd's published seekable format (zstd repository,
 * contrib/seekable_format/zstd_seekable_compression_format.md). So frames are packed and unpacked
 * side by side, any part of the file can be had by itself, and plain `zstd -d` reads the whole: the
 * seek table is a skippable frame. Each frame has zstd's content checksum; the table has none.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/fault.h"

#define FRAME_BYTES (4u << 20) /* most input of a frame */
#define FRAME_PACKED_MOST (FRAME_BYTES + (FRAME_BYTES >> 8) + 128) /* ZSTD_compressBound of it */
#define FRAME_TABLE_MOST 0x8000000u /* frames that the format allows */

/* ---- one frame; a codec belongs to one thread at a time */

struct frame_codec;
/* level: zstd's, -7 to 19; for unpacking it does not matter. -ENOMEM, -EINVAL */
int frame_codec_new(struct frame_codec **out, int level);
void frame_codec_free(struct frame_codec *c); /* NULL is fine */
/* out has room for FRAME_PACKED_MOST. Returns the packed size, or -ENOMEM. */
ssize_t frame_pack(struct frame_codec *c, const void *data, size_t size, void *out);
/* Exactly `size` bytes must come out: else, or when the frame is damaged, -EBADMSG. -ENOMEM */
int frame_unpack(struct frame_codec *c, const void *packed, size_t packed_size, void *out,
		 size_t size);

/* ---- the seek table */

struct frame_place {
	uint64_t at, offset; /* where it begins in the blob, and in the file */
	uint32_t packed, size; /* bytes */
};
struct frame_table {
	struct frame_place *v;
	size_t n, room;
	uint64_t packed, size; /* sums */
};
void frame_table_clear(struct frame_table *t);
int frame_table_add(struct frame_table *t, uint32_t packed, uint32_t size); /* -ENOMEM, -E2BIG */
size_t frame_table_bytes(const struct frame_table *t); /* of the table as it is stored */
void frame_table_write(const struct frame_table *t, void *out);
/*
 * Reads the table at the end of a blob of `size` bytes. Untrusted: frames must fill the blob from
 * its beginning to the table, none be larger than it may, at most `most` bytes of file in all.
 * -EBADMSG with FAULT_FAILED_PRECONDITION says what is wrong. Blocks.
 */
int frame_table_read(struct frame_table *t, int fd, uint64_t size, uint64_t most, struct fault *f);
/* The frame that has the file's byte `offset`; t->n when it is behind the end. */
size_t frame_table_find(const struct frame_table *t, uint64_t offset);
