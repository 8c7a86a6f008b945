// SPDX-License-Identifier: Apache-2.0
/*
 * Marking: from the roots along references
 *
 * References are read from the rows at the moment they are followed, by one of two connections: the
 * collection's own, which sees the database as it was when the run began, for nearly everything; and
 * the daemon's, under its lock, for what has changed since. Nothing but the set of nodes is kept.
 *
 * Labels (containerd's docs/garbage-collection.md): an object refers to others of its namespace by
 * containerd.io/gc.ref.content[.X], gc.ref.image[.X] and gc.ref.snapshot.DRIVER[/X], and is a root
 * by gc.root, or by a gc.expire that is still to come. What a lease with gc.flat holds does not hold
 * what it refers to by labels; but a snapshot always holds its parents, and an image its target,
 * since without them it would be of no use.
 *
 * Labels that cannot be read end the collection: what they refer to is not known, so nothing may be
 * called garbage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/gc_internal.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/rfc3339.h"

#define LABEL "containerd.io/gc."
#define LABEL_REF LABEL "ref."

static const char SQL_CONTENT[] = "SELECT labels FROM content WHERE namespace = ?1 AND digest = ?2";
static const char SQL_IMAGE[] =
	"SELECT labels, digest FROM images WHERE namespace = ?1 AND name = ?2";
static const char SQL_SNAPSHOT[] =
	"SELECT labels, parent FROM snapshots WHERE namespace = ?1 AND snapshotter = ?2 AND name = ?3";
static const char SQL_CONTAINER[] = "SELECT labels, snapshotter, snapshot_key FROM containers "
				    "WHERE namespace = ?1 AND id = ?2";
static const char SQL_LEASE[] =
	"SELECT labels, expires_at FROM leases WHERE namespace = ?1 AND id = ?2";
static const char SQL_RESOURCES[] =
	"SELECT type, id FROM lease_resources WHERE namespace = ?1 AND lease = ?2";
static const char SQL_ROOTS[] =
	"SELECT 1, namespace, name, '' FROM images "
	"UNION ALL SELECT 5, namespace, id, '' FROM containers "
	"UNION ALL SELECT 3, namespace, id, '' FROM leases "
	"UNION ALL SELECT 0, namespace, digest, labels FROM content "
	"WHERE instr(labels, '" LABEL "root') OR instr(labels, '" LABEL "expire') "
	"UNION ALL SELECT 2, namespace, snapshotter || '/' || name, labels FROM snapshots "
	"WHERE instr(labels, '" LABEL "root') OR instr(labels, '" LABEL "expire')";
_Static_assert(DB_KIND_CONTENT == 0 && DB_KIND_IMAGE == 1 && DB_KIND_SNAPSHOT == 2 &&
		       DB_KIND_LEASE == 3 && DB_KIND_CONTAINER == 5,
	       "the numbers in SQL_ROOTS");

static int prepare(struct gc_reader *r, const char *text, sqlite3_stmt **out, struct fault *f)
{
	return sqlite3_prepare_v2(r->db.sql, text, -1, out, NULL) == SQLITE_OK
		       ? 0
		       : db_fault(&r->db, "read", f);
}

int gc_reader_open(struct gc_reader *r, sqlite3 *sql, const char *path, struct fault *f)
{
	int e;

	memset(r, 0, sizeof(*r));
	r->db.sql = sql;
	r->db.path = (char *)path;
	e = prepare(r, SQL_CONTENT, &r->content, f);
	if (!e)
		e = prepare(r, SQL_IMAGE, &r->image, f);
	if (!e)
		e = prepare(r, SQL_SNAPSHOT, &r->snapshot, f);
	if (!e)
		e = prepare(r, SQL_CONTAINER, &r->container, f);
	if (!e)
		e = prepare(r, SQL_LEASE, &r->lease, f);
	if (!e)
		e = prepare(r, SQL_RESOURCES, &r->resources, f);
	if (e < 0)
		gc_reader_close(r);
	return e;
}

void gc_reader_close(struct gc_reader *r)
{
	sqlite3_finalize(r->content);
	sqlite3_finalize(r->image);
	sqlite3_finalize(r->snapshot);
	sqlite3_finalize(r->container);
	sqlite3_finalize(r->lease);
	sqlite3_finalize(r->resources);
	memset(r, 0, sizeof(*r));
}

/* ---- nodes */

