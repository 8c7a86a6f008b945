// SPDX-License-Identifier: Apache-2.0
/* Ingests: going on where they were, one writer a ref, commits, a full disk, what a start finds. */
#include "content_kit.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/ingest_internal.h"
#include "store/lease.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define HELLO "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
#define HEL "sha256:d6a81f224bbf2f7c22baddbd5d40730eb20cfb0b3d74e10cab61788214caceb1"
#define NONE "sha256:0000000000000000000000000000000000000000000000000000000000000000"

struct seen {
	char ref[64], expected[DIGEST_TEXT], digest[DIGEST_TEXT], all[512];
	uint64_t offset;
	int64_t total, started_at, updated_at;
	size_t n, stop;
};

static int see(void *user, const struct ingest_status *s)
{
	struct seen *x = user;
	size_t n = strlen(x->all);

	snprintf(x->ref, sizeof(x->ref), "%s", s->ref);
	snprintf(x->expected, sizeof(x->expected), "%s", s->expected);
	snprintf(x->digest, sizeof(x->digest), "%s", s->digest);
	if (n + strlen(s->ref) + 2 < sizeof(x->all))
		snprintf(x->all + n, sizeof(x->all) - n, "%s;", s->ref);
	x->offset = s->offset;
	x->total = s->total;
	x->started_at = s->started_at;
	x->updated_at = s->updated_at;
	x->n++;
	return x->stop && x->n == x->stop;
}

