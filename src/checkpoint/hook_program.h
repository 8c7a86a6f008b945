// SPDX-License-Identifier: Apache-2.0
/*
 * criu's action script as a program of a few hundred bytes
 */
#pragma once

#include <stddef.h>

#include "util/fault.h"

/*
 * Writes it to path: at `stage` it asks the socket as hook_main does, at others it ends well. 1, or 0
 * where there is none for this machine (or the socket's path is too long for it); negative: a fault.
 */
int hook_program_write(const char *path, const char *socket, const char *stage, struct fault *f);
