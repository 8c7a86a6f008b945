// SPDX-License-Identifier: Apache-2.0
/*
 * CRIU's image streamer protocol: requests however they are cut up, and all that is none
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "checkpoint/wire.h"
#include "util/fd.h"

struct pair {
	struct wire w;
	int ours, theirs;
	struct fault f;
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	p->ours = s[0];
	p->theirs = s[1];
	assert_int_equal(fd_nonblock(p->ours, 1), 0);
	wire_init(&p->w);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	fd_close(&p->ours);
	fd_close(&p->theirs);
	free(p);
	return 0;
}

static void put(struct pair *p, const void *data, size_t n)
{
	assert_int_equal(send(p->theirs, data, n, 0), n);
}

/* The length, and a body of `n` bytes. */
static void put_frame(struct pair *p, const void *body, uint32_t n)
{
	put(p, &n, 4);
	if (n)
		put(p, body, n);
}

static enum wire_event read_one(struct pair *p)
{
	int fd = -1;
	enum wire_event e = wire_read(&p->w, p->ours, &fd, &p->f);

	if (e == WIRE_GOT_FD)
		close(fd);
	return e;
}

static void broken(struct pair *p, const char *words)
{
	assert_int_equal(read_one(p), WIRE_BROKEN);
	assert_int_equal(p->f.code, FAULT_FAILED_PRECONDITION);
	if (!strstr(p->f.message, words))
		fail_msg("'%s' does not say '%s'", p->f.message, words);
}

static void test_request(void **state)
{
	struct pair *p = *state;

	assert_int_equal(read_one(p), WIRE_AGAIN);
	put_frame(p,
		  "\x0a\x09"
		  "files.img",
		  11);
	put_frame(p,
		  "\x0a\x0b"
		  "pages-1.img",
		  13);
	assert_int_equal(read_one(p), WIRE_REQUEST);
	assert_string_equal(p->w.name, "files.img");
	assert_int_equal(read_one(p), WIRE_REQUEST);
	assert_string_equal(p->w.name, "pages-1.img");
	assert_int_equal(read_one(p), WIRE_AGAIN);
	fd_close(&p->theirs);
	assert_int_equal(read_one(p), WIRE_END);
	assert_int_equal(read_one(p), WIRE_END);
}

/* A byte at a time: each is read when it is there, and the fd rides on its own one. */
static void test_bytes(void **state)
{
	static const char frame[] = "\x0b\0\0\0\x0a\x09"
				    "files.img";
	struct pair *p = *state;

	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(frame) - 1; i++) {
			assert_int_equal(read_one(p), WIRE_AGAIN);
			put(p, frame + i, 1);
		}
		assert_int_equal(read_one(p), WIRE_REQUEST);
		wire_want_fd(&p->w);
		assert_int_equal(read_one(p), WIRE_AGAIN);
		assert_int_equal(fd_send(p->theirs, "\0", 1, &p->theirs, 1, 0), 1);
		assert_int_equal(read_one(p), WIRE_GOT_FD);
	}
}

/* All of it in one go: the fd is not lost, though it comes behind other bytes. */
static void test_at_once(void **state)
{
	struct pair *p = *state;

	put_frame(p,
		  "\x0a\x09"
		  "files.img",
		  11);
	assert_int_equal(fd_send(p->theirs, "\0", 1, &p->theirs, 1, 0), 1);
	put_frame(p,
		  "\x0a\x05"
		  "a.img",
		  7);
	assert_int_equal(fd_send(p->theirs, "\0", 1, &p->theirs, 1, 0), 1);
	assert_int_equal(read_one(p), WIRE_REQUEST);
	wire_want_fd(&p->w);
	assert_int_equal(read_one(p), WIRE_GOT_FD);
	assert_int_equal(read_one(p), WIRE_REQUEST);
	assert_string_equal(p->w.name, "a.img");
	wire_want_fd(&p->w);
	assert_int_equal(read_one(p), WIRE_GOT_FD);
	assert_int_equal(read_one(p), WIRE_AGAIN);
}

