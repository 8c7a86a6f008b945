// SPDX-License-Identifier: Apache-2.0
/* Leases: records, resources, time, and those that davit holds for its own work. */
#include <errno.h>

#include "content_kit.h"

#include "store/lease.h"
#include "util/clock.h"
#include "util/limits.h"
#include "util/rfc3339.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"

struct seen {
	char text[4096];
	int64_t expires_at, created_at;
	size_t n, stop;
};

static int note(void *user, const struct lease_info *info)
{
	struct seen *s = user;

	strcat(strcat(s->text, info->id), " ");
	for (size_t i = 0; i < info->n_labels; i++)
		strcat(strcat(strcat(strcat(s->text, info->labels[i].key), "="),
			      info->labels[i].value),
		       " ");
	s->expires_at = info->expires_at;
	s->created_at = info->created_at;
	return s->stop && ++s->n == s->stop;
}

static int note_resource(void *user, const char *type, const char *id)
{
	struct seen *s = user;

	strcat(strcat(strcat(strcat(s->text, type), ":"), id), " ");
	return 0;
}

static const char *list(struct kit *k, const char *ns, const char *after, struct seen *s)
{
	struct store_call c = kit_call(k, ns);

	*s = (struct seen){ 0 };
	OK(lease_list(&c, after, note, s));
	return s->text;
}

static const char *resources(struct kit *k, const char *id, struct seen *s)
{
	*s = (struct seen){ 0 };
	OK(lease_resources(&k->c, id, "", note_resource, s));
	return s->text;
}

static void test_create(void **state)
{
	struct kit *k = *state;
	struct db_label labels[] = { { "a", "1" }, { "none", "" }, { "b", "2" } };
	struct store_call other = kit_call(k, "other");
	int64_t before = clock_now();
	struct seen s = { 0 };

	OK(lease_create(&k->c, "one", labels, 3, 0, note, &s));
	assert_string_equal(s.text, "one a=1 b=2 ");
	assert_int_equal(s.expires_at, 0);
	assert_true(s.created_at >= before && s.created_at <= clock_now());
	FAILS(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL), -EEXIST, FAULT_ALREADY_EXISTS,
	      "the lease 'one' exists");
	OK(lease_create(&other, "one", NULL, 0, 0, NULL, NULL));
	s = (struct seen){ 0 };
	OK(lease_create(&k->c, NULL, NULL, 0, before + 3600 * CLOCK_NS_PER_SEC, note, &s));
	assert_int_equal(strlen(s.text), strlen("davit-0123456789abcdef "));
	assert_int_equal(s.expires_at, before + 3600 * CLOCK_NS_PER_SEC);
	OK(lease_create(&k->c, "", NULL, 0, 0, note, &s));
	OK(lease_create(&k->c, "zwei", NULL, 0, 0, NULL, NULL));
	assert_non_null(strstr(list(k, "default", "", &s), "one a=1 b=2 zwei "));
	assert_string_equal(list(k, "default", "one", &s), "zwei ");
	assert_string_equal(list(k, "other", "", &s), "one ");
	assert_string_equal(list(k, "nobody", "", &s), "");
	s = (struct seen){ .stop = 2 };
	assert_int_equal(lease_list(&k->c, "", note, &s), 1);
	assert_int_equal(s.n, 2);
}

static void test_delete(void **state)
{
	struct kit *k = *state;
	struct seen s;

	OK(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL));
	OK(lease_add(&k->c, "one", LEASE_CONTENT, D1));
	OK(lease_delete(&k->c, "one"));
	FAILS(lease_delete(&k->c, "one"), -ENOENT, FAULT_NOT_FOUND, "no lease 'one'");
	FAILS(lease_resources(&k->c, "one", "", note_resource, &s), -ENOENT, FAULT_NOT_FOUND,
	      "'one'");
	/* the name can be taken again, and is empty */
	OK(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL));
	assert_string_equal(resources(k, "one", &s), "");
}

