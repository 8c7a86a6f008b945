// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a checkpoint: to JSON
 *
 *	{"version": 1,
 *	 "container": {"id", "namespace", "image", "runtime", "snapshotter", "labels", "spec"},
 *	 "created_at", "criu_version", "kernel", "davit_version",
 *	 "options": {"open_tcp", "external_unix_sockets", "shell_job", "file_locks", "link_remap",
 *		     "cgroups_mode", "empty_namespaces", "left_running"},
 *	 "mounts": [{"name", "key"?, "path", "kind", "root", "controllers", "read_only"}],
 *	 "mountpoints": [{"path", "folder"}],
 *	 "network": "host" | "shared" | "empty" | "dumped", "network_key"?, "network_rules"?,
 *	 "stdio": [stdin, stdout, stderr], "terminal", "tty", "user_namespace",
 *	 "stats": {…}}
 *
 * Members stand in this order, labels in the order of their keys, the spec as it came: so the same
 * record gives the same bytes, and the same digest. record_read.c has the way back.
 */
#include "checkpoint/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/record_internal.h"
#include "util/cleanup.h"

const char *const ckpt_net_names[CKPT_NETS] = {
	[CKPT_NET_HOST] = "host",
	[CKPT_NET_SHARED] = "shared",
	[CKPT_NET_EMPTY] = "empty",
	[CKPT_NET_DUMPED] = "dumped",
};

const struct ckpt_text ckpt_texts[CKPT_TEXTS] = {
	{ "image", offsetof(struct ckpt_record, image), true },
	{ "runtime", offsetof(struct ckpt_record, runtime), true },
	{ "snapshotter", offsetof(struct ckpt_record, snapshotter), true },
	{ "criu_version", offsetof(struct ckpt_record, criu_version), false },
	{ "kernel", offsetof(struct ckpt_record, kernel), false },
	{ "davit_version", offsetof(struct ckpt_record, davit_version), false },
};

const struct ckpt_flag ckpt_options[CKPT_OPTIONS] = {
	{ "open_tcp", offsetof(struct ckpt_record, open_tcp) },
	{ "external_unix_sockets", offsetof(struct ckpt_record, external_unix_sockets) },
	{ "shell_job", offsetof(struct ckpt_record, shell_job) },
	{ "file_locks", offsetof(struct ckpt_record, file_locks) },
	{ "link_remap", offsetof(struct ckpt_record, link_remap) },
	{ "left_running", offsetof(struct ckpt_record, left_running) },
};

