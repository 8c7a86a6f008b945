// SPDX-License-Identifier: Apache-2.0
/*
 * The state log and event journal: one append-only file of checksummed records under --state
 *
 * Two kinds of records: state (a key with a value, or its removal) and events (with a seq that
 * rises by one without a hole, also over restarts of the daemon). What belongs together is
 * committed by one write(). There is no fsync: it lives as long as the boot. The log is a row of
 * segment files; when the newest is full, a new one is begun, and the state as of its beginning is
 * written beside it by a snapshot, after which segments that hold only events beyond the limit are
 * removed. A torn record at the end is cut off at open; a damaged one in the middle is reported and
 * everything before and after that can be read is kept.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/fault.h"

struct journal;
struct journal_cursor;

struct journal_event {
	uint64_t seq;
	int64_t timestamp; /* ns since the epoch */
	const char *ns; /* NUL-terminated, borrowed */
	const char *topic;
	const void *payload; /* one msgpack map */
	size_t payload_size;
};

/* Called at open for each live state pair, in no order. A non-zero return ends open with it. */
typedef int (*journal_state_fn)(void *user, const char *key, const void *value, size_t size);
/* Called when a segment is begun: the owner calls journal_snapshot_put for every live pair. */
typedef void (*journal_snapshot_fn)(void *user, struct journal *j);

/* dirfd: of --state, borrowed. limit: bytes of events kept, LIMIT_JOURNAL_BYTES_MIN at least. */
int journal_open(struct journal **out, int dirfd, uint64_t limit, journal_state_fn state,
		 journal_snapshot_fn snapshot, void *user, struct fault *f);
void journal_close(struct journal *j);

/* The journal's identity: 32 hex digits, new with a new state folder or boot. */
const char *journal_id(const struct journal *j);
uint64_t journal_first(const struct journal *j); /* oldest seq kept; last + 1 when there is none */
uint64_t journal_last(const struct journal *j); /* 0 before the first event */
uint64_t journal_bytes(const struct journal *j); /* of all segment files */
/*
 * Bytes that open could not read; for a warning. A torn end, as a killed writer leaves it, is none.
 */
uint64_t journal_damaged(const struct journal *j);

/*
 * A commit: put, del and event gather, journal_commit writes. Values are copied. What was gathered
 * has to be what makes the owner's state differ from that of the last commit. What went wrong while
 * gathering (-EMSGSIZE: a payload over LIMIT_EVENT_BYTES, a name of 64 KiB, a commit of 64 MiB;
 * -ENOMEM) fails the commit. A failed write (a full disk) leaves the log as it was and what was
 * gathered is dropped; the error is returned so that the RPC fails. journal_event answers the seq
 * that the event will have.
 */
int journal_put(struct journal *j, const char *key, const void *value, size_t size);
int journal_del(struct journal *j, const char *key);
uint64_t journal_event(struct journal *j, const char *ns, const char *topic, const void *payload,
		       size_t size);
int journal_commit(struct journal *j);
void journal_snapshot_put(struct journal *j, const char *key, const void *value, size_t size);
/*
 * Writing a snapshot and removing old segments may be handed to a worker: called with a job that
 * must be run once, anywhere. Without it they are done in place.
 */
void journal_offload(struct journal *j,
		     void (*submit)(void *user, void (*run)(void *arg), void (*done)(void *arg),
				    void *arg),
		     void *user);

/*
 * Reading: a cursor stands before a seq. journal_read answers 0 and fills *e (valid until the next
 * read on any cursor of this journal, or a commit), JOURNAL_E_END when it has caught up,
 * JOURNAL_E_GAP when seqs were dropped (*e is untouched; the cursor now stands behind them; from
 * and to, inclusive, say what is lost); -errno when a file cannot be read. A cursor is freed before
 * its journal is closed.
 */
enum { JOURNAL_E_END = 1, JOURNAL_E_GAP };
int journal_cursor_new(struct journal *j, uint64_t after, struct journal_cursor **out);
void journal_cursor_free(struct journal_cursor *c);
int journal_read(struct journal_cursor *c, struct journal_event *e, uint64_t *from, uint64_t *to);
/* The event that journal_read has just answered will be answered once more. */
void journal_unread(struct journal_cursor *c);
uint64_t journal_cursor_seq(const struct journal_cursor *c); /* the next it will answer */
/* Called after each commit that held events, when all is done: it may commit. */
void journal_on_event(struct journal *j, void (*fn)(void *user), void *user);
