// SPDX-License-Identifier: Apache-2.0
/*
 * Events: publish, subscribe, unsubscribe
 *
 * A subscription is a cursor in the journal (monitor/bus.h) with a connection as its sink. It
 * belongs to the connection: when that closes, the subscription is gone. What it writes before each
 * event (message type, the subscriber's method and arguments) is packed once.
 *
 * Flow: journal_commit calls bus_pump, which calls sink_event for each subscriber in the same turn
 * of the loop; the connection writes at the turn's end. A connection with much unwritten refuses
 * events; its subscriptions stay where they are in the journal, at the cost of a cursor, and go on
 * when it has drained.
 *
 * Seqs mean something only within one journal. A client that comes with a seq of another journal
 * (or with one that this journal has not reached, which is the same mistake) is told by a gap that
 * ends before the oldest event here, and then gets all there is.
 */
#include "core/events.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/request.h"
#include "ipc/server.h"
#include "monitor/bus.h"
#include "monitor/journal.h"
#include "util/container_of.h"
#include "util/filter.h"
#include "util/limits.h"
#include "util/mp.h"

/* The server tells `drained` only for backlogs that had stood this high. */
#define SINK_BACKLOG (LIMIT_CONN_BACKLOG / 2)

struct subscription {
	LIST_ENTRY(subscription) link;
	struct subscriptions *all;
	struct ipc_conn *conn;
	struct ipc_conn_watch watch;
	struct bus_sub *sub;
	uint64_t id;
	bool lead; /* the first thing it gets is the gap below */
	uint64_t lead_to;
	size_t prefix_size;
	char prefix[]; /* [2, method, args + [ … */
};

struct subscriptions {
	struct davit *d;
	LIST_HEAD(, subscription) list;
	size_t count;
	uint64_t last_id;
	msgpack_sbuffer scratch; /* of the notification being sent */
	struct event *retry; /* after a moment without memory */
};

/* ---- recording */

int event_emit(struct davit *d, const char *ns, const char *topic, const msgpack_sbuffer *payload)
{
	journal_event(d->journal, ns, topic, payload->data, payload->size);
	return journal_commit(d->journal);
}

/* ---- sending */

/* What was packed into scratch, to the connection. false: not taken. */
static bool send_scratch(struct subscription *s)
{
	struct subscriptions *all = s->all;
	static const struct timeval soon = { .tv_usec = 20000 };
	int r = mp_failed(&all->scratch)
			? -ENOMEM
			: ipc_conn_send(s->conn, all->scratch.data, all->scratch.size);

	if (r == -ENOMEM) {
		if (mp_failed(&all->scratch)) {
			msgpack_sbuffer_destroy(&all->scratch);
			msgpack_sbuffer_init(&all->scratch);
		}
		event_add(all->retry, &soon);
		return false;
	}
	/* a connection that is closing takes no more, and tells so by `closed` */
	return true;
}

static bool send_gap(struct subscription *s, uint64_t from, uint64_t to)
{
	msgpack_packer pk;

	msgpack_sbuffer_clear(&s->all->scratch);
	mp_packer_init(&pk, &s->all->scratch);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, 2);
	mp_pack_str(&pk, "gap");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 3);
	mp_pack_key_uint(&pk, "subscription", s->id);
	mp_pack_key_uint(&pk, "from", from);
	mp_pack_key_uint(&pk, "to", to);
	return send_scratch(s);
}

/* Room on the connection, and the gap due at the start is out. */
static bool sink_open(struct subscription *s)
{
	if (ipc_conn_backlog(s->conn) >= SINK_BACKLOG)
		return false;
	if (s->lead) {
		if (!send_gap(s, 0, s->lead_to))
			return false;
		s->lead = false;
	}
	return true;
}

