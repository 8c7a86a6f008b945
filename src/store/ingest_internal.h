// SPDX-License-Identifier: Apache-2.0
/*
 * Ingests, inside: the table, the files, the bytes
 */
#pragma once

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <pthread.h>

#include "store/content_internal.h"

struct ingest {
	RB_ENTRY(ingest) node; /* of ingests->tree, by namespace and ref */
	struct store *s;
	const char *ns, *ref; /* in the same memory */
	char name[DIGEST_HEX + 1]; /* of its folder */

	/* with the table's lock */
	bool busy; /* has a writer, whose the rest below is */
	uint64_t offset;
	int64_t total, started_at, updated_at; /* total -1: not known */
	struct digest expected;

	struct hasher *hasher; /* of the bytes [0, offset); NULL: not hashed yet */
	int fd; /* of its data; -1 without a writer */
	uint64_t pushed; /* how far the kernel was asked to write to the disk */
	bool leased; /* the writer's call has put it under its lease */
};

RB_HEAD(ingest_tree, ingest);

struct ingests {
	pthread_mutex_t lock; /* taken after the database's, never before; held over no I/O */
	struct ingest_tree tree;
	size_t n, n_hashers; /* n_hashers: kept by those without a writer */
	LIST_HEAD(, ingest_commit) commits; /* under way, each digest once */
	pthread_cond_t committed; /* one of them has ended */
	atomic_uint_least64_t serial; /* of content_put's refs */
};

/* ingest_file.c */
/* A new folder with no data, open. */
int ingest_files_create(struct ingest *i, struct fault *f);
int ingest_files_open(struct ingest *i, struct fault *f);
/* The data of the one with this folder, for reading; or -errno. */
int ingest_files_look(struct store *s, const char *name);
/* Writes down total and expected as they are now. */
int ingest_files_note(struct ingest *i, struct fault *f);
void ingest_files_touch(struct ingest *i); /* the time of the last write, for the next start */
int ingest_files_remove(struct ingest *i);
/* Calls fn for each that is there, with what is known of it; removes what is none. */
struct ingest_found {
	const char *ns, *ref, *name;
	struct ingest_status status;
};
int ingest_files_scan(struct store *s, int (*fn)(struct store *s, const struct ingest_found *found),
		      struct fault *f);
/* The name of its folder. */
int ingest_files_name(const char *ns, const char *ref, char name[DIGEST_HEX + 1]);

/* ingest_write.c: hashes what is there, when nobody has. */
int ingest_rehash(struct store_call *c, struct ingest *i);
/*
 * When the call's namespace has it, or can be given it: what ingest_open says of `expected`. Else 0.
 */
int ingest_known(struct store_call *c, const char *ref, const char *expected);
/* The writer's file shrinks to 0, and its total is another. */
int ingest_reset(struct ingest *i, int64_t total, struct fault *f);
/*
 * The file gets the length that counts. When that fails after a write, the next one lands in the right
 * place all the same, and a commit tries again.
 */
int ingest_cut(struct ingest *i);
/* The fault of a failed step with its data. Returns r. */
int ingest_failed(struct ingest *i, int r, const char *step, struct fault *f);
/* The fault of what is there already; -EEXIST. */
int ingest_is_there(struct store_call *c, const char *digest);
/* Whether a blob has a file of this size. */
bool ingest_file_is_there(struct store *s, const char *digest, uint64_t size);

/* ingest.c: takes one that has a writer out of the table and frees it. */
void ingest_drop(struct ingest *i);
