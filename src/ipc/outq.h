// SPDX-License-Identifier: Apache-2.0
/*
 * What waits to be written to a connection
 */
#pragma once

#include <bsd/sys/queue.h>
#include <stddef.h>
#include <stdint.h>

struct outq_chunk;
STAILQ_HEAD(outq_chunks, outq_chunk);

/* Empty chunks kept for the next use; shared by the queues of a thread. */
struct outq_pool {
	struct outq_chunks chunks;
	size_t n;
};

void outq_pool_init(struct outq_pool *pool);
void outq_pool_clear(struct outq_pool *pool);

struct outq {
	struct outq_chunks chunks;
	struct outq_pool *pool;
	size_t bytes; /* waiting */
};

void outq_init(struct outq *q, struct outq_pool *pool);
void outq_clear(struct outq *q); /* drops all and closes the fds in it */

/* One message, copied. 0 or -ENOMEM, then the queue is as before. */
int outq_put(struct outq *q, const void *data, size_t size);
/* One message whose memory is taken over, malloc'ed. On -ENOMEM it is still the caller's. */
int outq_give(struct outq *q, char *data, size_t size);
/* One message, copied, with n fds (at most 16) that ride on its first byte; they are taken over, also on -ENOMEM. */
int outq_put_fds(struct outq *q, const void *data, size_t size, const int *fds, size_t n);

/* Writes as much as the socket takes; *sent: how much. 0 when all is out, -EAGAIN, or -errno. */
int outq_write(struct outq *q, int sock, size_t *sent);
