// SPDX-License-Identifier: Apache-2.0
/*
 * Capabilities: the default set, --cap-add and --cap-drop
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/fault.h"

/*
 * podman's default: what a container's root needs for ordinary software, and no more. Bits by
 * number.
 */
extern const uint64_t caps_default;
uint64_t caps_all(void); /* that the running kernel knows */
uint64_t caps_of(pid_t pid); /* effective of a process; 0 when it cannot be seen */
/* "CAP_NET_RAW", "net_raw" or "ALL" to bits. */
int caps_parse(const char *text, uint64_t *bits, struct fault *f);
/*
 * *set with `added` and without `dropped`. ALL on one side gives way to single ones on the other;
 * the same single capability on both sides is an error.
 */
int caps_change(uint64_t *set, uint64_t added, bool all_added, uint64_t dropped, bool all_dropped,
		struct fault *f);
/*
 * OCI's process.capabilities. For root all sets but the inheritable and ambient ones are `set`;
 * another user gets what was added by name alone (podman's rule), which takes the ambient set to
 * survive the exec.
 */
json_object *caps_json(uint64_t set, uint64_t added, bool root);
json_object *caps_names(uint64_t set);
/* The bits of an array of names; unknown names count nothing. */
uint64_t caps_bits(json_object *names);
