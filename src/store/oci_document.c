// SPDX-License-Identifier: Apache-2.0
/*
 * Indexes, manifests and image configs
 *
 * A document is what its descriptor says it is: one that names another media type itself, or that
 * could be read as index and as manifest, is refused, since two readers would see two images in it
 * (CVE-2021-41190). Go writes empty lists as null, so that is taken for one.
 *
 * https://github.com/opencontainers/image-spec (manifest.md, image-index.md, config.md),
 * https://distribution.github.io/distribution/spec/manifest-v2-2/
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/oci_internal.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/limits.h"

static int refuse(struct fault *f, const char *digest, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct fault *f, const char *digest, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(f, FAULT_FAILED_PRECONDITION, 0, fmt, ap);
	va_end(ap);
	fault_prefix(f, "%s", digest);
	return -EINVAL;
}

enum oci_kind oci_kind_of(const char *media_type)
{
	if (!strcmp(media_type, OCI_INDEX) || !strcmp(media_type, DOCKER_INDEX))
		return OCI_KIND_INDEX;
	if (!strcmp(media_type, OCI_MANIFEST) || !strcmp(media_type, DOCKER_MANIFEST))
		return OCI_KIND_MANIFEST;
	return OCI_KIND_OTHER;
}

bool oci_is_config(const char *media_type)
{
	return !strcmp(media_type, OCI_CONFIG) || !strcmp(media_type, DOCKER_CONFIG);
}

static int parse_object(json_object **out, const char *text, size_t size, const char *digest,
			struct fault *f)
{
	struct fault why = { 0 };
	int r = json_parse(text, size, out, &why);

	if (r == -ENOMEM)
		return oci_no_memory(f);
	if (r < 0)
		return refuse(f, digest, "not a JSON document (%s)", why.message);
	if (!json_object_is_type(*out, json_type_object))
		return refuse(f, digest, "not a JSON object");
	return 0;
}

static int check_schema(const struct oci_document *d, const char *media_type, const char *digest,
			struct fault *f)
{
	json_object *value;
	int64_t version = 0;
	int r;
	CLEANUP_FREE char *own = NULL;

	if (json_object_object_get_ex(d->json, "schemaVersion", &value) &&
	    json_object_is_type(value, json_type_int))
		version = json_object_get_int64(value);
	r = oci_text(d->json, "mediaType", digest, &own, f);
	if (r < 0)
		return r;
	if (version == 1)
		return refuse(f, digest,
			      "a manifest of schema version 1, which is no longer supported; "
			      "convert the image with a newer tool");
	if (version != 2)
		return refuse(f, digest, "schemaVersion is not 2");
	if (*own && strcmp(own, media_type))
		return refuse(f, digest, "it calls itself %.128s, but its descriptor says %.128s",
			      own, media_type);
	return 0;
}

static int read_children(struct oci_document *d, const char *key, const char *digest,
			 struct fault *f)
{
	json_object *list;
	size_t n;

	if (!json_object_object_get_ex(d->json, key, &list))
		return refuse(f, digest, "an image %s without \"%s\"",
			      d->kind == OCI_KIND_INDEX ? "index" : "manifest", key);
	if (!list)
		return 0;
	if (!json_object_is_type(list, json_type_array))
		return refuse(f, digest, "\"%s\" is not a list", key);
	n = json_object_array_length(list);
	if (n > LIMIT_IMAGE_CHILDREN)
		return refuse(f, digest, "\"%s\" has %zu entries; at most %u are taken", key, n,
			      LIMIT_IMAGE_CHILDREN);
	if (!n)
		return 0;
	d->children = calloc(n, sizeof(*d->children));
	if (!d->children)
		return oci_no_memory(f);
	for (; d->n_children < n; d->n_children++) {
		int r = oci_descriptor_read(&d->children[d->n_children],
					    json_object_array_get_idx(list, d->n_children), digest,
					    f);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_manifest(struct oci_document *d, const char *digest, struct fault *f)
{
	json_object *config;
	int r;

	if (json_object_object_get_ex(d->json, "manifests", NULL))
		return refuse(f, digest, "a manifest that also has \"manifests\", as an index");
	if (!json_object_object_get_ex(d->json, "config", &config))
		return refuse(f, digest, "a manifest without a config");
	r = oci_descriptor_read(&d->config, config, digest, f);
	return r < 0 ? r : read_children(d, "layers", digest, f);
}

static int read_index(struct oci_document *d, const char *digest, struct fault *f)
{
	if (json_object_object_get_ex(d->json, "layers", NULL) ||
	    json_object_object_get_ex(d->json, "config", NULL))
		return refuse(f, digest,
			      "an index that also has \"config\" or \"layers\", as a manifest");
	return read_children(d, "manifests", digest, f);
}

int oci_document_read(struct oci_document *d, const char *text, size_t size, const char *media_type,
		      const char *digest, struct fault *f)
{
	int r;

	memset(d, 0, sizeof(*d));
	d->kind = oci_kind_of(media_type);
	if (strstr(media_type, "vnd.docker.distribution.manifest.v1"))
		return refuse(f, digest,
			      "a manifest of schema version 1 (%.128s), which is no longer "
			      "supported; convert the image with a newer tool",
			      media_type);
	if (d->kind == OCI_KIND_OTHER)
		return refuse(f, digest,
			      "the media type %.128s is neither an image index nor a "
			      "manifest",
			      media_type);
	r = parse_object(&d->json, text, size, digest, f);
	if (!r)
		r = check_schema(d, media_type, digest, f);
	if (!r)
		r = d->kind == OCI_KIND_INDEX ? read_index(d, digest, f)
					      : read_manifest(d, digest, f);
	if (r < 0)
		oci_document_clear(d);
	return r;
}

void oci_document_clear(struct oci_document *d)
{
	oci_descriptor_clear(&d->config);
	for (size_t i = 0; i < d->n_children; i++)
		oci_descriptor_clear(&d->children[i]);
	free(d->children);
	json_object_put(d->json);
	memset(d, 0, sizeof(*d));
}

/* ---- configs */

