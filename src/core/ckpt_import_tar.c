// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: reading their archives
 *
 * A tar, plain or packed by gzip or zstd, read once from its start to its end: podman's archive, or
 * criu's image files as they lie in a folder. Nothing is ever written below a path that the archive
 * names. What no such tool writes is refused: names that lead out, anything but files and folders,
 * an entry twice. Files that are not known are passed over.
 */
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/wire.h"
#include "core/ckpt_formats.h"
#include "store/image_io.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define PIECE (256u << 10)
#define RATIO_FROM (64ull << 20) /* unpacked bytes before the ratio counts */
#define SMALL_BYTES (4u << 20) /* larger image files go into the store as they come */
#define SHM_MOST (64u << 10) /* of a tar without files */

struct reader {
	struct ckpt_incoming *g;
	struct store_call *c;
	struct archive *a;
	struct image_io *io;
	uint64_t in, out; /* bytes read, bytes unpacked */
	int failed; /* of reading the fd; the call's fault says why */
	bool top, folder; /* image files: beside podman's documents, or in its folder */
	char path[LIMIT_PATH_BYTES + 1]; /* of the entry */
	char raw[PIECE];
};

static int refuse(struct reader *rd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int refuse(struct reader *rd, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(rd->c->f, FAULT_FAILED_PRECONDITION, 0, fmt, ap);
	va_end(ap);
	fault_prefix(rd->c->f, "the archive's entry '%.256s'", rd->path);
	return -EINVAL;
}
#define refuse(...) FAULT_NEGATIVE(refuse(__VA_ARGS__))

/* What libarchive says after a failed call. */
static int damaged(struct reader *rd, const char *where)
{
	const char *text = archive_error_string(rd->a);

	if (rd->failed)
		return rd->failed;
	if (archive_errno(rd->a) == ENOMEM)
		return checkpoint_no_memory(rd->c->f);
	if (!rd->in)
		fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0, "the archive is empty");
	else if (!*where && text && strstr(text, "Unrecognized"))
		fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "this is no tar archive, plain or compressed by gzip or zstd");
	else
		fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the archive is damaged%s%.256s: %s", *where ? " at the entry " : "",
			  where, text ? text : "unknown error");
	return -EBADMSG;
}

static la_ssize_t on_read(struct archive *a, void *user, const void **buf)
{
	struct reader *rd = user;
	ssize_t n = image_io_read(rd->c, rd->io, rd->raw, sizeof(rd->raw));

	(void)a;
	if (n < 0) {
		rd->failed = (int)n;
		return -1;
	}
	rd->in += (uint64_t)n;
	store_progress_add(rd->c->progress, (uint64_t)n);
	*buf = rd->raw;
	return n;
}

/* A ckpt_read_fn: the entry's data, 0 at its end. */
static ssize_t read_data(void *user, void *buf, size_t size, struct fault *f)
{
	struct reader *rd = user;
	la_ssize_t n = archive_read_data(rd->a, buf, size);

	if (n < 0)
		return damaged(rd, rd->path);
	rd->out += (uint64_t)n;
	if (rd->out > RATIO_FROM && rd->out / LIMIT_LAYER_RATIO > rd->in)
		return fault_set(
			f, FAULT_RESOURCE_EXHAUSTED, E2BIG,
			"the archive unpacks to more than %llu times its size at the entry '%.256s'",
			LIMIT_LAYER_RATIO, rd->path);
	return n;
}

static int read_all(struct reader *rd, uint64_t size, char **out)
{
	CLEANUP_FREE char *data = malloc((size_t)size + 1);
	size_t done = 0;

	if (!data)
		return checkpoint_no_memory(rd->c->f);
	while (done < size) {
		ssize_t n = read_data(rd, data + done, (size_t)size - done, rd->c->f);

		if (n <= 0)
			return n < 0 ? (int)n : refuse(rd, "it ends before its size");
		done += (size_t)n;
	}
	data[size] = '\0';
	*out = TAKE_PTR(data);
	return 0;
}

/* ---- entries */

