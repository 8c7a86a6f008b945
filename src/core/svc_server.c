// SPDX-License-Identifier: Apache-2.0
/*
 * The methods server.info, server.stats and server.shutdown
 *
 * What server.info has to find out by trying (criu's version, what the kernel can do) is found out
 * on a worker when it is first asked for, and kept. Requests that come meanwhile wait for the same
 * job.
 */
#include "core/server_methods.h"

#include <bsd/sys/queue.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/container.h"
#include "core/events.h"
#include "core/program.h"
#include "core/reactor.h"
#include "core/task.h"
#include "ipc/request.h"
#include "ipc/server.h"
#include "monitor/journal.h"
#include "monitor/reaper.h"
#include "runtime/cgroup.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/mp.h"
#include "util/probe.h"
#include "util/worker.h"

#ifndef DAVIT_VERSION
#define DAVIT_VERSION "0.0.0"
#endif

struct info_waiter {
	STAILQ_ENTRY(info_waiter) link;
	struct ipc_request *req;
};

struct server_facts {
	struct worker_job job;
	struct davit *d;
	STAILQ_HEAD(, info_waiter) waiters; /* in their requests' zones */
	bool known;
	struct program_version criu;
	struct probe_feature features[PROBE_FEATURES];
	size_t n_features;
};

int server_facts_new(struct server_facts **out)
{
	struct server_facts *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	STAILQ_INIT(&s->waiters);
	*out = s;
	return 0;
}

void server_facts_free(struct server_facts *s)
{
	free(s);
}

/* ---- info */

static void pack_limits(msgpack_packer *pk)
{
	static const struct {
		const char *name;
		uint64_t value;
	} limits[] = {
		{ "frame_bytes", LIMIT_FRAME_BYTES },
		{ "frame_depth", LIMIT_FRAME_DEPTH },
		{ "frame_items", LIMIT_FRAME_ITEMS },
		{ "conn_requests", LIMIT_CONN_REQUESTS },
		{ "conn_waits", LIMIT_CONN_WAITS },
		{ "conn_subscriptions", LIMIT_CONN_SUBSCRIPTIONS },
		{ "conn_held_bytes", LIMIT_CONN_HELD_BYTES },
		{ "conn_backlog", LIMIT_CONN_BACKLOG },
		{ "connections", LIMIT_CONNECTIONS },
		{ "request_fds", LIMIT_REQUEST_FDS },
		{ "list_page", LIMIT_LIST_PAGE },
		{ "list_bytes", LIMIT_LIST_BYTES },
		{ "id_bytes", LIMIT_ID_BYTES },
		{ "label_bytes", LIMIT_LABEL_BYTES },
		{ "labels", LIMIT_LABELS },
		{ "namespaces", LIMIT_NAMESPACES },
		{ "path_bytes", LIMIT_PATH_BYTES },
		{ "name_bytes", LIMIT_NAME_BYTES },
		{ "extensions_bytes", LIMIT_EXTENSIONS_BYTES },
		{ "spec_bytes", LIMIT_SPEC_BYTES },
		{ "spec_mounts", LIMIT_SPEC_MOUNTS },
		{ "spec_args_bytes", LIMIT_SPEC_ARGS_BYTES },
		{ "json_depth", LIMIT_JSON_DEPTH },
		{ "filter_bytes", LIMIT_FILTER_BYTES },
		{ "filters", LIMIT_FILTERS },
		{ "event_bytes", LIMIT_EVENT_BYTES },
		{ "journal_bytes_min", LIMIT_JOURNAL_BYTES_MIN },
		{ "tty_replay", LIMIT_TTY_REPLAY },
		{ "tty_client_backlog", LIMIT_TTY_CLIENT_BACKLOG },
		{ "log_line", LIMIT_LOG_LINE },
		{ "log_size_default", LIMIT_LOG_SIZE_DEFAULT },
		{ "hook_output", LIMIT_HOOK_OUTPUT },
		{ "hook_seconds_default", LIMIT_HOOK_SECONDS_DEFAULT },
	};

	msgpack_pack_map(pk, ARRAY_SIZE(limits));
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		mp_pack_key_uint(pk, limits[i].name, limits[i].value);
}

static void pack_cgroup(msgpack_packer *pk, const struct cgroup_host *h)
{
	static const char *const layouts[] = {
		[CGROUP_V1] = "v1", [CGROUP_HYBRID] = "hybrid", [CGROUP_V2] = "v2"
	};

	msgpack_pack_map(pk, 2);
	mp_pack_key_str(pk, "layout", layouts[cgroup_host_layout(h)]);
	mp_pack_key_str(pk, "controllers", cgroup_host_describe(h));
}

