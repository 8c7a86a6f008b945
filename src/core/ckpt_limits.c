// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint, before criu: whether it could be kept at all
 *
 * What a checkpoint may have of files and of large files is known while criu writes them, which is when
 * the task is frozen. With many processes the answer is often clear before: each has some image files, and
 * one with much memory of its own a large one. It is a look from outside at what is running: what it
 * lets pass may still be too much in the end. How much memory there is tells too how many buffers will be
 * wanted.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ckpt_internal.h"
#include "runtime/cgroup.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define FILES_EACH 6u /* core, ids, fs, mm, pagemap, pages */

/* Memory that is in no file, in kB; 0 for one that has ended. */
static unsigned long long own_memory(pid_t pid)
{
	CLEANUP_FREE char *text = NULL;
	char path[64];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fd_read_file(AT_FDCWD, path, 64 << 10, &text, NULL) < 0)
		return 0;
	at = strstr(text, "\nRssAnon:");
	return at ? strtoull(at + 9, NULL, 10) : 0;
}

int ckpt_check_limits(struct ckpt *ck, struct fault *f)
{
	CLEANUP_FREE pid_t *pids = NULL;
	size_t n = 0, large = 0;
	int r = ck->t->cgroup ? cgroup_pids(ck->t->cgroup, &pids, &n, f) : 0;

	if (r < 0)
		return r;
	if (n > LIMIT_CHECKPOINT_FILES / FILES_EACH)
		return fault_set(
			f, FAULT_RESOURCE_EXHAUSTED, 0,
			"the container has %zu processes; a checkpoint can have %u image files, which is enough for %u",
			n, LIMIT_CHECKPOINT_FILES, LIMIT_CHECKPOINT_FILES / FILES_EACH);
	for (size_t i = 0; i < n; i++) {
		unsigned long long kb = own_memory(pids[i]);

		ck->memory += kb << 10;
		large += kb > CAPTURE_SMALL_BYTES >> 10;
	}
	if (large > LIMIT_CHECKPOINT_BLOBS)
		return fault_set(
			f, FAULT_RESOURCE_EXHAUSTED, 0,
			"the container has %zu processes with over %u bytes of memory of their own; a checkpoint can have %u",
			large, CAPTURE_SMALL_BYTES, LIMIT_CHECKPOINT_BLOBS);
	return 0;
}
