// SPDX-License-Identifier: Apache-2.0
/*
 * Regular expressions of filters: Go's syntax over PCRE2
 *
 * See filter.c for why the automaton is used. PCRE2 knows more than Go does; what is beyond Go's
 * syntax is refused here with Go's reason, so that an expression which works with davit works with
 * containerd too, and so that none can reach PCRE2's costly or stateful constructs. Where both
 * know a construct but differ, options choose Go's meaning: '$' is the very end of the text,
 * \d \w \s are ASCII, a line ends with '\n'.
 *
 * A value that is not valid UTF-8, or longer than LIMIT_FILTER_VALUE, matches no expression.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <errno.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/filter_internal.h"
#include "util/limits.h"

#define PREFIX "(?s:.*?)(?:"
/* \E ends a \Q that was left open */
#define SUFFIX "\\E)"
/* For about 300 states at once; what users write needs a dozen. */
#define WORKSPACE 2048

struct filter_regex {
	pcre2_code *code;
	pcre2_match_data *data;
	pcre2_match_context *context;
};

/* p is behind "(?" */
static const char *check_group(const char *p)
{
	if (*p == 'P')
		return p[1] == '<' ? NULL : "invalid named group";
	if (*p == '<')
		return p[1] == '=' || p[1] == '!' ? "look-behind is not supported" : NULL;
	if (*p == '=' || *p == '!')
		return "look-ahead is not supported";
	while (*p && strchr("imsU-", *p))
		p++;
	if (*p != ':' && *p != ')')
		return "invalid or unsupported (?…) group";
	return NULL;
}

/* p is behind the backslash */
static const char *check_escape(const char *p)
{
	if (!*p)
		return "trailing backslash";
	if (*p >= '1' && *p <= '9')
		return "backreferences are not supported";
	if (((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z')) &&
	    !strchr("aftnrvxAbBzdDsSwWpPQE", *p))
		return "unknown escape";
	return NULL;
}

/* The last character of a bracket expression that begins at p, or of the text. */
static const char *skip_class(const char *p)
{
	/* a leading ']' is a member, not the end */
	if (p[1] == '^')
		p++;
	if (p[1] == ']')
		p++;
	while (p[1]) {
		p++;
		if (*p == ']')
			return p;
		if (*p == '[' && p[1] == ':') {
			const char *end = strstr(p + 2, ":]");

			if (end)
				p = end + 1;
		} else if (*p == '\\' && p[1]) {
			p++;
		}
	}
	return p;
}

/* The last character of the escape whose letter is at p, or of the text. */
static const char *skip_escape(const char *p)
{
	const char *end = NULL;

	if (*p == 'Q') {
		end = strstr(p, "\\E");
		return end ? end + 1 : p + strlen(p) - 1;
	}
	if (strchr("xpP", *p) && p[1] == '{')
		end = strchr(p, '}');
	return end ? end : p;
}

/* Refuses what Go's regular expressions do not have; *at is where. *multiline: (?m) is used. */
static int check_syntax(const char *pattern, bool *multiline, size_t *at, const char **why)
{
	unsigned depth = 0;
	int repeats = 0; /* 1: what precedes is a repetition, 2: a lazy one */

	*why = NULL;
	for (const char *p = pattern; *p; p++) {
		int before = repeats;

		repeats = 0;
		*at = (size_t)(p - pattern);
		switch (*p) {
		case '\\':
			*why = check_escape(p + 1);
			if (!*why)
				p = skip_escape(p + 1);
			break;
		case '[':
			p = skip_class(p);
			break;
		case '(':
			depth++;
			if (p[1] == '*')
				*why = "nothing to repeat before '*'";
			else if (p[1] == '?')
				*why = check_group(++p + 1);
			if (p[0] == '?' && memchr(p, 'm', 1 + strspn(p + 1, "imsU")))
				*multiline = true;
			break;
		case ')':
			if (!depth--)
				*why = "unexpected ')'";
			break;
		case '{': {
			size_t n = strspn(p + 1, "0123456789,");

			if (p[1] < '0' || p[1] > '9' || p[1 + n] != '}')
				break;
			p += n + 1;
		}
			/* fallthrough */
		case '*':
		case '+':
			repeats = 1;
			if (before)
				*why = "repetition of a repetition";
			break;
		case '?':
			repeats = before + 1;
			if (before > 1)
				*why = "repetition of a repetition";
			break;
		}
		if (*why)
			return -EINVAL;
	}
	return 0;
}

void filter_regex_free(struct filter_regex *re)
{
	if (!re)
		return;
	pcre2_match_context_free(re->context);
	pcre2_match_data_free(re->data);
	pcre2_code_free(re->code);
	free(re);
}

DEFINE_CLEANUP(struct filter_regex *, filter_regex_free)

int filter_regex_compile(const char *pattern, struct filter_regex **out, size_t *at,
			 const char **why)
{
	static _Thread_local char text[160];
	CLEANUP(filter_regex_freep) struct filter_regex *re = calloc(1, sizeof(*re));
	CLEANUP_FREE char *whole = NULL;
	pcre2_compile_context *context;
	PCRE2_SIZE offset = 0;
	bool multiline = false;
	uint32_t options;
	int code = 0, r;

	*out = NULL;
	*at = 0;
	*why = "out of memory";
	if (!re || asprintf(&whole, PREFIX "%s" SUFFIX, pattern) < 0) {
		whole = NULL;
		return -ENOMEM;
	}
	r = check_syntax(pattern, &multiline, at, why);
	if (r < 0)
		return r;
	context = pcre2_compile_context_create(NULL);
	if (!context)
		return -ENOMEM;
	pcre2_set_newline(context, PCRE2_NEWLINE_LF);
	pcre2_set_parens_nest_limit(context, 100);
	options = PCRE2_UTF | PCRE2_ANCHORED | PCRE2_NO_AUTO_CAPTURE | PCRE2_NEVER_BACKSLASH_C;
	/* PCRE2's automaton, unlike its other matcher, applies it to the '$' of (?m) as well */
	if (!multiline)
		options |= PCRE2_DOLLAR_ENDONLY;
	re->code = pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED, options, &code, &offset,
				 context);
	pcre2_compile_context_free(context);
	if (!re->code) {
		size_t size = strlen(pattern);

		if (code == PCRE2_ERROR_HEAP_FAILED)
			return -ENOMEM;
		if (pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text)) < 0)
			snprintf(text, sizeof(text), "PCRE2 error %d", code);
		*why = text;
		*at = offset > sizeof(PREFIX) - 1 ? offset - (sizeof(PREFIX) - 1) : 0;
		if (*at > size)
			*at = size;
		return -EINVAL;
	}
	*why = "out of memory";
	re->data = pcre2_match_data_create(1, NULL);
	re->context = pcre2_match_context_create(NULL);
	if (!re->data || !re->context)
		return -ENOMEM;
	pcre2_set_heap_limit(re->context, 1024);
	*out = TAKE_PTR(re);
	return 0;
}

bool filter_regex_match(struct filter_regex *re, const char *value)
{
	int workspace[WORKSPACE];
	size_t size = strnlen(value, LIMIT_FILTER_VALUE + 1);

	if (size > LIMIT_FILTER_VALUE)
		return false;
	return pcre2_dfa_match(re->code, (PCRE2_SPTR)value, size, 0, PCRE2_DFA_SHORTEST, re->data,
			       re->context, workspace, WORKSPACE) >= 0;
}
