// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: from OCI LinuxResources to values
 *
 * Which file a field becomes depends on the hierarchy that has its controller, field by field, so
 * that hybrid hosts in any mixture work: config-linux.md describes v1's meaning, and what v2 has
 * instead is converted as runc and crun do it. A field whose controller the host does not have,
 * or that v2 cannot express, is an error that names both; nothing is skipped. Numbers that peers
 * treat as "not set" when they are 0 (limits of memory and CPU, which clients send as 0 when
 * nobody asked for one) are so here too; -1 lifts a limit.
 *
 * Memory, cpu and pids are here, the others in cgroup_resources_io.c. Devices are not values, see
 * cgroup_devices.c.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup_reader.h"
#include "util/cleanup.h"

/* ---- conversions ---- */

/* log2 and 10 to the power, to about 1e-12: all that is needed of libm. */
static double log2_of(double x)
{
	double whole = 0, part = 0, bit = 1;

	while (x >= 2) {
		x /= 2;
		whole += 1;
	}
	for (int i = 0; i < 48; i++) {
		bit /= 2;
		x *= x;
		if (x >= 2) {
			x /= 2;
			part += bit;
		}
	}
	return whole + part;
}

static double pow10_of(double x)
{
	double y = x * 2.302585092994046, sum = 1, term = 1;

	for (int i = 1; i < 60; i++) {
		term *= y / i;
		sum += term;
	}
	return sum;
}

/*
 * The mapping that runc and crun agreed on in 2025: it keeps both ends and sends the default of
 * one, 1024, to the default of the other, 100. systemd's and their older linear one sent it to
 * 39.
 */
uint64_t cgroup_weight_of_shares(uint64_t shares)
{
	double l, w;

	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2_of((double)shares);
	w = pow10_of(l * l / 612 + 125 * l / 612 - 7.0 / 34);
	/* the next whole number up, but not for a rounding error */
	return (uint64_t)(w + 1 - 1e-7);
}

uint64_t cgroup_weight_of_blkio(uint64_t weight)
{
	if (weight <= 10)
		return 1;
	return weight >= 1000 ? 10000 : 1 + (weight - 10) * 9999 / 990;
}

/* ---- memory ---- */

static int memory_check_usage(struct cgroup_reader *r, int i, int64_t max)
{
	CLEANUP_FREE char *text = NULL;
	bool v2 = r->h->h[i].v2;
	int e;

	if (r->fresh || max < 0)
		return 0;
	e = cgroup_file_read(r->h, i, r->cg->path, v2 ? "memory.current" : "memory.usage_in_bytes",
			     &text);
	if (e < 0)
		return fault_sys(r->f, -e, "read the memory usage of cgroup", r->cg->path);
	if (strtoull(text, NULL, 10) <= (uint64_t)max)
		return 0;
	fault_set(r->f, FAULT_FAILED_PRECONDITION, EBUSY,
		  "linux.resources.memory.limit %" PRId64 " is below what is used, %.*s", max,
		  (int)strcspn(text, "\n"), text);
	fault_arg(r->f, "memory.limit");
	return -EBUSY;
}

/* v2 bounds swap alone, OCI memory and swap together. */
static int memory_swap_v2(struct cgroup_reader *r, int i, bool have_max, int64_t max, int64_t swap)
{
	if (swap < 0)
		return plain(r, i, "memory", "memory.swap.max", "memory.swap", "max");
	if (!have_max || max < 0)
		return cgroup_reader_bad(
			r, "memory.swap",
			"is memory and swap together, and needs memory.limit on cgroup v2");
	if (swap < max)
		return cgroup_reader_bad(
			r, "memory.swap",
			"is memory and swap together, and must not be below memory.limit");
	return plain(r, i, "memory", "memory.swap.max", "memory.swap", "%" PRId64, swap - max);
}

