// SPDX-License-Identifier: Apache-2.0
/*
 * Export: what docker reads
 *
 * The archive is an OCI layout all the same, as docker's own newer ones are, and manifest.json names
 * config and layers by their paths in it. docker takes plain and gzip layers everywhere, zstd only
 * in some versions; such a layer is written unpacked, under its diff_id, and the manifest in
 * index.json is one that says so. Its size has to be known before it is written, so it is unpacked
 * twice; the first time it is compared with the config.
 *
 * docker takes names of its own grammar alone ("Foo" is none); an image of another name is written
 * without a tag.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/image_export_internal.h"
#include "util/limits.h"

#define PIECE (256u << 10)
#define RATIO_FROM (64ull << 20)
#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

static bool lower_or_digit(char ch)
{
	return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9');
}

/* One component of a repository: [a-z0-9]+ joined by '.', '_', '__' or dashes. */
static bool valid_component(const char *p, size_t n)
{
	if (!n || !lower_or_digit(p[0]) || !lower_or_digit(p[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (lower_or_digit(p[i]) || p[i] == '-')
			continue;
		if (p[i] != '.' && p[i] != '_')
			return false;
		if (p[i + 1] == '.' || p[i + 1] == '-' || (p[i] == '.' && p[i + 1] == '_') ||
		    (p[i] == '_' && p[i + 1] == '_' && p[i + 2] == '_'))
			return false;
	}
	return true;
}

/* A registry: letters, digits, dots, dashes, a port. */
static bool valid_host(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!lower_or_digit(p[i]) && !(p[i] >= 'A' && p[i] <= 'Z') && !strchr(".-:", p[i]))
			return false;
	return n && p[0] != '-' && p[0] != '.' && p[0] != ':';
}

static bool valid_tag(const char *p)
{
	size_t n = strlen(p);

	if (!n || n > 128 || *p == '.' || *p == '-')
		return false;
	for (; *p; p++)
		if (!lower_or_digit(*p) && !(*p >= 'A' && *p <= 'Z') && !strchr("_.-", *p))
			return false;
	return true;
}

void export_docker_tag(const char *name, char *out, size_t size)
{
	const char *slash = strrchr(name, '/'), *tag = strchr(slash ? slash : name, ':');
	size_t end = tag ? (size_t)(tag - name) : strlen(name), at = 0;
	size_t first = strcspn(name, "/");
	bool good = end && end <= 255 && (!tag || valid_tag(tag + 1));

	*out = '\0';
	if (slash && (memchr(name, '.', first) || memchr(name, ':', first) ||
		      !strncmp(name, "localhost/", 10))) {
		good = good && valid_host(name, first);
		at = first + 1;
	}
	while (good && at <= end) {
		size_t n = strcspn(name + at, "/");

		if (n > end - at)
			n = end - at;
		good = valid_component(name + at, n);
		at += n + 1;
	}
	if (good)
		snprintf(out, size, "%s%s", name, tag ? "" : ":latest");
}

/* ---- layers */

/* What a packed layer unpacks to. */
static int measure(struct store_call *c, const struct oci_descriptor *d, struct digest *digest,
		   uint64_t *size)
{
	CLEANUP_FREE char *buf = malloc(PIECE);
	CLEANUP_CLOSE int fd = -1;
	struct layer_stream *stream = NULL;
	struct hasher *hasher = NULL;
	ssize_t n = 0;
	int r;

	*size = 0;
	if (!buf || hasher_new(&hasher) < 0)
		return image_no_memory(c->f);
	r = content_open(c, d->digest.text, &fd, NULL);
	if (!r)
		r = layer_stream_open(&stream, fd, c->f);
	while (!r && (n = layer_stream_read(stream, buf, PIECE, c->f)) > 0) {
		hasher_add(hasher, buf, (size_t)n);
		*size += (uint64_t)n;
		store_progress_add(c->progress, (uint64_t)n);
		if (*size > LIMIT_LAYER_BYTES ||
		    (*size > RATIO_FROM && *size / LIMIT_LAYER_RATIO > d->size)) {
			fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				  "the layer %s unpacks to more than %llu times its size",
				  d->digest.text, LIMIT_LAYER_RATIO);
			r = -E2BIG;
		} else {
			r = store_cancelled(c);
		}
	}
	if (!r && n < 0)
		r = (int)n;
	if (!r && hasher_digest(hasher, digest) < 0)
		r = image_no_memory(c->f);
	layer_stream_free(stream);
	hasher_free(hasher);
	return r;
}

/* Its entry in the manifest is replaced by one of the unpacked layer. */
static int unpack_layer(struct export_plan *p, const struct oci_descriptor *d,
			const struct digest *diff_id, json_object *layers, size_t at)
{
	struct oci_descriptor plain;
	struct digest digest;
	uint64_t size;
	int r = measure(p->c, d, &digest, &size);

	if (r < 0)
		return r;
	if (strcmp(digest.text, diff_id->text)) {
		fault_set(p->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the layer %s unpacks to %s, but the config says %s", d->digest.text,
			  digest.text, diff_id->text);
		return -EINVAL;
	}
	if (oci_descriptor_new(&plain, OCI_LAYER, &digest, size) < 0)
		return image_no_memory(p->c->f);
	r = json_object_array_put_idx(layers, at, json_object_get(plain.json));
	oci_descriptor_clear(&plain);
	if (r < 0)
		return image_no_memory(p->c->f);
	r = export_add(p, &digest, size, NULL, &d->digest);
	return r < 0 ? r : 0;
}

