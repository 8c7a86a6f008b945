// SPDX-License-Identifier: Apache-2.0
#include "ipc_fixture.h"

#include <signal.h>

#include "ipc/signame.h"
#include "util/limits.h"

/* Answers what the accessors say of every argument that is there. */
static void do_types(struct ipc_request *req, void *user)
{
	static const char *const names[] = { "str",    "id",	 "int",	 "pos",	  "bool", "bin",
					     "map",    "labels", "list", "strs",  "fd",	  "stdio",
					     "signal", "spec",	 "any",	 "short", "few",  "lease" };
	msgpack_packer *pk = ipc_reply_begin(req);
	msgpack_sbuffer *sb = ipc_reply_buffer(req);
	size_t mark = mp_map_begin(sb);
	uint32_t n = 0;

	(void)user;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const msgpack_object *o = ipc_arg(req, names[i]);
		const char *const *strs;
		size_t n_strs;

		assert_true(ipc_has(req, names[i]) == (o != NULL));
		if (!o)
			continue;
		mp_pack_key(pk, names[i]);
		n++;
		if (!strcmp(names[i], "strs")) {
			strs = ipc_arg_strs(req, "strs", &n_strs);
			msgpack_pack_array(pk, n_strs);
			for (size_t k = 0; k < n_strs; k++)
				mp_pack_str(pk, strs[k]);
		} else if (!strcmp(names[i], "int") || !strcmp(names[i], "signal")) {
			msgpack_pack_int64(pk, ipc_arg_int(req, names[i], -77));
		} else if (!strcmp(names[i], "bool")) {
			mp_pack_str(pk, ipc_arg_bool(req, "bool", false) ? "yes" : "no");
		} else if (!strcmp(names[i], "str") || !strcmp(names[i], "id")) {
			mp_pack_str(pk, ipc_arg_str(req, names[i]));
		} else {
			msgpack_pack_object(pk, *o);
		}
	}
	mp_map_end(sb, mark, n);
	ipc_reply_end(req);
}

static void do_namespace(struct ipc_request *req, void *user)
{
	msgpack_packer *pk = ipc_reply_begin(req);

	(void)user;
	assert_string_equal(ipc_request_method(req)->name + 2, "namespace");
	assert_int_equal(ipc_arg_int(req, "absent", 5), 5);
	assert_true(ipc_arg_bool(req, "absent", true));
	assert_null(ipc_arg_str(req, "absent"));
	assert_int_equal(ipc_arg_fd(req, "absent"), -1);
	msgpack_pack_map(pk, 1);
	mp_pack_key_str(pk, "namespace", ipc_namespace(req));
	ipc_reply_end(req);
}

/* Writes "NAME\n" into each fd it gets. */
static void do_fds(struct ipc_request *req, void *user)
{
	static const char *const names[] = { "stdin", "stdout", "stderr", "console" };
	msgpack_packer *pk;
	uint32_t n = 0;

	(void)user;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int fd = ipc_arg_fd(req, names[i]);

		if (fd < 0)
			continue;
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		assert_int_equal(write(fd, names[i], strlen(names[i])), strlen(names[i]));
		assert_int_equal(write(fd, "\n", 1), 1);
		close(fd);
		assert_int_equal(ipc_arg_fd(req, names[i]), -1);
		n++;
	}
	msgpack_pack_map(ipc_reply_begin(req), 7);
	/* begun anew: the first is dropped */
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 1);
	mp_pack_key_int(pk, "fds", n);
	ipc_reply_end(req);
}

static void do_mask(struct ipc_request *req, void *user)
{
	static const char *const paths[] = { "labels", "labels.a", "labels.a.b", "image",
					     "labelsx" };
	msgpack_packer *pk = ipc_reply_begin(req);

	(void)user;
	msgpack_pack_map(pk, ARRAY_SIZE(paths));
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		mp_pack_key_bool(pk, paths[i], ipc_mask_has(req, paths[i]));
	ipc_reply_end(req);
}

#define P_END                                                                                      \
	{                                                                                          \
		NULL, IPC_ANY, 0, 0, 0, NULL, NULL                                                 \
	}

