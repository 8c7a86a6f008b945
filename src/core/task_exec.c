// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.exec and the start of an exec
 *
 * Adding checks all that can be known (the process object, the program, the streams) and compiles the plan; starting clones. Both
 * are a worker's job, and a job owns what it works on: the launch and the streams move into it and come back by its done, so that a
 * task that ends in between leaves nobody with a dangling pointer. After a restart of the daemon an added exec has lost its plan,
 * and its start makes it again from the text kept in the journal.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/task_internal.h"
#include "core/task_logs.h"
#include "core/task_stdio.h"
#include "monitor/journal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/log.h"
#include "util/mp.h"

#define PF_EXITING 0x00000004u /* linux/sched.h */

struct exec_job {
	struct worker_job job; /* first */
	struct task *task;
	struct process *process; /* valid when the task is not dead */
	struct davit *d;
	struct spec_blob *blob;
	struct stdio_request request;
	struct stdio io;
	char *id, *text;
	bool fresh, spawn; /* fresh: streams are to be opened; spawn: else only checked */
	pid_t join_pid;
	int join_pidfd;

	struct spec *spec, *container_spec;
	struct seccomp_program *seccomp;
	struct launch *launch;
	uint64_t starttime;
	struct fault fault;
	int result;
};

static void exec_job_free(struct exec_job *j)
{
	launch_free(j->launch);
	seccomp_put(j->seccomp);
	spec_free(j->spec);
	spec_free(j->container_spec);
	if (j->blob)
		spec_blob_put(j->blob);
	stdio_request_clear(&j->request);
	stdio_clear(&j->io);
	fd_close(&j->join_pidfd);
	free(j->id);
	free(j->text);
	free(j);
}

static int exec_compile(struct exec_job *j)
{
	CLEANUP_FREE char *text = NULL;
	struct launch_request lr = { 0 };
	json_object *json = NULL;
	size_t size;
	int r;

	r = json_parse(j->text, strlen(j->text), &json, &j->fault);
	if (r < 0)
		return r;
	r = spec_parse_process(json, &j->spec, &j->fault);
	json_object_put(json);
	if (r < 0)
		return r;
	if (j->fresh) {
		if (!j->request.terminal_given)
			j->request.terminal = j->spec->process.terminal;
		r = stdio_request_apply(&j->request, &j->io, &j->fault);
		if (!r)
			r = stdio_open(&j->io, &j->fault);
		if (r < 0)
			return r;
		r = task_stdio_watch(j->d, &j->io);
		if (r < 0)
			return fault_sys(&j->fault, -r, "watch a FIFO", NULL);
	}
	r = spec_blob_text(j->blob, &text, &size);
	if (r < 0)
		return fault_sys(&j->fault, -r, "unpack the spec", NULL);
	r = spec_parse_text(text, size, &j->container_spec, &j->fault);
	if (r < 0)
		return r;
	if (j->container_spec->seccomp) {
		r = seccomp_get(j->d->seccomp, j->container_spec->seccomp, &j->seccomp, &j->fault);
		if (r < 0)
			return r;
	}
	lr.spec = j->spec;
	lr.container_spec = j->container_spec;
	lr.id = j->id;
	lr.bundle = "";
	lr.terminal = j->io.terminal;
	lr.width = j->io.width;
	lr.height = j->io.height;
	lr.cgroup = j->task->cgroup; /* the task's memory outlives the job and the launch */
	lr.seccomp = j->seccomp;
	lr.join_pid = j->join_pid;
	lr.join_pidfd = j->join_pidfd;
	for (int i = 0; i < 3; i++)
		lr.stdio[i] = j->io.stream[i].child;
	return launch_new(&j->launch, &lr, &j->fault);
}

static void exec_run(struct worker_job *job)
{
	struct exec_job *j = (struct exec_job *)job;

	if (!j->launch)
		j->result = exec_compile(j);
	if (j->result < 0 || !j->spawn)
		return;
	j->result = launch_spawn(j->launch, &j->fault);
	stdio_close_child(&j->io);
	if (!j->result)
		j->starttime = fd_pid_starttime(launch_pid(j->launch));
}

static void exec_done(struct worker_job *job);

