// SPDX-License-Identifier: Apache-2.0
/* Mounts for tools: lists, and real overlays, which need root */
#include "layer_kit.h"

#include "store/mounts_internal.h"
#include "util/mp.h"

/* ---- lists */

static int read_packed(struct store_mounts *m, const msgpack_sbuffer *sb, struct fault *f)
{
	msgpack_unpacked u;
	size_t at = 0;
	int r;

	msgpack_unpacked_init(&u);
	assert_int_equal(msgpack_unpack_next(&u, sb->data, sb->size, &at), MSGPACK_UNPACK_SUCCESS);
	memset(m, 0, sizeof(*m));
	r = store_mounts_read(m, &u.data, f);
	msgpack_unpacked_destroy(&u);
	return r;
}

static void test_lists(void **state)
{
	struct store_mounts m = { 0 }, back;
	struct store_mount *one;
	msgpack_sbuffer sb;
	msgpack_packer pk;
	struct fault f;

	(void)state;
	one = store_mounts_add(&m, "overlay", "overlay", "");
	assert_non_null(one);
	assert_int_equal(store_mount_option(one, "lowerdir=%s:%d", "/a", 7), 0);
	assert_int_equal(store_mount_option(one, "ro"), 0);
	assert_non_null(store_mounts_add(&m, "bind", "/src", "/dst"));
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	store_mounts_pack(&pk, &m);
	assert_int_equal(read_packed(&back, &sb, &f), 0);
	assert_int_equal(back.n, 2);
	assert_string_equal(back.v[0].type, "overlay");
	assert_int_equal(back.v[0].n_options, 2);
	assert_string_equal(back.v[0].options[0], "lowerdir=/a:7");
	assert_string_equal(back.v[0].options[1], "ro");
	assert_string_equal(back.v[1].source, "/src");
	assert_string_equal(back.v[1].target, "/dst");
	assert_int_equal(back.v[1].n_options, 0);
	store_mounts_clear(&back);
	store_mounts_clear(&m);
	msgpack_sbuffer_destroy(&sb);
}

static void check_wrong(msgpack_sbuffer *sb, const char *part)
{
	struct store_mounts m;
	struct fault f;

	assert_int_equal(read_packed(&m, sb, &f), -EINVAL);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_string_equal(f.argument, "mounts");
	if (!strstr(f.message, part))
		fail_msg("%s", f.message);
	store_mounts_clear(&m);
	msgpack_sbuffer_clear(sb);
}

static void test_wrong_lists(void **state)
{
	struct store_mounts m = { 0 };
	msgpack_sbuffer sb;
	msgpack_packer pk;
	struct fault f;

	(void)state;
	msgpack_sbuffer_init(&sb);
	mp_packer_init(&pk, &sb);
	mp_pack_str(&pk, "no list");
	check_wrong(&sb, "a list");
	msgpack_pack_array(&pk, 1);
	mp_pack_str(&pk, "no map");
	check_wrong(&sb, "mount 0");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1);
	mp_pack_key_int(&pk, "type", 5);
	check_wrong(&sb, "`type`");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1);
	mp_pack_key(&pk, "source");
	mp_pack_strn(&pk, "a\0b", 3);
	check_wrong(&sb, "`source`");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1);
	mp_pack_key_str(&pk, "options", "ro");
	check_wrong(&sb, "`options`");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1);
	mp_pack_key(&pk, "options");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_nil(&pk);
	check_wrong(&sb, "`options`");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1);
	mp_pack_key_str(&pk, "sourse", "/");
	check_wrong(&sb, "a member other");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1);
	mp_pack_key(&pk, "options");
	msgpack_pack_array(&pk, LIMIT_MOUNT_OPTIONS + 1);
	for (unsigned i = 0; i <= LIMIT_MOUNT_OPTIONS; i++)
		mp_pack_str(&pk, "x");
	check_wrong(&sb, "too many options");
	msgpack_pack_array(&pk, LIMIT_SPEC_MOUNTS + 1);
	for (unsigned i = 0; i <= LIMIT_SPEC_MOUNTS; i++)
		msgpack_pack_map(&pk, 0);
	check_wrong(&sb, "too many");
	assert_int_equal(store_mounts_read(&m, NULL, &f), -EINVAL);
	msgpack_sbuffer_destroy(&sb);
}

/* ---- opening */

static size_t mount_count(void)
{
	char *text;
	size_t n = 0;

	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/mountinfo", 4 << 20, &text, NULL), 0);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		n++;
	free(text);
	return n;
}

/* Of the folders lower0 … in the kit's, the last nearest; upper and work when given. */
static void overlay_of(struct lkit *k, struct store_mounts *m, int lowers, bool upper)
{
	size_t room = (size_t)lowers * 100 + 1, at = 0;
	char *text = malloc(room);
	struct store_mount *one;

	assert_non_null(text);
	memset(m, 0, sizeof(*m));
	one = store_mounts_add(m, "overlay", "overlay", "");
	for (int i = lowers; i-- > 0;)
		at += (size_t)snprintf(text + at, room - at, "%s/lower%d%s", k->path, i,
				       i ? ":" : "");
	assert_int_equal(store_mount_option(one, "index=off"), 0);
	assert_int_equal(store_mount_option(one, "lowerdir=%s", text), 0);
	if (upper) {
		assert_int_equal(store_mount_option(one, "upperdir=%s/upper", k->path), 0);
		assert_int_equal(store_mount_option(one, "workdir=%s/work", k->path), 0);
	}
	free(text);
}

