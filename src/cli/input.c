// SPDX-License-Identifier: Apache-2.0
/*
 * What a command reads and hands on to the daemon
 *
 * Files are opened here, so that nobody has the daemon read for them what they may not read.
 */
#include "cli/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/mem.h"
#include "util/cleanup.h"
#include "util/fd.h"

void input_clear(struct input *in)
{
	fd_close(&in->fd);
	free(in->path);
	in->path = NULL;
}

static int open_stdin(struct input *in, struct fault *f)
{
	in->shown = "stdin";
	if (isatty(STDIN_FILENO))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "stdin is a terminal; redirect it from a file or a pipe");
	in->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	return in->fd < 0 ? fault_sys(f, errno, "using stdin", NULL) : 0;
}

static int open_path(struct input *in, const char *path, struct fault *f)
{
	const char *slash = strrchr(path, '/');

	in->shown = slash && slash[1] ? slash + 1 : path;
	in->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return in->fd < 0 ? fault_sys(f, errno, "opening", path) : 0;
}

int input_open(struct input *in, const char *path, struct fault *f)
{
	char link[48];
	struct stat st;
	off_t at;
	int r;

	*in = (struct input){ .fd = -1 };
	r = strcmp(path, "-") == 0 ? open_stdin(in, f) : open_path(in, path, f);
	if (r < 0)
		return r;
	if (fstat(in->fd, &st) < 0)
		return fault_sys(f, errno, "looking at", path);
	if (S_ISDIR(st.st_mode)) {
		in->folder = true;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", in->fd);
		in->path = realpath(link, NULL);
		return in->path ? 0 : fault_sys(f, errno, "resolving", path);
	}
	at = lseek(in->fd, 0, SEEK_CUR);
	if (S_ISREG(st.st_mode) && at >= 0 && st.st_size > at)
		in->size = (uint64_t)st.st_size;
	return 0;
}
