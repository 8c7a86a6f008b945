// SPDX-License-Identifier: Apache-2.0
/* Checkpoints on the command line: what of a recorded spec is followed, records, numbers for people. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/args.h"
#include "cli/caps.h"
#include "cli/checkpoint.h"
#include "cli/device.h"
#include "cli/js.h"
#include "cli/restore.h"
#include "cli/spec.h"
#include "cli/volume.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/json.h"

static json_object *json(const char *text)
{
	json_object *o = NULL;
	struct fault f;

	if (json_parse(text, strlen(text), &o, &f) < 0)
		fail_msg("%s: %s", text, f.message);
	return o;
}

/* What `davit run` makes without options. */
static json_object *default_spec(void)
{
	json_object *spec = spec_default("rootfs", getpid());

	js_set(js_object_at(spec, "process"), "capabilities", caps_json(caps_default, 0, true));
	js_set(js_object_at(spec, "linux"), "seccomp",
	       json("{\"defaultAction\": \"SCMP_ACT_ERRNO\"}"));
	return spec;
}

/* ---- a checkpoint from elsewhere */

static int check(json_object *spec, const char *volume, const char *device, bool network,
		 struct fault *f)
{
	json_object *mounts CLEANUP_JSON = js_array();
	json_object *lin CLEANUP_JSON = js_object();

	if (volume)
		assert_int_equal(volume_bind(mounts, volume, f), 0);
	if (device)
		assert_int_equal(device_option(lin, device, f), 0);
	return cli_restore_foreign(spec, mounts, js_get(lin, "devices"),
				   js_get(lin, "resources.devices"), network, f);
}

static void test_defaults_pass(void **state)
{
	json_object *spec CLEANUP_JSON = default_spec();
	struct fault f = { 0 };

	(void)state;
	if (check(spec, NULL, NULL, false, &f) < 0)
		fail_msg("%s", f.message);
	/* fewer privileges pass as well */
	js_set(js_object_at(js_object_at(spec, "process"), "capabilities"), "bounding", js_array());
	spec_ns_set(spec, "user", NULL);
	assert_int_equal(check(spec, NULL, NULL, false, &f), 0);
}

