// SPDX-License-Identifier: Apache-2.0
/*
 * JSON from files, and the way between JSON and msgpack; texts are read by json_read.c
 *
 * msgpack is richer than JSON. What has no JSON counterpart (ext, NaN, keys that are no text) is
 * refused, as is what json_parse refuses in a text: NUL, bad UTF-8, equal keys, depth.
 */
#include "util/json.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/fd.h"
#include "util/json_read.h"
#include "util/limits.h"
#include "util/mp.h"

static int no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "reading JSON");
}

int json_parse(const char *text, size_t size, json_object **out, struct fault *f)
{
	return json_read(text, size, out, f);
}

/* r, text and size: of reading it. The text is freed. */
static int parse_read(int r, char *read, size_t size, const char *path, size_t max,
		      json_object **out, struct fault *f)
{
	CLEANUP_FREE char *text = read;

	*out = NULL;
	if (r == -ENXIO) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s is no regular file", path);
		fault_at(f, "read", path);
		return r;
	}
	if (r == -EFBIG) {
		r = fault_set(f, FAULT_RESOURCE_EXHAUSTED, EFBIG, "%s has more than %zu bytes",
			      path, max);
		fault_at(f, "read", path);
		return r;
	}
	if (r)
		return fault_sys(f, -r, "read", path);
	r = json_parse(text, size, out, f);
	if (r) {
		fault_prefix(f, "%s", path);
		fault_at(f, "parse", path);
	}
	return r;
}

int json_parse_file(int dirfd, const char *path, size_t max, json_object **out, struct fault *f)
{
	char *text = NULL;
	size_t size = 0;
	int r = fd_read_file(dirfd, path, max, &text, &size);

	return parse_read(r, text, size, path, max, out, f);
}

int json_parse_input(const char *path, size_t max, json_object **out, struct fault *f)
{
	char *text = NULL;
	size_t size = 0;
	int r = fd_read_input(path, max, &text, &size);

	return parse_read(r, text, size, path, max, out, f);
}

static int check_text(const char *p, size_t n, struct fault *f)
{
	for (size_t i = 0; i < n;) {
		size_t len;

		if (!p[i])
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "NUL in a string");
		len = json_utf8(p + i, n - i);
		if (!len)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "invalid UTF-8 in a string");
		i += len;
	}
	if (n > INT_MAX)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "a string of %zu bytes", n);
	return 0;
}

static int from_mp(const msgpack_object *o, unsigned depth, json_object **out, struct fault *f);

static int from_mp_map(const msgpack_object *o, unsigned depth, json_object *map, struct fault *f)
{
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];
		CLEANUP_FREE char *key = NULL;
		json_object *value;
		const char *p;
		size_t n;
		int r;

		if (!mp_str(&kv->key, &p, &n))
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "a map's key is not a string");
		r = check_text(p, n, f);
		if (r)
			return r;
		key = malloc(n + 1);
		if (!key)
			return no_memory(f);
		memcpy(key, p, n);
		key[n] = 0;
		if (json_object_object_get_ex(map, key, NULL))
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "duplicate key \"%.64s\"",
					 key);
		r = from_mp(&kv->val, depth + 1, &value, f);
		if (r)
			return r;
		if (json_object_object_add(map, key, value)) {
			json_object_put(value);
			return no_memory(f);
		}
	}
	return 0;
}

static int from_mp_array(const msgpack_object *o, unsigned depth, json_object *array,
			 struct fault *f)
{
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		json_object *value;
		int r = from_mp(&o->via.array.ptr[i], depth + 1, &value, f);

		if (r)
			return r;
		if (json_object_array_add(array, value)) {
			json_object_put(value);
			return no_memory(f);
		}
	}
	return 0;
}

static int from_mp_text(const msgpack_object *o, json_object **out, struct fault *f)
{
	const char *p;
	size_t n;
	int r;

	mp_str(o, &p, &n);
	r = check_text(p, n, f);
	if (r)
		return r;
	*out = json_object_new_string_len(p, (int)n);
	return *out ? 0 : no_memory(f);
}

static int from_mp(const msgpack_object *o, unsigned depth, json_object **out, struct fault *f)
{
	int r = 0;

	*out = NULL;
	switch (o->type) {
	case MSGPACK_OBJECT_NIL:
		return 0;
	case MSGPACK_OBJECT_BOOLEAN:
		*out = json_object_new_boolean(o->via.boolean);
		break;
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
		if (o->via.u64 > INT64_MAX)
			*out = json_object_new_uint64(o->via.u64);
		else
			*out = json_object_new_int64((int64_t)o->via.u64);
		break;
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
		*out = json_object_new_int64(o->via.i64);
		break;
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
		if (!isfinite(o->via.f64))
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "a number that JSON cannot express");
		*out = json_object_new_double(o->via.f64);
		break;
	case MSGPACK_OBJECT_STR:
	case MSGPACK_OBJECT_BIN:
		return from_mp_text(o, out, f);
	case MSGPACK_OBJECT_MAP:
	case MSGPACK_OBJECT_ARRAY:
		if (depth >= LIMIT_JSON_DEPTH)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "nested deeper than %u",
					 LIMIT_JSON_DEPTH);
		*out = o->type == MSGPACK_OBJECT_MAP ? json_object_new_object()
						     : json_object_new_array();
		if (!*out)
			break;
		r = o->type == MSGPACK_OBJECT_MAP ? from_mp_map(o, depth, *out, f)
						  : from_mp_array(o, depth, *out, f);
		if (r) {
			json_object_put(*out);
			*out = NULL;
			return r;
		}
		return 0;
	default:
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "a msgpack type that JSON does not have");
	}
	return *out ? 0 : no_memory(f);
}

int json_from_mp(const msgpack_object *o, json_object **out, struct fault *f)
{
	return from_mp(o, 0, out, f);
}

static void to_mp_number(json_object *j, msgpack_packer *pk)
{
	int64_t v = json_object_get_int64(j);
	uint64_t u;

	if (v < 0) {
		msgpack_pack_int64(pk, v);
		return;
	}
	/* Beyond INT64_MAX get_int64 answers INT64_MAX. */
	u = json_object_get_uint64(j);
	msgpack_pack_uint64(pk, u);
}

static void to_mp(json_object *j, msgpack_packer *pk)
{
	switch (json_object_get_type(j)) {
	case json_type_null:
		msgpack_pack_nil(pk);
		break;
	case json_type_boolean:
		if (json_object_get_boolean(j))
			msgpack_pack_true(pk);
		else
			msgpack_pack_false(pk);
		break;
	case json_type_int:
		to_mp_number(j, pk);
		break;
	case json_type_double:
		msgpack_pack_double(pk, json_object_get_double(j));
		break;
	case json_type_string:
		mp_pack_strn(pk, json_object_get_string(j), (size_t)json_object_get_string_len(j));
		break;
	case json_type_array: {
		size_t n = json_object_array_length(j);

		msgpack_pack_array(pk, n);
		for (size_t i = 0; i < n; i++)
			to_mp(json_object_array_get_idx(j, i), pk);
		break;
	}
	case json_type_object:
		msgpack_pack_map(pk, (size_t)json_object_object_length(j));
		json_object_object_foreach (j, key, value) {
			mp_pack_key(pk, key);
			to_mp(value, pk);
		}
		break;
	}
}

void json_to_mp(json_object *j, msgpack_packer *pk)
{
	msgpack_packer marking;

	/* The caller's packer may be one whose failures nobody sees. */
	mp_packer_init(&marking, pk->data);
	to_mp(j, &marking);
}
