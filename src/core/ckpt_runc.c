// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: criu's images as runc wants them
 *
 * runc and crun hand criu each mount of outside under its destination, and "/dev/null" for all masks
 * by the null device; a masked folder, and what holds cgroup's hierarchies, is a tmpfs of the container's own; a network namespace with
 * nothing in it but the loopback is none of the images, one of outside has the key extRootNetNS. So the
 * mounts' keys are written anew, and what davit hands in itself becomes what they have. All else stays
 * byte by byte.
 *
 * runc has criu move tasks to the cgroups that they were dumped in, which are davit's. That criu leaves
 * them where it is itself, which is their new container's cgroup, takes an inventory that says that criu was in theirs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/frames.h"
#include "checkpoint/image_file.h"
#include "core/ckpt_formats.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define IMG_NETNS 0x55933752u
#define NETNS_EXT_KEY 8 /* images/netdev.proto */

enum { /* images/mnt.proto */
       F_FSTYPE = 1,
       F_ROOT_DEV = 3,
       F_ROOT = 6,
       F_MOUNTPOINT,
       F_SOURCE,
       F_OPTIONS,
       F_EXT_MOUNT = 13,
       F_FSNAME,
       F_EXT_KEY = 18,
};
#define FS_TMPFS 5
#define PSTREE_PID 1 /* images/pstree.proto */
#define CORE_TC 3 /* images/core.proto */
#define TC_CG_SET 9
#define CORE_THREAD 5
#define THREAD_CG_SET 16
#define INVENTORY_CG_SET 5 /* images/inventory.proto */

struct own { /* a tmpfs that is to be the container's own */
	uint32_t device;
	const struct criu_mount *mount; /* the first one of it */
};

struct rewriting {
	struct store_call *c;
	struct checkpoint_read *read;
	struct own *own;
	size_t n_own;
};

struct out {
	struct fault *f;
	uint8_t *data;
	size_t n, room;
};

static int put(struct out *o, const void *data, size_t size)
{
	if (size > o->room - o->n) {
		size_t room = (o->n + size) * 2 + 256;
		uint8_t *grown = realloc(o->data, room);

		if (!grown)
			return checkpoint_no_memory(o->f);
		o->data = grown;
		o->room = room;
	}
	if (size)
		memcpy(o->data + o->n, data, size);
	o->n += size;
	return 0;
}

