// SPDX-License-Identifier: Apache-2.0
/*
 * Import: reading an image archive
 *
 * A tar is read once, from a pipe perhaps, and its entries come in any order: the index that says
 * what is needed is often the last. So every blob of a layout goes straight into the content, under
 * the digest that its name promises, and what turns out not to be needed is left to garbage
 * collection. The same holds for the files of a docker archive, whose digests are found out on the
 * way; only those whose names such archives use are taken, since any other tar may be given here by
 * mistake. A few small documents are kept in memory. A blob that is there already is compared with the
 * archive's as it goes by, and made anew from it when it is found to be damaged.
 *
 * Nothing is ever written below a path that the archive names, so links in it are only looked up in
 * the table of its entries. Still, what no tool writes is refused: names that lead out, links that
 * lead out, devices, and two entries for one document, of which readers might choose different ones.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/image_import_internal.h"
#include "util/fd.h"
#include "util/limits.h"

#define PIECE (256u << 10)
#define RATIO_FROM (64ull << 20) /* unpacked bytes before the ratio counts */
#define LINK_HOPS 8

struct entry {
	char *link; /* the path of another entry, or NULL */
	struct import_blob blob;
};

struct reader {
	struct import *im;
	struct store_call *c;
	struct archive *a;
	struct image_io *io;
	struct hasher *hasher; /* made when it is first needed */
	uint64_t in, out; /* bytes read, bytes unpacked */
	int failed; /* of reading the fd; the call's fault says why */
	char path[LIMIT_PATH_BYTES + 1]; /* of the entry */
	char buf[PIECE], raw[PIECE], there[PIECE];
};

static void entry_free(struct lh_entry *e)
{
	struct entry *entry = (struct entry *)lh_entry_v(e);

	free(entry->link);
	free(entry);
	free(lh_entry_k(e));
}

void import_archive_clear(struct import *im)
{
	if (im->files)
		lh_table_free(im->files);
	im->files = NULL;
}

/* ---- names */

/* Appends the parts of `name` to out[0..*n), "." left out, ".." refused or followed. */
static int path_append(char *out, size_t *n, const char *name, bool dots)
{
	while (*name) {
		size_t part = strcspn(name, "/");

		if (part == 2 && !strncmp(name, "..", 2)) {
			if (!dots || !*n)
				return -EINVAL;
			while (*n && out[*n - 1] != '/')
				--*n;
			if (*n)
				--*n;
		} else if (part && (part != 1 || *name != '.')) {
			if (*n + part + 1 > LIMIT_PATH_BYTES)
				return -EINVAL;
			if (*n)
				out[(*n)++] = '/';
			memcpy(out + *n, name, part);
			*n += part;
		}
		name += part;
		name += *name == '/';
	}
	out[*n] = '\0';
	return 0;
}

int import_path(const char *name, char *out)
{
	size_t n = 0;

	return *name == '/' ? -EINVAL : path_append(out, &n, name, false);
}

/* Where a symbolic link at `path` leads, within the archive. */
static int link_path(const char *path, const char *target, char *out)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	if (*target == '/' || !*target)
		return -EINVAL;
	memcpy(out, path, n);
	return path_append(out, &n, target, true);
}

static bool has_suffix(const char *text, const char *suffix)
{
	size_t n = strlen(text), m = strlen(suffix);

	return n > m && !strcmp(text + n - m, suffix);
}

/* "blobs/sha256/HEX": its digest. */
static bool blob_path(const char *path, struct digest *out)
{
	static const char folder[] = "blobs/sha256/";
	char text[DIGEST_TEXT];

	if (strncmp(path, folder, sizeof(folder) - 1) ||
	    strlen(path) != sizeof(folder) - 1 + DIGEST_HEX)
		return false;
	snprintf(text, sizeof(text), "sha256:%s", path + sizeof(folder) - 1);
	return !digest_parse(text, out);
}

/* Whether docker archives name their layers and configs so. */
static bool docker_path(const char *path)
{
	static const char *const suffixes[] = { ".tar", ".tar.gz", ".tgz", ".tar.zst", ".json" };
	const char *name = strrchr(path, '/');
	size_t depth = 0;

	for (const char *p = path; *p; p++)
		depth += *p == '/';
	name = name ? name + 1 : path;
	if (depth > 2)
		return false;
	if (!strncmp(name, "sha256:", 7) || strspn(name, "0123456789abcdef") == DIGEST_HEX)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(suffixes); i++)
		if (has_suffix(name, suffixes[i]))
			return true;
	return false;
}

