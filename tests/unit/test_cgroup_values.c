// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: OCI resources to values, on v1 and v2, and updates that put back what was there
 *
 * Conversions are tested on a folder that plays a v2 hierarchy: files are files. What the kernel
 * says is tested on this host's own groups below /davit-unit-values.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cgroup_kit.h"

#include "runtime/cgroup_internal.h"
#include "runtime/cgroup_lib.h"
#include "util/cleanup.h"

static struct cgroup_host *host; /* of this machine */

static int setup(void **state)
{
	(void)state;
	host = cgroup_kit_begin("/davit-unit-values");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (host)
		cgroup_prune(host, "ns");
	cgroup_host_free(host);
	host = NULL;
	return 0;
}

/* ---- a folder that plays cgroup v2 ---- */

#define FAKE_CONTROLLERS "cpuset cpu io memory hugetlb pids rdma misc"

struct fake {
	char dir[32];
	struct cgroup_host *h;
	struct cgroup *cg;
};

static void fake_put(struct fake *k, const char *file, const char *text)
{
	char path[PATH_MAX];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%s", k->dir, file);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
}

static void fake_open(struct fake *k)
{
	static const char *const files[] = {
		"memory.max",  "memory.swap.max", "memory.low",	     "memory.high",
		"cpu.weight",  "cpu.max",	  "cpu.max.burst",   "cpu.idle",
		"cpuset.cpus", "cpuset.mems",	  "pids.max",	     "io.weight",
		"io.max",      "rdma.max",	  "hugetlb.2MB.max", "misc.max",
	};
	char text[128];
	struct fault f;

	strcpy(k->dir, "/tmp/davit-unit-XXXXXX");
	assert_non_null(mkdtemp(k->dir));
	fake_put(k, "cgroup.controllers", FAKE_CONTROLLERS "\n");
	fake_put(k, "cgroup.subtree_control", FAKE_CONTROLLERS "\n");
	snprintf(text, sizeof(text), "41 31 0:38 / %s rw - cgroup2 cgroup2 rw\n", k->dir);
	fake_put(k, "mountinfo", text);
	snprintf(text, sizeof(text), "%s/c", k->dir);
	assert_int_equal(mkdir(text, 0755), 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(text, sizeof(text), "c/%s", files[i]);
		fake_put(k, text, "");
	}
	fake_put(k, "c/cgroup.controllers", FAKE_CONTROLLERS "\n");
	snprintf(text, sizeof(text), "%s/mountinfo", k->dir);
	assert_int_equal(cgroup_host_new_from(&k->h, text, "/davit", &f), 0);
	assert_int_equal(cgroup_open(k->h, "/c", &k->cg), 0);
}

static void fake_close(struct fake *k)
{
	char command[64];

	cgroup_free(k->cg);
	cgroup_host_free(k->h);
	snprintf(command, sizeof(command), "rm -r %s", k->dir);
	assert_int_equal(strncmp(k->dir, "/tmp/davit-unit-", 16), 0);
	if (system(command))
		fail();
}

/* Values of a JSON text; negative with the fault. */
static int read_json(struct cgroup *cg, bool fresh, const char *json, struct cgroup_values *out,
		     struct fault *f)
{
	json_object *j = json_tokener_parse(json);
	int r;

	assert_non_null(j);
	memset(out, 0, sizeof(*out));
	r = cgroup_resources_read(cg, fresh, j, out, f);
	json_object_put(j);
	return r;
}

/* "file=text" of all values, with blanks between. */
static void expect(struct cgroup *cg, const char *json, const char *want)
{
	struct cgroup_values l;
	struct fault f = { 0 };
	char got[2048] = "";

	if (read_json(cg, true, json, &l, &f) < 0)
		fail_msg("%s: %s", json, f.message);
	for (size_t i = 0; i < l.n; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s=%s", i ? ", " : "",
			 l.v[i].file, l.v[i].text);
	assert_string_equal(got, want);
	cgroup_values_clear(&l);
}

static void expect_fault(struct cgroup *cg, const char *json, enum fault_code code,
			 const char *argument)
{
	struct cgroup_values l;
	struct fault f = { 0 };

	if (read_json(cg, true, json, &l, &f) >= 0)
		fail_msg("%s was taken", json);
	cgroup_values_clear(&l);
	if (f.code != code)
		fail_msg("%s: %s", json, f.message);
	assert_string_equal(f.argument, argument);
	assert_non_null(strstr(f.message, argument));
}

