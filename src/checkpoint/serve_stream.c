// SPDX-License-Identifier: Apache-2.0
/*
 * Serve: a stream for each file that criu reads
 *
 * A stream walks the frames of one file: workers read and unpack the next ones into buffers, the
 * reactor writes the first one into criu's pipe, at most WRITE_BYTES a turn.
 *
 * Memory is bounded: frames are loaded ahead as long as there are buffers. First those streams get
 * one that criu waits for and that have none, then each in turn another; streams that nobody has
 * asked for yet leave some to the others. criu may have many files open and read only the one that has
 * got no buffer, while the others keep theirs: then nothing moves. This is looked for every STARVED_MS
 * while a stream is without, and only then some may have a buffer beyond the bound.
 *
 * Workers leave the processors to criu as long as each pipe that it reads has something for it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/serve_internal.h"
#include "util/container_of.h"
#include "util/fd.h"

#define PIPE_BYTES (1 << 20)
#define WRITE_BYTES (256u << 10)
#define SPARE_BUFFERS 4 /* that early streams leave to others */
#define STARVED_MS 100

static void stream_write(struct stream *st);

/* ---- loading, on workers */

static struct unpacker *unpacker_take(struct serve *s)
{
	struct unpacker *u;

	pthread_mutex_lock(&s->unpackers_lock);
	u = s->unpackers;
	if (u)
		s->unpackers = u->next;
	pthread_mutex_unlock(&s->unpackers_lock);
	if (u)
		return u;
	u = malloc(sizeof(*u));
	if (u && frame_codec_new(&u->codec, 1) < 0) {
		free(u);
		u = NULL;
	}
	return u;
}

static void unpacker_give(struct serve *s, struct unpacker *u)
{
	pthread_mutex_lock(&s->unpackers_lock);
	u->next = s->unpackers;
	s->unpackers = u;
	pthread_mutex_unlock(&s->unpackers_lock);
}

void serve_unpackers_free(struct serve *s)
{
	struct unpacker *u;

	while ((u = s->unpackers)) {
		s->unpackers = u->next;
		frame_codec_free(u->codec);
		free(u);
	}
}

