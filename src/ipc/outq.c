// SPDX-License-Identifier: Apache-2.0
/*
 * What waits to be written to a connection
 *
 * A row of chunks. Small messages are copied one behind the other into chunks of 16 KiB, which come
 * from a pool and go back to it, so an idle connection holds none. A large message's memory is
 * taken over as a chunk of its own. One sendmsg writes many chunks.
 *
 * A message with fds is a chunk by itself and is sent by a sendmsg of its own: its first byte is the
 * sendmsg's first byte, and no other message begins in it, so that a reader which only knows that
 * fds belong to the last message that began in what it read is right.
 */
#include "ipc/outq.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ipc/stream.h"

#define CHUNK_ROOM (16u * 1024 - 128)
#define POOL_MOST 16
#define WRITE_MOST 32 /* chunks in one sendmsg */

struct outq_chunk {
	STAILQ_ENTRY(outq_chunk) next;
	char *data; /* `room` below, or memory taken over */
	size_t off, size, alloc; /* alloc 0: nothing is added to it */
	struct stream_fds *fds;
	char room[];
};

void outq_pool_init(struct outq_pool *pool)
{
	STAILQ_INIT(&pool->chunks);
	pool->n = 0;
}

void outq_pool_clear(struct outq_pool *pool)
{
	struct outq_chunk *c;

	while ((c = STAILQ_FIRST(&pool->chunks))) {
		STAILQ_REMOVE_HEAD(&pool->chunks, next);
		free(c);
	}
	pool->n = 0;
}

void outq_init(struct outq *q, struct outq_pool *pool)
{
	STAILQ_INIT(&q->chunks);
	q->pool = pool;
	q->bytes = 0;
}

static struct outq_chunk *chunk_new(size_t room)
{
	struct outq_chunk *c = malloc(sizeof(*c) + room);

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->data = c->room;
	c->alloc = room;
	return c;
}

static struct outq_chunk *chunk_get(struct outq_pool *pool)
{
	struct outq_chunk *c = STAILQ_FIRST(&pool->chunks);

	if (!c)
		return chunk_new(CHUNK_ROOM);
	STAILQ_REMOVE_HEAD(&pool->chunks, next);
	pool->n--;
	c->off = 0;
	c->size = 0;
	return c;
}

static void chunk_put(struct outq_pool *pool, struct outq_chunk *c)
{
	stream_fds_free(c->fds);
	c->fds = NULL;
	if (c->data != c->room)
		free(c->data);
	if (c->data == c->room && c->alloc == CHUNK_ROOM && pool->n < POOL_MOST) {
		STAILQ_INSERT_HEAD(&pool->chunks, c, next);
		pool->n++;
	} else {
		free(c);
	}
}

void outq_clear(struct outq *q)
{
	struct outq_chunk *c;

	while ((c = STAILQ_FIRST(&q->chunks))) {
		STAILQ_REMOVE_HEAD(&q->chunks, next);
		chunk_put(q->pool, c);
	}
	q->bytes = 0;
}

int outq_put(struct outq *q, const void *data, size_t size)
{
	struct outq_chunk *c = STAILQ_LAST(&q->chunks, outq_chunk, next);

	if (!c || c->fds || c->alloc - c->size < size || !c->alloc) {
		c = size > CHUNK_ROOM ? chunk_new(size) : chunk_get(q->pool);
		if (!c)
			return -ENOMEM;
		STAILQ_INSERT_TAIL(&q->chunks, c, next);
	}
	memcpy(c->data + c->size, data, size);
	c->size += size;
	q->bytes += size;
	return 0;
}

int outq_give(struct outq *q, char *data, size_t size)
{
	struct outq_chunk *c = chunk_new(0);

	if (!c)
		return -ENOMEM;
	c->data = data;
	c->size = size;
	STAILQ_INSERT_TAIL(&q->chunks, c, next);
	q->bytes += size;
	return 0;
}

int outq_put_fds(struct outq *q, const void *data, size_t size, const int *fds, size_t n)
{
	struct stream_fds *set = calloc(1, sizeof(*set));
	struct outq_chunk *c = NULL;

	if (set && n <= LIMIT_REQUEST_FDS)
		c = chunk_new(size);
	if (!c) {
		free(set);
		for (size_t i = 0; i < n; i++)
			close(fds[i]);
		return -ENOMEM;
	}
	if (n)
		memcpy(set->fds, fds, n * sizeof(*fds));
	set->n = n;
	memcpy(c->data, data, size);
	c->size = size;
	c->fds = set;
	STAILQ_INSERT_TAIL(&q->chunks, c, next);
	q->bytes += size;
	return 0;
}

/* n bytes of the first chunks are out. */
static void advance(struct outq *q, size_t n)
{
	struct outq_chunk *c = STAILQ_FIRST(&q->chunks);

	q->bytes -= n;
	/* the kernel has the fds once it has the first byte */
	if (n && c->fds) {
		stream_fds_close(c->fds);
		c->fds->n = 0;
	}
	while (n) {
		size_t rest = c->size - c->off;

		if (n < rest) {
			c->off += n;
			return;
		}
		n -= rest;
		STAILQ_REMOVE_HEAD(&q->chunks, next);
		chunk_put(q->pool, c);
		c = STAILQ_FIRST(&q->chunks);
	}
}

int outq_write(struct outq *q, int sock, size_t *sent)
{
	*sent = 0;
	while (!STAILQ_EMPTY(&q->chunks)) {
		struct iovec iov[WRITE_MOST];
		struct outq_chunk *c = STAILQ_FIRST(&q->chunks);
		const struct stream_fds *set = c->fds;
		size_t n = 0;
		ssize_t r;

		for (; c && n < WRITE_MOST; c = STAILQ_NEXT(c, next)) {
			if (n && (set || c->fds))
				break;
			iov[n].iov_base = c->data + c->off;
			iov[n++].iov_len = c->size - c->off;
		}
		r = stream_sendv(sock, iov, n, set ? set->fds : NULL, set ? set->n : 0);
		if (r < 0)
			return (int)r;
		*sent += (size_t)r;
		advance(q, (size_t)r);
	}
	return 0;
}
