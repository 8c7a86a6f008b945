// SPDX-License-Identifier: Apache-2.0
/*
 * Messages with their fds from a UNIX stream socket
 *
 * Memory. An idle reader owns none. Small reads go into a buffer that all readers of a thread share;
 * only the beginning of a message that has not yet come whole is kept, in `own`. A large
 * message is read straight into `own`, which grows with what has arrived and never with what a header
 * announces, and can be given away with the message in it.
 *
 * Whose fds? The contract: fds belong to the request whose first byte is in the sendmsg that
 * carried them. Linux hands fds out with the first byte of that sendmsg and ends the read behind the
 * sendmsg's bytes, but it puts bytes of earlier sends before them in the same read: where in those
 * bytes the fds began is then lost. So each read is preceded by a peek, which answers whether fds
 * wait anywhere in the socket, and shows the bytes. Nearly always there are none: one read takes all. If
 * there are, the bytes seen are scanned for the beginnings of messages, and taken by reads of which
 * each ends just behind the first byte of one message and has no other's first byte in it. So fds that
 * come with a read can only belong to that message. The message that is the first to begin in the
 * sendmsg gets them, also when several do.
 *
 * When no message begins in the bytes that came with the fds: the kernel cuts a long sendmsg into pieces
 * and the fds are on the first, so a message may yet begin in a later piece, and the first to begin
 * gets them. But a piece is at least half the smallest send buffer that Linux allows (4,608 bytes): a
 * shorter one was a whole sendmsg, of which no message's first byte was a part, and its fds are closed.
 */
#include "ipc/reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SMALLEST_PIECE 2048u
#define READ_LEAST (64u << 10) /* of a large message's read */

void reader_init(struct reader *r, size_t max)
{
	memset(r, 0, sizeof(*r));
	r->max = max;
}

void reader_clear(struct reader *r)
{
	free(r->own);
	stream_fds_free(r->fds);
	stream_fds_free(r->next_fds);
	reader_init(r, r->max);
}

bool reader_pending(const struct reader *r)
{
	return r->have > r->off;
}

/* The message at `off` begins here: fds that waited for it are its own. */
static void claim_fds(struct reader *r)
{
	if (!r->next_fds || r->at < r->next_at || r->off == r->have)
		return;
	stream_fds_free(r->fds);
	r->fds = r->next_fds;
	r->next_fds = NULL;
}

