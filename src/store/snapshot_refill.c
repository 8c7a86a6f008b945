// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots whose files somebody has removed, beside their rows
 *
 * Rows and files are never apart by davit's own doing (store.h), so nobody looks for it but who can
 * put it right: unpacking, which knows what the files were. They are made again in an active snapshot,
 * whose folder then becomes the lost one's. Its row stays as it is, and with it all that stands on it:
 * children, containers, leases.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/snapshot_internal.h"
#include "util/cleanup.h"

static bool has_files(struct store_call *c, const struct snapshot_driver *d, int64_t id)
{
	char path[40];
	struct stat st;

	snprintf(path, sizeof(path), "%lld/fs", (long long)id);
	/* what cannot be looked at for another reason is told by who opens it */
	return fstatat(c->store->snapshots->folders[d->index], path, &st, AT_SYMLINK_NOFOLLOW) < 0
		       ? errno != ENOENT && errno != ENOTDIR
		       : S_ISDIR(st.st_mode);
}

int snapshot_is_whole(struct store_call *c, const char *snapshotter, const char *name, bool parents)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP_FREE int64_t *ids = NULL;
	size_t n = 0;
	int r;

	if (!d)
		return -ENOENT;
	r = snapshot_row_chain(c, d, name, &ids, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && (parents || !i); i++)
		if (!has_files(c, d, ids[i]))
			return 0;
	return 1;
}

static int move(struct store_call *c, const struct snapshot_driver *d, int64_t from, int64_t to)
{
	int folder = c->store->snapshots->folders[d->index], r;
	char old[24], new[24];

	snprintf(old, sizeof(old), "%lld", (long long)from);
	snprintf(new, sizeof(new), "%lld", (long long)to);
	/* what is left of it */
	r = store_trash(c->store, folder, new);
	if (!r && (renameat2(folder, old, folder, new, RENAME_NOREPLACE) < 0 || fsync(folder) < 0))
		r = -errno;
	return r < 0 ? fault_sys(c->f, -r, "name a snapshot's folder", new) : 0;
}

int snapshot_refill(struct store_call *c, const char *snapshotter, const char *name,
		    const char *key)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	CLEANUP(snapshot_row_clear) struct snapshot_row from = { 0 }, to = { 0 };
	struct db *db = c->store->db;
	CLEANUP_CLOSE int fs = -1;
	int r;

	if (!d)
		return -ENOENT;
	r = snapshot_row_get(c, d, key, &from);
	if (!r)
		r = snapshot_open_fs(c->store, d, from.id, O_RDONLY, &fs, c->f);
	if (!r && syncfs(fs) < 0)
		r = fault_sys(c->f, errno, "sync the files of", d->name);
	if (r < 0)
		return r;
	{
		DB_LOCKED(db);

		r = snapshot_row_get(c, d, name, &to);
		/* another may have done the same meanwhile */
		if (!r && !has_files(c, d, to.id))
			r = move(c, d, from.id, to.id);
	}
	return r;
}