static const struct ipc_param types_params[] = {
	{ "str", IPC_STR, 0, 0, 0, NULL, "" },	     { "short", IPC_STR, 0, 2, 4, NULL, "" },
	{ "id", IPC_ID, 0, 0, 0, NULL, "" },	     { "int", IPC_INT, 0, 0, 0, NULL, "" },
	{ "pos", IPC_INT, 0, 1, 10, NULL, "" },	     { "bool", IPC_BOOL, 0, 0, 0, NULL, "" },
	{ "bin", IPC_BIN, 0, 0, 8, NULL, "" },	     { "map", IPC_MAP, 0, 0, 0, NULL, "" },
	{ "labels", IPC_LABELS, 0, 0, 0, NULL, "" }, { "list", IPC_LIST, 0, 0, 0, NULL, "" },
	{ "few", IPC_LIST, 0, 1, 2, NULL, "" },	     { "strs", IPC_STRS, 0, 0, 0, NULL, "" },
	{ "fd", IPC_FD, 0, 0, 0, NULL, "" },	     { "stdio", IPC_STDIO, 0, 0, 0, NULL, "" },
	{ "signal", IPC_SIGNAL, 0, 0, 0, NULL, "" }, { "spec", IPC_STR_OR_MAP, 0, 0, 0, NULL, "" },
	{ "any", IPC_ANY, 0, 0, 0, NULL, "" },	     P_END,
};

static const struct ipc_param required_params[] = {
	{ "first", IPC_ID, IPC_REQUIRED, 0, 0, NULL, "" },
	{ "second", IPC_STR, IPC_REQUIRED, 0, 0, NULL, "" },
	P_END,
};

static const struct ipc_param fds_params[] = {
	{ "stdin", IPC_STDIO, 0, 0, 0, NULL, "" },
	{ "stdout", IPC_STDIO, 0, 0, 0, NULL, "" },
	{ "stderr", IPC_STDIO, 0, 0, 0, NULL, "" },
	{ "console", IPC_FD, 0, 0, 0, NULL, "" },
	P_END,
};

static const struct ipc_method methods[] = {
	{ "t.types", "", 0, types_params, NULL, NULL, do_types },
	{ "t.required", "", 0, required_params, NULL, NULL, do_types },
	{ "t.namespace", "", 0, NULL, NULL, NULL, do_namespace },
	{ "o.namespace", "", IPC_NO_NAMESPACE, NULL, NULL, NULL, do_namespace },
	{ "t.fds", "", 0, fds_params, NULL, NULL, do_fds },
	{ "t.mask", "", IPC_UPDATES, NULL, NULL, NULL, do_mask },
	{ NULL, NULL, 0, NULL, NULL, NULL, NULL },
};

struct context {
	struct fixture *fx;
	struct peer *p;
};

static int setup(void **state)
{
	struct context *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->fx = fixture_new(methods, NULL);
	c->p = peer_new(c->fx);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;

	peer_free(c->p);
	fixture_free(c->fx);
	free(c);
	return 0;
}

#define ERROR(code, message, details)                                                              \
	"[1, 1, {\"code\"=>\"" code "\", \"message\"=>\"" message "\", \"details\"=>{" details     \
	"}}, nil]"
#define INVALID(argument, reason)                                                                  \
	ERROR("invalid_argument", "t.types: " argument ": " reason,                                \
	      "\"argument\"=>\"" argument "\"")

#define types(json, text) expect(((struct context *)*state)->p, 1, "t.types", json, text)

static void test_types(void **state)
{
	types(NULL, "[1, 1, nil, {}]");
	types("{}", "[1, 1, nil, {}]");
	types("[]", "[1, 1, nil, {}]");
	types("{\"str\":\"a b\",\"id\":\"a.b-c_d0\",\"int\":-3,\"bool\":true}",
	      "[1, 1, nil, {\"str\"=>\"a b\", \"id\"=>\"a.b-c_d0\", \"int\"=>-3, \"bool\"=>\"yes\"}]");
	types("{\"str\":\"\",\"id\":\"\",\"lease\":\"\"}", "[1, 1, nil, {\"str\"=>\"\"}]");
	types("{\"str\":null,\"int\":null,\"map\":null,\"signal\":null}", "[1, 1, nil, {}]");
	types("{\"int\":9223372036854775807}", "[1, 1, nil, {\"int\"=>9223372036854775807}]");
	types("{\"map\":{\"a\":1},\"list\":[1,{}],\"strs\":[\"a\",\"\",\"bc\"],\"any\":1.5}",
	      "[1, 1, nil, {\"map\"=>{\"a\"=>1}, \"list\"=>[1, {}], \"strs\"=>[\"a\", \"\", \"bc\"], "
	      "\"any\"=>1.500000}]");
	types("{\"spec\":\"{}\"}", "[1, 1, nil, {\"spec\"=>\"{}\"}]");
	types("{\"spec\":{\"a\":[]}}", "[1, 1, nil, {\"spec\"=>{\"a\"=>[]}}]");
}

