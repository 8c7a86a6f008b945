// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint: who does not come
 *
 * A capture watches over its streams alone. What is waited for besides is watched here: a criu that writes
 * a folder, or has nothing left to do but to reach its hook or let the tasks go; and the store, while
 * criu is held for it. It is overdue when nothing has moved for the time: criu's processor time, or the
 * bytes that were written.
 */
#include <stdint.h>
#include <time.h>

#include "core/ckpt_internal.h"
#include "util/clock.h"
#include "util/log.h"

#define SLOW_DISK (4u << 20) /* bytes a second of one that is not stuck */

/* A number that changes as long as what is waited for moves. */
static uint64_t moved(struct ckpt *ck)
{
	struct capture_stats stats = ck->capture_stats;
	struct timespec used = { 0 };
	clockid_t clock;

	if (ck->at_hook) {
		if (ck->capture)
			capture_get_stats(ck->capture, &stats);
		return stats.bytes_out;
	}
	/* not reaped yet, since it has not ended for us */
	if (ck->run->pid > 0 && clock_getcpuclockid(ck->run->pid, &clock) == 0)
		(void)clock_gettime(clock, &used);
	return (uint64_t)used.tv_sec * CLOCK_NS_PER_SEC + (uint64_t)used.tv_nsec;
}

static void on_overdue(evutil_socket_t fd, short what, void *user);

static void watch(struct ckpt *ck, int64_t ns)
{
	struct timeval tv = { .tv_sec = ns / CLOCK_NS_PER_SEC,
			      .tv_usec = ns % CLOCK_NS_PER_SEC / 1000 };

	if (ck->overdue)
		event_free(ck->overdue);
	ck->overdue = NULL;
	if (!ns)
		return;
	ck->overdue_ns = ns;
	ck->overdue_seen = moved(ck);
	ck->overdue = evtimer_new(ck->d->base, on_overdue, ck);
	if (!ck->overdue || event_add(ck->overdue, &tv) < 0)
		log_warn("no memory to watch over the checkpoint of %s/%s", ck->ns, ck->id);
}

void ckpt_expect_criu(struct ckpt *ck, bool on)
{
	watch(ck, on && !ck->criu_over ? ck->o.stall_ns : 0);
}

/* A disk that is asked for all of it at once says nothing until it has it. */
void ckpt_expect_store(struct ckpt *ck)
{
	int64_t slow = (int64_t)(ck->capture_stats.bytes_out / SLOW_DISK) * CLOCK_NS_PER_SEC;

	watch(ck, ck->o.stall_ns ? ck->o.stall_ns + slow : 0);
}

static void on_overdue(evutil_socket_t fd, short what, void *user)
{
	struct ckpt *ck = user;
	long long ms = (long long)(ck->overdue_ns / 1000000);
	struct fault f;

	(void)fd;
	(void)what;
	if (moved(ck) != ck->overdue_seen) {
		watch(ck, ck->overdue_ns);
		return;
	}
	if (ck->final) {
		/* it has been answered: there is nothing left to close, only criu itself */
		criu_run_hurry(ck->run);
		return;
	}
	if (ck->at_hook)
		fault_set(&f, FAULT_DEADLINE_EXCEEDED, 0,
			  "the checkpoint is being written, but there was no progress for %lld ms",
			  ms);
	else if (ck->o.image_path)
		fault_set(&f, FAULT_DEADLINE_EXCEEDED, 0,
			  "criu has made no progress for %lld ms: the dump was given up", ms);
	else
		fault_set(&f, FAULT_DEADLINE_EXCEEDED, 0,
			  "criu has sent all, but does not end: no progress for %lld ms", ms);
	ckpt_overdue(ck, &f);
}
