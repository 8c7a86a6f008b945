// SPDX-License-Identifier: Apache-2.0
/*
 * Start and end of the reactor
 *
 * The guardian forks this process before any library was touched; here they are all set up, in an
 * order that matters: signals are blocked before the first thread; containers are there before the
 * journal names their tasks; tasks before the guardian hands over their fds and exits; all of it
 * before the first request. struct reactor holds the context and what belongs to the loop alone.
 *
 * The orderly end (SIGTERM, SIGINT, server.shutdown, or the loss of the guardian): the guardian is
 * told, nothing new is accepted, and the loop goes on until the worker pools have been idle for two
 * looks in a row, so that answers go out and what workers do is brought to its end. Then everything
 * is freed in the reverse order. Containers run on: they are not ours to end. A second signal, or
 * ten seconds, cut this short.
 *
 * The loop is turned by hand, one event_base_loop(EVLOOP_ONCE) a turn, to measure each turn's
 * processor time: libevent 2.1 has no hook for that, and a timer alone sees only one stall in many.
 * Once a second, while there is anything to do at all, a timer takes the delay too; after some
 * quiet seconds it gives free memory back to the kernel and stops, so that an idle daemon sleeps.
 */
#include "core/reactor.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/container.h"
#include "core/criu.h"
#include "core/events.h"
#include "core/fifo_watch.h"
#include "core/gc.h"
#include "core/keep.h"
#include "core/namespace.h"
#include "core/server_methods.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "core/task.h"
#include "ipc/request.h"
#include "ipc/server.h"
#include "monitor/bus.h"
#include "monitor/journal.h"
#include "monitor/logs.h"
#include "monitor/reaper.h"
#include "runtime/cgroup.h"
#include "runtime/seccomp.h"
#include "store/db_salvage.h"
#include "store/snapshot.h"
#include "store/store.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/sched.h"
#include "util/worker.h"

#ifndef DAVIT_VERSION
#define DAVIT_VERSION "0.0.0"
#endif
#ifndef DAVIT_REVISION
#define DAVIT_REVISION "unknown"
#endif

#define WORKERS 4
#define IMAGE_THREADS_MIN 3
#define IMAGE_THREADS_MAX 8
#define STREAM_THREADS 32 /* each waits for a peer, most of the time */
#define TIDY_THREADS 2
#define IMAGE_STACK (1u << 20)
#define SECCOMP_PROGRAMS 64
#define STOP_LOOK_MS 5
#define STOP_SECONDS 10
#define TRIM_AFTER 3 /* quiet seconds */
#define QUIET_TURNS 2 /* the timer's own, and one to spare */

struct reactor {
	struct davit d;
	const struct guardian_child *child;
	struct event *signals, *tick, *stop_look;
	int signal_fd;
	struct reactor_stats stats;
	int64_t tick_due, cpu_last;
	uint64_t tick_turns;
	unsigned quiet;
	bool ticking, running;
	struct worker_job fold;
	bool folding;
	int64_t stop_deadline;
	unsigned stop_idle;
};

/* ---- the end */

/* The pools of the context, one after the other; NULL behind the last. */
static struct worker_pool **pool_at(struct davit *d, size_t i)
{
	struct worker_pool **pools[] = { &d->workers,	   &d->store_pool,  &d->image_pool,
					 &d->content_pool, &d->stream_pool, &d->tidy_pool };

	return i < ARRAY_SIZE(pools) ? pools[i] : NULL;
}

static bool pools_busy(struct davit *d)
{
	struct worker_pool **pool;
	uint64_t jobs = 0;

	for (size_t i = 0; (pool = pool_at(d, i)); i++) {
		struct worker_stats stats;

		worker_pool_stats(*pool, &stats);
		jobs += stats.queued + stats.running;
	}
	return jobs || criu_busy(d);
}

static void on_stop_look(evutil_socket_t fd, short what, void *user)
{
	struct reactor *r = user;

	(void)fd;
	(void)what;
	if (pools_busy(&r->d))
		r->stop_idle = 0;
	else
		r->stop_idle++;
	if (r->stop_idle >= 2)
		r->running = false;
	if (clock_mono() > r->stop_deadline) {
		log_warn("jobs are still under way after %d s; ending all the same", STOP_SECONDS);
		r->running = false;
	}
}

