// SPDX-License-Identifier: Apache-2.0
/*
 * davit start
 *
 * A container that ran before is run again: what is left of its last task is deleted first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/create.h"
#include "cli/js.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/session.h"

static const char *label(json_object *labels, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(labels, key, &v) ? json_object_get_string(v) : "";
}

/* Deletes a stopped task. 1: there is one that has not been started, 2: one that runs. */
static int clear(struct cli *cli, const char *id, struct fault *f)
{
	json_object *task CLEANUP_JSON = NULL;
	const char *status;
	int r;

	r = cli_call(cli, "tasks.get", cli_params(id, NULL), &task, f);
	if (r < 0)
		return f->code == FAULT_NOT_FOUND ? 0 : r;
	status = js_str(task, "process.status");
	if (strcmp(status, "created") == 0)
		return 1;
	if (strcmp(status, "stopped") != 0)
		return 2;
	return cli_call(cli, "tasks.delete", cli_params(id, NULL), NULL, f);
}

static int start_one(struct cli *cli, const char *id, bool attach, bool interactive, int *status,
		     struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object(), *c, *labels;
	struct run run = { .id = id };
	int r;

	js_set_str(p, "id", id);
	r = cli_call(cli, "containers.get", p, &answer, f);
	if (r < 0)
		return r;
	c = js_get(answer, "container");
	labels = js_get(c, "labels");
	r = clear(cli, id, f);
	if (r < 0)
		return r;
	if (r == 2)
		return attach ? fault_set(
					f, FAULT_FAILED_PRECONDITION, 0,
					"it runs already; 'davit attach' attaches to its terminal")
			      : 0;
	if (r == 1)
		return attach ? fault_set(
					f, FAULT_FAILED_PRECONDITION, 0,
					"its task was made by another client, with stdio of its own")
			      : cli_call(cli, "tasks.start", cli_params(id, NULL), NULL, f);
	run.tty = js_bool(c, "spec.process.terminal");
	run.interactive = interactive || strcmp(label(labels, LABEL_INTERACTIVE), "true") == 0;
	run.remove = strcmp(label(labels, LABEL_AUTO_REMOVE), "true") == 0;
	run.log_max_size = atoll(label(labels, LABEL_LOG_MAX_SIZE));
	run.of_image = *js_str(c, "snapshot_key");
	return attach ? run_foreground(cli, &run, status, f) : run_background(cli, &run, f);
}

static int start(struct cli *cli)
{
	bool attach = args_flag(cli, "attach") || args_flag(cli, "interactive");
	int code = 0, status = 0;

	if (attach && cli->n_args > 1) {
		struct fault f;

		fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "--attach takes one container");
		return cli_fail(&f, NULL, "start");
	}
	for (size_t i = 0; i < cli->n_args; i++) {
		struct fault f = { 0 };
		int r = start_one(cli, cli->args[i], attach, args_flag(cli, "interactive"), &status,
				  &f);

		if (r < 0)
			code = cli_fail(&f, NULL, "cannot start %s", cli->args[i]);
		else if (!attach)
			puts(cli->args[i]);
		else
			code = status;
	}
	return code;
}

static const struct cli_option options[] = {
	{ .name = "attach",
	  .letter = 'a',
	  .doc = "stay in the foreground; the exit code is the container's" },
	{ .name = "interactive", .letter = 'i', .doc = "the same, and pass stdin on" },
	{ .name = NULL },
};

const struct cli_command cmd_start = {
	.name = "start",
	.summary = "Start containers that were created or have ended",
	.usage = "NAME...",
	.options = options,
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = start,
};
