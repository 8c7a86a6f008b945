// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: packing what two trees differ in
 *
 * Both are walked side by side in the order of names, as layer_pack.c does with one. What the right
 * one has and the left one has not, or otherwise, becomes an entry; what only the left one has
 * becomes a whiteout. A changed file brings the folders above it along, so that the layer says what
 * they are.
 *
 * Files are the same when type, owner, mode, size, device, xattrs and time of change are. Archives
 * often keep whole seconds only, so times that agree but for a missing fraction decide nothing, and
 * the contents are compared. Folders' times change with what is in them and are not looked at.
 *
 * Of a file with several names, all that belong to one inode must be in the layer when one of them
 * is, or they would come apart: names that are the same on both sides are remembered, and follow
 * once another name of their inode is packed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

#define COMPARE_BYTES (256u << 10)

struct side {
	int root_fd;
	int fd; /* of the topmost frame's folder; -1: this side has none */
};

struct frame {
	struct layer_list left, right;
	size_t next_left, next_right;
	size_t path; /* bytes of the folder's path */
	bool has_left;
	bool written; /* the folder has its entry */
};

struct changes {
	struct store_call *c;
	struct side left, right;
	struct layer_writer *writer;
	struct layer_inodes inodes; /* of the right side */
	struct frame *frames;
	size_t depth;
	char path[PATH_MAX];
	char buf[2][COMPARE_BYTES];
};

static int fault(struct changes *c, int err, const char *what)
{
	return fault_sys(c->c->f, err, what, *c->path ? c->path : "/");
}

/* ---- comparing */

