// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.create: from a request to a waiting init
 *
 * One worker job does all that blocks: spec, streams, plan, cgroup, clone. From then on the launch's socket drives the
 * process: terminal, seccomp listener, hooks, ready. A failure, at whichever point, ends in `create_undo`: the child is
 * killed and reaped, the cgroup removed, and only then the error is answered, so that nothing is left when the client reads it.
 * A client that vanishes before the answer has the same effect as a failure.
 *
 * Without a rootfs list in the request the container's snapshot, if it has one, is what is mounted. The job asks the store for
 * it, since that blocks.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/container.h"
#include "core/hookrun.h"
#include "core/keep.h"

#include "core/task_internal.h"
#include "core/task_logs.h"
#include "core/task_restore.h"
#include "core/task_stdio.h"
#include "monitor/journal.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/mp.h"

struct create_job {
	struct worker_job job; /* first */
	struct task *task;
	struct davit *d;
	struct spec_blob *blob;
	struct stdio_request io;
	struct launch_mount *rootfs;
	size_t n_rootfs;
	msgpack_zone *zone; /* of rootfs */
	char *cgroup_path, *rootfs_dir;
	char *snapshotter, *snapshot_key; /* NULL: rootfs is the request's */
	struct store_mounts mounts; /* of the snapshot */
	msgpack_sbuffer mounts_packed; /* the same, for the event */
	bool no_pivot_root;
	struct restore *restore; /* instead of a launch */

	/* results */
	int result;
	struct fault fault;
	struct spec *spec;
	struct seccomp_program *seccomp;
	struct launch *launch;
	struct cgroup *cgroup;
	uint64_t starttime;
};

static void create_undo(struct process *p, const struct fault *f);

static void create_job_free(struct create_job *j)
{
	if (!j)
		return;
	spec_blob_put(j->blob);
	stdio_request_clear(&j->io);
	if (j->zone)
		msgpack_zone_free(j->zone);
	free(j->rootfs);
	free(j->cgroup_path);
	free(j->rootfs_dir);
	free(j->snapshotter);
	free(j->snapshot_key);
	store_mounts_clear(&j->mounts);
	msgpack_sbuffer_destroy(&j->mounts_packed);
	restore_free(j->restore);
	free(j);
}

DEFINE_CLEANUP(struct create_job *, create_job_free)

void process_fail(struct process *p, const struct fault *f)
{
	if (p->fault)
		return;
	p->fault = malloc(sizeof(*p->fault));
	if (p->fault)
		*p->fault = *f;
}

/* ---- the worker's part */

static int create_snapshot(struct create_job *j)
{
	struct store_call c = { .store = j->d->store, .ns = j->task->ns, .f = &j->fault };
	const char *snapshotter;
	msgpack_packer pk;
	int r;

	r = snapshotter_name(c.store, j->snapshotter, &snapshotter, c.f);
	if (!r)
		r = snapshot_mounts(&c, snapshotter, j->snapshot_key, &j->mounts);
	if (r < 0) {
		fault_prefix(c.f, "the container's snapshot_key");
		return r;
	}
	j->rootfs = calloc(j->mounts.n, sizeof(*j->rootfs));
	if (!j->rootfs)
		return fault_sys(c.f, ENOMEM, "mount the snapshot", j->snapshot_key);
	for (size_t i = 0; i < j->mounts.n; i++) {
		const struct store_mount *m = &j->mounts.v[i];

		j->rootfs[i] = (struct launch_mount){
			.type = m->type,
			.source = m->source,
			.target = m->target,
			.options = (const char *const *)m->options,
			.n_options = m->n_options,
		};
	}
	j->n_rootfs = j->mounts.n;
	mp_packer_init(&pk, &j->mounts_packed);
	store_mounts_pack(&pk, &j->mounts);
	return mp_failed(&j->mounts_packed)
		       ? fault_sys(c.f, ENOMEM, "mount the snapshot", j->snapshot_key)
		       : 0;
}