static void test_empty_arrays_and_maps(void **state)
{
	types("{\"map\":[],\"labels\":[],\"spec\":[],\"any\":[]}",
	      "[1, 1, nil, {\"map\"=>{}, \"labels\"=>{}, \"spec\"=>{}, \"any\"=>[]}]");
	types("{\"list\":{},\"strs\":{}}", "[1, 1, nil, {\"list\"=>[], \"strs\"=>[]}]");
	types("{\"map\":[1]}", INVALID("map", "must be a map"));
	types("{\"list\":{\"a\":1}}", INVALID("list", "must be an array"));
}

static void test_wrong_types(void **state)
{
	types("{\"str\":1}", INVALID("str", "must be a string"));
	types("{\"int\":\"1\"}", INVALID("int", "must be an integer"));
	types("{\"int\":1.0}", INVALID("int", "must be an integer"));
	types("{\"int\":true}", INVALID("int", "must be an integer"));
	types("{\"int\":18446744073709551615}",
	      INVALID("int", "is larger than 9223372036854775807"));
	types("{\"bool\":1}", INVALID("bool", "must be a boolean"));
	types("{\"bin\":1}", INVALID("bin", "must be a string or bytes"));
	types("{\"map\":\"\"}", INVALID("map", "must be a map"));
	types("{\"list\":\"\"}", INVALID("list", "must be an array"));
	types("{\"strs\":[\"a\",1]}", INVALID("strs", "must be an array of strings"));
	types("{\"spec\":3}", INVALID("spec", "must be a string or a map"));
	types("{\"fd\":0}", INVALID("fd", "must be a string \"fd:N\""));
}

static void test_ranges(void **state)
{
	types("{\"pos\":1}", "[1, 1, nil, {\"pos\"=>1}]");
	types("{\"pos\":10}", "[1, 1, nil, {\"pos\"=>10}]");
	types("{\"pos\":0}", INVALID("pos", "must be at least 1"));
	types("{\"pos\":-1}", INVALID("pos", "must be at least 1"));
	types("{\"pos\":11}", INVALID("pos", "must be at most 10"));
	types("{\"short\":\"ab\"}", "[1, 1, nil, {\"short\"=>\"ab\"}]");
	types("{\"short\":\"\"}", INVALID("short", "must not be empty"));
	types("{\"short\":\"a\"}", INVALID("short", "must have at least 2 bytes"));
	types("{\"short\":\"abcde\"}", INVALID("short", "must have at most 4 bytes"));
	types("{\"bin\":\"123456789\"}", INVALID("bin", "must have at most 8 bytes"));
	types("{\"few\":[]}", INVALID("few", "must not be empty"));
	types("{\"few\":[1,2]}", "[1, 1, nil, {\"few\"=>[1, 2]}]");
	types("{\"few\":[1,2,3]}", INVALID("few", "must have at most 2 entries"));
	types("{\"timeout\":-1}", INVALID("timeout", "must be at least 0"));
	types("{\"timeout\":0}", "[1, 1, nil, {}]");
}

static void test_ids(void **state)
{
	char json[256], id[LIMIT_ID_BYTES + 2], text[256];
	static const char *const bad[] = { "-a", "a-", ".a", "a.", "_", "a..b", "a-_b", "a--b" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(json, sizeof(json), "{\"id\":\"%s\"}", bad[i]);
		types(json,
		      INVALID("id",
			      "must begin and end with a letter or digit, with single '.', '_', '-' between"));
	}
	types("{\"id\":\"a/b\"}",
	      INVALID("id", "may only have letters, digits and '.', '_', '-' between them"));
	types("{\"id\":\"../x\"}",
	      INVALID("id",
		      "must begin and end with a letter or digit, with single '.', '_', '-' between"));
	types("{\"id\":\"a b\"}",
	      INVALID("id", "may only have letters, digits and '.', '_', '-' between them"));
	memset(id, 'x', sizeof(id));
	id[LIMIT_ID_BYTES] = '\0';
	snprintf(json, sizeof(json), "{\"id\":\"%s\"}", id);
	snprintf(text, sizeof(text), "[1, 1, nil, {\"id\"=>\"%s\"}]", id);
	types(json, text);
	id[LIMIT_ID_BYTES] = 'x';
	id[LIMIT_ID_BYTES + 1] = '\0';
	snprintf(json, sizeof(json), "{\"id\":\"%s\"}", id);
	types(json, INVALID("id", "is longer than 76 bytes"));
	types("{\"namespace\":\"a b\"}",
	      INVALID("namespace", "may only have letters, digits and '.', '_', '-' between them"));
}

