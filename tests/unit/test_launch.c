// SPDX-License-Identifier: Apache-2.0
/* Launches: the life of a container, its namespaces, devices, identity, limits, terminal and standard streams. */
#include "launch_kit.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

static void test_life(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state, &(struct kit_parts){ .sh = "echo hello; exit 7" });
	assert_int_equal(k->r, 0);
	assert_true(k->ready);
	assert_true(k->started);
	assert_int_equal(k->status, 7);
	assert_string_equal(k->out, "hello\n");
	kit_done(k);
}

static void not_yet(struct kit_run *k)
{
	/* ready is not started: the program has not run */
	usleep(20000);
	kit_drain(k, *(int *)k->user);
	assert_int_equal(k->used, 0);
}

static void test_waits_for_start(void **state)
{
	struct kit_run *k = kit_new();
	int none = open("/dev/null", O_RDONLY);

	k->user = &none;
	k->on_ready = not_yet;
	kit_run(k, *state, &(struct kit_parts){ .sh = "echo x" });
	kit_ok(k);
	assert_string_equal(k->out, "x\n");
	close(none);
	kit_done(k);
}

static void test_dies_with_owner(void **state)
{
	struct kit_run *k = kit_new();
	struct pollfd p;
	char path[64], buf[64];

	k->hold = true;
	kit_run(k, *state, &(struct kit_parts){ .sh = "echo x" });
	assert_true(k->ready);
	/* the waiting init is the host root's, and none of the container may look into it */
	snprintf(path, sizeof(path), "/proc/%d/status", k->pid);
	assert_int_equal(kit_lines(path, "SigBlk:\t0000000000000000"), 1);
	snprintf(path, sizeof(path), "/proc/%d/fd/0", k->pid);
	assert_true(readlink(path, buf, sizeof(buf)) > 0);
	launch_free(k->launch);
	k->launch = NULL;
	p = (struct pollfd){ .fd = k->pidfd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	kit_reap(k);
	assert_int_equal(k->status, 1);
	kit_done(k);
}

static void test_killed_while_waiting(void **state)
{
	struct kit_run *k = kit_new();
	struct pollfd p;

	k->hold = true;
	kit_run(k, *state, &(struct kit_parts){ .sh = "echo x" });
	kill(k->pid, SIGKILL);
	p = (struct pollfd){ .fd = launch_fd(k->launch), .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(launch_read(k->launch, &k->fault), LAUNCH_FAILED);
	assert_non_null(strstr(k->fault.message, "before it was started"));
	kit_reap(k);
	assert_int_equal(k->status, 128 + SIGKILL);
	kit_done(k);
}

static void test_resume(void **state)
{
	struct kit_run *k = kit_new();
	struct launch *again;
	struct pollfd p;

	k->hold = true;
	kit_run(k, *state, &(struct kit_parts){ .args = "[\"/bin/sh\",\"-c\",\"exit 5\"]" });
	assert_int_equal(
		launch_resume(&again, fcntl(launch_fd(k->launch), F_DUPFD_CLOEXEC, 3), k->pid, -1),
		0);
	launch_free(k->launch);
	k->launch = again;
	assert_int_equal(launch_read(again, &k->fault), LAUNCH_AGAIN);
	assert_int_equal(launch_start(again), 0);
	p = (struct pollfd){ .fd = launch_fd(again), .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(launch_read(again, &k->fault), LAUNCH_STARTED);
	kit_reap(k);
	assert_int_equal(k->status, 5);
	kit_done(k);
}

static void test_namespaces(void **state)
{
	static const char *const names[] = { "pid", "mnt", "ipc", "uts", "net", "cgroup", "time" };
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){
			.ns = KIT_NS
			",{\"type\":\"network\"},{\"type\":\"cgroup\"},{\"type\":\"time\"}",
			.top = ",\"hostname\":\"box\",\"domainname\":\"dom\"",
			.sh = "echo pid=$$; hostname; cat /proc/sys/kernel/domainname; ip -o link show lo; "
			      "for i in pid mnt ipc uts net cgroup time user; do readlink /proc/self/ns/$i; done",
		});
	kit_ok(k);
	kit_has(k, "pid=1\n");
	kit_has(k, "box\n");
	kit_has(k, "dom\n");
	kit_has(k, "LOOPBACK,UP");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64], own[64] = "";

		snprintf(path, sizeof(path), "/proc/self/ns/%s", names[i]);
		assert_true(readlink(path, own, sizeof(own) - 1) > 0);
		if (strstr(k->out, own))
			fail_msg("%s is the host's", names[i]);
		snprintf(own, sizeof(own), "%s:[", names[i]);
		kit_has(k, own);
	}
	/* not asked for: the host's */
	{
		char own[64] = "";

		assert_true(readlink("/proc/self/ns/user", own, sizeof(own) - 1) > 0);
		kit_has(k, own);
	}
	kit_done(k);
}

