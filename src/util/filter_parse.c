// SPDX-License-Identifier: Apache-2.0
/*
 * Parser of filters
 *
 * One scanner gives tokens, a parser of a page reads them; both follow containerd's (see filter.c),
 * so that what is accepted there is accepted here with the same meaning. The scanner has one piece
 * of state beside its position: after an operator, and until a value or a separator, a bare word is
 * a value. Text is UTF-8; every error names the byte (from 1) where it was found.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/filter_internal.h"
#include "util/limits.h"

enum token { T_END, T_QUOTED, T_VALUE, T_FIELD, T_SEPARATOR, T_OPERATOR, T_OTHER, T_ILLEGAL };

struct parser {
	const char *text;
	size_t size, at;
	bool value; /* a bare word is a value */
	bool plain; /* which / and | do not quote, but begin */
	/* the last token */
	size_t begin, end;
	const char *why; /* of T_ILLEGAL */
	struct fault *fault;
};

static int parse_error(struct parser *p, size_t at, const char *why)
{
	int left = (int)(at < 40 ? at : 40);
	const char *rest = p->text + at;
	/* no half of a character in the message */
	while (left && ((unsigned char)rest[-left] & 0xc0) == 0x80)
		left--;
	if (!*rest)
		return fault_set(p->fault, FAULT_INVALID_ARGUMENT, 0,
				 "at the end, after \"%.*s\": %s", left, rest - left, why);
	return fault_set(p->fault, FAULT_INVALID_ARGUMENT, 0, "byte %zu, after \"%.*s\": %s",
			 at + 1, left, rest - left, why);
}

/*
 * The character at `at`: its length, and its code point in *c; 0 at the end, -1 when it is not
 * UTF-8. Overlong forms and surrogates are no UTF-8.
 */
static int decode(const char *text, size_t size, size_t at, uint32_t *c)
{
	const unsigned char *s = (const unsigned char *)text + at;
	size_t left = size - at;
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	int n;

	if (!left)
		return 0;
	if (s[0] < 0x80) {
		*c = s[0];
		return 1;
	}
	n = s[0] >= 0xf0 && s[0] < 0xf8	  ? 4
	    : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
	    : s[0] >= 0xc0 && s[0] < 0xe0 ? 2
					  : 0;
	if (!n || (size_t)n > left)
		return -1;
	*c = s[0] & (0xffu >> (n + 1));
	for (int i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return -1;
		*c = *c << 6 | (s[i] & 0x3f);
	}
	if (*c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c <= 0xdfff))
		return -1;
	return n;
}

