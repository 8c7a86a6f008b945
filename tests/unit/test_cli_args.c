// SPDX-License-Identifier: Apache-2.0
/*
 * The option parser: forms of options, environment twins, faults; and that the command table is
 * sound.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/args.h"
#include "util/cleanup.h"

static const struct cli_option options[] = {
	{ .name = "name", .argument = "NAME", .doc = "d" },
	{ .name = "env", .letter = 'e', .argument = "K=V", .doc = "d", .flags = CLI_MULTI },
	{ .name = "tty", .letter = 't', .doc = "d" },
	{ .name = "interactive", .letter = 'i', .doc = "d" },
	{ .name = "read-only", .doc = "d" },
	{ .name = NULL },
};
static const struct cli_command run = {
	.name = "run", .options = options, .flags = CLI_ARGS_END_OPTIONS, .max_args = -1
};
static const struct cli_command rm = {
	.name = "rm", .usage = "NAME...", .options = options, .min_args = 1, .max_args = 2
};

static int parse(struct cli *cli, const struct cli_command *c, struct fault *f, char **argv)
{
	int argc = 0;

	memset(cli, 0, sizeof(*cli));
	memset(f, 0, sizeof(*f));
	cli->command = c;
	while (argv[argc])
		argc++;
	return args_parse(cli, c, argc, argv, NULL, f);
}
#define PARSE(c, ...) parse(&cli, c, &f, (char *[]){ __VA_ARGS__, NULL })

static void test_forms(void **state)
{
	struct cli cli;
	struct fault f;
	size_t at = 0;

	(void)state;
	assert_int_equal(PARSE(&run, "--name", "web", "-it", "-eA=1", "-e", "B=2", "--env=C=3",
			       "--read-only", "img", "-x", "--name"),
			 0);
	assert_string_equal(args_get(&cli, "name"), "web");
	assert_true(args_flag(&cli, "tty"));
	assert_true(args_flag(&cli, "interactive"));
	assert_true(args_flag(&cli, "read-only"));
	assert_string_equal(args_each(&cli, "env", &at), "A=1");
	assert_string_equal(args_each(&cli, "env", &at), "B=2");
	assert_string_equal(args_each(&cli, "env", &at), "C=3");
	assert_null(args_each(&cli, "env", &at));
	/* What follows the first argument is the command's. */
	assert_int_equal(cli.n_args, 3);
	assert_string_equal(cli.args[0], "img");
	assert_string_equal(cli.args[1], "-x");
	assert_string_equal(cli.args[2], "--name");
	assert_null(cli.args[3]);
	args_free(&cli);

	/* Elsewhere options may stand after arguments; the last value counts. */
	assert_int_equal(PARSE(&rm, "a", "--name=x", "b", "--name", "y", "-t=true"), -EINVAL);
	args_free(&cli);
	assert_int_equal(PARSE(&rm, "a", "--name=x", "b", "--name", "y", "--tty=false"), 0);
	assert_string_equal(args_get(&cli, "name"), "y");
	assert_false(args_flag(&cli, "tty"));
	assert_int_equal(cli.n_args, 2);
	args_free(&cli);

	assert_int_equal(PARSE(&rm, "--", "--name", "-"), 0);
	assert_int_equal(cli.n_args, 2);
	assert_string_equal(cli.args[0], "--name");
	assert_string_equal(cli.args[1], "-");
	args_free(&cli);

	/* A lone dash is an argument, an empty value is a value. */
	assert_int_equal(PARSE(&rm, "-", "--name="), 0);
	assert_string_equal(args_get(&cli, "name"), "");
	args_free(&cli);
}

static void refused(const char *part, int result, struct cli *cli, struct fault *f)
{
	assert_int_equal(result, -EINVAL);
	if (!strstr(f->message, part))
		fail_msg("\"%s\" does not mention \"%s\"", f->message, part);
	args_free(cli);
}

static void test_refusals(void **state)
{
	struct cli cli;
	struct fault f;

	(void)state;
	refused("--nam", PARSE(&run, "--nam", "x"), &cli, &f); /* no abbreviations */
	refused("-x", PARSE(&run, "-tx"), &cli, &f);
	refused("--name needs NAME", PARSE(&run, "--name"), &cli, &f);
	refused("-e needs", PARSE(&run, "-te"), &cli, &f);
	refused("--tty is a flag", PARSE(&run, "--tty=maybe"), &cli, &f);
	assert_int_equal(PARSE(&run, "--help"), ARGS_E_HELP);
	args_free(&cli);
	assert_int_equal(PARSE(&run, "-h"), ARGS_E_HELP);
	args_free(&cli);
	assert_int_equal(PARSE(&run, "img", "--help"), 0);
	args_free(&cli);

	assert_int_equal(PARSE(&rm, "-t"), 0);
	assert_int_equal(args_check(&cli, &f), -EINVAL);
	args_free(&cli);
	assert_int_equal(PARSE(&rm, "a", "b", "c"), 0);
	assert_int_equal(args_check(&cli, &f), -EINVAL);
	assert_non_null(strstr(f.message, "\"c\""));
	args_free(&cli);
}

