// SPDX-License-Identifier: Apache-2.0
/*
 * Unpacking side by side: layers of an overlay need not wait for each other
 *
 * A layer's folder holds what the layer changes, whatever is below it, so all of them are filled at
 * the same time, by a few threads of this call's own, each into an active snapshot that has no
 * parent yet. The calling thread then takes them in their order: what a layer used of the folders
 * below without saying so gets their attributes (layer_inherit), the snapshot gets its parent, and
 * is committed. So a chain is never there without what it stands on.
 *
 * The threads touch one layer each, with a call and a fault of its own; `lock` guards the counter,
 * and `done` of the layers. The first failure, or the end of the caller's patience, tells all of
 * them to stop, and none outlives the call.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "store/image_unpack_internal.h"
#include "store/snapshot_internal.h"
#include "util/fd.h"
#include "util/limits.h"

#define STACK (1u << 20)
#define TURN_MS 50 /* between two looks at the caller's cancel flag */

struct side {
	struct unpack *u;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t next; /* layer that no thread has taken */
	struct cancel stop;
	pthread_t threads[LIMIT_UNPACK_THREADS];
	size_t n_threads;
};

static void *thread_run(void *arg)
{
	struct side *s = arg;
	struct unpack *u = s->u;

	pthread_mutex_lock(&s->lock);
	while (s->next < u->n && !cancelled(&s->stop)) {
		struct unpack_layer *l = &u->v[s->next++];
		struct store_call c = *u->c;

		pthread_mutex_unlock(&s->lock);
		/* events are the calling thread's */
		c.events = NULL;
		c.cancel = &s->stop;
		c.f = &l->fault;
		l->r = unpack_apply(&c, l, LAYER_OVERLAY);
		pthread_mutex_lock(&s->lock);
		l->done = true;
		pthread_cond_signal(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static size_t thread_count(size_t layers)
{
	cpu_set_t set;
	size_t n = 1;

	if (!sched_getaffinity(0, sizeof(set), &set))
		n = (size_t)CPU_COUNT(&set);
	n = n < LIMIT_UNPACK_THREADS ? n : LIMIT_UNPACK_THREADS;
	return n < layers ? n : layers;
}

static int threads_start(struct side *s)
{
	size_t wanted = thread_count(s->u->n - s->u->first);
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);

	if (err)
		return fault_sys(s->u->c->f, err, "start a thread", NULL);
	pthread_attr_setstacksize(&attr, STACK);
	while (!err && s->n_threads < wanted) {
		err = pthread_create(&s->threads[s->n_threads], &attr, thread_run, s);
		s->n_threads += !err;
	}
	pthread_attr_destroy(&attr);
	/* one is enough */
	return s->n_threads ? 0 : fault_sys(s->u->c->f, err, "start a thread", NULL);
}

static void threads_end(struct side *s)
{
	cancel_set(&s->stop);
	while (s->n_threads)
		pthread_join(s->threads[--s->n_threads], NULL);
}

/* A layer that has failed, but not only because it was told to stop. */
static const struct unpack_layer *failed(const struct unpack *u)
{
	for (size_t i = u->first; i < u->n; i++)
		if (u->v[i].done && u->v[i].r < 0)
			return &u->v[i];
	return NULL;
}

static int await(struct side *s, const struct unpack_layer *l)
{
	struct store_call *c = s->u->c;
	const struct unpack_layer *bad;
	struct timespec until;
	int r = 0;

	pthread_mutex_lock(&s->lock);
	while (!r && !(bad = failed(s->u)) && !l->done) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += TURN_MS * 1000000l;
		until.tv_sec += until.tv_nsec / 1000000000l;
		until.tv_nsec %= 1000000000l;
		pthread_cond_timedwait(&s->changed, &s->lock, &until);
		r = store_cancelled(c);
	}
	if (!r && bad) {
		*c->f = bad->fault;
		r = bad->r;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Folders of all layers below, nearest first: this call's own, then those that had been there. */
static int inherit(struct unpack *u, size_t i, const int *older, size_t n_older)
{
	CLEANUP_FREE int *lower = calloc(u->n + n_older + 1, sizeof(*lower));
	struct unpack_layer *l = &u->v[i];
	size_t n = 0;
	int r;

	if (!lower)
		return image_no_memory(u->c->f);
	for (size_t j = i; j-- > u->first;)
		lower[n++] = u->v[j].folder;
	for (size_t j = 0; j < n_older; j++)
		lower[n++] = older[j];
	r = layer_inherit(l->folder, &l->result, lower, n, u->c->f);
	/* a folder as well, of which most layers say nothing */
	if (!r && n && !l->result.has_root)
		r = snapshot_tree_inherit(lower[0], l->folder, u->c->f);
	return r;
}

static int commit_all(struct side *s, const int *older, size_t n_older)
{
	struct unpack *u = s->u;
	int r = 0;

	for (size_t i = u->first; !r && i < u->n; i++) {
		struct unpack_layer *l = &u->v[i];

		r = await(s, l);
		if (!r)
			r = inherit(u, i, older, n_older);
		if (!r && i)
			r = snapshot_rebase(u->c, u->snapshotter, l->key, u->v[i - 1].chain.text);
		if (!r)
			r = unpack_commit(u, l);
	}
	return r;
}

/* The folders of what had been unpacked before, nearest first. */
static int open_older(struct unpack *u, int **fds, size_t *n)
{
	const char *chain;
	int *all, *parents = NULL;
	size_t n_parents = 0;
	int r;

	*fds = NULL;
	*n = 0;
	if (!u->first)
		return 0;
	chain = u->v[u->first - 1].chain.text;
	r = snapshot_parents(u->c, u->snapshotter, chain, &parents, &n_parents);
	if (r < 0)
		return r;
	all = calloc(n_parents + 1, sizeof(*all));
	r = all ? snapshot_folder(u->c, u->snapshotter, chain, &all[0]) : image_no_memory(u->c->f);
	if (r < 0) {
		while (n_parents)
			close(parents[--n_parents]);
		free(all);
	} else {
		for (size_t i = 0; i < n_parents; i++)
			all[i + 1] = parents[i];
		*fds = all;
		*n = n_parents + 1;
	}
	free(parents);
	return r;
}

static int run(struct side *s)
{
	struct unpack *u = s->u;
	int *older, r;
	size_t n;

	r = open_older(u, &older, &n);
	for (size_t i = u->first; !r && i < u->n; i++)
		r = unpack_prepare(u, &u->v[i], "");
	if (!r)
		r = threads_start(s);
	if (!r)
		r = commit_all(s, older, n);
	threads_end(s);
	while (n)
		close(older[--n]);
	free(older);
	unpack_discard(u);
	return r;
}

int unpack_side_by_side(struct unpack *u)
{
	struct side s = { .u = u, .next = u->first };
	pthread_condattr_t attr;
	int err = pthread_condattr_init(&attr), r;

	if (!err) {
		pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		err = pthread_cond_init(&s.changed, &attr);
		pthread_condattr_destroy(&attr);
	}
	if (err)
		return fault_sys(u->c->f, err, "start threads", NULL);
	pthread_mutex_init(&s.lock, NULL);
	r = run(&s);
	pthread_mutex_destroy(&s.lock);
	pthread_cond_destroy(&s.changed);
	return r;
}