static void test_labels(void **state)
{
	char *json = malloc(LIMIT_LABELS * 32), *value = malloc(LIMIT_LABEL_BYTES + 8);
	size_t used;

	assert_non_null(json);
	assert_non_null(value);
	types("{\"labels\":{\"a\":\"b\",\"x.y/z\":\"\"}}",
	      "[1, 1, nil, {\"labels\"=>{\"a\"=>\"b\", \"x.y/z\"=>\"\"}}]");
	types("{\"labels\":{\"a\":1}}", INVALID("labels", "must be a map of strings"));
	types("{\"labels\":{\"a\":null}}", INVALID("labels", "must be a map of strings"));
	types("{\"labels\":{\"\":\"a\"}}", INVALID("labels", "a label's key must not be empty"));
	types("{\"labels\":[1]}", INVALID("labels", "must be a map of strings"));

	memset(value, 'v', LIMIT_LABEL_BYTES);
	value[LIMIT_LABEL_BYTES] = '\0';
	snprintf(json, LIMIT_LABELS * 32, "{\"labels\":{\"key\":\"%s\"}}", value + 3);
	peer_request(((struct context *)*state)->p, 1, "t.types", json);
	assert_non_null(
		strstr(peer_next(((struct context *)*state)->p, PATIENCE), "[1, 1, nil, {"));
	snprintf(json, LIMIT_LABELS * 32, "{\"labels\":{\"key\":\"%s\"}}", value + 2);
	types(json,
	      INVALID("labels", "label key: key and value are together longer than 4096 bytes"));

	used = (size_t)sprintf(json, "{\"labels\":{");
	for (unsigned i = 0; i < LIMIT_LABELS; i++)
		used += (size_t)sprintf(json + used, "%s\"k%u\":\"\"", i ? "," : "", i);
	sprintf(json + used, "}}");
	peer_request(((struct context *)*state)->p, 1, "t.types", json);
	assert_non_null(
		strstr(peer_next(((struct context *)*state)->p, PATIENCE), "[1, 1, nil, {"));
	sprintf(json + used, ",\"more\":\"\"}}");
	types(json, INVALID("labels", "has more than 1024 labels"));
	free(json);
	free(value);
}

static void test_unknown_and_required(void **state)
{
	struct context *c = *state;

	types("{\"strr\":1}", INVALID("strr", "no such argument"));
	types("{\"st\":1}", INVALID("st", "no such argument"));
	types("{\"nope\":null}", INVALID("nope", "no such argument"));
	types("{\"\":1}", ERROR("invalid_argument", "t.types: : no such argument", ""));
	types("{\"filters\":[]}", INVALID("filters", "no such argument"));
	expect(c->p, 1, "t.required", "{}",
	       ERROR("invalid_argument", "t.required: first: required", "\"argument\"=>\"first\""));
	expect(c->p, 1, "t.required", "{\"first\":\"a\"}",
	       ERROR("invalid_argument", "t.required: second: required",
		     "\"argument\"=>\"second\""));
	expect(c->p, 1, "t.required", "{\"first\":\"\",\"second\":\"\"}",
	       ERROR("invalid_argument", "t.required: first: must not be empty",
		     "\"argument\"=>\"first\""));
	expect(c->p, 1, "t.required", "{\"first\":\"a\",\"second\":null}",
	       ERROR("invalid_argument", "t.required: second: required",
		     "\"argument\"=>\"second\""));
	expect(c->p, 1, "t.required", "{\"first\":\"a\",\"second\":\"\"}", "[1, 1, nil, {}]");
	expect(c->p, 1, "t.nothing", "{}", ERROR("unimplemented", "t.nothing: no such method", ""));
	expect(c->p, 1, "", NULL, ERROR("unimplemented", ": no such method", ""));
}

static void send_raw(struct peer *p, const char *bytes, size_t size)
{
	peer_write(p, bytes, size, NULL, 0);
}

