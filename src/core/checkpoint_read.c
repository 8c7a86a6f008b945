// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as images: reading
 *
 * Nothing of a checkpoint is trusted: it may have been imported from anywhere. Index, manifest and
 * config are read whole, bounded, and checked against their digests; the files layer is hashed before
 * it is taken apart. Layers of pages may be large and are read while criu runs, so here they are only
 * opened and their seek tables read; who restores has them verified meanwhile, by their descriptors.
 *
 * A large file may be spread over several layers, each with the offset it begins at. They must join
 * without a gap or an overlap, and each says how many bytes it holds.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/images_check.h"
#include "checkpoint/wire.h"
#include "core/checkpoint_internal.h"
#include "store/content.h"
#include "store/layer.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define PIECE 128 /* of an untrusted text, at most, in a fault */

void checkpoint_read_clear(struct checkpoint_read *r)
{
	ckpt_record_clear(&r->record);
	serve_files_clear(&r->files);
	for (size_t i = 0; i < r->n_pages; i++)
		oci_descriptor_clear(&r->pages[i]);
	free(r->pages);
	oci_descriptor_clear(&r->diff);
	free(r->base_image);
	memset(r, 0, sizeof(*r));
}

static int refuse(struct fault *f, const char *digest, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct fault *f, const char *digest, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(f, FAULT_FAILED_PRECONDITION, 0, fmt, ap);
	va_end(ap);
	fault_prefix(f, "the checkpoint %s", digest);
	return -EINVAL;
}
#define refuse(...) FAULT_NEGATIVE(refuse(__VA_ARGS__))

int checkpoint_files_ready(struct serve_files *files, const char *what, struct fault *f)
{
	const char *twice = ckpt_files_sort(files);

	if (twice)
		return refuse(f, what, "has the file %.255s twice", twice);
	if (!ckpt_files_find(files, CHECKPOINT_INVENTORY))
		return refuse(f, what, "is not whole: it has no " CHECKPOINT_INVENTORY);
	return 0;
}

/* ---- documents */

/* The bytes of a small blob, as many as its descriptor says. */
static int read_blob(struct store_call *c, const struct oci_descriptor *d, size_t most, char **text,
		     size_t *size)
{
	int r = content_read_all(c, d->digest.text, most, text, size);

	if (r == -ENOENT) {
		fault_set(c->f, FAULT_NOT_FOUND, 0, "there is no content %s in the namespace '%s'",
			  d->digest.text, c->ns);
		return r;
	}
	if (r < 0 || *size == d->size)
		return r;
	return refuse(c->f, d->digest.text, "has %zu bytes, but its descriptor says %llu", *size,
		      (unsigned long long)d->size);
}

static int read_document(struct store_call *c, const struct oci_descriptor *d,
			 struct oci_document *doc)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	if (oci_kind_of(d->media_type) == OCI_KIND_OTHER)
		return refuse(c->f, d->digest.text, "is of the media type '%.*s', not an index",
			      PIECE, d->media_type);
	r = read_blob(c, d, LIMIT_MANIFEST_BYTES, &text, &size);
	return r < 0 ? r : oci_document_read(doc, text, size, d->media_type, d->digest.text, c->f);
}

