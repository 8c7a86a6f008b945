// SPDX-License-Identifier: Apache-2.0
/*
 * Scheduling of this program's own threads
 *
 * Any thread may become SCHED_IDLE, but only one that is allowed nice values of the old policy may go
 * back (sched(7), RLIMIT_NICE). Capabilities do not tell in a user namespace, so it is tried once, by a
 * thread that ends then.
 *
 * A short slice alone is not enough for who is prompt: after it has used much of a processor the others' turn
 * comes first. So it is less nice too.
 */
#include "util/sched.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_NS 100000u /* the shortest there is */
#define RESET_ON_FORK 1u
#define PROMPT_NICE (-10)

struct slice { /* sched_setattr(2)'s argument, which older libcs do not have */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

void sched_prompt(void)
{
	struct slice s = { .size = sizeof(s) };

	/* not for real-time policies, which need none of it */
	if (syscall(SYS_sched_getattr, 0, &s, sizeof(s), 0) < 0 || s.policy != SCHED_OTHER)
		return;
	s.flags = RESET_ON_FORK;
	s.runtime = SLICE_NS;
	/* what a child goes back to is 0: another niceness was somebody's choice */
	if (!s.nice) {
		s.nice = PROMPT_NICE;
		if (!syscall(SYS_sched_setattr, 0, &s, 0))
			return;
		s.nice = 0;
	}
	(void)syscall(SYS_sched_setattr, 0, &s, 0);
}

static int become(pid_t tid, int policy)
{
	static const struct sched_param none;

	return sched_setscheduler(tid, policy, &none);
}

static void *try_it(void *result)
{
	bool *can = result;

	*can = sched_getscheduler(0) == SCHED_OTHER && !become(0, SCHED_IDLE) &&
	       !become(0, SCHED_OTHER);
	return NULL;
}

static bool can_yield;

static void find_out(void)
{
	pthread_t thread;

	if (!pthread_create(&thread, NULL, try_it, &can_yield))
		pthread_join(thread, NULL);
}

bool sched_can_yield(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, find_out);
	return can_yield;
}

void sched_yield_to_all(void)
{
	(void)become(0, SCHED_IDLE);
}

void sched_unyield(pid_t tid)
{
	(void)become(tid, SCHED_OTHER);
}
