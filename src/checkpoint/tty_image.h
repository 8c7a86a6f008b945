// SPDX-License-Identifier: Apache-2.0
/*
 * The terminal in criu's images
 *
 * The container's end of a terminal is in the images, davit's end is not. criu can be handed such a
 * terminal in two ways. One is decided at dump (`--external tty[…]`), and then criu refuses processes
 * that have /dev/tty open, which most shells have. The other (`--shell-job`) dumps them, but restores
 * no controlling terminal. So the dump is made the second way, and before a restore the terminal's
 * entry is turned into what the first would have written: then criu takes the one that it inherits,
 * makes it the controlling terminal of its session, and finds it again for /dev/tty.
 */
#pragma once

#include <stdint.h>

#include "checkpoint/serve.h"

/*
 * key: "RDEV:DEV" in hex, of the record. The file tty-info.img of `files`, which is in memory, is
 * changed. *sid: the session that it controls, 0 for none. How many entries were: 0 when there is no such terminal. -EBADMSG, -EINVAL (the key)
 */
int tty_image_hand_in(struct serve_files *files, const char *key, uint32_t *sid, struct fault *f);
