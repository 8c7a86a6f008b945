// SPDX-License-Identifier: Apache-2.0
/*
 * The methods leases.create, delete, list, add_resource, delete_resource and list_resources
 *
 * A few rows each, on the store thread; only a delete that collects before it answers (sync) is long
 * work.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/labels.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "store/gc.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/mp.h"

#define EXPIRE_MAX (INT64_MAX / 4) /* ns: 73 years */

static void pack_lease(msgpack_packer *pk, const struct lease_info *info)
{
	msgpack_pack_map(pk, 4);
	mp_pack_key_str(pk, "id", info->id);
	mp_pack_key(pk, "labels");
	labels_pack(pk, info->labels, info->n_labels);
	mp_pack_key_int(pk, "created_at", info->created_at);
	mp_pack_key_int(pk, "expires_at", info->expires_at);
}

/* ---- create */

static int created(void *user, const struct lease_info *info)
{
	struct store_job *j = user;

	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "lease");
	pack_lease(&j->pk, info);
	return 0;
}

static int create_run(struct store_job *j)
{
	CLEANUP_FREE struct db_label *labels = NULL;
	int64_t expire = ipc_arg_int(j->req, "expire", 0);
	size_t n;
	int r = store_job_labels(j->req, "labels", &labels, &n);

	if (r < 0)
		return fault_sys(j->call.f, ENOMEM, "leases.create", NULL);
	return lease_create(&j->call, ipc_arg_str(j->req, "id"), labels, n,
			    expire ? clock_now() + expire : 0, created, j);
}

static void create(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, create_run);
}

/* ---- delete */

struct delete_job {
	struct store_job job;
	char *id;
};

static int delete_run(struct store_job *j)
{
	return lease_delete(&j->call, ipc_arg_str(j->req, "id"));
}

static int delete_sync_run(struct store_job *j)
{
	struct delete_job *job = container_of(j, struct delete_job, job);
	struct gc_result result;
	int r = lease_delete(&j->call, job->id);

	return r ? r : gc_run(&j->call, false, &result);
}

static void delete_clear(struct store_job *j)
{
	free(container_of(j, struct delete_job, job)->id);
}

static void delete (struct ipc_request *req, void *user)
{
	struct delete_job *j;
	bool failed = false;

	if (!ipc_arg_bool(req, "sync", false)) {
		store_job_quick(user, req, delete_run);
		return;
	}
	j = store_job_new(user, req, sizeof(*j), delete_sync_run, delete_clear);
	if (!j)
		return;
	j->id = store_job_str(&j->job, "id", &failed);
	if (failed) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		store_job_free(&j->job);
		return;
	}
	store_job_start(&j->job, NULL);
}

/* ---- list */

static bool lease_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct lease_info *info = user;

	if (n == 1 && !strcmp(path[0], "id")) {
		*value = info->id;
		return true;
	}
	return n > 1 && !strcmp(path[0], "labels") &&
	       labels_field(info->labels, info->n_labels, path + 1, n - 1, value);
}

static int list_one(void *user, const struct lease_info *info)
{
	struct store_list *l = user;
	struct lease_info copy = *info;
	msgpack_packer *pk = store_list_want(l, info->id, lease_field, &copy);

	if (pk)
		pack_lease(pk, info);
	return store_list_more(l);
}

static int list_each(struct store_list *l, struct store_call *c, struct ipc_request *req,
		     const char *after)
{
	(void)req;
	return lease_list(c, after, list_one, l);
}

static void list(struct ipc_request *req, void *user)
{
	store_list_start(user, req, "leases", list_each);
}

/* ---- resources */

/* Of the argument `resource`: texts in the request's memory. */
static int resource_arg(struct store_job *j, const char *name, const char **out)
{
	const msgpack_object *o = mp_get(ipc_arg(j->req, "resource"), name);
	const char *p;
	char *text, argument[32];
	size_t n;

	snprintf(argument, sizeof(argument), "resource.%s", name);
	if (!o || !mp_str(o, &p, &n) || memchr(p, '\0', n)) {
		fault_set(j->call.f, FAULT_INVALID_ARGUMENT, 0, o ? "must be a string" : "missing");
		fault_arg(j->call.f, argument);
		return -EINVAL;
	}
	text = ipc_request_alloc(j->req, n + 1);
	if (!text)
		return fault_sys(j->call.f, ENOMEM, "read", argument);
	memcpy(text, p, n);
	text[n] = '\0';
	*out = text;
	return 0;
}

