// SPDX-License-Identifier: Apache-2.0
/*
 * The record of a checkpoint: there and back, and what is refused
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/record.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/limits.h"

static json_object *json(const char *text)
{
	json_object *j = NULL;
	struct fault f = { 0 };

	if (json_parse(text, strlen(text), &j, &f) < 0)
		fail_msg("%s: %s", text, f.message);
	return j;
}

static char *copy(const char *text)
{
	char *s = strdup(text);

	assert_non_null(s);
	return s;
}

static void fill(struct ckpt_record *r)
{
	ckpt_record_init(r);
	r->id = copy("web-1");
	r->ns = copy("default");
	r->image = copy("docker.io/library/busybox:latest");
	r->runtime = copy("io.davit.v1");
	r->snapshotter = copy("overlayfs");
	r->labels = json("{\"b\": \"2\", \"a\": \"1\", \"davit.auto-remove\": \"true\", "
			 "\"containerd.io/gc.root\": \"now\", \"davitx\": \"kept\"}");
	r->spec = json(
		"{\"ociVersion\": \"1.0.2\", \"z\": [1, 18446744073709551615], \"a\": null}");
	r->created_at = 1700000000123456789;
	r->criu_version = copy("4.1.1");
	r->kernel = copy("6.18.0");
	r->davit_version = copy("0.1.0");
	r->open_tcp = r->shell_job = r->left_running = true;
	r->cgroups_mode = copy("soft");
	r->empty_namespaces = calloc(1, sizeof(char *));
	r->empty_namespaces[r->n_empty++] = copy("net");
	r->mounts.v = calloc(2, sizeof(*r->mounts.v));
	r->mounts.n = 2;
	r->mounts.v[0] = (struct criu_mount){
		"m0", NULL, copy("/data"), CRIU_MOUNT_BIND, copy("/srv/data"), copy(""), true
	};
	r->mounts.v[1] = (struct criu_mount){ "m12",
					      NULL,
					      copy("/sys/fs/cgroup/cpu"),
					      CRIU_MOUNT_CGROUP,
					      copy("/../davit"),
					      copy("cpu,cpuacct"),
					      false };
	r->mountpoints = calloc(2, sizeof(*r->mountpoints));
	r->n_mountpoints = 2;
	r->mountpoints[0] = (struct ckpt_mountpoint){ copy("/data"), true };
	r->mountpoints[1] = (struct ckpt_mountpoint){ copy("/etc/re\xc3\xa7u \"x\""), false };
	r->net = CKPT_NET_EMPTY;
	r->stdio[0] = copy("");
	r->stdio[1] = copy("pipe:[123]");
	r->stdio[2] = copy("file[1a:2b]");
	r->terminal = true;
	r->tty = copy("8803:17");
	r->user_ns = true;
	r->stats = json("{\"frozen_us\": 12, \"phases\": {\"drain\": 1.5}}");
}

static void write_record(const struct ckpt_record *r, char **text, size_t *size)
{
	assert_int_equal(ckpt_record_write(r, text, size), 0);
	assert_int_equal(strlen(*text), *size);
}

static void test_round(void **state)
{
	struct ckpt_record r, back;
	struct fault f = { 0 };
	char *text, *again;
	size_t size, n;

	(void)state;
	fill(&r);
	write_record(&r, &text, &size);
	write_record(&r, &again, &n);
	assert_string_equal(text, again);
	free(again);
	if (ckpt_record_read(&back, text, size, &f) < 0)
		fail_msg("%s", f.message);
	assert_string_equal(back.id, "web-1");
	assert_string_equal(back.ns, "default");
	assert_string_equal(back.image, r.image);
	assert_string_equal(back.runtime, r.runtime);
	assert_string_equal(back.snapshotter, r.snapshotter);
	assert_string_equal(json_object_to_json_string_ext(back.labels, JSON_C_TO_STRING_PLAIN),
			    "{\"a\":\"1\",\"b\":\"2\",\"davitx\":\"kept\"}");
	assert_string_equal(json_object_to_json_string_ext(back.spec, JSON_C_TO_STRING_PLAIN),
			    "{\"ociVersion\":\"1.0.2\",\"z\":[1,18446744073709551615],\"a\":null}");
	assert_true(back.created_at == r.created_at);
	assert_string_equal(back.criu_version, "4.1.1");
	assert_string_equal(back.kernel, "6.18.0");
	assert_string_equal(back.davit_version, "0.1.0");
	assert_true(back.open_tcp && back.shell_job && back.left_running);
	assert_false(back.file_locks || back.link_remap || back.external_unix_sockets);
	assert_string_equal(back.cgroups_mode, "soft");
	assert_int_equal(back.n_empty, 1);
	assert_string_equal(back.empty_namespaces[0], "net");
	assert_int_equal(back.mounts.n, 2);
	assert_string_equal(back.mounts.v[0].name, "m0");
	assert_string_equal(back.mounts.v[0].root, "/srv/data");
	assert_true(back.mounts.v[0].read_only);
	assert_string_equal(back.mounts.v[1].name, "m12");
	assert_int_equal(back.mounts.v[1].kind, CRIU_MOUNT_CGROUP);
	assert_string_equal(back.mounts.v[1].controllers, "cpu,cpuacct");
	assert_string_equal(back.mounts.v[1].root, "/../davit");
	assert_int_equal(back.n_mountpoints, 2);
	assert_string_equal(back.mountpoints[1].path, r.mountpoints[1].path);
	assert_true(back.mountpoints[0].folder);
	assert_false(back.mountpoints[1].folder);
	assert_int_equal(back.net, CKPT_NET_EMPTY);
	assert_string_equal(back.stdio[0], "");
	assert_string_equal(back.stdio[1], "pipe:[123]");
	assert_string_equal(back.stdio[2], "file[1a:2b]");
	assert_true(back.terminal && back.user_ns);
	assert_string_equal(back.tty, "8803:17");
	assert_string_equal(json_object_to_json_string_ext(back.stats, JSON_C_TO_STRING_PLAIN),
			    "{\"frozen_us\":12,\"phases\":{\"drain\":1.5}}");
	/* what was read writes the same */
	write_record(&back, &again, &n);
	assert_string_equal(text, again);
	free(again);
	free(text);
	ckpt_record_clear(&r);
	ckpt_record_clear(&back);
}