/* "./a//b/" is "a/b". */
static int clean(struct reader *rd, const char *name)
{
	size_t n = 0;

	rd->path[0] = '\0';
	if (!name || *name == '/')
		return refuse(rd, "a name that cannot be in such an archive");
	while (*name) {
		size_t part = strcspn(name, "/");

		if ((part == 2 && !strncmp(name, "..", 2)) || n + part + 1 > LIMIT_PATH_BYTES)
			return refuse(rd, "a name that leads out of the archive, or is too long");
		if (part && (part != 1 || *name != '.')) {
			if (n)
				rd->path[n++] = '/';
			memcpy(rd->path + n, name, part);
			n += part;
			rd->path[n] = '\0';
		}
		name += part;
		name += *name == '/';
	}
	return 0;
}

static bool is_image(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && !strcmp(name + n - 4, ".img");
}

static int on_image(struct reader *rd, const char *name, uint64_t size)
{
	struct ckpt_incoming *g = rd->g;
	CLEANUP_FREE char *data = NULL;
	int r;

	if (!wire_name_valid(name, strlen(name)))
		return refuse(rd, "no image file of criu's has such a name");
	if (rd->top && rd->folder)
		return refuse(rd, "there are image files in two places");
	if (g->files.n + g->n_blobs >= LIMIT_CHECKPOINT_FILES)
		return refuse(rd, "it is one image file more than are taken");
	if (size > LIMIT_CHECKPOINT_BYTES)
		return refuse(rd, "it is larger than a checkpoint may be");
	if (size > SMALL_BYTES)
		return ckpt_import_pages(g, name, size, read_data, rd);
	if (size > LIMIT_CHECKPOINT_FILES_BYTES / 2 - g->small)
		return refuse(rd, "it is one small file more than are kept in memory");
	g->small += size;
	r = read_all(rd, size, &data);
	if (!r && ckpt_files_add_data(&g->files, name, TAKE_PTR(data), (size_t)size) < 0)
		r = checkpoint_no_memory(rd->c->f);
	return r;
}

static int on_document(struct reader *rd, struct ckpt_document *d, uint64_t size)
{
	if (d->text)
		return refuse(rd, "it is there twice");
	if (size > LIMIT_CHECKPOINT_RECORD_BYTES)
		return refuse(rd, "it has %llu bytes; at most %u are taken",
			      (unsigned long long)size, LIMIT_CHECKPOINT_RECORD_BYTES);
	d->size = (size_t)size;
	return read_all(rd, size, &d->text);
}

static int on_diff(struct reader *rd, uint64_t size)
{
	struct ckpt_incoming *g = rd->g;

	if (g->has_diff)
		return refuse(rd, "it is there twice");
	g->has_diff = true;
	g->diff_size = size;
	return ckpt_import_blob(g, size, read_data, rd, &g->diff);
}

/* Files in podman's /dev/shm: a mount of the host's that davit has not. */
static int on_shm(struct reader *rd, uint64_t size)
{
	CLEANUP_FREE char *data = NULL;
	struct archive *a;
	struct archive_entry *e;
	bool files = size > SHM_MOST;
	int step = ARCHIVE_OK;
	int r = files ? 0 : read_all(rd, size, &data);

	if (r < 0)
		return r;
	if (!files) {
		a = archive_read_new();
		if (!a)
			return checkpoint_no_memory(rd->c->f);
		if (archive_read_support_format_tar(a) >= ARCHIVE_WARN &&
		    archive_read_open_memory(a, data, (size_t)size) == ARCHIVE_OK)
			while (!files && (step = archive_read_next_header(a, &e)) != ARCHIVE_EOF &&
			       step >= ARCHIVE_WARN)
				files = archive_entry_filetype(e) != AE_IFDIR;
		archive_read_free(a);
	}
	return files ? refuse(rd, "the container had files in /dev/shm, which was a mount of "
				  "podman's; they cannot be restored")
		     : 0;
}

static const struct {
	const char *path;
	size_t at; /* in struct ckpt_incoming */
} documents[] = {
	{ PODMAN_CONFIG, offsetof(struct ckpt_incoming, config) },
	{ PODMAN_SPEC, offsetof(struct ckpt_incoming, spec) },
	{ PODMAN_DELETED, offsetof(struct ckpt_incoming, deleted) },
	{ PODMAN_IMAGES "/" PODMAN_DESCRIPTORS, offsetof(struct ckpt_incoming, descriptors) },
	{ PODMAN_DESCRIPTORS, offsetof(struct ckpt_incoming, descriptors) },
	{ CHECKPOINT_RECORD_FILE, offsetof(struct ckpt_incoming, record_text) },
};

