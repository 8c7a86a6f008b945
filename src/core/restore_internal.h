// SPDX-License-Identifier: Apache-2.0
/*
 * Restores, inside
 */
#pragma once

#include <sys/queue.h>
#include <sys/types.h>

#include "checkpoint/hook.h"
#include "checkpoint/images_check.h"
#include "checkpoint/pace.h"
#include "core/checkpoint_image.h"
#include "core/criu.h"
#include "core/progress.h"
#include "core/task_restore.h"
#include "store/lease.h"

struct restore_mount { /* option external_mounts: a source by its path in the container */
	char *path, *source;
	bool used;
};

struct restore {
	struct worker_job verify, settle,
		narrow; /* while one of them runs, memory and task are kept */
	struct progress *progress; /* NULL: nobody asked */
	uint64_t total, done; /* bytes for criu */
	struct davit *d;
	struct process *p; /* NULL once freed by it; its task's memory is kept while a job runs */

	/* asked for */
	char *name, *folder; /* of the checkpoint; one of them, or target */
	struct oci_descriptor target;
	bool has_target, tcp_close;
	char *network, *work_path;
	int64_t stall_ns; /* without any progress of criu's: the restore has failed. 0: never */
	struct restore_mount *mounts;
	size_t n_mounts;

	/* made ready by restore_prepare */
	char *ns;
	struct spec *spec; /* the live one's copy, for workers */
	struct checkpoint_read read;
	/* of one with deleted files: its root is nobody else's until criu has ended */
	LIST_ENTRY(restore) same_root;
	dev_t root_dev;
	ino_t root_ino;
	bool root_taken;
	const char *who;
	size_t n_tasks; /* threads of the checkpoint */
	json_object *
		limits; /* of the live spec's resources, to be set when criu has ended; NULL: none */
	struct criu_run *run;
	int *fds; /* all that were opened for criu; closed when it has begun */
	int master; /* of the terminal; -1 for none */
	int root; /* the container's root, where parts of it can be bound; one of fds; else -1 */
	size_t n_fds;
	char **texts; /* whatever criu's steps and arguments point to */
	size_t n_texts;
	struct criu_inherit *inherit;
	size_t n_inherit;
	struct criu_source *sources;
	size_t n_sources;

	/* under way */
	struct event *stall; /* while criu has something to do */
	uint64_t progress_seen;
	struct serve *serve;
	struct hook_point *hook;
	pid_t pid;
	bool held, settled, verified, ready, released, criu_over, dead;
	struct fault fault; /* code 0: none yet */
	struct task *task;
	unsigned jobs; /* of the three */
	struct pace verify_pace; /* of those that verify, beside criu */
	struct fault verify_fault, settle_fault, narrow_fault;
	int verify_result, settle_result, narrow_result;
};

/* ---- restore_prepare.c: what is handed to criu */
char *restore_text(struct restore *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int restore_keep_fd(struct restore *r, int fd); /* takes it over; 0 or -ENOMEM (closed) */
int restore_step(struct restore *r, enum criu_step_kind kind, int fd, const char *target,
		 const char *data, unsigned long flags);
/* An fd that criu inherits under this key; borrowed. */
int restore_inherit(struct restore *r, int fd, const char *key);
int restore_no_memory(struct fault *f);

/* ---- restore_mounts.c */
int restore_root(struct restore *r, const struct restore_start *s, char **root, struct fault *f);
int restore_mounts(struct restore *r, const struct restore_start *s, struct fault *f);
/* ---- restore_roots.c */
/* On a worker; refused while another one has it. */
int restore_root_take(struct restore *r, const struct restore_start *s, int root, struct fault *f);
void restore_root_drop(struct restore *r); /* when it has none too */
/* ---- restore_limits.c, on a worker */
/* The limits of the empty cgroup are made wide enough for criu; r->limits is what they have to be. */
int restore_limits_widen(struct restore *r, const struct restore_start *s, struct fault *f);
/* They are as the spec has them again, or all processes are killed, and the fault says why. */
int restore_limits_narrow(struct restore *r, struct cgroup *cg, struct fault *f);
bool restore_is_bind(const struct spec_mount *m);
/* ---- restore_live.c */
/*
 * On a worker, while criu holds the restored processes, r->pid their init: what the spec restricts is set where
 * that is possible. FAULT_PERMISSION_DENIED or FAULT_FAILED_PRECONDITION: it does not hold.
 */
int restore_live(struct restore *r, struct fault *f);
/* ---- restore_net.c */
int restore_net(struct restore *r, const struct restore_start *s, struct fault *f);
/* ---- restore_stdio.c */
int restore_stdio(struct restore *r, const struct restore_start *s, struct fault *f);
