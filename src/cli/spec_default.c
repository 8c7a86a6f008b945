// SPDX-License-Identifier: Apache-2.0
/*
 * The default spec
 *
 * Podman's defaults as data: the mounts, the paths of /proc and /sys that a container must not see
 * or write, the devices it may use, the namespaces. Capabilities, the seccomp profile and the
 * process are added by their own files.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/caps.h"
#include "cli/device.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/spec.h"
#include "cli/volume.h"
#include "util/fd.h"

#define OPTIONS(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define PIDS_LIMIT 2048
#define LIMIT_DEFAULT 1048576 /* of open files and processes, as podman has it */

static const char *const masked_paths[] = {
	"/proc/acpi",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/interrupts",
	"/sys/firmware",
	"/sys/fs/selinux",
	"/sys/dev/block",
	"/sys/devices/virtual/powercap",
	NULL,
};

static const char *const readonly_paths[] = {
	"/proc/asound", "/proc/bus",	       "/proc/fs", "/proc/irq",
	"/proc/sys",	"/proc/sysrq-trigger", NULL,
};

static json_object *default_mounts(void)
{
	json_object *m = js_array();

	js_push(m, volume_mount("/proc", "proc", "proc", OPTIONS("nosuid", "noexec", "nodev")));
	js_push(m, volume_mount(
			   "/dev", "tmpfs", "tmpfs",
			   OPTIONS("nosuid", "noexec", "strictatime", "mode=755", "size=65536k")));
	js_push(m,
		volume_mount("/sys", "sysfs", "sysfs", OPTIONS("nosuid", "noexec", "nodev", "ro")));
	js_push(m, volume_mount("/dev/pts", "devpts", "devpts",
				OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666",
					"mode=0620", "gid=5")));
	js_push(m, volume_mount("/dev/mqueue", "mqueue", "mqueue",
				OPTIONS("nosuid", "noexec", "nodev")));
	js_push(m, volume_mount("/dev/shm", "tmpfs", "shm",
				OPTIONS("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")));
	js_push(m, volume_mount("/sys/fs/cgroup", "cgroup", "cgroup",
				OPTIONS("nosuid", "noexec", "nodev", "relatime", "ro")));
	return m;
}

/* Nothing but the making of nodes, the standard devices and the container's own terminals. */
static json_object *default_device_rules(void)
{
	static const struct {
		const char *type, *access;
		int major, minor;
	} allowed[] = {
		{ "c", "m", -1, -1 },	 { "b", "m", -1, -1 }, { "c", "rwm", 1, 3 }, /* null */
		{ "c", "rwm", 1, 5 }, /* zero */
		{ "c", "rwm", 1, 7 }, /* full */
		{ "c", "rwm", 1, 8 }, /* random */
		{ "c", "rwm", 1, 9 }, /* urandom */
		{ "c", "rwm", 5, 0 }, /* tty */
		{ "c", "rwm", 5, 1 }, /* console */
		{ "c", "rwm", 5, 2 }, /* ptmx */
		{ "c", "rwm", 136, -1 }, /* pts */
	};
	json_object *rules = js_array();

	js_push(rules, device_rule(false, NULL, -1, -1, "rwm"));
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		js_push(rules, device_rule(true, allowed[i].type, allowed[i].major,
					   allowed[i].minor, allowed[i].access));
	return rules;
}

static json_object *rlimit(const char *type, int64_t value)
{
	json_object *o = js_object();

	js_set_str(o, "type", type);
	js_set_int(o, "hard", value);
	js_set_int(o, "soft", value);
	return o;
}

/* The hard limit of a process, from its /proc/PID/limits; -1 for none, or when it is not known. */
static int64_t hard_limit(const char *limits, const char *name)
{
	const char *p = limits ? strstr(limits, name) : NULL;
	char hard[32];

	if (!p || sscanf(p + strlen(name), "%*s %31s", hard) != 1 || strcmp(hard, "unlimited") == 0)
		return -1;
	return atoll(hard);
}

