// SPDX-License-Identifier: Apache-2.0
/*
 * The controlling terminal of restored sessions: what is preloaded into criu
 */
#pragma once

/*
 * Writes a shared object, for the dynamic linker's LD_PRELOAD, with which the init that criu makes takes
 * the terminal at `tty` (its path on the host, as criu sees it) as its session's controlling one, before it has children.
 * 1, or 0 where it is not known how (another machine than x86-64 and arm64), or -errno. Blocks for a moment.
 */
int ctty_write(const char *path, const char *tty);
