// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots, inside: rows, drivers, trees
 */
#pragma once

#include "store/snapshot.h"
#include "store/store_internal.h"

enum snapshot_kind { SNAPSHOT_VIEW, SNAPSHOT_ACTIVE, SNAPSHOT_COMMITTED };

enum { SNAPSHOT_OVERLAY, SNAPSHOT_NATIVE, SNAPSHOT_DRIVERS };

/* Folders of snapshots that are being made: NEW and a number. They have no row yet. */
#define SNAPSHOT_NEW "new."

struct snapshots { /* of struct store */
	int folders[SNAPSHOT_DRIVERS]; /* ROOT/snapshots/NAME */
	char no_overlay[256]; /* why overlayfs cannot be used here; "" when it can */
	atomic_uint_least64_t serial; /* of SNAPSHOT_NEW */
};

/* What the two snapshotters do differently. The folder of a snapshot is ID, its files are ID/fs. */
struct snapshot_driver {
	const char *name, *lease_type;
	unsigned index;
	/*
	 * Fills the empty folder `at` of a new snapshot: fs and what else it needs. parent is the fs
	 * of the nearest parent, -1 for none. May take long; ends early when cancelled.
	 */
	int (*make)(struct store_call *c, int at, int parent, enum snapshot_kind kind);
	/* Mounts of a view or an active one; parents nearest first. -ENOMEM only. */
	int (*mounts)(struct store *s, enum snapshot_kind kind, int64_t id, const int64_t *parents,
		      size_t n, struct store_mounts *out);
	/* Whether a view's files are its parent's own folder. */
	bool view_is_parent;
};
extern const struct snapshot_driver snapshot_overlay, snapshot_native;

/* By its name, which snapshotter_name has answered or would; else FAULT_NOT_FOUND and NULL. */
const struct snapshot_driver *snapshot_driver(const char *name, struct fault *f);

/* ---- snapshot_overlay.c */
/* Tries a real overlay below `folder`; why is "" when it works. Negative only without memory. */
int snapshot_overlay_probe(struct store *s, int folder, char *why, size_t size);

/* ---- snapshot.c */
/* Appends the bind mount of a snapshot's fs. 0 or -ENOMEM. */
int snapshot_bind(struct store *s, const struct snapshot_driver *d, int64_t id, bool read_only,
		  struct store_mounts *out);

/* ---- snapshot_rows.c; all under the database's lock, which the caller may hold for longer */
struct snapshot_row {
	int64_t id;
	enum snapshot_kind kind;
	struct snapshot_usage usage; /* of a committed one */
	char *parent; /* owned; "" for none */
};
void snapshot_row_clear(struct snapshot_row *row);
/* -ENOENT, FAULT_NOT_FOUND. */
int snapshot_row_get(struct store_call *c, const struct snapshot_driver *d, const char *name,
		     struct snapshot_row *row);
/* FAULT_ALREADY_EXISTS, -EEXIST when there is one of this name. */
int snapshot_row_vacant(struct store_call *c, const struct snapshot_driver *d, const char *name);
/* A parent has to be committed. row->id is 0 when name is NULL or "". */
int snapshot_row_parent(struct store_call *c, const struct snapshot_driver *d, const char *name,
			struct snapshot_row *row);
/*
 * The ids of `name` and all its parents, nearest first; to be freed. None for NULL or "". More than
 * LIMIT_SNAPSHOT_DEPTH: FAULT_RESOURCE_EXHAUSTED, -E2BIG.
 */
int snapshot_row_chain(struct store_call *c, const struct snapshot_driver *d, const char *name,
		       int64_t **ids, size_t *n);
int snapshot_row_insert(struct store_call *c, const struct snapshot_driver *d, const char *name,
			const char *parent, enum snapshot_kind kind, const struct db_label *labels,
			size_t n_labels, int64_t *id);
int snapshot_row_commit(struct store_call *c, const struct snapshot_driver *d,
			const struct snapshot_row *row, const char *key, const char *name,
			const struct snapshot_usage *usage, const struct db_label *labels,
			size_t n_labels);
int snapshot_row_labels(struct store_call *c, const struct snapshot_driver *d, int64_t id,
			const char *name, const struct db_label *labels, size_t n_labels);
int snapshot_row_delete(struct store_call *c, int64_t id);
/* FAULT_FAILED_PRECONDITION, -EBUSY, which names some, when it is somebody's parent. */
int snapshot_row_childless(struct store_call *c, const struct snapshot_driver *d, const char *name);
/* That of `name`, or with NULL all behind `after`; how many came is in *n (may be NULL). */
int snapshot_row_each(struct store_call *c, const struct snapshot_driver *d, const char *name,
		      const char *after, snapshot_fn fn, void *user, size_t *n);
/* Whether a folder of this name has a row: 1, 0 or negative. */
int snapshot_row_of_folder(struct store *s, const struct snapshot_driver *d, const char *folder,
			   struct fault *f);

/* ---- snapshot_query.c */
/* Moves folders without a row into the trash; those that are being made too, at the start. */
int snapshot_sweep_folder(struct store *s, const struct snapshot_driver *d, bool at_start,
			  struct fault *f);
/* The fs of a snapshot, opened with `flags`. Negative after filling the fault. */
int snapshot_open_fs(struct store *s, const struct snapshot_driver *d, int64_t id, int flags,
		     int *fd, struct fault *f);

/* ---- snapshot_tree.c, snapshot_copy.c */
struct snapshot_walk;
/* An entry of a folder. to is the folder beside it when two trees are walked together, else -1. */
struct snapshot_entry {
	int from, to;
	const char *name; /* "" when a folder is left, or is the top: from and to are that folder */
	const struct stat *st;
};
struct snapshot_visitor {
	/* Each entry but folders; and folders before they are entered. */
	int (*entry)(struct snapshot_walk *w, const struct snapshot_entry *e);
	/* A folder, the top too, when all in it was visited. May be NULL. */
	int (*leave)(struct snapshot_walk *w, const struct snapshot_entry *e);
	bool changing; /* the tree may be in use: what vanishes meanwhile is passed over */
	const char *step; /* for faults */
};
/*
 * Walks the tree below `from`, and the one that visitor->entry makes below `to` (-1 for none) beside
 * it. Never follows a link or crosses into a mount. Depth is bounded by LIMIT_TREE_DEPTH alone: only
 * the nearest folders are open at a time.
 */
int snapshot_walk(struct store_call *c, int from, int to, const struct snapshot_visitor *visitor,
		  void *user);
void *snapshot_walk_user(struct snapshot_walk *w);
/* A fault about an entry: "STEP PATH: MEANING". Returns -err. */
int snapshot_walk_fault(struct snapshot_walk *w, int err, const char *step);

/* What is in the tree, hard links once, itself too. */
int snapshot_tree_usage(struct store_call *c, int fd, struct snapshot_usage *out);
/*
 * All of `from` into the empty folder `to`, which becomes like `from`. `links` is an empty folder
 * beside it, which is empty again afterwards unless it fails.
 */
int snapshot_tree_copy(struct store_call *c, int from, int to, int links);
/* Owner, mode, times and xattrs (but overlayfs's own) of one folder onto another. */
int snapshot_tree_inherit(int from, int to, struct fault *f);
