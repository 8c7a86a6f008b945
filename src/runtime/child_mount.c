// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: mounts
 *
 * A target is opened inside the root first (child_path.c); then a bind mount is a detached tree, given its attributes and moved onto the target's fd, and
 * a file system is mounted by mount(2) on ".", with the target as working directory: neither looks at a path again. mount(2) because one call does it all and its
 * data may be a page long, while fsconfig takes 256 bytes a string, which is too short for a list of layers. Only an overlay of more layers than
 * a page can name is made by fsconfig, a layer at a time (plan_overlay.c).
 *
 * Masked paths are covered by clones of two things made once: the host's /dev/null, checked to be that device, and one empty read-only
 * tmpfs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "runtime/child.h"
#include "util/cleanup.h"

static int set_attr(int fd, uint64_t set, uint64_t clear, unsigned long propagation, bool recursive)
{
	struct mount_attr attr = { .attr_set = set, .attr_clr = clear, .propagation = propagation };

	return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
			     sizeof(attr)) < 0
		       ? -errno
		       : 0;
}

/* What the options say of the mount itself, of all below, and of its propagation; in as few calls as they need. */
static int apply_attrs(int fd, const struct mount_opts *o, bool flags_done)
{
	unsigned long kind = o->propagation & ~(unsigned long)MS_REC;
	bool below = o->propagation & MS_REC;
	uint64_t set = flags_done ? 0 : o->set, clear = flags_done ? 0 : o->clear;
	int r = 0;

	if (set || clear || (kind && !below))
		r = set_attr(fd, set, clear, below ? 0 : kind, false);
	if (!r && (o->rset || o->rclear || (kind && below)))
		r = set_attr(fd, o->rset, o->rclear, below ? kind : 0, true);
	return r;
}

static int put(int tree, int target)
{
	return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) <
			       0
		       ? -errno
		       : 0;
}

/* The kernel's EINVAL for a folder that shall cover a file, or the other way round, in clear words. */
static int wrong_kind(struct child *c, int tree, int target)
{
	struct stat from, to;

	if (fstat(tree, &from) < 0 || fstat(target, &to) < 0 ||
	    S_ISDIR(from.st_mode) == S_ISDIR(to.st_mode))
		return -EINVAL;
	if (S_ISDIR(from.st_mode))
		return child_say(c, ENOTDIR, FAULT_FAILED_PRECONDITION,
				 "the source is a folder and the target is none:", NULL);
	return child_say(c, EISDIR, FAULT_FAILED_PRECONDITION,
			 "the target is a folder and the source is none:", NULL);
}

static int mount_bind(struct child *c, struct plan_mount *m, int target)
{
	const struct mount_opts *o = &m->opts;
	int tree, r;

	if (m->slot >= 0)
		tree = c->plan->fds[m->slot];
	else
		tree = open_tree(AT_FDCWD, m->source,
				 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
					 (o->recursive ? AT_RECURSIVE : 0) |
					 (o->src_nofollow ? AT_SYMLINK_NOFOLLOW : 0));
	if (tree < 0)
		return child_say(c, errno, FAULT_NONE, NULL, m->source);
	r = apply_attrs(tree, o, false);
	if (!r)
		r = put(tree, target);
	if (r == -EINVAL)
		r = wrong_kind(c, tree, target);
	close(tree);
	return r;
}

static char *add_octal(char *to, mode_t mode)
{
	for (int shift = 9; shift >= 0; shift -= 3)
		*to++ = (char)('0' + ((mode >> shift) & 7));
	*to = 0;
	return to;
}

static int mount_fs(struct child *c, struct plan_mount *m, int target, int at)
{
	char data[PLAN_DATA_PAGE] = "mode=", path[64] = "/proc/self/fd/";
	const char *text = m->data;

	if (m->dir_mode) {
		struct stat st;

		if (fstat(target, &st) < 0)
			return -errno;
		add_octal(data + 5, st.st_mode & 07777);
		if (*m->data)
			child_add(data, sizeof(data), ",");
		if (child_add(data, sizeof(data), m->data) >= sizeof(data))
			return -ENAMETOOLONG;
		text = data;
	}
	if (m->from) {
		child_number(path + strlen(path), at);
		if (chdir(m->from) < 0)
			return -errno;
	} else {
		child_copy(path, sizeof(path), ".");
		if (fchdir(target) < 0)
			return -errno;
	}
	if (!mount(m->source, path, m->type, m->opts.flags, *text ? text : NULL))
		return 0;
	if (errno == ENODEV)
		return child_say(c, ENODEV, FAULT_FAILED_PRECONDITION, NULL, NULL);
	return -errno;
}

