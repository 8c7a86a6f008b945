// SPDX-License-Identifier: Apache-2.0
#include "ipc_methods.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* What ends a connection, and only that one. */
static void test_broken_protocol(void **state)
{
	struct context *c = *state;
#define BYTES(s)                                                                                   \
	{                                                                                          \
		s, sizeof(s) - 1                                                                   \
	}
	static const struct {
		const char *data;
		size_t size;
	} broken[] = {
		BYTES("G"),
		BYTES("GET / HTTP/1.0\r\n"),
		BYTES("\xdd\x0f\xff\xff\xff"),
		BYTES("\xc1"),
		BYTES("\xc0"),
		BYTES("\x80"),
		BYTES("\x90"),
		BYTES("\x92\x00\x01"),
		BYTES("\x95\x00\x01\xa1x\x90\x90"),
		BYTES("\x94\x01\x01\xc0\xc0"), /* an answer */
		BYTES("\x94\x02\x01\xa1x\x90"),
		BYTES("\x93\x00\xa1x\x90"),
		BYTES("\x94\xa1"
		      "0\x01\xa1x\x90"),
		BYTES("\x94\x00\xff\xa1x\x90"), /* msgid -1 */
		BYTES("\x94\x00\xd0\x80\xa1x\x90"),
		BYTES("\x94\x00\xcf\x00\x00\x00\x01\x00\x00\x00\x00\xa1x\x90"), /* 2^32 */
		BYTES("\x94\x00\xca\x00\x00\x00\x00\xa1x\x90"), /* a float */
		BYTES("\x94\x00\xc0\xa1x\x90"),
		BYTES("\x94\x00\x01\x05\x90"), /* the method */
		BYTES("\x94\x00\x01\xc0\x90"),
		BYTES("\x94\x00\x01\x91\xa1x\x90"),
		BYTES("\x93\x02\x01\x90"),
		BYTES("\xc6\x01\x00\x00\x01"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct peer *p = peer_new(c->fx);

		/* the good one before it is answered */
		peer_request(p, 1, "t.get", "{\"id\":\"x\"}");
		peer_write(p, broken[i].data, broken[i].size, NULL, 0);
		expect_next(p, "[1, 1, nil, {\"id\"=>\"x\"}]");
		expect_next(p, "END");
		peer_free(p);
	}
	expect(c->p, 2, "t.get", "{\"id\":\"y\"}", "[1, 2, nil, {\"id\"=>\"y\"}]");
	assert_int_equal(stats(c).connections, 1);
}

static void test_depth(void **state)
{
	struct context *c = *state;
	/* frame, params, map and list are four levels */
	char data[128] = "\x94\x00\x01\xa5t.get\x91\x82\xa2id\xa1x\xa4list";
	size_t head = strlen(data + 2) + 2;

	for (int deep = 0; deep < 2; deep++) {
		size_t n = LIMIT_FRAME_DEPTH - 3 + (size_t)deep;

		memset(data + head, 0x91, n);
		data[head + n - 1] = (char)0x90;
		peer_write(c->p, data, head + n, NULL, 0);
		expect_next(c->p, deep ? "END" : "[1, 1, nil, {\"id\"=>\"x\"}]");
	}
}

static void test_sizes(void **state)
{
	struct context *c = *state;
	const size_t most = LIMIT_FRAME_BYTES;
	static const char head[] = "\x94\x00\x01\xa5t.get\x91\x82\xa2id\xa1x\xa4"
				   "data\xc6";
	const size_t n = sizeof(head) - 1;
	char *data = calloc(1, most + 1);

	assert_non_null(data);
	memcpy(data, head, n);
	for (size_t more = 0; more < 2; more++) {
		size_t body = most - n - 4 + more;

		data[n] = (char)(body >> 24);
		data[n + 1] = (char)(body >> 16);
		data[n + 2] = (char)(body >> 8);
		data[n + 3] = (char)body;
		if (!more) {
			peer_write(c->p, data, most, NULL, 0);
			expect_next(c->p, "[1, 1, nil, {\"id\"=>\"x\"}]");
			expect(c->p, 2, "t.get", "{\"id\":\"y\"}", "[1, 2, nil, {\"id\"=>\"y\"}]");
		} else {
			/* told by the head alone */
			peer_write(c->p, data, n + 4, NULL, 0);
			expect_next(c->p, "END");
		}
	}
	free(data);
}

static void test_many_values(void **state)
{
	struct context *c = *state;
	static const char head[] = "\x94\x00\x01\xa5t.get\x91\x82\xa2id\xa1x\xa4list\xdd";
	const size_t n = sizeof(head) - 1, most = LIMIT_FRAME_ITEMS;
	char *data = malloc(n + 4 + most);

	assert_non_null(data);
	memset(data, 0xc0, n + 4 + most);
	memcpy(data, head, n);
	data[n] = 0;
	data[n + 1] = (char)(most >> 16);
	data[n + 2] = (char)(most >> 8);
	data[n + 3] = (char)most;
	peer_write(c->p, data, n + 4 + most, NULL, 0);
	expect_next(c->p, "[1, 1, " ERROR("resource_exhausted",
					  "t.get: the request has more than 1048576 values",
					  "") ", nil]");
	expect(c->p, 2, "t.get", "{\"id\":\"y\"}", "[1, 2, nil, {\"id\"=>\"y\"}]");
	free(data);
}

static void test_byte_by_byte(void **state)
{
	struct context *c = *state;
	msgpack_sbuffer sb;

	msgpack_sbuffer_init(&sb);
	pack_request(&sb, 1, "t.get", "{\"id\":\"abc\",\"data\":\"0123456789\"}");
	pack_request(&sb, 2, "t.get", "{\"id\":\"def\"}");
	for (size_t i = 0; i < sb.size; i++) {
		peer_write(c->p, sb.data + i, 1, NULL, 0);
		turn(c->fx);
	}
	expect_next(c->p, "[1, 1, nil, {\"id\"=>\"abc\"}]");
	expect_next(c->p, "[1, 2, nil, {\"id\"=>\"def\"}]");
	msgpack_sbuffer_destroy(&sb);
}

static void test_pipeline(void **state)
{
	struct context *c = *state;
	const unsigned n = 20000;
	msgpack_sbuffer sb;
	char text[64];

	msgpack_sbuffer_init(&sb);
	for (unsigned i = 0; i < n; i++)
		pack_request(&sb, i, "t.get", "{\"id\":\"abc\"}");
	peer_write(c->p, sb.data, sb.size, NULL, 0);
	for (unsigned i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "[1, %u, nil, {\"id\"=>\"abc\"}]", i);
		expect_next(c->p, text);
	}
	msgpack_sbuffer_destroy(&sb);
}

