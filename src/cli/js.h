// SPDX-License-Identifier: Apache-2.0
/*
 * JSON objects in the command line: short readers and builders over json-c
 *
 * Readers borrow from the object and answer a default for what is absent or of another type.
 * Builders take over the values that are given to them.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/cleanup.h"

static inline void js_putp(json_object **o)
{
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(js_putp)

/* path: keys joined by '.', as "process.args"; NULL when any is absent. */
json_object *js_get(json_object *o, const char *path);
const char *js_str(json_object *o, const char *path); /* "" when absent */
int64_t js_int(json_object *o, const char *path, int64_t dflt);
bool js_bool(json_object *o, const char *path);
size_t js_len(json_object *array); /* 0 for what is no array */
json_object *js_at(json_object *array, size_t i);

json_object *js_object(void);
json_object *js_array(void);
json_object *js_string(const char *text);
void js_set(json_object *o, const char *key, json_object *value);
void js_set_str(json_object *o, const char *key, const char *value); /* NULL sets null */
void js_set_int(json_object *o, const char *key, int64_t value);
void js_set_bool(json_object *o, const char *key, bool value);
void js_push(json_object *array, json_object *value);
void js_push_str(json_object *array, const char *value);
/* An array of the strings up to a NULL. */
json_object *js_strings(const char *const *v);
/* o[key], made when it is absent or of another type. */
json_object *js_object_at(json_object *o, const char *key);
json_object *js_array_at(json_object *o, const char *key);