static bool sink_event(void *user, const struct journal_event *e)
{
	struct subscription *s = user;
	msgpack_sbuffer *sb = &s->all->scratch;
	msgpack_packer pk;

	if (!sink_open(s))
		return false;
	msgpack_sbuffer_clear(sb);
	mp_packer_init(&pk, sb);
	mp_pack_raw(&pk, s->prefix, s->prefix_size);
	msgpack_pack_map(&pk, 6);
	mp_pack_key_uint(&pk, "subscription", s->id);
	mp_pack_key_uint(&pk, "seq", e->seq);
	mp_pack_key_int(&pk, "timestamp", e->timestamp);
	mp_pack_key_str(&pk, "namespace", e->ns);
	mp_pack_key_str(&pk, "topic", e->topic);
	mp_pack_key(&pk, "event");
	mp_pack_raw(&pk, e->payload, e->payload_size);
	return send_scratch(s);
}

static bool sink_gap(void *user, uint64_t from, uint64_t to)
{
	struct subscription *s = user;

	return sink_open(s) && send_gap(s, from, to);
}

static const struct bus_sink sink = { sink_event, sink_gap };

static void on_drained(struct ipc_conn_watch *w)
{
	bus_sub_kick(container_of(w, struct subscription, watch)->sub);
}

static void on_retry(evutil_socket_t fd, short what, void *user)
{
	struct subscriptions *all = user;
	struct subscription *s;

	(void)fd;
	(void)what;
	LIST_FOREACH (s, &all->list, link)
		bus_sub_kick(s->sub);
}

/* ---- subscriptions */

static void subscription_free(struct subscription *s)
{
	if (s->sub)
		bus_unsubscribe(s->sub);
	LIST_REMOVE(s, link);
	s->all->count--;
	free(s);
}

static void on_closed(struct ipc_conn_watch *w)
{
	subscription_free(container_of(w, struct subscription, watch));
}

int subscriptions_new(struct davit *d)
{
	struct subscriptions *all = calloc(1, sizeof(*all));

	if (!all)
		return -ENOMEM;
	all->d = d;
	LIST_INIT(&all->list);
	msgpack_sbuffer_init(&all->scratch);
	all->retry = event_new(d->base, -1, 0, on_retry, all);
	if (!all->retry) {
		free(all);
		return -ENOMEM;
	}
	d->subscriptions = all;
	return 0;
}

void subscriptions_free(struct davit *d)
{
	struct subscriptions *all = d->subscriptions;
	struct subscription *s;

	if (!all)
		return;
	while ((s = LIST_FIRST(&all->list))) {
		ipc_conn_unwatch(&s->watch);
		subscription_free(s);
	}
	msgpack_sbuffer_destroy(&all->scratch);
	event_free(all->retry);
	free(all);
	d->subscriptions = NULL;
}

size_t subscriptions_count(const struct davit *d)
{
	return d->subscriptions->count;
}

static size_t count_of(struct subscriptions *all, const struct ipc_conn *conn)
{
	struct subscription *s;
	size_t n = 0;

	LIST_FOREACH (s, &all->list, link)
		n += s->conn == conn;
	return n;
}

/*
 * neovim's nvim_exec_lua(code, [arguments]) and nvim_call_function(name, [arguments]) refuse
 * anything but an array as their second parameter (api.txt), so there the event goes into that
 * array: args [code] or [code, [more…]] become [code, [more…, event]].
 */
static bool calls_by_array(const char *method, const msgpack_object *args, uint32_t n)
{
	if (!method || (strcmp(method, "nvim_exec_lua") && strcmp(method, "nvim_call_function")))
		return false;
	return n == 1 || (n == 2 && args->via.array.ptr[1].type == MSGPACK_OBJECT_ARRAY);
}

