// SPDX-License-Identifier: Apache-2.0
/*
 * Images: records
 *
 * A record gives a name to a descriptor. Everything else about an image hangs below that descriptor
 * in the content and is found by reading it; labels of the content keep it from collection, and are
 * set before a record refers to it. So between a record's commit and its labels there is no moment
 * in which an image could lose its parts.
 *
 * Records are committed durably, one transaction a call. content/index.json follows every commit
 * before the call returns; should writing it fail, the records are there and the call fails, and the
 * next change writes it.
 *
 * What is told to callbacks was copied out of the database first: they may call anything.
 */
#include "store/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/image_internal.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/mp.h"

#define LIST_ROWS 64u /* read from the database at a time */
#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

#define COLUMNS "name, target, labels, created_at, updated_at"
static const char SQL_GET[] = "SELECT " COLUMNS " FROM images WHERE namespace = ?1 AND name = ?2";
static const char SQL_LIST[] = "SELECT " COLUMNS
			       " FROM images WHERE namespace = ?1 AND name > ?2 ORDER BY name "
			       "LIMIT ?3";
static const char SQL_INSERT[] =
	"INSERT INTO images (namespace, name, digest, target, labels, created_at, updated_at) "
	"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)";
static const char SQL_UPDATE[] = "UPDATE images SET digest = ?3, target = ?4, labels = ?5, "
				 "updated_at = ?6 WHERE namespace = ?1 AND name = ?2";
static const char SQL_DELETE[] = "DELETE FROM images WHERE namespace = ?1 AND name = ?2";

/* A row, out of the database. */
struct row {
	struct image_info info;
	char *name;
	struct oci_descriptor target;
	json_object *json; /* of the labels */
	struct db_label *labels;
};

static void row_clear(struct row *row)
{
	free(row->name);
	oci_descriptor_clear(&row->target);
	json_object_put(row->json);
	free(row->labels);
	memset(row, 0, sizeof(*row));
}

static int row_read(struct db *db, sqlite3_stmt *s, struct row *row, struct fault *f)
{
	CLEANUP(json_putp) json_object *target = NULL;
	const char *text = db_column_text(s, 1);
	int r;

	memset(row, 0, sizeof(*row));
	row->name = strdup(db_column_text(s, 0));
	if (!row->name)
		return db_no_memory(f);
	r = json_parse(text, strlen(text), &target, f);
	if (!r)
		r = oci_descriptor_read(&row->target, target, row->name, f);
	if (r < 0 && r != -ENOMEM) {
		fault_prefix(f, "the database %s is damaged", db->path);
		r = -EUCLEAN;
	}
	if (!r)
		r = db_labels_read(db, db_column_text(s, 2), &row->json, &row->labels,
				   &row->info.n_labels, f);
	if (r < 0) {
		row_clear(row);
		return r;
	}
	row->info.name = row->name;
	row->info.target = &row->target;
	row->info.labels = row->labels;
	row->info.created_at = sqlite3_column_int64(s, 3);
	row->info.updated_at = sqlite3_column_int64(s, 4);
	return 0;
}

/* 1 and the row, or 0. */
static int row_find(struct store_call *c, const char *name, struct row *row)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_GET, c->f);
	int step, r;

	memset(row, 0, sizeof(*row));
	if (!s)
		return db_fault(db, "read", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, name);
	step = sqlite3_step(s);
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return db_fault(db, "read", c->f);
	r = row_read(db, s, row, c->f);
	return r < 0 ? r : 1;
}

static int not_found(struct store_call *c, const char *name)
{
	fault_set(c->f, FAULT_NOT_FOUND, 0, "there is no image '%.512s' in the namespace '%s'",
		  name, c->ns);
	fault_arg(c->f, "name");
	return -ENOENT;
}

static int row_get(struct store_call *c, const char *name, struct row *row)
{
	int r = row_find(c, name, row);

	return r ? (r < 0 ? r : 0) : not_found(c, name);
}

