// SPDX-License-Identifier: Apache-2.0
/*
 * content/index.json: the images, as other programs read them
 *
 * skopeo, umoci and whoever else knows OCI image layouts find the images of all namespaces here. The
 * database is the truth; this file follows it, and is written anew as a whole.
 *
 * A caller has committed a change before it asks, so any reading of the table that begins afterwards
 * has it. Calls that come while a write is under way therefore wait for the next one, which serves
 * all of them: `asked` counts calls, `served` is the count at which the last finished write began.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/content_internal.h"
#include "store/oci.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/json.h"

#define ANNOTATION_NAMESPACE "org.davit.namespace"
#define ROWS 64 /* read from the database at a time */
#define INDEX_BYTES (256u << 20) /* a larger one is not read to be compared */

struct index_file {
	pthread_mutex_t lock;
	pthread_cond_t done;
	uint64_t asked, served;
	bool writing;
	int result; /* of the last write */
	struct fault fault;
};

static const char SQL_IMAGES[] = "SELECT namespace, name, target FROM images "
				 "WHERE (namespace, name) > (?1, ?2) "
				 "ORDER BY namespace, name LIMIT ?3";

/* ---- the document */

struct image_row {
	char *ns, *name, *target;
};

static void image_row_clear(struct image_row *row)
{
	free(row->ns);
	free(row->name);
	free(row->target);
}

static int rows_read(struct store *s, const char *ns, const char *name, struct image_row *rows,
		     size_t *n, struct fault *f)
{
	struct db *db = s->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *q = db_statement(db, SQL_IMAGES, f);
	int step;

	*n = 0;
	if (!q)
		return db_fault(db, "read", f);
	db_bind_text(q, 1, ns);
	db_bind_text(q, 2, name);
	sqlite3_bind_int(q, 3, ROWS);
	while ((step = sqlite3_step(q)) == SQLITE_ROW) {
		struct image_row *row = &rows[(*n)++];

		row->ns = strdup(db_column_text(q, 0));
		row->name = strdup(db_column_text(q, 1));
		row->target = strdup(db_column_text(q, 2));
		if (!row->ns || !row->name || !row->target)
			return db_no_memory(f);
	}
	return step == SQLITE_DONE ? 0 : db_fault(db, "read", f);
}

static int set_text(json_object *o, const char *key, const char *text)
{
	json_object *v = json_object_new_string(text);

	if (v && !json_object_object_add(o, key, v))
		return 0;
	json_object_put(v);
	return -ENOMEM;
}

/* The target, with what its name is and whose. */
static int describe(const struct image_row *row, json_object **out, struct fault *f)
{
	CLEANUP(json_putp) json_object *d = NULL;
	CLEANUP_FREE char *full = NULL;
	json_object *notes;
	bool is_default = !strcmp(row->ns, "default");
	int r = json_parse(row->target, strlen(row->target), &d, f);

	if (r == -ENOMEM)
		return r;
	if (r < 0 || !json_object_is_type(d, json_type_object)) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "the record of the image %.256s is damaged: its target is no descriptor",
			  row->name);
		return -EUCLEAN;
	}
	notes = json_object_object_get(d, "annotations");
	if (!json_object_is_type(notes, json_type_object)) {
		notes = json_object_new_object();
		if (!notes || json_object_object_add(d, "annotations", notes)) {
			json_object_put(notes);
			return db_no_memory(f);
		}
	}
	if (!is_default && asprintf(&full, "%s/%s", row->ns, row->name) < 0) {
		full = NULL;
		return db_no_memory(f);
	}
	if (set_text(notes, OCI_REF_NAME, is_default ? row->name : full) ||
	    set_text(notes, ANNOTATION_NAMESPACE, row->ns))
		return db_no_memory(f);
	*out = TAKE_PTR(d);
	return 0;
}

static int add_rows(json_object *list, const struct image_row *rows, size_t n, struct fault *f)
{
	for (size_t i = 0; i < n; i++) {
		json_object *d = NULL;
		int r = describe(&rows[i], &d, f);

		if (r == -EUCLEAN)
			continue; /* the others are not to suffer; who asks for this one is told */
		if (r < 0)
			return r;
		if (json_object_array_add(list, d) < 0) {
			json_object_put(d);
			return db_no_memory(f);
		}
	}
	return 0;
}

