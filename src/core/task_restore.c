// SPDX-License-Identifier: Apache-2.0
/*
 * Restores
 *
 *   prepare (worker) -> criu starts, and is served its images -> held at post-restore: CREATED
 *     -> tasks.start lets it go -> criu ends well: RUNNING
 *
 * While criu is at work the blobs of pages are hashed beside it, with what it leaves of the processors. A task is not
 * created before both are done: its processes are there, held by criu, and every byte that was served
 * is what the digests say. Smaller things were checked before criu began.
 *
 * criu's hook tells the pid of the restored init, which is our child from then on (--restore-sibling)
 * and watched like any other. Whatever fails before the release, the hook's failing answer or the end
 * of its connection makes criu undo it all; EVENT_FAILED comes when criu has ended, since until then it
 * is in the container's cgroup. A daemon that dies does the same by dying.
 */
#include "core/task_restore.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/ckpt_internal.h"
#include "core/restore_internal.h"
#include "core/task_checkpoint.h"
#include "core/task_stdio.h"
#include "runtime/cgroup.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/mp.h"

/* ---- the request */

static const char *const options[] = { "criu_image_path",   "criu_work_path", "external_mounts",
				       "network_namespace", "stall_timeout",  "tcp_close" };

bool restore_has_option(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (!strcmp(name, options[i]))
			return true;
	return false;
}

static int wrong(struct fault *f, const char *argument, const char *what)
{
	fault_set(f, FAULT_INVALID_ARGUMENT, 0, "tasks.create: %s %s", argument, what);
	fault_arg(f, argument);
	return -EINVAL;
}

static int take_path(const msgpack_object *map, const char *name, char **to, struct fault *f)
{
	const msgpack_object *v = mp_get(map, name);

	if (!v)
		return 0;
	*to = mp_strdup(v);
	if (!*to && errno == ENOMEM)
		return restore_no_memory(f);
	return *to && **to == '/' ? 0 : wrong(f, name, "must be an absolute path");
}

/* {PATH in the container: PATH on the host} */
static int take_mounts(struct restore *r, const msgpack_object *map, struct fault *f)
{
	const msgpack_object *v = mp_get(map, "external_mounts");

	if (!v)
		return 0;
	if (!mp_is_map(v))
		return wrong(f, "external_mounts", "must be a map of paths to paths");
	if (v->type == MSGPACK_OBJECT_ARRAY)
		return 0;
	r->mounts = calloc(v->via.map.size + 1, sizeof(r->mounts[0]));
	if (!r->mounts)
		return restore_no_memory(f);
	for (uint32_t i = 0; i < v->via.map.size; i++) {
		struct restore_mount *m = &r->mounts[r->n_mounts++];

		m->path = mp_strdup(&v->via.map.ptr[i].key);
		m->source = mp_strdup(&v->via.map.ptr[i].val);
		if (!m->path || *m->path != '/' || !m->source || *m->source != '/')
			return wrong(f, "external_mounts", "must be a map of paths to paths");
		for (size_t n = strlen(m->path); n > 1 && m->path[n - 1] == '/'; n--)
			m->path[n - 1] = '\0';
	}
	return 0;
}

static int take_checkpoint(struct restore *r, const msgpack_object *v, struct fault *f)
{
	if (v->type == MSGPACK_OBJECT_MAP) {
		r->has_target = true;
		return oci_descriptor_from_mp(&r->target, v, f);
	}
	r->name = mp_strdup(v);
	if (!r->name || !*r->name)
		return wrong(f, "checkpoint", "must be a descriptor, a name or a folder");
	if (*r->name == '/')
		r->folder = TAKE_PTR(r->name);
	return 0;
}

static void how_far(void *user, struct progress_state *state)
{
	struct restore *r = user;
	struct serve_stats stats;

	if (r->serve) {
		serve_get_stats(r->serve, &stats);
		r->done = stats.bytes_out;
	}
	state->phase = !r->p ? "prepare" : r->held && !r->ready ? "verify" : "restore";
	state->done = r->done;
	state->total = r->total;
}

