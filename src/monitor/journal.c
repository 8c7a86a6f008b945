// SPDX-License-Identifier: Apache-2.0
/*
 * The state log and event journal
 *
 * Four parts: this one gathers and commits; journal_segment.c knows the files and frames;
 * journal_cursor.c reads events; journal_recover.c and journal_snapshot.c bring the state back and
 * keep the row of segments short.
 *
 * A commit is one frame, written by one call at a known offset and covered by one checksum: it is
 * there as a whole or not at all. When the write fails the file is cut back, and even where that
 * fails the next commit goes to the same offset, over the remains.
 *
 * A segment is begun at the start of a commit, before its records are written, and the owner is
 * asked for the state then. What it answers is the state before this commit, or already the one
 * after it: both are right, because the commit is replayed over it. Only if the commit fails could
 * the answer hold something that never was; then it is thrown away, and asked for again by the next
 * commit.
 *
 * Seqs are given while gathering and become real by the commit. The last commit's bytes stay in
 * memory (the tail), for the subscribers that keep up.
 */
#include "monitor/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "monitor/journal_internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/crc32c.h"
#include "util/fd.h"
#include "util/limits.h"

int journal_bytes_room(struct journal_bytes *b, size_t more)
{
	size_t cap = b->cap ? b->cap : 1024;
	uint8_t *data;

	if (more <= b->cap - b->size)
		return 0;
	while (cap - b->size < more)
		cap *= 2;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

void journal_bytes_clear(struct journal_bytes *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

static void append(struct journal_bytes *b, const void *data, size_t size)
{
	if (size)
		memcpy(b->data + b->size, data, size);
	b->size += size;
}

int journal_bytes_record(struct journal_bytes *b, enum journal_kind kind, int64_t timestamp,
			 const char *name, const char *topic, const void *data, size_t size)
{
	size_t n_name = strlen(name) + 1, n_topic = topic ? strlen(topic) + 1 : 0;
	struct journal_record_head h = {
		.timestamp = timestamp,
		.size = (uint32_t)size,
		.kind = (uint16_t)kind,
		.name = (uint16_t)n_name,
		.topic = (uint16_t)n_topic,
	};
	int r;

	if (n_name > UINT16_MAX || n_topic > UINT16_MAX || size > JOURNAL_FRAME_MAX / 2)
		return -EMSGSIZE;
	r = journal_bytes_room(b, sizeof(h) + n_name + n_topic + size);
	if (r < 0)
		return r;
	append(b, &h, sizeof(h));
	append(b, name, n_name);
	append(b, topic, n_topic);
	append(b, data, size);
	return 0;
}

bool journal_record_next(const uint8_t *body, size_t size, size_t *at, struct journal_record *r)
{
	struct journal_record_head h;
	size_t left = size - *at;
	const uint8_t *p = body + *at;

	if (left < sizeof(h))
		return false;
	memcpy(&h, p, sizeof(h));
	left -= sizeof(h);
	p += sizeof(h);
	if (!h.name || (size_t)h.name + h.topic > left || h.size > left - h.name - h.topic)
		return false;
	if (p[h.name - 1] || (h.topic && p[h.name + h.topic - 1]))
		return false;
	if (h.kind < JOURNAL_PUT || h.kind > JOURNAL_EVENT ||
	    (h.kind == JOURNAL_EVENT) != !!h.topic)
		return false;
	r->kind = (enum journal_kind)h.kind;
	r->timestamp = h.timestamp;
	r->name = (const char *)p;
	r->topic = h.topic ? (const char *)p + h.name : NULL;
	r->data = p + h.name + h.topic;
	r->size = h.size;
	*at = (size_t)(p + h.name + h.topic + h.size - body);
	return true;
}

static void read_boot(struct journal *j)
{
	CLEANUP_FREE char *text = NULL;

	if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL) == 0)
		memcpy(j->boot, text, strnlen(text, sizeof(j->boot) - 1));
}

static int new_id(struct journal *j)
{
	static const char digits[] = "0123456789abcdef";
	uint8_t random[JOURNAL_ID_SIZE / 2];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -errno;
	for (size_t i = 0; i < sizeof(random); i++) {
		j->id[2 * i] = digits[random[i] >> 4];
		j->id[2 * i + 1] = digits[random[i] & 15];
	}
	return 0;
}

/* A buffer with room for the frame's head at its beginning. */
static int gather_start(struct journal *j)
{
	int r;

	if (j->gather.size)
		return 0;
	r = journal_bytes_room(&j->gather, sizeof(struct journal_frame_head));
	if (!r)
		j->gather.size = sizeof(struct journal_frame_head);
	return r;
}

static void gather_drop(struct journal *j)
{
	j->gather.size = 0;
	j->n_events = 0;
	j->failed = 0;
	if (j->gather.cap > JOURNAL_TAIL_MAX)
		journal_bytes_clear(&j->gather);
}

int journal_open(struct journal **out, int dirfd, uint64_t limit, journal_state_fn state,
		 journal_snapshot_fn snapshot, void *user, struct fault *f)
{
	struct journal *j = calloc(1, sizeof(*j));
	int r;

	*out = NULL;
	if (!j)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "journal");
	j->dirfd = dirfd;
	j->fd = j->window.fd = -1;
	j->limit = limit < LIMIT_JOURNAL_BYTES_MIN ? LIMIT_JOURNAL_BYTES_MIN : limit;
	j->segment_limit = j->limit / 8;
	if (j->segment_limit < JOURNAL_SEGMENT_MIN)
		j->segment_limit = JOURNAL_SEGMENT_MIN;
	j->snapshot = snapshot;
	j->user = user;
	read_boot(j);
	r = journal_recover(j, state, f);
	if (!r && !j->n_segments) {
		r = new_id(j);
		if (!r)
			r = journal_segment_begin(j, 1);
		if (r < 0)
			fault_sys(f, -r, "begin the journal", NULL);
	}
	journal_window_free(j);
	if (!r)
		journal_retain(j);
	if (r) {
		journal_close(j);
		return r;
	}
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	journal_snapshot_forget(j);
	journal_segment_drop(j, j->n_segments);
	free(j->segments);
	fd_close(&j->fd);
	journal_window_free(j);
	journal_bytes_clear(&j->gather);
	journal_bytes_clear(&j->tail);
	journal_bytes_clear(&j->snap);
	free(j);
}

