// SPDX-License-Identifier: Apache-2.0
/*
 * Images, layouts and archives, made by hand
 */
#pragma once

#include "content_kit.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <sys/stat.h>

#include "store/image.h"
#include "store/layer.h"
#include "store/lease.h"
#include "util/cleanup.h"

/* ---- bytes in memory */

struct bytes {
	char *p;
	size_t n;
};

static inline struct bytes bytes_of(const char *text)
{
	return (struct bytes){ strdup(text), strlen(text) };
}

static inline struct bytes bytes_fmt(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static inline struct bytes bytes_fmt(const char *fmt, ...)
{
	struct bytes b;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&b.p, fmt, ap);
	va_end(ap);
	assert_true(n >= 0);
	b.n = (size_t)n;
	return b;
}

static inline struct digest bytes_digest(struct bytes b)
{
	struct digest d;

	assert_int_equal(digest_of(b.p, b.n, &d), 0);
	return d;
}

/* ---- tars */

struct tarball {
	struct archive *a;
	struct bytes out;
};

static inline la_ssize_t tar_out(struct archive *a, void *user, const void *data, size_t n)
{
	struct tarball *t = user;

	(void)a;
	t->out.p = realloc(t->out.p, t->out.n + n);
	memcpy(t->out.p + t->out.n, data, n);
	t->out.n += n;
	return (la_ssize_t)n;
}

/* compression: LAYER_NONE, … of the whole */
static inline void tar_begin(struct tarball *t, enum layer_compression compression)
{
	memset(t, 0, sizeof(*t));
	t->a = archive_write_new();
	archive_write_set_format_pax_restricted(t->a);
	/* nothing behind the end of what is packed */
	archive_write_set_bytes_in_last_block(t->a, 1);
	if (compression == LAYER_GZIP)
		archive_write_add_filter_gzip(t->a);
	if (compression == LAYER_ZSTD)
		archive_write_add_filter_zstd(t->a);
	assert_int_equal(archive_write_open(t->a, t, NULL, tar_out, NULL), ARCHIVE_OK);
}

static inline void tar_entry(struct tarball *t, const char *name, unsigned type, const char *link,
			     struct bytes data)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_set_pathname(e, name);
	archive_entry_set_perm(e, type == AE_IFDIR ? 0755 : 0644);
	if (type) {
		archive_entry_set_filetype(e, type);
		if (type == AE_IFLNK)
			archive_entry_set_symlink(e, link);
	} else {
		archive_entry_set_filetype(e, AE_IFREG);
		archive_entry_set_hardlink(e, link);
	}
	archive_entry_set_size(e, (int64_t)data.n);
	assert_int_equal(archive_write_header(t->a, e), ARCHIVE_OK);
	if (data.n)
		assert_int_equal(archive_write_data(t->a, data.p, data.n), data.n);
	archive_entry_free(e);
}

static inline void tar_file(struct tarball *t, const char *name, struct bytes data)
{
	tar_entry(t, name, AE_IFREG, NULL, data);
}

static inline void tar_text(struct tarball *t, const char *name, const char *text)
{
	tar_file(t, name, (struct bytes){ (char *)text, strlen(text) });
}

static inline void tar_symlink(struct tarball *t, const char *name, const char *target)
{
	tar_entry(t, name, AE_IFLNK, target, (struct bytes){ 0 });
}

static inline void tar_blob(struct tarball *t, struct bytes data)
{
	char name[128];
	struct digest d = bytes_digest(data);

	snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(&d));
	tar_file(t, name, data);
}

static inline struct bytes tar_end(struct tarball *t)
{
	assert_int_equal(archive_write_close(t->a), ARCHIVE_OK);
	archive_write_free(t->a);
	return t->out;
}

/* A temporary file of these bytes, read from its start; the bytes are freed. */
static inline int bytes_fd(struct bytes b)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, b.p, b.n), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	free(b.p);
	return fd;
}

/* ---- images */

#define KIT_LAYERS 3

struct kit_image {
	size_t n;
	struct bytes layers[KIT_LAYERS]; /* plain tars */
	struct bytes packed[KIT_LAYERS]; /* what is in the blobs */
	const char *types[KIT_LAYERS];
	struct bytes config, manifest;
};

/* A tar with one small file, whose name and content are `text`. */
static inline struct bytes kit_layer(const char *text, enum layer_compression compression)
{
	struct tarball t;

	tar_begin(&t, compression);
	tar_text(&t, text, text);
	return tar_end(&t);
}

/*
 * An image of n layers, the i-th with the file PREFIXi, packed by turns: plain, gzip, zstd. *architecture
 * is amd64 and so on.
 */
static inline struct kit_image kit_image(const char *prefix, const char *architecture, size_t n)
{
	static const char *const types[] = { OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD };
	struct kit_image im = { .n = n };
	struct bytes diffs = bytes_of(""), layers = bytes_of("");
	struct digest config;

	for (size_t i = 0; i < n; i++) {
		CLEANUP_FREE char *name = bytes_fmt("%s%zu", prefix, i).p;
		struct digest diff, blob;
		struct bytes more;

		im.layers[i] = kit_layer(name, LAYER_NONE);
		im.packed[i] = kit_layer(name, (enum layer_compression)(i % 3));
		im.types[i] = types[i % 3];
		diff = bytes_digest(im.layers[i]);
		blob = bytes_digest(im.packed[i]);
		more = bytes_fmt("%s%s\"%s\"", diffs.p, i ? "," : "", diff.text);
		free(diffs.p);
		diffs = more;
		more = bytes_fmt("%s%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}",
				 layers.p, i ? "," : "", types[i % 3], blob.text, im.packed[i].n);
		free(layers.p);
		layers = more;
	}
	im.config = bytes_fmt(
		"{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"%s\"]},"
		"\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[%s]}}",
		architecture, prefix, diffs.p);
	config = bytes_digest(im.config);
	im.manifest = bytes_fmt("{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST
				"\",\"config\":{\"mediaType\":\"" OCI_CONFIG
				"\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[%s]}",
				config.text, im.config.n, layers.p);
	free(diffs.p);
	free(layers.p);
	return im;
}

