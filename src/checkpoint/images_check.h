// SPDX-License-Identifier: Apache-2.0
/*
 * What criu's images would have criu do, as far as it reaches beyond the container
 *
 * criu restores as root whatever its images say. Images come with a checkpoint and may be anybody's,
 * so those members that name things of the host, or that decide how much of it the tasks get to see,
 * are looked at first. The files are sorted (ckpt_files_sort). Blocks when they are on disk.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/criu_mounts.h"
#include "checkpoint/serve.h"
#include "util/fault.h"

/*
 * All that holds for any container: inventory.img is of a version that is known; the tasks have a
 * mount namespace of their own; every mount of mountpoints-*.img is the root, or one that criu makes
 * anew (proc, sysfs, tmpfs, devpts, mqueue), or a bind of something below the root, or handed in under
 * a name of `mounts`, at its path, and read-only if that says so. mounts NULL: under any name, since
 * criu refuses those it is not given. No path climbs. FAULT_FAILED_PRECONDITION names the mount.
 */
int ckpt_images_check(const struct serve_files *files, const struct criu_mounts *mounts,
		      struct fault *f);
/*
 * criu follows symbolic links when it binds something below the root to another place, as seen from
 * the host. rootfs: the root that is restored into, as an fd (O_PATH is enough). Whatever is bound has
 * to be there without a link on the way.
 */
int ckpt_images_binds(const struct serve_files *files, int rootfs, struct fault *f);

/* The mounts of mountpoints-*.img, unchecked. fn's texts last until it returns; negative ends it. */
struct ckpt_image_mount {
	const char *type;
	char *path, *root, *options;
	char *key; /* of one that is handed in; else NULL */
	bool read_only;
};
int ckpt_images_mounts(const struct serve_files *files,
		       int (*fn)(void *user, const struct ckpt_image_mount *mount), void *user,
		       struct fault *f);

/* What the tasks of all core-*.img have, taken together. */
struct ckpt_tasks {
	size_t n; /* threads */
	uint64_t caps; /* in any set of any thread; bit N is capability N */
	bool root; /* a thread is user 0 */
	bool without_seccomp; /* a thread runs without a filter */
	bool without_no_new_privs; /* a thread may gain privileges */
	/* CLONE_NEW…: all tasks have one apart from that of whoever dumped them */
	uint64_t namespaces;
};
int ckpt_images_tasks(const struct serve_files *files, struct ckpt_tasks *out, struct fault *f);

struct ckpt_id_map { /* as in /proc/PID/uid_map */
	uint32_t inside, outside, count;
};
/*
 * criu maps the users of a user namespace as userns-*.img says. Each of its maps has to lie within one
 * of these, which are the live container's; without any, there may be no such image.
 */
int ckpt_images_user_maps(const struct serve_files *files, const struct ckpt_id_map *uids,
			  size_t n_uids, const struct ckpt_id_map *gids, size_t n_gids,
			  struct fault *f);
