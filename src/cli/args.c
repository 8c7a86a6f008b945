// SPDX-License-Identifier: Apache-2.0
/*
 * The option parser
 *
 * Values are copied into cli->values in the order given; positional arguments stay argv's. After
 * the words, the environment twins of the options that were not given are looked up and appended,
 * so that readers of cli->values need not know where a value came from. An empty environment
 * variable counts as absent.
 */
#include "cli/args.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mem.h"
#include "util/cleanup.h"

static const struct cli_option *find_in(const struct cli_option *o, const char *name, size_t n,
					char letter)
{
	for (; o && o->name; o++) {
		if (letter ? o->letter == letter
			   : strlen(o->name) == n && memcmp(o->name, name, n) == 0)
			return o;
	}
	return NULL;
}

static const struct cli_option *find(const struct cli_command *command, const char *name, size_t n,
				     char letter)
{
	const struct cli_option *o = command ? find_in(command->options, name, n, letter) : NULL;

	return o ? o : find_in(cli_global_options, name, n, letter);
}

static int parse_bool(const char *text)
{
	static const char *const yes[] = { "true", "1", "yes", "on", "True", "TRUE" };
	static const char *const no[] = { "false", "0", "no", "off", "False", "FALSE" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (strcmp(text, yes[i]) == 0)
			return 1;
		if (strcmp(text, no[i]) == 0)
			return 0;
	}
	return -1;
}

static int add(struct cli *cli, const struct cli_option *o, const char *value, size_t n,
	       bool from_env, struct fault *f)
{
	char *copy CLEANUP_FREE = value ? mem_strndup(value, n) : NULL;
	struct cli_value *v;

	if (!o->argument) {
		int b = copy ? parse_bool(copy) : 1;

		if (b < 0)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--%s is a flag and takes true or false, not \"%s\"",
					 o->name, copy);
		free(copy);
		copy = mem_strdup(b ? "true" : "false");
	}
	v = mem_grow(&cli->values, &cli->n_values, sizeof(*v));
	v->option = o;
	v->value = TAKE_PTR(copy);
	v->from_env = from_env;
	return 0;
}

char *args_env_name(const struct cli_command *command, const struct cli_option *option)
{
	char *name;

	if (option->env)
		return mem_strdup(option->env);
	name = command ? mem_printf("DAVIT_%s_%s", command->name, option->name)
		       : mem_printf("DAVIT_%s", option->name);
	for (char *p = name; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
	return name;
}

static bool given(const struct cli *cli, const struct cli_option *o)
{
	for (size_t i = 0; i < cli->n_values; i++) {
		if (cli->values[i].option == o)
			return true;
	}
	return false;
}

static int add_env(struct cli *cli, const struct cli_command *command, const struct cli_option *o,
		   struct fault *f)
{
	for (; o && o->name; o++) {
		char *name CLEANUP_FREE = args_env_name(command, o);
		const char *text = getenv(name);

		if (!text || !*text || given(cli, o))
			continue;
		for (;;) {
			size_t n = o->flags & CLI_MULTI ? strcspn(text, "\n") : strlen(text);
			int r = n ? add(cli, o, text, n, true, f) : 0;

			if (r < 0) {
				fault_prefix(f, "environment variable %s", name);
				return r;
			}
			if (!text[n])
				break;
			text += n + 1;
		}
	}
	return 0;
}

static int parse_long(struct cli *cli, const struct cli_command *command, int argc, char **argv,
		      int *at, struct fault *f)
{
	const char *word = argv[*at] + 2;
	size_t n = strcspn(word, "=");
	const struct cli_option *o = find(command, word, n, 0);
	const char *value = word[n] ? word + n + 1 : NULL;

	if (!o) {
		if (strcmp(word, "help") == 0)
			return ARGS_E_HELP;
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "unknown option --%.*s", (int)n,
				 word);
	}
	if (o->argument && !value) {
		if (*at + 1 >= argc)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "option --%s needs %s",
					 o->name, o->argument);
		value = argv[++*at];
	}
	return add(cli, o, value, value ? strlen(value) : 0, false, f);
}

static int parse_letters(struct cli *cli, const struct cli_command *command, int argc, char **argv,
			 int *at, struct fault *f)
{
	for (const char *p = argv[*at] + 1; *p; p++) {
		const struct cli_option *o = find(command, NULL, 0, *p);
		const char *value;
		int r;

		if (!o) {
			if (*p == 'h')
				return ARGS_E_HELP;
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "unknown option -%c", *p);
		}
		if (!o->argument) {
			r = add(cli, o, NULL, 0, false, f);
			if (r < 0)
				return r;
			continue;
		}
		value = p + 1;
		if (*value == '=')
			value++;
		else if (!*value) {
			if (*at + 1 >= argc)
				return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
						 "option -%c needs %s", *p, o->argument);
			value = argv[++*at];
		}
		return add(cli, o, value, strlen(value), false, f);
	}
	return 0;
}

int args_parse(struct cli *cli, const struct cli_command *command, int argc, char **argv, int *used,
	       struct fault *f)
{
	bool options = true;
	int at, r;

	if (command)
		cli->args = mem_alloc(((size_t)argc + 1) * sizeof(*cli->args));
	for (at = 0; at < argc; at++) {
		const char *word = argv[at];

		if (options && strcmp(word, "--") == 0) {
			options = false;
			if (!command) {
				at++;
				break;
			}
			continue;
		}
		if (options && word[0] == '-' && word[1]) {
			r = word[1] == '-' ? parse_long(cli, command, argc, argv, &at, f)
					   : parse_letters(cli, command, argc, argv, &at, f);
			if (r)
				return r;
			continue;
		}
		if (!command)
			break;
		cli->args[cli->n_args++] = argv[at];
		if (command->flags & CLI_ARGS_END_OPTIONS)
			options = false;
	}
	if (used)
		*used = at;
	if (!command)
		return 0;
	r = add_env(cli, command, command->options, f);
	return r < 0 ? r : add_env(cli, NULL, cli_global_options, f);
}

int args_check(const struct cli *cli, struct fault *f)
{
	const struct cli_command *c = cli->command;

	if (cli->n_args < (size_t)c->min_args)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "an argument is missing: davit %s [options] %s", c->name,
				 c->usage ? c->usage : "");
	if (c->max_args >= 0 && cli->n_args > (size_t)c->max_args)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "unexpected argument \"%s\"",
				 cli->args[c->max_args]);
	return 0;
}

void args_free(struct cli *cli)
{
	for (size_t i = 0; i < cli->n_values; i++)
		free(cli->values[i].value);
	free(cli->values);
	free(cli->args);
	cli->values = NULL;
	cli->args = NULL;
	cli->n_values = cli->n_args = 0;
}

const char *args_each(const struct cli *cli, const char *name, size_t *at)
{
	while (*at < cli->n_values) {
		const struct cli_value *v = &cli->values[(*at)++];

		if (strcmp(v->option->name, name) == 0)
			return v->value;
	}
	return NULL;
}

const char *args_get(const struct cli *cli, const char *name)
{
	const char *value, *last = NULL;
	size_t at = 0;

	while ((value = args_each(cli, name, &at)))
		last = value;
	return last;
}

bool args_flag(const struct cli *cli, const char *name)
{
	const char *value = args_get(cli, name);

	return value && strcmp(value, "true") == 0;
}
