// SPDX-License-Identifier: Apache-2.0
#include "ipc_fixture.h"

#include "util/limits.h"

struct entry {
	char key[16], tier[8];
	int n;
};

static bool field(void *user, const char *const *path, size_t n, const char **value)
{
	struct entry *e = user;

	if (n == 1 && !strcmp(path[0], "id"))
		*value = e->key;
	else if (n == 2 && !strcmp(path[0], "labels") && !strcmp(path[1], "tier"))
		*value = e->tier;
	else
		return false;
	return true;
}

/* "k00000" … : every third is of tier "web" */
static void do_list(struct ipc_request *req, void *user)
{
	int total = *(int *)user, pad = (int)ipc_arg_int(req, "pad", 0);
	struct ipc_list it;

	if (!ipc_list_begin(req, "things", &it))
		return;
	for (int i = 0; i < total; i++) {
		struct entry e = { .n = i };

		snprintf(e.key, sizeof(e.key), "k%05d", i);
		strcpy(e.tier, i % 3 ? "db" : "web");
		if (strcmp(e.key, it.after) <= 0)
			continue;
		if (!ipc_list_want(&it, e.key, field, &e)) {
			if (it.full)
				break;
			continue;
		}
		msgpack_pack_map(it.pk, pad ? 4 : 3);
		mp_pack_key_str(it.pk, "id", e.key);
		mp_pack_key_int(it.pk, "n", e.n);
		mp_pack_key(it.pk, "labels");
		msgpack_pack_map(it.pk, 2);
		mp_pack_key_str(it.pk, "tier", e.tier);
		mp_pack_key_str(it.pk, "org.x/y.z", "dots");
		if (pad) {
			char *data = calloc(1, (size_t)pad);

			assert_non_null(data);
			mp_pack_key(it.pk, "pad");
			msgpack_pack_bin_with_body(it.pk, data, (size_t)pad);
			free(data);
		}
		memset(&e, 'x', sizeof(e)); /* the key was copied */
	}
	ipc_list_end(&it);
}

static void do_abort(struct ipc_request *req, void *user)
{
	struct ipc_list it;

	(void)user;
	if (!ipc_list_begin(req, "things", &it))
		return;
	msgpack_pack_map(it.pk, 3);
	ipc_list_abort(&it);
	ipc_reply_error(req, FAULT_UNAVAILABLE, NULL, "gave up");
}

