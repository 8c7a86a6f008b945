// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: unpacking beside extraction
 *
 * A thread takes the data out of a stream, hashes it, and fills a few large buffers, one after the
 * other; the caller's thread empties them. A buffer belongs to the thread until it is filled, and
 * to the caller until it asks for the next. The thread's last words, an end or a fault, are read
 * after the last buffer. The stream and the hash are the thread's as long as it runs.
 *
 * The ratio of what comes out to what goes in is watched here, where both are known.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

#define BUFFERS 4u
#define BUFFER_BYTES (1u << 20)
#define RATIO_FROM (64ull << 20) /* the limits' comment has it too */
#define STACK_BYTES (256u << 10)

struct layer_ring {
	struct layer_stream *stream;
	struct hasher *hasher;
	uint64_t ratio, size;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of all below, but for buffers' contents */
	pthread_cond_t changed;
	unsigned filled, taken; /* how many so far */
	bool ended, stop; /* the thread, the caller */
	int result;
	struct fault fault;
	size_t sizes[BUFFERS];
	unsigned char *buffers[BUFFERS];
};

/* A buffer that the caller is done with; NULL when it wants no more. */
static unsigned char *free_buffer(struct layer_ring *r)
{
	unsigned char *buffer;

	pthread_mutex_lock(&r->lock);
	while (r->filled - r->taken == BUFFERS && !r->stop)
		pthread_cond_wait(&r->changed, &r->lock);
	buffer = r->stop ? NULL : r->buffers[r->filled % BUFFERS];
	pthread_mutex_unlock(&r->lock);
	return buffer;
}

static int check_ratio(struct layer_ring *r)
{
	uint64_t packed = layer_stream_packed(r->stream);

	if (r->size <= RATIO_FROM || r->size / r->ratio <= packed)
		return 0;
	fault_set(&r->fault, FAULT_RESOURCE_EXHAUSTED, 0,
		  "the layer unpacks to more than %llu times its size",
		  (unsigned long long)r->ratio);
	return -EFBIG;
}

/* Fills one as far as the data goes. */
static ssize_t fill_buffer(struct layer_ring *r, unsigned char *buffer)
{
	size_t n = 0;

	while (n < BUFFER_BYTES) {
		ssize_t got = layer_stream_read(r->stream, buffer + n, BUFFER_BYTES - n, &r->fault);

		if (got < 0) {
			/* what came before it is still used */
			r->result = (int)got;
			break;
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	hasher_add(r->hasher, buffer, n);
	r->size += n;
	return (ssize_t)n;
}

static void *ring_thread(void *user)
{
	struct layer_ring *r = user;
	unsigned char *buffer;
	bool more = true;

	while (more && (buffer = free_buffer(r))) {
		ssize_t n = fill_buffer(r, buffer);

		if (!r->result)
			r->result = check_ratio(r);
		more = n == BUFFER_BYTES && !r->result;
		pthread_mutex_lock(&r->lock);
		r->sizes[r->filled % BUFFERS] = (size_t)n;
		r->filled++;
		r->ended = !more;
		pthread_cond_signal(&r->changed);
		pthread_mutex_unlock(&r->lock);
	}
	return NULL;
}

static int start(struct layer_ring *r)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err = pthread_attr_init(&attr);

	if (err)
		return -err;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&r->thread, &attr, ring_thread, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	r->started = err == 0;
	return -err;
}

int layer_ring_new(struct layer_ring **out, struct layer_stream *stream, uint64_t ratio,
		   struct fault *f)
{
	struct layer_ring *r = calloc(1, sizeof(*r));
	int err = r ? 0 : -ENOMEM;

	*out = NULL;
	if (!r)
		return fault_sys(f, ENOMEM, "unpack the layer", NULL);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	r->stream = stream;
	r->ratio = ratio;
	for (size_t i = 0; i < BUFFERS && !err; i++) {
		r->buffers[i] = malloc(BUFFER_BYTES);
		if (!r->buffers[i])
			err = -ENOMEM;
	}
	if (!err)
		err = hasher_new(&r->hasher);
	if (!err)
		err = start(r);
	if (err) {
		layer_ring_free(r);
		return fault_sys(f, -err, "unpack the layer", NULL);
	}
	*out = r;
	return 0;
}

ssize_t layer_ring_next(struct layer_ring *r, const void **data, struct fault *f)
{
	bool have;

	for (;;) {
		size_t n = 0;

		pthread_mutex_lock(&r->lock);
		while (r->filled == r->taken && !r->ended)
			pthread_cond_wait(&r->changed, &r->lock);
		have = r->filled != r->taken;
		if (have) {
			*data = r->buffers[r->taken % BUFFERS];
			n = r->sizes[r->taken % BUFFERS];
		}
		pthread_mutex_unlock(&r->lock);
		if (!have)
			break;
		if (n)
			return (ssize_t)n;
		layer_ring_release(r);
	}
	if (r->result < 0 && f)
		*f = r->fault;
	return r->result;
}

void layer_ring_release(struct layer_ring *r)
{
	pthread_mutex_lock(&r->lock);
	r->taken++;
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

int layer_ring_digest(struct layer_ring *r, struct digest *digest, uint64_t *size)
{
	*size = r->size;
	return hasher_digest(r->hasher, digest);
}

void layer_ring_free(struct layer_ring *r)
{
	if (!r)
		return;
	if (r->started) {
		pthread_mutex_lock(&r->lock);
		r->stop = true;
		pthread_cond_signal(&r->changed);
		pthread_mutex_unlock(&r->lock);
		pthread_join(r->thread, NULL);
	}
	for (size_t i = 0; i < BUFFERS; i++)
		free(r->buffers[i]);
	hasher_free(r->hasher);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
