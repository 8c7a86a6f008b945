// SPDX-License-Identifier: Apache-2.0
/*
 * Methods that answer, keep, fail or answer wrongly, for the tests of the server
 */
#pragma once

#include "ipc_fixture.h"

#include "util/limits.h"

/* Requests that handlers keep, in the order they came. */
struct context {
	struct fixture *fx;
	struct peer *p;
	struct ipc_request **kept;
	size_t n_kept, room;
	int cancelled, namespaces, drained, closed;
	struct ipc_conn *conn;
	struct ipc_conn_watch watch, other;
	bool watching;
};

static void do_get(struct ipc_request *req, void *user)
{
	msgpack_packer *pk = ipc_reply_begin(req);

	(void)user;
	msgpack_pack_map(pk, 1);
	mp_pack_key_str(pk, "id", ipc_arg_str(req, "id"));
	ipc_reply_end(req);
}

static void keep(struct context *c, struct ipc_request *req)
{
	if (c->n_kept == c->room) {
		c->room = c->room ? c->room * 2 : 16;
		c->kept = realloc(c->kept, c->room * sizeof(struct ipc_request *));
		assert_non_null(c->kept);
	}
	c->kept[c->n_kept++] = req;
}

static void forget(struct context *c, struct ipc_request *req)
{
	for (size_t i = 0; i < c->n_kept; i++)
		if (c->kept[i] == req)
			c->kept[i] = NULL;
}

static void do_keep(struct ipc_request *req, void *user)
{
	keep(user, req);
}

static void on_cancel(struct ipc_request *req, void *user)
{
	struct context *c = user;

	c->cancelled++;
	forget(c, req);
}

static void do_cancellable(struct ipc_request *req, void *user)
{
	keep(user, req);
	ipc_request_on_cancel(req, on_cancel, user);
}

/* Answers in its own on_cancel, which goes nowhere. */
static void answers_itself(struct ipc_request *req, void *user)
{
	on_cancel(req, user);
	ipc_reply_empty(req);
}

static void do_stubborn(struct ipc_request *req, void *user)
{
	keep(user, req);
	ipc_request_on_cancel(req, answers_itself, user);
}

/* {bytes}: an answer of that size */
static void do_bytes(struct ipc_request *req, void *user)
{
	size_t n = (size_t)ipc_arg_int(req, "bytes", 0);
	msgpack_packer *pk = ipc_reply_begin(req);
	char *data = calloc(1, n + 1);

	(void)user;
	assert_non_null(data);
	msgpack_pack_map(pk, 1);
	mp_pack_key(pk, "data");
	msgpack_pack_bin_with_body(pk, data, n);
	free(data);
	ipc_reply_end(req);
}

static void do_bad(struct ipc_request *req, void *user)
{
	msgpack_packer *pk = ipc_reply_begin(req);

	(void)user;
	switch (ipc_arg_int(req, "kind", 0)) {
	case 0: /* nothing */
		break;
	case 1: /* half a map */
		msgpack_pack_map(pk, 2);
		mp_pack_key_int(pk, "a", 1);
		break;
	case 2: /* two values */
		msgpack_pack_nil(pk);
		msgpack_pack_nil(pk);
		break;
	}
	ipc_reply_end(req);
}

/* An answer and a notification while it is packed, and another answer. */
static void do_nested(struct ipc_request *req, void *user)
{
	struct context *c = user;
	msgpack_packer *pk = ipc_reply_begin(req);

	msgpack_pack_map(pk, 1);
	for (size_t i = 0; i < c->n_kept; i++)
		if (c->kept[i])
			ipc_reply_empty(c->kept[i]);
	c->n_kept = 0;
	assert_int_equal(ipc_conn_send(ipc_request_conn(req), "\x93\x02\xa1x\x90", 5), 0);
	mp_pack_key_int(pk, "outer", 1);
	ipc_reply_end(req);
}

static void do_fds(struct ipc_request *req, void *user)
{
	int64_t n = ipc_arg_int(req, "n", 1);
	msgpack_packer *pk = ipc_reply_begin(req);
	char name[16] = "none";

	(void)user;
	for (int64_t i = 0; i < n; i++) {
		int r = ipc_reply_fd(req, open("/dev/null", O_RDONLY | O_CLOEXEC));

		assert_int_equal(r, i < LIMIT_REQUEST_FDS ? i : -E2BIG);
		snprintf(name, sizeof(name), "fd:%d", (int)i);
	}
	msgpack_pack_map(pk, 1);
	mp_pack_key_str(pk, "fd", name);
	ipc_reply_end(req);
}

static void do_fail(struct ipc_request *req, void *user)
{
	struct fault f;

	(void)user;
	switch (ipc_arg_int(req, "kind", 0)) {
	case 0:
		fault_sys(&f, ENOENT, "open", "/x/y");
		f.exit_code = 127;
		strcpy(f.log, "one\ntwo\n");
		ipc_reply_fault(req, &f);
		return;
	case 1:
		ipc_reply_error(req, FAULT_NOT_FOUND, "id", "no container %s", "a");
		return;
	case 2:
		fault_set(&f, FAULT_ABORTED, 0, "t.fail: id: said already");
		fault_arg(&f, "id");
		ipc_reply_fault(req, &f);
		return;
	case 3: /* half an answer first */
		msgpack_pack_map(ipc_reply_begin(req), 3);
		assert_int_equal(ipc_reply_fd(req, open("/dev/null", O_RDONLY | O_CLOEXEC)), 0);
		ipc_reply_error(req, FAULT_UNAVAILABLE, NULL, "later");
		return;
	case 4:
		memset(&f, 0, sizeof(f));
		ipc_reply_fault(req, &f);
		return;
	}
}