static ssize_t read_some(int fd, char *buf, size_t size)
{
	size_t n = 0;

	while (n < size) {
		ssize_t got = read(fd, buf + n, size - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

/* 1: they differ */
static int compare_data(struct changes *c, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	CLEANUP_CLOSE int left = openat(c->left.fd, name, flags);
	CLEANUP_CLOSE int right = openat(c->right.fd, name, flags);

	if (left < 0 || right < 0)
		return fault(c, errno, "open the file");
	for (;;) {
		ssize_t a = read_some(left, c->buf[0], COMPARE_BYTES);
		ssize_t b = read_some(right, c->buf[1], COMPARE_BYTES);

		if (a < 0 || b < 0)
			return fault(c, (int)(a < 0 ? -a : -b), "read the file");
		if (a != b || memcmp(c->buf[0], c->buf[1], (size_t)a) != 0)
			return 1;
		if (a < (ssize_t)COMPARE_BYTES)
			return 0;
		if (store_cancelled(c->c) < 0)
			return -ECANCELED;
	}
}

static int compare_links(struct changes *c, const char *name)
{
	ssize_t a = readlinkat(c->left.fd, name, c->buf[0], PATH_MAX);
	ssize_t b = a < 0 ? -1 : readlinkat(c->right.fd, name, c->buf[1], PATH_MAX);

	if (a < 0 || b < 0)
		return fault(c, errno, "read the link");
	return a != b || memcmp(c->buf[0], c->buf[1], (size_t)a) != 0;
}

static int compare_xattrs(struct changes *c, const char *name)
{
	struct layer_xattrs left, right = { 0 };
	int r = layer_xattrs_read(&left, c->left.fd, name);

	if (!r)
		r = layer_xattrs_read(&right, c->right.fd, name);
	if (r < 0)
		r = fault(c, -r, "read the extended attributes of");
	else
		r = !layer_xattrs_equal(&left, &right);
	layer_xattrs_clear(&left);
	layer_xattrs_clear(&right);
	return r;
}

static bool same_stat(const struct stat *l, const struct stat *r)
{
	if (l->st_mode != r->st_mode || l->st_uid != r->st_uid || l->st_gid != r->st_gid)
		return false;
	if (S_ISREG(l->st_mode) && l->st_size != r->st_size)
		return false;
	return !(S_ISCHR(l->st_mode) || S_ISBLK(l->st_mode)) || l->st_rdev == r->st_rdev;
}

/* 1: name differs, 0: it does not. name NULL: the folders themselves. */
static int compare(struct changes *c, const char *name, const struct stat *l, const struct stat *r)
{
	int differ;

	if (!same_stat(l, r))
		return 1;
	if (l->st_dev == r->st_dev && l->st_ino == r->st_ino)
		return 0;
	differ = compare_xattrs(c, name);
	if (differ || S_ISDIR(l->st_mode))
		return differ;
	if (l->st_mtim.tv_sec != r->st_mtim.tv_sec)
		return 1;
	if (l->st_mtim.tv_nsec != r->st_mtim.tv_nsec && l->st_mtim.tv_nsec && r->st_mtim.tv_nsec)
		return 1;
	if (S_ISLNK(l->st_mode) && name)
		return compare_links(c, name);
	if (S_ISREG(l->st_mode) && name && (!l->st_mtim.tv_nsec || !r->st_mtim.tv_nsec))
		return compare_data(c, name);
	return 0;
}

/* ---- writing */

static int write_as(struct changes *c, const char *path, int folder, const char *name,
		    const struct stat *st, const char *link)
{
	struct layer_xattrs xattrs;
	int r = layer_xattrs_read(&xattrs, folder, name);

	if (r < 0)
		return fault(c, -r, "read the extended attributes of");
	r = layer_writer_entry(c->writer, path, folder, name, st, &xattrs, link);
	layer_xattrs_clear(&xattrs);
	return r;
}

/* The folders above that have no entry yet; the root never needs one. */
static int write_parents(struct changes *c)
{
	for (size_t i = 1; i < c->depth; i++) {
		CLEANUP_CLOSE int fd = -1;
		char path[PATH_MAX];
		struct stat st;
		int r;

		if (c->frames[i].written)
			continue;
		memcpy(path, c->path, c->frames[i].path);
		path[c->frames[i].path] = '\0';
		fd = layer_open_own_folder(c->right.root_fd, path);
		if (fd < 0)
			return fault(c, -fd, "open the folder");
		if (fstat(fd, &st) < 0)
			return fault(c, errno, "look at the folder");
		r = write_as(c, path, fd, NULL, &st, NULL);
		if (r < 0)
			return r;
		c->frames[i].written = true;
	}
	return 0;
}

/* Another name than c->path, which has been passed already. */
static int write_passed(struct changes *c, const char *path, const char *link)
{
	CLEANUP_FREE char *folder = strdup(path);
	CLEANUP_CLOSE int fd = -1;
	const char *name = strrchr(path, '/');
	struct stat st;
	char *slash;

	if (!folder)
		return fault(c, ENOMEM, "remember the file");
	slash = strrchr(folder, '/');
	*(slash ? slash : folder) = '\0';
	fd = layer_open_own_folder(c->right.root_fd, folder);
	if (fd < 0)
		return fault(c, -fd, "open the folder");
	name = name ? name + 1 : path;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fault(c, errno, "look at the file");
	return write_as(c, path, fd, name, &st, link);
}

/* The names of an inode that were taken as the same, and now are needed, in their order. */
static int write_names(struct changes *c, struct layer_inode *inode)
{
	struct layer_name *turned = NULL, *name;
	int r = write_passed(c, inode->path, NULL);

	while ((name = inode->more)) {
		inode->more = name->next;
		name->next = turned;
		turned = name;
	}
	for (inode->more = turned; (name = inode->more) && !r; free(name)) {
		inode->more = name->next;
		r = write_passed(c, name->path, inode->path);
	}
	return r;
}

/* c->path, which is name in the right folder. same: only when it belongs to what was written. */
static int write_file(struct changes *c, const char *name, const struct stat *st, bool same)
{
	struct layer_inode *inode = NULL;
	bool fresh = true;
	int r = 0;

	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
		inode = layer_inodes_get(&c->inodes, st, c->path, &fresh);
		if (!inode)
			return fault(c, ENOMEM, "remember the file");
	}
	if (same && !fresh && !inode->written)
		r = layer_inode_name(inode, c->path);
	if (r < 0)
		return fault(c, ENOMEM, "remember the file");
	if (same && (fresh || !inode->written))
		return 0;
	r = write_parents(c);
	if (!r && !fresh && !inode->written)
		r = write_names(c, inode);
	if (r < 0)
		return r;
	if (inode)
		inode->written = true;
	return write_as(c, c->path, c->right.fd, name, st, fresh ? NULL : inode->path);
}

static int write_whiteout(struct changes *c)
{
	int r = write_parents(c);

	return r ? r : layer_writer_whiteout(c->writer, c->path, false);
}

/* ---- walking */

static int enter(struct changes *c, struct side *s, struct layer_list *list)
{
	int fd = layer_open_own_folder(s->root_fd, c->path), r;

	if (fd < 0)
		return fd;
	r = layer_list_read(list, fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	return 0;
}

static int push(struct changes *c, bool has_left, bool written)
{
	struct frame *frames, *f;
	int r;

	if (c->depth > LIMIT_LAYER_DEPTH) {
		fault_set(c->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "'%.300s' is more than %u folders deep", c->path, LIMIT_LAYER_DEPTH);
		return -EMLINK;
	}
	frames = realloc(c->frames, (c->depth + 1) * sizeof(*frames));
	if (!frames)
		return fault(c, ENOMEM, "read the folder");
	c->frames = frames;
	f = &frames[c->depth];
	memset(f, 0, sizeof(*f));
	f->path = strlen(c->path);
	f->written = written;
	r = enter(c, &c->right, &f->right);
	/* something is mounted there */
	if (r == -EXDEV)
		return 0;
	c->depth++;
	if (!r && has_left)
		r = enter(c, &c->left, &f->left);
	if (r == -EXDEV)
		r = 0;
	else
		f->has_left = has_left;
	return r < 0 ? fault(c, -r, "read the folder") : 0;
}

static int leave(struct changes *c, struct side *s, bool back)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = back ? layer_open_own_folder(s->root_fd, c->path) : -1;
	if (s->fd >= 0 || !back)
		return 0;
	return fault(c, -TAKE_FD(s->fd), "open the folder");
}

static int pop(struct changes *c)
{
	struct frame *f = &c->frames[--c->depth];
	int r;

	layer_list_clear(&f->left);
	layer_list_clear(&f->right);
	if (!c->depth)
		return 0;
	f--;
	c->path[f->path] = '\0';
	r = leave(c, &c->right, true);
	return r ? r : leave(c, &c->left, f->has_left);
}

/* -1: only the left has the next name, 1: only the right, 0: both. */
static int which(const struct frame *f)
{
	if (f->next_left == f->left.n)
		return 1;
	if (f->next_right == f->right.n)
		return -1;
	return strcmp(f->left.v[f->next_left], f->right.v[f->next_right]);
}

/* Sockets are as if they were not there. */
static int look(struct changes *c, int fd, const char *name, struct stat *st, bool *there)
{
	*there = fstatat(fd, name, st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!*there && errno != ENOENT)
		return fault(c, errno, "look at the file");
	if (*there && S_ISSOCK(st->st_mode))
		*there = false;
	return 0;
}

static int handle(struct changes *c, const char *name, bool in_left, bool in_right)
{
	bool folders, same_place;
	struct stat l = { 0 }, r = { 0 };
	int differ, err = 0;

	if (in_left)
		err = look(c, c->left.fd, name, &l, &in_left);
	if (!err && in_right)
		err = look(c, c->right.fd, name, &r, &in_right);
	if (err < 0)
		return err;
	if (!in_right)
		return in_left ? write_whiteout(c) : 0;
	differ = in_left ? compare(c, name, &l, &r) : 1;
	if (differ < 0)
		return differ;
	if (!S_ISDIR(r.st_mode))
		return write_file(c, name, &r, !differ);
	folders = in_left && S_ISDIR(l.st_mode);
	same_place = folders && l.st_dev == r.st_dev && l.st_ino == r.st_ino;
	if (differ)
		err = write_file(c, name, &r, false);
	if (err < 0)
		return err;
	return same_place ? 0 : push(c, folders, differ);
}

static int next(struct changes *c)
{
	struct frame *f = &c->frames[c->depth - 1];
	const char *name;
	int r;

	if (f->next_left == f->left.n && f->next_right == f->right.n)
		return pop(c);
	r = which(f);
	name = r < 0 ? f->left.v[f->next_left] : f->right.v[f->next_right];
	f->next_left += r <= 0;
	f->next_right += r >= 0;
	c->path[f->path] = '\0';
	if (layer_path_join(c->path, c->path, name) < 0)
		return fault(c, ENAMETOOLONG, "read what is in the folder");
	r = handle(c, name, r <= 0, r >= 0);
	return r ? r : store_cancelled(c->c);
}

static int compare_roots(struct changes *c)
{
	struct stat l, r;
	int differ;

	if (fstat(c->left.fd, &l) < 0 || fstat(c->right.fd, &r) < 0)
		return fault(c, errno, "look at the folder");
	differ = compare(c, NULL, &l, &r);
	return differ > 0 ? write_as(c, "", c->right.fd, NULL, &r, NULL) : differ;
}

int layer_pack_changes(struct store_call *call, int left_fd, int right_fd, layer_write_fn fn,
		       void *user)
{
	struct changes *c = malloc(sizeof(*c));
	int r;

	if (!c)
		return fault_sys(call->f, ENOMEM, "compare the trees", NULL);
	memset(c, 0, offsetof(struct changes, buf));
	c->c = call;
	c->left = (struct side){ .root_fd = left_fd, .fd = -1 };
	c->right = (struct side){ .root_fd = right_fd, .fd = -1 };
	r = layer_writer_new(&c->writer, call, fn, user);
	if (!r)
		r = push(c, true, true);
	if (!r)
		r = compare_roots(c);
	while (!r && c->depth)
		r = next(c);
	if (!r)
		r = layer_writer_finish(c->writer);
	while (c->depth) {
		struct frame *f = &c->frames[--c->depth];

		layer_list_clear(&f->left);
		layer_list_clear(&f->right);
	}
	leave(c, &c->left, false);
	leave(c, &c->right, false);
	free(c->frames);
	layer_inodes_clear(&c->inodes);
	layer_writer_free(c->writer);
	free(c);
	return r;
}
