// SPDX-License-Identifier: Apache-2.0
/*
 * UNIX stream sockets with fds: one system call each, never blocking
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/limits.h"

struct iovec;

/* The fds that came with one sendmsg. */
struct stream_fds {
	size_t n;
	int fds[LIMIT_REQUEST_FDS]; /* -1 once taken */
	/* there were more than fit, or this process has no room for them; all are closed */
	bool cut;
};

void stream_fds_close(struct stream_fds *set);
/* Closes and frees; NULL is taken. */
void stream_fds_free(struct stream_fds *set);

/*
 * Looks at up to `size` bytes and leaves them. *fds: whether fds wait anywhere in the socket (Linux says
 * so even when they are behind the bytes seen). Returns the bytes seen, 0 at the end, or -errno.
 */
ssize_t stream_peek(int sock, void *buf, size_t size, bool *fds);
/* Reads up to `size` bytes; set->n or set->cut tell of fds. Returns the bytes read, 0 at the end, or -errno. */
ssize_t stream_recv(int sock, void *buf, size_t size, struct stream_fds *set);
/* Sends n buffers, the fds riding on the first byte. Returns the bytes sent or -errno. */
ssize_t stream_sendv(int sock, const struct iovec *iov, size_t n, const int *fds, size_t n_fds);
