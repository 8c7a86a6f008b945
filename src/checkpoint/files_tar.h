// SPDX-License-Identifier: Apache-2.0
/*
 * criu's image files as a list, and the small ones out of their tar
 */
#pragma once

#include "checkpoint/serve.h"
#include "util/fault.h"

/*
 * Another file with room for n_parts parts, none of which is there yet; valid until the next call.
 * name is copied. NULL: no memory.
 */
struct serve_file *ckpt_files_add(struct serve_files *files, const char *name, size_t n_parts);
/* One in memory; data is taken over, also when -ENOMEM is returned. */
int ckpt_files_add_data(struct serve_files *files, const char *name, void *data, size_t size);
/* By name. Answers a name that is there twice, or NULL. */
const char *ckpt_files_sort(struct serve_files *files);
/* Of sorted ones; NULL when there is none of that name. */
const struct serve_file *ckpt_files_find(const struct serve_files *files, const char *name);

/*
 * Adds what is in a blob: a tar, plain or in zstd, from fd's current offset to its end. Only regular
 * files with names that criu's images can have, LIMIT_CHECKPOINT_FILES_BYTES in all. Anything else,
 * damage and truncation are FAULT_FAILED_PRECONDITION, which names the digest. Blocks.
 */
int ckpt_files_tar(struct serve_files *files, int fd, const char *digest, struct fault *f);
