// SPDX-License-Identifier: Apache-2.0
/*
 * The methods containers.create, get, update, delete and list
 *
 * Answers of get and list hold specs, which are kept compressed. Reading them back (decompression,
 * JSON, msgpack) costs some 10 µs per KB, so the reactor does it itself only for a little; more is
 * rendered by a worker first. Each distinct spec is rendered once per answer, however many
 * containers share it. A list that does not ask for `spec` (by `fields`) needs none of this.
 *
 * A list is walked twice then: once to find out which specs will be needed, and once they are there
 * to answer. What changed in between is answered as it is then; a spec that nobody has rendered is
 * rendered on the spot.
 */
#include "core/container_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/filter.h"
#include "util/limits.h"
#include "util/mp.h"
#include "util/worker.h"

#define RENDER_INLINE_BYTES (48u << 10) /* of text: what the reactor may read back in one go */
#define RENDER_TOTAL_BYTES (2 * LIMIT_LIST_BYTES) /* of text: more does not fit into an answer */

struct rendered {
	struct spec_blob *spec; /* a reference */
	msgpack_sbuffer data;
};

/* The specs of one answer, in the order of their addresses. */
struct render {
	struct worker_job job;
	struct davit *d;
	struct ipc_request *req;
	struct rendered *v;
	size_t n, room;
	size_t text; /* bytes */
	int result;
	void (*answer)(struct render *r);
};

/* ---- rendering */

static int rendered_cmp(const void *a, const void *b)
{
	const struct spec_blob *x = ((const struct rendered *)a)->spec,
			       *y = ((const struct rendered *)b)->spec;

	return x < y ? -1 : x > y;
}

static void render_free(struct render *r)
{
	for (size_t i = 0; i < r->n; i++) {
		spec_blob_put(r->v[i].spec);
		msgpack_sbuffer_destroy(&r->v[i].data);
	}
	free(r->v);
	free(r);
}

static struct render *render_new(struct davit *d, struct ipc_request *req,
				 void (*answer)(struct render *r))
{
	struct render *r = calloc(1, sizeof(*r));

	if (!r) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return NULL;
	}
	r->d = d;
	r->req = req;
	r->answer = answer;
	return r;
}

static int render_add(struct render *r, struct container *c)
{
	struct rendered *grown;

	/* most containers of a kind stand side by side */
	if (r->n && r->v[r->n - 1].spec == c->record->spec)
		return 0;
	if (r->n == r->room) {
		r->room = r->room ? r->room * 2 : 4;
		grown = realloc(r->v, r->room * sizeof(r->v[0]));
		if (!grown)
			return -ENOMEM;
		r->v = grown;
	}
	r->v[r->n].spec = container_spec(c);
	msgpack_sbuffer_init(&r->v[r->n].data);
	r->text += spec_blob_text_size(c->record->spec);
	r->n++;
	return 0;
}

/* Sorts, and leaves one of each. */
static void render_sort(struct render *r)
{
	size_t kept = 0;

	qsort(r->v, r->n, sizeof(r->v[0]), rendered_cmp);
	r->text = 0;
	for (size_t i = 0; i < r->n; i++) {
		if (kept && r->v[kept - 1].spec == r->v[i].spec) {
			spec_blob_put(r->v[i].spec);
			continue;
		}
		r->v[kept++] = r->v[i];
		r->text += spec_blob_text_size(r->v[i].spec);
	}
	r->n = kept;
}

static void render_run(struct worker_job *job)
{
	struct render *r = container_of(job, struct render, job);

	for (size_t i = 0; i < r->n && !r->result; i++)
		r->result = spec_blob_render(r->v[i].spec, &r->v[i].data);
}

static void render_done(struct worker_job *job)
{
	struct render *r = container_of(job, struct render, job);

	if (r->result < 0)
		ipc_reply_error(r->req, FAULT_INTERNAL, NULL, "a stored spec cannot be read: %s",
				strerror(-r->result));
	else
		r->answer(r);
	render_free(r);
}

