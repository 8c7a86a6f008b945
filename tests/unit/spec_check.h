// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of the spec reader share
 */
#pragma once

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/spec.h"
#include "util/cleanup.h"
#include "util/json.h"

/* A field of the whole, of process and of linux, each on its own in the smallest spec around it. */
#define SPEC(fields) "{\"ociVersion\":\"1.3.0\"," fields "}"
#define PROCESS(fields) SPEC("\"process\":{\"cwd\":\"/\",\"args\":[\"a\"]," fields "}")
#define LINUX(fields) SPEC("\"linux\":{" fields "}")
#define WITH_NS(name, fields) LINUX("\"namespaces\":[{\"type\":\"" name "\"}]," fields)
#define RESOURCES(fields) LINUX("\"resources\":{" fields "}")

static inline struct spec *good(const char *text)
{
	struct fault f = { 0 };
	struct spec *s;

	if (spec_parse_text(text, strlen(text), &s, &f))
		fail_msg("%s: %s", text, f.message);
	return s;
}

static inline void taken(const char *text)
{
	spec_free(good(text));
}

static inline void refused(const char *text, enum fault_code code, const char *argument,
			   const char *reason)
{
	struct spec *s = (struct spec *)1;
	struct fault f = { 0 };
	char message[1024];

	if (!spec_parse_text(text, strlen(text), &s, &f))
		fail_msg("taken: %s", text);
	assert_null(s);
	snprintf(message, sizeof(message), "%s: %s", argument, reason);
	assert_string_equal(f.message, message);
	if (strlen(argument) < sizeof(f.argument))
		assert_string_equal(f.argument, argument);
	assert_int_equal(f.code, code);
	/* The fault is optional. */
	assert_int_equal(spec_parse_text(text, strlen(text), &s, NULL), -EINVAL);
}

static inline void bad(const char *text, const char *argument, const char *reason)
{
	refused(text, FAULT_INVALID_ARGUMENT, argument, reason);
}

static inline void strings(const struct spec_strs *s, const char *const *want)
{
	size_t n = 0;

	assert_non_null(s->v);
	for (; want[n]; n++)
		assert_string_equal(s->v[n], want[n]);
	assert_int_equal(s->n, n);
	assert_null(s->v[n]);
}

#define STRINGS(s, ...) strings(s, (const char *const[]){ __VA_ARGS__, NULL })
