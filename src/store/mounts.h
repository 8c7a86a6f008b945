// SPDX-License-Identifier: Apache-2.0
/*
 * Mounts as containerd writes them: {type, source, target, options}
 */
#pragma once

#include <msgpack.h>
#include <stddef.h>

#include "util/fault.h"

struct store_mount {
	char *type, *source, *target; /* owned; target "" for the root */
	char **options; /* owned, n_options of them */
	size_t n_options;
};
struct store_mounts {
	struct store_mount *v;
	size_t n;
};
void store_mounts_clear(struct store_mounts *m);
/* Appends one without options. NULL: no memory. */
struct store_mount *store_mounts_add(struct store_mounts *m, const char *type, const char *source,
				     const char *target);
int store_mount_option(struct store_mount *m, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* From an RPC's list of maps; wrong shapes are FAULT_INVALID_ARGUMENT. */
int store_mounts_read(struct store_mounts *m, const msgpack_object *list, struct fault *f);
void store_mounts_pack(msgpack_packer *pk, const struct store_mounts *m); /* the list */

/*
 * Mounts them, detached from every mount namespace, and gives the root's fd: closing it unmounts.
 * An overlay with one bind-like lower and no upper, and a plain bind, need no mount: then it is the
 * folder itself, opened. Any number of lower layers. Blocks.
 */
int store_mounts_open(const struct store_mounts *m, bool read_only, int *root_fd, struct fault *f);
/*
 * When they are one overlay: its upper folder, opened, else -1 in *upper_fd; 0 unless something
 * fails.
 */
int store_mounts_upper(const struct store_mounts *m, int *upper_fd, struct fault *f);
