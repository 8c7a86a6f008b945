// SPDX-License-Identifier: Apache-2.0
/*
 * Diffs: layers in content, from and to mounts
 *
 * An overlay is written through itself, so that overlayfs sees every change. Only an upper folder
 * that is still empty gets the layer directly, with overlayfs's own marks: that is what unpacking
 * images does, and nothing can have been read from it yet.
 *
 * The other way round, an upper folder already is the difference to its lower ones. It is packed as
 * it is when those are what the caller compares with, and when no option makes overlayfs keep parts
 * of a file elsewhere; else both sides are mounted and compared.
 */
#include "store/diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "store/content.h"
#include "store/layer_internal.h"
#include "store/mounts_internal.h"
#include "util/cleanup.h"

#define LABEL_UNCOMPRESSED "containerd.io/uncompressed"

/* ---- what mounts are made of */

/* Both sides' folders, nearest first, with the upper one apart; false for what is no such mount. */
static int parts_of(const struct store_mounts *m, struct overlay *o, bool *known)
{
	struct fault ignored; /* the same list is read again where its mistakes are told */

	memset(o, 0, sizeof(*o));
	*known = false;
	if (m->n != 1)
		return 0;
	if (!strcmp(m->v[0].type, "bind")) {
		o->lower = calloc(1, sizeof(*o->lower));
		if (o->lower)
			o->lower[0] = strdup(m->v[0].source);
		if (!o->lower || !o->lower[0])
			return -ENOMEM;
		o->n_lower = 1;
		*known = true;
		return 0;
	}
	if (!strcmp(m->v[0].type, "overlay")) {
		int r = overlay_read(o, &m->v[0], &ignored);

		*known = !r;
		return r == -ENOMEM ? r : 0;
	}
	return 0;
}

/* Options that change nothing about what is in the upper folder. */
static bool plain_upper(const struct overlay *o)
{
	static const char *const fine[] = { "index=", "xino=", "nfs_export=", "uuid=", "volatile" };

	for (size_t i = 0; i < o->n_more; i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(fine); k++)
			found |= !strncmp(o->more[i], fine[k], strlen(fine[k]));
		if (!found)
			return false;
	}
	return true;
}

/* Whether the upper folder of right is just what was written over left. */
static bool is_difference(const struct overlay *left, const struct overlay *right)
{
	if (!right->upper || left->upper || left->n_lower != right->n_lower || !plain_upper(right))
		return false;
	for (size_t i = 0; i < left->n_lower; i++)
		if (strcmp(left->lower[i], right->lower[i]) != 0)
			return false;
	return true;
}

/* ---- apply */

static int is_empty(int fd, bool *empty)
{
	struct layer_list list;
	int r = layer_list_read(&list, fd);

	*empty = !r && list.n == 0;
	layer_list_clear(&list);
	return r;
}

static int inherit(struct store_call *c, const struct overlay *o, int root,
		   const struct layer_result *result)
{
	int *fds = calloc(o->n_lower, sizeof(*fds)), r = 0;
	size_t n = 0;

	if (!fds)
		return fault_sys(c->f, ENOMEM, "open the layers below", NULL);
	for (; n < o->n_lower && !r; n++) {
		fds[n] = open(o->lower[n], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fds[n] < 0)
			r = fault_sys(c->f, errno, "open the layer below", o->lower[n]);
	}
	if (!r)
		r = layer_inherit(root, result, fds, n, c->f);
	while (n)
		if (fds[--n] >= 0)
			close(fds[n]);
	free(fds);
	return r;
}

