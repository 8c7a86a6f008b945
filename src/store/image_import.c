// SPDX-License-Identifier: Apache-2.0
/*
 * Import: from a source that has been read to images with names
 *
 * A layout's index.json, or else docker's manifest.json, gives targets and names. Below each target
 * it is then found out what has to be there: all of the manifest for the wanted platform, or with
 * all_platforms of every manifest, attestations excepted. Only that gets the labels which keep it, so the
 * rest of a multi-platform image, which an archive may bring along or leave out, is collected later.
 * Then all records are written in one transaction, and the lease that has held everything goes.
 *
 * An image gets its name and its target from an archive, never labels: what a stranger wrote must
 * not become a checkpoint, a root of collection, or anything else that davit's own labels say.
 *
 * Names: io.containerd.image.name, else org.opencontainers.image.ref.name, else docker's RepoTags,
 * taken as they are; a ref.name that is a tag alone ("latest") is an image of that name. Entries
 * without a name beside others that have one are no images of their own.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "store/image_import_internal.h"
#include "util/json.h"
#include "util/limits.h"

static int refuse(struct import *im, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct import *im, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(im->c->f, FAULT_FAILED_PRECONDITION, 0, fmt, ap);
	va_end(ap);
	return -err;
}

/* ---- names */

int import_name_add(struct import *im, const char *name, const struct oci_descriptor *target)
{
	struct import_name *grown, *to;
	int r;

	/* grows at powers of two */
	if (!(im->n_names & (im->n_names - 1))) {
		grown = reallocarray(im->names, im->n_names ? im->n_names * 2 : 1, sizeof(*grown));
		if (!grown)
			return image_no_memory(im->c->f);
		im->names = grown;
	}
	to = &im->names[im->n_names];
	to->name = NULL;
	r = oci_descriptor_copy(&to->target, target, im->c->f);
	if (r < 0)
		return r;
	to->name = name && *name ? strdup(name) : NULL;
	im->n_names++;
	return name && *name && !to->name ? image_no_memory(im->c->f) : 0;
}

static int check_layout(struct import *im)
{
	CLEANUP(oci_json_putp) json_object *layout = NULL;
	json_object *version;
	struct fault why = { 0 };

	if (!im->layout)
		return refuse(im, ENOENT,
			      "there is an index.json, but no file oci-layout beside it");
	if (json_parse(im->layout, im->layout_size, &layout, &why) < 0)
		return refuse(im, EINVAL, "oci-layout: not a JSON document (%s)", why.message);
	if (!json_object_object_get_ex(layout, "imageLayoutVersion", &version) ||
	    !json_object_is_type(version, json_type_string))
		return refuse(im, EINVAL, "oci-layout: no imageLayoutVersion");
	if (strncmp(json_object_get_string(version), "1.", 2))
		return refuse(im, EINVAL, "oci-layout: the version %.32s is not supported",
			      json_object_get_string(version));
	return 0;
}

static int read_index(struct import *im)
{
	struct oci_document doc;
	int r = check_layout(im);

	if (!r)
		r = oci_document_read(&doc, im->index, im->index_size, OCI_INDEX, "index.json",
				      im->c->f);
	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < doc.n_children; i++) {
		const struct oci_descriptor *d = &doc.children[i];
		const char *name = oci_descriptor_annotation(d, OCI_IMAGE_NAME);

		if (!name || !*name)
			name = oci_descriptor_annotation(d, OCI_REF_NAME);
		r = import_name_add(im, name, d);
	}
	oci_document_clear(&doc);
	return r;
}

/* The record has the name; the archive's annotations of it would only contradict. */
static void drop_names(struct oci_descriptor *d)
{
	json_object *annotations;

	if (!json_object_object_get_ex(d->json, "annotations", &annotations))
		return;
	json_object_object_del(annotations, OCI_REF_NAME);
	json_object_object_del(annotations, OCI_IMAGE_NAME);
	if (!json_object_object_length(annotations))
		json_object_object_del(d->json, "annotations");
}

static void name_clear(struct import_name *n)
{
	free(n->name);
	oci_descriptor_clear(&n->target);
}

