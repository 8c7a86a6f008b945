// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others, inside
 */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "core/checkpoint_internal.h"
#include "core/ckpt_export.h"

/* Names in podman's archives. */
#define PODMAN_CONFIG "config.dump"
#define PODMAN_SPEC "spec.dump"
#define PODMAN_NETWORK "network.status"
#define PODMAN_DELETED "deleted.files"
#define PODMAN_IMAGES "checkpoint"
#define PODMAN_DESCRIPTORS "descriptors.json" /* in that folder: runc's names of the streams */
#define PODMAN_DIFF "rootfs-diff.tar"
#define PODMAN_SHM "devshm-checkpoint.tar"
#define PODMAN_STATS "stats-dump"
#define CRIU_DIFF "davit-rootfs-diff.tar" /* of ours beside criu's images: an OCI layer */
#define RUNC_NET_KEY "extRootNetNS"

/* ---- ckpt_json.c: building; what fails fails for memory, is kept, and asked for once */
json_object *ckpt_json_made(json_object *value, bool *failed);
void ckpt_json_add(json_object *to, const char *key, json_object *value, bool *failed);
void ckpt_json_text(json_object *to, const char *key, const char *text, bool *failed);
void ckpt_json_append(json_object *to, json_object *value, bool *failed);
/* The member's text, "" when it has none. */
const char *ckpt_json_get(json_object *from, const char *key);
/* Serialised, borrowed from it; NULL: no memory. */
const char *ckpt_json_write(json_object *j, size_t *size);
/* "2006-01-02T15:04:05.000000000Z" */
#define CKPT_TIME_TEXT 96
void ckpt_time_text(int64_t ns, char out[CKPT_TIME_TEXT]);

/* ---- ckpt_tar.c: archives, written to a stranger's fd or counted */
struct ckpt_tar;
/* fd -1: what it would be is only counted. */
int ckpt_tar_new(struct ckpt_tar **out, struct store_call *c, int fd,
		 enum layer_compression compression);
void ckpt_tar_free(struct ckpt_tar *t); /* NULL is fine */
int ckpt_tar_folder(struct ckpt_tar *t, const char *name);
int ckpt_tar_header(struct ckpt_tar *t, const char *name, uint64_t size);
int ckpt_tar_data(void *t, const void *data, size_t size, struct fault *f); /* a layer_write_fn */
int ckpt_tar_file(struct ckpt_tar *t, const char *name, const void *data, size_t size);
int ckpt_tar_entry(struct ckpt_tar *t, struct archive_entry *e);
/* What goes out is given to put as well, or instead of an fd. */
void ckpt_tar_tap(struct ckpt_tar *t, layer_write_fn put, void *user);
int ckpt_tar_close(struct ckpt_tar *t, uint64_t *size);

/* libarchive converts names by the thread's locale. */
struct ckpt_locale {
	locale_t mine, before;
};
void ckpt_locale_enter(struct ckpt_locale *l);
void ckpt_locale_leave(struct ckpt_locale *l);

/* ---- ckpt_copy.c: out of the store */
uint64_t ckpt_file_size(const struct serve_file *file);
/* All bytes of an image file, unpacked frame by frame. */
int ckpt_file_copy(struct store_call *c, const struct serve_file *file, layer_write_fn put,
		   void *user);
/* Hashes the blobs of pages, which checkpoint_image_read does not. */
int ckpt_verify_pages(struct store_call *c, const struct checkpoint_read *read);
/* The writable layer unpacked; *size: all of it. put NULL: counts. */
int ckpt_layer_copy(struct store_call *c, const struct oci_descriptor *layer, layer_write_fn put,
		    void *user, uint64_t *size);
/* What runc's descriptors.json says of the standard streams. NULL: no memory. */
json_object *ckpt_descriptors_new(const struct ckpt_record *r);
/* Of an ingest: nobody else's. */
int ckpt_ref_new(char *out, size_t size, struct fault *f);
/* stats-dump as criu writes it, of what the record has of it. */
#define CKPT_STATS_ROOM 128
size_t ckpt_stats_image(const struct ckpt_record *r, uint8_t out[CKPT_STATS_ROOM]);

/* ckpt_runc.c: keys of mounts and networks as runc and crun have them */
int ckpt_runc_images(struct store_call *c, struct checkpoint_read *read);

/* ---- one format each */
int ckpt_export_podman(struct store_call *c, const struct checkpoint_read *read,
		       struct ckpt_tar *t);
int ckpt_export_containerd(struct store_call *c, const struct checkpoint_read *read,
			   const char *name, struct ckpt_tar *t);

/* ---- ckpt_podman_diff.c: the writable layer as podman has it */
/*
 * A plain tar without whiteouts. deleted (may be NULL): gets "/path" of each file that is gone.
 */
int ckpt_podman_diff(struct store_call *c, const struct checkpoint_read *read, json_object *deleted,
		     layer_write_fn put, void *user, uint64_t *size);

/* ---- import */
struct ckpt_document {
	char *text; /* NULL: not there */
	size_t size;
};
struct ckpt_incoming {
	struct store_call *c;
	const struct ckpt_import *in;
	bool podman; /* has its documents */
	struct serve_files files; /* those in memory */
	struct checkpoint_blob *blobs; /* pages in the store; file: owned */
	size_t n_blobs;
	uint64_t small; /* bytes in memory */
	struct ckpt_document config, spec, deleted, descriptors, record_text;
	bool has_diff;
	struct digest diff; /* plain tar, as it came */
	uint64_t diff_size;
	struct ckpt_record record;
	bool has_record; /* one of ours came along */
};
void ckpt_incoming_clear(struct ckpt_incoming *g);
/* ckpt_import_tar.c, ckpt_import_pages.c */
int ckpt_import_tar(struct ckpt_incoming *g);
typedef ssize_t (*ckpt_read_fn)(void *user, void *buf, size_t size, struct fault *f);
int ckpt_import_pages(struct ckpt_incoming *g, const char *file, uint64_t size, ckpt_read_fn read,
		      void *user);
int ckpt_import_blob(struct ckpt_incoming *g, uint64_t size, ckpt_read_fn read, void *user,
		     struct digest *out);
/* ckpt_import_record.c: what podman's documents and criu's images say, as a record */
int ckpt_import_record(struct ckpt_incoming *g);
/* ckpt_import_diff.c: an OCI layer of podman's diff and its deleted files */
int ckpt_import_diff(struct ckpt_incoming *g, struct checkpoint_blob *out);
