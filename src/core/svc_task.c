// SPDX-License-Identifier: Apache-2.0
/*
 * The tasks service: method table and the handlers that only look
 *
 * Everything that changes a task is an event of its machine (task.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/container.h"
#include "core/keep.h"
#include "core/store_job.h"
#include "core/task.h"
#include "core/task_checkpoint.h"
#include "core/task_internal.h"
#include "core/tty.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/mp.h"

struct task *task_of_request(struct ipc_request *req, struct davit *d)
{
	const char *id = ipc_arg_str(req, "container_id");
	struct task key = { .ns = ipc_namespace(req), .id = id };
	struct task *t = RB_FIND(task_tree, &d->tasks->tree, &key);

	if (t && process_visible(&t->init))
		return t;
	ipc_reply_error(req, FAULT_NOT_FOUND, "container_id", "%s: task %s not found",
			ipc_request_method(req)->name, id);
	return NULL;
}

/* The process that container_id and exec_id name; NULL: answered with not_found. */
static struct process *process_of_request(struct ipc_request *req, struct davit *d)
{
	struct task *t = task_of_request(req, d);
	struct process key = { 0 }, *p;
	const char *exec_id;

	if (!t) /* answered: the request is gone */
		return NULL;
	exec_id = ipc_arg_str(req, "exec_id");
	if (!exec_id || !*exec_id)
		return &t->init;
	key.exec_id = (char *)exec_id;
	p = RB_FIND(process_tree, &t->execs, &key);
	if (p && process_visible(p))
		return p;
	ipc_reply_error(req, FAULT_NOT_FOUND, "exec_id", "%s: exec %s of task %s not found",
			ipc_request_method(req)->name, exec_id, t->id);
	return NULL;
}

static void method_event(struct ipc_request *req, void *user, enum process_event ev)
{
	struct process *p = process_of_request(req, user);

	if (p)
		process_event(p, ev, req);
}

static void method_start(struct ipc_request *req, void *user)
{
	method_event(req, user, EVENT_START);
}

static void method_kill(struct ipc_request *req, void *user)
{
	method_event(req, user, EVENT_KILL);
}

static void method_pause(struct ipc_request *req, void *user)
{
	method_event(req, user, EVENT_PAUSE);
}

static void method_resume(struct ipc_request *req, void *user)
{
	method_event(req, user, EVENT_RESUME);
}

static void method_delete(struct ipc_request *req, void *user)
{
	method_event(req, user, EVENT_DELETE);
}

static void method_get(struct ipc_request *req, void *user)
{
	struct process *p = process_of_request(req, user);
	msgpack_packer *pk;

	if (!p)
		return;
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 1);
	mp_pack_key(pk, "process");
	process_pack(pk, p);
	ipc_reply_end(req);
}

static bool task_field(void *user, const char *const *path, size_t n, const char **value)
{
	struct task *t = user;

	if (n == 1 && (!strcmp(path[0], "id") || !strcmp(path[0], "container_id")))
		*value = t->id;
	else if (n == 1 && !strcmp(path[0], "namespace"))
		*value = t->ns;
	else if (n == 1 && !strcmp(path[0], "status"))
		*value = process_status(&t->init);
	else if (n == 2 && !strcmp(path[0], "labels"))
		*value = container_label(t->container, path[1]);
	else
		return false;
	return *value != NULL;
}

static void method_list(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct task key, *t;
	struct ipc_list it;

	if (!ipc_list_begin(req, "tasks", &it))
		return;
	key.ns = ipc_namespace(req);
	key.id = it.after;
	for (t = RB_NFIND(task_tree, &d->tasks->tree, &key); t;
	     t = RB_NEXT(task_tree, &d->tasks->tree, t)) {
		if (strcmp(t->ns, key.ns))
			break;
		if (!process_visible(&t->init) || !strcmp(t->id, it.after))
			continue;
		if (!ipc_list_want(&it, t->id, task_field, t)) {
			if (it.full)
				break;
			continue;
		}
		process_pack(it.pk, &t->init);
	}
	ipc_list_end(&it);
}

