// SPDX-License-Identifier: Apache-2.0
/*
 * libcgroup, behind a wall
 *
 * Its header cannot stand beside runtime/cgroup.h: both have a struct cgroup and a cgroup_free.
 * Here are the calls that davit makes of it, with names of their own. Thread-safe.
 */
#pragma once

#include <stddef.h>

struct cgroup_lib_value {
	const char *controller, *file, *text;
};

/*
 * Reads the host's mounts, once a process. 0, -ENOMEM, or -ENODEV when it finds no cgroup file
 * system that it understands.
 */
int cgroup_lib_init(void);
/* 1 when libcgroup knows the controller at this mount point. */
int cgroup_lib_knows(const char *controller, const char *mount);
/*
 * Sets values of one group, in order; path is relative to each mount. 0 or -errno; it does not
 * tell which failed. -ENOTSUP: this set cannot be given to libcgroup (two values for one file,
 * too long), nothing was done.
 */
int cgroup_lib_set(const char *path, const struct cgroup_lib_value *values, size_t n);
/* A whole control file, NUL-terminated. -EFBIG when it does not fit. */
int cgroup_lib_get(const char *path, const char *controller, const char *file, char *buf,
		   size_t size);
