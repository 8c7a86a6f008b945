// SPDX-License-Identifier: Apache-2.0
/*
 * Specs as compressed text, one copy of equal ones
 *
 * container.h has what users of a blob need; this is how they come to be. All calls are for any
 * thread.
 */
#pragma once

#include <msgpack.h>
#include <stddef.h>

#include "core/container.h"
#include "util/fault.h"

struct spec_table;

int spec_table_new(struct spec_table **out);
void spec_table_free(struct spec_table *t); /* blobs that others hold stay valid */
size_t spec_table_count(struct spec_table *t);

/* From JSON text, which was checked. At most LIMIT_SPEC_BYTES. A reference for the caller. */
int spec_blob_new(struct spec_table *t, const char *text, size_t size, struct spec_blob **out,
		  struct fault *f);
/* From a zstd frame as spec_blob_frame gave it. -EINVAL when it is none or holds too much. */
int spec_blob_load(struct spec_table *t, const void *frame, size_t size, struct spec_blob **out);
struct spec_blob *spec_blob_ref(struct spec_blob *b);
const void *spec_blob_frame(const struct spec_blob *b, size_t *size);
size_t spec_blob_text_size(const struct spec_blob *b);
/* The spec as msgpack, into a buffer that was initialised; for answers. */
int spec_blob_render(const struct spec_blob *b, msgpack_sbuffer *out);
