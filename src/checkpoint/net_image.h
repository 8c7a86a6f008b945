// SPDX-License-Identifier: Apache-2.0
/*
 * The network in criu's images
 *
 * A network namespace that was dumped with all that is in it can still be replaced by one that is
 * handed in at the restore: its entry is turned into what the dump would have written, had it been
 * outside (`--external net[…]`). criu has another way, --join-ns, but then it would put the dumped
 * devices into the namespace that it joins.
 */
#pragma once

#include "checkpoint/serve.h"

/*
 * The network of `files` is one that is inherited under this key. -EBADMSG and a fault when there is
 * none, or more than one: then a process of the container is in one of its own.
 */
int net_image_hand_in(struct serve_files *files, const char *key, struct fault *f);
