// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups, inside: what the cgroup_*.c files share
 */
#pragma once

#include <pthread.h>

#include "runtime/cgroup.h"

#define CGROUP_HIERARCHIES 16 /* as many as struct cgroup_join has room for */
#define CGROUP_FILE_MAX (64u << 10) /* a control file that is read whole */
#define CGROUP_DAEMON_LEAF                                                                         \
	"davit-daemon" /* where the daemon goes when its own group is delegated to it */

struct cgroup_hierarchy {
	char *mount; /* folder */
	/*
	 * " cpu cpuacct ", " name=systemd "; of v2: cgroup.controllers of its root (of top, if there
	 * is one); blanks at both ends
	 */
	char *names;
	bool v2;
	bool lib; /* libcgroup knows this mount for every controller in names */
	int fd; /* of mount, O_PATH */
};

struct cgroup_host {
	enum cgroup_layout layout;
	struct cgroup_hierarchy h[CGROUP_HIERARCHIES];
	size_t n;
	int v2, cpuset, devices, freezer; /* indices, -1 for none; the last three are v1's */
	char *parent, *describe;
	char *top; /* the delegated v2 group that the daemon was started in, or NULL */
	/* held while parents are made, so that nobody meets one half set up */
	pthread_mutex_t lock;
};

struct cgroup {
	struct cgroup_host *host;
	char path[];
};

/*
 * cgroup_new_host with another table of mounts, in the form of /proc/self/mountinfo. For tests
 * and other roots.
 */
int cgroup_host_new_from(struct cgroup_host **out, const char *mountinfo, const char *parent,
			 struct fault *f);
/* Index of the hierarchy that has a controller, -1 for none. */
int cgroup_host_find(const struct cgroup_host *h, const char *controller);
/* A process's v2 group as an absolute path, malloc'ed. who: "self" or a pid. 0 or -errno. */
int cgroup_of_pid(const char *who, char **out);
/*
 * O_PATH fd of the v2 group that a container's init is in now, which can be one below the container's own: an
 * init that hands controllers down (systemd) has left that, and nobody can be put there. -ENOENT when it is outside.
 */
int cgroup_init_open(const struct cgroup *cg, pid_t init);
/* 0 for a path that begins with '/', is not "/", and has no empty, "." or ".." component. */
int cgroup_path_check(const char *path);
/* "/sys/fs/cgroup/pids/davit/ns/id/pids.max", for faults. Cut when it does not fit. */
void cgroup_show(const struct cgroup_host *h, int hierarchy, const char *path, const char *file,
		 char *buf, size_t size);

/* Files of a group, relative to the hierarchy's mount. 0 or -errno. */
int cgroup_file_read(const struct cgroup_host *h, int hierarchy, const char *path, const char *file,
		     char **text);
int cgroup_file_write(const struct cgroup_host *h, int hierarchy, const char *path,
		      const char *file, const char *text);
int cgroup_file_open(const struct cgroup_host *h, int hierarchy, const char *path, const char *file,
		     int flags);

/*
 * Makes all folders above path, in every hierarchy, ready for a leaf (cpuset filled, v2
 * controllers handed down).
 */
int cgroup_parents_make(struct cgroup_host *h, const char *path, struct fault *f);
/*
 * v1: a group without cpus or mems takes no process. Copies them from the next folder above that
 * has some.
 */
int cgroup_cpuset_fill(struct cgroup_host *h, const char *path, struct fault *f);
/* Hands a v2 controller down to path's parent, so that path has its files. */
int cgroup_v2_enable(struct cgroup_host *h, const char *path, const char *controller,
		     struct fault *f);

/* cgroup_values.c and cgroup_resources.c: a value to be written, and lists of them. */
enum cgroup_value_kind {
	CGROUP_VALUE_PLAIN,
	CGROUP_VALUE_KEYED, /* "KEY rest": only this key's line is replaced */
	/* read again after the write: some kernels take it and do nothing */
	CGROUP_VALUE_LIMIT_READBACK,
};
struct cgroup_value {
	int hierarchy;
	enum cgroup_value_kind kind;
	/*
	 * values of one group (not 0) may have to be written in another order: EINVAL puts one
	 * behind the others
	 */
	int group;
	char controller[32];
	char file[96];
	char argument[64]; /* the field of linux.resources, as "memory.limit" */
	char *text;
	const char *unset; /* KEYED: what undoes a key that was not there, after "KEY " */
};
struct cgroup_values {
	struct cgroup_value *v;
	size_t n, room;
};
void cgroup_values_clear(struct cgroup_values *l);
int cgroup_values_add(struct cgroup_values *l, const struct cgroup_value *proto, const char *text);
/*
 * OCI LinuxResources (all but devices) to values. fresh: the group was made just now, nothing has
 * to be read.
 */
int cgroup_resources_read(struct cgroup *cg, bool fresh, json_object *resources,
			  struct cgroup_values *out, struct fault *f);
/* Writes them; with keep, what was there before is put back when one fails. */
int cgroup_values_apply(struct cgroup *cg, const struct cgroup_values *l, bool keep,
			struct fault *f);
/*
 * cpu.shares (2 to 262144) to cpu.weight (1 to 10000); blkio weight (10 to 1000) to io.weight (1
 * to 10000).
 */
uint64_t cgroup_weight_of_shares(uint64_t shares);
uint64_t cgroup_weight_of_blkio(uint64_t weight);

/* cgroup_devices.c */
int cgroup_devices_set(struct cgroup *cg, const struct spec_device_rule *rules, size_t n,
		       bool fresh, struct fault *f);
int cgroup_devices_read(json_object *resources, struct spec_device_rule **rules, size_t *n,
			struct fault *f);
struct cgroup_devices_state; /* what was in force, to be put back */
int cgroup_devices_save(struct cgroup *cg, struct cgroup_devices_state **out, struct fault *f);
int cgroup_devices_restore(struct cgroup *cg, const struct cgroup_devices_state *s);
void cgroup_devices_state_free(struct cgroup_devices_state *s);
