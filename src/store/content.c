// SPDX-License-Identifier: Apache-2.0
/*
 * Content: the records of blobs
 *
 * A blob is a file, blobs/sha256/HEX, read-only and never changed. The table `blobs` has one row for
 * it, the table `content` one for each namespace that sees it; the last of these takes the other
 * and the file along when it goes.
 *
 * A file is renamed into its place, and removed from it, under the database's lock, next to the
 * transaction that writes the rows: before the commit when it comes, after it when it goes. So
 * whoever holds the lock and sees a row can open the file, and an open file stays readable however
 * often its name is removed. The files are content_file.c's.
 *
 * What is told to callbacks is copied out of the database first: they may call anything.
 */
#include "store/content.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/content_internal.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/mp.h"

#define LIST_ROWS 64 /* read from the database at a time */

#define COLUMNS "c.digest, b.size, c.labels, c.created_at, c.updated_at"
#define TABLES "content AS c JOIN blobs AS b ON b.digest = c.digest"
static const char SQL_GET[] = "SELECT " COLUMNS " FROM " TABLES
			      " WHERE c.namespace = ?1 AND c.digest = ?2";
static const char SQL_LIST[] = "SELECT " COLUMNS " FROM " TABLES
			       " WHERE c.namespace = ?1 AND c.digest > ?2 ORDER BY c.digest "
			       "LIMIT ?3";
static const char SQL_OWNER[] =
	"SELECT size, EXISTS (SELECT 1 FROM content WHERE namespace = ?1 AND digest = ?2) "
	"FROM blobs WHERE digest = ?2";
static const char SQL_BLOB_INSERT[] =
	"INSERT INTO blobs (digest, size, created_at) VALUES (?1, ?2, ?3)";
static const char SQL_CONTENT_INSERT[] =
	"INSERT INTO content (namespace, digest, labels, created_at, updated_at) "
	"VALUES (?1, ?2, ?3, ?4, ?4)";
static const char SQL_LABELS[] = "UPDATE content SET labels = ?3, updated_at = ?4 "
				 "WHERE namespace = ?1 AND digest = ?2";
static const char SQL_CONTENT_DELETE[] = "DELETE FROM content WHERE namespace = ?1 AND digest = ?2";
static const char SQL_BLOB_DELETE[] =
	"DELETE FROM blobs WHERE digest = ?1 "
	"AND NOT EXISTS (SELECT 1 FROM content WHERE content.digest = ?1)";

/* A row, out of the database. */
struct row {
	struct content_info info;
	char digest[DIGEST_TEXT];
	json_object *json;
	struct db_label *labels;
};

static void row_clear(struct row *row)
{
	json_object_put(row->json);
	free(row->labels);
}

static int row_read(struct db *db, sqlite3_stmt *s, struct row *row, struct fault *f)
{
	struct content_info *info = &row->info;
	int r;

	memset(row, 0, sizeof(*row));
	r = db_labels_read(db, db_column_text(s, 2), &row->json, &row->labels, &info->n_labels, f);
	if (r < 0)
		return r;
	snprintf(row->digest, sizeof(row->digest), "%s", db_column_text(s, 0));
	info->digest = row->digest;
	info->size = (uint64_t)sqlite3_column_int64(s, 1);
	info->labels = row->labels;
	info->created_at = sqlite3_column_int64(s, 3);
	info->updated_at = sqlite3_column_int64(s, 4);
	return 0;
}

int content_not_found(struct store_call *c, const char *digest)
{
	fault_set(c->f, FAULT_NOT_FOUND, 0, "there is no content %s in the namespace %s", digest,
		  c->ns);
	fault_arg(c->f, "digest");
	return -ENOENT;
}