enum layer_compression import_compression(const void *data, size_t size)
{
	if (size >= 2 && !memcmp(data, "\x1f\x8b", 2))
		return LAYER_GZIP;
	if (size >= 4 && !memcmp(data, "\x28\xb5\x2f\xfd", 4))
		return LAYER_ZSTD;
	return LAYER_NONE;
}

/* ---- faults */

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

/* What libarchive says after a failed call. */
static int damaged(struct reader *rd, const char *where)
{
	const char *text = archive_error_string(rd->a);

	if (rd->failed)
		return rd->failed;
	if (archive_errno(rd->a) == ENOMEM)
		return image_no_memory(rd->c->f);
	if (!rd->in)
		fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0, "the archive is empty");
	else if (!rd->im->n_files && !*where && text && strstr(text, "Unrecognized"))
		fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "this is no tar archive, plain or compressed by gzip or zstd");
	else
		fault_set(rd->c->f, FAULT_FAILED_PRECONDITION, 0,
			  "the archive is damaged%s%.256s: %s", *where ? " at the entry " : "",
			  where, text ? text : "unknown error");
	return -EBADMSG;
}

/* ---- reading */

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

/* A piece of the entry's data, 0 at its end. */
static ssize_t read_data(struct reader *rd)
{
	la_ssize_t n = archive_read_data(rd->a, rd->buf, sizeof(rd->buf));
	int r;

	if (n < 0)
		return damaged(rd, rd->path);
	rd->out += (uint64_t)n;
	if (rd->out > RATIO_FROM && rd->out / LIMIT_LAYER_RATIO > rd->in) {
		fault_set(
			rd->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			"the archive unpacks to more than %llu times its size at the entry '%.256s'",
			LIMIT_LAYER_RATIO, rd->path);
		return -E2BIG;
	}
	r = store_cancelled(rd->c);
	return r < 0 ? r : n;
}

/* index.json and its like. */
static int read_text(struct reader *rd, uint64_t size, char **text, size_t *length)
{
	size_t at = 0;
	ssize_t n;

	if (*text)
		return refuse(rd, "it is there twice");
	if (size > LIMIT_MANIFEST_BYTES) {
		fault_set(rd->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "the archive's %s has %llu bytes; at most %u are taken", rd->path,
			  (unsigned long long)size, LIMIT_MANIFEST_BYTES);
		return -EFBIG;
	}
	*text = malloc(size + 1);
	if (!*text)
		return image_no_memory(rd->c->f);
	while ((n = read_data(rd)) > 0) {
		if ((size_t)n > size - at)
			return refuse(rd, "more data than its size");
		memcpy(*text + at, rd->buf, (size_t)n);
		at += (size_t)n;
	}
	(*text)[at] = '\0';
	*length = at;
	return (int)n;
}

/* What a blob that is there already is compared by, and made anew of when it is damaged. */
struct again {
	const char *digest;
	uint64_t size, at;
	int fd; /* the blob's file, as far as it is like the archive's; -1 */
	struct image_blob blob; /* not open as long as it is */
};

/* From here on they differ: what was alike so far is the beginning of a new file. */
static int again_begin(struct reader *rd, struct again *a)
{
	struct store_call *c = rd->c;
	int r = image_blob_open(c, a->digest, NULL, (int64_t)a->size, &a->blob);

	for (uint64_t at = 0; !r && at < a->at;) {
		size_t n = a->at - at < sizeof(rd->there) ? (size_t)(a->at - at)
							  : sizeof(rd->there);

		r = fd_pread_all(a->fd, rd->there, n, at);
		if (r < 0)
			fault_sys(c->f, -r, "read the content", a->digest);
		else
			r = image_blob_add(c, &a->blob, rd->there, n);
		at += n;
	}
	return r;
}

static int again_add(struct reader *rd, struct again *a, size_t n)
{
	int r = 0;

	if (!a->blob.to && (a->fd < 0 || fd_pread_all(a->fd, rd->there, n, a->at) < 0 ||
			    memcmp(rd->there, rd->buf, n)))
		r = again_begin(rd, a);
	a->at += n;
	return r || !a->blob.to ? r : image_blob_add(rd->c, &a->blob, rd->buf, n);
}

static int again_read(struct reader *rd, struct again *a, enum layer_compression *compression)
{
	struct digest found;
	ssize_t n;
	int r = 0;

	while (!r && (n = read_data(rd)) != 0) {
		if (n < 0)
			return (int)n;
		if (!a->at)
			*compression = import_compression(rd->buf, (size_t)n);
		hasher_add(rd->hasher, rd->buf, (size_t)n);
		r = again_add(rd, a, (size_t)n);
	}
	if (r < 0)
		return r;
	if (hasher_digest(rd->hasher, &found) < 0)
		return image_no_memory(rd->c->f);
	if (!strcmp(found.text, a->digest))
		return 0;
	return refuse(rd, "its content has the digest %s, expected was %s", found.text, a->digest);
}

