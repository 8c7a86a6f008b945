// SPDX-License-Identifier: Apache-2.0
/*
 * Whether the restored tasks would run under seccomp filters
 *
 * images/seccomp.proto, images/core.proto, images/pstree.proto, criu/seccomp.c. A task's first thread
 * says its mode and its last filter. Another thread says so only where its filters differ: those that
 * share theirs with the first say nothing, and get them since each filter of the first is set with
 * SECCOMP_FILTER_FLAG_TSYNC. So a thread that says nothing is without filters unless all of its first
 * thread's have that flag.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/image_file.h"
#include "checkpoint/images_check.h"
#include "checkpoint/images_internal.h"
#include "util/cleanup.h"

#define TASK_DEAD 2 /* criu/include/pstree.h */
#define FILTERS_MOST (1u << 16)

struct filter {
	uint32_t prev, flags;
	bool has_prev;
};

struct filters {
	struct filter *v;
	size_t n;
	struct fault *f;
	const struct serve_files *files;
};

struct thread {
	uint32_t state, mode, last;
};

/* ---- seccomp.img */

static int read_filter(struct filter *to, struct pb m)
{
	struct pb_field field;
	int r;

	*to = (struct filter){ 0 };
	while ((r = pb_next(&m, &field)) > 0) {
		if (field.number == 2) {
			to->has_prev = true;
			r = pb_u32(&field, &to->prev);
		} else if (field.number == 3) {
			r = pb_u32(&field, &to->flags);
		}
		if (r < 0)
			return r;
	}
	return r;
}

static int read_filters(struct filters *all, struct img *img)
{
	struct pb_field field;
	struct pb message;
	int r = img_one(img, &message);

	if (r < 0)
		return r;
	while ((r = pb_next(&message, &field)) > 0) {
		struct filter *grown;

		if (field.number != 1)
			continue;
		if (!field.is_bytes || all->n == FILTERS_MOST)
			return img_damaged(img, "it has no filters, or too many");
		grown = reallocarray(all->v, all->n + 1, sizeof(*grown));
		if (!grown)
			return fault_sys(all->f, ENOMEM, "read", img->name);
		all->v = grown;
		if (read_filter(&all->v[all->n], pb_message(&field)) < 0)
			return img_damaged(img, "a filter is no message");
		/* backwards only: there is no circle */
		if (all->v[all->n].has_prev && all->v[all->n].prev >= all->n)
			return img_damaged(img, "a filter follows a later one");
		all->n++;
	}
	return r < 0 ? img_damaged(img, "it is no message") : 0;
}

static bool for_all_threads(const struct filters *all, uint32_t last)
{
	const struct filter *filter;

	do {
		if (last >= all->n)
			return false;
		filter = &all->v[last];
		if (!(filter->flags & SECCOMP_FILTER_FLAG_TSYNC))
			return false;
		last = filter->prev;
	} while (filter->has_prev);
	return true;
}

/* ---- core-TID.img */

static int read_parts(struct thread *t, struct pb m)
{
	struct pb_field field, inner;
	struct pb part;
	int r;

	while ((r = pb_next(&m, &field)) > 0) {
		if ((field.number != 3 && field.number != 5) || !field.is_bytes)
			continue;
		part = pb_message(&field);
		while ((r = pb_next(&part, &inner)) > 0) {
			if (field.number == 3 && inner.number == 1)
				r = pb_u32(&inner, &t->state);
			else if (field.number == 5 && inner.number == 11)
				r = pb_u32(&inner, &t->mode);
			else if (field.number == 5 && inner.number == 12)
				r = pb_u32(&inner, &t->last);
			if (r < 0)
				return r;
		}
		if (r < 0)
			return r;
	}
	return r;
}

static int read_thread(const struct filters *all, uint32_t tid, struct thread *t)
{
	const struct serve_file *file;
	struct pb message;
	struct img img;
	char name[32];
	int r;

	*t = (struct thread){ .last = UINT32_MAX };
	snprintf(name, sizeof(name), "core-%u.img", tid);
	file = ckpt_files_find(all->files, name);
	if (!file)
		return fault_set(all->f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint is not whole: it has no %s", name);
	r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_CORE, all->f);
	if (!r)
		r = img_one(&img, &message);
	if (!r && read_parts(t, message) < 0)
		r = img_damaged(&img, "it is no message");
	img_close(&img);
	return r;
}

/* ---- pstree.img */

/* 1 when the thread runs without a filter. */
static int other_thread(const struct filters *all, const struct thread *first, uint32_t tid)
{
	struct thread t;
	int r = read_thread(all, tid, &t);

	if (r < 0 || t.mode == SECCOMP_MODE_FILTER)
		return r;
	return first->mode != SECCOMP_MODE_FILTER || !for_all_threads(all, first->last);
}

/* One id or, packed, several. 1 when one of these threads runs without a filter. */
static int threads(const struct filters *all, const struct thread *first, uint32_t pid,
		   const struct pb_field *field)
{
	const uint8_t *p = field->data;
	uint64_t word = 0;
	unsigned shift = 0;
	int r = 0;

	if (!field->is_bytes)
		return field->value > UINT32_MAX ? -EBADMSG
		       : field->value == pid	 ? 0
						 : other_thread(all, first, (uint32_t)field->value);
	for (size_t i = 0; !r && i < field->size; i++) {
		if (shift > 28)
			return -EBADMSG;
		word |= (uint64_t)(p[i] & 0x7f) << shift;
		shift += 7;
		if (p[i] & 0x80)
			continue;
		if (word > UINT32_MAX)
			return -EBADMSG;
		if (word != pid)
			r = other_thread(all, first, (uint32_t)word);
		word = 0;
		shift = 0;
	}
	return r;
}

/* 1 when a thread of the task runs without a filter. */
static int task(const struct filters *all, struct img *img, struct pb m)
{
	struct pb again = m;
	struct pb_field field;
	struct thread first;
	uint32_t pid = 0;
	int r;

	while ((r = pb_next(&m, &field)) > 0)
		if (field.number == 1 && pb_u32(&field, &pid) < 0)
			return img_damaged(img, "it is no message");
	if (r < 0)
		return img_damaged(img, "it is no message");
	r = read_thread(all, pid, &first);
	if (r < 0 || first.state == TASK_DEAD)
		return r;
	if (first.mode != SECCOMP_MODE_FILTER)
		return 1;
	while ((r = pb_next(&again, &field)) > 0) {
		if (field.number != 5)
			continue;
		r = threads(all, &first, pid, &field);
		if (r == -EBADMSG && !all->f->code)
			return img_damaged(img, "it is no message");
		if (r)
			return r;
	}
	return r;
}

int images_without_seccomp(const struct serve_files *files, bool *without, struct fault *f)
{
	const struct serve_file *tree = ckpt_files_find(files, "pstree.img");
	const struct serve_file *file = ckpt_files_find(files, "seccomp.img");
	struct filters all = { .files = files, .f = f };
	struct pb message;
	struct img img;
	int r = 0;

	*without = !tree;
	f->code = 0;
	if (file) {
		r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_SECCOMP, f);
		if (!r)
			r = read_filters(&all, &img);
		img_close(&img);
	}
	if (r < 0 || !tree) {
		free(all.v);
		return r;
	}
	r = img_open(&img, tree, IMG_COMMON_MAGIC, IMG_PSTREE, f);
	while (!r && !*without && (r = img_next(&img, &message)) > 0) {
		r = task(&all, &img, message);
		*without = r > 0;
		r = r > 0 ? 0 : r;
	}
	img_close(&img);
	free(all.v);
	return r;
}
