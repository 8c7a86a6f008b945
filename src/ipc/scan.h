// SPDX-License-Identifier: Apache-2.0
/*
 * The frame scanner: finds the end of a msgpack message without believing it
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/limits.h"

enum {
	SCAN_E_MORE = 1, /* the message goes on beyond the bytes there are */
};

/* Where a scan stands; all zero before a message's first byte. */
struct scan {
	size_t pos; /* bytes of the message looked at */
	uint64_t skip; /* bytes of the present value's payload still to pass */
	uint64_t owed; /* values announced and not yet begun, at all levels */
	uint32_t items; /* values begun */
	unsigned depth;
	uint32_t left[LIMIT_FRAME_DEPTH]; /* values to come at each level */
};

void scan_reset(struct scan *s);

/*
 * data[0..size) begins with the message's first byte and holds at least what former calls saw; they
 * are not looked at again. max: the largest message allowed.
 *   0            *frame is the size of the message
 *   SCAN_E_MORE  call again when there are more bytes
 *   -EMSGSIZE    it is, or says it will be, larger than max
 *   -ELOOP       arrays and maps are nested deeper than LIMIT_FRAME_DEPTH
 *   -EBADMSG     a byte that begins no value (0xc1)
 */
int scan_frame(struct scan *s, const void *data, size_t size, size_t max, size_t *frame);
