// SPDX-License-Identifier: Apache-2.0
/*
 * Help, from the command table
 */
#pragma once

#include <stdio.h>

#include "cli/cli.h"

void help_all(FILE *out); /* all commands */
void help_command(FILE *out, const struct cli_command *c);
/* The command's options as an mdoc list, for its manual page. */
void help_man(FILE *out, const struct cli_command *c);
