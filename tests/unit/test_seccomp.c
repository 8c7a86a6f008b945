// SPDX-License-Identifier: Apache-2.0
/*
 * Programs are not only compiled but loaded: each check forks a child that loads the program and makes calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/seccomp.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/json.h"

static json_object *profile_of(const char *text)
{
	json_object *j;
	struct fault f = { 0 };

	if (json_parse(text, strlen(text), &j, &f))
		fail_msg("%s: %s", text, f.message);
	return j;
}

static struct seccomp_program *get(struct seccomp_cache *c, const char *text)
{
	json_object *j = profile_of(text);
	struct seccomp_program *p;
	struct fault f = { 0 };

	if (seccomp_get(c, j, &p, &f))
		fail_msg("%s", f.message);
	json_object_put(j);
	return p;
}

static void bad(const char *text, const char *argument, const char *message)
{
	json_object *j = profile_of(text);
	struct seccomp_program *p = (struct seccomp_program *)1;
	struct seccomp_cache *c;
	struct fault f = { 0 };

	assert_int_equal(seccomp_cache_new(&c, 2), 0);
	for (int i = 0; i < 2; i++) {
		if (!seccomp_get(i ? c : NULL, j, &p, &f))
			fail_msg("taken: %s", text);
		assert_null(p);
		assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
		assert_string_equal(f.argument, argument);
		assert_string_equal(f.message, message);
		assert_int_not_equal(seccomp_get(i ? c : NULL, j, &p, NULL), 0);
	}
	seccomp_cache_free(c);
	json_object_put(j);
}

static int load(const struct seccomp_program *p)
{
	struct sock_fprog prog = { .len = p->length, .filter = p->code };
	unsigned flags = p->flags | (p->notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

/* Not _exit: sanitizers do more in it than a strict profile lets through. */
static void leave(int status)
{
	syscall(SYS_exit_group, status);
}

/* valgrind does not know seccomp(2). */
static void need_seccomp(void)
{
	uint32_t action = SECCOMP_RET_USER_NOTIF;

	if (!syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		return;
	print_message("SKIPPED: no seccomp(2) here: %s\n", strerror(errno));
	skip();
}

/* Runs `check` under the program; answers the wait status. */
static int run(const struct seccomp_program *p, int (*check)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		if (load(p) < 0)
			leave(100);
		leave(check());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void runs(const char *profile, int (*check)(void))
{
	struct seccomp_program *p = get(NULL, profile);
	int status = run(p, check);

	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("%s: status 0x%x", profile, status);
	seccomp_put(p);
}

static void dies(const char *profile, int (*check)(void))
{
	struct seccomp_program *p = get(NULL, profile);
	int status = run(p, check);

	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
		fail_msg("%s: status 0x%x", profile, status);
	seccomp_put(p);
}

static int answers(long nr, long a, long b, long c, int err)
{
	errno = 0;
	if (syscall(nr, a, b, c) == -1)
		return errno == err;
	return !err;
}

static int chroot_eperm(void)
{
	return !answers(SYS_chroot, (long)"/", 0, 0, EPERM) || !answers(SYS_getppid, 0, 0, 0, 0);
}

static int chroot_enosys(void)
{
	return !answers(SYS_chroot, (long)"/", 0, 0, ENOSYS) || !answers(SYS_getppid, 0, 0, 0, 0);
}

static int getppid_only(void)
{
	/* exit_group and write are allowed by the profile, nothing else. */
	return !answers(SYS_getppid, 0, 0, 0, 0) || !answers(SYS_getpid, 0, 0, 0, 71) ||
	       !answers(SYS_chdir, (long)"/", 0, 0, 71);
}

static void test_errno(void **state)
{
	(void)state;
	need_seccomp();
	runs("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"chroot\"],"
	     "\"action\":\"SCMP_ACT_ERRNO\"}]}",
	     chroot_eperm);
	runs("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"chroot\"],"
	     "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38}]}",
	     chroot_enosys);
	runs("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":71,\"syscalls\":[{\"names\":["
	     "\"getppid\",\"exit_group\",\"write\"],\"action\":\"SCMP_ACT_ALLOW\"}]}",
	     getppid_only);
}

/* What libseccomp does not know, and what the default says already, is skipped. */
static void test_skipped(void **state)
{
	(void)state;
	need_seccomp();
	runs("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"no_such_call\","
	     "\"chroot\",\"getppid_from_the_future\"],\"action\":\"SCMP_ACT_ERRNO\"}]}",
	     chroot_eperm);
	runs("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getppid\"],"
	     "\"action\":\"SCMP_ACT_ALLOW\"},{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_ERRNO\","
	     "\"errnoRet\":1,\"args\":null}]}",
	     chroot_eperm);
	runs("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":71,\"syscalls\":[{\"names\":["
	     "\"getpid\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":71},{\"names\":[\"getppid\","
	     "\"exit_group\",\"write\"],\"action\":\"SCMP_ACT_ALLOW\"}]}",
	     getppid_only);
}

static int call_getppid(void)
{
	syscall(SYS_getppid);
	return 0;
}

static volatile sig_atomic_t trapped;

static void on_sigsys(int sig, siginfo_t *info, void *user)
{
	(void)sig;
	(void)user;
	trapped = info->si_syscall == SYS_getppid ? 1 : 2;
}

static int trap_getppid(void)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &sa, NULL);
	syscall(SYS_getppid);
	return trapped != 1;
}