static int put_varint(struct out *o, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	do {
		bytes[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return put(o, bytes, n);
}

static int put_text(struct out *o, unsigned field, const char *text)
{
	int r = put_varint(o, field << 3 | 2);

	if (!r)
		r = put_varint(o, strlen(text));
	return r ? r : put(o, text, strlen(text));
}

/* ---- one mount */

static const struct criu_mount *find(const struct criu_mounts *mounts, const struct pb_field *key)
{
	for (size_t i = 0; i < mounts->n; i++) {
		const char *known = criu_mount_key(&mounts->v[i]);

		if (strlen(known) == key->size && !memcmp(known, key->data, key->size))
			return &mounts->v[i];
	}
	return NULL;
}

static const char *runc_key(const struct criu_mount *m)
{
	return m->kind == CRIU_MOUNT_NULL ? "/dev/null" : m->path;
}

static bool is_own(const struct criu_mount *m)
{
	return m->kind == CRIU_MOUNT_MASK || m->kind == CRIU_MOUNT_CGROUP_ROOT;
}

static bool dropped(const struct criu_mount *m, unsigned field)
{
	if (field == F_EXT_KEY || field == F_EXT_MOUNT)
		return true;
	return is_own(m) && (field == F_FSTYPE || field == F_ROOT || field == F_SOURCE ||
			     field == F_OPTIONS || field == F_FSNAME);
}

static int put_own_tmpfs(struct out *o)
{
	int r = put_varint(o, F_FSTYPE << 3);

	if (!r)
		r = put_varint(o, FS_TMPFS);
	if (!r)
		r = put_text(o, F_ROOT, "/");
	if (!r)
		r = put_text(o, F_SOURCE, "tmpfs");
	return r ? r : put_text(o, F_OPTIONS, "");
}

static int add_own(struct rewriting *w, uint32_t device, const struct criu_mount *m)
{
	struct own *grown;

	for (size_t i = 0; i < w->n_own; i++)
		if (w->own[i].device == device)
			return 0;
	grown = reallocarray(w->own, w->n_own + 1, sizeof(*grown));
	if (!grown)
		return checkpoint_no_memory(w->c->f);
	w->own = grown;
	grown[w->n_own++] = (struct own){ device, m };
	return 0;
}

/* Beside hierarchies of v1 runc mounts none of v2. */
static bool is_unified(const struct criu_mounts *mounts, const struct criu_mount *m)
{
	for (size_t i = 0; m->kind == CRIU_MOUNT_CGROUP && !*m->controllers && i < mounts->n; i++)
		if (mounts->v[i].kind == CRIU_MOUNT_CGROUP_ROOT)
			return true;
	return false;
}

/* 1: it is left out. */
static int rewrite_mount(struct rewriting *w, struct out *o, struct img *img, struct pb message)
{
	const struct criu_mounts *mounts = &w->read->record.mounts;
	uint32_t device = 0;
	const struct criu_mount *known = NULL;
	struct pb again = message;
	struct pb_field field;
	int r;

	while ((r = pb_next(&again, &field)) > 0) {
		if (field.number == F_EXT_KEY && field.is_bytes)
			known = find(mounts, &field);
		if (field.number == F_ROOT_DEV)
			device = (uint32_t)field.value;
	}
	if (r < 0)
		return img_damaged(img, "a mount is no message");
	if (!known)
		return put(o, message.p, (size_t)(message.end - message.p));
	if (is_unified(mounts, known))
		return 1;
	for (r = 0; !r;) {
		const uint8_t *begin = message.p;

		if (pb_next(&message, &field) <= 0)
			break;
		if (!dropped(known, field.number))
			r = put(o, begin, (size_t)(message.p - begin));
	}
	if (r < 0)
		return r;
	if (!is_own(known))
		return put_text(o, F_EXT_KEY, runc_key(known));
	r = add_own(w, device, known);
	return r ? r : put_own_tmpfs(o);
}

/* ---- files */

static void replace(struct serve_file *file, struct out *o)
{
	for (size_t i = 0; i < file->n_parts; i++) {
		fd_close(&file->parts[i].fd);
		frame_table_clear(&file->parts[i].table);
		free(file->parts[i].data);
	}
	file->parts[0] = (struct serve_part){
		.fd = -1, .size = o->n, .data = TAKE_PTR(o->data), .digest = ""
	};
	file->n_parts = 1;
}

static int put_head(struct out *o, uint32_t kind)
{
	const uint32_t magic[] = { IMG_COMMON_MAGIC, kind };

	return put(o, magic, sizeof(magic));
}

static int put_entry(struct out *o, const struct out *entry)
{
	uint32_t length = (uint32_t)entry->n;
	int r = put(o, &length, sizeof(length));

	return r ? r : put(o, entry->data, entry->n);
}

static int rewrite_mounts(struct rewriting *w, struct serve_file *file)
{
	struct store_call *c = w->c;
	struct out o = { .f = c->f }, entry = { .f = c->f };
	struct pb message;
	struct img img;
	int r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_MOUNTS, c->f);

	if (r < 0)
		return r;
	r = put_head(&o, IMG_MOUNTS);
	while (!r && (r = img_next(&img, &message)) > 0) {
		entry.n = 0;
		r = rewrite_mount(w, &entry, &img, message);
		r = r ? (r < 0 ? r : 0) : put_entry(&o, &entry);
	}
	img_close(&img);
	if (!r)
		replace(file, &o);
	free(o.data);
	free(entry.data);
	return r;
}

static int rewrite_net(struct store_call *c, struct serve_file *file)
{
	struct out o = { .f = c->f }, entry = { .f = c->f };
	struct pb message;
	struct pb_field field;
	struct img img;
	bool outside = false;
	int r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_NETNS, c->f);

	if (r < 0)
		return r;
	r = img_one(&img, &message);
	while (!r) {
		const uint8_t *begin = message.p;
		int step = pb_next(&message, &field);

		if (step < 0)
			r = img_damaged(&img, "it is no message");
		if (step <= 0)
			break;
		if (field.number == NETNS_EXT_KEY)
			outside = true;
		else
			r = put(&entry, begin, (size_t)(message.p - begin));
	}
	img_close(&img);
	if (!r && outside) {
		r = put_text(&entry, NETNS_EXT_KEY, RUNC_NET_KEY);
		if (!r)
			r = put_head(&o, IMG_NETNS);
		if (!r)
			r = put_entry(&o, &entry);
		if (!r)
			replace(file, &o);
	}
	free(o.data);
	free(entry.data);
	return r;
}

