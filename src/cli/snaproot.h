// SPDX-License-Identifier: Apache-2.0
/*
 * The files of a snapshot, before a container runs on it
 */
#pragma once

#include <json-c/json.h>
#include <sys/types.h>

#include "util/fault.h"

/*
 * mounts: as snapshots.prepare and snapshots.mounts answer them. *fd is their root as a container
 * will see it, writable as they say, mounted for nobody but the fd's holder; closing it unmounts.
 * Needs root: -EPERM and -EACCES without it.
 */
int snaproot_open(json_object *mounts, int *fd, struct fault *f);

/*
 * Makes the folder and what is missing above it, inside the root whatever links there are; new ones
 * are 0755 and, the last one, of this owner. 1: it was made, 0: it was there (a folder or a link to
 * one).
 */
int snaproot_mkdir(int root, const char *path, uid_t uid, gid_t gid, struct fault *f);

/*
 * Copies what is in the folder `path` of the root with owners, modes, times and extended attributes
 * to the empty folder `to`, which gets those of `path` itself. 1: done, 0: there is no such folder.
 */
int snaproot_copy(int root, const char *path, int to, struct fault *f);
