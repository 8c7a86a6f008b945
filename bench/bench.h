// SPDX-License-Identifier: Apache-2.0
/*
 * Benches: time, order statistics, and numbers as JSON, one a line
 *
 * Everything is inline: each bench is a program of one file.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline int64_t bench_now(void) /* ns, for differences */
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int bench_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of sorted values: p from 0 to 100, the nearest rank. */
static inline double bench_percentile(const double *v, size_t n, double p)
{
	size_t i = (size_t)(p / 100 * (double)(n - 1) + 0.5);

	return v[i < n ? i : n - 1];
}

static inline void bench_print(const char *bench, const char *name, const char *unit, double value)
{
	printf("{\"bench\":\"%s\",\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.6g}\n", bench, name,
	       unit, value);
	fflush(stdout);
}

/* The median as the value, and how far the others lie from it. Sorts v. */
static inline void bench_print_spread(const char *bench, const char *name, const char *unit,
				      double *v, size_t n)
{
	if (!n)
		return;
	qsort(v, n, sizeof(*v), bench_compare);
	printf("{\"bench\":\"%s\",\"name\":\"%s\",\"unit\":\"%s\",\"value\":%.6g,\"n\":%zu,\"min\":%.6g,\"p10\":%.6g,"
	       "\"p90\":%.6g,\"p99\":%.6g}\n",
	       bench, name, unit, bench_percentile(v, n, 50), n, v[0], bench_percentile(v, n, 10),
	       bench_percentile(v, n, 90), bench_percentile(v, n, 99));
	fflush(stdout);
}
