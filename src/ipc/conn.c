// SPDX-License-Identifier: Apache-2.0
/*
 * Connections
 *
 * A connection owns its socket, what is read and not yet dispatched, what is to be written, and its
 * watchers' list. It is destroyed only from the loop, never below a handler: ipc_conn_kill marks it and
 * ipc_conn_flush_dirty, which runs once in each turn of the loop when there is something for it to do,
 * destroys it.
 *
 * Writing. Answers to what one read brought are gathered and written by one system call behind the
 * last of them; answers and events that come about otherwise are gathered until that same turn of
 * the loop ends. Interest in writing follows the queue: it is there only while the socket is full.
 *
 * Reading stops, and with it the dispatching of what was read, while the peer does not read its answers
 * (LIMIT_CONN_BACKLOG) or large requests are in flight (LIMIT_CONN_HELD_BYTES). Nothing is dropped: the
 * peer's writes block.
 *
 * A peer that has shut down its sending side but not closed still gets the answers to what it asked. To
 * tell that from a close, the socket is asked for a hangup at the end of input, and again every so often,
 * because nothing is left to wait for that would not report all the time.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/mp.h"

#define READS_A_TURN 4
#define READ_MORE (32u * 1024) /* a shorter read has emptied the socket */
#define GIVE_LEAST (32u * 1024) /* larger answers are not copied */

static const struct timeval hangup_poll = { .tv_usec = 200 * 1000 };
static const struct timeval refused_patience = { .tv_sec = 5 };

static void flush(struct ipc_conn *c);

static void schedule(struct ipc_conn *c)
{
	static const struct timeval now = { 0 };
	struct ipc_server *s = c->server;

	if (c->dirty)
		return;
	c->dirty = true;
	TAILQ_INSERT_TAIL(&s->dirty, c, dirty_link);
	s->n_dirty++;
	if (s->flush_pending)
		return;
	s->flush_pending = true;
	/* from within the flush: only after others had their turn */
	if (s->flushing)
		event_add(s->flush_ev, &now);
	else
		event_active(s->flush_ev, EV_TIMEOUT, 0);
}

void ipc_conn_kill(struct ipc_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	event_del(&c->read_ev);
	event_del(&c->write_ev);
	event_del(&c->timer_ev);
	c->reading = c->writing = false;
	schedule(c);
}

/* Whether a further request may be dispatched now. */
static bool may_dispatch(const struct ipc_conn *c)
{
	return !c->dead && !c->server->quiesced && c->out.bytes <= LIMIT_CONN_BACKLOG &&
	       c->held <= LIMIT_CONN_HELD_BYTES;
}

static void set_reading(struct ipc_conn *c)
{
	bool want = !c->ended && may_dispatch(c);

	if (c->dead || want == c->reading)
		return;
	if (want ? event_add(&c->read_ev, NULL) : event_del(&c->read_ev))
		ipc_conn_kill(c);
	else
		c->reading = want;
}

static bool is_watched(const struct ipc_conn *c)
{
	for (const struct ipc_conn_watch *w = c->watches; w; w = w->next)
		if (!w->passive)
			return true;
	return false;
}

/* Nothing is left to do for it. */
static bool is_done(const struct ipc_conn *c)
{
	if (c->out.bytes)
		return false;
	if (c->refused && c->told)
		return true;
	return c->ended && RB_EMPTY(&c->requests) && !is_watched(c) &&
	       !(reader_pending(&c->reader) && c->stopped);
}

