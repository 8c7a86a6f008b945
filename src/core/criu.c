// SPDX-License-Identifier: Apache-2.0
/*
 * Running criu
 *
 * A run goes through workers and the reactor: its folder is made on a worker, criu is started by a
 * worker (which waits for the exec), its end comes through the one reaper, and its log is read by a
 * worker again before the owner hears of the end. Until the last job has come back the run's memory
 * stays, whatever its owner does.
 *
 * Two pools are criu's own: one for compressing and decompressing, with as many threads as there are
 * processors, and one for what waits for the disk. They begin with no thread and keep what they were
 * given; the first checkpoint makes them.
 */
#include "core/criu.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/buffers.h"
#include "checkpoint/criu_log.h"
#include "checkpoint/gzip_store.h"
#include "core/program.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/tree.h"

#define WRITE_THREADS 3
#define HURRY_SECONDS 10
#define OUTPUT "output"
#define PROGRAMS "bin"
#define LOG_MOST (8u << 20)

struct criu {
	struct worker_pool *pack, *write;
	struct buffer_pool *buffers;
	pthread_mutex_t lock; /* of the two below, which workers make */
	struct criu_base *base;
	uint64_t serial;
};

int criu_ready(struct davit *d)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct criu *c = d->criu;
	int r;

	if (c)
		return 0;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	r = worker_pool_new(&c->pack, d->base, "pack", cpus > 1 ? (unsigned)cpus : 2, 0);
	if (r >= 0)
		r = buffer_pool_new(&c->buffers, 0, c->pack);
	if (r >= 0)
		r = worker_pool_new(&c->write, d->base, "seal", WRITE_THREADS, 0);
	d->criu = c;
	if (r < 0)
		criu_free(d);
	return r;
}

void criu_free(struct davit *d)
{
	struct criu *c = d->criu;

	if (!c)
		return;
	buffer_pool_free(c->buffers); /* needs no pool from then on */
	if (c->pack)
		worker_pool_free(c->pack);
	if (c->write)
		worker_pool_free(c->write);
	criu_base_free(c->base);
	pthread_mutex_destroy(&c->lock);
	free(c);
	d->criu = NULL;
}

struct worker_pool *criu_pack_pool(struct davit *d)
{
	return d->criu->pack;
}

struct worker_pool *criu_write_pool(struct davit *d)
{
	return d->criu->write;
}

