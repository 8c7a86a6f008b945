// SPDX-License-Identifier: Apache-2.0
/*
 * A task whose memory can be compared
 *
 * It holds memory of all sorts: private and shared, a file of /dev/shm, the heap, the stack of a thread, a
 * child's own copy. Half of it never changes; the other half changes at each step in a way that depends
 * on nothing but what is in it. For each line of its input it makes a step and prints
 *
 *	STEPS STILL MOVING CHILD
 *
 * where the last three are digests of the two halves and of the child's copy of both. So a task that was restored
 * can be compared with itself, and with another one that was never checkpointed. The number of steps is
 * also in the file that is its argument, which stays open. Built statically.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS (1u << 18) /* of each piece: 2 MiB */
#define PIECES 4 /* private, shared, /dev/shm, heap */
#define STACK_WORDS (1u << 14)

struct half {
	uint64_t *piece[PIECES + 1]; /* the last is a thread's stack */
	size_t words[PIECES + 1];
};

static struct half still, moving;
static pthread_barrier_t stacks_ready;

static void fail(const char *what)
{
	fprintf(stderr, "digest: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	return x;
}

/* Every second page repeats itself, so that half of it can be compressed. */
static void fill(uint64_t *words, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		words[i] = mix(seed + (i & 512 ? i & 7 : i));
}

static uint64_t digest(const struct half *h)
{
	uint64_t sum = 0xcbf29ce484222325ULL;

	for (int p = 0; p <= PIECES; p++)
		for (size_t i = 0; i < h->words[p]; i++)
			sum = (sum ^ h->piece[p][i]) * 0x100000001b3ULL + (sum >> 47);
	return sum;
}

/* Some words of each piece, chosen by what is in it. */
static void step(struct half *h)
{
	for (int p = 0; p <= PIECES; p++) {
		uint64_t at = h->piece[p][0];

		for (int i = 0; i < 256; i++) {
			uint64_t *word = &h->piece[p][1 + at % (h->words[p] - 1)];

			at = mix(at + *word);
			*word = at;
		}
		h->piece[p][0] = at;
	}
}

static void *on_stack(void *arg)
{
	struct half *h = arg;
	uint64_t words[STACK_WORDS];

	fill(words, STACK_WORDS, (uintptr_t)(h == &still));
	h->piece[PIECES] = words;
	h->words[PIECES] = STACK_WORDS;
	pthread_barrier_wait(&stacks_ready);
	for (;;)
		pause();
	return NULL;
}

static void set_up(struct half *h, uint64_t seed)
{
	const size_t size = WORDS * sizeof(uint64_t);
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "/dev/shm/digest.%d.%d", (int)getpid(), (int)seed);
	fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		fail(name);
	h->piece[0] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	h->piece[1] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	h->piece[2] = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	h->piece[3] = malloc(size);
	close(fd);
	if (unlink(name) < 0)
		fail(name);
	for (uint64_t p = 0; p < PIECES; p++) {
		if (!h->piece[p] || h->piece[p] == MAP_FAILED)
			fail("no memory");
		h->words[p] = WORDS;
		fill(h->piece[p], WORDS, (seed + p) << 32);
	}
}

/* The child steps its private pieces alone, and says the digest of all that it sees. */
static void child(int from, int to)
{
	char c;

	while (read(from, &c, 1) == 1) {
		uint64_t sums[2];

		for (int i = 0; i < 64; i++)
			moving.piece[0][i * 512] += mix(moving.piece[0][i * 512 + 1]);
		sums[0] = digest(&still);
		sums[1] = digest(&moving);
		sums[0] ^= mix(sums[1]);
		if (write(to, sums, sizeof(sums[0])) != sizeof(sums[0]))
			break;
	}
	_exit(0);
}

int main(int argc, char **argv)
{
	int ask[2], answer[2],
		fd = argc == 2 ? open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
	uint64_t steps = 0, other;
	pthread_t thread;
	char c;

	if (fd < 0 || pipe(ask) < 0 || pipe(answer) < 0)
		fail("cannot begin");
	set_up(&still, 1);
	set_up(&moving, 100);
	pthread_barrier_init(&stacks_ready, NULL, 3);
	if (pthread_create(&thread, NULL, on_stack, &still) ||
	    pthread_create(&thread, NULL, on_stack, &moving))
		fail("no thread");
	pthread_barrier_wait(&stacks_ready);
	switch (fork()) {
	case -1:
		fail("fork");
		break;
	case 0:
		close(ask[1]);
		close(answer[0]);
		child(ask[0], answer[1]);
	}
	close(ask[0]);
	close(answer[1]);
	while (read(0, &c, 1) == 1) {
		if (c != '\n')
			continue;
		step(&moving);
		steps++;
		if (write(ask[1], "?", 1) != 1 ||
		    read(answer[0], &other, sizeof(other)) != sizeof(other))
			fail("the child is gone");
		if (pwrite(fd, &steps, sizeof(steps), 0) != sizeof(steps))
			fail(argv[1]);
		dprintf(1, "%llu %016llx %016llx %016llx\n", (unsigned long long)steps,
			(unsigned long long)digest(&still), (unsigned long long)digest(&moving),
			(unsigned long long)other);
	}
	return 0;
}
