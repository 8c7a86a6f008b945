// SPDX-License-Identifier: Apache-2.0
/*
 * Tasks: what the files of the task room share. See task.c for the design.
 */
#pragma once

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <event2/event.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/davit.h"
#include "core/stdio.h"
#include "ipc/request.h"
#include "monitor/reaper.h"
#include "runtime/launch.h"
#include "util/fault.h"
#include "util/worker.h"

struct container;
struct task;
struct tty;

enum process_state {
	PROCESS_CREATING, /* a worker makes it, or the child sets itself up; not visible yet */
	PROCESS_ADDED, /* an exec that was added and not started */
	PROCESS_CREATED, /* the init waits for its release */
	PROCESS_STARTING, /* released, or an exec being made; no word of its exec yet */
	PROCESS_RUNNING,
	PROCESS_PAUSING,
	PROCESS_PAUSED,
	PROCESS_RESUMING,
	PROCESS_ENDING, /* the init is dead, others of its cgroup are not yet */
	PROCESS_STOPPED,
	PROCESS_DELETING, /* being cleaned up; not visible any more */
	PROCESS_STATES,
};

enum process_event {
	/* requests: refused where the table has no action */
	EVENT_START,
	EVENT_EXEC, /* an exec is added to the init's task */
	EVENT_KILL,
	EVENT_PAUSE,
	EVENT_RESUME,
	EVENT_DELETE,
	/* what happens */
	EVENT_READY, /* the child is set up */
	EVENT_STARTED, /* its exec succeeded */
	EVENT_FAILED, /* set-up or exec failed */
	EVENT_EXITED, /* reaped */
	EVENT_EMPTY, /* nobody is left in the cgroup */
	EVENT_FREEZER, /* the freezer has moved */
	PROCESS_EVENTS,
};

enum exit_reason { EXIT_EXITED, EXIT_SIGNALED, EXIT_OOM, EXIT_UNKNOWN, EXIT_REASONS };

struct waiter {
	TAILQ_ENTRY(waiter) link;
	struct ipc_request *req;
};

/* A request that waits for something; the slot empties itself when the client does not want it any more. */
struct pending {
	struct ipc_request *req;
};

struct process {
	RB_ENTRY(process) node; /* execs, by id */
	struct task *task;
	char *exec_id; /* NULL for the init */
	enum process_state state;
	struct stdio stdio;

	pid_t pid;
	int pidfd;
	uint64_t starttime;
	int64_t created_at, started_at, exited_at;
	int exit_status, signal;
	enum exit_reason exit_reason;
	bool exited; /* the three above are valid */

	struct launch *launch; /* until its exec, or for an exec until it was started */
	struct restore *restore; /* instead of it, of an init that comes from a checkpoint */
	struct spec *spec; /* as long as launch borrows it */
	struct spec *container_spec; /* of an exec, likewise */
	struct seccomp_program *seccomp;
	int join_pidfd; /* of the init, for an exec's launch */
	struct event *launch_event;
	struct reaper_watch *watch;
	enum reaper_source source;
	struct hook_run *hooks; /* under way for this process */
	struct event *grace; /* see task_recover.c */
	struct tty *tty;
	char *spec_text; /* of an added exec: its OCI process, for the journal */

	struct pending start, delete; /* the answers owed */
	struct fault *fault; /* why creating or starting failed */
	int early_signal; /* to an exec that is being made: sent when it is there */
	bool auto_remove; /* of an exec: deleted when it has ended */
	bool delete_requested, cancelled,
		unstarted; /* unstarted: deleted before it was started, its end is no event */
	TAILQ_HEAD(, waiter) waiters;
};

RB_HEAD(process_tree, process);

struct task {
	RB_ENTRY(task) node; /* by namespace and id */
	struct davit *d;
	struct container *container;
	const char *ns, *id; /* of the container */
	char *bundle;
	char *rootfs; /* msgpack of tasks.create's mounts, until its event is out */
	size_t rootfs_size;
	struct process init;
	struct process_tree execs;
	struct cgroup *cgroup; /* NULL until made */
	int64_t freezer_deadline; /* of v1, where the timer asks again and again */
	char *wanted_cgroup; /* tasks.create's option, until the cgroup is made */
	struct event *freezer_event, *freezer_timer, *empty_event;
	int events_fd; /* cgroup.events while something waits for it */
	struct pending pause, create;
	unsigned hooks; /* bits by enum spec_hook_kind: which kinds the spec has */
	bool own_pid_ns, auto_remove, tidying, tidy;
	struct fault *tidy_fault;
	struct ckpt *dumping; /* a checkpoint whose criu is at the task; NULL */
	unsigned jobs; /* worker jobs that point here */
	bool dead; /* removed; freed when jobs is 0 */
};

RB_HEAD(task_tree, task);

/* What is to be dropped at the guardian when a log's pipe is drained. */
struct log_end {
	LIST_ENTRY(log_end) link;
	struct davit *d;
	char key[];
};

