// SPDX-License-Identifier: Apache-2.0
/*
 * JSON objects in the command line
 *
 * json-c tells lack of memory by NULL, which as a value means null: every builder here ends the
 * program instead, so that an option can never get lost on its way to the daemon.
 */
#include "cli/js.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mem.h"

json_object *js_get(json_object *o, const char *path)
{
	while (o) {
		size_t n = strcspn(path, ".");
		char *key CLEANUP_FREE = mem_strndup(path, n);

		if (!json_object_is_type(o, json_type_object) ||
		    !json_object_object_get_ex(o, key, &o))
			return NULL;
		if (!path[n])
			return o;
		path += n + 1;
	}
	return NULL;
}

const char *js_str(json_object *o, const char *path)
{
	json_object *v = js_get(o, path);

	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

int64_t js_int(json_object *o, const char *path, int64_t dflt)
{
	json_object *v = js_get(o, path);

	return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : dflt;
}

bool js_bool(json_object *o, const char *path)
{
	json_object *v = js_get(o, path);

	return json_object_is_type(v, json_type_boolean) && json_object_get_boolean(v);
}

size_t js_len(json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

json_object *js_at(json_object *array, size_t i)
{
	return i < js_len(array) ? json_object_array_get_idx(array, i) : NULL;
}

json_object *js_object(void)
{
	return mem_need(json_object_new_object());
}

json_object *js_array(void)
{
	return mem_need(json_object_new_array());
}

json_object *js_string(const char *text)
{
	return mem_need(json_object_new_string(text));
}

static void need(int r)
{
	mem_need(r ? NULL : (void *)"");
}

void js_set(json_object *o, const char *key, json_object *value)
{
	need(json_object_object_add(o, key, value));
}

void js_set_str(json_object *o, const char *key, const char *value)
{
	js_set(o, key, value ? js_string(value) : NULL);
}

void js_set_int(json_object *o, const char *key, int64_t value)
{
	js_set(o, key, mem_need(json_object_new_int64(value)));
}

void js_set_bool(json_object *o, const char *key, bool value)
{
	js_set(o, key, mem_need(json_object_new_boolean(value)));
}

void js_push(json_object *array, json_object *value)
{
	need(json_object_array_add(array, value));
}

void js_push_str(json_object *array, const char *value)
{
	js_push(array, js_string(value));
}

json_object *js_strings(const char *const *v)
{
	json_object *a = js_array();

	while (*v)
		js_push_str(a, *v++);
	return a;
}

static json_object *child(json_object *o, const char *key, json_type type)
{
	json_object *v;

	if (json_object_object_get_ex(o, key, &v) && json_object_is_type(v, type))
		return v;
	v = type == json_type_array ? js_array() : js_object();
	js_set(o, key, v);
	return v;
}

json_object *js_object_at(json_object *o, const char *key)
{
	return child(o, key, json_type_object);
}

json_object *js_array_at(json_object *o, const char *key)
{
	return child(o, key, json_type_array);
}
