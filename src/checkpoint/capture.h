// SPDX-License-Identifier: Apache-2.0
/*
 * Capture: the peer of `criu dump --stream`
 *
 * Listens where criu will connect, takes the pipe of each image file, and reads them all from the
 * reactor without waiting. Files are of two kinds. Small ones are gathered in memory and become one
 * tar+zstd blob in the end. Large ones (any that grows beyond CAPTURE_SMALL_BYTES) become a blob each
 * while they are read: frames are packed side by side on one worker pool, hashed and written in order on
 * another. The first CAPTURE_OWN_PAGES pages files are large whatever their size, so that equal ones of
 * two checkpoints are kept once; of a thousand processes the small ones are in the tar, since a blob each
 * would be an ingest, a sync and a layer each. The memory for that is bounded; when it is
 * used up nothing is read until some is back, so criu waits at its pipe.
 *
 * The blobs go to a sink, a few callbacks, so that this room knows no store.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/fault.h"
#include "util/worker.h"

#define CAPTURE_SMALL_BYTES (1u << 20)
#define CAPTURE_OWN_PAGES 64u
#define CAPTURE_SOCKET "streamer-capture.sock" /* criu's name for it, in its images folder */

struct buffer_pool;
struct capture;

enum capture_kind { CAPTURE_FILES, CAPTURE_PAGES };

/* All on workers; for one blob one call at a time, in order. A failure fails the capture. */
struct capture_sink {
	void *user;
	/* file: the image file of CAPTURE_PAGES, "" for CAPTURE_FILES */
	int (*open)(void *user, enum capture_kind kind, const char *file, void **blob,
		    struct fault *f);
	int (*write)(void *blob, const void *data, size_t size, struct fault *f);
	/* it is whole: durable when 0 is returned. size: of the file, or of the tar */
	int (*finish)(void *blob, uint64_t size, struct fault *f);
	void (*discard)(void *blob); /* instead of finish; after a failed one too */
};

struct capture_request {
	struct event_base *base;
	struct worker_pool *pack, *write;
	const char *images_dir; /* absolute, short: the socket's path has to fit into sockaddr_un */
	struct capture_sink sink;
	bool compress;
	int level; /* zstd's, when compress */
	struct buffer_pool *buffers; /* for what is in flight; kept as long as it is needed */
	uint64_t expected; /* bytes, about, that will come; 0: nobody knows */
	int64_t stall_ns; /* without any progress of criu's: the dump has failed. 0: never */
	/*
	 * From the loop. ready: there is memory for what will come, criu may be started; once, unless
	 * capture_is_ready when capture_new returns; also after a failure and after capture_free, but
	 * before `gone`. May be NULL. drained: inventory.img came and all pipes are at their end: the task's state is in
	 * our hands; once. failed: once, instead of all else; criu's connections are closed by then.
	 * FAULT_UNKNOWN: criu broke off, and only it can say why.
	 */
	void (*ready)(void *user);
	void (*drained)(void *user);
	void (*failed)(void *user, const struct fault *f);
	/*
	 * After capture_free, perhaps from inside it: no job uses the sink any more. May be NULL
	 */
	void (*gone)(void *user);
	void *user;
};

struct capture_stats {
	uint64_t bytes_in, bytes_out, files, pages_bytes;
	uint64_t buffer_peak;
	int64_t connected_at, drained_at; /* ns, monotonic; 0: not yet */
};

int capture_new(struct capture **out, const struct capture_request *r, struct fault *f);
/*
 * criu has ended well, and may have done so before all that it wrote was read: `drained` or `failed`
 * follows, if neither was called yet.
 */
void capture_peer_ended(struct capture *c);
/*
 * After criu has ended well and `drained` was called: writes what is left; done is called once all
 * blobs are durable, or with the fault, and not after capture_free.
 */
void capture_finish(struct capture *c, void (*done)(void *user, const struct fault *f));
/*
 * Closes all that criu holds, discards the blobs that are not finished. Jobs under way end by
 * themselves, then `gone` is called. NULL is fine.
 */
void capture_free(struct capture *c);
void capture_get_stats(const struct capture *c, struct capture_stats *out);
bool capture_is_ready(const struct capture *c);
bool capture_is_drained(const struct capture *c);
