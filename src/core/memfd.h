// SPDX-License-Identifier: Apache-2.0
/*
 * Running from a sealed copy of the own binary
 *
 * A container's process can reach the binary that set it up through /proc/PID/exe and, as root,
 * write to it (CVE-2019-5736). The daemon therefore runs from a memfd that nothing can write to.
 */
#pragma once

#include <stdbool.h>

#include "util/fault.h"

/* Whether this process runs from a sealed memfd already. */
bool memfd_sealed(void);
/*
 * Executes the own binary again from a sealed copy, with the same arguments and environment.
 * Returns only on failure.
 */
int memfd_reexec(char **argv, char **envp, struct fault *f);