/* One that is there already: the archive's copy is compared, and replaces it should it be damaged. */
static int compare_blob(struct reader *rd, uint64_t size, const char *expected,
			enum layer_compression *compression)
{
	struct again a = { .digest = expected, .size = size, .fd = -1 };
	struct store_call quiet = *rd->c;
	struct fault ignored;
	struct digest digest;
	int r;

	if (!rd->hasher && hasher_new(&rd->hasher) < 0)
		return image_no_memory(rd->c->f);
	hasher_reset(rd->hasher);
	quiet.f = &ignored;
	content_open(&quiet, expected, &a.fd, NULL);
	r = again_read(rd, &a, compression);
	fd_close(&a.fd);
	if (r < 0)
		image_blob_fail(&a.blob, r);
	else if (a.blob.to)
		r = image_blob_commit(rd->c, &a.blob, expected, rd->path, &digest);
	return r;
}

/* expected: NULL for a docker archive's file. */
static int read_blob(struct reader *rd, uint64_t size, const char *expected,
		     struct import_blob *out)
{
	struct store_call *c = rd->c;
	char key[DIGEST_TEXT + 8];
	struct image_blob blob;
	struct digest name;
	ssize_t n;
	int r;

	if (size > LIMIT_LAYER_BYTES) {
		fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "the archive's entry '%.256s' has %llu bytes; at most %llu are taken",
			  rd->path, (unsigned long long)size, LIMIT_LAYER_BYTES);
		return -EFBIG;
	}
	if (!expected && digest_of(rd->path, strlen(rd->path), &name) < 0)
		return image_no_memory(c->f);
	snprintf(key, sizeof(key), "%s%s", expected ? "" : "file-",
		 expected ? expected : name.text);
	out->size = size;
	r = image_blob_open(c, key, expected, (int64_t)size, &blob);
	if (r == -EEXIST && expected) {
		digest_parse(expected, &out->digest);
		return compare_blob(rd, size, expected, &out->compression);
	}
	if (r < 0)
		return r;
	for (bool first = true; (n = read_data(rd)) > 0; first = false) {
		if (first)
			out->compression = import_compression(rd->buf, (size_t)n);
		r = image_blob_add(c, &blob, rd->buf, (size_t)n);
		if (r < 0)
			break;
	}
	if (n < 0 || r < 0) {
		r = r < 0 ? r : (int)n;
		image_blob_fail(&blob, r);
		return r;
	}
	return image_blob_commit(c, &blob, expected, rd->path, &out->digest);
}

/* ---- entries */

static int add(struct reader *rd, const char *link, const struct import_blob *blob)
{
	struct entry *entry = calloc(1, sizeof(*entry));
	char *key = strdup(rd->path);

	if (entry) {
		entry->link = link ? strdup(link) : NULL;
		if (blob)
			entry->blob = *blob;
	}
	if (entry && key && (!link || entry->link) && !lh_table_insert(rd->im->files, key, entry))
		return 0;
	if (entry)
		free(entry->link);
	free(entry);
	free(key);
	return image_no_memory(rd->c->f);
}

/* Before it is stored. 1: it is the same blob a second time. */
static int check_new(struct reader *rd, bool blob)
{
	if (lh_table_lookup_entry(rd->im->files, rd->path)) {
		if (blob)
			return 1;
		return refuse(rd, "it is there twice");
	}
	if (!blob && ++rd->im->n_files > LIMIT_ARCHIVE_FILES) {
		fault_set(rd->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "the archive has more than %u files; this is no image archive",
			  LIMIT_ARCHIVE_FILES);
		return -E2BIG;
	}
	return 0;
}

static char **document(struct import *im, const char *path, size_t **size)
{
	if (!strcmp(path, "index.json")) {
		*size = &im->index_size;
		return &im->index;
	}
	if (!strcmp(path, "manifest.json")) {
		*size = &im->manifest_size;
		return &im->manifest;
	}
	if (!strcmp(path, "oci-layout")) {
		*size = &im->layout_size;
		return &im->layout;
	}
	return NULL;
}

