// SPDX-License-Identifier: Apache-2.0
/*
 * Salvaging a database, inside: its pages, its rows, and what the disk tells
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "store/db_internal.h"

/* ---- db_salvage_wal.c: the log beside the file */

struct salvage_wal {
	int fd; /* -1: there is none */
	uint32_t page_size, frames; /* up to the last commit; 0: nothing in it can be used */
	uint32_t salts[2];
	uint32_t damaged; /* frames of the current log, or its header, that are not as written */
	bool big_endian;
};
/* Reads through it. An absent or empty one is fine. -errno. */
int salvage_wal_open(struct salvage_wal *w, int root_fd, const char *name);
void salvage_wal_close(struct salvage_wal *w);
/*
 * Each frame that can be told to be whole, in the order they were written; at: of the page's bytes.
 */
int salvage_wal_each(struct salvage_wal *w, int (*fn)(void *user, uint32_t page, int64_t at),
		     void *user);

/* ---- db_salvage_pages.c: records, from whatever pages there are */

struct salvage_value {
	enum { SALVAGE_NULL, SALVAGE_INT, SALVAGE_REAL, SALVAGE_TEXT, SALVAGE_BLOB } type;
	int64_t i;
	const char *p; /* text and blob; a text is followed by NUL, and has none in it */
	size_t size;
};
#define SALVAGE_COLUMNS 16

struct salvage_pages {
	int fd;
	struct salvage_wal *wal;
	uint32_t page_size, usable, n;
	/* of n pages: where the newest version of it is in the log, 0: in the file */
	int64_t *in_wal;
	uint8_t *unused; /* of n pages: on the list of free ones */
	uint64_t unreadable; /* records that are not whole */
};
int salvage_pages_open(struct salvage_pages *p, int fd, struct salvage_wal *wal);
void salvage_pages_close(struct salvage_pages *p);
/* The first page's numbers, as far as it is one of SQLite's. */
bool salvage_header(const struct salvage_pages *p, uint32_t *application, uint32_t *version);
/*
 * Each record of each page of a tree, whichever tree it belongs to. rowid is 0 where there is none.
 * A negative answer of fn ends it.
 */
int salvage_records(struct salvage_pages *p,
		    int (*fn)(void *user, int64_t rowid, const struct salvage_value *v, size_t n),
		    void *user);

/* ---- db_salvage_rows.c: what kind of row a record is, and into the new database with it */

#define SALVAGE_LINES 100u /* about single things, in a report */
struct salvage {
	int root_fd;
	const char *root;
	struct db *db; /* the new one, in a transaction */
	struct fault *f;
	char stamp[32]; /* of the names of what is set aside */
	/* rows that were found */
	uint64_t namespaces, containers, images, content, blobs, snapshots, leases, resources;
	uint64_t spoilt; /* rows that were read and are not as davit writes them */
	/* what the disk told */
	uint64_t blobs_found, images_found, content_found, content_unclaimed;
	/* what is not to be had any more */
	uint64_t content_lost, images_lost, snapshots_lost, folders_kept, documents_lost;
	char *named; /* lines about single things, for the report */
	size_t named_size;
	FILE *lines; /* writes named */
	unsigned n_lines;
};
int salvage_rows(struct salvage *s, struct salvage_pages *p);
/*
 * Whether all rows of an open database are as davit writes them: 0, or -EUCLEAN with the fault.
 * Specs are not unpacked.
 */
int salvage_check_rows(struct db *db, struct fault *f);

/* ---- db_salvage_disk.c */
/* What is on the disk, and rows for it; rows without it go. */
int salvage_disk(struct salvage *s);

/* ---- db_salvage_images.c */
/* Images of content/index.json that have no row. Blobs' rows are there. */
int salvage_index(struct salvage *s);
/* What hangs below each image: rows in its namespace, labels that keep it. */
int salvage_images(struct salvage *s);
/* A line of the report about one thing; beyond some number they are only counted. */
void salvage_note(struct salvage *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
