// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: OCI blockIO, hugepageLimits, network, rdma and unified to values
 *
 * Most of these files hold a line for each device, and a write replaces one line; so their values
 * are keyed. Weights are the one thing with several files for it: BFQ has its own on both
 * versions, v2 has io.weight (iocost) beside it, and the CFQ of old kernels had blkio.weight. The
 * one that is there is taken.
 */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "runtime/cgroup_reader.h"
#include "util/cleanup.h"

/* The devices of one list, each with its "MAJ:MIN". */
static int device_key(struct cgroup_reader *r, json_object *o, const char *argument, char *buf,
		      size_t size)
{
	uint64_t major = 0, minor = 0;
	int a, b;

	if (!json_object_is_type(o, json_type_object))
		return cgroup_reader_bad(r, argument, "must be an array of objects");
	a = cgroup_reader_uint(r, o, "major", argument, UINT32_MAX, &major);
	b = cgroup_reader_uint(r, o, "minor", argument, UINT32_MAX, &minor);
	if (a < 0 || b < 0)
		return -EINVAL;
	if (!a || !b)
		return cgroup_reader_bad(r, argument, "needs major and minor in each entry");
	snprintf(buf, size, "%" PRIu64 ":%" PRIu64, major, minor);
	return 0;
}

/* ---- blockIO ---- */

/* The file for weights, and whether its numbers are io.weight's. */
static const char *weight_file(struct cgroup_reader *r, int i, bool device, bool *convert)
{
	static const char *const v1[][2] = { { "blkio.bfq.weight", "blkio.bfq.weight_device" },
					     { "blkio.weight", "blkio.weight_device" } };

	*convert = false;
	if (r->h->h[i].v2) {
		if (cgroup_reader_has_file(r, i, "io.bfq.weight"))
			return "io.bfq.weight";
		*convert = true;
		return "io.weight";
	}
	for (size_t k = 0; k < ARRAY_SIZE(v1); k++)
		if (cgroup_reader_has_file(r, i, v1[k][device]))
			return v1[k][device];
	return v1[1][device]; /* the write will say that there is none */
}

static int weights(struct cgroup_reader *r, int i, json_object *b)
{
	static const char *const keys[] = { "weight", "leafWeight" };
	const char *c = r->h->h[i].v2 ? "io" : "blkio", *file;
	uint64_t w = 0;
	bool convert;
	int e;

	for (size_t leaf = 0; leaf < ARRAY_SIZE(keys); leaf++) {
		char argument[32];

		snprintf(argument, sizeof(argument), "blockIO.%s", keys[leaf]);
		e = cgroup_reader_uint(r, b, keys[leaf], argument, UINT16_MAX, &w);
		if (e < 0)
			return e;
		if (!e || !w)
			continue;
		if (leaf && r->h->h[i].v2)
			return cgroup_reader_not_on_v2(r, argument, "io");
		file = leaf ? "blkio.leaf_weight" : weight_file(r, i, false, &convert);
		e = plain(r, i, c, file, argument, "%" PRIu64,
			  !leaf && convert ? cgroup_weight_of_blkio(w) : w);
		if (e < 0)
			return e;
	}
	return 0;
}

static int weight_devices(struct cgroup_reader *r, int i, json_object *list)
{
	const char *c = r->h->h[i].v2 ? "io" : "blkio", *arg = "blockIO.weightDevice";
	bool convert, v2 = r->h->h[i].v2;
	const char *file = weight_file(r, i, true, &convert);

	for (size_t k = 0; k < json_object_array_length(list); k++) {
		json_object *o = json_object_array_get_idx(list, k);
		uint64_t w = 0, leaf = 0;
		int have, have_leaf, e;
		char key[64];

		e = device_key(r, o, arg, key, sizeof(key));
		if (e < 0)
			return e;
		have = cgroup_reader_uint(r, o, "weight", arg, UINT16_MAX, &w);
		have_leaf = cgroup_reader_uint(r, o, "leafWeight", arg, UINT16_MAX, &leaf);
		if (have < 0 || have_leaf < 0)
			return -EINVAL;
		if (!have && !have_leaf)
			return cgroup_reader_bad(r, arg,
						 "needs weight or leafWeight in each entry");
		if (have_leaf && v2)
			return cgroup_reader_not_on_v2(r, arg, "io");
		if (have && (e = keyed(r, i, c, file, arg, v2 ? "default" : "0", "%s %" PRIu64, key,
				       convert ? cgroup_weight_of_blkio(w) : w)) < 0)
			return e;
		if (have_leaf && (e = keyed(r, i, c, "blkio.leaf_weight_device", arg, "0",
					    "%s %" PRIu64, key, leaf)) < 0)
			return e;
	}
	return 0;
}

