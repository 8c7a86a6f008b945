// SPDX-License-Identifier: Apache-2.0
/*
 * Between guardian and reactor: messages over a SOCK_SEQPACKET socketpair
 *
 * A message is one struct keep_msg, of which only what its kind needs is sent: the head, then the
 * status or the text. A text (key, prefix, error) is as long as the rest of the message and has no
 * NUL. ITEM and PUT carry one fd. Both ends are always the same binary, or, across an upgrade,
 * speak the version that HELLO names.
 *
 * After the start the guardian sends HELLO, an ITEM for each fd it holds, a STATUS for each exit
 * not acknowledged yet, then END; later a STATUS for each child that ends. The reactor says READY
 * once it serves.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEP_VERSION 1
#define KEEP_KEY_BYTES 300 /* of a key, see keep.h */
#define KEEP_TEXT_BYTES 1024 /* of an error's text */

enum keep_kind {
	/* guardian to reactor */
	KEEP_HELLO = 1, /* number: version; pid: of the guardian */
	KEEP_ITEM, /* text: key; one fd */
	KEEP_STATUS, /* status */
	KEEP_END,
	/* reactor to guardian */
	KEEP_PUT, /* text: key; one fd */
	KEEP_DROP, /* text: key */
	KEEP_DROP_PREFIX, /* text: prefix, not empty */
	KEEP_ACK, /* pid */
	KEEP_READY,
	KEEP_STOPPING,
	KEEP_FAILED, /* text: why the start failed, for the user */
};

/* As in the exit log and in siginfo_t. */
struct keep_status {
	int32_t pid;
	int32_t code; /* CLD_EXITED, CLD_KILLED, CLD_DUMPED */
	int32_t status; /* exit code or signal */
	int32_t reserved;
	int64_t exited_at; /* ns since the epoch */
	uint64_t starttime; /* field 22 of /proc/PID/stat, 0 when it could not be read */
};

struct keep_msg {
	uint32_t kind;
	int32_t pid;
	uint64_t number;
	union {
		struct keep_status status;
		char text[KEEP_TEXT_BYTES];
	};
};

#define KEEP_HEAD offsetof(struct keep_msg, text)
