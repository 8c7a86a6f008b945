// SPDX-License-Identifier: Apache-2.0
/*
 * Folders, lock and socket of a daemon
 *
 * Two locks lie on STATE/lock: byte 0 is the guardian's, byte 1 the reactor's. They are record
 * locks, which belong to one process and are not inherited by fork: a container's init that waits
 * for its exec holds copies of all our descriptors, and must not hold the lock. (Any close of that
 * file in a process drops its locks, so each opens it once.) A reactor that outlives its guardian
 * keeps the second lock until it has closed journal and database; the next start waits for that.
 *
 * A socket file is removed only under the lock and only when
 * nobody answers on it.
 */
#include "core/places.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

#define LISTEN_FDS_START 3

#define FORMER_SECONDS 15 /* longer than a reactor takes to end */

enum { LOCK_GUARDIAN, LOCK_REACTOR };

void places_init(struct places *p)
{
	memset(p, 0, sizeof(*p));
	p->root_fd = p->state_fd = p->lock_fd = p->listen_fd = -1;
	p->gid = (gid_t)-1;
}

void places_close(struct places *p)
{
	fd_close(&p->root_fd);
	fd_close(&p->state_fd);
	fd_close(&p->lock_fd);
	fd_close(&p->listen_fd);
}

static int group_resolve(const char *group, gid_t *gid, struct fault *f)
{
	struct group *gr;
	unsigned long n;
	char *end;

	if (!group[0])
		return 0;
	if (group[0] >= '0' && group[0] <= '9') {
		errno = 0;
		n = strtoul(group, &end, 10);
		if (!errno && !*end && n < (gid_t)-1) {
			*gid = (gid_t)n;
			return 0;
		}
	}
	gr = getgrnam(group);
	if (!gr)
		return fault_set(f, FAULT_NOT_FOUND, 0, "--group '%s': there is no such group",
				 group);
	*gid = gr->gr_gid;
	return 0;
}

/* mkdir -p with the last folder's mode; parents are 0755. An existing folder keeps its mode. */
static int folder_make(const char *path, mode_t mode, struct fault *f)
{
	CLEANUP_FREE char *p = strdup(path);

	if (!p)
		return fault_sys(f, ENOMEM, "make folder", path);
	for (char *s = strchr(p + 1, '/'); s; s = strchr(s + 1, '/')) {
		*s = 0;
		if (mkdir(p, 0755) < 0 && errno != EEXIST)
			return fault_sys(f, errno, "make folder", p);
		*s = '/';
	}
	if (mkdir(p, mode) < 0 && errno != EEXIST)
		return fault_sys(f, errno, "make folder", p);
	return 0;
}

/* Opens a folder, made if need be, that must be root's own. */
static int folder_open(const char *path, mode_t mode, int *fd, struct fault *f)
{
	struct stat st;
	int r;

	r = folder_make(path, mode, f);
	if (r < 0)
		return r;
	*fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		return fault_sys(f, errno, "open folder", path);
	if (fstat(*fd, &st) < 0)
		return fault_sys(f, errno, "stat", path);
	if (st.st_uid != geteuid())
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "%s belongs to uid %u, not to the daemon's user", path, st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH))
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "%s can be written by others than its owner", path);
	return 0;
}

/*
 * --state is the daemon's alone. With a group its members have to get through it to the socket, and
 * no further: the folder cannot be listed by them, and every file in it is 0600.
 */
static int state_mode(const struct places *p, const char *path, struct fault *f)
{
	if (p->gid != (gid_t)-1 && fchown(p->state_fd, (uid_t)-1, p->gid) < 0)
		return fault_sys(f, errno, "set the group of", path);
	if (fchmod(p->state_fd, p->gid != (gid_t)-1 ? 0710 : 0700) < 0)
		return fault_sys(f, errno, "set the mode of", path);
	return 0;
}

