// SPDX-License-Identifier: Apache-2.0
/*
 * The task of the checkpoint benches: memory that is full, and that can tell whether it still is
 *
 *   hog KIB
 *
 * Every second page is random, the others hold one byte each, so that half of it can be compressed.
 * The process calls itself "hog-full" once all is written (/proc/PID/comm), and then only waits. On
 * SIGUSR1 it adds its memory up again and ends: with 0 if all is as it was, with 1 if not.
 *
 * bench/run compiles it statically: it has to run in a root file system without libraries.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE 4096u

static uint64_t add_up(const uint64_t *p, size_t n)
{
	uint64_t sum = 14695981039346656037ull;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ p[i]) * 1099511628211ull;
	return sum;
}

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? (size_t)strtoull(argv[1], NULL, 10) << 10 : 0;
	uint64_t *memory, seed = 88172645463325252ull, sum;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (!size) {
		fprintf(stderr, "usage: hog KIB\n");
		return 2;
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("hog");
		return 2;
	}
	for (size_t i = 0; i < size / sizeof(*memory); i++) {
		size_t page = i * sizeof(*memory) / PAGE;

		if (page % 2 && i * sizeof(*memory) % PAGE == 0) {
			memset(memory + i, (int)(page & 0xff), PAGE);
			i += PAGE / sizeof(*memory) - 1;
			continue;
		}
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		memory[i] = seed;
	}
	sum = add_up(memory, size / sizeof(*memory));
	prctl(PR_SET_NAME, "hog-full");
	if (sigwait(&set, &sig))
		return 2;
	return sum == add_up(memory, size / sizeof(*memory)) ? 0 : 1;
}
