// SPDX-License-Identifier: Apache-2.0
/*
 * Container logs: one thread drains all `log:` pipes
 *
 * Lines are written as Kubernetes has them (`2026-01-02T03:04:05.000000000Z stdout F text`; P for a part of a
 * longer line), rotated when a file exceeds its bound (FILE, FILE.1). The thread has an epoll of
 * its own; the reactor only hands pipes over and learns of their end.
 */
#pragma once

#include <event2/event.h>
#include <stdint.h>

struct logs;

int logs_new(struct logs **out, struct event_base *base);
void logs_free(struct logs *l); /* drains what is there, then ends the thread */

/*
 * Drains fd (taken over; a pipe's read end, made non-blocking) into the file `path` (its folder exists or is made; appended). stream: "stdout" or
 * "stderr", two pipes may share a path. ended: called on the reactor when the pipe reached its end or failed (err, 0 for end of file); may be NULL.
 */
int logs_add(struct logs *l, int fd, const char *path, const char *stream, int64_t max_size, void (*ended)(void *user, int err),
	     void *user);
/* A terminal's output, from the reactor: a bounded queue; what does not fit is dropped and counted in the log itself. Path as key; flushes on logs_tty_end. */
int logs_write(struct logs *l, const char *path, const char *stream, int64_t max_size, const void *data, size_t size);
void logs_end(struct logs *l, const char *path); /* of logs_write: an unfinished line is written, the file closed */