/* The kernel's own words about the last failure are kept for the user. */
static int param_failed(struct child *c, int fs, int err, const char *path)
{
	char *log = c->failed.log;
	ssize_t n = read(fs, log, sizeof(c->failed.log) - 1);

	log[n > 0 ? n : 0] = 0;
	if (err == EINVAL && strstr(log, "nknown parameter"))
		return child_say(c, EINVAL, FAULT_FAILED_PRECONDITION,
				 "this kernel takes no overlay of so many layers (6.8 does)", path);
	return child_say(c, err, FAULT_NONE, NULL, path);
}

static int mount_params(struct child *c, struct plan_mount *m, int target)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} flags[] = {
		{ MS_RDONLY, "ro" },
		{ MS_SYNCHRONOUS, "sync" },
		{ MS_DIRSYNC, "dirsync" },
		{ MS_LAZYTIME, "lazytime" },
	};
	int fs, tree = -1, r = 0;

	if (m->from && chdir(m->from) < 0)
		return child_say(c, errno, FAULT_NONE, NULL, m->from);
	fs = fsopen(m->type, FSOPEN_CLOEXEC);
	if (fs < 0)
		return errno == ENODEV ? child_say(c, ENODEV, FAULT_FAILED_PRECONDITION, NULL, NULL)
				       : -errno;
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", m->source, 0) < 0)
		r = param_failed(c, fs, errno, NULL);
	for (size_t i = 0; !r && i < ARRAY_SIZE(flags); i++)
		if (m->opts.flags & flags[i].flag &&
		    fsconfig(fs, FSCONFIG_SET_FLAG, flags[i].name, NULL, 0) < 0)
			r = param_failed(c, fs, errno, NULL);
	for (size_t i = 0; !r && i < m->n_params; i++) {
		const struct plan_param *p = &m->params[i];

		if (fsconfig(fs, p->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, p->key,
			     p->value, 0) < 0)
			r = param_failed(c, fs, errno, p->value);
	}
	if (!r && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = param_failed(c, fs, errno, NULL);
	if (!r)
		tree = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	if (!r && tree < 0)
		r = param_failed(c, fs, errno, NULL);
	close(fs);
	if (r)
		return r;
	r = apply_attrs(tree, &m->opts, false);
	if (!r)
		r = put(tree, target);
	close(tree);
	return r;
}

int child_mount_at(struct child *c, struct plan_mount *m, int target)
{
	if (m->opts.bind)
		return mount_bind(c, m, target);
	return m->n_params ? mount_params(c, m, target) : mount_fs(c, m, target, target);
}

static int remount(struct plan_mount *m, int target)
{
	char path[64] = "/proc/self/fd/";

	if (m->opts.bind)
		return apply_attrs(target, &m->opts, false);
	child_number(path + strlen(path), target);
	if (mount(m->source, path, m->type, m->opts.flags | MS_REMOUNT, *m->data ? m->data : NULL) <
	    0)
		return -errno;
	return apply_attrs(target, &m->opts, true);
}

/* What is on top at dest now: the fd from before the mount shows what it covers. */
static int open_top(struct child *c, const struct plan_mount *m, uint64_t flags)
{
	return child_open_in(c->root, m->dest, flags | (m->opts.dest_nofollow ? O_NOFOLLOW : 0));
}

