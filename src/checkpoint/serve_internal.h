// SPDX-License-Identifier: Apache-2.0
/*
 * Serve: what its parts share
 *
 * Lifetimes: struct serve belongs to the reactor and lives until serve_free was called and no job
 * points to it any more (`jobs`). A stream ends when its file is written or its pipe is closed; its
 * memory goes with its last job. Nothing deep inside tells the owner of a failure, who would free all
 * of it: it is kept (serve_trouble), and told by whatever the loop has called, as the last thing
 * (serve_settle).
 */
#pragma once

#include <bsd/sys/queue.h>
#include <pthread.h>

#include "checkpoint/buffers.h"
#include "checkpoint/pace.h"
#include "checkpoint/serve.h"
#include "checkpoint/wire.h"

/* A frame on its way from the blob into the pipe. */
struct slot {
	struct worker_job job;
	STAILQ_ENTRY(slot) link;
	struct stream *st;
	const struct serve_part *part;
	struct frame_place place;
	struct buffer *buf; /* NULL for one in memory */
	unsigned char *data; /* where the bytes are: the buffer's, or the part's memory */
	size_t size, sent;
	bool ready;
	int result;
	struct fault fault;
};

struct stream {
	TAILQ_ENTRY(stream) link;
	struct serve *s;
	const struct serve_file *file;
	int fd; /* -1: nobody has asked yet */
	struct event *event;
	bool writing; /* the event is added */
	size_t part, frame; /* the next to be loaded */
	STAILQ_HEAD(, slot) slots;
	unsigned loading; /* jobs */
	bool dry; /* its pipe may be empty, and nothing is there to be written */
	bool dead; /* freed with its last job */
};

struct unpacker {
	struct unpacker *next;
	struct frame_codec *codec;
	unsigned char packed[FRAME_PACKED_MOST];
};

struct serve_entry { /* of a file, in the order of names */
	const struct serve_file *file;
	struct stream *early; /* made before anybody asked; NULL when it is taken */
};

struct serve {
	struct serve_request r;
	struct serve_files files;
	struct serve_entry *by_name; /* files.n of them */
	struct wire wire;
	int listen_fd, sock;
	struct event *listen_event, *sock_event, *starved;
	char *socket_path;
	TAILQ_HEAD(, stream) streams; /* the oldest first */
	size_t n_streams; /* with those that end */
	size_t n_dry;
	struct pace pace;
	struct stream *asked; /* the request's; its pipe comes next */
	struct buffers *buffers;
	pthread_mutex_t unpackers_lock;
	struct unpacker *unpackers;
	unsigned jobs;
	bool bound, waits; /* waits: `starved` is added */
	uint64_t moved; /* bytes_out when it was */
	size_t grant; /* buffers beyond the bound, if nothing moves */
	bool dead, has_failed;
	struct fault trouble; /* code 0: none */
	struct serve_stats stats;
};

/* ---- serve.c */
void serve_trouble(struct serve *s, const struct fault *f);
void serve_trouble_errno(struct serve *s, int r, const char *step, const char *what);
static inline bool serve_is_over(const struct serve *s)
{
	return s->dead || s->has_failed || s->trouble.code;
}
void serve_settle(struct serve *s); /* may free s */
void serve_set_pace(struct serve *s); /* upon any change of what it depends on */
void serve_job_end(struct serve *s); /* may free s */

/* ---- serve_stream.c */
struct stream *stream_new(struct serve *s, const struct serve_file *file);
/* Its pipe is closed now; its memory goes when no job points there. */
void stream_end(struct stream *st);
/* Takes fd over, also when it fails. */
int stream_start(struct stream *st, int fd);
void serve_load(struct serve *s); /* there may be buffers */
void serve_on_starved(evutil_socket_t fd, short what, void *user);
void serve_unpackers_free(struct serve *s);
