// SPDX-License-Identifier: Apache-2.0
/*
 * Compiling the file system: rootfs and mounts
 *
 * Sources are looked at here, so that a missing one is told before anything runs and the child knows whether a bind's target is a file. With a
 * user namespace, and for id-mapped mounts, bind sources are opened by launch_spawn, with the host's rights, as detached trees that the child
 * only has to attach.
 *
 * Three file systems cannot be mounted from a user namespace that does not own what they show (sysfs the network, proc the pid and mqueue the
 * ipc namespace); the host's are bound instead, as crun does.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/plan.h"
#include "util/cleanup.h"

#define DATA_MAX (1u << 20) /* of options joined, before they are made fit for mount(2) */

static int bad(struct fault *f, const struct spec_mount *m, size_t i, enum fault_code code, int err,
	       const char *why, const char *what)
{
	char argument[32];

	snprintf(argument, sizeof(argument), "mounts[%zu]", i);
	fault_set(f, code, err, "mounts[%zu] (%s): %s%s%s", i, m->destination, why, what ? " " : "",
		  what ? what : "");
	fault_at(f, "mount", m->destination);
	fault_arg(f, argument);
	return err ? -err : -EINVAL;
}

int plan_root_path(struct plan *p, const struct launch_request *r, const char **path,
		   struct fault *f)
{
	const char *root = r->spec->root_path;

	if (root && *root && root[0] != '/') {
		if ((!r->bundle || !*r->bundle) && r->n_rootfs) {
			/* then it is no more than a mount point, and any will do */
			root = NULL;
		} else if (!r->bundle || !*r->bundle) {
			fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				  "root.path \"%s\" is relative, and there is no bundle", root);
			fault_arg(f, "root.path");
			return -EINVAL;
		} else {
			root = plan_printf(p, "%s/%s", r->bundle, root);
			if (!root)
				return plan_no_memory(f);
		}
	}
	if (r->n_rootfs && (!root || !*root || access(root, F_OK) < 0))
		root = r->rootfs_dir;
	if (!root || !*root) {
		fault_set(f, FAULT_INVALID_ARGUMENT, 0, "root.path is missing");
		fault_arg(f, "root.path");
		return -EINVAL;
	}
	*path = root;
	return 0;
}

/* Options to flags and data; data that is too long for the kernel is shortened where that can be done. */
static int take_options(struct plan *p, const char *const *options, size_t n, const char *type,
			struct plan_mount *out)
{
	CLEANUP_FREE char *big = NULL;
	char small[1024], *data = small;
	int e = mount_opts_parse(options, n, &out->opts, small, sizeof(small));

	if (e == -ENAMETOOLONG) {
		big = data = malloc(DATA_MAX);
		if (!big)
			return -ENOMEM;
		e = mount_opts_parse(options, n, &out->opts, big, DATA_MAX);
	}
	if (e < 0)
		return e;
	if (strlen(data) >= PLAN_DATA_PAGE)
		return type && !strcmp(type, "overlay") ? plan_overlay(p, data, out)
							: -ENAMETOOLONG;
	out->data = plan_strdup(p, data);
	return out->data ? 0 : -ENOMEM;
}

static int idmap_of(struct plan *p, const struct launch_request *r, const struct spec_mount *m,
		    const struct mount_opts *o, struct plan_open *open, struct fault *f)
{
	struct spec_idmaps *maps;

	open->uids = &m->uid_mappings;
	open->gids = &m->gid_mappings;
	open->idmap_recursive = o->idmap_recursive;
	if (o->idmap_arg) {
		maps = plan_alloc(p, 2 * sizeof(*maps));
		if (!maps)
			return plan_no_memory(f);
		for (int i = 0; i < 2; i++) {
			maps[i].v = plan_alloc(p, MOUNT_IDMAPS * sizeof(*maps[i].v));
			if (!maps[i].v)
				return plan_no_memory(f);
		}
		open->uids = &maps[0];
		open->gids = &maps[1];
		return mount_opts_idmap(o->idmap_arg, &r->spec->uid_mappings,
					&r->spec->gid_mappings, maps[0].v, &maps[0].n, maps[1].v,
					&maps[1].n, f);
	}
	if (!m->uid_mappings.n && !m->gid_mappings.n) {
		open->uids = &r->spec->uid_mappings;
		open->gids = &r->spec->gid_mappings;
	}
	if (!open->uids->n || !open->gids->n)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "mount %s: an id-mapped mount needs uidMappings and gidMappings",
				 m->destination);
	return 0;
}

