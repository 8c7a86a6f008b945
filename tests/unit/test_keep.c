// SPDX-License-Identifier: Apache-2.0
/* The reactor's end of the socket to the guardian, with this test as the guardian. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/keep.h"
#include "core/keep_proto.h"
#include "util/fd.h"

struct fixture {
	struct event_base *base;
	int peer, sock;
	struct keep *keep;
	char keys[8][KEEP_KEY_BYTES + 1];
	int fds[8];
	unsigned n_items, n_statuses, n_lost;
	struct reaper_status status[8];
	uint64_t starttime[8];
	bool drop_from_item;
};

static void on_item(void *user, const char *key, int fd)
{
	struct fixture *x = user;

	strcpy(x->keys[x->n_items], key);
	x->fds[x->n_items++] = fd;
	if (x->drop_from_item)
		assert_int_equal(keep_drop(x->keep, key), 0);
}

static void on_status(void *user, const struct reaper_status *status, uint64_t starttime)
{
	struct fixture *x = user;

	x->status[x->n_statuses] = *status;
	x->starttime[x->n_statuses++] = starttime;
}

static void on_lost(void *user)
{
	struct fixture *x = user;

	x->n_lost++;
}

static const struct keep_handlers handlers = { on_item, on_status, on_lost };

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	int pair[2];

	assert_non_null(x);
	x->base = event_base_new();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	x->peer = pair[0];
	x->sock = pair[1];
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	keep_free(x->keep);
	for (unsigned i = 0; i < x->n_items; i++)
		close(x->fds[i]);
	fd_close(&x->peer);
	event_base_free(x->base);
	free(x);
	return 0;
}

static void say(struct fixture *x, enum keep_kind kind, uint64_t number, const char *text, int fd)
{
	struct keep_msg m = { .kind = kind, .number = number };
	size_t n = text ? strlen(text) : 0;

	if (n)
		memcpy(m.text, text, n);
	assert_int_equal(fd_send(x->peer, &m, KEEP_HEAD + n, &fd, fd >= 0, 0), KEEP_HEAD + n);
}

static void say_status(struct fixture *x, pid_t pid, int code, int status)
{
	struct keep_msg m = { .kind = KEEP_STATUS };

	m.status = (struct keep_status){ .pid = pid,
					 .code = code,
					 .status = status,
					 .exited_at = 77,
					 .starttime = 1000 + (uint64_t)pid };
	assert_int_equal(fd_send(x->peer, &m, KEEP_HEAD + sizeof(m.status), NULL, 0, 0),
			 KEEP_HEAD + sizeof(m.status));
}

/*
 * What the reactor's end said; the text is terminated. Returns the kind, 0 when there is nothing.
 */
static unsigned heard(struct fixture *x, struct keep_msg *m, int *fd)
{
	size_t n = 1;
	ssize_t size;

	*fd = -1;
	memset(m, 0, sizeof(*m));
	size = fd_recv(x->peer, m, sizeof(*m) - 1, fd, &n, MSG_DONTWAIT);
	if (size == -EAGAIN)
		return 0;
	assert_true(size >= (ssize_t)KEEP_HEAD);
	return m->kind;
}

static void open_keep(struct fixture *x)
{
	say(x, KEEP_HELLO, KEEP_VERSION, NULL, -1);
	say(x, KEEP_END, 0, NULL, -1);
	assert_int_equal(keep_new(&x->keep, x->base, x->sock, &handlers, x), 0);
}

static void test_handover(void **state)
{
	struct fixture *x = *state;
	int p[2];
	char c = 0;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	say(x, KEEP_HELLO, KEEP_VERSION, NULL, -1);
	say(x, KEEP_ITEM, 0, "task/default/a/stdin", p[1]);
	say(x, KEEP_ITEM, 0, "task/default/b", p[0]);
	say_status(x, 10, CLD_EXITED, 3);
	say_status(x, 11, CLD_DUMPED, 11);
	say_status(x, 12, CLD_KILLED, 9);
	say(x, KEEP_END, 0, NULL, -1);
	assert_int_equal(keep_new(&x->keep, x->base, x->sock, &handlers, x), 0);
	assert_int_equal(x->n_items, 2);
	assert_string_equal(x->keys[0], "task/default/a/stdin");
	assert_string_equal(x->keys[1], "task/default/b");
	assert_int_equal(write(x->fds[0], "x", 1), 1);
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(c, 'x');
	assert_int_not_equal(fcntl(x->fds[0], F_GETFD) & FD_CLOEXEC, 0);
	assert_int_equal(x->n_statuses, 3);
	assert_true(x->status[0].known);
	assert_int_equal(x->status[0].exit_code, 3);
	assert_int_equal(x->status[0].signal, 0);
	assert_int_equal(x->status[0].exited_at, 77);
	assert_int_equal(x->starttime[0], 1010);
	assert_int_equal(x->status[1].signal, 11);
	assert_true(x->status[1].core_dumped);
	assert_int_equal(x->status[2].signal, 9);
	assert_false(x->status[2].core_dumped);
	close(p[0]);
	close(p[1]);
}

static void test_handler_may_talk_back(void **state)
{
	struct fixture *x = *state;
	struct keep_msg m;
	int fd;

	x->drop_from_item = true;
	say(x, KEEP_HELLO, KEEP_VERSION, NULL, -1);
	say(x, KEEP_ITEM, 0, "k", STDERR_FILENO);
	say(x, KEEP_END, 0, NULL, -1);
	assert_int_equal(keep_new(&x->keep, x->base, x->sock, &handlers, x), 0);
	assert_int_equal(heard(x, &m, &fd), KEEP_DROP);
	assert_string_equal(m.text, "k");
}

