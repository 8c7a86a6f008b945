// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint
 *
 * A checkpoint is a sequence of steps that belongs to the reactor; workers do what blocks, criu is a
 * child, and its image files come as streams (checkpoint/capture.h).
 *
 *   prepare (worker) -> memory is made ready (workers) -> criu starts (worker) -> capture … drained
 *     -> [hook: held at post-dump] -> criu ends -> seal: what is left is packed and written -> commit (worker) -> answer
 *
 * Without a hook the task runs again as soon as criu is done, whatever there is still to write. With
 * one, criu is held while the task is still frozen:
 * - the container has a snapshot: its writable layer is copied aside, then criu goes on;
 * - `exit`: the hook is answered only when the checkpoint is durable, so a task is never ended for a
 *   checkpoint that does not exist. Then seal and commit come before criu's end. That answer is the point of
 *   no return (`final`): from then on nothing fails the checkpoint any more, not its client's end, not a
 *   deadline, not a criu that hangs: the image stays and the task ends, by criu or else by us. Only criu's
 *   own word that it has let the task go on, with the task alive, undoes it.
 *
 * One way out: `settle` looks at what is there and takes the next step; a failure anywhere is kept
 * (the first one counts), closes what criu reads and writes, and from then on settle only waits for
 * what is still under way. criu cures the task by itself when its streams are closed; nobody sends it
 * a signal. What the client hears is the reason that explains most: that of the store, or criu's.
 *
 * The task is marked while criu is at it (t->dumping): it cannot be paused, resumed or given a
 * process meanwhile. Its memory is kept by task_job_begin.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/ckpt_internal.h"
#include "core/container.h"
#include "core/labels.h"
#include "core/store_job.h"
#include "core/task_checkpoint.h"
#include "runtime/cgroup.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/log.h"

static void settle(struct ckpt *ck);
static void fail(struct ckpt *ck, const struct fault *f);

/* ---- the end */

static void release(struct ckpt *ck)
{
	for (size_t i = 0; i < ck->n_blobs; i++)
		free(ck->blobs[i].file);
	for (size_t i = 0; i < ck->n_descriptors; i++)
		oci_descriptor_clear(&ck->descriptors[i]);
	oci_descriptor_clear(&ck->index);
	if (ck->blob)
		spec_blob_put(ck->blob);
	if (ck->labels)
		labels_clear(ck->labels);
	ckpt_record_clear(&ck->record);
	ckpt_options_clear(&ck->o);
	store_events_clear(&ck->events);
	pthread_mutex_destroy(&ck->lock);
	fd_close(&ck->diff_fd);
	fd_close(&ck->folder);
	free(ck->descriptors);
	free(ck->blobs);
	free(ck->labels);
	free(ck->image_name);
	free(ck->diff_name);
	free(ck->freezer);
	free(ck->image);
	free(ck->snapshotter);
	free(ck->snapshot_key);
	free(ck->container_runtime);
	free(ck->ns);
	free(ck->id);
	free(ck->name);
	free(ck->lease);
	free(ck);
}

/* On a worker: the lease and the copy go, whatever came of it; of a failed one all. */
static void finish_run(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);
	struct fault f = { 0 };
	struct store_call c = ck->call;

	c.f = &f;
	if (ck->result < 0)
		ckpt_folder_drop(ck);
	if (ck->diff_name)
		snapshot_aside_drop(&c, ck->snapshotter, ck->diff_name);
	if (ck->held)
		lease_release(&c, &ck->hold);
}

static void finish_done(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);
	struct task *t = ck->t;

	ck->ended_at = clock_mono();
	progress_end(TAKE_PTR(ck->progress));
	ckpt_answer(ck);
	store_tidy(ck->d);
	release(ck);
	task_job_end(t);
}

/* What ckpt_watch.c waited for has not come. */
void ckpt_overdue(struct ckpt *ck, const struct fault *f)
{
	fail(ck, f);
	settle(ck);
}

static void criu_go_on(struct ckpt *ck)
{
	ck->at_hook = false;
	ck->final = ck->o.exit;
	hook_point_answer(ck->hook, true);
	ckpt_expect_criu(ck, true);
}

static void criu_let_go(struct ckpt *ck)
{
	ckpt_expect_criu(ck, false);
	ck->t->dumping = NULL;
	if (!ck->released_at)
		ck->released_at = clock_mono();
}

