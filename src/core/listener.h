// SPDX-License-Identifier: Apache-2.0
/*
 * Seccomp notify listener: handing the fd to the agent at linux.seccomp.listenerPath
 */
#pragma once

#include <sys/types.h>

#include "core/davit.h"
#include "runtime/seccomp.h"
#include "runtime/spec.h"
#include "util/fault.h"

/*
 * pid: whose filter it is; init: of the container, the same or the one that an exec joined.
 * Connects on a worker and sends the fd (taken over) with the container process state as JSON (OCI runtime-spec,
 * "The Container Process State"). done is called once on the reactor, fault NULL when all went well. 0 or -errno (done is not called).
 */
int listener_send(struct davit *d, const struct seccomp_program *program, const struct spec *spec,
		  const char *id, const char *bundle, pid_t pid, pid_t init, int fd,
		  void (*done)(void *user, const struct fault *f), void *user);