const char *restore_label(const struct restore *r)
{
	return !r ? "" : r->name ? r->name : r->folder ? r->folder : r->target.digest.text;
}

int restore_new(struct restore **out, struct davit *d, struct ipc_request *req, struct fault *f)
{
	const msgpack_object *checkpoint = ipc_arg(req, "checkpoint"), *o = ipc_arg(req, "options");
	const msgpack_object *close = mp_get(o, "tcp_close");
	struct restore *r;
	int e = 0;

	*out = NULL;
	if (!checkpoint && !(o && mp_get(o, "criu_image_path"))) {
		for (size_t i = 0; o && i < ARRAY_SIZE(options); i++)
			if (mp_get(o, options[i]))
				return wrong(f, options[i],
					     "belongs to a restore: it needs checkpoint");
		return 0;
	}
	r = calloc(1, sizeof(*r));
	if (!r || criu_ready(d) < 0) {
		free(r);
		return restore_no_memory(f);
	}
	r->d = d;
	r->master = r->root = -1;
	r->stall_ns = CKPT_STALL_DEFAULT;
	r->run = calloc(1, sizeof(*r->run));
	if (!r->run)
		e = restore_no_memory(f);
	if (!e && checkpoint)
		e = take_checkpoint(r, checkpoint, f);
	if (!e && o && mp_get(o, "criu_image_path")) {
		free(TAKE_PTR(r->name));
		free(TAKE_PTR(r->folder));
		e = take_path(o, "criu_image_path", &r->folder, f);
	}
	if (!e && o)
		e = take_path(o, "criu_work_path", &r->work_path, f);
	if (!e && o)
		e = take_path(o, "network_namespace", &r->network, f);
	if (!e && o)
		e = take_mounts(r, o, f);
	if (!e && o && mp_get(o, "stall_timeout") &&
	    (!mp_int(mp_get(o, "stall_timeout"), &r->stall_ns) || r->stall_ns < 0))
		e = wrong(f, "stall_timeout", "must be a number of nanoseconds");
	if (!e && close && close->type != MSGPACK_OBJECT_BOOLEAN)
		e = wrong(f, "tcp_close", "must be a bool");
	if (e < 0) {
		restore_free(r);
		return e;
	}
	r->tcp_close = close && close->via.boolean;
	if (progress_begin(&r->progress, d, req, "/tasks/progress", ipc_namespace(req), how_far,
			   r) < 0) {
		restore_free(r);
		return restore_no_memory(f);
	}
	*out = r;
	return 0;
}

/* ---- the end */

static void release(struct restore *r)
{
	oci_descriptor_clear(&r->target);
	checkpoint_read_clear(&r->read);
	for (size_t i = 0; i < r->n_mounts; i++) {
		free(r->mounts[i].path);
		free(r->mounts[i].source);
	}
	for (size_t i = 0; i < r->n_texts; i++)
		free(r->texts[i]);
	free(r->mounts);
	free(r->texts);
	free(r->inherit);
	free(r->sources);
	free(r->name);
	free(r->folder);
	free(r->network);
	free(r->work_path);
	free(r->ns);
	json_object_put(r->limits);
	spec_free(r->spec);
	free(r);
}

static void close_fds(struct restore *r)
{
	for (size_t i = 0; i < r->n_fds; i++)
		close(r->fds[i]);
	free(TAKE_PTR(r->fds));
	r->n_fds = 0;
}

static void stop_watching(struct restore *r)
{
	if (r->stall)
		event_free(TAKE_PTR(r->stall));
}

void restore_free(struct restore *r)
{
	if (!r)
		return;
	restore_root_drop(r);
	stop_watching(r);
	pace_set(&r->verify_pace, false, false);
	progress_end(TAKE_PTR(r->progress));
	serve_free(TAKE_PTR(r->serve));
	hook_point_free(TAKE_PTR(r->hook)); /* one that is held fails */
	criu_run_free(TAKE_PTR(r->run));
	close_fds(r);
	fd_close(&r->master);
	r->p = NULL;
	r->dead = true;
	if (!r->jobs)
		release(r);
}

