// SPDX-License-Identifier: Apache-2.0
#include "ipc_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#include "ipc/client.h"
#include "util/clock.h"

/* The server runs in a child: the client blocks. */
static void do_get(struct ipc_request *req, void *user)
{
	msgpack_packer *pk = ipc_reply_begin(req);
	int64_t notes = ipc_arg_int(req, "notes", 0);

	(void)user;
	for (int64_t i = 0; i < notes; i++)
		ipc_conn_send(ipc_request_conn(req), "\x93\x02\xa4note\x91\x01", 9);
	msgpack_pack_map(pk, 1);
	mp_pack_key_int(pk, "notes", notes);
	ipc_reply_end(req);
}

static void do_fd(struct ipc_request *req, void *user)
{
	int fd = ipc_arg_fd(req, "stream");
	msgpack_packer *pk = ipc_reply_begin(req);
	char name[16];

	(void)user;
	snprintf(name, sizeof(name), "fd:%d", ipc_reply_fd(req, fd));
	msgpack_pack_map(pk, 1);
	mp_pack_key_str(pk, "fd", name);
	ipc_reply_end(req);
}

static void do_fail(struct ipc_request *req, void *user)
{
	struct fault f;

	(void)user;
	fault_sys(&f, ENOENT, "open", "/x");
	fault_arg(&f, "id");
	f.exit_code = 127;
	strcpy(f.log, "one\ntwo");
	ipc_reply_fault(req, &f);
}

static struct ipc_request *kept;

static void do_keep(struct ipc_request *req, void *user)
{
	(void)user;
	if (kept)
		ipc_reply_empty(kept);
	kept = req;
}

static void do_bytes(struct ipc_request *req, void *user)
{
	size_t n = (size_t)ipc_arg_int(req, "bytes", 0);
	msgpack_packer *pk = ipc_reply_begin(req);
	char *data = calloc(1, n + 1);

	(void)user;
	msgpack_pack_map(pk, 1);
	mp_pack_key(pk, "data");
	msgpack_pack_bin_with_body(pk, data, n);
	free(data);
	ipc_reply_end(req);
}

static void do_exit(struct ipc_request *req, void *user)
{
	(void)req;
	(void)user;
	_exit(0);
}

#define P_END                                                                                      \
	{                                                                                          \
		NULL, IPC_ANY, 0, 0, 0, NULL, NULL                                                 \
	}
static const struct ipc_param get_params[] = { { "notes", IPC_INT, 0, 0, 0, NULL, "" },
					       { "bytes", IPC_INT, 0, 0, 0, NULL, "" },
					       { "data", IPC_BIN, 0, 0, 0, NULL, "" },
					       P_END };
static const struct ipc_param fd_params[] = { { "stream", IPC_FD, IPC_REQUIRED, 0, 0, NULL, "" },
					      P_END };
static const struct ipc_method methods[] = {
	{ "t.get", "", 0, get_params, NULL, NULL, do_get },
	{ "t.fd", "", 0, fd_params, NULL, NULL, do_fd },
	{ "t.fail", "", 0, NULL, NULL, NULL, do_fail },
	{ "t.keep", "", 0, NULL, NULL, NULL, do_keep },
	{ "t.bytes", "", 0, get_params, NULL, NULL, do_bytes },
	{ "t.exit", "", 0, NULL, NULL, NULL, do_exit },
	{ NULL, NULL, 0, NULL, NULL, NULL, NULL },
};

struct context {
	struct client *c;
	char path[108];
	pid_t pid;
};