/* Fields that are not known are stepped over; of the name the last counts, as with protobuf. */
static void test_fields(void **state)
{
	static const struct {
		const char *body;
		uint32_t n;
		const char *name; /* NULL: broken */
	} rows[] = {
		{ "\x0a\x01"
		  "a",
		  3, "a" },
		{ "\x10\x05\x0a\x01"
		  "a",
		  5, "a" },
		{ "\x0a\x01"
		  "a\x10\x05",
		  5, "a" },
		{ "\x0a\x01"
		  "a\x0a\x01"
		  "b",
		  6, "b" },
		{ "\x1a\x03"
		  "xyz\x0a\x01"
		  "a",
		  8, "a" },
		{ "\x21"
		  "12345678\x0a\x01"
		  "a",
		  12, "a" },
		{ "\x25"
		  "1234\x0a\x01"
		  "a",
		  8, "a" },
		{ "\x0a\x81\x00"
		  "a",
		  4, "a" },
		{ "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a\x01"
		  "a",
		  14, "a" },
		{ "\x10\x05", 2, NULL }, /* no name */
		{ "\x0a\x00", 2, NULL }, /* an empty one */
		{ "\x0a\x02"
		  "a",
		  3, NULL }, /* longer than there is */
		{ "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
		  "a",
		  11, NULL },
		{ "\x0a", 1, NULL },
		{ "\x0a\x01"
		  "a\x10",
		  4, NULL },
		{ "\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a\x01"
		  "a",
		  15, NULL },
		{ "\x0b\x0a\x01"
		  "a",
		  4, NULL }, /* a group */
		{ "\x08\x01", 2, NULL }, /* the name as a number */
		{ "\x21"
		  "1234567",
		  8, NULL },
		{ "\x25"
		  "123",
		  4, NULL },
		{ "\x0a\x02"
		  "..",
		  4, NULL },
		{ "\x0a\x04"
		  ".img",
		  6, NULL },
		{ "\x0a\x03"
		  "a/b",
		  5, NULL },
		{ "\x0a\x02"
		  "/a",
		  4, NULL },
		{ "\x0a\x03"
		  "a b",
		  5, NULL },
		{ "\x0a\x03"
		  "a\0b",
		  5, NULL },
		{ "\x0a\x03"
		  "a\nb",
		  5, NULL },
		{ "\x0a\x03"
		  "a\x7f"
		  "b",
		  5, NULL },
		{ "\x0a\x03"
		  "a\xc3\xa4",
		  5, NULL },
	};
	struct pair *p = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		wire_init(&p->w);
		put_frame(p, rows[i].body, rows[i].n);
		if (!rows[i].name) {
			broken(p, "a request without a proper file name");
			continue;
		}
		assert_int_equal(read_one(p), WIRE_REQUEST);
		assert_string_equal(p->w.name, rows[i].name);
	}
}

static void test_long_names(void **state)
{
	struct pair *p = *state;
	unsigned char body[3 + WIRE_NAME_MOST + 1];

	memset(body, 'x', sizeof(body));
	body[0] = 0x0a;
	body[1] = (WIRE_NAME_MOST & 0x7f) | 0x80;
	body[2] = WIRE_NAME_MOST >> 7;
	put_frame(p, body, 3 + WIRE_NAME_MOST);
	assert_int_equal(read_one(p), WIRE_REQUEST);
	assert_int_equal(strlen(p->w.name), WIRE_NAME_MOST);
	body[1] = ((WIRE_NAME_MOST + 1) & 0x7f) | 0x80;
	body[2] = (WIRE_NAME_MOST + 1) >> 7;
	put_frame(p, body, 3 + WIRE_NAME_MOST + 1);
	broken(p, "a request without a proper file name");
	assert_true(wire_name_valid(body + 3, WIRE_NAME_MOST));
	assert_false(wire_name_valid(body + 3, WIRE_NAME_MOST + 1));
	assert_false(wire_name_valid(body + 3, 0));
}