static const char *member(json_object *j, const char *key)
{
	json_object *value = json_object_object_get(j, key);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

static bool is_artifact(json_object *j)
{
	return !strcmp(member(j, "artifactType"), CHECKPOINT_ARTIFACT);
}

/*
 * The artifact manifest below an index, and the base beside it. What else there is, such as
 * containerd's own kind of checkpoint, is named when there is no artifact.
 */
static int choose(struct store_call *c, const struct oci_descriptor *index,
		  const struct oci_document *doc, const struct oci_descriptor **artifact,
		  struct checkpoint_read *out)
{
	*artifact = NULL;
	for (size_t i = 0; i < doc->n_children; i++) {
		const struct oci_descriptor *d = &doc->children[i];

		if (oci_kind_of(d->media_type) != OCI_KIND_MANIFEST)
			continue;
		if (!is_artifact(d->json)) {
			if (!out->base_manifest.text[0])
				out->base_manifest = d->digest;
			continue;
		}
		if (*artifact)
			return refuse(c->f, index->digest.text,
				      "has more than one manifest of the "
				      "type " CHECKPOINT_ARTIFACT);
		*artifact = d;
	}
	if (*artifact)
		return 0;
	for (size_t i = 0; i < doc->n_children; i++)
		if (oci_kind_of(doc->children[i].media_type) == OCI_KIND_OTHER)
			return refuse(
				c->f, index->digest.text,
				"holds '%.*s', not a manifest of the type " CHECKPOINT_ARTIFACT,
				PIECE, doc->children[i].media_type);
	return refuse(c->f, index->digest.text,
		      "is no checkpoint: it holds no manifest of the type " CHECKPOINT_ARTIFACT);
}

/* ---- layers */

enum layer_kind { KIND_FILES, KIND_PAGES, KIND_DIFF, KIND_UNKNOWN };

static enum layer_kind kind_of(const char *media_type)
{
	if (!strcmp(media_type, CHECKPOINT_FILES) || !strcmp(media_type, CHECKPOINT_FILES_PLAIN))
		return KIND_FILES;
	if (!strcmp(media_type, CHECKPOINT_PAGES) || !strcmp(media_type, CHECKPOINT_PAGES_PLAIN))
		return KIND_PAGES;
	if (!strcmp(media_type, OCI_LAYER) || !strcmp(media_type, OCI_LAYER_GZIP) ||
	    !strcmp(media_type, OCI_LAYER_ZSTD))
		return KIND_DIFF;
	return KIND_UNKNOWN;
}

/* A decimal annotation; absent: `otherwise`. */
static int note_number(struct store_call *c, const struct oci_descriptor *d, const char *key,
		       uint64_t otherwise, uint64_t *out)
{
	const char *text = oci_descriptor_annotation(d, key);
	size_t n = text ? strlen(text) : 0;

	*out = otherwise;
	if (!text)
		return 0;
	if (!n || n > 18 || strspn(text, "0123456789") != n)
		return refuse(c->f, d->digest.text,
			      "has the annotation %s='%.*s', which is no size", key, PIECE, text);
	*out = strtoull(text, NULL, 10);
	return 0;
}

/* Opens a layer's blob, which is as large as its descriptor says. */
static int open_layer(struct store_call *c, const struct oci_descriptor *d, int *fd)
{
	uint64_t size;
	int r = content_open(c, d->digest.text, fd, &size);

	if (r == -ENOENT)
		fault_set(c->f, FAULT_NOT_FOUND, 0,
			  "the checkpoint's layer %s is missing in the namespace '%s'",
			  d->digest.text, c->ns);
	if (r < 0 || size == d->size)
		return r;
	return refuse(c->f, d->digest.text, "has %llu bytes, but its descriptor says %llu",
		      (unsigned long long)size, (unsigned long long)d->size);
}

static int read_files(struct store_call *c, const struct oci_descriptor *d,
		      struct checkpoint_read *out)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (d->size > LIMIT_CHECKPOINT_FILES_BYTES)
		return refuse(c->f, d->digest.text, "has %llu bytes; at most %u are taken",
			      (unsigned long long)d->size, LIMIT_CHECKPOINT_FILES_BYTES);
	r = open_layer(c, d, &fd);
	if (!r)
		r = content_verify(c, d->digest.text);
	return r < 0 ? r : ckpt_files_tar(&out->files, fd, d->digest.text, c->f);
}

/* A part of a large file. */
struct page {
	struct oci_descriptor *d; /* in out->pages */
	const char *file; /* an annotation of it */
	uint64_t offset;
	size_t order; /* in the manifest */
};

