// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers of one frame each, a bounded number of them
 *
 * Mapped when first needed; those that come back are used again, last one first, since its memory is
 * still in the caches.
 */
#include "checkpoint/buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct buffers {
	struct buffer *idle;
	size_t out, peak, most; /* how many */
};

int buffers_new(struct buffers **out, size_t bytes)
{
	struct buffers *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->most = bytes / BUFFER_BYTES;
	if (b->most < BUFFERS_LEAST)
		b->most = BUFFERS_LEAST;
	*out = b;
	return 0;
}

static struct buffer *buffer_new(void)
{
	struct buffer *buf = calloc(1, sizeof(*buf));

	if (!buf)
		return NULL;
	buf->data = mmap(NULL, BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (buf->data == MAP_FAILED) {
		free(buf);
		return NULL;
	}
	/* both are for speed alone */
	madvise(buf->data, BUFFER_BYTES, MADV_DONTFORK);
	madvise(buf->data, BUFFER_BYTES, MADV_HUGEPAGE);
	return buf;
}

static void buffer_free(struct buffer *buf)
{
	munmap(buf->data, BUFFER_BYTES);
	free(buf);
}

void buffers_free(struct buffers *b)
{
	struct buffer *buf;

	if (!b)
		return;
	while ((buf = b->idle)) {
		b->idle = buf->next;
		buffer_free(buf);
	}
	free(b);
}

struct buffer *buffers_need(struct buffers *b)
{
	struct buffer *buf = b->idle;

	if (buf)
		b->idle = buf->next;
	else
		buf = buffer_new();
	if (!buf)
		return NULL;
	buf->next = NULL;
	buf->used = 0;
	if (++b->out > b->peak)
		b->peak = b->out;
	return buf;
}

struct buffer *buffers_take(struct buffers *b)
{
	return b->out < b->most ? buffers_need(b) : NULL;
}

void buffers_give(struct buffers *b, struct buffer *buf)
{
	buf->next = b->idle;
	b->idle = buf;
	b->out--;
}

size_t buffers_left(const struct buffers *b)
{
	return b->out < b->most ? b->most - b->out : 0;
}

bool buffers_beyond(const struct buffers *b)
{
	return b->out > b->most;
}

size_t buffers_out(const struct buffers *b)
{
	return b->out * BUFFER_BYTES;
}

size_t buffers_peak(const struct buffers *b)
{
	return b->peak * BUFFER_BYTES;
}
