// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection: taking away what was not marked
 *
 * Everything here happens in slices: a transaction that holds the database's lock for a millisecond
 * or so, then a pause in which others get their turn. The number of rows in a slice follows what
 * the disk and the others leave room for. A slice that fails is rolled back, and with it what was
 * noted of it: events, numbers, the files that were to go. In which order what goes, and why, is
 * told in gc.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/content_internal.h"
#include "store/gc_internal.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/digest.h"
#include "util/fd.h"
#include "util/mp.h"

#define SLICE_NS 800000ll /* of holding the lock; the commit comes on top */
#define SLICE_MIN 8u
#define SLICE_MAX 256u
#define PAUSE_NS 300000l
#define FOLD_PAGES 4096u /* each fold makes the next commit wait for the disk once */
#define EVENTS_AT_ONCE 256u
#define LEASE_ROWS "256"

static const char SQL_EXPIRED[] = "SELECT namespace, id FROM leases "
				  "WHERE expires_at <> 0 AND expires_at <= ?1 LIMIT 1";
static const char SQL_EXPIRED_RESOURCES[] =
	"DELETE FROM lease_resources WHERE (namespace, lease, type, id) IN ("
	"SELECT namespace, lease, type, id FROM lease_resources "
	"WHERE namespace = ?1 AND lease = ?2 LIMIT " LEASE_ROWS ")";
static const char SQL_EXPIRED_DELETE[] = "DELETE FROM leases WHERE namespace = ?1 AND id = ?2";
static const char SQL_CONTENT_DELETE[] = "DELETE FROM content WHERE namespace = ?1 AND digest = ?2";
static const char SQL_SIZE[] =
	"SELECT size, EXISTS (SELECT 1 FROM content WHERE content.digest = ?1) FROM blobs "
	"WHERE digest = ?1";
static const char SQL_BLOB_DELETE[] = "DELETE FROM blobs WHERE digest = ?1";
static const char SQL_BLOB_HAS[] = "SELECT 1 FROM blobs WHERE digest = ?1";
static const char SQL_SNAPSHOT_ROW[] =
	"SELECT id, size, EXISTS (SELECT 1 FROM snapshots AS child WHERE child.namespace = ?1 "
	"AND child.snapshotter = ?2 AND child.parent = ?3) "
	"FROM snapshots WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3";
static const char SQL_SNAPSHOT_DELETE[] = "DELETE FROM snapshots WHERE id = ?1";

sqlite3_stmt *gc_statement(struct gc_run *run, const char *text)
{
	sqlite3_stmt *s = db_statement(run->db, text, run->f);

	if (!s)
		db_fault(run->db, "read", run->f);
	return s;
}

static int run_with(struct gc_run *run, const char *text, const char *a, const char *b)
{
	sqlite3_stmt *s = gc_statement(run, text);

	if (!s)
		return -EINVAL;
	db_bind_text(s, 1, a);
	if (b)
		db_bind_text(s, 2, b);
	return db_run(run->db, s, "write", run->f);
}

/* ---- events */

void gc_flush_events(struct gc_run *run, bool last)
{
	struct gc *gc = run->s->gc;
	struct store_events *to = run->c->events;
	gc_sink sink;
	void *user;

	pthread_mutex_lock(&gc->lock);
	sink = gc->sink;
	user = gc->sink_user;
	pthread_mutex_unlock(&gc->lock);
	if (sink && (run->n_events || last)) {
		sink(user, &run->events, run->c->cancel, last);
	} else if (to && run->events.first) {
		*to->last = run->events.first;
		to->last = run->events.last;
		store_events_init(&run->events);
	}
	store_events_clear(&run->events);
	run->n_events = 0;
}

/* key: a text, second: a text or, with NULL, size */
static int add_event(struct gc_run *run, const char *ns, const char *topic, const char *key,
		     const char *value, const char *key2, const char *value2, uint64_t size)
{
	struct store_event *ev = store_event_add(&run->events, ns, topic);
	msgpack_packer pk;
	char *fitting;

	if (!ev)
		return db_no_memory(run->f);
	run->n_events++;
	mp_packer_init(&pk, &ev->payload);
	msgpack_pack_map(&pk, 2);
	mp_pack_key_str(&pk, key, value);
	if (value2)
		mp_pack_key_str(&pk, key2, value2);
	else
		mp_pack_key_uint(&pk, key2, size);
	if (mp_failed(&ev->payload))
		return db_no_memory(run->f);
	/* there may be many, and msgpack-c begins with 8 KiB */
	fitting = realloc(ev->payload.data, ev->payload.size);
	if (fitting) {
		ev->payload.data = fitting;
		ev->payload.alloc = ev->payload.size;
	}
	return 0;
}

