// SPDX-License-Identifier: Apache-2.0
/*
 * Serve: the peer of `criu restore --stream`
 *
 * Listens where criu will connect and answers its requests for image files: small ones from memory,
 * large ones from their blobs, frame by frame, unpacked by workers ahead of criu's reads (from the
 * moment serve_new returns, before criu asks). A file may be asked for any number of times. That criu
 * closes a pipe early is no error; its exit status decides.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/frames.h"
#include "util/fault.h"
#include "util/worker.h"

#define SERVE_SOCKET "streamer-serve.sock" /* criu's name for it, in its images folder */

/* A part of an image file: all of a blob, or bytes in memory. */
struct serve_part {
	int fd; /* -1: memory */
	bool packed; /* frames; else plain bytes */
	struct frame_table table; /* of a packed one */
	uint64_t size; /* bytes of the file */
	void *data; /* of one in memory */
	const char *digest; /* of the blob, for faults */
};

struct serve_file {
	char *name;
	struct serve_part *parts; /* in the file's order, without a gap */
	size_t n_parts;
};
struct serve_files {
	struct serve_file *v;
	size_t n;
};
void serve_files_clear(struct serve_files *f); /* frees all that is in it, closes fds */

struct buffer_pool;
struct serve;
struct serve_request {
	struct event_base *base;
	struct worker_pool *unpack;
	const char *images_dir; /* absolute, short */
	/* taken over, and empty then, when serve_new succeeds; perhaps when not */
	struct serve_files *files;
	struct buffer_pool *buffers; /* for what is in flight; kept as long as it is needed */
	/* from the loop, once: a blob is damaged or cannot be read, or criu breaks the protocol */
	void (*failed)(void *user, const struct fault *f);
	void *user;
};
int serve_new(struct serve **out, const struct serve_request *r, struct fault *f);
/* Jobs under way end by themselves. NULL is fine. */
void serve_free(struct serve *s);

struct serve_stats {
	uint64_t bytes_out; /* to criu */
	uint64_t requests, absent, buffer_peak;
	int64_t connected_at; /* ns, monotonic; 0: not yet */
};
void serve_get_stats(const struct serve *s, struct serve_stats *out);
