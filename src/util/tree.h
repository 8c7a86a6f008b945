// SPDX-License-Identifier: Apache-2.0
/*
 * Folders and all that is in them
 */
#pragma once

#include "util/cancel.h"

/*
 * Removes what is below folder/name, and it; a file too. Never follows links and never enters another
 * file system (-EBUSY). All entries are tried; the first failure is returned. Gone already is fine.
 * cancel may be NULL (-ECANCELED). Blocks.
 */
int tree_remove(int folder, const char *name, const struct cancel *cancel);
/* The same for all that is in the folder fd, which stays. */
int tree_empty(int fd, const struct cancel *cancel);