/* Fields that v2 has no file for. */
static int memory_v1_only(struct cgroup_reader *r, int i, json_object *m)
{
	bool v2 = r->h->h[i].v2, flag = false;
	uint64_t u = 0;
	int64_t v = 0;
	int e;

	e = cgroup_reader_int(r, m, "kernel", "memory.kernel", &v);
	if (e < 0)
		return e;
	if (e && v && v2)
		return cgroup_reader_not_on_v2(r, "memory.kernel", "memory");
	if (e && v &&
	    (e = cgroup_reader_add(r, i, "memory", "memory.kmem.limit_in_bytes", "memory.kernel",
				   CGROUP_VALUE_LIMIT_READBACK, 0, NULL, "%" PRId64,
				   v < 0 ? -1 : v)) < 0)
		return e;
	e = cgroup_reader_int(r, m, "kernelTCP", "memory.kernelTCP", &v);
	if (e < 0)
		return e;
	if (e && v && v2)
		return cgroup_reader_not_on_v2(r, "memory.kernelTCP", "memory");
	if (e && v &&
	    (e = cgroup_reader_add(r, i, "memory", "memory.kmem.tcp.limit_in_bytes",
				   "memory.kernelTCP", CGROUP_VALUE_LIMIT_READBACK, 0, NULL,
				   "%" PRId64, v < 0 ? -1 : v)) < 0)
		return e;
	e = cgroup_reader_uint(r, m, "swappiness", "memory.swappiness", 200, &u);
	if (e < 0)
		return e;
	if (e && v2)
		return cgroup_reader_not_on_v2(r, "memory.swappiness", "memory");
	if (e && (e = plain(r, i, "memory", "memory.swappiness", "memory.swappiness", "%" PRIu64,
			    u)) < 0)
		return e;
	e = cgroup_reader_bool(r, m, "disableOOMKiller", "memory.disableOOMKiller", &flag);
	if (e < 0)
		return e;
	if (e && flag && v2)
		return cgroup_reader_not_on_v2(r, "memory.disableOOMKiller", "memory");
	/* false is what a new group has */
	if (e && !v2 && (flag || !r->fresh) &&
	    (e = plain(r, i, "memory", "memory.oom_control", "memory.disableOOMKiller", "%d",
		       flag)) < 0)
		return e;
	e = cgroup_reader_bool(r, m, "useHierarchy", "memory.useHierarchy", &flag);
	if (e < 0)
		return e;
	if (e && !flag && v2)
		return cgroup_reader_not_on_v2(r, "memory.useHierarchy", "memory");
	if (e && !v2)
		return plain(r, i, "memory", "memory.use_hierarchy", "memory.useHierarchy", "%d",
			     flag);
	return 0;
}

