// SPDX-License-Identifier: Apache-2.0
/* Launches: processes that join a container, user namespaces, id-mapped mounts. */
#include "launch_kit.h"

#include <sys/mount.h>

static struct kit_run *start(const struct kit *kit, struct kit_parts *p)
{
	struct kit_run *k = kit_new();

	k->stay = true;
	p->args = "[\"/bin/sleep\",\"1000\"]";
	kit_run(k, kit, p);
	if (!k->started)
		kit_show(k);
	assert_true(k->started);
	return k;
}

static void stop(struct kit_run *k)
{
	kill(k->pid, SIGKILL);
	kit_reap(k);
	kit_done(k);
}

/* process: an OCI process as JSON */
static struct kit_run *join(struct kit_run *in, bool terminal, const char *process)
{
	struct kit_run *k = kit_new();
	json_object *j = json_tokener_parse(process);

	assert_non_null(j);
	if (spec_parse_process(j, &k->spec, &k->fault) < 0)
		fail_msg("%s", k->fault.message);
	json_object_put(j);
	k->join = in->pid;
	k->join_pidfd = in->pidfd;
	k->container = in->spec;
	k->terminal = terminal;
	kit_run_spec(k, k->spec);
	return k;
}

static void same_ns(struct kit_run *in, struct kit_run *k, const char *name)
{
	char path[64], link[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", in->pid, name);
	assert_true(readlink(path, link, sizeof(link) - 1) > 0);
	kit_has(k, link);
}

static void test_exec(void **state)
{
	struct kit_run *in = start(
		*state, &(struct kit_parts){
				.ns = KIT_NS
				",{\"type\":\"network\"},{\"type\":\"time\"},{\"type\":\"cgroup\"}",
				.top = ",\"hostname\":\"inner\"",
				.process = ",\"noNewPrivileges\":true,\"oomScoreAdj\":77" });
	struct kit_run *k = join(
		in, false,
		"{\"args\":[\"sh\",\"-c\",\"hostname; for i in pid mnt ipc uts net time cgroup; do readlink /proc/self/ns/$i; "
		"done; ps; grep -E '^(Cap|NoNew)' /proc/self/status; cat /proc/self/oom_score_adj; pwd; echo h=$HOME; exit 9\"],"
		"\"cwd\":\"/tmp\",\"env\":[\"PATH=/bin\"]}");

	assert_true(k->started);
	assert_int_equal(k->status, 9);
	kit_has(k, "inner\n");
	kit_has(k, "1 root ");
	kit_has(k, "sleep 1000");
	kit_has(k, "NoNewPrivs:\t1");
	kit_has(k, "\n77\n");
	kit_has(k, "/tmp\n");
	kit_has(k, "h=/root\n");
	/* capabilities that the process does not give are the container's */
	{
		char want[128], line[128];
		FILE *f;

		snprintf(line, sizeof(line), "/proc/%d/status", in->pid);
		f = fopen(line, "re");
		assert_non_null(f);
		while (fgets(line, sizeof(line), f))
			if (!strncmp(line, "CapEff", 6)) {
				snprintf(want, sizeof(want), "%s", line);
				kit_has(k, want);
			}
		fclose(f);
	}
	for (int i = 0; i < 7; i++) {
		static const char *const names[] = { "pid", "mnt",  "ipc",   "uts",
						     "net", "time", "cgroup" };

		same_ns(in, k, names[i]);
	}
	kit_done(k);
	k = join(
		in, true,
		"{\"args\":[\"/bin/sh\",\"-c\",\"tty; stty size; id\"],\"cwd\":\"/\",\"user\":{\"uid\":1000,\"gid\":1000}}");
	kit_ok(k);
	kit_has(k, "/dev/pts/0");
	kit_has(k, "24 80");
	kit_has(k, "uid=1000(user)");
	kit_done(k);
	k = join(in, false, "{\"args\":[\"nope\"],\"cwd\":\"/\"}");
	assert_true(k->failed);
	assert_false(k->ready);
	assert_int_equal(k->fault.exit_code, 127);
	kit_done(k);
	k = join(in, false, "{\"args\":[\"/bin/true\"],\"cwd\":\"/nope\"}");
	assert_true(k->failed);
	assert_string_equal(k->fault.path, "/nope");
	kit_done(k);
	k = join(
		in, false,
		"{\"args\":[\"/bin/grep\",\"Cpus_allowed_list\",\"/proc/self/status\"],\"cwd\":\"/\",\"execCPUAffinity\":{\"initial\":\"0\","
		"\"final\":\"0\"}}");
	kit_ok(k);
	kit_has(k, "Cpus_allowed_list:\t0\n");
	kit_done(k);
	stop(in);
}

static void test_exec_into_dead(void **state)
{
	struct kit_run *in = start(*state, &(struct kit_parts){ 0 }), *k;
	siginfo_t info;

	kill(in->pid, SIGKILL);
	assert_int_equal(waitid(P_PID, (id_t)in->pid, &info, WEXITED | WNOWAIT), 0);
	k = join(in, false, "{\"args\":[\"/bin/true\"],\"cwd\":\"/\"}");
	assert_true(k->r < 0 || k->failed);
	assert_false(k->ready);
	kit_done(k);
	kit_reap(in);
	kit_done(in);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
}

static void test_exec_fewer_namespaces(void **state)
{
	struct kit_run *in = start(*state, &(struct kit_parts){ .ns = "{\"type\":\"mount\"}" });
	struct kit_run *k = join(
		in, false,
		"{\"args\":[\"/bin/sh\",\"-c\",\"readlink /proc/self/ns/mnt; ls /\"],\"cwd\":\"/\"}");

	kit_ok(k);
	same_ns(in, k, "mnt");
	kit_done(k);
	stop(in);
	/* no mount namespace: the root is a chroot's */
	in = start(*state, &(struct kit_parts){ .ns = "{\"type\":\"uts\"},{\"type\":\"pid\"}",
						.all_mounts = "" });
	k = join(
		in, false,
		"{\"args\":[\"/bin/sh\",\"-c\",\"ls -d /bin /usr 2>/dev/null; echo $$\"],\"cwd\":\"/bin\"}");
	kit_ok(k);
	assert_null(strstr(k->out, "/usr"));
	kit_done(k);
	stop(in);
}

static void test_exec_cgroup(void **state)
{
	char parent[64], path[80];
	struct cgroup_host *host = kit_cgroups(parent, sizeof(parent));
	struct kit_run *in, *k;
	json_object *j;

	snprintf(path, sizeof(path), ":%s/a\n", parent);
	in = kit_new();
	in->cgroup = kit_cgroup(host, parent);
	in->stay = true;
	kit_run(in, *state, &(struct kit_parts){ .args = "[\"/bin/sleep\",\"1000\"]" });
	assert_true(in->started);
	k = kit_new();
	j = json_tokener_parse("{\"args\":[\"/bin/cat\",\"/proc/self/cgroup\"],\"cwd\":\"/\"}");
	assert_int_equal(spec_parse_process(j, &k->spec, &k->fault), 0);
	json_object_put(j);
	k->join = in->pid;
	k->join_pidfd = in->pidfd;
	k->container = in->spec;
	k->cgroup = in->cgroup;
	kit_run_spec(k, k->spec);
	kit_ok(k);
	{
		unsigned lines = 0, inside = 0;

		for (const char *p = k->out; (p = strchr(p, '\n')); p++)
			lines++;
		for (const char *p = k->out; (p = strstr(p, path)); p++)
			inside++;
		assert_int_equal(lines, inside);
	}
	kit_done(k);
	kill(in->pid, SIGKILL);
	kit_reap(in);
	kit_cgroup_end(in->cgroup);
	kit_done(in);
	kit_cgroups_end(host, parent);
}

#define MAPS                                                                                       \
	",\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"                 \
	"\"gidMappings\":[{\"containerID\":0,\"hostID\":200000,\"size\":65536}]"
#define USER_NS KIT_NS ",{\"type\":\"user\"},{\"type\":\"network\"}"

static void test_user_namespace(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char root[128], mounts[1024];

	snprintf(root, sizeof(root), "%s/userroot", kit->dir);
	kit_system(
		"rm -rf %s && cp -a %s %s && chown -R 100000:200000 %s && mkdir -p %s/secret/in && chmod 700 %s/secret && echo s >%s/secret/in/f",
		root, kit->rootfs, root, root, kit->dir, kit->dir, kit->dir);
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/sys\",\"type\":\"sysfs\",\"options\":[\"ro\"]},"
		"{\"destination\":\"/dev/mqueue\",\"type\":\"mqueue\"},"
		"{\"destination\":\"/secret\",\"type\":\"bind\",\"source\":\"%s/secret/in\",\"options\":[\"rbind\",\"ro\"]},"
		"{\"destination\":\"/mapped\",\"type\":\"bind\",\"source\":\"%s/secret/in\",\"options\":[\"rbind\",\"idmap\"]}",
		kit->dir, kit->dir);
	kit_run(k, kit,
		&(struct kit_parts){
			.root = root,
			.ns = USER_NS,
			.mounts = mounts,
			.lin = MAPS
			",\"maskedPaths\":[\"/proc/version\",\"/proc/irq\"],\"readonlyPaths\":[\"/proc/sys\"],"
			"\"sysctl\":{\"net.ipv4.ip_forward\":\"1\"}",
			.top = ",\"hostname\":\"usr\"",
			.process =
				",\"oomScoreAdj\":5,\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":50,\"hard\":60}]",
			.sh = "cat /proc/self/uid_map /proc/self/gid_map; id -u; hostname; stat -c '%n %u:%g' / /secret/f /mapped/f /dev/shm; "
			      "echo x >/dev/null; stat -c '%n %t:%T' /dev/null /proc/version; touch /made && stat -c %u /made; ls /sys; "
			      "ip -o link show lo; cat /proc/sys/net/ipv4/ip_forward; ls /proc/irq; cat /proc/self/oom_score_adj",
		});
	kit_ok(k);
	kit_has(k, "0     100000      65536");
	kit_has(k, "0     200000      65536");
	kit_has(k, "usr\n");
	kit_has(k, "/ 0:0");
	kit_has(k, "/secret/f 65534:65534");
	kit_has(k, "/mapped/f 0:0");
	kit_has(k, "/dev/null 1:3");
	kit_has(k, "/proc/version 1:3");
	kit_has(k, "LOOPBACK,UP");
	kit_has(k, "\n5\n");
	kit_done(k);
	kit_system("test $(stat -c %%u:%%g %s/made) = 100000:200000", root);
}

