// SPDX-License-Identifier: Apache-2.0
/*
 * File descriptors
 *
 * Every fd starts at -1 and is opened O_CLOEXEC.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Closes *fd if it is one, and sets it to -1. errno is kept. */
void fd_close(int *fd);
int fd_nonblock(int fd, int on);

/* Whole transfers on blocking fds. 0 or -errno; the reading ones answer -EPIPE at an early end. */
int fd_write_all(int fd, const void *data, size_t size);
int fd_read_all(int fd, void *data, size_t size);
int fd_pread_all(int fd, void *data, size_t size, uint64_t at);

/*
 * Opens a file for reading, with these flags beside. Never waits for another end: what is no regular
 * file is -EISDIR or, as open(2) has it for sockets, -ENXIO. Returns the fd or -errno.
 */
int fd_open_regular(int dirfd, const char *path, int flags);

/*
 * Reads a whole regular file of at most `max` bytes into malloc'ed memory, NUL-terminated (the NUL is not
 * counted in *size, which may be NULL). dirfd may be AT_FDCWD. -EFBIG when it is larger;
 * what is no regular file as fd_open_regular has it.
 */
int fd_read_file(int dirfd, const char *path, size_t max, char **data, size_t *size);
/* The same of what a user names at a terminal: may be a pipe, and is waited for. */
int fd_read_input(const char *path, size_t max, char **data, size_t *size);
/* Opens an existing file for writing and writes text in one call, as /proc, /sys and cgroup files want. */
int fd_write_file(int dirfd, const char *path, const char *text);

/*
 * One message of `size` bytes with `n` fds (at most 16) over a UNIX socket. Senders keep their fds.
 * fd_recv returns the bytes read (0 at the end), fills fds (O_CLOEXEC) and *n in: room, out: count.
 * Truncated fds are -EMSGSIZE, with all that came closed. Flags as for sendmsg and recvmsg.
 */
ssize_t fd_send(int sock, const void *data, size_t size, const int *fds, size_t n, int flags);
ssize_t fd_sendv(int sock, const struct iovec *iov, size_t n_iov, const int *fds, size_t n,
		 int flags);
ssize_t fd_recv(int sock, void *data, size_t size, int *fds, size_t *n, int flags);

/*
 * The fds of a received message into fds[0..room), for callers with a recvmsg of their own; answers how many. *cut: some were
 * lost or had no room; then all are closed and it answers 0.
 */
size_t fd_take_rights(struct msghdr *msg, int *fds, size_t room, bool *cut);

/*
 * openat2 with RESOLVE_IN_ROOT: the path is resolved as if `root` were "/", links included.
 * Returns the fd (O_CLOEXEC added) or -errno.
 */
int fd_open_in_root(int root, const char *path, uint64_t flags, uint64_t mode);

int fd_pidfd_open(pid_t pid); /* or -errno */
int fd_pidfd_send_signal(int pidfd, int sig); /* 0 or -errno */
/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), 0 when it is gone. */
uint64_t fd_pid_starttime(pid_t pid);