static int push(struct gc_marker *m, uint32_t at)
{
	if (m->n_stack == m->stack_room) {
		size_t room = m->stack_room ? m->stack_room * 2 : 256;
		uint32_t *grown = reallocarray(m->stack, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		m->stack = grown;
		m->stack_room = room;
	}
	m->stack[m->n_stack++] = at;
	return 0;
}

int gc_mark(struct gc_marker *m, enum db_kind kind, const char *ns, const char *key, unsigned flag,
	    bool again)
{
	struct gc_node *n;
	uint32_t at;
	int r = gc_set_add(&m->set, kind, ns, key, &at);

	if (r < 0)
		return r;
	n = &m->set.nodes[at];
	if (!(n->flags & GC_MARKED))
		m->marked++;
	if (!again && (n->flags & (flag | GC_FULL)))
		return 0;
	n->flags |= (uint8_t)flag;
	return push(m, at);
}

/* A node's own namespace and key may move when others are added: copies. */
struct visit {
	struct gc_marker *m;
	struct gc_reader *r;
	struct fault *f;
	char *ns, *key;
	unsigned flag;
};

static int mark_snapshot(struct visit *v, const char *snapshotter, size_t n, const char *name,
			 unsigned flag)
{
	CLEANUP_FREE char *key = NULL;

	if (asprintf(&key, "%.*s/%s", (int)n, snapshotter, name) < 0) {
		key = NULL;
		return -ENOMEM;
	}
	return gc_mark(v->m, DB_KIND_SNAPSHOT, v->ns, key, flag, false);
}

/* "content" of "content", "content.l.0" and "content/x" */
static bool is_ref(const char *label, const char *kind)
{
	size_t n = strlen(kind);

	return !strncmp(label, kind, n) && (!label[n] || label[n] == '.' || label[n] == '/');
}

static int follow_label(struct visit *v, const char *label, const char *value)
{
	static const char snapshot[] = "snapshot.";

	if (is_ref(label, "content"))
		return gc_mark(v->m, DB_KIND_CONTENT, v->ns, value, GC_FULL, false);
	if (is_ref(label, "image"))
		return gc_mark(v->m, DB_KIND_IMAGE, v->ns, value, GC_FULL, false);
	if (!strncmp(label, snapshot, sizeof(snapshot) - 1)) {
		label += sizeof(snapshot) - 1;
		return mark_snapshot(v, label, strcspn(label, "/"), value, GC_FULL);
	}
	return 0;
}

static int follow_labels(struct visit *v, const char *text)
{
	CLEANUP(json_putp) json_object *j = NULL;
	CLEANUP_FREE struct db_label *labels = NULL;
	size_t n;
	int r;

	if (v->flag != GC_FULL || !strstr(text, LABEL_REF))
		return 0;
	r = db_labels_read(&v->r->db, text, &j, &labels, &n, v->f);
	for (size_t i = 0; !r && i < n; i++)
		if (!strncmp(labels[i].key, LABEL_REF, sizeof(LABEL_REF) - 1))
			r = follow_label(v, labels[i].key + sizeof(LABEL_REF) - 1, labels[i].value);
	return r;
}

static int has_label(struct db *db, const char *text, const char *key, char **value,
		     struct fault *f)
{
	CLEANUP(json_putp) json_object *j = NULL;
	CLEANUP_FREE struct db_label *labels = NULL;
	size_t n;
	int r;

	*value = NULL;
	if (!strstr(text, key))
		return 0;
	r = db_labels_read(db, text, &j, &labels, &n, f);
	for (size_t i = 0; !r && i < n; i++) {
		if (strcmp(labels[i].key, key) || !labels[i].value[0])
			continue;
		*value = strdup(labels[i].value);
		return *value ? 1 : db_no_memory(f);
	}
	return r;
}

static int visit_lease(struct visit *v, sqlite3_stmt *s)
{
	CLEANUP_FREE char *value = NULL;
	CLEANUP(db_donep) sqlite3_stmt *rows = NULL;
	int64_t expires = sqlite3_column_int64(s, 1);
	unsigned flag;
	int r, step;

	if (expires && expires <= v->m->now)
		return 0;
	r = has_label(&v->r->db, db_column_text(s, 0), LABEL "flat", &value, v->f);
	if (r < 0)
		return r;
	flag = r ? GC_KEPT : GC_FULL;
	r = 0;
	rows = v->r->resources;
	db_bind_text(rows, 1, v->ns);
	db_bind_text(rows, 2, v->key);
	while (!r && (step = sqlite3_step(rows)) != SQLITE_DONE) {
		const char *type = db_column_text(rows, 0), *id = db_column_text(rows, 1);
		size_t prefix = sizeof(LEASE_SNAPSHOTS) - 1;

		if (step != SQLITE_ROW)
			return db_fault(&v->r->db, "read", v->f);
		if (!strcmp(type, LEASE_CONTENT))
			r = gc_mark(v->m, DB_KIND_CONTENT, v->ns, id, flag, false);
		else if (!strcmp(type, LEASE_IMAGES))
			r = gc_mark(v->m, DB_KIND_IMAGE, v->ns, id, flag, false);
		else if (!strcmp(type, LEASE_INGESTS))
			r = gc_mark(v->m, DB_KIND_INGEST, v->ns, id, flag, false);
		else if (!strncmp(type, LEASE_SNAPSHOTS, prefix))
			r = mark_snapshot(v, type + prefix, strlen(type + prefix), id, flag);
	}
	return r;
}

static int visit_row(struct visit *v, enum db_kind kind, sqlite3_stmt *s)
{
	const char *snapshotter, *text;
	int r = kind == DB_KIND_LEASE ? 0 : follow_labels(v, db_column_text(s, 0));

	if (r < 0)
		return r;
	switch (kind) {
	case DB_KIND_IMAGE:
		return gc_mark(v->m, DB_KIND_CONTENT, v->ns, db_column_text(s, 1), v->flag, false);
	case DB_KIND_SNAPSHOT:
		text = db_column_text(s, 1);
		return *text ? mark_snapshot(v, v->key, strcspn(v->key, "/"), text, v->flag) : 0;
	case DB_KIND_CONTAINER:
		snapshotter = db_column_text(s, 1);
		text = db_column_text(s, 2);
		if (!*snapshotter)
			snapshotter = v->m->snapshotter;
		return *text ? mark_snapshot(v, snapshotter, strlen(snapshotter), text, GC_FULL)
			     : 0;
	case DB_KIND_LEASE:
		return visit_lease(v, s);
	case DB_KIND_CONTENT:
	case DB_KIND_INGEST:
		break;
	}
	return 0;
}

/* Reads the node's row, if there is one, and marks what it refers to. */
static int visit(struct gc_marker *m, struct gc_reader *r, uint32_t at, struct fault *f)
{
	CLEANUP_FREE char *ns = strdup(gc_set_ns(&m->set, at));
	CLEANUP_FREE char *key = strdup(gc_set_key(&m->set, at));
	CLEANUP(db_donep) sqlite3_stmt *s = NULL;
	struct visit v = { .m = m, .r = r, .f = f, .ns = ns, .key = key };
	enum db_kind kind = m->set.nodes[at].kind;
	char *slash;
	int e;

	if (!ns || !key)
		return -ENOMEM;
	v.flag = m->set.nodes[at].flags & GC_FULL ? GC_FULL : GC_KEPT;
	s = kind == DB_KIND_CONTENT	? r->content
	    : kind == DB_KIND_IMAGE	? r->image
	    : kind == DB_KIND_SNAPSHOT	? r->snapshot
	    : kind == DB_KIND_LEASE	? r->lease
	    : kind == DB_KIND_CONTAINER ? r->container
					: NULL;
	if (!s)
		return 0;
	db_bind_text(s, 1, ns);
	if (kind == DB_KIND_SNAPSHOT) {
		slash = strchr(key, '/');
		if (!slash)
			return 0;
		sqlite3_bind_text(s, 2, key, (int)(slash - key), SQLITE_STATIC);
		db_bind_text(s, 3, slash + 1);
	} else {
		db_bind_text(s, 2, key);
	}
	e = sqlite3_step(s);
	if (e == SQLITE_DONE)
		return 0;
	return e == SQLITE_ROW ? visit_row(&v, kind, s) : db_fault(&r->db, "read", f);
}

int gc_mark_drain(struct gc_marker *m, struct gc_reader *r, int64_t until,
		  const struct cancel *cancel, struct fault *f)
{
	while (m->n_stack) {
		int e;

		if (cancelled(cancel)) {
			fault_set(f, FAULT_CANCELLED, 0, "the collection was told to end");
			return -ECANCELED;
		}
		e = visit(m, r, m->stack[--m->n_stack], f);
		if (e < 0)
			return e == -ENOMEM ? db_no_memory(f) : e;
		if (until && clock_mono() >= until)
			return m->n_stack != 0;
	}
	return 0;
}

/* ---- roots */

/* Whether its own labels make it a root. */
static int is_root(struct gc_marker *m, struct gc_reader *r, const char *labels, struct fault *f)
{
	CLEANUP_FREE char *root = NULL;
	CLEANUP_FREE char *expire = NULL;
	int64_t at;
	int e = has_label(&r->db, labels, LABEL "root", &root, f);

	if (e)
		return e;
	e = has_label(&r->db, labels, LABEL "expire", &expire, f);
	if (e <= 0)
		return e;
	/* one that cannot be read says nothing */
	return rfc3339_parse(expire, &at) == 0 && at > m->now;
}

int gc_mark_roots(struct gc_marker *m, struct gc_reader *r, struct fault *f)
{
	sqlite3_stmt *s = NULL;
	int e = prepare(r, SQL_ROOTS, &s, f), step;

	while (!e && (step = sqlite3_step(s)) != SQLITE_DONE) {
		enum db_kind kind;

		if (step != SQLITE_ROW) {
			e = db_fault(&r->db, "read", f);
			break;
		}
		kind = (enum db_kind)sqlite3_column_int(s, 0);
		if (kind == DB_KIND_CONTENT || kind == DB_KIND_SNAPSHOT)
			e = is_root(m, r, db_column_text(s, 3), f);
		else
			e = 1;
		if (e > 0) {
			e = gc_mark(m, kind, db_column_text(s, 1), db_column_text(s, 2), GC_FULL,
				    false);
			if (e < 0)
				e = db_no_memory(f);
		}
	}
	sqlite3_finalize(s);
	return e;
}
