// SPDX-License-Identifier: Apache-2.0
/*
 * The methods images.create, get, update, delete and list, and the table of all of images
 *
 * These take a few rows and small files each and run on the store thread, one after the other. So an
 * update reads the labels it keeps and writes them back without anybody in between but an import,
 * which leaves labels alone; both are in one transaction all the same.
 */
#include "core/svc_image.h"

#include <errno.h>
#include <string.h>

#include "core/labels.h"
#include "core/store_methods.h"
#include "store/gc.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/mp.h"

void image_pack(msgpack_packer *pk, const struct image_info *info)
{
	msgpack_pack_map(pk, 5);
	mp_pack_key_str(pk, "name", info->name);
	mp_pack_key(pk, "target");
	oci_descriptor_pack(pk, info->target);
	mp_pack_key(pk, "labels");
	labels_pack(pk, info->labels, info->n_labels);
	mp_pack_key_int(pk, "created_at", info->created_at);
	mp_pack_key_int(pk, "updated_at", info->updated_at);
}

static int answer_image(void *user, const struct image_info *info)
{
	struct store_job *j = user;

	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "image");
	image_pack(&j->pk, info);
	return 0;
}

static int read_target(struct store_job *j, struct oci_descriptor *d)
{
	int r = oci_descriptor_from_mp(d, ipc_arg(j->req, "target"), j->call.f);

	if (r < 0)
		fault_arg(j->call.f, "target");
	return r;
}

/* ---- create, get */

static int run_create(struct store_job *j)
{
	struct oci_descriptor target;
	struct labels labels = { 0 };
	int r = read_target(j, &target);

	if (r < 0)
		return r;
	r = labels_set_mp(&labels, ipc_arg(j->req, "labels"));
	if (r < 0)
		r = labels_fault(r, j->call.f);
	else
		r = image_create(&j->call, ipc_arg_str(j->req, "name"), &target, labels.v, labels.n,
				 answer_image, j);
	labels_clear(&labels);
	oci_descriptor_clear(&target);
	return r;
}

static void images_create(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, run_create);
}

static int run_get(struct store_job *j)
{
	return image_get(&j->call, ipc_arg_str(j->req, "name"), answer_image, j);
}

static void images_get(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, run_get);
}

/* ---- update */

static int take_labels(void *user, const struct image_info *info)
{
	labels_change(user, info->labels, info->n_labels);
	return 0;
}

static bool changes_labels(struct ipc_request *req)
{
	size_t n;
	const char *const *mask = ipc_arg_strs(req, "mask", &n);

	for (size_t i = 0; i < n; i++)
		if (!strcmp(mask[i], "labels") || !strncmp(mask[i], "labels.", 7))
			return true;
	return !n && ipc_has(req, "labels");
}

static int run_update(struct store_job *j)
{
	const char *name = ipc_arg_str(j->req, "name");
	bool retarget = ipc_has(j->req, "target") && ipc_mask_has(j->req, "target");
	struct oci_descriptor target = { 0 };
	struct labels_change l = { .req = j->req };
	bool relabel = changes_labels(j->req);
	static const struct db_label none;
	int r = 0;

	if (retarget)
		r = read_target(j, &target);
	if (!r && relabel)
		r = image_get(&j->call, name, take_labels, &l);
	if (!r && l.result < 0)
		r = labels_fault(l.result, j->call.f);
	if (!r)
		r = image_update(&j->call, name, retarget ? &target : NULL,
				 !relabel     ? NULL
				 : l.labels.v ? l.labels.v
					      : &none,
				 l.labels.n, answer_image, j);
	labels_clear(&l.labels);
	oci_descriptor_clear(&target);
	return r;
}

static void images_update(struct ipc_request *req, void *user)
{
	size_t n;
	const char *const *mask = ipc_arg_strs(req, "mask", &n);

	for (size_t i = 0; i < n; i++) {
		if (!strcmp(mask[i], "target") && !ipc_has(req, "target")) {
			ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "target",
					"the mask names it, but it is not given");
			return;
		}
		if (strcmp(mask[i], "target") && strcmp(mask[i], "labels") &&
		    (strncmp(mask[i], "labels.", 7) || !mask[i][7])) {
			ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "mask",
					"images.update cannot change '%s', only target, labels and "
					"labels.KEY",
					mask[i]);
			return;
		}
	}
	store_job_quick(user, req, run_update);
}

/* ---- delete */

static int run_delete(struct store_job *j)
{
	return image_delete(&j->call, ipc_arg_str(j->req, "name"));
}

struct delete_job {
	struct store_job job;
	char *name;
};

