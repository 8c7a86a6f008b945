// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as the command line sees them: an image's record of what was checkpointed
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"
#include "util/fault.h"

/* Labels of an image, both "true": it is a checkpoint; this daemon has made it. */
#define CHECKPOINT_LABEL "containerd.io/checkpoint"
#define CHECKPOINT_LABEL_LOCAL "davit.checkpoint.local"

/* In a folder with criu's images. */
#define CHECKPOINT_RECORD_FILE "davit-checkpoint.json"

enum {
	CHECKPOINT_E_NONE = 1, /* the image is no checkpoint */
};

struct checkpoint {
	/*
	 * What was written down of the container (docs/ARCHITECTURE.md). Whoever made the checkpoint
	 * wrote it: members have the types that are looked at here, their values are not to be believed.
	 */
	json_object *record;
	json_object *target; /* the index's descriptor; NULL for a folder */
	json_object *diff; /* descriptor of the writable layer; NULL without one */
	bool has_base; /* the container's image hangs below the index */
	bool local; /* this daemon has made it */
	uint64_t size; /* of the blobs that are the checkpoint's alone */
};
void cli_checkpoint_clear(struct checkpoint *c);

/*
 * Of an image's record {name, target, labels}. Its documents are checked against their digests.
 * CHECKPOINT_E_NONE leaves *out empty.
 */
int cli_checkpoint_read(struct cli *cli, json_object *image, struct checkpoint *out,
			struct fault *f);
/* Of a folder that has a record in it. FAULT_NOT_FOUND without one. */
int cli_checkpoint_read_folder(const char *path, struct checkpoint *out, struct fault *f);

/* Absolute, whether it exists or not. */
char *cli_checkpoint_absolute(const char *path);

/* "1.23 ms", "4.5 s"; buf of 16 bytes. */
void cli_checkpoint_time(int64_t us, char *buf, size_t size);
/* "3.1", of bytes that went in to what came out; "-" for what is not known. buf of 16 bytes. */
void cli_checkpoint_ratio(int64_t in, int64_t out, char *buf, size_t size);

/* The option --stall-timeout, in seconds, of a command becomes the option stall_timeout of a request. 0 or negative */
int cli_checkpoint_stall(struct cli *cli, json_object *options, struct fault *f);
