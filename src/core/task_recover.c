// SPDX-License-Identifier: Apache-2.0
/*
 * Taking over after a restart
 *
 * The journal tells which tasks there were, the guardian hands over fds and the statuses of who ended meanwhile, and /proc tells who is
 * still there: a pid counts only with its start time. Three kinds of live processes: children of the guardian (it reaps them and
 * tells), orphans of an earlier guardian (their pidfd tells), and those of a state that is no more: what was half made is killed and
 * removed. A process that is gone and of whom no status came is `unknown`: 255, never 0. The guardian sends a status
 * before it reaps, so when a process is seen to be gone its status, if there is one, is in the socket already; the grace is
 * for the socket's queue only.
 */
#include "core/task.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/container.h"
#include "core/keep.h"
#include "core/task_internal.h"
#include "core/task_restore.h"
#include "core/task_stdio.h"
#include "monitor/journal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"

#define RECOVER_GRACE_SECONDS 2

/* "KIND/A/B/C/D" into its parts, in place; absent ones are "". */
static void key_split(char *key, char *parts[5])
{
	for (int i = 0; i < 5; i++) {
		char *slash = key && i < 4 ? strchr(key, '/') : NULL;

		parts[i] = key ? key : "";
		if (slash)
			*slash++ = 0;
		key = slash;
	}
}

static struct task *recover_task(struct davit *d, const char *ns, const char *id)
{
	struct task key = { .ns = ns, .id = id };

	return RB_FIND(task_tree, &d->tasks->tree, &key);
}

int tasks_replay(void *user, const char *key, const void *value, size_t size)
{
	struct davit *d = user;
	CLEANUP_FREE char *copy = strdup(key);
	struct container *c;
	struct process *p;
	struct task *t;
	char *part[5];
	int r;

	if (!copy)
		return -ENOMEM;
	key_split(copy, part);
	if (strcmp(part[0], "task") && strcmp(part[0], "exec"))
		return 0; /* of another room, or of a later version */
	t = recover_task(d, part[1], part[2]);
	if (!t) {
		c = container_find(d, part[1], part[2]);
		if (!c) {
			log_error("task %s/%s has no container record; it is left alone", part[1],
				  part[2]);
			return 0;
		}
		t = task_new(d, c);
		if (!t)
			return -ENOMEM;
	}
	p = strcmp(part[0], "exec") ? &t->init : process_new_exec(t, part[3]);
	if (!p)
		return -ENOMEM;
	r = process_load(p, value, size);
	if (r == -EBADMSG) {
		log_error("the record of %s cannot be read; it is forgotten", key);
		if (p->exec_id)
			process_remove_exec(p);
		return 0;
	}
	return r;
}

void tasks_keep_item(void *user, const char *key, int fd)
{
	struct davit *d = user;
	CLEANUP_FREE char *copy = strdup(key);
	struct process find, *p = NULL;
	struct task *t;
	char *part[5];
	int r;

	if (!copy) {
		close(fd);
		return;
	}
	key_split(copy, part);
	t = recover_task(d, part[1], part[2]);
	find.exec_id = part[3];
	if (t)
		p = *part[3] ? RB_FIND(process_tree, &t->execs, &find) : &t->init;
	if (!p) {
		close(fd);
		keep_drop(d->keep, key);
		return;
	}
	if (!strcmp(part[0], "start")) {
		r = launch_resume(&p->launch, fd, p->pid, -1);
		if (r < 0)
			close(fd);
	} else {
		r = task_stdio_item(p, part[0], part[4], fd);
	}
	if (r < 0)
		log_error("%s cannot be taken over: %s", key, strerrordesc_np(-r));
}

static void recover_late(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;

	(void)fd;
	(void)what;
	log_warn("%s/%s: ended while nobody watched; its status is unknown", p->task->ns,
		 process_id(p));
	exit_unknown(p);
}

static pid_t recover_parent(pid_t pid)
{
	CLEANUP_FREE char *text = NULL;
	char path[64], *p;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_file(-1, path, 4096, &text, NULL) < 0)
		return 0;
	p = strrchr(text, ')');
	return p && sscanf(p, ") %*c %d", &parent) == 1 ? parent : 0;
}

/* Watches a process of which the record says that it runs. */
static int recover_process(struct process *p)
{
	struct davit *d = p->task->d;
	struct timeval grace = { .tv_sec = RECOVER_GRACE_SECONDS };
	bool alive;
	int r;

	p->pidfd = fd_pidfd_open(p->pid);
	alive = p->pidfd >= 0 && fd_pid_starttime(p->pid) == p->starttime;
	if (!alive)
		fd_close(&p->pidfd);
	p->source = alive && recover_parent(p->pid) != d->guardian_pid ? REAPER_ADOPTED
								       : REAPER_GUARDIAN;
	r = reaper_add(d->reaper, p->source, p->pid, p->pidfd, process_reaped, p, &p->watch);
	if (alive)
		task_stdio_relog(p);
	if (r < 0 || alive)
		return r;
	p->grace = evtimer_new(d->base, recover_late, p);
	if (!p->grace)
		return -ENOMEM;
	return evtimer_add(p->grace, &grace);
}