static int read_memory(struct cgroup_reader *r, json_object *m)
{
	int64_t max = 0, swap = 0, low = 0;
	int have_max, have_swap, have_low, i, e;
	bool check = false;

	if (!json_object_object_length(m))
		return 0;
	i = cgroup_reader_need(r, "memory", "memory");
	if (i < 0)
		return i;
	have_max = cgroup_reader_int(r, m, "limit", "memory.limit", &max);
	have_swap = cgroup_reader_int(r, m, "swap", "memory.swap", &swap);
	have_low = cgroup_reader_int(r, m, "reservation", "memory.reservation", &low);
	if (have_max < 0 || have_swap < 0 || have_low < 0)
		return -EINVAL;
	e = cgroup_reader_bool(r, m, "checkBeforeUpdate", "memory.checkBeforeUpdate", &check);
	if (e < 0)
		return e;
	if (have_max && max && check && (e = memory_check_usage(r, i, max)) < 0)
		return e;
	/* memory without bound would be refused below a bound of memory and swap */
	if (have_max && max < 0 && (!have_swap || !swap) &&
	    cgroup_reader_has_file(
		    r, i, r->h->h[i].v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes")) {
		have_swap = 1;
		swap = -1;
	}
	if (have_max && max &&
	    (e = cgroup_reader_limit(r, i, "memory", "memory.limit_in_bytes", "memory.max",
				     "memory.limit", GROUP_MEMORY, max)) < 0)
		return e;
	if (have_swap && swap) {
		e = r->h->h[i].v2
			    ? memory_swap_v2(r, i, have_max && max, max, swap)
			    : cgroup_reader_limit(r, i, "memory", "memory.memsw.limit_in_bytes", "",
						  "memory.swap", GROUP_MEMORY, swap);
		if (e < 0)
			return e;
	}
	if (have_low && low) {
		/* memory.low knows no -1: nothing reserved is 0 */
		e = r->h->h[i].v2
			    ? plain(r, i, "memory", "memory.low", "memory.reservation", "%" PRId64,
				    low < 0 ? 0 : low)
			    : cgroup_reader_limit(r, i, "memory", "memory.soft_limit_in_bytes", "",
						  "memory.reservation", 0, low);
		if (e < 0)
			return e;
	}
	return memory_v1_only(r, i, m);
}

/* ---- cpu ---- */

/*
 * cpu.max holds both; a number alone leaves the period, but a period alone needs the quota that
 * is in force.
 */
static int bandwidth_v2(struct cgroup_reader *r, int i, int64_t quota, uint64_t period)
{
	CLEANUP_FREE char *now = NULL;
	char word[32] = "max";

	if (quota > 0) {
		snprintf(word, sizeof(word), "%" PRId64, quota);
	} else if (!quota && !r->fresh &&
		   !cgroup_file_read(r->h, i, r->cg->path, "cpu.max", &now)) {
		size_t n = strcspn(now, " \n");

		if (n && n < sizeof(word))
			snprintf(word, sizeof(word), "%.*s", (int)n, now);
	}
	if (!period)
		return bound(r, i, "cpu", "cpu.max", "cpu.quota", GROUP_BANDWIDTH, "%s", word);
	return bound(r, i, "cpu", "cpu.max", quota ? "cpu.quota" : "cpu.period", GROUP_BANDWIDTH,
		     "%s %" PRIu64, word, period);
}

static int bandwidth(struct cgroup_reader *r, int i, json_object *c)
{
	uint64_t period = 0, burst = 0;
	int have_period, have_quota, have_burst, e = 0;
	bool v2 = r->h->h[i].v2;
	int64_t quota = 0;

	have_quota = cgroup_reader_int(r, c, "quota", "cpu.quota", &quota);
	have_period = cgroup_reader_uint(r, c, "period", "cpu.period", UINT64_MAX, &period);
	have_burst = cgroup_reader_uint(r, c, "burst", "cpu.burst", UINT64_MAX, &burst);
	if (have_quota < 0 || have_period < 0 || have_burst < 0)
		return -EINVAL;
	if (v2 && (quota || period))
		e = bandwidth_v2(r, i, quota, period);
	if (!e && !v2 && period)
		e = bound(r, i, "cpu", "cpu.cfs_period_us", "cpu.period", GROUP_BANDWIDTH,
			  "%" PRIu64, period);
	if (!e && !v2 && quota)
		e = bound(r, i, "cpu", "cpu.cfs_quota_us", "cpu.quota", GROUP_BANDWIDTH, "%" PRId64,
			  quota < 0 ? -1 : quota);
	if (!e && have_burst)
		e = bound(r, i, "cpu", v2 ? "cpu.max.burst" : "cpu.cfs_burst_us", "cpu.burst",
			  GROUP_BANDWIDTH, "%" PRIu64, burst);
	return e;
}

static int realtime(struct cgroup_reader *r, int i, json_object *c)
{
	int have_runtime, have_period, e = 0;
	uint64_t period = 0;
	int64_t runtime = 0;

	have_runtime = cgroup_reader_int(r, c, "realtimeRuntime", "cpu.realtimeRuntime", &runtime);
	have_period = cgroup_reader_uint(r, c, "realtimePeriod", "cpu.realtimePeriod", UINT64_MAX,
					 &period);
	if (have_runtime < 0 || have_period < 0)
		return -EINVAL;
	if (r->h->h[i].v2 && (runtime || period))
		return cgroup_reader_not_on_v2(
			r, runtime ? "cpu.realtimeRuntime" : "cpu.realtimePeriod", "cpu");
	if (period)
		e = bound(r, i, "cpu", "cpu.rt_period_us", "cpu.realtimePeriod", GROUP_REALTIME,
			  "%" PRIu64, period);
	if (!e && runtime)
		e = bound(r, i, "cpu", "cpu.rt_runtime_us", "cpu.realtimeRuntime", GROUP_REALTIME,
			  "%" PRId64, runtime);
	return e;
}

static int read_cpuset(struct cgroup_reader *r, json_object *c)
{
	static const char *const keys[] = { "cpus", "mems" };

	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		char file[16], argument[16];
		const char *v = NULL;
		int i, e;

		snprintf(file, sizeof(file), "cpuset.%s", keys[k]);
		snprintf(argument, sizeof(argument), "cpu.%s", keys[k]);
		e = cgroup_reader_str(r, c, keys[k], argument, &v);
		if (e < 0)
			return e;
		if (!e || !*v)
			continue;
		i = cgroup_reader_need(r, "cpuset", argument);
		if (i < 0)
			return i;
		e = plain(r, i, "cpuset", file, argument, "%s", v);
		if (e < 0)
			return e;
	}
	return 0;
}

