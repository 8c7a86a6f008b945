// SPDX-License-Identifier: Apache-2.0
/*
 * The guardian with reactors of this test's own: start, hand-over, restart, end, and the exit log
 *
 * Each guardian runs in a child of the test. What its reactors see goes into shared memory; what
 * they shall do is a function by generation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/exit_log.h"
#include "core/guardian.h"
#include "core/keep.h"
#include "util/clock.h"
#include "util/fd.h"

#define WAIT_NS (20 * CLOCK_NS_PER_SEC)

struct shared {
	atomic_int generation; /* of the reactor that runs */
	atomic_int items, statuses, child;
	char key[8][64];
	off_t size[8];
	struct reaper_status status[8];
	uint64_t starttime[8];
	atomic_int go; /* from the test to the reactor */
};

struct fixture {
	char base[48], root[64], state[64], socket[96];
	struct davit_config config;
	struct shared *sh;
	pid_t guardian;
	int ready;
	void (*body)(struct fixture *x, struct keep *k, struct event_base *base, int generation);
};

/* ---- reactors */

struct reactor_view {
	struct fixture *x;
	int generation;
	int fds[8];
};

static void on_item(void *user, const char *key, int fd)
{
	struct reactor_view *v = user;
	struct shared *sh = v->x->sh;
	int i = atomic_load(&sh->items);

	snprintf(sh->key[i], sizeof(sh->key[i]), "%s", key);
	v->fds[i] = fd;
	atomic_store(&sh->items, i + 1);
	/* proof that it is the one that was stored */
	if (write(fd, "!", 1) != 1)
		_exit(99);
	sh->size[i] = lseek(fd, 0, SEEK_CUR);
}

static void on_status(void *user, const struct reaper_status *status, uint64_t starttime)
{
	struct reactor_view *v = user;
	struct shared *sh = v->x->sh;
	int i = atomic_load(&sh->statuses);

	sh->status[i] = *status;
	sh->starttime[i] = starttime;
	atomic_store(&sh->statuses, i + 1);
}

static void on_lost(void *user)
{
	(void)user;
	_exit(0);
}

static int fake_reactor(const struct guardian_child *child, void *user)
{
	static const struct keep_handlers handlers = { on_item, on_status, on_lost };
	struct reactor_view v = { .x = user };
	struct event_base *base = event_base_new();
	struct shared *sh = v.x->sh;
	struct fault f;
	struct keep *k;

	if (places_lock_reactor(child->places, 5, &f) < 0)
		return 98;
	atomic_store(&sh->items, 0);
	atomic_store(&sh->statuses, 0);
	v.generation = atomic_load(&sh->generation) + 1;
	if (keep_new(&k, base, child->keep_sock, &handlers, &v) < 0)
		return 97;
	atomic_store(&sh->generation, v.generation);
	v.x->body(v.x, k, base, v.generation);
	keep_free(k);
	event_base_free(base);
	return 0;
}

static void run_ms(struct event_base *base, int ms)
{
	struct timeval tv = { .tv_usec = ms * 1000 };

	event_base_loopexit(base, &tv);
	event_base_dispatch(base);
}

static void serve_until_sigterm(struct keep *k, struct event_base *base)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	for (;;) {
		struct timespec none = { 0 };

		run_ms(base, 5);
		if (sigtimedwait(&set, NULL, &none) > 0)
			break;
	}
	keep_stopping(k);
	run_ms(base, 5);
}

