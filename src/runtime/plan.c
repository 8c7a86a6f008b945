// SPDX-License-Identifier: Apache-2.0
/*
 * The launch plan's memory
 *
 * An arena of chunks that is freed as a whole, and two growing arrays: operations for the child, and files to be opened
 * before the clone. A plan belongs to one launch and one thread at a time. It borrows the spec, whose strings most operations point to.
 */
#include "runtime/plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/cleanup.h"
#include "util/fd.h"

#define CHUNK_BYTES 16384
#define CHUNK_ALIGN 16

struct plan_chunk {
	struct plan_chunk *next;
	size_t used, size;
	_Alignas(CHUNK_ALIGN) char data[];
};

int plan_no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "the launch plan");
}

void *plan_alloc(struct plan *p, size_t size)
{
	struct plan_chunk *c = p->chunks;
	void *out;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = (size + CHUNK_ALIGN - 1) & ~(size_t)(CHUNK_ALIGN - 1);
	if (!c || c->size - c->used < size) {
		size_t room = size > CHUNK_BYTES ? size : CHUNK_BYTES;

		c = malloc(sizeof(*c) + room);
		if (!c)
			return NULL;
		c->next = p->chunks;
		c->used = 0;
		c->size = room;
		p->chunks = c;
	}
	out = c->data + c->used;
	c->used += size;
	return memset(out, 0, size);
}

char *plan_strdup(struct plan *p, const char *s)
{
	size_t size = strlen(s) + 1;
	char *out = plan_alloc(p, size);

	return out ? memcpy(out, s, size) : NULL;
}

char *plan_printf(struct plan *p, const char *fmt, ...)
{
	va_list ap;
	char *out;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	out = plan_alloc(p, (size_t)n + 1);
	if (!out)
		return NULL;
	va_start(ap, fmt);
	vsnprintf(out, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return out;
}

struct plan_op *plan_add(struct plan *p, enum plan_kind kind, const char *step, const char *path)
{
	struct plan_op *op;

	if (p->n_ops == p->room_ops) {
		size_t room = p->room_ops ? p->room_ops * 2 : 64;
		struct plan_op *grown = reallocarray(p->ops, room, sizeof(*grown));

		if (!grown)
			return NULL;
		p->ops = grown;
		p->room_ops = room;
	}
	op = &p->ops[p->n_ops++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	op->step = step;
	op->path = path;
	return op;
}

struct plan_open *plan_add_open(struct plan *p, enum plan_open_kind kind, const char *path)
{
	struct plan_open *o;

	if (p->n_opens == p->room_opens) {
		size_t room = p->room_opens ? p->room_opens * 2 : 8;
		struct plan_open *opens = reallocarray(p->opens, room, sizeof(*opens));
		int *fds;

		if (!opens)
			return NULL;
		p->opens = opens;
		fds = reallocarray(p->fds, room, sizeof(*fds));
		if (!fds)
			return NULL;
		p->fds = fds;
		p->room_opens = room;
	}
	o = &p->opens[p->n_opens++];
	memset(o, 0, sizeof(*o));
	o->kind = kind;
	o->path = path;
	o->slot = (int)p->n_fds;
	p->fds[p->n_fds++] = -1;
	return o;
}

int plan_new(struct plan **out)
{
	struct plan *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->join_pidfd = p->userns = -1;
	p->join.v2_dir = -1;
	for (size_t i = 0; i < ARRAY_SIZE(p->stdio); i++)
		p->stdio[i] = -1;
	p->state_fds[0] = p->state_fds[1] = -1;
	p->oom_score_adj = INT_MIN;
	p->env_home = SIZE_MAX;
	*out = p;
	return 0;
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_fds; i++)
		fd_close(&p->fds[i]);
	fd_close(&p->userns);
	fd_close(&p->state_fds[0]);
	fd_close(&p->state_fds[1]);
	if (p->shared)
		munmap(p->shared, PLAN_SHARED_BYTES);
	for (struct plan_chunk *c = p->chunks, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	plan_free(p->outer);
	free(p->ops);
	free(p->opens);
	free(p->fds);
	free(p);
}
