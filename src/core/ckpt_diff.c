// SPDX-License-Identifier: Apache-2.0
/*
 * The writable layer of a checkpoint
 *
 * It belongs to the moment of the dump: what the container has changed in its root is copied aside
 * while criu is held and nothing in the container runs, and packed into a layer afterwards.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/ckpt_internal.h"
#include "store/content.h"
#include "store/layer.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

int ckpt_diff_wanted(struct ckpt *ck, bool *wanted, struct fault *f)
{
	const char *snapshotter;
	int r = 0;

	*wanted = *ck->snapshot_key && !ck->o.image_path;
	if (*wanted)
		r = snapshotter_name(ck->call.store, ck->snapshotter, &snapshotter, f);
	/* a full copy of the root would be the whole image: only an overlay knows what is its own */
	if (*wanted && !r)
		*wanted = snapshotter_is_overlay(snapshotter);
	return r;
}

int ckpt_diff_copy(struct ckpt *ck, struct fault *f)
{
	struct store_call c = ck->call;
	const char *snapshotter;
	int64_t began = clock_mono();
	int r;

	if (!*ck->snapshot_key)
		return 0;
	c.f = f;
	r = snapshotter_name(c.store, ck->snapshotter, &snapshotter, f);
	/* a full copy of the root would be the whole image: only an overlay knows what is its own */
	if (!r && !snapshotter_is_overlay(snapshotter))
		return 0;
	if (!r)
		r = snapshot_aside(&c, snapshotter, ck->snapshot_key, &ck->diff_fd, &ck->diff_name);
	ck->diff_ns = clock_mono() - began;
	return r;
}

static int pack(struct ckpt *ck, struct store_call *c, struct ingest *ingest, struct fault *f)
{
	struct ckpt_blob blob = { .diff = true };
	struct layer_sink *sink;
	struct db_label label = { "containerd.io/uncompressed", NULL };
	struct digest diff_id;
	int r = layer_sink_new(&sink, ingest, LAYER_ZSTD, 0, f);

	if (!r)
		r = layer_pack(c, ck->diff_fd, LAYER_FROM_UPPER, layer_sink_write, sink);
	if (!r)
		r = layer_sink_finish(sink, &diff_id, &blob.file_size, f);
	layer_sink_free(sink);
	if (!r) {
		blob.size = ingest_offset(ingest);
		label.value = diff_id.text;
		r = ingest_commit(c, ingest, -1, NULL, &label, 1, &blob.digest);
	}
	if (r < 0 && r != -EEXIST) {
		ingest_discard(ingest);
		return r;
	}
	return ckpt_blob_add(ck, &blob, f);
}

int ckpt_diff_pack(struct ckpt *ck, struct fault *f)
{
	CLEANUP_FREE char *ref = NULL;
	struct store_call c = ck->call;
	struct ingest *ingest;
	int r;

	if (ck->diff_fd < 0)
		return 0;
	c.f = f;
	if (asprintf(&ref, "checkpoint-%s-%s-diff", ck->hold.id[0] ? ck->hold.id : ck->run->dir,
		     ck->id) < 0) {
		ref = NULL;
		return fault_sys(f, ENOMEM, "pack the writable layer of", ck->id);
	}
	r = ingest_open(&c, ref, NULL, -1, &ingest);
	if (!r)
		r = pack(ck, &c, ingest, f);
	return r;
}
