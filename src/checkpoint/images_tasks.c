// SPDX-License-Identifier: Apache-2.0
/*
 * What the restored tasks would be allowed
 *
 * images/core.proto, images/creds.proto, images/inventory.proto, images/userns.proto,
 * criu/pstree.c. criu gives each thread
 * the credentials of its core-TID.img, and each task those namespaces whose ids (ids-PID.img) are not
 * its parent's; the first task's are compared with the inventory's, which are those of the criu that
 * dumped. So images that give a task the inventory's id would have it restored into the namespace
 * that criu itself is in.
 *
 * Nothing may be left to criu's ways with old images: credentials and ids must be where they are
 * today.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/image_file.h"
#include "checkpoint/images_check.h"
#include "checkpoint/images_internal.h"
#include "util/cleanup.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define TASK_DEAD 2 /* criu/include/pstree.h */
#define CAP_WORDS 2

/* ---- ids */

/* Field 5 + i of task_kobj_ids_entry. */
static const uint64_t namespaces[] = {
	CLONE_NEWPID, CLONE_NEWNET,  CLONE_NEWIPC,    CLONE_NEWUTS,
	CLONE_NEWNS,  CLONE_NEWUSER, CLONE_NEWCGROUP, CLONE_NEWTIME,
};
#define N_NAMESPACES ARRAY_SIZE(namespaces)

struct ids {
	uint32_t v[N_NAMESPACES]; /* 0: not given */
};

static int read_ids(struct ids *ids, struct pb m)
{
	struct pb_field field;
	int r;

	*ids = (struct ids){ 0 };
	while ((r = pb_next(&m, &field)) > 0) {
		uint32_t *v;

		if (field.number < 5 || field.number >= 5 + N_NAMESPACES)
			continue;
		v = &ids->v[field.number - 5];
		if (*v || pb_u32(&field, v) < 0)
			return -EBADMSG;
	}
	return r;
}

static uint64_t own_namespaces(const struct ids *ids, const struct ids *outside)
{
	uint64_t own = 0;

	for (size_t i = 0; i < N_NAMESPACES; i++)
		if (ids->v[i] && ids->v[i] != outside->v[i])
			own |= namespaces[i];
	return own;
}

/* ---- the inventory */

static int read_outside(const struct serve_files *files, struct ids *outside, struct fault *f)
{
	const struct serve_file *file = ckpt_files_find(files, "inventory.img");
	struct pb_field field;
	struct pb message;
	unsigned found = 0;
	struct img img;
	int r;

	if (!file)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint is not whole: it has no inventory.img");
	r = img_open(&img, file, 0, IMG_INVENTORY, f);
	if (!r)
		r = img_one(&img, &message);
	if (r < 0) {
		img_close(&img);
		return r;
	}
	while ((r = pb_next(&message, &field)) > 0) {
		if (field.number != 3)
			continue;
		r = field.is_bytes && !found++ ? read_ids(outside, pb_message(&field)) : -EBADMSG;
		if (r < 0)
			break;
	}
	if (r < 0)
		r = img_damaged(&img, "it is no message");
	else if (!found)
		r = img_damaged(&img, "it does not say which namespaces were outside");
	img_close(&img);
	return r;
}

/* ---- threads */

struct creds {
	uint64_t caps;
	uint32_t no_new_privs;
	bool root;
};

#define UIDS (1u << 1 | 1u << 3 | 1u << 5 | 1u << 7) /* uid, euid, suid, fsuid */

/* A word of a set: field 9 to 12 or 19, repeated, and maybe packed. */
static int take_cap(struct creds *c, uint64_t word, unsigned *at)
{
	if (*at >= CAP_WORDS || word > UINT32_MAX)
		return -EBADMSG;
	c->caps |= word << (32 * (*at)++);
	return 0;
}

static int take_caps(struct creds *c, const struct pb_field *field, unsigned *at)
{
	const uint8_t *p = field->data;
	uint64_t word = 0;
	unsigned shift = 0;

	if (!field->is_bytes)
		return take_cap(c, field->value, at);
	for (size_t i = 0; i < field->size; i++) {
		if (shift > 28)
			return -EBADMSG;
		word |= (uint64_t)(p[i] & 0x7f) << shift;
		shift += 7;
		if (p[i] & 0x80)
			continue;
		if (take_cap(c, word, at) < 0)
			return -EBADMSG;
		word = 0;
		shift = 0;
	}
	return shift ? -EBADMSG : 0;
}

