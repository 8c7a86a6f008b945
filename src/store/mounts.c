// SPDX-License-Identifier: Apache-2.0
/*
 * Mounts as containerd writes them: lists, from and to msgpack
 *
 * A list owns all of its texts. What a mount means is known by mounts_open.c alone; here it is
 * only kept. A list that failed half way is cleared by its owner, as any other.
 */
#include "store/mounts.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/limits.h"
#include "util/mp.h"

static void mount_clear(struct store_mount *m)
{
	for (size_t i = 0; i < m->n_options; i++)
		free(m->options[i]);
	free(m->options);
	free(m->type);
	free(m->source);
	free(m->target);
	memset(m, 0, sizeof(*m));
}

void store_mounts_clear(struct store_mounts *m)
{
	for (size_t i = 0; i < m->n; i++)
		mount_clear(&m->v[i]);
	free(m->v);
	memset(m, 0, sizeof(*m));
}

/* An empty one at the end. */
static struct store_mount *grow(struct store_mounts *m)
{
	struct store_mount *v = realloc(m->v, (m->n + 1) * sizeof(*v));

	if (!v)
		return NULL;
	m->v = v;
	memset(&v[m->n], 0, sizeof(*v));
	return &v[m->n++];
}

struct store_mount *store_mounts_add(struct store_mounts *m, const char *type, const char *source,
				     const char *target)
{
	struct store_mount *one = grow(m);

	if (!one)
		return NULL;
	one->type = strdup(type);
	one->source = strdup(source);
	one->target = strdup(target);
	if (one->type && one->source && one->target)
		return one;
	mount_clear(one);
	m->n--;
	return NULL;
}

/* Takes the text over, also when it fails. */
static int add_option(struct store_mount *m, char *text)
{
	char **v = realloc(m->options, (m->n_options + 1) * sizeof(*v));

	if (!v) {
		free(text);
		return -ENOMEM;
	}
	m->options = v;
	v[m->n_options++] = text;
	return 0;
}

int store_mount_option(struct store_mount *m, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? -ENOMEM : add_option(m, text);
}

/* ---- from and to msgpack */

static int wrong(struct fault *f, size_t i, const char *what)
{
	int r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "mount %zu: %s", i, what);

	fault_arg(f, "mounts");
	return r;
}

static int no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "keep the mounts");
}

/* An absent text is "". */
static int read_text(const msgpack_object *map, const char *key, size_t i, char **out,
		     struct fault *f)
{
	const msgpack_object *o = mp_get(map, key);
	char what[64];

	*out = o ? mp_strdup(o) : strdup("");
	if (*out)
		return 0;
	if (errno == ENOMEM)
		return no_memory(f);
	snprintf(what, sizeof(what), "`%s` has to be a text without NUL", key);
	return wrong(f, i, what);
}

static int read_options(const msgpack_object *list, size_t i, struct store_mount *m,
			struct fault *f)
{
	if (!list)
		return 0;
	if (list->type != MSGPACK_OBJECT_ARRAY)
		return wrong(f, i, "`options` has to be a list of texts");
	if (list->via.array.size > LIMIT_MOUNT_OPTIONS)
		return wrong(f, i, "it has too many options");
	for (uint32_t k = 0; k < list->via.array.size; k++) {
		char *text = mp_strdup(&list->via.array.ptr[k]);

		if (!text && errno != ENOMEM)
			return wrong(f, i, "`options` has to be a list of texts without NUL");
		if (!text || add_option(m, text) < 0)
			return no_memory(f);
	}
	return 0;
}

static int read_one(const msgpack_object *map, size_t i, struct store_mount *m, struct fault *f)
{
	int r;

	if (!mp_is_map(map))
		return wrong(f, i, "it has to be a map {type, source, target, options}");
	if (map->type == MSGPACK_OBJECT_MAP)
		for (uint32_t k = 0; k < map->via.map.size; k++) {
			const msgpack_object *key = &map->via.map.ptr[k].key;

			if (!mp_eq(key, "type") && !mp_eq(key, "source") && !mp_eq(key, "target") &&
			    !mp_eq(key, "options"))
				return wrong(f, i,
					     "it has a member other than type, source, "
					     "target and options");
		}
	r = read_text(map, "type", i, &m->type, f);
	if (!r)
		r = read_text(map, "source", i, &m->source, f);
	if (!r)
		r = read_text(map, "target", i, &m->target, f);
	if (!r)
		r = read_options(mp_get(map, "options"), i, m, f);
	return r;
}

int store_mounts_read(struct store_mounts *m, const msgpack_object *list, struct fault *f)
{
	if (!list || list->type != MSGPACK_OBJECT_ARRAY) {
		int r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "the mounts have to be a list");

		fault_arg(f, "mounts");
		return r;
	}
	if (list->via.array.size > LIMIT_SPEC_MOUNTS)
		return wrong(f, LIMIT_SPEC_MOUNTS, "there are too many of them");
	for (uint32_t i = 0; i < list->via.array.size; i++) {
		struct store_mount *one = grow(m);
		int r = one ? read_one(&list->via.array.ptr[i], i, one, f) : no_memory(f);

		if (r < 0)
			return r;
	}
	return 0;
}

void store_mounts_pack(msgpack_packer *pk, const struct store_mounts *m)
{
	msgpack_pack_array(pk, m->n);
	for (size_t i = 0; i < m->n; i++) {
		const struct store_mount *one = &m->v[i];

		msgpack_pack_map(pk, 4);
		mp_pack_key_str(pk, "type", one->type);
		mp_pack_key_str(pk, "source", one->source);
		mp_pack_key_str(pk, "target", one->target);
		mp_pack_key(pk, "options");
		msgpack_pack_array(pk, one->n_options);
		for (size_t k = 0; k < one->n_options; k++)
			mp_pack_str(pk, one->options[k]);
	}
}