static bool hung_up(const struct ipc_conn *c)
{
	struct pollfd p = { .fd = c->fd };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/* Dispatches what was read, as far as limits allow. */
static void dispatch_all(struct ipc_conn *c)
{
	int r = 0;

	c->busy = true;
	for (;;) {
		struct reader_frame f;

		if (!may_dispatch(c)) {
			/* perhaps the peer reads as fast as it asks */
			if (!c->dead && c->out.bytes > LIMIT_CONN_BACKLOG)
				flush(c);
			if (!may_dispatch(c))
				break;
		}
		r = reader_next(&c->reader, &f);
		if (r)
			break;
		r = ipc_dispatch(c, &f);
		if (r)
			break;
	}
	c->busy = false;
	c->stopped = !may_dispatch(c);
	if (!r || r == READER_E_MORE)
		r = reader_settle(&c->reader);
	flush(c);
	if (r < 0 || (c->refused && is_done(c)))
		ipc_conn_kill(c);
}

static void at_end(struct ipc_conn *c)
{
	c->ended = true;
	if (hung_up(c) || is_done(c)) {
		ipc_conn_kill(c);
		return;
	}
	set_reading(c);
	if (event_add(&c->timer_ev, &hangup_poll))
		ipc_conn_kill(c);
}

static void on_read(evutil_socket_t fd, short what, void *user)
{
	struct ipc_conn *c = user;
	struct ipc_server *s = c->server;

	(void)what;
	for (int i = 0; i < READS_A_TURN; i++) {
		size_t got;
		int r = reader_fill(&c->reader, fd, s->buf, sizeof(s->buf), &got);

		s->stats.bytes_in += got;
		if (r == READER_E_END) {
			at_end(c);
			return;
		}
		if (r == -EAGAIN)
			break;
		if (r < 0) {
			ipc_conn_kill(c);
			return;
		}
		dispatch_all(c);
		if (c->dead || c->stopped || got < READ_MORE)
			break;
	}
	set_reading(c);
}

static void tell_drained(struct ipc_conn *c)
{
	struct ipc_conn_watch *rest = c->watches, *w;

	/* a watcher may remove itself or another meanwhile, so each is put back before it is called */
	c->watches = NULL;
	if (rest)
		rest->prev = &rest;
	while ((w = rest)) {
		ipc_conn_unwatch(w);
		ipc_conn_watch(c, w);
		w->drained(w);
	}
}

/* Writes what the socket takes. */
static void flush(struct ipc_conn *c)
{
	size_t sent;
	int r;

	if (c->dead)
		return;
	if (c->out.bytes) {
		r = outq_write(&c->out, c->fd, &sent);
		c->server->stats.bytes_out += sent;
		if (r && r != -EAGAIN) {
			ipc_conn_kill(c);
			return;
		}
	}
	if (!c->out.bytes != !c->writing) {
		bool want = c->out.bytes;

		if (want ? event_add(&c->write_ev, NULL) : event_del(&c->write_ev)) {
			ipc_conn_kill(c);
			return;
		}
		c->writing = want;
	}
	if (!c->out.bytes && c->high) {
		c->high = false;
		tell_drained(c);
	}
}

/* After a flush or the end of a request: goes on with what a limit had stopped. */
static void resume(struct ipc_conn *c)
{
	if (c->dead)
		return;
	if (c->stopped && may_dispatch(c)) {
		/* not before half of the backlog is gone, or it would stop and go with each answer */
		if (c->out.bytes > LIMIT_CONN_BACKLOG / 2)
			return;
		dispatch_all(c);
	}
	set_reading(c);
	if (is_done(c))
		ipc_conn_kill(c);
}

static void on_write(evutil_socket_t fd, short what, void *user)
{
	struct ipc_conn *c = user;

	(void)fd;
	(void)what;
	flush(c);
	resume(c);
}

static void on_timer(evutil_socket_t fd, short what, void *user)
{
	struct ipc_conn *c = user;

	(void)fd;
	(void)what;
	if (!c->ended || hung_up(c) || is_done(c) || event_add(&c->timer_ev, &hangup_poll))
		ipc_conn_kill(c);
}

void ipc_conn_flush_dirty(struct ipc_server *s)
{
	size_t n = s->n_dirty;

	s->flush_pending = false;
	s->flushing = true;
	while (n--) {
		struct ipc_conn *c = TAILQ_FIRST(&s->dirty);

		if (!c)
			break;
		TAILQ_REMOVE(&s->dirty, c, dirty_link);
		c->dirty = false;
		s->n_dirty--;
		if (c->dead) {
			ipc_conn_destroy(c);
			continue;
		}
		flush(c);
		resume(c);
	}
	s->flushing = false;
}

int ipc_conn_new(struct ipc_server *s, int fd, bool refused)
{
	struct ipc_conn *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->server = s;
	c->fd = fd;
	c->refused = refused;
	c->id = ++s->next_conn;
	RB_INIT(&c->requests);
	reader_init(&c->reader, LIMIT_FRAME_BYTES);
	c->reader.spare = &s->spare;
	outq_init(&c->out, &s->chunks);
	if (refused)
		s->n_refused++;
	else
		s->n_conns++;
	TAILQ_INSERT_TAIL(&s->conns, c, link);
	event_assign(&c->read_ev, s->base, fd, EV_READ | EV_PERSIST, on_read, c);
	event_assign(&c->write_ev, s->base, fd, EV_WRITE | EV_PERSIST, on_write, c);
	evtimer_assign(&c->timer_ev, s->base, on_timer, c);
	set_reading(c);
	if (refused && event_add(&c->timer_ev, &refused_patience))
		ipc_conn_kill(c);
	return 0;
}

void ipc_conn_destroy(struct ipc_conn *c)
{
	struct ipc_server *s = c->server;
	struct ipc_conn_watch *w;
	struct ipc_request *req;

	c->dead = true;
	event_del(&c->read_ev);
	event_del(&c->write_ev);
	event_del(&c->timer_ev);
	while ((w = c->watches)) {
		ipc_conn_unwatch(w);
		w->closed(w);
	}
	while ((req = RB_MIN(ipc_request_tree, &c->requests)))
		ipc_request_orphan(req);
	TAILQ_REMOVE(&s->conns, c, link);
	if (c->dirty) {
		TAILQ_REMOVE(&s->dirty, c, dirty_link);
		s->n_dirty--;
	}
	if (c->refused)
		s->n_refused--;
	else
		s->n_conns--;
	reader_clear(&c->reader);
	outq_clear(&c->out);
	close(c->fd);
	free(c);
}

void ipc_conn_quiesce(struct ipc_conn *c)
{
	set_reading(c);
}

static void queued(struct ipc_conn *c)
{
	if (c->out.bytes >= LIMIT_CONN_BACKLOG / 2)
		c->high = true;
	/* dispatch_all flushes when it is through */
	if (!c->busy)
		schedule(c);
}

void ipc_conn_answer(struct ipc_conn *c, msgpack_sbuffer *sb, struct stream_fds *fds)
{
	int r = -ENOMEM;

	if (c->dead)
		return;
	if (mp_failed(sb)) {
		/* an answer that cannot be given would be waited for */
		ipc_conn_kill(c);
		return;
	}
	if (fds && fds->n) {
		r = outq_put_fds(&c->out, sb->data, sb->size, fds->fds, fds->n);
		fds->n = 0;
	} else if (sb->size >= GIVE_LEAST) {
		r = outq_give(&c->out, sb->data, sb->size);
		if (!r)
			msgpack_sbuffer_release(sb);
	} else {
		r = outq_put(&c->out, sb->data, sb->size);
	}
	if (r)
		ipc_conn_kill(c);
	else
		queued(c);
}

void ipc_conn_released(struct ipc_conn *c)
{
	if (!c->dead && !c->busy && (c->stopped || c->ended))
		schedule(c);
}

uint64_t ipc_conn_id(const struct ipc_conn *c)
{
	return c->id;
}

int ipc_conn_send(struct ipc_conn *c, const void *data, size_t size)
{
	int r;

	if (c->dead)
		return -EPIPE;
	r = outq_put(&c->out, data, size);
	if (!r)
		queued(c);
	return r;
}

size_t ipc_conn_backlog(const struct ipc_conn *c)
{
	return c->out.bytes;
}

bool ipc_conn_hung_up(const struct ipc_conn *c)
{
	return c->dead || hung_up(c);
}

void ipc_conn_watch(struct ipc_conn *c, struct ipc_conn_watch *w)
{
	w->next = c->watches;
	w->prev = &c->watches;
	if (w->next)
		w->next->prev = &w->next;
	c->watches = w;
}

void ipc_conn_unwatch(struct ipc_conn_watch *w)
{
	if (!w->prev)
		return;
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->next = NULL;
	w->prev = NULL;
}