/* Here or on a worker, by how much there is. r is gone afterwards. */
static void render_start(struct render *r)
{
	if (r->n)
		render_sort(r);
	r->job = (struct worker_job){ .run = render_run, .done = render_done };
	if (r->text > RENDER_INLINE_BYTES) {
		worker_submit(r->d->workers, &r->job);
		return;
	}
	render_run(&r->job);
	render_done(&r->job);
}

/*
 * The container's rendered spec; one that is not there yet is rendered into `extra`. NULL: it
 * cannot be read.
 */
static const msgpack_sbuffer *render_find(struct render *r, const struct container *c,
					  msgpack_sbuffer *extra)
{
	struct rendered key = { .spec = c->record->spec };
	struct rendered *found = r->n ? bsearch(&key, r->v, r->n, sizeof(key), rendered_cmp) : NULL;

	if (found)
		return &found->data;
	msgpack_sbuffer_clear(extra);
	return spec_blob_render(c->record->spec, extra) < 0 ? NULL : extra;
}

/* ---- get */

static struct container *find(struct davit *d, struct ipc_request *req)
{
	const char *id = ipc_arg_str(req, "id"), *ns = ipc_namespace(req);
	struct container *c = container_find(d, ns, id);

	if (!c)
		ipc_reply_error(req, FAULT_NOT_FOUND, "id",
				"there is no container '%s' in the namespace '%s'", id, ns);
	return c;
}

static void get_answer(struct render *r)
{
	struct container *c = find(r->d, r->req);
	const msgpack_sbuffer *spec;
	msgpack_sbuffer extra;
	msgpack_packer *pk;

	if (!c)
		return;
	msgpack_sbuffer_init(&extra);
	spec = render_find(r, c, &extra);
	if (spec) {
		pk = ipc_reply_begin(r->req);
		msgpack_pack_map(pk, 1);
		mp_pack_key(pk, "container");
		container_pack(pk, c, spec);
		ipc_reply_end(r->req);
	} else {
		ipc_reply_error(r->req, FAULT_INTERNAL, NULL,
				"the stored spec of '%s' cannot be read", c->id);
	}
	msgpack_sbuffer_destroy(&extra);
}

static void containers_get(struct ipc_request *req, void *user)
{
	struct container *c = find(user, req);
	struct render *r = c ? render_new(user, req, get_answer) : NULL;

	if (!r)
		return;
	if (render_add(r, c) < 0) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		render_free(r);
		return;
	}
	render_start(r);
}

/* ---- list */

static bool wants_spec(struct ipc_request *req)
{
	size_t n;
	const char *const *fields = ipc_arg_strs(req, "fields", &n);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(fields[i], "spec") || !strncmp(fields[i], "spec.", 5))
			return true;
	return !fields;
}

static void list_answer(struct render *r)
{
	struct ipc_request *req = r->req;
	bool spec = wants_spec(req);
	msgpack_sbuffer extra;
	struct container *c;
	struct ipc_list it;

	if (!ipc_list_begin(req, "containers", &it))
		return;
	msgpack_sbuffer_init(&extra);
	for (c = container_first(r->d, ipc_namespace(req), it.after); c; c = container_next(c)) {
		const msgpack_sbuffer *data = NULL;

		if (!c->live)
			continue;
		if (!ipc_list_want(&it, c->id, container_field, c)) {
			if (it.full)
				break;
			continue;
		}
		if (spec)
			data = render_find(r, c, &extra);
		container_pack(it.pk, c, data);
	}
	msgpack_sbuffer_destroy(&extra);
	ipc_list_end(&it);
}

/*
 * Which specs the answer will need; 0, or -ENOMEM. A bad filter is left to ipc_list_begin, which
 * answers it.
 */
