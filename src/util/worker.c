// SPDX-License-Identifier: Apache-2.0
/*
 * Worker pool
 *
 * Owns its threads, the queue of jobs that wait, and the list of jobs that are finished but whose
 * `done` has not run yet. A job belongs to the pool from worker_submit until its `done` is called;
 * then it is the caller's again.
 *
 * One mutex guards both lists and the counters. A worker takes the job at the head, runs it without
 * the mutex, and puts it at the tail of the finished list; the eventfd is written only when that
 * list was empty, so that a burst of jobs costs one wake-up. The reactor takes the whole list at
 * once and runs the callbacks in order. In a pool of one thread the callbacks therefore run in the
 * order of submission too.
 *
 * Threads are started when there is a job that no idle thread could take, never more than
 * `threads`. When not even one thread can be started, the job runs in the caller: slow, but nothing
 * is lost; its `done` still comes from the loop.
 *
 * In a calm pool a thread yields to all others while it runs a job, and only then: the mutex is never
 * held by a thread that may not get a processor for long, with the reactor waiting for it. The end of the calm
 * and a hurry bring back all that yield: one that is pushed aside may hold a lock of the kernel's, as that of
 * the memory map, which the reactor waits for too. One that is about to yield looks again afterwards.
 *
 * worker_submit may be called from the reactor and from a running job, not after worker_pool_free
 * began, but for callbacks that it runs itself.
 */
#include "util/worker.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/fd.h"
#include "util/sched.h"

#define WORKER_STACK_DEFAULT (256u << 10)

struct job_list {
	struct worker_job *first, **last;
};

struct worker {
	struct worker_pool *pool;
	pthread_t thread;
	pid_t tid; /* once it has run */
	bool yields;
};

struct worker_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* of workers: a job came, or the end */
	pthread_cond_t idle; /* of worker_pool_free: a job is finished */
	struct job_list waiting, finished;
	uint64_t n_waiting, n_running, n_finished;
	unsigned n_idle, n_threads, max_threads;
	atomic_int calm, hurry;
	size_t stack;
	bool ending;
	int wake_fd;
	struct event *event;
	char name[16];
	struct worker threads[];
};

