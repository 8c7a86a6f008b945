// SPDX-License-Identifier: Apache-2.0
/*
 * Help, from the command table
 */
#include "cli/help.h"

#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/cleanup.h"

#define OPTION_WIDTH 30

static void option_line(FILE *out, const struct cli_option *o)
{
	char *left CLEANUP_FREE = mem_printf("  %c%c%s --%s%s%s", o->letter ? '-' : ' ',
					     o->letter ? o->letter : ' ', o->letter ? "," : " ",
					     o->name, o->argument ? " " : "",
					     o->argument ? o->argument : "");

	if (strlen(left) < OPTION_WIDTH)
		fprintf(out, "%-*s %s\n", OPTION_WIDTH, left, o->doc);
	else
		fprintf(out, "%s\n%*s %s\n", left, OPTION_WIDTH, "", o->doc);
}

void help_all(FILE *out)
{
	fputs("Usage: davit [--socket PATH] [--namespace N] [--log-level LEVEL] COMMAND [...]\n\nCommands:\n",
	      out);
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (!((*c)->flags & CLI_HIDDEN))
			fprintf(out, "  %-14s %s\n", (*c)->name, (*c)->summary);
	}
	fputs("\nOptions:\n", out);
	for (const struct cli_option *o = cli_global_options; o->name; o++)
		option_line(out, o);
	fputs("\n'davit COMMAND --help' tells more, and davit(1) all. A command that finds no daemon starts one.\n",
	      out);
}

void help_command(FILE *out, const struct cli_command *c)
{
	fprintf(out, "Usage: davit %s%s%s%s\n%s.\n", c->name, c->options ? " [OPTION]..." : "",
		c->usage ? " " : "", c->usage ? c->usage : "", c->summary);
	if (c->details)
		fprintf(out, "\n%s", c->details);
	if (!c->options)
		return;
	fputs("\nOptions:\n", out);
	for (const struct cli_option *o = c->options; o->name; o++)
		option_line(out, o);
	if (!(c->flags & CLI_FOREIGN)) {
		char *name CLEANUP_FREE = args_env_name(c, c->options);

		fprintf(out, "\nEach option has an environment twin, the first one %s.\n", name);
	}
}

/* In mdoc a word that begins with '.' or holds a '\' would be read as markup. */
static void man_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			putc(*text, out);
	}
}

static void man_argument(FILE *out, const char *text)
{
	fputs(" Ar ", out);
	for (; *text; text++) {
		/* Blanks keep brackets from being taken as punctuation of the macro. */
		if (strchr("[]:=", *text))
			fprintf(out, "\\&%c", *text);
		else
			putc(*text, out);
	}
}

void help_man(FILE *out, const struct cli_command *c)
{
	fputs(".Bl -tag -width Ds\n", out);
	for (const struct cli_option *o = c ? c->options : cli_global_options; o && o->name; o++) {
		char *env CLEANUP_FREE = args_env_name(c, o);

		fputs(".It ", out);
		if (o->letter)
			fprintf(out, "Fl %c , ", o->letter);
		fprintf(out, "Fl \\-%s", o->name);
		if (o->argument)
			man_argument(out, o->argument);
		putc('\n', out);
		man_text(out, o->doc);
		fprintf(out, "%s\n.Pq Ev %s\n",
			o->flags & CLI_MULTI ? "; may be given many times" : "", env);
	}
	fputs(".El\n", out);
}

static int help(struct cli *cli)
{
	const struct cli_command *c = cli->n_args ? cli_command_find(cli->args[0]) : NULL;

	if (cli->n_args && !c) {
		struct fault f;

		fault_set(&f, FAULT_NOT_FOUND, 0, "there is no command \"%s\"", cli->args[0]);
		return cli_fail(&f, "'davit help' lists them", "help");
	}
	if (args_flag(cli, "man"))
		help_man(stdout, c);
	else if (c)
		help_command(stdout, c);
	else
		help_all(stdout);
	return 0;
}

static const struct cli_option options[] = {
	{ .name = "man", .doc = "the options as they stand in the manual page" },
	{ .name = NULL },
};

const struct cli_command cmd_help = {
	.name = "help",
	.summary = "Explain a command",
	.usage = "[COMMAND]",
	.options = options,
	.max_args = 1,
	.complete = CLI_COMPLETE_COMMANDS,
	.run = help,
};
