// SPDX-License-Identifier: Apache-2.0
/*
 * The strict half of JSON reading
 *
 * json-c accepts more than it should for a file that decides what a container may do: the last of
 * equal keys wins in silence, lone surrogates become U+FFFD, integers are clamped, NaN is a number.
 * And it names an error by a byte offset. So the text is read here first, by a scanner that builds
 * nothing and knows where it is.
 *
 * Duplicate keys: `keys` is a stack of the keys of all objects that are open, those of one object
 * lying together from its frame's `first` on. While an object has few keys a new one is compared
 * with each; beyond that they are sorted when the object ends, so that an object of half a
 * million keys costs n log n. Keys are views of the text; those with escapes are unescaped into
 * `plain`, one buffer of the text's size, which is made when the first such key comes.
 */
#include "util/json_scan.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/limits.h"

#define KEYS_LINEAR 24u /* up to this many keys of an object are compared one by one */
#define NUMBER_BYTES 1024u
#define KEY_SHOWN 64 /* bytes of a key in a message */

struct key {
	const char *p;
	size_t n;
	const char *at; /* where in the text, for the message */
};

struct frame {
	bool object;
	size_t first; /* of its keys */
};

struct scan {
	const char *text, *p, *end;
	struct frame frames[LIMIT_JSON_DEPTH];
	size_t depth;
	struct key *keys;
	size_t n_keys, keys_room;
	char *plain;
	size_t plain_used;
	struct fault *f;
};

static int fail(struct scan *s, const char *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct scan *s, const char *at, const char *fmt, ...)
{
	size_t line = 1, column = 1;
	va_list ap;

	for (const char *p = s->text; p < at; p++) {
		if (*p == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)*p & 0xc0) != 0x80) {
			column++;
		}
	}
	va_start(ap, fmt);
	fault_setv(s->f, FAULT_INVALID_ARGUMENT, 0, fmt, ap);
	va_end(ap);
	fault_prefix(s->f, "line %zu, column %zu", line, column);
	return -EINVAL;
}

