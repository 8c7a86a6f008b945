// SPDX-License-Identifier: Apache-2.0
/*
 * --device, and the host's devices for --privileged
 */
#pragma once

#include <json-c/json.h>

#include "util/fault.h"

/*
 * "SRC[:DST][:PERMISSIONS]" with permissions of r, w and m: the node in linux.devices and the right
 * to use it in linux.resources.devices. A folder stands for the devices in it.
 */
int device_option(json_object *linux_spec, const char *text, struct fault *f);
/* All nodes below the host's /dev but terminals; what vanishes meanwhile is passed over. */
int device_all(json_object *linux_spec, struct fault *f);
/* One rule of linux.resources.devices; type "a", "b", "c"; numbers -1 for any. */
json_object *device_rule(int allow, const char *type, long long major, long long minor,
			 const char *access);
