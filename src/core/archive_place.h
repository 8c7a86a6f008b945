// SPDX-License-Identifier: Apache-2.0
/*
 * Archives at a path: where images and checkpoints are exported to and imported from
 *
 * For workers, but for the first: all of it may block. Each fault names the argument "path".
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct fault;
struct ipc_request;

/*
 * On the reactor: whether the arguments `path` (absolute) and `stream` name one place. False after
 * answering.
 */
bool archive_place_given(struct ipc_request *req);

/* What is read: a file or a folder; anything else might keep its opener waiting. *fd is the caller's. Negative with a fault. */
int archive_source_open(const char *path, int *fd, struct fault *f);

/*
 * What is written, in two steps: a new file gets its name when it is whole and synced. Until then it
 * has none, so that a daemon that is killed leaves nothing; where the file system has no such files,
 * it is one beside its place, PATH.HEX.tmp.
 */
struct archive_target {
	const char *path; /* the caller's */
	bool as_it_is; /* a device, or a FIFO with a reader: nothing comes after the last byte */
	char *temporary; /* the name beside; NULL without one */
};
/* A file is made with this mode. *fd is the caller's. */
int archive_target_open(struct archive_target *t, const char *path, mode_t mode, int *fd,
			struct fault *f);
/*
 * result: of writing. Syncs and names the file, in one step for who looks at the place, or removes it
 * when writing has failed. Returns result or a new failure. For every target that was opened, and
 * for { 0 }, which is written as it is.
 */
int archive_target_end(struct archive_target *t, int fd, int result, struct fault *f);
