// SPDX-License-Identifier: Apache-2.0
/*
 * davit doctor: kernel, cgroups, limits, folders
 *
 * Kernel features are used once (util/probe.h); everything else is read from /proc, /sys and the
 * file system. Nothing is changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "util/fd.h"
#include "util/probe.h"

#define CGROUP2_MAGIC 0x63677270
#define OVERLAY_MAGIC 0x794c7630
#define NFS_MAGIC 0x6969
#define TMPFS_MAGIC 0x01021994
#define KERNEL_MAJOR 5 /* the main path's needs: see the kernel features in docs */
#define KERNEL_MINOR 14

void doctor_kernel(json_object *findings)
{
	struct probe_feature features[PROBE_FEATURES];
	struct utsname u;
	int major = 0, minor = 0;
	size_t n;

	if (uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2) {
		bool enough = major > KERNEL_MAJOR ||
			      (major == KERNEL_MAJOR && minor >= KERNEL_MINOR);

		doctor_add(findings, "kernel", "version", enough ? DOCTOR_OK : DOCTOR_BAD,
			   "%s %s%s", u.release, u.machine,
			   enough ? "" : "; at least 5.14 is needed");
	}
	n = probe_features(features);
	for (size_t i = 0; i < n; i++) {
		const struct probe_feature *p = &features[i];
		bool needed = strncmp(p->missing, "davit cannot run", 16) == 0;

		if (p->available)
			doctor_add(findings, "kernel", p->name, DOCTOR_OK, "since %s", p->since);
		else
			doctor_add(findings, "kernel", p->name, needed ? DOCTOR_BAD : DOCTOR_NOTE,
				   "since %s%s%s; without it %s", p->since, p->err ? ", " : "",
				   p->err ? strerrordesc_np(p->err) : "", p->missing);
	}
	doctor_add(findings, "kernel", "seccomp",
		   access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0 ? DOCTOR_OK
									       : DOCTOR_BAD,
		   "system call filters");
}

static bool has_word(const char *text, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = text; (p = strstr(p, word)); p += n) {
		if ((p == text || p[-1] == ' ' || p[-1] == ',' || p[-1] == '\n') &&
		    (!p[n] || p[n] == ' ' || p[n] == ',' || p[n] == '\n'))
			return true;
	}
	return false;
}

/* Every controller that some hierarchy offers, separated by blanks; malloc'ed. */
static char *controllers(bool *v1, bool *v2)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *all = mem_strdup(""), *line CLEANUP_FREE = NULL;
	size_t room = 0;

	*v1 = *v2 = false;
	if (!mounts)
		return all;
	while (getline(&line, &room, mounts) > 0) {
		char *type = strstr(line, " - cgroup"), *longer, *list CLEANUP_FREE = NULL;
		char folder[PATH_MAX + 32], options[512] = "";

		if (!type || sscanf(line, "%*s %*s %*s %*s %4095s", folder) != 1)
			continue;
		if (type[9] == '2') {
			*v2 = true;
			strcat(folder, "/cgroup.controllers");
			if (fd_read_file(AT_FDCWD, folder, 4096, &list, NULL) < 0)
				continue;
		} else {
			*v1 = true;
			if (sscanf(type, " - cgroup %*s %511s", options) != 1)
				continue;
			list = mem_strdup(options);
		}
		list[strcspn(list, "\n")] = '\0';
		longer = mem_printf("%s%s%s", all, *all && *list ? " " : "", list);
		free(all);
		all = longer;
	}
	fclose(mounts);
	for (char *p = all; *p; p++) {
		if (*p == ',')
			*p = ' ';
	}
	return all;
}

void doctor_cgroups(json_object *findings)
{
	static const struct {
		const char *name, *without;
	} wanted[] = {
		{ "cpu", "--cpus does nothing" },
		{ "memory", "--memory is refused, and running out of memory ends others" },
		{ "pids", "--pids-limit is refused" },
		{ "cpuset", "containers cannot be bound to CPUs" },
	};
	bool v1, v2;
	char *all CLEANUP_FREE = controllers(&v1, &v2);
	struct statfs fs;

	if (!v1 && !v2) {
		doctor_add(findings, "cgroups", "layout", DOCTOR_BAD,
			   "no cgroup file system is mounted");
		return;
	}
	doctor_add(findings, "cgroups", "layout", DOCTOR_OK, "%s",
		   !v1	? "v2"
		   : v2 ? "hybrid (v1 controllers beside v2)"
			: "v1");
	if (!v1 && (statfs("/sys/fs/cgroup", &fs) < 0 || fs.f_type != CGROUP2_MAGIC))
		doctor_add(findings, "cgroups", "mount", DOCTOR_NOTE,
			   "cgroup v2 is not mounted at /sys/fs/cgroup, where tools look for it");
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		bool there = has_word(all, wanted[i].name);

		doctor_add(findings, "cgroups", wanted[i].name, there ? DOCTOR_OK : DOCTOR_NOTE,
			   "%s%s", there ? "controller" : "no controller: ",
			   there ? "" : wanted[i].without);
	}
	if (v1)
		doctor_add(findings, "cgroups", "freezer",
			   has_word(all, "freezer") ? DOCTOR_OK : DOCTOR_NOTE, "%s",
			   has_word(all, "freezer")
				   ? "controller"
				   : "no controller: containers cannot be paused or checkpointed");
}

