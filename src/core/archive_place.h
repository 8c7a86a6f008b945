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
 * What is written, in two steps: a new file gets its name when it is whole and synced. Until then
 * *temporary (the caller's, to be freed) is the name of a file beside it, made with this mode; it
 * stays NULL for what is written to as it is, a device or a FIFO with a reader. *fd is the caller's.
 */
int archive_target_open(const char *path, mode_t mode, int *fd, char **temporary, struct fault *f);

/* result: of writing. Syncs and names the file, or removes it when writing has failed. Returns result or a new failure. */
int archive_target_end(const char *path, int fd, const char *temporary, int result,
		       struct fault *f);
