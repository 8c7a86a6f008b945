// SPDX-License-Identifier: Apache-2.0
#include <sys/mount.h>
#include <sys/personality.h>

#include "spec_check.h"

static void test_namespaces(void **state)
{
	struct spec *s = good(
		LINUX("\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\","
		      "\"path\":\"/run/netns/a\"},{\"type\":\"mount\",\"path\":\"\"},"
		      "{\"type\":\"ipc\"},{\"type\":\"uts\"},{\"type\":\"user\",\"path\":"
		      "\"/x\"},{\"type\":\"cgroup\"},{\"type\":\"time\"}]"));

	(void)state;
	for (int i = 0; i < SPEC_NS_KINDS; i++)
		assert_true(s->ns[i].given);
	assert_string_equal(s->ns[SPEC_NS_NETWORK].path, "/run/netns/a");
	assert_null(s->ns[SPEC_NS_MOUNT].path);
	assert_string_equal(s->ns[SPEC_NS_USER].path, "/x");
	spec_free(s);

	bad(LINUX("\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]"),
	    "linux.namespaces[1].type", "the pid namespace is given a second time");
	bad(LINUX("\"namespaces\":[{\"type\":\"mnt\"}]"), "linux.namespaces[0].type",
	    "unknown namespace \"mnt\"");
	bad(LINUX("\"namespaces\":[{}]"), "linux.namespaces[0].type", "is missing");
	bad(LINUX("\"namespaces\":[{\"type\":\"pid\",\"path\":\"x\"}]"), "linux.namespaces[0].path",
	    "\"x\" is not an absolute path");
}

static void test_id_maps(void **state)
{
	struct spec *s = good(
		WITH_NS("user", "\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":"
				"65536},{\"containerID\":65536,\"hostID\":7,\"size\":1}],"
				"\"gidMappings\":[{\"containerID\":0,\"hostID\":5,\"size\":1}]"));

	(void)state;
	assert_int_equal(s->uid_mappings.n, 2);
	assert_int_equal(s->uid_mappings.v[0].size, 65536);
	assert_int_equal(s->uid_mappings.v[1].container_id, 65536);
	assert_int_equal(s->gid_mappings.v[0].host_id, 5);
	spec_free(s);
	bad(LINUX("\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":1}]"),
	    "linux.uidMappings", "needs a user namespace");
	bad(LINUX("\"namespaces\":[{\"type\":\"user\"}]"), "linux.uidMappings",
	    "a new user namespace needs one");
	bad(WITH_NS("user", "\"uidMappings\":[{\"containerID\":0,\"hostID\":1,\"size\":1}]"),
	    "linux.gidMappings", "a new user namespace needs one");
	bad(WITH_NS("user", "\"uidMappings\":[{\"containerID\":0,\"size\":1}]"),
	    "linux.uidMappings[0].hostID", "is missing");
}

static void test_time_offsets(void **state)
{
	struct spec *s = good(WITH_NS("time", "\"timeOffsets\":{\"boottime\":{\"secs\":-5,"
					      "\"nanosecs\":999999999},\"monotonic\":{}}"));

	(void)state;
	assert_true(s->time_offsets[0].given);
	assert_int_equal(s->time_offsets[0].secs, 0);
	assert_true(s->time_offsets[1].given);
	assert_int_equal(s->time_offsets[1].secs, -5);
	assert_int_equal(s->time_offsets[1].nanosecs, 999999999);
	spec_free(s);
	bad(LINUX("\"timeOffsets\":{\"monotonic\":{\"secs\":1}}"), "linux.timeOffsets",
	    "needs a time namespace");
	bad(WITH_NS("time", "\"timeOffsets\":{\"realtime\":{}}"), "linux.timeOffsets[\"realtime\"]",
	    "no such clock: monotonic or boottime");
	bad(WITH_NS("time", "\"timeOffsets\":{\"monotonic\":{\"nanosecs\":1000000000}}"),
	    "linux.timeOffsets[\"monotonic\"].nanosecs",
	    "1000000000 is not in the range from 0 to 999999999");
	bad(WITH_NS("time", "\"timeOffsets\":{\"monotonic\":null}"),
	    "linux.timeOffsets[\"monotonic\"]", "must be an object, not null");
}

