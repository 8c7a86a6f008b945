// SPDX-License-Identifier: Apache-2.0
/*
 * What garbage collection knows: a set of things by kind, namespace and key
 *
 * A store can have hundreds of thousands of blobs, so a node takes 8 bytes, its key lies in one
 * growing piece of memory, and namespaces are numbers. Nodes are never removed and keep their
 * numbers, in the order in which they were added. Open addressing, at most half full; the hash is
 * seeded, since keys are chosen by clients.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "store/gc_internal.h"

#define SLOTS_FIRST 256u

void gc_set_init(struct gc_set *s)
{
	*s = (struct gc_set){ 0 };
	if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) != (ssize_t)sizeof(s->seed))
		s->seed = (uint64_t)clock_now();
}

void gc_set_clear(struct gc_set *s)
{
	for (uint32_t i = 0; i < s->n_ns; i++)
		free(s->ns[i]);
	free(s->ns);
	free(s->nodes);
	free(s->slots);
	free(s->text);
	*s = (struct gc_set){ .seed = s->seed };
}

static uint64_t hash(const struct gc_set *s, unsigned kind, uint32_t ns, const char *key)
{
	uint64_t h = s->seed ^ ((uint64_t)kind << 56) ^ ((uint64_t)ns << 32);

	for (; *key; key++)
		h = (h ^ (unsigned char)*key) * 0x100000001b3ull;
	h ^= h >> 32;
	h *= 0x9e3779b97f4a7c15ull;
	return h ^ (h >> 29);
}

/* The slot that has it, or the free one where it belongs. There is at least one slot free. */
static uint32_t slot_of(const struct gc_set *s, unsigned kind, uint32_t ns, const char *key)
{
	uint32_t at = (uint32_t)hash(s, kind, ns, key) & (s->n_slots - 1);

	for (;; at = (at + 1) & (s->n_slots - 1)) {
		const struct gc_node *n;

		if (s->slots[at] == GC_NONE)
			return at;
		n = &s->nodes[s->slots[at]];
		if (n->kind == kind && n->ns == ns && !strcmp(s->text + n->key, key))
			return at;
	}
}

/* GC_NONE when it is not known. There are few, and the last added is the likeliest. */
static uint32_t ns_find(const struct gc_set *s, const char *ns)
{
	for (uint32_t i = s->n_ns; i--;)
		if (!strcmp(s->ns[i], ns))
			return i;
	return GC_NONE;
}

static int ns_add(struct gc_set *s, const char *ns, uint32_t *at)
{
	char **grown;

	*at = ns_find(s, ns);
	if (*at != GC_NONE)
		return 0;
	if (s->n_ns > UINT16_MAX)
		return -ENOMEM;
	grown = reallocarray(s->ns, s->n_ns + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	s->ns = grown;
	s->ns[s->n_ns] = strdup(ns);
	if (!s->ns[s->n_ns])
		return -ENOMEM;
	*at = s->n_ns++;
	return 0;
}

uint32_t gc_set_find(const struct gc_set *s, enum db_kind kind, const char *ns, const char *key)
{
	uint32_t number = ns_find(s, ns);

	if (number == GC_NONE || !s->n_slots)
		return GC_NONE;
	return s->slots[slot_of(s, kind, number, key)];
}

static int grow_slots(struct gc_set *s)
{
	uint32_t n = s->n_slots ? s->n_slots * 2 : SLOTS_FIRST;
	uint32_t *grown = n ? malloc(n * sizeof(*grown)) : NULL;

	if (!grown)
		return -ENOMEM;
	free(s->slots);
	s->slots = grown;
	s->n_slots = n;
	memset(grown, 0xff, n * sizeof(*grown));
	for (uint32_t i = 0; i < s->n; i++) {
		const struct gc_node *node = &s->nodes[i];

		grown[slot_of(s, node->kind, node->ns, s->text + node->key)] = i;
	}
	return 0;
}

static int add_text(struct gc_set *s, const char *key, uint32_t *at)
{
	size_t size = strlen(key) + 1;

	if (size > s->text_room - s->text_size) {
		size_t room = s->text_room ? s->text_room + s->text_room / 2 : 4096;
		char *grown;

		if (room < s->text_size + size)
			room = s->text_size + size;
		grown = room <= UINT32_MAX ? realloc(s->text, room) : NULL;
		if (!grown)
			return -ENOMEM;
		s->text = grown;
		s->text_room = room;
	}
	memcpy(s->text + s->text_size, key, size);
	*at = (uint32_t)s->text_size;
	s->text_size += size;
	return 0;
}

int gc_set_add(struct gc_set *s, enum db_kind kind, const char *ns, const char *key, uint32_t *at)
{
	uint32_t number, slot, text;
	int r = ns_add(s, ns, &number);

	if (!r && s->n >= s->n_slots / 2)
		r = grow_slots(s);
	if (r < 0)
		return r;
	slot = slot_of(s, kind, number, key);
	*at = s->slots[slot];
	if (*at != GC_NONE)
		return 0;
	if (s->n == s->room) {
		uint32_t room = s->room ? s->room + s->room / 2 : 64;
		struct gc_node *grown = reallocarray(s->nodes, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		s->nodes = grown;
		s->room = room;
	}
	r = add_text(s, key, &text);
	if (r < 0)
		return r;
	s->nodes[s->n] =
		(struct gc_node){ .key = text, .ns = (uint16_t)number, .kind = (uint8_t)kind };
	*at = s->slots[slot] = s->n++;
	return 0;
}