/* ---- slices */

/* How far things were before a slice. */
struct mark {
	struct gc_result out;
	struct store_event **last;
	size_t n_events, n_folders;
};

static void mark_set(const struct gc_run *run, struct mark *mark)
{
	*mark = (struct mark){ *run->out, run->events.last, run->n_events, run->n_folders };
}

static void mark_return(struct gc_run *run, const struct mark *mark)
{
	struct store_events late = { .first = *mark->last, .last = run->events.last };

	*mark->last = NULL;
	run->events.last = mark->last;
	store_events_clear(&late);
	*run->out = mark->out;
	run->n_events = mark->n_events;
	run->n_folders = mark->n_folders;
}

static int slice_begin(struct gc_run *run, struct mark *mark)
{
	int r = store_cancelled(run->c);

	mark_set(run, mark);
	if (r < 0)
		return r;
	r = db_begin(run->db, DB_NORMAL, run->f);
	run->held = clock_mono();
	if (!r)
		run->s->gc->sweeping = true;
	return r;
}

static bool slice_over(const struct gc_run *run)
{
	return clock_mono() - run->held >= SLICE_NS;
}

/* The lock was given back: others get their turn. */
static void pause_after(struct gc_run *run, int64_t took)
{
	static const struct timespec pause = { .tv_nsec = PAUSE_NS };

	if (took > run->out->longest_lock)
		run->out->longest_lock = took;
	clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

/* Ends the transaction and the lock. */
static int slice_end(struct gc_run *run, int r, const struct mark *mark)
{
	int64_t took;
	struct fault ignored;

	run->s->gc->sweeping = false;
	r = db_end(run->db, r, run->f);
	took = clock_mono() - run->held;
	if (r < 0) {
		mark_return(run, mark);
		return r;
	}
	if (took > SLICE_NS && run->slice > SLICE_MIN)
		run->slice /= 2;
	else if (took < SLICE_NS / 2 && run->slice < SLICE_MAX)
		run->slice *= 2;
	/* that it could not be done now is no failure of the run */
	if (db_wal_pages(run->db) >= FOLD_PAGES)
		db_fold(run->db, &ignored);
	if (run->n_events >= EVENTS_AT_ONCE)
		gc_flush_events(run, false);
	pause_after(run, took);
	return 0;
}

/*
 * Marks what was touched, and what that refers to. 1 when there is more to do than a slice has time
 * for. Under the lock.
 */
static int catch_up(struct gc_run *run)
{
	struct gc *gc = run->s->gc;
	struct gc_set *t = &gc->touched;
	int r;

	if (gc->lost)
		return db_no_memory(run->f);
	for (uint32_t i = 0; i < t->n; i++) {
		r = gc_mark(&run->m, t->nodes[i].kind, gc_set_ns(t, i), gc_set_key(t, i), GC_FULL,
			    true);
		if (r < 0)
			return db_no_memory(run->f);
	}
	if (t->n)
		gc_set_clear(t);
	return gc_mark_drain(&run->m, &run->now, run->held + SLICE_NS, run->c->cancel, run->f);
}

/* ---- leases whose time is over */

/* One step of one lease: some of its resources, or at last itself. 0 when there is none left. */
static int expire_step(struct gc_run *run)
{
	CLEANUP_FREE char *ns = NULL;
	CLEANUP_FREE char *id = NULL;
	sqlite3_stmt *s = gc_statement(run, SQL_EXPIRED);
	int r = 0, step;

	if (!s)
		return -EINVAL;
	sqlite3_bind_int64(s, 1, run->m.now);
	step = sqlite3_step(s);
	if (step == SQLITE_ROW) {
		ns = strdup(db_column_text(s, 0));
		id = strdup(db_column_text(s, 1));
		r = ns && id ? 0 : db_no_memory(run->f);
	} else if (step != SQLITE_DONE) {
		r = db_fault(run->db, "read", run->f);
	}
	db_done(s);
	if (r < 0 || step != SQLITE_ROW)
		return r;
	r = run_with(run, SQL_EXPIRED_RESOURCES, ns, id);
	if (r < 0)
		return r;
	if (sqlite3_changes(run->db->sql))
		return 1;
	r = run_with(run, SQL_EXPIRED_DELETE, ns, id);
	if (r < 0)
		return r;
	run->out->leases++;
	return 1;
}

int gc_expire_leases(struct gc_run *run)
{
	int r = 1;

	while (r > 0) {
		struct mark mark;
		int e;

		r = slice_begin(run, &mark);
		if (r < 0)
			return r;
		do
			r = expire_step(run);
		while (r > 0 && !slice_over(run));
		e = slice_end(run, r < 0 ? r : 0, &mark);
		if (e < 0)
			return e;
	}
	return 0;
}

/* ---- removing rows */

int gc_blob_size(struct gc_run *run, const char *digest, uint64_t *size, bool *used)
{
	CLEANUP(db_donep) sqlite3_stmt *s = gc_statement(run, SQL_SIZE);
	int step;

	*size = 0;
	*used = true;
	if (!s)
		return -EINVAL;
	db_bind_text(s, 1, digest);
	step = sqlite3_step(s);
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return db_fault(run->db, "read", run->f);
	*size = (uint64_t)sqlite3_column_int64(s, 0);
	*used = sqlite3_column_int(s, 1);
	return 0;
}

int gc_snapshot_row(struct gc_run *run, const char *ns, const char *key, int64_t *id,
		    uint64_t *size, bool *parent)
{
	CLEANUP(db_donep) sqlite3_stmt *s = gc_statement(run, SQL_SNAPSHOT_ROW);
	const char *slash = strchr(key, '/');
	int step;

	if (!s)
		return -EINVAL;
	if (!slash)
		return 0;
	db_bind_text(s, 1, ns);
	sqlite3_bind_text(s, 2, key, (int)(slash - key), SQLITE_STATIC);
	db_bind_text(s, 3, slash + 1);
	step = sqlite3_step(s);
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return db_fault(run->db, "read", run->f);
	*id = sqlite3_column_int64(s, 0);
	*size = (uint64_t)sqlite3_column_int64(s, 1);
	*parent = sqlite3_column_int(s, 2);
	return 1;
}

static int delete_content(struct gc_run *run, uint32_t at)
{
	const char *ns = gc_set_ns(&run->m.set, at), *digest = gc_set_key(&run->m.set, at);
	uint64_t size = 0;
	bool used = true;
	int r = 0, gone = 0;

	if (*ns) {
		r = run_with(run, SQL_CONTENT_DELETE, ns, digest);
		gone = sqlite3_changes(run->db->sql);
	}
	if (!r)
		r = gc_blob_size(run, digest, &size, &used);
	if (!r && gone) {
		run->out->content++;
		r = add_event(run, ns, "/content/delete", "digest", digest, "size", NULL, size);
	}
	if (r < 0 || used)
		return r;
	r = run_with(run, SQL_BLOB_DELETE, digest, NULL);
	if (r < 0)
		return r;
	run->out->bytes += size;
	run->m.set.nodes[at].flags |= GC_FILE;
	return 0;
}

static int note_folder(struct gc_run *run, int64_t id, bool native)
{
	if (run->n_folders == run->folders_room) {
		size_t room = run->folders_room ? run->folders_room * 2 : 64;
		struct gc_folder *grown = reallocarray(run->folders, room, sizeof(*grown));

		if (!grown)
			return db_no_memory(run->f);
		run->folders = grown;
		run->folders_room = room;
	}
	run->folders[run->n_folders++] = (struct gc_folder){ id, native };
	return 0;
}

static int delete_snapshot(struct gc_run *run, uint32_t at)
{
	const char *ns = gc_set_ns(&run->m.set, at), *key = gc_set_key(&run->m.set, at);
	CLEANUP_FREE char *snapshotter = NULL;
	uint64_t size = 0;
	int64_t id = 0;
	bool parent = false;
	sqlite3_stmt *s;
	int r = gc_snapshot_row(run, ns, key, &id, &size, &parent);

	/* its children go first, and with the next pass itself */
	if (r > 0 && parent)
		run->postponed = true;
	if (r <= 0 || parent)
		return r < 0 ? r : 0;
	s = gc_statement(run, SQL_SNAPSHOT_DELETE);
	if (!s)
		return -EINVAL;
	sqlite3_bind_int64(s, 1, id);
	r = db_run(run->db, s, "write", run->f);
	if (r < 0)
		return r;
	snapshotter = strndup(key, strcspn(key, "/"));
	if (!snapshotter)
		return db_no_memory(run->f);
	r = note_folder(run, id, !strcmp(snapshotter, SNAPSHOTTER_NATIVE));
	if (!r)
		r = add_event(run, ns, "/snapshot/remove", "key", strchr(key, '/') + 1,
			      "snapshotter", snapshotter, 0);
	if (r < 0)
		return r;
	run->out->snapshots++;
	run->out->bytes += size;
	return 0;
}

/* Nodes beyond `last` came by catching up, and are marked. */
static int sweep_slice(struct gc_run *run, uint32_t *at)
{
	struct mark mark;
	uint32_t from = *at;
	unsigned n = 0;
	int r = slice_begin(run, &mark), more = 0;

	if (r < 0)
		return r;
	r = catch_up(run);
	if (r > 0) {
		r = 0;
		more = 1;
	}
	while (!r && !more && *at < run->last && n < run->slice && !slice_over(run)) {
		const struct gc_node *node = &run->m.set.nodes[*at];

		if (!(node->flags & GC_MARKED)) {
			r = node->kind == DB_KIND_SNAPSHOT ? delete_snapshot(run, *at)
							   : delete_content(run, *at);
			n++;
		}
		++*at;
	}
	r = slice_end(run, r, &mark);
	if (r < 0)
		for (uint32_t i = from; i < run->last; i++)
			run->m.set.nodes[i].flags &= (uint8_t)~GC_FILE;
	return r;
}

int gc_sweep(struct gc_run *run)
{
	uint64_t removed = run->out->snapshots;
	uint32_t at = run->first;
	int r;

	db_lock(run->db);
	r = gc_reader_open(&run->now, run->db->sql, run->db->path, run->f);
	db_unlock(run->db);
	while (!r && at < run->last)
		r = sweep_slice(run, &at);
	/* as long as that takes anything away */
	while (!r && run->postponed && run->out->snapshots > removed) {
		removed = run->out->snapshots;
		run->postponed = false;
		for (at = run->first; !r && at < run->last;) {
			if (run->m.set.nodes[at].kind == DB_KIND_SNAPSHOT)
				r = sweep_slice(run, &at);
			else
				at++;
		}
	}
	return r;
}

int gc_catch_up(struct gc_run *run)
{
	struct mark mark;
	int r = 1;

	while (r > 0) {
		int e = slice_begin(run, &mark);

		if (e < 0)
			return e;
		r = catch_up(run);
		e = slice_end(run, r < 0 ? r : 0, &mark);
		if (e < 0)
			return e;
	}
	return 0;
}

void gc_close_reader(struct gc_run *run)
{
	db_lock(run->db);
	gc_reader_close(&run->now);
	db_unlock(run->db);
}

/* ---- removing files */

static int blob_has_row(struct gc_run *run, const char *digest)
{
	CLEANUP(db_donep) sqlite3_stmt *s = gc_statement(run, SQL_BLOB_HAS);
	int step;

	if (!s)
		return -EINVAL;
	db_bind_text(s, 1, digest);
	step = sqlite3_step(s);
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		return db_fault(run->db, "read", run->f);
	return step == SQLITE_ROW;
}

static int trash_blobs(struct gc_run *run)
{
	int r = 0;

	for (uint32_t at = run->first; !r && at < run->last;) {
		int64_t took;

		db_lock(run->db);
		run->held = clock_mono();
		for (; !r && at < run->last && !slice_over(run); at++) {
			const char *digest = gc_set_key(&run->m.set, at);

			if (!(run->m.set.nodes[at].flags & GC_FILE) || !digest_valid(digest))
				continue;
			r = blob_has_row(run, digest);
			if (r > 0) {
				r = 0;
				continue;
			}
			/* the file is that of one who is committing it again */
			if (!r && !ingest_places(run->s, digest))
				r = store_trash(run->s, run->s->blobs_fd,
						digest + strlen("sha256:"));
			if (r < 0)
				fault_sys(run->f, -r, "remove the content", digest);
		}
		took = clock_mono() - run->held;
		db_unlock(run->db);
		pause_after(run, took);
	}
	return r;
}

static int trash_folders(struct gc_run *run)
{
	static const char *const names[] = { "snapshots/" SNAPSHOTTER_OVERLAYFS,
					     "snapshots/" SNAPSHOTTER_NATIVE };
	int fds[2] = { -1, -1 }, r = 0;

	for (size_t i = 0; !r && i < run->n_folders; i++) {
		const struct gc_folder *folder = &run->folders[i];
		char name[24];
		int *fd = &fds[folder->native];

		if (*fd < 0)
			*fd = openat(run->s->root_fd, names[folder->native],
				     O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (*fd < 0) {
			r = fault_sys(run->f, errno, "open the folder", names[folder->native]);
			break;
		}
		snprintf(name, sizeof(name), "%lld", (long long)folder->id);
		r = store_trash(run->s, *fd, name);
		if (r < 0)
			fault_sys(run->f, -r, "remove the snapshot's folder", name);
	}
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	return r;
}

int gc_trash(struct gc_run *run)
{
	int r = run->n_folders ? trash_folders(run) : 0;

	return r < 0 ? r : trash_blobs(run);
}