static int plan_bind(struct plan *p, const struct launch_request *r, const struct spec_mount *m,
		     size_t i, struct plan_mount *out, struct fault *f)
{
	bool mapped = out->opts.idmap || m->uid_mappings.n || m->gid_mappings.n;
	struct stat st;

	if (*out->data)
		return bad(f, m, i, FAULT_INVALID_ARGUMENT, 0, "a bind mount has no option",
			   out->data);
	if (out->opts.remount)
		return 0;
	if (!out->source || !*out->source)
		return bad(f, m, i, FAULT_INVALID_ARGUMENT, 0, "a bind mount needs a source", NULL);
	if (out->source[0] != '/') {
		if (!r->bundle || !*r->bundle)
			return bad(f, m, i, FAULT_INVALID_ARGUMENT, 0,
				   "a relative source needs a bundle:", out->source);
		out->source = plan_printf(p, "%s/%s", r->bundle, out->source);
		if (!out->source)
			return plan_no_memory(f);
	}
	if ((out->opts.src_nofollow || out->opts.copy_symlink ? lstat : stat)(out->source, &st) < 0)
		return bad(f, m, i, fault_code_of_errno(errno), errno, "source", out->source);
	if (out->opts.copy_symlink && S_ISLNK(st.st_mode)) {
		char target[PATH_MAX];
		ssize_t n = readlink(out->source, target, sizeof(target) - 1);
		struct plan_op *op = plan_add(p, PLAN_SYMLINK, "symlink", out->dest);

		if (n < 0)
			return bad(f, m, i, fault_code_of_errno(errno), errno, "source",
				   out->source);
		target[n] = 0;
		if (!op || !(op->text = plan_strdup(p, target)))
			return plan_no_memory(f);
		op->exact = true;
		return 1;
	}
	out->file = !S_ISDIR(st.st_mode);
	if (mapped || p->new_user || p->user_by_path) {
		struct plan_open *o = plan_add_open(p, PLAN_OPEN_TREE, out->source);

		if (!o)
			return plan_no_memory(f);
		o->recursive = out->opts.recursive;
		o->nofollow = out->opts.src_nofollow;
		out->slot = o->slot;
		if (mapped)
			return idmap_of(p, r, m, &out->opts, o, f);
	}
	return 0;
}

