// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots: their rows
 *
 * A row's id is its folder's name and never used again, so whoever has looked at a row, done
 * something long without the lock, and comes back can tell by the id whether it is still the same
 * snapshot. A parent is kept by name: committed names never change, and a row that is somebody's
 * parent is not deleted.
 *
 * Every function takes the database's lock; callers that do several things in a row hold it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/snapshot_internal.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define CHILDREN_NAMED 3

static const char SQL_GET[] = "SELECT id, kind, parent, size, inodes FROM snapshots "
			      "WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3";
static const char SQL_CHAIN[] =
	"WITH RECURSIVE chain (id, parent, depth) AS ("
	" SELECT id, parent, 1 FROM snapshots"
	" WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3"
	" UNION ALL SELECT s.id, s.parent, c.depth + 1 FROM chain c JOIN snapshots s"
	" ON s.namespace = ?1 AND s.snapshotter = ?2 AND s.name = c.parent"
	" WHERE c.parent <> '' AND c.depth <= ?4"
	") SELECT id, parent FROM chain ORDER BY depth";
static const char SQL_INSERT[] =
	"INSERT INTO snapshots (namespace, snapshotter, name, parent, kind, labels, size, inodes, "
	"created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, ?7, ?7)";
static const char SQL_COMMIT[] =
	"UPDATE snapshots SET name = ?2, kind = 'committed', labels = ?3, size = ?4, inodes = ?5, "
	"created_at = ?6, updated_at = ?6 WHERE id = ?1";
static const char SQL_LEASES[] = "UPDATE OR REPLACE lease_resources SET id = ?4 "
				 "WHERE namespace = ?1 AND type = ?2 AND id = ?3";
static const char SQL_LABELS[] = "UPDATE snapshots SET labels = ?2, updated_at = ?3 WHERE id = ?1";
static const char SQL_DELETE[] = "DELETE FROM snapshots WHERE id = ?1";
static const char SQL_CHILDREN[] =
	"SELECT name FROM snapshots "
	"WHERE namespace = ?1 AND snapshotter = ?2 AND parent = ?3 ORDER BY name";
static const char SQL_ONE[] = "SELECT name, parent, kind, labels, created_at, updated_at "
			      "FROM snapshots "
			      "WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3";
static const char SQL_EACH[] = "SELECT name, parent, kind, labels, created_at, updated_at "
			       "FROM snapshots "
			       "WHERE namespace = ?1 AND snapshotter = ?2 AND name > ?3 "
			       "ORDER BY name";
static const char SQL_FOLDER[] = "SELECT 1 FROM snapshots WHERE id = ?1 AND snapshotter = ?2";

static const char *const kinds[] = {
	[SNAPSHOT_VIEW] = "view",
	[SNAPSHOT_ACTIVE] = "active",
	[SNAPSHOT_COMMITTED] = "committed",
};

void snapshot_row_clear(struct snapshot_row *row)
{
	free(row->parent);
	memset(row, 0, sizeof(*row));
}

/* With the three that name a snapshot bound. NULL after filling the fault. */
static sqlite3_stmt *named(struct store_call *c, const struct snapshot_driver *d, const char *sql,
			   const char *name)
{
	sqlite3_stmt *s = db_statement(c->store->db, sql, c->f);

	if (!s)
		return NULL;
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, d->name);
	db_bind_text(s, 3, name);
	return s;
}

static int unprepared(struct store_call *c)
{
	return db_fault(c->store->db, "prepare a statement for", c->f);
}

/* 1: read, 0: there is none. */
static int row_find(struct store_call *c, const struct snapshot_driver *d, const char *name,
		    struct snapshot_row *row)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = named(c, d, SQL_GET, name);
	const char *kind;
	int step;

	memset(row, 0, sizeof(*row));
	if (!s)
		return unprepared(c);
	step = sqlite3_step(s);
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return db_fault(db, "read", c->f);
	row->id = sqlite3_column_int64(s, 0);
	kind = db_column_text(s, 1);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(kind, kinds[i]))
			row->kind = (enum snapshot_kind)i;
	row->parent = strdup(db_column_text(s, 2));
	row->usage.size = (uint64_t)sqlite3_column_int64(s, 3);
	row->usage.inodes = (uint64_t)sqlite3_column_int64(s, 4);
	return row->parent ? 1 : db_no_memory(c->f);
}

int snapshot_row_get(struct store_call *c, const struct snapshot_driver *d, const char *name,
		     struct snapshot_row *row)
{
	int r = row_find(c, d, name, row);