/* fds came for the first message that begins at or after `at`. */
static int put_fds(struct reader *r, const struct stream_fds *set, uint64_t at)
{
	struct stream_fds *copy = malloc(sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	*copy = *set;
	stream_fds_free(r->next_fds);
	r->next_fds = copy;
	r->next_at = at;
	return 0;
}

/*
 * Takes bytes that a peek has shown, base[have..seen), up to and with the first fds. ended: the peek
 * had room for more, so it ended where the fds' piece ends.
 */
static int take_with_fds(struct reader *r, int sock, size_t seen, bool ended)
{
	struct scan scan = r->scan;
	size_t start = r->off; /* of the message that is looked at */

	while (r->have < seen) {
		size_t end = seen, next = 0, frame;
		struct stream_fds set;
		bool begins = false;
		ssize_t n;
		int e;

		if (start == r->have) {
			/* nothing of this message is taken: its first byte by itself */
			next = start;
			begins = true;
		} else if (!scan_frame(&scan, r->base + start, seen - start, r->max, &frame)) {
			scan_reset(&scan);
			start += frame;
			if (start == r->have)
				continue;
			if (start < seen) {
				next = start;
				begins = true;
			}
		}
		if (begins)
			end = next + 1;
		while (r->have < end) {
			size_t before = r->have;

			n = stream_recv(sock, r->base + r->have, end - r->have, &set);
			if (n <= 0)
				return n < 0 ? (int)n : -EIO;
			r->have += (size_t)n;
			if (!set.n && !set.cut)
				continue;
			if (begins && r->have == end) {
				e = put_fds(r, &set, r->at + (next - r->off));
			} else if (!begins && ended && r->have == seen &&
				   seen - before < SMALLEST_PIECE) {
				/* a whole sendmsg in the middle of one message */
				stream_fds_close(&set);
				e = 0;
			} else {
				e = put_fds(r, &set, r->at + (r->have - r->off));
			}
			if (e)
				stream_fds_close(&set);
			return e;
		}
	}
	return 0;
}

/* Memory that has held a large message already need not wait for the bytes to come. */
static void take_spare(struct reader *r, size_t least)
{
	char *data;
	size_t alloc;

	if (!r->spare || least < SPARE_LEAST || r->have > READ_LEAST || r->own_alloc > least)
		return;
	data = spare_take(r->spare, least + 1, &alloc);
	if (!data)
		return;
	if (r->have)
		memcpy(data, r->own, r->have);
	free(r->own);
	r->own = data;
	r->own_alloc = alloc;
}

/* Room behind own[have) for the next read of a message that still needs `least` bytes. */
static int grow_own(struct reader *r, uint64_t least, size_t *room)
{
	/* as much as has come already, however much a header announces */
	size_t want = r->have > READ_LEAST ? r->have : READ_LEAST, there;
	char *grown;

	if (least <= r->max)
		take_spare(r, r->have + (size_t)least);
	there = r->own_alloc ? r->own_alloc - r->have - 1 : 0;
	if (want < there)
		want = there;
	if (want > least)
		want = least > READ_LEAST ? (size_t)least : READ_LEAST;
	*room = there < want ? there : want;
	if (*room == want || *room >= READ_LEAST)
		return 0;
	/* one byte more than can be read, see reader_take */
	grown = realloc(r->own, r->have + want + 1);
	if (!grown)
		return -ENOMEM;
	r->own = grown;
	r->own_alloc = r->have + want + 1;
	*room = want;
	return 0;
}

int reader_fill(struct reader *r, int sock, char *buf, size_t size, size_t *got)
{
	uint64_t least = r->scan.skip + r->scan.owed; /* bytes the message still needs */
	size_t room, before;
	bool fds;
	ssize_t n;
	int e;

	*got = 0;
	if (r->have >= size / 2 || (r->have && least > size - r->have)) {
		e = grow_own(r, least, &room);
		if (e)
			return e;
		r->base = r->own;
	} else {
		if (r->have)
			memcpy(buf, r->own, r->have);
		r->base = buf;
		room = size - r->have;
	}

	before = r->have;
	n = stream_peek(sock, r->base + r->have, room, &fds);
	if (n > 0 && !fds) {
		struct stream_fds none;

		/* this process is the only reader: the same bytes come, and nothing with them */
		n = stream_recv(sock, r->base + r->have, (size_t)n, &none);
		if (n > 0) {
			r->have += (size_t)n;
			stream_fds_close(&none);
		}
	} else if (n > 0) {
		e = take_with_fds(r, sock, r->have + (size_t)n, (size_t)n < room);
		if (e)
			return e;
	}
	*got = r->have - before;
	if (!*got)
		r->base = r->own; /* buf may be another reader's before the next call */
	if (n < 0)
		return (int)n;
	if (!n)
		return READER_E_END;
	claim_fds(r);
	return 0;
}

int reader_next(struct reader *r, struct reader_frame *f)
{
	size_t size;
	int e;

	if (r->off == r->have)
		return READER_E_MORE;
	e = scan_frame(&r->scan, r->base + r->off, r->have - r->off, r->max, &size);
	if (e)
		return e == SCAN_E_MORE ? READER_E_MORE : e;
	f->data = r->base + r->off;
	f->size = size;
	f->items = r->scan.items;
	f->fds = r->fds;
	r->fds = NULL;
	scan_reset(&r->scan);
	r->off += size;
	r->at += size;
	claim_fds(r);
	return 0;
}

char *reader_take(struct reader *r, struct reader_frame *f)
{
	size_t rest = r->have - f->size;
	char *mine, *copy = NULL;

	/* only when it is worth it: what follows has to be copied instead */
	if (r->base != r->own || f->data != r->own || rest > f->size / 2)
		return NULL;
	if (rest) {
		copy = malloc(rest + 1);
		if (!copy)
			return NULL;
		memcpy(copy, r->own + f->size, rest);
	}
	mine = r->own;
	f->alloc = r->own_alloc;
	r->own = copy;
	r->own_alloc = copy ? rest + 1 : 0;
	r->base = copy;
	r->off = 0;
	r->have = rest;
	return mine;
}

int reader_settle(struct reader *r)
{
	size_t rest = r->have - r->off;

	if (!rest) {
		free(r->own);
		r->own = NULL;
		r->own_alloc = 0;
	} else if (r->base == r->own) {
		if (r->off)
			memmove(r->own, r->own + r->off, rest);
	} else {
		if (rest + 1 > r->own_alloc) {
			char *grown = realloc(r->own, rest + 1);

			if (!grown)
				return -ENOMEM;
			r->own = grown;
			r->own_alloc = rest + 1;
		}
		memcpy(r->own, r->base + r->off, rest);
	}
	r->base = r->own;
	r->off = 0;
	r->have = rest;
	return 0;
}
