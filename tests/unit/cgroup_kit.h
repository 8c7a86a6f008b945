// SPDX-License-Identifier: Apache-2.0
/*
 * For tests that make cgroups: one at a time on this machine, beginning on clean ground
 */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>

#include "runtime/cgroup.h"
#include "util/fault.h"

/*
 * The host with a parent of the tests' own. What a test that was ended before its time has left there is removed; the
 * lock is this process's until it ends. NULL: skipped, and said why.
 */
static inline struct cgroup_host *cgroup_kit_begin(const char *parent)
{
	struct cgroup_host *host = NULL;
	struct fault f = { 0 };
	struct cgroup *left;
	int fd;

	if (geteuid()) {
		fprintf(stderr, "SKIPPED: cgroup tests need root\n");
		return NULL;
	}
	/* on a folder that is there anyhow, so that the lock leaves nothing behind */
	fd = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX) < 0) {
		perror("SKIPPED: cgroup tests: lock /sys/fs/cgroup");
		return NULL;
	}
	if (cgroup_host_new(&host, parent, &f) < 0) {
		fprintf(stderr, "SKIPPED: cgroup tests: %s\n", f.message);
		return NULL;
	}
	if (cgroup_open(host, parent, &left) == 0) {
		cgroup_freeze(left, false, NULL);
		cgroup_signal(left, SIGKILL);
		if (cgroup_remove(left, &f) < 0)
			fprintf(stderr, "%s\n", f.message);
		cgroup_free(left);
	}
	return host;
}

/* Of a child of one thread that has just been forked: whether it is in the group now, in all hierarchies. */
static inline bool cgroup_kit_join(const struct cgroup_join *join)
{
	bool ok = true;

	for (size_t i = 0; i < join->n; i++)
		ok &= write(join->tasks[i], "0", 1) == 1;
	if (join->v2_dir >= 0) {
		int fd = openat(join->v2_dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);

		ok &= fd >= 0 && write(fd, "0", 1) == 1;
		close(fd);
	}
	return ok;
}
