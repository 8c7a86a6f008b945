// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: the root file system
 *
 * The rootfs becomes a mount of its own by a detached clone (open_tree), which is put over "/" of the new mount namespace: no path has to be
 * walked, and in a user namespace none has to be reachable. The process keeps the old root, below that mount, until pivot_root, so that the
 * host's paths go on working for hooks, bind sources and devices; c->root is the way into the new one.
 *
 * Where "/" stays shared with the host (rootfsPropagation shared) a mount over "/" would appear on the host as well; there the
 * clone goes over the rootfs' own path, whose mount has been made private, as runc does.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/child.h"

int child_propagate(struct child *c, const struct plan_op *op)
{
	(void)c;
	return mount(NULL, "/", NULL, op->flags, NULL) < 0 ? -errno : 0;
}

int child_parent_private(struct child *c, const struct plan_op *op)
{
	char path[PATH_MAX];
	size_t len = child_copy(path, sizeof(path), op->path);

	(void)c;
	if (len >= sizeof(path))
		return -ENAMETOOLONG;
	/* only a mount point can be changed: the nearest one upwards */
	while (mount(NULL, path, NULL, MS_PRIVATE, NULL) < 0) {
		if (errno != EINVAL || len <= 1)
			return -errno;
		while (len > 1 && path[len - 1] != '/')
			len--;
		while (len > 1 && path[len - 1] == '/')
			len--;
		path[len] = 0;
	}
	return 0;
}

static int root_private(int fd)
{
	struct mount_attr attr = { .propagation = MS_PRIVATE };

	return mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0 ? -errno
											    : 0;
}

int child_root(struct child *c, const struct plan_op *op)
{
	bool own_path = op->join.flag;
	int fd, r;

	if (op->join.slot >= 0)
		fd = c->plan->fds[op->join.slot];
	else
		fd = open_tree(AT_FDCWD, op->path,
			       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (fd < 0)
		return -errno;
	r = root_private(fd);
	if (r < 0)
		return r;
	if (move_mount(fd, "", AT_FDCWD, own_path ? op->path : "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	c->root = fd;
	return 0;
}

int child_root_mount(struct child *c, const struct plan_op *op)
{
	struct plan_mount *m = op->mount;
	int target, r;

	target = open(m->dest, O_PATH | O_CLOEXEC);
	if (target < 0)
		return -errno;
	r = child_mount_at(c, m, target);
	close(target);
	return r;
}

int child_root_open(struct child *c, const struct plan_op *op)
{
	if (c->root >= 0)
		close(c->root);
	c->root = open(op->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (c->root < 0)
		return -errno;
	return op->flags ? root_private(c->root) : 0;
}

int child_give_root(struct child *c, const struct plan_op *op)
{
	int tree = open_tree(c->root, "",
			     AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
	    r;

	(void)op;
	if (tree < 0)
		return -errno;
	r = child_send(c, WIRE_ROOT, 0, tree);
	if (r < 0)
		return r;
	_exit(0);
}

int child_root_propagate(struct child *c, const struct plan_op *op)
{
	struct mount_attr attr = { .propagation = op->flags & ~(unsigned long)MS_REC };
	unsigned flags = AT_EMPTY_PATH | (op->flags & MS_REC ? AT_RECURSIVE : 0);

	return mount_setattr(c->root, "", flags, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

int child_root_ro(struct child *c, const struct plan_op *op)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	(void)op;
	return mount_setattr(c->root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno : 0;
}

/*
 * Where the old root's mounts are shared with the host, its end must not be theirs. A path lookup
 * of "." stays at the new root here, with the old one on top of it (umount2 alone looks at the
 * top), so the old root has to be the working directory.
 */
static int leave_shared(struct child *c, int old)
{
	if (fchdir(old) < 0 || mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0 ||
	    umount2(".", MNT_DETACH) < 0 || fchdir(c->root) < 0)
		return -errno;
	return 0;
}

int child_pivot(struct child *c, const struct plan_op *op)
{
	int old = -1, r;

	if (op->flags) {
		old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (old < 0)
			return -errno;
	}
	if (fchdir(c->root) < 0)
		return -errno;
	/* both names being ".", the old root lands on top of the new one, and umount2 takes it from there (pivot_root(2), NOTES) */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return child_say(
			c, errno, errno == EINVAL ? FAULT_FAILED_PRECONDITION : FAULT_NONE,
			errno == EINVAL
				? "pivot_root is not possible from this root (an initramfs needs no_pivot_root)"
				: NULL,
			NULL);
	if (old >= 0) {
		r = leave_shared(c, old);
		close(old);
		return r;
	}
	return umount2(".", MNT_DETACH) < 0 ? -errno : 0;
}

int child_chroot(struct child *c, const struct plan_op *op)
{
	(void)op;
	return fchdir(c->root) < 0 || chroot(".") < 0 ? -errno : 0;
}
