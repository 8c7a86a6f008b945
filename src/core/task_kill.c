// SPDX-License-Identifier: Apache-2.0
/*
 * Signals: to one process by its pidfd, to all by the cgroup
 *
 * A pidfd cannot reach a stranger, whatever became of the pid. The cgroup's processes are found and signalled on a worker.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/task.h"
#include "core/task_checkpoint.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "util/fd.h"
#include "util/log.h"

/*
 * A process in a frozen group of v1 takes no signal, SIGKILL neither, before it is thawed: an init that is killed
 * while it is paused ends at once on every host. An exec waits for the resume: it is not the task that is killed.
 */
static void thaw_killed(struct process *p)
{
	int r = p->exec_id || !p->task->cgroup ? 0 : cgroup_thaw_killed(p->task->cgroup);

	if (r < 0)
		log_warn("%s was killed, but is still frozen: %s", process_id(p), strerror(-r));
}

/*
 * A restored init that was not released is traced by criu, which waits for us: dead, it could not be
 * reaped before criu has ended.
 */
static void let_go_held(struct process *p)
{
	if (p->restore && (p->state == PROCESS_CREATED || p->state == PROCESS_CREATING))
		restore_cancel(p->restore);
}

void process_kill_now(struct process *p)
{
	let_go_held(p);
	if (p->pidfd >= 0 && !p->exited && fd_pidfd_send_signal(p->pidfd, SIGKILL) == 0)
		thaw_killed(p);
}

struct kill_job {
	struct worker_job job;
	struct task *task; /* and with it its cgroup */
	struct ipc_request *req;
	int signal, result;
};

static void kill_all_run(struct worker_job *job)
{
	struct kill_job *k = (struct kill_job *)job;

	k->result = cgroup_signal(k->task->cgroup, k->signal);
}

static void kill_all_done(struct worker_job *job)
{
	struct kill_job *k = (struct kill_job *)job;

	/* whatever became of its cgroup, the init ends: it is what everybody waits for */
	if (k->signal == SIGKILL && !k->task->dead)
		process_kill_now(&k->task->init);
	if (k->req && k->result < 0) {
		struct fault f;

		fault_sys(&f, -k->result, "signal the cgroup", cgroup_path(k->task->cgroup));
		ipc_reply_fault(k->req, &f);
	} else if (k->req) {
		ipc_reply_empty(k->req);
	}
	task_job_end(k->task);
	free(k);
}

int task_kill_all(struct task *t, int sig, struct ipc_request *req)
{
	struct kill_job *k = calloc(1, sizeof(*k));

	if (!k)
		return -ENOMEM;
	k->job.run = kill_all_run;
	k->job.done = kill_all_done;
	k->task = t;
	k->signal = sig;
	k->req = req;
	task_job_begin(t);
	worker_submit(t->d->workers, &k->job);
	return 0;
}

void kill_signal(struct process *p, void *arg)
{
	struct ipc_request *req = arg;
	int sig = (int)ipc_arg_int(req, "signal", SIGTERM), r;
	struct fault f;

	if (p->exec_id && ipc_arg_bool(req, "all", false)) {
		ipc_reply_error(
			req, FAULT_INVALID_ARGUMENT, "all",
			"tasks.kill: all means the whole container: it does not go with exec_id");
		return;
	}
	if (ipc_arg_bool(req, "all", false) && !p->exec_id && p->task->cgroup) {
		r = task_kill_all(p->task, sig, req);
		if (!r)
			return;
	} else if (p->pidfd < 0 && p->state == PROCESS_STARTING && !p->exited) {
		p->early_signal = sig;
		r = 0;
	} else if (p->pidfd < 0) {
		r = -ESRCH;
	} else {
		r = fd_pidfd_send_signal(p->pidfd, sig);
		if (!r && sig == SIGKILL) {
			thaw_killed(p);
			let_go_held(p);
		}
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

static void end_all_idle(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	tasks_check_ended(arg);
}

void tasks_end_all(struct davit *d, void (*done)(void *user), void *user)
{
	struct timeval now = { 0, 0 };
	struct task *t, *next;

	d->tasks->ended = done;
	d->tasks->ended_user = user;
	RB_FOREACH_SAFE (t, task_tree, &d->tasks->tree, next) {
		struct process *p = &t->init;

		task_checkpoint_stop(t);
		let_go_held(p);
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
