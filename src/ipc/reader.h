// SPDX-License-Identifier: Apache-2.0
/*
 * Messages with their fds from a UNIX stream socket
 *
 *   r = reader_fill(…) and, while that brings something: reader_next until READER_E_MORE; then reader_settle.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/scan.h"
#include "ipc/spare.h"
#include "ipc/stream.h"

enum {
	READER_E_MORE = 1, /* no further whole message is there */
	READER_E_END, /* the peer has sent its last byte */
};

struct reader {
	struct scan scan; /* of the message at `off` */
	char *own; /* malloc'ed: what is kept between fills; NULL when nothing is */
	size_t own_alloc;
	char *base; /* the bytes at hand: in `own` or in the caller's buffer */
	size_t off, have; /* not yet given out: base[off..have) */
	size_t max; /* largest message */
	struct spare *spare; /* where memory for large messages may be; borrowed, may be NULL */
	uint64_t at; /* stream offset of base[off] */
	/* Of the message at `off`, and of the first that begins at or after next_at. */
	struct stream_fds *fds, *next_fds;
	uint64_t next_at;
};

struct reader_frame {
	char *data; /* valid until reader_settle */
	size_t size;
	uint32_t items; /* values in it */
	struct stream_fds *fds; /* the caller's, or NULL */
	size_t alloc; /* of the memory that reader_take gave away */
};

void reader_init(struct reader *r, size_t max);
void reader_clear(struct reader *r); /* frees all; the reader is as after reader_init */

/*
 * One read, with buf[0..size) as scratch that may be shared among readers (64 KiB are good).
 * *got: bytes read. 0, READER_E_END, or -errno (-EAGAIN, -ENOMEM, …). Only after reader_settle.
 */
int reader_fill(struct reader *r, int sock, char *buf, size_t size, size_t *got);
/* The next message: 0, READER_E_MORE, or what scan_frame says of a bad one: then nothing more can be read. */
int reader_next(struct reader *r, struct reader_frame *f);
/* Ends the use of the shared buffer: copies what is left of it, or gives memory back when nothing is left. */
int reader_settle(struct reader *r);
/*
 * The memory of the frame just given out, so that it need not be copied: malloc'ed, the frame at its
 * beginning, one spare byte behind it. NULL when it is shared. Valid before the next reader_next.
 */
char *reader_take(struct reader *r, struct reader_frame *f);
/* Whether bytes of a message wait for the rest of it, or whole messages for reader_next. */
bool reader_pending(const struct reader *r);
