// SPDX-License-Identifier: Apache-2.0
/* Layers applied: every kind of entry, with all that it has, and what it replaces */
#include "layer_kit.h"

/* capability sets, version 2, one bit: cap_net_raw=ep */
static const unsigned char CAPABILITY[20] = { 1, 0, 0, 2, 0, 0x20, 0, 0 };

static void test_kinds(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };
	struct stat st;
	char text[64];

	ADD(&t, .name = "./", .type = '5', .mode = 0711, .uid = 5, .gid = 6, .mtime = 77);
	ADD(&t, .name = "etc/", .type = '5', .mode = 02750, .uid = 1, .gid = 2, .mtime = 1000);
	ADD(&t, .name = "./etc/passwd", .text = "root\n", .uid = 3, .gid = 4, .mtime = 12345);
	ADD(&t, .name = "/bin/su", .text = "x", .mode = 04755);
	ADD(&t, .name = "etc/link", .type = '2', .link = "passwd", .uid = 9, .mtime = 5);
	ADD(&t, .name = "etc/hard", .type = '1', .link = "./etc/passwd");
	ADD(&t, .name = "etc/hardlink", .type = '1', .link = "/etc/link");
	ADD(&t, .name = "null", .type = '3', .mode = 0666, .major = 1, .minor = 3, .mtime = 8);
	ADD(&t, .name = "disk", .type = '4', .major = 7, .minor = 300);
	ADD(&t, .name = "fifo", .type = '6', .mode = 0622, .uid = 12);
	ADD(&t, .name = "empty");
	ADD(&t, .name = "sticky", .type = '5', .mode = 01777);
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);

	st = look(k->root, ".");
	assert_int_equal(st.st_mode, S_IFDIR | 0711);
	assert_true(st.st_uid == 5 && st.st_gid == 6 && st.st_mtim.tv_sec == 77);
	st = look(k->root, "etc");
	assert_int_equal(st.st_mode, S_IFDIR | 02750);
	/* set after all that was written into it */
	assert_true(st.st_uid == 1 && st.st_gid == 2 && st.st_mtim.tv_sec == 1000);
	st = look(k->root, "etc/passwd");
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_true(st.st_uid == 3 && st.st_gid == 4 && st.st_mtim.tv_sec == 12345);
	assert_int_equal(st.st_nlink, 2);
	check_text(k->root, "etc/hard", "root\n");
	assert_int_equal(look(k->root, "bin/su").st_mode, S_IFREG | 04755);
	st = look(k->root, "etc/link");
	assert_true(S_ISLNK(st.st_mode) && st.st_uid == 9 && st.st_mtim.tv_sec == 5);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(readlinkat(k->root, "etc/hardlink", text, sizeof(text)), 6);
	st = look(k->root, "null");
	assert_int_equal(st.st_mode, S_IFCHR | 0666);
	assert_true(st.st_rdev == makedev(1, 3) && st.st_mtim.tv_sec == 8);
	assert_true(look(k->root, "disk").st_rdev == makedev(7, 300));
	st = look(k->root, "fifo");
	assert_int_equal(st.st_mode, S_IFIFO | 0622);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(look(k->root, "empty").st_size, 0);
	assert_int_equal(look(k->root, "sticky").st_mode, S_IFDIR | 01777);
	/* only bin had no entry */
	assert_int_equal(k->result.implied_size, 4);
	assert_string_equal(k->result.implied, "bin");
	assert_int_equal(look(k->root, "bin").st_mode, S_IFDIR | 0755);
	assert_int_equal(k->result.bytes, 6);
	/* with bin, without hard links and the root */
	assert_int_equal(k->result.inodes, 10);
}

