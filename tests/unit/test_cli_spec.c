// SPDX-License-Identifier: Apache-2.0
/* From options to specs: defaults, privileges, mounts, devices, users, seccomp, bundles. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/args.h"
#include "cli/caps.h"
#include "cli/create.h"
#include "cli/device.h"
#include "cli/js.h"
#include "cli/seccomp_default.h"
#include "cli/spec.h"
#include "cli/user.h"
#include "cli/volume.h"
#include "util/json.h"

static char root_path[] = "/tmp/davit-test-root-XXXXXX";
static int root = -1;

static void write_file(const char *name, const char *text)
{
	int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(root_path))
		return -1;
	root = open(root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mkdirat(root, "etc", 0755);
	write_file(
		"etc/passwd",
		"root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n"
		"broken line\nbad:x:x:y::/:\n77:x:1077:1078::/home/odd:/bin/sh\nnohome:x:5:6:::\n");
	write_file("etc/group",
		   "root:x:0:\nwheel:x:10:root,alice\nstaff:x:50:bob, alice\nusers:x:100:alice\n");
	return root < 0;
}

static int teardown(void **state)
{
	(void)state;
	unlinkat(root, "etc/passwd", 0);
	unlinkat(root, "etc/group", 0);
	unlinkat(root, "etc", AT_REMOVEDIR);
	close(root);
	return rmdir(root_path);
}

static json_object *json(const char *text)
{
	json_object *o = NULL;
	struct fault f;

	if (json_parse(text, strlen(text), &o, &f) < 0)
		fail_msg("%s", f.message);
	return o;
}

/*
 * Builds a spec from option words; NULL when it is refused (f says why). from: a bundle's spec or
 * NULL.
 */
static json_object *build(json_object *from, struct fault *f, char **words)
{
	static const struct cli_command command = { .name = "run",
						    .options = create_options,
						    .flags = CLI_ARGS_END_OPTIONS };
	struct cli cli = { .command = &command };
	struct spec_build b = {
		.cli = &cli, .id = "my_box", .rootfs = root, .from_bundle = from != NULL
	};
	int argc = 0, r;

	memset(f, 0, sizeof(*f));
	while (words[argc])
		argc++;
	r = args_parse(&cli, &command, argc, words, NULL, f);
	assert_int_equal(r, 0);
	b.spec = from ? from : spec_default(root_path, getpid());
	b.args = cli.args;
	b.tty = args_flag(&cli, "tty");
	r = spec_build(&b, f);
	args_free(&cli);
	if (r < 0) {
		json_object_put(b.spec);
		return NULL;
	}
	return b.spec;
}
#define BUILD(...) build(NULL, &f, (char *[]){ __VA_ARGS__, NULL })

static void refused(json_object *spec, const struct fault *f, const char *part)
{
	assert_null(spec);
	if (!strstr(f->message, part))
		fail_msg("\"%s\" does not mention \"%s\"", f->message, part);
}

static bool listed(json_object *list, const char *text)
{
	for (size_t i = 0; i < js_len(list); i++) {
		if (strcmp(json_object_get_string(js_at(list, i)), text) == 0)
			return true;
	}
	return false;
}

static json_object *find(json_object *list, const char *key, const char *value)
{
	for (size_t i = 0; i < js_len(list); i++) {
		if (strcmp(js_str(js_at(list, i), key), value) == 0)
			return js_at(list, i);
	}
	return NULL;
}

