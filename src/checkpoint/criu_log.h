// SPDX-License-Identifier: Apache-2.0
/*
 * What criu's log says about why it failed, in words a user can act on
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

/*
 * Fills f from the log's text: FAULT_FAILED_PRECONDITION with a known reason and what to do about it,
 * else FAULT_UNKNOWN with criu's first error. f->log gets the lines that matter. restore: what was
 * being done. exit_code, signal: criu's end, for a log that says nothing.
 */
void criu_log_fault(struct fault *f, const char *log, size_t size, bool restore, int exit_code,
		    int signal);
