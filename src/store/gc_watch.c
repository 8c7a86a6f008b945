// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection's watch over the database
 *
 * Two things must not escape a collection: a row that is written while it runs, since that may refer
 * to something that nobody referred to a moment ago; and a deletion, since it is time to collect
 * then. Both are told by triggers, which belong to the daemon's connection alone (TEMP: the file
 * knows nothing of them) and call back from inside the statement. So it does not matter which piece
 * of code writes a row. What code tells by db_touch ends in the same place.
 *
 * The first deletion also leaves a row in the table `meta`, in the same transaction: when the daemon
 * dies before it has collected, the next one does. A run that has succeeded takes it away, unless
 * there were further deletions.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/gc_internal.h"
#include "store/lease.h"
#include "util/cleanup.h"

#define NOTE "INSERT OR IGNORE INTO meta (key, value) VALUES ('garbage', '1');"

/* davit_gc_0 and so on; the numbers in davit_touched are those of enum db_kind */
static const struct {
	const char *event, *table, *when, *what;
} triggers[] = {
	{ "INSERT", "content", "1", "SELECT davit_touched(0, NEW.namespace, NEW.digest);" },
	{ "UPDATE", "content", "1", "SELECT davit_touched(0, NEW.namespace, NEW.digest);" },
	{ "INSERT", "images", "1", "SELECT davit_touched(1, NEW.namespace, NEW.name);" },
	{ "UPDATE", "images", "1", "SELECT davit_touched(1, NEW.namespace, NEW.name);" },
	{ "INSERT", "snapshots", "1",
	  "SELECT davit_touched(2, NEW.namespace, NEW.snapshotter || '/' || NEW.name);" },
	{ "UPDATE", "snapshots", "1",
	  "SELECT davit_touched(2, NEW.namespace, NEW.snapshotter || '/' || NEW.name);" },
	{ "INSERT", "leases", "1",
	  "SELECT davit_touched(3, NEW.namespace, NEW.id, NEW.expires_at);" },
	{ "UPDATE", "leases", "1",
	  "SELECT davit_touched(3, NEW.namespace, NEW.id, NEW.expires_at);" },
	{ "INSERT", "lease_resources", "1",
	  "SELECT davit_leased(NEW.namespace, NEW.type, NEW.id);" },
	{ "UPDATE", "lease_resources", "1",
	  "SELECT davit_leased(NEW.namespace, NEW.type, NEW.id);" },
	{ "INSERT", "containers", "1", "SELECT davit_touched(5, NEW.namespace, NEW.id);" },
	{ "UPDATE", "containers", "1", "SELECT davit_touched(5, NEW.namespace, NEW.id);" },
	{ "DELETE", "images", "davit_gone()", NOTE },
	{ "UPDATE", "images",
	  "(OLD.digest <> NEW.digest OR OLD.labels <> NEW.labels) AND davit_gone()", NOTE },
	{ "DELETE", "snapshots", "davit_gone()", NOTE },
	{ "DELETE", "leases", "davit_gone()", NOTE },
	/* an ingest that nobody holds goes a day later, whether anybody looks now or not */
	{ "DELETE", "lease_resources", "OLD.type <> 'ingests' AND davit_gone()", NOTE },
	{ "DELETE", "containers", "davit_gone()", NOTE },
};

static const char SQL_FLAG[] = "SELECT count(*) FROM meta WHERE key = 'garbage'";
static const char SQL_EXPIRY[] =
	"SELECT coalesce(min(expires_at), 0) FROM leases WHERE expires_at <> 0";
static const char SQL_NOTE[] = "INSERT INTO meta (key, value) VALUES ('collected', ?1) "
			       "ON CONFLICT (key) DO UPDATE SET value = excluded.value";
static const char SQL_UNFLAG[] = "DELETE FROM meta WHERE key = 'garbage'";

/* ---- told by the database, under its lock */

static void touched(void *user, enum db_kind kind, const char *ns, const char *id)
{
	struct gc *gc = user;
	uint32_t at;

	/* the run asks for `lost` and gives up: to guess would be worse */
	if (gc->watching && gc_set_add(&gc->touched, kind, ns, id, &at) < 0)
		gc->lost = true;
}

static const char *text_arg(sqlite3_value *v)
{
	const char *text = (const char *)sqlite3_value_text(v);

	return text ? text : "";
}

static void wake(struct gc *gc)
{
	if (gc->wake)
		gc->wake(gc->wake_user);
}