/* Into an upper folder that is empty; 1: it is not, or there is none. */
static int apply_to_upper(struct store_call *c, int blob, enum layer_compression compression,
			  const struct store_mounts *mounts, struct layer_result *result)
{
	CLEANUP_CLOSE int upper = -1;
	struct overlay o;
	bool known, empty = false;
	int r;

	r = store_mounts_upper(mounts, &upper, c->f);
	if (r < 0 || upper < 0)
		return r < 0 ? r : 1;
	r = is_empty(upper, &empty);
	if (r < 0)
		return fault_sys(c->f, -r, "read the overlay's upper folder", NULL);
	r = parts_of(mounts, &o, &known);
	if (r < 0)
		r = fault_sys(c->f, -r, "read the mounts", NULL);
	else if (!empty || !known || o.read_only || !plain_upper(&o))
		r = 1;
	if (!r)
		r = layer_apply(c, blob, compression, upper, LAYER_OVERLAY, NULL, result);
	if (!r && (result->implied_size || result->marked_size || result->opaque_root))
		r = inherit(c, &o, upper, result);
	overlay_clear(&o);
	return r;
}

int diff_apply(struct store_call *c, const struct oci_descriptor *diff,
	       const struct store_mounts *mounts, struct oci_descriptor *applied)
{
	CLEANUP_CLOSE int blob = -1, root = -1;
	enum layer_compression compression;
	struct layer_result result = { 0 };
	uint64_t size = 0;
	int r;

	memset(applied, 0, sizeof(*applied));
	r = layer_media_type(diff->media_type, &compression, c->f);
	if (!r)
		r = content_open(c, diff->digest.text, &blob, &size);
	if (r < 0) {
		fault_arg(c->f, "diff");
		return r;
	}
	if (size != diff->size) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s has %llu bytes, and not %llu as the descriptor says",
			  diff->digest.text, (unsigned long long)size,
			  (unsigned long long)diff->size);
		fault_arg(c->f, "diff");
		return -EINVAL;
	}
	store_progress_phase(c->progress, "unpack", size);
	r = apply_to_upper(c, blob, compression, mounts, &result);
	if (r == 1) {
		r = store_mounts_open(mounts, false, &root, c->f);
		if (!r)
			r = layer_apply(c, blob, compression, root, LAYER_MERGE, NULL, &result);
	}
	if (!r) {
		r = oci_descriptor_new(applied, OCI_LAYER, &result.diff_id, result.size);
		if (r < 0)
			r = fault_sys(c->f, -r, "answer with the layer", NULL);
	}
	layer_result_clear(&result);
	return r;
}

/* ---- make */

/* Packs the difference into the sink, in the way that costs least. */
static int pack(struct store_call *c, const struct store_mounts *left,
		const struct store_mounts *right, struct layer_sink *sink)
{
	CLEANUP_CLOSE int left_fd = -1, right_fd = -1;
	bool left_known, right_known, upper = false;
	struct overlay l, r;
	int err;

	if (!left->n) {
		err = store_mounts_open(right, true, &right_fd, c->f);
		return err ? err : layer_pack(c, right_fd, LAYER_FROM_TREE, layer_sink_write, sink);
	}
	err = parts_of(left, &l, &left_known);
	if (!err) {
		err = parts_of(right, &r, &right_known);
		upper = !err && left_known && right_known && is_difference(&l, &r);
		overlay_clear(&r);
	}
	overlay_clear(&l);
	if (err < 0)
		return fault_sys(c->f, -err, "read the mounts", NULL);
	if (upper) {
		err = store_mounts_upper(right, &right_fd, c->f);
		return err ? err
			   : layer_pack(c, right_fd, LAYER_FROM_UPPER, layer_sink_write, sink);
	}
	err = store_mounts_open(left, true, &left_fd, c->f);
	if (err < 0) {
		fault_arg(c->f, "left");
		return err;
	}
	err = store_mounts_open(right, true, &right_fd, c->f);
	return err ? err : layer_pack_changes(c, left_fd, right_fd, layer_sink_write, sink);
}

static int fill(struct store_call *c, const struct store_mounts *left,
		const struct store_mounts *right, struct ingest *ingest,
		enum layer_compression compression, struct digest *diff_id)
{
	struct layer_sink *sink;
	int r = layer_sink_new(&sink, ingest, compression, 0, c->f);