static int on_file(struct reader *rd, uint64_t size)
{
	static const char folder[] = PODMAN_IMAGES "/";

	for (size_t i = 0; i < ARRAY_SIZE(documents); i++)
		if (!strcmp(rd->path, documents[i].path))
			return on_document(rd, (void *)((char *)rd->g + documents[i].at), size);
	if (!strcmp(rd->path, PODMAN_DIFF) || !strcmp(rd->path, CRIU_DIFF))
		return on_diff(rd, size);
	if (!strcmp(rd->path, PODMAN_SHM))
		return on_shm(rd, size);
	if (!is_image(rd->path))
		return 0;
	if (!strncmp(rd->path, folder, sizeof(folder) - 1)) {
		rd->folder = true;
		return on_image(rd, rd->path + sizeof(folder) - 1, size);
	}
	if (strchr(rd->path, '/'))
		return 0;
	rd->top = true;
	return on_image(rd, rd->path, size);
}

static int on_entry(struct reader *rd, struct archive_entry *e)
{
	int r = clean(rd, archive_entry_pathname(e));

	if (r < 0 || archive_entry_filetype(e) == AE_IFDIR)
		return r;
	if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e))
		return refuse(rd, "neither a file nor a folder");
	if (!*rd->path || !archive_entry_size_is_set(e) || archive_entry_size(e) < 0)
		return refuse(rd, "it has no valid name or size");
	return on_file(rd, (uint64_t)archive_entry_size(e));
}

static int read_entries(struct reader *rd)
{
	struct archive_entry *e;
	size_t n = 0;
	int r = 0;

	while (!r) {
		int got = archive_read_next_header(rd->a, &e);

		if (got == ARCHIVE_EOF)
			return n ? 0 : refuse(rd, "there is none");
		if (got < ARCHIVE_WARN)
			return damaged(rd, "");
		if (++n > LIMIT_ARCHIVE_ENTRIES)
			return fault_set(rd->c->f, FAULT_RESOURCE_EXHAUSTED, E2BIG,
					 "the archive has more than %u entries",
					 LIMIT_ARCHIVE_ENTRIES);
		r = store_cancelled(rd->c);
		if (!r)
			r = on_entry(rd, e);
	}
	return r;
}

/* What is wanted has to be there. */
static int check_kind(struct reader *rd)
{
	struct ckpt_incoming *g = rd->g;

	g->podman = g->config.text || g->spec.text;
	if (g->in->format == CKPT_PODMAN && !g->podman)
		return fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the archive is none of podman's: it has no " PODMAN_CONFIG);
	if (g->in->format == CKPT_CRIU_DIR && (g->podman || rd->folder))
		return fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the archive is no folder of criu's image files");
	if (g->podman && (!g->config.text || !g->spec.text))
		return fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
				 "the archive is not whole: it has no %s",
				 g->config.text ? PODMAN_SPEC : PODMAN_CONFIG);
	return 0;
}

int ckpt_import_tar(struct ckpt_incoming *g)
{
	struct reader *rd = calloc(1, sizeof(*rd));
	int r;

	if (!rd)
		return checkpoint_no_memory(g->c->f);
	rd->g = g;
	rd->c = g->c;
	r = image_io_open(&rd->io, g->in->fd, false, g->c->f);
	rd->a = r ? NULL : archive_read_new();
	if (!r && (!rd->a || archive_read_support_filter_gzip(rd->a) < ARCHIVE_WARN ||
		   archive_read_support_filter_zstd(rd->a) < ARCHIVE_WARN ||
		   archive_read_support_format_tar(rd->a) < ARCHIVE_WARN))
		r = checkpoint_no_memory(g->c->f);
	if (!r && archive_read_open(rd->a, rd, NULL, on_read, NULL) != ARCHIVE_OK)
		r = damaged(rd, "");
	if (!r)
		r = read_entries(rd);
	if (!r)
		r = image_io_drain(g->c, rd->io);
	if (!r)
		r = check_kind(rd);
	if (rd->a)
		archive_read_free(rd->a);
	image_io_free(rd->io);
	free(rd);
	return r;
}
