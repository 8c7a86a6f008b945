// SPDX-License-Identifier: Apache-2.0
/*
 * Images, inside: what records, walks, import, export and unpacking share
 */
#pragma once

#include <errno.h>
#include <json-c/linkhash.h>

#include "store/content.h"
#include "store/image.h"
#include "store/image_io.h"
#include "store/layer.h"
#include "store/lease.h"
#include "store/oci_internal.h"
#include "store/store_internal.h"
#include "util/cleanup.h"

#define IMAGE_GC_CONTENT "containerd.io/gc.ref.content."
#define IMAGE_GC_SNAPSHOT "containerd.io/gc.ref.snapshot."
#define IMAGE_UNCOMPRESSED "containerd.io/uncompressed" /* of a layer: its diff_id */
#define IMAGE_SNAPSHOT_REF "containerd.io/snapshot.ref" /* of a snapshot: its chain id */

DEFINE_CLEANUP(struct lh_table *, lh_table_free)

static inline int image_no_memory(struct fault *f)
{
	fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "image");
	return -ENOMEM;
}

/* A set of texts, each a copy. */
struct lh_table *image_set_new(void);
/* 1: it was added, 0: it had been there, -ENOMEM. */
int image_set_add(struct lh_table *set, const char *text);

/* ---- image.c */
/* An image's target, to be cleared. FAULT_NOT_FOUND. */
int image_target(struct store_call *c, const char *name, struct oci_descriptor *target);
struct image_new {
	char *name;
	struct oci_descriptor target;
};
/*
 * Several at once, all or none, each created or given its new target; what hangs below them has its
 * labels already.
 */
int image_put_all(struct store_call *c, const struct image_new *v, size_t n, image_fn fn,
		  void *user);

/* ---- image_walk.c */
/* The index or manifest of a descriptor, read from the content and checked. */
int image_document(struct store_call *c, const struct oci_descriptor *d, struct oci_document *doc);
/* The config of a manifest; FAULT_FAILED_PRECONDITION for one that is no container image's. */
int image_config(struct store_call *c, const struct oci_descriptor *manifest,
		 const struct oci_document *doc, struct oci_config *config);
/* Sets the labels that keep a document's children. Of an index, those with keep[i], or all (NULL). */
int image_label(struct store_call *c, const struct oci_descriptor *d,
		const struct oci_document *doc, const bool *keep);

/* ---- image_choose.c: manifests below an index, by platform */
/*
 * Where indexes and manifests come from while a platform is looked for: 1 and the document, 0 when
 * it is not there, negative after filling the fault.
 */
typedef int (*image_fetch_fn)(void *user, const struct oci_descriptor *d);
/* As image_manifest, with `fetch` (may be NULL) asked before each document is read. */
int image_choose(struct store_call *c, const struct oci_descriptor *target,
		 const struct oci_platform *platform, image_fetch_fn fetch, void *user,
		 struct oci_descriptor *manifest, struct oci_document *doc);
/*
 * Which of several images, each a manifest or an index, is the best match: 1 and *which; 0 when two are
 * equally good, or no platform is known; -ENOENT, FAULT_NOT_FOUND.
 */
int image_choose_among(struct store_call *c, const struct oci_descriptor *v, size_t n,
		       const struct oci_platform *platform, image_fetch_fn fetch, void *user,
		       size_t *which);
/*
 * Whether a manifest is for a platform that was asked for by name: what its descriptor says, else its
 * config. 0, also when neither can tell (an artifact, or a config that is not there: whoever needs
 * it says so); -ENOENT, FAULT_NOT_FOUND with both platforms.
 */
int image_is_for(struct store_call *c, const struct oci_descriptor *manifest,
		 const struct oci_document *doc, const struct oci_platform *platform,
		 image_fetch_fn fetch, void *user);

/*
 * As image_manifest, for who was not asked for a platform by name: without a match that is there, the
 * only image of the index whose manifest is. One of several is never taken.
 */
int image_manifest_here(struct store_call *c, const struct oci_descriptor *target,
			const struct oci_platform *platform, struct oci_descriptor *manifest,
			struct oci_document *doc);

/* ---- image_ingest.c */
/*
 * An ingest under a ref made of `key`, from its start. When another writer has that ref, one that is
 * like it. -EEXIST as ingest_open.
 */
int image_ingest_open(struct store_call *c, const char *key, const char *expected, int64_t total,
		      struct ingest **out);

/* A blob that is read from its start, into an ingest that may have the beginning of it already. */
struct image_blob {
	struct ingest *to; /* NULL once it is committed or has failed */
	uint64_t at; /* how much has come */
	bool own; /* the ref is the one that the same import looks for the next time */
};
/* As image_ingest_open, but what is there stays, and is compared with what is added. */
int image_blob_open(struct store_call *c, const char *key, const char *expected, int64_t total,
		    struct image_blob *out);
int image_blob_add(struct store_call *c, struct image_blob *b, const void *data, size_t size);
/* 0 also when it had been there. Fails as image_blob_fail says, with `path` before the fault. */
int image_blob_commit(struct store_call *c, struct image_blob *b, const char *expected,
		      const char *path, struct digest *out);
/*
 * Gives it up for this error: what a full disk has stopped stays for the next time, all else is
 * removed.
 */
void image_blob_fail(struct image_blob *b, int err);
