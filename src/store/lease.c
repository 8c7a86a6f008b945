// SPDX-License-Identifier: Apache-2.0
/*
 * Leases: what must not be collected although nothing refers to it yet
 *
 * A lease is a row with a set of resources, each a type and an id, that garbage collection takes for
 * roots until the lease is deleted or its time is over. One whose time is over holds nothing any
 * more and is not there for those who would join it, even before a collection has removed its rows;
 * its id may be taken anew.
 *
 * Changes are durable: a lease that was answered holds after a power cut. Only davit's own transient
 * ones need not be, since they go with the next start anyway. A resource that joins is told to the
 * watcher of the database by itself (db_touch), not by its lease, so that a collection which is
 * under way need not read a large lease again for each thing that joins it.
 */
#include "store/lease.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/store_internal.h"
#include "util/cleanup.h"
#include "util/limits.h"
#include "util/rfc3339.h"

#define LABEL_EXPIRE "containerd.io/gc.expire"
#define HOLD_NS (24 * 3600 * CLOCK_NS_PER_SEC)

static const char SQL_PUT[] = "INSERT INTO leases (namespace, id, labels, created_at, expires_at) "
			      "VALUES (?1, ?2, ?3, ?4, ?5)";
static const char SQL_GET[] = "SELECT expires_at FROM leases WHERE namespace = ?1 AND id = ?2";
static const char SQL_LIST[] =
	"SELECT id, labels, created_at, expires_at FROM leases WHERE namespace = ?1 AND id > ?2 "
	"ORDER BY id";
static const char SQL_DELETE[] = "DELETE FROM leases WHERE namespace = ?1 AND id = ?2";
static const char SQL_DELETE_RESOURCES[] =
	"DELETE FROM lease_resources WHERE namespace = ?1 AND lease = ?2";
static const char SQL_ADD[] =
	"INSERT OR IGNORE INTO lease_resources (namespace, lease, type, id) VALUES (?1, ?2, ?3, ?4)";
static const char SQL_REMOVE[] =
	"DELETE FROM lease_resources WHERE namespace = ?1 AND lease = ?2 AND type = ?3 AND id = ?4";
static const char SQL_COUNT[] =
	"SELECT count(*) FROM lease_resources WHERE namespace = ?1 AND lease = ?2";
static const char SQL_RESOURCES[] =
	"SELECT type, id FROM lease_resources WHERE namespace = ?1 AND lease = ?2 "
	"AND (type, id) > (?3, ?4) ORDER BY type, id";
/* once a start */
static const char SQL_TRANSIENT[] = "SELECT namespace, id FROM leases WHERE "
				    "CASE WHEN json_valid(labels) "
				    "THEN json_extract(labels, '$.\"" LEASE_LABEL_TRANSIENT
				    "\"') END IS NOT NULL";

static int not_found(struct fault *f, const char *id)
{
	fault_set(f, FAULT_NOT_FOUND, 0, "there is no lease '%s'", id);
	return -ENOENT;
}

/* A statement with the namespace and the lease's id bound as 1 and 2. */
static sqlite3_stmt *statement(struct store_call *c, const char *text, const char *id)
{
	sqlite3_stmt *s = db_statement(c->store->db, text, c->f);

	if (s) {
		db_bind_text(s, 1, c->ns);
		db_bind_text(s, 2, id);
	}
	return s;
}

static int run(struct store_call *c, const char *text, const char *id)
{
	sqlite3_stmt *s = statement(c, text, id);

	return s ? db_run(c->store->db, s, "write", c->f) : db_fault(c->store->db, "write", c->f);
}

/* 1: it is there, 2: it is, but its time is over; 0: it is not. Under the lock. */
static int find(struct store_call *c, const char *id)
{
	struct db *db = c->store->db;
	CLEANUP(db_donep) sqlite3_stmt *s = statement(c, SQL_GET, id);
	int64_t expires;

	if (!s)
		return db_fault(db, "read", c->f);
	switch (sqlite3_step(s)) {
	case SQLITE_ROW:
		expires = sqlite3_column_int64(s, 0);
		return expires && expires <= clock_now() ? 2 : 1;
	case SQLITE_DONE:
		return 0;
	default:
		return db_fault(db, "read", c->f);
	}
}

