// SPDX-License-Identifier: Apache-2.0
/*
 * The reader of JSON texts, private to util/json.c
 */
#pragma once

#include <json-c/json.h>
#include <stddef.h>

#include "util/fault.h"

/*
 * One text of RFC 8259: grammar, UTF-8, depth, range of numbers, no NUL, no lone surrogate, no
 * duplicate key. The caller owns *out. 0, -ENOMEM, or -EINVAL with "line L, column C: …".
 */
int json_read(const char *text, size_t size, json_object **out, struct fault *f);
/* Length of the valid UTF-8 sequence at p, of at most n bytes; 0 when there is none. */
size_t json_utf8(const char *p, size_t n);
