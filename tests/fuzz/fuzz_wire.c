// SPDX-License-Identifier: Apache-2.0
/*
 * CRIU as a peer: what the protocol's reader, a capture and a serve make of a stream of bytes and fds
 *
 * The first byte says who is asked. The reader alone gets the rest as it is, in pieces: whatever it
 * takes for a name can be one, and it reads no byte too many. The others get operations: bytes on the
 * socket, fds of all kinds, bytes in a pipe, ends. Whatever comes, nothing fails twice, is told after
 * a failure, or is left open.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "checkpoint/buffers.h"
#include "checkpoint/capture.h"
#include "checkpoint/serve.h"
#include "checkpoint/wire.h"
#include "util/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIPES 8

struct peer {
	struct event_base *base;
	struct worker_pool *pool;
	struct buffer_pool *buffers;
	struct capture *capture;
	struct serve *serve;
	int sock, pipes[PIPES];
	size_t n_pipes;
	unsigned drained, failed, opened, ended;
};

static char dir[64];

static void require(int what)
{
	if (!what)
		abort();
}

/* ---- the reader alone */

static void read_messages(const uint8_t *data, size_t size)
{
	struct wire w;
	struct fault f;
	int s[2];
	size_t sent = 0, taken = 0;
	uint32_t step = 1;

	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) == 0);
	wire_init(&w);
	for (bool more = true; more;) {
		int fd = -1, left;

		switch (wire_read(&w, s[0], &fd, &f)) {
		case WIRE_REQUEST:
			require(wire_name_valid(w.name, strlen(w.name)));
			require(w.length <= sizeof(w.body));
			require(ioctl(s[0], FIONREAD, &left) == 0);
			taken += 4 + w.length;
			require(sent - (size_t)left == taken);
			break;
		case WIRE_GOT_FD:
			require(0);
			break;
		case WIRE_AGAIN:
			if (sent == size) {
				more = s[1] >= 0;
				fd_close(&s[1]);
				break;
			}
			step = step * 1103515245u + 12345u;
			left = 1 + (int)((step >> 16) % 7);
			if ((size_t)left > size - sent)
				left = (int)(size - sent);
			require(send(s[1], data + sent, (size_t)left, 0) == left);
			sent += (size_t)left;
			break;
		case WIRE_END:
			require(sent == size && s[1] < 0);
			more = false;
			break;
		case WIRE_BROKEN:
			require(f.code == FAULT_FAILED_PRECONDITION && *f.message);
			more = false;
			break;
		}
	}
	fd_close(&s[0]);
	fd_close(&s[1]);
}

/* ---- the owner of a capture or a serve */

static int sink_open(void *user, enum capture_kind kind, const char *file, void **blob,
		     struct fault *f)
{
	struct peer *p = user;

	(void)f;
	require(kind == CAPTURE_FILES ? !*file : wire_name_valid(file, strlen(file)));
	__atomic_add_fetch(&p->opened, 1, __ATOMIC_RELAXED);
	*blob = p;
	return 0;
}

static int sink_write(void *blob, const void *data, size_t size, struct fault *f)
{
	(void)blob;
	(void)data;
	(void)size;
	(void)f;
	return 0;
}

static int sink_finish(void *blob, uint64_t size, struct fault *f)
{
	struct peer *p = blob;

	(void)size;
	(void)f;
	__atomic_add_fetch(&p->ended, 1, __ATOMIC_RELAXED);
	return 0;
}

static void sink_discard(void *blob)
{
	struct peer *p = blob;

	__atomic_add_fetch(&p->ended, 1, __ATOMIC_RELAXED);
}

static void on_drained(void *user)
{
	struct peer *p = user;

	require(!p->drained++ && !p->failed);
}

static void drop(struct peer *p)
{
	capture_free(p->capture);
	serve_free(p->serve);
	p->capture = NULL;
	p->serve = NULL;
}

static void on_failed(void *user, const struct fault *f)
{
	struct peer *p = user;

	require(!p->failed++);
	require(f->code != FAULT_NONE && f->code != FAULT_INTERNAL && *f->message);
	drop(p);
}

static void on_done(void *user, const struct fault *f)
{
	(void)user;
	require(!f);
}

static void start_capture(struct peer *p, bool compress)
{
	struct capture_request r = {
		.base = p->base,
		.pack = p->pool,
		.write = p->pool,
		.images_dir = dir,
		.buffers = p->buffers,
		.sink = { p, sink_open, sink_write, sink_finish, sink_discard },
		.compress = compress,
		.level = 1,
		.drained = on_drained,
		.failed = on_failed,
		.user = p,
	};
	struct fault f;

	require(capture_new(&p->capture, &r, &f) == 0);
}

static void start_serve(struct peer *p)
{
	static const char *const names[] = { "inventory.img", "core-1.img", "pages-1.img" };
	struct serve_files files = { .v = calloc(3, sizeof(*files.v)), .n = 3 };
	struct serve_request r = {
		.base = p->base,
		.unpack = p->pool,
		.images_dir = dir,
		.files = &files,
		.buffers = p->buffers,
		.failed = on_failed,
		.user = p,
	};
	struct fault f;

	for (size_t i = 0; i < 3; i++) {
		struct serve_part *part = calloc(1, sizeof(*part));

		files.v[i] = (struct serve_file){ strdup(names[i]), part, 1 };
		part->fd = -1;
		part->size = 70000 * i;
		part->data = calloc(1, part->size + 1);
		part->digest = "sha256:0";
	}
	require(serve_new(&p->serve, &r, &f) == 0);
}

