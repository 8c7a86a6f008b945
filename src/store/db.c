// SPDX-License-Identifier: Apache-2.0
/*
 * The metadata database: opening it, and what all statements need
 *
 * One connection, used by one thread at a time, with little memory of its own: a page cache of 256
 * KiB, no mapping, a small lookaside. WAL with synchronous=NORMAL: a commit is in the kernel's
 * hands when it returns, so a killed daemon loses nothing, and the disk is synced at checkpoints
 * only (db_fold.c).
 *
 * The file's own facts are in the table `meta`. One is the boot in which it was last opened: if a
 * WAL was left behind and the boot is another one, the machine went down with the file open, and it
 * is checked before use. After a mere crash of the daemon it is not, to start quickly.
 *
 * A file that is damaged, foreign or too new is never touched: the fault says which it is and
 * where.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/db_internal.h"
#include "store/db_salvage.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define BUSY_MS 5000
#define SOFT_HEAP (2 << 20)
/* A larger file is not read as a whole at start. */
#define CHECK_MAX (64 << 20)

int db_fault(struct db *db, const char *step, struct fault *f)
{
	int code = sqlite3_errcode(db->sql), err = sqlite3_system_errno(db->sql);
	const char *text = sqlite3_errmsg(db->sql);

	switch (code) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		err = EUCLEAN;
		db_suspect(db->path);
		fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the database %s is damaged (%s); restore a copy, or move it away to begin "
			"with an empty one",
			db->path, text);
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		err = EBUSY;
		fault_set(f, FAULT_UNAVAILABLE, 0, "the database %s is locked by another program",
			  db->path);
		break;
	case SQLITE_NOMEM:
		err = ENOMEM;
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
		break;
	case SQLITE_FULL:
		err = ENOSPC;
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOSPC, "%s %s", step, db->path);
		break;
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_READONLY:
		if (!err)
			err = code == SQLITE_READONLY ? EROFS : code == SQLITE_PERM ? EACCES : EIO;
		fault_set(f, fault_code_of_errno(err), 0, "%s %s: %s: %s", step, db->path, text,
			  strerrordesc_np(err));
		break;
	default:
		err = EINVAL;
		fault_set(f, FAULT_INTERNAL, 0, "%s %s: %s", step, db->path, text);
	}
	if (f)
		f->err = err;
	fault_at(f, step, db->path);
	return -err;
}

sqlite3_stmt *db_statement(struct db *db, const char *text, struct fault *f)
{
	struct db_cached *c = db->statements;
	size_t n = 0;

	while (n < db->n_statements && c[n].text != text)
		n++;
	if (n < db->n_statements)
		return c[n].s;
	if (n == DB_STATEMENTS) {
		fault_set(f, FAULT_INTERNAL, 0, "too many statements for the database");
		return NULL;
	}
	if (sqlite3_prepare_v3(db->sql, text, -1, SQLITE_PREPARE_PERSISTENT, &c[n].s, NULL) !=
	    SQLITE_OK) {
		db_fault(db, "prepare a statement for", f);
		return NULL;
	}
	c[n].text = text;
	db->n_statements++;
	return c[n].s;
}

void db_done(sqlite3_stmt *s)
{
	sqlite3_reset(s);
	/* what was bound is the caller's, and may be gone soon */
	sqlite3_clear_bindings(s);
}

/* The disk was full, and there is some room now. What SQLite has rolled back stays so. */
static bool try_again(struct db *db, bool was_open)
{
	bool full = sqlite3_errcode(db->sql) == SQLITE_FULL ||
		    sqlite3_system_errno(db->sql) == ENOSPC;

	return full && !sqlite3_get_autocommit(db->sql) == was_open && db_make_room(db);
}

int db_run(struct db *db, sqlite3_stmt *s, const char *step, struct fault *f)
{
	bool was_open = !sqlite3_get_autocommit(db->sql);
	bool done = sqlite3_step(s) == SQLITE_DONE;
	int r;

	if (!done && try_again(db, was_open)) {
		sqlite3_reset(s);
		done = sqlite3_step(s) == SQLITE_DONE;
	}
	r = done ? 0 : db_fault(db, step, f);
	db_done(s);
	return r;
}

