// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: out and in
 *
 * podman: the archive of `podman container checkpoint --export`. criu-dir: criu's image files as they
 * are, in a folder or a tar of one. containerd: an OCI archive whose index is that of `ctr containers
 * checkpoint`. Blocks: for workers.
 */
#pragma once

#include "store/layer.h"
#include "store/oci.h"
#include "store/store.h"

enum ckpt_format { CKPT_PODMAN, CKPT_CONTAINERD, CKPT_CRIU_DIR, CKPT_FORMATS };
const char *ckpt_format_name(enum ckpt_format format);
int ckpt_format_of(const char *name); /* -EINVAL */

struct ckpt_export {
	const char *name; /* of the checkpoint's image */
	enum ckpt_format format;
	/* written to; -1: CKPT_CRIU_DIR into `folder`, absolute: made, or there and empty */
	int fd;
	const char *folder;
	enum layer_compression compression; /* of the archive */
};
/* *size: bytes written. What was written before a failure into a folder goes again. */
int ckpt_export(struct store_call *c, const struct ckpt_export *e, uint64_t *size);

struct ckpt_import {
	int fd; /* of an archive of podman's, a tar of criu's images, or a folder of those */
	const char *path; /* of a folder: its name for faults */
	const char *name; /* of the image; NULL: containerd.io/checkpoint/ID:DATE */
	/* negative: by what is in it */
	int format;
};
/*
 * Untrusted: names, types, sizes and counts are bounded, and what criu's images would have criu do is
 * looked at as for any restore. index: to be cleared by the caller; name: malloc'ed.
 */
int ckpt_import(struct store_call *c, const struct ckpt_import *in, struct oci_descriptor *index,
		char **name);
