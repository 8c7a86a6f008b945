// SPDX-License-Identifier: Apache-2.0
/*
 * Rows of the metadata database: namespaces and containers
 *
 * Each put or delete is a transaction of its own. Text and blobs are bound without a copy: the
 * caller's memory lasts until the statement is done, which is before the function returns.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/db_internal.h"
#include "util/cleanup.h"

static const char SQL_NAMESPACE_PUT[] = "INSERT INTO namespaces (name, labels) VALUES (?1, ?2) "
					"ON CONFLICT (name) DO UPDATE SET labels = excluded.labels";
static const char SQL_NAMESPACE_DELETE[] = "DELETE FROM namespaces WHERE name = ?1";
static const char SQL_NAMESPACE_EACH[] = "SELECT name, labels FROM namespaces ORDER BY name";
static const char SQL_CONTAINER_PUT[] =
	"INSERT OR REPLACE INTO containers (namespace, id, image, runtime, snapshotter, snapshot_key, "
	"bundle, labels, spec, extensions, created_at, updated_at) "
	"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
static const char SQL_CONTAINER_DELETE[] =
	"DELETE FROM containers WHERE namespace = ?1 AND id = ?2";
static const char SQL_CONTAINER_EACH[] =
	"SELECT namespace, id, image, runtime, snapshotter, snapshot_key, bundle, labels, spec, "
	"extensions, created_at, updated_at FROM containers ORDER BY namespace, id";

int db_namespace_put(struct db *db, const struct db_namespace *ns, struct fault *f)
{
	DB_LOCKED(db);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *labels = db_labels_text(ns->labels, ns->n_labels, &j);
	sqlite3_stmt *s;

	if (!labels)
		return db_no_memory(f);
	s = db_statement(db, SQL_NAMESPACE_PUT, f);
	if (!s)
		return db_fault(db, "write", f);
	db_bind_text(s, 1, ns->name);
	db_bind_text(s, 2, labels);
	return db_run(db, s, "write", f);
}

int db_namespace_delete(struct db *db, const char *name, struct fault *f)
{
	DB_LOCKED(db);
	sqlite3_stmt *s = db_statement(db, SQL_NAMESPACE_DELETE, f);

	if (!s)
		return db_fault(db, "write", f);
	db_bind_text(s, 1, name);
	return db_run(db, s, "write", f);
}

int db_namespace_each(struct db *db, int (*fn)(void *user, const struct db_namespace *ns),
		      void *user, struct fault *f)
{
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_NAMESPACE_EACH, f);
	int r = 0, step;

	if (!s)
		return db_fault(db, "read", f);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		CLEANUP(json_putp) json_object *j = NULL;
		CLEANUP_FREE struct db_label *labels = NULL;
		struct db_namespace ns = { 0 };

		if (step != SQLITE_ROW)
			return db_fault(db, "read", f);
		r = db_labels_read(db, db_column_text(s, 1), &j, &labels, &ns.n_labels, f);
		if (r < 0)
			return r;
		ns.name = db_column_text(s, 0);
		ns.labels = labels;
		r = fn(user, &ns);
	}
	return r;
}

int db_container_put(struct db *db, const struct db_container *c, struct fault *f)
{
	DB_LOCKED(db);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *labels = db_labels_text(c->labels, c->n_labels, &j);
	sqlite3_stmt *s;

	if (!labels)
		return db_no_memory(f);
	s = db_statement(db, SQL_CONTAINER_PUT, f);
	if (!s)
		return db_fault(db, "write", f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, c->id);
	db_bind_text(s, 3, c->image);
	db_bind_text(s, 4, c->runtime);
	db_bind_text(s, 5, c->snapshotter);
	db_bind_text(s, 6, c->snapshot_key);
	db_bind_text(s, 7, c->bundle);
	db_bind_text(s, 8, labels);
	db_bind_blob(s, 9, c->spec, c->spec_size);
	db_bind_blob(s, 10, c->extensions, c->extensions_size);
	sqlite3_bind_int64(s, 11, c->created_at);
	sqlite3_bind_int64(s, 12, c->updated_at);
	db_touch(db, DB_KIND_CONTAINER, c->ns, c->id);
	return db_run(db, s, "write", f);
}

int db_container_delete(struct db *db, const char *ns, const char *id, struct fault *f)
{
	DB_LOCKED(db);
	sqlite3_stmt *s = db_statement(db, SQL_CONTAINER_DELETE, f);

	if (!s)
		return db_fault(db, "write", f);
	db_bind_text(s, 1, ns);
	db_bind_text(s, 2, id);
	return db_run(db, s, "write", f);
}

int db_container_each(struct db *db, int (*fn)(void *user, const struct db_container *c),
		      void *user, struct fault *f)
{
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_CONTAINER_EACH, f);
	int r = 0, step;

	if (!s)
		return db_fault(db, "read", f);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		CLEANUP(json_putp) json_object *j = NULL;
		CLEANUP_FREE struct db_label *labels = NULL;
		struct db_container c = { 0 };

		if (step != SQLITE_ROW)
			return db_fault(db, "read", f);
		r = db_labels_read(db, db_column_text(s, 7), &j, &labels, &c.n_labels, f);
		if (r < 0)
			return r;
		c.ns = db_column_text(s, 0);
		c.id = db_column_text(s, 1);
		c.image = db_column_text(s, 2);
		c.runtime = db_column_text(s, 3);
		c.snapshotter = db_column_text(s, 4);
		c.snapshot_key = db_column_text(s, 5);
		c.bundle = db_column_text(s, 6);
		c.labels = labels;
		c.spec = sqlite3_column_blob(s, 8);
		c.spec_size = (size_t)sqlite3_column_bytes(s, 8);
		c.extensions = sqlite3_column_blob(s, 9);
		c.extensions_size = (size_t)sqlite3_column_bytes(s, 9);
		c.created_at = sqlite3_column_int64(s, 10);
		c.updated_at = sqlite3_column_int64(s, 11);
		r = fn(user, &c);
	}
	sqlite3_db_release_memory(db->sql);
	return r;
}
