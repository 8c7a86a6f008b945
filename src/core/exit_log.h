// SPDX-License-Identifier: Apache-2.0
/*
 * The exit log: statuses that the guardian saw and the journal has not got yet
 *
 * A file of fixed-size, checksummed records under --state, appended to before a zombie is reaped,
 * so that no status is lost whichever process dies next; and the same statuses in memory, in order.
 */
#pragma once

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/keep_proto.h"
#include "util/fault.h"

#define EXIT_LOG_MAX 16384 /* statuses held; past that the oldest goes */

struct exit_entry {
	TAILQ_ENTRY(exit_entry) link;
	struct keep_status status;
	bool sent; /* to the reactor that runs now */
};
TAILQ_HEAD(exit_list, exit_entry);

struct exit_log {
	int fd, dirfd; /* dirfd is borrowed */
	uint64_t boot; /* a hash of the boot's id: records of another boot mean nothing */
	size_t records; /* in the file */
	size_t count;
	struct exit_list entries;
};

/*
 * Opens or makes `exits` in dirfd and reads what is in it; damaged records and those of another
 * boot are dropped.
 */
int exit_log_open(struct exit_log *l, int dirfd, struct fault *f);
void exit_log_close(struct exit_log *l);
/* The status is in memory in any case but -ENOMEM; another -errno says that the file has it not. */
int exit_log_add(struct exit_log *l, const struct keep_status *s, struct exit_entry **entry);
/* Forgets the oldest entry of this pid that was sent. Empties the file when it was the last. */
void exit_log_ack(struct exit_log *l, pid_t pid);
/* A new reactor: nothing was sent to it. */
void exit_log_rewind(struct exit_log *l);
