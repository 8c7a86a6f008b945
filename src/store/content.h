// SPDX-License-Identifier: Apache-2.0
/*
 * Content: blobs by digest
 *
 * A blob's file is shared; the labels, and whether it is seen at all, are a namespace's own.
 */
#pragma once

#include <sys/types.h>

#include "store/store.h"
#include "util/digest.h"

struct content_info {
	const char *digest;
	uint64_t size;
	const struct db_label *labels;
	size_t n_labels;
	int64_t created_at, updated_at;
};

/*
 * fn gets what lasts until it returns. FAULT_NOT_FOUND with -ENOENT. list: in the order of digests,
 * those behind `after` ("" for all), as long as fn answers 0; a positive answer ends it and is
 * returned.
 */
typedef int (*content_fn)(void *user, const struct content_info *info);
int content_info(struct store_call *c, const char *digest, content_fn fn, void *user);
int content_list(struct store_call *c, const char *after, content_fn fn, void *user);
/* 1: the namespace has it, 0: it does not. One that has it joins the lease. */
int content_has(struct store_call *c, const char *digest);
/*
 * Replaces the labels (an empty value is left out), then fn (may be NULL) gets the new state. Event
 * none, as in containerd.
 */
int content_set_labels(struct store_call *c, const char *digest, const struct db_label *labels,
		       size_t n, content_fn fn, void *user);
/* Sets one label beside the others; "" as value removes it. */
int content_set_label(struct store_call *c, const char *digest, const char *key, const char *value);
/* Sets several beside the others, as content_set_label does. */
int content_merge_labels(struct store_call *c, const char *digest, const struct db_label *labels,
			 size_t n);
/*
 * Out of the namespace, and off the disk when no other has it. Event /content/delete.
 * FAULT_NOT_FOUND.
 */
int content_delete(struct store_call *c, const char *digest);
/* A read-only fd of the file and its size (may be NULL). -ENOENT when the namespace has it not. */
int content_open(struct store_call *c, const char *digest, int *fd, uint64_t *size);
/*
 * The whole of a small blob, NUL-terminated, to be freed; checked against its digest. Larger than
 * `most` bytes: FAULT_FAILED_PRECONDITION.
 */
int content_read_all(struct store_call *c, const char *digest, size_t most, char **data,
		     size_t *size);
/* Hashes the file again. FAULT_FAILED_PRECONDITION names the digest expected and the one found. */
int content_verify(struct store_call *c, const char *digest);

/*
 * Writing. A ref (any text of 1 to LIMIT_REF_BYTES bytes without NUL, a namespace's own) names an
 * ingest; it has one writer at a time, who holds a struct ingest. What was written stays when the
 * writer is closed without commit, also over a restart; whoever opens the ref next goes on at its
 * end. What it hashes until then is hashed again by the opening call, which may take long.
 *
 * expected: a digest, NULL for unknown. When the namespace has it already: -EEXIST,
 * FAULT_ALREADY_EXISTS, it joins the lease, and an ingest under this ref goes. When only another
 * namespace has it, it is given to this one by its file, the same way (a namespace must prove that
 * it has the bytes only where it does not trust the daemon's clients; all of them are root).
 * total: expected size, -1 for unknown; an ingest with another total begins anew.
 * Locked: -EBUSY, FAULT_UNAVAILABLE "ref … locked".
 */
struct ingest;
int ingest_open(struct store_call *c, const char *ref, const char *expected, int64_t total,
		struct ingest **out);
/* What ingest_open says of `expected`: 0, -EEXIST, or -EINVAL when it is no digest. Nothing is kept. */
int ingest_check_expected(struct store_call *c, const char *ref, const char *expected);
/*
 * What its writer has learned since: as if opened with them. -EEXIST: there already; the ingest is
 * gone and i freed.
 */
int ingest_expect(struct store_call *c, struct ingest *i, const char *expected, int64_t total);
/*
 * Bytes so far. write: appends; -ENOSPC and so on leave what is there. More than total:
 * FAULT_OUT_OF_RANGE. restart: back to 0.
 */