	if (r)
		return r < 0 ? r : 0;
	fault_set(c->f, FAULT_NOT_FOUND, 0, "there is no %s snapshot '%s' in the namespace '%s'",
		  d->name, name, c->ns);
	return -ENOENT;
}

int snapshot_row_vacant(struct store_call *c, const struct snapshot_driver *d, const char *name)
{
	struct snapshot_row row;
	int r = row_find(c, d, name, &row);

	if (r > 0) {
		fault_set(c->f, FAULT_ALREADY_EXISTS, 0,
			  "there is a snapshot '%s' already (%s, %s)", name, d->name,
			  kinds[row.kind]);
		r = -EEXIST;
	}
	snapshot_row_clear(&row);
	return r;
}

int snapshot_row_parent(struct store_call *c, const struct snapshot_driver *d, const char *name,
			struct snapshot_row *row)
{
	int r;

	memset(row, 0, sizeof(*row));
	if (!name || !*name)
		return 0;
	r = snapshot_row_get(c, d, name, row);
	if (r == -ENOENT) {
		fault_prefix(c->f, "parent");
		fault_arg(c->f, "parent");
	}
	if (!r && row->kind != SNAPSHOT_COMMITTED) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "parent '%s' is not committed: it is %s %s snapshot", name,
			  row->kind == SNAPSHOT_ACTIVE ? "an" : "a", kinds[row->kind]);
		fault_arg(c->f, "parent");
		r = -EINVAL;
	}
	if (r < 0)
		snapshot_row_clear(row);
	return r;
}

int snapshot_row_chain(struct store_call *c, const struct snapshot_driver *d, const char *name,
		       int64_t **ids, size_t *n)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = NULL;
	size_t room = 0;
	bool whole = true;
	int step;

	*ids = NULL;
	*n = 0;
	if (!name || !*name)
		return 0;
	s = named(c, d, SQL_CHAIN, name);
	if (!s)
		return unprepared(c);
	sqlite3_bind_int64(s, 4, LIMIT_SNAPSHOT_DEPTH);
	while ((step = sqlite3_step(s)) == SQLITE_ROW) {
		if (*n == room) {
			int64_t *grown = realloc(*ids, (room += 64) * sizeof(**ids));

			if (!grown)
				return db_no_memory(c->f);
			*ids = grown;
		}
		(*ids)[(*n)++] = sqlite3_column_int64(s, 0);
		whole = !*db_column_text(s, 1);
	}
	if (step != SQLITE_DONE)
		return db_fault(db, "read", c->f);
	if (*n > LIMIT_SNAPSHOT_DEPTH) {
		fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "a snapshot on '%s' would have more than %u parents", name,
			  LIMIT_SNAPSHOT_DEPTH);
		fault_arg(c->f, "parent");
		return -E2BIG;
	}
	if (*n && !whole) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the database is damaged: a parent of the snapshot '%s' is missing",
			  name);
		return -EUCLEAN;
	}
	return 0;
}

static int touch(struct store_call *c, const struct snapshot_driver *d, const char *name)
{
	char *id;

	if (asprintf(&id, "%s/%s", d->name, name) < 0)
		return db_no_memory(c->f);
	db_touch(c->store->db, DB_KIND_SNAPSHOT, c->ns, id);
	free(id);
	return 0;
}

int snapshot_row_insert(struct store_call *c, const struct snapshot_driver *d, const char *name,
			const char *parent, enum snapshot_kind kind, const struct db_label *labels,
			size_t n_labels, int64_t *id)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *text = db_labels_text(labels, n_labels, &j);
	sqlite3_stmt *s;
	int r;

	if (!text)
		return db_no_memory(c->f);
	s = named(c, d, SQL_INSERT, name);
	if (!s)
		return unprepared(c);
	db_bind_text(s, 4, parent);
	db_bind_text(s, 5, kinds[kind]);
	db_bind_text(s, 6, text);
	sqlite3_bind_int64(s, 7, clock_now());
	r = db_run(db, s, "write", c->f);
	*id = sqlite3_last_insert_rowid(db->sql);
	return r < 0 ? r : touch(c, d, name);
}

