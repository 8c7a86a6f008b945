// SPDX-License-Identifier: Apache-2.0
/*
 * What the guardian keeps for the reactor
 *
 * A store of duplicate fds under a key (pty masters, start sockets of created containers, ends of
 * FIFOs, log pipes), and the exit statuses of children that it inherited. This is the reactor's end
 * of the socket to it: messages are queued, never waited for, and arrive in order.
 */
#pragma once

#include <event2/event.h>
#include <stdint.h>

#include "monitor/reaper.h"

struct keep;

/*
 * Called at start for each fd that the guardian still holds (taken over by the callee) and for each
 * status not yet acknowledged.
 */
struct keep_handlers {
	void (*item)(void *user, const char *key, int fd);
	void (*status)(void *user, const struct reaper_status *status, uint64_t starttime);
	void (*lost)(void *user); /* the guardian is gone */
};

/*
 * sock is taken over. Reads the hand-over (blocking, before the loop runs), then attaches to base.
 * *out is set before the handlers are called: they may use it.
 */
int keep_new(struct keep **out, struct event_base *base, int sock,
	     const struct keep_handlers *handlers, void *user);
void keep_free(struct keep *k);
/*
 * The guardian gets a duplicate; the caller keeps fd. A key that exists is replaced. Keys:
 * "KIND/NS/ID[/EXEC][/NAME]", at most 300 bytes.
 */
int keep_put(struct keep *k, const char *key, int fd);
int keep_drop(struct keep *k, const char *key); /* closes it there; unknown keys are fine */
int keep_drop_prefix(struct keep *k, const char *prefix);
/* The status of this pid is in the journal: the guardian's exit log may forget it. */
void keep_ack(struct keep *k, pid_t pid);
/*
 * Says READY (to systemd and to who started the daemon), or that the daemon is to end as well when
 * the reactor exits.
 */
void keep_ready(struct keep *k);
void keep_stopping(struct keep *k);
/*
 * Before the process exits because it cannot start: why, for who started the daemon. On the bare
 * socket, since there may be no struct keep yet.
 */
void keep_fail(int sock, const char *why);
