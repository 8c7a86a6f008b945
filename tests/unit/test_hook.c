// SPDX-License-Identifier: Apache-2.0
/*
 * criu's action script: the small program and the lines of shell that stand in for it
 */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/hook.h"
#include "checkpoint/hook_program.h"

struct held {
	struct event_base *base;
	struct hook_point *point;
	pid_t pid;
	int answer; /* -1: the daemon goes away */
};

static char folder[] = "/tmp/davit-test-hook-XXXXXX";
static char path[sizeof(folder) + 64];

static int make_folder(void **state)
{
	(void)state;
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/" HOOK_SCRIPT, folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static pid_t run(const char *stage, const char *pid)
{
	char action[64], init[64];
	char *argv[] = { path, NULL },
	     *envp[] = { "A=b", init, "CRTOOLS_SCRIPT_ACTIO=x", action, NULL };
	pid_t child;

	snprintf(action, sizeof(action), "CRTOOLS_SCRIPT_ACTION=%s", stage);
	snprintf(init, sizeof(init), pid ? "CRTOOLS_INIT_PID=%s" : "CRTOOLS_IMAGE_DIR=/", pid);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		execve(path, argv, envp);
		_exit(99);
	}
	return child;
}

static int end_of(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void on_reached(void *user, pid_t pid)
{
	struct held *h = user;

	h->pid = pid;
	if (h->answer < 0) {
		hook_point_free(h->point);
		h->point = NULL;
	} else {
		hook_point_answer(h->point, h->answer);
	}
	event_base_loopbreak(h->base);
}

/* Its exit status; *pid: what it said. */
static int held_at(const char *stage, const char *init, int answer, pid_t *pid)
{
	struct held h = { .base = event_base_new(), .answer = answer };
	struct fault f = { 0 };
	pid_t child;
	int code;

	assert_non_null(h.base);
	assert_int_equal(hook_point_new(&h.point, h.base, folder, on_reached, &h, &f), 0);
	child = run(stage, init);
	event_base_dispatch(h.base);
	code = end_of(child);
	hook_point_free(h.point);
	event_base_free(h.base);
	*pid = h.pid;
	return code;
}

static void test_asks_at_its_stage(void **state)
{
	struct fault f = { 0 };
	struct stat st;
	pid_t pid;

	(void)state;
	assert_int_equal(hook_script_write(folder, "/bin/false", "post-restore", &f), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
#if !defined(__x86_64__)
	skip(); /* the rest is about the program; elsewhere it is `davit criu-hook`, and so of the system tests */
#endif
	assert_int_equal(held_at("post-restore", "4711", 1, &pid), 0);
	assert_int_equal(pid, 4711);
	assert_int_equal(held_at("post-restore", "12", 0, &pid), 1);
	assert_int_equal(pid, 12);
	assert_int_equal(held_at("post-restore", NULL, 1, &pid), 0);
	assert_int_equal(pid, 0);
	/* the daemon goes away while it waits */
	assert_int_equal(held_at("post-restore", "12", -1, &pid), 1);
}

static void test_other_stages(void **state)
{
	struct fault f = { 0 };

	(void)state;
	assert_int_equal(hook_script_write(folder, "/bin/false", "post-dump", &f), 0);
	assert_int_equal(end_of(run("post-restore", "1")), 0);
	assert_int_equal(end_of(run("post-dum", "1")), 0);
	assert_int_equal(end_of(run("post-dumps", "1")), 0);
	assert_int_equal(end_of(run("", "1")), 0);
	/* nobody listens */
	assert_int_equal(end_of(run("post-dump", "1")), 1);
}

static void test_it_is_not_written_over_another(void **state)
{
	struct fault f = { 0 };

	(void)state;
	assert_int_equal(hook_script_write(folder, "/bin/false", "post-dump", &f), 0);
	assert_int_equal(hook_script_write(folder, "/bin/false", "post-dump", &f), -EEXIST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_asks_at_its_stage, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_other_stages, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_it_is_not_written_over_another, make_folder,
						remove_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
