// SPDX-License-Identifier: Apache-2.0
/*
 * Import: docker archives
 *
 * manifest.json lists images: a config, names, and layers in their order, all by paths in the
 * archive. The layers stay as they are, plain tars mostly, and so does the config, whose digest is
 * what docker calls the image's id; an OCI manifest of them is added. A plain layer is its own
 * diff_id, which is compared with the config's at once; a packed one is when it is unpacked.
 *
 * https://github.com/moby/docker-image-spec/blob/main/v1.2.md#combined-image-json--filesystem-changeset-format
 */
#include <errno.h>
#include <string.h>

#include "store/image_import_internal.h"
#include "util/json.h"
#include "util/limits.h"

#define PLAIN (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

static int refuse(struct import *im, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct import *im, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(im->c->f, FAULT_FAILED_PRECONDITION, 0, fmt, ap);
	va_end(ap);
	fault_prefix(im->c->f, "manifest.json");
	return -EINVAL;
}

static int find(struct import *im, const char *what, const char *path, struct import_blob *out)
{
	int r = im->folder < 0 ? import_archive_find(im, path, out)
			       : import_folder_find(im, path, out);

	if (r)
		return r < 0 ? r : 0;
	refuse(im, "it names the %s '%.256s', which the archive has not", what, path);
	return -ENOENT;
}

/* A list of texts, or none. */
static int texts(struct import *im, json_object *image, const char *key, json_object **out)
{
	if (!json_object_object_get_ex(image, key, out) || !*out) {
		*out = NULL;
		return 0;
	}
	if (!json_object_is_type(*out, json_type_array))
		return refuse(im, "\"%s\" is not a list", key);
	for (size_t i = 0; i < json_object_array_length(*out); i++)
		if (!json_object_is_type(json_object_array_get_idx(*out, i), json_type_string))
			return refuse(im, "\"%s\" is not a list of texts", key);
	return 0;
}

/* Appends a descriptor to a list, or sets it as a member when key is given. */
static int describe(struct import *im, json_object *parent, const char *key, const char *media_type,
		    const struct import_blob *blob)
{
	struct oci_descriptor d;
	int r = oci_descriptor_new(&d, media_type, &blob->digest, blob->size);

	if (!r) {
		json_object_get(d.json);
		r = key ? oci_add(parent, key, d.json) : oci_append(parent, d.json);
		oci_descriptor_clear(&d);
	}
	return r < 0 ? image_no_memory(im->c->f) : 0;
}

static int add_layer(struct import *im, json_object *layers, const char *path,
		     const struct digest *diff_id)
{
	static const char *const types[] = { [LAYER_NONE] = OCI_LAYER,
					     [LAYER_GZIP] = OCI_LAYER_GZIP,
					     [LAYER_ZSTD] = OCI_LAYER_ZSTD };
	struct import_blob blob = { 0 };
	int r = find(im, "layer", path, &blob);

	if (r < 0)
		return r;
	if (blob.compression == LAYER_NONE && strcmp(blob.digest.text, diff_id->text)) {
		fault_set(im->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the layer '%.256s' has the digest %s, but the config says %s", path,
			  blob.digest.text, diff_id->text);
		return -EINVAL;
	}
	return describe(im, layers, NULL, types[blob.compression], &blob);
}

static int read_config(struct import *im, const struct import_blob *blob, struct oci_config *config)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r = content_read_all(im->c, blob->digest.text, LIMIT_MANIFEST_BYTES, &text, &size);

	return r < 0 ? r : oci_config_read(config, text, size, blob->digest.text, im->c->f);
}

static int build(struct import *im, const struct import_blob *config_blob, json_object *paths,
		 struct oci_descriptor *out)
{
	CLEANUP(oci_json_putp) json_object *doc = json_object_new_object();
	size_t n = paths ? json_object_array_length(paths) : 0;
	json_object *layers = json_object_new_array();
	struct oci_config config = { 0 };
	struct digest digest;
	const char *text;
	int r;

	if (!doc || oci_add(doc, "schemaVersion", json_object_new_int(2)) < 0 ||
	    oci_add(doc, "mediaType", json_object_new_string(OCI_MANIFEST)) < 0) {
		json_object_put(layers);
		return image_no_memory(im->c->f);
	}
	r = describe(im, doc, "config", OCI_CONFIG, config_blob);
	if (r < 0) {
		json_object_put(layers);
		return r;
	}
	if (oci_add(doc, "layers", layers) < 0)
		return image_no_memory(im->c->f);
	r = read_config(im, config_blob, &config);
	if (!r && config.n != n)
		r = refuse(im, "it lists %zu layers, but the config %s lists %zu diff_ids", n,
			   config_blob->digest.text, config.n);
	for (size_t i = 0; !r && i < n; i++)
		r = add_layer(im, layers,
			      json_object_get_string(json_object_array_get_idx(paths, i)),
			      &config.diff_ids[i]);
	oci_config_clear(&config);
	if (r < 0)
		return r;
	text = json_object_to_json_string_ext(doc, PLAIN);
	if (!text)
		return image_no_memory(im->c->f);
	r = content_put(im->c, text, strlen(text), NULL, 0, &digest);
	if (!r && oci_descriptor_new(out, OCI_MANIFEST, &digest, strlen(text)) < 0)
		r = image_no_memory(im->c->f);
	return r;
}

static int add_image(struct import *im, json_object *image)
{
	struct oci_descriptor target = { 0 };
	struct import_blob config = { 0 };
	json_object *value, *tags, *layers;
	int r;

	if (!json_object_is_type(image, json_type_object))
		return refuse(im, "an image that is not an object");
	if (!json_object_object_get_ex(image, "Config", &value) ||
	    !json_object_is_type(value, json_type_string))
		return refuse(im, "an image without \"Config\"");
	r = texts(im, image, "RepoTags", &tags);
	if (!r)
		r = texts(im, image, "Layers", &layers);
	if (!r)
		r = find(im, "config", json_object_get_string(value), &config);
	if (!r)
		r = build(im, &config, layers, &target);
	if (!r && (!tags || !json_object_array_length(tags)))
		r = import_name_add(im, NULL, &target);
	for (size_t i = 0; !r && tags && i < json_object_array_length(tags); i++)
		r = import_name_add(im, json_object_get_string(json_object_array_get_idx(tags, i)),
				    &target);
	oci_descriptor_clear(&target);
	return r;
}

int import_docker(struct import *im)
{
	CLEANUP(oci_json_putp) json_object *list = NULL;
	struct fault why = { 0 };
	int r = json_parse(im->manifest, im->manifest_size, &list, &why);

	if (r == -ENOMEM)
		return image_no_memory(im->c->f);
	if (r < 0)
		return refuse(im, "not a JSON document (%s)", why.message);
	if (!json_object_is_type(list, json_type_array))
		return refuse(im, "not a list of images");
	if (json_object_array_length(list) > LIMIT_ARCHIVE_FILES)
		return refuse(im, "it lists more than %u images", LIMIT_ARCHIVE_FILES);
	for (size_t i = 0; !r && i < json_object_array_length(list); i++)
		r = add_image(im, json_object_array_get_idx(list, i));
	return r;
}
