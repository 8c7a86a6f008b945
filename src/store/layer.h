// SPDX-License-Identifier: Apache-2.0
/*
 * Layers: tar archives of file system changes (OCI image-spec, layer.md)
 *
 * Applying writes below a folder fd and never outside it: every path is resolved with openat2
 * (RESOLVE_IN_ROOT or stricter) beneath it, names with "..", absolute link targets of hard links,
 * links that lead out, and devices where they are not wanted are refused, with the entry named.
 * Blocks, for workers; nothing here depends on the working directory or the umask.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"
#include "util/digest.h"

/* Media types' compression: by suffix and, for plain octets, by the first bytes. */
enum layer_compression { LAYER_NONE, LAYER_GZIP, LAYER_ZSTD };
/*
 * Of a layer's media type (OCI's tar, tar+gzip, tar+zstd, also nondistributable; docker's
 * rootfs.diff.tar[.gzip|.zstd]). -EINVAL, FAULT_FAILED_PRECONDITION, which names it, for others.
 */
int layer_media_type(const char *media_type, enum layer_compression *out, struct fault *f);

struct layer_limits { /* 0: the default of util/limits.h */
	uint64_t bytes; /* of file data, unpacked; holes count */
	uint64_t entries;
	uint64_t ratio; /* unpacked to packed, once more than 64 MiB were unpacked */
	uint64_t memory; /* bytes kept of names while it is applied */
};

enum layer_target {
	/*
	 * the folder becomes overlayfs's upper or lower layer: whiteouts are character devices 0:0,
	 * opaque folders have the xattr trusted.overlay.opaque=y
	 */
	LAYER_OVERLAY,
	/* the folder already holds the layers below: whiteouts remove */
	LAYER_MERGE,
};

struct layer_result {
	struct digest diff_id; /* of the unpacked tar, up to the very end of the stream */
	uint64_t size; /* unpacked tar */
	uint64_t bytes, inodes; /* of files written */
	/*
	 * folders that the layer used without having an entry for them, as paths relative to the
	 * root, each NUL-terminated, one behind the other; parents first. Made with 0755, root: who
	 * puts layers together gives them what the layers below say (layer_inherit).
	 */
	char *implied;
	size_t implied_size;
	/*
	 * LAYER_OVERLAY: folders, in the same form, that have whiteouts, or were made to be marked. What
	 * hides nothing below is removed by layer_inherit.
	 */
	char *marked;
	size_t marked_size;
	/* LAYER_OVERLAY: the root itself was to be opaque, which layer_inherit does */
	bool opaque_root;
	bool has_root; /* it has an entry for the root, so that is as the layer says */
};
void layer_result_clear(struct layer_result *r);

/*
 * Reads the blob `fd` from its current offset to its end. limits may be NULL. Progress counts
 * packed bytes. A failure leaves what was written so far: the caller removes the folder. Damage
 * (tar, compression, truncation) is FAULT_FAILED_PRECONDITION; a limit is FAULT_RESOURCE_EXHAUSTED.
 */
int layer_apply(struct store_call *c, int fd, enum layer_compression compression, int root_fd,
		enum layer_target target, const struct layer_limits *limits,
		struct layer_result *out);
/*
 * Gives the implied folders of a layer in root_fd owner, mode, times and xattrs of the first of
 * lower_fds[0..n) (nearest first) that has a folder there, as far as they are seen through what is
 * above. With opaque_root everything that the lower ones have is hidden. Removes whiteouts from folders
 * that overlayfs will not merge with one below, where they would be seen as what they are, and implied
 * folders that the layer has for nothing else.
 */
int layer_inherit(int root_fd, const struct layer_result *r, const int *lower_fds, size_t n,
		  struct fault *f);

/*
 * The other way round. Writes a tar to fn: entries sorted by path, no times but mtime, no names of
 * users, so that equal input gives equal bytes. fn's negative answer ends it.
 */
typedef int (*layer_write_fn)(void *user, const void *data, size_t size, struct fault *f);
enum layer_source {
	LAYER_FROM_TREE, /* all that is in the folder, as a first layer */
	/* an overlayfs upper folder: char 0:0 and opaque xattrs become .wh. files */
	LAYER_FROM_UPPER,
};
int layer_pack(struct store_call *c, int root_fd, enum layer_source source, layer_write_fn fn,
	       void *user);
/* What right has that left has not, by comparing two trees (metadata, then data when in doubt). */
int layer_pack_changes(struct store_call *c, int left_fd, int right_fd, layer_write_fn fn,
		       void *user);

/*
 * Compression on the way to an ingest: a sink that takes the tar's bytes, keeps the digest of what
 * goes in (diff_id), compresses (zstd with threads, gzip, or not at all; the same bytes for the
 * same input) and appends to the ingest.
 */
struct ingest;
struct layer_sink;
int layer_sink_new(struct layer_sink **out, struct ingest *to, enum layer_compression compression,
		   int level /* 0: default */, struct fault *f);
/* a layer_write_fn */
int layer_sink_write(void *sink, const void *data, size_t size, struct fault *f);
int layer_sink_finish(struct layer_sink *s, struct digest *diff_id, uint64_t *size_in,
		      struct fault *f);
void layer_sink_free(struct layer_sink *s); /* NULL is fine */

/*
 * A source that decompresses: what image archives and other readers use. Reads fd from its current
 * offset; compression is found by the first bytes. Pipes are fine.
 */
struct layer_stream;
int layer_stream_open(struct layer_stream **out, int fd, struct fault *f);
/* Bytes read, 0 at the end, negative after filling the fault. */
ssize_t layer_stream_read(struct layer_stream *s, void *buf, size_t size, struct fault *f);
void layer_stream_free(struct layer_stream *s);
