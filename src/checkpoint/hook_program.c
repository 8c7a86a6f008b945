// SPDX-License-Identifier: Apache-2.0
/*
 * criu's action script as a program of a few hundred bytes
 *
 * criu runs its script eight times a restore. A shell takes a millisecond for each, and davit itself
 * five, most of it for its shared libraries: together a quarter of a small restore. This program is
 * there in a fifth of a millisecond. It is written as bytes, since a program that is one file has
 * nowhere to keep another: the head of an ELF file, the code below, and what the code looks at, which
 * is the socket's address and the environment's variable that names the stage.
 *
 * It does what hook_main does: sends the pid of the root task and a newline, and ends with the byte
 * that comes back, '0' being success, or with 1 when none comes.
 */
#include "checkpoint/hook_program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

#if defined(__x86_64__)

/* Behind the code: struct sockaddr_un, then "CRTOOLS_SCRIPT_ACTION=STAGE" with its NUL. */
__asm__(".pushsection .rodata\n"
	".globl davit_hook_code, davit_hook_code_end\n"
	"davit_hook_code:\n"
	"	mov (%rsp), %rcx\n" /* argc */
	"	lea 16(%rsp,%rcx,8), %rbx\n" /* the environment */
	"	mov %rbx, %r13\n"
	/* is it the stage? */
	"1:	mov (%rbx), %rsi\n"
	"	xor %edi, %edi\n"
	"	test %rsi, %rsi\n"
	"	jz 9f\n" /* no: 0 */
	"	add $8, %rbx\n"
	"	lea davit_hook_code_end+110(%rip), %rdx\n"
	"2:	mov (%rdx), %al\n"
	"	cmp (%rsi), %al\n"
	"	jne 1b\n"
	"	inc %rdx\n"
	"	inc %rsi\n"
	"	test %al, %al\n"
	"	jnz 2b\n"
	/* the root task's pid, or else "0" */
	"	lea 8f(%rip), %r12\n"
	"3:	mov (%r13), %rsi\n"
	"	test %rsi, %rsi\n"
	"	jz 5f\n"
	"	add $8, %r13\n"
	"	lea 7f(%rip), %rdx\n"
	"4:	mov (%rdx), %al\n"
	"	cmp (%rsi), %al\n"
	"	jne 3b\n"
	"	inc %rdx\n"
	"	inc %rsi\n"
	"	cmpb $0, (%rdx)\n"
	"	jne 4b\n"
	"	mov %rsi, %r12\n"
	/* socket, connect */
	"5:	mov $41, %eax\n"
	"	mov $1, %edi\n" /* AF_UNIX */
	"	mov $1, %esi\n" /* SOCK_STREAM */
	"	xor %edx, %edx\n"
	"	syscall\n"
	"	mov %eax, %ebx\n"
	"	mov $42, %eax\n"
	"	mov %ebx, %edi\n"
	"	lea davit_hook_code_end(%rip), %rsi\n"
	"	mov $110, %edx\n"
	"	syscall\n"
	"	mov $1, %r14d\n" /* what it ends with */
	"	test %eax, %eax\n"
	"	jnz 6f\n"
	/* write the pid and a newline */
	"	mov %r12, %rsi\n"
	"	xor %edx, %edx\n"
	"	dec %edx\n"
	"1:	inc %edx\n"
	"	cmpb $0, (%rsi,%rdx)\n"
	"	jne 1b\n"
	"	mov $1, %eax\n"
	"	mov %ebx, %edi\n"
	"	syscall\n"
	"	mov $1, %eax\n"
	"	mov %ebx, %edi\n"
	"	lea 7f-1(%rip), %rsi\n"
	"	mov $1, %edx\n"
	"	syscall\n"
	/* read the answer */
	"	xor %eax, %eax\n"
	"	mov %ebx, %edi\n"
	"	lea -8(%rsp), %rsi\n"
	"	mov $1, %edx\n"
	"	syscall\n"
	"	cmp $1, %eax\n"
	"	jne 6f\n"
	"	cmpb $0x30, -8(%rsp)\n" /* '0' */
	"	jne 6f\n"
	"	xor %r14d, %r14d\n"
	"6:	mov %r14d, %edi\n"
	"9:	mov $60, %eax\n" /* exit */
	"	syscall\n"
	"	.byte 10\n"
	"7:	.asciz \"CRTOOLS_INIT_PID=\"\n"
	"8:	.asciz \"0\"\n"
	"davit_hook_code_end:\n"
	"	.byte 0\n"
	".popsection\n");

extern const uint8_t davit_hook_code[], davit_hook_code_end[];

#define AT 0x400000u /* where it is loaded */

struct program {
	Elf64_Ehdr head;
	Elf64_Phdr segments[2];
	uint8_t code[512] __attribute__((aligned(16)));
};

static void fill(struct program *p, size_t size)
{
	memcpy(p->head.e_ident, ELFMAG, SELFMAG);
	p->head.e_ident[EI_CLASS] = ELFCLASS64;
	p->head.e_ident[EI_DATA] = ELFDATA2LSB;
	p->head.e_ident[EI_VERSION] = EV_CURRENT;
	p->head.e_type = ET_EXEC;
	p->head.e_machine = EM_X86_64;
	p->head.e_version = EV_CURRENT;
	p->head.e_entry = AT + offsetof(struct program, code);
	p->head.e_phoff = offsetof(struct program, segments);
	p->head.e_ehsize = sizeof(p->head);
	p->head.e_phentsize = sizeof(Elf64_Phdr);
	p->head.e_phnum = 2;
	p->segments[0] = (Elf64_Phdr){ .p_type = PT_LOAD,
				       .p_flags = PF_R | PF_X,
				       .p_vaddr = AT,
				       .p_paddr = AT,
				       .p_filesz = size,
				       .p_memsz = size,
				       .p_align = 0x1000 };
	p->segments[1] = (Elf64_Phdr){ .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W };
}

int hook_program_write(const char *path, const char *socket, const char *stage, struct fault *f)
{
	size_t size = (size_t)(davit_hook_code_end - davit_hook_code);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char variable[64];
	struct program p = { 0 };
	CLEANUP_CLOSE int fd = -1;
	int n = snprintf(variable, sizeof(variable), "CRTOOLS_SCRIPT_ACTION=%s", stage), r;

	if (strlen(socket) >= sizeof(address.sun_path) || n >= (int)sizeof(variable) ||
	    size + sizeof(address) + sizeof(variable) > sizeof(p.code))
		return 0;
	strcpy(address.sun_path, socket);
	memcpy(p.code, davit_hook_code, size);
	memcpy(p.code + size, &address, sizeof(address));
	memcpy(p.code + size + sizeof(address), variable, (size_t)n + 1);
	fill(&p, sizeof(p));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	r = fd < 0 ? -errno : fd_write_all(fd, &p, sizeof(p));
	return r < 0 ? fault_sys(f, -r, "write", path) : 1;
}

#else

int hook_program_write(const char *path, const char *socket, const char *stage, struct fault *f)
{
	(void)path;
	(void)socket;
	(void)stage;
	(void)f;
	return 0;
}

#endif
