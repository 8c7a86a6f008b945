// SPDX-License-Identifier: Apache-2.0
/*
 * The frame scanner
 *
 * msgpack-c reserves memory for an array or map as soon as it reads the count, so five bytes
 * (dd 0f ff ff ff) make it ask for 8 GiB. Therefore it only ever sees messages that this scanner has
 * walked to their end: it keeps no values, only how many are still to come at each level.
 *
 * A count is bounded by the bytes that can still follow: each announced value takes one byte at
 * least, so what was read, the payload to pass and one byte a value owed must together stay within
 * the largest message. Once the end is found, every count is backed by bytes that are there.
 *
 * The scan resumes where it stood when more bytes come. It never stops inside a value's head: a head
 * that is cut off (at most 9 bytes) is looked at again from its first byte. So a message costs one
 * pass however it is cut up.
 */
#include "ipc/scan.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

void scan_reset(struct scan *s)
{
	/* left[] is written before it is read */
	s->pos = 0;
	s->skip = 0;
	s->owed = 0;
	s->items = 0;
	s->depth = 0;
}

static uint32_t big_endian(const uint8_t *p, unsigned n)
{
	uint32_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* What a first byte says: whether values follow, how wide the length is, what else follows. */
struct head {
	uint8_t kind;
	uint8_t width; /* bytes of length or count */
	uint8_t payload; /* bytes beside that */
};

enum { PLAIN, SIZED, ARRAY, MAP, BAD };

/* 0xc0 to 0xdf, as the msgpack specification lists them */
static const struct head heads[32] = {
	{ PLAIN, 0, 0 }, /* nil */
	{ BAD, 0, 0 },	 { PLAIN, 0, 0 }, /* false */
	{ PLAIN, 0, 0 }, /* true */
	{ SIZED, 1, 0 }, /* bin 8 */
	{ SIZED, 2, 0 }, { SIZED, 4, 0 }, { SIZED, 1, 1 }, /* ext 8 */
	{ SIZED, 2, 1 }, { SIZED, 4, 1 }, { PLAIN, 0, 4 }, /* float 32 */
	{ PLAIN, 0, 8 }, { PLAIN, 0, 1 }, /* uint 8 */
	{ PLAIN, 0, 2 }, { PLAIN, 0, 4 }, { PLAIN, 0, 8 }, { PLAIN, 0, 1 }, /* int 8 */
	{ PLAIN, 0, 2 }, { PLAIN, 0, 4 }, { PLAIN, 0, 8 }, { PLAIN, 0, 2 }, /* fixext 1 */
	{ PLAIN, 0, 3 }, { PLAIN, 0, 5 }, { PLAIN, 0, 9 }, { PLAIN, 0, 17 },
	{ SIZED, 1, 0 }, /* str 8 */
	{ SIZED, 2, 0 }, { SIZED, 4, 0 }, { ARRAY, 2, 0 }, { ARRAY, 4, 0 },
	{ MAP, 2, 0 },	 { MAP, 4, 0 },
};

int scan_frame(struct scan *s, const void *data, size_t size, size_t max, size_t *frame)
{
	const uint8_t *p = data;

	if (!s->pos)
		s->owed = 1;
	for (;;) {
		uint64_t count = 0;
		bool nests = false;
		uint8_t b;

		if (s->skip) {
			size_t there = size - s->pos;

			if (there < s->skip) {
				s->pos += there;
				s->skip -= there;
				return SCAN_E_MORE;
			}
			s->pos += (size_t)s->skip;
			s->skip = 0;
		}
		if (!s->owed) {
			*frame = s->pos;
			return 0;
		}
		if (s->pos == size)
			return SCAN_E_MORE;

		b = p[s->pos];
		if (b < 0x80 || b >= 0xe0) {
			s->pos++;
		} else if (b >= 0xa0 && b < 0xc0) {
			s->pos++;
			s->skip = b & 0x1f;
		} else if (b < 0xa0) {
			s->pos++;
			nests = true;
			count = b & 0x0f;
			if (b < 0x90)
				count *= 2;
		} else {
			const struct head *h = &heads[b - 0xc0];

			if (h->kind == BAD)
				return -EBADMSG;
			if (size - s->pos < 1u + h->width)
				return SCAN_E_MORE;
			s->skip = h->payload;
			if (h->width) {
				uint32_t n = big_endian(p + s->pos + 1, h->width);

				if (h->kind == SIZED) {
					s->skip += n;
				} else {
					nests = true;
					count = h->kind == MAP ? 2ull * n : n;
				}
			}
			s->pos += 1u + h->width;
		}

		s->items++;
		s->owed += count;
		s->owed--;
		if (s->pos + s->skip + s->owed > max)
			return -EMSGSIZE;
		if (nests && s->depth == LIMIT_FRAME_DEPTH)
			return -ELOOP;
		if (count) {
			s->left[s->depth++] = (uint32_t)count;
			continue;
		}
		/* this value ended those that it was the last of */
		while (s->depth && !--s->left[s->depth - 1])
			s->depth--;
	}
}
