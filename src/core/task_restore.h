// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: a created task that comes from a checkpoint
 *
 * The part of tasks.create that takes the launch's place. task_restore.c has the design.
 */
#pragma once

#include "core/task_internal.h"
#include "runtime/launch.h"
#include "runtime/spec.h"

struct restore;

/*
 * Reads what the request says of a checkpoint: the argument `checkpoint` and the options that belong to
 * it. *out is NULL when it does not ask for a restore. Wrong ones: FAULT_INVALID_ARGUMENT.
 */
int restore_new(struct restore **out, struct davit *d, struct ipc_request *req, struct fault *f);
/* What was restored, as the request named it: a name, a folder or a digest; "" for NULL. Borrowed. */
const char *restore_label(const struct restore *r);
/* One of those options, by its name: they are not the launch's. */
bool restore_has_option(const char *name);

struct restore_start {
	const struct spec *spec; /* the live container's */
	const char *ns, *id, *bundle;
	const struct launch_mount *rootfs;
	size_t n_rootfs;
	struct stdio *io; /* opened */
	struct cgroup *cgroup;
};
/* On a worker: the checkpoint is read and checked, criu's folder, mounts and fds are made ready. */
int restore_prepare(struct restore *r, const struct restore_start *s, struct fault *f);
/*
 * On the reactor: criu begins. p gets EVENT_READY when its processes are there and held, with p->pid,
 * pidfd and watch set, or EVENT_FAILED when criu has ended. p->restore is r.
 */
void restore_begin(struct restore *r, struct process *p);
/* Lets the held processes run: EVENT_STARTED or EVENT_FAILED follows. 0 or -EPIPE. */
int restore_release(struct restore *r);
/*
 * Its init has ended while it was being released: it may have run, or criu may have failed. EVENT_STARTED
 * or EVENT_FAILED and then EVENT_EXITED follow.
 */
void restore_task_ended(struct restore *r);
/*
 * At the start, for a task that was released by a daemon that is no more: its limits, which were wider while
 * criu was in its cgroup, are the spec's. All its processes are killed when they do not fit.
 */
int restore_limits_recover(struct cgroup *cg, const struct spec *spec, struct fault *f);
/* Not wanted any more: criu undoes what there is; EVENT_FAILED follows unless r is freed. */
void restore_cancel(struct restore *r);
/* Nothing more is heard of it. NULL is fine. */
void restore_free(struct restore *r);