static void on_capture_gone(void *user)
{
	struct ckpt *ck = user;

	ck->capture_alive = false;
	if (!ck->dropping)
		settle(ck);
}

/* Its jobs may be at the sink for a while yet. */
static void drop_capture(struct ckpt *ck)
{
	if (ck->capture)
		capture_get_stats(ck->capture, &ck->capture_stats);
	ck->dropping = true;
	capture_free(TAKE_PTR(ck->capture));
	ck->dropping = false;
}

static void finish(struct ckpt *ck)
{
	criu_let_go(ck);
	drop_capture(ck);
	hook_point_free(TAKE_PTR(ck->hook));
	criu_run_free(TAKE_PTR(ck->run));
	ck->job = (struct worker_job){ .run = finish_run, .done = finish_done };
	worker_submit(ck->d->workers, &ck->job);
}

/* ---- failures */

/* What criu holds is closed, so it ends; settle waits for that. */
static void give_up(struct ckpt *ck)
{
	cancel_set(&ck->cancel);
	ckpt_expect_criu(ck, false);
	drop_capture(ck);
	if (ck->hook && ck->at_hook)
		hook_point_answer(ck->hook, false);
	if (!ck->criu_over)
		criu_run_hurry(ck->run);
}

/* Behind the point of no return criu is told to hurry at most. */
static void fail(struct ckpt *ck, const struct fault *f)
{
	if (ck->final) {
		criu_run_hurry(ck->run);
		return;
	}
	if (!ck->fault.code) {
		ck->fault = *f;
		if (!ck->fault.code)
			ck->fault.code = FAULT_INTERNAL;
	}
	ck->result = -1;
	give_up(ck);
}

static void unwanted(struct ipc_request *req, void *user)
{
	struct ckpt *ck = user;
	struct fault f;

	(void)req;
	ck->req = NULL;
	if (ck->final)
		return;
	fault_set(&f, FAULT_CANCELLED, 0, "the checkpoint is not wanted any more");
	fail(ck, &f);
	settle(ck);
}

/* ---- commit */

static void commit_run(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);
	struct fault f = { 0 };
	int r;

	ck->phase_at[CKPT_COMMIT] = clock_mono();
	r = ckpt_diff_pack(ck, &f);
	if (!r)
		r = ckpt_commit(ck);
	else
		ck->job_fault = f;
	ck->committed = !r;
}

static void commit_done(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);

	ck->committing = false;
	if (!ck->committed)
		fail(ck, &ck->job_fault);
	settle(ck);
}

static void undo_run(struct worker_job *job)
{
	ckpt_undo_commit(container_of(job, struct ckpt, job));
}

static void undo_done(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);

	ck->committing = false;
	ck->committed = false;
	settle(ck);
}

static void start_job(struct ckpt *ck, void (*run)(struct worker_job *),
		      void (*done)(struct worker_job *))
{
	ck->committing = true;
	ck->job = (struct worker_job){ .run = run, .done = done };
	worker_submit(ck->d->image_pool, &ck->job);
}

/* ---- the steps */

static void on_sealed(void *user, const struct fault *f)
{
	struct ckpt *ck = user;

	ck->sealing = false;
	capture_get_stats(ck->capture, &ck->capture_stats);
	if (f)
		fail(ck, f);
	else
		ck->sealed = true;
	settle(ck);
}

static void on_drained(void *user)
{
	struct ckpt *ck = user;

	ck->drained = true;
	ckpt_expect_criu(ck, !ck->at_hook);
	settle(ck);
}

static void on_capture_failed(void *user, const struct fault *f)
{
	struct ckpt *ck = user;

	/* a peer that breaks off has a reason of its own, which its log tells */
	ck->peer_failed = f->code == FAULT_UNKNOWN;
	fail(ck, f);
	settle(ck);
}

static void diff_run(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);
	struct fault f = { 0 };

	ck->phase_at[CKPT_DIFF] = clock_mono();
	if (ckpt_diff_copy(ck, &f) < 0) {
		ck->job_fault = f;
		ck->job_failed = true;
	}
}

static void diff_done(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);

	ck->committing = false;
	ck->diff_done = true;
	if (ck->job_failed)
		fail(ck, &ck->job_fault);
	settle(ck);
}