static void test_user_cgroup_and_stdio(void **state)
{
	const struct kit *kit = *state;
	char root[128], parent[64];
	struct cgroup_host *host = kit_cgroups(parent, sizeof(parent));

	snprintf(root, sizeof(root), "%s/userroot", kit->dir);
	for (int own = 0; own < 2; own++) {
		struct kit_run *k = kit_new();

		k->cgroup = kit_cgroup(host, parent);
		kit_run(k, kit,
			&(struct kit_parts){
				.root = root,
				.ns = own ? USER_NS ",{\"type\":\"cgroup\"}" : USER_NS,
				.mounts =
					",{\"destination\":\"/sys/fs/cgroup\",\"type\":\"cgroup\","
					"\"options\":[\"ro\"]}",
				.lin = MAPS,
				.sh = "cat /sys/fs/cgroup/pids/cgroup.procs || "
				      "cat /sys/fs/cgroup/cgroup.procs; echo again >/dev/stdout" });
		kit_ok(k);
		kit_has(k, "1\n");
		kit_has(k, "again\n");
		kit_cgroup_end(k->cgroup);
		kit_done(k);
	}
	kit_cgroups_end(host, parent);
}

static void test_user_terminal_and_exec(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *in, *k = kit_new();
	char root[128];

	snprintf(root, sizeof(root), "%s/userroot", kit->dir);
	k->terminal = true;
	kit_run(k, kit,
		&(struct kit_parts){
			.root = root,
			.ns = USER_NS,
			.lin = MAPS,
			.process = ",\"user\":{\"uid\":1000,\"gid\":1000}",
			.sh = "tty; id; stat -c '%u %t:%T' /dev/pts/0 /dev/console; test -t 0 && echo yes" });
	kit_ok(k);
	kit_has(k, "/dev/pts/0");
	kit_has(k, "uid=1000");
	kit_has(k, "1000 88:0");
	kit_done(k);

	in = start(kit,
		   &(struct kit_parts){ .root = root,
					.ns = USER_NS ",{\"type\":\"time\"},{\"type\":\"cgroup\"}",
					.lin = MAPS });
	k = join(
		in, false,
		"{\"args\":[\"/bin/sh\",\"-c\",\"id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net; cat /proc/self/uid_map; "
		"touch /by-exec\"],\"cwd\":\"/\"}");
	kit_ok(k);
	same_ns(in, k, "user");
	same_ns(in, k, "net");
	kit_has(k, "0     100000      65536");
	kit_done(k);
	kit_system("test $(stat -c %%u:%%g %s/by-exec) = 100000:200000", root);
	k = join(
		in, true,
		"{\"args\":[\"/bin/sh\",\"-c\",\"tty; id -u\"],\"cwd\":\"/\",\"user\":{\"uid\":7,\"gid\":7}}");
	kit_ok(k);
	kit_has(k, "/dev/pts/0\r\n7\r\n");
	kit_done(k);

	/* a second container in the first one's user namespace, with a pid namespace and mounts of its own */
	{
		char ns[512];

		snprintf(
			ns, sizeof(ns),
			KIT_NS
			",{\"type\":\"user\",\"path\":\"/proc/%d/ns/user\"},{\"type\":\"network\",\"path\":\"/proc/%d/ns/net\"},"
			"{\"type\":\"cgroup\"},{\"type\":\"time\"}",
			in->pid, in->pid);
		k = kit_new();
		kit_run(k, kit,
			&(struct kit_parts){
				.root = root,
				.ns = ns,
				.lin = ",\"timeOffsets\":{\"boottime\":{\"secs\":1000}}",
				.sh = "echo pid=$$; readlink /proc/self/ns/user; readlink /proc/self/ns/net; touch /second" });
		kit_ok(k);
		kit_has(k, "pid=1\n");
		same_ns(in, k, "user");
		same_ns(in, k, "net");
		kit_done(k);
		/* the same without a pid namespace: no second clone */
		snprintf(
			ns, sizeof(ns),
			"{\"type\":\"mount\"},{\"type\":\"uts\"},{\"type\":\"pid\",\"path\":\"/proc/%d/ns/pid\"},"
			"{\"type\":\"user\",\"path\":\"/proc/%d/ns/user\"}",
			in->pid, in->pid);
		k = kit_new();
		kit_run(k, kit,
			&(struct kit_parts){
				.root = root, .ns = ns, .sh = "readlink /proc/self/ns/user; ps" });
		kit_ok(k);
		same_ns(in, k, "user");
		kit_has(k, "sleep 1000");
		kit_done(k);
		/* a new user namespace beside a network namespace by path that it has no rights over */
		snprintf(ns, sizeof(ns),
			 KIT_NS
			 ",{\"type\":\"user\"},{\"type\":\"network\",\"path\":\"/proc/%d/ns/net\"}",
			 in->pid);
		k = kit_new();
		kit_run(k, kit,
			&(struct kit_parts){
				.root = root,
				.ns = ns,
				.lin = MAPS,
				.mounts = ",{\"destination\":\"/sys\",\"type\":\"sysfs\"}",
				.sh = "readlink /proc/self/ns/net; test -d /sys/kernel && echo sys" });
		kit_ok(k);
		same_ns(in, k, "net");
		kit_has(k, "sys\n");
		kit_done(k);
	}
	stop(in);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
}

