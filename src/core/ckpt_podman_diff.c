// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as podman has them: the writable layer
 *
 * podman's rootfs-diff.tar is a tar of what is new or changed. What is gone is not in it as whiteouts,
 * but listed in deleted.files, and such a list has no word for a folder that hides what the layers
 * below have in it: all of that is looked up in the layers of the base image and listed. Without
 * the base nothing can be looked up, and nothing is hidden.
 *
 * The tar is taken apart and put together again, twice: once to count and to list.
 */
#include <errno.h>
#include <json-c/linkhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/ckpt_formats.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define PIECE (256u << 10)
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

/* A layer that is read entry by entry. */
struct layer_reader {
	struct store_call *c;
	const char *digest;
	int fd, failed;
	struct layer_stream *stream;
	struct archive *a;
	char buf[PIECE];
};

static la_ssize_t on_read(struct archive *a, void *user, const void **data)
{
	struct layer_reader *r = user;
	ssize_t n = store_cancelled(r->c);

	(void)a;
	if (!n)
		n = layer_stream_read(r->stream, r->buf, sizeof(r->buf), r->c->f);
	if (n < 0)
		r->failed = (int)n;
	*data = r->buf;
	return n < 0 ? -1 : n;
}

static int damaged(struct layer_reader *r)
{
	const char *text = archive_error_string(r->a);

	if (r->failed)
		return r->failed;
	if (archive_errno(r->a) == ENOMEM)
		return checkpoint_no_memory(r->c->f);
	return fault_set(r->c->f, FAULT_FAILED_PRECONDITION, 0, "the layer %s is damaged: %s",
			 r->digest, text ? text : "unknown error");
}

static void reader_free(struct layer_reader *r)
{
	if (!r)
		return;
	if (r->a)
		archive_read_free(r->a);
	layer_stream_free(r->stream);
	fd_close(&r->fd);
	free(r);
}

static int reader_new(struct layer_reader **out, struct store_call *c, const char *digest)
{
	struct layer_reader *r = calloc(1, sizeof(*r));
	int e;

	if (!r)
		return checkpoint_no_memory(c->f);
	r->c = c;
	r->fd = -1;
	r->digest = digest;
	r->a = archive_read_new();
	e = r->a && archive_read_support_format_tar(r->a) >= ARCHIVE_WARN
		    ? content_open(c, digest, &r->fd, NULL)
		    : checkpoint_no_memory(c->f);
	if (!e)
		e = layer_stream_open(&r->stream, r->fd, c->f);
	if (!e && archive_read_open(r->a, r, NULL, on_read, NULL) != ARCHIVE_OK)
		e = damaged(r);
	if (e) {
		reader_free(r);
		return e;
	}
	*out = r;
	return 0;
}

/* 1, 0 at the end, negative; *path without "./" or "/" before it and "/" behind. */
static int next(struct layer_reader *r, struct archive_entry **e, char *path, size_t size)
{
	int step = archive_read_next_header(r->a, e);
	const char *name;
	size_t n;

	if (step == ARCHIVE_EOF)
		return 0;
	if (step < ARCHIVE_WARN)
		return damaged(r);
	name = archive_entry_pathname(*e);
	while (name && (*name == '/' || (name[0] == '.' && name[1] == '/')))
		name++;
	n = name ? strlen(name) : 0;
	while (n && name[n - 1] == '/')
		n--;
	if (!name || n >= size)
		return fault_set(r->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the layer %s has an entry whose name cannot be used", r->digest);
	snprintf(path, size, "%.*s", (int)n, name);
	if (!strcmp(path, "."))
		*path = '\0';
	return 1;
}

/* ---- the lists of what is gone */

struct gone {
	struct store_call *c;
	json_object *list; /* NULL: not wanted */
	struct lh_table *known; /* its texts */
	json_object *opaque; /* folders, as keys of an object */
	json_object *own; /* paths of this layer, as keys; only while it is wanted */
};

static int gone_add(struct gone *g, const char *path)
{
	json_object *text;
	char *key;

	if (lh_table_lookup_entry(g->known, path))
		return 0;
	if ((unsigned)lh_table_length(g->known) >= LIMIT_ARCHIVE_ENTRIES)
		return fault_set(g->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "the checkpoint's writable layer hides too many files");
	key = strdup(path);
	text = key ? json_object_new_string(path) : NULL;
	if (text && json_object_array_add(g->list, text) == 0 &&
	    lh_table_insert(g->known, key, NULL) == 0)
		return 0;
	free(key);
	return checkpoint_no_memory(g->c->f);
}

static int mark(struct gone *g, json_object *set, const char *path)
{
	if (json_object_object_length(set) >= (int)LIMIT_ARCHIVE_ENTRIES)
		return fault_set(g->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				 "the checkpoint's writable layer has more than %u files, which "
				 "podman's format cannot take from here",
				 LIMIT_ARCHIVE_ENTRIES);
	return json_object_object_add(set, path, NULL) < 0 ? checkpoint_no_memory(g->c->f) : 0;
}

/* Whether it is about what is gone: then it is noted, and not for podman's tar. */
static int whiteout(struct gone *g, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t n = (size_t)(name - path);
	char full[LIMIT_PATH_BYTES + 2];
	int r;

	if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) != 0)
		return 0;
	if (!g->list)
		return 1;
	if (!strcmp(name, OPAQUE)) {
		snprintf(full, sizeof(full), "%.*s", n ? (int)n - 1 : 0, path);
		r = mark(g, g->opaque, full);
	} else {
		snprintf(full, sizeof(full), "/%.*s%s", (int)n, path, name + strlen(WHITEOUT));
		r = gone_add(g, full);
	}
	return r < 0 ? r : 1;
}

