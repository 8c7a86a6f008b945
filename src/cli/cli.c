// SPDX-License-Identifier: Apache-2.0
/*
 * The command line: the table of commands, and the way from argv to one of them
 *
 * Options before the command are the global ones; a command takes them among its own as well. All
 * that a command owns lives in `struct cli`, which is cleared here when it returns.
 */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/help.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/cleanup.h"
#include "util/log.h"

const struct cli_option cli_global_options[] = {
	{ .name = "socket",
	  .argument = "PATH",
	  .doc = "the daemon's socket (/run/davit/davit.sock)",
	  .env = "DAVIT_SOCKET",
	  .flags = CLI_FILE },
	{ .name = "namespace",
	  .letter = 'n',
	  .argument = "NAME",
	  .doc = "namespace to work in (default)",
	  .env = "DAVIT_NAMESPACE" },
	{ .name = "log-level",
	  .argument = "LEVEL",
	  .doc = "error, warn, info or debug (info)",
	  .env = "DAVIT_LOG_LEVEL",
	  .words = "error warn info debug" },
	{ .name = NULL },
};

const struct cli_command *const cli_commands[] = {
	&cmd_run,	 &cmd_create,
	&cmd_start,	 &cmd_ps,
	&cmd_inspect,	 &cmd_exec,
	&cmd_attach,	 &cmd_logs,
	&cmd_kill,	 &cmd_stop,
	&cmd_pause,	 &cmd_resume,
	&cmd_wait,	 &cmd_rm,
	&cmd_top,	 &cmd_checkpoint,
	&cmd_restore,	 &cmd_checkpoints,
	&cmd_images,	 &cmd_import,
	&cmd_export,	 &cmd_image_from_dir,
	&cmd_tag,	 &cmd_rmi,
	&cmd_content,	 &cmd_snapshots,
	&cmd_leases,	 &cmd_gc,
	&cmd_events,	 &cmd_namespaces,
	&cmd_rpc,	 &cmd_describe,
	&cmd_doctor,	 &cmd_version,
	&cmd_serve,	 &cmd_help,
	&cmd_completion, NULL,
};

const struct cli_command *cli_command_find(const char *name)
{
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (strcmp((*c)->name, name) == 0)
			return *c;
	}
	return NULL;
}

static int usage_error(const struct fault *f, const struct cli_command *c)
{
	char *hint CLEANUP_FREE = c ? mem_printf("see 'davit %s --help'", c->name)
				    : mem_strdup("see 'davit help'");

	return cli_fail(f, hint, "%s", c ? c->name : "usage");
}

/* What the global options say, wherever they stood. */
static int take_globals(struct cli *cli, struct fault *f)
{
	const char *level = args_get(cli, "log-level"), *autostart = getenv("DAVIT_AUTOSTART"),
		   *state = getenv("DAVIT_STATE");
	enum log_level parsed;

	if (level) {
		if (log_level_parse(level, &parsed) < 0)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--log-level takes error, warn, info or debug, not \"%s\"",
					 level);
		log_set_level(parsed);
	}
	cli->socket = args_get(cli, "socket");
	if (!cli->socket && state && *state)
		cli->socket = cli->own_socket = mem_printf("%s/davit.sock", state);
	cli->ns = args_get(cli, "namespace");
	cli->ns_given = cli->ns != NULL;
	if (!cli->ns)
		cli->ns = "default";
	cli->autostart = !autostart ||
			 (strcmp(autostart, "0") != 0 && strcmp(autostart, "false") != 0);
	return 0;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	const struct cli_command *c = cli->command;
	struct fault f = { 0 };
	int r;

	r = args_parse(cli, c, argc, argv, NULL, &f);
	if (r == ARGS_E_HELP) {
		help_command(stdout, c);
		return 0;
	}
	if (r == 0)
		r = args_check(cli, &f);
	if (r == 0)
		r = take_globals(cli, &f);
	if (r < 0)
		return usage_error(&f, c);
	if (c->flags & CLI_FOREIGN) {
		help_command(stderr, c);
		return CLI_EXIT_DAVIT;
	}
	return c->run(cli);
}

int cli_main(int argc, char **argv)
{
	struct cli cli = { 0 };
	struct fault f = { 0 };
	int used, r, code;

	r = args_parse(&cli, NULL, argc - 1, argv + 1, &used, &f);
	if (r == ARGS_E_HELP) {
		help_all(stdout);
		args_free(&cli);
		return 0;
	}
	if (r < 0) {
		code = usage_error(&f, NULL);
	} else if (used >= argc - 1) {
		help_all(stderr);
		code = CLI_EXIT_DAVIT;
	} else {
		cli.command = cli_command_find(argv[1 + used]);
		if (!cli.command) {
			fault_set(&f, FAULT_NOT_FOUND, 0, "there is no command \"%s\"",
				  argv[1 + used]);
			code = usage_error(&f, NULL);
		} else {
			code = run_command(&cli, argc - 2 - used, argv + 2 + used);
		}
	}
	/* A full disk or a closed pipe behind stdout must not look like success. */
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == 0) {
		fputs("davit: cannot write the output\n", stderr);
		code = CLI_EXIT_DAVIT;
	}
	cli_disconnect(&cli);
	args_free(&cli);
	free(cli.own_socket);
	if (cli.interrupted) {
		/* A shell's loop ends only when it sees that a signal ended the command. */
		signal(cli.interrupted, SIG_DFL);
		raise(cli.interrupted);
	}
	return code;
}
