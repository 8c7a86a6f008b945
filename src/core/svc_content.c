// SPDX-License-Identifier: Apache-2.0
/*
 * The methods content.info, update, delete, list, verify, read, write, status, list_statuses, abort
 *
 * What is a row or two runs on the store thread. What reads, writes or removes files runs in a pool
 * of its own, beside imports that take minutes. These jobs read their request's arguments where
 * they are: the data of a write is not copied on its way to the file. Verifying may take long, and
 * is the image pool's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/content_writer.h"
#include "core/labels.h"
#include "core/store_job.h"
#include "core/store_methods.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/container_of.h"
#include "util/limits.h"
#include "util/mp.h"

static const char *digest_of_request(struct store_job *j)
{
	return ipc_arg_str(j->req, "digest");
}

/* On the content pool, with the request's own arguments. */
static void content_job(struct davit *d, struct ipc_request *req, int (*run)(struct store_job *j))
{
	struct store_job *j = store_job_new(d, req, sizeof(*j), run, NULL);

	if (j)
		worker_submit(d->content_pool, &j->job);
}

/* ---- info, update, delete, list */

static void pack_info(msgpack_packer *pk, const struct content_info *info)
{
	msgpack_pack_map(pk, 5);
	mp_pack_key_str(pk, "digest", info->digest);
	mp_pack_key_uint(pk, "size", info->size);
	mp_pack_key(pk, "labels");
	labels_pack(pk, info->labels, info->n_labels);
	mp_pack_key_int(pk, "created_at", info->created_at);
	mp_pack_key_int(pk, "updated_at", info->updated_at);
}

static int answer_info(void *user, const struct content_info *info)
{
	struct store_job *j = user;

	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "info");
	pack_info(&j->pk, info);
	return 0;
}

static int info_run(struct store_job *j)
{
	return content_info(&j->call, digest_of_request(j), answer_info, j);
}

static void info(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, info_run);
}

static int take_labels(void *user, const struct content_info *info)
{
	labels_change(user, info->labels, info->n_labels);
	return 0;
}

/* Reading and writing in one transaction: others may change labels at the same time. */
static int update_run(struct store_job *j)
{
	struct store_call *c = &j->call;
	struct labels_change l = { .req = j->req };
	int r = db_begin(j->d->db, DB_FULL, c->f);

	if (r < 0)
		return r;
	r = content_info(c, digest_of_request(j), take_labels, &l);
	if (!r && l.result < 0)
		r = labels_fault(l.result, c->f);
	if (!r)
		r = content_set_labels(c, digest_of_request(j), l.labels.v, l.labels.n, answer_info,
				       j);
	labels_clear(&l.labels);
	return db_end(j->d->db, r, c->f);
}

static void update(struct ipc_request *req, void *user)
{
	size_t n;
	const char *const *mask = ipc_arg_strs(req, "mask", &n);

	for (size_t i = 0; i < n; i++) {
		if (strcmp(mask[i], "labels") && (strncmp(mask[i], "labels.", 7) || !mask[i][7])) {
			ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "mask",
					"content.update cannot change '%s', only labels and "
					"labels.KEY",
					mask[i]);
			return;
		}
	}
	store_job_quick(user, req, update_run);
}

static int delete_run(struct store_job *j)
{
	return content_delete(&j->call, digest_of_request(j));
}

static void delete (struct ipc_request *req, void *user)
{
	content_job(user, req, delete_run);
}

struct info_field {
	const struct content_info *info;
	char size[24];
};

static bool content_field(void *user, const char *const *path, size_t n, const char **value)
{
	struct info_field *x = user;

	if (n > 1 && !strcmp(path[0], "labels"))
		return labels_field(x->info->labels, x->info->n_labels, path + 1, n - 1, value);
	if (n != 1)
		return false;
	if (!strcmp(path[0], "digest")) {
		*value = x->info->digest;
		return true;
	}
	if (!strcmp(path[0], "size")) {
		snprintf(x->size, sizeof(x->size), "%llu", (unsigned long long)x->info->size);
		*value = x->size;
		return true;
	}
	return false;
}

