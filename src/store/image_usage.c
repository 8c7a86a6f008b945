// SPDX-License-Identifier: Apache-2.0
/*
 * Images: what one takes up
 *
 * Its blobs as far as they are there, each once; what of them other images of the namespace have as
 * well; and the snapshots of its layers with every snapshotter that has them. The others' blobs are
 * found by walking all of them, so this reads every manifest of the namespace.
 */
#include <errno.h>
#include <string.h>

#include "store/image_internal.h"
#include "store/snapshot.h"

struct counting {
	struct store_call *c;
	const char *name;
	struct lh_table *own; /* its digests that no other image was seen to have */
	struct oci_descriptor *others; /* targets */
	size_t n_others;
	struct image_usage *out;
};

static int on_own(void *user, const struct oci_descriptor *d, bool missing)
{
	struct counting *co = user;
	char *key;

	if (missing)
		return 0;
	key = strdup(d->digest.text);
	if (!key || lh_table_insert(co->own, key, NULL) < 0) {
		free(key);
		return image_no_memory(co->c->f);
	}
	co->out->size += d->size;
	return 0;
}

/* Counted once, however many others have it. */
static int on_other(void *user, const struct oci_descriptor *d, bool missing)
{
	struct counting *co = user;

	if (missing)
		return 0;
	if (!lh_table_delete(co->own, d->digest.text))
		co->out->shared += d->size;
	return 0;
}

static int on_image(void *user, const struct image_info *info)
{
	struct counting *co = user;
	struct oci_descriptor *grown;
	int r;

	if (!strcmp(info->name, co->name))
		return 0;
	if (!(co->n_others & (co->n_others - 1))) {
		grown = reallocarray(co->others, co->n_others ? co->n_others * 2 : 1,
				     sizeof(*grown));
		if (!grown)
			return image_no_memory(co->c->f);
		co->others = grown;
	}
	r = oci_descriptor_copy(&co->others[co->n_others], info->target, co->c->f);
	co->n_others += !r;
	return r;
}

static void free_key(struct lh_entry *e)
{
	free(lh_entry_k(e));
}

static int count_blobs(struct counting *co, const struct oci_descriptor *target)
{
	int r;

	co->own = lh_kchar_table_new(64, free_key);
	if (!co->own)
		return image_no_memory(co->c->f);
	r = image_walk(co->c, target, false, on_own, co);
	if (!r)
		r = image_list(co->c, "", on_image, co);
	for (size_t i = 0; i < co->n_others; i++) {
		if (!r)
			r = image_walk(co->c, &co->others[i], false, on_other, co);
		oci_descriptor_clear(&co->others[i]);
	}
	free(co->others);
	lh_table_free(co->own);
	return r;
}

/* ---- snapshots */

static int count_chain(struct counting *co, const struct oci_config *config)
{
	static const char *const snapshotters[] = { SNAPSHOTTER_OVERLAYFS, SNAPSHOTTER_NATIVE };
	struct digest chain = { "" };

	for (size_t i = 0; i < config->n; i++) {
		if (oci_chain_id(&chain, &config->diff_ids[i], &chain) < 0)
			return image_no_memory(co->c->f);
		for (size_t s = 0; s < ARRAY_SIZE(snapshotters); s++) {
			struct snapshot_usage usage;
			int r = snapshot_usage(co->c, snapshotters[s], chain.text, &usage);

			if (r < 0 && r != -ENOENT)
				return r;
			if (!r)
				co->out->unpacked += usage.size;
		}
	}
	return 0;
}

/* Of this machine's platform, or the only one that is there; an image that has none, or is none, has no snapshots. */
static int count_snapshots(struct counting *co, const struct oci_descriptor *target)
{
	struct store_call *c = co->c;
	struct oci_platform platform;
	struct oci_descriptor manifest;
	struct oci_document doc;
	struct oci_config config;
	int r = oci_platform_parse(&platform, NULL, c->f);

	if (r < 0)
		return r;
	r = image_manifest_here(c, target, &platform, &manifest, &doc);
	oci_platform_clear(&platform);
	if (r < 0)
		return c->f->code == FAULT_NOT_FOUND || c->f->code == FAULT_FAILED_PRECONDITION ? 0
												: r;
	if (oci_is_config(doc.config.media_type)) {
		r = image_config(c, &manifest, &doc, &config);
		if (!r) {
			r = count_chain(co, &config);
			oci_config_clear(&config);
		} else if (c->f->code == FAULT_FAILED_PRECONDITION) {
			r = 0;
		}
	}
	oci_document_clear(&doc);
	oci_descriptor_clear(&manifest);
	return r;
}

int image_usage(struct store_call *c, const char *name, struct image_usage *out)
{
	struct counting co = { .c = c, .name = name, .out = out };
	struct oci_descriptor target;
	int r;

	memset(out, 0, sizeof(*out));
	r = image_target(c, name, &target);
	if (r < 0)
		return r;
	r = count_blobs(&co, &target);
	if (!r)
		r = count_snapshots(&co, &target);
	oci_descriptor_clear(&target);
	return r;
}
