// SPDX-License-Identifier: Apache-2.0
/*
 * Writers of content over RPC
 *
 * A writer is a ref that a connection writes to. It comes with the first write or commit, and goes
 * with a commit, an abort, a first write that failed, or the end of the connection. Requests for it
 * are jobs in a queue, of which the first is with a worker, and that worker alone touches the
 * ingest; so requests that a client sends without waiting for answers are done in their order. The
 * data is written straight from the request's memory, which stays until the answer.
 *
 * When a connection ends, what it has sent before is still done, and then the ingest is closed, for
 * anybody to go on with. Who comes for the ref in between becomes the owner of the writer as it is.
 * The end of one connection may be noticed after the first request of the next has been read, so
 * before a ref is called locked its owner's connection is asked whether it is still there.
 *
 * When data is lost on the way (a full disk), what the client has sent behind it without an offset
 * would leave a hole: those requests are refused, and further ones too until one says an offset or
 * asks for it (stat).
 */
#include "core/content_writer.h"

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/store_job.h"
#include "ipc/server.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/mp.h"
#include "util/worker.h"

enum write_action { WRITE_STAT, WRITE_WRITE, WRITE_COMMIT, WRITE_ABORT };

struct write_job {
	struct store_job j; /* first: store_job_new */
	STAILQ_ENTRY(write_job) link;
	struct writer *w; /* NULL once out of the queue */
	enum write_action action;
	bool lost; /* it had data that is not in the ingest */
	bool guest; /* a look by another connection than the owner's */
	bool first; /* of a new owner, who knows of no gap */
};

STAILQ_HEAD(write_queue, write_job);
struct writer {
	RB_ENTRY(writer) node;
	struct davit *d;
	struct ipc_conn *conn; /* the owner; NULL: it is gone */
	struct ipc_conn_watch watch;
	struct write_queue queue; /* the first is with a worker */
	struct worker_job closing;
	bool is_closing; /* `closing` is with a worker */
	bool handed_over; /* since the last job came into the queue */
	struct ingest *ingest; /* the worker's, while there is one */
	bool gap; /* data was lost: an offset is needed. The worker's */
	const char *ns, *ref; /* behind the struct */
};

RB_HEAD(writer_tree, writer);
struct content_writers { /* there while there are writers */
	struct writer_tree tree;
	size_t n;
};

static int writer_cmp(const struct writer *a, const struct writer *b)
{
	int c = strcmp(a->ns, b->ns);

	return c ? c : strcmp(a->ref, b->ref);
}

RB_GENERATE_INTERNAL(writer_tree, writer, node, writer_cmp, static __attribute__((unused)))

/* ---- on a worker */

static void status_pack(struct store_job *j, const struct ingest_status *s, const char *digest)
{
	msgpack_pack_map(&j->pk, 5);
	mp_pack_key_uint(&j->pk, "offset", s->offset);
	mp_pack_key_int(&j->pk, "total", s->total > 0 ? s->total : 0);
	mp_pack_key_int(&j->pk, "started_at", s->started_at);
	mp_pack_key_int(&j->pk, "updated_at", s->updated_at);
	mp_pack_key_str(&j->pk, "digest", digest);
}

/* 0 is "not known", as containerd has it. */
static int64_t wanted_total(struct ipc_request *req)
{
	int64_t total = ipc_arg_int(req, "total", 0);

	return total > 0 ? total : -1;
}

static const char *wanted_digest(struct ipc_request *req)
{
	const char *expected = ipc_arg_str(req, "expected");

	return expected && expected[0] ? expected : NULL;
}

static int pack_open(struct store_job *j, struct ingest *i)
{
	struct ingest_status status;
	struct digest digest;
	int r = ingest_digest(i, &digest);

	ingest_status(i, &status);
	if (!r)
		status_pack(j, &status, digest.text);
	return r;
}

