// SPDX-License-Identifier: Apache-2.0
/*
 * Log files
 *
 * They belong to the log thread. A file is opened with the first line, its folder made if need be,
 * and tried again with each batch as long as that fails. Lines collect in the batch's buffer and
 * are written by one call; the buffer is emptied early when it is full or the file's bound is
 * reached, so that no file is larger than its bound, unless one line is.
 *
 * What a full disk does not take is dropped and counted, and an incomplete line is cut off again.
 * The next batch begins with a line that tells how much is missing; if that cannot be written
 * either, the count goes on.
 */
#include "monitor/logs_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"

static int file_compare(const struct log_file *a, const struct log_file *b)
{
	return strcmp(a->path, b->path);
}

RB_GENERATE_INTERNAL(log_files, log_file, tree, file_compare, static __attribute__((unused)))

struct log_file *log_file_get(struct log_files *files, const char *path, int64_t max_size)
{
	size_t size = strlen(path) + 1;
	struct log_file *f = malloc(sizeof(*f) + size), *found;

	if (!f)
		return NULL;
	memset(f, 0, sizeof(*f));
	memcpy(f->path, path, size);
	f->fd = -1;
	found = RB_INSERT(log_files, files, f);
	if (found) {
		free(f);
		f = found;
	}
	f->max_size = max_size > 0 ? max_size : LIMIT_LOG_SIZE_DEFAULT;
	f->refs++;
	return f;
}

void log_file_put(struct log_files *files, struct log_file *f, struct log_batch *b)
{
	if (!f || --f->refs)
		return;
	if (f->lost) {
		log_batch_begin(b, f);
		log_batch_line(b, NULL, 'F', NULL, 0, NULL, 0);
		log_batch_end(b);
	}
	RB_REMOVE(log_files, files, f);
	fd_close(&f->fd);
	free(f);
}

static void make_folders(const char *path)
{
	CLEANUP_FREE char *copy = strdup(path);

	/* what does not work shows when the file is opened */
	for (char *p = copy; p && (p = strchr(p + 1, '/'));) {
		*p = '\0';
		mkdir(copy, 0700);
		*p = '/';
	}
}

