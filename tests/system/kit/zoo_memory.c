// SPDX-License-Identifier: Apache-2.0
/*
 * The zoo: memory, shared and private
 */
#include "zoo.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (1u << 20)

/* Bytes that tell where they belong. */
static void paint(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)((i * 2654435761u + seed) >> 13);
}

static bool painted(const unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != (unsigned char)((i * 2654435761u + seed) >> 13))
			return false;
	return true;
}

/* Between two processes: anonymous, a memfd with seals, a file in /dev/shm. */
void zoo_shm(void)
{
	int memfd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	int file = shm_open("/zoo", O_RDWR | O_CREAT, 0640), status;
	unsigned char *anon, *mem, *shm;
	struct stat st;
	pid_t pid;

	must(memfd >= 0 && file >= 0);
	must(!ftruncate(memfd, SIZE) && !ftruncate(file, SIZE));
	anon = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	shm = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	must(anon != MAP_FAILED && mem != MAP_FAILED && shm != MAP_FAILED);
	must(!fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	paint(anon, SIZE, 1);
	paint(mem, SIZE, 2);
	paint(shm, SIZE, 3);
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		/* the other side: says so when the first byte has changed */
		while (*(volatile unsigned char *)anon == 0)
			usleep(1000);
		*(volatile unsigned char *)mem = 200;
		*(volatile unsigned char *)shm = 201;
		_exit(painted(anon + 1, 0, 1) ? 0 : 1);
	}

	ready_and_wait();
	if (!painted(anon, SIZE, 1))
		lost("shared anonymous memory");
	if (!painted(mem, SIZE, 2))
		lost("a memfd");
	if (!painted(shm, SIZE, 3))
		lost("a file of /dev/shm");
	if (fcntl(memfd, F_GET_SEALS) != F_SEAL_SHRINK)
		lost("seals: %#x", fcntl(memfd, F_GET_SEALS));
	must(!fstat(memfd, &st));
	if (st.st_size != SIZE)
		lost("the size of a memfd");
	if (stat("/dev/shm/zoo", &st) || (st.st_mode & 0777) != 0640)
		lost("the name or mode of a file of /dev/shm");
	*(volatile unsigned char *)anon = 1; /* painted(…, 1) begins with 0 */
	must(waitpid(pid, &status, 0) == pid);
	if (status || mem[0] != 200 || shm[0] != 201)
		lost("it is not shared any more");
}

union semun {
	int val;
};

void zoo_sysv(void)
{
	struct {
		long type;
		char text[16];
	} m = { 7, "a message" }, got = { 0 };
	struct msqid_ds ds;
	int shm = shmget(0x1234, SIZE, IPC_CREAT | 0600);
	int sem = semget(0x1235, 3, IPC_CREAT | 0600);
	int msg = msgget(0x1236, IPC_CREAT | 0600);
	unsigned char *p;

	must(shm >= 0 && sem >= 0 && msg >= 0);
	p = shmat(shm, NULL, 0);
	must(p != (void *)-1);
	paint(p, SIZE, 4);
	must(!semctl(sem, 1, SETVAL, (union semun){ .val = 5 }));
	must(!msgsnd(msg, &m, sizeof(m.text), 0));
	m.type = 8;
	must(!msgsnd(msg, &m, sizeof(m.text), 0));

	ready_and_wait();
	if (!painted(p, SIZE, 4))
		lost("System V memory");
	if (shmget(0x1234, SIZE, 0600) != shm || semget(0x1235, 3, 0600) != sem)
		lost("System V ids");
	if (semctl(sem, 1, GETVAL) != 5)
		lost("a semaphore: %d", semctl(sem, 1, GETVAL));
	must(!msgctl(msg, IPC_STAT, &ds));
	if (ds.msg_qnum != 2)
		lost("%lu messages", (unsigned long)ds.msg_qnum);
	if (msgrcv(msg, &got, sizeof(got.text), 8, IPC_NOWAIT) != sizeof(got.text) ||
	    strcmp(got.text, "a message") != 0)
		lost("a message");
}

