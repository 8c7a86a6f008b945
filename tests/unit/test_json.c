// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/json.h"
#include "util/limits.h"
#include "util/mp.h"

static json_object *good(const char *text, size_t size)
{
	json_object *j;
	struct fault f = { 0 };

	if (json_parse(text, size, &j, &f))
		fail_msg("%.*s: %s", (int)size, text, f.message);
	return j;
}

static void good_text(const char *text, const char *back)
{
	json_object *j = good(text, strlen(text));

	assert_string_equal(json_object_to_json_string_ext(j, JSON_C_TO_STRING_NOSLASHESCAPE),
			    back);
	json_object_put(j);
}

static void bad(const char *text, size_t size, const char *message)
{
	json_object *j = (json_object *)1;
	struct fault f = { 0 };

	if (!json_parse(text, size, &j, &f))
		fail_msg("taken: %.*s", (int)size, text);
	assert_null(j);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_string_equal(f.message, message);
	assert_int_not_equal(json_parse(text, size, &j, NULL), 0);
}

#define BAD(text, message) bad(text, sizeof(text) - 1, message)

static void test_good(void **state)
{
	(void)state;
	good_text("{}", "{}");
	good_text(" \t\r\n[ ]\n", "[]");
	good_text("{\"z\":1,\"a\":[true,false,null],\"m\":{\"z\":1}}\n",
		  "{\"z\":1,\"a\":[true,false,null],\"m\":{\"z\":1}}");
	good_text("[18446744073709551615,-9223372036854775808,9223372036854775807,-0,0]",
		  "[18446744073709551615,-9223372036854775808,9223372036854775807,0,0]");
	good_text("[1.50,1e3,-2.5E-3,0.1]", "[1.50,1e3,-2.5E-3,0.1]");
	good_text("\"\\u00e9\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\"",
		  "\"\xc3\xa9\xf0\x9f\x98\x80 \\\"\\\\/\\b\\f\\n\\r\\t\"");
	good_text("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"",
		  "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"");
	good_text("12", "12");
	good_text(" -1.5 ", "-1.5");
	good_text("true", "true");
	good_text("\"x\"", "\"x\"");
	/* Equal keys in different objects are fine. */
	good_text("{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}",
		  "{\"a\":{\"a\":1},\"b\":[{\"a\":1},{\"a\":2}]}");
	assert_null(good(" null ", 6));
}

static void test_unsigned(void **state)
{
	json_object *j = good("[18446744073709551615]", 22);
	json_object *v = json_object_array_get_idx(j, 0);

	(void)state;
	assert_true(json_object_get_uint64(v) == UINT64_MAX);
	assert_int_equal(json_object_get_type(v), json_type_int);
	json_object_put(j);
}

static void test_bad(void **state)
{
	(void)state;
	BAD("", "line 1, column 1: the text ends where a value should be");
	BAD("{\n  \"a\": 1,\n}", "line 3, column 1: '}' where a key in quotes should be");
	BAD("[1,]", "line 1, column 4: ']' where a value should be");
	BAD("[1 2]", "line 1, column 4: '2' where ',' or ']' should be");
	BAD("{\"a\" 1}", "line 1, column 6: '1' where ':' should be");
	BAD("{\"a\":1", "line 1, column 7: the text ends where ',' or '}' should be");
	BAD("{} x", "line 1, column 4: 'x' where the end of the text should be");
	BAD("{}{}", "line 1, column 3: '{' where the end of the text should be");
	BAD("{'a':1}", "line 1, column 2: ''' where a key in quotes should be");
	BAD("[/* */1]", "line 1, column 2: '/' where a value should be");
	BAD("[NaN]", "line 1, column 2: 'N' where a value should be");
	BAD("[Infinity]", "line 1, column 2: 'I' where a value should be");
	BAD("[-Infinity]", "line 1, column 3: 'I' where a digit should be");
	BAD("[tRUE]", "line 1, column 2: 't' where a value should be");
	BAD("[nul]", "line 1, column 2: 'n' where a value should be");
	BAD("[01]", "line 1, column 2: a number begins with 0");
	BAD("[-]", "line 1, column 3: ']' where a digit should be");
	BAD("[1.]", "line 1, column 4: ']' where a digit should be");
	BAD("[.5]", "line 1, column 2: '.' where a value should be");
	BAD("[1e]", "line 1, column 4: ']' where a digit should be");
	BAD("[+1]", "line 1, column 2: '+' where a value should be");
	BAD("[18446744073709551616]", "line 1, column 2: the number does not fit 64 bits");
	BAD("[-9223372036854775809]", "line 1, column 2: the number does not fit 64 bits");
	BAD("[1e999]", "line 1, column 2: the number is too large");
	BAD("\xef\xbb\xbf{}", "line 1, column 1: byte 0xef where a value should be");
	BAD("{}\0", "line 1, column 3: byte 0x00 where the end of the text should be");
	BAD("[\"a\0b\"]", "line 1, column 4: NUL in a string");
	BAD("[\"a\\u0000b\"]", "line 1, column 4: NUL in a string");
	BAD("[\"a\nb\"]", "line 1, column 4: control character 0x0a in a string");
	BAD("[\"abc", "line 1, column 6: the text ends inside a string");
	BAD("[\"abc\\", "line 1, column 7: the text ends inside a string");
	BAD("[\"\\x41\"]", "line 1, column 3: unknown escape in a string");
	BAD("[\"\\u12g4\"]", "line 1, column 3: \\u needs four hexadecimal digits");
	BAD("[\"\\u12", "line 1, column 3: \\u needs four hexadecimal digits");
	BAD("[\"\\ud800\"]", "line 1, column 3: half of a surrogate pair in a string");
	BAD("[\"\\udc00\\ud800\"]", "line 1, column 3: half of a surrogate pair in a string");
	BAD("[\"\\ud800\\u0041\"]", "line 1, column 3: half of a surrogate pair in a string");
}

static void test_utf8(void **state)
{
	static const char *const texts[] = {
		"\"\xff\"",
		"\"\xc0\x80\"",
		"\"\xc1\xbf\"",
		"\"\xe0\x80\x80\"",
		"\"\xed\xa0\x80\"",
		"\"\xf5\x80\x80\"",
		"\"\xf0\x80\x80\x80\"",
		"\"\xf4\x90\x80\x80\"",
		"\"\x80\"",
		"\"\xc3\"",
		"\"\xe2\x82\"",
		"\"\xf0\x9f\x98",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		bad(texts[i], strlen(texts[i]), "line 1, column 2: invalid UTF-8 in a string");
	/* Columns count characters. */
	BAD("[\"\xe2\x82\xac\xf0\x9f\x98\x80\",x]",
	    "line 1, column 7: 'x' where a value should be");
}

static void test_duplicates(void **state)
{
	char *text, *p;

	(void)state;
	BAD("{\"a\":1,\"b\":2,\"a\":3}", "line 1, column 14: duplicate key \"a\"");
	BAD("{\"\":1,\"\":2}", "line 1, column 7: duplicate key \"\"");
	BAD("[{\"x\":{\"y\":{},\n\"y\":[]}}]", "line 2, column 1: duplicate key \"y\"");
	BAD("{\"a\":{\"k\":1},\"b\":1,\"a\":{}}", "line 1, column 20: duplicate key \"a\"");
	/* Compared as they mean, not as they are written. */
	BAD("{\"path\":1,\"p\\u0061th\":2}", "line 1, column 11: duplicate key \"path\"");
	BAD("{\"\\u00e9\":1,\"\xc3\xa9\":2}", "line 1, column 13: duplicate key \"\xc3\xa9\"");
	BAD("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}",
	    "line 1, column 19: duplicate key \"\xf0\x9f\x98\x80\"");
	good_text("{\"a\\u0062\":1,\"ab2\":2,\"\\u0062a\":3}", "{\"ab\":1,\"ab2\":2,\"ba\":3}");

	/* Large objects are sorted. */
	text = malloc(64 * 1000);
	assert_non_null(text);
	for (int twice = 0; twice < 2; twice++) {
		json_object *j;
		struct fault f;

		p = text + sprintf(text, "{");
		for (int i = 0; i < 1000; i++)
			p += sprintf(p, "\"key%d\":{\"key1\":0},\n", i);
		p += sprintf(p, "\"key%d\":0}", twice ? 500 : 1000);
		if (twice) {
			bad(text, (size_t)(p - text),
			    "line 1001, column 1: duplicate key \"key500\"");
		} else {
			assert_int_equal(json_parse(text, (size_t)(p - text), &j, &f), 0);
			assert_int_equal(json_object_object_length(j), 1001);
			json_object_put(j);
		}
	}
	free(text);
}

static void test_depth(void **state)
{
	char text[2 * LIMIT_JSON_DEPTH + 8];

	(void)state;
	for (unsigned n = LIMIT_JSON_DEPTH; n <= LIMIT_JSON_DEPTH + 1; n++) {
		memset(text, '[', n);
		text[n] = '1';
		memset(text + n + 1, ']', n);
		if (n == LIMIT_JSON_DEPTH)
			json_object_put(good(text, 2 * n + 1));
		else
			bad(text, 2 * n + 1, "line 1, column 65: nested deeper than 64");
	}
}

static void test_file(void **state)
{
	char path[] = "/tmp/test_json.XXXXXX";
	int fd = mkstemp(path);
	json_object *j;
	struct fault f;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "{\"a\":x}", 7), 7);
	assert_int_equal(json_parse_file(AT_FDCWD, path, 6, &j, &f), -EFBIG);
	assert_int_equal(f.code, FAULT_RESOURCE_EXHAUSTED);
	assert_int_equal(json_parse_file(AT_FDCWD, path, 7, &j, &f), -EINVAL);
	assert_non_null(strstr(f.message, ": line 1, column 6: 'x' where a value should be"));
	assert_string_equal(f.path, path);
	assert_int_equal(pwrite(fd, "7", 1, 5), 1);
	assert_int_equal(json_parse_file(AT_FDCWD, path, 7, &j, &f), 0);
	json_object_put(j);
	close(fd);
	unlink(path);
	assert_int_equal(json_parse_file(AT_FDCWD, path, 7, &j, &f), -ENOENT);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
}