static void test_resources(void **state)
{
	char long_id[LIMIT_NAME_BYTES + 2] = "";
	struct kit *k = *state;
	struct seen s;

	OK(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL));
	OK(lease_add(&k->c, "one", LEASE_CONTENT, D1));
	OK(lease_add(&k->c, "one", LEASE_CONTENT, D1));
	OK(lease_add(&k->c, "one", LEASE_INGESTS, "a ref/with anything"));
	OK(lease_add(&k->c, "one", LEASE_IMAGES, "docker.io/x:1"));
	OK(lease_add(&k->c, "one", LEASE_SNAPSHOTS "overlayfs", "key"));
	assert_string_equal(resources(k, "one", &s),
			    "content:" D1 " images:docker.io/x:1 ingests:a ref/with anything "
			    "snapshots/overlayfs:key ");
	s = (struct seen){ 0 };
	OK(lease_resources(&k->c, "one", "images docker.io/x:1", note_resource, &s));
	assert_string_equal(s.text, "ingests:a ref/with anything snapshots/overlayfs:key ");
	s = (struct seen){ 0 };
	OK(lease_resources(&k->c, "one", "ingests a ref/with anything", note_resource, &s));
	assert_string_equal(s.text, "snapshots/overlayfs:key ");
	OK(lease_remove(&k->c, "one", LEASE_CONTENT, D1));
	OK(lease_remove(&k->c, "one", LEASE_CONTENT, D1));
	OK(lease_remove(&k->c, "one", LEASE_IMAGES, "docker.io/x:1"));
	assert_string_equal(resources(k, "one", &s),
			    "ingests:a ref/with anything snapshots/overlayfs:key ");
	FAILS(lease_add(&k->c, "no", LEASE_CONTENT, D1), -ENOENT, FAULT_NOT_FOUND, "'no'");
	FAILS(lease_remove(&k->c, "no", LEASE_CONTENT, D1), -ENOENT, FAULT_NOT_FOUND, "'no'");
	FAILS(lease_add(&k->c, "one", "contents", D1), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "'contents'");
	FAILS(lease_add(&k->c, "one", "snapshots/", "x"), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "snapshots/SNAPSHOTTER");
	FAILS(lease_add(&k->c, "one", "snapshots", "x"), -EINVAL, FAULT_INVALID_ARGUMENT, "");
	FAILS(lease_remove(&k->c, "one", "snapshots/a/b", "x"), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "");
	FAILS(lease_add(&k->c, "one", LEASE_IMAGES, ""), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "1 to 4096 bytes");
	memset(long_id, 'x', LIMIT_NAME_BYTES + 1);
	FAILS(lease_add(&k->c, "one", LEASE_IMAGES, long_id), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "1 to 4096 bytes");
	long_id[LIMIT_NAME_BYTES] = '\0';
	OK(lease_add(&k->c, "one", LEASE_IMAGES, long_id));
}

static void test_too_many_resources(void **state)
{
	struct kit *k = *state;
	char text[512];

	OK(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL));
	snprintf(text, sizeof(text),
		 "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u) "
		 "INSERT INTO lease_resources SELECT 'default', 'one', 'images', "
		 "printf('%%08d', i) FROM n",
		 LIMIT_LEASE_RESOURCES - 1);
	assert_int_equal(sqlite3_exec(k->db->sql, text, NULL, NULL, NULL), SQLITE_OK);
	OK(lease_add(&k->c, "one", LEASE_IMAGES, "last"));
	FAILS(lease_add(&k->c, "one", LEASE_IMAGES, "more"), -E2BIG, FAULT_RESOURCE_EXHAUSTED,
	      "the lease 'one' has 1000000 resources");
}

