// SPDX-License-Identifier: Apache-2.0
/*
 * The methods snapshots.prepare, view, mounts, commit, remove, stat, update, list, usage, cleanup
 *
 * What takes a few rows and a rename runs on the store thread: also remove, since the files only
 * move into the trash, which is emptied behind the answer. What copies, counts or syncs files runs
 * as a long job: commit, usage, cleanup, and prepare where the snapshotter copies.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/labels.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/mp.h"

/* ---- arguments and answers */

struct snap_args {
	const char *snapshotter; /* a literal */
	const char *key, *name, *parent;
	struct labels labels; /* owned; those with an empty value are left out */
	bool view;
};

/* A long job, with copies. */
struct snap_job {
	struct store_job job;
	struct snap_args args;
	char *key, *name, *parent;
};

static int no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "keep the arguments");
}

/* The texts stay the request's; labels are to be cleared. */
static int read_args(struct davit *d, struct ipc_request *req, struct snap_args *a, struct fault *f)
{
	int r = snapshotter_name(d->store, ipc_arg_str(req, "snapshotter"), &a->snapshotter, f);

	if (r < 0)
		return r;
	a->key = ipc_arg_str(req, "key");
	a->name = ipc_arg_str(req, "name");
	a->parent = ipc_arg_str(req, "parent");
	r = labels_set_mp(&a->labels, ipc_arg(req, "labels"));
	return r < 0 ? labels_fault(r, f) : 0;
}

static void snap_job_clear(struct store_job *j)
{
	struct snap_job *s = container_of(j, struct snap_job, job);

	labels_clear(&s->args.labels);
	free(s->key);
	free(s->name);
	free(s->parent);
}

/* A long job with its arguments; NULL after answering. */
static struct snap_job *snap_job_new(struct davit *d, struct ipc_request *req,
				     int (*run)(struct store_job *j))
{
	struct snap_job *s = store_job_new(d, req, sizeof(*s), run, snap_job_clear);
	bool failed = false;
	struct fault f;
	int r;

	if (!s)
		return NULL;
	r = read_args(d, req, &s->args, &f);
	if (!r) {
		s->args.key = s->key = store_job_str(&s->job, "key", &failed);
		s->args.name = s->name = store_job_str(&s->job, "name", &failed);
		s->args.parent = s->parent = store_job_str(&s->job, "parent", &failed);
		r = failed ? no_memory(&f) : 0;
	}
	if (r < 0) {
		ipc_reply_fault(req, &f);
		store_job_free(&s->job);
		return NULL;
	}
	return s;
}

static void pack_mounts(struct store_job *j, struct store_mounts *mounts)
{
	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "mounts");
	store_mounts_pack(&j->pk, mounts);
	store_mounts_clear(mounts);
}

static void pack_info(msgpack_packer *pk, const struct snapshot_info *info)
{
	msgpack_pack_map(pk, 6);
	mp_pack_key_str(pk, "name", info->name);
	mp_pack_key_str(pk, "parent", info->parent);
	mp_pack_key_str(pk, "kind", info->kind);
	mp_pack_key(pk, "labels");
	labels_pack(pk, info->labels, info->n_labels);
	mp_pack_key_int(pk, "created_at", info->created_at);
	mp_pack_key_int(pk, "updated_at", info->updated_at);
}

static int answer_info(void *user, const struct snapshot_info *info)
{
	struct store_job *j = user;

	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "info");
	pack_info(&j->pk, info);
	return 0;
}

/* ---- prepare, view, mounts */

static int make(struct store_job *j, const struct snap_args *a)
{
	struct store_mounts mounts = { 0 };
	int r = a->view ? snapshot_view(&j->call, a->snapshotter, a->key, a->parent, a->labels.v,
					a->labels.n, &mounts)
			: snapshot_prepare(&j->call, a->snapshotter, a->key, a->parent, a->labels.v,
					   a->labels.n, &mounts);

	if (!r)
		pack_mounts(j, &mounts);
	return r;
}

static int make_quick(struct store_job *j, bool view)
{
	struct snap_args a = { .view = view };
	int r = read_args(j->d, j->req, &a, j->call.f);

	if (!r)
		r = make(j, &a);
	labels_clear(&a.labels);
	return r;
}

static int run_prepare(struct store_job *j)
{
	return make_quick(j, false);
}

static int run_view(struct store_job *j)
{
	return make_quick(j, true);
}

static int run_copy(struct store_job *j)
{
	return make(j, &container_of(j, struct snap_job, job)->args);
}

static void snapshots_prepare(struct ipc_request *req, void *user)
{
	const char *snapshotter = ipc_arg_str(req, "snapshotter"),
		   *parent = ipc_arg_str(req, "parent");
	struct davit *d = user;
	struct snap_job *s;
	struct fault f;

	/* this looks at what was found out at the start, and does not wait */
	if (snapshotter_name(d->store, snapshotter, &snapshotter, &f) < 0) {
		ipc_reply_fault(req, &f);
		return;
	}
	if (snapshotter_is_overlay(snapshotter) || !parent || !*parent) {
		store_job_quick(d, req, run_prepare);
		return;
	}
	s = snap_job_new(d, req, run_copy);
	if (s)
		store_job_start(&s->job, NULL);
}

