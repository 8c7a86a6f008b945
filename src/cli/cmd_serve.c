// SPDX-License-Identifier: Apache-2.0
/*
 * davit serve: its help
 *
 * The daemon reads its options itself (they are needed before anything of the command line is);
 * this row is for the help, the completions, the manual page, and to tell which variables a daemon
 * that is started by a command may see.
 */
#include "cli/cli.h"

static const struct cli_option options[] = {
	{ .name = "root",
	  .argument = "DIR",
	  .doc = "what survives a reboot (/var/lib/davit)",
	  .env = "DAVIT_ROOT",
	  .flags = CLI_FILE },
	{ .name = "state",
	  .argument = "DIR",
	  .doc = "what lives as long as the boot (/run/davit)",
	  .env = "DAVIT_STATE",
	  .flags = CLI_FILE },
	{ .name = "socket",
	  .argument = "PATH",
	  .doc = "where it listens (STATE/davit.sock)",
	  .env = "DAVIT_SOCKET",
	  .flags = CLI_FILE },
	{ .name = "group",
	  .argument = "GROUP",
	  .doc = "its members may use the socket beside root (nobody else)",
	  .env = "DAVIT_GROUP" },
	{ .name = "criu",
	  .argument = "PATH",
	  .doc = "the criu program",
	  .env = "DAVIT_CRIU",
	  .flags = CLI_FILE },
	{ .name = "cgroup-parent",
	  .argument = "PATH",
	  .doc = "containers' cgroups are made below it (/davit)",
	  .env = "DAVIT_CGROUP_PARENT" },
	{ .name = "journal-size",
	  .argument = "SIZE",
	  .doc = "events kept for replay (64m)",
	  .env = "DAVIT_JOURNAL_SIZE" },
	{ .name = "checkpoint-buffer",
	  .argument = "SIZE",
	  .doc = "memory for pages under way, of all dumps and restores together (256m)",
	  .env = "DAVIT_CHECKPOINT_BUFFER" },
	{ .name = "log-level",
	  .argument = "LEVEL",
	  .doc = "error, warn, info or debug (info)",
	  .env = "DAVIT_LOG_LEVEL",
	  .words = "error warn info debug" },
	{ .name = NULL },
};

const struct cli_command cmd_serve = {
	.name = "serve",
	.summary = "Run the daemon in the foreground",
	.details =
		"SIGTERM ends the daemon; containers run on, and the next start takes them over.\n",
	.options = options,
	.flags = CLI_FOREIGN,
	.max_args = 0,
};
