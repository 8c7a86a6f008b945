// SPDX-License-Identifier: Apache-2.0
/* Launches: hooks on both sides, seccomp with a listener, network devices, and hooks of the runtime alone (runtime/hook.h). */
#include "launch_kit.h"

#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "runtime/hook.h"

static char *hooks_json(const char *kind, const char *hook)
{
	char *out = NULL;

	assert_true(asprintf(&out, ",\"hooks\":{\"%s\":[%s]},\"annotations\":{\"a\":\"b\"}", kind,
			     hook) > 0);
	return out;
}

static void parents_turn(struct kit_run *k)
{
	/* prestart and createRuntime come before pivot_root: the container's own root is not yet its "/" */
	char path[64], link[64] = "";
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/root/usr/bin", k->pid);
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", k->pid);
	assert_true(readlink(path, link, sizeof(link) - 1) > 0);
	assert_false(k->ready);
}

static void test_outside_hooks(void **state)
{
	struct kit_run *k = kit_new();
	char *json = hooks_json("createRuntime", "{\"path\":\"/bin/true\"}");

	k->on_hooks = parents_turn;
	kit_run(k, *state,
		&(struct kit_parts){
			.top = json, .ns = KIT_NS ",{\"type\":\"network\"}", .sh = "echo ran" });
	kit_ok(k);
	assert_true(k->hooks);
	kit_has(k, "ran");
	kit_done(k);
	free(json);
}

static void test_create_container(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char hook[1024], *json, *text;

	snprintf(
		hook, sizeof(hook),
		"{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"cat >%s/state; readlink /proc/self/ns/mnt >%s/mnt; env >%s/env; "
		"ls /usr >/dev/null && echo fine\"],\"env\":[\"KEY=value\"]}",
		kit->dir, kit->dir, kit->dir);
	json = hooks_json("createContainer", hook);
	kit_run(k, kit, &(struct kit_parts){ .top = json, .sh = "readlink /proc/self/ns/mnt" });
	kit_ok(k);
	free(json);
	/* in the container's mount namespace, with the runtime's paths, before anything of the container ran */
	assert_int_equal(fd_read_file(AT_FDCWD,
				      (snprintf(hook, sizeof(hook), "%s/mnt", kit->dir), hook),
				      4096, &text, NULL),
			 0);
	kit_has(k, text);
	free(text);
	assert_int_equal(fd_read_file(AT_FDCWD,
				      (snprintf(hook, sizeof(hook), "%s/state", kit->dir), hook),
				      4096, &text, NULL),
			 0);
	assert_non_null(strstr(text, "\"status\":\"creating\""));
	assert_non_null(strstr(text, "\"id\":\"test\""));
	assert_non_null(strstr(text, "\"annotations\":{\"a\":\"b\"}"));
	snprintf(hook, sizeof(hook), "\"pid\":%d", k->pid);
	assert_non_null(strstr(text, hook));
	free(text);
	assert_int_equal(fd_read_file(AT_FDCWD,
				      (snprintf(hook, sizeof(hook), "%s/env", kit->dir), hook),
				      4096, &text, NULL),
			 0);
	assert_non_null(strstr(text, "KEY=value"));
	free(text);
	kit_done(k);
}

static void test_start_container(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char *json = hooks_json(
		"startContainer",
		"{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"/bin/cat >/dev/shm/state; echo pid=$$ >>/dev/shm/state\"]},"
		"{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"/bin/cat >/dev/shm/second\"]}");

	kit_run(k, kit,
		&(struct kit_parts){ .top = json, .sh = "cat /dev/shm/state /dev/shm/second" });
	kit_ok(k);
	kit_has(k, "\"status\":\"created\"");
	kit_has(k, "pid=2\n");
	/* each hook gets the whole of it */
	assert_non_null(strstr(strstr(k->out, "created") + 1, "created"));
	free(json);
	kit_done(k);
}

static void test_failing_hooks(void **state)
{
	static const struct {
		const char *kind, *hook, *says;
		bool ready;
		enum fault_code code;
	} rows[] = {
		{ "createContainer",
		  "{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"echo reason >&2; exit 3\"]}",
		  "exit status 3", false, FAULT_FAILED_PRECONDITION },
		{ "startContainer",
		  "{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"echo reason >&2; kill -9 $$\"]}",
		  "signal 9", true, FAULT_FAILED_PRECONDITION },
		{ "createContainer", "{\"path\":\"/no/such\"}", "createContainer hook /no/such",
		  false, FAULT_FAILED_PRECONDITION },
		{ "createContainer",
		  "{\"path\":\"/bin/sleep\",\"args\":[\"sleep\",\"60\"],\"timeout\":1}",
		  "took too long", false, FAULT_DEADLINE_EXCEEDED },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kit_run *k = kit_new();
		char *json = hooks_json(rows[i].kind, rows[i].hook);

		kit_run(k, *state, &(struct kit_parts){ .top = json, .sh = "echo ran" });
		if (!k->failed || !strstr(k->fault.message, rows[i].says) ||
		    k->fault.code != rows[i].code || k->ready != rows[i].ready) {
			kit_show(k);
			fail_msg("%s", rows[i].hook);
		}
		assert_null(strstr(k->out, "ran"));
		if (strstr(rows[i].hook, "reason"))
			assert_string_equal(k->fault.log, "reason\n");
		free(json);
		kit_done(k);
	}
}