static int read_cpu(struct cgroup_reader *r, json_object *c)
{
	static const char *const own[] = { "shares",	      "quota",		"period", "burst",
					   "realtimeRuntime", "realtimePeriod", "idle" };
	uint64_t shares = 0;
	int64_t idle = 0;
	bool any = false;
	int i, e;

	for (size_t k = 0; k < ARRAY_SIZE(own); k++) {
		json_object *j = NULL;

		any |= json_object_object_get_ex(c, own[k], &j) && j;
	}
	if (!any)
		return read_cpuset(r, c);
	i = cgroup_reader_need(r, "cpu", "cpu");
	if (i < 0)
		return i;
	e = cgroup_reader_uint(r, c, "shares", "cpu.shares", UINT64_MAX, &shares);
	if (e < 0)
		return e;
	/* before the weight: a group that is idle takes none */
	e = cgroup_reader_int(r, c, "idle", "cpu.idle", &idle);
	if (e > 0 && (!r->fresh || idle))
		e = plain(r, i, "cpu", "cpu.idle", "cpu.idle", "%" PRId64, idle);
	if (e < 0)
		return e;
	e = 0;
	if (shares)
		e = r->h->h[i].v2
			    ? plain(r, i, "cpu", "cpu.weight", "cpu.shares", "%" PRIu64,
				    cgroup_weight_of_shares(shares))
			    : plain(r, i, "cpu", "cpu.shares", "cpu.shares", "%" PRIu64, shares);
	if (!e)
		e = bandwidth(r, i, c);
	if (!e)
		e = realtime(r, i, c);
	return e < 0 ? e : read_cpuset(r, c);
}

static int read_pids(struct cgroup_reader *r, json_object *p)
{
	int64_t max = 0;
	int i, e = cgroup_reader_int(r, p, "limit", "pids.limit", &max);

	if (e <= 0)
		return e;
	i = cgroup_reader_need(r, "pids", "pids.limit");
	if (i < 0)
		return i;
	/* 0 has always meant "no limit" to those who send it */
	return max <= 0 ? plain(r, i, "pids", "pids.max", "pids.limit", "max")
			: plain(r, i, "pids", "pids.max", "pids.limit", "%" PRId64, max);
}

int cgroup_resources_read(struct cgroup *cg, bool fresh, json_object *resources,
			  struct cgroup_values *out, struct fault *f)
{
	static const struct {
		const char *key;
		json_type type;
		int (*read)(struct cgroup_reader *r, json_object *section);
	} sections[] = {
		{ "memory", json_type_object, read_memory },
		{ "cpu", json_type_object, read_cpu },
		{ "pids", json_type_object, read_pids },
		{ "blockIO", json_type_object, cgroup_reader_block_io },
		{ "hugepageLimits", json_type_array, cgroup_reader_hugepages },
		{ "network", json_type_object, cgroup_reader_network },
		{ "rdma", json_type_object, cgroup_reader_rdma },
		/* the last word, since it is the most exact */
		{ "unified", json_type_object, cgroup_reader_unified },
	};
	struct cgroup_reader r = { cg, cg->host, fresh, out, f };
	int e;

	if (!resources)
		return 0;
	if (!json_object_is_type(resources, json_type_object)) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "linux.resources must be an object");
		fault_arg(f, "resources");
		return -EINVAL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		json_object *section = NULL;

		e = cgroup_reader_section(&r, resources, sections[i].key, sections[i].type,
					  &section);
		if (e > 0)
			e = sections[i].read(&r, section);
		if (e < 0)
			return e;
	}
	return 0;
}