static size_t folder_entries(struct kit *k, const char *name)
{
	char path[200];
	DIR *dir = opendir(kit_path(k, path, sizeof(path), name));
	struct dirent *e;
	size_t n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static struct ingest *begin(struct kit *k, const char *ref, const char *text)
{
	struct ingest *i;

	OK(ingest_open(&k->c, ref, NULL, -1, &i));
	if (text[0])
		OK(ingest_write(i, text, strlen(text), &k->f));
	return i;
}

static void test_write(void **state)
{
	struct kit *k = *state;
	const struct db_label labels[] = { { "a", "1" }, { "b", "" } };
	struct ingest_status status;
	struct ingest *i;
	struct digest d;
	char path[200];
	struct stat st;

	OK(ingest_open(&k->c, "layer-1", HELLO, 6, &i));
	assert_int_equal(ingest_offset(i), 0);
	OK(ingest_digest(i, &d));
	assert_string_equal(
		d.text, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	OK(ingest_write(i, "hel", 3, &k->f));
	OK(ingest_write(i, "", 0, &k->f));
	OK(ingest_write(i, "lo\n", 3, &k->f));
	assert_int_equal(ingest_offset(i), 6);
	ingest_status(i, &status);
	assert_string_equal(status.ref, "layer-1");
	assert_int_equal(status.offset, 6);
	assert_int_equal(status.total, 6);
	assert_string_equal(status.expected, HELLO);
	assert_true(status.updated_at >= status.started_at && status.started_at > 0);
	FAILS(ingest_write(i, "x", 1, &k->f), -ERANGE, FAULT_OUT_OF_RANGE,
	      "1 bytes at 6 are more than its total of 6");
	OK(ingest_commit(&k->c, i, 6, HELLO, labels, 2, &d));
	assert_string_equal(d.text, HELLO);
	assert_int_equal(folder_entries(k, "content/ingest"), 0);
	assert_int_equal(kit_events(k, "/content/create"), 1);
	kit_path(k, path, sizeof(path), "content/blobs/sha256/");
	strcat(path, &HELLO[7]);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0444);
	assert_int_equal(st.st_nlink, 1);
	OK(content_verify(&k->c, HELLO));
	FAILS(ingest_get(&k->c, "layer-1", see, NULL), -ENOENT, FAULT_NOT_FOUND, "layer-1");
}

static void test_refs(void **state)
{
	struct kit *k = *state;
	char *longest = malloc(LIMIT_REF_BYTES + 2);
	struct seen seen = { 0 };
	struct ingest *i;

	FAILS(ingest_open(&k->c, "", NULL, -1, &i), -EINVAL, FAULT_INVALID_ARGUMENT, "empty");
	FAILS(ingest_open(&k->c, NULL, NULL, -1, &i), -EINVAL, FAULT_INVALID_ARGUMENT, "empty");
	assert_null(i);
	memset(longest, 'x', LIMIT_REF_BYTES + 1);
	longest[LIMIT_REF_BYTES + 1] = '\0';
	FAILS(ingest_open(&k->c, longest, NULL, -1, &i), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "more than 4096 bytes");
	assert_string_equal(k->f.argument, "ref");
	FAILS(ingest_abort(&k->c, longest), -EINVAL, FAULT_INVALID_ARGUMENT, "more than");
	FAILS(ingest_get(&k->c, "", see, &seen), -EINVAL, FAULT_INVALID_ARGUMENT, "empty");
	longest[LIMIT_REF_BYTES] = '\0';
	OK(ingest_open(&k->c, longest, NULL, -1, &i));
	ingest_close(i);
	/* any text, and over a restart too */
	ingest_close(begin(k, "../../../etc/passwd", "a"));
	ingest_close(begin(k, "a/b/\n\xff", "b"));
	kit_close(k);
	kit_open(k);
	OK(ingest_list(&k->c, "", see, &seen));
	assert_int_equal(seen.n, 3);
	OK(ingest_open(&k->c, longest, NULL, -1, &i));
	ingest_discard(i);
	assert_int_equal(folder_entries(k, "content/ingest"), 2);
	FAILS(ingest_open(&k->c, "x", "sha256:x", -1, &i), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "is not a digest");
	assert_string_equal(k->f.argument, "expected");
	free(longest);
}

static void test_locked(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct ingest *i = begin(k, "r", "x"), *second;

	FAILS(ingest_open(&k->c, "r", NULL, -1, &second), -EBUSY, FAULT_UNAVAILABLE,
	      "ref r locked");
	assert_null(second);
	FAILS(ingest_abort(&k->c, "r"), -EBUSY, FAULT_UNAVAILABLE, "ref r locked");
	/* another namespace's is another one */
	OK(ingest_open(&other, "r", NULL, -1, &second));
	ingest_close(second);
	ingest_close(i);
	OK(ingest_open(&k->c, "r", NULL, -1, &second));
	assert_int_equal(ingest_offset(second), 1);
	ingest_discard(second);
	FAILS(ingest_abort(&k->c, "r"), -ENOENT, FAULT_NOT_FOUND, "no ingest r");
	OK(ingest_abort(&other, "r"));
	assert_int_equal(folder_entries(k, "content/ingest"), 0);
	ingest_close(NULL);
	ingest_discard(NULL);
}

static void resume(struct kit *k)
{
	struct ingest *i;
	struct digest d;

	OK(ingest_open(&k->c, "r", NULL, -1, &i));
	assert_int_equal(ingest_offset(i), 3);
	OK(ingest_write(i, "lo\n", 3, &k->f));
	OK(ingest_commit(&k->c, i, -1, HELLO, NULL, 0, &d));
	OK(content_verify(&k->c, HELLO));
}

static void test_resume(void **state)
{
	struct kit *k = *state;
	struct seen seen = { 0 };

	ingest_close(begin(k, "r", "hel"));
	OK(ingest_get(&k->c, "r", see, &seen));
	assert_int_equal(seen.offset, 3);
	assert_int_equal(seen.total, -1);
	assert_string_equal(seen.expected, "");
	resume(k);
}

static void test_resume_after_restart(void **state)
{
	struct kit *k = *state;
	struct seen before = { 0 }, after = { 0 };
	struct ingest *i;

	OK(ingest_open(&k->c, "r", NONE, 6, &i));
	OK(ingest_write(i, "hel", 3, &k->f));
	ingest_close(i);
	OK(ingest_get(&k->c, "r", see, &before));
	kit_close(k);
	kit_open(k);
	OK(ingest_get(&k->c, "r", see, &after));
	assert_int_equal(after.offset, 3);
	assert_int_equal(after.total, 6);
	assert_string_equal(after.expected, NONE);
	assert_int_equal(after.started_at, before.started_at);
	assert_true(after.updated_at >= before.updated_at);
	resume(k);
}

/* Killed: the writer never left. */
static void test_resume_after_kill(void **state)
{
	struct kit *k = *state;

	begin(k, "r", "hel");
	kit_close(k); /* the entry goes with the table, the files are as the writer left them */
	kit_open(k);
	resume(k);
}

static void test_rehash_can_be_cancelled(void **state)
{
	struct kit *k = *state;
	struct cancel cancel = { 0 };
	struct ingest *i;

	ingest_close(begin(k, "r", "hel"));
	kit_close(k);
	kit_open(k);
	cancel_set(&cancel);
	k->c.cancel = &cancel;
	FAILS(ingest_open(&k->c, "r", NULL, -1, &i), -ECANCELED, FAULT_CANCELLED, "");
	k->c.cancel = NULL;
	resume(k);
}

/* Somebody has changed the file behind davit's back: what is there counts. */
static void test_changed_file(void **state)
{
	struct kit *k = *state;
	char path[200];
	struct ingest *i = begin(k, "r", "hello\n");
	struct digest d;

	snprintf(path, sizeof(path), "%s/content/ingest/%s/data", k->path, i->name);
	ingest_close(i);
	assert_int_equal(truncate(path, 3), 0);
	resume(k);

	i = begin(k, "gone", "x");
	snprintf(path, sizeof(path), "%s/content/ingest/%s/data", k->path, i->name);
	ingest_close(i);
	assert_int_equal(unlink(path), 0);
	FAILS(ingest_open(&k->c, "gone", NULL, -1, &i), -ENOENT, FAULT_NOT_FOUND, "data");
	OK(ingest_abort(&k->c, "gone"));
	i = begin(k, "gone", "x");
	OK(ingest_commit(&k->c, i, -1, NULL, NULL, 0, &d));
}

static void test_totals(void **state)
{
	struct kit *k = *state;
	struct seen seen = { 0 };
	struct ingest *i;
	struct digest d;

	/* the first to say a total sets it */
	ingest_close(begin(k, "r", "hel"));
	OK(ingest_open(&k->c, "r", NULL, 6, &i));
	assert_int_equal(ingest_offset(i), 3);
	ingest_close(i);
	/* who does not say one goes on */
	OK(ingest_open(&k->c, "r", NULL, -1, &i));
	assert_int_equal(ingest_offset(i), 3);
	ingest_close(i);
	/* another total is another content */
	OK(ingest_open(&k->c, "r", NULL, 7, &i));
	assert_int_equal(ingest_offset(i), 0);
	OK(ingest_write(i, "1234567", 7, &k->f));
	OK(ingest_digest(i, &d));
	assert_string_equal(
		d.text, "sha256:8bb0cf6eb9b17d0f7d22b456f121257dc1254e1f01665370476383ea776df414");
	/* back to the beginning */
	OK(ingest_restart(i, -1, &k->f));
	assert_int_equal(ingest_offset(i), 0);
	OK(ingest_write(i, "hello\n", 6, &k->f));
	ingest_close(i);
	OK(ingest_get(&k->c, "r", see, &seen));
	assert_int_equal(seen.total, -1);
	/* less than there is */
	OK(ingest_open(&k->c, "r", NULL, 5, &i));
	assert_int_equal(ingest_offset(i), 0);
	OK(ingest_restart(i, 6, &k->f));
	OK(ingest_write(i, "hello\n", 6, &k->f));
	OK(ingest_commit(&k->c, i, 6, HELLO, NULL, 0, &d));
	OK(content_verify(&k->c, HELLO));
}

static void test_commit_checks(void **state)
{
	struct kit *k = *state;
	struct ingest *i = begin(k, "r", "hello\n");
	struct digest d;

	FAILS(ingest_commit(&k->c, i, 7, NULL, NULL, 0, &d), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "ref r has the size 6, expected was 7");
	assert_string_equal(d.text, HELLO);
	FAILS(ingest_commit(&k->c, i, 6, NONE, NULL, 0, &d), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "has the digest " HELLO ", expected was " NONE);
	assert_string_equal(d.text, HELLO);
	FAILS(ingest_commit(&k->c, i, 6, "md5:x", NULL, 0, &d), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "is not a digest");
	assert_int_equal(content_has(&k->c, HELLO), 0);
	assert_int_equal(kit_events(k, "/content/create"), 0);
	/* it is still the writer's */
	OK(ingest_write(i, "more", 4, &k->f));
	OK(ingest_restart(i, -1, &k->f));
	OK(ingest_write(i, "hello\n", 6, &k->f));
	OK(ingest_commit(&k->c, i, 6, HELLO, NULL, 0, &d));
}

static void test_already_exists(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct ingest *i, *second;
	struct digest d;

	ingest_close(begin(k, "r", "hel"));
	i = begin(k, "s", "hello\n");
	second = begin(k, "t", "hello\n");
	OK(ingest_commit(&k->c, i, -1, NULL, NULL, 0, &d));
	/* at once, and the ingest goes */
	FAILS(ingest_open(&k->c, "r", HELLO, -1, &i), -EEXIST, FAULT_ALREADY_EXISTS, HELLO);
	assert_null(i);
	FAILS(ingest_get(&k->c, "r", see, NULL), -ENOENT, FAULT_NOT_FOUND, "r");
	/* one with a writer stays that writer's */
	FAILS(ingest_open(&k->c, "t", HELLO, -1, &i), -EEXIST, FAULT_ALREADY_EXISTS, HELLO);
	FAILS(ingest_commit(&k->c, second, 6, HELLO, NULL, 0, &d), -EEXIST, FAULT_ALREADY_EXISTS,
	      HELLO);
	assert_string_equal(d.text, HELLO);
	assert_int_equal(folder_entries(k, "content/ingest"), 0);
	assert_int_equal(kit_events(k, "/content/create"), 1);
	/* what another namespace has is given */
	assert_int_equal(content_has(&other, HELLO), 0);
	FAILS(ingest_open(&other, "r", HELLO, 6, &i), -EEXIST, FAULT_ALREADY_EXISTS, HELLO);
	assert_int_equal(content_has(&other, HELLO), 1);
	assert_int_equal(kit_events(k, "/content/create"), 2);
	/* a blob whose file was removed can be written again */
	OK(content_delete(&other, HELLO));
	assert_int_equal(unlinkat(k->s->blobs_fd, &HELLO[7], 0), 0);
	OK(ingest_open(&k->c, "r", HELLO, -1, &i));
	OK(ingest_write(i, "hello\n", 6, &k->f));
	FAILS(ingest_commit(&k->c, i, 6, HELLO, NULL, 0, &d), -EEXIST, FAULT_ALREADY_EXISTS, HELLO);
	OK(content_verify(&k->c, HELLO));
}

struct resources {
	char all[512];
};

static int add_resource(void *user, const char *type, const char *id)
{
	struct resources *r = user;
	size_t n = strlen(r->all);

	snprintf(r->all + n, sizeof(r->all) - n, "%s %.14s;", type, id);
	return 0;
}

static const char *resources(struct kit *k, const char *lease, struct resources *r)
{
	r->all[0] = '\0';
	OK(lease_resources(&k->c, lease, "", add_resource, r));
	return r->all;
}

static void test_leases(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct resources r;
	struct ingest *i;
	struct digest d;

	OK(lease_create(&k->c, "l", NULL, 0, 0, NULL, NULL));
	OK(lease_create(&k->c, "m", NULL, 0, 0, NULL, NULL));
	k->c.lease = "l";
	i = begin(k, "r", "hello\n");
	assert_string_equal(resources(k, "l", &r), "ingests r;");
	OK(ingest_commit(&k->c, i, -1, NULL, NULL, 0, &d));
	assert_string_equal(resources(k, "l", &r), "content sha256:5891b5b;");
	k->c.lease = "m";
	FAILS(ingest_open(&k->c, "r", HELLO, -1, &i), -EEXIST, FAULT_ALREADY_EXISTS, HELLO);
	assert_string_equal(resources(k, "m", &r), "content sha256:5891b5b;");
	/* a commit of what is there joins too */
	OK(lease_remove(&k->c, "m", LEASE_CONTENT, HELLO));
	i = begin(k, "r", "hello\n");
	FAILS(ingest_commit(&k->c, i, -1, NULL, NULL, 0, &d), -EEXIST, FAULT_ALREADY_EXISTS, HELLO);
	assert_string_equal(resources(k, "m", &r), "content sha256:5891b5b;");
	/* no such lease: nothing is left of the attempt */
	k->c.lease = "none";
	FAILS(ingest_open(&k->c, "r", NULL, -1, &i), -ENOENT, FAULT_NOT_FOUND, "none");
	FAILS(ingest_open(&k->c, "r", HELLO, -1, &i), -ENOENT, FAULT_NOT_FOUND, "none");
	assert_int_equal(folder_entries(k, "content/ingest"), 0);
	/* one that is gone at the commit: the ingest stays, the blob is not there */
	k->c.lease = "m";
	i = begin(k, "r", "other");
	OK(lease_delete(&k->c, "m"));
	FAILS(ingest_commit(&k->c, i, -1, NULL, NULL, 0, &d), -ENOENT, FAULT_NOT_FOUND, "m");
	assert_int_equal(folder_entries(k, "content/blobs/sha256"), 1);
	assert_int_equal(kit_events(k, "/content/create"), 1);
	k->c.lease = NULL;
	OK(ingest_commit(&k->c, i, 5, NULL, NULL, 0, &d));
	OK(content_verify(&k->c, d.text));
	other.lease = "l"; /* leases are a namespace's own */
	FAILS(ingest_open(&other, "r", NULL, -1, &i), -ENOENT, FAULT_NOT_FOUND, "l");
}

static void test_list(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct seen seen = { 0 };
	char ref[16];

	OK(ingest_list(&k->c, "", see, &seen));
	assert_int_equal(seen.n, 0);
	ingest_close(begin(k, "b", ""));
	ingest_close(begin(k, "c", ""));
	ingest_close(begin(k, "a", ""));
	OK(ingest_list(&k->c, "", see, &seen));
	assert_string_equal(seen.all, "a;b;c;");
	seen = (struct seen){ 0 };
	OK(ingest_list(&k->c, "a", see, &seen));
	assert_string_equal(seen.all, "b;c;");
	seen = (struct seen){ .stop = 1 };
	assert_int_equal(ingest_list(&k->c, "aa", see, &seen), 1);
	assert_string_equal(seen.all, "b;");
	seen = (struct seen){ 0 };
	OK(ingest_list(&other, "", see, &seen));
	assert_int_equal(seen.n, 0);
	for (int i = 0; i < 150; i++) {
		snprintf(ref, sizeof(ref), "x%03d", i);
		ingest_close(begin(k, ref, ""));
	}
	seen = (struct seen){ 0 };
	OK(ingest_list(&k->c, "", see, &seen));
	assert_int_equal(seen.n, 153);
	assert_string_equal(seen.ref, "x149");
}

/* What a start finds that is none. */
static void test_leftovers(void **state)
{
	static const char *const names[] = {
		"0000000000000000000000000000000000000000000000000000000000000000", "x", ".hidden"
	};
	struct kit *k = *state;
	struct seen seen = { 0 };
	struct ingest *i = begin(k, "no-ref", "x"), *j = begin(k, "no-data", "x");
	char path[300];

	snprintf(path, sizeof(path), "%s/content/ingest/%s/ref", k->path, i->name);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/content/ingest/%s/data", k->path, j->name);
	assert_int_equal(unlink(path), 0);
	ingest_close(i);
	ingest_close(j);
	ingest_close(begin(k, "good", "x"));
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		snprintf(path, sizeof(path), "%s/content/ingest/%s", k->path, names[n]);
		assert_int_equal(mkdir(path, 0700), 0);
		strcat(path, "/ref");
		assert_int_equal(symlink("/etc/passwd", path), 0);
	}
	kit_path(k, path, sizeof(path), "content/ingest/file");
	close(open(path, O_CREAT | O_WRONLY, 0600));
	kit_close(k);
	kit_open(k);
	OK(ingest_list(&k->c, "", see, &seen));
	assert_string_equal(seen.all, "good;");
	assert_int_equal(folder_entries(k, "content/ingest"), 1);
}

