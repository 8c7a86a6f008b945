// SPDX-License-Identifier: Apache-2.0
/*
 * Containers: the records in memory
 *
 * One table of all, in the order of namespace and id, so that a namespace is walked in order and a
 * list goes on behind the last key. A container has one stored record, an immutable block that a
 * change replaces as a whole: so a worker can write the block down while readers use it. Specs, by
 * far the largest part, are compressed and shared (spec_blob.h).
 *
 * A container is in the table from the moment somebody asks to create it, which reserves its id,
 * but readers see it only while it is `live`: not before its creation is committed, and not any
 * more while its deletion is under way.
 */
#include "core/container_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"
#include "util/mp.h"

static int container_cmp(const struct container *a, const struct container *b)
{
	/* the names of equal namespaces are one string */
	if (a->ns != b->ns) {
		int c = strcmp(namespace_name(a->ns), namespace_name(b->ns));

		if (c)
			return c;
	}
	return strcmp(a->id, b->id);
}

RB_GENERATE_INTERNAL(container_tree, container, node, container_cmp, static __attribute__((unused)))

/* ---- records */

static char *put_text(char **at, const char *text)
{
	char *start = *at;

	*at = stpcpy(start, text ? text : "") + 1;
	return start;
}

static size_t text_size(const char *text)
{
	return text ? strlen(text) + 1 : 1;
}

struct record *record_new(const struct db_container *row, struct spec_blob *spec)
{
	size_t size = sizeof(struct record) + row->n_labels * sizeof(struct db_label) +
		      row->extensions_size + text_size(row->image) + text_size(row->runtime) +
		      text_size(row->snapshotter) + text_size(row->snapshot_key) +
		      text_size(row->bundle);
	struct db_label *labels;
	struct record *r;
	char *at;

	for (size_t i = 0; i < row->n_labels; i++)
		size += text_size(row->labels[i].key) + text_size(row->labels[i].value);
	r = malloc(size);
	if (!r)
		return NULL;
	r->row = *row;
	r->row.ns = r->row.id = NULL; /* the container has them */
	r->spec = spec;
	r->row.spec = spec_blob_frame(spec, &r->row.spec_size);
	labels = (struct db_label *)(r + 1);
	at = (char *)(labels + row->n_labels);
	r->row.labels = labels;
	for (size_t i = 0; i < row->n_labels; i++) {
		labels[i].key = put_text(&at, row->labels[i].key);
		labels[i].value = put_text(&at, row->labels[i].value);
	}
	r->row.image = put_text(&at, row->image);
	r->row.runtime = put_text(&at, row->runtime);
	r->row.snapshotter = put_text(&at, row->snapshotter);
	r->row.snapshot_key = put_text(&at, row->snapshot_key);
	r->row.bundle = put_text(&at, row->bundle);
	r->row.extensions = at;
	if (row->extensions_size)
		memcpy(at, row->extensions, row->extensions_size);
	return r;
}

void record_free(struct record *r)
{
	if (!r)
		return;
	spec_blob_put(r->spec);
	free(r);
}

/* ---- the table */

struct container *container_lookup(struct davit *d, const char *ns, const char *id)
{
	struct container *c = RB_ROOT(&d->containers->tree);

	while (c) {
		int order = strcmp(ns, namespace_name(c->ns));

		if (!order)
			order = strcmp(id, c->id);
		if (!order)
			return c;
		c = order < 0 ? RB_LEFT(c, node) : RB_RIGHT(c, node);
	}
	return NULL;
}

struct container *container_first(struct davit *d, const char *ns, const char *after)
{
	struct container *c = RB_ROOT(&d->containers->tree), *best = NULL;

	while (c) {
		int order = strcmp(ns, namespace_name(c->ns));

		if (!order)
			order = strcmp(after, c->id);
		if (order < 0)
			best = c;
		c = order < 0 ? RB_LEFT(c, node) : RB_RIGHT(c, node);
	}
	return best && !strcmp(namespace_name(best->ns), ns) ? best : NULL;
}

struct container *container_next(struct container *c)
{
	struct container *next = RB_NEXT(container_tree, NULL, c);

	return next && next->ns == c->ns ? next : NULL;
}

struct container *container_add(struct davit *d, struct namespace *ns, const char *id)
{
	size_t n = strlen(id) + 1;
	struct container *c = calloc(1, sizeof(*c) + n);

	if (!c)
		return NULL;
	memcpy(c->id, id, n);
	c->ns = ns;
	STAILQ_INIT(&c->changes);
	RB_INSERT(container_tree, &d->containers->tree, c);
	d->containers->count++;
	namespace_use(ns);
	return c;
}

void container_remove(struct davit *d, struct container *c)
{
	RB_REMOVE(container_tree, &d->containers->tree, c);
	d->containers->count--;
	namespace_unuse(c->ns);
	c->live = false;
	c->gone = true;
}

void container_free(struct container *c)
{
	record_free(c->record);
	free(c);
}