static void test_pax(void **state)
{
	struct lkit *k = *state;
	char name[700] = "", part[201], link[1001];
	struct tar t = { 0 };
	struct stat st;

	memset(part, 'n', 200);
	part[200] = '\0';
	for (int i = 0; i < 3; i++)
		strcat(strcat(name, i ? "/" : ""), part);
	memset(link, 'l', 1000);
	link[1000] = '\0';
	/* of the whole archive: git writes one */
	ADD(&t, .name = "pax_global_header", .type = 'g', .text = "16 comment=abcd\n");
	ADD(&t, .name = "short", .text = "1",
	    .pax = { "path", name, "mtime", "1700000000.123456789" });
	ADD(&t, .name = "link", .type = '2', .link = "l", .pax = { "linkpath", link });
	ADD(&t, .name = "x",
	    .pax = { "path", "\xc3\xa4/\xe2\x82\xac", "uid", "4000000000", "gid", "3000000" });
	/* not UTF-8 */
	ADD(&t, .name = "\xff\xfe", .text = "2");
	ADD(&t, .name = "y", .pax = { "path", "b\xff", "hdrcharset", "BINARY" });
	ADD(&t, .name = "old", .pax = { "mtime", "-5.5" });
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_false(there(k->root, "pax_global_header"));
	st = look(k->root, name);
	assert_int_equal(st.st_mtim.tv_sec, 1700000000);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	assert_int_equal(look(k->root, "link").st_size, 1000);
	st = look(k->root, "\xc3\xa4/\xe2\x82\xac");
	assert_true(st.st_uid == 4000000000 && st.st_gid == 3000000);
	check_text(k->root, "\xff\xfe", "2");
	assert_true(there(k->root, "b\xff"));
	assert_true(look(k->root, "old").st_mtim.tv_sec < 0);
}

static void test_xattrs(void **state)
{
	struct lkit *k = *state;
	/* POSIX ACL, version 2: owner rwx, group r-x, other r-x */
	static const unsigned char acl[] = { 2,	   0,	0, 0, 1,   0,	7,   0,	  255, 255,
					     255,  255, 4, 0, 5,   0,	255, 255, 255, 255,
					     0x20, 0,	5, 0, 255, 255, 255, 255 };
	struct tar t = { 0 };
	char value[256];

	ADD(&t, .name = "ping", .mode = 04755, .text = "p", .uid = 1,
	    .key = "SCHILY.xattr.security.capability", .value = CAPABILITY,
	    .value_size = sizeof(CAPABILITY));
	ADD(&t, .name = "file",
	    .pax = { "SCHILY.xattr.user.a", "one", "LIBARCHIVE.xattr.user.b", "dHdv" });
	ADD(&t, .name = "marked", .type = '5',
	    .pax = { "SCHILY.xattr.trusted.overlay.opaque", "y",
		     "SCHILY.xattr.trusted.overlay.redirect", "/etc",
		     "SCHILY.xattr.user.overlay.opaque", "y", "SCHILY.xattr.trusted.x", "z" });
	ADD(&t, .name = "other", .pax = { "SCHILY.xattr.security.selinux", "label" });
	ADD(&t, .name = "link", .type = '2', .link = "nowhere",
	    .pax = { "SCHILY.xattr.trusted.l", "t" });
	ADD(&t, .name = "dir", .type = '5', .key = "SCHILY.xattr.system.posix_acl_default",
	    .value = acl, .value_size = sizeof(acl));
	ADD(&t, .name = "dir/file", .mode = 0600);
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_int_equal(xattr_of(k->root, "ping", "security.capability", value, sizeof(value)),
			 20);
	assert_memory_equal(value, CAPABILITY, 20);
	assert_int_equal(look(k->root, "ping").st_mode, S_IFREG | 04755);
	assert_int_equal(xattr_of(k->root, "file", "user.a", value, sizeof(value)), 3);
	assert_int_equal(xattr_of(k->root, "file", "user.b", value, sizeof(value)), 3);
	assert_memory_equal(value, "two", 3);
	/* what would mean something to overlayfs, or to this host, does not come from an archive */
	assert_int_equal(xattr_of(k->root, "marked", "trusted.overlay.opaque", value, 9), -1);
	assert_int_equal(xattr_of(k->root, "marked", "trusted.overlay.redirect", value, 9), -1);
	assert_int_equal(xattr_of(k->root, "marked", "user.overlay.opaque", value, 9), -1);
	assert_int_equal(xattr_of(k->root, "marked", "trusted.x", value, 9), 1);
	assert_int_equal(xattr_of(k->root, "other", "security.selinux", value, 9), -1);
	assert_int_equal(xattr_of(k->root, "link", "trusted.l", value, 9), 1);
	assert_int_equal(xattr_of(k->root, "dir", "system.posix_acl_default", value, 99),
			 sizeof(acl));
	/* which files in the layer do not inherit */
	assert_int_equal(xattr_of(k->root, "dir/file", "system.posix_acl_access", value, 99), -1);
	assert_int_equal(look(k->root, "dir/file").st_mode, S_IFREG | 0600);
}

