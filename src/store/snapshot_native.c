// SPDX-License-Identifier: Apache-2.0
/*
 * The snapshotter "native": a full copy of the parent
 *
 * Works on every file system. Costs the parent's size and time at each prepare, unless the file
 * system shares data between files. A view is its parent's own folder, mounted read-only.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/lease.h"
#include "store/snapshot_internal.h"
#include "util/cleanup.h"

static int native_make(struct store_call *c, int at, int parent, enum snapshot_kind kind)
{
	CLEANUP_CLOSE int fs = -1, links = -1;
	int r;

	if (mkdirat(at, "fs", 0700) < 0)
		return fault_sys(c->f, errno, "make the folder", "fs");
	fs = openat(at, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fs < 0)
		return fault_sys(c->f, errno, "open the folder", "fs");
	if (parent < 0 || kind == SNAPSHOT_VIEW)
		return fchmod(fs, 0755) < 0 ? fault_sys(c->f, errno, "set mode of", "fs") : 0;
	if (mkdirat(at, "links", 0700) < 0)
		return fault_sys(c->f, errno, "make the folder", "links");
	links = openat(at, "links", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (links < 0)
		return fault_sys(c->f, errno, "open the folder", "links");
	r = snapshot_tree_copy(c, parent, fs, links);
	if (!r && unlinkat(at, "links", AT_REMOVEDIR) < 0)
		r = fault_sys(c->f, errno, "remove the folder", "links");
	return r;
}

static int native_mounts(struct store *s, enum snapshot_kind kind, int64_t id,
			 const int64_t *parents, size_t n, struct store_mounts *out)
{
	bool view = kind == SNAPSHOT_VIEW;

	return snapshot_bind(s, &snapshot_native, view && n ? parents[0] : id, view, out);
}

const struct snapshot_driver snapshot_native = {
	.name = SNAPSHOTTER_NATIVE,
	.lease_type = LEASE_SNAPSHOTS SNAPSHOTTER_NATIVE,
	.index = SNAPSHOT_NATIVE,
	.make = native_make,
	.mounts = native_mounts,
	.view_is_parent = true,
};
