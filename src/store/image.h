// SPDX-License-Identifier: Apache-2.0
/*
 * Images: names for descriptors, and what is done with all that hangs below one
 */
#pragma once

#include "store/oci.h"
#include "store/store.h"

struct image_info {
	const char *name;
	const struct oci_descriptor *target;
	const struct db_label *labels;
	size_t n_labels;
	int64_t created_at, updated_at;
};
typedef int (*image_fn)(void *user, const struct image_info *info);

/*
 * Records. create: FAULT_ALREADY_EXISTS; the target must be in the namespace's content
 * (FAULT_NOT_FOUND), and its gc labels are set on what hangs below it as far as it is there.
 * update: target NULL leaves it, labels NULL leaves them, but not those that call the image a
 * checkpoint, and one of this daemon's own, when the target is another. Events /images/create|update|delete.
 * index.json follows before these return. fn (may be NULL) gets the new state.
 */
int image_create(struct store_call *c, const char *name, const struct oci_descriptor *target,
		 const struct db_label *labels, size_t n, image_fn fn, void *user);
int image_update(struct store_call *c, const char *name, const struct oci_descriptor *target,
		 const struct db_label *labels, size_t n, image_fn fn, void *user);
/* Creates it, or sets the target of the one that is there (`tag`, import). */
int image_put(struct store_call *c, const char *name, const struct oci_descriptor *target,
	      const struct db_label *labels, size_t n, image_fn fn, void *user);
int image_delete(struct store_call *c, const char *name); /* FAULT_NOT_FOUND */
/* Names are shown on terminals: without control characters. FAULT_INVALID_ARGUMENT. */
int image_check_name(struct store_call *c, const char *name);
int image_get(struct store_call *c, const char *name, image_fn fn, void *user);
int image_list(struct store_call *c, const char *after, image_fn fn, void *user);

/*
 * The manifest for a platform below a target that may be an index: the best match; its descriptor
 * and document to be cleared by the caller. FAULT_NOT_FOUND names what platforms there are.
 */
int image_manifest(struct store_call *c, const struct oci_descriptor *target,
		   const struct oci_platform *platform, struct oci_descriptor *manifest,
		   struct oci_document *doc);
/*
 * Walks what hangs below the target, itself first, each digest once, deeper than 16 or more than
 * 65,536 refused; missing children are told to fn with missing set. Sets
 * containerd.io/gc.ref.content.* labels with `label`.
 */
typedef int (*image_walk_fn)(void *user, const struct oci_descriptor *d, bool missing);
int image_walk(struct store_call *c, const struct oci_descriptor *target, bool label,
	       image_walk_fn fn, void *user);

/*
 * Import: an OCI layout or a docker archive (or a tar that is both), as a tar (plain, gzip, zstd) or
 * a folder. fd is read to its end (a pipe is fine) or is the folder. name: for the only image of an
 * archive, or when it has none; NULL: by its own names. platform NULL: this machine's of an index,
 * and any image that is none; named: FAULT_NOT_FOUND for an image of another one; all: keep every
 * platform, each of which must be there, refuse none. Blobs come under the call's lease, or a
 * transient one, until the images are made. fn gets each image.
 */
struct image_import {
	int fd;
	const char *name, *platform;
	bool all_platforms;
};
int image_import(struct store_call *c, const struct image_import *in, image_fn fn, void *user);

enum image_format { IMAGE_OCI, IMAGE_DOCKER };
/*
 * Writes a tar of an OCI layout (with docker's manifest.json for "docker") to fd. Reproducible.
 * platform: FAULT_NOT_FOUND for an image of another one; NULL: all there are, for docker this
 * machine's, or the only one that is there.
 */
int image_export(struct store_call *c, const char *const *names, size_t n, int fd,
		 enum image_format format, const char *platform, uint64_t *size);

/*
 * Layers into snapshots of their chain ids, several at once where the snapshotter can; those that
 * are there are used. The config's content gets containerd.io/gc.ref.snapshot.SNAPSHOTTER. *chain
 * "" for an image without layers. platform NULL: this machine's of an index, and any image that is
 * none; named: FAULT_NOT_FOUND for an image of another one.
 */
int image_unpack(struct store_call *c, const char *name, const char *platform,
		 const char *snapshotter, struct digest *chain);
/*
 * A folder, or a tar of files, becomes an image with one layer (tar+zstd). config: OCI image config
 * as JSON text ({"Cmd": …} or the whole document), NULL for none.
 */
int image_from_dir(struct store_call *c, int fd, const char *name, const char *config, image_fn fn,
		   void *user);
struct image_usage {
	uint64_t size; /* its blobs */
	uint64_t unpacked; /* its snapshots */
	uint64_t shared; /* of its blobs, what other images have too */
};
int image_usage(struct store_call *c, const char *name, struct image_usage *out);
