// SPDX-License-Identifier: Apache-2.0
/*
 * Whose process is it: for exits that the guardian reports
 *
 * The guardian becomes the parent of anything that is orphaned, and pids come round again; so a
 * status counts only when a task has a process of this pid and start time. A walk over all of them:
 * such statuses are rare.
 */
#include "core/task.h"
#include "core/task_internal.h"

static bool is_it(const struct process *p, pid_t pid, uint64_t starttime)
{
	return p->pid == pid && (!starttime || !p->starttime || p->starttime == starttime);
}

bool tasks_have_process(struct davit *d, pid_t pid, uint64_t starttime)
{
	struct process *p;
	struct task *t;

	RB_FOREACH (t, task_tree, &d->tasks->tree) {
		if (is_it(&t->init, pid, starttime))
			return true;
		RB_FOREACH (p, process_tree, &t->execs)
			if (is_it(p, pid, starttime))
				return true;
	}
	return false;
}
