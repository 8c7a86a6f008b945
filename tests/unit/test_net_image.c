// SPDX-License-Identifier: Apache-2.0
/*
 * A dumped network is replaced by one that is handed in: the bytes are those that criu writes itself
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/net_image.h"

static void add(struct serve_files *files, const char *name, const void *bytes, size_t n)
{
	void *data = malloc(n + 1);

	assert_non_null(data);
	memcpy(data, bytes, n);
	assert_int_equal(ckpt_files_add_data(files, name, data, n), 0);
}

/* As of a dump with --external net[4026531840]:extNet */
static const uint8_t external[] = { 0x19, 0x43, 0x56, 0x54, 0x52, 0x37, 0x93, 0x55, 8,	 0,
				    0,	  0,	0x42, 6,    'e',  'x',	't',  'N',  'e', 't' };

static void test_hand_in(void **state)
{
	struct serve_files files = { 0 };
	struct fault f = { 0 };

	(void)state;
	add(&files, "mm-1.img", "x", 1);
	add(&files, "netns-10.img", "whatever it was", 15);
	add(&files, "netdev-10.img", "y", 1);
	assert_int_equal(net_image_hand_in(&files, "extNet", &f), 0);
	for (size_t i = 0; i < files.n; i++) {
		const struct serve_part *part = &files.v[i].parts[0];

		if (strcmp(files.v[i].name, "netns-10.img") != 0) {
			assert_int_equal(part->size, 1);
			continue;
		}
		assert_int_equal(part->size, sizeof(external));
		assert_memory_equal(part->data, external, sizeof(external));
	}
	serve_files_clear(&files);
}

static void test_none_or_several(void **state)
{
	struct serve_files files = { 0 };
	struct fault f = { 0 };
	char key[200];

	(void)state;
	assert_int_equal(net_image_hand_in(&files, "extNet", &f), -EBADMSG);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	add(&files, "netns-10.img", "a", 1);
	memset(key, 'k', sizeof(key) - 1);
	key[sizeof(key) - 1] = '\0';
	assert_true(net_image_hand_in(&files, key, &f) < 0);
	add(&files, "netns-11.img", "b", 1);
	f.code = 0;
	assert_int_equal(net_image_hand_in(&files, "extNet", &f), -EBADMSG);
	assert_non_null(strstr(f.message, "several networks"));
	serve_files_clear(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hand_in),
		cmocka_unit_test(test_none_or_several),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