/* Whether the container's user namespace, one by path, owns this namespace by path: so that of a pod. */
static bool owned(const struct spec *s, enum spec_ns_kind kind)
{
	CLEANUP_CLOSE int fd = -1, owner = -1;
	struct stat its, ours;

	if (!s->ns[kind].path || !s->ns[SPEC_NS_USER].path)
		return false;
	fd = open(s->ns[kind].path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	owner = ioctl(fd, NS_GET_USERNS);
	return owner >= 0 && !fstat(owner, &its) && !stat(s->ns[SPEC_NS_USER].path, &ours) &&
	       its.st_dev == ours.st_dev && its.st_ino == ours.st_ino;
}

static bool may_mount(const struct spec *s, enum spec_ns_kind kind)
{
	return plan_is_new(s, kind) || owned(s, kind);
}

/* What a user namespace that does not own what a file system shows has to bind from the host. */
static const char *bound_instead(const struct plan *p, const struct spec *s, const char *type)
{
	if (!p->new_user && !p->user_by_path)
		return NULL;
	if (!strcmp(type, "sysfs") && !may_mount(s, SPEC_NS_NETWORK))
		return "/sys";
	if (!strcmp(type, "proc") && !may_mount(s, SPEC_NS_PID))
		return "/proc";
	if (!strcmp(type, "mqueue") && !may_mount(s, SPEC_NS_IPC))
		return "/dev/mqueue";
	return NULL;
}

static int plan_fs(struct plan *p, const struct launch_request *r, const struct spec_mount *m,
		   size_t i, struct plan_mount *out, struct fault *f)
{
	const char *instead;

	if (!out->type && !out->opts.remount)
		return bad(f, m, i, FAULT_INVALID_ARGUMENT, 0, "no type, and no bind option", NULL);
	if (out->opts.idmap || m->uid_mappings.n || m->gid_mappings.n)
		return bad(f, m, i, FAULT_INVALID_ARGUMENT, 0, "only a bind mount can be id-mapped",
			   NULL);
	if (!out->type)
		out->type = "none";
	instead = bound_instead(p, r->spec, out->type);
	if (instead) {
		struct plan_open *o = plan_add_open(p, PLAN_OPEN_TREE, instead);

		if (!o)
			return plan_no_memory(f);
		o->recursive = true;
		out->slot = o->slot;
		out->source = instead;
		out->opts.bind = out->opts.recursive = true;
		return 0;
	}
	if (!out->source || !*out->source)
		out->source = out->type;
	/* devices and targets of other mounts are made in it first */
	if (!strcmp(out->type, "tmpfs") && out->opts.flags & MS_RDONLY && !out->opts.remount) {
		struct plan_mount *late = plan_alloc(p, sizeof(*late));

		if (!late)
			return plan_no_memory(f);
		out->opts.flags &= ~(unsigned long)MS_RDONLY;
		late->dest = out->dest;
		late->opts.set = MOUNT_ATTR_RDONLY;
		late->opts.dest_nofollow = out->opts.dest_nofollow;
		late->next = p->late;
		p->late = late;
	}
	/* both runc and crun let a tmpfs look like the folder it covers */
	out->dir_mode = !strcmp(out->type, "tmpfs") && !mount_opts_has(out->data, "mode");
	if (r->spec->mount_label && *r->spec->mount_label &&
	    (!strcmp(out->type, "tmpfs") || !strcmp(out->type, "devpts"))) {
		out->data = plan_printf(p, "%s%scontext=\"%s\"", out->data, *out->data ? "," : "",
					r->spec->mount_label);
		if (!out->data)
			return plan_no_memory(f);
	}
	return 0;
}

static int one_mount(struct plan *p, const struct launch_request *r, size_t i, struct fault *f)
{
	const struct spec_mount *m = &r->spec->mounts[i];
	struct plan_mount *out = plan_alloc(p, sizeof(*out));
	struct plan_op *op;
	int e;

	if (!out)
		return plan_no_memory(f);
	out->slot = -1;
	out->dest = m->destination;
	out->source = m->source;
	out->type = m->type && *m->type ? m->type : NULL;
	if (!strcmp(out->dest, "/") || !*out->dest)
		return bad(f, m, i, FAULT_INVALID_ARGUMENT, 0, "a mount cannot cover the root",
			   NULL);
	e = take_options(p, (const char *const *)m->options.v, m->options.n, out->type, out);
	if (e == -ENAMETOOLONG)
		return bad(f, m, i, FAULT_INVALID_ARGUMENT, ENAMETOOLONG, "options", NULL);
	if (e < 0)
		return plan_no_memory(f);
	if (out->type && !strcmp(out->type, "bind"))
		out->opts.bind = true;
	if (out->type && !out->opts.bind &&
	    (!strcmp(out->type, "cgroup") || !strcmp(out->type, "cgroup2")))
		return plan_cgroup_mount(p, r, m, &out->opts, f);
	e = out->opts.bind ? plan_bind(p, r, m, i, out, f) : plan_fs(p, r, m, i, out, f);
	if (e)
		return e < 0 ? e : 0;
	op = plan_add(p, PLAN_MOUNT,
		      out->opts.bind ? "bind" : plan_printf(p, "mount %s to", out->type),
		      out->dest);
	if (!op || !op->step)
		return plan_no_memory(f);
	op->mount = out;
	return 0;
}

int plan_mounts(struct plan *p, const struct launch_request *r, struct fault *f)
{
	for (size_t i = 0; i < r->spec->n_mounts; i++) {
		int e = one_mount(p, r, i, f);

		if (e < 0)
			return e;
	}
	return 0;
}

static int rootfs_item(struct plan *p, const struct launch_request *r, size_t i, const char *root,
		       struct plan_mount *out, struct fault *f)
{
	const struct launch_mount *m = &r->rootfs[i];
	int e;

	out->slot = -1;
	out->type = m->type && *m->type ? m->type : NULL;
	out->source = m->source && *m->source ? m->source : out->type;
	out->dest = m->target && *m->target && strcmp(m->target, "/") ? m->target : root;
	e = take_options(p, m->options, m->n_options, out->type, out);
	if (e == -ENOMEM)
		return plan_no_memory(f);
	if (!e && !out->type && !out->opts.bind)
		e = -EINVAL;
	if (e < 0) {
		fault_set(f, FAULT_INVALID_ARGUMENT, -e, "rootfs[%zu]: type or options", i);
		fault_arg(f, "rootfs");
		return e;
	}
	if (out->type && !strcmp(out->type, "bind"))
		out->opts.bind = true;
	return 0;
}

int plan_mounts_late(struct plan *p, struct fault *f)
{
	for (struct plan_mount *m = p->late; m; m = m->next) {
		struct plan_op *op = plan_add(p, PLAN_ATTR, "make read-only", m->dest);

		if (!op)
			return plan_no_memory(f);
		op->mount = m;
	}
	return 0;
}

/* The rootfs list, and before or between its items the root itself; `to` is the plan of who mounts. */
static int rootfs_ops(struct plan *p, struct plan *to, const struct launch_request *r,
		      const char *root, bool own_path, struct fault *f)
{
	struct plan_mount *mounts = plan_alloc(p, (r->n_rootfs + 1) * sizeof(*mounts));
	struct plan_op *op;
	bool whole = false;

	if (!mounts)
		return plan_no_memory(f);
	for (size_t i = 0; i < r->n_rootfs; i++) {
		int e = rootfs_item(p, r, i, root, &mounts[i], f);

		if (e < 0)
			return e;
		whole |= mounts[i].dest == root;
	}
	if (!whole) {
		op = plan_add(to, PLAN_ROOT, "bind root", root);
		if (!op)
			return plan_no_memory(f);
		op->join.slot = -1;
		op->join.flag = own_path;
	}
	for (size_t i = 0; i < r->n_rootfs; i++) {
		bool at_root = mounts[i].dest == root;

		op = plan_add(to, at_root ? PLAN_ROOT_MOUNT : PLAN_MOUNT, "mount rootfs",
			      mounts[i].dest);
		if (!op)
			return plan_no_memory(f);
		op->mount = &mounts[i];
		if (!at_root)
			continue;
		op = plan_add(to, PLAN_ROOT_OPEN, "open root", root);
		if (!op)
			return plan_no_memory(f);
		op->flags = 1;
	}
	return 0;
}

int plan_rootfs(struct plan *p, const struct launch_request *r, struct fault *f)
{
	bool user = p->new_user || p->user_by_path;
	const struct spec *s = r->spec;
	struct plan_open *o;
	struct plan_op *op;
	struct stat st = { 0 };
	const char *root = "";
	int e = plan_root_path(p, r, &root, f);

	if (e < 0)
		return e;
	if (stat(root, &st) < 0 || !S_ISDIR(st.st_mode)) {
		e = fault_sys(f, st.st_mode ? ENOTDIR : errno, "root", root);
		fault_arg(f, "root.path");
		return e;
	}
	if (!user) {
		if (p->shared_root &&
		    !plan_add(p, PLAN_PARENT_PRIVATE, "make the rootfs' mount private", root))
			return plan_no_memory(f);
		/* hooks look for the container's mounts where its root is on the host */
		return rootfs_ops(p, p, r, root,
				  p->shared_root || s->hooks[SPEC_HOOK_PRESTART].n ||
					  s->hooks[SPEC_HOOK_CREATE_RUNTIME].n ||
					  s->hooks[SPEC_HOOK_CREATE_CONTAINER].n,
				  f);
	}
	/* out of reach for the user namespace's root: made outside, attached inside */
	o = plan_add_open(p, r->n_rootfs ? PLAN_OPEN_ROOTFS : PLAN_OPEN_TREE, root);
	op = plan_add(p, PLAN_ROOT, "bind root", root);
	if (!o || !op)
		return plan_no_memory(f);
	o->recursive = true;
	op->join.slot = o->slot;
	if (!r->n_rootfs)
		return 0;
	if (plan_new(&p->outer) < 0 ||
	    !(op = plan_add(p->outer, PLAN_PROPAGATE, "propagation of", "/")))
		return plan_no_memory(f);
	op->flags = MS_REC | MS_SLAVE;
	e = rootfs_ops(p, p->outer, r, root, false, f);
	if (!e && !plan_add(p->outer, PLAN_GIVE_ROOT, "clone root", root))
		e = plan_no_memory(f);
	return e;
}