static void test_devices(void **state)
{
	struct spec *s = good(
		LINUX("\"devices\":[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,"
		      "\"minor\":229,\"fileMode\":8630,\"uid\":1,\"gid\":2},"
		      "{\"path\":\"/dev/p\",\"type\":\"p\"},"
		      "{\"path\":\"/dev/b\",\"type\":\"b\",\"major\":0,\"minor\":1048575}]"));

	(void)state;
	assert_int_equal(s->n_devices, 3);
	assert_string_equal(s->devices[0].path, "/dev/fuse");
	assert_int_equal(s->devices[0].type, 'c');
	assert_int_equal(s->devices[0].major, 10);
	assert_int_equal(s->devices[0].minor, 229);
	assert_int_equal(s->devices[0].file_mode, 0666);
	assert_int_equal(s->devices[0].uid, 1);
	assert_int_equal(s->devices[0].gid, 2);
	assert_int_equal(s->devices[1].type, 'p');
	assert_true(s->devices[1].file_mode == SPEC_ABSENT);
	assert_true(s->devices[1].uid == SPEC_ABSENT);
	spec_free(s);
	bad(LINUX("\"devices\":[{\"path\":\"dev\",\"type\":\"p\"}]"), "linux.devices[0].path",
	    "\"dev\" is not an absolute path");
	bad(LINUX("\"devices\":[{\"path\":\"/d\",\"type\":\"x\"}]"), "linux.devices[0].type",
	    "unknown device type \"x\"");
	bad(LINUX("\"devices\":[{\"path\":\"/d\",\"type\":\"c\",\"major\":1}]"),
	    "linux.devices[0].minor", "is missing");
	bad(LINUX("\"devices\":[{\"path\":\"/d\",\"type\":\"c\",\"major\":4096,\"minor\":1}]"),
	    "linux.devices[0].major", "4096 is not in the range from 0 to 4095");
}

static void test_net_devices(void **state)
{
	struct spec *s = good(
		WITH_NS("network", "\"netDevices\":{\"eth1\":{\"name\":\"eth0\"},\"ens2\":{}}"));

	(void)state;
	assert_int_equal(s->n_net_devices, 2);
	assert_string_equal(s->net_devices[0].host_name, "eth1");
	assert_string_equal(s->net_devices[0].name, "eth0");
	assert_string_equal(s->net_devices[1].host_name, "ens2");
	assert_null(s->net_devices[1].name);
	spec_free(s);
	taken(LINUX("\"netDevices\":{}"));
	bad(LINUX("\"netDevices\":{\"eth1\":{}}"), "linux.netDevices", "needs a network namespace");
	bad(WITH_NS("network", "\"netDevices\":{\"a/b\":{}}"), "linux.netDevices[\"a/b\"]",
	    "no name of a network interface");
	bad(WITH_NS("network", "\"netDevices\":{\"eth0\":{\"name\":\"sixteen-letters-\"}}"),
	    "linux.netDevices[\"eth0\"].name",
	    "\"sixteen-letters-\" is no name of a network interface");
	bad(WITH_NS("network", "\"netDevices\":{\"eth0\":{},\"eth1\":{\"name\":\"eth0\"}}"),
	    "linux.netDevices[\"eth1\"].name", "two devices get the same name");
}