int cgroup_reader_block_io(struct cgroup_reader *r, json_object *b)
{
	static const struct {
		const char *key, *v1, *v2;
	} rates[] = {
		{ "throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps" },
		{ "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps" },
		{ "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops" },
		{ "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops" },
	};
	json_object *list = NULL;
	int i, e;

	if (!json_object_object_length(b))
		return 0;
	/* one controller with two names */
	i = cgroup_host_find(r->h, "blkio");
	if (i < 0)
		i = cgroup_reader_need(r, "io", "blockIO");
	if (i < 0)
		return i;
	e = weights(r, i, b);
	if (!e)
		e = cgroup_reader_section(r, b, "weightDevice", json_type_array, &list);
	if (e > 0)
		e = weight_devices(r, i, list);
	if (e < 0)
		return e;
	for (size_t k = 0; k < ARRAY_SIZE(rates); k++) {
		char argument[48];

		snprintf(argument, sizeof(argument), "blockIO.%s", rates[k].key);
		e = cgroup_reader_section(r, b, rates[k].key, json_type_array, &list);
		if (e < 0)
			return e;
		for (size_t n = 0; e && n < json_object_array_length(list); n++) {
			json_object *o = json_object_array_get_idx(list, n);
			uint64_t rate = 0;
			char key[64];
			int have;

			if (device_key(r, o, argument, key, sizeof(key)) < 0)
				return -EINVAL;
			have = cgroup_reader_uint(r, o, "rate", argument, UINT64_MAX, &rate);
			if (have <= 0)
				return have < 0 ? have
						: cgroup_reader_bad(r, argument,
								    "needs a rate in each entry");
			if (!r->h->h[i].v2)
				have = keyed(r, i, "blkio", rates[k].v1, argument, "0",
					     "%s %" PRIu64, key, rate);
			else if (rate) /* v1's 0 is no limit, which v2 writes as max */
				have = keyed(r, i, "io", "io.max", argument,
					     "rbps=max wbps=max riops=max wiops=max",
					     "%s %s=%" PRIu64, key, rates[k].v2, rate);
			else
				have = keyed(r, i, "io", "io.max", argument,
					     "rbps=max wbps=max riops=max wiops=max", "%s %s=max",
					     key, rates[k].v2);
			if (have < 0)
				return have;
		}
	}
	return 0;
}

/* ---- hugepageLimits ---- */

int cgroup_reader_hugepages(struct cgroup_reader *r, json_object *list)
{
	const char *arg = "hugepageLimits", *size = NULL;
	int i, e;

	if (!json_object_array_length(list))
		return 0;
	i = cgroup_reader_need(r, "hugetlb", arg);
	if (i < 0)
		return i;
	for (size_t k = 0; k < json_object_array_length(list); k++) {
		json_object *o = json_object_array_get_idx(list, k);
		char file[2][64];
		uint64_t max = 0;

		if (!json_object_is_type(o, json_type_object))
			return cgroup_reader_bad(r, arg, "must be an array of objects");
		e = cgroup_reader_str(r, o, "pageSize", arg, &size);
		if (e > 0)
			e = cgroup_reader_uint(r, o, "limit", arg, UINT64_MAX, &max);
		if (e <= 0)
			return e < 0 ? e
				     : cgroup_reader_bad(r, arg,
							 "needs pageSize and limit in each entry");
		for (const char *p = size; *p; p++)
			if (!isalnum((unsigned char)*p) || p - size > 15)
				return cgroup_reader_bad(r, arg,
							 "has a pageSize that is none, as \"2MB\"");
		for (int rsvd = 0; rsvd < 2; rsvd++) {
			snprintf(file[rsvd], sizeof(file[rsvd]), "hugetlb.%s%s.%s", size,
				 rsvd ? ".rsvd" : "", r->h->h[i].v2 ? "max" : "limit_in_bytes");
			/* reservations are bounded as well where the kernel counts them */
			if (rsvd && !cgroup_reader_has_file(r, i, file[rsvd]))
				continue;
			e = plain(r, i, "hugetlb", file[rsvd], arg, "%" PRIu64, max);
			if (e < 0)
				return e;
		}
	}
	return 0;
}

