// SPDX-License-Identifier: Apache-2.0
/* CRC-32C against the vectors of RFC 3720, and the two ways against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/crc32c.h"

static void test_vectors(void **state)
{
	uint8_t data[32];

	(void)state;
	memset(data, 0, sizeof(data));
	assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
	memset(data, 0xff, sizeof(data));
	assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
	for (uint8_t i = 0; i < 32; i++)
		data[i] = i;
	assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, NULL, 0), 0);
}

static void test_ways_agree(void **state)
{
	uint8_t data[257];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 3);
	for (size_t begin = 0; begin < 9; begin++) {
		for (size_t size = 0; size + begin <= sizeof(data); size++) {
			uint32_t one = crc32c(begin * 77u, data + begin, size);

			assert_int_equal(one, crc32c_portable(begin * 77u, data + begin, size));
			assert_int_equal(one, crc32c(crc32c(begin * 77u, data + begin, size / 2),
						     data + begin + size / 2, size - size / 2));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_ways_agree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
