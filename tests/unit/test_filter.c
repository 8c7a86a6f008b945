// SPDX-License-Identifier: Apache-2.0
/* Filters: containerd's grammar, its behaviour on absent fields, Go's regular expressions. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/clock.h"
#include "util/filter.h"
#include "util/limits.h"

struct pair {
	const char *path, *value;
};

/* A path's parts are joined by '.', as label names are. */
static bool lookup(void *user, const char *const *path, size_t n, const char **value)
{
	const struct pair *pairs = user;
	char joined[8192] = "";

	for (size_t i = 0; i < n; i++) {
		strcat(joined, i ? "." : "");
		strcat(joined, path[i]);
	}
	for (; pairs->path; pairs++) {
		if (!strcmp(pairs->path, joined)) {
			*value = pairs->value;
			return true;
		}
	}
	return false;
}

static const struct pair object[] = {
	{ "name", "foo" },
	{ "id", "web-12" },
	{ "labels.bar", "true" },
	{ "labels.empty", "" },
	{ "labels.very complex \\ label \"x\"", "too complex, yo" },
	{ "labels.io.kubernetes/pod.name", "abc" },
	{ "labels.punct", "omg_asdf.asdf-qwer" },
	{ "labels.path", "/usr/bin" },
	{ "labels.uni", "größe" },
	{ "labels.lines", "one\ntwo\n" },
	{ NULL, NULL },
};

static bool match(const char *text)
{
	struct filter *filter;
	struct fault f = { 0 };
	bool r;

	if (filter_compile(&text, 1, &filter, &f) < 0)
		fail_msg("%s: %s", text, f.message);
	r = filter_match(filter, lookup, (void *)object);
	filter_free(filter);
	return r;
}

#define YES(text)                                                                                  \
	do {                                                                                       \
		if (!match(text))                                                                  \
			fail_msg("should match: %s", text);                                        \
	} while (0)
#define NO(text)                                                                                   \
	do {                                                                                       \
		if (match(text))                                                                   \
			fail_msg("should not match: %s", text);                                    \
	} while (0)

static void test_operators(void **state)
{
	(void)state;
	YES("");
	YES("name");
	NO("image");
	YES("name==foo");
	NO("name==bar");
	YES("name!=bar");
	NO("name!=foo");
	YES("labels.bar==true,name==foo");
	NO("labels.bar==true,name==bar");
	YES("labels.bar,name");
	NO("labels.bar,nothing");
	YES("labels.path==/usr/bin");
	YES("labels.path!=|usr|");
	YES("labels.path!=/,name");
	YES("labels.path~=|^/usr/|");
	YES("labels.path~=/^.usr.bin$/");
	YES("labels.punct==omg_asdf.asdf-qwer");
	YES("labels.uni==größe");
	YES("id==web-12");
}

static void test_absent(void **state)
{
	(void)state;
	NO("labels.none==\"\"");
	YES("labels.none!=x");
	NO("labels.none!=\"\"");
	YES("labels.none~=^$");
	NO("labels.none~=x");
	YES("labels.empty==\"\"");
	YES("labels.empty");
}

static void test_quotes(void **state)
{
	(void)state;
	YES("labels.\"very complex \\\\ label \\\"x\\\"\"==\"too complex, yo\"");
	YES("labels.\"io.kubernetes/pod.name\"==abc");
	YES("labels.io.\"kubernetes/pod\".name==abc");
	YES("\"name\"==\"f\\x6fo\"");
	YES("name==\"\\u0066\\157\\U0000006f\"");
	YES("labels.uni==\"gr\\u00f6\\u00dfe\"");
	YES("name~=/^f.o$/");
	YES("name~=|^f.o$|");
	YES("id~=/-\\d+$/");
	YES("id~=/-\\\\d+$/");
	YES("id~=\"-\\\\d+$\"");
	YES("id~=/^[a-z]{1,3}-/,name==foo");
	YES("labels.\"io.kubernetes/pod.name\"~=|^a/?b|");
	NO("name~=/a\\/b/");
}

static void test_blanks(void **state)
{
	(void)state;
	YES("name == foo");
	YES(" name==foo, labels.bar== true");
	YES("name\t!= bar");
}

