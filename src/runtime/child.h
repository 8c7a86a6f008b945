// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch, between clone and exec
 *
 * Private to the child_*.c and to launch*.c. Everything here runs in a copy of a threaded process: raw system calls and plain memory
 * only, no malloc, no stdio, no locks, and no libc wrapper for setuid and its like, which would look for the other threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/plan.h"

/* Messages. The parent sends one byte; the child a head, with a fd or a body for some. */
enum wire_kind {
	WIRE_GO = 'g', /* to the child */
	WIRE_CONTINUE = 'c',
	WIRE_START = 's',
	WIRE_PID = 1, /* to the parent: pid, fd: pidfd (PLAN_REFORK) */
	WIRE_TIME, /* in a new time namespace: offsets are wanted */
	WIRE_TTY, /* fd */
	WIRE_LISTENER, /* fd */
	WIRE_ROOT, /* fd: a detached tree (PLAN_GIVE_ROOT) */
	WIRE_HOOKS,
	WIRE_READY,
	WIRE_FAILED, /* with a body */
};
struct wire_head {
	int32_t kind;
	int32_t pid;
};
struct wire_failed {
	struct wire_head head;
	int32_t err, code, exit_code; /* code: enum fault_code, 0: as err says */
	char step[64], path[512];
	char text[256]; /* instead of STEP PATH; "" for none */
	char log[2048];
};

struct child {
	struct plan *plan;
	int sock;
	int root; /* O_PATH */
	int folder; /* of child_folder, -1 */
	const char *folder_path;
	size_t folder_len;
	int devnull; /* the host's, checked; -1 until wanted */
	int empty; /* an empty read-only tmpfs, detached; -1 until wanted */
	int master, slave;
	int label; /* the attribute file */
	bool cwd_again; /* the user may enter what root may not */
	const char *found; /* PLAN_FIND's answer */
	char found_path[PATH_MAX];
	char home[1024]; /* HOME=… */
	struct wire_failed failed; /* what an operation adds to its errno */
};

/* child.c */
/* Called in the clone, with the child's end of the socket. */
void child_run(struct plan *plan, int sock) __attribute__((noreturn));
/* Instead of "STEP PATH: ERRNO". Returns -err. */
int child_say(struct child *c, int err, enum fault_code code, const char *text, const char *path);
int child_send(struct child *c, enum wire_kind kind, int pid, int fd);
int child_wait(struct child *c, enum wire_kind kind); /* ends the process when the parent is gone */
size_t child_copy(char *to, size_t size, const char *from); /* as strlcpy */
size_t child_add(char *to, size_t size, const char *from); /* as strlcat */
char *child_number(char *to, int64_t n); /* decimal at to (room 24), returns to */

/* child_path.c: paths inside a root */
int child_open_in(int root, const char *path, uint64_t flags);
/* Opens a mount target with O_PATH, making what is missing. made may be NULL. */
int child_target(int root, const char *path, bool file, bool nofollow, bool *made);
/* Folder of the last component (made when missing), and where that begins. The fd is kept for the next path in the same folder. */
int child_folder(struct child *c, const char *path, const char **base);
void child_folder_forget(struct child *c); /* before a mount may cover it */

typedef int child_fn(struct child *c, const struct plan_op *op);
/* child_ns.c */
child_fn child_affinity, child_cgroups, child_ns_join, child_ns_join_pidfd, child_unshare,
	child_refork, child_time, child_wait_go, child_ids, child_keyring, child_lo_up,
	child_sysctl, child_hostname, child_domainname, child_chroot_proc;
/* child_root.c */
child_fn child_propagate, child_parent_private, child_root, child_root_mount, child_root_open,
	child_give_root, child_root_propagate, child_root_ro, child_pivot, child_chroot;
/* child_mount.c */
child_fn child_mount, child_attr, child_symlink, child_mask, child_readonly;
int child_mount_at(struct child *c, struct plan_mount *m,
		   int target); /* a file system or bind onto an open O_PATH target */
int child_devnull(struct child *c);
/* child_copy.c: what is below `from` into `to`, both folders, open for reading */
int child_copy_tree(struct child *c, int from, int to);
/* child_dev.c */
child_fn child_device, child_tty, child_console, child_stdio;
/* child_hook.c */
child_fn child_hooks, child_hook;
/* child_creds.c */
child_fn child_label, child_rlimit, child_personality, child_mempolicy, child_scheduler,
	child_ioprio, child_creds;
/* child_exec.c */
child_fn child_cwd, child_find, child_ready, child_exec;
