// SPDX-License-Identifier: Apache-2.0
/*
 * The server: listening, who may connect, the tables
 *
 * The listening socket is borrowed. A peer is let in by the credentials that the kernel kept at its
 * connect: uid 0, or the allowed group as its primary or a supplementary one. Others are closed
 * without a byte read. Beyond LIMIT_CONNECTIONS a few more are taken in only to be told so.
 *
 * When accept fails for want of fds or memory, the event would fire again at once and for ever, so
 * listening rests for a moment.
 *
 * ipc_server_free ends all connections and events. The struct itself (tables, pool, scratch buffer)
 * stays until the last request that others still hold has been answered.
 */
#include "ipc/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/log.h"

#define ACCEPT_A_TURN 64
#define GROUPS_MOST 65536 /* NGROUPS_MAX of Linux */

static const struct timeval accept_rest = { .tv_usec = 100 * 1000 };

static bool in_groups(int fd, gid_t gid)
{
	CLEANUP_FREE gid_t *groups = NULL;
	socklen_t size = 64 * sizeof(gid_t);

	for (int tries = 0; tries < 2; tries++) {
		free(groups);
		groups = malloc(size);
		if (!groups)
			return false;
		if (!getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size)) {
			for (size_t i = 0; i < size / sizeof(gid_t); i++)
				if (groups[i] == gid)
					return true;
			return false;
		}
		/* the kernel has written how much is needed */
		if (errno != ERANGE || size > GROUPS_MOST * sizeof(gid_t))
			return false;
	}
	return false;
}

static bool is_allowed(const struct ipc_server *s, int fd)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return false;
	if (cred.uid == 0)
		return true;
	if (s->gid == (gid_t)-1)
		return false;
	return cred.gid == s->gid || in_groups(fd, s->gid);
}

static void on_accept(evutil_socket_t fd, short what, void *user)
{
	struct ipc_server *s = user;

	(void)what;
	for (int i = 0; i < ACCEPT_A_TURN; i++) {
		int sock = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		bool full = s->n_conns >= LIMIT_CONNECTIONS;

		if (sock < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno == EAGAIN)
				return;
			log_debug("accept: %s", strerrordesc_np(errno));
			event_del(s->accept_ev);
			event_add(s->accept_timer, &accept_rest);
			return;
		}
		if (!is_allowed(s, sock)) {
			s->stats.refused++;
			log_debug("a peer without permission was refused");
			close(sock);
			continue;
		}
		if (full)
			s->stats.refused++;
		else
			s->stats.accepted++;
		if (full && s->n_refused >= LIMIT_CONNECTIONS_REFUSED)
			close(sock);
		else if (ipc_conn_new(s, sock, full))
			log_debug("a connection was closed: no memory");
	}
}

static void on_accept_timer(evutil_socket_t fd, short what, void *user)
{
	struct ipc_server *s = user;

	(void)fd;
	(void)what;
	if (!s->quiesced)
		event_add(s->accept_ev, NULL);
}

static void on_flush(evutil_socket_t fd, short what, void *user)
{
	(void)fd;
	(void)what;
	ipc_conn_flush_dirty(user);
}

static const struct timeval spare_patience = { .tv_sec = 1 };

static void on_spare(evutil_socket_t fd, short what, void *user)
{
	struct ipc_server *s = user;

	(void)fd;
	(void)what;
	if (spare_rest(&s->spare))
		event_add(s->spare_ev, &spare_patience);
}

void ipc_server_spare(struct ipc_server *s, char *data, size_t size)
{
	if (!data)
		return;
	if (!s->base) {
		free(data);
		return;
	}
	spare_give(&s->spare, data, size);
	if (s->spare.n && !evtimer_pending(s->spare_ev, NULL))
		event_add(s->spare_ev, &spare_patience);
}

static void free_event(struct event **ev)
{
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

int ipc_server_new(struct ipc_server **out, struct event_base *base, int listen_fd, gid_t gid)
{
	struct ipc_server *s;
	int r = fd_nonblock(listen_fd, 1);

	if (r)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->base = base;
	s->listen_fd = listen_fd;
	s->gid = gid;
	s->version = s->revision = "";
	s->next_serial = 1;
	TAILQ_INIT(&s->conns);
	TAILQ_INIT(&s->dirty);
	STAILQ_INIT(&s->topics);
	outq_pool_init(&s->chunks);
	msgpack_sbuffer_init(&s->scratch);
	s->accept_ev = event_new(base, listen_fd, EV_READ | EV_PERSIST, on_accept, s);
	s->accept_timer = evtimer_new(base, on_accept_timer, s);
	s->flush_ev = evtimer_new(base, on_flush, s);
	s->spare_ev = evtimer_new(base, on_spare, s);
	if (!s->accept_ev || !s->accept_timer || !s->flush_ev || !s->spare_ev ||
	    event_add(s->accept_ev, NULL))
		r = -ENOMEM;
	if (!r)
		r = ipc_builtin_add(s);
	if (r) {
		ipc_server_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void ipc_server_unref(struct ipc_server *s)
{
	struct ipc_topics *t;

	if (s->base || s->n_requests)
		return;
	ipc_request_pool_clear(s);
	ipc_table_clear(&s->table);
	while ((t = STAILQ_FIRST(&s->topics))) {
		STAILQ_REMOVE_HEAD(&s->topics, next);
		free(t);
	}
	outq_pool_clear(&s->chunks);
	msgpack_sbuffer_destroy(&s->scratch);
	free(s);
}

void ipc_server_free(struct ipc_server *s)
{
	struct ipc_conn *c;

	if (!s)
		return;
	s->quiesced = true;
	free_event(&s->accept_ev);
	free_event(&s->accept_timer);
	while ((c = TAILQ_FIRST(&s->conns)))
		ipc_conn_destroy(c);
	free_event(&s->flush_ev);
	free_event(&s->spare_ev);
	spare_clear(&s->spare);
	s->base = NULL;
	ipc_server_unref(s);
}

int ipc_server_add(struct ipc_server *s, const struct ipc_method *table, void *user)
{
	return ipc_table_add(&s->table, table, user, false);
}

int ipc_server_topics(struct ipc_server *s, const struct ipc_topic *topics)
{
	struct ipc_topics *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->topics = topics;
	STAILQ_INSERT_TAIL(&s->topics, t, next);
	return 0;
}

void ipc_server_stats(const struct ipc_server *s, struct ipc_server_stats *out)
{
	*out = s->stats;
	out->connections = s->n_conns;
	out->in_flight += s->n_orphans;
}

void ipc_server_each_method(const struct ipc_server *s,
			    void (*fn)(void *user, const struct ipc_method *m, uint64_t calls),
			    void *user)
{
	for (size_t i = 0; i < s->table.n_buckets; i++)
		for (const struct ipc_entry *e = s->table.buckets[i]; e; e = e->next)
			if (e->calls)
				fn(user, e->method, e->calls);
}

void ipc_server_on_namespace(struct ipc_server *s,
			     int (*fn)(void *user, struct ipc_request *req, const char *ns),
			     void *user)
{
	s->on_namespace = fn;
	s->on_namespace_user = user;
}

void ipc_server_quiesce(struct ipc_server *s)
{
	struct ipc_conn *c;

	s->quiesced = true;
	event_del(s->accept_ev);
	event_del(s->accept_timer);
	TAILQ_FOREACH (c, &s->conns, link)
		ipc_conn_quiesce(c);
}

void ipc_server_version(struct ipc_server *s, const char *version, const char *revision)
{
	s->version = version;
	s->revision = revision;
}
