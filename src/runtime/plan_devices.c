// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling devices: those that every container has, and linux.devices
 *
 * The default ones (runtime-spec config-linux.md, "Default Devices") are left out where /dev is the host's, bound there.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "runtime/plan.h"
#include "util/cleanup.h"

static const struct {
	const char *path;
	unsigned major, minor;
} nodes[] = {
	{ "/dev/null", 1, 3 },	 { "/dev/zero", 1, 5 },	   { "/dev/full", 1, 7 },
	{ "/dev/random", 1, 8 }, { "/dev/urandom", 1, 9 }, { "/dev/tty", 5, 0 },
};

static const struct {
	const char *path, *target;
} links[] = {
	{ "/dev/fd", "/proc/self/fd" },	      { "/dev/stdin", "/proc/self/fd/0" },
	{ "/dev/stdout", "/proc/self/fd/1" }, { "/dev/stderr", "/proc/self/fd/2" },
	{ "/dev/core", "/proc/kcore" },	      { "/dev/ptmx", "pts/ptmx" },
};

static bool host_dev(const struct spec *s)
{
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct spec_mount *m = &s->mounts[i];
		bool bind = m->type && !strcmp(m->type, "bind");

		if (strcmp(m->destination, "/dev") && strcmp(m->destination, "/dev/"))
			continue;
		for (size_t k = 0; k < m->options.n; k++)
			bind |= !strcmp(m->options.v[k], "bind") ||
				!strcmp(m->options.v[k], "rbind");
		if (bind)
			return true;
	}
	return false;
}

static struct plan_device *add_device(struct plan *p, const char *path)
{
	struct plan_device *d = plan_alloc(p, sizeof(*d));
	struct plan_op *op = plan_add(p, PLAN_DEVICE, "device", path);

	if (!d || !op)
		return NULL;
	d->path = path;
	op->device = d;
	return d;
}

static bool listed(const struct spec *s, const char *path)
{
	for (size_t i = 0; i < s->n_devices; i++)
		if (!strcmp(s->devices[i].path, path))
			return true;
	return false;
}

static int defaults(struct plan *p, const struct spec *s, struct fault *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		struct plan_device *d;

		if (listed(s, nodes[i].path))
			continue;
		d = add_device(p, nodes[i].path);
		if (!d)
			return plan_no_memory(f);
		d->bind = d->path;
		d->mode = S_IFCHR | 0666;
		d->rdev = makedev(nodes[i].major, nodes[i].minor);
		d->optional = true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		struct plan_op *op;

		if (listed(s, links[i].path))
			continue;
		op = plan_add(p, PLAN_SYMLINK, "symlink", links[i].path);
		if (!op)
			return plan_no_memory(f);
		op->text = links[i].target;
	}
	return 0;
}

int plan_devices(struct plan *p, const struct launch_request *r, struct fault *f)
{
	const struct spec *s = r->spec;
	bool user = p->new_user || p->user_by_path;

	if (!host_dev(s)) {
		int e = defaults(p, s, f);

		if (e < 0)
			return e;
	}
	for (size_t i = 0; i < s->n_devices; i++) {
		const struct spec_device *from = &s->devices[i];
		struct plan_device *d = add_device(p, from->path);

		if (!d)
			return plan_no_memory(f);
		d->mode = (mode_t)(from->file_mode == SPEC_ABSENT ? 0666 : from->file_mode) & 07777;
		d->mode |= from->type == 'b' ? S_IFBLK : from->type == 'p' ? S_IFIFO : S_IFCHR;
		d->rdev = from->type == 'p' ? 0
					    : makedev((unsigned)from->major, (unsigned)from->minor);
		d->uid = from->uid == SPEC_ABSENT ? 0 : (uid_t)from->uid;
		d->gid = from->gid == SPEC_ABSENT ? 0 : (gid_t)from->gid;
		/* a user namespace may make a FIFO, and has to borrow any node from the host */
		d->bind = user && from->type != 'p' ? from->path : NULL;
	}
	return 0;
}
