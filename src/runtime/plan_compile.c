// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling a spec into a launch plan: the order of everything
 *
 * Namespaces come about in three ways. New ones are flags of the clone, but for the cgroup namespace (which has to be made after
 * the child is in its cgroups) and a time namespace with offsets (which have to be written while it is empty). Those by path are joined
 * by the child, since the daemon has many threads and a user namespace can be entered by none of them. Two cases need more:
 * a pid namespace by path, and any by path beside a new user namespace, whose root would have no right to join them: there the clone is made by a
 * thread of its own, which joins first and ends after, so that no worker is left in a container's namespace; and new namespaces that
 * shall belong to a user namespace by path: there a first child joins that and clones the final one as its sibling (PLAN_REFORK).
 *
 * Then the file system, hooks of the runtime's, pivot_root, and at last what limits the process itself. Everything that can fail
 * comes before READY, except what the rules of privilege put behind it.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "runtime/plan.h"
#include "util/cleanup.h"
#include "util/limits.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

bool plan_is_new(const struct spec *s, enum spec_ns_kind kind)
{
	return s->ns[kind].given && !s->ns[kind].path;
}

bool plan_same_ns(const char *path, enum spec_ns_kind kind)
{
	struct stat theirs, ours;
	char own[64];

	snprintf(own, sizeof(own), "/proc/self/ns/%s", spec_ns_proc(kind));
	return !stat(path, &theirs) && !stat(own, &ours) && theirs.st_dev == ours.st_dev &&
	       theirs.st_ino == ours.st_ino;
}

static const char *id_map(struct plan *p, const struct spec_idmaps *maps)
{
	CLEANUP_FREE char *text = userns_map(maps);

	return text ? plan_strdup(p, text) : NULL;
}

/* Which id somebody in the namespace is who sets up the container: root when root is mapped, else the process' own. */
static uint32_t set_up_id(const struct spec_idmaps *maps, uint32_t own)
{
	for (size_t i = 0; i < maps->n; i++)
		if (!maps->v[i].container_id)
			return 0;
	return maps->n ? own : 0;
}

static int add_open_ns(struct plan *p, const struct spec *s, enum spec_ns_kind kind, int *slot,
		       struct fault *f)
{
	struct plan_open *o = plan_add_open(p, PLAN_OPEN_NS, s->ns[kind].path);

	if (!o)
		return plan_no_memory(f);
	o->ns_flag = spec_ns_flag(kind);
	*slot = o->slot;
	return 0;
}

static int join_paths(struct plan *p, const struct spec *s, struct fault *f)
{
	/* the user namespace last: with the host's rights any other can be joined */
	static const enum spec_ns_kind order[] = { SPEC_NS_PID,	  SPEC_NS_NETWORK, SPEC_NS_IPC,
						   SPEC_NS_UTS,	  SPEC_NS_CGROUP,  SPEC_NS_TIME,
						   SPEC_NS_MOUNT, SPEC_NS_USER };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		enum spec_ns_kind kind = order[i];
		struct plan_op *op;
		int slot = -1, r;

		if (!s->ns[kind].given || !s->ns[kind].path ||
		    (kind == SPEC_NS_USER && !p->user_by_path))
			continue;
		r = add_open_ns(p, s, kind, &slot, f);
		if (r < 0)
			return r;
		/* a time namespace cannot be joined by one thread of several */
		if (kind == SPEC_NS_PID || (p->new_user && kind != SPEC_NS_TIME)) {
			p->in_thread = true;
			p->thread_flags |= (uint64_t)(unsigned)spec_ns_flag(kind);
			continue;
		}
		op = plan_add(p, PLAN_NS_JOIN, "join namespace", s->ns[kind].path);
		if (!op)
			return plan_no_memory(f);
		op->join.slot = slot;
		op->join.flag = spec_ns_flag(kind);
	}
	return 0;
}

static int add(struct plan *p, enum plan_kind kind, const char *step, const char *path,
	       unsigned long flags, struct fault *f)
{
	struct plan_op *op = plan_add(p, kind, step, path);

	if (!op)
		return plan_no_memory(f);
	op->flags = flags;
	return 0;
}

static int time_text(struct plan *p, const struct spec *s, struct fault *f)
{
	static const char *const names[] = { "monotonic", "boottime" };
	char *out = plan_alloc(p, 128), *at = out;

	if (!out)
		return plan_no_memory(f);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (s->time_offsets[i].given)
			at += sprintf(at, "%s %lld %u\n", names[i],
				      (long long)s->time_offsets[i].secs,
				      s->time_offsets[i].nanosecs);
	p->time_offsets = out;
	return 0;
}