static void test_lengths(void **state)
{
	static const uint32_t lengths[] = { 0, WIRE_NAME_MOST + 17, 65536, 0x7fffffff, 0xffffffff };
	struct pair *p = *state;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		wire_init(&p->w);
		put(p, &lengths[i], 4);
		broken(p, "a message of an impossible length");
	}
}

/* Its end, wherever it comes, and reset. */
static void test_ends(void **state)
{
	static const char frame[] = "\x0b\0\0\0\x0a\x09"
				    "files.img";
	struct pair *p = *state;

	for (size_t n = 0; n < sizeof(frame); n++) {
		void *other;

		teardown(state);
		setup(&other);
		p = *state = other;
		if (n)
			put(p, frame, n);
		fd_close(&p->theirs);
		if (n == sizeof(frame) - 1) {
			assert_int_equal(read_one(p), WIRE_REQUEST);
			wire_want_fd(&p->w);
		}
		assert_int_equal(read_one(p), WIRE_END);
	}
	teardown(state);
	setup(state);
	p = *state;
	/* with something unread at its side */
	assert_int_equal(send(p->ours, "x", 1, 0), 1);
	fd_close(&p->theirs);
	assert_int_equal(read_one(p), WIRE_END);
}

static void test_no_fd(void **state)
{
	struct pair *p = *state;
	int two[2] = { p->ours, p->theirs };

	wire_want_fd(&p->w);
	put(p, "\0", 1);
	broken(p, "it sent no pipe where one should come");
	wire_init(&p->w);
	wire_want_fd(&p->w);
	assert_int_equal(fd_send(p->theirs, "\0", 1, two, 2, 0), 1);
	broken(p, "it sent several fds");
}

/* None is free: it is said, and none is leaked. */
static void test_fds_exhausted(void **state)
{
	struct pair *p = *state;
	struct rlimit old, none;
	int next = dup(p->ours);

	close(next);
	wire_want_fd(&p->w);
	assert_int_equal(fd_send(p->theirs, "\0", 1, &p->theirs, 1, 0), 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	none = (struct rlimit){ (rlim_t)next, old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	broken(p, "no fd is free");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(dup2(p->ours, next), next);
	close(next);
}

static void test_pipes(void **state)
{
	struct pair *p = *state;
	int ends[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct fault f;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(wire_check_pipe(ends[0], false, "a.img", &f), 0);
	assert_int_equal(wire_check_pipe(ends[1], true, "a.img", &f), 0);
	assert_int_equal(wire_check_pipe(ends[1], false, "a.img", &f), -EINVAL);
	assert_non_null(strstr(f.message, "the wrong end of its pipe for a.img"));
	assert_int_equal(wire_check_pipe(ends[0], true, "a.img", &f), -EINVAL);
	assert_int_equal(wire_check_pipe(null, true, "a.img", &f), -EINVAL);
	assert_non_null(strstr(f.message, "no pipe"));
	assert_int_equal(wire_check_pipe(p->ours, false, "a.img", &f), -EINVAL);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	close(ends[0]);
	close(ends[1]);
	close(null);
}

static void test_answer(void **state)
{
	uint8_t a[WIRE_ANSWER_BYTES];

	(void)state;
	wire_answer(true, a);
	assert_memory_equal(a, "\x02\0\0\0\x08\x01", 6);
	wire_answer(false, a);
	assert_memory_equal(a, "\x02\0\0\0\x08\0", 6);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_request),	  TEST(test_bytes),   TEST(test_at_once), TEST(test_fields),
		TEST(test_long_names),	  TEST(test_lengths), TEST(test_ends),	  TEST(test_no_fd),
		TEST(test_fds_exhausted), TEST(test_pipes),   TEST(test_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
