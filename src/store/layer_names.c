// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: names in archives, and which of them were written
 *
 * A whiteout hides what the layers below have, never what its own layer brings, in whatever order
 * the two come. So applying remembers every path that it has written: by a hash of 64 bits, with a
 * seed of its own for each layer. Two paths of one hash would make one whiteout too few, in a layer
 * of whoever has found them without knowing the seed.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/layer_internal.h"
#include "util/cleanup.h"

#define ROOM_FIRST 1024u

/* ---- names */

const char *layer_name_clean(const char *name, char *out)
{
	size_t n = 0, depth = 0;

	while (*name) {
		size_t part = strcspn(name, "/");

		if (part == 2 && name[0] == '.' && name[1] == '.')
			return "its name has a '..'";
		if (part > NAME_MAX)
			return "a part of its name is longer than 255 bytes";
		if (part && !(part == 1 && name[0] == '.')) {
			if (n + (n != 0) + part + 1 > PATH_MAX)
				return "its name is longer than 4095 bytes";
			if (++depth > LIMIT_LAYER_DEPTH)
				return "it is too many folders deep";
			if (n)
				out[n++] = '/';
			memcpy(out + n, name, part);
			n += part;
		}
		name += part;
		name += *name == '/';
	}
	out[n] = '\0';
	return NULL;
}

int layer_path_join(char *out, const char *dir, const char *name)
{
	size_t n = strlen(dir), m = strlen(name);

	if (n + (n != 0) + m + 1 > PATH_MAX)
		return -ENAMETOOLONG;
	memmove(out, dir, n + 1);
	if (n)
		out[n++] = '/';
	memcpy(out + n, name, m + 1);
	return 0;
}

/* ---- what was written */

/* 0 means a free place. */
static uint64_t hash(const struct layer_names *s, const char *path)
{
	uint64_t h = s->seed ^ 0x9e3779b97f4a7c15u;

	for (; *path; path++) {
		h ^= (unsigned char)*path;
		h *= 0xff51afd7ed558ccdu;
		h ^= h >> 32;
	}
	h *= 0xc4ceb9fe1a85ec53u;
	h ^= h >> 29;
	return h ? h : 1;
}

static void put(uint64_t *v, size_t room, uint64_t h)
{
	size_t i = h & (room - 1);

	while (v[i] && v[i] != h)
		i = (i + 1) & (room - 1);
	v[i] = h;
}

static int grow(struct layer_names *s)
{
	size_t room = s->room ? s->room * 2 : ROOM_FIRST;
	uint64_t *v = calloc(room, sizeof(*v));

	if (!v)
		return -ENOMEM;
	if (!s->room && getrandom(&s->seed, sizeof(s->seed), 0) != sizeof(s->seed))
		s->seed = (uint64_t)(uintptr_t)v;
	for (size_t i = 0; i < s->room; i++)
		if (s->v[i])
			put(v, room, s->v[i]);
	free(s->v);
	s->v = v;
	s->room = room;
	return 0;
}

int layer_names_add(struct layer_names *s, const char *path)
{
	if (layer_names_has(s, path))
		return 0;
	if (s->n * 2 >= s->room && grow(s) < 0)
		return -ENOMEM;
	put(s->v, s->room, hash(s, path));
	s->n++;
	return 0;
}

bool layer_names_has(const struct layer_names *s, const char *path)
{
	uint64_t h;

	if (!s->n)
		return false;
	h = hash(s, path);
	for (size_t i = h & (s->room - 1); s->v[i]; i = (i + 1) & (s->room - 1))
		if (s->v[i] == h)
			return true;
	return false;
}

void layer_names_clear(struct layer_names *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}
