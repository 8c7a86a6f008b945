// SPDX-License-Identifier: Apache-2.0
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
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "ipc/outq.h"
#include "ipc/reader.h"

/*
 * Messages of the tests: a str of n bytes is one message. fds are told apart by pipes: the read end
 * of pipe K is passed, and its inode compared.
 */
struct pair {
	int to, from;
	struct reader reader;
	char buf[65536];
};

static struct pair *pair_new(void)
{
	struct pair *p = calloc(1, sizeof(*p));
	int sv[2];

	assert_non_null(p);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	p->to = sv[0];
	p->from = sv[1];
	reader_init(&p->reader, LIMIT_FRAME_BYTES);
	return p;
}

static void pair_free(struct pair *p)
{
	reader_clear(&p->reader);
	close(p->to);
	close(p->from);
	free(p);
}

static void put(struct pair *p, const void *data, size_t size, const int *fds, size_t n)
{
	struct iovec iov = { (void *)data, size };

	assert_int_equal(stream_sendv(p->to, &iov, 1, fds, n), size);
}

static ino_t inode(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Everything that is there, as "SIZE" or "SIZE:INODE,INODE" a message, or "SIZE:cut". */
static const char *drain(struct pair *p, const int *known, size_t n_known)
{
	static char text[4096];
	size_t used = 0;

	text[0] = '\0';
	for (;;) {
		struct reader_frame f;
		size_t got;
		int r = reader_fill(&p->reader, p->from, p->buf, sizeof(p->buf), &got);

		if (r == -EAGAIN || r == READER_E_END)
			return text;
		assert_int_equal(r, 0);
		while (!(r = reader_next(&p->reader, &f))) {
			used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%zu",
						 used ? " " : "", f.size);
			if (!f.fds)
				continue;
			used += (size_t)snprintf(text + used, sizeof(text) - used, ":");
			if (f.fds->cut)
				used += (size_t)snprintf(text + used, sizeof(text) - used, "cut");
			for (size_t i = 0; i < f.fds->n; i++)
				for (size_t k = 0; k < n_known; k++)
					if (inode(known[k]) == inode(f.fds->fds[i]))
						used += (size_t)snprintf(text + used,
									 sizeof(text) - used, "%c",
									 (char)('a' + k));
			stream_fds_free(f.fds);
		}
		assert_int_equal(r, READER_E_MORE);
		assert_int_equal(reader_settle(&p->reader), 0);
	}
}

/* fds a, b, c … */
static void make_known(int *known, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		close(ends[1]);
		known[i] = ends[0];
	}
}

static void close_known(const int *known, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(known[i]);
}

/* str messages: "\xa1x" is 2 bytes, "\xa2xx" 3, "\xa3xxx" 4 */
#define M2 "\xa1x"
#define M3 "\xa2xx"
#define M4 "\xa3xxx"

static void test_fds_and_bytes(void **state)
{
	struct pair *p = pair_new();
	int known[4], before;

	(void)state;
	make_known(known, 4);
	before = open_fds();

	/* one message with an fd, by itself */
	put(p, M3, 3, known, 1);
	assert_string_equal(drain(p, known, 4), "3:a");

	/* behind others that one read would put before it */
	put(p, M2 M2, 4, NULL, 0);
	put(p, M3, 3, known, 2);
	put(p, M4, 4, NULL, 0);
	assert_string_equal(drain(p, known, 4), "2 2 3:ab 4");

	/* several with fds, one behind the other */
	put(p, M2, 2, known, 1);
	put(p, M2, 2, known + 1, 1);
	put(p, M3, 3, NULL, 0);
	put(p, M2, 2, known + 2, 1);
	assert_string_equal(drain(p, known, 4), "2:a 2:b 3 2:c");

	/* several in one sendmsg: the first to begin in it */
	put(p, M2, 2, NULL, 0);
	put(p, M2 M3 M4, 9, known, 1);
	put(p, M2, 2, NULL, 0);
	assert_string_equal(drain(p, known, 4), "2 2:a 3 4 2");

	/* the end of one and the whole of the next in one sendmsg */
	put(p, M2 "\xa3x", 4, NULL, 0);
	put(p, "xx" M3 M4, 9, known, 1);
	assert_string_equal(drain(p, known, 4), "2 4 3:a 4");

	/* the end of one and the beginning of the next */
	put(p, "\xa3x", 2, NULL, 0);
	put(p, "xx\xa2", 3, known, 1);
	put(p, "xx" M2, 4, NULL, 0);
	assert_string_equal(drain(p, known, 4), "4 3:a 2");

	/* the end of one, exactly: nothing begins there, so they are nobody's */
	put(p, M2 "\xa3x", 4, NULL, 0);
	put(p, "xx", 2, known, 1);
	put(p, M3, 3, NULL, 0);
	assert_string_equal(drain(p, known, 4), "2 4 3");

	/* the beginning alone, the rest with other fds */
	put(p, "\xa3", 1, known, 1);
	put(p, "xx", 2, known + 1, 1);
	put(p, "x" M2, 3, known + 2, 1);
	assert_string_equal(drain(p, known, 4), "4:a 2:c");

	/* the same fd in two places is two fds */
	put(p, M2, 2, (int[]){ known[0], known[0] }, 2);
	assert_string_equal(drain(p, known, 4), "2:aa");

	assert_int_equal(open_fds(), before);
	pair_free(p);
	close_known(known, 4);
}