static void test_weights(void **state)
{
	(void)state;
	assert_int_equal(cgroup_weight_of_shares(0), 1);
	assert_int_equal(cgroup_weight_of_shares(2), 1);
	assert_int_equal(cgroup_weight_of_shares(1024), 100);
	assert_int_equal(cgroup_weight_of_shares(262144), 10000);
	assert_int_equal(cgroup_weight_of_shares(UINT64_MAX), 10000);
	for (uint64_t s = 2, last = 0; s <= 262144; s += 1 + s / 7) {
		uint64_t w = cgroup_weight_of_shares(s);

		assert_in_range(w, last ? last : 1, 10000);
		last = w;
	}
	assert_int_equal(cgroup_weight_of_blkio(10), 1);
	assert_int_equal(cgroup_weight_of_blkio(1000), 10000);
	assert_int_equal(cgroup_weight_of_blkio(5), 1);
	assert_int_equal(cgroup_weight_of_blkio(500), 4950);
}

static void test_v2(void **state)
{
	struct fake k;

	(void)state;
	fake_open(&k);
	expect(k.cg, "{}", "");
	expect(k.cg, "{\"memory\":null,\"cpu\":{},\"pids\":{}}", "");
	expect(k.cg, "{\"memory\":{\"limit\":1000,\"swap\":1500,\"reservation\":500}}",
	       "memory.max=1000, memory.swap.max=500, memory.low=500");
	expect(k.cg, "{\"memory\":{\"limit\":1000,\"swap\":1000}}",
	       "memory.max=1000, memory.swap.max=0");
	expect(k.cg, "{\"memory\":{\"limit\":1000,\"swap\":-1}}",
	       "memory.max=1000, memory.swap.max=max");
	expect(k.cg, "{\"memory\":{\"limit\":-1}}", "memory.max=max, memory.swap.max=max");
	expect(k.cg, "{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0,\"kernel\":0}}", "");
	expect(k.cg, "{\"memory\":{\"disableOOMKiller\":false,\"useHierarchy\":true}}", "");
	expect_fault(k.cg, "{\"memory\":{\"swap\":1000}}", FAULT_INVALID_ARGUMENT, "memory.swap");
	expect_fault(k.cg, "{\"memory\":{\"limit\":1000,\"swap\":999}}", FAULT_INVALID_ARGUMENT,
		     "memory.swap");
	expect_fault(k.cg, "{\"memory\":{\"kernel\":1}}", FAULT_FAILED_PRECONDITION,
		     "memory.kernel");
	expect_fault(k.cg, "{\"memory\":{\"kernelTCP\":1}}", FAULT_FAILED_PRECONDITION,
		     "memory.kernelTCP");
	expect_fault(k.cg, "{\"memory\":{\"swappiness\":0}}", FAULT_FAILED_PRECONDITION,
		     "memory.swappiness");
	expect_fault(k.cg, "{\"memory\":{\"disableOOMKiller\":true}}", FAULT_FAILED_PRECONDITION,
		     "memory.disableOOMKiller");
	expect_fault(k.cg, "{\"memory\":{\"useHierarchy\":false}}", FAULT_FAILED_PRECONDITION,
		     "memory.useHierarchy");
	expect_fault(k.cg, "{\"memory\":{\"limit\":\"1\"}}", FAULT_INVALID_ARGUMENT,
		     "memory.limit");
	expect_fault(k.cg, "{\"memory\":[]}", FAULT_INVALID_ARGUMENT, "memory");

	expect(k.cg,
	       "{\"cpu\":{\"shares\":1024,\"quota\":20000,\"period\":50000,\"burst\":1000,\"cpus\":\"0-1\",\"mems\":\"0\"}}",
	       "cpu.weight=100, cpu.max=20000 50000, cpu.max.burst=1000, cpuset.cpus=0-1, cpuset.mems=0");
	expect(k.cg, "{\"cpu\":{\"quota\":20000}}", "cpu.max=20000");
	expect(k.cg, "{\"cpu\":{\"quota\":-1}}", "cpu.max=max");
	expect(k.cg, "{\"cpu\":{\"period\":5000}}", "cpu.max=max 5000");
	expect(k.cg, "{\"cpu\":{\"idle\":1}}", "cpu.idle=1");
	expect(k.cg, "{\"cpu\":{\"shares\":0,\"quota\":0,\"period\":0,\"cpus\":\"\"}}", "");
	expect_fault(k.cg, "{\"cpu\":{\"realtimeRuntime\":1}}", FAULT_FAILED_PRECONDITION,
		     "cpu.realtimeRuntime");
	expect_fault(k.cg, "{\"cpu\":{\"shares\":-1}}", FAULT_INVALID_ARGUMENT, "cpu.shares");
	expect_fault(k.cg, "{\"cpu\":{\"cpus\":1}}", FAULT_INVALID_ARGUMENT, "cpu.cpus");

	expect(k.cg, "{\"pids\":{\"limit\":7}}", "pids.max=7");
	expect(k.cg, "{\"pids\":{\"limit\":-1}}", "pids.max=max");
	expect(k.cg, "{\"pids\":{\"limit\":0}}", "pids.max=max");

	expect(k.cg,
	       "{\"blockIO\":{\"weight\":500,\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":10}]}}",
	       "io.weight=4950, io.weight=8:0 1");
	expect(k.cg,
	       "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":18446744073709551615}],"
	       "\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":16,\"rate\":0}]}}",
	       "io.max=8:0 rbps=18446744073709551615, io.max=8:16 wiops=max");
	expect_fault(k.cg, "{\"blockIO\":{\"leafWeight\":10}}", FAULT_FAILED_PRECONDITION,
		     "blockIO.leafWeight");
	expect_fault(k.cg, "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0}]}}",
		     FAULT_INVALID_ARGUMENT, "blockIO.throttleReadBpsDevice");
	expect_fault(k.cg, "{\"blockIO\":{\"weightDevice\":[{\"major\":8,\"minor\":0}]}}",
		     FAULT_INVALID_ARGUMENT, "blockIO.weightDevice");

	expect(k.cg, "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}",
	       "hugetlb.2MB.max=4194304");
	fake_put(&k, "c/hugetlb.2MB.rsvd.max", "");
	expect(k.cg, "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0}]}",
	       "hugetlb.2MB.max=0, hugetlb.2MB.rsvd.max=0");
	expect_fault(k.cg, "{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":0}]}",
		     FAULT_INVALID_ARGUMENT, "hugepageLimits");
	expect(k.cg,
	       "{\"rdma\":{\"mlx5_0\":{\"hcaHandles\":3,\"hcaObjects\":9},\"mlx5_1\":{\"hcaObjects\":1}}}",
	       "rdma.max=mlx5_0 hca_handle=3 hca_object=9, rdma.max=mlx5_1 hca_object=1");
	expect_fault(k.cg, "{\"rdma\":{\"m\":{}}}", FAULT_INVALID_ARGUMENT, "rdma");
	expect_fault(k.cg, "{\"network\":{\"classID\":1}}", FAULT_FAILED_PRECONDITION,
		     "network.classID");
	expect_fault(k.cg, "{\"network\":{\"priorities\":[{\"name\":\"lo\",\"priority\":1}]}}",
		     FAULT_FAILED_PRECONDITION, "network.priorities");

	expect(k.cg,
	       "{\"unified\":{\"memory.high\":\"5\",\"io.max\":\"8:0 rbps=1\\n8:16 wbps=2\",\"cgroup.max.depth\":\"3\"}}",
	       "memory.high=5, io.max=8:0 rbps=1, io.max=8:16 wbps=2, cgroup.max.depth=3");
	expect_fault(k.cg, "{\"unified\":{\"nope.max\":\"5\"}}", FAULT_FAILED_PRECONDITION,
		     "unified.nope.max");
	expect_fault(k.cg, "{\"unified\":{\"cgroup.procs\":\"1\"}}", FAULT_INVALID_ARGUMENT,
		     "unified.cgroup.procs");
	expect_fault(k.cg, "{\"unified\":{\"../memory.max\":\"1\"}}", FAULT_INVALID_ARGUMENT,
		     "unified.../memory.max");
	expect_fault(k.cg, "{\"unified\":{\"memory.max\":1}}", FAULT_INVALID_ARGUMENT,
		     "unified.memory.max");
	fake_close(&k);
}

