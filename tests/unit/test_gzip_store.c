// SPDX-License-Identifier: Apache-2.0
/*
 * gzip that does not compress: what it writes is what gzip itself reads, which checks sum and size
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/gzip_store.h"
#include "util/fd.h"

static int file_of(const void *data, size_t size)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, size), 0);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

static void unpack(int from, int to)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		if (dup2(from, 0) < 0 || dup2(to, 1) < 0)
			_exit(126);
		execlp("gzip", "gzip", "-dc", NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void there_and_back(size_t size)
{
	unsigned char *data = malloc(size + 1), *back = malloc(size + 1);
	int in, packed = file_of("", 0), out = file_of("", 0);
	uint32_t x = 1;

	assert_true(data && back);
	for (size_t i = 0; i < size; i++)
		data[i] = (unsigned char)((x = x * 1664525u + 1013904223u) >> 24);
	in = file_of(data, size);
	assert_int_equal(gzip_store(in, packed), 0);
	/* head, end, and a block for each read */
	assert_int_equal(size_of(packed), 10 + 13 + size + (size + 65534) / 65535 * 5);
	lseek(packed, 0, SEEK_SET);
	unpack(packed, out);
	assert_int_equal(size_of(out), size);
	assert_int_equal(fd_pread_all(out, back, size, 0), 0);
	assert_memory_equal(data, back, size);
	close(in);
	close(packed);
	close(out);
	free(data);
	free(back);
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 9, 65534, 65535, 65536, 131070, 5000001 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		there_and_back(sizes[i]);
}

static void test_failures(void **state)
{
	int in = file_of("text", 4), full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(gzip_store(in, full), -ENOSPC);
	assert_int_equal(gzip_store(-1, in), -EBADF);
	close(in);
	close(full);
}

static void test_name(void **state)
{
	(void)state;
	assert_true(gzip_store_is("gzip"));
	assert_true(gzip_store_is("/run/x/gzip"));
	assert_false(gzip_store_is("davit"));
	assert_false(gzip_store_is("/gzip/davit"));
	assert_false(gzip_store_is(NULL));
	assert_int_equal(gzip_store_main(2), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