int content_check_digest(struct store_call *c, const char *digest)
{
	if (digest_valid(digest))
		return 0;
	fault_set(c->f, FAULT_INVALID_ARGUMENT, 0,
		  "'%.100s' is not a digest: sha256: and 64 hexadecimal digits in lower case%s",
		  digest ? digest : "",
		  digest && !strncmp(digest, "sha512:", 7) ? " (sha512 is not supported)" : "");
	fault_arg(c->f, "digest");
	return -EINVAL;
}

/* ---- rows */

static int row_get(struct store_call *c, const char *digest, struct row *row)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_GET, c->f);
	int step;

	memset(row, 0, sizeof(*row));
	if (!s)
		return db_fault(db, "read", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, digest);
	step = sqlite3_step(s);
	if (step == SQLITE_DONE)
		return content_not_found(c, digest);
	return step == SQLITE_ROW ? row_read(db, s, row, c->f) : db_fault(db, "read", c->f);
}

int content_info(struct store_call *c, const char *digest, content_fn fn, void *user)
{
	CLEANUP(row_clear) struct row row = { 0 };
	int r = content_check_digest(c, digest);

	if (!r)
		r = row_get(c, digest, &row);
	return r < 0 ? r : fn(user, &row.info);
}

static int rows_read(struct store_call *c, const char *after, struct row *rows, size_t *n)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_LIST, c->f);
	int step, r;

	*n = 0;
	if (!s)
		return db_fault(db, "read", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, after);
	sqlite3_bind_int(s, 3, LIST_ROWS);
	while ((step = sqlite3_step(s)) == SQLITE_ROW) {
		r = row_read(db, s, &rows[*n], c->f);
		if (r < 0)
			return r;
		++*n;
	}
	return step == SQLITE_DONE ? 0 : db_fault(db, "read", c->f);
}

int content_list(struct store_call *c, const char *after, content_fn fn, void *user)
{
	CLEANUP_FREE struct row *rows = calloc(LIST_ROWS, sizeof(*rows));
	char last[DIGEST_TEXT];
	size_t n = LIST_ROWS;
	int r = 0;

	if (!rows)
		return db_no_memory(c->f);
	while (!r && n == LIST_ROWS) {
		r = rows_read(c, after, rows, &n);
		for (size_t i = 0; i < n; i++) {
			if (!r)
				r = fn(user, &rows[i].info);
			row_clear(&rows[i]);
		}
		if (n) {
			memcpy(last, rows[n - 1].digest, sizeof(last));
			after = last;
		}
	}
	return r;
}

int content_owner(struct store_call *c, const char *digest, enum content_owner *owner,
		  uint64_t *size)
{
	struct db *db = c->store->db;
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_OWNER, c->f);
	int step;

	*owner = CONTENT_NOBODY;
	if (!s)
		return db_fault(db, "read", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, digest);
	step = sqlite3_step(s);
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return db_fault(db, "read", c->f);
	*size = (uint64_t)sqlite3_column_int64(s, 0);
	*owner = sqlite3_column_int(s, 1) ? CONTENT_OWN : CONTENT_OTHERS;
	return 0;
}

int content_join(struct store_call *c, const char *digest)
{
	return c->lease && c->lease[0] ? lease_join(c, LEASE_CONTENT, digest) : 0;
}

int content_has(struct store_call *c, const char *digest)
{
	struct db *db = c->store->db;
	bool joins = c->lease && c->lease[0];
	enum content_owner owner = CONTENT_NOBODY;
	uint64_t size;
	int r = content_check_digest(c, digest);

	if (r < 0)
		return r;
	if (!joins) {
		DB_LOCKED(db);

		r = content_owner(c, digest, &owner, &size);
		return r < 0 ? r : owner == CONTENT_OWN;
	}
	r = db_begin(db, c->durable_later ? DB_NORMAL : DB_FULL, c->f);
	if (r < 0)
		return r;
	r = content_owner(c, digest, &owner, &size);
	if (!r && owner == CONTENT_OWN)
		r = content_join(c, digest);
	r = db_end(db, r, c->f);
	return r < 0 ? r : owner == CONTENT_OWN;
}