static void test_fds_read_at_once(void **state)
{
	struct pair *p = pair_new();
	int known[2], before;

	(void)state;
	make_known(known, 2);
	before = open_fds();
	/* as before, but read as soon as it is sent */
	put(p, M2 "\xa3x", 4, NULL, 0);
	assert_string_equal(drain(p, known, 2), "2");
	put(p, "xx", 2, known, 1);
	assert_string_equal(drain(p, known, 2), "4");
	put(p, M3, 3, NULL, 0);
	assert_string_equal(drain(p, known, 2), "3");

	put(p, "\xa3x", 2, known, 1);
	assert_string_equal(drain(p, known, 2), "");
	put(p, "xx" M2 "\xa2", 5, known + 1, 1);
	assert_string_equal(drain(p, known, 2), "4:a 2:b");
	put(p, "xx", 2, NULL, 0);
	assert_string_equal(drain(p, known, 2), "3");

	/* what is kept does not depend on the scratch buffer, also when nothing came */
	put(p, "\xa3x", 2, NULL, 0);
	assert_string_equal(drain(p, known, 2), "");
	memset(p->buf, 0, sizeof(p->buf));
	assert_true(p->reader.base == p->reader.own);
	assert_memory_equal(p->reader.base, "\xa3x", 2);
	put(p, "xx", 2, NULL, 0);
	assert_string_equal(drain(p, known, 2), "4");

	/* never finished: closed with the reader */
	put(p, "\xa3x", 2, known, 1);
	assert_string_equal(drain(p, known, 2), "");
	put(p, "x\xc1", 1, known, 2);
	assert_string_equal(drain(p, known, 2), "");
	reader_clear(&p->reader);
	assert_int_equal(open_fds(), before);
	pair_free(p);
	close_known(known, 2);
}

static void test_many_before_the_fd(void **state)
{
	struct pair *p = pair_new();
	char expected[4096] = "";
	int known[1];

	(void)state;
	make_known(known, 1);
	for (int i = 0; i < 200; i++) {
		put(p, M2 M3, 5, NULL, 0);
		strcat(expected, "2 3 ");
	}
	put(p, M4, 4, known, 1);
	strcat(expected, "4:a");
	assert_string_equal(drain(p, known, 1), expected);
	pair_free(p);
	close_known(known, 1);
}

static void test_large_with_fds(void **state)
{
	struct pair *p = pair_new();
	const size_t size = 3u << 20;
	char *data = calloc(1, size + 2);
	int known[2];
	size_t sent = 0;
	bool first = true;
	char text[64] = "";

	(void)state;
	assert_non_null(data);
	make_known(known, 2);
	data[0] = (char)0xc6;
	data[1] = 0;
	data[2] = (char)((size - 5) >> 16);
	data[3] = (char)((size - 5) >> 8);
	data[4] = (char)(size - 5);
	data[size] = (char)0xa1;
	data[size + 1] = 'x';
	/* the second message begins in the last sendmsg, far behind its first piece */
	while (sent < size + 2) {
		bool last = size + 2 - sent <= 150000;
		struct iovec iov = { data + sent, last ? size + 2 - sent : 100000 };
		ssize_t n = stream_sendv(p->to, &iov, 1,
					 first	? known
					 : last ? known + 1
						: NULL,
					 first || last);

		if (n == -EAGAIN) {
			assert_string_equal(drain(p, known, 2), "");
			continue;
		}
		assert_true(n > 0);
		first = false;
		sent += (size_t)n;
	}
	snprintf(text, sizeof(text), "%zu:a 2:b", size);
	assert_string_equal(drain(p, known, 2), text);
	free(data);
	pair_free(p);
	close_known(known, 2);
}

