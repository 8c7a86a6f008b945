// SPDX-License-Identifier: Apache-2.0
/*
 * Diffs: layers in content, from and to mounts
 */
#pragma once

#include "store/layer.h"
#include "store/mounts.h"
#include "store/oci.h"

/*
 * Applies the layer `diff` of the namespace's content to the mounts' root. *applied: the unpacked
 * tar's media type, digest and size, to be cleared. A failure leaves what was written.
 */
int diff_apply(struct store_call *c, const struct oci_descriptor *diff,
	       const struct store_mounts *mounts, struct oci_descriptor *applied);

struct diff_options {
	const char *media_type; /* NULL: a tar with gzip */
	const char *ref; /* of the ingest, which begins anew; NULL: one of its own */
	const struct db_label *labels;
	size_t n_labels;
};
/*
 * What right has that left has not becomes a layer in content, with the label
 * containerd.io/uncompressed. No mounts in left: all of right. The same trees give the same
 * layer; that it is there already is fine. *diff is to be cleared.
 */
int diff_make(struct store_call *c, const struct store_mounts *left,
	      const struct store_mounts *right, const struct diff_options *options,
	      struct oci_descriptor *diff);