static void test_default(void **state)
{
	static const char *const namespaces[] = {
		"pid", "network", "ipc", "uts", "mount", "cgroup"
	};
	static const char *const mounts[] = { "/proc",	       "/dev",	      "/sys",
					      "/dev/pts",      "/dev/mqueue", "/dev/shm",
					      "/sys/fs/cgroup" };
	struct fault f;
	json_object *s = BUILD("/bin/sh", "-c", "true");

	(void)state;
	assert_non_null(s);
	assert_string_equal(js_str(s, "root.path"), root_path);
	assert_string_equal(js_str(s, "hostname"), "my-box");
	assert_int_equal(js_len(js_get(s, "process.args")), 3);
	assert_string_equal(js_str(s, "process.cwd"), "/");
	assert_false(js_bool(s, "process.terminal"));
	assert_true(listed(js_get(s, "process.env"), "HOME=/root"));
	assert_true(listed(js_get(s, "process.env"), "container=davit"));
	assert_true(listed(js_get(s, "process.env"), "HOSTNAME=my-box"));
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		json_object *ns = find(js_get(s, "linux.namespaces"), "type", namespaces[i]);

		assert_non_null(ns);
		assert_null(js_get(ns, "path"));
	}
	assert_int_equal(js_len(js_get(s, "linux.namespaces")), ARRAY_SIZE(namespaces));
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++)
		assert_non_null(find(js_get(s, "mounts"), "destination", mounts[i]));
	assert_true(
		listed(js_get(find(js_get(s, "mounts"), "destination", "/sys"), "options"), "ro"));
	assert_true(listed(js_get(s, "linux.maskedPaths"), "/proc/kcore"));
	assert_true(listed(js_get(s, "linux.readonlyPaths"), "/proc/sys"));
	assert_int_equal(js_int(s, "linux.resources.pids.limit", 0), 2048);
	/* The first rule denies all devices. */
	assert_false(js_bool(js_at(js_get(s, "linux.resources.devices"), 0), "allow"));
	assert_null(js_get(js_at(js_get(s, "linux.resources.devices"), 0), "major"));
	assert_int_equal(js_len(js_get(s, "process.capabilities.bounding")), 11);
	assert_int_equal(js_len(js_get(s, "process.capabilities.effective")), 11);
	assert_null(js_get(s, "process.capabilities.inheritable"));
	assert_string_equal(js_str(s, "linux.seccomp.defaultAction"), "SCMP_ACT_ERRNO");
	json_object_put(s);
	refused(BUILD("--tty"), &f, "no command");
}

static void test_process(void **state)
{
	struct fault f;
	json_object *s = BUILD("-t", "-u", "alice", "-w", "/srv", "-e", "A=1", "-e", "HOME=/x",
			       "--ulimit", "nofile=10:20", "--ulimit", "core=0", "--hostname", "h",
			       "--stop-signal", "usr1", "--annotation", "a.b=c=d", "--entrypoint",
			       "[\"/e\", \"f\"]", "g");

	(void)state;
	assert_non_null(s);
	assert_true(js_bool(s, "process.terminal"));
	assert_true(listed(js_get(s, "process.env"), "TERM=xterm"));
	assert_true(listed(js_get(s, "process.env"), "HOME=/x"));
	assert_int_equal(js_int(s, "process.user.uid", 0), 1000);
	assert_int_equal(js_int(s, "process.user.gid", 0), 1001);
	assert_string_equal(js_str(s, "process.cwd"), "/srv");
	assert_string_equal(js_str(s, "hostname"), "h");
	assert_string_equal(json_object_get_string(js_at(js_get(s, "process.args"), 0)), "/e");
	assert_string_equal(json_object_get_string(js_at(js_get(s, "process.args"), 2)), "g");
	assert_int_equal(
		js_int(find(js_get(s, "process.rlimits"), "type", "RLIMIT_NOFILE"), "soft", 0), 10);
	assert_int_equal(
		js_int(find(js_get(s, "process.rlimits"), "type", "RLIMIT_NOFILE"), "hard", 0), 20);
	assert_int_equal(
		js_int(find(js_get(s, "process.rlimits"), "type", "RLIMIT_CORE"), "hard", 1), 0);
	/* Another user than root has no capabilities but those added by name. */
	assert_int_equal(js_len(js_get(s, "process.capabilities.effective")), 0);
	assert_int_equal(js_len(js_get(s, "process.capabilities.bounding")), 11);
	assert_true(json_object_object_get_ex(js_get(s, "annotations"), SPEC_STOP_SIGNAL, NULL));
	json_object_put(s);

	s = BUILD("-u", "1000", "--cap-add", "net_raw", "--cap-drop", "CAP_KILL", "x");
	assert_int_equal(js_len(js_get(s, "process.capabilities.bounding")), 11);
	assert_int_equal(js_len(js_get(s, "process.capabilities.ambient")), 1);
	assert_true(listed(js_get(s, "process.capabilities.effective"), "CAP_NET_RAW"));
	json_object_put(s);

	s = BUILD("--cap-drop", "ALL", "--cap-add", "chown", "x");
	assert_int_equal(js_len(js_get(s, "process.capabilities.bounding")), 1);
	json_object_put(s);
	refused(BUILD("--cap-add", "kill", "--cap-drop", "kill", "x"), &f, "CAP_KILL is both");
	refused(BUILD("--cap-add", "nope", "x"), &f, "nope");
	refused(BUILD("-u", "nobody", "x"), &f, "nobody");
	refused(BUILD("-w", "rel", "x"), &f, "rel");
	refused(BUILD("--entrypoint", "[1]", "x"), &f, "--entrypoint");
	refused(BUILD("--stop-signal", "NOPE", "x"), &f, "NOPE");
	refused(BUILD("--annotation", "novalue", "x"), &f, "novalue");
	refused(BUILD("--ulimit", "x=1", "x"), &f, "x=1");
}

