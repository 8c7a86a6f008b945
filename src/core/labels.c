// SPDX-License-Identifier: Apache-2.0
/*
 * Labels
 *
 * An array, searched in order: objects have few labels, at most LIMIT_LABELS. Each label is one
 * block that holds key and value.
 */
#include "core/labels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/limits.h"
#include "util/mp.h"

void labels_clear(struct labels *l)
{
	for (size_t i = 0; i < l->n; i++)
		free((char *)l->v[i].key);
	free(l->v);
	l->v = NULL;
	l->n = 0;
}

static struct db_label *labels_find(const struct labels *l, const char *key, size_t size)
{
	for (struct db_label *e = l->v; e && e < l->v + l->n; e++)
		if (!strncmp(e->key, key, size) && !e->key[size])
			return e;
	return NULL;
}

static void labels_remove(struct labels *l, struct db_label *e)
{
	free((char *)e->key);
	memmove(e, e + 1, (size_t)(l->v + l->n - (e + 1)) * sizeof(*e));
	l->n--;
}

int labels_set(struct labels *l, const char *key, size_t key_size, const char *value,
	       size_t value_size)
{
	struct db_label *e = labels_find(l, key, key_size), *grown;
	char *text;

	if (!value_size) {
		if (e)
			labels_remove(l, e);
		return 0;
	}
	if (!e && l->n >= LIMIT_LABELS)
		return -E2BIG;
	text = malloc(key_size + value_size + 2);
	if (!text)
		return -ENOMEM;
	memcpy(text, key, key_size);
	text[key_size] = 0;
	memcpy(text + key_size + 1, value, value_size);
	text[key_size + 1 + value_size] = 0;
	if (e) {
		free((char *)e->key);
	} else {
		grown = realloc(l->v, (l->n + 1) * sizeof(l->v[0]));
		if (!grown) {
			free(text);
			return -ENOMEM;
		}
		l->v = grown;
		e = &grown[l->n++];
	}
	e->key = text;
	e->value = text + key_size + 1;
	return 0;
}

int labels_copy(struct labels *to, const struct db_label *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = labels_set(to, v[i].key, strlen(v[i].key), v[i].value, strlen(v[i].value));

		if (r < 0)
			return r;
	}
	return 0;
}

int labels_set_mp(struct labels *l, const msgpack_object *map)
{
	if (!map || map->type != MSGPACK_OBJECT_MAP)
		return 0;
	for (uint32_t i = 0; i < map->via.map.size; i++) {
		const msgpack_object_kv *kv = &map->via.map.ptr[i];
		const char *key, *value;
		size_t key_size, value_size;
		int r;

		if (!mp_str(&kv->key, &key, &key_size) || !mp_str(&kv->val, &value, &value_size))
			return -EINVAL;
		r = labels_set(l, key, key_size, value, value_size);
		if (r < 0)
			return r;
	}
	return 0;
}

int labels_update(struct labels *l, const msgpack_object *given, const char *const *mask,
		  size_t n_mask)
{
	bool all = !n_mask && given;
	int r;

	for (size_t i = 0; i < n_mask; i++)
		if (!strcmp(mask[i], "labels"))
			all = true;
	if (all) {
		labels_clear(l);
		return labels_set_mp(l, given);
	}
	for (size_t i = 0; i < n_mask; i++) {
		const char *key = mask[i] + strlen("labels."), *value = "";
		const msgpack_object *o;
		size_t size = 0;

		if (strncmp(mask[i], "labels.", strlen("labels.")))
			continue;
		o = given ? mp_get(given, key) : NULL;
		if (o && !mp_str(o, &value, &size))
			return -EINVAL;
		r = labels_set(l, key, strlen(key), value, size);
		if (r < 0)
			return r;
	}
	return 0;
}

void labels_change(struct labels_change *c, const struct db_label *v, size_t n)
{
	size_t n_mask;
	const char *const *mask = ipc_arg_strs(c->req, "mask", &n_mask);

	c->result = labels_copy(&c->labels, v, n);
	if (!c->result)
		c->result = labels_update(&c->labels, ipc_arg(c->req, "labels"), mask, n_mask);
}

int labels_fault(int r, struct fault *f)
{
	if (r == -E2BIG)
		fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0, "more than %u labels", LIMIT_LABELS);
	else
		fault_sys(f, -r, "change", "labels");
	fault_arg(f, "labels");
	return r;
}

void labels_refuse(struct ipc_request *req, int r)
{
	if (r == -E2BIG)
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, "labels", "more than %u labels",
				LIMIT_LABELS);
	else if (r == -EINVAL)
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "labels", "a label is not text");
	else
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, "labels",
				"no memory for the labels");
}

const char *labels_get(const struct db_label *v, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i].key, key))
			return v[i].value;
	return NULL;
}

void labels_pack(msgpack_packer *pk, const struct db_label *v, size_t n)
{
	msgpack_pack_map(pk, n);
	for (size_t i = 0; i < n; i++)
		mp_pack_key_str(pk, v[i].key, v[i].value);
}

/* Whether the parts, joined by dots, are the text. */
static bool path_is(const char *const *path, size_t n, const char *text)
{
	for (size_t i = 0; i < n; i++) {
		size_t size = strlen(path[i]);

		if (strncmp(text, path[i], size))
			return false;
		text += size;
		if (i + 1 < n && *text++ != '.')
			return false;
	}
	return !*text;
}

bool labels_field(const struct db_label *v, size_t n_labels, const char *const *path, size_t n,
		  const char **value)
{
	for (size_t i = 0; n && i < n_labels; i++) {
		if (path_is(path, n, v[i].key)) {
			*value = v[i].value;
			return true;
		}
	}
	return false;
}
