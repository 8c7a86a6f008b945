// SPDX-License-Identifier: Apache-2.0
/*
 * containerd's filters
 *
 * A compiled filter is a list of alternatives, each a list of selectors that must all hold, each a
 * field path with an operator and a value. Everything is allocated at compile time and read-only
 * afterwards, but for the scratch of the regular expression matcher: a filter is therefore used by
 * one thread at a time.
 *
 * The scanner takes what containerd's takes, also where its published grammar is narrower: a field
 * may begin with a digit or a dash and may be one character long, blanks may stand before a token
 * but not after a complete selector. Two things are taken that containerd refuses: after == and !=
 * a bare value may begin with '/' or '|' (topic==/tasks/exit), and inside /…/ and |…|, which only
 * ~= takes, an escape unknown to Go strings, such as \d, is passed on to the regular expression.
 *
 * Regular expressions are those of Go (RE2), compiled by PCRE2, which has the same syntax, after
 * what RE2 does not have (backreferences, lookaround, recursion, possessive repetition) was
 * refused. They are matched by PCRE2's automaton (pcre2_dfa_match), not by backtracking, and
 * anchored behind a leading ".*?", so that one pass over the value decides: the time is linear in
 * the value's length and no expression can hang the daemon. Its states are bounded by a workspace;
 * an expression that needs more does not match.
 */
#include "util/filter.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/filter_internal.h"
#include "util/limits.h"

struct filter {
	struct alternative *alternatives;
	size_t n;
};

static void selector_clear(struct filter_selector *s)
{
	for (size_t i = 0; i < s->n_path; i++)
		free(s->path[i]);
	free(s->path);
	free(s->value);
	filter_regex_free(s->regex);
}

static void alternative_clear(struct alternative *a)
{
	for (size_t i = 0; i < a->n; i++)
		selector_clear(&a->selectors[i]);
	free(a->selectors);
}

void filter_free(struct filter *filter)
{
	if (!filter)
		return;
	for (size_t i = 0; i < filter->n; i++)
		alternative_clear(&filter->alternatives[i]);
	free(filter->alternatives);
	free(filter);
}

DEFINE_CLEANUP(struct filter *, filter_free)

int filter_compile(const char *const *texts, size_t n, struct filter **out, struct fault *f)
{
	CLEANUP(filter_freep) struct filter *filter = NULL;
	int r;

	*out = NULL;
	if (n > LIMIT_FILTERS) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      "filters: %zu given, at most %u are taken", n, LIMIT_FILTERS);
		fault_arg(f, "filters");
		return r;
	}
	filter = calloc(1, sizeof(*filter));
	if (!filter)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "filters");
	filter->alternatives = calloc(n ? n : 1, sizeof(*filter->alternatives));
	if (!filter->alternatives)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "filters");
	for (size_t i = 0; i < n; i++) {
		/* counted first, so that a half-read one is freed as well */
		filter->n++;
		r = filter_parse(texts[i], &filter->alternatives[i], f);
		if (r < 0) {
			fault_prefix(f, "filters[%zu]", i);
			fault_arg(f, "filters");
			return r;
		}
	}
	*out = TAKE_PTR(filter);
	return 0;
}

static bool selector_match(const struct filter_selector *s, filter_field_fn field, void *user)
{
	const char *value = NULL;
	bool present = field(user, (const char *const *)s->path, s->n_path, &value);

	if (!present || !value)
		value = "";
	switch (s->operator) {
	case FILTER_PRESENT:
		return present;
	case FILTER_EQUAL:
		return present && !strcmp(value, s->value);
	case FILTER_NOT_EQUAL:
		return strcmp(value, s->value) != 0;
	case FILTER_MATCHES:
		return filter_regex_match(s->regex, value);
	}
	return false;
}

bool filter_match(const struct filter *filter, filter_field_fn field, void *user)
{
	if (!filter || !filter->n)
		return true;
	for (size_t i = 0; i < filter->n; i++) {
		const struct alternative *a = &filter->alternatives[i];
		size_t k = 0;

		while (k < a->n && selector_match(&a->selectors[k], field, user))
			k++;
		if (k == a->n)
			return true;
	}
	return false;
}
