// SPDX-License-Identifier: Apache-2.0
/*
 * The fake criu: its side of the image streamer protocol, with faults
 *
 * Faults of both directions, at one image (see fake_conf.h):
 *   never_connects  stall_connect  two_connections
 *   short_length  short_body  long_frame  zero_frame  wrong_length  no_name  bad_name  long_name
 *   no_fd  two_fds  file_fd  socket_fd  wrong_end  stall_request  stall_fd  stall_pipe
 *   close_early (of all, then the end)  killed  fail (logs, in the middle of the pipe)  many
 * of the dump: no_inventory  fail_after  twice  extra  hang_pipe (does not see that it is hung up on)
 *   interleave (all open at a time, written in turns)
 * of the restore: early_close (reads no further, and goes on)  ask_twice  unread (read last of all)
 *   at_once (asks FAKE_AT_ONCE times, then reads)
 * many asks for BYTES files.
 */
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fake_tree.h"

#define FAKE_CHUNK 65536
#define FAKE_AT_ONCE 40

/* Ends criu in the way that the orders say, with the log's errors. */
static void fake_end(struct fake *k, int code) __attribute__((noreturn));
static void fake_cleanup(struct fake *k); /* lets the tasks go, in fake_criu.c */

static void fake_log_errors(struct fake *k)
{
	char chatter[] = "Dumping path for 3 fd via self 12 [/some/file/of/the/container]";

	for (size_t n = 0; k->log && n < k->log_bytes; n += sizeof(chatter) + 12)
		fake_log(k, "%s", chatter);
	if (k->log_garbage && k->log)
		for (int i = 0; i < 4096; i++)
			fputc(i & 0xff, k->log);
	for (size_t i = 0; i < k->n_errors; i++)
		fake_log(k, "Error (criu/fake.c:1): %s", k->errors[i]);
	if (k->log)
		fflush(k->log);
}

static void fake_end(struct fake *k, int code)
{
	if (code)
		fake_log_errors(k);
	fake_cleanup(k);
	fake_trace(k, "end %d", code);
	exit(code);
}

static void fake_fail(struct fake *k, const char *what)
{
	fake_log(k, "Error (criu/img-streamer.c:1): %s: %m", what);
	fake_trace(k, "failed %s %d", what, errno);
	fake_end(k, 1);
}

/* Until it is hung up on. */
static void fake_stall(struct fake *k, int fd)
{
	struct pollfd p[2] = { { .fd = k->sock }, { .fd = fd } };

	fake_trace(k, "stalls");
	while (poll(p, 2, -1) <= 0)
		continue;
	errno = EPIPE;
	fake_fail(k, "hung up");
}

