// SPDX-License-Identifier: Apache-2.0
/*
 * From a frame to its handler
 *
 * The frame has been walked by the scanner, so every count in it is true. Its head is read by hand;
 * only the map of arguments is unpacked, from a copy in the request's zone (or from the read buffer
 * itself, when the frame was so large that it had that for itself), because msgpack-c's strings point
 * into what was unpacked and a request may outlive the read.
 *
 * What breaks the protocol (not a request or notification at all) ends the connection. Whatever has
 * a msgid to answer to is answered: an unknown method, arguments that are none, a limit.
 * Notifications are run like requests and nothing is answered; the unknown are ignored.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/internal.h"
#include "util/limits.h"
#include "util/mp.h"

#define HELD_LEAST 4096u /* smaller frames are not counted as held */
#define CHUNK_MOST (64u << 10)

struct cursor {
	const uint8_t *p, *end;
};

struct message {
	bool notification;
	uint32_t msgid;
	const char *method;
	size_t method_size;
	const uint8_t *params;
};

static uint64_t big_endian(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n--)
		v = v << 8 | *p++;
	return v;
}

/* The scanner has seen that whole values are there, so no head is cut off. */

static bool read_count(struct cursor *c, uint8_t fix, uint8_t mask, uint8_t wide, uint32_t *n)
{
	uint8_t b = *c->p;

	if ((b & (uint8_t)~mask) == fix) {
		*n = b & mask;
		c->p++;
		return true;
	}
	if (b == wide) {
		*n = (uint32_t)big_endian(c->p + 1, 2);
		c->p += 3;
		return true;
	}
	if (b == wide + 1) {
		*n = (uint32_t)big_endian(c->p + 1, 4);
		c->p += 5;
		return true;
	}
	return false;
}

static bool read_array(struct cursor *c, uint32_t *n)
{
	return read_count(c, 0x90, 0x0f, 0xdc, n);
}

static bool read_uint32(struct cursor *c, uint32_t *v)
{
	uint8_t b = *c->p;
	uint64_t wide;
	unsigned size;

	if (b < 0x80) {
		*v = b;
		c->p++;
		return true;
	}
	if (b < 0xcc || b > 0xd3)
		return false;
	size = 1u << (b & 3);
	wide = big_endian(c->p + 1, size);
	if (b >= 0xd0 && c->p[1] & 0x80) /* negative */
		return false;
	if (wide > UINT32_MAX)
		return false;
	*v = (uint32_t)wide;
	c->p += 1 + size;
	return true;
}

static bool read_text(struct cursor *c, const char **text, size_t *size)
{
	uint8_t b = *c->p;
	size_t head, n;

	if (b >= 0xa0 && b < 0xc0) {
		head = 1;
		n = b & 0x1f;
	} else if (b >= 0xd9 && b <= 0xdb) {
		head = 1 + ((size_t)1 << (b - 0xd9));
		n = (size_t)big_endian(c->p + 1, head - 1);
	} else if (b >= 0xc4 && b <= 0xc6) {
		head = 1 + ((size_t)1 << (b - 0xc4));
		n = (size_t)big_endian(c->p + 1, head - 1);
	} else {
		return false;
	}
	*text = (const char *)c->p + head;
	*size = n;
	c->p += head + n;
	return true;
}

static bool read_message(const struct reader_frame *f, struct message *m)
{
	const uint8_t *start = (const uint8_t *)f->data;
	struct cursor c = { start, start + f->size };
	uint32_t n, type;

	if (!read_array(&c, &n) || (n != 3 && n != 4))
		return false;
	if (!read_uint32(&c, &type) || type != (n == 3 ? 2 : 0))
		return false;
	m->notification = n == 3;
	m->msgid = 0;
	if (n == 4 && !read_uint32(&c, &m->msgid))
		return false;
	if (!read_text(&c, &m->method, &m->method_size))
		return false;
	m->params = c.p;
	return true;
}

/* The map of arguments in memory that lives as long as the request; *map is NULL when there are none. */
static int unpack_params(struct ipc_request *req, struct reader_frame *f, const struct message *m,
			 msgpack_object **map, struct fault *fault)
{
	const char *name = req->entry->method->name;
	const char *start;
	struct cursor c = { m->params, (const uint8_t *)f->data + f->size };
	size_t size, off = 0;
	uint32_t n;

	*map = NULL;
	if (!read_array(&c, &n) || n > 1)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, 0,
				 "%s: params must be an array of at most one map", name);
	if (!n)
		return 0;
	start = (const char *)c.p;
	size = (size_t)(c.end - c.p);
	if (f->size >= HELD_LEAST) {
		req->held = f->size;
		req->conn->held += f->size;
		req->frame = reader_take(&req->conn->reader, f);
		req->frame_alloc = req->frame ? f->alloc : 0;
	}
	/* objects take several times their bytes: few large chunks instead of many small ones */
	if (f->size > IPC_ZONE_CHUNK)
		req->zone.chunk_size = f->size < CHUNK_MOST / 4 ? f->size * 4 : CHUNK_MOST;
	*map = msgpack_zone_malloc(&req->zone, sizeof(**map));
	if (*map && !req->frame) {
		char *copy = msgpack_zone_malloc_no_align(&req->zone, size + 1);

		if (copy)
			memcpy(copy, start, size);
		start = copy;
	}
	if (!*map || !start ||
	    msgpack_unpack(start, size, &off, &req->zone, *map) != MSGPACK_UNPACK_SUCCESS)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "%s", name);
	if (!mp_is_map(*map))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, 0,
				 "%s: params must be an array of at most one map", name);
	return 0;
}

