// SPDX-License-Identifier: Apache-2.0
/*
 * The metadata database, inside: what its parts share
 */
#pragma once

#include <json-c/json.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store/db.h"

/* Statements are compiled on first use and kept. */
enum db_statement {
	DB_NAMESPACE_PUT,
	DB_NAMESPACE_DELETE,
	DB_NAMESPACE_EACH,
	DB_CONTAINER_PUT,
	DB_CONTAINER_DELETE,
	DB_CONTAINER_EACH,
	DB_STATEMENTS,
};

struct db {
	sqlite3 *sql;
	char *path;
	sqlite3_stmt *statements[DB_STATEMENTS];
	atomic_uint wal_pages; /* after the last commit */
	atomic_bool wal_finish; /* the next commit is to fold the end of the WAL */
};

extern const char *const db_statement_texts[DB_STATEMENTS]; /* db_records.c */

/* What SQLite says after a failed call, for the user. Returns -errno; never 0. */
int db_fault(struct db *db, const char *step, struct fault *f);
/* NULL after filling the fault. It has no bindings, and goes back by db_done. */
sqlite3_stmt *db_statement(struct db *db, enum db_statement which, struct fault *f);
void db_done(sqlite3_stmt *s);
/* Steps a statement that answers no rows, and gives it back. */
int db_run(struct db *db, sqlite3_stmt *s, const char *step, struct fault *f);
int db_exec(struct db *db, const char *text, const char *step, struct fault *f);
int db_pragma_int(struct db *db, const char *text, int64_t *value, struct fault *f);

/* db_fold.c: takes care of the WAL from here on, instead of SQLite itself. */
void db_watch_wal(struct db *db);

/* db_schema.c: whether the file is empty, or ours and not too new. Writes nothing. */
int db_identify(struct db *db, struct fault *f);
/* Brings it to the newest schema, in one transaction a step. */
int db_migrate(struct db *db, struct fault *f);
