// SPDX-License-Identifier: Apache-2.0
/*
 * The methods images.import, export, unpack, from_dir and usage
 *
 * Long jobs with copies of their arguments. A path is opened by the job, as the daemon's user, who
 * is root: it is for clients that may read and write everything anyway. One that is exported to is
 * replaced when the archive is complete, so that a failure leaves what had been there.
 */
#include <limits.h>
#include <string.h>

#include "core/archive_place.h"
#include "core/svc_image.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/mp.h"

#define TOPIC "/images/progress"

struct image_job {
	struct store_job job;
	char *name, *path, *platform, *snapshotter, *config;
	char **names;
	size_t n_names;
	int fd;
	bool all_platforms;
	enum image_format format;
	size_t array; /* place of the list in the answer, and how many are in it */
	uint32_t count;
};

static struct image_job *of(struct store_job *j)
{
	return container_of(j, struct image_job, job);
}

static void clear(struct store_job *j)
{
	struct image_job *w = of(j);

	for (size_t i = 0; i < w->n_names; i++)
		free(w->names[i]);
	free(w->names);
	free(w->name);
	free(w->path);
	free(w->platform);
	free(w->snapshotter);
	free(w->config);
	fd_close(&w->fd);
}

/* NULL after answering. */
static struct image_job *new_job(struct davit *d, struct ipc_request *req,
				 int (*run)(struct store_job *j))
{
	struct image_job *w = store_job_new(d, req, sizeof(*w), run, clear);
	bool failed = false;

	if (!w)
		return NULL;
	w->fd = -1;
	w->all_platforms = ipc_arg_bool(req, "all_platforms", false);
	w->name = store_job_str(&w->job, "name", &failed);
	w->path = store_job_str(&w->job, "path", &failed);
	w->platform = store_job_str(&w->job, "platform", &failed);
	w->snapshotter = store_job_str(&w->job, "snapshotter", &failed);
	if (!failed)
		return w;
	ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
	store_job_free(&w->job);
	return NULL;
}

/* Either a path or a stream. False after answering: the job is gone. */
static bool take_source(struct image_job *w, struct ipc_request *req)
{
	if (!archive_place_given(req)) {
		store_job_free(&w->job);
		return false;
	}
	w->fd = w->path ? -1 : ipc_arg_fd(req, "stream");
	return true;
}

static int add_image(void *user, const struct image_info *info)
{
	struct image_job *w = user;

	image_pack(&w->job.pk, info);
	w->count++;
	return 0;
}

/* ---- import */

static int run_import(struct store_job *j)
{
	struct image_job *w = of(j);
	struct image_import in = { .name = w->name,
				   .platform = w->platform,
				   .all_platforms = w->all_platforms };
	int r = w->fd < 0 ? archive_source_open(w->path, &w->fd, j->call.f) : 0;

	if (r < 0)
		return r;
	in.fd = w->fd;
	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "images");
	w->array = mp_array_begin(&j->answer);
	r = image_import(&j->call, &in, add_image, w);
	if (!r)
		mp_array_end(&j->answer, w->array, w->count);
	return r;
}

void images_import(struct ipc_request *req, void *user)
{
	struct image_job *w = new_job(user, req, run_import);

	if (w && take_source(w, req))
		store_job_start_on(&w->job, w->job.d->stream_pool, TOPIC);
}

/* ---- export */

static int run_export(struct store_job *j)
{
	struct image_job *w = of(j);
	struct archive_target target = { 0 };
	uint64_t size;
	int r = w->fd < 0 ? archive_target_open(&target, w->path, 0644, &w->fd, j->call.f) : 0;

	if (r < 0)
		return r;
	r = image_export(&j->call, (const char *const *)w->names, w->n_names, w->fd, w->format,
			 w->platform, &size);
	if (r < 0 && !strcmp(j->call.f->argument, "name"))
		fault_arg(j->call.f, "names");
	r = archive_target_end(&target, w->fd, r, j->call.f);
	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 1);
	mp_pack_key_uint(&j->pk, "size", size);
	return 0;
}

