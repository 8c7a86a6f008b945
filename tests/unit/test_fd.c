// SPDX-License-Identifier: Apache-2.0
/*
 * File descriptors: whole transfers, file reading with limits, fd passing, openat2 below a root, pidfds
 */
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct place { /* a folder of the test's own */
	char path[64];
	int fd;
};

static int make_place(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	if (!place)
		return -1;
	strcpy(place->path, "/tmp/davit-unit-fd-XXXXXX");
	if (!mkdtemp(place->path)) {
		free(place);
		return -1;
	}
	place->fd = open(place->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = place;
	return place->fd < 0 ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int remove_place(void **state)
{
	struct place *place = *state;
	int r = nftw(place->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);

	fd_close(&place->fd);
	free(place);
	return r;
}

static void put_file(struct place *place, const char *name, const char *text)
{
	int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	fd_close(&fd);
}

static int is_cloexec(int fd)
{
	return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static void test_close(void **state)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), copy = fd, none = -1;

	(void)state;
	assert_true(fd >= 0);
	errno = ENOTTY;
	fd_close(&fd);
	assert_int_equal(fd, -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fcntl(copy, F_GETFD), -1);
	fd_close(&none);
	assert_int_equal(none, -1);
}

static void test_nonblock(void **state)
{
	int p[2];
	char c;

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(fd_nonblock(p[0], 1), 0);
	assert_int_equal(read(p[0], &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fd_nonblock(p[0], 0), 0);
	assert_int_equal(fcntl(p[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fd_nonblock(-1, 1), -EBADF);
	fd_close(&p[0]);
	fd_close(&p[1]);
}

static void *write_slowly(void *arg)
{
	int fd = *(int *)arg;

	for (int i = 0; i < 8; i++)
		if (write(fd, "0123456789abcdef", 16) != 16)
			return NULL;
	return arg;
}

static void test_transfers(void **state)
{
	static char big[300000], back[300000];
	pthread_t thread;
	void *ended;
	int p[2];

	(void)state;
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	/* many small pieces are one read */
	assert_int_equal(pthread_create(&thread, NULL, write_slowly, &p[1]), 0);
	assert_int_equal(fd_read_all(p[0], back, 128), 0);
	assert_int_equal(pthread_join(thread, &ended), 0);
	assert_non_null(ended);
	assert_memory_equal(back + 112, "0123456789abcdef", 16);
	/* an end in the middle is told apart from the whole */
	assert_int_equal(fd_write_all(p[1], "abc", 3), 0);
	fd_close(&p[1]);
	assert_int_equal(fd_read_all(p[0], back, 4), -EPIPE);
	fd_close(&p[0]);
	assert_int_equal(fd_read_all(-1, back, 1), -EBADF);
	assert_int_equal(fd_write_all(-1, "x", 1), -EBADF);
	assert_int_equal(fd_write_all(-1, "x", 0), 0);

	/* more than a pipe holds */
	memset(big, 'b', sizeof(big));
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	if (fork() == 0)
		_exit(fd_write_all(p[1], big, sizeof(big)) ? 1 : 0);
	assert_int_equal(fd_read_all(p[0], back, sizeof(back)), 0);
	assert_memory_equal(big, back, sizeof(big));
	int status = -1;
	assert_true(wait(&status) > 0);
	assert_int_equal(status, 0);
	fd_close(&p[0]);
	fd_close(&p[1]);
}

static void test_read_file(void **state)
{
	struct place *place = *state;
	char *data = NULL;
	size_t size = 99;

	put_file(place, "ten", "0123456789");
	assert_int_equal(fd_read_file(place->fd, "ten", 10, &data, &size), 0);
	assert_int_equal(size, 10);
	assert_string_equal(data, "0123456789");
	free(data);
	data = NULL;
	assert_int_equal(fd_read_file(place->fd, "ten", 9, &data, &size), -EFBIG);
	assert_null(data);

	put_file(place, "empty", "");
	assert_int_equal(fd_read_file(place->fd, "empty", 0, &data, NULL), 0);
	assert_string_equal(data, "");
	free(data);
	data = NULL;

	/* files of /proc say size 0 and have more */
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/status", 65536, &data, &size), 0);
	assert_true(size > 100);
	assert_int_equal(strlen(data), size);
	free(data);
	data = NULL;
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/status", 50, &data, &size), -EFBIG);
	assert_int_equal(fd_read_file(place->fd, "none", 10, &data, &size), -ENOENT);
	assert_int_equal(fd_read_file(place->fd, ".", 10, &data, &size), -EISDIR);
	assert_null(data);
}

/* Nobody is at the other end of the FIFO: an open that waited for one would never end. */
static void test_open_regular(void **state)
{
	struct place *place = *state;
	char *data = NULL, path[80];
	struct stat st;
	size_t size;
	int fd;

	put_file(place, "file", "0123456789");
	assert_int_equal(mkfifoat(place->fd, "fifo", 0600), 0);
	assert_int_equal(mknodat(place->fd, "socket", S_IFSOCK | 0600, 0), 0);
	assert_int_equal(symlinkat("file", place->fd, "link"), 0);
	assert_int_equal(fd_open_regular(place->fd, "fifo", 0), -ENXIO);
	assert_int_equal(fd_open_regular(place->fd, "socket", 0), -ENXIO);
	assert_int_equal(fd_open_regular(AT_FDCWD, "/dev/null", 0), -ENXIO);
	assert_int_equal(fd_open_regular(place->fd, ".", 0), -EISDIR);
	assert_int_equal(fd_open_regular(place->fd, "none", 0), -ENOENT);
	assert_int_equal(fd_open_regular(place->fd, "link", O_NOFOLLOW), -ELOOP);
	assert_int_equal(fd_read_file(place->fd, "fifo", 10, &data, &size), -ENXIO);
	assert_null(data);
	fd = fd_open_regular(place->fd, "link", 0);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 10);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);

	/* what a user names may be a pipe */
	snprintf(path, sizeof(path), "%s/fifo", place->path);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "0123456789", 10), 10);
	assert_int_equal(fd_read_input(path, 9, &data, &size), -EFBIG);
	assert_int_equal(fd_read_input("/dev/null", 9, &data, &size), 0);
	assert_int_equal(size, 0);
	free(data);
	close(fd);
	assert_int_equal(fd_read_input("/", 9, &data, &size), -EISDIR);
}

