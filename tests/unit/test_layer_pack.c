// SPDX-License-Identifier: Apache-2.0
/* Trees packed: what an archive has, that it is the same each time, and comes back as it was */
#include "layer_kit.h"

#include <locale.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <archive.h>
#include <archive_entry.h>

/* "name type" of each entry, a line each, in the archive's order. */
static void list(const struct tar *t, char *to, size_t size)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int r;

	*to = '\0';
	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_memory(a, t->data, t->size), 0);
	while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		const char *link = archive_entry_hardlink(e);
		mode_t type = archive_entry_filetype(e);
		size_t n = strlen(to);

		snprintf(to + n, size - n, "%s%s%s\n", archive_entry_pathname(e),
			 link		    ? " = "
			 : type == AE_IFLNK ? " -> "
			 : type == AE_IFCHR ? " c"
			 : type == AE_IFIFO ? " p"
					    : "",
			 link		    ? link
			 : type == AE_IFLNK ? archive_entry_symlink(e)
					    : "");
	}
	archive_read_free(a);
}

static void check_list(struct tar *t, const char *want)
{
	char text[8192];

	list(t, text, sizeof(text));
	assert_string_equal(text, want);
}

static void set_capability(int root, const char *path)
{
	static const unsigned char value[20] = { 1, 0, 0, 2, 0, 0x20, 0, 0 };
	char full[100];

	snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", root, path);
	assert_int_equal(lsetxattr(full, "security.capability", value, sizeof(value), 0), 0);
}

