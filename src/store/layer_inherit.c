// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: what a layer takes from those below it
 *
 * A layer may write into a folder that it has no entry for: the folder is as the layers below say.
 * An overlay shows the topmost folder's owner and mode, so the one that was implied gets those of
 * the one it covers. Seen from above, a folder of a lower layer ends where something nearer is no
 * folder, or is opaque.
 *
 * Overlayfs hides whiteouts where it puts folders together. In a folder that no layer below has a part
 * in, or that is opaque, it shows the device that a whiteout is; so there they go, and with them the
 * folders that were only made to hold them. Times stay as the layer has them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

/* ---- implied folders */

static bool is_opaque(int fd)
{
	char value[2];

	return layer_xattr_get(fd, NULL, OVERLAY_OPAQUE, value, sizeof(value)) == 1 &&
	       value[0] == 'y';
}

/*
 * The folder at path in one layer: 1 and *found, 0 when it is not there; *covered: the layers below
 * do not show there either.
 */
static int look(int root_fd, const char *path, int *found, bool *covered)
{
	CLEANUP_CLOSE int at = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);

	if (at < 0)
		return -errno;
	while (*path) {
		char name[NAME_MAX + 1];
		size_t part = strcspn(path, "/");
		int next;

		if (part > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, path, part);
		name[part] = '\0';
		next = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0 && errno == ENOENT)
			return 0;
		if (next < 0 && (errno == ENOTDIR || errno == ELOOP)) {
			*covered = true;
			return 0;
		}
		if (next < 0)
			return -errno;
		close(at);
		at = next;
		path += part;
		path += *path == '/';
		if (is_opaque(at))
			*covered = true;
	}
	*found = TAKE_FD(at);
	return 1;
}

/* Whether a folder above path is opaque in this layer. */
static int hidden_above(int root_fd, const char *path, bool *hidden)
{
	char above[PATH_MAX], *slash;
	int fd = -1, r;

	if (strlen(path) >= sizeof(above))
		return -ENAMETOOLONG;
	strcpy(above, path);
	slash = strrchr(above, '/');
	*(slash ? slash : above) = '\0';
	r = look(root_fd, above, &fd, hidden);
	if (fd >= 0)
		close(fd);
	return r < 0 ? r : 0;
}

static int copy_folder(int from, int to)
{
	struct layer_xattrs xattrs;
	struct stat st;
	int r;

	if (fstat(from, &st) < 0 || fchown(to, st.st_uid, st.st_gid) < 0 ||
	    fchmod(to, st.st_mode & 07777) < 0)
		return -errno;
	r = layer_xattrs_read(&xattrs, from, NULL);
	for (size_t i = 0; !r && i < xattrs.n; i++) {
		r = layer_xattr_set(to, NULL, xattrs.v[i].name, xattrs.v[i].value,
				    xattrs.v[i].size);
		if (r == -ENOTSUP)
			r = 0;
	}
	if (!r) {
		struct timespec times[2] = { st.st_mtim, st.st_mtim };

		r = futimens(to, times) < 0 ? -errno : 0;
	}
	layer_xattrs_clear(&xattrs);
	return r;
}

/* The nearest folder of a lower layer that is seen at path, unless it is covered: 1 and *found, or 0. */
static int look_below(const char *path, bool covered, const int *lower_fds, size_t n, int *found)
{
	int r = 0;

	for (size_t i = 0; i < n && !r && !covered; i++)
		r = look(lower_fds[i], path, found, &covered);
	return r;
}

static int inherit_one(int root_fd, const char *path, const int *lower_fds, size_t n)
{
	CLEANUP_CLOSE int folder = layer_open_folder(root_fd, path), to = -1, from = -1;
	bool covered = false;
	int r;

	/* it was replaced later on */
	if (folder == -ENOENT || folder == -ENOTDIR || folder == -ELOOP)
		return 0;
	if (folder < 0)
		return folder;
	to = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return -errno;
	r = hidden_above(root_fd, path, &covered);
	if (!r)
		r = look_below(path, covered, lower_fds, n, &from);
	return r > 0 ? copy_folder(from, to) : r;
}

/* ---- marks that hide nothing */

/* Sets the times of a folder in which something was removed. */
static int set_times_back(int folder, const struct stat *st)
{
	struct timespec times[2] = { st->st_atim, st->st_mtim };
	CLEANUP_CLOSE int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || futimens(fd, times) < 0 ? -errno : 0;
}

