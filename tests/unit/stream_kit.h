// SPDX-License-Identifier: Apache-2.0
/*
 * Capture and serve in tests: pools, a loop, and a sink of blobs in memory
 *
 * One fixture a test. When something fails, its owner frees the object from inside the callback, if
 * `frees` is set, as a daemon does it.
 */
#pragma once

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/buffers.h"
#include "checkpoint/capture.h"
#include "checkpoint/serve.h"
#include "util/fd.h"

#define KIT_BLOBS 256

struct blob_file {
	struct fixture *fx;
	enum capture_kind kind;
	char name[256];
	int fd;
	bool finished, discarded;
	uint64_t size;
};

struct fixture {
	char dir[64];
	struct event_base *base;
	struct worker_pool *pack, *write;
	struct blob_file blobs[KIT_BLOBS];
	size_t n;
	pthread_mutex_t lock;
	struct capture *capture;
	struct serve *serve;
	int level;
	uint64_t expected; /* of a capture; 0 */
	bool frees, drained, done, gone;
	unsigned failures, readies;
	struct fault fault; /* code 0: none */
	const char *fail_at; /* the sink's step that fails */
};

/* ---- the sink */

static inline int sink_open(void *user, enum capture_kind kind, const char *file, void **blob,
			    struct fault *f)
{
	struct fixture *fx = user;
	struct blob_file *b;

	if (fx->fail_at && !strcmp(fx->fail_at, "open"))
		return fault_sys(f, EIO, "open", file);
	pthread_mutex_lock(&fx->lock);
	assert_true(fx->n < KIT_BLOBS);
	b = &fx->blobs[fx->n++];
	pthread_mutex_unlock(&fx->lock);
	*b = (struct blob_file){ .fx = fx, .kind = kind };
	snprintf(b->name, sizeof(b->name), "%s", file);
	b->fd = memfd_create("blob", MFD_CLOEXEC);
	*blob = b;
	return 0;
}

static inline int sink_write(void *blob, const void *data, size_t size, struct fault *f)
{
	struct blob_file *b = blob;

	if (b->fx->fail_at && !strcmp(b->fx->fail_at, "write"))
		return fault_sys(f, ENOSPC, "write", b->name);
	return fd_write_all(b->fd, data, size);
}

static inline int sink_finish(void *blob, uint64_t size, struct fault *f)
{
	struct blob_file *b = blob;

	if (b->fx->fail_at && !strcmp(b->fx->fail_at, "finish"))
		return fault_sys(f, EIO, "sync", b->name);
	b->finished = true;
	b->size = size;
	return 0;
}

static inline void sink_discard(void *blob)
{
	((struct blob_file *)blob)->discarded = true;
}

/* ---- the owner */

static inline void on_drained(void *user)
{
	((struct fixture *)user)->drained = true;
}

static inline void on_gone(void *user)
{
	((struct fixture *)user)->gone = true;
}

static inline void drop(struct fixture *fx)
{
	capture_free(fx->capture);
	serve_free(fx->serve);
	fx->capture = NULL;
	fx->serve = NULL;
}

static inline void on_ready(void *user)
{
	struct fixture *fx = user;

	assert_false(fx->gone);
	fx->readies++;
}

static inline void on_failed(void *user, const struct fault *f)
{
	struct fixture *fx = user;

	fx->failures++;
	fx->fault = *f;
	if (fx->frees)
		drop(fx);
}

static inline void on_done(void *user, const struct fault *f)
{
	struct fixture *fx = user;

	fx->done = true;
	if (f)
		fx->fault = *f;
}

static inline int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));

	strcpy(fx->dir, "/tmp/davit-stream-XXXXXX");
	assert_non_null(mkdtemp(fx->dir));
	fx->base = event_base_new();
	fx->level = 1;
	pthread_mutex_init(&fx->lock, NULL);
	assert_int_equal(worker_pool_new(&fx->pack, fx->base, "pack", 2, 0), 0);
	assert_int_equal(worker_pool_new(&fx->write, fx->base, "write", 2, 0), 0);
	signal(SIGPIPE, SIG_IGN);
	*state = fx;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *fx = *state;

	drop(fx);
	worker_pool_free(fx->pack);
	worker_pool_free(fx->write);
	event_base_free(fx->base);
	for (size_t i = 0; i < fx->n; i++)
		fd_close(&fx->blobs[i].fd);
	pthread_mutex_destroy(&fx->lock);
	assert_int_equal(rmdir(fx->dir), 0);
	free(fx);
	return 0;
}

/* Whoever gets it keeps it; to be freed at once. */
static inline struct buffer_pool *pool_of(size_t bytes)
{
	struct buffer_pool *pool;

	assert_int_equal(buffer_pool_new(&pool, bytes, NULL), 0);
	return pool;
}

static inline struct capture *capture(struct fixture *fx, bool compress, size_t buffer,
				      int64_t stall)
{
	struct capture_request r = {
		.base = fx->base,
		.pack = fx->pack,
		.write = fx->write,
		.images_dir = fx->dir,
		.sink = { fx, sink_open, sink_write, sink_finish, sink_discard },
		.compress = compress,
		.level = fx->level,
		.buffers = pool_of(buffer),
		.expected = fx->expected,
		.stall_ns = stall,
		.ready = on_ready,
		.drained = on_drained,
		.failed = on_failed,
		.gone = on_gone,
		.user = fx,
	};
	struct fault f = { 0 };
	struct capture *c = NULL;

	assert_int_equal(capture_new(&c, &r, &f), 0);
	buffer_pool_free(r.buffers);
	fx->capture = c;
	return c;
}

static inline struct blob_file *blob_of(struct fixture *fx, const char *name)
{
	for (size_t i = 0; i < fx->n; i++)
		if (!strcmp(fx->blobs[i].name, name))
			return &fx->blobs[i];
	return NULL;
}
