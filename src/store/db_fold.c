// SPDX-License-Identifier: Apache-2.0
/*
 * Folding the WAL into the database file
 *
 * SQLite calls that a checkpoint (the word means something else in this project), and does it by
 * default within the commit that finds the WAL long enough: two syncs, some 10 ms on a good disk,
 * while an RPC waits for its answer. Here a second connection does it on another thread: a passive
 * checkpoint takes no lock that a writer needs. The connection lives for one fold, so that nothing
 * of it is held while the daemon is idle.
 *
 * The log begins anew only when a commit finds it folded to its end. A writer that never pauses is
 * always ahead; so when the log has become long (WAL_PAGES_LONG) the fold leaves the end to the
 * writer: its next commit folds the little that came in meanwhile. A commit that meets a WAL of
 * WAL_PAGES_MAX folds it in any case, so that a daemon whose workers are busy for long does not
 * fill the disk.
 */
#include <errno.h>
#include <stdbool.h>

#include "store/db_internal.h"

#define WAL_PAGES_LONG 1024
#define WAL_PAGES_MAX 8192
#define BUSY_MS 1000

static int on_commit(void *user, sqlite3 *sql, const char *name, int pages)
{
	struct db *db = user;

	atomic_store(&db->wal_pages, (unsigned)pages);
	if (pages < WAL_PAGES_MAX && !atomic_load(&db->wal_finish))
		return SQLITE_OK;
	/* that it could not be done now is no failure of the commit; the next one tries again */
	if (sqlite3_wal_checkpoint_v2(sql, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) ==
	    SQLITE_OK)
		atomic_store(&db->wal_finish, false);
	return SQLITE_OK;
}

void db_watch_wal(struct db *db)
{
	sqlite3_wal_hook(db->sql, on_commit, db);
}

unsigned db_wal_pages(const struct db *db)
{
	return atomic_load(&db->wal_pages);
}

int db_fold(struct db *db, struct fault *f)
{
	sqlite3 *sql = NULL;
	int pages = 0, folded = 0, r;

	if (atomic_load(&db->wal_finish))
		return 0;
	r = sqlite3_open_v2(db->path, &sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (r == SQLITE_OK) {
		/* the file stays in WAL mode, and is not folded once more when this is closed */
		sqlite3_db_config(sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		sqlite3_busy_timeout(sql, BUSY_MS);
		r = sqlite3_exec(sql, "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -64", NULL,
				 NULL, NULL);
	}
	if (r == SQLITE_OK)
		r = sqlite3_wal_checkpoint_v2(sql, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages,
					      &folded);
	if (r == SQLITE_OK && folded < pages && pages >= WAL_PAGES_LONG)
		atomic_store(&db->wal_finish, true);
	/* the owner is just at it, as far as it goes: the next one will do */
	if (r == SQLITE_BUSY)
		r = SQLITE_OK;
	if (r != SQLITE_OK)
		fault_set(f, FAULT_INTERNAL, EIO, "fold the log of the database %s: %s", db->path,
			  sqlite3_errstr(r));
	sqlite3_close(sql);
	db_reserve(db);
	return r == SQLITE_OK ? 0 : -EIO;
}