/* r may be gone then. */
static void tell(struct restore *r, enum process_event ev, struct fault *f)
{
	struct process *p = r->p;
	bool exited = p->state == PROCESS_STARTING && p->exited;

	process_event(p, ev, f);
	if (exited)
		process_event(p, EVENT_EXITED, NULL);
}

/* The first failure counts; criu is left without anything to wait for. */
static void fail(struct restore *r, const struct fault *f)
{
	if (!r->fault.code) {
		r->fault = *f;
		if (!r->fault.code)
			r->fault.code = FAULT_INTERNAL;
	}
	stop_watching(r);
	pace_set(&r->verify_pace, false, false);
	serve_free(TAKE_PTR(r->serve));
	hook_point_answer(r->hook, false);
	hook_point_free(TAKE_PTR(r->hook));
	if (!r->criu_over) {
		criu_run_hurry(r->run);
		return;
	}
	/* one that was killed may have left them behind */
	if (r->released)
		process_kill_now(r->p);
	tell(r, EVENT_FAILED, &r->fault);
}

void restore_cancel(struct restore *r)
{
	struct fault f;

	fault_set(&f, FAULT_CANCELLED, 0, "the task is not wanted any more");
	fail(r, &f);
}

/* ---- jobs: the owner may be gone when they have ended, and r is freed by the last one */

static void job_begin(struct restore *r, struct worker_job *job, void (*run)(struct worker_job *),
		      void (*done)(struct worker_job *), struct worker_pool *pool)
{
	r->jobs++;
	task_job_begin(r->task);
	*job = (struct worker_job){ .run = run, .done = done };
	worker_submit(pool, job);
}

/* Whether nobody wants to know any more; r is gone then. Its caller ends the task's job. */
static bool job_end(struct restore *r)
{
	bool dead = r->dead;

	if (!--r->jobs && dead)
		release(r);
	return dead;
}

/* ---- a criu that stands still: until its hook by what it reads, from the release on by its end */

static uint64_t criu_progress(const struct restore *r)
{
	struct serve_stats stats;

	if (!r->serve)
		return 0;
	serve_get_stats(r->serve, &stats);
	return stats.bytes_out + stats.requests + (stats.connected_at != 0);
}

static void on_stall(evutil_socket_t fd, short what, void *user)
{
	struct restore *r = user;
	struct fault f;

	(void)fd;
	(void)what;
	if (!r->released && criu_progress(r) != r->progress_seen) {
		r->progress_seen = criu_progress(r);
		return;
	}
	fault_set(&f, FAULT_DEADLINE_EXCEEDED, 0,
		  "criu %s: no progress for %lld ms, the restore was given up",
		  r->released ? "does not let the restored processes go" : "stands still",
		  (long long)(r->stall_ns / 1000000));
	fail(r, &f);
}

static void watch_criu(struct restore *r)
{
	/* before, it is looked at twice in the time, so that it is at most that much too late */
	int64_t ns = r->released ? r->stall_ns : r->stall_ns / 2;
	struct timeval tv = { .tv_sec = ns / CLOCK_NS_PER_SEC,
			      .tv_usec = ns % CLOCK_NS_PER_SEC / 1000 };

	stop_watching(r);
	if (!r->stall_ns || r->fault.code)
		return;
	r->stall = event_new(r->d->base, -1, r->released ? 0 : EV_PERSIST, on_stall, r);
	if (!r->stall || event_add(r->stall, &tv) < 0)
		log_warn("no memory to watch over criu (pid %d)", (int)r->run->pid);
}

/* ---- created */

static int watch_init(struct restore *r)
{
	struct process *p = r->p;
	int e;

	p->pid = r->pid;
	p->starttime = fd_pid_starttime(r->pid);
	p->pidfd = fd_pidfd_open(r->pid);
	if (p->pidfd < 0) {
		e = p->pidfd;
		p->pidfd = -1;
		return e;
	}
	p->source = REAPER_CHILD;
	return reaper_add(r->d->reaper, REAPER_CHILD, p->pid, p->pidfd, process_reaped, p,
			  &p->watch);
}

