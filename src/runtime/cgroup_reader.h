// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: what the readers of LinuxResources share
 *
 * Getters answer 1 for a field that is given, 0 for one that is absent or null, negative with a
 * fault for one of the wrong kind. `argument` is the field's path below linux.resources, as
 * "memory.limit".
 */
#pragma once

#include <inttypes.h>

#include "runtime/cgroup_internal.h"

enum cgroup_reader_group { GROUP_MEMORY = 1, GROUP_BANDWIDTH, GROUP_REALTIME };

struct cgroup_reader {
	struct cgroup *cg;
	struct cgroup_host *h;
	bool fresh; /* the group is new: nothing in it has to be looked at */
	struct cgroup_values *out;
	struct fault *f;
};

int cgroup_reader_bad(struct cgroup_reader *r, const char *argument, const char *what);
int cgroup_reader_int(struct cgroup_reader *r, json_object *o, const char *key,
		      const char *argument, int64_t *v);
int cgroup_reader_uint(struct cgroup_reader *r, json_object *o, const char *key,
		       const char *argument, uint64_t max, uint64_t *v);
int cgroup_reader_bool(struct cgroup_reader *r, json_object *o, const char *key,
		       const char *argument, bool *v);
int cgroup_reader_str(struct cgroup_reader *r, json_object *o, const char *key,
		      const char *argument, const char **v);
int cgroup_reader_section(struct cgroup_reader *r, json_object *o, const char *key, json_type type,
			  json_object **v);

/* Faults: the host lacks it, v2 lacks it. Both answer negative. */
int cgroup_reader_no_controller(struct cgroup_reader *r, const char *argument,
				const char *controller);
int cgroup_reader_not_on_v2(struct cgroup_reader *r, const char *argument, const char *controller);
/* The hierarchy of a controller, with its files there on v2; negative with a fault. */
int cgroup_reader_need(struct cgroup_reader *r, const char *controller, const char *argument);
bool cgroup_reader_has_file(struct cgroup_reader *r, int hierarchy, const char *file);

/* One more value. */
int cgroup_reader_add(struct cgroup_reader *r, int hierarchy, const char *controller,
		      const char *file, const char *argument, enum cgroup_value_kind kind,
		      int group, const char *unset, const char *fmt, ...)
	__attribute__((format(printf, 9, 10)));
#define plain(r, i, c, file, arg, ...)                                                             \
	cgroup_reader_add(r, i, c, file, arg, CGROUP_VALUE_PLAIN, 0, NULL, __VA_ARGS__)
#define bound(r, i, c, file, arg, group, ...)                                                      \
	cgroup_reader_add(r, i, c, file, arg, CGROUP_VALUE_PLAIN, group, NULL, __VA_ARGS__)
#define keyed(r, i, c, file, arg, unset, ...)                                                      \
	cgroup_reader_add(r, i, c, file, arg, CGROUP_VALUE_KEYED, 0, unset, __VA_ARGS__)
/* A limit in bytes or a count; negative lifts it: v1 writes -1, v2 "max". */
int cgroup_reader_limit(struct cgroup_reader *r, int i, const char *c, const char *v1,
			const char *v2, const char *arg, int group, int64_t v);

/* cgroup_resources_io.c */
int cgroup_reader_block_io(struct cgroup_reader *r, json_object *b);
int cgroup_reader_hugepages(struct cgroup_reader *r, json_object *list);
int cgroup_reader_network(struct cgroup_reader *r, json_object *n);
int cgroup_reader_rdma(struct cgroup_reader *r, json_object *devices);
int cgroup_reader_unified(struct cgroup_reader *r, json_object *u);
