// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.start: release, and the word whether the exec came about
 *
 * The child closes the launch's socket by its exec; the end of file there is the proof that the program runs.
 * A failed exec is told through the same socket, and then the child ends with 126 or 127: the
 * answer waits for that end, so that the client finds the task stopped.
 */
#include <errno.h>
#include <stdio.h>

#include "core/keep.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "core/task_stdio.h"
#include "monitor/journal.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/mp.h"

void start_release(struct process *p, void *arg)
{
	struct ipc_request *req = arg;
	enum process_state from = p->state;
	int r = -EPIPE;

	if (p->delete_requested && p->exec_id) { /* before there was somebody to kill */
		process_kill_now(p);
		return;
	}
	/* written before it is done: a reactor that dies in between leaves an init that may have begun */
	p->state = PROCESS_STARTING;
	if ((p->launch || p->restore) && !p->exec_id) {
		process_journal(p);
		task_commit(p->task);
	}
	if (p->launch)
		r = launch_start(p->launch);
	else if (p->restore)
		r = restore_release(p->restore);
	if (r < 0) {
		/* the child is dying, and its exit is on the way */
		p->state = from;
		if (req)
			ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL,
					"%s: its init is gone", process_id(p));
		return;
	}
	if (req)
		pending_set(&p->start, req);
}

static void start_answer(struct process *p)
{
	struct ipc_request *req = pending_take(&p->start);
	msgpack_packer *pk;

	if (!req)
		return;
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 1);
	mp_pack_key_int(pk, "pid", p->pid);
	ipc_reply_end(req);
}

/* A poststart hook that fails ends the container, as the OCI lifecycle has it (step 10). */
static void start_hooks_done(void *user, const struct fault *f)
{
	struct process *p = user;
	struct ipc_request *req;

	p->hooks = NULL;
	if (!f) {
		start_answer(p);
		return;
	}
	process_kill_now(p);
	req = pending_take(&p->start);
	if (req)
		ipc_reply_fault(req, f);
}

void start_started(struct process *p, void *arg)
{
	struct task *t = p->task;
	bool hooked = false;
	char key[512];

	(void)arg;
	p->state = PROCESS_RUNNING;
	p->started_at = clock_now();
	process_journal(p);
	task_publish(t, p->exec_id ? "/tasks/exec-started" : "/tasks/start", p);
	task_commit(t);
	if (!p->exec_id) {
		process_key(p, "start", "", key, sizeof(key));
		keep_drop(t->d->keep, key);
	} else {
		freeze_begin_late(t);
	}
	if (!p->exec_id)
		hooked = task_hooks_run(t, SPEC_HOOK_POSTSTART, "running", p->pid, false,
					start_hooks_done);
	process_release_launch(p);
	if (!hooked)
		start_answer(p);
}

void start_failed(struct process *p, void *arg)
{
	process_fail(p, arg);
	process_release_launch(p);
}
