// SPDX-License-Identifier: Apache-2.0
/*
 * Images: ingests of what import and from_dir write
 *
 * The ref is made of what the blob is (its digest, its place in the archive), so that work which was
 * interrupted leaves one ingest behind at most, and doing it again uses that up. Two who import the
 * same at the same time must not fail: the second finds the ref taken and uses another one; whoever
 * commits first has made the blob.
 *
 * An archive is read from its start. What an earlier import has left of a blob, killed or stopped by
 * a full disk, is compared as the same bytes come by again, and where it ends writing goes on; from
 * the first difference on (a power cut, another file at this place of another archive) it is cut off.
 *
 * A full disk leaves the ingest there, less a little: the database, index.json and the logs lie on
 * that disk as well, and whoever is to make room needs some. Nobody has to: a collection takes an
 * ingest that nobody came back for after a day, and content.abort at once.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "store/image_internal.h"

#define TRIES 4
/* Given back on a full disk: enough for the database to fill its own reserve again (db_reserve.c). */
#define SPARE_BYTES (4u << 20)

/* Reading again what is there is no part of the caller's way through the archive. */
static struct store_call without_progress(const struct store_call *c)
{
	struct store_call quiet = *c;

	quiet.progress = NULL;
	return quiet;
}

/* *own: the ref is the one that is made of the key alone. */
static int open_ref(struct store_call *c, const char *key, const char *expected, int64_t total,
		    struct ingest **out, bool *own)
{
	struct store_call quiet = without_progress(c);
	int r = -EBUSY;

	*out = NULL;
	for (int i = 0; r == -EBUSY && i < TRIES; i++) {
		CLEANUP_FREE char *ref = NULL;
		unsigned long long random = 0;

		if (i && getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return fault_sys(c->f, errno, "getrandom", NULL);
		if ((i ? asprintf(&ref, "image-%s-%016llx", key, random)
		       : asprintf(&ref, "image-%s", key)) < 0) {
			ref = NULL;
			return image_no_memory(c->f);
		}
		r = ingest_open(&quiet, ref, expected, total, out);
		*own = !i;
	}
	return r;
}

int image_ingest_open(struct store_call *c, const char *key, const char *expected, int64_t total,
		      struct ingest **out)
{
	bool own;
	int r = open_ref(c, key, expected, total, out, &own);

	if (r < 0 || !ingest_offset(*out))
		return r;
	r = ingest_restart(*out, total, c->f);
	if (r < 0) {
		ingest_close(*out);
		*out = NULL;
	}
	return r;
}

int image_blob_open(struct store_call *c, const char *key, const char *expected, int64_t total,
		    struct image_blob *out)
{
	*out = (struct image_blob){ 0 };
	return open_ref(c, key, expected, total, &out->to, &out->own);
}

static int shorten(struct store_call *c, struct image_blob *b)
{
	struct store_call quiet = without_progress(c);

	return ingest_shorten(&quiet, b->to, b->at);
}

int image_blob_add(struct store_call *c, struct image_blob *b, const void *data, size_t size)
{
	const char *p = data;
	uint64_t there = ingest_offset(b->to) - b->at; /* 0 once it is written to */
	size_t n = there < size ? (size_t)there : size;
	int r = n ? ingest_same(b->to, b->at, p, n, c->f) : 1;

	if (!r) {
		r = shorten(c, b);
		n = 0;
	}
	if (r >= 0 && size > n)
		r = ingest_write(b->to, p + n, size - n, c->f);
	b->at += size;
	return r < 0 ? r : 0;
}

void image_blob_fail(struct image_blob *b, int err)
{
	struct ingest *to = TAKE_PTR(b->to);

	if (to && b->own && (err == -ENOSPC || err == -EDQUOT))
		ingest_give_back(to, SPARE_BYTES);
	else
		ingest_discard(to);
}

int image_blob_commit(struct store_call *c, struct image_blob *b, const char *expected,
		      const char *path, struct digest *out)
{
	int r = b->at < ingest_offset(b->to) ? shorten(c, b) : 0;

	if (!r)
		r = ingest_commit(c, b->to, -1, expected, NULL, 0, out);
	if (!r || r == -EEXIST) {
		b->to = NULL;
		return 0;
	}
	image_blob_fail(b, r);
	fault_prefix(c->f, "%.256s", path);
	return r;
}