/* A peer that asks and does not read: nothing is dropped, and what waits is bounded. */
static void test_slow_reader(void **state)
{
	struct context *c = *state;
	const unsigned n = 3000;
	msgpack_sbuffer sb;
	unsigned got = 0;
	size_t sent = 0;
	char text[64];

	expect(c->p, 0, "t.watch", NULL, "[1, 0, nil, {}]");
	msgpack_sbuffer_init(&sb);
	for (unsigned i = 0; i < n; i++)
		pack_request(&sb, i, "t.bytes", "{\"bytes\":20000,\"data\":\"0123456789\"}");
	/* until the server reads no more */
	for (int idle = 0; idle < 20 && sent < sb.size;) {
		struct iovec iov = { sb.data + sent, sb.size - sent };
		ssize_t r = stream_sendv(c->p->fd, &iov, 1, NULL, 0);

		turn(c->fx);
		idle = r > 0 ? 0 : idle + 1;
		sent += r > 0 ? (size_t)r : 0;
		assert_true(ipc_conn_backlog(c->conn) < LIMIT_CONN_BACKLOG + 21000);
	}
	assert_true(ipc_conn_backlog(c->conn) > LIMIT_CONN_BACKLOG);
	assert_true(stats(c).requests < 200);
	assert_int_equal(c->drained, 0);
	/* another connection is served meanwhile */
	{
		struct peer *p = peer_new(c->fx);

		expect(p, 1, "t.get", "{\"id\":\"x\"}", "[1, 1, nil, {\"id\"=>\"x\"}]");
		peer_free(p);
	}
	while (got < n) {
		struct iovec iov = { sb.data + sent, sb.size - sent };
		ssize_t r = sent < sb.size ? stream_sendv(c->p->fd, &iov, 1, NULL, 0) : 0;

		sent += r > 0 ? (size_t)r : 0;
		snprintf(text, sizeof(text), "[1, %u, nil, ", got);
		assert_non_null(strstr(peer_next(c->p, PATIENCE), text));
		got++;
	}
	turns(c->fx, 3);
	assert_true(c->drained > 0);
	assert_int_equal(ipc_conn_backlog(c->conn), 0);
	msgpack_sbuffer_destroy(&sb);
}

