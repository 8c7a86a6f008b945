// SPDX-License-Identifier: Apache-2.0
/*
 * Fds by key, in the order of keys, so that all of one container are dropped by their common
 * beginning, and a hand-over that was interrupted goes on behind the last key it sent. The store
 * owns its fds.
 */
#include "core/fd_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int item_cmp(const struct fd_item *a, const struct fd_item *b)
{
	return strcmp(a->key, b->key);
}

RB_GENERATE_INTERNAL(fd_tree, fd_item, node, item_cmp, static __attribute__((unused)))

static struct fd_item *item_new(const char *key, int fd)
{
	size_t n = strlen(key) + 1;
	struct fd_item *it = malloc(sizeof(*it) + n);

	if (!it)
		return NULL;
	it->fd = fd;
	memcpy(it->key, key, n);
	return it;
}

static void item_drop(struct fd_store *s, struct fd_item *it)
{
	RB_REMOVE(fd_tree, &s->tree, it);
	s->count--;
	close(it->fd);
	free(it);
}

void fd_store_init(struct fd_store *s)
{
	RB_INIT(&s->tree);
	s->count = 0;
}

void fd_store_clear(struct fd_store *s)
{
	while (!RB_EMPTY(&s->tree))
		item_drop(s, RB_ROOT(&s->tree));
}

int fd_store_put(struct fd_store *s, const char *key, int fd)
{
	struct fd_item *it = item_new(key, fd), *old;

	if (!it) {
		close(fd);
		return -ENOMEM;
	}
	old = RB_INSERT(fd_tree, &s->tree, it);
	if (old) {
		close(old->fd);
		old->fd = fd;
		free(it);
	} else {
		s->count++;
	}
	return 0;
}

/* The first with a key not below this one. */
static struct fd_item *item_from(struct fd_store *s, const char *key)
{
	struct fd_item *it = RB_ROOT(&s->tree), *best = NULL;

	while (it) {
		int c = strcmp(key, it->key);

		if (!c)
			return it;
		if (c < 0) {
			best = it;
			it = RB_LEFT(it, node);
		} else {
			it = RB_RIGHT(it, node);
		}
	}
	return best;
}

struct fd_item *fd_store_after(struct fd_store *s, const char *key)
{
	struct fd_item *it = item_from(s, key);

	if (it && !strcmp(it->key, key))
		it = RB_NEXT(fd_tree, &s->tree, it);
	return it;
}

void fd_store_drop(struct fd_store *s, const char *key)
{
	struct fd_item *it = item_from(s, key);

	if (it && !strcmp(it->key, key))
		item_drop(s, it);
}

void fd_store_drop_prefix(struct fd_store *s, const char *prefix)
{
	size_t n = strlen(prefix);
	struct fd_item *it = item_from(s, prefix);

	while (it && !strncmp(it->key, prefix, n)) {
		struct fd_item *next = RB_NEXT(fd_tree, &s->tree, it);

		item_drop(s, it);
		it = next;
	}
}
