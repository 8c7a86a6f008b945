// SPDX-License-Identifier: Apache-2.0
/*
 * Methods that work on the store: from a request to a worker and back
 *
 * Quick ones (a few rows, a small file) run one after the other on the store pool's thread and read
 * the request's arguments there: nobody else touches a request that has no on_cancel. Long ones
 * (import, unpack, diff, hashing) run on the image pool with arguments of their own, and end early
 * when the request is cancelled, out of time or its client gone, and when the daemon ends.
 */
#pragma once

#include <bsd/sys/queue.h>
#include <msgpack.h>

#include "core/davit.h"
#include "ipc/request.h"
#include "store/store.h"
#include "util/worker.h"

struct store_job {
	struct worker_job job;
	struct davit *d;
	/* quick: for run to read its arguments. long: the reactor's; NULL once not wanted */
	struct ipc_request *req;
	struct store_call call; /* ns, lease, events, cancel, progress, f: all set */
	/* 0, or negative after filling call.f. Packs the answer, one map; nothing packed is {}. */
	int (*run)(struct store_job *j);
	/* on the reactor, last of all: what the job's own struct holds (not itself). May be NULL */
	void (*clear)(struct store_job *j);
	msgpack_packer pk; /* into answer */
	msgpack_sbuffer answer;
	int fd; /* rides on the answer as "fd:0" when not -1; passed on */
	/* private */
	int result;
	struct fault fault;
	struct cancel cancel;
	struct store_progress progress;
	struct store_events events;
	char *ns, *lease, *progress_tag;
	const char *progress_topic;
	struct event *progress_timer;
	uint64_t progress_last;
	bool is_long;
	LIST_ENTRY(store_job) link;
};

/* Answers by itself when there is no memory. */
void store_job_quick(struct davit *d, struct ipc_request *req, int (*run)(struct store_job *j));
/*
 * A zeroed struct of `size` bytes with a store_job first; NULL after answering. Fill it, then start
 * it, or free it after answering.
 */
void *store_job_new(struct davit *d, struct ipc_request *req, size_t size,
		    int (*run)(struct store_job *j), void (*clear)(struct store_job *j));
/*
 * To the image pool. progress_topic: of the events that tell clients how far it is, when the
 * request has the argument `progress` (a text that comes back in them); NULL for none.
 */
void store_job_start(struct store_job *j, const char *progress_topic);
/* The same on another pool: for work that waits for a peer. */
void store_job_start_on(struct store_job *j, struct worker_pool *pool, const char *progress_topic);
void store_job_free(struct store_job *j); /* one that was not started */

/* A copy of a str argument, or NULL when absent; *failed is set without memory. */
char *store_job_str(struct store_job *j, const char *name, bool *failed);
/*
 * Labels of an argument (a map that was checked) as rows; the array is to be freed, its texts are the
 * request's. 0 or -ENOMEM.
 */
int store_job_labels(struct ipc_request *req, const char *name, struct db_label **v, size_t *n);

int store_jobs_new(struct davit *d);
void store_jobs_free(struct davit *d);
/* All long jobs are told to end: for the daemon's end. */
void store_jobs_cancel(struct davit *d);
/* Empties the trash on the image pool, if there is anything in it. Each job that ends calls it. */
void store_tidy(struct davit *d);

#define STORE_JOB_PROGRESS                                                                         \
	{                                                                                          \
		.name = "progress", .type = IPC_STR, .max = 256,                                   \
		.doc = "a text: events say how far it is, with this text in them"                  \
	}

/*
 * Lists: `each` walks the rows behind `after` on the store pool's thread and gives each to
 * store_list_want; the page is sent by the reactor.
 */
struct store_list;
typedef int (*store_list_each)(struct store_list *l, struct store_call *c, struct ipc_request *req,
			       const char *after);
void store_list_start(struct davit *d, struct ipc_request *req, const char *result_name,
		      store_list_each each);
/*
 * A packer for exactly one map when the filters want it, else NULL. key rises from call to call. Then
 * return store_list_more(l): 0 to go on, 1 when the page is full.
 */
msgpack_packer *store_list_want(struct store_list *l, const char *key, ipc_field_fn field,
				void *user);
int store_list_more(const struct store_list *l);
