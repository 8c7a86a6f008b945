// SPDX-License-Identifier: Apache-2.0
/* The bus: order, filters, slow subscribers, gaps, and sinks that do things. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/bus.h"
#include "util/clock.h"
#include "util/mp.h"

struct fixture {
	char path[64];
	int dirfd;
	struct journal *journal;
	struct bus *bus;
	uint64_t published;
};

struct listener {
	struct fixture *x;
	struct bus_sub *sub;
	uint64_t expected; /* the next seq when nothing is filtered; 0: any that is higher */
	uint64_t last, n, gaps, lost;
	uint64_t room; /* events that it takes before it is full */
	const char *topic; /* if only this one may come */
	bool refuse_gap;
	void (*inside)(struct listener *l);
	struct listener *other;
};

static bool on_event(void *user, const struct journal_event *e)
{
	struct listener *l = user;
	char want[32];

	if (!l->room)
		return false;
	l->room--;
	if (l->expected)
		assert_int_equal(e->seq, l->expected++);
	assert_true(e->seq > l->last);
	l->last = e->seq;
	l->n++;
	if (l->topic)
		assert_string_equal(e->topic, l->topic);
	sprintf(want, "/t/%u", (unsigned)(e->seq % 4));
	assert_string_equal(e->topic, want);
	if (l->inside)
		l->inside(l);
	return true;
}

static bool on_gap(void *user, uint64_t from, uint64_t to)
{
	struct listener *l = user;

	if (l->refuse_gap)
		return false;
	assert_true(from > l->last && to >= from);
	if (l->expected) {
		assert_int_equal(from, l->expected);
		l->expected = to + 1;
	}
	l->last = to;
	l->lost += to - from + 1;
	l->gaps++;
	return true;
}

static const struct bus_sink sink = { on_event, on_gap };

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->path,
	       access("/dev/shm", W_OK) ? "/tmp/test_bus.XXXXXX" : "/dev/shm/test_bus.XXXXXX");
	assert_non_null(mkdtemp(x->path));
	x->dirfd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(journal_open(&x->journal, x->dirfd, 0, NULL, NULL, NULL, NULL), 0);
	assert_int_equal(bus_new(&x->bus, x->journal), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	struct dirent *e;
	DIR *d;

	bus_free(x->bus);
	journal_close(x->journal);
	d = opendir(x->path);
	while ((e = readdir(d))) {
		if (e->d_name[0] != '.')
			unlinkat(x->dirfd, e->d_name, 0);
	}
	closedir(d);
	close(x->dirfd);
	rmdir(x->path);
	free(x);
	return 0;
}

/* {id: "c<seq>", pid: seq, ok: true, labels: {"a.b": "x"}, pad: "…"} */
static void gather(struct fixture *x)
{
	uint64_t seq = ++x->published;
	static char pad[500];
	msgpack_sbuffer sb;
	msgpack_packer pk;
	char topic[32], id[32];

	sprintf(topic, "/t/%u", (unsigned)(seq % 4));
	sprintf(id, "c%llu", (unsigned long long)seq);
	msgpack_sbuffer_init(&sb);
	msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 7);
	mp_pack_key_str(&pk, "id", id);
	mp_pack_key_uint(&pk, "pid", seq);
	mp_pack_key_int(&pk, "minus", -5);
	mp_pack_key_bool(&pk, "ok", seq % 2);
	mp_pack_key_nil(&pk, "nil");
	mp_pack_key(&pk, "labels");
	msgpack_pack_map(&pk, 1);
	mp_pack_key_str(&pk, "a.b", "x");
	mp_pack_key(&pk, "pad");
	mp_pack_strn(&pk, pad, 1 + seq % 400);
	assert_int_equal(
		journal_event(x->journal, seq % 3 ? "default" : "other", topic, sb.data, sb.size),
		seq);
	msgpack_sbuffer_destroy(&sb);
}

static void publish(struct fixture *x, unsigned n)
{
	while (n--) {
		gather(x);
		if (x->published % 5 == 0)
			gather(x);
		assert_int_equal(journal_commit(x->journal), 0);
	}
}

static void subscribe(struct fixture *x, struct listener *l, const char *filter, const char *ns,
		      uint64_t after)
{
	struct filter *compiled = NULL;
	struct fault f = { 0 };

	l->x = x;
	if (!l->room)
		l->room = UINT64_MAX;
	if (filter && filter_compile(&filter, 1, &compiled, &f) < 0)
		fail_msg("%s", f.message);
	assert_int_equal(bus_subscribe(x->bus, &sink, l, compiled, ns, after, &l->sub), 0);
	assert_int_equal(l->n, 0);
}

