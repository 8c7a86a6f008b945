// SPDX-License-Identifier: Apache-2.0
/*
 * Tasks: the state machine
 *
 * A task is the running side of a container: one init process and any number of exec processes, each a
 * `struct process` with one state. What may happen in which state is the table `actions` below and nowhere else: a request
 * without an action is refused with the state's name, a happening without one is of no interest in that state.
 *
 *   CREATING -> CREATED -> STARTING -> RUNNING <-> PAUSING, PAUSED, RESUMING
 *      |           |          |           |
 *      v           +----------+-----------+-> (ENDING ->) STOPPED -> DELETING -> gone
 *     gone
 *   an exec: ADDED -> STARTING -> RUNNING -> STOPPED -> gone
 *
 * Invariants
 * - All of this belongs to the reactor. Worker jobs own what they were given and come back by their done; while a job points to a
 *   task, t->jobs keeps its memory.
 * - A change of state that a client can see is in the journal before its event is sent and its request is answered: one commit holds
 *   both the record and the event.
 * - An exit is taken in three steps: the reaper hands over the status while the zombie is still there, the
 *   journal gets it, the zombie goes. A reactor that dies in between leaves the zombie to the guardian.
 * - The orders of events hold by construction: STARTING drains the launch socket before it looks at an exit; an init that
 *   shares its pid namespace is ENDING until its cgroup is empty and its execs are reaped (in a pid namespace of its own the kernel ends the init last).
 * - The cgroup goes as soon as the last process has (task_tidy), not when somebody asks for deletion.
 */
#include "core/task.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/container.h"
#include "core/hookrun.h"
#include "core/task_internal.h"
#include "core/tty.h"
#include "monitor/journal.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"

static const char *const state_names[PROCESS_STATES] = {
	[PROCESS_CREATING] = "creating", [PROCESS_ADDED] = "created",
	[PROCESS_CREATED] = "created",	 [PROCESS_STARTING] = "created",
	[PROCESS_RUNNING] = "running",	 [PROCESS_PAUSING] = "pausing",
	[PROCESS_PAUSED] = "paused",	 [PROCESS_RESUMING] = "paused",
	[PROCESS_ENDING] = "running",	 [PROCESS_STOPPED] = "stopped",
	[PROCESS_DELETING] = "stopped",
};

static void kill_process(struct process *p, void *arg);

static void (*const actions[PROCESS_STATES][PROCESS_EVENTS])(struct process *p, void *arg) = {
	[PROCESS_CREATING] = {
		[EVENT_READY] = create_ready,
		[EVENT_FAILED] = create_failed,
		[EVENT_EXITED] = create_exited,
	},
	[PROCESS_ADDED] = {
		[EVENT_START] = exec_spawn,
		[EVENT_DELETE] = exec_drop,
	},
	[PROCESS_CREATED] = {
		[EVENT_START] = start_release,
		[EVENT_KILL] = kill_process,
		[EVENT_DELETE] = delete_created,
		[EVENT_STARTED] = start_started,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_STARTING] = {
		[EVENT_KILL] = kill_process,
		[EVENT_DELETE] = delete_killing,
		[EVENT_READY] = start_release,
		[EVENT_STARTED] = start_started,
		[EVENT_FAILED] = start_failed,
		[EVENT_EXITED] = exit_starting,
	},
	[PROCESS_RUNNING] = {
		[EVENT_EXEC] = exec_add,
		[EVENT_KILL] = kill_process,
		[EVENT_PAUSE] = freeze_pause,
		[EVENT_DELETE] = delete_killing,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_PAUSING] = {
		[EVENT_KILL] = kill_process,
		[EVENT_DELETE] = delete_killing,
		[EVENT_FREEZER] = freeze_moved,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_PAUSED] = {
		[EVENT_KILL] = kill_process,
		[EVENT_RESUME] = freeze_resume,
		[EVENT_DELETE] = delete_killing,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_RESUMING] = {
		[EVENT_KILL] = kill_process,
		[EVENT_DELETE] = delete_killing,
		[EVENT_FREEZER] = freeze_moved,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_ENDING] = {
		[EVENT_KILL] = kill_process,
		[EVENT_DELETE] = delete_killing,
		[EVENT_EMPTY] = exit_empty,
	},
	[PROCESS_STOPPED] = {
		[EVENT_DELETE] = delete_stopped,
	},
};

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

const char *process_id(const struct process *p)
{
	return p->exec_id ? p->exec_id : p->task->id;
}

const char *process_status(const struct process *p)
{
	return state_names[p->state];
}

