// SPDX-License-Identifier: Apache-2.0
/*
 * The reactor's end of the socket to the guardian
 *
 * Owns the socket and a queue of messages that it did not take. The order of messages is the order
 * of calls: as soon as one is queued, all that follow are, until the queue is empty again. A
 * message's fd is duplicated when it is queued, since the caller may close its own. Write interest
 * follows the queue.
 *
 * The hand-over at the start is read before the loop runs, by blocking reads under one deadline:
 * the guardian sends it without being asked, and until it is complete there is nothing else to do.
 */
#include "core/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bsd/sys/queue.h>

#include "core/keep_proto.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

#define HANDOVER_SECONDS 30

struct keep_out {
	STAILQ_ENTRY(keep_out) link;
	int fd;
	size_t size;
	char msg[]; /* the beginning of a struct keep_msg */
};

struct keep {
	int sock;
	struct event *read, *write;
	struct keep_handlers handlers;
	void *user;
	STAILQ_HEAD(, keep_out) queue;
	bool lost;
};

static void out_free(struct keep_out *o)
{
	fd_close(&o->fd);
	free(o);
}

static void keep_lose(struct keep *k)
{
	if (k->lost)
		return;
	k->lost = true;
	event_del(k->read);
	event_del(k->write);
	if (k->handlers.lost)
		k->handlers.lost(k->user);
}

static bool full(ssize_t r)
{
	return r == -EAGAIN || r == -ENOBUFS || r == -ENOMEM;
}

static int enqueue(struct keep *k, const struct keep_msg *m, size_t size, int fd)
{
	struct keep_out *o = malloc(sizeof(*o) + size);
	bool first = STAILQ_EMPTY(&k->queue);

	if (!o)
		return -ENOMEM;
	o->fd = -1;
	o->size = size;
	memcpy(o->msg, m, size);
	if (fd >= 0) {
		o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (o->fd < 0) {
			int r = -errno;

			free(o);
			return r;
		}
	}
	STAILQ_INSERT_TAIL(&k->queue, o, link);
	if (first && event_add(k->write, NULL) < 0)
		return -ENOMEM;
	return 0;
}

static int submit(struct keep *k, const struct keep_msg *m, size_t size, int fd)
{
	ssize_t n;

	if (k->lost)
		return -EPIPE;
	if (!STAILQ_EMPTY(&k->queue))
		return enqueue(k, m, size, fd);
	n = fd_send(k->sock, m, size, &fd, fd >= 0, MSG_DONTWAIT);
	if (full(n))
		return enqueue(k, m, size, fd);
	/* that the guardian is gone is told from the loop, where the socket's end is read */
	return n < 0 ? (int)n : 0;
}

static void on_write(evutil_socket_t sock, short what, void *user)
{
	struct keep *k = user;
	struct keep_out *o;

	(void)what;
	while ((o = STAILQ_FIRST(&k->queue))) {
		ssize_t n = fd_send(sock, o->msg, o->size, &o->fd, o->fd >= 0, MSG_DONTWAIT);

		if (full(n))
			return;
		if (n < 0) {
			keep_lose(k);
			return;
		}
		STAILQ_REMOVE_HEAD(&k->queue, link);
		out_free(o);
	}
	event_del(k->write);
}

static void take_status(struct keep *k, const struct keep_status *s)
{
	struct reaper_status st = {
		.pid = s->pid,
		.known = true,
		.exited_at = s->exited_at,
	};

	if (s->code == CLD_EXITED) {
		st.exit_code = s->status;
	} else {
		st.signal = s->status;
		st.core_dumped = s->code == CLD_DUMPED;
	}
	k->handlers.status(k->user, &st, s->starttime);
}

/* One message. KEEP_END and KEEP_HELLO are for the hand-over; what is unknown is an error. */
static int take(struct keep *k, struct keep_msg *m, size_t size, int *fd)
{
	char key[KEEP_KEY_BYTES + 1];

	if (size < KEEP_HEAD)
		return -EPROTO;
	switch (m->kind) {
	case KEEP_HELLO:
		return m->number == KEEP_VERSION ? 0 : -EPROTONOSUPPORT;
	case KEEP_ITEM:
		if (*fd < 0 || size - KEEP_HEAD > KEEP_KEY_BYTES)
			return -EPROTO;
		memcpy(key, m->text, size - KEEP_HEAD);
		key[size - KEEP_HEAD] = 0;
		k->handlers.item(k->user, key, TAKE_FD(*fd));
		return 0;
	case KEEP_STATUS:
		if (size < KEEP_HEAD + sizeof(m->status))
			return -EPROTO;
		take_status(k, &m->status);
		return 0;
	case KEEP_END:
		return 1;
	default:
		return -EPROTO;
	}
}

