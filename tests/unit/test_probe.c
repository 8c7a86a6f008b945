// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel features: the list is whole, stable, and leaves nothing behind
 */
#include "util/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/fd.h"

static size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void test_list(void **state)
{
	struct probe_feature a[PROBE_FEATURES], b[PROBE_FEATURES];
	CLEANUP_FREE char *before = NULL, *after = NULL;
	size_t n, fds = count_fds();

	(void)state;
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 8u << 20, &before, NULL),
			 0);
	n = probe_features(a);
	assert_in_range(n, 10, PROBE_FEATURES);
	assert_int_equal(probe_features(b), n);
	for (size_t i = 0; i < n; i++) {
		assert_true(a[i].name[0] && a[i].missing[0]);
		assert_true(atof(a[i].since) >= 3);
		assert_int_equal(a[i].available, !a[i].err);
		assert_string_equal(a[i].name, b[i].name);
		assert_int_equal(a[i].available, b[i].available);
		printf("%-22s %-5s %s%s\n", a[i].name, a[i].since,
		       a[i].available ? "yes" : "no: ", a[i].available ? "" : strerror(a[i].err));
		for (size_t k = 0; k < i; k++)
			assert_string_not_equal(a[i].name, a[k].name);
	}
	assert_int_equal(count_fds(), fds);
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 8u << 20, &after, NULL), 0);
	assert_string_equal(before, after);
	/* no child is left, of either kind */
	assert_int_equal(waitpid(-1, NULL, __WALL | WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* What this test program could not run without must be found. */
static void test_known(void **state)
{
	struct probe_feature f[PROBE_FEATURES];
	size_t n = probe_features(f), seen = 0;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(f[i].name, "pidfd")) {
			int fd = fd_pidfd_open(getpid());

			assert_int_equal(f[i].available, fd >= 0);
			if (fd >= 0)
				close(fd);
			seen++;
		} else if (!strcmp(f[i].name, "overlayfs") && f[i].available) {
			CLEANUP_FREE char *types = NULL;

			assert_int_equal(
				fd_read_file(AT_FDCWD, "/proc/filesystems", 1u << 20, &types, NULL),
				0);
			assert_non_null(strstr(types, "overlay"));
			seen++;
		} else if (!strcmp(f[i].name, "seccomp_notify") && f[i].available) {
			CLEANUP_FREE char *actions = NULL;

			assert_int_equal(fd_read_file(AT_FDCWD,
						      "/proc/sys/kernel/seccomp/actions_avail",
						      4096, &actions, NULL),
					 0);
			assert_non_null(strstr(actions, "user_notif"));
			seen++;
		}
	}
	assert_true(seen >= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_list),
					    cmocka_unit_test(test_known) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