static int getppid_enosys(void)
{
	/* TRACE without a tracer. */
	return !answers(SYS_getppid, 0, 0, 0, ENOSYS);
}

static int getppid_works(void)
{
	return !answers(SYS_getppid, 0, 0, 0, 0);
}

static void test_actions(void **state)
{
	(void)state;
	need_seccomp();
#define ON_GETPPID(action)                                                                         \
	"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"getppid\"],\"action\":" \
	"\"" action "\"}]}"
	dies(ON_GETPPID("SCMP_ACT_KILL"), call_getppid);
	dies(ON_GETPPID("SCMP_ACT_KILL_THREAD"), call_getppid);
	dies(ON_GETPPID("SCMP_ACT_KILL_PROCESS"), call_getppid);
	runs(ON_GETPPID("SCMP_ACT_TRAP"), trap_getppid);
	runs(ON_GETPPID("SCMP_ACT_TRACE"), getppid_enosys);
	runs(ON_GETPPID("SCMP_ACT_LOG"), getppid_works);
	runs(ON_GETPPID("SCMP_ACT_ALLOW"), getppid_works);
	dies("{\"defaultAction\":\"SCMP_ACT_KILL_PROCESS\",\"syscalls\":[{\"names\":[\"exit_group\"],"
	     "\"action\":\"SCMP_ACT_ALLOW\"}]}",
	     call_getppid);
#undef ON_GETPPID
}

/* The third argument of lseek on a bad fd: EBADF when it is let through, ESRCH when the rule matches. */
static int64_t expect_match[4], expect_pass[4];

static int lseek_check(void)
{
	for (int i = 0; i < 4; i++)
		if (!answers(SYS_lseek, -1, expect_match[i], 0, ESRCH) ||
		    !answers(SYS_lseek, -1, expect_pass[i], 0, EBADF))
			return i + 1;
	return 0;
}

static void compare(const char *args, const int64_t match[4], const int64_t pass[4])
{
	char profile[512];

	snprintf(profile, sizeof(profile),
		 "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"lseek\"],"
		 "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":3,\"args\":[%s]}]}",
		 args);
	memcpy(expect_match, match, sizeof(expect_match));
	memcpy(expect_pass, pass, sizeof(expect_pass));
	runs(profile, lseek_check);
}

#define A(...) ((const int64_t[4]){ __VA_ARGS__ })
#define BIG 0x100000000ll