/* Those with an empty value are left out, as containerd has it. Texts stay the caller's. */
static struct db_label *labels_given(const struct db_label *labels, size_t n, size_t *kept)
{
	struct db_label *v = calloc(n + 1, sizeof(*v));

	*kept = 0;
	for (size_t i = 0; v && i < n; i++)
		if (labels[i].value && labels[i].value[0])
			v[(*kept)++] = labels[i];
	return v;
}

int content_insert(struct store_call *c, const char *digest, uint64_t size,
		   enum content_owner owner, const struct db_label *labels, size_t n)
{
	struct db *db = c->store->db;
	CLEANUP_FREE struct db_label *given = labels_given(labels, n, &n);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *text = given ? db_labels_text(given, n, &j) : NULL;
	int64_t now = clock_now();
	sqlite3_stmt *s;
	int r;

	if (!text)
		return db_no_memory(c->f);
	if (owner == CONTENT_NOBODY) {
		s = db_statement(db, SQL_BLOB_INSERT, c->f);
		if (!s)
			return db_fault(db, "write", c->f);
		db_bind_text(s, 1, digest);
		sqlite3_bind_int64(s, 2, (int64_t)size);
		sqlite3_bind_int64(s, 3, now);
		r = db_run(db, s, "write", c->f);
		if (r < 0)
			return r;
	}
	s = db_statement(db, SQL_CONTENT_INSERT, c->f);
	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, digest);
	db_bind_text(s, 3, text);
	sqlite3_bind_int64(s, 4, now);
	r = db_run(db, s, "write", c->f);
	if (!r)
		db_touch(db, DB_KIND_CONTENT, c->ns, digest);
	return r < 0 ? r : content_join(c, digest);
}

/* ---- labels */

static int labels_write(struct store_call *c, const char *digest, const struct db_label *labels,
			size_t n)
{
	struct db *db = c->store->db;
	CLEANUP_FREE struct db_label *given = labels_given(labels, n, &n);
	CLEANUP(json_putp) json_object *j = NULL;
	const char *text = given ? db_labels_text(given, n, &j) : NULL;
	sqlite3_stmt *s;
	int r;

	if (!text)
		return db_no_memory(c->f);
	s = db_statement(db, SQL_LABELS, c->f);
	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, digest);
	db_bind_text(s, 3, text);
	sqlite3_bind_int64(s, 4, clock_now());
	r = db_run(db, s, "write", c->f);
	if (!r && !sqlite3_changes(db->sql))
		return content_not_found(c, digest);
	if (!r)
		db_touch(db, DB_KIND_CONTENT, c->ns, digest);
	return r;
}

int content_set_labels(struct store_call *c, const char *digest, const struct db_label *labels,
		       size_t n, content_fn fn, void *user)
{
	struct db *db = c->store->db;
	CLEANUP(row_clear) struct row row = { 0 };
	int r = content_check_digest(c, digest);

	if (!r)
		r = db_begin(db, DB_FULL, c->f);
	if (r < 0)
		return r;
	r = labels_write(c, digest, labels, n);
	if (!r && fn)
		r = row_get(c, digest, &row);
	r = db_end(db, r, c->f);
	return r < 0 || !fn ? r : fn(user, &row.info);
}

static int label_merge(struct store_call *c, const char *digest, const struct db_label *more,
		       size_t n_more)
{
	CLEANUP(row_clear) struct row row = { 0 };
	CLEANUP_FREE struct db_label *all = NULL;
	size_t n = 0;
	bool changed = false;
	int r = row_get(c, digest, &row);

	if (r < 0)
		return r;
	all = calloc(row.info.n_labels + n_more + 1, sizeof(*all));
	if (!all)
		return db_no_memory(c->f);
	for (size_t i = 0; i < row.info.n_labels; i++)
		all[n++] = row.info.labels[i];
	for (size_t i = 0; i < n_more; i++) {
		size_t at = 0;

		while (at < n && strcmp(all[at].key, more[i].key))
			at++;
		if (at < n && !strcmp(all[at].value, more[i].value))
			continue;
		if (at == n && !more[i].value[0])
			continue;
		changed = true;
		all[at] = more[i];
		n += at == n;
	}
	return changed ? labels_write(c, digest, all, n) : 0;
}

