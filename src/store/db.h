// SPDX-License-Identifier: Apache-2.0
/*
 * The metadata database: SQLite in WAL mode under --root
 *
 * What must survive a reboot. Blocking: one thread uses it (core's store pool), and the reactor has
 * its own copies in memory. Container records are committed without sync (synchronous=NORMAL); what
 * must be durable (images, content, leases, snapshots, later) uses a FULL commit. Schema changes
 * are numbered migrations (PRAGMA user_version). A damaged database is an error that says so and
 * leaves the file in place.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

struct db;

/*
 * Opens or makes ROOT/meta.db (mode 0600) and migrates it. -EUCLEAN: damaged, -EPROTO: of a newer
 * version, -EEXIST: of another program, -EBUSY: locked; in all these cases the file is left as it
 * is. Can be used from any one thread at a time.
 */
int db_open(struct db **out, const char *root, struct fault *f);
void db_close(struct db *db);

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