static int change_resource(struct store_job *j,
			   int (*change)(struct store_call *c, const char *id, const char *type,
					 const char *resource))
{
	const char *type = NULL, *id = NULL;
	int r = resource_arg(j, "type", &type);

	if (!r)
		r = resource_arg(j, "id", &id);
	if (r < 0)
		return r;
	r = change(&j->call, ipc_arg_str(j->req, "id"), type, id);
	if (r < 0 && j->call.f->code == FAULT_INVALID_ARGUMENT)
		fault_arg(j->call.f, "resource");
	return r;
}

static int add_run(struct store_job *j)
{
	return change_resource(j, lease_add);
}

static int remove_run(struct store_job *j)
{
	return change_resource(j, lease_remove);
}

static void add_resource(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, add_run);
}

static void delete_resource(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, remove_run);
}

struct resource {
	const char *type, *id;
};

static bool resource_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct resource *r = user;

	if (n != 1 || (strcmp(path[0], "type") && strcmp(path[0], "id")))
		return false;
	*value = path[0][0] == 't' ? r->type : r->id;
	return true;
}

static int list_resource(void *user, const char *type, const char *id)
{
	struct store_list *l = user;
	struct resource resource = { type, id };
	char key[LIMIT_NAME_BYTES * 2];
	msgpack_packer *pk;

	snprintf(key, sizeof(key), "%s %s", type, id);
	pk = store_list_want(l, key, resource_field, &resource);
	if (pk) {
		msgpack_pack_map(pk, 2);
		mp_pack_key_str(pk, "id", id);
		mp_pack_key_str(pk, "type", type);
	}
	return store_list_more(l);
}

static int list_resources_each(struct store_list *l, struct store_call *c, struct ipc_request *req,
			       const char *after)
{
	return lease_resources(c, ipc_arg_str(req, "id"), after, list_resource, l);
}

static void list_resources(struct ipc_request *req, void *user)
{
	store_list_start(user, req, "resources", list_resources_each);
}

/* ---- rows */

#define P_ID                                                                                       \
	{                                                                                          \
		"id", IPC_ID, IPC_REQUIRED, 0, 0, NULL, "the lease's id"                           \
	}

static const struct ipc_param create_params[] = {
	{ "id", IPC_ID, 0, 0, 0, NULL, "its id; a random one when left out" },
	{ "labels", IPC_LABELS, 0, 0, 0, NULL,
	  "labels; containerd.io/gc.expire (RFC 3339) says when it ends, and with "
	  "containerd.io/gc.flat it holds its resources without what they refer to" },
	{ "expire", IPC_INT, 0, 1, EXPIRE_MAX, NULL,
	  "ns from now until it ends; without it or the label it stays until it is deleted" },
	{ 0 },
};
static const struct ipc_param delete_params[] = {
	P_ID,
	{ "sync", IPC_BOOL, 0, 0, 0, "false", "collect garbage before the answer" },
	{ 0 },
};
static const struct ipc_param resource_params[] = {
	P_ID,
	{ "resource", IPC_MAP, IPC_REQUIRED, 0, 0, NULL,
	  "id and type: content (a digest), ingests (a ref), images (a name), "
	  "snapshots/SNAPSHOTTER (a name or key)" },
	{ 0 },
};
static const struct ipc_param id_params[] = {
	P_ID,
	{ 0 },
};
static const struct ipc_field lease_result[] = {
	{ "lease", "map", "id, labels, created_at, expires_at (0: never)" },
	{ 0 },
};
static const struct ipc_field list_result[] = {
	{ "leases", "list", "of maps: id, labels, created_at, expires_at (0: never)" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};
static const struct ipc_field resources_result[] = {
	{ "resources", "list", "of maps: id, type" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};

const struct ipc_method lease_methods[] = {
	{ "leases.create", "Makes a lease: what it holds is not collected", 0, create_params,
	  lease_result, "already_exists", create },
	{ "leases.delete", "Deletes a lease; what it alone has held is collected", 0, delete_params,
	  NULL, "not_found cancelled unavailable", delete },
	{ "leases.list", "The namespace's leases in the order of their ids", IPC_LISTS, NULL,
	  list_result, NULL, list },
	{ "leases.add_resource", "Lets a lease hold something, which need not exist", 0,
	  resource_params, NULL, "not_found resource_exhausted", add_resource },
	{ "leases.delete_resource", "Lets a lease hold something no longer", 0, resource_params,
	  NULL, "not_found", delete_resource },
	{ "leases.list_resources", "What a lease holds, in the order of type and id", IPC_LISTS,
	  id_params, resources_result, "not_found", list_resources },
	{ 0 },
};
