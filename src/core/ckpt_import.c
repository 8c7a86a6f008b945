// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: in
 *
 * What comes is anybody's. It is taken apart into what a checkpoint of ours has: large image files go
 * into the store as they come, in frames; small ones and documents stay in memory, bounded; podman's
 * tar of the writable layer becomes an OCI layer. A record is made of the documents and of what criu's
 * images say themselves. Then all is looked at as before a restore, and only what passes becomes an
 * image. It is not labelled as this daemon's own.
 *
 * All that is written is under the call's lease, or one of our own: what is left of a failure is
 * collected.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/files_tar.h"
#include "core/ckpt_formats.h"
#include "store/content.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

void ckpt_incoming_clear(struct ckpt_incoming *g)
{
	serve_files_clear(&g->files);
	for (size_t i = 0; i < g->n_blobs; i++)
		free((char *)g->blobs[i].file);
	free(g->blobs);
	free(g->config.text);
	free(g->spec.text);
	free(g->deleted.text);
	free(g->descriptors.text);
	free(g->record_text.text);
	ckpt_record_clear(&g->record);
}

/* ---- a folder of criu's */

struct part_reader {
	const struct serve_part *part;
	uint64_t at;
};

static ssize_t read_part(void *user, void *buf, size_t size, struct fault *f)
{
	struct part_reader *p = user;
	ssize_t n;

	if (size > p->part->size - p->at)
		size = (size_t)(p->part->size - p->at);
	do
		n = pread(p->part->fd, buf, size, (off_t)p->at);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return fault_sys(f, errno, "read an image file", NULL);
	p->at += (uint64_t)n;
	return n;
}

static int take_file(struct ckpt_incoming *g, struct serve_file *file)
{
	struct serve_part *part = file->parts;
	struct part_reader from = { .part = part };
	struct serve_file *own;

	if (part->fd >= 0)
		return ckpt_import_pages(g, file->name, part->size, read_part, &from);
	own = ckpt_files_add(&g->files, file->name, 1);
	if (!own)
		return checkpoint_no_memory(g->c->f);
	own->parts[0] = *part;
	own->n_parts = 1;
	part->data = NULL;
	part->size = 0;
	return 0;
}

static ssize_t read_fd(void *user, void *buf, size_t size, struct fault *f)
{
	ssize_t n;

	do
		n = read(*(int *)user, buf, size);
	while (n < 0 && errno == EINTR);
	return n < 0 ? fault_sys(f, errno, "read", CRIU_DIFF) : n;
}

static int take_folder_diff(struct ckpt_incoming *g)
{
	CLEANUP_CLOSE int fd = openat(g->in->fd, CRIU_DIFF,
				      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return fault_sys(g->c->f, errno, "open", CRIU_DIFF);
	if (!S_ISREG(st.st_mode))
		return fault_set(g->c->f, FAULT_FAILED_PRECONDITION, 0,
				 CRIU_DIFF " is no regular file");
	g->has_diff = true;
	g->diff_size = (uint64_t)st.st_size;
	return ckpt_import_blob(g, g->diff_size, read_fd, &fd, &g->diff);
}

static int take_folder(struct ckpt_incoming *g)
{
	struct checkpoint_read read;
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", g->in->fd);
	r = checkpoint_folder_read(path, &read, g->c->f);
	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < read.files.n; i++)
		r = take_file(g, &read.files.v[i]);
	if (!r && read.has_record) {
		g->record = read.record;
		ckpt_record_init(&read.record);
		g->has_record = true;
	}
	checkpoint_read_clear(&read);
	return r ? r : take_folder_diff(g);
}

/* ---- the small files as a blob */

struct files_writer {
	struct layer_sink *sink;
};

static int sink_put(void *user, const void *data, size_t size, struct fault *f)
{
	return layer_sink_write(((struct files_writer *)user)->sink, data, size, f);
}

static int put_small(struct ckpt_incoming *g, struct ckpt_tar *tar)
{
	uint64_t size;
	int r = 0;

	for (size_t i = 0; !r && i < g->files.n; i++) {
		const struct serve_file *file = &g->files.v[i];

		r = ckpt_tar_file(tar, file->name, file->parts[0].data,
				  (size_t)file->parts[0].size);
	}
	return r ? r : ckpt_tar_close(tar, &size);
}