static int lock_byte(int fd, int byte, pid_t *holder)
{
	struct flock lk = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int err;

	if (fcntl(fd, F_SETLK, &lk) == 0)
		return 0;
	err = errno;
	if (err != EACCES && err != EAGAIN)
		return -err;
	if (fcntl(fd, F_GETLK, &lk) == 0 && lk.l_type != F_UNLCK)
		*holder = lk.l_pid;
	return -EAGAIN;
}

static int lock_guardian(struct places *p, const struct davit_config *c, struct fault *f)
{
	pid_t holder = 0;
	int r;

	p->lock_fd = openat(p->state_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->lock_fd < 0)
		return fault_sys(f, errno, "open", "lock");
	r = lock_byte(p->lock_fd, LOCK_GUARDIAN, &holder);
	if (r == -EAGAIN)
		return fault_set(
			f, FAULT_ALREADY_EXISTS, 0,
			"another davit serves on --state %s (pid %d); stop it first, or give this one a --state of its own",
			c->state, (int)holder);
	if (r < 0)
		return fault_sys(f, -r, "lock", "lock");
	return 0;
}

/* A guardian that was killed leaves a reactor behind, which is about to end and still listens. */
static int await_reactor(struct places *p, unsigned seconds, struct fault *f)
{
	struct flock none = {
		.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = LOCK_REACTOR, .l_len = 1
	};
	int r = places_lock_reactor(p, seconds, f);

	if (r >= 0 && fcntl(p->lock_fd, F_SETLK, &none) < 0)
		return fault_sys(f, errno, "unlock", "lock");
	return r;
}

int places_lock_reactor(const struct places *p, unsigned seconds, struct fault *f)
{
	pid_t holder = 0;

	for (unsigned tries = 0;; tries++) {
		int r = lock_byte(p->lock_fd, LOCK_REACTOR, &holder);

		if (!r)
			return 0;
		if (r != -EAGAIN)
			return fault_sys(f, -r, "lock", "lock");
		if (tries >= seconds * 100)
			return fault_set(f, FAULT_UNAVAILABLE, 0,
					 "the former reactor (pid %d) has not ended after %u s",
					 (int)holder, seconds);
		usleep(10000);
	}
}

static int socket_address(const char *path, struct sockaddr_un *addr, struct fault *f)
{
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(addr->sun_path))
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"--socket %s: longer than the %zu bytes that a UNIX socket's path can have",
			path, sizeof(addr->sun_path) - 1);
	strcpy(addr->sun_path, path);
	return 0;
}

/*
 * Whether somebody listens there: 1, 0; -EAGAIN: somebody who is gone, through a process that still
 * has the socket. One that was killed has it until the kernel has taken all of it apart, which may
 * be after it has given up its locks.
 */
static int socket_answers(const struct sockaddr_un *addr, struct fault *f)
{
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred listener = { 0 };
	socklen_t n = sizeof(listener);
	struct pollfd ended = { .events = POLLIN };
	CLEANUP_CLOSE int pidfd = -1;

	if (fd < 0)
		return fault_sys(f, errno, "socket", NULL);
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return errno == EAGAIN;
	/* of whom has called listen */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &n) < 0 || listener.pid <= 0)
		return 1;
	pidfd = fd_pidfd_open(listener.pid);
	if (pidfd < 0)
		return pidfd == -ESRCH ? -EAGAIN : 1;
	ended.fd = pidfd;
	return poll(&ended, 1, 0) > 0 ? -EAGAIN : 1;
}

