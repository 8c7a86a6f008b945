// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: what is read out of the store
 *
 * Image files are unpacked one frame at a time, layers piece by piece: however large a checkpoint is,
 * a few megabytes of it are in memory. The blobs of pages are hashed as a whole beforehand, so that
 * a damaged one is an error here and not a surprise elsewhere; the layer while it is read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "checkpoint/frames.h"
#include "checkpoint/image_file.h"
#include "core/ckpt_formats.h"
#include "store/content.h"
#include "util/cleanup.h"

#define PIECE (1u << 20)

uint64_t ckpt_file_size(const struct serve_file *file)
{
	uint64_t size = 0;

	for (size_t i = 0; i < file->n_parts; i++)
		size += file->parts[i].size;
	return size;
}

static int read_at(struct store_call *c, const struct serve_file *file, int fd, void *data,
		   size_t size, uint64_t at)
{
	unsigned char *p = data;

	while (size) {
		ssize_t n = pread(fd, p, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_sys(c->f, errno, "read", file->name);
		if (!n)
			return fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
					 "the checkpoint's %s is shorter than it was", file->name);
		p += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int copy_plain(struct store_call *c, const struct serve_file *file,
		      const struct serve_part *part, layer_write_fn put, void *user)
{
	CLEANUP_FREE void *buf = malloc(PIECE);
	int r = 0;

	if (!buf)
		return checkpoint_no_memory(c->f);
	for (uint64_t at = 0; !r && at < part->size;) {
		size_t n = part->size - at < PIECE ? (size_t)(part->size - at) : PIECE;

		r = store_cancelled(c);
		if (!r)
			r = read_at(c, file, part->fd, buf, n, at);
		if (!r)
			r = put(user, buf, n, c->f);
		store_progress_add(c->progress, n);
		at += n;
	}
	return r;
}

static int copy_frames(struct store_call *c, const struct serve_file *file,
		       const struct serve_part *part, struct frame_codec *codec, void *packed,
		       void *data, layer_write_fn put, void *user)
{
	int r = 0;

	for (size_t i = 0; !r && i < part->table.n; i++) {
		const struct frame_place *p = &part->table.v[i];

		r = store_cancelled(c);
		if (!r)
			r = read_at(c, file, part->fd, packed, p->packed, p->at);
		if (r < 0)
			return r;
		r = frame_unpack(codec, packed, p->packed, data, p->size);
		if (r == -ENOMEM)
			return checkpoint_no_memory(c->f);
		if (r < 0)
			return fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
					 "the checkpoint's %s is damaged (%s)", file->name,
					 part->digest);
		r = put(user, data, p->size, c->f);
		store_progress_add(c->progress, p->size);
	}
	return r;
}

static int copy_packed(struct store_call *c, const struct serve_file *file,
		       const struct serve_part *part, layer_write_fn put, void *user)
{
	CLEANUP_FREE void *packed = malloc(FRAME_PACKED_MOST);
	CLEANUP_FREE void *data = malloc(FRAME_BYTES);
	struct frame_codec *codec = NULL;
	int r;

	if (!packed || !data || frame_codec_new(&codec, 1) < 0)
		return checkpoint_no_memory(c->f);
	r = copy_frames(c, file, part, codec, packed, data, put, user);
	frame_codec_free(codec);
	return r;
}

int ckpt_file_copy(struct store_call *c, const struct serve_file *file, layer_write_fn put,
		   void *user)
{
	int r = 0;

	for (size_t i = 0; !r && i < file->n_parts; i++) {
		const struct serve_part *part = &file->parts[i];

		if (part->fd < 0) {
			r = part->size ? put(user, part->data, part->size, c->f) : 0;
			store_progress_add(c->progress, part->size);
		} else if (part->packed) {
			r = copy_packed(c, file, part, put, user);
		} else {
			r = copy_plain(c, file, part, put, user);
		}
	}
	return r;
}

int ckpt_verify_pages(struct store_call *c, const struct checkpoint_read *read)
{
	int r = 0;

	for (size_t i = 0; !r && i < read->n_pages; i++) {
		r = store_cancelled(c);
		if (!r)
			r = content_verify(c, read->pages[i].digest.text);
	}
	return r;
}

int ckpt_layer_copy(struct store_call *c, const struct oci_descriptor *layer, layer_write_fn put,
		    void *user, uint64_t *size)
{
	CLEANUP_FREE void *buf = malloc(PIECE);
	CLEANUP_CLOSE int fd = -1;
	struct layer_stream *stream = NULL;
	ssize_t n = 0;
	int r;

	*size = 0;
	if (!buf)
		return checkpoint_no_memory(c->f);
	r = content_open(c, layer->digest.text, &fd, NULL);
	if (!r)
		r = layer_stream_open(&stream, fd, c->f);
	while (!r && (n = layer_stream_read(stream, buf, PIECE, c->f)) > 0) {
		*size += (uint64_t)n;
		r = put ? put(user, buf, (size_t)n, c->f) : 0;
		if (!r)
			r = store_cancelled(c);
	}
	layer_stream_free(stream);
	return r < 0 ? r : n < 0 ? (int)n : 0;
}

int ckpt_ref_new(char *out, size_t size, struct fault *f)
{
	unsigned long long random[2];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fault_sys(f, errno, "getrandom", NULL);
	snprintf(out, size, "checkpoint-%016llx%016llx", random[0], random[1]);
	return 0;
}

/* A stream that criu restores by itself is what runc opens then. */
json_object *ckpt_descriptors_new(const struct ckpt_record *r)
{
	bool failed = false;
	json_object *list = ckpt_json_made(json_object_new_array(), &failed);

	for (int i = 0; i < 3; i++)
		ckpt_json_append(list,
				 json_object_new_string(*r->stdio[i] ? r->stdio[i] : "/dev/null"),
				 &failed);
	if (!failed)
		return list;
	json_object_put(list);
	return NULL;
}

/* ---- stats-dump (images/stats.proto) */

static size_t put_varint(uint8_t *to, uint64_t v)
{
	size_t n = 0;

	do {
		to[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return n;
}

static uint64_t number(json_object *stats, const char *key)
{
	json_object *j = stats ? json_object_object_get(stats, key) : NULL;
	int64_t v = json_object_is_type(j, json_type_int) ? json_object_get_int64(j) : 0;

	return v > 0 ? (uint64_t)v : 0;
}

/* The times of criu's are 32 bits of microseconds. */
static uint64_t time_of(uint64_t us)
{
	return us > UINT32_MAX ? UINT32_MAX : us;
}

/*
 * What the record has of criu's own: all of it when the tasks ran on without a hook. criu that was held
 * until the checkpoint was durable had not written it yet: then it is the time that the tasks stood
 * still, and the pages; the format wants the others too, as 0.
 */
size_t ckpt_stats_image(const struct ckpt_record *r, uint8_t out[CKPT_STATS_ROOM])
{
	uint64_t frozen = number(r->stats, "frozen_us"), pages = number(r->stats, "pages");
	uint64_t freezing = number(r->stats, "freezing_us");
	uint64_t scanned = number(r->stats, "pages_scanned");
	const struct {
		uint8_t number;
		uint64_t value;
	} fields[] = {
		{ 1, time_of(freezing) },
		{ 2, time_of(frozen > freezing ? frozen - freezing : 0) },
		{ 3, time_of(number(r->stats, "memdump_us")) },
		{ 4, time_of(number(r->stats, "memwrite_us")) },
		{ 5, scanned > pages ? scanned : pages },
		{ 6, 0 }, /* in a parent */
		{ 7, pages }, /* written */
		{ 9, 0 }, /* lazy */
	};
	const uint32_t magic[] = { IMG_SERVICE_MAGIC, IMG_STATS };
	uint8_t dump[CKPT_STATS_ROOM - 32];
	uint32_t length;
	size_t n = 0, at = sizeof(magic) + sizeof(length);

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		dump[n++] = (uint8_t)(fields[i].number << 3);
		n += put_varint(dump + n, fields[i].value);
	}
	memcpy(out, magic, sizeof(magic));
	out[at++] = 1 << 3 | 2;
	at += put_varint(out + at, n);
	memcpy(out + at, dump, n);
	at += n;
	length = (uint32_t)(at - sizeof(magic) - sizeof(length));
	memcpy(out + sizeof(magic), &length, sizeof(length));
	return at;
}