void zoo_maps(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
	unsigned char *cow, *shared, *none, *ro, *locked, *big, *grow, *brk = sbrk(0);
	char disk[16];

	must(fd >= 0 && write(fd, "0123456789abcdef", 16) == 16 && !ftruncate(fd, 3 * (off_t)page));
	cow = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)page);
	none = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ro = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	locked = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	big = mmap(NULL, 64 * SIZE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	grow = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
	must(cow != MAP_FAILED && shared != MAP_FAILED && none != MAP_FAILED && ro != MAP_FAILED);
	must(locked != MAP_FAILED && big != MAP_FAILED && grow != MAP_FAILED);
	must(sbrk(SIZE) != (void *)-1);
	memcpy(cow, "COPY", 4);
	memcpy(shared, "WRITTEN", 7);
	paint(none, 4 * page, 5);
	must(!mprotect(none + page, 2 * page, PROT_NONE));
	paint(ro, page, 6);
	must(!mprotect(ro, page, PROT_READ));
	paint(locked, page, 7);
	must(!mlock(locked, page));
	for (size_t i = 0; i < 64; i++)
		paint(big + i * SIZE, page, (unsigned)(100 + i));
	must(!madvise(big, SIZE, MADV_DONTFORK));
	paint(grow, 4 * page, 8);
	paint(brk, SIZE, 9);

	ready_and_wait();
	if (memcmp(cow, "COPY456789", 10) != 0 || pread(fd, disk, 16, 0) != 16 ||
	    memcmp(disk, "0123456789abcdef", 16) != 0)
		lost("a private mapping");
	if (memcmp(shared, "WRITTEN", 7) != 0 || pread(fd, disk, 7, (off_t)page) != 7 ||
	    memcmp(disk, "WRITTEN", 7) != 0)
		lost("a shared mapping");
	must(!mprotect(none + page, 2 * page, PROT_READ));
	if (!painted(none, 4 * page, 5))
		lost("memory without access");
	if (!painted(ro, page, 6) || !painted(locked, page, 7) || !painted(grow, 4 * page, 8) ||
	    !painted(brk, SIZE, 9))
		lost("anonymous memory");
	for (size_t i = 0; i < 64; i++)
		if (!painted(big + i * SIZE, page, (unsigned)(100 + i)) || big[i * SIZE + page])
			lost("sparse memory at %zu MiB", i);
	pid_t pid = fork();
	int status;
	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		_exit(*(volatile unsigned char *)big); /* not there in a child */
	}
	must(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
		lost("MADV_DONTFORK");
}

void zoo_mqueue(void)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
	mqd_t q = mq_open("/zoo", O_RDWR | O_CREAT, 0600, &attr);
	char text[64];

	must(q >= 0);
	must(!mq_send(q, "first", 6, 1));
	ready_and_wait();
	if (mq_receive(q, text, sizeof(text), NULL) != 6 || strcmp(text, "first") != 0)
		lost("a message");
}

void zoo_uring(void)
{
	char params[256] = { 0 };
	int fd = (int)syscall(425 /* io_uring_setup */, 4, params);

	if (fd < 0) {
		/* not everywhere: the test reads this and skips */
		dprintf(1, "no io_uring: errno %d\n", errno);
	}
	ready_and_wait();
}

/* What takes a dump or a restore a while: incompressible, $BIG MiB. */
static void fill(uint64_t *p, size_t n, uint64_t x, bool compare)
{
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		if (!compare)
			p[i] = x;
		else if (p[i] != x)
			lost("byte %zu", i * sizeof(*p));
	}
}

void zoo_big(void)
{
	size_t n = (size_t)atol(getenv("BIG") ? getenv("BIG") : "96") * SIZE / sizeof(uint64_t);
	uint64_t *p = malloc(n * sizeof(uint64_t));

	must(p);
	fill(p, n, 88172645463325252ull, false);
	ready_and_wait();
	fill(p, n, 88172645463325252ull, true);
}
