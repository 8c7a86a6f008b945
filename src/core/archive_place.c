// SPDX-License-Identifier: Apache-2.0
#include "core/archive_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/request.h"
#include "util/cleanup.h"
#include "util/fault.h"

bool archive_place_given(struct ipc_request *req)
{
	const char *path = ipc_arg_str(req, "path");

	if (!!path == ipc_has(req, "stream"))
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, path ? "stream" : "path",
				path ? "either a path or a stream can be given, not both"
				     : "neither a path nor a stream is given");
	else if (path && *path != '/')
		ipc_reply_error(
			req, FAULT_INVALID_ARGUMENT, "path",
			"'%s' is not absolute; the daemon has no folder of yours to begin at",
			path);
	else
		return true;
	return false;
}

static int failed(struct fault *f, int err, const char *step, const char *path)
{
	int r = fault_sys(f, err, step, path);

	fault_arg(f, "path");
	return r;
}

int archive_source_open(const char *path, int *fd, struct fault *f)
{
	struct stat st;

	*fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return failed(f, errno, "open", path);
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return 0;
	fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s is neither a file nor a folder", path);
	fault_arg(f, "path");
	return -EINVAL;
}

int archive_target_open(const char *path, mode_t mode, int *fd, char **temporary, struct fault *f)
{
	unsigned long long random;
	struct stat st;
	int r;

	*temporary = NULL;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		*fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		return *fd < 0 ? failed(f, errno, "open", path) : 0;
	}
	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fault_sys(f, errno, "getrandom", NULL);
	if (asprintf(temporary, "%s.%016llx.tmp", path, random) < 0) {
		*temporary = NULL;
		return fault_sys(f, ENOMEM, "open", path);
	}
	*fd = open(*temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (*fd >= 0)
		return 0;
	r = failed(f, errno, "make a file beside", path);
	free(TAKE_PTR(*temporary));
	return r;
}

int archive_target_end(const char *path, int fd, const char *temporary, int result, struct fault *f)
{
	if (!temporary)
		return result;
	if (!result && fsync(fd) < 0)
		result = fault_sys(f, errno, "sync", path);
	if (!result && rename(temporary, path) < 0)
		result = fault_sys(f, errno, "name the archive", path);
	if (result < 0)
		unlink(temporary);
	return result;
}
