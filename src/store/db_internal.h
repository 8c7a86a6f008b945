// SPDX-License-Identifier: Apache-2.0
/*
 * The metadata database, inside: what its parts share
 */
#pragma once

#include <json-c/json.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "store/db.h"

#define DB_STATEMENTS 160u

struct db_cached {
	const char *text; /* a literal: its address is the key */
	sqlite3_stmt *s;
};

struct db {
	sqlite3 *sql;
	char *path;
	pthread_mutex_t lock; /* recursive */
	unsigned depth; /* of db_begin */
	bool durable; /* the open transaction's commit is synced */
	bool full; /* what PRAGMA synchronous is now */
	bool broken; /* an inner part of the open transaction has failed */
	struct db_cached statements[DB_STATEMENTS]; /* in the order of first use */
	size_t n_statements;
	void (*touched)(void *user, enum db_kind kind, const char *ns, const char *id);
	void *touched_user;
	atomic_uint wal_pages; /* after the last commit */
	atomic_bool wal_finish; /* the next commit is to fold the end of the WAL */
};

/* db_open, of a file of any name; path becomes the database's. */
int db_open_path(struct db **out, char *path, struct fault *f);
/* What SQLite says after a failed call, for the user. Returns -errno; never 0. */
int db_fault(struct db *db, const char *step, struct fault *f);
/*
 * Compiled on first use and kept. `text` is a literal: the same place in the source must give the
 * same pointer each time. NULL after filling the fault. It has no bindings, and goes back by
 * db_done. The caller holds the lock until then (db_lock).
 */
sqlite3_stmt *db_statement(struct db *db, const char *text, struct fault *f);
void db_done(sqlite3_stmt *s);
/* Steps a statement that answers no rows, and gives it back. */
int db_run(struct db *db, sqlite3_stmt *s, const char *step, struct fault *f);
int db_exec(struct db *db, const char *text, const char *step, struct fault *f);
int db_pragma_int(struct db *db, const char *text, int64_t *value, struct fault *f);

/* db_reserve.c: gives a part of the reserve up. True: there was one, and it is worth another try. */
bool db_make_room(struct db *db);
/* Before a transaction: does so when there is next to nothing left on the disk. */
void db_need_room(struct db *db);

/* db_fold.c: takes care of the WAL from here on, instead of SQLite itself. */
void db_watch_wal(struct db *db);

/* db_schema.c: whether the file is empty, or ours and not too new. Writes nothing. */
int db_identify(struct db *db, struct fault *f);
#define DB_APPLICATION_ID 0x64617669u /* "davi" */
unsigned db_schema_version(void); /* the newest */
/* Brings it to the newest schema, in one transaction a step. */
int db_migrate(struct db *db, struct fault *f);

/* ---- db_rows.c: what the statements of all records need */

static inline void json_putp(json_object **j)
{
	json_object_put(*j);
}

static inline void db_donep(sqlite3_stmt **s)
{
	if (*s)
		db_done(*s);
}

static inline void db_unlockp(struct db **db)
{
	if (*db)
		db_unlock(*db);
}

/* Holds the lock to the end of the scope. */
#define DB_LOCKED(db)                                                                              \
	CLEANUP(db_unlockp) __attribute__((unused)) struct db *db_locked_ = (db_lock(db), (db))

int db_no_memory(struct fault *f);
/* Labels as JSON text, which lives as long as *j. NULL without memory. */
const char *db_labels_text(const struct db_label *labels, size_t n, json_object **j);
/* The other way round: an array to be freed, whose texts are *j's. */
int db_labels_read(struct db *db, const char *text, json_object **j, struct db_label **labels,
		   size_t *n, struct fault *f);
/* Bound without a copy: the memory must last until db_done. */
void db_bind_text(sqlite3_stmt *s, int at, const char *text);
void db_bind_blob(sqlite3_stmt *s, int at, const void *data, size_t size);
/* "" for NULL; until the next step */
const char *db_column_text(sqlite3_stmt *s, int at);
/* Tells the watcher of db_watch, if there is one. */
void db_touch(struct db *db, enum db_kind kind, const char *ns, const char *id);
