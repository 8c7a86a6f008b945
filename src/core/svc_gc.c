// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection: its schedule, its events, and the methods gc.run and gc.status
 *
 * A run belongs to a thread of the image pool. When the next one is due is asked of the store
 * (gc_due) when it tells that this has changed, by an eventfd since it may tell on any thread; one
 * timer waits for it. After a run the next scheduled one waits ten times as long as it took, so that
 * a large store with many changes is not read over and over; after a failure a minute.
 *
 * A run can remove tens of thousands of things, and each is an event. The running thread hands them
 * over in batches; the reactor puts them into the journal, for a third of a millisecond a turn. The thread
 * waits while there are many, and at its end until they are all there, so that who has the answer
 * finds them in the journal. When the daemon ends nobody waits: what is left is written at the very
 * end.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/events.h"
#include "core/gc.h"
#include "core/reactor.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "store/gc.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/mp.h"

#define EVENTS_NS 300000ll /* a turn of the loop, for events */
#define EVENTS_MAX 4096u /* waiting; the run waits too then */
#define WAIT_NS 50000000l /* between two looks whether waiting makes sense */
#define RETRY_NS (60 * CLOCK_NS_PER_SEC) /* after a failure */
#define REST 10 /* times as long as the last run took */
/* the clock of leases may be set; timers run by another */
#define SLEEP_MAX_NS (3600 * CLOCK_NS_PER_SEC)

struct gc_service {
	struct davit *d;
	struct event *timer, *woken;
	int wake_fd;
	struct worker_job job;
	struct cancel cancel;
	struct fault fault;
	struct gc_result result;
	int run_result;
	bool running; /* the scheduled one */
	int64_t scheduled_at; /* when the timer comes; 0: it does not */
	int64_t not_before; /* clock_mono */

	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t taken;
	struct store_events events;
	size_t n_events;
	bool closing;
};

static void poke(struct gc_service *g)
{
	static const uint64_t one = 1;

	/* cannot fail but when it is full, and then it is readable anyway */
	if (write(g->wake_fd, &one, sizeof(one)) < 0)
		return;
}

/* ---- events: on the running thread */

static size_t events_count(const struct store_events *events)
{
	size_t n = 0;

	for (const struct store_event *e = events->first; e; e = e->next)
		n++;
	return n;
}

static void wait_taken(struct gc_service *g, size_t most, const struct cancel *cancel)
{
	while (!g->closing && g->n_events > most && !cancelled(cancel)) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WAIT_NS;
		if (until.tv_nsec >= CLOCK_NS_PER_SEC) {
			until.tv_sec++;
			until.tv_nsec -= CLOCK_NS_PER_SEC;
		}
		pthread_cond_timedwait(&g->taken, &g->lock, &until);
	}
}

static void take_events(void *user, struct store_events *events, const struct cancel *cancel,
			bool last)
{
	struct gc_service *g = user;
	size_t n = events_count(events);

	pthread_mutex_lock(&g->lock);
	if (n) {
		*g->events.last = events->first;
		g->events.last = events->last;
		g->n_events += n;
		store_events_init(events);
		poke(g);
	}
	wait_taken(g, last ? 0 : EVENTS_MAX, cancel);
	pthread_mutex_unlock(&g->lock);
}

/* ---- events: on the reactor */

static struct store_event *next_event(struct gc_service *g)
{
	struct store_event *e;

	pthread_mutex_lock(&g->lock);
	e = g->events.first;
	if (e) {
		g->events.first = e->next;
		if (!e->next)
			g->events.last = &g->events.first;
	}
	pthread_mutex_unlock(&g->lock);
	return e;
}

static void emit(struct gc_service *g, struct store_event *e)
{
	struct store_events one = { .first = e, .last = &e->next };
	int r = event_emit(g->d, e->ns, e->topic, &e->payload);

	if (r < 0)
		log_error("event %s: %s", e->topic, strerror(-r));
	e->next = NULL;
	store_events_clear(&one);
	pthread_mutex_lock(&g->lock);
	g->n_events--;
	if (!g->n_events || g->n_events == EVENTS_MAX)
		pthread_cond_broadcast(&g->taken);
	pthread_mutex_unlock(&g->lock);
}

/* ---- the schedule */

static void schedule(struct gc_service *g)
{
	int64_t due = gc_due(g->d->store), now = clock_now(), wait, rest;
	struct timeval tv;

	evtimer_del(g->timer);
	g->scheduled_at = 0;
	if (!due || g->running || g->d->stopping)
		return;
	wait = due > now ? due - now : 0;
	rest = g->not_before - clock_mono();
	if (wait < rest)
		wait = rest;
	g->scheduled_at = now + wait;
	if (wait > SLEEP_MAX_NS)
		wait = SLEEP_MAX_NS;
	/* not a moment too early */
	tv = (struct timeval){ .tv_sec = wait / CLOCK_NS_PER_SEC,
			       .tv_usec = wait % CLOCK_NS_PER_SEC / 1000 + 1 };
	if (tv.tv_usec >= 1000000)
		tv = (struct timeval){ .tv_sec = tv.tv_sec + 1 };
	if (evtimer_add(g->timer, &tv) < 0)
		log_error("no collection is scheduled: no memory");
}

