// SPDX-License-Identifier: Apache-2.0
/*
 * davit completion: scripts for bash, zsh and fish, from the command table
 *
 * Commands, options and fixed words are written into the script; names of containers and images are
 * asked for when they are needed, of a daemon that runs (completing a line starts none).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/cleanup.h"

#define NAMES "DAVIT_AUTOSTART=0 davit ps --all --quiet 2>/dev/null"
#define IMAGES "DAVIT_AUTOSTART=0 davit images --quiet 2>/dev/null"
#define CHECKPOINTS "DAVIT_AUTOSTART=0 davit checkpoints --quiet 2>/dev/null"

static void command_names(const char *separator)
{
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (!((*c)->flags & CLI_HIDDEN))
			printf("%s%s", (*c)->name, c[1] ? separator : "");
	}
}

/*
 * Text within single quotes: of a shell, where a quote ends and reopens them, and of fish, which
 * takes \'.
 */
static void quoted(const char *text, bool fish, const char *escape)
{
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs(fish ? "\\'" : "'\\''", stdout);
		else if (escape && strchr(escape, *text))
			printf("\\%c", *text);
		else
			putchar(*text);
	}
	putchar('\'');
}

/* ---- bash */

static void bash_values(const struct cli_option *o)
{
	printf("\t\t\t--%s", o->name);
	if (o->letter)
		printf("|-%c", o->letter);
	if (o->words && o->flags & CLI_FILE)
		printf(") COMPREPLY=($(compgen -f -W '%s' -- \"$cur\")); return ;;\n", o->words);
	else if (o->words)
		printf(") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", o->words);
	else if (o->flags & CLI_FILE)
		puts(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;");
	else
		puts(") return ;;");
}

static void bash_options(const struct cli_option *o)
{
	for (; o && o->name; o++)
		printf("--%s%s", o->name, o[1].name ? " " : "");
}

static void bash_command(const struct cli_command *c)
{
	printf("\t%s)\n\t\tcase \"$prev\" in\n", c->name);
	for (const struct cli_option *o = c->options; o && o->name; o++) {
		if (o->argument)
			bash_values(o);
	}
	fputs("\t\t\t*) ;;\n\t\tesac\n\t\tif [[ $cur == -* ]]; then\n\t\t\tCOMPREPLY=($(compgen -W '",
	      stdout);
	bash_options(c->options);
	fputs(" --help' -- \"$cur\"))\n\t\telse\n", stdout);
	switch (c->complete) {
	case CLI_COMPLETE_CONTAINERS:
		puts("\t\t\tCOMPREPLY=($(compgen -W \"$(" NAMES ")\" -- \"$cur\"))");
		break;
	case CLI_COMPLETE_IMAGES:
		puts("\t\t\t_davit_images");
		break;
	case CLI_COMPLETE_CHECKPOINTS:
		puts("\t\t\t_davit_checkpoints");
		break;
	case CLI_COMPLETE_FILES:
		puts("\t\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))");
		break;
	case CLI_COMPLETE_COMMANDS:
		fputs("\t\t\tCOMPREPLY=($(compgen -W '", stdout);
		command_names(" ");
		puts("' -- \"$cur\"))");
		break;
	case CLI_COMPLETE_WORDS:
		printf("\t\t\tCOMPREPLY=($(compgen -W '%s' -- \"$cur\"))\n", c->words);
		break;
	default:
		puts("\t\t\tCOMPREPLY=()");
	}
	puts("\t\tfi\n\t\t;;");
}

static void bash(void)
{
	/* bash takes the colon before a tag for the end of a word: its completion package has the cure. */
	puts("# bash completion for davit\n"
	     "_davit_tagged()\n{\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]}\n"
	     "\tdeclare -F _get_comp_words_by_ref >/dev/null && _get_comp_words_by_ref -n : cur\n"
	     "\tCOMPREPLY=($(compgen \"${@:2}\" -W \"$1\" -- \"$cur\"))\n"
	     "\tdeclare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions \"$cur\"\n"
	     "}\n"
	     "_davit_images()\n{\n\t_davit_tagged \"$(" IMAGES ")\"\n}\n"
	     "_davit_checkpoints()\n{\n\t_davit_tagged \"$(" CHECKPOINTS ")\" -f\n}\n"
	     "_davit()\n{\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= i\n"
	     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	     "\t\tcase ${COMP_WORDS[i]} in\n"
	     "\t\t\t--socket|--namespace|--log-level|-n) i=$((i + 1)) ;;\n"
	     "\t\t\t-*) ;;\n"
	     "\t\t\t*) command=${COMP_WORDS[i]}; break ;;\n"
	     "\t\tesac\n"
	     "\tdone\n"
	     "\tcase $command in");
	fputs("\t'')\n\t\tif [[ $cur == -* ]]; then\n\t\t\tCOMPREPLY=($(compgen -W '", stdout);
	bash_options(cli_global_options);
	fputs(" --help' -- \"$cur\"))\n\t\telse\n\t\t\tCOMPREPLY=($(compgen -W '", stdout);
	command_names(" ");
	puts("' -- \"$cur\"))\n\t\tfi\n\t\t;;");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (!((*c)->flags & CLI_HIDDEN))
			bash_command(*c);
	}
	puts("\tesac\n}\ncomplete -F _davit davit");
}

