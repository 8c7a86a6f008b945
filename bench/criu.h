// SPDX-License-Identifier: Apache-2.0
/*
 * Benches: criu as a child, in a mount namespace where it finds what it knows of the kernel
 *
 * criu keeps that in /run/criu.kdat, but only where /run is a tmpfs: the folder given for it lies on
 * one, and is bound there.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "checkpoint/stats_dump.h"

static inline _Noreturn void criu_die(const char *what, int err)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(err));
	exit(1);
}

/* The caller's own mounts from here on. */
static inline void criu_own_mounts(const char *run)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		criu_die("mount namespace", errno);
	if (run && mount(run, "/run", NULL, MS_BIND, NULL) < 0)
		criu_die(run, errno);
}

static inline pid_t criu_start(char **argv)
{
	pid_t pid = vfork();

	if (pid < 0)
		criu_die("vfork", errno);
	if (!pid) {
		execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static inline void criu_end(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			criu_die("waitpid", errno);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "bench: criu failed (%s %d): see its log\n",
			WIFEXITED(status) ? "exit" : "signal",
			WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
		exit(1);
	}
}

/* What criu says of the time that the task stood still, from its work folder. */
static inline double criu_frozen_us(const char *work)
{
	char path[4096], data[4096];
	struct stats_dump s;
	struct fault f = { 0 };
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/" STATS_DUMP_FILE, work);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, data, sizeof(data));
	if (n < 0)
		criu_die(path, errno);
	close(fd);
	if (stats_dump_read(&s, data, (size_t)n, &f) < 0) {
		fprintf(stderr, "bench: %s: %s\n", path, f.message);
		exit(1);
	}
	return (double)(s.freezing_time + s.frozen_time);
}