static void on_woken(evutil_socket_t fd, short what, void *user)
{
	struct gc_service *g = user;
	int64_t until = clock_mono() + EVENTS_NS;
	struct store_event *e;
	uint64_t n;

	(void)what;
	while ((e = next_event(g))) {
		emit(g, e);
		/* the eventfd stays readable: the loop comes back */
		if (clock_mono() >= until)
			return;
	}
	if (read(fd, &n, sizeof(n)) < 0)
		return;
	/* what came between the look and the read */
	pthread_mutex_lock(&g->lock);
	if (g->n_events)
		poke(g);
	pthread_mutex_unlock(&g->lock);
	schedule(g);
}

static void run(struct worker_job *job)
{
	struct gc_service *g = container_of(job, struct gc_service, job);
	struct store_call c = {
		.store = g->d->store, .ns = "default", .cancel = &g->cancel, .f = &g->fault
	};

	g->run_result = gc_run(&c, false, &g->result);
}

static void done(struct worker_job *job)
{
	struct gc_service *g = container_of(job, struct gc_service, job);
	const struct gc_result *r = &g->result;

	g->running = false;
	if (g->run_result == -ECANCELED && g->d->stopping)
		log_debug("garbage collection was interrupted");
	else if (g->run_result < 0)
		log_warn("garbage collection: %s", g->fault.message);
	else
		log_debug("garbage collection: %llu contents, %llu snapshots, %llu leases, "
			  "%llu ingests, %llu bytes in %lld ms",
			  (unsigned long long)r->content, (unsigned long long)r->snapshots,
			  (unsigned long long)r->leases, (unsigned long long)r->ingests,
			  (unsigned long long)r->bytes, (long long)(r->duration / 1000000));
	g->not_before = clock_mono() + (g->run_result < 0 ? RETRY_NS : REST * r->duration);
	reactor_stored(g->d);
	store_tidy(g->d);
	schedule(g);
}

static void on_timer(evutil_socket_t fd, short what, void *user)
{
	struct gc_service *g = user;
	int64_t due = gc_due(g->d->store);

	(void)fd;
	(void)what;
	/* it has been put off by further deletions, or done by somebody else */
	if (!due || due > clock_now() || g->running || g->d->stopping) {
		schedule(g);
		return;
	}
	g->running = true;
	g->scheduled_at = 0;
	g->fault.code = FAULT_NONE;
	g->job = (struct worker_job){ .run = run, .done = done };
	worker_submit(g->d->tidy_pool, &g->job);
}

void gc_kick(struct davit *d)
{
	gc_want(d->store);
}

/* ---- start and end */

static void wake(void *user)
{
	poke(user);
}

int gc_service_new(struct davit *d, struct fault *f)
{
	struct gc_service *g = calloc(1, sizeof(*g));

	if (!g)
		return fault_sys(f, ENOMEM, "start", "garbage collection");
	d->gc = g;
	g->d = d;
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->taken, NULL);
	store_events_init(&g->events);
	g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->wake_fd < 0)
		return fault_sys(f, errno, "eventfd", NULL);
	g->timer = evtimer_new(d->base, on_timer, g);
	g->woken = event_new(d->base, g->wake_fd, EV_READ | EV_PERSIST, on_woken, g);
	if (!g->timer || !g->woken || event_add(g->woken, NULL) < 0)
		return fault_sys(f, ENOMEM, "start", "garbage collection");
	gc_set_sink(d->store, take_events, g);
	gc_on_wake(d->store, wake, g);
	poke(g); /* what is due from before */
	return 0;
}

void gc_service_stop(struct davit *d)
{
	struct gc_service *g = d->gc;

	if (!g)
		return;
	cancel_set(&g->cancel);
	pthread_mutex_lock(&g->lock);
	g->closing = true;
	pthread_cond_broadcast(&g->taken);
	pthread_mutex_unlock(&g->lock);
}

void gc_service_free(struct davit *d)
{
	struct gc_service *g = d->gc;
	struct store_event *e;

	if (!g)
		return;
	gc_on_wake(d->store, NULL, NULL);
	gc_set_sink(d->store, NULL, NULL);
	while (d->journal && (e = next_event(g)))
		emit(g, e);
	store_events_clear(&g->events);
	if (g->timer)
		event_free(g->timer);
	if (g->woken)
		event_free(g->woken);
	fd_close(&g->wake_fd);
	pthread_cond_destroy(&g->taken);
	pthread_mutex_destroy(&g->lock);
	free(g);
	d->gc = NULL;
}

