// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints of tasks, for the task room and the daemon's start and end
 */
#pragma once

#include <stdint.h>

#include "core/davit.h"

struct ipc_request;
struct task;

void task_method_checkpoint(struct ipc_request *req, void *user);
/*
 * One that is under way fails, or ends soon if its task was given up for it already: for the daemon's end.
 */
void task_checkpoint_stop(struct task *t);
/*
 * The same when the loop has ended: nobody hears of criu's end, which follows, and the task is let go by
 * it. Its last job is done when the pools are drained after this.
 */
void task_checkpoint_abandon(struct task *t);