/* The labels' order in memory does not show; every network has a name. */
static void test_same(void **state)
{
	struct ckpt_record r, other;
	char *a, *b;
	size_t n;

	(void)state;
	fill(&r);
	fill(&other);
	json_object_put(other.labels);
	other.labels = json("{\"davitx\": \"kept\", \"a\": \"1\", \"b\": \"2\"}");
	write_record(&r, &a, &n);
	write_record(&other, &b, &n);
	assert_string_equal(a, b);
	free(a);
	free(b);
	for (int i = 0; i < CKPT_NETS; i++) {
		struct ckpt_record back;
		struct fault f;

		r.net = (enum ckpt_net)i;
		write_record(&r, &a, &n);
		assert_int_equal(ckpt_record_read(&back, a, n, &f), 0);
		assert_int_equal(back.net, i);
		ckpt_record_clear(&back);
		free(a);
	}
	ckpt_record_clear(&r);
	ckpt_record_clear(&other);
}

static const char least[] =
	"{\"version\": 1, \"container\": {\"id\": \"a\", \"namespace\": \"n\", \"spec\": {}}, "
	"\"created_at\": 1, \"options\": {}, \"mounts\": [], \"mountpoints\": [], "
	"\"network\": \"host\", \"stdio\": [\"\", \"\", \"\"], \"unknown\": {\"x\": [1]}}";

