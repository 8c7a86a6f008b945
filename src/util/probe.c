// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel features, each tried for real
 *
 * Each probe answers 0 or -errno. Some need a child (its own mount namespace, a user namespace,
 * an exit to be looked at): it is cloned with no exit signal, which keeps it away from whoever
 * waits for this process's other children, makes system calls only, and ends at once. Nothing is
 * left behind: mounts are detached or die with the child's namespace, the cgroup is removed.
 *
 * Constants and structs that the headers of Debian 12 (Linux 6.1) do not have are written out
 * here, with names of their own.
 */
#include "util/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

#define PROBE_SYS_OPEN_TREE_ATTR 467 /* the same on all architectures */
#define PROBE_UFFD_WP_ASYNC (1ull << 15)
#define PROBE_UFFD_USER_MODE_ONLY 1
#define PROBE_PIDFD_INFO_EXIT (1ull << 3)
#define PROBE_PAGE_IS_PRESENT (1ull << 3)

struct probe_pidfd_info { /* linux/pidfd.h of 6.15: its first version and the exit code */
	uint64_t mask, cgroupid;
	uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define PROBE_PIDFD_GET_INFO _IOWR(0xff, 11, struct probe_pidfd_info)

struct probe_page_region { /* linux/fs.h of 6.7 */
	uint64_t start, end, categories;
};
struct probe_pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PROBE_PAGEMAP_SCAN _IOWR('f', 16, struct probe_pm_scan_arg)

/* ---- children ---- */

/* As fork, with flags. *pidfd may be NULL. Returns the pid, 0 in the child, or -errno. */
static pid_t child_start(uint64_t flags, int cgroup, int *pidfd)
{
	struct clone_args args = { .flags = flags, .cgroup = cgroup < 0 ? 0 : (uint64_t)cgroup };
	long pid;

	if (pidfd) {
		args.flags |= CLONE_PIDFD;
		args.pidfd = (uint64_t)(uintptr_t)pidfd;
	}
	pid = syscall(SYS_clone3, &args, sizeof(args));
	return pid < 0 ? -errno : (pid_t)pid;
}

/* Exit code, -EIO for a child that a signal ended. */
static int child_wait(pid_t pid)
{
	siginfo_t info;
	int r;

	do {
		r = waitid(P_PID, (id_t)pid, &info, WEXITED | __WCLONE);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return info.si_code == CLD_EXITED ? info.si_status : -EIO;
}

/* Exit codes of children: errno values fit into a byte. */
static int child_result(pid_t pid)
{
	int r = pid < 0 ? pid : child_wait(pid);

	return r > 0 ? -r : r;
}

/* ---- one by one ---- */

static int probe_pidfd(void)
{
	CLEANUP_CLOSE int fd = fd_pidfd_open(getpid());

	return fd < 0 ? fd : fd_pidfd_send_signal(fd, 0);
}

static int probe_close_range(void)
{
	/* the last possible number is nobody's; 4 is CLOSE_RANGE_CLOEXEC */
	return syscall(SYS_close_range, ~0u, ~0u, 4) < 0 ? -errno : 0;
}

/* A group below this process's own on v2. *path is its folder, to be removed by group_drop. */
static int group_make(char *path, size_t size)
{
	CLEANUP_FREE char *mounts = NULL, *groups = NULL;
	char *save = NULL, *own = NULL, *point = NULL;
	int r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 8u << 20, &mounts, NULL);

	if (!r)
		r = fd_read_file(AT_FDCWD, "/proc/self/cgroup", 64u << 10, &groups, NULL);
	if (r < 0)
		return r;
	for (char *line = strtok_r(groups, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, "0::/", 4))
			own = line[4] ? line + 3 : line + 4;
	for (char *line = strtok_r(mounts, "\n", &save); line && !point;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!strstr(line, " - cgroup2 "))
			continue;
		/*
		 * the fifth field; mount points of cgroup2 with blanks in their names are not
		 * looked at
		 */
		point = line;
		for (int i = 0; point && i < 4; i++) {
			point = strchr(point, ' ');
			point = point ? point + 1 : NULL;
		}
		if (point)
			point[strcspn(point, " ")] = 0;
	}
	if (!own || !point)
		return -ENODEV;
	if (snprintf(path, size, "%s%s/davit-probe-%d", point, own, (int)getpid()) >= (int)size)
		return -ENAMETOOLONG;
	return mkdir(path, 0755) < 0 ? -errno : 0;
}

