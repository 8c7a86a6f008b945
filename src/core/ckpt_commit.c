// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint, the end: statistics, the image, the answer
 *
 * The image is written on a worker, when all blobs are durable; its record is the last thing that is
 * committed, so a checkpoint is there as a whole or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ckpt_internal.h"
#include "core/container.h"
#include "core/events.h"
#include "store/content.h"
#include "store/image.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/mp.h"

static const char *const phase_names[CKPT_PHASES] = {
	[CKPT_PREPARE] = "prepare", [CKPT_DUMP] = "dump",     [CKPT_DIFF] = "diff",
	[CKPT_SEAL] = "seal",	    [CKPT_COMMIT] = "commit",
};

/* ---- statistics */

struct stats {
	uint64_t frozen_us, diff_us, total_us, pages, bytes_in, bytes_out, buffer_peak;
	uint64_t phases_us[CKPT_PHASES];
};

static uint64_t us(int64_t ns)
{
	return ns > 0 ? (uint64_t)ns / 1000 : 0;
}

/* What criu itself has measured, from its stats-dump file. */
static void read_stats_dump(struct ckpt *ck)
{
	CLEANUP_FREE char *path = NULL, *data = NULL;
	size_t size;

	if (asprintf(&path, "%s/" STATS_DUMP_FILE,
		     ck->o.work_path ? ck->o.work_path : ck->run->dir) < 0) {
		path = NULL;
		return;
	}
	if (fd_read_file(AT_FDCWD, path, 1 << 20, &data, &size) < 0)
		return;
	ck->has_stats_dump = stats_dump_read(&ck->stats_dump, data, size, NULL) == 0;
}

static void gather(struct ckpt *ck, struct stats *s)
{
	struct capture_stats c = ck->capture_stats;
	int64_t end = ck->ended_at ? ck->ended_at : clock_mono();
	int64_t release = ck->released_at ? ck->released_at : end;

	memset(s, 0, sizeof(*s));
	for (int i = 0; i < CKPT_PHASES; i++) {
		int64_t next = end;

		if (!ck->phase_at[i])
			continue;
		for (int k = i + 1; k < CKPT_PHASES; k++) {
			if (ck->phase_at[k]) {
				next = ck->phase_at[k];
				break;
			}
		}
		s->phases_us[i] = us(next - ck->phase_at[i]);
	}
	s->diff_us = us(ck->diff_ns);
	s->total_us = us(end - ck->began);
	s->bytes_in = c.bytes_in;
	s->bytes_out = c.bytes_out;
	s->buffer_peak = c.buffer_peak;
	s->pages = ck->has_stats_dump ? ck->stats_dump.pages_written : c.pages_bytes / 4096;
	/* criu's own clock begins where it freezes; without it, the time that it was at work */
	s->frozen_us = ck->has_stats_dump
			       ? ck->stats_dump.freezing_time + ck->stats_dump.frozen_time
			       : us(release - ck->phase_at[CKPT_DUMP]);
}

/* criu_says: its own numbers, for the formats of others; NULL when it has none yet */
static json_object *stats_json(const struct stats *s, const struct stats_dump *criu_says)
{
	json_object *o = json_object_new_object();

	if (!o)
		return NULL;
	json_object_object_add(o, "frozen_us", json_object_new_uint64(s->frozen_us));
	json_object_object_add(o, "diff_us", json_object_new_uint64(s->diff_us));
	json_object_object_add(o, "pages", json_object_new_uint64(s->pages));
	json_object_object_add(o, "bytes_in", json_object_new_uint64(s->bytes_in));
	json_object_object_add(o, "bytes_out", json_object_new_uint64(s->bytes_out));
	if (!criu_says)
		return o;
	json_object_object_add(o, "freezing_us", json_object_new_uint64(criu_says->freezing_time));
	json_object_object_add(o, "memdump_us", json_object_new_uint64(criu_says->memdump_time));
	json_object_object_add(o, "memwrite_us", json_object_new_uint64(criu_says->memwrite_time));
	json_object_object_add(o, "pages_scanned",
			       json_object_new_uint64(criu_says->pages_scanned));
	return o;
}

static void stats_pack(msgpack_packer *pk, const struct stats *s)
{
	msgpack_pack_map(pk, 8);
	mp_pack_key_uint(pk, "frozen_us", s->frozen_us);
	mp_pack_key_uint(pk, "diff_us", s->diff_us);
	mp_pack_key_uint(pk, "total_us", s->total_us);
	mp_pack_key_uint(pk, "pages", s->pages);
	mp_pack_key_uint(pk, "bytes_in", s->bytes_in);
	mp_pack_key_uint(pk, "bytes_out", s->bytes_out);
	mp_pack_key_uint(pk, "buffer_peak", s->buffer_peak);
	mp_pack_key(pk, "phases");
	msgpack_pack_map(pk, CKPT_PHASES);
	for (int i = 0; i < CKPT_PHASES; i++)
		mp_pack_key_uint(pk, phase_names[i], s->phases_us[i]);
}

/* ---- the image */

