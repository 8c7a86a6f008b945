// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: new values for a container that runs
 *
 * All or nothing: what is asked is read and checked whole before anything is written; then the
 * device rules are set, which can be put back exactly, then the values, which put themselves back
 * on failure.
 */
#include <errno.h>
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
