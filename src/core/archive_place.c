// SPDX-License-Identifier: Apache-2.0
#include "core/archive_place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* t->temporary: a name beside the place that nothing has. 0 or negative */
static int name_beside(struct archive_target *t, struct fault *f)
{
	unsigned long long random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fault_sys(f, errno, "getrandom", NULL);
	if (asprintf(&t->temporary, "%s.%016llx.tmp", t->path, random) < 0) {
		t->temporary = NULL;
		return fault_sys(f, ENOMEM, "open", t->path);
	}
	return 0;
}

/* In the folder of the place. -1: this file system has none, or the folder is not there. */
static int open_unnamed(const char *path, mode_t mode)
{
	const char *slash = strrchr(path, '/');
	CLEANUP_FREE char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;

	return folder ? open(folder, O_WRONLY | O_TMPFILE | O_CLOEXEC, mode) : -1;
}

int archive_target_open(struct archive_target *t, const char *path, mode_t mode, int *fd,
			struct fault *f)
{
	struct stat st;
	int r;

	*t = (struct archive_target){ .path = path };
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		t->as_it_is = true;
		*fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		return *fd < 0 ? failed(f, errno, "open", path) : 0;
	}
	*fd = open_unnamed(path, mode);
	if (*fd >= 0)
		return 0;
	r = name_beside(t, f);
	if (r < 0)
		return r;
	*fd = open(t->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (*fd >= 0)
		return 0;
	r = failed(f, errno, "make a file beside", path);
	free(TAKE_PTR(t->temporary));
	return r;
}

/*
 * A link never replaces what is there (linkat(2)), a rename does: so what is to be replaced costs a
 * name beside it, for as long as it takes to rename that.
 */
static int give_name(struct archive_target *t, int fd, struct fault *f)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, path, AT_FDCWD, t->path, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno != EEXIST)
		return fault_sys(f, errno, "name the archive", t->path);
	r = name_beside(t, f);
	if (!r && linkat(AT_FDCWD, path, AT_FDCWD, t->temporary, AT_SYMLINK_FOLLOW) < 0)
		r = fault_sys(f, errno, "name the archive", t->path);
	return r;
}

int archive_target_end(struct archive_target *t, int fd, int result, struct fault *f)
{
	if (t->as_it_is || !t->path)
		return result;
	if (!result && fsync(fd) < 0)
		result = fault_sys(f, errno, "sync", t->path);
	if (!result && !t->temporary)
		result = give_name(t, fd, f);
	if (!result && t->temporary && rename(t->temporary, t->path) < 0)
		result = fault_sys(f, errno, "name the archive", t->path);
	if (result < 0 && t->temporary)
		unlink(t->temporary);
	free(TAKE_PTR(t->temporary));
	return result;
}
