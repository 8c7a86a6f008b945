// SPDX-License-Identifier: Apache-2.0
/*
 * Starting criu: what the program finds, and what a failing step leaves
 *
 * This program is what is started: with arguments it writes down what it sees.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/criu_process.h"
#include "util/cleanup.h"
#include "util/fd.h"

static char self[4096];

/* ---- the program that is started */

static void report_link(const char *what, const char *path)
{
	char text[4096];
	ssize_t n = readlink(path, text, sizeof(text) - 1);

	printf("%s %.*s\n", what, n < 0 ? 0 : (int)n, text);
}

static void report_status(const char *field)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			fputs(line, stdout);
	if (f)
		fclose(f);
}

static int report(int argc, char **argv, char **environment)
{
	DIR *d = opendir("/proc/self/fd");
	struct statfs run;
	struct dirent *e;

	for (int i = 0; i < argc; i++)
		printf("arg %s\n", argv[i]);
	for (char **v = environment; *v; v++)
		printf("env %s\n", *v);
	while ((e = readdir(d)))
		if (*e->d_name != '.' && atoi(e->d_name) != dirfd(d))
			printf("fd %s\n", e->d_name);
	closedir(d);
	for (int i = 10; i < 12; i++) {
		char text[16] = "";

		if (read(i, text, sizeof(text) - 1) > 0)
			printf("in %d %s\n", i, text);
	}
	report_link("cwd", "/proc/self/cwd");
	report_link("stdin", "/proc/self/fd/0");
	report_link("mnt", "/proc/self/ns/mnt");
	report_link("cgroup", "/proc/self/ns/cgroup");
	report_status("Sig");
	printf("leader %d\n", getsid(0) == getpid());
	printf("run %d\n", statfs("/run", &run) == 0 && run.f_type == TMPFS_MAGIC);
	if (argc > 2) {
		struct statfs st;
		int writable = access(argv[2], W_OK) == 0;

		printf("there %d tmpfs %d writable %d\n", access(argv[2], F_OK) == 0,
		       statfs(argv[2], &st) == 0 && st.f_type == TMPFS_MAGIC, writable);
	}
	fflush(stdout);
	fprintf(stderr, "to stderr\n");
	return 3;
}

/* ---- tests */

struct fixture {
	struct criu_base *base;
	char dir[64];
	int out;
	char *text;
	int status;
};

static int setup(void **state)
{
	struct fixture *fx = calloc(1, sizeof(*fx));
	struct fault f;

	strcpy(fx->dir, "/tmp/davit-criu-XXXXXX");
	assert_non_null(mkdtemp(fx->dir));
	assert_int_equal(criu_base_new(&fx->base, &f), 0);
	fx->out = memfd_create("out", MFD_CLOEXEC);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fx = *state;

	criu_base_free(fx->base);
	close(fx->out);
	free(fx->text);
	assert_int_equal(rmdir(fx->dir), 0);
	free(fx);
	return 0;
}

static void run(struct fixture *fx, struct criu_start *s)
{
	struct fault f = { 0 };
	pid_t pid;

	s->output = fx->out;
	if (criu_process_start(fx->base, s, &pid, &f) < 0)
		fail_msg("%s", f.message);
	assert_int_equal(waitpid(pid, &fx->status, 0), pid);
	lseek(fx->out, 0, SEEK_SET);
	free(fx->text);
	fx->text = calloc(1, 65536);
	assert_true(read(fx->out, fx->text, 65535) > 0);
	assert_true(WIFEXITED(fx->status) && WEXITSTATUS(fx->status) == 3);
}

static void says(const struct fixture *fx, const char *line)
{
	if (!strstr(fx->text, line))
		fail_msg("no '%s' in:\n%s", line, fx->text);
}

static int count(const struct fixture *fx, const char *begin)
{
	int n = 0;

	for (const char *p = fx->text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		n += !strncmp(p, begin, strlen(begin));
	}
	return n;
}

