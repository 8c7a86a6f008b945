// SPDX-License-Identifier: Apache-2.0
/*
 * Ingests: content that is being written
 *
 * The table has every ingest that is on the disk, of all namespaces, and is what is asked about
 * them; the files (ingest_file.c) are for the next start. An entry is `busy` while somebody writes
 * to it, or removes it: that one thread alone touches its files, its hash and its memory, and it
 * alone takes the entry out of the table. Everybody else reads the few fields that the table's lock
 * guards. The lock is never held over I/O.
 *
 * The running hash stays with an entry when its writer leaves, so that the next one need not read
 * everything again; after a restart of the daemon it has to.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/ingest_internal.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define LIST_ROWS 64 /* copied out of the table at a time */

static int ingest_cmp(const struct ingest *a, const struct ingest *b)
{
	int c = strcmp(a->ns, b->ns);

	return c ? c : strcmp(a->ref, b->ref);
}

RB_GENERATE_INTERNAL(ingest_tree, ingest, node, ingest_cmp, static __attribute__((unused)))

static void unlock(pthread_mutex_t **lock)
{
	pthread_mutex_unlock(*lock);
}

/* Holds the table's lock to the end of the scope. */
#define TABLE_LOCKED(t)                                                                            \
	CLEANUP(unlock)                                                                            \
	__attribute__((unused))                                                                    \
	pthread_mutex_t *table_locked_ = (pthread_mutex_lock(&(t)->lock), &(t)->lock)

/* ---- entries */

static struct ingest *ingest_new(struct store *s, const char *ns, const char *ref)
{
	size_t n_ns = strlen(ns) + 1, n_ref = strlen(ref) + 1;
	struct ingest *i = calloc(1, sizeof(*i) + n_ns + n_ref);
	char *texts;

	if (!i)
		return NULL;
	texts = (char *)(i + 1);
	memcpy(texts, ns, n_ns);
	memcpy(texts + n_ns, ref, n_ref);
	i->ns = texts;
	i->ref = texts + n_ns;
	i->s = s;
	i->fd = -1;
	i->total = -1;
	return i;
}

static void ingest_free(struct ingest *i)
{
	fd_close(&i->fd);
	hasher_free(i->hasher);
	free(i);
}

static struct ingest *table_find(struct ingests *t, const char *ns, const char *ref)
{
	struct ingest key = { .ns = ns, .ref = ref };

	return RB_FIND(ingest_tree, &t->tree, &key);
}

/* The first of the namespace behind `after`. */
static struct ingest *table_next(struct ingests *t, const char *ns, const char *after)
{
	struct ingest key = { .ns = ns, .ref = after };
	struct ingest *i = RB_NFIND(ingest_tree, &t->tree, &key);

	if (i && !ingest_cmp(i, &key))
		i = RB_NEXT(ingest_tree, &t->tree, i);
	return i && !strcmp(i->ns, ns) ? i : NULL;
}

/* With the lock: it has a writer from here on. */
static void take(struct ingests *t, struct ingest *i)
{
	i->busy = true;
	t->n_hashers -= !!i->hasher;
}

void ingest_drop(struct ingest *i)
{
	struct ingests *t = i->s->ingests;

	{
		TABLE_LOCKED(t);

		RB_REMOVE(ingest_tree, &t->tree, i);
		t->n--;
	}
	ingest_free(i);
}

/* ---- opening */

static int check_ref(struct store_call *c, const char *ref)
{
	size_t n = ref ? strnlen(ref, LIMIT_REF_BYTES + 1) : 0;

	if (n && n <= LIMIT_REF_BYTES)
		return 0;
	fault_set(c->f, FAULT_INVALID_ARGUMENT, 0,
		  n ? "the ref has more than %u bytes"
		    : "the ref is empty; 1 to %u bytes are taken",
		  LIMIT_REF_BYTES);
	fault_arg(c->f, "ref");
	return -EINVAL;
}

