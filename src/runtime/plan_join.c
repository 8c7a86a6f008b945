// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling an exec: a process that joins a container
 *
 * The namespaces of the container's init are joined through its pidfd, all in one call; only a pid namespace has to be joined by
 * who clones. What the exec's process leaves open is the container's: capabilities, labels, rlimits.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "runtime/plan.h"
#include "util/fd.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static int add(struct plan *p, enum plan_kind kind, const char *step, const char *path,
	       struct fault *f)
{
	return plan_add(p, kind, step, path) ? 0 : plan_no_memory(f);
}

/*
 * What of the container is not the daemon's. A container_spec tells without looking; only a user namespace that is ours already may not be
 * joined again (EINVAL), so that one is compared.
 */
static uint64_t foreign(const struct launch_request *r)
{
	uint64_t flags = 0;
	char path[64];

	for (int k = 0; k < SPEC_NS_KINDS; k++) {
		enum spec_ns_kind kind = (enum spec_ns_kind)k;

		if (r->container_spec && !r->container_spec->ns[k].given)
			continue;
		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)r->join_pid,
			 spec_ns_proc(kind));
		if ((!r->container_spec || kind == SPEC_NS_USER) && plan_same_ns(path, kind))
			continue;
		flags |= (uint64_t)(unsigned)spec_ns_flag(kind);
	}
	return flags;
}

int plan_join(struct plan *p, const struct launch_request *r, struct fault *f)
{
	uint64_t flags = foreign(r);
	struct plan_op *op;
	int e;

	p->exec = true;
	p->user_by_path = flags & CLONE_NEWUSER;
	e = plan_process_early(p, r, f);
	if (e < 0)
		return e;
	if (r->join_pidfd < 0 && !plan_add_open(p, PLAN_OPEN_PIDFD, "pidfd"))
		return plan_no_memory(f);
	p->cgroup = r->cgroup;
	if (r->cgroup && (e = add(p, PLAN_CGROUPS, "join cgroup", cgroup_path(r->cgroup), f)) < 0)
		return e;
	if ((e = add(p, PLAN_KEYRING, "session keyring", NULL, f)) < 0)
		return e;
	if (p->label && (e = add(p, PLAN_LABEL, "open", p->label_file, f)) < 0)
		return e;
	if (flags & CLONE_NEWPID) {
		p->in_thread = true;
		p->thread_flags = CLONE_NEWPID;
		flags &= ~(uint64_t)CLONE_NEWPID;
	}
	if (!(flags & CLONE_NEWNS)) {
		/* no mount namespace of its own: its root is a chroot's */
		struct plan_open *o = plan_add_open(
			p, PLAN_OPEN_PATH, plan_printf(p, "/proc/%d/root", (int)r->join_pid));

		if (!o || !o->path)
			return plan_no_memory(f);
		op = plan_add(p, PLAN_CHROOT_PROC, "chroot", o->path);
		if (!op)
			return plan_no_memory(f);
		op->join.slot = o->slot;
	}
	if (flags) {
		op = plan_add(p, PLAN_NS_JOIN_PIDFD, "join the container's namespaces", NULL);
		if (!op)
			return plan_no_memory(f);
		op->flags = flags;
	}
	if (flags & CLONE_NEWUSER) {
		op = plan_add(p, PLAN_IDS, "become root of the user namespace", NULL);
		if (!op)
			return plan_no_memory(f);
		op->ids.uid = 0;
		op->ids.gid = 0;
		if (r->container_spec && r->container_spec->uid_mappings.n) {
			bool root = false;

			for (size_t i = 0; i < r->container_spec->uid_mappings.n; i++)
				root |= !r->container_spec->uid_mappings.v[i].container_id;
			if (!root) {
				op->ids.uid = r->spec->process.uid;
				op->ids.gid = r->spec->process.gid;
			}
		}
	}
	if ((e = add(p, PLAN_ROOT_OPEN, "open root", "/", f)) < 0)
		return e;
	if (p->terminal && (e = add(p, PLAN_TTY, "terminal", NULL, f)) < 0)
		return e;
	e = plan_process(p, r, f);
	if (!e)
		e = add(p, PLAN_READY, "ready", NULL, f);
	if (!e)
		e = add(p, PLAN_CREDS, "credentials", NULL, f);
	if (!e)
		e = add(p, PLAN_EXEC, "exec", r->spec->process.cwd, f);
	return e;
}
