// SPDX-License-Identifier: Apache-2.0
/*
 * criu's command line, word by word
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/criu_args.h"

/* Words, with '|' between them. */
static char *joined(const struct criu_args *a)
{
	char *text = NULL;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	assert_non_null(to);
	assert_false(a->failed);
	for (size_t i = 0; i < a->n; i++)
		fprintf(to, "%s%s", i ? "|" : "", a->v[i]);
	fclose(to);
	assert_null(a->v[a->n]);
	return text;
}

static void check(struct criu_args *a, const char *want)
{
	char *got = joined(a);

	assert_string_equal(got, want);
	free(got);
	criu_args_clear(a);
	assert_null(a->v);
}

static void test_dump(void **state)
{
	struct criu_mount mount[] = {
		{ "m0", NULL, (char *)"/data", CRIU_MOUNT_BIND, NULL, NULL, true },
		{ "m1", NULL, (char *)"/a b", CRIU_MOUNT_MASK, NULL, NULL, true }
	};
	struct criu_mounts none = { NULL, 0 }, two = { mount, 2 };
	static const char *const empty[] = { "net", "ipc" };
	static const char *const files[] = { "file[1a:2b]", "tty[8803:17]" };
	struct criu_dump d = {
		.c = { .program = "/usr/sbin/criu",
		       .images_dir = "/i",
		       .work_dir = "/w",
		       .log_level = 2 },
		.pid = 4711,
		.mounts = &none,
	};
	struct criu_args a = { 0 };

	(void)state;
	criu_args_dump(&a, &d);
	check(&a, "/usr/sbin/criu|dump|--images-dir=/i|--work-dir=/w|--log-file=criu.log|-v2|"
		  "--manage-cgroups=ignore|--tree=4711|--ghost-limit=4095M");
	d.c.stream = d.c.open_tcp = d.c.external_unix_sockets = d.c.shell_job = true;
	d.c.file_locks = d.c.link_remap = d.leave_running = true;
	d.c.cgroups_mode = "soft";
	d.c.network_lock = "skip";
	d.c.action_script = "/s";
	d.c.empty_namespaces = empty;
	d.c.n_empty = 2;
	d.freeze_cgroup = "/sys/fs/cgroup/x";
	d.net_inode = 4026531840;
	d.files = files;
	d.n_files = 2;
	d.mounts = &two;
	criu_args_dump(&a, &d);
	check(&a, "/usr/sbin/criu|dump|--images-dir=/i|--work-dir=/w|--log-file=criu.log|-v2|"
		  "--stream|--manage-cgroups=soft|--network-lock=skip|--tcp-established|"
		  "--ext-unix-sk|--shell-job|--file-locks|--link-remap|--action-script=/s|"
		  "--empty-ns=net|--empty-ns=ipc|--tree=4711|--ghost-limit=4095M|"
		  "--leave-running|"
		  "--freeze-cgroup=/sys/fs/cgroup/x|--external|net[4026531840]:extNet|"
		  "--external|file[1a:2b]|--external|tty[8803:17]|"
		  "--external|mnt[/data]:m0|--external|mnt[/a b]:m1");
}

static void test_restore(void **state)
{
	static const struct criu_inherit inherit[] = { { "pipe:[123]", 10 }, { "extNet", 11 } };
	static const struct criu_source sources[] = { { "m0", "/r/m0" }, { "m1", "/r/m1" } };
	static const char *const join[] = { "net:/proc/5/ns/net" };
	struct criu_restore r = {
		.c = { .program = "criu",
		       .images_dir = "/i",
		       .work_dir = "/w",
		       .stream = true,
		       .log_level = 4 },
		.root = "/r",
	};
	struct criu_args a = { 0 };

	(void)state;
	criu_args_restore(&a, &r);
	check(&a, "criu|restore|--images-dir=/i|--work-dir=/w|--log-file=criu.log|-v4|--stream|"
		  "--manage-cgroups=ignore|--root=/r|--restore-detached|--restore-sibling|"
		  "--pidfile=criu.pid");
	r.tcp_close = true;
	r.inherit = inherit;
	r.n_inherit = 2;
	r.sources = sources;
	r.n_sources = 2;
	r.join = join;
	r.n_join = 1;
	criu_args_restore(&a, &r);
	check(&a, "criu|restore|--images-dir=/i|--work-dir=/w|--log-file=criu.log|-v4|--stream|"
		  "--manage-cgroups=ignore|--root=/r|--restore-detached|--restore-sibling|"
		  "--pidfile=criu.pid|--tcp-close|--inherit-fd|fd[10]:pipe:[123]|"
		  "--inherit-fd|fd[11]:extNet|--external|mnt[m0]:/r/m0|--external|mnt[m1]:/r/m1|"
		  "--join-ns|net:/proc/5/ns/net");
}

/* More words than there is room for at first. */
static void test_many(void **state)
{
	struct criu_args a = { 0 };

	(void)state;
	for (int i = 0; i < 1000; i++)
		criu_arg(&a, "word%d", i);
	assert_int_equal(a.n, 1000);
	assert_string_equal(a.v[0], "word0");
	assert_string_equal(a.v[999], "word999");
	assert_null(a.v[1000]);
	criu_args_clear(&a);
	/* one that has failed stays so */
	a.failed = true;
	criu_arg(&a, "x");
	assert_int_equal(a.n, 0);
	criu_args_clear(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dump),
		cmocka_unit_test(test_restore),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
