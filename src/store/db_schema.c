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
	/* 2 */
	/* what is in content/blobs, whoever it belongs to */
	"CREATE TABLE blobs ("
	" digest TEXT NOT NULL PRIMARY KEY," /* "sha256:HEX" */
	" size INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL"
	") STRICT, WITHOUT ROWID;"
	/* which of them a namespace sees */
	"CREATE TABLE content ("
	" namespace TEXT NOT NULL,"
	" digest TEXT NOT NULL REFERENCES blobs (digest),"
	" labels TEXT NOT NULL,"
	" created_at INTEGER NOT NULL,"
	" updated_at INTEGER NOT NULL,"
	" PRIMARY KEY (namespace, digest)"
	") STRICT, WITHOUT ROWID;"
	"CREATE INDEX content_by_digest ON content (digest);"
	"CREATE TABLE images ("
	" namespace TEXT NOT NULL,"
	" name TEXT NOT NULL,"
	" digest TEXT NOT NULL," /* of the target */
	" target TEXT NOT NULL," /* the whole descriptor, as JSON */
	" labels TEXT NOT NULL,"
	" created_at INTEGER NOT NULL,"
	" updated_at INTEGER NOT NULL,"
	" PRIMARY KEY (namespace, name)"
	") STRICT, WITHOUT ROWID;"
	"CREATE TABLE snapshots ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT," /* its folder's name, never used again */
	" namespace TEXT NOT NULL,"
	" snapshotter TEXT NOT NULL,"
	" name TEXT NOT NULL," /* the key of one that is not committed */
	" parent TEXT NOT NULL," /* '' for none; one of the same namespace and snapshotter */
	" kind TEXT NOT NULL CHECK (kind IN ('view', 'active', 'committed')),"
	" labels TEXT NOT NULL,"
	" size INTEGER NOT NULL," /* of a committed one, bytes; else 0 */
	" inodes INTEGER NOT NULL,"
	" created_at INTEGER NOT NULL,"
	" updated_at INTEGER NOT NULL,"
	" UNIQUE (namespace, snapshotter, name)"
	") STRICT;"
	"CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent);"
	"CREATE TABLE leases ("
	" namespace TEXT NOT NULL,"
	" id TEXT NOT NULL,"
	" labels TEXT NOT NULL,"
	" created_at INTEGER NOT NULL,"
	" expires_at INTEGER NOT NULL," /* 0 for never */
	" PRIMARY KEY (namespace, id)"
	") STRICT, WITHOUT ROWID;"
	/* types as containerd's: content, ingests, images, snapshots/SNAPSHOTTER */
	"CREATE TABLE lease_resources ("
	" namespace TEXT NOT NULL,"
	" lease TEXT NOT NULL,"
	" type TEXT NOT NULL,"
	" id TEXT NOT NULL,"
	" PRIMARY KEY (namespace, lease, type, id)"
	") STRICT, WITHOUT ROWID;",
};

static int run_step(struct db *db, size_t n, struct fault *f)
{
	char tail[128];
	int r = db_exec(db, "BEGIN IMMEDIATE", "migrate", f);

	if (r < 0)
		return r;
	snprintf(tail, sizeof(tail),
		 "PRAGMA application_id = %u; PRAGMA user_version = %zu; COMMIT", DB_APPLICATION_ID,
		 n + 1);
	r = db_exec(db, steps[n], "migrate", f);
	if (!r)
		r = db_exec(db, tail, "migrate", f);
	if (r < 0)
		sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

unsigned db_schema_version(void)
{
	return ARRAY_SIZE(steps);
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
	if (application != DB_APPLICATION_ID && (version || tables)) {
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
