// SPDX-License-Identifier: Apache-2.0
/*
 * Memory of large messages, kept for the next ones
 *
 * A stream of large messages would otherwise have each get its memory from the kernel page by page,
 * which costs as much as copying the message twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SPARE_LEAST (128u << 10) /* smaller ones are malloc's own business */
#define SPARE_BYTES (32u << 20) /* kept in all */
#define SPARE_MOST 16

struct spare {
	struct spare_block {
		char *data; /* malloc'ed */
		size_t size;
	} v[SPARE_MOST];
	unsigned n;
	size_t bytes;
	bool used; /* since spare_rest was called */
};

/* The smallest with room for `least` bytes, and how large it is; NULL when there is none. */
char *spare_take(struct spare *s, size_t least, size_t *size);
/* Keeps it, or frees it. NULL is fine. */
void spare_give(struct spare *s, char *data, size_t size);
/* To be called now and then: frees all when none was used since the last call. Whether some are left. */
bool spare_rest(struct spare *s);
void spare_clear(struct spare *s);