/* For a stat: where a write that says the same total would go on. */
static void pack_stat(struct store_job *j, const struct ingest_status *s, int64_t total,
		      const char *digest)
{
	struct ingest_status status = *s;
	bool anew = total >= 0 && total != s->total &&
		    (s->total >= 0 || s->offset > (uint64_t)total);

	if (anew)
		status.offset = 0;
	if (total >= 0)
		status.total = total;
	status_pack(j, &status, anew ? "" : digest);
}

struct look {
	struct store_job *j;
	int64_t total;
};

static int pack_idle(void *user, const struct ingest_status *s)
{
	struct look *l = user;

	pack_stat(l->j, s, l->total, s->digest);
	return 0;
}

static int stat_idle(struct store_job *j, const char *ref, const char *expected, int64_t total)
{
	struct ingest_status none = { .total = total };
	struct look look = { j, total };
	int r = expected ? content_has(&j->call, expected) : 0;

	if (r > 0) {
		fault_set(j->call.f, FAULT_ALREADY_EXISTS, 0, "the content %s is there already",
			  expected);
		return -EEXIST;
	}
	if (r < 0) {
		if (j->call.f->code == FAULT_INVALID_ARGUMENT)
			fault_arg(j->call.f, "expected");
		return r;
	}
	r = ingest_look(&j->call, ref, pack_idle, &look);
	if (r != -ENOENT)
		return r;
	status_pack(j, &none, "");
	return 0;
}

/* Of a ref without a writer: has to be hashed, perhaps, and ends when nobody waits for it any more. */
struct stat_job {
	struct store_job j; /* first: store_job_new */
	char *ref, *expected;
	int64_t total;
};

static int stat_run(struct store_job *j)
{
	struct stat_job *s = (struct stat_job *)j;

	return stat_idle(j, s->ref, s->expected, s->total);
}

static void stat_clear(struct store_job *j)
{
	struct stat_job *s = (struct stat_job *)j;

	free(s->ref);
	free(s->expected);
}

static void stat_start(struct davit *d, struct ipc_request *req)
{
	struct stat_job *s = store_job_new(d, req, sizeof(*s), stat_run, stat_clear);
	bool failed = false;

	if (!s)
		return;
	s->ref = store_job_str(&s->j, "ref", &failed);
	if (wanted_digest(req))
		s->expected = store_job_str(&s->j, "expected", &failed);
	s->total = wanted_total(req);
	if (failed) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		store_job_free(&s->j);
		return;
	}
	store_job_start_on(&s->j, d->content_pool, NULL);
}

/*
 * The ingest, as a write says it is to be. What a commit says is compared with what there is instead:
 * it never begins anew for its total, and an `expected` that is wrong is not kept.
 */
static int open_ingest(struct write_job *job)
{
	struct writer *w = job->w;
	struct ipc_request *req = job->j.req;
	struct store_call *c = &job->j.call;
	const char *expected = wanted_digest(req);
	int64_t total = wanted_total(req);
	struct fault ignored = { 0 };
	struct store_call quiet = *c;
	int r = 0;

	if (job->action == WRITE_COMMIT) {
		if (expected)
			r = ingest_check_expected(c, w->ref, expected);
		if (r < 0) {
			if (r == -EEXIST)
				ingest_discard(TAKE_PTR(w->ingest));
			return r;
		}
		expected = NULL;
		total = -1;
	}
	if (!w->ingest) {
		/* nothing of it is wanted, so it need not be hashed first */
		quiet.f = &ignored;
		if (!ipc_arg_int(req, "offset", -1))
			ingest_abort(&quiet, w->ref);
		return ingest_open(c, w->ref, expected, total, &w->ingest);
	}
	r = ingest_expect(c, w->ingest, expected, total);
	if (r == -EEXIST)
		w->ingest = NULL;
	return r;
}

