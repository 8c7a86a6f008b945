// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots: what is asked about them, and folders that belong to none
 *
 * A folder without a row is left by a daemon that was killed between the two. It is told from one
 * that is just being made by its name, and from one that is just being named by the database's
 * lock, which is held from the rename to the row's commit.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/snapshot_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

int snapshot_open_fs(struct store *s, const struct snapshot_driver *d, int64_t id, int flags,
		     int *fd, struct fault *f)
{
	char path[40], shown[64];
	int r;

	snprintf(path, sizeof(path), "%lld/fs", (long long)id);
	*fd = openat(s->snapshots->folders[d->index], path,
		     flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	r = -errno;
	snprintf(shown, sizeof(shown), "snapshots/%s/%s", d->name, path);
	if (r != -ENOENT && r != -ENOTDIR)
		return fault_sys(f, -r, "open the folder", shown);
	fault_set(f, FAULT_FAILED_PRECONDITION, 0,
		  "the files of a snapshot, %s, are not there any more: somebody has removed them; "
		  "unpack its image again (images.unpack), or remove the snapshot",
		  shown);
	fault_at(f, "open", shown);
	return -EUCLEAN;
}

/* ---- mounts and folders */

int snapshot_mounts(struct store_call *c, const char *snapshotter, const char *key,
		    struct store_mounts *mounts)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	CLEANUP_FREE int64_t *parents = NULL;
	size_t n = 0;
	int r;

	if (!d)
		return -ENOENT;
	{
		struct db *db = c->store->db;
		DB_LOCKED(db);

		r = snapshot_row_get(c, d, key, &row);
		if (!r && row.kind == SNAPSHOT_COMMITTED) {
			fault_set(
				c->f, FAULT_FAILED_PRECONDITION, 0,
				"snapshot '%s' is committed: only an active one or a view has mounts",
				key);
			r = -EINVAL;
		}
		if (!r)
			r = snapshot_row_chain(c, d, row.parent, &parents, &n);
	}
	if (r < 0)
		return r;
	if (d->mounts(c->store, row.kind, row.id, parents, n, mounts) < 0) {
		store_mounts_clear(mounts);
		return fault_sys(c->f, ENOMEM, "list the mounts of", key);
	}
	return 0;
}

int snapshot_folder(struct store_call *c, const char *snapshotter, const char *key, int *fd)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 }, parent = { 0 };
	int64_t id = 0;
	int r;

	*fd = -1;
	if (!d)
		return -ENOENT;
	{
		struct db *db = c->store->db;
		DB_LOCKED(db);

		r = snapshot_row_get(c, d, key, &row);
		id = row.id;
		if (!r && row.kind == SNAPSHOT_VIEW && d->view_is_parent && *row.parent) {
			r = snapshot_row_get(c, d, row.parent, &parent);
			id = parent.id;
		}
	}
	return r < 0 ? r : snapshot_open_fs(c->store, d, id, O_RDONLY, fd, c->f);
}

int snapshot_parents(struct store_call *c, const char *snapshotter, const char *key, int **fds,
		     size_t *n)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	CLEANUP_FREE int64_t *ids = NULL;
	size_t count = 0;
	int r;

	*fds = NULL;
	*n = 0;
	if (!d)
		return -ENOENT;
	{
		struct db *db = c->store->db;
		DB_LOCKED(db);

		r = snapshot_row_get(c, d, key, &row);
		if (!r && d == &snapshot_overlay)
			r = snapshot_row_chain(c, d, row.parent, &ids, &count);
	}
	if (r < 0 || !count)
		return r;
	*fds = malloc(count * sizeof(**fds));
	if (!*fds)
		return fault_sys(c->f, ENOMEM, "open the parents of", key);
	while (!r && *n < count) {
		r = snapshot_open_fs(c->store, d, ids[*n], O_RDONLY, &(*fds)[*n], c->f);
		*n += !r;
	}
	if (r < 0) {
		while (*n)
			close((*fds)[--*n]);
		free(TAKE_PTR(*fds));
	}
	return r;
}

