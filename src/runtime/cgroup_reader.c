// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: reading fields of LinuxResources and gathering values
 *
 * Nothing is owned here: values go to the caller's list, faults to the caller's fault. A field of
 * the wrong kind names its path; a controller that the host does not have names itself and what
 * there is instead.
 */
#include "runtime/cgroup_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

/* ---- reading JSON ---- */

int cgroup_reader_bad(struct cgroup_reader *r, const char *argument, const char *what)
{
	fault_set(r->f, FAULT_INVALID_ARGUMENT, 0, "linux.resources.%s %s", argument, what);
	fault_arg(r->f, argument);
	return -EINVAL;
}

/* 1 given, 0 absent or null. */
int cgroup_reader_int(struct cgroup_reader *r, json_object *o, const char *key,
		      const char *argument, int64_t *v)
{
	json_object *j = NULL;

	if (!json_object_object_get_ex(o, key, &j) || !j)
		return 0;
	if (!json_object_is_type(j, json_type_int))
		return cgroup_reader_bad(r, argument, "must be an integer");
	*v = json_object_get_int64(j);
	return 1;
}

int cgroup_reader_uint(struct cgroup_reader *r, json_object *o, const char *key,
		       const char *argument, uint64_t max, uint64_t *v)
{
	json_object *j = NULL;

	if (!json_object_object_get_ex(o, key, &j) || !j)
		return 0;
	if (!json_object_is_type(j, json_type_int) || json_object_get_int64(j) < 0)
		return cgroup_reader_bad(r, argument, "must be an integer of 0 or more");
	*v = json_object_get_uint64(j);
	return *v > max ? cgroup_reader_bad(r, argument, "is too large") : 1;
}

int cgroup_reader_bool(struct cgroup_reader *r, json_object *o, const char *key,
		       const char *argument, bool *v)
{
	json_object *j = NULL;

	if (!json_object_object_get_ex(o, key, &j) || !j)
		return 0;
	if (!json_object_is_type(j, json_type_boolean))
		return cgroup_reader_bad(r, argument, "must be true or false");
	*v = json_object_get_boolean(j);
	return 1;
}

/* Plain words only: it becomes part of a file's name or a value. */
int cgroup_reader_str(struct cgroup_reader *r, json_object *o, const char *key,
		      const char *argument, const char **v)
{
	json_object *j = NULL;

	if (!json_object_object_get_ex(o, key, &j) || !j)
		return 0;
	if (!json_object_is_type(j, json_type_string) ||
	    strlen(json_object_get_string(j)) != (size_t)json_object_get_string_len(j))
		return cgroup_reader_bad(r, argument, "must be a string");
	*v = json_object_get_string(j);
	return 1;
}

int cgroup_reader_section(struct cgroup_reader *r, json_object *o, const char *key, json_type type,
			  json_object **v)
{
	*v = NULL;
	if (!json_object_object_get_ex(o, key, v) || !*v)
		return 0;
	if (!json_object_is_type(*v, type))
		return cgroup_reader_bad(
			r, key, type == json_type_array ? "must be an array" : "must be an object");
	return 1;
}

/* ---- making values ---- */

int cgroup_reader_no_controller(struct cgroup_reader *r, const char *argument,
				const char *controller)
{
	fault_set(r->f, FAULT_FAILED_PRECONDITION, 0,
		  "linux.resources.%s: this host has no \"%s\" cgroup controller (it has %s)",
		  argument, controller, r->h->describe);
	fault_arg(r->f, argument);
	return -EINVAL;
}

int cgroup_reader_not_on_v2(struct cgroup_reader *r, const char *argument, const char *controller)
{
	fault_set(
		r->f, FAULT_FAILED_PRECONDITION, 0,
		"linux.resources.%s: the \"%s\" controller of cgroup v2, which this host uses, cannot do this",
		argument, controller);
	fault_arg(r->f, argument);
	return -EINVAL;
}

/* The hierarchy of a controller, with its files there on v2; negative with a fault. */
int cgroup_reader_need(struct cgroup_reader *r, const char *controller, const char *argument)
{
	int i = cgroup_host_find(r->h, controller), e;

	if (i < 0)
		return cgroup_reader_no_controller(r, argument, controller);
	if (r->h->h[i].v2) {
		e = cgroup_v2_enable(r->h, r->cg->path, controller, r->f);
		if (e < 0) {
			fault_prefix(r->f, "linux.resources.%s", argument);
			fault_arg(r->f, argument);
			return e;
		}
	}
	return i;
}

bool cgroup_reader_has_file(struct cgroup_reader *r, int hierarchy, const char *file)
{
	char full[PATH_MAX];

	return snprintf(full, sizeof(full), "%s/%s", r->cg->path + 1, file) < (int)sizeof(full) &&
	       !faccessat(r->h->h[hierarchy].fd, full, F_OK, 0);
}

int cgroup_reader_add(struct cgroup_reader *r, int hierarchy, const char *controller,
		      const char *file, const char *argument, enum cgroup_value_kind kind,
		      int group, const char *unset, const char *fmt, ...)
{
	struct cgroup_value v = {
		.hierarchy = hierarchy, .kind = kind, .group = group, .unset = unset
	};
	CLEANUP_FREE char *text = NULL;
	va_list ap;
	int n;

	if (strlen(file) >= sizeof(v.file) || strlen(controller) >= sizeof(v.controller))
		return cgroup_reader_bad(r, argument, "is too long");
	strcpy(v.file, file);
	strcpy(v.controller, controller);
	snprintf(v.argument, sizeof(v.argument), "%s", argument);
	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0) {
		text = NULL;
		return fault_sys(r->f, ENOMEM, "read linux.resources", NULL);
	}
	n = cgroup_values_add(r->out, &v, text);
	return n < 0 ? fault_sys(r->f, -n, "read linux.resources", NULL) : 0;
}

/* A limit in bytes or a count; negative lifts it: v1 writes -1, v2 "max". */
int cgroup_reader_limit(struct cgroup_reader *r, int i, const char *c, const char *v1,
			const char *v2, const char *arg, int group, int64_t v)
{
	if (r->h->h[i].v2)
		return v < 0 ? bound(r, i, c, v2, arg, group, "max")
			     : bound(r, i, c, v2, arg, group, "%" PRId64, v);
	return bound(r, i, c, v1, arg, group, "%" PRId64, v < 0 ? -1 : v);
}