static int seek(struct write_job *job)
{
	struct writer *w = job->w;
	struct ipc_request *req = job->j.req;
	int64_t offset = ipc_arg_int(req, "offset", -1);
	struct ingest_status status;
	struct fault *f = job->j.call.f;

	if (offset < 0) {
		if (!w->gap)
			return 0;
		fault_set(
			f, FAULT_ABORTED, 0,
			"data of an earlier write to the ref %.256s was lost: say the offset to go "
			"on at, of which %" PRIu64 " is the only one but 0",
			w->ref, ingest_offset(w->ingest));
		fault_arg(f, "offset");
		return -EINVAL;
	}
	if ((uint64_t)offset != ingest_offset(w->ingest)) {
		if (offset) {
			fault_set(f, FAULT_OUT_OF_RANGE, 0,
				  "%" PRId64 " is not where the ref %.256s goes on: %" PRIu64
				  ", or 0 to begin anew",
				  offset, w->ref, ingest_offset(w->ingest));
			fault_arg(f, "offset");
			return -ERANGE;
		}
		ingest_status(w->ingest, &status);
		if (ingest_restart(w->ingest, status.total, f) < 0)
			return -EIO;
	}
	w->gap = false;
	return 0;
}

static int commit(struct write_job *job)
{
	struct writer *w = job->w;
	struct ipc_request *req = job->j.req;
	CLEANUP_FREE struct db_label *labels = NULL;
	const char *expected = wanted_digest(req);
	int64_t total = wanted_total(req);
	struct ingest_status status;
	struct digest digest;
	size_t n = 0;
	int r = store_job_labels(req, "labels", &labels, &n);

	if (r < 0)
		return r;
	ingest_status(w->ingest, &status);
	if (!expected && status.expected[0])
		expected = status.expected;
	r = ingest_commit(&job->j.call, w->ingest, total >= 0 ? total : status.total, expected,
			  labels, n, &digest);
	if (!r || r == -EEXIST)
		w->ingest = NULL;
	if (!r)
		status_pack(&job->j, &status, digest.text);
	return r;
}

static int write_run(struct store_job *j)
{
	struct write_job *job = (struct write_job *)j;
	struct writer *w = job->w;
	const char *data = NULL;
	size_t size = 0;
	int r;

	mp_str(ipc_arg(j->req, "data"), &data, &size);
	job->lost = size;
	if (job->first)
		w->gap = false;
	r = open_ingest(job);
	if (!r)
		r = seek(job);
	if (!r && size)
		r = ingest_write(w->ingest, data, size, j->call.f);
	job->lost = job->lost && r < 0;
	w->gap = w->ingest && (w->gap || job->lost);
	if (!r)
		r = job->action == WRITE_COMMIT ? commit(job) : pack_open(j, w->ingest);
	return r;
}

static int stat_open_run(struct store_job *j)
{
	struct write_job *job = (struct write_job *)j;
	struct ingest *i = job->w->ingest;
	struct ingest_status status;
	struct digest digest;
	int r;

	/* a first write that has failed leaves the writer to those that came behind it */
	if (!i)
		return stat_idle(j, ipc_arg_str(j->req, "ref"), wanted_digest(j->req),
				 wanted_total(j->req));
	r = ingest_digest(i, &digest);
	if (r < 0)
		return r;
	ingest_status(i, &status);
	pack_stat(j, &status, wanted_total(j->req), digest.text);
	if (!job->guest)
		job->w->gap = false;
	return 0;
}

static int abort_run(struct store_job *j)
{
	struct write_job *job = (struct write_job *)j;
	struct writer *w = job->w;

	if (!w->ingest)
		return ingest_abort(&j->call, w->ref);
	ingest_discard(TAKE_PTR(w->ingest));
	return 0;
}

static void closing_run(struct worker_job *closing)
{
	struct writer *w = container_of(closing, struct writer, closing);

	ingest_close(TAKE_PTR(w->ingest));
}

/* ---- the queue */

static void writer_free(struct writer *w)
{
	struct content_writers *all = w->d->content_writers;

	ipc_conn_unwatch(&w->watch);
	RB_REMOVE(writer_tree, &all->tree, w);
	if (!--all->n) {
		w->d->content_writers = NULL;
		free(all);
	}
	free(w);
}

