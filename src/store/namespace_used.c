// SPDX-License-Identifier: Apache-2.0
/*
 * Whether anything of the store is in a namespace
 *
 * What is in a namespace without a row in `namespaces` would not be lost, but nobody would see it
 * until somebody makes the namespace again; so one that is in use is not deleted. Nor is one with an
 * ingest, whose commit would make it again. A lease whose time is over does not count: the next
 * collection removes it.
 */
#include "store/content.h"
#include "store/store_internal.h"
#include "util/cleanup.h"

static const char SQL_USED[] = "SELECT EXISTS (SELECT 1 FROM images WHERE namespace = ?1),"
			       " EXISTS (SELECT 1 FROM content WHERE namespace = ?1),"
			       " EXISTS (SELECT 1 FROM snapshots WHERE namespace = ?1),"
			       " EXISTS (SELECT 1 FROM leases WHERE namespace = ?1 "
			       "AND (expires_at = 0 OR expires_at > ?2))";

int store_namespace_used(struct store_call *c)
{
	static const char *const names[] = { "images", "content", "snapshots", "leases" };
	struct db *db = c->store->db;
	DB_LOCKED(db);
	CLEANUP(db_donep) sqlite3_stmt *s = db_statement(db, SQL_USED, c->f);
	char what[64];
	int n = 0;

	if (!s)
		return db_fault(db, "read", c->f);
	db_bind_text(s, 1, c->ns);
	sqlite3_bind_int64(s, 2, clock_now());
	if (sqlite3_step(s) != SQLITE_ROW)
		return db_fault(db, "read", c->f);
	for (int i = 0; i < (int)ARRAY_SIZE(names); i++)
		if (sqlite3_column_int(s, i))
			n += snprintf(what + n, sizeof(what) - (size_t)n, "%s%s", n ? ", " : "",
				      names[i]);
	if (ingest_any(c->store, c->ns))
		n += snprintf(what + n, sizeof(what) - (size_t)n, "%singests", n ? ", " : "");
	if (!n)
		return 0;
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0, "the namespace '%s' is not empty: it has %s",
		  c->ns, what);
	return 1;
}
