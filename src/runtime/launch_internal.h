// SPDX-License-Identifier: Apache-2.0
/*
 * Launching, inside: what launch.c and launch_spawn.c share
 */
#pragma once

#include "runtime/child.h"
#include "util/fault.h"

/* A child's message of failure to a fault. Returns -errno as fault_set does. */
int launch_wire_fault(const struct wire_failed *msg, struct fault *f);
