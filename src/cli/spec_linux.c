// SPDX-License-Identifier: Apache-2.0
/*
 * The rest of the spec: mounts, devices, resources, annotations, --privileged, seccomp
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/caps.h"
#include "cli/device.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/seccomp_default.h"
#include "cli/spec.h"
#include "cli/units.h"
#include "cli/volume.h"
#include "util/fd.h"
#include "util/json.h"

#define PROFILE_BYTES (4u << 20)

static void writable(json_object *mounts, const char *destination)
{
	for (size_t i = 0; i < js_len(mounts); i++) {
		json_object *options = js_get(js_at(mounts, i), "options");

		if (strcmp(js_str(js_at(mounts, i), "destination"), destination) != 0)
			continue;
		for (size_t k = 0; k < js_len(options); k++) {
			if (strcmp(json_object_get_string(js_at(options, k)), "ro") == 0)
				mem_need(json_object_array_put_idx(options, k, js_string("rw")) < 0
						 ? NULL
						 : options);
		}
	}
}

/* Everything of the host is open: what is left is the separation by namespaces. */
static int privileged(struct spec_build *b, json_object *lin, struct fault *f)
{
	json_object *rules = js_array();

	json_object_object_del(lin, "maskedPaths");
	json_object_object_del(lin, "readonlyPaths");
	json_object_object_del(lin, "seccomp");
	writable(js_array_at(b->spec, "mounts"), "/sys");
	writable(js_array_at(b->spec, "mounts"), "/sys/fs/cgroup");
	js_push(rules, device_rule(true, NULL, -1, -1, "rwm"));
	js_set(js_object_at(lin, "resources"), "devices", rules);
	return device_all(lin, f);
}

static int mounts(struct spec_build *b, struct fault *f)
{
	/* Where programs expect to write, also when the root is read-only. */
	static const char *const scratch[] = { "/run", "/tmp", "/var/tmp" };
	json_object *added CLEANUP_JSON = js_array();
	const char *value;
	size_t at = 0;
	int r = 0;

	if (args_flag(b->cli, "read-only")) {
		static const char *const options[] = { "nosuid", "nodev", "mode=1777", NULL };

		js_set_bool(js_object_at(b->spec, "root"), "readonly", true);
		for (size_t i = 0; i < ARRAY_SIZE(scratch); i++) {
			if (!volume_has(js_get(b->spec, "mounts"), scratch[i]))
				js_push(added, volume_mount(scratch[i], "tmpfs", "tmpfs", options));
		}
	}
	while (r == 0 && (value = args_each(b->cli, "tmpfs", &at)))
		r = volume_tmpfs(added, value, f);
	at = 0;
	while (r == 0 && (value = args_each(b->cli, "volume", &at)))
		r = volume_bind(added, value, f);
	if (r == 0 && js_len(added))
		volume_merge(js_array_at(b->spec, "mounts"), added);
	return r;
}

/* Whether the kernel counts swap for groups: else a limit on it would be refused. */
static bool swap_is_counted(void)
{
	glob_t g = { 0 };
	bool found;

	if (access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0)
		return true;
	found = glob("/sys/fs/cgroup/*/memory.swap.max", GLOB_NOSORT, NULL, &g) == 0;
	globfree(&g);
	return found;
}

static int resources(struct spec_build *b, json_object *lin, struct fault *f)
{
	const char *memory = args_get(b->cli, "memory"), *cpus = args_get(b->cli, "cpus"),
		   *pids = args_get(b->cli, "pids-limit");
	int64_t n;
	int r;

	if (memory) {
		json_object *o = js_object_at(js_object_at(lin, "resources"), "memory");

		r = units_size(memory, &n, f);
		if (r == 0 && n < 1 << 19)
			r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				      "%s is too little to run anything; at least 512k", memory);
		if (r < 0) {
			fault_prefix(f, "--memory");
			return r;
		}
		js_set_int(o, "limit", n);
		/* As much swap again, as podman has it. */
		if (n < INT64_MAX / 2 && swap_is_counted())
			js_set_int(o, "swap", 2 * n);
	}
	if (cpus) {
		json_object *o = js_object_at(js_object_at(lin, "resources"), "cpu");

		r = units_cpus(cpus, &n, f);
		if (r < 0) {
			fault_prefix(f, "--cpus");
			return r;
		}
		js_set_int(o, "quota", n);
		js_set_int(o, "period", UNITS_CPU_PERIOD);
	}
	if (pids) {
		r = units_int(pids, -1, 4194304, &n, f);
		if (r < 0) {
			fault_prefix(f, "--pids-limit");
			return r;
		}
		if (n <= 0)
			json_object_object_del(js_object_at(lin, "resources"), "pids");
		else
			js_set_int(js_object_at(js_object_at(lin, "resources"), "pids"), "limit",
				   n);
	}
	return 0;
}

