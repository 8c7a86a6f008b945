// SPDX-License-Identifier: Apache-2.0
/*
 * cgroups: the processes in a group, and signals to all of them
 *
 * One hierarchy is asked for the processes: v2 where there is one, else the freezer, else the
 * first. All processes of a container are in all of them.
 *
 * A signal by pid must not hit a process that got the pid after ours ended. So each round lists
 * the pids, opens a pidfd for each new one, and lists again: a pid that is still in the group
 * while its pidfd is held belongs to the pidfd's process, or that process is dead, and then the
 * signal goes nowhere. Rounds go on until no new pid shows up.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/cgroup_internal.h"
#include "util/cleanup.h"
#include "util/fd.h"

#define SIGNAL_ROUNDS                                                                              \
	256 /* of listing and signalling, against what forks faster than it is listed */
#define PIDS_DEPTH 64
#define FREEZE_TRIES 50 /* of 2 ms, before a group that does not freeze is killed as it runs */

struct pids {
	pid_t *v;
	size_t n, room;
};

static int pids_add(struct pids *p, pid_t pid)
{
	if (p->n == p->room) {
		size_t room = p->room ? p->room * 2 : 32;
		pid_t *grown = realloc(p->v, room * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		p->v = grown;
		p->room = room;
	}
	p->v[p->n++] = pid;
	return 0;
}

static int pid_compare(const void *a, const void *b)
{
	pid_t x = *(const pid_t *)a, y = *(const pid_t *)b;

	return (x > y) - (x < y);
}

static bool pids_have(const struct pids *p, pid_t pid)
{
	return p->n && bsearch(&pid, p->v, p->n, sizeof(pid), pid_compare);
}

/*
 * One folder's cgroup.procs. A threaded v2 group cannot be read and has its processes listed in
 * the group above.
 */
static int read_procs(int dirfd, struct pids *out)
{
	CLEANUP_FREE char *text = NULL;
	int r = fd_read_file(dirfd, "cgroup.procs", 64u << 20, &text, NULL);

	if (r == -EOPNOTSUPP || r == -ENOENT || r == -ENODEV)
		return 0;
	if (r < 0)
		return r;
	for (char *p = text; *p; p++) {
		long pid = strtol(p, &p, 10);

		/*
		 * 0 is a process outside the reader's pid namespace: nothing can be done to it
		 * from here
		 */
		if (pid > 0) {
			r = pids_add(out, (pid_t)pid);
			if (r < 0)
				return r;
		}
		if (*p != '\n')
			break;
	}
	return 0;
}

static int walk(int dirfd, const char *name, int depth, struct pids *out)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), r;
	struct dirent *e;
	DIR *dir;

	/*
	 * a child group that went away meanwhile has no processes; the group itself must be there
	 */
	if (fd < 0)
		return errno == ENOENT && depth ? 0 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		close(fd);
		return r;
	}
	r = read_procs(fd, out);
	while (!r && depth < PIDS_DEPTH && (e = readdir(dir)))
		if (e->d_type == DT_DIR && strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			r = walk(fd, e->d_name, depth + 1, out);
	closedir(dir);
	return r;
}

static int list(struct cgroup *cg, struct pids *out)
{
	struct cgroup_host *h = cg->host;
	size_t i = h->v2 >= 0 ? (size_t)h->v2 : h->freezer >= 0 ? (size_t)h->freezer : 0, kept = 0;
	int r = walk(h->h[i].fd, cg->path + 1, 0, out);

	if (r < 0)
		return r;
	if (out->n)
		qsort(out->v, out->n, sizeof(*out->v), pid_compare);
	/* who moves between two groups while they are read is seen twice */
	for (size_t k = 0; k < out->n; k++)
		if (!kept || out->v[k] != out->v[kept - 1])
			out->v[kept++] = out->v[k];
	out->n = kept;
	return 0;
}

int cgroup_pids(struct cgroup *cg, pid_t **pids, size_t *n, struct fault *f)
{
	struct pids p = { 0 };
	int r = list(cg, &p);

	if (r < 0) {
		free(p.v);
		return fault_sys(f, -r, "list the processes of cgroup", cg->path);
	}
	*pids = p.v;
	*n = p.n;
	return 0;
}

int cgroup_has(struct cgroup *cg, pid_t pid)
{
	const struct cgroup_host *h = cg->host;

	for (size_t i = 0; i < h->n; i++) {
		int fd = openat(h->h[i].fd, cg->path + 1,
				O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW),
		    r = fd < 0 ? -errno : 0;
		struct pids p = { 0 };
		bool in = false;

		if (!r)
			r = read_procs(fd, &p);
		for (size_t k = 0; k < p.n; k++)
			in |= p.v[k] == pid;
		free(p.v);
		fd_close(&fd);
		if (r < 0)
			return r;
		if (!in)
			return 0;
	}
	return 1;
}

/* Signals what is new since `seen`, which then holds all. Returns how many were new, or -errno. */
static int signal_round(struct cgroup *cg, int sig, struct pids *seen)
{
	struct pids first = { 0 }, second = { 0 };
	CLEANUP_FREE int *fds = NULL;
	int r, fresh = 0;

	r = list(cg, &first);
	if (!r && first.n) {
		fds = malloc(first.n * sizeof(*fds));
		if (!fds)
			r = -ENOMEM;
	}
	for (size_t i = 0; fds && i < first.n; i++)
		fds[i] = pids_have(seen, first.v[i]) ? -ESRCH : fd_pidfd_open(first.v[i]);
	if (!r)
		r = list(cg, &second);
	for (size_t i = 0; fds && i < first.n; i++) {
		int one = fds[i];

		if (one >= 0 && !r && pids_have(&second, first.v[i])) {
			fresh++;
			one = fd_pidfd_send_signal(fds[i], sig);
		}
		if (fds[i] >= 0)
			close(fds[i]);
		/*
		 * out of fds or refused; ended ones (and pids that lead a thread group no more)
		 * are fine
		 */
		if (one < 0 && one != -ESRCH && one != -EINVAL && !r)
			r = one;
	}
	free(second.v);
	free(seen->v);
	*seen = first;
	return r < 0 ? r : fresh;
}

static int signal_rounds(struct cgroup *cg, int sig)
{
	struct pids seen = { 0 };
	int r = 1;

	for (int i = 0; i < SIGNAL_ROUNDS && r > 0; i++)
		r = signal_round(cg, sig, &seen);
	free(seen.v);
	return r > 0 ? -EAGAIN : r;
}

/*
 * Without cgroup.kill: frozen first, so that nothing forks while it is listed. v1 delivers
 * SIGKILL at the thaw.
 */
static int kill_frozen(struct cgroup *cg)
{
	bool frozen = !cgroup_freeze(cg, true, NULL);
	struct timespec ts = { .tv_nsec = 2000000 };
	int r, thaw = 0;

	for (int i = 0; frozen && i < FREEZE_TRIES && !cgroup_frozen(cg); i++)
		nanosleep(&ts, NULL);
	r = signal_rounds(cg, SIGKILL);
	if (frozen)
		thaw = cgroup_freeze(cg, false, NULL);
	return r < 0 ? r : thaw;
}

int cgroup_signal(struct cgroup *cg, int sig)
{
	struct cgroup_host *h = cg->host;
	int r;

	if (sig != SIGKILL)
		return signal_rounds(cg, sig);
	if (h->v2 >= 0) {
		r = cgroup_file_write(h, h->v2, cg->path, "cgroup.kill", "1");
		if (r != -ENOENT)
			return r;
		/* before Linux 5.14, or the group is gone; list() tells */
	}
	return kill_frozen(cg);
}
