// SPDX-License-Identifier: Apache-2.0
/* Commands that mount snapshots: long ones, and those that mount(2) would cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/js.h"
#include "cli/mem.h"
#include "cli/snapmount.h"

/* An overlay of layers in numbered folders that begin with `first`. */
static json_object *overlay(const char *folder, size_t n, unsigned first)
{
	json_object *m = js_object(), *options = js_array();
	char *lower = mem_strdup("lowerdir="), *text;

	for (size_t i = 0; i < n; i++) {
		text = mem_printf("%s%s%s/%zu/fs", lower, i ? ":" : "", folder, first + i);
		free(lower);
		lower = text;
	}
	js_push_str(options, "index=off");
	text = mem_printf("upperdir=%s/%u/fs", folder, first - 1);
	js_push_str(options, text);
	js_push_str(options, lower);
	free(text);
	free(lower);
	js_set_str(m, "type", "overlay");
	js_set_str(m, "source", "overlay");
	js_set_str(m, "target", "");
	js_set(m, "options", options);
	return m;
}

/* What it prints; *r what it answers. */
static char *printed(json_object *m, const char *target, int *r, struct fault *f)
{
	int fd = memfd_create("stdout", MFD_CLOEXEC), old = dup(1);
	char *text = mem_alloc(65536);

	assert_true(fd >= 0 && old >= 0);
	fflush(stdout);
	dup2(fd, 1);
	*r = snapmount_print(m, target, f);
	fflush(stdout);
	dup2(old, 1);
	assert_true(pread(fd, text, 65535, 0) >= 0);
	close(old);
	close(fd);
	json_object_put(m);
	return text;
}

static void test_short(void **state)
{
	struct fault f = { 0 };
	char *text;
	int r;

	(void)state;
	text = printed(overlay("/root", 2, 11), NULL, &r, &f);
	assert_int_equal(r, 0);
	assert_string_equal(
		text,
		"mount -t overlay -o index=off,upperdir=/root/10/fs,lowerdir=/root/11/fs:/root/12/fs overlay TARGET\n");
	free(text);
}

static void test_long(void **state)
{
	struct fault f = { 0 };
	char *text;
	int r;

	(void)state;
	text = printed(overlay("/a place/with it's/snapshots", 400, 101), "/mnt", &r, &f);
	assert_int_equal(r, 0);
	assert_non_null(strstr(text,
			       "(cd '/a place/with it'\\''s/snapshots/' && mount -t overlay -o "
			       "index=off,upperdir=100/fs,lowerdir=101/fs:102/fs:"));
	assert_non_null(strstr(text, ":500/fs overlay /mnt)\n"));
	assert_null(strstr(text, "snapshots/1"));
	free(text);
}

static void test_too_long(void **state)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct fault f = { 0 };
	char *text;
	int r;

	(void)state;
	text = printed(overlay("/root", page / 9 + 1, 100000), "/mnt", &r, &f);
	assert_true(r < 0);
	assert_int_equal(f.code, FAULT_RESOURCE_EXHAUSTED);
	assert_string_equal(text, "");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
