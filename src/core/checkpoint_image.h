// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as images: what is written when a dump has ended, and read before a restore
 *
 * A checkpoint is an OCI index with one artifact manifest (design: docs/ARCHITECTURE.md), and the
 * base image's manifest when that is in the store. Blocks: for workers.
 */
#pragma once

#include "checkpoint/images_check.h"
#include "checkpoint/record.h"
#include "checkpoint/serve.h"
#include "store/image.h"
#include "store/store.h"

#define CHECKPOINT_ARTIFACT "application/vnd.davit.checkpoint.v1"
#define CHECKPOINT_CONFIG "application/vnd.davit.checkpoint.config.v1+json"
#define CHECKPOINT_FILES "application/vnd.davit.checkpoint.criu.files.v1.tar+zstd"
#define CHECKPOINT_FILES_PLAIN "application/vnd.davit.checkpoint.criu.files.v1.tar"
#define CHECKPOINT_PAGES "application/vnd.davit.checkpoint.criu.pages.v1+zstd"
#define CHECKPOINT_PAGES_PLAIN "application/vnd.davit.checkpoint.criu.pages.v1"
#define CHECKPOINT_NOTE_FILE "org.davit.checkpoint.file"
#define CHECKPOINT_NOTE_OFFSET "org.davit.checkpoint.offset"
#define CHECKPOINT_NOTE_SIZE "org.davit.checkpoint.size"
/* Labels of the image record, both "true". */
#define CHECKPOINT_LABEL "containerd.io/checkpoint"
/*
 * This daemon has made it: labels never come from archives. Whoever restores may take the recorded
 * spec for what it once was given itself.
 */
#define CHECKPOINT_LABEL_LOCAL "davit.checkpoint.local"

struct checkpoint_blob { /* a layer that is in the content store already */
	const char *media_type;
	struct digest digest;
	uint64_t size; /* of the blob */
	const char *file; /* of a large image file: its name; else NULL */
	uint64_t file_size; /* of the file, or of the unpacked tar */
};

struct checkpoint_write {
	const char *name; /* of the image; NULL: containerd.io/checkpoint/ID:DATE */
	const struct ckpt_record *record;
	const struct checkpoint_blob *blobs; /* files first, then pages by name, then the diff */
	size_t n_blobs;
	const char *base_image; /* name of the container's image, "" or NULL for none */
	bool foreign; /* not made by this daemon: without CHECKPOINT_LABEL_LOCAL */
};
/*
 * Config, manifest, index (with containerd's gc.ref labels), then the image record, all durable.
 * c->lease holds the blobs until then. index: to be cleared by the caller; name: malloc'ed. descriptors: of the
 * index's manifest and its blobs, one after the other, malloc'ed array of *n, each to be cleared.
 */
int checkpoint_image_write(struct store_call *c, const struct checkpoint_write *w,
			   struct oci_descriptor *index, char **name,
			   struct oci_descriptor **descriptors, size_t *n);

struct checkpoint_read {
	bool has_record; /* false: a folder without one; record is empty then */
	struct ckpt_record record;
	/*
	 * All of criu's images, sorted by name: small ones in memory, large ones as fds. The parts'
	 * digests are those in `pages`: that array has to live as long as these are served.
	 */
	struct serve_files files;
	/* the layers behind those fds, whose digests are to be checked */
	struct oci_descriptor *pages;
	size_t n_pages;
	bool has_diff;
	struct oci_descriptor diff; /* the writable layer */
	char *base_image; /* "" for none */
	struct digest base_manifest; /* text "" for none */
};
void checkpoint_read_clear(struct checkpoint_read *r);
/*
 * By image name, or by the descriptor of its index (or of the artifact manifest itself). Digests of
 * index, manifest, config and files layer are checked here; those of the pages layers are not
 * (content_verify does it, while criu is already at work). A wrong media type is
 * FAULT_FAILED_PRECONDITION and named.
 */
int checkpoint_image_read(struct store_call *c, const char *name,
			  const struct oci_descriptor *target, struct checkpoint_read *out);
/*
 * From a folder with criu's images (criu_image_path): *.img, and the record when there is a file
 * CHECKPOINT_RECORD_FILE. Nothing in it may be a link.
 */
#define CHECKPOINT_RECORD_FILE "davit-checkpoint.json"
int checkpoint_folder_read(const char *path, struct checkpoint_read *out, struct fault *f);
/*
 * What criu's images would have criu do that no live container allows is refused: mounts of types or
 * sources that are none of the container's own, tasks without a mount namespace of their own. What
 * depends on the container's spec is the caller's: *tasks is what the tasks need, and
 * checkpoint/images_check.h has ckpt_images_binds and ckpt_images_user_maps.
 */
int checkpoint_files_check(const struct checkpoint_read *r, struct ckpt_tasks *tasks,
			   struct fault *f);