static int setup(void **state)
{
	struct context *x = calloc(1, sizeof(*x));
	struct fixture *fx = fixture_new(methods, NULL);

	assert_non_null(x);
	snprintf(x->path, sizeof(x->path), "%s", fx->addr.sun_path);
	x->pid = fork();
	assert_true(x->pid >= 0);
	if (!x->pid) {
		alarm(60);
		event_reinit(fx->base);
		event_base_dispatch(fx->base);
		_exit(0);
	}
	ipc_server_free(fx->server);
	event_base_free(fx->base);
	close(fx->listener);
	free(fx);
	assert_int_equal(client_open(&x->c, x->path), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct context *x = *state;

	client_close(x->c);
	kill(x->pid, SIGKILL);
	waitpid(x->pid, NULL, 0);
	unlink(x->path);
	free(x);
	return 0;
}

static msgpack_sbuffer *json_params(const char *json)
{
	msgpack_sbuffer *sb = msgpack_sbuffer_new();
	msgpack_packer pk;

	assert_non_null(sb);
	mp_packer_init(&pk, sb);
	pack_json(&pk, json);
	return sb;
}

static void test_open(void **state)
{
	struct client *c = NULL;
	char path[256];

	(void)state;
	assert_int_equal(client_open(&c, "/tmp/davit-test-none.sock"), -ENOENT);
	memset(path, 'x', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(client_open(&c, path), -ENAMETOOLONG);
	assert_int_equal(setenv("DAVIT_SOCKET", ((struct context *)*state)->path, 1), 0);
	assert_int_equal(client_open(&c, NULL), 0);
	assert_true(client_fd(c) >= 0);
	client_close(c);
	client_close(NULL);
	unsetenv("DAVIT_SOCKET");
}

static void test_call(void **state)
{
	struct context *x = *state;
	msgpack_sbuffer *sb = json_params("{\"notes\":0}");
	struct client_msg msg;
	struct fault f;
	int64_t v;

	assert_int_equal(client_call(x->c, "t.get", sb, NULL, 0, &msg, &f), 0);
	assert_true(mp_int(mp_get(&msg.result, "notes"), &v));
	assert_int_equal(v, 0);
	assert_int_equal(msg.error.type, MSGPACK_OBJECT_NIL);
	client_msg_clear(&msg);
	assert_int_equal(client_call(x->c, "t.get", NULL, NULL, 0, &msg, &f), 0);
	client_msg_clear(&msg);
	assert_int_equal(client_recv(x->c, 0, &msg), -EAGAIN);
	msgpack_sbuffer_free(sb);
}

static void test_faults(void **state)
{
	struct context *x = *state;
	msgpack_sbuffer *sb = json_params("{\"errors\":\"string\"}");
	struct client_msg msg;
	struct fault f;

	assert_int_equal(client_call(x->c, "t.fail", NULL, NULL, 0, &msg, &f), -ENOENT);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	assert_int_equal(f.err, ENOENT);
	assert_int_equal(f.exit_code, 127);
	assert_string_equal(f.message, "t.fail: id: open /x: No such file or directory");
	assert_string_equal(f.argument, "id");
	assert_string_equal(f.step, "open");
	assert_string_equal(f.path, "/x");
	assert_string_equal(f.log, "one\ntwo");
	assert_true(client_call(x->c, "t.none", NULL, NULL, 0, &msg, &f) < 0);
	assert_int_equal(f.code, FAULT_UNIMPLEMENTED);

	assert_int_equal(client_call(x->c, "rpc.options", sb, NULL, 0, &msg, &f), 0);
	client_msg_clear(&msg);
	assert_true(client_call(x->c, "t.fail", NULL, NULL, 0, &msg, &f) < 0);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	assert_string_equal(f.message, "t.fail: id: open /x: No such file or directory");
	/* without room for a fault */
	assert_true(client_call(x->c, "t.fail", NULL, NULL, 0, &msg, NULL) < 0);
	msgpack_sbuffer_free(sb);
}

static void count(void *user, const struct client_msg *msg)
{
	assert_int_equal(msg->type, 2);
	assert_true(mp_eq(&msg->method, "note"));
	assert_int_equal(msg->params.via.array.size, 1);
	++*(int *)user;
}

static void test_notifications(void **state)
{
	struct context *x = *state;
	msgpack_sbuffer *sb = json_params("{\"notes\":3}");
	struct client_msg msg;
	struct fault f;
	int n = 0;

	/* without a handler they wait */
	assert_int_equal(client_call(x->c, "t.get", sb, NULL, 0, &msg, &f), 0);
	client_msg_clear(&msg);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(client_recv(x->c, 1000, &msg), 0);
		count(&n, &msg);
		client_msg_clear(&msg);
	}
	assert_int_equal(client_recv(x->c, 0, &msg), -EAGAIN);
	client_on_notify(x->c, count, &n);
	assert_int_equal(client_call(x->c, "t.get", sb, NULL, 0, &msg, &f), 0);
	client_msg_clear(&msg);
	assert_int_equal(n, 6);
	msgpack_sbuffer_free(sb);
}

static void test_fds(void **state)
{
	struct context *x = *state;
	msgpack_sbuffer *sb = json_params("{\"stream\":\"fd:0\"}");
	struct client_msg msg;
	struct fault f;
	int ends[2];
	char c;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(client_call(x->c, "t.fd", sb, ends + 1, 1, &msg, &f), 0);
	assert_true(mp_eq(mp_get(&msg.result, "fd"), "fd:0"));
	assert_int_equal(msg.n_fds, 1);
	close(ends[1]);
	assert_int_equal(write(msg.fds[0], "x", 1), 1);
	client_msg_clear(&msg);
	assert_int_equal(read(ends[0], &c, 1), 1);
	assert_int_equal(read(ends[0], &c, 1), 0);
	close(ends[0]);
	msgpack_sbuffer_free(sb);
}

static void test_out_of_order(void **state)
{
	struct context *x = *state;
	struct client_msg msg;
	struct fault f;
	uint32_t a, b;

	assert_int_equal(client_send(x->c, "t.keep", NULL, NULL, 0, &a), 0);
	assert_int_equal(client_send(x->c, "t.keep", NULL, NULL, 0, &b), 0);
	assert_int_not_equal(a, b);
	/* the answer to a comes while another is awaited */
	assert_int_equal(client_call(x->c, "t.get", NULL, NULL, 0, &msg, &f), 0);
	client_msg_clear(&msg);
	assert_int_equal(client_recv(x->c, 1000, &msg), 0);
	assert_int_equal(msg.type, 1);
	assert_int_equal(msg.msgid, a);
	client_msg_clear(&msg);
	assert_int_equal(client_recv(x->c, 20, &msg), -EAGAIN);
}

/* Sends far more than the sockets hold before it reads one answer. */
static void test_no_deadlock(void **state)
{
	struct context *x = *state;
	msgpack_sbuffer *sb = json_params(
		"{\"bytes\":30000,\"data\":\"0123456789012345678901234567\"}");
	struct client_msg msg;
	uint32_t id;

	for (int i = 0; i < 5000; i++)
		assert_int_equal(client_send(x->c, "t.bytes", sb, NULL, 0, &id), 0);
	for (uint32_t i = 0; i < 5000; i++) {
		assert_int_equal(client_recv(x->c, 5000, &msg), 0);
		assert_int_equal(msg.msgid, i);
		client_msg_clear(&msg);
	}
	msgpack_sbuffer_free(sb);
	sb = json_params("{\"bytes\":20000000}");
	assert_int_equal(client_call(x->c, "t.bytes", sb, NULL, 0, &msg, NULL), 0);
	assert_int_equal(mp_get(&msg.result, "data")->via.bin.size, 20000000);
	client_msg_clear(&msg);
	msgpack_sbuffer_free(sb);
}

static void test_daemon_goes(void **state)
{
	struct context *x = *state;
	struct client_msg msg;
	struct fault f;
	uint32_t id;

	assert_int_equal(client_call(x->c, "t.exit", NULL, NULL, 0, &msg, &f), -EPIPE);
	assert_int_equal(f.code, FAULT_UNAVAILABLE);
	assert_int_equal(client_recv(x->c, 1000, &msg), -EPIPE);
	assert_int_equal(client_send(x->c, "t.get", NULL, NULL, 0, &id), -EPIPE);
}

static void test_timeout(void **state)
{
	struct context *x = *state;
	struct client_msg msg;
	int64_t before = clock_mono();

	assert_int_equal(client_recv(x->c, 30, &msg), -EAGAIN);
	assert_true(clock_mono() - before >= 29 * 1000000ll);
}

/* A server that talks nonsense. */
static void nonsense(const char *data, size_t size, int expected)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	struct client_msg msg;
	struct client *c;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/tmp/davit-test-%d-n.sock", (int)getpid());
	unlink(addr.sun_path);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(client_open(&c, addr.sun_path), 0);
	fd = accept(listener, NULL, NULL);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
	assert_int_equal(client_recv(c, 1000, &msg), expected);
	client_close(c);
	close(listener);
	unlink(addr.sun_path);
}

static void test_nonsense(void **state)
{
	(void)state;
	nonsense("HTTP", 4, -EPROTO);
	nonsense("\xdd\x0f\xff\xff\xff", 5, -EPROTO);
	nonsense("\x94\x01\xff\xc0\xc0", 5, -EPROTO);
	nonsense("\x94\x00\x01\xc0\xc0", 5, -EPROTO);
	nonsense("\x93\x01\x01\xc0", 4, -EPROTO);
	nonsense("\xc1", 1, -EPROTO);
	nonsense("\x94\x01\x01", 3, -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_open),	TEST(test_call),
		TEST(test_faults),	TEST(test_notifications),
		TEST(test_fds),		TEST(test_out_of_order),
		TEST(test_no_deadlock), TEST(test_daemon_goes),
		TEST(test_timeout),	cmocka_unit_test(test_nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