static bool keep_one(void *user, const char *ns, const char *ref)
{
	struct kit *k = user;

	/* the database may be asked here */
	db_lock(k->db);
	db_unlock(k->db);
	return !strcmp(ns, "default") && !strcmp(ref, "kept");
}

static void test_expire(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct ingest *busy, *i;
	struct seen seen = { 0 };
	uint64_t n, bytes;
	int64_t before;

	ingest_close(begin(k, "old", "12345"));
	ingest_close(begin(k, "kept", "1"));
	busy = begin(k, "busy", "1");
	OK(ingest_open(&other, "kept", NULL, -1, &i));
	ingest_close(i);
	before = clock_now();
	while (clock_now() <= before)
		;
	before = clock_now();
	ingest_close(begin(k, "new", "1"));
	OK(ingest_expire(k->s, before, keep_one, k, true, &n, &bytes, &k->f));
	assert_int_equal(n, 2);
	assert_int_equal(bytes, 5);
	assert_int_equal(folder_entries(k, "content/ingest"), 5);
	OK(ingest_expire(k->s, before, keep_one, k, false, &n, &bytes, &k->f));
	assert_int_equal(n, 2);
	assert_int_equal(bytes, 5);
	OK(ingest_list(&k->c, "", see, &seen));
	assert_string_equal(seen.all, "busy;kept;new;");
	assert_int_equal(folder_entries(k, "content/ingest"), 3);
	ingest_discard(busy);
}

