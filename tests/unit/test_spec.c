// SPDX-License-Identifier: Apache-2.0
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "spec_check.h"
#include "util/limits.h"

static void test_smallest(void **state)
{
	struct spec *s = good("{\"ociVersion\":\"1.0.0\"}");

	(void)state;
	assert_string_equal(s->oci_version, "1.0.0");
	assert_false(s->has_process);
	assert_int_equal(s->process.args.n, 0);
	assert_null(s->root_path);
	assert_null(s->hostname);
	assert_int_equal(s->n_mounts, 0);
	assert_true(s->personality == SPEC_ABSENT);
	assert_true(s->process.oom_score_adj == SPEC_ABSENT);
	assert_true(s->process.umask == SPEC_ABSENT);
	assert_null(s->resources);
	assert_null(s->seccomp);
	for (int i = 0; i < SPEC_NS_KINDS; i++)
		assert_false(s->ns[i].given);
	assert_true(json_object_is_type(s->json, json_type_object));
	spec_free(s);
	spec_free(NULL);
}

static void test_version(void **state)
{
	static const char *const taken_ones[] = { "1.0.0",	"1.0.2-dev", "1.0.2", "1.1.0+dev",
						  "1.2.0-rc.1", "1.2.1",     "1.3.0", "1.3.9" };
	static const char *const unknown[] = { "1.4.0", "2.0.0", "0.6.0", "1.10.0" };
	static const char *const none[] = {
		"1",	   "1.0",  "1.0.x",  "v1.0.0",	"1.0.0 ",
		"1.0.0_x", "1..0", "-1.0.0", "1.0.0.0", "18446744073709551616.0.0"
	};
	char text[128], reason[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(taken_ones); i++) {
		snprintf(text, sizeof(text), "{\"ociVersion\":\"%s\"}", taken_ones[i]);
		taken(text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		snprintf(text, sizeof(text), "{\"ociVersion\":\"%s\"}", unknown[i]);
		snprintf(reason, sizeof(reason), "%s is not known here, 1.0.0 to 1.3.x are",
			 unknown[i]);
		bad(text, "ociVersion", reason);
	}
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		snprintf(text, sizeof(text), "{\"ociVersion\":\"%s\"}", none[i]);
		snprintf(reason, sizeof(reason), "\"%s\" is no version", none[i]);
		bad(text, "ociVersion", reason);
	}
	bad("{}", "ociVersion", "is missing");
	bad("{\"ociVersion\":\"\"}", "ociVersion", "is missing");
	bad("{\"ociVersion\":1}", "ociVersion", "must be a string, not a number");
}

static void test_top(void **state)
{
	struct spec *s = good(SPEC("\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
				   "\"hostname\":\"h\",\"domainname\":\"d\","
				   "\"annotations\":{\"b\":\"2\",\"a\":\"\"},"
				   "\"unknown\":{\"x\":[1]},\"windows\":null,"
				   "\"linux\":{\"namespaces\":[{\"type\":\"uts\"}]}"));
	struct fault f;
	struct spec *none;

	(void)state;
	assert_string_equal(s->root_path, "rootfs");
	assert_true(s->root_readonly);
	assert_string_equal(s->hostname, "h");
	assert_string_equal(s->domainname, "d");
	STRINGS(&s->annotations, "b", "2", "a", "");
	assert_true(json_object_object_get_ex(s->json, "unknown", NULL));
	spec_free(s);

	bad(SPEC("\"root\":{}"), "root.path", "is missing");
	bad(SPEC("\"root\":3"), "root", "must be an object, not a number");
	bad(SPEC("\"root\":{\"path\":\"/\",\"readonly\":1}"), "root.readonly",
	    "must be a boolean, not a number");
	bad(SPEC("\"hostname\":\"h\""), "hostname", "needs a uts namespace");
	bad(SPEC("\"domainname\":\"h\""), "domainname", "needs a uts namespace");
	taken(SPEC("\"hostname\":\"\""));
	bad(SPEC("\"annotations\":{\"a\":1}"), "annotations[\"a\"]",
	    "must be a string, not a number");
	bad(SPEC("\"annotations\":{\"\":\"x\"}"), "annotations", "a key is empty");
	/* A message is one line, whatever the keys. */
	bad(SPEC("\"annotations\":{\"a\\n\\u007fb\":1}"), "annotations[\"a??b\"]",
	    "must be a string, not a number");
	assert_int_equal(spec_parse(NULL, &none, &f), -EINVAL);
	assert_string_equal(f.message, "the spec must be an object");
	assert_int_equal(spec_parse_text("null", 4, &none, &f), -EINVAL);
	assert_int_equal(spec_parse_text("[]", 2, &none, &f), -EINVAL);
	assert_int_equal(spec_parse_text("{", 1, &none, &f), -EINVAL);
	assert_string_equal(f.message,
			    "line 1, column 2: the text ends where a key in quotes should be");
}