struct tasks {
	struct task_tree tree;
	LIST_HEAD(, log_end) log_ends;
	void (*ended)(void *user); /* tasks_end_all */
	void *ended_user;
};

/* ---- task.c: table and machine */
RB_PROTOTYPE(task_tree, task, node, task_cmp)
RB_PROTOTYPE(process_tree, process, node, process_cmp)
int task_cmp(const struct task *a, const struct task *b);
int process_cmp(const struct process *a, const struct process *b);
/* The task that container_id names; NULL: answered with not_found. */
struct task *task_of_request(struct ipc_request *req, struct davit *d);
struct task *task_new(struct davit *d,
		      struct container *c); /* linked to the container; state CREATING */
void tasks_check_ended(struct davit *d); /* tells who waits in tasks_end_all when no task is left */
void task_remove(struct task *t); /* out of the tables; freed when no job points to it */
struct process *process_new_exec(struct task *t, const char *exec_id);
void process_remove_exec(struct process *p);
void process_init(struct process *p, struct task *t);
/* The machine. Requests pass their ipc_request in arg; a refused one is answered. */
void process_event(struct process *p, enum process_event ev, void *arg);
const char *process_id(const struct process *p); /* exec_id, or the container's */
const char *process_status(const struct process *p);
bool process_visible(const struct process *p);
void process_kill_now(struct process *p); /* SIGKILL by pidfd, if it runs */

void pending_set(struct pending *slot, struct ipc_request *req);
struct ipc_request *pending_take(struct pending *slot); /* NULL when nobody waits */

/* A job that keeps the task's memory alive: t->jobs counts it. */
void task_job_begin(struct task *t);
void task_job_end(struct task *t);

/* SIGNAL to all of the task's cgroup, by a worker; req (may be NULL) is answered after. 0 or -errno. */
int task_kill_all(struct task *t, int sig, struct ipc_request *req);

/* ---- task_kill.c */
void kill_signal(struct process *p, void *arg);

/* ---- task_create.c */
void task_method_create(struct ipc_request *req, void *user);
void process_watch_launch(struct process *p); /* polls the launch's socket */
void process_drain_launch(struct process *p); /* reads what is there */
void process_release_launch(struct process *p);
void create_ready(struct process *p, void *arg);
void create_failed(struct process *p, void *arg);
void create_exited(struct process *p, void *arg);
void process_fail(struct process *p, const struct fault *f); /* remembers the first fault */

/* ---- task_start.c */
void start_release(struct process *p, void *arg);
void start_started(struct process *p, void *arg);
void start_failed(struct process *p, void *arg);

/* ---- task_hooks.c */
/*
 * Runs the init's hooks of one kind, when the spec has any (else false, and done is not called). done gets the init's
 * process; p->hooks is the run meanwhile and is cleared before.
 */
bool task_hooks_run(struct task *t, enum spec_hook_kind kind, const char *status, pid_t pid,
		    bool go_on, void (*done)(void *user, const struct fault *f));

/* ---- task_exec.c */
void task_method_exec(struct ipc_request *req, void *user);
void exec_add(struct process *init, void *arg);
void exec_spawn(struct process *p, void *arg);
void exec_drop(struct process *p, void *arg);

/* ---- task_exit.c */
void process_reaped(void *user, const struct reaper_status *status);
void exit_starting(struct process *p, void *arg);
void exit_process(struct process *p, void *arg);
void exit_empty(struct process *p, void *arg);
void exit_publish(struct process *p);
void exit_unknown(struct process *p);
void delete_stopped(struct process *p, void *arg);
void delete_killing(struct process *p, void *arg);
void delete_created(struct process *p, void *arg);
void task_tidy(struct task *t); /* removes the cgroup, off the reactor */

/* ---- task_freeze.c */
void freeze_pause(struct process *p, void *arg);
void freeze_resume(struct process *p, void *arg);
void freeze_moved(struct process *p, void *arg);
void freeze_cancel(struct task *t);
void freeze_begin_late(
	struct task *t); /* an exec has left STARTING: a pause may have waited for it */
void freeze_watch(struct task *t); /* after a restart */

/* ---- task_record.c */
void process_pack(msgpack_packer *pk, const struct process *p);
void process_pack_exit(
	msgpack_packer *pk,
	const struct process *p); /* {exit_status, exited_at, exit_reason, signal} as 4 pairs */
void process_journal(struct process *p); /* gathers the state record */
void process_journal_del(struct process *p);
int process_load(struct process *p, const void *data, size_t size);
void task_publish(struct task *t, const char *topic,
		  const struct process *p); /* gathers the event of a topic */
int task_commit(struct task *t); /* journal_commit; logs a failure */
const char *exit_reason_name(enum exit_reason reason);
int process_state_load(struct davit *d, const char *key, const void *value, size_t size);

/* ---- task_recover.c */
struct keep_item;

/* ---- keys of fds kept by the guardian */
void process_key(const struct process *p, const char *kind, const char *name, char *buf,
		 size_t size);
