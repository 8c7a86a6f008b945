// SPDX-License-Identifier: Apache-2.0
/*
 * criu's small image files: out of a tar, and what is refused there
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "ckpt_kit.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define DIGEST "sha256:0123"

struct tar {
	struct archive *a;
	char *data;
	size_t used, room;
};

static void tar_begin(struct tar *t, size_t room)
{
	t->room = room;
	t->data = malloc(room);
	t->a = archive_write_new();
	assert_non_null(t->data);
	assert_int_equal(archive_write_set_format_pax_restricted(t->a), ARCHIVE_OK);
	assert_int_equal(archive_write_set_bytes_per_block(t->a, 0), ARCHIVE_OK);
	assert_int_equal(archive_write_open_memory(t->a, t->data, room, &t->used), ARCHIVE_OK);
}

static void tar_entry(struct tar *t, const char *name, mode_t type, const char *link,
		      const char *text)
{
	struct archive_entry *e = archive_entry_new();
	size_t n = text ? strlen(text) : 0;

	archive_entry_set_pathname(e, name);
	archive_entry_set_filetype(e, type);
	archive_entry_set_perm(e, 0600);
	archive_entry_set_size(e, (la_int64_t)n);
	if (type == AE_IFLNK)
		archive_entry_set_symlink(e, link);
	else if (link)
		archive_entry_set_hardlink(e, link);
	assert_int_equal(archive_write_header(t->a, e), ARCHIVE_OK);
	if (n)
		assert_int_equal(archive_write_data(t->a, text, n), n);
	archive_entry_free(e);
}

static void tar_end(struct tar *t)
{
	assert_int_equal(archive_write_close(t->a), ARCHIVE_OK);
	archive_write_free(t->a);
}

static int fd_of(const void *data, size_t size)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, size), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static int read_bytes(const void *data, size_t size, struct serve_files *files, struct fault *f)
{
	int fd = fd_of(data, size), r;

	memset(f, 0, sizeof(*f));
	memset(files, 0, sizeof(*files));
	r = ckpt_files_tar(files, fd, DIGEST, f);
	close(fd);
	return r;
}

static void refused(const void *data, size_t size, const char *says)
{
	struct serve_files files;
	struct fault f;

	assert_int_equal(read_bytes(data, size, &files, &f), -EBADMSG);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	if (!strstr(f.message, says) || !strstr(f.message, DIGEST))
		fail_msg("%s, not %s", f.message, says);
	serve_files_clear(&files);
}

static size_t pack(const void *data, size_t size, char **out)
{
	size_t room = ZSTD_compressBound(size), n;

	*out = malloc(room);
	assert_non_null(*out);
	n = ZSTD_compress(*out, room, data, size, 1);
	assert_false(ZSTD_isError(n));
	return n;
}

static void good_tar(struct tar *t)
{
	tar_begin(t, 64 << 10);
	tar_entry(t, "pstree.img", AE_IFREG, NULL, "tree");
	tar_entry(t, "core-1.img", AE_IFREG, NULL, "core");
	tar_entry(t, "empty.img", AE_IFREG, NULL, "");
	tar_end(t);
}

static void check_good(const struct serve_files *files)
{
	static const struct {
		const char *name, *text;
	} want[] = { { "core-1.img", "core" }, { "empty.img", "" }, { "pstree.img", "tree" } };

	assert_int_equal(files->n, 3);
	for (size_t i = 0; i < 3; i++) {
		const struct serve_file *file = ckpt_files_find(files, want[i].name);

		assert_ptr_equal(file, &files->v[i]);
		assert_int_equal(file->n_parts, 1);
		assert_int_equal(file->parts[0].fd, -1);
		assert_int_equal(file->parts[0].size, strlen(want[i].text));
		assert_memory_equal(file->parts[0].data, want[i].text, strlen(want[i].text));
	}
	assert_null(ckpt_files_find(files, "nothing.img"));
}

static void test_good(void **state)
{
	struct serve_files files;
	struct fault f;
	struct tar t = { 0 };
	char *packed, two[8192];
	size_t n, half;

	(void)state;
	good_tar(&t);
	assert_int_equal(read_bytes(t.data, t.used, &files, &f), 0);
	check_good(&files);
	serve_files_clear(&files);
	n = pack(t.data, t.used, &packed);
	assert_int_equal(read_bytes(packed, n, &files, &f), 0);
	check_good(&files);
	serve_files_clear(&files);
	free(packed);
	/* two frames, as capture writes them when there is much */
	half = t.used / 2;
	n = ZSTD_compress(two, sizeof(two), t.data, half, 1);
	n += ZSTD_compress(two + n, sizeof(two) - n, t.data + half, t.used - half, 1);
	assert_int_equal(read_bytes(two, n, &files, &f), 0);
	check_good(&files);
	serve_files_clear(&files);
	free(t.data);
}

