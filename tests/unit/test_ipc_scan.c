// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

#include "ipc/scan.h"

#define MAX LIMIT_FRAME_BYTES

static int scan_once(const void *data, size_t size, size_t *frame)
{
	struct scan s;

	memset(&s, 0xee, sizeof(s));
	scan_reset(&s);
	*frame = 0;
	return scan_frame(&s, data, size, MAX, frame);
}

#define scan_bytes(frame, ...)                                                                     \
	scan_once((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), frame)

/* One of every kind of value, in an array. */
static void every_kind(msgpack_sbuffer *sb)
{
	static char big[70000];
	msgpack_packer pk;

	msgpack_packer_init(&pk, sb, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 30);
	msgpack_pack_nil(&pk);
	msgpack_pack_true(&pk);
	msgpack_pack_false(&pk);
	msgpack_pack_int(&pk, 5);
	msgpack_pack_int(&pk, -5);
	msgpack_pack_fix_uint8(&pk, 5);
	msgpack_pack_fix_uint16(&pk, 5);
	msgpack_pack_fix_uint32(&pk, 5);
	msgpack_pack_fix_uint64(&pk, 5);
	msgpack_pack_fix_int8(&pk, -5);
	msgpack_pack_fix_int16(&pk, -5);
	msgpack_pack_fix_int32(&pk, -5);
	msgpack_pack_fix_int64(&pk, -5);
	msgpack_pack_float(&pk, 1.5f);
	msgpack_pack_double(&pk, 1.5);
	msgpack_pack_str_with_body(&pk, big, 0);
	msgpack_pack_str_with_body(&pk, big, 31);
	msgpack_pack_str_with_body(&pk, big, 200);
	msgpack_pack_str_with_body(&pk, big, 300);
	msgpack_pack_str_with_body(&pk, big, sizeof(big));
	msgpack_pack_bin_with_body(&pk, big, 0);
	msgpack_pack_bin_with_body(&pk, big, 300);
	msgpack_pack_bin_with_body(&pk, big, sizeof(big));
	msgpack_pack_ext_with_body(&pk, big, 1, 7);
	msgpack_pack_ext_with_body(&pk, big, 16, 7);
	msgpack_pack_ext_with_body(&pk, big, 17, 7);
	msgpack_pack_ext_with_body(&pk, big, 300, 7);
	msgpack_pack_ext_with_body(&pk, big, sizeof(big), 7);
	msgpack_pack_array(&pk, 20);
	for (int i = 0; i < 20; i++)
		msgpack_pack_map(&pk, 0);
	msgpack_pack_map(&pk, 17);
	for (int i = 0; i < 17; i++) {
		msgpack_pack_int(&pk, i);
		msgpack_pack_array(&pk, 1);
		msgpack_pack_nil(&pk);
	}
}

static void test_every_kind(void **state)
{
	msgpack_sbuffer sb;
	size_t frame;

	(void)state;
	msgpack_sbuffer_init(&sb);
	every_kind(&sb);
	assert_int_equal(scan_once(sb.data, sb.size, &frame), 0);
	assert_int_equal(frame, sb.size);
	/* what follows is not looked at */
	msgpack_sbuffer_write(&sb, "\xc1\xc1", 2);
	assert_int_equal(scan_once(sb.data, sb.size, &frame), 0);
	assert_int_equal(frame, sb.size - 2);
	msgpack_sbuffer_destroy(&sb);
}

static void test_every_cut(void **state)
{
	msgpack_sbuffer sb;
	struct scan s;
	size_t frame, i;

	(void)state;
	msgpack_sbuffer_init(&sb);
	every_kind(&sb);
	/* one byte more each time; the address may change in between */
	scan_reset(&s);
	for (i = 1; i < sb.size; i++) {
		if (i < 3000 || i % 997 == 0 || i > sb.size - 2000)
			assert_int_equal(scan_frame(&s, sb.data, i, MAX, &frame), SCAN_E_MORE);
		assert_true(s.pos <= i);
	}
	assert_int_equal(scan_frame(&s, sb.data, sb.size, MAX, &frame), 0);
	assert_int_equal(frame, sb.size);
	/* the same scan is used again for the next */
	scan_reset(&s);
	assert_int_equal(scan_frame(&s, "\x93\x01\x02", 3, MAX, &frame), SCAN_E_MORE);
	assert_int_equal(scan_frame(&s, "\x93\x01\x02\x03", 4, MAX, &frame), 0);
	assert_int_equal(frame, 4);
	assert_int_equal(s.items, 4);
	msgpack_sbuffer_destroy(&sb);
}

