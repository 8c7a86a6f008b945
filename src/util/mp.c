// SPDX-License-Identifier: Apache-2.0
/*
 * msgpack helpers
 *
 * Readers look into objects that a zone owns and allocate nothing, except mp_strdup.
 *
 * Writers have one way to fail, memory. msgpack-c answers it from each call, and a buffer that lost
 * one write but took the next is a corrupt message. So a failed write marks the sbuffer: its memory
 * is freed, and size and alloc are both MARK. No spare room is then ever found in it, and growing it
 * would need half of the address space, so msgpack-c's own writes go on failing as well. mp_failed
 * tests the mark, and msgpack_sbuffer_destroy is the only other thing that may follow.
 */
#include "util/mp.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

bool mp_str(const msgpack_object *o, const char **p, size_t *n)
{
	if (!o)
		return false;
	if (o->type == MSGPACK_OBJECT_STR) {
		*p = o->via.str.size ? o->via.str.ptr : "";
		*n = o->via.str.size;
		return true;
	}
	if (o->type == MSGPACK_OBJECT_BIN) {
		*p = o->via.bin.size ? o->via.bin.ptr : "";
		*n = o->via.bin.size;
		return true;
	}
	return false;
}

bool mp_eq(const msgpack_object *o, const char *text)
{
	const char *p;
	size_t n;

	return mp_str(o, &p, &n) && n == strlen(text) && !memcmp(p, text, n);
}

char *mp_strdup(const msgpack_object *o)
{
	const char *p;
	size_t n;
	char *copy;

	if (!mp_str(o, &p, &n) || memchr(p, '\0', n)) {
		errno = EINVAL;
		return NULL;
	}
	copy = malloc(n + 1);
	if (!copy) {
		errno = ENOMEM;
		return NULL;
	}
	memcpy(copy, p, n);
	copy[n] = '\0';
	return copy;
}

bool mp_int(const msgpack_object *o, int64_t *v)
{
	if (!o)
		return false;
	if (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
		if (o->via.u64 > INT64_MAX)
			return false;
		*v = (int64_t)o->via.u64;
		return true;
	}
	if (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
		*v = o->via.i64;
		return true;
	}
	return false;
}

bool mp_uint(const msgpack_object *o, uint64_t *v)
{
	if (!o || o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
		return false;
	*v = o->via.u64;
	return true;
}

bool mp_is_map(const msgpack_object *o)
{
	if (!o)
		return false;
	return o->type == MSGPACK_OBJECT_MAP ||
	       (o->type == MSGPACK_OBJECT_ARRAY && !o->via.array.size);
}

const msgpack_object *mp_get(const msgpack_object *o, const char *key)
{
	if (!o || o->type != MSGPACK_OBJECT_MAP)
		return NULL;
	for (uint32_t i = o->via.map.size; i-- > 0;) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];

		if (mp_eq(&kv->key, key))
			return kv->val.type == MSGPACK_OBJECT_NIL ? NULL : &kv->val;
	}
	return NULL;
}

#define MARK (SIZE_MAX / 4)

static void mark_failed(msgpack_sbuffer *sb)
{
	free(sb->data);
	sb->data = NULL;
	sb->size = MARK;
	sb->alloc = MARK;
}

bool mp_failed(const msgpack_sbuffer *sb)
{
	return sb->size == MARK;
}

static int write_marking(void *user, const char *data, size_t size)
{
	msgpack_sbuffer *sb = user;

	if (mp_failed(sb))
		return -1;
	if (!msgpack_sbuffer_write(sb, data, size))
		return 0;
	mark_failed(sb);
	return -1;
}

void mp_packer_init(msgpack_packer *pk, msgpack_sbuffer *sb)
{
	msgpack_packer_init(pk, sb, write_marking);
}

/* For packers that were made with msgpack_sbuffer_write, which marks nothing itself. */
static void check(msgpack_packer *pk, int r)
{
	msgpack_sbuffer *sb = pk->data;

	if (r && !mp_failed(sb))
		mark_failed(sb);
}

void mp_pack_strn(msgpack_packer *pk, const char *text, size_t n)
{
	if (n > UINT32_MAX) {
		check(pk, -1);
		return;
	}
	check(pk, msgpack_pack_str(pk, n));
	if (n)
		check(pk, msgpack_pack_str_body(pk, text, n));
}

void mp_pack_str(msgpack_packer *pk, const char *text)
{
	if (text)
		mp_pack_strn(pk, text, strlen(text));
	else
		check(pk, msgpack_pack_nil(pk));
}

void mp_pack_key(msgpack_packer *pk, const char *key)
{
	mp_pack_strn(pk, key, strlen(key));
}

void mp_pack_key_str(msgpack_packer *pk, const char *key, const char *text)
{
	mp_pack_key(pk, key);
	mp_pack_str(pk, text);
}

void mp_pack_key_int(msgpack_packer *pk, const char *key, int64_t v)
{
	mp_pack_key(pk, key);
	check(pk, msgpack_pack_int64(pk, v));
}

void mp_pack_key_uint(msgpack_packer *pk, const char *key, uint64_t v)
{
	mp_pack_key(pk, key);
	check(pk, msgpack_pack_uint64(pk, v));
}

void mp_pack_key_bool(msgpack_packer *pk, const char *key, bool v)
{
	mp_pack_key(pk, key);
	check(pk, v ? msgpack_pack_true(pk) : msgpack_pack_false(pk));
}

void mp_pack_key_nil(msgpack_packer *pk, const char *key)
{
	mp_pack_key(pk, key);
	check(pk, msgpack_pack_nil(pk));
}

void mp_pack_raw(msgpack_packer *pk, const void *data, size_t size)
{
	if (size)
		check(pk, pk->callback(pk->data, data, size));
}

/* A 32-bit count whatever the size, since it is patched in place. */
static size_t begin(msgpack_sbuffer *sb, unsigned char type)
{
	char head[5] = { (char)type, 0, 0, 0, 0 };
	size_t mark = sb->size;

	write_marking(sb, head, sizeof(head));
	return mark;
}

static void end(msgpack_sbuffer *sb, size_t mark, uint32_t count)
{
	unsigned char *p;

	if (mp_failed(sb))
		return;
	p = (unsigned char *)sb->data + mark + 1;
	p[0] = (unsigned char)(count >> 24);
	p[1] = (unsigned char)(count >> 16);
	p[2] = (unsigned char)(count >> 8);
	p[3] = (unsigned char)count;
}

size_t mp_map_begin(msgpack_sbuffer *sb)
{
	return begin(sb, 0xdf);
}

void mp_map_end(msgpack_sbuffer *sb, size_t mark, uint32_t count)
{
	end(sb, mark, count);
}

size_t mp_array_begin(msgpack_sbuffer *sb)
{
	return begin(sb, 0xdd);
}

void mp_array_end(msgpack_sbuffer *sb, size_t mark, uint32_t count)
{
	end(sb, mark, count);
}
