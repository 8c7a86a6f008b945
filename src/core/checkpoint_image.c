// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as images: writing
 *
 *	image record  containerd.io/checkpoint=true, davit.checkpoint.local=true
 *	  index       OCI
 *	    artifact  OCI manifest with artifactType; its config is the record, its layers the blobs
 *	    base      the container image's manifest, when the store has it
 *
 * The three documents are made of the record and the blobs alone, member by member in one order: the
 * same checkpoint gives the same digests. All of them are made, and the name is looked at, before
 * anything is stored, so that a refusal leaves nothing behind. What is stored is held by the call's
 * lease, or one of our own; image_create labels index and manifests before the record is there, and from then on the
 * image holds them.
 *
 * The base is named so that it stays as long as its checkpoints do, and goes along when one is
 * exported. A checkpoint does not fail for the lack of it.
 */
#include "core/checkpoint_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/checkpoint_internal.h"
#include "store/content.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/limits.h"

#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
#define NOTE_CREATED "org.opencontainers.image.created"
#define NOTE_CONTAINER "org.davit.checkpoint.container"

/* A document, or the record, on its way into the store. */
struct document {
	char *text;
	size_t size;
	struct oci_descriptor descriptor;
};

static void document_clear(struct document *d)
{
	free(d->text);
	oci_descriptor_clear(&d->descriptor);
}

static int describe(struct document *d, const char *media_type, size_t most, struct fault *f)
{
	struct digest digest;

	if (d->size > most)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, EFBIG, "the checkpoint's %s",
				 media_type);
	if (digest_of(d->text, d->size, &digest) < 0 ||
	    oci_descriptor_new(&d->descriptor, media_type, &digest, d->size) < 0)
		return checkpoint_no_memory(f);
	return 0;
}

static int serialise(struct document *d, json_object *j, const char *media_type, struct fault *f)
{
	const char *text = json_object_to_json_string_length(j, PLAIN, &d->size);

	d->text = text ? strndup(text, d->size) : NULL;
	return d->text ? describe(d, media_type, LIMIT_MANIFEST_BYTES, f) : checkpoint_no_memory(f);
}

/* ---- JSON; what fails fails for memory: it is kept, and asked for once */

static json_object *made(json_object *value, bool *failed)
{
	*failed |= !value;
	return value;
}

static void add(json_object *to, const char *key, json_object *value, bool *failed)
{
	if (value && !*failed && json_object_object_add(to, key, value) == 0)
		return;
	*failed = true;
	json_object_put(value);
}

static void add_text(json_object *to, const char *key, const char *text, bool *failed)
{
	add(to, key, json_object_new_string(text), failed);
}

static void add_number(json_object *to, const char *key, uint64_t n, bool *failed)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	add_text(to, key, text, failed);
}

static void append(json_object *to, json_object *value, bool *failed)
{
	if (value && !*failed && json_object_array_add(to, value) == 0)
		return;
	*failed = true;
	json_object_put(value);
}

static json_object *head(const char *media_type, bool *failed)
{
	json_object *j = made(json_object_new_object(), failed);

	add(j, "schemaVersion", json_object_new_int(2), failed);
	add_text(j, "mediaType", media_type, failed);
	return j;
}

/* "2006-01-02T15:04:05.000000000Z"; colon '-' for a place where a ':' cannot be. */
static void date(int64_t ns, char colon, char *out, size_t size)
{
	time_t seconds = ns / CLOCK_NS_PER_SEC;
	struct tm tm = { 0 };

	gmtime_r(&seconds, &tm);
	snprintf(out, size, "%04d-%02d-%02dT%02d%c%02d%c%02d.%09lldZ", tm.tm_year + 1900,
		 tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, colon, tm.tm_min, colon, tm.tm_sec,
		 (long long)(ns % CLOCK_NS_PER_SEC));
}

static json_object *notes(const struct ckpt_record *r, bool *failed)
{
	json_object *j = made(json_object_new_object(), failed);
	char created[64];

	date(r->created_at, ':', created, sizeof(created));
	add_text(j, NOTE_CONTAINER, r->id ? r->id : "", failed);
	add_text(j, NOTE_CREATED, created, failed);
	return j;
}

