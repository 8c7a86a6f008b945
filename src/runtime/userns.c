// SPDX-License-Identifier: Apache-2.0
/*
 * User namespaces, from outside: id maps, and namespaces that only stand for a mapping
 *
 * The maps of a new container are written by the parent. An id-mapped mount wants a user namespace's fd: a process is cloned into a new one, its maps
 * are written, its namespace is opened, and it is ended. It has no exit signal, so the daemon's reaper does not see it; it is waited
 * for here.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/sched.h>

#include "runtime/plan.h"
#include "util/cleanup.h"
#include "util/fd.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

char *userns_map(const struct spec_idmaps *maps)
{
	char *out = malloc(maps->n * 40 + 1), *at = out;

	if (!out)
		return NULL;
	*at = 0;
	for (size_t i = 0; i < maps->n; i++)
		at += sprintf(at, "%u %u %u\n", maps->v[i].container_id, maps->v[i].host_id,
			      maps->v[i].size);
	return out;
}

static int write_proc(pid_t pid, const char *name, const char *text, struct fault *f)
{
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	r = fd_write_file(AT_FDCWD, path, text);
	return r < 0 ? fault_sys(f, -r, "write", path) : 0;
}

int userns_write(pid_t pid, const char *uid_map, const char *gid_map, struct fault *f)
{
	int r = write_proc(pid, "uid_map", uid_map, f);

	if (r < 0)
		return r;
	r = write_proc(pid, "gid_map", gid_map, f);
	if (r != -EPERM)
		return r;
	/* without CAP_SETGID outside, groups can only be mapped by who gives up changing them */
	r = write_proc(pid, "setgroups", "deny", f);
	return r < 0 ? r : write_proc(pid, "gid_map", gid_map, f);
}

int userns_open(const struct spec_idmaps *uids, const struct spec_idmaps *gids, int *fd,
		struct fault *f)
{
	CLEANUP_FREE char *uid_map = userns_map(uids), *gid_map = userns_map(gids);
	CLEANUP_CLOSE int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_NEWUSER | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
	};
	siginfo_t info;
	char path[64];
	long pid;
	int r;

	if (!uid_map || !gid_map)
		return plan_no_memory(f);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return fault_sys(f, errno, "clone", "user namespace");
	if (!pid) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		(void)syscall(SYS_close_range, 0, ~0u, 0);
		for (;;)
			(void)syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	}
	r = userns_write((pid_t)pid, uid_map, gid_map, f);
	if (!r) {
		snprintf(path, sizeof(path), "/proc/%ld/ns/user", pid);
		*fd = open(path, O_RDONLY | O_CLOEXEC);
		if (*fd < 0)
			r = fault_sys(f, errno, "open", path);
	}
	(void)fd_pidfd_send_signal(pidfd, SIGKILL);
	while (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | __WALL) < 0 &&
	       errno == EINTR)
		;
	return r;
}
