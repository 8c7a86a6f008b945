// SPDX-License-Identifier: Apache-2.0
/*
 * Export: which blobs, and index.json
 *
 * What is to be written is known before the first byte is: a plan lists each blob once, so that an
 * image of which something is missing fails before there is half an archive. Of an index, those
 * manifests go along that are complete; one must be. With a platform it is that manifest alone, and
 * index.json names it directly.
 *
 * The same images give the same bytes: names and blobs are sorted, and nothing of this machine or
 * moment is written. Each entry of index.json has the image's whole name in both annotations that
 * tools look for.
 */
#include <errno.h>
#include <string.h>

#include "store/image_export_internal.h"
#include "util/limits.h"

int export_add(struct export_plan *p, const struct digest *digest, uint64_t size, char *text,
	       const struct digest *packed)
{
	struct export_blob *grown;
	int r = image_set_add(p->known, digest->text);

	if (r > 0 && !(p->n_blobs & (p->n_blobs - 1))) {
		grown = reallocarray(p->blobs, p->n_blobs ? p->n_blobs * 2 : 1, sizeof(*grown));
		if (grown)
			p->blobs = grown;
		else
			r = -ENOMEM;
	}
	if (r <= 0) {
		free(text);
		return r < 0 ? image_no_memory(p->c->f) : 0;
	}
	p->blobs[p->n_blobs++] = (struct export_blob){
		.digest = *digest,
		.size = size,
		.text = text,
		.packed = packed ? *packed : (struct digest){ "" },
	};
	p->total += size;
	return 1;
}

static int on_size(void *user, const struct content_info *info)
{
	*(uint64_t *)user = info->size;
	return 0;
}

/* 1: it is there, 0: it is missing. */
static int present(struct export_plan *p, const struct oci_descriptor *d)
{
	uint64_t size = 0;
	int r = content_has(p->c, d->digest.text);

	if (r > 0) {
		r = content_info(p->c, d->digest.text, on_size, &size);
		if (r < 0)
			return r;
		if (size == d->size)
			return 1;
		fault_set(p->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s has %llu bytes, but its descriptor says %llu", d->digest.text,
			  (unsigned long long)size, (unsigned long long)d->size);
		return -EINVAL;
	}
	if (!r && !*p->missing)
		memcpy(p->missing, d->digest.text, sizeof(p->missing));
	return r;
}

int export_content(struct export_plan *p, const struct oci_descriptor *d)
{
	int r = present(p, d);

	if (r > 0)
		r = export_add(p, &d->digest, d->size, NULL, NULL);
	else
		return r;
	return r < 0 ? r : 1;
}

int export_incomplete(struct export_plan *p, const char *name)
{
	fault_set(p->c->f, FAULT_FAILED_PRECONDITION, 0,
		  "the image '%.512s' is not complete: %s is missing", name, p->missing);
	return -ENOENT;
}

int export_entry(struct export_plan *p, const struct oci_descriptor *d, const char *name)
{
	json_object *copy = NULL, *annotations;

	if (json_object_deep_copy(d->json, &copy, NULL) < 0)
		return image_no_memory(p->c->f);
	if (!json_object_object_get_ex(copy, "annotations", &annotations) || !annotations) {
		annotations = json_object_new_object();
		if (oci_add(copy, "annotations", annotations) < 0)
			annotations = NULL;
	}
	if (!annotations ||
	    oci_add(annotations, OCI_IMAGE_NAME, json_object_new_string(name)) < 0 ||
	    oci_add(annotations, OCI_REF_NAME, json_object_new_string(name)) < 0) {
		json_object_put(copy);
		return image_no_memory(p->c->f);
	}
	return oci_append(p->manifests, copy) < 0 ? image_no_memory(p->c->f) : 0;
}

/* ---- what hangs below a target */

struct collect {
	struct export_plan *p;
	struct lh_table *seen;
	size_t count;
};

/* All or nothing of a manifest: 1 or 0. */
static int collect_manifest(struct export_plan *p, const struct oci_descriptor *d)
{
	struct oci_document doc;
	int r = present(p, d);

	if (r <= 0)
		return r;
	r = image_document(p->c, d, &doc);
	if (r < 0)
		return r;
	r = present(p, &doc.config);
	for (size_t i = 0; r > 0 && i < doc.n_children; i++)
		r = present(p, &doc.children[i]);
	if (r > 0)
		r = export_content(p, d);
	if (r > 0)
		r = export_content(p, &doc.config);
	for (size_t i = 0; r > 0 && i < doc.n_children; i++)
		r = export_content(p, &doc.children[i]);
	oci_document_clear(&doc);
	return r;
}

