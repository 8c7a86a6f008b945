// SPDX-License-Identifier: Apache-2.0
/*
 * msgpack-RPC client library, blocking
 *
 * The socket itself does not block: all waiting is in poll, so that a send which finds the socket full
 * reads meanwhile. A server stops reading from a peer that does not read its answers, so a client that
 * only wrote would wait for ever.
 *
 * What arrives is read into `reader` and turned into messages in order. Messages that nobody asked for yet
 * (answers to other requests, notifications without a handler) wait in the inbox for client_recv.
 */
#include "ipc/client.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/reader.h"
#include "ipc/stream.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/mp.h"

#define DEFAULT_SOCKET "/run/davit/davit.sock"
#define ANSWER_MOST (64u << 20) /* of one message from the server */

struct waiting {
	STAILQ_ENTRY(waiting) next;
	struct client_msg msg;
};

struct client {
	int fd;
	uint32_t next_msgid;
	struct reader reader;
	STAILQ_HEAD(, waiting) inbox;
	void (*on_notify)(void *user, const struct client_msg *msg);
	void *on_notify_user;
	bool ended;
	char buf[64 * 1024];
};

int client_open(struct client **out, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	CLEANUP_CLOSE int fd = -1;
	struct client *c;
	int r;

	if (!path)
		path = getenv("DAVIT_SOCKET");
	if (!path || !*path)
		path = DEFAULT_SOCKET;
	if (strlen(path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		if (errno != EINTR)
			return -errno;
	r = fd_nonblock(fd, 1);
	if (r)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = TAKE_FD(fd);
	STAILQ_INIT(&c->inbox);
	reader_init(&c->reader, ANSWER_MOST);
	*out = c;
	return 0;
}

void client_msg_clear(struct client_msg *msg)
{
	for (size_t i = 0; i < msg->n_fds; i++)
		if (msg->fds[i] >= 0)
			close(msg->fds[i]);
	msg->n_fds = 0;
	msgpack_unpacked_destroy(&msg->unpacked);
}

void client_close(struct client *c)
{
	struct waiting *w;

	if (!c)
		return;
	while ((w = STAILQ_FIRST(&c->inbox))) {
		STAILQ_REMOVE_HEAD(&c->inbox, next);
		client_msg_clear(&w->msg);
		free(w);
	}
	reader_clear(&c->reader);
	fd_close(&c->fd);
	free(c);
}

int client_fd(const struct client *c)
{
	return c->fd;
}

void client_on_notify(struct client *c, void (*fn)(void *user, const struct client_msg *msg),
		      void *user)
{
	c->on_notify = fn;
	c->on_notify_user = user;
}

/* A frame into a message; takes the frame's fds. */
static int parse(const struct reader_frame *f, struct client_msg *msg)
{
	const msgpack_object *o;
	size_t off = 0;
	char *copy;
	uint64_t v;

	memset(msg, 0, sizeof(*msg));
	if (f->fds) {
		for (size_t i = 0; i < f->fds->n; i++)
			msg->fds[msg->n_fds++] = TAKE_FD(f->fds->fds[i]);
		stream_fds_free(f->fds);
	}
	/* one chunk for a small message; objects take about as much again as their bytes */
	msg->unpacked.zone = msgpack_zone_new(f->size < 4096 ? 1024 + 4 * f->size : f->size + 4096);
	copy = msg->unpacked.zone ? msgpack_zone_malloc_no_align(msg->unpacked.zone, f->size)
				  : NULL;
	if (!copy) {
		client_msg_clear(msg);
		return -ENOMEM;
	}
	memcpy(copy, f->data, f->size);
	if (msgpack_unpack(copy, f->size, &off, msg->unpacked.zone, &msg->unpacked.data) !=
	    MSGPACK_UNPACK_SUCCESS) {
		client_msg_clear(msg);
		return -ENOMEM;
	}
	o = &msg->unpacked.data;
	if (o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 4 &&
	    mp_uint(&o->via.array.ptr[0], &v) && v == 1 && mp_uint(&o->via.array.ptr[1], &v) &&
	    v <= UINT32_MAX) {
		msg->type = 1;
		msg->msgid = (uint32_t)v;
		msg->error = o->via.array.ptr[2];
		msg->result = o->via.array.ptr[3];
		return 0;
	}
	if (o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == 3 &&
	    mp_uint(&o->via.array.ptr[0], &v) && v == 2) {
		msg->type = 2;
		msg->method = o->via.array.ptr[1];
		msg->params = o->via.array.ptr[2];
		return 0;
	}
	client_msg_clear(msg);
	return -EPROTO;
}

/* One read of what is there, and all whole messages in it into the inbox. 0, -EAGAIN, -EPIPE or -errno. */
static int pull(struct client *c)
{
	struct reader_frame f;
	size_t got;
	int r, e;

	if (c->ended)
		return -EPIPE;
	r = reader_fill(&c->reader, c->fd, c->buf, sizeof(c->buf), &got);
	if (r == READER_E_END || r == -ECONNRESET) {
		c->ended = true;
		return -EPIPE;
	}
	if (r)
		return r;
	while (!(e = reader_next(&c->reader, &f))) {
		struct waiting *w = malloc(sizeof(*w));

		if (!w) {
			stream_fds_free(f.fds);
			return -ENOMEM;
		}
		r = parse(&f, &w->msg);
		if (r) {
			free(w);
			return r;
		}
		STAILQ_INSERT_TAIL(&c->inbox, w, next);
	}
	if (e < 0)
		return -EPROTO;
	return reader_settle(&c->reader);
}

/* 0, -EAGAIN when the time is over, -EINTR never. deadline -1: none. */
static int wait_for(struct client *c, short events, int64_t deadline)
{
	struct pollfd p = { .fd = c->fd, .events = events };

	for (;;) {
		int64_t left = deadline < 0 ? -1 : deadline - clock_mono();
		int r;

		if (deadline >= 0)
			left = left < 0 ? 0 : (left + 999999) / 1000000;
		r = poll(&p, 1, (int)(left > INT32_MAX ? INT32_MAX : left));
		if (r > 0)
			return 0;
		if (!r)
			return -EAGAIN;
		if (errno != EINTR)
			return -errno;
	}
}

int client_recv(struct client *c, int timeout_ms, struct client_msg *msg)
{
	int64_t deadline = timeout_ms < 0 ? -1 : clock_mono() + timeout_ms * 1000000ll;

	for (;;) {
		struct waiting *w = STAILQ_FIRST(&c->inbox);
		int r;

		if (w) {
			STAILQ_REMOVE_HEAD(&c->inbox, next);
			*msg = w->msg;
			free(w);
			return 0;
		}
		r = pull(c);
		if (r == -EAGAIN)
			r = wait_for(c, POLLIN, deadline);
		if (r)
			return r;
	}
}

static int send_all(struct client *c, struct iovec *iov, size_t n, const int *fds, size_t n_fds)
{
	while (n) {
		ssize_t sent = stream_sendv(c->fd, iov, n, fds, n_fds);
		int r;

		if (sent == -EAGAIN) {
			r = wait_for(c, POLLIN | POLLOUT, -1);
			if (!r)
				r = pull(c);
			if (r && r != -EAGAIN)
				return r;
			continue;
		}
		if (sent < 0)
			return sent == -ECONNRESET ? -EPIPE : (int)sent;
		n_fds = 0;
		while (n && (size_t)sent >= iov->iov_len) {
			sent -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (char *)iov->iov_base + sent;
			iov->iov_len -= (size_t)sent;
		}
	}
	return 0;
}

int client_send(struct client *c, const char *method, const msgpack_sbuffer *params, const int *fds,
		size_t n_fds, uint32_t *msgid)
{
	msgpack_sbuffer head;
	msgpack_packer pk;
	struct iovec iov[2];
	uint32_t id = c->next_msgid;
	int r;

	msgpack_sbuffer_init(&head);
	mp_packer_init(&pk, &head);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_uint8(&pk, 0);
	msgpack_pack_uint32(&pk, id);
	mp_pack_str(&pk, method);
	msgpack_pack_array(&pk, params ? 1 : 0);
	if (mp_failed(&head)) {
		msgpack_sbuffer_destroy(&head);
		return -ENOMEM;
	}
	iov[0] = (struct iovec){ head.data, head.size };
	iov[1] = (struct iovec){ params ? params->data : NULL, params ? params->size : 0 };
	r = send_all(c, iov, params ? 2 : 1, fds, n_fds);
	msgpack_sbuffer_destroy(&head);
	if (r)
		return r;
	c->next_msgid++;
	*msgid = id;
	return 0;
}

/* Takes the answer to msgid out of the inbox; notifications before it go to the handler. */
static bool take_answer(struct client *c, uint32_t msgid, struct client_msg *msg)
{
	struct waiting *w, *next;

	for (w = STAILQ_FIRST(&c->inbox); w; w = next) {
		next = STAILQ_NEXT(w, next);
		if (w->msg.type == 1 && w->msg.msgid != msgid)
			continue;
		if (w->msg.type == 2 && !c->on_notify)
			continue;
		STAILQ_REMOVE(&c->inbox, w, waiting, next);
		if (w->msg.type == 1) {
			*msg = w->msg;
			free(w);
			return true;
		}
		c->on_notify(c->on_notify_user, &w->msg);
		client_msg_clear(&w->msg);
		free(w);
		/* the handler may have called the client */
		next = STAILQ_FIRST(&c->inbox);
	}
	return false;
}

int client_call(struct client *c, const char *method, const msgpack_sbuffer *params, const int *fds,
		size_t n_fds, struct client_msg *msg, struct fault *f)
{
	uint32_t msgid;
	int r = client_send(c, method, params, fds, n_fds, &msgid);

	while (!r && !take_answer(c, msgid, msg)) {
		r = pull(c);
		if (r == -EAGAIN)
			r = wait_for(c, POLLIN, -1);
	}
	if (r == -EPIPE)
		return fault_set(f, FAULT_UNAVAILABLE, EPIPE,
				 "%s: the daemon closed the connection", method);
	if (r == -EPROTO)
		return fault_set(f, FAULT_INTERNAL, EPROTO, "%s: the answer is not msgpack-RPC",
				 method);
	if (r)
		return fault_set(f, fault_code_of_errno(-r), -r, "%s", method);
	if (msg->error.type == MSGPACK_OBJECT_NIL)
		return 0;
	client_fault(&msg->error, f);
	client_msg_clear(msg);
	return f && f->err ? -f->err : -EIO;
}

static void copy_text(char *to, size_t room, const msgpack_object *o)
{
	const char *p;
	size_t n;

	if (!mp_str(o, &p, &n))
		return;
	if (n >= room)
		n = room - 1;
	memcpy(to, p, n);
	to[n] = '\0';
}

/* "CODE: message" */
static void text_fault(const char *p, size_t n, struct fault *f)
{
	const char *colon = memchr(p, ':', n);
	char name[32];

	f->code = FAULT_UNKNOWN;
	if (colon && (size_t)(colon - p) < sizeof(name)) {
		size_t size = (size_t)(colon - p);

		memcpy(name, p, size);
		name[size] = '\0';
		f->code = fault_code_by_name(name);
		if (f->code != FAULT_UNKNOWN || !strcmp(name, "unknown")) {
			size += size + 1 < n && p[size + 1] == ' ' ? 2 : 1;
			p += size;
			n -= size;
		}
	}
	snprintf(f->message, sizeof(f->message), "%.*s", (int)n, p);
}

static void join_log(const msgpack_object *log, struct fault *f)
{
	size_t used = 0;

	for (uint32_t i = 0; i < log->via.array.size; i++) {
		if (used + 1 >= sizeof(f->log))
			return;
		if (i)
			f->log[used++] = '\n';
		copy_text(f->log + used, sizeof(f->log) - used, &log->via.array.ptr[i]);
		used += strlen(f->log + used);
	}
}

void client_fault(const msgpack_object *error, struct fault *f)
{
	const msgpack_object *details = mp_get(error, "details"), *log;
	const char *p;
	char name[32] = "";
	int64_t v;
	size_t n;

	if (!f)
		return;
	memset(f, 0, sizeof(*f));
	f->code = FAULT_UNKNOWN;
	if (mp_str(error, &p, &n)) {
		text_fault(p, n, f);
		return;
	}
	copy_text(name, sizeof(name), mp_get(error, "code"));
	f->code = fault_code_by_name(name);
	copy_text(f->message, sizeof(f->message), mp_get(error, "message"));
	copy_text(f->argument, sizeof(f->argument), mp_get(details, "argument"));
	copy_text(f->step, sizeof(f->step), mp_get(details, "step"));
	copy_text(f->path, sizeof(f->path), mp_get(details, "path"));
	if (mp_int(mp_get(details, "errno"), &v) && v > 0 && v < 4096)
		f->err = (int)v;
	if (mp_int(mp_get(details, "exit_code"), &v) && v > 0 && v < 256)
		f->exit_code = (int)v;
	log = mp_get(details, "log");
	if (log && log->type == MSGPACK_OBJECT_ARRAY)
		join_log(log, f);
}