static int recover_exec(struct process *p)
{
	switch (p->state) {
	case PROCESS_ADDED:
	case PROCESS_STOPPED:
		return 0;
	case PROCESS_STARTING:
		/* no record of a clone: what there may be ended with its launch socket */
		if (!p->pid) {
			exit_unknown(p);
			return 0;
		}
		p->state = PROCESS_RUNNING;
		p->started_at = clock_now();
		process_journal(p);
		task_publish(p->task, "/tasks/exec-started", p);
		task_commit(p->task);
		return recover_process(p);
	default:
		p->state = PROCESS_RUNNING;
		return recover_process(p);
	}
}

/* What a create that did not get to its end has left: its child is dying, its cgroup is there. */
static void recover_half_made(struct task *t)
{
	CLEANUP_FREE char *text = NULL;
	struct spec_blob *blob = container_spec(t->container);
	struct spec *spec = NULL;
	char path[PATH_MAX];
	struct fault f;
	size_t size;

	if (spec_blob_text(blob, &text, &size) == 0 &&
	    spec_parse_text(text, size, &spec, NULL) == 0 &&
	    cgroup_path_for(t->d->cgroups, t->wanted_cgroup ? t->wanted_cgroup : spec->cgroups_path,
			    t->ns, t->id, path, sizeof(path), NULL) == 0 &&
	    cgroup_open(t->d->cgroups, path, &t->cgroup) == 0) {
		/*
		 * Its child ends by itself, without the launch's socket. Nobody is killed: the group may be another's,
		 * on which the create was about to fail.
		 */
		if (cgroup_remove(t->cgroup, &f) < 0)
			log_error("task %s/%s: %s", t->ns, t->id, f.message);
	}
	spec_free(spec);
	spec_blob_put(blob);
	process_journal_del(&t->init);
	task_commit(t);
	log_info("task %s/%s: what a create had begun was removed", t->ns, t->id);
	task_remove(t);
}

/* One without a launch was restored, and its limits may be criu's still. */
static void recover_limits(struct task *t)
{
	CLEANUP_FREE char *text = NULL;
	struct spec_blob *blob = container_spec(t->container);
	struct spec *spec = NULL;
	struct fault f = { 0 };
	size_t size;
	int r = spec_blob_text(blob, &text, &size);

	if (!r)
		r = spec_parse_text(text, size, &spec, &f);
	if (!r && t->cgroup)
		r = restore_limits_recover(t->cgroup, spec, &f);
	if (r < 0)
		log_error("task %s/%s: its limits could not be set again: %s", t->ns, t->id,
			  f.message);
	spec_free(spec);
	spec_blob_put(blob);
}

/*
 * Its release was written, and perhaps not given: giving it twice does no harm. The socket then tells as ever whether the exec
 * came about; without the socket only the word of it was missing.
 */
static void recover_release(struct process *p)
{
	if (!p->launch) {
		recover_limits(p->task);
		process_event(p, EVENT_STARTED, NULL);
		return;
	}
	launch_restart(p->launch);
	process_watch_launch(p);
}

static int recover_init(struct task *t)
{
	struct process *p = &t->init;
	int r;

	switch (p->state) {
	case PROCESS_STARTING:
		r = recover_process(p);
		if (r == 0)
			recover_release(p);
		return r;
	case PROCESS_CREATED:
		r = recover_process(p);
		if (r == 0 && p->launch)
			process_watch_launch(p);
		else if (r == 0)
			process_kill_now(p); /* nothing is left that could start it */
		return r;
	case PROCESS_PAUSING:
	case PROCESS_RESUMING:
		r = recover_process(p);
		if (r == 0)
			freeze_watch(t);
		return r;
	case PROCESS_PAUSED:
		return recover_process(p);
	case PROCESS_RUNNING:
	case PROCESS_ENDING:
		p->state = PROCESS_RUNNING;
		if (p->exited) {
			exit_process(p, NULL);
			return 0;
		}
		return recover_process(p);
	default: /* stopped */
		p->state = PROCESS_STOPPED;
		task_tidy(t);
		if (t->auto_remove)
			process_event(p, EVENT_DELETE, NULL);
		return 0;
	}
}

int tasks_recover(struct davit *d)
{
	struct task *t, *next;

	RB_FOREACH_SAFE (t, task_tree, &d->tasks->tree, next) {
		struct process *e, *e_next;
		int r;

		if (t->init.state == PROCESS_CREATING) {
			recover_half_made(t);
			continue;
		}
		RB_FOREACH_SAFE (e, process_tree, &t->execs, e_next) {
			r = recover_exec(e);
			if (r < 0)
				return r;
		}
		r = recover_init(t);
		if (r < 0)
			return r;
	}
	return 0;
}
