// SPDX-License-Identifier: Apache-2.0
/*
 * criu's errors
 *
 * criu reports a failure as it unwinds: the first "Error" line is the cause, those behind it are what
 * came of it. Some of its errors are none (a limit it may not raise, tools it only looks for). Known
 * ones are put into plain words by a table; a line that holds a row's text is that reason, and the
 * first row that fits any line wins, so the rows stand in the order of how much they explain.
 */
#include "checkpoint/criu_log.h"

#include <stdio.h>
#include <string.h>

#include "util/cleanup.h"
#include "util/json_read.h"

struct reason {
	const char *text; /* in a line of the log */
	const char *meaning;
};

#define IO_URING                                                                                   \
	"a process of the container uses io_uring, which criu cannot checkpoint; have it use "     \
	"something else"
#define NO_LIMITS                                                                                  \
	"criu may not see the limits of another user's process: davit needs the capability "       \
	"CAP_SYS_RESOURCE for that"
#define TERMINAL "a process uses a terminal of outside the container; give the option terminal"
#define CHANGED "a file of the container was changed since the checkpoint"
#define HUGE_PAGES "a process has memory on huge pages, which cannot be streamed"
#define SLOW "criu ran out of time: a process could not be stopped"
#define PID_TAKEN "a process id of the checkpoint is taken in the pid namespace"
#define OTHER_CPU "the checkpoint was taken on another kind of processor"
#define BAD_TYPE "the container has a mount of a type that criu cannot checkpoint"
#define NO_NFT                                                                                     \
	"criu needs the program nft, which is not installed; install nftables, or give the "       \
	"option network_lock: skip"
#define NO_IPTABLES                                                                                \
	"criu needs the program iptables-restore, which is not installed; install iptables, or "   \
	"give the option network_lock: skip"
#define NO_LOCK                                                                                    \
	"criu could not keep the network still; give the option network_lock: skip, or nftables"

static const struct reason reasons[] = {
	/* dump */
	{ "io_uring", IO_URING },
	/* the kernel passes no fd of this kind between processes; for all others this works */
	{ "send_fds failed (-22)", IO_URING },
	{ "Can't get rlimit", NO_LIMITS },
	{ "sockets: Can't get 1:16 opt",
	  "this criu is too old for internet sockets on the running kernel; criu 4.2 or newer is "
	  "needed" },
	{ "consider using --tcp-established",
	  "a process has an open TCP connection; give the option open_tcp (--tcp-established) to "
	  "keep it" },
	{ "can't be enabled for half-closed sockets",
	  "a process has a TCP connection that one side has closed, which criu cannot checkpoint" },
	{ "--ext-unix-sk", "a process is connected to a UNIX socket outside of the container; give "
			   "the option external_unix_sockets" },
	{ "without peer",
	  "a process is connected to a UNIX socket of another network namespace, which criu cannot "
	  "see" },
	{ "name-less external socket",
	  "a process is connected to a UNIX socket outside of the container that has no name" },
	{ "try --file-locks", "a process holds file locks; give the option file_locks" },
	{ "link-remap option", "a process has a file open that was deleted but has other names; "
			       "give the option link_remap" },
	{ "size, increase limit", "a process has a file of more than 4 GiB open that was deleted" },
	{ "Found dangling tty", TERMINAL },
	{ "using --shell-job", TERMINAL },
	{ "is outside of its pid namespace", TERMINAL },
	{ "SysVIPC shmem map", "a process uses System V shared memory of outside the container" },
	{ "is not a part of process tree",
	  "a process has a pidfd of a process outside of the container" },
	{ "Can't dump a pid namespace without the process init",
	  "the container is in the pid namespace of another one, which criu cannot checkpoint "
	  "apart from it" },
	{ "mqueue isn't empty",
	  "a POSIX message queue of the container is not empty, which criu cannot checkpoint" },
	{ "Unseizable non-zombie", "a process is traced by another one, such as a debugger" },
	{ "found while seizing", "a process ended while it was being stopped; try again" },
	{ "Open files on overmounted mounts",
	  "a process has a file open below a mount that another one covers" },
	{ "has unreachable sharing",
	  "a mount of the container gets what is mounted outside of it (a slave mount); make it "
	  "private in the spec" },
	{ "doesn't have a proper root mount",
	  "a mount of the container has its source outside of it; make it a bind mount of the "
	  "spec, or name it in external_mounts" },
	{ "is a fuse mount but not external", BAD_TYPE },
	{ "): always fail", BAD_TYPE },
	{ "mnt: FS mnt", BAD_TYPE },
	{ "Can't lookup mount=",
	  "a process has a file open that lies outside of the container's mounts, or a POSIX "
	  "message queue" },
	{ "Dumping seccomp filters not supported",
	  "the kernel does not show seccomp filters (CONFIG_CHECKPOINT_RESTORE), which criu needs" },
	{ "memory tracker",
	  "the kernel has no memory tracking (CONFIG_MEM_SOFT_DIRTY), which criu needs" },
	{ "Tracking memory is not available",
	  "the kernel has no memory tracking (CONFIG_MEM_SOFT_DIRTY), which criu needs" },
	{ "Unexpected rt vDSO area bounds",
	  "this criu is too old for the running kernel; criu 4.1 or newer is needed" },
	{ "kerndat_", "the kernel or its settings lack something that criu needs" },
	{ "hugetlb", HUGE_PAGES },
	{ "of that type [", "a process has something open that criu cannot checkpoint" },
	/* tools */
	{ "execvp(\"iptables", NO_IPTABLES },
	{ "execvp(\"ip6tables", NO_IPTABLES },
	{ "execvp(\"nft\"", NO_NFT },
	{ "execvp(\"ip\"", "criu needs the program ip, which is not installed; install iproute2" },
	{ "execvp(\"tar\"", "criu needs the program tar, which is not installed" },
	{ "Locking network failed", NO_LOCK },
	/* restore */
	{ "Need to set the --tcp-close",
	  "the checkpoint has open TCP connections; give the option tcp_close to drop them" },
	{ "Connected TCP socket in image",
	  "the checkpoint has open TCP connections; give the option tcp_close to drop them" },
	{ "has bad size", CHANGED },
	{ "has bad mode", CHANGED },
	{ "has bad build-ID",
	  "a program or library of the container was changed since the checkpoint" },
	{ "No mapping for", "the checkpoint has a mount from outside that was not handed in" },
	{ "Unable to find an external netns",
	  "the checkpoint wants a network namespace that was not handed in" },
	{ "Unknown peer net namespace",
	  "the network of the checkpoint has one end of a veth pair whose other end is outside; set "
	  "up a network namespace and give it as options.network_namespace" },
	{ "Address already in use",
	  "a network address of the checkpoint is in use in this network namespace" },
	{ "Cannot assign requested address",
	  "a network address of the checkpoint is not there in this network namespace" },
	{ "Can't bind inet socket",
	  "a network address of the checkpoint cannot be had in this network namespace" },
	{ "Can't fork for", PID_TAKEN },
	{ "do not match expected", PID_TAKEN },
	{ "capabilities do not match run time", OTHER_CPU },
	{ "is not supported on host (fpu", OTHER_CPU },
	{ "xsave size mismatch", OTHER_CPU },
	{ "lsm types and lsm profile", "the checkpoint has a profile of another security module" },
	/* either */
	{ "No space left on device", "a disk is full" },
	{ "Cannot allocate memory", "there is not enough memory" },
	{ "Unable to freeze cgroup", SLOW },
	{ "Timeout reached", SLOW },
	{ "No such file or directory", "a file or folder that the checkpoint needs is not there" },
};

