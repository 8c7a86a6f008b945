// SPDX-License-Identifier: Apache-2.0
/* Sizes, CPUs, signals, limits; environment lists; detach keys; durations. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/envlist.h"
#include "cli/js.h"
#include "cli/output.h"
#include "cli/tty.h"
#include "cli/units.h"

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "64m", 64 << 20 },
		{ "64M", 64 << 20 },
		{ "64mb", 64 << 20 },
		{ "64MiB", 64 << 20 },
		{ "1.5g", 3ll << 29 },
		{ "2k", 2048 },
		{ "10b", 10 },
		{ "1t", 1ll << 40 },
	};
	static const char *const bad[] = { "",	   "m",		"-1",	 "1x",	"64mm",
					   "1 m",  "0x10",	"1mib7", "nan", "inf",
					   "9e30", "16777216t", "1bb" };
	struct fault f;
	int64_t n;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(units_size(good[i].text, &n, &f), 0);
		assert_int_equal(n, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (units_size(bad[i], &n, &f) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static void test_cpus(void **state)
{
	static const char *const bad[] = { "", "0", "-1", "x", "1x", "nan", "1e9", "0.001" };
	struct fault f;
	int64_t n;

	(void)state;
	assert_int_equal(units_cpus("0.5", &n, &f), 0);
	assert_int_equal(n, 50000);
	assert_int_equal(units_cpus("2", &n, &f), 0);
	assert_int_equal(n, 200000);
	assert_int_equal(units_cpus(".25", &n, &f), 0);
	assert_int_equal(n, 25000);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (units_cpus(bad[i], &n, &f) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static void test_signals(void **state)
{
	static const char *const bad[] = { "",	  "0",	      "65",	"NOPE",	  "SIG",
					   "15x", "RTMIN+99", "RTMIN+", "RTMINX", "-9" };
	struct fault f;
	char name[16];
	int sig;

	(void)state;
	assert_int_equal(units_signal("TERM", &sig, &f), 0);
	assert_int_equal(sig, SIGTERM);
	assert_int_equal(units_signal("sigkill", &sig, &f), 0);
	assert_int_equal(sig, SIGKILL);
	assert_int_equal(units_signal("15", &sig, &f), 0);
	assert_int_equal(sig, 15);
	assert_int_equal(units_signal("RTMIN+3", &sig, &f), 0);
	assert_int_equal(sig, SIGRTMIN + 3);
	assert_string_equal(units_signal_name(sig, name), "SIGRTMIN+3");
	assert_int_equal(units_signal("SIGRTMAX", &sig, &f), 0);
	assert_int_equal(sig, SIGRTMAX);
	assert_string_equal(units_signal_name(SIGUSR1, name), "SIGUSR1");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (units_signal(bad[i], &sig, &f) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static void test_ulimits(void **state)
{
	static const char *const bad[] = { "nofile",	"nofile=",
					   "nofile=1:", "nofile=2:1",
					   "files=1",	"nofile=1:2:3",
					   "=1",	"nofile=x",
					   "nofile=-2", "nofile=99999999999999999999999" };
	const char *name;
	uint64_t soft, hard;
	struct fault f;

	(void)state;
	assert_int_equal(units_ulimit("nofile=1024:2048", &name, &soft, &hard, &f), 0);
	assert_string_equal(name, "RLIMIT_NOFILE");
	assert_int_equal(soft, 1024);
	assert_int_equal(hard, 2048);
	assert_int_equal(units_ulimit("RLIMIT_CORE=0", &name, &soft, &hard, &f), 0);
	assert_string_equal(name, "RLIMIT_CORE");
	assert_int_equal(hard, 0);
	assert_int_equal(units_ulimit("memlock=1:-1", &name, &soft, &hard, &f), 0);
	assert_true(hard == UINT64_MAX);
	assert_int_equal(units_ulimit("stack=unlimited", &name, &soft, &hard, &f), 0);
	assert_true(soft == UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (units_ulimit(bad[i], &name, &soft, &hard, &f) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	}
}

static void expect_list(json_object *list, const char *const *want)
{
	size_t n = 0;

	for (; want[n]; n++)
		assert_string_equal(json_object_get_string(js_at(list, n)), want[n]);
	assert_int_equal(js_len(list), n);
}

static void test_env(void **state)
{
	json_object *list CLEANUP_JSON = js_array();
	struct fault f;

	(void)state;
	setenv("CLITEST_ONE", "eins", 1);
	setenv("CLITEST_TWO", "a=b", 1);
	unsetenv("CLITEST_NONE");
	envlist_set(list, "PATH=/bin");
	assert_int_equal(envlist_option(list, "A=1", &f), 0);
	assert_int_equal(envlist_option(list, "CLITEST_ONE", &f), 0);
	assert_int_equal(envlist_option(list, "CLITEST_NONE", &f), 0);
	assert_int_equal(envlist_option(list, "EMPTY=", &f), 0);
	assert_int_equal(envlist_option(list, "PATH=/usr/bin", &f), 0);
	assert_int_equal(envlist_option(list, "=x", &f), -EINVAL);
	assert_int_equal(envlist_option(list, "", &f), -EINVAL);
	envlist_default(list, "A", "2");
	envlist_default(list, "B", "2");
	expect_list(list, (const char *const[]){ "PATH=/usr/bin", "A=1", "CLITEST_ONE=eins",
						 "EMPTY=", "B=2", NULL });
	json_object_put(list);
	list = js_array();
	assert_int_equal(envlist_option(list, "CLITEST_*", &f), 0);
	assert_int_equal(js_len(list), 2);
}

static void test_env_file(void **state)
{
	static const char text[] =
		"# comment\n\n  A=1\nB = spaced\nC='quotes stay'\r\nCLITEST_ONE\n#X=1\nD=#no comment";
	char path[] = "/tmp/davit-test-env-XXXXXX";
	json_object *list CLEANUP_JSON = js_array();
	struct fault f;
	int fd = mkstemp(path);

	(void)state;
	setenv("CLITEST_ONE", "eins", 1);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(envlist_file(list, path, &f), 0);
	expect_list(list, (const char *const[]){ "A=1", "B = spaced", "C='quotes stay'",
						 "CLITEST_ONE=eins", "D=#no comment", NULL });
	/* A NUL would cut a variable short. */
	assert_int_equal(pwrite(fd, "\0", 1, 4), 1);
	assert_true(envlist_file(list, path, &f) < 0);
	close(fd);
	unlink(path);
	assert_int_equal(envlist_file(list, path, &f), -ENOENT);
	assert_non_null(strstr(f.message, path));
}