static void test_operators(void **state)
{
	(void)state;
	need_seccomp();
	compare("{\"index\":1,\"value\":5,\"op\":\"SCMP_CMP_EQ\"}", A(5, 5, 5, 5),
		A(4, 6, BIG + 5, 0));
	compare("{\"index\":1,\"value\":5,\"op\":\"SCMP_CMP_NE\"}", A(4, 6, BIG + 5, 0),
		A(5, 5, 5, 5));
	compare("{\"index\":1,\"value\":5,\"op\":\"SCMP_CMP_LT\"}", A(4, 0, 1, 3),
		A(5, 6, BIG, -1));
	compare("{\"index\":1,\"value\":5,\"op\":\"SCMP_CMP_LE\"}", A(4, 5, 0, 1),
		A(6, 7, BIG, -1));
	compare("{\"index\":1,\"value\":4294967296,\"op\":\"SCMP_CMP_GE\"}",
		A(BIG, BIG + 1, -1, BIG * 2), A(0, 5, BIG - 1, 1));
	compare("{\"index\":1,\"value\":4294967296,\"op\":\"SCMP_CMP_GT\"}",
		A(BIG + 1, -1, BIG * 2, BIG + 5), A(0, 5, BIG - 1, BIG));
	/* arg & value == valueTwo */
	compare("{\"index\":1,\"value\":6,\"valueTwo\":2,\"op\":\"SCMP_CMP_MASKED_EQ\"}",
		A(2, 3, 10, BIG + 2), A(6, 0, 4, BIG));
	compare("{\"index\":1,\"value\":18446744073709551615,\"op\":\"SCMP_CMP_EQ\"}",
		A(-1, -1, -1, -1), A(0, 1, INT64_MAX, 0xffffffffll));
	/* Both must hold. */
	compare("{\"index\":0,\"value\":7,\"op\":\"SCMP_CMP_NE\"},{\"index\":1,\"value\":5,\"op\":"
		"\"SCMP_CMP_EQ\"}",
		A(5, 5, 5, 5), A(4, 6, 7, 0));
	/* Conditions on one argument are alternatives. */
	compare("{\"index\":1,\"value\":5,\"op\":\"SCMP_CMP_EQ\"},{\"index\":1,\"value\":9,\"op\":"
		"\"SCMP_CMP_EQ\"}",
		A(5, 9, 5, 9), A(4, 6, 0, BIG + 9));
}

static void test_architectures(void **state)
{
	static const char base[] =
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[%s],"
		"\"syscalls\":[{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_ERRNO\"}]}";
	char profile[512];
	struct seccomp_program *one, *three;

	(void)state;
	need_seccomp();
	one = get(NULL, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":["
			"\"chroot\"],\"action\":\"SCMP_ACT_ERRNO\"}]}");
#if defined(__x86_64__)
	snprintf(profile, sizeof(profile), base,
		 "\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"");
#else
	snprintf(profile, sizeof(profile), base, "\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_ARM\"");
#endif
	runs(profile, chroot_eperm);
	three = get(NULL, profile);
	assert_true(three->length > one->length);
	seccomp_put(one);
	seccomp_put(three);
	/* All little-endian ones of the spec at once. */
	snprintf(profile, sizeof(profile), base,
		 "\"SCMP_ARCH_X86\",\"SCMP_ARCH_X86_64\",\"SCMP_ARCH_X32\",\"SCMP_ARCH_ARM\","
		 "\"SCMP_ARCH_AARCH64\",\"SCMP_ARCH_MIPSEL\",\"SCMP_ARCH_MIPSEL64\","
		 "\"SCMP_ARCH_MIPSEL64N32\",\"SCMP_ARCH_PPC64LE\",\"SCMP_ARCH_RISCV64\"");
	runs(profile, chroot_eperm);
}

static void test_flags(void **state)
{
	struct seccomp_program *p;

	(void)state;
	need_seccomp();
	p = get(NULL, "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":["
		      "\"SECCOMP_FILTER_FLAG_TSYNC\",\"SECCOMP_FILTER_FLAG_LOG\","
		      "\"SECCOMP_FILTER_FLAG_SPEC_ALLOW\"]}");
	assert_int_equal(p->flags, 7);
	assert_false(p->notify);
	assert_int_equal(run(p, getppid_works), 0);
	seccomp_put(p);
	p = get(NULL, "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
	assert_int_equal(p->flags, 0);
	seccomp_put(p);
}

#define NOTIFY(more)                                                                               \
	"{\"defaultAction\":\"SCMP_ACT_ALLOW\"," more                                              \
	"\"listenerPath\":\"/run/agent.sock\",\"listenerMetadata\":\"meta data\",\"syscalls\":"    \
	"[{\"names\":[\"getppid\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}"

static void notified(const char *profile, unsigned flags)
{
	struct seccomp_program *p = get(NULL, profile);
	int pair[2], listener = -1, status;
	size_t n = 1;
	char byte;
	pid_t pid;

	assert_true(p->notify);
	assert_int_equal(p->flags, flags);
	assert_string_equal(p->listener_path, "/run/agent.sock");
	assert_string_equal(p->listener_metadata, "meta data");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int fd = load(p);

		if (fd < 0 || fd_send(pair[1], "x", 1, &fd, 1, 0) != 1)
			leave(100);
		close(fd);
		leave(syscall(SYS_getppid) == 4711 ? 0 : 1);
	}
	close(pair[1]);
	if (fd_recv(pair[0], &byte, 1, &listener, &n, 0) != 1 || n != 1) {
		waitpid(pid, &status, 0);
		fail_msg("no listener, status 0x%x", status);
	}
	struct seccomp_notif req = { 0 };
	struct seccomp_notif_resp resp = { .val = 4711 };

	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req), 0);
	assert_int_equal(req.pid, pid);
	assert_int_equal(req.data.nr, SYS_getppid);
	resp.id = req.id;
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(listener);
	close(pair[0]);
	seccomp_put(p);
}