/* ---- network ---- */

/* Names of devices and interfaces end up in a line of "NAME rest". */
static bool is_word(const char *text)
{
	for (const char *p = text; *p; p++)
		if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p))
			return false;
	return *text && strlen(text) < 256;
}

int cgroup_reader_network(struct cgroup_reader *r, json_object *n)
{
	json_object *list = NULL;
	uint64_t v = 0;
	int i, e;

	/* v2 has neither: there it is a BPF program's work */
	e = cgroup_reader_uint(r, n, "classID", "network.classID", UINT32_MAX, &v);
	if (e < 0)
		return e;
	if (e) {
		i = cgroup_reader_need(r, "net_cls", "network.classID");
		if (i < 0)
			return i;
		e = plain(r, i, "net_cls", "net_cls.classid", "network.classID", "%" PRIu64, v);
		if (e < 0)
			return e;
	}
	e = cgroup_reader_section(r, n, "priorities", json_type_array, &list);
	if (e <= 0 || !json_object_array_length(list))
		return e < 0 ? e : 0;
	i = cgroup_reader_need(r, "net_prio", "network.priorities");
	if (i < 0)
		return i;
	for (size_t k = 0; k < json_object_array_length(list); k++) {
		json_object *o = json_object_array_get_idx(list, k);
		const char *arg = "network.priorities", *name = NULL;

		if (!json_object_is_type(o, json_type_object))
			return cgroup_reader_bad(r, arg, "must be an array of objects");
		e = cgroup_reader_str(r, o, "name", arg, &name);
		if (e > 0)
			e = cgroup_reader_uint(r, o, "priority", arg, UINT32_MAX, &v);
		if (e <= 0)
			return e < 0 ? e
				     : cgroup_reader_bad(r, arg,
							 "needs name and priority in each entry");
		if (!is_word(name))
			return cgroup_reader_bad(r, arg, "has a name that is no interface's");
		e = keyed(r, i, "net_prio", "net_prio.ifpriomap", arg, "0", "%s %" PRIu64, name, v);
		if (e < 0)
			return e;
	}
	return 0;
}

/* ---- rdma ---- */

int cgroup_reader_rdma(struct cgroup_reader *r, json_object *devices)
{
	const char *arg = "rdma";
	int i, e;

	if (!json_object_object_length(devices))
		return 0;
	i = cgroup_reader_need(r, "rdma", arg);
	if (i < 0)
		return i;
	json_object_object_foreach (devices, name, o) {
		uint64_t handles = 0, objects = 0;
		char text[96];
		int a, b;

		if (!is_word(name) || !json_object_is_type(o, json_type_object))
			return cgroup_reader_bad(r, arg,
						 "must be a map of device names to objects");
		a = cgroup_reader_uint(r, o, "hcaHandles", arg, UINT32_MAX, &handles);
		b = cgroup_reader_uint(r, o, "hcaObjects", arg, UINT32_MAX, &objects);
		if (a < 0 || b < 0)
			return -EINVAL;
		if (!a && !b)
			return cgroup_reader_bad(r, arg,
						 "needs hcaHandles or hcaObjects in each entry");
		text[0] = 0;
		if (a)
			snprintf(text, sizeof(text), " hca_handle=%" PRIu64, handles);
		if (b)
			snprintf(text + strlen(text), sizeof(text) - strlen(text),
				 " hca_object=%" PRIu64, objects);
		e = keyed(r, i, "rdma", "rdma.max", arg, "hca_handle=max hca_object=max", "%s%s",
			  name, text);
		if (e < 0)
			return e;
	}
	return 0;
}

