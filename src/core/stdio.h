// SPDX-License-Identifier: Apache-2.0
/*
 * Standard streams of a process: what a client asks for, and the fds that come of it
 *
 * Kinds as in the RPC contract: nothing, a FIFO's path, file:///path, a passed fd, "log:". No byte of a stream
 * that is not a terminal or a log passes through the daemon. FIFOs are opened without ever blocking; the
 * container's end is blocking. Keepers (an end of a FIFO held so that neither end of file nor SIGPIPE comes early)
 * are given to the guardian.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/fault.h"

enum stdio_kind { STDIO_NONE, STDIO_FIFO, STDIO_FILE, STDIO_FD, STDIO_LOG };

struct stdio_stream {
	enum stdio_kind kind;
	char *path; /* of a FIFO, a file, a log's file */
	/* STDIO_FD as passed; or the log's read end, or the terminal's own end, after stdio_open */
	int fd;
	int child; /* what the process gets, after stdio_open; -1 for none */
	int keeper; /* -1 for none */
	uint64_t
		inode; /* of a pipe, a log's or a passed one: by it a later daemon, and a checkpoint, find it again; else 0 */
	bool drained; /* the log thread has the pipe */
	/* of an output FIFO: somebody has it open already, no keeper is needed */
	bool client_there;
};

struct stdio {
	struct stdio_stream stream[3]; /* stdin, stdout, stderr */
	bool terminal;
	uint16_t width, height;
	int console; /* connected UNIX socket for the pty's master, or -1 */
	int64_t log_max_size;
};

extern const char *const stdio_names[3]; /* "stdin", "stdout", "stderr" */

void stdio_init(struct stdio *s);
void stdio_clear(struct stdio *s); /* closes and frees everything */
/* From the RPC's text (checked by shape already); fd is taken over for "fd:N". log_path is copied for "log:". */
int stdio_set(struct stdio *s, int which, const char *text, int fd, const char *log_path,
	      struct fault *f);
/* What tasks.get shows: path, file:///path, "log:/path", "fd", or NULL. buf of `size` bytes is used for it. */
const char *stdio_text(const struct stdio *s, int which, char *buf, int size);
/* The reverse, for a record that was read back: kind and path without fds. */
int stdio_restore(struct stdio *s, int which, const char *text);
/*
 * Opens what is to be opened; blocks only as long as a file system does, so it is for a worker. Without a terminal `child` is set for each
 * stream that has a kind; with one `fd` is the daemon's own end of it: non-blocking FIFO, file for appending.
 */
int stdio_open(struct stdio *s, struct fault *f);
/* After the process was made: closes the child's ends. */
void stdio_close_child(struct stdio *s);