static void test_v2_period_keeps_quota(void **state)
{
	struct cgroup_values l;
	struct fault f = { 0 };
	struct fake k;

	(void)state;
	fake_open(&k);
	fake_put(&k, "c/cpu.max", "12345 100000\n");
	assert_int_equal(read_json(k.cg, false, "{\"cpu\":{\"period\":5000}}", &l, &f), 0);
	assert_int_equal(l.n, 1);
	assert_string_equal(l.v[0].text, "12345 5000");
	cgroup_values_clear(&l);
	fake_put(&k, "c/memory.current", "5000\n");
	assert_true(read_json(k.cg, false,
			      "{\"memory\":{\"limit\":4000,\"checkBeforeUpdate\":true}}", &l,
			      &f) < 0);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	cgroup_values_clear(&l);
	assert_int_equal(read_json(k.cg, false,
				   "{\"memory\":{\"limit\":6000,\"checkBeforeUpdate\":true}}", &l,
				   &f),
			 0);
	cgroup_values_clear(&l);
	fake_close(&k);
}

/* Undo of keyed files and of plain ones, through the real writer. */
static void test_v2_put_back(void **state)
{
	CLEANUP_FREE char *text = NULL;
	json_object *j;
	struct fault f = { 0 };
	struct fake k;

	(void)state;
	fake_open(&k);
	fake_put(&k, "c/memory.max", "1111");
	fake_put(&k, "c/io.max", "8:0 rbps=1 wbps=max riops=max wiops=max\n");
	/* cpuset.cpus cannot be written: a folder in its place */
	assert_int_equal(unlinkat(k.h->h[0].fd, "c/cpuset.cpus", 0), 0);
	assert_int_equal(mkdirat(k.h->h[0].fd, "c/cpuset.cpus", 0755), 0);
	j = json_tokener_parse("{\"memory\":{\"limit\":2222},\"cpu\":{\"cpus\":\"0\"}}");
	assert_true(cgroup_update(k.cg, j, &f) < 0);
	json_object_put(j);
	assert_string_equal(f.argument, "cpu.cpus");
	assert_int_equal(cgroup_file_read(k.h, 0, "/c", "memory.max", &text), 0);
	assert_string_equal(text, "1111");
	free(text);
	text = NULL;
	/* the known key's whole line comes back (a file keeps what is longer) */
	assert_int_equal(unlinkat(k.h->h[0].fd, "c/rdma.max", 0), 0);
	j = json_tokener_parse(
		"{\"unified\":{\"io.max\":\"8:0 rbps=2\",\"rdma.max\":\"x hca_object=1\"}}");
	assert_true(cgroup_update(k.cg, j, &f) < 0);
	json_object_put(j);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_non_null(strstr(f.message, "rdma"));
	assert_int_equal(cgroup_file_read(k.h, 0, "/c", "io.max", &text), 0);
	assert_string_equal(text, "8:0 rbps=1 wbps=max riops=max wiops=max\n");
	fake_close(&k);
}