static void test_platforms(void **state)
{
	static const char *const names[] = { "windows", "solaris", "vm", "zos", "freebsd" };
	char text[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(text, sizeof(text), "{\"ociVersion\":\"1.0.0\",\"%s\":{}}", names[i]);
		bad(text, names[i], "this section is for another platform than Linux");
	}
}

static void test_process(void **state)
{
	struct spec *s = good(SPEC(
		"\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":24,\"width\":80},"
		"\"user\":{\"uid\":1,\"gid\":2,\"umask\":18,\"additionalGids\":[5,4294967294,5]},"
		"\"args\":[\"sh\",\"\",\"-c\"],\"env\":[\"A=b\",\"C=\",\"D=e=f\"],\"cwd\":\"/w\","
		"\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_CHECKPOINT_RESTORE\"],"
		"\"effective\":[\"CAP_KILL\"],\"inheritable\":[],\"permitted\":[\"CAP_KILL\"],"
		"\"ambient\":[\"CAP_SYS_ADMIN\"]},"
		"\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":1024,\"hard\":"
		"18446744073709551615},{\"type\":\"RLIMIT_CORE\",\"soft\":0,\"hard\":0}],"
		"\"noNewPrivileges\":true,\"apparmorProfile\":\"ap\",\"selinuxLabel\":\"se\","
		"\"oomScoreAdj\":-1000,\"ioPriority\":{\"class\":\"IOPRIO_CLASS_BE\",\"priority\":4},"
		"\"scheduler\":{\"policy\":\"SCHED_DEADLINE\",\"nice\":-5,\"flags\":["
		"\"SCHED_FLAG_RESET_ON_FORK\",\"SCHED_FLAG_DL_OVERRUN\"],\"runtime\":1,\"deadline\":"
		"2,\"period\":18446744073709551615},"
		"\"execCPUAffinity\":{\"initial\":\"0-3,7\",\"final\":\"1\"}}"));
	const struct spec_process *p = &s->process;

	(void)state;
	assert_true(s->has_process);
	assert_true(p->terminal);
	assert_int_equal(p->width, 80);
	assert_int_equal(p->height, 24);
	assert_int_equal(p->uid, 1);
	assert_int_equal(p->gid, 2);
	assert_int_equal(p->umask, 022);
	assert_int_equal(p->n_additional_gids, 3);
	assert_int_equal(p->additional_gids[0], 5);
	assert_true(p->additional_gids[1] == 4294967294u);
	STRINGS(&p->args, "sh", "", "-c");
	STRINGS(&p->env, "A=b", "C=", "D=e=f");
	assert_string_equal(p->cwd, "/w");
	assert_true(p->caps.given);
	assert_true(p->caps.bounding == (1ull << 0 | 1ull << 40));
	assert_true(p->caps.effective == 1ull << 5);
	assert_true(p->caps.inheritable == 0);
	assert_true(p->caps.permitted == 1ull << 5);
	assert_true(p->caps.ambient == 1ull << 21);
	assert_int_equal(p->n_rlimits, 2);
	assert_int_equal(p->rlimits[0].resource, RLIMIT_NOFILE);
	assert_int_equal(p->rlimits[0].soft, 1024);
	assert_true(p->rlimits[0].hard == RLIM_INFINITY);
	assert_int_equal(p->rlimits[1].resource, RLIMIT_CORE);
	assert_true(p->no_new_privileges);
	assert_string_equal(p->apparmor_profile, "ap");
	assert_string_equal(p->selinux_label, "se");
	assert_int_equal(p->oom_score_adj, -1000);
	assert_int_equal(p->io_priority, 2 << 13 | 4);
	assert_true(p->scheduler.given);
	assert_int_equal(p->scheduler.policy, 6);
	assert_int_equal(p->scheduler.nice, -5);
	assert_int_equal(p->scheduler.flags, 5);
	assert_int_equal(p->scheduler.runtime, 1);
	assert_int_equal(p->scheduler.deadline, 2);
	assert_true(p->scheduler.period == UINT64_MAX);
	STRINGS(&p->exec_cpu_affinity, "0-3,7", "1");
	spec_free(s);
}