static int create_prepare(struct create_job *j)
{
	struct task *t = j->task;
	struct fault *f = &j->fault;
	CLEANUP_FREE char *text = NULL;
	char path[PATH_MAX];
	struct launch_request lr = { 0 };
	struct stdio *io = &t->init.stdio;
	size_t size;
	int r;

	r = spec_blob_text(j->blob, &text, &size);
	if (r < 0)
		return fault_sys(f, -r, "unpack the spec", NULL);
	r = spec_parse_text(text, size, &j->spec, f);
	if (r < 0)
		return r;
	if (!j->spec->has_process) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "the spec has no process");
		fault_arg(f, "process");
		return r;
	}
	if (!j->io.terminal_given)
		j->io.terminal = j->spec->process.terminal;
	r = stdio_request_apply(&j->io, io, f);
	if (r < 0)
		return r;
	r = stdio_open(io, f);
	if (r < 0)
		return r;
	r = task_stdio_watch(j->d, io);
	if (r < 0)
		return fault_sys(f, -r, "watch a FIFO", NULL);
	if (j->snapshot_key) {
		r = create_snapshot(j);
		if (r < 0)
			return r;
	}
	/* one folder for all to mount on: each does so in a mount namespace of its own */
	if (j->n_rootfs && mkdir(j->rootfs_dir, 0700) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make the mount point", j->rootfs_dir);
	r = cgroup_path_for(j->d->cgroups, j->cgroup_path ? j->cgroup_path : j->spec->cgroups_path,
			    t->ns, t->id, path, sizeof(path), f);
	if (r < 0)
		return r;
	if (j->spec->seccomp) {
		r = seccomp_get(j->d->seccomp, j->spec->seccomp, &j->seccomp, f);
		if (r < 0)
			return r;
	}
	lr.spec = j->spec;
	lr.id = t->id;
	lr.bundle = t->bundle;
	lr.rootfs = j->rootfs;
	lr.n_rootfs = j->n_rootfs;
	lr.rootfs_dir = j->rootfs_dir;
	lr.terminal = io->terminal;
	lr.width = io->width;
	lr.height = io->height;
	lr.no_pivot_root = j->no_pivot_root;
	lr.seccomp = j->seccomp;
	lr.join_pidfd = -1;
	for (int i = 0; i < 3; i++)
		lr.stdio[i] = io->stream[i].child;
	/* its mounts are seen in the container's mount namespace only: one folder serves all */
	if (j->n_rootfs && mkdir(j->rootfs_dir, 0700) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make the rootfs' mount point", j->rootfs_dir);
	r = cgroup_create(j->d->cgroups, path, j->spec, &j->cgroup, f);
	if (r < 0)
		return r;
	if (j->restore) {
		struct restore_start rs = {
			.spec = j->spec,
			.ns = t->ns,
			.id = t->id,
			.bundle = t->bundle,
			.rootfs = j->rootfs,
			.n_rootfs = j->n_rootfs,
			.io = io,
			.cgroup = j->cgroup,
		};

		return restore_prepare(j->restore, &rs, f);
	}
	lr.cgroup = j->cgroup;
	r = launch_new(&j->launch, &lr, f);
	if (r < 0)
		return r;
	return launch_spawn(j->launch, f);
}

static void create_run(struct worker_job *job)
{
	struct create_job *j = (struct create_job *)job;

	j->result = create_prepare(j);
	if (j->result < 0) {
		launch_free(TAKE_PTR(j->launch));
		if (j->cgroup)
			cgroup_remove(j->cgroup, NULL);
		cgroup_free(TAKE_PTR(j->cgroup));
		seccomp_put(TAKE_PTR(j->seccomp));
		spec_free(TAKE_PTR(j->spec));
	} else if (j->launch) {
		j->starttime = fd_pid_starttime(launch_pid(j->launch));
	}
	stdio_close_child(&j->task->init.stdio);
}

/* ---- the reactor's part */

/* The task goes without a trace; whoever waits is told why. */
static void create_end(struct process *p)
{
	struct task *t = p->task;
	struct ipc_request *req = pending_take(&t->create);
	struct fault f;

	if (p->fault)
		f = *p->fault;
	else
		fault_set(&f, FAULT_CANCELLED, 0, "the task was not wanted any more");
	process_journal_del(p);
	task_commit(t);
	task_stdio_drop(p);
	task_remove(t);
	if (req)
		ipc_reply_fault(req, &f);
}

struct undo_job {
	struct worker_job job;
	struct task *task;
	struct fault fault;
	int result;
};

static void undo_run(struct worker_job *job)
{
	struct undo_job *u = (struct undo_job *)job;

	cgroup_signal(u->task->cgroup, SIGKILL);
	u->result = cgroup_remove(u->task->cgroup, &u->fault);
}

static void undo_done(struct worker_job *job)
{
	struct undo_job *u = (struct undo_job *)job;
	struct task *t = u->task;

	if (u->result < 0)
		log_error("task %s/%s: %s", t->ns, t->id, u->fault.message);
	create_end(&t->init);
	task_job_end(t);
	free(u);
}

/* The child is reaped (or never was): remove the cgroup, then end. */
static void create_undo_cgroup(struct process *p)
{
	struct task *t = p->task;
	struct undo_job *u = t->cgroup ? calloc(1, sizeof(*u)) : NULL;

	if (!u) {
		if (t->cgroup)
			log_error("task %s/%s: no memory to remove its cgroup", t->ns, t->id);
		create_end(p);
		return;
	}
	u->job.run = undo_run;
	u->job.done = undo_done;
	u->task = t;
	task_job_begin(t);
	worker_submit(t->d->workers, &u->job);
}

static void create_undo(struct process *p, const struct fault *f)
{
	if (f)
		process_fail(p, f);
	hook_run_cancel(TAKE_PTR(p->hooks));
	process_release_launch(p);
	if (p->watch)
		process_kill_now(p); /* create_exited goes on */
	else
		create_undo_cgroup(p);
}

void create_failed(struct process *p, void *arg)
{
	create_undo(p, arg);
}

void create_exited(struct process *p, void *arg)
{
	(void)arg;
	if (!p->fault && !p->cancelled) {
		struct task *t = p->task;
		struct fault f;
		bool through;

		task_job_begin(t);
		process_drain_launch(p); /* its last words */
		through = t->dead || !p->launch; /* a failure: it has been undone already */
		if (!through && p->state != PROCESS_CREATING) {
			process_event(p, EVENT_EXITED, NULL); /* ready, and dead since */
			through = true;
		}
		task_job_end(t);
		if (through)
			return;
		fault_set(&f, FAULT_UNKNOWN, 0, "the init ended before it was set up (%s %d)",
			  p->signal ? "signal" : "exit code",
			  p->signal ? p->signal : p->exit_status);
		process_fail(p, &f);
	}
	hook_run_cancel(TAKE_PTR(p->hooks));
	process_release_launch(p);
	create_undo_cgroup(p);
}

/* The client does not want it any more: cancelled, out of time, or gone. */
static void create_unwanted(struct ipc_request *req, void *user)
{
	struct task *t = user;

	(void)req;
	t->create.req = NULL;
	t->init.cancelled = true;
	if (t->init.restore) {
		restore_cancel(t->init.restore);
		return;
	}
	if (!t->init.launch)
		return; /* the job's done sees it */
	create_undo(&t->init, NULL);
}

static void create_done(struct worker_job *job)
{
	CLEANUP(create_job_freep) struct create_job *j = (struct create_job *)job;
	struct task *t = j->task;
	struct process *p = &t->init;
	struct fault f;
	int r;

	task_job_end(t);
	if (j->result < 0) {
		process_fail(p, &j->fault);
		create_end(p);
		return;
	}
	if (j->mounts_packed.size) {
		t->rootfs_size = j->mounts_packed.size;
		t->rootfs = msgpack_sbuffer_release(&j->mounts_packed);
	}
	p->spec = j->spec;
	p->seccomp = j->seccomp;
	p->launch = j->launch;
	t->cgroup = j->cgroup;
	for (unsigned k = 0; k < SPEC_HOOK_KINDS; k++)
		t->hooks |= (p->spec->hooks[k].n > 0) << k;
	t->own_pid_ns = p->spec->ns[SPEC_NS_PID].given && !p->spec->ns[SPEC_NS_PID].path;
	if (j->restore) {
		if (p->cancelled)
			create_undo(p, NULL);
		else
			restore_begin(TAKE_PTR(j->restore), p);
		return;
	}
	p->pid = launch_pid(p->launch);
	p->pidfd = launch_take_pidfd(p->launch);
	p->starttime = j->starttime;
	r = reaper_add(t->d->reaper, REAPER_CHILD, p->pid, p->pidfd, process_reaped, p, &p->watch);
	if (r < 0) {
		fault_sys(&f, -r, "watch the init", NULL);
		process_kill_now(p);
		create_undo(p, &f);
		return;
	}
	if (p->cancelled) {
		create_undo(p, NULL);
		return;
	}
	process_watch_launch(p);
}

void create_ready(struct process *p, void *arg)
{
	struct task *t = p->task;
	struct ipc_request *req;
	struct fault f;
	char key[512];
	int r;

	(void)arg;
	r = task_stdio_ready(p);
	if (r < 0) {
		fault_sys(&f, -r, "set up the streams", NULL);
		create_undo(p, &f);
		return;
	}
	process_key(p, "start", "", key, sizeof(key));
	if (p->launch)
		keep_put(t->d->keep, key, launch_fd(p->launch));
	p->state = PROCESS_CREATED;
	p->created_at = clock_now();
	process_journal(p);
	task_publish(t, "/tasks/create", p);
	r = task_commit(t);
	free(TAKE_PTR(t->rootfs));
	if (r < 0) {
		p->state = PROCESS_CREATING;
		keep_drop(t->d->keep, key);
		fault_sys(&f, -r, "write the journal", NULL);
		create_undo(p, &f);
		return;
	}
	req = pending_take(&t->create);
	if (req) {
		msgpack_packer *pk = ipc_reply_begin(req);

		msgpack_pack_map(pk, 2);
		mp_pack_key_str(pk, "container_id", t->id);
		mp_pack_key_int(pk, "pid", p->pid);
		ipc_reply_end(req);
	}
}

/* ---- the request */

static int create_rootfs(struct create_job *j, const msgpack_object *list, struct fault *f)
{
	if (!list)
		return 0;
	j->zone = msgpack_zone_new(1024);
	j->n_rootfs = list->via.array.size;
	j->rootfs = calloc(j->n_rootfs + 1, sizeof(*j->rootfs));
	if (!j->zone || !j->rootfs)
		return fault_sys(f, ENOMEM, "keep the rootfs mounts", NULL);
	return task_mounts(j->zone, list, j->rootfs, f);
}

/* For the event; without memory the event has an empty list. */
static void create_keep_rootfs(struct task *t, const msgpack_object *list)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;

	msgpack_sbuffer_init(&sb);
	msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
	if (msgpack_pack_object(&pk, *list) == 0) {
		t->rootfs_size = sb.size;
		t->rootfs = msgpack_sbuffer_release(&sb);
	}
	msgpack_sbuffer_destroy(&sb);
}