static void test_most(void **state)
{
	struct kit *k = *state;
	struct ingest *i;

	k->s->ingests->n += LIMIT_INGESTS - 1;
	ingest_close(begin(k, "last", ""));
	FAILS(ingest_open(&k->c, "more", NULL, -1, &i), -ENOSPC, FAULT_RESOURCE_EXHAUSTED,
	      "65536 ingests, the most");
	/* one that is there can be gone on with */
	ingest_close(begin(k, "last", "x"));
	k->s->ingests->n -= LIMIT_INGESTS - 1;
}

/* Hashes are kept for so many, the others are hashed again. */
static void test_look(void **state)
{
	struct kit *k = *state;
	struct seen seen = { 0 };
	struct cancel cancel = { 0 };
	struct store_call c = k->c;
	struct ingest *i = begin(k, "r", "hel");
	char path[200];

	FAILS(ingest_look(&k->c, "none", see, &seen), -ENOENT, FAULT_NOT_FOUND, "none");
	OK(ingest_look(&k->c, "r", see, &seen));
	assert_string_equal(seen.digest, "");
	ingest_close(i);
	OK(ingest_look(&k->c, "r", see, &seen));
	assert_string_equal(seen.digest, HEL);
	assert_int_equal(k->s->ingests->n_hashers, 1);
	/* hashed once, for who writes next */
	kit_close(k);
	kit_open(k);
	OK(ingest_get(&k->c, "r", see, &seen));
	assert_string_equal(seen.digest, "");
	cancel_set(&cancel);
	c = k->c;
	c.cancel = &cancel;
	FAILS(ingest_look(&c, "r", see, &seen), -ECANCELED, FAULT_CANCELLED, "");
	assert_int_equal(k->s->ingests->n_hashers, 0);
	for (int n = 0; n < 2; n++) {
		OK(ingest_look(&k->c, "r", see, &seen));
		assert_string_equal(seen.digest, HEL);
		assert_int_equal(k->s->ingests->n_hashers, 1);
	}
	resume(k);
	/* all that are kept are others' */
	ingest_close(begin(k, "r", "hel"));
	kit_close(k);
	kit_open(k);
	k->s->ingests->n_hashers = LIMIT_INGEST_HASHES;
	OK(ingest_look(&k->c, "r", see, &seen));
	assert_string_equal(seen.digest, HEL);
	k->s->ingests->n_hashers = 0;
	/* what cannot be read has none */
	i = begin(k, "r", "");
	snprintf(path, sizeof(path), "%s/content/ingest/%s/data", k->path, i->name);
	ingest_close(i);
	kit_close(k);
	kit_open(k);
	assert_int_equal(truncate(path, 1), 0);
	OK(ingest_look(&k->c, "r", see, &seen));
	assert_int_equal(seen.offset, 3);
	assert_string_equal(seen.digest, "");
}