static int list_images(struct store *s, json_object *list, struct fault *f)
{
	CLEANUP_FREE struct image_row *rows = calloc(ROWS, sizeof(*rows));
	struct image_row last = { 0 };
	size_t n = ROWS;
	int r = 0;

	if (!rows)
		return db_no_memory(f);
	while (!r && n == ROWS) {
		memset(rows, 0, ROWS * sizeof(*rows));
		r = rows_read(s, last.ns, last.name, rows, &n, f);
		if (!r)
			r = add_rows(list, rows, n, f);
		image_row_clear(&last);
		memset(&last, 0, sizeof(last));
		for (size_t i = 0; i < n; i++) {
			if (i + 1 == n)
				last = rows[i];
			else
				image_row_clear(&rows[i]);
		}
	}
	image_row_clear(&last);
	return r;
}

static int build(struct store *s, json_object **out, struct fault *f)
{
	CLEANUP(json_putp) json_object *index = json_object_new_object();
	json_object *list = json_object_new_array(), *version = json_object_new_int(2);

	if (!index || !list || !version ||
	    json_object_object_add(index, "schemaVersion", version)) {
		json_object_put(list);
		json_object_put(version);
		return db_no_memory(f);
	}
	if (set_text(index, "mediaType", OCI_INDEX) ||
	    json_object_object_add(index, "manifests", list)) {
		json_object_put(list);
		return db_no_memory(f);
	}
	*out = TAKE_PTR(index);
	return list_images(s, list, f);
}

static int write_index(struct store *s, bool compare, struct fault *f)
{
	CLEANUP(json_putp) json_object *index = NULL;
	CLEANUP_FREE char *old = NULL;
	const char *text;
	size_t size, old_size;
	int r = build(s, &index, f);

	if (r < 0)
		return r;
	text = json_object_to_json_string_length(
		index, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
	if (!text)
		return db_no_memory(f);
	if (compare && !fd_read_file(s->content_fd, "index.json", INDEX_BYTES, &old, &old_size) &&
	    old_size == size && !memcmp(old, text, size))
		return 0;
	r = content_write_file(s->content_fd, "index.json", text, size);
	return r < 0 ? fault_sys(f, -r, "write", "content/index.json") : 0;
}

/* ---- in turns */

int content_index_write(struct store *s, struct fault *f)
{
	struct index_file *x = s->index;
	struct fault fault = { 0 };
	uint64_t mine, target;
	int r;

	pthread_mutex_lock(&x->lock);
	mine = ++x->asked;
	while (x->writing && x->served < mine)
		pthread_cond_wait(&x->done, &x->lock);
	if (x->served < mine) {
		target = x->asked;
		x->writing = true;
		pthread_mutex_unlock(&x->lock);
		r = write_index(s, false, &fault);
		pthread_mutex_lock(&x->lock);
		x->writing = false;
		x->served = target;
		x->result = r;
		x->fault = fault;
		pthread_cond_broadcast(&x->done);
	}
	/* a write after the one that served this call has read the same, and more */
	r = x->result;
	if (r < 0 && f)
		*f = x->fault;
	pthread_mutex_unlock(&x->lock);
	return r;
}

/*
 * 1: there is neither an image nor a blob, and never was in this database. Then an index that is there
 * may be all that is left of one that was lost, and stays until there is an image.
 */
static int is_empty(struct store *s, struct fault *f)
{
	struct db *db = s->db;
	DB_LOCKED(db);
	int64_t any;
	int r = db_pragma_int(
		db,
		"SELECT EXISTS (SELECT 1 FROM images) OR EXISTS (SELECT 1 FROM blobs) "
		"OR EXISTS (SELECT 1 FROM meta WHERE key = 'content')",
		&any, f);

	return r < 0 ? r : !any;
}

int content_index_open(struct store *s, struct fault *f)
{
	struct index_file *x = calloc(1, sizeof(*x));
	int r;

	if (!x)
		return fault_sys(f, ENOMEM, "open the store", s->root);
	pthread_mutex_init(&x->lock, NULL);
	pthread_cond_init(&x->done, NULL);
	s->index = x;
	r = is_empty(s, f);
	/* a daemon that was killed may have left an older one */
	if (!r || (r > 0 && faccessat(s->content_fd, "index.json", F_OK, 0) < 0))
		r = write_index(s, true, f);
	else if (r > 0)
		r = 0;
	/* on a full disk the daemon starts all the same: the next change writes it */
	if (r == -ENOSPC || r == -EDQUOT)
		r = 0;
	if (r < 0)
		content_index_close(s);
	return r;
}

void content_index_close(struct store *s)
{
	pthread_cond_destroy(&s->index->done);
	pthread_mutex_destroy(&s->index->lock);
	free(TAKE_PTR(s->index));
}