/* A path of the base that an opaque folder hides: the first part of it that this layer has not. */
static int hide(struct gone *g, char *path)
{
	char full[LIMIT_PATH_BYTES + 2];
	bool under = json_object_object_get_ex(g->opaque, "", NULL);

	for (char *slash = path; slash;) {
		bool has;

		slash = strchr(slash + (slash != path), '/');
		if (slash)
			*slash = '\0';
		has = json_object_object_get_ex(g->own, path, NULL);
		if (under && !has) {
			snprintf(full, sizeof(full), "/%s", path);
			return gone_add(g, full);
		}
		under = json_object_object_get_ex(g->opaque, path, NULL) || under;
		if (slash)
			*slash = '/';
	}
	return 0;
}

static int hide_layer(struct gone *g, const char *digest)
{
	char path[LIMIT_PATH_BYTES + 1];
	struct layer_reader *reader;
	struct archive_entry *e;
	int r = reader_new(&reader, g->c, digest);

	if (r)
		return r;
	while (!r && (r = next(reader, &e, path, sizeof(path))) > 0) {
		const char *slash = strrchr(path, '/');

		r = 0;
		if (*path && strncmp(slash ? slash + 1 : path, WHITEOUT, strlen(WHITEOUT)) != 0)
			r = hide(g, path);
	}
	reader_free(reader);
	return r;
}

static int hide_base(struct gone *g, const struct checkpoint_read *read)
{
	CLEANUP(oci_document_clear) struct oci_document doc = { 0 };
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	if (!json_object_object_length(g->opaque) || !read->base_manifest.text[0])
		return 0;
	r = content_has(g->c, read->base_manifest.text);
	if (r <= 0)
		return r;
	r = content_read_all(g->c, read->base_manifest.text, LIMIT_MANIFEST_BYTES, &text, &size);
	if (!r)
		r = oci_document_read(&doc, text, size,
				      strstr(text, DOCKER_MANIFEST) ? DOCKER_MANIFEST
								    : OCI_MANIFEST,
				      read->base_manifest.text, g->c->f);
	for (size_t i = 0; !r && i < doc.n_children; i++) {
		r = content_has(g->c, doc.children[i].digest.text);
		if (r > 0)
			r = hide_layer(g, doc.children[i].digest.text);
	}
	return r;
}

/* ---- the tar */

static int copy_data(struct layer_reader *reader, struct ckpt_tar *to)
{
	char buf[32u << 10];
	la_ssize_t n;

	while ((n = archive_read_data(reader->a, buf, sizeof(buf))) > 0) {
		int r = ckpt_tar_data(to, buf, (size_t)n, reader->c->f);

		if (r < 0)
			return r;
	}
	return n < 0 ? damaged(reader) : 0;
}

static int copy_entry(struct gone *g, struct layer_reader *reader, struct archive_entry *e,
		      const char *path, struct ckpt_tar *to)
{
	int r = whiteout(g, path);

	if (r)
		return r < 0 ? r : 0;
	if (!*path)
		return 0;
	if (g->list)
		r = mark(g, g->own, path);
	/* holes are written as zeros: not every reader of podman's knows sparse files */
	archive_entry_sparse_clear(e);
	if (!r)
		r = ckpt_tar_entry(to, e);
	if (!r && archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e))
		r = copy_data(reader, to);
	return r;
}

static int copy_all(struct gone *g, struct layer_reader *reader, struct ckpt_tar *to,
		    uint64_t *size)
{
	char path[LIMIT_PATH_BYTES + 1] = "";
	struct archive_entry *e;
	int r;

	while ((r = next(reader, &e, path, sizeof(path))) > 0) {
		r = copy_entry(g, reader, e, path, to);
		if (r < 0)
			break;
	}
	return r < 0 ? r : ckpt_tar_close(to, size);
}

static void key_free(struct lh_entry *e)
{
	free(lh_entry_k(e));
}

int ckpt_podman_diff(struct store_call *c, const struct checkpoint_read *read, json_object *deleted,
		     layer_write_fn put, void *user, uint64_t *size)
{
	struct gone g = { .c = c, .list = deleted };
	struct layer_reader *reader = NULL;
	struct ckpt_tar *to = NULL;
	int r = 0;

	if (deleted) {
		g.known = lh_kchar_table_new(64, key_free);
		g.opaque = json_object_new_object();
		g.own = json_object_new_object();
		if (!g.known || !g.opaque || !g.own)
			r = checkpoint_no_memory(c->f);
	}
	if (!r)
		r = reader_new(&reader, c, read->diff.digest.text);
	if (!r)
		r = ckpt_tar_new(&to, c, -1, LAYER_NONE);
	if (!r) {
		if (put)
			ckpt_tar_tap(to, put, user);
		r = copy_all(&g, reader, to, size);
	}
	if (!r && deleted)
		r = hide_base(&g, read);
	ckpt_tar_free(to);
	reader_free(reader);
	if (g.known)
		lh_table_free(g.known);
	json_object_put(g.opaque);
	json_object_put(g.own);
	return r;
}