/* Gives the next job to a worker; without one, sees whether the writer has to be there still. */
static void writer_go_on(struct writer *w)
{
	struct write_job *job = STAILQ_FIRST(&w->queue);

	if (job) {
		worker_submit(w->d->content_pool, &job->j.job);
	} else if (!w->ingest) {
		writer_free(w);
	} else if (!w->conn) {
		w->is_closing = true;
		worker_submit(w->d->content_pool, &w->closing);
	}
}

static void closing_done(struct worker_job *closing)
{
	struct writer *w = container_of(closing, struct writer, closing);

	w->is_closing = false;
	writer_go_on(w);
}

/* What was sent without waiting for the answer that now says data was lost. */
static void refuse_rest(struct writer *w)
{
	struct write_job *job, *next;

	STAILQ_FOREACH_SAFE (job, &w->queue, link, next) {
		if (job->action != WRITE_WRITE && job->action != WRITE_COMMIT)
			continue;
		STAILQ_REMOVE(&w->queue, job, write_job, link);
		job->w = NULL;
		ipc_reply_error(job->j.req, FAULT_ABORTED, "ref",
				"an earlier write to the ref %.256s has failed", w->ref);
		store_job_free(&job->j);
	}
}

static void job_clear(struct store_job *j)
{
	struct write_job *job = (struct write_job *)j;
	struct writer *w = job->w;

	if (!w)
		return;
	STAILQ_REMOVE_HEAD(&w->queue, link);
	if (job->lost)
		refuse_rest(w);
	writer_go_on(w);
}

static void writer_push(struct writer *w, struct ipc_request *req, enum write_action action)
{
	static int (*const runs[])(struct store_job * j) = {
		[WRITE_STAT] = stat_open_run,
		[WRITE_WRITE] = write_run,
		[WRITE_COMMIT] = write_run,
		[WRITE_ABORT] = abort_run,
	};
	struct write_job *job = store_job_new(w->d, req, sizeof(*job), runs[action], job_clear);
	bool idle = STAILQ_EMPTY(&w->queue) && !w->is_closing;

	if (!job) {
		if (idle)
			writer_go_on(w);
		return;
	}
	job->w = w;
	job->action = action;
	job->guest = ipc_request_conn(req) != w->conn;
	if (action == WRITE_WRITE || action == WRITE_COMMIT) {
		job->first = w->handed_over;
		w->handed_over = false;
	}
	STAILQ_INSERT_TAIL(&w->queue, job, link);
	if (idle)
		writer_go_on(w);
}

/* ---- writers */

static void on_drained(struct ipc_conn_watch *watch)
{
	(void)watch;
}

static void on_closed(struct ipc_conn_watch *watch)
{
	struct writer *w = container_of(watch, struct writer, watch);

	w->conn = NULL;
	if (STAILQ_EMPTY(&w->queue) && !w->is_closing)
		writer_go_on(w);
}

static struct writer *writer_find(struct davit *d, const char *ns, const char *ref)
{
	struct writer key = { .ns = ns, .ref = ref };

	return d->content_writers ? RB_FIND(writer_tree, &d->content_writers->tree, &key) : NULL;
}

static void writer_own(struct writer *w, struct ipc_conn *conn)
{
	ipc_conn_unwatch(&w->watch);
	w->conn = conn;
	w->watch = (struct ipc_conn_watch){
		.drained = on_drained,
		.closed = on_closed,
		.passive = true,
	};
	ipc_conn_watch(conn, &w->watch);
	w->handed_over = true;
}

static size_t count_of(struct davit *d, const struct ipc_conn *conn)
{
	struct writer *w;
	size_t n = 0;

	if (!d->content_writers || d->content_writers->n < LIMIT_CONN_WRITERS)
		return 0;
	RB_FOREACH (w, writer_tree, &d->content_writers->tree)
		n += w->conn == conn;
	return n;
}

