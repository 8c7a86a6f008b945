// SPDX-License-Identifier: Apache-2.0
/*
 * Snapshots of containers: making them, and removing them with their container
 */
#pragma once

#include <json-c/json.h>

#include "cli/cli.h"
#include "util/fault.h"

/*
 * A writable snapshot on top of `parent` ("" for an empty one) under the key, or under one that
 * begins so when it is taken: a container that is gone may have left it. *used is the key, *mounts
 * what to mount. labels is taken over (NULL for none).
 */
int cli_snapshot_new(struct cli *cli, const char *snapshotter, const char *key, const char *parent,
		     const char *lease, json_object *labels, char **used, json_object **mounts,
		     struct fault *f);
/* Failures are left to garbage collection. */
void cli_snapshot_remove_quietly(struct cli *cli, const char *snapshotter, const char *key);

/* The label of a container by which garbage collection finds the snapshots of its volumes. */
#define LABEL_GC_SNAPSHOT "containerd.io/gc.ref.snapshot."
#define LABEL_VOLUME_SUFFIX "/davit.volume." /* and a number, behind the snapshotter's name */

/*
 * What belongs to a container (a record of containers.get) alone: its snapshot and those of its
 * volumes. Taken while it is there, for cli_snapshots_forget after its removal; NULL when it has none.
 * Garbage collection does the same later; a snapshot that another container has got under the same
 * key meanwhile is left alone.
 */
json_object *cli_snapshots_of(struct cli *cli, json_object *container);
void cli_snapshots_forget(struct cli *cli, json_object *list /* taken over; NULL is fine */);