static int namespaces(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *s = r->spec;
	bool offsets = s->time_offsets[0].given || s->time_offsets[1].given;
	uint64_t fresh = 0;
	bool own_time;
	int e;

	if (offsets && !plan_is_new(s, SPEC_NS_TIME))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "linux.timeOffsets needs a new time namespace");
	if (p->new_user) {
		if (!s->uid_mappings.n || !s->gid_mappings.n)
			return fault_set(
				f, FAULT_INVALID_ARGUMENT, 0,
				"a new user namespace needs linux.uidMappings and linux.gidMappings");
		p->uid_map = id_map(p, &s->uid_mappings);
		p->gid_map = id_map(p, &s->gid_mappings);
		if (!p->uid_map || !p->gid_map)
			return plan_no_memory(f);
	} else if ((s->uid_mappings.n || s->gid_mappings.n) && !p->user_by_path) {
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "linux.uidMappings and linux.gidMappings need a user namespace");
	}
	for (int k = 0; k < SPEC_NS_KINDS; k++)
		if (plan_is_new(s, (enum spec_ns_kind)k) && k != SPEC_NS_CGROUP &&
		    k != SPEC_NS_TIME)
			fresh |= (uint64_t)(unsigned)spec_ns_flag((enum spec_ns_kind)k);
	own_time = plan_is_new(s, SPEC_NS_TIME) && (offsets || p->user_by_path);
	if (plan_is_new(s, SPEC_NS_TIME) && !own_time)
		fresh |= CLONE_NEWTIME;
	if (offsets && (e = time_text(p, s, f)) < 0)
		return e;
	if (r->cgroup &&
	    (e = add(p, PLAN_CGROUPS, "join cgroup", cgroup_path(r->cgroup), 0, f)) < 0)
		return e;
	p->cgroup = r->cgroup;
	e = join_paths(p, s, f);
	if (e < 0)
		return e;
	if (!p->user_by_path) {
		p->clone_flags = fresh;
	} else {
		struct plan_op *op = plan_add(p, PLAN_IDS, "become root of the user namespace",
					      NULL);

		if (!op)
			return plan_no_memory(f);
		op->ids.uid = set_up_id(&s->uid_mappings, s->process.uid);
		op->ids.gid = set_up_id(&s->gid_mappings, s->process.gid);
		p->refork = fresh & CLONE_NEWPID;
		p->refork_flags = fresh;
		if (p->refork)
			e = add(p, PLAN_REFORK, "clone", NULL, 0, f);
		else if (fresh)
			e = add(p, PLAN_UNSHARE, "unshare", NULL, fresh, f);
		if (e < 0)
			return e;
	}
	if (own_time) {
		p->time_sync = true;
		if ((e = add(p, PLAN_TIME, "time namespace", NULL, 0, f)) < 0)
			return e;
	}
	if (p->new_user) {
		struct plan_op *op;

		p->waits = true;
		if (add(p, PLAN_WAIT, "id mappings", NULL, 0, f) < 0)
			return -ENOMEM;
		op = plan_add(p, PLAN_IDS, "become root of the user namespace", NULL);
		if (!op)
			return plan_no_memory(f);
		op->ids.uid = set_up_id(&s->uid_mappings, s->process.uid);
		op->ids.gid = set_up_id(&s->gid_mappings, s->process.gid);
	}
	if (plan_is_new(s, SPEC_NS_CGROUP) &&
	    (e = add(p, PLAN_UNSHARE, "cgroup namespace", NULL, CLONE_NEWCGROUP, f)) < 0)
		return e;
	e = add(p, PLAN_KEYRING, "session keyring", NULL, 0, f);
	if (!e && p->label)
		e = add(p, PLAN_LABEL, "open", p->label_file, 0, f);
	return e;
}

/* Host-wide unless a namespace of their own holds them. */
static int need_ns(const struct spec *s, enum spec_ns_kind kind, const char *what, struct fault *f)
{
	if (s->ns[kind].given)
		return 0;
	fault_set(f, FAULT_INVALID_ARGUMENT, 0,
		  "%s needs a namespace of the kind %s: without one it would change the host", what,
		  spec_ns_name(kind));
	return -EINVAL;
}

