// SPDX-License-Identifier: Apache-2.0
/*
 * davit attach
 */
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/output.h"
#include "cli/session.h"

static int check(struct cli *cli, const char *id, struct fault *f)
{
	json_object *task CLEANUP_JSON = NULL;
	int r;

	r = cli_call(cli, "tasks.get", cli_params(id, NULL), &task, f);
	if (r < 0)
		return r;
	if (!js_bool(task, "process.terminal"))
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"it has no terminal: its output goes to where it was started; 'davit logs %s' shows it if that is the log",
			id);
	if (strcmp(js_str(task, "process.status"), "stopped") == 0)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "it does not run; 'davit start -a %s' runs it", id);
	return 0;
}

static int attach(struct cli *cli)
{
	const char *id = cli->args[0];
	json_object *answer CLEANUP_JSON = NULL;
	struct session *s = NULL;
	struct fault f = { 0 };
	int r;

	r = check(cli, id, &f);
	if (r == 0)
		r = session_new(&s, cli, id, NULL, true, !args_flag(cli, "no-stdin"), &f);
	if (r == 0)
		r = session_attach(s, &f);
	if (r == 0)
		r = session_wait(s, &f);
	if (r == 0)
		r = session_loop(s, &answer, &f);
	session_free(s);
	if (r < 0)
		return cli_fail(&f, NULL, "cannot attach to %s", id);
	return r == SESSION_E_DETACHED ? 0 : (int)js_int(answer, "exit_status", 255);
}

static const struct cli_option options[] = {
	{ .name = "no-stdin", .doc = "only watch: nothing that is typed reaches the container" },
	{ .name = NULL },
};

const struct cli_command cmd_attach = {
	.name = "attach",
	.summary = "Attach to the terminal of a running container",
	.usage = "NAME",
	.details = "Ctrl-p ctrl-q detaches. The exit code is the container's when it ends.\n",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = attach,
};
