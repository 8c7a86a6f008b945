// SPDX-License-Identifier: Apache-2.0
#include "ipc_methods.h"

static void count_calls(void *user, const struct ipc_method *m, uint64_t calls)
{
	size_t used = strlen(user);

	sprintf((char *)user + used, "%s=%d ", m->name, (int)calls);
}

static void test_basics(void **state)
{
	struct context *c = *state;
	char text[256] = "";

	expect(c->p, 0, "version", NULL,
	       "[1, 0, nil, {\"version\"=>\"1.2.3\", \"revision\"=>\"abc\", \"api\"=>1}]");
	expect(c->p, 7, "t.get", "{\"id\":\"x\"}", "[1, 7, nil, {\"id\"=>\"x\"}]");
	assert_int_equal(c->namespaces, 1);
	expect(c->p, 8, "t.get", "{\"id\":\"x\",\"namespace\":\"forbidden\"}",
	       "[1, 8, " ERROR("failed_precondition", "t.get: namespace: not this one",
			       "\"argument\"=>\"namespace\"") ", nil]");
	assert_int_equal(stats(c).requests, 3);
	assert_int_equal(stats(c).in_flight, 0);
	assert_int_equal(stats(c).connections, 1);
	assert_int_equal(stats(c).accepted, 1);
	assert_true(stats(c).bytes_in > 30 && stats(c).bytes_out > 60);
	ipc_server_each_method(c->fx->server, count_calls, text);
	assert_non_null(strstr(text, "version=1 "));
	assert_non_null(strstr(text, "t.get=2 "));
	assert_null(strstr(text, "t.keep"));
	assert_int_equal(ipc_server_add(c->fx->server, methods, NULL), -EEXIST);
}

static void test_errors(void **state)
{
	struct context *c = *state;

	expect(c->p, 1, "t.fail", "{\"kind\":0}",
	       "[1, 1, " ERROR("not_found", "t.fail: open /x/y: No such file or directory",
			       "\"step\"=>\"open\", \"path\"=>\"/x/y\", \"errno\"=>2, "
			       "\"errname\"=>\"ENOENT\", \"exit_code\"=>127, "
			       "\"log\"=>[\"one\", \"two\"]") ", nil]");
	expect(c->p, 1, "t.fail", "{\"kind\":1}",
	       "[1, 1, " ERROR("not_found", "t.fail: id: no container a",
			       "\"argument\"=>\"id\"") ", nil]");
	expect(c->p, 1, "t.fail", "{\"kind\":2}",
	       "[1, 1, " ERROR("aborted", "t.fail: id: said already",
			       "\"argument\"=>\"id\"") ", nil]");
	expect(c->p, 1, "t.fail", "{\"kind\":3}",
	       "[1, 1, " ERROR("unavailable", "t.fail: later", "") ", nil]");
	assert_int_equal(c->p->n_fds, 0);
	expect(c->p, 1, "t.fail", "{\"kind\":4}",
	       "[1, 1, " ERROR("unknown", "t.fail: ", "") ", nil]");

	for (int kind = 0; kind < 3; kind++) {
		char json[32];

		snprintf(json, sizeof(json), "{\"kind\":%d}", kind);
		expect(c->p, 1, "t.bad", json,
		       "[1, 1, " ERROR("internal", "t.bad: the answer was packed wrongly",
				       "") ", nil]");
	}

	expect(c->p, 1, "rpc.options", NULL, "[1, 1, nil, {\"errors\"=>\"map\"}]");
	expect(c->p, 1, "rpc.options", "{\"errors\":\"string\"}",
	       "[1, 1, nil, {\"errors\"=>\"string\"}]");
	expect(c->p, 1, "t.fail", "{\"kind\":1}",
	       "[1, 1, \"not_found: t.fail: id: no container a\", nil]");
	expect(c->p, 1, "no.such", NULL, "[1, 1, \"unimplemented: no.such: no such method\", nil]");
	expect(c->p, 1, "rpc.options", "{\"errors\":\"xml\"}",
	       "[1, 1, \"invalid_argument: rpc.options: errors: must be \"map\" or \"string\"\", nil]");
	expect(c->p, 1, "rpc.options", "{\"errors\":\"map\"}",
	       "[1, 1, nil, {\"errors\"=>\"map\"}]");
	expect(c->p, 1, "t.fail", "{\"kind\":1}",
	       "[1, 1, " ERROR("not_found", "t.fail: id: no container a",
			       "\"argument\"=>\"id\"") ", nil]");
}

