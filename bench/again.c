// SPDX-License-Identifier: Apache-2.0
/*
 * A restore by hand: criu once more, with what a criu that is being held was given
 *
 *   again -P CRIU_PID -I INIT_PID [-n RUNS] [-f FD:NAMESPACE]… -- CRIU restore ARG…
 *
 * CRIU_PID is a criu that has restored INIT_PID and waits in a hook. Its mount namespace, its cgroups
 * and its cgroup namespace are what the next one starts with, in a mount namespace of its own; `-f`
 * opens INIT_PID's namespace of that name ("net") under that number. The time is from the start of
 * criu to its end, when the restored process runs. That one is ended then, and its pid is read
 * from the pidfile in the work folder (-w), for which RUNS times room is made.
 */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>

#include "criu.h"

#define FDS 8
#define CGROUPS 16

struct again {
	int mnt, cgroup_ns;
	int fds[FDS], numbers[FDS];
	unsigned n_fds;
	int procs[CGROUPS]; /* files to write one's pid to */
	unsigned n_procs;
};

static int open_ns(const char *pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%.16s/ns/%.16s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		criu_die(path, errno);
	return fd;
}

/* The hierarchies of /proc/PID/cgroup, where they are mounted on this host. */
static void open_cgroups(struct again *a, const char *pid)
{
	char path[4200], line[4096], *controllers, *group;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/cgroup", pid);
	f = fopen(path, "re");
	if (!f)
		criu_die(path, errno);
	while (fgets(line, sizeof(line), f)) {
		static const char *const v2[] = { "unified", "." };
		const char *names[3] = { NULL, NULL, NULL };
		int fd = -1;

		line[strcspn(line, "\n")] = '\0';
		controllers = strchr(line, ':');
		group = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!group)
			continue;
		controllers++;
		*group++ = '\0';
		if (!*controllers) {
			names[0] = v2[0];
			names[1] = v2[1];
		} else {
			names[0] = strncmp(controllers, "name=", 5) ? controllers : controllers + 5;
		}
		for (int i = 0; names[i] && fd < 0; i++) {
			snprintf(path, sizeof(path), "/sys/fs/cgroup/%s%.2048s/cgroup.procs",
				 names[i], group);
			fd = open(path, O_WRONLY | O_CLOEXEC);
		}
		if (fd >= 0 && a->n_procs < CGROUPS)
			a->procs[a->n_procs++] = fd;
	}
	fclose(f);
}

/* In the child that becomes criu. */
static void enter(const struct again *a)
{
	for (unsigned i = 0; i < a->n_procs; i++)
		if (write(a->procs[i], "0", 1) < 0)
			criu_die("join the cgroup", errno);
	if (setns(a->mnt, CLONE_NEWNS) < 0 || unshare(CLONE_NEWNS) < 0)
		criu_die("enter criu's mounts", errno);
	if (setns(a->cgroup_ns, CLONE_NEWCGROUP) < 0)
		criu_die("enter criu's cgroup namespace", errno);
	setsid();
	for (unsigned i = 0; i < a->n_fds; i++)
		if (dup2(a->fds[i], a->numbers[i]) < 0)
			criu_die("dup2", errno);
}

static pid_t read_pid(const char *path)
{
	FILE *f = fopen(path, "re");
	char text[32] = "";

	if (!f || !fgets(text, sizeof(text), f))
		criu_die(path, f ? EIO : errno);
	fclose(f);
	return (pid_t)atol(text);
}

static void add_fd(struct again *a, const char *text, const char *init)
{
	const char *name = strchr(text, ':');

	if (!name || a->n_fds == FDS) {
		fprintf(stderr, "again: '%s' is no FD:NAMESPACE\n", text);
		exit(2);
	}
	a->numbers[a->n_fds] = atoi(text);
	/* out of the way of the numbers that are asked for */
	a->fds[a->n_fds] = fcntl(open_ns(init, name + 1), F_DUPFD_CLOEXEC, 200);
	if (a->fds[a->n_fds++] < 0)
		criu_die("fcntl", errno);
}

int main(int argc, char **argv)
{
	const char *criu = NULL, *init = NULL, *pidfile = NULL;
	struct again a = { .n_fds = 0 };
	double ms[1000];
	unsigned n = 1;
	int opt;

	while ((opt = getopt(argc, argv, "+P:I:w:n:f:")) != -1) {
		if (opt == 'P')
			criu = optarg;
		else if (opt == 'I')
			init = optarg;
		else if (opt == 'w')
			pidfile = optarg;
		else if (opt == 'n' && atoi(optarg) > 0 && atoi(optarg) <= 1000)
			n = (unsigned)atoi(optarg);
		else if (opt == 'f' && init)
			add_fd(&a, optarg, init);
		else
			return 2;
	}
	argv += optind;
	if (!criu || !init || !pidfile || !*argv) {
		fprintf(stderr, "usage: again -P CRIU_PID -I INIT_PID -w PIDFILE [-n RUNS] "
				"[-f FD:NAMESPACE]… -- CRIU restore ARG…\n");
		return 2;
	}
	a.mnt = open_ns(criu, "mnt");
	a.cgroup_ns = open_ns(criu, "cgroup");
	open_cgroups(&a, criu);
	for (unsigned i = 0; i < n; i++) {
		int64_t begin;
		pid_t pid, task;

		unlink(pidfile);
		begin = bench_now();
		pid = fork();
		if (pid < 0)
			criu_die("fork", errno);
		if (!pid) {
			enter(&a);
			execv(argv[0], argv);
			criu_die(argv[0], errno);
		}
		criu_end(pid);
		ms[i] = (double)(bench_now() - begin) / 1e6;
		task = read_pid(pidfile);
		if (task <= 1 || kill(task, SIGKILL) < 0)
			criu_die("end the restored process", errno);
		/* a child of ours, by --restore-sibling */
		while (waitpid(task, NULL, 0) < 0)
			if (errno != EINTR)
				criu_die("waitpid", errno);
	}
	bench_print_spread("criu", "restore", "ms", ms, n);
	return 0;
}
