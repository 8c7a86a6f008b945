// SPDX-License-Identifier: Apache-2.0
/*
 * The snapshotter "overlayfs": a folder for each snapshot, put together by a mount
 *
 * A snapshot's fs is the upper folder while it is active, and one of the lower ones of all that
 * come after. Mounts are those that containerd's overlayfs snapshotter gives: a bind where there is
 * only one folder, else an overlay with index=off, since lower layers are shared.
 *
 * Whether this works depends on the file system below --root (another overlay, or a network file
 * system, cannot be an upper one) and on what this process may do, so it is tried at the start: a
 * real overlay, detached from every mount namespace, on which a file is removed and a folder is
 * replaced. Its folders are named by their fds: an option of fsconfig(2) takes 255 bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/lease.h"
#include "store/snapshot_internal.h"
#include "util/cleanup.h"

/* ---- snapshots */

static int overlay_make(struct store_call *c, int at, int parent, enum snapshot_kind kind)
{
	CLEANUP_CLOSE int fs = -1;

	if (mkdirat(at, "fs", 0700) < 0)
		return fault_sys(c->f, errno, "make the folder", "fs");
	fs = openat(at, "fs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fs < 0)
		return fault_sys(c->f, errno, "open the folder", "fs");
	if (fchmod(fs, 0755) < 0)
		return fault_sys(c->f, errno, "set mode of", "fs");
	if (kind == SNAPSHOT_ACTIVE &&
	    (mkdirat(at, "work", 0700) < 0 || fchmodat(at, "work", 0711, 0) < 0))
		return fault_sys(c->f, errno, "make the folder", "work");
	/* the upper folder is what a container sees as its root */
	return parent >= 0 ? snapshot_tree_inherit(parent, fs, c->f) : 0;
}

static int lower_option(struct store *s, const int64_t *parents, size_t n, struct store_mount *m)
{
	CLEANUP_FREE char *text = NULL;
	size_t one = strlen(s->root) + sizeof("/snapshots/" SNAPSHOTTER_OVERLAYFS "/fs:") + 20;
	size_t at = 0;

	text = malloc(n * one + 1);
	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, one,
				       "%s%s/snapshots/" SNAPSHOTTER_OVERLAYFS "/%lld/fs",
				       i ? ":" : "", s->root, (long long)parents[i]);
	return store_mount_option(m, "lowerdir=%s", text);
}

static int overlay_mounts(struct store *s, enum snapshot_kind kind, int64_t id,
			  const int64_t *parents, size_t n, struct store_mounts *out)
{
	bool view = kind == SNAPSHOT_VIEW;
	struct store_mount *m;
	int r;

	if (!n)
		return snapshot_bind(s, &snapshot_overlay, id, view, out);
	if (n == 1 && view)
		return snapshot_bind(s, &snapshot_overlay, parents[0], true, out);
	m = store_mounts_add(out, "overlay", "overlay", "");
	if (!m)
		return -ENOMEM;
	r = store_mount_option(m, "index=off");
	if (!r && !view)
		r = store_mount_option(m,
				       "workdir=%s/snapshots/" SNAPSHOTTER_OVERLAYFS "/%lld/work",
				       s->root, (long long)id);
	if (!r && !view)
		r = store_mount_option(m, "upperdir=%s/snapshots/" SNAPSHOTTER_OVERLAYFS "/%lld/fs",
				       s->root, (long long)id);
	return r ? r : lower_option(s, parents, n, m);
}

const struct snapshot_driver snapshot_overlay = {
	.name = SNAPSHOTTER_OVERLAYFS,
	.lease_type = LEASE_SNAPSHOTS SNAPSHOTTER_OVERLAYFS,
	.index = SNAPSHOT_OVERLAY,
	.make = overlay_make,
	.mounts = overlay_mounts,
};

/* ---- the probe */

