// SPDX-License-Identifier: Apache-2.0
/*
 * Images: ingests of what import and from_dir write
 *
 * The ref is made of what the blob is (its digest, its place in the archive), so that work which was
 * interrupted leaves one ingest behind at most, and doing it again uses that up. An archive is read
 * from its start, so an ingest begins at its start too. Two who import the same at the same time
 * must not fail: the second finds the ref taken and uses another one; whoever commits first has made
 * the blob.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "store/image_internal.h"

#define TRIES 4

int image_ingest_open(struct store_call *c, const char *key, const char *expected, int64_t total,
		      struct ingest **out)
{
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
		r = ingest_open(c, ref, expected, total, out);
	}
	if (r < 0 || !ingest_offset(*out))
		return r;
	r = ingest_restart(*out, total, c->f);
	if (r < 0) {
		ingest_close(*out);
		*out = NULL;
	}
	return r;
}