static void test_host_namespaces(void **state)
{
	struct kit_run *k = kit_new();

	/* nothing but a mount namespace: the process sees the host's pids */
	kit_run(k, *state,
		&(struct kit_parts){ .ns = "{\"type\":\"mount\"}",
				     .sh = "test $$ != 1 && test -d /proc/1 && echo ok" });
	kit_ok(k);
	kit_has(k, "ok");
	kit_done(k);

	k = kit_new();
	kit_run(k, *state,
		&(struct kit_parts){ .ns = "{\"type\":\"mount\"}",
				     .top = ",\"hostname\":\"box\"" });
	assert_true(k->at_new);
	assert_non_null(strstr(k->fault.message, "hostname"));
	kit_done(k);
}

static void test_no_mount_namespace(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){ .ns = "{\"type\":\"uts\"}",
				     .all_mounts = "",
				     .sh = "ls /; test -f /bin/busybox" });
	kit_ok(k);
	kit_has(k, "bin\n");
	kit_done(k);
	k = kit_new();
	kit_run(k, *state, &(struct kit_parts){ .ns = "{\"type\":\"uts\"}" });
	assert_true(k->at_new);
	assert_non_null(strstr(k->fault.message, "mount namespace"));
	kit_done(k);
}

static void test_join_paths(void **state)
{
	struct kit_run *first = kit_new(), *k = kit_new();
	char ns[512], own[64] = "", path[64];

	first->stay = true;
	kit_run(first, *state,
		&(struct kit_parts){ .ns = KIT_NS ",{\"type\":\"network\"},{\"type\":\"time\"}",
				     .args = "[\"/bin/sleep\",\"100\"]" });
	assert_true(first->started);
	snprintf(
		ns, sizeof(ns),
		"{\"type\":\"mount\"},{\"type\":\"pid\",\"path\":\"/proc/%d/ns/pid\"},{\"type\":\"network\",\"path\":\"/proc/%d/ns/net\"},"
		"{\"type\":\"ipc\",\"path\":\"/proc/%d/ns/ipc\"},{\"type\":\"uts\",\"path\":\"/proc/%d/ns/uts\"},"
		"{\"type\":\"time\",\"path\":\"/proc/%d/ns/time\"}",
		first->pid, first->pid, first->pid, first->pid, first->pid);
	kit_run(k, *state,
		&(struct kit_parts){
			.ns = ns,
			.sh = "for i in pid ipc uts net time; do readlink /proc/self/ns/$i; done; ps; echo pid=$$" });
	kit_ok(k);
	for (int i = 0; i < 5; i++) {
		static const char *const names[] = { "pid", "ipc", "uts", "net", "time" };

		memset(own, 0, sizeof(own));
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", first->pid, names[i]);
		assert_true(readlink(path, own, sizeof(own) - 1) > 0);
		kit_has(k, own);
	}
	kit_has(k, "sleep 100");
	/* and the daemon's own threads stay where they were */
	{
		char a[64] = "", b[64] = "";

		assert_true(readlink("/proc/thread-self/ns/pid_for_children", a, sizeof(a) - 1) >
			    0);
		assert_true(readlink("/proc/self/ns/pid", b, sizeof(b) - 1) > 0);
		assert_string_equal(a, b);
	}
	kill(first->pid, SIGKILL);
	kit_reap(first);
	kit_done(first);
	kit_done(k);
}