static int is_locked(struct store_call *c, const char *ref)
{
	fault_set(c->f, FAULT_UNAVAILABLE, 0, "ref %.256s locked: another writer has it", ref);
	fault_arg(c->f, "ref");
	return -EBUSY;
}

static int no_ref(struct store_call *c, const char *ref)
{
	fault_set(c->f, FAULT_NOT_FOUND, 0, "there is no ingest %.256s in the namespace %s", ref,
		  c->ns);
	fault_arg(c->f, "ref");
	return -ENOENT;
}

/* One with a writer's rights: found, or new. */
static int acquire(struct store_call *c, const char *ref, struct ingest **out, bool *is_new)
{
	struct ingests *t = c->store->ingests;
	TABLE_LOCKED(t);
	struct ingest *i = table_find(t, c->ns, ref);
	int r;

	*is_new = !i;
	if (i) {
		if (i->busy)
			return is_locked(c, ref);
		take(t, i);
		*out = i;
		return 0;
	}
	if (t->n >= LIMIT_INGESTS) {
		fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "there are %u ingests, the most there can be: abort some", LIMIT_INGESTS);
		return -ENOSPC;
	}
	i = ingest_new(c->store, c->ns, ref);
	if (!i)
		return fault_sys(c->f, ENOMEM, "write", "ref");
	r = ingest_files_name(i->ns, i->ref, i->name);
	if (r < 0) {
		ingest_free(i);
		return fault_sys(c->f, -r, "write", "ref");
	}
	i->started_at = i->updated_at = clock_now();
	i->busy = true;
	RB_INSERT(ingest_tree, &t->tree, i);
	t->n++;
	*out = i;
	return 0;
}

static int join(struct store_call *c, struct ingest *i)
{
	struct db *db = c->store->db;
	int r;

	if (!c->lease || !c->lease[0])
		return 0;
	/* its data may be lost with the power, and so may this */
	r = db_begin(db, DB_NORMAL, c->f);
	if (!r)
		r = db_end(db, lease_join(c, LEASE_INGESTS, i->ref), c->f);
	i->leased = !r;
	return r;
}

/* What a writer knows of it. *changed, *anew: its notes, or all of it, are to be written again. */
static void learn(struct ingest *i, const char *expected, int64_t total, bool *changed, bool *anew)
{
	TABLE_LOCKED(i->s->ingests);

	*changed = *anew = false;
	if (total >= 0 && total != i->total) {
		*anew = i->total >= 0 || i->offset > (uint64_t)total;
		i->total = total;
		*changed = true;
	}
	if (expected && strcmp(expected, i->expected.text)) {
		digest_parse(expected, &i->expected);
		*changed = true;
	}
	i->updated_at = clock_now();
}

static int prepare(struct store_call *c, struct ingest *i, bool is_new, const char *expected,
		   int64_t total)
{
	bool changed, anew;
	int r = is_new ? 0 : ingest_files_open(i, c->f);

	if (r < 0)
		return r;
	learn(i, expected, total, &changed, &anew);
	if (is_new)
		r = ingest_files_create(i, c->f);
	else if (anew)
		r = ingest_reset(i, total, c->f);
	else if (changed)
		r = ingest_files_note(i, c->f);
	return r < 0 ? r : ingest_rehash(c, i);
}

int ingest_check_expected(struct store_call *c, const char *ref, const char *expected)
{
	int r = content_check_digest(c, expected);

	if (r < 0) {
		fault_arg(c->f, "expected");
		return r;
	}
	return ingest_known(c, ref, expected);
}

int ingest_expect(struct store_call *c, struct ingest *i, const char *expected, int64_t total)
{
	bool changed, anew;
	int r = 0;

	if (expected && strcmp(expected, i->expected.text))
		r = ingest_check_expected(c, i->ref, expected);
	if (r == -EEXIST)
		ingest_discard(i);
	if (r < 0)
		return r;
	learn(i, expected, total, &changed, &anew);
	if (anew)
		return ingest_reset(i, total, c->f);
	return changed ? ingest_files_note(i, c->f) : 0;
}