/* A name twice is one image, or a contradiction. */
static int unite_names(struct import *im)
{
	CLEANUP(lh_table_freep) struct lh_table *seen = lh_kchar_table_new(64, NULL);
	size_t n = 0;

	if (!seen)
		return image_no_memory(im->c->f);
	for (size_t i = 0; i < im->n_names; i++) {
		struct import_name *name = &im->names[i];
		const struct lh_entry *e = lh_table_lookup_entry(seen, name->name);
		const struct oci_descriptor *first = e ? lh_entry_v(e) : NULL;
		bool same = first && !strcmp(first->digest.text, name->target.digest.text);

		if (first && !same)
			return refuse(im, EINVAL,
				      "the archive has two images of the name '%.256s': %s and %s",
				      name->name, first->digest.text, name->target.digest.text);
		if (same) {
			name_clear(name);
			memset(name, 0, sizeof(*name));
			continue;
		}
		if (n != i) {
			im->names[n] = *name;
			memset(name, 0, sizeof(*name));
		}
		if (lh_table_insert(seen, im->names[n].name, &im->names[n].target) < 0)
			return image_no_memory(im->c->f);
		n++;
	}
	im->n_names = n;
	return 0;
}

/* A name of the archive's own is no argument of the call. */
static int check_names(struct import *im)
{
	struct fault *f = im->c->f;
	int r = 0;

	for (size_t i = 0; !r && i < im->n_names; i++)
		r = image_check_name(im->c, im->names[i].name);
	if (r < 0 && !im->in->name) {
		f->code = FAULT_FAILED_PRECONDITION;
		fault_arg(f, "");
		fault_prefix(f, "the archive");
	}
	return r;
}

static int fetch(void *user, const struct oci_descriptor *d);

/* It becomes no image: a gap. */
static void name_drop(struct import_name *name)
{
	name_clear(name);
	memset(name, 0, sizeof(*name));
}

static void close_gaps(struct import *im)
{
	size_t n = 0;

	for (size_t i = 0; i < im->n_names; i++) {
		if (!*im->names[i].target.digest.text)
			continue;
		if (n != i) {
			im->names[n] = im->names[i];
			memset(&im->names[i], 0, sizeof(im->names[i]));
		}
		n++;
	}
	im->n_names = n;
}

/* Entries of one name are a list by their places, which 0 ends: at most one is left. */
static int choose_one(struct import *im, size_t first, const size_t *next)
{
	CLEANUP_FREE struct oci_descriptor *v = NULL; /* borrowed */
	const struct import_name *one = &im->names[first];
	size_t n = 1, which = 0, k = 0;
	bool differ = false;
	int r = store_cancelled(im->c);

	for (size_t i = next[first]; i; i = next[i], n++)
		differ |= strcmp(one->target.digest.text, im->names[i].target.digest.text) != 0;
	if (r < 0 || !differ)
		return r;
	v = calloc(n, sizeof(*v));
	if (!v)
		return image_no_memory(im->c->f);
	for (size_t i = first; k < n; i = next[i])
		v[k++] = im->names[i].target;
	r = image_choose_among(im->c, v, n, &im->platform, fetch, im, &which);
	if (r < 0 && one->name)
		fault_prefix(im->c->f, "%.256s", one->name);
	if (r <= 0)
		return r;
	k = 0;
	for (size_t i = first; k < n; i = next[i], k++) {
		if (k == which)
			continue;
		name_drop(&im->names[i]);
	}
	return 0;
}

