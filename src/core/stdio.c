// SPDX-License-Identifier: Apache-2.0
/*
 * Standard streams
 *
 * A FIFO is opened in an order that cannot block and loses nothing. For stdin: once for both directions (Linux
 * allows that without a peer, fifo(7)), then the container's reading end, then the keeper's writing end, then the first one is
 * closed. The keeper goes away with close_io, and only then does the container see end of file.
 * For an output: when the client has its reading end open already, opening for writing without blocking
 * succeeds (else ENXIO), and no keeper is needed: a client that goes away is a SIGPIPE, as it should be.
 * Otherwise the keeper holds a reading end until inotify tells that somebody has opened the FIFO.
 */
#include "core/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

const char *const stdio_names[3] = { "stdin", "stdout", "stderr" };

void stdio_init(struct stdio *s)
{
	memset(s, 0, sizeof(*s));
	for (int i = 0; i < 3; i++) {
		s->stream[i].fd = -1;
		s->stream[i].child = -1;
		s->stream[i].keeper = -1;
	}
	s->console = -1;
	s->log_max_size = LIMIT_LOG_SIZE_DEFAULT;
}

void stdio_clear(struct stdio *s)
{
	for (int i = 0; i < 3; i++) {
		fd_close(&s->stream[i].fd);
		fd_close(&s->stream[i].child);
		fd_close(&s->stream[i].keeper);
		free(s->stream[i].path);
		s->stream[i].path = NULL;
		s->stream[i].kind = STDIO_NONE;
	}
	fd_close(&s->console);
}

int stdio_set(struct stdio *s, int which, const char *text, int fd, const char *log_path,
	      struct fault *f)
{
	struct stdio_stream *st = &s->stream[which];
	const char *path = NULL;
	int r = 0;

	if (!text || !*text) {
		fd_close(&fd);
		return 0;
	}
	if (fd >= 0) {
		st->kind = STDIO_FD;
		st->fd = fd;
	} else if (!strcmp(text, "log:")) {
		if (which == 0) {
			r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "stdin cannot be a log");
			fault_arg(f, stdio_names[which]);
			return r;
		}
		st->kind = STDIO_LOG;
		path = log_path;
	} else if (!strncmp(text, "file:///", 8)) {
		st->kind = STDIO_FILE;
		path = text + 7;
	} else if (text[0] == '/') {
		st->kind = STDIO_FIFO;
		path = text;
	} else {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      "%s: \"%s\" is neither a FIFO's path, file:///path, fd:N nor log:",
			      stdio_names[which], text);
		fault_arg(f, stdio_names[which]);
		return r;
	}
	if (s->terminal && st->kind == STDIO_FD) {
		r = fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"%s: a terminal's streams cannot be passed fds; attach to it, or use a FIFO, a file or log:",
			stdio_names[which]);
		fault_arg(f, stdio_names[which]);
		return r;
	}
	if (s->terminal && (which == 2 || (which == 0 && st->kind != STDIO_FIFO))) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      which == 2
				      ? "a terminal has no stderr of its own"
				      : "a terminal's stdin is a FIFO or nothing (attach to it)");
		fault_arg(f, stdio_names[which]);
		return r;
	}
	if (path) {
		st->path = strdup(path);
		if (!st->path)
			return fault_sys(f, ENOMEM, "keep the streams", NULL);
	}
	return 0;
}

const char *stdio_text(const struct stdio *s, int which, char *buf, int size)
{
	const struct stdio_stream *st = &s->stream[which];

	switch (st->kind) {
	case STDIO_FIFO:
		return st->path;
	case STDIO_FILE:
		snprintf(buf, (size_t)size, "file://%s", st->path);
		return buf;
	case STDIO_LOG:
		snprintf(buf, (size_t)size, "log:%s", st->path);
		return buf;
	case STDIO_FD:
		return "fd";
	case STDIO_NONE:
		break;
	}
	return NULL;
}

int stdio_restore(struct stdio *s, int which, const char *text)
{
	struct stdio_stream *st = &s->stream[which];
	const char *path = NULL;

	if (!text)
		return 0;
	if (!strcmp(text, "fd")) {
		st->kind = STDIO_FD;
	} else if (!strncmp(text, "file://", 7)) {
		st->kind = STDIO_FILE;
		path = text + 7;
	} else if (!strncmp(text, "log:", 4)) {
		st->kind = STDIO_LOG;
		path = text + 4;
	} else if (text[0] == '/') {
		st->kind = STDIO_FIFO;
		path = text;
	} else {
		return -EBADMSG;
	}
	if (path) {
		st->path = strdup(path);
		if (!st->path)
			return -ENOMEM;
	}
	return 0;
}

static int stdio_fault(struct fault *f, int err, int which, const char *path)
{
	char step[64];
	int r;

	snprintf(step, sizeof(step), "open %s", stdio_names[which]);
	r = fault_sys(f, err, step, path);
	fault_arg(f, stdio_names[which]);
	return r;
}

