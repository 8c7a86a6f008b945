// SPDX-License-Identifier: Apache-2.0
/*
 * Names of the runtime-spec and what they are to the kernel
 *
 * Some values are newer than the headers of the oldest system that this is built on, and the kernel's
 * and the C library's headers of one subject cannot always be included together; such values are
 * written out here, as they are part of the kernel's interface and never change.
 */
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include "runtime/spec_internal.h"
#include "util/cleanup.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static const struct {
	const char *name, *proc;
	int flag;
} namespaces[SPEC_NS_KINDS] = {
	[SPEC_NS_PID] = { "pid", "pid", CLONE_NEWPID },
	[SPEC_NS_NETWORK] = { "network", "net", CLONE_NEWNET },
	[SPEC_NS_MOUNT] = { "mount", "mnt", CLONE_NEWNS },
	[SPEC_NS_IPC] = { "ipc", "ipc", CLONE_NEWIPC },
	[SPEC_NS_UTS] = { "uts", "uts", CLONE_NEWUTS },
	[SPEC_NS_USER] = { "user", "user", CLONE_NEWUSER },
	[SPEC_NS_CGROUP] = { "cgroup", "cgroup", CLONE_NEWCGROUP },
	[SPEC_NS_TIME] = { "time", "time", CLONE_NEWTIME },
};

static const char *const hooks[SPEC_HOOK_KINDS] = {
	[SPEC_HOOK_PRESTART] = "prestart",
	[SPEC_HOOK_CREATE_RUNTIME] = "createRuntime",
	[SPEC_HOOK_CREATE_CONTAINER] = "createContainer",
	[SPEC_HOOK_START_CONTAINER] = "startContainer",
	[SPEC_HOOK_POSTSTART] = "poststart",
	[SPEC_HOOK_POSTSTOP] = "poststop",
};

/* In the kernel's order, without "CAP_". */
static const char *const capabilities[] = {
	"CHOWN",
	"DAC_OVERRIDE",
	"DAC_READ_SEARCH",
	"FOWNER",
	"FSETID",
	"KILL",
	"SETGID",
	"SETUID",
	"SETPCAP",
	"LINUX_IMMUTABLE",
	"NET_BIND_SERVICE",
	"NET_BROADCAST",
	"NET_ADMIN",
	"NET_RAW",
	"IPC_LOCK",
	"IPC_OWNER",
	"SYS_MODULE",
	"SYS_RAWIO",
	"SYS_CHROOT",
	"SYS_PTRACE",
	"SYS_PACCT",
	"SYS_ADMIN",
	"SYS_BOOT",
	"SYS_NICE",
	"SYS_RESOURCE",
	"SYS_TIME",
	"SYS_TTY_CONFIG",
	"MKNOD",
	"LEASE",
	"AUDIT_WRITE",
	"AUDIT_CONTROL",
	"SETFCAP",
	"MAC_OVERRIDE",
	"MAC_ADMIN",
	"SYSLOG",
	"WAKE_ALARM",
	"BLOCK_SUSPEND",
	"AUDIT_READ",
	"PERFMON",
	"BPF",
	"CHECKPOINT_RESTORE",
};
_Static_assert(ARRAY_SIZE(capabilities) >= CAP_LAST_CAP + 1, "a capability without a name");

const struct spec_word spec_rlimit_words[] = {
	{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },
	{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_AS", RLIMIT_AS },
	{ "RLIMIT_CPU", RLIMIT_CPU },
	{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },
	{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },
	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },
	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },
	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING },
	{ "RLIMIT_STACK", RLIMIT_STACK },
};
const size_t spec_rlimit_count = ARRAY_SIZE(spec_rlimit_words);

const struct spec_word spec_namespace_words[] = {
	{ "pid", SPEC_NS_PID },	  { "network", SPEC_NS_NETWORK }, { "mount", SPEC_NS_MOUNT },
	{ "ipc", SPEC_NS_IPC },	  { "uts", SPEC_NS_UTS },	  { "user", SPEC_NS_USER },
	{ "time", SPEC_NS_TIME }, { "cgroup", SPEC_NS_CGROUP },
};
const size_t spec_namespace_count = ARRAY_SIZE(spec_namespace_words);

/* The spec has the first four; runtimes have always taken the recursive ones too. */
const struct spec_word spec_propagation_words[] = {
	{ "shared", MS_SHARED },
	{ "slave", MS_SLAVE },
	{ "private", MS_PRIVATE },
	{ "unbindable", MS_UNBINDABLE },
	{ "rshared", MS_SHARED | MS_REC },
	{ "rslave", MS_SLAVE | MS_REC },
	{ "rprivate", MS_PRIVATE | MS_REC },
	{ "runbindable", MS_UNBINDABLE | MS_REC },
};
const size_t spec_propagation_count = ARRAY_SIZE(spec_propagation_words);

/* sched(7), include/uapi/linux/sched.h */
const struct spec_word spec_policy_words[] = {
	{ "SCHED_OTHER", 0 }, { "SCHED_FIFO", 1 }, { "SCHED_RR", 2 },	    { "SCHED_BATCH", 3 },
	{ "SCHED_ISO", 4 },   { "SCHED_IDLE", 5 }, { "SCHED_DEADLINE", 6 },
};
const size_t spec_policy_count = ARRAY_SIZE(spec_policy_words);

const struct spec_word spec_policy_flag_words[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", 0x01 },  { "SCHED_FLAG_RECLAIM", 0x02 },
	{ "SCHED_FLAG_DL_OVERRUN", 0x04 },     { "SCHED_FLAG_KEEP_POLICY", 0x08 },
	{ "SCHED_FLAG_KEEP_PARAMS", 0x10 },    { "SCHED_FLAG_UTIL_CLAMP_MIN", 0x20 },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", 0x40 },
};
const size_t spec_policy_flag_count = ARRAY_SIZE(spec_policy_flag_words);

/* set_mempolicy(2), include/uapi/linux/mempolicy.h */
const struct spec_word spec_mempolicy_words[] = {
	{ "MPOL_DEFAULT", 0 },
	{ "MPOL_PREFERRED", 1 },
	{ "MPOL_BIND", 2 },
	{ "MPOL_INTERLEAVE", 3 },
	{ "MPOL_LOCAL", 4 },
	{ "MPOL_PREFERRED_MANY", 5 },
	{ "MPOL_WEIGHTED_INTERLEAVE", 6 },
};
const size_t spec_mempolicy_count = ARRAY_SIZE(spec_mempolicy_words);

const struct spec_word spec_mempolicy_flag_words[] = {
	{ "MPOL_F_NUMA_BALANCING", 1 << 13 },
	{ "MPOL_F_RELATIVE_NODES", 1 << 14 },
	{ "MPOL_F_STATIC_NODES", 1 << 15 },
};
const size_t spec_mempolicy_flag_count = ARRAY_SIZE(spec_mempolicy_flag_words);

const char *spec_ns_name(enum spec_ns_kind kind)
{
	return namespaces[kind].name;
}

const char *spec_ns_proc(enum spec_ns_kind kind)
{
	return namespaces[kind].proc;
}

int spec_ns_flag(enum spec_ns_kind kind)
{
	return namespaces[kind].flag;
}

const char *spec_hook_name(enum spec_hook_kind kind)
{
	return hooks[kind];
}

int spec_cap_by_name(const char *name)
{
	if (strncasecmp(name, "CAP_", 4))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++)
		if (!strcasecmp(capabilities[i], name + 4))
			return (int)i;
	return -1;
}
