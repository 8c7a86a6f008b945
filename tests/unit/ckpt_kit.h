// SPDX-License-Identifier: Apache-2.0
/*
 * Small images of criu's making, built by hand: protobuf, entries, files
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/image_file.h"

struct bytes {
	uint8_t v[16384];
	size_t n;
};

static inline void put_raw(struct bytes *b, const void *data, size_t n)
{
	assert_true(b->n + n <= sizeof(b->v));
	if (n)
		memcpy(b->v + b->n, data, n);
	b->n += n;
}

static inline void put_word(struct bytes *b, uint32_t v)
{
	put_raw(b, &v, sizeof(v));
}

static inline void put_varint(struct bytes *b, uint64_t v)
{
	uint8_t byte;

	do {
		byte = (uint8_t)(v & 0x7f) | (v > 0x7f ? 0x80 : 0);
		put_raw(b, &byte, 1);
		v >>= 7;
	} while (v);
}

static inline void put_number(struct bytes *b, unsigned field, uint64_t v)
{
	put_varint(b, field << 3);
	put_varint(b, v);
}

static inline void put_bytes(struct bytes *b, unsigned field, const void *data, size_t n)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, n);
	put_raw(b, data, n);
}

static inline void put_string(struct bytes *b, unsigned field, const char *text)
{
	put_bytes(b, field, text, strlen(text));
}

/* An entry of a file. */
static inline void put_entry(struct bytes *file, const struct bytes *message)
{
	put_word(file, (uint32_t)message->n);
	put_raw(file, message->v, message->n);
}

static inline void put_magic(struct bytes *file, uint32_t magic)
{
	file->n = 0;
	if (magic != IMG_INVENTORY)
		put_word(file, magic == IMG_STATS ? IMG_SERVICE_MAGIC : IMG_COMMON_MAGIC);
	put_word(file, magic);
}

static inline void add_file(struct serve_files *files, const char *name, const struct bytes *b)
{
	void *data = malloc(b->n + 1);

	assert_non_null(data);
	memcpy(data, b->v, b->n);
	assert_int_equal(ckpt_files_add_data(files, name, data, b->n), 0);
}

/* A file with one entry. */
static inline void add_one(struct serve_files *files, const char *name, uint32_t magic,
			   const struct bytes *message)
{
	struct bytes *file = calloc(1, sizeof(*file));

	assert_non_null(file);
	put_magic(file, magic);
	put_entry(file, message);
	add_file(files, name, file);
	free(file);
}

static inline void put_ids(struct bytes *b, unsigned pid, unsigned net, unsigned mnt)
{
	for (unsigned i = 1; i <= 4; i++)
		put_number(b, i, 1);
	put_number(b, 5, pid);
	put_number(b, 6, net);
	put_number(b, 7, 3);
	put_number(b, 8, 4);
	put_number(b, 9, mnt);
	put_number(b, 10, 7);
}

static inline void add_inventory(struct serve_files *files)
{
	struct bytes message = { .n = 0 }, ids = { .n = 0 };

	put_number(&message, 1, 2);
	put_ids(&ids, 1, 2, 6);
	put_bytes(&message, 3, ids.v, ids.n);
	add_one(files, "inventory.img", IMG_INVENTORY, &message);
}