static struct exec_job *exec_job_new(struct process *p)
{
	struct task *t = p->task;
	struct exec_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	stdio_init(&j->io);
	for (int i = 0; i < 3; i++)
		j->request.fd[i] = -1;
	j->request.console = -1;
	j->job.run = exec_run;
	j->job.done = exec_done;
	j->task = t;
	j->process = p;
	j->d = t->d;
	j->join_pid = t->init.pid;
	j->join_pidfd = p->join_pidfd >= 0 ? TAKE_FD(p->join_pidfd)
					   : fcntl(t->init.pidfd, F_DUPFD_CLOEXEC, 0);
	j->id = strdup(t->id);
	if (!j->id || j->join_pidfd < 0) {
		exec_job_free(j);
		return NULL;
	}
	return j;
}

/* What the job made goes back to the process. */
static void exec_give_back(struct exec_job *j, struct process *p)
{
	p->stdio = j->io;
	stdio_init(&j->io);
	p->launch = TAKE_PTR(j->launch);
	p->seccomp = TAKE_PTR(j->seccomp);
	p->spec = TAKE_PTR(j->spec);
	p->container_spec = TAKE_PTR(j->container_spec);
	p->join_pidfd = TAKE_FD(j->join_pidfd);
}

static void exec_added(struct exec_job *j, struct process *p)
{
	struct task *t = p->task;
	struct ipc_request *req = pending_take(&p->start); /* the add's own request waits there */
	struct fault f = j->fault;
	int r = j->result;

	if (r == 0 && t->init.state != PROCESS_RUNNING)
		r = fault_set(&f, FAULT_FAILED_PRECONDITION, 0, "task %s is %s", t->id,
			      process_status(&t->init));
	if (r == 0 && !req)
		r = -ECANCELED;
	if (r == 0) {
		exec_give_back(j, p);
		p->spec_text = TAKE_PTR(j->text);
		p->state = PROCESS_ADDED;
		p->created_at = clock_now();
		r = task_stdio_keep(p);
		process_journal(p);
		task_publish(t, "/tasks/exec-added", p);
		if (r == 0)
			r = task_commit(t);
		if (r < 0)
			fault_sys(&f, -r, "write the journal", NULL);
	}
	if (r < 0) {
		task_stdio_unwatch(t->d, &j->io);
		task_stdio_unwatch(t->d, &p->stdio);
		process_remove_exec(p);
		if (req)
			ipc_reply_fault(req, &f);
		return;
	}
	ipc_reply_empty(req);
}

static void exec_start_failed(struct process *p, const struct fault *f)
{
	struct ipc_request *req = pending_take(&p->start);

	p->exit_status = f->exit_code ? f->exit_code : 255;
	p->exit_reason = EXIT_EXITED;
	p->exited = true;
	p->exited_at = clock_now();
	process_fail(p, f);
	if (req)
		ipc_reply_fault(req, f);
	exit_publish(p);
}