static int load_one(void *user, const struct db_container *row)
{
	struct davit *d = user;
	struct namespace *ns = namespace_load(d, row->ns);
	struct spec_blob *spec;
	struct container *c;
	int r;

	if (!ns)
		return -ENOMEM;
	r = spec_blob_load(d->containers->specs, row->spec, row->spec_size, &spec);
	if (r == -EINVAL) {
		/* one bad row must not keep all others away */
		log_error("the container %s/%s has no readable spec and is left out", row->ns,
			  row->id);
		return 0;
	}
	if (r < 0)
		return r;
	c = container_add(d, ns, row->id);
	if (c)
		c->record = record_new(row, spec);
	if (!c || !c->record) {
		spec_blob_put(spec);
		return -ENOMEM;
	}
	c->live = true;
	return 0;
}

int containers_new(struct davit *d)
{
	struct fault f = { 0 };
	int r;

	d->containers = calloc(1, sizeof(*d->containers));
	if (!d->containers)
		return -ENOMEM;
	RB_INIT(&d->containers->tree);
	r = spec_table_new(&d->containers->specs);
	if (r >= 0)
		r = namespaces_new(d);
	if (r < 0)
		return r;
	r = db_container_each(d->db, load_one, d, &f);
	if (r < 0)
		log_error("the containers cannot be read: %s",
			  f.message[0] ? f.message : strerror(-r));
	return r;
}

void containers_free(struct davit *d)
{
	struct container *c;

	if (!d->containers)
		return;
	while ((c = RB_ROOT(&d->containers->tree))) {
		container_remove(d, c);
		container_free(c);
	}
	spec_table_free(d->containers->specs);
	free(d->containers);
	d->containers = NULL;
	namespaces_free(d);
}

/* ---- for others */

struct container *container_find(struct davit *d, const char *ns, const char *id)
{
	struct container *c = container_lookup(d, ns, id);

	return c && c->live ? c : NULL;
}

const char *container_ns(const struct container *c)
{
	return namespace_name(c->ns);
}

const char *container_id(const struct container *c)
{
	return c->id;
}

const char *container_bundle(const struct container *c)
{
	return c->record->row.bundle;
}

const char *container_runtime(const struct container *c)
{
	return c->record->row.runtime;
}

const char *container_image(const struct container *c)
{
	return c->record->row.image;
}

int container_labels_copy(const struct container *c, struct labels *to)
{
	return labels_copy(to, c->record->row.labels, c->record->row.n_labels);
}

const char *container_snapshotter(const struct container *c)
{
	return c->record->row.snapshotter;
}

const char *container_snapshot_key(const struct container *c)
{
	return c->record->row.snapshot_key;
}

const char *container_label(const struct container *c, const char *key)
{
	return labels_get(c->record->row.labels, c->record->row.n_labels, key);
}

struct spec_blob *container_spec(struct container *c)
{
	return spec_blob_ref(c->record->spec);
}

void containers_get_stats(struct davit *d, struct containers_stats *out)
{
	out->containers = d->containers->count;
	out->namespaces = namespaces_count(d);
	out->specs = spec_table_count(d->containers->specs);
}

struct task *container_task(const struct container *c)
{
	return c->task;
}

void container_set_task(struct container *c, struct task *t)
{
	c->task = t;
}

bool container_field(void *user, const char *const *path, size_t n, const char **value)
{
	const struct container *c = user;
	const struct db_container *row = &c->record->row;

	if (n > 1 && !strcmp(path[0], "labels"))
		return labels_field(row->labels, row->n_labels, path + 1, n - 1, value);
	*value = NULL;
	if (n == 1 && !strcmp(path[0], "id"))
		*value = c->id;
	else if (n == 1 && !strcmp(path[0], "image"))
		*value = row->image;
	else if (n == 2 && !strcmp(path[0], "runtime") && !strcmp(path[1], "name"))
		*value = row->runtime;
	return *value && **value;
}

void container_pack(msgpack_packer *pk, const struct container *c, const msgpack_sbuffer *spec)
{
	const struct db_container *row = &c->record->row;

	msgpack_pack_map(pk, spec ? 11 : 10);
	mp_pack_key_str(pk, "id", c->id);
	mp_pack_key(pk, "labels");
	labels_pack(pk, row->labels, row->n_labels);
	if (spec) {
		mp_pack_key(pk, "spec");
		mp_pack_raw(pk, spec->data, spec->size);
	}
	mp_pack_key_str(pk, "bundle", row->bundle);
	mp_pack_key_str(pk, "image", row->image);
	mp_pack_key_str(pk, "runtime", row->runtime);
	mp_pack_key_str(pk, "snapshotter", row->snapshotter);
	mp_pack_key_str(pk, "snapshot_key", row->snapshot_key);
	mp_pack_key(pk, "extensions");
	if (row->extensions_size)
		mp_pack_raw(pk, row->extensions, row->extensions_size);
	else
		msgpack_pack_map(pk, 0);
	mp_pack_key_int(pk, "created_at", row->created_at);
	mp_pack_key_int(pk, "updated_at", row->updated_at);
}
