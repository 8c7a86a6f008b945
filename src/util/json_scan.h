// SPDX-License-Identifier: Apache-2.0
/*
 * The strict half of JSON reading, private to util/json.c
 */
#pragma once

#include <stddef.h>

#include "util/fault.h"

/*
 * Checks one JSON text of RFC 8259 and builds nothing: grammar, UTF-8, depth, range of numbers, no
 * NUL, no lone surrogate, no duplicate key. 0, -ENOMEM, or -EINVAL with "line L, column C: …".
 */
int json_scan(const char *text, size_t size, struct fault *f);
/* Length of the valid UTF-8 sequence at p, of at most n bytes; 0 when there is none. */
size_t json_utf8(const char *p, size_t n);