#define raw(bytes) send_raw(c->p, bytes, sizeof(bytes) - 1)

static void test_shapes(void **state)
{
	struct context *c = *state;

	/* method and names as bin, strings as bin */
	raw("\x94\x00\x01\xc4\x07t.types\x91\x82\xc4\x03str\xc4\x02hi\xc4\x03int\x05");
	expect_next(c->p, "[1, 1, nil, {\"str\"=>\"hi\", \"int\"=>5}]");
	/* wide encodings of small numbers */
	raw("\x94\xcc\x00\xcf\x00\x00\x00\x00\x00\x00\x00\x07\xa7t.types\x91\xde\x00\x01\xd9\x03int"
	    "\xd3\xff\xff\xff\xff\xff\xff\xff\xfe");
	expect_next(c->p, "[1, 7, nil, {\"int\"=>-2}]");
	raw("\xdc\x00\x04\xd0\x00\xd2\x00\x00\x00\x08\xdb\x00\x00\x00\x07t.types\xdd\x00\x00\x00\x00");
	expect_next(c->p, "[1, 8, nil, {}]");
	raw("\xdd\x00\x00\x00\x04\x00\xce\xff\xff\xff\xff\xda\x00\x07t.types\xdc\x00\x01\x90");
	expect_next(c->p, "[1, 4294967295, nil, {}]");
	/* the last value is a string: its NUL goes behind the frame */
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa3str\xa0");
	expect_next(c->p, "[1, 1, nil, {\"str\"=>\"\"}]");
	raw("\x94\x00\x01\xa7t.types\x91\x82\xa3str\xa2hi\xa2id\xa1x");
	expect_next(c->p, "[1, 1, nil, {\"str\"=>\"hi\", \"id\"=>\"x\"}]");

	/* NUL bytes: in text not, in bytes yes */
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa3str\xa3"
	    "a\0b");
	expect_next(c->p, INVALID("str", "must not have a NUL byte in it"));
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa4strs\x91\xa2"
	    "a\0");
	expect_next(c->p, INVALID("strs", "must not have a NUL byte in it"));
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa6labels\x81\xa1"
	    "a\xa1\0");
	expect_next(c->p, INVALID("labels", "a label must not have a NUL byte in it"));
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa4spec\xa3{}\0");
	expect_next(c->p, INVALID("spec", "must not have a NUL byte in it"));
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa3"
	    "bin\xc4\x02\0\1");
	expect_next(c->p, "[1, 1, nil, {\"bin\"=>\"\\x00\\x01\"}]");
	/* twice the same */
	raw("\x94\x00\x01\xa7t.types\x91\x82\xa3int\x01\xa3int\x02");
	expect_next(c->p, INVALID("int", "is given twice"));
	/* names that are no strings, or not printable */
	raw("\x94\x00\x01\xa7t.types\x91\x81\x05\x01");
	expect_next(c->p, ERROR("invalid_argument", "t.types: arguments are named by strings", ""));
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa2\x01z\x01");
	expect_next(c->p, INVALID("?z", "no such argument"));
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa8str\0\0\0\0\0\x01");
	expect_next(c->p, INVALID("str?????", "no such argument"));
	/* params that are none */
#define PARAMS ERROR("invalid_argument", "t.types: params must be an array of at most one map", "")
	raw("\x94\x00\x01\xa7t.types\x92\x80\x80");
	expect_next(c->p, PARAMS);
	raw("\x94\x00\x01\xa7t.types\x91\x05");
	expect_next(c->p, PARAMS);
	raw("\x94\x00\x01\xa7t.types\x91\xc0");
	expect_next(c->p, PARAMS);
	raw("\x94\x00\x01\xa7t.types\x91\x91\x01");
	expect_next(c->p, PARAMS);
	raw("\x94\x00\x01\xa7t.types\x80");
	expect_next(c->p, PARAMS);
	raw("\x94\x00\x01\xa7t.types\xc0");
	expect_next(c->p, PARAMS);
	/* ext where a value is expected */
	raw("\x94\x00\x01\xa7t.types\x91\x81\xa3str\xd4\x01\x01");
	expect_next(c->p, INVALID("str", "must be a string"));
}