static int by_place(const void *a, const void *b)
{
	const struct page *x = a, *y = b;
	int r = strcmp(x->file, y->file);

	if (r)
		return r;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static int page_read(struct store_call *c, struct page *p)
{
	p->file = oci_descriptor_annotation(p->d, CHECKPOINT_NOTE_FILE);
	if (!p->file)
		return refuse(c->f, p->d->digest.text,
			      "is a layer without the annotation " CHECKPOINT_NOTE_FILE);
	if (!wire_name_valid(p->file, strlen(p->file)))
		return refuse(c->f, p->d->digest.text, "has '%.*s', which no image file is called",
			      PIECE, p->file);
	return note_number(c, p->d, CHECKPOINT_NOTE_OFFSET, 0, &p->offset);
}

/* How much is left of what a checkpoint may be. */
struct budget {
	uint64_t bytes, frames;
};

/* Before it is read: how many frames a seek table has, by its last nine bytes. */
static int count_frames(struct store_call *c, const struct oci_descriptor *d, int fd,
			struct budget *left)
{
	unsigned char footer[4];
	uint64_t n;

	if (d->size < 9 || pread(fd, footer, 4, (off_t)d->size - 9) != 4)
		return refuse(c->f, d->digest.text, "is too small for a layer of pages");
	n = footer[0] | (uint32_t)footer[1] << 8 | (uint32_t)footer[2] << 16 |
	    (uint32_t)footer[3] << 24;
	if (n > left->frames)
		return refuse(c->f, d->digest.text, "has more frames than are taken");
	left->frames -= n;
	return 0;
}

static int part_open(struct store_call *c, const struct page *p, struct serve_part *part,
		     struct budget *left)
{
	const struct oci_descriptor *d = p->d;
	uint64_t size;
	int r;

	*part = (struct serve_part){ .fd = -1, .digest = d->digest.text };
	part->packed = !strcmp(d->media_type, CHECKPOINT_PAGES);
	r = open_layer(c, d, &part->fd);
	if (r < 0)
		return r;
	part->size = d->size;
	if (part->packed) {
		r = count_frames(c, d, part->fd, left);
		if (!r) {
			r = frame_table_read(&part->table, part->fd, d->size, left->bytes, c->f);
			if (r < 0)
				fault_prefix(c->f, "the checkpoint %s", d->digest.text);
		}
		part->size = part->table.size;
	} else if (d->size > left->bytes) {
		r = refuse(c->f, d->digest.text, "is larger than any may be");
	}
	if (r < 0)
		return r;
	left->bytes -= part->size;
	r = note_number(c, d, CHECKPOINT_NOTE_SIZE, part->size, &size);
	if (!r && size != part->size)
		return refuse(c->f, d->digest.text,
			      "holds %llu bytes of %s, but its annotation says %llu",
			      (unsigned long long)part->size, p->file, (unsigned long long)size);
	return r;
}

/* All parts of one file: p[0..n). */
static int file_open(struct store_call *c, const struct page *p, size_t n, struct budget *left,
		     struct checkpoint_read *out)
{
	struct serve_file *file = ckpt_files_add(&out->files, p->file, n);
	uint64_t at = 0;
	int r = 0;

	if (!file)
		return checkpoint_no_memory(c->f);
	for (size_t i = 0; !r && i < n; i++) {
		if (p[i].offset != at)
			return refuse(c->f, p[i].d->digest.text,
				      "holds %s from byte %llu on, but the part before it ends at "
				      "%llu",
				      p[i].file, (unsigned long long)p[i].offset,
				      (unsigned long long)at);
		r = part_open(c, &p[i], &file->parts[file->n_parts++], left);
		at += file->parts[i].size;
	}
	return r;
}

static int read_pages(struct store_call *c, struct checkpoint_read *out)
{
	CLEANUP_FREE struct page *v = calloc(out->n_pages + 1, sizeof(*v));
	struct budget left = { LIMIT_CHECKPOINT_BYTES, LIMIT_CHECKPOINT_FRAMES };
	size_t n = out->n_pages;
	int r = 0;

	if (!v)
		return checkpoint_no_memory(c->f);
	for (size_t i = 0; !r && i < n; i++) {
		v[i].d = &out->pages[i];
		v[i].order = i;
		r = page_read(c, &v[i]);
	}
	if (r < 0)
		return r;
	qsort(v, n, sizeof(*v), by_place);
	for (size_t i = 0, k; !r && i < n; i = k) {
		for (k = i + 1; k < n && !strcmp(v[i].file, v[k].file);)
			k++;
		r = store_cancelled(c);
		if (!r)
			r = file_open(c, &v[i], k - i, &left, out);
	}
	return r;
}

/* Layers by kind: *files, out->pages, out->diff. */
static int sort_layers(struct store_call *c, const struct oci_descriptor *manifest,
		       const struct oci_document *doc, const struct oci_descriptor **files,
		       struct checkpoint_read *out)
{
	int r = 0;

	if (doc->n_children > LIMIT_CHECKPOINT_BLOBS)
		return refuse(c->f, manifest->digest.text, "has %zu layers; at most %u are taken",
			      doc->n_children, LIMIT_CHECKPOINT_BLOBS);
	out->pages = calloc(doc->n_children + 1, sizeof(*out->pages));
	if (!out->pages)
		return checkpoint_no_memory(c->f);
	*files = NULL;
	for (size_t i = 0; !r && i < doc->n_children; i++) {
		const struct oci_descriptor *d = &doc->children[i];

		switch (kind_of(d->media_type)) {
		case KIND_FILES:
			if (*files)
				return refuse(c->f, manifest->digest.text,
					      "has more than one layer of image files");
			*files = d;
			break;
		case KIND_PAGES:
			r = oci_descriptor_copy(&out->pages[out->n_pages], d, c->f);
			out->n_pages += !r;
			break;
		case KIND_DIFF:
			if (out->has_diff)
				return refuse(c->f, manifest->digest.text,
					      "has more than one writable layer");
			r = oci_descriptor_copy(&out->diff, d, c->f);
			out->has_diff = !r;
			break;
		case KIND_UNKNOWN:
			return refuse(c->f, manifest->digest.text,
				      "has a layer of the unknown media type '%.*s'", PIECE,
				      d->media_type);
		}
	}
	if (!r && !*files)
		return refuse(c->f, manifest->digest.text, "has no layer of image files");
	return r;
}

/* ---- all of it */

static int read_record(struct store_call *c, const struct oci_descriptor *d,
		       struct checkpoint_read *out)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r = read_blob(c, d, LIMIT_CHECKPOINT_RECORD_BYTES, &text, &size);

	if (!r)
		r = ckpt_record_read(&out->record, text, size, c->f);
	if (r < 0)
		return r;
	out->has_record = true;
	out->base_image = strdup(out->record.image);
	return out->base_image ? 0 : checkpoint_no_memory(c->f);
}