static int annotations(struct spec_build *b, struct fault *f)
{
	const char *value = args_get(b->cli, "stop-signal");
	size_t at = 0;
	char name[16];
	int sig = 0, r;

	if (value) {
		r = units_signal(value, &sig, f);
		if (r < 0)
			return r;
		js_set_str(js_object_at(b->spec, "annotations"), SPEC_STOP_SIGNAL,
			   units_signal_name(sig, name));
	} else if (*js_str(b->image, "StopSignal")) {
		if (units_signal(js_str(b->image, "StopSignal"), &sig, NULL) == 0)
			js_set_str(js_object_at(b->spec, "annotations"), SPEC_STOP_SIGNAL,
				   units_signal_name(sig, name));
		else
			cli_warn("the image's stop signal \"%s\" is none and was left out",
				 js_str(b->image, "StopSignal"));
	}
	while ((value = args_each(b->cli, "annotation", &at))) {
		size_t n = strcspn(value, "=");
		char *key CLEANUP_FREE = mem_strndup(value, n);

		if (!n || !value[n])
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--annotation \"%s\" is not KEY=VALUE", value);
		js_set_str(js_object_at(b->spec, "annotations"), key, value + n + 1);
	}
	return 0;
}

int spec_build_linux(struct spec_build *b, struct fault *f)
{
	json_object *lin = js_object_at(b->spec, "linux");
	const char *value;
	size_t at = 0;
	int r = 0;

	if (args_flag(b->cli, "privileged"))
		r = privileged(b, lin, f);
	if (r == 0)
		r = mounts(b, f);
	while (r == 0 && (value = args_each(b->cli, "device", &at)))
		r = device_option(lin, value, f);
	if (r == 0)
		r = resources(b, lin, f);
	return r < 0 ? r : annotations(b, f);
}

int spec_build_seccomp(struct spec_build *b, struct fault *f)
{
	const char *value = args_get(b->cli, "seccomp");
	json_object *lin = js_object_at(b->spec, "linux");
	json_object *profile CLEANUP_JSON = NULL;
	json_object *resolved = NULL;
	int r;

	if (!value && (b->from_bundle || args_flag(b->cli, "privileged")))
		return 0;
	if (!value || strcmp(value, "default") == 0) {
		js_set(lin, "seccomp", seccomp_default(b->caps));
		return 0;
	}
	if (strcmp(value, "unconfined") == 0) {
		json_object_object_del(lin, "seccomp");
		return 0;
	}
	r = json_parse_input(value, PROFILE_BYTES, &profile, f);
	if (r == 0)
		r = seccomp_resolve(profile, b->caps, &resolved, f);
	if (r < 0) {
		fault_prefix(f, "--seccomp %s", value);
		return r;
	}
	js_set(lin, "seccomp", resolved);
	return 0;
}

int spec_build(struct spec_build *b, struct fault *f)
{
	int r;

	r = spec_build_linux(b, f);
	if (r == 0)
		r = spec_build_namespaces(b, f);
	if (r == 0)
		r = spec_build_process(b, f);
	return r < 0 ? r : spec_build_seccomp(b, f);
}

/*
 * An executable ELF file of this machine's kind that needs no loader: it runs in any root file
 * system.
 */
static bool is_static(const char *path)
{
	int fd CLEANUP_CLOSE = open(path, O_RDONLY | O_CLOEXEC);
	ElfW(Ehdr) header;

	if (fd < 0 || access(path, X_OK) < 0 ||
	    pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_phentsize != sizeof(ElfW(Phdr)))
		return false;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		ElfW(Phdr) segment;

		if (pread(fd, &segment, sizeof(segment),
			  (off_t)(header.e_phoff + i * sizeof(segment))) != sizeof(segment) ||
		    segment.p_type == PT_INTERP)
			return false;
	}
	return true;
}

int spec_find_init(char **path, struct fault *f)
{
	static const char *const programs[] = { "catatonit", "tini-static", "tini", "docker-init" };
	static const char *const folders[] = { "/usr/libexec/podman",
					       "/usr/libexec/catatonit",
					       "/usr/libexec/docker",
					       "/usr/local/bin",
					       "/usr/bin",
					       "/usr/sbin",
					       "/sbin",
					       "/bin" };
	const char *given = getenv("DAVIT_INIT_PATH");
	char *search CLEANUP_FREE = mem_strdup(getenv("PATH"));
	char *folder, *save = NULL;

	if (given && *given) {
		if (!is_static(given))
			return fault_set(f, FAULT_NOT_FOUND, 0,
					 "DAVIT_INIT_PATH: %s is no static program", given);
		*path = mem_strdup(given);
		return 0;
	}
	for (size_t p = 0; p < ARRAY_SIZE(programs); p++) {
		for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
			*path = mem_printf("%s/%s", folders[i], programs[p]);
			if (is_static(*path))
				return 0;
			free(*path);
		}
	}
	for (folder = search ? strtok_r(search, ":", &save) : NULL; folder;
	     folder = strtok_r(NULL, ":", &save)) {
		for (size_t p = 0; p < ARRAY_SIZE(programs); p++) {
			*path = mem_printf("%s/%s", folder, programs[p]);
			if (*folder == '/' && is_static(*path))
				return 0;
			free(*path);
		}
	}
	*path = NULL;
	return fault_set(
		f, FAULT_NOT_FOUND, 0,
		"--init needs a static init program and this host has none; install catatonit or tini, or name one in "
		"DAVIT_INIT_PATH");
}