static void test_what_it_finds(void **state)
{
	char *argv[] = { (char *)"criu", (char *)"an argument", NULL };
	struct fixture *fx = *state;
	int a[2], b[2], extra = dup(1);
	sigset_t old, some;

	/* not CLOEXEC: as if another's, opened at a bad moment; numbers that are given away too */
	assert_int_equal(dup2(extra, 200), 200);
	assert_int_equal(dup2(extra, 11), 11);
	assert_int_equal(pipe2(a, O_CLOEXEC), 0);
	assert_int_equal(pipe2(b, O_CLOEXEC), 0);
	assert_int_equal(write(a[1], "first", 5), 5);
	assert_int_equal(write(b[1], "second", 6), 6);
	/* the second's number is the first's place */
	assert_int_equal(dup2(b[0], 10), 10);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	sigfillset(&some);
	sigprocmask(SIG_SETMASK, &some, &old);
	struct criu_start s = {
		.path = self, .argv = argv, .fds = (int[]){ a[0], 10 }, .n_fds = 2
	};
	run(fx, &s);
	sigprocmask(SIG_SETMASK, &old, NULL);
	says(fx, "arg criu\narg an argument\n");
	says(fx, "env PATH=");
	assert_int_equal(count(fx, "env "), 1);
	for (int i = 0; i < 3; i++) {
		char line[16];

		snprintf(line, sizeof(line), "fd %d\n", i);
		says(fx, line);
	}
	assert_int_equal(count(fx, "fd "), 5);
	says(fx, "in 10 first\n");
	says(fx, "in 11 second\n");
	says(fx, "cwd /\n");
	says(fx, "stdin /dev/null\n");
	says(fx, "SigBlk:\t0000000000000000\n");
	says(fx, "SigIgn:\t0000000000000000\n");
	says(fx, "leader 1\n");
	says(fx, "run 1\n");
	says(fx, "to stderr\n");
	signal(SIGPIPE, SIG_DFL);
	signal(SIGUSR1, SIG_DFL);
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
	close(extra);
	close(200);
	close(11);
	close(10);
}

/* A mount namespace of its own, where steps leave their marks and the host does not see them. */
static void test_steps(void **state)
{
	struct fixture *fx = *state;
	char ours[64], line[80], folder[128], below[160];
	char *argv[] = { (char *)"criu", (char *)"look", below, NULL };
	ssize_t n = readlink("/proc/self/ns/mnt", ours, sizeof(ours) - 1);

	assert_true(n > 0);
	ours[n] = '\0';
	snprintf(folder, sizeof(folder), "%s/m", fx->dir);
	snprintf(below, sizeof(below), "%s/inside", folder);
	assert_int_equal(mkdir(folder, 0755), 0);
	const struct criu_step steps[] = {
		{ .kind = CRIU_MOUNT_TMPFS, .target = folder, .data = "size=64k,mode=0700" },
		{ .kind = CRIU_MKDIR, .target = below },
		{ .kind = CRIU_MKDIR, .target = below }, /* twice is fine */
		{ .kind = CRIU_CGROUP_NS },
	};
	struct criu_start s = { .path = self, .argv = argv, .steps = steps, .n_steps = 4 };
	run(fx, &s);
	snprintf(line, sizeof(line), "mnt %s\n", ours);
	assert_null(strstr(fx->text, line));
	says(fx, "there 1 tmpfs 1 writable 1\n");
	assert_int_equal(access(below, F_OK), -1);
	assert_int_equal(rmdir(folder), 0);
}

/* A mount tree that was opened here is moved there, and made read-only. */
static void test_tree(void **state)
{
	struct fixture *fx = *state;
	char folder[128], source[128];
	char *argv[] = { (char *)"criu", (char *)"look", folder, NULL };
	int tree;

	snprintf(folder, sizeof(folder), "%s/to", fx->dir);
	snprintf(source, sizeof(source), "%s/from", fx->dir);
	assert_int_equal(mkdir(folder, 0755), 0);
	assert_int_equal(mkdir(source, 0755), 0);
	tree = open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	assert_true(tree >= 0);
	const struct criu_step steps[] = {
		{ .kind = CRIU_MOUNT_TREE, .fd = tree, .target = folder },
		{ .kind = CRIU_REMOUNT, .target = folder, .flags = MS_RDONLY | MS_NOSUID },
	};
	struct criu_start s = { .path = self, .argv = argv, .steps = steps, .n_steps = 2 };
	run(fx, &s);
	says(fx, "there 1 tmpfs 0 writable 0\n");
	close(tree);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(rmdir(source), 0);
}

/* Each failing step is named with what it was about, and leaves a dead child. */
static void test_failures(void **state)
{
	struct fixture *fx = *state;
	char *argv[] = { (char *)"criu", NULL };
	static const struct {
		struct criu_step step;
		const char *words;
		int err;
	} rows[] = {
		{ { .kind = CRIU_MOUNT_TREE, .fd = -1, .target = "/tmp" },
		  "move_mount /tmp",
		  EBADF },
		{ { .kind = CRIU_MOUNT_TMPFS, .target = "/nowhere" }, "tmpfs on /nowhere", ENOENT },
		{ { .kind = CRIU_MKDIR, .target = "/nowhere/x" }, "mkdir /nowhere/x", ENOENT },
		{ { .kind = CRIU_REMOUNT, .target = "/nowhere" }, "remount /nowhere", ENOENT },
		{ { .kind = CRIU_JOIN, .fd = -1, .target = "cpu" }, "join the cgroup cpu", EBADF },
	};
	struct criu_start s = { .path = "/nowhere/criu", .argv = argv, .output = fx->out };
	struct fault f = { 0 };
	pid_t pid = 0;
	int bad = 9999;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		s.steps = &rows[i].step;
		s.n_steps = 1;
		assert_int_equal(criu_process_start(fx->base, &s, &pid, &f), -rows[i].err);
		assert_non_null(strstr(f.message, "starting criu: "));
		if (!strstr(f.message, rows[i].words))
			fail_msg("'%s' does not say '%s'", f.message, rows[i].words);
		assert_true(pid > 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	}
	s.n_steps = 0;
	assert_int_equal(criu_process_start(fx->base, &s, &pid, &f), -ENOENT);
	assert_non_null(strstr(f.message, "execve /nowhere/criu"));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	s.fds = &bad;
	s.n_fds = 1;
	assert_int_equal(criu_process_start(fx->base, &s, &pid, &f), -EBADF);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	s.n_fds = 100000;
	assert_int_equal(criu_process_start(fx->base, &s, &pid, &f), -EINVAL);
	assert_int_equal(f.code, FAULT_RESOURCE_EXHAUSTED);
	assert_int_equal(pid, 0);
}