static void test_most_hashes(void **state)
{
	struct kit *k = *state;

	k->s->ingests->n_hashers = LIMIT_INGEST_HASHES;
	ingest_close(begin(k, "r", "hel"));
	assert_int_equal(k->s->ingests->n_hashers, LIMIT_INGEST_HASHES);
	k->s->ingests->n_hashers = 0;
	resume(k);
	ingest_close(begin(k, "r", "x"));
	assert_int_equal(k->s->ingests->n_hashers, 1);
	OK(ingest_abort(&k->c, "r"));
	assert_int_equal(k->s->ingests->n_hashers, 0);
}

/* What davit makes itself has refs that count from 0 in each daemon: one may be there already. */
static void test_put_over_leftovers(void **state)
{
	struct kit *k = *state;
	struct digest d;
	char ref[200];

	digest_of("config", 6, &d);
	for (int n = 0; n < 4; n++) {
		snprintf(ref, sizeof(ref), "davit.put/%s/%d", digest_hex(&d), n);
		ingest_close(begin(k, ref, n % 2 ? "config" : "cfg"));
	}
	kit_close(k);
	kit_open(k);
	for (int n = 0; n < 4; n++) {
		OK(content_put(&k->c, "config", 6, NULL, 0, &d));
		OK(content_verify(&k->c, d.text));
		OK(content_delete(&k->c, d.text));
	}
}

