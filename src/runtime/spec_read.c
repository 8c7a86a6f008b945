// SPDX-License-Identifier: Apache-2.0
/*
 * Reading fields of a spec's JSON
 *
 * Values are checked for type and range where they are read. The way to a value is not kept as text:
 * a node points to the node above it, on the stack of who reads, and the text of the path
 * ("process.rlimits[2].type") is put together when there is an error to report.
 *
 * Copies go into an arena of growing chunks. Nothing in it is freed alone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/spec_internal.h"
#include "util/cleanup.h"

#define CHUNK_MIN 4096u
#define CHUNK_MAX 65536u
#define ALIGN 16u
#define PATH_DEPTH 16u /* no field of the spec is deeper */
#define SHOWN 128 /* bytes of a user's text in a message */

struct spec_chunk {
	struct spec_chunk *next;
	size_t size, used;
	_Alignas(ALIGN) char data[];
};

static void fail_memory(struct spec_reader *r)
{
	if (!r->err)
		r->err = fault_set(r->f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "reading the spec");
}

void *spec_alloc(struct spec_reader *r, size_t n, size_t size)
{
	struct spec_chunk *c = r->arena->chunks;
	size_t bytes;
	void *p;

	if (r->err)
		return NULL;
	if (__builtin_mul_overflow(n, size, &bytes) || bytes > SIZE_MAX - CHUNK_MAX) {
		fail_memory(r);
		return NULL;
	}
	bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (!c || c->size - c->used < bytes) {
		size_t want = c ? c->size * 2 : CHUNK_MIN;

		if (want > CHUNK_MAX)
			want = CHUNK_MAX;
		if (want < bytes)
			want = bytes;
		c = malloc(sizeof(*c) + want);
		if (!c) {
			fail_memory(r);
			return NULL;
		}
		c->size = want;
		c->used = 0;
		c->next = r->arena->chunks;
		r->arena->chunks = c;
	}
	p = c->data + c->used;
	c->used += bytes;
	memset(p, 0, bytes);
	return p;
}

char *spec_copy(struct spec_reader *r, const char *text, size_t n)
{
	char *p = spec_alloc(r, n + 1, 1);

	if (p)
		memcpy(p, text, n);
	return p;
}

void spec_arena_free(struct spec_arena *a)
{
	struct spec_chunk *c = a->chunks, *next;

	/* The arena may lie in its own first chunk. */
	for (; c; c = next) {
		next = c->next;
		free(c);
	}
}

/* Writes the path of a node's field; returns its length, cut to size. */
static void path_text(const struct spec_node *at, const char *key, char *buf, size_t size)
{
	const struct spec_node *nodes[PATH_DEPTH];
	size_t n = 0, used = 0;

	for (; at && at->up && n < PATH_DEPTH; at = at->up)
		nodes[n++] = at;
	/* What is read alone (a process, resources) names its own top. */
	if (at && !at->up && at->name && n < PATH_DEPTH)
		nodes[n++] = at;
	buf[0] = '\0';
	while (n-- > 0 && used < size) {
		at = nodes[n];
		if (!at->name)
			used += (size_t)snprintf(buf + used, size - used, "[%zu]", at->index);
		else if (at->quoted)
			used += (size_t)snprintf(buf + used, size - used, "[\"%.*s\"]", SHOWN,
						 at->name);
		else
			used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? "." : "",
						 at->name);
	}
	if (key && used < size)
		snprintf(buf + used, size - used, "%s%s", used ? "." : "", key);
}

/* Keys and values come from anybody. */
static void one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

__attribute__((format(printf, 5, 0))) static void failv(struct spec_reader *r,
							const struct spec_node *at, const char *key,
							enum fault_code code, const char *fmt,
							va_list ap)
{
	char path[384];

	if (r->err)
		return;
	path_text(at, key, path, sizeof(path));
	r->err = fault_setv(r->f, code, 0, fmt, ap);
	if (!r->f || !path[0])
		return;
	fault_prefix(r->f, "%s", path);
	fault_arg(r->f, path);
	one_line(r->f->message);
	one_line(r->f->argument);
}

void spec_fail(struct spec_reader *r, const struct spec_node *at, const char *key, const char *fmt,
	       ...)
{
	va_list ap;

	va_start(ap, fmt);
	failv(r, at, key, FAULT_INVALID_ARGUMENT, fmt, ap);
	va_end(ap);
}

void spec_fail_code(struct spec_reader *r, const struct spec_node *at, const char *key,
		    enum fault_code code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	failv(r, at, key, code, fmt, ap);
	va_end(ap);
}

static const char *type_name(json_object *j)
{
	switch (json_object_get_type(j)) {
	case json_type_null:
		return "null";
	case json_type_boolean:
		return "a boolean";
	case json_type_double:
		return "a fraction";
	case json_type_int:
		return "a number";
	case json_type_object:
		return "an object";
	case json_type_array:
		return "an array";
	case json_type_string:
		return "a string";
	}
	return "something else";
}