/* 1: something below it goes along, 0: nothing is complete. */
static int collect(struct collect *co, const struct oci_descriptor *d, unsigned depth)
{
	struct export_plan *p = co->p;
	struct oci_document doc;
	int r = image_set_add(co->seen, d->digest.text), some = 0;

	if (r <= 0)
		return r < 0 ? image_no_memory(p->c->f) : 0;
	if (++co->count > LIMIT_IMAGE_CHILDREN || depth > LIMIT_IMAGE_DEPTH) {
		fault_set(p->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%s: the indexes name more than %u manifests, or are nested deeper "
			  "than %u",
			  d->digest.text, LIMIT_IMAGE_CHILDREN, LIMIT_IMAGE_DEPTH);
		return -E2BIG;
	}
	r = store_cancelled(p->c);
	if (r < 0)
		return r;
	switch (oci_kind_of(d->media_type)) {
	case OCI_KIND_MANIFEST:
		return collect_manifest(p, d);
	case OCI_KIND_OTHER:
		return export_content(p, d);
	case OCI_KIND_INDEX:
		break;
	}
	r = present(p, d);
	if (r <= 0)
		return r;
	r = image_document(p->c, d, &doc);
	for (size_t i = 0; r >= 0 && i < doc.n_children; i++) {
		r = collect(co, &doc.children[i], depth + 1);
		some |= r > 0;
	}
	oci_document_clear(&doc);
	if (r >= 0 && some)
		r = export_content(p, d);
	return r < 0 ? r : some;
}

int export_manifest(struct export_plan *p, const struct oci_descriptor *target,
		    const struct oci_platform *platform, struct oci_descriptor *manifest,
		    struct oci_document *doc)
{
	int r;

	if (!p->platform)
		return image_manifest_here(p->c, target, platform, manifest, doc);
	r = image_manifest(p->c, target, platform, manifest, doc);
	if (!r) {
		r = image_is_for(p->c, manifest, doc, platform, NULL, NULL);
		if (r < 0) {
			oci_descriptor_clear(manifest);
			oci_document_clear(doc);
		}
	}
	return r;
}

static int add_oci(struct export_plan *p, const char *name, const struct oci_descriptor *target)
{
	struct collect co = { .p = p };
	struct oci_platform platform;
	struct oci_descriptor manifest = { 0 };
	struct oci_document doc = { 0 };
	int r = 0;

	if (p->platform) {
		r = oci_platform_parse(&platform, p->platform, p->c->f);
		if (r < 0)
			return r;
		r = export_manifest(p, target, &platform, &manifest, &doc);
		oci_platform_clear(&platform);
		oci_document_clear(&doc);
		target = &manifest;
	}
	*p->missing = '\0';
	co.seen = image_set_new();
	if (!co.seen && !r)
		r = image_no_memory(p->c->f);
	if (!r) {
		r = collect(&co, target, 0);
		if (!r)
			r = *p->missing ? export_incomplete(p, name)
					: fault_set(p->c->f, FAULT_FAILED_PRECONDITION, ENOENT,
						    "the image '%.512s' is an empty index", name);
	}
	if (r > 0)
		r = export_entry(p, target, name);
	if (co.seen)
		lh_table_free(co.seen);
	oci_descriptor_clear(&manifest);
	return r;
}

/* ---- the whole */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_digest(const void *a, const void *b)
{
	const struct export_blob *x = a, *y = b;

	return strcmp(x->digest.text, y->digest.text);
}

static int plan(struct export_plan *p, const char *const *names, size_t n)
{
	int r = 0;

	p->known = image_set_new();
	p->index = json_object_new_object();
	p->manifests = json_object_new_array();
	if (!p->known || !p->index || !p->manifests ||
	    oci_add(p->index, "schemaVersion", json_object_new_int(2)) < 0 ||
	    oci_add(p->index, "mediaType", json_object_new_string(OCI_INDEX)) < 0 ||
	    oci_add(p->index, "manifests", json_object_get(p->manifests)) < 0)
		return image_no_memory(p->c->f);
	for (size_t i = 0; !r && i < n; i++) {
		struct oci_descriptor target;

		if (i && !strcmp(names[i], names[i - 1]))
			continue;
		r = image_target(p->c, names[i], &target);
		if (r < 0)
			break;
		r = p->docker ? export_docker(p, names[i], &target) : add_oci(p, names[i], &target);
		oci_descriptor_clear(&target);
	}
	if (!r && p->blobs)
		qsort(p->blobs, p->n_blobs, sizeof(*p->blobs), by_digest);
	return r;
}

static void plan_clear(struct export_plan *p)
{
	for (size_t i = 0; i < p->n_blobs; i++)
		free(p->blobs[i].text);
	free(p->blobs);
	if (p->known)
		lh_table_free(p->known);
	json_object_put(p->manifests);
	json_object_put(p->index);
	json_object_put(p->docker);
}

int image_export(struct store_call *c, const char *const *names, size_t n, int fd,
		 enum image_format format, const char *platform, uint64_t *size)
{
	struct export_plan p = { .c = c, .platform = platform && *platform ? platform : NULL };
	CLEANUP_FREE const char **sorted = calloc(n + 1, sizeof(*sorted));
	struct lease_hold hold;
	int r;

	*size = 0;
	if (format == IMAGE_DOCKER)
		p.docker = json_object_new_array();
	if (!sorted || (format == IMAGE_DOCKER && !p.docker)) {
		plan_clear(&p);
		return image_no_memory(c->f);
	}
	if (!n) {
		fault_set(c->f, FAULT_INVALID_ARGUMENT, 0, "no image is named");
		fault_arg(c->f, "names");
		return -EINVAL;
	}
	memcpy(sorted, names, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_text);
	r = lease_hold(c, &hold);
	if (r < 0) {
		plan_clear(&p);
		return r;
	}
	r = plan(&p, sorted, n);
	if (!r)
		r = export_write(&p, fd, size);
	lease_release(c, &hold);
	plan_clear(&p);
	return r;
}