/* ---- the manifest */

static int layer_new(struct oci_descriptor *d, const struct checkpoint_blob *b, struct fault *f)
{
	bool failed = false;
	json_object *j;

	if (oci_descriptor_new(d, b->media_type, &b->digest, b->size) < 0)
		return checkpoint_no_memory(f);
	if (strncmp(b->media_type, "application/vnd.davit.", 22) != 0)
		return 0;
	j = made(json_object_new_object(), &failed);
	if (b->file) {
		add_text(j, CHECKPOINT_NOTE_FILE, b->file, &failed);
		add_number(j, CHECKPOINT_NOTE_OFFSET, 0, &failed);
	}
	add_number(j, CHECKPOINT_NOTE_SIZE, b->file_size, &failed);
	add(d->json, "annotations", j, &failed);
	return failed ? checkpoint_no_memory(f) : 0;
}

static int manifest_new(struct document *d, const struct checkpoint_write *w,
			const struct document *config, const struct oci_descriptor *layers,
			struct fault *f)
{
	bool failed = false;
	CLEANUP(checkpoint_json_putp) json_object *j = head(OCI_MANIFEST, &failed);
	json_object *list = made(json_object_new_array(), &failed);

	add_text(j, "artifactType", CHECKPOINT_ARTIFACT, &failed);
	add(j, "config", json_object_get(config->descriptor.json), &failed);
	for (size_t i = 0; i < w->n_blobs; i++)
		append(list, json_object_get(layers[i].json), &failed);
	add(j, "layers", list, &failed);
	add(j, "annotations", notes(w->record, &failed), &failed);
	return failed ? checkpoint_no_memory(f) : serialise(d, j, OCI_MANIFEST, f);
}

/* ---- the base image */

int checkpoint_take_target(void *user, const struct image_info *info)
{
	struct checkpoint_target *to = user;

	return oci_descriptor_copy(&to->descriptor, info->target, to->f);
}

/* What the manifest's descriptor says, or else the image's config. */
static int base_platform(struct store_call *c, const struct oci_descriptor *manifest,
			 const struct oci_document *doc, struct oci_config *config)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	if (manifest->has_platform)
		return 0;
	r = content_read_all(c, doc->config.digest.text, LIMIT_MANIFEST_BYTES, &text, &size);
	return r ? r : oci_config_read(config, text, size, doc->config.digest.text, c->f);
}

static int base_describe(struct store_call *c, const struct oci_descriptor *manifest,
			 const struct oci_platform *p, struct oci_descriptor *out)
{
	bool failed = false;
	json_object *j;

	if (oci_descriptor_new(out, manifest->media_type, &manifest->digest, manifest->size) < 0)
		return checkpoint_no_memory(c->f);
	if (!*p->os || !*p->architecture)
		return 0;
	j = made(json_object_new_object(), &failed);
	add_text(j, "architecture", p->architecture, &failed);
	add_text(j, "os", p->os, &failed);
	if (*p->variant)
		add_text(j, "variant", p->variant, &failed);
	add(out->json, "platform", j, &failed);
	return failed ? checkpoint_no_memory(c->f) : 0;
}

static int base_find(struct store_call *c, const char *name, struct oci_descriptor *out)
{
	CLEANUP(oci_platform_clear) struct oci_platform here = { 0 };
	CLEANUP(oci_descriptor_clear) struct oci_descriptor manifest = { 0 };
	struct checkpoint_target target = { .f = c->f };
	CLEANUP(oci_document_clear) struct oci_document doc = { 0 };
	CLEANUP(oci_config_clear) struct oci_config config = { 0 };
	int r = oci_platform_parse(&here, NULL, c->f);

	if (!r)
		r = image_get(c, name, checkpoint_take_target, &target);
	if (!r)
		r = image_manifest(c, &target.descriptor, &here, &manifest, &doc);
	oci_descriptor_clear(&target.descriptor);
	if (!r)
		r = base_platform(c, &manifest, &doc, &config);
	if (r)
		return r;
	/* it is there: now it also joins the lease */
	r = content_has(c, manifest.digest.text);
	if (r < 0)
		return r;
	return base_describe(c, &manifest,
			     manifest.has_platform ? &manifest.platform : &config.platform, out);
}

