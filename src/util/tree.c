// SPDX-License-Identifier: Apache-2.0
/*
 * Folders and all that is in them
 *
 * Works with fds, a name at a time, so that nobody can lead it elsewhere by exchanging a folder for a
 * link while it is at work.
 *
 * Folders may be nested deeper than a process may have files open, or a thread has stack. So it goes
 * down LEVELS only: a folder that is further down is moved up, to where the removal began, under a
 * name that nothing there has, and its turn comes with the next look at the top. Whoever removes looks
 * until there is nothing left, so of several at the same folder none is done before the others.
 */
#include "util/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

#define LEVELS 32

struct removal {
	int top;
	dev_t dev;
	const struct cancel *cancel;
	int64_t began; /* with serial: for names */
	unsigned long seen, serial; /* seen: entries of top */
};

static int remove_below(struct removal *r, int fd, unsigned level);

static int move_up(struct removal *r, int folder, const char *name)
{
	char to[80];

	for (;;) {
		/* never one that another removal here, or this one, has had: who is at it yet means the old one */
		snprintf(to, sizeof(to), "removed.%llx.%llx.%lu", (unsigned long long)r->began,
			 (unsigned long long)(uintptr_t)r, r->serial++);
		if (renameat2(folder, name, r->top, to, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return errno == ENOENT ? 0 : -errno;
	}
}

/* One name in a folder; a mount point is left, and is an error. */
static int remove_entry(struct removal *r, int folder, const char *name, unsigned level)
{
	CLEANUP_CLOSE int fd = -1;
	struct stat st;
	int result;

	if (cancelled(r->cancel))
		return -ECANCELED;
	if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != r->dev)
		return -EBUSY;
	if (level == LEVELS)
		return move_up(r, folder, name);
	result = remove_below(r, fd, level + 1);
	if (result < 0)
		return result;
	return unlinkat(folder, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* All entries are tried; the first failure is returned. */
static int remove_below(struct removal *r, int fd, unsigned level)
{
	/* a duplicate would share the offset, and find nothing the second time */
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result = 0;
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!dir) {
		result = -errno;
		if (own >= 0)
			close(own);
		return result;
	}
	while ((errno = 0, e = readdir(dir))) {
		int one;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		r->seen += !level;
		one = remove_entry(r, fd, e->d_name, level);
		if (one < 0 && !result)
			result = one;
		if (one == -ECANCELED)
			break;
	}
	if (!result && errno)
		result = -errno;
	closedir(dir);
	return result;
}

int tree_empty(int fd, const struct cancel *cancel)
{
	struct removal r = { .top = fd, .cancel = cancel, .began = clock_now() };
	struct stat st;
	int result;

	if (fstat(fd, &st) < 0)
		return -errno;
	r.dev = st.st_dev;
	do {
		r.seen = 0;
		result = remove_below(&r, fd, 0);
	} while (!result && r.seen);
	return result;
}

int tree_remove(int folder, const char *name, const struct cancel *cancel)
{
	CLEANUP_CLOSE int fd = -1;
	int result;

	if (cancelled(cancel))
		return -ECANCELED;
	if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	result = tree_empty(fd, cancel);
	if (result < 0)
		return result;
	return unlinkat(folder, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}