int snapshot_row_commit(struct store_call *c, const struct snapshot_driver *d,
			const struct snapshot_row *row, const char *key, const char *name,
			const struct snapshot_usage *usage, const struct db_label *labels,
			size_t n_labels)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *text = db_labels_text(labels, n_labels, &j);
	sqlite3_stmt *s;
	int r;

	if (!text)
		return db_no_memory(c->f);
	s = db_statement(db, SQL_COMMIT, c->f);
	if (!s)
		return unprepared(c);
	sqlite3_bind_int64(s, 1, row->id);
	db_bind_text(s, 2, name);
	db_bind_text(s, 3, text);
	sqlite3_bind_int64(s, 4, (int64_t)usage->size);
	sqlite3_bind_int64(s, 5, (int64_t)usage->inodes);
	sqlite3_bind_int64(s, 6, clock_now());
	r = db_run(db, s, "write", c->f);
	if (r < 0)
		return r;
	/* a lease that has held the key goes on to hold the same snapshot */
	s = db_statement(db, SQL_LEASES, c->f);
	if (!s)
		return unprepared(c);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, d->lease_type);
	db_bind_text(s, 3, key);
	db_bind_text(s, 4, name);
	r = db_run(db, s, "write", c->f);
	return r < 0 ? r : touch(c, d, name);
}

int snapshot_row_labels(struct store_call *c, const struct snapshot_driver *d, int64_t id,
			const char *name, const struct db_label *labels, size_t n_labels)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *text = db_labels_text(labels, n_labels, &j);
	sqlite3_stmt *s;
	int r;

	if (!text)
		return db_no_memory(c->f);
	s = db_statement(db, SQL_LABELS, c->f);
	if (!s)
		return unprepared(c);
	sqlite3_bind_int64(s, 1, id);
	db_bind_text(s, 2, text);
	sqlite3_bind_int64(s, 3, clock_now());
	r = db_run(db, s, "write", c->f);
	return r < 0 ? r : touch(c, d, name);
}

int snapshot_row_delete(struct store_call *c, int64_t id)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	sqlite3_stmt *s = db_statement(db, SQL_DELETE, c->f);

	if (!s)
		return unprepared(c);
	sqlite3_bind_int64(s, 1, id);
	return db_run(db, s, "write", c->f);
}

int snapshot_row_childless(struct store_call *c, const struct snapshot_driver *d, const char *name)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = named(c, d, SQL_CHILDREN, name);
	char named_some[512] = "", more[64] = "";
	size_t n = 0, at = 0;
	int step;

	if (!s)
		return unprepared(c);
	while ((step = sqlite3_step(s)) == SQLITE_ROW) {
		if (n < CHILDREN_NAMED && at < sizeof(named_some))
			at += (size_t)snprintf(named_some + at, sizeof(named_some) - at, "%s'%s'",
					       n ? ", " : "", db_column_text(s, 0));
		n++;
	}
	if (step != SQLITE_DONE)
		return db_fault(db, "read", c->f);
	if (!n)
		return 0;
	if (n > CHILDREN_NAMED)
		snprintf(more, sizeof(more), " and %zu more", n - CHILDREN_NAMED);
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
		  "snapshot '%s' has children, which have to be removed first: %s%s", name,
		  named_some, more);
	return -EBUSY;
}

int snapshot_row_each(struct store_call *c, const struct snapshot_driver *d, const char *name,
		      const char *after, snapshot_fn fn, void *user, size_t *n)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep)
	sqlite3_stmt *s = named(c, d, name ? SQL_ONE : SQL_EACH, name ? name : after);
	size_t count = 0;
	int r = 0, step;

	if (!s)
		return unprepared(c);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		CLEANUP(json_putp) json_object *j = NULL;
		CLEANUP_FREE struct db_label *labels = NULL;
		struct snapshot_info info = { 0 };

		if (step != SQLITE_ROW)
			return db_fault(db, "read", c->f);
		r = db_labels_read(db, db_column_text(s, 3), &j, &labels, &info.n_labels, c->f);
		if (r < 0)
			return r;
		info.name = db_column_text(s, 0);
		info.parent = db_column_text(s, 1);
		info.kind = db_column_text(s, 2);
		info.labels = labels;
		info.created_at = sqlite3_column_int64(s, 4);
		info.updated_at = sqlite3_column_int64(s, 5);
		r = fn(user, &info);
		count++;
	}
	if (n)
		*n = count;
	return r;
}

int snapshot_row_of_folder(struct store *s, const struct snapshot_driver *d, const char *folder,
			   struct fault *f)
{
	struct db *db = s->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *q = NULL;
	size_t digits = strspn(folder, "0123456789");
	int step;

	if (!digits || folder[digits] || digits > 18 || folder[0] == '0')
		return 0;
	q = db_statement(db, SQL_FOLDER, f);
	if (!q)
		return db_fault(db, "prepare a statement for", f);
	sqlite3_bind_int64(q, 1, atoll(folder));
	db_bind_text(q, 2, d->name);
	step = sqlite3_step(q);
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		return db_fault(db, "read", f);
	return step == SQLITE_ROW;
}
