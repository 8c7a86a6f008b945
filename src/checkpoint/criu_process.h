// SPDX-License-Identifier: Apache-2.0
/*
 * Starting criu: a process with a mount namespace of its own and exactly the fds it is to have
 *
 * Its mounts are those that the daemon sees when it is started. criu keeps what it found out about the
 * kernel in /run/criu.kdat, but only where /run is a tmpfs; without, each start costs some 30 ms. So where
 * the host's is none, all get the same tmpfs there (struct criu_base).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/fault.h"

struct criu_base;
/* Blocks for a moment: for a worker, or the start. */
int criu_base_new(struct criu_base **out, struct fault *f);
void criu_base_free(struct criu_base *b); /* NULL is fine */

enum criu_step_kind {
	CRIU_MOUNT_TREE, /* fd: a detached mount, moved to target */
	CRIU_MOUNT_TMPFS, /* target; data: mount options; flags: MS_… */
	CRIU_MKDIR, /* target, 0755 */
	CRIU_REMOUNT, /* target: flags, with MS_BIND | MS_REMOUNT */
	CRIU_JOIN, /* fd: a v1 cgroup's tasks file: joined by writing 0 */
	CRIU_CGROUP_NS, /* a cgroup namespace of its own from here on */
};
struct criu_step {
	enum criu_step_kind kind;
	int fd;
	const char *target, *data;
	unsigned long flags;
};

struct criu_start {
	const char *path; /* the program */
	char *const *argv;
	const struct criu_step *steps; /* in order, before the exec */
	size_t n_steps;
	const int *fds; /* get the numbers CRIU_FD_FIRST and up, in this order */
	size_t n_fds;
	/* folders that it has to see, absolute and without links, although /run may be covered */
	const char *const *see;
	size_t n_see; /* CRIU_SEE_MOST at most */
	const char *first; /* a folder where programs are looked for first; NULL */
	const char *preload; /* "LD_PRELOAD=…" for its environment; NULL: nothing */
	int output; /* becomes stdout and stderr */
	int cgroup; /* the folder of a v2 cgroup in which it begins; 0 or negative: the daemon's */
};
#define CRIU_FD_FIRST 10
#define CRIU_SEE_MOST 4

/*
 * Returns when criu's exec has succeeded, with its pid: a child of this process, which the caller
 * reaps. All fds stay the caller's. The fault names the step that failed; then there is a child too
 * if *pid is not 0, already dead.
 */
int criu_process_start(const struct criu_base *b, const struct criu_start *s, pid_t *pid,
		       struct fault *f);
