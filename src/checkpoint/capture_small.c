// SPDX-License-Identifier: Apache-2.0
/*
 * Capture: the small files become one blob
 *
 * A tar in the order of names, with nothing in it that differs from one dump to the next but the
 * files themselves, in zstd frames like the large files (so that plain tools read it), without a
 * seek table. One job on the write pool does all of it: some tens of kilobytes.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/capture_internal.h"
#include "util/cleanup.h"
#include "util/container_of.h"

struct small_job {
	struct worker_job job;
	struct capture *c;
	struct image_file **files;
	size_t n;
	uint64_t tar_bytes, out_bytes;
	void *out;
	int result;
	struct fault fault;
	/* the tar on its way into frames */
	struct frame_codec *codec;
	unsigned char *frame, *packed;
	size_t used;
};

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct image_file *const *)a)->name,
		      (*(struct image_file *const *)b)->name);
}

static int put(struct small_job *s, const void *data, size_t size)
{
	struct capture_sink *sink = &s->c->r.sink;

	s->out_bytes += size;
	return sink->write(s->out, data, size, &s->fault);
}

/* What has been gathered, as a frame. */
static int flush(struct small_job *s)
{
	size_t used = s->used;
	ssize_t n;

	s->used = 0;
	if (!used)
		return 0;
	if (!s->c->r.compress)
		return put(s, s->frame, used);
	n = frame_pack(s->codec, s->frame, used, s->packed);
	if (n < 0)
		return fault_sys(&s->fault, (int)-n, "compress", "the image files");
	return put(s, s->packed, (size_t)n);
}

static la_ssize_t on_tar(struct archive *a, void *user, const void *data, size_t size)
{
	struct small_job *s = user;
	const unsigned char *p = data;
	size_t left = size;

	while (left) {
		size_t n = FRAME_BYTES - s->used < left ? FRAME_BYTES - s->used : left;

		memcpy(s->frame + s->used, p, n);
		s->used += n;
		p += n;
		left -= n;
		if (s->used == FRAME_BYTES && (s->result = flush(s)) < 0) {
			archive_set_error(a, EIO, "the blob cannot be written");
			return -1;
		}
	}
	s->tar_bytes += size;
	return (la_ssize_t)size;
}

static int write_entry(struct archive *a, const struct image_file *file)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return -ENOMEM;
	archive_entry_set_pathname(e, file->name);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0600);
	archive_entry_set_size(e, (la_int64_t)file->used);
	r = archive_write_header(a, e) == ARCHIVE_OK ? 0 : -EIO;
	if (!r && file->used &&
	    archive_write_data(a, file->data, file->used) != (la_ssize_t)file->used)
		r = -EIO;
	archive_entry_free(e);
	return r;
}

static int write_tar(struct small_job *s)
{
	struct archive *a = archive_write_new();
	int r = 0;

	if (!a)
		return -ENOMEM;
	/* the sink gets what is written in frames: blocks of libarchive's would only be copied */
	if (archive_write_set_format_ustar(a) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(a, 0) != ARCHIVE_OK ||
	    archive_write_open(a, s, NULL, on_tar, NULL) != ARCHIVE_OK)
		r = -EIO;
	for (size_t i = 0; !r && i < s->n; i++)
		r = write_entry(a, s->files[i]);
	if (archive_write_close(a) != ARCHIVE_OK && !r)
		r = -EIO;
	if (r < 0 && !s->result)
		fault_set(&s->fault, FAULT_INTERNAL, r == -ENOMEM ? ENOMEM : 0,
			  "the tar of image files: %s",
			  archive_error_string(a) ? archive_error_string(a) : "no memory");
	archive_write_free(a);
	return s->result < 0 ? s->result : r;
}

static int small_write(struct small_job *s)
{
	struct capture_sink *sink = &s->c->r.sink;
	int r;

	s->frame = malloc(FRAME_BYTES);
	s->packed = malloc(FRAME_PACKED_MOST);
	if (!s->frame || !s->packed || frame_codec_new(&s->codec, s->c->r.level) < 0)
		return fault_sys(&s->fault, ENOMEM, "pack", "the image files");
	qsort(s->files, s->n, sizeof(struct image_file *), by_name);
	r = sink->open(sink->user, CAPTURE_FILES, "", &s->out, &s->fault);
	if (!r)
		r = write_tar(s);
	if (!r)
		r = flush(s);
	if (!r)
		r = sink->finish(s->out, s->tar_bytes, &s->fault);
	return r;
}

static void small_run(struct worker_job *job)
{
	struct small_job *s = container_of(job, struct small_job, job);
	int r = small_write(s);

	if (r < 0 && s->out)
		s->c->r.sink.discard(s->out);
	s->result = r;
	frame_codec_free(s->codec);
	free(s->frame);
	free(s->packed);
}

static void small_done(struct worker_job *job)
{
	struct small_job *s = container_of(job, struct small_job, job);
	struct capture *c = s->c;

	if (s->result < 0) {
		capture_fail(c, &s->fault);
	} else {
		c->stats.bytes_out += s->out_bytes;
		c->unfinished--;
		capture_check_done(c);
	}
	free(s->files);
	free(s);
	capture_job_end(c);
}

int small_start(struct capture *c)
{
	struct small_job *s = calloc(1, sizeof(*s));
	struct image_file *file;
	size_t n = 0;

	SLIST_FOREACH (file, &c->files, link)
		n += !file->blob;
	if (s)
		s->files = calloc(n + 1, sizeof(struct image_file *));
	if (!s || !s->files) {
		free(s);
		return -ENOMEM;
	}
	SLIST_FOREACH (file, &c->files, link)
		if (!file->blob)
			s->files[s->n++] = file;
	s->c = c;
	s->job = (struct worker_job){ .run = small_run, .done = small_done };
	c->unfinished++;
	capture_job_begin(c);
	worker_submit(c->r.write, &s->job);
	return 0;
}
