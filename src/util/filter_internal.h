// SPDX-License-Identifier: Apache-2.0
/*
 * Filters, inside: what the parser, the regular expressions and the matcher share
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

struct filter_regex;

enum filter_operator { FILTER_PRESENT, FILTER_EQUAL, FILTER_NOT_EQUAL, FILTER_MATCHES };

struct filter_selector {
	char **path;
	size_t n_path;
	enum filter_operator operator;
	char *value; /* NULL with FILTER_PRESENT */
	struct filter_regex *regex; /* with FILTER_MATCHES */
};

struct alternative {
	struct filter_selector *selectors; /* none: it holds always */
	size_t n;
};

/* One filter text. On failure what was read so far is in *a, for the caller to clear. */
int filter_parse(const char *text, struct alternative *a, struct fault *f);

/*
 * A regular expression in Go's syntax. On failure *at is the offset of what is wrong in it, and
 * *why says what, valid until the next call on this thread. 0, -EINVAL, -ENOMEM.
 */
int filter_regex_compile(const char *pattern, struct filter_regex **out, size_t *at,
			 const char **why);
void filter_regex_free(struct filter_regex *re);
bool filter_regex_match(struct filter_regex *re, const char *value);
