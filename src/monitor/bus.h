// SPDX-License-Identifier: Apache-2.0
/*
 * Event bus: subscribers as cursors in the journal
 *
 * After a commit each subscriber that is not behind gets the new events at once; one whose
 * sink is full keeps its place in the journal and goes on when kicked. When the journal has moved on past it, it gets one gap.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "monitor/journal.h"
#include "util/filter.h"

struct bus;
struct bus_sub;

struct bus_sink {
	/* true: taken; false: not taken, full until bus_sub_kick */
	bool (*event)(void *user, const struct journal_event *e);
	bool (*gap)(void *user, uint64_t from, uint64_t to);
};

int bus_new(struct bus **out, struct journal *j);
void bus_free(struct bus *b);
/* filter is taken over (NULL: all). ns: NULL for all namespaces; copied. after: deliver seqs above it. Nothing is delivered inside this call: kick does it. */
int bus_subscribe(struct bus *b, const struct bus_sink *sink, void *user, struct filter *filter, const char *ns, uint64_t after,
		  struct bus_sub **out);
void bus_unsubscribe(struct bus_sub *s);
void bus_sub_kick(struct bus_sub *s); /* deliver as far as the sink takes */
void bus_pump(struct bus *b); /* after a commit: deliver to all that are not full. The journal's on_event does it. */
