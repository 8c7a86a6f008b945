// SPDX-License-Identifier: Apache-2.0
/*
 * The store, inside: what its parts share
 */
#pragma once

#include "store/db_internal.h"
#include "store/store.h"
#include "util/clock.h"
#include "util/tree.h"

struct store {
	struct db *db;
	char *root; /* absolute */
	int root_fd; /* borrowed */
	int content_fd, blobs_fd, ingest_fd, trash_fd; /* folders */
	struct ingests *ingests; /* ingest.c: refs that have a writer */
	struct gc *gc; /* gc.c */
	struct snapshots *snapshots; /* snapshot.c */
	struct unpackings *unpackings; /* image_unpack.c */
	struct index_file *index; /* content_index.c */
	char notice[320]; /* store_notice */
	size_t n_parts; /* opened: rows of the table in store.c, to which each part adds its own */
	atomic_uint_least64_t trash_serial;
	atomic_bool trashed; /* since store_has_trash was asked */
};

/*
 * Moves folder/name into the trash by a rename: quick, and final. It is removed by
 * store_empty_trash. 0, also when there is no such file; -errno.
 */
int store_trash(struct store *s, int folder, const char *name);

/* image_unpack.c */
int unpackings_open(struct store *s, struct fault *f);
void unpackings_close(struct store *s);

/* snapshot.c; folders without a row are moved into the trash, and overlayfs is tried */
int snapshots_open(struct store *s, struct fault *f);
void snapshots_close(struct store *s);
