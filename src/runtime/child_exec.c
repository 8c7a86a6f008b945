// SPDX-License-Identifier: Apache-2.0
/*
 * The child of a launch: working directory, program, exec
 *
 * The program is looked up as execvp does, inside the root. What launch_new could not see (a rootfs that the child mounted itself) is looked
 * up here before READY, so that a missing program fails the create; what only the exec can tell (wrong format, missing interpreter)
 * fails it with 126 or 127 as exit code.
 *
 * The working directory is checked by getcwd to lie inside the root: a path through an fd to somewhere else is no way out.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/child.h"
#include "util/fault.h"

static int enter(struct child *c, const char *path)
{
	char at[PATH_MAX];
	long n;

	if (chdir(path) < 0)
		return -errno;
	n = syscall(SYS_getcwd, at, sizeof(at));
	if (n < 0)
		return -errno;
	if (at[0] != '/')
		return child_say(c, EXDEV, FAULT_PERMISSION_DENIED,
				 "the working directory is outside of the container", path);
	return 0;
}

int child_cwd(struct child *c, const struct plan_op *op)
{
	int r = enter(c, op->path);

	/* NFS and FUSE may let the user in where root has no right */
	c->cwd_again = r == -EACCES && c->plan->uid;
	return c->cwd_again ? 0 : r;
}

static int check(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && st.st_mode & 0111 ? 0 : -EACCES;
}

static int not_found(struct child *c, int err)
{
	const char *name = c->plan->argv[0];
	bool missing = err == ENOENT || err == ENOTDIR;

	c->failed.exit_code = missing ? 127 : 126;
	if (missing && !strchr(name, '/'))
		return child_say(c, err, FAULT_NOT_FOUND, "program not found in PATH", name);
	if (missing)
		return child_say(c, err, FAULT_NOT_FOUND, "program not found", name);
	return child_say(c, err, FAULT_FAILED_PRECONDITION, "program cannot be executed", name);
}

/*
 * The n'th candidate for name in a PATH; false at the end. A name with a slash has one candidate.
 */
static bool candidate(const char **search, const char *name, char *to)
{
	const char *p = *search, *end;
	size_t len;

	if (!p)
		return false;
	end = strchrnul(p, ':');
	*search = *end ? end + 1 : NULL;
	len = (size_t)(end - p);
	if (len + strlen(name) + 2 > PATH_MAX) {
		to[0] = 0;
		return true;
	}
	memcpy(to, p, len);
	if (len && to[len - 1] != '/')
		to[len++] = '/';
	child_copy(to + len, PATH_MAX - len, name);
	return true;
}

int child_find(struct child *c, const struct plan_op *op)
{
	const struct plan *p = c->plan;
	const char *search = p->search;
	int err = ENOENT, r;

	(void)op;
	if (p->program && !check(p->program))
		return 0;
	if (strchr(p->argv[0], '/')) {
		r = check(p->argv[0]);
		return r < 0 ? not_found(c, -r) : 0;
	}
	while (candidate(&search, p->argv[0], c->found_path)) {
		r = c->found_path[0] ? check(c->found_path) : -ENAMETOOLONG;
		if (!r) {
			c->found = c->found_path;
			return 0;
		}
		if (r == -EACCES)
			err = EACCES;
	}
	return not_found(c, err);
}

/* Decimal at *p up to end ':'; moves past it. */
static bool passwd_number(const char **p, uint64_t *out)
{
	uint64_t v = 0;
	const char *s = *p;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9' && v < UINT32_MAX; s++)
		v = v * 10 + (uint64_t)(*s - '0');
	if (*s != ':')
		return false;
	*p = s + 1;
	*out = v;
	return true;
}

/* One line NAME:PASSWORD:UID:GID:GECOS:HOME:SHELL; the home of the user when it is theirs. */
static bool passwd_line(const char *line, uid_t uid, char *home, size_t size)
{
	const char *p = line, *end;
	uint64_t id, gid;
	size_t len;

	for (int i = 0; i < 2; i++) {
		p = strchr(p, ':');
		if (!p)
			return false;
		p++;
	}
	if (!passwd_number(&p, &id) || id != uid || !passwd_number(&p, &gid))
		return false;
	p = strchr(p, ':');
	if (!p)
		return false;
	end = strchrnul(++p, ':');
	len = (size_t)(end - p);
	if (!len || len >= size)
		return false;
	memcpy(home, p, len);
	home[len] = 0;
	return true;
}

/* HOME is the user's entry in the container's /etc/passwd, "/" when there is none. */
static void find_home(struct child *c)
{
	char buf[4096], *home = c->home + 5;
	size_t used = 0, size = sizeof(c->home) - 5;
	int fd;

	child_copy(c->home, sizeof(c->home), "HOME=/");
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return;
	for (;;) {
		ssize_t n = read(fd, buf + used, sizeof(buf) - 1 - used);
		char *line = buf, *end;

		if (n <= 0) {
			buf[used] = 0;
			if (used)
				(void)passwd_line(buf, c->plan->uid, home, size);
			break;
		}
		used += (size_t)n;
		buf[used] = 0;
		while ((end = strchr(line, '\n'))) {
			*end = 0;
			if (passwd_line(line, c->plan->uid, home, size)) {
				close(fd);
				return;
			}
			line = end + 1;
		}
		used = strlen(line);
		/* a line longer than the buffer is nobody's */
		if (used == sizeof(buf) - 1)
			used = 0;
		memmove(buf, line, used);
	}
	close(fd);
}

int child_ready(struct child *c, const struct plan_op *op)
{
	struct plan *p = c->plan;
	int r;

	(void)op;
	if (p->env_home != SIZE_MAX) {
		find_home(c);
		p->envp[p->env_home] = c->home;
	}
	r = child_send(c, WIRE_READY, 0, -1);
	return r < 0 ? r : child_wait(c, WIRE_START);
}

static int exec_failed(struct child *c, int err, const char *path)
{
	bool missing = err == ENOENT || err == ENOTDIR;
	struct stat st;

	c->failed.exit_code = missing ? 127 : 126;
	if (missing && !stat(path, &st))
		return child_say(c, err, FAULT_FAILED_PRECONDITION,
				 "the program's interpreter is missing", path);
	if (err == ENOEXEC)
		return child_say(c, err, FAULT_FAILED_PRECONDITION,
				 "the program has a format that cannot be executed", path);
	if (missing)
		return child_say(c, err, FAULT_NOT_FOUND, "program not found", path);
	return child_say(c, err, FAULT_FAILED_PRECONDITION, "program cannot be executed", path);
}

int child_exec(struct child *c, const struct plan_op *op)
{
	struct plan *p = c->plan;
	const char *path = c->found ? c->found : p->program;
	int r;

	if (!path)
		path = p->argv[0];
	if (c->cwd_again) {
		r = enter(c, op->path);
		if (r < 0)
			return child_say(c, -r, FAULT_NONE, NULL, op->path);
	}
	execve(path, p->argv, p->envp);
	return exec_failed(c, errno, path);
}