uint64_t ingest_offset(const struct ingest *i);
int ingest_write(struct ingest *i, const void *data, size_t size, struct fault *f);
int ingest_restart(struct ingest *i, int64_t total, struct fault *f);
/* Whether the bytes at `at`, which are there, are these: 1 or 0. */
int ingest_same(struct ingest *i, uint64_t at, const void *data, size_t size, struct fault *f);
/* Cuts it back to the first `size` bytes, which are there and are hashed again. -ECANCELED. */
int ingest_shorten(struct store_call *c, struct ingest *i, uint64_t size);
/* Of the bytes so far. */
int ingest_digest(struct ingest *i, struct digest *out);
/*
 * Makes it a blob: checked, synced, renamed, folder synced, row committed; durable when 0 is
 * returned. size -1 and expected NULL: not checked. The ingest is gone and i freed in every case in
 * which 0 or -EEXIST is returned; -EEXIST (FAULT_ALREADY_EXISTS) when the namespace has that blob
 * already, which then has joined the lease. A wrong size or digest: FAULT_FAILED_PRECONDITION, i
 * stays. *out is the digest in all these cases. Event /content/create.
 */
int ingest_commit(struct store_call *c, struct ingest *i, int64_t size, const char *expected,
		  const struct db_label *labels, size_t n, struct digest *out);
/* Leaves what was written for a later opening. NULL is fine. */
void ingest_close(struct ingest *i);
/* As ingest_close, but the last bytes of it are given back; one that has no more is removed. */
void ingest_give_back(struct ingest *i, uint64_t bytes);
/* Closes and removes. NULL is fine. */
void ingest_discard(struct ingest *i);

struct ingest_status {
	const char *ref;
	uint64_t offset;
	int64_t total; /* -1 not known */
	int64_t started_at, updated_at;
	const char *expected; /* "" not known */
	const char *digest; /* of the bytes so far; "" but for ingest_look */
};
void ingest_status(const struct ingest *i, struct ingest_status *out);
typedef int (*ingest_fn)(void *user, const struct ingest_status *status);
int ingest_get(struct store_call *c, const char *ref, ingest_fn fn, void *user);
/*
 * The same with the digest, for which what is there may have to be hashed: then the hash is kept for
 * the next writer. "" when somebody writes to it just now, or it cannot be read.
 */
int ingest_look(struct store_call *c, const char *ref, ingest_fn fn, void *user);
/* In the order of refs. */
int ingest_list(struct store_call *c, const char *after, ingest_fn fn, void *user);
/* Whether there is any in the namespace. */
bool ingest_any(struct store *s, const char *ns);
/* Removes one that has no writer; with one: FAULT_UNAVAILABLE. */
int ingest_abort(struct store_call *c, const char *ref);
/*
 * For garbage collection, over all namespaces: removes each without a writer that was last written
 * before `before` and for which keep answers false; *n, *bytes: how many, how much. dry: counts
 * only.
 */
int ingest_expire(struct store *s, int64_t before,
		  bool (*keep)(void *user, const char *ns, const char *ref), void *user, bool dry,
		  uint64_t *n, uint64_t *bytes, struct fault *f);

/*
 * One small blob in one go: by an ingest of its own, for what davit itself makes (manifests,
 * configs, indexes). That it is there already is fine, and its labels are merged.
 */
int content_put(struct store_call *c, const void *data, size_t size, const struct db_label *labels,
		size_t n, struct digest *out);

/*
 * content/index.json: all images of all namespaces, each a descriptor of its target with the
 * annotation org.opencontainers.image.ref.name. The name alone for the namespace `default`,
 * NAMESPACE/NAME for others, and org.davit.namespace. Written anew (temp file, rename) by
 * content_index_write; calls from several threads at once are answered by one write. Asked for by
 * whoever has committed a change of images. It is also what images are found again by when the
 * database is lost.
 */
int content_index_write(struct store *s, struct fault *f);