static void test_regex(void **state)
{
	(void)state;
	YES("name~=^foo.*$");
	YES("id~=^web-\\d+$");
	YES("id~=/\\w+-\\d{1,5}/");
	YES("name~=o");
	NO("name~=^o");
	YES("name~=(?i)FOO");
	YES("name~=(?i:F)o+");
	NO("name~=FOO");
	YES("name~=^(?P<x>f)(oo)$");
	YES("name~=^(a|f)o+?$");
	YES("name~=foo|bar");
	YES("name~=bar|foo");
	YES("name~=^\\Qfoo");
	YES("name~=\\bfoo\\b");
	YES("labels.uni~=^gr.{2}e$");
	YES("labels.uni~=^\\p{L}+$");
	NO("labels.uni~=^\\w+$");
	/* '$' is the end of the text unless (?m) */
	NO("labels.lines~=two$");
	YES("labels.lines~=(?m)two$");
	YES("labels.lines~=(?m)^two");
	NO("labels.lines~=one.two");
	YES("labels.lines~=(?s)one.two");
	YES("id~=[]\\]-]");
	YES("id~=[^[:alpha:]]");
	YES("id~=\\x{2d}+");
	YES("name~=\"\"");
}

static void refuse(const char *text, const char *where)
{
	struct filter *filter = (void *)1;
	struct fault f = { 0 };

	if (filter_compile(&text, 1, &filter, &f) != -EINVAL)
		fail_msg("taken: %s", text);
	assert_null(filter);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_string_equal(f.argument, "filters");
	if (!strstr(f.message, where))
		fail_msg("%s: no \"%s\" in: %s", text, where, f.message);
	/* and without a fault to fill */
	assert_int_equal(filter_compile(&text, 1, &filter, NULL), -EINVAL);
}

static void test_errors(void **state)
{
	(void)state;
	refuse("name==foo,", "at the end");
	refuse("labels.", "at the end");
	refuse(" ", "at the end");
	refuse("name==", "a value");
	refuse("image==,id", "byte 8");
	refuse("labels.?x==y", "byte 8");
	refuse("labels.ns/key==value", "byte 10");
	refuse("labels.key~=/value", "byte 13");
	refuse("labels.key~=/val/ue", "byte 18");
	refuse("labels.key==/value x", "byte 19");
	refuse("labels.|foo|==x", "byte 8");
	refuse("name=foo", "byte 5");
	refuse("name===foo", "byte 5");
	refuse("name==!foo", "byte 5");
	refuse("name==foo bar", "byte 10");
	refuse("name==foo ", "byte 10");
	refuse("name ", "at the end");
	refuse("name==.foo", "byte 7");
	refuse("name==\"foo\"bar", "byte 12");
	refuse("name==\"foo", "byte 7");
	refuse("name==\"fo\no\"", "byte 7");
	refuse("name==\"a\\qb\"", "byte 9");
	refuse("name==\"\\x0\"", "byte 8");
	refuse("name==\"\\400\"", "byte 8");
	refuse("name==\"\\x00\"", "byte 8");
	refuse("name==\"\\UFFFFFFFF\"", "byte 8");
	refuse("name==\xff", "byte 7");
	refuse("name==\"\xc0\x80\"", "UTF-8");
	refuse("name==\"a\\", "not terminated");
	refuse("name~=[a", "its byte");
	refuse("name~=(a", "its byte");
	refuse("name~=a)(b", "its byte 2: ");
	refuse("name~=/a(?=b)/", "look-ahead");
	refuse("name~=/(?<!b)a/", "look-behind");
	refuse("name~=/(?>a)/", "(?");
	refuse("name~=/(?R)/", "(?");
	refuse("name~=/(?P=x)/", "named");
	refuse("name~=(a)\\1", "backreferences");
	refuse("name~=a++", "repetition");
	refuse("name~=a**", "repetition");
	refuse("name~=a??\?", "repetition");
	refuse("name~=(*UTF)a", "repeat");
	refuse("name~=\\Ka", "escape");
	refuse("name~=a\\", "backslash");
	refuse("name~=/\xc3(/", "UTF-8");
}

