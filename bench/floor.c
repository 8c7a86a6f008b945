// SPDX-License-Identifier: Apache-2.0
/*
 * The floor: what the kernel alone takes for the life of a container
 *
 * One C file without davit's code or any library. It makes what a default container has (six
 * namespaces, a cgroup in every hierarchy, the usual mounts with masked and read-only paths,
 * pivot_root), executes a program in it, waits for its end and removes it all, with the plain
 * system calls for each and nothing that makes a container safe or manageable: no seccomp, no
 * capabilities, no checks, no state, no events. What davit takes more than this is davit's own.
 *
 * bench/run compiles it statically, so that no library of davit's weighs on its clone.
 *
 *   floor [-n LIVES] [-j SIDE_BY_SIDE] [-r ROOTFS] [--no-net] [--no-cgroup] [--no-mounts]
 *         [-- PROGRAM ARG…]
 *
 * Prints a line of JSON for each number.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define HIERARCHIES 16
#define PARENT "davit-floor"

struct hierarchy {
	/* folder below /sys/fs/cgroup in the container, and the v1 mount's options */
	char name[64];
	bool v2;
	int fd; /* of PARENT in it */
};

struct floor {
	const char *rootfs;
	bool net, cgroup, mounts;
	char **argv;
	struct hierarchy h[HIERARCHIES];
	size_t n;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void need(int r, const char *what)
{
	if (r < 0)
		die(what);
}

/* ---- cgroups ---- */

static void fill_cpuset(int root, int parent)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char text[4096];

	for (int i = 0; i < 2; i++) {
		int from = openat(root, files[i], O_RDONLY | O_CLOEXEC),
		    to = openat(parent, files[i], O_WRONLY | O_CLOEXEC);
		ssize_t size = read(from, text, sizeof(text));

		if (size > 0 && write(to, text, (size_t)size) < 0)
			die(files[i]);
		close(from);
		close(to);
	}
	/* what is made below takes these over */
	root = openat(parent, "cgroup.clone_children", O_WRONLY | O_CLOEXEC);
	if (root >= 0 && write(root, "1", 1) < 0)
		die("cgroup.clone_children");
	close(root);
}

static void find_hierarchies(struct floor *fl)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char line[4096], source[256], point[1024], type[64], options[1024];

	if (!f)
		die("/proc/self/mounts");
	while (fgets(line, sizeof(line), f)) {
		struct hierarchy *h = &fl->h[fl->n];
		int root;

		if (sscanf(line, "%255s %1023s %63s %1023s", source, point, type, options) != 4 ||
		    (strcmp(type, "cgroup") && strcmp(type, "cgroup2")) || fl->n == HIERARCHIES)
			continue;
		h->v2 = !strcmp(type, "cgroup2");
		snprintf(h->name, sizeof(h->name), "%s", strrchr(point, '/') + 1);
		root = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		need(root, point);
		if (mkdirat(root, PARENT, 0755) < 0 && errno != EEXIST)
			die(point);
		h->fd = openat(root, PARENT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		need(h->fd, point);
		if (strstr(options, "cpuset") && !h->v2)
			fill_cpuset(root, h->fd);
		close(root);
		fl->n++;
	}
	fclose(f);
}

static void drop_parents(const struct floor *fl)
{
	for (size_t i = 0; i < fl->n; i++)
		unlinkat(fl->h[i].fd, "../" PARENT, AT_REMOVEDIR);
}

/* ---- in the container ---- */

static void loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	need(fd, "socket");
	need(ioctl(fd, SIOCSIFFLAGS, &ifr), "lo");
	close(fd);
}

static void make_dev(void)
{
	static const struct {
		const char *path;
		unsigned major, minor;
	} nodes[] = { { "dev/null", 1, 3 },   { "dev/zero", 1, 5 },    { "dev/full", 1, 7 },
		      { "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };
	static const char *const links[][2] = {
		{ "/proc/self/fd", "dev/fd" },	     { "/proc/self/fd/0", "dev/stdin" },
		{ "/proc/self/fd/1", "dev/stdout" }, { "/proc/self/fd/2", "dev/stderr" },
		{ "/proc/kcore", "dev/core" },	     { "pts/ptmx", "dev/ptmx" }
	};

	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
		need(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)),
		     nodes[i].path);
	for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++)
		need(symlink(links[i][0], links[i][1]), links[i][1]);
}