static void test_time_offsets(void **state)
{
	struct kit_run *k = kit_new();
	struct timespec now;
	double up;

	kit_run(k, *state,
		&(struct kit_parts){
			.ns = KIT_NS ",{\"type\":\"time\"}",
			.lin = ",\"timeOffsets\":{\"boottime\":{\"secs\":1000000,\"nanosecs\":5},\"monotonic\":{\"secs\":50}}",
			.sh = "cat /proc/uptime /proc/self/timens_offsets" });
	kit_ok(k);
	clock_gettime(CLOCK_BOOTTIME, &now);
	up = strtod(k->out, NULL);
	assert_true(up > (double)now.tv_sec + 999990 && up < (double)now.tv_sec + 1000010);
	kit_has(k, "monotonic          50         0");
	kit_done(k);
	k = kit_new();
	kit_run(k, *state,
		&(struct kit_parts){ .lin = ",\"timeOffsets\":{\"boottime\":{\"secs\":1}}" });
	assert_true(k->at_new);
	kit_done(k);
}

static void test_devices(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){
			.lin = ",\"devices\":[{\"path\":\"/dev/sub/disk\",\"type\":\"b\",\"major\":7,\"minor\":3,\"fileMode\":416,\"uid\":5,"
			       "\"gid\":6},{\"path\":\"/dev/pipe\",\"type\":\"p\"}]",
			.sh = "stat -c '%n %F %t:%T %a %u:%g' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/sub/disk "
			      "/dev/pipe; ls -l /dev/ptmx /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/core; echo x >/dev/null; "
			      "ls /dev/pts; stat -c 'shm %a' /dev/shm",
		});
	kit_ok(k);
	kit_has(k, "/dev/null character special file 1:3 666 0:0");
	kit_has(k, "/dev/zero character special file 1:5 666 0:0");
	kit_has(k, "/dev/full character special file 1:7 666");
	kit_has(k, "/dev/random character special file 1:8 666");
	kit_has(k, "/dev/urandom character special file 1:9 666");
	kit_has(k, "/dev/tty character special file 5:0 666");
	kit_has(k, "/dev/sub/disk block special file 7:3 640 5:6");
	kit_has(k, "/dev/pipe fifo 0:0 666 0:0");
	kit_has(k, "/dev/ptmx -> pts/ptmx");
	kit_has(k, "/dev/fd -> /proc/self/fd");
	kit_has(k, "/dev/core -> /proc/kcore");
	kit_has(k, "shm 1777");
	kit_done(k);
}

static void test_identity(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){
			.process =
				",\"user\":{\"uid\":1000,\"gid\":1001,\"additionalGids\":[7,8],\"umask\":63},\"noNewPrivileges\":true,"
				"\"oomScoreAdj\":321",
			.sh = "id; umask; grep -E '^(Cap|NoNew|Groups)' /proc/self/status; echo home=$HOME; cat /proc/self/oom_score_adj; "
			      "echo to-stdout >/dev/stdout",
		});
	kit_ok(k);
	kit_has(k, "uid=1000(user) gid=1001 groups=7,8");
	kit_has(k, "0077\n");
	kit_has(k, "CapPrm:\t0000000000000000");
	kit_has(k, "CapEff:\t0000000000000000");
	kit_has(k, "CapAmb:\t0000000000000000");
	kit_has(k, "NoNewPrivs:\t1");
	kit_has(k, "home=/home/user\n");
	kit_has(k, "\n321\n");
	kit_has(k, "to-stdout");
	kit_done(k);
}

