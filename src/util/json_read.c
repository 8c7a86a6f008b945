// SPDX-License-Identifier: Apache-2.0
/*
 * Reading a JSON text into a json-c tree
 *
 * json-c's own reader is not used. A file that decides what a container may do has to be read
 * strictly, and that reader lets the last of equal keys win in silence, clamps integers, turns lone
 * surrogates into U+FFFD, and (0.16) leaves out members without an error when memory is short.
 * Its strict mode refuses every character beyond ASCII in 0.18, where a signed char is compared
 * with 0x1f. And it names an error by a byte offset alone.
 *
 * One pass, no recursion. A value is put into the object or array above it as soon as it begins;
 * whatever goes wrong, putting the root frees all. `scratch` holds two texts at once: the key of
 * the value to come, and behind it the value when that is a string. Unescaping makes no text
 * longer, so the size of the whole and two NULs are room enough.
 */
#include "util/json_read.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/limits.h"

#define NUMBER_BYTES 1024u
#define KEY_SHOWN 64 /* bytes of a key in a message */
#define ARRAY_ROOM 4 /* elements that a new array has room for */

struct reader {
	const char *text, *p, *end;
	json_object *root;
	json_object *open[LIMIT_JSON_DEPTH]; /* borrowed from the root, the innermost last */
	size_t depth;
	char *scratch;
	size_t key; /* bytes of the key in it with its NUL, 0 when there is none */
	struct fault *f;
};

static int fail(struct reader *rd, const char *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct reader *rd, const char *at, const char *fmt, ...)
{
	size_t line = 1, column = 1;
	va_list ap;

	for (const char *p = rd->text; p < at; p++) {
		if (*p == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)*p & 0xc0) != 0x80) {
			column++;
		}
	}
	va_start(ap, fmt);
	fault_setv(rd->f, FAULT_INVALID_ARGUMENT, 0, fmt, ap);
	va_end(ap);
	fault_prefix(rd->f, "line %zu, column %zu", line, column);
	return -EINVAL;
}

static int fail_unexpected(struct reader *rd, const char *wanted)
{
	unsigned char c;

	if (rd->p >= rd->end)
		return fail(rd, rd->end, "the text ends where %s should be", wanted);
	c = (unsigned char)*rd->p;
	if (c > 0x20 && c < 0x7f)
		return fail(rd, rd->p, "'%c' where %s should be", c, wanted);
	return fail(rd, rd->p, "byte 0x%02x where %s should be", c, wanted);
}

size_t json_utf8(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t len;
	uint32_t c;

	if (!n)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		len = 2;
	else if ((p[0] & 0xf0) == 0xe0)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (n < len)
		return 0;
	c = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (len == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff)))
		return 0;
	if (len == 4 && (c < 0x10000 || c > 0x10ffff))
		return 0;
	return len;
}

static void skip_space(struct reader *rd)
{
	while (rd->p < rd->end &&
	       (*rd->p == ' ' || *rd->p == '\n' || *rd->p == '\t' || *rd->p == '\r'))
		rd->p++;
}

static int hex4(const char *p, const char *end)
{
	int v = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (c - 'a' + 10);
		else if (c >= 'A' && c <= 'F')
			v = v << 4 | (c - 'A' + 10);
		else
			return -1;
	}
	return v;
}

/* The ten bits of the escape that has to follow, or -1. */
static int low_surrogate(const struct reader *rd)
{
	int v;

	if (rd->end - rd->p < 6 || rd->p[0] != '\\' || rd->p[1] != 'u')
		return -1;
	v = hex4(rd->p + 2, rd->end);
	return v >= 0xdc00 && v <= 0xdfff ? v & 0x3ff : -1;
}

static char *put_utf8(char *o, uint32_t c)
{
	if (c < 0x80) {
		*o++ = (char)c;
	} else if (c < 0x800) {
		*o++ = (char)(0xc0 | c >> 6);
		*o++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*o++ = (char)(0xe0 | c >> 12);
		*o++ = (char)(0x80 | (c >> 6 & 0x3f));
		*o++ = (char)(0x80 | (c & 0x3f));
	} else {
		*o++ = (char)(0xf0 | c >> 18);
		*o++ = (char)(0x80 | (c >> 12 & 0x3f));
		*o++ = (char)(0x80 | (c >> 6 & 0x3f));
		*o++ = (char)(0x80 | (c & 0x3f));
	}
	return o;
}

