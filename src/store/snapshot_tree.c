// SPDX-License-Identifier: Apache-2.0
/*
 * Walking the trees of snapshots
 *
 * What is in them was made by layers and containers, so nothing about it can be relied on: names
 * are any bytes, folders may be nested deeper than a path is long or than this process may have
 * files open. The walk therefore keeps its own stack on the heap. Each level has read the names of
 * its folder; only the OPEN_LEVELS nearest ones have the folder itself open. A level further up is
 * opened again by ".." when the walk returns to it, and has to be the same folder as before.
 *
 * Nothing is opened by a path with more than one part, links are not followed, and a folder on
 * another device is a mount point: it is not entered.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/snapshot_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define OPEN_LEVELS 32

struct level {
	int from, to; /* -1 while further up than OPEN_LEVELS */
	struct stat st; /* of from */
	dev_t to_dev;
	ino_t to_ino;
	char *names; /* each NUL-terminated */
	size_t size, at; /* at: behind the one being visited */
	size_t name; /* the one being visited */
};

struct snapshot_walk {
	struct store_call *c;
	const struct snapshot_visitor *visitor;
	void *user;
	struct level *v;
	size_t n, room;
};

void *snapshot_walk_user(struct snapshot_walk *w)
{
	return w->user;
}

int snapshot_walk_fault(struct snapshot_walk *w, int err, const char *step)
{
	char path[400] = "";
	size_t at = 0;

	for (size_t i = 0; i < w->n && at < sizeof(path) - 1; i++) {
		const char *name = w->v[i].names ? w->v[i].names + w->v[i].name : "";

		if (w->v[i].at <= w->v[i].size && *name)
			at += (size_t)snprintf(path + at, sizeof(path) - at, "/%s", name);
	}
	return fault_sys(w->c->f, err, step, *path ? path : "/");
}

/* ---- levels */

static void level_clear(struct level *l)
{
	fd_close(&l->from);
	fd_close(&l->to);
	free(l->names);
}