/* What is mounted on the host later is seen by those that are started later, also if it is private. */
static void test_mounted_later(void **state)
{
	struct fixture *fx = *state;
	char folder[128];
	char *argv[] = { (char *)"criu", (char *)"look", folder, NULL };
	struct criu_start s = { .path = self, .argv = argv };

	snprintf(folder, sizeof(folder), "%s/later", fx->dir);
	assert_int_equal(mkdir(folder, 0755), 0);
	run(fx, &s);
	says(fx, "there 1 tmpfs ");
	assert_int_equal(mount("tmpfs", folder, "tmpfs", 0, "size=64k"), 0);
	assert_int_equal(mount(NULL, folder, NULL, MS_PRIVATE, NULL), 0);
	run(fx, &s);
	assert_int_equal(umount(folder), 0);
	says(fx, "there 1 tmpfs 1");
	run(fx, &s);
	assert_int_equal(rmdir(folder), 0);
}

/* A mount of the host's that was there before the first is not kept by any of them. */
static void test_nothing_is_kept(void **state)
{
	struct fixture *fx = *state;
	char folder[128];
	char *argv[] = { (char *)"criu", (char *)"look", folder, NULL };
	struct criu_start s = { .path = self, .argv = argv };
	struct pollfd p = { .fd = inotify_init1(IN_CLOEXEC), .events = POLLIN };
	struct inotify_event e;
	struct fault f;

	criu_base_free(fx->base);
	snprintf(folder, sizeof(folder), "%s/disk", fx->dir);
	assert_int_equal(mkdir(folder, 0755), 0);
	assert_int_equal(mount("tmpfs", folder, "tmpfs", 0, "size=64k"), 0);
	assert_true(inotify_add_watch(p.fd, folder, IN_DELETE_SELF) >= 0);
	assert_int_equal(criu_base_new(&fx->base, &f), 0);
	run(fx, &s);
	assert_int_equal(umount(folder), 0);
	/* told when the file system itself is gone */
	assert_int_equal(poll(&p, 1, 20000), 1);
	assert_int_equal(read(p.fd, &e, sizeof(e)), sizeof(e));
	assert_true(e.mask & IN_UNMOUNT);
	close(p.fd);
	assert_int_equal(rmdir(folder), 0);
}

/* All have one /run, and what they have to see of the host's lies in it. */
static void test_run(void **state)
{
	struct fixture *fx = *state;
	char ours[] = "/run/davit-criu-XXXXXX", mark[64], inside[64];
	const char *see[] = { ours, "/tmp" };
	char *argv[] = { (char *)"criu", (char *)"look", NULL, NULL };
	struct criu_step step = { .kind = CRIU_MKDIR, .target = mark };
	struct criu_start s = { .path = self, .argv = argv };

	assert_non_null(mkdtemp(ours));
	snprintf(mark, sizeof(mark), "/run/davit-mark-%d", (int)getpid());
	snprintf(inside, sizeof(inside), "%s/inside", ours);
	assert_int_equal(mkdir(inside, 0755), 0);
	argv[2] = mark;
	s.steps = &step;
	s.n_steps = 1;
	run(fx, &s);
	s.n_steps = 0;
	run(fx, &s);
	says(fx, "run 1\n");
	says(fx, "there 1 tmpfs 1 writable 1\n");
	argv[2] = inside;
	s.see = see;
	s.n_see = 2;
	run(fx, &s);
	says(fx, "run 1\n");
	says(fx, "there 1 ");
	(void)rmdir(mark); /* where the host's /run is a tmpfs, it is the same */
	assert_int_equal(rmdir(inside), 0);
	assert_int_equal(rmdir(ours), 0);
}

int main(int argc, char **argv, char **environment)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_what_it_finds), TEST(test_steps),	    TEST(test_tree),
		TEST(test_failures),	  TEST(test_mounted_later), TEST(test_nothing_is_kept),
		TEST(test_run),
	};

	if (argc > 1)
		return report(argc, argv, environment);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return 1;
	if (geteuid() != 0) {
		print_message("SKIPPED: not root, who alone may make a mount namespace\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