static const struct ipc_param params[] = {
	{ "pad", IPC_INT, 0, 0, 0, NULL, "" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static const struct ipc_method methods[] = {
	{ "t.list", "", IPC_LISTS, params, NULL, NULL, do_list },
	{ "t.abort", "", IPC_LISTS, NULL, NULL, NULL, do_abort },
	{ NULL, NULL, 0, NULL, NULL, NULL, NULL },
};

struct context {
	struct fixture *fx;
	struct peer *p;
	int total;
};

static int setup(void **state)
{
	struct context *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->fx = fixture_new(methods, &c->total);
	c->p = peer_new(c->fx);
	c->total = 7;
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

#define list(json, text) expect(((struct context *)*state)->p, 1, "t.list", json, text)
#define IDS "\"fields\":[\"id\"]"
#define K(n) "{\"id\"=>\"k0000" n "\"}"

static void test_pages(void **state)
{
	struct context *c = *state;

	list("{" IDS ",\"limit\":3}", "[1, 1, nil, {\"things\"=>[" K("0") ", " K("1") ", " K(
					      "2") "], \"next\"=>\"k00002\"}]");
	list("{" IDS ",\"limit\":3,\"after\":\"k00002\"}",
	     "[1, 1, nil, {\"things\"=>[" K("3") ", " K("4") ", " K(
		     "5") "], \"next\"=>\"k00005\"}]");
	list("{" IDS ",\"limit\":3,\"after\":\"k00005\"}",
	     "[1, 1, nil, {\"things\"=>[" K("6") "]}]");
	/* exactly full: nothing more */
	list("{" IDS ",\"limit\":3,\"after\":\"k00003\"}",
	     "[1, 1, nil, {\"things\"=>[" K("4") ", " K("5") ", " K("6") "]}]");
	list("{" IDS ",\"after\":\"k00004\"}",
	     "[1, 1, nil, {\"things\"=>[" K("5") ", " K("6") "]}]");
	list("{" IDS ",\"after\":\"zz\"}", "[1, 1, nil, {\"things\"=>[]}]");
	/* the place need not exist */
	list("{" IDS ",\"after\":\"k00004x\",\"limit\":1}",
	     "[1, 1, nil, {\"things\"=>[" K("5") "], \"next\"=>\"k00005\"}]");
	list("{\"limit\":-1}", "[1, 1, {\"code\"=>\"invalid_argument\", "
			       "\"message\"=>\"t.list: limit: must be at least 0\", "
			       "\"details\"=>{\"argument\"=>\"limit\"}}, nil]");
	c->total = 0;
	list(NULL, "[1, 1, nil, {\"things\"=>[]}]");
	list("{\"limit\":0}", "[1, 1, nil, {\"things\"=>[]}]");
}

static void test_filters(void **state)
{
	list("{" IDS ",\"filters\":[\"labels.tier==web\"]}",
	     "[1, 1, nil, {\"things\"=>[" K("0") ", " K("3") ", " K("6") "]}]");
	/* `next` only if one more of them is wanted */
	list("{" IDS ",\"filters\":[\"labels.tier==web\"],\"limit\":2}",
	     "[1, 1, nil, {\"things\"=>[" K("0") ", " K("3") "], \"next\"=>\"k00003\"}]");
	list("{" IDS ",\"filters\":[\"labels.tier==web\"],\"limit\":3}",
	     "[1, 1, nil, {\"things\"=>[" K("0") ", " K("3") ", " K("6") "]}]");
	list("{" IDS ",\"filters\":[\"id==k00001\",\"id==k00002\"]}",
	     "[1, 1, nil, {\"things\"=>[" K("1") ", " K("2") "]}]");
	list("{" IDS ",\"filters\":[]}",
	     "[1, 1, nil, {\"things\"=>[" K("0") ", " K("1") ", " K("2") ", " K("3") ", " K(
		     "4") ", " K("5") ", " K("6") "]}]");
	list("{" IDS ",\"filters\":{},\"after\":\"k00005\"}",
	     "[1, 1, nil, {\"things\"=>[" K("6") "]}]");
	list("{" IDS ",\"filters\":[\"nothing\"]}", "[1, 1, nil, {\"things\"=>[]}]");
	peer_request(((struct context *)*state)->p, 1, "t.list", "{\"filters\":[\"id===\"]}");
	assert_non_null(
		strstr(peer_next(((struct context *)*state)->p, PATIENCE),
		       "[1, 1, {\"code\"=>\"invalid_argument\", \"message\"=>\"t.list: filters: "));
	assert_non_null(strstr(((struct context *)*state)->p->text, "\"argument\"=>\"filters\""));
	expect(((struct context *)*state)->p, 1, "t.abort", NULL,
	       "[1, 1, {\"code\"=>\"unavailable\", \"message\"=>\"t.abort: gave up\", "
	       "\"details\"=>{}}, nil]");
}

static void test_fields(void **state)
{
	((struct context *)*state)->total = 2;
	list(NULL,
	     "[1, 1, nil, {\"things\"=>[{\"id\"=>\"k00000\", \"n\"=>0, \"labels\"=>{\"tier\"=>\"web\", "
	     "\"org.x/y.z\"=>\"dots\"}}, {\"id\"=>\"k00001\", \"n\"=>1, "
	     "\"labels\"=>{\"tier\"=>\"db\", \"org.x/y.z\"=>\"dots\"}}]}]");
	list("{\"fields\":[],"
	     "\"limit\":1}",
	     "[1, 1, nil, {\"things\"=>[{\"id\"=>\"k00000\", \"n\"=>0, \"labels\"=>{\"tier\"=>\"web\", "
	     "\"org.x/y.z\"=>\"dots\"}}], \"next\"=>\"k00000\"}]");
	list("{\"fields\":[\"n\",\"labels\"],\"after\":\"k00000\"}",
	     "[1, 1, nil, {\"things\"=>[{\"n\"=>1, \"labels\"=>{\"tier\"=>\"db\", "
	     "\"org.x/y.z\"=>\"dots\"}}]}]");
	list("{\"fields\":[\"labels.tier\"]}",
	     "[1, 1, nil, {\"things\"=>[{\"labels\"=>{\"tier\"=>\"web\"}}, "
	     "{\"labels\"=>{\"tier\"=>\"db\"}}]}]");
	/* keys with dots */
	list("{\"fields\":[\"labels.org.x/y.z\",\"id\"],\"after\":\"k00000\"}",
	     "[1, 1, nil, {\"things\"=>[{\"id\"=>\"k00001\", \"labels\"=>{\"org.x/y.z\"=>\"dots\"}}]}]");
	/* whole wins over a part; what is not there, or has no parts, is left out */
	list("{\"fields\":[\"labels.tier\",\"labels\"],\"after\":\"k00000\"}",
	     "[1, 1, nil, {\"things\"=>[{\"labels\"=>{\"tier\"=>\"db\", \"org.x/y.z\"=>\"dots\"}}]}]");
	list("{\"fields\":[\"nope\",\"n.x\",\"i\",\"idx\"],\"after\":\"k00000\"}",
	     "[1, 1, nil, {\"things\"=>[{}]}]");
	list("{\"fields\":[\"labels.nope\"],\"after\":\"k00000\"}",
	     "[1, 1, nil, {\"things\"=>[{\"labels\"=>{}}]}]");
}

/* All pages of a long list, by the server's own limits. */
static unsigned walk(struct context *c, const char *args, unsigned *pages)
{
	char after[32] = "", json[128];
	unsigned entries = 0;

	*pages = 0;
	for (;;) {
		msgpack_unpacked u;
		const msgpack_object *o, *next;
		struct reader_frame f;
		size_t off = 0, got;
		int r;

		snprintf(json, sizeof(json), "{%s,\"after\":\"%s\"}", args, after);
		peer_request(c->p, 1, "t.list", json);
		while ((r = reader_next(&c->p->reader, &f)) == READER_E_MORE) {
			assert_int_equal(reader_settle(&c->p->reader), 0);
			turn(c->fx);
			r = reader_fill(&c->p->reader, c->p->fd, c->p->buf, sizeof(c->p->buf),
					&got);
			assert_true(r == 0 || r == -EAGAIN);
		}
		assert_int_equal(r, 0);
		assert_true(f.size < LIMIT_FRAME_BYTES);
		msgpack_unpacked_init(&u);
		assert_int_equal(msgpack_unpack_next(&u, f.data, f.size, &off),
				 MSGPACK_UNPACK_SUCCESS);
		o = &u.data.via.array.ptr[3];
		entries += mp_get(o, "things")->via.array.size;
		++*pages;
		next = mp_get(o, "next");
		if (next) {
			const char *p;
			size_t n;

			assert_true(mp_str(next, &p, &n));
			snprintf(after, sizeof(after), "%.*s", (int)n, p);
		}
		msgpack_unpacked_destroy(&u);
		if (!next)
			return entries;
	}
}

static void test_page_limits(void **state)
{
	struct context *c = *state;
	unsigned pages;

	c->total = LIMIT_LIST_PAGE;
	assert_int_equal(walk(c, IDS, &pages), LIMIT_LIST_PAGE);
	assert_int_equal(pages, 1);
	c->total = LIMIT_LIST_PAGE + 1;
	assert_int_equal(walk(c, IDS ",\"limit\":1000000", &pages), LIMIT_LIST_PAGE + 1);
	assert_int_equal(pages, 2);
	c->total = 100;
	assert_int_equal(walk(c, IDS ",\"limit\":7", &pages), 100);
	assert_int_equal(pages, 15);
	/* by bytes; what `fields` leaves out does not count */
	c->total = 30;
	assert_int_equal(walk(c, "\"pad\":1000000", &pages), 30);
	assert_int_equal(pages, 4);
	assert_int_equal(walk(c, IDS ",\"pad\":1000000", &pages), 30);
	assert_int_equal(pages, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(test_pages),
		TEST(test_filters),
		TEST(test_fields),
		TEST(test_page_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
