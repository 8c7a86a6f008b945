// SPDX-License-Identifier: Apache-2.0
/*
 * Scheduling of this program's own threads (sched(7))
 *
 * Two wishes: to be woken at once, and to leave the processors to everybody else. A kernel that
 * knows neither, or a process that may not, goes on as before: nothing here fails.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/*
 * The calling thread runs soon after each time it is woken, in turns as short as the kernel makes them: for
 * what wakes often and does little. A niceness of -10 where it may have that, and on Linux 6.12 and newer the
 * shortest slice (sched_setattr(2)). Its children and threads are as if it had not been called.
 */
void sched_prompt(void);

/* Whether a thread of this process can yield and come back (CAP_SYS_NICE). The first call finds out; any thread. */
bool sched_can_yield(void);
/*
 * Only where sched_can_yield: the calling thread runs while a processor has nothing else to do (SCHED_IDLE),
 * until sched_unyield.
 */
void sched_yield_to_all(void);
void sched_unyield(pid_t tid); /* a thread of this process; 0: the calling one */
