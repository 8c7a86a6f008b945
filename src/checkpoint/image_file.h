// SPDX-License-Identifier: Apache-2.0
/*
 * One of criu's image files: its magic words, its entries, and the protobuf in them
 *
 * criu/include/magic.h, criu/protobuf.c; https://protobuf.dev/programming-guides/encoding/
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint/serve.h"
#include "util/fault.h"

#define IMG_COMMON_MAGIC 0x54564319u /* before the kind's own, but for the inventory */
#define IMG_SERVICE_MAGIC 0x55105940u /* the same for stats-* */

#define IMG_INVENTORY 0x58313116u
#define IMG_PSTREE 0x50273030u
#define IMG_CORE 0x55053847u
#define IMG_IDS 0x54432030u
#define IMG_MOUNTS 0x55563928u
#define IMG_USER_NS 0x55474906u
#define IMG_NETNS 0x55933752u
#define IMG_SECCOMP 0x64413049u
#define IMG_STATS 0x57093306u

/* ---- a message, and its fields in the order they stand */

struct pb {
	const uint8_t *p, *end;
};
struct pb_field {
	uint32_t number;
	bool is_bytes; /* data, size; else value */
	uint64_t value;
	const uint8_t *data;
	size_t size;
};
/* 1, 0 at the end, -EBADMSG for what is no message, or only one that two readers would read apart. */
int pb_next(struct pb *m, struct pb_field *field);
/* A field with uint32 in it. -EBADMSG when it has another type or is too large. */
int pb_u32(const struct pb_field *field, uint32_t *out);
/* A text without NUL; *n bytes. */
int pb_text(const struct pb_field *field, const char **text, size_t *n);
struct pb pb_message(const struct pb_field *field); /* of bytes */

/* ---- a file */

struct img {
	const char *name; /* the file's */
	struct fault *f;
	const uint8_t *data;
	size_t size, at;
	void *owned; /* NULL: data is in memory that belongs to another */
};
/*
 * All of the file in memory: bytes that are there, or read and unpacked (LIMIT_CHECKPOINT_FILES_BYTES
 * at most). common: 0 for none. f is kept for those below. Every failure is
 * FAULT_FAILED_PRECONDITION and names the file, but for lack of memory and errors of reading.
 */
int img_open(struct img *img, const struct serve_file *file, uint32_t common, uint32_t magic,
	     struct fault *f);
/* From bytes, which have to last. */
int img_open_data(struct img *img, const char *name, const void *data, size_t size, uint32_t common,
		  uint32_t magic, struct fault *f);
int img_next(struct img *img, struct pb *entry); /* 1, 0 at the end, or negative */
int img_one(struct img *img, struct pb *entry); /* the only one: 0 or negative */
int img_damaged(const struct img *img, const char *why); /* sets the fault; -EBADMSG */
void img_close(struct img *img);
