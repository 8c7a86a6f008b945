// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors, and chain ids
 *
 * A descriptor keeps the JSON object that it was read from, so that members davit does not know
 * survive. The fields beside it are copies: whoever changes one makes a new descriptor. What comes
 * in here was written by strangers: every member that is used is checked for its type and size.
 *
 * https://github.com/opencontainers/image-spec/blob/main/descriptor.md, config.md (chain ids)
 */
#include "store/oci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/oci_internal.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/mp.h"

int oci_text(json_object *object, const char *key, const char *what, char **out, struct fault *f)
{
	json_object *value;

	*out = NULL;
	if (!json_object_object_get_ex(object, key, &value) || !value) {
		*out = strdup("");
	} else if (json_object_is_type(value, json_type_string)) {
		*out = strdup(json_object_get_string(value));
	} else {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: \"%s\" is not a text", what, key);
		return -EINVAL;
	}
	return *out ? 0 : oci_no_memory(f);
}

void oci_descriptor_clear(struct oci_descriptor *d)
{
	free(d->media_type);
	oci_platform_clear(&d->platform);
	json_object_put(d->json);
	memset(d, 0, sizeof(*d));
}

int oci_descriptor_copy(struct oci_descriptor *to, const struct oci_descriptor *from,
			struct fault *f)
{
	json_object *json = NULL;
	int r;

	memset(to, 0, sizeof(*to));
	if (json_object_deep_copy(from->json, &json, NULL) < 0)
		return oci_no_memory(f);
	r = oci_descriptor_read(to, json, "descriptor", f);
	json_object_put(json);
	return r;
}

static int read_digest(struct oci_descriptor *d, json_object *json, const char *what,
		       struct fault *f)
{
	CLEANUP_FREE char *text = NULL;
	int r = oci_text(json, "digest", what, &text, f);

	if (r < 0)
		return r;
	if (!digest_parse(text, &d->digest))
		return 0;
	if (!*text)
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: a descriptor without a digest",
			  what);
	else if (!strncmp(text, "sha512:", 7))
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "%s: the digest %.160s: only sha256 is supported", what, text);
	else
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: '%.160s' is not a digest", what,
			  text);
	return -EINVAL;
}

static int read_size(struct oci_descriptor *d, json_object *json, const char *what, struct fault *f)
{
	json_object *value;
	int64_t size;

	if (json_object_object_get_ex(json, "size", &value) &&
	    json_object_is_type(value, json_type_int)) {
		size = json_object_get_int64(value);
		/* INT64_MAX also stands for all that is larger */
		if (size >= 0 && size < INT64_MAX) {
			d->size = (uint64_t)size;
			return 0;
		}
	}
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: the descriptor of %s has no valid size",
		  what, d->digest.text);
	return -EINVAL;
}

int oci_platform_of(struct oci_platform *p, json_object *json, const char *what, struct fault *f)
{
	int r;

	memset(p, 0, sizeof(*p));
	if (!json_object_is_type(json, json_type_object)) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: the platform is not an object",
			  what);
		return -EINVAL;
	}
	r = oci_text(json, "os", what, &p->os, f);
	if (!r)
		r = oci_text(json, "architecture", what, &p->architecture, f);
	if (!r)
		r = oci_text(json, "variant", what, &p->variant, f);
	if (!r)
		r = oci_platform_normalise(p, f);
	if (r < 0)
		oci_platform_clear(p);
	return r;
}

static int platform_none(struct oci_platform *p)
{
	p->os = strdup("");
	p->architecture = strdup("");
	p->variant = strdup("");
	return p->os && p->architecture && p->variant ? 0 : -ENOMEM;
}

int oci_descriptor_read(struct oci_descriptor *d, json_object *json, const char *what,
			struct fault *f)
{
	json_object *platform, *annotations;
	int r;

	memset(d, 0, sizeof(*d));
	if (!json_object_is_type(json, json_type_object)) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: a descriptor that is not an object",
			  what);
		return -EINVAL;
	}
	r = oci_text(json, "mediaType", what, &d->media_type, f);
	if (!r && !*d->media_type)
		r = fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			      "%s: a descriptor without a mediaType", what);
	if (!r)
		r = read_digest(d, json, what, f);
	if (!r)
		r = read_size(d, json, what, f);
	if (!r && json_object_object_get_ex(json, "platform", &platform) && platform) {
		r = oci_platform_of(&d->platform, platform, what, f);
		d->has_platform = !r;
	} else if (!r && platform_none(&d->platform) < 0) {
		r = oci_no_memory(f);
	}
	if (!r && json_object_object_get_ex(json, "annotations", &annotations) && annotations)
		r = oci_text_map(annotations, what, "annotations", f);
	if (r < 0) {
		oci_descriptor_clear(d);
		return r;
	}
	d->json = json_object_get(json);
	return 0;
}

int oci_text_map(json_object *map, const char *what, const char *name, struct fault *f)
{
	bool good = json_object_is_type(map, json_type_object);

	if (good) {
		json_object_object_foreach (map, key, value) {
			(void)key;
			good = good && json_object_is_type(value, json_type_string);
		}
	}
	if (good)
		return 0;
	fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: the %s are not a map of texts", what, name);
	return -EINVAL;
}