/* Each of these changes alone makes it refused, and the message says what it is about. */
static void test_refusals(void **state)
{
	static const struct {
		const char *path, *key; /* where, and what is put there */
		const char *value; /* JSON; NULL: removed. Of an array's path: appended */
		const char *said;
	} cases[] = {
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"bind\", \"source\": \"/etc\"}",
		  "/etc mounted at /x" },
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"source\": \"/etc\", \"options\": [\"rbind\"]}",
		  "/etc mounted at /x" },
		/* whatever its type says, that is a bind */
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"tmpfs\", \"source\": \"/etc\", \"options\": [\"bind\"]}",
		  "/etc" },
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"ext4\", \"source\": \"/dev/sda1\"}",
		  "/dev/sda1" },
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"overlay\", \"options\": [\"lowerdir=/\"]}",
		  "overlay" },
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"proc\", \"source\": \"proc\"}", "/x" },
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"sysfs\", \"source\": \"sysfs\"}", "/x" },
		{ "mounts", NULL,
		  "{\"destination\": \"/x\", \"type\": \"cgroup\", \"source\": \"cgroup\", \"options\": [\"rw\"]}",
		  "/x" },
		{ "mounts", NULL, "{\"destination\": \"/x\"}", "/x" },
		{ "mounts", NULL, "7", "" },
		{ "linux", "devices",
		  "[{\"path\": \"/dev/sda\", \"type\": \"b\", \"major\": 8, \"minor\": 0}]",
		  "the device /dev/sda" },
		{ "linux.resources.devices", NULL, "{\"allow\": true}", "access to the device" },
		{ "linux.resources.devices", NULL,
		  "{\"allow\": true, \"type\": \"a\", \"access\": \"rwm\"}",
		  "access to the device a" },
		{ "linux.resources.devices", NULL,
		  "{\"allow\": true, \"type\": \"b\", \"major\": 8, \"minor\": 0, \"access\": \"r\"}",
		  "b 8:0" },
		{ "linux.resources.devices", NULL,
		  "{\"allow\": true, \"type\": \"c\", \"access\": \"rwm\"}",
		  "access to the device c" },
		{ "linux.resources.devices", NULL,
		  "{\"allow\": true, \"type\": \"c\", \"major\": 1, \"minor\": 1, \"access\": \"rw\"}",
		  "c 1:1" },
		{ "linux.resources.devices", NULL,
		  "{\"allow\": true, \"type\": \"c\", \"major\": 1, \"access\": \"r\"}", "c 1:-1" },
		{ "process.capabilities", "bounding", "[\"CAP_SYS_ADMIN\"]",
		  "the capability CAP_SYS_ADMIN" },
		{ "process.capabilities", "ambient", "[\"CAP_NET_RAW\"]", "CAP_NET_RAW" },
		{ "process.capabilities", "inheritable", "[\"CAP_CHOWN\", \"CAP_MKNOD\"]",
		  "CAP_MKNOD" },
		{ "linux", "seccomp", NULL, "seccomp" },
		{ "linux", "seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}", "seccomp" },
		{ "linux", "seccomp", "{\"defaultAction\": 7}", "seccomp" },
		{ "linux", "namespaces", "[]", "namespace" },
		{ "linux.namespaces", NULL,
		  "{\"type\": \"cgroup\", \"path\": \"/proc/1/ns/cgroup\"}", "/proc/1/ns/cgroup" },
		{ "linux.namespaces", NULL, "{\"type\": \"user\", \"path\": \"/x\"}", "/x" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_object *spec CLEANUP_JSON = default_spec();
		json_object *at = js_get(spec, cases[i].path),
			    *value = cases[i].value ? json(cases[i].value) : NULL;
		struct fault f = { 0 };

		assert_non_null(at);
		if (!cases[i].key)
			js_push(at, value);
		else if (cases[i].value)
			js_set(at, cases[i].key, value);
		else
			json_object_object_del(at, cases[i].key);
		if (check(spec, NULL, NULL, false, &f) == 0)
			fail_msg("%zu: %s passed", i, cases[i].value ? cases[i].value : "none");
		assert_int_equal(f.code, FAULT_PERMISSION_DENIED);
		if (!strstr(f.message, cases[i].said) || !strstr(f.message, "--trust"))
			fail_msg("%zu: %s", i, f.message);
	}
}

static void test_host_namespaces(void **state)
{
	static const char *const types[] = { "pid", "ipc", "uts", "mount", "network" };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		json_object *spec CLEANUP_JSON = default_spec();
		struct fault f = { 0 };

		spec_ns_drop(spec, types[i]);
		assert_true(check(spec, NULL, NULL, false, &f) < 0);
		assert_non_null(strstr(f.message, types[i]));
		/* the network is the user's to say, and nothing else with it */
		assert_int_equal(check(spec, NULL, NULL, true, &f) == 0,
				 strcmp(types[i], "network") == 0);
	}
}

static void test_given(void **state)
{
	json_object *spec CLEANUP_JSON = default_spec();
	json_object *rules;
	struct fault f = { 0 };

	(void)state;
	js_push(js_array_at(spec, "mounts"),
		json("{\"destination\": \"/x\", \"type\": \"bind\", \"source\": \"/etc\"}"));
	assert_true(check(spec, "/usr:/y", NULL, false, &f) < 0);
	assert_int_equal(check(spec, "/usr:/x", NULL, false, &f), 0);
	js_set(js_object_at(spec, "linux"), "devices",
	       json("[{\"path\": \"/dev/mine\", \"type\": \"c\", \"major\": 1, \"minor\": 11}]"));
	js_push(js_get(spec, "linux.resources.devices"),
		json("{\"allow\": true, \"type\": \"c\", \"major\": 1, \"minor\": 3, \"access\": \"rw\"}"));
	assert_true(check(spec, "/usr:/x", NULL, false, &f) < 0);
	assert_true(check(spec, "/usr:/x", "/dev/null:/dev/other", false, &f) < 0);
	assert_int_equal(check(spec, "/usr:/x", "/dev/null:/dev/mine:r", false, &f), 0);
	/* from nothing: a denial of all stands first, whatever was recorded */
	rules = js_get(spec, "linux.resources.devices");
	assert_false(js_bool(js_at(rules, 0), "allow"));
	assert_string_equal(js_str(js_at(rules, js_len(rules) - 1), "access"), "r");
}

