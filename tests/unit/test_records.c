// SPDX-License-Identifier: Apache-2.0
/* Labels, and specs as shared compressed text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/labels.h"
#include "core/spec_blob.h"
#include "util/limits.h"
#include "util/mp.h"

static int set(struct labels *l, const char *key, const char *value)
{
	return labels_set(l, key, strlen(key), value, strlen(value));
}

static const char *get(const struct labels *l, const char *key)
{
	return labels_get(l->v, l->n, key);
}

static void test_labels(void **state)
{
	struct labels l = { 0 }, copy = { 0 };

	(void)state;
	assert_int_equal(set(&l, "a", "1"), 0);
	assert_int_equal(set(&l, "ab", "2"), 0);
	assert_int_equal(set(&l, "a", "3"), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(get(&l, "a"), "3");
	assert_string_equal(get(&l, "ab"), "2");
	assert_null(get(&l, "b"));
	assert_int_equal(labels_copy(&copy, l.v, l.n), 0);
	assert_int_equal(set(&l, "a", ""), 0);
	assert_int_equal(set(&l, "none", ""), 0);
	assert_int_equal(l.n, 1);
	assert_null(get(&l, "a"));
	assert_string_equal(get(&copy, "a"), "3");
	labels_clear(&l);
	labels_clear(&copy);
	assert_int_equal(l.n, 0);
}

static void test_labels_limit(void **state)
{
	struct labels l = { 0 };
	char key[16];

	(void)state;
	for (unsigned i = 0; i < LIMIT_LABELS; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		assert_int_equal(set(&l, key, "v"), 0);
	}
	assert_int_equal(set(&l, "more", "v"), -E2BIG);
	assert_int_equal(set(&l, "k5", "w"), 0);
	assert_int_equal(set(&l, "k5", ""), 0);
	assert_int_equal(set(&l, "more", "v"), 0);
	labels_clear(&l);
}

static void test_labels_update(void **state)
{
	const char *const key_mask[] = { "labels.a.b", "labels.gone", "image" },
			  *const all_mask[] = { "image", "labels" },
			  *const other_mask[] = { "image" };
	struct labels l = { 0 };
	msgpack_unpacked u;
	msgpack_sbuffer sb;
	msgpack_packer pk;

	(void)state;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_map(&pk, 3);
	mp_pack_key_str(&pk, "a.b", "new");
	mp_pack_key_str(&pk, "c", "not named");
	mp_pack_key_str(&pk, "empty", "");
	msgpack_unpacked_init(&u);
	assert_int_equal(msgpack_unpack_next(&u, sb.data, sb.size, NULL), MSGPACK_UNPACK_SUCCESS);

	assert_int_equal(set(&l, "a.b", "old"), 0);
	assert_int_equal(set(&l, "gone", "old"), 0);
	assert_int_equal(set(&l, "stays", "old"), 0);
	assert_int_equal(labels_update(&l, &u.data, other_mask, 1), 0);
	assert_int_equal(l.n, 3);
	assert_int_equal(labels_update(&l, NULL, NULL, 0), 0);
	assert_int_equal(l.n, 3);
	assert_int_equal(labels_update(&l, &u.data, key_mask, 3), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(get(&l, "a.b"), "new");
	assert_string_equal(get(&l, "stays"), "old");
	assert_int_equal(labels_update(&l, &u.data, all_mask, 2), 0);
	assert_int_equal(l.n, 2);
	assert_string_equal(get(&l, "c"), "not named");
	assert_null(get(&l, "stays"));
	assert_int_equal(labels_update(&l, NULL, all_mask, 2), 0);
	assert_int_equal(l.n, 0);
	labels_clear(&l);
	msgpack_unpacked_destroy(&u);
	msgpack_sbuffer_destroy(&sb);
}

static void test_labels_field(void **state)
{
	const char *const path[] = { "containerd", "io/gc", "root" }, *value;
	struct labels l = { 0 };

	(void)state;
	assert_int_equal(set(&l, "containerd.io/gc.root", "now"), 0);
	assert_true(labels_field(l.v, l.n, path, 3, &value));
	assert_string_equal(value, "now");
	assert_false(labels_field(l.v, l.n, path, 2, &value));
	assert_false(labels_field(l.v, l.n, path, 0, &value));
	assert_false(labels_field(NULL, 0, path, 3, &value));
	labels_clear(&l);
}

static void test_blobs_are_shared(void **state)
{
	static const char text[] = "{\"a\":[1,2.5,18446744073709551615,\"x\"]}";
	struct spec_blob *a, *b, *c;
	struct spec_table *t;
	msgpack_sbuffer sb;
	const void *frame;
	char *back;
	size_t n;

	(void)state;
	assert_int_equal(spec_table_new(&t), 0);
	assert_int_equal(spec_blob_new(t, text, strlen(text), &a, NULL), 0);
	assert_int_equal(spec_blob_new(t, text, strlen(text), &b, NULL), 0);
	assert_ptr_equal(a, b);
	assert_int_equal(spec_blob_new(t, "{}", 2, &c, NULL), 0);
	assert_ptr_not_equal(a, c);
	assert_int_equal(spec_table_count(t), 2);
	spec_blob_put(b);
	assert_int_equal(spec_blob_text(a, &back, &n), 0);
	assert_int_equal(n, strlen(text));
	assert_string_equal(back, text);
	free(back);
	/* as it comes back from the database */
	frame = spec_blob_frame(a, &n);
	assert_int_equal(spec_blob_load(t, frame, n, &b), 0);
	assert_ptr_equal(a, b);
	spec_blob_put(b);
	msgpack_sbuffer_init(&sb);
	assert_int_equal(spec_blob_render(c, &sb), 0);
	assert_int_equal(sb.size, 1);
	assert_int_equal((unsigned char)sb.data[0], 0x80);
	msgpack_sbuffer_destroy(&sb);
	spec_blob_put(c);
	assert_int_equal(spec_table_count(t), 1);
	/* the table's owner may go first */
	spec_table_free(t);
	assert_int_equal(spec_blob_text(a, &back, NULL), 0);
	free(back);
	spec_blob_put(a);
	spec_blob_put(NULL);
}

