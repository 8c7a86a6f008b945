// SPDX-License-Identifier: Apache-2.0
/*
 * gzip that does not compress
 *
 * criu packs what is in a container's tmpfs by `tar --gzip` while the container is frozen, some 30 ms
 * for each megabyte. What comes of it is compressed again on its way into the store. So where there is much
 * of it, tar finds this program under the name gzip (core/criu.c): what it writes is a gzip stream of
 * stored blocks, which every gzip reads.
 */
#pragma once

#include <stdbool.h>

#define GZIP_STORE_NAME "gzip"

/* in to its end, to out; both block. 0 or -errno */
int gzip_store(int in, int out);
/* Whether a program that was started by this name (argv[0]) is to be gzip. */
bool gzip_store_is(const char *name);
/* The program: without arguments, from stdin to stdout. The exit status. */
int gzip_store_main(int argc);
