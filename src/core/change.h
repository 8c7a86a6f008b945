// SPDX-License-Identifier: Apache-2.0
/*
 * Changes of one record, one after the other
 *
 * A change of a stored record takes several steps over worker threads. Those of one record wait for
 * each other here, in the order they were asked for, so that each starts from what the former has
 * left.
 */
#pragma once

#include <bsd/sys/queue.h>
#include <stdbool.h>

struct change {
	STAILQ_ENTRY(change) link;
	void (*start)(struct change *c); /* its turn has come */
};
STAILQ_HEAD(change_queue, change);

/* May start c before it returns. */
static inline void change_add(struct change_queue *q, struct change *c)
{
	bool alone = STAILQ_EMPTY(q);

	STAILQ_INSERT_TAIL(q, c, link);
	if (alone)
		c->start(c);
}

/*
 * The change at the head is finished: takes it out. Then, when nothing else is to be done with the
 * record first, change_next.
 */
static inline void change_remove(struct change_queue *q)
{
	STAILQ_REMOVE_HEAD(q, link);
}

static inline void change_next(struct change_queue *q)
{
	struct change *c = STAILQ_FIRST(q);

	if (c)
		c->start(c);
}
