// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: their JSON
 *
 * Members stand in the order in which they are added. A lack of memory is kept in *failed, and
 * asked for once when all is there; until then values may be NULL.
 */
#include <stdio.h>
#include <time.h>

#include "core/ckpt_formats.h"
#include "util/clock.h"

json_object *ckpt_json_made(json_object *value, bool *failed)
{
	*failed |= !value;
	return value;
}

/* Takes value over. */
void ckpt_json_add(json_object *to, const char *key, json_object *value, bool *failed)
{
	if (value && !*failed && json_object_object_add(to, key, value) == 0)
		return;
	*failed = true;
	json_object_put(value);
}

void ckpt_json_text(json_object *to, const char *key, const char *text, bool *failed)
{
	ckpt_json_add(to, key, json_object_new_string(text), failed);
}

void ckpt_json_append(json_object *to, json_object *value, bool *failed)
{
	if (value && !*failed && json_object_array_add(to, value) == 0)
		return;
	*failed = true;
	json_object_put(value);
}

const char *ckpt_json_get(json_object *from, const char *key)
{
	json_object *value = from && json_object_is_type(from, json_type_object)
				     ? json_object_object_get(from, key)
				     : NULL;

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

const char *ckpt_json_write(json_object *j, size_t *size)
{
	return json_object_to_json_string_length(
		j, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, size);
}

void ckpt_time_text(int64_t ns, char out[CKPT_TIME_TEXT])
{
	time_t seconds = ns / CLOCK_NS_PER_SEC;
	struct tm tm = { 0 };

	gmtime_r(&seconds, &tm);
	snprintf(out, CKPT_TIME_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d.%09lldZ",
		 (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
		 tm.tm_sec, (long long)(ns % CLOCK_NS_PER_SEC));
}
