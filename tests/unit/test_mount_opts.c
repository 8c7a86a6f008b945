// SPDX-License-Identifier: Apache-2.0
/* Mount options as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include "runtime/mount_opts.h"
#include "runtime/spec.h"

#define PARSE(...)                                                                                 \
	({                                                                                         \
		static const char *const options_[] = { __VA_ARGS__ };                             \
		mount_opts_parse(options_, sizeof(options_) / sizeof(options_[0]), &o, data,       \
				 sizeof(data));                                                    \
	})

static void test_flags(void **state)
{
	struct mount_opts o;
	char data[256];

	(void)state;
	assert_int_equal(PARSE("nosuid", "ro", "noatime", "sync", "size=1m", "mode=755"), 0);
	assert_int_equal(o.flags, MS_NOSUID | MS_RDONLY | MS_NOATIME | MS_SYNCHRONOUS);
	assert_int_equal(o.set, MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME);
	assert_int_equal(o.clear, MOUNT_ATTR__ATIME);
	assert_string_equal(data, "size=1m,mode=755");
	assert_true(mount_opts_has(data, "mode"));
	assert_true(mount_opts_has(data, "size"));
	assert_false(mount_opts_has(data, "mod"));
	assert_false(mount_opts_has(data, "ode"));

	/* the last word counts */
	assert_int_equal(PARSE("ro", "nodev", "rw", "dev", "strictatime", "relatime"), 0);
	assert_int_equal(o.flags & (MS_RDONLY | MS_NODEV), 0);
	assert_int_equal(o.set, 0);
	assert_int_equal(o.clear, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR__ATIME);
	assert_string_equal(data, "");
}

static void test_recursive(void **state)
{
	struct mount_opts o;
	char data[256];

	(void)state;
	assert_int_equal(PARSE("rbind", "rro", "rnosuid", "rdev", "rnoatime", "rprivate"), 0);
	assert_true(o.bind && o.recursive);
	assert_int_equal(o.flags, 0);
	assert_int_equal(o.set, 0);
	assert_int_equal(o.rset, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME);
	assert_int_equal(o.rclear, MOUNT_ATTR_NODEV | MOUNT_ATTR__ATIME);
	assert_int_equal(o.propagation, MS_PRIVATE | MS_REC);
	/* no attribute of a mount, so nothing that could be had recursively */
	assert_int_equal(PARSE("rsync"), 0);
	assert_string_equal(data, "rsync");
}

static void test_words(void **state)
{
	struct mount_opts o;
	char data[256], tiny[8];
	static const char *const long_one[] = { "abcdefgh" };

	(void)state;
	assert_int_equal(PARSE("bind", "remount", "tmpcopyup", "copy-symlink", "src-nofollow",
			       "dest-nofollow", "defaults", "", "slave"),
			 0);
	assert_true(o.bind && o.remount && o.copy_up && o.copy_symlink && o.src_nofollow &&
		    o.dest_nofollow);
	assert_false(o.recursive);
	assert_int_equal(o.propagation, MS_SLAVE);
	assert_string_equal(data, "");
	assert_int_equal(PARSE("ridmap=uids=0-1-2;gids=0-1-2"), 0);
	assert_true(o.idmap && o.idmap_recursive);
	assert_string_equal(o.idmap_arg, "uids=0-1-2;gids=0-1-2");
	assert_int_equal(mount_opts_parse(long_one, 1, &o, tiny, sizeof(tiny)), -ENAMETOOLONG);
}

static int idmap(const char *arg, struct spec_idmap *uids, size_t *nu, struct spec_idmap *gids,
		 size_t *ng)
{
	static struct spec_idmap map[] = { { 0, 100000, 1000 }, { 1000, 5, 1 } };
	static const struct spec_idmaps container = { map, 2 };
	struct fault f;

	return mount_opts_idmap(arg, &container, &container, uids, nu, gids, ng, &f);
}

static void test_idmap(void **state)
{
	static const char *const bad[] = { "",
					   "uids=0-1-2",
					   "uids=;gids=",
					   "uids=0-1;gids=0-1-1",
					   "uids=0-1-0;gids=0-1-1",
					   "uids=a-1-1;gids=0-1-1",
					   "uids=0-1-1;gids=0-1-1x",
					   "uids=0-1-4294967296;gids=0-1-1",
					   "uids=@0-999-2;gids=0-1-1",
					   "uids=@0-2000-1;gids=0-1-1",
					   "uids=-1-1-1;gids=0-1-1",
					   "nids=0-1-1" };
	struct spec_idmap u[MOUNT_IDMAPS], g[MOUNT_IDMAPS];
	size_t nu, ng;

	(void)state;
	assert_int_equal(idmap("uids=0-10-5#7-@;gids=0-1-1", u, &nu, g, &ng), -EINVAL);
	assert_int_equal(idmap("uids=0-10-5#@7-3-2;gids=@1-1000-1", u, &nu, g, &ng), 0);
	assert_int_equal(nu, 2);
	assert_int_equal(ng, 1);
	assert_int_equal(u[0].container_id, 0);
	assert_int_equal(u[0].host_id, 10);
	assert_int_equal(u[0].size, 5);
	assert_int_equal(u[1].container_id, 7);
	assert_int_equal(u[1].host_id, 100003);
	assert_int_equal(g[0].host_id, 5);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (idmap(bad[i], u, &nu, g, &ng) >= 0)
			fail_msg("taken: %s", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_recursive),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_idmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