static int row_write(struct store_call *c, const char *text, const char *name,
		     const struct oci_descriptor *target, const struct db_label *labels, size_t n,
		     int64_t now)
{
	struct db *db = c->store->db;
	CLEANUP(json_putp) json_object *j = NULL;
	const char *packed = db_labels_text(labels, n, &j);
	const char *json = json_object_to_json_string_ext(target->json, PLAIN);
	sqlite3_stmt *s;

	if (!packed || !json)
		return db_no_memory(c->f);
	s = db_statement(db, text, c->f);
	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, name);
	db_bind_text(s, 3, target->digest.text);
	db_bind_text(s, 4, json);
	db_bind_text(s, 5, packed);
	sqlite3_bind_int64(s, 6, now);
	db_touch(db, DB_KIND_IMAGE, c->ns, name);
	return db_run(db, s, "write", c->f);
}

/* ---- reading */

int image_get(struct store_call *c, const char *name, image_fn fn, void *user)
{
	CLEANUP(row_clear) struct row row = { 0 };
	int r = row_get(c, name, &row);

	return r < 0 ? r : fn(user, &row.info);
}

int image_target(struct store_call *c, const char *name, struct oci_descriptor *target)
{
	CLEANUP(row_clear) struct row row = { 0 };
	int r = row_get(c, name, &row);

	memset(target, 0, sizeof(*target));
	if (r < 0)
		return r;
	*target = row.target;
	memset(&row.target, 0, sizeof(row.target));
	return 0;
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

int image_list(struct store_call *c, const char *after, image_fn fn, void *user)
{
	CLEANUP_FREE struct row *rows = calloc(LIST_ROWS, sizeof(*rows));
	CLEANUP_FREE char *last = NULL;
	size_t n = LIST_ROWS;
	int r = 0;

	if (!rows)
		return db_no_memory(c->f);
	while (!r && n == LIST_ROWS) {
		r = rows_read(c, last ? last : after, rows, &n);
		if (n) {
			free(last);
			last = TAKE_PTR(rows[n - 1].name);
			rows[n - 1].info.name = last;
		}
		for (size_t i = 0; i < n; i++) {
			if (!r)
				r = fn(user, &rows[i].info);
			row_clear(&rows[i]);
		}
	}
	return r;
}

/* ---- events */

static int event_add(struct store_call *c, const char *topic, const char *name,
		     const struct db_label *labels, size_t n)
{
	struct store_event *e;
	msgpack_packer pk;

	if (!c->events)
		return 0;
	e = store_event_add(c->events, c->ns, topic);
	if (!e)
		return image_no_memory(c->f);
	mp_packer_init(&pk, &e->payload);
	msgpack_pack_map(&pk, labels ? 2 : 1);
	mp_pack_key_str(&pk, "name", name);
	if (labels) {
		mp_pack_key(&pk, "labels");
		msgpack_pack_map(&pk, n);
		for (size_t i = 0; i < n; i++)
			mp_pack_key_str(&pk, labels[i].key, labels[i].value);
	}
	return 0;
}

/* ---- changes */

enum { CREATE = 1, UPDATE = 2 };

/* An empty value is left out, as containerd has it. To be freed. */
static struct db_label *labels_given(const struct db_label *labels, size_t *n)
{
	struct db_label *v = calloc(*n + 1, sizeof(*v));
	size_t kept = 0;

	for (size_t i = 0; v && i < *n; i++)
		if (labels[i].value[0])
			v[kept++] = labels[i];
	*n = kept;
	return v;
}

int image_check_name(struct store_call *c, const char *name)
{
	size_t n = strlen(name), i = 0;

	while ((unsigned char)name[i] >= 0x20 && name[i] != 0x7f)
		i++;
	if (n && n == i && n <= LIMIT_IMAGE_NAME_BYTES)
		return 0;
	if (!n)
		fault_set(c->f, FAULT_INVALID_ARGUMENT, 0, "an image's name cannot be empty");
	else if (n > LIMIT_IMAGE_NAME_BYTES)
		fault_set(c->f, FAULT_INVALID_ARGUMENT, 0, "an image's name has at most %u bytes",
			  LIMIT_IMAGE_NAME_BYTES);
	else
		fault_set(c->f, FAULT_INVALID_ARGUMENT, 0,
			  "a control character in an image's name");
	fault_arg(c->f, "name");
	return -EINVAL;
}

static int on_size(void *user, const struct content_info *info)
{
	*(uint64_t *)user = info->size;
	return 0;
}

/* In the transaction. */
static int check_target(struct store_call *c, const struct oci_descriptor *target)
{
	uint64_t size = 0;
	int r = content_has(c, target->digest.text);

	if (r < 0)
		return r;
	if (!r) {
		fault_set(c->f, FAULT_NOT_FOUND, 0, "there is no content %s in the namespace '%s'",
			  target->digest.text, c->ns);
		fault_arg(c->f, "target");
		return -ENOENT;
	}
	r = content_info(c, target->digest.text, on_size, &size);
	if (r < 0 || size == target->size)
		return r;
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
		  "%s has %llu bytes, but the descriptor says %llu", target->digest.text,
		  (unsigned long long)size, (unsigned long long)target->size);
	fault_arg(c->f, "target");
	return -EINVAL;
}

