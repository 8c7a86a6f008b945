// SPDX-License-Identifier: Apache-2.0
/*
 * The end of processes and tasks
 *
 * process_reaped gets each status once, whichever of the reaper's sources it has. Publishing writes record and event, answers the waiters,
 * lets the streams go, and for an init begins to remove the cgroup at once, on a worker: a delete that comes a moment later finds it done.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/hookrun.h"
#include "core/keep.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "core/task_stdio.h"
#include "core/tty.h"
#include "monitor/journal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/mp.h"

static void delete_finish(struct task *t);

void process_reaped(void *user, const struct reaper_status *st)
{
	struct process *p = user;

	p->watch = NULL;
	if (p->grace)
		event_free(TAKE_PTR(p->grace));
	p->exited = true;
	p->exited_at = st->exited_at ? st->exited_at : clock_now();
	p->signal = st->known ? st->signal : 0;
	if (!st->known) {
		p->exit_reason = EXIT_UNKNOWN;
		p->exit_status = 255;
	} else if (st->signal) {
		p->exit_reason = EXIT_SIGNALED;
		p->exit_status = 128 + st->signal;
	} else {
		p->exit_reason = EXIT_EXITED;
		p->exit_status = st->exit_code;
	}
	process_event(p, EVENT_EXITED, NULL);
}

void exit_unknown(struct process *p)
{
	struct reaper_status st = { .pid = p->pid, .exited_at = clock_now() };

	reaper_remove(TAKE_PTR(p->watch));
	process_reaped(p, &st);
}

/* The end while a release is under way: the socket knows whether the program ever ran. */
void exit_starting(struct process *p, void *arg)
{
	if (p->launch)
		process_drain_launch(p);
	if (p->state == PROCESS_STARTING && p->restore && !p->fault) {
		restore_task_ended(p->restore); /* criu's end, and this event again, follow */
		return;
	}
	/*
	 * Dead, and no word of a failure: its exec came about. The end of file can be late, when a child that is
	 * being cloned at the same moment has not yet closed its copy of the other end.
	 */
	if (p->state == PROCESS_STARTING && p->launch && !p->fault)
		process_event(p, EVENT_STARTED, NULL);
	exit_process(p, arg);
}

static bool execs_running(struct task *t)
{
	struct process *e;

	RB_FOREACH (e, process_tree, &t->execs)
		if (e->watch)
			return true;
	return false;
}

static void empty_check(evutil_socket_t fd, short what, void *arg)
{
	struct task *t = arg;

	(void)fd;
	(void)what;
	if (cgroup_populated(t->cgroup) <= 0)
		process_event(&t->init, EVENT_EMPTY, NULL);
}

struct ending_job {
	struct worker_job job;
	struct task *task;
};

static void ending_run(struct worker_job *job)
{
	struct ending_job *e = (struct ending_job *)job;

	cgroup_signal(e->task->cgroup, SIGKILL);
}

static void ending_done(struct worker_job *job)
{
	struct ending_job *e = (struct ending_job *)job;
	struct task *t = e->task;

	if (!t->dead) {
		/* without a v2 hierarchy nothing tells that a group is empty: its processes are dying now */
		if (t->events_fd < 0)
			process_event(&t->init, EVENT_EMPTY, NULL);
		else
			empty_check(-1, 0, t);
	}
	task_job_end(t);
	free(e);
}

/* The init of a shared pid namespace is dead, and the kernel ends nobody with it: we do. */
static void exit_others(struct process *p)
{
	struct task *t = p->task;
	struct ending_job *e = calloc(1, sizeof(*e));

	freeze_cancel(t);
	p->state = PROCESS_ENDING;
	if (!e) {
		log_error("task %s/%s: no memory to end the rest of its processes", t->ns, t->id);
		exit_publish(p);
		return;
	}
	t->events_fd = cgroup_events_open(t->cgroup);
	if (t->events_fd >= 0) {
		t->empty_event = event_new(t->d->base, t->events_fd, EV_READ | EV_ET | EV_PERSIST,
					   empty_check, t);
		if (t->empty_event)
			event_add(t->empty_event, NULL);
	}
	e->job.run = ending_run;
	e->job.done = ending_done;
	e->task = t;
	task_job_begin(t);
	worker_submit(t->d->workers, &e->job);
}