static void test_links_in_paths(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	ADD(&t, .name = "usr/lib", .type = '5');
	ADD(&t, .name = "lib", .type = '2', .link = "usr/lib");
	ADD(&t, .name = "abs", .type = '2', .link = "/usr");
	ADD(&t, .name = "up", .type = '2', .link = "../../../../../../usr/./lib//");
	ADD(&t, .name = "chain", .type = '2', .link = "abs/../lib");
	ADD(&t, .name = "lib/a", .text = "a");
	ADD(&t, .name = "abs/lib/b", .text = "b");
	ADD(&t, .name = "up/c", .text = "c");
	ADD(&t, .name = "chain/d", .text = "d");
	ADD(&t, .name = "hard", .type = '1', .link = "chain/a");
	/* from the root, and from where the link is */
	ADD(&t, .name = "srv/abs", .type = '2', .link = "/usr/lib");
	ADD(&t, .name = "srv/abs/f", .text = "f");
	ADD(&t, .name = "srv/rel", .type = '2', .link = "own/./x/..");
	ADD(&t, .name = "srv/rel/g", .text = "g");
	/* what a link that leads nowhere yet names is made */
	ADD(&t, .name = "new", .type = '2', .link = "deep/er");
	ADD(&t, .name = "new/e", .text = "e");
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	check_text(k->root, "usr/lib/a", "a");
	check_text(k->root, "usr/lib/b", "b");
	check_text(k->root, "usr/lib/c", "c");
	check_text(k->root, "usr/lib/d", "d");
	check_text(k->root, "usr/lib/f", "f");
	check_text(k->root, "srv/own/g", "g");
	check_text(k->root, "deep/er/e", "e");
	assert_int_equal(look(k->root, "hard").st_nlink, 2);
	assert_true(S_ISLNK(look(k->root, "lib").st_mode));
}

static void test_replaced(void **state)
{
	for (int target = LAYER_OVERLAY; target <= LAYER_MERGE; target++) {
		struct lkit *k = *state;
		struct tar t = { 0 };

		ADD(&t, .name = "file", .text = "old");
		ADD(&t, .name = "file2", .type = '1', .link = "file");
		ADD(&t, .name = "dir", .type = '5', .mode = 0700);
		ADD(&t, .name = "dir/sub/x", .text = "x");
		ADD(&t, .name = "link", .type = '2', .link = "dir");
		ADD(&t, .name = "fifo", .type = '6');
		ADD(&t, .name = "deep/a/b/c", .text = "c");
		tar_end(&t);
		APPLY(&t, target);
		ADD(&t, .name = "file", .text = "new");
		ADD(&t, .name = "dir", .text = "now a file");
		ADD(&t, .name = "link", .type = '5', .mode = 0711);
		ADD(&t, .name = "link/y", .text = "y");
		ADD(&t, .name = "fifo", .type = '2', .link = "file");
		ADD(&t, .name = "deep", .type = '5', .mode = 01711, .uid = 7);
		/* within the layer too */
		ADD(&t, .name = "twice", .type = '5');
		ADD(&t, .name = "twice/z", .text = "z");
		ADD(&t, .name = "twice", .type = '2', .link = "deep");
		ADD(&t, .name = "twice/w", .text = "w");
		ADD(&t, .name = "thrice", .text = "1");
		ADD(&t, .name = "thrice", .text = "2");
		ADD(&t, .name = "self", .text = "s");
		ADD(&t, .name = "self", .type = '1', .link = "self");
		ADD(&t, .name = "thrice", .type = '1', .link = "self");
		tar_end(&t);
		APPLY(&t, target);
		check_text(k->root, "file", "new");
		/* the other name of the old one is not written to */
		check_text(k->root, "file2", "old");
		check_text(k->root, "dir", "now a file");
		assert_int_equal(look(k->root, "link").st_mode, S_IFDIR | 0711);
		check_text(k->root, "link/y", "y");
		assert_true(S_ISLNK(look(k->root, "fifo").st_mode));
		/* a folder stays, with new owner and mode */
		assert_int_equal(look(k->root, "deep").st_mode, S_IFDIR | 01711);
		assert_int_equal(look(k->root, "deep").st_uid, 7);
		check_text(k->root, "deep/a/b/c", "c");
		check_text(k->root, "deep/w", "w");
		assert_true(S_ISLNK(look(k->root, "twice").st_mode));
		check_text(k->root, "thrice", "s");
		assert_int_equal(tree_empty(k->root, NULL), 0);
	}
}

