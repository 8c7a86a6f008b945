// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: a record of what they say
 *
 * podman's config.dump and spec.dump tell the container, runc's descriptors.json what the standard
 * streams were. What criu has to be handed at a restore stands in its own images: each mount that
 * came from outside with its key (runc and crun: the destination, and "/dev/null" for all masks by the
 * null device), a network namespace of outside with its. runc dumps others as empty ones, of
 * which there is no image then.
 *
 * The record is written down and read again as any other is (core/checkpoint_image.c), so every text
 * in it is held to the same rules.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/image_file.h"
#include "checkpoint/images_check.h"
#include "core/ckpt_formats.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/rfc3339.h"

#define IMG_NETNS 0x55933752u
#define NETNS_EXT_KEY 8 /* images/netdev.proto */

static int refuse(struct ckpt_incoming *g, const char *what, const char *why)
{
	return fault_set(g->c->f, FAULT_FAILED_PRECONDITION, 0, "the archive's %s: %s", what, why);
}

static int no_memory(struct ckpt_incoming *g)
{
	return checkpoint_no_memory(g->c->f);
}

static int parse(struct ckpt_incoming *g, const struct ckpt_document *d, const char *name,
		 json_type type, json_object **out)
{
	int r = json_parse(d->text, d->size, out, g->c->f);

	if (r == -ENOMEM)
		return no_memory(g);
	if (r < 0) {
		fault_prefix(g->c->f, "the archive's %s", name);
		g->c->f->code = FAULT_FAILED_PRECONDITION;
		return r;
	}
	if (json_object_is_type(*out, type))
		return 0;
	json_object_put(*out);
	*out = NULL;
	return refuse(g, name, type == json_type_array ? "it is no list" : "it is no object");
}

static int set(struct ckpt_incoming *g, char **to, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return no_memory(g);
	free(*to);
	*to = copy;
	return 0;
}

/* ---- the container */

/* A name for lists: podman's names are what our ids may be; its ids are, too. */
static int take_id(struct ckpt_incoming *g, json_object *config)
{
	const char *name = ckpt_json_get(config, "name");

	return set(g, &g->record.id, *name ? name : ckpt_json_get(config, "id"));
}

static int take_labels(struct ckpt_incoming *g, json_object *config)
{
	json_object *labels = json_object_object_get(config, "labels");

	if (!json_object_is_type(labels, json_type_object))
		return 0;
	g->record.labels = json_object_get(labels);
	return 0;
}

static int take_documents(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;
	CLEANUP(checkpoint_json_putp) json_object *config = NULL;
	json_object *process;
	int r = parse(g, &g->config, PODMAN_CONFIG, json_type_object, &config);

	if (!r)
		r = parse(g, &g->spec, PODMAN_SPEC, json_type_object, &k->spec);
	if (!r)
		r = take_id(g, config);
	if (!r)
		r = take_labels(g, config);
	if (!r)
		r = set(g, &k->image, ckpt_json_get(config, "rootfsImageName"));
	if (!r)
		r = set(g, &k->runtime, ckpt_json_get(config, "runtime"));
	if (r < 0)
		return r;
	if (rfc3339_parse(ckpt_json_get(config, "checkpointedTime"), &k->created_at) < 0 ||
	    k->created_at < 0)
		k->created_at = clock_now();
	process = json_object_object_get(k->spec, "process");
	if (json_object_is_type(process, json_type_object) &&
	    json_object_get_boolean(json_object_object_get(process, "terminal")))
		return refuse(g, PODMAN_SPEC,
			      "the container had a terminal of its runtime's, which cannot be "
			      "restored here");
	return 0;
}

static int take_streams(struct ckpt_incoming *g)
{
	CLEANUP(checkpoint_json_putp) json_object *list = NULL;
	int r;

	if (!g->descriptors.text)
		return 0;
	r = parse(g, &g->descriptors, PODMAN_DESCRIPTORS, json_type_array, &list);
	if (r < 0)
		return r;
	for (size_t i = 0; !r && i < 3; i++) {
		json_object *j = json_object_array_get_idx(list, i);
		const char *text = json_object_is_type(j, json_type_string)
					   ? json_object_get_string(j)
					   : "";

		if (!strncmp(text, "pipe:", 5))
			r = set(g, &g->record.stdio[i], text);
	}
	return r;
}