/* v2 kills for a limit below what is used: it is looked at first, and memory.high is as it was. */
static void test_v2_narrow(void **state)
{
	static const struct {
		const char *used, *max;
		int result;
	} cases[] = { { "3000\n", "1111", -EBUSY }, { "1500\n", "2000", 0 } };
	struct fault f = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEANUP_FREE char *max = NULL, *high = NULL;
		json_object *j = json_tokener_parse("{\"memory\":{\"limit\":2000}}");
		struct fake k;

		fake_open(&k);
		fake_put(&k, "c/memory.max", "1111");
		fake_put(&k, "c/memory.high", "9999\n");
		fake_put(&k, "c/memory.current", cases[i].used);
		assert_int_equal(cgroup_narrow(k.cg, j, &f), cases[i].result);
		if (cases[i].result)
			assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_int_equal(cgroup_file_read(k.h, 0, "/c", "memory.max", &max), 0);
		assert_string_equal(max, cases[i].max);
		assert_int_equal(cgroup_file_read(k.h, 0, "/c", "memory.high", &high), 0);
		assert_string_equal(high, "9999\n");
		json_object_put(j);
		fake_close(&k);
	}
}

/* ---- this host ---- */

#define need_v1(controller)                                                                        \
	do {                                                                                       \
		int i_ = host ? cgroup_host_find(host, controller) : -1;                           \
		if (i_ < 0 || host->h[i_].v2)                                                      \
			skip();                                                                    \
	} while (0)

static struct cgroup *make(const char *resources, struct fault *f)
{
	char text[4096];
	struct spec spec = { 0 };
	struct cgroup *cg = NULL;