static void test_bad_frames(void **state)
{
	static const unsigned char wrong[] = "this is no frame";
	struct spec_blob *a, *b;
	struct spec_table *t;
	unsigned char *frame;
	const void *good;
	char *big, *back;
	size_t n;

	(void)state;
	assert_int_equal(spec_table_new(&t), 0);
	assert_int_equal(spec_blob_load(t, wrong, sizeof(wrong), &a), -EINVAL);
	assert_int_equal(spec_blob_load(t, wrong, 0, &a), -EINVAL);
	big = calloc(1, LIMIT_SPEC_BYTES + 1);
	assert_true(spec_blob_new(t, big, LIMIT_SPEC_BYTES + 1, &a, NULL) < 0);
	assert_int_equal(spec_blob_new(t, big, LIMIT_SPEC_BYTES, &a, NULL), 0);
	free(big);
	/* cut short: found out when it is read */
	good = spec_blob_frame(a, &n);
	frame = malloc(n - 4);
	memcpy(frame, good, n - 4);
	assert_int_equal(spec_blob_load(t, frame, n - 4, &b), 0);
	assert_int_equal(spec_blob_text(b, &back, NULL), -EIO);
	free(frame);
	spec_blob_put(a);
	spec_blob_put(b);
	spec_table_free(t);
}

static void *make_and_drop(void *arg)
{
	struct spec_table *t = arg;

	for (int i = 0; i < 2000; i++) {
		struct spec_blob *b;
		char text[32];
		int n = snprintf(text, sizeof(text), "{\"i\":%d}", i % 7);

		if (spec_blob_new(t, text, (size_t)n, &b, NULL) < 0)
			return t;
		spec_blob_put(spec_blob_ref(b));
		spec_blob_put(b);
	}
	return NULL;
}

static void test_blobs_by_many_threads(void **state)
{
	struct spec_table *t;
	pthread_t threads[4];
	void *failed;

	(void)state;
	assert_int_equal(spec_table_new(&t), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, make_and_drop, t), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	assert_int_equal(spec_table_count(t), 0);
	spec_table_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_labels_limit),
		cmocka_unit_test(test_labels_update),
		cmocka_unit_test(test_labels_field),
		cmocka_unit_test(test_blobs_are_shared),
		cmocka_unit_test(test_bad_frames),
		cmocka_unit_test(test_blobs_by_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
