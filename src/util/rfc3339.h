// SPDX-License-Identifier: Apache-2.0
/*
 * Times as text: RFC 3339
 */
#pragma once

#include <stdint.h>

/*
 * "2026-01-31T12:00:00Z", with a fraction of a second ("…00.25Z") or an offset ("…+01:00") as the
 * RFC allows: *ns since the epoch. -EINVAL for anything else, also for a day that its month has not. A
 * time that nanoseconds in 64 bits cannot say (before 1678, after 2262) becomes the nearest that
 * they can.
 */
int rfc3339_parse(const char *text, int64_t *ns);