/* A number in the only, or first, entry of a file; a message in it when `within` is not 0. */
static int find_number(struct store_call *c, const struct serve_file *file, uint32_t common,
		       uint32_t magic, uint32_t within, uint32_t number, uint32_t *out)
{
	struct pb_field field;
	struct pb message;
	struct img img;
	int r = img_open(&img, file, common, magic, c->f);

	*out = 0;
	if (r < 0)
		return r;
	r = img_next(&img, &message);
	while (r > 0 && (r = pb_next(&message, &field)) > 0) {
		if (within && field.number == within && field.is_bytes) {
			message = pb_message(&field);
			within = 0;
		} else if (!within && field.number == number) {
			*out = (uint32_t)field.value;
			break;
		}
	}
	if (r == -EBADMSG)
		img_damaged(&img, "it is no message");
	img_close(&img);
	return r < 0 ? r : 0;
}

static int find_cg_set(struct rewriting *w, uint32_t *set)
{
	const struct serve_files *files = &w->read->files;
	const struct serve_file *tree = ckpt_files_find(files, "pstree.img"), *core;
	char name[32];
	uint32_t pid;
	int r;

	*set = 0;
	if (!tree)
		return 0;
	r = find_number(w->c, tree, IMG_COMMON_MAGIC, IMG_PSTREE, 0, PSTREE_PID, &pid);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "core-%u.img", pid);
	core = ckpt_files_find(files, name);
	if (!core)
		return 0;
	r = find_number(w->c, core, IMG_COMMON_MAGIC, IMG_CORE, CORE_THREAD, THREAD_CG_SET, set);
	if (r < 0 || *set)
		return r;
	/* where an older criu has it */
	return find_number(w->c, core, IMG_COMMON_MAGIC, IMG_CORE, CORE_TC, TC_CG_SET, set);
}

static int rewrite_inventory(struct rewriting *w, struct serve_file *file, uint32_t set)
{
	struct out o = { .f = w->c->f }, entry = { .f = w->c->f };
	const uint32_t magic = IMG_INVENTORY;
	struct pb message;
	struct pb_field field;
	struct img img;
	int r = img_open(&img, file, 0, IMG_INVENTORY, w->c->f);

	if (r < 0)
		return r;
	r = img_one(&img, &message);
	while (!r) {
		const uint8_t *begin = message.p;
		int step = pb_next(&message, &field);

		if (step < 0)
			r = img_damaged(&img, "it is no message");
		if (step <= 0)
			break;
		if (field.number != INVENTORY_CG_SET)
			r = put(&entry, begin, (size_t)(message.p - begin));
	}
	img_close(&img);
	if (!r)
		r = put_varint(&entry, INVENTORY_CG_SET << 3);
	if (!r)
		r = put_varint(&entry, set);
	if (!r)
		r = put(&o, &magic, sizeof(magic));
	if (!r)
		r = put_entry(&o, &entry);
	if (!r)
		replace(file, &o);
	free(o.data);
	free(entry.data);
	return r;
}

