// SPDX-License-Identifier: Apache-2.0
/*
 * Tasks: the table, and the memory of tasks and processes
 *
 * A task is in the tree from the beginning of its create to the end of its delete. Its memory may live longer: as long as a worker's job
 * points to it (task_job_begin, task_job_end). Removing takes everything that could still call back out of the loop first
 * (watches, events, hooks, waiters), so a removed task is only memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/hookrun.h"
#include "core/task.h"
#include "core/task_checkpoint.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "core/tty.h"
#include "util/cleanup.h"
#include "util/fd.h"

int task_cmp(const struct task *a, const struct task *b)
{
	int r = strcmp(a->ns, b->ns);

	return r ? r : strcmp(a->id, b->id);
}

int process_cmp(const struct process *a, const struct process *b)
{
	return strcmp(a->exec_id, b->exec_id);
}

RB_GENERATE(task_tree, task, node, task_cmp)
RB_GENERATE(process_tree, process, node, process_cmp)

int tasks_new(struct davit *d)
{
	d->tasks = calloc(1, sizeof(*d->tasks));
	if (!d->tasks)
		return -ENOMEM;
	RB_INIT(&d->tasks->tree);
	LIST_INIT(&d->tasks->log_ends);
	return 0;
}

static void pending_drop(struct ipc_request *req, void *user)
{
	struct pending *slot = user;

	(void)req;
	slot->req = NULL;
}

void pending_set(struct pending *slot, struct ipc_request *req)
{
	slot->req = req;
	ipc_request_on_cancel(req, pending_drop, slot);
}

struct ipc_request *pending_take(struct pending *slot)
{
	struct ipc_request *req = slot->req;

	slot->req = NULL;
	if (req)
		ipc_request_on_cancel(req, NULL, NULL);
	return req;
}

/* An answer that is owed when its subject goes away. */
static void pending_abort(struct pending *slot)
{
	struct ipc_request *req = pending_take(slot);

	if (req)
		ipc_reply_error(req, FAULT_ABORTED, NULL,
				"the task went away before this was done");
}

void process_init(struct process *p, struct task *t)
{
	p->task = t;
	p->state = PROCESS_CREATING;
	p->pidfd = -1;
	p->join_pidfd = -1;
	stdio_init(&p->stdio);
	TAILQ_INIT(&p->waiters);
}

static void waiter_free(struct process *p, struct waiter *w)
{
	TAILQ_REMOVE(&p->waiters, w, link);
	free(w);
}

/* Everything but the struct itself. The process runs on, if it does. */
static void process_clear(struct process *p)
{
	struct waiter *w;

	while ((w = TAILQ_FIRST(&p->waiters))) {
		ipc_request_on_cancel(w->req, NULL, NULL);
		ipc_reply_error(w->req, FAULT_ABORTED, NULL, "%s was deleted before it ended",
				process_id(p));
		waiter_free(p, w);
	}
	pending_abort(&p->start);
	pending_abort(&p->delete);
	hook_run_cancel(p->hooks);
	p->hooks = NULL;
	process_release_launch(p);
	reaper_remove(p->watch);
	p->watch = NULL;
	if (p->grace)
		event_free(p->grace);
	p->grace = NULL;
	tty_free(p->tty);
	p->tty = NULL;
	stdio_clear(&p->stdio);
	fd_close(&p->pidfd);
	free(p->fault);
	p->fault = NULL;
	free(p->spec_text);
	p->spec_text = NULL;
	free(p->exec_id);
	p->exec_id = NULL;
}

struct task *task_new(struct davit *d, struct container *c)
{
	struct task *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->d = d;
	t->container = c;
	t->ns = container_ns(c);
	t->id = container_id(c);
	t->events_fd = -1;
	RB_INIT(&t->execs);
	process_init(&t->init, t);
	t->bundle = strdup(container_bundle(c));
	if (!t->bundle) {
		free(t);
		return NULL;
	}
	RB_INSERT(task_tree, &d->tasks->tree, t);
	container_set_task(c, t);
	return t;
}

static void task_free(struct task *t)
{
	cgroup_free(t->cgroup);
	free(t->tidy_fault);
	free(t->bundle);
	free(t->rootfs);
	free(t->wanted_cgroup);
	free(t);
}

void tasks_check_ended(struct davit *d)
{
	void (*ended)(void *) = d->tasks->ended;

	if (!ended || !RB_EMPTY(&d->tasks->tree))
		return;
	d->tasks->ended = NULL;
	ended(d->tasks->ended_user);
}

void task_remove(struct task *t)
{
	struct davit *d = t->d;
	struct process *p;

	if (t->dead)
		return;
	t->dead = true;
	RB_REMOVE(task_tree, &d->tasks->tree, t);
	while ((p = RB_MIN(process_tree, &t->execs)))
		process_remove_exec(p);
	pending_abort(&t->pause);
	pending_abort(&t->create);
	freeze_cancel(t);
	if (t->empty_event)
		event_free(t->empty_event);
	t->empty_event = NULL;
	fd_close(&t->events_fd);
	process_clear(&t->init);
	container_set_task(t->container, NULL);
	t->container = NULL;
	if (!t->jobs)
		task_free(t);
	tasks_check_ended(d);
}

void task_job_begin(struct task *t)
{
	t->jobs++;
}

void task_job_end(struct task *t)
{
	t->jobs--;
	if (t->dead && !t->jobs)
		task_free(t);
}

struct process *process_new_exec(struct task *t, const char *exec_id)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	process_init(p, t);
	p->exec_id = strdup(exec_id);
	if (!p->exec_id) {
		free(p);
		return NULL;
	}
	if (RB_INSERT(process_tree, &t->execs, p)) {
		free(p->exec_id);
		free(p);
		return NULL;
	}
	return p;
}

void process_remove_exec(struct process *p)
{
	RB_REMOVE(process_tree, &p->task->execs, p);
	process_clear(p);
	free(p);
}

void process_key(const struct process *p, const char *kind, const char *name, char *buf,
		 size_t size)
{
	snprintf(buf, size, "%s/%s/%s/%s/%s", kind, p->task->ns, p->task->id,
		 p->exec_id ? p->exec_id : "", name);
}

void tasks_get_stats(struct davit *d, struct tasks_stats *out)
{
	struct task *t;

	memset(out, 0, sizeof(*out));
	RB_FOREACH (t, task_tree, &d->tasks->tree) {
		struct process *p;

		out->tasks++;
		out->processes++;
		out->running += t->init.state >= PROCESS_RUNNING && t->init.state <= PROCESS_ENDING;
		out->created += t->init.state == PROCESS_CREATED ||
				t->init.state == PROCESS_STARTING;
		out->stopped += t->init.state == PROCESS_STOPPED;
		RB_FOREACH (p, process_tree, &t->execs)
			out->processes++;
	}
}

void tasks_abandon(struct davit *d)
{
	struct task *t;

	if (!d->tasks)
		return;
	RB_FOREACH (t, task_tree, &d->tasks->tree) {
		task_checkpoint_abandon(t);
		restore_free(TAKE_PTR(t->init.restore));
	}
}

void tasks_free(struct davit *d)
{
	struct log_end *e;
	struct task *t;

	if (!d->tasks)
		return;
	d->tasks->ended = NULL;
	while ((t = RB_MIN(task_tree, &d->tasks->tree)))
		task_remove(t);
	/* the log thread is ended after this, and then tells nobody */
	while ((e = LIST_FIRST(&d->tasks->log_ends))) {
		LIST_REMOVE(e, link);
		free(e);
	}
	free(d->tasks);
	d->tasks = NULL;
}
