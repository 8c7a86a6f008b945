// SPDX-License-Identifier: Apache-2.0
/*
 * Segments of the journal: files, frames, and the one window through which frames are read
 *
 * In memory a segment is its number, its first seq, its size and a sparse index of places, which
 * grows while frames are appended or walked over. Nothing behind `size` is ever looked at: there
 * may be the rest of a commit that failed.
 *
 * The window is a piece of one segment file. All cursors share it, and it is freed when nobody is
 * behind: what those who keep up need is in the journal's tail, in memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "monitor/journal_internal.h"
#include "util/crc32c.h"
#include "util/fd.h"

/* without a NUL */
const char journal_segment_magic[8] = { 'd', 'a', 'v', 'i', 't', 'j', 'r', '\n' };
const char journal_snapshot_magic[8] = { 'd', 'a', 'v', 'i', 't', 's', 'n', '\n' };

void journal_segment_name(char *name, uint64_t index)
{
	snprintf(name, JOURNAL_NAME_MAX, "journal-%08" PRIu64 ".log", index);
}

static uint32_t head_crc(const struct journal_head *h)
{
	return crc32c(0, h, offsetof(struct journal_head, crc));
}

void journal_head_init(struct journal_head *h, const struct journal *j, const char *magic,
		       uint64_t index, uint64_t first_seq)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, magic, sizeof(h->magic));
	h->version = JOURNAL_VERSION;
	h->index = index;
	h->first_seq = first_seq;
	memcpy(h->id, j->id, sizeof(h->id));
	memcpy(h->boot, j->boot, sizeof(h->boot));
	h->crc = head_crc(h);
}

int journal_head_read(int fd, const char *magic, const char *boot, struct journal_head *h)
{
	ssize_t n = pread(fd, h, sizeof(*h), 0);

	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(*h) || memcmp(h->magic, magic, sizeof(h->magic)) ||
	    h->version != JOURNAL_VERSION || h->crc != head_crc(h) || !h->index)
		return -EBADMSG;
	return memcmp(h->boot, boot, sizeof(h->boot)) ? -ESTALE : 0;
}

int journal_segment_add(struct journal *j, const struct journal_head *h, uint64_t size)
{
	struct journal_segment *s = realloc(j->segments, (j->n_segments + 1) * sizeof(*s));

	if (!s)
		return -ENOMEM;
	j->segments = s;
	s += j->n_segments++;
	memset(s, 0, sizeof(*s));
	s->index = h->index;
	s->first_seq = h->first_seq;
	s->mark = h->mark;
	s->seed = h->seed;
	s->size = size;
	j->bytes += size;
	return 0;
}

int journal_segment_begin(struct journal *j, uint64_t index)
{
	struct journal_head h;
	char name[JOURNAL_NAME_MAX];
	uint32_t random[2];
	int fd, r;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -errno;
	journal_head_init(&h, j, journal_segment_magic, index, j->last + 1);
	h.mark = random[0];
	h.seed = random[1];
	h.crc = head_crc(&h);
	journal_segment_name(name, index);
	fd = openat(j->dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, &h, sizeof(h));
	if (!r)
		r = journal_segment_add(j, &h, sizeof(h));
	if (r < 0) {
		close(fd);
		unlinkat(j->dirfd, name, 0);
		return r;
	}
	fd_close(&j->fd);
	j->fd = fd;
	return 0;
}

struct journal_segment *journal_segment_find(struct journal *j, uint64_t index)
{
	size_t low = 0, high = j->n_segments;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (j->segments[mid].index < index)
			low = mid + 1;
		else
			high = mid;
	}
	return low < j->n_segments && j->segments[low].index == index ? &j->segments[low] : NULL;
}

/* An index that cannot grow only makes the walks longer. */
void journal_segment_note(struct journal_segment *s, uint64_t seq, uint64_t offset)
{
	struct journal_place *places;

	if (offset < (s->n_places ? s->places[s->n_places - 1].offset : 0) + JOURNAL_WINDOW)
		return;
	if (!(s->n_places & (s->n_places - 1))) {
		places = realloc(s->places, (s->n_places ? s->n_places * 2 : 1) * sizeof(*places));
		if (!places)
			return;
		s->places = places;
	}
	s->places[s->n_places++] = (struct journal_place){ .seq = seq, .offset = offset };
}