static int copy_up(struct child *c, struct plan_mount *m, int below)
{
	int top = open_top(c, m, O_RDONLY | O_DIRECTORY), from, r;

	if (top < 0)
		return top;
	from = openat(below, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = from < 0 ? -errno : child_copy_tree(c, from, top);
	if (from >= 0)
		close(from);
	close(top);
	return r;
}

int child_mount(struct child *c, const struct plan_op *op)
{
	struct plan_mount *m = op->mount;
	const struct mount_opts *o = &m->opts;
	int target, r;
	bool made;

	child_folder_forget(c);
	target = child_target(c->root, m->dest, m->file, o->dest_nofollow, &made);
	if (target < 0)
		return target;
	if (o->remount) {
		r = remount(m, target);
	} else {
		bool by_mode = m->dir_mode;

		/* a folder that was made for this mount has no mode worth keeping */
		m->dir_mode = by_mode && !made;
		r = child_mount_at(c, m, target);
		m->dir_mode = by_mode;
		if (!r && o->copy_up)
			r = copy_up(c, m, target);
	}
	close(target);
	if (!r && !o->bind && !o->remount && (o->propagation || o->rset || o->rclear)) {
		target = open_top(c, m, O_PATH);
		if (target < 0)
			return target;
		r = apply_attrs(target, o, true);
		close(target);
	}
	return r;
}

int child_attr(struct child *c, const struct plan_op *op)
{
	int fd = open_top(c, op->mount, O_PATH), r;

	if (fd < 0)
		return fd;
	r = apply_attrs(fd, &op->mount->opts, false);
	close(fd);
	return r;
}

int child_symlink(struct child *c, const struct plan_op *op)
{
	char there[PATH_MAX];
	const char *base;
	int dir = child_folder(c, op->path, &base);
	ssize_t n;

	if (dir < 0)
		return dir;
	if (!symlinkat(op->text, dir, base))
		return 0;
	if (errno != EEXIST || !op->exact)
		return errno == EEXIST ? 0 : -errno;
	n = readlinkat(dir, base, there, sizeof(there) - 1);
	if (n < 0)
		return -EEXIST;
	there[n] = 0;
	return strcmp(there, op->text) ? -EEXIST : 0;
}

static int clone_of(int fd)
{
	int tree = open_tree(fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return tree < 0 ? -errno : tree;
}

int child_devnull(struct child *c)
{
	struct stat st;
	int fd;

	if (c->devnull >= 0)
		return 0;
	fd = open("/dev/null", O_PATH | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3)) {
		close(fd);
		return child_say(c, EINVAL, FAULT_FAILED_PRECONDITION,
				 "the host's /dev/null is not the null device", "/dev/null");
	}
	c->devnull = fd;
	return 0;
}

/* The first masked folder gets the tmpfs itself, since a detached mount cannot be cloned before Linux 6.15; the others get clones of that. */
static int empty_folder(struct child *c)
{
	int fs, fd;

	if (c->empty >= 0)
		return clone_of(c->empty);
	fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "1", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
		int err = errno;

		close(fs);
		return -err;
	}
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (fd < 0) {
		int err = errno;

		close(fs);
		return -err;
	}
	close(fs);
	c->empty = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd;
}

/* A path below the /proc that the spec mounts has to be on a procfs, wherever the image's links lead. */
static int check_proc(struct child *c, const struct plan_op *op, int fd)
{
	struct statfs fs;

	if (!op->flags)
		return 0;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != PROC_SUPER_MAGIC)
		return child_say(c, EXDEV, FAULT_FAILED_PRECONDITION,
				 "a path below /proc is not on a proc file system", NULL);
	return 0;
}

int child_mask(struct child *c, const struct plan_op *op)
{
	int target, tree, r;
	struct stat st;

	target = child_open_in(c->root, op->path, O_PATH);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return target;
	r = fstat(target, &st) < 0 ? -errno : check_proc(c, op, target);
	if (!r && !S_ISDIR(st.st_mode))
		r = child_devnull(c);
	if (!r) {
		tree = S_ISDIR(st.st_mode) ? empty_folder(c) : clone_of(c->devnull);
		r = tree < 0 ? tree : put(tree, target);
		if (tree >= 0)
			close(tree);
	}
	close(target);
	return r;
}

int child_readonly(struct child *c, const struct plan_op *op)
{
	int target, tree, r;

	target = child_open_in(c->root, op->path, O_PATH);
	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return target;
	r = check_proc(c, op, target);
	tree = r ? -1
		 : open_tree(target, "",
			     AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0) {
		r = r ? r : -errno;
	} else {
		r = set_attr(tree, MOUNT_ATTR_RDONLY, 0, 0, false);
		if (!r)
			r = put(tree, target);
		close(tree);
	}
	close(target);
	return r;
}
