// SPDX-License-Identifier: Apache-2.0
/*
 * Faults: what a user reads, from errno, step and path, within fixed sizes
 */
#include "util/fault.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_set(void **state)
{
	struct fault f;

	(void)state;
	memset(&f, 0xa5, sizeof(f));
	assert_int_equal(fault_set(&f, FAULT_NOT_FOUND, 0, "no container \"%s\"", "web"), -EINVAL);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	assert_int_equal(f.err, 0);
	assert_int_equal(f.exit_code, 0);
	assert_string_equal(f.message, "no container \"web\"");
	assert_string_equal(f.argument, "");
	assert_string_equal(f.step, "");
	assert_string_equal(f.path, "");
	assert_string_equal(f.log, "");
}

static void test_set_errno(void **state)
{
	struct fault f;

	(void)state;
	assert_int_equal(fault_set(&f, FAULT_UNAVAILABLE, EIO, "reading %d", 7), -EIO);
	assert_int_equal(f.err, EIO);
	assert_string_equal(f.message, "reading 7: Input/output error");
	/* a number that names no error is still one line of text */
	assert_int_equal(fault_set(&f, FAULT_INTERNAL, 4000, "odd"), -4000);
	assert_string_equal(f.message, "odd: unknown error");
}

static void test_null(void **state)
{
	(void)state;
	assert_int_equal(fault_set(NULL, FAULT_INTERNAL, 0, "x"), -EINVAL);
	assert_int_equal(fault_set(NULL, FAULT_INTERNAL, ENOENT, "x"), -ENOENT);
	assert_int_equal(fault_sys(NULL, EPERM, "mount", "/proc"), -EPERM);
	fault_at(NULL, "step", "path");
	fault_arg(NULL, "argument");
	fault_prefix(NULL, "x");
}

static void test_sys(void **state)
{
	struct fault f;

	(void)state;
	assert_int_equal(fault_sys(&f, EACCES, "open", "/etc/shadow"), -EACCES);
	assert_int_equal(f.code, FAULT_PERMISSION_DENIED);
	assert_string_equal(f.message, "open /etc/shadow: Permission denied");
	assert_string_equal(f.step, "open");
	assert_string_equal(f.path, "/etc/shadow");

	assert_int_equal(fault_sys(&f, ENOSYS, "clone3", NULL), -ENOSYS);
	assert_string_equal(f.message, "clone3: Function not implemented");
	assert_string_equal(f.path, "");
}

static void test_additions(void **state)
{
	struct fault f;

	(void)state;
	fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "must be a list");
	fault_at(&f, "parse", NULL);
	fault_at(&f, NULL, "config.json");
	fault_arg(&f, "process.args");
	fault_arg(&f, NULL);
	fault_prefix(&f, "%s", "process.args");
	assert_string_equal(f.step, "parse");
	assert_string_equal(f.path, "config.json");
	assert_string_equal(f.argument, "process.args");
	assert_string_equal(f.message, "process.args: must be a list");
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
}

/* Whatever is given, every member stays inside its array and ends with a NUL. */
static void test_long(void **state)
{
	char text[4096];
	struct fault f;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	assert_int_equal(fault_set(&f, FAULT_UNKNOWN, EIO, "%s", text), -EIO);
	assert_int_equal(strlen(f.message), sizeof(f.message) - 1);
	fault_at(&f, text, text);
	fault_arg(&f, text);
	fault_prefix(&f, "%s", text);
	assert_int_equal(strlen(f.message), sizeof(f.message) - 1);
	assert_int_equal(strlen(f.step), sizeof(f.step) - 1);
	assert_int_equal(strlen(f.path), sizeof(f.path) - 1);
	assert_int_equal(strlen(f.argument), sizeof(f.argument) - 1);
	fault_set(&f, FAULT_UNKNOWN, 0, "%s", text);
	fault_prefix(&f, "start");
	assert_memory_equal(f.message, "start: xxx", 10);
	assert_int_equal(strlen(f.message), sizeof(f.message) - 1);
}

static void test_names(void **state)
{
	(void)state;
	for (int code = FAULT_INVALID_ARGUMENT; code < FAULT_CODES; code++)
		assert_int_equal(fault_code_by_name(fault_code_name((enum fault_code)code)), code);
	assert_string_equal(fault_code_name(FAULT_DEADLINE_EXCEEDED), "deadline_exceeded");
	assert_string_equal(fault_code_name((enum fault_code)99), "unknown");
	assert_string_equal(fault_code_name((enum fault_code) - 1), "unknown");
	assert_int_equal(fault_code_by_name("no such code"), FAULT_UNKNOWN);
	assert_string_equal(fault_errno_name(ENOENT), "ENOENT");
	assert_string_equal(fault_errno_name(0), "");
	assert_non_null(fault_errno_name(4000));
}

static void test_of_errno(void **state)
{
	static const struct {
		int err;
		enum fault_code code;
	} rows[] = {
		{ 0, FAULT_NONE },
		{ ENOENT, FAULT_NOT_FOUND },
		{ EEXIST, FAULT_ALREADY_EXISTS },
		{ EINVAL, FAULT_INVALID_ARGUMENT },
		{ EPERM, FAULT_PERMISSION_DENIED },
		{ EACCES, FAULT_PERMISSION_DENIED },
		{ EBUSY, FAULT_FAILED_PRECONDITION },
		{ ENOTEMPTY, FAULT_FAILED_PRECONDITION },
		{ ENOSPC, FAULT_RESOURCE_EXHAUSTED },
		{ EMFILE, FAULT_RESOURCE_EXHAUSTED },
		{ ENOMEM, FAULT_RESOURCE_EXHAUSTED },
		{ EAGAIN, FAULT_RESOURCE_EXHAUSTED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(fault_code_of_errno(rows[i].err), rows[i].code);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),	  cmocka_unit_test(test_set_errno),
		cmocka_unit_test(test_null),	  cmocka_unit_test(test_sys),
		cmocka_unit_test(test_additions), cmocka_unit_test(test_long),
		cmocka_unit_test(test_names),	  cmocka_unit_test(test_of_errno),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
