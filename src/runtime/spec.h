// SPDX-License-Identifier: Apache-2.0
/*
 * OCI runtime-spec 1.3, Linux: config.json as structs
 *
 * Read from JSON, checked for shape, type and range; the fault names the field's path ("linux.resources.pids.limit").
 * All memory is the spec's; spec_free frees it all. Strings are NUL-terminated and have no NUL inside. Absent strings are NULL,
 * absent arrays have n 0, absent numbers their documented absent value. Fields that this file does not know are
 * ignored here (they are kept in the JSON text, which the container record holds); what is known and cannot be done is refused
 * by who would have to do it.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/fault.h"

#define SPEC_ABSENT INT64_MIN /* an optional number that was not given */

struct spec_strs {
	char **v; /* NULL-terminated as well */
	size_t n;
};

struct spec_idmap {
	uint32_t container_id, host_id, size;
};
struct spec_idmaps {
	struct spec_idmap *v;
	size_t n;
};

struct spec_rlimit {
	int resource; /* RLIMIT_… */
	uint64_t soft, hard;
};

struct spec_caps { /* bit masks; given says whether `capabilities` was there at all */
	bool given;
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct spec_scheduler {
	bool given;
	uint32_t policy; /* SCHED_… */
	int32_t nice, priority;
	uint64_t flags; /* SCHED_FLAG_… */
	uint64_t runtime, deadline, period; /* ns */
};

struct spec_process {
	bool terminal;
	uint16_t width, height; /* consoleSize, 0 when not given */
	uint32_t uid, gid;
	int64_t umask; /* SPEC_ABSENT */
	gid_t *additional_gids;
	size_t n_additional_gids;
	struct spec_strs args, env;
	char *cwd;
	struct spec_caps caps;
	struct spec_rlimit *rlimits;
	size_t n_rlimits;
	bool no_new_privileges;
	char *apparmor_profile, *selinux_label;
	int64_t oom_score_adj; /* SPEC_ABSENT */
	int64_t io_priority; /* ioprio_set's value (class << 13 | priority), SPEC_ABSENT */
	struct spec_scheduler scheduler;
	/* v[0] initial, v[1] final; n 0 when not given; either may be "" */
	struct spec_strs exec_cpu_affinity;
};

struct spec_mount {
	char *destination, *type, *source; /* type and source may be NULL */
	struct spec_strs options;
	struct spec_idmaps uid_mappings, gid_mappings;
};

struct spec_hook {
	char *path;
	struct spec_strs args, env;
	int64_t timeout; /* seconds, SPEC_ABSENT */
};
enum spec_hook_kind {
	SPEC_HOOK_PRESTART,
	SPEC_HOOK_CREATE_RUNTIME,
	SPEC_HOOK_CREATE_CONTAINER,
	SPEC_HOOK_START_CONTAINER,
	SPEC_HOOK_POSTSTART,
	SPEC_HOOK_POSTSTOP,
	SPEC_HOOK_KINDS,
};
struct spec_hooks {
	struct spec_hook *v;
	size_t n;
};

enum spec_ns_kind {
	SPEC_NS_PID,
	SPEC_NS_NETWORK,
	SPEC_NS_MOUNT,
	SPEC_NS_IPC,
	SPEC_NS_UTS,
	SPEC_NS_USER,
	SPEC_NS_CGROUP,
	SPEC_NS_TIME,
	SPEC_NS_KINDS,
};
struct spec_ns {
	bool given; /* listed at all: else the host's is kept */
	char *path; /* NULL: a new one */
};

struct spec_device {
	char *path;
	char type; /* b c u p */
	int64_t major, minor;
	int64_t file_mode; /* SPEC_ABSENT: 0666 */
	int64_t uid, gid; /* SPEC_ABSENT: 0 */
};

struct spec_device_rule { /* linux.resources.devices */
	bool allow;
	char type; /* a b c */
	int64_t major, minor; /* SPEC_ABSENT: any */
	bool read, write, mknod;
};

struct spec_net_device { /* linux.netDevices */
	char *host_name, *name; /* name NULL: as on the host */
};

struct spec_sysctl {
	char *key, *value;
};

struct spec {
	char *oci_version;
	struct spec_process process; /* process.args.n is 0 when there is no process */
	bool has_process;
	char *root_path; /* NULL when there is no root */
	bool root_readonly;
	char *hostname, *domainname;
	struct spec_mount *mounts;
	size_t n_mounts;
	struct spec_hooks hooks[SPEC_HOOK_KINDS];
	struct spec_strs annotations; /* key, value, key, value … */

	struct spec_ns ns[SPEC_NS_KINDS];
	struct spec_idmaps uid_mappings, gid_mappings;
	struct {
		bool given;
		int64_t secs;
		uint32_t nanosecs;
	} time_offsets[2]; /* 0 monotonic, 1 boottime */
	struct spec_device *devices;
	size_t n_devices;
	struct spec_net_device *net_devices;
	size_t n_net_devices;
	char *cgroups_path;
	/* linux.resources, borrowed from the spec's own reference; NULL when absent */
	json_object *resources;
	struct spec_device_rule *device_rules;
	size_t n_device_rules;
	json_object *seccomp; /* linux.seccomp or NULL; runtime/seccomp.h reads it */
	/* MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE (| MS_REC), 0 when not given */
	unsigned long rootfs_propagation;
	struct spec_strs masked_paths, readonly_paths;
	char *mount_label;
	struct spec_sysctl *sysctl;
	size_t n_sysctl;
	int64_t personality; /* PER_… value, SPEC_ABSENT */
	struct {
		bool given;
		int mode; /* MPOL_… with MPOL_F_… or'ed in */
		uint64_t nodes[16]; /* bit mask, 1,024 nodes */
	} memory_policy;
	bool has_intel_rdt;

	json_object *json; /* the whole, owned */
};

/*
 * json is borrowed (the spec takes a reference). The spec owns everything it points to. Where an object should be and an
 * empty array is, as some msgpack clients send it, an empty object is put in its place in the tree. json-c's
 * reference counts are not atomic: a tree and its spec belong to one thread at a time.
 */
int spec_parse(json_object *json, struct spec **out, struct fault *f);
int spec_parse_text(const char *text, size_t size, struct spec **out, struct fault *f);
void spec_free(struct spec *s);
/* An OCI `process` object alone, for exec: a spec in which only process is set. */
int spec_parse_process(json_object *json, struct spec **out, struct fault *f);
/* Shape, types and ranges of an OCI LinuxResources object alone, for an update. */
int spec_check_resources(json_object *resources, struct fault *f);

const char *spec_ns_name(enum spec_ns_kind kind); /* "pid", "network", … as in the spec */
const char *spec_ns_proc(enum spec_ns_kind kind); /* "pid", "net", "mnt", … as in /proc/PID/ns */
int spec_ns_flag(enum spec_ns_kind kind); /* CLONE_NEW… */
const char *spec_hook_name(enum spec_hook_kind kind); /* "createRuntime" … */
/* "CAP_SYS_ADMIN" (any case) to its number, or -1. A number may be beyond the running kernel's last. */
int spec_cap_by_name(const char *name);
