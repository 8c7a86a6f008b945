// SPDX-License-Identifier: Apache-2.0
/*
 * The methods diff.apply and diff.diff
 *
 * Both read or write whole trees: long jobs, with copies of what they were asked for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/labels.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "store/diff.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/mp.h"

#define TOPIC "/diff/progress"

struct diff_job {
	struct store_job job;
	struct oci_descriptor diff;
	struct store_mounts left, right; /* of apply: right is where to */
	char *media_type, *ref;
	struct labels labels;
};

static void diff_job_clear(struct store_job *j)
{
	struct diff_job *d = container_of(j, struct diff_job, job);

	oci_descriptor_clear(&d->diff);
	store_mounts_clear(&d->left);
	store_mounts_clear(&d->right);
	free(d->media_type);
	free(d->ref);
	labels_clear(&d->labels);
}

static int read_mounts(struct diff_job *d, const char *name, struct store_mounts *mounts,
		       struct fault *f)
{
	const msgpack_object *list = ipc_arg(d->job.req, name);
	int r = list ? store_mounts_read(mounts, list, f) : 0;

	if (r < 0)
		fault_arg(f, name);
	return r;
}

/* Starts it, or answers. */
static void start(struct diff_job *d, int r, struct fault *f)
{
	if (r < 0) {
		ipc_reply_fault(d->job.req, f);
		store_job_free(&d->job);
		return;
	}
	store_job_start(&d->job, TOPIC);
}

static int answer_descriptor(struct store_job *j, const char *name, struct oci_descriptor *d)
{
	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, name);
	oci_descriptor_pack(&j->pk, d);
	oci_descriptor_clear(d);
	return 0;
}

/* ---- apply */

static int run_apply(struct store_job *j)
{
	struct diff_job *d = container_of(j, struct diff_job, job);
	struct oci_descriptor applied;
	int r = diff_apply(&j->call, &d->diff, &d->right, &applied);

	return r < 0 ? r : answer_descriptor(j, "applied", &applied);
}

static void diff_apply_method(struct ipc_request *req, void *user)
{
	struct diff_job *d = store_job_new(user, req, sizeof(*d), run_apply, diff_job_clear);
	struct fault f = { 0 };
	int r;

	if (!d)
		return;
	r = oci_descriptor_from_mp(&d->diff, ipc_arg(req, "diff"), &f);
	if (r < 0)
		fault_arg(&f, "diff");
	else
		r = read_mounts(d, "mounts", &d->right, &f);
	start(d, r, &f);
}

/* ---- diff */

static int run_diff(struct store_job *j)
{
	struct diff_job *d = container_of(j, struct diff_job, job);
	struct diff_options options = {
		.media_type = d->media_type,
		.ref = d->ref,
		.labels = d->labels.v,
		.n_labels = d->labels.n,
	};
	struct oci_descriptor made;
	int r = diff_make(&j->call, &d->left, &d->right, &options, &made);

	return r < 0 ? r : answer_descriptor(j, "diff", &made);
}

static int read_labels(struct diff_job *d, struct fault *f)
{
	int r = labels_set_mp(&d->labels, ipc_arg(d->job.req, "labels"));

	if (r == -E2BIG) {
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0, "more than %u labels", LIMIT_LABELS);
		fault_arg(f, "labels");
	} else if (r < 0) {
		fault_sys(f, ENOMEM, "keep the arguments", NULL);
	}
	return r;
}

static void diff_diff_method(struct ipc_request *req, void *user)
{
	struct diff_job *d = store_job_new(user, req, sizeof(*d), run_diff, diff_job_clear);
	struct fault f = { 0 };
	bool failed = false;
	int r;

	if (!d)
		return;
	r = read_mounts(d, "left", &d->left, &f);
	if (!r)
		r = read_mounts(d, "right", &d->right, &f);
	if (!r)
		r = read_labels(d, &f);
	if (!r) {
		d->media_type = store_job_str(&d->job, "media_type", &failed);
		d->ref = store_job_str(&d->job, "ref", &failed);
		if (failed)
			r = fault_sys(&f, ENOMEM, "keep the arguments", NULL);
	}
	start(d, r, &f);
}

/* ---- the table */

static const struct ipc_param apply_params[] = {
	{ .name = "diff",
	  .type = IPC_MAP,
	  .flags = IPC_REQUIRED,
	  .doc = "descriptor of a layer in the namespace's content" },
	{ .name = "mounts",
	  .type = IPC_LIST,
	  .flags = IPC_REQUIRED,
	  .doc = "where to: one mount, a bind or an overlay, as snapshots.prepare answers" },
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_param diff_params[] = {
	{ .name = "left",
	  .type = IPC_LIST,
	  .doc = "what to compare with: one mount; without it all of right is packed" },
	{ .name = "right",
	  .type = IPC_LIST,
	  .flags = IPC_REQUIRED,
	  .doc = "the changed tree: one mount" },
	{ .name = "media_type",
	  .type = IPC_STR,
	  .max = LIMIT_NAME_BYTES,
	  .dflt = OCI_LAYER_GZIP,
	  .doc = "of the layer, which says how it is packed: gzip, zstd, or not at all" },
	{ .name = "ref",
	  .type = IPC_STR,
	  .min = 1,
	  .max = LIMIT_REF_BYTES,
	  .doc = "of the ingest, begun anew; without it one that nobody else has" },
	{ .name = "labels",
	  .type = IPC_LABELS,
	  .doc = "labels of the content, beside containerd.io/uncompressed" },
	STORE_JOB_PROGRESS,
	{ 0 },
};

static const struct ipc_field apply_result[] = {
	{ "applied", "map", "descriptor of the unpacked tar: its digest is the layer's diff id" },
	{ 0 },
};
static const struct ipc_field diff_result[] = {
	{ "diff", "map", "descriptor of the layer" },
	{ 0 },
};

const struct ipc_method diff_methods[] = {
	{ "diff.apply", "Unpacks a layer into a tree, also over what is there", 0, apply_params,
	  apply_result,
	  "not_found failed_precondition resource_exhausted unimplemented unavailable",
	  diff_apply_method },
	{ "diff.diff", "Makes a layer of what a tree has changed, in content", 0, diff_params,
	  diff_result,
	  "not_found failed_precondition resource_exhausted unimplemented unavailable aborted",
	  diff_diff_method },
	{ 0 },
};