/* Errors that criu goes on after. */
static const char *const harmless[] = {
	"rlimit: Can't setup RLIMIT_NOFILE",
	"-save -V failed",
	"tables-save",
	"tables-legacy-save",
	"This is not fatal",
};

static bool is_error(const char *line, size_t n)
{
	if (!memmem(line, n, "Error (", 7))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
		if (memmem(line, n, harmless[i], strlen(harmless[i])))
			return false;
	return true;
}

/* "(00.001428) Error (criu/util.c:1533): TEXT" is TEXT. */
static void bare(const char **line, size_t *n)
{
	const char *p = memmem(*line, *n, "): ", 3), *error = memmem(*line, *n, "Error (", 7);

	if (!p || !error || p < error)
		return;
	p += 3;
	*n -= (size_t)(p - *line);
	*line = p;
}

/*
 * Names of files and programs stand in the log as the container has chosen them: nothing of it may
 * reach a terminal but text. As much as fits.
 */
static void put_text(char *to, size_t room, const char *line, size_t n)
{
	while (n && room > 1) {
		size_t some = json_utf8(line, n);
		const unsigned char *p = (const unsigned char *)line;

		/* U+0080 to U+009F are controls too */
		if (some > 1 && !(p[0] == 0xc2 && p[1] < 0xa0)) {
			if (some >= room)
				break;
			memcpy(to, line, some);
			to += some;
			room -= some;
		} else {
			some = some ? some : 1;
			*to++ = *line >= ' ' && *line <= '~' ? *line : '?';
			room--;
		}
		line += some;
		n -= some;
	}
	*to = '\0';
}

static void keep(struct fault *f, const char *line, size_t n)
{
	size_t used = strlen(f->log);

	/* one that does not fit is left out; those behind it may */
	if (n + 2 > sizeof(f->log) - used)
		return;
	if (used)
		f->log[used++] = '\n';
	put_text(f->log + used, sizeof(f->log) - used, line, n);
}

static const char *meaning_of(const char *log, size_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		const char *p = log, *end = log + size;

		while (p < end) {
			const char *stop = memchr(p, '\n', (size_t)(end - p));
			size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);

			if (is_error(p, n) &&
			    memmem(p, n, reasons[i].text, strlen(reasons[i].text)))
				return reasons[i].meaning;
			p = stop ? stop + 1 : end;
		}
	}
	return NULL;
}

void criu_log_fault(struct fault *f, const char *log, size_t size, bool restore, int exit_code,
		    int signal)
{
	/* without a log there is no pointer to add to */
	const char *p = size ? log : "", *end = p + size, *meaning = meaning_of(p, size);
	const char *what = restore ? "the restore failed" : "the checkpoint failed";
	char first[512] = "", lines[sizeof(f->log)];
	struct fault kept = { 0 };

	while (p < end) {
		const char *stop = memchr(p, '\n', (size_t)(end - p)), *line = p;
		size_t n = stop ? (size_t)(stop - p) : (size_t)(end - p);

		p = stop ? stop + 1 : end;
		if (!is_error(line, n))
			continue;
		bare(&line, &n);
		if (!first[0])
			put_text(first, sizeof(first), line, n);
		keep(&kept, line, n);
	}
	memcpy(lines, kept.log, sizeof(lines));
	if (meaning && first[0])
		fault_set(f, FAULT_FAILED_PRECONDITION, 0, "%s: %s (criu: %s)", what, meaning,
			  first);
	else if (first[0])
		fault_set(f, FAULT_UNKNOWN, 0, "%s: criu says: %s", what, first);
	else if (signal)
		fault_set(f, FAULT_UNKNOWN, 0, "%s: criu was ended by signal %d", what, signal);
	else
		fault_set(f, FAULT_UNKNOWN, 0, "%s: criu ended with %d and gave no reason", what,
			  exit_code);
	memcpy(f->log, lines, sizeof(f->log));
}
