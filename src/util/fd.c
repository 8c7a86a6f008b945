// SPDX-License-Identifier: Apache-2.0
#include "util/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"

#define FD_SEND_MAX 16

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int fd_nonblock(int fd, int on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

int fd_write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int fd_read_all(int fd, void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (!n)
			return -EPIPE;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int fd_pread_all(int fd, void *data, size_t size, uint64_t at)
{
	char *p = data;

	while (size) {
		ssize_t n = pread(fd, p, size, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		p += n;
		at += (uint64_t)n;
		size -= (size_t)n;
	}
	return 0;
}

static int open_regular(int dirfd, const char *path, int flags, struct stat *st)
{
	CLEANUP_CLOSE int fd = openat(dirfd, path,
				      O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | flags);

	if (fd < 0 || fstat(fd, st) < 0)
		return -errno;
	if (!S_ISREG(st->st_mode))
		return S_ISDIR(st->st_mode) ? -EISDIR : -ENXIO;
	return TAKE_FD(fd);
}

int fd_open_regular(int dirfd, const char *path, int flags)
{
	struct stat st;
	int fd = open_regular(dirfd, path, flags, &st);

	/* the flag means nothing for it, but might to whom it is passed on */
	if (fd >= 0)
		(void)fd_nonblock(fd, 0);
	return fd;
}

static int read_whole(int fd, const struct stat *st, size_t max, char **data, size_t *size)
{
	CLEANUP_FREE char *buf = NULL;
	size_t room = 0, used = 0;

	if (S_ISREG(st->st_mode) && st->st_size > 0 && (uint64_t)st->st_size > max)
		return -EFBIG;
	for (;;) {
		ssize_t n;

		if (used + 1 >= room) {
			size_t want = room ? room * 2
					   : (size_t)(st->st_size > 0 ? st->st_size : 0) + 4096;
			char *grown = realloc(buf, want);

			if (!grown)
				return -ENOMEM;
			buf = grown;
			room = want;
		}
		n = read(fd, buf + used, room - used - 1);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (!n)
			break;
		used += (size_t)n;
		if (used > max)
			return -EFBIG;
	}
	buf[used] = 0;
	if (size)
		*size = used;
	*data = TAKE_PTR(buf);
	return 0;
}

int fd_read_file(int dirfd, const char *path, size_t max, char **data, size_t *size)
{
	struct stat st;
	CLEANUP_CLOSE int fd = open_regular(dirfd, path, 0, &st);

	return fd < 0 ? fd : read_whole(fd, &st, max, data, size);
}

int fd_read_input(const char *path, size_t max, char **data, size_t *size)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? -EISDIR : read_whole(fd, &st, max, data, size);
}

int fd_write_file(int dirfd, const char *path, const char *text)
{
	CLEANUP_CLOSE int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	size_t size = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do {
		n = write(fd, text, size);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -EIO;
}

ssize_t fd_sendv(int sock, const struct iovec *iov, size_t n_iov, const int *fds, size_t n,
		 int flags)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * FD_SEND_MAX)];
	} control;
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n_iov };
	ssize_t sent;

	if (n > FD_SEND_MAX)
		return -EINVAL;
	if (n) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	}
	do {
		sent = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

ssize_t fd_send(int sock, const void *data, size_t size, const int *fds, size_t n, int flags)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = size };

	return fd_sendv(sock, &iov, 1, fds, n, flags);
}

size_t fd_take_rights(struct msghdr *msg, int *fds, size_t room, bool *cut)
{
	size_t got = 0;

	*cut = msg->msg_flags & MSG_CTRUNC;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < room) {
				fds[got++] = fd;
			} else {
				close(fd);
				*cut = true;
			}
		}
	}
	while (*cut && got)
		close(fds[--got]);
	return got;
}

ssize_t fd_recv(int sock, void *data, size_t size, int *fds, size_t *n, int flags)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * FD_SEND_MAX)];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t room = n ? *n : 0, got;
	bool cut;
	ssize_t r;

	msg.msg_control = control.room;
	msg.msg_controllen = sizeof(control.room);
	do {
		r = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	got = fd_take_rights(&msg, fds, room, &cut);
	if (n)
		*n = got;
	if (cut)
		return -EMSGSIZE;
	return r;
}

int fd_open_in_root(int root, const char *path, uint64_t flags, uint64_t mode)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.mode = mode,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

int fd_pidfd_open(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}

int fd_pidfd_send_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

uint64_t fd_pid_starttime(pid_t pid)
{
	CLEANUP_FREE char *text = NULL;
	unsigned long long start = 0;
	char path[64], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0 || !text)
		return 0;
	/* the command name may hold anything, but what follows the last ')' is numbers */
	p = strrchr(text, ')');
	if (!p)
		return 0;
	for (int field = 2; field < 22 && p; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %llu", &start) != 1)
		return 0;
	return start;
}