static void pack_criu(msgpack_packer *pk, const struct server_facts *s)
{
	const struct program_version *v = &s->criu;

	msgpack_pack_map(pk, v->problem[0] ? 4 : 3);
	mp_pack_key_str(pk, "path", v->path[0] ? v->path : s->d->config.criu);
	mp_pack_key_bool(pk, "available", v->version[0]);
	mp_pack_key_str(pk, "version", v->version[0] ? v->version : NULL);
	if (v->problem[0])
		mp_pack_key_str(pk, "problem", v->problem);
}

static void info_answer(struct davit *d, struct ipc_request *req)
{
	struct utsname u = { 0 };
	msgpack_packer *pk = ipc_reply_begin(req);

	uname(&u);
	msgpack_pack_map(pk, 14);
	mp_pack_key_str(pk, "id", d->id);
	mp_pack_key_int(pk, "pid", getpid());
	mp_pack_key_int(pk, "guardian_pid", d->guardian_pid);
	mp_pack_key_str(pk, "version", DAVIT_VERSION);
	mp_pack_key_int(pk, "started_at", d->started_at);
	mp_pack_key_str(pk, "root", d->config.root);
	mp_pack_key_str(pk, "state", d->config.state);
	mp_pack_key_str(pk, "socket", d->config.socket);
	mp_pack_key_str(pk, "kernel", u.release);
	mp_pack_key(pk, "cgroup");
	pack_cgroup(pk, d->cgroups);
	mp_pack_key(pk, "criu");
	pack_criu(pk, d->facts);
	mp_pack_key(pk, "features");
	msgpack_pack_map(pk, d->facts->n_features);
	for (size_t i = 0; i < d->facts->n_features; i++)
		mp_pack_key_bool(pk, d->facts->features[i].name, d->facts->features[i].available);
	mp_pack_key(pk, "limits");
	pack_limits(pk);
	mp_pack_key_str(pk, "journal", journal_id(d->journal));
	ipc_reply_end(req);
}

static void facts_run(struct worker_job *job)
{
	struct server_facts *s = container_of(job, struct server_facts, job);

	program_version(s->d->config.criu, "--version", "Version:", &s->criu);
	s->n_features = probe_features(s->features);
}

static void version_reaped(void *user, const struct reaper_status *status)
{
	(void)user;
	(void)status;
}

static void facts_done(struct worker_job *job)
{
	struct server_facts *s = container_of(job, struct server_facts, job);
	struct reaper_watch *watch;
	struct info_waiter *w;

	s->known = true;
	/* the reaper keeps what nobody asks for; this one is of no interest */
	if (s->criu.pid > 0)
		(void)reaper_add(s->d->reaper, REAPER_CHILD, s->criu.pid, -1, version_reaped, NULL,
				 &watch);
	while ((w = STAILQ_FIRST(&s->waiters))) {
		STAILQ_REMOVE_HEAD(&s->waiters, link);
		info_answer(s->d, w->req);
	}
}

static void server_info(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct server_facts *s = d->facts;
	struct info_waiter *w;

	if (s->known) {
		info_answer(d, req);
		return;
	}
	w = ipc_request_alloc(req, sizeof(*w));
	if (!w) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	w->req = req;
	if (STAILQ_EMPTY(&s->waiters)) {
		s->d = d;
		s->job = (struct worker_job){ .run = facts_run, .done = facts_done };
		worker_submit(d->workers, &s->job);
	}
	STAILQ_INSERT_TAIL(&s->waiters, w, link);
}

/* ---- stats */

/* A value in kB of a /proc file of lines "Name:   123 kB", in bytes; 0 when it is not there. */
static uint64_t proc_bytes(pid_t pid, const char *file, const char *name)
{
	CLEANUP_FREE char *text = NULL;
	unsigned long long kb = 0;
	char path[64], *line;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	if (fd_read_file(AT_FDCWD, path, 64 << 10, &text, NULL) < 0)
		return 0;
	line = strstr(text, name);
	if (!line || sscanf(line + strlen(name), " %llu", &kb) != 1)
		return 0;
	return kb << 10;
}