/* ---- mounts */

struct taking {
	struct ckpt_incoming *g;
	size_t room;
};

static bool is_folder(const struct ckpt_image_mount *m)
{
	static const char *const types[] = { "proc",   "sysfs",	 "tmpfs",  "devpts",
					     "mqueue", "cgroup", "cgroup2" };

	if (m->key && !strcmp(m->key, "/dev/null"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(m->type, types[i]))
			return !m->key || !strcmp(m->root, "/") || !strncmp(m->type, "cgroup", 6);
	return false;
}

static enum criu_mount_kind kind_of(const struct ckpt_image_mount *m)
{
	if (!strcmp(m->type, "cgroup") || !strcmp(m->type, "cgroup2"))
		return CRIU_MOUNT_CGROUP;
	if (!strcmp(m->key, "/dev/null"))
		return CRIU_MOUNT_NULL;
	return CRIU_MOUNT_BIND;
}

static int on_mount(void *user, const struct ckpt_image_mount *m)
{
	struct taking *t = user;
	struct ckpt_incoming *g = t->g;
	struct ckpt_record *k = &g->record;
	struct criu_mount *to = &k->mounts.v[k->mounts.n];
	struct ckpt_mountpoint *at = &k->mountpoints[k->n_mountpoints];

	if (!strcmp(m->path, "/"))
		return 0;
	/* further mount namespaces have the same ones */
	for (size_t i = 0; m->key && i < k->mounts.n; i++)
		if (!strcmp(k->mounts.v[i].path, m->path) && !strcmp(k->mounts.v[i].key, m->key))
			return 0;
	if (k->n_mountpoints == t->room)
		return fault_set(g->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint has more than %u mounts", LIMIT_CHECKPOINT_MOUNTS);
	at->path = strdup(m->path);
	at->folder = is_folder(m);
	k->n_mountpoints++;
	if (!at->path)
		return no_memory(g);
	if (!m->key)
		return 0;
	k->mounts.n++;
	to->kind = kind_of(m);
	to->key = strdup(m->key);
	to->path = strdup(m->path);
	to->root = strdup(to->kind == CRIU_MOUNT_CGROUP ? m->root : "/");
	to->controllers = strdup(!strcmp(m->type, "cgroup") ? m->options : "");
	to->read_only = m->read_only;
	return to->key && to->path && to->root && to->controllers ? 0 : no_memory(g);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct criu_mount *)a)->path, ((const struct criu_mount *)b)->path);
}

static int by_place(const void *a, const void *b)
{
	return strcmp(((const struct ckpt_mountpoint *)a)->path,
		      ((const struct ckpt_mountpoint *)b)->path);
}

/* On hosts with cgroup v1: the tmpfs that the hierarchies are mounted in. */
static bool holds_cgroups(const struct criu_mounts *all, const struct criu_mount *m)
{
	size_t n = strlen(m->path);

	for (size_t i = 0; i < all->n; i++)
		if (all->v[i].kind == CRIU_MOUNT_CGROUP && !strncmp(all->v[i].path, m->path, n) &&
		    all->v[i].path[n] == '/')
			return true;
	return false;
}

/* Parents first: a path sorts before all below it. */
static int take_mounts(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;
	struct taking t = { .g = g, .room = LIMIT_CHECKPOINT_MOUNTS };
	int r;

	k->mounts.v = calloc(t.room + 1, sizeof(*k->mounts.v));
	k->mountpoints = calloc(t.room + 1, sizeof(*k->mountpoints));
	if (!k->mounts.v || !k->mountpoints)
		return no_memory(g);
	r = ckpt_images_mounts(&g->files, on_mount, &t, g->c->f);
	if (r < 0)
		return r;
	qsort(k->mounts.v, k->mounts.n, sizeof(*k->mounts.v), by_path);
	qsort(k->mountpoints, k->n_mountpoints, sizeof(*k->mountpoints), by_place);
	for (size_t i = 0; i < k->mounts.n; i++)
		if (k->mounts.v[i].kind == CRIU_MOUNT_BIND &&
		    holds_cgroups(&k->mounts, &k->mounts.v[i]))
			k->mounts.v[i].kind = CRIU_MOUNT_CGROUP_ROOT;
	for (size_t i = 0; i < k->mounts.n; i++)
		snprintf(k->mounts.v[i].name, sizeof(k->mounts.v[i].name), "m%u",
			 (unsigned)i % 1000000);
	return 0;
}