/* With its prefix packed; in no list yet. */
static struct subscription *subscription_new(struct ipc_request *req)
{
	const char *method = ipc_arg_str(req, "method");
	const msgpack_object *args = ipc_arg(req, "args");
	uint32_t n = args && args->type == MSGPACK_OBJECT_ARRAY ? args->via.array.size : 0;
	struct subscription *s = NULL;
	msgpack_sbuffer sb;
	msgpack_packer pk;

	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, 2);
	mp_pack_str(&pk, method ? method : "event");
	if (calls_by_array(method, args, n)) {
		const msgpack_object_array *inner = n == 2 ? &args->via.array.ptr[1].via.array
							   : NULL;

		msgpack_pack_array(&pk, 2);
		msgpack_pack_object(&pk, args->via.array.ptr[0]);
		msgpack_pack_array(&pk, (inner ? (size_t)inner->size : 0) + 1);
		for (uint32_t i = 0; inner && i < inner->size; i++)
			msgpack_pack_object(&pk, inner->ptr[i]);
	} else {
		msgpack_pack_array(&pk, (size_t)n + 1);
		for (uint32_t i = 0; i < n; i++)
			msgpack_pack_object(&pk, args->via.array.ptr[i]);
	}
	if (!mp_failed(&sb))
		s = calloc(1, sizeof(*s) + sb.size);
	if (s) {
		s->prefix_size = sb.size;
		memcpy(s->prefix, sb.data, sb.size);
		s->watch.drained = on_drained;
		s->watch.closed = on_closed;
	}
	msgpack_sbuffer_destroy(&sb);
	return s;
}

/* Where it begins: the seq after which events are wanted. */
static uint64_t subscription_start(struct davit *d, struct ipc_request *req, struct subscription *s)
{
	uint64_t last = journal_last(d->journal), first = journal_first(d->journal), since;
	const char *journal = ipc_arg_str(req, "journal");

	if (!ipc_has(req, "since"))
		return last;
	since = (uint64_t)ipc_arg_int(req, "since", 0);
	if (since > last || (journal && strcmp(journal, journal_id(d->journal)))) {
		s->lead = true;
		s->lead_to = first ? first - 1 : 0;
		return s->lead_to;
	}
	return since;
}

static void events_subscribe(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct subscriptions *all = d->subscriptions;
	struct ipc_conn *conn = ipc_request_conn(req);
	struct subscription *s;
	struct filter *filter = NULL;
	struct fault f = { 0 };
	size_t n;
	const char *const *filters = ipc_arg_strs(req, "filters", &n);
	msgpack_packer *pk;
	uint64_t after;

	if (!conn) {
		ipc_reply_error(req, FAULT_CANCELLED, NULL, "the connection is gone");
		return;
	}
	if (count_of(all, conn) >= LIMIT_CONN_SUBSCRIPTIONS) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL,
				"events.subscribe: a connection can have %u subscriptions",
				LIMIT_CONN_SUBSCRIPTIONS);
		return;
	}
	if (n && filter_compile(filters, n, &filter, &f) < 0) {
		fault_prefix(&f, "events.subscribe: filters");
		fault_arg(&f, "filters");
		ipc_reply_fault(req, &f);
		return;
	}
	s = subscription_new(req);
	if (!s) {
		filter_free(filter);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	s->all = all;
	s->conn = conn;
	after = subscription_start(d, req, s);
	if (bus_subscribe(d->bus, &sink, s, filter, ipc_namespace(req), after, &s->sub) < 0) {
		filter_free(filter);
		free(s);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	s->id = ++all->last_id;
	LIST_INSERT_HEAD(&all->list, s, link);
	all->count++;
	ipc_conn_watch(conn, &s->watch);

	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 4);
	mp_pack_key_uint(pk, "subscription", s->id);
	mp_pack_key_str(pk, "journal", journal_id(d->journal));
	mp_pack_key_uint(pk, "first_seq", journal_first(d->journal));
	mp_pack_key_uint(pk, "last_seq", journal_last(d->journal));
	ipc_reply_end(req);
	/* the answer is in the connection's queue: what follows comes behind it */
	if (sink_open(s))
		bus_sub_kick(s->sub);
}

