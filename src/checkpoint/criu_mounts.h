// SPDX-License-Identifier: Apache-2.0
/*
 * A container's mounts: which of them criu restores by itself, and which come from outside
 *
 * proc, sysfs, mqueue, a devpts and the tmpfs that belong to the container alone are criu's. Whatever
 * else there is (bind mounts, cgroups, masked paths, bound devices, the console) is handed in: at
 * dump it gets a name, `--external mnt[PATH]:NAME`, and at restore a source for that name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

enum criu_mount_kind {
	CRIU_MOUNT_BIND, /* of something that the host has too */
	CRIU_MOUNT_OWN, /* of something below the container's own root, where that is a part of the host's */
	CRIU_MOUNT_CGROUP, /* a hierarchy */
	CRIU_MOUNT_CGROUP_ROOT, /* the tmpfs that holds the hierarchies' folders */
	CRIU_MOUNT_MASK, /* an empty folder over a path */
	CRIU_MOUNT_NULL, /* the null device over a path */
	CRIU_MOUNT_CONSOLE, /* a terminal over /dev/console */
	CRIU_MOUNT_KINDS,
};

struct criu_mount {
	char name[16]; /* "m0", "m1", …: unique */
	/* what criu knows it by, when another tool has taken the checkpoint; NULL: its name */
	char *key;
	char *path; /* inside the container */
	enum criu_mount_kind kind;
	/* within its file system (mountinfo's fourth field); of CRIU_MOUNT_OWN: within the container's root */
	char *root;
	char *controllers; /* of CRIU_MOUNT_CGROUP: "cpu,cpuacct", "name=systemd"; "" for v2 */
	bool read_only;
};
struct criu_mounts {
	struct criu_mount *v; /* in mountinfo's order: parents first */
	size_t n;
};

static inline const char *criu_mount_key(const struct criu_mount *m)
{
	return m->key ? m->key : m->name;
}

void criu_mounts_clear(struct criu_mounts *m);
/*
 * container, host: the texts of /proc/PID/mountinfo of the container's init and of the daemon.
 * A mount that neither can do is FAULT_FAILED_PRECONDITION and named.
 */
int criu_mounts_read(struct criu_mounts *m, const char *container, const char *host,
		     struct fault *f);
/* The paths of all mounts but the root, parents first; an array and its texts, to be freed. -ENOMEM */
int criu_mount_paths(const char *mountinfo, char ***paths, size_t *n);
struct criu_mount_line { /* of mountinfo */
	const char *path, *root, *type;
};
/* fn is called for each mount until it answers negative. That, 0, or -ENOMEM */
int criu_mount_lines(const char *mountinfo, int (*fn)(void *user, const struct criu_mount_line *l),
		     void *user);
const char *criu_mount_kind_name(enum criu_mount_kind kind);
int criu_mount_kind_of(const char *name); /* -EINVAL */
