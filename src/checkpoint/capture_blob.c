// SPDX-License-Identifier: Apache-2.0
/*
 * Capture: a large file's way into its blob
 *
 * The reactor cuts the file into frames and queues each for packing; workers pack them side by side,
 * in any order. Writing has to be in order, and so does the digest that the sink computes: the
 * frames stand in a queue, and whenever its first one is packed and none is being written, that one
 * goes to the write pool. When it comes back its buffer is free again.
 *
 * Packing goes into the packer's own buffer, and from there back into the frame's, which is not
 * needed any more: so a frame takes one buffer from its first byte to its last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/capture_internal.h"
#include "util/cleanup.h"
#include "util/container_of.h"

/* ---- packers: as many as there were jobs at once */

static struct packer *packer_take(struct capture *c)
{
	struct packer *p;

	pthread_mutex_lock(&c->packers_lock);
	p = c->packers;
	if (p)
		c->packers = p->next;
	pthread_mutex_unlock(&c->packers_lock);
	if (p)
		return p;
	p = malloc(sizeof(*p));
	if (p && frame_codec_new(&p->codec, c->r.level) < 0) {
		free(p);
		p = NULL;
	}
	return p;
}

static void packer_give(struct capture *c, struct packer *p)
{
	pthread_mutex_lock(&c->packers_lock);
	p->next = c->packers;
	c->packers = p;
	pthread_mutex_unlock(&c->packers_lock);
}

/* ---- writing */

static void blob_go_on(struct blob *b);

static void frame_free(struct frame *f)
{
	f->c->frames--;
	buffers_give(f->c->buffers, f->buf);
	free(f);
}

static void write_run(struct worker_job *job)
{
	struct frame *f = container_of(job, struct frame, job);
	struct blob *b = f->blob;
	struct capture_sink *sink = &f->c->r.sink;

	if (!b->out)
		f->result = sink->open(sink->user, CAPTURE_PAGES, b->name, &b->out, &f->fault);
	if (!f->result)
		f->result = sink->write(b->out, f->buf->data, f->buf->used, &f->fault);
}

static void write_done(struct worker_job *job)
{
	struct frame *f = container_of(job, struct frame, job);
	struct blob *b = f->blob;
	struct capture *c = f->c;

	b->writing = NULL;
	STAILQ_REMOVE_HEAD(&b->frames, link);
	c->progress++;
	if (f->result < 0) {
		capture_fail(c, &f->fault);
	} else if (!c->dead) {
		c->stats.bytes_out += f->buf->used;
		if (frame_table_add(&b->table, (uint32_t)f->buf->used, f->size) < 0) {
			struct fault no;

			fault_sys(&no, ENOMEM, "keep the frames of", b->name);
			capture_fail(c, &no);
		}
	}
	frame_free(f);
	blob_go_on(b);
	capture_read_on(c);
	capture_job_end(c);
}

/* The seek table, and the sink's end. */
static void end_run(struct worker_job *job)
{
	struct blob *b = container_of(job, struct blob, job);
	struct capture_sink *sink = &b->c->r.sink;
	size_t size = frame_table_bytes(&b->table);
	CLEANUP_FREE void *table = NULL;

	if (!b->out)
		b->result = sink->open(sink->user, CAPTURE_PAGES, b->name, &b->out, &b->fault);
	if (!b->result && b->c->r.compress) {
		table = malloc(size);
		if (table) {
			frame_table_write(&b->table, table);
			b->result = sink->write(b->out, table, size, &b->fault);
		} else {
			b->result = fault_sys(&b->fault, ENOMEM, "write the seek table of",
					      b->name);
		}
	}
	if (!b->result)
		b->result = sink->finish(b->out, b->table.size, &b->fault);
	if (b->result < 0 && b->out)
		sink->discard(b->out);
	b->out = NULL;
}

static void end_done(struct worker_job *job)
{
	struct blob *b = container_of(job, struct blob, job);
	struct capture *c = b->c;

	b->busy = false;
	c->progress++;
	if (b->result < 0) {
		capture_fail(c, &b->fault);
	} else {
		b->finished = true;
		c->unfinished--;
		if (c->r.compress)
			c->stats.bytes_out += frame_table_bytes(&b->table);
		capture_check_done(c);
	}
	capture_job_end(c);
}