static void events_unsubscribe(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	uint64_t id = (uint64_t)ipc_arg_int(req, "subscription", 0);
	struct ipc_conn *conn = ipc_request_conn(req);
	struct subscription *s;

	LIST_FOREACH (s, &d->subscriptions->list, link)
		if (s->id == id && s->conn == conn)
			break;
	if (!s) {
		ipc_reply_error(req, FAULT_NOT_FOUND, "subscription",
				"events.unsubscribe: this connection has no subscription %llu",
				(unsigned long long)id);
		return;
	}
	ipc_conn_unwatch(&s->watch);
	subscription_free(s);
	ipc_reply_empty(req);
}

/* ---- publishing */

static bool word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* containerd's rule: '/' and a word, one or more times; words as identifiers are. */
static bool topic_ok(const char *t)
{
	if (*t != '/')
		return false;
	while (*t == '/') {
		t++;
		if (!word_char(*t))
			return false;
		while (word_char(*t) || ((*t == '.' || *t == '_' || *t == '-') && word_char(t[1])))
			t++;
	}
	return !*t;
}

static void events_publish(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	const char *topic = ipc_arg_str(req, "topic");
	const msgpack_object *event = ipc_arg(req, "event");
	uint64_t seq = journal_last(d->journal) + 1;
	msgpack_sbuffer sb;
	msgpack_packer pk, *answer;
	size_t size;
	int r;

	if (!topic_ok(topic)) {
		ipc_reply_error(
			req, FAULT_INVALID_ARGUMENT, "topic",
			"events.publish: topic '%s' must be words behind slashes, as /backup/done",
			topic);
		return;
	}
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	if (event->type == MSGPACK_OBJECT_MAP)
		msgpack_pack_object(&pk, *event);
	else
		msgpack_pack_map(&pk, 0); /* an empty array */
	size = mp_failed(&sb) ? 0 : sb.size;
	r = !size		       ? -ENOMEM
	    : size > LIMIT_EVENT_BYTES ? -EMSGSIZE
				       : event_emit(d, ipc_namespace(req), topic, &sb);
	msgpack_sbuffer_destroy(&sb);
	if (r == -EMSGSIZE) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, "event",
				"events.publish: the event has %zu bytes, the most is %u", size,
				LIMIT_EVENT_BYTES);
		return;
	}
	if (r < 0) {
		struct fault f;

		fault_sys(&f, -r, "write the event", "journal");
		ipc_reply_fault(req, &f);
		return;
	}
	answer = ipc_reply_begin(req);
	msgpack_pack_map(answer, 1);
	mp_pack_key_uint(answer, "seq", seq);
	ipc_reply_end(req);
}

/* ---- tables */

static const struct ipc_param publish_params[] = {
	{ .name = "topic",
	  .type = IPC_STR,
	  .flags = IPC_REQUIRED,
	  .min = 2,
	  .max = 256,
	  .doc = "words behind slashes, as /backup/done" },
	{ .name = "event", .type = IPC_MAP, .flags = IPC_REQUIRED, .doc = "the payload" },
	{ 0 },
};
static const struct ipc_param subscribe_params[] = {
	{ .name = "filters",
	  .type = IPC_STRS,
	  .doc = "fields topic, namespace, event.FIELD; any of the list" },
	{ .name = "since",
	  .type = IPC_INT,
	  .min = 0,
	  .max = INT64_MAX,
	  .doc = "first all events after this seq that are still there; only new ones unless given" },
	{ .name = "journal",
	  .type = IPC_STR,
	  .max = 64,
	  .doc = "identity of the journal that `since` counts in" },
	{ .name = "method",
	  .type = IPC_STR,
	  .min = 1,
	  .max = 256,
	  .dflt = "event",
	  .doc = "method of the notifications" },
	{ .name = "args",
	  .type = IPC_LIST,
	  .dflt = "[]",
	  .doc = "arguments of the notifications before the event; with nvim_exec_lua and nvim_call_function the event is put into the array that they take" },
	{ 0 },
};
static const struct ipc_param unsubscribe_params[] = {
	{ .name = "subscription",
	  .type = IPC_INT,
	  .flags = IPC_REQUIRED,
	  .min = 1,
	  .max = INT64_MAX,
	  .doc = "as events.subscribe answered it" },
	{ 0 },
};
static const struct ipc_field publish_result[] = {
	{ "seq", "int", "the event's number" },
	{ 0 },
};
static const struct ipc_field subscribe_result[] = {
	{ "subscription", "int", "in each of its notifications" },
	{ "journal", "str", "the journal's identity: another one after a reboot" },
	{ "first_seq", "int", "the oldest event kept" },
	{ "last_seq", "int", "the newest event" },
	{ 0 },
};