static void make_cgroup_mounts(const struct floor *fl)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME | MS_RDONLY;

	if (fl->n == 1 && fl->h[0].v2) {
		need(mount("cgroup", "sys/fs/cgroup", "cgroup2", flags, NULL), "mount cgroup2");
		return;
	}
	need(mount("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755"),
	     "mount sys/fs/cgroup");
	for (size_t i = 0; i < fl->n; i++) {
		char path[128], data[96];

		snprintf(path, sizeof(path), "sys/fs/cgroup/%s", fl->h[i].name);
		need(mkdir(path, 0755), path);
		snprintf(data, sizeof(data), "%s%s",
			 strcmp(fl->h[i].name, "systemd") ? "" : "none,name=", fl->h[i].name);
		need(mount("cgroup", path, fl->h[i].v2 ? "cgroup2" : "cgroup", flags,
			   fl->h[i].v2 ? NULL : data),
		     path);
	}
	need(mount(NULL, "sys/fs/cgroup", NULL,
		   MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
	     "remount sys/fs/cgroup");
}

/* A file is covered by /dev/null, a folder by an empty tmpfs; what is not there needs nothing. */
static void mask_paths(void)
{
	static const char *const masked[] = { "proc/acpi",	  "proc/kcore",
					      "proc/keys",	  "proc/latency_stats",
					      "proc/timer_list",  "proc/timer_stats",
					      "proc/sched_debug", "proc/scsi",
					      "sys/firmware",	  "sys/fs/selinux",
					      "sys/dev/block",	  "sys/devices/virtual/powercap" };
	static const char *const readonly[] = { "proc/asound", "proc/bus", "proc/fs",
						"proc/irq",    "proc/sys", "proc/sysrq-trigger" };

	for (size_t i = 0; i < sizeof(masked) / sizeof(*masked); i++) {
		int r = mount("dev/null", masked[i], NULL, MS_BIND, NULL);

		if (r < 0 && errno == ENOTDIR)
			need(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k"), masked[i]);
		else if (r < 0 && errno != ENOENT)
			die(masked[i]);
	}
	for (size_t i = 0; i < sizeof(readonly) / sizeof(*readonly); i++) {
		if (mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL) < 0)
			continue;
		need(mount(NULL, readonly[i], NULL,
			   MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			   NULL),
		     readonly[i]);
	}
}

static void make_mounts(const struct floor *fl)
{
	const unsigned long tight = MS_NOSUID | MS_NOEXEC | MS_NODEV;

	need(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "mount / as slave");
	need(mount(fl->rootfs, fl->rootfs, NULL, MS_BIND | MS_REC, NULL), "bind the rootfs");
	need(chdir(fl->rootfs), fl->rootfs);
	need(mount("proc", "proc", "proc", tight, NULL), "mount proc");
	need(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_STRICTATIME,
		   "mode=755,size=65536k"),
	     "mount dev");
	need(mount("sysfs", "sys", "sysfs", tight | MS_RDONLY, NULL), "mount sys");
	need(mkdir("dev/pts", 0755), "dev/pts");
	need(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
		   "newinstance,ptmxmode=0666,mode=0620,gid=5"),
	     "mount dev/pts");
	need(mkdir("dev/mqueue", 0755), "dev/mqueue");
	need(mount("mqueue", "dev/mqueue", "mqueue", tight, NULL), "mount dev/mqueue");
	need(mkdir("dev/shm", 0755), "dev/shm");
	need(mount("shm", "dev/shm", "tmpfs", tight, "mode=1777,size=65536k"), "mount dev/shm");
	if (fl->cgroup)
		make_cgroup_mounts(fl);
	make_dev();
	mask_paths();
	need((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
	need(umount2(".", MNT_DETACH), "umount the old root");
	need(chdir("/"), "chdir");
}

static _Noreturn void child(const struct floor *fl, const int *procs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		need((int)write(procs[i], "0", 1), "cgroup.procs");
	if (fl->cgroup)
		need(unshare(CLONE_NEWCGROUP), "cgroup namespace");
	need(sethostname("floor", 5), "sethostname");
	if (fl->net)
		loopback_up();
	if (fl->mounts)
		make_mounts(fl);
	execv(fl->argv[0], fl->argv);
	die(fl->argv[0]);
}

/* ---- outside ---- */

static double life(const struct floor *fl, const char *id)
{
	struct clone_args args = { .exit_signal = SIGCHLD,
				   .flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC |
					    CLONE_NEWUTS };
	int procs[HIERARCHIES], v2 = -1, status = 0;
	int64_t begin = bench_now();
	size_t n = 0;
	long pid;

	for (size_t i = 0; fl->cgroup && i < fl->n; i++) {
		char path[128];

		need(mkdirat(fl->h[i].fd, id, 0755), "mkdir of the cgroup");
		snprintf(path, sizeof(path), "%s/cgroup.procs", id);
		if (fl->h[i].v2)
			need(v2 = openat(fl->h[i].fd, id, O_PATH | O_DIRECTORY | O_CLOEXEC),
			     "open the cgroup");
		else
			need(procs[n++] = openat(fl->h[i].fd, path, O_WRONLY | O_CLOEXEC),
			     "open cgroup.procs");
	}
	if (fl->net)
		args.flags |= CLONE_NEWNET;
	if (v2 >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)v2;
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	need((int)pid, "clone3");
	if (!pid)
		child(fl, procs, n);
	for (size_t i = 0; i < n; i++)
		close(procs[i]);
	if (v2 >= 0)
		close(v2);
	need(waitpid((pid_t)pid, &status, 0), "waitpid");
	for (size_t i = 0; fl->cgroup && i < fl->n; i++)
		need(unlinkat(fl->h[i].fd, id, AT_REMOVEDIR), "rmdir of the cgroup");
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "floor: %s ended with status %#x\n", fl->argv[0], (unsigned)status);
		_exit(1);
	}
	return (double)(bench_now() - begin) / 1e6;
}