/* At a backslash. The character goes to *out, which is moved on. */
static int read_escape(struct reader *rd, char **out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = rd->p, *simple;
	int hi, lo;
	uint32_t c;

	rd->p++;
	if (rd->p >= rd->end)
		return fail(rd, rd->p, "the text ends inside a string");
	if (*rd->p != 'u') {
		simple = *rd->p ? strchr(from, *rd->p) : NULL;
		if (!simple)
			return fail(rd, at, "unknown escape in a string");
		*(*out)++ = to[simple - from];
		rd->p++;
		return 0;
	}
	rd->p++;
	hi = hex4(rd->p, rd->end);
	if (hi < 0)
		return fail(rd, at, "\\u needs four hexadecimal digits");
	if (!hi)
		return fail(rd, at, "NUL in a string");
	rd->p += 4;
	c = (uint32_t)hi;
	if (hi >= 0xd800 && hi <= 0xdfff) {
		lo = low_surrogate(rd);
		if (hi >= 0xdc00 || lo < 0)
			return fail(rd, at, "half of a surrogate pair in a string");
		rd->p += 6;
		c = 0x10000u + (((uint32_t)hi & 0x3ff) << 10 | (uint32_t)lo);
	}
	*out = put_utf8(*out, c);
	return 0;
}

/* At the opening quote. Writes the text with a NUL to out, its length without to *size. */
static int read_string(struct reader *rd, char *out, size_t *size)
{
	char *begin = out;

	rd->p++;
	while (rd->p < rd->end) {
		unsigned char c = (unsigned char)*rd->p;
		size_t len = 1;

		if (c == '"') {
			rd->p++;
			*out = '\0';
			*size = (size_t)(out - begin);
			return 0;
		}
		if (c == '\\') {
			int r = read_escape(rd, &out);

			if (r)
				return r;
			continue;
		}
		if (c < 0x20)
			return fail(rd, rd->p,
				    c ? "control character 0x%02x in a string" : "NUL in a string",
				    c);
		if (c >= 0x80)
			len = json_utf8(rd->p, (size_t)(rd->end - rd->p));
		if (!len)
			return fail(rd, rd->p, "invalid UTF-8 in a string");
		while (len--)
			*out++ = *rd->p++;
	}
	return fail(rd, rd->p, "the text ends inside a string");
}

static int read_key(struct reader *rd)
{
	const char *at = rd->p;
	size_t size = 0;
	int r;

	if (rd->p >= rd->end || *rd->p != '"')
		return fail_unexpected(rd, "a key in quotes");
	r = read_string(rd, rd->scratch, &size);
	if (r)
		return r;
	rd->key = size + 1;
	if (json_object_object_get_ex(rd->open[rd->depth - 1], rd->scratch, NULL))
		return fail(rd, at, "duplicate key \"%.*s\"", KEY_SHOWN, rd->scratch);
	skip_space(rd);
	if (rd->p >= rd->end || *rd->p != ':')
		return fail_unexpected(rd, "':'");
	rd->p++;
	skip_space(rd);
	return 0;
}

/* Puts a value where it belongs. It is consumed, also by a failure. */
static int put_value(struct reader *rd, json_object *value)
{
	json_object *parent = rd->depth ? rd->open[rd->depth - 1] : NULL;
	int r;

	if (!parent) {
		rd->root = value;
		return 0;
	}
	if (json_object_is_type(parent, json_type_object))
		r = json_object_object_add_ex(parent, rd->scratch, value,
					      JSON_C_OBJECT_ADD_KEY_IS_NEW);
	else
		r = json_object_array_add(parent, value);
	rd->key = 0;
	if (!r)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

/* The same for one that was just made: NULL is lack of memory. */
static int put_new(struct reader *rd, json_object *value)
{
	return value ? put_value(rd, value) : -ENOMEM;
}

static int put_string(struct reader *rd)
{
	char *text = rd->scratch + rd->key;
	size_t size = 0;
	int r = read_string(rd, text, &size);

	return r ? r : put_new(rd, json_object_new_string_len(text, (int)size));
}

static int put_integer(struct reader *rd, const char *at, const char *text)
{
	json_object *value;

	errno = 0;
	if (*text == '-') {
		value = json_object_new_int64(strtoll(text, NULL, 10));
	} else {
		unsigned long long u = strtoull(text, NULL, 10);

		value = u > INT64_MAX ? json_object_new_uint64(u)
				      : json_object_new_int64((int64_t)u);
	}
	if (errno == ERANGE) {
		json_object_put(value);
		return fail(rd, at, "the number does not fit 64 bits");
	}
	return put_new(rd, value);
}

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

/* Moves over a number; *integer when it has neither fraction nor exponent. */
static int skip_number(struct reader *rd, bool *integer)
{
	const char *digits;

	*integer = true;
	if (*rd->p == '-')
		rd->p++;
	digits = rd->p;
	rd->p = skip_digits(rd->p, rd->end);
	if (rd->p == digits)
		return fail_unexpected(rd, "a digit");
	if (*digits == '0' && rd->p - digits > 1)
		return fail(rd, digits, "a number begins with 0");
	if (rd->p < rd->end && *rd->p == '.') {
		*integer = false;
		digits = ++rd->p;
		rd->p = skip_digits(rd->p, rd->end);
		if (rd->p == digits)
			return fail_unexpected(rd, "a digit");
	}
	if (rd->p < rd->end && (*rd->p == 'e' || *rd->p == 'E')) {
		*integer = false;
		rd->p++;
		if (rd->p < rd->end && (*rd->p == '+' || *rd->p == '-'))
			rd->p++;
		digits = rd->p;
		rd->p = skip_digits(rd->p, rd->end);
		if (rd->p == digits)
			return fail_unexpected(rd, "a digit");
	}
	return 0;
}

static int put_number(struct reader *rd)
{
	char text[NUMBER_BYTES + 1];
	const char *at = rd->p;
	bool integer;
	double d;
	size_t n;
	int r = skip_number(rd, &integer);

	if (r)
		return r;
	n = (size_t)(rd->p - at);
	if (n > NUMBER_BYTES)
		return fail(rd, at, "a number of more than %u characters", NUMBER_BYTES);
	memcpy(text, at, n);
	text[n] = '\0';
	if (integer)
		return put_integer(rd, at, text);
	/* The program never leaves the C locale: the point is a point. */
	d = strtod(text, NULL);
	if (!isfinite(d))
		return fail(rd, at, "the number is too large");
	/* With its text, so that it is given back as it came. */
	return put_new(rd, json_object_new_double_s(d, text));
}

static int put_word(struct reader *rd, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(rd->end - rd->p) < n || memcmp(rd->p, word, n))
		return fail_unexpected(rd, "a value");
	rd->p += n;
	if (*word == 'n')
		return put_value(rd, NULL);
	return put_new(rd, json_object_new_boolean(*word == 't'));
}