void reactor_stop(struct davit *d)
{
	static const struct timeval look = { .tv_usec = STOP_LOOK_MS * 1000 };
	struct reactor *r = d->reactor;

	if (d->stopping)
		return;
	d->stopping = true;
	keep_stopping(d->keep);
	ipc_server_quiesce(d->server);
	store_jobs_cancel(d);
	gc_service_stop(d);
	r->stop_deadline = clock_mono() + STOP_SECONDS * CLOCK_NS_PER_SEC;
	if (event_add(r->stop_look, &look) < 0)
		r->running = false;
}

static void take_signal(struct reactor *r, uint32_t sig)
{
	if (sig == SIGHUP) {
		log_set_level(guardian_log_level(r->d.state_fd, r->child->log_level));
		return;
	}
	if (r->d.stopping) {
		log_warn("told to end a second time: not waiting any more");
		r->running = false;
		return;
	}
	reactor_stop(&r->d);
}

static void on_signals(evutil_socket_t fd, short what, void *user)
{
	struct signalfd_siginfo si;

	(void)what;
	while (read(fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		take_signal(user, si.ssi_signo);
}

/* ---- the loop */

static int64_t cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * CLOCK_NS_PER_SEC + ts.tv_nsec;
}

static void tick_start(struct reactor *r)
{
	static const struct timeval second = { .tv_sec = 1 };

	r->tick_due = clock_mono() + CLOCK_NS_PER_SEC;
	r->tick_turns = r->stats.turns;
	r->ticking = event_add(r->tick, &second) == 0;
}

static void on_tick(evutil_socket_t fd, short what, void *user)
{
	struct reactor *r = user;
	int64_t late = clock_mono() - r->tick_due;

	(void)fd;
	(void)what;
	/* libevent's timers count whole milliseconds and may come a little early */
	r->stats.late_last_ns = late > 0 ? late : 0;
	if (late > r->stats.late_max_ns)
		r->stats.late_max_ns = late;
	if (r->stats.turns - r->tick_turns > QUIET_TURNS) {
		r->quiet = 0;
	} else if (++r->quiet >= TRIM_AFTER) {
		malloc_trim(0);
		r->quiet = 0;
		r->ticking = false;
		return;
	}
	tick_start(r);
}

static void reactor_loop(struct reactor *r)
{
	sched_prompt();
	r->running = true;
	r->cpu_last = cpu_now();
	while (r->running) {
		int64_t now, turn;

		if (event_base_loop(r->d.base, EVLOOP_ONCE) < 0) {
			log_error("the event loop failed: %s", strerror(errno));
			break;
		}
		now = cpu_now();
		turn = now - r->cpu_last;
		r->cpu_last = now;
		r->stats.turns++;
		r->stats.busy_ns += turn;
		if (turn > r->stats.turn_max_ns)
			r->stats.turn_max_ns = turn;
		if (!r->ticking && r->stats.turns - r->tick_turns > QUIET_TURNS)
			tick_start(r);
	}
}

void reactor_get_stats(const struct davit *d, struct reactor_stats *out)
{
	*out = d->reactor->stats;
}

/* ---- callbacks of the rooms */

static void keep_item(void *user, const char *key, int fd)
{
	tasks_keep_item(user, key, fd);
}

/*
 * The guardian reaps whatever is orphaned into its care; only tasks' processes are of interest,
 * told apart by start time.
 */
static void keep_status(void *user, const struct reaper_status *status, uint64_t starttime)
{
	struct davit *d = user;

	if (tasks_have_process(d, status->pid, starttime))
		reaper_deliver(d->reaper, status);
	else
		keep_ack(d->keep, status->pid);
}

/*
 * Here a successor of the guardian would be made. Until then: containers run on, the next start
 * adopts them.
 */
static void keep_lost(void *user)
{
	struct davit *d = user;

	log_error(
		"the guardian is gone; ending, containers run on until the next start takes them over");
	reactor_stop(d);
}

struct offload {
	struct worker_job job;
	void (*run)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

static void offload_run(struct worker_job *job)
{
	struct offload *o = container_of(job, struct offload, job);

	o->run(o->arg);
}

static void offload_done(struct worker_job *job)
{
	struct offload *o = container_of(job, struct offload, job);

	if (o->done)
		o->done(o->arg);
	free(o);
}

/* The store thread's commits leave a log behind, which is folded into the database beside them. */
static void fold_run(struct worker_job *job)
{
	struct reactor *r = container_of(job, struct reactor, fold);
	struct fault f = { 0 };

	if (db_fold(r->d.db, &f) < 0)
		log_warn("%s", f.message);
}

static void fold_done(struct worker_job *job)
{
	container_of(job, struct reactor, fold)->folding = false;
}

void reactor_stored(struct davit *d)
{
	struct reactor *r = d->reactor;

	if (r->folding || db_wal_pages(d->db) < DB_FOLD_PAGES)
		return;
	r->folding = true;
	r->fold = (struct worker_job){ .run = fold_run, .done = fold_done };
	worker_submit(d->workers, &r->fold);
}

static void journal_submit(void *user, void (*run)(void *arg), void (*done)(void *arg), void *arg)
{
	struct davit *d = user;
	struct offload *o = malloc(sizeof(*o));

	if (!o) { /* here and now, then */
		run(arg);
		if (done)
			done(arg);
		return;
	}
	*o = (struct offload){ .job = { .run = offload_run, .done = offload_done },
			       .run = run,
			       .done = done,
			       .arg = arg };
	worker_submit(d->workers, &o->job);
}

static int on_namespace(void *user, struct ipc_request *req, const char *ns)
{
	int r = namespace_touch(user, ns);

	switch (-r) {
	case 0:
		break;
	case EBUSY:
		ipc_reply_error(req, FAULT_ABORTED, "namespace",
				"the namespace '%s' is being deleted", ns);
		break;
	case E2BIG:
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, "namespace",
				"'%s' would be one namespace too many", ns);
		break;
	default:
		ipc_reply_error(req, fault_code_of_errno(-r), "namespace",
				"the namespace '%s' cannot be made: %s", ns, strerror(-r));
	}
	return r;
}

/* ---- the start */

/* ROOT/id: made once, a random UUID. */
static int identity(struct davit *d, struct fault *f)
{
	CLEANUP_CLOSE int fd = -1;
	CLEANUP_FREE char *text = NULL;
	unsigned char u[16];
	int r = fd_read_file(d->root_fd, "id", 64, &text, NULL);

	if (r >= 0 && strcspn(text, "\n") == 36) {
		snprintf(d->id, sizeof(d->id), "%.36s", text);
		return 0;
	}
	if (r < 0 && r != -ENOENT)
		return fault_sys(f, -r, "read", "ROOT/id");
	if (getrandom(u, sizeof(u), 0) != (ssize_t)sizeof(u))
		return fault_sys(f, errno, "getrandom", NULL);
	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	snprintf(d->id, sizeof(d->id),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1],
		 u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
		 u[15]);
	fd = openat(d->root_fd, "id.new",
		    O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return fault_sys(f, errno, "open", "ROOT/id.new");
	r = fd_write_all(fd, d->id, strlen(d->id));
	if (r >= 0)
		r = fd_write_all(fd, "\n", 1);
	if (r >= 0 && (fsync(fd) < 0 || renameat(d->root_fd, "id.new", d->root_fd, "id") < 0 ||
		       fsync(d->root_fd) < 0))
		r = -errno;
	return r < 0 ? fault_sys(f, -r, "write", "ROOT/id") : 0;
}

/* Those that wait for the disk leave processors to others. */
static unsigned image_threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN) + 1;

	return n < IMAGE_THREADS_MIN   ? IMAGE_THREADS_MIN
	       : n > IMAGE_THREADS_MAX ? IMAGE_THREADS_MAX
				       : (unsigned)n;
}

