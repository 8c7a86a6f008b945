// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots: layered root file systems
 *
 * Committed ones are parents of others and never change; active ones are writable, views are not.
 * Names and keys share one space, a namespace's and snapshotter's own. Two snapshotters: overlayfs
 * (a folder for each, put together by mount) and native (a full copy, by reflink where the file
 * system can), which works everywhere.
 */
#pragma once

#include "store/mounts.h"
#include "store/store.h"

#define SNAPSHOTTER_OVERLAYFS "overlayfs"
#define SNAPSHOTTER_NATIVE "native"

struct snapshot_info {
	const char *name, *parent, *kind; /* parent "" for none; view, active or committed */
	const struct db_label *labels;
	size_t n_labels;
	int64_t created_at, updated_at;
};
struct snapshot_usage {
	uint64_t size, inodes; /* of this one alone, without its parents: bytes on the disk */
};

/*
 * The snapshotter's name: "" or NULL is overlayfs, or native where ROOT cannot be used by overlayfs
 * (found out once at the start). FAULT_NOT_FOUND for others. The result is a literal.
 */
int snapshotter_name(struct store *s, const char *wanted, const char **out, struct fault *f);
/* Why overlayfs cannot be used under ROOT, in words; NULL: it can. */
const char *snapshotter_no_overlay(const struct store *s);
/* How layers are applied to it. */
bool snapshotter_is_overlay(const char *snapshotter);

/*
 * parent NULL or "" for none; it must be committed. mounts (may be NULL) is filled. Prepare joins
 * the lease as "snapshots/SNAPSHOTTER". Events /snapshot/prepare, commit, remove with key, and
 * parent, name, snapshotter. FAULT_ALREADY_EXISTS, FAULT_NOT_FOUND; parent of the wrong kind is
 * FAULT_FAILED_PRECONDITION.
 */
int snapshot_prepare(struct store_call *c, const char *snapshotter, const char *key,
		     const char *parent, const struct db_label *labels, size_t n_labels,
		     struct store_mounts *mounts);
int snapshot_view(struct store_call *c, const char *snapshotter, const char *key,
		  const char *parent, const struct db_label *labels, size_t n_labels,
		  struct store_mounts *mounts);
int snapshot_mounts(struct store_call *c, const char *snapshotter, const char *key,
		    struct store_mounts *mounts);
/*
 * The active `key` becomes the committed `name`: durable (its files are synced, syncfs; then the
 * row). One lease more than before when the lease is given. Its labels are replaced.
 */
int snapshot_commit(struct store_call *c, const char *snapshotter, const char *name,
		    const char *key, const struct db_label *labels, size_t n_labels);
/*
 * Gives an active one without a parent the committed `parent`: of overlayfs only, whose own folder
 * does not depend on what is below. For layers that are unpacked side by side.
 */
int snapshot_rebase(struct store_call *c, const char *snapshotter, const char *key,
		    const char *parent);
/* Whether its files, or with `parents` all that it stands on too, are where they were put: 1, 0 or negative. */
int snapshot_is_whole(struct store_call *c, const char *snapshotter, const char *name,
		      bool parents);
/*
 * The files of the active `key`, which are the same, become those that the committed `name` has lost;
 * synced. The active one has none then, and is to be removed. When `name` has its files nothing is done.
 */
int snapshot_refill(struct store_call *c, const char *snapshotter, const char *name,
		    const char *key);
/* FAULT_FAILED_PRECONDITION for one with children, which are named. */
int snapshot_remove(struct store_call *c, const char *snapshotter, const char *key);
typedef int (*snapshot_fn)(void *user, const struct snapshot_info *info);
int snapshot_stat(struct store_call *c, const char *snapshotter, const char *key, snapshot_fn fn,
		  void *user);
int snapshot_list(struct store_call *c, const char *snapshotter, const char *after, snapshot_fn fn,
		  void *user);
int snapshot_set_labels(struct store_call *c, const char *snapshotter, const char *key,
			const struct db_label *labels, size_t n, snapshot_fn fn, void *user);
int snapshot_usage(struct store_call *c, const char *snapshotter, const char *key,
		   struct snapshot_usage *out);
/* Folders without a row go, and what was removed leaves the disk now. */
int snapshot_cleanup(struct store_call *c, const char *snapshotter);

/*
 * For whoever fills one: its own folder (the upper one of an overlay, the whole tree of a native
 * one), and those of its parents, nearest first (to be freed, each closed, by the caller; only for
 * overlayfs, else n is 0).
 */
int snapshot_folder(struct store_call *c, const char *snapshotter, const char *key, int *fd);
int snapshot_parents(struct store_call *c, const char *snapshotter, const char *key, int **fds,
		     size_t *n);

/*
 * A copy of a snapshot's own folder as it is now, aside: for who may not keep its writers waiting.
 * Data is shared where the file system can. *fd is the copy, *name what snapshot_aside_drop takes (to
 * be freed). A copy that nobody drops goes at the next start.
 */
int snapshot_aside(struct store_call *c, const char *snapshotter, const char *key, int *fd,
		   char **name);
void snapshot_aside_drop(struct store_call *c, const char *snapshotter, const char *name);
