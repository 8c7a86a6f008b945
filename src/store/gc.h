// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection
 *
 * Roots: images, containers (their snapshot, the labels), leases that have not expired (their
 * resources), and whatever has the label containerd.io/gc.root. Edges: an image's target, a
 * snapshot's parent, the labels containerd.io/gc.ref.content[.X], gc.ref.snapshot.DRIVER[/X],
 * gc.ref.image[.X] (https://github.com/containerd/containerd/blob/main/docs/garbage-collection.md).
 * An ingest goes 24 h after its last write unless a lease holds it.
 */
#pragma once

#include "store/store.h"

struct gc_result {
	uint64_t content, snapshots, leases, ingests; /* how many were removed */
	uint64_t bytes; /* of blobs, committed snapshots and ingests */
	int64_t duration; /* ns */
	int64_t started_at;
	uint64_t marked; /* what was reachable */
	int64_t longest_lock; /* ns: the longest that the database was held */
};

/*
 * Marks from a snapshot of the database on a connection of its own, which holds nobody up; then
 * takes the candidates away in short transactions. What gets a reference meanwhile (db_watch) is
 * looked at before each of them, so nothing that became reachable goes. One run at a time: a second
 * call waits, and calls that wait together share the next one's result. dry: counts what would go.
 * Over all namespaces. Blocks as long as it takes; events (/content/delete, /snapshot/remove) go to
 * the sink, or without one to c->events, with the namespace each belongs to. What was removed until
 * a run failed or was cancelled stays removed. Files are in the trash then: the caller sees to it
 * that it is emptied.
 */
int gc_run(struct store_call *c, bool dry, struct gc_result *out);

/*
 * Where events of all runs go: called now and then by the running thread, without locks, with some
 * that it takes over (it leaves the list empty). last: the run is over; whoever has its result may
 * expect the events to be known. NULL: none.
 */
typedef void (*gc_sink)(void *user, struct store_events *events, const struct cancel *cancel,
			bool last);
void gc_set_sink(struct store *s, gc_sink sink, void *user);

/*
 * When a run is due, as clock_now has it: a moment after the last deletion of an image, lease,
 * container or snapshot, or when a lease ends; 0 for never. wake tells, on any thread, that it may
 * now be due earlier than was said; it must not call back. Deletions are remembered over a restart.
 */
#define GC_DELAY_NS 100000000ll /* after the last deletion */
#define GC_DELAY_MAX_NS 2000000000ll /* after the first one, when they do not stop */
int64_t gc_due(struct store *s);
/* As if something had been deleted now. */
void gc_want(struct store *s);
void gc_on_wake(struct store *s, void (*wake)(void *user), void *user);

struct gc_status {
	bool running;
	uint64_t runs, failures; /* since the start of the daemon; dry ones not counted */
	struct gc_result last; /* started_at 0: none yet */
	char failure[256]; /* of the last run, "" when it did not fail */
	int64_t failed_at;
};
void gc_get_status(struct store *s, struct gc_status *out);
