// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection, inside: the set of what is known, marking, the watch over the database
 */
#pragma once

#include "store/gc.h"
#include "store/store_internal.h"

/* ---- gc_set.c: things by kind, namespace and key, each once; some 90 bytes for a blob */

#define GC_NONE UINT32_MAX

/* flags of a node */
#define GC_KEPT 1u /* reachable, but what it refers to is not therefore */
#define GC_FULL 2u /* reachable with all that it refers to */
#define GC_FILE 4u /* its row is gone and no other namespace has it: the file is to go */
#define GC_MARKED (GC_KEPT | GC_FULL)

struct gc_node {
	uint32_t key; /* offset of the text */
	uint16_t ns; /* number of the namespace */
	uint8_t kind; /* enum db_kind */
	uint8_t flags;
};

struct gc_set {
	struct gc_node *nodes;
	uint32_t n, room;
	uint32_t *slots; /* of a hash table: numbers of nodes, GC_NONE for none */
	uint32_t n_slots; /* a power of two */
	char *text;
	size_t text_size, text_room;
	char **ns;
	uint32_t n_ns;
	uint64_t seed;
};
void gc_set_init(struct gc_set *s);
void gc_set_clear(struct gc_set *s);
uint32_t gc_set_find(const struct gc_set *s, enum db_kind kind, const char *ns, const char *key);
/* Finds it, or adds it without flags. -ENOMEM */
int gc_set_add(struct gc_set *s, enum db_kind kind, const char *ns, const char *key, uint32_t *at);
static inline const char *gc_set_key(const struct gc_set *s, uint32_t at)
{
	return s->text + s->nodes[at].key;
}
static inline const char *gc_set_ns(const struct gc_set *s, uint32_t at)
{
	return s->ns[s->nodes[at].ns];
}

/* ---- gc_mark.c */

/* Statements on one connection; the caller has its lock, where it has one. */
struct gc_reader {
	struct db db; /* for db_fault alone: the connection and the path */
	sqlite3_stmt *content, *image, *snapshot, *container, *lease, *resources;
};
int gc_reader_open(struct gc_reader *r, sqlite3 *sql, const char *path, struct fault *f);
void gc_reader_close(struct gc_reader *r);

struct gc_marker {
	struct gc_set set;
	uint32_t *stack; /* nodes whose references are to be followed */
	size_t n_stack, stack_room;
	const char *snapshotter; /* of containers that name none */
	int64_t now; /* leases that end before have ended */
	uint64_t marked;
};
/* Marks it; its references are followed by gc_mark_drain. again: even if they have been. */
int gc_mark(struct gc_marker *m, enum db_kind kind, const char *ns, const char *key, unsigned flag,
	    bool again);
/*
 * Follows references until there are none left (0) or the clock (clock_mono) says `until` (1); 0 as
 * until: no end.
 */
int gc_mark_drain(struct gc_marker *m, struct gc_reader *r, int64_t until,
		  const struct cancel *cancel, struct fault *f);
/* Marks images, containers, leases, and what says of itself that it is a root. */
int gc_mark_roots(struct gc_marker *m, struct gc_reader *r, struct fault *f);

/* ---- gc_watch.c: what happens in the database while nobody looks */

struct gc {
	/* of all down to the blank line; taken after the database's */
	pthread_mutex_t lock;
	pthread_cond_t turn;
	bool running;
	uint64_t asked, covered; /* numbers of calls; those up to `covered` have had their run */
	struct gc_result last;
	struct gc_status status;
	bool garbage; /* something was deleted since the last run began */
	int64_t garbage_first, garbage_last; /* clock_mono */
	int64_t next_expiry; /* of a lease; 0 for none */
	void (*wake)(void *user);
	void *wake_user;
	gc_sink sink;
	void *sink_user;

	/* under the database's lock */
	bool flagged; /* the file says that something was deleted */
	bool sweeping; /* what is deleted is no news */
	bool watching;
	bool lost; /* there was no memory to note what was touched */
	struct gc_set touched;
};
/* A part of the store (store.c). */
int gc_open(struct store *s, struct fault *f);
void gc_close(struct store *s);
/*
 * Notes what is touched from here on, in gc->touched. begin waits for the transactions under way;
 * the deletions so far are this run's.
 */
void gc_watch_begin(struct store *s);
void gc_watch_end(struct store *s);
/*
 * The run is over: makes durable what was removed, if it has changed anything, and when it was a
 * whole one forgets that something was deleted, unless more has been since.
 */
int gc_settle(struct store *s, bool changed, bool whole, struct fault *f);
/* Looks for the lease that ends first. */
int gc_find_expiry(struct store *s, struct fault *f);

/* ---- gc.c, gc_sweep.c: a run */

struct gc_folder { /* of a snapshot whose row is gone */
	int64_t id;
	bool native;
};

struct gc_run {
	struct store_call *c;
	struct store *s;
	struct db *db;
	struct fault *f;
	struct gc_result *out;
	struct gc_marker m;
	uint32_t first, last; /* candidates among the nodes: [first, last) */
	struct gc_folder *folders;
	size_t n_folders, folders_room;
	struct store_events events;
	size_t n_events;
	struct gc_reader now; /* on the daemon's connection; opened by gc_sweep */
	bool postponed; /* a snapshot that had children yet */
	unsigned slice; /* how many at once */
	int64_t held; /* since when the lock is */
};
/* Removes what no lease holds any more: the leases whose time is over. */
int gc_expire_leases(struct gc_run *run);
/* Removes the rows of candidates that are not marked, nor become so meanwhile. */
int gc_sweep(struct gc_run *run);
/* Marks what was touched until now, with all it refers to. */
int gc_catch_up(struct gc_run *run);
void gc_close_reader(struct gc_run *run);
/* Files and folders of the rows that are gone, once that is durable. */
int gc_trash(struct gc_run *run);
/* Hands over the events so far. last: of the run. */
void gc_flush_events(struct gc_run *run, bool last);

/* db_statement and its fault */
sqlite3_stmt *gc_statement(struct gc_run *run, const char *text);
/* Both under the lock. used: by any namespace; true when there is no such blob. */
int gc_blob_size(struct gc_run *run, const char *digest, uint64_t *size, bool *used);
/* 1: it is there; its number, its size, whether it is somebody's parent. */
int gc_snapshot_row(struct gc_run *run, const char *ns, const char *key, int64_t *id,
		    uint64_t *size, bool *parent);