int ingest_open(struct store_call *c, const char *ref, const char *expected, int64_t total,
		struct ingest **out)
{
	struct ingest *i = NULL;
	bool is_new = false;
	int r = check_ref(c, ref);

	*out = NULL;
	if (!r && expected)
		r = ingest_check_expected(c, ref, expected);
	if (!r)
		r = acquire(c, ref, &i, &is_new);
	if (r < 0 || !i)
		return r;
	r = prepare(c, i, is_new, expected, total);
	if (!r)
		r = join(c, i);
	if (!r)
		*out = i;
	else if (is_new)
		ingest_discard(i);
	else
		ingest_close(i);
	return r;
}

/* ---- leaving */

void ingest_close(struct ingest *i)
{
	struct ingests *t;
	struct hasher *spare = NULL;

	if (!i)
		return;
	t = i->s->ingests;
	ingest_files_touch(i);
	fd_close(&i->fd);
	i->leased = false;
	{
		TABLE_LOCKED(t);

		if (t->n_hashers >= LIMIT_INGEST_HASHES)
			spare = TAKE_PTR(i->hasher);
		t->n_hashers += !!i->hasher;
		i->busy = false;
	}
	hasher_free(spare);
}

void ingest_discard(struct ingest *i)
{
	if (!i)
		return;
	/* what cannot be removed now goes when the ref is used again, or at the next start */
	ingest_files_remove(i);
	ingest_drop(i);
}

/* ---- what there is */

void ingest_status(const struct ingest *i, struct ingest_status *out)
{
	struct ingests *t = i->s->ingests;
	TABLE_LOCKED(t);

	*out = (struct ingest_status){
		.ref = i->ref,
		.offset = i->offset,
		.total = i->total,
		.started_at = i->started_at,
		.updated_at = i->updated_at,
		.expected = i->expected.text,
		.digest = "",
	};
}

/* Out of the table: callbacks may call anything. */
struct copy {
	struct ingest_status status;
	struct digest expected, digest;
	char *ref;
};

static int copy_status(struct copy *to, const struct ingest *i)
{
	to->ref = strdup(i->ref);
	if (!to->ref)
		return -ENOMEM;
	to->expected = i->expected;
	*to->digest.text = '\0';
	to->status = (struct ingest_status){
		.ref = to->ref,
		.offset = i->offset,
		.total = i->total,
		.started_at = i->started_at,
		.updated_at = i->updated_at,
		.expected = to->expected.text,
		.digest = to->digest.text,
	};
	return 0;
}

int ingest_get(struct store_call *c, const char *ref, ingest_fn fn, void *user)
{
	struct ingests *t = c->store->ingests;
	struct copy copy = { 0 };
	int r = check_ref(c, ref);

	if (r < 0)
		return r;
	{
		TABLE_LOCKED(t);
		struct ingest *i = table_find(t, c->ns, ref);

		r = i ? copy_status(&copy, i) : -ENOENT;
	}
	if (r == -ENOENT)
		return no_ref(c, ref);
	if (r < 0)
		return fault_sys(c->f, -r, "read", "ref");
	r = fn(user, &copy.status);
	free(copy.ref);
	return r;
}

/* 1: there is no hash, and nobody writes; then *h, of as many bytes, becomes the entry's if it has none. */
static int copy_hashed(struct ingests *t, struct ingest *i, struct hasher **h, struct copy *to)
{
	int r;

	if (*h && !i->busy && !i->hasher && t->n_hashers < LIMIT_INGEST_HASHES) {
		i->hasher = TAKE_PTR(*h);
		t->n_hashers++;
	}
	r = copy_status(to, i);
	if (r < 0 || i->busy)
		return r;
	if (!i->hasher && !*h)
		return 1;
	return hasher_digest(i->hasher ? i->hasher : *h, &to->digest);
}

