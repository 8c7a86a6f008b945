// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/mp.h"

/* One test asks for more memory than there is; AddressSanitizer would end the program for it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void unpack(msgpack_unpacked *u, const void *data, size_t size)
{
	size_t off = 0;

	msgpack_unpacked_init(u);
	assert_int_equal(msgpack_unpack_next(u, data, size, &off), MSGPACK_UNPACK_SUCCESS);
	assert_int_equal(off, size);
}

static void test_strings(void **state)
{
	static const unsigned char data[] = "\x96\xa3"
					    "abc\xc4\x03"
					    "abc\xa3"
					    "a\0c\xa0\xc4\x00\x07";
	msgpack_unpacked u;
	const msgpack_object *a;
	const char *p;
	char *copy;
	size_t n;

	(void)state;
	unpack(&u, data, sizeof(data) - 1);
	a = u.data.via.array.ptr;
	for (int i = 0; i < 2; i++) {
		assert_true(mp_str(&a[i], &p, &n));
		assert_int_equal(n, 3);
		assert_memory_equal(p, "abc", 3);
		assert_true(mp_eq(&a[i], "abc"));
		assert_false(mp_eq(&a[i], "ab"));
		assert_false(mp_eq(&a[i], "abcd"));
		copy = mp_strdup(&a[i]);
		assert_string_equal(copy, "abc");
		free(copy);
	}
	assert_true(mp_str(&a[2], &p, &n));
	assert_int_equal(n, 3);
	assert_null(mp_strdup(&a[2]));
	assert_int_equal(errno, EINVAL);
	for (int i = 3; i < 5; i++) {
		assert_true(mp_eq(&a[i], ""));
		copy = mp_strdup(&a[i]);
		assert_string_equal(copy, "");
		free(copy);
	}
	assert_false(mp_str(&a[5], &p, &n));
	assert_false(mp_str(NULL, &p, &n));
	assert_null(mp_strdup(&a[5]));
	msgpack_unpacked_destroy(&u);
}

static void test_integers(void **state)
{
	msgpack_object o = { .type = MSGPACK_OBJECT_POSITIVE_INTEGER };
	uint64_t u = 7;
	int64_t v = 7;

	(void)state;
	o.via.u64 = UINT64_MAX;
	assert_true(mp_uint(&o, &u));
	assert_true(u == UINT64_MAX);
	assert_false(mp_int(&o, &v));
	o.via.u64 = INT64_MAX;
	assert_true(mp_int(&o, &v));
	assert_true(v == INT64_MAX);
	o.type = MSGPACK_OBJECT_NEGATIVE_INTEGER;
	o.via.i64 = INT64_MIN;
	assert_true(mp_int(&o, &v));
	assert_true(v == INT64_MIN);
	assert_false(mp_uint(&o, &u));
	o.type = MSGPACK_OBJECT_FLOAT64;
	assert_false(mp_int(&o, &v));
	assert_false(mp_uint(&o, &u));
	assert_false(mp_int(NULL, &v));
}

static void test_maps(void **state)
{
	/* {"a": 1, "b" (bin): nil, "a": 2, "c": [], 5: 6} */
	static const unsigned char data[] = "\x85\xa1"
					    "a\x01\xc4\x01"
					    "b\xc0\xa1"
					    "a\x02\xa1"
					    "c\x90\x05\x06";
	msgpack_unpacked u;
	int64_t v;

	(void)state;
	unpack(&u, data, sizeof(data) - 1);
	assert_true(mp_is_map(&u.data));
	assert_true(mp_int(mp_get(&u.data, "a"), &v));
	assert_int_equal(v, 2);
	assert_null(mp_get(&u.data, "b"));
	assert_null(mp_get(&u.data, "z"));
	assert_true(mp_is_map(mp_get(&u.data, "c")));
	assert_null(mp_get(mp_get(&u.data, "c"), "x"));
	assert_false(mp_is_map(mp_get(&u.data, "a")));
	assert_null(mp_get(NULL, "a"));
	assert_false(mp_is_map(NULL));
	msgpack_unpacked_destroy(&u);
}

static void test_packing(void **state)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;
	msgpack_unpacked u;
	const msgpack_object *list;
	size_t map, array;
	uint64_t n;
	int64_t v;

	(void)state;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	map = mp_map_begin(&sb);
	mp_pack_key_str(&pk, "s", "text");
	mp_pack_key_str(&pk, "none", NULL);
	mp_pack_key_int(&pk, "i", -3);
	mp_pack_key_uint(&pk, "u", UINT64_MAX);
	mp_pack_key_bool(&pk, "t", true);
	mp_pack_key_nil(&pk, "nil");
	mp_pack_key(&pk, "list");
	array = mp_array_begin(&sb);
	mp_pack_raw(&pk, "\x01\x02", 2);
	mp_pack_raw(&pk, "", 0);
	mp_pack_strn(&pk, "", 0);
	mp_array_end(&sb, array, 3);
	mp_map_end(&sb, map, 7);
	assert_false(mp_failed(&sb));

	unpack(&u, sb.data, sb.size);
	assert_int_equal(u.data.via.map.size, 7);
	assert_true(mp_eq(mp_get(&u.data, "s"), "text"));
	assert_null(mp_get(&u.data, "none"));
	assert_null(mp_get(&u.data, "nil"));
	assert_true(mp_int(mp_get(&u.data, "i"), &v));
	assert_int_equal(v, -3);
	assert_true(mp_uint(mp_get(&u.data, "u"), &n));
	assert_true(n == UINT64_MAX);
	assert_true(mp_get(&u.data, "t")->via.boolean);
	list = mp_get(&u.data, "list");
	assert_int_equal(list->via.array.size, 3);
	assert_true(mp_eq(&list->via.array.ptr[2], ""));
	msgpack_unpacked_destroy(&u);
	msgpack_sbuffer_destroy(&sb);
}

/* A single failed write must be seen at the end, whatever succeeds after it. */
static void test_failure_is_sticky(void **state)
{
	for (int marking = 0; marking < 2; marking++) {
		msgpack_sbuffer sb;
		msgpack_packer pk;
		size_t map;

		msgpack_sbuffer_init(&sb);
		if (marking)
			mp_packer_init(&pk, &sb);
		else
			msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
		map = mp_map_begin(&sb);
		mp_pack_key_int(&pk, "a", 1);
		/* No allocation of a quarter of the address space succeeds; the bytes are never read. */
		mp_pack_raw(&pk, "x", SIZE_MAX / 8);
		assert_true(mp_failed(&sb));
		mp_pack_key_int(&pk, "b", 2);
		assert_int_not_equal(msgpack_pack_int(&pk, 5), 0);
		mp_array_end(&sb, mp_array_begin(&sb), 0);
		mp_map_end(&sb, map, 2);
		assert_true(mp_failed(&sb));
		msgpack_sbuffer_destroy(&sb);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_integers),
		cmocka_unit_test(test_maps),
		cmocka_unit_test(test_packing),
		cmocka_unit_test(test_failure_is_sticky),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