static int blob_order(const void *a, const void *b)
{
	const struct checkpoint_blob *x = a, *y = b;

	if (!x->file || !y->file)
		return x->file ? 1 : y->file ? -1 : 0;
	return strcmp(x->file, y->file);
}

static const char *media_type(const struct ckpt *ck, const struct ckpt_blob *b)
{
	if (b->diff)
		return OCI_LAYER_ZSTD;
	if (b->kind == CAPTURE_FILES)
		return ck->o.compress ? CHECKPOINT_FILES : CHECKPOINT_FILES_PLAIN;
	return ck->o.compress ? CHECKPOINT_PAGES : CHECKPOINT_PAGES_PLAIN;
}

/* Files first, then pages by name, then the writable layer. */
static struct checkpoint_blob *sorted_blobs(struct ckpt *ck)
{
	struct checkpoint_blob *v = calloc(ck->n_blobs + 1, sizeof(*v)), diff;
	bool has_diff = false;
	size_t n = 0;

	if (!v)
		return NULL;
	for (size_t i = 0; i < ck->n_blobs; i++) {
		const struct ckpt_blob *b = &ck->blobs[i];
		struct checkpoint_blob one = {
			.media_type = media_type(ck, b),
			.digest = b->digest,
			.size = b->size,
			.file = !b->diff && b->kind == CAPTURE_PAGES ? b->file : NULL,
			.file_size = b->file_size,
		};

		if (b->diff) {
			diff = one;
			has_diff = true;
		} else {
			v[n++] = one;
		}
	}
	qsort(v, n, sizeof(*v), blob_order);
	if (has_diff)
		v[n] = diff;
	return v;
}

int ckpt_commit(struct ckpt *ck)
{
	CLEANUP_FREE struct checkpoint_blob *blobs = NULL;
	struct checkpoint_write w = {
		.name = ck->name,
		.record = &ck->record,
		.n_blobs = ck->n_blobs,
		.base_image = ck->image,
	};
	struct stats s;

	read_stats_dump(ck);
	gather(ck, &s);
	ck->record.stats = stats_json(&s, ck->has_stats_dump ? &ck->stats_dump : NULL);
	blobs = sorted_blobs(ck);
	if (!ck->record.stats || !blobs)
		return fault_sys(&ck->job_fault, ENOMEM, "write the checkpoint of", ck->id);
	if (ck->o.image_path)
		return ckpt_folder_commit(ck, &ck->job_fault);
	w.blobs = blobs;
	return checkpoint_image_write(&ck->call, &w, &ck->index, &ck->image_name, &ck->descriptors,
				      &ck->n_descriptors);
}

void ckpt_undo_commit(struct ckpt *ck)
{
	struct store_call c = ck->call;
	struct fault f = { 0 };

	c.f = &f;
	c.cancel = NULL;
	if (ck->o.image_path)
		ckpt_folder_drop(ck);
	if (ck->image_name && image_delete(&c, ck->image_name) < 0)
		log_error("the image %s of a failed checkpoint cannot be removed: %s",
			  ck->image_name, f.message);
}

/* ---- the answer */

static void emit(struct ckpt *ck)
{
	msgpack_sbuffer sb;
	msgpack_packer pk;
	int r = 0;

	for (struct store_event *e = ck->events.first; e && !r; e = e->next)
		r = event_emit(ck->d, e->ns, e->topic, &e->payload);
	if (ck->result < 0)
		return;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	msgpack_pack_map(&pk, 2);
	mp_pack_key_str(&pk, "container_id", ck->id);
	mp_pack_key_str(&pk, "checkpoint", ck->image_name ? ck->image_name : ck->o.image_path);
	if (!r)
		r = mp_failed(&sb) ? -ENOMEM
				   : event_emit(ck->d, ck->ns, "/tasks/checkpointed", &sb);
	msgpack_sbuffer_destroy(&sb);
	if (r < 0)
		log_error("the events of a checkpoint of %s/%s: %s", ck->ns, ck->id, strerror(-r));
}

void ckpt_answer(struct ckpt *ck)
{
	struct ipc_request *req = ck->req;
	struct stats s;
	msgpack_packer *pk;

	emit(ck);
	if (!req)
		return;
	ipc_request_on_cancel(req, NULL, NULL);
	if (ck->result < 0) {
		ipc_reply_fault(req, &ck->fault);
		return;
	}
	gather(ck, &s);
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 4);
	mp_pack_key(pk, "index");
	if (ck->image_name)
		oci_descriptor_pack(pk, &ck->index);
	else
		msgpack_pack_map(pk, 0);
	mp_pack_key(pk, "descriptors");
	msgpack_pack_array(pk, ck->n_descriptors);
	for (size_t i = 0; i < ck->n_descriptors; i++)
		oci_descriptor_pack(pk, &ck->descriptors[i]);
	mp_pack_key_str(pk, "image", ck->image_name ? ck->image_name : "");
	mp_pack_key(pk, "stats");
	stats_pack(pk, &s);
	ipc_reply_end(req);
}