/* Removes what a dead daemon left. */
static int socket_clear(const char *path, const struct sockaddr_un *addr, struct fault *f)
{
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fault_sys(f, errno, "stat", path);
	if (!S_ISSOCK(st.st_mode))
		return fault_set(f, FAULT_ALREADY_EXISTS, 0,
				 "--socket %s exists and is not a socket", path);
	for (unsigned tries = 0;; tries++) {
		r = socket_answers(addr, f);
		if (r != -EAGAIN || tries >= FORMER_SECONDS * 100)
			break;
		usleep(10000);
	}
	if (r < 0 && r != -EAGAIN)
		return r;
	if (r)
		return fault_set(f, FAULT_ALREADY_EXISTS, 0,
				 "another process listens on --socket %s", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return fault_sys(f, errno, "remove", path);
	return 0;
}

static int socket_make(struct places *p, const char *path, struct fault *f)
{
	CLEANUP_FREE char *parent = strdup(path);
	struct sockaddr_un addr;
	char *slash;
	mode_t mask;
	int r;

	if (!parent)
		return fault_sys(f, ENOMEM, "socket", path);
	r = socket_address(path, &addr, f);
	if (r < 0)
		return r;
	slash = strrchr(parent, '/');
	if (slash && slash != parent) {
		*slash = 0;
		r = folder_make(parent, 0755, f);
		if (r < 0)
			return r;
	}
	r = socket_clear(path, &addr, f);
	if (r < 0)
		return r;
	p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->listen_fd < 0)
		return fault_sys(f, errno, "socket", NULL);
	/* nobody but root may connect before the group is set */
	mask = umask(0177);
	r = bind(p->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(mask);
	if (r < 0)
		return fault_sys(f, -r, "bind", path);
	if (lchown(path, (uid_t)-1, p->gid) < 0 || chmod(path, 0660) < 0) {
		r = -errno;
		unlink(path);
		return fault_sys(f, -r, "set owner and mode of", path);
	}
	if (listen(p->listen_fd, SOMAXCONN) < 0)
		return fault_sys(f, errno, "listen", path);
	return 0;
}

/* sd_listen_fds(3) by hand: 1 when there is one. */
static int socket_activated(struct places *p, struct fault *f)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int domain = 0, accepts = 0, type = 0, r;
	socklen_t n = sizeof(int);

	if (!pid || !fds || atol(pid) != (long)getpid() || atoi(fds) < 1)
		return 0;
	if (atoi(fds) != 1)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "LISTEN_FDS is %s: davit takes one socket", fds);
	if (getsockopt(LISTEN_FDS_START, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0 ||
	    getsockopt(LISTEN_FDS_START, SOL_SOCKET, SO_TYPE, &type, &n) < 0 ||
	    getsockopt(LISTEN_FDS_START, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &n) < 0 ||
	    domain != AF_UNIX || type != SOCK_STREAM || !accepts)
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"the socket passed by LISTEN_FDS is no listening UNIX stream socket");
	fcntl(LISTEN_FDS_START, F_SETFD, FD_CLOEXEC);
	r = fd_nonblock(LISTEN_FDS_START, 1);
	if (r < 0)
		return fault_sys(f, -r, "set up the socket passed by", "LISTEN_FDS");
	p->listen_fd = LISTEN_FDS_START;
	p->activated = true;
	return 1;
}

int places_open(struct places *p, const struct davit_config *c, struct fault *f)
{
	int r;

	r = group_resolve(c->group, &p->gid, f);
	if (r < 0)
		return r;
	/* before any file is opened, which could get this number */
	r = socket_activated(p, f);
	if (r < 0)
		return r;
	r = folder_open(c->root, 0700, &p->root_fd, f);
	if (r < 0)
		return r;
	r = folder_open(c->state, 0700, &p->state_fd, f);
	if (r < 0)
		return r;
	r = lock_guardian(p, c, f);
	if (r < 0)
		return r;
	r = await_reactor(p, FORMER_SECONDS, f);
	if (r < 0)
		return r;
	r = state_mode(p, c->state, f);
	if (r < 0)
		return r;
	return p->activated ? 0 : socket_make(p, c->socket, f);
}

void places_remove_socket(const struct places *p, const struct davit_config *c)
{
	if (!p->activated && p->listen_fd >= 0)
		unlink(c->socket);
}