/* One of each, in no order. */
static void make_tree(int root)
{
	int fd;

	make_folder(root, "z");
	make_file(root, "z/file", "data");
	make_folder(root, "a");
	assert_int_equal(linkat(root, "z/file", root, "a/first", 0), 0);
	make_folder(root, "a/empty");
	assert_int_equal(symlinkat("../z/file", root, "a/link"), 0);
	assert_int_equal(linkat(root, "a/link", root, "b-link", 0), 0);
	make_file(root, "a.b", "");
	assert_int_equal(mknodat(root, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknodat(root, "disk", S_IFBLK | 0600, makedev(259, 70000)), 0);
	assert_int_equal(mknodat(root, "fifo", S_IFIFO | 0600, 0), 0);
	assert_int_equal(fchmodat(root, "a/empty", 01777, 0), 0);
	assert_int_equal(fchownat(root, "z", 4000000000, 1, 0), 0);
	assert_int_equal(fchmodat(root, "z/file", 06755, 0), 0);
	set_xattr(root, "z/file", "user.b", "2");
	set_xattr(root, "z/file", "user.a", "1");
	set_capability(root, "z/file");
	set_xattr(root, "a/link", "trusted.t", "link");
	make_file(root, "\xc3\xa4 \xff", "odd name");
	set_time(root, "z/file", 1700000000, 123456789);
	set_time(root, "a/empty", -100, 0);
	set_time(root, "a", 10000000000, 5);
	set_time(root, "b-link", 7, 0);
	fd = openat(root, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(pwrite(fd, "here", 4, 3 << 20), 4);
	assert_int_equal(ftruncate(fd, 20 << 20), 0);
	close(fd);
	fd = openat(root, "hole", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(fd, 2 << 20), 0);
	close(fd);
}

static void make_socket(struct lkit *k, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", k->path, name);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
}

/* Names that ustar has no room for, and the same bytes each time. */
static void test_names(void **state)
{
	struct lkit *k = *state;
	char name[256], want[1024];
	struct tar one, two;

	memset(name, 'n', 255);
	name[255] = '\0';
	make_folder(k->root, "\xc3\xa4");
	make_file(k->root, name, "long");
	assert_int_equal(symlinkat(name, k->root, "l"), 0);
	make_file(k->root, "odd\xff", "bytes");
	one = pack(k, k->root, LAYER_FROM_TREE);
	snprintf(want, sizeof(want), "l -> %s\n%s\nodd\xff\n\xc3\xa4/\n", name, name);
	check_list(&one, want);
	two = pack(k, k->root, LAYER_FROM_TREE);
	same_tar(&one, &two);
}

static void test_round_trip(void **state)
{
	struct lkit *k = *state;
	int back = lkit_folder(k, "back");
	struct tar one, copy, two;
	struct stat st;
	char value[32];

	make_tree(k->root);
	make_socket(k, "root/socket");
	assert_int_equal(fchmod(k->root, 0711), 0);
	set_time(k->root, ".", 55, 0);
	one = pack(k, k->root, LAYER_FROM_TREE);
	copy = (struct tar){ 0 };
	tar_bytes(&copy, one.data, one.size);
	if (apply_to(k, &copy, back, LAYER_OVERLAY) < 0)
		fail_msg("%s", k->f.message);
	two = pack(k, back, LAYER_FROM_TREE);
	same_tar(&one, &two);
	st = look(back, "z/file");
	assert_int_equal(st.st_mode, S_IFREG | 06755);
	assert_true(st.st_nlink == 2 && st.st_mtim.tv_nsec == 123456789);
	assert_int_equal(xattr_of(back, "z/file", "user.b", value, 8), 1);
	assert_int_equal(xattr_of(back, "z/file", "security.capability", value, 32), 20);
	assert_int_equal(look(back, "a").st_mtim.tv_sec, 10000000000);
	assert_int_equal(look(back, "a").st_mtim.tv_nsec, 5);
	assert_int_equal(look(back, "a/empty").st_mtim.tv_sec, -100);
	assert_int_equal(look(back, "disk").st_rdev, makedev(259, 70000));
	st = look(back, "sparse");
	assert_int_equal(st.st_size, 20 << 20);
	assert_true(st.st_blocks * 512 < 1 << 20);
	assert_true(look(back, "hole").st_blocks == 0 && look(back, "hole").st_size == 2 << 20);
	assert_false(there(back, "socket"));
	assert_int_equal(look(back, ".").st_mode, S_IFDIR | 0711);
	close(back);
}

static void test_order(void **state)
{
	struct lkit *k = *state;
	struct tar t;

	make_folder(k->root, "b");
	make_file(k->root, "b/2", "");
	make_file(k->root, "b/10", "");
	make_file(k->root, "b.x", "");
	make_file(k->root, "B", "");
	make_folder(k->root, "a");
	assert_int_equal(linkat(k->root, "b/2", k->root, "c", 0), 0);
	assert_int_equal(linkat(k->root, "b/2", k->root, "a/c", 0), 0);
	assert_int_equal(symlinkat("t", k->root, "l"), 0);
	assert_int_equal(mknodat(k->root, "n", S_IFCHR, makedev(1, 3)), 0);
	t = pack(k, k->root, LAYER_FROM_TREE);
	check_list(&t, "B\na/\na/c\nb/\nb/10\nb/2 = a/c\nb.x\nc = a/c\nl -> t\nn c\n");
	tar_clear(&t);
	/* an empty tree is an archive's end, and nothing of the root's */
	assert_int_equal(tree_empty(k->root, NULL), 0);
	t = pack(k, k->root, LAYER_FROM_TREE);
	assert_int_equal(t.size, 1024);
	tar_clear(&t);
}

static void test_upper(void **state)
{
	struct lkit *k = *state;
	int back = lkit_folder(k, "back");
	struct tar one, copy, two;
	struct fault f;

	make_folder(k->root, "d");
	make_file(k->root, "d/f", "f");
	assert_int_equal(mknodat(k->root, "d/gone", S_IFCHR, makedev(0, 0)), 0);
	assert_int_equal(mknodat(k->root, "d/gone2", S_IFCHR, makedev(0, 0)), 0);
	make_folder(k->root, "o");
	set_xattr(k->root, "o", "trusted.overlay.opaque", "y");
	set_xattr(k->root, "d/f", "trusted.overlay.origin", "x");
	set_xattr(k->root, "d", "trusted.overlay.impure", "y");
	make_file(k->root, "o/x", "x");
	set_xattr(k->root, "o/x", "user.x", "x");
	one = pack(k, k->root, LAYER_FROM_UPPER);
	check_list(&one, "d/\nd/f\nd/.wh.gone\nd/.wh.gone2\no/\no/.wh..wh..opq\no/x\n");
	copy = (struct tar){ 0 };
	tar_bytes(&copy, one.data, one.size);
	if (apply_to(k, &copy, back, LAYER_OVERLAY) < 0)
		fail_msg("%s", k->f.message);
	assert_true(whiteout(back, "d/gone") && opaque(back, "o"));
	two = pack(k, back, LAYER_FROM_UPPER);
	same_tar(&one, &two);
	/* as a tree of its own it cannot be packed */
	one = (struct tar){ 0 };
	k->f = (struct fault){ 0 };
	assert_int_equal(layer_pack(&k->c, k->root, LAYER_FROM_TREE, to_tar, &one), -EINVAL);
	f = k->f;
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_non_null(strstr(f.message, "'d/gone'"));
	tar_clear(&one);
	/* nor what overlayfs keeps elsewhere */
	set_xattr(k->root, "d/f", "trusted.overlay.metacopy", "");
	assert_int_equal(layer_pack(&k->c, k->root, LAYER_FROM_UPPER, to_tar, &one), -EINVAL);
	assert_non_null(strstr(k->f.message, "'d/f'"));
	tar_clear(&one);
	close(back);
}

/* What libarchive would write as other names is refused, and named. */
static void test_names_of_xattrs(void **state)
{
	static const char *const bad[] = { "user.a%41", "user.a=b", "user.a b", "user.\xc3\xa4" };
	struct lkit *k = *state;
	struct tar t = { 0 };

	make_file(k->root, "f", "");
	set_xattr(k->root, "f", "user.A:b~!c_1", "kept");
	t = pack(k, k->root, LAYER_FROM_TREE);
	tar_clear(&t);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char path[64];

		set_xattr(k->root, "f", bad[i], "x");
		t = (struct tar){ 0 };
		k->f = (struct fault){ 0 };
		assert_int_equal(layer_pack(&k->c, k->root, LAYER_FROM_TREE, to_tar, &t), -EINVAL);
		assert_int_equal(k->f.code, FAULT_FAILED_PRECONDITION);
		assert_non_null(strstr(k->f.message, "'f'"));
		assert_non_null(strstr(k->f.message, "user."));
		tar_clear(&t);
		snprintf(path, sizeof(path), "/proc/self/fd/%d/f", k->root);
		assert_int_equal(removexattr(path, bad[i]), 0);
	}
}

static int full(void *user, const void *data, size_t size, struct fault *f)
{
	(void)user;
	(void)data;
	(void)size;
	return fault_sys(f, ENOSPC, "write", "here");
}

static void test_failing(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	make_file(k->root, "a", "a");
	assert_int_equal(layer_pack(&k->c, k->root, LAYER_FROM_TREE, full, NULL), -ENOSPC);
	assert_string_equal(k->f.message, "write here: No space left on device");
	cancel_set(&k->cancel);
	assert_int_equal(layer_pack(&k->c, k->root, LAYER_FROM_TREE, to_tar, &t), -ECANCELED);
	assert_int_equal(k->f.code, FAULT_CANCELLED);
	tar_clear(&t);
}

/* Deeper than a path may be long: refused, with what is too deep. */
static void test_deep(void **state)
{
	struct lkit *k = *state;
	int at = fcntl(k->root, F_DUPFD_CLOEXEC, 0);
	struct tar t = { 0 };

	for (unsigned i = 0; i < LIMIT_LAYER_DEPTH; i++) {
		int next;

		assert_int_equal(mkdirat(at, "d", 0755), 0);
		next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	t = pack(k, k->root, LAYER_FROM_TREE);
	assert_true(t.size > 512 * LIMIT_LAYER_DEPTH);
	tar_clear(&t);
	assert_int_equal(mkdirat(at, "d", 0755), 0);
	close(at);
	assert_int_equal(layer_pack(&k->c, k->root, LAYER_FROM_TREE, to_tar, &t), -EMLINK);
	assert_int_equal(k->f.code, FAULT_RESOURCE_EXHAUSTED);
	tar_clear(&t);
}

/* What is mounted in a tree is not of the tree. */
static void test_mount_inside(void **state)
{
	struct lkit *k = *state;
	char path[100];
	struct tar t;

	make_folder(k->root, "m");
	snprintf(path, sizeof(path), "%s/root/m", k->path);
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, NULL), 0);
	make_file(k->root, "m/inside", "");
	t = pack(k, k->root, LAYER_FROM_TREE);
	check_list(&t, "m/\n");
	tar_clear(&t);
	assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* ---- two trees */

static void check_changes(struct lkit *k, int left, int right, const char *want)
{
	struct tar t = changes(k, left, right);

	check_list(&t, want);
	tar_clear(&t);
}

/* Left, with its differences applied, has none to right. */
static void check_applied(struct lkit *k, int left, int right)
{
	struct tar t = changes(k, left, right);

	if (apply_to(k, &t, left, LAYER_MERGE) < 0)
		fail_msg("%s", k->f.message);
	check_changes(k, left, right, "");
}

static void copy_tree(struct lkit *k, int from, int to)
{
	struct tar t = pack(k, from, LAYER_FROM_TREE);

	if (apply_to(k, &t, to, LAYER_MERGE) < 0)
		fail_msg("%s", k->f.message);
}

static void test_changes(void **state)
{
	struct lkit *k = *state;
	int left = lkit_folder(k, "left"), right = k->root;

	make_tree(left);
	make_folder(left, "same");
	make_file(left, "same/x", "x");
	copy_tree(k, left, right);
	check_changes(k, left, right, "");
	check_changes(k, right, right, "");
	/* times of folders are nobody's change */
	set_time(right, "same", 1, 1);
	check_changes(k, left, right, "");
	/* each thing that a file has */
	assert_int_equal(unlinkat(right, "fifo", 0), 0);
	assert_int_equal(fchmodat(right, "a/empty", 0700, 0), 0);
	assert_int_equal(fchownat(right, "a.b", 1, 0, 0), 0);
	set_xattr(right, "sparse", "user.new", "1");
	assert_int_equal(unlinkat(right, "null", 0), 0);
	assert_int_equal(mknodat(right, "null", S_IFCHR | 0666, makedev(1, 5)), 0);
	make_folder(right, "new");
	make_file(right, "new/file", "n");
	make_file(right, "same/y", "y");
	make_socket(k, "root/socket");
	check_changes(
		k, left, right,
		"a/\na/empty/\na.b\n.wh.fifo\nnew/\nnew/file\nnull c\nsame/\nsame/y\nsparse\n");
	check_applied(k, left, right);
	assert_false(there(left, "fifo"));
	/* types change places */
	assert_int_equal(tree_remove(right, "same", NULL), 0);
	make_file(right, "same", "now a file");
	assert_int_equal(unlinkat(right, "a.b", 0), 0);
	make_folder(right, "a.b");
	make_file(right, "a.b/in", "in");
	check_changes(k, left, right, "a.b/\na.b/in\nsame\n");
	check_applied(k, left, right);
	assert_int_equal(fchmod(right, 0700), 0);
	check_changes(k, left, right, "./\n");
	/* all of it is gone */
	assert_int_equal(tree_empty(right, NULL), 0);
	check_applied(k, left, right);
	close(left);
}

static void test_times(void **state)
{
	static const struct {
		const char *left, *right;
		long left_ns, right_ns, seconds; /* seconds: the right one's are so many more */
		bool differ;
	} rows[] = {
		{ "abc", "abc", 5, 5, 0, false },
		{ "abc", "abc", 5, 6, 0, true },
		{ "abc", "abc", 5, 5, 1, true },
		{ "abc", "abc", 0, 6, 0, false },
		{ "abc", "abc", 7, 0, 0, false },
		{ "abc", "abd", 0, 0, 0, true },
		{ "abc", "abd", 0, 6, 0, true },
		{ "abc", "abcd", 5, 5, 0, true },
		/* times to the nanosecond are believed */
		{ "abc", "abd", 5, 5, 0, false },
	};
	struct lkit *k = *state;
	int left = lkit_folder(k, "left");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		make_file(left, "f", rows[i].left);
		make_file(k->root, "f", rows[i].right);
		set_time(left, "f", 1000, rows[i].left_ns);
		set_time(k->root, "f", 1000 + rows[i].seconds, rows[i].right_ns);
		check_changes(k, left, k->root, rows[i].differ ? "f\n" : "");
	}
	assert_int_equal(unlinkat(k->root, "f", 0), 0);
	assert_int_equal(unlinkat(left, "f", 0), 0);
	assert_int_equal(symlinkat("one", left, "l"), 0);
	assert_int_equal(symlinkat("two", k->root, "l"), 0);
	set_time(left, "l", 1, 1);
	set_time(k->root, "l", 1, 1);
	check_changes(k, left, k->root, "l -> two\n");
	close(left);
}

