// SPDX-License-Identifier: Apache-2.0
/*
 * FIFOs that wait for their client: told by inotify
 */
#pragma once

#include "core/davit.h"

struct fifo_watches;

int fifo_watches_new(struct fifo_watches **out, struct event_base *base);
void fifo_watches_free(struct fifo_watches *w);
/* From any thread: begins to watch, before anybody can miss an open. 0 or -errno. */
int fifo_watch_begin(struct fifo_watches *w, const char *path);
/*
 * On the reactor, after begin: opened is called once, at the first open since begin, never from inside this call,
 * with the key. key is copied.
 */
int fifo_watch_add(struct fifo_watches *w, const char *path, const char *key,
		   void (*opened)(void *user, const char *key), void *user);
/* Takes back a begin that no add followed. */
void fifo_watch_cancel(struct fifo_watches *w, const char *path);
void fifo_watch_remove(struct fifo_watches *w, const char *key); /* unknown keys are fine */
