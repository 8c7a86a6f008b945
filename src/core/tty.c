// SPDX-License-Identifier: Apache-2.0
/*
 * Terminals
 *
 * The master is read when there is something and when nobody who must get all of it is behind: a FIFO or file sink that is
 * full stops the reading (the program then blocks as at any slow terminal), an attached client never does: one that falls
 * LIMIT_TTY_CLIENT_BACKLOG behind is detached. The last LIMIT_TTY_REPLAY bytes are kept for who attaches later; the ring grows
 * with what was written, so that a silent terminal costs little. Writes to a file sink are a worker's job, one at a time.
 * Lifetime: the owner frees it; a job under way keeps a reference.
 */
#include "core/tty.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "monitor/logs.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/worker.h"

#define TTY_CHUNK 4096 /* the kernel's own pty buffer hands out no more */
#define TTY_SINK_BACKLOG (256u << 10)

struct tty_client {
	TAILQ_ENTRY(tty_client) link;
	struct tty *tty;
	int fd;
	struct event *readable, *writable;
	struct evbuffer *out;
	bool closing; /* close when out is empty */
};

struct tty_file_job {
	struct worker_job job; /* first */
	struct tty *tty;
	int fd, err;
	struct evbuffer *data;
};

struct tty {
	struct davit *d;
	int master, input, fifo, file;
	char *log;
	int64_t log_max_size;
	struct event *readable, *writable, *input_readable, *fifo_writable;
	struct evbuffer *in; /* to the master */
	struct evbuffer *fifo_out, *file_out;
	bool file_busy, eof, ended, dead;
	TAILQ_HEAD(, tty_client) clients;
	char *ring;
	size_t ring_room, ring_at, ring_used;
};

static void tty_destroy(struct tty *t);
static void tty_flow(struct tty *t);

/* ---- replay */

static int ring_put(struct tty *t, const char *data, size_t n)
{
	if (n > LIMIT_TTY_REPLAY) {
		data += n - LIMIT_TTY_REPLAY;
		n = LIMIT_TTY_REPLAY;
	}
	if (t->ring_used + n > t->ring_room && t->ring_room < LIMIT_TTY_REPLAY) {
		size_t room = t->ring_room ? t->ring_room : 1024;
		char *grown;

		while (room < t->ring_used + n && room < LIMIT_TTY_REPLAY)
			room *= 2;
		/* below its full size the ring has never wrapped, so its data begins at 0 */
		grown = realloc(t->ring, room);
		if (!grown)
			return -ENOMEM;
		t->ring = grown;
		t->ring_room = room;
	}
	for (size_t done = 0; done < n;) {
		size_t end = (t->ring_at + t->ring_used) % t->ring_room;
		size_t part = n - done < t->ring_room - end ? n - done : t->ring_room - end;

		memcpy(t->ring + end, data + done, part);
		done += part;
		t->ring_used += part;
		if (t->ring_used > t->ring_room) {
			t->ring_at = (t->ring_at + t->ring_used - t->ring_room) % t->ring_room;
			t->ring_used = t->ring_room;
		}
	}
	return 0;
}

/* ---- clients */

static void client_free(struct tty_client *c)
{
	TAILQ_REMOVE(&c->tty->clients, c, link);
	if (c->readable)
		event_free(c->readable);
	if (c->writable)
		event_free(c->writable);
	if (c->out)
		evbuffer_free(c->out);
	fd_close(&c->fd);
	free(c);
}

/* false: the client is gone. */
static bool client_flush(struct tty_client *c)
{
	while (evbuffer_get_length(c->out)) {
		size_t part = evbuffer_get_contiguous_space(c->out);
		ssize_t n = send(c->fd, evbuffer_pullup(c->out, (ev_ssize_t)part), part,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == ENOTSOCK)
			n = write(c->fd, evbuffer_pullup(c->out, (ev_ssize_t)part), part);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN) {
				client_free(c);
				return false;
			}
			event_add(c->writable, NULL);
			return true;
		}
		evbuffer_drain(c->out, (size_t)n);
	}
	event_del(c->writable);
	if (c->closing) {
		client_free(c);
		return false;
	}
	return true;
}

static void client_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	client_flush(arg);
}

static void client_readable(evutil_socket_t fd, short what, void *arg)
{
	struct tty_client *c = arg;
	struct tty *t = c->tty;
	char buf[TTY_CHUNK];
	ssize_t n = read(fd, buf, sizeof(buf));

	(void)what;
	if (n > 0) {
		evbuffer_add(t->in, buf, (size_t)n);
		event_add(t->writable, NULL);
		tty_flow(t);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		client_free(c);
	}
}

static void client_put(struct tty_client *c, const char *data, size_t n)
{
	if (evbuffer_get_length(c->out) + n > LIMIT_TTY_CLIENT_BACKLOG + LIMIT_TTY_REPLAY ||
	    evbuffer_add(c->out, data, n) < 0) {
		client_free(c);
		return;
	}
	client_flush(c);
}