/* ---- the network, and what else is seen in the images */

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* The key of a namespace of outside, "" for one that is in the images. */
static int read_netns(struct ckpt_incoming *g, const struct serve_file *file)
{
	struct pb_field field;
	struct pb message;
	struct img img;
	int r = img_open(&img, file, IMG_COMMON_MAGIC, IMG_NETNS, g->c->f);

	if (r < 0)
		return r;
	r = img_one(&img, &message);
	while (!r && (r = pb_next(&message, &field)) > 0) {
		CLEANUP_FREE char *key = NULL;
		const char *text;
		size_t n;

		r = 0;
		if (field.number != NETNS_EXT_KEY)
			continue;
		if (pb_text(&field, &text, &n) < 0) {
			r = -EBADMSG;
			break;
		}
		key = strndup(text, n);
		r = key ? set(g, &g->record.net_key, key) : no_memory(g);
	}
	if (r == -EBADMSG && !g->c->f->code)
		r = img_damaged(&img, "it is no message");
	img_close(&img);
	return r;
}

static int set_empty(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;

	k->empty_namespaces = calloc(1, sizeof(*k->empty_namespaces));
	if (!k->empty_namespaces)
		return no_memory(g);
	k->n_empty = 1;
	k->empty_namespaces[0] = strdup("net");
	return k->empty_namespaces[0] ? 0 : no_memory(g);
}

static int take_network(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;
	struct ckpt_tasks tasks;
	bool has = false;
	int r = ckpt_images_tasks(&g->files, &tasks, g->c->f);

	for (size_t i = 0; !r && i < g->files.n; i++)
		if (begins(g->files.v[i].name, "netns-")) {
			has = true;
			r = read_netns(g, &g->files.v[i]);
		}
	if (r < 0)
		return r;
	if (!(tasks.namespaces & CLONE_NEWNET))
		k->net = CKPT_NET_HOST;
	else if (k->net_key && *k->net_key)
		k->net = CKPT_NET_SHARED;
	else
		k->net = CKPT_NET_DUMPED;
	return k->net == CKPT_NET_DUMPED && !has ? set_empty(g) : 0;
}

static bool has_file(const struct ckpt_incoming *g, const char *name)
{
	for (size_t i = 0; i < g->files.n; i++)
		if (begins(g->files.v[i].name, name))
			return true;
	return false;
}

static void take_options(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;

	k->open_tcp = has_file(g, "tcp-stream-");
	k->file_locks = has_file(g, "filelocks");
	k->link_remap = has_file(g, "remap-fpath");
	k->user_ns = has_file(g, "userns-");
}

/* criu's images alone: nothing is known of the container. */
static int take_nothing(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;

	k->spec = json_object_new_object();
	k->created_at = clock_now();
	return k->spec ? set(g, &k->id, "criu") : no_memory(g);
}

static int make(struct ckpt_incoming *g)
{
	int r = g->podman ? take_documents(g) : take_nothing(g);

	if (!r)
		r = take_streams(g);
	if (!r)
		r = take_mounts(g);
	if (!r)
		r = take_network(g);
	take_options(g);
	return r;
}

int ckpt_import_record(struct ckpt_incoming *g)
{
	struct ckpt_record *k = &g->record;
	int r = 0;

	if (!g->has_record && g->record_text.text && !g->podman) {
		r = ckpt_record_read(k, g->record_text.text, g->record_text.size, g->c->f);
		g->has_record = !r;
	}
	if (!r && !g->has_record) {
		r = make(g);
		/* as any other: its texts are held to the same rules */
		if (!r) {
			CLEANUP_FREE char *text = NULL;
			size_t size;

			if (set(g, &k->ns, g->c->ns) < 0 || ckpt_record_write(k, &text, &size) < 0)
				return no_memory(g);
			ckpt_record_clear(k);
			r = ckpt_record_read(k, text, size, g->c->f);
		}
	}
	return r;
}