/* What a change is about, and what came of it. */
struct change {
	const char *name;
	const struct oci_descriptor *target; /* NULL: as it is */
	const struct db_label *labels; /* NULL: as they are */
	size_t n_labels;
	unsigned may; /* CREATE, UPDATE */
	struct row row; /* as it is afterwards */
	bool created;
};

static void change_clear(struct change *ch)
{
	row_clear(&ch->row);
}

/*
 * Labels that say what the target is, and who has made it: another target under the same name, as an
 * import or a tag brings one, has to earn them itself.
 */
static bool label_of_target(const char *key)
{
	return !strcmp(key, "containerd.io/checkpoint") || !strncmp(key, "davit.checkpoint.", 17);
}

/* The old labels as they stay with another target. */
static struct db_label *labels_kept(const struct db_label *labels, size_t *n)
{
	struct db_label *v = calloc(*n + 1, sizeof(*v));
	size_t kept = 0;

	for (size_t i = 0; v && i < *n; i++)
		if (!label_of_target(labels[i].key))
			v[kept++] = labels[i];
	*n = kept;
	return v;
}

/* In the transaction. */
static int change_write(struct store_call *c, struct change *ch)
{
	CLEANUP(row_clear) struct row old = { 0 };
	const struct oci_descriptor *target = ch->target;
	const struct db_label *labels = ch->labels;
	size_t n = ch->n_labels;
	CLEANUP_FREE struct db_label *given = NULL;
	int r = row_find(c, ch->name, &old);

	if (r < 0)
		return r;
	ch->created = !r;
	if (!r && !(ch->may & CREATE))
		return not_found(c, ch->name);
	if (r && !(ch->may & UPDATE)) {
		fault_set(c->f, FAULT_ALREADY_EXISTS, 0,
			  "the image '%.512s' exists in the namespace '%s'", ch->name, c->ns);
		fault_arg(c->f, "name");
		return -EEXIST;
	}
	if (!target)
		target = &old.target;
	else if ((r = check_target(c, target)) < 0)
		return r;
	if (labels) {
		given = labels_given(labels, &n);
		if (!given)
			return db_no_memory(c->f);
		labels = given;
	} else {
		labels = old.info.labels;
		n = old.info.n_labels;
		if (!ch->created && strcmp(target->digest.text, old.target.digest.text) != 0) {
			given = labels_kept(labels, &n);
			if (!given)
				return db_no_memory(c->f);
			labels = given;
		}
	}
	r = row_write(c, ch->created ? SQL_INSERT : SQL_UPDATE, ch->name, target, labels, n,
		      clock_now());
	return r < 0 ? r : row_get(c, ch->name, &ch->row);
}

/* After the commit. */
static int change_tell(struct store_call *c, struct change *ch)
{
	static const struct db_label none;

	return event_add(c, ch->created ? "/images/create" : "/images/update", ch->name,
			 ch->row.info.labels ? ch->row.info.labels : &none, ch->row.info.n_labels);
}