/* Names of one inode stay together. */
static void test_changed_links(void **state)
{
	struct lkit *k = *state;
	int left = lkit_folder(k, "left"), right = k->root;

	make_folder(left, "d");
	make_file(left, "d/a", "x");
	make_file(left, "z", "z");
	assert_int_equal(linkat(left, "d/a", left, "m", 0), 0);
	set_time(left, "d/a", 5, 5);
	copy_tree(k, left, right);
	check_changes(k, left, right, "");
	/* a further name, and no other change: those before it follow */
	assert_int_equal(linkat(right, "m", right, "n", 0), 0);
	check_changes(k, left, right, "d/a\nm = d/a\nn = d/a\n");
	check_applied(k, left, right);
	assert_int_equal(look(left, "n").st_nlink, 3);
	assert_int_equal(linkat(right, "m", right, "a", 0), 0);
	check_changes(k, left, right, "a\nd/\nd/a = a\nm = a\nn = a\n");
	check_applied(k, left, right);
	assert_int_equal(look(left, "a").st_nlink, 4);
	close(left);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, lkit_setup, lkit_teardown)
	const struct CMUnitTest tests[] = {
		T(test_names),	 T(test_round_trip),	T(test_order),		 T(test_upper),
		T(test_failing), T(test_deep),		T(test_mount_inside),	 T(test_changes),
		T(test_times),	 T(test_changed_links), T(test_names_of_xattrs),
	};

	/* for libarchive, as the list is read here */
	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
