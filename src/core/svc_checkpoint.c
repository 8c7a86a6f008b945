// SPDX-License-Identifier: Apache-2.0
/*
 * The methods checkpoints.export and checkpoints.import
 *
 * Long jobs with copies of their arguments, as those of images. A path is opened by the job, as the
 * daemon's user, who is root: it is for clients that may read and write everything anyway. A file
 * that is exported to is replaced when the archive is complete, so that a failure leaves what had been there.
 */
#include <stdlib.h>
#include <string.h>

#include "core/archive_place.h"
#include "core/ckpt_export.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/mp.h"

#define TOPIC "/tasks/progress"

struct checkpoint_job {
	struct store_job job;
	char *name, *path;
	int fd;
	int format; /* negative: to be guessed */
	enum layer_compression compression;
};

static struct checkpoint_job *of(struct store_job *j)
{
	return container_of(j, struct checkpoint_job, job);
}

static void clear(struct store_job *j)
{
	struct checkpoint_job *w = of(j);

	free(w->name);
	free(w->path);
	fd_close(&w->fd);
}

/* ---- arguments */

/* False after answering. */
static bool take_format(struct ipc_request *req, int *format)
{
	const char *name = ipc_arg_str(req, "format");

	*format = name ? ckpt_format_of(name) : -1;
	if (!name || *format >= 0)
		return true;
	ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "format",
			"'%s' is none of \"podman\", \"containerd\" and \"criu-dir\"", name);
	return false;
}

/* ctr reads plain tars only. */
static bool take_compression(struct ipc_request *req, int format, enum layer_compression *out)
{
	const char *name = ipc_arg_str(req, "compression");

	*out = format == CKPT_CONTAINERD ? LAYER_NONE : LAYER_ZSTD;
	if (name && !strcmp(name, "zstd"))
		*out = LAYER_ZSTD;
	else if (name && !strcmp(name, "gzip"))
		*out = LAYER_GZIP;
	else if (name && !strcmp(name, "none"))
		*out = LAYER_NONE;
	else if (name) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "compression",
				"'%s' is none of \"zstd\", \"gzip\" and \"none\"", name);
		return false;
	}
	return true;
}

/* NULL after answering. */
static struct checkpoint_job *new_job(struct davit *d, struct ipc_request *req,
				      int (*run)(struct store_job *j))
{
	struct checkpoint_job *w = store_job_new(d, req, sizeof(*w), run, clear);
	bool failed = false;

	if (!w)
		return NULL;
	w->fd = -1;
	w->name = store_job_str(&w->job, "name", &failed);
	w->path = store_job_str(&w->job, "path", &failed);
	if (!failed) {
		if (!w->path)
			w->fd = ipc_arg_fd(req, "stream");
		return w;
	}
	ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
	store_job_free(&w->job);
	return NULL;
}

/* ---- export */

static int run_export(struct store_job *j)
{
	struct checkpoint_job *w = of(j);
	struct archive_target target = { 0 };
	struct ckpt_export e = { .name = w->name,
				 .format = (enum ckpt_format)w->format,
				 .compression = w->compression };
	uint64_t size;
	int r = 0;

	if (w->path && e.format == CKPT_CRIU_DIR)
		e.folder = w->path;
	else if (w->path)
		r = archive_target_open(&target, w->path, 0600, &w->fd, j->call.f);
	if (r < 0)
		return r;
	e.fd = w->fd;
	r = ckpt_export(&j->call, &e, &size);
	r = archive_target_end(&target, w->fd, r, j->call.f);
	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 1);
	mp_pack_key_uint(&j->pk, "size", size);
	return 0;
}

static void checkpoints_export(struct ipc_request *req, void *user)
{
	enum layer_compression compression;
	struct checkpoint_job *w;
	int format;

	if (!take_format(req, &format) || !take_compression(req, format, &compression) ||
	    !archive_place_given(req))
		return;
	w = new_job(user, req, run_export);
	if (!w)
		return;
	w->format = format;
	w->compression = compression;
	store_job_start(&w->job, TOPIC);
}

/* ---- import */