static void test_notify(void **state)
{
	(void)state;
	need_seccomp();
	notified(NOTIFY(""), 0);
	/* With a listener the kernel wants TSYNC_ESRCH beside TSYNC. */
	notified(NOTIFY("\"flags\":[\"SECCOMP_FILTER_FLAG_TSYNC\"],"), 1 | 16);
	notified(NOTIFY("\"flags\":[\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"],"), 32);
	bad("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}",
	    "linux.seccomp.listenerPath",
	    "linux.seccomp.listenerPath: is missing: with SCMP_ACT_NOTIFY somebody has to answer");
}

static void test_bad(void **state)
{
	(void)state;
	bad("[1]", "linux.seccomp", "linux.seccomp: must be an object");
	bad("{}", "linux.seccomp.defaultAction", "linux.seccomp.defaultAction: is missing");
	bad("{\"defaultAction\":1}", "linux.seccomp.defaultAction",
	    "linux.seccomp.defaultAction: must be a string, not a number");
	bad("{\"defaultAction\":\"SCMP_ACT_X\"}", "linux.seccomp.defaultAction",
	    "linux.seccomp.defaultAction: unknown seccomp action \"SCMP_ACT_X\"");
	bad("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"defaultErrnoRet\":1}",
	    "linux.seccomp.defaultErrnoRet",
	    "linux.seccomp.defaultErrnoRet: is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
	bad("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":4096}",
	    "linux.seccomp.defaultErrnoRet",
	    "linux.seccomp.defaultErrnoRet: 4096 is not in the range from 0 to 4095");
	bad("{\"defaultAction\":\"SCMP_ACT_NOTIFY\",\"listenerPath\":\"/x\"}",
	    "linux.seccomp.defaultAction",
	    "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY is for single syscalls: by default it would "
	    "hold up the container's own start");
#define WITH(rest) "{\"defaultAction\":\"SCMP_ACT_ALLOW\"," rest "}"
	bad(WITH("\"flags\":[\"SECCOMP_FILTER_FLAG_NEW_LISTENER\"]"), "linux.seccomp.flags[0]",
	    "linux.seccomp.flags[0]: unknown seccomp flag \"SECCOMP_FILTER_FLAG_NEW_LISTENER\"");
	bad(WITH("\"flags\":[\"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV\"]"), "linux.seccomp.flags",
	    "linux.seccomp.flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with "
	    "SCMP_ACT_NOTIFY");
	bad(WITH("\"listenerPath\":\"x\""), "linux.seccomp.listenerPath",
	    "linux.seccomp.listenerPath: is not an absolute path");
	bad(WITH("\"listenerMetadata\":\"x\""), "linux.seccomp.listenerMetadata",
	    "linux.seccomp.listenerMetadata: needs listenerPath");
	bad(WITH("\"syscalls\":[{\"names\":[],\"action\":\"SCMP_ACT_TRAP\"}]"),
	    "linux.seccomp.syscalls[0].names",
	    "linux.seccomp.syscalls[0].names: must name a syscall");
	bad(WITH("\"syscalls\":[{\"names\":[\"chroot\",1],\"action\":\"SCMP_ACT_TRAP\"}]"),
	    "linux.seccomp.syscalls[0].names[1]",
	    "linux.seccomp.syscalls[0].names[1]: must be a string, not a number");
	bad(WITH("\"syscalls\":[{\"names\":[\"chroot\"]}]"), "linux.seccomp.syscalls[0].action",
	    "linux.seccomp.syscalls[0].action: is missing");
	bad(WITH("\"syscalls\":[{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_TRAP\",\"errnoRet\":1}]"),
	    "linux.seccomp.syscalls[0].errnoRet",
	    "linux.seccomp.syscalls[0].errnoRet: is for SCMP_ACT_ERRNO and SCMP_ACT_TRACE only");
	bad(WITH("\"syscalls\":[{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":["
		 "{\"index\":6,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]}]"),
	    "linux.seccomp.syscalls[0].args[0].index",
	    "linux.seccomp.syscalls[0].args[0].index: 6 is not in the range from 0 to 5");
	bad(WITH("\"syscalls\":[{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_TRAP\",\"args\":["
		 "{\"index\":0,\"value\":1,\"op\":\"==\"}]}]"),
	    "linux.seccomp.syscalls[0].args[0].op",
	    "linux.seccomp.syscalls[0].args[0].op: unknown seccomp operator \"==\"");
	bad(WITH("\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\"}]"), "linux.seccomp.archMap",
	    "linux.seccomp.archMap: is of the container engines' form of a profile, not of the "
	    "spec's");
	bad(WITH("\"syscalls\":[{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_TRAP\",\"includes\":{"
		 "\"caps\":[\"CAP_SYS_CHROOT\"]}}]"),
	    "linux.seccomp.syscalls[0].includes",
	    "linux.seccomp.syscalls[0].includes: is of the container engines' form of a profile, not "
	    "of the spec's");
#undef WITH
}

static void test_bad_architectures(void **state)
{
	static const char *const names[] = { "SCMP_ARCH_PDP11", "SCMP_ARCH_", "x86_64",
					     "SCMP_ARCH_x86",
					     "SCMP_ARCH_A_VERY_LONG_NAME_OF_AN_ARCHITECTURE" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[256];
		json_object *j;
		struct seccomp_program *p;
		struct fault f = { 0 };

		snprintf(text, sizeof(text),
			 "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"%s\"]}",
			 names[i]);
		j = profile_of(text);
		assert_int_equal(seccomp_get(NULL, j, &p, &f), -EINVAL);
		assert_string_equal(f.argument, "linux.seccomp.architectures[0]");
		assert_non_null(strstr(f.message, "is not known to libseccomp"));
		json_object_put(j);
	}
}

static void profile_with(char *text, size_t size, int number)
{
	snprintf(text, size,
		 "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"chroot\"],"
		 "\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":%d}]}",
		 number);
}