/* ---- unified ---- */

/* Files that are davit's own business, or that change what the group is. */
static bool is_reserved(const char *file)
{
	static const char *const files[] = { "cgroup.procs", "cgroup.threads",
					     "cgroup.kill",  "cgroup.freeze",
					     "cgroup.type",  "cgroup.subtree_control" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!strcmp(file, files[i]))
			return true;
	return false;
}

/* Whether a line of this file speaks of one device: "8:0 …", "mlx5_0 hca_handle=…". */
static bool is_keyed(const char *file, const char *line)
{
	return !strcmp(file, "io.max") || !strcmp(file, "io.latency") ||
	       !strcmp(file, "rdma.max") || !strcmp(file, "misc.max") ||
	       !strcmp(file, "dmem.max") ||
	       ((!strcmp(file, "io.weight") || !strcmp(file, "io.bfq.weight")) &&
		strchr(line, ' '));
}

static const char *unset_of(const char *file)
{
	if (!strcmp(file, "io.max"))
		return "rbps=max wbps=max riops=max wiops=max";
	if (!strcmp(file, "rdma.max"))
		return "hca_handle=max hca_object=max";
	if (!strcmp(file, "misc.max") || !strcmp(file, "dmem.max"))
		return "max";
	if (!strcmp(file, "io.weight") || !strcmp(file, "io.bfq.weight"))
		return "default";
	return NULL;
}

int cgroup_reader_unified(struct cgroup_reader *r, json_object *u)
{
	json_object_object_foreach (u, file, o) {
		char argument[64], controller[32];
		size_t n = strcspn(file, ".");
		const char *text;
		int i = r->h->v2, e;

		snprintf(argument, sizeof(argument), "unified.%s", file);
		if (!json_object_is_type(o, json_type_string) ||
		    strlen(json_object_get_string(o)) != (size_t)json_object_get_string_len(o))
			return cgroup_reader_bad(r, argument, "must be a string");
		if (!is_word(file) || strchr(file, '/') || !file[n] || !n ||
		    n >= sizeof(controller) || is_reserved(file))
			return cgroup_reader_bad(r, argument, "is no control file that may be set");
		if (i < 0) {
			e = fault_set(r->f, FAULT_FAILED_PRECONDITION, 0,
				      "linux.resources.%s: this host has no cgroup v2 (it has %s)",
				      argument, r->h->describe);
			fault_arg(r->f, argument);
			return e;
		}
		snprintf(controller, sizeof(controller), "%.*s", (int)n, file);
		/* cgroup.max.depth and its like are there always */
		if (strcmp(controller, "cgroup")) {
			e = cgroup_host_find(r->h, controller);
			if (e >= 0 && e != i) {
				e = fault_set(
					r->f, FAULT_FAILED_PRECONDITION, 0,
					"linux.resources.%s: this host has the \"%s\" controller on cgroup v1, "
					"where unified values do not reach it",
					argument, controller);
				fault_arg(r->f, argument);
				return e;
			}
			e = cgroup_reader_need(r, controller, argument);
			if (e < 0)
				return e;
		}
		/* several lines are several writes, as each speaks of one device */
		text = json_object_get_string(o);
		do {
			size_t len = strcspn(text, "\n");
			bool one = is_keyed(file, text);

			e = cgroup_reader_add(r, i, controller, file, argument,
					      one ? CGROUP_VALUE_KEYED : CGROUP_VALUE_PLAIN, 0,
					      one ? unset_of(file) : NULL, "%.*s", (int)len, text);
			if (e < 0)
				return e;
			text += len;
			text += *text == '\n';
		} while (*text);
	}
	return 0;
}