static int start_loop(struct reactor *r, struct fault *f)
{
	struct davit *d = &r->d;
	sigset_t set;
	struct event_config *cfg = event_config_new();
	int err;

	if (!cfg)
		return fault_sys(f, ENOMEM, "event loop", NULL);
	/*
	 * no environment variable of libevent has a say, and timers need no more than milliseconds
	 */
	event_config_set_flag(cfg, EVENT_BASE_FLAG_IGNORE_ENV);
	event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK);
	d->base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	if (!d->base)
		return fault_sys(f, ENOMEM, "event loop", NULL);
	/*
	 * by signalfd, never by handlers: a child between clone and exec would run them, and wake
	 * us in the parent's name
	 */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->signal_fd < 0)
		return fault_sys(f, errno, "signalfd", NULL);
	r->signals = event_new(d->base, r->signal_fd, EV_READ | EV_PERSIST, on_signals, r);
	if (!r->signals || event_add(r->signals, NULL) < 0)
		return fault_sys(f, ENOMEM, "signals", NULL);
	r->tick = evtimer_new(d->base, on_tick, r);
	r->stop_look = event_new(d->base, -1, EV_PERSIST, on_stop_look, r);
	if (!r->tick || !r->stop_look)
		return fault_sys(f, ENOMEM, "timers", NULL);
	err = worker_pool_new(&d->workers, d->base, "work", WORKERS, 0);
	if (err >= 0)
		err = worker_pool_new(&d->store_pool, d->base, "store", 1, 0);
	if (err >= 0)
		err = worker_pool_new(&d->image_pool, d->base, "image", image_threads(),
				      IMAGE_STACK);
	if (err >= 0)
		err = worker_pool_new(&d->content_pool, d->base, "content", image_threads(), 0);
	if (err >= 0)
		err = worker_pool_new(&d->stream_pool, d->base, "stream", STREAM_THREADS,
				      IMAGE_STACK);
	if (err >= 0)
		err = worker_pool_new(&d->tidy_pool, d->base, "tidy", TIDY_THREADS, IMAGE_STACK);
	return err < 0 ? fault_sys(f, -err, "worker pools", NULL) : 0;
}