static void test_linux(void **state)
{
	struct spec *s = good(LINUX(
		"\"cgroupsPath\":\"/c\",\"seccomp\":{\"defaultAction\":\"x\"},\"rootfsPropagation\":"
		"\"rslave\",\"maskedPaths\":[\"/proc/kcore\"],\"readonlyPaths\":[\"/proc/sys\",\"/a\"],"
		"\"mountLabel\":\"ml\",\"personality\":{\"domain\":\"LINUX32\",\"flags\":[]},"
		"\"intelRdt\":{\"closID\":\"x\"}"));

	(void)state;
	assert_string_equal(s->cgroups_path, "/c");
	assert_true(json_object_is_type(s->seccomp, json_type_object));
	assert_int_equal(s->rootfs_propagation, MS_SLAVE | MS_REC);
	STRINGS(&s->masked_paths, "/proc/kcore");
	STRINGS(&s->readonly_paths, "/proc/sys", "/a");
	assert_string_equal(s->mount_label, "ml");
	assert_int_equal(s->personality, PER_LINUX32);
	assert_true(s->has_intel_rdt);
	assert_false(s->memory_policy.given);
	spec_free(s);
	bad(LINUX("\"rootfsPropagation\":\"x\""), "linux.rootfsPropagation",
	    "unknown propagation \"x\"");
	bad(LINUX("\"maskedPaths\":[\"/a\",\"b\"]"), "linux.maskedPaths[1]",
	    "\"b\" is not an absolute path");
	bad(LINUX("\"readonlyPaths\":[\"b\"]"), "linux.readonlyPaths[0]",
	    "\"b\" is not an absolute path");
	bad(LINUX("\"seccomp\":1"), "linux.seccomp", "must be an object, not a number");
	bad(LINUX("\"intelRdt\":1"), "linux.intelRdt", "must be an object, not a number");
	bad(LINUX("\"personality\":{\"domain\":\"BSD\"}"), "linux.personality.domain",
	    "unknown personality \"BSD\"");
	bad(LINUX("\"personality\":{}"), "linux.personality.domain", "is missing");
	bad(LINUX("\"personality\":{\"domain\":\"LINUX\",\"flags\":[\"X\"]}"),
	    "linux.personality.flags", "the spec defines no flags");
}

static void test_sysctl(void **state)
{
	struct spec *s = good(
		LINUX("\"namespaces\":[{\"type\":\"ipc\"},{\"type\":\"network\"},{\"type\":"
		      "\"uts\"}],\"sysctl\":{\"net.ipv4.ip_forward\":\"1\","
		      "\"net/ipv4/conf/eth0.1/forwarding\":\"1\",\"fs.mqueue.msg_max\":\"\","
		      "\"kernel.shmmax\":\"5\",\"kernel.sem\":\"1 2 3 4\",\"kernel.domainname\":"
		      "\"d\",\"kernel/hostname\":\"h\"}"));

	(void)state;
	assert_int_equal(s->n_sysctl, 7);
	assert_string_equal(s->sysctl[0].key, "net.ipv4.ip_forward");
	assert_string_equal(s->sysctl[0].value, "1");
	assert_string_equal(s->sysctl[6].key, "kernel/hostname");
	spec_free(s);
	bad(LINUX("\"sysctl\":{\"net.a\":\"1\"}"), "linux.sysctl[\"net.a\"]",
	    "needs a namespace of type network");
	bad(LINUX("\"sysctl\":{\"kernel.shmmax\":\"1\"}"), "linux.sysctl[\"kernel.shmmax\"]",
	    "needs a namespace of type ipc");
	bad(WITH_NS("ipc", "\"sysctl\":{\"kernel.shmmax2\":\"1\"}"),
	    "linux.sysctl[\"kernel.shmmax2\"]",
	    "belongs to no namespace: setting it would change the host");
	bad(WITH_NS("ipc", "\"sysctl\":{\"kernel.core_pattern\":\"1\"}"),
	    "linux.sysctl[\"kernel.core_pattern\"]",
	    "belongs to no namespace: setting it would change the host");
	bad(WITH_NS("network", "\"sysctl\":{\"net/../kernel/x\":\"1\"}"),
	    "linux.sysctl[\"net/../kernel/x\"]", "no name of a kernel parameter");
	bad(WITH_NS("network", "\"sysctl\":{\"/net\":\"1\"}"), "linux.sysctl[\"/net\"]",
	    "no name of a kernel parameter");
	bad(WITH_NS("network", "\"sysctl\":{\"net.a\":1}"), "linux.sysctl[\"net.a\"]",
	    "must be a string, not a number");
	bad(SPEC("\"hostname\":\"h\",\"linux\":{\"namespaces\":[{\"type\":\"uts\"}],\"sysctl\":{"
		 "\"kernel.hostname\":\"x\"}}"),
	    "linux.sysctl[\"kernel.hostname\"]", "conflicts with hostname");
}

