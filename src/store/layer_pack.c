// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: packing a tree
 *
 * The tree is walked folder by folder in the order of names, without recursion and with one folder
 * open at a time: trees are as deep as somebody likes to make them. A folder that is done is left
 * by opening the one above again, by its path and without following links.
 *
 * What is mounted below the root is another tree: its mount point is packed, and it is not entered.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

struct frame {
	struct layer_list list;
	size_t next;
	size_t path; /* bytes of the folder's path */
};

struct pack {
	struct store_call *c;
	int root_fd;
	enum layer_source source;
	struct layer_writer *writer;
	struct layer_inodes inodes;
	struct frame *frames;
	size_t depth;
	int fd; /* the folder of the topmost frame */
	char path[PATH_MAX];
};

static int pack_fault(struct pack *p, int err, const char *what)
{
	return fault_sys(p->c->f, err, what, *p->path ? p->path : "/");
}

static int push(struct pack *p)
{
	struct frame *frames;
	int fd, r;

	if (p->depth > LIMIT_LAYER_DEPTH) {
		fault_set(p->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "'%.300s' is more than %u folders deep", p->path, LIMIT_LAYER_DEPTH);
		return -EMLINK;
	}
	fd = layer_open_own_folder(p->root_fd, p->path);
	if (fd == -EXDEV)
		return 0;
	if (fd < 0)
		return pack_fault(p, -fd, "open the folder");
	frames = realloc(p->frames, (p->depth + 1) * sizeof(*frames));
	if (!frames) {
		close(fd);
		return pack_fault(p, ENOMEM, "read the folder");
	}
	p->frames = frames;
	frames += p->depth;
	r = layer_list_read(&frames->list, fd);
	if (r < 0) {
		close(fd);
		return pack_fault(p, -r, "read the folder");
	}
	frames->next = 0;
	frames->path = strlen(p->path);
	p->depth++;
	if (p->fd >= 0)
		close(p->fd);
	p->fd = fd;
	return 0;
}

static int pop(struct pack *p)
{
	layer_list_clear(&p->frames[--p->depth].list);
	close(p->fd);
	p->fd = -1;
	if (!p->depth)
		return 0;
	p->path[p->frames[p->depth - 1].path] = '\0';
	p->fd = layer_open_own_folder(p->root_fd, p->path);
	if (p->fd >= 0)
		return 0;
	return pack_fault(p, -TAKE_FD(p->fd), "open the folder");
}

/* The path of an inode's first name, when this is a further one. */
static int linked(struct pack *p, const struct stat *st, const char **link)
{
	struct layer_inode *inode;
	bool fresh;

	*link = NULL;
	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return 0;
	inode = layer_inodes_get(&p->inodes, st, p->path, &fresh);
	if (!inode)
		return pack_fault(p, ENOMEM, "remember the file");
	if (!fresh)
		*link = inode->path;
	return 0;
}

/* The file p->path, which is p->fd / name. */
static int pack_file(struct pack *p, const char *name, const struct stat *st)
{
	bool upper = p->source == LAYER_FROM_UPPER;
	struct layer_xattrs xattrs;
	const char *link;
	int r;

	if (S_ISSOCK(st->st_mode))
		return 0;
	if (upper && layer_is_whiteout(st))
		return layer_writer_whiteout(p->writer, p->path, false);
	r = linked(p, st, &link);
	if (r < 0)
		return r;
	r = layer_xattrs_read(&xattrs, p->fd, name);
	if (r < 0)
		return pack_fault(p, -r, "read the extended attributes of");
	if (upper && xattrs.elsewhere) {
		fault_set(p->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "'%.300s' in the overlay's upper folder has been moved, or has its data "
			  "elsewhere (redirect_dir, metacopy)",
			  p->path);
		r = -EINVAL;
	}
	if (!r)
		r = layer_writer_entry(p->writer, p->path, p->fd, name, st, &xattrs, link);
	if (!r && upper && xattrs.opaque && S_ISDIR(st->st_mode))
		r = layer_writer_whiteout(p->writer, p->path, true);
	layer_xattrs_clear(&xattrs);
	return r;
}

static int pack_next(struct pack *p)
{
	struct frame *top = &p->frames[p->depth - 1];
	const char *name;
	struct stat st;
	int r;

	if (top->next == top->list.n)
		return pop(p);
	name = top->list.v[top->next++];
	p->path[top->path] = '\0';
	if (layer_path_join(p->path, p->path, name) < 0)
		return pack_fault(p, ENAMETOOLONG, "read what is in the folder");
	if (fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		/* gone since its folder was read */
		return errno == ENOENT ? 0 : pack_fault(p, errno, "look at the file");
	r = pack_file(p, name, &st);
	if (!r && S_ISDIR(st.st_mode))
		r = push(p);
	return r ? r : store_cancelled(p->c);
}

/* Only when it is not as every root is made. */
static int pack_root(struct pack *p)
{
	struct layer_xattrs xattrs;
	struct stat st;
	int r;

	if (fstat(p->fd, &st) < 0)
		return pack_fault(p, errno, "look at the folder");
	r = layer_xattrs_read(&xattrs, p->fd, NULL);
	if (r < 0)
		return pack_fault(p, -r, "read the extended attributes of");
	if ((st.st_mode & 07777) != 0755 || st.st_uid || st.st_gid || xattrs.n)
		r = layer_writer_entry(p->writer, "", p->fd, NULL, &st, &xattrs, NULL);
	layer_xattrs_clear(&xattrs);
	return r;
}

int layer_pack(struct store_call *c, int root_fd, enum layer_source source, layer_write_fn fn,
	       void *user)
{
	struct pack *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return fault_sys(c->f, ENOMEM, "pack the layer", NULL);
	p->c = c;
	p->root_fd = root_fd;
	p->source = source;
	p->fd = -1;
	r = layer_writer_new(&p->writer, c, fn, user);
	if (!r)
		r = push(p);
	if (!r)
		r = pack_root(p);
	while (!r && p->depth)
		r = pack_next(p);
	if (!r)
		r = layer_writer_finish(p->writer);
	while (p->depth)
		layer_list_clear(&p->frames[--p->depth].list);
	if (p->fd >= 0)
		close(p->fd);
	free(p->frames);
	layer_inodes_clear(&p->inodes);
	layer_writer_free(p->writer);
	free(p);
	return r;
}
