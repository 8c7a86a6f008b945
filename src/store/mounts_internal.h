// SPDX-License-Identifier: Apache-2.0
/*
 * Mounts for tools, inside: what an overlay's options say, and the two ways to mount it
 */
#pragma once

#include "store/mounts.h"

struct overlay {
	char **lower; /* nearest first, owned */
	size_t n_lower;
	char *upper, *work; /* owned; NULL for none */
	const char **more; /* what is passed on as it is; the texts are the mount's */
	size_t n_more;
	bool read_only;
};
int overlay_read(struct overlay *o, const struct store_mount *m, struct fault *f);
void overlay_clear(struct overlay *o);

/*
 * Both give an fd (O_PATH) of the root of a detached mount. -EOPNOTSUPP of the first: the kernel
 * does not take layers one by one (before Linux 6.8), or does not know fsopen.
 */
int overlay_mount_layers(const struct overlay *o, int *fd, struct fault *f);
int overlay_mount_relative(const struct overlay *o, int *fd, struct fault *f);
