// SPDX-License-Identifier: Apache-2.0
/*
 * Paths inside a root, for the child of a launch
 *
 * An image may hold any symlink ("/etc -> /", "/dev -> ../../..") and another container may change a shared folder while we look, so
 * every path of the container is resolved by the kernel with openat2(RESOLVE_IN_ROOT) against the root's fd, and what is
 * made is made relative to the fd of a folder found that way. All results are O_PATH fds: mounts go onto what was looked at.
 *
 * A symlink that leads nowhere is followed by hand: its target is made inside the root, as an image author would expect of
 * "/var/run -> /run" without a /run.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/child.h"

#define OPEN_TRIES 128 /* openat2 answers EAGAIN when something was renamed or mounted meanwhile */
#define LINKS_MAX 40

int child_open_in(int root, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd = -1;

	for (int i = 0; i < OPEN_TRIES; i++) {
		fd = syscall(SYS_openat2, root, *path ? path : "/", &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

/* Follows a dangling link: path becomes where it leads to, with the rest after it. */
static int follow(int dir, const char *name, char *path, size_t prefix, const char *rest)
{
	char link[PATH_MAX], tail[PATH_MAX];
	ssize_t n = readlinkat(dir, name, link, sizeof(link) - 1);

	if (n < 0)
		return -errno;
	link[n] = 0;
	if (child_copy(tail, sizeof(tail), rest) >= sizeof(tail))
		return -ENAMETOOLONG;
	path[link[0] == '/' ? 0 : prefix] = 0;
	if (link[0] != '/' && child_add(path, PATH_MAX, "/") >= PATH_MAX)
		return -ENAMETOOLONG;
	if (child_add(path, PATH_MAX, link) >= PATH_MAX ||
	    child_add(path, PATH_MAX, "/") >= PATH_MAX ||
	    child_add(path, PATH_MAX, tail) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}

static int make_one(int dir, const char *name, bool file)
{
	int r = file ? mknodat(dir, name, S_IFREG | 0644, 0) : mkdirat(dir, name, 0755);

	return r < 0 ? -errno : 0;
}

/*
 * Walks path component by component and makes what is not there. Each prefix is resolved from the root anew, so that links and ".." in it
 * mean what they mean to the kernel; below the first folder that was made there is nothing to resolve.
 */
static int make_path(int root, const char *path, bool file)
{
	char buf[PATH_MAX];
	int links = 0, dir, r;
	size_t at;

	if (child_copy(buf, sizeof(buf), path) >= sizeof(buf))
		return -ENAMETOOLONG;
again:
	dir = dup(root);
	if (dir < 0)
		return -errno;
	at = 0;
	for (;;) {
		size_t begin, end, prefix = at;
		bool last;
		char saved;
		int next;

		while (buf[at] == '/')
			at++;
		begin = at;
		while (buf[at] && buf[at] != '/')
			at++;
		end = at;
		if (begin == end)
			return dir;
		while (buf[at] == '/')
			at++;
		last = !buf[at];
		at = end;
		saved = buf[end];
		buf[end] = 0;
		next = child_open_in(root, buf, O_PATH);
		if (next == -ENOENT) {
			r = make_one(dir, buf + begin, last && file);
			if (!r || r == -EEXIST) {
				next = child_open_in(root, buf, O_PATH);
				if (r == -EEXIST && next == -ENOENT) {
					/* there, and yet not: a link to nowhere */
					r = ++links > LINKS_MAX
						    ? -ELOOP
						    : follow(dir, buf + begin, buf, prefix,
							     saved ? buf + end + 1 : "");
					close(dir);
					if (r < 0)
						return r;
					goto again;
				}
			} else {
				next = r;
			}
		}
		close(dir);
		if (next < 0)
			return next;
		buf[end] = saved;
		dir = next;
	}
}

/*
 * The usual case of a missing path: only its last component is. Its folder is there, and what was just made in it cannot
 * be a link. -EAGAIN when there is more to it.
 */
static int make_last(int root, const char *path, bool file)
{
	char folder[PATH_MAX];
	size_t len = child_copy(folder, sizeof(folder), path);
	const char *base;
	int dir, fd;

	if (len >= sizeof(folder))
		return -ENAMETOOLONG;
	while (len && folder[len - 1] != '/')
		len--;
	base = path + len;
	folder[len] = 0;
	if (!*base || !strcmp(base, ".") || !strcmp(base, ".."))
		return -EAGAIN;
	dir = child_open_in(root, folder, O_PATH | O_DIRECTORY);
	if (dir < 0)
		return -EAGAIN;
	if (make_one(dir, base, file) < 0)
		fd = -EAGAIN;
	else
		fd = openat(dir, base, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1)
		fd = -errno;
	close(dir);
	return fd;
}

int child_target(int root, const char *path, bool file, bool nofollow, bool *made)
{
	int fd = child_open_in(root, path, nofollow ? O_PATH | O_NOFOLLOW : O_PATH);

	if (made)
		*made = fd == -ENOENT;
	if (fd != -ENOENT)
		return fd;
	fd = make_last(root, path, file);
	return fd == -EAGAIN ? make_path(root, path, file) : fd;
}

int child_folder(struct child *c, const char *path, const char **base)
{
	char buf[PATH_MAX];
	size_t len = child_copy(buf, sizeof(buf), path);
	int fd;

	if (len >= sizeof(buf))
		return -ENAMETOOLONG;
	while (len && buf[len - 1] != '/')
		len--;
	*base = path + len;
	if (!**base)
		return -EINVAL;
	/* devices come in a row, all in one folder */
	if (c->folder >= 0 && len == c->folder_len && !memcmp(path, c->folder_path, len))
		return c->folder;
	child_folder_forget(c);
	buf[len] = 0;
	fd = child_target(c->root, buf, false, false, NULL);
	c->folder = fd;
	c->folder_path = path;
	c->folder_len = len;
	return fd;
}

void child_folder_forget(struct child *c)
{
	if (c->folder >= 0)
		close(c->folder);
	c->folder = -1;
}
