// SPDX-License-Identifier: Apache-2.0
/* Container logs: the format, splitting, rotation, speed, many pipes, full disks, terminals. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
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

#include "monitor/logs.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/limits.h"

#define PREFIX 40 /* 2026-01-02T03:04:05.000000000Z stdout F */

struct fixture {
	char path[64], log[96], log1[104];
	struct event_base *base;
	struct logs *logs;
	unsigned ended;
	int err;
	unsigned wanted;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->path,
	       access("/dev/shm", W_OK) ? "/tmp/test_logs.XXXXXX" : "/dev/shm/test_logs.XXXXXX");
	assert_non_null(mkdtemp(x->path));
	sprintf(x->log, "%s/a/b/out.log", x->path);
	sprintf(x->log1, "%s.1", x->log);
	x->base = event_base_new();
	assert_int_equal(logs_new(&x->logs, x->base), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	char command[200];

	logs_free(x->logs);
	event_base_free(x->base);
	snprintf(command, sizeof(command), "%s/a/b", x->path);
	unlink(x->log);
	unlink(x->log1);
	rmdir(command);
	snprintf(command, sizeof(command), "%s/a", x->path);
	rmdir(command);
	assert_int_equal(rmdir(x->path), 0);
	free(x);
	return 0;
}

static void on_ended(void *user, int err)
{
	struct fixture *x = user;

	x->ended++;
	x->err = err;
	if (x->ended >= x->wanted)
		event_base_loopbreak(x->base);
}

static void wait_ended(struct fixture *x, unsigned n)
{
	struct timeval t = { 60, 0 };

	x->wanted = n;
	if (x->ended < n) {
		event_base_loopexit(x->base, &t);
		event_base_dispatch(x->base);
	}
	assert_int_equal(x->ended, n);
}

static int add(struct fixture *x, const char *stream, int64_t max_size)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(logs_add(x->logs, fds[0], x->log, stream, max_size, on_ended, x), 0);
	return fds[1];
}

