// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp: an OCI profile compiled to BPF by libseccomp, once per profile
 *
 * Compiling a profile of 400 calls takes milliseconds, so programs are kept (keyed by the profile's text; the
 * least recently used go first) and shared by reference. Thread-safe.
 */
#pragma once

#include <json-c/json.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

struct seccomp_cache;

struct seccomp_program {
	struct sock_filter *code;
	unsigned short length;
	unsigned flags; /* SECCOMP_FILTER_FLAG_… for seccomp(2) */
	bool notify; /* has SCMP_ACT_NOTIFY: load with NEW_LISTENER */
	char *listener_path, *listener_metadata; /* NULL when not given */
};

int seccomp_cache_new(struct seccomp_cache **out, size_t entries);
void seccomp_cache_free(struct seccomp_cache *c);
/* A reference; seccomp_put gives it back. c may be NULL: compiled for this caller alone. Unknown actions, architectures, flags, operators are invalid_argument; syscalls that libseccomp does not know are skipped, as runc and crun do. */
int seccomp_get(struct seccomp_cache *c, json_object *profile, struct seccomp_program **out,
		struct fault *f);
void seccomp_put(struct seccomp_program *p);
