// SPDX-License-Identifier: Apache-2.0
/*
 * criu's command line
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "checkpoint/criu_mounts.h"

#define CRIU_LOG "criu.log" /* in the work folder */
#define CRIU_PIDFILE "criu.pid"
#define CRIU_NET_KEY "extNet" /* name of a network namespace that is handed in */

struct criu_args {
	char **v; /* NULL-terminated */
	size_t n, room;
	bool failed; /* no memory */
};
void criu_args_clear(struct criu_args *a);
void criu_arg(struct criu_args *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct criu_common {
	const char *program, *images_dir, *work_dir; /* absolute */
	bool stream;
	bool open_tcp, external_unix_sockets, shell_job, file_locks, link_remap;
	const char *cgroups_mode; /* NULL: "ignore" */
	const char *network_lock; /* "iptables", "nftables", "skip"; NULL: criu's default */
	const char *action_script; /* NULL for none */
	const char *const *empty_namespaces; /* names as criu knows them */
	size_t n_empty;
	unsigned log_level; /* 0 to 4 */
};

struct criu_dump {
	struct criu_common c;
	pid_t pid;
	bool leave_running;
	const struct criu_mounts *mounts;
	uint64_t net_inode; /* of a network namespace that stays outside; 0: criu's to dump */
	const char *freeze_cgroup; /* folder of a freezer; NULL */
	/* "file[MNT:INODE]", in hex, "tty[RDEV:DEV]": what was opened outside of the container */
	const char *const *files;
	size_t n_files;
};
void criu_args_dump(struct criu_args *a, const struct criu_dump *d);

struct criu_inherit {
	const char *key; /* "pipe:[123]", "tty[1:2]", "file[1:2]", CRIU_NET_KEY … */
	int number; /* of the fd in criu */
};
struct criu_source { /* where a mount that is handed in comes from */
	const char *name; /* criu_mount_key of it */
	const char *path; /* in criu's mount namespace */
};
struct criu_restore {
	struct criu_common c;
	const char *root; /* a mount point in criu's mount namespace */
	bool tcp_close;
	const struct criu_inherit *inherit;
	size_t n_inherit;
	const struct criu_source *sources;
	size_t n_sources;
	const char *const *join; /* "net:/path": namespaces that are joined */
	size_t n_join;
};
void criu_args_restore(struct criu_args *a, const struct criu_restore *r);