static void on_drained(struct ipc_conn_watch *w)
{
	struct context *c = (struct context *)((char *)w - offsetof(struct context, watch));

	c->drained++;
	ipc_conn_unwatch(&c->other);
}

static void on_closed(struct ipc_conn_watch *w)
{
	struct context *c = (struct context *)((char *)w - offsetof(struct context, watch));

	c->closed++;
	assert_int_equal(ipc_conn_send(c->conn, "\xc0", 1), -EPIPE);
	c->conn = NULL;
}

static void never(struct ipc_conn_watch *w)
{
	(void)w;
	fail();
}

static void do_watch(struct ipc_request *req, void *user)
{
	struct context *c = user;

	c->conn = ipc_request_conn(req);
	assert_true(ipc_conn_id(c->conn) > 0);
	c->watch.drained = on_drained;
	c->watch.closed = on_closed;
	c->other.drained = never;
	c->other.closed = never;
	/* the first in the list is called first and removes the second */
	ipc_conn_watch(c->conn, &c->other);
	ipc_conn_watch(c->conn, &c->watch);
	ipc_reply_empty(req);
}

static void do_none(struct ipc_request *req, void *user)
{
	(void)user;
	ipc_reply_empty(req);
}

#define P_END                                                                                      \
	{                                                                                          \
		NULL, IPC_ANY, 0, 0, 0, NULL, NULL                                                 \
	}

static const struct ipc_param id_params[] = {
	{ "id", IPC_ID, IPC_REQUIRED, 0, 0, NULL, "which" },
	{ "data", IPC_BIN, 0, 0, 0, NULL, "" },
	{ "list", IPC_LIST, 0, 0, 0, NULL, "" },
	P_END,
};
static const struct ipc_param n_params[] = {
	{ "bytes", IPC_INT, 0, 0, 64 << 20, "0", "how many" },
	{ "kind", IPC_INT, 0, 0, 0, NULL, "" },
	{ "n", IPC_INT, 0, 0, 0, NULL, "" },
	{ "data", IPC_BIN, 0, 0, 0, NULL, "" },
	P_END,
};
static const struct ipc_field get_result[] = { { "id", "str", "the same" }, { NULL, NULL, NULL } };

static const struct ipc_method methods[] = {
	{ "t.get", "Gets.", 0, id_params, get_result, "not_found  unavailable", do_get },
	{ "t.keep", "", 0, n_params, NULL, NULL, do_keep },
	{ "t.cancellable", "", 0, NULL, NULL, NULL, do_cancellable },
	{ "t.stubborn", "", 0, NULL, NULL, NULL, do_stubborn },
	{ "t.wait", "", IPC_WAITS, NULL, NULL, NULL, do_cancellable },
	{ "t.bytes", "", 0, n_params, NULL, NULL, do_bytes },
	{ "t.bad", "", 0, n_params, NULL, NULL, do_bad },
	{ "t.nested", "", 0, NULL, NULL, NULL, do_nested },
	{ "t.fds", "", 0, n_params, NULL, NULL, do_fds },
	{ "t.fail", "", 0, n_params, NULL, NULL, do_fail },
	{ "t.watch", "", 0, NULL, NULL, NULL, do_watch },
	{ "t.list", "", IPC_LISTS | IPC_UPDATES | IPC_NO_NAMESPACE, NULL, NULL, NULL, do_none },
	{ NULL, NULL, 0, NULL, NULL, NULL, NULL },
};

static int on_namespace(void *user, struct ipc_request *req, const char *ns)
{
	struct context *c = user;

	c->namespaces++;
	if (strcmp(ns, "forbidden"))
		return 0;
	ipc_reply_error(req, FAULT_FAILED_PRECONDITION, "namespace", "not this one");
	return -EPERM;
}

static int setup(void **state)
{
	struct context *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->fx = fixture_new(methods, c);
	ipc_server_on_namespace(c->fx->server, on_namespace, c);
	c->p = peer_new(c->fx);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;

	for (size_t i = 0; i < c->n_kept; i++)
		if (c->kept[i])
			ipc_reply_empty(c->kept[i]);
	if (c->p)
		peer_free(c->p);
	if (c->fx)
		fixture_free(c->fx);
	free(c->kept);
	free(c);
	return 0;
}

static UNUSED struct ipc_server_stats stats(struct context *c)
{
	struct ipc_server_stats st;

	ipc_server_stats(c->fx->server, &st);
	return st;
}

#define ERROR(code, message, details)                                                              \
	"{\"code\"=>\"" code "\", \"message\"=>\"" message "\", \"details\"=>{" details "}}"
