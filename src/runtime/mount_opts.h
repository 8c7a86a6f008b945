// SPDX-License-Identifier: Apache-2.0
/*
 * Mount options as text
 *
 * The names of mount(8), those of the runtime-spec's table, and crun's own, sorted into flags of mount(2), attributes of
 * mount_setattr(2), a propagation, a few words of the runtime, and the rest, which is data for the file system.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

struct mount_opts {
	unsigned long flags; /* MS_… of mount(2), without bind, propagation and recursion */
	uint64_t set, clear; /* MOUNT_ATTR_… of the mount itself, as far as an option named them */
	uint64_t rset, rclear; /* of it and all below */
	unsigned long propagation; /* MS_SHARED … | MS_REC, 0 for none */
	bool bind, recursive, remount;
	bool copy_up, copy_symlink, src_nofollow, dest_nofollow;
	bool idmap, idmap_recursive;
	const char *idmap_arg; /* into the options; NULL when there is none */
};

/*
 * options: n strings, borrowed. What is left for the file system is joined by commas into data (size bytes, NUL-terminated, "" for none). A
 * data of too little room is -ENAMETOOLONG.
 */
int mount_opts_parse(const char *const *options, size_t n, struct mount_opts *out, char *data,
		     size_t size);
/* Whether data has an option of this name ("mode" for "mode=755"). */
bool mount_opts_has(const char *data, const char *name);

#define MOUNT_IDMAPS 32
/*
 * An idmap argument: "uids=0-1000-10#20-2000-1;gids=…", triplets of id in the file system, id on the host, length; with '@' before a
 * triplet the second is an id of the container's user namespace, which container's mappings turn into the host's.
 */
struct spec_idmap;
struct spec_idmaps;
int mount_opts_idmap(const char *arg, const struct spec_idmaps *container_uids,
		     const struct spec_idmaps *container_gids, struct spec_idmap *uids,
		     size_t *n_uids, struct spec_idmap *gids, size_t *n_gids, struct fault *f);
