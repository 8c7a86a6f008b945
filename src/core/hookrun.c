// SPDX-License-Identifier: Apache-2.0
/*
 * Running hooks
 *
 * A run owns copies of its hooks, so that a cancelled one, whose worker may be busy starting a hook, needs nothing of its former
 * owner: it lives on until the worker and the child are done and frees itself.
 */
#include "core/hookrun.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/reaper.h"
#include "runtime/hook.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/worker.h"

struct hook_run {
	struct worker_job job; /* first: a job's pointer is the run's */
	struct davit *d;
	struct spec_hook *hooks; /* copies */
	const char **kinds; /* static names, by hook */
	size_t n, at;
	char *state;
	bool go_on;
	void (*done)(void *user, const struct fault *fault); /* NULL: cancelled */
	void *user;

	/* the hook under way */
	pid_t pid;
	int pidfd, output;
	bool in_job, timed_out;
	struct reaper_watch *watch;
	struct event *timer, *readable;
	char text[1024];
	size_t text_size;
	int result;
	struct fault fault;
};

static void hook_next(struct hook_run *h);

static void hook_strs_free(struct spec_strs *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
}

static int hook_strs_copy(struct spec_strs *to, const struct spec_strs *from)
{
	if (!from->n)
		return 0;
	to->v = calloc(from->n + 1, sizeof(char *));
	if (!to->v)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++, to->n++) {
		to->v[i] = strdup(from->v[i]);
		if (!to->v[i])
			return -ENOMEM;
	}
	return 0;
}

static void hook_run_free(struct hook_run *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->hooks[i].path);
		hook_strs_free(&h->hooks[i].args);
		hook_strs_free(&h->hooks[i].env);
	}
	free(h->hooks);
	free(h->kinds);
	free(h->state);
	free(h);
}

static void hook_step_clear(struct hook_run *h)
{
	if (h->timer)
		event_free(h->timer);
	if (h->readable)
		event_free(h->readable);
	h->timer = h->readable = NULL;
	fd_close(&h->pidfd);
	fd_close(&h->output);
	h->pid = 0;
	h->text_size = 0;
	h->timed_out = false;
}

static void hook_finish(struct hook_run *h, const struct fault *f)
{
	void (*done)(void *, const struct fault *) = h->done;
	void *user = h->user;
	struct fault copy;

	if (f)
		copy = *f;
	hook_run_free(h);
	if (done)
		done(user, f ? &copy : NULL);
}

static void hook_failed(struct hook_run *h)
{
	if (h->go_on) {
		log_warn("%s", h->fault.message);
		h->at++;
		hook_next(h);
	} else {
		hook_finish(h, &h->fault);
	}
}

static void hook_read(struct hook_run *h)
{
	char drop[4096];
	ssize_t n;

	for (;;) {
		size_t room = sizeof(h->text) - 1 - h->text_size;
		char *at = room ? h->text + h->text_size : drop;

		n = read(h->output, at, room ? room : sizeof(drop));
		if (n <= 0)
			break;
		if (room)
			h->text_size += (size_t)n;
	}
	if (n == 0 && h->readable)
		event_del(h->readable);
}

static void hook_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	hook_read(arg);
}

/* With what it has started: it leads a process group of its own (and is not reaped yet). */
static void hook_kill(struct hook_run *h)
{
	fd_pidfd_send_signal(h->pidfd, SIGKILL);
	if (h->pid > 0)
		kill(-h->pid, SIGKILL);
}

static void hook_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct hook_run *h = arg;

	(void)fd;
	(void)what;
	h->timed_out = true;
	hook_kill(h);
}

static void hook_ended(void *user, const struct reaper_status *st)
{
	struct hook_run *h = user;
	const struct spec_hook *hook = &h->hooks[h->at];

	h->watch = NULL;
	hook_read(h);
	h->text[h->text_size] = 0;
	if (!h->done) {
		hook_step_clear(h);
		hook_run_free(h);
		return;
	}
	if (st->known && !st->signal && !st->exit_code) {
		hook_step_clear(h);
		h->at++;
		hook_next(h);
		return;
	}
	if (h->timed_out)
		fault_set(&h->fault, FAULT_DEADLINE_EXCEEDED, 0,
			  "%s hook %s did not end within %lld s", h->kinds[h->at], hook->path,
			  (long long)(hook->timeout > 0 ? hook->timeout
							: LIMIT_HOOK_SECONDS_DEFAULT));
	else if (st->signal)
		fault_set(&h->fault, FAULT_FAILED_PRECONDITION, 0,
			  "%s hook %s was ended by signal %d", h->kinds[h->at], hook->path,
			  st->signal);
	else
		fault_set(&h->fault, FAULT_FAILED_PRECONDITION, 0,
			  "%s hook %s ended with exit code %d", h->kinds[h->at], hook->path,
			  st->exit_code);
	fault_at(&h->fault, h->kinds[h->at], hook->path);
	snprintf(h->fault.log, sizeof(h->fault.log), "%s", h->text);
	hook_step_clear(h);
	hook_failed(h);
}

