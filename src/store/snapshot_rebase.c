// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots: giving an active one its parent later
 *
 * An overlay's own folder holds only what differs from its parents, so it may be filled before it is
 * known, or committed, what it will stand on. That is what unpacking does with an image's layers. A
 * snapshot of the native snapshotter began as a copy of its parent, and cannot.
 */
#include <errno.h>
#include <string.h>

#include "store/snapshot_internal.h"
#include "util/cleanup.h"

static const char SQL_REBASE[] = "UPDATE snapshots SET parent = ?2, updated_at = ?3 WHERE id = ?1";

static int write_parent(struct store_call *c, int64_t id, const char *parent)
{
	struct db *db = c->store->db;
	sqlite3_stmt *s = db_statement(db, SQL_REBASE, c->f);

	if (!s)
		return db_fault(db, "write", c->f);
	sqlite3_bind_int64(s, 1, id);
	db_bind_text(s, 2, parent);
	sqlite3_bind_int64(s, 3, clock_now());
	return db_run(db, s, "write", c->f);
}

/* In the transaction. */
static int rebase(struct store_call *c, const struct snapshot_driver *d, const char *key,
		  const char *parent)
{
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 }, under = { 0 };
	CLEANUP_FREE int64_t *chain = NULL;
	CLEANUP_FREE char *id = NULL;
	size_t n;
	int r = snapshot_row_get(c, d, key, &row);

	if (r < 0)
		return r;
	if (row.kind != SNAPSHOT_ACTIVE || *row.parent) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "snapshot '%s' is not an active one without a parent", key);
		return -EINVAL;
	}
	r = snapshot_row_parent(c, d, parent, &under);
	if (!r)
		r = snapshot_row_chain(c, d, parent, &chain, &n);
	if (!r)
		r = write_parent(c, row.id, parent);
	if (r < 0)
		return r;
	if (asprintf(&id, "%s/%s", d->name, key) < 0) {
		id = NULL;
		return fault_sys(c->f, ENOMEM, "rebase the snapshot", key);
	}
	db_touch(c->store->db, DB_KIND_SNAPSHOT, c->ns, id);
	return 0;
}

int snapshot_rebase(struct store_call *c, const char *snapshotter, const char *key,
		    const char *parent)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	int r;

	if (!d)
		return -ENOENT;
	if (d != &snapshot_overlay) {
		fault_set(c->f, FAULT_UNIMPLEMENTED, 0,
			  "the snapshotter %s cannot give a snapshot another parent", d->name);
		return -EOPNOTSUPP;
	}
	r = db_begin(c->store->db, DB_NORMAL, c->f);
	return r < 0 ? r : db_end(c->store->db, rebase(c, d, key, parent), c->f);
}
