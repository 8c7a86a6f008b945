// SPDX-License-Identifier: Apache-2.0
/* The worker pool: every job runs once, off the loop, and is delivered once, on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/container_of.h"
#include "util/sched.h"
#include "util/worker.h"

struct note {
	struct worker_job job;
	struct worker_pool *pool;
	unsigned number;
	pthread_t ran_in;
	atomic_int *gate; /* waits until it is not 0 */
	struct note *then; /* submitted by done */
	bool blocked; /* SIGTERM was blocked in the worker */
	atomic_int begun; /* its tid */
	int policy, policy_after; /* when it began, and when it ended */
	int runs, dones;
};

static unsigned done_order[4096], n_done;

static void note_run(struct worker_job *job)
{
	struct note *n = container_of(job, struct note, job);
	sigset_t set;

	n->policy = sched_getscheduler(0);
	atomic_store(&n->begun, gettid());
	while (n->gate && !atomic_load(n->gate))
		usleep(100);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	n->blocked = sigismember(&set, SIGTERM);
	n->ran_in = pthread_self();
	n->policy_after = sched_getscheduler(0);
	n->runs++;
}

static void note_done(struct worker_job *job)
{
	struct note *n = container_of(job, struct note, job);

	n->dones++;
	done_order[n_done++] = n->number;
	if (n->then)
		worker_submit(n->pool, &n->then->job);
}

static void note_init(struct note *n, struct worker_pool *pool, unsigned number)
{
	memset(n, 0, sizeof(*n));
	n->job = (struct worker_job){ .run = note_run, .done = note_done };
	n->pool = pool;
	n->number = number;
}

static void loop_until(struct event_base *base, unsigned count)
{
	while (n_done < count)
		assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
}

static struct worker_pool *pool_new(struct event_base *base, unsigned threads)
{
	struct worker_pool *p;

	n_done = 0;
	assert_int_equal(worker_pool_new(&p, base, "test", threads, 0), 0);
	return p;
}

static void test_arguments(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p;

	(void)state;
	assert_int_equal(worker_pool_new(&p, base, "test", 0, 0), -EINVAL);
	assert_int_equal(worker_pool_new(&p, base, "a name of 17 chars", 1, 0), -EINVAL);
	worker_pool_free(NULL);
	event_base_free(base);
}

static void test_one_thread_keeps_order(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 1);
	struct note *notes = calloc(1000, sizeof(*notes));

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		note_init(&notes[i], p, i);
		worker_submit(p, &notes[i].job);
	}
	loop_until(base, 1000);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(done_order[i], i);
		assert_int_equal(notes[i].runs, 1);
		assert_int_equal(notes[i].dones, 1);
		assert_true(notes[i].blocked);
		assert_false(pthread_equal(notes[i].ran_in, pthread_self()));
	}
	worker_pool_free(p);
	free(notes);
	event_base_free(base);
}

static void test_threads_start_when_needed(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 3);
	struct worker_stats s;
	struct note notes[5];
	atomic_int gate = 0;

	(void)state;
	worker_pool_stats(p, &s);
	assert_int_equal(s.threads, 0);
	for (unsigned i = 0; i < 5; i++) {
		note_init(&notes[i], p, i);
		notes[i].gate = &gate;
		worker_submit(p, &notes[i].job);
	}
	do {
		usleep(100);
		worker_pool_stats(p, &s);
	} while (s.running < 3);
	assert_int_equal(s.threads, 3);
	assert_int_equal(s.queued, 2);
	assert_int_equal(s.finished, 0);
	/* the loop goes on meanwhile */
	assert_true(event_base_loop(base, EVLOOP_NONBLOCK) >= 0);
	assert_int_equal(n_done, 0);
	atomic_store(&gate, 1);
	loop_until(base, 5);
	worker_pool_stats(p, &s);
	assert_int_equal(s.finished, 5);
	assert_int_equal(s.queued + s.running, 0);
	worker_pool_free(p);
	event_base_free(base);
}

static void test_one_job_one_thread(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 4);
	struct worker_stats s;
	struct note n;

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		note_init(&n, p, i);
		worker_submit(p, &n.job);
		loop_until(base, i + 1);
		usleep(1000); /* until it waits again */
	}
	worker_pool_stats(p, &s);
	assert_int_equal(s.threads, 1);
	worker_pool_free(p);
	event_base_free(base);
}

static void test_free_delivers_all(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 2);
	struct note notes[101];

	(void)state;
	note_init(&notes[100], p, 100);
	for (unsigned i = 0; i < 100; i++) {
		note_init(&notes[i], p, i);
		if (i == 50)
			notes[i].then = &notes[100];
		worker_submit(p, &notes[i].job);
	}
	worker_pool_free(p);
	assert_int_equal(n_done, 101);
	for (unsigned i = 0; i < 101; i++)
		assert_int_equal(notes[i].dones, 1);
	event_base_free(base);
}