static void delete_clear(struct store_job *j)
{
	free(container_of(j, struct delete_job, job)->name);
}

/* With what nothing refers to any more. */
static int run_delete_sync(struct store_job *j)
{
	struct gc_result result;
	int r = image_delete(&j->call, container_of(j, struct delete_job, job)->name);

	return r < 0 ? r : gc_run(&j->call, false, &result);
}

static void images_delete(struct ipc_request *req, void *user)
{
	struct delete_job *dj;
	bool failed = false;

	if (!ipc_arg_bool(req, "sync", false)) {
		store_job_quick(user, req, run_delete);
		return;
	}
	dj = store_job_new(user, req, sizeof(*dj), run_delete_sync, delete_clear);
	if (!dj)
		return;
	dj->name = store_job_str(&dj->job, "name", &failed);
	if (failed) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		store_job_free(&dj->job);
		return;
	}
	store_job_start(&dj->job, NULL);
}

/* ---- list */

/* Of the target; a key may have dots in it, which path splits. */
static bool annotation(const struct image_info *info, const char *const *path, size_t n,
		       const char **value)
{
	char key[LIMIT_FILTER_BYTES + 1];
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(path[i]);

		if (at + len + 2 > sizeof(key))
			return false;
		if (i)
			key[at++] = '.';
		memcpy(key + at, path[i], len);
		at += len;
	}
	key[at] = '\0';
	*value = oci_descriptor_annotation(info->target, key);
	return *value;
}

static bool image_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct image_info *info = user;

	if (n == 1 && !strcmp(path[0], "name")) {
		*value = info->name;
		return true;
	}
	if (n < 2)
		return false;
	if (!strcmp(path[0], "labels"))
		return labels_field(info->labels, info->n_labels, path + 1, n - 1, value);
	if (!strcmp(path[0], "annotations"))
		return annotation(info, path + 1, n - 1, value);
	if (strcmp(path[0], "target") || n != 2)
		return false;
	if (!strcmp(path[1], "digest"))
		*value = info->target->digest.text;
	else if (!strcmp(path[1], "mediatype") || !strcmp(path[1], "media_type"))
		*value = info->target->media_type;
	else
		return false;
	return true;
}

static int list_one(void *user, const struct image_info *info)
{
	struct store_list *l = user;
	msgpack_packer *pk = store_list_want(l, info->name, image_field, (void *)info);

	if (pk)
		image_pack(pk, info);
	return store_list_more(l);
}

static int list_each(struct store_list *l, struct store_call *c, struct ipc_request *req,
		     const char *after)
{
	(void)req;
	return image_list(c, after, list_one, l);
}

static void images_list(struct ipc_request *req, void *user)
{
	store_list_start(user, req, "images", list_each);
}

/* ---- the table */

#define NAME                                                                                       \
	{                                                                                          \
		.name = "name", .type = IPC_STR, .flags = IPC_REQUIRED, .min = 1,                  \
		.max = LIMIT_IMAGE_NAME_BYTES, .doc = "the image's name, taken literally"          \
	}
#define LABELS                                                                                     \
	{                                                                                          \
		.name = "labels", .type = IPC_LABELS,                                              \
		.doc = "labels; one with an empty value is left out, or removed"                   \
	}
#define PATH(DOC)                                                                                  \
	{                                                                                          \
		.name = "path", .type = IPC_STR, .min = 1, .max = LIMIT_PATH_BYTES, .doc = DOC     \
	}
#define STREAM(DOC)                                                                                \
	{                                                                                          \
		.name = "stream", .type = IPC_FD, .doc = DOC                                       \
	}
#define PLATFORM(DOC)                                                                              \
	{                                                                                          \
		.name = "platform", .type = IPC_STR, .max = 200, .doc = DOC                        \
	}

