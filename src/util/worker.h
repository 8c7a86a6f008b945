// SPDX-License-Identifier: Apache-2.0
/*
 * Worker pool: what blocks or burns
 *
 * A job owns its inputs, runs on a worker thread without touching the reactor's state, and its
 * `done` runs on the reactor (woken by one eventfd). Jobs of one pool start in the order of
 * submission. A pool of one thread is an ordered queue, as for SQLite.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

struct worker_pool;

struct worker_job { /* embedded in the caller's struct; the caller frees it in done */
	struct worker_job *next;
	void (*run)(struct worker_job *job); /* on a worker */
	void (*done)(struct worker_job *job); /* on the reactor */
};

/*
 * threads >= 1; started on the first submit, with all signals blocked and a stack of `stack` bytes
 * (0: 256 KiB). name at most 15 bytes.
 */
int worker_pool_new(struct worker_pool **out, struct event_base *base, const char *name,
		    unsigned threads, size_t stack);
/*
 * Waits for running and queued jobs and runs their done, also of those that a done submits here;
 * the pool stays usable.
 */
void worker_pool_drain(struct worker_pool *pool);
/* Drains, then joins. */
void worker_pool_free(struct worker_pool *pool);
void worker_submit(struct worker_pool *pool, struct worker_job *job); /* never fails */
/*
 * Jobs leave the processors to everybody else (util/sched.h) as long as more have asked for calm (1) than have
 * taken that back (-1), and nobody is in a hurry (the same). The end of it reaches running jobs too; calm counts
 * from a thread's next job on.
 */
void worker_pool_calm(struct worker_pool *pool, int change);
void worker_pool_hurry(struct worker_pool *pool, int change);
struct worker_stats {
	uint64_t queued, running, finished;
	unsigned threads;
};
void worker_pool_stats(struct worker_pool *pool, struct worker_stats *out);
