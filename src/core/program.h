// SPDX-License-Identifier: Apache-2.0
/*
 * Programs that davit uses: where they are and which version
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct program_version {
	char path[256]; /* where it was found, "" when it was not */
	char version[64]; /* "" when it could not be asked */
	char problem[128]; /* why not */
	pid_t pid; /* of the child that was asked; the caller reaps it. 0 for none */
};

/* name: a path, or looked for in PATH. Blocking: for a worker. */
void program_find(const char *name, char *path, size_t size);
/*
 * Runs `NAME option` and takes the word behind `label` in what it prints. Blocking, a few seconds
 * at most: for a worker. Does not wait for the child, since all waiting is the reaper's.
 */
void program_version(const char *name, const char *option, const char *label,
		     struct program_version *out);