const struct ipc_method event_methods[] = {
	{ "events.publish", "Writes an event of the client's own", 0, publish_params,
	  publish_result, NULL, events_publish },
	{ "events.subscribe",
	  "Sends events as notifications; of all namespaces unless one is named. What a slow reader misses is told by a gap notification",
	  IPC_NO_NAMESPACE, subscribe_params, subscribe_result, NULL, events_subscribe },
	{ "events.unsubscribe", "Ends a subscription of this connection", IPC_NO_NAMESPACE,
	  unsubscribe_params, NULL, "not_found", events_unsubscribe },
	{ 0 },
};

const struct ipc_topic event_topics[] = {
	{ "/tasks/create", "container_id bundle rootfs io checkpoint pid",
	  "A task was created; its init waits" },
	{ "/tasks/start", "container_id pid", "The init runs" },
	{ "/tasks/exit", "container_id id pid exit_status exited_at exit_reason signal",
	  "A process ended: the init (id is the container's) or an exec. Execs come before the init" },
	{ "/tasks/delete", "container_id id pid exit_status exited_at",
	  "A task, or an exec, was removed" },
	{ "/tasks/exec-added", "container_id exec_id", "An exec was made" },
	{ "/tasks/exec-started", "container_id exec_id pid", "An exec runs" },
	{ "/tasks/oom", "container_id", "The kernel killed for memory; comes before the exit" },
	{ "/tasks/paused", "container_id", "All processes are frozen" },
	{ "/tasks/resumed", "container_id", "They run again" },
	{ "/tasks/checkpointed", "container_id checkpoint", "A checkpoint is durable" },
	{ "/tasks/progress", "progress phase done total",
	  "How far a checkpoint or a restore is, for who gave it a text to be found by" },
	{ "/containers/create", "id image runtime", "A container was stored" },
	{ "/containers/update", "id image labels snapshot_key", "A container was changed" },
	{ "/containers/delete", "id", "A container was removed" },
	{ "/namespaces/create", "name labels", "A namespace was made" },
	{ "/namespaces/update", "name labels", "A namespace's labels were changed" },
	{ "/namespaces/delete", "name", "A namespace was removed" },
	{ "/content/create", "digest size", "A content came into the namespace" },
	{ "/content/delete", "digest size", "A content was taken out of the namespace" },
	{ "/content/progress", "progress phase done total",
	  "How far content.verify is, for who gave it a text to be found by" },
	{ "/images/create", "name labels", "A name was given to an image" },
	{ "/images/update", "name labels", "An image's target or labels were changed" },
	{ "/images/delete", "name", "An image's name was forgotten" },
	{ "/images/progress", "progress phase done total",
	  "How far a long method of images is, for who gave it a text to be found by" },
	{ "/diff/progress", "progress phase done total",
	  "How far diff.apply or diff.diff is, for who gave it a text to be found by" },
	{ "/snapshot/prepare", "key parent snapshotter", "An active snapshot was made" },
	{ "/snapshot/commit", "key name snapshotter", "A snapshot was committed under a name" },
	{ "/snapshot/remove", "key snapshotter", "A snapshot was removed" },
	{ 0 },
};