static int read_at(int fd, unsigned char *to, size_t size, uint64_t at)
{
	while (size) {
		ssize_t n = pread(fd, to, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EBADMSG;
		to += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int slot_load(struct slot *slot)
{
	const struct serve_part *part = slot->part;
	struct unpacker *u;
	int r;

	if (!part->packed)
		return read_at(part->fd, slot->buf->data, slot->size, slot->place.at);
	u = unpacker_take(slot->st->s);
	if (!u)
		return -ENOMEM;
	r = read_at(part->fd, u->packed, slot->place.packed, slot->place.at);
	if (!r)
		r = frame_unpack(u->codec, u->packed, slot->place.packed, slot->buf->data,
				 slot->size);
	unpacker_give(slot->st->s, u);
	return r;
}

static void load_run(struct worker_job *job)
{
	struct slot *slot = container_of(job, struct slot, job);

	slot->result = slot_load(slot);
	if (slot->result == -EBADMSG)
		fault_set(
			&slot->fault, FAULT_FAILED_PRECONDITION, 0,
			"the blob %s of the checkpoint is damaged: %s cannot be read at byte %llu",
			slot->part->digest, slot->st->file->name,
			(unsigned long long)slot->place.offset);
	else if (slot->result < 0)
		fault_sys(&slot->fault, -slot->result, "read the checkpoint's blob",
			  slot->part->digest);
}

static void load_done(struct worker_job *job)
{
	struct slot *slot = container_of(job, struct slot, job);
	struct stream *st = slot->st;
	struct serve *s = st->s;

	st->loading--;
	slot->ready = true;
	if (st->dead) {
		stream_end(st);
		serve_load(s);
	} else if (slot->result < 0) {
		serve_trouble(s, &slot->fault);
	} else {
		stream_write(st);
	}
	serve_settle(s); /* this job still holds s */
	serve_job_end(s);
}

/* ---- loading, by the reactor */

/* Whether a part of the file is still to be loaded; it is st->part then. */
static bool more_to_load(struct stream *st)
{
	for (; st->part < st->file->n_parts; st->part++, st->frame = 0) {
		const struct serve_part *p = &st->file->parts[st->part];

		if (p->packed ? st->frame < p->table.n
			      : (uint64_t)st->frame * FRAME_BYTES < p->size)
			return true;
	}
	return false;
}

static struct frame_place place_of(const struct serve_part *part, size_t frame)
{
	uint64_t at = (uint64_t)frame * FRAME_BYTES, left;

	if (part->packed)
		return part->table.v[frame];
	left = part->size - at;
	return (struct frame_place){
		.at = at,
		.offset = at,
		.size = left < FRAME_BYTES ? (uint32_t)left : FRAME_BYTES,
	};
}

/*
 * The next part of the file begins to be loaded, if there is a buffer. beyond: whatever the bound
 * says.
 */
static bool stream_load(struct stream *st, bool beyond)
{
	const struct serve_part *part;
	struct serve *s = st->s;
	struct buffer *buf = NULL;
	struct slot *slot;

	if (serve_is_over(s) || !more_to_load(st))
		return false;
	part = &st->file->parts[st->part];
	if (part->data) {
		if (!STAILQ_EMPTY(&st->slots))
			return false; /* it is there already: one at a time is enough */
	} else {
		if (st->fd < 0 && buffers_left(s->buffers) <= SPARE_BUFFERS)
			return false;
		buf = beyond ? buffers_need(s->buffers) : buffers_take(s->buffers);
		if (!buf) {
			if (beyond || buffers_left(s->buffers))
				serve_trouble_errno(s, -ENOMEM, "serve", st->file->name);
			return false;
		}
	}
	slot = calloc(1, sizeof(*slot));
	if (!slot) {
		if (buf)
			buffers_give(s->buffers, buf);
		serve_trouble_errno(s, -ENOMEM, "serve", st->file->name);
		return false;
	}
	slot->st = st;
	slot->part = part;
	slot->buf = buf;
	slot->place = place_of(part, st->frame++);
	slot->size = slot->place.size;
	slot->data = buf ? buf->data : (unsigned char *)part->data + slot->place.at;
	slot->ready = !buf;
	STAILQ_INSERT_TAIL(&st->slots, slot, link);
	if (slot->ready)
		return true;
	slot->job = (struct worker_job){ .run = load_run, .done = load_done };
	st->loading++;
	s->jobs++;
	worker_submit(s->r.unpack, &slot->job);
	return true;
}

/* criu may wait for it, and there is nothing on its way. */
static bool is_starving(struct stream *st)
{
	return st->fd >= 0 && STAILQ_EMPTY(&st->slots) && more_to_load(st);
}

static void look_for_starving(struct serve *s)
{
	struct timeval tv = { .tv_usec = STARVED_MS * 1000 };

	if (s->waits || serve_is_over(s))
		return;
	s->moved = s->stats.bytes_out;
	s->waits = true;
	if (event_add(s->starved, &tv) < 0)
		serve_trouble_errno(s, -ENOMEM, "serve", "criu");
}

void serve_load(struct serve *s)
{
	struct stream *st;
	bool more = true;

	TAILQ_FOREACH (st, &s->streams, link)
		if (is_starving(st) && !stream_load(st, false))
			look_for_starving(s);
	while (more && buffers_left(s->buffers)) {
		more = false;
		TAILQ_FOREACH (st, &s->streams, link)
			more |= st->fd >= 0 && !STAILQ_EMPTY(&st->slots) && stream_load(st, false);
	}
	TAILQ_FOREACH (st, &s->streams, link)
		while (st->fd < 0 && stream_load(st, false))
			continue;
}

void serve_on_starved(evutil_socket_t fd, short what, void *user)
{
	struct serve *s = user;
	bool moves = s->stats.bytes_out != s->moved;
	size_t grant = s->grant;
	struct stream *st, *next;

	(void)fd;
	(void)what;
	s->waits = false;
	if (!moves && s->grant < s->n_streams)
		s->grant *= 2;
	for (st = TAILQ_FIRST(&s->streams); st && !serve_is_over(s); st = next) {
		next = TAILQ_NEXT(st, link);
		if (!is_starving(st))
			continue;
		if (moves || !grant) {
			look_for_starving(s);
			break;
		}
		grant -= stream_load(st, true);
	}
	serve_settle(s);
}

/* ---- writing */

static void wait_for_room(struct stream *st, bool on)
{
	if (st->writing == on)
		return;
	st->writing = on;
	if (!on)
		event_del(st->event);
	else if (event_add(st->event, NULL) < 0)
		serve_trouble_errno(st->s, -ENOMEM, "serve", st->file->name);
}

/* Whether criu may be waiting for workers. */
static void set_dry(struct stream *st, bool dry)
{
	struct serve *s = st->s;

	if (st->dry == dry)
		return;
	st->dry = dry;
	s->n_dry += dry ? 1u : -1u;
	serve_set_pace(s);
}

static void slot_free(struct slot *slot)
{
	if (slot->buf)
		buffers_give(slot->st->s->buffers, slot->buf);
	free(slot);
}

static void write_failed(struct stream *st, int err)
{
	struct serve *s = st->s;

	if (err != EPIPE) {
		serve_trouble_errno(s, -err, "write to criu's pipe of", st->file->name);
		return;
	}
	/* criu has read as much as it wants */
	stream_end(st);
	serve_load(s);
}

/* Writes what the pipe takes, some of it a turn. May end the stream. */
static void stream_write(struct stream *st)
{
	struct serve *s = st->s;
	size_t budget = WRITE_BYTES;
	bool beyond;

	if (st->fd < 0)
		return;
	while (budget && !serve_is_over(s)) {
		struct slot *slot = STAILQ_FIRST(&st->slots);
		size_t size;
		ssize_t n;

		if (!slot && !more_to_load(st)) {
			stream_end(st); /* the end of file that criu waits for */
			serve_load(s);
			return;
		}
		if (!slot && !stream_load(st, false))
			look_for_starving(s);
		slot = STAILQ_FIRST(&st->slots);
		if (!slot || !slot->ready) {
			wait_for_room(st, false);
			set_dry(st, true);
			return;
		}
		set_dry(st, false);
		size = slot->size - slot->sent;
		n = write(st->fd, slot->data + slot->sent, size < budget ? size : budget);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			write_failed(st, errno);
			return;
		}
		slot->sent += (size_t)n;
		budget -= (size_t)n;
		s->stats.bytes_out += (uint64_t)n;
		if (slot->sent < slot->size)
			continue;
		STAILQ_REMOVE_HEAD(&st->slots, link);
		/* what it has been given beyond the bound it keeps, or it would be without again */
		beyond = buffers_beyond(s->buffers);
		slot_free(slot);
		if (beyond && STAILQ_EMPTY(&st->slots))
			stream_load(st, true);
		serve_load(s);
	}
	if (!serve_is_over(s))
		wait_for_room(st, true);
}

static void on_pipe(evutil_socket_t fd, short what, void *user)
{
	struct stream *st = user;
	struct serve *s = st->s;

	(void)fd;
	(void)what;
	stream_write(st);
	serve_settle(s);
}

/* ---- a stream's life */

struct stream *stream_new(struct serve *s, const struct serve_file *file)
{
	struct stream *st = calloc(1, sizeof(*st));

	if (!st)
		return NULL;
	st->s = s;
	st->file = file;
	st->fd = -1;
	STAILQ_INIT(&st->slots);
	TAILQ_INSERT_TAIL(&s->streams, st, link);
	s->n_streams++;
	return st;
}

int stream_start(struct stream *st, int fd)
{
	int r;

	st->fd = fd;
	r = fd_nonblock(fd, 1);
	if (r < 0)
		return r;
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	st->event = event_new(st->s->r.base, fd, EV_WRITE | EV_PERSIST, on_pipe, st);
	if (!st->event)
		return -ENOMEM;
	wait_for_room(st, true);
	serve_load(st->s);
	return 0;
}

void stream_end(struct stream *st)
{
	struct slot *slot;

	if (st->event)
		event_free(st->event);
	st->event = NULL;
	set_dry(st, false);
	fd_close(&st->fd);
	if (!st->dead)
		TAILQ_REMOVE(&st->s->streams, st, link);
	st->dead = true;
	if (st->loading)
		return;
	while ((slot = STAILQ_FIRST(&st->slots))) {
		STAILQ_REMOVE_HEAD(&st->slots, link);
		slot_free(slot);
	}
	st->s->n_streams--;
	free(st);
}