static void test_too_many_fds(void **state)
{
	struct pair *p = pair_new();
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(17 * sizeof(int))];
	} control;
	struct iovec iov = { M3, 3 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	struct cmsghdr *c;
	int known[1], fds[17], before;

	(void)state;
	make_known(known, 1);
	before = open_fds();
	for (int i = 0; i < 17; i++)
		fds[i] = known[0];
	memset(&control, 0, sizeof(control));
	c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	put(p, M2, 2, NULL, 0);
	assert_int_equal(sendmsg(p->to, &msg, 0), 3);
	put(p, M4, 4, fds, 16);
	assert_string_equal(drain(p, known, 1), "2 3:cut 4:aaaaaaaaaaaaaaaa");
	assert_int_equal(open_fds(), before);
	assert_int_equal(stream_sendv(p->to, &iov, 1, fds, 17), -EINVAL);
	pair_free(p);
	close_known(known, 1);
}

static void test_no_room_for_fds(void **state)
{
	struct pair *p = pair_new();
	struct rlimit old, tight;
	int known[1], top;

	(void)state;
	make_known(known, 1);
	top = dup(0);
	close(top);
	put(p, M3, 3, (int[]){ known[0], known[0] }, 2);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	tight = old;
	tight.rlim_cur = (rlim_t)top + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_string_equal(drain(p, known, 1), "3:cut");
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(fcntl(top, F_GETFD), -1);
	pair_free(p);
	close_known(known, 1);
}

static void test_byte_by_byte(void **state)
{
	struct pair *p = pair_new();
	const char all[] = M2 "\x93\x01\x82" M2 M3 M2 "\xc0"
			      "\xc4\x05hello" M4;
	size_t frames = 0;

	(void)state;
	for (size_t i = 0; i + 1 < sizeof(all); i++) {
		const char *text;

		put(p, all + i, 1, NULL, 0);
		text = drain(p, NULL, 0);
		frames += *text != 0;
		assert_true(!*text || !strchr(text, ' '));
	}
	assert_int_equal(frames, 3);
	assert_false(reader_pending(&p->reader));
	assert_null(p->reader.own);
	pair_free(p);
}

static void test_memory(void **state)
{
	struct pair *p = pair_new();
	const size_t size = 1u << 20;
	struct reader_frame f;
	char *data = calloc(1, size), *mine = NULL;
	size_t sent = 0, got;

	(void)state;
	assert_non_null(data);
	data[0] = (char)0xc6;
	data[2] = (char)((size - 5) >> 16);
	data[3] = (char)((size - 5) >> 8);
	data[4] = (char)(size - 5);
	memcpy(data + size - 4, "tail", 4);

	/* a header that announces much reserves little */
	put(p, "\xc6\x00\xff\xff\x00zz", 7, NULL, 0);
	assert_string_equal(drain(p, NULL, 0), "");
	assert_true(p->reader.own_alloc < 80 * 1024);
	put(p, data, 1000, NULL, 0);
	assert_string_equal(drain(p, NULL, 0), "");
	assert_true(p->reader.own_alloc < 200 * 1024);
	reader_clear(&p->reader);

	/* a large one's memory is given away, and what follows it stays */
	while (!mine) {
		int r;

		if (sent < size) {
			struct iovec iov[2] = { { data + sent, size - sent },
						{ (char *)M2 M3, 5 } };
			ssize_t n = stream_sendv(p->to, iov, 2, NULL, 0);

			if (n > 0)
				sent += (size_t)n;
		}
		r = reader_fill(&p->reader, p->from, p->buf, sizeof(p->buf), &got);
		assert_true(r == 0 || r == -EAGAIN);
		if (!reader_next(&p->reader, &f)) {
			assert_int_equal(f.size, size);
			mine = reader_take(&p->reader, &f);
			assert_non_null(mine);
		}
		if (!mine)
			assert_int_equal(reader_settle(&p->reader), 0);
	}
	assert_memory_equal(mine + size - 4, "tail", 4);
	mine[size] = '\0'; /* the spare byte */
	while (!reader_next(&p->reader, &f))
		assert_true(f.size == 2 || f.size == 3);
	assert_int_equal(reader_settle(&p->reader), 0);
	drain(p, NULL, 0);
	assert_null(p->reader.own);
	free(mine);
	free(data);
	pair_free(p);
}