/* Reaped, dead, or on its way: what tells earliest is PF_EXITING, in the ninth field of proc_pid_stat(5). */
static bool exec_init_ended(const struct task *t)
{
	CLEANUP_FREE char *text = NULL;
	unsigned flags = 0;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)t->init.pid);
	if (t->init.exited || fd_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return true;
	p = strrchr(text, ')');
	return p && sscanf(p, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 && flags & PF_EXITING;
}

static void exec_spawned(struct exec_job *j, struct process *p)
{
	struct task *t = p->task;
	struct fault f;
	int r;

	exec_give_back(j, p);
	if (j->result < 0) {
		/* what a clone into a dying pid namespace says (ENOMEM, ESRCH) is not what happened */
		if (exec_init_ended(t)) {
			fault_set(&j->fault, FAULT_FAILED_PRECONDITION, 0,
				  "tasks.start: task %s is stopped", t->id);
			j->fault.exit_code = 0;
		}
		exec_start_failed(p, &j->fault);
		return;
	}
	p->pid = launch_pid(p->launch);
	p->pidfd = launch_take_pidfd(p->launch);
	p->starttime = j->starttime;
	r = reaper_add(t->d->reaper, REAPER_CHILD, p->pid, p->pidfd, process_reaped, p, &p->watch);
	if (!r)
		r = task_stdio_ready(p);
	if (!r) {
		process_journal(p);
		r = task_commit(t);
	}
	if (r < 0) {
		fault_sys(&f, -r, "start an exec", NULL);
		process_fail(p, &f);
		process_kill_now(p);
		if (!p->watch)
			exec_start_failed(p, &f);
		return;
	}
	if (t->init.state == PROCESS_STOPPED || t->init.state == PROCESS_ENDING)
		process_kill_now(p);
	if (p->early_signal)
		fd_pidfd_send_signal(p->pidfd, p->early_signal);
	process_watch_launch(p);
}

static void exec_done(struct worker_job *job)
{
	struct exec_job *j = (struct exec_job *)job;
	struct task *t = j->task;
	struct process *p = j->process;

	if (t->dead) {
		/* a child that waits dies with the launch's socket */
		task_stdio_unwatch(t->d, &j->io);
		exec_job_free(j);
		task_job_end(t);
		return;
	}
	if (p->state == PROCESS_CREATING)
		exec_added(j, p);
	else
		exec_spawned(j, p);
	exec_job_free(j);
	task_job_end(t);
}

void exec_spawn(struct process *p, void *arg)
{
	struct task *t = p->task;
	struct ipc_request *req = arg;
	struct exec_job *j;

	if (t->init.state != PROCESS_RUNNING) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL, "tasks.start: task %s is %s",
				t->id, process_status(&t->init));
		return;
	}
	j = exec_job_new(p);
	if (!j) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL,
				"tasks.start: out of memory or fds");
		return;
	}
	j->spawn = true;
	j->text = strdup(p->spec_text ? p->spec_text : "");
	j->blob = container_spec(t->container);
	j->launch = TAKE_PTR(p->launch);
	j->seccomp = TAKE_PTR(p->seccomp);
	j->spec = TAKE_PTR(p->spec);
	j->container_spec = TAKE_PTR(p->container_spec);
	j->io = p->stdio;
	stdio_init(&p->stdio);
	free(TAKE_PTR(p->spec_text));
	pending_set(&p->start, req);
	p->state = PROCESS_STARTING;
	task_job_begin(t);
	worker_submit(t->d->workers, &j->job);
}

void exec_drop(struct process *p, void *arg)
{
	p->exit_reason = EXIT_UNKNOWN;
	delete_stopped(p, arg);
}

void exec_add(struct process *init, void *arg)
{
	struct ipc_request *req = arg;
	struct task *t = init->task;
	const char *exec_id = ipc_arg_str(req, "exec_id");
	struct process key = { .exec_id = (char *)exec_id }, *p;
	json_object *json = NULL;
	struct exec_job *j;
	struct fault f;
	char log[PATH_MAX];

	if (RB_FIND(process_tree, &t->execs, &key)) {
		ipc_reply_error(req, FAULT_ALREADY_EXISTS, "exec_id",
				"tasks.exec: exec %s already exists", exec_id);
		return;
	}
	if (json_from_mp(ipc_arg(req, "spec"), &json, &f) < 0) {
		fault_prefix(&f, "tasks.exec: spec");
		fault_arg(&f, "spec");
		ipc_reply_fault(req, &f);
		return;
	}
	p = process_new_exec(t, exec_id);
	j = p ? exec_job_new(p) : NULL;
	task_log_path(t->d, t->ns, t->id, exec_id, log, sizeof(log));
	if (j)
		j->text = strdup(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
	json_object_put(json);
	if (!j || !j->text || stdio_request_init(&j->request, req) < 0 ||
	    stdio_request_log(&j->request, log) < 0) {
		if (j)
			exec_job_free(j);
		if (p)
			process_remove_exec(p);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL,
				"tasks.exec: out of memory or fds");
		return;
	}
	p->auto_remove = ipc_arg_bool(req, "auto_remove", false);
	j->fresh = true;
	j->blob = container_spec(t->container);
	pending_set(&p->start, req);
	task_job_begin(t);
	worker_submit(t->d->workers, &j->job);
}

void task_method_exec(struct ipc_request *req, void *user)
{
	struct task *t = task_of_request(req, user);

	if (t)
		process_event(&t->init, EVENT_EXEC, req);
}