static void seal(struct ckpt *ck)
{
	ck->sealing = true;
	ck->phase_at[CKPT_SEAL] = clock_mono();
	capture_finish(ck->capture, on_sealed);
}

/* Held, with all streams at their end: nothing in the container moves. */
static void at_hook(struct ckpt *ck)
{
	if (!ck->diff_done) {
		start_job(ck, diff_run, diff_done);
	} else if (!ck->o.exit || ck->committed) {
		criu_go_on(ck);
	} else if (!ck->sealed) {
		seal(ck);
		ckpt_expect_store(ck);
	} else {
		start_job(ck, commit_run, commit_done);
		ckpt_expect_store(ck);
	}
}

/* criu has ended well. */
static void after_criu(struct ckpt *ck)
{
	if (!ck->drained) {
		/* what it wrote last may be in the pipes still */
		if (!ck->asked_for_end) {
			ck->asked_for_end = true;
			capture_peer_ended(ck->capture);
		}
	} else if (!ck->sealed) {
		seal(ck);
	} else if (!ck->committed) {
		start_job(ck, commit_run, commit_done);
	} else {
		finish(ck);
	}
}

/* The next step, if nothing is under way that has to come back first. */
static void settle(struct ckpt *ck)
{
	if (ck->committing || ck->starting)
		return;
	if (ck->result < 0) {
		if (!ck->criu_over) {
			give_up(ck);
			return;
		}
		if (ck->capture_alive)
			return;
		if (ck->committed)
			start_job(ck, undo_run, undo_done);
		else
			finish(ck);
		return;
	}
	if (ck->sealing)
		return;
	if (ck->at_hook && ck->drained)
		at_hook(ck);
	else if (ck->criu_over)
		after_criu(ck);
}

static void on_hook(void *user, pid_t pid)
{
	struct ckpt *ck = user;

	(void)pid;
	ck->at_hook = true;
	ckpt_expect_criu(ck, false);
	if (ck->result < 0)
		hook_point_answer(ck->hook, false);
	settle(ck);
}

/* Whether the task is there still, beyond doubt. */
static bool is_alive(const struct process *p)
{
	struct pollfd ended = { .fd = p->pidfd, .events = POLLIN };

	return (p->state == PROCESS_RUNNING || p->state == PROCESS_PAUSED) && p->pidfd >= 0 &&
	       poll(&ended, 1, 0) == 0;
}

/*
 * criu was told to end the task, and failed. By a signal it may have been at it already: what it has left
 * is ended here. With an exit status it has let the task go on, if that is alive; false then.
 */
static bool ended_for_criu(struct ckpt *ck, int signal, const struct fault *f)
{
	struct task *t = ck->t;

	if (!is_alive(&t->init)) {
		log_warn("criu's end for %s/%s, whose checkpoint stands: %s", ck->ns, ck->id,
			 f->message);
		return true;
	}
	if (!signal)
		return false;
	log_warn("criu has not ended %s/%s, whose checkpoint stands; it is killed: %s", ck->ns,
		 ck->id, f->message);
	if (!t->cgroup || task_kill_all(t, SIGKILL, NULL) < 0)
		process_kill_now(&t->init);
	return true;
}

static void on_criu_ended(void *user, int exit_code, int signal, const struct fault *f)
{
	struct ckpt *ck = user;

	(void)exit_code;
	ck->criu_over = true;
	ck->at_hook = false;
	criu_let_go(ck);
	if (f && ck->final && ended_for_criu(ck, signal, f))
		f = NULL;
	if (f) {
		ck->final = false;
		/* criu's own words, unless it only ended since we had given up */
		if (!ck->fault.code || ck->peer_failed)
			ck->fault = *f;
		else if (!ck->fault.log[0])
			memcpy(ck->fault.log, f->log, sizeof(ck->fault.log));
		ck->result = -1;
		give_up(ck);
	}
	settle(ck);
}

static void on_criu_started(void *user, const struct fault *f)
{
	struct ckpt *ck = user;

	ck->starting = false;
	if (f) {
		ck->criu_over = true;
		fail(ck, f);
	} else if (ck->o.image_path && !ck->result && !ck->at_hook) {
		ckpt_expect_criu(ck, true);
	}
	settle(ck);
}

