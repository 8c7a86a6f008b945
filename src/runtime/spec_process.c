// SPDX-License-Identifier: Apache-2.0
/*
 * The spec's `process`: config.md "Process", for a container's init and for an exec
 */
#include <limits.h>
#include <string.h>

#include "runtime/spec_internal.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define ID_MAX (UINT32_MAX - 1) /* (uid_t)-1 means "no change" to the kernel */
#define CPU_LIMIT                                                                                  \
	8192u /* processors that a list may name: the largest NR_CPUS of any configuration */
#define POLICY_FIFO 1
#define POLICY_RR 2
#define POLICY_ISO 4
#define POLICY_DEADLINE 6
#define IOPRIO_CLASS_SHIFT 13

static const struct spec_word io_classes[] = {
	{ "IOPRIO_CLASS_RT", 1 },
	{ "IOPRIO_CLASS_BE", 2 },
	{ "IOPRIO_CLASS_IDLE", 3 },
};

static void read_console_size(struct spec_reader *r, const struct spec_node *at,
			      struct spec_process *p)
{
	struct spec_node box;
	uint32_t width = 0, height = 0;

	if (!spec_object(r, at, "consoleSize", &box))
		return;
	spec_require(r, &box, "width", spec_u32(r, &box, "width", UINT16_MAX, &width));
	spec_require(r, &box, "height", spec_u32(r, &box, "height", UINT16_MAX, &height));
	p->width = (uint16_t)width;
	p->height = (uint16_t)height;
}

static void read_user(struct spec_reader *r, const struct spec_node *at, struct spec_process *p)
{
	struct spec_node user, gids;
	size_t n;

	/* `username` is Windows'; tools that know a name have put its number into uid. */
	if (!spec_object(r, at, "user", &user))
		return;
	spec_u32(r, &user, "uid", ID_MAX, &p->uid);
	spec_u32(r, &user, "gid", ID_MAX, &p->gid);
	spec_int(r, &user, "umask", 0, 0777, &p->umask);
	n = spec_array(r, &user, "additionalGids", &gids);
	if (n > NGROUPS_MAX)
		spec_fail(r, &gids, NULL, "more than %d groups", NGROUPS_MAX);
	if (!n)
		return;
	p->additional_gids = spec_alloc(r, n, sizeof(*p->additional_gids));
	for (size_t i = 0; i < n && !r->err; i++) {
		json_object *j = json_object_array_get_idx(gids.json, i);
		struct spec_node item = { .up = &gids, .index = i, .json = j };
		int64_t v = json_object_get_int64(j);

		if (!json_object_is_type(j, json_type_int) || v < 0 || v > ID_MAX)
			spec_fail(r, &item, NULL, "must be a group number from 0 to %u", ID_MAX);
		else
			p->additional_gids[i] = (gid_t)v;
	}
	p->n_additional_gids = n;
}

static void read_strings(struct spec_reader *r, const struct spec_node *at, struct spec_process *p)
{
	struct spec_node env = { .up = at, .name = "env" };
	size_t bytes = 0;

	spec_texts(r, at, "args", &p->args);
	if (!p->args.n)
		spec_fail(r, at, "args", "must name a program");
	spec_texts(r, at, "env", &p->env);
	for (size_t i = 0; i < p->args.n; i++)
		bytes += strlen(p->args.v[i]) + 1;
	for (size_t i = 0; i < p->env.n; i++) {
		struct spec_node item = { .up = &env, .index = i };
		const char *eq = strchr(p->env.v[i], '=');

		if (!eq || eq == p->env.v[i])
			spec_fail(r, &item, NULL, "\"%.64s\" is not of the form NAME=VALUE",
				  p->env.v[i]);
		bytes += strlen(p->env.v[i]) + 1;
	}
	if (bytes > LIMIT_SPEC_ARGS_BYTES)
		spec_fail(r, at, "args", "args and env have %zu bytes, more than %u", bytes,
			  LIMIT_SPEC_ARGS_BYTES);
}

static void read_cap_set(struct spec_reader *r, const struct spec_node *at, const char *key,
			 uint64_t *set)
{
	struct spec_node array;
	size_t n = spec_array(r, at, key, &array), size;
	const char *name;

	for (size_t i = 0; i < n && spec_item_text(r, &array, i, &name, &size); i++) {
		struct spec_node item = { .up = &array, .index = i };
		int cap = spec_cap_by_name(name);

		if (cap < 0)
			spec_fail(r, &item, NULL, "unknown capability \"%.64s\"", name);
		else
			*set |= 1ull << cap;
	}
}

static void read_caps(struct spec_reader *r, const struct spec_node *at, struct spec_caps *caps)
{
	struct spec_node node;

	if (!spec_object(r, at, "capabilities", &node))
		return;
	caps->given = true;
	read_cap_set(r, &node, "bounding", &caps->bounding);
	read_cap_set(r, &node, "effective", &caps->effective);
	read_cap_set(r, &node, "inheritable", &caps->inheritable);
	read_cap_set(r, &node, "permitted", &caps->permitted);
	read_cap_set(r, &node, "ambient", &caps->ambient);
}

