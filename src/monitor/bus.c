// SPDX-License-Identifier: Apache-2.0
/*
 * Event bus
 *
 * A subscriber is a cursor in the journal, a filter and a sink. It is in one of three conditions:
 * idle, and every commit delivers to it; full, because its sink took no more (or was not asked for
 * yet), and only a kick moves it; or lagging, with more to read than fits in one turn of the loop,
 * and then the bus's own event moves it on. However it comes forward, it reads its one cursor, so
 * order and completeness need no care between replay and live.
 *
 * What a filter refuses moves the cursor as well. A gap that the sink did not take is kept and
 * comes first.
 *
 * Sinks are called in the middle of all this and may do anything. A subscriber that goes while the
 * bus is at work is only marked, and freed when the outermost call returns; a commit made by a sink
 * is delivered by the pump that is running.
 */
#include "monitor/bus.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "monitor/event_fields.h"

/* Events looked at for one subscriber in one turn of the loop. */
#define TURN_MAX 256u

struct bus_sub {
	TAILQ_ENTRY(bus_sub) link;
	struct bus *bus;
	struct journal_cursor *cursor;
	const struct bus_sink *sink;
	void *user;
	struct filter *filter;
	char *ns;
	uint64_t gap_from, gap_to; /* to be told; gap_to 0 for none */
	bool full, lagging, busy, dead;
};

struct bus {
	struct journal *journal;
	struct event *later;
	struct event_fields *fields;
	TAILQ_HEAD(, bus_sub) subs;
	unsigned depth; /* of calls that may be walking over subs */
	unsigned n_dead;
	bool pumping, again;
};

static void sub_free(struct bus_sub *s)
{
	TAILQ_REMOVE(&s->bus->subs, s, link);
	journal_cursor_free(s->cursor);
	filter_free(s->filter);
	free(s->ns);
	free(s);
}

static void leave(struct bus *b)
{
	struct bus_sub *s, *next;

	if (--b->depth || !b->n_dead)
		return;
	for (s = TAILQ_FIRST(&b->subs); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (s->dead)
			sub_free(s);
	}
	b->n_dead = 0;
}

static bool wanted(struct bus_sub *s, const struct journal_event *e)
{
	if (s->ns && strcmp(s->ns, e->ns))
		return false;
	if (!s->filter)
		return true;
	event_fields_set(s->bus->fields, e);
	return filter_match(s->filter, event_fields_get, s->bus->fields);
}

/* As far as the sink takes, but not more than a portion if the rest can be done later. */
static void deliver(struct bus_sub *s)
{
	struct bus *b = s->bus;
	unsigned n = 0;

	if (s->busy)
		return;
	s->busy = true;
	s->lagging = false;
	b->depth++;
	while (!s->dead) {
		struct journal_event e;
		int r;

		if (s->gap_to) {
			s->full = !s->sink->gap(s->user, s->gap_from, s->gap_to);
			if (s->full)
				break;
			s->gap_to = 0;
			continue;
		}
		if (b->later && n++ == TURN_MAX) {
			s->lagging = true;
			event_active(b->later, EV_TIMEOUT, 0);
			break;
		}
		r = journal_read(s->cursor, &e, &s->gap_from, &s->gap_to);
		if (r == JOURNAL_E_GAP)
			continue;
		/* the end; or the journal cannot be read now, and the next commit tries again */
		if (r)
			break;
		if (!wanted(s, &e))
			continue;
		if (!s->sink->event(s->user, &e)) {
			s->full = true;
			if (!s->dead)
				journal_unread(s->cursor);
			break;
		}
	}
	s->busy = false;
	leave(b);
}

static void on_commit(void *user)
{
	bus_pump(user);
}

static void on_later(evutil_socket_t fd, short what, void *user)
{
	struct bus *b = user;
	struct bus_sub *s;

	(void)fd;
	(void)what;
	b->depth++;
	TAILQ_FOREACH (s, &b->subs, link) {
		if (s->lagging)
			deliver(s);
	}
	leave(b);
}

int bus_new(struct bus **out, struct journal *j)
{
	struct bus *b = calloc(1, sizeof(*b));

	*out = NULL;
	if (!b)
		return -ENOMEM;
	if (event_fields_new(&b->fields) < 0) {
		free(b);
		return -ENOMEM;
	}
	b->journal = j;
	TAILQ_INIT(&b->subs);
	journal_on_event(j, on_commit, b);
	*out = b;
	return 0;
}

void bus_free(struct bus *b)
{
	struct bus_sub *s;

	if (!b)
		return;
	journal_on_event(b->journal, NULL, NULL);
	while ((s = TAILQ_FIRST(&b->subs)))
		sub_free(s);
	if (b->later)
		event_free(b->later);
	event_fields_free(b->fields);
	free(b);
}

int bus_use_base(struct bus *b, struct event_base *base)
{
	struct event *later = event_new(base, -1, 0, on_later, b);

	if (!later)
		return -ENOMEM;
	if (b->later)
		event_free(b->later);
	b->later = later;
	return 0;
}

int bus_subscribe(struct bus *b, const struct bus_sink *sink, void *user, struct filter *filter,
		  const char *ns, uint64_t after, struct bus_sub **out)
{
	struct bus_sub *s = calloc(1, sizeof(*s));

	*out = NULL;
	if (!s)
		return -ENOMEM;
	s->ns = ns ? strdup(ns) : NULL;
	if ((ns && !s->ns) || journal_cursor_new(b->journal, after, &s->cursor) < 0) {
		free(s->ns);
		free(s);
		return -ENOMEM;
	}
	s->bus = b;
	s->sink = sink;
	s->user = user;
	s->filter = filter;
	s->full = true;
	TAILQ_INSERT_TAIL(&b->subs, s, link);
	*out = s;
	return 0;
}

void bus_unsubscribe(struct bus_sub *s)
{
	if (!s || s->dead)
		return;
	s->dead = true;
	s->bus->n_dead++;
	s->bus->depth++;
	leave(s->bus);
}

void bus_sub_kick(struct bus_sub *s)
{
	if (s->dead)
		return;
	s->full = false;
	deliver(s);
}

void bus_pump(struct bus *b)
{
	struct bus_sub *s;

	b->again = true;
	if (b->pumping)
		return;
	b->pumping = true;
	b->depth++;
	while (b->again) {
		b->again = false;
		TAILQ_FOREACH (s, &b->subs, link) {
			if (!s->full && !s->lagging && !s->dead)
				deliver(s);
		}
	}
	b->pumping = false;
	leave(b);
}
