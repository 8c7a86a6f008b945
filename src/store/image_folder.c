// SPDX-License-Identifier: Apache-2.0
/*
 * Import: a layout that lies in a folder
 *
 * Files are opened beneath the folder and through no link, whatever the documents in it name, and
 * only regular files are read: a FIFO would keep the worker waiting for ever. What is in the content
 * already is not read at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/content_internal.h"
#include "store/image_import_internal.h"
#include "util/limits.h"

#define PIECE (256u << 10)

static int file_fault(struct import *im, int err, const char *path)
{
	if (err == ELOOP || err == EXDEV) {
		fault_set(im->c->f, FAULT_FAILED_PRECONDITION, err,
			  "%.256s: links in an image folder are not followed", path);
		return -err;
	}
	return fault_sys(im->c->f, err, "open", path);
}

/* 1 and the file, 0: there is none. */
static int open_file(struct import *im, const char *path, int *fd, uint64_t *size)
{
	struct open_how how = { .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					   RESOLVE_NO_MAGICLINKS };
	struct stat st;

	*fd = (int)syscall(SYS_openat2, im->folder, path, &how, sizeof(how));
	if (*fd < 0)
		return errno == ENOENT ? 0 : file_fault(im, errno, path);
	if (!fstat(*fd, &st) && S_ISREG(st.st_mode)) {
		*size = (uint64_t)st.st_size;
		return 1;
	}
	close(*fd);
	*fd = -1;
	fault_set(im->c->f, FAULT_FAILED_PRECONDITION, 0, "%.256s is not a regular file", path);
	return -EINVAL;
}

/* Left NULL when there is no such file. */
static int read_text(struct import *im, const char *path, char **text, size_t *size)
{
	CLEANUP_CLOSE int fd = -1;
	uint64_t length = 0;
	size_t at = 0;
	ssize_t n = 1;
	int r = open_file(im, path, &fd, &length);

	if (r <= 0)
		return r;
	if (length > LIMIT_MANIFEST_BYTES) {
		fault_set(im->c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "%s has %llu bytes; at most %u are taken", path,
			  (unsigned long long)length, LIMIT_MANIFEST_BYTES);
		return -EFBIG;
	}
	*text = malloc(length + 1);
	if (!*text)
		return image_no_memory(im->c->f);
	while (at < length && n) {
		n = read(fd, *text + at, length - at);
		if (n < 0 && errno != EINTR)
			return fault_sys(im->c->f, errno, "read", path);
		at += n > 0 ? (size_t)n : 0;
	}
	(*text)[at] = '\0';
	*size = at;
	return 0;
}

/* *first is set to what begins the file. */
static int copy(struct import *im, int fd, struct image_blob *to, const char *path,
		enum layer_compression *first)
{
	struct store_call *c = im->c;
	CLEANUP_FREE char *buf = malloc(PIECE);
	bool begin = true;
	ssize_t n;
	int r = 0;

	if (!buf)
		return image_no_memory(c->f);
	while (!r && (n = read(fd, buf, PIECE))) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_sys(c->f, errno, "read", path);
		if (begin)
			*first = import_compression(buf, (size_t)n);
		begin = false;
		r = image_blob_add(c, to, buf, (size_t)n);
		store_progress_add(c->progress, (uint64_t)n);
		if (!r)
			r = store_cancelled(c);
	}
	return r;
}

/* 1: it is in the content now, 0: there is no such file. */
static int store_file(struct import *im, const char *path, const char *key,
		      const struct oci_descriptor *d, struct import_blob *out)
{
	struct store_call *c = im->c;
	const char *expected = d ? d->digest.text : NULL;
	CLEANUP_CLOSE int fd = -1;
	struct image_blob blob;
	int r = open_file(im, path, &fd, &out->size);

	if (r <= 0)
		return r;
	if (d && out->size != d->size) {
		fault_set(c->f, FAULT_FAILED_PRECONDITION, 0,
			  "%.256s has %llu bytes, but its descriptor says %llu", path,
			  (unsigned long long)out->size, (unsigned long long)d->size);
		return -EINVAL;
	}
	if (out->size > LIMIT_LAYER_BYTES) {
		fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, 0,
			  "%.256s has %llu bytes; at most %llu are taken", path,
			  (unsigned long long)out->size, LIMIT_LAYER_BYTES);
		return -EFBIG;
	}
	r = image_blob_open(c, key, expected, (int64_t)out->size, &blob);
	if (r == -EEXIST && expected) {
		r = content_same(c, expected, fd, out->size);
		if (r > 0)
			return 1;
		/* one of them is damaged: which one is found out at the end */
		r = r < 0 ? fault_sys(c->f, -r, "compare", path)
			  : image_blob_open(c, key, NULL, (int64_t)out->size, &blob);
	}
	if (r < 0)
		return r;
	r = copy(im, fd, &blob, path, &out->compression);
	if (r < 0) {
		image_blob_fail(&blob, r);
		return r;
	}
	r = image_blob_commit(c, &blob, expected, path, &out->digest);
	return r < 0 ? r : 1;
}

int import_folder_blob(struct import *im, const struct oci_descriptor *d)
{
	char path[sizeof("blobs/sha256/") + DIGEST_HEX];
	struct import_blob blob = { 0 };

	snprintf(path, sizeof(path), "blobs/sha256/%s", digest_hex(&d->digest));
	return store_file(im, path, d->digest.text, d, &blob);
}

int import_folder_find(struct import *im, const char *path, struct import_blob *out)
{
	char normal[LIMIT_PATH_BYTES + 1], key[DIGEST_TEXT + 8];
	struct digest name;

	if (import_path(path, normal) < 0 || !*normal)
		return 0;
	if (digest_of(normal, strlen(normal), &name) < 0)
		return image_no_memory(im->c->f);
	snprintf(key, sizeof(key), "file-%s", name.text);
	return store_file(im, normal, key, NULL, out);
}

int import_folder_read(struct import *im)
{
	struct stat st;
	int r;

	store_progress_phase(im->c->progress, "read", 0);
	r = read_text(im, "index.json", &im->index, &im->index_size);
	if (!r)
		r = read_text(im, "manifest.json", &im->manifest, &im->manifest_size);
	if (!r)
		r = read_text(im, "oci-layout", &im->layout, &im->layout_size);
	if (!r)
		im->repositories = !fstatat(im->folder, "repositories", &st, AT_SYMLINK_NOFOLLOW);
	return r;
}
