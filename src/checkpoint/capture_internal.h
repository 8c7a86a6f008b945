// SPDX-License-Identifier: Apache-2.0
/*
 * Capture: what its parts share
 *
 * Lifetimes: struct capture belongs to the reactor and lives until capture_free was called and no job
 * points to it any more (`jobs`). A blob belongs to the capture; jobs of a blob follow one another.
 */
#pragma once

#include <bsd/sys/queue.h>
#include <pthread.h>

#include "checkpoint/buffers.h"
#include "checkpoint/capture.h"
#include "checkpoint/frames.h"
#include "checkpoint/pace.h"
#include "checkpoint/wire.h"

struct packer { /* a codec and where it packs to; one job's at a time */
	struct packer *next;
	struct frame_codec *codec;
	unsigned char out[FRAME_PACKED_MOST];
};

/* A frame on its way: packed on one pool, in any order; written on the other, in order. */
struct frame {
	struct worker_job job;
	STAILQ_ENTRY(frame) link;
	struct capture *c;
	struct blob *blob;
	struct buffer *buf; /* first the file's bytes, then the packed ones */
	uint32_t size; /* of the file's bytes */
	bool packed;
	int result;
	struct fault fault;
};

/* A large file's blob. */
struct blob {
	struct worker_job job;
	SLIST_ENTRY(blob) link;
	struct capture *c;
	char name[WIRE_NAME_MOST + 1];
	STAILQ_HEAD(, frame) frames; /* in the file's order */
	struct frame *writing; /* the first of them, on the write pool */
	struct frame_table table;
	void *out; /* the sink's; NULL until opened */
	bool ended; /* no more frames will come */
	bool finished; /* the sink has said so */
	bool busy; /* a job of its own (the end) is under way */
	int result;
	struct fault fault;
};

/* An image file that criu writes to, or has written. */
struct image_file {
	SLIST_ENTRY(image_file) link, same_hash;
	STAILQ_ENTRY(image_file) turn; /* while it waits */
	struct capture *c;
	int fd; /* the pipe's read end, -1 at its end */
	struct event *event;
	bool pages;
	bool waiting; /* in the queue for a buffer, and not read */
	char *data; /* a small one, all of it */
	size_t used, room;
	struct blob *blob; /* a large one */
	struct buffer *buf; /* being filled */
	char name[WIRE_NAME_MOST + 1];
};

#define CAPTURE_BUCKETS 4096u

SLIST_HEAD(image_files, image_file);

struct capture {
	struct capture_request r;
	struct wire wire;
	int listen_fd, sock;
	struct event *listen_event, *sock_event, *stall;
	char *socket_path;
	struct image_files files, by_name[CAPTURE_BUCKETS];
	STAILQ_HEAD(, image_file) waiting; /* for a buffer, the first come first */
	SLIST_HEAD(, blob) blobs;
	struct buffers *buffers;
	size_t frames; /* on their way, or buffers being made ready: each gives its buffer back */
	size_t unready; /* buffers that are being made ready */
	pthread_mutex_t packers_lock;
	struct packer *packers; /* idle ones */
	size_t open_files, small_bytes, unfinished, n_pages, n_blobs;
	struct pace pace;
	bool bound, inventory, hung_up, drained, dead, has_failed;
	unsigned jobs;
	struct capture_stats stats;
	uint64_t progress, progress_seen; /* anything that moved; of the last look */
	void (*done)(void *user, const struct fault *f);
};

/* ---- capture.c */
void capture_fail(struct capture *c, const struct fault *f);
void capture_job_begin(struct capture *c);
void capture_job_end(struct capture *c); /* may free c */
/* Hands buffers to those who wait for one. May fail the capture. */
void capture_read_on(struct capture *c);
void capture_check_done(struct capture *c);

/* ---- capture_ready.c: memory for what is expected, before it comes */
void buffers_make_ready(struct capture *c);

/* ---- capture_blob.c */
struct blob *blob_new(struct capture *c, const char *name);
/* The frame's bytes are in buf, which is taken over. */
int blob_add(struct blob *b, struct buffer *buf);
void blob_end(struct blob *b); /* the file has ended */
void blobs_give_up(struct capture *c); /* of one that has failed or is to be freed */
void blobs_free(struct capture *c); /* no job is under way */

/* ---- capture_small.c: the tar of small files */
int small_start(struct capture *c);
