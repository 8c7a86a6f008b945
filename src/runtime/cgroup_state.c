// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: the state of a group: frozen, populated, hit by the OOM killer
 *
 * Where there is a v2 hierarchy its cgroup.freeze is used, on hybrid hosts too: every group of
 * davit's has a folder there, frozen processes can still be killed and traced, and the state
 * comes as an event. Only without it (v1 alone, or kernels before 5.2) the v1 freezer does it,
 * which has to be asked again and again: a group that stays FREEZING is told FROZEN once more
 * each time, as the kernel's freezer-subsystem.rst says.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

/* The number after "KEY " in a flat keyed file, or -errno. */
static int64_t keyed_read(struct cgroup *cg, int hierarchy, const char *file, const char *key)
{
	CLEANUP_FREE char *text = NULL;
	size_t n = strlen(key);
	int r = cgroup_file_read(cg->host, hierarchy, cg->path, file, &text);

	if (r < 0)
		return r;
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (!strncmp(line, key, n) && line[n] == ' ')
			return strtoll(line + n + 1, NULL, 10);
	return -ENODATA;
}

int cgroup_freeze(struct cgroup *cg, bool freeze, struct fault *f)
{
	struct cgroup_host *h = cg->host;
	const char *what = freeze ? "freeze the cgroup" : "thaw the cgroup";
	int r = -ENOENT;

	if (h->v2 >= 0)
		r = cgroup_file_write(h, h->v2, cg->path, "cgroup.freeze", freeze ? "1" : "0");
	if (r == -ENOENT && h->freezer >= 0)
		r = cgroup_file_write(h, h->freezer, cg->path, "freezer.state",
				      freeze ? "FROZEN" : "THAWED");
	else if (r == -ENOENT && h->v2 < 0)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"this host has neither cgroup v2 nor the \"freezer\" controller of v1");
	return r < 0 ? fault_sys(f, -r, what, cg->path) : 0;
}

int cgroup_thaw_killed(struct cgroup *cg)
{
	struct cgroup_host *h = cg->host;
	char path[PATH_MAX];
	int r;

	if (h->freezer < 0)
		return 0;
	if (h->v2 >= 0) {
		if (snprintf(path, sizeof(path), "%s/cgroup.freeze", cg->path + 1) >=
		    (int)sizeof(path))
			return -ENAMETOOLONG;
		if (!faccessat(h->h[h->v2].fd, path, F_OK, 0))
			return 0;
	}
	r = cgroup_file_write(h, h->freezer, cg->path, "freezer.state", "THAWED");
	return r == -ENOENT ? 0 : r;
}

int cgroup_frozen(struct cgroup *cg)
{
	struct cgroup_host *h = cg->host;
	CLEANUP_FREE char *state = NULL;
	int r = -ENODATA;

	if (h->v2 >= 0)
		r = (int)keyed_read(cg, h->v2, "cgroup.events", "frozen");
	if (r != -ENODATA || h->freezer < 0)
		return r;
	r = cgroup_file_read(h, h->freezer, cg->path, "freezer.state", &state);
	if (r < 0)
		return r;
	if (!strncmp(state, "FROZEN", 6))
		return 1;
	if (!strncmp(state, "FREEZING", 8)) {
		r = cgroup_file_write(h, h->freezer, cg->path, "freezer.state", "FROZEN");
		if (r < 0)
			return r;
	}
	return 0;
}

int cgroup_events_open(struct cgroup *cg)
{
	int fd = cg->host->v2 < 0 ? -1
				  : cgroup_file_open(cg->host, cg->host->v2, cg->path,
						     "cgroup.events", O_RDONLY);

	return fd < 0 ? -1 : fd;
}

int cgroup_populated(struct cgroup *cg)
{
	pid_t *pids = NULL;
	size_t n = 0;
	int r;

	if (cg->host->v2 >= 0)
		return (int)keyed_read(cg, cg->host->v2, "cgroup.events", "populated");
	r = cgroup_pids(cg, &pids, &n, NULL);
	free(pids);
	return r < 0 ? r : n > 0;
}

int64_t cgroup_oom_kills(struct cgroup *cg)
{
	struct cgroup_host *h = cg->host;
	int i = cgroup_host_find(h, "memory");
	int64_t r;

	if (i < 0)
		return 0;
	r = keyed_read(cg, i, h->h[i].v2 ? "memory.events" : "memory.oom_control", "oom_kill");
	if (r == -ENODATA) /* v1 counts since Linux 4.13 */
		return 0;
	/* on v2 the controller may end above this group, which is there all the same */
	if (r == -ENOENT && h->h[i].v2 && !faccessat(h->h[i].fd, cg->path + 1, F_OK, 0))
		return 0;
	return r;
}