/* A damaged one is no reason not to start; what was lost is said in so many words. */
static int open_db(struct davit *d, struct fault *f)
{
	CLEANUP_FREE char *report = NULL;
	int r = db_open_or_rebuild(&d->db, d->root_fd, d->config.root, &report, f);

	for (char *line = report, *end; line; line = end) {
		end = strchr(line, '\n');
		if (end)
			*end++ = '\0';
		log_error("%s", line);
	}
	return r;
}

/*
 * A large database is not looked at as a whole. When the store meets damage in it, the second
 * opening does.
 */
static int open_store(struct davit *d, struct fault *f)
{
	int r = open_db(d, f);

	if (!r)
		r = store_open(&d->store, d->root_fd, d->config.root, d->db, f);
	if (r != -EUCLEAN)
		return r;
	db_close(d->db);
	d->db = NULL;
	r = open_db(d, f);
	return r ? r : store_open(&d->store, d->root_fd, d->config.root, d->db, f);
}

static int start_rooms(struct reactor *r, struct fault *f)
{
	static const struct keep_handlers handlers = { keep_item, keep_status, keep_lost };
	struct davit *d = &r->d;
	int err;

	if (open_store(d, f) < 0)
		return -1;
	if (*store_notice(d->store))
		log_warn("%s/%s", d->config.root, store_notice(d->store));
	if (snapshotter_no_overlay(d->store))
		log_warn("snapshots are full copies (native): %s",
			 snapshotter_no_overlay(d->store));
	if (criu_sweep(d, f) < 0)
		return -1;
	if (store_jobs_new(d) < 0)
		return fault_sys(f, ENOMEM, "start", NULL);
	if (gc_service_new(d, f) < 0)
		return -1;
	err = containers_new(d);
	if (err < 0)
		return fault_set(f, FAULT_INTERNAL, -err,
				 "the records in %s/meta.db cannot be loaded", d->config.root);
	if (cgroup_host_new(&d->cgroups, d->config.cgroup_parent, f) < 0)
		return -1;
	err = seccomp_cache_new(&d->seccomp, SECCOMP_PROGRAMS);
	if (err >= 0)
		err = reaper_new(&d->reaper, d->base);
	if (err >= 0)
		err = logs_new(&d->logs, d->base);
	if (err >= 0)
		err = fifo_watches_new(&d->fifos, d->base);
	if (err >= 0)
		err = tasks_new(d);
	if (err < 0)
		return fault_sys(f, -err, "start", NULL);
	if (journal_open(&d->journal, d->state_fd, d->config.journal_size, tasks_replay,
			 tasks_snapshot, d, f) < 0)
		return -1;
	if (journal_damaged(d->journal))
		log_warn("%llu bytes of the journal in %s could not be read and were left out",
			 (unsigned long long)journal_damaged(d->journal), d->config.state);
	journal_offload(d->journal, journal_submit, d);
	err = bus_new(&d->bus, d->journal);
	if (err >= 0)
		err = bus_use_base(d->bus, d->base);
	if (err >= 0)
		err = subscriptions_new(d);
	if (err < 0)
		return fault_sys(f, -err, "start", "event bus");
	err = keep_new(&d->keep, d->base, r->child->keep_sock, &handlers, d);
	if (err < 0)
		return fault_sys(f, -err, "take over from", "guardian");
	err = tasks_recover(d);
	return err < 0 ? fault_sys(f, -err, "take over the tasks", NULL) : 0;
}

