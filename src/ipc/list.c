// SPDX-License-Identifier: Apache-2.0
/*
 * Pages of lists
 *
 * The handler walks its sorted entries and packs those that are wanted; filters, the page's end and the
 * picking of fields are here. `next` is the key of the page's last entry and appears only when one
 * more entry was wanted and did not fit, so a client that stops when it is absent never asks
 * for an empty page.
 *
 * `fields` is applied to what the handler packed: the entry is unpacked and packed again with only the
 * picked members. A path goes into maps by '.': "labels.tier". Keys may have dots themselves, so a
 * member is picked when a path is its key, and entered when a path begins with its key and a dot.
 */
#include <errno.h>
#include <string.h>

#include "ipc/internal.h"
#include "util/filter.h"
#include "util/limits.h"
#include "util/mp.h"

bool ipc_list_begin(struct ipc_request *req, const char *result_name, struct ipc_list *it)
{
	const char *const *filters;
	struct fault f = { 0 };
	int64_t limit = ipc_arg_int(req, "limit", 0);
	size_t n;

	memset(it, 0, sizeof(*it));
	it->req = req;
	it->after = ipc_arg_str(req, "after");
	if (!it->after)
		it->after = "";
	it->limit = LIMIT_LIST_PAGE;
	if (limit > 0 && limit < LIMIT_LIST_PAGE)
		it->limit = (uint32_t)limit;
	it->fields = ipc_arg_strs(req, "fields", &it->n_fields);
	if (it->n_fields)
		it->zone = msgpack_zone_new(4096);
	filters = ipc_arg_strs(req, "filters", &n);
	if (filter_compile(filters, n, &it->filter, &f) < 0) {
		fault_arg(&f, "filters");
		ipc_list_abort(it);
		ipc_reply_fault(req, &f);
		return false;
	}
	if (it->n_fields && !it->zone) {
		ipc_list_abort(it);
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return false;
	}
	it->pk = ipc_reply_begin(req);
	it->map = mp_map_begin(ipc_reply_buffer(req));
	mp_pack_key(it->pk, result_name);
	it->array = mp_array_begin(ipc_reply_buffer(req));
	return true;
}

/* What is left of a path below a key: "" for the key itself, NULL when it leads elsewhere. */
static const char *below(const char *path, const char *key, size_t n)
{
	if (strncmp(path, key, n))
		return NULL;
	if (!path[n])
		return path + n;
	return path[n] == '.' ? path + n + 1 : NULL;
}

/* Whether a member is picked whole, in part (sub[0..n_sub) say what), or not. */
static bool picks(const char *const *paths, size_t n, const msgpack_object_kv *kv, const char **sub,
		  size_t *n_sub)
{
	const char *key;
	size_t size;

	*n_sub = 0;
	if (!mp_str(&kv->key, &key, &size))
		return false;
	for (size_t i = 0; i < n; i++) {
		const char *rest = memchr(key, '\0', size) ? NULL : below(paths[i], key, size);

		if (!rest)
			continue;
		if (!*rest) {
			*n_sub = 0;
			return true;
		}
		if (kv->val.type == MSGPACK_OBJECT_MAP)
			sub[(*n_sub)++] = rest;
	}
	return *n_sub;
}

static void pack_picked(struct ipc_list *it, const msgpack_object *o, const char *const *paths,
			size_t n)
{
	msgpack_sbuffer *sb = ipc_reply_buffer(it->req);
	const char **sub = msgpack_zone_malloc(it->zone, n * sizeof(char *));
	size_t mark = mp_map_begin(sb), n_sub;
	uint32_t count = 0;

	if (!sub)
		it->failed = true;
	for (uint32_t i = 0; sub && i < o->via.map.size; i++) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];

		if (!picks(paths, n, kv, sub, &n_sub))
			continue;
		count++;
		msgpack_pack_object(it->pk, kv->key);
		if (n_sub)
			pack_picked(it, &kv->val, sub, n_sub);
		else
			msgpack_pack_object(it->pk, kv->val);
	}
	mp_map_end(sb, mark, count);
}

/* The handler has packed an entry. */
static void end_item(struct ipc_list *it)
{
	msgpack_sbuffer *sb = ipc_reply_buffer(it->req);
	size_t from = it->item, size, off = 0;
	msgpack_object o;
	char *copy;

	it->item = 0;
	if (!from || !it->n_fields || mp_failed(sb))
		return;
	/* what is unpacked points into it, and sb is written to */
	size = sb->size - from;
	copy = msgpack_zone_malloc_no_align(it->zone, size);
	if (!copy) {
		it->failed = true;
		return;
	}
	memcpy(copy, sb->data + from, size);
	if (msgpack_unpack(copy, size, &off, it->zone, &o) != MSGPACK_UNPACK_SUCCESS)
		it->failed = true;
	if (!it->failed && o.type == MSGPACK_OBJECT_MAP) {
		sb->size = from;
		pack_picked(it, &o, it->fields, it->n_fields);
	}
	msgpack_zone_clear(it->zone);
}

static void keep_key(struct ipc_list *it, const char *key)
{
	size_t size = strlen(key) + 1;

	if (size > it->last_room) {
		it->last_room = size < 128 ? 128 : size * 2;
		it->last = ipc_request_alloc(it->req, it->last_room);
		if (!it->last) {
			it->last_room = 0;
			it->failed = true;
			return;
		}
	}
	memcpy(it->last, key, size);
}

/* The place for one more, unless the page is full. */
static bool next_item(struct ipc_list *it, const char *key)
{
	msgpack_sbuffer *sb = ipc_reply_buffer(it->req);

	if (it->failed || mp_failed(sb)) {
		it->full = true;
		return false;
	}
	if (it->count == it->limit || sb->size > LIMIT_LIST_BYTES) {
		it->full = true;
		it->more = true;
		return false;
	}
	keep_key(it, key);
	it->count++;
	it->item = sb->size;
	return true;
}

bool ipc_list_want(struct ipc_list *it, const char *key, ipc_field_fn field, void *user)
{
	end_item(it);
	return !it->full && filter_match(it->filter, field, user) && next_item(it, key);
}

bool ipc_list_put(struct ipc_list *it, const char *key, const void *packed, size_t size)
{
	end_item(it);
	if (it->full || !next_item(it, key))
		return false;
	mp_pack_raw(it->pk, packed, size);
	return true;
}

void ipc_list_abort(struct ipc_list *it)
{
	filter_free(it->filter);
	it->filter = NULL;
	if (it->zone)
		msgpack_zone_free(it->zone);
	it->zone = NULL;
}

void ipc_list_end(struct ipc_list *it)
{
	msgpack_sbuffer *sb = ipc_reply_buffer(it->req);

	end_item(it);
	ipc_list_abort(it);
	if (it->failed) {
		ipc_reply_error(it->req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	mp_array_end(sb, it->array, it->count);
	if (it->more)
		mp_pack_key_str(it->pk, "next", it->last);
	mp_map_end(sb, it->map, it->more ? 2 : 1);
	ipc_reply_end(it->req);
}