static inline void kit_image_free(struct kit_image *im)
{
	for (size_t i = 0; i < im->n; i++) {
		free(im->layers[i].p);
		free(im->packed[i].p);
	}
	free(im->config.p);
	free(im->manifest.p);
}

/* A descriptor as text, with more members behind it ("" or ",\"platform\":…"). */
static inline struct bytes kit_descriptor(const char *type, struct bytes b, const char *more)
{
	struct digest d = bytes_digest(b);

	return bytes_fmt("{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu%s}", type, d.text,
			 b.n, more);
}

#define KIT_NAMED(name) ",\"annotations\":{\"" OCI_REF_NAME "\":\"" name "\"}"
#define KIT_PLATFORM(arch) ",\"platform\":{\"os\":\"linux\",\"architecture\":\"" arch "\"}"
#define KIT_LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"

/* An index of what is given as text, which is freed; the list ends with NULL. */
static inline struct bytes kit_index(char *first, ...)
{
	struct bytes list = bytes_of(""), made;
	va_list ap;

	va_start(ap, first);
	for (char *one = first; one; one = va_arg(ap, char *)) {
		struct bytes more = bytes_fmt("%s%s%s", list.p, *list.p ? "," : "", one);

		free(list.p);
		free(one);
		list = more;
	}
	va_end(ap);
	made = bytes_fmt("{\"schemaVersion\":2,\"manifests\":[%s]}", list.p);
	free(list.p);
	return made;
}

/* The blobs of an image in a layout. */
static inline void tar_image(struct tarball *t, const struct kit_image *im)
{
	for (size_t i = 0; i < im->n; i++)
		tar_blob(t, im->packed[i]);
	tar_blob(t, im->config);
	tar_blob(t, im->manifest);
}

static inline const char *kit_architecture(void)
{
	static struct oci_platform p;

	if (!p.os)
		assert_int_equal(oci_platform_parse(&p, NULL, NULL), 0);
	return p.architecture;
}

/* An archive of one layout: index.json first. */
static inline struct bytes kit_layout(const struct kit_image *im, const char *more,
				      enum layer_compression compression)
{
	struct bytes index = kit_index(kit_descriptor(OCI_MANIFEST, im->manifest, more).p, NULL);
	struct tarball t;

	tar_begin(&t, compression);
	tar_file(&t, "index.json", index);
	tar_text(&t, "oci-layout", KIT_LAYOUT);
	tar_image(&t, im);
	free(index.p);
	return tar_end(&t);
}

/* ---- what came of it */

struct kit_seen {
	size_t n;
	char names[512]; /* "a b " */
	char digest[DIGEST_TEXT]; /* of the last */
	char annotations[256], labels[256];
};

static inline int kit_see(void *user, const struct image_info *info)
{
	struct kit_seen *x = user;
	size_t n = strlen(x->names);
	json_object *annotations = json_object_object_get(info->target->json, "annotations");

	x->n++;
	snprintf(x->names + n, sizeof(x->names) - n, "%s ", info->name);
	snprintf(x->digest, sizeof(x->digest), "%s", info->target->digest.text);
	snprintf(x->annotations, sizeof(x->annotations), "%s",
		 annotations ? json_object_to_json_string_ext(annotations, JSON_C_TO_STRING_PLAIN)
			     : "");
	x->labels[0] = '\0';
	for (size_t i = 0; i < info->n_labels; i++) {
		n = strlen(x->labels);
		snprintf(x->labels + n, sizeof(x->labels) - n, "%s=%s;", info->labels[i].key,
			 info->labels[i].value);
	}
	return 0;
}

static inline int kit_label_of(void *user, const struct content_info *info)
{
	const char **want = user;

	for (size_t i = 0; i < info->n_labels; i++)
		if (!strcmp(info->labels[i].key, want[0])) {
			want[1] = strdup(info->labels[i].value);
			return 0;
		}
	want[1] = NULL;
	return 0;
}

/* The value of a blob's label, to be freed; NULL: it has none. */
static inline char *kit_label(struct kit *k, const char *digest, const char *key)
{
	const char *want[2] = { key, NULL };

	OK(content_info(&k->c, digest, kit_label_of, want));
	return (char *)want[1];
}

static inline int kit_count_content(void *user, const struct content_info *info)
{
	(void)info;
	++*(size_t *)user;
	return 0;
}

static inline size_t kit_blobs(struct kit *k)
{
	size_t n = 0;

	OK(content_list(&k->c, "", kit_count_content, &n));
	return n;
}

/* By image_import, of an archive in memory, which is freed. seen may be NULL. */
static inline int kit_import(struct kit *k, struct bytes archive, const char *name,
			     struct kit_seen *seen)
{
	struct image_import in = { .fd = bytes_fd(archive), .name = name };
	int r;

	if (seen)
		memset(seen, 0, sizeof(*seen));
	r = image_import(&k->c, &in, seen ? kit_see : NULL, seen);
	close(in.fd);
	return r;
}

static inline int kit_count_lease(void *user, const struct lease_info *info)
{
	(void)info;
	++*(size_t *)user;
	return 0;
}

static inline size_t kit_leases(struct kit *k)
{
	size_t n = 0;

	OK(lease_list(&k->c, "", kit_count_lease, &n));
	return n;
}
