// SPDX-License-Identifier: Apache-2.0
/* The options of serve: command line, environment, defaults, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/config.h"

#define ARGV(...) ((char *[]){ (char *)"davit", __VA_ARGS__, NULL })

static int count(char **argv)
{
	int n = 0;

	while (argv[n])
		n++;
	return n;
}

static int parse(char **argv, struct config_start *c, struct fault *f)
{
	int index = 0;

	assert_true(config_is_serve(count(argv), argv, &index));
	assert_string_equal(argv[index], "serve");
	return config_parse(c, count(argv), argv, index, f);
}

static void test_which_command(void **state)
{
	static const struct {
		const char *argv[6];
		bool serve;
	} cases[] = {
		{ { "davit", "serve" }, true },
		{ { "davit", "--log-level", "debug", "serve" }, true },
		{ { "davit", "--log-level=debug", "serve" }, true },
		{ { "davit", "-n", "serve", "ps" }, false },
		{ { "davit", "--namespace", "serve", "ps" }, false },
		{ { "davit", "run", "serve" }, false },
		{ { "davit" }, false },
		{ { "davit", "--socket" }, false },
		{ { "davit", "--help" }, false },
		{ { "davit", "--unknown", "serve" }, true },
	};
	int index;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char **argv = (char **)cases[i].argv;

		assert_int_equal(config_is_serve(count(argv), argv, &index), cases[i].serve);
	}
}

static void test_defaults(void **state)
{
	struct config_start c;
	struct fault f;

	(void)state;
	assert_int_equal(parse(ARGV((char *)"serve"), &c, &f), 0);
	assert_string_equal(c.config.root, "/var/lib/davit");
	assert_string_equal(c.config.state, "/run/davit");
	assert_string_equal(c.config.socket, "/run/davit/davit.sock");
	assert_string_equal(c.config.group, "");
	assert_string_equal(c.config.cgroup_parent, "/davit");
	assert_string_equal(c.config.metrics, "");
	assert_int_equal(c.config.journal_size, 64 << 20);
	assert_int_equal(c.log_level, LOG_INFO);
	assert_false(c.help);
	config_clear(&c);
}

static void test_given(void **state)
{
	struct config_start c;
	struct fault f;
	char cwd[4096], want[4200];

	(void)state;
	setenv("DAVIT_STATE", "/env/state", 1);
	setenv("DAVIT_JOURNAL_SIZE", "2m", 1);
	setenv("DAVIT_GROUP", "", 1);
	assert_int_equal(parse(ARGV((char *)"--log-level", (char *)"debug", (char *)"serve",
				    (char *)"--root", (char *)"here///",
				    (char *)"--journal-size=3MiB", (char *)"--group=staff"),
			       &c, &f),
			 0);
	/* an option goes before the environment; a relative path is the caller's */
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	snprintf(want, sizeof(want), "%s/here", cwd);
	assert_string_equal(c.config.root, want);
	assert_string_equal(c.config.state, "/env/state");
	assert_string_equal(c.config.socket, "/env/state/davit.sock");
	assert_string_equal(c.config.group, "staff");
	assert_int_equal(c.config.journal_size, 3 << 20);
	assert_int_equal(c.log_level, LOG_DEBUG);
	config_clear(&c);
	unsetenv("DAVIT_STATE");
	unsetenv("DAVIT_JOURNAL_SIZE");
	unsetenv("DAVIT_GROUP");
	assert_int_equal(parse(ARGV((char *)"serve", (char *)"--colour", (char *)"--help"), &c, &f),
			 -EINVAL);
	config_clear(&c);
	assert_int_equal(parse(ARGV((char *)"serve", (char *)"-h"), &c, &f), 0);
	assert_true(c.help);
	config_clear(&c);
}

static void test_refused(void **state)
{
	static const struct {
		const char *argument[2], *word;
	} cases[] = {
		{ { "--colour" }, "--colour" },
		{ { "extra" }, "extra" },
		{ { "--root" }, "value" },
		{ { "--root=" }, "path" },
		{ { "--journal-size", "-1" }, "size" },
		{ { "--journal-size", "1q" }, "size" },
		{ { "--journal-size", "1000" }, "small" },
		{ { "--journal-size", "99999999999g" }, "size" },
		{ { "--checkpoint-buffer", "" }, "size" },
		{ { "--cgroup-parent", "davit" }, "'/'" },
		{ { "--cgroup-parent", "/a/.." }, ".." },
		{ { "--log-level", "loud" }, "debug" },
		{ { "--criu", "" }, "program" },
		{ { "--metrics", ":80" }, "metrics" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config_start c;
		struct fault f = { 0 };

		assert_true(parse(ARGV((char *)"serve", (char *)cases[i].argument[0],
				       (char *)cases[i].argument[1]),
				  &c, &f) < 0);
		assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
		assert_non_null(strstr(f.message, cases[i].word));
		config_clear(&c);
	}
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t bytes; /* -1: none */
	} cases[] = {
		{ "0", 0 },	    { "1", 1 },
		{ "1b", 1 },	    { "2k", 2048 },
		{ "2K", 2048 },	    { "2kb", 2048 },
		{ "2KiB", 2048 },   { "3m", 3 << 20 },
		{ "1g", 1 << 30 },  { "1t", 1ll << 40 },
		{ "", -1 },	    { "k", -1 },
		{ "-1", -1 },	    { "+1", -1 },
		{ "1 k", -1 },	    { "1ib", -1 },
		{ "1kk", -1 },	    { "0x10", -1 },
		{ "1.5g", -1 },	    { "18446744073709551616", -1 },
		{ "9000000t", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 0;
		int r = config_size(cases[i].text, &bytes);

		assert_int_equal(r, cases[i].bytes < 0 ? -EINVAL : 0);
		if (!r)
			assert_int_equal(bytes, cases[i].bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_which_command), cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_given),	      cmocka_unit_test(test_refused),
		cmocka_unit_test(test_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