/* More than a piece, and more than is pushed to the disk at a time. */
static void test_large(void **state)
{
	struct kit *k = *state;
	size_t size = (20u << 20) + 12345, at = 0, step = 3;
	unsigned char *data = malloc(size);
	struct digest whole, d;
	struct ingest *i;

	assert_non_null(data);
	for (size_t n = 0; n < size; n++)
		data[n] = (unsigned char)(n * 2654435761u >> 13);
	digest_of(data, size, &whole);
	OK(ingest_open(&k->c, "r", whole.text, (int64_t)size, &i));
	while (at < size) {
		size_t n = size - at < step ? size - at : step;

		OK(ingest_write(i, data + at, n, &k->f));
		at += n;
		step = step * 7 + 1;
		if (at > size / 2 && step) {
			ingest_close(i);
			OK(ingest_open(&k->c, "r", NULL, -1, &i));
			assert_int_equal(ingest_offset(i), at);
		}
	}
	OK(ingest_commit(&k->c, i, (int64_t)size, whole.text, NULL, 0, &d));
	OK(content_verify(&k->c, whole.text));
	free(data);
}

/* ---- a full disk */

static int full_setup(void **state)
{
	struct kit *k = calloc(1, sizeof(*k));

	assert_non_null(k);
	*state = k;
	strcpy(k->path, "/tmp/test_store.XXXXXX");
	assert_non_null(mkdtemp(k->path));
	if (mount("davit-test", k->path, "tmpfs", 0, "size=8m,mode=700") < 0) {
		print_message("a full disk needs a mount: %s\n", strerror(errno));
		rmdir(k->path);
		k->path[0] = '\0';
		return 0;
	}
	kit_open(k);
	return 0;
}

static int full_teardown(void **state)
{
	struct kit *k = *state;

	if (k->path[0]) {
		kit_close(k);
		assert_int_equal(umount2(k->path, MNT_DETACH), 0);
		assert_int_equal(rmdir(k->path), 0);
	}
	free(k);
	return 0;
}

