// SPDX-License-Identifier: Apache-2.0
/*
 * Lists of what is in the store
 *
 * The rows are walked, filtered and packed on the store pool's thread, one more than fits into the
 * page, so that it is known whether there is a next one; the reactor lays the page out (`fields`,
 * `next`). Rows that the filters do not want cost nothing on the reactor.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/store_job.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/filter.h"
#include "util/limits.h"
#include "util/mp.h"

struct row {
	size_t key, at; /* offsets: into keys, into the packed rows */
};

struct store_list {
	struct worker_job job;
	struct davit *d;
	struct ipc_request *req;
	struct store_call call;
	struct fault fault;
	const char *result_name;
	store_list_each each;
	struct filter *filter;
	size_t limit;

	struct row *rows;
	size_t n, room;
	msgpack_sbuffer keys, data;
	msgpack_packer pk;
	int result;
};

static void list_free(struct store_list *l)
{
	filter_free(l->filter);
	free(l->rows);
	msgpack_sbuffer_destroy(&l->keys);
	msgpack_sbuffer_destroy(&l->data);
	free(l);
}

int store_list_more(const struct store_list *l)
{
	return l->n > l->limit || l->data.size > LIMIT_LIST_BYTES + LIMIT_EVENT_BYTES;
}

msgpack_packer *store_list_want(struct store_list *l, const char *key, ipc_field_fn field,
				void *user)
{
	struct row *grown;

	if (l->result < 0 || store_list_more(l) || !filter_match(l->filter, field, user))
		return NULL;
	if (l->n == l->room) {
		l->room = l->room ? l->room * 2 : 64;
		grown = reallocarray(l->rows, l->room, sizeof(*grown));
		if (!grown) {
			l->result = -ENOMEM;
			return NULL;
		}
		l->rows = grown;
	}
	l->rows[l->n].key = l->keys.size;
	l->rows[l->n].at = l->data.size;
	if (msgpack_sbuffer_write(&l->keys, key, strlen(key) + 1) < 0) {
		l->result = -ENOMEM;
		return NULL;
	}
	l->n++;
	return &l->pk;
}

static void list_run(struct worker_job *job)
{
	struct store_list *l = container_of(job, struct store_list, job);
	const char *after = ipc_arg_str(l->req, "after"), *const * filters;
	size_t n;
	int r;

	filters = ipc_arg_strs(l->req, "filters", &n);
	r = filter_compile(filters, n, &l->filter, &l->fault);
	if (r < 0)
		fault_arg(&l->fault, "filters");
	else
		r = l->each(l, &l->call, l->req, after ? after : "");
	if (r < 0)
		l->result = r;
}

static void list_answer(struct store_list *l)
{
	struct ipc_request *req = l->req;
	struct ipc_list it;

	if (l->result < 0 || mp_failed(&l->data)) {
		if (!l->fault.code)
			fault_sys(&l->fault, l->result < 0 ? -l->result : ENOMEM, "list", NULL);
		ipc_reply_fault(req, &l->fault);
		return;
	}
	if (!ipc_list_begin(req, l->result_name, &it))
		return;
	for (size_t i = 0; i < l->n; i++) {
		size_t end = i + 1 < l->n ? l->rows[i + 1].at : l->data.size;

		if (!ipc_list_put(&it, l->keys.data + l->rows[i].key, l->data.data + l->rows[i].at,
				  end - l->rows[i].at))
			break;
	}
	ipc_list_end(&it);
}

static void list_done(struct worker_job *job)
{
	struct store_list *l = container_of(job, struct store_list, job);

	list_answer(l);
	list_free(l);
}

void store_list_start(struct davit *d, struct ipc_request *req, const char *result_name,
		      store_list_each each)
{
	struct store_list *l = calloc(1, sizeof(*l));
	int64_t limit = ipc_arg_int(req, "limit", 0);

	if (!l) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	l->job = (struct worker_job){ .run = list_run, .done = list_done };
	l->d = d;
	l->req = req;
	l->result_name = result_name;
	l->each = each;
	l->limit = limit > 0 && limit < LIMIT_LIST_PAGE ? (size_t)limit : LIMIT_LIST_PAGE;
	msgpack_sbuffer_init(&l->keys);
	msgpack_sbuffer_init(&l->data);
	mp_packer_init(&l->pk, &l->data);
	l->call =
		(struct store_call){ .store = d->store, .ns = ipc_namespace(req), .f = &l->fault };
	worker_submit(d->store_pool, &l->job);
}
