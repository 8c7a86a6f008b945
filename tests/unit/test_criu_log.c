// SPDX-License-Identifier: Apache-2.0
/*
 * criu's log, put into words. The lines are criu 4.1.1's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/criu_log.h"
#include "util/cleanup.h"

static void fault_of(struct fault *f, const char *log, bool restore)
{
	memset(f, 0x55, sizeof(*f));
	criu_log_fault(f, log, log ? strlen(log) : 0, restore, 1, 0);
}

static void test_known(void **state)
{
	static const struct {
		const char *line, *says;
	} known[] = {
		{ "Can't dump file 5 of that type [600] (unknown [io_uring])", "io_uring" },
		{ "send_fds failed (-22)", "io_uring" },
		{ "unix: Unix socket 5 without peer 6", "another network namespace" },
		{ "Can't dump a pid namespace without the process init", "of another one" },
		{ "mqueue isn't empty", "message queue" },
		{ "net: Unknown peer net namespace", "options.network_namespace" },
		{ "Can't get rlimit 0: Operation not permitted", "CAP_SYS_RESOURCE" },
		{ "sockets: Can't get 1:16 opt: Operation not supported", "criu 4.2 or newer" },
		{ "Can't dump file 5 of that type [20666] (chr 10:200)", "something open" },
		{ "inet: Connected TCP socket, consider using --tcp-established option.",
		  "open_tcp" },
		{ "unix: External socket is used. Consider using --ext-unix-sk option.",
		  "external_unix_sockets" },
		{ "Some file locks are hold by dumping tasks! You can try --file-locks to dump them.",
		  "file_locks" },
		{ "Can't create link remap for /x. Use link-remap option.", "link_remap" },
		{ "Can't dump ghost file /x of 2097152 size, increase limit", "more than 4 GiB" },
		{ "tty: Found dangling tty with sid 5 pgid 5 (pts) on peer fd 0.",
		  "option terminal" },
		{ "The root process 7 is not a session leader. Consider using --shell-job option",
		  "option terminal" },
		{ "Task 5 with SysVIPC shmem map @7f00 doesn't live in IPC ns", "System V" },
		{ "Open files on overmounted mounts are not supported yet; mount=5 fd=3 path=/x",
		  "another one covers" },
		{ "mnt: Mount 5 /x (master_id: 1 shared_id: 2) has unreachable sharing. Try --enable-external-masters.",
		  "slave mount" },
		{ "mnt: Mount 5 ./x (master_id: 0 shared_id: 0) doesn't have a proper root mount",
		  "bind mount of the spec" },
		{ "mnt: FS mnt ./x dev 0x50 root / unsupported id 5", "of a type" },
		{ "failed to dump fs ./x (fuse): always fail", "of a type" },
		{ "Can't lookup mount=5 for fd=3 path=/x", "outside of the container's mounts" },
		{ "kerndat_get_hugetlb_dev failed when initializing kerndat.", "lack something" },
		{ "execvp(\"iptables-restore\", ...) failed: No such file or directory",
		  "install iptables" },
		{ "execvp(\"ip\", ...) failed: No such file or directory", "install iproute2" },
		{ "execvp(\"nft\", ...) failed: No such file or directory", "install nftables" },
		{ "execvp(\"tar\", ...) failed: No such file or directory", "program tar" },
		{ "net: Locking network failed: iptables-restore returned 1. This may be connected to disabled CONFIG_NETFILTER_XT_MARK kernel build config option.",
		  "network_lock: skip" },
		{ "inet: Connected TCP socket in image", "tcp_close" },
		{ "File /bin/x has bad size 5 (expect 6)", "was changed" },
		{ "File /bin/x has bad mode 0644 (expect 0755)", "was changed" },
		{ "File /bin/x has bad build-ID", "program or library" },
		{ "mnt: No mapping for 5:/data mountpoint", "not handed in" },
		{ "inet: Can't bind inet socket (id 5): Address already in use", "is in use" },
		{ "inet: Can't bind inet socket (id 5): Cannot assign requested address",
		  "not there" },
		{ "inet: Can't bind inet socket (id 5): Permission denied", "cannot be had" },
		{ "Can't fork for 7: File exists", "process id" },
		{ "Pid 5 do not match expected 7", "process id" },
		{ "cpu: CPU capabilities do not match run time", "processor" },
		{ "write: No space left on device", "disk is full" },
		{ "Can't mmap: Cannot allocate memory", "not enough memory" },
		{ "Timeout reached. Try to interrupt: 0", "ran out of time" },
		{ "vdso: Unexpected rt vDSO area bounds", "too old" },
		{ "Can't open file x: No such file or directory", "is not there" },
	};
	struct fault f;
	char log[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		snprintf(log, sizeof(log),
			 "(00.001000) Version: 4.1.1\n"
			 "(00.010000) Error (criu/x.c:12): %s\n"
			 "(00.020000)      1: Error (criu/cr-dump.c:2111): Dumping FAILED.\n",
			 known[i].line);
		fault_of(&f, log, i & 1);
		if (f.code != FAULT_FAILED_PRECONDITION || !strstr(f.message, known[i].says) ||
		    !strstr(f.message, known[i].line) ||
		    strncmp(f.message,
			    i & 1 ? "the restore failed: " : "the checkpoint failed: ", 20) != 0)
			fail_msg("%s: %s", known[i].line, f.message);
		if (strncmp(f.log, known[i].line, strlen(known[i].line)) != 0 ||
		    !strstr(f.log, "\nDumping FAILED."))
			fail_msg("%s", f.log);
	}
}

static void test_unknown(void **state)
{
	static const char log[] =
		"(00.1) Warn  (criu/a.c:1): Error in a warning\n"
		"(00.2) something: No space left on device, but no error\n"
		"(00.3) Error (criu/rst.c:1): rlimit: Can't setup RLIMIT_NOFILE for self: x\n"
		"(00.4) Error (criu/b.c:7): the cause: of it\n"
		"(00.5) Error (criu/c.c:8): what came of it";
	struct fault f;

	(void)state;
	fault_of(&f, log, false);
	assert_int_equal(f.code, FAULT_UNKNOWN);
	assert_string_equal(f.message, "the checkpoint failed: criu says: the cause: of it");
	assert_string_equal(f.log, "the cause: of it\nwhat came of it");
}

static void test_silent(void **state)
{
	struct fault f;

	(void)state;
	fault_of(&f, "", true);
	assert_int_equal(f.code, FAULT_UNKNOWN);
	assert_string_equal(f.message, "the restore failed: criu ended with 1 and gave no reason");
	assert_string_equal(f.log, "");
	criu_log_fault(&f, NULL, 0, false, 0, 9);
	assert_string_equal(f.message, "the checkpoint failed: criu was ended by signal 9");
	fault_of(&f, "no line of criu's\n\n\n", false);
	assert_string_equal(f.message,
			    "the checkpoint failed: criu ended with 1 and gave no reason");
}

/* Long lines, many lines, bytes that are no text: kept within the fault. */
static void test_large(void **state)
{
	size_t room = 64 << 10, n = 0;
	char *log = malloc(room);
	struct fault f;

	(void)state;
	n += (size_t)snprintf(log + n, room - n, "(00.1) Error (criu/a.c:1): ");
	memset(log + n, 'x', 5000);
	n += 5000;
	log[n++] = '\n';
	n += (size_t)snprintf(log + n, room - n, "(00.1) Error (criu/a.c:1): nul");
	log[n++] = '\0';
	log[n++] = '\n';
	for (int i = 0; i < 400; i++)
		n += (size_t)snprintf(log + n, room - n, "(00.1) Error (criu/a.c:1): line %d\n", i);
	criu_log_fault(&f, log, n, false, 1, 0);
	assert_int_equal(f.code, FAULT_UNKNOWN);
	assert_true(strlen(f.message) < 600);
	assert_true(strstr(f.log, "nul?\nline 0\nline 1") != NULL);
	assert_null(strstr(f.log, "xxx"));
	assert_true(strlen(f.log) < sizeof(f.log));
	/* and wherever it is cut off */
	for (size_t i = 0; i < 6000; i += 7)
		criu_log_fault(&f, log, i, true, 1, 0);
	free(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_silent),
		cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