static void test_noisy_hook(void **state)
{
	struct kit_run *k = kit_new();
	char *json = hooks_json(
		"createContainer",
		"{\"path\":\"/bin/sh\",\"args\":[\"sh\",\"-c\",\"i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i+1)); done\"]}");

	/* more than any buffer holds: read and dropped */
	kit_run(k, *state, &(struct kit_parts){ .top = json, .sh = "echo ran" });
	kit_ok(k);
	kit_has(k, "ran");
	free(json);
	kit_done(k);
}

static void test_seccomp(void **state)
{
	static const char *const profile =
		",\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],"
		"\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":77}]}";

	for (int nnp = 0; nnp < 2; nnp++) {
		struct kit_run *k = kit_new();
		char *json = kit_json(
			*state,
			&(struct kit_parts){
				.lin = profile,
				.process =
					nnp ? ",\"noNewPrivileges\":true,\"user\":{\"uid\":9,\"gid\":9}"
					    : ",\"user\":{\"uid\":9,\"gid\":9}",
				.sh = "mkdir /dev/shm/x; echo status=$?; grep Seccomp: /proc/self/status" });

		assert_int_equal(spec_parse_text(json, strlen(json), &k->spec, &k->fault), 0);
		free(json);
		assert_int_equal(seccomp_get(NULL, k->spec->seccomp, &k->seccomp, &k->fault), 0);
		kit_run_spec(k, k->spec);
		kit_ok(k);
		kit_has(k, "status=1");
		kit_has(k, "Seccomp:\t2");
		seccomp_put(k->seccomp);
		kit_done(k);
	}
}

