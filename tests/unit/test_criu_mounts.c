// SPDX-License-Identifier: Apache-2.0
/*
 * A container's mounts: what criu makes anew, and what is handed in
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/criu_mounts.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define HOST                                                                                       \
	"22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n"                         \
	"23 22 0:5 / /dev rw - devtmpfs devtmpfs rw,size=1k\n"                                     \
	"24 22 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"                      \
	"25 22 0:31 / /run rw - tmpfs none ro,nr_inodes=1"
#define ROOT "121 97 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/a,upperdir=/b\n"

static void test_own(void **state)
{
	static const char mounts[] =
		"121 97 254:0 /srv/root / ro,relatime - ext4 /dev/vda rw,discard\n"
		"122 121 254:0 /srv/root/etc /etc ro - ext4 /dev/vda rw,discard\n"
		"123 121 254:0 /srv/rootless /mnt rw - ext4 /dev/vda rw,discard\n"
		"124 121 254:0 /srv /mnt rw - ext4 /dev/vda rw,discard\n";
	static const char whole[] = "121 97 254:0 / / ro - ext4 /dev/vda rw\n"
				    "122 121 254:0 /a /b rw - ext4 /dev/vda rw\n";
	struct criu_mounts m;
	struct fault f;

	(void)state;
	assert_int_equal(criu_mounts_read(&m, mounts, HOST, &f), 0);
	assert_int_equal(m.n, 3);
	assert_int_equal(m.v[0].kind, CRIU_MOUNT_OWN);
	assert_string_equal(m.v[0].root, "/etc");
	assert_true(m.v[0].read_only);
	assert_int_equal(m.v[1].kind, CRIU_MOUNT_BIND);
	assert_string_equal(m.v[1].root, "/srv/rootless");
	assert_int_equal(m.v[2].kind, CRIU_MOUNT_BIND);
	criu_mounts_clear(&m);
	assert_int_equal(criu_mounts_read(&m, whole, HOST, &f), 0);
	assert_int_equal(m.v[0].kind, CRIU_MOUNT_OWN);
	assert_string_equal(m.v[0].root, "/a");
	criu_mounts_clear(&m);
}

static void test_kinds(void **state)
{
	static const struct {
		const char *line, *path, *root, *controllers;
		int kind; /* CRIU_MOUNT_KINDS: criu's own */
		bool read_only;
	} v[] = {
		{ "122 121 0:53 / /proc rw,nosuid - proc proc rw", .kind = CRIU_MOUNT_KINDS },
		{ "122 121 0:53 /sys /proc/sys ro,nosuid - proc proc rw",
		  .kind = CRIU_MOUNT_KINDS },
		{ "123 121 0:54 / /dev rw - tmpfs tmpfs rw,size=65536k", .kind = CRIU_MOUNT_KINDS },
		{ "124 121 0:55 / /sys ro - sysfs sysfs ro", .kind = CRIU_MOUNT_KINDS },
		{ "125 123 0:62 / /dev/pts rw - devpts devpts rw,gid=5", .kind = CRIU_MOUNT_KINDS },
		{ "126 123 0:52 / /dev/mqueue rw - mqueue mqueue rw", .kind = CRIU_MOUNT_KINDS },
		{ "127 121 0:50 /usr /mnt ro - overlay overlay rw,lowerdir=/a,upperdir=/b",
		  .kind = CRIU_MOUNT_KINDS },
		{ "139 121 254:0 /srv/a /data ro,relatime - ext4 /dev/vda rw,discard", "/data",
		  "/srv/a", "", CRIU_MOUNT_BIND, true },
		{ "139 121 254:0 /srv/a /data rw,relatime - ext4 /dev/vda ro,discard", "/data",
		  "/srv/a", "", CRIU_MOUNT_BIND, false },
		{ "139 121 254:0 /a\\040b\\134c /x\\011y rw - ext4 /dev/vda rw", "/x\ty", "/a b\\c",
		  "", CRIU_MOUNT_BIND, false },
		{ "128 124 0:64 / /sys/fs/cgroup ro - tmpfs tmpfs rw,mode=755", "/sys/fs/cgroup",
		  "/", "", CRIU_MOUNT_CGROUP_ROOT, true },
		{ "129 128 0:30 /c /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct",
		  "/sys/fs/cgroup/cpu", "/c", "cpu,cpuacct", CRIU_MOUNT_CGROUP, true },
		{ "129 128 0:30 / /cg rw - cgroup cgroup rw,xattr,release_agent=/usr/x,name=systemd",
		  "/cg", "/", "name=systemd", CRIU_MOUNT_CGROUP, false },
		{ "129 128 0:30 / /cg rw - cgroup cgroup "
		  "rw,xattr,noprefix,cpuset,clone_children,cpuset_v2_mode,release_agent=/x",
		  "/cg", "/", "cpuset", CRIU_MOUNT_CGROUP, false },
		{ "129 128 0:30 / /cg rw - cgroup cgroup ro,rdma", "/cg", "/", "rdma",
		  CRIU_MOUNT_CGROUP, false },
		{ "130 128 0:38 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw,nsdelegate",
		  "/sys/fs/cgroup/unified", "/", "", CRIU_MOUNT_CGROUP, true },
		{ "141 122 0:66 / /proc/acpi ro - tmpfs none ro,nr_inodes=1", "/proc/acpi", "/", "",
		  CRIU_MOUNT_MASK, true },
		{ "141 122 0:66 / /proc/acpi ro - tmpfs tmpfs ro,nr_inodes=1", "/proc/acpi", "/",
		  "", CRIU_MOUNT_MASK, true },
		{ "141 122 0:66 / /tmp rw - tmpfs none rw", .kind = CRIU_MOUNT_KINDS },
		/* a tmpfs of the host that looks like a mask */
		{ "141 122 0:31 /x /secrets ro - tmpfs none ro,nr_inodes=1", "/secrets", "/x", "",
		  CRIU_MOUNT_BIND, true },
		{ "142 122 0:5 /null /proc/keys rw - devtmpfs devtmpfs rw,size=1k", "/proc/keys",
		  "/null", "", CRIU_MOUNT_NULL, false },
		{ "142 122 0:5 /null /dev/null rw - devtmpfs devtmpfs rw,size=1k", "/dev/null",
		  "/null", "", CRIU_MOUNT_BIND, false },
		{ "143 123 0:62 /0 /dev/console rw - devpts devpts rw", "/dev/console", "/0", "",
		  CRIU_MOUNT_CONSOLE, false },
		/* more optional fields; a source that is empty */
		{ "139 121 254:0 /srv /d ro shared:1 master:2 propagate_from:3 - ext4 /dev/vda rw",
		  "/d", "/srv", "", CRIU_MOUNT_BIND, true },
		{ "141 122 0:66 / /proc/acpi ro - tmpfs  ro,nr_inodes=1", "/proc/acpi", "/", "",
		  CRIU_MOUNT_MASK, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		struct criu_mounts m;
		struct fault f = { 0 };
		char text[1024];

		snprintf(text, sizeof(text), ROOT "%s\n", v[i].line);
		if (criu_mounts_read(&m, text, HOST, &f) < 0)
			fail_msg("%s: %s", v[i].line, f.message);
		if (v[i].kind == CRIU_MOUNT_KINDS) {
			if (m.n)
				fail_msg("%s is handed in", v[i].line);
			continue;
		}
		if (m.n != 1 || (int)m.v[0].kind != v[i].kind)
			fail_msg("%s: %zu, %s", v[i].line, m.n,
				 m.n ? criu_mount_kind_name(m.v[0].kind) : "criu's");
		assert_string_equal(m.v[0].name, "m0");
		assert_string_equal(m.v[0].path, v[i].path);
		assert_string_equal(m.v[0].root, v[i].root);
		assert_string_equal(m.v[0].controllers, v[i].controllers);
		assert_int_equal(m.v[0].read_only, v[i].read_only);
		criu_mounts_clear(&m);
		assert_null(m.v);
	}
}

