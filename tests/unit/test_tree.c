// SPDX-License-Identifier: Apache-2.0
/* Removing folders: twice, deep ones, mounts in them, links, many at once. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/tree.h"

struct fixture {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->path, "/tmp/test_tree.XXXXXX");
	assert_non_null(mkdtemp(x->path));
	x->fd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(x->fd >= 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	int r = tree_empty(x->fd, NULL);

	close(x->fd);
	assert_int_equal(r, 0);
	assert_int_equal(rmdir(x->path), 0);
	free(x);
	return 0;
}

static void make_file(int at, const char *name)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static bool there(const struct fixture *x, const char *name)
{
	return faccessat(x->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_twice(void **state)
{
	struct fixture *x = *state;

	for (int i = 0; i < 3; i++) {
		make_file(x->fd, "f");
		assert_int_equal(mkdirat(x->fd, "d", 0700), 0);
		make_file(x->fd, "d/f");
		assert_int_equal(symlinkat("/etc", x->fd, "d/link"), 0);
		assert_int_equal(tree_empty(x->fd, NULL), 0);
		assert_false(there(x, "f") || there(x, "d"));
	}
	assert_int_equal(access("/etc/passwd", F_OK), 0);
	assert_int_equal(tree_remove(x->fd, "none", NULL), 0);
	make_file(x->fd, "f");
	assert_int_equal(tree_remove(x->fd, "f", NULL), 0);
	assert_false(there(x, "f"));
}

/* d/d/d/… with a file in each */
static void make_deep(int at, const char *name, unsigned depth)
{
	int fd;

	assert_int_equal(mkdirat(at, name, 0700), 0);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	for (unsigned i = 1; i < depth; i++) {
		int below;

		make_file(fd, "file");
		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(below >= 0);
		close(fd);
		fd = below;
	}
	close(fd);
}

static void test_deep(void **state)
{
	struct fixture *x = *state;
	struct rlimit old, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 128;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (unsigned depth = 30; depth <= 36; depth++) {
		make_deep(x->fd, "deep", depth);
		assert_int_equal(tree_remove(x->fd, "deep", NULL), 0);
		assert_false(there(x, "deep"));
	}
	make_deep(x->fd, "deep", 5000);
	make_deep(x->fd, "other", 3000);
	make_file(x->fd, "beside");
	assert_int_equal(tree_remove(x->fd, "deep", NULL), 0);
	/* what is beside it has nothing to do with it */
	assert_true(there(x, "beside") && there(x, "other"));
	assert_int_equal(tree_empty(x->fd, NULL), 0);
	assert_false(there(x, "other"));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void test_mounts(void **state)
{
	struct fixture *x = *state;
	char at[96];

	if (geteuid()) {
		print_message("SKIPPED: mounts need root\n");
		skip();
	}
	assert_int_equal(mkdirat(x->fd, "d", 0700), 0);
	assert_int_equal(mkdirat(x->fd, "d/m", 0700), 0);
	make_file(x->fd, "d/z");
	snprintf(at, sizeof(at), "%s/d/m", x->path);
	assert_int_equal(mount("tmpfs", at, "tmpfs", 0, NULL), 0);
	make_file(x->fd, "d/m/inside");
	assert_int_equal(tree_remove(x->fd, "d", NULL), -EBUSY);
	/* the others have been tried */
	assert_true(there(x, "d/m/inside"));
	assert_false(there(x, "d/z"));
	assert_int_equal(umount2(at, MNT_DETACH), 0);
	assert_int_equal(tree_remove(x->fd, "d", NULL), 0);
}

static void test_cancel(void **state)
{
	struct fixture *x = *state;
	struct cancel c = { 0 };

	make_deep(x->fd, "d", 3);
	cancel_set(&c);
	assert_int_equal(tree_remove(x->fd, "d", &c), -ECANCELED);
	assert_int_equal(tree_empty(x->fd, &c), -ECANCELED);
	assert_true(there(x, "d/d"));
}

static void *empty(void *user)
{
	struct fixture *x = user;

	return (void *)(intptr_t)tree_empty(x->fd, NULL);
}

/* Several at once do not stand in each other's way. */
static void test_at_once(void **state)
{
	struct fixture *x = *state;
	pthread_t threads[4];
	char name[32];

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		make_deep(x->fd, name, i % 4 ? 20 : 500);
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, empty, x), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		void *r;

		assert_int_equal(pthread_join(threads[i], &r), 0);
		assert_int_equal((intptr_t)r, 0);
		/* whoever is done first has found nothing left */
		assert_int_equal(unlinkat(AT_FDCWD, x->path, AT_REMOVEDIR), i ? -1 : 0);
	}
	assert_int_equal(mkdir(x->path, 0700), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_twice),  TEST(test_deep),    TEST(test_mounts),
		TEST(test_cancel), TEST(test_at_once),
	};

	return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