static void snapshots_view(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, run_view);
}

static int run_mounts(struct store_job *j)
{
	struct store_mounts mounts = { 0 };
	const char *snapshotter;
	int r = snapshotter_name(j->d->store, ipc_arg_str(j->req, "snapshotter"), &snapshotter,
				 j->call.f);

	if (!r)
		r = snapshot_mounts(&j->call, snapshotter, ipc_arg_str(j->req, "key"), &mounts);
	if (!r)
		pack_mounts(j, &mounts);
	return r;
}

static void snapshots_mounts(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, run_mounts);
}

/* ---- commit, remove */

static int run_commit(struct store_job *j)
{
	const struct snap_args *a = &container_of(j, struct snap_job, job)->args;

	return snapshot_commit(&j->call, a->snapshotter, a->name, a->key, a->labels.v, a->labels.n);
}

static void snapshots_commit(struct ipc_request *req, void *user)
{
	struct snap_job *s = snap_job_new(user, req, run_commit);

	if (s)
		store_job_start(&s->job, NULL);
}

static int run_remove(struct store_job *j)
{
	const char *snapshotter;
	int r = snapshotter_name(j->d->store, ipc_arg_str(j->req, "snapshotter"), &snapshotter,
				 j->call.f);

	return r < 0 ? r : snapshot_remove(&j->call, snapshotter, ipc_arg_str(j->req, "key"));
}

static void snapshots_remove(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, run_remove);
}

/* ---- stat, update, list, usage, cleanup */

static int run_stat(struct store_job *j)
{
	const char *snapshotter;
	int r = snapshotter_name(j->d->store, ipc_arg_str(j->req, "snapshotter"), &snapshotter,
				 j->call.f);

	return r < 0 ? r
		     : snapshot_stat(&j->call, snapshotter, ipc_arg_str(j->req, "key"), answer_info,
				     j);
}

static void snapshots_stat(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, run_stat);
}

static int take_labels(void *user, const struct snapshot_info *info)
{
	labels_change(user, info->labels, info->n_labels);
	return 0;
}

static int update(struct store_job *j, const char *snapshotter)
{
	const char *key = ipc_arg_str(j->req, "key");
	struct labels_change l = { .req = j->req };
	int r = snapshot_stat(&j->call, snapshotter, key, take_labels, &l);

	if (!r && l.result < 0)
		r = labels_fault(l.result, j->call.f);
	if (!r)
		r = snapshot_set_labels(&j->call, snapshotter, key, l.labels.v, l.labels.n,
					answer_info, j);
	labels_clear(&l.labels);
	return r;
}

static int run_update(struct store_job *j)
{
	const char *snapshotter;
	int r = snapshotter_name(j->d->store, ipc_arg_str(j->req, "snapshotter"), &snapshotter,
				 j->call.f);

	if (!r)
		r = db_begin(j->d->db, DB_FULL, j->call.f);
	return r < 0 ? r : db_end(j->d->db, update(j, snapshotter), j->call.f);
}

static void snapshots_update(struct ipc_request *req, void *user)
{
	size_t n;
	const char *const *mask = ipc_arg_strs(req, "mask", &n);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(mask[i], "labels") && (strncmp(mask[i], "labels.", 7) || !mask[i][7])) {
			ipc_reply_error(
				req, FAULT_INVALID_ARGUMENT, "mask",
				"snapshots.update cannot change '%s', only labels and labels.KEY",
				mask[i]);
			return;
		}
	}
	store_job_quick(user, req, run_update);
}

static bool info_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct snapshot_info *info = user;

	if (n > 1 && !strcmp(path[0], "labels"))
		return labels_field(info->labels, info->n_labels, path + 1, n - 1, value);
	if (n != 1)
		return false;
	*value = !strcmp(path[0], "name")     ? info->name
		 : !strcmp(path[0], "parent") ? info->parent
		 : !strcmp(path[0], "kind")   ? info->kind
					      : NULL;
	return *value && **value;
}

static int list_one(void *user, const struct snapshot_info *info)
{
	struct store_list *l = user;
	msgpack_packer *pk = store_list_want(l, info->name, info_field, (void *)info);

	if (pk)
		pack_info(pk, info);
	return store_list_more(l);
}

static int list_each(struct store_list *l, struct store_call *c, struct ipc_request *req,
		     const char *after)
{
	const char *snapshotter;
	int r = snapshotter_name(c->store, ipc_arg_str(req, "snapshotter"), &snapshotter, c->f);

	return r < 0 ? r : snapshot_list(c, snapshotter, after, list_one, l);
}

static void snapshots_list(struct ipc_request *req, void *user)
{
	store_list_start(user, req, "snapshots", list_each);
}

static int run_usage(struct store_job *j)
{
	const struct snap_args *a = &container_of(j, struct snap_job, job)->args;
	struct snapshot_usage usage;
	int r = snapshot_usage(&j->call, a->snapshotter, a->key, &usage);

	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 2);
	mp_pack_key_uint(&j->pk, "size", usage.size);
	mp_pack_key_uint(&j->pk, "inodes", usage.inodes);
	return 0;
}

