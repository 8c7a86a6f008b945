// SPDX-License-Identifier: Apache-2.0
/*
 * CRIU's image streamer protocol: its messages (criu/img-streamer.c)
 *
 * CRIU connects, davit listens. A message is a u32 length in native byte order and a protobuf of that
 * length: the request {1: filename}, and on restore the answer {1: exists}. After a request on dump,
 * and after "exists" on restore, CRIU sends one byte with one fd: the read end (dump) or the write
 * end (restore) of a pipe. Messages are read to the byte, never beyond: the socket is a stream, and
 * an fd that rides on a later byte would be lost.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

#define WIRE_NAME_MOST 255u
#define WIRE_ANSWER_BYTES 6

enum wire_state { WIRE_LENGTH, WIRE_BODY, WIRE_FD };

struct wire {
	enum wire_state state;
	size_t got;
	uint8_t head[4];
	uint8_t body[WIRE_NAME_MOST + 16];
	uint32_t length;
	char name[WIRE_NAME_MOST + 1]; /* of the last request */
};

enum wire_event {
	WIRE_AGAIN, /* nothing more to read now */
	/* name is set; the caller answers, and says by wire_want_fd whether one follows */
	WIRE_REQUEST,
	WIRE_GOT_FD, /* *fd is the caller's */
	WIRE_END, /* the peer has closed, if in the middle of a message: its own end says why */
	WIRE_BROKEN, /* the fault says how; nothing more can be read */
};

/* Whether name[0..n) may be an image file's: one path component of printable ASCII, no '.' first. */
bool wire_name_valid(const void *name, size_t n);

void wire_init(struct wire *w);
/* Reads what it needs next from the non-blocking socket. */
enum wire_event wire_read(struct wire *w, int sock, int *fd, struct fault *f);
/*
 * What criu has sent for a file has to be a pipe, and the right end of it. FAULT_FAILED_PRECONDITION
 * and -EINVAL when it is not; fd stays the caller's.
 */
int wire_check_pipe(int fd, bool we_write, const char *name, struct fault *f);
/* After WIRE_REQUEST: the next thing is an fd. */
void wire_want_fd(struct wire *w);
void wire_answer(bool exists, uint8_t out[WIRE_ANSWER_BYTES]);