static int run_import(struct store_job *j)
{
	struct checkpoint_job *w = of(j);
	CLEANUP(oci_descriptor_clear) struct oci_descriptor index = { 0 };
	CLEANUP_FREE char *name = NULL;
	struct ckpt_import in = { .path = w->path, .name = w->name, .format = w->format };
	int r = w->path ? archive_source_open(w->path, &w->fd, j->call.f) : 0;

	if (r < 0)
		return r;
	in.fd = w->fd;
	r = ckpt_import(&j->call, &in, &index, &name);
	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 2);
	mp_pack_key_str(&j->pk, "image", name);
	mp_pack_key(&j->pk, "index");
	oci_descriptor_pack(&j->pk, &index);
	return 0;
}

static void checkpoints_import(struct ipc_request *req, void *user)
{
	struct checkpoint_job *w;
	int format;

	if (!take_format(req, &format) || !archive_place_given(req))
		return;
	if (format == CKPT_CONTAINERD) {
		ipc_reply_error(req, FAULT_UNIMPLEMENTED, "format",
				"checkpoints of containerd can be written, but not read");
		return;
	}
	w = new_job(user, req, run_import);
	if (!w)
		return;
	w->format = format;
	store_job_start(&w->job, TOPIC);
}

/* ---- the table */

static const struct ipc_param export_params[] = {
	{ .name = "name",
	  .type = IPC_STR,
	  .flags = IPC_REQUIRED,
	  .min = 1,
	  .max = LIMIT_IMAGE_NAME_BYTES,
	  .doc = "of the checkpoint's image" },
	{ .name = "format",
	  .type = IPC_STR,
	  .flags = IPC_REQUIRED,
	  .doc = "\"podman\": what podman container restore --import takes; \"containerd\": what ctr "
		 "image import takes; \"criu-dir\": criu's image files" },
	{ .name = "path",
	  .type = IPC_STR,
	  .min = 1,
	  .max = LIMIT_PATH_BYTES,
	  .doc = "absolute, of the file to be written, which is replaced when it is complete; for "
		 "criu-dir of a folder, which is made or empty; or stream" },
	{ .name = "stream", .type = IPC_FD, .doc = "where the archive is written to" },
	{ .name = "compression",
	  .type = IPC_STR,
	  .doc = "of the archive as a whole: \"zstd\", \"gzip\", \"none\"; without it none for "
		 "containerd, whose ctr reads plain tars only, else zstd" },
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_param import_params[] = {
	{ .name = "path",
	  .type = IPC_STR,
	  .min = 1,
	  .max = LIMIT_PATH_BYTES,
	  .doc = "absolute, of an archive of podman's, of a tar of criu's image files, or of a folder "
		 "of them; or stream" },
	{ .name = "stream",
	  .type = IPC_FD,
	  .doc = "the archive, read to its end: a tar, plain or compressed by gzip or zstd" },
	{ .name = "name",
	  .type = IPC_STR,
	  .min = 1,
	  .max = LIMIT_IMAGE_NAME_BYTES,
	  .doc = "of the image to be made; without it containerd.io/checkpoint/ID:DATE" },
	{ .name = "format",
	  .type = IPC_STR,
	  .doc = "\"podman\" or \"criu-dir\"; without it, by what is in it" },
	STORE_JOB_PROGRESS,
	{ 0 },
};
static const struct ipc_field export_result[] = {
	{ "size", "int", "bytes written" },
	{ 0 },
};
static const struct ipc_field import_result[] = {
	{ "image", "str", "name of the checkpoint's image" },
	{ "index", "map", "a descriptor {media_type, digest, size}: its target" },
	{ 0 },
};

const struct ipc_method checkpoint_methods[] = {
	{ "checkpoints.export", "Writes a checkpoint in another tool's format", 0, export_params,
	  export_result,
	  "failed_precondition not_found already_exists aborted resource_exhausted "
	  "permission_denied cancelled",
	  checkpoints_export },
	{ "checkpoints.import", "Makes a checkpoint of another tool's archive", 0, import_params,
	  import_result,
	  "failed_precondition not_found already_exists unimplemented resource_exhausted "
	  "permission_denied cancelled",
	  checkpoints_import },
	{ 0 },
};