static int on_file(struct reader *rd, struct archive_entry *e)
{
	struct import *im = rd->im;
	int64_t size = archive_entry_size(e);
	struct import_blob blob = { 0 };
	struct digest expected;
	size_t *length;
	char **text = document(im, rd->path, &length);
	bool named;
	int r;

	if (size < 0)
		return refuse(rd, "it has no valid size");
	if (text)
		return read_text(rd, (uint64_t)size, text, length);
	if (!strcmp(rd->path, "repositories"))
		im->repositories = true;
	named = blob_path(rd->path, &expected);
	if (!named && !docker_path(rd->path))
		return 0; /* the next header passes over its data */
	r = check_new(rd, named);
	if (r < 0)
		return r;
	if (r > 0)
		return compare_blob(rd, (uint64_t)size, expected.text, &blob.compression);
	r = read_blob(rd, (uint64_t)size, named ? expected.text : NULL, &blob);
	return r < 0 ? r : add(rd, NULL, &blob);
}

static int on_link(struct reader *rd, const char *target, bool hard)
{
	char to[LIMIT_PATH_BYTES + 1];
	struct digest digest;
	size_t *length;
	int r;

	if (document(rd->im, rd->path, &length) || blob_path(rd->path, &digest))
		return refuse(rd, "a link is not allowed here");
	if (!target || (hard ? import_path(target, to) : link_path(rd->path, target, to)) < 0)
		return refuse(rd, "a link that leads out of the archive");
	if (!docker_path(rd->path))
		return 0;
	r = check_new(rd, false);
	return r < 0 ? r : add(rd, to, NULL);
}

static int on_entry(struct reader *rd, struct archive_entry *e)
{
	const char *name = archive_entry_pathname(e);

	snprintf(rd->path, sizeof(rd->path), "%s", name ? name : "?");
	if (!name || import_path(name, rd->path) < 0)
		return refuse(rd, "a name that an image archive cannot have");
	if (archive_entry_hardlink(e))
		return on_link(rd, archive_entry_hardlink(e), true);
	switch (archive_entry_filetype(e)) {
	case AE_IFDIR:
		return 0;
	case AE_IFREG:
		return *rd->path ? on_file(rd, e) : refuse(rd, "a file without a name");
	case AE_IFLNK:
		return on_link(rd, archive_entry_symlink(e), false);
	default:
		return refuse(rd, "neither a file, nor a folder, nor a link");
	}
}

static int read_entries(struct reader *rd)
{
	struct archive_entry *e;
	size_t n = 0;
	int r = 0;

	while (!r) {
		int got = archive_read_next_header(rd->a, &e);

		if (got == ARCHIVE_EOF)
			return 0;
		if (got < ARCHIVE_WARN)
			return damaged(rd, "");
		if (++n > LIMIT_ARCHIVE_ENTRIES) {
			fault_set(rd->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
				  "the archive has more than %u entries", LIMIT_ARCHIVE_ENTRIES);
			return -E2BIG;
		}
		r = store_cancelled(rd->c);
		if (!r)
			r = on_entry(rd, e);
	}
	return r;
}

static int read_all(struct reader *rd)
{
	struct stat st;
	int r;

	rd->a = archive_read_new();
	if (!rd->a || archive_read_support_filter_gzip(rd->a) < ARCHIVE_WARN ||
	    archive_read_support_filter_zstd(rd->a) < ARCHIVE_WARN ||
	    archive_read_support_format_tar(rd->a) < ARCHIVE_WARN)
		return image_no_memory(rd->c->f);
	store_progress_phase(rd->c->progress, "read",
			     !fstat(rd->im->in->fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0
				     ? (uint64_t)st.st_size
				     : 0);
	if (archive_read_open(rd->a, rd, NULL, on_read, NULL) != ARCHIVE_OK)
		return damaged(rd, "");
	r = read_entries(rd);
	return r < 0 ? r : image_io_drain(rd->c, rd->io);
}

int import_archive_read(struct import *im)
{
	struct reader *rd = calloc(1, sizeof(*rd));
	int r;

	im->files = lh_kchar_table_new(256, entry_free);
	if (!rd || !im->files) {
		free(rd);
		return image_no_memory(im->c->f);
	}
	rd->im = im;
	rd->c = im->c;
	r = image_io_open(&rd->io, im->in->fd, false, im->c->f);
	if (!r)
		r = read_all(rd);
	if (rd->a)
		archive_read_free(rd->a);
	image_io_free(rd->io);
	hasher_free(rd->hasher);
	free(rd);
	return r;
}

int import_archive_find(struct import *im, const char *path, struct import_blob *out)
{
	char normal[LIMIT_PATH_BYTES + 1];

	if (import_path(path, normal) < 0)
		return 0;
	path = normal;
	for (int i = 0; i < LINK_HOPS; i++) {
		const struct lh_entry *found = lh_table_lookup_entry(im->files, path);
		const struct entry *entry = found ? lh_entry_v(found) : NULL;

		if (!entry)
			return 0;
		if (!entry->link) {
			*out = entry->blob;
			return 1;
		}
		path = entry->link;
	}
	return 0;
}
