// SPDX-License-Identifier: Apache-2.0
/*
 * The launch plan: what a child does between clone and exec, as data
 *
 * Private to launch.c, the plan_*.c that compile it, and the child_*.c that execute it. All strings and structs live in the
 * plan's arena; after the clone the child reads them from its copy of the memory and changes none but those marked so.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/launch.h"
#include "runtime/mount_opts.h"
#include "runtime/spec.h"
#include "util/fault.h"

struct plan_chunk;

enum plan_kind {
	PLAN_AFFINITY, /* bits */
	PLAN_CGROUPS, /* joins what plan->join holds */
	PLAN_NS_JOIN, /* join: an fd slot */
	PLAN_NS_JOIN_PIDFD, /* flags: the namespaces of plan->join_pidfd */
	PLAN_UNSHARE, /* flags */
	PLAN_REFORK, /* clones the final process into new namespaces, as a sibling */
	PLAN_TIME, /* a new time namespace with offsets, written by the parent */
	PLAN_WAIT, /* until the parent says go */
	PLAN_IDS, /* ids: become root of a user namespace */
	PLAN_KEYRING,
	PLAN_LABEL, /* opens the attribute file, while the host's /proc is there */
	PLAN_LO_UP,
	PLAN_SYSCTL, /* path, text */
	PLAN_HOSTNAME, /* text */
	PLAN_DOMAINNAME, /* text */
	PLAN_PROPAGATE, /* path, flags: MS_… on "/" of the new mount namespace */
	PLAN_PARENT_PRIVATE, /* path: the mount it lives in is made private */
	/* path or slot: cloned, put over "/", becomes the root fd; flags 1: over its own path instead */
	PLAN_ROOT,
	PLAN_ROOT_MOUNT, /* mount: one of the rootfs list, at an absolute path */
	PLAN_ROOT_OPEN, /* path: the root fd; flags 1: its mounts become private */
	PLAN_GIVE_ROOT, /* of the outer plan: sends a clone of the root, and that was all */
	PLAN_MOUNT, /* mount */
	PLAN_ATTR, /* mount: attributes of what is mounted at dest */
	PLAN_SYMLINK, /* path, text: target; exact */
	PLAN_DEVICE, /* device */
	PLAN_TTY, /* the pty, from the container's devpts, or the host's */
	PLAN_CONSOLE, /* the pty's slave over /dev/console */
	PLAN_MASK, /* path; flags 1: it has to be on a procfs */
	PLAN_READONLY, /* the same */
	PLAN_HOOKS, /* tells the parent, waits */
	PLAN_HOOK, /* hook */
	PLAN_ROOT_PROPAGATE, /* flags */
	PLAN_ROOT_RO,
	PLAN_PIVOT, /* flags 1: the old root may be shared */
	PLAN_CHROOT, /* the root fd; after PLAN_ROOT this is what no_pivot_root wants */
	PLAN_CHROOT_PROC, /* join: an fd slot of /proc/PID/root */
	PLAN_STDIO,
	PLAN_RLIMIT, /* rlimit */
	PLAN_PERSONALITY, /* number */
	PLAN_MEMPOLICY, /* bits */
	PLAN_SCHEDULER, /* sched */
	PLAN_IOPRIO, /* number */
	PLAN_CWD, /* path */
	PLAN_FIND, /* is the program there? */
	PLAN_READY, /* tells the parent, waits for the start */
	PLAN_CREDS,
	PLAN_EXEC,
	PLAN_KINDS,
};

#define PLAN_DATA_PAGE 4096 /* what mount(2) takes, the NUL included */

struct plan_param { /* of fsconfig(2) */
	const char *key, *value; /* value NULL: a flag */
};

struct plan_mount {
	struct plan_mount *next; /* of plan->late */
	const char *source, *type, *dest, *data;
	const char *from; /* folder that relative paths in data or params start at, NULL for none */
	const struct plan_param *params; /* instead of data, when that is too long for mount(2) */
	size_t n_params;
	struct mount_opts opts;
	bool file; /* the target is a file */
	bool dir_mode; /* tmpfs: data gets the mode of the folder that it covers */
	int slot; /* a tree that was opened outside; -1 */
};

