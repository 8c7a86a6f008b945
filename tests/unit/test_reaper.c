// SPDX-License-Identifier: Apache-2.0
/* The reaper, with real children, orphans under another parent and messages of a guardian. */
#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/pidfd_status.h"
#include "monitor/reaper.h"
#include "util/clock.h"
#include "util/fd.h"

struct seen {
	unsigned calls;
	struct reaper_status last;
	struct event_base *base;
	unsigned stop_after; /* ends the loop at this many calls */
	bool was_zombie;
};

struct fixture {
	struct event_base *base;
	struct reaper *reaper;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	x->base = event_base_new();
	assert_non_null(x->base);
	assert_int_equal(reaper_new(&x->reaper, x->base), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	reaper_free(x->reaper);
	event_base_free(x->base);
	free(x);
	return 0;
}

static void on_end(void *user, const struct reaper_status *status)
{
	struct seen *s = user;
	siginfo_t info = { 0 };

	s->calls++;
	s->last = *status;
	s->was_zombie = waitid(P_PID, (id_t)status->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
			info.si_pid == status->pid;
	if (s->calls >= s->stop_after)
		event_base_loopbreak(s->base);
}

/* Runs the loop until loopbreak, at most some seconds. */
static void run(struct event_base *base, int ms)
{
	struct timeval t = { ms / 1000, ms % 1000 * 1000 };

	event_base_loopexit(base, &t);
	event_base_dispatch(base);
}

static pid_t spawn_exit(int code)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(code);
	assert_true(pid > 0);
	return pid;
}

static pid_t spawn_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(1);
	}
	assert_true(pid > 0);
	return pid;
}

static void test_exit_and_signal(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .base = x->base, .stop_after = 1 };
	struct reaper_watch *w;
	int64_t before = clock_now();
	pid_t pid = spawn_exit(42);

	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pid, -1, on_end, &s, &w), 0);
	assert_non_null(w);
	assert_int_equal(s.calls, 0);
	run(x->base, 5000);
	assert_int_equal(s.calls, 1);
	assert_true(s.was_zombie);
	assert_int_equal(s.last.pid, pid);
	assert_true(s.last.known);
	assert_int_equal(s.last.exit_code, 42);
	assert_int_equal(s.last.signal, 0);
	assert_true(s.last.exited_at >= before && s.last.exited_at <= clock_now());
	/* reaped after the callback */
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);

	pid = spawn_sleeper();
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pid, -1, on_end, &s, &w), 0);
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pid, -1, on_end, &s, &w), -EEXIST);
	assert_null(w);
	kill(pid, SIGKILL);
	run(x->base, 5000);
	assert_int_equal(s.calls, 2);
	assert_int_equal(s.last.signal, SIGKILL);
	assert_int_equal(s.last.exit_code, 0);
	assert_false(s.last.core_dumped);
	assert_int_equal(reaper_count(x->reaper), 2);
}

static void test_early(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .base = x->base, .stop_after = 1 };
	struct reaper_watch *w;
	pid_t pid = spawn_exit(7);

	while (reaper_count(x->reaper) == 0)
		reaper_poll(x->reaper);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), -1);
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pid, -1, on_end, &s, &w), 0);
	assert_int_equal(s.calls, 0);
	/* handed back by a removal */
	reaper_remove(w);
	run(x->base, 20);
	assert_int_equal(s.calls, 0);
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pid, -1, on_end, &s, &w), 0);
	run(x->base, 5000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.last.exit_code, 7);
	reaper_remove(NULL);
}

/* A status that nobody asked for must not become that of a later child with the same pid. */
static void test_stale(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .base = x->base, .stop_after = 1 };
	struct reaper_watch *w;
	pid_t pid = 0, first;
	FILE *f;

	first = spawn_exit(9);
	while (reaper_count(x->reaper) == 0)
		reaper_poll(x->reaper);
	/* the next pid is chosen through /proc */
	f = fopen("/proc/sys/kernel/ns_last_pid", "w");
	if (!f)
		skip();
	fprintf(f, "%d", (int)first - 1);
	fclose(f);
	pid = spawn_sleeper();
	if (pid != first) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		skip();
	}
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pid, -1, on_end, &s, &w), 0);
	run(x->base, 50);
	assert_int_equal(s.calls, 0);
	kill(pid, SIGTERM);
	run(x->base, 5000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.last.signal, SIGTERM);
}

#define CROWD 400

