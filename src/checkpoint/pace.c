// SPDX-License-Identifier: Apache-2.0
/*
 * The pace of workers beside criu
 *
 * Pools are shared by all dumps and restores, and count what they are asked for: each asks once for what
 * it wants and takes that back.
 */
#include "checkpoint/pace.h"

#include <stddef.h>

static void ask(struct pace *p, void (*what)(struct worker_pool *pool, int change), bool *asked,
		bool want)
{
	if (*asked == want)
		return;
	*asked = want;
	for (size_t i = 0; i < sizeof(p->pools) / sizeof(p->pools[0]); i++)
		if (p->pools[i])
			what(p->pools[i], want ? 1 : -1);
}

void pace_set(struct pace *p, bool at_work, bool waits)
{
	ask(p, worker_pool_hurry, &p->hurried, at_work && waits);
	ask(p, worker_pool_calm, &p->calm, at_work);
}