struct plan_device {
	const char *path, *bind; /* bind: the host's node to mount there instead of mknod; NULL */
	mode_t mode; /* with the type */
	dev_t rdev;
	uid_t uid;
	gid_t gid;
	bool optional; /* one of the defaults: an existing node is fine */
};

struct plan_bits {
	size_t bytes;
	int mode; /* MPOL_… */
	uint64_t v[16];
};

/* sched_setattr(2)'s argument, which libc does not have */
struct plan_sched {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct plan_hook {
	const char *name; /* "createContainer" */
	char *const *argv, *const *envp;
	const char *path;
	int timeout_ms; /* -1: none */
	bool started; /* the state JSON says created, not creating */
};

struct plan_op {
	enum plan_kind kind;
	const char *step; /* static text */
	const char *path; /* may be NULL */
	union {
		unsigned long flags;
		int64_t number;
		struct {
			const char *text;
			/* PLAN_SYMLINK: what is there already has to be the same link */
			bool exact;
		};
		struct {
			int slot, flag;
		} join;
		struct {
			uid_t uid;
			gid_t gid;
		} ids;
		struct plan_mount *mount;
		struct plan_device *device;
		struct plan_bits *bits;
		struct plan_sched *sched;
		struct plan_hook *hook;
		struct spec_rlimit rlimit;
	};
};

/* What launch_spawn opens before it clones; the fd lands in plan->fds[slot]. */
enum plan_open_kind {
	PLAN_OPEN_NS, /* path: a namespace */
	PLAN_OPEN_PATH, /* path, O_PATH */
	PLAN_OPEN_PIDFD, /* of join_pid */
	/* path: a clone of the mount there, made private or slave, id-mapped when maps are given */
	PLAN_OPEN_TREE,
	PLAN_OPEN_ROOTFS, /* what the outer plan mounts */
};
struct plan_open {
	enum plan_open_kind kind;
	const char *path;
	bool recursive, nofollow, idmap_recursive;
	int ns_flag; /* PLAN_OPEN_NS: CLONE_NEW… */
	const struct spec_idmaps *uids, *gids; /* id mapping of the mount; NULL for none */
	int slot;
};

#define PLAN_SHARED_BYTES 16384
#define PLAN_FDS 1100 /* id-mapped and user namespace mounts need one each */

struct plan {
	struct plan_chunk *chunks;
	struct plan_op *ops;
	size_t n_ops, room_ops;
	struct plan_open *opens;
	size_t n_opens, room_opens;
	int *fds;
	size_t n_fds;

	bool exec; /* joins a container */
	bool new_user, user_by_path;
	bool waits; /* has a PLAN_WAIT: the parent sends go */
	bool time_sync, refork;
	bool in_thread; /* the clone is made by a thread that joins namespaces itself */
	uint64_t clone_flags; /* CLONE_NEW… of the first clone */
	uint64_t refork_flags;
	uint64_t thread_flags; /* in_thread: CLONE_NEW… that are joined from slots or the pidfd */
	uint64_t ignored_signals; /* bit n-1: signal n has to be set back to its default */
	bool hooks_outside; /* prestart or createRuntime are due */
	bool hooks_inside; /* a state memfd is wanted */
	bool shared_root; /* rootfsPropagation is shared */
	bool private_root; /* … private */

	/* for the parent */
	const char *uid_map, *gid_map, *time_offsets;
	int oom_score_adj; /* INT_MIN: as it is */
	const struct spec *spec;
	const char *id, *bundle;
	struct plan_mount *late; /* tmpfs that become read-only when all is in them */
	/* mounts the rootfs list with the host's rights, for a container with a user namespace */
	struct plan *outer;

	pid_t join_pid;
	int userns; /* the last id-mapped mount's, while the plan's files are opened; -1 */
	const struct plan_open *userns_of;
	const struct spec_idmaps
		*stdio_maps; /* of the user namespace that the uid is of; NULL for none */

