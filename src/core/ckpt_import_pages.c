// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: large files on their way into the store
 *
 * An image file becomes frames as those of a dump (checkpoint/frames.h), one after the other while it
 * is read; a tar of the writable layer is kept as it came until it is made into an OCI layer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/frames.h"
#include "core/ckpt_formats.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define LEVEL 1

struct packing {
	struct ckpt_incoming *g;
	struct ingest *to;
	struct frame_codec *codec;
	struct frame_table table;
	unsigned char *data, *packed;
};

static void packing_clear(struct packing *p)
{
	ingest_discard(p->to);
	frame_codec_free(p->codec);
	frame_table_clear(&p->table);
	free(p->data);
	free(p->packed);
}

static int cut_off(struct ckpt_incoming *g, const char *file)
{
	return fault_set(g->c->f, FAULT_FAILED_PRECONDITION, 0, "%.256s ends before its size",
			 file);
}

static int frame(struct packing *p, size_t size)
{
	struct fault *f = p->g->c->f;
	ssize_t n = frame_pack(p->codec, p->data, size, p->packed);
	int r;

	if (n < 0)
		return checkpoint_no_memory(f);
	r = ingest_write(p->to, p->packed, (size_t)n, f);
	if (!r && frame_table_add(&p->table, (uint32_t)n, (uint32_t)size) < 0)
		r = checkpoint_no_memory(f);
	return r;
}

static int pack(struct packing *p, const char *file, uint64_t size, ckpt_read_fn read, void *user)
{
	struct store_call *c = p->g->c;
	CLEANUP_FREE void *table = NULL;
	int r = 0;

	for (uint64_t at = 0; !r && at < size;) {
		size_t want = size - at < FRAME_BYTES ? (size_t)(size - at) : FRAME_BYTES, have = 0;

		while (have < want) {
			ssize_t n = read(user, p->data + have, want - have, c->f);

			if (n <= 0)
				return n < 0 ? (int)n : cut_off(p->g, file);
			have += (size_t)n;
			r = store_cancelled(c);
			if (r < 0)
				return r;
		}
		r = frame(p, want);
		at += want;
	}
	if (r < 0)
		return r;
	table = malloc(frame_table_bytes(&p->table));
	if (!table)
		return checkpoint_no_memory(c->f);
	frame_table_write(&p->table, table);
	return ingest_write(p->to, table, frame_table_bytes(&p->table), c->f);
}

static int open_ingest(struct ckpt_incoming *g, int64_t total, struct ingest **to)
{
	char ref[96];
	int r = ckpt_ref_new(ref, sizeof(ref), g->c->f);

	return r < 0 ? r : ingest_open(g->c, ref, NULL, total, to);
}

static int commit(struct ckpt_incoming *g, struct ingest **to, struct digest *out)
{
	int r = ingest_commit(g->c, *to, -1, NULL, NULL, 0, out);

	if (r < 0 && r != -EEXIST)
		return r;
	*to = NULL;
	return 0;
}

static int add_blob(struct ckpt_incoming *g, const struct checkpoint_blob *blob)
{
	struct checkpoint_blob *grown;

	grown = reallocarray(g->blobs, g->n_blobs + 1, sizeof(*grown));
	if (!grown)
		return checkpoint_no_memory(g->c->f);
	g->blobs = grown;
	grown[g->n_blobs] = *blob;
	grown[g->n_blobs].file = strdup(blob->file);
	if (!grown[g->n_blobs].file)
		return checkpoint_no_memory(g->c->f);
	g->n_blobs++;
	return 0;
}

int ckpt_import_pages(struct ckpt_incoming *g, const char *file, uint64_t size, ckpt_read_fn read,
		      void *user)
{
	CLEANUP(packing_clear) struct packing p = { .g = g };
	struct checkpoint_blob blob = { .media_type = CHECKPOINT_PAGES,
					.file = file,
					.file_size = size };
	int r;

	/* beside them: the small files and the writable layer */
	if (g->n_blobs + 2 >= LIMIT_CHECKPOINT_BLOBS)
		return fault_set(g->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "the checkpoint has more than %u large files",
				 LIMIT_CHECKPOINT_BLOBS - 2);
	for (size_t i = 0; i < g->n_blobs; i++)
		blob.size += g->blobs[i].file_size;
	if (size > LIMIT_CHECKPOINT_BYTES - blob.size)
		return fault_set(g->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "%s is larger than a checkpoint may be", file);
	p.data = malloc(FRAME_BYTES);
	p.packed = malloc(FRAME_PACKED_MOST);
	if (!p.data || !p.packed || frame_codec_new(&p.codec, LEVEL) < 0)
		return checkpoint_no_memory(g->c->f);
	r = open_ingest(g, -1, &p.to);
	if (!r)
		r = pack(&p, file, size, read, user);
	if (r < 0)
		return r;
	blob.size = ingest_offset(p.to);
	r = commit(g, &p.to, &blob.digest);
	return r ? r : add_blob(g, &blob);
}

int ckpt_import_blob(struct ckpt_incoming *g, uint64_t size, ckpt_read_fn read, void *user,
		     struct digest *out)
{
	CLEANUP_FREE void *buf = malloc(FRAME_BYTES);
	struct ingest *to = NULL;
	uint64_t at = 0;
	int r;

	if (!buf)
		return checkpoint_no_memory(g->c->f);
	if (size > LIMIT_LAYER_BYTES)
		return fault_set(g->c->f, FAULT_RESOURCE_EXHAUSTED, EFBIG,
				 "the checkpoint's writable layer");
	r = open_ingest(g, (int64_t)size, &to);
	while (!r && at < size) {
		size_t want = size - at < FRAME_BYTES ? (size_t)(size - at) : FRAME_BYTES;
		ssize_t n = read(user, buf, want, g->c->f);

		if (n <= 0)
			r = n < 0 ? (int)n : cut_off(g, "the writable layer");
		else
			r = ingest_write(to, buf, (size_t)n, g->c->f);
		at += n > 0 ? (uint64_t)n : 0;
		if (!r)
			r = store_cancelled(g->c);
	}
	if (!r)
		r = commit(g, &to, out);
	ingest_discard(to);
	return r;
}