static void put(int fd, const char *text)
{
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static char *read_log(const char *path)
{
	char *text;

	if (fd_read_file(AT_FDCWD, path, 256 << 20, &text, NULL) < 0)
		return strdup("");
	return text;
}

/* The file without the times, which are checked for their form. */
static char *read_plain(const char *path)
{
	char *text = read_log(path), *out = text, *p = text;

	while (*p) {
		char *end = strchr(p, '\n');
		int year, month, day, hour, minute, second, nanos, n = 0;

		assert_non_null(end);
		assert_int_equal(sscanf(p, "%4d-%2d-%2dT%2d:%2d:%2d.%9dZ %n", &year, &month, &day,
					&hour, &minute, &second, &nanos, &n),
				 7);
		assert_int_equal(n, 31);
		assert_true(year >= 2024 && month <= 12 && day <= 31 && hour < 24 && minute < 60);
		memmove(out, p + n, (size_t)(end + 1 - p - n));
		out += end + 1 - p - n;
		p = end + 1;
	}
	*out = '\0';
	return text;
}

static void expect(const char *path, const char *text)
{
	char *got = read_plain(path);

	assert_string_equal(got, text);
	free(got);
}

static void test_lines(void **state)
{
	struct fixture *x = *state;
	int fd = add(x, "stdout", 0), err;
	int64_t before = clock_now();
	char *text;
	time_t t;
	struct tm tm;
	char day[32];

	put(fd, "hello\nwor");
	put(fd, "ld\n\n\r\ttab\r\nlast without end");
	close(fd);
	wait_ended(x, 1);
	assert_int_equal(x->err, 0);
	expect(x->log,
	       "stdout F hello\nstdout F world\nstdout F \nstdout F \r\ttab\r\nstdout F last without end\n");
	text = read_log(x->log);
	t = (time_t)(before / CLOCK_NS_PER_SEC);
	gmtime_r(&t, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:", &tm);
	assert_memory_equal(text, day, strlen(day));
	free(text);
	/* appended, by two streams */
	fd = add(x, "stdout", 0);
	err = add(x, "stderr", 0);
	put(err, "oops\n");
	close(err);
	wait_ended(x, 2);
	put(fd, "again\n");
	close(fd);
	wait_ended(x, 3);
	text = read_plain(x->log);
	assert_non_null(strstr(text, "last without end\nstderr F oops\nstdout F again\n"));
	free(text);
}

static void test_long_lines(void **state)
{
	struct fixture *x = *state;
	int fd = add(x, "stdout", 0);
	char *line = malloc(LIMIT_LOG_LINE * 3 + 10), *text, *p;

	assert_non_null(line);
	memset(line, 'x', LIMIT_LOG_LINE * 3);
	strcpy(line + LIMIT_LOG_LINE * 3, "yz\n");
	put(fd, line);
	/* exactly as long as one may be */
	line[LIMIT_LOG_LINE] = '\n';
	line[LIMIT_LOG_LINE + 1] = '\0';
	put(fd, line);
	close(fd);
	wait_ended(x, 1);
	text = p = read_plain(x->log);
	for (int i = 0; i < 3; i++) {
		assert_memory_equal(p, "stdout P xxx", 12);
		assert_int_equal(strcspn(p, "\n"), 9 + LIMIT_LOG_LINE);
		p += 9 + LIMIT_LOG_LINE + 1;
	}
	assert_memory_equal(p, "stdout F yz\n", 12);
	p += 12;
	assert_memory_equal(p, "stdout F xxx", 12);
	assert_int_equal(strlen(p), 9 + LIMIT_LOG_LINE + 1);
	free(text);
	free(line);
}

/* An unfinished line shows after a moment. */
static void test_prompt(void **state)
{
	struct fixture *x = *state;
	int fd = add(x, "stdout", 0);

	put(fd, "continue? ");
	usleep(50000);
	put(fd, "[y/n] ");
	expect(x->log, "");
	usleep(500000);
	expect(x->log, "stdout P continue? [y/n] \n");
	put(fd, "yes\n");
	close(fd);
	wait_ended(x, 1);
	expect(x->log, "stdout P continue? [y/n] \nstdout F yes\n");
}

static void test_rotation(void **state)
{
	struct fixture *x = *state;
	int fd = add(x, "stdout", 4096);
	unsigned n = 0, last, first;
	char line[64], *old, *new;
	struct stat st;

	for (; n < 500; n++) {
		sprintf(line, "line %u %.*s\n", n, (int)(n % 30), "..............................");
		put(fd, line);
		if (n % 100 == 99)
			usleep(20000);
	}
	close(fd);
	wait_ended(x, 1);
	assert_int_equal(stat(x->log, &st), 0);
	assert_true(st.st_size > 0 && st.st_size <= 4096);
	assert_int_equal(stat(x->log1, &st), 0);
	assert_true(st.st_size > 4096 - 200 && st.st_size <= 4096);
	/* the newest lines, without a hole between the files */
	old = read_plain(x->log1);
	new = read_plain(x->log);
	first = (unsigned)atoi(new + 14);
	*strrchr(old, '\n') = '\0';
	last = (unsigned)atoi(strrchr(old, '\n') + 1 + 14);
	assert_int_equal(last + 1, first);
	assert_non_null(strstr(new, "line 499 "));
	free(old);
	free(new);
	/* a restart counts what is there already */
	fd = add(x, "stdout", 4096);
	for (n = 0; n < 60; n++)
		put(fd, "something of some length, to fill it up\n");
	close(fd);
	wait_ended(x, 2);
	assert_int_equal(stat(x->log, &st), 0);
	assert_true(st.st_size <= 4096);
	assert_int_equal(stat(x->log1, &st), 0);
	assert_true(st.st_size > 4096 - 200 && st.st_size <= 4096);
}

struct flood {
	int fd;
	size_t bytes;
	uint64_t lines;
};

static void *flood(void *arg)
{
	struct flood *f = arg;
	static char buffer[1 << 16];
	size_t sent = 0;

	while (sent < f->bytes) {
		size_t used = 0;

		while (used + 200 < sizeof(buffer)) {
			int n = sprintf(buffer + used, "%08llu ", (unsigned long long)f->lines);
			size_t pad = 20 + f->lines * 7 % 120;

			memset(buffer + used + n, 'a' + (int)(f->lines % 26), pad);
			used += (size_t)n + pad;
			buffer[used++] = '\n';
			f->lines++;
		}
		if (fd_write_all(f->fd, buffer, used) < 0)
			return NULL;
		sent += used;
	}
	close(f->fd);
	return NULL;
}

static void test_speed(void **state)
{
	struct fixture *x = *state;
	struct flood f = { .bytes = 100u << 20 };
	int64_t begin = clock_mono(), spent;
	uint64_t n = 0;
	pthread_t thread;
	char line[400];
	FILE *in;

	f.fd = add(x, "stdout", 1ll << 40);
	assert_int_equal(pthread_create(&thread, NULL, flood, &f), 0);
	wait_ended(x, 1);
	spent = clock_mono() - begin;
	pthread_join(thread, NULL);
	print_message("%lld MB/s\n", (long long)(f.bytes / 1000 * 1000000 / (uint64_t)spent));
	in = fopen(x->log, "r");
	assert_non_null(in);
	while (fgets(line, sizeof(line), in)) {
		char number[16];

		sprintf(number, "%08llu ", (unsigned long long)n);
		if (memcmp(line + PREFIX, number, 9) ||
		    strlen(line) != PREFIX + 9 + 20 + n * 7 % 120 + 1)
			fail_msg("line %llu: %s", (unsigned long long)n, line);
		n++;
	}
	fclose(in);
	assert_int_equal(n, f.lines);
}

static long resident(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
	fclose(f);
	return pages * 4;
}

static int64_t cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * CLOCK_NS_PER_SEC + ts.tv_nsec;
}

#define MANY 1000

static void test_many(void **state)
{
	struct fixture *x = *state;
	struct rlimit limit = { 4096, 4096 };
	long before = resident(), after;
	int *fds = calloc(MANY, sizeof(int));
	char *text, *p;
	unsigned n = 0;
	int64_t spent;

	assert_non_null(fds);
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		skip();
	for (int i = 0; i < MANY; i++)
		fds[i] = add(x, i % 2 ? "stdout" : "stderr", 1ll << 40);
	for (int i = 0; i < MANY; i++)
		put(fds[i], "one line, and a rest");
	usleep(100000);
	after = resident();
	print_message("%ld KiB for %d pipes with unfinished lines\n", after - before, MANY);
	usleep(2600000);
	/* asleep now */
	spent = cpu();
	usleep(300000);
	spent = cpu() - spent;
	print_message("%lld us of processor time while idle\n", (long long)spent / 1000);
	assert_true(spent < 5000000);
	for (int i = 0; i < MANY; i++) {
		put(fds[i], "; done\n");
		close(fds[i]);
	}
	wait_ended(x, MANY);
	text = read_plain(x->log);
	for (p = text; (p = strstr(p, " F ; done\n")); p++)
		n++;
	assert_int_equal(n, MANY);
	free(text);
	free(fds);
}

/* A full disk: the writer is never held up, and the log tells how much is missing. */
static void test_full_disk(void **state)
{
	struct fixture *x = *state;
	unsigned long long lost = 0, kept = 0, seen;
	char folder[96], ballast[128], *text, *p;
	struct flood f = { .bytes = 3u << 20 };
	pthread_t thread;
	int fd;

	sprintf(folder, "%s/a", x->path);
	sprintf(ballast, "%s/ballast", folder);
	assert_int_equal(mkdir(folder, 0700), 0);
	if (mount("tmpfs", folder, "tmpfs", 0, "size=1m") < 0)
		skip();
	fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	text = calloc(1, 512 << 10);
	assert_int_equal(fd_write_all(fd, text, 512 << 10), 0);
	close(fd);
	free(text);
	f.fd = add(x, "stdout", 1ll << 40);
	fd = dup(f.fd);
	assert_int_equal(pthread_create(&thread, NULL, flood, &f), 0);
	pthread_join(thread, NULL);
	assert_int_equal(x->ended, 0);
	usleep(100000);
	assert_int_equal(unlink(ballast), 0);
	put(fd, "there is space again\n");
	close(fd);
	wait_ended(x, 1);
	text = read_log(x->log);
	for (p = text; *p; p = strchr(p, '\n') + 1) {
		char *mark = strstr(p, "davit: ");

		assert_non_null(strchr(p, '\n'));
		assert_true(p[PREFIX - 1] == ' ');
		if (mark && mark < strchr(p, '\n') &&
		    sscanf(mark, "davit: %llu bytes", &seen) == 1) {
			assert_non_null(strstr(mark, "No space left"));
			lost += seen;
		} else {
			kept += (size_t)(strchr(p, '\n') - p) + 1 - PREFIX;
		}
	}
	assert_true(lost > 1 << 20);
	assert_non_null(strstr(text, "there is space again\n"));
	free(text);
	/* every byte is there or accounted for */
	{
		unsigned long long sum = strlen("there is space again\n");

		for (uint64_t i = 0; i < f.lines; i++)
			sum += 9 + 20 + i * 7 % 120 + 1;
		assert_int_equal(kept + lost, sum);
	}
	unlink(x->log);
	sprintf(ballast, "%s/b", folder);
	rmdir(ballast);
	/* the file is closed with its last pipe */
	assert_int_equal(umount(folder), 0);
}

static void test_no_folder(void **state)
{
	struct fixture *x = *state;
	char folder[96];
	int fd;

	/* a file where the folder should be */
	sprintf(folder, "%s/a", x->path);
	close(open(folder, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	fd = add(x, "stdout", 0);
	put(fd, "nobody hears\n");
	usleep(100000);
	unlink(folder);
	put(fd, "but now\n");
	close(fd);
	wait_ended(x, 1);
	expect(x->log,
	       "stderr F davit: 13 bytes of output were lost: Not a directory\nstdout F but now\n");
	/* half a line of a machine that went down */
	assert_int_equal(truncate(x->log, 100), 0);
	fd = add(x, "stdout", 0);
	put(fd, "next\n");
	close(fd);
	wait_ended(x, 2);
	{
		char *text = read_log(x->log);

		assert_int_equal(text[100], '\n');
		assert_memory_equal(text + 101 + PREFIX, "next\n", 5);
		free(text);
	}
}

/* One thread writes for all: a FIFO that nobody reads, in a log's place, must not keep it. */
static void test_no_file(void **state)
{
	struct fixture *x = *state;
	char folder[96], line[1001];
	int fd;

	sprintf(folder, "%s/a", x->path);
	assert_int_equal(mkdir(folder, 0700), 0);
	strcat(folder, "/b");
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(mkfifo(x->log, 0600), 0);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	alarm(60); /* puts wait for the thread */
	fd = add(x, "stdout", 0);
	for (int i = 0; i < 300; i++)
		put(fd, line);
	close(fd);
	wait_ended(x, 1);
	alarm(0);
	assert_int_equal(unlink(x->log), 0);
	fd = add(x, "stdout", 0);
	put(fd, "but now\n");
	close(fd);
	wait_ended(x, 2);
	expect(x->log, "stdout F but now\n");
}

static void test_free_drains(void **state)
{
	struct fixture *x = *state;
	int fd = add(x, "stdout", 0);

	put(fd, "a\nb");
	assert_int_equal(logs_write(x->logs, x->log, "stdout", 0, "c\nd", 3), 0);
	logs_free(x->logs);
	assert_int_equal(x->ended, 0);
	{
		char *text = read_plain(x->log);

		assert_non_null(strstr(text, "stdout F a\n"));
		assert_non_null(strstr(text, "stdout P b\n"));
		assert_non_null(strstr(text, "stdout F c\n"));
		assert_non_null(strstr(text, "stdout F d\n"));
		free(text);
	}
	close(fd);
	assert_int_equal(logs_new(&x->logs, x->base), 0);
}

static void test_terminal(void **state)
{
	struct fixture *x = *state;
	unsigned long long lost = 0;
	static char chunk[4096];
	size_t lines = 0;
	char *text, *p, *end;
	int fd;

	assert_int_equal(logs_write(x->logs, x->log, "stdout", 0, "$ ls\r\nfi", 8), 0);
	assert_int_equal(logs_write(x->logs, x->log, "stdout", 0, "le\r\n$ ", 6), 0);
	logs_end(x->logs, x->log);
	logs_end(x->logs, x->log);
	logs_end(x->logs, "/nothing");
	/* orders are obeyed in order: a pipe's end behind them says that they are done */
	fd = add(x, "stdout", 0);
	close(fd);
	wait_ended(x, 1);
	expect(x->log, "stdout F $ ls\r\nstdout F file\r\nstdout F $ \n");
	unlink(x->log);
	/* faster than the thread: what does not fit is counted */
	memset(chunk, 'q', sizeof(chunk));
	chunk[sizeof(chunk) - 1] = '\n';
	for (int i = 0; i < 20000; i++)
		assert_int_equal(
			logs_write(x->logs, x->log, "stdout", 1ll << 40, chunk, sizeof(chunk)), 0);
	logs_end(x->logs, x->log);
	fd = add(x, "stdout", 1ll << 40);
	close(fd);
	wait_ended(x, 2);
	text = read_log(x->log);
	end = text + strlen(text);
	/* by memchr: a strict strchr looks at all of the text each time */
	for (p = text; p < end; p = (char *)memchr(p, '\n', (size_t)(end - p)) + 1) {
		unsigned long long n;

		if (p[PREFIX] == 'q') {
			assert_int_equal(strcspn(p, "\n"), PREFIX + 4095);
			lines++;
		} else if (sscanf(p + PREFIX, "davit: %llu bytes of output were lost: they came",
				  &n) == 1) {
			lost += n;
		}
	}
	assert_int_equal(lines * 4096 + lost, 20000ull * 4096);
	print_message("%zu of 20000 pieces written\n", lines);
	free(text);
}

static void test_bad_fd(void **state)
{
	struct fixture *x = *state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* nothing that epoll knows */
	assert_int_equal(logs_add(x->logs, fd, x->log, "stdout", 0, on_ended, x), 0);
	wait_ended(x, 1);
	assert_int_equal(x->err, EPERM);
	assert_true(fcntl(fd, F_GETFD) < 0);
	assert_int_equal(logs_add(x->logs, -1, x->log, "stdout", 0, on_ended, x), -EBADF);
	fd = open(x->path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(logs_add(x->logs, fd, x->log, "stdout", 0, NULL, x), 0);
	logs_free(NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_lines),	 T(test_long_lines),  T(test_prompt),	 T(test_rotation),
		T(test_speed),	 T(test_many),	      T(test_full_disk), T(test_no_folder),
		T(test_no_file), T(test_free_drains), T(test_terminal),	 T(test_bad_fd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
