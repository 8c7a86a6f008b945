// SPDX-License-Identifier: Apache-2.0
/*
 * Where the logs of a container are: ROOT/logs/NS/ID/init.log and ROOT/logs/NS/ID/exec-EXEC.log
 */
#pragma once

#include <stddef.h>

#include "core/davit.h"

/* exec_id NULL: of the init. */
void task_log_path(const struct davit *d, const char *ns, const char *id, const char *exec_id,
		   char *buf, size_t size);
/* The container is gone: so are its logs, by a worker. What cannot be removed is logged. */
void task_logs_remove(struct davit *d, const char *ns, const char *id);