static void test_whiteouts_overlay(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	ADD(&t, .name = ".wh.gone");
	ADD(&t, .name = "a/b/.wh.gone");
	ADD(&t, .name = "opq", .type = '5');
	ADD(&t, .name = "opq/.wh..wh..opq");
	ADD(&t, .name = "opq/x", .text = "x");
	ADD(&t, .name = "late", .type = '5');
	ADD(&t, .name = "late/x", .text = "x");
	ADD(&t, .name = "late/.wh..wh..opq");
	/* deleted, and there again */
	ADD(&t, .name = ".wh.file");
	ADD(&t, .name = "file", .text = "f");
	ADD(&t, .name = ".wh.dir");
	ADD(&t, .name = "dir", .type = '5');
	ADD(&t, .name = "dir/x", .text = "x");
	ADD(&t, .name = ".wh.implied");
	ADD(&t, .name = "implied/x", .text = "x");
	/* the other way round */
	ADD(&t, .name = "file2", .text = "f");
	ADD(&t, .name = ".wh.file2");
	ADD(&t, .name = "dir2", .type = '5');
	ADD(&t, .name = "dir2/sub/x", .text = "x");
	ADD(&t, .name = ".wh.dir2");
	ADD(&t, .name = ".wh.gone");
	ADD(&t, .name = ".wh..wh.plnk", .type = '5');
	ADD(&t, .name = ".wh..wh.plnk/1.2", .text = "aufs");
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_true(whiteout(k->root, "gone") && whiteout(k->root, "a/b/gone"));
	assert_true(opaque(k->root, "opq") && there(k->root, "opq/x"));
	assert_true(opaque(k->root, "late") && there(k->root, "late/x"));
	assert_false(there(k->root, "opq/.wh..wh..opq"));
	check_text(k->root, "file", "f");
	assert_true(opaque(k->root, "dir") && there(k->root, "dir/x"));
	assert_true(opaque(k->root, "implied") && there(k->root, "implied/x"));
	check_text(k->root, "file2", "f");
	assert_true(opaque(k->root, "dir2") && there(k->root, "dir2/sub/x"));
	assert_false(opaque(k->root, "a"));
	assert_false(there(k->root, ".wh..wh.plnk"));
	assert_false(k->result.opaque_root);
	/* over what another one has left: its things are hidden like those below */
	ADD(&t, .name = ".wh.file");
	ADD(&t, .name = "opq/.wh..wh..opq");
	ADD(&t, .name = ".wh.dir");
	ADD(&t, .name = "gone", .text = "back");
	ADD(&t, .name = ".wh..wh..opq");
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_true(k->result.opaque_root);
	check_text(k->root, "gone", "back");
	assert_false(there(k->root, "a") || there(k->root, "opq/x") || there(k->root, "late"));
}