/* All end at once, half of them before anybody registers: signals coalesce, none is lost. */
static void test_crowd(void **state)
{
	struct fixture *x = *state;
	struct seen *seen = calloc(CROWD, sizeof(*seen));
	struct reaper_watch *w;
	pid_t pids[CROWD];
	int gate[2];

	assert_non_null(seen);
	assert_int_equal(pipe(gate), 0);
	for (int i = 0; i < CROWD; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0) {
			char c;

			close(gate[1]);
			if (read(gate[0], &c, 1) != 0)
				_exit(255);
			_exit(i % 250);
		}
		seen[i].base = x->base;
		seen[i].stop_after = 2;
		if (i % 2)
			assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, pids[i], -1, on_end,
						    &seen[i], &w),
					 0);
	}
	close(gate[0]);
	close(gate[1]);
	for (int i = 0; i < 500 && reaper_count(x->reaper) < CROWD; i++)
		run(x->base, 10);
	assert_int_equal(reaper_count(x->reaper), CROWD);
	for (int i = 0; i < CROWD; i += 2)
		assert_int_equal(
			reaper_add(x->reaper, REAPER_CHILD, pids[i], -1, on_end, &seen[i], &w), 0);
	run(x->base, 50);
	for (int i = 0; i < CROWD; i++) {
		assert_int_equal(seen[i].calls, 1);
		assert_int_equal(seen[i].last.pid, pids[i]);
		assert_int_equal(seen[i].last.exit_code, i % 250);
	}
	free(seen);
}

struct chain {
	struct fixture *x;
	struct reaper_watch *other;
	struct seen added;
	pid_t next;
	unsigned calls;
};

static void chain_end(void *user, const struct reaper_status *status)
{
	struct chain *c = user;
	struct reaper_watch *w;

	(void)status;
	c->calls++;
	/* removing one that is about to be called, adding another, polling: all from inside */
	reaper_remove(c->other);
	c->next = spawn_exit(3);
	assert_int_equal(reaper_add(c->x->reaper, REAPER_CHILD, c->next, -1, on_end, &c->added, &w),
			 0);
	reaper_poll(c->x->reaper);
}

static void never(void *user, const struct reaper_status *status)
{
	(void)user;
	fail_msg("called for %d after its removal", (int)status->pid);
}

static void test_changes_inside(void **state)
{
	struct fixture *x = *state;
	struct chain c = { .x = x, .added = { .base = x->base, .stop_after = 1 } };
	struct reaper_watch *w;
	pid_t a = spawn_exit(1), b;

	/* zombies are found in the order of their birth */
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, a, -1, chain_end, &c, &w), 0);
	b = spawn_exit(2);
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, b, -1, never, NULL, &c.other), 0);
	usleep(50000);
	run(x->base, 5000);
	assert_int_equal(c.calls, 1);
	assert_int_equal(c.added.calls, 1);
	assert_int_equal(c.added.last.exit_code, 3);
	/* b's status is kept */
	c.added.calls = 0;
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, b, -1, on_end, &c.added, &w), 0);
	run(x->base, 5000);
	assert_int_equal(c.added.last.exit_code, 2);
}

static void test_guardian(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .base = x->base, .stop_after = 1 };
	struct reaper_status status = {
		.pid = 4000000, .known = true, .signal = 11, .core_dumped = true, .exited_at = 5
	};
	struct reaper_watch *w;

	/* early, then late */
	reaper_deliver(x->reaper, &status);
	assert_int_equal(reaper_add(x->reaper, REAPER_GUARDIAN, 4000000, -1, on_end, &s, &w), 0);
	assert_int_equal(s.calls, 0);
	reaper_deliver(x->reaper, &status);
	assert_int_equal(s.calls, 0);
	run(x->base, 1000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.last.signal, 11);
	assert_true(s.last.core_dumped);
	assert_int_equal(s.last.exited_at, 5);
	assert_int_equal(reaper_add(x->reaper, REAPER_GUARDIAN, 4000000, -1, on_end, &s, &w), 0);
	/* another source is another process */
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, 4000000, -1, never, NULL, &w), 0);
	reaper_deliver(x->reaper, &status);
	assert_int_equal(s.calls, 2);
	reaper_remove(w);
}

