// SPDX-License-Identifier: Apache-2.0
/*
 * An fd of a stranger, which may be a pipe whose other end does nothing
 */
#pragma once

#include <sys/types.h>

#include "store/store.h"
#include "util/cleanup.h"

struct image_io;
/* The fd stays the caller's, and is not changed. */
int image_io_open(struct image_io **out, int fd, bool writing, struct fault *f);
void image_io_free(struct image_io *io);
DEFINE_CLEANUP(struct image_io *, image_io_free)
/* Waits, but ends with -ECANCELED and FAULT_CANCELLED when the call is. Bytes, 0 at the end. */
ssize_t image_io_read(struct store_call *c, struct image_io *io, void *buf, size_t size);
/* All of it. A reader that is gone: -EPIPE, FAULT_ABORTED. */
int image_io_write(struct store_call *c, struct image_io *io, const void *buf, size_t size);
/* To the end of a pipe or socket, so that its writer is not cut off; others are left. */
int image_io_drain(struct store_call *c, struct image_io *io);
