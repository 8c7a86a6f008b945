// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: folders below the root by their names in an archive
 *
 * Names are resolved here, one component after the other, and not by the kernel: what a link in
 * the middle of a name leads to has to stay within the root (`lib -> usr/lib` and `/usr/lib` are
 * both fine), and what is written has to be known by its real path. Each component is opened
 * relative to the folder before it, without following it; a link is read and its text takes its
 * place; ".." goes back by the real path, never by the file system, and not above the root. So
 * there is nothing to be won by changing the tree meanwhile.
 *
 * Entries come mostly in the order of their folders, so the folders used last stay open: a lookup
 * is then a comparison of texts. A real path that is found there has no link in it. Whoever removes
 * or replaces a folder has to say so (layer_dirs_forget).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define OPEN_FOLDERS 64u
#define LINKS_MAX 40u /* as the kernel has it */

struct node {
	char *path; /* NULL: free */
	size_t size;
	int fd;
	uint64_t used;
};

struct layer_dirs {
	int root_fd; /* the caller's */
	layer_made_fn made;
	void *user;
	uint64_t clock;
	struct node *last;
	struct node nodes[OPEN_FOLDERS];
};

/* One way from the root to a folder. */
struct walk {
	char at[PATH_MAX]; /* the real path so far */
	char rest[PATH_MAX]; /* what is still to be gone */
	unsigned links;
};

int layer_dirs_new(struct layer_dirs **out, int root_fd, layer_made_fn made, void *user)
{
	struct layer_dirs *d = calloc(1, sizeof(*d));

	*out = d;
	if (!d)
		return -ENOMEM;
	d->root_fd = root_fd;
	d->made = made;
	d->user = user;
	return 0;
}

static void node_clear(struct node *n)
{
	if (!n->path)
		return;
	close(n->fd);
	free(n->path);
	n->path = NULL;
}

void layer_dirs_free(struct layer_dirs *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < OPEN_FOLDERS; i++)
		node_clear(&d->nodes[i]);
	free(d);
}

void layer_dirs_forget(struct layer_dirs *d, const char *path)
{
	size_t n = strlen(path);

	for (size_t i = 0; i < OPEN_FOLDERS; i++) {
		struct node *node = &d->nodes[i];

		if (node->path && !strncmp(node->path, path, n) &&
		    (!n || !node->path[n] || node->path[n] == '/'))
			node_clear(node);
	}
	d->last = NULL;
}

/* ---- the open ones */

static struct node *find(struct layer_dirs *d, const char *path, size_t size)
{
	struct node *n = d->last;

	if (n && n->size == size && !memcmp(n->path, path, size))
		return n;
	for (size_t i = 0; i < OPEN_FOLDERS; i++) {
		n = &d->nodes[i];
		if (n->path && n->size == size && !memcmp(n->path, path, size)) {
			n->used = ++d->clock;
			return d->last = n;
		}
	}
	return NULL;
}

/* Takes the fd over, also when it fails. */
static struct node *keep(struct layer_dirs *d, const char *path, int fd)
{
	struct node *n = &d->nodes[0];

	for (size_t i = 0; i < OPEN_FOLDERS && n->path; i++)
		if (!d->nodes[i].path || d->nodes[i].used < n->used)
			n = &d->nodes[i];
	node_clear(n);
	n->path = strdup(path);
	if (!n->path) {
		close(fd);
		d->last = NULL;
		return NULL;
	}
	n->size = strlen(path);
	n->fd = fd;
	n->used = ++d->clock;
	return d->last = n;
}

static int open_folder(int root_fd, const char *path, uint64_t resolve)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | resolve,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, root_fd, *path ? path : ".", &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

int layer_open_folder(int root_fd, const char *path)
{
	return open_folder(root_fd, path, 0);
}

int layer_open_own_folder(int root_fd, const char *path)
{
	return open_folder(root_fd, path, RESOLVE_NO_XDEV);
}

/* The folder at a real path. */
static struct node *real(struct layer_dirs *d, const char *path, int *err)
{
	struct node *n = find(d, path, strlen(path));
	int fd;

	if (n)
		return n;
	fd = layer_open_folder(d->root_fd, path);
	if (fd < 0) {
		*err = fd;
		return NULL;
	}
	n = keep(d, path, fd);
	if (!n)
		*err = -ENOMEM;
	return n;
}

/* ---- going there */

