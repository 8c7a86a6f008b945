// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon's log: one line an entry, whatever is in it, and nothing below the level
 */
#include "util/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* stderr goes to a file in memory while a test logs. */
struct capture {
	int file, saved;
	char text[16384];
};

static void capture_begin(struct capture *c)
{
	c->file = memfd_create("log", MFD_CLOEXEC);
	assert_true(c->file >= 0);
	c->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_true(c->saved >= 0);
	assert_int_equal(dup2(c->file, STDERR_FILENO), STDERR_FILENO);
}

static const char *capture_end(struct capture *c)
{
	ssize_t n;

	assert_int_equal(dup2(c->saved, STDERR_FILENO), STDERR_FILENO);
	n = pread(c->file, c->text, sizeof(c->text) - 1, 0);
	assert_true(n >= 0);
	c->text[n] = 0;
	close(c->saved);
	close(c->file);
	return c->text;
}

static size_t count(const char *text, char wanted)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == wanted;
	return n;
}

static void test_levels(void **state)
{
	struct capture c;
	const char *text;

	(void)state;
	log_set_level(LOG_WARN);
	log_set_tag("unit");
	capture_begin(&c);
	log_error("first %d", 1);
	log_warn("second");
	log_info("third");
	log_debug("fourth");
	text = capture_end(&c);
	assert_int_equal(count(text, '\n'), 2);
	assert_non_null(strstr(text, "unit: first 1\n"));
	assert_non_null(strstr(text, "error"));
	assert_non_null(strstr(text, "unit: second\n"));
	assert_null(strstr(text, "third"));
	log_set_level(LOG_DEBUG);
	capture_begin(&c);
	log_debug("fourth");
	assert_non_null(strstr(capture_end(&c), "fourth\n"));
}

/* A name that holds a line break is no way to write an entry of one's own. */
static void test_one_line(void **state)
{
	struct capture c;
	const char *text;

	(void)state;
	capture_begin(&c);
	log_error("name %s is taken", "a\nerror unit: all is lost\x1b[2J");
	text = capture_end(&c);
	assert_int_equal(count(text, '\n'), 1);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_null(strchr(text, 0x1b));
	assert_non_null(strstr(text, "name a error unit: all is lost [2J is taken\n"));
}

static void test_long(void **state)
{
	static char big[20000];
	struct capture c;
	const char *text;

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	capture_begin(&c);
	log_error("%s", big);
	log_error("next");
	text = capture_end(&c);
	assert_int_equal(count(text, '\n'), 2);
	assert_non_null(strstr(text, "xxx\n"));
	assert_non_null(strstr(text, "unit: next\n"));
}

static void test_errno(void **state)
{
	struct capture c;

	(void)state;
	capture_begin(&c);
	errno = ENOTTY;
	log_error("x");
	assert_int_equal(errno, ENOTTY);
	capture_end(&c);
	capture_begin(&c);
	close(STDERR_FILENO);
	errno = ENOTTY;
	log_error("x");
	assert_int_equal(errno, ENOTTY);
	capture_end(&c);
}

static void test_parse(void **state)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	enum log_level level = LOG_ERROR;

	(void)state;
	for (int i = 0; i < 4; i++) {
		assert_int_equal(log_level_parse(names[i], &level), 0);
		assert_int_equal(level, i);
	}
	assert_int_equal(log_level_parse("loud", &level), -EINVAL);
	assert_int_equal(log_level_parse("", &level), -EINVAL);
	assert_int_equal(level, LOG_DEBUG);
}

static int prefix_setup(void **state)
{
	(void)state;
	/* as on a terminal; with it each line begins with systemd's <N> */
	return unsetenv("JOURNAL_STREAM");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_levels), cmocka_unit_test(test_one_line),
		cmocka_unit_test(test_long),   cmocka_unit_test(test_errno),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, prefix_setup, NULL);
}