const char *journal_id(const struct journal *j)
{
	return j->id;
}

uint64_t journal_first(const struct journal *j)
{
	return j->segments[0].first_seq;
}

uint64_t journal_last(const struct journal *j)
{
	return j->last;
}

uint64_t journal_bytes(const struct journal *j)
{
	return j->bytes;
}

uint64_t journal_damaged(const struct journal *j)
{
	return j->damaged;
}

static int gather(struct journal *j, enum journal_kind kind, const char *name, const char *topic,
		  const void *data, size_t size)
{
	int r = gather_start(j);

	if (!r)
		r = journal_bytes_record(&j->gather, kind, topic ? clock_now() : 0, name, topic,
					 data, size);
	if (!r && j->gather.size > JOURNAL_FRAME_MAX)
		r = -EMSGSIZE;
	if (r < 0 && !j->failed)
		j->failed = r;
	return r;
}

int journal_put(struct journal *j, const char *key, const void *value, size_t size)
{
	return gather(j, JOURNAL_PUT, key, NULL, value, size);
}

int journal_del(struct journal *j, const char *key)
{
	return gather(j, JOURNAL_DEL, key, NULL, NULL, 0);
}

uint64_t journal_event(struct journal *j, const char *ns, const char *topic, const void *payload,
		       size_t size)
{
	if (size > LIMIT_EVENT_BYTES) {
		if (!j->failed)
			j->failed = -EMSGSIZE;
	} else {
		gather(j, JOURNAL_EVENT, ns, topic, payload, size);
	}
	return j->last + ++j->n_events;
}

/* Begins the next segment when this commit would make the newest too large. */
static void rotate(struct journal *j)
{
	struct journal_segment *s = &j->segments[j->n_segments - 1];

	if (s->size > sizeof(struct journal_head) && s->size + j->gather.size > j->segment_limit) {
		/* without space for another one the present one just grows */
		if (journal_segment_begin(j, s->index + 1) == 0)
			j->snap_wanted = true;
	}
	if (j->snap_wanted && !j->job)
		journal_snapshot_gather(j);
}

/* One write, at the segment's end. */
static int write_frame(struct journal *j, struct journal_segment *s)
{
	size_t done = 0;

	while (done < j->gather.size) {
		ssize_t n = pwrite(j->fd, j->gather.data + done, j->gather.size - done,
				   (off_t)(s->size + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int err = n ? errno : ENOSPC;
			/* if this fails too, the remains are behind the end, where nobody looks */
			int cut = ftruncate(j->fd, (off_t)s->size);

			(void)cut;
			return -err;
		}
		/* a short write is a disk that is full: the next one says so */
		done += (size_t)n;
	}
	return 0;
}

int journal_commit(struct journal *j)
{
	struct journal_frame_head h = { .first_seq = j->last + 1, .n_events = j->n_events };
	struct journal_segment *s;
	size_t padding;
	int r = j->failed;

	if (!j->gather.size && !r)
		return 0;
	h.size = (uint32_t)(j->gather.size - sizeof(h));
	padding = -j->gather.size & 7;
	if (!r)
		r = journal_bytes_room(&j->gather, padding);
	if (r < 0) {
		gather_drop(j);
		return r;
	}
	memset(j->gather.data + j->gather.size, 0, padding);
	j->gather.size += padding;

	rotate(j);
	s = &j->segments[j->n_segments - 1];
	h.mark = s->mark;
	memcpy(j->gather.data, &h, sizeof(h));
	h.crc = crc32c(s->seed, j->gather.data + offsetof(struct journal_frame_head, first_seq),
		       sizeof(h) - offsetof(struct journal_frame_head, first_seq) + h.size);
	memcpy(j->gather.data + offsetof(struct journal_frame_head, crc), &h.crc, sizeof(h.crc));
	r = write_frame(j, s);
	if (r < 0) {
		j->snap.size = 0;
		gather_drop(j);
		return r;
	}
	journal_segment_note(s, h.first_seq, s->size);
	s->size += j->gather.size;
	j->bytes += j->gather.size;
	j->last += j->n_events;

	if (j->n_events) {
		struct journal_bytes old = j->tail;

		/* the padding is no record */
		j->tail = j->gather;
		j->tail.size -= padding;
		j->tail_first = h.first_seq;
		j->tail_events = j->n_events;
		j->tail_generation++;
		j->gather = old;
		if (j->tail.size > JOURNAL_TAIL_MAX) {
			journal_bytes_clear(&j->tail);
			j->tail_events = 0;
		}
	}
	gather_drop(j);
	journal_snapshot_begin(j);
	if (h.n_events && j->on_event)
		j->on_event(j->on_event_user);
	return 0;
}

void journal_offload(struct journal *j,
		     void (*submit)(void *user, void (*run)(void *arg), void (*done)(void *arg),
				    void *arg),
		     void *user)
{
	j->submit = submit;
	j->submit_user = user;
}

void journal_on_event(struct journal *j, void (*fn)(void *user), void *user)
{
	j->on_event = fn;
	j->on_event_user = user;
}