int db_exec(struct db *db, const char *text, const char *step, struct fault *f)
{
	bool was_open = !sqlite3_get_autocommit(db->sql);
	int code = sqlite3_exec(db->sql, text, NULL, NULL, NULL);

	if (code != SQLITE_OK && try_again(db, was_open))
		code = sqlite3_exec(db->sql, text, NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : db_fault(db, step, f);
}

int db_pragma_int(struct db *db, const char *text, int64_t *value, struct fault *f)
{
	sqlite3_stmt *s;
	int r = 0;

	*value = 0;
	if (sqlite3_prepare_v2(db->sql, text, -1, &s, NULL) != SQLITE_OK)
		return db_fault(db, "read", f);
	if (sqlite3_step(s) == SQLITE_ROW)
		*value = sqlite3_column_int64(s, 0);
	else
		r = db_fault(db, "read", f);
	sqlite3_finalize(s);
	return r;
}

/* Made here, so that it is nobody else's to read; SQLite gives its other files the same mode. */
static int make_file(struct db *db, bool *had_wal, off_t *size, struct fault *f)
{
	CLEANUP_FREE char *wal = NULL;
	CLEANUP_CLOSE int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_sys(f, errno, "open the database", db->path);
	*size = st.st_size;
	if (asprintf(&wal, "%s-wal", db->path) < 0) {
		wal = NULL;
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
	}
	*had_wal = stat(wal, &st) == 0 && st.st_size > 0;
	return 0;
}

static int check(struct db *db, struct fault *f)
{
	sqlite3_stmt *s;
	int r = 0;

	if (sqlite3_prepare_v2(db->sql, "PRAGMA quick_check(1)", -1, &s, NULL) != SQLITE_OK)
		return db_fault(db, "check", f);
	if (sqlite3_step(s) != SQLITE_ROW) {
		r = db_fault(db, "check", f);
	} else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok")) {
		fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"the database %s is damaged (%s); restore a copy, or move it away to begin "
			"with an empty one",
			db->path, (const char *)sqlite3_column_text(s, 0));
		fault_at(f, "check", db->path);
		if (f)
			f->err = EUCLEAN;
		r = -EUCLEAN;
	}
	sqlite3_finalize(s);
	return r;
}

static bool same_boot(struct db *db, const char *boot)
{
	sqlite3_stmt *s;
	bool same;

	/* without the table it is a new file */
	if (sqlite3_prepare_v2(db->sql, "SELECT value = ?1 FROM meta WHERE key = 'boot'", -1, &s,
			       NULL) != SQLITE_OK)
		return false;
	sqlite3_bind_text(s, 1, boot, -1, SQLITE_STATIC);
	same = sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	return same;
}

static int note_boot(struct db *db, const char *boot, struct fault *f)
{
	sqlite3_stmt *s;
	int r;

	if (sqlite3_prepare_v2(db->sql,
			       "INSERT INTO meta (key, value) VALUES ('boot', ?1) "
			       "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
			       -1, &s, NULL) != SQLITE_OK)
		return db_fault(db, "write", f);
	sqlite3_bind_text(s, 1, boot, -1, SQLITE_STATIC);
	r = db_run(db, s, "write", f);
	sqlite3_finalize(s);
	return r;
}

