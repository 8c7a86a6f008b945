// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp programs, shared
 *
 * Most containers of a host have one of very few profiles, so a compiled program is kept under the SHA-256 of its
 * profile. The digest is taken over a plain encoding of the JSON tree, which is several times faster than
 * writing the tree as text.
 *
 * An entry holds a program and counts its references: one of the cache while it is in there, one of each
 * caller. The count is atomic, so that a reference can be given back without the cache, also
 * after the cache is gone. The list and the states are under the cache's mutex. An entry goes into the list
 * before it is compiled; who asks for the same profile meanwhile waits for it. When compiling fails the entry
 * leaves the list and each of those that waited tries for itself, to get a fault of its own.
 */
#include "runtime/seccomp.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/seccomp_internal.h"
#include "util/cleanup.h"

#define DIGEST 32

enum state { COMPILING, READY, FAILED };

struct entry {
	struct seccomp_program program; /* first: seccomp_put gets its address */
	atomic_uint refs;
	enum state state;
	unsigned char digest[DIGEST];
	TAILQ_ENTRY(entry) link;
};

TAILQ_HEAD(entry_list, entry);

struct seccomp_cache {
	pthread_mutex_t lock;
	pthread_cond_t compiled;
	struct entry_list entries; /* the most recently used first */
	size_t n, max;
};

struct buffer {
	unsigned char *data;
	size_t size, room;
	bool failed;
};

static void put_bytes(struct buffer *b, const void *data, size_t size)
{
	if (b->room - b->size < size) {
		size_t room = b->room * 2 + size + 4096;
		unsigned char *p = realloc(b->data, room);

		if (!p) {
			b->failed = true;
			return;
		}
		b->data = p;
		b->room = room;
	}
	memcpy(b->data + b->size, data, size);
	b->size += size;
}

static void put_tag(struct buffer *b, char tag, uint64_t value)
{
	unsigned char bytes[9];

	bytes[0] = (unsigned char)tag;
	memcpy(bytes + 1, &value, sizeof(value));
	if (!b->failed)
		put_bytes(b, bytes, sizeof(bytes));
}

static void put_text(struct buffer *b, char tag, const char *text, size_t size)
{
	put_tag(b, tag, size);
	if (!b->failed)
		put_bytes(b, text, size);
}

/* Different trees have different encodings: each value says its type and size. */
static void encode(struct buffer *b, json_object *j)
{
	double d;
	uint64_t bits;

	if (b->failed)
		return;
	switch (json_object_get_type(j)) {
	case json_type_null:
		put_tag(b, 'n', 0);
		break;
	case json_type_boolean:
		put_tag(b, 'b', (uint64_t)json_object_get_boolean(j));
		break;
	case json_type_int:
		if (json_object_get_int64(j) < 0)
			put_tag(b, '-', (uint64_t)json_object_get_int64(j));
		else
			put_tag(b, '+', json_object_get_uint64(j));
		break;
	case json_type_double:
		d = json_object_get_double(j);
		memcpy(&bits, &d, sizeof(bits));
		put_tag(b, 'd', bits);
		break;
	case json_type_string:
		put_text(b, 's', json_object_get_string(j), (size_t)json_object_get_string_len(j));
		break;
	case json_type_array:
		put_tag(b, 'a', json_object_array_length(j));
		for (size_t i = 0; i < json_object_array_length(j); i++)
			encode(b, json_object_array_get_idx(j, i));
		break;
	case json_type_object:
		put_tag(b, 'o', (uint64_t)json_object_object_length(j));
		json_object_object_foreach (j, key, value) {
			put_text(b, 'k', key, strlen(key));
			encode(b, value);
		}
		break;
	}
}

static int digest_of(json_object *profile, unsigned char digest[DIGEST], struct fault *f)
{
	struct buffer b = { 0 };
	int ok = 0;

	encode(&b, profile);
	if (!b.failed)
		ok = EVP_Digest(b.data, b.size, digest, NULL, EVP_sha256(), NULL);
	free(b.data);
	if (ok)
		return 0;
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "hashing the seccomp profile");
}

static struct entry *entry_new(unsigned refs)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (e)
		atomic_init(&e->refs, refs);
	return e;
}