/* Memory is there, or nobody wants it any more. */
static void on_ready(void *user)
{
	struct ckpt *ck = user;

	if (ck->result < 0) {
		ck->starting = false;
		ck->criu_over = true;
		settle(ck);
		return;
	}
	ck->phase_at[CKPT_DUMP] = clock_mono();
	criu_run_start(ck->run);
}

static int start_dump(struct ckpt *ck, struct fault *f)
{
	struct davit *d = ck->d;
	struct capture_request r = {
		.base = d->base,
		.pack = criu_pack_pool(d),
		.write = criu_write_pool(d),
		.images_dir = ck->run->dir,
		.sink = ckpt_sink(ck),
		.compress = ck->o.compress,
		.level = ck->o.level,
		.buffers = criu_buffers(d),
		.expected = ck->memory,
		.stall_ns = ck->o.stall_ns,
		.ready = on_ready,
		.drained = on_drained,
		.failed = on_capture_failed,
		.gone = on_capture_gone,
		.user = ck,
	};
	int e = ck->o.image_path ? 0 : capture_new(&ck->capture, &r, f);

	ck->capture_alive = ck->capture;
	if (!e && ck->wants_hook)
		e = hook_point_new(&ck->hook, d->base, ck->run->dir, on_hook, ck, f);
	if (e < 0)
		return e;
	/* criu writes the files itself: nothing is to be drained or sealed, and a layer has no place there */
	if (ck->o.image_path)
		ck->drained = ck->sealed = ck->diff_done = true;
	ck->run->started = on_criu_started;
	ck->run->ended = on_criu_ended;
	ck->run->user = ck;
	ck->starting = true;
	if (!ck->capture || capture_is_ready(ck->capture))
		on_ready(ck);
	return 0;
}

static void prepare_run(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);

	ck->job_failed = ckpt_prepare(ck) < 0;
	if (ck->job_failed && !ck->job_fault.code)
		fault_set(&ck->job_fault, FAULT_INTERNAL, 0, "the checkpoint cannot be prepared");
}

static void prepare_done(struct worker_job *job)
{
	struct ckpt *ck = container_of(job, struct ckpt, job);
	struct fault f = { 0 };

	ck->committing = false;
	if (!ck->result && !ck->job_failed && start_dump(ck, &f) < 0)
		fail(ck, &f);
	if (!ck->starting)
		ck->criu_over = true;
	if (ck->job_failed)
		fail(ck, &ck->job_fault);
	settle(ck);
}

/* ---- the method */

/* How much criu will send is not known before it has. */
static void how_far(void *user, struct progress_state *state)
{
	struct ckpt *ck = user;
	struct capture_stats stats = ck->capture_stats;

	if (ck->capture)
		capture_get_stats(ck->capture, &stats);
	state->done = stats.bytes_in;
	if (ck->sealed && ck->drained)
		state->phase = "commit";
	else if (ck->sealing)
		state->phase = "seal";
	else
		state->phase = ck->capture || ck->criu_over || ck->starting ? "dump" : "prepare";
	if (ck->drained)
		state->total = stats.bytes_in;
}

static bool copy_text(char **to, const char *text)
{
	*to = strdup(text ? text : "");
	return *to;
}

static bool fill(struct ckpt *ck, struct ipc_request *req)
{
	struct container *c = ck->t->container;
	const char *name = ipc_arg_str(req, "name"), *lease = ipc_arg_str(req, "lease");

	ck->labels = calloc(1, sizeof(*ck->labels));
	if (!ck->labels || !copy_text(&ck->ns, ck->t->ns) || !copy_text(&ck->id, ck->t->id) ||
	    !copy_text(&ck->lease, lease) || (name && !copy_text(&ck->name, name)) ||
	    !copy_text(&ck->image, container_image(c)) ||
	    !copy_text(&ck->snapshotter, container_snapshotter(c)) ||
	    !copy_text(&ck->snapshot_key, container_snapshot_key(c)) ||
	    !copy_text(&ck->container_runtime, container_runtime(c)) ||
	    container_labels_copy(c, ck->labels) < 0)
		return false;
	ck->pid = ck->t->init.pid;
	ck->blob = container_spec(c);
	ck->has_terminal = ck->t->init.stdio.terminal;
	for (int i = 0; i < 3; i++) {
		ck->stdio_kinds[i] = ck->t->init.stdio.stream[i].kind;
		ck->stdio_pipes[i] = ck->t->init.stdio.stream[i].inode;
	}
	ck->paused = ck->t->init.state == PROCESS_PAUSED;
	if (ck->paused && !(ck->freezer = cgroup_freezer_path(ck->t->cgroup)))
		return false;
	ck->call = (struct store_call){
		.store = ck->d->store,
		.ns = ck->ns,
		.lease = ck->lease,
		.events = &ck->events,
		.cancel = &ck->cancel,
		.f = &ck->job_fault,
	};
	ck->wants_hook = ck->o.exit || (*ck->snapshot_key && !ck->o.image_path);
	return true;
}

