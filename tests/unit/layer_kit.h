// SPDX-License-Identifier: Apache-2.0
/*
 * Layers for tests: tar archives from raw headers, and a folder to apply them to
 *
 * Headers are written byte by byte, so that archives can be as wrong as wanted. A kit has a folder
 * of its own with `root` in it; all goes at the end, mounts first.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/layer.h"
#include "util/fd.h"
#include "util/limits.h"
#include "util/tree.h"

#define KIT_UNUSED __attribute__((unused))

/* ---- archives */

struct tar {
	char *data;
	size_t size;
};

struct ent {
	const char *name; /* at most 100 bytes; longer ones by pax */
	char type; /* 0: '0' */
	mode_t mode; /* 0: 0644, folders 0755 */
	unsigned uid, gid;
	long mtime;
	const char *text; /* data */
	const char *link;
	unsigned major, minor;
	/* records of an extended header: key, value, … */
	const char *pax[9];
	/* of one more record, whose value may have NULs */
	const char *key;
	const void *value;
	size_t value_size;
};

static KIT_UNUSED void tar_bytes(struct tar *t, const void *data, size_t size)
{
	t->data = realloc(t->data, t->size + size);
	assert_non_null(t->data);
	if (data)
		memcpy(t->data + t->size, data, size);
	else
		memset(t->data + t->size, 0, size);
	t->size += size;
}

static KIT_UNUSED void tar_pad(struct tar *t)
{
	tar_bytes(t, NULL, -t->size % 512);
}

static KIT_UNUSED void octal(char *to, size_t digits, unsigned long value)
{
	while (digits--) {
		to[digits] = (char)('0' + (value & 7));
		value >>= 3;
	}
}