static void test_linux(void **state)
{
	struct fault f;
	json_object *s = BUILD("-m", "64m", "--cpus", "0.5", "--pids-limit", "7", "--read-only",
			       "--tmpfs", "/tmp:size=1m,exec", "-v", "/etc:/mnt/../x", "x");

	(void)state;
	refused(s, &f, "..");
	s = BUILD("-m", "64m", "--cpus", "0.5", "--pids-limit", "7", "--read-only", "--tmpfs",
		  "/tmp:size=1m,exec", "-v", "/etc:/a/b:ro", "-v", "/:/a/", "--network", "host",
		  "--pid", "host", "--seccomp", "unconfined", "x");
	assert_non_null(s);
	assert_int_equal(js_int(s, "linux.resources.memory.limit", 0), 64 << 20);
	assert_int_equal(js_int(s, "linux.resources.cpu.quota", 0), 50000);
	assert_int_equal(js_int(s, "linux.resources.pids.limit", 0), 7);
	assert_true(js_bool(s, "root.readonly"));
	assert_non_null(find(js_get(s, "mounts"), "destination", "/run"));
	assert_true(listed(js_get(find(js_get(s, "mounts"), "destination", "/tmp"), "options"),
			   "exec"));
	assert_false(listed(js_get(find(js_get(s, "mounts"), "destination", "/tmp"), "options"),
			    "noexec"));
	assert_null(find(js_get(s, "linux.namespaces"), "type", "network"));
	assert_null(find(js_get(s, "linux.namespaces"), "type", "pid"));
	assert_null(js_get(s, "linux.seccomp"));
	/* A folder is mounted before what lies in it. */
	for (size_t i = 0, seen = 0; i < js_len(js_get(s, "mounts")); i++) {
		const char *d = js_str(js_at(js_get(s, "mounts"), i), "destination");

		seen |= strcmp(d, "/a") == 0;
		if (strcmp(d, "/a/b") == 0)
			assert_true(seen);
	}
	json_object_put(s);

	s = BUILD("--pids-limit", "0", "--network", "/proc/self/ns/net", "--ipc", "host", "x");
	assert_null(js_get(s, "linux.resources.pids"));
	assert_string_equal(js_str(find(js_get(s, "linux.namespaces"), "type", "network"), "path"),
			    "/proc/self/ns/net");
	assert_string_equal(js_str(find(js_get(s, "mounts"), "destination", "/dev/shm"), "type"),
			    "bind");
	json_object_put(s);

	s = BUILD("--privileged", "x");
	assert_null(js_get(s, "linux.maskedPaths"));
	assert_null(js_get(s, "linux.seccomp"));
	assert_true(js_bool(js_at(js_get(s, "linux.resources.devices"), 0), "allow"));
	assert_false(
		listed(js_get(find(js_get(s, "mounts"), "destination", "/sys"), "options"), "ro"));
	assert_true(js_len(js_get(s, "process.capabilities.bounding")) > 35);
	json_object_put(s);

	refused(BUILD("-m", "1k", "x"), &f, "--memory");
	refused(BUILD("--cpus", "x", "x"), &f, "--cpus");
	refused(BUILD("--network", "bridge", "x"), &f, "bridge");
	refused(BUILD("--network", "/nosuch/ns", "x"), &f, "/nosuch/ns");
	refused(BUILD("--seccomp", "/nosuch.json", "x"), &f, "/nosuch.json");
}