static void test_least(void **state)
{
	struct ckpt_record r;
	struct fault f = { 0 };

	(void)state;
	if (ckpt_record_read(&r, least, strlen(least), &f) < 0)
		fail_msg("%s", f.message);
	assert_string_equal(r.image, "");
	assert_string_equal(r.cgroups_mode, "");
	assert_string_equal(r.tty, "");
	assert_string_equal(r.kernel, "");
	assert_non_null(r.labels);
	assert_non_null(r.spec);
	assert_non_null(r.stats);
	assert_false(r.terminal || r.user_ns);
	ckpt_record_clear(&r);
	/* an empty one can be written, but says nothing that could be read */
	char *text;
	size_t n;

	ckpt_record_init(&r);
	write_record(&r, &text, &n);
	assert_int_equal(ckpt_record_read(&r, text, n, &f), -EINVAL);
	free(text);
	ckpt_record_clear(&r);
}

/* `member` of the smallest record with another value (NULL: without it); what the fault says */
struct refusal {
	const char *object, *member, *value, *says;
};

static const struct refusal refusals[] = {
	{ NULL, "version", NULL, "version: is missing" },
	{ NULL, "version", "2", "version: is 2" },
	{ NULL, "version", "\"1\"", "version: is no int, but a string" },
	{ NULL, "created_at", NULL, "created_at" },
	{ NULL, "created_at", "-1", "created_at" },
	{ NULL, "created_at", "1.5", "created_at" },
	{ NULL, "criu_version", "5", "criu_version" },
	{ NULL, "kernel", "\"a\\nb\"", "kernel" },
	{ NULL, "container", NULL, "container: is missing" },
	{ NULL, "container", "[]", "container: is no object" },
	{ "container", "id", NULL, "container.id: is missing" },
	{ "container", "id", "\"\"", "container.id" },
	{ "container", "id", "\"../x\"", "container.id: cannot be '../x'" },
	{ "container", "id", "\"a/b\"", "container.id" },
	{ "container", "id", "\"-a\"", "container.id" },
	{ "container", "id", "\"a..b\"", "container.id" },
	{ "container", "id",
	  "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
	  "container.id" },
	{ "container", "namespace", NULL, "container.namespace: is missing" },
	{ "container", "namespace", "\"a b\"", "container.namespace" },
	{ "container", "image", "\"a\\u0001\"", "container.image" },
	{ "container", "image", "{}", "container.image" },
	{ "container", "spec", NULL, "container.spec: is missing" },
	{ "container", "spec", "[]", "container.spec" },
	{ "container", "labels", "[]", "container.labels" },
	{ "container", "labels", "{\"a\": 1}", "'a' is no label" },
	{ "container", "labels", "{\"\": \"x\"}", "is no label" },
	{ NULL, "options", NULL, "options: is missing" },
	{ "options", "open_tcp", "1", "options.open_tcp: is no boolean" },
	{ "options", "cgroups_mode", "\"evil\"", "options.cgroups_mode: cannot be 'evil'" },
	{ "options", "empty_namespaces", "\"net\"", "empty_namespaces" },
	{ "options", "empty_namespaces", "[\"nt\"]", "options.empty_namespaces: cannot be 'nt'" },
	{ "options", "empty_namespaces", "[1]", "options.empty_namespaces" },
	{ "options", "empty_namespaces", "[\"net\", \"net\"]", "has 'net' twice" },
	{ "options", "empty_namespaces",
	  "[\"net\",\"mnt\",\"ipc\",\"pid\",\"uts\",\"user\",\"cgroup\",\"time\",\"x\"]",
	  "has 9 entries; at most 8" },
	{ NULL, "mounts", NULL, "mounts: is missing" },
	{ NULL, "mounts", "{}", "mounts" },
	{ NULL, "mounts", "[1]", "mounts[0]: is no object" },
	{ NULL, "mounts", "[{\"path\": \"/a\", \"kind\": \"bind\"}]",
	  "mounts[0].name: is missing" },
	{ NULL, "mounts", "[{\"name\": \"x0\", \"path\": \"/a\", \"kind\": \"bind\"}]",
	  "its name cannot be 'x0'" },
	{ NULL, "mounts", "[{\"name\": \"m\", \"path\": \"/a\", \"kind\": \"bind\"}]", "its name" },
	{ NULL, "mounts", "[{\"name\": \"m01\", \"path\": \"/a\", \"kind\": \"bind\"}]",
	  "its name" },
	{ NULL, "mounts", "[{\"name\": \"m-1\", \"path\": \"/a\", \"kind\": \"bind\"}]",
	  "its name" },
	{ NULL, "mounts", "[{\"name\": \"m1]:/etc\", \"path\": \"/a\", \"kind\": \"bind\"}]",
	  "its name" },
	{ NULL, "mounts", "[{\"name\": \"m9999999999\", \"path\": \"/a\", \"kind\": \"bind\"}]",
	  "its name" },
	{ NULL, "mounts",
	  "[{\"name\": \"m1\", \"path\": \"/a\", \"kind\": \"bind\"}, "
	  "{\"name\": \"m1\", \"path\": \"/b\", \"kind\": \"bind\"}]",
	  "mounts[1]: its name 'm1' is out of order" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"kind\": \"bind\"}]",
	  "mounts[0].path: is missing" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"a\", \"kind\": \"bind\"}]",
	  "mounts[0].path" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"/\", \"kind\": \"bind\"}]",
	  "mounts[0].path" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"/a/../b\", \"kind\": \"bind\"}]",
	  "mounts[0].path: cannot be '/a/../b'" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"/..\", \"kind\": \"bind\"}]", "path" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"/a/.\", \"kind\": \"bind\"}]", "path" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"//a\", \"kind\": \"bind\"}]", "path" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"/a/\", \"kind\": \"bind\"}]", "path" },
	{ NULL, "mounts", "[{\"name\": \"m0\", \"path\": \"/a\", \"kind\": \"disk\"}]",
	  "the kind 'disk' is unknown" },
	{ NULL, "mounts",
	  "[{\"name\": \"m0\", \"path\": \"/a\", \"kind\": \"bind\", \"root\": \"/x/../y\"}]",
	  "mounts[0].root" },
	{ NULL, "mounts",
	  "[{\"name\": \"m0\", \"path\": \"/a\", \"kind\": \"bind\", \"root\": \"..\"}]",
	  "mounts[0].root" },
	{ NULL, "mounts",
	  "[{\"name\": \"m0\", \"path\": \"/a\", \"kind\": \"cgroup\", \"controllers\": \"a/b\"}]",
	  "mounts[0].controllers" },
	{ NULL, "mounts",
	  "[{\"name\": \"m0\", \"path\": \"/a\", \"kind\": \"cgroup\", \"controllers\": \"..\"}]",
	  "mounts[0].controllers" },
	{ NULL, "mounts",
	  "[{\"name\": \"m0\", \"path\": \"/a\", \"kind\": \"bind\", \"read_only\": 0}]",
	  "mounts[0].read_only" },
	{ NULL, "mountpoints", NULL, "mountpoints: is missing" },
	{ NULL, "mountpoints", "[{\"path\": \"/a\"}]", "mountpoints[0].folder: is missing" },
	{ NULL, "mountpoints", "[{\"path\": \"/a/../../b\", \"folder\": true}]",
	  "mountpoints[0].path" },
	{ NULL, "network", NULL, "network: is missing" },
	{ NULL, "network", "\"bridge\"", "network: cannot be 'bridge'" },
	{ NULL, "stdio", NULL, "stdio: is missing" },
	{ NULL, "stdio", "[\"\", \"\"]", "stdio: has 2 entries" },
	{ NULL, "stdio", "[\"\", \"\", \"\", \"\"]", "stdio: has 4 entries" },
	{ NULL, "stdio", "[\"\", \"\", 1]", "stdio" },
	{ NULL, "stdio", "[\"\", \"\", \"/etc/shadow\"]", "stdio: cannot be '/etc/shadow'" },
	{ NULL, "stdio", "[\"\", \"\", \"pipe:[]\"]", "stdio" },
	{ NULL, "stdio", "[\"\", \"\", \"pipe:[1]x\"]", "stdio" },
	{ NULL, "stdio", "[\"\", \"\", \"file[1:]\"]", "stdio" },
	{ NULL, "stdio", "[\"\", \"\", \"file[1:2\"]", "stdio" },
	{ NULL, "stdio", "[\"\", \"\", \"pipe:[123456789012345678901]\"]", "stdio" },
	{ NULL, "terminal", "\"yes\"", "terminal" },
	{ NULL, "tty", "\"1\"", "tty: cannot be '1'" },
	{ NULL, "tty", "\"1:2:3\"", "tty" },
	{ NULL, "tty", "\"X:1\"", "tty" },
	{ NULL, "user_namespace", "1", "user_namespace" },
	{ NULL, "network_rules", "1", "network_rules" },
	{ NULL, "stats", "[]", "stats" },
	{ NULL, "stats", "{\"a\": \"1\"}", "stats: has what is no number" },
	{ NULL, "stats", "{\"a\": {\"b\": [true]}}", "stats" },
};

