// SPDX-License-Identifier: Apache-2.0
/*
 * A file that the daemon writes for a command: whole or not at all
 */
#pragma once

#include "util/fault.h"

struct outfile {
	int fd; /* opened with the caller's rights */
	char *path; /* NULL for stdout */
	char *temporary; /* NULL when it is written to in place */
};
/* "-" is stdout, which must not be a terminal. Clear it in every case. */
int outfile_open(struct outfile *out, const char *path, struct fault *f);
/* It is complete: from now on it has its name. */
int outfile_finish(struct outfile *out, struct fault *f);
/* One that is not finished is removed. */
void outfile_clear(struct outfile *out);