bool ckpt_label_reserved(const char *key)
{
	static const char *const prefixes[] = { "containerd.io/", "davit." };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(key, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

void ckpt_record_init(struct ckpt_record *r)
{
	memset(r, 0, sizeof(*r));
}

void ckpt_record_clear(struct ckpt_record *r)
{
	free(r->id);
	free(r->ns);
	for (size_t i = 0; i < CKPT_TEXTS; i++)
		free(*ckpt_text_of(r, i));
	json_object_put(r->labels);
	json_object_put(r->spec);
	json_object_put(r->stats);
	free(r->cgroups_mode);
	for (size_t i = 0; i < r->n_empty; i++)
		free(r->empty_namespaces[i]);
	free(r->empty_namespaces);
	criu_mounts_clear(&r->mounts);
	for (size_t i = 0; i < r->n_mountpoints; i++)
		free(r->mountpoints[i].path);
	free(r->mountpoints);
	for (size_t i = 0; i < 3; i++)
		free(r->stdio[i]);
	free(r->net_key);
	free(r->tty);
	ckpt_record_init(r);
}

/* ---- building; a lack of memory is kept in `failed` and asked for at the end */

struct build {
	bool failed;
};

static json_object *made(struct build *b, json_object *value)
{
	b->failed |= !value;
	return value;
}

/* Takes value over. */
static void add(struct build *b, json_object *to, const char *key, json_object *value)
{
	if (b->failed || json_object_object_add(to, key, value) < 0) {
		b->failed = true;
		json_object_put(value);
	}
}

static void append(struct build *b, json_object *to, json_object *value)
{
	if (b->failed || json_object_array_add(to, value) < 0) {
		b->failed = true;
		json_object_put(value);
	}
}

static json_object *text(struct build *b, const char *value)
{
	return made(b, json_object_new_string(value ? value : ""));
}

static void add_text(struct build *b, json_object *to, const char *key, const char *value)
{
	add(b, to, key, text(b, value));
}

static void add_bool(struct build *b, json_object *to, const char *key, bool value)
{
	add(b, to, key, made(b, json_object_new_boolean(value)));
}

/* A tree that stays the record's; "{}" for none. */
static void add_tree(struct build *b, json_object *to, const char *key, json_object *tree)
{
	add(b, to, key, tree ? json_object_get(tree) : made(b, json_object_new_object()));
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_labels(struct build *b, json_object *to, json_object *labels)
{
	size_t n = labels ? (size_t)json_object_object_length(labels) : 0, i = 0;
	CLEANUP_FREE const char **keys = calloc(n + 1, sizeof(*keys));
	json_object *sorted = made(b, json_object_new_object());

	if (!keys)
		b->failed = true;
	if (!b->failed && labels) {
		json_object_object_foreach (labels, key, value) {
			(void)value;
			keys[i++] = key;
		}
		qsort(keys, n, sizeof(*keys), by_key);
	}
	for (i = 0; !b->failed && i < n; i++)
		if (!ckpt_label_reserved(keys[i]))
			add(b, sorted, keys[i],
			    json_object_get(json_object_object_get(labels, keys[i])));
	add(b, to, "labels", sorted);
}

static json_object *container(struct build *b, const struct ckpt_record *r)
{
	json_object *j = made(b, json_object_new_object());

	add_text(b, j, "id", r->id);
	add_text(b, j, "namespace", r->ns);
	for (size_t i = 0; i < CKPT_TEXTS; i++)
		if (ckpt_texts[i].of_container)
			add_text(b, j, ckpt_texts[i].name, *ckpt_text_of((void *)r, i));
	add_labels(b, j, r->labels);
	add_tree(b, j, "spec", r->spec);
	return j;
}

static json_object *options(struct build *b, const struct ckpt_record *r)
{
	json_object *j = made(b, json_object_new_object()), *list;

	for (size_t i = 0; i < CKPT_OPTIONS; i++)
		add_bool(b, j, ckpt_options[i].name, *ckpt_option_of((void *)r, i));
	add_text(b, j, "cgroups_mode", r->cgroups_mode);
	list = made(b, json_object_new_array());
	for (size_t i = 0; i < r->n_empty; i++)
		append(b, list, text(b, r->empty_namespaces[i]));
	add(b, j, "empty_namespaces", list);
	return j;
}

static json_object *mounts(struct build *b, const struct criu_mounts *m)
{
	json_object *list = made(b, json_object_new_array());

	for (size_t i = 0; !b->failed && i < m->n; i++) {
		json_object *j = made(b, json_object_new_object());

		add_text(b, j, "name", m->v[i].name);
		if (m->v[i].key)
			add_text(b, j, "key", m->v[i].key);
		add_text(b, j, "path", m->v[i].path);
		add_text(b, j, "kind", criu_mount_kind_name(m->v[i].kind));
		add_text(b, j, "root", m->v[i].root);
		add_text(b, j, "controllers", m->v[i].controllers);
		add_bool(b, j, "read_only", m->v[i].read_only);
		append(b, list, j);
	}
	return list;
}

static json_object *mountpoints(struct build *b, const struct ckpt_record *r)
{
	json_object *list = made(b, json_object_new_array());

	for (size_t i = 0; !b->failed && i < r->n_mountpoints; i++) {
		json_object *j = made(b, json_object_new_object());

		add_text(b, j, "path", r->mountpoints[i].path);
		add_bool(b, j, "folder", r->mountpoints[i].folder);
		append(b, list, j);
	}
	return list;
}

static json_object *stdio(struct build *b, const struct ckpt_record *r)
{
	json_object *list = made(b, json_object_new_array());

	for (size_t i = 0; i < 3; i++)
		append(b, list, text(b, r->stdio[i]));
	return list;
}

int ckpt_record_write(const struct ckpt_record *r, char **out, size_t *size)
{
	struct build b = { 0 };
	json_object *j = made(&b, json_object_new_object());
	const char *json;
	size_t length;

	add(&b, j, "version", made(&b, json_object_new_int(CKPT_RECORD_VERSION)));
	add(&b, j, "container", container(&b, r));
	add(&b, j, "created_at", made(&b, json_object_new_int64(r->created_at)));
	for (size_t i = 0; i < CKPT_TEXTS; i++)
		if (!ckpt_texts[i].of_container)
			add_text(&b, j, ckpt_texts[i].name, *ckpt_text_of((void *)r, i));
	add(&b, j, "options", options(&b, r));
	add(&b, j, "mounts", mounts(&b, &r->mounts));
	add(&b, j, "mountpoints", mountpoints(&b, r));
	add_text(&b, j, "network", ckpt_net_names[r->net]);
	if (r->net_key && *r->net_key)
		add_text(&b, j, "network_key", r->net_key);
	add(&b, j, "stdio", stdio(&b, r));
	add_bool(&b, j, "terminal", r->terminal);
	add_text(&b, j, "tty", r->tty);
	add_bool(&b, j, "user_namespace", r->user_ns);
	if (r->net_rules)
		add_bool(&b, j, "network_rules", true);
	add_tree(&b, j, "stats", r->stats);
	json = b.failed ? NULL
			: json_object_to_json_string_length(
				  j, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
				  &length);
	*out = json ? strndup(json, length) : NULL;
	if (*out)
		*size = length;
	json_object_put(j);
	return *out ? 0 : -ENOMEM;
}