static int add_layers(struct export_plan *p, const char *name, const struct oci_document *doc,
		      const struct oci_config *config, json_object *manifest, bool *changed)
{
	json_object *layers;
	int r = 0;

	json_object_object_get_ex(manifest, "layers", &layers);
	for (size_t i = 0; !r && i < doc->n_children; i++) {
		const struct oci_descriptor *d = &doc->children[i];
		enum layer_compression compression;

		r = layer_media_type(d->media_type, &compression, p->c->f);
		if (!r)
			r = content_has(p->c, d->digest.text);
		if (!r) {
			memcpy(p->missing, d->digest.text, sizeof(p->missing));
			return export_incomplete(p, name);
		}
		if (r > 0 && compression == LAYER_ZSTD) {
			*changed = true;
			r = unpack_layer(p, d, &config->diff_ids[i], layers, i);
		} else if (r > 0) {
			r = export_content(p, d);
			r = r > 0 ? 0 : r;
		}
	}
	return r;
}

/* ---- manifest.json */

static json_object *blob_name(const char *digest)
{
	char text[sizeof("blobs/sha256/") + DIGEST_HEX];

	snprintf(text, sizeof(text), "blobs/sha256/%s", digest + 7);
	return json_object_new_string(text);
}

static json_object *new_entry(const char *config, json_object *manifest)
{
	json_object *entry = json_object_new_object(), *layers, *from = NULL, *digest;

	json_object_object_get_ex(manifest, "layers", &from);
	if (!entry || oci_add(entry, "Config", blob_name(config)) < 0 ||
	    oci_add(entry, "RepoTags", json_object_new_array()) < 0)
		goto fail;
	layers = json_object_new_array();
	if (oci_add(entry, "Layers", layers) < 0)
		goto fail;
	for (size_t i = 0; from && i < json_object_array_length(from); i++) {
		json_object_object_get_ex(json_object_array_get_idx(from, i), "digest", &digest);
		if (oci_append(layers, blob_name(json_object_get_string(digest))) < 0)
			goto fail;
	}
	return entry;
fail:
	json_object_put(entry);
	return NULL;
}

/* Images that differ by their names only share an entry. */
static int add_entry(struct export_plan *p, const char *name, const char *config,
		     json_object *manifest)
{
	json_object *entry = new_entry(config, manifest), *tags, *found = NULL;
	char tag[LIMIT_IMAGE_NAME_BYTES + 16];

	if (!entry)
		return image_no_memory(p->c->f);
	for (size_t i = 0; !found && i < json_object_array_length(p->docker); i++) {
		json_object *other = json_object_array_get_idx(p->docker, i);

		if (json_object_equal(json_object_object_get(other, "Config"),
				      json_object_object_get(entry, "Config")) &&
		    json_object_equal(json_object_object_get(other, "Layers"),
				      json_object_object_get(entry, "Layers")))
			found = other;
	}
	if (found)
		json_object_put(entry);
	else if (oci_append(p->docker, entry) < 0)
		return image_no_memory(p->c->f);
	else
		found = entry;
	export_docker_tag(name, tag, sizeof(tag));
	tags = json_object_object_get(found, "RepoTags");
	if (*tag && oci_append(tags, json_object_new_string(tag)) < 0)
		return image_no_memory(p->c->f);
	return 0;
}

/* The manifest of index.json: the image's own, or one whose layers were unpacked. */
static int add_manifest(struct export_plan *p, const char *name, const struct oci_descriptor *d,
			json_object *manifest, bool changed)
{
	struct oci_descriptor made;
	struct digest digest;
	const char *text;
	char *copy;
	int r;

	if (!changed) {
		r = export_content(p, d);
		return r < 0 ? r : export_entry(p, d, name);
	}
	text = json_object_to_json_string_ext(manifest, PLAIN);
	copy = text ? strdup(text) : NULL;
	if (!copy)
		return image_no_memory(p->c->f);
	if (digest_of(copy, strlen(copy), &digest) < 0 ||
	    oci_descriptor_new(&made, d->media_type, &digest, strlen(copy)) < 0) {
		free(copy);
		return image_no_memory(p->c->f);
	}
	r = export_add(p, &digest, strlen(copy), copy, NULL);
	if (r >= 0)
		r = export_entry(p, &made, name);
	oci_descriptor_clear(&made);
	return r;
}

int export_docker(struct export_plan *p, const char *name, const struct oci_descriptor *target)
{
	CLEANUP(oci_json_putp) json_object *manifest = NULL;
	struct oci_platform platform;
	struct oci_descriptor d;
	struct oci_document doc;
	struct oci_config config;
	bool changed = false;
	int r = oci_platform_parse(&platform, p->platform, p->c->f);

	if (r < 0)
		return r;
	r = export_manifest(p, target, &platform, &d, &doc);
	oci_platform_clear(&platform);
	if (r < 0)
		return r;
	r = image_config(p->c, &d, &doc, &config);
	if (!r && json_object_deep_copy(doc.json, &manifest, NULL) < 0)
		r = image_no_memory(p->c->f);
	if (!r)
		r = add_layers(p, name, &doc, &config, manifest, &changed);
	if (!r)
		r = export_content(p, &doc.config);
	if (r >= 0)
		r = add_manifest(p, name, &d, manifest, changed);
	if (!r)
		r = add_entry(p, name, doc.config.digest.text, manifest);
	oci_config_clear(&config);
	oci_document_clear(&doc);
	oci_descriptor_clear(&d);
	return r;
}
