// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling the process: what a create and an exec have in common
 *
 * The early half is what the namespaces' order depends on (terminal, labels, identity); the other comes when the child is in its root: standard
 * streams, limits, scheduling, working directory, program. For an exec whatever its process does not say is the container's.
 */
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/plan.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* What capset(2) would refuse, told before anything runs. */
static int check_cap_sets(const struct spec_caps *caps, struct fault *f)
{
	uint64_t wrong = caps->effective & ~caps->permitted;
	const char *set = "effective", *other = "permitted";

	if (!wrong) {
		wrong = caps->inheritable & ~caps->bounding;
		set = "inheritable";
		other = "bounding";
	}
	if (!wrong)
		return 0;
	fault_set(f, FAULT_INVALID_ARGUMENT, 0,
		  "process.capabilities.%s has capability number %d, which is not in %s", set,
		  __builtin_ctzll(wrong), other);
	fault_arg(f, "process.capabilities");
	return -EINVAL;
}

static int check_caps(struct plan *p, struct fault *f)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	uint64_t ours, missing;
	int r = check_cap_sets(&p->caps, f);

	if (r < 0)
		return r;
	/*
	 * The kernel holds in the ambient set only what is permitted and inheritable. What else a
	 * spec names there has no effect in any runtime, and the specs that runc and crun write by
	 * default have such.
	 */
	p->caps.ambient &= p->caps.permitted & p->caps.inheritable;
	/* in a user namespace of its own everything is there to be given */
	if (p->new_user || p->user_by_path)
		return 0;
	if (syscall(SYS_capget, &head, data) < 0)
		return fault_sys(f, errno, "capget", NULL);
	ours = data[0].permitted | (uint64_t)data[1].permitted << 32;
	missing = (p->caps.permitted | p->caps.effective) & ~ours;
	if (!missing)
		return 0;
	fault_set(f, FAULT_PERMISSION_DENIED, EPERM,
		  "process.capabilities: the daemon does not have capability number %d to give",
		  __builtin_ctzll(missing));
	fault_arg(f, "process.capabilities");
	return -EPERM;
}

static int take_env(struct plan *p, const struct spec_process *proc, struct fault *f)
{
	p->envp = plan_alloc(p, (proc->env.n + 2) * sizeof(char *));
	if (!p->envp)
		return plan_no_memory(f);
	p->env_home = proc->env.n;
	p->search = PATH_DEFAULT;
	for (size_t i = 0; i < proc->env.n; i++) {
		p->envp[i] = proc->env.v[i];
		if (!strncmp(proc->env.v[i], "HOME=", 5))
			p->env_home = SIZE_MAX;
		else if (!strncmp(proc->env.v[i], "PATH=", 5))
			p->search = proc->env.v[i] + 5;
	}
	p->argv = proc->args.v;
	return 0;
}

/* A CPU list as "0-3,7". */
static int cpu_list(const char *text, struct plan_bits *out)
{
	const char *at = text;

	while (*at) {
		unsigned from, to;
		int used = 0;

		if (sscanf(at, "%u%n", &from, &used) != 1 || *at < '0' || *at > '9')
			return -EINVAL;
		at += used;
		to = from;
		if (*at == '-') {
			if (at[1] < '0' || at[1] > '9' || sscanf(at + 1, "%u%n", &to, &used) != 1)
				return -EINVAL;
			at += 1 + used;
		}
		if (to < from || to >= sizeof(out->v) * 8)
			return -EINVAL;
		for (unsigned i = from; i <= to; i++)
			out->v[i / 64] |= 1ull << (i % 64);
		if (*at == ',' && at[1])
			at++;
		else if (*at)
			return -EINVAL;
	}
	out->bytes = sizeof(out->v);
	return 0;
}

static int add_affinity(struct plan *p, const struct spec_process *proc, size_t which,
			struct fault *f)
{
	const char *text = proc->exec_cpu_affinity.n > which ? proc->exec_cpu_affinity.v[which]
							     : "";
	struct plan_bits *bits;
	struct plan_op *op;

	/* runtime-spec: it is for execs, and init ignores it */
	if (!p->exec || !*text)
		return 0;
	bits = plan_alloc(p, sizeof(*bits));
	op = plan_add(p, PLAN_AFFINITY, "CPU affinity", text);
	if (!bits || !op)
		return plan_no_memory(f);
	if (cpu_list(text, bits) < 0) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			  "process.execCPUAffinity: \"%s\" is not a list of CPUs", text);
		fault_arg(f, "process.execCPUAffinity");
		return -EINVAL;
	}
	op->bits = bits;
	return 0;
}