/*
 * What podman gives a container of root, within what this host allows, and what the daemon can
 * give.
 */
static json_object *default_rlimits(pid_t daemon)
{
	static const struct {
		const char *type, *name;
	} given[] = { { "RLIMIT_NOFILE", "Max open files" }, { "RLIMIT_NPROC", "Max processes" } };
	char *open_max CLEANUP_FREE = NULL;
	char *limits CLEANUP_FREE = NULL;
	json_object *list = js_array();
	uint64_t caps = caps_of(daemon);
	char path[64];

	/* Unknown counts as everything: most daemons are root with all. */
	if (caps && !(caps & 1ull << CAP_SYS_RESOURCE)) {
		snprintf(path, sizeof(path), "/proc/%d/limits", (int)daemon);
		(void)fd_read_file(AT_FDCWD, path, 65536, &limits, NULL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(given); i++) {
		int64_t value = LIMIT_DEFAULT, hard = hard_limit(limits, given[i].name);

		if (hard >= 0 && hard < value)
			value = hard;
		if (i == 0 &&
		    fd_read_file(AT_FDCWD, "/proc/sys/fs/nr_open", 64, &open_max, NULL) == 0 &&
		    atoll(open_max) > 0 && atoll(open_max) < value)
			value = atoll(open_max);
		js_push(list, rlimit(given[i].type, value));
	}
	return list;
}

json_object *spec_default(const char *rootfs, pid_t daemon)
{
	static const char *const namespaces[] = {
		"pid", "network", "ipc", "uts", "mount", "cgroup"
	};
	json_object *spec = js_object(), *process = js_object(), *root = js_object(),
		    *lin = js_object(), *pids = js_object();

	js_set_str(spec, "ociVersion", "1.2.0");
	js_set(spec, "process", process);
	js_set_bool(process, "terminal", false);
	js_set(process, "args", js_array());
	js_set(process, "env", js_array());
	js_set_str(process, "cwd", "/");
	js_set(process, "rlimits", default_rlimits(daemon));
	js_set_int(process, "oomScoreAdj", 0);
	js_set(spec, "root", root);
	js_set_str(root, "path", rootfs);
	js_set(spec, "mounts", default_mounts());
	js_set(spec, "linux", lin);
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		spec_ns_set(spec, namespaces[i], NULL);
	js_set(js_object_at(lin, "resources"), "devices", default_device_rules());
	js_set_int(pids, "limit", PIDS_LIMIT);
	js_set(js_object_at(lin, "resources"), "pids", pids);
	js_set(lin, "maskedPaths", js_strings(masked_paths));
	js_set(lin, "readonlyPaths", js_strings(readonly_paths));
	return spec;
}

static json_object *find_ns(json_object *list, const char *type, size_t *at)
{
	for (size_t i = 0; i < js_len(list); i++) {
		if (strcmp(js_str(js_at(list, i), "type"), type) == 0) {
			*at = i;
			return js_at(list, i);
		}
	}
	return NULL;
}

void spec_ns_set(json_object *spec, const char *type, const char *path)
{
	json_object *list = js_array_at(js_object_at(spec, "linux"), "namespaces");
	size_t at;
	json_object *ns = find_ns(list, type, &at);

	if (!ns) {
		ns = js_object();
		js_set_str(ns, "type", type);
		js_push(list, ns);
	}
	if (path)
		js_set_str(ns, "path", path);
	else
		json_object_object_del(ns, "path");
}

void spec_ns_drop(json_object *spec, const char *type)
{
	json_object *list = js_array_at(js_object_at(spec, "linux"), "namespaces");
	size_t at;

	if (find_ns(list, type, &at))
		json_object_array_del_idx(list, at, 1);
}

bool spec_ns_has(json_object *spec, const char *type)
{
	size_t at;

	return find_ns(js_get(spec, "linux.namespaces"), type, &at) != NULL;
}
