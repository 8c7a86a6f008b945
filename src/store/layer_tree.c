// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: reading folders, inodes with several names, and the locale
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

/* ---- names in a folder */

struct growing {
	char *block;
	size_t size, room, n;
};

static int grow(struct growing *g, const char *name)
{
	size_t size = strlen(name) + 1;

	if (g->size + size > g->room) {
		size_t room = g->room ? g->room * 2 : 1024;
		char *block = realloc(g->block, room);

		if (!block)
			return -ENOMEM;
		g->block = block;
		g->room = room;
	}
	memcpy(g->block + g->size, name, size);
	g->size += size;
	g->n++;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *dir, struct growing *g)
{
	for (;;) {
		struct dirent *e;

		errno = 0;
		e = readdir(dir);
		if (!e)
			return -errno;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (grow(g, e->d_name) < 0)
			return -ENOMEM;
	}
}

int layer_list_read(struct layer_list *l, int fd)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
	struct growing g = { 0 };
	DIR *dir;

	memset(l, 0, sizeof(*l));
	if (own < 0)
		return -errno;
	dir = fdopendir(own);
	if (!dir) {
		r = -errno;
		close(own);
		return r;
	}
	r = read_names(dir, &g);
	closedir(dir);
	if (!r)
		l->v = calloc(g.n + 1, sizeof(*l->v));
	if (!l->v) {
		free(g.block);
		return r ? r : -ENOMEM;
	}
	l->block = g.block;
	l->n = g.n;
	for (size_t i = 0, at = 0; i < g.n; i++, at += strlen(g.block + at) + 1)
		l->v[i] = g.block + at;
	qsort(l->v, l->n, sizeof(*l->v), by_text);
	return 0;
}

void layer_list_clear(struct layer_list *l)
{
	free(l->v);
	free(l->block);
	memset(l, 0, sizeof(*l));
}

/* ---- inodes with several names */

static size_t inode_place(const struct layer_inode *v, size_t room, uint64_t dev, uint64_t ino)
{
	size_t i = (ino * 0x9e3779b97f4a7c15u + dev) >> 7 & (room - 1);

	while (v[i].path && (v[i].ino != ino || v[i].dev != dev))
		i = (i + 1) & (room - 1);
	return i;
}

static int inodes_grow(struct layer_inodes *s)
{
	size_t room = s->room ? s->room * 2 : 256;
	struct layer_inode *v = calloc(room, sizeof(*v));

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < s->room; i++)
		if (s->v[i].path)
			v[inode_place(v, room, s->v[i].dev, s->v[i].ino)] = s->v[i];
	free(s->v);
	s->v = v;
	s->room = room;
	return 0;
}

struct layer_inode *layer_inodes_get(struct layer_inodes *s, const struct stat *st,
				     const char *path, bool *fresh)
{
	struct layer_inode *i;

	*fresh = false;
	if (s->n * 2 >= s->room && inodes_grow(s) < 0)
		return NULL;
	i = &s->v[inode_place(s->v, s->room, st->st_dev, st->st_ino)];
	if (i->path)
		return i;
	i->path = strdup(path);
	if (!i->path)
		return NULL;
	i->dev = st->st_dev;
	i->ino = st->st_ino;
	s->n++;
	*fresh = true;
	return i;
}

int layer_inode_name(struct layer_inode *i, const char *path)
{
	size_t size = strlen(path) + 1;
	struct layer_name *name = malloc(sizeof(*name) + size);

	if (!name)
		return -ENOMEM;
	memcpy(name->path, path, size);
	name->next = i->more;
	i->more = name;
	return 0;
}

void layer_inodes_clear(struct layer_inodes *s)
{
	for (size_t i = 0; i < s->room; i++) {
		struct layer_name *name;

		while ((name = s->v[i].more)) {
			s->v[i].more = name->next;
			free(name);
		}
		free(s->v[i].path);
	}
	free(s->v);
	memset(s, 0, sizeof(*s));
}

/* ---- the locale */

int layer_locale_enter(struct layer_locale *l)
{
	memset(l, 0, sizeof(*l));
	/* one that is not there changes nothing: then names pass as bytes */
	l->mine = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
	if (l->mine)
		l->before = uselocale(l->mine);
	else if (errno == ENOMEM)
		return -ENOMEM;
	return 0;
}

void layer_locale_leave(struct layer_locale *l)
{
	if (!l->mine)
		return;
	uselocale(l->before);
	freelocale(l->mine);
	l->mine = (locale_t)0;
}