/* next[i] becomes the next entry with the name of i. */
static int link_names(struct import *im, size_t *next, bool *first)
{
	CLEANUP(lh_table_freep) struct lh_table *seen = lh_kchar_table_new(64, NULL);

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < im->n_names; i++) {
		struct import_name *own = &im->names[i];
		const char *name = own->name ? own->name : "";
		struct lh_entry *e = lh_table_lookup_entry(seen, name);

		first[i] = !e;
		if (e) {
			next[(const struct import_name *)lh_entry_v(e) - im->names] = i;
			lh_entry_set_val(e, own);
		} else if (lh_table_insert(seen, name, own) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

/*
 * One name may stand for an image of several platforms without an index that says so: then the wanted
 * one stays. Those that are for the same platform are left; they contradict each other.
 */
static int choose_platforms(struct import *im)
{
	CLEANUP_FREE size_t *next = calloc(im->n_names + 1, sizeof(*next));
	CLEANUP_FREE bool *first = calloc(im->n_names + 1, sizeof(*first));
	int r = next && first ? link_names(im, next, first) : -ENOMEM;

	if (r < 0)
		return image_no_memory(im->c->f);
	for (size_t i = 0; !r && i < im->n_names; i++)
		if (first[i])
			r = choose_one(im, i, next);
	close_gaps(im);
	return r;
}

/* Leaves those that become images, each with its name. */
static int choose_names(struct import *im)
{
	const char *own = im->in->name;
	bool named = false, several = false;
	int r;

	for (size_t i = 0; i < im->n_names; i++)
		named = named || im->names[i].name;
	for (size_t i = 0; i < im->n_names; i++) {
		if (named && !im->names[i].name)
			name_drop(&im->names[i]);
	}
	close_gaps(im);
	if (!im->n_names)
		return refuse(im, ENOENT, "the archive has no image");
	r = (named || own) && !im->in->all_platforms ? choose_platforms(im) : 0;
	if (r < 0)
		return r;
	for (size_t i = 1; i < im->n_names; i++)
		several = several ||
			  strcmp(im->names[0].target.digest.text, im->names[i].target.digest.text);
	if ((!named && !own) || (several && own)) {
		fault_set(im->c->f, FAULT_INVALID_ARGUMENT, 0,
			  !own	  ? "the archive does not name its image; say which name it "
				    "shall have"
			  : named ? "the archive has several images, so one name is not enough; "
				    "leave it out to use the archive's"
				  : "the archive has several images without names");
		fault_arg(im->c->f, "name");
		return -EINVAL;
	}
	if (own) {
		for (size_t i = 1; i < im->n_names; i++)
			name_clear(&im->names[i]);
		im->n_names = 1;
		free(im->names[0].name);
		im->names[0].name = strdup(own);
		if (!im->names[0].name)
			return image_no_memory(im->c->f);
	}
	for (size_t i = 0; i < im->n_names; i++)
		drop_names(&im->names[i].target);
	r = check_names(im);
	return r < 0 ? r : unite_names(im);
}

/* ---- what has to be there */

static int on_size(void *user, const struct content_info *info)
{
	*(uint64_t *)user = info->size;
	return 0;
}

/* A folder's blob is looked at once; whether it is in the content. */
static int need_of_folder(struct import *im, const struct oci_descriptor *d)
{
	int r = image_set_add(im->looked_at, d->digest.text);

	if (r < 0)
		return image_no_memory(im->c->f);
	if (r) {
		r = import_folder_blob(im, d);
		if (r)
			return r;
	}
	return content_has(im->c, d->digest.text);
}

/* 1: it is in the content and of its size, 0: it is missing. */
static int need(struct import *im, const struct oci_descriptor *d)
{
	uint64_t size = 0;
	int r = im->folder >= 0 ? need_of_folder(im, d) : content_has(im->c, d->digest.text);

	if (r <= 0)
		return r;
	r = content_info(im->c, d->digest.text, on_size, &size);
	if (r < 0)
		return r;
	return size == d->size
		       ? 1
		       : refuse(im, EINVAL, "%s has %llu bytes, but its descriptor says %llu",
				d->digest.text, (unsigned long long)size,
				(unsigned long long)d->size);
}

static int fetch(void *user, const struct oci_descriptor *d)
{
	return need(user, d);
}

/* Of a manifest. strict: a missing blob is an error, else 0; 1 when all is there. */
static int need_blob(struct import *im, const struct oci_descriptor *d, const char *what,
		     const struct oci_descriptor *of, bool strict)
{
	int r = need(im, d);

	if (r || !strict)
		return r;
	if (of)
		return refuse(im, ENOENT, "the archive lacks the %s %s of the manifest %s", what,
			      d->digest.text, of->digest.text);
	return refuse(im, ENOENT, "the archive lacks the %s %s", what, d->digest.text);
}

/* Layers that could not be unpacked are refused before anybody relies on the image. */
static int check_layers(struct import *im, const struct oci_descriptor *d,
			const struct oci_document *doc, bool strict)
{
	enum layer_compression compression;
	struct oci_config config;
	struct fault why = { 0 };
	int r;

	/* an artifact, whose parts are nobody's business */
	if (!oci_is_config(doc->config.media_type))
		return 1;
	r = image_config(im->c, d, doc, &config);
	if (r < 0)
		return r;
	oci_config_clear(&config);
	for (size_t i = 0; i < doc->n_children; i++) {
		r = layer_media_type(doc->children[i].media_type, &compression, &why);
		if (r < 0 && !strict)
			return 0;
		if (r < 0) {
			*im->c->f = why;
			fault_prefix(im->c->f, "%s", d->digest.text);
			return r;
		}
	}
	return 1;
}

static int keep_manifest(struct import *im, const struct oci_descriptor *d, bool strict)
{
	struct oci_document doc;
	char platform[96];
	int r = need_blob(im, d, "manifest", NULL, strict);

	if (r < 0 && strict && d->has_platform) {
		oci_platform_text(&d->platform, platform, sizeof(platform));
		fault_prefix(im->c->f, "the image for %s", platform);
	}
	if (r <= 0)
		return r;
	r = image_document(im->c, d, &doc);
	if (r < 0)
		return r;
	r = need_blob(im, &doc.config, "config", d, strict);
	if (r > 0)
		r = check_layers(im, d, &doc, strict);
	for (size_t i = 0; r > 0 && i < doc.n_children; i++)
		r = need_blob(im, &doc.children[i], "layer", d, strict);
	if (r > 0) {
		int labelled = image_label(im->c, d, &doc, NULL);

		r = labelled < 0 ? labelled : 1;
	}
	oci_document_clear(&doc);
	return r;
}

static int keep(struct import *im, const struct oci_descriptor *d, const struct digest *chosen,
		unsigned depth);

static int keep_index(struct import *im, const struct oci_descriptor *d,
		      const struct digest *chosen, unsigned depth)
{
	CLEANUP_FREE bool *kept = NULL;
	struct oci_document doc;
	int r = need_blob(im, d, "index", NULL, depth == 0 || im->in->all_platforms), some = 0;

	if (r <= 0)
		return r;
	if (depth > LIMIT_IMAGE_DEPTH)
		return refuse(im, ELOOP, "%s: indexes are nested deeper than %u", d->digest.text,
			      LIMIT_IMAGE_DEPTH);
	r = image_document(im->c, d, &doc);
	if (r < 0)
		return r;
	kept = calloc(doc.n_children + 1, sizeof(*kept));
	if (!kept)
		r = image_no_memory(im->c->f);
	for (size_t i = 0; r >= 0 && i < doc.n_children; i++) {
		r = keep(im, &doc.children[i], chosen, depth + 1);
		kept[i] = r > 0;
		some |= r > 0;
	}
	if (r >= 0 && some)
		r = image_label(im->c, d, &doc, kept);
	oci_document_clear(&doc);
	return r < 0 ? r : some;
}

/* An entry that is for no platform, but goes with the index: a checkpoint is one. */
static bool is_artifact(const struct oci_descriptor *d)
{
	json_object *type;

	return oci_kind_of(d->media_type) == OCI_KIND_MANIFEST &&
	       json_object_object_get_ex(d->json, "artifactType", &type) &&
	       json_object_is_type(type, json_type_string);
}

/* Whether all of the manifest has to be there; attestations are for no platform. */
static bool has_to_be_there(const struct import *im, const struct oci_descriptor *d)
{
	return im->in->all_platforms && !is_artifact(d) &&
	       !(d->has_platform && !strcmp(d->platform.os, "unknown"));
}

/* 1: there is no image below the index, and none was meant; 0 */
static int only_artifacts(struct import *im, const struct oci_descriptor *target)
{
	struct oci_document doc;
	int r = image_document(im->c, target, &doc), only;

	if (r < 0)
		return r;
	only = oci_kind_of(target->media_type) == OCI_KIND_INDEX && doc.n_children;
	for (size_t i = 0; i < doc.n_children; i++)
		only &= is_artifact(&doc.children[i]);
	oci_document_clear(&doc);
	return only;
}

/* 1: what hangs below it is kept, 0: it is not. chosen: the one that must be; "" for none. */
static int keep(struct import *im, const struct oci_descriptor *d, const struct digest *chosen,
		unsigned depth)
{
	enum oci_kind kind = oci_kind_of(d->media_type);
	bool wanted = !strcmp(d->digest.text, chosen->text);
	const struct lh_entry *seen = lh_table_lookup_entry(im->seen, d->digest.text);
	static const char is_kept, is_not;
	char *key;
	int r;

	if (seen)
		return lh_entry_v(seen) == &is_kept;
	if (++im->count > LIMIT_IMAGE_CHILDREN)
		return refuse(im, E2BIG, "the archive's indexes name more than %u manifests",
			      LIMIT_IMAGE_CHILDREN);
	r = store_cancelled(im->c);
	if (r < 0)
		return r;
	if (kind == OCI_KIND_INDEX)
		r = keep_index(im, d, chosen, depth);
	else if (!wanted && !im->in->all_platforms && !is_artifact(d))
		r = 0;
	else
		r = kind == OCI_KIND_MANIFEST
			    ? keep_manifest(im, d, wanted || has_to_be_there(im, d))
			    : need(im, d);
	key = r < 0 ? NULL : strdup(d->digest.text);
	if (r >= 0 && (!key || lh_table_insert(im->seen, key, r > 0 ? &is_kept : &is_not) < 0)) {
		free(key);
		return image_no_memory(im->c->f);
	}
	return r;
}

/* A platform that was named is the image's, also where there is nothing to choose. */
static int is_wanted(struct import *im, const struct oci_descriptor *manifest,
		     const struct oci_document *doc)
{
	if (!im->in->platform || !*im->in->platform || im->in->all_platforms)
		return 0;
	return image_is_for(im->c, manifest, doc, &im->platform, fetch, im);
}

static int keep_target(struct import *im, const struct oci_descriptor *target)
{
	struct oci_descriptor manifest = { 0 };
	struct oci_document doc = { 0 };
	struct digest chosen = { "" };
	int r;

	if (oci_kind_of(target->media_type) == OCI_KIND_OTHER)
		return refuse(im, EINVAL,
			      "index.json names %s of the type %.128s, which is no image",
			      target->digest.text, target->media_type);
	r = need_blob(im, target,
		      oci_kind_of(target->media_type) == OCI_KIND_INDEX ? "index" : "manifest",
		      NULL, true);
	if (r < 0)
		return r;
	r = image_choose(im->c, target, &im->platform, fetch, im, &manifest, &doc);
	if (r < 0 && im->c->f->code == FAULT_NOT_FOUND) {
		struct fault why = *im->c->f;
		int only = im->in->all_platforms ? 1 : only_artifacts(im, target);

		if (only <= 0) {
			if (!only)
				*im->c->f = why;
			return only < 0 ? only : r;
		}
		r = 0;
	} else if (r < 0) {
		return r;
	} else {
		chosen = manifest.digest;
		r = is_wanted(im, &manifest, &doc);
	}
	oci_descriptor_clear(&manifest);
	oci_document_clear(&doc);
	if (r < 0)
		return r;
	r = keep(im, target, &chosen, 0);
	if (r)
		return r < 0 ? r : 0;
	return refuse(im, ENOENT, "the archive has no complete image below the index %s",
		      target->digest.text);
}

/* ---- the whole */

static int read_source(struct import *im)
{
	struct stat st;
	int r;

	if (fstat(im->in->fd, &st) < 0)
		return fault_sys(im->c->f, errno, "look at the archive", NULL);
	im->folder = S_ISDIR(st.st_mode) ? im->in->fd : -1;
	r = im->folder < 0 ? import_archive_read(im) : import_folder_read(im);
	if (r < 0)
		return r;
	if (im->index)
		return read_index(im);
	if (im->manifest)
		return import_docker(im);
	if (im->repositories)
		return refuse(im, EINVAL,
			      "an archive of docker's first format (repositories without "
			      "manifest.json), which is no longer supported; save the image with a "
			      "newer tool");
	return refuse(im, EINVAL,
		      "neither an OCI image layout (index.json) nor a docker archive "
		      "(manifest.json)");
}

static int put_images(struct import *im, image_fn fn, void *user)
{
	CLEANUP_FREE struct image_new *images = calloc(im->n_names, sizeof(*images));

	if (!images)
		return image_no_memory(im->c->f);
	for (size_t i = 0; i < im->n_names; i++)
		images[i] = (struct image_new){ im->names[i].name, im->names[i].target };
	return image_put_all(im->c, images, im->n_names, fn, user);
}

static void free_key(struct lh_entry *e)
{
	free(lh_entry_k(e));
}

static int run(struct import *im, image_fn fn, void *user)
{
	int r;

	im->seen = lh_kchar_table_new(64, free_key);
	im->looked_at = image_set_new();
	if (!im->seen || !im->looked_at)
		return image_no_memory(im->c->f);
	r = oci_platform_parse(&im->platform, im->in->platform, im->c->f);
	if (!r)
		r = read_source(im);
	if (!r)
		r = choose_names(im);
	for (size_t i = 0; !r && i < im->n_names; i++)
		r = keep_target(im, &im->names[i].target);
	return r < 0 ? r : put_images(im, fn, user);
}

int image_import(struct store_call *c, const struct image_import *in, image_fn fn, void *user)
{
	struct import im = { .c = c, .in = in, .folder = -1 };
	struct lease_hold hold;
	int r = lease_hold(c, &hold);

	if (r < 0)
		return r;
	r = run(&im, fn, user);
	lease_release(c, &hold);
	import_archive_clear(&im);
	for (size_t i = 0; i < im.n_names; i++)
		name_clear(&im.names[i]);
	free(im.names);
	free(im.index);
	free(im.manifest);
	free(im.layout);
	oci_platform_clear(&im.platform);
	if (im.seen)
		lh_table_free(im.seen);
	if (im.looked_at)
		lh_table_free(im.looked_at);
	return r;
}