/* Looks at everything before it writes anything. */
static int set_up(struct db *db, struct fault *f)
{
	CLEANUP_FREE char *boot = NULL;
	bool had_wal = false, same;
	off_t size = 0;
	int r;

	db_need_room(db);
	r = make_file(db, &had_wal, &size, f);
	if (r < 0)
		return r;
	sqlite3_soft_heap_limit64(SOFT_HEAP);
	if (sqlite3_open_v2(db->path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
			    NULL) != SQLITE_OK)
		return db->sql ? db_fault(db, "open", f)
			       : fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
	sqlite3_db_config(db->sql, SQLITE_DBCONFIG_LOOKASIDE, NULL, 256, 40);
	/* not before all is well: a file that is refused stays as it is */
	sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	sqlite3_busy_timeout(db->sql, BUSY_MS);
	r = db_exec(db,
		    "PRAGMA cache_size = -256;"
		    "PRAGMA mmap_size = 0;"
		    "PRAGMA temp_store = MEMORY;"
		    "PRAGMA trusted_schema = OFF;",
		    "open", f);
	if (!r)
		r = db_identify(db, f);
	if (r < 0)
		return r;
	if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &boot, NULL) == 0)
		boot[strcspn(boot, "\n")] = '\0';
	same = boot && same_boot(db, boot);
	if (had_wal && !same && size <= CHECK_MAX) {
		r = check(db, f);
		if (r < 0)
			return r;
	}
	r = db_exec(db,
		    "PRAGMA journal_mode = WAL;"
		    "PRAGMA synchronous = NORMAL;"
		    "PRAGMA journal_size_limit = 1048576;",
		    "open", f);
	if (r < 0)
		return r;
	db_watch_wal(db);
	r = db_migrate(db, f);
	if (!r && boot && !same)
		r = note_boot(db, boot, f);
	if (!r)
		sqlite3_db_config(db->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	if (!r)
		db_reserve(db);
	return r;
}

int db_open(struct db **out, const char *root, struct fault *f)
{
	char *path;

	*out = NULL;
	if (asprintf(&path, "%s/meta.db", root) < 0)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
	return db_open_path(out, path, f);
}

int db_open_path(struct db **out, char *path, struct fault *f)
{
	struct db *db = calloc(1, sizeof(*db));
	pthread_mutexattr_t recursive;
	int r;

	*out = NULL;
	if (!db) {
		free(path);
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "database");
	}
	db->path = path;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&db->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	r = set_up(db, f);
	if (r < 0) {
		db_close(db);
		return r;
	}
	*out = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	for (size_t i = 0; i < db->n_statements; i++)
		sqlite3_finalize(db->statements[i].s);
	sqlite3_close(db->sql);
	pthread_mutex_destroy(&db->lock);
	free(db->path);
	free(db);
}

/* ---- turns and transactions */

void db_lock(struct db *db)
{
	pthread_mutex_lock(&db->lock);
}

void db_unlock(struct db *db)
{
	pthread_mutex_unlock(&db->lock);
}

/* Outside a transaction only, where SQLite takes it. */
static int set_sync(struct db *db, bool full, struct fault *f)
{
	int r = 0;

	if (db->full != full)
		r = db_exec(db, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
			    "write", f);
	if (!r)
		db->full = full;
	return r;
}

int db_begin(struct db *db, enum db_durability durability, struct fault *f)
{
	int r = 0;

	db_lock(db);
	if (!db->depth) {
		db_need_room(db);
		r = set_sync(db, durability == DB_FULL, f);
		if (!r)
			r = db_exec(db, "BEGIN IMMEDIATE", "write", f);
		db->durable = durability == DB_FULL;
		db->broken = false;
	} else if (durability == DB_FULL && !db->durable) {
		r = fault_set(f, FAULT_INTERNAL, 0,
			      "a durable change inside a transaction that is not");
	}
	if (r < 0) {
		db_unlock(db);
		return r;
	}
	db->depth++;
	return 0;
}

static void roll_back(struct db *db)
{
	sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
	set_sync(db, false, NULL);
}

int db_commit(struct db *db, struct fault *f)
{
	int r = 0;

	if (!--db->depth) {
		r = db->broken ? -ECANCELED : db_exec(db, "COMMIT", "write", f);
		if (r < 0)
			roll_back(db);
		else
			r = set_sync(db, false, f);
	}
	db_unlock(db);
	return r;
}

void db_rollback(struct db *db)
{
	db->broken = true;
	if (!--db->depth)
		roll_back(db);
	db_unlock(db);
}

int db_end(struct db *db, int r, struct fault *f)
{
	if (!r)
		return db_commit(db, f);
	db_rollback(db);
	return r;
}