static void note_expiry(struct gc *gc, int64_t at)
{
	if (!at)
		return;
	pthread_mutex_lock(&gc->lock);
	if (!gc->next_expiry || at < gc->next_expiry) {
		gc->next_expiry = at;
		wake(gc);
	}
	pthread_mutex_unlock(&gc->lock);
}

/* davit_touched(kind, namespace, id [, expires_at]) */
static void sql_touched(sqlite3_context *ctx, int n, sqlite3_value **v)
{
	struct store *s = sqlite3_user_data(ctx);

	db_touch(s->db, (enum db_kind)sqlite3_value_int(v[0]), text_arg(v[1]), text_arg(v[2]));
	if (n > 3)
		note_expiry(s->gc, sqlite3_value_int64(v[3]));
}

/* davit_leased(namespace, type, id) */
static void sql_leased(sqlite3_context *ctx, int n, sqlite3_value **v)
{
	struct store *s = sqlite3_user_data(ctx);
	const char *ns = text_arg(v[0]), *type = text_arg(v[1]), *id = text_arg(v[2]);
	size_t prefix = sizeof(LEASE_SNAPSHOTS) - 1;
	char *key;

	(void)n;
	if (!strcmp(type, LEASE_CONTENT)) {
		db_touch(s->db, DB_KIND_CONTENT, ns, id);
	} else if (!strcmp(type, LEASE_IMAGES)) {
		db_touch(s->db, DB_KIND_IMAGE, ns, id);
	} else if (!strcmp(type, LEASE_INGESTS)) {
		db_touch(s->db, DB_KIND_INGEST, ns, id);
	} else if (!strncmp(type, LEASE_SNAPSHOTS, prefix)) {
		key = sqlite3_mprintf("%s/%s", type + prefix, id);
		if (key)
			db_touch(s->db, DB_KIND_SNAPSHOT, ns, key);
		else
			s->gc->lost = true;
		sqlite3_free(key);
	}
}

/* davit_gone(): whether it is to be remembered */
static void sql_gone(sqlite3_context *ctx, int n, sqlite3_value **v)
{
	struct store *s = sqlite3_user_data(ctx);
	struct gc *gc = s->gc;

	(void)n;
	(void)v;
	if (!gc->sweeping) {
		pthread_mutex_lock(&gc->lock);
		gc->garbage_last = clock_mono();
		if (!gc->garbage) {
			gc->garbage = true;
			gc->garbage_first = gc->garbage_last;
			wake(gc);
		}
		pthread_mutex_unlock(&gc->lock);
	}
	if (!gc->sweeping)
		gc->flagged = true;
	sqlite3_result_int(ctx, !gc->sweeping);
}

/* ---- a run's */

void gc_watch_begin(struct store *s)
{
	struct gc *gc = s->gc;

	db_lock(s->db);
	pthread_mutex_lock(&gc->lock);
	gc->garbage = false;
	pthread_mutex_unlock(&gc->lock);
	gc->lost = false;
	gc->watching = true;
	db_unlock(s->db);
}

void gc_watch_end(struct store *s)
{
	db_lock(s->db);
	s->gc->watching = false;
	gc_set_clear(&s->gc->touched);
	db_unlock(s->db);
}

int gc_find_expiry(struct store *s, struct fault *f)
{
	struct gc *gc = s->gc;
	int64_t at;
	int r;

	db_lock(s->db);
	r = db_pragma_int(s->db, SQL_EXPIRY, &at, f);
	if (!r) {
		pthread_mutex_lock(&gc->lock);
		gc->next_expiry = at;
		pthread_mutex_unlock(&gc->lock);
	}
	db_unlock(s->db);
	return r;
}

static int settle(struct store *s, bool whole, struct fault *f)
{
	struct db *db = s->db;
	char now[24];
	sqlite3_stmt *st = db_statement(db, SQL_NOTE, f);
	bool garbage;
	int r;

	if (!st)
		return db_fault(db, "write", f);
	/* that it writes at all makes the commit one that syncs, and those before it with it */
	snprintf(now, sizeof(now), "%lld", (long long)clock_now());
	db_bind_text(st, 1, now);
	r = db_run(db, st, "write", f);
	pthread_mutex_lock(&s->gc->lock);
	garbage = s->gc->garbage;
	pthread_mutex_unlock(&s->gc->lock);
	if (r < 0 || !whole || garbage || !s->gc->flagged)
		return r;
	st = db_statement(db, SQL_UNFLAG, f);
	r = st ? db_run(db, st, "write", f) : db_fault(db, "write", f);
	if (!r)
		s->gc->flagged = false;
	return r;
}

