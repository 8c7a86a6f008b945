// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: the writable layer as an OCI layer
 *
 * podman's tar has what is new, its list of deleted files what is gone: the layer gets a whiteout for
 * each of those behind the tar's own entries. Names that mean whiteouts to a layer are nothing
 * special to podman, and refused. Everything else of an entry is looked at when the layer is
 * applied (store/layer.h). A tar that davit has written itself is a layer already.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/ckpt_formats.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/limits.h"

#define PIECE (64u << 10)
#define WHITEOUT ".wh."

struct making {
	struct ckpt_incoming *g;
	struct layer_sink *sink;
	struct archive *in;
	struct ckpt_tar *out;
	int fd, failed;
	char buf[PIECE];
};

static int sink_put(void *user, const void *data, size_t size, struct fault *f)
{
	return layer_sink_write(((struct making *)user)->sink, data, size, f);
}

static la_ssize_t on_read(struct archive *a, void *user, const void **data)
{
	struct making *m = user;
	ssize_t n;

	(void)a;
	do
		n = read(m->fd, m->buf, sizeof(m->buf));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		m->failed = fault_sys(m->g->c->f, errno, "read", PODMAN_DIFF);
	*data = m->buf;
	return n;
}

static int damaged(struct making *m)
{
	const char *text = archive_error_string(m->in);

	if (m->failed)
		return m->failed;
	return fault_set(m->g->c->f, FAULT_FAILED_PRECONDITION, 0,
			 "the checkpoint's " PODMAN_DIFF " is damaged: %s",
			 text ? text : "unknown error");
}

static bool is_whiteout(const char *path)
{
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (!strncmp(p, WHITEOUT, strlen(WHITEOUT)))
			return true;
	}
	return false;
}

static int copy_entry(struct making *m, struct archive_entry *e)
{
	const char *path = archive_entry_pathname(e);
	char buf[PIECE];
	la_ssize_t n = 0;
	int r;

	if (!path || (m->g->podman && is_whiteout(path)))
		return fault_set(m->g->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint's " PODMAN_DIFF
				 " has the entry '%.256s', a name that layers cannot have",
				 path ? path : "");
	archive_entry_sparse_clear(e);
	r = ckpt_tar_entry(m->out, e);
	if (r < 0 || archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e))
		return r;
	while (!r && (n = archive_read_data(m->in, buf, sizeof(buf))) > 0)
		r = ckpt_tar_data(m->out, buf, (size_t)n, m->g->c->f);
	return r < 0 ? r : n < 0 ? damaged(m) : 0;
}

static int put_whiteout(struct making *m, const char *path)
{
	const char *slash;
	char name[LIMIT_PATH_BYTES + 8];

	while (*path == '/')
		path++;
	slash = strrchr(path, '/');
	slash = slash ? slash + 1 : path;
	if (!*slash || strlen(path) > LIMIT_PATH_BYTES || is_whiteout(path))
		return fault_set(m->g->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the checkpoint's " PODMAN_DELETED
				 " has '%.256s', which is no file's name",
				 path);
	snprintf(name, sizeof(name), "%.*s" WHITEOUT "%s", (int)(slash - path), path, slash);
	return ckpt_tar_file(m->out, name, NULL, 0);
}

static int put_deleted(struct making *m)
{
	struct ckpt_document *d = &m->g->deleted;
	CLEANUP(checkpoint_json_putp) json_object *list = NULL;
	int r;

	if (!d->text || !m->g->podman)
		return 0;
	r = json_parse(d->text, d->size, &list, m->g->c->f);
	if (r < 0) {
		fault_prefix(m->g->c->f, "the archive's " PODMAN_DELETED);
		return r;
	}
	if (list && !json_object_is_type(list, json_type_array))
		return fault_set(m->g->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the archive's " PODMAN_DELETED " is no list");
	for (size_t i = 0; list && !r && i < json_object_array_length(list); i++) {
		json_object *j = json_object_array_get_idx(list, i);

		r = json_object_is_type(j, json_type_string)
			    ? put_whiteout(m, json_object_get_string(j))
			    : fault_set(m->g->c->f, FAULT_FAILED_PRECONDITION, 0,
					"the archive's " PODMAN_DELETED " has what is no text");
	}
	return r;
}

static int copy_all(struct making *m)
{
	struct archive_entry *e;
	uint64_t size;
	size_t n = 0;
	int r = 0, step;

	while (!r && (step = archive_read_next_header(m->in, &e)) != ARCHIVE_EOF) {
		if (step < ARCHIVE_WARN)
			return damaged(m);
		if (++n > LIMIT_LAYER_ENTRIES)
			return fault_set(m->g->c->f, FAULT_RESOURCE_EXHAUSTED, E2BIG,
					 "the checkpoint's " PODMAN_DIFF);
		r = copy_entry(m, e);
	}
	if (!r)
		r = put_deleted(m);
	return r ? r : ckpt_tar_close(m->out, &size);
}

static int open_all(struct making *m, struct ingest *to)
{
	struct store_call *c = m->g->c;
	int r = content_open(c, m->g->diff.text, &m->fd, NULL);

	if (!r)
		r = layer_sink_new(&m->sink, to, LAYER_ZSTD, 0, c->f);
	if (!r)
		r = ckpt_tar_new(&m->out, c, -1, LAYER_NONE);
	if (r < 0)
		return r;
	ckpt_tar_tap(m->out, sink_put, m);
	m->in = archive_read_new();
	if (!m->in || archive_read_support_format_tar(m->in) < ARCHIVE_WARN)
		return checkpoint_no_memory(c->f);
	/* podman's has no entries where nothing has changed */
	archive_read_support_format_empty(m->in);
	return archive_read_open(m->in, m, NULL, on_read, NULL) == ARCHIVE_OK ? 0 : damaged(m);
}

int ckpt_import_diff(struct ckpt_incoming *g, struct checkpoint_blob *out)
{
	struct making *m = calloc(1, sizeof(*m));
	struct store_call *c = g->c;
	struct db_label label = { "containerd.io/uncompressed", NULL };
	struct ingest *to = NULL;
	struct digest diff_id;
	char ref[96];
	int r = m ? ckpt_ref_new(ref, sizeof(ref), g->c->f) : checkpoint_no_memory(c->f);

	if (!r)
		r = ingest_open(c, ref, NULL, -1, &to);
	if (!r) {
		m->g = g;
		m->fd = -1;
		r = open_all(m, to);
		if (!r)
			r = copy_all(m);
		if (!r)
			r = layer_sink_finish(m->sink, &diff_id, &out->file_size, c->f);
		ckpt_tar_free(m->out);
		if (m->in)
			archive_read_free(m->in);
		layer_sink_free(m->sink);
		fd_close(&m->fd);
	}
	free(m);
	if (!r) {
		out->media_type = OCI_LAYER_ZSTD;
		out->size = ingest_offset(to);
		label.value = diff_id.text;
		r = ingest_commit(c, to, -1, NULL, &label, 1, &out->digest);
		if (!r || r == -EEXIST)
			return 0;
	}
	ingest_discard(to);
	return r;
}