/* n lives in each of j processes, side by side; all times go to ms[j * n]. */
static void side_by_side(const struct floor *fl, unsigned j, unsigned n, double *ms)
{
	int64_t begin = bench_now();
	int status, bad = 0;

	for (unsigned k = 0; k < j; k++) {
		pid_t pid = fork();

		need(pid, "fork");
		if (pid)
			continue;
		for (unsigned i = 0; i < n; i++) {
			char id[32];

			snprintf(id, sizeof(id), "f%u-%u", k, i);
			ms[k * n + i] = life(fl, id);
		}
		_exit(0);
	}
	for (unsigned k = 0; k < j; k++)
		bad |= wait(&status) < 0 || status;
	if (bad)
		exit(1);
	bench_print("floor", "side_by_side", "lives/s",
		    (double)j * n / ((double)(bench_now() - begin) / 1e9));
}

int main(int argc, char **argv)
{
	static char *standard[] = { (char *)"/bin/true", NULL };
	struct floor fl = {
		.rootfs = "/", .net = true, .cgroup = true, .mounts = true, .argv = standard
	};
	unsigned n = 100, j = 1;
	double *ms;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (!strcmp(argv[i], "--no-net")) {
			fl.net = false;
		} else if (!strcmp(argv[i], "--no-cgroup")) {
			fl.cgroup = false;
		} else if (!strcmp(argv[i], "--no-mounts")) {
			fl.mounts = false;
		} else if (!strcmp(argv[i], "--") && *value) {
			fl.argv = &argv[i + 1];
			break;
		} else if (!strcmp(argv[i], "-n") && atoi(value) > 0) {
			n = (unsigned)atoi(argv[++i]);
		} else if (!strcmp(argv[i], "-j") && atoi(value) > 0) {
			j = (unsigned)atoi(argv[++i]);
		} else if (!strcmp(argv[i], "-r") && *value) {
			fl.rootfs = argv[++i];
		} else {
			fprintf(stderr,
				"usage: floor [-n LIVES] [-j SIDE_BY_SIDE] [-r ROOTFS] [--no-net] [--no-cgroup] [--no-mounts] "
				"[-- PROGRAM ARG...]\n");
			return 2;
		}
	}
	/* shared with the processes that run side by side */
	ms = mmap(NULL, (size_t)n * j * sizeof(*ms), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ms == MAP_FAILED)
		die("mmap");
	if (fl.cgroup)
		find_hierarchies(&fl);
	if (j > 1) {
		side_by_side(&fl, j, n, ms);
	} else {
		for (unsigned i = 0; i < n; i++) {
			char id[32];

			snprintf(id, sizeof(id), "f%u", i);
			ms[i] = life(&fl, id);
		}
	}
	bench_print_spread("floor", j > 1 ? "life_side_by_side" : "life", "ms", ms, (size_t)n * j);
	drop_parents(&fl);
	return 0;
}