static void hook_spawn_run(struct worker_job *job)
{
	struct hook_run *h = (struct hook_run *)job;

	h->result = hook_spawn(&h->hooks[h->at], h->state, &h->pid, &h->pidfd, &h->output,
			       &h->fault);
}

static void hook_spawn_done(struct worker_job *job)
{
	struct hook_run *h = (struct hook_run *)job;
	const struct spec_hook *hook = &h->hooks[h->at];
	struct timeval tv = { .tv_sec = hook->timeout > 0 ? hook->timeout
							  : LIMIT_HOOK_SECONDS_DEFAULT };
	int r;

	h->in_job = false;
	if (h->result < 0) {
		if (!h->done) {
			hook_run_free(h);
			return;
		}
		fault_prefix(&h->fault, "%s hook", h->kinds[h->at]);
		hook_failed(h);
		return;
	}
	h->timer = evtimer_new(h->d->base, hook_timeout, h);
	h->readable = event_new(h->d->base, h->output, EV_READ | EV_PERSIST, hook_readable, h);
	r = !h->timer || !h->readable ? -ENOMEM
				      : reaper_add(h->d->reaper, REAPER_CHILD, h->pid, h->pidfd,
						   hook_ended, h, &h->watch);
	if (r < 0) {
		/* the child is reaped as an unknown one */
		hook_kill(h);
		hook_step_clear(h);
		fault_sys(&h->fault, -r, "watch a hook", hook->path);
		if (h->done)
			hook_failed(h);
		else
			hook_run_free(h);
		return;
	}
	event_add(h->timer, &tv);
	event_add(h->readable, NULL);
	if (!h->done)
		hook_kill(h);
}

static void hook_next(struct hook_run *h)
{
	if (h->at == h->n) {
		hook_finish(h, NULL);
		return;
	}
	h->job.run = hook_spawn_run;
	h->job.done = hook_spawn_done;
	h->in_job = true;
	worker_submit(h->d->workers, &h->job);
}

int hook_run_start(struct hook_run **out, struct davit *d, const struct hook_run_request *r,
		   void (*done)(void *user, const struct fault *fault), void *user)
{
	struct hook_run *h = calloc(1, sizeof(*h));
	size_t n = 0;
	int result;

	if (!h)
		return -ENOMEM;
	h->d = d;
	h->go_on = r->go_on;
	h->done = done;
	h->user = user;
	h->pidfd = h->output = -1;
	for (unsigned k = 0; k < r->n_kinds; k++)
		n += r->spec->hooks[r->kinds[k]].n;
	h->hooks = calloc(n + 1, sizeof(*h->hooks));
	h->kinds = calloc(n + 1, sizeof(*h->kinds));
	if (!h->hooks || !h->kinds) {
		hook_run_free(h);
		return -ENOMEM;
	}
	for (unsigned k = 0; k < r->n_kinds; k++) {
		const struct spec_hooks *from = &r->spec->hooks[r->kinds[k]];

		for (size_t i = 0; i < from->n; i++) {
			struct spec_hook *to = &h->hooks[h->n];

			h->kinds[h->n++] = spec_hook_name(r->kinds[k]);
			to->timeout = from->v[i].timeout;
			to->path = strdup(from->v[i].path);
			if (!to->path || hook_strs_copy(&to->args, &from->v[i].args) < 0 ||
			    hook_strs_copy(&to->env, &from->v[i].env) < 0) {
				hook_run_free(h);
				return -ENOMEM;
			}
		}
	}
	result = hook_state(r->spec, r->id, r->bundle, r->status, r->pid, &h->state);
	if (result < 0) {
		hook_run_free(h);
		return result;
	}
	*out = h;
	hook_next(h);
	return 0;
}

void hook_run_cancel(struct hook_run *h)
{
	if (!h)
		return;
	h->done = NULL;
	if (h->watch)
		hook_kill(h); /* hook_ended frees it */
	/* else the worker's done does */
}