static void test_memory_policy(void **state)
{
	struct spec *s = good(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"0-3,5,"
				    "63-64,1023\",\"flags\":[\"MPOL_F_STATIC_NODES\","
				    "\"MPOL_F_NUMA_BALANCING\"]}"));

	(void)state;
	assert_true(s->memory_policy.given);
	assert_int_equal(s->memory_policy.mode, 2 | 1 << 13 | 1 << 15);
	assert_true(s->memory_policy.nodes[0] == (0x2full | 1ull << 63));
	assert_true(s->memory_policy.nodes[1] == 1);
	assert_true(s->memory_policy.nodes[15] == 1ull << 63);
	spec_free(s);
	taken(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_DEFAULT\"}"));
	taken(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_PREFERRED\",\"nodes\":\"\"}"));
	taken(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_WEIGHTED_INTERLEAVE\",\"nodes\":\"0\"}"));
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_X\"}"), "linux.memoryPolicy.mode",
	    "unknown memory policy \"MPOL_X\"");
	bad(LINUX("\"memoryPolicy\":{\"nodes\":\"1\"}"), "linux.memoryPolicy.mode", "is missing");
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\"}"), "linux.memoryPolicy.nodes",
	    "this mode needs some");
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_LOCAL\",\"nodes\":\"0\"}"),
	    "linux.memoryPolicy.nodes", "this mode takes none");
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"1024\"}"),
	    "linux.memoryPolicy.nodes", "\"1024\" is not a list of nodes below 1024");
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"1\",\"flags\":[\"X\"]}"),
	    "linux.memoryPolicy.flags[0]", "unknown memory policy flag \"X\"");
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_INTERLEAVE\",\"nodes\":\"1\",\"flags\":["
		  "\"MPOL_F_NUMA_BALANCING\"]}"),
	    "linux.memoryPolicy.flags",
	    "MPOL_F_NUMA_BALANCING is for MPOL_BIND and MPOL_PREFERRED_MANY");
	bad(LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"1\",\"flags\":["
		  "\"MPOL_F_STATIC_NODES\",\"MPOL_F_RELATIVE_NODES\"]}"),
	    "linux.memoryPolicy.flags",
	    "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other");
}

static void test_lists(void **state)
{
	static const char *const wrong[] = { ",",
					     "1,",
					     "-1",
					     "1-",
					     "a",
					     "1 ,2",
					     "1--2",
					     "0x1",
					     "99999999999999999999",
					     "1-99999999999" };
	char text[256], reason[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		snprintf(text, sizeof(text),
			 LINUX("\"memoryPolicy\":{\"mode\":\"MPOL_BIND\",\"nodes\":\"%s\"}"),
			 wrong[i]);
		snprintf(reason, sizeof(reason), "\"%s\" is not a list of nodes below 1024",
			 wrong[i]);
		bad(text, "linux.memoryPolicy.nodes", reason);
	}
}