int plan_process_early(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *base = r->container_spec ? r->container_spec : r->spec;
	const struct spec_process *proc = &r->spec->process;
	int e;

	if (!r->spec->has_process || !proc->args.n || !proc->args.v[0][0]) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			  "process.args is missing: there is nothing to run");
		fault_arg(f, "process.args");
		return -EINVAL;
	}
	p->spec = r->spec;
	p->terminal = r->terminal;
	p->width = r->width ? r->width : proc->width ? proc->width : 80;
	p->height = r->height ? r->height : proc->height ? proc->height : 24;
	memcpy(p->stdio, r->stdio, sizeof(p->stdio));
	p->join_pidfd = r->join_pid > 0 ? r->join_pidfd : -1;
	p->join_pid = r->join_pid;
	if (p->new_user || p->user_by_path)
		p->stdio_maps = &base->uid_mappings;
	p->seccomp = r->seccomp;
	p->caps = proc->caps.given || !p->exec ? proc->caps : base->process.caps;
	p->uid = proc->uid;
	p->gid = proc->gid;
	p->groups = proc->additional_gids;
	p->n_groups = proc->n_additional_gids;
	p->umask = proc->umask != SPEC_ABSENT ? (mode_t)proc->umask : 022;
	p->no_new_privileges = proc->no_new_privileges ||
			       (p->exec && base->process.no_new_privileges);
	p->oom_score_adj = proc->oom_score_adj != SPEC_ABSENT ? (int)proc->oom_score_adj
			   : p->exec && base->has_process &&
					   base->process.oom_score_adj != SPEC_ABSENT
				   ? (int)base->process.oom_score_adj
				   : INT_MIN;
	e = check_caps(p, f);
	if (!e)
		e = take_env(p, proc, f);
	if (!e && p->exec && !proc->apparmor_profile && !proc->selinux_label)
		proc = &base->process;
	if (!e)
		e = plan_check_labels(p, proc, p->exec ? NULL : r->spec->mount_label, f);
	if (!e)
		e = add_affinity(p, &r->spec->process, 0, f);
	return e;
}

static int add_rlimits(struct plan *p, const struct spec_process *proc, struct fault *f)
{
	for (size_t i = 0; i < proc->n_rlimits; i++) {
		static const char *const names[] = {
			"RLIMIT_CPU",	   "RLIMIT_FSIZE", "RLIMIT_DATA",   "RLIMIT_STACK",
			"RLIMIT_CORE",	   "RLIMIT_RSS",   "RLIMIT_NPROC",  "RLIMIT_NOFILE",
			"RLIMIT_MEMLOCK",  "RLIMIT_AS",	   "RLIMIT_LOCKS",  "RLIMIT_SIGPENDING",
			"RLIMIT_MSGQUEUE", "RLIMIT_NICE",  "RLIMIT_RTPRIO", "RLIMIT_RTTIME"
		};
		int which = proc->rlimits[i].resource;
		struct plan_op *op = plan_add(
			p, PLAN_RLIMIT, "setrlimit",
			which >= 0 && which < (int)(sizeof(names) / sizeof(names[0])) ? names[which]
										      : "");

		if (!op)
			return plan_no_memory(f);
		op->rlimit = proc->rlimits[i];
	}
	return 0;
}

static int add_scheduling(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *base = p->exec && r->container_spec ? r->container_spec : r->spec;
	const struct spec_process *proc = &r->spec->process;
	struct plan_op *op;

	if (base->personality != SPEC_ABSENT) {
		if (!(op = plan_add(p, PLAN_PERSONALITY, "personality", NULL)))
			return plan_no_memory(f);
		op->number = base->personality;
	}
	if (base->memory_policy.given) {
		struct plan_bits *bits = plan_alloc(p, sizeof(*bits));

		if (!bits || !(op = plan_add(p, PLAN_MEMPOLICY, "memory policy", NULL)))
			return plan_no_memory(f);
		memcpy(bits->v, base->memory_policy.nodes, sizeof(bits->v));
		bits->mode = base->memory_policy.mode;
		for (size_t i = 0; i < sizeof(bits->v) / sizeof(bits->v[0]); i++)
			if (bits->v[i])
				bits->bytes = (i + 1) * sizeof(bits->v[0]);
		op->bits = bits;
	}
	if (proc->io_priority != SPEC_ABSENT) {
		if (!(op = plan_add(p, PLAN_IOPRIO, "I/O priority", NULL)))
			return plan_no_memory(f);
		op->number = proc->io_priority;
	}
	if (proc->scheduler.given) {
		struct plan_sched *s = plan_alloc(p, sizeof(*s));

		if (!s || !(op = plan_add(p, PLAN_SCHEDULER, "scheduler", NULL)))
			return plan_no_memory(f);
		s->size = sizeof(*s);
		s->policy = proc->scheduler.policy;
		s->flags = proc->scheduler.flags;
		s->nice = proc->scheduler.nice;
		s->priority = (uint32_t)proc->scheduler.priority;
		s->runtime = proc->scheduler.runtime;
		s->deadline = proc->scheduler.deadline;
		s->period = proc->scheduler.period;
		op->sched = s;
	}
	return add_affinity(p, proc, 1, f);
}

int plan_process(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec_process *proc = &r->spec->process;
	const char *cwd = proc->cwd && *proc->cwd ? proc->cwd : "/", *root = NULL;
	bool limits = proc->n_rlimits || !p->exec || !r->container_spec;
	int e = 0;

	if (!p->terminal && !plan_add(p, PLAN_STDIO, "stdio", NULL))
		return plan_no_memory(f);
	if (!plan_add(p, PLAN_CWD, "chdir to", cwd))
		return plan_no_memory(f);
	e = add_scheduling(p, r, f);
	if (!e)
		e = add_rlimits(p, limits ? proc : &r->container_spec->process, f);
	if (!e && !p->exec && !r->n_rootfs && !r->spec->ns[SPEC_NS_MOUNT].path)
		e = plan_root_path(p, r, &root, f);
	if (!e)
		e = plan_check_program(p, r, root, f);
	return e;
}