static int check_limits(struct ipc_conn *c, struct ipc_request *req, const struct reader_frame *f,
			struct fault *fault)
{
	const struct ipc_method *m = req->entry->method;
	bool waits = m->flags & IPC_WAITS;

	if (c->refused)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, 0,
				 "%s: %u connections are open, which is the limit", m->name,
				 LIMIT_CONNECTIONS);
	if (f->fds && f->fds->cut)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, 0,
				 "%s: more than %u fds were passed, or no more can be opened",
				 m->name, LIMIT_REQUEST_FDS);
	if (f->items > LIMIT_FRAME_ITEMS)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, 0,
				 "%s: the request has more than %u values", m->name,
				 LIMIT_FRAME_ITEMS);
	if (req->entry->exempt)
		return 0;
	if (waits && c->n_waits >= LIMIT_CONN_WAITS)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, 0,
				 "%s: %u of its calls are in flight on this connection, the limit",
				 m->name, LIMIT_CONN_WAITS);
	if (!waits && c->n_requests >= LIMIT_CONN_REQUESTS)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, 0,
				 "%s: %u requests are in flight on this connection, the limit",
				 m->name, LIMIT_CONN_REQUESTS);
	if (c->server->n_orphans >= LIMIT_SERVER_ORPHANS)
		return fault_set(
			fault, FAULT_RESOURCE_EXHAUSTED, 0,
			"%s: %u requests of closed connections are still in work, the limit",
			m->name, LIMIT_SERVER_ORPHANS);
	return 0;
}

static int settle_common(struct ipc_request *req, struct fault *fault)
{
	const struct ipc_entry *e = req->entry;
	int64_t ns;

	req->ns = ipc_arg_str(req, e->params[e->at_namespace]->name);
	if (!req->ns && !(e->method->flags & IPC_NO_NAMESPACE))
		req->ns = "default";
	if (mp_int(req->args[e->at_timeout], &ns) && ns > 0 && ipc_request_deadline(req, ns))
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "%s", e->method->name);
	return 0;
}

static int prepare(struct ipc_request *req, struct reader_frame *f, const struct message *m,
		   struct fault *fault)
{
	msgpack_object *map;
	int r;

	if (!req->entry)
		return fault_set(fault, FAULT_UNIMPLEMENTED, 0, "%.*s: no such method",
				 (int)(m->method_size < 128 ? m->method_size : 128), m->method);
	r = check_limits(req->conn, req, f, fault);
	if (!r)
		r = unpack_params(req, f, m, &map, fault);
	if (!r)
		r = ipc_args_check(req, map, f->fds, fault);
	if (!r)
		r = settle_common(req, fault);
	return r;
}

static void run(struct ipc_conn *c, struct ipc_request *req)
{
	struct ipc_server *s = c->server;
	struct ipc_entry *e = req->entry;

	c->current = req;
	e->calls++;
	if (s->on_namespace && !(e->method->flags & IPC_NO_NAMESPACE) &&
	    s->on_namespace(s->on_namespace_user, req, req->ns)) {
		if (c->current)
			ipc_reply_error(req, FAULT_INTERNAL, "namespace", "no reason was given");
		return;
	}
	e->method->handler(req, e->user);
	if (c->current) {
		c->current = NULL;
		ipc_request_track(req);
	}
}

int ipc_dispatch(struct ipc_conn *c, struct reader_frame *f)
{
	struct ipc_server *s = c->server;
	struct ipc_request *req;
	struct ipc_entry *e;
	struct message m;
	struct fault fault;

	if (!read_message(f, &m)) {
		stream_fds_free(f->fds);
		return -EPROTO;
	}
	e = ipc_table_find(&s->table, m.method, m.method_size);
	if (m.notification)
		s->stats.notifications++;
	else
		s->stats.requests++;
	if (m.notification && !e) {
		stream_fds_free(f->fds);
		return 0;
	}
	req = ipc_request_new(c);
	if (!req) {
		stream_fds_free(f->fds);
		return -ENOMEM;
	}
	req->entry = e;
	req->msgid = m.msgid;
	req->notification = m.notification;
	c->told = true;
	if (prepare(req, f, &m, &fault)) {
		stream_fds_free(f->fds);
		ipc_reply_fault(req, &fault);
		return 0;
	}
	/* those that no argument named */
	stream_fds_free(f->fds);
	run(c, req);
	return 0;
}
