// SPDX-License-Identifier: Apache-2.0
/*
 * Requests under way: memory, cancelling, deadlines
 *
 * A request is made by the dispatcher and ends in ipc_request_finish, which its answer calls. While its
 * handler runs for the first time it is its connection's `current`; only if the handler returns
 * without having answered does it go into the connection's tree, by msgid, where rpc.cancel and the
 * end of the connection find it. So a request that is answered at once costs no tree.
 *
 * Ended early (cancelled, deadline, connection gone), it depends on who has it:
 * - with an on_cancel, the callback makes its owner drop the pointer: the error is answered, and the
 *   request is finished here;
 * - without, its owner works on: the error is answered, the request stays until the owner answers too,
 *   which then goes nowhere. It stays counted: the work that a peer has caused is what is limited.
 * When the connection goes, such a request is an orphan, counted by the server.
 *
 * Memory: structs come from a pool of the server. Each has a zone with one small chunk, that stays when the
 * request ends, so that a usual request allocates nothing. The server's struct outlives
 * ipc_server_free until the last request has ended.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/clock.h"
#include "util/limits.h"

#define POOL_MOST 256

static int ipc_request_cmp(struct ipc_request *a, struct ipc_request *b)
{
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->serial != b->serial)
		return a->serial < b->serial ? -1 : 1;
	return 0;
}

RB_GENERATE(ipc_request_tree, ipc_request, node, ipc_request_cmp)

struct ipc_request *ipc_request_new(struct ipc_conn *c)
{
	struct ipc_server *s = c->server;
	struct ipc_request *req = s->pool;

	if (req) {
		s->pool = req->next_free;
		s->n_pool--;
	} else {
		req = calloc(1, sizeof(*req));
		if (!req)
			return NULL;
		if (!msgpack_zone_init(&req->zone, IPC_ZONE_CHUNK)) {
			free(req);
			return NULL;
		}
	}
	req->server = s;
	req->conn = c;
	req->serial = s->next_serial++;
	s->n_requests++;
	return req;
}

static void request_free(struct ipc_request *req)
{
	msgpack_zone_destroy(&req->zone);
	free(req);
}

void ipc_request_pool_clear(struct ipc_server *s)
{
	struct ipc_request *req;

	while ((req = s->pool)) {
		s->pool = req->next_free;
		request_free(req);
	}
	s->n_pool = 0;
}

static uint32_t *in_flight(struct ipc_request *req)
{
	return req->entry->method->flags & IPC_WAITS ? &req->conn->n_waits : &req->conn->n_requests;
}

static void stop_timer(struct ipc_request *req)
{
	if (!req->timer)
		return;
	event_del(req->timer);
	req->timer = NULL; /* its memory is in the zone */
}

/* Out of its connection: the tree, the counts. */
static void leave(struct ipc_request *req)
{
	struct ipc_conn *c = req->conn;

	if (!c)
		return;
	c->held -= req->held;
	req->held = 0;
	if (c->current == req)
		c->current = NULL;
	if (req->in_tree) {
		RB_REMOVE(ipc_request_tree, &c->requests, req);
		req->in_tree = false;
		--*in_flight(req);
		req->server->stats.in_flight--;
	}
	req->conn = NULL;
}

void ipc_request_finish(struct ipc_request *req)
{
	struct ipc_server *s = req->server;
	struct ipc_conn *c = req->conn;

	if (req->cancelling) {
		/* answered by its own on_cancel: ipc_request_abort goes on */
		req->answered = true;
		return;
	}
	stop_timer(req);
	if (c)
		leave(req);
	else
		s->n_orphans--;
	for (uint32_t i = 0; i < req->n_named; i++)
		if (req->named[i].fd >= 0)
			close(req->named[i].fd);
	stream_fds_free(req->reply_fds);
	if (req->sb == &s->scratch)
		s->scratch_used = false;
	msgpack_sbuffer_destroy(&req->own);
	ipc_server_spare(s, req->frame, req->frame_alloc);
	s->n_requests--;

	if (s->base && s->n_pool < POOL_MOST) {
		msgpack_zone zone = req->zone;

		zone.chunk_size = IPC_ZONE_CHUNK; /* of the one that stays */
		msgpack_zone_clear(&zone);
		memset(req, 0, sizeof(*req));
		req->zone = zone;
		req->next_free = s->pool;
		s->pool = req;
		s->n_pool++;
	} else {
		request_free(req);
	}
	if (c)
		ipc_conn_released(c);
	else
		ipc_server_unref(s);
}

