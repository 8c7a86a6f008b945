// SPDX-License-Identifier: Apache-2.0
/*
 * Copies of snapshots aside
 *
 * A checkpoint takes the writable layer of a container whose processes are stopped; it is packed when
 * they run again, from a copy. The copy stands beside the snapshots under a name that no row has, as
 * a snapshot does while it is being made, so a killed daemon leaves nothing that the next start does
 * not remove.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/snapshot.h"
#include "store/snapshot_internal.h"
#include "util/cleanup.h"

static int sub_folder(struct store_call *c, int at, const char *name, int *fd)
{
	if (mkdirat(at, name, 0700) < 0)
		return fault_sys(c->f, errno, "make a folder for", "a copy");
	*fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *fd < 0 ? fault_sys(c->f, errno, "open a folder for", "a copy") : 0;
}

int snapshot_aside(struct store_call *c, const char *snapshotter, const char *key, int *fd,
		   char **name)
{
	CLEANUP_CLOSE int from = -1, at = -1, links = -1, to = -1;
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);
	int folder, r;

	*name = NULL;
	*fd = -1;
	if (!d)
		return -ENOENT;
	r = snapshot_folder(c, snapshotter, key, &from);
	if (r < 0)
		return r;
	folder = c->store->snapshots->folders[d->index];
	do {
		free(*name);
		if (asprintf(name, SNAPSHOT_NEW "%llx",
			     (unsigned long long)atomic_fetch_add(&c->store->snapshots->serial,
								  1)) < 0) {
			*name = NULL;
			return fault_sys(c->f, ENOMEM, "copy the snapshot", key);
		}
	} while (mkdirat(folder, *name, 0700) < 0 && errno == EEXIST);
	at = openat(folder, *name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		r = fault_sys(c->f, errno, "copy the snapshot", key);
	if (!r)
		r = sub_folder(c, at, "fs", &to);
	if (!r)
		r = sub_folder(c, at, "links", &links);
	if (!r)
		r = snapshot_tree_copy(c, from, to, links);
	if (r < 0) {
		snapshot_aside_drop(c, snapshotter, *name);
		free(*name);
		*name = NULL;
		return r;
	}
	*fd = TAKE_FD(to);
	return 0;
}

void snapshot_aside_drop(struct store_call *c, const char *snapshotter, const char *name)
{
	const struct snapshot_driver *d = snapshot_driver(snapshotter, c->f);

	/* what cannot be moved now goes at the next start */
	if (d && name)
		(void)store_trash(c->store, c->store->snapshots->folders[d->index], name);
}