static void test_user_rootfs_list(void **state)
{
	const struct kit *kit = *state;
	char lower[256], upper[160], work[160], point[128];
	const char *overlay[3] = { lower, upper, work };
	struct launch_mount mount = {
		.type = "overlay", .source = "overlay", .options = overlay, .n_options = 3
	};
	unsigned mounts = kit_lines("/proc/self/mountinfo", ((struct kit *)*state)->dir);
	struct kit_run *k = kit_new();

	kit_system("cd %s && mkdir -p uup uwk ump && chmod 700 ump && chown 100000:200000 uup",
		   kit->dir);
	snprintf(lower, sizeof(lower), "lowerdir=%s/userroot", kit->dir);
	snprintf(upper, sizeof(upper), "upperdir=%s/uup", kit->dir);
	snprintf(work, sizeof(work), "workdir=%s/uwk", kit->dir);
	snprintf(point, sizeof(point), "%s/ump", kit->dir);
	k->mounts = &mount;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit,
		&(struct kit_parts){
			.root = "/nope",
			.ns = USER_NS,
			.lin = MAPS,
			.sh = "grep ' / ' /proc/mounts; echo n >/new; stat -c %u /new" });
	kit_ok(k);
	kit_has(k, "overlay / overlay");
	kit_has(k, "0\n");
	kit_done(k);
	k = kit_new();
	overlay[0] = "lowerdir=/no/such";
	k->mounts = &mount;
	k->n_mounts = 1;
	k->rootfs_dir = point;
	kit_run(k, kit, &(struct kit_parts){ .root = "/nope", .ns = USER_NS, .lin = MAPS });
	assert_true(k->r < 0);
	assert_string_equal(k->fault.step, "mount rootfs");
	kit_done(k);
	assert_int_equal(kit_lines("/proc/self/mountinfo", ((struct kit *)*state)->dir), mounts);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
}