static void test_wrong_handover(void **state)
{
	struct fixture *x = *state;
	struct keep *k = NULL;

	say(x, KEEP_HELLO, KEEP_VERSION + 1, NULL, -1);
	assert_int_equal(keep_new(&k, x->base, x->sock, &handlers, x), -EPROTONOSUPPORT);
	assert_null(k);
}

static void test_handover_without_an_end(void **state)
{
	struct fixture *x = *state;
	struct keep *k = NULL;

	say(x, KEEP_HELLO, KEEP_VERSION, NULL, -1);
	fd_close(&x->peer);
	assert_int_equal(keep_new(&k, x->base, x->sock, &handlers, x), -EPIPE);
	assert_int_equal(x->n_lost, 0);
}

static void test_words(void **state)
{
	struct fixture *x = *state;
	char long_key[KEEP_KEY_BYTES + 2];
	struct keep_msg m;
	int fd;

	open_keep(x);
	assert_int_equal(keep_put(x->keep, "pty/ns/id", STDERR_FILENO), 0);
	assert_int_equal(heard(x, &m, &fd), KEEP_PUT);
	assert_string_equal(m.text, "pty/ns/id");
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(keep_drop(x->keep, "pty/ns/id"), 0);
	assert_int_equal(heard(x, &m, &fd), KEEP_DROP);
	assert_int_equal(keep_drop_prefix(x->keep, "pty/ns/"), 0);
	assert_int_equal(heard(x, &m, &fd), KEEP_DROP_PREFIX);
	assert_string_equal(m.text, "pty/ns/");
	keep_ack(x->keep, 4711);
	assert_int_equal(heard(x, &m, &fd), KEEP_ACK);
	assert_int_equal(m.pid, 4711);
	keep_ready(x->keep);
	assert_int_equal(heard(x, &m, &fd), KEEP_READY);
	keep_stopping(x->keep);
	assert_int_equal(heard(x, &m, &fd), KEEP_STOPPING);
	assert_int_equal(heard(x, &m, &fd), 0);

	assert_int_equal(keep_put(x->keep, "k", -1), -EBADF);
	assert_int_equal(keep_put(x->keep, "", STDERR_FILENO), -EINVAL);
	assert_int_equal(keep_drop_prefix(x->keep, ""), -EINVAL);
	memset(long_key, 'k', sizeof(long_key));
	long_key[KEEP_KEY_BYTES + 1] = 0;
	assert_int_equal(keep_drop(x->keep, long_key), -EINVAL);
	long_key[KEEP_KEY_BYTES] = 0;
	assert_int_equal(keep_drop(x->keep, long_key), 0);
	assert_int_equal(heard(x, &m, &fd), KEEP_DROP);
	assert_string_equal(m.text, long_key);
}

/*
 * More than the socket takes, with the caller's fd closed at once: all arrives, in order, each with
 * its own fd.
 */
static void test_queue(void **state)
{
	enum { COUNT = 3000 };
	struct fixture *x = *state;
	char key[32], want[32];
	struct keep_msg m;
	unsigned got = 0;
	struct stat st, null;
	int fd;

	open_keep(x);
	assert_int_equal(stat("/dev/null", &null), 0);
	for (unsigned i = 0; i < COUNT; i++) {
		snprintf(key, sizeof(key), "queue/%u", i);
		if (i % 100 == 0) {
			fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
			assert_int_equal(keep_put(x->keep, key, fd), 0);
			close(fd);
		} else {
			assert_int_equal(keep_drop(x->keep, key), 0);
		}
	}
	while (got < COUNT) {
		unsigned kind = heard(x, &m, &fd);

		if (!kind) {
			assert_int_equal(event_base_loop(x->base, EVLOOP_NONBLOCK), 0);
			continue;
		}
		snprintf(want, sizeof(want), "queue/%u", got);
		assert_string_equal(m.text, want);
		assert_int_equal(kind, got % 100 == 0 ? KEEP_PUT : KEEP_DROP);
		if (kind == KEEP_PUT) {
			assert_int_equal(fstat(fd, &st), 0);
			assert_int_equal(st.st_rdev, null.st_rdev);
			close(fd);
		}
		got++;
	}
	assert_int_equal(event_base_loop(x->base, EVLOOP_NONBLOCK), 0);
	assert_int_equal(heard(x, &m, &fd), 0);
}

static void test_status_while_running(void **state)
{
	struct fixture *x = *state;

	open_keep(x);
	say_status(x, 5, CLD_EXITED, 0);
	say_status(x, 6, CLD_EXITED, 1);
	assert_int_equal(event_base_loop(x->base, EVLOOP_NONBLOCK), 0);
	assert_int_equal(x->n_statuses, 2);
	assert_int_equal(x->status[1].pid, 6);
	assert_int_equal(x->n_lost, 0);
}

static void test_lost(void **state)
{
	struct fixture *x = *state;

	open_keep(x);
	say_status(x, 5, CLD_EXITED, 0);
	fd_close(&x->peer);
	event_base_loop(x->base, EVLOOP_NONBLOCK);
	/* the last word is heard first */
	assert_int_equal(x->n_statuses, 1);
	assert_int_equal(x->n_lost, 1);
	event_base_loop(x->base, EVLOOP_NONBLOCK);
	assert_int_equal(x->n_lost, 1);
	assert_int_equal(keep_drop(x->keep, "k"), -EPIPE);
	keep_ready(x->keep);
}

static void test_nonsense_is_lost(void **state)
{
	struct fixture *x = *state;

	open_keep(x);
	say(x, (enum keep_kind)99, 0, NULL, -1);
	event_base_loop(x->base, EVLOOP_NONBLOCK);
	assert_int_equal(x->n_lost, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_handover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handler_may_talk_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_handover, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handover_without_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
		cmocka_unit_test_setup_teardown(test_status_while_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nonsense_is_lost, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