/* Reads one message: 1 at KEEP_END, 0, -EPIPE when the guardian is gone. */
static int receive(struct keep *k, int flags)
{
	CLEANUP_CLOSE int fd = -1;
	struct keep_msg m;
	size_t n_fds = 1;
	ssize_t n = fd_recv(k->sock, &m, sizeof(m), &fd, &n_fds, flags);

	if (n == -ECONNRESET || !n)
		return -EPIPE;
	if (n < 0)
		return (int)n;
	return take(k, &m, (size_t)n, &fd);
}

static void on_read(evutil_socket_t sock, short what, void *user)
{
	struct keep *k = user;
	int r;

	(void)sock;
	(void)what;
	do {
		r = receive(k, MSG_DONTWAIT);
	} while (r >= 0 && !k->lost);
	if (r != -EAGAIN && r != -EMSGSIZE && !k->lost)
		keep_lose(k);
}

static int handover(struct keep *k)
{
	int64_t end = clock_mono() + HANDOVER_SECONDS * CLOCK_NS_PER_SEC;

	for (;;) {
		struct pollfd p = { .fd = k->sock, .events = POLLIN };
		int64_t left = end - clock_mono();
		int r;

		if (left <= 0)
			return -ETIMEDOUT;
		r = poll(&p, 1, (int)(left / 1000000) + 1);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r <= 0)
			continue;
		r = receive(k, MSG_DONTWAIT);
		if (r == 1)
			return 0;
		if (r < 0 && r != -EAGAIN)
			return r;
	}
}

int keep_new(struct keep **out, struct event_base *base, int sock,
	     const struct keep_handlers *handlers, void *user)
{
	struct keep *k = calloc(1, sizeof(*k));
	int r;

	if (!k) {
		close(sock);
		return -ENOMEM;
	}
	STAILQ_INIT(&k->queue);
	k->sock = sock;
	k->handlers = *handlers;
	k->user = user;
	k->read = event_new(base, sock, EV_READ | EV_PERSIST, on_read, k);
	k->write = event_new(base, sock, EV_WRITE | EV_PERSIST, on_write, k);
	*out = k;
	r = k->read && k->write ? handover(k) : -ENOMEM;
	if (r >= 0 && event_add(k->read, NULL) < 0)
		r = -ENOMEM;
	if (r < 0) {
		*out = NULL;
		keep_free(k);
		return r;
	}
	return 0;
}

void keep_free(struct keep *k)
{
	struct keep_out *o;

	if (!k)
		return;
	/* the last words, as far as they go without waiting */
	k->handlers.lost = NULL;
	if (!k->lost && k->write)
		on_write(k->sock, EV_WRITE, k);
	while ((o = STAILQ_FIRST(&k->queue))) {
		STAILQ_REMOVE_HEAD(&k->queue, link);
		out_free(o);
	}
	if (k->read)
		event_free(k->read);
	if (k->write)
		event_free(k->write);
	fd_close(&k->sock);
	free(k);
}

static int submit_text(struct keep *k, enum keep_kind kind, const char *text, int fd)
{
	struct keep_msg m = { .kind = kind };
	size_t n = strlen(text);

	if (!n || n > KEEP_KEY_BYTES)
		return -EINVAL;
	memcpy(m.text, text, n);
	return submit(k, &m, KEEP_HEAD + n, fd);
}

int keep_put(struct keep *k, const char *key, int fd)
{
	return fd < 0 ? -EBADF : submit_text(k, KEEP_PUT, key, fd);
}

int keep_drop(struct keep *k, const char *key)
{
	return submit_text(k, KEEP_DROP, key, -1);
}

int keep_drop_prefix(struct keep *k, const char *prefix)
{
	return submit_text(k, KEEP_DROP_PREFIX, prefix, -1);
}

/*
 * Words without an answer: when they do not arrive, the guardian is gone, and that is told by
 * `lost`.
 */
static void submit_word(struct keep *k, enum keep_kind kind, pid_t pid)
{
	struct keep_msg m = { .kind = kind, .pid = pid };

	(void)submit(k, &m, KEEP_HEAD, -1);
}

void keep_ack(struct keep *k, pid_t pid)
{
	submit_word(k, KEEP_ACK, pid);
}

void keep_ready(struct keep *k)
{
	submit_word(k, KEEP_READY, 0);
}

void keep_stopping(struct keep *k)
{
	submit_word(k, KEEP_STOPPING, 0);
}

void keep_fail(int sock, const char *why)
{
	struct keep_msg m = { .kind = KEEP_FAILED };
	size_t n = strnlen(why, sizeof(m.text));

	memcpy(m.text, why, n);
	/* lost only when the guardian is, and then nobody wants it */
	(void)fd_send(sock, &m, KEEP_HEAD + n, NULL, 0, MSG_DONTWAIT);
}
