// SPDX-License-Identifier: Apache-2.0
/*
 * msgpack: small helpers over msgpack-c
 *
 * Strings are taken as `str` or `bin`, and an empty array counts as an empty map, as the RPC
 * contract says. Readers borrow from the object's zone; nothing here allocates except where said.
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of str or bin: true and *p, *n (no NUL), else false. */
bool mp_str(const msgpack_object *o, const char **p, size_t *n);
bool mp_eq(const msgpack_object *o, const char *text);
/* malloc'ed NUL-terminated copy; NULL when it is no string, has a NUL inside, or memory is out (errno says: EINVAL, ENOMEM). */
char *mp_strdup(const msgpack_object *o);
/* true for an integer that fits. */
bool mp_int(const msgpack_object *o, int64_t *v);
bool mp_uint(const msgpack_object *o, uint64_t *v);
bool mp_is_map(const msgpack_object *o); /* a map or an empty array */
/* The value of a key in a map; NULL when it is absent, nil, or o is no map. The last of equal keys wins. */
const msgpack_object *mp_get(const msgpack_object *o, const char *key);

/*
 * Packing, always into an sbuffer; text as str. Nothing is answered on the way: a write that finds no memory marks the
 * sbuffer, every later write to it fails too, and the caller asks mp_failed once at the end. A marked sbuffer holds no
 * data and must not be read or cleared, only destroyed.
 */
/* plain msgpack_pack_* calls on pk mark it too */
void mp_packer_init(msgpack_packer *pk, msgpack_sbuffer *sb);
bool mp_failed(const msgpack_sbuffer *sb); /* true: answer -ENOMEM */
void mp_pack_str(msgpack_packer *pk, const char *text); /* NULL packs nil */
void mp_pack_strn(msgpack_packer *pk, const char *text, size_t n);
void mp_pack_key_str(msgpack_packer *pk, const char *key, const char *text);
void mp_pack_key_int(msgpack_packer *pk, const char *key, int64_t v);
void mp_pack_key_uint(msgpack_packer *pk, const char *key, uint64_t v);
void mp_pack_key_bool(msgpack_packer *pk, const char *key, bool v);
void mp_pack_key_nil(msgpack_packer *pk, const char *key);
void mp_pack_key(msgpack_packer *pk, const char *key); /* a value must follow */
/* Copies bytes that are msgpack already. */
void mp_pack_raw(msgpack_packer *pk, const void *data, size_t size);

/*
 * A map whose size is known only at its end: mp_map_begin writes a map32 header into the sbuffer,
 * mp_map_end patches the count. The packer must write to that sbuffer.
 */
size_t mp_map_begin(msgpack_sbuffer *sb);
void mp_map_end(msgpack_sbuffer *sb, size_t mark, uint32_t count);
size_t mp_array_begin(msgpack_sbuffer *sb);
void mp_array_end(msgpack_sbuffer *sb, size_t mark, uint32_t count);
