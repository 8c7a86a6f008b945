// SPDX-License-Identifier: Apache-2.0
/*
 * How the spec's parts are read, private to runtime/spec*.c
 *
 * A reader keeps the first error: once it is set every call does nothing and answers "absent", so that a
 * part is read as a plain list of fields and the error is looked at once, at its end.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/spec.h"
#include "util/fault.h"

struct spec_chunk;
struct spec_arena { /* all memory of one spec; freed at once */
	struct spec_chunk *chunks;
};

struct spec_reader {
	struct spec_arena *arena; /* NULL: a check alone, which allocates nothing */
	struct fault *f;
	int err; /* 0 or negative */
};

/* A JSON value and the way to it, for messages. Nodes live on the callers' stacks. */
struct spec_node {
	const struct spec_node *up; /* NULL for the top */
	const char *name; /* NULL: an array's item, `index` */
	size_t index;
	bool quoted; /* the name is a user's key: ["name"] */
	json_object *json;
};

struct spec_word {
	const char *name;
	int64_t value;
};

/* Zeroed and aligned for anything. NULL (with the error set) when memory is out or an error is set already. */
void *spec_alloc(struct spec_reader *r, size_t n, size_t size);
char *spec_copy(struct spec_reader *r, const char *text, size_t n);
void spec_arena_free(struct spec_arena *a);

/* Error on a field of a node, or on the node itself when key is NULL. */
void spec_fail(struct spec_reader *r, const struct spec_node *at, const char *key, const char *fmt,
	       ...) __attribute__((format(printf, 4, 5)));
/* The same with a code of its own. */
void spec_fail_code(struct spec_reader *r, const struct spec_node *at, const char *key,
		    enum fault_code code, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/*
 * Fields of an object. They answer whether the field was there (null counts as absent) and leave *out alone when it was
 * not. An empty array is taken for an empty object and replaced by one in the tree, as the RPC contract has it.
 */
bool spec_object(struct spec_reader *r, const struct spec_node *at, const char *key,
		 struct spec_node *out);
/* its length */
size_t spec_array(struct spec_reader *r, const struct spec_node *at, const char *key,
		  struct spec_node *out);
bool spec_bool(struct spec_reader *r, const struct spec_node *at, const char *key, bool *out);
bool spec_int(struct spec_reader *r, const struct spec_node *at, const char *key, int64_t min,
	      int64_t max, int64_t *out);
bool spec_uint(struct spec_reader *r, const struct spec_node *at, const char *key, uint64_t max,
	       uint64_t *out);
bool spec_u32(struct spec_reader *r, const struct spec_node *at, const char *key, uint32_t max,
	      uint32_t *out);
/* A text as it is in the tree, valid as long as that; "" counts as absent. */
bool spec_peek(struct spec_reader *r, const struct spec_node *at, const char *key,
	       const char **out);
/* a copy */
bool spec_text(struct spec_reader *r, const struct spec_node *at, const char *key, char **out);
/* begins with '/' */
bool spec_path(struct spec_reader *r, const struct spec_node *at, const char *key, char **out);
void spec_texts(struct spec_reader *r, const struct spec_node *at, const char *key,
		struct spec_strs *out);
/* A word of a table. what: "namespace", for "unknown namespace "X"". */
bool spec_word(struct spec_reader *r, const struct spec_node *at, const char *key,
	       const struct spec_word *table, size_t n, const char *what, int64_t *out);
void spec_require(struct spec_reader *r, const struct spec_node *at, const char *key, bool given);

/* Items of an array. */
/* an object */
bool spec_item(struct spec_reader *r, const struct spec_node *array, size_t i,
	       struct spec_node *out);
bool spec_item_text(struct spec_reader *r, const struct spec_node *array, size_t i,
		    const char **out, size_t *size);
bool spec_item_word(struct spec_reader *r, const struct spec_node *array, size_t i,
		    const struct spec_word *table, size_t n, const char *what, int64_t *out);
/* Values of a map with keys of the user's; *i runs over its entries. */
bool spec_entry(const struct spec_node *map, struct lh_entry **i, struct spec_node *out);
bool spec_entry_object(struct spec_reader *r, struct spec_node *entry);
bool spec_entry_text(struct spec_reader *r, const struct spec_node *entry, const char **out);

/* "0-3,7" as the kernel writes lists of processors and nodes; numbers below `limit`. bits may be NULL, else a mask of that size. */
bool spec_list_valid(const char *text, unsigned limit, uint64_t *bits);

/* The parts. */
void spec_read_process(struct spec_reader *r, const struct spec_node *at, struct spec_process *p);
void spec_read_linux(struct spec_reader *r, const struct spec_node *at, struct spec *s);
void spec_read_idmaps(struct spec_reader *r, const struct spec_node *at, const char *key,
		      struct spec_idmaps *out);
/* s NULL: check alone. */
void spec_read_resources(struct spec_reader *r, const struct spec_node *at, struct spec *s);

extern const struct spec_word spec_rlimit_words[], spec_namespace_words[], spec_propagation_words[];
extern const struct spec_word spec_policy_words[], spec_policy_flag_words[], spec_mempolicy_words[],
	spec_mempolicy_flag_words[];
extern const size_t spec_rlimit_count, spec_namespace_count, spec_propagation_count;
extern const size_t spec_policy_count, spec_policy_flag_count, spec_mempolicy_count,
	spec_mempolicy_flag_count;
