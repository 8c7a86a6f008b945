// SPDX-License-Identifier: Apache-2.0
/*
 * The exit log's file
 *
 * Records are appended by one write() each; there is no fsync, since the file lives as long as the
 * boot. A record torn by a crash fails its checksum and is skipped; since all have one size, what
 * follows stays readable, and appending begins at the next multiple of that size. The file is not
 * edited when a status is acknowledged: it is emptied when none is left, and written anew (beside,
 * then renamed) when it holds many more records than are awaited.
 */
#include "core/exit_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

#define EXIT_MAGIC 0x74697865u /* "exit" */
#define EXIT_NAME "exits"

struct exit_record {
	uint32_t magic, version;
	uint64_t boot;
	struct keep_status status;
	uint64_t sum; /* FNV-1a of what stands before */
};

static uint64_t fnv(const void *data, size_t size)
{
	const unsigned char *p = data;
	uint64_t h = 0xcbf29ce484222325ull;

	while (size--) {
		h ^= *p++;
		h *= 0x100000001b3ull;
	}
	return h;
}

static void record_fill(const struct exit_log *l, const struct keep_status *s,
			struct exit_record *r)
{
	memset(r, 0, sizeof(*r));
	r->magic = EXIT_MAGIC;
	r->version = 1;
	r->boot = l->boot;
	r->status = *s;
	r->sum = fnv(r, offsetof(struct exit_record, sum));
}

static int boot_read(uint64_t *boot)
{
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	r = fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 256, &text, &size);
	if (r < 0)
		return r;
	*boot = fnv(text, size);
	return 0;
}

static int entry_new(struct exit_log *l, const struct keep_status *s, struct exit_entry **out)
{
	struct exit_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->status = *s;
	TAILQ_INSERT_TAIL(&l->entries, e, link);
	l->count++;
	if (out)
		*out = e;
	return 0;
}

static void entry_drop(struct exit_log *l, struct exit_entry *e)
{
	TAILQ_REMOVE(&l->entries, e, link);
	l->count--;
	free(e);
}

static int entries_read(struct exit_log *l)
{
	struct exit_record rec;
	off_t at = 0;

	for (;; at += (off_t)sizeof(rec)) {
		ssize_t n = pread(l->fd, &rec, sizeof(rec), at);
		int r;

		if (n < 0)
			return -errno;
		if (!n)
			return 0;
		if ((size_t)n < sizeof(rec)) /* a torn end: the next record takes its place */
			return ftruncate(l->fd, at) < 0 ? -errno : 0;
		l->records++;
		if (rec.magic != EXIT_MAGIC || rec.version != 1 || rec.boot != l->boot ||
		    rec.sum != fnv(&rec, offsetof(struct exit_record, sum)))
			continue;
		r = entry_new(l, &rec.status, NULL);
		if (r < 0)
			return r;
	}
}

int exit_log_open(struct exit_log *l, int dirfd, struct fault *f)
{
	int r;

	memset(l, 0, sizeof(*l));
	TAILQ_INIT(&l->entries);
	l->dirfd = dirfd;
	l->fd = -1;
	r = boot_read(&l->boot);
	if (r < 0)
		return fault_sys(f, -r, "read", "/proc/sys/kernel/random/boot_id");
	l->fd = openat(dirfd, EXIT_NAME, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
		       0600);
	if (l->fd < 0)
		return fault_sys(f, errno, "open", EXIT_NAME);
	r = entries_read(l);
	if (r < 0) {
		exit_log_close(l);
		return fault_sys(f, -r, "read", EXIT_NAME);
	}
	if (!l->count && ftruncate(l->fd, 0) == 0)
		l->records = 0;
	return 0;
}

void exit_log_close(struct exit_log *l)
{
	while (!TAILQ_EMPTY(&l->entries))
		entry_drop(l, TAILQ_FIRST(&l->entries));
	fd_close(&l->fd);
}

/* Writes what is still awaited into a new file. Failing that, the old one goes on. */
static void log_compact(struct exit_log *l)
{
	int fd = openat(l->dirfd, EXIT_NAME ".new",
			O_RDWR | O_APPEND | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct exit_entry *e;
	size_t n = 0;

	if (fd < 0)
		return;
	TAILQ_FOREACH (e, &l->entries, link) {
		struct exit_record rec;

		record_fill(l, &e->status, &rec);
		if (fd_write_all(fd, &rec, sizeof(rec)) < 0)
			break;
		n++;
	}
	if (e || renameat(l->dirfd, EXIT_NAME ".new", l->dirfd, EXIT_NAME) < 0) {
		close(fd);
		unlinkat(l->dirfd, EXIT_NAME ".new", 0);
		return;
	}
	close(l->fd);
	l->fd = fd;
	l->records = n;
}

int exit_log_add(struct exit_log *l, const struct keep_status *s, struct exit_entry **entry)
{
	struct exit_record rec;
	struct stat st;
	ssize_t n;
	int r;

	if (l->count >= EXIT_LOG_MAX)
		entry_drop(l, TAILQ_FIRST(&l->entries));
	r = entry_new(l, s, entry);
	if (r < 0)
		return r;
	record_fill(l, s, &rec);
	do {
		n = write(l->fd, &rec, sizeof(rec));
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(rec)) {
		r = n < 0 ? -errno : -ENOSPC;
		/* a part of a record must not shift those behind it */
		if (n > 0 && fstat(l->fd, &st) == 0 && ftruncate(l->fd, st.st_size - n) < 0)
			return -errno;
		return r;
	}
	l->records++;
	if (l->records > 2 * EXIT_LOG_MAX)
		log_compact(l);
	return 0;
}

void exit_log_ack(struct exit_log *l, pid_t pid)
{
	struct exit_entry *e;

	TAILQ_FOREACH (e, &l->entries, link) {
		if (e->sent && e->status.pid == pid) {
			entry_drop(l, e);
			break;
		}
	}
	if (!l->count && l->records && ftruncate(l->fd, 0) == 0)
		l->records = 0;
}

void exit_log_rewind(struct exit_log *l)
{
	struct exit_entry *e;

	TAILQ_FOREACH (e, &l->entries, link)
		e->sent = false;
}
