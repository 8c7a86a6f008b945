// SPDX-License-Identifier: Apache-2.0
/*
 * Signals by name
 */
#pragma once

#include <stddef.h>

/*
 * "TERM", "SIGTERM", "RTMIN+3", "SIGRTMAX-1" or a number, in any case: 1 to 64. 0: none of that name.
 * RTMIN is the C library's (34): the two below it belong to its threads.
 */
int signal_by_name(const char *name, size_t size);