	if (r < 0)
		return r;
	store_progress_phase(c->progress, "diff", 0);
	r = pack(c, left, right, sink);
	/*
	 * Of the left side it is said by whoever opens that. What has run out, or was cancelled, is no
	 * fault of either.
	 */
	if (r < 0 &&
	    (!strcmp(c->f->argument, "mounts") ||
	     (!c->f->argument[0] && r != -ECANCELED && c->f->code != FAULT_RESOURCE_EXHAUSTED)))
		fault_arg(c->f, "right");
	if (!r)
		r = layer_sink_finish(sink, diff_id, NULL, c->f);
	layer_sink_free(sink);
	return r;
}

/* The caller's labels, and the diff id. */
static struct db_label *with_diff_id(const struct diff_options *o, const struct digest *diff_id,
				     size_t *n)
{
	struct db_label *v = calloc(o->n_labels + 1, sizeof(*v));

	if (!v)
		return NULL;
	*n = 0;
	for (size_t i = 0; i < o->n_labels; i++)
		if (strcmp(o->labels[i].key, LABEL_UNCOMPRESSED) != 0)
			v[(*n)++] = o->labels[i];
	v[(*n)++] = (struct db_label){ LABEL_UNCOMPRESSED, diff_id->text };
	return v;
}

/* The blob that was there already gets the labels beside its own. */
static int add_labels(struct store_call *c, const struct digest *digest, const struct db_label *v,
		      size_t n)
{
	int r = 0;

	memset(c->f, 0, sizeof(*c->f));
	for (size_t i = 0; i < n && !r; i++)
		r = content_set_label(c, digest->text, v[i].key, v[i].value);
	return r;
}

/* i is gone afterwards. */
static int commit(struct store_call *c, struct ingest *i, const struct diff_options *o,
		  const struct digest *diff_id, struct digest *digest)
{
	size_t n;
	struct db_label *labels = with_diff_id(o, diff_id, &n);
	int r;

	if (!labels) {
		ingest_discard(i);
		return fault_sys(c->f, ENOMEM, "label the layer", NULL);
	}
	r = ingest_commit(c, i, -1, NULL, labels, n, digest);
	if (r == -EEXIST) {
		r = add_labels(c, digest, labels, n);
		/* when nothing holds it, it may be collected at any moment, also at this one */
		if (r == -ENOENT)
			r = 0;
	} else if (r < 0) {
		ingest_discard(i);
	}
	free(labels);
	return r;
}

int diff_make(struct store_call *c, const struct store_mounts *left,
	      const struct store_mounts *right, const struct diff_options *o,
	      struct oci_descriptor *diff)
{
	const char *media_type = o->media_type && *o->media_type ? o->media_type : OCI_LAYER_ZSTD;
	enum layer_compression compression;
	struct digest diff_id, digest;
	struct ingest *ingest;
	unsigned char random[12];
	char own[64] = "diff-";
	uint64_t size = 0;
	int r;

	memset(diff, 0, sizeof(*diff));
	r = layer_media_type(media_type, &compression, c->f);
	if (r < 0) {
		fault_arg(c->f, "media_type");
		return r;
	}
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return fault_sys(c->f, errno, "name the ingest", NULL);
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(own + 5 + 2 * i, 3, "%02x", random[i]);
	r = ingest_open(c, o->ref && *o->ref ? o->ref : own, NULL, -1, &ingest);
	if (r < 0)
		return r;
	r = ingest_offset(ingest) ? ingest_restart(ingest, -1, c->f) : 0;
	if (!r)
		r = fill(c, left, right, ingest, compression, &diff_id);
	if (r < 0) {
		ingest_discard(ingest);
		return r;
	}
	size = ingest_offset(ingest);
	r = commit(c, ingest, o, &diff_id, &digest);
	if (!r && oci_descriptor_new(diff, media_type, &digest, size) < 0)
		r = fault_sys(c->f, ENOMEM, "answer with the layer", NULL);
	return r;
}