static void test_capabilities(void **state)
{
	struct kit_run *k = kit_new();
	char *json = NULL;

	/* a user with ambient capabilities keeps them across the exec */
	assert_true(
		asprintf(
			&json,
			"{\"ociVersion\":\"1.3.0\",\"process\":{\"args\":[\"/bin/grep\",\"Cap\",\"/proc/self/status\"],\"cwd\":\"/\","
			"\"user\":{\"uid\":1000,\"gid\":1000},\"capabilities\":{\"bounding\":[\"CAP_NET_RAW\",\"CAP_KILL\"],"
			"\"effective\":[\"CAP_NET_RAW\"],\"permitted\":[\"CAP_NET_RAW\"],\"inheritable\":[\"CAP_NET_RAW\"],"
			"\"ambient\":[\"CAP_NET_RAW\"]}},\"root\":{\"path\":\"%s\"},\"mounts\":[" KIT_MOUNTS
			"],\"linux\":{\"namespaces\":[" KIT_NS "]}}",
			((struct kit *)*state)->rootfs) > 0);
	assert_int_equal(spec_parse_text(json, strlen(json), &k->spec, &k->fault), 0);
	free(json);
	kit_run_spec(k, k->spec);
	kit_ok(k);
	kit_has(k, "CapInh:\t0000000000002000");
	kit_has(k, "CapPrm:\t0000000000002000");
	kit_has(k, "CapEff:\t0000000000002000");
	kit_has(k, "CapBnd:\t0000000000002020");
	kit_has(k, "CapAmb:\t0000000000002000");
	kit_done(k);

	k = kit_new();
	kit_run(k, *state,
		&(struct kit_parts){
			.caps = "[]",
			.sh = "grep Cap /proc/self/status; mknod /tmp/x c 1 3 || echo no" });
	kit_ok(k);
	kit_has(k, "CapBnd:\t0000000000000000");
	kit_has(k, "CapEff:\t0000000000000000");
	kit_has(k, "no\n");
	kit_done(k);
}

static void test_unavailable_capability(void **state)
{
	struct kit_run *k;

	if (kit_lines("/proc/self/status", "CapEff:\t000001ffffffffff"))
		skip(); /* this host has all there are */
	k = kit_new();
	kit_run(k, *state, &(struct kit_parts){ .caps = "[\"CAP_SYS_RESOURCE\"]" });
	assert_true(k->at_new);
	assert_int_equal(k->fault.code, FAULT_PERMISSION_DENIED);
	assert_string_equal(k->fault.argument, "process.capabilities");
	kit_done(k);
}

static void test_limits(void **state)
{
	struct kit_run *k = kit_new();
	struct rlimit l;

	kit_run(k, *state,
		&(struct kit_parts){
			.process =
				",\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":100,\"hard\":200},{\"type\":\"RLIMIT_CORE\","
				"\"soft\":0,\"hard\":0}],\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":6},"
				"\"scheduler\":{\"policy\":\"SCHED_BATCH\",\"nice\":7}",
			.lin = ",\"personality\":{\"domain\":\"LINUX\"},\"memoryPolicy\":{\"mode\":\"MPOL_PREFERRED\",\"nodes\":\"0\"}",
			.sh = "ulimit -n; ulimit -Hn; ulimit -c; cat /proc/self/sched | grep policy; cut -d' ' -f19 /proc/self/stat; "
			      "cat /proc/self/numa_maps | head -1",
		});
	if (k->failed && !strcmp(k->fault.step, "memory policy") && k->fault.err == ENOSYS)
		skip();
	kit_ok(k);
	kit_has(k, "100\n200\n0\n");
	kit_has(k, "\n7\n");
	kit_done(k);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &l), 0);
	if (kit_lines("/proc/self/status", "CapEff:\t000001ffffffffff") ||
	    l.rlim_max == RLIM_INFINITY)
		return;
	k = kit_new();
	kit_run(k, *state,
		&(struct kit_parts){
			.process =
				",\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":100000000,\"hard\":100000000}]" });
	assert_true(k->failed);
	assert_false(k->ready);
	assert_int_equal(k->fault.code, FAULT_PERMISSION_DENIED);
	assert_non_null(strstr(k->fault.message, "RLIMIT_NOFILE"));
	kit_done(k);
}