static int write_small(struct ckpt_incoming *g, struct checkpoint_blob *out)
{
	struct store_call *c = g->c;
	struct files_writer w = { NULL };
	struct ckpt_tar *tar = NULL;
	struct ingest *to = NULL;
	struct digest plain;
	char ref[96];
	int r = ckpt_ref_new(ref, sizeof(ref), c->f);

	if (!r)
		r = ingest_open(c, ref, NULL, -1, &to);
	if (r < 0)
		return r;
	out->media_type = CHECKPOINT_FILES;
	r = layer_sink_new(&w.sink, to, LAYER_ZSTD, 0, c->f);
	if (!r)
		r = ckpt_tar_new(&tar, c, -1, LAYER_NONE);
	if (!r) {
		ckpt_tar_tap(tar, sink_put, &w);
		r = put_small(g, tar);
	}
	if (!r)
		r = layer_sink_finish(w.sink, &plain, &out->file_size, c->f);
	ckpt_tar_free(tar);
	layer_sink_free(w.sink);
	if (!r) {
		out->size = ingest_offset(to);
		r = ingest_commit(c, to, -1, NULL, NULL, 0, &out->digest);
		if (!r || r == -EEXIST)
			return 0;
	}
	ingest_discard(to);
	return r;
}

/* ---- all of it */

static int by_file(const void *a, const void *b)
{
	return strcmp(((const struct checkpoint_blob *)a)->file,
		      ((const struct checkpoint_blob *)b)->file);
}

static int check(struct ckpt_incoming *g)
{
	struct checkpoint_read read = { .has_record = true };
	struct ckpt_tasks tasks;

	for (size_t i = 0; i < g->n_blobs; i++)
		if ((i && !strcmp(g->blobs[i - 1].file, g->blobs[i].file)) ||
		    ckpt_files_find(&g->files, g->blobs[i].file))
			return fault_set(g->c->f, FAULT_FAILED_PRECONDITION, 0,
					 "the checkpoint has the file %s twice", g->blobs[i].file);
	read.record = g->record;
	read.files = g->files;
	return checkpoint_files_check(&read, &tasks, g->c->f);
}

static int write_image(struct ckpt_incoming *g, struct oci_descriptor *index, char **name)
{
	struct checkpoint_write w = { .name = g->in->name,
				      .record = &g->record,
				      .base_image = g->record.image,
				      .foreign = true };
	CLEANUP_FREE struct checkpoint_blob *v = calloc(g->n_blobs + 2, sizeof(*v));
	struct oci_descriptor *descriptors = NULL;
	size_t n = 0;
	int r;

	if (!v)
		return checkpoint_no_memory(g->c->f);
	r = write_small(g, &v[w.n_blobs++]);
	for (size_t i = 0; i < g->n_blobs; i++)
		v[w.n_blobs++] = g->blobs[i];
	if (!r && g->has_diff)
		r = ckpt_import_diff(g, &v[w.n_blobs++]);
	w.blobs = v;
	if (!r)
		r = checkpoint_image_write(g->c, &w, index, name, &descriptors, &n);
	for (size_t i = 0; i < n; i++)
		oci_descriptor_clear(&descriptors[i]);
	free(descriptors);
	return r;
}

static int import(struct ckpt_incoming *g, struct oci_descriptor *index, char **name)
{
	struct stat st;
	int r;

	if (fstat(g->in->fd, &st) < 0)
		return fault_sys(g->c->f, errno, "look at the stream", NULL);
	store_progress_phase(g->c->progress, "read",
			     S_ISREG(st.st_mode) && st.st_size > 0 ? (uint64_t)st.st_size : 0);
	r = S_ISDIR(st.st_mode) ? take_folder(g) : ckpt_import_tar(g);
	if (!r)
		r = checkpoint_files_ready(&g->files, "that is imported", g->c->f);
	if (!r && g->n_blobs > 1)
		qsort(g->blobs, g->n_blobs, sizeof(*g->blobs), by_file);
	if (!r)
		r = ckpt_import_record(g);
	if (!r)
		r = check(g);
	return r ? r : write_image(g, index, name);
}

int ckpt_import(struct store_call *c, const struct ckpt_import *in, struct oci_descriptor *index,
		char **name)
{
	CLEANUP(ckpt_incoming_clear) struct ckpt_incoming g = { .c = c, .in = in };
	struct ckpt_locale locale;
	struct lease_hold hold;
	int r = lease_hold(c, &hold);

	if (r < 0)
		return r;
	ckpt_record_init(&g.record);
	ckpt_locale_enter(&locale);
	r = import(&g, index, name);
	ckpt_locale_leave(&locale);
	lease_release(c, &hold);
	return r;
}
