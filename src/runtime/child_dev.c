// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: devices, terminal, and the standard streams
 *
 * A node is made in a folder that was resolved inside the root, and never followed. Where mknod is not allowed (user namespaces) the host's
 * node is bound there. An image may have something else in the place of a default device: an ordinary file is covered by
 * the host's node, anything else is an error, since the process would trust it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "runtime/child.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

static int bind_over(int node, int target)
{
	int tree = open_tree(node, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), r;

	if (tree < 0)
		return -errno;
	r = move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		    ? -errno
		    : 0;
	close(tree);
	return r;
}

/* Opens the place of a node that is to be covered by a mount: made when missing, an ordinary file or a node when there. */
static int cover_target(int dir, const char *base)
{
	struct stat st;
	int fd;

	if (mknodat(dir, base, S_IFREG | 0644, 0) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dir, base, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode)) {
		close(fd);
		return -EEXIST;
	}
	return fd;
}

static int bind_device(const struct plan_device *d, int dir, const char *base)
{
	int target, node, r;
	struct stat st;

	if (!d->bind)
		return -EEXIST;
	node = open(d->bind, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (node < 0)
		return -errno;
	/* the host may have another device by that name */
	if (fstat(node, &st) < 0 || (st.st_mode & S_IFMT) != (d->mode & S_IFMT) ||
	    st.st_rdev != d->rdev) {
		close(node);
		return -ENXIO;
	}
	target = cover_target(dir, base);
	r = target < 0 ? target : bind_over(node, target);
	if (target >= 0)
		close(target);
	close(node);
	return r;
}

static int existing_device(const struct plan_device *d, int dir, const char *base)
{
	struct stat st;

	if (fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if ((st.st_mode & S_IFMT) == (d->mode & S_IFMT) && st.st_rdev == d->rdev)
		return 0;
	return d->optional && S_ISREG(st.st_mode) ? bind_device(d, dir, base) : -EEXIST;
}

static int make_device(const struct plan_device *d, int dir, const char *base)
{
	if (mknodat(dir, base, d->mode, d->rdev) < 0) {
		if (errno == EPERM && d->bind)
			return bind_device(d, dir, base);
		if (errno != EEXIST)
			return -errno;
		if (existing_device(d, dir, base) < 0)
			return -EEXIST;
		if (d->optional)
			return 0;
		if (fchmodat(dir, base, d->mode & 07777, 0) < 0)
			return -errno;
	}
	if ((d->uid || d->gid || !d->optional) &&
	    fchownat(dir, base, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

int child_device(struct child *c, const struct plan_op *op)
{
	const char *base;
	int dir = child_folder(c, op->device->path, &base), r;

	if (dir < 0)
		return dir;
	if (op->device->bind && (c->plan->new_user || c->plan->user_by_path))
		r = bind_device(op->device, dir, base);
	else
		r = make_device(op->device, dir, base);
	/* "already exists" is about tasks, to a client */
	return r == -EEXIST ? child_say(c, EEXIST, FAULT_FAILED_PRECONDITION,
					"something that is not this device is at", NULL)
			    : r;
}

/* The multiplexer of a devpts instance, and of no other file: what is at that path is the container's word. */
static int open_ptmx(int root)
{
	struct statfs fs;
	struct stat st;
	int fd = child_open_in(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(5, 2) || fs.f_type != DEVPTS_SUPER_MAGIC ||
	    fcntl(fd, F_SETFL, 0) < 0) {
		close(fd);
		return -EXDEV;
	}
	return fd;
}

int child_tty(struct child *c, const struct plan_op *op)
{
	const struct plan *p = c->plan;
	struct winsize size = { .ws_row = p->height, .ws_col = p->width };
	int unlock = 0, r;

	(void)op;
	c->master = open_ptmx(c->root);
	if (c->master == -ENOENT && !p->exec)
		c->master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	else if (c->master < 0)
		return c->master;
	if (c->master < 0)
		return -errno;
	if (ioctl(c->master, TIOCSPTLCK, &unlock) < 0 || ioctl(c->master, TIOCSWINSZ, &size) < 0)
		return -errno;
	c->slave = ioctl(c->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (c->slave < 0)
		return -errno;
	if (p->uid && fchown(c->slave, p->uid, (gid_t)-1) < 0 && errno != EINVAL && errno != EPERM)
		return -errno;
	r = child_send(c, WIRE_TTY, 0, c->master);
	if (r < 0)
		return r;
	close(c->master);
	c->master = -1;
	if (ioctl(c->slave, TIOCSCTTY, 0) < 0)
		return -errno;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(c->slave, fd) < 0)
			return -errno;
	return 0;
}

int child_console(struct child *c, const struct plan_op *op)
{
	const char *base;
	int dir, target, r;

	dir = child_folder(c, op->path, &base);
	if (dir < 0)
		return dir;
	target = cover_target(dir, base);
	if (target < 0)
		return target;
	r = bind_over(c->slave, target);
	close(target);
	return r;
}

int child_stdio(struct child *c, const struct plan_op *op)
{
	const struct plan *p = c->plan;
	int null = -1;

	(void)op;
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;

		if (p->stdio[fd] >= 0)
			continue;
		/* the container's own null device: the host's could be changed through the fd */
		if (null < 0) {
			null = child_open_in(c->root, "/dev/null", O_RDWR | O_NOCTTY | O_NONBLOCK);
			if (null < 0)
				return 0;
			if (fstat(null, &st) < 0 || !S_ISCHR(st.st_mode) ||
			    st.st_rdev != makedev(1, 3) || fcntl(null, F_SETFL, 0) < 0) {
				close(null);
				return 0;
			}
		}
		if (dup2(null, fd) < 0)
			return -errno;
	}
	if (null >= 0)
		close(null);
	return 0;
}
