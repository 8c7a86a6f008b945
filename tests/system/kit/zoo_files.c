// SPDX-License-Identifier: Apache-2.0
/*
 * The zoo: files, pipes, and what waits for them
 */
#include "zoo.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static bool holds(int fd, const char *text)
{
	char got[256] = "";
	ssize_t n = pread(fd, got, sizeof(got) - 1, 0);

	return n == (ssize_t)strlen(text) && !memcmp(got, text, (size_t)n);
}

static void save(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	must(!fchmod(fd, mode) && !close(fd));
}

void zoo_epoll(void)
{
	int outer = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(0);
	int counter = eventfd(42, EFD_NONBLOCK), other = eventfd(3, 0), pipes[2];
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 0x1122334455667788 }, got[4];
	uint64_t value;
	int n;

	must(outer >= 0 && inner >= 0 && counter >= 0 && other >= 0 && !pipe(pipes));
	must(!epoll_ctl(inner, EPOLL_CTL_ADD, counter, &ev));
	ev.data.u64 = 2;
	must(!epoll_ctl(outer, EPOLL_CTL_ADD, inner, &ev));
	ev.data.u64 = 3;
	must(!epoll_ctl(outer, EPOLL_CTL_ADD, pipes[0], &ev));
	ev.events = EPOLLIN | EPOLLONESHOT;
	ev.data.u64 = 4;
	must(!epoll_ctl(outer, EPOLL_CTL_ADD, other, &ev));
	must(epoll_wait(outer, got, 4, 0) == 2); /* the oneshot one is spent */

	ready_and_wait();
	n = epoll_wait(outer, got, 4, 0);
	if (n != 1 || got[0].data.u64 != 2)
		lost("outer: %d events", n);
	if (epoll_wait(inner, got, 4, 0) != 1 || got[0].data.u64 != 0x1122334455667788)
		lost("inner");
	if (read(counter, &value, 8) != 8 || value != 42)
		lost("an eventfd");
	if (read(other, &value, 8) != 8 || value != 3)
		lost("another eventfd");
	must(write(pipes[1], "x", 1) == 1);
	if (epoll_wait(outer, got, 4, 1000) != 1 || got[0].data.u64 != 3)
		lost("a pipe");
}

void zoo_inotify(void)
{
	char buf[4096] __attribute__((aligned(8)));
	struct inotify_event *e = (void *)buf;
	int fd, wd;

	must(!mkdir("/tmp/watched", 0755));
	fd = inotify_init1(IN_NONBLOCK);
	wd = inotify_add_watch(fd, "/tmp/watched", IN_CREATE);
	must(fd >= 0 && wd >= 0);

	ready_and_wait();
	save("/tmp/watched/new", "x", 0600);
	if (read(fd, buf, sizeof(buf)) <= 0 || e->wd != wd || !(e->mask & IN_CREATE) ||
	    strcmp(e->name, "new") != 0)
		lost("the watch");
}

void zoo_pipes(void)
{
	int a[2], b[2], named, copy, size, status;
	char text[64] = "";
	pid_t pid;

	must(!pipe(a) && !pipe2(b, O_NONBLOCK));
	size = fcntl(b[1], F_SETPIPE_SZ, 262144);
	must(size >= 262144);
	must(write(a[1], "in the pipe", 11) == 11);
	must(write(b[1], "more", 4) == 4);
	must(!mkfifo("/tmp/fifo", 0600));
	named = open("/tmp/fifo", O_RDWR);
	must(named >= 0 && write(named, "in the fifo", 11) == 11);
	copy = dup2(a[1], 200);
	must(copy == 200 && !fcntl(200, F_SETFD, FD_CLOEXEC));
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		char c[16];

		/* the first bytes are the parent's; this one comes when it has read them */
		while (read(b[0], c, 1) != 1 || c[0] != '!')
			usleep(1000);
		_exit(write(a[1], "answer", 6) == 6 ? 9 : 1);
	}

	ready_and_wait();
	if (read(a[0], text, sizeof(text)) != 11 || memcmp(text, "in the pipe", 11) != 0)
		lost("the bytes in a pipe");
	if (fcntl(b[1], F_GETPIPE_SZ) != size)
		lost("a pipe's size: %d -> %d", size, fcntl(b[1], F_GETPIPE_SZ));
	if (!(fcntl(b[0], F_GETFL) & O_NONBLOCK) || (fcntl(a[0], F_GETFL) & O_NONBLOCK))
		lost("O_NONBLOCK");
	if (read(named, text, sizeof(text)) != 11 || memcmp(text, "in the fifo", 11) != 0)
		lost("the bytes in a FIFO");
	if (!(fcntl(200, F_GETFD) & FD_CLOEXEC) || (fcntl(a[1], F_GETFD) & FD_CLOEXEC))
		lost("FD_CLOEXEC");
	must(write(b[1], "!", 1) == 1);
	must(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 9 || read(a[0], text, 64) != 6 ||
	    memcmp(text, "answer", 6) != 0)
		lost("the other process");
}