static int start_server(struct reactor *r, struct fault *f)
{
	struct davit *d = &r->d;
	const struct ipc_method *tables[] = {
		namespace_methods, container_methods, task_methods,	event_methods,
		server_methods,	   content_methods,   snapshot_methods, lease_methods,
		gc_methods,	   diff_methods,      image_methods,	checkpoint_methods
	};
	int err = server_facts_new(&d->facts);

	if (err >= 0)
		err = ipc_server_new(&d->server, d->base, r->child->places->listen_fd,
				     r->child->places->gid);
	if (err < 0)
		return fault_sys(f, -err, "listen on", d->config.socket);
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		err = ipc_server_add(d->server, tables[i], d);
		if (err < 0)
			return fault_sys(f, -err, "add methods", tables[i]->name);
	}
	ipc_server_topics(d->server, event_topics);
	ipc_server_version(d->server, DAVIT_VERSION, DAVIT_REVISION);
	ipc_server_on_namespace(d->server, on_namespace, d);
	return 0;
}

static void prune_namespace(void *user, const char *name)
{
	cgroup_prune(user, name);
}

/* What ends in one pool may go on in another. */
static void pools_drain(struct davit *d)
{
	struct worker_pool **pool;

	for (size_t i = 0; (pool = pool_at(d, i)); i++)
		if (!*pool)
			return;
	store_jobs_cancel(d);
	gc_service_stop(d);
	do {
		for (size_t i = 0; (pool = pool_at(d, i)); i++)
			worker_pool_drain(*pool);
		criu_drain(d);
	} while (pools_busy(d));
}

/* In the reverse order of the start; what was not reached is NULL. */
static void reactor_end(struct reactor *r)
{
	struct davit *d = &r->d;
	struct worker_pool **pool;

	ipc_server_free(d->server);
	pools_drain(d);
	tasks_abandon(d);
	pools_drain(d);
	criu_free(d);
	for (size_t i = 0; (pool = pool_at(d, i)); i++)
		if (*pool)
			worker_pool_free(*pool);
	gc_service_free(d); /* its last events */
	subscriptions_free(d);
	if (d->bus)
		bus_free(d->bus);
	if (d->tasks)
		tasks_free(d);
	fifo_watches_free(d->fifos);
	/* empty folders only: those of running containers stay */
	if (d->cgroups && d->namespaces)
		namespaces_each(d, prune_namespace, d->cgroups);
	if (d->journal)
		journal_close(d->journal);
	if (d->logs)
		logs_free(d->logs);
	reaper_free(d->reaper);
	keep_free(d->keep);
	containers_free(d);
	seccomp_cache_free(d->seccomp);
	cgroup_host_free(d->cgroups);
	store_jobs_free(d);
	store_close(d->store);
	if (d->db)
		db_close(d->db);
	server_facts_free(d->facts);
	if (r->signals)
		event_free(r->signals);
	fd_close(&r->signal_fd);
	if (r->tick)
		event_free(r->tick);
	if (r->stop_look)
		event_free(r->stop_look);
	if (d->base)
		event_base_free(d->base);
}

int reactor_main(const struct guardian_child *child, void *user)
{
	struct reactor r = { .child = child, .signal_fd = -1 };
	struct davit *d = &r.d;
	struct fault f = { 0 };
	int64_t began = clock_mono();

	(void)user;
	log_set_tag("reactor");
	/* an arena a thread would cost megabytes and is not needed: the threads allocate little */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 256 << 10);
	prctl(PR_SET_DUMPABLE, 0);
	d->reactor = &r;
	d->config = *child->config;
	d->root_fd = child->places->root_fd;
	d->state_fd = child->places->state_fd;
	d->guardian_pid = child->guardian_pid;
	d->started_at = clock_now();
	r.stats.started_mono = began;
	/*
	 * a former reactor may be about to end; the journal and the database must be its alone
	 * until then
	 */
	if (places_lock_reactor(child->places, 15, &f) < 0 || identity(d, &f) < 0 ||
	    start_loop(&r, &f) < 0 || start_rooms(&r, &f) < 0 || start_server(&r, &f) < 0) {
		log_error("cannot start: %s", f.message);
		keep_fail(child->keep_sock, f.message);
		reactor_end(&r);
		return 1;
	}
	keep_ready(d->keep);
	store_tidy(d); /* what the last daemon had no time for */
	log_debug("started in %lld ms", (long long)((clock_mono() - began) / 1000000));
	reactor_loop(&r);
	log_info("ending");
	reactor_end(&r);
	return 0;
}