static void test_dropped(void **state)
{
	json_object *spec CLEANUP_JSON = default_spec();
	json_object *lin = js_get(spec, "linux");
	struct fault f = { 0 };

	(void)state;
	js_set(spec, "hooks", json("{\"prestart\": [{\"path\": \"/bin/sh\"}]}"));
	js_set_str(lin, "cgroupsPath", "/../../other");
	js_set_str(lin, "rootfsPropagation", "shared");
	js_set(lin, "netDevices", json("{\"eth0\": {}}"));
	/* capabilities that are not said at all may be any */
	json_object_object_del(js_get(spec, "process"), "capabilities");
	js_push(js_get(spec, "linux.resources.devices"), json("{\"allow\": false}"));
	assert_int_equal(check(spec, NULL, NULL, false, &f), 0);
	assert_null(js_get(spec, "hooks"));
	assert_null(js_get(spec, "linux.cgroupsPath"));
	assert_null(js_get(spec, "linux.rootfsPropagation"));
	assert_null(js_get(spec, "linux.netDevices"));
	assert_int_equal(js_len(js_get(spec, "process.capabilities.bounding")), 0);
	assert_true(
		json_object_is_type(js_get(spec, "process.capabilities.ambient"), json_type_array));
}

/* ---- the live spec */

struct kit {
	struct cli cli;
	struct restore r;
	struct fault f;
	char folder[64];
};

static void kit_open(struct kit *k, const char *const *options)
{
	char *argv[16] = { NULL };
	int argc = 0;

	memset(k, 0, sizeof(*k));
	strcpy(k->folder, "/tmp/davit-test-restore-XXXXXX");
	assert_non_null(mkdtemp(k->folder));
	for (; *options; options++)
		argv[argc++] = (char *)*options;
	argv[argc++] = (char *)"ck";
	k->cli.command = &cmd_restore;
	if (args_parse(&k->cli, &cmd_restore, argc, argv, NULL, &k->f) != 0)
		fail_msg("%s", k->f.message);
	k->r.cli = &k->cli;
	k->r.id = strdup("c");
	k->r.c.local = true;
	k->r.c.record = json(
		"{\"container\": {\"id\": \"c\", \"labels\": {}}, \"network\": \"empty\", \"stdio\": [\"\", \"\", \"\"],"
		" \"mounts\": [{\"path\": \"/data/below\", \"kind\": \"bind\"}, {\"path\": \"/proc/acpi\", \"kind\": \"mask\"}]}");
	js_set(js_object_at(k->r.c.record, "container"), "spec", default_spec());
}

static json_object *recorded(struct kit *k)
{
	return js_get(k->r.c.record, "container.spec");
}

static void add_mount(struct kit *k, const char *source, const char *at)
{
	static const char *const options[] = { "rbind", "ro", NULL };

	js_push(js_array_at(recorded(k), "mounts"), volume_mount(at, "bind", source, options));
}

static void kit_close(struct kit *k)
{
	rmdir(k->folder);
	cli_checkpoint_clear(&k->r.c);
	json_object_put(k->r.spec);
	json_object_put(k->r.external);
	json_object_put(k->r.volumes);
	free(k->r.id);
	args_free(&k->cli);
}

#define OPTIONS(...) ((const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static json_object *mount_at(json_object *spec, const char *at)
{
	json_object *mounts = js_get(spec, "mounts");

	for (size_t i = 0; i < js_len(mounts); i++) {
		if (strcmp(js_str(js_at(mounts, i), "destination"), at) == 0)
			return js_at(mounts, i);
	}
	return NULL;
}

static void test_as_recorded(void **state)
{
	struct kit k;

	(void)state;
	kit_open(&k, OPTIONS());
	js_set(recorded(&k), "hooks", json("{\"poststop\": []}"));
	js_set_str(js_object_at(recorded(&k), "linux"), "cgroupsPath", "/own");
	add_mount(&k, k.folder, "/data");
	assert_int_equal(cli_restore_spec(&k.r, "", &k.f), 0);
	assert_true(json_object_equal(k.r.spec, recorded(&k)));
	assert_null(k.r.external);
	assert_int_equal(js_len(k.r.volumes), 0);
	kit_close(&k);
	/* another container has another group */
	kit_open(&k, OPTIONS());
	js_set_str(js_object_at(recorded(&k), "linux"), "cgroupsPath", "/own");
	free(k.r.id);
	k.r.id = strdup("other");
	assert_int_equal(cli_restore_spec(&k.r, "", &k.f), 0);
	assert_null(js_get(k.r.spec, "linux.cgroupsPath"));
	kit_close(&k);
}

