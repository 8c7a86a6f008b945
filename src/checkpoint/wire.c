// SPDX-License-Identifier: Apache-2.0
/*
 * CRIU's image streamer protocol: reading requests
 *
 * A state for each part of a message, so that a short read just goes on where it was. The protobuf is
 * so small that it is taken apart by hand: field 1, length-delimited, is the name; unknown fields are
 * stepped over. A name is one path component of printable characters: it becomes the name of a tar
 * entry and an annotation.
 */
#include "checkpoint/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fd.h"

void wire_init(struct wire *w)
{
	memset(w, 0, sizeof(*w));
}

static enum wire_event broken(struct fault *f, const char *why)
{
	fault_set(f, FAULT_FAILED_PRECONDITION, 0,
		  "criu does not keep to the image streamer protocol: %s", why);
	return WIRE_BROKEN;
}

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
	*v = 0;
	for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
		uint8_t byte = *(*p)++;

		*v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

static bool step_over(const uint8_t **p, const uint8_t *end, unsigned type)
{
	uint64_t n = type == 1 ? 8 : 4;

	switch (type) {
	case 0:
		return varint(p, end, &n);
	case 2:
		if (!varint(p, end, &n))
			return false;
		break;
	case 1:
	case 5:
		break;
	default:
		return false;
	}
	if (n > (uint64_t)(end - *p))
		return false;
	*p += n;
	return true;
}

bool wire_name_valid(const void *name, size_t n)
{
	const uint8_t *p = name;

	if (!n || n > WIRE_NAME_MOST || *p == '.')
		return false;
	for (size_t i = 0; i < n; i++)
		if (p[i] <= ' ' || p[i] > '~' || p[i] == '/')
			return false;
	return true;
}

static bool parse(struct wire *w)
{
	const uint8_t *p = w->body, *end = p + w->length;
	bool found = false;

	while (p < end) {
		uint64_t key, n;

		if (!varint(&p, end, &key))
			return false;
		if (key != (1 << 3 | 2)) {
			if (!step_over(&p, end, key & 7))
				return false;
			continue;
		}
		if (!varint(&p, end, &n) || n > (uint64_t)(end - p) || !wire_name_valid(p, n))
			return false;
		memcpy(w->name, p, n);
		w->name[n] = '\0';
		p += n;
		found = true;
	}
	return found;
}

/* Reads until `size` bytes are there: then WIRE_REQUEST, whatever they are. */
static enum wire_event fill(struct wire *w, int sock, uint8_t *to, size_t size, struct fault *f)
{
	while (w->got < size) {
		ssize_t n = recv(sock, to + w->got, size - w->got, MSG_DONTWAIT);

		if (n > 0) {
			w->got += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return WIRE_AGAIN;
		/* reset: it has gone without having read our last answer */
		if (n == 0 || errno == ECONNRESET)
			return WIRE_END;
		fault_sys(f, errno, "read from", "criu");
		return WIRE_BROKEN;
	}
	w->got = 0;
	return WIRE_REQUEST;
}

static enum wire_event take_fd(struct wire *w, int sock, int *fd, struct fault *f)
{
	uint8_t byte;
	size_t n = 1;
	ssize_t r;

	r = fd_recv(sock, &byte, 1, fd, &n, MSG_DONTWAIT);
	if (r == -EAGAIN || r == -EWOULDBLOCK)
		return WIRE_AGAIN;
	if (r == -EMSGSIZE)
		return broken(f,
			      "it sent several fds where one pipe should come, or no fd is free");
	if (r == 0 || r == -ECONNRESET)
		return WIRE_END;
	if (r < 0) {
		fault_sys(f, (int)-r, "receive a pipe from", "criu");
		return WIRE_BROKEN;
	}
	if (n != 1)
		return broken(f, "it sent no pipe where one should come");
	w->state = WIRE_LENGTH;
	return WIRE_GOT_FD;
}

enum wire_event wire_read(struct wire *w, int sock, int *fd, struct fault *f)
{
	enum wire_event e;

	if (w->state == WIRE_FD)
		return take_fd(w, sock, fd, f);
	if (w->state == WIRE_LENGTH) {
		e = fill(w, sock, w->head, sizeof(w->head), f);
		if (e != WIRE_REQUEST)
			return e;
		memcpy(&w->length, w->head, sizeof(w->length));
		if (!w->length || w->length > sizeof(w->body))
			return broken(f, "a message of an impossible length");
		w->state = WIRE_BODY;
	}
	e = fill(w, sock, w->body, w->length, f);
	if (e != WIRE_REQUEST)
		return e;
	w->state = WIRE_LENGTH;
	return parse(w) ? WIRE_REQUEST : broken(f, "a request without a proper file name");
}

int wire_check_pipe(int fd, bool we_write, const char *name, struct fault *f)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (fstat(fd, &st) < 0 || flags < 0)
		return fault_sys(f, errno, "look at the pipe of", name);
	if (!S_ISFIFO(st.st_mode))
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "criu has sent something for %s that is no pipe", name);
	if ((flags & O_ACCMODE) != (we_write ? O_WRONLY : O_RDONLY))
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "criu has sent the wrong end of its pipe for %s", name);
	return 0;
}

void wire_want_fd(struct wire *w)
{
	w->state = WIRE_FD;
}

void wire_answer(bool exists, uint8_t out[WIRE_ANSWER_BYTES])
{
	uint32_t length = 2;

	memcpy(out, &length, sizeof(length));
	out[4] = 1 << 3;
	out[5] = exists;
}