static void walk_back(struct walk *w)
{
	char *slash = strrchr(w->at, '/');

	*(slash ? slash : w->at) = '\0';
}

static size_t depth_of(const char *path)
{
	size_t n = *path != '\0';

	for (; *path; path++)
		n += *path == '/';
	return n;
}

/* The link's text takes the place of the component. */
static int follow(struct walk *w, int fd, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, name, target, sizeof(target));
	size_t rest = strlen(w->rest);

	if (n < 0)
		return -errno;
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	if ((size_t)n + 1 + rest + 1 > sizeof(w->rest))
		return -ENAMETOOLONG;
	memmove(w->rest + n + 1, w->rest, rest + 1);
	memcpy(w->rest, target, (size_t)n);
	w->rest[n] = '/';
	if (n && target[0] == '/')
		w->at[0] = '\0';
	return 0;
}

/* Whatever the umask and a setgid folder above say. */
static int set_plain(int fd, const char *name)
{
	CLEANUP_CLOSE int made = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (made < 0 || fchown(made, 0, 0) < 0 || fchmod(made, 0755) < 0)
		return -errno;
	return 0;
}

/* Makes the folder w->at / name. */
static int make_folder(struct layer_dirs *d, struct walk *w, int fd, const char *name,
		       bool replaced)
{
	char path[PATH_MAX];
	int r = layer_path_join(path, w->at, name);

	if (r < 0)
		return r;
	if (depth_of(path) > LIMIT_LAYER_DEPTH)
		return -EMLINK;
	if (replaced && unlinkat(fd, name, 0) < 0)
		return -errno;
	if (mkdirat(fd, name, 0755) < 0)
		return -errno;
	r = set_plain(fd, name);
	return r ? r : d->made(d->user, path, replaced);
}

/* What is in the way, when it is no folder: 1 when the walk goes on with the link's text. */
static int in_the_way(struct layer_dirs *d, struct walk *w, int fd, const char *name, bool make)
{
	struct stat st;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode)) {
		int r = follow(w, fd, name);

		return r < 0 ? r : 1;
	}
	if (make && layer_is_whiteout(&st))
		return make_folder(d, w, fd, name, true);
	return -ENOTDIR;
}

/* One component further: w->at becomes it, or the way changes. */
static int step(struct layer_dirs *d, struct walk *w, const char *name, bool make)
{
	char path[PATH_MAX];
	struct node *at;
	int r = layer_path_join(path, w->at, name), fd;

	if (r < 0)
		return r;
	if (find(d, path, strlen(path))) {
		strcpy(w->at, path);
		return 0;
	}
	at = real(d, w->at, &r);
	if (!at)
		return r;
	for (;;) {
		fd = openat(at->fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd >= 0)
			break;
		if (errno == ENOTDIR || errno == ELOOP)
			r = in_the_way(d, w, at->fd, name, make);
		else if (errno == ENOENT && make)
			r = make_folder(d, w, at->fd, name, false);
		else
			r = -errno;
		if (r)
			return r < 0 ? r : 0;
	}
	strcpy(w->at, path);
	return keep(d, path, fd) ? 0 : -ENOMEM;
}

/* Begins as far down as the open folders reach. */
static void begin(struct layer_dirs *d, struct walk *w, const char *path)
{
	size_t n = strlen(path);

	while (n && !find(d, path, n))
		while (n && path[--n] != '/')
			;
	memcpy(w->at, path, n);
	w->at[n] = '\0';
	strcpy(w->rest, path + n);
}

int layer_dirs_get(struct layer_dirs *d, const char *path, bool make, struct layer_dir *out)
{
	struct node *n = find(d, path, strlen(path));
	struct walk w;
	int r = 0;

	w.links = 0;
	if (!n) {
		begin(d, &w, path);
		while (w.rest[0]) {
			char name[PATH_MAX];
			size_t part = strcspn(w.rest, "/");

			memcpy(name, w.rest, part);
			name[part] = '\0';
			part += w.rest[part] == '/';
			memmove(w.rest, w.rest + part, strlen(w.rest + part) + 1);
			if (!strcmp(name, ".."))
				walk_back(&w);
			else if (*name && strcmp(name, ".") != 0)
				r = step(d, &w, name, make);
			if (r < 0)
				return r;
		}
		n = real(d, w.at, &r);
		if (!n)
			return r;
	}
	out->fd = n->fd;
	out->path = n->path;
	return 0;
}
