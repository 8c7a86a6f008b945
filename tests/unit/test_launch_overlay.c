// SPDX-License-Identifier: Apache-2.0
/* Overlays of many layers: the text of their options, and real mounts of them. */
#include "launch_kit.h"

#include <sys/mount.h>

#include "runtime/plan.h"

/* ---- what is compiled */

/* n layers /store/PREFIXi/fs on top of each other, with an upper folder. */
static char *options_of(const char *store, const char *prefix, unsigned n)
{
	char *text = malloc((strlen(store) + strlen(prefix) + 20) * (n + 3));
	size_t at = (size_t)sprintf(
		text, "index=off,workdir=%s/w/work,upperdir=%s/w/fs,lowerdir=", store, store);

	for (unsigned i = 0; i < n; i++)
		at += (size_t)sprintf(text + at, "%s%s/%s%u/fs", i ? ":" : "", store, prefix, i);
	return text;
}

static void test_relative(void **state)
{
	struct plan_mount m = { 0 };
	struct plan *p = NULL;

	(void)state;
	assert_int_equal(plan_new(&p), 0);
	assert_int_equal(
		plan_overlay(p,
			     "index=off,xino,workdir=/s/store/9/work,upperdir=/s/store/9/fs,"
			     "lowerdir=/s/store/8/fs:/s/store//7/fs:/s/store/:/s/store/7\\:8/fs",
			     &m),
		0);
	assert_string_equal(m.from, "/s/store/");
	assert_string_equal(m.data, "index=off,xino,workdir=9/work,upperdir=9/fs,"
				    "lowerdir=8/fs:7/fs:.:7\\:8/fs");
	assert_int_equal(m.n_params, 0);
	/* a colon is one list's separator only, and an escaped one is none */
	assert_int_equal(
		plan_overlay(p, "upperdir=/a/b:/c,workdir=/a/d,lowerdir=/a/x\\,y:/a/z", &m), 0);
	assert_string_equal(m.from, "/a/");
	assert_string_equal(m.data, "upperdir=b:/c,workdir=d,lowerdir=x\\,y:z");
	assert_int_equal(plan_overlay(p, "lowerdir=/aa/b:/ab/c", &m), 0);
	assert_string_equal(m.from, "/");
	assert_string_equal(m.data, "lowerdir=aa/b:ab/c");
	assert_int_equal(plan_overlay(p, "lowerdir=/a/b:c", &m), -ENAMETOOLONG);
	assert_int_equal(plan_overlay(p, "index=off", &m), -ENAMETOOLONG);
	plan_free(p);
}

static void test_params(void **state)
{
	char *text = options_of("/var/lib/a", "layer\\,\\:\\\\-with-a-name-of-some-length-", 200),
	     *more = malloc(strlen(text) + 100);
	struct plan_mount m = { 0 };
	struct plan *p = NULL;

	(void)state;
	sprintf(more, "%s::/var/lib/a/data/only,xino", text);
	assert_int_equal(plan_new(&p), 0);
	assert_int_equal(plan_overlay(p, more, &m), 0);
	assert_string_equal(m.from, "/var/lib/a/");
	assert_string_equal(m.data, "");
	assert_int_equal(m.n_params, 205);
	assert_string_equal(m.params[0].key, "index");
	assert_string_equal(m.params[0].value, "off");
	assert_string_equal(m.params[1].key, "workdir");
	assert_string_equal(m.params[1].value, "w/work");
	assert_string_equal(m.params[2].key, "upperdir");
	assert_string_equal(m.params[3].key, "lowerdir+");
	assert_string_equal(m.params[3].value, "layer,:\\-with-a-name-of-some-length-0/fs");
	assert_string_equal(m.params[202].value, "layer,:\\-with-a-name-of-some-length-199/fs");
	assert_string_equal(m.params[203].key, "datadir+");
	assert_string_equal(m.params[203].value, "data/only");
	assert_string_equal(m.params[204].key, "xino");
	assert_null(m.params[204].value);
	/* fsconfig(2) has its own limit */
	memset(more, 'n', 300);
	more[300] = '\0';
	free(text);
	text = options_of("/var/lib/a", more, 20);
	assert_int_equal(plan_overlay(p, text, &m), -ENAMETOOLONG);
	plan_free(p);
	free(text);
	free(more);
}

/* ---- real ones */

/* Linux 6.8 takes layers one by one. */
static void need_params(void)
{
	int fs = fsopen("overlay", FSOPEN_CLOEXEC), r;

	r = fs < 0 ? -1 : fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", "/", 0);
	if (fs >= 0)
		close(fs);
	if (!r)
		return;
	print_message("SKIPPED: this kernel takes no layers one by one\n");
	skip();
}

struct stack {
	char store[200], point[128];
	char *options;
	const char *list[1];
	struct launch_mount mount;
};

/* n layers with a file each; the last one has the root file system. */
static void stack_new(struct stack *s, const struct kit *kit, const char *prefix, unsigned n)
{
	snprintf(s->store, sizeof(s->store), "%s/%s%u", kit->dir, prefix, n);
	snprintf(s->point, sizeof(s->point), "%s/mp", kit->dir);
	kit_system("mkdir -p %s %s/w/work %s/w/fs && cd %s && for i in $(seq 0 %u); do "
		   "mkdir -p %s$i/fs && echo $i >%s$i/fs/file$i && echo $i >%s$i/fs/top; done && "
		   "cp -a %s/. %s%u/fs/",
		   s->point, s->store, s->store, s->store, n - 1, prefix, prefix, prefix,
		   kit->rootfs, prefix, n - 1);
	s->options = options_of(s->store, prefix, n);
	s->list[0] = s->options;
	s->mount = (struct launch_mount){
		.type = "overlay", .source = "overlay", .options = s->list, .n_options = 1
	};
}