static bool take_names(struct image_job *w, struct ipc_request *req)
{
	size_t n;
	const char *const *names = ipc_arg_strs(req, "names", &n);

	w->names = calloc(n + 1, sizeof(*w->names));
	if (!w->names)
		return false;
	for (; w->n_names < n; w->n_names++) {
		w->names[w->n_names] = strdup(names[w->n_names]);
		if (!w->names[w->n_names])
			return false;
	}
	return true;
}

void images_export(struct ipc_request *req, void *user)
{
	const char *format = ipc_arg_str(req, "format");
	struct image_job *w;

	if (format && strcmp(format, "oci") && strcmp(format, "docker")) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "format",
				"'%s' is neither \"oci\" nor \"docker\"", format);
		return;
	}
	w = new_job(user, req, run_export);
	if (!w)
		return;
	w->format = format && !strcmp(format, "docker") ? IMAGE_DOCKER : IMAGE_OCI;
	if (!take_names(w, req)) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		store_job_free(&w->job);
		return;
	}
	if (take_source(w, req))
		store_job_start_on(&w->job, w->job.d->stream_pool, TOPIC);
}

/* ---- unpack */

static int run_unpack(struct store_job *j)
{
	struct image_job *w = of(j);
	struct digest chain;
	int r = image_unpack(&j->call, w->name, w->platform, w->snapshotter, &chain);

	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 1);
	mp_pack_key_str(&j->pk, "chain_id", chain.text);
	return 0;
}

void images_unpack(struct ipc_request *req, void *user)
{
	struct image_job *w = new_job(user, req, run_unpack);

	if (w)
		store_job_start(&w->job, TOPIC);
}

/* ---- from_dir */

static int answer_image(void *user, const struct image_info *info)
{
	struct store_job *j = user;

	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "image");
	image_pack(&j->pk, info);
	return 0;
}

static int run_from_dir(struct store_job *j)
{
	struct image_job *w = of(j);
	int r = w->fd < 0 ? archive_source_open(w->path, &w->fd, j->call.f) : 0;

	return r < 0 ? r : image_from_dir(&j->call, w->fd, w->name, w->config, answer_image, j);
}

/* As JSON text, of a text or a map. */
static int take_config(struct image_job *w, struct ipc_request *req, struct fault *f)
{
	const msgpack_object *o = ipc_arg(req, "config");
	json_object *json;
	const char *text;
	int r;

	if (!o)
		return 0;
	if (!mp_is_map(o)) {
		w->config = mp_strdup(o);
		if (w->config)
			return 0;
		r = errno;
		if (r == EINVAL)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "NUL in the text");
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "images");
	}
	r = json_from_mp(o, &json, f);
	if (r < 0)
		return r;
	/* an empty array counts as an empty map */
	text = json_object_is_type(json, json_type_object)
		       ? json_object_to_json_string_ext(
				 json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
		       : "{}";
	w->config = text ? strdup(text) : NULL;
	json_object_put(json);
	return w->config ? 0 : fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "images");
}

void images_from_dir(struct ipc_request *req, void *user)
{
	struct image_job *w = new_job(user, req, run_from_dir);
	struct fault f = { 0 };

	if (!w)
		return;
	if (take_config(w, req, &f) < 0) {
		fault_arg(&f, "config");
		ipc_reply_fault(req, &f);
		store_job_free(&w->job);
		return;
	}
	if (take_source(w, req))
		store_job_start_on(&w->job, w->job.d->stream_pool, TOPIC);
}

/* ---- usage */

static int run_usage(struct store_job *j)
{
	struct image_usage usage;
	int r = image_usage(&j->call, of(j)->name, &usage);

	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 3);
	mp_pack_key_uint(&j->pk, "size", usage.size);
	mp_pack_key_uint(&j->pk, "unpacked", usage.unpacked);
	mp_pack_key_uint(&j->pk, "shared", usage.shared);
	return 0;
}

void images_usage(struct ipc_request *req, void *user)
{
	struct image_job *w = new_job(user, req, run_usage);

	if (w)
		store_job_start(&w->job, NULL);
}
