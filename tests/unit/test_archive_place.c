// SPDX-License-Identifier: Apache-2.0
/*
 * Archives at a path: the place has the whole file or what had been there, and nothing is left beside it
 *
 * Each test runs twice: on a file system that has files without names, and, by a seccomp filter that
 * refuses O_TMPFILE as such file systems do, on one that has none.
 */
#include "core/archive_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/cleanup.h"
#include "util/fault.h"
#include "util/fd.h"
#include "util/tree.h"

struct place {
	char folder[40], path[64];
	int at;
	struct fault f;
};

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	strcpy(p->folder, "/tmp/test_archive.XXXXXX");
	assert_non_null(mkdtemp(p->folder));
	snprintf(p->path, sizeof(p->path), "%s/out", p->folder);
	p->at = open(p->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->at >= 0);
	*state = p;
	return 0;
}

static int remove_place(void **state)
{
	struct place *p = *state;

	fd_close(&p->at);
	assert_int_equal(tree_remove(AT_FDCWD, p->folder, NULL), 0);
	free(p);
	return 0;
}

static size_t entries(struct place *p)
{
	DIR *dir = opendir(p->folder);
	struct dirent *e;
	size_t n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void expect(struct place *p, const char *text)
{
	CLEANUP_FREE char *found = NULL;

	assert_int_equal(fd_read_file(p->at, "out", 100, &found, NULL), 0);
	assert_string_equal(found, text);
	assert_int_equal(entries(p), 1);
}

static int write_one(struct place *p, const char *text, int result)
{
	struct archive_target t;
	CLEANUP_CLOSE int fd = -1;

	assert_int_equal(archive_target_open(&t, p->path, 0640, &fd, &p->f), 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	return archive_target_end(&t, fd, result, &p->f);
}

static void test_named(void **state)
{
	struct place *p = *state;
	struct stat st;

	assert_int_equal(write_one(p, "one", -EIO), -EIO);
	assert_int_equal(entries(p), 0);
	assert_int_equal(write_one(p, "one", 0), 0);
	expect(p, "one");
	assert_int_equal(fstatat(p->at, "out", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	/* what is there stays until it is replaced */
	assert_int_equal(write_one(p, "two", -EIO), -EIO);
	expect(p, "one");
	assert_int_equal(write_one(p, "two", 0), 0);
	expect(p, "two");
	/* a link is replaced, not followed */
	assert_int_equal(unlinkat(p->at, "out", 0), 0);
	assert_int_equal(symlinkat("/none/at/all", p->at, "out"), 0);
	assert_int_equal(write_one(p, "three", 0), 0);
	expect(p, "three");
	/* a folder has come to be there meanwhile */
	assert_int_equal(unlinkat(p->at, "out", 0), 0);
	{
		struct archive_target t;
		CLEANUP_CLOSE int fd = -1;

		assert_int_equal(archive_target_open(&t, p->path, 0640, &fd, &p->f), 0);
		assert_int_equal(mkdirat(p->at, "out", 0700), 0);
		assert_true(archive_target_end(&t, fd, 0, &p->f) < 0);
		assert_int_equal(entries(p), 1);
	}
}

/* A daemon that is killed has its fds closed, and that is all. */
static void test_abandoned(void **state)
{
	struct place *p = *state;
	struct archive_target t;
	int fd = -1;

	assert_int_equal(archive_target_open(&t, p->path, 0640, &fd, &p->f), 0);
	if (t.temporary) {
		archive_target_end(&t, fd, -EIO, &p->f);
		close(fd);
		skip(); /* this machine's /tmp has no such files */
	}
	assert_int_equal(fd_write_all(fd, "half", 4), 0);
	assert_int_equal(entries(p), 0);
	close(fd);
	assert_int_equal(entries(p), 0);
}

static void test_others(void **state)
{
	struct place *p = *state;
	struct archive_target t = { 0 };
	int fd = -1, reader;
	char buf[8];

	/* a stream, which has no place */
	assert_int_equal(archive_target_end(&t, -1, -EIO, &p->f), -EIO);
	assert_int_equal(archive_target_end(&t, -1, 0, &p->f), 0);
	assert_int_equal(mkfifoat(p->at, "out", 0600), 0);
	assert_int_equal(archive_target_open(&t, p->path, 0640, &fd, &p->f), -ENXIO);
	reader = openat(p->at, "out", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_int_equal(write_one(p, "one", 0), 0);
	assert_int_equal(read(reader, buf, sizeof(buf)), 3);
	close(reader);
	strcpy(p->path, "/none/at/all");
	assert_int_equal(archive_target_open(&t, p->path, 0640, &fd, &p->f), -ENOENT);
	assert_string_equal(p->f.argument, "path");
}

static int refuse_unnamed(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(void)
{
	const struct CMUnitTest both[] = {
		cmocka_unit_test_setup_teardown(test_named, make_place, remove_place),
		cmocka_unit_test_setup_teardown(test_others, make_place, remove_place),
	};
	const struct CMUnitTest unnamed[] = {
		cmocka_unit_test_setup_teardown(test_abandoned, make_place, remove_place),
	};
	int failed = cmocka_run_group_tests_name("without names", both, NULL, NULL) +
		     cmocka_run_group_tests(unnamed, NULL, NULL);

	if (refuse_unnamed() || open("/tmp", O_WRONLY | O_TMPFILE, 0600) >= 0 ||
	    errno != EOPNOTSUPP) {
		perror("seccomp");
		return 1;
	}
	return failed + cmocka_run_group_tests_name("with names", both, NULL, NULL);
}
