// SPDX-License-Identifier: Apache-2.0
/*
 * davit restore: what its parts share
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>

#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "util/fault.h"

struct restore {
	struct cli *cli;
	struct checkpoint c;
	char *lease; /* keeps what is made until the task is there */
	char *image; /* name of the checkpoint's image; NULL for a folder */
	bool imported; /* the image was made for this restore, and goes after it */
	char *folder; /* with criu's images, absolute; NULL for an image */
	char *id; /* of the container to be */

	/* restore_spec */
	json_object *spec; /* the live one */
	json_object *external; /* options.external_mounts; NULL for none */
	json_object *volumes; /* mounts of the spec that are snapshots of the old container */

	/* restore_root */
	char *snapshotter, *key; /* of the container's snapshot; NULL without one */
	json_object *labels; /* of the container, so far */
	json_object *snapshots; /* keys that go when the restore fails */
};

/* ---- restore_source.c: the checkpoint */
/*
 * What `text` means: an image, a folder, or an archive, which is imported. Fills c, image, imported,
 * folder, lease.
 */
int cli_restore_find(struct restore *r, const char *text, struct fault *f);
/* The lease, and an image that was made for this: they are not needed once the task is there. */
void cli_restore_drop_source(struct restore *r);

/* ---- restore_spec.c: the spec */
/*
 * The recorded spec with what the options say, and for a checkpoint that is not trusted without what
 * a container does not get by default. snapshots: the folder of the daemon's snapshots, "" when it
 * is not known.
 */
int cli_restore_spec(struct restore *r, const char *snapshots, struct fault *f);

/* ---- restore_foreign.c: the same, of a checkpoint that somebody else has made */
/*
 * Refuses what asks for more than the default spec gives, unless options have given it: mounts and
 * devices are those of -v and --device (OCI lists). Hooks and what else a restore does without are
 * dropped. network_given: the network namespace is the user's choice.
 */
int cli_restore_foreign(json_object *spec, json_object *mounts, json_object *devices,
			json_object *rules, bool network_given, struct fault *f);

/* ---- restore_root.c: the root file system */
/* The snapshot with the checkpoint's changes, and those of volumes; or the folder in the spec. */
int cli_restore_root(struct restore *r, struct fault *f);
void cli_restore_root_undo(struct restore *r);