static int drop(struct serve_files *files, size_t i, struct fault *f)
{
	struct serve_files one = { .v = calloc(1, sizeof(*one.v)), .n = 1 };

	if (!one.v)
		return checkpoint_no_memory(f);
	one.v[0] = files->v[i];
	memmove(&files->v[i], &files->v[i + 1], (files->n - i - 1) * sizeof(*files->v));
	files->n--;
	serve_files_clear(&one);
	return 0;
}

struct gather {
	char *data;
	size_t n;
};

static int gather(void *user, const void *data, size_t size, struct fault *f)
{
	struct gather *g = user;
	char *grown = realloc(g->data, g->n + size + 1);

	if (!grown)
		return checkpoint_no_memory(f);
	g->data = grown;
	memcpy(grown + g->n, data, size);
	g->n += size;
	return 0;
}

/* The folders on which hierarchies are mounted. */
static int put_folders(struct rewriting *w, const struct criu_mount *m, struct ckpt_tar *tar)
{
	const struct criu_mounts *all = &w->read->record.mounts;
	size_t n = strlen(m->path);
	int r = 0;

	for (size_t i = 0; !r && m->kind == CRIU_MOUNT_CGROUP_ROOT && i < all->n; i++) {
		const struct criu_mount *h = &all->v[i];

		if (h->kind == CRIU_MOUNT_CGROUP && !strncmp(h->path, m->path, n) &&
		    h->path[n] == '/')
			r = ckpt_tar_folder(tar, h->path + n + 1);
	}
	return r;
}

/* criu wants an image of what is in a tmpfs: a tar. */
static int add_tmpfs(struct rewriting *w, const struct own *own)
{
	struct serve_files *files = &w->read->files;
	struct gather g = { 0 };
	struct ckpt_tar *tar;
	uint64_t size;
	char name[64];
	int r;

	snprintf(name, sizeof(name), "tmpfs-dev-%u.tar.gz.img", own->device);
	if (ckpt_files_find(files, name))
		return 0;
	r = ckpt_tar_new(&tar, w->c, -1, LAYER_GZIP);
	if (r < 0)
		return r;
	ckpt_tar_tap(tar, gather, &g);
	r = put_folders(w, own->mount, tar);
	if (!r)
		r = ckpt_tar_close(tar, &size);
	ckpt_tar_free(tar);
	if (!r && ckpt_files_add_data(files, name, TAKE_PTR(g.data), g.n) < 0)
		r = checkpoint_no_memory(w->c->f);
	free(g.data);
	if (!r)
		ckpt_files_sort(files);
	return r;
}

int ckpt_runc_images(struct store_call *c, struct checkpoint_read *read)
{
	struct rewriting w = { .c = c, .read = read };
	struct serve_files *files = &read->files;
	uint32_t set;
	int r = find_cg_set(&w, &set);

	for (size_t i = files->n; !r && i-- > 0;) {
		struct serve_file *file = &files->v[i];

		if (!strncmp(file->name, "mountpoints-", 12))
			r = rewrite_mounts(&w, file);
		else if (!strcmp(file->name, CHECKPOINT_INVENTORY) && set)
			r = rewrite_inventory(&w, file, set);
		else if (!strncmp(file->name, "netns-", 6) && read->record.net == CKPT_NET_EMPTY)
			r = drop(files, i, c->f);
		else if (!strncmp(file->name, "netns-", 6))
			r = rewrite_net(c, file);
	}
	for (size_t i = 0; !r && i < w.n_own; i++)
		r = add_tmpfs(&w, &w.own[i]);
	free(w.own);
	return r;
}