static void make_lowers(struct lkit *k, int n)
{
	for (int i = 0; i < n; i++) {
		char name[32];
		int fd;

		snprintf(name, sizeof(name), "lower%d", i);
		fd = lkit_folder(k, name);
		snprintf(name, sizeof(name), "file%d", i);
		make_file(fd, name, name);
		make_file(fd, "who", name);
		close(fd);
	}
	close(lkit_folder(k, "upper"));
	close(lkit_folder(k, "work"));
}

static void test_bind(void **state)
{
	struct lkit *k = *state;
	struct store_mounts m = { 0 };
	struct store_mount *one = store_mounts_add(&m, "bind", k->path, "");
	struct fault f;
	int fd, upper;

	assert_int_equal(store_mount_option(one, "rbind"), 0);
	assert_int_equal(store_mounts_open(&m, false, &fd, &f), 0);
	assert_true(there(fd, "root"));
	close(fd);
	assert_int_equal(store_mounts_upper(&m, &upper, &f), 0);
	assert_int_equal(upper, -1);
	assert_int_equal(store_mount_option(one, "ro"), 0);
	assert_int_equal(store_mounts_open(&m, false, &fd, &f), -EROFS);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_int_equal(store_mounts_open(&m, true, &fd, &f), 0);
	close(fd);
	store_mounts_clear(&m);
}

