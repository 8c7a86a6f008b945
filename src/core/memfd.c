// SPDX-License-Identifier: Apache-2.0
/*
 * Re-execution from a sealed memfd
 *
 * The copy holds what the kernel and the dynamic loader need: the file up to the end of its last
 * segment. Symbols and debug information, which lie behind and are several times as large, stay out
 * of it, since the copy is memory for as long as the daemon runs; the build id is in a segment, so
 * that debuggers still find the file it came from. The section table, which would point past the
 * end, is struck from the header.
 *
 * The check that a process runs from such a copy asks for the seals of /proc/self/exe: a file on
 * disk has none, and nobody can put seals on it. So the check cannot be misled by names or by the
 * environment.
 */
#include "core/memfd.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

#define MEMFD_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define MEMFD_SEGMENTS_MAX 64

bool memfd_sealed(void)
{
	CLEANUP_CLOSE int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int seals;

	if (fd < 0)
		return false;
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && (seals & MEMFD_SEALS) == MEMFD_SEALS;
}

static int pread_all(int fd, void *data, size_t size, off_t offset)
{
	ssize_t n = pread(fd, data, size, offset);

	if (n < 0)
		return -errno;
	return (size_t)n == size ? 0 : -ENOEXEC;
}

/*
 * How much of the file is needed, and its header without a section table; the whole file when it
 * looks unusual.
 */
static int elf_extent(int fd, off_t size, ElfW(Ehdr) * head, off_t *extent)
{
	ElfW(Phdr) seg[MEMFD_SEGMENTS_MAX];
	off_t end = 0;
	int r;

	*extent = size;
	r = pread_all(fd, head, sizeof(*head), 0);
	if (r < 0)
		return r;
	if (memcmp(head->e_ident, ELFMAG, SELFMAG) || head->e_phentsize != sizeof(seg[0]) ||
	    !head->e_phnum || head->e_phnum > MEMFD_SEGMENTS_MAX)
		return 0;
	r = pread_all(fd, seg, head->e_phnum * sizeof(seg[0]), (off_t)head->e_phoff);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < head->e_phnum; i++)
		if ((off_t)(seg[i].p_offset + seg[i].p_filesz) > end)
			end = (off_t)(seg[i].p_offset + seg[i].p_filesz);
	if (end <= (off_t)sizeof(*head) || end >= size)
		return 0;
	*extent = end;
	head->e_shoff = 0;
	head->e_shnum = 0;
	head->e_shstrndx = SHN_UNDEF;
	return 0;
}

static int copy_self(int memfd)
{
	CLEANUP_CLOSE int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	ElfW(Ehdr) head;
	struct stat st;
	off_t extent, done = 0;
	int r;

	if (self < 0 || fstat(self, &st) < 0)
		return -errno;
	r = elf_extent(self, st.st_size, &head, &extent);
	if (r < 0)
		return r;
	while (done < extent) {
		ssize_t n = sendfile(memfd, self, &done, (size_t)(extent - done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO;
	}
	if (extent < st.st_size && pwrite(memfd, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return errno ? -errno : -EIO;
	return 0;
}

int memfd_reexec(char **argv, char **envp, struct fault *f)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	fd = memfd_create("davit", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (fd < 0 &&
	    errno == EINVAL) /* before Linux 6.3 there is no MFD_EXEC, and each is executable */
		fd = memfd_create("davit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 && errno == EACCES)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, EACCES,
			"cannot make an executable memfd: the sysctl vm.memfd_noexec is 2, davit needs 0 or 1");
	if (fd < 0)
		return fault_sys(f, errno, "memfd_create", NULL);
	r = copy_self(fd);
	if (r < 0)
		return fault_sys(f, -r, "copy", "/proc/self/exe");
	if (fchmod(fd, 0500) < 0)
		return fault_sys(f, errno, "fchmod", "memfd");
	if (fcntl(fd, F_ADD_SEALS, MEMFD_SEALS) < 0)
		return fault_sys(f, errno, "seal", "memfd");
	/* by number, not by /proc: a file system that a stranger may have mounted over */
	execveat(fd, "", argv, envp, AT_EMPTY_PATH);
	return fault_sys(f, errno, "execute", "memfd");
}
