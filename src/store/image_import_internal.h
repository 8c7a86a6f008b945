// SPDX-License-Identifier: Apache-2.0
/*
 * Import, inside: what the readers of archives and folders give to those who make images of it
 */
#pragma once

#include "store/image_internal.h"

/* A file of a docker archive, once it is in the content. */
struct import_blob {
	struct digest digest;
	uint64_t size;
	enum layer_compression compression; /* by its first bytes */
};

/* A name and what it stands for; several may stand for the same. */
struct import_name {
	char *name; /* NULL for none */
	struct oci_descriptor target;
};

struct import {
	struct store_call *c;
	const struct image_import *in;
	struct oci_platform platform;

	/* of both kinds of source; NULL where there is none */
	char *index, *manifest, *layout; /* the texts of index.json, manifest.json, oci-layout */
	size_t index_size, manifest_size, layout_size;
	bool repositories; /* the file of docker's first format */

	int folder; /* -1: an archive */
	struct lh_table *files; /* of an archive: path to image_archive.c's entries */
	size_t n_files;

	struct import_name *names;
	size_t n_names;
	struct lh_table *seen; /* digests looked at: whether they are kept */
	struct lh_table *looked_at; /* digests that were looked for in the folder */
	size_t count;
};

/* Adds a copy of both. */
int import_name_add(struct import *im, const char *name, const struct oci_descriptor *target);

/* ---- image_archive.c: a tar, read once from its start to its end into the content */
int import_archive_read(struct import *im);
void import_archive_clear(struct import *im);
/* 1 and what the file is, links followed; 0: there is none. */
int import_archive_find(struct import *im, const char *path, struct import_blob *out);

/* ---- image_folder.c: a layout that lies in a folder, of which only what is needed is copied */
int import_folder_read(struct import *im);
/* A blob of the layout. 1: it is in the content now, 0: the folder has no such file. */
int import_folder_blob(struct import *im, const struct oci_descriptor *d);
int import_folder_find(struct import *im, const char *path, struct import_blob *out);

/* ---- image_docker.c: manifest.json, of which OCI manifests are made */
int import_docker(struct import *im);

/* ---- shared */
/*
 * "./a//b" is "a/b". "" for the root. -EINVAL for what is absolute, has ".." in it, or is longer
 * than LIMIT_PATH_BYTES; `out` has room for that and a NUL.
 */
int import_path(const char *name, char *out);
/* By the first bytes of a file. */
enum layer_compression import_compression(const void *data, size_t size);