static void discard_run(struct worker_job *job)
{
	struct blob *b = container_of(job, struct blob, job);

	b->c->r.sink.discard(b->out);
	b->out = NULL;
}

static void discard_done(struct worker_job *job)
{
	struct blob *b = container_of(job, struct blob, job);

	b->busy = false;
	capture_job_end(b->c);
}

static void blob_job(struct blob *b, void (*run)(struct worker_job *),
		     void (*done)(struct worker_job *))
{
	b->busy = true;
	b->job = (struct worker_job){ .run = run, .done = done };
	capture_job_begin(b->c);
	worker_submit(b->c->r.write, &b->job);
}

/* Of a capture that is given up: frames that nobody is at go at once. */
static void blob_give_up(struct blob *b)
{
	struct frame *f;

	while ((f = STAILQ_FIRST(&b->frames)) && f->packed && f != b->writing) {
		STAILQ_REMOVE_HEAD(&b->frames, link);
		frame_free(f);
	}
	if (STAILQ_EMPTY(&b->frames) && b->out && !b->busy)
		blob_job(b, discard_run, discard_done);
}

static void blob_go_on(struct blob *b)
{
	struct frame *f = STAILQ_FIRST(&b->frames);

	if (b->c->dead || b->c->has_failed) {
		blob_give_up(b);
		return;
	}
	if (b->writing)
		return;
	if (f && f->packed) {
		b->writing = f;
		f->job = (struct worker_job){ .run = write_run, .done = write_done };
		capture_job_begin(b->c);
		worker_submit(b->c->r.write, &f->job);
	} else if (!f && b->ended && !b->busy && !b->finished) {
		blob_job(b, end_run, end_done);
	}
}

/* ---- packing */

static void pack_run(struct worker_job *job)
{
	struct frame *f = container_of(job, struct frame, job);
	struct packer *p = packer_take(f->c);
	ssize_t n;

	if (!p) {
		f->result = fault_sys(&f->fault, ENOMEM, "compress", f->blob->name);
		return;
	}
	n = frame_pack(p->codec, f->buf->data, f->buf->used, p->out);
	if (n < 0) {
		f->result = fault_sys(&f->fault, (int)-n, "compress", f->blob->name);
	} else {
		memcpy(f->buf->data, p->out, (size_t)n);
		f->buf->used = (size_t)n;
	}
	packer_give(f->c, p);
}

static void pack_done(struct worker_job *job)
{
	struct frame *f = container_of(job, struct frame, job);
	struct capture *c = f->c;
	struct blob *b = f->blob;

	f->packed = true;
	c->progress++;
	if (f->result < 0) {
		struct fault no = f->fault;

		capture_fail(c, &no); /* frees f, if it is the first of its blob */
	}
	blob_go_on(b);
	capture_job_end(c);
}

/* ---- from the reactor */

struct blob *blob_new(struct capture *c, const char *name)
{
	struct blob *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->c = c;
	strcpy(b->name, name);
	STAILQ_INIT(&b->frames);
	SLIST_INSERT_HEAD(&c->blobs, b, link);
	c->n_blobs++;
	c->unfinished++;
	return b;
}

int blob_add(struct blob *b, struct buffer *buf)
{
	struct frame *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->c = b->c;
	f->blob = b;
	f->buf = buf;
	f->size = (uint32_t)buf->used;
	STAILQ_INSERT_TAIL(&b->frames, f, link);
	b->c->frames++;
	if (!b->c->r.compress) {
		f->packed = true;
		blob_go_on(b);
		return 0;
	}
	f->job = (struct worker_job){ .run = pack_run, .done = pack_done };
	capture_job_begin(b->c);
	worker_submit(b->c->r.pack, &f->job);
	return 0;
}

void blob_end(struct blob *b)
{
	b->ended = true;
	blob_go_on(b);
}

void blobs_give_up(struct capture *c)
{
	struct blob *b;

	SLIST_FOREACH (b, &c->blobs, link)
		blob_give_up(b);
}

void blobs_free(struct capture *c)
{
	struct packer *p;
	struct blob *b;

	while ((b = SLIST_FIRST(&c->blobs))) {
		SLIST_REMOVE_HEAD(&c->blobs, link);
		frame_table_clear(&b->table);
		free(b);
	}
	while ((p = c->packers)) {
		c->packers = p->next;
		frame_codec_free(p->codec);
		free(p);
	}
}
