// SPDX-License-Identifier: Apache-2.0
/*
 * The default seccomp profile
 *
 * A list of what is allowed, after the profile that podman, CRI-O and Buildah ship
 * (containers-common's seccomp.json), with the calls that the kernel has got since. Everything else
 * answers ENOSYS, so that programs fall back as they would on an older kernel; calls that exist and
 * are refused answer EPERM. Rows that hang on a capability or an architecture are resolved here,
 * since an OCI spec knows neither.
 */
#include "cli/seccomp_default.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/socket.h>

#include "cli/js.h"
#include "cli/mem.h"

#define CAP(cap) (1ull << (cap))

enum {
	ARCH_AMD64 = 1 << 0,
	ARCH_X86 = 1 << 1,
	ARCH_ARM = 1 << 2,
	ARCH_ARM64 = 1 << 3,
	ARCH_PPC64 = 1 << 4,
	ARCH_S390 = 1 << 5,
};

enum op { EQ, NE };

struct rule {
	const char *names; /* separated by blanks */
	int err; /* 0: allowed; else the errno it answers */
	unsigned arches; /* only on these; 0: on all */
	uint64_t needs; /* allowed with this capability, EPERM without */
	uint64_t with, without; /* the row is there only with or without this capability */
	struct {
		unsigned index;
		uint64_t value;
		enum op op;
	} args[2];
	unsigned n_args;
};

/* clang-format off */
static const struct rule rules[] = {
	{ .names =
			"bdflush io_pgetevents kexec_file_load kexec_load migrate_pages move_pages "
			"nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname "
			"pciconfig_iobase pciconfig_read pciconfig_write sgetmask ssetmask "
			"swapcontext swapoff swapon sysfs uselib userfaultfd ustat vm86 vm86old "
			"vmsplice",
	  .err = EPERM },
	{ .names =
			"_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat "
			"capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64 "
			"clock_getres clock_getres_time64 clock_gettime clock_gettime64 "
			"clock_nanosleep clock_nanosleep_time64 clone clone3 close close_range "
			"connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 "
			"epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old "
			"eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 "
			"fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat "
			"fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr "
			"flistxattr flock fork fremovexattr fsconfig fsetxattr fsmount fsopen "
			"fspick fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate "
			"ftruncate64 futex futex_requeue futex_time64 futex_wait futex_wake "
			"futimesat get_mempolicy get_robust_list get_thread_area getcpu getcwd "
			"getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 "
			"getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid "
			"getpriority getrandom getresgid getresgid32 getresuid getresuid32 "
			"getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday "
			"getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init "
			"inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_setup "
			"io_submit ioctl ioprio_get ioprio_set ipc keyctl kill landlock_add_rule "
			"landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr "
			"link linkat listen listmount listxattr listxattrat llistxattr lremovexattr "
			"lseek lsetxattr lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat "
			"lstat64 madvise map_shadow_stack mbind membarrier memfd_create "
			"memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall "
			"mmap mmap2 mount mount_setattr move_mount mprotect mq_getsetattr mq_notify "
			"mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
			"mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd "
			"msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat "
			"open open_tree open_tree_attr openat openat2 pause pidfd_getfd pidfd_open "
			"pidfd_send_signal pipe pipe2 pivot_root pkey_alloc pkey_free pkey_mprotect "
			"poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 "
			"process_mrelease process_vm_readv process_vm_writev pselect6 "
			"pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readdir "
			"readlink readlinkat readv reboot recv recvfrom recvmmsg recvmmsg_time64 "
			"recvmsg remap_file_pages removexattr removexattrat rename renameat "
			"renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending "
			"rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
			"rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max "
			"sched_get_priority_min sched_getaffinity sched_getattr sched_getparam "
			"sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 "
			"sched_setaffinity sched_setattr sched_setparam sched_setscheduler "
			"sched_yield seccomp select semctl semget semop semtimedop "
			"semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto "
			"set_mempolicy set_mempolicy_home_node set_robust_list set_thread_area "
			"set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 "
			"setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 "
			"setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit "
			"setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt "
			"shmget shutdown sigaction sigaltstack signal signalfd signalfd4 sigpending "
			"sigprocmask sigreturn sigsuspend socketcall socketpair splice stat stat64 "
			"statfs statfs64 statmount statx symlink symlinkat sync sync_file_range "
			"syncfs syscall sysinfo syslog tee tgkill time timer_create timer_delete "
			"timer_getoverrun timer_gettime timer_gettime64 timer_settime "
			"timer_settime64 timerfd timerfd_create timerfd_gettime timerfd_gettime64 "
			"timerfd_settime timerfd_settime64 times tkill truncate truncate64 "
			"ugetrlimit umask umount umount2 uname unlink unlinkat unshare utime "
			"utimensat utimensat_time64 utimes vfork wait4 waitid waitpid write writev" },
	{ .names = "personality", .args = { { 0, 0, EQ } }, .n_args = 1 },
	{ .names = "personality", .args = { { 0, 8, EQ } }, .n_args = 1 },
	{ .names = "personality", .args = { { 0, 131072, EQ } }, .n_args = 1 },
	{ .names = "personality", .args = { { 0, 131080, EQ } }, .n_args = 1 },
	{ .names = "personality", .args = { { 0, 0xffffffff, EQ } }, .n_args = 1 },
	{ .names = "sync_file_range2", .arches = ARCH_PPC64 },
	{ .names =
			"arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls "
			"sync_file_range2",
	  .arches = ARCH_ARM | ARCH_ARM64 },
	{ .names = "arch_prctl", .arches = ARCH_AMD64 },
	{ .names = "modify_ldt", .arches = ARCH_AMD64 | ARCH_X86 },
	{ .names = "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr", .arches = ARCH_S390 },
	{ .names = "open_by_handle_at", .needs = CAP(CAP_DAC_READ_SEARCH) },
	{ .names =
			"bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname "
			"sethostname setns",
	  .needs = CAP(CAP_SYS_ADMIN) },
	{ .names = "chroot", .needs = CAP(CAP_SYS_CHROOT) },
	{ .names = "delete_module finit_module init_module query_module",
	  .needs = CAP(CAP_SYS_MODULE) },
	{ .names = "acct", .needs = CAP(CAP_SYS_PACCT) },
	{ .names = "kcmp process_madvise", .needs = CAP(CAP_SYS_PTRACE) },
	{ .names = "ioperm iopl", .needs = CAP(CAP_SYS_RAWIO) },
	{ .names = "clock_settime clock_settime64 settimeofday stime", .needs = CAP(CAP_SYS_TIME) },
	{ .names = "vhangup", .needs = CAP(CAP_SYS_TTY_CONFIG) },
	{ .names = "socket",
	  .err = EINVAL,
	  .without = CAP(CAP_AUDIT_WRITE),
	  .args = { { 0, AF_NETLINK, EQ }, { 2, NETLINK_AUDIT, EQ } },
	  .n_args = 2 },
	{ .names = "socket",
	  .without = CAP(CAP_AUDIT_WRITE), .args = { { 2, NETLINK_AUDIT, NE } }, .n_args = 1 },
	{ .names = "socket",
	  .without = CAP(CAP_AUDIT_WRITE), .args = { { 0, AF_NETLINK, NE } }, .n_args = 1 },
	{ .names = "socket", .with = CAP(CAP_AUDIT_WRITE) },
};
/* clang-format on */