int tty_attach(struct tty *t, int stream)
{
	struct tty_client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(stream);
		return -ENOMEM;
	}
	TAILQ_INSERT_TAIL(&t->clients, c, link);
	c->tty = t;
	c->fd = stream;
	fd_nonblock(stream, 1);
	c->out = evbuffer_new();
	c->readable = event_new(t->d->base, stream, EV_READ | EV_PERSIST, client_readable, c);
	c->writable = event_new(t->d->base, stream, EV_WRITE | EV_PERSIST, client_writable, c);
	if (!c->out || !c->readable || !c->writable) {
		client_free(c);
		return -ENOMEM;
	}
	if (t->ring_used) {
		size_t first = t->ring_room - t->ring_at < t->ring_used ? t->ring_room - t->ring_at
									: t->ring_used;

		if (evbuffer_add(c->out, t->ring + t->ring_at, first) < 0 ||
		    evbuffer_add(c->out, t->ring, t->ring_used - first) < 0) {
			client_free(c);
			return -ENOMEM;
		}
	}
	if (t->eof)
		c->closing = true;
	else
		event_add(c->readable, NULL);
	client_flush(c);
	return 0;
}

/* ---- sinks */

/* Its reader sees the end of file when the terminal has ended and all was handed on. */
static void fifo_close(struct tty *t)
{
	if (t->fifo_writable)
		event_free(TAKE_PTR(t->fifo_writable));
	fd_close(&t->fifo);
}

static void fifo_flush(struct tty *t)
{
	while (evbuffer_get_length(t->fifo_out)) {
		int n = evbuffer_write(t->fifo_out, t->fifo);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (errno == EAGAIN)
				event_add(t->fifo_writable, NULL);
			return;
		}
	}
	if (t->eof)
		fifo_close(t);
	else
		event_del(t->fifo_writable);
}

static void fifo_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	fifo_flush(arg);
	tty_flow(arg);
}

static void file_run(struct worker_job *job)
{
	struct tty_file_job *j = (struct tty_file_job *)job;

	while (evbuffer_get_length(j->data)) {
		int n = evbuffer_write(j->data, j->fd);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			j->err = errno;
			return;
		}
	}
}

static void file_flush(struct tty *t);

static void file_done(struct worker_job *job)
{
	struct tty_file_job *j = (struct tty_file_job *)job;
	struct tty *t = j->tty;

	t->file_busy = false;
	if (j->err) {
		/* as for a log: a full disk loses output, it does not stop the program */
		evbuffer_drain(t->file_out, evbuffer_get_length(t->file_out));
	}
	evbuffer_free(j->data);
	free(j);
	file_flush(t);
	if (t->dead && !t->file_busy)
		tty_destroy(t);
	else if (!t->dead)
		tty_flow(t);
}

static void file_flush(struct tty *t)
{
	struct tty_file_job *j;

	if (t->file_busy || !evbuffer_get_length(t->file_out))
		return;
	j = calloc(1, sizeof(*j));
	if (!j)
		return; /* the next chunk tries again */
	j->data = evbuffer_new();
	if (!j->data) {
		free(j);
		return;
	}
	evbuffer_add_buffer(j->data, t->file_out);
	j->tty = t;
	j->fd = t->file;
	j->job.run = file_run;
	j->job.done = file_done;
	t->file_busy = true;
	worker_submit(t->d->workers, &j->job);
}

/* ---- the master */

static void tty_flow(struct tty *t)
{
	struct tty_client *c;
	bool full = evbuffer_get_length(t->fifo_out) > TTY_SINK_BACKLOG ||
		    evbuffer_get_length(t->file_out) > TTY_SINK_BACKLOG;
	bool typed = evbuffer_get_length(t->in) > TTY_SINK_BACKLOG;

	if (t->eof)
		return;
	if (full)
		event_del(t->readable);
	else
		event_add(t->readable, NULL);
	if (t->input_readable) {
		if (typed)
			event_del(t->input_readable);
		else
			event_add(t->input_readable, NULL);
	}
	TAILQ_FOREACH (c, &t->clients, link) {
		if (typed)
			event_del(c->readable);
		else if (!c->closing)
			event_add(c->readable, NULL);
	}
}

static void tty_eof(struct tty *t)
{
	struct tty_client *c, *next;

	t->eof = true;
	event_del(t->readable);
	event_del(t->writable);
	if (t->input_readable)
		event_del(t->input_readable);
	if (t->fifo >= 0 && !evbuffer_get_length(t->fifo_out))
		fifo_close(t);
	if (t->log)
		logs_end(t->d->logs, t->log);
	TAILQ_FOREACH_SAFE (c, &t->clients, link, next) {
		c->closing = true;
		event_del(c->readable);
		client_flush(c);
	}
}

/* One chunk. false: nothing there, or the end. */
static bool tty_read(struct tty *t)
{
	struct tty_client *c, *next;
	char buf[TTY_CHUNK];
	ssize_t n = read(t->master, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		/* EIO: the last holder of the other end has closed it (pty(7), tty_ioctl(4)) */
		tty_eof(t);
		return false;
	}
	ring_put(t, buf, (size_t)n);
	if (t->fifo >= 0) {
		evbuffer_add(t->fifo_out, buf, (size_t)n);
		fifo_flush(t);
	}
	if (t->file >= 0) {
		evbuffer_add(t->file_out, buf, (size_t)n);
		file_flush(t);
	}
	if (t->log)
		logs_write(t->d->logs, t->log, "stdout", t->log_max_size, buf, (size_t)n);
	TAILQ_FOREACH_SAFE (c, &t->clients, link, next)
		client_put(c, buf, (size_t)n);
	return true;
}

