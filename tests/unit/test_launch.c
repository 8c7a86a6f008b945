// SPDX-License-Identifier: Apache-2.0
/* Launches: the life of a container, its namespaces, devices, identity and limits. */
#include "launch_kit.h"

#include <sys/resource.h>

static void test_life(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state, &(struct kit_parts){ .sh = "echo hello; exit 7" });
	kit_show(k);
	assert_int_equal(k->r, 0);
	assert_true(k->ready);
	assert_true(k->started);
	assert_int_equal(k->status, 7);
	assert_string_equal(k->out, "hello\n");
	kit_done(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
	};

	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
