// SPDX-License-Identifier: Apache-2.0
/*
 * Cursors: reading events in order
 *
 * A cursor is a seq and, while it is at work, the place of that seq's record. Who keeps up finds
 * it in the tail, the last commit's bytes in memory; who is behind walks the frames of the files,
 * from the place that the segment's index knows before it. A place in a file is held as segment
 * number and offset, and looked up again, so segments may go at any time.
 *
 * Where a seq is missing, because its segment went or because it was damaged, the cursor answers
 * one gap for the whole hole and stands behind it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "monitor/journal_internal.h"

struct journal_cursor {
	struct journal *journal;
	uint64_t seq; /* the next to answer */
	/* where that is, if known: */
	uint64_t generation; /* the tail's, 0: not there */
	uint64_t index; /* the segment's, 0: not there */
	uint64_t frame; /* offset in the segment */
	size_t at; /* offset in the body */
	uint64_t at_seq; /* of the event found there or after it */
	size_t before; /* `at` of the event answered last */
};

int journal_cursor_new(struct journal *j, uint64_t after, struct journal_cursor **out)
{
	struct journal_cursor *c = calloc(1, sizeof(*c));

	*out = c;
	if (!c)
		return -ENOMEM;
	c->journal = j;
	c->seq = after < j->last ? after + 1 : j->last + 1;
	return 0;
}

void journal_cursor_free(struct journal_cursor *c)
{
	free(c);
}

uint64_t journal_cursor_seq(const struct journal_cursor *c)
{
	return c->seq;
}

/* Takes the event with the cursor's seq from a body which holds it. False if it does not. */
static bool take(struct journal_cursor *c, const uint8_t *body, size_t size,
		 struct journal_event *e)
{
	struct journal_record r;

	while (c->before = c->at, journal_record_next(body, size, &c->at, &r)) {
		if (r.kind != JOURNAL_EVENT || c->at_seq++ < c->seq)
			continue;
		e->seq = c->seq++;
		e->timestamp = r.timestamp;
		e->ns = r.name;
		e->topic = r.topic;
		e->payload = r.data;
		e->payload_size = r.size;
		return true;
	}
	return false;
}

static bool take_from_tail(struct journal_cursor *c, struct journal_event *e)
{
	struct journal *j = c->journal;

	if (!j->tail_events || c->seq < j->tail_first || c->seq >= j->tail_first + j->tail_events)
		return false;
	if (c->generation != j->tail_generation || c->at_seq > c->seq) {
		c->generation = j->tail_generation;
		c->at = 0;
		c->at_seq = j->tail_first;
	}
	c->index = 0;
	return take(c, j->tail.data + sizeof(struct journal_frame_head),
		    j->tail.size - sizeof(struct journal_frame_head), e);
}

/* Puts the cursor before the segment and frame that should hold its seq. */
static struct journal_segment *locate(struct journal_cursor *c)
{
	struct journal *j = c->journal;
	size_t low = 0, high = j->n_segments;
	struct journal_segment *s;

	while (high - low > 1) {
		size_t mid = (low + high) / 2;

		if (j->segments[mid].first_seq <= c->seq)
			low = mid;
		else
			high = mid;
	}
	s = &j->segments[low];
	c->index = s->index;
	c->frame = sizeof(struct journal_head);
	low = 0;
	high = s->n_places;
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (s->places[mid].seq <= c->seq)
			low = mid + 1;
		else
			high = mid;
	}
	if (low)
		c->frame = s->places[low - 1].offset;
	c->at = 0;
	c->at_seq = 0;
	return s;
}

static int gap(struct journal_cursor *c, uint64_t next, uint64_t *from, uint64_t *to)
{
	*from = c->seq;
	*to = next - 1;
	c->seq = next;
	return JOURNAL_E_GAP;
}

static int take_from_files(struct journal_cursor *c, struct journal_event *e, uint64_t *from,
			   uint64_t *to)
{
	struct journal *j = c->journal;
	struct journal_segment *s = c->index ? journal_segment_find(j, c->index) : NULL;
	struct journal_frame f;
	int r;

	c->generation = 0;
	if (!s)
		s = locate(c);
	for (;;) {
		r = journal_frame_next(j, s, c->frame, &f);
		/* a file that somebody removed is a hole like any other */
		if (r == -ENOENT)
			r = JOURNAL_E_END;
		if (r < 0)
			return r;
		if (r == JOURNAL_E_END) {
			if (s == &j->segments[j->n_segments - 1]) {
				/* the rest is damaged */
				c->index = 0;
				return gap(c, j->last + 1, from, to);
			}
			s++;
			c->index = s->index;
			c->frame = sizeof(struct journal_head);
			c->at = 0;
			c->at_seq = 0;
			continue;
		}
		if (f.offset != c->frame || !c->at_seq) {
			c->frame = f.offset;
			c->at = 0;
			c->at_seq = f.first_seq;
		}
		if (f.n_events && f.first_seq > c->seq)
			return gap(c, f.first_seq, from, to);
		if (f.n_events && f.first_seq + f.n_events > c->seq && take(c, f.body, f.size, e))
			return 0;
		c->frame = f.next;
		c->at = 0;
		c->at_seq = 0;
	}
}

void journal_unread(struct journal_cursor *c)
{
	c->seq--;
	c->at = c->before;
	c->at_seq = c->seq;
}

int journal_read(struct journal_cursor *c, struct journal_event *e, uint64_t *from, uint64_t *to)
{
	struct journal *j = c->journal;

	if (c->seq > j->last) {
		if (c->index)
			journal_window_free(j);
		c->index = 0;
		return JOURNAL_E_END;
	}
	if (c->seq < journal_first(j)) {
		c->index = 0;
		c->generation = 0;
		return gap(c, journal_first(j), from, to);
	}
	if (take_from_tail(c, e))
		return 0;
	return take_from_files(c, e, from, to);
}
