// SPDX-License-Identifier: Apache-2.0
/*
 * tasks.checkpoint: what its parts share. task_checkpoint.c has the design.
 */
#pragma once

#include <pthread.h>

#include "checkpoint/capture.h"
#include "checkpoint/hook.h"
#include "checkpoint/record.h"
#include "checkpoint/stats_dump.h"
#include "core/checkpoint_image.h"
#include "core/criu.h"
#include "core/progress.h"
#include "core/task_internal.h"
#include "store/lease.h"

struct ckpt_options {
	bool exit;
	bool open_tcp, external_unix_sockets, terminal, file_locks, link_remap;
	char **empty_namespaces; /* criu's names */
	size_t n_empty;
	char *cgroups_mode, *network_lock; /* NULL: davit's choice */
	char *image_path, *work_path; /* NULL: none */
	bool compress;
	int level;
	int64_t stall_ns;
};
#define CKPT_LEVEL_DEFAULT 1
#define CKPT_STALL_DEFAULT (30ll * 1000000000)
/* Wrong ones: FAULT_INVALID_ARGUMENT. map may be NULL. */
int ckpt_options_read(struct ckpt_options *o, const msgpack_object *map, struct fault *f);
void ckpt_options_clear(struct ckpt_options *o);

enum ckpt_phase {
	CKPT_PREPARE, /* a worker looks at the container and makes the folder */
	CKPT_DUMP, /* criu is at work */
	CKPT_DIFF, /* the writable layer is copied aside, criu is held */
	CKPT_SEAL, /* what is left is packed and written */
	CKPT_COMMIT, /* manifest, index and image record */
	CKPT_PHASES,
};

struct ckpt { /* one checkpoint being taken */
	struct worker_job job; /* prepare, commit: one at a time */
	struct davit *d;
	struct task *t; /* its memory is kept by task_job_begin */
	struct ipc_request *req; /* NULL: not wanted any more */
	struct progress *progress; /* NULL: nobody asked */
	char *ns, *id, *name, *lease;
	struct ckpt_options o;

	/* what workers need, taken from the task beforehand */
	pid_t pid;
	struct spec_blob *blob;
	char *image, *snapshotter, *snapshot_key, *container_runtime;
	struct labels *labels;
	enum stdio_kind stdio_kinds[3];
	uint64_t stdio_pipes[3]; /* inodes, or 0 */
	bool has_terminal, paused;
	char *freezer; /* folder; NULL */
	int folder; /* image_path, when it is ours to write to; -1 */
	bool folder_made;

	/* the store's side */
	struct store_call call;
	struct lease_hold hold;
	bool held;
	struct store_events events;
	struct cancel cancel;
	pthread_mutex_t lock; /* of events and blobs while the sink is at work */
	struct ckpt_blob *blobs; /* finished ones */
	size_t n_blobs;

	/* the dump */
	struct criu_run *run;
	struct capture *capture;
	struct hook_point *hook;
	struct event *overdue; /* NULL: nobody is waited for, or a capture watches */
	int64_t overdue_ns; /* without progress */
	uint64_t overdue_seen; /* of it, at the last look */
	struct ckpt_record record;
	bool wants_hook, at_hook; /* at_hook: criu is held */
	bool drained, diff_done, sealed, committed; /* steps that are done */
	bool final; /* criu was told to end the task: there is no way back */
	bool starting, sealing, committing; /* what is under way; committing: any job */
	bool capture_alive, dropping; /* jobs of the capture may use the sink */
	bool criu_over; /* it has ended, or never began */
	bool asked_for_end; /* of what criu has written */
	bool peer_failed; /* criu broke off: its log has the reason */
	uint64_t memory; /* of the task's own, about, before it was frozen; bytes */
	struct capture_stats capture_stats; /* of its end */
	struct stats_dump stats_dump;
	bool has_stats_dump;
	int diff_fd; /* the copy of the writable layer; -1 */
	char *diff_name;
	int64_t diff_ns;

	/* how it ended */
	struct fault fault; /* code 0: well so far */
	struct fault job_fault; /* of the job under way: its worker's until it is done */
	bool job_failed;
	int result;
	int64_t began, phase_at[CKPT_PHASES], released_at, ended_at;
	char *image_name;
	struct oci_descriptor index;
	struct oci_descriptor *descriptors;
	size_t n_descriptors;
};

struct ckpt_blob { /* a blob that the sink has finished */
	enum capture_kind kind;
	bool diff;
	char *file; /* "" but for pages */
	struct digest digest;
	uint64_t size, file_size;
};

/* ---- ckpt_prepare.c, on a worker */
int ckpt_prepare(struct ckpt *ck);

/* ---- ckpt_limits.c, on a worker */
/* FAULT_RESOURCE_EXHAUSTED when there are more processes than a checkpoint can hold, as far as that can be seen. Fills in `memory`. */
int ckpt_check_limits(struct ckpt *ck, struct fault *f);

/* ---- ckpt_net.c, on a worker */
/* Whether there is nothing in the process's network namespace that a new one has not; nft: rules of nftables. */
int ckpt_net_is_empty(pid_t pid, bool *empty, bool *nft, struct fault *f);

/* ---- ckpt_watch.c: the deadline of what is waited for; each call sets it anew */
void ckpt_expect_criu(struct ckpt *ck, bool on);
void ckpt_expect_store(struct ckpt *ck);
void ckpt_overdue(struct ckpt *ck, const struct fault *f); /* task_checkpoint.c: may free ck */

/* ---- ckpt_sink.c */
struct capture_sink ckpt_sink(struct ckpt *ck);
/* Adds a finished blob; takes file over. On any thread. */
int ckpt_blob_add(struct ckpt *ck, const struct ckpt_blob *blob, struct fault *f);

/* ---- ckpt_diff.c, on a worker */
/* Whether a copy of the writable layer will belong to the checkpoint. */
int ckpt_diff_wanted(struct ckpt *ck, bool *wanted, struct fault *f);
/* Copies the container's writable layer aside; nothing without a snapshot. */
int ckpt_diff_copy(struct ckpt *ck, struct fault *f);
/* The copy becomes a layer in the content store. */
int ckpt_diff_pack(struct ckpt *ck, struct fault *f);

/* ---- ckpt_folder.c, on a worker: image_path */
int ckpt_folder_open(struct ckpt *ck,
		     struct fault *f); /* made, or FAULT_ALREADY_EXISTS unless it is empty */
int ckpt_folder_commit(struct ckpt *ck, struct fault *f); /* durable, with the record */
void ckpt_folder_drop(struct ckpt *ck); /* of one that failed: what is in it goes */

/* ---- ckpt_commit.c */
int ckpt_commit(struct ckpt *ck); /* on a worker */
void ckpt_undo_commit(struct ckpt *ck); /* on a worker: the image record goes */
void ckpt_answer(struct ckpt *ck); /* on the reactor: the event and the answer */