/* An O_PATH fd that is a FIFO for sure can be opened again through /proc without a race. */
static int stdio_check_fifo(const char *path, char *proc, size_t size, int *pin)
{
	struct stat st;

	*pin = open(path, O_PATH | O_CLOEXEC);
	if (*pin < 0)
		return -errno;
	if (fstat(*pin, &st) < 0 || !S_ISFIFO(st.st_mode)) {
		fd_close(pin);
		return -ENOTSUP;
	}
	snprintf(proc, size, "/proc/self/fd/%d", *pin);
	return 0;
}

static int stdio_open_fifo(struct stdio *s, int which, struct fault *f)
{
	struct stdio_stream *st = &s->stream[which];
	CLEANUP_CLOSE int pin = -1, both = -1, end = -1;
	char proc[64];
	int r;

	r = stdio_check_fifo(st->path, proc, sizeof(proc), &pin);
	if (r == -ENOTSUP) {
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			      "%s: %s is not a FIFO (a file is file://%s)", stdio_names[which],
			      st->path, st->path);
		fault_arg(f, stdio_names[which]);
		return r;
	}
	if (r < 0)
		return stdio_fault(f, -r, which, st->path);
	if (s->terminal) {
		/* both directions, so that the daemon's end is never at its end of file and never ENXIO */
		st->fd = open(proc, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		return st->fd < 0 ? stdio_fault(f, errno, which, st->path) : 0;
	}
	if (which != 0) {
		end = open(proc, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (end >= 0) {
			st->client_there = true;
			r = fd_nonblock(end, 0);
			if (r < 0)
				return stdio_fault(f, -r, which, st->path);
			st->child = TAKE_FD(end);
			return 0;
		}
		if (errno != ENXIO)
			return stdio_fault(f, errno, which, st->path);
	}
	both = open(proc, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (both < 0)
		return stdio_fault(f, errno, which, st->path);
	end = open(proc, (which ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
	if (end < 0)
		return stdio_fault(f, errno, which, st->path);
	st->keeper = open(proc, (which ? O_RDONLY : O_WRONLY) | O_NONBLOCK | O_CLOEXEC);
	if (st->keeper < 0)
		return stdio_fault(f, errno, which, st->path);
	st->child = TAKE_FD(end);
	return 0;
}

/*
 * The container's end of a log's pipe is open for reading too (by /proc, as for FIFOs): when daemon and guardian are both away it
 * has a full pipe to wait at instead of a SIGPIPE to die of, and the next daemon opens the pipe again through the process.
 */
static int stdio_open_log_end(struct stdio_stream *st, int end, struct fault *f)
{
	struct stat info = { 0 };
	char proc[64];
	int err;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", end);
	st->child = open(proc, O_RDWR | O_CLOEXEC);
	err = st->child < 0 || fstat(st->child, &info) < 0 ? errno : 0;
	close(end);
	if (err)
		return fault_sys(f, err, "open a log's pipe", st->path);
	st->inode = info.st_ino;
	return 0;
}

/* 0: it is none, or one with a name. */
static uint64_t pipe_inode(int fd)
{
	struct statfs fs;
	struct stat st;

	return fstatfs(fd, &fs) == 0 && fs.f_type == PIPEFS_MAGIC && fstat(fd, &st) == 0 ? st.st_ino
											 : 0;
}

static int stdio_open_stream(struct stdio *s, int which, struct fault *f)
{
	struct stdio_stream *st = &s->stream[which];
	int ends[2], fd;

	switch (st->kind) {
	case STDIO_NONE:
		return 0;
	case STDIO_FIFO:
		return stdio_open_fifo(s, which, f);
	case STDIO_FD:
		st->child = TAKE_FD(st->fd);
		st->inode = pipe_inode(st->child);
		return 0;
	case STDIO_FILE:
		fd = which ? open(st->path,
				  O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
				  0600)
			   : open(st->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0)
			return stdio_fault(f, errno, which, st->path);
		fd_nonblock(fd, 0);
		if (s->terminal)
			st->fd = fd;
		else
			st->child = fd;
		return 0;
	case STDIO_LOG:
		if (s->terminal)
			return 0; /* the terminal's output is handed to the log thread */
		if (pipe2(ends, O_CLOEXEC) < 0)
			return stdio_fault(f, errno, which, "pipe");
		st->fd = ends[0];
		return stdio_open_log_end(st, ends[1], f);
	}
	return 0;
}

int stdio_open(struct stdio *s, struct fault *f)
{
	for (int i = 0; i < 3; i++) {
		int r = stdio_open_stream(s, i, f);

		if (r < 0)
			return r;
	}
	return 0;
}

void stdio_close_child(struct stdio *s)
{
	for (int i = 0; i < 3; i++)
		fd_close(&s->stream[i].child);
}
