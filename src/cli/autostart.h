// SPDX-License-Identifier: Apache-2.0
/*
 * Starting a daemon when a command finds none
 */
#pragma once

#include "cli/cli.h"
#include "util/fault.h"

/*
 * Returns when a daemon listens, started by this process or by another. The fault names the
 * daemon's log.
 */
int autostart(const struct cli *cli, struct fault *f);