static int drop_whiteouts(int folder)
{
	struct layer_list list;
	struct stat st, before;
	int r = fstat(folder, &before) < 0 ? -errno : 0;

	if (!r)
		r = layer_list_read(&list, folder);
	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < list.n; i++) {
		if (fstatat(folder, list.v[i], &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    (layer_is_whiteout(&st) && unlinkat(folder, list.v[i], 0) < 0))
			r = -errno;
	}
	layer_list_clear(&list);
	return r ? r : set_times_back(folder, &before);
}

/* Whiteouts of one folder, unless it is merged with one below. */
static int settle_marks(int root_fd, const char *path, const int *lower_fds, size_t n)
{
	CLEANUP_CLOSE int folder = -1, below = -1;
	bool covered = false;
	int r = look(root_fd, path, &folder, &covered);

	/* it was replaced later on */
	if (r <= 0)
		return r;
	r = look_below(path, covered, lower_fds, n, &below);
	return r ? (r < 0 ? r : 0) : drop_whiteouts(folder);
}

/* 1: the folder was removed, it was implied, is empty, and there is none below; 0 */
static int remove_needless(int root_fd, char *path, const struct layer_names *implied,
			   const int *lower_fds, size_t n)
{
	CLEANUP_CLOSE int below = -1, above = -1;
	char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	bool covered = false;
	struct stat before;
	int r = hidden_above(root_fd, path, &covered);

	if (r < 0 || !layer_names_has(implied, path))
		return r;
	r = look_below(path, covered, lower_fds, n, &below);
	if (r)
		return r < 0 ? r : 0;
	if (slash)
		*slash = '\0';
	above = layer_open_folder(root_fd, slash ? path : "");
	if (slash)
		*slash = '/';
	if (above < 0)
		return above == -ENOENT || above == -ENOTDIR || above == -ELOOP ? 0 : above;
	if (fstat(above, &before) < 0)
		return -errno;
	if (unlinkat(above, name, AT_REMOVEDIR) < 0)
		return errno == ENOTEMPTY || errno == EEXIST || errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : -errno;
	r = set_times_back(above, &before);
	return r < 0 ? r : 1;
}

static int settle_all(int root_fd, const struct layer_result *r, const int *lower_fds, size_t n)
{
	struct layer_names implied = { 0 };
	char path[PATH_MAX], *slash;
	int err = 0;

	for (size_t at = 0; at < r->implied_size && !err; at += strlen(r->implied + at) + 1)
		err = layer_names_add(&implied, r->implied + at);
	for (size_t at = 0; at < r->marked_size && !err; at += strlen(r->marked + at) + 1) {
		err = settle_marks(root_fd, r->marked + at, lower_fds, n);
		snprintf(path, sizeof(path), "%s", r->marked + at);
		while (!err && *path) {
			err = remove_needless(root_fd, path, &implied, lower_fds, n);
			if (err <= 0)
				break;
			err = 0;
			slash = strrchr(path, '/');
			*(slash ? slash : path) = '\0';
		}
	}
	layer_names_clear(&implied);
	return err;
}

/* ---- an opaque root */

/* A name of a lower layer: hidden, or as a folder of this layer's own cut off. */
static int hide(int root, const char *name)
{
	struct stat st;

	if (fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return -errno;
		return mknodat(root, name, S_IFCHR, makedev(0, 0)) < 0 ? -errno : 0;
	}
	return S_ISDIR(st.st_mode) ? layer_xattr_set(root, name, OVERLAY_OPAQUE, "y", 1) : 0;
}

static int hide_all(int root, int lower)
{
	struct layer_list list;
	int r = layer_list_read(&list, lower);

	for (size_t i = 0; !r && i < list.n; i++)
		r = hide(root, list.v[i]);
	layer_list_clear(&list);
	return r;
}

int layer_inherit(int root_fd, const struct layer_result *r, const int *lower_fds, size_t n,
		  struct fault *f)
{
	int err = r->marked_size ? settle_all(root_fd, r, lower_fds, r->opaque_root ? 0 : n) : 0;

	if (err < 0)
		return fault_sys(f, -err, "remove what hides nothing", NULL);
	for (size_t i = 0; r->opaque_root && i < n && !err; i++)
		err = hide_all(root_fd, lower_fds[i]);
	if (err < 0)
		return fault_sys(f, -err, "hide what the layers below have", NULL);
	for (size_t at = 0; at < r->implied_size; at += strlen(r->implied + at) + 1) {
		if (r->opaque_root)
			break;
		err = inherit_one(root_fd, r->implied + at, lower_fds, n);
		if (err < 0)
			return fault_sys(f, -err, "give a folder its owner and mode",
					 r->implied + at);
	}
	return 0;
}
