// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp profiles for the spec
 */
#pragma once

#include <json-c/json.h>
#include <stdint.h>

#include "util/fault.h"

/*
 * The default profile as OCI's linux.seccomp, for a container with these capabilities (bits by
 * number).
 */
json_object *seccomp_default(uint64_t caps);
/*
 * A profile of the user: OCI's own form passes as it is; the form of docker and containers-common
 * (archMap, includes, excludes) is resolved for this architecture and these capabilities.
 */
int seccomp_resolve(json_object *profile, uint64_t caps, json_object **out, struct fault *f);
