// SPDX-License-Identifier: Apache-2.0
/*
 * The spec's `linux.resources`: shape, types and ranges
 *
 * Nothing is kept but the device rules: cgroups read the JSON itself, for a start and for an update, and can rely on what
 * is checked here. Which of it this host's controllers can do is theirs to say.
 */
#include <string.h>

#include "runtime/spec_internal.h"
#include "util/cleanup.h"

#define LIST_LIMIT 65536u /* numbers in cpus and mems; the kernel knows which of them there are */
#define WEIGHT_MIN 10u
#define WEIGHT_MAX 1000u

static void check_memory(struct spec_reader *r, const struct spec_node *at)
{
	static const char *const limits[] = { "limit", "reservation", "swap", "kernel",
					      "kernelTCP" };
	static const char *const flags[] = { "disableOOMKiller", "useHierarchy",
					     "checkBeforeUpdate" };
	struct spec_node node;
	uint64_t u;
	int64_t v;
	bool b;

	if (!spec_object(r, at, "memory", &node))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		spec_int(r, &node, limits[i], -1, INT64_MAX, &v);
	spec_uint(r, &node, "swappiness", 100, &u);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		spec_bool(r, &node, flags[i], &b);
}

static void check_cpu(struct spec_reader *r, const struct spec_node *at)
{
	static const char *const lists[] = { "cpus", "mems" };
	struct spec_node node;
	const char *text;
	uint64_t u;
	int64_t v;

	if (!spec_object(r, at, "cpu", &node))
		return;
	spec_uint(r, &node, "shares", UINT64_MAX, &u);
	spec_int(r, &node, "quota", INT64_MIN, INT64_MAX, &v);
	spec_uint(r, &node, "burst", UINT64_MAX, &u);
	spec_uint(r, &node, "period", UINT64_MAX, &u);
	spec_int(r, &node, "realtimeRuntime", INT64_MIN, INT64_MAX, &v);
	spec_uint(r, &node, "realtimePeriod", UINT64_MAX, &u);
	spec_int(r, &node, "idle", 0, 1, &v);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		if (spec_peek(r, &node, lists[i], &text) &&
		    !spec_list_valid(text, LIST_LIMIT, NULL))
			spec_fail(r, &node, lists[i], "\"%.64s\" is not a list as \"0-3,7\"", text);
}

static void check_pids(struct spec_reader *r, const struct spec_node *at)
{
	struct spec_node node;
	int64_t v;

	if (spec_object(r, at, "pids", &node))
		spec_int(r, &node, "limit", -1, INT64_MAX, &v);
}

static void check_weight(struct spec_reader *r, const struct spec_node *at, const char *key)
{
	uint64_t v;

	/* 0 is "not set" in what Go programs write. */
	if (spec_uint(r, at, key, WEIGHT_MAX, &v) && v && v < WEIGHT_MIN)
		spec_fail(r, at, key, "%u is not in the range from %u to %u", (unsigned)v,
			  WEIGHT_MIN, WEIGHT_MAX);
}

static void check_block_device(struct spec_reader *r, const struct spec_node *at)
{
	int64_t v;

	spec_require(r, at, "major", spec_int(r, at, "major", 0, UINT32_MAX, &v));
	spec_require(r, at, "minor", spec_int(r, at, "minor", 0, UINT32_MAX, &v));
}

static void check_block_io(struct spec_reader *r, const struct spec_node *at)
{
	static const char *const throttles[] = { "throttleReadBpsDevice", "throttleWriteBpsDevice",
						 "throttleReadIOPSDevice",
						 "throttleWriteIOPSDevice" };
	struct spec_node node, array, item;
	uint64_t rate;
	size_t n;

	if (!spec_object(r, at, "blockIO", &node))
		return;
	check_weight(r, &node, "weight");
	check_weight(r, &node, "leafWeight");
	n = spec_array(r, &node, "weightDevice", &array);
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		check_block_device(r, &item);
		check_weight(r, &item, "weight");
		check_weight(r, &item, "leafWeight");
	}
	for (size_t t = 0; t < ARRAY_SIZE(throttles); t++) {
		n = spec_array(r, &node, throttles[t], &array);
		for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
			check_block_device(r, &item);
			spec_require(r, &item, "rate",
				     spec_uint(r, &item, "rate", UINT64_MAX, &rate));
		}
	}
}

/* "2MB", "1GB": the names of the kernel's files. */
static bool page_size_valid(const char *text)
{
	size_t n = strspn(text, "0123456789");

	return n && text[0] != '0' && text[n] && strchr("KMGT", text[n]) &&
	       !strcmp(text + n + 1, "B");
}