static void test_process_absent(void **state)
{
	struct spec *s = good(PROCESS("\"user\":null,\"apparmorProfile\":\"\","
				      "\"execCPUAffinity\":{\"final\":\"2\"}"));
	const struct spec_process *p = &s->process;

	(void)state;
	assert_int_equal(p->uid, 0);
	assert_true(p->umask == SPEC_ABSENT);
	assert_true(p->oom_score_adj == SPEC_ABSENT);
	assert_true(p->io_priority == SPEC_ABSENT);
	assert_false(p->caps.given);
	assert_false(p->scheduler.given);
	assert_null(p->apparmor_profile);
	assert_non_null(p->env.v);
	assert_null(p->env.v[0]);
	STRINGS(&p->exec_cpu_affinity, "", "2");
	spec_free(s);
}

static void test_process_bad(void **state)
{
	(void)state;
	bad(SPEC("\"process\":{\"cwd\":\"/\"}"), "process.args", "must name a program");
	bad(SPEC("\"process\":{\"cwd\":\"/\",\"args\":[]}"), "process.args", "must name a program");
	bad(SPEC("\"process\":{\"args\":[\"a\"]}"), "process.cwd", "is missing");
	bad(SPEC("\"process\":{\"args\":[\"a\"],\"cwd\":\"w\"}"), "process.cwd",
	    "\"w\" is not an absolute path");
	bad(SPEC("\"process\":{\"args\":\"a\",\"cwd\":\"/\"}"), "process.args",
	    "must be an array, not a string");
	bad(SPEC("\"process\":{\"args\":[\"a\",null],\"cwd\":\"/\"}"), "process.args[1]",
	    "must be a string, not null");
	bad(PROCESS("\"env\":[\"A=1\",\"B\"]"), "process.env[1]",
	    "\"B\" is not of the form NAME=VALUE");
	bad(PROCESS("\"env\":[\"=x\"]"), "process.env[0]", "\"=x\" is not of the form NAME=VALUE");
	bad(PROCESS("\"terminal\":1"), "process.terminal", "must be a boolean, not a number");
	bad(PROCESS("\"consoleSize\":{\"height\":1}"), "process.consoleSize.width", "is missing");
	bad(PROCESS("\"consoleSize\":{\"height\":1,\"width\":65536}"), "process.consoleSize.width",
	    "65536 is not in the range from 0 to 65535");
	bad(PROCESS("\"user\":{\"uid\":4294967295}"), "process.user.uid",
	    "4294967295 is not in the range from 0 to 4294967294");
	bad(PROCESS("\"user\":{\"gid\":-1}"), "process.user.gid",
	    "-1 is not in the range from 0 to 4294967294");
	bad(PROCESS("\"user\":{\"uid\":1.0}"), "process.user.uid",
	    "must be an integer, not a fraction");
	bad(PROCESS("\"user\":{\"uid\":\"0\"}"), "process.user.uid",
	    "must be an integer, not a string");
	bad(PROCESS("\"user\":{\"umask\":512}"), "process.user.umask",
	    "512 is not in the range from 0 to 511");
	bad(PROCESS("\"user\":{\"additionalGids\":[1,-1]}"), "process.user.additionalGids[1]",
	    "must be a group number from 0 to 4294967294");
	bad(PROCESS("\"commandLine\":\"x\""), "process.commandLine",
	    "is for Windows; args is Linux's");
	bad(PROCESS("\"capabilities\":{\"ambient\":[\"CAP_CHOWN\",\"CAP_X\"]}"),
	    "process.capabilities.ambient[1]", "unknown capability \"CAP_X\"");
	bad(PROCESS("\"capabilities\":{\"bounding\":[\"CHOWN\"]}"),
	    "process.capabilities.bounding[0]", "unknown capability \"CHOWN\"");
	bad(PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":1,\"hard\":1},"
		    "{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1},{\"type\":\"RLIMIT_X\"}]"),
	    "process.rlimits[2].type", "unknown resource limit \"RLIMIT_X\"");
	bad(PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1},"
		    "{\"type\":\"RLIMIT_CPU\",\"soft\":1,\"hard\":1}]"),
	    "process.rlimits[1].type", "is given a second time");
	bad(PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]"),
	    "process.rlimits[0].soft", "is above hard");
	bad(PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2}]"),
	    "process.rlimits[0].hard", "is missing");
	bad(PROCESS("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":-1,\"hard\":1}]"),
	    "process.rlimits[0].soft", "-1 is not in the range from 0 to 18446744073709551615");
	bad(PROCESS("\"oomScoreAdj\":1001"), "process.oomScoreAdj",
	    "1001 is not in the range from -1000 to 1000");
	bad(PROCESS("\"oomScoreAdj\":18446744073709551615"), "process.oomScoreAdj",
	    "18446744073709551615 is not in the range from -1000 to 1000");
	bad(PROCESS("\"ioPriority\":{\"class\":\"BE\"}"), "process.ioPriority.class",
	    "unknown I/O priority class \"BE\"");
	bad(PROCESS("\"ioPriority\":{\"class\":\"IOPRIO_CLASS_RT\",\"priority\":8}"),
	    "process.ioPriority.priority", "8 is not in the range from 0 to 7");
	bad(PROCESS("\"execCPUAffinity\":{\"initial\":\"3-1\"}"), "process.execCPUAffinity.initial",
	    "\"3-1\" is not a list of processors");
}

