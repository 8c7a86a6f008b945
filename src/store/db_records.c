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

const char *const db_statement_texts[DB_STATEMENTS] = {
	[DB_NAMESPACE_PUT] = "INSERT INTO namespaces (name, labels) VALUES (?1, ?2) "
			     "ON CONFLICT (name) DO UPDATE SET labels = excluded.labels",
	[DB_NAMESPACE_DELETE] = "DELETE FROM namespaces WHERE name = ?1",
	[DB_NAMESPACE_EACH] = "SELECT name, labels FROM namespaces ORDER BY name",
	[DB_CONTAINER_PUT] =
		"INSERT OR REPLACE INTO containers (namespace, id, image, runtime, snapshotter, snapshot_key, "
		"bundle, labels, spec, extensions, created_at, updated_at) "
		"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
	[DB_CONTAINER_DELETE] = "DELETE FROM containers WHERE namespace = ?1 AND id = ?2",
	[DB_CONTAINER_EACH] =
		"SELECT namespace, id, image, runtime, snapshotter, snapshot_key, bundle, labels, spec, "
		"extensions, created_at, updated_at FROM containers ORDER BY namespace, id",
};

static inline void json_putp(json_object **j)
{
	json_object_put(*j);
}

static inline void db_donep(sqlite3_stmt **s)
{
	if (*s)
		db_done(*s);
}

static int no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
}

/* Labels as JSON text, which lives as long as *j. NULL without memory. */
static const char *labels_text(const struct db_label *labels, size_t n, json_object **j)
{
	*j = json_object_new_object();
	if (!*j)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		json_object *value = json_object_new_string(labels[i].value);

		if (!value)
			return NULL;
		if (json_object_object_add(*j, labels[i].key, value) < 0) {
			json_object_put(value);
			return NULL;
		}
	}
	return json_object_to_json_string_ext(*j, JSON_C_TO_STRING_PLAIN |
							  JSON_C_TO_STRING_NOSLASHESCAPE);
}

/* The other way round: an array to be freed, whose texts are *j's. */
static int labels_read(struct db *db, const char *text, json_object **j, struct db_label **labels,
		       size_t *n, struct fault *f)
{
	enum json_tokener_error error = json_tokener_success;
	size_t count;

	*labels = NULL;
	*n = 0;
	*j = json_tokener_parse_verbose(text, &error);
	if (!*j && error == json_tokener_success && strcmp(text, "null"))
		return no_memory(f);
	if (!*j || !json_object_is_type(*j, json_type_object)) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "the database %s is damaged (labels that are no JSON object)", db->path);
		return -EUCLEAN;
	}
	count = (size_t)json_object_object_length(*j);
	if (!count)
		return 0;
	*labels = calloc(count, sizeof(**labels));
	if (!*labels)
		return no_memory(f);
	json_object_object_foreach (*j, key, value) {
		(*labels)[*n].key = key;
		(*labels)[(*n)++].value = json_object_is_type(value, json_type_string)
						  ? json_object_get_string(value)
						  : "";
	}
	return 0;
}

static void bind_text(sqlite3_stmt *s, int at, const char *text)
{
	/* cannot fail but for a wrong number or a length of 2 GiB */
	sqlite3_bind_text(s, at, text ? text : "", -1, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *s, int at, const void *data, size_t size)
{
	/* without a pointer it would be NULL instead of empty */
	sqlite3_bind_blob64(s, at, size ? data : "", size, SQLITE_STATIC);
}

static const char *column_text(sqlite3_stmt *s, int at)
{
	const char *text = (const char *)sqlite3_column_text(s, at);

	return text ? text : "";
}

int db_namespace_put(struct db *db, const struct db_namespace *ns, struct fault *f)
{
	CLEANUP(json_putp) json_object *j = NULL;
	const char *labels = labels_text(ns->labels, ns->n_labels, &j);
	sqlite3_stmt *s;

	if (!labels)
		return no_memory(f);
	s = db_statement(db, DB_NAMESPACE_PUT, f);
	if (!s)
		return db_fault(db, "write", f);
	bind_text(s, 1, ns->name);
	bind_text(s, 2, labels);
	return db_run(db, s, "write", f);
}

int db_namespace_delete(struct db *db, const char *name, struct fault *f)
{
	sqlite3_stmt *s = db_statement(db, DB_NAMESPACE_DELETE, f);

	if (!s)
		return db_fault(db, "write", f);
	bind_text(s, 1, name);
	return db_run(db, s, "write", f);
}

int db_namespace_each(struct db *db, int (*fn)(void *user, const struct db_namespace *ns),
		      void *user, struct fault *f)
{
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, DB_NAMESPACE_EACH, f);
	int r = 0, step;

	if (!s)
		return db_fault(db, "read", f);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		CLEANUP(json_putp) json_object *j = NULL;
		CLEANUP_FREE struct db_label *labels = NULL;
		struct db_namespace ns = { 0 };

		if (step != SQLITE_ROW)
			return db_fault(db, "read", f);
		r = labels_read(db, column_text(s, 1), &j, &labels, &ns.n_labels, f);
		if (r < 0)
			return r;
		ns.name = column_text(s, 0);
		ns.labels = labels;
		r = fn(user, &ns);
	}
	return r;
}

int db_container_put(struct db *db, const struct db_container *c, struct fault *f)
{
	CLEANUP(json_putp) json_object *j = NULL;
	const char *labels = labels_text(c->labels, c->n_labels, &j);
	sqlite3_stmt *s;

	if (!labels)
		return no_memory(f);
	s = db_statement(db, DB_CONTAINER_PUT, f);
	if (!s)
		return db_fault(db, "write", f);
	bind_text(s, 1, c->ns);
	bind_text(s, 2, c->id);
	bind_text(s, 3, c->image);
	bind_text(s, 4, c->runtime);
	bind_text(s, 5, c->snapshotter);
	bind_text(s, 6, c->snapshot_key);
	bind_text(s, 7, c->bundle);
	bind_text(s, 8, labels);
	bind_blob(s, 9, c->spec, c->spec_size);
	bind_blob(s, 10, c->extensions, c->extensions_size);
	sqlite3_bind_int64(s, 11, c->created_at);
	sqlite3_bind_int64(s, 12, c->updated_at);
	return db_run(db, s, "write", f);
}

int db_container_delete(struct db *db, const char *ns, const char *id, struct fault *f)
{
	sqlite3_stmt *s = db_statement(db, DB_CONTAINER_DELETE, f);

	if (!s)
		return db_fault(db, "write", f);
	bind_text(s, 1, ns);
	bind_text(s, 2, id);
	return db_run(db, s, "write", f);
}

int db_container_each(struct db *db, int (*fn)(void *user, const struct db_container *c),
		      void *user, struct fault *f)
{
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, DB_CONTAINER_EACH, f);
	int r = 0, step;

	if (!s)
		return db_fault(db, "read", f);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		CLEANUP(json_putp) json_object *j = NULL;
		CLEANUP_FREE struct db_label *labels = NULL;
		struct db_container c = { 0 };

		if (step != SQLITE_ROW)
			return db_fault(db, "read", f);
		r = labels_read(db, column_text(s, 7), &j, &labels, &c.n_labels, f);
		if (r < 0)
			return r;
		c.ns = column_text(s, 0);
		c.id = column_text(s, 1);
		c.image = column_text(s, 2);
		c.runtime = column_text(s, 3);
		c.snapshotter = column_text(s, 4);
		c.snapshot_key = column_text(s, 5);
		c.bundle = column_text(s, 6);
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