static int open_value(struct reader *rd)
{
	bool object = *rd->p == '{';
	json_object *value;
	int r;

	if (rd->depth == LIMIT_JSON_DEPTH)
		return fail(rd, rd->p, "nested deeper than %u", LIMIT_JSON_DEPTH);
	value = object ? json_object_new_object() : json_object_new_array_ext(ARRAY_ROOM);
	r = put_new(rd, value);
	if (r)
		return r;
	rd->open[rd->depth++] = value;
	rd->p++;
	skip_space(rd);
	return 0;
}

static int read_value(struct reader *rd)
{
	if (rd->p >= rd->end)
		return fail_unexpected(rd, "a value");
	switch (*rd->p) {
	case '{':
	case '[':
		return open_value(rd);
	case '"':
		return put_string(rd);
	case 't':
		return put_word(rd, "true");
	case 'f':
		return put_word(rd, "false");
	case 'n':
		return put_word(rd, "null");
	case '-':
	case '0' ... '9':
		return put_number(rd);
	default:
		return fail_unexpected(rd, "a value");
	}
}

static bool in_object(const struct reader *rd)
{
	return rd->depth && json_object_is_type(rd->open[rd->depth - 1], json_type_object);
}

/* Moves over the ends of what is open, and a comma. *more: a value follows. */
static int read_ends(struct reader *rd, bool opened, bool *more)
{
	*more = true;
	for (; rd->depth; opened = false) {
		bool object = in_object(rd);

		skip_space(rd);
		if (rd->p < rd->end && *rd->p == (object ? '}' : ']')) {
			rd->p++;
			rd->depth--;
			continue;
		}
		/* Right behind the opening the first member comes. */
		if (opened)
			return 0;
		if (rd->p >= rd->end || *rd->p != ',')
			return fail_unexpected(rd, object ? "',' or '}'" : "',' or ']'");
		rd->p++;
		skip_space(rd);
		return 0;
	}
	*more = false;
	skip_space(rd);
	return rd->p < rd->end ? fail_unexpected(rd, "the end of the text") : 0;
}

static int read_text(struct reader *rd)
{
	bool more = true;
	int r = 0;

	skip_space(rd);
	while (more && !r) {
		size_t depth = rd->depth;

		if (in_object(rd))
			r = read_key(rd);
		if (!r)
			r = read_value(rd);
		if (!r)
			r = read_ends(rd, rd->depth > depth, &more);
	}
	return r;
}

int json_read(const char *text, size_t size, json_object **out, struct fault *f)
{
	struct reader rd = { .text = text, .p = text, .end = text + size, .f = f };
	int r = -ENOMEM;

	*out = NULL;
	if (size > INT_MAX)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "a JSON text of %zu bytes", size);
	rd.scratch = malloc(size + 2);
	if (rd.scratch)
		r = read_text(&rd);
	free(rd.scratch);
	if (!r) {
		*out = rd.root;
		return 0;
	}
	json_object_put(rd.root);
	if (r == -ENOMEM)
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "reading JSON");
	return r;
}