static void snapshots_usage(struct ipc_request *req, void *user)
{
	struct snap_job *s = snap_job_new(user, req, run_usage);

	if (s)
		store_job_start(&s->job, NULL);
}

static int run_cleanup(struct store_job *j)
{
	return snapshot_cleanup(&j->call, container_of(j, struct snap_job, job)->args.snapshotter);
}

static void snapshots_cleanup(struct ipc_request *req, void *user)
{
	struct snap_job *s = snap_job_new(user, req, run_cleanup);

	if (s)
		store_job_start(&s->job, NULL);
}

/* ---- the table */

#define NAMED(NAME, FLAGS, DOC)                                                                    \
	{                                                                                          \
		.name = NAME, .type = IPC_STR, .flags = FLAGS, .min = 1, .max = LIMIT_NAME_BYTES,  \
		.doc = DOC                                                                         \
	}
#define KEY NAMED("key", IPC_REQUIRED, "the snapshot's key, or the name of a committed one")
#define SNAPSHOTTER                                                                                \
	{                                                                                          \
		.name = "snapshotter", .type = IPC_STR, .max = LIMIT_NAME_BYTES,                   \
		.doc = "overlayfs or native; without it overlayfs, or native where --root cannot " \
		       "be used by overlayfs"                                                      \
	}
#define LABELS                                                                                     \
	{                                                                                          \
		.name = "labels", .type = IPC_LABELS,                                              \
		.doc = "labels; one with an empty value is left out, or removed"                   \
	}

static const struct ipc_param make_params[] = {
	NAMED("key", IPC_REQUIRED, "a name that no snapshot has yet"),
	{ .name = "parent",
	  .type = IPC_STR,
	  .max = LIMIT_NAME_BYTES,
	  .doc = "a committed snapshot to begin with; empty without it" },
	LABELS,
	SNAPSHOTTER,
	{ 0 },
};
static const struct ipc_param key_params[] = { KEY, SNAPSHOTTER, { 0 } };
static const struct ipc_param commit_params[] = {
	NAMED("key", IPC_REQUIRED, "an active snapshot; the key is free afterwards"),
	NAMED("name", IPC_REQUIRED, "its name from now on"),
	LABELS,
	SNAPSHOTTER,
	{ 0 },
};
static const struct ipc_param update_params[] = { KEY, LABELS, SNAPSHOTTER, { 0 } };
static const struct ipc_param snapshotter_params[] = { SNAPSHOTTER, { 0 } };

static const struct ipc_field mounts_result[] = {
	{ "mounts", "list",
	  "of maps {type, source, target, options}, to be mounted in this order" },
	{ 0 },
};
static const struct ipc_field info_result[] = {
	{ "info", "map",
	  "name, parent, kind (view, active, committed), labels, created_at, updated_at" },
	{ 0 },
};
static const struct ipc_field list_result[] = {
	{ "snapshots", "list", "of maps as snapshots.stat answers them, in the order of names" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};
static const struct ipc_field usage_result[] = {
	{ "size", "int", "bytes on the disk, without the parents'" },
	{ "inodes", "int", "files and folders, without the parents'" },
	{ 0 },
};

const struct ipc_method snapshot_methods[] = {
	{ "snapshots.prepare", "Makes a writable snapshot, empty or on a parent", 0, make_params,
	  mounts_result, "already_exists not_found failed_precondition resource_exhausted",
	  snapshots_prepare },
	{ "snapshots.view", "Makes a read-only snapshot of a parent", 0, make_params, mounts_result,
	  "already_exists not_found failed_precondition resource_exhausted", snapshots_view },
	{ "snapshots.mounts", "How to mount an active snapshot or a view", 0, key_params,
	  mounts_result, "not_found failed_precondition", snapshots_mounts },
	{ "snapshots.commit", "Makes an active snapshot a parent for others, durably", 0,
	  commit_params, NULL, "not_found already_exists failed_precondition", snapshots_commit },
	{ "snapshots.remove", "Removes a snapshot that has no children", 0, key_params, NULL,
	  "not_found failed_precondition", snapshots_remove },
	{ "snapshots.stat", "A snapshot's record", 0, key_params, info_result, "not_found",
	  snapshots_stat },
	{ "snapshots.update", "Changes the labels of a snapshot", IPC_UPDATES, update_params,
	  info_result, "not_found resource_exhausted", snapshots_update },
	{ "snapshots.list",
	  "The namespace's snapshots in the order of their names; filters: name, parent, kind, labels",
	  IPC_LISTS, snapshotter_params, list_result, "not_found", snapshots_list },
	{ "snapshots.usage", "What a snapshot takes on the disk", 0, key_params, usage_result,
	  "not_found", snapshots_usage },
	{ "snapshots.cleanup", "Removes folders that belong to no snapshot, and empties the trash",
	  0, snapshotter_params, NULL, "not_found", snapshots_cleanup },
	{ 0 },
};
