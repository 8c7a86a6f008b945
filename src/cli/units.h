// SPDX-License-Identifier: Apache-2.0
/*
 * Numbers as people write them: sizes, CPUs, signals, resource limits
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/fault.h"

/* "64m", "1.5g", "4096", "10kb", "1Gi": powers of 1024. Bytes; at most INT64_MAX. */
int units_size(const char *text, int64_t *bytes, struct fault *f);
/* A whole decimal number with nothing after it. */
int units_int(const char *text, int64_t min, int64_t max, int64_t *value, struct fault *f);
/* "0.5" to microseconds of a period of 100,000; at least 1,000. */
int units_cpus(const char *text, int64_t *quota, struct fault *f);
#define UNITS_CPU_PERIOD 100000
/* "TERM", "SIGTERM", "15", "RTMIN+3" to the number. */
int units_signal(const char *text, int *sig, struct fault *f);
/* "SIGTERM", "SIGRTMIN+3"; buf at least 16 bytes. */
const char *units_signal_name(int sig, char *buf);

/*
 * "nofile=1024:2048", soft alone for both, -1 or unlimited. name gets "RLIMIT_NOFILE", a static
 * string.
 */
int units_ulimit(const char *text, const char **name, uint64_t *soft, uint64_t *hard,
		 struct fault *f);
/* The name and number of the i'th resource limit; false past the last. */
bool units_rlimit_at(unsigned i, const char **name, int *resource);