struct buffer_pool *criu_buffers(struct davit *d)
{
	long pages = sysconf(_SC_AVPHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t eighth = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 8 : 0;
	uint64_t most = d->config.checkpoint_buffer;

	/* of those that are under way the memory is not free */
	buffer_pool_resize(d->criu->buffers, eighth && eighth < most ? eighth : most);
	return d->criu->buffers;
}

bool criu_busy(const struct davit *d)
{
	struct worker_stats pack, write;

	if (!d->criu)
		return false;
	worker_pool_stats(d->criu->pack, &pack);
	worker_pool_stats(d->criu->write, &write);
	return pack.queued + pack.running + write.queued + write.running;
}

void criu_drain(struct davit *d)
{
	if (!d->criu)
		return;
	worker_pool_drain(d->criu->pack);
	worker_pool_drain(d->criu->write);
}

/* ---- the folder */

static int open_folder(struct davit *d, struct fault *f)
{
	int fd;

	if (mkdirat(d->state_fd, "criu", 0700) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make the folder", "criu");
	fd = openat(d->state_fd, "criu", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? fault_sys(f, errno, "open the folder", "criu") : fd;
}

static bool is_not_ours(void *user, const char *ns, const char *ref)
{
	(void)user;
	(void)ns;
	return strncmp(ref, CRIU_INGEST, strlen(CRIU_INGEST)) != 0;
}

int criu_sweep(struct davit *d, struct fault *f)
{
	int r = tree_remove(d->state_fd, "criu", NULL);
	uint64_t n, bytes;

	if (r < 0)
		return fault_sys(f, -r, "remove the folder", "criu");
	/* half of the memory of tasks that run on: nobody can go on with it */
	return ingest_expire(d->store, INT64_MAX, is_not_ours, NULL, false, &n, &bytes, f);
}

static int make_folder(struct criu_run *r, struct fault *f)
{
	CLEANUP_CLOSE int folder = open_folder(r->d, f);
	struct criu *c = r->d->criu;
	char name[32];

	if (folder < 0)
		return folder;
	/* short: criu's sockets lie there, and their paths have little room */
	do {
		pthread_mutex_lock(&c->lock);
		snprintf(name, sizeof(name), "%llx", (unsigned long long)++c->serial);
		pthread_mutex_unlock(&c->lock);
		if (mkdirat(folder, name, 0700) == 0)
			break;
		if (errno != EEXIST)
			return fault_sys(f, errno, "make a folder for", "criu");
	} while (true);
	if (asprintf(&r->dir, "%s/criu/%s", r->d->config.state, name) < 0) {
		r->dir = NULL;
		unlinkat(folder, name, AT_REMOVEDIR);
		return fault_sys(f, ENOMEM, "make a folder for", "criu");
	}
	return 0;
}

static int find_base(struct davit *d, struct fault *f)
{
	struct criu *c = d->criu;
	int r = 0;

	pthread_mutex_lock(&c->lock);
	if (!c->base)
		r = criu_base_new(&c->base, f);
	pthread_mutex_unlock(&c->lock);
	return r;
}

int criu_run_open(struct criu_run *r, struct davit *d, struct fault *f)
{
	int e;

	r->d = d;
	program_find(d->config.criu, r->program, sizeof(r->program));
	if (!r->program[0])
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, ENOENT,
			"criu was not found as %s; install criu 4.1 or newer, or say where it is with --criu",
			d->config.criu);
	e = find_base(d, f);
	return e < 0 ? e : make_folder(r, f);
}

/* ---- the end */

static void run_release(struct criu_run *r)
{
	if (r->give_up)
		event_free(r->give_up);
	criu_args_clear(&r->args);
	free(r->steps);
	free(r->fds);
	if (r->cgroup > 0)
		close(r->cgroup);
	free(r->image_dir);
	free(r->work_dir);
	free(r->dir);
	free(r);
}

static void remove_run(struct worker_job *job)
{
	struct criu_run *r = container_of(job, struct criu_run, job);
	const char *name = r->dir ? strrchr(r->dir, '/') + 1 : NULL;
	CLEANUP_CLOSE int folder = -1;
	struct fault f;

	if (!name)
		return;
	folder = open_folder(r->d, &f);
	if (folder >= 0)
		(void)tree_remove(folder, name, NULL); /* what stays goes with the next start */
}

static void remove_done(struct worker_job *job)
{
	run_release(container_of(job, struct criu_run, job));
}

static void run_remove(struct criu_run *r)
{
	r->job = (struct worker_job){ .run = remove_run, .done = remove_done };
	worker_submit(r->d->workers, &r->job);
}

void criu_run_free(struct criu_run *r)
{
	if (!r)
		return;
	reaper_remove(r->watch);
	r->watch = NULL;
	if (r->give_up)
		event_del(r->give_up);
	r->dead = true;
	if (!r->d)
		run_release(r);
	else if (!r->in_job)
		run_remove(r);
}

/* The end of a log, where the errors are: LOG_MOST bytes at most. 0 or negative */
static int read_log(const char *path, char **text, size_t *size)
{
	CLEANUP_CLOSE int fd = fd_open_regular(AT_FDCWD, path, O_NOFOLLOW);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END), from;
	int r;

	if (fd < 0)
		return fd;
	if (end < 0)
		return -errno;
	from = end > LOG_MOST ? end - LOG_MOST : 0;
	*text = malloc((size_t)(end - from) + 1);
	if (!*text)
		return -ENOMEM;
	*size = (size_t)(end - from);
	if (lseek(fd, from, SEEK_SET) < 0)
		return -errno;
	r = fd_read_all(fd, *text, *size);
	if (r < 0)
		*size = 0;
	return r;
}

/* What has no log is what criu says before it has one: it is in its output. */
static void log_run(struct worker_job *job)
{
	struct criu_run *r = container_of(job, struct criu_run, job);
	CLEANUP_FREE char *path = NULL, *output = NULL, *text = NULL;
	size_t size = 0;

	if (asprintf(&path, "%s/" CRIU_LOG, r->work_dir ? r->work_dir : r->dir) < 0)
		path = NULL;
	if (asprintf(&output, "%s/" OUTPUT, r->dir) < 0)
		output = NULL;
	if (path && read_log(path, &text, &size) < 0) {
		free(TAKE_PTR(text));
		if (!output || read_log(output, &text, &size) < 0)
			size = 0;
	}
	criu_log_fault(&r->fault, text ? text : "", size, r->restore, r->exit_code, r->signal);
}

static void log_done(struct worker_job *job)
{
	struct criu_run *r = container_of(job, struct criu_run, job);

	r->in_job = false;
	if (r->dead)
		run_remove(r);
	else
		r->ended(r->user, r->exit_code, r->signal, &r->fault);
}

static void on_reaped(void *user, const struct reaper_status *status)
{
	struct criu_run *r = user;

	r->watch = NULL;
	r->over = true;
	r->exit_code = status->known ? status->exit_code : 255;
	r->signal = status->signal;
	if (r->give_up)
		event_del(r->give_up);
	if (!r->exit_code && !r->signal) {
		r->ended(r->user, 0, 0, NULL);
		return;
	}
	r->in_job = true;
	r->job = (struct worker_job){ .run = log_run, .done = log_done };
	worker_submit(r->d->workers, &r->job);
}

void criu_run_kill(struct criu_run *r)
{
	/* our child, and not reaped yet: the pid is its own */
	if (!r->over && r->pid > 0)
		kill(r->pid, SIGKILL);
}

static void on_give_up(evutil_socket_t fd, short what, void *user)
{
	struct criu_run *r = user;

	(void)fd;
	(void)what;
	if (r->over || r->pid <= 0)
		return;
	log_warn(
		"criu (pid %d) does not end although nothing is left to wait for; it is killed, which may leave its code in the task",
		(int)r->pid);
	criu_run_kill(r);
}

void criu_run_hurry(struct criu_run *r)
{
	static const struct timeval tv = { .tv_sec = HURRY_SECONDS };

	if (r->over || r->dead || r->give_up)
		return;
	r->give_up = evtimer_new(r->d->base, on_give_up, r);
	if (r->give_up)
		event_add(r->give_up, &tv);
}

/* ---- the start */

/* The folders that criu is told of, wherever their links lead. */
static int find_seen(struct criu_run *r, char *seen[CRIU_SEE_MOST], struct criu_start *s,
		     struct fault *f)
{
	const char *paths[] = { r->d->config.state, r->image_dir, r->work_dir };

