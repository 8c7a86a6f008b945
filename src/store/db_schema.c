// SPDX-License-Identifier: Apache-2.0
/*
 * The schema and its history
 *
 * PRAGMA user_version is the number of steps that a file has seen; application_id tells that it is
 * davit's. A step, once released, is never changed: a new one is added below. Each runs in a
 * transaction of its own together with the new number, so a start that is interrupted goes on where
 * it was.
 *
 * Labels are JSON text and times nanoseconds, so that `sqlite3 meta.db` shows what there is.
 */
#include <errno.h>
#include <stdio.h>

#include "store/db_internal.h"
#include "util/cleanup.h"

#define APPLICATION_ID 0x64617669 /* "davi" */

static const char *const steps[] = {
	/* 1 */
	"CREATE TABLE namespaces ("
	" name TEXT NOT NULL PRIMARY KEY,"
	" labels TEXT NOT NULL"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE containers ("
	" namespace TEXT NOT NULL,"
	" id TEXT NOT NULL,"
	" image TEXT NOT NULL,"
	" runtime TEXT NOT NULL,"
	" snapshotter TEXT NOT NULL,"
	" snapshot_key TEXT NOT NULL,"
	" bundle TEXT NOT NULL,"
	" labels TEXT NOT NULL,"
	" spec BLOB NOT NULL," /* zstd frame of JSON text */
	" extensions BLOB NOT NULL," /* msgpack map, or empty */
	" created_at INTEGER NOT NULL,"
	" updated_at INTEGER NOT NULL,"
	" PRIMARY KEY (namespace, id)"
	") STRICT;"
	/* facts about the file itself */
	"CREATE TABLE meta ("
	" key TEXT NOT NULL PRIMARY KEY,"
	" value TEXT NOT NULL"
	") STRICT, WITHOUT ROWID;",
};

static int run_step(struct db *db, size_t n, struct fault *f)
{
	char tail[128];
	int r = db_exec(db, "BEGIN IMMEDIATE", "migrate", f);

	if (r < 0)
		return r;
	snprintf(tail, sizeof(tail),
		 "PRAGMA application_id = %d; PRAGMA user_version = %zu; COMMIT", APPLICATION_ID,
		 n + 1);
	r = db_exec(db, steps[n], "migrate", f);
	if (!r)
		r = db_exec(db, tail, "migrate", f);
	if (r < 0)
		sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

int db_identify(struct db *db, struct fault *f)
{
	int64_t version = 0, application = 0, tables = 0;
	int r;

	r = db_pragma_int(db, "PRAGMA user_version", &version, f);
	if (!r)
		r = db_pragma_int(db, "PRAGMA application_id", &application, f);
	if (!r)
		r = db_pragma_int(db, "SELECT count(*) FROM sqlite_schema", &tables, f);
	if (r < 0)
		return r;
	if (application != APPLICATION_ID && (version || tables)) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "%s is a database of another program; move it away", db->path);
		return -EEXIST;
	}
	if (version < 0 || (size_t)version > ARRAY_SIZE(steps)) {
		fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"%s was written by a newer davit (schema %lld, this one knows up to %zu); "
			"use that version, or another --root",
			db->path, (long long)version, ARRAY_SIZE(steps));
		return -EPROTO;
	}
	return 0;
}

int db_migrate(struct db *db, struct fault *f)
{
	int64_t version;
	int r = db_pragma_int(db, "PRAGMA user_version", &version, f);

	for (size_t n = (size_t)version; !r && n < ARRAY_SIZE(steps); n++)
		r = run_step(db, n, f);
	return r;
}