static int read_creds(struct creds *c, struct pb m)
{
	unsigned at[20] = { 0 };
	struct pb_field field;
	int r;

	*c = (struct creds){ 0 };
	while ((r = pb_next(&m, &field)) > 0) {
		uint32_t uid = 1;

		if (field.number <= 7 && UIDS & 1u << field.number) {
			r = pb_u32(&field, &uid);
			c->root |= !uid;
		} else if ((field.number >= 9 && field.number <= 12) || field.number == 19)
			r = take_caps(c, &field, &at[field.number]);
		else if (field.number == 18)
			r = at[18]++ ? -EBADMSG : pb_u32(&field, &c->no_new_privs);
		if (r < 0)
			return r;
	}
	return r;
}

struct core {
	struct creds creds;
	struct ids ids;
	uint32_t state;
	bool has_creds, has_ids;
};

static int read_task(struct core *core, struct pb m)
{
	struct pb_field field;
	int r;

	while ((r = pb_next(&m, &field)) > 0)
		if (field.number == 1 && (core->state || pb_u32(&field, &core->state) < 0))
			return -EBADMSG;
	return r;
}

static int read_thread(struct core *core, struct pb m)
{
	struct pb_field field;
	unsigned modes = 0;
	int r;

	while ((r = pb_next(&m, &field)) > 0) {
		if (field.number == 10) {
			r = core->has_creds || !field.is_bytes
				    ? -EBADMSG
				    : read_creds(&core->creds, pb_message(&field));
			core->has_creds = true;
		} else if (field.number == 11 && modes++) {
			r = -EBADMSG;
		}
		if (r < 0)
			return r;
	}
	return r;
}

static int read_core(struct core *core, struct pb m)
{
	struct pb_field field;
	unsigned seen = 0;
	int r;

	*core = (struct core){ 0 };
	while ((r = pb_next(&m, &field)) > 0) {
		if (field.number < 3 || field.number > 5)
			continue;
		if (!field.is_bytes || seen & 1u << field.number)
			return -EBADMSG;
		seen |= 1u << field.number;
		if (field.number == 3)
			r = read_task(core, pb_message(&field));
		else if (field.number == 5)
			r = read_thread(core, pb_message(&field));
		else
			r = read_ids(&core->ids, pb_message(&field));
		if (r < 0)
			return r;
	}
	core->has_ids = seen & 1u << 4;
	return r;
}

static int add_core(struct ckpt_tasks *out, const struct serve_file *file,
		    const struct ids *outside, struct fault *f)
{
	struct pb message;
	struct core core;
	struct img img;
	int r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_CORE, f);

	if (!r)
		r = img_one(&img, &message);
	if (!r && read_core(&core, message) < 0)
		r = img_damaged(&img, "it is no message");
	if (!r && core.state != TASK_DEAD && !core.has_creds)
		r = img_damaged(&img, "it does not say what the task may do");
	img_close(&img);
	if (r)
		return r;
	out->n++;
	if (core.has_ids)
		out->namespaces &= own_namespaces(&core.ids, outside);
	if (core.state == TASK_DEAD)
		return 0;
	out->caps |= core.creds.caps;
	out->root |= core.creds.root;
	out->without_no_new_privs |= !core.creds.no_new_privs;
	return 0;
}

static int add_ids(struct ckpt_tasks *out, const struct serve_file *file, const struct ids *outside,
		   struct fault *f)
{
	struct pb message;
	struct ids ids;
	struct img img;
	int r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_IDS, f);

	if (!r)
		r = img_one(&img, &message);
	if (!r && read_ids(&ids, message) < 0)
		r = img_damaged(&img, "it is no message");
	img_close(&img);
	if (!r)
		out->namespaces &= own_namespaces(&ids, outside);
	return r;
}

/* ---- the tree of tasks: the first one must have ids, or it gets criu's namespaces */

static int check_task(const struct serve_files *files, struct img *img, struct pb m)
{
	uint32_t pid = 0, parent = 0, *to;
	unsigned seen = 0;
	struct pb_field field;
	char name[32];
	int r;

	while ((r = pb_next(&m, &field)) > 0) {
		if (field.number != 1 && field.number != 2)
			continue;
		to = field.number == 1 ? &pid : &parent;
		if (seen & field.number || pb_u32(&field, to) < 0)
			return img_damaged(img, "it is no message");
		seen |= field.number;
	}
	if (r < 0 || seen != 3)
		return img_damaged(img, "it is no message");
	snprintf(name, sizeof(name), "core-%u.img", pid);
	if (!ckpt_files_find(files, name))
		return img_damaged(img, "a task of it has no core-PID.img");
	snprintf(name, sizeof(name), "ids-%u.img", pid);
	if (!parent && !ckpt_files_find(files, name))
		return img_damaged(img, "its first task has no ids-PID.img");
	return !parent;
}