static void pack_memory(msgpack_packer *pk, const struct davit *d)
{
	struct mallinfo2 heap = mallinfo2();
	uint64_t own = proc_bytes(getpid(), "smaps_rollup", "\nPss:"),
		 guardian = proc_bytes(d->guardian_pid, "smaps_rollup", "\nPss:");

	msgpack_pack_map(pk, 6);
	mp_pack_key_uint(pk, "pss", own + guardian);
	mp_pack_key_uint(pk, "reactor_pss", own);
	mp_pack_key_uint(pk, "guardian_pss", guardian);
	mp_pack_key_uint(pk, "rss", proc_bytes(getpid(), "status", "VmRSS:"));
	mp_pack_key_uint(pk, "heap", heap.arena + heap.hblkhd);
	mp_pack_key_uint(pk, "heap_used", heap.uordblks + heap.hblkhd);
}

static void pack_pool(msgpack_packer *pk, const char *name, struct worker_pool *pool)
{
	struct worker_stats s;

	worker_pool_stats(pool, &s);
	mp_pack_key(pk, name);
	msgpack_pack_map(pk, 4);
	mp_pack_key_uint(pk, "threads", s.threads);
	mp_pack_key_uint(pk, "queued", s.queued);
	mp_pack_key_uint(pk, "running", s.running);
	mp_pack_key_uint(pk, "finished", s.finished);
}

struct by_method {
	msgpack_packer *pk;
	uint32_t count;
};

static void pack_method(void *user, const struct ipc_method *m, uint64_t calls)
{
	struct by_method *b = user;

	mp_pack_key_uint(b->pk, m->name, calls);
	b->count++;
}

static void pack_requests(msgpack_packer *pk, struct ipc_request *req, const struct davit *d,
			  const struct ipc_server_stats *s)
{
	struct by_method by = { .pk = pk };
	size_t mark;

	msgpack_pack_map(pk, 3);
	mp_pack_key_uint(pk, "total", s->requests);
	mp_pack_key_uint(pk, "in_flight", s->in_flight);
	mp_pack_key(pk, "by_method");
	mark = mp_map_begin(ipc_reply_buffer(req));
	ipc_server_each_method(d->server, pack_method, &by);
	mp_map_end(ipc_reply_buffer(req), mark, by.count);
}

static void pack_reactor(msgpack_packer *pk, const struct davit *d)
{
	struct reactor_stats s;

	reactor_get_stats(d, &s);
	msgpack_pack_map(pk, 6);
	mp_pack_key_int(pk, "uptime_ns", clock_mono() - s.started_mono);
	mp_pack_key_uint(pk, "turns", s.turns);
	mp_pack_key_int(pk, "busy_ns", s.busy_ns);
	mp_pack_key_int(pk, "turn_max_ns", s.turn_max_ns);
	mp_pack_key_int(pk, "delay_ns", s.late_last_ns);
	mp_pack_key_int(pk, "delay_max_ns", s.late_max_ns);
}

static void server_stats(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct ipc_server_stats ipc;
	struct tasks_stats tasks;
	struct containers_stats containers;
	msgpack_packer *pk = ipc_reply_begin(req);

	ipc_server_stats(d->server, &ipc);
	tasks_get_stats(d, &tasks);
	containers_get_stats(d, &containers);
	msgpack_pack_map(pk, 8);
	mp_pack_key(pk, "requests");
	pack_requests(pk, req, d, &ipc);
	mp_pack_key(pk, "connections");
	msgpack_pack_map(pk, 6);
	mp_pack_key_uint(pk, "open", ipc.connections);
	mp_pack_key_uint(pk, "accepted", ipc.accepted);
	mp_pack_key_uint(pk, "refused", ipc.refused);
	mp_pack_key_uint(pk, "bytes_in", ipc.bytes_in);
	mp_pack_key_uint(pk, "bytes_out", ipc.bytes_out);
	mp_pack_key_uint(pk, "notifications", ipc.notifications);
	mp_pack_key(pk, "tasks");
	msgpack_pack_map(pk, 5);
	mp_pack_key_uint(pk, "tasks", tasks.tasks);
	mp_pack_key_uint(pk, "processes", tasks.processes);
	mp_pack_key_uint(pk, "running", tasks.running);
	mp_pack_key_uint(pk, "created", tasks.created);
	mp_pack_key_uint(pk, "stopped", tasks.stopped);
	mp_pack_key(pk, "containers");
	msgpack_pack_map(pk, 3);
	mp_pack_key_uint(pk, "containers", containers.containers);
	mp_pack_key_uint(pk, "namespaces", containers.namespaces);
	mp_pack_key_uint(pk, "specs", containers.specs);
	mp_pack_key(pk, "events");
	msgpack_pack_map(pk, 4);
	mp_pack_key_uint(pk, "first_seq", journal_first(d->journal));
	mp_pack_key_uint(pk, "last_seq", journal_last(d->journal));
	mp_pack_key_uint(pk, "journal_bytes", journal_bytes(d->journal));
	mp_pack_key_uint(pk, "subscriptions", subscriptions_count(d));
	mp_pack_key(pk, "workers");
	msgpack_pack_map(pk, 6);
	pack_pool(pk, "work", d->workers);
	pack_pool(pk, "store", d->store_pool);
	pack_pool(pk, "image", d->image_pool);
	pack_pool(pk, "content", d->content_pool);
	pack_pool(pk, "stream", d->stream_pool);
	pack_pool(pk, "tidy", d->tidy_pool);
	mp_pack_key(pk, "reactor");
	pack_reactor(pk, d);
	mp_pack_key(pk, "memory");
	pack_memory(pk, d);
	ipc_reply_end(req);
}