static int names_and_sysctls(struct plan *p, const struct spec *s, struct fault *f)
{
	int e = 0;

	if (s->hostname) {
		struct plan_op *op;

		if ((e = need_ns(s, SPEC_NS_UTS, "hostname", f)) < 0)
			return e;
		if (!(op = plan_add(p, PLAN_HOSTNAME, "sethostname", s->hostname)))
			return plan_no_memory(f);
		op->text = s->hostname;
	}
	if (s->domainname) {
		struct plan_op *op;

		if ((e = need_ns(s, SPEC_NS_UTS, "domainname", f)) < 0)
			return e;
		if (!(op = plan_add(p, PLAN_DOMAINNAME, "setdomainname", s->domainname)))
			return plan_no_memory(f);
		op->text = s->domainname;
	}
	if (plan_is_new(s, SPEC_NS_NETWORK))
		e = add(p, PLAN_LO_UP, "bring up lo", NULL, 0, f);
	if (!e && s->n_net_devices) {
		if ((e = need_ns(s, SPEC_NS_NETWORK, "linux.netDevices", f)) < 0)
			return e;
		if (!p->waits) {
			p->waits = true;
			e = add(p, PLAN_WAIT, "network devices", NULL, 0, f);
		}
	}
	for (size_t i = 0; !e && i < s->n_sysctl; i++) {
		const struct spec_sysctl *c = &s->sysctl[i];
		struct plan_op *op;
		bool slashes = strcspn(c->key, "/") < strcspn(c->key, ".");
		char *path;

		e = plan_check_sysctl(s, c, f);
		if (e < 0)
			return e;
		path = plan_printf(p, "/proc/sys/%s", c->key);
		if (!path || !(op = plan_add(p, PLAN_SYSCTL, "sysctl", path)))
			return plan_no_memory(f);
		/* as sysctl(8): with dots first, dots are the folders and slashes stand for dots in names */
		for (char *at = path + strlen("/proc/sys/"); !slashes && *at; at++)
			*at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
		op->text = c->value;
	}
	return e;
}

static int add_hooks(struct plan *p, const struct spec *s, enum spec_hook_kind kind, bool started,
		     struct fault *f)
{
	for (size_t i = 0; i < s->hooks[kind].n; i++) {
		const struct spec_hook *from = &s->hooks[kind].v[i];
		struct plan_hook *h = plan_alloc(p, sizeof(*h));
		char **empty = plan_alloc(p, 2 * sizeof(char *));
		struct plan_op *op = plan_add(p, PLAN_HOOK, spec_hook_name(kind), from->path);

		if (!h || !empty || !op)
			return plan_no_memory(f);
		h->name = spec_hook_name(kind);
		h->path = from->path;
		h->envp = from->env.n ? from->env.v : empty + 1;
		empty[0] = from->path;
		h->argv = from->args.n ? from->args.v : empty;
		h->timeout_ms = from->timeout == SPEC_ABSENT
					? (int)LIMIT_HOOK_SECONDS_DEFAULT * 1000
				: from->timeout > INT_MAX / 1000 ? INT_MAX
								 : (int)from->timeout * 1000;
		h->started = started;
		op->hook = h;
		p->hooks_inside = true;
	}
	return 0;
}

static int outside_hooks(struct plan *p, const struct spec *s, struct fault *f)
{
	if (!s->hooks[SPEC_HOOK_PRESTART].n && !s->hooks[SPEC_HOOK_CREATE_RUNTIME].n)
		return 0;
	p->hooks_outside = true;
	return add(p, PLAN_HOOKS, "hooks", NULL, 0, f);
}

static int cover_paths(struct plan *p, const struct spec *s, struct fault *f)
{
	bool proc = false;
	int e = 0;

	for (size_t i = 0; i < s->n_mounts; i++)
		if (s->mounts[i].type && !strcmp(s->mounts[i].type, "proc") &&
		    !strcmp(s->mounts[i].destination, "/proc"))
			proc = true;
	for (size_t i = 0; !e && i < s->masked_paths.n; i++)
		e = add(p, PLAN_MASK, "mask", s->masked_paths.v[i],
			proc && !strncmp(s->masked_paths.v[i], "/proc/", 6), f);
	for (size_t i = 0; !e && i < s->readonly_paths.n; i++)
		e = add(p, PLAN_READONLY, "make read-only", s->readonly_paths.v[i],
			proc && !strncmp(s->readonly_paths.v[i], "/proc/", 6), f);
	return e;
}