enum shape { SHAPE_TEXT, SHAPE_TEXTS, SHAPE_TEXT_MAP, SHAPE_SET };

/* Those members of "config" that davit acts upon, or whose type says what they are. */
static const struct {
	const char *key;
	enum shape shape;
} config_members[] = {
	{ "User", SHAPE_TEXT },	       { "ExposedPorts", SHAPE_SET }, { "Env", SHAPE_TEXTS },
	{ "Entrypoint", SHAPE_TEXTS }, { "Cmd", SHAPE_TEXTS },	      { "Volumes", SHAPE_SET },
	{ "WorkingDir", SHAPE_TEXT },  { "Labels", SHAPE_TEXT_MAP },  { "StopSignal", SHAPE_TEXT },
	{ "Hostname", SHAPE_TEXT },    { "Domainname", SHAPE_TEXT },
};

static bool texts(json_object *list)
{
	if (!json_object_is_type(list, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(list); i++)
		if (!json_object_is_type(json_object_array_get_idx(list, i), json_type_string))
			return false;
	return true;
}

int oci_config_check(json_object *config, const char *what, struct fault *f)
{
	if (!json_object_is_type(config, json_type_object))
		return refuse(f, what, "\"config\" is not an object");
	for (size_t i = 0; i < ARRAY_SIZE(config_members); i++) {
		const char *key = config_members[i].key;
		json_object *value;

		if (!json_object_object_get_ex(config, key, &value) || !value)
			continue;
		switch (config_members[i].shape) {
		case SHAPE_TEXT:
			if (!json_object_is_type(value, json_type_string))
				return refuse(f, what, "\"%s\" is not a text", key);
			break;
		case SHAPE_TEXTS:
			if (!texts(value))
				return refuse(f, what, "\"%s\" is not a list of texts", key);
			break;
		case SHAPE_TEXT_MAP:
			if (oci_text_map(value, what, key, f) < 0)
				return -EINVAL;
			break;
		case SHAPE_SET:
			if (!json_object_is_type(value, json_type_object))
				return refuse(f, what, "\"%s\" is not an object", key);
			break;
		}
	}
	return 0;
}

static int read_diff_ids(struct oci_config *c, const char *digest, struct fault *f)
{
	json_object *rootfs, *list;
	size_t n;

	if (!json_object_object_get_ex(c->json, "rootfs", &rootfs) ||
	    !json_object_is_type(rootfs, json_type_object))
		return refuse(f, digest, "an image config without \"rootfs\"");
	if (!json_object_object_get_ex(rootfs, "diff_ids", &list) || !list)
		return 0;
	if (!json_object_is_type(list, json_type_array))
		return refuse(f, digest, "\"rootfs.diff_ids\" is not a list");
	n = json_object_array_length(list);
	if (n > LIMIT_IMAGE_LAYERS)
		return refuse(f, digest, "an image of %zu layers; at most %u are taken", n,
			      LIMIT_IMAGE_LAYERS);
	c->diff_ids = calloc(n ? n : 1, sizeof(*c->diff_ids));
	if (!c->diff_ids)
		return oci_no_memory(f);
	for (; c->n < n; c->n++) {
		json_object *value = json_object_array_get_idx(list, c->n);

		if (!json_object_is_type(value, json_type_string) ||
		    digest_parse(json_object_get_string(value), &c->diff_ids[c->n]) < 0)
			return refuse(f, digest, "entry %zu of \"rootfs.diff_ids\" is not a digest",
				      c->n);
	}
	return 0;
}

int oci_config_read(struct oci_config *c, const char *text, size_t size, const char *digest,
		    struct fault *f)
{
	json_object *config;
	int r;

	memset(c, 0, sizeof(*c));
	r = parse_object(&c->json, text, size, digest, f);
	if (!r)
		r = oci_platform_of(&c->platform, c->json, digest, f);
	if (!r)
		r = read_diff_ids(c, digest, f);
	if (!r && json_object_object_get_ex(c->json, "config", &config) && config)
		r = oci_config_check(config, digest, f);
	if (r < 0)
		oci_config_clear(c);
	return r;
}

void oci_config_clear(struct oci_config *c)
{
	oci_platform_clear(&c->platform);
	free(c->diff_ids);
	json_object_put(c->json);
	memset(c, 0, sizeof(*c));
}