static void test_malformed(void **state)
{
	struct pair *p = pair_new();
	struct reader_frame f;
	size_t got;

	(void)state;
	put(p, M2 "\xdd\x0f\xff\xff\xff" M2, 9, NULL, 0);
	assert_int_equal(reader_fill(&p->reader, p->from, p->buf, sizeof(p->buf), &got), 0);
	assert_int_equal(got, 9);
	assert_int_equal(reader_next(&p->reader, &f), 0);
	assert_int_equal(reader_next(&p->reader, &f), -EMSGSIZE);
	pair_free(p);

	p = pair_new();
	close(p->to);
	p->to = dup(p->from);
	assert_int_equal(reader_fill(&p->reader, p->from, p->buf, sizeof(p->buf), &got),
			 READER_E_END);
	pair_free(p);
}

static void test_queue(void **state)
{
	struct pair *p = pair_new();
	struct outq_pool pool;
	struct outq q;
	char *large = malloc(100001), expected[128];
	int known[2], before, r;
	size_t sent, all = 0;

	(void)state;
	assert_non_null(large);
	make_known(known, 2);
	before = open_fds();
	outq_pool_init(&pool);
	outq_init(&q, &pool);
	assert_int_equal(outq_put(&q, M2, 2), 0);
	assert_int_equal(outq_put_fds(&q, M3, 3, (int[]){ dup(known[0]), dup(known[1]) }, 2), 0);
	assert_int_equal(outq_put(&q, M4, 4), 0);
	assert_int_equal(outq_put_fds(&q, M3, 3, (int[]){ dup(known[1]) }, 1), 0);
	assert_int_equal(outq_put_fds(&q, M2, 2, NULL, 0), 0);
	assert_int_equal(q.bytes, 14);
	assert_int_equal(outq_write(&q, p->to, &sent), 0);
	assert_int_equal(sent, 14);
	assert_int_equal(q.bytes, 0);
	assert_string_equal(drain(p, known, 2), "2 3:ab 4 3:b 2");
	assert_int_equal(open_fds(), before);

	/* more than the socket takes, copied and given, with an fd behind it */
	memset(large, 0, 100001);
	memcpy(large, "\xc6\x00\x01\x86\x9c", 5);
	for (int i = 0; i < 4; i++)
		assert_int_equal(outq_put(&q, large, 100001), 0);
	assert_int_equal(outq_give(&q, large, 100001), 0);
	assert_int_equal(outq_put_fds(&q, M3, 3, (int[]){ dup(known[0]) }, 1), 0);
	snprintf(expected, sizeof(expected), "100001 100001 100001 100001 100001 3:a");
	while ((r = outq_write(&q, p->to, &sent)) == -EAGAIN) {
		const char *text = drain(p, known, 2);

		assert_true(!strncmp(expected, text, strlen(text)));
		memmove(expected, expected + strlen(text) + (*text != 0),
			strlen(expected + strlen(text) + (*text != 0)) + 1);
		all += sent;
	}
	assert_int_equal(r, 0);
	assert_int_equal(all + sent, 5 * 100001 + 3);
	assert_string_equal(drain(p, known, 2), expected);

	/* what is dropped closes its fds */
	assert_int_equal(outq_put_fds(&q, M3, 3, (int[]){ dup(known[0]) }, 1), 0);
	outq_clear(&q);
	assert_int_equal(open_fds(), before);
	close(p->from);
	p->from = dup(p->to);
	assert_int_equal(outq_put(&q, M2, 2), 0);
	assert_int_equal(outq_write(&q, p->to, &sent), -EPIPE);
	outq_clear(&q);
	outq_pool_clear(&pool);
	pair_free(p);
	close_known(known, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fds_and_bytes),	   cmocka_unit_test(test_fds_read_at_once),
		cmocka_unit_test(test_many_before_the_fd), cmocka_unit_test(test_large_with_fds),
		cmocka_unit_test(test_too_many_fds),	   cmocka_unit_test(test_no_room_for_fds),
		cmocka_unit_test(test_byte_by_byte),	   cmocka_unit_test(test_memory),
		cmocka_unit_test(test_malformed),	   cmocka_unit_test(test_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