/* ---- methods */

struct run_job {
	struct store_job job;
	bool dry;
};

static void pack_removed(msgpack_packer *pk, const struct gc_result *r)
{
	mp_pack_key(pk, "removed");
	msgpack_pack_map(pk, 4);
	mp_pack_key_uint(pk, "content", r->content);
	mp_pack_key_uint(pk, "snapshots", r->snapshots);
	mp_pack_key_uint(pk, "leases", r->leases);
	mp_pack_key_uint(pk, "ingests", r->ingests);
	mp_pack_key_uint(pk, "bytes", r->bytes);
	mp_pack_key_int(pk, "duration", r->duration);
}

static int gc_run_run(struct store_job *j)
{
	struct run_job *run_job = container_of(j, struct run_job, job);
	struct gc_result result;
	int r = gc_run(&j->call, run_job->dry, &result);

	if (r < 0)
		return r;
	/* who orders it wants the space; when nobody waits any more, it goes all the same */
	if (!run_job->dry) {
		r = store_empty_trash(j->d->store, j->call.cancel);
		if (r < 0 && r != -ECANCELED)
			return fault_sys(j->call.f, -r, "empty the folder", "trash");
	}
	msgpack_pack_map(&j->pk, 3);
	pack_removed(&j->pk, &result);
	return 0;
}

static void gc_run_method(struct ipc_request *req, void *user)
{
	struct run_job *j = store_job_new(user, req, sizeof(*j), gc_run_run, NULL);

	if (!j)
		return;
	j->dry = ipc_arg_bool(req, "dry", false);
	store_job_start(&j->job, NULL);
}

static void pack_time(msgpack_packer *pk, const char *key, int64_t at)
{
	if (at)
		mp_pack_key_int(pk, key, at);
	else
		mp_pack_key_nil(pk, key);
}

static void gc_status_method(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct gc_status status;
	msgpack_packer *pk;

	gc_get_status(d->store, &status);
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 8);
	mp_pack_key_bool(pk, "running", status.running);
	mp_pack_key_uint(pk, "runs", status.runs);
	mp_pack_key_uint(pk, "failures", status.failures);
	mp_pack_key_str(pk, "failure", status.failure[0] ? status.failure : NULL);
	pack_time(pk, "failed_at", status.failed_at);
	pack_time(pk, "due_at", gc_due(d->store));
	/* a timer that has lost its reason only finds that out */
	pack_time(pk, "scheduled_at", gc_due(d->store) ? d->gc->scheduled_at : 0);
	mp_pack_key(pk, "last");
	if (!status.last.started_at) {
		msgpack_pack_nil(pk);
	} else {
		msgpack_pack_map(pk, 6);
		mp_pack_key_int(pk, "started_at", status.last.started_at);
		pack_removed(pk, &status.last);
		mp_pack_key_uint(pk, "marked", status.last.marked);
		mp_pack_key_int(pk, "longest_lock", status.last.longest_lock);
	}
	ipc_reply_end(req);
}

static const struct ipc_param run_params[] = {
	{ "dry", IPC_BOOL, 0, 0, 0, "false", "only count what would be removed" },
	{ 0 },
};
static const struct ipc_field run_result[] = {
	{ "removed", "map", "how many: content, snapshots, leases, ingests" },
	{ "bytes", "int", "of blobs, committed snapshots and ingests that left the disk" },
	{ "duration", "int", "ns, without the time that the disk takes to free the space" },
	{ 0 },
};
static const struct ipc_field status_result[] = {
	{ "running", "bool", "one is under way" },
	{ "runs", "int", "since the start of the daemon, without dry ones" },
	{ "failures", "int", "how many of them failed" },
	{ "failure", "str", "why the last one failed; nil when it did not" },
	{ "failed_at", "int", "when one failed last; nil for never" },
	{ "due_at", "int",
	  "when there is reason for the next one (deletions, a lease that ends); nil for none" },
	{ "scheduled_at", "int",
	  "when it begins: later than due_at shortly after another one; nil for not" },
	{ "last", "map",
	  "the last run: started_at, removed, bytes, duration, marked (things in use), "
	  "longest_lock (ns that others waited for the database at most); nil before the first" },
	{ 0 },
};

const struct ipc_method gc_methods[] = {
	{ "gc.run",
	  "Removes what nothing refers to, in all namespaces, and answers when it is done", 0,
	  run_params, run_result, "cancelled unavailable", gc_run_method },
	{ "gc.status", "The last collection, and when the next one is due", 0, NULL, status_result,
	  NULL, gc_status_method },
	{ 0 },
};
