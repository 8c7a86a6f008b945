// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers of one frame each, a bounded number of them
 *
 * All of the memory that captures and serves have in flight. One pool bounds what all of them have
 * together; each has its buffers through a struct of its own. One that is alone may have all of
 * the pool, several have equal shares at most, and each may have BUFFERS_OWN whatever the others have, so
 * that none waits for another.
 *
 * Each is a mapping of its own, left out of forks (MADV_DONTFORK: a clone beside a quarter of a gigabyte
 * of touched memory costs milliseconds) and backed by huge pages where there are any; it becomes memory
 * when it is first written to, or by buffer_touch. All of one pool is taken and given back by one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "checkpoint/frames.h"
#include "util/worker.h"

#define BUFFER_BYTES (((FRAME_PACKED_MOST) + 4095u) & ~4095u)
#define BUFFERS_LEAST 8u /* of a pool */
#define BUFFERS_OWN 2u /* of each, beyond what the pool has too */

struct buffer {
	struct buffer *next; /* of whoever has it */
	size_t used;
	unsigned char *data; /* BUFFER_BYTES */
};

struct buffer_pool;
/*
 * As many as fit into `bytes`, but at least BUFFERS_LEAST; none is mapped yet. What is given back to the kernel is
 * so on `workers`, which have to be there until buffer_pool_free (it takes milliseconds); NULL: by the caller.
 * -ENOMEM
 */
int buffer_pool_new(struct buffer_pool **out, size_t bytes, struct worker_pool *workers);
/* Goes with the last that has buffers of it; workers are not needed any more. NULL is fine. */
void buffer_pool_free(struct buffer_pool *p);
/* Another size; nothing while any are out. */
void buffer_pool_resize(struct buffer_pool *p, size_t bytes);
/* Bytes that are mapped now, but for what is on its way back to the kernel. */
size_t buffer_pool_mapped(const struct buffer_pool *p);

struct buffers;
int buffers_new(struct buffers **out, struct buffer_pool *pool); /* -ENOMEM */
/* All must be back. NULL is fine. */
void buffers_free(struct buffers *b);
struct buffer *buffers_take(struct buffers *b); /* used is 0; NULL: none is left, or no memory */
/* The same, beyond the number too: for who could never go on without. NULL: no memory. */
struct buffer *buffers_need(struct buffers *b);
void buffers_give(struct buffers *b, struct buffer *buf);
void buffer_touch(struct buffer *buf); /* makes it memory, and zeroes some of it; on any thread */
size_t buffers_left(const struct buffers *b); /* how many could be taken */
bool buffers_beyond(const struct buffers *b); /* more are out than are meant to be */
size_t buffers_out(const struct buffers *b); /* bytes of those that are out */
size_t buffers_peak(const struct buffers *b); /* the most that were out at once */