static void fail_type(struct spec_reader *r, const struct spec_node *at, const char *key,
		      const char *wanted, json_object *j)
{
	spec_fail(r, at, key, "must be %s, not %s", wanted, type_name(j));
}

static json_object *field(struct spec_reader *r, const struct spec_node *at, const char *key)
{
	json_object *j = NULL;

	if (r->err)
		return NULL;
	json_object_object_get_ex(at->json, key, &j);
	return j;
}

static bool is_empty_array(json_object *j)
{
	return json_object_is_type(j, json_type_array) && !json_object_array_length(j);
}

bool spec_object(struct spec_reader *r, const struct spec_node *at, const char *key,
		 struct spec_node *out)
{
	json_object *j = field(r, at, key);

	if (!j)
		return false;
	if (is_empty_array(j)) {
		j = json_object_new_object();
		if (!j || json_object_object_add(at->json, key, j)) {
			json_object_put(j);
			fail_memory(r);
			return false;
		}
	}
	if (!json_object_is_type(j, json_type_object)) {
		fail_type(r, at, key, "an object", j);
		return false;
	}
	*out = (struct spec_node){ .up = at, .name = key, .json = j };
	return true;
}

size_t spec_array(struct spec_reader *r, const struct spec_node *at, const char *key,
		  struct spec_node *out)
{
	json_object *j = field(r, at, key);

	*out = (struct spec_node){ .up = at, .name = key, .json = j };
	if (!j)
		return 0;
	if (!json_object_is_type(j, json_type_array)) {
		fail_type(r, at, key, "an array", j);
		return 0;
	}
	return json_object_array_length(j);
}

bool spec_bool(struct spec_reader *r, const struct spec_node *at, const char *key, bool *out)
{
	json_object *j = field(r, at, key);

	if (!j)
		return false;
	if (!json_object_is_type(j, json_type_boolean)) {
		fail_type(r, at, key, "a boolean", j);
		return false;
	}
	*out = json_object_get_boolean(j);
	return true;
}

bool spec_int(struct spec_reader *r, const struct spec_node *at, const char *key, int64_t min,
	      int64_t max, int64_t *out)
{
	json_object *j = field(r, at, key);
	int64_t v;

	if (!j)
		return false;
	if (!json_object_is_type(j, json_type_int)) {
		fail_type(r, at, key, "an integer", j);
		return false;
	}
	v = json_object_get_int64(j);
	if (v < min || v > max || (v == INT64_MAX && json_object_get_uint64(j) > INT64_MAX)) {
		spec_fail(r, at, key, "%s is not in the range from %lld to %lld",
			  json_object_get_string(j), (long long)min, (long long)max);
		return false;
	}
	*out = v;
	return true;
}

bool spec_uint(struct spec_reader *r, const struct spec_node *at, const char *key, uint64_t max,
	       uint64_t *out)
{
	json_object *j = field(r, at, key);
	uint64_t v;

	if (!j)
		return false;
	if (!json_object_is_type(j, json_type_int)) {
		fail_type(r, at, key, "an integer", j);
		return false;
	}
	v = json_object_get_uint64(j);
	if (json_object_get_int64(j) < 0 || v > max) {
		spec_fail(r, at, key, "%s is not in the range from 0 to %llu",
			  json_object_get_string(j), (unsigned long long)max);
		return false;
	}
	*out = v;
	return true;
}

bool spec_u32(struct spec_reader *r, const struct spec_node *at, const char *key, uint32_t max,
	      uint32_t *out)
{
	uint64_t v;

	if (!spec_uint(r, at, key, max, &v))
		return false;
	*out = (uint32_t)v;
	return true;
}

/* The text of a string; json_parse and json_from_mp let no NUL through, other makers of trees may. */
static bool text_of(struct spec_reader *r, const struct spec_node *at, const char *key,
		    json_object *j, const char **out, size_t *size)
{
	if (!json_object_is_type(j, json_type_string)) {
		fail_type(r, at, key, "a string", j);
		return false;
	}
	*out = json_object_get_string(j);
	*size = (size_t)json_object_get_string_len(j);
	if (memchr(*out, '\0', *size)) {
		spec_fail(r, at, key, "has a NUL inside");
		return false;
	}
	return true;
}

bool spec_peek(struct spec_reader *r, const struct spec_node *at, const char *key, const char **out)
{
	json_object *j = field(r, at, key);
	const char *text;
	size_t size;

	if (!j || !text_of(r, at, key, j, &text, &size) || !size)
		return false;
	*out = text;
	return true;
}

bool spec_text(struct spec_reader *r, const struct spec_node *at, const char *key, char **out)
{
	const char *text;

	if (!spec_peek(r, at, key, &text))
		return false;
	*out = spec_copy(r, text, strlen(text));
	return *out != NULL;
}