/* Wherever it is cut off, that is seen. */
static void test_cut(void **state)
{
	struct serve_files files;
	struct fault f;
	struct tar t = { 0 };
	char *packed;
	size_t n;

	(void)state;
	good_tar(&t);
	for (size_t i = 0; i < t.used; i += 1 + i % 97)
		refused(t.data, i, "");
	refused(t.data, t.used - 1, "cut off");
	n = pack(t.data, t.used, &packed);
	for (size_t i = 0; i < n; i++)
		refused(packed, i, "");
	refused(packed, n - 1, "cut off");
	/* and whatever byte is changed: nothing but the same files, or a refusal */
	for (size_t i = 0; i < n; i++) {
		packed[i] ^= 0x55;
		if (!read_bytes(packed, n, &files, &f))
			assert_true(files.n <= 3);
		else
			assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		serve_files_clear(&files);
		packed[i] ^= 0x55;
	}
	free(packed);
	/* something behind the end */
	t.data[t.used - 1] = 'x';
	refused(t.data, t.used, "");
	free(t.data);
	refused("", 0, "");
	refused("no tar at all, but text that is longer than nothing", 51, "");
}

static void test_entries(void **state)
{
	static const struct {
		const char *name;
		mode_t type;
		const char *link, *says;
	} bad[] = {
		{ "/core.img", AE_IFREG, NULL, "a name" },
		{ "../core.img", AE_IFREG, NULL, "a name" },
		{ "a/core.img", AE_IFREG, NULL, "a name" },
		{ ".core.img", AE_IFREG, NULL, "a name" },
		{ "./core.img", AE_IFREG, NULL, "a name" },
		{ "co re.img", AE_IFREG, NULL, "a name" },
		{ "core.img", AE_IFLNK, "/etc/shadow", "no regular file" },
		{ "core.img", AE_IFREG, "pstree.img", "no regular file" },
		{ "core.img", AE_IFIFO, NULL, "no regular file" },
		{ "core.img", AE_IFCHR, NULL, "no regular file" },
		{ "core.img", AE_IFBLK, NULL, "no regular file" },
		{ "folder", AE_IFDIR, NULL, "a name" }, /* "folder/" */
		{ "pstree.img", AE_IFREG, NULL, "twice" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct tar t = { 0 };

		tar_begin(&t, 64 << 10);
		tar_entry(&t, "pstree.img", AE_IFREG, NULL, "tree");
		tar_entry(&t, bad[i].name, bad[i].type, bad[i].link, NULL);
		tar_end(&t);
		refused(t.data, t.used, bad[i].says);
		free(t.data);
	}
}

static void test_long_name(void **state)
{
	struct serve_files files;
	struct fault f;
	struct tar t = { 0 };
	char name[300];

	(void)state;
	memset(name, 'a', sizeof(name));
	name[255] = '\0';
	tar_begin(&t, 64 << 10);
	tar_entry(&t, name, AE_IFREG, NULL, "x");
	tar_end(&t);
	assert_int_equal(read_bytes(t.data, t.used, &files, &f), 0);
	assert_string_equal(files.v[0].name, name);
	serve_files_clear(&files);
	free(t.data);
	name[255] = 'a';
	name[256] = '\0';
	tar_begin(&t, 64 << 10);
	tar_entry(&t, name, AE_IFREG, NULL, "x");
	tar_end(&t);
	refused(t.data, t.used, "a name");
	free(t.data);
}

/* A header that says more than may be had, and zeros that unpack to more. */
static void test_bombs(void **state)
{
	struct archive_entry *e = archive_entry_new();
	struct tar t = { 0 };
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_inBuffer in;
	ZSTD_outBuffer out;
	char *zeros = calloc(1, 1 << 20), *packed = malloc(1 << 20);
	size_t left = 1;

	(void)state;
	tar_begin(&t, 64 << 10);
	archive_entry_set_pathname(e, "core.img");
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_size(e, (la_int64_t)LIMIT_CHECKPOINT_FILES_BYTES + 1);
	assert_int_equal(archive_write_header(t.a, e), ARCHIVE_OK);
	archive_entry_free(e);
	(void)archive_write_close(t.a);
	archive_write_free(t.a);
	refused(t.data, t.used, "larger than");
	free(t.data);
	/* a tar that has nothing but its end, for ever */
	assert_true(c && zeros && packed);
	out = (ZSTD_outBuffer){ packed, 1 << 20, 0 };
	for (size_t i = 0; i <= LIMIT_CHECKPOINT_FILES_BYTES >> 20; i++) {
		in = (ZSTD_inBuffer){ zeros, 1 << 20, 0 };
		while (in.pos < in.size)
			assert_false(
				ZSTD_isError(ZSTD_compressStream2(c, &out, &in, ZSTD_e_continue)));
	}
	while (left)
		left = ZSTD_compressStream2(c, &out, &in, ZSTD_e_end);
	refused(packed, out.pos, "larger than");
	ZSTD_freeCCtx(c);
	free(zeros);
	free(packed);
}

static void test_many(void **state)
{
	struct serve_files files = { 0 };
	struct fault f;
	struct tar t = { 0 };
	char name[32];

	(void)state;
	tar_begin(&t, (LIMIT_CHECKPOINT_FILES + 4) * 512);
	for (unsigned i = 0; i < LIMIT_CHECKPOINT_FILES; i++) {
		snprintf(name, sizeof(name), "%u.img", i);
		tar_entry(&t, name, AE_IFREG, NULL, NULL);
	}
	tar_end(&t);
	assert_int_equal(read_bytes(t.data, t.used, &files, &f), 0);
	assert_int_equal(files.n, LIMIT_CHECKPOINT_FILES);
	serve_files_clear(&files);
	free(t.data);
	tar_begin(&t, (LIMIT_CHECKPOINT_FILES + 8) * 512);
	for (unsigned i = 0; i <= LIMIT_CHECKPOINT_FILES; i++) {
		snprintf(name, sizeof(name), "%u.img", i);
		tar_entry(&t, name, AE_IFREG, NULL, NULL);
	}
	tar_end(&t);
	refused(t.data, t.used, "more than a checkpoint may have");
	free(t.data);
}

static void test_unreadable(void **state)
{
	struct serve_files files = { 0 };
	struct fault f = { 0 };
	int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(ckpt_files_tar(&files, fd, DIGEST, &f), -EISDIR);
	assert_true(strstr(f.message, "read") != NULL);
	serve_files_clear(&files);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	   cmocka_unit_test(test_cut),
		cmocka_unit_test(test_entries),	   cmocka_unit_test(test_long_name),
		cmocka_unit_test(test_bombs),	   cmocka_unit_test(test_many),
		cmocka_unit_test(test_unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