void ipc_request_track(struct ipc_request *req)
{
	struct ipc_conn *c = req->conn;

	req->key = req->notification ? IPC_KEY_NOTIFICATION : req->msgid;
	RB_INSERT(ipc_request_tree, &c->requests, req);
	req->in_tree = true;
	++*in_flight(req);
	req->server->stats.in_flight++;
}

struct ipc_request *ipc_request_find(struct ipc_conn *c, uint32_t msgid)
{
	struct ipc_request from = { .key = msgid, .serial = 0 };
	struct ipc_request *req = RB_NFIND(ipc_request_tree, &c->requests, &from);

	while (req && req->key == msgid && req->answered)
		req = RB_NEXT(ipc_request_tree, &c->requests, req);
	return req && req->key == msgid ? req : NULL;
}

/* Runs on_cancel; true: its owner has dropped the pointer. */
static bool call_off(struct ipc_request *req)
{
	void (*fn)(struct ipc_request * r, void *user) = req->on_cancel;

	if (!fn)
		return false;
	req->on_cancel = NULL;
	req->cancelling = true;
	fn(req, req->on_cancel_user);
	req->cancelling = false;
	return true;
}

void ipc_request_abort(struct ipc_request *req, const struct fault *f)
{
	bool dropped;

	stop_timer(req);
	dropped = call_off(req);
	if (req->conn && !req->notification)
		ipc_reply_send_fault(req, f);
	req->answered = true;
	if (dropped)
		ipc_request_finish(req);
}

void ipc_request_orphan(struct ipc_request *req)
{
	stop_timer(req);
	leave(req);
	req->server->n_orphans++;
	if (call_off(req))
		ipc_request_finish(req);
}

static void on_deadline(evutil_socket_t fd, short what, void *user)
{
	struct ipc_request *req = user;
	struct fault f;

	(void)fd;
	(void)what;
	fault_set(&f, FAULT_DEADLINE_EXCEEDED, 0, "%s: timeout: the time given is over",
		  req->entry->method->name);
	ipc_request_abort(req, &f);
}

int ipc_request_deadline(struct ipc_request *req, int64_t ns)
{
	struct timeval tv = {
		.tv_sec = ns / CLOCK_NS_PER_SEC,
		.tv_usec = (ns % CLOCK_NS_PER_SEC + 999) / 1000,
	};

	if (tv.tv_usec == 1000000) {
		tv.tv_sec++;
		tv.tv_usec = 0;
	}
	req->timer = msgpack_zone_malloc(&req->zone, sizeof(*req->timer));
	if (!req->timer)
		return -ENOMEM;
	if (evtimer_assign(req->timer, req->server->base, on_deadline, req) ||
	    evtimer_add(req->timer, &tv)) {
		req->timer = NULL;
		return -ENOMEM;
	}
	return 0;
}

struct ipc_conn *ipc_request_conn(struct ipc_request *req)
{
	return req->conn;
}

void *ipc_request_alloc(struct ipc_request *req, size_t size)
{
	return msgpack_zone_malloc(&req->zone, size);
}

void ipc_request_on_cancel(struct ipc_request *req, void (*fn)(struct ipc_request *req, void *user),
			   void *user)
{
	req->on_cancel = fn;
	req->on_cancel_user = user;
}