static void test_lists(void **state)
{
	const char *const two[] = { "name==bar", "id~=^web" };
	const char *const wrong[] = { "name==bar", "id~~x" };
	const char *many[LIMIT_FILTERS + 1];
	char *text = malloc(LIMIT_FILTER_BYTES + 2);
	struct filter *filter;
	struct fault f = { 0 };

	(void)state;
	assert_int_equal(filter_compile(NULL, 0, &filter, &f), 0);
	assert_true(filter_match(filter, lookup, (void *)object));
	filter_free(filter);
	assert_true(filter_match(NULL, lookup, (void *)object));
	assert_int_equal(filter_compile(two, 2, &filter, &f), 0);
	assert_true(filter_match(filter, lookup, (void *)object));
	filter_free(filter);
	assert_int_equal(filter_compile(two, 1, &filter, &f), 0);
	assert_false(filter_match(filter, lookup, (void *)object));
	filter_free(filter);
	assert_int_equal(filter_compile(wrong, 2, &filter, &f), -EINVAL);
	assert_non_null(strstr(f.message, "filters[1]"));
	for (size_t i = 0; i < LIMIT_FILTERS + 1; i++)
		many[i] = "name";
	assert_int_equal(filter_compile(many, LIMIT_FILTERS + 1, &filter, &f), -EINVAL);
	assert_int_equal(filter_compile(many, LIMIT_FILTERS, &filter, &f), 0);
	filter_free(filter);
	assert_non_null(text);
	memset(text, 'a', LIMIT_FILTER_BYTES + 1);
	text[LIMIT_FILTER_BYTES + 1] = '\0';
	many[0] = text;
	assert_int_equal(filter_compile(many, 1, &filter, &f), -EINVAL);
	text[LIMIT_FILTER_BYTES] = '\0';
	assert_int_equal(filter_compile(many, 1, &filter, &f), 0);
	filter_free(filter);
	free(text);
	filter_free(NULL);
}

/* Expressions that make backtracking engines run for hours. */
static void test_catastrophes(void **state)
{
	static const char *const texts[] = {
		"v~=^(a+)+$",
		"v~=(a|aa)+$",
		"v~=^(a|a?)+$",
		"v~=(.*)*b",
		"v~=a*a*a*a*a*a*a*b",
		"v~=(x+x+)+y",
		"v~=^(([a-z])+.)+[A-Z]([a-z])+$",
	};
	char *value = malloc(LIMIT_FILTER_VALUE + 2);
	struct pair pairs[] = { { "v", value }, { NULL, NULL } };
	int64_t begin = clock_mono();

	(void)state;
	assert_non_null(value);
	memset(value, 'a', LIMIT_FILTER_VALUE);
	value[LIMIT_FILTER_VALUE - 1] = '!';
	value[LIMIT_FILTER_VALUE] = '\0';
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct filter *filter;
		int64_t one = clock_mono();

		assert_int_equal(filter_compile(&texts[i], 1, &filter, NULL), 0);
		assert_false(filter_match(filter, lookup, pairs));
		filter_free(filter);
		print_message("%s: %lld us\n", texts[i], (long long)(clock_mono() - one) / 1000);
	}
	assert_true(clock_mono() - begin < 20 * CLOCK_NS_PER_SEC);
	{
		const char *any = "v~=a";
		struct filter *filter;

		assert_int_equal(filter_compile(&any, 1, &filter, NULL), 0);
		assert_true(filter_match(filter, lookup, pairs));
		memset(value, 'a', LIMIT_FILTER_VALUE + 1);
		value[LIMIT_FILTER_VALUE + 1] = '\0';
		assert_false(filter_match(filter, lookup, pairs));
		strcpy(value, "\xff"
			      "a");
		assert_false(filter_match(filter, lookup, pairs));
		filter_free(filter);
	}
	free(value);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_operators), cmocka_unit_test(test_absent),
		cmocka_unit_test(test_quotes),	  cmocka_unit_test(test_blanks),
		cmocka_unit_test(test_regex),	  cmocka_unit_test(test_errors),
		cmocka_unit_test(test_lists),	  cmocka_unit_test(test_catastrophes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