static void test_stdio(void **state)
{
	types("{\"stdio\":\"\"}", "[1, 1, nil, {}]");
	types("{\"stdio\":\"/run/f\"}", "[1, 1, nil, {\"stdio\"=>\"/run/f\"}]");
	types("{\"stdio\":\"file:///run/f\"}", "[1, 1, nil, {\"stdio\"=>\"file:///run/f\"}]");
	types("{\"stdio\":\"log:\"}", "[1, 1, nil, {\"stdio\"=>\"log:\"}]");
#define STDIO INVALID("stdio", "must be a path from /, \"file:///PATH\", \"fd:N\" or \"log:\"")
	types("{\"stdio\":\"run/f\"}", STDIO);
	types("{\"stdio\":\"file://run/f\"}", STDIO);
	types("{\"stdio\":\"file://\"}", STDIO);
	types("{\"stdio\":\"log:x\"}", STDIO);
	types("{\"stdio\":\"fd:0\"}", INVALID("stdio", "fd:0: the request came with 0 fds"));
#define FD(p) INVALID(p, "must be \"fd:N\" with the number of a passed fd")
	types("{\"stdio\":\"fd:\"}", FD("stdio"));
	types("{\"fd\":\"fd:x\"}", FD("fd"));
	types("{\"fd\":\"fd:-1\"}", FD("fd"));
	types("{\"fd\":\"fd:00\"}", FD("fd"));
	types("{\"fd\":\"fd:100\"}", FD("fd"));
	types("{\"fd\":\"\"}", FD("fd"));
	types("{\"stdio\":7}", INVALID("stdio", "must be a string"));
}

static void test_signals(void **state)
{
	types("{\"signal\":9}", "[1, 1, nil, {\"signal\"=>9}]");
	types("{\"signal\":\"TERM\"}", "[1, 1, nil, {\"signal\"=>15}]");
	types("{\"signal\":\"SIGKILL\"}", "[1, 1, nil, {\"signal\"=>9}]");
	types("{\"signal\":\"RTMIN+3\"}", "[1, 1, nil, {\"signal\"=>37}]");
	types("{\"signal\":\"12\"}", "[1, 1, nil, {\"signal\"=>12}]");
	types("{\"signal\":64}", "[1, 1, nil, {\"signal\"=>64}]");
	types("{\"signal\":0}", INVALID("signal", "must be a signal from 1 to 64"));
	types("{\"signal\":65}", INVALID("signal", "must be a signal from 1 to 64"));
	types("{\"signal\":-9}", INVALID("signal", "must be a signal from 1 to 64"));
	types("{\"signal\":\"TERMS\"}", INVALID("signal", "TERMS: no such signal"));
	types("{\"signal\":[]}", INVALID("signal", "must be an integer or a signal's name"));
}

static int sig(const char *name)
{
	return signal_by_name(name, strlen(name));
}

static void test_signal_names(void **state)
{
	(void)state;
	for (int i = 1; i < 32; i++) {
		char name[32];

		assert_int_equal(sig(sigabbrev_np(i)), i);
		snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(i));
		assert_int_equal(sig(name), i);
	}
	assert_int_equal(sig("sigterm"), SIGTERM);
	assert_int_equal(sig("Hup"), SIGHUP);
	assert_int_equal(sig("IO"), SIGIO);
	assert_int_equal(sig("IOT"), SIGABRT);
	assert_int_equal(sig("SIGCLD"), SIGCHLD);
	assert_int_equal(sig("RTMIN"), SIGRTMIN);
	assert_int_equal(sig("SIGRTMIN+30"), SIGRTMAX);
	assert_int_equal(sig("RTMAX"), SIGRTMAX);
	assert_int_equal(sig("rtmax-30"), SIGRTMIN);
	assert_int_equal(sig("1"), 1);
	assert_int_equal(sig("64"), 64);
	static const char *const none[] = { "",
					    "SIG",
					    "0",
					    "65",
					    "100",
					    "-1",
					    "+1",
					    "9x",
					    "RTMIN+31",
					    "RTMIN-1",
					    "RTMAX+1",
					    "RTMAX-31",
					    "RTMIN+",
					    "RTMIN+x",
					    "TERM ",
					    "SIGSIGTERM",
					    "averyveryverylongname" };
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(sig(none[i]), 0);
	assert_int_equal(signal_by_name("TERM\0x", 6), 0);
}

