// SPDX-License-Identifier: Apache-2.0
/*
 * A server on a UNIX socket and raw clients, in one thread
 *
 * The loop is turned by whoever waits for an answer. Requests are written as JSON, answers are
 * compared as msgpack-c prints them: [1, 7, nil, {"pid"=>42}].
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/reader.h"
#include "ipc/request.h"
#include "ipc/server.h"
#include "ipc/stream.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/mp.h"

#define UNUSED __attribute__((unused))

struct fixture {
	struct event_base *base;
	struct ipc_server *server;
	int listener;
	struct sockaddr_un addr;
};

struct peer {
	struct fixture *fx;
	int fd;
	struct reader reader;
	char buf[65536];
	char text[1 << 16]; /* the last message */
	int fds[LIMIT_REQUEST_FDS];
	size_t n_fds;
	size_t size; /* of the last message, packed */
};

static struct fixture *fixture_new(const struct ipc_method *methods, void *user)
{
	static int counter;
	struct fixture *fx = calloc(1, sizeof(*fx));

	assert_non_null(fx);
	fx->addr.sun_family = AF_UNIX;
	snprintf(fx->addr.sun_path, sizeof(fx->addr.sun_path), "/tmp/davit-test-%d-%d.sock",
		 (int)getpid(), counter++);
	unlink(fx->addr.sun_path);
	fx->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fx->listener >= 0);
	assert_int_equal(bind(fx->listener, (struct sockaddr *)&fx->addr, sizeof(fx->addr)), 0);
	assert_int_equal(listen(fx->listener, 2048), 0);
	fx->base = event_base_new();
	assert_non_null(fx->base);
	assert_int_equal(ipc_server_new(&fx->server, fx->base, fx->listener, (gid_t)-1), 0);
	ipc_server_version(fx->server, "1.2.3", "abc");
	if (methods)
		assert_int_equal(ipc_server_add(fx->server, methods, user), 0);
	return fx;
}

static UNUSED void fixture_free(struct fixture *fx)
{
	ipc_server_free(fx->server);
	event_base_free(fx->base);
	close(fx->listener);
	unlink(fx->addr.sun_path);
	free(fx);
}

static void turn(struct fixture *fx)
{
	event_base_loop(fx->base, EVLOOP_NONBLOCK);
}

static UNUSED void turns(struct fixture *fx, int n)
{
	while (n--)
		turn(fx);
}

static UNUSED struct peer *peer_new(struct fixture *fx)
{
	struct peer *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->fx = fx;
	p->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(p->fd >= 0);
	assert_int_equal(connect(p->fd, (struct sockaddr *)&fx->addr, sizeof(fx->addr)), 0);
	fcntl(p->fd, F_SETFL, O_NONBLOCK);
	reader_init(&p->reader, 64u << 20);
	return p;
}

static void drop_fds(struct peer *p)
{
	for (size_t i = 0; i < p->n_fds; i++)
		close(p->fds[i]);
	p->n_fds = 0;
}

static UNUSED void peer_free(struct peer *p)
{
	drop_fds(p);
	reader_clear(&p->reader);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

/* Writes all, turning the loop while the socket is full. */
static void peer_write(struct peer *p, const void *data, size_t size, const int *fds, size_t n_fds)
{
	const char *from = data;
	int idle = 0;

	while (size) {
		struct iovec iov = { (void *)from, size };
		ssize_t n = stream_sendv(p->fd, &iov, 1, fds, n_fds);

		if (n == -EAGAIN) {
			turn(p->fx);
			assert_true(idle++ < 10000);
			continue;
		}
		assert_true(n > 0);
		idle = 0;
		n_fds = 0;
		from += n;
		size -= (size_t)n;
	}
}

static void pack_json(msgpack_packer *pk, const char *json)
{
	json_object *j = NULL;
	struct fault f;

	if (json_parse(json, strlen(json), &j, &f))
		fail_msg("%s: %s", json, f.message);
	json_to_mp(j, pk);
	json_object_put(j);
}

/* One request; params: JSON of the map, NULL for none. */
static UNUSED void pack_request(msgpack_sbuffer *sb, uint32_t msgid, const char *method,
				const char *json)
{
	msgpack_packer pk;

	mp_packer_init(&pk, sb);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 0);
	msgpack_pack_uint32(&pk, msgid);
	mp_pack_str(&pk, method);
	msgpack_pack_array(&pk, json ? 1 : 0);
	if (json)
		pack_json(&pk, json);
	assert_false(mp_failed(sb));
}

static UNUSED void peer_request_fds(struct peer *p, uint32_t msgid, const char *method,
				    const char *json, const int *fds, size_t n_fds)
{
	msgpack_sbuffer sb;

	msgpack_sbuffer_init(&sb);
	pack_request(&sb, msgid, method, json);
	peer_write(p, sb.data, sb.size, fds, n_fds);
	msgpack_sbuffer_destroy(&sb);
}

static UNUSED void peer_request(struct peer *p, uint32_t msgid, const char *method,
				const char *json)
{
	peer_request_fds(p, msgid, method, json, NULL, 0);
}

/*
 * The next message as text; "" when none comes within the time, "END" at the end of the connection.
 */
static UNUSED const char *peer_next(struct peer *p, int ms)
{
	for (;; ms--) {
		struct reader_frame f;
		struct pollfd pf = { .fd = p->fd, .events = POLLIN };
		size_t got;
		int r;

		r = reader_next(&p->reader, &f);
		assert_true(r >= 0);
		if (!r) {
			msgpack_unpacked u;
			size_t off = 0;

			drop_fds(p);
			if (f.fds) {
				assert_false(f.fds->cut);
				for (size_t i = 0; i < f.fds->n; i++)
					p->fds[p->n_fds++] = TAKE_FD(f.fds->fds[i]);
				stream_fds_free(f.fds);
			}
			p->size = f.size;
			msgpack_unpacked_init(&u);
			assert_int_equal(msgpack_unpack_next(&u, f.data, f.size, &off),
					 MSGPACK_UNPACK_SUCCESS);
			msgpack_object_print_buffer(p->text, sizeof(p->text), u.data);
			msgpack_unpacked_destroy(&u);
			return p->text;
		}
		assert_int_equal(reader_settle(&p->reader), 0);
		turn(p->fx);
		r = reader_fill(&p->reader, p->fd, p->buf, sizeof(p->buf), &got);
		if (r == READER_E_END || r == -ECONNRESET || r == -EPIPE)
			return "END";
		if (!r)
			continue;
		assert_int_equal(r, -EAGAIN);
		if (ms <= 0)
			return "";
		poll(&pf, 1, 1);
	}
}

#define PATIENCE 2000

/* Asks and compares the answer's text. */
#define expect(p, msgid, method, json, text)                                                       \
	do {                                                                                       \
		peer_request(p, msgid, method, json);                                              \
		assert_string_equal(peer_next(p, PATIENCE), text);                                 \
	} while (0)
#define expect_next(p, text) assert_string_equal(peer_next(p, PATIENCE), text)
#define expect_silence(p)                                                                          \
	do {                                                                                       \
		turns((p)->fx, 5);                                                                 \
		assert_string_equal(peer_next(p, 0), "");                                          \
	} while (0)