/* Answers far larger than the socket's buffer, and than the backlog. */
static void test_large_answers(void **state)
{
	struct context *c = *state;

	peer_request(c->p, 1, "t.bytes", "{\"bytes\":4194304}");
	peer_request(c->p, 2, "t.bytes", "{\"bytes\":33000}");
	peer_request(c->p, 3, "t.bytes", "{\"bytes\":3}");
	for (int i = 0; i < 3; i++) {
		static const size_t sizes[] = { 4194304, 33000, 3 };

		assert_non_null(strstr(peer_next(c->p, PATIENCE), "nil, {"));
		assert_in_range(c->p->size, sizes[i], sizes[i] + 20);
	}
}

/* Large requests in flight are held by not reading more. */
static void test_held_requests(void **state)
{
	struct context *c = *state;
	const size_t size = 8u << 20;
	char *data = calloc(1, size + 100);
	static const char head[] = "\x94\x00\x01\xa6t.keep\x91\x81\xa4"
				   "data\xc6";
	const size_t n = sizeof(head) - 1;
	size_t sent = 0, all = 12 * (n + 4 + size);
	int idle = 0;

	assert_non_null(data);
	memcpy(data, head, n);
	data[n + 1] = (char)(size >> 16);
	while (sent < all && idle < 20) {
		size_t at = sent % (n + 4 + size);
		struct iovec iov = { data + at, n + 4 + size - at };
		ssize_t r = stream_sendv(c->p->fd, &iov, 1, NULL, 0);

		turn(c->fx);
		idle = r > 0 ? 0 : idle + 1;
		sent += r > 0 ? (size_t)r : 0;
	}
	assert_int_equal(c->n_kept, LIMIT_CONN_HELD_BYTES / size);
	assert_true(sent < all);
	for (size_t done = 0; done < 12; done++) {
		assert_non_null(c->kept[done]);
		ipc_reply_empty(c->kept[done]);
		c->kept[done] = NULL;
		expect_next(c->p, "[1, 1, nil, {}]");
		for (idle = 0; sent < all && idle < 20;) {
			size_t at = sent % (n + 4 + size);
			struct iovec iov = { data + at, n + 4 + size - at };
			ssize_t r = stream_sendv(c->p->fd, &iov, 1, NULL, 0);

			turn(c->fx);
			idle = r > 0 ? 0 : idle + 1;
			sent += r > 0 ? (size_t)r : 0;
		}
	}
	assert_int_equal(sent, all);
	free(data);
}

static void test_limit_requests(void **state)
{
	struct context *c = *state;
	msgpack_sbuffer sb;

	msgpack_sbuffer_init(&sb);
	for (unsigned i = 0; i < LIMIT_CONN_REQUESTS; i++)
		pack_request(&sb, i, "t.cancellable", NULL);
	peer_write(c->p, sb.data, sb.size, NULL, 0);
	expect_silence(c->p);
	assert_int_equal(stats(c).in_flight, LIMIT_CONN_REQUESTS);
	expect(c->p, 5000, "t.get", "{\"id\":\"x\"}",
	       "[1, 5000, " ERROR(
		       "resource_exhausted",
		       "t.get: 1024 requests are in flight on this connection, the limit",
		       "") ", nil]");
	/* waits are counted apart, another connection has its own, and cancelling works */
	peer_request(c->p, 5001, "t.wait", NULL);
	{
		struct peer *p = peer_new(c->fx);

		expect(p, 1, "t.get", "{\"id\":\"x\"}", "[1, 1, nil, {\"id\"=>\"x\"}]");
		peer_free(p);
	}
	peer_request(c->p, 5002, "rpc.cancel", "{\"msgid\":3}");
	expect_next(c->p, "[1, 3, " ERROR("cancelled", "t.cancellable: cancelled", "") ", nil]");
	expect_next(c->p, "[1, 5002, nil, {\"cancelled\"=>true}]");
	expect(c->p, 5003, "t.get", "{\"id\":\"x\"}", "[1, 5003, nil, {\"id\"=>\"x\"}]");
	msgpack_sbuffer_destroy(&sb);
}