static void test_heads_that_lie(void **state)
{
	size_t frame;

	(void)state;
	assert_int_equal(scan_bytes(&frame, 0xdd, 0x0f, 0xff, 0xff, 0xff), -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0xdd, 0xff, 0xff, 0xff, 0xff), -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0xdf, 0xff, 0xff, 0xff, 0xff), -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0xdf, 0x00, 0x80, 0x00, 0x00), -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0xdb, 0xff, 0xff, 0xff, 0xff), -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0xc6, 0xff, 0xff, 0xff, 0xff), -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0xc9, 0xff, 0xff, 0xff, 0xff), -EMSGSIZE);
	/* small enough to be true, so far */
	assert_int_equal(scan_bytes(&frame, 0xdd, 0x00, 0x0f, 0xff, 0xff), SCAN_E_MORE);
	/* each is possible, both together are not */
	assert_int_equal(scan_bytes(&frame, 0x92, 0xdd, 0x00, 0x90, 0x00, 0x00, 0xdd, 0x00, 0x90,
				    0x00, 0x00),
			 -EMSGSIZE);
	assert_int_equal(scan_bytes(&frame, 0x91, 0xc1), -EBADMSG);
	assert_int_equal(scan_bytes(&frame, 0xc1), -EBADMSG);
	assert_int_equal(scan_once("", 0, &frame), SCAN_E_MORE);
	assert_int_equal(scan_bytes(&frame, 0xdd, 0x00), SCAN_E_MORE);
}

static void test_depth(void **state)
{
	uint8_t data[64];
	size_t frame;

	(void)state;
	memset(data, 0x91, sizeof(data));
	data[31] = 0x90;
	assert_int_equal(scan_once(data, 32, &frame), 0);
	assert_int_equal(frame, 32);
	data[31] = 0x91;
	data[32] = 0xc0;
	assert_int_equal(scan_once(data, 33, &frame), 0);
	data[32] = 0x90;
	assert_int_equal(scan_once(data, 33, &frame), -ELOOP);
	data[32] = 0x80;
	assert_int_equal(scan_once(data, 33, &frame), -ELOOP);
	data[32] = 0x91;
	assert_int_equal(scan_once(data, 64, &frame), -ELOOP);

	/* wide is not deep */
	memset(data, 0x90, sizeof(data));
	data[0] = 0xdc;
	data[1] = 0;
	data[2] = 61;
	assert_int_equal(scan_once(data, 64, &frame), 0);
	assert_int_equal(frame, 64);
}

static void test_largest(void **state)
{
	uint8_t *data = calloc(1, MAX + 1);
	uint32_t n = MAX - 5;
	size_t frame;

	(void)state;
	assert_non_null(data);
	for (int more = 0; more < 2; more++) {
		uint32_t size = n + (uint32_t)more;

		data[0] = 0xc6;
		data[1] = (uint8_t)(size >> 24);
		data[2] = (uint8_t)(size >> 16);
		data[3] = (uint8_t)(size >> 8);
		data[4] = (uint8_t)size;
		if (more) {
			assert_int_equal(scan_once(data, 5, &frame), -EMSGSIZE);
		} else {
			assert_int_equal(scan_once(data, MAX - 1, &frame), SCAN_E_MORE);
			assert_int_equal(scan_once(data, MAX, &frame), 0);
			assert_int_equal(frame, MAX);
		}
	}
	free(data);
}

/* Whatever the scanner passes, msgpack-c unpacks, and to the same length. */
static void test_agrees_with_msgpack_c(void **state)
{
	uint32_t x = 12345;

	(void)state;
	for (int round = 0; round < 200000; round++) {
		uint8_t data[24];
		size_t frame, off = 0;
		int r;

		for (size_t i = 0; i < sizeof(data); i++) {
			x = x * 1664525u + 1013904223u;
			data[i] = (uint8_t)(x >> 24);
			/* more heads than random bytes have */
			if ((x >> 16 & 3) == 0)
				data[i] = (uint8_t)(0x80 + (x >> 8 & 0x5f));
		}
		r = scan_once(data, sizeof(data), &frame);
		if (!r) {
			msgpack_zone *zone = msgpack_zone_new(1024);
			msgpack_object o;

			assert_non_null(zone);
			r = msgpack_unpack((char *)data, frame, &off, zone, &o);
			assert_int_equal(r, MSGPACK_UNPACK_SUCCESS);
			assert_int_equal(off, frame);
			msgpack_zone_free(zone);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind),     cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_heads_that_lie), cmocka_unit_test(test_depth),
		cmocka_unit_test(test_largest),	       cmocka_unit_test(test_agrees_with_msgpack_c),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