static int from_bytes(const void *data, size_t size, json_object **j, struct fault *f)
{
	msgpack_unpacked u;
	size_t off = 0;
	int r;

	memset(f, 0, sizeof(*f));
	msgpack_unpacked_init(&u);
	assert_int_equal(msgpack_unpack_next(&u, data, size, &off), MSGPACK_UNPACK_SUCCESS);
	r = json_from_mp(&u.data, j, f);
	msgpack_unpacked_destroy(&u);
	return r;
}

static void test_round_trip(void **state)
{
	static const char text[] =
		"{\"z\":1,\"a\":[true,false,null,-1,-9223372036854775808,18446744073709551615,"
		"9223372036854775807,9223372036854775808,1.5,\"\xc3\xa9\",\"\"],\"m\":{},\"l\":[]}";
	json_object *j = good(text, strlen(text)), *back;
	msgpack_sbuffer sb;
	msgpack_packer pk;
	struct fault f;

	(void)state;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	json_to_mp(j, &pk);
	assert_false(mp_failed(&sb));
	assert_int_equal(from_bytes(sb.data, sb.size, &back, &f), 0);
	assert_true(json_object_equal(j, back));
	assert_string_equal(json_object_to_json_string_ext(back, JSON_C_TO_STRING_PLAIN), text);
	json_object_put(j);
	json_object_put(back);
	msgpack_sbuffer_destroy(&sb);
}