bool process_visible(const struct process *p)
{
	return p->state != PROCESS_CREATING && p->state != PROCESS_DELETING;
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
	free(t);
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
	if (d->tasks->ended && RB_EMPTY(&d->tasks->tree)) {
		void (*ended)(void *) = d->tasks->ended;

		d->tasks->ended = NULL;
		ended(d->tasks->ended_user);
	}
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

void process_event(struct process *p, enum process_event ev, void *arg)
{
	void (*action)(struct process *, void *) = actions[p->state][ev];
	struct ipc_request *req = arg;

	if (action) {
		action(p, arg);
		return;
	}
	if (ev > EVENT_DELETE)
		return;
	if (p->state == PROCESS_STOPPED && ev == EVENT_KILL)
		ipc_reply_error(req, FAULT_NOT_FOUND, NULL, "%s: process already finished",
				process_id(p));
	else if (p->state == PROCESS_CREATING || p->state == PROCESS_DELETING)
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL, "task %s is being %s",
				p->task->id, p->state == PROCESS_CREATING ? "created" : "deleted");
	else
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL,
				"%s: not possible while %s is %s", ipc_request_method(req)->name,
				process_id(p), state_names[p->state]);
}

void process_kill_now(struct process *p)
{
	if (p->pidfd >= 0 && !p->exited)
		fd_pidfd_send_signal(p->pidfd, SIGKILL);
}

struct kill_job {
	struct worker_job job;
	struct task *task;
	struct cgroup *cgroup;
	struct ipc_request *req;
	int signal, result;
};

static void kill_all_run(struct worker_job *job)
{
	struct kill_job *k = (struct kill_job *)job;

	k->result = cgroup_signal(k->cgroup, k->signal);
}

static void kill_all_done(struct worker_job *job)
{
	struct kill_job *k = (struct kill_job *)job;

	if (k->req && k->result < 0) {
		struct fault f;

		fault_sys(&f, -k->result, "signal the cgroup", cgroup_path(k->cgroup));
		ipc_reply_fault(k->req, &f);
	} else if (k->req) {
		ipc_reply_empty(k->req);
	}
	cgroup_free(k->cgroup);
	task_job_end(k->task);
	free(k);
}

int task_kill_all(struct task *t, int sig, struct ipc_request *req)
{
	struct kill_job *k = calloc(1, sizeof(*k));
	int r;

	if (!k)
		return -ENOMEM;
	r = cgroup_open(t->d->cgroups, cgroup_path(t->cgroup), &k->cgroup);
	if (r < 0) {
		free(k);
		return r;
	}
	k->job.run = kill_all_run;
	k->job.done = kill_all_done;
	k->task = t;
	k->signal = sig;
	k->req = req;
	task_job_begin(t);
	worker_submit(t->d->workers, &k->job);
	return 0;
}

static void kill_process(struct process *p, void *arg)
{
	struct ipc_request *req = arg;
	int sig = (int)ipc_arg_int(req, "signal", SIGTERM), r;
	struct fault f;

	if (ipc_arg_bool(req, "all", false) && !p->exec_id && p->task->cgroup) {
		r = task_kill_all(p->task, sig, req);
		if (!r)
			return;
	} else if (p->pidfd < 0) {
		r = -ESRCH;
	} else {
		r = fd_pidfd_send_signal(p->pidfd, sig);
		/* an exec that was made and has no pid namespace of its own ends like any process */
	}
	if (r == -ESRCH)
		ipc_reply_error(req, FAULT_NOT_FOUND, NULL, "%s: process already finished",
				process_id(p));
	else if (r < 0) {
		fault_sys(&f, -r, "send the signal", NULL);
		ipc_reply_fault(req, &f);
	} else
		ipc_reply_empty(req);
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

static void end_all_idle(evutil_socket_t fd, short what, void *arg)
{
	struct davit *d = arg;

	(void)fd;
	(void)what;
	if (d->tasks->ended && RB_EMPTY(&d->tasks->tree)) {
		void (*ended)(void *) = d->tasks->ended;

		d->tasks->ended = NULL;
		ended(d->tasks->ended_user);
	}
}

void tasks_end_all(struct davit *d, void (*done)(void *user), void *user)
{
	struct timeval now = { 0, 0 };
	struct task *t, *next;

	d->tasks->ended = done;
	d->tasks->ended_user = user;
	RB_FOREACH_SAFE (t, task_tree, &d->tasks->tree, next) {
		struct process *p = &t->init;

		p->delete_requested = true;
		if (p->state == PROCESS_STOPPED) {
			delete_stopped(p, NULL);
		} else if (p->state == PROCESS_CREATING) {
			p->cancelled = true;
			process_kill_now(p);
		} else if (!t->cgroup || task_kill_all(t, SIGKILL, NULL) < 0) {
			process_kill_now(p);
		}
	}
	event_base_once(d->base, -1, EV_TIMEOUT, end_all_idle, d, &now);
}