static void test_cache(void **state)
{
	struct seccomp_cache *c;
	struct seccomp_program *p[6], *again;
	char text[256];

	(void)state;
	assert_int_equal(seccomp_cache_new(&c, 3), 0);
	for (int i = 0; i < 3; i++) {
		profile_with(text, sizeof(text), i + 1);
		p[i] = get(c, text);
		again = get(c, text);
		assert_ptr_equal(p[i], again);
		seccomp_put(again);
	}
	/* 0 becomes the most recent, so that 1 goes when 3 comes. */
	profile_with(text, sizeof(text), 1);
	seccomp_put(get(c, text));
	profile_with(text, sizeof(text), 4);
	p[3] = get(c, text);
	profile_with(text, sizeof(text), 1);
	again = get(c, text);
	assert_ptr_equal(again, p[0]);
	seccomp_put(again);
	profile_with(text, sizeof(text), 2);
	again = get(c, text);
	assert_ptr_not_equal(again, p[1]);
	/* What was pushed out lives as long as somebody uses it. */
	assert_int_equal(again->length, p[1]->length);
	assert_memory_equal(again->code, p[1]->code, again->length * sizeof(*again->code));
	seccomp_put(again);
	for (int i = 0; i < 3; i++)
		seccomp_put(p[i]);
	seccomp_cache_free(c);
	/* After the cache, too. */
	assert_true(p[3]->length > 0);
	seccomp_put(p[3]);
	seccomp_put(NULL);
	seccomp_cache_free(NULL);

	assert_int_equal(seccomp_cache_new(&c, 0), 0);
	p[0] = get(c, text);
	p[1] = get(c, text);
	assert_ptr_not_equal(p[0], p[1]);
	seccomp_put(p[0]);
	seccomp_put(p[1]);
	seccomp_cache_free(c);
}