static void test_bundle(void **state)
{
	static const char text[] =
		"{\"ociVersion\":\"1.0.0\",\"root\":{\"path\":\"rootfs\"},\"vendor\":{\"x\":1},"
		"\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":3,\"gid\":4},\"env\":[\"A=1\"],"
		"\"capabilities\":{\"bounding\":[\"CAP_KILL\"]}},\"linux\":{\"namespaces\":[{\"type\":\"pid\"}]}}";
	json_object *same CLEANUP_JSON = json(text);
	struct fault f;
	json_object *s = build(json(text), &f, (char *[]){ NULL });

	(void)state;
	/* Nothing was asked for: nothing changes. */
	assert_non_null(s);
	assert_true(json_object_equal(s, same) ||
		    strcmp(json_object_get_string(js_get(s, "process")),
			   json_object_get_string(js_get(same, "process"))) == 0);
	assert_null(js_get(s, "hostname"));
	assert_null(js_get(s, "linux.seccomp"));
	assert_int_equal(js_int(s, "vendor.x", 0), 1);
	json_object_put(s);

	s = build(json(text), &f,
		  (char *[]){ "-e", "B=2", "--cap-add", "CHOWN", "--network", "none", "b", "c",
			      NULL });
	assert_int_equal(js_len(js_get(s, "process.args")), 2);
	assert_true(listed(js_get(s, "process.env"), "A=1"));
	assert_true(listed(js_get(s, "process.env"), "B=2"));
	assert_int_equal(js_int(s, "process.user.uid", 0), 3);
	assert_int_equal(js_len(js_get(s, "process.capabilities.bounding")), 2);
	assert_non_null(find(js_get(s, "linux.namespaces"), "type", "network"));
	json_object_put(s);
}