/* ---- zsh */

static void zsh_option(const struct cli_option *o)
{
	char *doc CLEANUP_FREE = mem_strdup(o->doc);

	for (char *p = doc; *p; p++) {
		if (*p == '[' || *p == ']')
			*p = ' ';
	}
	for (int letter = 0; letter < (o->letter ? 2 : 1); letter++) {
		char *name CLEANUP_FREE = letter ? mem_printf("-%c", o->letter)
						 : mem_printf("--%s", o->name);
		char *text CLEANUP_FREE = mem_printf("%s%s%s[%s]", o->flags & CLI_MULTI ? "*" : "",
						     name,
						     !o->argument ? ""
						     : letter	  ? "+"
								  : "=",
						     doc);

		fputs("\t\t\t", stdout);
		if (!o->argument) {
			quoted(text, false, NULL);
		} else {
			char *what CLEANUP_FREE = o->words ? mem_printf("%s:value:(%s)", text,
									o->words)
						  : o->flags & CLI_FILE
							  ? mem_printf("%s:file:_files", text)
							  : mem_printf("%s:value: ", text);

			/* A colon would begin the next field of the specification. */
			for (char *p = what; p < what + strlen(text); p++) {
				if (*p == ':')
					*p = ' ';
			}
			quoted(what, false, NULL);
		}
		puts(" \\");
	}
}

static void zsh_command(const struct cli_command *c)
{
	printf("\t%s)\n\t\t_arguments -s%s \\\n", c->name,
	       c->flags & CLI_ARGS_END_OPTIONS ? " -A '-*'" : "");
	for (const struct cli_option *o = c->options; o && o->name; o++)
		zsh_option(o);
	fputs("\t\t\t'--help[explain it]'", stdout);
	switch (c->complete) {
	case CLI_COMPLETE_CONTAINERS:
		puts(" \\\n\t\t\t'*:container:_davit_containers'");
		break;
	case CLI_COMPLETE_IMAGES:
		printf(" \\\n\t\t\t'%s:image:_davit_images'%s\n",
		       c->flags & CLI_ARGS_END_OPTIONS ? "1" : "*",
		       c->flags & CLI_ARGS_END_OPTIONS ? " \\\n\t\t\t'*::argument:_normal'" : "");
		break;
	case CLI_COMPLETE_CHECKPOINTS:
		puts(" \\\n\t\t\t'1:checkpoint:_davit_checkpoints'");
		break;
	case CLI_COMPLETE_FILES:
		puts(" \\\n\t\t\t'*:file:_files'");
		break;
	case CLI_COMPLETE_COMMANDS:
		puts(" \\\n\t\t\t'1:command:_davit_commands'");
		break;
	case CLI_COMPLETE_WORDS:
		printf(" \\\n\t\t\t'*:word:(%s)'\n", c->words);
		break;
	default:
		puts(c->max_args == 0 ? "" : " \\\n\t\t\t'*::argument:_normal'");
	}
	puts("\t\t;;");
}

