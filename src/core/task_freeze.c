// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.pause and tasks.resume
 *
 * Writing to the freezer returns at once; the kernel tells through cgroup.events when it is done (inotify-like wake-up of a poller,
 * cgroup-v2.rst "Core Interface Files"). The file is always readable, so only the edge counts. A v1 freezer tells nothing
 * and has to be asked again (freezer-subsystem.rst): there, and only there, a timer asks.
 *
 * A child of the daemon that has not exec'd yet has copies of all the daemon's fds. Frozen then, it would hold other clients' connections
 * and other launches' sockets open for as long as the pause lasts; so a pause waits until no exec is on its way. None can
 * begin meanwhile, since the task is no longer running.
 *
 * What is begun is in the journal before the freezer moves, so that a restart does not take a frozen task for a running one.
 */
#include <errno.h>

#include "core/task_internal.h"
#include "monitor/journal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

#define FREEZE_SECONDS 10 /* how long the kernel may take before the attempt is undone */
#define FREEZE_V1_ASK_US 5000

void freeze_cancel(struct task *t)
{
	if (t->freezer_event)
		event_free(TAKE_PTR(t->freezer_event));
	if (t->freezer_timer)
		event_free(TAKE_PTR(t->freezer_timer));
	fd_close(&t->events_fd);
}

static void freeze_moved_event(evutil_socket_t fd, short what, void *arg)
{
	struct task *t = arg;

	(void)fd;
	(void)what;
	process_event(&t->init, EVENT_FREEZER, NULL);
}

static void freeze_late(evutil_socket_t fd, short what, void *arg)
{
	struct task *t = arg;
	struct process *p = &t->init;
	struct ipc_request *req = pending_take(&t->pause);
	bool pausing = p->state == PROCESS_PAUSING;

	(void)fd;
	(void)what;
	if (t->events_fd < 0 && cgroup_frozen(t->cgroup) >= 0 &&
	    clock_mono() < t->freezer_deadline) {
		struct timeval again = { .tv_usec = FREEZE_V1_ASK_US };

		t->pause.req = req; /* v1: this timer is the one that asks */
		if (req)
			pending_set(&t->pause, req);
		event_add(t->freezer_timer, &again);
		process_event(p, EVENT_FREEZER, NULL);
		return;
	}
	freeze_cancel(t);
	if (pausing) {
		cgroup_freeze(t->cgroup, false, NULL);
		p->state = PROCESS_RUNNING;
	} else {
		p->state = PROCESS_PAUSED;
	}
	process_journal(p);
	task_commit(t);
	if (req)
		ipc_reply_error(req, FAULT_DEADLINE_EXCEEDED, NULL,
				"task %s: the kernel did not %s it within %d s", t->id,
				pausing ? "freeze" : "thaw", FREEZE_SECONDS);
}

/* Begins to move the freezer; the state is set already. */
static int freeze_begin(struct task *t, bool freeze, struct fault *f)
{
	struct timeval limit = { .tv_sec = FREEZE_SECONDS };
	int r;

	t->freezer_deadline = clock_mono() + FREEZE_SECONDS * CLOCK_NS_PER_SEC;
	t->events_fd = cgroup_events_open(t->cgroup);
	if (t->events_fd >= 0) {
		t->freezer_event = event_new(t->d->base, t->events_fd, EV_READ | EV_ET | EV_PERSIST,
					     freeze_moved_event, t);
		if (!t->freezer_event || event_add(t->freezer_event, NULL) < 0)
			return fault_sys(f, ENOMEM, "watch the freezer", NULL);
	} else {
		limit = (struct timeval){ .tv_usec = FREEZE_V1_ASK_US };
	}
	t->freezer_timer = evtimer_new(t->d->base, freeze_late, t);
	if (!t->freezer_timer || event_add(t->freezer_timer, &limit) < 0)
		return fault_sys(f, ENOMEM, "watch the freezer", NULL);
	r = cgroup_freeze(t->cgroup, freeze, f);
	return r < 0 ? r : 0;
}

static bool freeze_waits(struct task *t)
{
	struct process *e;

	RB_FOREACH (e, process_tree, &t->execs)
		if (e->state == PROCESS_STARTING)
			return true;
	return false;
}

/* In PAUSING or RESUMING; t->pause has who is to be answered. */
static void freeze_now(struct task *t)
{
	struct process *p = &t->init;
	bool freeze = p->state == PROCESS_PAUSING;
	struct ipc_request *req;
	struct fault f;
	int r;

	process_journal(p);
	r = task_commit(t);
	if (r < 0)
		fault_sys(&f, -r, "write the journal", NULL);
	else
		r = freeze_begin(t, freeze, &f);
	if (r < 0) {
		freeze_cancel(t);
		p->state = freeze ? PROCESS_RUNNING : PROCESS_PAUSED;
		process_journal(p);
		task_commit(t);
		req = pending_take(&t->pause);
		if (req)
			ipc_reply_fault(req, &f);
		return;
	}
	process_event(p, EVENT_FREEZER, NULL);
}

void freeze_begin_late(struct task *t)
{
	if (t->init.state == PROCESS_PAUSING && !t->freezer_timer && !freeze_waits(t))
		freeze_now(t);
}

static void freeze_start(struct process *p, struct ipc_request *req, enum process_state via)
{
	struct task *t = p->task;

	if (!t->cgroup) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL, "task %s has no cgroup",
				t->id);
		return;
	}
	p->state = via;
	pending_set(&t->pause, req);
	if (via == PROCESS_PAUSING && freeze_waits(t))
		return;
	freeze_now(t);
}

void freeze_pause(struct process *p, void *arg)
{
	freeze_start(p, arg, PROCESS_PAUSING);
}

void freeze_resume(struct process *p, void *arg)
{
	freeze_start(p, arg, PROCESS_RESUMING);
}

/* Has it arrived? */
void freeze_moved(struct process *p, void *arg)
{
	struct task *t = p->task;
	bool pausing = p->state == PROCESS_PAUSING;
	int frozen = cgroup_frozen(t->cgroup);
	struct ipc_request *req;

	(void)arg;
	if (frozen != (pausing ? 1 : 0))
		return;
	freeze_cancel(t);
	p->state = pausing ? PROCESS_PAUSED : PROCESS_RUNNING;
	process_journal(p);
	task_publish(t, pausing ? "/tasks/paused" : "/tasks/resumed", p);
	task_commit(t);
	req = pending_take(&t->pause);
	if (req)
		ipc_reply_empty(req);
}

/* A restart in the middle of a pause: whoever asked is gone, so the task runs on. */
void freeze_watch(struct task *t)
{
	struct process *p = &t->init;
	struct fault f;

	p->state = PROCESS_RESUMING;
	if (freeze_begin(t, false, &f) < 0) {
		freeze_cancel(t);
		p->state = PROCESS_PAUSED;
		return;
	}
	process_event(p, EVENT_FREEZER, NULL);
}
