// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection: a run
 *
 * Marking looks at the database as it was at one moment, on a connection of its own: nobody waits
 * for it, however long it takes. What was not marked is a candidate. Meanwhile the world goes on, so
 * the watch (gc_watch.c), which began before that moment, notes each row that is written. A
 * candidate can become reachable only by a reference in a row that was written since; so before any
 * is removed, under the database's lock, what was noted is marked with all that it refers to now. A
 * row that was noted counts as reachable itself: at worst it stays until the next run.
 *
 * Removing is done in slices, each with the lock held for a millisecond or so, with a pause between
 * them in which others get their turn. Marking under the lock is divided in the same way, and no
 * candidate goes before it is done.
 *
 * In what order things go, so that a power cut at any point leaves no row without its file: the
 * slices delete rows only, without sync. Then one durable commit; with it all those before are on
 * the disk. Only then files and folders are renamed into the trash, in slices under the lock: a
 * blob's once more only if it has no row, since it may have been written again in between (rows and
 * files of content come and go together under the lock, see content.c); a snapshot's without a look,
 * since its number is never used again. Emptying the trash, which takes as long as the disk likes,
 * is left to the caller (store_empty_trash). What is left behind by a daemon that dies in between
 * are files without rows, which store_open removes.
 *
 * Snapshots go by falling number, since most children have been made after their parents; one that
 * still has children is passed over, and looked at again while anything goes.
 */
#include "store/gc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/content.h"
#include "store/gc_internal.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define CACHE_KIB "2048"
#define BUSY_MS 5000
#define COUNT_NS 1000000ll /* of holding the lock */

static const char SQL_CANDIDATES[] =
	"SELECT 0, namespace, digest FROM content "
	"UNION ALL SELECT 0, '', digest FROM blobs b "
	"WHERE NOT EXISTS (SELECT 1 FROM content c WHERE c.digest = b.digest)";
static const char SQL_CANDIDATE_SNAPSHOTS[] =
	"SELECT 2, namespace, snapshotter || '/' || name FROM snapshots ORDER BY id DESC";
static const char SQL_EXPIRED_COUNT[] =
	"SELECT count(*) FROM leases WHERE expires_at <> 0 AND expires_at <= ?1";
static const char SQL_OWNERS[] = "SELECT namespace FROM content WHERE digest = ?1";

/* ---- marking */

/* What was not marked becomes a node without marks, behind all that were. */
static int add_candidates(struct gc_run *run, struct gc_reader *reader, const char *text)
{
	struct gc_set *set = &run->m.set;
	sqlite3_stmt *s = NULL;
	int r = 0, step;

	if (sqlite3_prepare_v2(reader->db.sql, text, -1, &s, NULL) != SQLITE_OK)
		return db_fault(&reader->db, "read", run->f);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		uint32_t at;

		r = store_cancelled(run->c);
		if (step != SQLITE_ROW)
			r = db_fault(&reader->db, "read", run->f);
		if (!r && gc_set_add(set, (enum db_kind)sqlite3_column_int(s, 0),
				     db_column_text(s, 1), db_column_text(s, 2), &at) < 0)
			r = db_no_memory(run->f);
	}
	sqlite3_finalize(s);
	return r;
}

static int mark_all(struct gc_run *run, sqlite3 *sql)
{
	struct gc_reader reader;
	int r = gc_reader_open(&reader, sql, run->db->path, run->f);

	if (r < 0)
		return r;
	r = gc_mark_roots(&run->m, &reader, run->f);
	if (!r)
		r = gc_mark_drain(&run->m, &reader, 0, run->c->cancel, run->f);
	run->first = run->m.set.n;
	if (!r)
		r = add_candidates(run, &reader, SQL_CANDIDATES);
	if (!r)
		r = add_candidates(run, &reader, SQL_CANDIDATE_SNAPSHOTS);
	run->last = run->m.set.n;
	gc_reader_close(&reader);
	return r;
}

