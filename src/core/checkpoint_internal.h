// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as images, inside
 */
#pragma once

#include <errno.h>
#include <json-c/json.h>

#include "core/checkpoint_image.h"
#include "util/fault.h"

#define CHECKPOINT_INVENTORY                                                                       \
	"inventory.img" /* criu writes it last: without it there is no checkpoint */

static inline void checkpoint_json_putp(json_object **j)
{
	json_object_put(*j);
}

static inline int checkpoint_no_memory(struct fault *f)
{
	return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "checkpoint");
}

/* An image_fn: the image's target, to be cleared. */
struct checkpoint_target {
	struct oci_descriptor descriptor;
	struct fault *f;
};
int checkpoint_take_target(void *user, const struct image_info *info);

/* criu's images are all there: sorts them. `what` they are of begins the fault. */
int checkpoint_files_ready(struct serve_files *files, const char *what, struct fault *f);