static const struct ipc_topic topics[] = {
	{ "/t/one", "a b", "first" },
	{ "/t/two", "", "second" },
	{ NULL, NULL, NULL },
};

static void test_describe(void **state)
{
	struct context *c = *state;
	const char *text, *get, *list;

	assert_int_equal(ipc_server_topics(c->fx->server, topics), 0);
	peer_request(c->p, 1, "rpc.describe", NULL);
	text = peer_next(c->p, PATIENCE);
	get = strstr(
		text,
		"{\"name\"=>\"t.get\", \"summary\"=>\"Gets.\", \"params\"=>[{\"name\"=>\"id\", "
		"\"type\"=>\"id\", \"required\"=>true, \"doc\"=>\"which\"}, ");
	assert_non_null(get);
	assert_non_null(strstr(get,
			       "{\"name\"=>\"namespace\", \"type\"=>\"id\", \"required\"=>false, "
			       "\"default\"=>\"default\", "));
	assert_non_null(strstr(
		get, "\"common\"=>true}], \"result\"=>[{\"name\"=>\"id\", \"type\"=>\"str\", "
		     "\"doc\"=>\"the same\"}], \"errors\"=>[\"not_found\", \"unavailable\"]}"));
	assert_non_null(strstr(text, "\"default\"=>\"0\", \"min\"=>0, \"max\"=>67108864, "));
	list = strstr(text, "\"name\"=>\"t.list\"");
	assert_non_null(list);
	assert_non_null(strstr(list, "\"filters\""));
	assert_non_null(strstr(list, "\"mask\""));
	assert_true(strstr(text, "rpc.cancel") < strstr(text, "t.get"));
	assert_non_null(strstr(text, "{\"code\"=>\"invalid_argument\", \"doc\"=>"));
	assert_non_null(strstr(text,
			       "\"topics\"=>[{\"name\"=>\"/t/one\", \"fields\"=>[\"a\", \"b\"], "
			       "\"doc\"=>\"first\"}, {\"name\"=>\"/t/two\", \"fields\"=>[], "));
}