/* One thread writes for all: what is no regular file, and so might keep it waiting, is -ENXIO. */
static int file_open(struct log_file *f)
{
	const int flags = O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	CLEANUP_CLOSE int fd = open(f->path, flags, 0640);
	struct stat st;
	char last;

	if (fd < 0 && errno == ENOENT) {
		make_folders(f->path);
		fd = open(f->path, flags, 0640);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENXIO;
	f->fd = TAKE_FD(fd);
	f->size = st.st_size;
	/* a machine that went down may have left half a line */
	if (f->size && pread(f->fd, &last, 1, f->size - 1) == 1 && last != '\n' &&
	    write(f->fd, "\n", 1) == 1)
		f->size++;
	return 0;
}

static void file_rotate(struct log_file *f)
{
	CLEANUP_FREE char *old = NULL;
	int err = ENOMEM;

	if (asprintf(&old, "%s.1", f->path) < 0)
		old = NULL;
	if (old)
		err = rename(f->path, old) < 0 ? errno : 0;
	/* not there: somebody else moved it away */
	if (!err || err == ENOENT) {
		fd_close(&f->fd);
		f->size = 0;
		return;
	}
	/* the bound holds in any case */
	if (f->fd >= 0 && ftruncate(f->fd, 0) == 0) {
		f->lost += (uint64_t)f->size;
		f->lost_why = err;
		f->size = 0;
	}
}

/* Bytes of output in complete lines, without what we put before them. */
static uint64_t payload(const char *lines, size_t size)
{
	uint64_t sum = 0;

	while (size) {
		const char *end = memchr(lines, '\n', size), *text;
		size_t line = end ? (size_t)(end - lines) + 1 : size;

		/* TIME stream F text */
		text = memchr(lines + LOG_STAMP_SIZE, ' ', line - LOG_STAMP_SIZE);
		if (text)
			sum += line - (size_t)(text + 3 - lines);
		lines += line;
		size -= line;
	}
	return sum;
}

static void batch_lose(struct log_batch *b, size_t from, int why)
{
	struct log_file *f = b->file;

	if (b->notice && from == 0) {
		const char *end = memchr(b->out, '\n', b->used);

		f->lost += b->notice;
		from = (size_t)(end - b->out) + 1;
	}
	f->lost += payload(b->out + from, b->used - from);
	f->lost_why = why;
}

static void batch_write(struct log_batch *b)
{
	struct log_file *f = b->file;
	size_t done = 0;
	int err = 0;

	if (!b->used)
		return;
	if (f->fd < 0)
		err = -file_open(f);
	while (!err && done < b->used) {
		ssize_t n = write(f->fd, b->out + done, b->used - done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno != EINTR)
			err = n ? errno : ENOSPC;
	}
	if (err) {
		const char *end = memrchr(b->out, '\n', done);
		size_t whole = end ? (size_t)(end - b->out) + 1 : 0;

		if (whole != done && ftruncate(f->fd, f->size + (off_t)whole) < 0)
			whole = done;
		f->size += (int64_t)whole;
		batch_lose(b, whole, err);
	} else {
		f->size += (int64_t)done;
	}
	b->used = 0;
	b->notice = 0;
}

void log_batch_begin(struct log_batch *b, struct log_file *f)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ts.tv_sec != b->second || !b->stamp[0]) {
		struct tm tm;

		gmtime_r(&ts.tv_sec, &tm);
		strftime(b->stamp, sizeof(b->stamp), "%Y-%m-%dT%H:%M:%S.", &tm);
		b->second = ts.tv_sec;
	}
	for (int i = 28; i >= 20; i--, ts.tv_nsec /= 10)
		b->stamp[i] = (char)('0' + ts.tv_nsec % 10);
	b->stamp[29] = 'Z';
	b->stamp[30] = ' ';
	b->file = f;
}

static void put(struct log_batch *b, const char *data, size_t size)
{
	if (size)
		memcpy(b->out + b->used, data, size);
	b->used += size;
}

static void batch_notice(struct log_batch *b)
{
	struct log_file *f = b->file;
	char text[200];
	int n = snprintf(text, sizeof(text),
			 "stderr F davit: %" PRIu64 " bytes of output were lost: %s\n", f->lost,
			 f->lost_why ? strerrordesc_np(f->lost_why)
				     : "they came faster than they could be written");

	put(b, b->stamp, LOG_STAMP_SIZE);
	put(b, text, (size_t)n);
	b->notice = f->lost;
	f->lost = 0;
}

void log_batch_line(struct log_batch *b, const char *stream, char tag, const char *head,
		    size_t head_size, const char *data, size_t size)
{
	struct log_file *f = b->file;
	size_t name = stream ? strlen(stream) : 0;
	size_t need = LOG_STAMP_SIZE + name + 3 + head_size + size + 1;
	char mark[3] = { ' ', tag, ' ' };
	int64_t before;

	if (f->fd < 0 && !b->used) {
		int r = file_open(f);

		/* batch_write tries again, and accounts for it */
		if (r < 0)
			f->size = 0;
	}
	before = f->size + (int64_t)b->used;
	if (before && before + (int64_t)need > f->max_size) {
		batch_write(b);
		if (f->size && f->size + (int64_t)need > f->max_size)
			file_rotate(f);
	}
	if (b->used + need > LOG_OUT_SIZE)
		batch_write(b);
	if (!b->used && f->lost)
		batch_notice(b);
	if (!stream)
		return;
	put(b, b->stamp, LOG_STAMP_SIZE);
	put(b, stream, name);
	put(b, mark, sizeof(mark));
	put(b, head, head_size);
	put(b, data, size);
	put(b, "\n", 1);
}

void log_batch_end(struct log_batch *b)
{
	batch_write(b);
	b->file = NULL;
}
