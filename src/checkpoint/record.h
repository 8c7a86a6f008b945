// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a checkpoint: what a restore has to know beside criu's own images
 *
 * Stored as JSON, the config of the checkpoint's artifact manifest
 * (application/vnd.davit.checkpoint.config.v1+json). What is read back is not trusted: it is checked
 * for shape and limits here, and only says which of the live container's things take which place.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checkpoint/criu_mounts.h"
#include "util/fault.h"

enum ckpt_net {
	CKPT_NET_HOST, /* the host's */
	CKPT_NET_SHARED, /* one that the spec names by its path */
	CKPT_NET_EMPTY, /* its own, with nothing in it but the loopback: made anew */
	CKPT_NET_DUMPED, /* its own, in criu's images */
	CKPT_NETS,
};

/* of all mounts but the root, parents first: made where they are missing */
struct ckpt_mountpoint {
	char *path;
	bool folder;
};

struct ckpt_record {
	/* the container */
	char *id, *ns, *image, *runtime, *snapshotter; /* "" when there is none */
	/*
	 * These trees are the record's alone: json-c's counts are not for several threads. Labels are
	 * without reserved ones (left out here when they are written and when they are read).
	 */
	json_object *labels;
	json_object *spec; /* the OCI runtime spec */
	int64_t created_at; /* of the checkpoint, ns since the epoch */
	char *criu_version, *kernel, *davit_version;
	/* how it was taken */
	bool open_tcp, external_unix_sockets, shell_job, file_locks, link_remap;
	char *cgroups_mode; /* as it was given to criu */
	char **empty_namespaces; /* criu's names */
	size_t n_empty;
	bool left_running;
	/* what was outside */
	struct criu_mounts mounts;
	struct ckpt_mountpoint *mountpoints;
	size_t n_mountpoints;
	enum ckpt_net net;
	char *net_key; /* what criu knows a shared or empty one by; "": CRIU_NET_KEY */
	char *stdio[3]; /* "pipe:[123]", "file[1a:2b]", "" for what criu restores by itself */
	bool terminal;
	char *tty; /* "RDEV:DEV" in hex, "" without a terminal */
	bool user_ns;
	bool net_rules; /* a dumped one had rules of nftables */
	json_object *stats; /* numbers, for people and lists */
};

/* Whether a label is not a checkpoint's to give: "containerd.io/…", "davit.…". */
bool ckpt_label_reserved(const char *key);

void ckpt_record_init(struct ckpt_record *r);
void ckpt_record_clear(struct ckpt_record *r);
/* JSON text, to be freed; the same record gives the same bytes. Texts that are NULL are "". -ENOMEM */
int ckpt_record_write(const struct ckpt_record *r, char **text, size_t *size);
/*
 * FAULT_FAILED_PRECONDITION says which member is missing or wrong. Unknown members are ignored. No
 * text and no tree is NULL afterwards. Mounts have the names "m0", "m1", … in rising order; their keys
 * differ, but for masks by the null device, which may share one.
 */
int ckpt_record_read(struct ckpt_record *r, const char *text, size_t size, struct fault *f);
