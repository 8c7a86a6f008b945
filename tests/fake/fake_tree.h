// SPDX-License-Identifier: Apache-2.0
/*
 * The fake criu: the tasks that are dumped, the task that is restored
 *
 * As criu does, it stops every thread by ptrace: they run on when the tracer is gone, however it
 * went. A freezer that holds them already is thawed once they are seized, and frozen again in the end.
 */
#pragma once

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fake_conf.h"

#define FAKE_TASKS 1024

struct fake_tree {
	pid_t tids[FAKE_TASKS], pids[FAKE_TASKS];
	size_t n_tids, n_pids;
	bool was_frozen;
};

static bool fake_freezer(const struct fake *k, const char *file, const char *text, char *old)
{
	char path[PATH_MAX];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", k->freezer, file);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (old) {
		ssize_t n = read(fd, old, 15);

		old[n > 0 ? n : 0] = '\0';
	}
	done = write(fd, text, strlen(text)) >= 0;
	close(fd);
	return done;
}

static bool fake_tree_has(const struct fake_tree *t, pid_t tid)
{
	for (size_t i = 0; i < t->n_tids; i++)
		if (t->tids[i] == tid)
			return true;
	return false;
}

/* False: it cannot be seized, as with criu when somebody debugs it. One that has ended is no matter. */
static bool fake_tree_seize(struct fake *k, struct fake_tree *t, pid_t tid)
{
	char path[64], state = 0;
	int err;
	FILE *f;

	if (t->n_tids == FAKE_TASKS || fake_tree_has(t, tid))
		return true;
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, tid, 0, 0) == 0) {
		t->tids[t->n_tids++] = tid;
		return true;
	}
	err = errno;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%*d %*[^)]) %c", &state) != 1 || state == 'Z' || state == 'X')
		err = 0;
	if (f)
		fclose(f);
	errno = err;
	if (err)
		fake_log(k, "Error (criu/seize.c:2): Unable to seize %d: %m", (int)tid);
	return !err;
}

static bool fake_tree_add(struct fake *k, struct fake_tree *t, pid_t pid)
{
	char path[64], tid[32];
	bool good = true, known = false;
	struct dirent *d;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir || t->n_pids == FAKE_TASKS) {
		if (dir)
			closedir(dir);
		return true;
	}
	for (size_t i = 0; i < t->n_pids; i++)
		known |= t->pids[i] == pid;
	if (!known)
		t->pids[t->n_pids++] = pid;
	while (good && (d = readdir(dir))) {
		pid_t child;
		FILE *f;

		if (*d->d_name == '.')
			continue;
		good = fake_tree_seize(k, t, atoi(d->d_name));
		snprintf(tid, sizeof(tid), "%.20s/children", d->d_name);
		f = fdopen(openat(dirfd(dir), tid, O_RDONLY | O_CLOEXEC), "r");
		while (f && good && fscanf(f, "%d", &child) == 1)
			good = fake_tree_add(k, t, child);
		if (f)
			fclose(f);
	}
	closedir(dir);
	return good;
}

static bool fake_tree_freeze(struct fake *k, struct fake_tree *t)
{
	char state[16] = "";
	size_t before;

	/* again, until none has been made meanwhile */
	do {
		before = t->n_tids;
		if (!fake_tree_add(k, t, k->tree))
			return false;
	} while (t->n_tids != before);
	if (!t->n_tids) {
		fake_log(k, "Error (criu/seize.c:1): Unable to find the task %d", (int)k->tree);
		return false;
	}
	if (k->freezer) {
		if (fake_freezer(k, "freezer.state", "THAWED", state))
			t->was_frozen = !strncmp(state, "FR", 2);
		else if (fake_freezer(k, "cgroup.freeze", "0", state))
			t->was_frozen = *state == '1';
	}
	for (size_t i = 0; i < t->n_tids; i++)
		if (waitpid(t->tids[i], NULL, __WALL) < 0)
			return false;
	return true;
}

static void fake_tree_release(struct fake *k, struct fake_tree *t, bool kill_them)
{
	if (t->was_frozen && !kill_them && !fake_freezer(k, "freezer.state", "FROZEN", NULL))
		fake_freezer(k, "cgroup.freeze", "1", NULL);
	for (size_t i = 0; kill_them && i < t->n_pids; i++)
		kill(t->pids[i], SIGKILL);
	for (size_t i = 0; !kill_them && i < t->n_tids; i++)
		ptrace(PTRACE_DETACH, t->tids[i], 0, 0);
	/* an init of a pid namespace ends behind its children: in whatever order they come */
	while (kill_them && t->n_tids && waitpid(-1, NULL, __WALL) > 0)
		continue;
}

/* ---- the restored task */

struct fake_task {
	pid_t pid;
	int go; /* write end: a byte lets it run; its end without one ends it */
};

static void fake_task_term(int sig)
{
	(void)sig;
	_exit(0);
}

static void fake_task_main(struct fake *k, int go)
{
	struct sigaction term = { .sa_handler = fake_task_term };
	char byte;

	sigaction(SIGTERM, &term, NULL);
	prctl(PR_SET_NAME, "restored");
	setsid();
	for (int fd = 0; fd < 1024; fd++) {
		bool keep = fd == go;

		for (size_t i = 0; i < k->n_inherit; i++)
			keep |= fd == k->inherit[i];
		if (!keep)
			close(fd);
	}
	if (k->child_dies)
		_exit(k->child_exit < 0 ? 0 : k->child_exit);
	if (read(go, &byte, 1) != 1)
		_exit(77);
	for (size_t i = 0; i < k->n_inherit; i++)
		if ((fcntl(k->inherit[i], F_GETFL) & O_ACCMODE) == O_WRONLY && *k->child_says &&
		    write(k->inherit[i], k->child_says, strlen(k->child_says)) < 0)
			_exit(78);
	if (k->child_exit >= 0)
		_exit(k->child_exit);
	for (;;)
		pause();
}

/* Not always a child of ours, so nothing is reaped. */
static void fake_wait_dead(pid_t pid)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	if (p.fd < 0)
		return; /* reaped already */
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	close(p.fd);
}

static bool fake_task_new(struct fake *k, struct fake_task *t)
{
	unsigned long flags = CLONE_NEWPID | SIGCHLD | (k->sibling ? CLONE_PARENT : 0);
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return false;
	t->pid = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
	if (!t->pid) {
		close(p[1]);
		fake_task_main(k, p[0]);
	}
	close(p[0]);
	t->go = p[1];
	if (t->pid < 0)
		fake_log(k, "Error (criu/cr-restore.c:1): Can't fork for 1: %m");
	if (t->pid > 0 && k->child_dies)
		fake_wait_dead(t->pid);
	return t->pid > 0;
}

static void fake_task_kill(struct fake *k, struct fake_task *t)
{
	if (t->pid <= 0)
		return;
	kill(t->pid, SIGKILL);
	if (!k->sibling)
		waitpid(t->pid, NULL, 0);
}
