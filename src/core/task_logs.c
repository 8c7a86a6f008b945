// SPDX-License-Identifier: Apache-2.0
/*
 * Where the logs of a container are
 *
 * A folder a container, so that no container's id and exec's id together can be another's, and the end of a container is the end of
 * its folder. A log whose pipe outlives the container goes on into a file without a name.
 */
#include "core/task_logs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/log.h"
#include "util/worker.h"

struct logs_job {
	struct worker_job job; /* first */
	int root;
	char path[];
};

DEFINE_CLEANUP(DIR *, closedir)

void task_log_path(const struct davit *d, const char *ns, const char *id, const char *exec_id,
		   char *buf, size_t size)
{
	if (exec_id)
		snprintf(buf, size, "%s/logs/%s/%s/exec-%s.log", d->config.root, ns, id, exec_id);
	else
		snprintf(buf, size, "%s/logs/%s/%s/init.log", d->config.root, ns, id);
}

static void logs_run(struct worker_job *job)
{
	struct logs_job *j = (struct logs_job *)job;
	CLEANUP(closedirp) DIR *dir = NULL;
	int fd = openat(j->root, j->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;

	if (fd < 0)
		return; /* it never logged */
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return;
	}
	while ((e = readdir(dir)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(fd, e->d_name, 0);
	if (unlinkat(j->root, j->path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_warn("%s cannot be removed: %s", j->path, strerrordesc_np(errno));
}

static void logs_done(struct worker_job *job)
{
	free(job);
}

void task_logs_remove(struct davit *d, const char *ns, const char *id)
{
	size_t size = strlen(ns) + strlen(id) + sizeof("logs//");
	struct logs_job *j = calloc(1, sizeof(*j) + size);

	if (!j) {
		log_warn("the container %s/%s: no memory to remove its logs", ns, id);
		return;
	}
	j->root = d->root_fd;
	snprintf(j->path, size, "logs/%s/%s", ns, id);
	j->job.run = logs_run;
	j->job.done = logs_done;
	worker_submit(d->workers, &j->job);
}
