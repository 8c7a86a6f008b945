// SPDX-License-Identifier: Apache-2.0
/*
 * Event bus: subscribers as cursors in the journal
 *
 * After a commit each subscriber that is not behind gets the new events at once; one whose sink is
 * full keeps its place in the journal and goes on when kicked. When the journal has moved on past
 * it, it gets one gap.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "monitor/journal.h"
#include "util/filter.h"

struct bus;
struct bus_sub;

/* Both may subscribe, unsubscribe anyone, kick and commit. */
struct bus_sink {
	/* true: taken; false: not taken, full until bus_sub_kick */
	bool (*event)(void *user, const struct journal_event *e);
	bool (*gap)(void *user, uint64_t from, uint64_t to);
};

int bus_new(struct bus **out, struct journal *j);
void bus_free(struct bus *b); /* before its journal; subscribers that are left go with it */
/*
 * With a loop, long ways through the journal are made in portions, a turn of the loop each;
 * without, in one go.
 */
int bus_use_base(struct bus *b, struct event_base *base);
/*
 * filter is taken over when it returns 0 (NULL: all); it sees the fields topic, namespace and
 * event.FIELD.FIELD. ns: NULL for all namespaces; copied. after: deliver seqs above it. Nothing is
 * delivered before the first kick. 0, -ENOMEM.
 */
int bus_subscribe(struct bus *b, const struct bus_sink *sink, void *user, struct filter *filter,
		  const char *ns, uint64_t after, struct bus_sub **out);
void bus_unsubscribe(struct bus_sub *s);
void bus_sub_kick(struct bus_sub *s); /* deliver as far as the sink takes */
/* After a commit: deliver to all that are not full. The journal's on_event does it. */
void bus_pump(struct bus *b);
