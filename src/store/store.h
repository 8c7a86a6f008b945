// SPDX-License-Identifier: Apache-2.0
/*
 * The store: content, images, snapshots, leases, and the garbage among them
 *
 * Everything here blocks and belongs on worker threads; any number of them may call at once. What
 * they share is the metadata database (its lock is the only one that is held over a disk write)
 * and the tables of open ingests and of snapshots, each with a mutex of its own that is taken after
 * the database's lock, never before.
 *
 *   ROOT/content/{oci-layout,index.json}    an OCI image layout that skopeo and umoci read as it is
 *   ROOT/content/blobs/sha256/HEX           blobs, shared by all namespaces
 *   ROOT/content/ingest/HASH/…              what is being written
 *   ROOT/snapshots/overlayfs/ID/{fs,work}   ROOT/snapshots/native/ID/fs
 *   ROOT/trash/…                            on its way out: renamed here under the database's lock,
 *                                           removed at leisure
 *
 * Files and rows: a file is in its place before the row that names it is committed, and the row is
 * gone before the file goes. So a killed daemon leaves files without rows, never rows without
 * files; store_open takes the former away.
 *
 * Functions take a `struct store_call`: who asks, and where events, progress and the fault go.
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/db.h"
#include "util/cancel.h"
#include "util/fault.h"

struct store; /* private to src/store: store_internal.h */

/*
 * root_fd and db stay the caller's. Makes what is missing, removes files without rows. root is the absolute path, for mounts.
 */
int store_open(struct store **out, int root_fd, const char *root, struct db *db, struct fault *f);
void store_close(struct store *s);
/* What store_open has come upon that the log is to tell; "" for nothing. */
const char *store_notice(const struct store *s);
/*
 * Removes all that is in the trash, blocking as long as that takes. cancel may be NULL. Several at
 * once do no harm. -errno of the first that could not be removed.
 */
int store_empty_trash(struct store *s, const struct cancel *cancel);
/* Whether anything came into it since this was last asked; true at first. From any thread. */
bool store_has_trash(struct store *s);

/*
 * What has happened: added once it is committed, sent by the reactor when the call has returned, also
 * when it has failed later on.
 */
struct store_event {
	struct store_event *next;
	const char *topic; /* a literal */
	char *ns;
	msgpack_sbuffer payload; /* one map */
};
struct store_events {
	struct store_event *first, **last;
};
void store_events_init(struct store_events *e);
void store_events_clear(struct store_events *e);
/*
 * A new event at the end, with an empty payload into which the caller packs one map. NULL without
 * memory, or when e is NULL.
 */
struct store_event *store_event_add(struct store_events *e, const char *ns, const char *topic);

/* How far long work is, read by another thread at any time. total 0: not known. */
struct store_progress {
	_Atomic(const char *) phase; /* a literal: "read", "unpack", … */
	atomic_uint_least64_t done, total; /* bytes, of the phase */
};
/* p may be NULL */
void store_progress_phase(struct store_progress *p, const char *phase, uint64_t total);
void store_progress_add(struct store_progress *p, uint64_t bytes);

struct store_call {
	struct store *store;
	const char *ns; /* exists */
	const char *lease; /* what is made or used joins it; NULL or "" for none */
	struct store_events *events; /* may be NULL */
	const struct cancel *cancel; /* may be NULL; long work then ends with FAULT_CANCELLED */
	struct store_progress *progress; /* may be NULL */
	struct fault *f; /* filled before anything negative is returned; not NULL */
	/*
	 * A durable change of the caller's follows, and with it all before it becomes durable: records
	 * of content and its labels need no sync of their own. The files are synced all the same.
	 */
	bool durable_later;
};

/* -ECANCELED and the fault when nobody wants the result any more, else 0. */
int store_cancelled(const struct store_call *c);

/*
 * Whether any image, content, snapshot, lease or ingest is in the namespace: 1 (the fault says what), 0 or
 * negative.
 */
int store_namespace_used(struct store_call *c);