static void test_cancel(void **state)
{
	struct context *c = *state;

	peer_request(c->p, 1, "t.cancellable", NULL);
	peer_request(c->p, 2, "t.keep", NULL);
	peer_request(c->p, 3, "t.stubborn", NULL);
	expect_silence(c->p);
	assert_int_equal(c->n_kept, 3);
	expect(c->p, 9, "rpc.cancel", "{\"msgid\":4}", "[1, 9, nil, {\"cancelled\"=>false}]");
	expect(c->p, 9, "rpc.cancel", "{\"msgid\":9}", "[1, 9, nil, {\"cancelled\"=>false}]");
	peer_request(c->p, 9, "rpc.cancel", "{\"msgid\":1}");
	expect_next(c->p, "[1, 1, " ERROR("cancelled", "t.cancellable: cancelled", "") ", nil]");
	expect_next(c->p, "[1, 9, nil, {\"cancelled\"=>true}]");
	assert_int_equal(c->cancelled, 1);
	expect(c->p, 9, "rpc.cancel", "{\"msgid\":1}", "[1, 9, nil, {\"cancelled\"=>false}]");

	/* without on_cancel: answered at once, the handler's own answer goes nowhere */
	peer_request(c->p, 9, "rpc.cancel", "{\"msgid\":2}");
	expect_next(c->p, "[1, 2, " ERROR("cancelled", "t.keep: cancelled", "") ", nil]");
	expect_next(c->p, "[1, 9, nil, {\"cancelled\"=>true}]");
	expect(c->p, 9, "rpc.cancel", "{\"msgid\":2}", "[1, 9, nil, {\"cancelled\"=>false}]");
	assert_int_equal(stats(c).in_flight, 2);
	ipc_reply_empty(c->kept[1]);
	c->kept[1] = NULL;
	assert_int_equal(stats(c).in_flight, 1);
	expect_silence(c->p);

	/* one that answers in its on_cancel is answered once */
	peer_request(c->p, 9, "rpc.cancel", "{\"msgid\":3}");
	expect_next(c->p, "[1, 3, " ERROR("cancelled", "t.stubborn: cancelled", "") ", nil]");
	expect_next(c->p, "[1, 9, nil, {\"cancelled\"=>true}]");
	assert_int_equal(c->cancelled, 2);
	assert_int_equal(stats(c).in_flight, 0);

	/* of two with the same id, the older first */
	peer_request(c->p, 5, "t.cancellable", NULL);
	peer_request(c->p, 5, "t.cancellable", NULL);
	expect_silence(c->p);
	peer_request(c->p, 9, "rpc.cancel", "{\"msgid\":5}");
	expect_next(c->p, "[1, 5, " ERROR("cancelled", "t.cancellable: cancelled", "") ", nil]");
	expect_next(c->p, "[1, 9, nil, {\"cancelled\"=>true}]");
	assert_null(c->kept[3]);
	assert_non_null(c->kept[4]);
	/* a cancel of another connection's */
	{
		struct peer *p = peer_new(c->fx);

		expect(p, 1, "rpc.cancel", "{\"msgid\":5}", "[1, 1, nil, {\"cancelled\"=>false}]");
		peer_free(p);
	}
	expect(c->p, 1, "rpc.cancel", "{\"msgid\":4294967296}",
	       "[1, 1, " ERROR("invalid_argument", "rpc.cancel: msgid: must be at most 4294967295",
			       "\"argument\"=>\"msgid\"") ", nil]");
	/* an answered one leaves its callback behind */
	ipc_request_on_cancel(c->kept[4], NULL, NULL);
	ipc_reply_empty(c->kept[4]);
	c->kept[4] = NULL;
	expect_next(c->p, "[1, 5, nil, {}]");
	assert_int_equal(c->cancelled, 3);
}

static void test_timeout(void **state)
{
	struct context *c = *state;

	peer_request(c->p, 1, "t.cancellable", "{\"timeout\":20000000}");
	peer_request(c->p, 2, "t.keep", "{\"timeout\":1}");
	expect_next(c->p, "[1, 2, " ERROR("deadline_exceeded",
					  "t.keep: timeout: the time given is over", "") ", nil]");
	assert_int_equal(c->cancelled, 0);
	expect_next(c->p,
		    "[1, 1, " ERROR("deadline_exceeded",
				    "t.cancellable: timeout: the time given is over", "") ", nil]");
	assert_int_equal(c->cancelled, 1);
	ipc_reply_empty(c->kept[1]);
	c->kept[1] = NULL;
	expect_silence(c->p);
	assert_int_equal(stats(c).in_flight, 0);
	/* answered in time: the timer is gone; the longest there is */
	expect(c->p, 3, "t.get", "{\"id\":\"x\",\"timeout\":1}", "[1, 3, nil, {\"id\"=>\"x\"}]");
	peer_request(c->p, 4, "t.keep", "{\"timeout\":9223372036854775807}");
	peer_request(c->p, 5, "t.keep", "{\"timeout\":5000000}");
	expect_silence(c->p);
	ipc_reply_empty(c->kept[2]);
	ipc_reply_empty(c->kept[3]);
	c->n_kept = 0;
	expect_next(c->p, "[1, 4, nil, {}]");
	expect_next(c->p, "[1, 5, nil, {}]");
	usleep(10000);
	expect_silence(c->p);
}