static void fake_connect(struct fake *k, const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (fake_is(k, "never_connects")) {
		fake_trace(k, "does not connect");
		fake_end(k, k->exit_code);
	}
	if (fake_is(k, "stall_connect")) {
		fake_trace(k, "stalls");
		for (;;)
			pause();
	}
	/* cut without a word, as criu does it */
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", k->images_dir, name);
	k->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (k->sock < 0 || connect(k->sock, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fake_fail(k, "Unable to connect to image streamer socket");
	if (fake_is(k, "two_connections")) {
		int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		fake_trace(k, "second connection %d",
			   connect(other, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? errno : 0);
	}
}

static void fake_send(struct fake *k, const void *data, size_t n)
{
	if (n && send(k->sock, data, n, MSG_NOSIGNAL) != (ssize_t)n)
		fake_fail(k, "Failed to send a request");
}

static void fake_request(struct fake *k, const char *name)
{
	unsigned char m[1200];
	bool here = *k->fault && fake_at(k, name);
	size_t n = strlen(name);
	char other[1024];
	uint32_t length;

	if (here && fake_is(k, "bad_name")) {
		name = "../../etc/passwd";
		n = strlen(name);
	} else if (here && fake_is(k, "long_name")) {
		memset(other, 'x', 1000);
		name = other;
		n = 1000;
	}
	length = (uint32_t)n + 2 + (n > 127);
	m[4] = 0x0a;
	m[5] = (unsigned char)(n > 127 ? n | 0x80 : n);
	m[6] = (unsigned char)(n >> 7);
	memcpy(m + (n > 127 ? 7 : 6), name, n);
	if (here && fake_is(k, "wrong_length"))
		length--;
	if (here && fake_is(k, "no_name")) {
		m[4] = 0x10;
		m[5] = 1;
		length = 2;
	}
	if (here && fake_is(k, "long_frame"))
		length = 0xffffffff;
	if (here && fake_is(k, "zero_frame"))
		length = 0;
	memcpy(m, &length, 4);
	if (here && (fake_is(k, "short_length") || fake_is(k, "short_body"))) {
		fake_send(k, m, fake_is(k, "short_length") ? 2 : 9);
		fake_end(k, k->exit_code);
	}
	if (here && fake_is(k, "stall_request")) {
		fake_send(k, m, 9);
		fake_stall(k, -1);
	}
	fake_send(k, m, length > sizeof(m) - 4 ? 100 : 4 + (size_t)length);
	if (here && fake_is(k, "stall_fd"))
		fake_stall(k, -1);
}

static void fake_send_fds(struct fake *k, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(2 * sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec iov = { .iov_base = (char *)"", .iov_len = 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;

	if (n) {
		msg.msg_control = control.room;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	if (sendmsg(k->sock, &msg, MSG_NOSIGNAL) != 1)
		fake_fail(k, "Failed to send a pipe");
}

/* Makes the pipe of an image, gives one end away and returns the other. */
static int fake_pipe(struct fake *k, const char *name, bool mine_writes)
{
	bool here = *k->fault && fake_at(k, name);
	int p[2], mine, theirs[2], other = -1;

	if (pipe2(p, O_CLOEXEC) < 0)
		fake_fail(k, "Unable to create a pipe");
	mine = p[mine_writes];
	theirs[0] = theirs[1] = p[!mine_writes];
	if (here && fake_is(k, "file_fd"))
		theirs[0] = other = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	else if (here && fake_is(k, "socket_fd"))
		theirs[0] = other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	else if (here && fake_is(k, "wrong_end"))
		theirs[0] = mine;
	fake_send_fds(k, theirs,
		      here && fake_is(k, "no_fd")     ? 0
		      : here && fake_is(k, "two_fds") ? 2
						      : 1);
	close(p[!mine_writes]);
	if (other >= 0)
		close(other);
	return mine;
}

/* In the middle of a pipe. True: no more of it. */
static bool fake_middle(struct fake *k, int fd)
{
	if (fake_is(k, "stall_pipe")) {
		fake_stall(k, fd);
	} else if (fake_is(k, "hang_pipe")) {
		fake_trace(k, "hangs");
		for (;;)
			pause();
	} else if (fake_is(k, "close_early") || fake_is(k, "fail")) {
		close(fd);
		fake_end(k, k->exit_code);
	} else if (fake_is(k, "killed")) {
		fake_trace(k, "killed");
		kill(getpid(), SIGKILL);
	}
	return fake_is(k, "early_close");
}

static void fake_write(struct fake *k, int fd, const struct fake_image *i, size_t from, size_t to)
{
	bool here = *k->fault && fake_at(k, i->name) && k->bytes >= from && k->bytes <= to;
	static unsigned char chunk[FAKE_CHUNK];

	while (from < to) {
		size_t n = to - from < FAKE_CHUNK ? to - from : FAKE_CHUNK;
		ssize_t r;

		if (here && from <= k->bytes && k->bytes < from + n)
			n = k->bytes - from;
		fake_fill(i, from, chunk, n);
		if (k->slow_us)
			usleep(k->slow_us);
		r = n ? write(fd, chunk, n) : 0;
		if (r < 0)
			fake_fail(k, "Can't write to an image");
		from += (size_t)r;
		if (here && from == k->bytes) {
			here = false;
			fake_middle(k, fd);
		}
	}
}

static void fake_check(struct fake *k, const struct fake_image *i, size_t at,
		       const unsigned char *data, size_t n)
{
	static unsigned char right[FAKE_CHUNK];

	if (at + n <= i->size) {
		fake_fill(i, at, right, n);
		if (!memcmp(right, data, n))
			return;
	}
	fake_trace(k, "wrong %s %zu", i->name, at);
	errno = EBADMSG;
	fake_fail(k, "An image is damaged");
}

/* All of it, or up to `most` bytes. */
static size_t fake_read(struct fake *k, int fd, const struct fake_image *i, size_t at, size_t most)
{
	bool here = *k->fault && fake_at(k, i->name);
	static unsigned char chunk[FAKE_CHUNK];

	while (at < most) {
		size_t room = most - at < FAKE_CHUNK ? most - at : FAKE_CHUNK;
		ssize_t n;

		if (here && at >= k->bytes) {
			here = false;
			if (fake_middle(k, fd))
				return at;
		}
		if (k->slow_us)
			usleep(k->slow_us);
		n = read(fd, chunk, room);
		if (n < 0)
			fake_fail(k, "Can't read an image");
		if (!n)
			break;
		fake_check(k, i, at, chunk, (size_t)n);
		at += (size_t)n;
	}
	return at;
}

static void fake_read_all(struct fake *k, int fd, const struct fake_image *i, size_t at)
{
	at = fake_read(k, fd, i, at, SIZE_MAX);
	close(fd);
	if (at == i->size || (fake_is(k, "early_close") && fake_at(k, i->name)))
		return;
	fake_trace(k, "short %s %zu", i->name, at);
	errno = ENODATA;
	fake_fail(k, "An image ends early");
}

/* ---- dump */

static void fake_interleave(struct fake *k)
{
	const size_t step = 200000;
	bool more = true;
	int fds[FAKE_IMAGES];

	for (size_t j = 0; j < k->n_images; j++) {
		fake_request(k, k->images[j].name);
		fds[j] = fake_pipe(k, k->images[j].name, true);
	}
	for (size_t at = 0; more; at += step) {
		more = false;
		for (size_t j = 0; j < k->n_images; j++) {
			const struct fake_image *i = &k->images[j];
			size_t to = i->size < at + step ? i->size : at + step;

			if (at < to)
				fake_write(k, fds[j], i, at, to);
			more |= to < i->size;
		}
	}
	for (size_t j = 0; j < k->n_images; j++)
		close(fds[j]);
}

static void fake_stream_dump(struct fake *k)
{
	const struct fake_image *held = NULL;
	int held_fd = -1;

	fake_connect(k, "streamer-capture.sock");
	if (fake_is(k, "interleave")) {
		fake_interleave(k);
		return;
	}
	for (size_t j = 0; j < k->n_images; j++) {
		const struct fake_image *i = &k->images[j];
		bool here = *k->fault && fake_at(k, i->name);
		int fd;

		if (fake_is(k, "no_inventory") && !strcmp(i->name, "inventory.img"))
			break;
		fake_request(k, i->name);
		fd = fake_pipe(k, i->name, true);
		/* a pagemap is written along with its pages */
		if (!strncmp(i->name, "pagemap-", 8) && !held) {
			fake_write(k, fd, i, 0, i->size / 2);
			held = i;
			held_fd = fd;
			continue;
		}
		fake_write(k, fd, i, 0, i->size);
		close(fd);
		if (held && !strncmp(i->name, "pages-", 6)) {
			fake_write(k, held_fd, held, held->size / 2, held->size);
			close(held_fd);
			held = NULL;
		}
		if (here && fake_is(k, "twice")) {
			fake_request(k, i->name);
			close(fake_pipe(k, i->name, true));
		}
		for (size_t n = 0; here && fake_is(k, "many") && n < k->bytes; n++) {
			char name[32];

			snprintf(name, sizeof(name), "many-%zu.img", n);
			fake_request(k, name);
			close(fake_pipe(k, name, true));
		}
	}
	if (held)
		close(held_fd);
	if (fake_is(k, "extra")) {
		usleep(100000);
		fake_request(k, "extra.img");
		close(fake_pipe(k, "extra.img", true));
		usleep(100000);
	}
	if (fake_is(k, "fail_after"))
		fake_end(k, k->exit_code);
}

/* ---- restore */

static bool fake_ask(struct fake *k, const char *name)
{
	unsigned char a[6];

	fake_request(k, name);
	if (recv(k->sock, a, 6, MSG_WAITALL) != 6 || a[0] != 2 || a[1] || a[2] || a[3] ||
	    a[4] != 8 || a[5] > 1)
		fake_fail(k, "Failed to receive an answer");
	return a[5];
}

static int fake_open(struct fake *k, const struct fake_image *i)
{
	if (!fake_ask(k, i->name)) {
		fake_trace(k, "absent %s", i->name);
		errno = ENOENT;
		fake_fail(k, "An image is missing");
	}
	return fake_pipe(k, i->name, false);
}

static void fake_at_once(struct fake *k, const struct fake_image *i)
{
	int fds[FAKE_AT_ONCE];

	for (size_t n = 0; n < FAKE_AT_ONCE; n++)
		fds[n] = fake_open(k, i);
	for (size_t n = FAKE_AT_ONCE; n-- > 0;)
		fake_read_all(k, fds[n], i, 0);
}

static void fake_stream_restore(struct fake *k)
{
	static const char *const absent[] = { "tty-info.img", "netns-9.img", "cgroup.img", "x" };
	const struct fake_image *unread = NULL, *held = NULL;
	int unread_fd = -1, held_fd = -1;

	fake_connect(k, "streamer-serve.sock");
	for (size_t j = 0; j < 4; j++)
		if (fake_ask(k, absent[j])) {
			errno = EEXIST;
			fake_fail(k, "An image that never was is there");
		}
	/* the inventory first, then the others in the order of the dump */
	for (size_t j = 0; j < k->n_images; j++) {
		const struct fake_image *i = &k->images[j ? j - 1 : k->n_images - 1];
		bool here = *k->fault && fake_at(k, i->name);
		int fd = fake_open(k, i);

		if (here && fake_is(k, "unread")) {
			unread = i;
			unread_fd = fd;
			continue;
		}
		if (!strncmp(i->name, "pagemap-", 8) && !held) {
			held = i;
			held_fd = fd;
			continue;
		}
		fake_read_all(k, fd, i, 0);
		if (held && !strncmp(i->name, "pages-", 6)) {
			fake_read_all(k, held_fd, held, 0);
			held = NULL;
		}
		if (here && fake_is(k, "ask_twice"))
			fake_read_all(k, fake_open(k, i), i, 0);
		if (here && fake_is(k, "at_once"))
			fake_at_once(k, i);
		for (size_t n = 0; here && fake_is(k, "many") && n < k->bytes; n++)
			close(fake_open(k, i));
	}
	if (held)
		fake_read_all(k, held_fd, held, 0);
	if (unread)
		fake_read_all(k, unread_fd, unread, 0);
	fake_trace(k, "read all");
}
