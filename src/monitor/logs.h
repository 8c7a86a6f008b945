// SPDX-License-Identifier: Apache-2.0
/*
 * Container logs: one thread drains all `log:` pipes
 *
 * Lines are written as Kubernetes has them (`2026-01-02T03:04:05.000000000Z stdout F text`; P for a
 * part of a longer line, or of one that is not finished after a moment), rotated when a file
 * exceeds its bound (FILE, FILE.1). The thread has an epoll of its own; the reactor only hands
 * pipes over and learns of their end.
 */
#pragma once

#include <event2/event.h>
#include <stdint.h>

struct logs;

int logs_new(struct logs **out, struct event_base *base);
/*
 * Drains what is in the pipes and queues now, then ends the thread. No `ended` is called any more:
 * pipes that are not at their end go on in the next daemon, if somebody kept them.
 */
void logs_free(struct logs *l);

/*
 * Drains fd (taken over, also on failure; a pipe's read end, made non-blocking) into the file
 * `path` (its folder exists or is made; appended). stream: "stdout" or "stderr", two pipes may
 * share a path. max_size: bytes of a file, 0 for LIMIT_LOG_SIZE_DEFAULT. ended: called on the
 * reactor when the pipe reached its end (err 0) or could not be read (err an errno); what came
 * before is in the file then, but for what a full disk refused; may be NULL. 0 or -errno.
 */
int logs_add(struct logs *l, int fd, const char *path, const char *stream, int64_t max_size,
	     void (*ended)(void *user, int err), void *user);
/*
 * A terminal's output, from the reactor: a bounded queue (LIMIT_LOG_QUEUE) by path; what does not
 * fit is dropped and counted in the log itself. 0 or -ENOMEM.
 */
int logs_write(struct logs *l, const char *path, const char *stream, int64_t max_size,
	       const void *data, size_t size);
/* Of logs_write: an unfinished line is written, the file closed. An unknown path is fine. */
void logs_end(struct logs *l, const char *path);
