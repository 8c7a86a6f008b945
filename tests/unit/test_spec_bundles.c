// SPDX-License-Identifier: Apache-2.0
/*
 * config.json as other tools write it: `runc spec`, `crun spec`, podman's default seccomp profile (as the spec's form
 * of it), and a file with every field.
 */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <sys/resource.h>

#include "runtime/seccomp.h"
#include "spec_check.h"
#include "util/clock.h"
#include "util/fd.h"

#define ROUNDS 200

static void bundle_path(char *buf, size_t size, const char *name)
{
	char here[PATH_MAX];

	snprintf(here, sizeof(here), "%s", __FILE__);
	snprintf(buf, size, "%s/../fuzz/corpus/spec/%s.json", dirname(here), name);
}

static struct spec *read_bundle(const char *name)
{
	char path[PATH_MAX];
	json_object *j;
	struct spec *s = NULL;
	struct fault f = { 0 };

	bundle_path(path, sizeof(path), name);
	if (json_parse_file(AT_FDCWD, path, 1 << 20, &j, &f) || spec_parse(j, &s, &f))
		fail_msg("%s: %s", name, f.message);
	json_object_put(j);
	return s;
}

static bool has_mount(const struct spec *s, const char *destination, const char *type)
{
	for (size_t i = 0; i < s->n_mounts; i++)
		if (!strcmp(s->mounts[i].destination, destination))
			return s->mounts[i].type && !strcmp(s->mounts[i].type, type);
	return false;
}

/* Both tools write nearly the same default. */
static void test_default(void **state)
{
	static const char *const names[] = { "runc", "crun" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct spec *s = read_bundle(names[i]);

		STRINGS(&s->process.args, "sh");
		assert_string_equal(s->process.cwd, "/");
		assert_true(s->process.terminal);
		assert_true(s->process.no_new_privileges);
		assert_int_equal(s->process.n_rlimits, 1);
		assert_int_equal(s->process.rlimits[0].resource, RLIMIT_NOFILE);
		assert_int_equal(s->process.rlimits[0].hard, 1024);
		assert_true(s->process.caps.bounding ==
			    (1ull << spec_cap_by_name("CAP_AUDIT_WRITE") |
			     1ull << spec_cap_by_name("CAP_KILL") |
			     1ull << spec_cap_by_name("CAP_NET_BIND_SERVICE")));
		assert_string_equal(s->root_path, "rootfs");
		assert_non_null(s->hostname);
		assert_true(has_mount(s, "/proc", "proc"));
		assert_true(has_mount(s, "/dev", "tmpfs"));
		assert_true(has_mount(s, "/sys/fs/cgroup", "cgroup"));
		assert_true(s->ns[SPEC_NS_PID].given);
		assert_true(s->ns[SPEC_NS_MOUNT].given);
		assert_false(s->ns[SPEC_NS_USER].given);
		assert_true(s->masked_paths.n > 5);
		assert_true(s->readonly_paths.n > 3);
		assert_int_equal(s->n_device_rules, 1);
		assert_false(s->device_rules[0].allow);
		assert_null(s->seccomp);
		spec_free(s);
	}
}

static void test_every_field(void **state)
{
	struct spec *s = read_bundle("every-field");

	(void)state;
	for (int i = 0; i < SPEC_NS_KINDS; i++)
		assert_true(s->ns[i].given);
	for (int i = 0; i < SPEC_HOOK_KINDS; i++)
		assert_int_equal(s->hooks[i].n, 1);
	assert_int_equal(s->n_sysctl, 2);
	assert_int_equal(s->n_net_devices, 2);
	assert_int_equal(s->n_devices, 2);
	assert_true(s->memory_policy.given);
	assert_true(s->has_intel_rdt);
	assert_non_null(s->resources);
	assert_non_null(s->seccomp);
	spec_free(s);
}

static void test_podman_seccomp(void **state)
{
	struct spec *s = read_bundle("podman-seccomp");
	struct seccomp_program *p;
	struct fault f = { 0 };

	(void)state;
	if (seccomp_get(NULL, s->seccomp, &p, &f))
		fail_msg("%s", f.message);
	/* Some 400 syscalls of three architectures. */
	assert_true(p->length > 500);
	assert_false(p->notify);
	seccomp_put(p);
	spec_free(s);
}

/* Not a bench, but a factor of ten over what it takes would be a mistake somewhere. */
static void test_time(void **state)
{
	char path[PATH_MAX];
	char *text;
	size_t size;
	int64_t begin, best = INT64_MAX;

	(void)state;
	bundle_path(path, sizeof(path), "runc");
	assert_int_equal(fd_read_file(AT_FDCWD, path, 1 << 20, &text, &size), 0);
	for (int i = 0; i < ROUNDS; i++) {
		struct spec *s;

		begin = clock_mono();
		assert_int_equal(spec_parse_text(text, size, &s, NULL), 0);
		spec_free(s);
		if (clock_mono() - begin < best)
			best = clock_mono() - begin;
	}
	free(text);
	print_message("runc's default spec, from text: %lld us\n", (long long)best / 1000);
	assert_true(best < 20 * 1000 * 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_every_field),
		cmocka_unit_test(test_podman_seccomp),
		cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