static void test_refused(void **state)
{
	static const char *const lines[] = {
		"122 121 0:70 / /x rw - fuse.sshfs x rw",
		"122 121 0:70 / /x rw - nfs x rw",
		"122 121 254:01 / /x rw - ext4 /dev/vdb rw", /* not 254:0 */
		"122 121 0:70 / /x rw - overlay overlay rw",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct criu_mounts m;
		struct fault f = { 0 };
		char text[1024];

		snprintf(text, sizeof(text), ROOT "1 2 254:0 /a /a rw - ext4 /dev/vda rw\n%s\n",
			 lines[i]);
		assert_int_equal(criu_mounts_read(&m, text, HOST, &f), -EOPNOTSUPP);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_true(strstr(f.message, " at /x cannot be checkpointed") != NULL);
		assert_null(m.v);
	}
}

/* What is no line of mountinfo is passed over. */
static void test_odd(void **state)
{
	static const char *const texts[] = {
		"",
		"\n\n",
		ROOT,
		ROOT
		"garbage\n- - - - - - - -\n1 2 3\n1 2 0:1 / /x rw -\n1 2 0:1 / /x rw - tmpfs\n",
		ROOT "1 2 0:99 / /x\\9 rw - tmpfs x\n",
		ROOT "1 2 0:99 / /x\\0 rw - tmpfs x rw",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct criu_mounts m;
		struct fault f = { 0 };

		assert_int_equal(criu_mounts_read(&m, texts[i], "", &f), 0);
		assert_int_equal(m.n, 0);
		criu_mounts_clear(&m);
	}
}

