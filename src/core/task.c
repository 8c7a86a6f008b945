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
#include "core/task_internal.h"

static const char *const state_names[PROCESS_STATES] = {
	[PROCESS_CREATING] = "creating", [PROCESS_ADDED] = "created",
	[PROCESS_CREATED] = "created",	 [PROCESS_STARTING] = "created",
	[PROCESS_RUNNING] = "running",	 [PROCESS_PAUSING] = "pausing",
	[PROCESS_PAUSED] = "paused",	 [PROCESS_RESUMING] = "paused",
	[PROCESS_ENDING] = "running",	 [PROCESS_STOPPED] = "stopped",
	[PROCESS_DELETING] = "stopped",
};

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
		[EVENT_KILL] = kill_signal,
		[EVENT_DELETE] = delete_created,
		[EVENT_STARTED] = start_started,
		[EVENT_FAILED] = start_failed,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_STARTING] = {
		[EVENT_KILL] = kill_signal,
		[EVENT_DELETE] = delete_killing,
		[EVENT_READY] = start_release,
		[EVENT_STARTED] = start_started,
		[EVENT_FAILED] = start_failed,
		[EVENT_EXITED] = exit_starting,
	},
	[PROCESS_RUNNING] = {
		[EVENT_EXEC] = exec_add,
		[EVENT_KILL] = kill_signal,
		[EVENT_PAUSE] = freeze_pause,
		[EVENT_DELETE] = delete_killing,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_PAUSING] = {
		[EVENT_KILL] = kill_signal,
		[EVENT_DELETE] = delete_killing,
		[EVENT_FREEZER] = freeze_moved,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_PAUSED] = {
		[EVENT_KILL] = kill_signal,
		[EVENT_RESUME] = freeze_resume,
		[EVENT_DELETE] = delete_killing,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_RESUMING] = {
		[EVENT_KILL] = kill_signal,
		[EVENT_DELETE] = delete_killing,
		[EVENT_FREEZER] = freeze_moved,
		[EVENT_EXITED] = exit_process,
	},
	[PROCESS_ENDING] = {
		[EVENT_KILL] = kill_signal,
		[EVENT_DELETE] = delete_killing,
		[EVENT_EMPTY] = exit_empty,
	},
	[PROCESS_STOPPED] = {
		[EVENT_DELETE] = delete_stopped,
	},
};

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

void process_event(struct process *p, enum process_event ev, void *arg)
{
	void (*action)(struct process *, void *) = actions[p->state][ev];
	struct ipc_request *req = arg;

	/* what criu is looking at must stay as it is */
	if (action && p->task->dumping &&
	    (ev == EVENT_START || ev == EVENT_EXEC || ev == EVENT_PAUSE || ev == EVENT_RESUME)) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL,
				"%s: not possible while task %s is being checkpointed",
				ipc_request_method(req)->name, p->task->id);
		return;
	}
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