static int create_options(struct create_job *j, const msgpack_object *options, struct fault *f)
{
	int64_t v;

	if (!options || !mp_is_map(options) || options->type == MSGPACK_OBJECT_ARRAY)
		return 0;
	for (uint32_t i = 0; i < options->via.map.size; i++) {
		const msgpack_object_kv *kv = &options->via.map.ptr[i];
		CLEANUP_FREE char *key = mp_strdup(&kv->key);

		if (!key)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "tasks.create: options: a key that is no text");
		if (kv->val.type == MSGPACK_OBJECT_NIL)
			continue;
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "tasks.create: options.%s: wrong type",
			  key);
		fault_arg(f, "options");
		if (restore_has_option(key))
			continue; /* restore_new has read them */
		if (!strcmp(key, "no_pivot_root")) {
			if (kv->val.type != MSGPACK_OBJECT_BOOLEAN)
				return -EINVAL;
			j->no_pivot_root = kv->val.via.boolean;
		} else if (!strcmp(key, "cgroup_path")) {
			j->cgroup_path = mp_strdup(&kv->val);
			if (!j->cgroup_path)
				return -EINVAL;
		} else if (!strcmp(key, "log_max_size")) {
			if (!mp_int(&kv->val, &v) || v < 4096)
				return -EINVAL;
			j->io.log_max_size = v;
		} else {
			fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				  "tasks.create: options.%s: unknown option", key);
			fault_arg(f, "options");
			return -EINVAL;
		}
	}
	return 0;
}