static void test_whiteouts_merge(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	make_folder(k->root, "d");
	make_file(k->root, "d/old", "1");
	make_folder(k->root, "d/sub");
	make_file(k->root, "d/sub/old", "2");
	make_folder(k->root, "e");
	make_file(k->root, "e/old", "3");
	make_file(k->root, "f", "4");
	make_file(k->root, "g", "5");
	make_file(k->root, "stays", "6");
	make_folder(k->root, "h");
	make_folder(k->root, "h/h");
	make_file(k->root, "h/h/old", "7");
	assert_int_equal(symlinkat("e", k->root, "l"), 0);
	ADD(&t, .name = "d/new", .text = "n");
	ADD(&t, .name = "d/sub/new", .text = "n");
	ADD(&t, .name = "d/.wh..wh..opq");
	ADD(&t, .name = "l/.wh.old");
	ADD(&t, .name = "l/new", .text = "n");
	ADD(&t, .name = ".wh.f");
	ADD(&t, .name = "g", .text = "n");
	ADD(&t, .name = ".wh.g");
	ADD(&t, .name = "h/h/new", .text = "n");
	ADD(&t, .name = ".wh.h");
	ADD(&t, .name = ".wh.nothing");
	ADD(&t, .name = "none/.wh.nothing");
	ADD(&t, .name = "stays/.wh.nothing");
	ADD(&t, .name = "none/.wh..wh..opq");
	tar_end(&t);
	APPLY(&t, LAYER_MERGE);
	assert_false(there(k->root, "d/old") || there(k->root, "d/sub/old"));
	check_text(k->root, "d/new", "n");
	check_text(k->root, "d/sub/new", "n");
	assert_false(there(k->root, "e/old") || there(k->root, "f") || there(k->root, "none"));
	check_text(k->root, "e/new", "n");
	check_text(k->root, "g", "n");
	check_text(k->root, "h/h/new", "n");
	assert_false(there(k->root, "h/h/old"));
	check_text(k->root, "stays", "6");
	assert_false(opaque(k->root, "d"));
	ADD(&t, .name = ".wh.l");
	ADD(&t, .name = ".wh..wh..opq");
	ADD(&t, .name = "only", .text = "o");
	tar_end(&t);
	APPLY(&t, LAYER_MERGE);
	assert_false(there(k->root, "d") || there(k->root, "e") || there(k->root, "stays"));
	check_text(k->root, "only", "o");
}

static void test_inherit(void **state)
{
	struct lkit *k = *state;
	int fds[3] = { lkit_folder(k, "near"), lkit_folder(k, "far"), lkit_folder(k, "farthest") };
	struct tar t = { 0 };
	struct stat st;
	char value[8];

	for (size_t i = 0; i < 3; i++) {
		char user[2] = { (char)('a' + i) };

		make_folder(fds[i], "every");
		set_xattr(fds[i], "every", "user.who", user);
		assert_int_equal(fchmodat(fds[i], "every", 0700 + (mode_t)i, 0), 0);
		assert_int_equal(fchownat(fds[i], "every", 10 + (uid_t)i, 20, 0), 0);
		set_time(fds[i], "every", 100 + (long)i, 5);
	}
	/* the nearest has none; the far one hides the farthest's */
	make_folder(fds[1], "cut");
	set_xattr(fds[1], "cut", "trusted.overlay.opaque", "y");
	make_folder(fds[2], "cut");
	make_folder(fds[2], "cut/in");
	assert_int_equal(fchmodat(fds[2], "cut/in", 0700, 0), 0);
	make_file(fds[1], "file", "no folder");
	make_folder(fds[2], "file");
	assert_int_equal(fchmodat(fds[2], "file", 0700, 0), 0);
	make_folder(fds[2], "only");
	assert_int_equal(fchmodat(fds[2], "only", 01770, 0), 0);
	ADD(&t, .name = "every/x");
	ADD(&t, .name = "cut/in/x");
	ADD(&t, .name = "file/x");
	ADD(&t, .name = "only/x");
	/* has its own */
	ADD(&t, .name = "own/x");
	ADD(&t, .name = "own", .type = '5', .mode = 0711);
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_int_equal(k->result.implied_size, strlen("every") + strlen("cut") +
							 strlen("cut/in") + strlen("file") +
							 strlen("only") + 5);
	assert_int_equal(layer_inherit(k->root, &k->result, fds, 3, &k->f), 0);
	st = look(k->root, "every");
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_true(st.st_uid == 10 && st.st_gid == 20 && st.st_mtim.tv_sec == 100);
	assert_int_equal(xattr_of(k->root, "every", "user.who", value, sizeof(value)), 1);
	assert_int_equal(value[0], 'a');
	assert_int_equal(look(k->root, "cut/in").st_mode, S_IFDIR | 0755);
	assert_false(opaque(k->root, "cut"));
	assert_int_equal(look(k->root, "file").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(k->root, "only").st_mode, S_IFDIR | 01770);
	assert_int_equal(look(k->root, "own").st_mode, S_IFDIR | 0711);

	/* an opaque root hides by name what is below */
	assert_int_equal(tree_empty(k->root, NULL), 0);
	ADD(&t, .name = ".wh..wh..opq");
	ADD(&t, .name = "every/x");
	ADD(&t, .name = "file", .text = "x");
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_int_equal(layer_inherit(k->root, &k->result, fds, 3, &k->f), 0);
	assert_true(opaque(k->root, "every") && whiteout(k->root, "cut") &&
		    whiteout(k->root, "only"));
	check_text(k->root, "file", "x");
	for (size_t i = 0; i < 3; i++)
		close(fds[i]);
}

