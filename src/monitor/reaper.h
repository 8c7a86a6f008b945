// SPDX-License-Identifier: Apache-2.0
/*
 * The one reaper
 *
 * signalfd wakes it; it loops waitid(P_ALL, WNOHANG|WNOWAIT), hands the status to who registered,
 * and only then reaps, so that a reactor killed in between leaves the zombie to the guardian. A
 * status for a pid that nobody registered (yet) is reaped and kept until somebody does (bounded,
 * oldest first out). Three sources, one path: own children by waitid; children of the guardian by
 * reaper_deliver (its message); orphans that run under another parent (adopted) by their pidfd:
 * readable when dead, status by PIDFD_GET_INFO once PIDFD_INFO_EXIT is in the returned mask,
 * unknown where the kernel has none.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct reaper;
struct reaper_watch;

struct reaper_status {
	pid_t pid;
	bool known; /* false: nobody can know it; the two below are 0 */
	int exit_code; /* 0..255 when it exited */
	int signal; /* > 0 when a signal ended it */
	bool core_dumped;
	int64_t exited_at; /* ns since the epoch, when it was seen */
};

typedef void (*reaper_fn)(void *user, const struct reaper_status *status);

/* Blocks SIGCHLD in the calling thread (before others are started) and opens the signalfd. */
int reaper_new(struct reaper **out, struct event_base *base);
void reaper_free(struct reaper *r);

enum reaper_source { REAPER_CHILD, REAPER_GUARDIAN, REAPER_ADOPTED };
/*
 * fn is called once, from the reactor, never from inside this call (an early status is delivered
 * from the next turn of the loop). pidfd is borrowed and needed for REAPER_ADOPTED only. 0,
 * -EEXIST, -ENOMEM.
 */
int reaper_add(struct reaper *r, enum reaper_source source, pid_t pid, int pidfd, reaper_fn fn,
	       void *user, struct reaper_watch **watch);
/* NULL is fine; once fn is called, and inside it, the watch is gone already. */
void reaper_remove(struct reaper_watch *watch);
/* A status that the guardian reports. Unregistered ones are kept as early statuses are. */
void reaper_deliver(struct reaper *r, const struct reaper_status *status);
/* Looks for ended children now (as when signalfd is readable). */
void reaper_poll(struct reaper *r);
uint64_t reaper_count(const struct reaper *r); /* statuses seen */