void exit_process(struct process *p, void *arg)
{
	struct task *t = p->task;
	bool exec;

	(void)arg;
	if (!p->exec_id && !t->own_pid_ns && t->cgroup) {
		exit_others(p);
		return;
	}
	exec = p->exec_id;
	exit_publish(p); /* an exec that was to be deleted is gone after this */
	if (exec && t->init.state == PROCESS_ENDING)
		empty_check(-1, 0, t);
}

void exit_empty(struct process *p, void *arg)
{
	struct task *t = p->task;

	(void)arg;
	if (execs_running(t))
		return; /* the last one's end comes here again */
	if (t->empty_event)
		event_free(TAKE_PTR(t->empty_event));
	fd_close(&t->events_fd);
	exit_publish(p);
}

static void exit_answer(struct process *p)
{
	struct ipc_request *req;
	struct waiter *w;

	while ((w = TAILQ_FIRST(&p->waiters))) {
		msgpack_packer *pk;

		TAILQ_REMOVE(&p->waiters, w, link);
		ipc_request_on_cancel(w->req, NULL, NULL);
		pk = ipc_reply_begin(w->req);
		msgpack_pack_map(pk, 4);
		process_pack_exit(pk, p);
		ipc_reply_end(w->req);
		free(w);
	}
	if (p->started_at)
		return; /* its poststart hooks go on, and answer then */
	req = pending_take(&p->start);
	if (!req)
		return;
	if (p->fault)
		ipc_reply_fault(req, p->fault);
	else
		ipc_reply_error(req, FAULT_UNKNOWN, NULL,
				"%s ended before it was started (exit status %d)", process_id(p),
				p->exit_status);
}

void exit_publish(struct process *p)
{
	struct task *t = p->task;
	bool quiet = p->unstarted;

	if (!p->exec_id) {
		struct ipc_request *req = pending_take(&t->pause);

		freeze_cancel(t);
		if (req)
			ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL, "task %s has ended",
					t->id);
		if (p->exit_reason == EXIT_SIGNALED && p->signal == SIGKILL && t->cgroup &&
		    cgroup_oom_kills(t->cgroup) > 0) {
			p->exit_reason = EXIT_OOM;
			task_publish(t, "/tasks/oom", p);
		}
	}
	p->state = PROCESS_STOPPED;
	process_journal(p);
	if (!quiet)
		task_publish(t, "/tasks/exit", p);
	task_commit(t);
	process_release_launch(p);
	if (p->source == REAPER_GUARDIAN)
		keep_ack(t->d->keep, p->pid);
	exit_answer(p);
	task_stdio_drop(p);
	fd_close(&p->pidfd);
	if (!p->exec_id) {
		task_tidy(t);
		if (t->auto_remove)
			p->delete_requested = true;
	} else {
		freeze_begin_late(t);
	}
	if (p->delete_requested || p->auto_remove)
		delete_stopped(p, NULL);
}

/* ---- the cgroup */

struct tidy_job {
	struct worker_job job;
	struct task *task;
	struct fault fault;
	int result;
};

static void tidy_run(struct worker_job *job)
{
	struct tidy_job *j = (struct tidy_job *)job;

	j->result = cgroup_remove(j->task->cgroup, &j->fault);
	if (j->result == -EBUSY) {
		cgroup_signal(j->task->cgroup, SIGKILL);
		j->result = cgroup_remove(j->task->cgroup, &j->fault);
	}
}

static void tidy_done(struct worker_job *job)
{
	struct tidy_job *j = (struct tidy_job *)job;
	struct task *t = j->task;

	t->tidying = false;
	free(TAKE_PTR(t->tidy_fault));
	if (j->result < 0) {
		log_warn("task %s/%s: %s", t->ns, t->id, j->fault.message);
		t->tidy_fault = malloc(sizeof(*t->tidy_fault));
		if (t->tidy_fault)
			*t->tidy_fault = j->fault;
	} else {
		t->tidy = true;
	}
	if (!t->dead && t->init.state == PROCESS_DELETING)
		delete_finish(t);
	task_job_end(t);
	free(j);
}

