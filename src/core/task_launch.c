// SPDX-License-Identifier: Apache-2.0
/*
 * The launch's socket: what the child says becomes events of the machine
 *
 * The same for an init and for an exec. Terminal, seccomp listener and hooks are served here; ready, started and failed are the
 * machine's. A process, even its task, may be gone after each message.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hookrun.h"
#include "core/listener.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "core/task_stdio.h"
#include "util/cleanup.h"
#include "util/fd.h"

static void create_hooks_done(void *user, const struct fault *f)
{
	struct process *p = user;

	p->hooks = NULL;
	if (f) {
		process_event(p, EVENT_FAILED, (void *)f);
		return;
	}
	launch_continue(p->launch);
}

static void create_hooks(struct process *p)
{
	struct hook_run_request r = {
		.spec = p->spec,
		.kinds = { SPEC_HOOK_PRESTART, SPEC_HOOK_CREATE_RUNTIME },
		.n_kinds = 2,
		.id = p->task->id,
		.bundle = p->task->bundle,
		.status = "creating",
		.pid = p->pid,
	};
	struct fault f;
	int result = hook_run_start(&p->hooks, p->task->d, &r, create_hooks_done, p);

	if (result < 0) {
		fault_sys(&f, -result, "run the hooks", NULL);
		process_event(p, EVENT_FAILED, &f);
	}
}

struct listener_wait {
	struct task *task;
	char exec_id[]; /* "" for the init */
};

/*
 * The child waits for an answer, and does not see the end of its socket: a copy of ours is kept for
 * the time of a restart.
 */
static void listener_failed(struct process *p, const struct fault *f)
{
	process_kill_now(p);
	process_event(p, EVENT_FAILED, (void *)f);
}

/* The process may have ended and been removed meanwhile: it is looked up again. */
static void listener_done(void *user, const struct fault *f)
{
	struct listener_wait *w = user;
	struct task *t = w->task;
	struct process key = { .exec_id = w->exec_id }, *p = NULL;

	if (!t->dead)
		p = *w->exec_id ? RB_FIND(process_tree, &t->execs, &key) : &t->init;
	if (p && p->launch) {
		if (f)
			listener_failed(p, f);
		else
			launch_continue(p->launch);
	}
	task_job_end(t);
	free(w);
}

static void listener_hand_over(struct process *p, int fd)
{
	struct task *t = p->task;
	const char *exec_id = p->exec_id ? p->exec_id : "";
	struct listener_wait *w = calloc(1, sizeof(*w) + strlen(exec_id) + 1);
	struct fault f;
	int r = -ENOMEM;

	if (w) {
		w->task = t;
		strcpy(w->exec_id, exec_id);
		task_job_begin(t);
		r = listener_send(t->d, p->seccomp, p->container_spec ? p->container_spec : p->spec,
				  t->id, t->bundle, p->pid, t->init.pid, fd, listener_done, w);
	} else {
		close(fd);
	}
	if (r < 0) {
		if (w)
			task_job_end(t);
		free(w);
		fault_sys(&f, -r, "hand over the seccomp listener", NULL);
		listener_failed(p, &f);
	}
}

/* Reads the launch's socket. The process, even its task, may be gone after. */
void process_drain_launch(struct process *p)
{
	struct task *t = p->task;
	struct fault f;

	task_job_begin(t);
	while (!t->dead && p->launch) {
		enum launch_event ev = launch_read(p->launch, &f);
		int r;

		if (ev == LAUNCH_AGAIN)
			break;
		switch (ev) {
		case LAUNCH_TTY:
			r = task_stdio_tty(p, launch_take_fd(p->launch), &f);
			if (r < 0)
				process_event(p, EVENT_FAILED, &f);
			break;
		case LAUNCH_LISTENER:
			listener_hand_over(p, launch_take_fd(p->launch));
			break;
		case LAUNCH_HOOKS:
			create_hooks(p);
			break;
		case LAUNCH_READY:
			process_event(p, EVENT_READY, NULL);
			break;
		case LAUNCH_STARTED:
			process_event(p, EVENT_STARTED, NULL);
			goto out;
		case LAUNCH_FAILED:
			process_event(p, EVENT_FAILED, &f);
			goto out;
		case LAUNCH_AGAIN:
			break;
		}
		/* an exec that was removed meanwhile is no more; inits live as long as the task */
		if (p != &t->init)
			break;
	}
out:
	task_job_end(t);
}

static void process_launch_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	process_drain_launch(arg);
}

void process_watch_launch(struct process *p)
{
	struct fault f;

	p->launch_event = event_new(p->task->d->base, launch_fd(p->launch), EV_READ | EV_PERSIST,
				    process_launch_readable, p);
	if (!p->launch_event || event_add(p->launch_event, NULL) < 0) {
		fault_sys(&f, ENOMEM, "watch the launch", NULL);
		process_event(p, EVENT_FAILED, &f);
		return;
	}
	process_drain_launch(p);
}

void process_release_launch(struct process *p)
{
	if (p->launch_event)
		event_free(p->launch_event);
	p->launch_event = NULL;
	launch_free(p->launch);
	p->launch = NULL;
	restore_free(TAKE_PTR(p->restore));
	seccomp_put(p->seccomp);
	p->seccomp = NULL;
	spec_free(p->spec);
	p->spec = NULL;
	spec_free(p->container_spec);
	p->container_spec = NULL;
	fd_close(&p->join_pidfd);
}
