// SPDX-License-Identifier: Apache-2.0
/*
 * What a command reads and hands on to the daemon: a file, stdin, a folder
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/fault.h"

struct input {
	int fd; /* opened with the caller's rights */
	bool folder;
	char *path; /* absolute, of a folder */
	uint64_t size; /* where a regular file ends, when that is still to come; else 0 */
	const char *shown; /* for a progress bar; borrowed from the path that was given */
};
/* "-" is stdin, which must not be a terminal. Clear it in every case. */
int input_open(struct input *in, const char *path, struct fault *f);
void input_clear(struct input *in);
