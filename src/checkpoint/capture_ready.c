// SPDX-License-Identifier: Apache-2.0
/*
 * Capture: buffers that are memory before they are needed
 *
 * The kernel clears each page when it is first written to. Left to the reading, that is done while the task
 * is frozen, and takes as long as the reading itself, or many times that where the host of a virtual machine has
 * to find the memory first. So workers touch as many buffers as the task's memory asks for before criu is started,
 * all but some for which there is time until it freezes anything. Each is taken like one that is read into and
 * given back, so what is not ready yet when criu comes is waited for like one that is being packed.
 */
#include <stdlib.h>

#include "checkpoint/capture_internal.h"
#include "util/container_of.h"

#define LEFT_TO_CRIU 8u

struct ready {
	struct worker_job job;
	struct ready *next;
	struct capture *c;
	struct buffer *buf;
};

static void touch_run(struct worker_job *job)
{
	buffer_touch(container_of(job, struct ready, job)->buf);
}

static void touch_done(struct worker_job *job)
{
	struct ready *r = container_of(job, struct ready, job);
	struct capture *c = r->c;

	c->frames--;
	c->progress++;
	buffers_give(c->buffers, r->buf);
	free(r);
	capture_read_on(c);
	/* one that has failed or is given up too: its owner is there until `gone` */
	if (c->unready-- == LEFT_TO_CRIU + 1 && c->r.ready)
		c->r.ready(c->r.user);
	capture_job_end(c);
}

/* All are mapped before the first is touched, which keeps the kernel busy with the map of this process' memory. */
void buffers_make_ready(struct capture *c)
{
	uint64_t n = c->r.expected / FRAME_BYTES;
	struct ready *first = NULL, *r;

	while (n--) {
		struct buffer *buf = buffers_take(c->buffers);

		r = buf ? calloc(1, sizeof(*r)) : NULL;
		if (!r) {
			if (buf)
				buffers_give(c->buffers, buf);
			break;
		}
		r->job = (struct worker_job){ .run = touch_run, .done = touch_done };
		r->c = c;
		r->buf = buf;
		r->next = first;
		first = r;
	}
	while ((r = first)) {
		first = r->next;
		c->frames++;
		c->unready++;
		capture_job_begin(c);
		worker_submit(c->r.pack, &r->job);
	}
}

bool capture_is_ready(const struct capture *c)
{
	return c->unready <= LEFT_TO_CRIU;
}