static void test_early_bound(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .base = x->base, .stop_after = 1 };
	struct reaper_status status = { .known = true };
	struct reaper_watch *w;

	for (int i = 1; i <= 4097; i++) {
		status.pid = i;
		status.exit_code = i % 100;
		reaper_deliver(x->reaper, &status);
	}
	/* said again: the newer word counts, and it takes no second place */
	status.pid = 2;
	status.exit_code = 99;
	reaper_deliver(x->reaper, &status);
	assert_int_equal(reaper_add(x->reaper, REAPER_GUARDIAN, 1, -1, never, NULL, &w), 0);
	assert_int_equal(reaper_add(x->reaper, REAPER_GUARDIAN, 2, -1, on_end, &s, &w), 0);
	run(x->base, 1000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.last.exit_code, 99);
	assert_int_equal(reaper_add(x->reaper, REAPER_GUARDIAN, 3, -1, on_end, &s, &w), 0);
	run(x->base, 1000);
	assert_int_equal(s.calls, 2);
	assert_int_equal(s.last.exit_code, 3);
}

/*
 * A process under a parent that is not ours: a child of ours becomes its subreaper, and reaps it at
 * once, when told by a byte, or never. The orphan's pid comes back through a pipe.
 */
enum reaping { AT_ONCE, WHEN_TOLD };