static void stack_run(struct stack *s, const struct kit *kit, const char *sh, const char *ns,
		      const char *lin, struct kit_run *k)
{
	k->mounts = &s->mount;
	k->n_mounts = 1;
	k->rootfs_dir = s->point;
	kit_run(k, kit,
		&(struct kit_parts){ .root = "/does/not/exist", .sh = sh, .ns = ns, .lin = lin });
}

static void stack_end(struct stack *s)
{
	kit_system("rm -rf --one-file-system %s", s->store);
	free(s->options);
}

static void run_layers(void **state, const char *prefix, unsigned n, bool by_params)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	struct plan_mount m = { 0 };
	struct plan *p = NULL;
	char sh[256], want[64];
	struct stack s;

	if (by_params)
		need_params();
	stack_new(&s, kit, prefix, n);
	/* it is the way that is meant */
	assert_int_equal(plan_new(&p), 0);
	assert_int_equal(plan_overlay(p, s.options, &m), 0);
	assert_int_equal(m.n_params > 0, by_params);
	plan_free(p);
	snprintf(
		sh, sizeof(sh),
		"cat /top /file1 /file%u && echo new >/file0 && rm /file1 && cat /file0 && test ! -e /file1",
		n - 1);
	snprintf(want, sizeof(want), "0\n1\n%u\nnew\n", n - 1);
	stack_run(&s, kit, sh, NULL, NULL, k);
	if (k->r < 0 || k->failed || k->status)
		kit_show(k);
	kit_ok(k);
	assert_string_equal(k->out, want);
	/* only the upper folder has changed */
	kit_system(
		"cd %s && test \"$(cat w/fs/file0)\" = new && test \"$(cat %s0/fs/file0)\" = 0 && "
		"test -c w/fs/file1 && test -f %s1/fs/file1",
		s.store, prefix, prefix);
	kit_done(k);
	stack_end(&s);
}

static void test_128(void **state)
{
	run_layers(state, "l", 128, false);
}

static void test_300(void **state)
{
	run_layers(state, "123", 300, false);
}

static void test_300_long(void **state)
{
	run_layers(state, "a-layer-with-a-longer-name-", 300, true);
}

static void test_500(void **state)
{
	run_layers(state, "1234567", 500, true);
}

static void test_too_many(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	struct stack s;

	need_params();
	stack_new(&s, kit, "1234567", 501);
	stack_run(&s, kit, "true", NULL, NULL, k);
	assert_true(k->failed);
	assert_string_equal(k->fault.step, "mount rootfs");
	/* the kernel's own words come with it */
	assert_non_null(strstr(k->fault.log, "limit is 500"));
	kit_done(k);
	stack_end(&s);
}

static void test_missing_layer(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	struct stack s;

	need_params();
	stack_new(&s, kit, "1234567", 450);
	kit_system("rm -r %s/1234567333", s.store);
	stack_run(&s, kit, "true", NULL, NULL, k);
	assert_true(k->failed);
	assert_int_equal(k->fault.code, FAULT_NOT_FOUND);
	assert_non_null(strstr(k->fault.message, "1234567333/fs"));
	kit_done(k);
	stack_end(&s);
}

static void test_user_namespace(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	struct stack s;

	need_params();
	/* mounted with the host's rights, for a root that has none there */
	stack_new(&s, kit, "1234567", 450);
	kit_system("chown -R 100000:100000 %s/12345670 %s/w/fs", s.store, s.store);
	stack_run(&s, kit, "cat /top; id -u; echo x >/new && stat -c %u /new",
		  KIT_NS ",{\"type\":\"user\"}",
		  ",\"uidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}],"
		  "\"gidMappings\":[{\"containerID\":0,\"hostID\":100000,\"size\":65536}]",
		  k);
	kit_ok(k);
	assert_string_equal(k->out, "0\n0\n0\n");
	kit_done(k);
	stack_end(&s);
}

static void test_read_only(void **state)
{
	const struct kit *kit = *state;
	struct kit_run *k = kit_new();
	const char *list[3];
	char *lower;
	struct stack s;

	need_params();
	stack_new(&s, kit, "1234567", 450);
	/* a view has no upper folder */
	lower = strdup(strstr(s.options, "lowerdir="));
	list[0] = lower;
	list[1] = "ro";
	list[2] = "nosuid";
	s.mount.options = list;
	s.mount.n_options = 3;
	stack_run(&s, kit,
		  "touch /x 2>&1; grep -o ' / overlay [a-z,]*' /proc/mounts; "
		  "grep ' / overlay ' /proc/mounts | cut -c 1-40",
		  NULL, NULL, k);
	kit_ok(k);
	kit_has(k, "Read-only file system");
	kit_has(k, "overlay / overlay ro,nosuid");
	kit_done(k);
	free(lower);
	stack_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relative),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_128),
		cmocka_unit_test(test_300),
		cmocka_unit_test(test_300_long),
		cmocka_unit_test(test_500),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_missing_layer),
		cmocka_unit_test(test_user_namespace),
		cmocka_unit_test(test_read_only),
	};

	if (geteuid()) {
		print_message("SKIPPED: these tests need root\n");
		return 0;
	}
	return cmocka_run_group_tests_name("launch_overlay", tests, kit_setup, kit_teardown);
}