static void test_volumes(void **state)
{
	json_object *m;
	struct kit k;

	(void)state;
	kit_open(&k, OPTIONS("-v", "/usr:/data", "-v", "/tmp:/data/below"));
	add_mount(&k, "/does/not/exist", "/data");
	assert_int_equal(cli_restore_spec(&k.r, "", &k.f), 0);
	m = mount_at(k.r.spec, "/data");
	assert_string_equal(js_str(m, "source"), "/usr");
	/* as the processes know it */
	assert_string_equal(json_object_get_string(js_at(js_get(m, "options"), 1)), "ro");
	assert_string_equal(js_str(k.r.external, "/data/below"), "/tmp");
	kit_close(&k);

	kit_open(&k, OPTIONS("-v", "/usr:/proc/acpi"));
	assert_true(cli_restore_spec(&k.r, "", &k.f) < 0);
	assert_non_null(strstr(k.f.message, "nothing mounted at /proc/acpi"));
	kit_close(&k);

	kit_open(&k, OPTIONS());
	add_mount(&k, "/does/not/exist", "/data");
	assert_true(cli_restore_spec(&k.r, "", &k.f) < 0);
	assert_non_null(strstr(k.f.message, "-v SOURCE:/data"));
	kit_close(&k);

	kit_open(&k, OPTIONS());
	add_mount(&k, "sub", "/data");
	assert_true(cli_restore_spec(&k.r, "", &k.f) < 0);
	assert_non_null(strstr(k.f.message, "relative to a bundle"));
	kit_close(&k);
}

/* Snapshots of the old container's volumes are told from other folders. */
static void test_old_volumes(void **state)
{
	char below[128];
	struct kit k;

	(void)state;
	kit_open(&k, OPTIONS());
	snprintf(below, sizeof(below), "%s/1", k.folder);
	assert_int_equal(mkdir(below, 0700), 0);
	add_mount(&k, below, "/data");
	assert_int_equal(cli_restore_spec(&k.r, k.folder, &k.f), 0);
	assert_int_equal(js_len(k.r.volumes), 1);
	assert_string_equal(js_str(js_at(k.r.volumes, 0), "destination"), "/data");
	json_object_put(k.r.spec);
	json_object_put(k.r.volumes);
	k.r.spec = k.r.volumes = NULL;
	rmdir(below);
	assert_true(cli_restore_spec(&k.r, k.folder, &k.f) < 0);
	assert_non_null(strstr(k.f.message, "went with the old container"));
	kit_close(&k);
}

static void test_networks(void **state)
{
	static const struct {
		const char *was, *option;
		bool fine;
	} cases[] = {
		{ "empty", "none", true },
		{ "empty", "host", true },
		{ "empty", "/proc/self/ns/net", true },
		{ "dumped", "none", true },
		{ "dumped", "host", false },
		{ "host", "none", false },
		{ "host", "host", true },
		{ "host", "/proc/self/ns/net", false },
		{ "empty", "nonsense", false },
	};
	struct kit k;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kit_open(&k, OPTIONS("--network", cases[i].option));
		js_set_str(k.r.c.record, "network", cases[i].was);
		if ((cli_restore_spec(&k.r, "", &k.f) == 0) != cases[i].fine)
			fail_msg("%zu: %s", i, k.f.message);
		if (cases[i].fine)
			assert_int_equal(spec_ns_has(k.r.spec, "network"),
					 strcmp(cases[i].option, "host") != 0);
		kit_close(&k);
	}
	/* that process may be another one by now */
	kit_open(&k, OPTIONS());
	spec_ns_set(recorded(&k), "network", "/proc/7/ns/net");
	assert_true(cli_restore_spec(&k.r, "", &k.f) < 0);
	assert_non_null(strstr(k.f.message, "--network"));
	kit_close(&k);
	kit_open(&k, OPTIONS("--network", "none"));
	spec_ns_set(recorded(&k), "network", "/proc/7/ns/net");
	assert_int_equal(cli_restore_spec(&k.r, "", &k.f), 0);
	kit_close(&k);
	kit_open(&k, OPTIONS("--network", "none"));
	spec_ns_set(recorded(&k), "ipc", "/proc/7/ns/ipc");
	assert_true(cli_restore_spec(&k.r, "", &k.f) < 0);
	kit_close(&k);
}