static void test_join(void **state)
{
	struct kit *k = *state;
	struct store_call c = k->c;
	struct seen s;

	OK(lease_join(&c, LEASE_CONTENT, D1));
	c.lease = "";
	OK(lease_join(&c, LEASE_CONTENT, D1));
	c.lease = "one";
	FAILS(lease_join(&c, LEASE_CONTENT, D1), -ENOENT, FAULT_NOT_FOUND, "no lease 'one'");
	OK(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL));
	OK(lease_join(&c, LEASE_CONTENT, D1));
	assert_string_equal(resources(k, "one", &s), "content:" D1 " ");
	/* in the caller's transaction: all or nothing */
	OK(db_begin(k->db, DB_FULL, &k->f));
	OK(lease_join(&c, LEASE_IMAGES, "i"));
	db_rollback(k->db);
	assert_string_equal(resources(k, "one", &s), "content:" D1 " ");
	/* another namespace's is another */
	c.ns = "other";
	FAILS(lease_join(&c, LEASE_CONTENT, D1), -ENOENT, FAULT_NOT_FOUND, "no lease 'one'");
}

static void test_expired(void **state)
{
	struct kit *k = *state;
	struct store_call c = k->c;
	struct seen s;

	c.lease = "one";
	OK(lease_create(&k->c, "one", NULL, 0, clock_now() + 60 * CLOCK_NS_PER_SEC, NULL, NULL));
	OK(lease_join(&c, LEASE_CONTENT, D1));
	assert_int_equal(
		sqlite3_exec(k->db->sql, "UPDATE leases SET expires_at = 1", NULL, NULL, NULL),
		SQLITE_OK);
	FAILS(lease_join(&c, LEASE_CONTENT, D1), -ENOENT, FAULT_NOT_FOUND, "'one'");
	FAILS(lease_add(&k->c, "one", LEASE_CONTENT, D1), -ENOENT, FAULT_NOT_FOUND, "'one'");
	/* it is shown until it is collected */
	assert_string_equal(list(k, "default", "", &s), "one ");
	/* and may be made anew, empty */
	OK(lease_create(&k->c, "one", NULL, 0, 0, NULL, NULL));
	assert_string_equal(resources(k, "one", &s), "");
	OK(lease_join(&c, LEASE_CONTENT, D1));
}

static void test_expire_label(void **state)
{
	struct kit *k = *state;
	struct db_label label = { "containerd.io/gc.expire", "2031-02-03T04:05:06.5+01:00" };
	struct seen s = { 0 };

	OK(lease_create(&k->c, "one", &label, 1, 0, note, &s));
	assert_int_equal(s.expires_at, 1927854306500000000ll);
	/* what is said by the call goes first */
	OK(lease_create(&k->c, "two", &label, 1, 1927854306500000001ll, note, &s));
	assert_int_equal(s.expires_at, 1927854306500000001ll);
	label.value = "1970-01-01T00:00:00Z";
	OK(lease_create(&k->c, "three", &label, 1, 0, note, &s));
	assert_int_equal(s.expires_at, 1);
	label.value = "tomorrow";
	FAILS(lease_create(&k->c, "four", &label, 1, 0, NULL, NULL), -EINVAL,
	      FAULT_INVALID_ARGUMENT, "containerd.io/gc.expire is 'tomorrow'");
	assert_string_equal(k->f.argument, "labels");
}