/* What overlayfs would show as a device, since there is nothing below that it merges the folder with. */
static void test_marks_that_hide_nothing(void **state)
{
	struct lkit *k = *state;
	int fds[2] = { lkit_folder(k, "near"), lkit_folder(k, "far") };
	struct tar t = { 0 };

	make_folder(fds[1], "both");
	make_folder(fds[1], "both/in");
	make_folder(fds[1], "implied");
	make_folder(fds[0], "cut");
	set_xattr(fds[0], "cut", "trusted.overlay.opaque", "y");
	make_folder(fds[1], "cut");
	make_folder(fds[1], "cut/in");
	make_file(fds[0], "file", "no folder");
	make_folder(fds[1], "file");
	make_folder(fds[1], "opq");
	make_folder(fds[1], "cleared");
	ADD(&t, .name = ".wh.any");
	ADD(&t, .name = "both/in/.wh.any");
	ADD(&t, .name = "implied/.wh.any");
	ADD(&t, .name = "cleared/.wh..wh..opq");
	ADD(&t, .name = "opq", .type = '5');
	ADD(&t, .name = "opq/.wh.any");
	ADD(&t, .name = "opq/.wh..wh..opq");
	ADD(&t, .name = "new", .type = '5', .mtime = 77);
	ADD(&t, .name = "new/.wh.any");
	ADD(&t, .name = "new/none/.wh.any");
	ADD(&t, .name = "new/x", .text = "x");
	ADD(&t, .name = "none/none/none/.wh.any");
	ADD(&t, .name = "none/none/.wh..wh..opq");
	ADD(&t, .name = "cut/in/.wh.any");
	ADD(&t, .name = "cut/in/x", .text = "x");
	ADD(&t, .name = "file/.wh.any");
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_true(whiteout(k->root, "new/any"));
	assert_int_equal(layer_inherit(k->root, &k->result, fds, 2, &k->f), 0);
	assert_true(whiteout(k->root, "any") && whiteout(k->root, "both/in/any") &&
		    whiteout(k->root, "implied/any"));
	assert_true(opaque(k->root, "cleared"));
	assert_true(opaque(k->root, "opq"));
	assert_false(there(k->root, "opq/any") || there(k->root, "new/any") ||
		     there(k->root, "cut/in/any"));
	check_text(k->root, "new/x", "x");
	assert_int_equal(look(k->root, "new").st_mtim.tv_sec, 77);
	assert_false(there(k->root, "new/none") || there(k->root, "none") ||
		     there(k->root, "file"));

	/* a first layer, which is seen alone; and one that hides all below */
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(tree_empty(k->root, NULL), 0);
		if (i)
			ADD(&t, .name = ".wh..wh..opq");
		ADD(&t, .name = ".wh.any");
		ADD(&t, .name = "both/in/.wh.any");
		ADD(&t, .name = "own", .type = '5');
		ADD(&t, .name = "own/.wh.any");
		tar_end(&t);
		APPLY(&t, LAYER_OVERLAY);
		assert_int_equal(layer_inherit(k->root, &k->result, fds, i * 2, &k->f), 0);
		assert_false(there(k->root, "any") || there(k->root, "own/any"));
		assert_true(there(k->root, "own"));
		if (i)
			assert_true(whiteout(k->root, "both") && whiteout(k->root, "cut"));
		else
			assert_false(there(k->root, "both"));
	}
	for (size_t i = 0; i < 2; i++)
		close(fds[i]);
}