/* criu has given the terminal the size that it had at the checkpoint. */
static void set_size(struct restore *r)
{
	const struct stdio *io = &r->p->stdio;
	struct winsize ws = { .ws_col = io->width ? io->width : 80,
			      .ws_row = io->height ? io->height : 24 };

	if (ioctl(r->master, TIOCSWINSZ, &ws) < 0)
		log_warn("the size of a restored terminal cannot be set: %s", strerror(errno));
}

static int has_ended(struct fault *f)
{
	return fault_set(f, FAULT_UNKNOWN, 0,
			 "the restored process has ended before it could be started");
}

static void check_created(struct restore *r)
{
	struct fault f = { 0 };
	int e;

	if (!r->settled || !r->verified || r->ready || r->fault.code)
		return;
	r->ready = true;
	e = watch_init(r);
	if (e < 0) {
		if (e == -ESRCH)
			has_ended(&f);
		else
			fault_sys(&f, -e, "watch the restored", "init");
		fail(r, &f);
		return;
	}
	if (r->master >= 0)
		set_size(r);
	if (r->master >= 0 && task_stdio_tty(r->p, TAKE_FD(r->master), &f) < 0) {
		fail(r, &f);
		return;
	}
	progress_end(TAKE_PTR(r->progress));
	process_event(r->p, EVENT_READY, NULL);
}

/* One that has ended is in no cgroup any more. */
static bool is_dead(pid_t pid)
{
	CLEANUP_CLOSE int fd = fd_pidfd_open(pid);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return fd == -ESRCH || (fd >= 0 && poll(&p, 1, 0) > 0);
}

/*
 * criu holds the processes: what is theirs but not in its images. Limits, freezer and the end of the
 * task are by the cgroup, so nobody is restored outside of it.
 */
static void settle_run(struct worker_job *job)
{
	struct restore *r = container_of(job, struct restore, settle);
	struct cgroup *cg = r->task->cgroup;
	int in = cgroup_has(cg, r->pid);

	if (in < 0)
		r->settle_result = fault_sys(&r->settle_fault, -in, "look into the cgroup",
					     cgroup_path(cg));
	else if (!in)
		r->settle_result = fault_set(
			&r->settle_fault, FAULT_UNKNOWN, 0,
			"criu has restored the container's init outside of its cgroup %s",
			cgroup_path(cg));
	else
		r->settle_result = restore_live(r, &r->settle_fault);
	/* of a process that is gone nothing is as it should be */
	if (r->settle_result < 0 && is_dead(r->pid))
		r->settle_result = has_ended(&r->settle_fault);
}

static void settle_done(struct worker_job *job)
{
	struct restore *r = container_of(job, struct restore, settle);
	struct task *t = r->task;

	if (!job_end(r)) {
		r->settled = r->settle_result >= 0;
		if (r->settled)
			check_created(r);
		else
			fail(r, &r->settle_fault);
	}
	task_job_end(t);
}

static void on_hook(void *user, pid_t pid)
{
	struct restore *r = user;
	struct fault f;

	stop_watching(r);
	pace_set(&r->verify_pace, false, false);
	r->held = true;
	r->pid = pid;
	if (pid <= 0) {
		fault_set(&f, FAULT_UNKNOWN, 0, "criu did not say which process it has restored");
		fail(r, &f);
		return;
	}
	/* criu has read all that it needs */
	r->done = r->total;
	serve_free(TAKE_PTR(r->serve));
	job_begin(r, &r->settle, settle_run, settle_done, r->d->workers);
}

static void verify_run(struct worker_job *job)
{
	struct restore *r = container_of(job, struct restore, verify);
	struct store_call c = { .store = r->d->store, .ns = r->ns, .f = &r->verify_fault };

	for (size_t i = 0; i < r->read.n_pages && !r->verify_result; i++)
		r->verify_result = content_verify(&c, r->read.pages[i].digest.text);
}