static int check_tree(const struct serve_files *files, struct fault *f)
{
	const struct serve_file *file = ckpt_files_find(files, "pstree.img");
	struct pb message;
	unsigned firsts = 0;
	struct img img;
	int r;

	if (!file)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint is not whole: it has no pstree.img");
	r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_PSTREE, f);
	if (r < 0)
		return r;
	while ((r = img_next(&img, &message)) > 0) {
		r = check_task(files, &img, message);
		if (r < 0)
			break;
		firsts += r > 0;
	}
	if (!r && firsts != 1)
		r = img_damaged(&img, "it has not one first task");
	img_close(&img);
	return r;
}

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

int ckpt_images_tasks(const struct serve_files *files, struct ckpt_tasks *out, struct fault *f)
{
	struct ids outside = { 0 };
	int r = read_outside(files, &outside, f);

	*out = (struct ckpt_tasks){ 0 };
	for (size_t i = 0; i < N_NAMESPACES; i++)
		out->namespaces |= namespaces[i];
	if (!r)
		r = check_tree(files, f);
	for (size_t i = 0; !r && i < files->n; i++) {
		if (begins(files->v[i].name, "core-"))
			r = add_core(out, &files->v[i], &outside, f);
		else if (begins(files->v[i].name, "ids-"))
			r = add_ids(out, &files->v[i], &outside, f);
	}
	if (!r && !out->n)
		r = fault_set(f, FAULT_FAILED_PRECONDITION, 0, "the checkpoint has no tasks");
	return r < 0 ? r : images_without_seccomp(files, &out->without_seccomp, f);
}

/* ---- user namespaces */

static int read_map(struct ckpt_id_map *map, struct pb m)
{
	uint32_t v[4] = { 0 };
	struct pb_field field;
	unsigned seen = 0;
	int r;

	while ((r = pb_next(&m, &field)) > 0) {
		if (field.number > 3)
			continue;
		if (seen & 1u << field.number || pb_u32(&field, &v[field.number]) < 0)
			return -EBADMSG;
		seen |= 1u << field.number;
	}
	*map = (struct ckpt_id_map){ v[1], v[2], v[3] };
	return r < 0 || seen != 0xe ? -EBADMSG : 0;
}

static bool lies_within(const struct ckpt_id_map *map, const struct ckpt_id_map *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t end = (uint64_t)map->inside + map->count;

		if (map->inside >= v[i].inside && end <= (uint64_t)v[i].inside + v[i].count &&
		    map->outside - v[i].outside == map->inside - v[i].inside)
			return true;
	}
	return false;
}

struct maps {
	const struct ckpt_id_map *v[2]; /* of users, of groups */
	size_t n[2];
};

static int check_maps(struct img *img, struct pb m, const struct maps *allowed)
{
	struct ckpt_id_map map;
	struct pb_field field;
	int r;

	while ((r = pb_next(&m, &field)) > 0) {
		size_t which = field.number - 1;

		if (which > 1)
			continue;
		if (!field.is_bytes || read_map(&map, pb_message(&field)) < 0)
			return img_damaged(img, "it is no message");
		if (!lies_within(&map, allowed->v[which], allowed->n[which]))
			return fault_set(img->f, FAULT_FAILED_PRECONDITION, 0,
					 "the checkpoint maps %s %u and on to %u, which the "
					 "container's spec does not",
					 which ? "group" : "user", map.inside, map.outside);
	}
	return r < 0 ? img_damaged(img, "it is no message") : 0;
}

int ckpt_images_user_maps(const struct serve_files *files, const struct ckpt_id_map *uids,
			  size_t n_uids, const struct ckpt_id_map *gids, size_t n_gids,
			  struct fault *f)
{
	const struct maps allowed = { { uids, gids }, { n_uids, n_gids } };
	int r = 0;

	for (size_t i = 0; !r && i < files->n; i++) {
		struct pb message = { 0 };
		struct img img;

		if (!begins(files->v[i].name, "userns-"))
			continue;
		if (!n_uids && !n_gids)
			return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
					 "the checkpoint has a user namespace, but the container's "
					 "spec has none");
		r = img_open(&img, &files->v[i], IMG_COMMON_MAGIC, IMG_USER_NS, f);
		if (!r)
			r = img_one(&img, &message);
		if (!r)
			r = check_maps(&img, message, &allowed);
		img_close(&img);
	}
	return r;
}