static void tty_readable(evutil_socket_t fd, short what, void *arg)
{
	struct tty *t = arg;

	(void)fd;
	(void)what;
	if (tty_read(t))
		tty_flow(t);
}

static void tty_writable(evutil_socket_t fd, short what, void *arg)
{
	struct tty *t = arg;

	(void)what;
	while (evbuffer_get_length(t->in)) {
		int n = evbuffer_write_atmost(t->in, fd, TTY_CHUNK);

		if (n <= 0) {
			if (errno == EAGAIN || errno == EINTR)
				break;
			evbuffer_drain(t->in, evbuffer_get_length(t->in));
		}
	}
	if (!evbuffer_get_length(t->in))
		event_del(t->writable);
	tty_flow(t);
}

static void tty_input(evutil_socket_t fd, short what, void *arg)
{
	struct tty *t = arg;
	char buf[TTY_CHUNK];
	ssize_t n = read(fd, buf, sizeof(buf));

	(void)what;
	if (n <= 0)
		return;
	evbuffer_add(t->in, buf, (size_t)n);
	event_add(t->writable, NULL);
	tty_flow(t);
}

int tty_new(struct tty **out, struct davit *d, int master, const struct tty_config *config)
{
	struct tty *t = calloc(1, sizeof(*t));

	if (!t) {
		int fds[] = { master, config->input, config->fifo, config->file };

		for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
			fd_close(&fds[i]);
		return -ENOMEM;
	}
	t->d = d;
	t->master = master;
	t->input = config->input;
	t->fifo = config->fifo;
	t->file = config->file;
	t->log_max_size = config->log_max_size;
	TAILQ_INIT(&t->clients);
	fd_nonblock(master, 1);
	t->in = evbuffer_new();
	t->fifo_out = evbuffer_new();
	t->file_out = evbuffer_new();
	t->readable = event_new(d->base, master, EV_READ | EV_PERSIST, tty_readable, t);
	t->writable = event_new(d->base, master, EV_WRITE | EV_PERSIST, tty_writable, t);
	if (config->log)
		t->log = strdup(config->log);
	if (t->fifo >= 0)
		t->fifo_writable = event_new(d->base, t->fifo, EV_WRITE | EV_PERSIST, fifo_writable,
					     t);
	if (t->input >= 0)
		t->input_readable = event_new(d->base, t->input, EV_READ | EV_PERSIST, tty_input,
					      t);
	if (!t->in || !t->fifo_out || !t->file_out || !t->readable || !t->writable ||
	    (config->log && !t->log) || (t->fifo >= 0 && !t->fifo_writable) ||
	    (t->input >= 0 && !t->input_readable)) {
		tty_destroy(t);
		return -ENOMEM;
	}
	tty_flow(t);
	*out = t;
	return 0;
}

static void tty_destroy(struct tty *t)
{
	struct event *events[] = { t->readable, t->writable, t->input_readable, t->fifo_writable };
	struct evbuffer *buffers[] = { t->in, t->fifo_out, t->file_out };
	struct tty_client *c;

	while ((c = TAILQ_FIRST(&t->clients)))
		client_free(c);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (events[i])
			event_free(events[i]);
	for (size_t i = 0; i < ARRAY_SIZE(buffers); i++)
		if (buffers[i])
			evbuffer_free(buffers[i]);
	fd_close(&t->master);
	fd_close(&t->input);
	fd_close(&t->fifo);
	fd_close(&t->file);
	free(t->ring);
	free(t->log);
	free(t);
}

void tty_free(struct tty *t)
{
	if (!t)
		return;
	if (!t->eof)
		tty_eof(t);
	t->dead = true;
	if (!t->file_busy)
		tty_destroy(t);
}

int tty_resize(struct tty *t, uint16_t width, uint16_t height)
{
	struct winsize ws = { .ws_col = width, .ws_row = height };

	return ioctl(t->master, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

void tty_close_stdin(struct tty *t)
{
	struct termios tio;
	char eof = 4;

	if (t->eof)
		return;
	if (tcgetattr(t->master, &tio) == 0 && tio.c_cc[VEOF])
		eof = (char)tio.c_cc[VEOF];
	evbuffer_add(t->in, &eof, 1);
	event_add(t->writable, NULL);
	if (t->input_readable)
		event_del(t->input_readable);
	fd_close(&t->input);
}

void tty_ended(struct tty *t)
{
	if (!t || t->eof)
		return;
	while (!t->eof && evbuffer_get_length(t->fifo_out) <= TTY_SINK_BACKLOG &&
	       evbuffer_get_length(t->file_out) <= TTY_SINK_BACKLOG && tty_read(t))
		;
}
