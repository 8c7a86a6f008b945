// SPDX-License-Identifier: Apache-2.0
/*
 * containerd's filters: `field.path==value,other~=regex`
 *
 * A filter is compiled once and matched against anything that can answer a field path. Grammar:
 *   selectors := selector ("," selector)*           all must hold
 *   selector  := fieldpath (operator value)?        without an operator: present
 *   fieldpath := field ("." field)*                 field := quoted | [A-Za-z][A-Za-z0-9_]+
 *   operator  := "==" | "!=" | "~="                 value := quoted | [^\s,]+
 * Quoted is a Go string: "…" with escapes; for ~= also /…/ or |…|, in which \d and the like reach
 * the regular expression. Those have Go's syntax (RE2: no backreferences, no lookaround), search
 * anywhere in the value, and take time linear in its length.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

struct filter; /* a compiled list: any of them */

/*
 * texts[0..n): none matches everything. The caller frees. Limits: LIMIT_FILTERS,
 * LIMIT_FILTER_BYTES.
 */
int filter_compile(const char *const *texts, size_t n, struct filter **out, struct fault *f);
void filter_free(struct filter *filter);

/*
 * Answers the value of a field path (its parts unquoted) as text. Returns true when present;
 * *value is valid until the next call. As in containerd an absent field is never equal (==), always
 * unequal (!=) but to "", and is "" for ~=.
 */
typedef bool (*filter_field_fn)(void *user, const char *const *path, size_t n, const char **value);

/* One thread at a time. NULL matches everything. */
bool filter_match(const struct filter *filter, filter_field_fn field, void *user);