static int touch_file(int at, const char *name)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* The kernel's own words, if it has any, else what errno means. */
static void say(int fs, const char *what, char *why, size_t size)
{
	static const char by_fd[] = "/proc/self/fd/";
	int err = errno;
	char text[160], *at;
	ssize_t n = fs >= 0 ? read(fs, text, sizeof(text) - 1) : -1;

	if (n > 2) {
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		at = strstr(text, by_fd);
		/* behind the level: "e overlay: …"; a folder's number means nothing to a reader */
		if (at) {
			*at = '\0';
			at += strlen(by_fd);
			at += strspn(at, "0123456789");
		}
		snprintf(why, size, "%s: %s%s%s", what, text + 2, at ? "--root" : "", at ? at : "");
		return;
	}
	snprintf(why, size, "%s: %s", what, strerrordesc_np(err));
}

static int option(int fs, const char *key, int folder)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
	return fsconfig(fs, FSCONFIG_SET_STRING, key, path, 0);
}

/* -1 after filling why */
static int mount_probe(int lower, int upper, int work, char *why, size_t size)
{
	CLEANUP_CLOSE int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	int mounted;

	if (fs < 0) {
		say(-1, "this kernel has no overlayfs", why, size);
		return -1;
	}
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", "overlay", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "index", "off", 0) < 0 ||
	    option(fs, "lowerdir", lower) < 0 || option(fs, "upperdir", upper) < 0 ||
	    option(fs, "workdir", work) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
		say(fs, "overlayfs cannot be mounted", why, size);
		return -1;
	}
	mounted = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (mounted < 0)
		say(fs, "overlayfs cannot be mounted", why, size);
	return mounted;
}

/* What layers need: a removed file and a replaced folder leave their marks. */
static void use_probe(int root, int upper, char *why, size_t size)
{
	char opaque = 0;
	struct stat st;

	if (unlinkat(root, "gone", 0) < 0 || unlinkat(root, "dir/file", 0) < 0 ||
	    unlinkat(root, "dir", AT_REMOVEDIR) < 0 || mkdirat(root, "dir", 0700) < 0 ||
	    touch_file(root, "made") < 0) {
		say(-1, "an overlay does not take changes", why, size);
		return;
	}
	if (fstatat(root, "gone", &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    fstatat(root, "dir/file", &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    fstatat(upper, "made", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fstatat(upper, "gone", &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(0, 0)) {
		snprintf(why, size, "an overlay does not hide what was removed");
		return;
	}
	{
		CLEANUP_CLOSE int dir = openat(upper, "dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (dir < 0 || fgetxattr(dir, "trusted.overlay.opaque", &opaque, 1) != 1 ||
		    opaque != 'y')
			snprintf(why, size, "an overlay does not mark replaced folders");
	}
}

static int probe_below(int at, char *why, size_t size)
{
	static const char *const names[] = { "lower", "upper", "work", "lower/dir" };
	CLEANUP_CLOSE int lower = -1, upper = -1, work = -1, root = -1;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (mkdirat(at, names[i], 0700) < 0)
			return -errno;
	lower = openat(at, "lower", O_PATH | O_DIRECTORY | O_CLOEXEC);
	upper = openat(at, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	work = openat(at, "work", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (lower < 0 || upper < 0 || work < 0)
		return -errno;
	if (touch_file(lower, "gone") < 0 || touch_file(lower, "dir/file") < 0)
		return -EIO;
	root = mount_probe(lower, upper, work, why, size);
	if (root >= 0)
		use_probe(root, upper, why, size);
	return 0;
}

int snapshot_overlay_probe(struct store *s, int folder, char *why, size_t size)
{
	char name[40];
	int at, r;

	*why = '\0';
	/* the separators of its options */
	if (strpbrk(s->root, ",:\\\"")) {
		snprintf(why, size, "the path of --root has one of the characters , : \\ \"");
		return 0;
	}
	snprintf(name, sizeof(name), SNAPSHOT_NEW "probe.%llx", (unsigned long long)clock_now());
	if (mkdirat(folder, name, 0700) < 0)
		return -errno;
	at = openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = at < 0 ? -errno : probe_below(at, why, size);
	if (at >= 0)
		close(at);
	tree_remove(folder, name, NULL); /* else the next start does */
	return r;
}