static int list_one(void *user, const struct content_info *info)
{
	struct store_list *l = user;
	struct info_field field = { .info = info };
	msgpack_packer *pk = store_list_want(l, info->digest, content_field, &field);

	if (pk)
		pack_info(pk, info);
	return store_list_more(l);
}

static int list_each(struct store_list *l, struct store_call *c, struct ipc_request *req,
		     const char *after)
{
	(void)req;
	return content_list(c, after, list_one, l);
}

static void list(struct ipc_request *req, void *user)
{
	store_list_start(user, req, "contents", list_each);
}

/* ---- verify */

struct verify {
	struct store_job job;
	char *digest;
};

static int verify_run(struct store_job *j)
{
	return content_verify(&j->call, container_of(j, struct verify, job)->digest);
}

static void verify_clear(struct store_job *j)
{
	free(container_of(j, struct verify, job)->digest);
}

static void verify(struct ipc_request *req, void *user)
{
	struct verify *v = store_job_new(user, req, sizeof(*v), verify_run, verify_clear);
	bool failed = false;

	if (!v)
		return;
	v->digest = store_job_str(&v->job, "digest", &failed);
	if (failed) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		store_job_free(&v->job);
		return;
	}
	store_job_start(&v->job, "/content/progress");
}

/* ---- read */

/* Straight into the answer: room for a bin of `size` bytes behind what is packed. */
static char *reserve(msgpack_sbuffer *sb, size_t size)
{
	char *grown;

	if (mp_failed(sb))
		return NULL;
	if (sb->alloc - sb->size < size) {
		grown = realloc(sb->data, sb->size + size + 64);
		if (!grown)
			return NULL;
		sb->data = grown;
		sb->alloc = sb->size + size + 64;
	}
	return sb->data + sb->size;
}