static size_t encode(char *out, uint32_t c)
{
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		c = 0xfffd;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* Unicode's white space, as Go's unicode.IsSpace has it. */
static bool is_space(uint32_t c)
{
	return (c >= '\t' && c <= '\r') || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	       c == 0x205f || c == 0x3000;
}

static bool is_field(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_';
}

/* c among the characters of set; the end of the text is in none. */
static bool is_in(char c, const char *set)
{
	return c && strchr(set, c);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static enum token scan_quoted(struct parser *p)
{
	char quote = p->text[p->at++];
	uint32_t c;

	for (;;) {
		int n = decode(p->text, p->size, p->at, &c);

		if (n < 0) {
			p->begin = p->at;
			p->why = "invalid UTF-8";
			return T_ILLEGAL;
		}
		if (!n || c == '\n') {
			p->why = "quoted text is not terminated";
			return T_ILLEGAL;
		}
		p->at += (size_t)n;
		if (c == (unsigned char)quote)
			break;
		/* whatever is escaped, it does not end the text */
		if (c == '\\' && p->text[p->at] && p->text[p->at] != '\n') {
			n = decode(p->text, p->size, p->at, &c);
			p->at += n > 0 ? (size_t)n : 0;
		}
	}
	p->end = p->at;
	return T_QUOTED;
}

static enum token scan(struct parser *p)
{
	uint32_t c = 0;
	int n;

	while ((n = decode(p->text, p->size, p->at, &c)) > 0 && is_space(c))
		p->at += (size_t)n;
	p->begin = p->at;
	if (n < 0) {
		p->why = "invalid UTF-8";
		return T_ILLEGAL;
	}
	if (!n)
		return T_END;
	if (is_in(p->text[p->at], p->plain ? "\"" : "/|\""))
		return scan_quoted(p);
	if (is_in(p->text[p->at], ",.")) {
		p->value = false;
		p->end = ++p->at;
		return T_SEPARATOR;
	}
	if (is_in(p->text[p->at], "=!~")) {
		while (is_in(p->text[p->at], "=!~"))
			p->at++;
		p->end = p->at;
		p->value = true;
		return T_OPERATOR;
	}
	if (p->value) {
		while ((n = decode(p->text, p->size, p->at, &c)) > 0 && c != ',' && c >= ' ' &&
		       c != 0x7f && !(c >= 0x80 && c < 0xa0) && !is_space(c))
			p->at += (size_t)n;
		p->end = p->at;
		p->value = false;
		if (p->end == p->begin) {
			p->why = "control character";
			return T_ILLEGAL;
		}
		return T_VALUE;
	}
	if (is_field(p->text[p->at])) {
		while (is_field(p->text[p->at]))
			p->at++;
		p->end = p->at;
		return T_FIELD;
	}
	return T_OTHER;
}

/*
 * One escape of a quoted text, *at behind the backslash. Appends to out and answers its size, or
 * -1.
 */
static int unescape(const char *s, size_t *at, char quote, char *out)
{
	static const char letters[] = "abfnrtv", meanings[] = "\a\b\f\n\r\t\v";
	char c = s[(*at)++];
	const char *letter = c ? strchr(letters, c) : NULL;
	int digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	uint32_t v = 0;

	if (letter) {
		out[0] = meanings[letter - letters];
		return 1;
	}
	if (c == '\\' || c == quote) {
		out[0] = c;
		return 1;
	}
	if (c >= '0' && c <= '7') {
		v = (uint32_t)(c - '0');
		for (int i = 0; i < 2; i++, (*at)++) {
			if (s[*at] < '0' || s[*at] > '7')
				return -1;
			v = v << 3 | (uint32_t)(s[*at] - '0');
		}
		out[0] = (char)v;
		return v && v < 256 ? 1 : -1;
	}
	if (digits) {
		for (int i = 0; i < digits; i++, (*at)++) {
			int x = hex(s[*at]);

			if (x < 0)
				return -1;
			v = v << 4 | (uint32_t)x;
		}
		if (!v || v > 0x10ffff)
			return -1;
		if (c == 'x') {
			out[0] = (char)v;
			return 1;
		}
		return (int)encode(out, v);
	}
	if (quote == '"')
		return -1;
	/* an escape of the regular expression */
	out[0] = '\\';
	out[1] = c;
	return 2;
}

static int unquote(struct parser *p, bool regex, char **out)
{
	const char *s = p->text;
	char quote = s[p->begin];
	size_t at = p->begin + 1, end = p->end - 1, used = 0;
	CLEANUP_FREE char *text = NULL;

	if (quote != '"' && !regex)
		return parse_error(p, p->begin,
				   "only a regular expression (~=) can be quoted by / or |");
	/* no escape is longer than what it stands for */
	text = malloc(end - at + 1);
	if (!text)
		return -ENOMEM;
	while (at < end) {
		size_t begin = at;
		int n;

		if (s[at] != '\\') {
			text[used++] = s[at++];
			continue;
		}
		at++;
		n = unescape(s, &at, quote, text + used);
		if (n < 0 || at > end)
			return parse_error(p, begin, "invalid escape in quoted text");
		used += (size_t)n;
	}
	text[used] = '\0';
	*out = TAKE_PTR(text);
	return 0;
}

static int token_text(struct parser *p, char **out)
{
	*out = strndup(p->text + p->begin, p->end - p->begin);
	return *out ? 0 : -ENOMEM;
}

static int parse_field(struct parser *p, struct filter_selector *s)
{
	char **path = realloc(s->path, (s->n_path + 1) * sizeof(*path));
	int r;

	if (!path)
		return -ENOMEM;
	s->path = path;
	switch (scan(p)) {
	case T_FIELD:
		r = token_text(p, &path[s->n_path]);
		break;
	case T_QUOTED:
		r = unquote(p, false, &path[s->n_path]);
		break;
	case T_ILLEGAL:
		return parse_error(p, p->begin, p->why);
	default:
		return parse_error(p, p->begin, "a field name is expected here");
	}
	if (r < 0)
		return r;
	s->n_path++;
	return 0;
}

static int parse_operator(struct parser *p, struct filter_selector *s)
{
	static const struct {
		const char *text;
		enum filter_operator operator;
	} operators[] = { { "==", FILTER_EQUAL },
			  { "!=", FILTER_NOT_EQUAL },
			  { "~=", FILTER_MATCHES } };
	enum token t = scan(p);

	if (t == T_ILLEGAL)
		return parse_error(p, p->begin, p->why);
	if (t != T_OPERATOR)
		return parse_error(p, p->begin, "an operator (== != ~=) is expected here");
	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		if (p->end - p->begin == 2 && !memcmp(p->text + p->begin, operators[i].text, 2)) {
			s->operator= operators[i].operator;
			return 0;
		}
	}
	return parse_error(p, p->begin, "unknown operator; there are ==, != and ~=");
}

static int parse_value(struct parser *p, struct filter_selector *s)
{
	const char *why;
	size_t at, begin;
	enum token t;
	int r;

	p->plain = s->operator!= FILTER_MATCHES;
	t = scan(p);
	p->plain = false;
	switch (t) {
	case T_VALUE:
	case T_FIELD:
		r = token_text(p, &s->value);
		break;
	case T_QUOTED:
		r = unquote(p, s->operator== FILTER_MATCHES, &s->value);
		break;
	case T_ILLEGAL:
		return parse_error(p, p->begin, p->why);
	default:
		return parse_error(p, p->begin, "a value is expected here");
	}
	if (r < 0 || s->operator!= FILTER_MATCHES)
		return r;
	begin = p->begin;
	r = filter_regex_compile(s->value, &s->regex, &at, &why);
	if (r == -EINVAL) {
		r = parse_error(p, begin, why);
		fault_prefix(p->fault, "regular expression, its byte %zu", at + 1);
	}
	return r;
}

static int parse_selector(struct parser *p, struct filter_selector *s)
{
	int r = parse_field(p, s);

	while (!r && p->text[p->at] == '.') {
		scan(p);
		r = parse_field(p, s);
	}
	if (r < 0)
		return r;
	if (p->text[p->at] == ',' || p->at == p->size)
		return 0; /* FILTER_PRESENT */
	r = parse_operator(p, s);
	return r < 0 ? r : parse_value(p, s);
}

static int parse_selectors(struct parser *p, struct alternative *a)
{
	for (;;) {
		struct filter_selector *selectors = realloc(a->selectors,
							    (a->n + 1) * sizeof(*selectors));
		int r;

		if (!selectors)
			return -ENOMEM;
		a->selectors = selectors;
		memset(&selectors[a->n], 0, sizeof(*selectors));
		r = parse_selector(p, &selectors[a->n++]);
		if (r < 0)
			return r;
		if (p->at == p->size)
			return 0;
		if (p->text[p->at] != ',')
			return parse_error(p, p->at, "a comma or the end is expected here");
		scan(p);
	}
}

int filter_parse(const char *text, struct alternative *a, struct fault *f)
{
	struct parser p = { .text = text,
			    .size = strnlen(text, LIMIT_FILTER_BYTES + 1),
			    .fault = f };
	int r;

	if (p.size > LIMIT_FILTER_BYTES)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "longer than %u bytes",
				 LIMIT_FILTER_BYTES);
	if (!p.size)
		return 0;
	r = parse_selectors(&p, a);
	if (r == -ENOMEM)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "filter");
	return r;
}