static void mp_bad(const char *data, size_t size, const char *message)
{
	json_object *j;
	struct fault f;

	assert_int_equal(from_bytes(data, size, &j, &f), -EINVAL);
	assert_null(j);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_string_equal(f.message, message);
}

#define MP_BAD(data, message) mp_bad(data, sizeof(data) - 1, message)

static void test_from_mp(void **state)
{
	json_object *j;
	struct fault f;

	(void)state;
	assert_int_equal(from_bytes("\x81\xc4\x01k\xc4\x01v", 7, &j, &f), 0);
	assert_string_equal(json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN),
			    "{\"k\":\"v\"}");
	json_object_put(j);
	assert_int_equal(from_bytes("\xc0", 1, &j, &f), 0);
	assert_null(j);
	MP_BAD("\x81\x01\x02", "a map's key is not a string");
	MP_BAD("\x82\xa1k\x01\xc4\x01k\x02", "duplicate key \"k\"");
	MP_BAD("\x91\xd4\x01\x00", "a msgpack type that JSON does not have");
	MP_BAD("\x91\xa2"
	       "a\0",
	       "NUL in a string");
	MP_BAD("\x81\xa2"
	       "a\0\x01",
	       "NUL in a string");
	MP_BAD("\x91\xa1\xff", "invalid UTF-8 in a string");
	MP_BAD("\x81\xa1\xff\x01", "invalid UTF-8 in a string");
	MP_BAD("\xcb\x7f\xf0\0\0\0\0\0\0", "a number that JSON cannot express");
	MP_BAD("\xca\x7f\xc0\0\0", "a number that JSON cannot express");
}

/* msgpack-c itself unpacks only 32 levels, so the objects are made by hand. */
static void test_from_mp_depth(void **state)
{
	msgpack_object o[LIMIT_JSON_DEPTH + 2];
	json_object *j;
	struct fault f;

	(void)state;
	for (unsigned i = 0; i <= LIMIT_JSON_DEPTH; i++) {
		o[i].type = MSGPACK_OBJECT_ARRAY;
		o[i].via.array.size = 1;
		o[i].via.array.ptr = &o[i + 1];
	}
	o[LIMIT_JSON_DEPTH + 1].type = MSGPACK_OBJECT_NIL;
	assert_int_equal(json_from_mp(&o[1], &j, &f), 0);
	json_object_put(j);
	assert_int_equal(json_from_mp(&o[0], &j, &f), -EINVAL);
	assert_string_equal(f.message, "nested deeper than 64");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	   cmocka_unit_test(test_unsigned),
		cmocka_unit_test(test_bad),	   cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_duplicates), cmocka_unit_test(test_depth),
		cmocka_unit_test(test_file),	   cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_from_mp),	   cmocka_unit_test(test_from_mp_depth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