static void zsh(void)
{
	puts("#compdef davit\n"
	     "# zsh completion for davit\n"
	     "_davit_containers()\n{\n"
	     "\tlocal -a names\n"
	     "\tnames=(${(f)\"$(" NAMES ")\"})\n"
	     "\tcompadd -a names\n}\n"
	     "_davit_images()\n{\n"
	     "\tlocal -a names\n"
	     "\tnames=(${(f)\"$(" IMAGES ")\"})\n"
	     "\tcompadd -a names\n}\n"
	     "_davit_checkpoints()\n{\n"
	     "\tlocal -a names\n"
	     "\tnames=(${(f)\"$(" CHECKPOINTS ")\"})\n"
	     "\tcompadd -a names\n"
	     "\t_files\n}\n"
	     "_davit_commands()\n{\n"
	     "\tlocal -a commands\n"
	     "\tcommands=(");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		char *text CLEANUP_FREE = mem_printf("%s:%s", (*c)->name, (*c)->summary);

		if ((*c)->flags & CLI_HIDDEN)
			continue;
		fputs("\t\t", stdout);
		quoted(text, false, NULL);
		putchar('\n');
	}
	puts("\t)\n"
	     "\t_describe command commands\n}\n"
	     "_davit()\n{\n"
	     "\tlocal curcontext=$curcontext state line\n"
	     "\ttypeset -A opt_args\n"
	     "\t_arguments -C \\");
	for (const struct cli_option *o = cli_global_options; o->name; o++)
		zsh_option(o);
	puts("\t\t'--help[explain it]' \\\n"
	     "\t\t'1:command:_davit_commands' \\\n"
	     "\t\t'*::argument:->arguments'\n"
	     "\t[[ $state == arguments ]] || return\n"
	     "\tcase $line[1] in");
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		if (!((*c)->flags & CLI_HIDDEN))
			zsh_command(*c);
	}
	puts("\tesac\n}\n"
	     "if [[ $funcstack[1] == _davit ]]; then\n\t_davit \"$@\"\nelse\n\tcompdef _davit davit\nfi");
}

/* ---- fish */

static void fish_option(const struct cli_option *o, const char *command)
{
	printf("complete -c davit -n ");
	if (command)
		printf("'__fish_seen_subcommand_from %s'", command);
	else
		printf("__fish_use_subcommand");
	printf(" -l %s", o->name);
	if (o->letter)
		printf(" -s %c", o->letter);
	if (o->argument)
		fputs(o->flags & CLI_FILE ? " -r" : " -x", stdout);
	if (o->words) {
		fputs(" -a ", stdout);
		quoted(o->words, true, NULL);
	}
	fputs(" -d ", stdout);
	quoted(o->doc, true, "\\");
	putchar('\n');
}

static void fish(void)
{
	puts("# fish completion for davit\ncomplete -c davit -f");
	for (const struct cli_option *o = cli_global_options; o->name; o++)
		fish_option(o, NULL);
	for (const struct cli_command *const *p = cli_commands; *p; p++) {
		const struct cli_command *c = *p;

		if (c->flags & CLI_HIDDEN)
			continue;
		printf("complete -c davit -n __fish_use_subcommand -a %s -d ", c->name);
		quoted(c->summary, true, "\\");
		putchar('\n');
		for (const struct cli_option *o = c->options; o && o->name; o++)
			fish_option(o, c->name);
		if (c->complete == CLI_COMPLETE_CONTAINERS)
			printf("complete -c davit -n '__fish_seen_subcommand_from %s' -a '(env " NAMES
			       ")'\n",
			       c->name);
		else if (c->complete == CLI_COMPLETE_IMAGES)
			printf("complete -c davit -n '__fish_seen_subcommand_from %s' -a '(env " IMAGES
			       ")'\n",
			       c->name);
		else if (c->complete == CLI_COMPLETE_CHECKPOINTS)
			printf("complete -c davit -n '__fish_seen_subcommand_from %s' -F -a '(env " CHECKPOINTS
			       ")'\n",
			       c->name);
		else if (c->complete == CLI_COMPLETE_FILES)
			printf("complete -c davit -n '__fish_seen_subcommand_from %s' -F\n",
			       c->name);
		else if (c->complete == CLI_COMPLETE_WORDS)
			printf("complete -c davit -n '__fish_seen_subcommand_from %s' -a '%s'\n",
			       c->name, c->words);
		else if (c->complete == CLI_COMPLETE_COMMANDS) {
			printf("complete -c davit -n '__fish_seen_subcommand_from %s' -a '",
			       c->name);
			command_names(" ");
			puts("'");
		}
	}
}

static int completion(struct cli *cli)
{
	const char *shell = cli->args[0];
	struct fault f;

	if (strcmp(shell, "bash") == 0) {
		bash();
	} else if (strcmp(shell, "zsh") == 0) {
		zsh();
	} else if (strcmp(shell, "fish") == 0) {
		fish();
	} else {
		fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" is none of bash, zsh and fish",
			  shell);
		return cli_fail(&f, NULL, "completion");
	}
	return 0;
}

const struct cli_command cmd_completion = {
	.name = "completion",
	.summary = "Print a shell's completion script",
	.usage = "bash | zsh | fish",
	.details =
		"For example: davit completion bash >/usr/share/bash-completion/completions/davit\n",
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "bash zsh fish",
	.run = completion,
};