/* ---- criu's side */

static void turn(struct peer *p)
{
	for (int i = 0; i < 3; i++)
		event_base_loop(p->base, EVLOOP_NONBLOCK);
}

static void send_fd(struct peer *p, uint8_t kind)
{
	int ends[2], fd = -1;
	size_t n = 1;

	if (p->n_pipes == PIPES || pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	switch (kind % 8) {
	case 0:
	case 1:
	case 2:
		/* the right end for whom is asked */
		fd = dup(ends[p->serve ? 1 : 0]);
		break;
	case 3:
		fd = dup(ends[p->serve ? 0 : 1]);
		break;
	case 4:
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		break;
	case 5:
		fd = dup(p->sock);
		break;
	default:
		n = 0;
	}
	(void)fd_send(p->sock, "\0", 1, &fd, n, MSG_DONTWAIT);
	fd_close(&fd);
	close(ends[p->serve ? 1 : 0]);
	p->pipes[p->n_pipes++] = ends[p->serve ? 0 : 1];
}

static void operate(struct peer *p, const uint8_t *data, size_t size)
{
	static const char chunk[65536];

	while (size >= 2) {
		uint8_t op = *data >> 5, arg = *data & 31;
		size_t n = arg < size ? arg : size - 1;
		int fd = p->n_pipes ? p->pipes[arg % p->n_pipes] : -1;
		char name[40], frame[48];
		uint32_t length;

		data++;
		size--;
		switch (op) {
		case 0: /* bytes as they are */
			(void)send(p->sock, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
			data += n;
			size -= n;
			break;
		case 1: /* a request */
		case 2:
			snprintf(name, sizeof(name), "%s",
				 arg & 1   ? "pages-1.img"
				 : arg & 2 ? "inventory.img"
					   : "x.img");
			name[0] = (char)(arg & 4 ? 'a' + arg / 8 : name[0]);
			length = (uint32_t)strlen(name) + 2;
			memcpy(frame, &length, 4);
			frame[4] = 0x0a;
			frame[5] = (char)strlen(name);
			memcpy(frame + 6, name, strlen(name));
			(void)send(p->sock, frame, length + 4, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (op == 1)
				break;
			turn(p);
			__attribute__((fallthrough));
		case 3:
			send_fd(p, op == 3 ? arg : 0);
			break;
		case 4: /* into a pipe, or out of it */
			if (fd >= 0 && p->capture)
				(void)!write(fd, chunk, (size_t)arg * 2000);
			else if (fd >= 0)
				(void)!read(fd, (char[4096]){ 0 }, 4096);
			break;
		case 5:
			if (fd >= 0) {
				close(fd);
				p->n_pipes--;
				p->pipes[arg % (p->n_pipes + 1)] = p->pipes[p->n_pipes];
			}
			break;
		case 6:
			(void)!recv(p->sock, (char[64]){ 0 }, 64, MSG_DONTWAIT);
			break;
		default:
			if (arg == 31)
				shutdown(p->sock, SHUT_WR);
			else
				turn(p);
		}
		if (op != 0 || arg & 1)
			turn(p);
	}
}

static void converse(const uint8_t *data, size_t size, uint8_t mode)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct peer p = { .sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	bool capturing = mode & 1;

	p.base = event_base_new();
	require(p.base && worker_pool_new(&p.pool, p.base, "fuzz", 1, 0) == 0);
	require(buffer_pool_new(&p.buffers, 0, NULL) == 0);
	if (capturing)
		start_capture(&p, mode & 2);
	else
		start_serve(&p);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", dir,
		 capturing ? CAPTURE_SOCKET : SERVE_SOCKET);
	require(connect(p.sock, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	operate(&p, data, size);
	for (size_t i = 0; i < p.n_pipes; i++)
		close(p.pipes[i]);
	close(p.sock);
	turn(&p);
	if (p.capture && p.drained)
		capture_finish(p.capture, on_done);
	worker_pool_drain(p.pool);
	drop(&p);
	worker_pool_drain(p.pool);
	require(p.opened == p.ended);
	worker_pool_free(p.pool);
	require(buffer_pool_mapped(p.buffers) == 0);
	buffer_pool_free(p.buffers);
	event_base_free(p.base);
}

static void remove_dir(void)
{
	rmdir(dir);
}

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fds;

	if (!size)
		return 0;
	if (*data % 4 == 0) {
		read_messages(data + 1, size - 1);
		return 0;
	}
	if (!*dir) {
		signal(SIGPIPE, SIG_IGN);
		strcpy(dir, "/tmp/davit-fuzz-wire-XXXXXX");
		require(mkdtemp(dir) != NULL);
		require(atexit(remove_dir) == 0);
	}
	fds = open_fds(); /* each time: libFuzzer starts programs of its own */
	converse(data + 1, size - 1, *data);
	require(open_fds() == fds);
	return 0;
}