static int fail_unexpected(struct scan *s, const char *wanted)
{
	unsigned char c;

	if (s->p >= s->end)
		return fail(s, s->end, "the text ends where %s should be", wanted);
	c = (unsigned char)*s->p;
	if (c > 0x20 && c < 0x7f)
		return fail(s, s->p, "'%c' where %s should be", c, wanted);
	return fail(s, s->p, "byte 0x%02x where %s should be", c, wanted);
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

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
		s->p++;
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

static void put_utf8(char **out, uint32_t c)
{
	char *o = *out;

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
	*out = o;
}

/* At a backslash. The character goes to *out unless out is NULL. */
static int scan_escape(struct scan *s, char **out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *at = s->p, *simple;
	int hi, lo;
	uint32_t c;

	s->p++;
	if (s->p >= s->end)
		return fail(s, s->p, "the text ends inside a string");
	if (*s->p != 'u') {
		simple = *s->p ? strchr(from, *s->p) : NULL;
		if (!simple)
			return fail(s, at, "unknown escape in a string");
		if (out)
			*(*out)++ = to[simple - from];
		s->p++;
		return 0;
	}
	s->p++;
	hi = hex4(s->p, s->end);
	if (hi < 0)
		return fail(s, at, "\\u needs four hexadecimal digits");
	if (!hi)
		return fail(s, at, "NUL in a string");
	s->p += 4;
	c = (uint32_t)hi;
	if (hi >= 0xd800 && hi <= 0xdfff) {
		lo = -1;
		if (hi < 0xdc00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u')
			lo = hex4(s->p + 2, s->end);
		if ((lo & ~0x3ff) != 0xdc00)
			return fail(s, at, "half of a surrogate pair in a string");
		s->p += 6;
		c = 0x10000u + (((uint32_t)hi & 0x3ff) << 10 | ((uint32_t)lo & 0x3ff));
	}
	if (out)
		put_utf8(out, c);
	return 0;
}

/* At the opening quote. *escaped tells whether anything in it was. */
static int scan_string(struct scan *s, bool *escaped)
{
	*escaped = false;
	s->p++;
	while (s->p < s->end) {
		unsigned char c = (unsigned char)*s->p;

		if (c == '"') {
			s->p++;
			return 0;
		}
		if (c == '\\') {
			int r = scan_escape(s, NULL);

			if (r)
				return r;
			*escaped = true;
		} else if (c < 0x20) {
			return fail(s, s->p,
				    c ? "control character 0x%02x in a string" : "NUL in a string",
				    c);
		} else if (c < 0x80) {
			s->p++;
		} else {
			size_t len = json_utf8(s->p, (size_t)(s->end - s->p));

			if (!len)
				return fail(s, s->p, "invalid UTF-8 in a string");
			s->p += len;
		}
	}
	return fail(s, s->p, "the text ends inside a string");
}

static int fail_duplicate(struct scan *s, const struct key *k)
{
	int shown = k->n > KEY_SHOWN ? KEY_SHOWN : (int)k->n;

	return fail(s, k->at, "duplicate key \"%.*s\"", shown, k->p);
}

static bool key_same(const struct key *a, const struct key *b)
{
	return a->n == b->n && !memcmp(a->p, b->p, a->n);
}

static int key_compare(const void *va, const void *vb)
{
	const struct key *a = va, *b = vb;
	int r;

	if (a->n != b->n)
		return a->n < b->n ? -1 : 1;
	r = memcmp(a->p, b->p, a->n);
	if (r)
		return r;
	return a->at < b->at ? -1 : a->at > b->at;
}

static int unescape(struct scan *s, struct key *k)
{
	const char *end = s->p, *close = s->p - 1;
	char *out;

	if (!s->plain) {
		s->plain = malloc((size_t)(s->end - s->text));
		if (!s->plain)
			return -ENOMEM;
	}
	/* An unescaped string is never longer than its text. */
	out = s->plain + s->plain_used;
	k->p = out;
	s->p = k->at + 1;
	while (s->p < close) {
		if (*s->p == '\\')
			scan_escape(s, &out);
		else
			*out++ = *s->p++;
	}
	k->n = (size_t)(out - k->p);
	s->plain_used += k->n;
	s->p = end;
	return 0;
}

static int scan_key(struct scan *s)
{
	struct frame *fr = &s->frames[s->depth - 1];
	struct key k = { .at = s->p };
	bool escaped;
	int r;

	if (s->p >= s->end || *s->p != '"')
		return fail_unexpected(s, "a key in quotes");
	r = scan_string(s, &escaped);
	if (r)
		return r;
	k.p = k.at + 1;
	k.n = (size_t)(s->p - k.p) - 1;
	if (escaped) {
		r = unescape(s, &k);
		if (r)
			return r;
	}
	if (s->n_keys - fr->first < KEYS_LINEAR)
		for (size_t i = fr->first; i < s->n_keys; i++)
			if (key_same(&s->keys[i], &k))
				return fail_duplicate(s, &k);
	if (s->n_keys == s->keys_room) {
		size_t room = s->keys_room ? s->keys_room * 2 : 64;
		struct key *keys = realloc(s->keys, room * sizeof(*keys));

		if (!keys)
			return -ENOMEM;
		s->keys = keys;
		s->keys_room = room;
	}
	s->keys[s->n_keys++] = k;
	skip_space(s);
	if (s->p >= s->end || *s->p != ':')
		return fail_unexpected(s, "':'");
	s->p++;
	return 0;
}

static int close_object(struct scan *s)
{
	struct frame *fr = &s->frames[s->depth - 1];
	struct key *keys = s->keys + fr->first;
	size_t n = s->n_keys - fr->first;

	if (n > KEYS_LINEAR) {
		qsort(keys, n, sizeof(*keys), key_compare);
		for (size_t i = 1; i < n; i++)
			if (key_same(&keys[i - 1], &keys[i]))
				return fail_duplicate(s, &keys[i]);
	}
	s->n_keys = fr->first;
	return 0;
}

static const char *skip_digits(const char *p, const char *end)
{
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p;
}

static int check_range(struct scan *s, const char *at, bool integer)
{
	char text[NUMBER_BYTES + 1];
	size_t n = (size_t)(s->p - at);

	if (n > NUMBER_BYTES)
		return fail(s, at, "a number of more than %u characters", NUMBER_BYTES);
	memcpy(text, at, n);
	text[n] = '\0';
	errno = 0;
	if (!integer) {
		if (!isfinite(strtod(text, NULL)))
			return fail(s, at, "the number is too large");
		return 0;
	}
	if (*at == '-')
		strtoll(text, NULL, 10);
	else
		strtoull(text, NULL, 10);
	if (errno)
		return fail(s, at, "the number does not fit 64 bits");
	return 0;
}

static int scan_number(struct scan *s)
{
	const char *at = s->p, *digits;
	bool integer = true;

	if (*s->p == '-')
		s->p++;
	digits = s->p;
	s->p = skip_digits(s->p, s->end);
	if (s->p == digits)
		return fail_unexpected(s, "a digit");
	if (*digits == '0' && s->p - digits > 1)
		return fail(s, at, "a number begins with 0");
	if (s->p < s->end && *s->p == '.') {
		integer = false;
		digits = ++s->p;
		s->p = skip_digits(s->p, s->end);
		if (s->p == digits)
			return fail_unexpected(s, "a digit");
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		integer = false;
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		digits = s->p;
		s->p = skip_digits(s->p, s->end);
		if (s->p == digits)
			return fail_unexpected(s, "a digit");
	}
	if (integer && s->p - at < 18) /* 18 characters always fit */
		return 0;
	return check_range(s, at, integer);
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n))
		return fail_unexpected(s, "a value");
	s->p += n;
	return 0;
}