int gc_settle(struct store *s, bool changed, bool whole, struct fault *f)
{
	int r = 0;

	db_lock(s->db);
	if (changed || (whole && s->gc->flagged)) {
		r = db_begin(s->db, DB_FULL, f);
		if (!r)
			r = db_end(s->db, settle(s, whole, f), f);
	}
	db_unlock(s->db);
	return r;
}

void gc_want(struct store *s)
{
	struct gc *gc = s->gc;

	pthread_mutex_lock(&gc->lock);
	if (!gc->garbage) {
		gc->garbage = true;
		gc->garbage_first = gc->garbage_last = clock_mono();
		wake(gc);
	}
	pthread_mutex_unlock(&gc->lock);
}

int64_t gc_due(struct store *s)
{
	struct gc *gc = s->gc;
	int64_t due, most, offset = clock_now() - clock_mono();

	pthread_mutex_lock(&gc->lock);
	due = gc->next_expiry;
	if (gc->garbage) {
		int64_t at = gc->garbage_last + GC_DELAY_NS;

		most = gc->garbage_first + GC_DELAY_MAX_NS;
		at = (at < most ? at : most) + offset;
		if (!due || at < due)
			due = at;
	}
	pthread_mutex_unlock(&gc->lock);
	return due;
}

void gc_on_wake(struct store *s, void (*fn)(void *user), void *user)
{
	pthread_mutex_lock(&s->gc->lock);
	s->gc->wake = fn;
	s->gc->wake_user = user;
	pthread_mutex_unlock(&s->gc->lock);
}

void gc_set_sink(struct store *s, gc_sink sink, void *user)
{
	pthread_mutex_lock(&s->gc->lock);
	s->gc->sink = sink;
	s->gc->sink_user = user;
	pthread_mutex_unlock(&s->gc->lock);
}

/* ---- start and end */

static int add_triggers(struct store *s, struct fault *f)
{
	char text[512];
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_SIZE(triggers); i++) {
		snprintf(text, sizeof(text),
			 "CREATE TEMP TRIGGER davit_gc_%zu AFTER %s ON main.%s WHEN %s "
			 "BEGIN %s END",
			 i, triggers[i].event, triggers[i].table, triggers[i].when,
			 triggers[i].what);
		r = db_exec(s->db, text, "prepare", f);
	}
	return r;
}

static int add_functions(struct store *s, struct fault *f)
{
	static const struct {
		const char *name;
		int args;
		void (*fn)(sqlite3_context *ctx, int n, sqlite3_value **v);
	} functions[] = {
		{ "davit_touched", 3, sql_touched },
		{ "davit_touched", 4, sql_touched },
		{ "davit_leased", 3, sql_leased },
		{ "davit_gone", 0, sql_gone },
	};

	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (sqlite3_create_function_v2(s->db->sql, functions[i].name, functions[i].args,
					       SQLITE_UTF8 | SQLITE_INNOCUOUS, s, functions[i].fn,
					       NULL, NULL, NULL) != SQLITE_OK)
			return db_fault(s->db, "prepare", f);
	return add_triggers(s, f);
}

int gc_open(struct store *s, struct fault *f)
{
	struct gc *gc = calloc(1, sizeof(*gc));
	int64_t garbage = 0;
	int r;

	if (!gc)
		return db_no_memory(f);
	s->gc = gc;
	pthread_mutex_init(&gc->lock, NULL);
	pthread_cond_init(&gc->turn, NULL);
	gc_set_init(&gc->touched);
	db_lock(s->db);
	r = add_functions(s, f);
	if (!r)
		r = db_pragma_int(s->db, SQL_FLAG, &garbage, f);
	if (!r)
		r = gc_find_expiry(s, f);
	if (!r)
		db_watch(s->db, touched, gc);
	gc->flagged = garbage;
	db_unlock(s->db);
	if (r < 0) {
		gc_close(s);
		return r;
	}
	if (garbage)
		gc_want(s);
	return 0;
}

/* The triggers are taken away as well: the connection is not ours, and may be used further. */
void gc_close(struct store *s)
{
	struct gc *gc = s->gc;
	char text[64];

	if (!gc)
		return;
	db_lock(s->db);
	db_watch(s->db, NULL, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(triggers); i++) {
		snprintf(text, sizeof(text), "DROP TRIGGER IF EXISTS temp.davit_gc_%zu", i);
		db_exec(s->db, text, "end", NULL);
	}
	db_unlock(s->db);
	gc_set_clear(&gc->touched);
	pthread_cond_destroy(&gc->turn);
	pthread_mutex_destroy(&gc->lock);
	free(gc);
	s->gc = NULL;
}