static void test_drain_leaves_the_pool_usable(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 2);
	struct note a, b, c;

	(void)state;
	note_init(&a, p, 1);
	note_init(&b, p, 2);
	note_init(&c, p, 3);
	a.then = &b;
	worker_submit(p, &a.job);
	worker_pool_drain(p);
	assert_int_equal(n_done, 2);
	worker_submit(p, &c.job);
	loop_until(base, 3);
	assert_int_equal(done_order[2], 3);
	worker_pool_free(p);
	event_base_free(base);
}

/* One job in a pool that is in this state; what its policy was is in n. */
static void run_one(struct event_base *base, struct worker_pool *p, struct note *n)
{
	note_init(n, p, 0);
	n_done = 0;
	worker_submit(p, &n->job);
	loop_until(base, 1);
}

static void test_a_calm_pool_yields(void **state)
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 1);
	struct note n;

	(void)state;
	if (!sched_can_yield()) {
		print_message("SKIPPED: this process may not leave SCHED_IDLE again\n");
		skip();
	}
	run_one(base, p, &n);
	assert_int_equal(n.policy, SCHED_OTHER);
	worker_pool_calm(p, 1);
	worker_pool_calm(p, 1);
	run_one(base, p, &n);
	assert_int_equal(n.policy, SCHED_IDLE);
	assert_int_equal(n.policy_after, SCHED_IDLE);
	worker_pool_calm(p, -1);
	run_one(base, p, &n);
	assert_int_equal(n.policy, SCHED_IDLE);
	worker_pool_hurry(p, 1);
	run_one(base, p, &n);
	assert_int_equal(n.policy, SCHED_OTHER);
	worker_pool_hurry(p, -1);
	run_one(base, p, &n);
	assert_int_equal(n.policy, SCHED_IDLE);
	/* between its jobs a thread is as all others are */
	usleep(1000);
	assert_int_equal(sched_getscheduler(atomic_load(&n.begun)), SCHED_OTHER);
	worker_pool_calm(p, -1);
	run_one(base, p, &n);
	assert_int_equal(n.policy, SCHED_OTHER);
	worker_pool_free(p);
	event_base_free(base);
}

static void reaches_running_jobs(void (*end_of_calm)(struct worker_pool *pool))
{
	struct event_base *base = event_base_new();
	struct worker_pool *p = pool_new(base, 2);
	atomic_int gate = 0;
	struct note notes[2];

	if (!sched_can_yield()) {
		print_message("SKIPPED: this process may not leave SCHED_IDLE again\n");
		skip();
	}
	worker_pool_calm(p, 1);
	for (unsigned i = 0; i < 2; i++) {
		note_init(&notes[i], p, i);
		notes[i].gate = &gate;
		worker_submit(p, &notes[i].job);
	}
	while (!atomic_load(&notes[0].begun) || !atomic_load(&notes[1].begun))
		usleep(100);
	end_of_calm(p);
	atomic_store(&gate, 1);
	loop_until(base, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(notes[i].policy, SCHED_IDLE);
		assert_int_equal(notes[i].policy_after, SCHED_OTHER);
	}
	worker_pool_free(p);
	event_base_free(base);
}

static void hurry(struct worker_pool *p)
{
	worker_pool_hurry(p, 1);
}

static void no_calm(struct worker_pool *p)
{
	worker_pool_calm(p, -1);
}

static void test_a_hurry_reaches_running_jobs(void **state)
{
	(void)state;
	reaches_running_jobs(hurry);
}

/* One that is still pushed aside may hold what others need. */
static void test_the_end_of_calm_too(void **state)
{
	(void)state;
	reaches_running_jobs(no_calm);
}

static void test_prompt_is_not_inherited(void **state)
{
	int before = getpriority(PRIO_PROCESS, 0), status;
	pid_t child;

	(void)state;
	sched_prompt();
	assert_int_equal(sched_getscheduler(0) & ~SCHED_RESET_ON_FORK, SCHED_OTHER);
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(sched_getscheduler(0) != SCHED_OTHER     ? 1
		      : getpriority(PRIO_PROCESS, 0) != before ? 2
							       : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_one_thread_keeps_order),
		cmocka_unit_test(test_threads_start_when_needed),
		cmocka_unit_test(test_one_job_one_thread),
		cmocka_unit_test(test_free_delivers_all),
		cmocka_unit_test(test_drain_leaves_the_pool_usable),
		cmocka_unit_test(test_a_calm_pool_yields),
		cmocka_unit_test(test_a_hurry_reaches_running_jobs),
		cmocka_unit_test(test_the_end_of_calm_too),
		cmocka_unit_test(test_prompt_is_not_inherited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