static int list_collect(struct render *r)
{
	size_t n, left = (size_t)ipc_arg_int(r->req, "limit", LIMIT_LIST_PAGE);
	const char *const *texts = ipc_arg_strs(r->req, "filters", &n);
	const char *after = ipc_arg_str(r->req, "after");
	struct filter *filter = NULL;
	int result = 0;

	if (n && filter_compile(texts, n, &filter, NULL) < 0)
		return 0;
	for (struct container *c = container_first(r->d, ipc_namespace(r->req), after ? after : "");
	     c && left; c = container_next(c)) {
		if (!c->live || (filter && !filter_match(filter, container_field, c)))
			continue;
		result = render_add(r, c);
		if (result < 0 || r->text > RENDER_TOTAL_BYTES)
			break;
		left--;
	}
	filter_free(filter);
	return result;
}

static void containers_list(struct ipc_request *req, void *user)
{
	struct render *r = render_new(user, req, list_answer);

	if (!r)
		return;
	if (wants_spec(req) && list_collect(r) < 0) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		render_free(r);
		return;
	}
	render_start(r);
}

/* ---- create, update, delete */

static bool check_spec(struct ipc_request *req)
{
	const msgpack_object *spec = ipc_arg(req, "spec");
	const char *text;
	size_t size;

	/* neither text nor map cannot come here, but an empty text is no spec */
	if (spec && mp_str(spec, &text, &size) && !size) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "spec", "%s: spec is empty",
				ipc_request_method(req)->name);
		return false;
	}
	return true;
}

static bool check_bundle(struct ipc_request *req)
{
	const char *bundle = ipc_arg_str(req, "bundle");

	if (bundle && bundle[0] != '/') {
		ipc_reply_error(
			req, FAULT_INVALID_ARGUMENT, "bundle",
			"%s: bundle '%s' must be an absolute path: the daemon's own folder means nothing to a caller",
			ipc_request_method(req)->name, bundle);
		return false;
	}
	return true;
}

static void containers_create(struct ipc_request *req, void *user)
{
	if (!check_spec(req) || !check_bundle(req))
		return;
	if (!ipc_has(req, "spec") && !ipc_has(req, "bundle")) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "spec",
				"containers.create: spec or bundle is needed");
		return;
	}
	container_request_create(user, req);
}

static bool check_mask(struct ipc_request *req)
{
	static const char *const fixed[] = { "id", "runtime", "snapshotter", "created_at",
					     "updated_at" };
	static const char *const mutable[] = { "labels",     "spec",	     "image",
					       "extensions", "snapshot_key", "bundle" };
	size_t n;
	const char *const *mask = ipc_arg_strs(req, "mask", &n);

	for (size_t i = 1; i < ARRAY_SIZE(fixed); i++) {
		if (ipc_has(req, fixed[i])) {
			ipc_reply_error(req, FAULT_INVALID_ARGUMENT, fixed[i],
					"containers.update: %s cannot be changed", fixed[i]);
			return false;
		}
	}
	for (size_t i = 0; i < n; i++) {
		const char *m = mask[i];
		bool known = (!strncmp(m, "labels.", 7) && m[7]) ||
			     (!strncmp(m, "extensions.", 11) && m[11]);

		for (size_t k = 0; k < ARRAY_SIZE(mutable); k++)
			known |= !strcmp(m, mutable[k]);
		for (size_t k = 0; k < ARRAY_SIZE(fixed); k++) {
			if (!strcmp(m, fixed[k]) || (!strncmp(m, "runtime.", 8) && k == 1)) {
				ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "mask",
						"containers.update: %s cannot be changed", m);
				return false;
			}
		}
		if (!known) {
			ipc_reply_error(
				req, FAULT_INVALID_ARGUMENT, "mask",
				"containers.update: there is no field '%s' that can be changed", m);
			return false;
		}
		if (!strcmp(m, "spec") && !ipc_has(req, "spec")) {
			ipc_reply_error(
				req, FAULT_INVALID_ARGUMENT, "spec",
				"containers.update: the mask names spec, but none is given");
			return false;
		}
	}
	return true;
}