static void list_init(struct job_list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_push(struct job_list *l, struct worker_job *job)
{
	job->next = NULL;
	*l->last = job;
	l->last = &job->next;
}

static struct worker_job *list_pop(struct job_list *l)
{
	struct worker_job *job = l->first;

	if (job) {
		l->first = job->next;
		if (!l->first)
			l->last = &l->first;
	}
	return job;
}

/* With the lock held. */
static void pool_finish(struct worker_pool *p, struct worker_job *job)
{
	bool was_empty = !p->finished.first;

	list_push(&p->finished, job);
	p->n_finished++;
	if (was_empty) {
		uint64_t one = 1;
		ssize_t n;

		/* fails only when the counter is near its end: then it is readable anyway */
		do {
			n = write(p->wake_fd, &one, sizeof(one));
		} while (n < 0 && errno == EINTR);
	}
	pthread_cond_signal(&p->idle);
}

static bool is_calm(struct worker_pool *p)
{
	return atomic_load(&p->calm) > 0 && atomic_load(&p->hurry) <= 0;
}

/* Without the lock. */
static void run_calmly(struct worker *w, struct worker_job *job)
{
	sched_yield_to_all();
	if (!is_calm(w->pool))
		sched_unyield(0);
	job->run(job);
	sched_unyield(0);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct worker_pool *p = w->pool;

	pthread_mutex_lock(&p->lock);
	w->tid = gettid();
	for (;;) {
		struct worker_job *job = list_pop(&p->waiting);

		if (!job) {
			if (p->ending)
				break;
			p->n_idle++;
			pthread_cond_wait(&p->wake, &p->lock);
			p->n_idle--;
			continue;
		}
		p->n_waiting--;
		p->n_running++;
		w->yields = is_calm(p) && sched_can_yield();
		pthread_mutex_unlock(&p->lock);
		if (w->yields)
			run_calmly(w, job);
		else
			job->run(job);
		pthread_mutex_lock(&p->lock);
		w->yields = false;
		p->n_running--;
		pool_finish(p, job);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* With the lock held. A thread more; 0 or -errno. */
static int pool_grow(struct worker_pool *p)
{
	struct worker *w = &p->threads[p->n_threads];
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	r = pthread_attr_init(&attr);
	if (r)
		return -r;
	r = pthread_attr_setstacksize(&attr, p->stack);
	if (!r) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		w->pool = p;
		r = pthread_create(&w->thread, &attr, worker_main, w);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	pthread_attr_destroy(&attr);
	if (r)
		return -r;
	pthread_setname_np(w->thread, p->name);
	p->n_threads++;
	return 0;
}

/* Runs the callbacks of what is finished by now. */
static void pool_deliver(struct worker_pool *p)
{
	struct worker_job *job;

	pthread_mutex_lock(&p->lock);
	job = p->finished.first;
	list_init(&p->finished);
	pthread_mutex_unlock(&p->lock);
	while (job) {
		struct worker_job *next = job->next;

		job->done(job);
		job = next;
	}
}

static void pool_on_wake(evutil_socket_t fd, short what, void *user)
{
	struct worker_pool *p = user;
	uint64_t count;

	(void)what;
	/* read before the list is taken: a job that finishes in between wakes us once more */
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
		return;
	pool_deliver(p);
}

int worker_pool_new(struct worker_pool **out, struct event_base *base, const char *name,
		    unsigned threads, size_t stack)
{
	struct worker_pool *p;

	if (!threads || strlen(name) > 15)
		return -EINVAL;
	p = calloc(1, sizeof(*p) + threads * sizeof(p->threads[0]));
	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	pthread_cond_init(&p->idle, NULL);
	list_init(&p->waiting);
	list_init(&p->finished);
	p->max_threads = threads;
	p->stack = stack ? stack : WORKER_STACK_DEFAULT;
	if (p->stack < (size_t)PTHREAD_STACK_MIN)
		p->stack = (size_t)PTHREAD_STACK_MIN;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake_fd < 0) {
		int r = -errno;

		worker_pool_free(p);
		return r;
	}
	p->event = event_new(base, p->wake_fd, EV_READ | EV_PERSIST, pool_on_wake, p);
	if (!p->event || event_add(p->event, NULL) < 0) {
		worker_pool_free(p);
		return -ENOMEM;
	}
	*out = p;
	return 0;
}

void worker_pool_drain(struct worker_pool *p)
{
	bool more = true;

	while (more) {
		pthread_mutex_lock(&p->lock);
		while (!p->finished.first && (p->n_waiting || p->n_running))
			pthread_cond_wait(&p->idle, &p->lock);
		more = p->finished.first;
		pthread_mutex_unlock(&p->lock);
		pool_deliver(p);
	}
}

void worker_pool_free(struct worker_pool *p)
{
	if (!p)
		return;
	worker_pool_drain(p);
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i].thread, NULL);
	if (p->event)
		event_free(p->event);
	fd_close(&p->wake_fd);
	pthread_cond_destroy(&p->idle);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void worker_submit(struct worker_pool *p, struct worker_job *job)
{
	bool inline_run = false;

	pthread_mutex_lock(&p->lock);
	list_push(&p->waiting, job);
	p->n_waiting++;
	/*
	 * idle threads that were woken but have not run yet count as idle: compare with what waits
	 */
	if (p->n_waiting > p->n_idle && p->n_threads < p->max_threads && pool_grow(p) < 0 &&
	    !p->n_threads) {
		/* alone in the queue, since nothing has ever been able to wait here */
		list_pop(&p->waiting);
		p->n_waiting--;
		p->n_running++;
		inline_run = true;
	} else {
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	if (!inline_run)
		return;
	job->run(job);
	pthread_mutex_lock(&p->lock);
	p->n_running--;
	pool_finish(p, job);
	pthread_mutex_unlock(&p->lock);
}

/* With the lock held: whoever yields does so no longer. */
static void bring_back(struct worker_pool *p)
{
	for (unsigned i = 0; i < p->n_threads; i++)
		if (p->threads[i].yields)
			sched_unyield(p->threads[i].tid);
}

void worker_pool_calm(struct worker_pool *p, int change)
{
	pthread_mutex_lock(&p->lock);
	if (atomic_fetch_add(&p->calm, change) + change <= 0)
		bring_back(p);
	pthread_mutex_unlock(&p->lock);
}

void worker_pool_hurry(struct worker_pool *p, int change)
{
	pthread_mutex_lock(&p->lock);
	if (atomic_fetch_add(&p->hurry, change) + change > 0)
		bring_back(p);
	pthread_mutex_unlock(&p->lock);
}

void worker_pool_stats(struct worker_pool *p, struct worker_stats *out)
{
	pthread_mutex_lock(&p->lock);
	out->queued = p->n_waiting;
	out->running = p->n_running;
	out->finished = p->n_finished;
	out->threads = p->n_threads;
	pthread_mutex_unlock(&p->lock);
}
