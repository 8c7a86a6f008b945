// SPDX-License-Identifier: Apache-2.0
/*
 * Images: reading and writing an fd that a client passed
 *
 * Such an fd may be a pipe or socket whose other end never reads or writes, and a worker that waits
 * for it must still end when its call is cancelled. So it polls in short turns, and transfers
 * without blocking. The file description is shared with the client, whose end must not find itself
 * non-blocking: a pipe or terminal is opened once more through /proc, which makes a description of
 * its own, and sockets have a flag for each transfer. Regular files never keep a reader waiting;
 * they are used as they are, from where their offset is.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/image_internal.h"
#include "util/fd.h"

#define TURN_MS 100 /* between two looks at the cancel flag */
#define PIECE (1u << 20)

struct image_io {
	int fd;
	bool own; /* to be closed */
	bool socket;
	bool wait; /* poll before each transfer */
};

int image_io_open(struct image_io **out, int fd, bool writing, struct fault *f)
{
	struct image_io *io;
	char path[32];
	struct stat st;
	int flags, again;

	*out = NULL;
	if (fstat(fd, &st) < 0 || (flags = fcntl(fd, F_GETFL)) < 0)
		return fault_sys(f, errno, "look at the stream", NULL);
	if ((flags & O_ACCMODE) == (writing ? O_RDONLY : O_WRONLY) || (flags & O_PATH) ||
	    S_ISDIR(st.st_mode)) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "the stream cannot be %s",
			  writing ? "written to" : "read");
		fault_arg(f, "stream");
		return -EBADF;
	}
	io = calloc(1, sizeof(*io));
	if (!io)
		return image_no_memory(f);
	io->fd = fd;
	io->socket = S_ISSOCK(st.st_mode);
	io->wait = !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode);
	if (S_ISFIFO(st.st_mode) || (S_ISCHR(st.st_mode) && isatty(fd))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path,
			     (writing ? O_WRONLY : O_RDONLY) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		/* ENXIO: a pipe that nobody reads any more, which writing tells */
		if (again >= 0) {
			io->fd = again;
			io->own = true;
		} else if (errno != ENXIO) {
			int err = errno;

			free(io);
			return fault_sys(f, err, "open the stream", NULL);
		}
	}
	*out = io;
	return 0;
}

void image_io_free(struct image_io *io)
{
	if (!io)
		return;
	if (io->own)
		close(io->fd);
	free(io);
}

/* 0 when there is something to transfer, or an error that the transfer will tell. */
static int await(struct store_call *c, struct image_io *io, short events)
{
	struct pollfd p = { .fd = io->fd, .events = events };
	int r = store_cancelled(c);

	while (!r && io->wait) {
		int n = poll(&p, 1, TURN_MS);

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return fault_sys(c->f, errno, "wait for the stream", NULL);
		r = store_cancelled(c);
	}
	return r;
}

ssize_t image_io_read(struct store_call *c, struct image_io *io, void *buf, size_t size)
{
	for (;;) {
		int r = await(c, io, POLLIN);
		ssize_t n;

		if (r < 0)
			return r;
		n = io->socket ? recv(io->fd, buf, size, MSG_DONTWAIT) : read(io->fd, buf, size);
		if (n >= 0)
			return n;
		if (errno != EINTR && errno != EAGAIN)
			return fault_sys(c->f, errno, "read the archive", NULL);
	}
}

int image_io_write(struct store_call *c, struct image_io *io, const void *buf, size_t size)
{
	const char *p = buf;

	while (size) {
		size_t piece = size < PIECE ? size : PIECE;
		int r = await(c, io, POLLOUT);
		ssize_t n;

		if (r < 0)
			return r;
		n = io->socket ? send(io->fd, p, piece, MSG_DONTWAIT | MSG_NOSIGNAL)
			       : write(io->fd, p, piece);
		if (n >= 0) {
			p += n;
			size -= (size_t)n;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			fault_set(c->f, FAULT_ABORTED, errno, "nobody reads the archive any more");
			return -EPIPE;
		} else if (errno != EINTR && errno != EAGAIN) {
			return fault_sys(c->f, errno, "write the archive", NULL);
		}
	}
	return 0;
}

int image_io_drain(struct store_call *c, struct image_io *io)
{
	char buf[16384];
	ssize_t n = 1;

	while (io->wait && n > 0)
		n = image_io_read(c, io, buf, sizeof(buf));
	return n < 0 ? (int)n : 0;
}