/* This machine's architecture, and those whose programs it runs too. */
#if defined(__x86_64__)
#define THIS_ARCH (ARCH_AMD64 | ARCH_X86)
static const char *const arches[] = { "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", NULL };
#elif defined(__aarch64__)
#define THIS_ARCH (ARCH_ARM64 | ARCH_ARM)
static const char *const arches[] = { "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", NULL };
#elif defined(__powerpc64__)
#define THIS_ARCH ARCH_PPC64
static const char *const arches[] = { "SCMP_ARCH_PPC64LE", NULL };
#elif defined(__s390x__)
#define THIS_ARCH ARCH_S390
static const char *const arches[] = { "SCMP_ARCH_S390X", "SCMP_ARCH_S390", NULL };
#elif defined(__riscv) && __riscv_xlen == 64
#define THIS_ARCH 0
static const char *const arches[] = { "SCMP_ARCH_RISCV64", NULL };
#else
#define THIS_ARCH 0
static const char *const arches[] = { "SCMP_ARCH_NATIVE", NULL };
#endif

static json_object *names_of(const char *text)
{
	char *copy CLEANUP_FREE = mem_strdup(text);
	json_object *names = js_array();
	char *name, *save = NULL;

	for (name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save))
		js_push_str(names, name);
	return names;
}

static json_object *syscall_of(const struct rule *r, uint64_t caps)
{
	int err = r->needs && !(caps & r->needs) ? EPERM : r->err;
	json_object *o = js_object();

	js_set(o, "names", names_of(r->names));
	js_set_str(o, "action", err ? "SCMP_ACT_ERRNO" : "SCMP_ACT_ALLOW");
	if (err)
		js_set_int(o, "errnoRet", err);
	for (unsigned i = 0; i < r->n_args; i++) {
		json_object *arg = js_object();

		js_set_int(arg, "index", r->args[i].index);
		js_set_int(arg, "value", (int64_t)r->args[i].value);
		js_set_str(arg, "op", r->args[i].op == EQ ? "SCMP_CMP_EQ" : "SCMP_CMP_NE");
		js_push(js_array_at(o, "args"), arg);
	}
	return o;
}