static void test_hangup(void **state)
{
	struct context *c = *state;

	peer_request(c->p, 1, "t.cancellable", NULL);
	peer_request(c->p, 2, "t.keep", "{\"timeout\":1000000}");
	peer_request(c->p, 3, "t.stubborn", NULL);
	peer_request(c->p, 4, "t.watch", NULL);
	expect_next(c->p, "[1, 4, nil, {}]");
	ipc_conn_unwatch(&c->other);
	ipc_conn_unwatch(&c->other);
	assert_non_null(ipc_request_conn(c->kept[1]));
	peer_free(c->p);
	c->p = NULL;
	turns(c->fx, 3);
	assert_int_equal(c->cancelled, 2);
	assert_int_equal(c->closed, 1);
	assert_int_equal(stats(c).connections, 0);
	/* the other is still its owner's */
	assert_int_equal(stats(c).in_flight, 1);
	assert_non_null(c->kept[1]);
	assert_null(ipc_request_conn(c->kept[1]));
	assert_string_equal(ipc_namespace(c->kept[1]), "default");
	assert_non_null(ipc_request_alloc(c->kept[1], 100));
	usleep(3000);
	turns(c->fx, 3);
	msgpack_pack_map(ipc_reply_begin(c->kept[1]), 0);
	assert_int_equal(ipc_reply_fd(c->kept[1], open("/dev/null", O_RDONLY)), 0);
	ipc_reply_end(c->kept[1]);
	c->kept[1] = NULL;
	assert_int_equal(stats(c).in_flight, 0);
}

static void test_notifications(void **state)
{
	struct context *c = *state;
	static const char get[] = "\x93\x02\xa5t.get\x91\x81\xa2id\xa1x";
	static const char keeps[] = "\x93\x02\xadt.cancellable\x90";

	peer_write(c->p, "\x93\x02\xa7unknown\x91\x05", 12, NULL, 0);
	peer_write(c->p, "\x93\x02\xa7unknown\xc0", 11, NULL, 0);
	peer_write(c->p, get, sizeof(get) - 1, NULL, 0);
	peer_write(c->p, "\x93\x02\xa5t.get\x90", 9, NULL, 0); /* an argument is missing */
	peer_write(c->p, keeps, sizeof(keeps) - 1, NULL, 0);
	expect_silence(c->p);
	assert_int_equal(stats(c).notifications, 5);
	assert_int_equal(stats(c).requests, 0);
	assert_int_equal(stats(c).in_flight, 1);
	/* it has no id to be cancelled by */
	expect(c->p, 1, "rpc.cancel", "{\"msgid\":0}", "[1, 1, nil, {\"cancelled\"=>false}]");
	ipc_request_on_cancel(c->kept[0], NULL, NULL);
	ipc_reply_empty(c->kept[0]);
	c->n_kept = 0;
	expect_silence(c->p);
}

static void test_nested_answers(void **state)
{
	struct context *c = *state;

	peer_request(c->p, 1, "t.keep", NULL);
	peer_request(c->p, 2, "t.keep", NULL);
	peer_request(c->p, 3, "t.nested", NULL);
	expect_next(c->p, "[1, 1, nil, {}]");
	expect_next(c->p, "[1, 2, nil, {}]");
	expect_next(c->p, "[2, \"x\", []]");
	expect_next(c->p, "[1, 3, nil, {\"outer\"=>1}]");
}

static void test_answer_fds(void **state)
{
	struct context *c = *state;
	struct stat a, b;

	peer_request(c->p, 1, "t.get", "{\"id\":\"x\"}");
	peer_request(c->p, 2, "t.fds", NULL);
	peer_request(c->p, 3, "t.get", "{\"id\":\"x\"}");
	peer_request(c->p, 4, "t.fds", "{\"n\":17}");
	expect_next(c->p, "[1, 1, nil, {\"id\"=>\"x\"}]");
	assert_int_equal(c->p->n_fds, 0);
	expect_next(c->p, "[1, 2, nil, {\"fd\"=>\"fd:0\"}]");
	assert_int_equal(c->p->n_fds, 1);
	assert_int_equal(fstat(c->p->fds[0], &a), 0);
	assert_int_equal(stat("/dev/null", &b), 0);
	assert_int_equal(a.st_rdev, b.st_rdev);
	expect_next(c->p, "[1, 3, nil, {\"id\"=>\"x\"}]");
	assert_int_equal(c->p->n_fds, 0);
	expect_next(c->p, "[1, 4, nil, {\"fd\"=>\"fd:16\"}]");
	assert_int_equal(c->p->n_fds, 16);
}

