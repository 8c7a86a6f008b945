// SPDX-License-Identifier: Apache-2.0
/*
 * Images: what hangs below a descriptor, and the labels that keep it
 *
 * Indexes hold manifests and further indexes, manifests hold a config and layers. All of them name
 * each other by digest, so no real cycle can exist, but a tree may be deep, wide, or meet the same
 * document many times: each digest is visited once, and depth and number are bounded.
 *
 * A document is labelled before its children are looked for. So whatever is seen to be there is
 * already reachable from the target, which the caller holds.
 *
 * The labels are containerd's: gc.ref.content.m.N of an index, gc.ref.content.config and .l.N of a
 * manifest. They are set for children that are missing as well; those may still come.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/content_internal.h"
#include "store/image_internal.h"
#include "util/limits.h"

static void free_key(struct lh_entry *e)
{
	free(lh_entry_k(e));
}

struct lh_table *image_set_new(void)
{
	return lh_kchar_table_new(64, free_key);
}

int image_set_add(struct lh_table *set, const char *text)
{
	char *key;

	if (lh_table_lookup_entry(set, text))
		return 0;
	key = strdup(text);
	if (key && !lh_table_insert(set, key, NULL))
		return 1;
	free(key);
	return -ENOMEM;
}

/* ---- documents */

/* The bytes of a small blob, as long as the descriptor says. `what`: "manifest" and so on. */
static int read_blob(struct store_call *c, const struct oci_descriptor *d, const char *what,
		     char **text, size_t *size)
{
	int r = content_read_all(c, d->digest.text, LIMIT_MANIFEST_BYTES, text, size);

	if (r == -ENOENT) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the %s %s is missing in the namespace '%s'", what, d->digest.text,
			  c->ns);
		return r;
	}
	if (r < 0)
		return r;
	if (*size == d->size)
		return 0;
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
		  "the %s %s has %zu bytes, but its descriptor says %llu", what, d->digest.text,
		  *size, (unsigned long long)d->size);
	return -EINVAL;
}

int image_document(struct store_call *c, const struct oci_descriptor *d, struct oci_document *doc)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	memset(doc, 0, sizeof(*doc));
	r = read_blob(c, d, oci_kind_of(d->media_type) == OCI_KIND_INDEX ? "index" : "manifest",
		      &text, &size);
	return r < 0 ? r : oci_document_read(doc, text, size, d->media_type, d->digest.text, c->f);
}

int image_config(struct store_call *c, const struct oci_descriptor *manifest,
		 const struct oci_document *doc, struct oci_config *config)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	memset(config, 0, sizeof(*config));
	if (!oci_is_config(doc->config.media_type)) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s is no container image: its config is of the type %.128s",
			  manifest->digest.text, doc->config.media_type);
		return -EINVAL;
	}
	r = read_blob(c, &doc->config, "config", &text, &size);
	if (!r)
		r = oci_config_read(config, text, size, doc->config.digest.text, c->f);
	if (r < 0)
		return r;
	if (config->n == doc->n_children)
		return 0;
	fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
		  "%s has %zu layers, but its config %s lists %zu diff_ids", manifest->digest.text,
		  doc->n_children, doc->config.digest.text, config->n);
	oci_config_clear(config);
	return -EINVAL;
}

/* ---- labels */

static int label_add(struct db_label *labels, size_t *n, const char *digest, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

static int label_add(struct db_label *labels, size_t *n, const char *digest, const char *fmt, ...)
{
	va_list ap;
	char *key;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&key, fmt, ap);
	va_end(ap);
	if (r < 0)
		return -ENOMEM;
	labels[*n].key = key;
	labels[(*n)++].value = digest;
	return 0;
}

int image_label(struct store_call *c, const struct oci_descriptor *d,
		const struct oci_document *doc, const bool *keep)
{
	CLEANUP_FREE struct db_label *labels = calloc(doc->n_children + 1, sizeof(*labels));
	bool index = doc->kind == OCI_KIND_INDEX;
	size_t n = 0;
	int r = 0;

	if (!labels)
		return image_no_memory(c->f);
	if (doc->n_children >= LIMIT_LABELS) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s has %zu entries; at most %u can be kept", d->digest.text,
			  doc->n_children, LIMIT_LABELS - 1);
		return -E2BIG;
	}
	if (!index)
		r = label_add(labels, &n, doc->config.digest.text, IMAGE_GC_CONTENT "config");
	for (size_t i = 0; !r && i < doc->n_children; i++) {
		const struct oci_descriptor *child = &doc->children[i];
		const char *kind = index ? "m." : "l.";

		if (index && keep && !keep[i])
			continue;
		if (index && oci_kind_of(child->media_type) == OCI_KIND_OTHER)
			kind = "";
		r = label_add(labels, &n, child->digest.text, IMAGE_GC_CONTENT "%s%zu", kind, i);
	}
	r = r < 0 ? image_no_memory(c->f) : content_merge_labels(c, d->digest.text, labels, n);
	for (size_t i = 0; i < n; i++)
		free((char *)labels[i].key);
	return r;
}

/* ---- the walk */

struct walk {
	struct store_call c; /* without the lease: what is reachable need not join it */
	struct lh_table *seen;
	size_t count;
	bool label;
	image_walk_fn fn;
	void *user;
};

static int visit(struct walk *w, const struct oci_descriptor *d, unsigned depth)
{
	struct store_call *c = &w->c;
	struct oci_document doc;
	int r = image_set_add(w->seen, d->digest.text);
	bool missing;

	if (r <= 0)
		return r < 0 ? image_no_memory(c->f) : 0;
	if (++w->count > LIMIT_IMAGE_CHILDREN) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the image consists of more than %u blobs", LIMIT_IMAGE_CHILDREN);
		return -E2BIG;
	}
	r = store_cancelled(c);
	if (!r)
		r = content_has(c, d->digest.text);
	if (r < 0)
		return r;
	missing = !r;
	r = w->fn ? w->fn(w->user, d, missing) : 0;
	if (r || missing || oci_kind_of(d->media_type) == OCI_KIND_OTHER)
		return r;
	if (depth > LIMIT_IMAGE_DEPTH) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s: indexes are nested deeper than %u", d->digest.text,
			  LIMIT_IMAGE_DEPTH);
		return -ELOOP;
	}
	r = image_document(c, d, &doc);
	if (r < 0)
		return r;
	if (w->label)
		r = image_label(c, d, &doc, NULL);
	if (!r && doc.kind == OCI_KIND_MANIFEST)
		r = visit(w, &doc.config, depth + 1);
	for (size_t i = 0; !r && i < doc.n_children; i++)
		r = visit(w, &doc.children[i], depth + 1);
	oci_document_clear(&doc);
	return r;
}

int image_walk(struct store_call *c, const struct oci_descriptor *target, bool label,
	       image_walk_fn fn, void *user)
{
	struct walk w = {
		.c = *c, .seen = image_set_new(), .label = label, .fn = fn, .user = user
	};
	int r;

	if (!w.seen)
		return image_no_memory(c->f);
	w.c.lease = NULL;
	r = visit(&w, target, 0);
	lh_table_free(w.seen);
	return r;
}