/* A header with the right checksum. */
static KIT_UNUSED void tar_header(struct tar *t, const struct ent *e, char type, size_t size)
{
	char h[512] = { 0 };
	unsigned sum = 0;

	memcpy(h, e->name, strnlen(e->name, 100));
	octal(h + 100, 7, e->mode ? e->mode : type == '5' ? 0755 : 0644);
	octal(h + 108, 7, e->uid);
	octal(h + 116, 7, e->gid);
	octal(h + 124, 11, size);
	octal(h + 136, 11, (unsigned long)e->mtime);
	memset(h + 148, ' ', 8);
	h[156] = type;
	if (e->link)
		memcpy(h + 157, e->link, strnlen(e->link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	octal(h + 329, 7, e->major);
	octal(h + 337, 7, e->minor);
	for (size_t i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	octal(h + 148, 6, sum);
	h[154] = '\0';
	tar_bytes(t, h, 512);
}

static KIT_UNUSED void pax_record(struct tar *t, const char *key, const void *value, size_t size)
{
	size_t body = strlen(key) + size + 3, n = body + 1;
	char text[512];

	while (n != body + (size_t)snprintf(text, sizeof(text), "%zu", n))
		n = body + (size_t)snprintf(text, sizeof(text), "%zu", n);
	tar_bytes(t, text, (size_t)snprintf(text, sizeof(text), "%zu %s=", n, key));
	tar_bytes(t, value, size);
	tar_bytes(t, "\n", 1);
}

static KIT_UNUSED void tar_add(struct tar *t, struct ent e)
{
	struct tar pax = { 0 };
	char type = e.type ? e.type : '0';
	size_t size = e.text && !e.link ? strlen(e.text) : 0;

	for (size_t i = 0; i < 8 && e.pax[i]; i += 2)
		pax_record(&pax, e.pax[i], e.pax[i + 1], strlen(e.pax[i + 1]));
	if (e.key)
		pax_record(&pax, e.key, e.value, e.value_size);
	if (pax.size) {
		tar_header(t, &(struct ent){ .name = "pax" }, 'x', pax.size);
		tar_bytes(t, pax.data, pax.size);
		tar_pad(t);
		free(pax.data);
	}
	tar_header(t, &e, type, size);
	if (size)
		tar_bytes(t, e.text, size);
	tar_pad(t);
}
#define ADD(t, ...) tar_add((t), (struct ent){ __VA_ARGS__ })

static KIT_UNUSED void tar_end(struct tar *t)
{
	tar_bytes(t, NULL, 1024);
}

static KIT_UNUSED void tar_clear(struct tar *t)
{
	free(t->data);
	*t = (struct tar){ 0 };
}

/* ---- the kit */

struct lkit {
	char path[64];
	int dir, root;
	struct fault f;
	struct cancel cancel;
	struct store_progress progress;
	struct store_call c;
	struct layer_limits limits;
	struct layer_result result;
};

static KIT_UNUSED int lkit_setup(void **state)
{
	struct lkit *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	strcpy(k->path, "/tmp/test_layer.XXXXXX");
	assert_non_null(mkdtemp(k->path));
	k->dir = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(k->dir, "root", 0755), 0);
	k->root = openat(k->dir, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(k->root >= 0);
	k->c = (struct store_call){ .f = &k->f, .cancel = &k->cancel, .progress = &k->progress };
	*state = k;
	return 0;
}

static KIT_UNUSED int lkit_teardown(void **state)
{
	struct lkit *k = *state;

	layer_result_clear(&k->result);
	close(k->root);
	close(k->dir);
	assert_int_equal(tree_remove(AT_FDCWD, k->path, NULL), 0);
	free(k);
	return 0;
}

/* A new folder beside root. */
static KIT_UNUSED int lkit_folder(struct lkit *k, const char *name)
{
	int fd;

	assert_int_equal(mkdirat(k->dir, name, 0755), 0);
	fd = openat(k->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static KIT_UNUSED int memory_file(const void *data, size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, size), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* As it is, to `root`; the archive is freed. */
static KIT_UNUSED int apply_to(struct lkit *k, struct tar *t, int root, enum layer_target target)
{
	int fd = memory_file(t->data, t->size), r;

	k->f = (struct fault){ 0 };
	layer_result_clear(&k->result);
	r = layer_apply(&k->c, fd, LAYER_NONE, root, target, &k->limits, &k->result);
	close(fd);
	if (r < 0) {
		assert_true(k->f.code != FAULT_NONE && k->f.message[0]);
	} else {
		struct digest d;

		assert_int_equal(digest_of(t->data, t->size, &d), 0);
		assert_string_equal(k->result.diff_id.text, d.text);
		assert_int_equal(k->result.size, t->size);
	}
	tar_clear(t);
	return r;
}

#define APPLY(t, target)                                                                           \
	do {                                                                                       \
		if (apply_to(k, (t), k->root, (target)) < 0)                                       \
			fail_msg("%s:%d: %s", __FILE__, __LINE__, k->f.message);                   \
	} while (0)
/* Fails with this code, and these two in its message. */
#define REFUSED(t, target, with, part, more)                                                       \
	do {                                                                                       \
		if (apply_to(k, (t), k->root, (target)) >= 0)                                      \
			fail_msg("%s:%d: taken: %s", __FILE__, __LINE__, part);                    \
		if (!strstr(k->f.message, part) || !strstr(k->f.message, more))                    \
			fail_msg("%s:%d: %s", __FILE__, __LINE__, k->f.message);                   \
		assert_string_equal(fault_code_name(k->f.code), fault_code_name(with));            \
	} while (0)

/* ---- looking */

static KIT_UNUSED struct stat look(int root, const char *path)
{
	struct stat st;

	if (fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return st;
}

static KIT_UNUSED bool there(int root, const char *path)
{
	struct stat st;

	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static KIT_UNUSED bool whiteout(int root, const char *path)
{
	struct stat st;

	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == 0;
}

static KIT_UNUSED void check_text(int root, const char *path, const char *text)
{
	char *data;

	assert_int_equal(fd_read_file(root, path, 1 << 20, &data, NULL), 0);
	assert_string_equal(data, text);
	free(data);
}

static KIT_UNUSED ssize_t xattr_of(int root, const char *path, const char *name, char *buf,
				   size_t size)
{
	char full[5000];

	snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", root, path);
	return lgetxattr(full, name, buf, size);
}

static KIT_UNUSED bool opaque(int root, const char *path)
{
	char value[8];

	return xattr_of(root, path, "trusted.overlay.opaque", value, sizeof(value)) == 1 &&
	       value[0] == 'y';
}

/* ---- making */

static KIT_UNUSED void make_file(int root, const char *path, const char *text)
{
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

static KIT_UNUSED void make_folder(int root, const char *path)
{
	assert_int_equal(mkdirat(root, path, 0755), 0);
}

static KIT_UNUSED void set_xattr(int root, const char *path, const char *name, const char *value)
{
	char full[5000];

	snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", root, path);
	assert_int_equal(lsetxattr(full, name, value, strlen(value), 0), 0);
}

static KIT_UNUSED void set_time(int root, const char *path, long sec, long nsec)
{
	struct timespec times[2] = { { sec, nsec }, { sec, nsec } };

	assert_int_equal(utimensat(root, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

/* ---- packing */

static KIT_UNUSED int to_tar(void *user, const void *data, size_t size, struct fault *f)
{
	(void)f;
	tar_bytes(user, data, size);
	return 0;
}

static KIT_UNUSED struct tar pack(struct lkit *k, int root, enum layer_source source)
{
	struct tar t = { 0 };

	k->f = (struct fault){ 0 };
	if (layer_pack(&k->c, root, source, to_tar, &t) < 0)
		fail_msg("%s", k->f.message);
	return t;
}

static KIT_UNUSED struct tar changes(struct lkit *k, int left, int right)
{
	struct tar t = { 0 };

	k->f = (struct fault){ 0 };
	if (layer_pack_changes(&k->c, left, right, to_tar, &t) < 0)
		fail_msg("%s", k->f.message);
	return t;
}

static KIT_UNUSED void same_tar(struct tar *a, struct tar *b)
{
	assert_int_equal(a->size, b->size);
	assert_memory_equal(a->data, b->data, a->size);
	tar_clear(a);
	tar_clear(b);
}
