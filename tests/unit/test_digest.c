// SPDX-License-Identifier: Apache-2.0
/* Digests: their text, hashing in pieces, files. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cancel.h"
#include "util/digest.h"

/* FIPS 180-2, appendix B, and the empty text */
#define EMPTY "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SHA512                                                                                     \
	"sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc"     \
	"1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
#define MILLION_A "sha256:cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

static void test_text(void **state)
{
	static const char *const wrong[] = {
		"",
		"sha256",
		"sha256:",
		"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a",
		ABC "0",
		"sha256:BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256:ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256:/a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		"sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
		SHA512,
	};
	struct digest d;

	(void)state;
	assert_true(digest_valid(ABC));
	assert_false(digest_valid(NULL));
	assert_true(digest_valid_n(ABC "and more", strlen(ABC)));
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_false(digest_valid(wrong[i]));
		assert_int_equal(digest_parse(wrong[i], &d), -EINVAL);
	}
	assert_int_equal(digest_parse(ABC, &d), 0);
	assert_string_equal(d.text, ABC);
	assert_string_equal(digest_hex(&d), &ABC[7]);
	/* text that does not end within a digest's length */
	assert_false(digest_valid_n(ABC, 200));
}

static void test_hash(void **state)
{
	struct hasher *h;
	struct digest d;

	(void)state;
	assert_int_equal(digest_of("", 0, &d), 0);
	assert_string_equal(d.text, EMPTY);
	assert_int_equal(digest_of("abc", 3, &d), 0);
	assert_string_equal(d.text, ABC);
	assert_int_equal(hasher_new(&h), 0);
	assert_int_equal(hasher_digest(h, &d), 0);
	assert_string_equal(d.text, EMPTY);
	hasher_add(h, "ab", 2);
	assert_int_equal(hasher_digest(h, &d), 0);
	/* asking for a digest does not end it */
	hasher_add(h, "c", 1);
	hasher_add(h, NULL, 0);
	assert_int_equal(hasher_digest(h, &d), 0);
	assert_string_equal(d.text, ABC);
	hasher_reset(h);
	assert_int_equal(hasher_digest(h, &d), 0);
	assert_string_equal(d.text, EMPTY);
	hasher_free(h);
	hasher_free(NULL);
}

static void test_fd(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct cancel stop = { 0 };
	struct digest d;
	uint64_t size = 7;
	char *a = malloc(1000000);

	(void)state;
	assert_non_null(a);
	memset(a, 'a', 1000000);
	assert_int_equal(digest_of_fd(fd, &d, &size, NULL), 0);
	assert_string_equal(d.text, EMPTY);
	assert_int_equal(size, 0);
	assert_int_equal(write(fd, a, 1000000), 1000000);
	/* the place of reading does not matter, and stays */
	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
	assert_int_equal(digest_of_fd(fd, &d, &size, &stop), 0);
	assert_string_equal(d.text, MILLION_A);
	assert_int_equal(size, 1000000);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 5);
	/* larger than one piece */
	for (int i = 0; i < 3; i++)
		assert_int_equal(pwrite(fd, a, 1000000, (i + 1) * 1000000), 1000000);
	assert_int_equal(digest_of_fd(fd, &d, &size, NULL), 0);
	assert_int_equal(size, 4000000);
	assert_string_not_equal(d.text, MILLION_A);
	cancel_set(&stop);
	assert_int_equal(digest_of_fd(fd, &d, &size, &stop), -ECANCELED);
	close(fd);
	assert_int_equal(digest_of_fd(fd, &d, NULL, NULL), -EBADF);
	free(a);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_fd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