static void test_detach(void **state)
{
	char out[16];
	unsigned n;
	bool held = false;

	(void)state;
	assert_false(tty_detach_keys(&held, "ab", 2, out, &n));
	assert_int_equal(n, 2);
	/* Held back, then given with what follows. */
	assert_false(tty_detach_keys(&held, "a\x10", 2, out, &n));
	assert_int_equal(n, 1);
	assert_false(tty_detach_keys(&held, "b", 1, out, &n));
	assert_int_equal(n, 2);
	assert_memory_equal(out,
			    "\x10"
			    "b",
			    2);
	/* Two in a row: the first goes. */
	assert_false(tty_detach_keys(&held, "\x10\x10", 2, out, &n));
	assert_int_equal(n, 1);
	assert_true(tty_detach_keys(&held, "\x11zzz", 4, out, &n));
	assert_int_equal(n, 0);
	assert_false(tty_detach_keys(&held, "\x11", 1, out, &n));
	assert_int_equal(n, 1);
	assert_true(tty_detach_keys(&held, "xy\x10\x11", 4, out, &n));
	assert_int_equal(n, 2);
}

static void test_output(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} durations[] = {
		{ -5, "Less than a second" }, { 0, "Less than a second" }, { 1, "1 second" },
		{ 59, "59 seconds" },	      { 60, "About a minute" },	   { 180, "3 minutes" },
		{ 3600, "About an hour" },    { 7200, "2 hours" },	   { 86400 * 3, "3 days" },
		{ 86400 * 21, "3 weeks" },    { 86400 * 90, "3 months" },
	};
	json_object *args CLEANUP_JSON = js_strings(
		(const char *const[]){ "sh", "-c", "echo hi", "", NULL });
	char buf[64], *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
		output_duration(durations[i].seconds * 1000000000ll, buf, sizeof(buf));
		assert_string_equal(buf, durations[i].text);
	}
	text = output_command(args, 0);
	assert_string_equal(text, "sh -c \"echo hi\" \"\"");
	free(text);
	text = output_command(args, 10);
	assert_string_equal(text, "sh -c \"...");
	free(text);
	setenv("TZ", "UTC", 1);
	output_time(1767225600000000007ll, buf, sizeof(buf));
	assert_string_equal(buf, "2026-01-01T00:00:00.000000007+00:00");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),	cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_signals), cmocka_unit_test(test_ulimits),
		cmocka_unit_test(test_env),	cmocka_unit_test(test_env_file),
		cmocka_unit_test(test_detach),	cmocka_unit_test(test_output),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
