// SPDX-License-Identifier: Apache-2.0
/*
 * JSON: strict reading into json-c's trees, and the way between JSON and msgpack
 *
 * Strict: RFC 8259 with UTF-8 checked, no trailing text, no NUL, no duplicate keys, depth at most
 * LIMIT_JSON_DEPTH, numbers that fit 64 bits or a double; json-c's own reader is laxer. Unsigned
 * 64-bit numbers are kept. Order of keys and unknown keys survive the round trip.
 */
#pragma once

#include <json-c/json.h>
#include <msgpack.h>
#include <stddef.h>

#include "util/fault.h"

/* Owned by the caller (json_object_put). A fault names line and column. The text `null` gives NULL, as json-c has it. */
int json_parse(const char *text, size_t size, json_object **out, struct fault *f);
/* A whole regular file. path is relative to dirfd. */
int json_parse_file(int dirfd, const char *path, size_t max, json_object **out, struct fault *f);
/* The same of what a user names at a terminal: may be a pipe (fd_read_input). */
int json_parse_input(const char *path, size_t max, json_object **out, struct fault *f);

/*
 * msgpack (keys str or bin) to JSON. ext types, non-string keys, equal keys, NaN, NUL, invalid UTF-8 and depth are
 * invalid_argument. nil gives NULL.
 */
int json_from_mp(const msgpack_object *o, json_object **out, struct fault *f);
/* Packs a JSON value into the packer's sbuffer; fails for memory only, which mp_failed tells. */
void json_to_mp(json_object *j, msgpack_packer *pk);