static void test_trust(void **state)
{
	struct kit k;

	(void)state;
	for (int trust = 0; trust < 2; trust++) {
		kit_open(&k, trust ? OPTIONS("--trust") : OPTIONS());
		k.r.c.local = false;
		add_mount(&k, "/etc", "/data");
		js_set(recorded(&k), "hooks", json("{}"));
		assert_int_equal(cli_restore_spec(&k.r, "", &k.f) == 0, trust);
		if (!trust)
			assert_int_equal(k.f.code, FAULT_PERMISSION_DENIED);
		else
			assert_non_null(js_get(k.r.spec, "hooks"));
		kit_close(&k);
	}
}

/* ---- records, numbers */

static void test_folder(void **state)
{
	static const struct {
		const char *text;
		int code;
	} cases[] = {
		{ NULL, FAULT_NOT_FOUND },
		{ "", FAULT_INVALID_ARGUMENT },
		{ "null", FAULT_FAILED_PRECONDITION },
		{ "[]", FAULT_FAILED_PRECONDITION },
		{ "{\"container\": {\"id\": 7}}", FAULT_FAILED_PRECONDITION },
		{ "{\"container\": {\"id\": \"c\", \"spec\": {}, \"labels\": {}}, \"mounts\": {}, \"network\": \"\", \"stdio\": []}",
		  FAULT_FAILED_PRECONDITION },
		{ "{\"container\": {\"id\": \"c\", \"spec\": {}, \"labels\": {}}, \"mounts\": [], \"network\": \"\", \"stdio\": []}",
		  0 },
	};
	char folder[] = "/tmp/davit-test-record-XXXXXX", path[128];

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/" CHECKPOINT_RECORD_FILE, folder);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct checkpoint c CLEANUP(cli_checkpoint_clear) = { 0 };
		struct fault f = { 0 };
		int r;

		if (cases[i].text) {
			int fd CLEANUP_CLOSE = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
						    0600);

			assert_int_equal(fd_write_all(fd, cases[i].text, strlen(cases[i].text)), 0);
		}
		r = cli_checkpoint_read_folder(folder, &c, &f);
		assert_int_equal(r < 0, cases[i].code != 0);
		if (r < 0 && (int)f.code != cases[i].code)
			fail_msg("%zu: %s", i, f.message);
		assert_int_equal(c.record != NULL, r == 0);
		assert_false(c.local);
	}
	unlink(path);
	rmdir(folder);
}

static void test_numbers(void **state)
{
	static const struct {
		int64_t us;
		const char *want;
	} times[] = { { -1, "-" },
		      { 0, "0.00 ms" },
		      { 1234, "1.23 ms" },
		      { 45678, "45.7 ms" },
		      { 456789, "457 ms" },
		      { 1234567, "1.23 s" },
		      { 3600000000ll, "3600.00 s" } };
	char buf[16], *path;

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		cli_checkpoint_time(times[i].us, buf, sizeof(buf));
		assert_string_equal(buf, times[i].want);
	}
	cli_checkpoint_ratio(310, 100, buf, sizeof(buf));
	assert_string_equal(buf, "3.1");
	cli_checkpoint_ratio(310, 0, buf, sizeof(buf));
	assert_string_equal(buf, "-");
	cli_checkpoint_ratio(-1, 5, buf, sizeof(buf));
	assert_string_equal(buf, "-");
	path = cli_checkpoint_absolute("/a/b");
	assert_string_equal(path, "/a/b");
	free(path);
	path = cli_checkpoint_absolute("a");
	assert_int_equal(*path, '/');
	assert_string_equal(strrchr(path, '/'), "/a");
	free(path);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults_pass),	cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_host_namespaces), cmocka_unit_test(test_given),
		cmocka_unit_test(test_dropped),		cmocka_unit_test(test_as_recorded),
		cmocka_unit_test(test_volumes),		cmocka_unit_test(test_old_volumes),
		cmocka_unit_test(test_networks),	cmocka_unit_test(test_trust),
		cmocka_unit_test(test_folder),		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