static int read_chunk(struct store_job *j, int fd, uint64_t offset, size_t size)
{
	char *to;

	msgpack_pack_bin(&j->pk, size);
	to = reserve(&j->answer, size);
	if (!to)
		return -ENOMEM;
	j->answer.size += size;
	while (size) {
		ssize_t n = pread(fd, to, size, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EUCLEAN; /* it was cut while it was read */
		to += n;
		size -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int read_run(struct store_job *j)
{
	CLEANUP_CLOSE int fd = -1;
	int64_t offset = ipc_arg_int(j->req, "offset", 0), most = ipc_arg_int(j->req, "size", 0);
	uint64_t size, left;
	int r = content_open(&j->call, digest_of_request(j), &fd, &size);

	if (r < 0)
		return r;
	if ((uint64_t)offset > size) {
		fault_set(j->call.f, FAULT_OUT_OF_RANGE, 0, "%lld is behind the end, %llu",
			  (long long)offset, (unsigned long long)size);
		fault_arg(j->call.f, "offset");
		return -ERANGE;
	}
	left = size - (uint64_t)offset;
	if (!most || most > LIMIT_CONTENT_CHUNK)
		most = LIMIT_CONTENT_CHUNK;
	if (left < (uint64_t)most)
		most = (int64_t)left;
	msgpack_pack_map(&j->pk, 2);
	mp_pack_key_bool(&j->pk, "eof", left == (uint64_t)most);
	mp_pack_key(&j->pk, "data");
	r = read_chunk(j, fd, (uint64_t)offset, (size_t)most);
	return r < 0 ? fault_sys(j->call.f, -r, "read the content", digest_of_request(j)) : 0;
}

static int read_fd_run(struct store_job *j)
{
	uint64_t size;
	int r = content_open(&j->call, digest_of_request(j), &j->fd, &size);

	if (r < 0)
		return r;
	msgpack_pack_map(&j->pk, 2);
	mp_pack_key_str(&j->pk, "fd", "fd:0");
	mp_pack_key_uint(&j->pk, "size", size);
	return 0;
}

static void read_content(struct ipc_request *req, void *user)
{
	if (ipc_arg_bool(req, "fd", false))
		store_job_quick(user, req, read_fd_run);
	else
		content_job(user, req, read_run);
}

/* ---- write, status, list_statuses, abort */

static void write_content(struct ipc_request *req, void *user)
{
	const char *action = ipc_arg_str(req, "action");

	if (!strcmp(action, "stat"))
		content_writer_stat(user, req);
	else if (!strcmp(action, "write"))
		content_writer_write(user, req, false);
	else if (!strcmp(action, "commit"))
		content_writer_write(user, req, true);
	else
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "action",
				"'%.64s' is none of stat, write and commit", action);
}

static void pack_status(msgpack_packer *pk, const struct ingest_status *s)
{
	msgpack_pack_map(pk, 6);
	mp_pack_key_str(pk, "ref", s->ref);
	mp_pack_key_uint(pk, "offset", s->offset);
	mp_pack_key_int(pk, "total", s->total > 0 ? s->total : 0);
	mp_pack_key_str(pk, "expected", s->expected);
	mp_pack_key_int(pk, "started_at", s->started_at);
	mp_pack_key_int(pk, "updated_at", s->updated_at);
}

static int answer_status(void *user, const struct ingest_status *s)
{
	struct store_job *j = user;

	msgpack_pack_map(&j->pk, 1);
	mp_pack_key(&j->pk, "status");
	pack_status(&j->pk, s);
	return 0;
}

static int status_run(struct store_job *j)
{
	return ingest_get(&j->call, ipc_arg_str(j->req, "ref"), answer_status, j);
}

static void status(struct ipc_request *req, void *user)
{
	store_job_quick(user, req, status_run);
}

static bool status_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct ingest_status *s = user;

	if (n != 1 || strcmp(path[0], "ref"))
		return false;
	*value = s->ref;
	return true;
}

static int list_status(void *user, const struct ingest_status *s)
{
	struct store_list *l = user;
	struct ingest_status copy = *s;
	msgpack_packer *pk = store_list_want(l, s->ref, status_field, &copy);

	if (pk)
		pack_status(pk, s);
	return store_list_more(l);
}

static int list_statuses_each(struct store_list *l, struct store_call *c, struct ipc_request *req,
			      const char *after)
{
	(void)req;
	return ingest_list(c, after, list_status, l);
}

static void list_statuses(struct ipc_request *req, void *user)
{
	store_list_start(user, req, "statuses", list_statuses_each);
}

static void abort_ingest(struct ipc_request *req, void *user)
{
	content_writer_abort(user, req);
}

/* ---- the table */

#define DIGEST                                                                                     \
	{                                                                                          \
		.name = "digest", .type = IPC_STR, .flags = IPC_REQUIRED,                          \
		.doc = "sha256: and 64 hexadecimal digits in lower case"                           \
	}
#define REF                                                                                        \
	{                                                                                          \
		.name = "ref", .type = IPC_STR, .flags = IPC_REQUIRED, .min = 1,                   \
		.max = LIMIT_REF_BYTES, .doc = "name of the ingest, a namespace's own"             \
	}

static const struct ipc_param digest_params[] = { DIGEST, { 0 } };
static const struct ipc_param verify_params[] = { DIGEST, STORE_JOB_PROGRESS, { 0 } };
static const struct ipc_param ref_params[] = { REF, { 0 } };
static const struct ipc_param update_params[] = {
	DIGEST,
	{ .name = "labels",
	  .type = IPC_LABELS,
	  .doc = "labels; one with an empty value is removed" },
	{ 0 },
};
static const struct ipc_param read_params[] = {
	DIGEST,
	{ .name = "offset",
	  .type = IPC_INT,
	  .max = INT64_MAX,
	  .dflt = "0",
	  .doc = "where to begin" },
	{ .name = "size",
	  .type = IPC_INT,
	  .max = INT64_MAX,
	  .doc = "bytes; at most 4 MiB are answered, which is also the default" },
	{ .name = "fd",
	  .type = IPC_BOOL,
	  .dflt = "false",
	  .doc = "answer a read-only fd of the whole instead" },
	{ 0 },
};
static const struct ipc_param write_params[] = {
	REF,
	{ .name = "action",
	  .type = IPC_STR,
	  .flags = IPC_REQUIRED,
	  .doc = "\"stat\", \"write\" or \"commit\"; a commit may bring the last data along" },
	{ .name = "offset",
	  .type = IPC_INT,
	  .max = INT64_MAX,
	  .doc = "where the data begins: where the last has ended (also when it is not given), or 0 "
		 "to begin anew" },
	{ .name = "data", .type = IPC_BIN, .doc = "bytes" },
	{ .name = "total",
	  .type = IPC_INT,
	  .max = INT64_MAX,
	  .doc = "size of the whole, 0 for not known; a write with another total than before begins "
		 "anew, a commit is checked by it" },
	{ .name = "expected",
	  .type = IPC_STR,
	  .doc = "digest of the whole: when it is there already that is said at once; a commit is "
		 "checked by it" },
	{ .name = "labels", .type = IPC_LABELS, .doc = "of the content, for a commit" },
	{ 0 },
};

static const struct ipc_field info_result[] = {
	{ "info", "map", "digest, size, labels, created_at, updated_at" },
	{ 0 },
};
static const struct ipc_field list_result[] = {
	{ "contents", "list", "of maps: digest, size, labels, created_at, updated_at" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};
static const struct ipc_field read_result[] = {
	{ "data", "bin", "bytes, unless fd was asked for" },
	{ "eof", "bool", "these were the last" },
	{ "fd", "fd", "of the whole, read-only" },
	{ "size", "int", "of the whole, with fd" },
	{ 0 },
};
static const struct ipc_field write_result[] = {
	{ "offset", "int", "bytes so far" },
	{ "total", "int", "size of the whole, 0 for not known" },
	{ "started_at", "int", "ns since the epoch; 0 for a ref without an ingest" },
	{ "updated_at", "int", "of the last write" },
	{ "digest", "str", "of the bytes so far; \"\" from stat of a ref without an ingest" },
	{ 0 },
};
static const struct ipc_field status_result[] = {
	{ "status", "map", "ref, offset, total, expected, started_at, updated_at" },
	{ 0 },
};
static const struct ipc_field statuses_result[] = {
	{ "statuses", "list", "of maps: ref, offset, total, expected, started_at, updated_at" },
	{ "next", "str", "what to give as `after` for those that follow, when there are more" },
	{ 0 },
};

const struct ipc_method content_methods[] = {
	{ "content.info", "What is known of a content", 0, digest_params, info_result, "not_found",
	  info },
	{ "content.update", "Changes labels", IPC_UPDATES, update_params, info_result, "not_found",
	  update },
	{ "content.delete", "Takes a content out of the namespace", 0, digest_params, NULL,
	  "not_found", delete },
	{ "content.list", "All content of the namespace in the order of digests", IPC_LISTS, NULL,
	  list_result, NULL, list },
	{ "content.verify", "Hashes a content again", 0, verify_params, NULL,
	  "not_found failed_precondition", verify },
	{ "content.read", "Bytes of a content, or an fd", 0, read_params, read_result,
	  "not_found out_of_range failed_precondition", read_content },
	{ "content.write",
	  "Writes content in pieces; the ref belongs to the connection until commit, abort or its end",
	  0, write_params, write_result,
	  "unavailable already_exists out_of_range failed_precondition aborted", write_content },
	{ "content.status", "How far an ingest is", 0, ref_params, status_result, "not_found",
	  status },
	{ "content.list_statuses", "All ingests of the namespace in the order of refs", IPC_LISTS,
	  NULL, statuses_result, NULL, list_statuses },
	{ "content.abort", "Removes an ingest", 0, ref_params, NULL, "not_found unavailable",
	  abort_ingest },
	{ 0 },
};
