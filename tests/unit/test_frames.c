// SPDX-License-Identifier: Apache-2.0
/*
 * The pages codec: frames, their seek table, and damaged ones
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#include "checkpoint/frames.h"
#include "util/fd.h"

static void fill(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1103515245 + 12345;
		p[i] = i % 8192 < 4096 ? 0 : (unsigned char)(seed >> 16);
	}
}

static void test_round(void **state)
{
	size_t size = FRAME_BYTES - 4711;
	unsigned char *in = malloc(size), *packed = malloc(FRAME_PACKED_MOST), *back = malloc(size);
	struct frame_codec *c;
	ssize_t n;

	(void)state;
	fill(in, size, 1);
	assert_int_equal(frame_codec_new(&c, 1), 0);
	n = frame_pack(c, in, size, packed);
	assert_in_range(n, 1, size * 3 / 4);
	assert_int_equal(frame_unpack(c, packed, (size_t)n, back, size), 0);
	assert_memory_equal(in, back, size);
	/* another size, a flipped bit, a cut end */
	assert_int_equal(frame_unpack(c, packed, (size_t)n, back, size - 1), -EBADMSG);
	packed[n / 2] ^= 4;
	assert_int_equal(frame_unpack(c, packed, (size_t)n, back, size), -EBADMSG);
	packed[n / 2] ^= 4;
	assert_int_equal(frame_unpack(c, packed, (size_t)n - 1, back, size), -EBADMSG);
	frame_codec_free(c);
	assert_int_equal(frame_codec_new(&c, 20), -EINVAL);
	free(in);
	free(packed);
	free(back);
}

/* A blob of n frames with its table in a memfd; *data is the file. */
static int blob(size_t n, unsigned char **data, size_t *size)
{
	unsigned char *packed = malloc(FRAME_PACKED_MOST), *table;
	int fd = memfd_create("blob", MFD_CLOEXEC);
	struct frame_table t = { 0 };
	struct frame_codec *c;

	*size = n * 100000;
	*data = malloc(*size + 1);
	fill(*data, *size, 7);
	assert_int_equal(frame_codec_new(&c, 3), 0);
	for (size_t i = 0; i < n; i++) {
		ssize_t p = frame_pack(c, *data + i * 100000, 100000, packed);

		assert_true(p > 0);
		assert_int_equal(fd_write_all(fd, packed, (size_t)p), 0);
		assert_int_equal(frame_table_add(&t, (uint32_t)p, 100000), 0);
	}
	table = malloc(frame_table_bytes(&t));
	frame_table_write(&t, table);
	assert_int_equal(fd_write_all(fd, table, frame_table_bytes(&t)), 0);
	free(table);
	free(packed);
	frame_codec_free(c);
	frame_table_clear(&t);
	return fd;
}

static void test_table(void **state)
{
	unsigned char *data, *all, *back;
	struct frame_table t;
	struct fault f = { 0 };
	size_t size;
	int fd = blob(5, &data, &size);
	off_t bytes = lseek(fd, 0, SEEK_END);

	(void)state;
	assert_int_equal(frame_table_read(&t, fd, (uint64_t)bytes, UINT64_MAX, &f), 0);
	assert_int_equal(t.n, 5);
	assert_int_equal(t.size, size);
	assert_int_equal(frame_table_find(&t, 0), 0);
	assert_int_equal(frame_table_find(&t, 99999), 0);
	assert_int_equal(frame_table_find(&t, 100000), 1);
	assert_int_equal(frame_table_find(&t, size), 5);
	frame_table_clear(&t);
	/* plain zstd reads the whole, and steps over the table */
	all = malloc((size_t)bytes);
	back = malloc(size);
	assert_int_equal(pread(fd, all, (size_t)bytes, 0), bytes);
	assert_int_equal(ZSTD_decompress(back, size, all, (size_t)bytes), size);
	assert_memory_equal(back, data, size);
	/* larger than wanted */
	assert_int_equal(frame_table_read(&t, fd, (uint64_t)bytes, size - 1, &f), -EBADMSG);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	free(all);
	free(back);
	free(data);
	close(fd);
}

static void test_empty_table(void **state)
{
	unsigned char *data;
	struct frame_table t;
	struct fault f = { 0 };
	size_t size;
	int fd = blob(0, &data, &size);

	(void)state;
	assert_int_equal(frame_table_read(&t, fd, 17, UINT64_MAX, &f), 0);
	assert_int_equal(t.n, 0);
	frame_table_clear(&t);
	free(data);
	close(fd);
}

/* Every single changed byte of the table, and every cut, is noticed, or leads to frames that are. */
static void test_damage(void **state)
{
	unsigned char *data, was, bad;
	struct frame_table t;
	struct fault f = { 0 };
	size_t size;
	int fd = blob(3, &data, &size);
	off_t bytes = lseek(fd, 0, SEEK_END), table = 8 + 3 * 8 + 9;

	(void)state;
	for (off_t at = bytes - table; at < bytes; at++) {
		bool size_field = at >= bytes - table + 8 && at < bytes - 9 &&
				  (at - (bytes - table) - 8) % 8 >= 4;
		int r;

		assert_int_equal(pread(fd, &was, 1, at), 1);
		bad = was ^ 0x80;
		assert_int_equal(pwrite(fd, &bad, 1, at), 1);
		r = frame_table_read(&t, fd, (uint64_t)bytes, UINT64_MAX, &f);
		/* an unpacked size is only wrong where the frame comes out */
		if (size_field && !r)
			assert_int_not_equal(t.size, size);
		else
			assert_int_equal(r, -EBADMSG);
		if (!r)
			frame_table_clear(&t);
		assert_int_equal(pwrite(fd, &was, 1, at), 1);
	}
	for (off_t cut = 0; cut < bytes; cut += 97)
		assert_int_equal(frame_table_read(&t, fd, (uint64_t)cut, UINT64_MAX, &f), -EBADMSG);
	free(data);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_empty_table),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
