// SPDX-License-Identifier: Apache-2.0
/*
 * Restores: the container's limits of processes and memory, while criu is at work in its cgroup
 *
 * What criu restores has to be charged to the container from its first page on, so criu itself and its
 * helpers (cgroup and user namespace daemons, tar, the action script) run in the container's cgroup
 * too, and each task is a copy of criu until its own memory is there. A limit that fits the container
 * need not fit that. So both limits are wider until criu has ended, by what criu needs, not by more:
 * nobody can use the time to get much beyond them. They are narrowed before the task is called
 * started; a container that does not fit into them is killed.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/restore_internal.h"
#include "runtime/cgroup.h"
#include "util/cleanup.h"

#define MORE_PIDS                                                                                  \
	64 /* criu, its helpers, and one for each task: leaders of groups that have ended */
#define MORE_MEMORY (INT64_C(64) << 20)
#define MORE_MEMORY_TASK (INT64_C(2) << 20) /* a task's part of criu's memory, which it writes to */

struct limits {
	json_object *wide, *narrow;
	int64_t pids, memory; /* how much wider */
	bool failed; /* no memory */
};

static void put(struct limits *l, json_object *to, const char *name, json_object *value)
{
	if (!value || json_object_object_add(to, name, value) < 0) {
		json_object_put(value);
		l->failed = true;
	}
}

static json_object *section(struct limits *l, json_object *of, const char *name)
{
	json_object *o = NULL;

	if (json_object_object_get_ex(of, name, &o))
		return o;
	o = json_object_new_object();
	put(l, of, name, o);
	return l->failed ? NULL : o;
}

static int64_t sum(int64_t limit, int64_t more)
{
	return limit > INT64_MAX - more ? INT64_MAX : limit + more;
}

/* A number that bounds; others (0, -1) are no limit. */
static void number(struct limits *l, json_object *from, const char *in, const char *name,
		   int64_t more)
{
	json_object *s = NULL, *v = NULL, *wide, *narrow;
	int64_t n;

	if (!json_object_object_get_ex(from, in, &s) || !json_object_object_get_ex(s, name, &v) ||
	    !json_object_is_type(v, json_type_int))
		return;
	n = json_object_get_int64(v);
	wide = section(l, l->wide, in);
	narrow = section(l, l->narrow, in);
	if (!wide || !narrow)
		return;
	put(l, wide, name, json_object_new_int64(n > 0 ? sum(n, more) : n));
	put(l, narrow, name, json_object_new_int64(n));
}

/* The same by the names of cgroup v2's files: texts, "max" for none. */
static void file(struct limits *l, json_object *from, const char *name, int64_t more)
{
	json_object *s = NULL, *v = NULL, *wide, *narrow;
	char text[32], *end;
	int64_t n;

	if (!json_object_object_get_ex(from, "unified", &s) ||
	    !json_object_object_get_ex(s, name, &v) || !json_object_is_type(v, json_type_string))
		return;
	n = strtoll(json_object_get_string(v), &end, 10);
	if (end == json_object_get_string(v) || n < 0)
		return;
	wide = section(l, l->wide, "unified");
	narrow = section(l, l->narrow, "unified");
	if (!wide || !narrow)
		return;
	/* with a unit behind it: none for the moment is as good */
	if (*end)
		snprintf(text, sizeof(text), "max");
	else
		snprintf(text, sizeof(text), "%lld", (long long)sum(n, more));
	put(l, wide, name, json_object_new_string(text));
	put(l, narrow, name, json_object_new_string(json_object_get_string(v)));
}

/* Both sets; empty ones when nothing is limited. */
static int read_limits(struct limits *l, json_object *from, size_t tasks, struct fault *f)
{
	*l = (struct limits){
		.wide = json_object_new_object(),
		.narrow = json_object_new_object(),
		.pids = MORE_PIDS + (int64_t)tasks,
		.memory = MORE_MEMORY + MORE_MEMORY_TASK * (int64_t)tasks,
	};
	if (!l->wide || !l->narrow) {
		l->failed = true;
	} else if (from) {
		number(l, from, "pids", "limit", l->pids);
		number(l, from, "memory", "limit", l->memory);
		number(l, from, "memory", "swap", l->memory);
		file(l, from, "pids.max", l->pids);
		file(l, from, "memory.max", l->memory);
		file(l, from, "memory.high", l->memory);
	}
	return l->failed ? restore_no_memory(f) : 0;
}

static void limits_clear(struct limits *l)
{
	json_object_put(l->wide);
	json_object_put(l->narrow);
}

int restore_limits_widen(struct restore *r, const struct restore_start *s, struct fault *f)
{
	CLEANUP(limits_clear) struct limits l;
	int e = read_limits(&l, s->spec->resources, r->n_tasks, f);

	if (e < 0 || !json_object_object_length(l.wide))
		return e;
	r->limits = TAKE_PTR(l.narrow);
	return cgroup_update(s->cgroup, l.wide, f);
}

static int narrow(struct cgroup *cg, json_object *limits, struct fault *f)
{
	int e = cgroup_narrow(cg, limits, f);

	if (e < 0) {
		fault_prefix(f, "the restored processes do not fit into the container's limits");
		cgroup_signal(cg, SIGKILL);
	}
	return e;
}

int restore_limits_narrow(struct restore *r, struct cgroup *cg, struct fault *f)
{
	return narrow(cg, r->limits, f);
}

int restore_limits_recover(struct cgroup *cg, const struct spec *spec, struct fault *f)
{
	CLEANUP(limits_clear) struct limits l;
	int e = read_limits(&l, spec->resources, 0, f);

	return e < 0 || !json_object_object_length(l.narrow) ? e : narrow(cg, l.narrow, f);
}
