// SPDX-License-Identifier: Apache-2.0
/*
 * Creating, updating and deleting a container
 *
 * A change goes through steps; between them the reactor does other things:
 *   turn      its predecessors on the same container are done (change.h): the request is checked
 *             against the record of now
 *   prepare   on a worker, when there is a spec to read: JSON, checks, compression, and the form in
 *             which the answer has it
 *   store     on the store thread: the row is committed
 *   event     back on the reactor: the event is written to the journal, the new record is put in
 *             place, the answer goes out
 *   undo      on the store thread, only when the event could not be written: the row is as it was
 *             before
 * A failure at any step leaves the record, in memory and in the database, as it was.
 *
 * What workers read of the request (the spec as it was decoded, strings) lies in the request's
 * zone, which lives until the answer; no cancellation is registered, so the answer is always this
 * file's.
 */
#include "core/container_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/events.h"
#include "core/reactor.h"
#include "core/task_logs.h"
#include "runtime/spec.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/container_of.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/log.h"
#include "util/mp.h"
#include "util/worker.h"

enum change_kind { CHANGE_CREATE, CHANGE_UPDATE, CHANGE_DELETE };
enum change_step { STEP_PREPARE, STEP_STORE, STEP_UNDO };

struct container_change {
	struct change change;
	struct worker_job job;
	struct davit *d;
	struct container *c;
	struct ipc_request *req; /* NULL: the daemon's own wish (container_discard) */
	enum change_kind kind;
	enum change_step step;
	const msgpack_object *spec; /* as given, or NULL */
	const char *bundle; /* as given, or NULL */
	struct spec_blob *blob; /* what prepare made of spec */
	struct record *record; /* the new one */
	msgpack_sbuffer rendered; /* the new one's spec; size 0 until it was rendered */
	int result;
	struct fault fault;
};

DEFINE_CLEANUP(json_object *, json_object_put)

/* ---- prepare, on a worker */