static int probe_cgroup_kill(void)
{
	char path[PATH_MAX], file[PATH_MAX + 16];
	int r = group_make(path, sizeof(path));

	if (r < 0)
		return r;
	snprintf(file, sizeof(file), "%s/cgroup.kill", path);
	r = fd_write_file(AT_FDCWD, file, "1");
	if (rmdir(path) < 0 && !r)
		r = -errno;
	return r;
}

static int probe_into_cgroup(void)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX];
	pid_t pid;
	int r = group_make(path, sizeof(path));

	if (r < 0)
		return r;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
	} else {
		pid = child_start(CLONE_INTO_CGROUP, fd, NULL);
		if (!pid)
			_exit(0);
		r = child_result(pid);
	}
	if (rmdir(path) < 0 && !r)
		r = -errno;
	return r;
}

static int probe_userns(void)
{
	pid_t pid = child_start(CLONE_NEWUSER, -1, NULL);

	if (!pid)
		_exit(0);
	return child_result(pid);
}

/* A detached copy of the mount at a path is shifted. */
static int idmap_at(const char *path, int ns)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)ns };
	CLEANUP_CLOSE int tree = (int)syscall(SYS_open_tree, AT_FDCWD, path,
					      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return -errno;
	return syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ? -errno
											    : 0;
}

/*
 * By the user namespace of a child; the file system has to play along, so more than one is tried.
 */
static int probe_idmap(void)
{
	static const char *const places[] = { "/var/lib", "/", "/run", "/dev/shm" };
	CLEANUP_CLOSE int ns = -1;
	char path[64], byte;
	int hold[2], r = 0;
	pid_t pid;

	if (pipe2(hold, O_CLOEXEC) < 0)
		return -errno;
	pid = child_start(CLONE_NEWUSER, -1, NULL);
	if (!pid) {
		close(hold[1]);
		/* until the parent's end is closed */
		_exit(read(hold[0], &byte, 1) ? 1 : 0);
	}
	close(hold[0]);
	if (pid < 0)
		r = pid;
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	if (!r)
		r = fd_write_file(AT_FDCWD, path, "0 100000 1");
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
	if (!r)
		r = fd_write_file(AT_FDCWD, path, "0 100000 1");
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	if (!r && (ns = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		r = -errno;
	if (!r) {
		r = -ENOENT;
		for (size_t i = 0; i < ARRAY_SIZE(places) && r; i++) {
			int one = idmap_at(places[i], ns);

			/* a place that is not there says nothing */
			if (one != -ENOENT)
				r = one;
		}
	}
	close(hold[1]);
	if (pid > 0)
		child_wait(pid);
	return r;
}

static int probe_open_tree_attr(void)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	CLEANUP_CLOSE int fd = (int)syscall(PROBE_SYS_OPEN_TREE_ATTR, AT_FDCWD, "/",
					    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC, &attr,
					    sizeof(attr));

	return fd < 0 ? -errno : 0;
}

static int probe_pidfd_exit(void)
{
	struct probe_pidfd_info info = { .mask = PROBE_PIDFD_INFO_EXIT };
	CLEANUP_CLOSE int fd = -1;
	pid_t pid = child_start(0, -1, &fd);
	int r;

	if (!pid)
		_exit(42);
	r = pid < 0 ? pid : child_wait(pid);
	if (r < 0)
		return r;
	/* reaped: all that is left of it is what the pidfd holds */
	if (ioctl(fd, PROBE_PIDFD_GET_INFO, &info) < 0)
		return -errno;
	if (!(info.mask & PROBE_PIDFD_INFO_EXIT))
		return -ENODATA;
	return WEXITSTATUS(info.exit_code) == 42 ? 0 : -EBADMSG;
}

static int probe_pagemap_scan(void)
{
	CLEANUP_CLOSE int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long page = sysconf(_SC_PAGESIZE);
	struct probe_page_region region;
	struct probe_pm_scan_arg arg = { .size = sizeof(arg) };
	char *p;
	int r;

	if (fd < 0)
		return -errno;
	p = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	p[0] = 1;
	arg.start = (uint64_t)(uintptr_t)p;
	arg.end = arg.start + (uint64_t)page;
	arg.vec = (uint64_t)(uintptr_t)&region;
	arg.vec_len = 1;
	arg.category_mask = arg.return_mask = PROBE_PAGE_IS_PRESENT;
	r = ioctl(fd, PROBE_PAGEMAP_SCAN, &arg);
	r = r < 0 ? -errno : r == 1 && region.start == arg.start ? 0 : -EBADMSG;
	munmap(p, (size_t)page);
	return r;
}

static int probe_wp_async(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = PROBE_UFFD_WP_ASYNC };
	CLEANUP_CLOSE int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | PROBE_UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	return api.features & PROBE_UFFD_WP_ASYNC ? 0 : -EOPNOTSUPP;
}

