// SPDX-License-Identifier: Apache-2.0
/*
 * Capture and serve against a peer that speaks criu's side of the protocol in a process of its own:
 * what was captured comes back byte for byte
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "stream_kit.h"
#include "util/cleanup.h"

static const struct image {
	const char *name;
	size_t size;
} images[] = {
	{ "files.img", 300 },	 { "pagemap-1.img", 8192 },	   { "pages-1.img", 11 << 20 },
	{ "pages-2.img", 1 },	 { "ghost-1.img", (1 << 20) + 1 }, { "empty.img", 0 },
	{ "pages-3.img", 0 },	 { "edge.img", 1 << 20 },	   { "pages-4.img", 4 << 20 },
	{ "inventory.img", 60 },
};
#define IMAGES (sizeof(images) / sizeof(images[0]))

static unsigned char byte_of(size_t file, size_t at)
{
	return at / 5000 % 2 ? 0 : (unsigned char)(at * 2654435761u >> 11) ^ (unsigned char)file;
}

/* ---- criu's side, in a child */

static int peer_connect(const char *dir, const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", dir, name);
	if (connect(s, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		_exit(10);
	return s;
}

static void peer_request(int s, const char *name)
{
	unsigned char frame[300];
	uint32_t n = (uint32_t)strlen(name) + 2;

	memcpy(frame, &n, 4);
	frame[4] = 0x0a;
	frame[5] = (unsigned char)strlen(name);
	memcpy(frame + 6, name, strlen(name));
	if (fd_write_all(s, frame, 4 + n) < 0)
		_exit(11);
}

static int peer_pipe(int s, bool mine_writes)
{
	int p[2];

	if (pipe(p) < 0 || fd_send(s, "\0", 1, &p[mine_writes ? 0 : 1], 1, 0) != 1)
		_exit(12);
	close(p[mine_writes ? 0 : 1]);
	return p[mine_writes ? 1 : 0];
}

static void peer_fill(int fd, size_t file, size_t from, size_t to)
{
	unsigned char chunk[8192];

	while (from < to) {
		size_t n = to - from < sizeof(chunk) ? to - from : sizeof(chunk);

		for (size_t i = 0; i < n; i++)
			chunk[i] = byte_of(file, from + i);
		if (fd_write_all(fd, chunk, n) < 0)
			_exit(13);
		from += n;
	}
}

static void dump_main(const char *dir)
{
	int s = peer_connect(dir, CAPTURE_SOCKET), held = -1;

	for (size_t i = 0; i < IMAGES; i++) {
		int fd;

		peer_request(s, images[i].name);
		fd = peer_pipe(s, true);
		/* two at a time: the pagemap is finished behind its pages */
		if (!strcmp(images[i].name, "pagemap-1.img")) {
			peer_fill(fd, i, 0, 4096);
			held = fd;
			continue;
		}
		peer_fill(fd, i, 0, images[i].size);
		close(fd);
		if (!strcmp(images[i].name, "pages-1.img")) {
			peer_fill(held, 1, 4096, images[1].size);
			close(held);
		}
	}
	close(s);
	_exit(0);
}

#define MANY 20u
#define MANY_BYTES ((2u << 20) + 77)

/* Many large files open at a time, all of them written a bit further in turn. */
static void many_main(const char *dir)
{
	int s = peer_connect(dir, CAPTURE_SOCKET), fds[MANY];
	char name[32];

	for (size_t i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "%s-%zu.img", i % 2 ? "pages" : "ghost", i);
		peer_request(s, name);
		fds[i] = peer_pipe(s, true);
	}
	for (size_t at = 0; at < MANY_BYTES; at += 300000)
		for (size_t i = 0; i < MANY; i++)
			peer_fill(fds[i], i, at,
				  at + 300000 < MANY_BYTES ? at + 300000 : MANY_BYTES);
	for (size_t i = 0; i < MANY; i++)
		close(fds[i]);
	peer_request(s, "inventory.img");
	close(peer_pipe(s, true));
	_exit(0);
}

static bool peer_exists(int s)
{
	unsigned char answer[6];

	if (fd_read_all(s, answer, 6) < 0 || answer[0] != 2 || answer[4] != 8)
		_exit(14);
	return answer[5];
}

static void peer_check(int fd, size_t file, size_t size)
{
	unsigned char chunk[8192];
	size_t at = 0;
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		for (ssize_t i = 0; i < n; i++, at++)
			if (chunk[i] != byte_of(file, at))
				_exit(15);
	if (at != size)
		_exit(16);
	close(fd);
}

static void restore_main(const char *dir)
{
	int s = peer_connect(dir, SERVE_SOCKET), early, late;

	peer_request(s, "absent.img");
	if (peer_exists(s))
		_exit(17);
	/* one that is read last of all, and one that is given up in the middle */
	peer_request(s, "ghost-1.img");
	if (!peer_exists(s))
		_exit(18);
	late = peer_pipe(s, false);
	peer_request(s, "pages-1.img");
	if (!peer_exists(s))
		_exit(18);
	early = peer_pipe(s, false);
	if (fd_read_all(early, (char[100]){ 0 }, 100) < 0)
		_exit(19);
	close(early);
	for (int round = 0; round < 2; round++)
		for (size_t i = IMAGES; i-- > 0;) {
			peer_request(s, images[i].name);
			if (!peer_exists(s))
				_exit(18);
			peer_check(peer_pipe(s, false), i, images[i].size);
		}
	peer_check(late, 4, images[4].size);
	_exit(0);
}

static pid_t run_child(void (*fn)(const char *dir), const char *dir)
{
	pid_t pid = fork();

	if (!pid) {
		alarm(120);
		fn(dir);
		_exit(1);
	}
	return pid;
}

/* ---- tests */

static void run_peer(struct fixture *fx, struct capture *c, void (*peer)(const char *dir))
{
	int status;
	pid_t pid = run_child(peer, fx->dir);

	while (!fx->drained && !fx->fault.code)
		event_base_loop(fx->base, EVLOOP_ONCE);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (fx->fault.code)
		return;
	assert_int_equal(status, 0);
	capture_finish(c, on_done);
	while (!fx->done)
		event_base_loop(fx->base, EVLOOP_ONCE);
}

static void run_dump(struct fixture *fx, struct capture *c)
{
	run_peer(fx, c, dump_main);
}

/* What was captured, the way a restore has it; small files are made up again. */
static void files_of(struct fixture *fx, bool packed, struct serve_files *files)
{
	struct fault f = { 0 };

	files->v = calloc(IMAGES, sizeof(files->v[0]));
	for (size_t i = 0; i < IMAGES; i++) {
		struct blob_file *b = blob_of(fx, images[i].name);
		struct serve_file *file = &files->v[files->n++];
		struct serve_part *part = calloc(1, sizeof(*part));

		file->name = strdup(images[i].name);
		file->parts = part;
		file->n_parts = 1;
		part->fd = -1;
		part->digest = "sha256:…";
		part->size = images[i].size;
		if (b) {
			part->fd = dup(b->fd);
			part->packed = packed;
			assert_true(b->finished);
			assert_int_equal(b->size, images[i].size);
			if (packed)
				assert_int_equal(
					frame_table_read(&part->table, part->fd,
							 (uint64_t)lseek(b->fd, 0, SEEK_END),
							 UINT64_MAX, &f),
					0);
			continue;
		}
		part->data = malloc(images[i].size + 1);
		for (size_t k = 0; k < images[i].size; k++)
			((unsigned char *)part->data)[k] = byte_of(i, k);
	}
}

static void round_trip(struct fixture *fx, bool compress, size_t buffer)
{
	struct capture *c = capture(fx, compress, buffer, 0);
	struct serve_files files = { 0 };
	struct capture_stats stats;
	struct fault f = { 0 };
	struct serve *s = NULL;
	int status = -1;
	pid_t pid;

	run_dump(fx, c);
	assert_int_equal(fx->fault.code, 0);
	capture_get_stats(c, &stats);
	assert_int_equal(stats.files, IMAGES);
	assert_true(stats.buffer_peak <= (buffer > 8 * BUFFER_BYTES ? buffer : 8 * BUFFER_BYTES));
	drop(fx);
	/* the four pages files, the two that have grown large, and the tar */
	assert_int_equal(fx->n, 6);
	assert_non_null(blob_of(fx, "ghost-1.img"));
	assert_null(blob_of(fx, "edge.img"));
	assert_null(blob_of(fx, "inventory.img"));
	assert_true(blob_of(fx, "")->finished);
	files_of(fx, compress, &files);
	struct serve_request r = {
		.base = fx->base,
		.unpack = fx->pack,
		.images_dir = fx->dir,
		.files = &files,
		.buffers = pool_of(buffer),
		.failed = on_failed,
		.user = fx,
	};
	assert_int_equal(serve_new(&s, &r, &f), 0);
	buffer_pool_free(r.buffers);
	pid = run_child(restore_main, fx->dir);
	while (!fx->fault.code && waitpid(pid, &status, WNOHANG) == 0) {
		struct timeval tv = { .tv_usec = 20000 };

		event_base_loopexit(fx->base, &tv);
		event_base_dispatch(fx->base);
	}
	assert_int_equal(fx->fault.code, 0);
	assert_int_equal(status, 0);
	serve_free(s);
}

static void test_round(void **state)
{
	round_trip(*state, true, 64 << 20);
}

static void test_tight(void **state)
{
	round_trip(*state, true, 0);
}

static void test_plain(void **state)
{
	round_trip(*state, false, 0);
}

/* Memory is made ready before anything comes: as much as is expected, but no more than there may be. */
static void test_expected(void **state)
{
	struct fixture *fx = *state;
	struct capture_stats stats;
	struct capture *c;

	fx->expected = 5 * FRAME_BYTES;
	c = capture(fx, true, 64 << 20, 0);
	capture_get_stats(c, &stats);
	assert_int_equal(stats.buffer_peak, 5 * BUFFER_BYTES);
	/* so little is ready until criu asks for it */
	assert_true(capture_is_ready(c));
	drop(fx);
	while (!fx->gone)
		event_base_loop(fx->base, EVLOOP_ONCE);
	assert_int_equal(fx->readies, 0);
}

/* criu is to be started when most of it is there, and that is told too when nobody wants it any more. */
static void await_ready(struct fixture *fx, bool wanted)
{
	struct capture *c;

	fx->expected = 12 * FRAME_BYTES;
	c = capture(fx, true, 64 << 20, 0);
	assert_false(capture_is_ready(c));
	if (!wanted)
		drop(fx);
	while (!fx->readies)
		event_base_loop(fx->base, EVLOOP_ONCE);
	if (wanted)
		assert_true(capture_is_ready(c));
	drop(fx);
	while (!fx->gone)
		event_base_loop(fx->base, EVLOOP_ONCE);
	assert_int_equal(fx->readies, 1);
}

static void test_ready(void **state)
{
	await_ready(*state, true);
}

static void test_ready_for_nobody(void **state)
{
	await_ready(*state, false);
}

static void test_more_expected(void **state)
{
	struct fixture *fx = *state;

	fx->expected = 1ull << 40;
	round_trip(fx, true, 0);
}

/* More large files at a time than there are buffers: all get through, in the memory there is. */
static void test_many_open(void **state)
{
	struct fixture *fx = *state;
	struct capture *c = capture(fx, true, 0, 0);
	CLEANUP_FREE unsigned char *data = malloc(FRAME_BYTES), *packed = malloc(FRAME_PACKED_MOST);
	struct capture_stats stats;
	struct frame_codec *codec;
	struct fault f;

	run_peer(fx, c, many_main);
	assert_int_equal(fx->fault.code, 0);
	capture_get_stats(c, &stats);
	assert_int_equal(stats.bytes_in, (uint64_t)MANY * MANY_BYTES);
	assert_true(stats.buffer_peak <= (size_t)BUFFERS_LEAST * BUFFER_BYTES);
	drop(fx);
	assert_int_equal(fx->n, MANY + 1);
	assert_int_equal(frame_codec_new(&codec, 1), 0);
	for (size_t i = 0; i < MANY; i++) {
		struct frame_table table;
		struct blob_file *b;
		char name[32];

		snprintf(name, sizeof(name), "%s-%zu.img", i % 2 ? "pages" : "ghost", i);
		b = blob_of(fx, name);
		assert_true(b && b->finished && b->size == MANY_BYTES);
		assert_int_equal(frame_table_read(&table, b->fd,
						  (uint64_t)lseek(b->fd, 0, SEEK_END), MANY_BYTES,
						  &f),
				 0);
		for (size_t k = 0; k < table.n; k++) {
			const struct frame_place *at = &table.v[k];

			assert_int_equal(pread(b->fd, packed, at->packed, (off_t)at->at),
					 at->packed);
			assert_int_equal(frame_unpack(codec, packed, at->packed, data, at->size),
					 0);
			for (size_t m = 0; m < at->size; m++)
				if (data[m] != byte_of(i, at->offset + m))
					fail_msg("%s differs at %zu", name, (size_t)at->offset + m);
		}
		frame_table_clear(&table);
	}
	frame_codec_free(codec);
}

/* A frame that cannot be packed: the owner frees all of it while it is told. */
static void test_pack_fails(void **state)
{
	struct fixture *fx = *state;
	int status;
	pid_t pid;

	fx->frees = true;
	fx->level = 1000;
	capture(fx, true, 0, 0);
	pid = run_child(dump_main, fx->dir);
	while (!fx->fault.code)
		event_base_loop(fx->base, EVLOOP_ONCE);
	assert_int_equal(fx->fault.code, FAULT_RESOURCE_EXHAUSTED);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	worker_pool_drain(fx->pack);
	worker_pool_drain(fx->write);
	assert_int_equal(fx->failures, 1);
	assert_true(fx->gone);
}

static void sink_fails(struct fixture *fx, const char *step, int err)
{
	struct capture *c = capture(fx, true, 0, 0);

	fx->fail_at = step;
	run_dump(fx, c);
	assert_int_equal(fx->fault.err, err);
	drop(fx);
	worker_pool_drain(fx->pack);
	worker_pool_drain(fx->write);
	for (size_t i = 0; i < fx->n; i++)
		assert_true(fx->blobs[i].finished != fx->blobs[i].discarded);
}

static void test_open_fails(void **state)
{
	sink_fails(*state, "open", EIO);
}

static void test_write_fails(void **state)
{
	sink_fails(*state, "write", ENOSPC);
}

static void test_finish_fails(void **state)
{
	sink_fails(*state, "finish", EIO);
}

static void stalling_main(const char *dir)
{
	int s = peer_connect(dir, CAPTURE_SOCKET);
	char byte;

	peer_request(s, "pages-1.img");
	peer_fill(peer_pipe(s, true), 0, 0, 5000);
	/* until it is hung up on */
	_exit(read(s, &byte, 1) == 0 ? 0 : 20);
}

static void test_stall(void **state)
{
	struct fixture *fx = *state;
	int status;
	pid_t pid;

	capture(fx, true, 0, 100000000);
	pid = run_child(stalling_main, fx->dir);
	while (!fx->fault.code)
		event_base_loop(fx->base, EVLOOP_ONCE);
	assert_int_equal(fx->fault.code, FAULT_DEADLINE_EXCEEDED);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	drop(fx);
}

static void test_damage(void **state)
{
	struct fixture *fx = *state;
	struct capture *c = capture(fx, true, 0, 0);
	struct serve_files files = { 0 };
	struct fault f = { 0 };
	struct serve *s = NULL;
	int status;
	pid_t pid;

	run_dump(fx, c);
	drop(fx);
	assert_int_equal(pwrite(blob_of(fx, "pages-1.img")->fd, "damaged", 7, 1000), 7);
	files_of(fx, true, &files);
	struct serve_request r = {
		.base = fx->base,
		.unpack = fx->pack,
		.images_dir = fx->dir,
		.files = &files,
		.buffers = pool_of(0),
		.failed = on_failed,
		.user = fx,
	};
	assert_int_equal(serve_new(&s, &r, &f), 0);
	buffer_pool_free(r.buffers);
	pid = run_child(restore_main, fx->dir);
	while (!fx->fault.code)
		event_base_loop(fx->base, EVLOOP_ONCE);
	assert_int_equal(fx->fault.code, FAULT_FAILED_PRECONDITION);
	assert_non_null(strstr(fx->fault.message, "sha256:"));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_not_equal(status, 0);
	serve_free(s);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_expected),	  TEST(test_ready),	 TEST(test_ready_for_nobody),
		TEST(test_more_expected), TEST(test_round),	 TEST(test_tight),
		TEST(test_plain),	  TEST(test_open_fails), TEST(test_write_fails),
		TEST(test_finish_fails),  TEST(test_stall),	 TEST(test_damage),
		TEST(test_many_open),	  TEST(test_pack_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