/* The bundle must be there whether or not its config.json is read. */
static int bundle_open(struct container_change *ch, int *fd)
{
	*fd = open(ch->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	fault_sys(&ch->fault, errno, "open bundle", ch->bundle);
	fault_arg(&ch->fault, "bundle");
	return -1;
}

static int spec_read(struct container_change *ch, json_object **json)
{
	CLEANUP_CLOSE int dir = -1;
	const char *text;
	size_t size;
	int r;

	if (ch->bundle && bundle_open(ch, &dir) < 0)
		return -1;
	if (!ch->spec) {
		r = json_parse_file(dir, "config.json", LIMIT_SPEC_BYTES, json, &ch->fault);
		if (r < 0) {
			fault_prefix(&ch->fault, "config.json of the bundle %s", ch->bundle);
			fault_arg(&ch->fault, "bundle");
		}
		return r;
	}
	if (mp_str(ch->spec, &text, &size)) {
		if (size > LIMIT_SPEC_BYTES) {
			fault_set(&ch->fault, FAULT_RESOURCE_EXHAUSTED, EFBIG,
				  "the text is larger than %u bytes", LIMIT_SPEC_BYTES);
			r = -EFBIG;
		} else {
			r = json_parse(text, size, json, &ch->fault);
		}
	} else {
		r = json_from_mp(ch->spec, json, &ch->fault);
	}
	if (r < 0) {
		fault_prefix(&ch->fault, "spec");
		fault_arg(&ch->fault, "spec");
	}
	return r;
}

static int prepare(struct container_change *ch)
{
	CLEANUP(json_object_putp) json_object *json = NULL;
	struct spec *spec = NULL;
	msgpack_packer pk;
	const char *text;
	size_t size;

	if (!ch->spec && !ch->bundle)
		return 0;
	if (!ch->spec && ch->kind == CHANGE_UPDATE) {
		CLEANUP_CLOSE int dir = -1;

		return bundle_open(ch, &dir);
	}
	if (spec_read(ch, &json) < 0)
		return -1;
	if (spec_parse(json, &spec, &ch->fault) < 0) {
		if (!ch->fault.argument[0])
			fault_arg(&ch->fault, "spec");
		fault_prefix(&ch->fault, "spec");
		return -1;
	}
	spec_free(spec);
	text = json_object_to_json_string_length(
		json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
	if (!text)
		return fault_sys(&ch->fault, ENOMEM, "write the spec", NULL);
	if (spec_blob_new(ch->d->containers->specs, text, size, &ch->blob, &ch->fault) < 0)
		return -1;
	mp_packer_init(&pk, &ch->rendered);
	json_to_mp(json, &pk);
	return mp_failed(&ch->rendered) ? fault_sys(&ch->fault, ENOMEM, "pack the spec", NULL) : 0;
}

/* ---- store and undo, on the store thread */

static int store_put(struct container_change *ch, const struct record *r)
{
	struct db_container row = r->row;

	row.ns = namespace_name(ch->c->ns);
	row.id = ch->c->id;
	return db_container_put(ch->d->db, &row, &ch->fault);
}

static int store(struct container_change *ch)
{
	if (ch->kind == CHANGE_DELETE)
		return db_container_delete(ch->d->db, namespace_name(ch->c->ns), ch->c->id,
					   &ch->fault);
	if (!ch->rendered.size) {
		int r = spec_blob_render(ch->record->spec, &ch->rendered);

		if (r < 0)
			return fault_sys(&ch->fault, -r, "read the spec", NULL);
	}
	return store_put(ch, ch->record);
}

static int undo(struct container_change *ch)
{
	struct fault f = ch->fault; /* what is answered is why it came to this */
	int r;

	if (ch->kind == CHANGE_CREATE)
		r = db_container_delete(ch->d->db, namespace_name(ch->c->ns), ch->c->id,
					&ch->fault);
	else
		r = store_put(ch, ch->c->record);
	if (r < 0)
		log_error("the container %s/%s: a change could not be undone in the database: %s",
			  namespace_name(ch->c->ns), ch->c->id, ch->fault.message);
	ch->fault = f;
	return r;
}

static void change_run(struct worker_job *job)
{
	struct container_change *ch = container_of(job, struct container_change, job);

	switch (ch->step) {
	case STEP_PREPARE:
		ch->result = prepare(ch);
		break;
	case STEP_STORE:
		ch->result = store(ch);
		break;
	case STEP_UNDO:
		undo(ch);
		ch->result = -EIO;
		break;
	}
}

/* ---- on the reactor */

static int change_emit(struct container_change *ch)
{
	static const char *const topics[] = {
		[CHANGE_CREATE] = "/containers/create",
		[CHANGE_UPDATE] = "/containers/update",
		[CHANGE_DELETE] = "/containers/delete",
	};
	const struct db_container *row = ch->record ? &ch->record->row : NULL;
	msgpack_sbuffer sb;
	msgpack_packer pk;
	int r;

	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_map(&pk, ch->kind == CHANGE_CREATE ? 3 : ch->kind == CHANGE_UPDATE ? 4 : 1);
	mp_pack_key_str(&pk, "id", ch->c->id);
	if (row)
		mp_pack_key_str(&pk, "image", row->image);
	if (ch->kind == CHANGE_CREATE) {
		mp_pack_key_str(&pk, "runtime", row->runtime);
	} else if (ch->kind == CHANGE_UPDATE) {
		mp_pack_key(&pk, "labels");
		labels_pack(&pk, row->labels, row->n_labels);
		mp_pack_key_str(&pk, "snapshot_key", row->snapshot_key);
	}
	r = mp_failed(&sb) ? -ENOMEM
			   : event_emit(ch->d, namespace_name(ch->c->ns), topics[ch->kind], &sb);
	msgpack_sbuffer_destroy(&sb);
	return r;
}

static void change_finish(struct container_change *ch)
{
	struct container *c = ch->c;

	change_remove(&c->changes);
	spec_blob_put(ch->blob);
	record_free(ch->record);
	msgpack_sbuffer_destroy(&ch->rendered);
	free(ch);
	if (!STAILQ_EMPTY(&c->changes))
		change_next(&c->changes);
	else if (c->gone)
		container_free(c);
}

static void change_fail(struct container_change *ch)
{
	const char *method = ch->req ? ipc_request_method(ch->req)->name : "discard";

	if (ch->kind == CHANGE_CREATE)
		container_remove(ch->d, ch->c);
	else if (ch->kind == CHANGE_DELETE)
		ch->c->live = true;
	if (strncmp(ch->fault.message, method, strlen(method)))
		fault_prefix(&ch->fault, "%s", method);
	if (ch->req)
		ipc_reply_fault(ch->req, &ch->fault);
	else
		log_error("the container %s/%s: %s", namespace_name(ch->c->ns), ch->c->id,
			  ch->fault.message);
	change_finish(ch);
}

static void change_succeed(struct container_change *ch)
{
	struct container *c = ch->c;
	struct record *old = c->record;
	msgpack_packer *pk;

	if (ch->kind == CHANGE_DELETE) {
		container_remove(ch->d, c);
		task_logs_remove(ch->d, namespace_name(c->ns), c->id);
		if (ch->req)
			ipc_reply_empty(ch->req);
		change_finish(ch);
		return;
	}
	c->record = TAKE_PTR(ch->record);
	c->live = true;
	record_free(old);
	pk = ipc_reply_begin(ch->req);
	msgpack_pack_map(pk, 1);
	mp_pack_key(pk, "container");
	container_pack(pk, c, &ch->rendered);
	ipc_reply_end(ch->req);
	change_finish(ch);
}

/* Text of an argument, or what stands there now when the mask does not name it. */
static const char *updated(struct ipc_request *req, const char *name, const char *now)
{
	const char *given = ipc_arg_str(req, name);
	size_t n;

	ipc_arg_strs(req, "mask", &n);
	if (!n)
		return given ? given : now;
	if (!ipc_mask_has(req, name))
		return now;
	return given ? given : "";
}

/* Extensions as a packed map: those of the record with what the request says about them. */
static int extensions_build(struct container_change *ch, const struct record *old,
			    msgpack_sbuffer *out)
{
	const msgpack_object *given = ipc_arg(ch->req, "extensions");
	size_t n_mask, mark;
	const char *const *mask = ipc_arg_strs(ch->req, "mask", &n_mask);
	msgpack_unpacked unpacked;
	const msgpack_object *now = NULL;
	msgpack_packer pk;
	uint32_t count = 0;
	bool all = !n_mask ? given != NULL : ipc_mask_has(ch->req, "extensions");

	msgpack_unpacked_init(&unpacked);
	if (!all && old && old->row.extensions_size &&
	    msgpack_unpack_next(&unpacked, old->row.extensions, old->row.extensions_size, NULL) ==
		    MSGPACK_UNPACK_SUCCESS)
		now = &unpacked.data;
	mp_packer_init(&pk, out);
	mark = mp_map_begin(out);
	for (uint32_t i = 0; now && now->type == MSGPACK_OBJECT_MAP && i < now->via.map.size; i++) {
		const msgpack_object_kv *kv = &now->via.map.ptr[i];
		bool masked = false;

		for (size_t m = 0; m < n_mask; m++)
			if (!strncmp(mask[m], "extensions.", 11) && mp_eq(&kv->key, mask[m] + 11))
				masked = true;
		if (masked)
			continue;
		msgpack_pack_object(&pk, kv->key);
		msgpack_pack_object(&pk, kv->val);
		count++;
	}
	for (uint32_t i = 0; given && given->type == MSGPACK_OBJECT_MAP && i < given->via.map.size;
	     i++) {
		const msgpack_object_kv *kv = &given->via.map.ptr[i];
		bool masked = all;

		for (size_t m = 0; m < n_mask; m++)
			if (!strncmp(mask[m], "extensions.", 11) && mp_eq(&kv->key, mask[m] + 11))
				masked = true;
		if (!masked)
			continue;
		msgpack_pack_object(&pk, kv->key);
		msgpack_pack_object(&pk, kv->val);
		count++;
	}
	msgpack_unpacked_destroy(&unpacked);
	if (mp_failed(out))
		return -ENOMEM;
	mp_map_end(out, mark, count);
	if (!count)
		msgpack_sbuffer_clear(out);
	return out->size > LIMIT_EXTENSIONS_BYTES ? -EFBIG : 0;
}

/* The new record, from the old one (NULL: from nothing) and the request. */
static int record_build(struct container_change *ch, struct labels *labels,
			msgpack_sbuffer *extensions)
{
	const struct record *old = ch->c->record;
	struct db_container row = old ? old->row : (struct db_container){ 0 };
	struct ipc_request *req = ch->req;
	struct spec_blob *spec;
	size_t n_mask;
	const char *const *mask = ipc_arg_strs(req, "mask", &n_mask);
	int r = labels_copy(labels, row.labels, row.n_labels);

	if (r >= 0)
		r = labels_update(labels, ipc_arg(req, "labels"), mask, n_mask);
	if (r < 0)
		return fault_set(&ch->fault,
				 r == -EINVAL ? FAULT_INVALID_ARGUMENT : FAULT_RESOURCE_EXHAUSTED,
				 -r, "labels (at most %u)", LIMIT_LABELS);
	r = extensions_build(ch, old, extensions);
	if (r < 0)
		return fault_set(&ch->fault, FAULT_RESOURCE_EXHAUSTED, -r,
				 "extensions (at most %u bytes)", LIMIT_EXTENSIONS_BYTES);
	row.labels = labels->v;
	row.n_labels = labels->n;
	row.extensions = extensions->data;
	row.extensions_size = extensions->size;
	row.image = updated(req, "image", row.image);
	row.snapshot_key = updated(req, "snapshot_key", row.snapshot_key);
	row.bundle = updated(req, "bundle", row.bundle);
	row.updated_at = clock_now();
	if (!old) {
		row.runtime = ipc_arg_str(req, "runtime");
		row.snapshotter = ipc_arg_str(req, "snapshotter");
		row.created_at = row.updated_at;
	}
	spec = TAKE_PTR(ch->blob);
	if (!spec && old)
		spec = spec_blob_ref(old->spec);
	if (!spec)
		return fault_set(&ch->fault, FAULT_INTERNAL, 0, "there is no spec");
	ch->record = record_new(&row, spec);
	if (ch->record)
		return 0;
	spec_blob_put(spec);
	return fault_sys(&ch->fault, ENOMEM, "make the record", NULL);
}

static void change_store(struct container_change *ch)
{
	int r = 0;

	if (ch->kind != CHANGE_DELETE) {
		struct labels labels = { 0 };
		msgpack_sbuffer extensions;

		msgpack_sbuffer_init(&extensions);
		r = record_build(ch, &labels, &extensions);
		msgpack_sbuffer_destroy(&extensions);
		labels_clear(&labels);
	}
	if (r < 0) {
		change_fail(ch);
		return;
	}
	ch->step = STEP_STORE;
	worker_submit(ch->d->store_pool, &ch->job);
}

static void change_done(struct worker_job *job)
{
	struct container_change *ch = container_of(job, struct container_change, job);
	int r;

	if (ch->result < 0) {
		change_fail(ch);
		return;
	}
	if (ch->step == STEP_PREPARE) {
		change_store(ch);
		return;
	}
	reactor_stored(ch->d);
	r = change_emit(ch);
	if (r < 0) {
		fault_sys(&ch->fault, -r, "write the event", "journal");
		ch->step = STEP_UNDO;
		worker_submit(ch->d->store_pool, &ch->job);
		return;
	}
	change_succeed(ch);
}

static void change_start(struct change *change)
{
	struct container_change *ch = container_of(change, struct container_change, change);
	struct container *c = ch->c;

	if (!ch->req && (c->gone || c->task)) { /* somebody was faster, or has use for it again */
		change_finish(ch);
		return;
	}
	if (c->gone) {
		ipc_reply_error(ch->req, FAULT_NOT_FOUND, "id",
				"there is no container '%s' in the namespace '%s'", c->id,
				namespace_name(c->ns));
		change_finish(ch);
		return;
	}
	if (ch->kind == CHANGE_DELETE) {
		if (c->task) {
			ipc_reply_error(
				ch->req, FAULT_FAILED_PRECONDITION, "id",
				"the container '%s' has a task; delete that first (tasks.delete)",
				c->id);
			change_finish(ch);
			return;
		}
		c->live = false;
		change_store(ch);
		return;
	}
	if (!ch->spec && !ch->bundle) {
		change_store(ch);
		return;
	}
	ch->step = STEP_PREPARE;
	worker_submit(ch->d->workers, &ch->job);
}

static struct container_change *change_new(struct davit *d, struct ipc_request *req,
					   enum change_kind kind)
{
	struct container_change *ch = calloc(1, sizeof(*ch));

	if (!ch) {
		if (req)
			ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return NULL;
	}
	ch->change.start = change_start;
	ch->job = (struct worker_job){ .run = change_run, .done = change_done };
	ch->d = d;
	ch->req = req;
	ch->kind = kind;
	msgpack_sbuffer_init(&ch->rendered);
	return ch;
}

void container_request_create(struct davit *d, struct ipc_request *req)
{
	const char *id = ipc_arg_str(req, "id"), *name = ipc_namespace(req);
	struct namespace *ns = namespace_find(d, name);
	struct container_change *ch;

	if (container_lookup(d, name, id)) {
		ipc_reply_error(req, FAULT_ALREADY_EXISTS, "id",
				"the container '%s' exists in the namespace '%s'", id, name);
		return;
	}
	if (!ns) {
		ipc_reply_error(req, FAULT_NOT_FOUND, "namespace", "there is no namespace '%s'",
				name);
		return;
	}
	ch = change_new(d, req, CHANGE_CREATE);
	if (!ch)
		return;
	ch->c = container_add(d, ns, id);
	if (!ch->c) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		free(ch);
		return;
	}
	ch->spec = ipc_arg(req, "spec");
	ch->bundle = ipc_arg_str(req, "bundle");
	change_add(&ch->c->changes, &ch->change);
}

static void request_change(struct davit *d, struct ipc_request *req, enum change_kind kind)
{
	const char *id = ipc_arg_str(req, "id"), *ns = ipc_namespace(req);
	struct container *c = container_find(d, ns, id);
	struct container_change *ch;

	if (!c) {
		ipc_reply_error(req, FAULT_NOT_FOUND, "id",
				"there is no container '%s' in the namespace '%s'", id, ns);
		return;
	}
	ch = change_new(d, req, kind);
	if (!ch)
		return;
	ch->c = c;
	if (kind == CHANGE_UPDATE) {
		ch->spec = ipc_mask_has(req, "spec") ? ipc_arg(req, "spec") : NULL;
		ch->bundle = ipc_mask_has(req, "bundle") ? ipc_arg_str(req, "bundle") : NULL;
	}
	change_add(&c->changes, &ch->change);
}

void container_request_update(struct davit *d, struct ipc_request *req)
{
	request_change(d, req, CHANGE_UPDATE);
}

void container_request_delete(struct davit *d, struct ipc_request *req)
{
	request_change(d, req, CHANGE_DELETE);
}

void container_discard(struct davit *d, struct container *c)
{
	struct container_change *ch = change_new(d, NULL, CHANGE_DELETE);

	if (!ch) {
		log_error("the container %s/%s: no memory to remove it", namespace_name(c->ns),
			  c->id);
		return;
	}
	ch->c = c;
	change_add(&c->changes, &ch->change);
}