void task_tidy(struct task *t)
{
	struct tidy_job *j;

	if (!t->cgroup) {
		t->tidy = true;
		return;
	}
	j = calloc(1, sizeof(*j));
	if (!j)
		return; /* delete tries again */
	j->job.run = tidy_run;
	j->job.done = tidy_done;
	j->task = t;
	t->tidying = true;
	task_job_begin(t);
	worker_submit(t->d->workers, &j->job);
}

/* ---- delete */

static void delete_answer(struct process *p)
{
	struct ipc_request *req = pending_take(&p->delete);
	msgpack_packer *pk;

	if (!req)
		return;
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 6);
	mp_pack_key_str(pk, "id", process_id(p));
	mp_pack_key_int(pk, "pid", p->pid);
	process_pack_exit(pk, p);
	ipc_reply_end(req);
}

static void delete_end(struct task *t)
{
	struct davit *d = t->d;
	struct container *c = t->container;
	bool auto_remove = t->auto_remove;
	struct process *e;

	RB_FOREACH (e, process_tree, &t->execs)
		process_journal_del(e);
	process_journal_del(&t->init);
	task_publish(t, "/tasks/delete", &t->init);
	task_commit(t);
	delete_answer(&t->init);
	task_remove(t);
	if (auto_remove)
		container_discard(d, c);
}

static void delete_hooks_done(void *user, const struct fault *f)
{
	struct process *p = user;

	(void)f; /* logged: a failing poststop hook does not stop the deletion */
	p->hooks = NULL;
	delete_end(p->task);
}

/* The cgroup's removal has had its answer. */
static void delete_finish(struct task *t)
{
	if (!t->tidy) {
		struct ipc_request *req = pending_take(&t->init.delete);

		t->init.state = PROCESS_STOPPED;
		t->init.delete_requested = false;
		if (req && t->tidy_fault)
			ipc_reply_fault(req, t->tidy_fault);
		else if (req)
			ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "%s: out of memory",
					t->id);
		return;
	}
	if (!task_hooks_run(t, SPEC_HOOK_POSTSTOP, "stopped", 0, true, delete_hooks_done))
		delete_end(t);
}

void delete_stopped(struct process *p, void *arg)
{
	struct task *t = p->task;

	if (arg)
		pending_set(&p->delete, arg);
	if (p->exec_id) {
		process_journal_del(p);
		task_publish(t, "/tasks/delete", p);
		task_commit(t);
		delete_answer(p);
		process_remove_exec(p);
		return;
	}
	p->state = PROCESS_DELETING;
	hook_run_cancel(TAKE_PTR(p->hooks));
	if (t->tidying)
		return;
	if (!t->tidy) {
		task_tidy(t);
		if (t->tidying)
			return;
	}
	delete_finish(t);
}

/* Marks the process for deletion after its end. false: somebody was first (the request is answered). */
static bool delete_mark(struct process *p, struct ipc_request *req)
{
	if (p->delete_requested && p->delete.req) {
		if (req)
			ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL, "%s is being deleted",
					process_id(p));
		return false;
	}
	p->delete_requested = true;
	if (req)
		pending_set(&p->delete, req);
	return true;
}

void delete_created(struct process *p, void *arg)
{
	if (!delete_mark(p, arg))
		return;
	p->unstarted = true;
	process_kill_now(p);
}

void delete_killing(struct process *p, void *arg)
{
	struct ipc_request *req = arg;

	if (req && !ipc_arg_bool(req, "kill", false)) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL,
				"%s must be stopped before deletion: %s",
				p->exec_id ? "process" : "task", process_status(p));
		return;
	}
	if (!delete_mark(p, req))
		return;
	if (!p->exec_id && p->task->cgroup && task_kill_all(p->task, SIGKILL, NULL) == 0)
		return;
	process_kill_now(p);
}