/* Nothing of it depends on the process: not the umask, nor a setgid folder. */
static void test_umask(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };
	mode_t before = umask(0077);

	assert_int_equal(fchown(k->root, 0, 33), 0);
	assert_int_equal(fchmod(k->root, 02777), 0);
	ADD(&t, .name = "dir/file", .mode = 0666);
	ADD(&t, .name = "own", .type = '5', .mode = 0777);
	ADD(&t, .name = "fifo", .type = '6', .mode = 0666);
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	umask(before);
	assert_int_equal(look(k->root, "dir").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(k->root, "dir").st_gid, 0);
	assert_int_equal(look(k->root, "dir/file").st_mode, S_IFREG | 0666);
	assert_int_equal(look(k->root, "own").st_mode, S_IFDIR | 0777);
	assert_int_equal(look(k->root, "own").st_gid, 0);
	assert_int_equal(look(k->root, "fifo").st_mode, S_IFIFO | 0666);
	assert_int_equal(look(k->root, "fifo").st_gid, 0);
}

/* The digest is of the stream to its very end, also behind the archive's. */
static void test_endings(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	ADD(&t, .name = "a");
	tar_end(&t);
	tar_bytes(&t, NULL, 3 << 20);
	tar_bytes(&t, "garbage behind the end", 22);
	APPLY(&t, LAYER_OVERLAY);
	/* without its end, as some write it, and nothing at all */
	ADD(&t, .name = "b");
	APPLY(&t, LAYER_OVERLAY);
	assert_true(there(k->root, "b"));
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	APPLY(&t, LAYER_OVERLAY);
	assert_int_equal(k->result.size, 0);
}

static void test_cancelled(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	ADD(&t, .name = "a");
	tar_end(&t);
	cancel_set(&k->cancel);
	REFUSED(&t, LAYER_OVERLAY, FAULT_CANCELLED, "", "");
}

static void test_progress(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };
	size_t size;

	ADD(&t, .name = "a", .text = "some");
	tar_end(&t);
	size = t.size;
	APPLY(&t, LAYER_OVERLAY);
	assert_int_equal(atomic_load(&k->progress.done), size);
}

/* Some writers (umoci's insert) leave out the zeros behind the last file, and the blocks of the end. */
static void test_without_padding(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	ADD(&t, .name = "first", .text = "one");
	ADD(&t, .name = "last", .text = "seven b");
	t.size = 1024 + 512 + 7;
	APPLY(&t, LAYER_OVERLAY);
	assert_int_equal(k->result.size, 1024 + 512 + 7);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, lkit_setup, lkit_teardown)
	const struct CMUnitTest tests[] = {
		T(test_kinds),
		T(test_pax),
		T(test_xattrs),
		T(test_links_in_paths),
		T(test_replaced),
		T(test_whiteouts_overlay),
		T(test_whiteouts_merge),
		T(test_inherit),
		T(test_marks_that_hide_nothing),
		T(test_umask),
		T(test_endings),
		T(test_cancelled),
		T(test_progress),
		T(test_without_padding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
