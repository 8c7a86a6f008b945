// SPDX-License-Identifier: Apache-2.0
/*
 * -v and --tmpfs
 */
#pragma once

#include <json-c/json.h>

#include "util/fault.h"

/*
 * "SRC:DST[:OPTIONS]" as an OCI mount added to `mounts`. SRC is a path that exists; relative ones
 * begin with "./" or "../".
 */
int volume_bind(json_object *mounts, const char *text, struct fault *f);
/* "DST[:OPTIONS]"; rw,noexec,nosuid,nodev unless the options say otherwise. */
int volume_tmpfs(json_object *mounts, const char *text, struct fault *f);
/*
 * Adds `added` to `mounts` (both OCI mount lists): one with the destination of an earlier one
 * replaces it, and a folder is mounted before what lies in it.
 */
void volume_merge(json_object *mounts, json_object *added);
/* Whether something is mounted at this destination. */
int volume_has(json_object *mounts, const char *destination);
json_object *volume_mount(const char *destination, const char *type, const char *source,
			  const char *const *options);