static void test_write_file(void **state)
{
	struct place *place = *state;
	char *data = NULL;

	put_file(place, "value", "12345\n");
	assert_int_equal(fd_write_file(place->fd, "value", "7"), 0);
	assert_int_equal(fd_read_file(place->fd, "value", 64, &data, NULL), 0);
	assert_string_equal(data, "72345\n"); /* as for a kernel's file: neither made nor cut */
	free(data);
	assert_int_equal(fd_write_file(place->fd, "none", "7"), -ENOENT);
}

static void test_pass_fds(void **state)
{
	int s[2], p[2], got[16], sixteen[17];
	size_t n = 16;
	char buf[8] = "";

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);

	assert_int_equal(fd_send(s[0], "hi", 2, p, 2, 0), 2);
	assert_int_equal(fd_recv(s[1], buf, sizeof(buf), got, &n, 0), 2);
	assert_memory_equal(buf, "hi", 2);
	assert_int_equal(n, 2);
	assert_true(is_cloexec(got[0]) && is_cloexec(got[1]));
	assert_int_equal(fd_write_all(got[1], "x", 1), 0);
	assert_int_equal(fd_read_all(p[0], buf, 1), 0);
	assert_int_equal(buf[0], 'x');
	fd_close(&got[0]);
	fd_close(&got[1]);

	/* without fds, and the end */
	n = 16;
	assert_int_equal(fd_send(s[0], "m", 1, NULL, 0, 0), 1);
	assert_int_equal(fd_recv(s[1], buf, sizeof(buf), got, &n, 0), 1);
	assert_int_equal(n, 0);
	assert_int_equal(fd_recv(s[1], buf, sizeof(buf), got, &n, MSG_DONTWAIT), -EAGAIN);

	for (int i = 0; i < 17; i++)
		sixteen[i] = p[0];
	assert_int_equal(fd_send(s[0], "m", 1, sixteen, 17, 0), -EINVAL);
	n = 16;
	assert_int_equal(fd_send(s[0], "m", 1, sixteen, 16, 0), 1);
	assert_int_equal(fd_recv(s[1], buf, sizeof(buf), got, &n, 0), 1);
	assert_int_equal(n, 16);
	for (int i = 0; i < 16; i++)
		fd_close(&got[i]);

	fd_close(&s[0]);
	n = 16;
	assert_int_equal(fd_recv(s[1], buf, sizeof(buf), got, &n, 0), 0);
	assert_int_equal(fd_send(s[1], "m", 1, NULL, 0, 0), -EPIPE); /* and no SIGPIPE */
	fd_close(&s[1]);
	fd_close(&p[0]);
	fd_close(&p[1]);
}