static void test_notify(void **state)
{
	struct context *c = *state;
	const size_t size = 200000;
	char *event = calloc(1, size);
	int n = 0;

	assert_non_null(event);
	expect(c->p, 1, "t.watch", NULL, "[1, 1, nil, {}]");
	memcpy(event,
	       "\x93\x02\xa1"
	       "e\x91\xc6",
	       6);
	event[7] = (char)((size - 10) >> 16);
	event[8] = (char)((size - 10) >> 8);
	event[9] = (char)(size - 10);
	assert_int_equal(ipc_conn_send(c->conn, "\x93\x02\xa1x\x90", 5), 0);
	assert_int_equal(ipc_conn_backlog(c->conn), 5);
	expect_next(c->p, "[2, \"x\", []]");
	assert_int_equal(c->drained, 0);
	while (ipc_conn_backlog(c->conn) <= LIMIT_CONN_BACKLOG) {
		assert_int_equal(ipc_conn_send(c->conn, event, size), 0);
		n++;
		turn(c->fx);
	}
	assert_int_equal(c->drained, 0);
	for (int i = 0; i < n; i++)
		assert_non_null(strstr(peer_next(c->p, PATIENCE), "[2, \"e\", ["));
	turns(c->fx, 3);
	assert_int_equal(c->drained, 1);
	free(event);
}

static void test_quiesce(void **state)
{
	struct context *c = *state;
	struct peer *p = peer_new(c->fx);

	peer_request(c->p, 1, "t.keep", NULL);
	expect_silence(c->p);
	expect(p, 1, "version", NULL,
	       "[1, 1, nil, {\"version\"=>\"1.2.3\", \"revision\"=>\"abc\", \"api\"=>1}]");
	ipc_server_quiesce(c->fx->server);
	peer_request(c->p, 2, "t.get", "{\"id\":\"x\"}");
	expect_silence(c->p);
	ipc_reply_empty(c->kept[0]);
	c->n_kept = 0;
	expect_next(c->p, "[1, 1, nil, {}]");
	peer_free(p);
	p = peer_new(c->fx);
	peer_request(p, 1, "version", NULL);
	expect_silence(p);
	assert_int_equal(stats(c).accepted, 2);
	peer_free(p);
}

static void test_free_with_requests(void **state)
{
	struct context *c = *state;

	peer_request(c->p, 1, "t.keep", "{\"timeout\":1}");
	peer_request(c->p, 2, "t.cancellable", NULL);
	peer_request(c->p, 3, "t.keep", NULL);
	peer_request(c->p, 4, "t.watch", NULL);
	expect_next(c->p, "[1, 4, nil, {}]");
	ipc_conn_unwatch(&c->other);
	ipc_conn_unwatch(&c->watch);
	fixture_free(c->fx);
	c->fx = NULL;
	assert_int_equal(c->cancelled, 1);
	peer_free(c->p);
	c->p = NULL;
	/* two answers at once, both to nowhere */
	msgpack_pack_map(ipc_reply_begin(c->kept[0]), 0);
	ipc_reply_error(c->kept[2], FAULT_ABORTED, NULL, "too late");
	assert_string_equal(ipc_request_method(c->kept[0])->name, "t.keep");
	ipc_reply_end(c->kept[0]);
	c->n_kept = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_basics),	  TEST(test_errors),	     TEST(test_describe),
		TEST(test_cancel),	  TEST(test_timeout),	     TEST(test_hangup),
		TEST(test_notifications), TEST(test_nested_answers), TEST(test_answer_fds),
		TEST(test_notify),	  TEST(test_quiesce),	     TEST(test_free_with_requests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
