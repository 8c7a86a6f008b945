// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: removing a container's folders
 *
 * Removal walks each hierarchy from the deepest folder up. A process that has just been reaped
 * may hold its group for a moment longer: then v2's cgroup.events is polled, and rmdir tried
 * again a bounded number of times. Nobody is killed here.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define REMOVE_PATIENCE (200 * 1000000ll) /* ns that a removal waits for exited processes */
#define REMOVE_DEPTH 64 /* folders below each other; more is somebody's trick */

/*
 * rmdir of name below dirfd, and of all folders in it. Returns 0 or -errno; a folder that is gone
 * is fine.
 */
static int remove_tree(int dirfd, const char *name, int depth)
{
	struct dirent *e;
	int fd, r = 0;
	DIR *dir;

	if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return -errno;
	if (depth > REMOVE_DEPTH)
		return -ELOOP;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	while ((e = readdir(dir))) {
		int child;

		if (e->d_type != DT_DIR || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		child = remove_tree(fd, e->d_name, depth + 1);
		if (child < 0)
			r = child;
	}
	closedir(dir);
	if (r < 0)
		return r;
	if (!unlinkat(dirfd, name, AT_REMOVEDIR) || errno == ENOENT)
		return 0;
	return -errno;
}

/* Lets a moment pass, at most ms, less when the v2 group runs empty meanwhile. */
static void remove_wait(int events, int ms)
{
	struct pollfd p = { .fd = events, .events = POLLPRI };
	struct timespec ts = { .tv_nsec = ms * 1000000l };
	char text[256];

	/* a read arms the next notification */
	if (events >= 0 && pread(events, text, sizeof(text), 0) > 0)
		poll(&p, 1, ms);
	else
		nanosleep(&ts, NULL);
}

int cgroup_remove(struct cgroup *cg, struct fault *f)
{
	struct cgroup_host *h = cg->host;
	int64_t end = clock_mono() + REMOVE_PATIENCE;
	CLEANUP_CLOSE int events = -1;
	char shown[PATH_MAX];
	size_t at = 0;
	int r = 0;

	for (int ms = 1;; ms = ms < 32 ? ms * 2 : ms) {
		r = 0;
		for (size_t i = 0; i < h->n; i++) {
			int one = remove_tree(h->h[i].fd, cg->path + 1, 0);

			if (one < 0) {
				r = one;
				at = i;
			}
		}
		if (r != -EBUSY || clock_mono() >= end)
			break;
		if (events < 0)
			events = cgroup_events_open(cg);
		remove_wait(events, ms);
	}
	if (r < 0) {
		cgroup_show(h, (int)at, cg->path, "", shown, sizeof(shown));
		if (r == -EBUSY)
			fault_set(f, FAULT_FAILED_PRECONDITION, EBUSY,
				  "the cgroup %s still has processes", shown);
		else
			fault_sys(f, -r, "remove the cgroup", shown);
		fault_at(f, "remove the cgroup", shown);
	}
	return r;
}

void cgroup_prune(struct cgroup_host *h, const char *ns)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", h->parent, ns) >= (int)sizeof(path) ||
	    cgroup_path_check(path) < 0)
		return;
	pthread_mutex_lock(&h->lock);
	/* rmdir refuses what is not empty, which is how it is found out */
	for (size_t i = 0; i < h->n; i++)
		if (!unlinkat(h->h[i].fd, path + 1, AT_REMOVEDIR) || errno == ENOENT)
			unlinkat(h->h[i].fd, h->parent + 1, AT_REMOVEDIR);
	pthread_mutex_unlock(&h->lock);
}
