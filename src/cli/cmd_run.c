// SPDX-License-Identifier: Apache-2.0
/*
 * davit run, davit create
 */
#include <stdio.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/create.h"
#include "cli/output.h"
#include "cli/run.h"
#include "util/cleanup.h"

static int run(struct cli *cli)
{
	struct created c CLEANUP(created_clear);
	struct fault f = { 0 }, ignored;
	bool detach = args_flag(cli, "detach");
	struct run run = { .remove = args_flag(cli, "rm") };
	int r, status = 0;

	r = create_container(cli, &c, &f);
	if (r < 0)
		return cli_fail(&f, NULL, "cannot create the container");
	run.id = c.id;
	run.tty = c.tty;
	run.interactive = c.interactive;
	run.log_max_size = c.log_max_size;
	run.of_image = c.snapshot_key != NULL;
	r = detach ? run_background(cli, &run, &f) : run_foreground(cli, &run, &status, &f);
	if (r < 0) {
		status = cli_fail(&f, NULL, "cannot run %s", c.id);
		/*
		 * What never ran has nothing to look at afterwards. One that runs has a task and
		 * stays.
		 */
		if (run_remove(cli, c.id, false, &ignored) == 0 && c.cidfile)
			unlink(c.cidfile);
		return status;
	}
	if (detach)
		puts(c.id);
	return status;
}

static int create(struct cli *cli)
{
	struct created c CLEANUP(created_clear);
	struct fault f = { 0 };

	if (create_container(cli, &c, &f) < 0)
		return cli_fail(&f, NULL, "cannot create the container");
	puts(c.id);
	return 0;
}

const struct cli_command cmd_run = {
	.name = "run",
	.summary = "Create a container and run a command in it",
	.usage = create_usage,
	.details = create_details,
	.options = create_options,
	.flags = CLI_ARGS_END_OPTIONS,
	.max_args = -1,
	.complete = CLI_COMPLETE_IMAGES,
	.run = run,
};

const struct cli_command cmd_create = {
	.name = "create",
	.summary = "Create a container without running it",
	.usage = create_usage,
	.details = create_details,
	.options = create_options,
	.flags = CLI_ARGS_END_OPTIONS,
	.max_args = -1,
	.complete = CLI_COMPLETE_IMAGES,
	.run = create,
};