static int open_frame(struct scan *s, bool object)
{
	if (s->depth == LIMIT_JSON_DEPTH)
		return fail(s, s->p, "nested deeper than %u", LIMIT_JSON_DEPTH);
	s->frames[s->depth++] = (struct frame){ .object = object, .first = s->n_keys };
	s->p++;
	skip_space(s);
	return 0;
}

/* One value, or the opening of one that has members: then *open. */
static int scan_value(struct scan *s, bool *open)
{
	bool escaped;
	int r;

	*open = false;
	if (s->p >= s->end)
		return fail_unexpected(s, "a value");
	switch (*s->p) {
	case '{':
	case '[':
		r = open_frame(s, *s->p == '{');
		if (r)
			return r;
		if (s->p < s->end && *s->p == (s->frames[s->depth - 1].object ? '}' : ']')) {
			s->p++;
			s->depth--;
			return 0;
		}
		*open = true;
		return 0;
	case '"':
		return scan_string(s, &escaped);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	case '-':
	case '0' ... '9':
		return scan_number(s);
	default:
		return fail_unexpected(s, "a value");
	}
}

/* After a value: commas and ends. *more: another value follows. */
static int scan_after(struct scan *s, bool *more)
{
	*more = false;
	for (;;) {
		bool object;

		skip_space(s);
		if (!s->depth)
			return s->p < s->end ? fail_unexpected(s, "the end of the text") : 0;
		object = s->frames[s->depth - 1].object;
		if (s->p < s->end && *s->p == ',') {
			s->p++;
			skip_space(s);
			*more = true;
			return 0;
		}
		if (s->p >= s->end || *s->p != (object ? '}' : ']'))
			return fail_unexpected(s, object ? "',' or '}'" : "',' or ']'");
		if (object) {
			int r = close_object(s);

			if (r)
				return r;
		}
		s->p++;
		s->depth--;
	}
}

static int scan_text(struct scan *s)
{
	bool open, more = true;
	int r;

	skip_space(s);
	while (more) {
		if (s->depth && s->frames[s->depth - 1].object) {
			r = scan_key(s);
			if (r)
				return r;
			skip_space(s);
		}
		r = scan_value(s, &open);
		if (r)
			return r;
		if (open)
			continue;
		r = scan_after(s, &more);
		if (r)
			return r;
	}
	return 0;
}

int json_scan(const char *text, size_t size, struct fault *f)
{
	struct scan s = { .text = text, .p = text, .end = text + size, .f = f };
	int r = scan_text(&s);

	if (r == -ENOMEM)
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "checking the JSON text");
	free(s.keys);
	free(s.plain);
	return r;
}