const char *oci_descriptor_annotation(const struct oci_descriptor *d, const char *key)
{
	json_object *annotations, *value;

	if (!json_object_object_get_ex(d->json, "annotations", &annotations) ||
	    !json_object_object_get_ex(annotations, key, &value))
		return NULL;
	return json_object_get_string(value);
}

int oci_descriptor_new(struct oci_descriptor *d, const char *media_type,
		       const struct digest *digest, uint64_t size)
{
	memset(d, 0, sizeof(*d));
	d->media_type = strdup(media_type);
	d->digest = *digest;
	d->size = size;
	d->json = json_object_new_object();
	if (!d->media_type || platform_none(&d->platform) < 0 || !d->json ||
	    oci_add(d->json, "mediaType", json_object_new_string(media_type)) < 0 ||
	    oci_add(d->json, "digest", json_object_new_string(digest->text)) < 0 ||
	    oci_add(d->json, "size", json_object_new_uint64(size)) < 0) {
		oci_descriptor_clear(d);
		return -ENOMEM;
	}
	return 0;
}

int oci_add(json_object *object, const char *key, json_object *value)
{
	if (value && !json_object_object_add(object, key, value))
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

int oci_append(json_object *array, json_object *value)
{
	if (value && !json_object_array_add(array, value))
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

/* ---- over RPC: names in snake case */

struct rename {
	const char *rpc, *oci;
};
static const struct rename descriptor_names[] = {
	{ "media_type", "mediaType" },
	{ "artifact_type", "artifactType" },
};
static const struct rename platform_names[] = {
	{ "os_version", "os.version" },
	{ "os_features", "os.features" },
};

static const char *rename_of(const struct rename *v, size_t n, const char *key, bool to_rpc)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(key, to_rpc ? v[i].oci : v[i].rpc))
			return to_rpc ? v[i].rpc : v[i].oci;
	return key;
}

/* A copy with other names on its first level; a member given by both names is refused. */
static int rename_members(json_object *from, const struct rename *v, size_t n, json_object **out,
			  struct fault *f)
{
	json_object *to = json_object_new_object();

	if (!to)
		return oci_no_memory(f);
	json_object_object_foreach (from, key, value) {
		const char *name = rename_of(v, n, key, false);

		if (json_object_object_get_ex(to, name, NULL)) {
			fault_set(f, FAULT_INVALID_ARGUMENT, 0, "\"%.64s\" is given twice", key);
			json_object_put(to);
			return -EINVAL;
		}
		if (json_object_object_add(to, name, json_object_get(value)) < 0) {
			json_object_put(value);
			json_object_put(to);
			return oci_no_memory(f);
		}
	}
	*out = to;
	return 0;
}

int oci_descriptor_from_mp(struct oci_descriptor *d, const msgpack_object *map, struct fault *f)
{
	CLEANUP(oci_json_putp) json_object *raw = NULL;
	CLEANUP(oci_json_putp) json_object *json = NULL;
	json_object *platform, *renamed;
	int r;

	memset(d, 0, sizeof(*d));
	if (!mp_is_map(map)) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "a descriptor is a map");
		return -EINVAL;
	}
	r = json_from_mp(map, &raw, f);
	if (r < 0)
		return r;
	/* an empty array counts as an empty map */
	if (!json_object_is_type(raw, json_type_object)) {
		json_object_put(raw);
		raw = json_object_new_object();
		if (!raw)
			return oci_no_memory(f);
	}
	r = rename_members(raw, descriptor_names, ARRAY_SIZE(descriptor_names), &json, f);
	if (r < 0)
		return r;
	if (json_object_object_get_ex(json, "platform", &platform) &&
	    json_object_is_type(platform, json_type_object)) {
		r = rename_members(platform, platform_names, ARRAY_SIZE(platform_names), &renamed,
				   f);
		if (r < 0)
			return r;
		if (oci_add(json, "platform", renamed) < 0)
			return oci_no_memory(f);
	}
	r = oci_descriptor_read(d, json, "target", f);
	if (r < 0 && f && f->code == FAULT_FAILED_PRECONDITION)
		f->code = FAULT_INVALID_ARGUMENT;
	return r;
}

void oci_descriptor_pack(msgpack_packer *pk, const struct oci_descriptor *d)
{
	msgpack_pack_map(pk, (size_t)json_object_object_length(d->json));
	json_object_object_foreach (d->json, key, value) {
		mp_pack_key(pk,
			    rename_of(descriptor_names, ARRAY_SIZE(descriptor_names), key, true));
		if (strcmp(key, "platform") || !json_object_is_type(value, json_type_object)) {
			json_to_mp(value, pk);
			continue;
		}
		msgpack_pack_map(pk, (size_t)json_object_object_length(value));
		json_object_object_foreach (value, name, inner) {
			mp_pack_key(pk, rename_of(platform_names, ARRAY_SIZE(platform_names), name,
						  true));
			json_to_mp(inner, pk);
		}
	}
}

/* ---- */

int oci_chain_id(const struct digest *previous, const struct digest *diff_id, struct digest *out)
{
	char text[2 * DIGEST_TEXT];
	size_t n, m;

	if (!previous || !*previous->text) {
		*out = *diff_id;
		return 0;
	}
	n = strlen(previous->text);
	m = strlen(diff_id->text);
	memcpy(text, previous->text, n);
	text[n] = ' ';
	memcpy(text + n + 1, diff_id->text, m);
	return digest_of(text, n + 1 + m, out);
}