	/* for the child */
	int join_pidfd;
	struct cgroup_join join;
	struct cgroup *cgroup; /* borrowed; NULL for none */
	int stdio[3];
	bool terminal;
	uint16_t width, height;
	const struct seccomp_program *seccomp;
	struct spec_caps caps;
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t n_groups;
	mode_t umask;
	bool no_new_privileges;
	const char *label; /* what is written to the attribute file, NULL for none */
	const char *label_file; /* "/proc/self/attr/exec" or AppArmor's own */
	char *const *argv;
	char **envp; /* with a free slot at env_home for HOME */
	size_t env_home; /* SIZE_MAX when HOME is given */
	const char *program; /* found beforehand, NULL: look it up */
	const char *search; /* PATH */
	int state_fds[2]; /* memfds of the hooks' state: creating, created; -1 */
	void *shared; /* PLAN_SHARED_BYTES: between the child and its seccomp helper thread */
};

int plan_new(struct plan **out);
void plan_free(struct plan *p); /* closes what plan->fds holds */
void *plan_alloc(struct plan *p, size_t size); /* zeroed, or NULL */
char *plan_strdup(struct plan *p, const char *s);
char *plan_printf(struct plan *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A zeroed op at the end; NULL without memory. */
struct plan_op *plan_add(struct plan *p, enum plan_kind kind, const char *step, const char *path);
/* A zeroed open with a fresh slot; NULL without memory. */
struct plan_open *plan_add_open(struct plan *p, enum plan_open_kind kind, const char *path);

/* plan_compile.c: a create; plan_join.c: an exec */
int plan_compile(struct plan *p, const struct launch_request *r, struct fault *f);
int plan_join(struct plan *p, const struct launch_request *r, struct fault *f);

/* plan_process.c: what both have: rlimits, scheduler, cwd, creds, program */
int plan_process_early(struct plan *p, const struct launch_request *r, struct fault *f);
int plan_process(struct plan *p, const struct launch_request *r, struct fault *f);
int plan_no_memory(struct fault *f);

/* plan_mounts.c */
int plan_mounts(struct plan *p, const struct launch_request *r, struct fault *f);
int plan_mounts_late(struct plan *p, struct fault *f); /* after devices and terminal */
int plan_rootfs(struct plan *p, const struct launch_request *r, struct fault *f);
int plan_root_path(struct plan *p, const struct launch_request *r, const char **path,
		   struct fault *f);
/*
 * plan_overlay.c: an overlay whose options are longer than PLAN_DATA_PAGE. -ENOMEM; -ENAMETOOLONG: it cannot be
 * mounted at all.
 */
int plan_overlay(struct plan *p, const char *data, struct plan_mount *out);
/* plan_cgroup.c: a mount of type cgroup or cgroup2 */
int plan_cgroup_mount(struct plan *p, const struct launch_request *r, const struct spec_mount *m,
		      struct mount_opts *o, struct fault *f);
/* plan_devices.c */
int plan_devices(struct plan *p, const struct launch_request *r, struct fault *f);
/* plan_check.c */
int plan_check_program(struct plan *p, const struct launch_request *r, const char *root,
		       struct fault *f);
int plan_check_sysctl(const struct spec *s, const struct spec_sysctl *c, struct fault *f);
int plan_check_labels(struct plan *p, const struct spec_process *proc, const char *mount_label,
		      struct fault *f);
bool plan_selinux(void);
/* The daemon's own namespace of this kind is the one at path. */
bool plan_same_ns(const char *path, enum spec_ns_kind kind);
bool plan_is_new(const struct spec *s, enum spec_ns_kind kind);

/* userns.c: a user namespace with these mappings and nobody in it; the caller closes *fd */
int userns_open(const struct spec_idmaps *uids, const struct spec_idmaps *gids, int *fd,
		struct fault *f);
/* "0 100000 65536\n" lines, malloc'ed. */
char *userns_map(const struct spec_idmaps *maps);
int userns_write(pid_t pid, const char *uid_map, const char *gid_map, struct fault *f);

/* netdev.c: moves linux.netDevices into the network namespace of pid, with names and addresses */
int netdev_move(const struct spec_net_device *devices, size_t n, pid_t pid, struct fault *f);

/* launch_spawn.c: the parent's part around the clone. sock: the parent's end. */
int plan_spawn(struct plan *p, int *sock, pid_t *pid, int *pidfd, struct fault *f);