json_object *seccomp_default(uint64_t caps)
{
	json_object *o = js_object(), *syscalls = js_array();

	js_set_str(o, "defaultAction", "SCMP_ACT_ERRNO");
	js_set_int(o, "defaultErrnoRet", ENOSYS);
	js_set(o, "architectures", js_strings(arches));
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct rule *r = &rules[i];

		if ((r->arches && !(r->arches & THIS_ARCH)) || (r->with && !(caps & r->with)) ||
		    (r->without && (caps & r->without)))
			continue;
		js_push(syscalls, syscall_of(r, caps));
	}
	js_set(o, "syscalls", syscalls);
	return o;
}

/* Whether the running architecture is in a list of names as Go has them. */
static bool arch_listed(json_object *list)
{
	static const struct {
		const char *name;
		unsigned arch;
	} names[] = {
		{ "amd64", ARCH_AMD64 },   { "x32", ARCH_AMD64 }, { "x86", ARCH_X86 },
		{ "386", ARCH_X86 },	   { "arm", ARCH_ARM },	  { "arm64", ARCH_ARM64 },
		{ "ppc64le", ARCH_PPC64 }, { "s390", ARCH_S390 }, { "s390x", ARCH_S390 },
	};

	for (size_t i = 0; i < js_len(list); i++) {
		const char *name = json_object_get_string(js_at(list, i));

		for (size_t k = 0; name && k < ARRAY_SIZE(names); k++) {
			if ((names[k].arch & THIS_ARCH) && strcmp(names[k].name, name) == 0)
				return true;
		}
	}
	return false;
}

static bool all_caps(json_object *list, uint64_t caps)
{
	for (size_t i = 0; i < js_len(list); i++) {
		const char *name = json_object_get_string(js_at(list, i));
		cap_value_t cap;

		if (!name || cap_from_name(name, &cap) < 0 || !(caps & CAP(cap)))
			return false;
	}
	return true;
}

static bool any_cap(json_object *list, uint64_t caps)
{
	for (size_t i = 0; i < js_len(list); i++) {
		const char *name = json_object_get_string(js_at(list, i));
		cap_value_t cap;

		if (name && cap_from_name(name, &cap) == 0 && (caps & CAP(cap)))
			return true;
	}
	return false;
}

static bool applies(json_object *rule, uint64_t caps)
{
	json_object *in = js_get(rule, "includes"), *ex = js_get(rule, "excludes");

	if (js_len(js_get(in, "arches")) && !arch_listed(js_get(in, "arches")))
		return false;
	if (js_len(js_get(in, "caps")) && !all_caps(js_get(in, "caps"), caps))
		return false;
	return !arch_listed(js_get(ex, "arches")) && !any_cap(js_get(ex, "caps"), caps);
}

int seccomp_resolve(json_object *profile, uint64_t caps, json_object **out, struct fault *f)
{
	static const char *const own[] = { "archMap", "syscalls", "defaultErrno" };
	json_object *o CLEANUP_JSON = NULL;
	json_object *syscalls, *list;

	if (!json_object_is_type(profile, json_type_object) || !*js_str(profile, "defaultAction"))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "it is no seccomp profile: defaultAction is missing");
	o = js_object();
	json_object_object_foreach (profile, key, value) {
		bool skip = false;

		for (size_t i = 0; i < ARRAY_SIZE(own); i++)
			skip |= strcmp(key, own[i]) == 0;
		if (!skip)
			js_set(o, key, json_object_get(value));
	}
	if (js_len(js_get(profile, "archMap")))
		js_set(o, "architectures", js_strings(arches));
	list = js_get(profile, "syscalls");
	syscalls = js_array();
	js_set(o, "syscalls", syscalls);
	for (size_t i = 0; i < js_len(list); i++) {
		json_object *rule = js_at(list, i);
		json_object *copy;

		if (!json_object_is_type(rule, json_type_object))
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "syscalls[%zu] is no map",
					 i);
		if (!applies(rule, caps))
			continue;
		copy = js_object();
		js_push(syscalls, copy);
		if (*js_str(rule, "name")) /* the form of old profiles */
			js_push_str(js_array_at(copy, "names"), js_str(rule, "name"));
		json_object_object_foreach (rule, field, content) {
			if (strcmp(field, "names") == 0 || strcmp(field, "action") == 0 ||
			    strcmp(field, "errnoRet") == 0 ||
			    (strcmp(field, "args") == 0 && content))
				js_set(copy, field, json_object_get(content));
		}
	}
	*out = TAKE_PTR(o);
	return 0;
}