/* ---- wait */

static void wait_dropped(struct ipc_request *req, void *user)
{
	struct process *p = user;
	struct waiter *w;

	TAILQ_FOREACH (w, &p->waiters, link) {
		if (w->req != req)
			continue;
		TAILQ_REMOVE(&p->waiters, w, link);
		free(w);
		return;
	}
}

static void method_wait(struct ipc_request *req, void *user)
{
	struct process *p = process_of_request(req, user);
	struct waiter *w;

	if (!p)
		return;
	if (p->state == PROCESS_STOPPED) {
		msgpack_packer *pk = ipc_reply_begin(req);

		msgpack_pack_map(pk, 4);
		process_pack_exit(pk, p);
		ipc_reply_end(req);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "tasks.wait: out of memory");
		return;
	}
	w->req = req;
	TAILQ_INSERT_TAIL(&p->waiters, w, link);
	ipc_request_on_cancel(req, wait_dropped, p);
}

/* ---- list_pids */

struct pids_job {
	struct worker_job job; /* first */
	struct task *task;
	struct ipc_request *req;
	pid_t *pids;
	size_t n;
	struct fault fault;
	int result;
};

static void pids_run(struct worker_job *job)
{
	struct pids_job *j = (struct pids_job *)job;

	j->result = cgroup_pids(j->task->cgroup, &j->pids, &j->n, &j->fault);
}

static const char *pid_exec(struct task *t, pid_t pid)
{
	struct process *e;

	RB_FOREACH (e, process_tree, &t->execs)
		if (e->pid == pid && !e->exited)
			return e->exec_id;
	return "";
}

static void pids_done(struct worker_job *job)
{
	struct pids_job *j = (struct pids_job *)job;
	struct task *t = j->task;

	if (t->dead) {
		ipc_reply_error(j->req, FAULT_NOT_FOUND, NULL,
				"tasks.list_pids: the task was deleted meanwhile");
	} else if (j->result < 0 && j->fault.code != FAULT_NOT_FOUND) {
		ipc_reply_fault(j->req, &j->fault);
	} else {
		msgpack_packer *pk = ipc_reply_begin(j->req);

		if (j->result < 0)
			j->n = 0; /* the group is gone: nobody is in it */
		msgpack_pack_map(pk, 1);
		mp_pack_key(pk, "processes");
		msgpack_pack_array(pk, j->n);
		for (size_t i = 0; i < j->n; i++) {
			msgpack_pack_map(pk, 2);
			mp_pack_key_int(pk, "pid", j->pids[i]);
			mp_pack_key_str(pk, "exec_id", pid_exec(t, j->pids[i]));
		}
		ipc_reply_end(j->req);
	}
	free(j->pids);
	task_job_end(t);
	free(j);
}

static void method_list_pids(struct ipc_request *req, void *user)
{
	struct task *t = task_of_request(req, user);
	struct pids_job *j;

	if (!t)
		return;
	if (t->init.state == PROCESS_STOPPED || !t->cgroup) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL,
				"tasks.list_pids: task %s is %s", t->id, process_status(&t->init));
		return;
	}
	j = calloc(1, sizeof(*j));
	if (!j) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL,
				"tasks.list_pids: out of memory");
		return;
	}
	j->job.run = pids_run;
	j->job.done = pids_done;
	j->task = t;
	j->req = req;
	task_job_begin(t);
	worker_submit(t->d->workers, &j->job);
}

/* ---- terminals and stdin */

static struct tty *tty_of_request(struct ipc_request *req, struct process *p)
{
	if (p->tty)
		return p->tty;
	ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL, "%s: %s %s",
			ipc_request_method(req)->name, process_id(p),
			!p->stdio.terminal	    ? "has no terminal"
			: p->state == PROCESS_ADDED ? "has not been started"
						    : "has its terminal at the console socket");
	return NULL;
}

