// SPDX-License-Identifier: Apache-2.0
/*
 * Methods that work on the store: from a request to a worker and back
 *
 * A job is made on the reactor, runs once on a worker, and is answered and freed on the reactor.
 * Events are put into the journal first, so that who has the answer finds them there; then the
 * answer goes out. A failure sends what events there are too: what had been done until then has
 * happened.
 *
 * A quick job is not cancellable: it ends by itself in a moment, the request stays until then, and
 * its arguments are read by the worker while nobody else looks at them. A long job has copies; when
 * its request is not wanted any more only the flag is set, and the job ends at its next look.
 *
 * While a long job runs whose client asked for it, a timer looks at the counters that the worker
 * writes, and sends an event when they have moved.
 */
#include "core/store_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/content_writer.h"
#include "core/events.h"
#include "core/reactor.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/mp.h"

#define PROGRESS_MS 100

struct store_jobs {
	LIST_HEAD(, store_job) running; /* long ones */
	struct worker_job tidy;
	struct davit *d;
	struct cancel tidy_cancel;
	int tidy_result;
	bool tidying;
};

int store_jobs_new(struct davit *d)
{
	d->store_jobs = calloc(1, sizeof(*d->store_jobs));
	if (!d->store_jobs)
		return -ENOMEM;
	LIST_INIT(&d->store_jobs->running);
	d->store_jobs->d = d;
	return 0;
}

void store_jobs_free(struct davit *d)
{
	free(d->store_jobs);
	d->store_jobs = NULL;
}

void store_jobs_cancel(struct davit *d)
{
	struct store_job *j;

	if (!d->store_jobs)
		return;
	LIST_FOREACH (j, &d->store_jobs->running, link)
		cancel_set(&j->cancel);
	cancel_set(&d->store_jobs->tidy_cancel);
	content_writers_cancel(d);
}

/* ---- the trash */

static void tidy_run(struct worker_job *job)
{
	struct store_jobs *jobs = container_of(job, struct store_jobs, tidy);

	jobs->tidy_result = store_empty_trash(jobs->d->store, &jobs->tidy_cancel);
}

static void tidy_done(struct worker_job *job)
{
	struct store_jobs *jobs = container_of(job, struct store_jobs, tidy);

	jobs->tidying = false;
	if (jobs->tidy_result < 0 && jobs->tidy_result != -ECANCELED)
		log_warn("the folder trash below --root cannot be emptied: %s",
			 strerror(-jobs->tidy_result));
	store_tidy(jobs->d);
}

void store_tidy(struct davit *d)
{
	struct store_jobs *jobs = d->store_jobs;

	/* what comes while it runs is looked for at its end */
	if (jobs->tidying || d->stopping || !store_has_trash(d->store))
		return;
	jobs->tidying = true;
	jobs->tidy = (struct worker_job){ .run = tidy_run, .done = tidy_done };
	worker_submit(d->tidy_pool, &jobs->tidy);
}

void store_job_free(struct store_job *j)
{
	if (j->progress_timer)
		event_free(j->progress_timer);
	if (j->clear)
		j->clear(j);
	fd_close(&j->fd);
	msgpack_sbuffer_destroy(&j->answer);
	store_events_clear(&j->events);
	free(j->ns);
	free(j->lease);
	free(j->progress_tag);
	free(j);
}

/* ---- the end */

static void send_events(struct store_job *j)
{
	for (struct store_event *e = j->events.first; e; e = e->next) {
		int r = mp_failed(&e->payload) ? -ENOMEM
					       : event_emit(j->d, e->ns, e->topic, &e->payload);

		if (r < 0)
			log_error("event %s: %s", e->topic, strerror(-r));
	}
}

static void answer(struct store_job *j)
{
	struct ipc_request *req = j->req;
	msgpack_packer *pk;

	if (j->result < 0) {
		if (!j->fault.code)
			fault_sys(&j->fault, -j->result, ipc_request_method(req)->name, NULL);
		/* the store names what its functions were given, which the client may know nothing of */
		if (!ipc_takes(req, j->fault.argument))
			fault_arg(&j->fault, "");
		ipc_reply_fault(req, &j->fault);
		return;
	}
	if (mp_failed(&j->answer)) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	if (!j->answer.size) {
		ipc_reply_empty(req);
		return;
	}
	pk = ipc_reply_begin(req);
	mp_pack_raw(pk, j->answer.data, j->answer.size);
	if (j->fd >= 0 && ipc_reply_fd(req, TAKE_FD(j->fd)) < 0) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	ipc_reply_end(req);
}

static void job_done(struct worker_job *job)
{
	struct store_job *j = container_of(job, struct store_job, job);

	if (j->is_long) {
		LIST_REMOVE(j, link);
		if (j->req)
			ipc_request_on_cancel(j->req, NULL, NULL);
	}
	send_events(j);
	if (j->req)
		answer(j);
	reactor_stored(j->d);
	store_tidy(j->d);
	store_job_free(j);
}

static void job_run(struct worker_job *job)
{
	struct store_job *j = container_of(job, struct store_job, job);

	j->result = j->run(j);
}

/* ---- the start */