int content_set_label(struct store_call *c, const char *digest, const char *key, const char *value)
{
	struct db_label label = { key, value };

	return content_merge_labels(c, digest, &label, 1);
}

int content_merge_labels(struct store_call *c, const char *digest, const struct db_label *labels,
			 size_t n)
{
	struct db *db = c->store->db;
	int r = content_check_digest(c, digest);

	if (!r)
		r = db_begin(db, c->durable_later ? DB_NORMAL : DB_FULL, c->f);
	if (r < 0)
		return r;
	return db_end(db, label_merge(c, digest, labels, n), c->f);
}

/* ---- events */

int content_event(struct store_call *c, struct store_events *e, const char *topic,
		  const char *digest, uint64_t size)
{
	struct store_event *ev;
	msgpack_packer pk;

	store_events_init(e);
	if (!c->events)
		return 0;
	ev = store_event_add(e, c->ns, topic);
	if (ev) {
		mp_packer_init(&pk, &ev->payload);
		msgpack_pack_map(&pk, 2);
		mp_pack_key_str(&pk, "digest", digest);
		mp_pack_key_uint(&pk, "size", size);
		if (!mp_failed(&ev->payload))
			return 0;
	}
	store_events_clear(e);
	return fault_sys(c->f, ENOMEM, "event", NULL);
}

void content_event_send(struct store_call *c, struct store_events *e)
{
	if (!e->first || !c->events)
		return;
	*c->events->last = e->first;
	c->events->last = e->last;
	store_events_init(e);
}

/* ---- removing */

static int row_delete(struct store_call *c, const char *text, const char *first, const char *second,
		      bool *gone)
{
	struct db *db = c->store->db;
	sqlite3_stmt *s = db_statement(db, text, c->f);
	int r;

	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 1, first);
	if (second)
		db_bind_text(s, 2, second);
	r = db_run(db, s, "write", c->f);
	*gone = !r && sqlite3_changes(db->sql);
	return r;
}

/* The rows, in the caller's transaction. *last: the file is to go too. */
static int forget(struct store_call *c, const char *digest, struct store_events *e, bool *last)
{
	CLEANUP(row_clear) struct row row = { 0 };
	bool gone;
	int r = row_get(c, digest, &row);

	if (!r)
		r = content_event(c, e, "/content/delete", digest, row.info.size);
	if (!r)
		r = row_delete(c, SQL_CONTENT_DELETE, c->ns, digest, &gone);
	if (!r)
		r = row_delete(c, SQL_BLOB_DELETE, digest, NULL, last);
	return r;
}

int content_delete(struct store_call *c, const char *digest)
{
	struct db *db = c->store->db;
	CLEANUP_CLOSE int fd = -1;
	struct store_events e;
	bool last = false, gone;
	int r = content_check_digest(c, digest);

	if (r < 0)
		return r;
	store_events_init(&e);
	db_lock(db);
	r = db_begin(db, DB_FULL, c->f);
	if (!r)
		r = db_end(db, forget(c, digest, &e, &last), c->f);
	gone = !r;
	/* inside a transaction that may yet be undone, it is the next start that removes the file */
	if (!r && last && !db->depth) {
		r = content_unlink(c->store, digest, &fd);
		if (r < 0)
			fault_sys(c->f, -r, "remove the file of the content", digest);
	}
	db_unlock(db);
	if (gone)
		content_event_send(c, &e);
	store_events_clear(&e);
	return r;
}