static void fill(struct kit *k, const char *name, size_t leave)
{
	char path[200], *zeros = calloc(1, 4096);
	int fd = open(kit_path(k, path, sizeof(path), name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	off_t size;

	assert_true(fd >= 0 && zeros);
	while (write(fd, zeros, 4096) > 0)
		;
	assert_int_equal(errno, ENOSPC);
	size = lseek(fd, 0, SEEK_CUR);
	if (leave)
		assert_int_equal(ftruncate(fd, size - (off_t)leave), 0);
	close(fd);
	free(zeros);
}

static void test_full(void **state)
{
	struct kit *k = *state;
	size_t size = 1 << 20;
	char *data, path[200];
	struct digest whole, d;
	struct ingest *i;
	uint64_t there;

	if (!k->path[0])
		skip();
	data = malloc(size);
	assert_non_null(data);
	for (size_t n = 0; n < size; n++)
		data[n] = (char)(n * 31 >> 3);
	digest_of(data, size, &whole);
	OK(ingest_open(&k->c, "r", NULL, -1, &i));
	OK(ingest_write(i, data, 1000, &k->f));
	fill(k, "filler", 512 << 10);
	FAILS(ingest_write(i, data + 1000, size - 1000, &k->f), -ENOSPC, FAULT_RESOURCE_EXHAUSTED,
	      "No space left");
	assert_non_null(strstr(k->f.path, "content/ingest/"));
	there = ingest_offset(i);
	assert_true(there >= 1000 && there < size);
	/* nothing at all fits now, without the database's reserve: the rows cannot be written, the blob is not there */
	unlink(kit_path(k, path, sizeof(path), "reserve"));
	fill(k, "filler2", 0);
	k->f = (struct fault){ 0 };
	assert_true(ingest_commit(&k->c, i, -1, NULL, NULL, 0, &d) < 0);
	assert_int_equal(k->f.code, FAULT_RESOURCE_EXHAUSTED);
	assert_int_equal(kit_events(k, "/content/create"), 0);
	assert_int_equal(folder_entries(k, "content/blobs/sha256"), 0);
	ingest_close(i);
	FAILS(ingest_open(&k->c, "another", NULL, -1, &i), -ENOSPC, FAULT_RESOURCE_EXHAUSTED,
	      "No space left");
	/* a start works, and it goes on when there is room */
	kit_close(k);
	assert_int_equal(unlink(kit_path(k, path, sizeof(path), "filler2")), 0);
	kit_open(k);
	OK(ingest_open(&k->c, "r", NULL, -1, &i));
	assert_int_equal(ingest_offset(i), there);
	assert_int_equal(unlink(kit_path(k, path, sizeof(path), "filler")), 0);
	OK(ingest_write(i, data + there, size - there, &k->f));
	OK(ingest_commit(&k->c, i, (int64_t)size, whole.text, NULL, 0, &d));
	OK(content_verify(&k->c, whole.text));
	free(data);
}

/* ---- many threads */

#define THREADS 6

struct job {
	struct kit *k;
	int number, result, wins, exists, busy;
	struct fault f;
};

static void *put_thread(void *arg)
{
	struct job *j = arg;
	struct store_call c = j->k->c;

	c.f = &j->f;
	c.events = NULL;
	for (int n = 0; n < 30 && j->result >= 0; n++) {
		char text[32];
		struct digest d;

		/* some by all, some by one */
		snprintf(text, sizeof(text), "%d-%d", n, n % 2 ? 0 : j->number);
		j->result = content_put(&c, text, strlen(text), NULL, 0, &d);
		if (j->result >= 0)
			j->result = content_verify(&c, d.text);
		if (j->result >= 0 && n % 3 == 0 && !(n % 2))
			j->result = content_delete(&c, d.text);
	}
	return NULL;
}

static void *ref_thread(void *arg)
{
	struct job *j = arg;
	struct store_call c = j->k->c;

	c.f = &j->f;
	c.events = NULL;
	for (int n = 0; n < 200; n++) {
		struct ingest *i;
		struct digest d;
		char text[32];
		int r = ingest_open(&c, "one", NULL, -1, &i);

		if (r == -EBUSY) {
			j->busy++;
			continue;
		}
		if (r >= 0)
			r = ingest_restart(i, -1, &j->f);
		snprintf(text, sizeof(text), "%d", n);
		if (r >= 0)
			r = ingest_write(i, text, strlen(text), &j->f);
		if (r >= 0 && n % 3) {
			ingest_close(i);
			continue;
		}
		if (r >= 0)
			r = ingest_commit(&c, i, (int64_t)strlen(text), NULL, NULL, 0, &d);
		if (r == -EEXIST)
			j->exists++;
		else if (r >= 0)
			j->wins++;
		else
			j->result = r;
	}
	return NULL;
}

static void run_threads(struct kit *k, void *(*fn)(void *), struct job *jobs)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){ .k = k, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &jobs[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < THREADS; i++)
		if (jobs[i].result < 0)
			fail_msg("thread %d: %s", i, jobs[i].f.message);
}

static void test_threads(void **state)
{
	struct kit *k = *state;
	struct job jobs[THREADS];
	int wins = 0;

	run_threads(k, put_thread, jobs);
	assert_int_equal(folder_entries(k, "content/ingest"), 0);
	run_threads(k, ref_thread, jobs);
	for (int i = 0; i < THREADS; i++)
		wins += jobs[i].wins;
	/* "0", "3", … "198": each became a blob once */
	assert_true(wins > 0 && wins <= 67);
}

/* ---- a commit on a slow disk */

/*
 * Each fsync of the program comes by here. Of the folder of blobs: another call has to be answered
 * while it goes on, and it must not yet see the blob; of a file before: which one was synced.
 */
static struct {
	struct kit *k;
	const char *digest; /* NULL: nobody looks */
	ino_t folder, synced;
	bool answered, seen, in_place, data_synced, places;
	pthread_t asks;
	sem_t done;
} watch;

static void *ask(void *arg)
{
	struct fault f = { 0 };
	struct store_call c = { .store = watch.k->s, .ns = "default", .f = &f };

	(void)arg;
	watch.seen = content_has(&c, watch.digest) > 0;
	sem_post(&watch.done);
	return NULL;
}

static void look_at_folder(struct stat *blob)
{
	struct timespec until;

	watch.in_place = true;
	watch.places = ingest_places(watch.k->s, watch.digest);
	watch.data_synced = blob->st_ino == watch.synced;
	assert_int_equal(pthread_create(&watch.asks, NULL, ask, NULL), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	watch.answered = !sem_timedwait(&watch.done, &until);
}

int fsync(int fd)
{
	struct stat st, blob;

	if (watch.digest && fstat(fd, &st) == 0) {
		char path[300];

		kit_path(watch.k, path, sizeof(path), "content/blobs/sha256/");
		strcat(path, watch.digest + 7);
		if (st.st_ino != watch.folder)
			watch.synced = st.st_ino;
		else if (stat(path, &blob) == 0)
			look_at_folder(&blob);
	}
	return (int)syscall(SYS_fsync, fd);
}

/* Nobody waits for the sync of the folder, and the order that a power cut must not see broken holds. */
static void test_slow_folder(void **state)
{
	struct kit *k = *state;
	struct digest d, out;
	struct ingest *i;
	struct stat st;
	char path[200];

	assert_int_equal(digest_of("slow", 4, &d), 0);
	OK(ingest_open(&k->c, "r", NULL, -1, &i));
	OK(ingest_write(i, "slow", 4, &k->f));
	kit_path(k, path, sizeof(path), "content/blobs/sha256");
	assert_int_equal(stat(path, &st), 0);
	memset(&watch, 0, sizeof(watch));
	sem_init(&watch.done, 0, 0);
	watch.k = k;
	watch.folder = st.st_ino;
	watch.digest = d.text;
	OK(ingest_commit(&k->c, i, 4, d.text, NULL, 0, &out));
	watch.digest = NULL;
	assert_true(watch.in_place);
	pthread_join(watch.asks, NULL);
	assert_true(watch.data_synced);
	assert_true(watch.answered);
	assert_false(watch.seen);
	/* a collection that had taken this digest's rows before leaves the new file */
	assert_true(watch.places);
	assert_false(ingest_places(k->s, d.text));
	assert_int_equal(content_has(&k->c, d.text), 1);
	sem_destroy(&watch.done);
}

int main(void)
{
#define KIT(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
	static const struct CMUnitTest tests[] = {
		KIT(test_write),
		KIT(test_refs),
		KIT(test_locked),
		KIT(test_resume),
		KIT(test_resume_after_restart),
		KIT(test_resume_after_kill),
		KIT(test_rehash_can_be_cancelled),
		KIT(test_changed_file),
		KIT(test_totals),
		KIT(test_commit_checks),
		KIT(test_already_exists),
		KIT(test_leases),
		KIT(test_list),
		KIT(test_leftovers),
		KIT(test_expire),
		KIT(test_most),
		KIT(test_look),
		KIT(test_most_hashes),
		KIT(test_put_over_leftovers),
		KIT(test_large),
		KIT(test_slow_folder),
		KIT(test_threads),
		cmocka_unit_test_setup_teardown(test_full, full_setup, full_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