static void test_users(void **state)
{
	struct user u;
	struct fault f;

	(void)state;
	assert_int_equal(user_lookup(root, "", &u, &f), 0);
	assert_int_equal(u.uid, 0);
	assert_int_equal(u.n_groups, 1);
	assert_int_equal(u.groups[0], 10);
	assert_string_equal(u.home, "/root");
	user_clear(&u);
	assert_int_equal(user_lookup(root, "alice", &u, &f), 0);
	assert_int_equal(u.n_groups, 2); /* wheel and users; " alice" is nobody */
	user_clear(&u);
	assert_int_equal(user_lookup(root, "alice:users", &u, &f), 0);
	assert_int_equal(u.gid, 100);
	assert_int_equal(u.n_groups, 0);
	user_clear(&u);
	assert_int_equal(user_lookup(root, "4242", &u, &f), 0);
	assert_int_equal(u.uid, 4242);
	assert_int_equal(u.gid, 0);
	assert_string_equal(u.home, "/");
	user_clear(&u);
	assert_int_equal(user_lookup(root, "4242:4343", &u, &f), 0);
	assert_int_equal(u.gid, 4343);
	user_clear(&u);
	assert_int_equal(user_lookup(root, "77", &u, &f), 0); /* a listed name of digits */
	assert_int_equal(u.uid, 1077);
	user_clear(&u);
	assert_int_equal(user_lookup(-1, "7:8", &u, &f), 0);
	assert_int_equal(u.gid, 8);
	user_clear(&u);
	assert_true(user_lookup(root, "bad", &u, &f) < 0);
	assert_true(user_lookup(root, "alice:nogroup", &u, &f) < 0);
	assert_true(user_lookup(root, "4294967295", &u, &f) < 0);
	assert_true(user_lookup(root, "-1", &u, &f) < 0);
	assert_true(user_lookup(-1, "alice", &u, &f) < 0);
	assert_int_equal(user_lookup(root, "nohome", &u, &f), 0);
	assert_string_equal(u.home, "/");
	user_clear(&u);
	/* A link to the host's file leads nowhere. */
	assert_int_equal(renameat(root, "etc/passwd", root, "etc/real"), 0);
	assert_int_equal(symlinkat("/../../../../../etc/passwd", root, "etc/passwd"), 0);
	assert_true(user_lookup(root, "daemon", &u, &f) < 0);
	assert_int_equal(renameat(root, "etc/real", root, "etc/passwd"), 0);
}

static void test_volumes(void **state)
{
	static const char *const bad[] = {
		"",	   "/etc",	 ":/x",	      "/etc:",	       "/etc:x",       "/etc:/",
		"name:/x", "/nosuch:/x", "/etc:/x:U", "/etc:/x:bogus", "/etc:/a/../b", "/etc:/x:O"
	};
	json_object *m CLEANUP_JSON = js_array();
	struct fault f;

	(void)state;
	assert_int_equal(volume_bind(m, "/etc:/x//y/:ro,nosuid", &f), 0);
	assert_string_equal(js_str(js_at(m, 0), "destination"), "/x/y");
	assert_string_equal(js_str(js_at(m, 0), "source"), "/etc");
	assert_true(listed(js_get(js_at(m, 0), "options"), "ro"));
	assert_true(listed(js_get(js_at(m, 0), "options"), "rbind"));
	assert_true(listed(js_get(js_at(m, 0), "options"), "rprivate"));
	assert_int_equal(volume_bind(m, ".:/here:bind,rshared", &f), 0);
	assert_int_equal(*js_str(js_at(m, 1), "source"), '/');
	assert_false(listed(js_get(js_at(m, 1), "options"), "rbind"));
	assert_false(listed(js_get(js_at(m, 1), "options"), "rprivate"));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (volume_bind(m, bad[i], &f) >= 0)
			fail_msg("\"%s\" was taken", bad[i]);
	}
	assert_int_equal(js_len(m), 2);
	assert_true(volume_tmpfs(m, "rel", &f) < 0);
	assert_true(volume_tmpfs(m, "/t:bogus", &f) < 0);
	assert_true(volume_tmpfs(m, "/t:rbind", &f) < 0);
	assert_int_equal(volume_tmpfs(m, "/t", &f), 0);
	assert_int_equal(js_len(js_get(js_at(m, 2), "options")), 3);
}

