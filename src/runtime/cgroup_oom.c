// SPDX-License-Identifier: Apache-2.0
/*
 * How many processes of a group the OOM killer has ended
 *
 * v1 counts in memory.oom_control ("oom_kill N", since Linux 4.13), v2 in memory.events. Both are short files of
 * kernfs that never block.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup_internal.h"
#include "util/cleanup.h"

int64_t cgroup_oom_kills(struct cgroup *cg)
{
	int at = cgroup_host_find(cg->host, "memory"), r;
	CLEANUP_FREE char *text = NULL;
	const char *line;

	if (at < 0)
		return 0;
	r = cgroup_file_read(cg->host, at, cg->path,
			     cg->host->h[at].v2 ? "memory.events" : "memory.oom_control", &text);
	if (r < 0)
		return r;
	for (line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, "oom_kill ", 9))
			return strtoll(line + 9, NULL, 10);
	}
	return 0;
}
