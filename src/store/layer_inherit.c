// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: what a layer takes from those below it
 *
 * A layer may write into a folder that it has no entry for: the folder is as the layers below say.
 * An overlay shows the topmost folder's owner and mode, so the one that was implied gets those of
 * the one it covers. Seen from above, a folder of a lower layer ends where something nearer is no
 * folder, or is opaque.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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

static int inherit_one(int root_fd, const char *path, const int *lower_fds, size_t n)
{
	CLEANUP_CLOSE int folder = layer_open_folder(root_fd, path), to = -1;
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
	for (size_t i = 0; i < n && !r && !covered; i++) {
		CLEANUP_CLOSE int from = -1;

		r = look(lower_fds[i], path, &from, &covered);
		if (r == 1)
			return copy_folder(from, to);
	}
	return r;
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
	int err = 0;

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
