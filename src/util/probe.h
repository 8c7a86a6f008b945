// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel features, each tried for real
 *
 * A version says little: distributions take features back into older kernels, and switch some
 * off. So every feature is used once, in a way that leaves nothing behind.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct probe_feature {
	const char *name; /* as "pidfd", static */
	const char *since; /* the first mainline kernel that has it, static */
	const char *missing; /* what is lost without it, static */
	bool available;
	int err; /* errno of what failed, 0 when available or when there is none to tell */
};

#define PROBE_FEATURES 32 /* room for all of them */

/*
 * Fills features[PROBE_FEATURES] and returns how many there are, always the same in the same
 * order. Blocks for some milliseconds (it starts a few children): for a worker, or before the
 * loop. Its children send no signal when they end and are not seen by a waitid without __WCLONE.
 */
size_t probe_features(struct probe_feature *features);
