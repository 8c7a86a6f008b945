// SPDX-License-Identifier: Apache-2.0
/*
 * Salvaging a database: its write-ahead log (https://www.sqlite.org/fileformat2.html#walformat)
 *
 * A log is a header and frames; a frame is a page's new bytes with a checksum that goes on from the
 * one before. Frames of the log that is current have the header's salts; behind them there may be
 * older ones. SQLite reads up to the first frame that is not right and takes it for the end. That
 * is so after a crash, when the last frame was not written to its end. But when right ones follow,
 * or the header itself is not right, bytes were changed afterwards: that is damage, and commits that
 * were promised would be lost in silence. Here each frame is judged by the checksum that the one
 * before it says it has, so what follows the damage can be read.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/db_salvage_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define HEADER 32
#define FRAME 24
#define MAGIC 0x377f0682u
#define PAGE_DEFAULT 4096u

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void sum(bool big_endian, const uint8_t *p, size_t n, uint32_t s[2])
{
	for (size_t i = 0; i + 8 <= n; i += 8) {
		uint32_t a, b;

		memcpy(&a, p + i, 4);
		memcpy(&b, p + i + 4, 4);
		a = big_endian ? be32toh(a) : le32toh(a);
		b = big_endian ? be32toh(b) : le32toh(b);
		s[0] += a + s[1];
		s[1] += b + s[0];
	}
}

static bool page_size_valid(uint32_t n)
{
	return n >= 512 && n <= 65536 && !(n & (n - 1));
}

static int64_t frame_at(const struct salvage_wal *w, uint32_t i)
{
	return HEADER + (int64_t)i * (FRAME + w->page_size);
}

static int read_at(int fd, void *buf, size_t size, int64_t at)
{
	size_t n = 0;

	while (n < size) {
		ssize_t got = pread(fd, (char *)buf + n, size - n, at + (int64_t)n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			break;
		n += (size_t)got;
	}
	memset((char *)buf + n, 0, size - n);
	return 0;
}

/* With a seed: the checksum of the frame before. */
static bool frame_valid(const struct salvage_wal *w, const uint8_t *frame, const uint32_t seed[2])
{
	uint32_t s[2] = { seed[0], seed[1] };

	sum(w->big_endian, frame, 8, s);
	sum(w->big_endian, frame + FRAME, w->page_size, s);
	return s[0] == be32(frame + 16) && s[1] == be32(frame + 20);
}

static bool salts_match(const struct salvage_wal *w, const uint8_t *frame)
{
	return be32(frame + 8) == w->salts[0] && be32(frame + 12) == w->salts[1];
}

struct scan {
	struct salvage_wal *w;
	int (*fn)(void *user, uint32_t page, int64_t at);
	void *user;
	uint32_t seed[2]; /* of frame 0; when known */
	bool seeded;
	uint32_t bad, damaged; /* frames that are not right: at the end, and before others */
	uint32_t committed; /* behind the last frame that ends a transaction */
};

static int scan(struct scan *s, uint32_t frames)
{
	struct salvage_wal *w = s->w;
	CLEANUP_FREE uint8_t *frame = malloc(FRAME + w->page_size);
	uint32_t seed[2] = { s->seed[0], s->seed[1] };
	bool seeded = s->seeded;
	int r = 0;

	if (!frame)
		return -ENOMEM;
	for (uint32_t i = 0; !r && i < frames; i++) {
		bool ours;

		r = read_at(w->fd, frame, FRAME + w->page_size, frame_at(w, i));
		if (r < 0)
			return r;
		ours = salts_match(w, frame);
		if (ours) {
			s->damaged += s->bad;
			s->bad = 0;
		}
		if (!ours || !seeded || !frame_valid(w, frame, seed)) {
			s->bad++;
		} else {
			if (be32(frame + 4))
				s->committed = i + 1;
			if (s->fn && be32(frame))
				r = s->fn(s->user, be32(frame), frame_at(w, i) + FRAME);
		}
		seed[0] = be32(frame + 16);
		seed[1] = be32(frame + 20);
		seeded = ours;
	}
	return r;
}

/* The header is not to be trusted: two frames that follow each other tell what it said. */
static int guess(struct salvage_wal *w, uint32_t frames)
{
	CLEANUP_FREE uint8_t *frame = malloc(FRAME + w->page_size);
	uint32_t seed[2] = { 0, 0 };

	if (!frame)
		return -ENOMEM;
	for (uint32_t i = 0; i < frames; i++) {
		int r = read_at(w->fd, frame, FRAME + w->page_size, frame_at(w, i));

		if (r < 0)
			return r;
		for (int big = 0; i && salts_match(w, frame) && big < 2; big++) {
			w->big_endian = big;
			if (frame_valid(w, frame, seed))
				return 0;
		}
		w->salts[0] = be32(frame + 8);
		w->salts[1] = be32(frame + 12);
		seed[0] = be32(frame + 16);
		seed[1] = be32(frame + 20);
	}
	w->page_size = 0;
	return 0;
}

static uint32_t frames_of(const struct salvage_wal *w, int64_t size)
{
	int64_t n = size <= HEADER ? 0 : (size - HEADER) / (FRAME + w->page_size);

	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static bool header_valid(struct salvage_wal *w, const uint8_t *h, uint32_t s[2])
{
	w->big_endian = be32(h) & 1;
	w->page_size = be32(h + 8);
	w->salts[0] = be32(h + 16);
	w->salts[1] = be32(h + 20);
	s[0] = s[1] = 0;
	sum(w->big_endian, h, 24, s);
	return (be32(h) & ~1u) == MAGIC && page_size_valid(w->page_size) && s[0] == be32(h + 24) &&
	       s[1] == be32(h + 28);
}

int salvage_wal_open(struct salvage_wal *w, int root_fd, const char *name)
{
	struct scan s = { .w = w };
	uint8_t header[HEADER];
	struct stat st;
	uint32_t frames;
	int r;

	memset(w, 0, sizeof(*w));
	w->fd = fd_open_regular(root_fd, name, O_NOFOLLOW);
	if (w->fd < 0)
		return w->fd == -ENOENT ? 0 : w->fd;
	if (fstat(w->fd, &st) < 0)
		return -errno;
	/* one that is no longer than its header has nothing */
	if (st.st_size <= HEADER)
		return 0;
	r = read_at(w->fd, header, sizeof(header), 0);
	if (r < 0)
		return r;
	s.seeded = header_valid(w, header, s.seed);
	if (!s.seeded) {
		w->damaged = 1;
		w->page_size = PAGE_DEFAULT;
		r = guess(w, frames_of(w, st.st_size));
		if (r < 0 || !w->page_size)
			return r;
	}
	frames = frames_of(w, st.st_size);
	r = scan(&s, frames);
	if (r < 0)
		return r;
	w->frames = s.committed;
	/* what is not right at the end was not written to its end */
	w->damaged += s.damaged;
	return 0;
}

void salvage_wal_close(struct salvage_wal *w)
{
	fd_close(&w->fd);
}

int salvage_wal_each(struct salvage_wal *w, int (*fn)(void *user, uint32_t page, int64_t at),
		     void *user)
{
	struct scan s = { .w = w, .fn = fn, .user = user };
	struct salvage_wal copy = *w;
	uint8_t header[HEADER];
	int r;

	if (w->fd < 0 || !w->frames)
		return 0;
	r = read_at(w->fd, header, sizeof(header), 0);
	if (r < 0)
		return r;
	/* only for its checksum: what it says was found out before */
	s.seeded = header_valid(&copy, header, s.seed);
	return scan(&s, w->frames);
}