static void test_terminal(void **state)
{
	struct kit_run *k = kit_new();

	k->terminal = true;
	k->width = 132;
	k->height = 43;
	kit_run(k, *state,
		&(struct kit_parts){
			.sh = "tty; stty size; ls -l /dev/console; test -t 0 && test -t 1 && test -t 2 && echo all; "
			      "echo ctl >/dev/tty; stat -c '%t:%T' /dev/console /dev/pts/0; ps -o pid,sid,tty | head -3" });
	kit_ok(k);
	kit_has(k, "/dev/pts/0");
	kit_has(k, "43 132");
	kit_has(k, "all\r\n");
	kit_has(k, "ctl\r\n");
	kit_has(k, "88:0\r\n88:0\r\n");
	kit_done(k);
	k = kit_new();
	k->terminal = true;
	kit_run(k, *state,
		&(struct kit_parts){
			.process =
				",\"user\":{\"uid\":1000,\"gid\":1000},\"consoleSize\":{\"width\":99,\"height\":33}",
			.sh = "stty size; stat -c %u /dev/pts/0; echo hi >/dev/pts/0" });
	kit_ok(k);
	kit_has(k, "33 99");
	kit_has(k, "1000");
	kit_has(k, "hi");
	kit_done(k);
}

static void test_no_leaked_fds(void **state)
{
	struct kit_run *k = kit_new();
	int socks[2], leaked = open("/tmp", O_RDONLY | O_DIRECTORY);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socks), 0);
	assert_true(leaked >= 0);
	kit_run(k, *state, &(struct kit_parts){ .sh = "ls -l /proc/self/fd; echo end" });
	kit_ok(k);
	/* 0, 1, 2 and ls' own */
	{
		int n = 0;

		for (const char *p = k->out; (p = strstr(p, " -> ")); p++)
			n++;
		assert_in_range(n, 3, 4);
	}
	assert_null(strstr(k->out, "socket:"));
	assert_null(strstr(k->out, "/tmp"));
	/* stdin is the container's null device, not the host's */
	kit_has(k, "0 -> /dev/null");
	close(leaked);
	close(socks[0]);
	close(socks[1]);
	kit_done(k);
}