static void test_scheduler_bad(void **state)
{
	(void)state;
	taken(PROCESS("\"scheduler\":{\"policy\":\"SCHED_FIFO\",\"priority\":99}"));
	taken(PROCESS("\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"nice\":19,\"priority\":0}"));
	bad(PROCESS("\"scheduler\":{}"), "process.scheduler.policy", "is missing");
	bad(PROCESS("\"scheduler\":{\"policy\":\"FIFO\"}"), "process.scheduler.policy",
	    "unknown scheduling policy \"FIFO\"");
	refused(PROCESS("\"scheduler\":{\"policy\":\"SCHED_ISO\"}"), FAULT_UNIMPLEMENTED,
		"process.scheduler.policy", "Linux reserves SCHED_ISO and does not have it");
	bad(PROCESS("\"scheduler\":{\"policy\":\"SCHED_RR\"}"), "process.scheduler.priority",
	    "SCHED_FIFO and SCHED_RR need one from 1 to 99");
	bad(PROCESS("\"scheduler\":{\"policy\":\"SCHED_IDLE\",\"priority\":1}"),
	    "process.scheduler.priority", "is for SCHED_FIFO and SCHED_RR only");
	bad(PROCESS("\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"nice\":20}"),
	    "process.scheduler.nice", "20 is not in the range from -20 to 19");
	bad(PROCESS("\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"flags\":[\"X\"]}"),
	    "process.scheduler.flags[0]", "unknown scheduling flag \"X\"");
	bad(PROCESS("\"scheduler\":{\"policy\":\"SCHED_OTHER\",\"period\":1}"),
	    "process.scheduler.policy", "runtime, deadline and period are for SCHED_DEADLINE only");
}