static void test_resources(void **state)
{
	struct spec *s = good(RESOURCES(
		"\"memory\":{\"limit\":-1,\"reservation\":1,\"swap\":9223372036854775807,\"kernel\":0,"
		"\"kernelTCP\":0,\"swappiness\":100,\"disableOOMKiller\":true,\"useHierarchy\":true,"
		"\"checkBeforeUpdate\":false},"
		"\"cpu\":{\"shares\":1024,\"quota\":-1,\"burst\":5,\"period\":100000,"
		"\"realtimeRuntime\":1,\"realtimePeriod\":2,\"cpus\":\"0-1\",\"mems\":\"\",\"idle\":1},"
		"\"pids\":{\"limit\":-1},"
		"\"blockIO\":{\"weight\":10,\"leafWeight\":0,\"weightDevice\":[{\"major\":8,\"minor\":0,"
		"\"weight\":1000}],\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":"
		"18446744073709551615}]},"
		"\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":9}],"
		"\"network\":{\"classID\":1048577,\"priorities\":[{\"name\":\"eth0\",\"priority\":5}]},"
		"\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3,\"hcaObjects\":10000}},"
		"\"unified\":{\"memory.high\":\"1\",\"hugetlb.1GB.max\":\"max\"},"
		"\"devices\":[{\"allow\":false,\"access\":\"rwm\"},{\"allow\":true,\"type\":\"c\","
		"\"major\":1,\"minor\":3,\"access\":\"mr\"},{\"allow\":true,\"type\":\"b\",\"major\":-1,"
		"\"minor\":null,\"access\":\"w\"}]"));

	(void)state;
	assert_true(json_object_object_get_ex(s->resources, "memory", NULL));
	assert_int_equal(s->n_device_rules, 3);
	assert_false(s->device_rules[0].allow);
	assert_int_equal(s->device_rules[0].type, 'a');
	assert_true(s->device_rules[0].major == SPEC_ABSENT);
	assert_true(s->device_rules[0].minor == SPEC_ABSENT);
	assert_true(s->device_rules[0].read && s->device_rules[0].write &&
		    s->device_rules[0].mknod);
	assert_true(s->device_rules[1].allow);
	assert_int_equal(s->device_rules[1].type, 'c');
	assert_int_equal(s->device_rules[1].major, 1);
	assert_int_equal(s->device_rules[1].minor, 3);
	assert_true(s->device_rules[1].read && !s->device_rules[1].write &&
		    s->device_rules[1].mknod);
	assert_true(s->device_rules[2].major == SPEC_ABSENT);
	assert_true(s->device_rules[2].minor == SPEC_ABSENT);
	spec_free(s);
}