static void test_null_is_the_containers(void **state)
{
	struct kit_run *k = kit_new();
	struct stat st;

	kit_run(k, *state,
		&(struct kit_parts){ .sh = "chmod 000 /proc/self/fd/0; stat -c %a /dev/null" });
	assert_int_equal(stat("/dev/null", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0666);
	kit_done(k);
}

static void test_signals(void **state)
{
	struct kit_run *k = kit_new();
	sigset_t all, before;

	/* whatever the daemon blocks or ignores, the container has a clean slate */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	kit_run(k, *state,
		&(struct kit_parts){ .args = "[\"/bin/grep\",\"Sig\",\"/proc/self/status\"]" });
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	kit_ok(k);
	kit_has(k, "SigBlk:\t0000000000000000");
	kit_has(k, "SigIgn:\t0000000000000000");
	kit_done(k);
}

static void test_sysctl(void **state)
{
	struct kit_run *k = kit_new();

	kit_run(k, *state,
		&(struct kit_parts){
			.ns = KIT_NS ",{\"type\":\"network\"}",
			.lin = ",\"sysctl\":{\"net.ipv4.ip_forward\":\"1\",\"kernel.msgmax\":\"4242\",\"net/ipv4/conf/lo/forwarding\":\"1\"}",
			.sh = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax" });
	kit_ok(k);
	assert_string_equal(k->out, "1\n4242\n");
	kit_done(k);
	k = kit_new();
	kit_run(k, *state,
		&(struct kit_parts){ .lin = ",\"sysctl\":{\"net.ipv4.ip_forward\":\"1\"}" });
	assert_true(k->at_new);
	assert_non_null(strstr(k->fault.message, "network"));
	kit_done(k);
	k = kit_new();
	kit_run(k, *state, &(struct kit_parts){ .lin = ",\"sysctl\":{\"vm.swappiness\":\"1\"}" });
	assert_true(k->at_new);
	assert_non_null(strstr(k->fault.message, "vm.swappiness"));
	kit_done(k);
	k = kit_new();
	kit_run(k, *state,
		&(struct kit_parts){ .lin = ",\"sysctl\":{\"kernel.msgmax\":\"nonsense\"}" });
	assert_true(k->failed);
	assert_string_equal(k->fault.path, "/proc/sys/kernel/msgmax");
	kit_done(k);
}

static void test_programs(void **state)
{
	const struct kit *kit = *state;
	static const struct {
		const char *args;
		bool at_new;
		int code;
	} rows[] = {
		{ "[\"/bin/none\"]", true, 127 },     { "[\"none\"]", true, 127 },
		{ "[\"/etc/passwd\"]", true, 126 },   { "[\"/bin\"]", true, 126 },
		{ "[\"/bin/garbage\"]", false, 126 }, { "[\"/bin/orphan\"]", false, 127 },
		{ "[\"/bin/true/x\"]", true, 127 },
	};

	kit_system(
		"printf 'nonsense' >%s/bin/garbage; printf '#!/bin/no-such-shell\\n' >%s/bin/orphan; "
		"chmod 755 %s/bin/garbage %s/bin/orphan",
		kit->rootfs, kit->rootfs, kit->rootfs, kit->rootfs);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kit_run *k = kit_new();

		kit_run(k, kit, &(struct kit_parts){ .args = rows[i].args });
		if (k->at_new != rows[i].at_new || k->fault.exit_code != rows[i].code) {
			kit_show(k);
			fail_msg("%s", rows[i].args);
		}
		if (!k->at_new) {
			assert_true(k->ready);
			assert_true(k->failed);
			assert_int_equal(k->status, rows[i].code);
		}
		kit_done(k);
	}
}

static void test_cwd(void **state)
{
	struct kit_run *k = kit_new();
	struct kit *kit = *state;
	char *json = kit_json(kit, &(struct kit_parts){ .args = "[\"pwd\"]" }),
	     *at = strstr(json, "\"cwd\":\"/\""), *next = NULL;

	assert_non_null(at);
	*at = 0;
	assert_true(asprintf(&next, "%s\"cwd\":\"/nowhere\"%s", json, at + 9) > 0);
	assert_int_equal(spec_parse_text(next, strlen(next), &k->spec, &k->fault), 0);
	kit_run_spec(k, k->spec);
	assert_true(k->at_new);
	assert_string_equal(k->fault.argument, "process.cwd");
	kit_done(k);
	free(next);
	k = kit_new();
	assert_true(asprintf(&next, "%s\"cwd\":\"/proc/sys/../../tmp\"%s", json, at + 9) > 0);
	assert_int_equal(spec_parse_text(next, strlen(next), &k->spec, &k->fault), 0);
	kit_run_spec(k, k->spec);
	kit_ok(k);
	assert_string_equal(k->out, "/tmp\n");
	kit_done(k);
	free(next);
	free(json);
}

struct many {
	const struct spec *spec;
	int bad;
};

/* No assertions here: cmocka's belong to the main thread. */
static void *many_lives(void *user)
{
	struct many *m = user;

	for (int i = 0; i < 25; i++) {
		struct launch_request r = { .spec = m->spec,
					    .id = "many",
					    .bundle = "",
					    .stdio = { -1, -1, -1 },
					    .join_pidfd = -1 };
		enum launch_event e = LAUNCH_AGAIN;
		struct launch *l = NULL;
		struct fault f = { 0 };
		int st = -1;

		if (launch_new(&l, &r, &f) < 0 || launch_spawn(l, &f) < 0) {
			fprintf(stderr, "%s\n", f.message);
			m->bad++;
			launch_free(l);
			continue;
		}
		while (e != LAUNCH_STARTED && e != LAUNCH_FAILED) {
			struct pollfd p = { .fd = launch_fd(l), .events = POLLIN };

			/* the end of the socket comes at once, not when another launch's child has gone */
			if (poll(&p, 1, 10000) != 1) {
				m->bad++;
				kill(launch_pid(l), SIGKILL);
			}
			e = launch_read(l, &f);
			if (e == LAUNCH_READY && launch_start(l) < 0)
				m->bad++;
		}
		m->bad += waitpid(launch_pid(l), &st, 0) < 0 || e != LAUNCH_STARTED || st != 3 << 8;
		launch_free(l);
	}
	return NULL;
}

static void test_side_by_side(void **state)
{
	char *json = kit_json(*state, &(struct kit_parts){ .args = "[\"sh\",\"-c\",\"exit 3\"]" });
	struct many m[4] = { 0 };
	struct spec *spec[4];
	pthread_t threads[4];
	struct fault f = { 0 };
	unsigned fds;

	fds = kit_fds();
	for (int i = 0; i < 4; i++) {
		/* json-c's counts are not atomic: a spec belongs to one thread */
		assert_int_equal(spec_parse_text(json, strlen(json), &spec[i], &f), 0);
		m[i].spec = spec[i];
		assert_int_equal(pthread_create(&threads[i], NULL, many_lives, &m[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(m[i].bad, 0);
		spec_free(spec[i]);
	}
	assert_int_equal(kit_fds(), fds);
	free(json);
}

static void test_leaves_nothing(void **state)
{
	unsigned fds = kit_fds(),
		 mounts = kit_lines("/proc/self/mountinfo", ((struct kit *)*state)->dir);
	struct kit_run *k;

	for (int i = 0; i < 20; i++) {
		k = kit_new();
		kit_run(k, *state,
			&(struct kit_parts){ .sh = "exit 0",
					     .ns = KIT_NS
					     ",{\"type\":\"network\"},{\"type\":\"cgroup\"}" });
		kit_ok(k);
		kit_done(k);
		k = kit_new();
		kit_run(k, *state,
			&(struct kit_parts){
				.mounts = ",{\"destination\":\"/x\",\"type\":\"nosuchfs\"}" });
		assert_true(k->failed);
		assert_non_null(strstr(k->fault.message, "mount nosuchfs to /x"));
		assert_string_equal(k->fault.path, "/x");
		kit_done(k);
	}
	assert_int_equal(kit_fds(), fds);
	assert_int_equal(kit_lines("/proc/self/mountinfo", ((struct kit *)*state)->dir), mounts);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_waits_for_start),
		cmocka_unit_test(test_dies_with_owner),
		cmocka_unit_test(test_killed_while_waiting),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_host_namespaces),
		cmocka_unit_test(test_no_mount_namespace),
		cmocka_unit_test(test_join_paths),
		cmocka_unit_test(test_time_offsets),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_unavailable_capability),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_no_leaked_fds),
		cmocka_unit_test(test_null_is_the_containers),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_sysctl),
		cmocka_unit_test(test_programs),
		cmocka_unit_test(test_cwd),
		cmocka_unit_test(test_side_by_side),
		cmocka_unit_test(test_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