/* More fds than there is room for: an error, and none of them stays open. */
static void test_truncated_fds(void **state)
{
	int s[2], p[2], got[1], next, after;
	size_t n = 1;
	char c;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	next = fcntl(0, F_DUPFD_CLOEXEC, 3);
	fd_close(&(int){ next });
	assert_int_equal(fd_send(s[0], "m", 1, p, 2, 0), 1);
	assert_int_equal(fd_recv(s[1], &c, 1, got, &n, 0), -EMSGSIZE);
	assert_int_equal(n, 0);
	assert_int_equal(fd_send(s[0], "m", 1, p, 2, 0), 1);
	assert_int_equal(fd_recv(s[1], &c, 1, NULL, NULL, 0), -EMSGSIZE);
	after = fcntl(0, F_DUPFD_CLOEXEC, 3);
	assert_int_equal(after, next);
	fd_close(&after);
	for (int i = 0; i < 2; i++) {
		fd_close(&s[i]);
		fd_close(&p[i]);
	}
}

static void test_open_in_root(void **state)
{
	struct place *place = *state;
	char *data = NULL;
	int fd;

	assert_int_equal(mkdirat(place->fd, "root", 0700), 0);
	assert_int_equal(mkdirat(place->fd, "root/etc", 0700), 0);
	put_file(place, "secret", "outside");
	put_file(place, "root/secret", "inside");
	assert_int_equal(symlinkat("/secret", place->fd, "root/absolute"), 0);
	assert_int_equal(symlinkat("../../../secret", place->fd, "root/etc/up"), 0);
	assert_int_equal(symlinkat("/proc/self/exe", place->fd, "root/exe"), 0);
	assert_int_equal(symlinkat("self", place->fd, "root/self"), 0);

	int root = openat(place->fd, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	static const char *const ways[] = { "secret", "/secret", "../secret", "absolute",
					    "etc/up" };
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		fd = fd_open_in_root(root, ways[i], O_RDONLY, 0);
		assert_true(fd >= 0);
		assert_true(is_cloexec(fd));
		char text[16] = "";
		assert_int_equal(read(fd, text, sizeof(text) - 1), 6);
		assert_string_equal(text, "inside");
		fd_close(&fd);
	}
	assert_int_equal(fd_open_in_root(root, "exe", O_RDONLY, 0), -ENOENT);
	assert_int_equal(fd_open_in_root(root, "self", O_RDONLY, 0), -ELOOP);
	fd = fd_open_in_root(root, "etc/new", O_WRONLY | O_CREAT, 0640);
	assert_true(fd >= 0);
	fd_close(&fd);
	assert_int_equal(fd_read_file(place->fd, "root/etc/new", 10, &data, NULL), 0);
	free(data);
	fd_close(&root);
}

static void test_pidfd(void **state)
{
	uint64_t own = fd_pid_starttime(getpid());
	siginfo_t info = { 0 };
	pid_t pid;
	int fd;

	(void)state;
	assert_true(own > 0);
	assert_int_equal(fd_pid_starttime(getpid()), own);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		pause();
		_exit(0);
	}
	fd = fd_pidfd_open(pid);
	assert_true(fd >= 0);
	assert_true(is_cloexec(fd));
	assert_true(fd_pid_starttime(pid) >= own);
	assert_int_equal(fd_pidfd_send_signal(fd, 0), 0);
	assert_int_equal(fd_pidfd_send_signal(fd, SIGTERM), 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
	assert_int_equal(info.si_status, SIGTERM);
	assert_int_equal(fd_pidfd_send_signal(fd, SIGTERM), -ESRCH);
	assert_int_equal(fd_pid_starttime(pid), 0);
	assert_int_equal(fd_pidfd_open(pid), -ESRCH);
	fd_close(&fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_nonblock),
		cmocka_unit_test(test_transfers),
		cmocka_unit_test_setup_teardown(test_read_file, make_place, remove_place),
		cmocka_unit_test_setup_teardown(test_open_regular, make_place, remove_place),
		cmocka_unit_test_setup_teardown(test_write_file, make_place, remove_place),
		cmocka_unit_test(test_pass_fds),
		cmocka_unit_test(test_truncated_fds),
		cmocka_unit_test_setup_teardown(test_open_in_root, make_place, remove_place),
		cmocka_unit_test(test_pidfd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