static void check_hugepages(struct spec_reader *r, const struct spec_node *at)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, "hugepageLimits", &array);
	const char *size = NULL;
	uint64_t limit;

	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		spec_require(r, &item, "pageSize", spec_peek(r, &item, "pageSize", &size));
		spec_require(r, &item, "limit", spec_uint(r, &item, "limit", UINT64_MAX, &limit));
		if (!r->err && !page_size_valid(size))
			spec_fail(r, &item, "pageSize", "\"%.64s\" is no page size as \"2MB\"",
				  size);
	}
}

static void check_network(struct spec_reader *r, const struct spec_node *at)
{
	struct spec_node node, array, item;
	const char *name;
	uint64_t v;
	size_t n;

	if (!spec_object(r, at, "network", &node))
		return;
	spec_uint(r, &node, "classID", UINT32_MAX, &v);
	n = spec_array(r, &node, "priorities", &array);
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		spec_require(r, &item, "name", spec_peek(r, &item, "name", &name));
		spec_require(r, &item, "priority", spec_uint(r, &item, "priority", UINT32_MAX, &v));
	}
}

static void check_rdma(struct spec_reader *r, const struct spec_node *at)
{
	struct spec_node map, entry;
	struct lh_entry *e = NULL;
	uint64_t v;

	if (!spec_object(r, at, "rdma", &map))
		return;
	while (spec_entry(&map, &e, &entry) && spec_entry_object(r, &entry)) {
		spec_uint(r, &entry, "hcaHandles", UINT32_MAX, &v);
		spec_uint(r, &entry, "hcaObjects", UINT32_MAX, &v);
	}
}

static void check_unified(struct spec_reader *r, const struct spec_node *at)
{
	struct spec_node map, entry;
	struct lh_entry *e = NULL;
	const char *text;

	if (!spec_object(r, at, "unified", &map))
		return;
	/* A key is a file of the cgroup's folder: nothing may lead out of it. */
	while (spec_entry(&map, &e, &entry) && spec_entry_text(r, &entry, &text))
		if (strchr(entry.name, '/') || !strchr(entry.name, '.') || entry.name[0] == '.')
			spec_fail(r, &entry, NULL, "no file of a cgroup, as \"memory.high\"");
}

static void read_number(struct spec_reader *r, const struct spec_node *at, const char *key,
			int64_t *out)
{
	*out = SPEC_ABSENT;
	/* -1 has always been another way to say "any". */
	if (spec_int(r, at, key, -1, UINT32_MAX, out) && *out == -1)
		*out = SPEC_ABSENT;
}

static void read_rule(struct spec_reader *r, const struct spec_node *at,
		      struct spec_device_rule *rule)
{
	static const struct spec_word types[] = { { "a", 'a' }, { "b", 'b' }, { "c", 'c' } };
	const char *access = "";
	int64_t type = 'a';

	spec_require(r, at, "allow", spec_bool(r, at, "allow", &rule->allow));
	spec_word(r, at, "type", types, ARRAY_SIZE(types), "device type", &type);
	rule->type = (char)type;
	read_number(r, at, "major", &rule->major);
	read_number(r, at, "minor", &rule->minor);
	spec_require(r, at, "access", spec_peek(r, at, "access", &access));
	if (strspn(access, "rwm") != strlen(access))
		spec_fail(r, at, "access", "\"%.16s\" has something else than r, w and m", access);
	rule->read = strchr(access, 'r');
	rule->write = strchr(access, 'w');
	rule->mknod = strchr(access, 'm');
}

static void read_rules(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, "devices", &array);
	struct spec_device_rule unused;

	if (n && s)
		s->device_rules = spec_alloc(r, n, sizeof(*s->device_rules));
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++)
		read_rule(r, &item, s ? &s->device_rules[i] : &unused);
	if (s && !r->err)
		s->n_device_rules = n;
}

void spec_read_resources(struct spec_reader *r, const struct spec_node *at, struct spec *s)
{
	check_memory(r, at);
	check_cpu(r, at);
	check_pids(r, at);
	check_block_io(r, at);
	check_hugepages(r, at);
	check_network(r, at);
	check_rdma(r, at);
	check_unified(r, at);
	read_rules(r, at, s);
}

int spec_check_resources(json_object *resources, struct fault *f)
{
	struct spec_reader r = { .f = f };
	struct spec_node top = { .name = "resources", .json = resources };

	if (json_object_is_type(resources, json_type_object))
		spec_read_resources(&r, &top, NULL);
	else
		spec_fail(&r, &top, NULL, "must be an object");
	return r.err;
}
