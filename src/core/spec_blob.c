// SPDX-License-Identifier: Apache-2.0
/*
 * Specs as compressed text
 *
 * A blob is immutable but for its count of references, which the table's mutex guards, as it does
 * the table itself: blobs are made and dropped on workers too. The table holds no reference: the
 * last one to go removes the blob from it. Blobs are equal when their frames are, byte by byte.
 * zstd is deterministic, so equal texts share, unless their frames were made by different versions
 * of it.
 *
 * The table goes when its owner and the last blob have gone, in whichever order.
 */
#include "core/spec_blob.h"

#include <errno.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "util/cleanup.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/mp.h"

/* More buys nothing: a spec of 10 KB becomes 2.6 at any level. */
#define SPEC_BLOB_LEVEL 1

struct spec_blob {
	RB_ENTRY(spec_blob) node;
	struct spec_table *table;
	unsigned refs;
	uint32_t size, text_size;
	unsigned char frame[];
};
RB_HEAD(blob_tree, spec_blob);

struct spec_table {
	pthread_mutex_t lock;
	struct blob_tree tree;
	size_t count;
	bool orphan; /* its owner has gone */
};

static int blob_cmp(const struct spec_blob *a, const struct spec_blob *b)
{
	if (a->size != b->size)
		return a->size < b->size ? -1 : 1;
	return memcmp(a->frame, b->frame, a->size);
}

RB_GENERATE_INTERNAL(blob_tree, spec_blob, node, blob_cmp, static __attribute__((unused)))

int spec_table_new(struct spec_table **out)
{
	struct spec_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	RB_INIT(&t->tree);
	*out = t;
	return 0;
}

static void table_destroy(struct spec_table *t)
{
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void spec_table_free(struct spec_table *t)
{
	bool empty;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->orphan = true;
	empty = !t->count;
	pthread_mutex_unlock(&t->lock);
	if (empty)
		table_destroy(t);
}

size_t spec_table_count(struct spec_table *t)
{
	size_t n;

	pthread_mutex_lock(&t->lock);
	n = t->count;
	pthread_mutex_unlock(&t->lock);
	return n;
}

/* Puts b, which nobody else knows yet, into the table, or takes the equal one that is there. */
static struct spec_blob *intern(struct spec_table *t, struct spec_blob *b)
{
	struct spec_blob *old;

	b->table = t;
	b->refs = 1;
	pthread_mutex_lock(&t->lock);
	old = RB_INSERT(blob_tree, &t->tree, b);
	if (old)
		old->refs++;
	else
		t->count++;
	pthread_mutex_unlock(&t->lock);
	if (!old)
		return b;
	free(b);
	return old;
}

int spec_blob_new(struct spec_table *t, const char *text, size_t size, struct spec_blob **out,
		  struct fault *f)
{
	size_t room = ZSTD_compressBound(size), n;
	struct spec_blob *b, *cut;

	if (size > LIMIT_SPEC_BYTES)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, EFBIG,
				 "the spec is larger than %u bytes", LIMIT_SPEC_BYTES);
	b = malloc(sizeof(*b) + room);
	if (!b)
		return fault_sys(f, ENOMEM, "compress the spec", NULL);
	n = ZSTD_compress(b->frame, room, text, size, SPEC_BLOB_LEVEL);
	if (ZSTD_isError(n)) {
		free(b);
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "compress the spec: %s",
				 ZSTD_getErrorName(n));
	}
	b->size = (uint32_t)n;
	b->text_size = (uint32_t)size;
	cut = realloc(b, sizeof(*b) + n);
	*out = intern(t, cut ? cut : b);
	return 0;
}

int spec_blob_load(struct spec_table *t, const void *frame, size_t size, struct spec_blob **out)
{
	unsigned long long text_size = ZSTD_getFrameContentSize(frame, size);
	struct spec_blob *b;

	if (text_size == ZSTD_CONTENTSIZE_ERROR || text_size == ZSTD_CONTENTSIZE_UNKNOWN ||
	    text_size > LIMIT_SPEC_BYTES || size > UINT32_MAX)
		return -EINVAL;
	b = malloc(sizeof(*b) + size);
	if (!b)
		return -ENOMEM;
	b->size = (uint32_t)size;
	b->text_size = (uint32_t)text_size;
	memcpy(b->frame, frame, size);
	*out = intern(t, b);
	return 0;
}

struct spec_blob *spec_blob_ref(struct spec_blob *b)
{
	pthread_mutex_lock(&b->table->lock);
	b->refs++;
	pthread_mutex_unlock(&b->table->lock);
	return b;
}

void spec_blob_put(struct spec_blob *b)
{
	struct spec_table *t;
	bool last, end = false;

	if (!b)
		return;
	t = b->table;
	pthread_mutex_lock(&t->lock);
	last = --b->refs == 0;
	if (last) {
		RB_REMOVE(blob_tree, &t->tree, b);
		t->count--;
		end = t->orphan && !t->count;
	}
	pthread_mutex_unlock(&t->lock);
	if (last)
		free(b);
	if (end)
		table_destroy(t);
}

const void *spec_blob_frame(const struct spec_blob *b, size_t *size)
{
	*size = b->size;
	return b->frame;
}

size_t spec_blob_text_size(const struct spec_blob *b)
{
	return b->text_size;
}

int spec_blob_text(const struct spec_blob *b, char **text, size_t *size)
{
	CLEANUP_FREE char *buf = malloc((size_t)b->text_size + 1);
	size_t n;

	if (!buf)
		return -ENOMEM;
	n = ZSTD_decompress(buf, b->text_size, b->frame, b->size);
	if (ZSTD_isError(n) || n != b->text_size)
		return -EIO;
	buf[n] = 0;
	if (size)
		*size = n;
	*text = TAKE_PTR(buf);
	return 0;
}

int spec_blob_render(const struct spec_blob *b, msgpack_sbuffer *out)
{
	CLEANUP_FREE char *text = NULL;
	json_object *j = NULL;
	msgpack_packer pk;
	size_t size;
	int r = spec_blob_text(b, &text, &size);

	if (r < 0)
		return r;
	r = json_parse(text, size, &j, NULL);
	if (r < 0)
		return r;
	mp_packer_init(&pk, out);
	json_to_mp(j, &pk);
	json_object_put(j);
	return mp_failed(out) ? -ENOMEM : 0;
}