/* Without a mount namespace of its own a container can change its root, and nothing below it. */
static int foreign_mounts(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *s = r->spec;
	const char *what = s->n_mounts		   ? "mounts"
			   : r->n_rootfs	   ? "a rootfs list"
			   : s->masked_paths.n	   ? "linux.maskedPaths"
			   : s->readonly_paths.n   ? "linux.readonlyPaths"
			   : s->root_readonly	   ? "root.readonly"
			   : s->rootfs_propagation ? "linux.rootfsPropagation"
			   : s->n_devices	   ? "linux.devices"
						   : NULL;
	const char *root;
	int e;

	if (what) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s: a new mount namespace is needed",
			  what);
		return -EINVAL;
	}
	if (s->ns[SPEC_NS_MOUNT].given) {
		e = add(p, PLAN_ROOT_OPEN, "open root", "/", 0, f);
	} else {
		e = plan_root_path(p, r, &root, f);
		if (!e)
			e = add(p, PLAN_ROOT_OPEN, "open root", root, 0, f);
	}
	if (!e && p->terminal)
		e = add(p, PLAN_TTY, "terminal", NULL, 0, f);
	if (!e)
		e = outside_hooks(p, s, f);
	if (!e)
		e = add_hooks(p, s, SPEC_HOOK_CREATE_CONTAINER, false, f);
	if (!e && !s->ns[SPEC_NS_MOUNT].given)
		e = add(p, PLAN_CHROOT, "chroot", NULL, 0, f);
	return e;
}

static int own_mounts(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *s = r->spec;
	unsigned long propagation = s->rootfs_propagation ? s->rootfs_propagation
							  : MS_SLAVE | MS_REC;
	int e;

	p->shared_root = propagation & MS_SHARED;
	p->private_root = propagation & MS_PRIVATE;
	/* an unbindable host tree could not be bound from; the root gets that at the end */
	if (propagation & MS_UNBINDABLE)
		propagation = MS_PRIVATE | MS_REC;
	e = add(p, PLAN_PROPAGATE, "propagation of", "/", propagation | MS_REC, f);
	if (!e)
		e = plan_rootfs(p, r, f);
	if (!e)
		e = plan_mounts(p, r, f);
	if (!e)
		e = plan_devices(p, r, f);
	if (!e && p->terminal) {
		e = add(p, PLAN_TTY, "terminal", NULL, 0, f);
		if (!e)
			e = add(p, PLAN_CONSOLE, "bind terminal to", "/dev/console", 0, f);
	}
	if (!e)
		e = plan_mounts_late(p, f);
	if (!e)
		e = outside_hooks(p, s, f);
	if (!e)
		e = add_hooks(p, s, SPEC_HOOK_CREATE_CONTAINER, false, f);
	if (!e)
		e = cover_paths(p, s, f);
	if (!e && s->root_readonly)
		e = add(p, PLAN_ROOT_RO, "make read-only", "root", 0, f);
	if (!e)
		e = r->no_pivot_root ? add(p, PLAN_CHROOT, "chroot", NULL, 0, f)
				     : add(p, PLAN_PIVOT, "pivot_root", NULL, p->shared_root, f);
	/* not before: pivot_root takes no shared mount */
	if (!e && s->rootfs_propagation)
		e = add(p, PLAN_ROOT_PROPAGATE, "propagation of", "root", s->rootfs_propagation, f);
	return e;
}

/* Hooks that run inside, and what the parent does after the clone, need a word from it. */
static int wait_for_state(struct plan *p, const struct spec *s, struct fault *f)
{
	if (p->waits ||
	    (!s->hooks[SPEC_HOOK_CREATE_CONTAINER].n && !s->hooks[SPEC_HOOK_START_CONTAINER].n))
		return 0;
	p->waits = true;
	return add(p, PLAN_WAIT, "state for hooks", NULL, 0, f);
}

int plan_compile(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *s = r->spec;
	int e;

	if (s->has_intel_rdt) {
		fault_set(f, FAULT_UNIMPLEMENTED, 0,
			  "linux.intelRdt: resource control groups (resctrl) are not supported");
		fault_arg(f, "linux.intelRdt");
		return -EOPNOTSUPP;
	}
	p->new_user = plan_is_new(s, SPEC_NS_USER);
	p->user_by_path = s->ns[SPEC_NS_USER].path &&
			  !plan_same_ns(s->ns[SPEC_NS_USER].path, SPEC_NS_USER);
	e = plan_process_early(p, r, f);
	if (!e)
		e = namespaces(p, r, f);
	if (!e)
		e = names_and_sysctls(p, s, f);
	if (!e)
		e = wait_for_state(p, s, f);
	if (!e)
		e = plan_is_new(s, SPEC_NS_MOUNT) ? own_mounts(p, r, f) : foreign_mounts(p, r, f);
	if (!e)
		e = plan_process(p, r, f);
	if (!e)
		e = add(p, PLAN_READY, "ready", NULL, 0, f);
	if (!e)
		e = add_hooks(p, s, SPEC_HOOK_START_CONTAINER, true, f);
	if (!e)
		e = add(p, PLAN_CREDS, "credentials", NULL, 0, f);
	if (!e)
		e = add(p, PLAN_EXEC, "exec", s->process.cwd, 0, f);
	return e;
}
