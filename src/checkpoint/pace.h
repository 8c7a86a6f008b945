// SPDX-License-Identifier: Apache-2.0
/*
 * The pace of workers beside criu
 *
 * While criu is at work somebody waits for it: a frozen task, or one that is to be restored. Workers leave it the
 * processors (worker_pool_calm), but for when it waits for them.
 */
#pragma once

#include <stdbool.h>

#include "util/worker.h"

struct pace { /* zeroed but for the pools: nothing was asked of them */
	struct worker_pool *pools[2]; /* NULL: none */
	bool calm, hurried;
};

/* criu is at work; it waits for workers. The pools have to be there until both are false. */
void pace_set(struct pace *p, bool at_work, bool waits);