static int probe_psi(void)
{
	/*
	 * One second of every two; it goes with the fd. Without CAP_SYS_RESOURCE the window has
	 * to be a multiple of two seconds. The last byte is cut off by the kernel: the NUL is
	 * part of it.
	 */
	static const char trigger[] = "some 1000000 2000000";
	CLEANUP_CLOSE int fd = open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, trigger, sizeof(trigger)) < 0 ? -errno : 0;
}

static int probe_landlock(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);

	return version < 0 ? -errno : 0;
}

static int probe_seccomp_notify(void)
{
	uint32_t action = SECCOMP_RET_USER_NOTIF;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 0;
}

/* In the child: an overlay with a writable layer, on a tmpfs that only its mount namespace has. */
static int overlay_mount(void)
{
	static const char *const dirs[] = { "/proc/l", "/proc/u", "/proc/w", "/proc/m" };

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", "/proc", "tmpfs", 0, NULL) < 0)
		return errno;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return errno;
	if (mount("overlay", "/proc/m", "overlay", 0,
		  "lowerdir=/proc/l,upperdir=/proc/u,workdir=/proc/w") < 0)
		return errno;
	return 0;
}

static int probe_overlay(void)
{
	pid_t pid = child_start(CLONE_NEWNS, -1, NULL);

	if (!pid)
		_exit(overlay_mount());
	return child_result(pid);
}

static int probe_timens(void)
{
	pid_t pid = child_start(0, -1, NULL);

	if (!pid)
		_exit(unshare(CLONE_NEWTIME) < 0 ? errno : 0);
	return child_result(pid);
}

size_t probe_features(struct probe_feature *features)
{
	static const struct {
		const char *name, *since;
		int (*probe)(void);
		const char *missing;
	} list[] = {
		{ "pidfd", "5.3", probe_pidfd,
		  "davit cannot run: processes are watched and signalled by pidfd" },
		{ "clone_into_cgroup", "5.7", probe_into_cgroup,
		  "containers join their cgroup v2 after the clone, which takes some 0.1 ms more" },
		{ "close_range", "5.9", probe_close_range,
		  "davit cannot run: it keeps the daemon's files away from containers" },
		{ "idmapped_mounts", "5.12", probe_idmap,
		  "mounts with uidMappings are refused, and so are user namespaces over images that are not shifted" },
		{ "cgroup_kill", "5.14", probe_cgroup_kill,
		  "containers without a pid namespace of their own are killed process by process" },
		{ "pagemap_scan", "6.7", probe_pagemap_scan,
		  "CRIU reads whole page maps: checkpoints freeze the task for longer" },
		{ "userfaultfd_wp_async", "6.7", probe_wp_async,
		  "delta checkpoints fall back to soft-dirty bits" },
		{ "pidfd_info_exit", "6.15", probe_pidfd_exit,
		  "after a restart of the daemon and its guardian the exit status of a task that ended meanwhile is unknown (255)" },
		{ "open_tree_attr", "6.15", probe_open_tree_attr,
		  "bind mounts take two more system calls each" },
		{ "psi_triggers", "5.2", probe_psi,
		  "no events for memory, CPU or IO pressure (boot with psi=1 where it is built in)" },
		{ "landlock", "5.13", probe_landlock,
		  "processes that unpack untrusted archives are not confined further" },
		{ "overlayfs", "4.0", probe_overlay,
		  "the overlayfs snapshotter is not available: native copies every file" },
		{ "user_namespaces", "3.8", probe_userns,
		  "containers with a user namespace are refused" },
		{ "time_namespaces", "5.6", probe_timens,
		  "containers with a time namespace are refused; restored tasks see the monotonic clock jump" },
		{ "seccomp_notify", "5.0", probe_seccomp_notify,
		  "seccomp profiles with SCMP_ACT_NOTIFY are refused" },
	};
	_Static_assert(sizeof(list) / sizeof(list[0]) <= PROBE_FEATURES, "room for all");

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		int r = list[i].probe();

		features[i] = (struct probe_feature){
			.name = list[i].name,
			.since = list[i].since,
			.missing = list[i].missing,
			.available = !r,
			.err = -r,
		};
	}
	return ARRAY_SIZE(list);
}