static void test_process_alone(void **state)
{
	json_object *j = json_tokener_parse("{\"args\":[\"x\"],\"cwd\":\"/\"}");
	struct fault f;
	struct spec *s;

	(void)state;
	assert_int_equal(spec_parse_process(j, &s, &f), 0);
	json_object_put(j);
	assert_true(s->has_process);
	STRINGS(&s->process.args, "x");
	assert_true(s->personality == SPEC_ABSENT);
	spec_free(s);
	j = json_tokener_parse("{\"args\":[\"x\"],\"cwd\":\"/\",\"user\":{\"uid\":-1}}");
	assert_int_equal(spec_parse_process(j, &s, &f), -EINVAL);
	assert_string_equal(f.argument, "process.user.uid");
	json_object_put(j);
	assert_int_equal(spec_parse_process(NULL, &s, &f), -EINVAL);
	assert_string_equal(f.message, "process: must be an object");
}

static void test_mounts(void **state)
{
	struct spec *s = good(SPEC(
		"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},"
		"{\"destination\":\"data\",\"source\":\"/srv\",\"options\":[\"rbind\",\"ro\"],"
		"\"uidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":5}],"
		"\"gidMappings\":[{\"containerID\":1,\"hostID\":4294967290,\"size\":5}]},"
		"{\"destination\":\"/\",\"type\":\"\"}]"));

	(void)state;
	assert_int_equal(s->n_mounts, 3);
	assert_string_equal(s->mounts[0].destination, "/proc");
	assert_string_equal(s->mounts[0].type, "proc");
	assert_string_equal(s->mounts[0].source, "proc");
	assert_int_equal(s->mounts[0].options.n, 0);
	assert_string_equal(s->mounts[1].destination, "/data");
	assert_null(s->mounts[1].type);
	STRINGS(&s->mounts[1].options, "rbind", "ro");
	assert_int_equal(s->mounts[1].uid_mappings.n, 1);
	assert_int_equal(s->mounts[1].uid_mappings.v[0].host_id, 1000);
	assert_int_equal(s->mounts[1].gid_mappings.v[0].container_id, 1);
	assert_true(s->mounts[1].gid_mappings.v[0].host_id == 4294967290u);
	assert_string_equal(s->mounts[2].destination, "/");
	assert_null(s->mounts[2].type);
	spec_free(s);

	bad(SPEC("\"mounts\":{}"), "mounts", "must be an array, not an object");
	bad(SPEC("\"mounts\":[1]"), "mounts[0]", "must be an object, not a number");
	bad(SPEC("\"mounts\":[{}]"), "mounts[0].destination", "is missing");
	bad(SPEC("\"mounts\":[{\"destination\":\"/a\",\"options\":[\"ro\",7]}]"),
	    "mounts[0].options[1]", "must be a string, not a number");
	bad(SPEC("\"mounts\":[{\"destination\":\"/a\",\"uidMappings\":[{\"containerID\":0,"
		 "\"hostID\":0,\"size\":1}]}]"),
	    "mounts[0].gidMappings", "uidMappings and gidMappings go together");
	bad(SPEC("\"mounts\":[{\"destination\":\"/a\",\"uidMappings\":[{\"containerID\":0,"
		 "\"hostID\":0,\"size\":0}]}]"),
	    "mounts[0].uidMappings[0].size", "must not be 0");
	bad(SPEC("\"mounts\":[{\"destination\":\"/a\",\"uidMappings\":[{\"containerID\":1,"
		 "\"hostID\":4294967295,\"size\":1}]}]"),
	    "mounts[0].uidMappings[0].size", "the range ends beyond the last id");
}

