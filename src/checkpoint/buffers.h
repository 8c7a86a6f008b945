// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers of one frame each, a bounded number of them
 *
 * All of the memory that a capture or a serve has in flight. Each is a mapping of its own, left out
 * of forks (MADV_DONTFORK: a clone beside a quarter of a gigabyte of touched memory costs
 * milliseconds) and backed by huge pages where there are any. Taken and given back by one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint/frames.h"

#define BUFFER_BYTES (((FRAME_PACKED_MOST) + 4095u) & ~4095u)
#define BUFFERS_LEAST 8u

struct buffer {
	struct buffer *next; /* of whoever has it */
	size_t used;
	unsigned char *data; /* BUFFER_BYTES */
};

struct buffers;
/* As many as fit into `bytes`, but at least BUFFERS_LEAST; none is mapped yet. */
int buffers_new(struct buffers **out, size_t bytes);
/* All must be back. NULL is fine. */
void buffers_free(struct buffers *b);
struct buffer *buffers_take(struct buffers *b); /* used is 0; NULL: all are out, or no memory */
/* The same, beyond the number too: for who could never go on without. NULL: no memory. */
struct buffer *buffers_need(struct buffers *b);
void buffers_give(struct buffers *b, struct buffer *buf);
size_t buffers_left(const struct buffers *b); /* how many could be taken */
bool buffers_beyond(const struct buffers *b); /* more are out than are meant to be */
size_t buffers_out(const struct buffers *b); /* bytes of those that are out */
size_t buffers_peak(const struct buffers *b); /* the most that were out at once */