/* Hashes what is there, while anybody may take it. NULL: it could not be read. -ECANCELED, -ENOMEM */
static int hash_idle(struct store_call *c, const char *name, uint64_t size, struct hasher **h)
{
	CLEANUP_CLOSE int fd = ingest_files_look(c->store, name);
	int r = fd < 0 ? 0 : hasher_new(h);

	if (!*h)
		return r;
	store_progress_phase(c->progress, "hash", size);
	r = content_hash(c, fd, size, *h);
	if (r < 0)
		hasher_free(TAKE_PTR(*h));
	return r == -ECANCELED || r == -ENOMEM ? r : 0;
}

/* One turn. 1: it has to be hashed first; then its folder's name is in `name`. */
static int look(struct store_call *c, const char *ref, struct hasher **h, struct copy *copy,
		char name[DIGEST_HEX + 1])
{
	struct ingests *t = c->store->ingests;
	TABLE_LOCKED(t);
	struct ingest *i = table_find(t, c->ns, ref);
	int r;

	if (!i)
		return -ENOENT;
	/* written to in the meantime: another hash */
	if (*h && (i->offset != copy->status.offset || i->updated_at != copy->status.updated_at))
		hasher_free(TAKE_PTR(*h));
	free(TAKE_PTR(copy->ref));
	r = copy_hashed(t, i, h, copy);
	memcpy(name, i->name, DIGEST_HEX + 1);
	return r;
}

int ingest_look(struct store_call *c, const char *ref, ingest_fn fn, void *user)
{
	struct copy copy = { 0 };
	struct hasher *h = NULL;
	char name[DIGEST_HEX + 1];
	int r = check_ref(c, ref);

	if (r < 0)
		return r;
	while ((r = look(c, ref, &h, &copy, name)) > 0) {
		r = hash_idle(c, name, copy.status.offset, &h);
		if (r < 0 || !h)
			break;
	}
	hasher_free(h);
	if (!r)
		r = fn(user, &copy.status);
	else if (r == -ENOENT)
		no_ref(c, ref);
	else if (r != -ECANCELED)
		fault_sys(c->f, -r, "read", "ref");
	free(copy.ref);
	return r;
}

int ingest_list(struct store_call *c, const char *after, ingest_fn fn, void *user)
{
	struct ingests *t = c->store->ingests;
	CLEANUP_FREE struct copy *v = calloc(LIST_ROWS, sizeof(*v));
	CLEANUP_FREE char *last = NULL;
	size_t n = LIST_ROWS;
	int r = 0;

	if (!v)
		return fault_sys(c->f, ENOMEM, "list", NULL);
	while (!r && n == LIST_ROWS) {
		n = 0;
		{
			TABLE_LOCKED(t);
			struct ingest *i = table_next(t, c->ns, after);

			while (i && !strcmp(i->ns, c->ns) && n < LIST_ROWS && !r) {
				r = copy_status(&v[n], i);
				n += !r;
				i = RB_NEXT(ingest_tree, &t->tree, i);
			}
		}
		if (r < 0)
			fault_sys(c->f, -r, "list", NULL);
		for (size_t k = 0; k < n; k++) {
			if (!r)
				r = fn(user, &v[k].status);
			if (k + 1 < n)
				free(v[k].ref);
		}
		if (n) {
			free(last);
			after = last = v[n - 1].ref;
		}
	}
	return r;
}

bool ingest_any(struct store *s, const char *ns)
{
	TABLE_LOCKED(s->ingests);

	return table_next(s->ingests, ns, "");
}

int ingest_abort(struct store_call *c, const char *ref)
{
	struct ingests *t = c->store->ingests;
	struct ingest *i;
	int r = check_ref(c, ref);

	if (r < 0)
		return r;
	{
		TABLE_LOCKED(t);

		i = table_find(t, c->ns, ref);
		if (i && i->busy)
			return is_locked(c, ref);
		if (i)
			take(t, i);
	}
	if (!i)
		return no_ref(c, ref);
	ingest_discard(i);
	return 0;
}