static void read_rlimits(struct spec_reader *r, const struct spec_node *at, struct spec_process *p)
{
	struct spec_node array, item;
	size_t n = spec_array(r, at, "rlimits", &array);
	uint64_t seen = 0;

	if (!n)
		return;
	if (n > spec_rlimit_count)
		spec_fail(r, &array, NULL, "%zu limits, but there are %zu kinds", n,
			  spec_rlimit_count);
	p->rlimits = spec_alloc(r, n, sizeof(*p->rlimits));
	for (size_t i = 0; i < n && spec_item(r, &array, i, &item); i++) {
		struct spec_rlimit *l = &p->rlimits[i];
		int64_t kind = 0;

		spec_require(r, &item, "type",
			     spec_word(r, &item, "type", spec_rlimit_words, spec_rlimit_count,
				       "resource limit", &kind));
		spec_require(r, &item, "soft", spec_uint(r, &item, "soft", UINT64_MAX, &l->soft));
		spec_require(r, &item, "hard", spec_uint(r, &item, "hard", UINT64_MAX, &l->hard));
		if (r->err)
			return;
		if (seen & 1ull << kind)
			spec_fail(r, &item, "type", "is given a second time");
		if (l->soft > l->hard)
			spec_fail(r, &item, "soft", "is above hard");
		seen |= 1ull << kind;
		l->resource = (int)kind;
	}
	p->n_rlimits = n;
}

static void read_io_priority(struct spec_reader *r, const struct spec_node *at,
			     struct spec_process *p)
{
	struct spec_node node;
	int64_t class = 0, priority = 0;

	if (!spec_object(r, at, "ioPriority", &node))
		return;
	spec_require(r, &node, "class",
		     spec_word(r, &node, "class", io_classes, ARRAY_SIZE(io_classes),
			       "I/O priority class", &class));
	spec_int(r, &node, "priority", 0, 7, &priority);
	p->io_priority = class << IOPRIO_CLASS_SHIFT | priority;
}

static void read_scheduler(struct spec_reader *r, const struct spec_node *at,
			   struct spec_scheduler *s)
{
	struct spec_node node, flags;
	int64_t policy = 0, nice = 0, priority = 0, flag;
	bool realtime, has_priority;
	size_t n;

	if (!spec_object(r, at, "scheduler", &node))
		return;
	s->given = true;
	spec_require(r, &node, "policy",
		     spec_word(r, &node, "policy", spec_policy_words, spec_policy_count,
			       "scheduling policy", &policy));
	if (policy == POLICY_ISO)
		spec_fail_code(r, &node, "policy", FAULT_UNIMPLEMENTED,
			       "Linux reserves SCHED_ISO and does not have it");
	spec_int(r, &node, "nice", -20, 19, &nice);
	realtime = policy == POLICY_FIFO || policy == POLICY_RR;
	has_priority = spec_int(r, &node, "priority", 0, 99, &priority) && priority;
	if (realtime && !has_priority)
		spec_fail(r, &node, "priority", "SCHED_FIFO and SCHED_RR need one from 1 to 99");
	if (!realtime && has_priority)
		spec_fail(r, &node, "priority", "is for SCHED_FIFO and SCHED_RR only");
	n = spec_array(r, &node, "flags", &flags);
	for (size_t i = 0;
	     i < n && spec_item_word(r, &flags, i, spec_policy_flag_words, spec_policy_flag_count,
				     "scheduling flag", &flag);
	     i++)
		s->flags |= (uint64_t)flag;
	spec_uint(r, &node, "runtime", UINT64_MAX, &s->runtime);
	spec_uint(r, &node, "deadline", UINT64_MAX, &s->deadline);
	spec_uint(r, &node, "period", UINT64_MAX, &s->period);
	if (policy != POLICY_DEADLINE && (s->runtime || s->deadline || s->period))
		spec_fail(r, &node, "policy",
			  "runtime, deadline and period are for SCHED_DEADLINE only");
	s->policy = (uint32_t)policy;
	s->nice = (int32_t)nice;
	s->priority = (int32_t)priority;
}

static void read_affinity(struct spec_reader *r, const struct spec_node *at, struct spec_process *p)
{
	static const char *const keys[] = { "initial", "final" };
	struct spec_node node;
	struct spec_strs *out = &p->exec_cpu_affinity;

	if (!spec_object(r, at, "execCPUAffinity", &node))
		return;
	out->v = spec_alloc(r, 3, sizeof(*out->v));
	for (size_t i = 0; i < 2 && !r->err; i++) {
		if (!spec_text(r, &node, keys[i], &out->v[i])) {
			out->v[i] = spec_copy(r, "", 0);
			continue;
		}
		if (!spec_list_valid(out->v[i], CPU_LIMIT, NULL))
			spec_fail(r, &node, keys[i], "\"%.64s\" is not a list of processors",
				  out->v[i]);
	}
	if (!r->err)
		out->n = 2;
}

void spec_read_process(struct spec_reader *r, const struct spec_node *at, struct spec_process *p)
{
	const char *command_line;

	p->umask = p->oom_score_adj = p->io_priority = SPEC_ABSENT;
	spec_bool(r, at, "terminal", &p->terminal);
	read_console_size(r, at, p);
	read_user(r, at, p);
	if (spec_peek(r, at, "commandLine", &command_line))
		spec_fail(r, at, "commandLine", "is for Windows; args is Linux's");
	read_strings(r, at, p);
	spec_require(r, at, "cwd", spec_path(r, at, "cwd", &p->cwd));
	read_caps(r, at, &p->caps);
	read_rlimits(r, at, p);
	spec_bool(r, at, "noNewPrivileges", &p->no_new_privileges);
	spec_text(r, at, "apparmorProfile", &p->apparmor_profile);
	spec_text(r, at, "selinuxLabel", &p->selinux_label);
	spec_int(r, at, "oomScoreAdj", -1000, 1000, &p->oom_score_adj);
	read_io_priority(r, at, p);
	read_scheduler(r, at, &p->scheduler);
	read_affinity(r, at, p);
}