static void test_resources_bad(void **state)
{
	static const struct {
		const char *text, *argument, *reason;
	} cases[] = {
		{ "{\"memory\":1}", "memory", "must be an object, not a number" },
		{ "{\"memory\":{\"limit\":-2}}", "memory.limit",
		  "-2 is not in the range from -1 to 9223372036854775807" },
		{ "{\"memory\":{\"limit\":9223372036854775808}}", "memory.limit",
		  "9223372036854775808 is not in the range from -1 to 9223372036854775807" },
		{ "{\"memory\":{\"limit\":\"1g\"}}", "memory.limit",
		  "must be an integer, not a string" },
		{ "{\"memory\":{\"swappiness\":101}}", "memory.swappiness",
		  "101 is not in the range from 0 to 100" },
		{ "{\"memory\":{\"useHierarchy\":1}}", "memory.useHierarchy",
		  "must be a boolean, not a number" },
		{ "{\"cpu\":{\"shares\":-1}}", "cpu.shares",
		  "-1 is not in the range from 0 to 18446744073709551615" },
		{ "{\"cpu\":{\"cpus\":\"a\"}}", "cpu.cpus", "\"a\" is not a list as \"0-3,7\"" },
		{ "{\"cpu\":{\"idle\":2}}", "cpu.idle", "2 is not in the range from 0 to 1" },
		{ "{\"pids\":{\"limit\":1.5}}", "pids.limit",
		  "must be an integer, not a fraction" },
		{ "{\"blockIO\":{\"weight\":9}}", "blockIO.weight",
		  "9 is not in the range from 10 to 1000" },
		{ "{\"blockIO\":{\"weight\":1001}}", "blockIO.weight",
		  "1001 is not in the range from 0 to 1000" },
		{ "{\"blockIO\":{\"weightDevice\":[{\"major\":1}]}}",
		  "blockIO.weightDevice[0].minor", "is missing" },
		{ "{\"blockIO\":{\"throttleWriteIOPSDevice\":[{\"major\":1,\"minor\":1}]}}",
		  "blockIO.throttleWriteIOPSDevice[0].rate", "is missing" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"2M\",\"limit\":1}]}",
		  "hugepageLimits[0].pageSize", "\"2M\" is no page size as \"2MB\"" },
		{ "{\"hugepageLimits\":[{\"pageSize\":\"2MB\"}]}", "hugepageLimits[0].limit",
		  "is missing" },
		{ "{\"network\":{\"classID\":4294967296}}", "network.classID",
		  "4294967296 is not in the range from 0 to 4294967295" },
		{ "{\"network\":{\"priorities\":[{\"name\":\"eth0\"}]}}",
		  "network.priorities[0].priority", "is missing" },
		{ "{\"rdma\":{\"x\":{\"hcaHandles\":-1}}}", "rdma[\"x\"].hcaHandles",
		  "-1 is not in the range from 0 to 4294967295" },
		{ "{\"rdma\":{\"x\":1}}", "rdma[\"x\"]", "must be an object, not a number" },
		{ "{\"unified\":{\"../memory.max\":\"1\"}}", "unified[\"../memory.max\"]",
		  "no file of a cgroup, as \"memory.high\"" },
		{ "{\"unified\":{\"memory\":\"1\"}}", "unified[\"memory\"]",
		  "no file of a cgroup, as \"memory.high\"" },
		{ "{\"unified\":{\"memory.high\":1}}", "unified[\"memory.high\"]",
		  "must be a string, not a number" },
		{ "{\"devices\":[{\"access\":\"r\"}]}", "devices[0].allow", "is missing" },
		{ "{\"devices\":[{\"allow\":true}]}", "devices[0].access", "is missing" },
		{ "{\"devices\":[{\"allow\":true,\"access\":\"rx\"}]}", "devices[0].access",
		  "\"rx\" has something else than r, w and m" },
		{ "{\"devices\":[{\"allow\":true,\"access\":\"r\",\"type\":\"p\"}]}",
		  "devices[0].type", "unknown device type \"p\"" },
		{ "{\"devices\":[{\"allow\":true,\"access\":\"r\",\"major\":-2}]}",
		  "devices[0].major", "-2 is not in the range from -1 to 4294967295" },
	};
	char text[512], argument[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_object *j;
		struct fault f;
		char message[512];

		snprintf(text, sizeof(text), LINUX("\"resources\":%s"), cases[i].text);
		snprintf(argument, sizeof(argument), "linux.resources.%s", cases[i].argument);
		bad(text, argument, cases[i].reason);
		/* The same in an update. */
		assert_int_equal(json_parse(cases[i].text, strlen(cases[i].text), &j, NULL), 0);
		assert_int_equal(spec_check_resources(j, &f), -EINVAL);
		snprintf(message, sizeof(message), "resources.%s: %s", cases[i].argument,
			 cases[i].reason);
		assert_string_equal(f.message, message);
		assert_int_equal(spec_check_resources(j, NULL), -EINVAL);
		json_object_put(j);
	}
}

static void test_check_resources(void **state)
{
	json_object *j = json_tokener_parse("{\"pids\":{\"limit\":5},\"devices\":[{\"allow\":true,"
					    "\"access\":\"r\"}]}");
	struct fault f;

	(void)state;
	assert_int_equal(spec_check_resources(j, &f), 0);
	json_object_put(j);
	assert_int_equal(spec_check_resources(NULL, &f), -EINVAL);
	assert_string_equal(f.message, "resources: must be an object");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_namespaces),    cmocka_unit_test(test_id_maps),
		cmocka_unit_test(test_time_offsets),  cmocka_unit_test(test_devices),
		cmocka_unit_test(test_net_devices),   cmocka_unit_test(test_linux),
		cmocka_unit_test(test_sysctl),	      cmocka_unit_test(test_memory_policy),
		cmocka_unit_test(test_lists),	      cmocka_unit_test(test_resources),
		cmocka_unit_test(test_resources_bad), cmocka_unit_test(test_check_resources),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
