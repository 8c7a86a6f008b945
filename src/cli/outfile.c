// SPDX-License-Identifier: Apache-2.0
/*
 * A file that the daemon writes for a command
 *
 * The daemon writes into an fd of ours. A file is written beside its name and put in its place when
 * it is complete, so that a failed export neither leaves half a file nor loses the one that was
 * there.
 */
#include "cli/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/create.h"
#include "cli/mem.h"
#include "util/cleanup.h"
#include "util/fd.h"

void outfile_clear(struct outfile *out)
{
	fd_close(&out->fd);
	if (out->temporary)
		unlink(out->temporary);
	free(out->temporary);
	free(out->path);
}

static int open_stdout(struct outfile *out, struct fault *f)
{
	if (isatty(STDOUT_FILENO))
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"an archive is not for a terminal; give the name of a file, or redirect stdout");
	out->fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return out->fd < 0 ? fault_sys(f, errno, "using stdout", NULL) : 0;
}

static int open_file(struct outfile *out, const char *path, struct fault *f)
{
	struct stat st;
	char id[16];
	char *link;

	out->path = mem_strdup(path);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		out->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return out->fd < 0 ? fault_sys(f, errno, "opening", path) : 0;
	}
	/* What a link leads to is what is replaced. */
	link = realpath(path, NULL);
	if (link) {
		free(out->path);
		out->path = link;
	}
	create_random_id(id, sizeof(id));
	out->temporary = mem_printf("%s.%s.part", out->path, id);
	out->fd = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (out->fd < 0) {
		int err = errno;

		free(TAKE_PTR(out->temporary));
		return fault_sys(f, err, "making the file", path);
	}
	return 0;
}

int outfile_open(struct outfile *out, const char *path, struct fault *f)
{
	*out = (struct outfile){ .fd = -1 };
	return strcmp(path, "-") == 0 ? open_stdout(out, f) : open_file(out, path, f);
}

int outfile_finish(struct outfile *out, struct fault *f)
{
	if (out->temporary && rename(out->temporary, out->path) < 0)
		return fault_sys(f, errno, "renaming the archive to", out->path);
	free(TAKE_PTR(out->temporary));
	return 0;
}