	s->see = (const char *const *)seen;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (!paths[i])
			continue;
		seen[s->n_see] = realpath(paths[i], NULL);
		if (!seen[s->n_see])
			return fault_sys(f, errno, "find the folder", paths[i]);
		s->n_see++;
	}
	return 0;
}

/*
 * A folder with a gzip that is this daemon's own program. A container with a user namespace of its own
 * has no right to it: its tar finds the real one.
 */
static int make_programs(struct criu_run *r, char **folder, struct fault *f)
{
	CLEANUP_FREE char *link = NULL;
	char davit[64];

	snprintf(davit, sizeof(davit), "/proc/%d/exe", (int)getpid());
	if (asprintf(folder, "%s/" PROGRAMS, r->dir) < 0)
		*folder = NULL;
	if (!*folder || asprintf(&link, "%s/" GZIP_STORE_NAME, *folder) < 0) {
		link = NULL;
		return fault_sys(f, ENOMEM, "start", "criu");
	}
	if (mkdir(*folder, 0700) < 0 || symlink(davit, link) < 0)
		return fault_sys(f, errno, "make the folder", *folder);
	return 0;
}

static void start_run(struct worker_job *job)
{
	struct criu_run *r = container_of(job, struct criu_run, job);
	CLEANUP_CLOSE int out = -1;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FREE char *programs = NULL;
	char *seen[CRIU_SEE_MOST] = { NULL };

	if (asprintf(&path, "%s/" OUTPUT, r->dir) < 0) {
		path = NULL;
		r->result = fault_sys(&r->fault, ENOMEM, "start", "criu");
		return;
	}
	out = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (out < 0 || r->args.failed) {
		r->result = fault_sys(&r->fault, out < 0 ? errno : ENOMEM, "start", "criu");
		return;
	}
	struct criu_start s = {
		.path = r->program,
		.argv = r->args.v,
		.steps = r->steps,
		.n_steps = r->n_steps,
		.fds = r->fds,
		.n_fds = r->n_fds,
		.preload = r->preload,
		.output = out,
		.cgroup = r->cgroup,
	};
	r->result = find_seen(r, seen, &s, &r->fault);
	if (!r->result && r->store_gzip)
		r->result = make_programs(r, &programs, &r->fault);
	s.first = programs;
	if (!r->result)
		r->result = criu_process_start(r->d->criu->base, &s, &r->pid, &r->fault);
	for (size_t i = 0; i < CRIU_SEE_MOST; i++)
		free(seen[i]);
}

/* A child that could not become criu: only to be reaped. */
static void reaped_quietly(void *user, const struct reaper_status *status)
{
	(void)user;
	(void)status;
}

static void start_done(struct worker_job *job)
{
	struct criu_run *r = container_of(job, struct criu_run, job);
	struct reaper_watch *watch;

	r->in_job = false;
	if (r->result >= 0) {
		r->result = reaper_add(r->d->reaper, REAPER_CHILD, r->pid, -1, on_reaped, r,
				       &r->watch);
		if (r->result < 0)
			fault_sys(&r->fault, -r->result, "watch", "criu");
	} else if (r->pid) {
		(void)reaper_add(r->d->reaper, REAPER_CHILD, r->pid, -1, reaped_quietly, NULL,
				 &watch);
	}
	if (r->dead) {
		reaper_remove(r->watch);
		r->watch = NULL;
		run_remove(r);
		return;
	}
	r->started(r->user, r->result < 0 ? &r->fault : NULL);
}

void criu_run_start(struct criu_run *r)
{
	r->in_job = true;
	r->job = (struct worker_job){ .run = start_run, .done = start_done };
	worker_submit(r->d->workers, &r->job);
}