/* has: whether there is one. An image that is not whole is none. */
static int base_new(struct store_call *c, const char *name, struct oci_descriptor *out, bool *has)
{
	int r;

	*has = false;
	if (!name || !*name)
		return 0;
	r = base_find(c, name, out);
	*has = !r;
	if (r < 0 && (c->f->code == FAULT_NOT_FOUND || c->f->code == FAULT_FAILED_PRECONDITION)) {
		memset(c->f, 0, sizeof(*c->f));
		return 0;
	}
	return r;
}

/* ---- the index */

static int index_new(struct document *d, const struct ckpt_record *record,
		     const struct document *manifest, const struct oci_descriptor *base,
		     struct fault *f)
{
	bool failed = false;
	CLEANUP(checkpoint_json_putp) json_object *j = head(OCI_INDEX, &failed);
	json_object *list = made(json_object_new_array(), &failed);
	json_object *one = made(json_object_new_object(), &failed);

	add_text(one, "mediaType", OCI_MANIFEST, &failed);
	add_text(one, "digest", manifest->descriptor.digest.text, &failed);
	add(one, "size", json_object_new_uint64(manifest->size), &failed);
	add(one, "annotations", notes(record, &failed), &failed);
	add_text(one, "artifactType", CHECKPOINT_ARTIFACT, &failed);
	append(list, one, &failed);
	if (base)
		append(list, json_object_get(base->json), &failed);
	add(j, "manifests", list, &failed);
	return failed ? checkpoint_no_memory(f) : serialise(d, j, OCI_INDEX, f);
}

/* ---- all of it */

struct writing {
	struct store_call *c;
	const struct checkpoint_write *w;
	struct document config, manifest, index;
	struct oci_descriptor *layers; /* n_blobs */
	struct oci_descriptor base;
	char *name;
};

static void writing_clear(struct writing *g)
{
	document_clear(&g->config);
	document_clear(&g->manifest);
	document_clear(&g->index);
	for (size_t i = 0; g->layers && i < g->w->n_blobs; i++)
		oci_descriptor_clear(&g->layers[i]);
	free(g->layers);
	oci_descriptor_clear(&g->base);
	free(g->name);
}

/* A record that could not be read back would make a checkpoint that cannot be restored. */
static int record_new(struct writing *g)
{
	struct ckpt_record again;
	struct fault *f = g->c->f;
	int r = ckpt_record_write(g->w->record, &g->config.text, &g->config.size);

	if (r < 0)
		return checkpoint_no_memory(f);
	r = ckpt_record_read(&again, g->config.text, g->config.size, f);
	if (r < 0) {
		fault_prefix(f, "the checkpoint cannot be written down");
		return r;
	}
	ckpt_record_clear(&again);
	return describe(&g->config, CHECKPOINT_CONFIG, LIMIT_CHECKPOINT_RECORD_BYTES, f);
}