/* ---- collection */

struct candidate {
	char *ns, *ref;
};

static void candidates_free(struct candidate *v, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		free(v[k].ns);
		free(v[k].ref);
	}
	free(v);
}

static bool is_old(const struct ingest *i, int64_t before)
{
	return !i->busy && i->updated_at < before;
}

/* keep may ask the database, whose lock comes before the table's: so names first, keep after. */
static int find_old(struct ingests *t, int64_t before, struct candidate **out, size_t *n)
{
	TABLE_LOCKED(t);
	struct candidate *v = calloc(t->n + 1, sizeof(*v));
	struct ingest *i;

	*n = 0;
	*out = NULL;
	if (!v)
		return -ENOMEM;
	RB_FOREACH (i, ingest_tree, &t->tree) {
		if (!is_old(i, before))
			continue;
		v[*n].ns = strdup(i->ns);
		v[*n].ref = strdup(i->ref);
		if (!v[*n].ns || !v[*n].ref) {
			candidates_free(v, *n + 1);
			return -ENOMEM;
		}
		++*n;
	}
	*out = v;
	return 0;
}

int ingest_expire(struct store *s, int64_t before,
		  bool (*keep)(void *user, const char *ns, const char *ref), void *user, bool dry,
		  uint64_t *n, uint64_t *bytes, struct fault *f)
{
	struct ingests *t = s->ingests;
	struct candidate *v;
	size_t n_v;
	int r = find_old(t, before, &v, &n_v);

	*n = *bytes = 0;
	if (r < 0)
		return fault_sys(f, -r, "look for old ingests", NULL);
	for (size_t k = 0; k < n_v; k++) {
		struct ingest *i;

		if (keep(user, v[k].ns, v[k].ref))
			continue;
		{
			TABLE_LOCKED(t);

			i = table_find(t, v[k].ns, v[k].ref);
			if (!i || !is_old(i, before))
				continue;
			++*n;
			*bytes += i->offset;
			if (dry)
				continue;
			take(t, i);
		}
		ingest_discard(i);
	}
	candidates_free(v, n_v);
	return 0;
}

/* ---- start and end */

static int add_found(struct store *s, const struct ingest_found *found)
{
	struct ingest *i = ingest_new(s, found->ns, found->ref);

	if (!i)
		return -ENOMEM;
	memcpy(i->name, found->name, sizeof(i->name));
	i->offset = found->status.offset;
	i->total = found->status.total;
	i->started_at = found->status.started_at;
	i->updated_at = found->status.updated_at;
	if (found->status.expected[0])
		digest_parse(found->status.expected, &i->expected);
	RB_INSERT(ingest_tree, &s->ingests->tree, i);
	s->ingests->n++;
	return 0;
}

int ingests_open(struct store *s, struct fault *f)
{
	int r;

	s->ingests = calloc(1, sizeof(*s->ingests));
	if (!s->ingests)
		return fault_sys(f, ENOMEM, "open the store", s->root);
	pthread_mutex_init(&s->ingests->lock, NULL);
	pthread_cond_init(&s->ingests->committed, NULL);
	LIST_INIT(&s->ingests->commits);
	RB_INIT(&s->ingests->tree);
	r = ingest_files_scan(s, add_found, f);
	if (r < 0)
		ingests_close(s);
	return r;
}

void ingests_close(struct store *s)
{
	struct ingest *i;

	while ((i = RB_ROOT(&s->ingests->tree))) {
		RB_REMOVE(ingest_tree, &s->ingests->tree, i);
		ingest_free(i);
	}
	pthread_cond_destroy(&s->ingests->committed);
	pthread_mutex_destroy(&s->ingests->lock);
	free(TAKE_PTR(s->ingests));
}