static void test_limit_waits(void **state)
{
	struct context *c = *state;
	msgpack_sbuffer sb;

	msgpack_sbuffer_init(&sb);
	for (unsigned i = 0; i < LIMIT_CONN_WAITS; i++)
		pack_request(&sb, i, "t.wait", NULL);
	peer_write(c->p, sb.data, sb.size, NULL, 0);
	expect_silence(c->p);
	assert_int_equal(stats(c).in_flight, LIMIT_CONN_WAITS);
	expect(c->p, 70000, "t.wait", NULL,
	       "[1, 70000, " ERROR(
		       "resource_exhausted",
		       "t.wait: 65536 of its calls are in flight on this connection, the limit",
		       "") ", nil]");
	expect(c->p, 70001, "t.get", "{\"id\":\"x\"}", "[1, 70001, nil, {\"id\"=>\"x\"}]");
	/* all at once */
	peer_free(c->p);
	c->p = NULL;
	turns(c->fx, 3);
	assert_int_equal(c->cancelled, LIMIT_CONN_WAITS);
	assert_int_equal(stats(c).in_flight, 0);
	msgpack_sbuffer_destroy(&sb);
}

static void test_limit_connections(void **state)
{
	struct context *c = *state;
	struct rlimit want = { 4096, 4096 }, old;
	struct peer *more, *next;
	int *fds = malloc((LIMIT_CONNECTIONS + 80) * sizeof(int));

	assert_non_null(fds);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	want.rlim_max = old.rlim_max > 4096 ? old.rlim_max : 4096;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &want), 0);
	for (unsigned i = 1; i < LIMIT_CONNECTIONS; i++) {
		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(
			connect(fds[i], (struct sockaddr *)&c->fx->addr, sizeof(c->fx->addr)), 0);
		if (i % 256 == 0)
			turns(c->fx, 10);
	}
	turns(c->fx, 40);
	assert_int_equal(stats(c).connections, LIMIT_CONNECTIONS);
	/* one too many is told so, and closed */
	more = peer_new(c->fx);
	expect(more, 1, "version", NULL,
	       "[1, 1, " ERROR("resource_exhausted",
			       "version: 1024 connections are open, which is the limit",
			       "") ", nil]");
	expect_next(more, "END");
	peer_free(more);
	assert_int_equal(stats(c).refused, 1);
	/* those that say nothing are a bounded number */
	for (unsigned i = 0; i < LIMIT_CONNECTIONS_REFUSED; i++) {
		fds[LIMIT_CONNECTIONS + i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[LIMIT_CONNECTIONS + i],
					 (struct sockaddr *)&c->fx->addr, sizeof(c->fx->addr)),
				 0);
	}
	turns(c->fx, 10);
	more = peer_new(c->fx);
	expect_next(more, "END");
	peer_free(more);
	/* the old ones work, and a place that is free is given again */
	expect(c->p, 1, "t.get", "{\"id\":\"x\"}", "[1, 1, nil, {\"id\"=>\"x\"}]");
	close(fds[1]);
	turns(c->fx, 3);
	next = peer_new(c->fx);
	expect(next, 1, "t.get", "{\"id\":\"x\"}", "[1, 1, nil, {\"id\"=>\"x\"}]");
	peer_free(next);
	for (unsigned i = 2; i < LIMIT_CONNECTIONS + LIMIT_CONNECTIONS_REFUSED; i++)
		close(fds[i]);
	free(fds);
	turns(c->fx, 50);
	assert_int_equal(stats(c).connections, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_half_close(void **state)
{
	struct context *c = *state;

	/* answered though the peer says no more */
	peer_request(c->p, 1, "t.keep", NULL);
	peer_request(c->p, 2, "t.bytes", "{\"bytes\":3000000}");
	assert_int_equal(shutdown(c->p->fd, SHUT_WR), 0);
	assert_non_null(strstr(peer_next(c->p, PATIENCE), "[1, 2, nil, "));
	expect_silence(c->p);
	ipc_reply_empty(c->kept[0]);
	c->n_kept = 0;
	expect_next(c->p, "[1, 1, nil, {}]");
	expect_next(c->p, "END");
	peer_free(c->p);

	/* and then goes */
	c->p = peer_new(c->fx);
	peer_request(c->p, 1, "t.cancellable", NULL);
	assert_int_equal(shutdown(c->p->fd, SHUT_WR), 0);
	expect_silence(c->p);
	peer_free(c->p);
	c->p = NULL;
	for (int i = 0; i < 100 && !c->cancelled; i++) {
		usleep(10000);
		turn(c->fx);
	}
	assert_int_equal(c->cancelled, 1);
	assert_int_equal(stats(c).connections, 0);
}

static void test_too_many_fds(void **state)
{
	struct context *c = *state;
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(17 * sizeof(int))];
	} control = { 0 };
	msgpack_sbuffer sb;
	struct iovec iov;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.room,
			      .msg_controllen = sizeof(control.room) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&msg);
	int fds[17] = { 0 };

	msgpack_sbuffer_init(&sb);
	pack_request(&sb, 1, "t.get", "{\"id\":\"x\"}");
	iov.iov_base = sb.data;
	iov.iov_len = sb.size;
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cm), fds, sizeof(fds));
	assert_int_equal(sendmsg(c->p->fd, &msg, 0), sb.size);
	expect_next(c->p,
		    "[1, 1, " ERROR("resource_exhausted",
				    "t.get: more than 16 fds were passed, or no more can be opened",
				    "") ", nil]");
	expect(c->p, 2, "t.get", "{\"id\":\"x\"}", "[1, 2, nil, {\"id\"=>\"x\"}]");
	msgpack_sbuffer_destroy(&sb);
}