static int layers_new(struct writing *g)
{
	struct store_call *c = g->c;

	if (g->w->n_blobs > LIMIT_CHECKPOINT_BLOBS)
		return fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "the checkpoint has %zu blobs; at most %u can be kept",
				 g->w->n_blobs, LIMIT_CHECKPOINT_BLOBS);
	g->layers = calloc(g->w->n_blobs + 1, sizeof(*g->layers));
	if (!g->layers)
		return checkpoint_no_memory(c->f);
	for (size_t i = 0; i < g->w->n_blobs; i++) {
		const struct checkpoint_blob *b = &g->w->blobs[i];
		int r = content_has(c, b->digest.text);

		if (!r)
			return fault_set(c->f, FAULT_NOT_FOUND, 0,
					 "there is no content %s in the namespace '%s'",
					 b->digest.text, c->ns);
		r = r < 0 ? r : layer_new(&g->layers[i], b, c->f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int name_new(struct writing *g)
{
	char when[64];

	if (g->w->name) {
		g->name = strdup(g->w->name);
	} else {
		date(g->w->record->created_at, '-', when, sizeof(when));
		if (asprintf(&g->name, "containerd.io/checkpoint/%s:%s", g->w->record->id, when) <
		    0)
			g->name = NULL;
	}
	return g->name ? 0 : checkpoint_no_memory(g->c->f);
}

static int compare_target(void *user, const struct image_info *info)
{
	return strcmp(user, info->target->digest.text) != 0 ? -EEXIST : 1;
}

/* 1: the image is there and is this one, 0: it is not there; else the fault. */
static int name_taken(struct writing *g)
{
	struct fault *f = g->c->f;
	int r = image_get(g->c, g->name, compare_target, g->index.descriptor.digest.text);

	if (r == -ENOENT && f->code == FAULT_NOT_FOUND) {
		memset(f, 0, sizeof(*f));
		return 0;
	}
	if (r == -EEXIST) {
		fault_set(f, FAULT_ALREADY_EXISTS, 0,
			  "the image '%.512s' exists in the namespace '%s'", g->name, g->c->ns);
		fault_arg(f, "name");
	}
	return r;
}

static int put(struct writing *g, const struct document *d)
{
	struct store_call c = *g->c;
	struct digest digest;

	/* the image's record follows */
	c.durable_later = true;
	return content_put(&c, d->text, d->size, NULL, 0, &digest);
}

static int store_all(struct writing *g)
{
	static const struct db_label labels[] = { { CHECKPOINT_LABEL, "true" },
						  { CHECKPOINT_LABEL_LOCAL, "true" } };
	int r = put(g, &g->config);

	if (!r)
		r = put(g, &g->manifest);
	if (!r)
		r = put(g, &g->index);
	if (!r)
		r = image_create(g->c, g->name, &g->index.descriptor, labels,
				 ARRAY_SIZE(labels) - g->w->foreign, NULL, NULL);
	/* somebody was quicker: fine when it is the same */
	if (r == -EEXIST)
		r = name_taken(g);
	return r < 0 ? r : 0;
}

/* Of the manifest, its config and its layers; moved out of g. */
static int give_descriptors(struct writing *g, struct oci_descriptor **out, size_t *n)
{
	struct oci_descriptor *v = calloc(g->w->n_blobs + 2, sizeof(*v));

	if (!v)
		return checkpoint_no_memory(g->c->f);
	*n = 0;
	v[(*n)++] = g->manifest.descriptor;
	v[(*n)++] = g->config.descriptor;
	g->manifest.descriptor = g->config.descriptor = (struct oci_descriptor){ 0 };
	for (size_t i = 0; i < g->w->n_blobs; i++) {
		v[(*n)++] = g->layers[i];
		g->layers[i] = (struct oci_descriptor){ 0 };
	}
	*out = v;
	return 0;
}

static int write_all(struct writing *g)
{
	const struct checkpoint_write *w = g->w;
	struct store_call *c = g->c;
	bool has_base = false;
	int r = record_new(g);

	if (!r)
		r = layers_new(g);
	if (!r)
		r = manifest_new(&g->manifest, w, &g->config, g->layers, c->f);
	if (!r)
		r = base_new(c, w->base_image, &g->base, &has_base);
	if (!r)
		r = index_new(&g->index, w->record, &g->manifest, has_base ? &g->base : NULL, c->f);
	if (!r)
		r = name_new(g);
	if (!r)
		r = name_taken(g);
	if (!r)
		r = store_all(g);
	return r < 0 ? r : 0;
}

int checkpoint_image_write(struct store_call *c, const struct checkpoint_write *w,
			   struct oci_descriptor *index, char **name,
			   struct oci_descriptor **descriptors, size_t *n)
{
	CLEANUP(writing_clear) struct writing g = { .c = c, .w = w };
	struct lease_hold hold;
	int r = lease_hold(c, &hold);

	if (r < 0)
		return r;
	r = write_all(&g);
	lease_release(c, &hold);
	if (!r)
		r = give_descriptors(&g, descriptors, n);
	if (r < 0)
		return r;
	*index = g.index.descriptor;
	g.index.descriptor = (struct oci_descriptor){ 0 };
	*name = TAKE_PTR(g.name);
	return 0;
}