bool spec_path(struct spec_reader *r, const struct spec_node *at, const char *key, char **out)
{
	if (!spec_text(r, at, key, out))
		return false;
	if ((*out)[0] == '/')
		return true;
	spec_fail(r, at, key, "\"%.*s\" is not an absolute path", SHOWN, *out);
	return false;
}

void spec_texts(struct spec_reader *r, const struct spec_node *at, const char *key,
		struct spec_strs *out)
{
	struct spec_node array;
	size_t n = spec_array(r, at, key, &array), size;
	const char *text;

	/* Also when there is none, since callers hand the vector to execve. */
	out->v = spec_alloc(r, n + 1, sizeof(*out->v));
	for (size_t i = 0; i < n && spec_item_text(r, &array, i, &text, &size); i++)
		out->v[i] = spec_copy(r, text, size);
	if (!r->err)
		out->n = n;
}

static bool find_word(struct spec_reader *r, const struct spec_node *at, const char *key,
		      const char *text, const struct spec_word *table, size_t n, const char *what,
		      int64_t *out)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(table[i].name, text)) {
			*out = table[i].value;
			return true;
		}
	}
	spec_fail(r, at, key, "unknown %s \"%.*s\"", what, SHOWN, text);
	return false;
}

bool spec_word(struct spec_reader *r, const struct spec_node *at, const char *key,
	       const struct spec_word *table, size_t n, const char *what, int64_t *out)
{
	const char *text;

	return spec_peek(r, at, key, &text) && find_word(r, at, key, text, table, n, what, out);
}

void spec_require(struct spec_reader *r, const struct spec_node *at, const char *key, bool given)
{
	if (!given)
		spec_fail(r, at, key, "is missing");
}

bool spec_item(struct spec_reader *r, const struct spec_node *array, size_t i,
	       struct spec_node *out)
{
	json_object *j;

	if (r->err)
		return false;
	j = json_object_array_get_idx(array->json, i);
	*out = (struct spec_node){ .up = array, .index = i, .json = j };
	if (is_empty_array(j)) {
		j = json_object_new_object();
		if (!j || json_object_array_put_idx(array->json, i, j)) {
			json_object_put(j);
			fail_memory(r);
			return false;
		}
		out->json = j;
	}
	if (json_object_is_type(j, json_type_object))
		return true;
	fail_type(r, out, NULL, "an object", j);
	return false;
}

bool spec_item_text(struct spec_reader *r, const struct spec_node *array, size_t i,
		    const char **out, size_t *size)
{
	struct spec_node item = { .up = array, .index = i };

	if (r->err)
		return false;
	return text_of(r, &item, NULL, json_object_array_get_idx(array->json, i), out, size);
}

bool spec_item_word(struct spec_reader *r, const struct spec_node *array, size_t i,
		    const struct spec_word *table, size_t n, const char *what, int64_t *out)
{
	struct spec_node item = { .up = array, .index = i };
	const char *text;
	size_t size;

	return spec_item_text(r, array, i, &text, &size) &&
	       find_word(r, &item, NULL, text, table, n, what, out);
}

bool spec_entry(const struct spec_node *map, struct lh_entry **i, struct spec_node *out)
{
	*i = *i ? lh_entry_next(*i) : lh_table_head(json_object_get_object(map->json));
	if (!*i)
		return false;
	*out = (struct spec_node){ .up = map,
				   .name = lh_entry_k(*i),
				   .quoted = true,
				   .json = (json_object *)lh_entry_v(*i) };
	return true;
}

bool spec_entry_object(struct spec_reader *r, struct spec_node *entry)
{
	struct spec_node found;

	if (r->err)
		return false;
	if (!entry->json) {
		fail_type(r, entry, NULL, "an object", NULL);
		return false;
	}
	if (!is_empty_array(entry->json)) {
		if (json_object_is_type(entry->json, json_type_object))
			return true;
		fail_type(r, entry, NULL, "an object", entry->json);
		return false;
	}
	if (!spec_object(r, entry->up, entry->name, &found))
		return false;
	entry->json = found.json;
	return true;
}

bool spec_entry_text(struct spec_reader *r, const struct spec_node *entry, const char **out)
{
	size_t size;

	return !r->err && text_of(r, entry, NULL, entry->json, out, &size);
}

bool spec_list_valid(const char *text, unsigned limit, uint64_t *bits)
{
	const char *p = text;

	for (;;) {
		unsigned long from, to;
		char *end;

		if (*p < '0' || *p > '9')
			return false;
		from = to = strtoul(p, &end, 10);
		if (*end == '-') {
			p = end + 1;
			if (*p < '0' || *p > '9')
				return false;
			to = strtoul(p, &end, 10);
		}
		if (from > to || to >= limit)
			return false;
		for (unsigned long i = from; bits && i <= to; i++)
			bits[i / 64] |= 1ull << (i % 64);
		if (!*end)
			return true;
		if (*end != ',')
			return false;
		p = end + 1;
	}
}
