// SPDX-License-Identifier: Apache-2.0
/*
 * Tasks: the running side of containers
 *
 * See task.c for the state machine. A task belongs to a container and has an init process and any number of exec processes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/method.h"

struct davit;
struct journal;
struct ipc_request;

extern const struct ipc_method task_methods[];

int tasks_new(struct davit *d);
/*
 * The loop has ended: what is still at criu ends with it. Before the last pools_drain, since it has last
 * jobs.
 */
void tasks_abandon(struct davit *d);
void tasks_free(struct davit *d);

/*
 * Taking over, in this order, before the loop runs: journal_open calls tasks_replay for each state pair and tasks_snapshot when a
 * segment begins; keep_new calls tasks_keep_item for each fd (taken over) and reaper_deliver for each status; then tasks_recover reconciles
 * all with the processes that are there: what still runs is watched again, what ended gets its status, what was half made is removed.
 */
int tasks_replay(void *user /* struct davit */, const char *key, const void *value, size_t size);
void tasks_snapshot(void *user /* struct davit */, struct journal *j);
void tasks_keep_item(void *user /* struct davit */, const char *key, int fd);
int tasks_recover(struct davit *d);
/* Whether this is a task's process. starttime 0: not known, the pid alone counts. */
bool tasks_have_process(struct davit *d, pid_t pid, uint64_t starttime);

/*
 * Ends every task with SIGKILL and removes it, then calls done (never from inside this call). For server.shutdown {kill: true}.
 */
void tasks_end_all(struct davit *d, void (*done)(void *user), void *user);

struct tasks_stats {
	uint64_t tasks, processes, running, created, stopped;
};
void tasks_get_stats(struct davit *d, struct tasks_stats *out);