static int read_names(struct level *l)
{
	/* a duplicate would share the offset of who has read it before */
	int own = openat(l->from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;
	size_t room = 0;

	if (!dir) {
		r = -errno;
		if (own >= 0)
			close(own);
		return r;
	}
	while ((errno = 0, e = readdir(dir))) {
		size_t n = strlen(e->d_name) + 1;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (l->size + n > room) {
			char *grown = realloc(l->names, room = room ? room * 2 + n : 256 + n);

			if (!grown) {
				closedir(dir);
				return -ENOMEM;
			}
			l->names = grown;
		}
		memcpy(l->names + l->size, e->d_name, n);
		l->size += n;
	}
	r = errno ? -errno : 0;
	closedir(dir);
	return r;
}

/* Takes the fds over, also when it fails. */
static int push(struct snapshot_walk *w, int from, int to)
{
	struct level *l;
	struct stat st = { 0 };
	int r;

	if (w->n == w->room) {
		size_t room = w->room ? w->room * 2 : 16;
		struct level *grown = realloc(w->v, room * sizeof(*grown));

		if (!grown) {
			fd_close(&from);
			fd_close(&to);
			return snapshot_walk_fault(w, ENOMEM, w->visitor->step);
		}
		w->v = grown;
		w->room = room;
	}
	l = &w->v[w->n];
	*l = (struct level){ .from = from, .to = to };
	r = fstat(from, &l->st) < 0 || (to >= 0 && fstat(to, &st) < 0) ? -errno : read_names(l);
	if (!r && to >= 0) {
		l->to_dev = st.st_dev;
		l->to_ino = st.st_ino;
	}
	if (r) {
		level_clear(l);
		return snapshot_walk_fault(w, -r, w->visitor->step);
	}
	if (w->n >= OPEN_LEVELS) {
		fd_close(&w->v[w->n - OPEN_LEVELS].from);
		fd_close(&w->v[w->n - OPEN_LEVELS].to);
	}
	w->n++;
	return 0;
}

static int up(int below, dev_t dev, ino_t ino, int *fd)
{
	struct stat st;

	*fd = openat(below, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return -errno;
	return st.st_dev == dev && st.st_ino == ino ? 0 : -EAGAIN;
}

/* Leaves the last level. */
static int pop(struct snapshot_walk *w)
{
	struct level *l = &w->v[w->n - 1];
	int r = 0;

	if (w->n > 1 && l[-1].from < 0) {
		struct level *above = l - 1;

		r = up(l->from, above->st.st_dev, above->st.st_ino, &above->from);
		if (!r && l->to >= 0)
			r = up(l->to, above->to_dev, above->to_ino, &above->to);
	}
	if (r < 0)
		snapshot_walk_fault(w, -r, w->visitor->step);
	level_clear(l);
	w->n--;
	return r;
}

/* ---- entries */

static int enter(struct snapshot_walk *w, const struct level *l, const char *name,
		 const struct stat *st)
{
	int from = openat(l->from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), to = -1;
	struct stat now;

	if (from < 0 && w->visitor->changing && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (from < 0 || fstat(from, &now) < 0) {
		int err = errno;

		fd_close(&from);
		return snapshot_walk_fault(w, err, w->visitor->step);
	}
	if (now.st_dev != l->st.st_dev || (!w->visitor->changing && now.st_ino != st->st_ino)) {
		close(from);
		/* what is mounted in there is not its own */
		return w->visitor->changing ? 0 : snapshot_walk_fault(w, EBUSY, w->visitor->step);
	}
	if (l->to >= 0) {
		to = openat(l->to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (to < 0) {
			int err = errno;

			close(from);
			return snapshot_walk_fault(w, err, w->visitor->step);
		}
	}
	if (w->n > LIMIT_TREE_DEPTH) {
		fd_close(&from);
		fd_close(&to);
		fault_set(w->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "%s: more than %u folders in folders", w->visitor->step,
			  LIMIT_TREE_DEPTH);
		return -E2BIG;
	}
	return push(w, from, to);
}

static int visit(struct snapshot_walk *w, const char *name)
{
	struct level *l = &w->v[w->n - 1];
	struct stat st;
	int r;

	if (fstatat(l->from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT && w->visitor->changing)
			return 0;
		return snapshot_walk_fault(w, errno, w->visitor->step);
	}
	r = w->visitor->entry(w, &(struct snapshot_entry){
					 .from = l->from, .to = l->to, .name = name, .st = &st });
	if (r < 0 || !S_ISDIR(st.st_mode))
		return r;
	return enter(w, l, name, &st);
}

static int leave(struct snapshot_walk *w)
{
	struct level *l = &w->v[w->n - 1];

	l->at++; /* nothing of it is being visited, for faults */
	if (!w->visitor->leave)
		return 0;
	return w->visitor->leave(
		w,
		&(struct snapshot_entry){ .from = l->from, .to = l->to, .name = "", .st = &l->st });
}

int snapshot_walk(struct store_call *c, int from, int to, const struct snapshot_visitor *visitor,
		  void *user)
{
	struct snapshot_walk w = { .c = c, .visitor = visitor, .user = user };
	int own = fcntl(from, F_DUPFD_CLOEXEC, 0), own_to = -1, r;

	if (own >= 0 && to >= 0)
		own_to = fcntl(to, F_DUPFD_CLOEXEC, 0);
	if (own < 0 || (to >= 0 && own_to < 0)) {
		r = fault_sys(c->f, errno, visitor->step, "/");
		fd_close(&own);
		return r;
	}
	r = push(&w, own, own_to);
	while (!r && w.n) {
		struct level *l = &w.v[w.n - 1];

		if (l->at < l->size) {
			const char *name = l->names + l->at;

			r = store_cancelled(c);
			l->name = l->at;
			l->at += strlen(name) + 1;
			if (!r)
				r = visit(&w, name);
			continue;
		}
		r = leave(&w);
		if (!r)
			r = pop(&w);
	}
	while (w.n)
		level_clear(&w.v[--w.n]);
	free(w.v);
	return r;
}

/* ---- usage */

struct usage {
	struct snapshot_usage sum;
	ino_t *links; /* inodes with several names: a hash table, 0 is empty */
	size_t n_links, room;
};

static size_t place(const struct usage *u, ino_t ino)
{
	size_t at = (size_t)(ino * 0x9e3779b97f4a7c15ull >> 20) & (u->room - 1);

	while (u->links[at] && u->links[at] != ino)
		at = (at + 1) & (u->room - 1);
	return at;
}

/* 1: it was there already, 0: it is now; -ENOMEM */
static int seen(struct usage *u, ino_t ino)
{
	struct usage old = *u;
	size_t at;

	if (u->n_links * 2 >= u->room) {
		u->room = u->room ? u->room * 2 : 256;
		u->links = calloc(u->room, sizeof(*u->links));
		if (!u->links) {
			*u = old;
			return -ENOMEM;
		}
		for (size_t i = 0; i < old.room; i++)
			if (old.links[i])
				u->links[place(u, old.links[i])] = old.links[i];
		free(old.links);
	}
	at = place(u, ino);
	if (u->links[at])
		return 1;
	u->links[at] = ino;
	u->n_links++;
	return 0;
}

static int count(struct snapshot_walk *w, const struct snapshot_entry *e)
{
	struct usage *u = snapshot_walk_user(w);
	int r = 0;

	if (!S_ISDIR(e->st->st_mode) && e->st->st_nlink > 1)
		r = seen(u, e->st->st_ino);
	if (r < 0)
		return snapshot_walk_fault(w, -r, "count");
	if (r)
		return 0;
	u->sum.inodes++;
	u->sum.size += (uint64_t)e->st->st_blocks * 512;
	return 0;
}

int snapshot_tree_usage(struct store_call *c, int fd, struct snapshot_usage *out)
{
	static const struct snapshot_visitor visitor = { .entry = count,
							 .changing = true,
							 .step = "count" };
	struct usage u = { .sum.inodes = 1 };
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return fault_sys(c->f, errno, "count", "/");
	u.sum.size = (uint64_t)st.st_blocks * 512;
	r = snapshot_walk(c, fd, -1, &visitor, &u);
	free(u.links);
	*out = u.sum;
	return r;
}