/* What would not be in the checkpoint. NULL: nothing. */
static const struct process *running_exec(struct task *t)
{
	struct process *p;

	RB_FOREACH (p, process_tree, &t->execs)
		if (p->state == PROCESS_STARTING || p->state == PROCESS_RUNNING)
			return p;
	return NULL;
}

static bool allowed(struct task *t, struct ipc_request *req)
{
	const struct process *exec;

	if (ipc_has(req, "parent_checkpoint")) {
		ipc_reply_error(req, FAULT_UNIMPLEMENTED, "parent_checkpoint",
				"checkpoints against a parent are not part of this version");
		return false;
	}
	if (t->dumping) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, "container_id",
				"task %s is being checkpointed already", t->id);
		return false;
	}
	if (t->init.state != PROCESS_RUNNING && t->init.state != PROCESS_PAUSED) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, "container_id",
				"task %s is %s; only a running or paused one can be checkpointed",
				t->id, process_status(&t->init));
		return false;
	}
	exec = running_exec(t);
	if (exec) {
		ipc_reply_error(
			req, FAULT_FAILED_PRECONDITION, "container_id",
			"the process %s was started in task %s by exec and would be missing in the checkpoint; end it first",
			exec->exec_id, t->id);
		return false;
	}
	if (t->d->stopping || t->d->ending) {
		ipc_reply_error(req, FAULT_UNAVAILABLE, NULL, "the daemon is ending");
		return false;
	}
	return true;
}

void task_method_checkpoint(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct task *t = task_of_request(req, d);
	struct ckpt_options o;
	struct fault f = { 0 };
	struct ckpt *ck;

	if (!t || !allowed(t, req))
		return;
	if (ckpt_options_read(&o, ipc_arg(req, "options"), &f) < 0) {
		ckpt_options_clear(&o);
		ipc_reply_fault(req, &f);
		return;
	}
	ck = calloc(1, sizeof(*ck));
	if (!ck || criu_ready(d) < 0) {
		free(ck);
		ckpt_options_clear(&o);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	ck->d = d;
	ck->t = t;
	ck->o = o;
	ck->diff_fd = -1;
	ck->folder = -1;
	ck->began = clock_mono();
	pthread_mutex_init(&ck->lock, NULL);
	store_events_init(&ck->events);
	ckpt_record_init(&ck->record);
	ck->run = calloc(1, sizeof(*ck->run));
	if (ck->run)
		ck->run->d = d; /* it may be given up before it is opened */
	if (!ck->run || !fill(ck, req)) {
		free(ck->run);
		release(ck);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	if (progress_begin(&ck->progress, d, req, "/tasks/progress", ck->ns, how_far, ck) < 0) {
		free(ck->run);
		release(ck);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	ck->req = req;
	t->dumping = ck;
	task_job_begin(t);
	ipc_request_on_cancel(req, unwanted, ck);
	ck->committing = true;
	ck->job = (struct worker_job){ .run = prepare_run, .done = prepare_done };
	worker_submit(d->workers, &ck->job);
}

void task_checkpoint_abandon(struct task *t)
{
	struct ckpt *ck = t->dumping;

	if (!ck)
		return;
	task_checkpoint_stop(t);
	if (t->dumping != ck)
		return;
	ck->criu_over = true;
	criu_let_go(ck);
	settle(ck);
}

void task_checkpoint_stop(struct task *t)
{
	struct fault f;

	if (!t->dumping)
		return;
	if (t->dumping->final && !is_alive(&t->init)) {
		/* all is done that was asked of it: nobody waits for a criu that hangs */
		criu_run_kill(t->dumping->run);
		return;
	}
	fault_set(&f, FAULT_UNAVAILABLE, 0, "the daemon is ending");
	fail(t->dumping, &f);
	settle(t->dumping);
}
