// SPDX-License-Identifier: Apache-2.0
/* Memory of large messages: what is kept, how much, how long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ipc/spare.h"

static void test_fit(void **state)
{
	struct spare s = { 0 };
	char *small = malloc(SPARE_LEAST), *large = malloc(4 * SPARE_LEAST);
	size_t size = 0;

	(void)state;
	assert_null(spare_take(&s, 1, &size));
	spare_give(&s, NULL, SPARE_LEAST);
	assert_int_equal(s.n, 0);
	spare_give(&s, large, 4 * SPARE_LEAST);
	spare_give(&s, small, SPARE_LEAST);
	assert_int_equal(s.bytes, 5 * SPARE_LEAST);
	assert_null(spare_take(&s, 4 * SPARE_LEAST + 1, &size));
	/* the smallest that will do */
	assert_ptr_equal(spare_take(&s, 1000, &size), small);
	assert_int_equal(size, SPARE_LEAST);
	assert_ptr_equal(spare_take(&s, 1000, &size), large);
	assert_int_equal(s.bytes, 0);
	spare_give(&s, large, 4 * SPARE_LEAST);
	spare_give(&s, small, SPARE_LEAST);
	spare_clear(&s);
	assert_int_equal(s.n + s.bytes, 0);
}

static void test_bounds(void **state)
{
	struct spare s = { 0 };

	(void)state;
	/* too small to be worth it */
	spare_give(&s, malloc(SPARE_LEAST - 1), SPARE_LEAST - 1);
	assert_int_equal(s.n, 0);
	for (int i = 0; i < SPARE_MOST + 3; i++)
		spare_give(&s, malloc(SPARE_LEAST), SPARE_LEAST);
	assert_int_equal(s.n, SPARE_MOST);
	spare_clear(&s);
	for (int i = 0; i < 5; i++)
		spare_give(&s, malloc(SPARE_BYTES / 4), SPARE_BYTES / 4);
	assert_int_equal(s.n, 4);
	assert_int_equal(s.bytes, SPARE_BYTES);
	spare_clear(&s);
}

static void test_rest(void **state)
{
	struct spare s = { 0 };
	size_t size;
	char *data;

	(void)state;
	assert_false(spare_rest(&s));
	spare_give(&s, malloc(SPARE_LEAST), SPARE_LEAST);
	assert_true(spare_rest(&s));
	data = spare_take(&s, 1, &size);
	spare_give(&s, data, size);
	assert_true(spare_rest(&s));
	/* not used since */
	assert_false(spare_rest(&s));
	assert_int_equal(s.n, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fit),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_rest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
