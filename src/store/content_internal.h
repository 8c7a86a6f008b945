// SPDX-License-Identifier: Apache-2.0
/*
 * Content, inside: what blobs, ingests and the index share
 */
#pragma once

#include "store/content.h"
#include "store/store_internal.h"

/* Refuses what is no digest, with the argument `digest` in the fault. */
int content_check_digest(struct store_call *c, const char *digest);
int content_not_found(struct store_call *c, const char *digest); /* the fault; -ENOENT */

/* Who has a blob. The rest is filled when somebody has. */
enum content_owner {
	CONTENT_NOBODY,
	CONTENT_OTHERS, /* other namespaces only */
	CONTENT_OWN,
};
/* With the database's lock held, for as long as the answer is to be true. */
int content_owner(struct store_call *c, const char *digest, enum content_owner *owner,
		  uint64_t *size);
/*
 * The rows of a blob whose file is in its place: of the blob when nobody has it, and of the call's
 * namespace. Inside a durable transaction of the caller.
 */
int content_insert(struct store_call *c, const char *digest, uint64_t size,
		   enum content_owner owner, const struct db_label *labels, size_t n);
/* Joins the call's lease, if it has one. Inside a durable transaction of the caller. */
int content_join(struct store_call *c, const char *digest);

/*
 * An event is made before the transaction ends, so that no memory can be a reason to refuse, and
 * becomes the call's once it has. 0 or negative; e is then to be cleared.
 */
int content_event(struct store_call *c, struct store_events *e, const char *topic,
		  const char *digest, uint64_t size);
void content_event_send(struct store_call *c, struct store_events *e);

/*
 * Takes the blob's name away, after the commit that took its rows, with the database's lock held
 * since before it. *fd keeps the space until it is closed, best without the lock (-1: there was no
 * file). -errno.
 */
int content_unlink(struct store *s, const char *digest, int *fd);

/*
 * Whether a commit has put a new file in the place of this digest, whose rows are still to come. With
 * the database's lock held for as long as the answer is to be true.
 */
bool ingest_places(struct store *s, const char *digest);

/*
 * Adds the fd's first `size` bytes to the hash, in pieces, with progress. -ECANCELED when the call
 * is cancelled (the fault is set then, and only then), -EIO when the file is shorter, -errno.
 */
int content_hash(struct store_call *c, int fd, uint64_t size, struct hasher *h);

/*
 * Whether the blob's file has the fd's first `size` bytes and no more: 1 or 0; 0 also when there is no
 * such file. -ECANCELED when the call is cancelled, -errno.
 */
int content_same(struct store_call *c, const char *digest, int fd, uint64_t size);

/*
 * A small file below `folder`, replaced as a whole: written, synced, renamed; the folder is synced.
 */
int content_write_file(int folder, const char *name, const void *data, size_t size);

/* Rows of the table in store.c. */
int content_start(struct store *s, struct fault *f);
int ingests_open(struct store *s, struct fault *f);
void ingests_close(struct store *s);
int content_index_open(struct store *s, struct fault *f);
void content_index_close(struct store *s);