static void test_hooks(void **state)
{
	struct spec *s = good(SPEC(
		"\"hooks\":{\"prestart\":[{\"path\":\"/a\"}],\"createRuntime\":[{\"path\":\"/b\"}],"
		"\"createContainer\":[{\"path\":\"/c\"}],\"startContainer\":[{\"path\":\"/d\"}],"
		"\"poststart\":[{\"path\":\"/e\"},{\"path\":\"/e2\"}],\"poststop\":[{\"path\":\"/f\","
		"\"args\":[\"f\",\"x\"],\"env\":[\"A=b\"],\"timeout\":5}]}"));
	static const char *const names[] = { "prestart",       "createRuntime", "createContainer",
					     "startContainer", "poststart",	"poststop" };
	static const char *const paths[] = { "/a", "/b", "/c", "/d", "/e", "/f" };

	(void)state;
	for (int i = 0; i < SPEC_HOOK_KINDS; i++) {
		assert_int_equal(s->hooks[i].n, i == SPEC_HOOK_POSTSTART ? 2 : 1);
		assert_string_equal(s->hooks[i].v[0].path, paths[i]);
		assert_string_equal(spec_hook_name((enum spec_hook_kind)i), names[i]);
	}
	assert_true(s->hooks[0].v[0].timeout == SPEC_ABSENT);
	assert_int_equal(s->hooks[SPEC_HOOK_POSTSTOP].v[0].timeout, 5);
	STRINGS(&s->hooks[SPEC_HOOK_POSTSTOP].v[0].args, "f", "x");
	STRINGS(&s->hooks[SPEC_HOOK_POSTSTOP].v[0].env, "A=b");
	spec_free(s);

	bad(SPEC("\"hooks\":{\"poststop\":[{\"path\":\"/a\"},{\"path\":\"a\"}]}"),
	    "hooks.poststop[1].path", "\"a\" is not an absolute path");
	bad(SPEC("\"hooks\":{\"prestart\":[{}]}"), "hooks.prestart[0].path", "is missing");
	bad(SPEC("\"hooks\":{\"prestart\":[{\"path\":\"/a\",\"timeout\":0}]}"),
	    "hooks.prestart[0].timeout", "0 is not in the range from 1 to 2147483647");
}

/* An empty array stands for an empty object, and the tree has an object afterwards. */
static void test_empty_arrays(void **state)
{
	static const char want[] =
		"{\"ociVersion\":\"1.0.0\",\"annotations\":{},\"hooks\":{},\"linux\":{"
		"\"namespaces\":[{\"type\":\"time\"}],\"timeOffsets\":{\"monotonic\":"
		"{}},\"resources\":{\"memory\":{},\"rdma\":{\"x\":{}}},\"devices\":[]}}";
	struct spec *s = good(
		"{\"ociVersion\":\"1.0.0\",\"annotations\":[],\"hooks\":[],\"linux\":{"
		"\"namespaces\":[{\"type\":\"time\"}],\"timeOffsets\":{\"monotonic\":[]},"
		"\"resources\":{\"memory\":[],\"rdma\":{\"x\":[]}},\"devices\":[]}}");

	(void)state;
	assert_true(s->time_offsets[0].given);
	assert_string_equal(json_object_to_json_string_ext(s->json, JSON_C_TO_STRING_PLAIN), want);
	spec_free(s);
	bad(SPEC("\"mounts\":[[]]"), "mounts[0].destination", "is missing");
	bad(SPEC("\"annotations\":[1]"), "annotations", "must be an object, not an array");
}

static void test_names(void **state)
{
	static const struct {
		const char *name, *proc;
		int flag;
	} ns[SPEC_NS_KINDS] = {
		{ "pid", "pid", CLONE_NEWPID },		 { "network", "net", CLONE_NEWNET },
		{ "mount", "mnt", CLONE_NEWNS },	 { "ipc", "ipc", CLONE_NEWIPC },
		{ "uts", "uts", CLONE_NEWUTS },		 { "user", "user", CLONE_NEWUSER },
		{ "cgroup", "cgroup", CLONE_NEWCGROUP }, { "time", "time", 0x80 },
	};

	(void)state;
	for (int i = 0; i < SPEC_NS_KINDS; i++) {
		assert_string_equal(spec_ns_name((enum spec_ns_kind)i), ns[i].name);
		assert_string_equal(spec_ns_proc((enum spec_ns_kind)i), ns[i].proc);
		assert_int_equal(spec_ns_flag((enum spec_ns_kind)i), ns[i].flag);
	}
	assert_int_equal(spec_cap_by_name("CAP_CHOWN"), 0);
	assert_int_equal(spec_cap_by_name("cap_sys_admin"), 21);
	assert_int_equal(spec_cap_by_name("CAP_CHECKPOINT_RESTORE"), 40);
	assert_int_equal(spec_cap_by_name("SYS_ADMIN"), -1);
	assert_int_equal(spec_cap_by_name("CAP_"), -1);
	assert_int_equal(spec_cap_by_name(""), -1);
}

