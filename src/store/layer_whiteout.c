// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: what they delete
 *
 * ".wh.NAME" deletes NAME of the layers below, ".wh..wh..opq" all that they have in its folder. For
 * overlayfs both become marks: a character device 0:0, an xattr of the folder. Where the layers
 * below are already in the tree, both delete at once; but nothing that their own layer has written,
 * which is known by its real path.
 *
 * What overlayfs has no mark for is an opaque root: that is remembered, and whoever knows the
 * layers below asks for it by layer_inherit. So are folders with marks, of which it is only known
 * then whether there is anything to hide.
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
#include "util/tree.h"

bool layer_is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* ---- removing */

int layer_remove(struct applier *a, const struct layer_dir *dir, const char *name)
{
	char path[PATH_MAX];
	int r;

	if (unlinkat(dir->fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return layer_entry_fault(a, errno, "remove what is there");
	r = layer_path_join(path, dir->path, name);
	if (r < 0)
		return layer_entry_fault(a, -r, "remove what is there");
	layer_dirs_forget(a->dirs, path);
	r = tree_remove(dir->fd, name, a->c->cancel);
	if (r == -ECANCELED)
		return store_cancelled(a->c);
	return r < 0 ? layer_entry_fault(a, -r, "remove what is there") : 0;
}

/* Paths whose turn comes. */
struct todo {
	char **v;
	size_t n, room;
};

static int todo_add(struct todo *t, const char *path)
{
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 16;
		char **v = realloc(t->v, room * sizeof(*v));

		if (!v)
			return -ENOMEM;
		t->v = v;
		t->room = room;
	}
	t->v[t->n] = strdup(path);
	return t->v[t->n] ? (t->n++, 0) : -ENOMEM;
}

static void todo_clear(struct todo *t)
{
	while (t->n)
		free(t->v[--t->n]);
	free(t->v);
}

/* One folder; those in it that stay are left for later. */
static int purge_one(struct applier *a, struct todo *todo, const char *folder)
{
	CLEANUP_CLOSE int fd = layer_open_folder(a->root_fd, folder);
	struct layer_dir dir = { .fd = fd, .path = folder };
	char path[PATH_MAX];
	struct layer_list list;
	struct stat st;
	int r;

	if (fd < 0)
		return layer_entry_fault(a, -fd, "open the folder");
	r = layer_list_read(&list, fd);
	if (r < 0)
		return layer_entry_fault(a, -r, "read the folder");
	for (size_t i = 0; i < list.n && !r; i++) {
		r = layer_path_join(path, folder, list.v[i]);
		if (r < 0)
			r = layer_entry_fault(a, -r, "read the folder");
		else if (!layer_names_has(&a->names, path))
			r = layer_remove(a, &dir, list.v[i]);
		else if (fstatat(fd, list.v[i], &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			 S_ISDIR(st.st_mode) && todo_add(todo, path) < 0)
			r = layer_entry_fault(a, ENOMEM, "read the folder");
	}
	layer_list_clear(&list);
	return r;
}

int layer_purge(struct applier *a, const char *path)
{
	struct todo todo = { 0 };
	int r = todo_add(&todo, path);

	if (r < 0)
		r = layer_entry_fault(a, ENOMEM, "read the folder");
	while (todo.n && !r) {
		char *next = todo.v[--todo.n];

		r = purge_one(a, &todo, next);
		free(next);
	}
	todo_clear(&todo);
	return r;
}

/* ---- marks */

static int set_opaque(struct applier *a, int folder, const char *name)
{
	int r = layer_xattr_set(folder, name, OVERLAY_OPAQUE, "y", 1);

	return r < 0 ? layer_entry_fault(a, -r, "make the folder opaque") : 0;
}

static int make_whiteout(struct applier *a, int folder, const char *name)
{
	if (mknodat(folder, name, S_IFCHR, makedev(0, 0)) < 0)
		return layer_entry_fault(a, errno, "make the whiteout");
	return 0;
}

/* The folder of a mark: 1 when there is none, and so nothing to delete. */
static int mark_folder(struct applier *a, const char *folder, struct layer_dir *dir)
{
	int r = layer_dirs_get(a->dirs, folder, a->overlay, dir);

	if (r >= 0 || a->told)
		return r;
	if (!a->overlay && (r == -ENOENT || r == -ENOTDIR))
		return 1;
	return layer_entry_fault(a, -r, "find its folder");
}

int layer_whiteout_apply(struct applier *a, const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct layer_dir dir;
	struct stat st;
	int r = mark_folder(a, folder, &dir);

	if (r)
		return r < 0 ? r : 0;
	r = layer_marked(a, dir.path);
	if (r < 0)
		return r;
	if (layer_path_join(path, dir.path, name) < 0)
		return layer_entry_fault(a, ENAMETOOLONG, "delete it");
	if (fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno != ENOENT)
			return layer_entry_fault(a, errno, "look at what is there");
		return a->overlay ? make_whiteout(a, dir.fd, name) : 0;
	}
	if (layer_names_has(&a->names, path)) {
		/* what the layers below have under this name is gone, what this one has stays */
		if (!S_ISDIR(st.st_mode))
			return 0;
		r = a->overlay ? set_opaque(a, dir.fd, name) : 0;
		return r ? r : layer_purge(a, path);
	}
	if (a->overlay && layer_is_whiteout(&st))
		return 0;
	r = layer_remove(a, &dir, name);
	return !r && a->overlay ? make_whiteout(a, dir.fd, name) : r;
}

int layer_opaque_apply(struct applier *a, const char *folder)
{
	char path[PATH_MAX];
	struct layer_dir dir;
	int r = mark_folder(a, folder, &dir);

	if (r)
		return r < 0 ? r : 0;
	r = layer_marked(a, dir.path);
	if (r < 0)
		return r;
	strcpy(path, dir.path);
	if (a->overlay && *path)
		r = set_opaque(a, dir.fd, NULL);
	else if (a->overlay)
		a->out->opaque_root = true;
	return r ? r : layer_purge(a, path);
}