static void method_resize(struct ipc_request *req, void *user)
{
	uint16_t width = (uint16_t)ipc_arg_int(req, "width", 0);
	uint16_t height = (uint16_t)ipc_arg_int(req, "height", 0);
	struct process *p = process_of_request(req, user);
	struct tty *tty;
	struct fault f;
	int r;

	if (!p)
		return;
	if (p->state == PROCESS_ADDED && p->stdio.terminal) {
		/* the terminal gets it when it is made */
		p->stdio.width = width;
		p->stdio.height = height;
		ipc_reply_empty(req);
		return;
	}
	tty = tty_of_request(req, p);
	if (!tty)
		return;
	r = tty_resize(tty, width, height);
	if (r < 0) {
		fault_sys(&f, -r, "resize the terminal", NULL);
		ipc_reply_fault(req, &f);
		return;
	}
	ipc_reply_empty(req);
}

static void method_close_io(struct ipc_request *req, void *user)
{
	struct process *p = process_of_request(req, user);
	char key[512];

	if (!p)
		return;
	if (!ipc_arg_bool(req, "stdin", true)) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "stdin",
				"tasks.close_io: only stdin can be closed");
		return;
	}
	if (p->tty) {
		tty_close_stdin(p->tty);
	} else if (p->stdio.stream[0].kind == STDIO_FIFO) {
		process_key(p, "fifo", "stdin", key, sizeof(key));
		keep_drop(p->task->d->keep, key);
	}
	ipc_reply_empty(req);
}

static void method_attach(struct ipc_request *req, void *user)
{
	struct process *p = process_of_request(req, user);
	struct tty *tty;
	struct fault f;
	int fd, r;

	if (!p)
		return;
	tty = tty_of_request(req, p);
	if (!tty)
		return;
	fd = ipc_arg_fd(req, "stream");
	if (fd < 0) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "stream",
				"tasks.attach: stream: fd:0 names no passed fd");
		return;
	}
	r = tty_attach(tty, fd);
	if (r < 0) {
		fault_sys(&f, -r, "attach", NULL);
		ipc_reply_fault(req, &f);
		return;
	}
	ipc_reply_empty(req);
}

/* ---- the table */

#define P_CONTAINER                                                                                \
	{                                                                                          \
		"container_id", IPC_ID, IPC_REQUIRED, 0, 0, NULL, "the container's id"             \
	}
#define P_EXEC                                                                                     \
	{                                                                                          \
		"exec_id", IPC_STR, 0, 0, 0, "", "an exec of it; the init when left out"           \
	}
#define P_EXEC_REQUIRED                                                                            \
	{                                                                                          \
		"exec_id", IPC_ID, IPC_REQUIRED, 0, 0, NULL, "the exec's id"                       \
	}
#define P_STDIO                                                                                         \
	{ "stdin", IPC_STDIO, 0, 0, 0, NULL, "nil, a FIFO's path, file:///path, fd:N" },                \
		{ "stdout", IPC_STDIO, 0, 0, 0, NULL, "nil, a FIFO's path, file:///path, fd:N, log:" }, \
		{ "stderr", IPC_STDIO, 0, 0, 0, NULL, "as stdout; not with a terminal" },               \
		{ "terminal",                                                                           \
		  IPC_BOOL,                                                                             \
		  0,                                                                                    \
		  0,                                                                                    \
		  0,                                                                                    \
		  NULL,                                                                                 \
		  "run in a terminal of its own; the spec's process.terminal when left out" },          \
		{ "width",                                                                              \
		  IPC_INT,                                                                              \
		  0,                                                                                    \
		  0,                                                                                    \
		  65535,                                                                                \
		  "0",                                                                                  \
		  "columns of the terminal; 0: the spec's consoleSize" },                               \
		{ "height",                                                                             \
		  IPC_INT,                                                                              \
		  0,                                                                                    \
		  0,                                                                                    \
		  65535,                                                                                \
		  "0",                                                                                  \
		  "rows of the terminal; 0: the spec's consoleSize" },                                  \
	{                                                                                               \
		"console", IPC_FD, 0, 0, 0, NULL,                                                       \
			"a connected UNIX socket; the terminal's master is sent over it"                \
	}

