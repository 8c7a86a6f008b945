// SPDX-License-Identifier: Apache-2.0
#include "ipc/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "util/fd.h"

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * LIMIT_REQUEST_FDS)];
};

void stream_fds_close(struct stream_fds *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (set->fds[i] >= 0)
			close(set->fds[i]);
	set->n = 0;
	set->cut = false;
}

void stream_fds_free(struct stream_fds *set)
{
	if (!set)
		return;
	stream_fds_close(set);
	free(set);
}

static ssize_t receive(int sock, struct msghdr *msg, int flags)
{
	ssize_t n;

	do {
		n = recvmsg(sock, msg, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

ssize_t stream_peek(int sock, void *buf, size_t size, bool *fds)
{
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = receive(sock, &msg, MSG_PEEK);

	/* without room for control data no fd is made, but its absence is told */
	*fds = n >= 0 && (msg.msg_flags & MSG_CTRUNC);
	return n;
}

ssize_t stream_recv(int sock, void *buf, size_t size, struct stream_fds *set)
{
	union control control;
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	ssize_t n;

	set->n = 0;
	set->cut = false;
	n = receive(sock, &msg, 0);
	if (n >= 0)
		set->n = fd_take_rights(&msg, set->fds, LIMIT_REQUEST_FDS, &set->cut);
	return n;
}

ssize_t stream_sendv(int sock, const struct iovec *iov, size_t n, const int *fds, size_t n_fds)
{
	return fd_sendv(sock, iov, n, fds, n_fds, MSG_DONTWAIT);
}
