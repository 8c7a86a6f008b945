// SPDX-License-Identifier: Apache-2.0
/*
 * Memory of large messages, kept for the next ones
 *
 * Blocks are the caller's from take to give. What is kept is bounded in number and bytes, and goes
 * when nobody has asked for a while: an idle daemon owns none.
 */
#include "ipc/spare.h"

#include <stdlib.h>

char *spare_take(struct spare *s, size_t least, size_t *size)
{
	struct spare_block *best = NULL;
	char *data;

	for (struct spare_block *b = s->v; b < s->v + s->n; b++)
		if (b->size >= least && (!best || b->size < best->size))
			best = b;
	if (!best)
		return NULL;
	data = best->data;
	*size = best->size;
	s->bytes -= best->size;
	s->used = true;
	*best = s->v[--s->n];
	return data;
}

void spare_give(struct spare *s, char *data, size_t size)
{
	if (!data)
		return;
	s->used = true;
	if (size < SPARE_LEAST || s->n == SPARE_MOST || s->bytes + size > SPARE_BYTES) {
		free(data);
		return;
	}
	s->v[s->n++] = (struct spare_block){ data, size };
	s->bytes += size;
}

bool spare_rest(struct spare *s)
{
	if (!s->used)
		spare_clear(s);
	s->used = false;
	return s->n;
}

void spare_clear(struct spare *s)
{
	while (s->n)
		free(s->v[--s->n].data);
	s->bytes = 0;
}