static const struct ipc_param create_params[] = {
	P_CONTAINER,
	{ "rootfs", IPC_LIST, 0, 0, 0, NULL,
	  "mounts {type, source, target, options}, made in order on the root file system" },
	P_STDIO,
	{ "checkpoint", IPC_STR_OR_MAP, 0, 0, 0, NULL,
	  "restore from this: a descriptor, an image's name, or a folder" },
	{ "options", IPC_MAP, 0, 0, 0, NULL,
	  "no_pivot_root (bool), cgroup_path (str), log_max_size (int, bytes); with checkpoint: criu_image_path, criu_work_path, network_namespace (str), external_mounts (map), tcp_close (bool), stall_timeout (int, ns)" },
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_param process_params[] = { P_CONTAINER, P_EXEC, { 0 } };
static const struct ipc_param task_params[] = { P_CONTAINER, { 0 } };
static const struct ipc_param delete_params[] = {
	P_CONTAINER,
	{ "kill", IPC_BOOL, 0, 0, 0, "false", "end what runs first" },
	{ 0 },
};
static const struct ipc_param delete_process_params[] = {
	P_CONTAINER,
	P_EXEC_REQUIRED,
	{ "kill", IPC_BOOL, 0, 0, 0, "false", "end it first when it runs" },
	{ 0 },
};
static const struct ipc_param kill_params[] = {
	P_CONTAINER,
	P_EXEC,
	{ "signal", IPC_SIGNAL, 0, 1, 64, "SIGTERM", "number or name" },
	{ "all", IPC_BOOL, 0, 0, 0, "false", "every process of the container's cgroup" },
	{ 0 },
};
static const struct ipc_param exec_params[] = {
	P_CONTAINER,
	P_EXEC_REQUIRED,
	{ "spec", IPC_MAP, IPC_REQUIRED, 0, 0, NULL, "an OCI process object" },
	P_STDIO,
	{ "auto_remove", IPC_BOOL, 0, 0, 0, "false", "delete it when it has ended" },
	{ 0 },
};
static const struct ipc_param resize_params[] = {
	P_CONTAINER,
	P_EXEC,
	{ "width", IPC_INT, IPC_REQUIRED, 1, 65535, NULL, "columns" },
	{ "height", IPC_INT, IPC_REQUIRED, 1, 65535, NULL, "rows" },
	{ 0 },
};
static const struct ipc_param close_params[] = {
	P_CONTAINER,
	P_EXEC,
	{ "stdin", IPC_BOOL, 0, 0, 0, "true", "close stdin" },
	{ 0 },
};
static const struct ipc_param attach_params[] = {
	P_CONTAINER,
	P_EXEC,
	{ "stream", IPC_FD, IPC_REQUIRED, 0, 0, NULL,
	  "one end of a socketpair; a hangup of the other detaches" },
	{ 0 },
};

static const struct ipc_param checkpoint_params[] = {
	P_CONTAINER,
	{ "name", IPC_STR, 0, 1, LIMIT_IMAGE_NAME_BYTES, NULL,
	  "name of the image; containerd.io/checkpoint/ID:DATE unless given" },
	{ "parent_checkpoint", IPC_STR, 0, 0, 0, NULL, "not in this version" },
	{ "options", IPC_MAP, 0, 0, 0, NULL,
	  "exit, leave_running, open_tcp, external_unix_sockets, terminal, file_locks, link_remap, empty_namespaces, cgroups_mode, network_lock, image_path, work_path, compression (zstd, none), level, stall_timeout (ns)" },
	STORE_JOB_PROGRESS,
	{ 0 },
};

static const struct ipc_field create_result[] = { { "container_id", "str", "" },
						  { "pid", "int", "of the waiting init" },
						  { 0 } };
static const struct ipc_field pid_result[] = { { "pid", "int", "" }, { 0 } };
static const struct ipc_field process_result[] = { { "process", "process", "" }, { 0 } };
static const struct ipc_field tasks_result[] = { { "tasks", "list of process", "" },
						 { "next", "str", "" },
						 { 0 } };
#define R_EXIT                                                                                     \
	{ "exit_status", "int", "0 to 255; 128 + signal; 255 when unknown" },                      \
		{ "exited_at", "int", "ns since the epoch" },                                      \
		{ "exit_reason", "str", "exited, signaled, oom, unknown" },                        \
	{                                                                                          \
		"signal", "int", "nil when none ended it"                                          \
	}
static const struct ipc_field delete_result[] = {
	{ "id", "str", "" }, { "pid", "int", "" }, R_EXIT, { 0 }
};
static const struct ipc_field wait_result[] = { R_EXIT, { 0 } };
static const struct ipc_field checkpoint_result[] = {
	{ "index", "descriptor", "of the checkpoint; empty with image_path" },
	{ "descriptors", "list of descriptor", "its manifest and that one's blobs" },
	{ "image", "str", "its name" },
	{ "stats", "map",
	  "frozen_us, diff_us, total_us, pages, bytes_in, bytes_out, buffer_peak, phases" },
	{ 0 },
};
static const struct ipc_field pids_result[] = { { "processes", "list of {pid, exec_id}", "" },
						{ 0 } };

const struct ipc_method task_methods[] = {
	{ "tasks.create", "make a task: namespaces, cgroup, root file system, a waiting init", 0,
	  create_params, create_result,
	  "not_found already_exists failed_precondition permission_denied unimplemented",
	  task_method_create },
	{ "tasks.start", "let the init, or an exec, run", 0, process_params, pid_result,
	  "not_found failed_precondition", method_start },
	{ "tasks.delete", "remove a stopped or created task", 0, delete_params, delete_result,
	  "not_found failed_precondition", method_delete },
	{ "tasks.delete_process", "remove a stopped or added exec", 0, delete_process_params,
	  delete_result, "not_found failed_precondition", method_delete },
	{ "tasks.get", "a process", 0, process_params, process_result, "not_found", method_get },
	{ "tasks.list", "the tasks of a namespace", IPC_LISTS, NULL, tasks_result, "",
	  method_list },
	{ "tasks.pause", "freeze every process", 0, task_params, NULL,
	  "not_found failed_precondition deadline_exceeded", method_pause },
	{ "tasks.resume", "thaw every process", 0, task_params, NULL,
	  "not_found failed_precondition deadline_exceeded", method_resume },
	{ "tasks.checkpoint", "write the state of a running task into the content store", 0,
	  checkpoint_params, checkpoint_result,
	  "not_found failed_precondition already_exists unimplemented cancelled deadline_exceeded",
	  task_method_checkpoint },
	{ "tasks.kill", "send a signal", 0, kill_params, NULL, "not_found failed_precondition",
	  method_kill },
	{ "tasks.list_pids", "the processes of the container's cgroup", 0, task_params, pids_result,
	  "not_found failed_precondition", method_list_pids },
	{ "tasks.exec", "add a process to a running task", 0, exec_params, NULL,
	  "not_found already_exists failed_precondition", task_method_exec },
	{ "tasks.resize_pty", "set the size of a terminal", 0, resize_params, NULL,
	  "not_found failed_precondition", method_resize },
	{ "tasks.close_io", "close stdin", 0, close_params, NULL, "not_found", method_close_io },
	{ "tasks.attach", "connect to a terminal", 0, attach_params, NULL,
	  "not_found failed_precondition", method_attach },
	{ "tasks.wait", "answer when the process has ended", IPC_WAITS, process_params, wait_result,
	  "not_found", method_wait },
	{ 0 },
};
