// SPDX-License-Identifier: Apache-2.0
/* Trees of snapshots: counting and copying them, whatever is in them. */
#include "snapshot_kit.h"

#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "util/limits.h"

static int folder(struct kit *k, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", k->root, name);
	assert_true(mkdir(path, 0755) == 0 || errno == EEXIST);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* name/name/… below at */
static void make_deep(int at, unsigned depth)
{
	int fd = fcntl(at, F_DUPFD_CLOEXEC, 0);

	for (unsigned i = 0; i < depth; i++) {
		int below;

		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(below >= 0);
		close(fd);
		fd = below;
	}
	close(fd);
}

static void test_usage(void **state)
{
	struct kit *k = *state;
	struct snapshot_usage u, again;
	int fd = folder(k, "t");

	kit_ok(k, snapshot_tree_usage(&k->c, fd, &u));
	assert_int_equal(u.inodes, 1);
	kit_sh("cd %s/t; mkdir a a/b; head -c 100000 /dev/urandom >a/f; ln -s x a/l; mkfifo p; "
	       "for i in $(seq 300); do echo $i >n$i; ln n$i a/n$i; done; truncate -s 1G hole",
	       k->root);
	kit_ok(k, snapshot_tree_usage(&k->c, fd, &u));
	assert_int_equal(u.inodes, 1 + 2 + 1 + 1 + 1 + 300 + 1);
	assert_true(u.size > 100000 && u.size < 10000000);
	/* the same fd once more, and links once each */
	kit_ok(k, snapshot_tree_usage(&k->c, fd, &again));
	assert_int_equal(again.size, u.size);
	kit_sh("cd %s/t; for i in $(seq 300); do ln n$i a/m$i; done", k->root);
	kit_ok(k, snapshot_tree_usage(&k->c, fd, &again));
	assert_int_equal(again.inodes, u.inodes);
	/* what is mounted in it is not its own */
	kit_sh("mount -t tmpfs tmpfs %s/t/a/b; touch %s/t/a/b/1 %s/t/a/b/2", k->root, k->root,
	       k->root);
	kit_ok(k, snapshot_tree_usage(&k->c, fd, &again));
	kit_sh("umount %s/t/a/b", k->root);
	assert_true(again.inodes <= u.inodes);
	close(fd);
}

static void copy(struct kit *k, const char *from, const char *to)
{
	int a = folder(k, from), b = folder(k, to), links = folder(k, "links");

	kit_ok(k, snapshot_tree_copy(&k->c, a, b, links));
	assert_int_equal(kit_entries(k, "links"), 0);
	close(a);
	close(b);
	close(links);
}

static void test_copy(void **state)
{
	struct kit *k = *state;
	/* a version 2 capability xattr: cap_net_raw=ep */
	static const unsigned char capability[20] = { 1, 0, 0, 2, 0, 0x20 };
	/* u::rwx,u:55:r--,g::r-x,m::r-x,o::--- */
	static const unsigned char acl[44] = {
		2, 0,  0,    0,	   1,	 0,    7,    0, 0xff, 0xff, 0xff, 0xff, 2,    0,    4,
		0, 55, 0,    0,	   0,	 4,    0,    5, 0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,
		5, 0,  0xff, 0xff, 0xff, 0xff, 0x20, 0, 0,    0,    0xff, 0xff, 0xff, 0xff,
	};
	char path[128];

	kit_sh("mkdir %s/a; cd %s/a; mkdir -m 1777 tmp; mkdir -m 2750 d; echo text >f; "
	       "ln f d/hard; ln f d/harder; ln -s /nowhere/at/all s; ln s d/s2; chown -h 9:10 s; "
	       "mkfifo -m 620 p; ln p d/p2; mknod -m 600 c c 5 1; mknod b b 7 9; mknod w c 0 0; "
	       "chown 7:8 f; chmod 6755 f; truncate -s 200M hole; echo end >>hole; "
	       "head -c 300000 /dev/urandom >data; : >\"$(printf 'odd\\n\\001 name')\"; "
	       "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'",
	       k->root, k->root);
	snprintf(path, sizeof(path), "%s/a/f", k->root);
	assert_int_equal(setxattr(path, "security.capability", capability, sizeof(capability), 0),
			 0);
	assert_int_equal(setxattr(path, "user.x", "\0y", 2, 0), 0);
	snprintf(path, sizeof(path), "%s/a/d", k->root);
	assert_int_equal(setxattr(path, "system.posix_acl_access", acl, sizeof(acl), 0), 0);
	assert_int_equal(setxattr(path, "trusted.t", "1", 1, 0), 0);
	snprintf(path, sizeof(path), "%s/a/s", k->root);
	assert_int_equal(lsetxattr(path, "trusted.of.a.link", "1", 1, 0), 0);
	kit_sh("cd %s/a; touch -h -d '2001-02-03 04:05:06.789' f s p d tmp data .", k->root);
	copy(k, "a", "b");
	/* names, kinds, modes, owners, devices, times, sizes, number of names */
	kit_sh("cd %s; for i in a b; do (cd $i; find . -printf '%%p %%y %%m %%U:%%G %%T@ %%n %%l ' "
	       "\\( -type d -printf '\\n' -o -printf '%%s\\n' \\) | sort) >$i.list; "
	       "(cd $i; find . \\( -type c -o -type b \\) -exec stat -c '%%n %%t:%%T' {} + | sort) >>$i.list; "
	       "(cd $i; getfattr -R -h -d -m - . 2>/dev/null | sort || true) >>$i.list; done; "
	       "diff a.list b.list; cmp a/data b/data; cmp a/hole b/hole; test $(cat b/f) = text; "
	       "test $(stat -c %%i b/f) = $(stat -c %%i b/d/harder); "
	       "test $(stat -c %%i b/s) = $(stat -c %%i b/d/s2); "
	       "test $(stat -c %%b b/hole) -lt 2000; test $(stat -c %%i a/f) != $(stat -c %%i b/f)",
	       k->root);
	snprintf(path, sizeof(path), "%s/b/f", k->root);
	assert_int_equal(getxattr(path, "security.capability", NULL, 0), sizeof(capability));
	assert_int_equal(getxattr(path, "user.x", NULL, 0), 2);
	snprintf(path, sizeof(path), "%s/b/d", k->root);
	assert_int_equal(getxattr(path, "system.posix_acl_access", NULL, 0), sizeof(acl));
	assert_int_equal(getxattr(path, "trusted.t", NULL, 0), 1);
	snprintf(path, sizeof(path), "%s/b/s", k->root);
	assert_int_equal(lgetxattr(path, "trusted.of.a.link", NULL, 0), 1);
	/* what one changes the other does not see */
	kit_sh("cd %s; echo other >b/f; test $(cat a/f) = text; test $(cat b/d/hard) = other",
	       k->root);
}

static void test_between_file_systems(void **state)
{
	struct kit *k = *state;

	/* nothing can be shared there: copied by hand where the kernel does not */
	kit_sh("cd %s; mkdir a b; mount -t tmpfs tmpfs b; head -c 700000 /dev/urandom >a/data; "
	       "truncate -s 50M a/hole; echo x >>a/hole; ln a/data a/again",
	       k->root);
	{
		int a = folder(k, "a"), b = folder(k, "b/to"), links = folder(k, "b/links");

		kit_ok(k, snapshot_tree_copy(&k->c, a, b, links));
		close(a);
		close(b);
		close(links);
	}
	kit_sh("cd %s; cmp a/data b/to/data; cmp a/hole b/to/hole; test b/to/data -ef b/to/again; "
	       "test $(stat -c %%b b/to/hole) -lt 2000",
	       k->root);
	/* a disk that is full */
	kit_sh("cd %s; rm -r b/*; mount -o remount,size=300k b", k->root);
	{
		int a = folder(k, "a"), b = folder(k, "b/to"), links = folder(k, "b/links");

		kit_fails(k, snapshot_tree_copy(&k->c, a, b, links), FAULT_RESOURCE_EXHAUSTED,
			  "copy /");
		assert_int_equal(k->f.err, ENOSPC);
		close(a);
		close(b);
		close(links);
	}
	kit_sh("umount -l %s/b", k->root);
}

static void test_mount_inside(void **state)
{
	struct kit *k = *state;
	int a, b, links;

	kit_sh("cd %s; mkdir -p a/one/m; mount -t tmpfs tmpfs a/one/m", k->root);
	a = folder(k, "a");
	b = folder(k, "b");
	links = folder(k, "links");
	/* a copy that leaves something out is none */
	kit_fails(k, snapshot_tree_copy(&k->c, a, b, links), fault_code_of_errno(EBUSY),
		  "copy /one/m");
	kit_sh("umount %s/a/one/m", k->root);
	close(a);
	close(b);
	close(links);
}

static void test_deep(void **state)
{
	struct kit *k = *state;
	struct snapshot_usage u;
	struct rlimit old, few;
	int fd = folder(k, "a"), deep;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = 200;
	make_deep(fd, 3000);
	/* beside the deep one, which is visited between them */
	kit_sh("cd %s/a; mkdir 0 z; touch 0/f z/f; cd d/d/d; touch a z", k->root);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	kit_ok(k, snapshot_tree_usage(&k->c, fd, &u));
	assert_int_equal(u.inodes, 3000 + 1 + 6);
	copy(k, "a", "b");
	deep = folder(k, "b");
	kit_ok(k, snapshot_tree_usage(&k->c, deep, &u));
	assert_int_equal(u.inodes, 3000 + 1 + 6);
	close(deep);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	close(fd);
}

static void test_depth_limit(void **state)
{
	struct kit *k = *state;
	struct snapshot_usage u;
	int fd = folder(k, "a");

	make_deep(fd, LIMIT_TREE_DEPTH);
	kit_ok(k, snapshot_tree_usage(&k->c, fd, &u));
	assert_int_equal(u.inodes, LIMIT_TREE_DEPTH + 1);
	close(fd);
	kit_sh("cd %s; mkdir b; mv a b", k->root);
	fd = folder(k, "b");
	kit_fails(k, snapshot_tree_usage(&k->c, fd, &u), FAULT_RESOURCE_EXHAUSTED,
		  "more than 16384 folders");
	close(fd);
}

static void test_cancel(void **state)
{
	struct kit *k = *state;
	struct snapshot_usage u;
	int a = folder(k, "a"), b = folder(k, "b"), links = folder(k, "links");

	kit_sh("touch %s/a/f", k->root);
	cancel_set(&k->cancel);
	kit_fails(k, snapshot_tree_usage(&k->c, a, &u), FAULT_CANCELLED, "");
	kit_fails(k, snapshot_tree_copy(&k->c, a, b, links), FAULT_CANCELLED, "");
	close(a);
	close(b);
	close(links);
}

static void test_many_links(void **state)
{
	struct kit *k = *state;
	int a = folder(k, "a"), fd;
	char name[32];
	unsigned n = 1;

	/* as many names as the file system lets one inode have, and one goes to the copy's own folder */
	fd = openat(a, "0", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	while (n < 70000) {
		snprintf(name, sizeof(name), "%u", n);
		if (linkat(a, "0", a, name, 0) < 0)
			break;
		n++;
	}
	copy(k, "a", "b");
	snprintf(name, sizeof(name), "%u", n);
	kit_sh("test $(stat -c %%h %s/b/0) = %s; test $(ls %s/b | wc -l) = %s", k->root, name,
	       k->root, name);
	close(a);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_usage),	 TEST(test_copy),	TEST(test_between_file_systems),
		TEST(test_mount_inside), TEST(test_deep),	TEST(test_depth_limit),
		TEST(test_cancel),	 TEST(test_many_links),
	};

	if (geteuid()) {
		print_message("SKIPPED: these tests need root\n");
		return 0;
	}
	return cmocka_run_group_tests_name("snapshot_tree", tests, NULL, NULL);
}