static void test_limits(void **state)
{
	size_t room = LIMIT_SPEC_BYTES + 64, n;
	char *text = malloc(room), *p;
	struct fault f;
	struct spec *s;

	(void)state;
	assert_non_null(text);
	/* config.json: one byte more than the limit, of spaces. */
	n = (size_t)sprintf(text, "{\"ociVersion\":\"1.0.0\"}");
	memset(text + n, ' ', LIMIT_SPEC_BYTES + 1 - n);
	assert_int_equal(spec_parse_text(text, LIMIT_SPEC_BYTES + 1, &s, &f), -EINVAL);
	assert_string_equal(f.message, "the spec has 4194305 bytes, more than 4194304");
	assert_int_equal(spec_parse_text(text, LIMIT_SPEC_BYTES, &s, &f), 0);
	spec_free(s);

	for (unsigned mounts = LIMIT_SPEC_MOUNTS; mounts <= LIMIT_SPEC_MOUNTS + 1; mounts++) {
		p = text + sprintf(text, "{\"ociVersion\":\"1.0.0\",\"mounts\":[");
		for (unsigned i = 0; i < mounts; i++)
			p += sprintf(p, "%s{\"destination\":\"/%u\"}", i ? "," : "", i);
		strcpy(p, "]}");
		if (mounts == LIMIT_SPEC_MOUNTS)
			taken(text);
		else
			bad(text, "mounts", "more than 4096 mounts");
	}

	/* args and env together, with their NULs: "a" and "E=…" fill the limit. */
	for (size_t extra = 0; extra < 2; extra++) {
		n = LIMIT_SPEC_ARGS_BYTES - strlen("a") - 1 - strlen("E=") - 1 + extra;
		p = text + sprintf(text, "{\"ociVersion\":\"1.0.0\",\"process\":{\"cwd\":\"/\","
					 "\"args\":[\"a\"],\"env\":[\"E=");
		memset(p, 'x', n);
		strcpy(p + n, "\"]}}");
		if (!extra)
			taken(text);
		else
			bad(text, "process.args",
			    "args and env have 2097153 bytes, more than 2097152");
	}
	free(text);
}

static void test_long_values(void **state)
{
	char text[8192], path[4200];
	struct fault f;
	struct spec *s;

	(void)state;
	/* A user's key, as long as it likes, leaves the fault whole. */
	memset(path, 'k', sizeof(path));
	path[4000] = '\0';
	snprintf(text, sizeof(text), SPEC("\"annotations\":{\"%s\":1}"), path);
	assert_int_equal(spec_parse_text(text, strlen(text), &s, &f), -EINVAL);
	assert_true(strlen(f.argument) == sizeof(f.argument) - 1);
	assert_non_null(strstr(f.message, "must be a string, not a number"));
	path[4000] = 'k';
	path[4095] = '\0';
	snprintf(text, sizeof(text), SPEC("\"mounts\":[{\"destination\":\"%s\"}]"), path);
	bad(text, "mounts[0].destination", "is longer than 4094 bytes");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smallest),      cmocka_unit_test(test_version),
		cmocka_unit_test(test_top),	      cmocka_unit_test(test_platforms),
		cmocka_unit_test(test_process),	      cmocka_unit_test(test_process_absent),
		cmocka_unit_test(test_process_bad),   cmocka_unit_test(test_scheduler_bad),
		cmocka_unit_test(test_process_alone), cmocka_unit_test(test_mounts),
		cmocka_unit_test(test_hooks),	      cmocka_unit_test(test_empty_arrays),
		cmocka_unit_test(test_names),	      cmocka_unit_test(test_limits),
		cmocka_unit_test(test_long_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