/* For those who want to put something under it. */
static int find_live(struct store_call *c, const char *id)
{
	int r = find(c, id);

	if (r < 0)
		return r;
	return r == 1 ? 0 : not_found(c->f, id);
}

static int delete_rows(struct store_call *c, const char *id)
{
	int r = run(c, SQL_DELETE_RESOURCES, id);

	return r ? r : run(c, SQL_DELETE, id);
}

static int random_id(char *to, size_t size, struct fault *f)
{
	unsigned char v[8];

	if (getrandom(v, sizeof(v), 0) != (ssize_t)sizeof(v))
		return fault_sys(f, errno, "getrandom", NULL);
	snprintf(to, size, "davit-%02x%02x%02x%02x%02x%02x%02x%02x", v[0], v[1], v[2], v[3], v[4],
		 v[5], v[6], v[7]);
	return 0;
}

/* By the label, when nothing else was said. */
static int expire_by_label(const struct db_label *labels, size_t n, int64_t *at, struct fault *f)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(labels[i].key, LABEL_EXPIRE) || !labels[i].value[0])
			continue;
		if (rfc3339_parse(labels[i].value, at) < 0) {
			fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				  "the label " LABEL_EXPIRE " is '%s', which is no time like "
				  "2026-01-31T12:00:00Z",
				  labels[i].value);
			fault_arg(f, "labels");
			return -EINVAL;
		}
		/* 0 would be never */
		if (!*at)
			*at = 1;
	}
	return 0;
}

static int insert(struct store_call *c, const char *id, const char *labels, int64_t now,
		  int64_t expires_at)
{
	struct db *db = c->store->db;
	sqlite3_stmt *s;
	int r = find(c, id);

	if (r == 1) {
		fault_set(c->f, FAULT_ALREADY_EXISTS, 0, "the lease '%s' exists", id);
		return -EEXIST;
	}
	if (r == 2)
		r = delete_rows(c, id);
	if (r < 0)
		return r;
	s = statement(c, SQL_PUT, id);
	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 3, labels);
	sqlite3_bind_int64(s, 4, now);
	sqlite3_bind_int64(s, 5, expires_at);
	db_touch(db, DB_KIND_LEASE, c->ns, id);
	return db_run(db, s, "write", c->f);
}

static int create(struct store_call *c, const char *id, const struct db_label *labels, size_t n,
		  int64_t expires_at, enum db_durability durability, lease_fn fn, void *user)
{
	struct db *db = c->store->db;
	CLEANUP(json_putp) json_object *j = NULL;
	const char *text = db_labels_text(labels, n, &j);
	int64_t now = clock_now();
	int r;

	if (!text)
		return db_no_memory(c->f);
	r = db_begin(db, durability, c->f);
	if (r < 0)
		return r;
	r = db_end(db, insert(c, id, text, now, expires_at), c->f);
	if (!r && fn) {
		struct lease_info info = { .id = id,
					   .labels = labels,
					   .n_labels = n,
					   .created_at = now,
					   .expires_at = expires_at };

		r = fn(user, &info);
	}
	return r;
}

int lease_create(struct store_call *c, const char *id, const struct db_label *labels, size_t n,
		 int64_t expires_at, lease_fn fn, void *user)
{
	CLEANUP_FREE struct db_label *kept = calloc(n + 1, sizeof(*kept));
	char made[LIMIT_ID_BYTES + 1];
	size_t n_kept = 0;
	int r = 0;

	if (!kept)
		return db_no_memory(c->f);
	for (size_t i = 0; i < n; i++)
		if (labels[i].value[0])
			kept[n_kept++] = labels[i];
	if (!expires_at)
		r = expire_by_label(kept, n_kept, &expires_at, c->f);
	if (!r && (!id || !*id)) {
		r = random_id(made, sizeof(made), c->f);
		id = made;
	}
	return r ? r : create(c, id, kept, n_kept, expires_at, DB_FULL, fn, user);
}

static int delete_lease(struct store_call *c, const char *id, enum db_durability durability)
{
	struct db *db = c->store->db;
	int r = db_begin(db, durability, c->f);

	if (r < 0)
		return r;
	r = find(c, id);
	if (!r)
		r = not_found(c->f, id);
	else if (r > 0)
		r = delete_rows(c, id);
	return db_end(db, r, c->f);
}