static void test_namespaces(void **state)
{
	struct context *c = *state;

	expect(c->p, 1, "t.namespace", NULL, "[1, 1, nil, {\"namespace\"=>\"default\"}]");
	expect(c->p, 1, "t.namespace", "{\"namespace\":\"\"}",
	       "[1, 1, nil, {\"namespace\"=>\"default\"}]");
	expect(c->p, 1, "t.namespace", "{\"namespace\":\"other\"}",
	       "[1, 1, nil, {\"namespace\"=>\"other\"}]");
	expect(c->p, 1, "o.namespace", NULL, "[1, 1, nil, {\"namespace\"=>nil}]");
	expect(c->p, 1, "o.namespace", "{\"namespace\":\"other\"}",
	       "[1, 1, nil, {\"namespace\"=>\"other\"}]");
}

static void test_mask(void **state)
{
	struct context *c = *state;

#define MASK(a, b, d, e, f)                                                                        \
	"[1, 1, nil, {\"labels\"=>" a ", \"labels.a\"=>" b ", \"labels.a.b\"=>" d                  \
	", \"image\"=>" e ", \"labelsx\"=>" f "}]"
	expect(c->p, 1, "t.mask", NULL, MASK("true", "true", "true", "true", "true"));
	expect(c->p, 1, "t.mask", "{\"mask\":[]}", MASK("true", "true", "true", "true", "true"));
	expect(c->p, 1, "t.mask", "{\"mask\":[\"labels\"]}",
	       MASK("true", "true", "true", "false", "false"));
	expect(c->p, 1, "t.mask", "{\"mask\":[\"image\",\"labels.a\"]}",
	       MASK("false", "true", "true", "true", "false"));
	expect(c->p, 1, "t.mask", "{\"mask\":[\"\"]}",
	       MASK("false", "false", "false", "false", "false"));
}

static size_t read_pipe(int fd, char *text, size_t room)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(fd, text + used, room - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = '\0';
	assert_int_equal(n, 0); /* nobody holds the other end any more */
	return used;
}

static void test_fds(void **state)
{
	struct context *c = *state;
	int a[2], b[2];
	char text[128];

	/* two fds, one named twice, one not named */
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	peer_request_fds(c->p, 1, "t.fds",
			 "{\"stdin\":\"fd:1\",\"stdout\":\"fd:0\",\"stderr\":\"fd:0\"}",
			 (int[]){ a[1], b[1], a[1] }, 3);
	close(a[1]);
	close(b[1]);
	expect_next(c->p, "[1, 1, nil, {\"fds\"=>3}]");
	read_pipe(a[0], text, sizeof(text));
	assert_string_equal(text, "stdout\nstderr\n");
	read_pipe(b[0], text, sizeof(text));
	assert_string_equal(text, "stdin\n");
	close(a[0]);
	close(b[0]);

	/* a number too high; all are closed */
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	peer_request_fds(c->p, 1, "t.fds", "{\"stdin\":\"fd:0\",\"console\":\"fd:1\"}", a + 1, 1);
	close(a[1]);
	expect_next(c->p,
		    ERROR("invalid_argument", "t.fds: console: fd:1: the request came with 1 fds",
			  "\"argument\"=>\"console\""));
	read_pipe(a[0], text, sizeof(text));
	close(a[0]);

	/* a method that takes none, an unknown one, a notification */
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "t.namespace", "t.nothing" };

		assert_int_equal(pipe2(a, O_CLOEXEC), 0);
		if (i < 2)
			peer_request_fds(c->p, 1, names[i], NULL, a + 1, 1);
		else
			peer_write(c->p, "\x93\x02\xa1x\x90", 5, a + 1, 1);
		close(a[1]);
		if (i < 2)
			assert_non_null(strstr(peer_next(c->p, PATIENCE), "[1, 1, "));
		else
			expect_silence(c->p);
		read_pipe(a[0], text, sizeof(text));
		close(a[0]);
	}

	/* not the fds of the request before */
	expect(c->p, 1, "t.fds", "{\"stdin\":\"fd:0\"}",
	       ERROR("invalid_argument", "t.fds: stdin: fd:0: the request came with 0 fds",
		     "\"argument\"=>\"stdin\""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_types),
		TEST(test_empty_arrays_and_maps),
		TEST(test_wrong_types),
		TEST(test_ranges),
		TEST(test_ids),
		TEST(test_labels),
		TEST(test_unknown_and_required),
		TEST(test_shapes),
		TEST(test_stdio),
		TEST(test_signals),
		cmocka_unit_test(test_signal_names),
		TEST(test_namespaces),
		TEST(test_mask),
		TEST(test_fds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
