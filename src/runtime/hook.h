// SPDX-License-Identifier: Apache-2.0
/*
 * OCI hooks that run in the runtime's namespaces: starting one
 *
 * The state JSON is on stdin (a sealed memfd, so that nobody has to feed it), stdout and stderr go to a pipe whose read end is answered.
 */
#pragma once

#include <sys/types.h>

#include "runtime/spec.h"
#include "util/fault.h"

/* OCI state JSON, malloc'ed. status: "creating", "created", "running", "stopped"; pid 0 is left out. */
int hook_state(const struct spec *spec, const char *id, const char *bundle, const char *status,
	       pid_t pid, char **json);
/* Starts a hook: *pidfd and *output_fd (non-blocking) are the caller's. Exec failure is reported here. For a worker or the reactor: it does not wait but for the exec. */
int hook_spawn(const struct spec_hook *hook, const char *state_json, pid_t *pid, int *pidfd,
	       int *output_fd, struct fault *f);
