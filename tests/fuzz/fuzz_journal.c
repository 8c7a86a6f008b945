// SPDX-License-Identifier: Apache-2.0
/*
 * The journal reading a damaged segment
 *
 * The input's first byte chooses: 0, the rest is a segment file as it is; 1, the rest follows a
 * good head; 2, besides, marks and checksums are put right, so that record and frame fields are
 * reached; 3, the same as a snapshot's body beside an empty segment. Whatever it is: the journal
 * opens, reads to an end, takes a commit, and shows it after another open.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "monitor/journal_internal.h"
#include "util/crc32c.h"
#include "util/fd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define MARK 0x6b72616du
#define SEED 7u

static struct {
	char path[64];
	int dirfd;
	char boot[40];
} fuzz;

static void clean(void)
{
	struct dirent *e;
	DIR *d = opendir(fuzz.path);

	while (d && (e = readdir(d))) {
		if (e->d_name[0] != '.')
			unlinkat(fuzz.dirfd, e->d_name, 0);
	}
	if (d)
		closedir(d);
}

static void end(void)
{
	clean();
	rmdir(fuzz.path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char *text;

	(void)argc;
	(void)argv;
	strcpy(fuzz.path, access("/dev/shm", W_OK) ? "/tmp/fuzz_journal.XXXXXX"
						   : "/dev/shm/fuzz_journal.XXXXXX");
	if (!mkdtemp(fuzz.path))
		abort();
	fuzz.dirfd = open(fuzz.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, NULL) == 0) {
		memcpy(fuzz.boot, text, strnlen(text, sizeof(fuzz.boot) - 1));
		free(text);
	}
	atexit(end);
	return 0;
}

static void write_file(const char *name, const struct journal_head *head, const void *data,
		       size_t size)
{
	int fd = openat(fuzz.dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || (head && fd_write_all(fd, head, sizeof(*head)) < 0) ||
	    fd_write_all(fd, data, size) < 0)
		abort();
	close(fd);
}

static void fill_head(struct journal_head *h, const char *magic, uint32_t seed, uint64_t body)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, magic, sizeof(h->magic));
	h->version = JOURNAL_VERSION;
	h->mark = MARK;
	h->index = 1;
	h->first_seq = 1;
	h->body_size = body;
	memset(h->id, 'a', sizeof(h->id));
	memcpy(h->boot, fuzz.boot, sizeof(h->boot));
	h->seed = seed;
	h->crc = crc32c(0, h, offsetof(struct journal_head, crc));
}

static void put_right(uint8_t *data, size_t size)
{
	const size_t covered = offsetof(struct journal_frame_head, first_seq);

	for (size_t at = 0; at + sizeof(struct journal_frame_head) <= size;) {
		struct journal_frame_head h;
		size_t left = size - at - sizeof(h);

		memcpy(&h, data + at, sizeof(h));
		h.mark = MARK;
		/* small steps, so that there are several */
		h.size = (uint32_t)(left ? h.size % (left < 500 ? left + 1 : 500) : 0);
		h.n_events %= 8;
		h.first_seq %= 1000;
		memcpy(data + at, &h, sizeof(h));
		h.crc = crc32c(SEED, data + at + covered, sizeof(h) - covered + h.size);
		memcpy(data + at, &h, sizeof(h));
		at += (sizeof(h) + h.size + 7) & ~7ull;
	}
}

static int on_state(void *user, const char *key, const void *value, size_t size)
{
	uint64_t *sum = user;

	/* every byte has to be readable */
	*sum += strlen(key);
	for (size_t i = 0; i < size; i++)
		*sum += ((const uint8_t *)value)[i];
	return 0;
}

static uint64_t read_all(struct journal *j)
{
	struct journal_cursor *c;
	struct journal_event e;
	uint64_t from, to, next = 1, n = 0;
	int r;

	if (journal_cursor_new(j, 0, &c) < 0)
		abort();
	while ((r = journal_read(c, &e, &from, &to)) != JOURNAL_E_END) {
		if (r < 0 || (r == 0 && e.seq != next) || (r && (from != next || to < from)))
			abort();
		next = r ? to + 1 : next + 1;
		if (!r && strlen(e.ns) + strlen(e.topic) + e.payload_size > JOURNAL_FRAME_MAX)
			abort();
		n++;
	}
	if (next != journal_last(j) + 1)
		abort();
	journal_cursor_free(c);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_head h;
	struct journal *j;
	uint64_t sum = 0, last;
	uint8_t *copy;
	char id[33];
	int mode;

	if (size < 1)
		return 0;
	mode = *data++ & 3;
	size--;
	copy = malloc(size + 1);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	fill_head(&h, journal_segment_magic, SEED, 0);
	if (mode == 2)
		put_right(copy, size);
	if (mode == 3) {
		write_file("journal-00000001.log", &h, "", 0);
		fill_head(&h, journal_snapshot_magic, crc32c(0, copy, size), size);
		write_file("snapshot-00000001", &h, copy, size);
	} else {
		write_file("journal-00000001.log", mode ? &h : NULL, copy, size);
	}
	free(copy);

	if (journal_open(&j, fuzz.dirfd, 0, on_state, NULL, &sum, NULL) < 0)
		abort();
	strcpy(id, journal_id(j));
	read_all(j);
	journal_put(j, "key", "value", 5);
	last = journal_event(j, "default", "/topic", "x", 1);
	if (journal_commit(j) < 0 || journal_last(j) != last)
		abort();
	read_all(j);
	journal_close(j);

	if (journal_open(&j, fuzz.dirfd, 0, on_state, NULL, &sum, NULL) < 0)
		abort();
	if (journal_last(j) != last || strcmp(id, journal_id(j)))
		abort();
	read_all(j);
	journal_close(j);
	clean();
	return 0;
}
