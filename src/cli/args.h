// SPDX-License-Identifier: Apache-2.0
/*
 * The option parser
 *
 * Long options take `--name value` or `--name=value`, letters `-n value`, `-nvalue` and clusters as
 * `-it`; flags also `--flag=false`. `--` ends the options. Long names are not abbreviated, so that
 * a new option never changes what an old script means.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"
#include "util/fault.h"

enum {
	ARGS_E_HELP = 1, /* --help was asked for */
};

/*
 * Reads argv[0..argc) against the command's table and the global options into cli->values and
 * cli->args. With a command of NULL it reads the global options alone and stops at the first word
 * that is none; *used tells how many words were read (may be NULL). Answers 0, ARGS_E_HELP, or
 * -EINVAL with a fault.
 */
int args_parse(struct cli *cli, const struct cli_command *command, int argc, char **argv, int *used,
	       struct fault *f);
/* The number of positional arguments against the command's bounds. */
int args_check(const struct cli *cli, struct fault *f);
void args_free(struct cli *cli);

/* The environment twin's name, malloc'ed. command NULL: a global option. */
char *args_env_name(const struct cli_command *command, const struct cli_option *option);

/* The last value given, else the environment's, else NULL. */
const char *args_get(const struct cli *cli, const char *name);
bool args_flag(const struct cli *cli, const char *name);
/* All values of an option in their order: start with *at = 0; NULL at the end. */
const char *args_each(const struct cli *cli, const char *name, size_t *at);