static void test_rfc3339(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "1970-01-01t00:00:00z", 0 },
		{ "2026-11-22T15:33:39Z", 1795361619000000000ll },
		{ "2026-11-22T15:33:39.123456789Z", 1795361619123456789ll },
		{ "2026-11-22T15:33:39.1234567899Z", 1795361619123456789ll },
		{ "2026-11-22T10:03:39-05:30", 1795361619000000000ll },
		{ "2024-02-29T00:00:00+00:00", 1709164800000000000ll },
		{ "2016-12-31T23:59:60Z", 1483228800000000000ll },
		{ "1969-12-31T23:59:59.5Z", -500000000ll },
	};
	static const char *const bad[] = {
		"",
		"2026",
		"2026-11-22",
		"2026-11-22T15:33:39",
		"2026-11-22 15:33:39Z",
		"2026-11-22T15:33:39.Z",
		"2026-11-22T15:33:39Z ",
		"2026-13-22T15:33:39Z",
		"2026-00-22T15:33:39Z",
		"2026-02-29T15:33:39Z",
		"1900-02-29T15:33:39Z",
		"2026-11-31T15:33:39Z",
		"2026-11-00T15:33:39Z",
		"2026-11-22T24:33:39Z",
		"2026-11-22T15:60:39Z",
		"2026-11-22T15:33:61Z",
		"2026-11-22T15:33:39+0100",
		"2026-11-22T15:33:39+24:00",
		"2026-11-22T15:33:39+01:60",
		"-026-11-22T15:33:39Z",
		"3600",
	};
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(rfc3339_parse(good[i].text, &ns), 0);
		assert_int_equal(ns, good[i].ns);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (rfc3339_parse(bad[i], &ns) != -EINVAL)
			fail_msg("%s", bad[i]);
	assert_int_equal(rfc3339_parse("9999-01-01T00:00:00Z", &ns), 0);
	assert_true(ns == INT64_MAX);
	assert_int_equal(rfc3339_parse("0001-01-01T00:00:00Z", &ns), 0);
	assert_true(ns == INT64_MIN);
}

static void test_hold(void **state)
{
	struct kit *k = *state;
	struct store_call c = k->c;
	struct lease_hold hold;
	int64_t now = clock_now();
	struct seen s;

	OK(lease_hold(&c, &hold));
	assert_string_equal(c.lease, hold.id);
	assert_non_null(strstr(list(k, "default", "", &s), LEASE_LABEL_TRANSIENT "=true"));
	assert_true(s.expires_at > now + 23 * 3600 * CLOCK_NS_PER_SEC);
	OK(lease_join(&c, LEASE_CONTENT, D1));
	assert_string_equal(resources(k, hold.id, &s), "content:" D1 " ");
	lease_release(&c, &hold);
	assert_null(c.lease);
	assert_string_equal(list(k, "default", "", &s), "");
	lease_release(&c, &hold);

	/* one that the caller has is the caller's */
	OK(lease_create(&k->c, "own", NULL, 0, 0, NULL, NULL));
	c.lease = "own";
	OK(lease_hold(&c, &hold));
	assert_string_equal(c.lease, "own");
	lease_release(&c, &hold);
	assert_string_equal(c.lease, "own");
	assert_string_equal(list(k, "default", "", &s), "own ");
}

static void test_transient(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct lease_hold a, b;
	struct seen s;

	OK(lease_create(&k->c, "kept", NULL, 0, 0, NULL, NULL));
	OK(lease_add(&k->c, "kept", LEASE_CONTENT, D1));
	OK(lease_hold(&other, &a));
	OK(lease_join(&other, LEASE_IMAGES, "x"));
	OK(lease_hold(&k->c, &b));
	k->c.lease = NULL;
	/* labels that somebody has spoilt are no reason not to start */
	assert_int_equal(sqlite3_exec(k->db->sql,
				      "INSERT INTO leases VALUES ('default', 'odd', '{', 1, 0)",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	kit_close(k);
	kit_open(k);
	assert_string_equal(list(k, "other", "", &s), "");
	assert_int_equal(
		sqlite3_exec(k->db->sql, "DELETE FROM leases WHERE id = 'odd'", NULL, NULL, NULL),
		SQLITE_OK);
	assert_string_equal(list(k, "default", "", &s), "kept ");
	assert_string_equal(resources(k, "kept", &s), "content:" D1 " ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_create, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_delete, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_resources, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_too_many_resources, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_join, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_expired, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_expire_label, kit_setup, kit_teardown),
		cmocka_unit_test(test_rfc3339),
		cmocka_unit_test_setup_teardown(test_hold, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_transient, kit_setup, kit_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
