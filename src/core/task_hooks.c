// SPDX-License-Identifier: Apache-2.0
/*
 * Hooks after the launch: poststart and poststop
 *
 * The spec that a launch works with is gone by then, and after a restart of the daemon it was never there. So a worker
 * reads it from the container's record again; only containers that have such hooks pay for that.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/container.h"
#include "core/hookrun.h"
#include "core/task_internal.h"
#include "util/cleanup.h"
#include "util/log.h"

struct hooks_job {
	struct worker_job job; /* first */
	struct task *task;
	struct spec_blob *blob;
	struct spec *spec;
	struct hook_run_request request;
	void (*done)(void *user, const struct fault *f);
	struct fault fault;
	int result;
};

static void hooks_read(struct worker_job *job)
{
	struct hooks_job *j = (struct hooks_job *)job;
	CLEANUP_FREE char *text = NULL;
	size_t size;

	j->result = spec_blob_text(j->blob, &text, &size);
	if (j->result < 0)
		fault_sys(&j->fault, -j->result, "unpack the spec", NULL);
	else
		j->result = spec_parse_text(text, size, &j->spec, &j->fault);
}

static void hooks_start(struct worker_job *job)
{
	struct hooks_job *j = (struct hooks_job *)job;
	struct task *t = j->task;
	struct process *p = &t->init;

	/* deleted before its poststart hooks began: they do not any more */
	if (!t->dead &&
	    (p->state != PROCESS_DELETING || j->request.kinds[0] == SPEC_HOOK_POSTSTOP)) {
		j->request.spec = j->spec;
		j->request.id = t->id;
		j->request.bundle = t->bundle;
		if (j->result >= 0) {
			j->result = hook_run_start(&p->hooks, t->d, &j->request, j->done, p);
			if (j->result < 0)
				fault_sys(&j->fault, -j->result, "run the hooks", NULL);
		}
		if (j->result < 0) {
			log_error("task %s/%s: its %s hooks cannot be run: %s", t->ns, t->id,
				  spec_hook_name(j->request.kinds[0]), j->fault.message);
			j->done(p, &j->fault);
		}
	}
	spec_free(j->spec);
	spec_blob_put(j->blob);
	task_job_end(t);
	free(j);
}

bool task_hooks_run(struct task *t, enum spec_hook_kind kind, const char *status, pid_t pid,
		    bool go_on, void (*done)(void *user, const struct fault *f))
{
	struct hooks_job *j;

	if (!(t->hooks & (1u << kind)))
		return false;
	j = calloc(1, sizeof(*j));
	if (!j) {
		log_error("task %s/%s: no memory for its %s hooks", t->ns, t->id,
			  spec_hook_name(kind));
		return false;
	}
	j->job.run = hooks_read;
	j->job.done = hooks_start;
	j->task = t;
	j->blob = container_spec(t->container);
	j->request.kinds[0] = kind;
	j->request.n_kinds = 1;
	j->request.status = status;
	j->request.pid = pid;
	j->request.go_on = go_on;
	j->done = done;
	task_job_begin(t);
	worker_submit(t->d->workers, &j->job);
	return true;
}
