// SPDX-License-Identifier: Apache-2.0
/*
 * How a process ended that is nobody's child here
 */
#pragma once

#include <sys/types.h>

/*
 * For a pidfd that is readable, that is of a dead process. 0 with *status as wait(2) has it;
 * -EAGAIN when it is a zombie whose status its parent alone can read so far; -ESRCH when nobody can
 * know it any more.
 */
int pidfd_status(int pidfd, pid_t pid, int *status);