static void entry_put(struct entry *e)
{
	if (atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
		return;
	seccomp_program_clear(&e->program);
	free(e);
}

int seccomp_cache_new(struct seccomp_cache **out, size_t entries)
{
	struct seccomp_cache *c = calloc(1, sizeof(*c));

	*out = NULL;
	if (!c)
		return -ENOMEM;
	/* The first call asks the kernel what it can; libseccomp keeps the answers without a lock. */
	seccomp_api_get();
	c->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	c->compiled = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
	TAILQ_INIT(&c->entries);
	c->max = entries;
	*out = c;
	return 0;
}

void seccomp_cache_free(struct seccomp_cache *c)
{
	struct entry *e;

	if (!c)
		return;
	while ((e = TAILQ_FIRST(&c->entries))) {
		TAILQ_REMOVE(&c->entries, e, link);
		entry_put(e);
	}
	pthread_cond_destroy(&c->compiled);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void remove_locked(struct seccomp_cache *c, struct entry *e)
{
	TAILQ_REMOVE(&c->entries, e, link);
	c->n--;
	entry_put(e);
}

static void evict_locked(struct seccomp_cache *c)
{
	struct entry *e = TAILQ_LAST(&c->entries, entry_list), *before;

	for (; e && c->n > c->max; e = before) {
		before = TAILQ_PREV(e, entry_list, link);
		if (e->state == READY)
			remove_locked(c, e);
	}
}

static struct entry *lookup_locked(struct seccomp_cache *c, const unsigned char digest[DIGEST])
{
	struct entry *e;

	TAILQ_FOREACH (e, &c->entries, link)
		if (!memcmp(e->digest, digest, DIGEST))
			return e;
	return NULL;
}

/*
 * A reference on the entry with this digest, compiled; or on a new one that the caller has to compile
 * (state COMPILING); NULL when memory is out.
 */
static struct entry *find_locked(struct seccomp_cache *c, const unsigned char digest[DIGEST])
{
	struct entry *e;

	while ((e = lookup_locked(c, digest))) {
		atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
		while (e->state == COMPILING)
			pthread_cond_wait(&c->compiled, &c->lock);
		if (e->state == READY) {
			/* While this thread waited, the entry may have been pushed out. */
			if (lookup_locked(c, digest) == e) {
				TAILQ_REMOVE(&c->entries, e, link);
				TAILQ_INSERT_HEAD(&c->entries, e, link);
			}
			return e;
		}
		entry_put(e);
	}
	e = entry_new(2);
	if (!e)
		return NULL;
	memcpy(e->digest, digest, DIGEST);
	TAILQ_INSERT_HEAD(&c->entries, e, link);
	c->n++;
	evict_locked(c);
	return e;
}

static int get_alone(json_object *profile, struct seccomp_program **out, struct fault *f)
{
	struct entry *e = entry_new(1);
	int r;

	if (!e)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "a seccomp program");
	r = seccomp_compile(profile, &e->program, f);
	if (r) {
		entry_put(e);
		return r;
	}
	*out = &e->program;
	return 0;
}

int seccomp_get(struct seccomp_cache *c, json_object *profile, struct seccomp_program **out,
		struct fault *f)
{
	unsigned char digest[DIGEST];
	struct entry *e;
	int r;

	*out = NULL;
	if (!c || !c->max)
		return get_alone(profile, out, f);
	r = digest_of(profile, digest, f);
	if (r)
		return r;
	pthread_mutex_lock(&c->lock);
	e = find_locked(c, digest);
	pthread_mutex_unlock(&c->lock);
	if (!e)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "a seccomp program");
	if (e->state == READY) {
		*out = &e->program;
		return 0;
	}

	r = seccomp_compile(profile, &e->program, f);
	pthread_mutex_lock(&c->lock);
	e->state = r ? FAILED : READY;
	if (r)
		remove_locked(c, e);
	else
		evict_locked(c);
	pthread_cond_broadcast(&c->compiled);
	pthread_mutex_unlock(&c->lock);
	if (r) {
		entry_put(e);
		return r;
	}
	*out = &e->program;
	return 0;
}

void seccomp_put(struct seccomp_program *p)
{
	if (p)
		entry_put((struct entry *)p);
}