static void refused(const char *text, size_t size, const char *says)
{
	struct ckpt_record r;
	struct fault f = { 0 };

	if (ckpt_record_read(&r, text, size, &f) >= 0)
		fail_msg("taken: %s", text);
	if (f.code != FAULT_FAILED_PRECONDITION || !strstr(f.message, says) ||
	    !strstr(f.message, "record"))
		fail_msg("%s: %s, not %s", fault_code_name(f.code), f.message, says);
	assert_null(r.id);
	assert_null(r.spec);
}

static void test_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *c = &refusals[i];
		json_object *j = json(least), *in = j;
		const char *text;

		if (c->object)
			in = json_object_object_get(j, c->object);
		json_object_object_del(in, c->member);
		if (c->value)
			json_object_object_add(in, c->member, json(c->value));
		text = json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN);
		refused(text, strlen(text), c->says);
		json_object_put(j);
	}
}

static void test_no_json(void **state)
{
	static const char nul[] = "{\"version\": 1, \"container\": \"a\0b\"}";

	(void)state;
	refused("", 0, "not a JSON text");
	refused("[]", 2, "is no object");
	refused("null", 4, "is no object");
	refused(least, sizeof(least) - 5, "not a JSON text");
	refused(nul, sizeof(nul) - 1, "not a JSON text");
	refused("{\"version\": 1, \"version\": 1}", 28, "not a JSON text");
	/* without anybody who wants to know */
	struct ckpt_record r;

	assert_int_equal(ckpt_record_read(&r, "x", 1, NULL), -EINVAL);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

/* A list of `n` entries of "mountpoints", or of labels. */
static char *many(const char *member, const char *begin, const char *end, const char *fmt, size_t n)
{
	char *text = NULL, *p;
	size_t size;
	FILE *to = open_memstream(&text, &size);

	assert_non_null(to);
	p = strstr(least, member);
	fprintf(to, "%.*s%s", (int)(p - least), least, begin);
	for (size_t i = 0; i < n; i++) {
		fputs(i ? "," : "", to);
		fprintf(to, fmt, i);
	}
	fprintf(to, "%s%s", end, p + strlen(member));
	fclose(to);
	return text;
}

static void test_limits(void **state)
{
	struct ckpt_record r;
	struct fault f = { 0 };
	char *text, *value;

	(void)state;
	text = many("\"mountpoints\": []", "\"mountpoints\": [", "]",
		    "{\"path\": \"/m%zu\", \"folder\": true}", LIMIT_CHECKPOINT_MOUNTS);
	assert_int_equal(ckpt_record_read(&r, text, strlen(text), &f), 0);
	assert_int_equal(r.n_mountpoints, LIMIT_CHECKPOINT_MOUNTS);
	ckpt_record_clear(&r);
	free(text);
	text = many("\"mountpoints\": []", "\"mountpoints\": [", "]",
		    "{\"path\": \"/m%zu\", \"folder\": true}", LIMIT_CHECKPOINT_MOUNTS + 1);
	refused(text, strlen(text), "mountpoints: has 10001 entries");
	free(text);
	text = many("\"mounts\": []", "\"mounts\": [", "]",
		    "{\"name\": \"m%zu\", \"path\": \"/a\", \"kind\": \"mask\"}",
		    LIMIT_CHECKPOINT_MOUNTS + 1);
	refused(text, strlen(text), "mounts: has 10001 entries");
	free(text);
	text = many("\"spec\": {}", "\"spec\": {}, \"labels\": {", "}", "\"k%zu\": \"v\"",
		    LIMIT_LABELS);
	assert_int_equal(ckpt_record_read(&r, text, strlen(text), &f), 0);
	assert_int_equal(json_object_object_length(r.labels), LIMIT_LABELS);
	ckpt_record_clear(&r);
	free(text);
	text = many("\"spec\": {}", "\"spec\": {}, \"labels\": {", "}", "\"k%zu\": \"v\"",
		    LIMIT_LABELS + 1);
	refused(text, strlen(text), "container.labels: has more than 1024");
	free(text);
	/* a label, a path, a name of one byte too much */
	value = calloc(1, LIMIT_LABEL_BYTES + 2);
	assert_non_null(value);
	memset(value, 'x', LIMIT_LABEL_BYTES);
	text = many("\"spec\": {}", "\"spec\": {}, \"labels\": {\"k\": \"", "\"}", value, 1);
	refused(text, strlen(text), "longer than a label may be");
	free(text);
	value[LIMIT_LABEL_BYTES - 1] = '\0';
	text = many("\"spec\": {}", "\"spec\": {}, \"labels\": {\"k\": \"", "\"}", value, 1);
	assert_int_equal(ckpt_record_read(&r, text, strlen(text), &f), 0);
	ckpt_record_clear(&r);
	free(text);
	memset(value, 'x', LIMIT_NAME_BYTES + 1);
	text = many("\"spec\": {}", "\"spec\": {}, \"image\": \"", "\"", value, 1);
	refused(text, strlen(text), "container.image");
	free(text);
	free(value);
	/* the whole */
	text = calloc(1, LIMIT_CHECKPOINT_RECORD_BYTES + 1);
	assert_non_null(text);
	memset(text, ' ', LIMIT_CHECKPOINT_RECORD_BYTES + 1);
	refused(text, LIMIT_CHECKPOINT_RECORD_BYTES + 1, "at most 16777216");
	free(text);
}

#pragma GCC diagnostic pop

static void test_reserved(void **state)
{
	(void)state;
	assert_true(ckpt_label_reserved("containerd.io/restart.status"));
	assert_true(ckpt_label_reserved("davit.auto-remove"));
	assert_false(ckpt_label_reserved("containerd.iox"));
	assert_false(ckpt_label_reserved("davit"));
	assert_false(ckpt_label_reserved("org.davit.x"));
	/* those that somebody has written into it do not come out */
	json_object *j = json(least);
	struct ckpt_record r;
	struct fault f = { 0 };
	const char *text;

	json_object_object_add(json_object_object_get(j, "container"), "labels",
			       json("{\"containerd.io/gc.root\": \"x\", \"davit.auto-remove\": "
				    "\"true\", \"a\": \"1\", \"empty\": \"\"}"));
	text = json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN);
	assert_int_equal(ckpt_record_read(&r, text, strlen(text), &f), 0);
	assert_string_equal(json_object_to_json_string_ext(r.labels, JSON_C_TO_STRING_PLAIN),
			    "{\"a\":\"1\"}");
	ckpt_record_clear(&r);
	json_object_put(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round),	 cmocka_unit_test(test_same),
		cmocka_unit_test(test_least),	 cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_no_json),	 cmocka_unit_test(test_limits),
		cmocka_unit_test(test_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
