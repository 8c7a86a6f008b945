// SPDX-License-Identifier: Apache-2.0
/*
 * Running a container that is there: in the foreground or in the background
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "util/fault.h"

struct run {
	const char *id;
	bool tty, interactive;
	bool remove; /* after its end */
	int64_t log_max_size; /* 0: the daemon's default */
	bool of_image; /* it has snapshots of its own */
	/* of a restore: more arguments of tasks.create, borrowed, and what a progress line says */
	json_object *more;
	const char *what;
	/* when the task is there and before it runs; may be NULL */
	void (*created)(void *user);
	void *user;
};

/*
 * Makes the task and starts it, with this program's stdio, until its end. *status is its exit
 * status. SESSION_E_DETACHED when the user detached. A task that could not be started is removed.
 */
int run_foreground(struct cli *cli, const struct run *run, int *status, struct fault *f);
/* Its output goes to the log. Returns when it runs. */
int run_background(struct cli *cli, const struct run *run, struct fault *f);
/*
 * The task, if there is one, the container, and the snapshots that it alone has. Gone already is
 * fine.
 */
int run_remove(struct cli *cli, const char *id, bool force, struct fault *f);