static void test_seccomp_listener(void **state)
{
	/* even the calls that the hand-over needs are to be answered by the listener */
	static const char *const profile =
		",\"seccomp\":{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"listenerPath\":\"/run/nowhere\",\"syscalls\":["
		"{\"names\":[\"mkdir\",\"mkdirat\",\"sendmsg\",\"recvfrom\"],\"action\":\"SCMP_ACT_NOTIFY\"}]}";
	struct kit_run *k = kit_new();
	char *json = kit_json(
		*state, &(struct kit_parts){
				.lin = profile,
				.sh = "mkdir /dev/shm/x 2>&1; ls -l /proc/self/task; echo end" });
	struct seccomp_notif req = { 0 };
	struct seccomp_notif_resp resp = { 0 };
	struct pollfd p;

	assert_int_equal(spec_parse_text(json, strlen(json), &k->spec, &k->fault), 0);
	free(json);
	assert_int_equal(seccomp_get(NULL, k->spec->seccomp, &k->seccomp, &k->fault), 0);
	assert_true(k->seccomp->notify);
	k->stay = true;
	kit_run_spec(k, k->spec);
	assert_true(k->started);
	assert_true(k->listener);
	assert_true(k->listener_fd >= 0);
	p = (struct pollfd){ .fd = k->listener_fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(ioctl(k->listener_fd, SECCOMP_IOCTL_NOTIF_RECV, &req), 0);
	assert_true(req.data.nr == SYS_mkdir || req.data.nr == SYS_mkdirat);
	resp.id = req.id;
	resp.error = -ENOSPC;
	assert_int_equal(ioctl(k->listener_fd, SECCOMP_IOCTL_NOTIF_SEND, &resp), 0);
	kit_reap(k);
	assert_int_equal(k->status, 0);
	seccomp_put(k->seccomp);
	kit_done(k);
}

static void test_net_devices(void **state)
{
	char a[16], b[16], ap[20], bp[20], lin[512];
	struct kit_run *k = kit_new();

	/* names of this process' own, as tests may run side by side */
	snprintf(a, sizeof(a), "dva%d", (int)getpid());
	snprintf(b, sizeof(b), "dvb%d", (int)getpid());
	snprintf(ap, sizeof(ap), "%sp", a);
	snprintf(bp, sizeof(bp), "%sp", b);
	snprintf(lin, sizeof(lin), "ip link add %s type veth peer name %s 2>/dev/null", a, ap);
	if (kit_try(lin))
		skip(); /* neither may we, nor can the kernel, make one to be moved */
	kit_system(
		"ip addr add 10.99.0.1/24 dev %s && ip addr add fd00:99::1/64 dev %s && "
		"ip link add %s type veth peer name %s && ip link set %s up && ip link set %s up",
		a, a, b, bp, ap, a);
	snprintf(lin, sizeof(lin),
		 ",\"netDevices\":{\"%s\":{\"name\":\"ctr0\"},\"%s\":{}},"
		 "\"sysctl\":{\"net/ipv4/conf/ctr0/forwarding\":\"1\"}",
		 a, b);
	kit_run(k, *state,
		&(struct kit_parts){ .ns = KIT_NS ",{\"type\":\"network\"}",
				     .lin = lin,
				     .sh = "ip -o addr; ip -o link | grep -c UP; ip -o link; "
					   "cat /proc/sys/net/ipv4/conf/ctr0/forwarding" });
	kit_ok(k);
	kit_has(k, "ctr0    inet 10.99.0.1/24");
	kit_has(k, "ctr0    inet6 fd00:99::1/64");
	kit_has(k, b);
	kit_has(k, "ctr0@");
	kit_has(k, "\n3\n"); /* lo and both */
	kit_has(k, "\n1\n");
	kit_done(k);
	assert_int_equal(if_nametoindex(a), 0);
	for (int i = 0; i < 100 && (if_nametoindex(ap) || if_nametoindex(bp)); i++)
		usleep(20000); /* the kernel ends network namespaces at its leisure */

	/* one that is not there: the other comes back as it was */
	kit_system("ip link add %s type veth peer name %s && ip addr add 10.99.0.1/24 dev %s && "
		   "ip link set %s up",
		   a, ap, a, a);
	k = kit_new();
	snprintf(lin, sizeof(lin), ",\"netDevices\":{\"%s\":{\"name\":\"ctr0\"},\"no-such\":{}}",
		 a);
	kit_run(k, *state,
		&(struct kit_parts){ .ns = KIT_NS ",{\"type\":\"network\"}", .lin = lin });
	assert_true(k->r < 0);
	assert_non_null(strstr(k->fault.message, "no-such"));
	assert_int_equal(k->fault.code, FAULT_NOT_FOUND);
	kit_done(k);
	assert_true(if_nametoindex(a) > 0);
	kit_system(
		"ip -o addr show dev %s | grep -q 10.99.0.1/24 && ip link show %s | grep -q UP && "
		"ip link del %s",
		a, a, a);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	k = kit_new();
	kit_run(k, *state, &(struct kit_parts){ .lin = ",\"netDevices\":{\"dv0\":{}}" });
	assert_true(k->at_new);
	kit_done(k);
}

static void test_hook_alone(void **state)
{
	char *args[] = { "sh", "-c", "cat; echo \"$KEY\"; ls /proc/self/fd | wc -l; exit 4", NULL },
	     *env[] = { "KEY=v", "PATH=/bin:/usr/bin", NULL };
	struct spec_hook hook = {
		.path = "/bin/sh", .args = { args, 3 }, .env = { env, 2 }, .timeout = SPEC_ABSENT
	};
	struct spec spec = { 0 };
	struct fault f = { 0 };
	char *json, out[512] = "";
	int pidfd, fd, st;
	size_t used = 0;
	struct pollfd p;
	ssize_t n;
	pid_t pid;

	(void)state;
	assert_int_equal(hook_state(&spec, "id", "/b", "stopped", 0, &json), 0);
	assert_string_equal(
		json,
		"{\"ociVersion\":\"1.0.2\",\"id\":\"id\",\"status\":\"stopped\",\"bundle\":\"/b\"}");
	assert_int_equal(hook_spawn(&hook, json, &pid, &pidfd, &fd, &f), 0);
	p = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 5000), 1);
	while ((n = read(fd, out + used, sizeof(out) - 1 - used)) > 0)
		used += (size_t)n;
	assert_int_equal(waitpid(pid, &st, 0), pid);
	assert_int_equal(WEXITSTATUS(st), 4);
	assert_int_equal(strncmp(out, json, strlen(json)), 0);
	/* 0, 1, 2 and ls' own */
	assert_string_equal(out + strlen(json), "v\n4\n");
	close(pidfd);
	close(fd);
	hook.path = "/no/such";
	assert_int_equal(hook_spawn(&hook, json, &pid, &pidfd, &fd, &f), -ENOENT);
	assert_string_equal(f.path, "/no/such");
	free(json);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_outside_hooks),	 cmocka_unit_test(test_create_container),
		cmocka_unit_test(test_start_container),	 cmocka_unit_test(test_failing_hooks),
		cmocka_unit_test(test_noisy_hook),	 cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_seccomp_listener), cmocka_unit_test(test_net_devices),
		cmocka_unit_test(test_hook_alone),
	};

	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