/* On a connection of its own, within one transaction: one state of the database. */
static int mark(struct gc_run *run)
{
	struct db own = { .path = run->db->path };
	int r;

	if (sqlite3_open_v2(own.path, &own.sql, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK) {
		r = own.sql ? db_fault(&own, "open", run->f) : db_no_memory(run->f);
		sqlite3_close(own.sql);
		return r;
	}
	sqlite3_busy_timeout(own.sql, BUSY_MS);
	r = db_exec(&own,
		    "PRAGMA cache_size = -" CACHE_KIB ";"
		    "PRAGMA trusted_schema = OFF;"
		    "BEGIN;",
		    "read", run->f);
	if (!r)
		r = mark_all(run, own.sql);
	sqlite3_close(own.sql);
	return r;
}

/* ---- counting */

static int count_expired(struct gc_run *run)
{
	struct db *db = run->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = gc_statement(run, SQL_EXPIRED_COUNT);

	if (!s)
		return -EINVAL;
	sqlite3_bind_int64(s, 1, run->m.now);
	if (sqlite3_step(s) != SQLITE_ROW)
		return db_fault(db, "read", run->f);
	run->out->leases = (uint64_t)sqlite3_column_int64(s, 0);
	return 0;
}

/* Whether this namespace is the one that the blob's bytes are counted for, once all go. */
static int counts_for(struct gc_run *run, const char *ns, const char *digest)
{
	CLEANUP(db_donep) sqlite3_stmt *s = gc_statement(run, SQL_OWNERS);
	int step, r = 1;

	if (!s)
		return -EINVAL;
	db_bind_text(s, 1, digest);
	while (r > 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
		const char *owner = db_column_text(s, 0);
		uint32_t at;

		if (step != SQLITE_ROW)
			return db_fault(run->db, "read", run->f);
		at = gc_set_find(&run->m.set, DB_KIND_CONTENT, owner, digest);
		if (at < run->first || at >= run->last || strcmp(owner, ns) < 0)
			r = 0;
	}
	return r;
}

static int count_one(struct gc_run *run, uint32_t at)
{
	const char *ns = gc_set_ns(&run->m.set, at), *key = gc_set_key(&run->m.set, at);
	uint64_t size = 0;
	int64_t id;
	bool flag;
	int r;

	if (run->m.set.nodes[at].kind == DB_KIND_SNAPSHOT) {
		r = gc_snapshot_row(run, ns, key, &id, &size, &flag);
		if (r <= 0)
			return r;
		run->out->snapshots++;
	} else {
		r = gc_blob_size(run, key, &size, &flag);
		if (r < 0)
			return r;
		run->out->content += *ns != '\0';
		r = *ns ? counts_for(run, ns, key) : 1;
		if (r <= 0)
			return r;
	}
	run->out->bytes += size;
	return 0;
}

/* A dry run is not watched: it says what would have gone when it looked. */
static int count(struct gc_run *run)
{
	int r = 0;

	for (uint32_t at = run->first; !r && at < run->last;) {
		r = store_cancelled(run->c);
		db_lock(run->db);
		run->held = clock_mono();
		for (; !r && at < run->last && clock_mono() - run->held < COUNT_NS; at++)
			r = count_one(run, at);
		db_unlock(run->db);
	}
	return r;
}

/* ---- ingests */

/* Whoever asks may hold a lock, so the database is not asked. */
static bool ingest_held(void *user, const char *ns, const char *ref)
{
	struct gc_run *run = user;
	uint32_t at = gc_set_find(&run->m.set, DB_KIND_INGEST, ns, ref);

	return at != GC_NONE && run->m.set.nodes[at].flags & GC_MARKED;
}

static int expire_ingests(struct gc_run *run, bool dry)
{
	uint64_t bytes = 0;
	int r = ingest_expire(run->s, run->m.now - LIMIT_INGEST_EXPIRE_SECONDS * CLOCK_NS_PER_SEC,
			      ingest_held, run, dry, &run->out->ingests, &bytes, run->f);

	run->out->bytes += bytes;
	return r;
}

/* ---- a run */

static int collect(struct gc_run *run)
{
	int r = gc_expire_leases(run);

	if (r < 0)
		return r;
	gc_watch_begin(run->s);
	r = mark(run);
	if (!r)
		r = gc_sweep(run);
	/* leases may have taken ingests in */
	if (!r)
		r = gc_catch_up(run);
	gc_close_reader(run);
	gc_watch_end(run->s);
	return r ? r : expire_ingests(run, false);
}

/* A look without a watch: it says what would have gone at that moment. */
static int look(struct gc_run *run)
{
	int r = count_expired(run);

	if (!r)
		r = mark(run);
	if (!r)
		r = count(run);
	return r ? r : expire_ingests(run, true);
}

/* Whatever rows are gone by now: that is made durable, and their files go. */
static int finish(struct gc_run *run, bool whole)
{
	const struct gc_result *out = run->out;
	int r = gc_settle(run->s, out->content || out->snapshots || out->leases || out->bytes,
			  whole, run->f);

	return r ? r : gc_trash(run);
}

static int run_once(struct store_call *c, bool dry, struct gc_result *out)
{
	struct fault late = { 0 };
	struct gc_run run = {
		.c = c, .s = c->store, .db = c->store->db, .f = c->f, .out = out, .slice = 1
	};
	int64_t began = clock_mono();
	int r, e;

	memset(out, 0, sizeof(*out));
	out->started_at = run.m.now = clock_now();
	store_events_init(&run.events);
	gc_set_init(&run.m.set);
	r = snapshotter_name(c->store, NULL, &run.m.snapshotter, c->f);
	if (!r)
		r = dry ? look(&run) : collect(&run);
	out->marked = run.m.marked;
	if (!dry) {
		/* the first failure is the one that is told */
		if (r < 0)
			run.f = &late;
		e = finish(&run, !r);
		if (!r)
			r = e;
		gc_flush_events(&run, true);
	}
	store_events_clear(&run.events);
	gc_set_clear(&run.m.set);
	free(run.m.stack);
	free(run.folders);
	out->duration = clock_mono() - began;
	return r;
}

/* ---- turns */

static void note(struct gc *gc, int r, const struct gc_result *out, const struct fault *f)
{
	struct gc_status *s = &gc->status;

	s->runs++;
	s->last = *out;
	s->failure[0] = '\0';
	if (r < 0) {
		s->failures++;
		s->failed_at = clock_now();
		snprintf(s->failure, sizeof(s->failure), "%.255s", f->message);
	}
}

static void turn_end(struct gc *gc)
{
	pthread_mutex_lock(&gc->lock);
	gc->running = false;
	pthread_cond_broadcast(&gc->turn);
	pthread_mutex_unlock(&gc->lock);
}

int gc_run(struct store_call *c, bool dry, struct gc_result *out)
{
	struct gc *gc = c->store->gc;
	uint64_t number, covers;
	struct timespec until;
	int r = 0, e;

	pthread_mutex_lock(&gc->lock);
	number = ++gc->asked;
	while (gc->running && !r) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&gc->turn, &gc->lock, &until);
		r = store_cancelled(c);
	}
	if (r < 0 || (!dry && gc->covered >= number)) {
		*out = gc->last;
		pthread_mutex_unlock(&gc->lock);
		return r;
	}
	gc->running = true;
	covers = gc->asked;
	pthread_mutex_unlock(&gc->lock);

	r = run_once(c, dry, out);
	if (r < 0 && !dry)
		gc_want(c->store);
	e = dry ? 0 : gc_find_expiry(c->store, r < 0 ? NULL : c->f);
	if (!r)
		r = e;

	pthread_mutex_lock(&gc->lock);
	if (!dry) {
		note(gc, r, out, c->f);
		if (!r) {
			gc->last = *out;
			gc->covered = covers;
		}
	}
	pthread_mutex_unlock(&gc->lock);
	turn_end(gc);
	return r;
}

void gc_get_status(struct store *s, struct gc_status *out)
{
	pthread_mutex_lock(&s->gc->lock);
	*out = s->gc->status;
	out->running = s->gc->running;
	pthread_mutex_unlock(&s->gc->lock);
}