/* The digest tells apart what could be confused. */
static void test_digest(void **state)
{
	static const char *const texts[] = {
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":[\"a\",\"b\"]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":[\"ab\"]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":[\"a\",[\"b\"]]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":{\"a\":\"b\"}}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":1}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":-1}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":18446744073709551615}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":1.5}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":true}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":false}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":null}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"x\":\"\"}",
	};
	enum { N = sizeof(texts) / sizeof(texts[0]) };
	struct seccomp_program *p[N];
	struct seccomp_cache *c;

	(void)state;
	assert_int_equal(seccomp_cache_new(&c, N), 0);
	for (int i = 0; i < N; i++) {
		p[i] = get(c, texts[i]);
		for (int j = 0; j < i; j++)
			assert_ptr_not_equal(p[i], p[j]);
	}
	for (int i = 0; i < N; i++)
		seccomp_put(p[i]);
	seccomp_cache_free(c);
}

struct worker {
	struct seccomp_cache *cache;
	pthread_barrier_t *barrier;
	const char *text;
	struct seccomp_program *program;
	int r;
};

static void *work(void *user)
{
	struct worker *w = user;
	json_object *j;

	w->r = json_parse(w->text, strlen(w->text), &j, NULL);
	if (w->r)
		return NULL;
	pthread_barrier_wait(w->barrier);
	w->r = seccomp_get(w->cache, j, &w->program, NULL);
	json_object_put(j);
	return NULL;
}

enum { WORKERS = 8 };

static void together(const char *text, struct worker w[WORKERS], struct seccomp_cache *c)
{
	pthread_t threads[WORKERS];
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, WORKERS);
	for (int i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){ .cache = c, .barrier = &barrier, .text = text };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &w[i]), 0);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&barrier);
}

static void test_threads(void **state)
{
	struct worker w[WORKERS];
	struct seccomp_cache *c;
	char text[256];

	(void)state;
	assert_int_equal(seccomp_cache_new(&c, 1), 0);
	for (int round = 0; round < 20; round++) {
		profile_with(text, sizeof(text), round + 1);
		together(text, w, c);
		for (int i = 0; i < WORKERS; i++) {
			assert_int_equal(w[i].r, 0);
			assert_ptr_equal(w[i].program, w[0].program);
		}
		for (int i = 0; i < WORKERS; i++)
			seccomp_put(w[i].program);
		/* All of them fail when it cannot be compiled. */
		profile_with(text, sizeof(text), 5000);
		together(text, w, c);
		for (int i = 0; i < WORKERS; i++) {
			assert_int_equal(w[i].r, -EINVAL);
			assert_null(w[i].program);
		}
	}
	seccomp_cache_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_errno),
		cmocka_unit_test(test_skipped),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_operators),
		cmocka_unit_test(test_architectures),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_notify),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bad_architectures),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
