// SPDX-License-Identifier: Apache-2.0
/*
 * How a process ended that is nobody's child here
 *
 * Two sources. From Linux 6.15 on the pidfd tells (PIDFD_GET_INFO), but only after the parent has
 * reaped; before that the answer comes without PIDFD_INFO_EXIT and its exit_code means nothing. As
 * long as the process is a zombie, the last field of /proc/PID/stat tells on any kernel, to those
 * who may trace it; others read 0 there, so a 0 is believed only with CAP_SYS_PTRACE. That the pid
 * in /proc is still the one of the pidfd is checked afterwards: a zombie keeps its pid.
 */
#include "monitor/pidfd_status.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

/* linux/pidfd.h of Linux 6.15; the headers of Debian 12 are older. The first published size. */
struct pidfd_info_v0 {
	uint64_t mask;
	uint64_t cgroupid;
	uint32_t pid, tgid, ppid;
	uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define GET_INFO _IOWR(0xff, 11, struct pidfd_info_v0)
#define INFO_EXIT (1ull << 3)

_Static_assert(sizeof(struct pidfd_info_v0) == 64, "PIDFD_INFO_SIZE_VER0");

static bool from_pidfd(int pidfd, int *status)
{
	struct pidfd_info_v0 info = { .mask = INFO_EXIT };

	if (ioctl(pidfd, GET_INFO, &info) < 0 || !(info.mask & INFO_EXIT))
		return false;
	*status = info.exit_code;
	return true;
}

static bool may_trace(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return false;
	return data[0].effective & (1u << CAP_SYS_PTRACE);
}

static bool from_proc(pid_t pid, int *status)
{
	CLEANUP_FREE char *text = NULL;
	char path[64], *p;
	int field = 2;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_file(AT_FDCWD, path, 4096, &text, NULL) < 0)
		return false;
	p = strrchr(text, ')');
	if (!p || (p[1] && p[2] != 'Z' && p[2] != 'X'))
		return false;
	/* exit_code is field 52, see proc(5) */
	while (field < 52 && p) {
		p = strchr(p + 1, ' ');
		field++;
	}
	if (!p)
		return false;
	*status = atoi(p + 1);
	return *status || may_trace();
}

int pidfd_status(int pidfd, pid_t pid, int *status)
{
	bool told;

	if (from_pidfd(pidfd, status))
		return 0;
	told = from_proc(pid, status);
	if (fd_pidfd_send_signal(pidfd, 0) == 0)
		return told ? 0 : -EAGAIN;
	/* reaped, before or after the look at /proc: now the pidfd knows, if anything does */
	return from_pidfd(pidfd, status) ? 0 : -ESRCH;
}
