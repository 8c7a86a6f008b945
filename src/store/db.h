// SPDX-License-Identifier: Apache-2.0
/*
 * The metadata database: SQLite in WAL mode under --root
 *
 * What must survive a reboot. Blocking, and so never used by the reactor, which has copies of what
 * it answers from memory. Threads take turns: every function takes the lock itself, and a longer
 * piece of work holds it from db_begin to db_commit. Container records are committed without sync
 * (synchronous=NORMAL); what must be durable (images, content, leases, snapshots) in a transaction
 * that is. Schema changes are numbered migrations (PRAGMA user_version). A damaged database is an
 * error that says so and leaves the file in place.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

struct db;

/*
 * Opens or makes ROOT/meta.db (mode 0600) and migrates it. -EUCLEAN: damaged, -EPROTO: of a newer
 * version, -EEXIST: of another program, -EBUSY: locked; in all these cases the file is left as it
 * is.
 */
int db_open(struct db **out, const char *root, struct fault *f);
void db_close(struct db *db);

/*
 * Sees to it that there is a reserve of disk space for the database, which it takes when the disk is
 * full. Called when there may be room: at the open, when something large was removed. Any thread.
 */
void db_reserve(struct db *db);

/* Recursive. A commit under it may take milliseconds: not for the reactor. */
void db_lock(struct db *db);
void db_unlock(struct db *db);
/*
 * A transaction, and the lock with it. Durable: the commit is on the disk when db_commit returns.
 * One inside another is part of it (a durable one only of a durable one); its db_rollback makes the
 * outer db_commit fail with -ECANCELED. Each begin that succeeds is followed by exactly one of the
 * others; after a failed db_commit nothing was written.
 */
enum db_durability {
	DB_NORMAL, /* a killed daemon loses nothing; a power cut may lose the last moment */
	DB_FULL,
};
int db_begin(struct db *db, enum db_durability durability, struct fault *f);
int db_commit(struct db *db, struct fault *f);
void db_rollback(struct db *db);
/* db_commit when r is 0, else db_rollback; returns the first failure. */
int db_end(struct db *db, int r, struct fault *f);

/*
 * One watcher hears of every row that is written and may hold a reference to something else: garbage
 * collection must not take away what became reachable while it looked. Called under the lock, before
 * the commit. NULL ends it. Snapshots have "SNAPSHOTTER/NAME" as id.
 */
enum db_kind {
	DB_KIND_CONTENT,
	DB_KIND_IMAGE,
	DB_KIND_SNAPSHOT,
	DB_KIND_LEASE,
	DB_KIND_INGEST,
	DB_KIND_CONTAINER,
};
void db_watch(struct db *db,
	      void (*touched)(void *user, enum db_kind kind, const char *ns, const char *id),
	      void *user);

/*
 * The WAL is not copied into the file by who commits, since that syncs and an answer waits for the
 * commit. Its owner asks now and then how many pages it has, from any thread, and has db_fold
 * called on another thread, once at a time: it uses a connection of its own, and commits go on
 * beside it. Should nobody do that, a commit does it when the WAL has grown far.
 */
#define DB_FOLD_PAGES 256u /* is worth a db_fold */
unsigned db_wal_pages(const struct db *db);
int db_fold(struct db *db, struct fault *f);

struct db_label {
	const char *key, *value;
};

struct db_namespace {
	const char *name;
	const struct db_label *labels;
	size_t n_labels;
};
int db_namespace_put(struct db *db, const struct db_namespace *ns, struct fault *f);
/*
 * Of the deletes: what is not there is no error. Of the walks: a non-zero answer of fn ends them
 * and is returned; a fault is fn's to fill.
 */
int db_namespace_delete(struct db *db, const char *name, struct fault *f);
int db_namespace_each(struct db *db, int (*fn)(void *user, const struct db_namespace *ns),
		      void *user, struct fault *f);

struct db_container {
	const char *ns, *id;
	const char *image, *runtime, *snapshotter, *snapshot_key, *bundle; /* "" when not set */
	const struct db_label *labels;
	size_t n_labels;
	const void *spec; /* zstd frame of the spec's JSON text */
	size_t spec_size;
	const void *extensions; /* msgpack map, size 0 for none */
	size_t extensions_size;
	int64_t created_at, updated_at;
};
/* Insert or replace. */
int db_container_put(struct db *db, const struct db_container *c, struct fault *f);
int db_container_delete(struct db *db, const char *ns, const char *id, struct fault *f);
int db_container_each(struct db *db, int (*fn)(void *user, const struct db_container *c),
		      void *user, struct fault *f);