static void test_live_and_replay(void **state)
{
	struct fixture *x = *state;
	struct listener live = { .expected = 1 }, late = { .expected = 51 }, now = { 0 };

	subscribe(x, &live, NULL, NULL, 0);
	bus_sub_kick(live.sub);
	publish(x, 100);
	assert_int_equal(live.last, x->published);
	subscribe(x, &late, NULL, NULL, 50);
	/* nothing before the kick, not even by a commit */
	publish(x, 1);
	assert_int_equal(late.n, 0);
	bus_sub_kick(late.sub);
	assert_int_equal(late.last, x->published);
	subscribe(x, &now, NULL, NULL, journal_last(x->journal));
	bus_sub_kick(now.sub);
	assert_int_equal(now.n, 0);
	publish(x, 10);
	assert_int_equal(now.last, x->published);
	assert_int_equal(late.last, x->published);
	assert_int_equal(live.n, x->published);
	bus_unsubscribe(now.sub);
	publish(x, 10);
	assert_true(now.last < x->published);
	bus_unsubscribe(NULL);
}

static uint64_t count(struct fixture *x, const char *filter, const char *ns)
{
	struct listener l = { 0 };

	subscribe(x, &l, filter, ns, 0);
	bus_sub_kick(l.sub);
	bus_unsubscribe(l.sub);
	return l.n;
}

static void test_filters(void **state)
{
	struct fixture *x = *state;
	struct listener l = { .topic = "/t/2" };
	uint64_t n;

	publish(x, 100);
	n = x->published;
	assert_int_equal(count(x, NULL, NULL), n);
	assert_int_equal(count(x, NULL, "other"), n / 3);
	assert_int_equal(count(x, NULL, "none"), 0);
	assert_int_equal(count(x, "namespace==other", NULL), n / 3);
	assert_int_equal(count(x, "topic==/t", NULL), 0);
	assert_int_equal(count(x, "topic==/t/1", NULL), (n + 3) / 4);
	assert_int_equal(count(x, "topic==\"/t/1\"", NULL), (n + 3) / 4);
	assert_int_equal(count(x, "topic~=|^/t/[01]$|,namespace==other", NULL),
			 n / 12 + (n + 3) / 12);
	assert_int_equal(count(x, "event.id==c7", NULL), 1);
	assert_int_equal(count(x, "event.pid==7", NULL), 1);
	assert_int_equal(count(x, "event.minus==-5", NULL), n);
	assert_int_equal(count(x, "event.ok==true", NULL), (n + 1) / 2);
	assert_int_equal(count(x, "event.nil", NULL), 0);
	assert_int_equal(count(x, "event.labels", NULL), n);
	assert_int_equal(count(x, "event.labels.a.b==x", NULL), n);
	assert_int_equal(count(x, "event.labels.\"a.b\"==x", NULL), n);
	assert_int_equal(count(x, "event.labels.a", NULL), 0);
	assert_int_equal(count(x, "event.id.x", NULL), 0);
	assert_int_equal(count(x, "event", NULL), 0);
	assert_int_equal(count(x, "nothing", NULL), 0);
	/* what is refused moves the cursor: a full sink is full at what it wants */
	l.room = 3;
	subscribe(x, &l, "topic==\"/t/2\"", NULL, 0);
	bus_sub_kick(l.sub);
	assert_int_equal(l.n, 3);
	assert_int_equal(l.last, 10);
	l.room = 1;
	bus_sub_kick(l.sub);
	assert_int_equal(l.last, 14);
}

#define MANY 300