static int change_run(struct store_call *c, struct change *ch, image_fn fn, void *user)
{
	struct lease_hold hold = { 0 };
	int r = image_check_name(c, ch->name);

	/* what is labelled must not be collected before the record is there */
	if (!r && ch->target)
		r = lease_hold(c, &hold);
	if (r < 0)
		return r;
	if (ch->target) {
		r = check_target(c, ch->target);
		if (!r) {
			struct store_call walk = *c;

			/* the record's commit is durable, and so is what came before it */
			walk.durable_later = true;
			r = image_walk(&walk, ch->target, true, NULL, NULL);
		}
	}
	if (!r)
		r = db_begin(c->store->db, DB_FULL, c->f);
	if (!r)
		r = db_end(c->store->db, change_write(c, ch), c->f);
	if (!r)
		r = change_tell(c, ch);
	if (ch->target)
		lease_release(c, &hold);
	if (!r)
		r = content_index_write(c->store, c->f);
	return r < 0 || !fn ? r : fn(user, &ch->row.info);
}

int image_create(struct store_call *c, const char *name, const struct oci_descriptor *target,
		 const struct db_label *labels, size_t n, image_fn fn, void *user)
{
	CLEANUP(change_clear)
	struct change ch = {
		.name = name, .target = target, .labels = labels, .n_labels = n, .may = CREATE
	};

	return change_run(c, &ch, fn, user);
}

int image_update(struct store_call *c, const char *name, const struct oci_descriptor *target,
		 const struct db_label *labels, size_t n, image_fn fn, void *user)
{
	CLEANUP(change_clear)
	struct change ch = {
		.name = name, .target = target, .labels = labels, .n_labels = n, .may = UPDATE
	};

	return change_run(c, &ch, fn, user);
}

int image_put(struct store_call *c, const char *name, const struct oci_descriptor *target,
	      const struct db_label *labels, size_t n, image_fn fn, void *user)
{
	CLEANUP(change_clear)
	struct change ch = { .name = name,
			     .target = target,
			     .labels = labels,
			     .n_labels = n,
			     .may = CREATE | UPDATE };

	return change_run(c, &ch, fn, user);
}

int image_put_all(struct store_call *c, const struct image_new *v, size_t n, image_fn fn,
		  void *user)
{
	struct change *ch = calloc(n + 1, sizeof(*ch));
	int r = ch ? 0 : image_no_memory(c->f);

	for (size_t i = 0; !r && i < n; i++) {
		ch[i].name = v[i].name;
		ch[i].target = &v[i].target;
		ch[i].may = CREATE | UPDATE;
		r = image_check_name(c, v[i].name);
	}
	if (!r && !(r = db_begin(c->store->db, DB_FULL, c->f))) {
		for (size_t i = 0; !r && i < n; i++)
			r = change_write(c, &ch[i]);
		r = db_end(c->store->db, r, c->f);
	}
	for (size_t i = 0; !r && i < n; i++)
		r = change_tell(c, &ch[i]);
	if (!r)
		r = content_index_write(c->store, c->f);
	for (size_t i = 0; !r && fn && i < n; i++)
		r = fn(user, &ch[i].row.info);
	for (size_t i = 0; ch && i < n; i++)
		change_clear(&ch[i]);
	free(ch);
	return r;
}

static int row_delete(struct store_call *c, const char *name)
{
	struct db *db = c->store->db;
	sqlite3_stmt *s = db_statement(db, SQL_DELETE, c->f);
	int r;

	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 1, c->ns);
	db_bind_text(s, 2, name);
	r = db_run(db, s, "write", c->f);
	return r || sqlite3_changes(db->sql) ? r : not_found(c, name);
}

int image_delete(struct store_call *c, const char *name)
{
	int r = db_begin(c->store->db, DB_FULL, c->f);

	if (r < 0)
		return r;
	r = db_end(c->store->db, row_delete(c, name), c->f);
	if (!r)
		r = event_add(c, "/images/delete", name, NULL, 0);
	return r < 0 ? r : content_index_write(c->store, c->f);
}
