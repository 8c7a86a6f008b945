// SPDX-License-Identifier: Apache-2.0
/*
 * Clocks: nanoseconds as int64_t, as the RPC contract has them.
 */
#pragma once

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_SEC 1000000000ll

/* Since the epoch. */
static inline int64_t clock_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * CLOCK_NS_PER_SEC + ts.tv_nsec;
}

/* For deadlines and durations. */
static inline int64_t clock_mono(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * CLOCK_NS_PER_SEC + ts.tv_nsec;
}