static const struct ipc_param create_params[] = {
	NAME,
	{ .name = "target",
	  .type = IPC_MAP,
	  .flags = IPC_REQUIRED,
	  .doc = "a descriptor {media_type, digest, size, …} of content that is there" },
	LABELS,
	{ 0 },
};
static const struct ipc_param name_params[] = { NAME, { 0 } };
static const struct ipc_param update_params[] = {
	NAME,
	{ .name = "target", .type = IPC_MAP, .doc = "a descriptor of content that is there" },
	LABELS,
	{ 0 },
};
static const struct ipc_param delete_params[] = {
	NAME,
	{ .name = "sync",
	  .type = IPC_BOOL,
	  .dflt = "false",
	  .doc = "answer when what nothing refers to any more was removed" },
	{ 0 },
};
static const struct ipc_param import_params[] = {
	PATH("absolute, of an archive or of a folder that is an OCI image layout; or stream"),
	STREAM("the archive, read to its end: a tar, plain or compressed by gzip or zstd"),
	{ .name = "name",
	  .type = IPC_STR,
	  .min = 1,
	  .max = LIMIT_IMAGE_NAME_BYTES,
	  .doc = "of the archive's only image; without it the names in the archive" },
	PLATFORM(
		"OS/ARCHITECTURE[/VARIANT] to be kept of an index, or that an image without one is "
		"for; left out: this machine's, or any"),
	{ .name = "all_platforms",
	  .type = IPC_BOOL,
	  .dflt = "false",
	  .doc = "keep all platforms; each has to be there and whole" },
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_param export_params[] = {
	{ .name = "names", .type = IPC_STRS, .flags = IPC_REQUIRED, .doc = "of the images" },
	PATH("absolute, of the file to be written; replaced when it is complete; or stream"),
	STREAM("where the tar is written to"),
	{ .name = "format",
	  .type = IPC_STR,
	  .dflt = "oci",
	  .doc = "\"oci\", or \"docker\", which docker load reads as well" },
	PLATFORM(
		"only this one; without it all that are there, for docker this machine's or the only one"),
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_param unpack_params[] = {
	NAME,
	PLATFORM("of an index; left out: this machine's"),
	{ .name = "snapshotter",
	  .type = IPC_STR,
	  .max = LIMIT_NAME_BYTES,
	  .doc = "overlayfs or native; without it overlayfs, or native where --root cannot be "
		 "used by overlayfs" },
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_param from_dir_params[] = {
	PATH("absolute, of the folder, or of a tar of files; or stream"),
	STREAM("the folder, opened, or a tar of files"),
	NAME,
	{ .name = "config",
	  .type = IPC_STR_OR_MAP,
	  .doc = "JSON or a map: what a container of it runs ({Cmd, Env, …}), or a whole OCI image "
		 "config" },
	STORE_JOB_PROGRESS,
	{ 0 },
};

static const struct ipc_field image_result[] = {
	{ "image", "map", "name, target, labels, created_at, updated_at" },
	{ 0 },
};
static const struct ipc_field images_result[] = {
	{ "images", "list", "of maps, as images.get answers one" },
	{ 0 },
};
static const struct ipc_field list_result[] = {
	{ "images", "list", "of maps, as images.get answers one, in the order of names" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};
static const struct ipc_field size_result[] = {
	{ "size", "int", "bytes written" },
	{ 0 },
};
static const struct ipc_field unpack_result[] = {
	{ "chain_id", "str", "the snapshot of all its layers; \"\" for an image without layers" },
	{ 0 },
};
static const struct ipc_field usage_result[] = {
	{ "size", "int", "bytes of its blobs that are there" },
	{ "unpacked", "int", "bytes of the snapshots of its layers" },
	{ "shared", "int", "of size, what other images of the namespace have too" },
	{ 0 },
};

const struct ipc_method image_methods[] = {
	{ "images.create", "Gives content a name", 0, create_params, image_result,
	  "already_exists not_found failed_precondition resource_exhausted", images_create },
	{ "images.get", "An image's record", 0, name_params, image_result, "not_found",
	  images_get },
	{ "images.update", "Changes target or labels of an image", IPC_UPDATES, update_params,
	  image_result, "not_found failed_precondition resource_exhausted", images_update },
	{ "images.delete", "Forgets a name; its content is collected when nothing else has it", 0,
	  delete_params, NULL, "not_found", images_delete },
	{ "images.list",
	  "The namespace's images in the order of their names; filters: name, target.digest, "
	  "target.mediatype, labels, annotations",
	  IPC_LISTS, NULL, list_result, NULL, images_list },
	{ "images.import", "Reads images from an OCI layout or a docker archive", 0, import_params,
	  images_result,
	  "failed_precondition not_found resource_exhausted permission_denied cancelled",
	  images_import },
	{ "images.export", "Writes images as a tar of an OCI layout", 0, export_params, size_result,
	  "failed_precondition not_found aborted resource_exhausted permission_denied cancelled",
	  images_export },
	{ "images.unpack", "Makes snapshots of an image's layers, as far as they are not there", 0,
	  unpack_params, unpack_result,
	  "failed_precondition not_found resource_exhausted cancelled", images_unpack },
	{ "images.from_dir", "Makes an image of a folder or a tar of files", 0, from_dir_params,
	  image_result, "failed_precondition not_found resource_exhausted cancelled",
	  images_from_dir },
	{ "images.usage", "What an image takes on the disk", 0, name_params, usage_result,
	  "not_found failed_precondition", images_usage },
	{ 0 },
};
