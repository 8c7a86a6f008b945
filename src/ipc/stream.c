// SPDX-License-Identifier: Apache-2.0
#include "ipc/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

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
	bool cut;
	ssize_t n;

	set->n = 0;
	set->cut = false;
	n = receive(sock, &msg, 0);
	if (n < 0)
		return n;
	cut = msg.msg_flags & MSG_CTRUNC;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (set->n < LIMIT_REQUEST_FDS) {
				set->fds[set->n++] = fd;
			} else {
				close(fd);
				cut = true;
			}
		}
	}
	if (cut) {
		stream_fds_close(set);
		set->cut = true;
	}
	return n;
}

ssize_t stream_sendv(int sock, const struct iovec *iov, size_t n, const int *fds, size_t n_fds)
{
	union control control;
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n };
	ssize_t sent;

	if (n_fds > LIMIT_REQUEST_FDS)
		return -EINVAL;
	if (n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		sent = sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}
