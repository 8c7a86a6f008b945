// SPDX-License-Identifier: Apache-2.0
/*
 * Rows of the metadata database: what the statements of all records need
 *
 * Text and blobs are bound without a copy: the caller's memory lasts until the statement is done.
 * Labels are stored as one JSON object.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/db_internal.h"
#include "store/db_salvage.h"
#include "util/cleanup.h"

int db_no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
}

/* Labels as JSON text, which lives as long as *j. NULL without memory. */
const char *db_labels_text(const struct db_label *labels, size_t n, json_object **j)
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
int db_labels_read(struct db *db, const char *text, json_object **j, struct db_label **labels,
		   size_t *n, struct fault *f)
{
	enum json_tokener_error error = json_tokener_success;
	size_t count;

	*labels = NULL;
	*n = 0;
	*j = json_tokener_parse_verbose(text, &error);
	if (!*j && error == json_tokener_success && strcmp(text, "null"))
		return db_no_memory(f);
	if (!*j || !json_object_is_type(*j, json_type_object)) {
		db_suspect(db->path);
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "the database %s is damaged (labels that are no JSON object)", db->path);
		return -EUCLEAN;
	}
	count = (size_t)json_object_object_length(*j);
	if (!count)
		return 0;
	*labels = calloc(count, sizeof(**labels));
	if (!*labels)
		return db_no_memory(f);
	json_object_object_foreach (*j, key, value) {
		(*labels)[*n].key = key;
		(*labels)[(*n)++].value = json_object_is_type(value, json_type_string)
						  ? json_object_get_string(value)
						  : "";
	}
	return 0;
}

void db_bind_text(sqlite3_stmt *s, int at, const char *text)
{
	/* cannot fail but for a wrong number or a length of 2 GiB */
	sqlite3_bind_text(s, at, text ? text : "", -1, SQLITE_STATIC);
}

void db_bind_blob(sqlite3_stmt *s, int at, const void *data, size_t size)
{
	/* without a pointer it would be NULL instead of empty */
	sqlite3_bind_blob64(s, at, size ? data : "", size, SQLITE_STATIC);
}

const char *db_column_text(sqlite3_stmt *s, int at)
{
	const char *text = (const char *)sqlite3_column_text(s, at);

	return text ? text : "";
}

void db_watch(struct db *db,
	      void (*touched)(void *user, enum db_kind kind, const char *ns, const char *id),
	      void *user)
{
	DB_LOCKED(db);

	db->touched = touched;
	db->touched_user = user;
}

void db_touch(struct db *db, enum db_kind kind, const char *ns, const char *id)
{
	if (db->touched)
		db->touched(db->touched_user, kind, ns, id);
}
