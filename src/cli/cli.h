// SPDX-License-Identifier: Apache-2.0
/*
 * The command line: commands as data
 *
 * Each command is one exported row with its options, its help and its function. Help, completions
 * and the option lists of the manual pages come from the rows. A command is a thin client of the
 * daemon: this room knows the RPC (ipc/client.h) and util/, and nothing of the daemon's insides.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "util/fault.h"

/* Exit codes as podman has them. */
#define CLI_EXIT_DAVIT 125 /* davit itself failed, or was called wrongly */
#define CLI_EXIT_CANNOT_RUN 126
#define CLI_EXIT_MISSING 127

struct client;
struct cli;
struct cli_reply;

/* of an option */
enum {
	CLI_MULTI = 1 << 0, /* may be given many times */
	CLI_FILE = 1 << 1, /* the argument is a path (completion) */
	CLI_CONTAINER = 1 << 2, /* the argument is a container (completion) */
};

struct cli_option {
	const char *name; /* long name; NULL ends the table */
	char letter; /* 0 for none */
	const char *argument; /* what it takes, as "PATH"; NULL for a flag */
	const char *doc; /* one line without a final dot */
	/*
	 * Environment twin; NULL: DAVIT_COMMAND_OPTION, upper case with '_' for '-'. What is given
	 * on the command line goes before it. Options that may be repeated take one value a line.
	 */
	const char *env;
	unsigned flags;
	const char *words; /* the values it takes, space separated (completion), or NULL */
};

/* of a command */
enum {
	/* what follows the first positional argument is not read: run, exec */
	CLI_ARGS_END_OPTIONS = 1 << 0,
	CLI_HIDDEN = 1 << 1, /* not in the help */
	CLI_FOREIGN = 1 << 2, /* here for help and completion only: main.c runs it */
};

/* What positional arguments are, for completion. */
enum cli_complete {
	CLI_COMPLETE_NONE,
	CLI_COMPLETE_CONTAINERS,
	CLI_COMPLETE_IMAGES,
	CLI_COMPLETE_CHECKPOINTS, /* their names, and files */
	CLI_COMPLETE_FILES,
	CLI_COMPLETE_COMMANDS,
	CLI_COMPLETE_WORDS
};

struct cli_command {
	const char *name;
	const char *summary; /* one line without a final dot */
	const char *usage; /* what follows the options, as "NAME..." */
	const char *details; /* more for --help: lines, or NULL */
	const struct cli_option *options;
	unsigned flags;
	int min_args, max_args; /* of positional arguments; max -1: any number */
	enum cli_complete complete;
	const char *words; /* for CLI_COMPLETE_WORDS, space separated */
	int (*run)(struct cli *cli); /* returns the exit code */
};

/* One that was given. */
struct cli_value {
	const struct cli_option *option;
	char *value; /* "true" or "false" for a flag */
	bool from_env;
};

struct cli { /* one invocation */
	const struct cli_command *command;
	struct cli_value *values; /* in the order given */
	size_t n_values;
	char **args; /* positional, NULL-terminated; borrowed from argv */
	size_t n_args;

	const char *socket; /* NULL: the default */
	char *own_socket; /* freed at the end */
	const char *ns;
	bool ns_given; /* by option or environment */
	bool autostart;

	struct client *client; /* NULL until the first call */
	struct cli_reply *stash; /* messages that came while another was awaited */
	int interrupted; /* the signal by which this program is to end, 0 for none */
};

/* The whole program but the daemon: argv[0] and all that follows. Returns the exit code. */
int cli_main(int argc, char **argv);

extern const struct cli_option cli_global_options[];
/* NULL-terminated, in the order of the help */
extern const struct cli_command *const cli_commands[];
const struct cli_command *cli_command_find(const char *name); /* NULL when there is none */

/* Shared rows of option tables. */
#define CLI_OPTION_FORMAT                                                                          \
	{                                                                                          \
		.name = "format", .argument = "FORMAT", .doc = "table (the default) or json",      \
		.words = "table json"                                                              \
	}
#define CLI_OPTION_QUIET                                                                           \
	{                                                                                          \
		.name = "quiet", .letter = 'q', .doc = "print only the names"                      \
	}

extern const struct cli_command cmd_attach, cmd_checkpoint, cmd_checkpoints, cmd_completion,
	cmd_content, cmd_create, cmd_describe, cmd_doctor, cmd_events, cmd_exec, cmd_export, cmd_gc,
	cmd_help, cmd_image_from_dir, cmd_images, cmd_import, cmd_inspect, cmd_kill, cmd_leases,
	cmd_logs, cmd_namespaces, cmd_pause, cmd_ps, cmd_restore, cmd_resume, cmd_rm, cmd_rmi,
	cmd_rpc, cmd_run, cmd_serve, cmd_snapshots, cmd_start, cmd_stop, cmd_tag, cmd_top,
	cmd_version, cmd_wait;