static void test_devices(void **state)
{
	static const char *const bad[] = { "",
					   "null",
					   "/dev/nosuch",
					   "/etc/passwd",
					   "/dev/null:/x:q",
					   "/dev/null:x",
					   "/dev/null:/x:rwm:r" };
	json_object *lin CLEANUP_JSON = js_object();
	json_object *d;
	struct fault f;

	(void)state;
	assert_int_equal(device_option(lin, "/dev/null:/dev/hole:r", &f), 0);
	d = js_at(js_get(lin, "devices"), 0);
	assert_string_equal(js_str(d, "path"), "/dev/hole");
	assert_string_equal(js_str(d, "type"), "c");
	assert_int_equal(js_int(d, "major", 0), 1);
	assert_int_equal(js_int(d, "minor", 0), 3);
	d = js_at(js_get(lin, "resources.devices"), 0);
	assert_string_equal(js_str(d, "access"), "r");
	assert_true(js_bool(d, "allow"));
	assert_int_equal(device_option(lin, "/dev/zero:rw", &f), 0);
	assert_string_equal(js_str(js_at(js_get(lin, "devices"), 1), "path"), "/dev/zero");
	assert_string_equal(js_str(js_at(js_get(lin, "resources.devices"), 1), "access"), "rw");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (device_option(lin, bad[i], &f) >= 0)
			fail_msg("\"%s\" was taken", bad[i]);
	}
	assert_int_equal(js_len(js_get(lin, "devices")), 2);
}

static const char *action_of(json_object *profile, const char *name, size_t *n)
{
	json_object *list = js_get(profile, "syscalls");
	const char *action = NULL;

	*n = 0;
	for (size_t i = 0; i < js_len(list); i++) {
		if (listed(js_get(js_at(list, i), "names"), name)) {
			action = js_str(js_at(list, i), "action");
			++*n;
		}
	}
	return action;
}

static void test_seccomp(void **state)
{
	json_object *plain CLEANUP_JSON = seccomp_default(caps_default);
	json_object *admin CLEANUP_JSON = seccomp_default(caps_default | 1ull << CAP_SYS_ADMIN |
							  1ull << CAP_AUDIT_WRITE);
	json_object *
		out = NULL,
	       *profile CLEANUP_JSON = json(
		       "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\"}],\"syscalls\":["
		       "{\"names\":[\"bpf\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_BPF\"]}},"
		       "{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":null,\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		       "{\"name\":\"read\",\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"nosucharch\"]}},"
		       "{\"name\":\"write\",\"action\":\"SCMP_ACT_ALLOW\",\"comment\":\"c\"}]}");
	struct fault f;
	size_t n;

	(void)state;
	assert_string_equal(action_of(plain, "read", &n), "SCMP_ACT_ALLOW");
	assert_string_equal(action_of(plain, "setns", &n), "SCMP_ACT_ERRNO");
	assert_int_equal(n, 1);
	assert_string_equal(action_of(admin, "setns", &n), "SCMP_ACT_ALLOW");
	assert_int_equal(n, 1);
	assert_string_equal(action_of(plain, "kexec_load", &n), "SCMP_ACT_ERRNO");
	assert_string_equal(action_of(plain, "chroot", &n), "SCMP_ACT_ALLOW");
	assert_null(action_of(plain, "nosuchcall", &n));
	action_of(plain, "socket", &n);
	assert_int_equal(n, 3);
	action_of(admin, "socket", &n);
	assert_int_equal(n, 1);

	assert_int_equal(seccomp_resolve(profile, 1ull << CAP_SYS_ADMIN, &out, &f), 0);
	assert_null(action_of(out, "bpf", &n));
	assert_null(action_of(out, "mount", &n));
	assert_null(action_of(out, "read", &n));
	assert_string_equal(action_of(out, "write", &n), "SCMP_ACT_ALLOW");
	assert_null(js_get(out, "archMap"));
	assert_true(js_len(js_get(out, "architectures")) > 0);
	json_object_put(out);
	assert_int_equal(seccomp_resolve(profile, 0, &out, &f), 0);
	assert_string_equal(action_of(out, "mount", &n), "SCMP_ACT_ALLOW");
	json_object_put(out);
	json_object_object_del(profile, "defaultAction");
	assert_true(seccomp_resolve(profile, 0, &out, &f) < 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default), cmocka_unit_test(test_process),
		cmocka_unit_test(test_linux),	cmocka_unit_test(test_bundle),
		cmocka_unit_test(test_users),	cmocka_unit_test(test_volumes),
		cmocka_unit_test(test_devices), cmocka_unit_test(test_seccomp),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
