// SPDX-License-Identifier: Apache-2.0
/*
 * The controlling terminal of restored sessions
 *
 * A controlling terminal is had by taking it, which only a session's leader can, or by being born to
 * somebody who has it. criu makes all processes first and lets the leader take the terminal then, so
 * that its children have none: no /dev/tty, and a shell below another one loses its job control.
 * There is a moment in between: criu's init has called setsid(2), in a mount namespace that still
 * shows the host's files, and has no children yet. So criu gets a setsid of ours: a shared object of one
 * function, which after a successful call in an init opens the terminal, whereby a leader takes it. When criu
 * does the same later, it is there already, and all is well.
 *
 * The object is written byte by byte: a program that is one file has nowhere to keep another, and what
 * it has to be is little. One page is code, with the tables that the dynamic linker looks the name up in
 * (ELF gABI, chapter 5), the other the dynamic section, which the linker writes to. A criu that is
 * linked statically never sees it.
 */
#include "checkpoint/ctty.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

/* The terminal's path is put where the code ends. */
#if defined(__x86_64__)
#define MACHINE EM_X86_64
__asm__(".pushsection .rodata\n"
	".globl davit_ctty_code, davit_ctty_code_end\n"
	"davit_ctty_code:\n"
	"	mov $112, %eax\n" /* setsid */
	"	syscall\n"
	"	cmp $1, %rax\n" /* the session of an init */
	"	jne 1f\n"
	"	mov $2, %eax\n" /* open */
	"	lea davit_ctty_code_end(%rip), %rdi\n"
	"	mov $2, %esi\n" /* O_RDWR */
	"	syscall\n"
	"	mov $3, %edx\n" /* close */
	"	test %eax, %eax\n"
	"	js 2f\n"
	"	mov %eax, %edi\n"
	"	mov %edx, %eax\n"
	"	syscall\n"
	"2:	mov $1, %eax\n"
	"1:	ret\n"
	"davit_ctty_code_end:\n"
	"	.byte 0\n"
	".popsection\n");
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
__asm__(".pushsection .rodata\n"
	".globl davit_ctty_code, davit_ctty_code_end\n"
	".balign 4\n"
	"davit_ctty_code:\n"
	"	mov x8, #157\n" /* setsid */
	"	svc #0\n"
	"	cmp x0, #1\n" /* the session of an init */
	"	b.ne 1f\n"
	"	mov x0, #-100\n" /* AT_FDCWD */
	"	adr x1, davit_ctty_code_end\n"
	"	mov x2, #2\n" /* O_RDWR */
	"	mov x3, #0\n"
	"	mov x8, #56\n" /* openat */
	"	svc #0\n"
	"	tbnz x0, #63, 2f\n"
	"	mov x8, #57\n" /* close */
	"	svc #0\n"
	"2:	mov x0, #1\n"
	"1:	ret\n"
	"davit_ctty_code_end:\n"
	"	.byte 0\n"
	".popsection\n");
#endif

#ifdef MACHINE

extern const uint8_t davit_ctty_code[], davit_ctty_code_end[];

#define PAGE 0x10000u /* no machine's are larger */
#define NAMES "\0setsid"
#define ROOM 512 /* for code and path */

struct object {
	Elf64_Ehdr head;
	Elf64_Phdr segments[4];
	uint32_t hash[2 + 1 + 2]; /* one bucket, two symbols */
	Elf64_Sym symbols[2];
	char names[sizeof(NAMES)];
	uint8_t code[ROOM] __attribute__((aligned(16)));
};

static Elf64_Phdr segment(uint32_t type, uint32_t flags, uint64_t at, uint64_t size)
{
	return (Elf64_Phdr){ .p_type = type,
			     .p_flags = flags,
			     .p_offset = at,
			     .p_vaddr = at,
			     .p_paddr = at,
			     .p_filesz = size,
			     .p_memsz = size,
			     .p_align = type == PT_LOAD ? PAGE : 8 };
}

static void fill(struct object *o, size_t dynamic_size)
{
	memcpy(o->head.e_ident, ELFMAG, SELFMAG);
	o->head.e_ident[EI_CLASS] = ELFCLASS64;
	o->head.e_ident[EI_DATA] = ELFDATA2LSB;
	o->head.e_ident[EI_VERSION] = EV_CURRENT;
	o->head.e_type = ET_DYN;
	o->head.e_machine = MACHINE;
	o->head.e_version = EV_CURRENT;
	o->head.e_phoff = offsetof(struct object, segments);
	o->head.e_ehsize = sizeof(o->head);
	o->head.e_phentsize = sizeof(Elf64_Phdr);
	o->head.e_phnum = ARRAY_SIZE(o->segments);
	o->segments[0] = segment(PT_LOAD, PF_R | PF_X, 0, sizeof(*o));
	o->segments[1] = segment(PT_LOAD, PF_R | PF_W, PAGE, dynamic_size);
	o->segments[2] = segment(PT_DYNAMIC, PF_R | PF_W, PAGE, dynamic_size);
	o->segments[3] = segment(PT_GNU_STACK, PF_R | PF_W, 0, 0);
	o->hash[0] = 1; /* buckets */
	o->hash[1] = 2; /* symbols */
	o->hash[2] = 1; /* the first of the bucket; nothing follows it */
	memcpy(o->names, NAMES, sizeof(NAMES));
	o->symbols[1] = (Elf64_Sym){
		.st_name = 1,
		.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC),
		.st_shndx = 1, /* any that is defined */
		.st_value = offsetof(struct object, code),
		.st_size = (uint64_t)(davit_ctty_code_end - davit_ctty_code),
	};
}

int ctty_write(const char *path, const char *tty)
{
	const Elf64_Dyn dynamic[] = {
		{ DT_HASH, { offsetof(struct object, hash) } },
		{ DT_SYMTAB, { offsetof(struct object, symbols) } },
		{ DT_STRTAB, { offsetof(struct object, names) } },
		{ DT_STRSZ, { sizeof(NAMES) } },
		{ DT_SYMENT, { sizeof(Elf64_Sym) } },
		{ DT_NULL, { 0 } },
	};
	size_t size = (size_t)(davit_ctty_code_end - davit_ctty_code);
	struct object o = { 0 };
	CLEANUP_CLOSE int fd = -1;

	if (size + strlen(tty) + 1 > sizeof(o.code))
		return -ENAMETOOLONG;
	fill(&o, sizeof(dynamic));
	memcpy(o.code, davit_ctty_code, size);
	strcpy((char *)o.code + size, tty);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (fd < 0)
		return -errno;
	errno = EIO;
	if (pwrite(fd, &o, sizeof(o), 0) != (ssize_t)sizeof(o) ||
	    pwrite(fd, dynamic, sizeof(dynamic), PAGE) != (ssize_t)sizeof(dynamic))
		return -errno;
	return 1;
}

#else

int ctty_write(const char *path, const char *tty)
{
	(void)path;
	(void)tty;
	return 0;
}

#endif