static void test_environment(void **state)
{
	struct cli cli;
	struct fault f;
	size_t at = 0;

	(void)state;
	setenv("DAVIT_RUN_NAME", "fromenv", 1);
	setenv("DAVIT_RUN_READ_ONLY", "1", 1);
	setenv("DAVIT_RUN_ENV", "A=1\nB=two words\n", 1);
	setenv("DAVIT_RUN_TTY", "", 1); /* as good as absent */
	setenv("DAVIT_NAMESPACE", "team", 1);
	assert_int_equal(PARSE(&run, "img"), 0);
	assert_string_equal(args_get(&cli, "name"), "fromenv");
	assert_true(args_flag(&cli, "read-only"));
	assert_false(args_flag(&cli, "tty"));
	assert_string_equal(args_each(&cli, "env", &at), "A=1");
	assert_string_equal(args_each(&cli, "env", &at), "B=two words");
	assert_null(args_each(&cli, "env", &at));
	assert_string_equal(args_get(&cli, "namespace"), "team");
	args_free(&cli);

	/* The command line goes before it. */
	assert_int_equal(
		PARSE(&run, "--name", "own", "-e", "C=3", "--read-only=false", "-n", "mine", "img"),
		0);
	assert_string_equal(args_get(&cli, "name"), "own");
	assert_false(args_flag(&cli, "read-only"));
	at = 0;
	assert_string_equal(args_each(&cli, "env", &at), "C=3");
	assert_null(args_each(&cli, "env", &at));
	assert_string_equal(args_get(&cli, "namespace"), "mine");
	args_free(&cli);

	setenv("DAVIT_RUN_TTY", "perhaps", 1);
	assert_int_equal(PARSE(&run, "img"), -EINVAL);
	assert_non_null(strstr(f.message, "DAVIT_RUN_TTY"));
	args_free(&cli);
	unsetenv("DAVIT_RUN_NAME");
	unsetenv("DAVIT_RUN_READ_ONLY");
	unsetenv("DAVIT_RUN_ENV");
	unsetenv("DAVIT_RUN_TTY");
	unsetenv("DAVIT_NAMESPACE");
}

static void test_globals(void **state)
{
	char *argv[] = { "--socket", "/s", "-n", "x", "ps", "--all", NULL };
	struct cli cli = { 0 };
	struct fault f;
	int used;

	(void)state;
	assert_int_equal(args_parse(&cli, NULL, 6, argv, &used, &f), 0);
	assert_int_equal(used, 4);
	assert_string_equal(args_get(&cli, "socket"), "/s");
	assert_string_equal(args_get(&cli, "namespace"), "x");
	args_free(&cli);
}

/* Rows that a user could not reach, or that would surprise. */
static void test_table(void **state)
{
	(void)state;
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		bool letters[128] = { false };

		assert_ptr_equal(cli_command_find((*c)->name), *c);
		assert_non_null((*c)->summary);
		assert_int_not_equal((*c)->summary[strlen((*c)->summary) - 1], '.');
		assert_true((*c)->run || (*c)->flags & CLI_FOREIGN);
		for (const struct cli_option *o = (*c)->options; o && o->name; o++) {
			char *env CLEANUP_FREE = args_env_name(*c, o);

			assert_int_equal(strncmp(env, "DAVIT_", 6), 0);
			assert_non_null(o->doc);
			assert_int_not_equal(o->doc[strlen(o->doc) - 1], '.');
			assert_false(letters[(unsigned char)o->letter] && o->letter);
			letters[(unsigned char)o->letter] = true;
			for (const struct cli_option *other = (*c)->options; other < o; other++)
				assert_string_not_equal(other->name, o->name);
			assert_true(o->argument || !(o->flags & CLI_MULTI));
		}
	}
	assert_null(cli_command_find("nosuch"));
}

/* Every option stands in its command's manual page, and every command has one. */
static void test_manual(void **state)
{
	(void)state;
	for (const struct cli_command *const *c = cli_commands; *c; c++) {
		const char *section = strcmp((*c)->name, "serve") == 0 ? "8" : "1";
		char path[128], *text CLEANUP_FREE = calloc(1, 1 << 16);
		FILE *file;

		snprintf(path, sizeof(path), "docs/man/davit-%s.%s", (*c)->name, section);
		file = fopen(path, "r");
		if (!file)
			fail_msg("%s is missing", path);
		assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
		fclose(file);
		for (const struct cli_option *o = (*c)->options; o && o->name; o++) {
			char item[64], *env CLEANUP_FREE = args_env_name(*c, o);

			snprintf(item, sizeof(item), "Fl \\-%s", o->name);
			if (!strstr(text, item))
				fail_msg("%s does not have --%s", path, o->name);
			if (!strstr(text, env))
				fail_msg("%s does not have %s", path, env);
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms),	    cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_environment), cmocka_unit_test(test_globals),
		cmocka_unit_test(test_table),	    cmocka_unit_test(test_manual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