/* NULL after answering. */
static struct writer *writer_new(struct davit *d, struct ipc_request *req)
{
	struct ipc_conn *conn = ipc_request_conn(req);
	const char *ns = ipc_namespace(req), *ref = ipc_arg_str(req, "ref");
	size_t n_ns = strlen(ns) + 1, n_ref = strlen(ref) + 1;
	struct writer *w;
	char *texts;

	if (count_of(d, conn) >= LIMIT_CONN_WRITERS) {
		ipc_reply_error(
			req, FAULT_RESOURCE_EXHAUSTED, "ref",
			"this connection writes to %u refs, the most there can be: commit or "
			"abort some",
			LIMIT_CONN_WRITERS);
		return NULL;
	}
	w = calloc(1, sizeof(*w) + n_ns + n_ref);
	if (w && !d->content_writers) {
		d->content_writers = calloc(1, sizeof(*d->content_writers));
		if (d->content_writers)
			RB_INIT(&d->content_writers->tree);
	}
	if (!w || !d->content_writers) {
		free(w);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return NULL;
	}
	texts = (char *)(w + 1);
	memcpy(texts, ns, n_ns);
	memcpy(texts + n_ns, ref, n_ref);
	w->ns = texts;
	w->ref = texts + n_ns;
	w->d = d;
	w->closing = (struct worker_job){ .run = closing_run, .done = closing_done };
	STAILQ_INIT(&w->queue);
	RB_INSERT(writer_tree, &d->content_writers->tree, w);
	d->content_writers->n++;
	writer_own(w, conn);
	return w;
}

/*
 * The ref's writer, unless it is another connection's: then the request is answered, and the result
 * negative. NULL: it has none. One whose owner is gone is left as it is.
 */
static int writer_ask(struct davit *d, struct ipc_request *req, struct writer **out)
{
	struct writer *w = writer_find(d, ipc_namespace(req), ipc_arg_str(req, "ref"));

	*out = w;
	if (!w || w->conn == ipc_request_conn(req) || !w->conn || ipc_conn_hung_up(w->conn))
		return 0;
	ipc_reply_error(req, FAULT_UNAVAILABLE, "ref",
			"ref %.256s locked: another connection writes to it", w->ref);
	return -EBUSY;
}

/* The ref's writer, this connection's from here on; NULL after answering. */
static struct writer *writer_claim(struct davit *d, struct ipc_request *req)
{
	struct writer *w;

	if (d->stopping || d->ending) {
		ipc_reply_error(req, FAULT_UNAVAILABLE, NULL, "the daemon is ending");
		return NULL;
	}
	if (writer_ask(d, req, &w) < 0)
		return NULL;
	if (!w)
		return writer_new(d, req);
	if (w->conn != ipc_request_conn(req))
		writer_own(w, ipc_request_conn(req));
	return w;
}

void content_writer_write(struct davit *d, struct ipc_request *req, bool is_commit)
{
	struct writer *w = writer_claim(d, req);

	if (w)
		writer_push(w, req, is_commit ? WRITE_COMMIT : WRITE_WRITE);
}

void content_writer_stat(struct davit *d, struct ipc_request *req)
{
	struct writer *w;

	if (writer_ask(d, req, &w) < 0)
		return;
	if (w)
		writer_push(w, req, WRITE_STAT);
	else
		stat_start(d, req);
}

void content_writer_abort(struct davit *d, struct ipc_request *req)
{
	/* also of a ref that nobody writes to: so a write that is sent behind it comes after it */
	struct writer *w = writer_claim(d, req);

	if (w)
		writer_push(w, req, WRITE_ABORT);
}

void content_writers_cancel(struct davit *d)
{
	struct write_job *job;
	struct writer *w;

	if (!d->content_writers)
		return;
	RB_FOREACH (w, writer_tree, &d->content_writers->tree)
		STAILQ_FOREACH (job, &w->queue, link)
			cancel_set(&job->j.cancel);
}
