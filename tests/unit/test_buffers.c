// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers: one pool, shared by all who are at work, and bounded for all of them together
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "checkpoint/buffers.h"

#define MOST 24u /* of the pool */

struct hand { /* what one has taken */
	struct buffers *b;
	struct buffer *held[2 * MOST];
	size_t n;
};

static struct buffer_pool *pool;

static int setup(void **state)
{
	(void)state;
	return buffer_pool_new(&pool, MOST * BUFFER_BYTES, NULL);
}

static void begin(struct hand *h)
{
	memset(h, 0, sizeof(*h));
	assert_int_equal(buffers_new(&h->b, pool), 0);
}

/* Takes as many as it gets: how many it has now. */
static size_t fill(struct hand *h)
{
	struct buffer *buf;

	while ((buf = buffers_take(h->b))) {
		buf->data[0] = buf->data[BUFFER_BYTES - 1] = 1;
		assert_int_equal(buf->used, 0);
		h->held[h->n++] = buf;
	}
	assert_int_equal(buffers_left(h->b), 0);
	return h->n;
}

static void drop(struct hand *h, size_t n)
{
	while (n--)
		buffers_give(h->b, h->held[--h->n]);
}

static void end(struct hand *h)
{
	drop(h, h->n);
	buffers_free(h->b);
}

/* One that is alone may have all, and nothing is kept when it is done. */
static void test_alone(void **state)
{
	struct hand a;

	(void)state;
	begin(&a);
	assert_int_equal(buffers_left(a.b), MOST);
	assert_int_equal(fill(&a), MOST);
	assert_false(buffers_beyond(a.b));
	assert_int_equal(buffers_out(a.b), MOST * BUFFER_BYTES);
	a.held[a.n++] = buffers_need(a.b);
	assert_non_null(a.held[MOST]);
	assert_true(buffers_beyond(a.b));
	assert_int_equal(buffer_pool_mapped(pool), (MOST + 1) * BUFFER_BYTES);
	/* the one beyond is given back to the kernel */
	drop(&a, 5);
	assert_int_equal(buffer_pool_mapped(pool), MOST * BUFFER_BYTES);
	assert_int_equal(fill(&a), MOST);
	assert_int_equal(buffers_peak(a.b), (MOST + 1) * BUFFER_BYTES);
	end(&a);
	assert_int_equal(buffer_pool_mapped(pool), 0);
	buffer_pool_free(pool);
}

/* A second one has its own at once, and an equal share as soon as the first gives some back. */
static void test_two(void **state)
{
	struct hand a, b;

	(void)state;
	begin(&a);
	assert_int_equal(fill(&a), MOST);
	begin(&b);
	assert_int_equal(buffers_left(b.b), BUFFERS_OWN);
	assert_int_equal(fill(&b), BUFFERS_OWN);
	assert_true(buffers_beyond(a.b));
	drop(&a, MOST / 2);
	assert_int_equal(fill(&a), MOST / 2);
	assert_int_equal(fill(&b), MOST / 2);
	/* what the second one has given back is the first one's, when it is over */
	end(&b);
	assert_int_equal(fill(&a), MOST);
	assert_int_equal(buffer_pool_mapped(pool), MOST * BUFFER_BYTES);
	end(&a);
	buffer_pool_free(pool);
}

/* However many there are: the bound, and for each that came later no more than its own. */
static void test_many(void **state)
{
	struct hand first, more[40];

	(void)state;
	begin(&first);
	fill(&first);
	for (size_t i = 0; i < 40; i++) {
		begin(&more[i]);
		assert_int_equal(fill(&more[i]), BUFFERS_OWN);
	}
	assert_int_equal(buffer_pool_mapped(pool), (MOST + 40 * BUFFERS_OWN) * BUFFER_BYTES);
	for (size_t i = 0; i < 40; i++)
		end(&more[i]);
	/* idle ones are no more than the bound */
	assert_int_equal(buffer_pool_mapped(pool), MOST * BUFFER_BYTES);
	end(&first);
	buffer_pool_free(pool);
}

/* The size is changed between runs, and the pool outlives its owner as long as it is needed. */
static void test_resize(void **state)
{
	struct hand a;

	(void)state;
	begin(&a);
	buffer_pool_resize(pool, 10 * BUFFER_BYTES);
	assert_int_equal(fill(&a), 10);
	buffer_pool_resize(pool, 20 * BUFFER_BYTES);
	assert_int_equal(fill(&a), 10);
	drop(&a, 10);
	buffer_pool_resize(pool, 0);
	assert_int_equal(fill(&a), BUFFERS_LEAST);
	buffer_pool_free(pool);
	end(&a);
}

/* Unmapping is for workers; after the pool's end for whoever gives the last one back. */
static void test_unmapped_by_workers(void **state)
{
	struct event_base *base = event_base_new();
	struct buffer_pool *with;
	struct worker_pool *workers;
	struct worker_stats stats;
	unsigned char *data;
	struct buffers *b;
	struct buffer *buf;

	(void)state;
	buffer_pool_free(pool);
	assert_int_equal(worker_pool_new(&workers, base, "unmap", 1, 0), 0);
	assert_int_equal(buffer_pool_new(&with, 0, workers), 0);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(buffers_new(&b, with), 0);
		buf = buffers_take(b);
		buffer_touch(buf);
		data = buf->data;
		assert_int_equal(msync(data, BUFFER_BYTES, MS_ASYNC), 0);
		if (round)
			buffer_pool_free(with);
		buffers_give(b, buf);
		buffers_free(b);
		worker_pool_drain(workers);
		assert_int_equal(msync(data, BUFFER_BYTES, MS_ASYNC), -1);
		worker_pool_stats(workers, &stats);
		assert_int_equal(stats.finished, 1);
	}
	worker_pool_free(workers);
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_alone, setup),
		cmocka_unit_test_setup(test_two, setup),
		cmocka_unit_test_setup(test_many, setup),
		cmocka_unit_test_setup(test_resize, setup),
		cmocka_unit_test_setup(test_unmapped_by_workers, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