void zoo_files(void)
{
	int rw, append, path_only, folder, copy, tmp;
	struct stat st;

	save("/tmp/rw", "hello world", 0644);
	rw = open("/tmp/rw", O_RDWR);
	must(rw >= 0 && lseek(rw, 6, SEEK_SET) == 6);
	copy = dup(rw);
	append = open("/tmp/append", O_WRONLY | O_CREAT | O_APPEND, 0644);
	must(append >= 0 && write(append, "one", 3) == 3);
	path_only = open("/tmp/rw", O_PATH);
	folder = open("/tmp", O_RDONLY | O_DIRECTORY);
	must(path_only >= 0 && folder >= 0);
	/* on tmpfs: all of it is in the checkpoint */
	must(!mkdir("/dev/shm/a", 0750) && !mkdir("/dev/shm/a/b", 0700));
	must(!chmod("/dev/shm/a/b", 01777));
	save("/dev/shm/a/b/file", "in memory", 0604);
	must(!symlink("b/file", "/dev/shm/a/link"));
	must(!chown("/dev/shm/a/b/file", 123, 456));
	tmp = open("/dev/shm/a/b/file", O_RDONLY);
	must(tmp >= 0);

	ready_and_wait();
	if (lseek(copy, 0, SEEK_CUR) != 6)
		lost("an offset");
	must(lseek(rw, 2, SEEK_SET) == 2);
	if (lseek(copy, 0, SEEK_CUR) != 2)
		lost("an offset that two fds share");
	must(write(append, "two", 3) == 3);
	if (stat("/tmp/append", &st) || st.st_size != 6)
		lost("O_APPEND");
	if (!(fcntl(path_only, F_GETFL) & O_PATH) || fstat(path_only, &st))
		lost("O_PATH");
	if (fstatat(folder, "rw", &st, 0))
		lost("an open folder");
	if (!holds(tmp, "in memory"))
		lost("a file on tmpfs");
	if (stat("/dev/shm/a/link", &st) || (st.st_mode & 07777) != 0604 || st.st_uid != 123 ||
	    st.st_gid != 456)
		lost("mode or owner on tmpfs: %o %d %d", st.st_mode, st.st_uid, st.st_gid);
	if (stat("/dev/shm/a/b", &st) || (st.st_mode & 07777) != 01777)
		lost("a folder on tmpfs");
}

/* Without a name, but open. */
/* Pages of a file that is larger than what criu takes by itself. */
#define LARGE 800

void zoo_deleted(void)
{
	int root, shm, unnamed, large;
	char page[4096];

	save("/tmp/gone", "in the root", 0600);
	save("/dev/shm/gone", "on tmpfs", 0600);
	root = open("/tmp/gone", O_RDWR);
	shm = open("/dev/shm/gone", O_RDWR);
	must(root >= 0 && shm >= 0);
	must(!unlink("/tmp/gone") && !unlink("/dev/shm/gone"));
	unnamed = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
	must(unnamed >= 0 && write(unnamed, "never had a name", 16) == 16);
	large = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	must(large >= 0);
	for (int i = 0; i < LARGE; i++) {
		memset(page, i, sizeof(page));
		must(write(large, page, sizeof(page)) == sizeof(page));
	}

	ready_and_wait();
	for (int i = 0; i < LARGE; i++) {
		must(pread(large, page, sizeof(page), i * (off_t)sizeof(page)) == sizeof(page));
		if (page[0] != (char)i || page[4095] != (char)i)
			lost("page %d of a large deleted file", i);
	}
	if (!holds(root, "in the root"))
		lost("a deleted file of the root");
	if (!holds(shm, "on tmpfs"))
		lost("a deleted file on tmpfs");
	if (!holds(unnamed, "never had a name"))
		lost("a file of O_TMPFILE");
	if (access("/tmp/gone", F_OK) == 0 || access("/dev/shm/gone", F_OK) == 0)
		lost("the names are back");
}

/* Deleted under the name by which it is open, but not under another: link_remap. */
void zoo_linked(void)
{
	struct stat st;
	int fd;

	save("/tmp/first", "two names", 0600);
	must(!link("/tmp/first", "/tmp/second"));
	fd = open("/tmp/first", O_RDWR);
	must(fd >= 0 && !unlink("/tmp/first"));
	ready_and_wait();
	if (!holds(fd, "two names"))
		lost("the file");
	if (fstat(fd, &st) || st.st_nlink != 1)
		lost("%d names", (int)st.st_nlink);
}

/* Whether another process is kept out. */
static bool locked(const char *path, bool posix)
{
	int status;
	pid_t pid = fork();

	must(pid >= 0);
	if (!pid) {
		struct flock l = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 2
		};
		int fd = open(path, O_RDWR);

		if (fd < 0)
			_exit(9);
		if (posix)
			_exit(fcntl(fd, F_SETLK, &l) < 0 ? 1 : 0);
		_exit(flock(fd, LOCK_EX | LOCK_NB) < 0 ? 1 : 0);
	}
	must(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status) == 1;
}

void zoo_locks(void)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 2 };
	int whole, range;

	save("/tmp/flock", "0123456789", 0600);
	save("/tmp/posix", "0123456789", 0600);
	whole = open("/tmp/flock", O_RDWR);
	range = open("/tmp/posix", O_RDWR);
	must(whole >= 0 && range >= 0);
	must(!flock(whole, LOCK_EX) && !fcntl(range, F_SETLK, &l));
	must(locked("/tmp/flock", false) && locked("/tmp/posix", true));

	ready_and_wait();
	if (!locked("/tmp/flock", false))
		lost("flock");
	if (!locked("/tmp/posix", true))
		lost("a lock of a range");
	must(!flock(whole, LOCK_UN));
	if (locked("/tmp/flock", false))
		lost("the lock stays after its end");
}