static void test_order_and_limit(void **state)
{
	struct criu_mounts m;
	struct fault f = { 0 };
	char *text = NULL;
	size_t size;

	(void)state;
	for (unsigned many = LIMIT_CHECKPOINT_MOUNTS; many <= LIMIT_CHECKPOINT_MOUNTS + 1; many++) {
		FILE *to = open_memstream(&text, &size);

		assert_non_null(to);
		fputs(ROOT, to);
		for (unsigned i = 0; i < many; i++)
			fprintf(to, "%u 121 254:0 /v%u /m%u rw - ext4 /dev/vda rw\n", i + 200, i,
				i);
		fclose(to);
		if (many == LIMIT_CHECKPOINT_MOUNTS) {
			assert_int_equal(criu_mounts_read(&m, text, HOST, &f), 0);
			assert_int_equal(m.n, many);
			assert_string_equal(m.v[many - 1].name, "m9999");
			assert_string_equal(m.v[7].path, "/m7");
			criu_mounts_clear(&m);
		} else {
			assert_true(criu_mounts_read(&m, text, HOST, &f) < 0);
			assert_int_equal(f.code, FAULT_RESOURCE_EXHAUSTED);
			assert_true(strstr(f.message, "more than 10000 mounts") != NULL);
		}
		free(text);
	}
}

static void test_paths(void **state)
{
	char **paths;
	size_t n;

	(void)state;
	assert_int_equal(criu_mount_paths(ROOT "122 121 0:53 / /proc rw - proc proc rw\n"
					       "garbage\n"
					       "139 121 254:0 / /a\\040b ro - ext4 /dev/vda rw",
					  &paths, &n),
			 0);
	assert_int_equal(n, 2);
	assert_string_equal(paths[0], "/proc");
	assert_string_equal(paths[1], "/a b");
	for (size_t i = 0; i < n; i++)
		free(paths[i]);
	free(paths);
	assert_int_equal(criu_mount_paths("", &paths, &n), 0);
	assert_int_equal(n, 0);
	free(paths);
}

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < CRIU_MOUNT_KINDS; i++)
		assert_int_equal(criu_mount_kind_of(criu_mount_kind_name((enum criu_mount_kind)i)),
				 i);
	assert_int_equal(criu_mount_kind_of(""), -EINVAL);
	assert_int_equal(criu_mount_kind_of("BIND"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_odd),
		cmocka_unit_test(test_order_and_limit),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
