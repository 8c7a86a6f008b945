// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: v2, hybrid and v1 hosts
 *
 * libcgroup finds controllers and mounts and sets and reads values (under one lock: it is not
 * made for threads); on the way of a start and an end, folders are made, joined and removed by
 * mkdirat, cgroup.procs and rmdir below the mounts' fds. All calls block and are for workers,
 * unless said otherwise. A path is relative to each hierarchy's mount, begins with '/', and has
 * no "..".
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/spec.h"
#include "util/fault.h"

struct cgroup_host; /* the host's layout, found once */
struct cgroup; /* one container's group, in every hierarchy */

enum cgroup_layout { CGROUP_V1, CGROUP_HYBRID, CGROUP_V2 };

/*
 * parent: default parent path as "/davit" (made on first use). On v2 under a delegated unit:
 * moves the calling process into a leaf first when it has to.
 */
int cgroup_host_new(struct cgroup_host **out, const char *parent, struct fault *f);
void cgroup_host_free(struct cgroup_host *h);
enum cgroup_layout cgroup_host_layout(const struct cgroup_host *h);
/* "hybrid: cpu cpuacct … + v2 (hugetlb)" */
const char *cgroup_host_describe(const struct cgroup_host *h);
bool cgroup_host_has(const struct cgroup_host *h, const char *controller);

/*
 * Which path a container gets: spec's cgroupsPath (absolute, relative to the parent, or systemd's
 * slice:prefix:name form), else PARENT/NS/ID. buf of PATH_MAX.
 */
int cgroup_path_for(const struct cgroup_host *h, const char *cgroups_path, const char *ns,
		    const char *id, char *buf, size_t size, struct fault *f);

/*
 * Makes the leaf in every hierarchy (parents as needed); a leaf that exists in any is
 * already_exists, never adopted, and what was made is removed again. Then sets linux.resources
 * (NULL: none) and the device rules (v1 devices.allow/deny, v2 BPF). The handle is small (a path
 * and no open fds but while cgroup_join fds are out).
 */
int cgroup_create(struct cgroup_host *h, const char *path, const struct spec *spec,
		  struct cgroup **out, struct fault *f);
/* A handle on one that exists (exec, take-over after a restart). Does not touch the file system. */
int cgroup_open(struct cgroup_host *h, const char *path, struct cgroup **out);
/*
 * The handle, not the group. libcgroup exports a cgroup_free too, so this one has another name
 * for the linker.
 */
void cgroup_free(struct cgroup *cg) __asm__("davit_cgroup_free");
const char *cgroup_path(const struct cgroup *cg);

/*
 * For a new process of one thread: fds of "tasks" of each v1 hierarchy, into which it writes "0" itself, and of the
 * v2 folder for CLONE_INTO_CGROUP (or -1). A thread that moves itself needs no lock over all processes, while
 * "cgroup.procs" of either version takes one that waits for RCU, 15 ms on a host that was idle. Closed by
 * cgroup_join_close.
 */
struct cgroup_join {
	int tasks[16];
	size_t n;
	int v2_dir; /* O_PATH; -1 when there is no v2 hierarchy */
};
int cgroup_join_open(const struct cgroup *cg, struct cgroup_join *join, struct fault *f);
void cgroup_join_close(struct cgroup_join *join);

/* All pids in the group and its children; *pids malloc'ed. */
int cgroup_pids(struct cgroup *cg, pid_t **pids, size_t *n, struct fault *f);
/* 1: the process is in the group itself, in every hierarchy; 0: it is not in one of them; or -errno */
int cgroup_has(struct cgroup *cg, pid_t pid);
/*
 * Signal to every process of the group and its children: cgroup.kill for SIGKILL where v2 has it,
 * else by pid until none is new. Returns 0 or -errno.
 */
int cgroup_signal(struct cgroup *cg, int sig);
/*
 * Freezing: writes the request and returns at once. cgroup_frozen tells how far it is: 1 frozen,
 * 0 not. cgroup_events_open's fd is to be polled for POLLPRI (v2 cgroup.events: EPOLLPRI), -1 on v1 where the
 * freezer has to be asked again (cgroup_frozen then also re-writes FROZEN as the kernel's
 * documentation says).
 */
/* Absolute path of the folder that has the freezer's files, malloc'ed; NULL without one, or memory. */
char *cgroup_freezer_path(const struct cgroup *cg);
/* The same of the hierarchy with these controllers ("" is v2), at its mount on this host. */
char *cgroup_hierarchy_path(const struct cgroup *cg, const char *controllers);
int cgroup_freeze(struct cgroup *cg, bool freeze, struct fault *f);
int cgroup_frozen(struct cgroup *cg);
/*
 * Lets a group whose processes were sent SIGKILL run, where frozen ones do not see it (the v1 freezer); elsewhere
 * nothing is done. 0 or -errno. Does not block.
 */
int cgroup_thaw_killed(struct cgroup *cg);
/*
 * fd of v2's cgroup.events for populated and frozen (changes: EPOLLPRI), or -1 without a v2
 * hierarchy. The caller closes it.
 */
int cgroup_events_open(struct cgroup *cg);
int cgroup_populated(struct cgroup *cg); /* 1, 0 or -errno */
/*
 * Removes the group with its children in every hierarchy. -EBUSY while processes are in it. A
 * folder that is gone already is fine.
 */
int cgroup_remove(struct cgroup *cg, struct fault *f);
/*
 * Removes PARENT/NS in every hierarchy when it is empty, then PARENT. Called at the daemon's end
 * and when a namespace goes.
 */
void cgroup_prune(struct cgroup_host *h, const char *ns);
/*
 * How many of its processes the OOM killer has ended; 0 without a memory controller, or -errno.
 * Does not block.
 */
int64_t cgroup_oom_kills(struct cgroup *cg);
/* New values: OCI LinuxResources, all or nothing (old values are put back when one fails). */
int cgroup_update(struct cgroup *cg, json_object *resources, struct fault *f);
/*
 * The same with lower limits of memory, for a group whose use may lie above them with what the kernel
 * can reclaim: it does. Nobody is killed, and some values may have been set, when more than that is in use:
 * FAULT_FAILED_PRECONDITION, -EBUSY. Device rules are left alone.
 */
int cgroup_narrow(struct cgroup *cg, json_object *resources, struct fault *f);