int lease_delete(struct store_call *c, const char *id)
{
	return delete_lease(c, id, DB_FULL);
}

int lease_list(struct store_call *c, const char *after, lease_fn fn, void *user)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = statement(c, SQL_LIST, after);
	int r = 0, step;

	if (!s)
		return db_fault(db, "read", c->f);
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		CLEANUP(json_putp) json_object *j = NULL;
		CLEANUP_FREE struct db_label *labels = NULL;
		struct lease_info info = { 0 };

		if (step != SQLITE_ROW)
			return db_fault(db, "read", c->f);
		r = db_labels_read(db, db_column_text(s, 1), &j, &labels, &info.n_labels, c->f);
		if (r < 0)
			return r;
		info.id = db_column_text(s, 0);
		info.labels = labels;
		info.created_at = sqlite3_column_int64(s, 2);
		info.expires_at = sqlite3_column_int64(s, 3);
		r = fn(user, &info);
	}
	return r;
}

/* ---- resources */

/* The order of "TYPE ID" is that of type and id, since a type has nothing below a space. */
static bool type_valid(const char *type)
{
	size_t n = strlen(LEASE_SNAPSHOTS);

	if (!strcmp(type, LEASE_CONTENT) || !strcmp(type, LEASE_INGESTS) ||
	    !strcmp(type, LEASE_IMAGES))
		return true;
	return !strncmp(type, LEASE_SNAPSHOTS, n) && type[n] &&
	       strlen(type + n) <= LIMIT_ID_BYTES &&
	       strspn(type + n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				"._-") == strlen(type + n);
}

static int check_resource(struct fault *f, const char *type, const char *id)
{
	if (!type_valid(type)) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			  "a lease cannot hold '%.100s'; there are content, ingests, images and "
			  "snapshots/SNAPSHOTTER",
			  type);
		return -EINVAL;
	}
	if (!*id || strlen(id) > LIMIT_NAME_BYTES) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "a resource's id has 1 to %u bytes",
			  LIMIT_NAME_BYTES);
		return -EINVAL;
	}
	return 0;
}

static int touch(struct store_call *c, const char *type, const char *resource)
{
	struct db *db = c->store->db;
	CLEANUP_FREE char *key = NULL;

	if (!strcmp(type, LEASE_CONTENT)) {
		db_touch(db, DB_KIND_CONTENT, c->ns, resource);
	} else if (!strcmp(type, LEASE_INGESTS)) {
		db_touch(db, DB_KIND_INGEST, c->ns, resource);
	} else if (!strcmp(type, LEASE_IMAGES)) {
		db_touch(db, DB_KIND_IMAGE, c->ns, resource);
	} else if (asprintf(&key, "%s/%s", type + strlen(LEASE_SNAPSHOTS), resource) >= 0) {
		db_touch(db, DB_KIND_SNAPSHOT, c->ns, key);
	} else {
		key = NULL;
		return db_no_memory(c->f);
	}
	return 0;
}

static int add_row(struct store_call *c, const char *lease, const char *type, const char *resource)
{
	struct db *db = c->store->db;
	sqlite3_stmt *s;
	int r = touch(c, type, resource);

	if (r < 0)
		return r;
	s = statement(c, SQL_ADD, lease);
	if (!s)
		return db_fault(db, "write", c->f);
	db_bind_text(s, 3, type);
	db_bind_text(s, 4, resource);
	return db_run(db, s, "write", c->f);
}

/* Others join by what they made, which has limits of its own; here ids may be invented. */
static int check_room(struct store_call *c, const char *id)
{
	struct db *db = c->store->db;
	CLEANUP(db_donep) sqlite3_stmt *s = statement(c, SQL_COUNT, id);

	if (!s || sqlite3_step(s) != SQLITE_ROW)
		return db_fault(db, "read", c->f);
	if (sqlite3_column_int64(s, 0) < LIMIT_LEASE_RESOURCES)
		return 0;
	fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
		  "the lease '%s' has %u resources, the most there can be", id,
		  LIMIT_LEASE_RESOURCES);
	return -E2BIG;
}