void *store_job_new(struct davit *d, struct ipc_request *req, size_t size,
		    int (*run)(struct store_job *j), void (*clear)(struct store_job *j))
{
	struct store_job *j = calloc(1, size);
	const char *lease = ipc_arg_str(req, "lease");

	if (!j) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return NULL;
	}
	j->job = (struct worker_job){ .run = job_run, .done = job_done };
	j->d = d;
	j->req = req;
	j->run = run;
	j->clear = clear;
	j->fd = -1;
	j->ns = strdup(ipc_namespace(req));
	j->lease = lease ? strdup(lease) : NULL;
	msgpack_sbuffer_init(&j->answer);
	mp_packer_init(&j->pk, &j->answer);
	store_events_init(&j->events);
	j->call = (struct store_call){
		.store = d->store,
		.ns = j->ns,
		.lease = j->lease,
		.events = &j->events,
		.cancel = &j->cancel,
		.progress = &j->progress,
		.f = &j->fault,
	};
	if (!j->ns || (lease && !j->lease)) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		store_job_free(j);
		return NULL;
	}
	return j;
}

void store_job_quick(struct davit *d, struct ipc_request *req, int (*run)(struct store_job *j))
{
	struct store_job *j = store_job_new(d, req, sizeof(*j), run, NULL);

	if (j)
		worker_submit(d->store_pool, &j->job);
}

/* The dispatcher answers; the job goes on until it sees the flag. */
static void not_wanted(struct ipc_request *req, void *user)
{
	struct store_job *j = user;

	(void)req;
	j->req = NULL;
	cancel_set(&j->cancel);
}

static void on_progress(evutil_socket_t fd, short what, void *user)
{
	struct store_job *j = user;
	uint64_t done = atomic_load(&j->progress.done);
	const char *phase = atomic_load(&j->progress.phase);
	msgpack_sbuffer sb;
	msgpack_packer pk;

	(void)fd;
	(void)what;
	if (!phase || done == j->progress_last)
		return;
	j->progress_last = done;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_map(&pk, 4);
	mp_pack_key_str(&pk, "progress", j->progress_tag);
	mp_pack_key_str(&pk, "phase", phase);
	mp_pack_key_uint(&pk, "done", done);
	mp_pack_key_uint(&pk, "total", atomic_load(&j->progress.total));
	/* one that is lost is followed by the next */
	if (!mp_failed(&sb))
		event_emit(j->d, j->ns, j->progress_topic, &sb);
	msgpack_sbuffer_destroy(&sb);
}

static int start_progress(struct store_job *j, const char *topic)
{
	static const struct timeval often = { .tv_usec = PROGRESS_MS * 1000 };
	const char *tag = topic ? ipc_arg_str(j->req, "progress") : NULL;

	if (!tag)
		return 0;
	j->progress_topic = topic;
	j->progress_tag = strdup(tag);
	j->progress_timer = event_new(j->d->base, -1, EV_PERSIST, on_progress, j);
	if (!j->progress_tag || !j->progress_timer || event_add(j->progress_timer, &often) < 0)
		return -ENOMEM;
	return 0;
}

void store_job_start_on(struct store_job *j, struct worker_pool *pool, const char *progress_topic)
{
	int r = start_progress(j, progress_topic);

	if (r < 0 || j->d->stopping || j->d->ending) {
		ipc_reply_error(j->req, r < 0 ? FAULT_RESOURCE_EXHAUSTED : FAULT_UNAVAILABLE, NULL,
				r < 0 ? "no memory" : "the daemon is ending");
		store_job_free(j);
		return;
	}
	j->is_long = true;
	LIST_INSERT_HEAD(&j->d->store_jobs->running, j, link);
	ipc_request_on_cancel(j->req, not_wanted, j);
	worker_submit(pool, &j->job);
}

void store_job_start(struct store_job *j, const char *progress_topic)
{
	store_job_start_on(j, j->d->image_pool, progress_topic);
}

/* ---- arguments */

char *store_job_str(struct store_job *j, const char *name, bool *failed)
{
	const char *text = ipc_arg_str(j->req, name);
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		*failed = true;
	return copy;
}

int store_job_labels(struct ipc_request *req, const char *name, struct db_label **v, size_t *n)
{
	const msgpack_object *map = ipc_arg(req, name);
	uint32_t count = map && map->type == MSGPACK_OBJECT_MAP ? map->via.map.size : 0;

	*v = calloc(count + 1, sizeof(**v));
	*n = 0;
	if (!*v)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		const char *key, *value;
		size_t key_size, value_size;
		char *texts;

		if (!mp_str(&kv->key, &key, &key_size) || !mp_str(&kv->val, &value, &value_size))
			continue; /* the dispatcher lets none such pass */
		texts = ipc_request_alloc(req, key_size + value_size + 2);
		if (!texts)
			return -ENOMEM;
		memcpy(texts, key, key_size);
		texts[key_size] = '\0';
		memcpy(texts + key_size + 1, value, value_size);
		texts[key_size + 1 + value_size] = '\0';
		(*v)[*n].key = texts;
		(*v)[(*n)++].value = texts + key_size + 1;
	}
	return 0;
}