/* ---- shutdown */

struct shutdown {
	struct davit *d;
	struct ipc_request *req;
};

static void shutdown_ended(void *user)
{
	struct shutdown *s = user; /* in the request's zone: gone with the answer */
	struct davit *d = s->d;

	ipc_reply_empty(s->req);
	reactor_stop(d);
}

static void server_shutdown(struct ipc_request *req, void *user)
{
	struct davit *d = user;
	struct shutdown *s;

	if (d->ending) {
		ipc_reply_error(req, FAULT_FAILED_PRECONDITION, NULL,
				"the daemon is ending already");
		return;
	}
	s = ipc_request_alloc(req, sizeof(*s));
	if (!s) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	s->d = d;
	s->req = req;
	d->ending = true;
	if (ipc_arg_bool(req, "kill", false))
		tasks_end_all(d, shutdown_ended, s);
	else
		shutdown_ended(s);
}

/* ---- the table */

static const struct ipc_field info_result[] = {
	{ "id", "str", "identity of this installation (--root)" },
	{ "pid", "int", "of the reactor, which answers" },
	{ "guardian_pid", "int", "of its guardian" },
	{ "version", "str", "davit's version" },
	{ "started_at", "int", "when this reactor started, ns since the epoch" },
	{ "root", "str", "what survives a reboot" },
	{ "state", "str", "what lives as long as the boot" },
	{ "socket", "str", "where it listens" },
	{ "kernel", "str", "release" },
	{ "cgroup", "map", "layout (v1, hybrid, v2), controllers" },
	{ "criu", "map", "path, available, version, problem" },
	{ "features", "map", "what the kernel can do: name to bool" },
	{ "limits", "map", "name to number" },
	{ "journal", "str", "identity of the event journal" },
	{ 0 },
};
static const struct ipc_field stats_result[] = {
	{ "requests", "map", "total, in_flight, by_method" },
	{ "connections", "map", "open, accepted, refused, bytes_in, bytes_out, notifications" },
	{ "tasks", "map", "tasks, processes, running, created, stopped" },
	{ "containers", "map", "containers, namespaces, specs (distinct ones)" },
	{ "events", "map", "first_seq, last_seq, journal_bytes, subscriptions" },
	{ "workers", "map", "of each pool: threads, queued, running, finished" },
	{ "reactor", "map", "uptime_ns, turns, busy_ns, turn_max_ns, delay_ns, delay_max_ns" },
	{ "memory", "map",
	  "bytes: pss (guardian and reactor), reactor_pss, guardian_pss, rss, heap, heap_used" },
	{ 0 },
};
static const struct ipc_param shutdown_params[] = {
	{ .name = "kill",
	  .type = IPC_BOOL,
	  .dflt = "false",
	  .doc = "end and remove every task first; else containers run on" },
	{ 0 },
};

const struct ipc_method server_methods[] = {
	{ "server.info", "What this daemon is and what its host can do", IPC_NO_NAMESPACE, NULL,
	  info_result, NULL, server_info },
	{ "server.stats", "Counters since the reactor's start", IPC_NO_NAMESPACE, NULL,
	  stats_result, NULL, server_stats },
	{ "server.shutdown", "Ends the daemon; answers before it goes", IPC_NO_NAMESPACE,
	  shutdown_params, NULL, "failed_precondition", server_shutdown },
	{ 0 },
};
