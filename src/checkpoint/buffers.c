// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers of one frame each, a bounded number of them
 *
 * Mapped when first needed; those that come back are used again by whoever is next, last one first,
 * since its memory is still in the caches. What is beyond the bound, and all when nobody is at work any
 * more, is given back to the kernel.
 */
#include "checkpoint/buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "util/container_of.h"

#define PAGE_BYTES 4096u /* the smallest there is */

struct buffer_pool {
	struct worker_pool *workers;
	struct buffer *idle;
	size_t mapped, out, most; /* how many */
	size_t users;
	bool unowned;
};

struct buffers {
	struct buffer_pool *pool;
	size_t out, peak; /* how many */
};

/* ---- the pool */

static size_t that_fit(size_t bytes)
{
	size_t n = bytes / BUFFER_BYTES;

	return n < BUFFERS_LEAST ? BUFFERS_LEAST : n;
}

int buffer_pool_new(struct buffer_pool **out, size_t bytes, struct worker_pool *workers)
{
	struct buffer_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->workers = workers;
	p->most = that_fit(bytes);
	*out = p;
	return 0;
}

void buffer_pool_resize(struct buffer_pool *p, size_t bytes)
{
	if (!p->out)
		p->most = that_fit(bytes);
}

size_t buffer_pool_mapped(const struct buffer_pool *p)
{
	return p->mapped * BUFFER_BYTES;
}

static struct buffer *buffer_new(struct buffer_pool *p)
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
	/* all for speed alone */
	madvise(buf->data, BUFFER_BYTES, MADV_DONTFORK);
	madvise(buf->data, BUFFER_BYTES, MADV_HUGEPAGE);
	p->mapped++;
	return buf;
}

/* By writing: MADV_POPULATE_WRITE keeps everybody from mapping anything meanwhile, the reactor too. */
void buffer_touch(struct buffer *buf)
{
	volatile unsigned char *at = buf->data;

	for (size_t i = 0; i < BUFFER_BYTES; i += PAGE_BYTES)
		at[i] = 0;
}

struct unmap { /* buffers that go back to the kernel */
	struct worker_job job;
	struct buffer *first;
};

static void unmap_all(struct buffer *buf)
{
	struct buffer *next;

	for (; buf; buf = next) {
		next = buf->next;
		/* first what takes long, since nobody can map anything during the other */
		madvise(buf->data, BUFFER_BYTES, MADV_DONTNEED);
		munmap(buf->data, BUFFER_BYTES);
		free(buf);
	}
}

static void unmap_run(struct worker_job *job)
{
	unmap_all(container_of(job, struct unmap, job)->first);
}

static void unmap_done(struct worker_job *job)
{
	free(container_of(job, struct unmap, job));
}

/* A list of n. */
static void give_back(struct buffer_pool *p, struct buffer *first, size_t n)
{
	struct unmap *u = first && p->workers ? malloc(sizeof(*u)) : NULL;

	p->mapped -= n;
	if (!u) {
		unmap_all(first);
		return;
	}
	u->job = (struct worker_job){ .run = unmap_run, .done = unmap_done };
	u->first = first;
	worker_submit(p->workers, &u->job);
}

static void pool_check(struct buffer_pool *p)
{
	if (p->users)
		return;
	give_back(p, p->idle, p->mapped);
	p->idle = NULL;
	if (p->unowned)
		free(p);
}

void buffer_pool_free(struct buffer_pool *p)
{
	if (!p)
		return;
	p->unowned = true;
	p->workers = NULL;
	pool_check(p);
}

/* ---- whoever has some */

int buffers_new(struct buffers **out, struct buffer_pool *pool)
{
	struct buffers *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->pool = pool;
	pool->users++;
	*out = b;
	return 0;
}

void buffers_free(struct buffers *b)
{
	if (!b)
		return;
	b->pool->users--;
	pool_check(b->pool);
	free(b);
}

/* How many more it may have; negative: how many it has beyond that. */
static ssize_t room(const struct buffers *b)
{
	const struct buffer_pool *p = b->pool;
	ssize_t out = (ssize_t)b->out, own = (ssize_t)BUFFERS_OWN - out;
	ssize_t share = (ssize_t)(p->most / p->users) - out;
	ssize_t left = (ssize_t)p->most - (ssize_t)p->out;

	if (left < share)
		share = left;
	return own > share ? own : share;
}

struct buffer *buffers_need(struct buffers *b)
{
	struct buffer_pool *p = b->pool;
	struct buffer *buf = p->idle;

	if (buf)
		p->idle = buf->next;
	else
		buf = buffer_new(p);
	if (!buf)
		return NULL;
	buf->next = NULL;
	buf->used = 0;
	p->out++;
	if (++b->out > b->peak)
		b->peak = b->out;
	return buf;
}

struct buffer *buffers_take(struct buffers *b)
{
	return room(b) > 0 ? buffers_need(b) : NULL;
}

void buffers_give(struct buffers *b, struct buffer *buf)
{
	struct buffer_pool *p = b->pool;

	b->out--;
	p->out--;
	if (p->mapped > p->most) {
		buf->next = NULL;
		give_back(p, buf, 1);
		return;
	}
	buf->next = p->idle;
	p->idle = buf;
}

size_t buffers_left(const struct buffers *b)
{
	ssize_t n = room(b);

	return n > 0 ? (size_t)n : 0;
}

bool buffers_beyond(const struct buffers *b)
{
	return room(b) < 0;
}

size_t buffers_out(const struct buffers *b)
{
	return b->out * BUFFER_BYTES;
}

size_t buffers_peak(const struct buffers *b)
{
	return b->peak * BUFFER_BYTES;
}