int lease_add(struct store_call *c, const char *id, const char *type, const char *resource)
{
	struct db *db = c->store->db;
	int r = check_resource(c->f, type, resource);

	if (!r)
		r = db_begin(db, DB_FULL, c->f);
	if (r < 0)
		return r;
	r = find_live(c, id);
	if (!r)
		r = check_room(c, id);
	if (!r)
		r = add_row(c, id, type, resource);
	return db_end(db, r, c->f);
}

int lease_remove(struct store_call *c, const char *id, const char *type, const char *resource)
{
	struct db *db = c->store->db;
	sqlite3_stmt *s;
	int r = check_resource(c->f, type, resource);

	if (!r)
		r = db_begin(db, c->durable_later ? DB_NORMAL : DB_FULL, c->f);
	if (r < 0)
		return r;
	r = find_live(c, id);
	if (!r) {
		s = statement(c, SQL_REMOVE, id);
		if (!s)
			return db_end(db, db_fault(db, "write", c->f), c->f);
		db_bind_text(s, 3, type);
		db_bind_text(s, 4, resource);
		r = db_run(db, s, "write", c->f);
	}
	return db_end(db, r, c->f);
}

int lease_resources(struct store_call *c, const char *id, const char *after, lease_resource_fn fn,
		    void *user)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = NULL;
	size_t type = strcspn(after, " ");
	int r = find(c, id), step;

	if (r <= 0)
		return r < 0 ? r : not_found(c->f, id);
	s = statement(c, SQL_RESOURCES, id);
	if (!s)
		return db_fault(db, "read", c->f);
	sqlite3_bind_text(s, 3, after, (int)type, SQLITE_STATIC);
	db_bind_text(s, 4, after[type] ? after + type + 1 : "");
	r = 0;
	while (!r && (step = sqlite3_step(s)) != SQLITE_DONE) {
		if (step != SQLITE_ROW)
			return db_fault(db, "read", c->f);
		r = fn(user, db_column_text(s, 0), db_column_text(s, 1));
	}
	return r;
}

int lease_join(struct store_call *c, const char *type, const char *resource)
{
	struct db *db = c->store->db;
	DB_LOCKED(db);
	int r;

	if (!c->lease || !*c->lease)
		return 0;
	r = find_live(c, c->lease);
	return r ? r : add_row(c, c->lease, type, resource);
}

/* ---- leases of davit's own */

int lease_hold(struct store_call *c, struct lease_hold *hold)
{
	static const struct db_label label = { LEASE_LABEL_TRANSIENT, "true" };
	int r;

	hold->id[0] = '\0';
	if (c->lease && *c->lease)
		return 0;
	r = random_id(hold->id, sizeof(hold->id), c->f);
	if (!r)
		r = create(c, hold->id, &label, 1, clock_now() + HOLD_NS, DB_NORMAL, NULL, NULL);
	if (r < 0) {
		hold->id[0] = '\0';
		return r;
	}
	c->lease = hold->id;
	return 0;
}

void lease_release(struct store_call *c, struct lease_hold *hold)
{
	struct store_call own = *c;
	struct fault f;

	if (!hold->id[0])
		return;
	/* the call's own fault may be what is to be answered; one that stays ends by its time */
	own.f = &f;
	delete_lease(&own, hold->id, DB_NORMAL);
	if (c->lease == hold->id)
		c->lease = NULL;
	hold->id[0] = '\0';
}

int lease_expire_transient(struct store *s, struct fault *f)
{
	struct store_call c = { .store = s, .f = f };
	struct db *db = s->db;
	int r = db_begin(db, DB_FULL, f);

	if (r < 0)
		return r;
	for (;;) {
		CLEANUP_FREE char *ns = NULL;
		CLEANUP_FREE char *id = NULL;
		sqlite3_stmt *st = db_statement(db, SQL_TRANSIENT, f);
		int step = st ? sqlite3_step(st) : SQLITE_ERROR;

		if (step == SQLITE_ROW) {
			ns = strdup(db_column_text(st, 0));
			id = strdup(db_column_text(st, 1));
			db_done(st);
			c.ns = ns;
			r = ns && id ? delete_rows(&c, id) : db_no_memory(f);
			if (!r)
				continue;
		} else {
			if (step != SQLITE_DONE)
				r = db_fault(db, "read", f);
			if (st)
				db_done(st);
		}
		break;
	}
	return db_end(db, r, f);
}