static int read_artifact(struct store_call *c, const struct oci_descriptor *manifest,
			 struct checkpoint_read *out)
{
	CLEANUP(oci_document_clear) struct oci_document doc = { 0 };
	const struct oci_descriptor *files = NULL;
	int r = read_document(c, manifest, &doc);

	if (r < 0)
		return r;
	if (doc.kind != OCI_KIND_MANIFEST || !is_artifact(doc.json))
		return refuse(
			c->f, manifest->digest.text,
			"is no checkpoint: its artifactType is '%.*s', not " CHECKPOINT_ARTIFACT,
			PIECE, member(doc.json, "artifactType"));
	if (strcmp(doc.config.media_type, CHECKPOINT_CONFIG) != 0)
		return refuse(c->f, manifest->digest.text,
			      "has a config of the media type '%.*s', not " CHECKPOINT_CONFIG,
			      PIECE, doc.config.media_type);
	r = sort_layers(c, manifest, &doc, &files, out);
	if (!r)
		r = read_record(c, &doc.config, out);
	if (!r)
		r = read_files(c, files, out);
	if (!r)
		r = read_pages(c, out);
	return r ? r : checkpoint_files_ready(&out->files, manifest->digest.text, c->f);
}

static int read_target(struct store_call *c, const struct oci_descriptor *target,
		       struct checkpoint_read *out)
{
	CLEANUP(oci_document_clear) struct oci_document doc = { 0 };
	const struct oci_descriptor *artifact = NULL;
	int r;

	if (oci_kind_of(target->media_type) == OCI_KIND_MANIFEST)
		return read_artifact(c, target, out);
	r = read_document(c, target, &doc);
	if (!r)
		r = choose(c, target, &doc, &artifact, out);
	return r ? r : read_artifact(c, artifact, out);
}

int checkpoint_image_read(struct store_call *c, const char *name,
			  const struct oci_descriptor *target, struct checkpoint_read *out)
{
	struct checkpoint_target named = { .f = c->f };
	int r = 0;

	memset(out, 0, sizeof(*out));
	ckpt_record_init(&out->record);
	if (name)
		r = image_get(c, name, checkpoint_take_target, &named);
	if (!r)
		r = read_target(c, name ? &named.descriptor : target, out);
	oci_descriptor_clear(&named.descriptor);
	if (r < 0)
		checkpoint_read_clear(out);
	return r;
}

int checkpoint_files_check(const struct checkpoint_read *r, struct ckpt_tasks *tasks,
			   struct fault *f)
{
	int e = ckpt_images_check(&r->files, r->has_record ? &r->record.mounts : NULL, f);

	if (!e)
		e = ckpt_images_tasks(&r->files, tasks, f);
	if (e)
		return e;
	if (!(tasks->namespaces & CLONE_NEWNS))
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint has a task in the mount namespace of who took it, "
				 "which cannot be restored");
	return 0;
}
