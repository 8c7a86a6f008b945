// SPDX-License-Identifier: Apache-2.0
/*
 * Namespaces: --network, --pid, --ipc, --hostname
 *
 * `container:NAME` becomes a path below /proc of that container's init as the daemon tells it; the
 * daemon opens it a moment later, before it makes the new container. Mounts that belong to a
 * namespace follow it: the host's /dev/shm and /dev/mqueue with the host's IPC.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/envlist.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/spec.h"
#include "cli/volume.h"
#include "util/fd.h"

static const char container_prefix[] = "container:";

static int container_ns(struct cli *cli, const char *name, const char *proc_name, char **path,
			struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	int64_t pid;
	int r;

	r = cli_call(cli, "tasks.get", cli_params(name, NULL), &answer, f);
	if (r < 0)
		return r;
	pid = js_int(answer, "process.pid", 0);
	if (pid <= 0 || strcmp(js_str(answer, "process.status"), "stopped") == 0)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0, "container %s does not run",
				 name);
	*path = mem_printf("/proc/%lld/ns/%s", (long long)pid, proc_name);
	return 0;
}

/*
 * host, private, container:NAME, ns:PATH and absolute paths. Answers 1 when the value is none of
 * these.
 */
static int common(struct spec_build *b, const char *value, const char *type, const char *proc_name,
		  struct fault *f)
{
	char *path CLEANUP_FREE = NULL;
	int r;

	if (strcmp(value, "host") == 0) {
		spec_ns_drop(b->spec, type);
	} else if (strcmp(value, "private") == 0) {
		spec_ns_set(b->spec, type, NULL);
	} else if (strncmp(value, container_prefix, strlen(container_prefix)) == 0) {
		r = container_ns(b->cli, value + strlen(container_prefix), proc_name, &path, f);
		if (r < 0)
			return r;
		spec_ns_set(b->spec, type, path);
	} else if (strncmp(value, "ns:", 3) == 0 || *value == '/') {
		const char *given = *value == '/' ? value : value + 3;

		if (*given != '/' || access(given, F_OK) < 0)
			return fault_sys(f, *given == '/' ? errno : EINVAL,
					 "looking for the namespace", given);
		spec_ns_set(b->spec, type, given);
	} else {
		return 1;
	}
	return 0;
}

static int unknown(const char *option, const char *value, const char *known, struct fault *f)
{
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "--%s \"%s\" is none of %s", option, value,
			 known);
}

/*
 * With the host's network the host's resolver is what the container needs. A name that is a
 * dangling link in the container's root is left alone: a mount cannot stand on it.
 */
static void host_resolver(struct spec_build *b)
{
	static const char *const files[] = { "/etc/resolv.conf", "/etc/hosts" };
	json_object *mounts = js_array_at(b->spec, "mounts");

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		static const char *const options[] = { "rbind", "rprivate", "ro", "nosuid",
						       "nodev", "noexec",   NULL };
		int at CLEANUP_CLOSE = -1, link CLEANUP_CLOSE = -1;

		if (b->rootfs >= 0) {
			at = fd_open_in_root(b->rootfs, files[i], O_PATH, 0);
			link = fd_open_in_root(b->rootfs, files[i], O_PATH | O_NOFOLLOW, 0);
		}
		if (access(files[i], R_OK) < 0 || (at < 0 && link >= 0) ||
		    volume_has(mounts, files[i]))
			continue;
		js_push(mounts, volume_mount(files[i], "bind", files[i], options));
	}
}

static int network(struct spec_build *b, struct fault *f)
{
	const char *value = args_get(b->cli, "network");
	int r;

	if (!value)
		return 0;
	if (strcmp(value, "none") == 0) {
		spec_ns_set(b->spec, "network", NULL);
		return 0;
	}
	r = common(b, value, "network", "net", f);
	if (r == 1)
		return unknown("network", value, "none, host, container:NAME or a path", f);
	if (r == 0 && strcmp(value, "host") == 0 && !b->from_bundle)
		host_resolver(b);
	return r;
}

static void drop_mount(json_object *mounts, const char *destination)
{
	for (size_t i = js_len(mounts); i > 0; i--) {
		if (strcmp(js_str(js_at(mounts, i - 1), "destination"), destination) == 0)
			json_object_array_del_idx(mounts, i - 1, 1);
	}
}

static int ipc(struct spec_build *b, struct fault *f)
{
	static const char *const options[] = {
		"bind", "rprivate", "nosuid", "noexec", "nodev", NULL
	};
	static const char *const shared[] = { "/dev/shm", "/dev/mqueue" };
	const char *value = args_get(b->cli, "ipc");
	json_object *mounts = js_array_at(b->spec, "mounts");
	int r;

	if (!value)
		return 0;
	if (strcmp(value, "shareable") == 0 || strcmp(value, "none") == 0) {
		spec_ns_set(b->spec, "ipc", NULL);
		if (*value == 'n')
			drop_mount(mounts, "/dev/shm");
		return 0;
	}
	r = common(b, value, "ipc", "ipc", f);
	if (r == 1)
		return unknown("ipc", value,
			       "private, shareable, none, host, container:NAME or a path", f);
	if (r == 0 && strcmp(value, "host") == 0) {
		for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
			drop_mount(mounts, shared[i]);
			if (access(shared[i], F_OK) == 0)
				js_push(mounts,
					volume_mount(shared[i], "bind", shared[i], options));
		}
	}
	return r;
}

static int pid(struct spec_build *b, struct fault *f)
{
	const char *value = args_get(b->cli, "pid");
	int r = value ? common(b, value, "pid", "pid", f) : 0;

	return r == 1 ? unknown("pid", value, "private, host, container:NAME or a path", f) : r;
}

/*
 * The name given, the host's with the host's network (as podman has it), else the container's with
 * '-' for what a host name must not have.
 */
static int hostname(struct spec_build *b, struct fault *f)
{
	const char *value = args_get(b->cli, "hostname");
	char name[HOST_NAME_MAX + 1] = "";

	if (!value && b->from_bundle)
		return 0;
	if (!spec_ns_has(b->spec, "uts"))
		return value ? fault_set(
				       f, FAULT_INVALID_ARGUMENT, 0,
				       "--hostname needs an own UTS namespace, which the bundle does not ask for")
			     : 0;
	if (value) {
		if (!*value || strlen(value) > HOST_NAME_MAX)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "a host name has 1 to %d characters", HOST_NAME_MAX);
		snprintf(name, sizeof(name), "%s", value);
	} else if (!spec_ns_has(b->spec, "network")) {
		gethostname(name, sizeof(name) - 1);
	} else {
		snprintf(name, sizeof(name), "%s", b->id);
		for (char *p = name; *p; p++) {
			if (*p == '_' || (*p == '.' && !p[1]))
				*p = '-';
		}
	}
	js_set_str(b->spec, "hostname", name);
	return 0;
}

int spec_build_namespaces(struct spec_build *b, struct fault *f)
{
	int r;

	r = pid(b, f);
	if (r == 0)
		r = ipc(b, f);
	if (r == 0)
		r = network(b, f);
	return r < 0 ? r : hostname(b, f);
}