static long long read_number(const char *path)
{
	char *text CLEANUP_FREE = NULL;

	if (fd_read_file(AT_FDCWD, path, 256, &text, NULL) < 0)
		return -1;
	return atoll(text);
}

void doctor_limits(json_object *findings)
{
	static const struct {
		const char *name, *path;
		long long least;
		const char *effect;
	} numbers[] = {
		{ "kernel.pid_max", "/proc/sys/kernel/pid_max", 32768,
		  "bounds all processes of all containers" },
		{ "kernel.threads-max", "/proc/sys/kernel/threads-max", 16384,
		  "bounds all threads" },
		{ "fs.file-max", "/proc/sys/fs/file-max", 65536, "bounds all open files" },
		{ "fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances", 128,
		  "one is used by each following 'davit logs'" },
		{ "fs.pipe-max-size", "/proc/sys/fs/pipe-max-size", 1 << 20,
		  "smaller pipes make checkpoints slower" },
		{ "user.max_pid_namespaces", "/proc/sys/user/max_pid_namespaces", 1024,
		  "bounds the containers" },
		{ "user.max_net_namespaces", "/proc/sys/user/max_net_namespaces", 1024,
		  "bounds the containers with a network namespace" },
		{ "kernel.pty.max", "/proc/sys/kernel/pty/max", 256,
		  "bounds the terminals of containers" },
	};
	struct rlimit files;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		long long n = read_number(numbers[i].path);

		if (n >= 0)
			doctor_add(findings, "limits", numbers[i].name,
				   n >= numbers[i].least ? DOCTOR_OK : DOCTOR_NOTE, "%lld; %s", n,
				   numbers[i].effect);
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		doctor_add(findings, "limits", "RLIMIT_NOFILE",
			   files.rlim_max >= 65536 ? DOCTOR_OK : DOCTOR_NOTE,
			   "%llu; the daemon keeps a few files for each container",
			   (unsigned long long)files.rlim_max);
}

/* The folder or, when it is not there yet, the nearest one above it. */
static int nearest(const char *path, struct statfs *fs, char *found, size_t size)
{
	snprintf(found, size, "%s", path);
	while (statfs(found, fs) < 0) {
		char *slash = strrchr(found, '/');

		if (errno != ENOENT || !slash)
			return -errno;
		if (slash == found)
			slash++;
		*slash = '\0';
	}
	return 0;
}

static void one_folder(json_object *findings, const char *name, const char *path, bool durable)
{
	char found[PATH_MAX];
	struct statfs fs;
	unsigned long long mib;
	int r;

	r = nearest(path, &fs, found, sizeof(found));
	if (r < 0) {
		doctor_add(findings, "files", name, DOCTOR_BAD, "%s: %s", path,
			   strerrordesc_np(-r));
		return;
	}
	mib = (unsigned long long)fs.f_bavail * (unsigned long long)fs.f_bsize >> 20;
	if (fs.f_flags & ST_RDONLY)
		doctor_add(findings, "files", name, DOCTOR_BAD, "%s is on a read-only file system",
			   path);
	else if (durable && fs.f_type == TMPFS_MAGIC)
		doctor_add(findings, "files", name, DOCTOR_NOTE,
			   "%s is on a tmpfs: it does not survive a reboot", path);
	else if (durable && fs.f_type == OVERLAY_MAGIC)
		doctor_add(findings, "files", name, DOCTOR_NOTE,
			   "%s is on an overlay: snapshots by overlayfs cannot stand on it", path);
	else if (fs.f_type == NFS_MAGIC)
		doctor_add(findings, "files", name, DOCTOR_NOTE,
			   "%s is on NFS: the database needs a local file system", path);
	else
		doctor_add(findings, "files", name, mib < 64 ? DOCTOR_NOTE : DOCTOR_OK,
			   "%s, %llu MiB free", path, mib);
}

void doctor_files(json_object *findings)
{
	const char *root = getenv("DAVIT_ROOT"), *state = getenv("DAVIT_STATE");

	one_folder(findings, "root", root && *root ? root : "/var/lib/davit", true);
	one_folder(findings, "state", state && *state ? state : "/run/davit", false);
	if (access("/sys/fs/selinux/enforce", F_OK) == 0)
		doctor_add(findings, "files", "selinux", DOCTOR_NOTE,
			   "SELinux is on, and davit sets no labels on files");
}
