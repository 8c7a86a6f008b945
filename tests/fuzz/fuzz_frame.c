// SPDX-License-Identifier: Apache-2.0
/*
 * Frames: what the scanner says of a stream of bytes
 *
 * It says the same however the bytes are cut up; what it passes, msgpack-c unpacks to the same
 * length, with memory in proportion; what it refuses never passes later.
 */
#include <errno.h>
#include <msgpack.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX 4096u

static void require(int what)
{
	if (!what)
		abort();
}

static void unpack(const uint8_t *data, size_t frame)
{
	msgpack_zone *zone = msgpack_zone_new(1024);
	msgpack_object o;
	size_t off = 0;

	require(zone != NULL);
	require(msgpack_unpack((const char *)data, frame, &off, zone, &o) ==
		MSGPACK_UNPACK_SUCCESS);
	require(off == frame);
	msgpack_zone_free(zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t step = 1;

	while (size) {
		struct scan whole, cut;
		size_t frame = 0, same = 0, have = 0;
		int r, s = SCAN_E_MORE;

		scan_reset(&whole);
		r = scan_frame(&whole, data, size, MAX, &frame);
		require(r == 0 || r == SCAN_E_MORE || r == -EMSGSIZE || r == -ELOOP ||
			r == -EBADMSG);
		scan_reset(&cut);
		while (s == SCAN_E_MORE && have < size) {
			/* memory that ends with the bytes there are, so that a look beyond is seen */
			uint8_t *copy;

			step = step * 1103515245u + 12345u;
			have += 1 + (step >> 16) % 7;
			if (have > size)
				have = size;
			copy = malloc(have);
			require(copy != NULL);
			memcpy(copy, data, have);
			s = scan_frame(&cut, copy, have, MAX, &same);
			free(copy);
			require(cut.pos <= have);
		}
		require(r == s);
		if (r)
			break;
		require(frame == same && frame > 0 && frame <= size && frame <= MAX);
		require(whole.items == cut.items && whole.items <= frame);
		unpack(data, frame);
		data += frame;
		size -= frame;
	}
	return 0;
}