static void test_idmapped_mounts(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	char mounts[2048];

	kit_system(
		"mkdir -p %s/ids/sub && echo x >%s/ids/a && chown 5:6 %s/ids/a && echo y >%s/ids/sub/b && chown 5:6 %s/ids/sub/b",
		kit->dir, kit->dir, kit->dir, kit->dir, kit->dir);
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/own\",\"type\":\"bind\",\"source\":\"%s/ids\",\"options\":[\"bind\"],"
		"\"uidMappings\":[{\"containerID\":0,\"hostID\":3000,\"size\":100}],\"gidMappings\":[{\"containerID\":0,\"hostID\":4000,"
		"\"size\":100}]},"
		"{\"destination\":\"/arg\",\"type\":\"bind\",\"source\":\"%s/ids\",\"options\":[\"rbind\","
		"\"ridmap=uids=0-100-5#5-777-1;gids=0-50-10\"]}",
		kit->dir, kit->dir);
	kit_run(k, kit,
		&(struct kit_parts){
			.mounts = mounts,
			.sh = "stat -c '%n %u:%g' /own/a /own/sub/b /arg/a /arg/sub/b" });
	kit_ok(k);
	kit_has(k, "/own/a 3005:4006");
	kit_has(k, "/own/sub/b 3005:4006");
	kit_has(k, "/arg/a 777:56");
	kit_done(k);
	k = kit_new();
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"%s/ids\",\"options\":[\"idmap=uids=1-2\"]}",
		kit->dir);
	kit_run(k, kit, &(struct kit_parts){ .mounts = mounts });
	assert_true(k->at_new);
	assert_non_null(strstr(k->fault.message, "idmap"));
	kit_done(k);
	k = kit_new();
	snprintf(
		mounts, sizeof(mounts),
		",{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"%s/ids\",\"options\":[\"idmap\"]}",
		kit->dir);
	kit_run(k, kit, &(struct kit_parts){ .mounts = mounts });
	assert_true(k->at_new);
	kit_done(k);
	/* proc cannot be id-mapped: told, and nothing left */
	k = kit_new();
	kit_run(k, kit,
		&(struct kit_parts){
			.mounts =
				",{\"destination\":\"/x\",\"type\":\"bind\",\"source\":\"/proc\",\"options\":[\"idmap=uids=0-1-1;"
				"gids=0-1-1\"]}" });
	assert_true(k->r < 0);
	assert_string_equal(k->fault.step, "id mapping of mount");
	kit_done(k);
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exec),
		cmocka_unit_test(test_exec_into_dead),
		cmocka_unit_test(test_exec_fewer_namespaces),
		cmocka_unit_test(test_exec_cgroup),
		cmocka_unit_test(test_user_namespace),
		cmocka_unit_test(test_user_cgroup_and_stdio),
		cmocka_unit_test(test_user_terminal_and_exec),
		cmocka_unit_test(test_user_rootfs_list),
		cmocka_unit_test(test_idmapped_mounts),
	};

	return cmocka_run_group_tests(tests, kit_setup, kit_teardown);
}
