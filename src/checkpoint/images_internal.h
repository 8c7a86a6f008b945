// SPDX-License-Identifier: Apache-2.0
/*
 * Looking at criu's images: what its parts share
 */
#pragma once

#include <stdbool.h>

#include "checkpoint/serve.h"
#include "util/fault.h"

/* ---- images_seccomp.c */
/* Whether any thread that is not dead would run without a filter. pstree.img was looked at already. */
int images_without_seccomp(const struct serve_files *files, bool *without, struct fault *f);