void task_method_create(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	const char *ns = ipc_namespace(req), *id = ipc_arg_str(req, "container_id");
	struct container *c = container_find(d, ns, id);
	CLEANUP(create_job_freep) struct create_job *j = NULL;
	struct task *t;
	struct fault f;
	char log[PATH_MAX];
	int r;

	if (!c) {
		ipc_reply_error(req, FAULT_NOT_FOUND, "container_id",
				"tasks.create: container %s not found", id);
		return;
	}
	if (container_task(c)) {
		ipc_reply_error(req, FAULT_ALREADY_EXISTS, "container_id",
				"tasks.create: container %s has a task", id);
		return;
	}
	if (*container_runtime(c) && strcmp(container_runtime(c), "davit")) {
		ipc_reply_error(
			req, FAULT_UNIMPLEMENTED, "container_id",
			"tasks.create: container %s asks for the runtime \"%s\"; this version has only its own (\"davit\")",
			id, container_runtime(c));
		return;
	}
	if (d->stopping || d->ending) {
		ipc_reply_error(req, FAULT_UNAVAILABLE, NULL, "tasks.create: the daemon is ending");
		return;
	}
	j = calloc(1, sizeof(*j));
	if (!j || stdio_request_init(&j->io, req) < 0) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "tasks.create: out of memory");
		return;
	}
	task_log_path(d, ns, id, NULL, log, sizeof(log));
	r = create_options(j, ipc_arg(req, "options"), &f);
	if (!r)
		r = restore_new(&j->restore, d, req, &f);
	if (!r)
		r = create_rootfs(j, ipc_arg(req, "rootfs"), &f);
	if (!r && !ipc_has(req, "rootfs") && *container_snapshot_key(c)) {
		j->snapshotter = strdup(container_snapshotter(c));
		j->snapshot_key = strdup(container_snapshot_key(c));
		if (!j->snapshotter || !j->snapshot_key)
			r = fault_sys(&f, ENOMEM, "create a task", NULL);
	}
	if (!r && asprintf(&j->rootfs_dir, "%s/rootfs", d->config.state) < 0) {
		j->rootfs_dir = NULL;
		r = fault_sys(&f, ENOMEM, "create a task", NULL);
	}
	if (!r && stdio_request_log(&j->io, log) < 0)
		r = fault_sys(&f, ENOMEM, "create a task", NULL);
	if (r < 0) {
		ipc_reply_fault(req, &f);
		return;
	}
	t = task_new(d, c);
	if (!t) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "tasks.create: out of memory");
		return;
	}
	if (ipc_has(req, "rootfs"))
		create_keep_rootfs(t, ipc_arg(req, "rootfs"));
	if (j->cgroup_path)
		t->wanted_cgroup = strdup(j->cgroup_path);
	t->auto_remove = container_label(c, "davit.auto-remove") != NULL;
	/* so that a restart finds what was half made */
	process_journal(&t->init);
	r = task_commit(t);
	if (r < 0) {
		fault_sys(&f, -r, "write the journal", NULL);
		task_remove(t);
		ipc_reply_fault(req, &f);
		return;
	}
	t->create.req = req;
	ipc_request_on_cancel(req, create_unwanted, t);
	j->d = d;
	j->task = t;
	j->blob = container_spec(c);
	j->job.run = create_run;
	j->job.done = create_done;
	task_job_begin(t);
	worker_submit(d->workers, &TAKE_PTR(j)->job);
}