static void verify_done(struct worker_job *job)
{
	struct restore *r = container_of(job, struct restore, verify);
	struct task *t = r->task;

	if (!job_end(r)) {
		r->verified = r->verify_result >= 0;
		if (r->verified)
			check_created(r);
		else
			fail(r, &r->verify_fault);
	}
	task_job_end(t);
}

/* ---- criu */

static void on_started(void *user, const struct fault *f)
{
	struct restore *r = user;

	close_fds(r);
	if (!f) {
		if (!r->held)
			watch_criu(r);
		return;
	}
	r->criu_over = true;
	fail(r, f);
}

static void narrow_run(struct worker_job *job)
{
	struct restore *r = container_of(job, struct restore, narrow);

	r->narrow_result = restore_limits_narrow(r, r->task->cgroup, &r->narrow_fault);
}

static void narrow_done(struct worker_job *job)
{
	struct restore *r = container_of(job, struct restore, narrow);
	struct task *t = r->task;

	if (!job_end(r)) {
		if (r->narrow_result < 0)
			fail(r, &r->narrow_fault);
		else
			tell(r, EVENT_STARTED, NULL);
	}
	task_job_end(t);
}

static void on_ended(void *user, int exit_code, int signal, const struct fault *f)
{
	struct restore *r = user;
	struct fault why;

	(void)exit_code;
	(void)signal;
	stop_watching(r);
	r->criu_over = true;
	if (!f && !r->fault.code && r->released) {
		if (r->limits)
			job_begin(r, &r->narrow, narrow_run, narrow_done, r->d->workers);
		else
			tell(r, EVENT_STARTED, NULL);
		return;
	}
	if (f && !r->fault.code)
		r->fault = *f;
	else if (f && !r->fault.log[0])
		memcpy(r->fault.log, f->log, sizeof(r->fault.log));
	if (!f && !r->fault.code) {
		fault_set(&why, FAULT_UNKNOWN, 0, "criu ended before its processes were released");
		r->fault = why;
	}
	if (r->limits && cgroup_oom_kills(r->task->cgroup) > 0) {
		r->fault.code = FAULT_RESOURCE_EXHAUSTED;
		fault_prefix(&r->fault,
			     "what is restored does not fit into the container's memory limit");
	}
	fail(r, &r->fault);
}

static void on_serve_failed(void *user, const struct fault *f)
{
	fail(user, f);
}

void restore_begin(struct restore *r, struct process *p)
{
	struct davit *d = r->d;
	struct fault f = { 0 };
	struct serve_request sr = {
		.base = d->base,
		.unpack = criu_pack_pool(d),
		.images_dir = r->run->dir,
		.files = &r->read.files,
		.buffers = criu_buffers(d),
		.failed = on_serve_failed,
		.user = r,
	};
	int e;

	r->p = p;
	r->task = p->task;
	p->restore = r;
	for (size_t i = 0; i < r->read.files.n; i++)
		for (size_t k = 0; k < r->read.files.v[i].n_parts; k++)
			r->total += r->read.files.v[i].parts[k].size;
	e = serve_new(&r->serve, &sr, &f);
	if (!e)
		e = hook_point_new(&r->hook, d->base, r->run->dir, on_hook, r, &f);
	if (e < 0) {
		r->criu_over = true;
		fail(r, &f);
		return;
	}
	r->run->started = on_started;
	r->run->ended = on_ended;
	r->run->user = r;
	criu_run_start(r->run);
	if (!r->read.n_pages) {
		r->verified = true;
		return;
	}
	r->verify_pace.pools[0] = criu_write_pool(d);
	pace_set(&r->verify_pace, true, false);
	job_begin(r, &r->verify, verify_run, verify_done, criu_write_pool(d));
}

void restore_task_ended(struct restore *r)
{
	criu_run_hurry(r->run);
}

int restore_release(struct restore *r)
{
	if (!r->hook || r->criu_over || r->fault.code)
		return -EPIPE;
	r->released = true;
	watch_criu(r);
	hook_point_answer(r->hook, true);
	return 0;
}