/* Hundreds keep up while one is slow: it pays with a gap, nobody else notices. */
static void test_slow(void **state)
{
	struct fixture *x = *state;
	struct listener *many = calloc(MANY, sizeof(*many));
	struct listener slow = { .expected = 1, .room = 10 };
	int64_t begin, spent;

	assert_non_null(many);
	subscribe(x, &slow, NULL, NULL, 0);
	bus_sub_kick(slow.sub);
	for (int i = 0; i < MANY; i++) {
		many[i].expected = i % 3 ? 1 : 0;
		subscribe(x, &many[i], i % 3 ? NULL : "event.ok==true", NULL, 0);
		bus_sub_kick(many[i].sub);
	}
	begin = clock_mono();
	publish(x, 4000);
	spent = clock_mono() - begin;
	print_message("%lld ns a delivery\n", (long long)(spent / (int64_t)(x->published * MANY)));
	for (int i = 0; i < MANY; i++)
		assert_int_equal(many[i].n, i % 3 ? x->published : (x->published + 1) / 2);
	assert_int_equal(slow.n, 10);
	/* in steps; the gap is refused at first */
	slow.refuse_gap = true;
	slow.room = 1000;
	bus_sub_kick(slow.sub);
	assert_int_equal(slow.n, 10);
	slow.refuse_gap = false;
	while (slow.last < x->published) {
		slow.room = 77;
		bus_sub_kick(slow.sub);
		publish(x, 1);
	}
	assert_int_equal(slow.gaps, 1);
	assert_int_equal(slow.n + slow.lost, x->published);
	slow.room = UINT64_MAX;
	bus_sub_kick(slow.sub);
	publish(x, 5);
	assert_int_equal(slow.last, x->published);
	free(many);
}

static void unsubscribe_self(struct listener *l)
{
	bus_unsubscribe(l->sub);
	l->sub = NULL;
}

static void unsubscribe_other(struct listener *l)
{
	if (l->other->sub)
		bus_unsubscribe(l->other->sub);
	l->other->sub = NULL;
}

static void commit_more(struct listener *l)
{
	if (l->x->published < 200)
		publish(l->x, 1);
}

static void subscribe_other(struct listener *l)
{
	if (l->other->sub)
		return;
	subscribe(l->x, l->other, NULL, NULL, 0);
	bus_sub_kick(l->other->sub);
	bus_sub_kick(l->sub);
}

static void test_inside(void **state)
{
	struct fixture *x = *state;
	struct listener a = { .inside = unsubscribe_self }, b = { .expected = 1 },
			c = { .expected = 1 };
	struct listener d = { .inside = unsubscribe_other, .other = &b };
	struct listener e = { .inside = commit_more, .expected = 0 };
	struct listener f = { .inside = subscribe_other }, g = { .expected = 1 };

	subscribe(x, &a, NULL, NULL, 0);
	bus_sub_kick(a.sub);
	subscribe(x, &d, NULL, NULL, 0);
	bus_sub_kick(d.sub);
	subscribe(x, &b, NULL, NULL, 0);
	bus_sub_kick(b.sub);
	subscribe(x, &c, NULL, NULL, 0);
	bus_sub_kick(c.sub);
	publish(x, 3);
	assert_int_equal(a.n, 1);
	assert_int_equal(b.n, 0);
	assert_int_equal(c.n, 3);
	assert_int_equal(d.n, 3);
	/* commits from inside: all get all of it, in order */
	subscribe(x, &e, NULL, NULL, x->published);
	bus_sub_kick(e.sub);
	publish(x, 1);
	assert_true(x->published >= 200);
	assert_int_equal(c.n, x->published);
	assert_int_equal(e.n, x->published - 3);
	/* and a new subscriber from inside */
	f.other = &g;
	subscribe(x, &f, NULL, NULL, x->published);
	bus_sub_kick(f.sub);
	publish(x, 2);
	assert_int_equal(g.n, x->published);
	assert_int_equal(f.n, 2);
}

/* With a loop a long replay comes in portions, and live events behind it, in order. */
static void test_portions(void **state)
{
	struct fixture *x = *state;
	struct event_base *base = event_base_new();
	struct listener l = { .expected = 1 }, gone = { .expected = 1 };

	publish(x, 1000);
	assert_int_equal(bus_use_base(x->bus, base), 0);
	subscribe(x, &l, NULL, NULL, 0);
	bus_sub_kick(l.sub);
	assert_true(l.n > 0 && l.n < 1000);
	subscribe(x, &gone, NULL, NULL, 0);
	bus_sub_kick(gone.sub);
	publish(x, 1);
	assert_true(l.n < 1000);
	bus_unsubscribe(gone.sub);
	for (int i = 0; i < 100 && l.last < x->published; i++)
		event_base_loop(base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
	assert_int_equal(l.n, x->published);
	publish(x, 1);
	assert_int_equal(l.n, x->published);
	bus_free(x->bus);
	event_base_free(base);
	assert_int_equal(bus_new(&x->bus, x->journal), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_live_and_replay), T(test_filters),  T(test_slow),
		T(test_inside),		 T(test_portions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