/* ---- stat, list, labels, usage */

static int no_fn(void *user, const struct snapshot_info *info)
{
	(void)user;
	(void)info;
	return 0;
}

int snapshot_stat(struct store_call *c, const char *snapshotter, const char *key, snapshot_fn fn,
		  void *user)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	struct snapshot_row row;
	size_t n = 0;
	int r;

	if (!d)
		return -ENOENT;
	r = snapshot_row_each(c, d, key, "", fn, user, &n);
	if (r || n)
		return r;
	/* says so */
	r = snapshot_row_get(c, d, key, &row);
	snapshot_row_clear(&row);
	return r;
}

int snapshot_list(struct store_call *c, const char *snapshotter, const char *after, snapshot_fn fn,
		  void *user)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);

	return d ? snapshot_row_each(c, d, NULL, after, fn, user, NULL) : -ENOENT;
}

static int set_labels(struct store_call *c, const struct snapshot_driver *d, const char *key,
		      const struct db_label *labels, size_t n, snapshot_fn fn, void *user)
{
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	int r = snapshot_row_get(c, d, key, &row);

	if (!r)
		r = snapshot_row_labels(c, d, row.id, key, labels, n);
	return r < 0 ? r : snapshot_row_each(c, d, key, "", fn ? fn : no_fn, user, NULL);
}

int snapshot_set_labels(struct store_call *c, const char *snapshotter, const char *key,
			const struct db_label *labels, size_t n, snapshot_fn fn, void *user)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	int r;

	if (!d)
		return -ENOENT;
	r = db_begin(c->store->db, DB_FULL, c->f);
	return r < 0 ? r : db_end(c->store->db, set_labels(c, d, key, labels, n, fn, user), c->f);
}

int snapshot_usage(struct store_call *c, const char *snapshotter, const char *key,
		   struct snapshot_usage *out)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP(snapshot_row_clear) struct snapshot_row row = { 0 };
	CLEANUP_CLOSE int fs = -1;
	int r;

	if (!d)
		return -ENOENT;
	r = snapshot_row_get(c, d, key, &row);
	*out = row.usage;
	if (r < 0 || row.kind != SNAPSHOT_ACTIVE)
		return r;
	r = snapshot_open_fs(c->store, d, row.id, O_RDONLY, &fs, c->f);
	return r < 0 ? r : snapshot_tree_usage(c, fs, out);
}

/* ---- folders without a row */

static int sweep_one(struct store *s, const struct snapshot_driver *d, const char *name,
		     bool at_start, struct fault *f)
{
	struct db *db = s->db;
	DB_LOCKED(db);
	int r;

	if (!at_start && !strncmp(name, SNAPSHOT_NEW, strlen(SNAPSHOT_NEW)))
		return 0;
	r = snapshot_row_of_folder(s, d, name, f);
	if (r)
		return r < 0 ? r : 0;
	r = store_trash(s, s->snapshots->folders[d->index], name);
	return r < 0 ? fault_sys(f, -r, "move into the trash", name) : 0;
}

int snapshot_sweep_folder(struct store *s, const struct snapshot_driver *d, bool at_start,
			  struct fault *f)
{
	int fd = openat(s->snapshots->folders[d->index], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!dir) {
		r = fault_sys(f, errno, "read the folder", d->name);
		fd_close(&fd);
		return r;
	}
	while (!r && (errno = 0, e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			r = sweep_one(s, d, e->d_name, at_start, f);
	if (!r && errno)
		r = fault_sys(f, errno, "read the folder", d->name);
	closedir(dir);
	return r;
}

int snapshot_cleanup(struct store_call *c, const char *snapshotter)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	int r;

	if (!d)
		return -ENOENT;
	r = snapshot_sweep_folder(c->store, d, false, c->f);
	if (r < 0)
		return r;
	r = store_empty_trash(c->store, c->cancel);
	if (r == -ECANCELED)
		return store_cancelled(c);
	return r < 0 ? fault_sys(c->f, -r, "empty the folder", "trash") : 0;
}
