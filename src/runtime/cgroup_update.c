// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: new values for a container that runs
 *
 * All or nothing: what is asked is read and checked whole before anything is written; then the
 * device rules are set, which can be put back exactly, then the values, which put themselves back
 * on failure.
 *
 * cgroup v2 kills where a lower memory.max is below what is used and cannot be reclaimed; a lower
 * memory.high reclaims and does not. So narrowing writes that for a moment, and looks, before the limit is set.
 * v1 reclaims by itself, and refuses.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cgroup_reader.h"
#include "util/cleanup.h"

#define RULES_MAX 1024

static int read_access(struct cgroup_reader *r, const char *argument, const char *text,
		       struct spec_device_rule *rule)
{
	for (const char *p = text; *p; p++) {
		if (*p == 'r')
			rule->read = true;
		else if (*p == 'w')
			rule->write = true;
		else if (*p == 'm')
			rule->mknod = true;
		else
			return cgroup_reader_bad(r, argument,
						 "has an access other than r, w and m");
	}
	return 0;
}

static int read_rule(struct cgroup_reader *r, json_object *o, size_t i,
		     struct spec_device_rule *rule)
{
	const char *type = "a", *access = "rwm";
	char argument[32];
	int e;

	snprintf(argument, sizeof(argument), "devices[%zu]", i);
	*rule = (struct spec_device_rule){ .major = SPEC_ABSENT, .minor = SPEC_ABSENT };
	if (!json_object_is_type(o, json_type_object))
		return cgroup_reader_bad(r, argument, "must be an object");
	e = cgroup_reader_bool(r, o, "allow", argument, &rule->allow);
	if (!e)
		return cgroup_reader_bad(r, argument, "needs allow");
	if (e > 0)
		e = cgroup_reader_str(r, o, "type", argument, &type);
	if (e >= 0)
		e = cgroup_reader_int(r, o, "major", argument, &rule->major);
	if (e >= 0)
		e = cgroup_reader_int(r, o, "minor", argument, &rule->minor);
	if (e >= 0)
		e = cgroup_reader_str(r, o, "access", argument, &access);
	if (e < 0)
		return e;
	if (strlen(type) > 1 || !strchr("abc", *type))
		return cgroup_reader_bad(r, argument, "has a type other than a, b and c");
	rule->type = *type ? *type : 'a';
	return read_access(r, argument, access, rule);
}

int cgroup_devices_read(json_object *resources, struct spec_device_rule **rules, size_t *n,
			struct fault *f)
{
	struct cgroup_reader r = { .f = f };
	json_object *list = NULL;
	size_t count;
	int e;

	*rules = NULL;
	*n = 0;
	e = cgroup_reader_section(&r, resources, "devices", json_type_array, &list);
	if (e <= 0)
		return e;
	count = json_object_array_length(list);
	if (!count)
		return 0;
	if (count > RULES_MAX)
		return cgroup_reader_bad(&r, "devices", "has too many entries");
	*rules = calloc(count, sizeof(**rules));
	if (!*rules)
		return fault_sys(f, ENOMEM, "read linux.resources.devices", NULL);
	for (size_t i = 0; i < count && e >= 0; i++)
		e = read_rule(&r, json_object_array_get_idx(list, i), i, &(*rules)[i]);
	if (e < 0) {
		free(*rules);
		*rules = NULL;
		return e;
	}
	*n = count;
	return 0;
}

int cgroup_update(struct cgroup *cg, json_object *resources, struct fault *f)
{
	CLEANUP_FREE struct spec_device_rule *rules = NULL;
	struct cgroup_devices_state *before = NULL;
	struct cgroup_values values = { 0 };
	size_t n = 0;
	int r;

	if (!json_object_is_type(resources, json_type_object)) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "resources must be an object");
		fault_arg(f, "resources");
		return r;
	}
	r = cgroup_resources_read(cg, false, resources, &values, f);
	if (!r)
		r = cgroup_devices_read(resources, &rules, &n, f);
	if (!r && n) {
		r = cgroup_devices_save(cg, &before, f);
		if (!r)
			r = cgroup_devices_set(cg, rules, n, false, f);
	}
	if (!r)
		r = cgroup_values_apply(cg, &values, true, f);
	if (r < 0 && before) {
		int back = cgroup_devices_restore(cg, before);

		if (back < 0 && f)
			snprintf(f->log + strlen(f->log), sizeof(f->log) - strlen(f->log),
				 "the device rules could not be put back: %s\n",
				 strerrordesc_np(-back));
	}
	cgroup_devices_state_free(before);
	cgroup_values_clear(&values);
	return r;
}

/* memory.limit, or memory.max of unified; -1 for none. */
static int64_t memory_max(json_object *resources)
{
	json_object *s = NULL, *v = NULL;
	int64_t max = 0;
	char *end;

	if (json_object_object_get_ex(resources, "memory", &s) &&
	    json_object_object_get_ex(s, "limit", &v))
		max = json_object_get_int64(v);
	if (json_object_object_get_ex(resources, "unified", &s) &&
	    json_object_object_get_ex(s, "memory.max", &v)) {
		max = strtoll(json_object_get_string(v), &end, 10);
		if (*end)
			max = 0; /* no plain number of bytes: the kernel decides */
	}
	return max > 0 ? max : -1;
}

static int reclaim_v2(struct cgroup *cg, int i, int64_t max, struct fault *f)
{
	CLEANUP_FREE char *high = NULL, *used = NULL;
	char text[32];
	int r = cgroup_file_read(cg->host, i, cg->path, "memory.high", &high);

	snprintf(text, sizeof(text), "%" PRId64, max);
	if (!r)
		r = cgroup_file_write(cg->host, i, cg->path, "memory.high", text);
	if (!r)
		r = cgroup_file_read(cg->host, i, cg->path, "memory.current", &used);
	if (high) {
		int back;

		high[strcspn(high, "\n")] = '\0';
		back = cgroup_file_write(cg->host, i, cg->path, "memory.high", high);
		r = r ? r : back;
	}
	if (r < 0)
		return fault_sys(f, -r, "reclaim memory of cgroup", cg->path);
	if (strtoull(used, NULL, 10) <= (uint64_t)max)
		return 0;
	fault_set(f, FAULT_FAILED_PRECONDITION, EBUSY,
		  "linux.resources.memory.limit %" PRId64 " is below what is used, %.*s", max,
		  (int)strcspn(used, "\n"), used);
	return -EBUSY;
}

int cgroup_narrow(struct cgroup *cg, json_object *resources, struct fault *f)
{
	struct cgroup_values values = { 0 };
	int64_t max = memory_max(resources);
	int i = cgroup_host_find(cg->host, "memory"), r;

	/* as if it were new: what is used is no reason to refuse before the kernel has tried */
	r = cgroup_resources_read(cg, true, resources, &values, f);
	if (!r && max >= 0 && i >= 0 && cg->host->h[i].v2)
		r = reclaim_v2(cg, i, max, f);
	if (!r)
		r = cgroup_values_apply(cg, &values, false, f);
	cgroup_values_clear(&values);
	return r;
}