static void test_overlay(void **state)
{
	struct lkit *k = *state;
	size_t before = mount_count();
	struct store_mounts m;
	struct fault f = { 0 };
	int fd, upper, again;

	make_lowers(k, 3);
	overlay_of(k, &m, 3, true);
	if (store_mounts_open(&m, false, &fd, &f) < 0)
		fail_msg("%s", f.message);
	check_text(fd, "who", "file2");
	check_text(fd, "file0", "file0");
	make_file(fd, "new", "new");
	assert_int_equal(unlinkat(fd, "file1", 0), 0);
	/* seen by nobody */
	assert_int_equal(mount_count(), before);
	close(fd);
	assert_int_equal(store_mounts_upper(&m, &upper, &f), 0);
	check_text(upper, "new", "new");
	assert_true(whiteout(upper, "file1"));
	close(upper);
	/* to read, the upper folder is one of the lower ones */
	assert_int_equal(store_mounts_open(&m, true, &fd, &f), 0);
	assert_int_equal(store_mounts_open(&m, true, &again, &f), 0);
	check_text(fd, "new", "new");
	check_text(again, "who", "file2");
	assert_false(there(fd, "file1"));
	assert_int_equal(openat(fd, "x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), -1);
	assert_int_equal(errno, EROFS);
	close(fd);
	close(again);
	store_mounts_clear(&m);
	/* without an upper folder it cannot be written to */
	overlay_of(k, &m, 2, false);
	assert_int_equal(store_mounts_open(&m, false, &fd, &f), -EROFS);
	assert_int_equal(store_mounts_open(&m, true, &fd, &f), 0);
	check_text(fd, "who", "file1");
	close(fd);
	store_mounts_clear(&m);
	/* one folder alone is just that */
	overlay_of(k, &m, 1, false);
	assert_int_equal(store_mounts_open(&m, true, &fd, &f), 0);
	check_text(fd, "who", "file0");
	close(fd);
	store_mounts_clear(&m);
	assert_int_equal(mount_count(), before);
}

static void test_many_layers(void **state)
{
	struct lkit *k = *state;
	struct store_mounts m;
	struct fault f = { 0 };
	int fd;

	make_lowers(k, 200);
	overlay_of(k, &m, 200, true);
	if (store_mounts_open(&m, false, &fd, &f) < 0)
		fail_msg("%s", f.message);
	check_text(fd, "who", "file199");
	check_text(fd, "file0", "file0");
	close(fd);
	store_mounts_clear(&m);
}

/* Paths longer than what one option may have, and letters that options are taken apart by. */
static void test_odd_paths(void **state)
{
	struct lkit *k = *state;
	char name[256], path[1024];
	struct store_mounts m = { 0 };
	struct store_mount *one = store_mounts_add(&m, "overlay", "overlay", "");
	struct fault f = { 0 };
	int fd, at;

	memset(name, 'p', 200);
	strcpy(name + 200, ",:\\ x");
	at = lkit_folder(k, name);
	make_folder(at, "l");
	make_folder(at, "l2");
	make_folder(at, "u");
	make_folder(at, "w");
	make_file(at, "l/who", "odd");
	close(at);
	strcpy(name + 200, ",\\:\\\\ x");
	snprintf(path, sizeof(path), "%s/%s", k->path, name);
	assert_int_equal(store_mount_option(one, "lowerdir=%s/l2:%s/l", path, path), 0);
	assert_int_equal(store_mount_option(one, "upperdir=%s/u", path), 0);
	assert_int_equal(store_mount_option(one, "workdir=%s/w", path), 0);
	if (store_mounts_open(&m, false, &fd, &f) < 0)
		fail_msg("%s", f.message);
	check_text(fd, "who", "odd");
	close(fd);
	store_mounts_clear(&m);
}

/* As kernels before 6.8 have it done. */
static void test_relative(void **state)
{
	struct lkit *k = *state;
	size_t before = mount_count();
	struct store_mounts m;
	struct overlay o;
	struct fault f = { 0 };
	char cwd[100], now[100];
	int fd;

	assert_non_null(getcwd(cwd, sizeof(cwd)));
	make_lowers(k, 150);
	overlay_of(k, &m, 150, true);
	assert_int_equal(overlay_read(&o, &m.v[0], &f), 0);
	if (overlay_mount_relative(&o, &fd, &f) < 0)
		fail_msg("%s", f.message);
	check_text(fd, "who", "file149");
	check_text(fd, "file0", "file0");
	make_file(fd, "new", "new");
	close(fd);
	check_text(k->dir, "upper/new", "new");
	assert_int_equal(mount_count(), before);
	assert_non_null(getcwd(now, sizeof(now)));
	assert_string_equal(now, cwd);
	overlay_clear(&o);
	store_mounts_clear(&m);
	/* what the kernel refuses is told */
	overlay_of(k, &m, 2, true);
	assert_int_equal(overlay_read(&o, &m.v[0], &f), 0);
	assert_int_equal(unlinkat(k->dir, "work/work", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(k->dir, "work", AT_REMOVEDIR), 0);
	assert_int_equal(overlay_mount_relative(&o, &fd, &f), -ENOENT);
	assert_int_equal(fd, -1);
	overlay_clear(&o);
	store_mounts_clear(&m);
}

static void check_open(struct store_mounts *m, int r, enum fault_code code, const char *part)
{
	struct fault f = { 0 };
	int fd;

	assert_int_equal(store_mounts_open(m, false, &fd, &f), r);
	assert_int_equal(fd, -1);
	assert_string_equal(fault_code_name(f.code), fault_code_name(code));
	assert_string_equal(f.argument, "mounts");
	if (!strstr(f.message, part))
		fail_msg("%s", f.message);
	store_mounts_clear(m);
}

static void test_refused(void **state)
{
	struct lkit *k = *state;
	struct store_mounts m = { 0 };
	struct store_mount *one;

	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "no mounts");
	store_mounts_add(&m, "bind", "/", "");
	store_mounts_add(&m, "bind", "/", "/b");
	check_open(&m, -EINVAL, FAULT_UNIMPLEMENTED, "2 mounts");
	store_mounts_add(&m, "bind", "/", "/b");
	check_open(&m, -EINVAL, FAULT_UNIMPLEMENTED, "/b");
	store_mounts_add(&m, "ext4", "/dev/sda", "");
	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "'ext4'");
	store_mounts_add(&m, "bind", "relative", "");
	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "'relative'");
	store_mounts_add(&m, "bind", "/does/not/exist", "");
	check_open(&m, -ENOENT, FAULT_NOT_FOUND, "/does/not/exist");
	store_mounts_add(&m, "bind", "/etc/passwd", "");
	check_open(&m, -ENOTDIR, FAULT_FAILED_PRECONDITION, "/etc/passwd");
	store_mounts_add(&m, "overlay", "overlay", "");
	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "no lowerdir");
	one = store_mounts_add(&m, "overlay", "overlay", "");
	store_mount_option(one, "lowerdir=/a");
	store_mount_option(one, "upperdir=/b");
	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "workdir");
	one = store_mounts_add(&m, "overlay", "overlay", "");
	store_mount_option(one, "lowerdir=/a:b");
	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "'b'");
	one = store_mounts_add(&m, "overlay", "overlay", "");
	store_mount_option(one, "lowerdir=/a");
	store_mount_option(one, "upperdir=/nowhere/b");
	store_mount_option(one, "workdir=/nowhere/c");
	check_open(&m, -ENOENT, FAULT_NOT_FOUND, "/a");
	make_lowers(k, 1);
	overlay_of(k, &m, 1, true);
	store_mount_option(&m.v[0], "nonsense=1");
	check_open(&m, -EINVAL, FAULT_INVALID_ARGUMENT, "nonsense=1");
	overlay_of(k, &m, 1, true);
	store_mount_option(&m.v[0], "ro");
	check_open(&m, -EROFS, FAULT_FAILED_PRECONDITION, "not writable");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, lkit_setup, lkit_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_wrong_lists),
		T(test_bind),
		T(test_overlay),
		T(test_many_layers),
		T(test_odd_paths),
		T(test_relative),
		T(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