/* Another user, with the group or without. */
static void as_other(struct context *c, gid_t gid, gid_t extra, bool allowed)
{
	int status = -1, ready[2];
	char answer = 0;
	pid_t pid;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		static const char ask[] = "\x94\x00\x01\xa7version\x90";
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		char buf[256];

		if (setgroups(extra != 0, &extra) || setgid(gid) || setuid(65534))
			_exit(3);
		if (connect(fd, (struct sockaddr *)&c->fx->addr, sizeof(c->fx->addr)))
			_exit(4);
		if (send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) < 0 && errno != EPIPE)
			_exit(5);
		_exit(read(fd, buf, sizeof(buf)) > 0 ? 0 : 1);
	}
	close(ready[1]);
	for (int i = 0; i < 2000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
		turn(c->fx);
		usleep(1000);
	}
	assert_int_equal(read(ready[0], &answer, 1), 0);
	close(ready[0]);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), allowed ? 0 : 1);
}

static void test_peers(void **state)
{
	struct context *c = *state;
	struct fixture *fx = c->fx;

	if (getuid() != 0) {
		fprintf(stderr, "SKIPPED: other users can be only by root\n");
		skip();
	}
	assert_int_equal(chmod(fx->addr.sun_path, 0666), 0);
	as_other(c, 65534, 0, false);
	ipc_server_free(fx->server);
	assert_int_equal(ipc_server_new(&fx->server, fx->base, fx->listener, 4242), 0);
	as_other(c, 65534, 0, false);
	as_other(c, 65534, 4243, false);
	as_other(c, 4242, 0, true);
	as_other(c, 65534, 4242, true);
	assert_int_equal(stats(c).refused, 2);
}

/* accept has no fd left: the server rests, and goes on when there is one. */
static void test_no_fds_for_accept(void **state)
{
	struct context *c = *state;
	struct rlimit old, tight;
	struct peer *p;
	int top;

	turns(c->fx, 3);
	p = peer_new(c->fx);
	top = dup(0);
	close(top);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)top;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	turns(c->fx, 5);
	assert_int_equal(stats(c).accepted, 1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	expect(p, 1, "t.get", "{\"id\":\"x\"}", "[1, 1, nil, {\"id\"=>\"x\"}]");
	peer_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_broken_protocol), TEST(test_depth),
		TEST(test_sizes),	    TEST(test_many_values),
		TEST(test_byte_by_byte),    TEST(test_pipeline),
		TEST(test_slow_reader),	    TEST(test_large_answers),
		TEST(test_held_requests),   TEST(test_limit_requests),
		TEST(test_limit_waits),	    TEST(test_limit_connections),
		TEST(test_half_close),	    TEST(test_too_many_fds),
		TEST(test_peers),	    TEST(test_no_fds_for_accept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