/* ---- the test's side */

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->base, "/tmp/davit-test-guardian-XXXXXX");
	assert_non_null(mkdtemp(x->base));
	snprintf(x->root, sizeof(x->root), "%s/root", x->base);
	snprintf(x->state, sizeof(x->state), "%s/state", x->base);
	snprintf(x->socket, sizeof(x->socket), "%s/state/davit.sock", x->base);
	x->config = (struct davit_config){ .root = x->root,
					   .state = x->state,
					   .socket = x->socket,
					   .group = (char *)"",
					   .criu = (char *)"criu",
					   .cgroup_parent = (char *)"/davit",
					   .metrics = (char *)"" };
	x->sh = mmap(NULL, sizeof(*x->sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	assert_true(x->sh != MAP_FAILED);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	if (x->guardian > 0) {
		kill(x->guardian, SIGKILL);
		waitpid(x->guardian, NULL, 0);
	}
	fd_close(&x->ready);
	/* what a killed guardian left comes to us */
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (fork() == 0) {
		execl("/bin/rm", "rm", "-rf", x->base, (char *)NULL);
		_exit(1);
	}
	wait(NULL);
	munmap(x->sh, sizeof(*x->sh));
	free(x);
	return 0;
}

static void start(struct fixture *x)
{
	struct guardian_options o = {
		.config = &x->config, .log_level = LOG_ERROR, .reactor = fake_reactor, .user = x
	};
	int p[2];

	assert_int_equal(pipe(p), 0);
	x->guardian = fork();
	assert_true(x->guardian >= 0);
	if (!x->guardian) {
		char text[16];

		snprintf(text, sizeof(text), "%d", p[1]);
		setenv("DAVIT_READY_FD", text, 1);
		/* failures are expected here and read from the pipe */
		if (!getenv("DAVIT_TEST_LOG") && !freopen("/dev/null", "w", stderr))
			_exit(96);
		exit(guardian_run(&o));
	}
	close(p[1]);
	x->ready = p[0];
}

/* What the guardian says on its pipe until it closes it. */
static void ready_text(struct fixture *x, char *text, size_t size)
{
	size_t used = 0;
	ssize_t n;

	while ((n = read(x->ready, text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = 0;
	fd_close(&x->ready);
}

static void await_ready(struct fixture *x)
{
	char text[2048];

	ready_text(x, text, sizeof(text));
	assert_string_equal(text, "R");
}

static void await_int(atomic_int *v, int at_least)
{
	int64_t end = clock_mono() + WAIT_NS;

	while (atomic_load(v) < at_least) {
		assert_true(clock_mono() < end);
		usleep(1000);
	}
}

static int end(struct fixture *x, int sig)
{
	int status;

	kill(x->guardian, sig);
	assert_int_equal(waitpid(x->guardian, &status, 0), x->guardian);
	x->guardian = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- tests */

static void body_plain(struct fixture *x, struct keep *k, struct event_base *base, int generation)
{
	(void)x;
	(void)generation;
	keep_ready(k);
	serve_until_sigterm(k, base);
}

static void test_start_and_end(void **state)
{
	struct fixture *x = *state;
	struct stat st;

	x->body = body_plain;
	start(x);
	await_ready(x);
	assert_int_equal(stat(x->socket, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(stat(x->state, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(x->root, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(end(x, SIGTERM), 0);
	assert_int_equal(stat(x->socket, &st), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(atomic_load(&x->sh->generation), 1);
}

static void test_second_is_refused(void **state)
{
	struct fixture *x = *state, second = { .ready = -1 };
	char text[2048];
	int status;

	x->body = body_plain;
	start(x);
	await_ready(x);
	second = *x;
	start(&second);
	ready_text(&second, text, sizeof(text));
	assert_non_null(strstr(text, "another davit serves"));
	assert_int_equal(waitpid(second.guardian, &status, 0), second.guardian);
	assert_int_equal(WEXITSTATUS(status), 1);
	/* the first one is unharmed */
	assert_int_equal(access(x->socket, F_OK), 0);
	assert_int_equal(end(x, SIGINT), 0);
}

static void test_stale_socket(void **state)
{
	struct fixture *x = *state;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char text[2048];

	x->body = body_plain;
	assert_int_equal(mkdir(x->state, 0700), 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", x->socket);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	/* somebody listens: not ours to remove */
	assert_int_equal(listen(fd, 1), 0);
	start(x);
	ready_text(x, text, sizeof(text));
	assert_non_null(strstr(text, "listens on"));
	assert_int_equal(waitpid(x->guardian, NULL, 0), x->guardian);
	close(fd);
	/* nobody does any more */
	start(x);
	await_ready(x);
	assert_int_equal(end(x, SIGTERM), 0);
	/* a file of another kind stays */
	assert_int_equal(mknod(x->socket, S_IFREG | 0600, 0), 0);
	start(x);
	ready_text(x, text, sizeof(text));
	assert_non_null(strstr(text, "not a socket"));
	assert_int_equal(waitpid(x->guardian, NULL, 0), x->guardian);
	x->guardian = 0;
	assert_int_equal(access(x->socket, F_OK), 0);
}

static int failing_reactor(const struct guardian_child *child, void *user)
{
	(void)user;
	keep_fail(child->keep_sock, "the database is on fire");
	return 1;
}

static void test_failing_start(void **state)
{
	struct fixture *x = *state;
	struct guardian_options o = { .config = &x->config,
				      .log_level = LOG_ERROR,
				      .reactor = failing_reactor };
	char text[2048], number[16];
	int p[2], status;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (!pid) {
		snprintf(number, sizeof(number), "%d", p[1]);
		setenv("DAVIT_READY_FD", number, 1);
		exit(guardian_run(&o));
	}
	close(p[1]);
	x->ready = p[0];
	ready_text(x, text, sizeof(text));
	assert_string_equal(text, "the database is on fire\n");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 1);
	assert_int_equal(access(x->socket, F_OK), -1);
}

/*
 * Generation 1 stores an fd twice and has a child, and is killed; 2 finds them and the child's end;
 * 3 finds what is left.
 */
static void body_crash(struct fixture *x, struct keep *k, struct event_base *base, int generation)
{
	struct shared *sh = x->sh;
	pid_t pid;

	keep_ready(k);
	if (generation == 1) {
		int fd = memfd_create("kept", MFD_CLOEXEC);

		if (fd < 0 || keep_put(k, "a/one", fd) < 0 || keep_put(k, "a/two", fd) < 0 ||
		    keep_put(k, "b/gone", fd) < 0 || keep_drop(k, "b/gone") < 0)
			_exit(95);
		pid = fork();
		if (!pid) {
			/* ends after its parent */
			while (atomic_load(&sh->go) < 1)
				usleep(1000);
			_exit(7);
		}
		atomic_store(&sh->child, pid);
		run_ms(base, 10);
		kill(getpid(), SIGKILL);
	}
	if (generation == 2) {
		while (atomic_load(&sh->statuses) < 1)
			run_ms(base, 5);
		keep_drop_prefix(k, "a/t");
		if (atomic_load(&sh->go) < 3)
			while (atomic_load(&sh->go) < 2)
				run_ms(base, 5);
		run_ms(base, 5);
		kill(getpid(), SIGUSR1);
	}
	if (generation == 3) {
		keep_ack(k, atomic_load(&sh->child));
		run_ms(base, 20);
		atomic_store(&sh->go, 10);
		while (atomic_load(&sh->go) < 11)
			run_ms(base, 5);
		kill(getpid(), SIGKILL);
	}
	serve_until_sigterm(k, base);
}

static void test_restart(void **state)
{
	struct fixture *x = *state;
	struct shared *sh = x->sh;
	char path[128];
	struct stat st;

	x->body = body_crash;
	start(x);
	await_ready(x);
	await_int(&sh->generation, 2);
	/* no time was lost: the socket has been there all along */
	assert_int_equal(access(x->socket, F_OK), 0);
	assert_int_equal(atomic_load(&sh->items), 2);
	assert_string_equal(sh->key[0], "a/one");
	assert_string_equal(sh->key[1], "a/two");
	assert_int_equal(sh->size[1], 2);
	assert_int_equal(atomic_load(&sh->statuses), 0);

	atomic_store(&sh->go, 1);
	await_int(&sh->statuses, 1);
	assert_int_equal(sh->status[0].pid, atomic_load(&sh->child));
	assert_int_equal(sh->status[0].exit_code, 7);
	assert_int_equal(sh->status[0].signal, 0);
	assert_true(sh->starttime[0] > 0);
	assert_true(sh->status[0].exited_at > 0);

	/* not acknowledged: said again */
	atomic_store(&sh->go, 2);
	await_int(&sh->go, 10);
	assert_int_equal(atomic_load(&sh->generation), 3);
	assert_int_equal(atomic_load(&sh->items), 1);
	assert_string_equal(sh->key[0], "a/one");
	assert_int_equal(atomic_load(&sh->statuses), 1);
	assert_int_equal(sh->status[0].exit_code, 7);
	/* acknowledged by now: forgotten */
	snprintf(path, sizeof(path), "%s/exits", x->state);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 0);
	atomic_store(&sh->go, 11);
	await_int(&sh->generation, 4);
	assert_int_equal(atomic_load(&sh->statuses), 0);
	assert_int_equal(end(x, SIGTERM), 0);
}

/*
 * A child outlives the reactor's orderly end and ends with the guardian's: the next start knows its
 * status.
 */
static void body_orphan(struct fixture *x, struct keep *k, struct event_base *base, int generation)
{
	struct shared *sh = x->sh;

	keep_ready(k);
	if (generation == 1) {
		pid_t pid = fork();

		if (!pid) {
			while (atomic_load(&sh->go) < 1)
				usleep(1000);
			_exit(42);
		}
		atomic_store(&sh->child, pid);
		run_ms(base, 10);
		kill(getpid(), SIGKILL);
	}
	if (generation == 2)
		while (atomic_load(&sh->statuses) < 1)
			run_ms(base, 5);
	serve_until_sigterm(k, base);
}

static void test_exit_log_survives_the_guardian(void **state)
{
	struct fixture *x = *state;
	struct shared *sh = x->sh;

	x->body = body_orphan;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	start(x);
	await_ready(x);
	await_int(&sh->generation, 2);
	atomic_store(&sh->go, 1);
	await_int(&sh->statuses, 1);
	assert_int_equal(end(x, SIGKILL), 1000 + SIGKILL);
	{
		char path[128];
		struct exit_log log;
		struct exit_entry *e;
		int dir = open(x->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		snprintf(path, sizeof(path), "%s/exits", x->state);
		assert_int_equal(exit_log_open(&log, dir, NULL), 0);
		assert_int_equal(log.count, 1);
		e = TAILQ_FIRST(&log.entries);
		assert_int_equal(e->status.pid, atomic_load(&sh->child));
		assert_int_equal(e->status.code, CLD_EXITED);
		assert_int_equal(e->status.status, 42);
		exit_log_close(&log);
		close(dir);
	}
}

/* Five deaths within ten seconds: the sixth start waits. */
static void body_dies(struct fixture *x, struct keep *k, struct event_base *base, int generation)
{
	(void)x;
	keep_ready(k);
	run_ms(base, 2);
	if (generation <= 6)
		kill(getpid(), SIGKILL);
	serve_until_sigterm(k, base);
}

static void test_backoff(void **state)
{
	struct fixture *x = *state;
	int64_t began;

	x->body = body_dies;
	start(x);
	await_ready(x);
	await_int(&x->sh->generation, 5);
	began = clock_mono();
	await_int(&x->sh->generation, 7);
	assert_true(clock_mono() - began > CLOCK_NS_PER_SEC / 2);
	assert_int_equal(end(x, SIGTERM), 0);
}

static void test_exit_log_file(void **state)
{
	struct fixture *x = *state;
	struct keep_status s = { .code = CLD_EXITED };
	struct exit_entry *e;
	struct exit_log log;
	char path[128];
	int dir, fd;

	assert_int_equal(mkdir(x->state, 0700), 0);
	dir = open(x->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/exits", x->state);
	assert_int_equal(exit_log_open(&log, dir, NULL), 0);
	for (int i = 1; i <= 5; i++) {
		s.pid = i;
		s.status = i * 10;
		assert_int_equal(exit_log_add(&log, &s, NULL), 0);
	}
	exit_log_close(&log);

	/* the third is damaged, and a sixth is torn */
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, lseek(fd, 0, SEEK_END) / 5 * 2 + 20), 1);
	assert_int_equal(pwrite(fd, "torn", 4, lseek(fd, 0, SEEK_END)), 4);
	close(fd);
	assert_int_equal(exit_log_open(&log, dir, NULL), 0);
	assert_int_equal(log.count, 4);
	s.pid = 6;
	assert_int_equal(exit_log_add(&log, &s, NULL), 0);
	exit_log_close(&log);

	assert_int_equal(exit_log_open(&log, dir, NULL), 0);
	assert_int_equal(log.count, 5);
	TAILQ_FOREACH (e, &log.entries, link)
		assert_int_not_equal(e->status.pid, 3);
	/* what was not sent is not acknowledged */
	exit_log_ack(&log, 1);
	assert_int_equal(log.count, 5);
	TAILQ_FOREACH (e, &log.entries, link)
		e->sent = true;
	exit_log_ack(&log, 1);
	exit_log_ack(&log, 99);
	assert_int_equal(log.count, 4);
	for (int i = 2; i <= 6; i++)
		exit_log_ack(&log, i);
	assert_int_equal(log.count, 0);
	assert_int_equal(lseek(log.fd, 0, SEEK_END), 0);
	exit_log_close(&log);
	close(dir);
}

static void test_exit_log_bound(void **state)
{
	struct fixture *x = *state;
	struct keep_status s = { .code = CLD_KILLED, .status = 9 };
	struct exit_log log;
	struct stat st;
	int dir;

	assert_int_equal(mkdir(x->state, 0700), 0);
	dir = open(x->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(exit_log_open(&log, dir, NULL), 0);
	for (int i = 1; i <= 3 * EXIT_LOG_MAX; i++) {
		s.pid = i;
		assert_int_equal(exit_log_add(&log, &s, NULL), 0);
	}
	assert_int_equal(log.count, EXIT_LOG_MAX);
	assert_int_equal(TAILQ_FIRST(&log.entries)->status.pid, 2 * EXIT_LOG_MAX + 1);
	assert_int_equal(fstat(log.fd, &st), 0);
	assert_true(st.st_size < 3 * EXIT_LOG_MAX * 64);
	exit_log_close(&log);
	/* and it is all there again */
	assert_int_equal(exit_log_open(&log, dir, NULL), 0);
	assert_true(log.count >= EXIT_LOG_MAX);
	assert_int_equal(TAILQ_LAST(&log.entries, exit_list)->status.pid, 3 * EXIT_LOG_MAX);
	exit_log_close(&log);
	close(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exit_log_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exit_log_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_and_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_second_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failing_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exit_log_survives_the_guardian, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_backoff, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
