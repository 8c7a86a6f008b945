// SPDX-License-Identifier: Apache-2.0
/*
 * The journal, inside: the format of its files and what its parts share
 *
 * A segment file is a head and then frames, one a commit, each padded to 8 bytes. Numbers are in
 * the machine's order: the files do not outlive the boot. A frame begins with its segment's mark, a
 * random number, and its checksum begins from another one, so that bytes inside an event's payload,
 * which anybody may choose, are never taken for a frame when the search goes on behind damage.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "monitor/journal.h"

#define JOURNAL_VERSION 1u
#define JOURNAL_ID_SIZE 32
#define JOURNAL_NAME_MAX 40
#define JOURNAL_FRAME_MAX (64u << 20)
#define JOURNAL_SEGMENT_MIN (256u << 10)
/* How much is read at once, and how far apart the places are that a segment's index knows. */
#define JOURNAL_WINDOW (64u << 10)
/* A last commit larger than this is read from the file by those who are not behind, too. */
#define JOURNAL_TAIL_MAX (64u << 10)

struct journal_head { /* of a segment or a snapshot file */
	char magic[8];
	uint32_t version;
	uint32_t mark; /* every frame's first word */
	uint64_t index;
	uint64_t first_seq; /* of the first event that can be in it */
	uint64_t body_size; /* of a snapshot; 0 for a segment */
	char id[JOURNAL_ID_SIZE];
	char boot[40]; /* boot_id, zero-padded */
	uint32_t seed; /* of the frames' checksums; of a snapshot: its body's checksum */
	uint32_t crc; /* of all above */
};

struct journal_frame_head {
	uint32_t mark;
	uint32_t crc; /* of what follows, the body too */
	uint64_t first_seq; /* of its first event, or of the next to come */
	uint32_t n_events;
	uint32_t size; /* of the body, unpadded */
};

enum journal_kind { JOURNAL_PUT = 1, JOURNAL_DEL, JOURNAL_EVENT };

/*
 * A body is a row of these, each followed by name, topic and data; name and topic with their NUL.
 */
struct journal_record_head {
	int64_t timestamp; /* of an event */
	uint32_t size; /* of the data */
	uint16_t kind;
	uint16_t name; /* size of the key or namespace */
	uint16_t topic; /* size; 0 but for events */
	uint16_t zero[3];
};

struct journal_record { /* borrowed from a body */
	enum journal_kind kind;
	int64_t timestamp;
	const char *name, *topic;
	const void *data;
	size_t size;
};

struct journal_frame { /* borrowed from the window */
	uint64_t offset, next; /* of it and of what follows it */
	uint64_t first_seq;
	uint32_t n_events, size;
	const uint8_t *body;
};

struct journal_bytes {
	uint8_t *data;
	size_t size, cap;
};

struct journal_place {
	uint64_t seq, offset;
};

struct journal_segment {
	uint64_t index, first_seq;
	uint64_t size; /* where the next frame goes */
	uint32_t mark, seed;
	struct journal_place
		*places; /* about every JOURNAL_WINDOW bytes a frame, as far as it was walked */
	size_t n_places;
};

struct journal_job;

struct journal {
	int dirfd; /* borrowed */
	uint64_t limit, segment_limit;
	char id[JOURNAL_ID_SIZE + 1], boot[40];
	journal_snapshot_fn snapshot;
	void *user;
	void (*submit)(void *user, void (*run)(void *arg), void (*done)(void *arg), void *arg);
	void *submit_user;
	void (*on_event)(void *user);
	void *on_event_user;

	struct journal_segment *segments; /* by index; the last is written to */
	size_t n_segments;
	uint64_t bytes; /* of all of them */
	uint64_t last;
	int fd; /* of the last segment */
	uint64_t damaged;

	/* gathering; the frame's head is at its beginning */
	struct journal_bytes gather;
	uint32_t n_events;
	int failed; /* what went wrong while gathering */

	/* the last commit that held events, as it was written */
	struct journal_bytes tail;
	uint64_t tail_first;
	uint32_t tail_events;
	uint64_t tail_generation;

	/* snapshots: one job at a time */
	struct journal_bytes snap;
	bool snapping; /* inside the owner's callback */
	bool snap_wanted, snap_failed;
	uint64_t snap_index; /* the newest that is complete, 0 for none */
	struct journal_job *job;

	/* what cursors read from files, one piece for all of them */
	struct {
		uint8_t *data;
		size_t cap, size;
		uint64_t index, offset;
		int fd; /* of segment fd_index, -1 for none */
		uint64_t fd_index;
	} window;
};

/* journal.c */
int journal_bytes_room(struct journal_bytes *b, size_t more); /* 0 or -ENOMEM */
void journal_bytes_clear(struct journal_bytes *b);
int journal_bytes_record(struct journal_bytes *b, enum journal_kind kind, int64_t timestamp,
			 const char *name, const char *topic, const void *data, size_t size);
/*
 * The record at *at of a body, which moves on. False at the end, or where the body makes no sense.
 */
bool journal_record_next(const uint8_t *body, size_t size, size_t *at, struct journal_record *r);

/* journal_segment.c */
void journal_head_init(struct journal_head *h, const struct journal *j, const char *magic,
		       uint64_t index, uint64_t first_seq);
/* 0, -EBADMSG (not one, or damaged), -ESTALE (of another boot), -errno. */
int journal_head_read(int fd, const char *magic, const char *boot, struct journal_head *h);
extern const char journal_segment_magic[8], journal_snapshot_magic[8];
void journal_segment_name(char *name, uint64_t index);
int journal_segment_add(struct journal *j, const struct journal_head *h, uint64_t size);
int journal_segment_begin(struct journal *j, uint64_t index); /* creates it and makes it the last */
struct journal_segment *journal_segment_find(struct journal *j, uint64_t index);
void journal_segment_note(struct journal_segment *s, uint64_t seq, uint64_t offset);
void journal_segment_drop(struct journal *j, size_t n); /* forgets the oldest n */
/* The first valid frame at or after offset. 0, JOURNAL_E_END, -errno. */
int journal_frame_next(struct journal *j, struct journal_segment *s, uint64_t offset,
		       struct journal_frame *f);
void journal_window_free(struct journal *j);

/* journal_recover.c */
int journal_recover(struct journal *j, journal_state_fn state, struct fault *f);

/* journal_snapshot.c */
void journal_snapshot_name(char *name, uint64_t index);
void journal_snapshot_gather(struct journal *j); /* calls the owner */
void journal_snapshot_begin(struct journal *j); /* has what was gathered written */
void journal_snapshot_forget(struct journal *j); /* the journal goes before its job */
void journal_retain(struct journal *j);
/* Body of a snapshot, malloc'ed. 0, -EBADMSG, -ESTALE, -errno. */
int journal_snapshot_read(struct journal *j, uint64_t index, struct journal_bytes *body,
			  struct journal_head *h);