	snprintf(text, sizeof(text), "{\"linux\":{\"resources\":%s}}", resources);
	spec.json = json_tokener_parse(text);
	assert_non_null(spec.json);
	if (cgroup_create(host, "/davit-unit-values/ns/v", &spec, &cg, f) < 0)
		cg = NULL;
	json_object_put(spec.json);
	return cg;
}

static void drop(struct cgroup *cg)
{
	struct fault f;

	assert_int_equal(cgroup_remove(cg, &f), 0);
	cgroup_free(cg);
}

static void expect_file(struct cgroup *cg, const char *controller, const char *file,
			const char *want)
{
	CLEANUP_FREE char *text = NULL;
	int i = cgroup_host_find(host, controller);

	assert_int_equal(cgroup_file_read(host, i, cg->path, file, &text), 0);
	text[strcspn(text, "\n")] = 0;
	assert_string_equal(text, want);
}

static int update(struct cgroup *cg, const char *json, struct fault *f)
{
	json_object *j = json_tokener_parse(json);
	int r;

	assert_non_null(j);
	memset(f, 0, sizeof(*f));
	r = cgroup_update(cg, j, f);
	json_object_put(j);
	return r;
}

static void test_lib(void **state)
{
	struct cgroup_lib_value two[] = { { "pids", "pids.max", "5" },
					  { "pids", "pids.max", "6" } };
	struct fault f = { 0 };
	struct cgroup *cg;
	char buf[64];
	int i;

	(void)state;
	need_v1("pids");
	i = cgroup_host_find(host, "pids");
	assert_true(host->h[i].lib);
	assert_int_equal(cgroup_lib_knows("pids", "/elsewhere"), 0);
	cg = make("{}", &f);
	assert_non_null(cg);
	assert_int_equal(cgroup_lib_set(cg->path + 1, two, 1), 0);
	assert_int_equal(cgroup_lib_get(cg->path + 1, "pids", "pids.max", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "5\n");
	assert_int_equal(cgroup_lib_get(cg->path + 1, "pids", "pids.max", buf, 2), -EFBIG);
	assert_int_equal(cgroup_lib_get(cg->path + 1, "pids", "pids.nope", buf, sizeof(buf)),
			 -ENOENT);
	assert_int_equal(cgroup_lib_get(cg->path + 1, "pids", "cgroup.procs", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(cgroup_lib_set(cg->path + 1, two, 2), -ENOTSUP);
	two[0].text = "x";
	assert_int_equal(cgroup_lib_set(cg->path + 1, two, 1), -EINVAL);
	two[0].file = "pids.nope";
	assert_int_equal(cgroup_lib_set(cg->path + 1, two, 1), -ENOENT);
	drop(cg);
}

static void test_host_create(void **state)
{
	struct fault f = { 0 };
	struct cgroup *cg;

	(void)state;
	need_v1("memory");
	need_v1("cpu");
	need_v1("pids");
	cg = make(
		"{\"memory\":{\"limit\":67108864,\"swap\":134217728,\"reservation\":33554432,\"swappiness\":10,"
		"\"disableOOMKiller\":true},"
		"\"cpu\":{\"shares\":512,\"quota\":20000,\"period\":50000,\"burst\":10000,\"cpus\":\"0\"},\"pids\":{\"limit\":9}}",
		&f);
	if (!cg)
		fail_msg("%s", f.message);
	expect_file(cg, "memory", "memory.limit_in_bytes", "67108864");
	expect_file(cg, "memory", "memory.memsw.limit_in_bytes", "134217728");
	expect_file(cg, "memory", "memory.soft_limit_in_bytes", "33554432");
	expect_file(cg, "memory", "memory.swappiness", "10");
	expect_file(cg, "memory", "memory.oom_control", "oom_kill_disable 1");
	expect_file(cg, "cpu", "cpu.shares", "512");
	expect_file(cg, "cpu", "cpu.cfs_quota_us", "20000");
	expect_file(cg, "cpu", "cpu.cfs_period_us", "50000");
	expect_file(cg, "cpu", "cpu.cfs_burst_us", "10000");
	expect_file(cg, "cpuset", "cpuset.cpus", "0");
	expect_file(cg, "pids", "pids.max", "9");

	/* both ways over the bounds that memory and memory+swap are to each other */
	assert_int_equal(update(cg, "{\"memory\":{\"limit\":268435456,\"swap\":536870912}}", &f),
			 0);
	expect_file(cg, "memory", "memory.limit_in_bytes", "268435456");
	expect_file(cg, "memory", "memory.memsw.limit_in_bytes", "536870912");
	assert_int_equal(update(cg, "{\"memory\":{\"limit\":16777216,\"swap\":33554432}}", &f), 0);
	expect_file(cg, "memory", "memory.memsw.limit_in_bytes", "33554432");
	assert_int_equal(update(cg, "{\"memory\":{\"limit\":-1}}", &f), 0);
	assert_int_equal(update(cg, "{\"cpu\":{\"quota\":5000,\"burst\":1000}}", &f), 0);
	expect_file(cg, "cpu", "cpu.cfs_quota_us", "5000");
	expect_file(cg, "cpu", "cpu.cfs_burst_us", "1000");
	assert_int_equal(
		update(cg, "{\"cpu\":{\"quota\":50000,\"burst\":40000,\"period\":100000}}", &f), 0);
	expect_file(cg, "cpu", "cpu.cfs_burst_us", "40000");

	/* all or nothing */
	assert_true(update(cg,
			   "{\"pids\":{\"limit\":20},\"cpu\":{\"shares\":700,\"cpus\":\"999\"}}",
			   &f) < 0);
	assert_string_equal(f.argument, "cpu.cpus");
	assert_string_equal(f.log, "");
	expect_file(cg, "pids", "pids.max", "9");
	expect_file(cg, "cpu", "cpu.shares", "512");
	expect_file(cg, "cpuset", "cpuset.cpus", "0");
	assert_true(
		update(cg,
		       "{\"memory\":{\"limit\":8388608,\"swap\":4194304,\"disableOOMKiller\":false}}",
		       &f) < 0);
	assert_string_equal(f.argument, "memory.swap");
	expect_file(cg, "memory", "memory.oom_control", "oom_kill_disable 1");
	assert_true(update(cg, "[]", &f) < 0);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	drop(cg);
}

static void test_host_refuses(void **state)
{
	struct fault f = { 0 };
	struct cgroup *cg;
	struct stat st;

	(void)state;
	need_v1("pids");
	cg = make("{\"pids\":{\"limit\":5},\"cpu\":{\"cpus\":\"4000\"}}", &f);
	assert_null(cg);
	assert_string_equal(f.argument, "cpu.cpus");
	assert_non_null(strstr(f.message, "cpuset"));
	for (size_t i = 0; i < host->n; i++)
		assert_int_not_equal(fstatat(host->h[i].fd, "davit-unit-values/ns/v", &st, 0), 0);
	if (cgroup_host_find(host, "rdma") < 0) {
		assert_null(make("{\"rdma\":{\"m\":{\"hcaHandles\":1}}}", &f));
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_non_null(strstr(f.message, "\"rdma\""));
	}
	if (cgroup_host_find(host, "net_cls") < 0) {
		assert_null(make("{\"network\":{\"classID\":1}}", &f));
		assert_non_null(strstr(f.message, "\"net_cls\""));
	}
	if (cgroup_host_find(host, "memory") >= 0 &&
	    !host->h[cgroup_host_find(host, "memory")].v2) {
		assert_null(make("{\"unified\":{\"memory.high\":\"1\"}}", &f));
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_non_null(strstr(f.message, host->v2 < 0 ? "cgroup v2" : "\"memory\""));
		/* this host's kernel ignores it */
		cg = make("{\"memory\":{\"kernel\":1048576}}", &f);
		if (cg) {
			expect_file(cg, "memory", "memory.kmem.limit_in_bytes", "1048576");
			drop(cg);
		} else {
			assert_string_equal(f.argument, "memory.kernel");
		}
		assert_null(make("{\"memory\":{\"useHierarchy\":false}}", &f));
		assert_string_equal(f.argument, "memory.useHierarchy");
	}
}

/* The same on a host with v2 alone. */
static void test_host_v2(void **state)
{
	struct fault f = { 0 };
	struct cgroup *cg, *inner = NULL;
	struct cgroup_join join;
	json_object *j;
	struct spec spec = { 0 };
	int status;
	pid_t pid;

	(void)state;
	if (!host || cgroup_host_layout(host) != CGROUP_V2 || !cgroup_host_has(host, "memory") ||
	    !cgroup_host_has(host, "cpu") || !cgroup_host_has(host, "cpuset"))
		skip();
	cg = make(
		"{\"memory\":{\"limit\":67108864,\"reservation\":33554432},"
		"\"cpu\":{\"shares\":1024,\"quota\":20000,\"period\":50000,\"burst\":10000,\"cpus\":\"0\"},"
		"\"pids\":{\"limit\":9},\"unified\":{\"memory.high\":\"50331648\"}}",
		&f);
	if (!cg)
		fail_msg("%s", f.message);
	expect_file(cg, "memory", "memory.max", "67108864");
	expect_file(cg, "memory", "memory.low", "33554432");
	expect_file(cg, "memory", "memory.high", "50331648");
	expect_file(cg, "cpu", "cpu.weight", "100");
	expect_file(cg, "cpu", "cpu.max", "20000 50000");
	expect_file(cg, "cpu", "cpu.max.burst", "10000");
	expect_file(cg, "cpuset", "cpuset.cpus", "0");
	expect_file(cg, "pids", "pids.max", "9");
	assert_int_equal(update(cg, "{\"cpu\":{\"period\":100000}}", &f), 0);
	expect_file(cg, "cpu", "cpu.max", "20000 100000");
	/* the burst is above the new quota until it has gone down itself */
	assert_int_equal(update(cg, "{\"cpu\":{\"quota\":5000,\"burst\":1000}}", &f), 0);
	expect_file(cg, "cpu", "cpu.max", "5000 100000");
	expect_file(cg, "cpu", "cpu.max.burst", "1000");
	assert_true(update(cg, "{\"pids\":{\"limit\":20},\"cpu\":{\"shares\":2,\"cpus\":\"x\"}}",
			   &f) < 0);
	assert_string_equal(f.argument, "cpu.cpus");
	assert_string_equal(f.log, "");
	expect_file(cg, "pids", "pids.max", "9");
	expect_file(cg, "cpu", "cpu.weight", "100");
	assert_int_equal(update(cg, "{\"pids\":{\"limit\":-1},\"memory\":{\"limit\":-1}}", &f), 0);
	expect_file(cg, "pids", "pids.max", "max");
	expect_file(cg, "memory", "memory.max", "max");

	/* no controllers below a group that has processes */
	assert_int_equal(cgroup_join_open(cg, &join, &f), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (cgroup_kit_join(&join))
			pause();
		_exit(1);
	}
	cgroup_join_close(&join);
	while (cgroup_populated(cg) == 0 && waitpid(pid, &status, WNOHANG) == 0)
		;
	spec.json = json_tokener_parse(
		"{\"linux\":{\"resources\":{\"memory\":{\"limit\":1048576}}}}");
	assert_true(cgroup_create(host, "/davit-unit-values/ns/v/inner", &spec, &inner, &f) < 0);
	json_object_put(spec.json);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_non_null(strstr(f.message, "/davit-unit-values/ns/v"));
	assert_non_null(strstr(f.message, "\"memory\""));
	assert_int_equal(cgroup_signal(cg, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* and now it may */
	j = json_tokener_parse("{\"linux\":{\"resources\":{\"memory\":{\"limit\":1048576}}}}");
	spec.json = j;
	if (cgroup_create(host, "/davit-unit-values/ns/v/inner", &spec, &inner, &f) < 0)
		fail_msg("%s", f.message);
	json_object_put(j);
	expect_file(inner, "memory", "memory.max", "1048576");
	cgroup_free(inner);
	drop(cg);
}

static void test_oom_kills(void **state)
{
	struct fault f = { 0 };
	struct cgroup_join join;
	struct cgroup *cg;
	int status;
	pid_t pid;

	(void)state;
	if (!host || cgroup_host_find(host, "memory") < 0)
		skip();
	cg = make("{\"memory\":{\"limit\":8388608,\"swap\":8388608}}", &f);
	if (!cg)
		fail_msg("%s", f.message);
	assert_int_equal(cgroup_oom_kills(cg), 0);
	assert_int_equal(cgroup_join_open(cg, &join, &f), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);

		if (!cgroup_kit_join(&join))
			_exit(1);
		for (size_t i = 0; p != MAP_FAILED && i < 64 << 20; i += 4096)
			p[i] = 1;
		_exit(2);
	}
	cgroup_join_close(&join);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(cgroup_oom_kills(cg), 1);
	assert_int_equal(cgroup_remove(cg, &f), 0);
	assert_int_equal(cgroup_oom_kills(cg), -ENOENT);
	cgroup_free(cg);
}

/* A controller that is on v2 has to be handed down by the folders above first. */
static void test_host_hugetlb(void **state)
{
	CLEANUP_FREE char *down = NULL;
	struct fault f = { 0 };
	struct cgroup *cg;
	int i = host ? cgroup_host_find(host, "hugetlb") : -1;

	(void)state;
	if (i < 0 || !host->h[i].v2)
		skip();
	assert_int_equal(cgroup_file_read(host, i, "/", "cgroup.subtree_control", &down), 0);
	cg = make(
		"{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}],\"unified\":{\"cgroup.max.depth\":\"3\"}}",
		&f);
	if (!cg)
		fail_msg("%s", f.message);
	expect_file(cg, "hugetlb", "hugetlb.2MB.max", "4194304");
	expect_file(cg, "hugetlb", "cgroup.max.depth", "3");
	assert_int_equal(update(cg, "{\"unified\":{\"hugetlb.2MB.max\":\"max\"}}", &f), 0);
	expect_file(cg, "hugetlb", "hugetlb.2MB.max", "max");
	assert_true(
		update(cg,
		       "{\"unified\":{\"cgroup.max.depth\":\"4\",\"hugetlb.2MB.max\":\"nonsense\"}}",
		       &f) < 0);
	expect_file(cg, "hugetlb", "cgroup.max.depth", "3");
	assert_null(make("{\"hugepageLimits\":[{\"pageSize\":\"3MB\",\"limit\":0}]}", &f));
	assert_int_equal(f.code, FAULT_ALREADY_EXISTS);
	drop(cg);
	assert_null(make("{\"hugepageLimits\":[{\"pageSize\":\"3MB\",\"limit\":0}]}", &f));
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	cgroup_prune(host, "ns");
	if (!strstr(down, "hugetlb"))
		assert_int_equal(
			cgroup_file_write(host, i, "/", "cgroup.subtree_control", "-hugetlb"), 0);
}

static void test_host_throttle(void **state)
{
	struct fault f = { 0 };
	struct cgroup *cg;
	struct stat st;
	char json[256], want[64];
	unsigned major, minor;

	(void)state;
	need_v1("blkio");
	/* a disk, if there is one */
	if (stat("/dev/vda", &st) < 0 && stat("/dev/sda", &st) < 0)
		skip();
	major = (unsigned)(st.st_rdev >> 8 & 0xfff);
	minor = (unsigned)(st.st_rdev & 0xff);
	cg = make("{}", &f);
	assert_non_null(cg);
	snprintf(
		json, sizeof(json),
		"{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":%u,\"minor\":%u,\"rate\":1048576}]}}",
		major, minor);
	if (update(cg, json, &f) < 0)
		fail_msg("%s", f.message);
	snprintf(want, sizeof(want), "%u:%u 1048576", major, minor);
	expect_file(cg, "blkio", "blkio.throttle.read_bps_device", want);
	/* the second device does not exist: the first goes back to what it had */
	snprintf(json, sizeof(json),
		 "{\"blockIO\":{\"throttleReadBpsDevice\":[{\"major\":%u,\"minor\":%u,\"rate\":5},"
		 "{\"major\":999,\"minor\":999,\"rate\":5}]}}",
		 major, minor);
	assert_true(update(cg, json, &f) < 0);
	assert_string_equal(f.argument, "blockIO.throttleReadBpsDevice");
	expect_file(cg, "blkio", "blkio.throttle.read_bps_device", want);
	snprintf(
		json, sizeof(json),
		"{\"blockIO\":{\"throttleWriteIOPSDevice\":[{\"major\":%u,\"minor\":%u,\"rate\":5},"
		"{\"major\":999,\"minor\":999,\"rate\":5}]}}",
		major, minor);
	assert_true(update(cg, json, &f) < 0);
	expect_file(cg, "blkio", "blkio.throttle.write_iops_device", "");
	drop(cg);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_v2_period_keeps_quota),
		cmocka_unit_test(test_v2_put_back),
		cmocka_unit_test(test_v2_narrow),
		cmocka_unit_test(test_lib),
		cmocka_unit_test(test_host_create),
		cmocka_unit_test(test_host_refuses),
		cmocka_unit_test(test_host_hugetlb),
		cmocka_unit_test(test_host_throttle),
		cmocka_unit_test(test_host_v2),
		cmocka_unit_test(test_oom_kills),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
