// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling a mount of type cgroup or cgroup2
 *
 * On a host with v2 alone, and for cgroup2, that is one mount. On v1 and hybrid hosts a cgroup mount is a small tmpfs with a folder for each hierarchy. In
 * a cgroup namespace of its own the container mounts the hierarchies themselves, whose root is its own group; without one it gets
 * its group's folder of the host bound there, and nothing above it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "runtime/cgroup_internal.h"
#include "runtime/plan.h"

static struct plan_mount *add_mount(struct plan *p, const char *type, const char *source,
				    const char *dest, const char *data, const struct mount_opts *o)
{
	struct plan_mount *m = plan_alloc(p, sizeof(*m));
	struct plan_op *op = plan_add(p, PLAN_MOUNT, "mount cgroup to", dest);

	if (!m || !op || !dest || !data)
		return NULL;
	m->type = type;
	m->source = source;
	m->dest = dest;
	m->data = data;
	m->opts = *o;
	m->slot = -1;
	op->mount = m;
	return m;
}

/* " cpu cpuacct " to "cpu,cpuacct". */
static char *controllers(struct plan *p, const char *names)
{
	char *out = plan_strdup(p, names + strspn(names, " ")), *end;

	if (!out)
		return NULL;
	end = out + strlen(out);
	while (end > out && end[-1] == ' ')
		*--end = 0;
	for (char *at = out; *at; at++)
		if (*at == ' ')
			*at = ',';
	return out;
}

/* One hierarchy at dest: mounted in a namespace of its own, else the group's folder bound. */
static int add_hierarchy(struct plan *p, const struct launch_request *r,
			 const struct cgroup_hierarchy *h, const char *dest,
			 const struct mount_opts *o, struct fault *f)
{
	struct mount_opts opts = *o;
	struct plan_mount *m;
	struct plan_open *open;
	char *data;

	if (plan_is_new(r->spec, SPEC_NS_CGROUP)) {
		data = h->v2 ? plan_strdup(p, "") : controllers(p, h->names);
		return add_mount(p, h->v2 ? "cgroup2" : "cgroup", h->v2 ? "cgroup2" : "cgroup",
				 dest, data, &opts)
			       ? 0
			       : plan_no_memory(f);
	}
	opts.bind = opts.recursive = true;
	m = add_mount(p, NULL, plan_printf(p, "%s%s", h->mount, cgroup_path(r->cgroup)), dest, "",
		      &opts);
	if (!m || !m->source)
		return plan_no_memory(f);
	if (p->new_user || p->user_by_path) {
		open = plan_add_open(p, PLAN_OPEN_TREE, m->source);
		if (!open)
			return plan_no_memory(f);
		open->recursive = true;
		m->slot = open->slot;
	}
	return 0;
}

static int add_links(struct plan *p, const char *names, const char *dest, const char *folder,
		     struct fault *f)
{
	if (!strchr(names, ',') || strchr(names, '='))
		return 0;
	for (const char *at = names; *at;) {
		size_t len = strcspn(at, ",");
		char *path = plan_printf(p, "%s/%.*s", dest, (int)len, at);
		struct plan_op *op = path ? plan_add(p, PLAN_SYMLINK, "symlink", path) : NULL;

		if (!op)
			return plan_no_memory(f);
		op->text = folder;
		at += len;
		at += *at == ',';
	}
	return 0;
}

static int add_v1(struct plan *p, const struct launch_request *r, const char *dest,
		  const struct mount_opts *o, struct fault *f)
{
	const struct cgroup_host *host = r->cgroup->host;
	struct mount_opts tmpfs = *o, inner = *o;
	struct plan_mount *m;
	struct plan_op *op;
	int e;

	/* made writable, filled, then what was asked for */
	tmpfs.flags &= ~(unsigned long)MS_RDONLY;
	tmpfs.propagation = 0;
	tmpfs.set = tmpfs.clear = tmpfs.rset = tmpfs.rclear = 0;
	inner.propagation = 0;
	if (!add_mount(p, "tmpfs", "tmpfs", dest, "mode=755", &tmpfs))
		return plan_no_memory(f);
	for (size_t i = 0; i < host->n; i++) {
		const struct cgroup_hierarchy *h = &host->h[i];
		const char *base = strrchr(h->mount, '/');
		char *at, *names;

		base = base ? base + 1 : h->mount;
		at = plan_printf(p, "%s/%s", dest, base);
		names = controllers(p, h->names);
		if (!at || !names)
			return plan_no_memory(f);
		e = add_hierarchy(p, r, h, at, &inner, f);
		if (!e && !h->v2)
			e = add_links(p, names, dest, strrchr(at, '/') + 1, f);
		if (e < 0)
			return e;
	}
	if (!(o->flags & MS_RDONLY) && !o->propagation && !o->rset && !o->rclear)
		return 0;
	m = plan_alloc(p, sizeof(*m));
	op = plan_add(p, PLAN_ATTR, "mount cgroup to", dest);
	if (!m || !op)
		return plan_no_memory(f);
	m->dest = dest;
	m->opts = *o;
	op->mount = m;
	return 0;
}

int plan_cgroup_mount(struct plan *p, const struct launch_request *r, const struct spec_mount *m,
		      struct mount_opts *o, struct fault *f)
{
	const struct cgroup_host *host;

	if (!r->cgroup) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "mount %s to %s: the container has no cgroup", m->type, m->destination);
		fault_at(f, "mount", m->destination);
		return -EINVAL;
	}
	host = r->cgroup->host;
	if (!strcmp(m->type, "cgroup") && host->layout != CGROUP_V2)
		return add_v1(p, r, m->destination, o, f);
	if (host->v2 < 0) {
		fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			  "mount %s to %s: this host has no cgroup2 hierarchy", m->type,
			  m->destination);
		fault_at(f, "mount", m->destination);
		return -EINVAL;
	}
	return add_hierarchy(p, r, &host->h[host->v2], m->destination, o, f);
}
