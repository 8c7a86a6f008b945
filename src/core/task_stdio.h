// SPDX-License-Identifier: Apache-2.0
/*
 * Streams of tasks: between the RPC's arguments, stdio.h, the guardian's keepers, the log thread and terminals
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/stdio.h"
#include "core/task_internal.h"

/* What a create or an exec asked for, for a worker. */
struct stdio_request {
	char *text[3];
	int fd[3];
	char *log_path;
	int console;
	bool terminal, terminal_given;
	uint16_t width, height;
	int64_t log_max_size;
};

int stdio_request_init(struct stdio_request *r,
		       struct ipc_request *req); /* takes the fds out of the request */
int stdio_request_log(struct stdio_request *r, const char *path);
void stdio_request_clear(struct stdio_request *r);
int stdio_request_apply(struct stdio_request *r, struct stdio *s, struct fault *f); /* fds move */

/* From tasks.create's list of mounts; strings in the zone. */
int task_mounts(msgpack_zone *zone, const msgpack_object *list, struct launch_mount *out,
		struct fault *f);

/* On a worker, after stdio_open: inotify watches on outputs that wait for their client. */
int task_stdio_watch(struct davit *d, struct stdio *s);
/* Takes the watches of a create or exec back that came to nothing. */
void task_stdio_unwatch(struct davit *d, struct stdio *s);
/* The pty's master has come: to the console socket, or to a tty of ours. Takes fd. */
int task_stdio_tty(struct process *p, int fd, struct fault *f);
int task_stdio_tty_open(struct process *p, int master); /* a tty around it (also after a restart) */
/* The process is about to run: logs are drained, keepers handed to the guardian. */
int task_stdio_ready(struct process *p);
int task_stdio_keep(
	struct process *p); /* an added exec: what its start will need is kept by the guardian */
int task_stdio_log(struct process *p, int which, int fd); /* takes fd */
/* The process has ended or never came: keepers go, the terminal drains. */
void task_stdio_drop(struct process *p);
/* After a restart: an fd that the guardian kept. Takes fd. */
/* After a restart without a guardian: a log's pipe is found through the process that writes to it. */
void task_stdio_relog(struct process *p);
int task_stdio_item(struct process *p, const char *kind, const char *name, int fd);