static pid_t spawn_orphan(enum reaping reaping, int how, pid_t *parent, int *tell)
{
	int out[2], in[2];
	pid_t pid;

	assert_int_equal(pipe(out), 0);
	assert_int_equal(pipe(in), 0);
	*parent = fork();
	assert_true(*parent >= 0);
	if (*parent == 0) {
		char c;

		close(in[1]);
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		if (fork() == 0) {
			if (fork() == 0) {
				struct rlimit none = { 0, 0 };
				sigset_t set;

				setrlimit(RLIMIT_CORE, &none);
				sigemptyset(&set);
				sigprocmask(SIG_SETMASK, &set, NULL);
				pid = getpid();
				if (write(out[1], &pid, sizeof(pid)) != sizeof(pid))
					_exit(255);
				usleep(100000);
				if (how < 0)
					raise(-how);
				_exit(how);
			}
			_exit(0);
		}
		wait(NULL);
		if (reaping == WHEN_TOLD && read(in[0], &c, 1) < 0)
			_exit(1);
		wait(NULL);
		if (read(in[0], &c, 1) < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(read(out[0], &pid, sizeof(pid)), sizeof(pid));
	close(out[0]);
	close(out[1]);
	close(in[0]);
	*tell = in[1];
	return pid;
}

static void adopted(struct fixture *x, enum reaping reaping, int how, bool late)
{
	struct seen s = { .base = x->base, .stop_after = 1 },
		    own = { .base = x->base, .stop_after = 1 };
	struct reaper_watch *w;
	pid_t parent, pid;
	int tell, pidfd;

	pid = spawn_orphan(reaping, how, &parent, &tell);
	pidfd = fd_pidfd_open(pid);
	assert_true(pidfd >= 0);
	if (late)
		usleep(200000);
	assert_int_equal(reaper_add(x->reaper, REAPER_ADOPTED, pid, pidfd, on_end, &s, &w), 0);
	run(x->base, 5000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.last.pid, pid);
	assert_true(s.last.known);
	assert_int_equal(s.last.exit_code, how < 0 ? 0 : how);
	assert_int_equal(s.last.signal, how < 0 ? -how : 0);
	close(pidfd);
	assert_int_equal(reaper_add(x->reaper, REAPER_CHILD, parent, -1, on_end, &own, &w), 0);
	if (reaping == WHEN_TOLD)
		assert_int_equal(write(tell, "x", 1), 1);
	close(tell);
	run(x->base, 5000);
	assert_int_equal(own.calls, 1);
}

static void test_adopted(void **state)
{
	adopted(*state, WHEN_TOLD, 33, false);
	adopted(*state, WHEN_TOLD, 0, false);
	adopted(*state, WHEN_TOLD, -SIGTERM, false);
	adopted(*state, WHEN_TOLD, 33, true);
}

/* Reaped before anybody looks: only the pidfd can tell, from Linux 6.15 on. */
static void test_adopted_reaped(void **state)
{
	pid_t probe = fork();
	int pidfd, status = -1, r;

	if (probe == 0)
		_exit(5);
	pidfd = fd_pidfd_open(probe);
	assert_true(pidfd >= 0);
	usleep(50000);
	/* a zombie tells through /proc */
	assert_int_equal(pidfd_status(pidfd, probe, &status), 0);
	assert_int_equal(WEXITSTATUS(status), 5);
	assert_int_equal(waitpid(probe, NULL, 0), probe);
	r = pidfd_status(pidfd, probe, &status);
	close(pidfd);
	if (r == -ESRCH) {
		struct fixture *x = *state;
		struct seen s = { .base = x->base, .stop_after = 1 };
		struct reaper_watch *w;
		pid_t pid = spawn_exit(5);

		pidfd = fd_pidfd_open(pid);
		waitpid(pid, NULL, 0);
		assert_int_equal(reaper_add(x->reaper, REAPER_ADOPTED, pid, pidfd, on_end, &s, &w),
				 0);
		run(x->base, 1000);
		assert_int_equal(s.calls, 1);
		assert_false(s.last.known);
		close(pidfd);
		skip();
	}
	assert_int_equal(r, 0);
	assert_int_equal(WEXITSTATUS(status), 5);
	adopted(*state, AT_ONCE, 33, true);
	adopted(*state, AT_ONCE, 0, true);
	adopted(*state, AT_ONCE, -SIGKILL, true);
	adopted(*state, AT_ONCE, 4, false);
}

struct teller {
	int fd;
	unsigned told;
};

static void on_tell(evutil_socket_t fd, short what, void *user)
{
	struct teller *t = user;

	(void)fd;
	(void)what;
	t->told += write(t->fd, "x", 1) == 1;
}

/*
 * Without CAP_SYS_PTRACE a zombie's 0 in /proc may be a refusal: it is waited for until its parent
 * reaps. In a process of its own, since the capability does not come back.
 */
static int without_ptrace(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	struct timeval later = { 0, 300000 };
	struct seen s = { .stop_after = 1 };
	struct teller teller = { 0 };
	struct event_base *base = event_base_new();
	struct reaper_watch *w;
	struct reaper *r;
	pid_t parent, pid;
	int pidfd;

	if (syscall(SYS_capget, &head, data) < 0)
		return 1;
	data[0].effective &= ~(1u << CAP_SYS_PTRACE);
	if (syscall(SYS_capset, &head, data) < 0 || reaper_new(&r, base) < 0)
		return 2;
	s.base = base;
	pid = spawn_orphan(WHEN_TOLD, 0, &parent, &teller.fd);
	pidfd = fd_pidfd_open(pid);
	if (reaper_add(r, REAPER_ADOPTED, pid, pidfd, on_end, &s, &w) < 0)
		return 3;
	event_base_once(base, -1, EV_TIMEOUT, on_tell, &teller, &later);
	run(base, 8000);
	if (s.calls != 1 || teller.told != 1)
		return 4;
	close(teller.fd);
	waitpid(parent, NULL, 0);
	reaper_free(r);
	event_base_free(base);
	close(pidfd);
	/* before 6.15 nobody can tell; a made-up 0 is wrong anywhere */
	return !s.last.known ? 5 : s.last.exit_code || s.last.signal ? 6 : 0;
}

static void test_zombie_without_rights(void **state)
{
	pid_t pid = fork();
	int status, r;

	(void)state;
	if (pid == 0)
		_exit(without_ptrace());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	r = WEXITSTATUS(status);
	if (r == 5)
		skip();
	assert_int_equal(r, 0);
}

/* A reactor that ends with watches open, and children that ended before the reaper was there. */
static void test_ends(void **state)
{
	struct event_base *base = event_base_new();
	struct seen s = { .base = base, .stop_after = 1 };
	struct reaper *r;
	struct reaper_watch *w;
	pid_t sleeper = spawn_sleeper(), pid = spawn_exit(8);
	int pidfd = fd_pidfd_open(sleeper);

	(void)state;
	usleep(50000);
	assert_int_equal(reaper_new(&r, base), 0);
	assert_int_equal(reaper_add(r, REAPER_CHILD, pid, -1, on_end, &s, &w), 0);
	run(base, 5000);
	assert_int_equal(s.calls, 1);
	assert_int_equal(s.last.exit_code, 8);
	assert_int_equal(reaper_add(r, REAPER_CHILD, sleeper, -1, never, NULL, &w), 0);
	assert_int_equal(reaper_add(r, REAPER_ADOPTED, sleeper, pidfd, never, NULL, &w), 0);
	reaper_free(r);
	reaper_free(NULL);
	close(pidfd);
	event_base_free(base);
	kill(sleeper, SIGKILL);
	assert_int_equal(waitpid(sleeper, NULL, 0), sleeper);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_exit_and_signal, setup, teardown),
		cmocka_unit_test_setup_teardown(test_early, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crowd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(test_guardian, setup, teardown),
		cmocka_unit_test_setup_teardown(test_early_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_adopted_reaped, setup, teardown),
		cmocka_unit_test(test_zombie_without_rights),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