void journal_segment_drop(struct journal *j, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct journal_segment *s = &j->segments[i];

		j->bytes -= s->size;
		if (j->window.fd_index == s->index)
			fd_close(&j->window.fd);
		if (j->window.index == s->index)
			j->window.size = 0;
		free(s->places);
	}
	j->n_segments -= n;
	if (j->n_segments)
		memmove(j->segments, j->segments + n, j->n_segments * sizeof(*j->segments));
}

void journal_window_free(struct journal *j)
{
	free(j->window.data);
	j->window.data = NULL;
	j->window.cap = j->window.size = 0;
	fd_close(&j->window.fd);
}

static int window_file(struct journal *j, const struct journal_segment *s, int *fd)
{
	char name[JOURNAL_NAME_MAX];

	if (s == &j->segments[j->n_segments - 1] && j->fd >= 0) {
		*fd = j->fd;
		return 0;
	}
	if (j->window.fd < 0 || j->window.fd_index != s->index) {
		fd_close(&j->window.fd);
		journal_segment_name(name, s->index);
		j->window.fd = openat(j->dirfd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (j->window.fd < 0)
			return -errno;
		j->window.fd_index = s->index;
	}
	*fd = j->window.fd;
	return 0;
}

/*
 * size bytes at offset, which are within the segment; valid until the next call. NULL with *err set
 * to -errno.
 */
static const uint8_t *window_get(struct journal *j, const struct journal_segment *s,
				 uint64_t offset, size_t size, int *err)
{
	size_t want = size > JOURNAL_WINDOW ? size : JOURNAL_WINDOW, got = 0;
	int fd = -1;

	if (j->window.size && j->window.index == s->index && offset >= j->window.offset &&
	    offset + size <= j->window.offset + j->window.size)
		return j->window.data + (offset - j->window.offset);
	j->window.size = 0;
	/* a large one stays for the frames beside it, but not for ever */
	if (j->window.cap < want ||
	    (j->window.cap > 16 * JOURNAL_WINDOW && want == JOURNAL_WINDOW)) {
		free(j->window.data);
		j->window.cap = 0;
		j->window.data = malloc(want);
		*err = -ENOMEM;
		if (!j->window.data)
			return NULL;
		j->window.cap = want;
	}
	if (want > s->size - offset)
		want = (size_t)(s->size - offset);
	*err = window_file(j, s, &fd);
	if (*err < 0)
		return NULL;
	while (got < want) {
		ssize_t n = pread(fd, j->window.data + got, want - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*err = n ? -errno : -EIO;
			return NULL;
		}
		got += (size_t)n;
	}
	j->window.index = s->index;
	j->window.offset = offset;
	j->window.size = got;
	return j->window.data;
}

/* The frame at offset. 0, -EBADMSG when there is none, -errno. */
static int frame_at(struct journal *j, const struct journal_segment *s, uint64_t offset,
		    struct journal_frame *f)
{
	struct journal_frame_head h;
	const uint8_t *p;
	int r = -EIO;

	if (s->size - offset < sizeof(h))
		return -EBADMSG;
	p = window_get(j, s, offset, sizeof(h), &r);
	if (!p)
		return r;
	memcpy(&h, p, sizeof(h));
	if (h.mark != s->mark || h.size > JOURNAL_FRAME_MAX ||
	    h.size > s->size - offset - sizeof(h))
		return -EBADMSG;
	p = window_get(j, s, offset, sizeof(h) + h.size, &r);
	if (!p)
		return r;
	if (h.crc != crc32c(s->seed, p + offsetof(struct journal_frame_head, first_seq),
			    sizeof(h) - offsetof(struct journal_frame_head, first_seq) + h.size))
		return -EBADMSG;
	f->offset = offset;
	/* may be behind the segment's end, when the padding was cut off */
	f->next = offset + ((sizeof(h) + h.size + 7) & ~7ull);
	f->first_seq = h.first_seq;
	f->n_events = h.n_events;
	f->size = h.size;
	f->body = p + sizeof(h);
	return 0;
}

int journal_frame_next(struct journal *j, struct journal_segment *s, uint64_t offset,
		       struct journal_frame *f)
{
	const uint8_t *p;
	uint32_t mark;
	int r = -EIO;

	for (; offset + sizeof(struct journal_frame_head) <= s->size; offset += 8) {
		p = window_get(j, s, offset, sizeof(mark), &r);
		if (!p)
			return r;
		memcpy(&mark, p, sizeof(mark));
		if (mark != s->mark)
			continue;
		r = frame_at(j, s, offset, f);
		if (r != -EBADMSG) {
			if (!r)
				journal_segment_note(s, f->first_seq, f->offset);
			return r;
		}
	}
	return JOURNAL_E_END;
}
