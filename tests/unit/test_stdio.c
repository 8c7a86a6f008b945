// SPDX-License-Identifier: Apache-2.0
/*
 * Standard streams: FIFOs without blocking, keepers, and their texts
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/fifo_watch.h"
#include "core/stdio.h"
#include "util/fd.h"

struct place {
	char dir[64], fifo[96], file[96];
};

static int place_make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/davit-stdio-XXXXXX");
	if (!mkdtemp(p->dir))
		return -1;
	snprintf(p->fifo, sizeof(p->fifo), "%s/fifo", p->dir);
	snprintf(p->file, sizeof(p->file), "%s/file", p->dir);
	*state = p;
	return mkfifo(p->fifo, 0600);
}

static int place_remove(void **state)
{
	struct place *p = *state;

	unlink(p->fifo);
	unlink(p->file);
	rmdir(p->dir);
	free(p);
	return 0;
}

/* A reader that never comes: opening does not block, and the keeper keeps SIGPIPE away. */
static void test_output_without_reader(void **state)
{
	struct place *p = *state;
	struct stdio s;
	struct fault f;

	stdio_init(&s);
	assert_int_equal(stdio_set(&s, 1, p->fifo, -1, NULL, &f), 0);
	assert_int_equal(stdio_open(&s, &f), 0);
	assert_true(s.stream[1].child >= 0);
	assert_true(s.stream[1].keeper >= 0);
	assert_int_equal(fcntl(s.stream[1].child, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(write(s.stream[1].child, "x", 1), 1);
	stdio_clear(&s);
}

/* A reader that is there already: no keeper, so its leaving is seen. */
static void test_output_with_reader(void **state)
{
	struct place *p = *state;
	int reader = open(p->fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stdio s;
	struct fault f;
	char c;

	stdio_init(&s);
	assert_int_equal(stdio_set(&s, 1, p->fifo, -1, NULL, &f), 0);
	assert_int_equal(stdio_open(&s, &f), 0);
	assert_int_equal(s.stream[1].keeper, -1);
	assert_int_equal(fcntl(s.stream[1].child, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(write(s.stream[1].child, "x", 1), 1);
	assert_int_equal(read(reader, &c, 1), 1);
	close(reader);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(write(s.stream[1].child, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	signal(SIGPIPE, SIG_DFL);
	stdio_clear(&s);
}

/* stdin has no end of file while the keeper is there, whoever writes and goes. */
static void test_input_keeper(void **state)
{
	struct place *p = *state;
	struct stdio s;
	struct fault f;
	char c;
	int writer;

	stdio_init(&s);
	assert_int_equal(stdio_set(&s, 0, p->fifo, -1, NULL, &f), 0);
	assert_int_equal(stdio_open(&s, &f), 0);
	writer = open(p->fifo, O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(writer, "a", 1), 1);
	close(writer);
	assert_int_equal(read(s.stream[0].child, &c, 1), 1);
	fd_nonblock(s.stream[0].child, 1);
	assert_int_equal(read(s.stream[0].child, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
	fd_close(&s.stream[0].keeper);
	assert_int_equal(read(s.stream[0].child, &c, 1), 0);
	stdio_clear(&s);
}

static void test_refusals(void **state)
{
	struct place *p = *state;
	struct stdio s;
	struct fault f;
	char text[64];

	stdio_init(&s);
	assert_true(stdio_set(&s, 0, "log:", -1, "/x", &f) < 0);
	assert_string_equal(f.argument, "stdin");
	assert_true(stdio_set(&s, 1, "relative", -1, NULL, &f) < 0);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	close(open(p->file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(stdio_set(&s, 1, p->file, -1, NULL, &f), 0);
	assert_true(stdio_open(&s, &f) < 0);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	stdio_clear(&s);
	stdio_init(&s);
	assert_int_equal(stdio_set(&s, 2, "/nowhere/fifo", -1, NULL, &f), 0);
	assert_true(stdio_open(&s, &f) < 0);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	assert_string_equal(f.path, "/nowhere/fifo");
	stdio_clear(&s);
	stdio_init(&s);
	s.terminal = true;
	snprintf(text, sizeof(text), "%s", "fd:0");
	assert_true(stdio_set(&s, 1, text, dup(0), NULL, &f) < 0);
	assert_true(stdio_set(&s, 2, p->fifo, -1, NULL, &f) < 0);
	stdio_clear(&s);
}

static void test_file_and_texts(void **state)
{
	struct place *p = *state;
	struct stdio s, back;
	struct fault f;
	char text[160], uri[128];

	stdio_init(&s);
	snprintf(uri, sizeof(uri), "file://%s", p->file);
	assert_int_equal(stdio_set(&s, 1, uri, -1, NULL, &f), 0);
	assert_int_equal(stdio_set(&s, 2, "log:", -1, "/logs/a.log", &f), 0);
	assert_int_equal(stdio_open(&s, &f), 0);
	assert_int_equal(write(s.stream[1].child, "one\n", 4), 4);
	assert_true(fcntl(s.stream[1].child, F_GETFL) & O_APPEND);
	assert_true(s.stream[2].fd >= 0 && s.stream[2].child >= 0);
	assert_string_equal(stdio_text(&s, 1, text, sizeof(text)), uri);
	stdio_init(&back);
	assert_int_equal(stdio_restore(&back, 1, text), 0);
	assert_int_equal(back.stream[1].kind, STDIO_FILE);
	assert_string_equal(back.stream[1].path, p->file);
	assert_string_equal(stdio_text(&s, 2, text, sizeof(text)), "log:/logs/a.log");
	assert_int_equal(stdio_restore(&back, 2, text), 0);
	assert_int_equal(back.stream[2].kind, STDIO_LOG);
	assert_null(stdio_text(&s, 0, text, sizeof(text)));
	assert_int_equal(stdio_restore(&back, 0, "nonsense"), -EBADMSG);
	stdio_clear(&s);
	stdio_clear(&back);
}

static void watch_opened(void *user, const char *key)
{
	snprintf(user, 16, "%s", key);
}

static void test_watch(void **state)
{
	struct place *p = *state;
	struct event_base *base = event_base_new();
	struct fifo_watches *w;
	char seen[16] = "";
	int both;

	assert_int_equal(fifo_watches_new(&w, base), 0);
	both = open(p->fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	/* an open that comes after the add */
	assert_int_equal(fifo_watch_begin(w, p->fifo), 0);
	assert_int_equal(fifo_watch_add(w, p->fifo, "one", watch_opened, seen), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_string_equal(seen, "");
	close(open(p->fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	event_base_loop(base, EVLOOP_ONCE);
	assert_string_equal(seen, "one");
	/* one that comes between begin and add */
	assert_int_equal(fifo_watch_begin(w, p->fifo), 0);
	close(open(p->fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	event_base_loop(base, EVLOOP_ONCE);
	assert_int_equal(fifo_watch_add(w, p->fifo, "two", watch_opened, seen), 0);
	assert_string_equal(seen, "one");
	event_base_loop(base, EVLOOP_ONCE);
	assert_string_equal(seen, "two");
	/* removed: nobody is told */
	assert_int_equal(fifo_watch_begin(w, p->fifo), 0);
	assert_int_equal(fifo_watch_add(w, p->fifo, "three", watch_opened, seen), 0);
	fifo_watch_remove(w, "three");
	close(open(p->fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
	event_base_loop(base, EVLOOP_NONBLOCK);
	assert_string_equal(seen, "two");
	close(both);
	fifo_watches_free(w);
	event_base_free(base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_output_without_reader, place_make,
						place_remove),
		cmocka_unit_test_setup_teardown(test_output_with_reader, place_make, place_remove),
		cmocka_unit_test_setup_teardown(test_input_keeper, place_make, place_remove),
		cmocka_unit_test_setup_teardown(test_refusals, place_make, place_remove),
		cmocka_unit_test_setup_teardown(test_file_and_texts, place_make, place_remove),
		cmocka_unit_test_setup_teardown(test_watch, place_make, place_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
