// SPDX-License-Identifier: Apache-2.0
/*
 * Mounts of snapshots as commands that can be typed
 */
#pragma once

#include <json-c/json.h>

#include "util/fault.h"

/*
 * Prints what mounts the one mount at the folder `target`, a line for a shell. FAULT_RESOURCE_EXHAUSTED,
 * with nothing printed, for layers that mount(8) cannot be told.
 */
int snapmount_print(json_object *mount, const char *target, struct fault *f);
