// SPDX-License-Identifier: Apache-2.0
/*
 * containerd's filters: `field.path==value,other~=regex`
 *
 * A filter is compiled once and matched against anything that can answer a field path. Grammar:
 *   selectors := selector ("," selector)*           all must hold
 *   selector  := fieldpath (operator value)?        without an operator: present
 *   fieldpath := field ("." field)*                 field := quoted | [A-Za-z][A-Za-z0-9_]+
 *   operator  := "==" | "!=" | "~="                 value := quoted | [^\s,]+
 * Quoted is a Go string: "…" with escapes, or a raw /…/ or |…| form as containerd takes for regular expressions.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

struct filter; /* a compiled list: any of them */

/* texts[0..n): none matches everything. The caller frees. Limits: LIMIT_FILTERS, LIMIT_FILTER_BYTES. */
int filter_compile(const char *const *texts, size_t n, struct filter **out, struct fault *f);
void filter_free(struct filter *filter);

/*
 * Answers the value of a field path (its parts unquoted) as text. Returns true when present;
 * *value is valid until the next call. An absent field compares as "" with == and !=.
 */
typedef bool (*filter_field_fn)(void *user, const char *const *path, size_t n, const char **value);

bool filter_match(const struct filter *filter, filter_field_fn field, void *user);
