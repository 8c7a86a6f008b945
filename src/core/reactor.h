// SPDX-License-Identifier: Apache-2.0
/*
 * The reactor: start, loop and end of the process that does the work
 */
#pragma once

#include <stdint.h>

#include "core/davit.h"
#include "core/guardian.h"

/* For guardian_options.reactor. Returns the exit code: 0 after an orderly end. */
int reactor_main(const struct guardian_child *child, void *user);

/*
 * Begins the orderly end: no new requests, what is under way is finished, containers run on.
 * Returns at once.
 */
void reactor_stop(struct davit *d);

/* To be called when something was committed to d->db. */
void reactor_stored(struct davit *d);

struct reactor_stats {
	uint64_t turns; /* of the loop */
	int64_t busy_ns; /* processor time of all turns */
	int64_t turn_max_ns; /* of the longest turn: nobody else was served meanwhile */
	int64_t late_last_ns,
		late_max_ns; /* how late a timer came, sampled once a second while there is work */
	int64_t started_mono;
};
void reactor_get_stats(const struct davit *d, struct reactor_stats *out);