static void containers_update(struct ipc_request *req, void *user)
{
	if (check_mask(req) && check_spec(req) && check_bundle(req))
		container_request_update(user, req);
}

static void containers_delete(struct ipc_request *req, void *user)
{
	container_request_delete(user, req);
}

/* ---- the table */

#define ID                                                                                         \
	{                                                                                          \
		.name = "id", .type = IPC_ID, .flags = IPC_REQUIRED,                               \
		.doc = "its name within the namespace"                                             \
	}
#define MUTABLE                                                                                    \
	{ .name = "labels",                                                                        \
	  .type = IPC_LABELS,                                                                      \
	  .doc = "labels; one with an empty value is left out, or removed" },                      \
		{ .name = "spec",                                                                  \
		  .type = IPC_STR_OR_MAP,                                                          \
		  .doc = "OCI runtime spec, as a map or as config.json's text" },                  \
		{ .name = "bundle",                                                                \
		  .type = IPC_STR,                                                                 \
		  .max = LIMIT_PATH_BYTES,                                                         \
		  .doc = "absolute path of a folder: a relative root.path is relative to it" },    \
		{ .name = "image",                                                                 \
		  .type = IPC_STR,                                                                 \
		  .max = LIMIT_NAME_BYTES,                                                         \
		  .doc = "the image it was made from" },                                           \
		{ .name = "snapshot_key",                                                          \
		  .type = IPC_STR,                                                                 \
		  .max = LIMIT_NAME_BYTES,                                                         \
		  .doc = "its root file system's snapshot" },                                      \
	{                                                                                          \
		.name = "extensions", .type = IPC_MAP,                                             \
		.doc = "anything a client wants to keep with it"                                   \
	}

static const struct ipc_param create_params[] = {
	ID,
	MUTABLE,
	{ .name = "snapshotter",
	  .type = IPC_STR,
	  .max = LIMIT_NAME_BYTES,
	  .doc = "who has the snapshot" },
	{ .name = "runtime",
	  .type = IPC_STR,
	  .max = LIMIT_NAME_BYTES,
	  .doc = "runtime's name; davit's own unless given" },
	{ 0 },
};
static const struct ipc_param update_params[] = {
	ID,
	MUTABLE,
	{ .name = "snapshotter", .type = IPC_ANY, .doc = "refused: cannot be changed" },
	{ .name = "runtime", .type = IPC_ANY, .doc = "refused: cannot be changed" },
	{ .name = "created_at", .type = IPC_ANY, .doc = "refused: cannot be changed" },
	{ .name = "updated_at", .type = IPC_ANY, .doc = "refused: cannot be changed" },
	{ 0 },
};
static const struct ipc_param id_params[] = { ID, { 0 } };

static const struct ipc_field container_result[] = {
	{ "container", "map",
	  "id, labels, spec (map), bundle, image, runtime, snapshotter, snapshot_key, extensions, created_at, updated_at" },
	{ 0 },
};
static const struct ipc_field list_result[] = {
	{ "containers", "list", "of maps as containers.get answers them, in the order of ids" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};

const struct ipc_method container_methods[] = {
	{ "containers.create", "Stores a container: a spec under a name; nothing runs yet", 0,
	  create_params, container_result, "already_exists", containers_create },
	{ "containers.get", "A container's record", 0, id_params, container_result, "not_found",
	  containers_get },
	{ "containers.update", "Changes a record; a running task is not touched", IPC_UPDATES,
	  update_params, container_result, "not_found", containers_update },
	{ "containers.delete", "Removes a container that has no task", 0, id_params, NULL,
	  "not_found failed_precondition", containers_delete },
	{ "containers.list", "The namespace's containers in the order of their ids", IPC_LISTS,
	  NULL, list_result, NULL, containers_list },
	{ 0 },
};
