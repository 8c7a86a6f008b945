// SPDX-License-Identifier: Apache-2.0
/*
 * davit kill, pause, resume, wait: one call for each container named
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/output.h"
#include "cli/units.h"

/*
 * The same call for all arguments; each name is printed when it succeeded. Goes on after a failure,
 * which the exit code tells.
 */
static int each(struct cli *cli, const char *method, json_object *extra, const char *verb)
{
	int code = 0;

	for (size_t i = 0; i < cli->n_args; i++) {
		json_object *p = cli_params(cli->args[i], NULL);
		struct fault f = { 0 };

		if (extra) {
			json_object_object_foreach (extra, key, value)
				js_set(p, key, json_object_get(value));
		}
		if (cli_call(cli, method, p, NULL, &f) < 0)
			code = cli_fail(&f, NULL, "cannot %s %s", verb, cli->args[i]);
		else
			puts(cli->args[i]);
	}
	return code;
}

static int kill_run(struct cli *cli)
{
	json_object *extra CLEANUP_JSON = js_object();
	const char *text = args_get(cli, "signal");
	struct fault f = { 0 };
	int sig;

	if (units_signal(text ? text : "KILL", &sig, &f) < 0)
		return cli_fail(&f, "kill -l in a shell lists the names", "kill");
	js_set_int(extra, "signal", sig);
	if (args_flag(cli, "all"))
		js_set_bool(extra, "all", true);
	return each(cli, "tasks.kill", extra, "kill");
}

static int pause_run(struct cli *cli)
{
	return each(cli, "tasks.pause", NULL, "pause");
}

static int resume_run(struct cli *cli)
{
	return each(cli, "tasks.resume", NULL, "resume");
}

/* Goes on with the daemon that comes after one that dies: the end of a container is never lost. */
static int wait_for(struct cli *cli, const char *id, json_object **answer, struct fault *f)
{
	int r;

	do {
		r = cli_call(cli, "tasks.wait", cli_params(id, NULL), answer, f);
		if (r == 0 || f->err != EPIPE)
			return r;
		r = cli_reconnect(cli, f);
	} while (r == 0);
	return r;
}

static int wait_run(struct cli *cli)
{
	int code = 0;

	for (size_t i = 0; i < cli->n_args; i++) {
		json_object *answer CLEANUP_JSON = NULL;
		struct fault f = { 0 };

		if (wait_for(cli, cli->args[i], &answer, &f) < 0)
			code = cli_fail(&f, NULL, "cannot wait for %s", cli->args[i]);
		else
			printf("%lld\n", (long long)js_int(answer, "exit_status", 255));
		fflush(stdout);
	}
	return code;
}

static const struct cli_option kill_options[] = {
	{ .name = "signal",
	  .letter = 's',
	  .argument = "SIGNAL",
	  .doc = "name or number (SIGKILL)",
	  .words = "HUP INT QUIT KILL TERM USR1 USR2 STOP CONT" },
	{ .name = "all",
	  .letter = 'a',
	  .doc = "to every process of the container, not only its init" },
	{ .name = NULL },
};

const struct cli_command cmd_kill = {
	.name = "kill",
	.summary = "Send a signal to containers",
	.usage = "NAME...",
	.options = kill_options,
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = kill_run,
};

const struct cli_command cmd_pause = {
	.name = "pause",
	.summary = "Freeze all processes of containers",
	.usage = "NAME...",
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = pause_run,
};

const struct cli_command cmd_resume = {
	.name = "resume",
	.summary = "Let frozen containers go on",
	.usage = "NAME...",
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = resume_run,
};

const struct cli_command cmd_wait = {
	.name = "wait",
	.summary = "Wait for containers to end and print their exit codes",
	.usage = "NAME...",
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = wait_run,
};
