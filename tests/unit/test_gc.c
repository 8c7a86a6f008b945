// SPDX-License-Identifier: Apache-2.0
/* Garbage collection: what stays, what goes, in which order, and what goes on meanwhile. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "content_kit.h"

#include "store/gc_internal.h"
#include "store/image.h"
#include "store/lease.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/mp.h"

#define REF "containerd.io/gc.ref."

/* ---- things to collect */

static void sql(struct kit *k, const char *text)
{
	char *error = NULL;

	db_lock(k->db);
	if (sqlite3_exec(k->db->sql, text, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s: %s", text, error);
	db_unlock(k->db);
}

static int64_t number(struct kit *k, const char *text)
{
	int64_t n;

	db_lock(k->db);
	OK(db_pragma_int(k->db, text, &n, &k->f));
	db_unlock(k->db);
	return n;
}

static void label(struct kit *k, struct store_call *c, const struct digest *d, const char *key,
		  const char *value)
{
	OK(content_set_label(c, d->text, key, value));
}

static void add_image(struct kit *k, const char *ns, const char *name, const struct digest *target)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "INSERT INTO images VALUES ('%s', '%s', '%s', '{}', '{}', 1, 1)", ns, name,
		 target->text);
	sql(k, text);
}

static bool there(struct kit *k, struct store_call *c, const struct digest *d)
{
	struct store_call plain = *c;
	struct stat st;
	int has;

	plain.lease = NULL;
	has = content_has(&plain, d->text);
	if (has != 0 && has != 1)
		fail_msg("content_has: %s", c->f->message);
	if (has)
		assert_int_equal(fstatat(k->s->blobs_fd, digest_hex(d), &st, 0), 0);
	return has;
}

static bool file_there(struct kit *k, const struct digest *d)
{
	struct stat st;

	return fstatat(k->s->blobs_fd, digest_hex(d), &st, 0) == 0;
}

static struct gc_result collect(struct kit *k)
{
	struct gc_result r;

	OK(gc_run(&k->c, false, &r));
	return r;
}

static void snapshot(struct kit *k, const char *key, const char *parent, const char *commit)
{
	OK(snapshot_prepare(&k->c, SNAPSHOTTER_NATIVE, key, parent, NULL, 0, NULL));
	if (commit)
		OK(snapshot_commit(&k->c, SNAPSHOTTER_NATIVE, commit, key, NULL, 0));
}

static int ignore_snapshot(void *user, const struct snapshot_info *info)
{
	(void)user;
	(void)info;
	return 0;
}

static bool snapshot_there(struct kit *k, const char *name)
{
	int r = snapshot_stat(&k->c, SNAPSHOTTER_NATIVE, name, ignore_snapshot, NULL);

	if (r < 0 && k->f.code != FAULT_NOT_FOUND)
		fail_msg("%s", k->f.message);
	return r == 0;
}

static void container(struct kit *k, const char *id, const char *snapshotter, const char *key,
		      const char *labels)
{
	char text[1024];

	snprintf(text, sizeof(text),
		 "INSERT INTO containers VALUES ('default', '%s', '', '', '%s', '%s', '', '%s', "
		 "x'', x'', 1, 1)",
		 id, snapshotter, key, labels);
	sql(k, text);
}

/* ---- what is reachable */

static void test_nothing(void **state)
{
	struct kit *k = *state;
	struct gc_result r = collect(k);

	assert_int_equal(r.content + r.snapshots + r.leases + r.ingests + r.bytes + r.marked, 0);
	assert_true(r.duration > 0 && r.started_at > 0);
}

static void test_image_tree(void **state)
{
	struct kit *k = *state;
	struct digest index = kit_put(k, &k->c, "index"), manifest = kit_put(k, &k->c, "manifest"),
		      config = kit_put(k, &k->c, "config"), layer = kit_put(k, &k->c, "layer"),
		      other = kit_put(k, &k->c, "other");
	struct gc_result r;

	label(k, &k->c, &index, REF "content.m.0", manifest.text);
	label(k, &k->c, &manifest, REF "content.config", config.text);
	label(k, &k->c, &manifest, REF "content/l.0", layer.text);
	/* no reference: the words are not followed by a dot, slash or the end */
	label(k, &k->c, &manifest, REF "contents", other.text);
	add_image(k, "default", "i", &index);
	store_events_clear(&k->events);
	r = collect(k);
	assert_int_equal(r.content, 1);
	assert_int_equal(r.bytes, 5);
	assert_int_equal(r.marked, 5);
	assert_false(there(k, &k->c, &other));
	assert_false(file_there(k, &other));
	assert_true(there(k, &k->c, &index) && there(k, &k->c, &manifest) &&
		    there(k, &k->c, &config) && there(k, &k->c, &layer));
	assert_int_equal(kit_events(k, "/content/delete"), 1);
	assert_string_equal(k->events.first->ns, "default");

	sql(k, "DELETE FROM images");
	r = collect(k);
	assert_int_equal(r.content, 4);
	assert_int_equal(number(k, "SELECT count(*) FROM blobs"), 0);
	assert_false(file_there(k, &index) || file_there(k, &layer));
}

static void test_cycle(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a"), b = kit_put(k, &k->c, "b"),
		      c = kit_put(k, &k->c, "c");

	label(k, &k->c, &a, REF "content", b.text);
	label(k, &k->c, &b, REF "content", a.text);
	label(k, &k->c, &c, REF "content", c.text);
	add_image(k, "default", "i", &a);
	assert_int_equal(collect(k).content, 1);
	assert_true(there(k, &k->c, &a) && there(k, &k->c, &b));
	sql(k, "DELETE FROM images");
	assert_int_equal(collect(k).content, 2);
}

static void test_namespaces(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct digest shared = kit_put(k, &k->c, "shared"), child = kit_put(k, &k->c, "child");
	struct gc_result r;

	kit_put(k, &other, "shared");
	kit_put(k, &other, "child");
	/* the image of one namespace holds nothing in the other, whose labels do not count either */
	label(k, &other, &shared, REF "content", child.text);
	add_image(k, "other", "i", &shared);
	store_events_clear(&k->events);
	r = collect(k);
	assert_int_equal(r.content, 2);
	assert_int_equal(r.bytes, 0);
	assert_false(there(k, &k->c, &shared) || there(k, &k->c, &child));
	assert_true(there(k, &other, &shared) && there(k, &other, &child));
	assert_true(file_there(k, &shared));
	sql(k, "DELETE FROM images");
	store_events_clear(&k->events);
	r = collect(k);
	assert_int_equal(r.content, 2);
	assert_int_equal(r.bytes, 11);
	assert_string_equal(k->events.first->ns, "other");
	assert_false(file_there(k, &shared));
}

static void test_root_label(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a"), b = kit_put(k, &k->c, "b"),
		      c = kit_put(k, &k->c, "c"), d = kit_put(k, &k->c, "d"),
		      e = kit_put(k, &k->c, "e");

	label(k, &k->c, &a, "containerd.io/gc.root", "2026-01-01T00:00:00Z");
	label(k, &k->c, &a, REF "content.x", b.text);
	label(k, &k->c, &c, "containerd.io/gc.expire", "2999-01-01T00:00:00Z");
	label(k, &k->c, &d, "containerd.io/gc.expire", "2001-01-01T00:00:00Z");
	label(k, &k->c, &e, "containerd.io/gc.expire", "at some time");
	assert_int_equal(collect(k).content, 2);
	assert_true(there(k, &k->c, &a) && there(k, &k->c, &b) && there(k, &k->c, &c));
}

static void test_leases(void **state)
{
	struct kit *k = *state;
	struct db_label flat = { "containerd.io/gc.flat", "true" };
	struct digest a = kit_put(k, &k->c, "a"), a1 = kit_put(k, &k->c, "a1"),
		      b = kit_put(k, &k->c, "b"), b1 = kit_put(k, &k->c, "b1"),
		      i = kit_put(k, &k->c, "i");
	struct gc_result r;

	label(k, &k->c, &a, REF "content", a1.text);
	label(k, &k->c, &b, REF "content", b1.text);
	OK(lease_create(&k->c, "deep", NULL, 0, 0, NULL, NULL));
	OK(lease_create(&k->c, "flat", &flat, 1, 0, NULL, NULL));
	OK(lease_add(&k->c, "deep", LEASE_CONTENT, a.text));
	OK(lease_add(&k->c, "flat", LEASE_CONTENT, b.text));
	OK(lease_add(&k->c, "flat", LEASE_CONTENT, i.text));
	OK(lease_add(&k->c, "flat", LEASE_IMAGES, "no such image"));
	r = collect(k);
	assert_int_equal(r.content, 1);
	assert_false(there(k, &k->c, &b1));
	assert_true(there(k, &k->c, &a) && there(k, &k->c, &a1) && there(k, &k->c, &b));

	/* what is held flatly and referred to elsewhere as well has its references */
	b1 = kit_put(k, &k->c, "b1");
	label(k, &k->c, &a1, REF "content", b.text);
	assert_int_equal(collect(k).content, 0);

	OK(lease_delete(&k->c, "deep"));
	assert_int_equal(collect(k).content, 3);
	OK(lease_delete(&k->c, "flat"));
	assert_int_equal(collect(k).content, 2);
}

static void test_expired_leases(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct digest a = kit_put(k, &k->c, "a"), b = kit_put(k, &k->c, "b");
	struct gc_result r;

	OK(lease_create(&k->c, "over", NULL, 0, clock_now() + 1, NULL, NULL));
	OK(lease_create(&other, "later", NULL, 0, clock_now() + 3600 * CLOCK_NS_PER_SEC, NULL,
			NULL));
	OK(lease_create(&k->c, "always", NULL, 0, 0, NULL, NULL));
	/* more than one slice takes away at once */
	sql(k, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
	       "INSERT INTO lease_resources SELECT 'default', 'over', 'images', i FROM n");
	OK(lease_add(&k->c, "always", LEASE_CONTENT, b.text));
	OK(gc_run(&k->c, true, &r));
	assert_int_equal(r.leases, 1);
	assert_int_equal(number(k, "SELECT count(*) FROM leases"), 3);
	r = collect(k);
	assert_int_equal(r.leases, 1);
	assert_int_equal(r.content, 1);
	assert_false(there(k, &k->c, &a));
	assert_int_equal(number(k, "SELECT count(*) FROM leases"), 2);
	assert_int_equal(number(k, "SELECT count(*) FROM lease_resources"), 1);
	assert_int_equal(collect(k).leases, 0);
}

/* Parents stay with their children; containers, labels and leases hold; children go first. */
static void test_snapshots(void **state)
{
	struct kit *k = *state;
	struct digest config = kit_put(k, &k->c, "config");
	struct db_label flat = { "containerd.io/gc.flat", "true" };
	struct gc_result r;
	size_t n = 0;

	snapshot(k, "p1", "", "base");
	snapshot(k, "p2", "base", "middle");
	snapshot(k, "p3", "middle", "top");
	snapshot(k, "rw", "top", NULL);
	snapshot(k, "q", "base", "leased");
	snapshot(k, "r", "base", "labelled");
	snapshot(k, "s", "", "alone");
	container(k, "c", SNAPSHOTTER_NATIVE, "rw", "{}");
	OK(lease_create(&k->c, "l", &flat, 1, 0, NULL, NULL));
	OK(lease_add(&k->c, "l", LEASE_SNAPSHOTS SNAPSHOTTER_NATIVE, "leased"));
	label(k, &k->c, &config, REF "snapshot." SNAPSHOTTER_NATIVE, "labelled");
	/* another snapshotter's of the same name */
	label(k, &k->c, &config, REF "snapshot." SNAPSHOTTER_OVERLAYFS "/x", "alone");
	add_image(k, "default", "i", &config);
	store_events_clear(&k->events);
	r = collect(k);
	assert_int_equal(r.snapshots, 1);
	assert_false(snapshot_there(k, "alone"));
	assert_true(snapshot_there(k, "base") && snapshot_there(k, "middle") &&
		    snapshot_there(k, "top") && snapshot_there(k, "rw") &&
		    snapshot_there(k, "leased") && snapshot_there(k, "labelled"));
	assert_int_equal(kit_events(k, "/snapshot/remove"), 1);

	sql(k, "DELETE FROM containers");
	store_events_clear(&k->events);
	r = collect(k);
	assert_int_equal(r.snapshots, 3);
	/* children before parents */
	for (struct store_event *e = k->events.first; e; e = e->next) {
		static const char *const order[] = { "rw", "top", "middle" };
		msgpack_unpacked u;

		msgpack_unpacked_init(&u);
		assert_int_equal(msgpack_unpack_next(&u, e->payload.data, e->payload.size, NULL),
				 MSGPACK_UNPACK_SUCCESS);
		assert_true(n < 3 && mp_eq(mp_get(&u.data, "key"), order[n]));
		assert_true(mp_eq(mp_get(&u.data, "snapshotter"), SNAPSHOTTER_NATIVE));
		msgpack_unpacked_destroy(&u);
		n++;
	}
	assert_int_equal(n, 3);
	assert_true(snapshot_there(k, "base"));

	OK(lease_delete(&k->c, "l"));
	sql(k, "DELETE FROM images");
	r = collect(k);
	assert_int_equal(r.snapshots, 3);
	assert_int_equal(number(k, "SELECT count(*) FROM snapshots"), 0);
}

/* Children may have been made before their parents: layers are unpacked side by side. */
static void test_snapshots_of_any_order(void **state)
{
	struct kit *k = *state;
	char name[16], change[200];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		snapshot(k, "key", "", name);
		snprintf(change, sizeof(change),
			 "UPDATE snapshots SET parent = 's%d' WHERE name = 's%d'", i + 1, i);
		if (i < 39)
			sql(k, change);
	}
	assert_int_equal(collect(k).snapshots, 40);
	assert_int_equal(number(k, "SELECT count(*) FROM snapshots"), 0);
}

static void test_containers(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a");
	const char *standard;
	char labels[256], key[64];

	OK(snapshotter_name(k->s, NULL, &standard, &k->f));
	snapshot(k, "mine", "", NULL);
	OK(snapshot_prepare(&k->c, standard, "standard", "", NULL, 0, NULL));
	snprintf(labels, sizeof(labels), "{\"" REF "content\": \"%s\"}", a.text);
	container(k, "c1", SNAPSHOTTER_NATIVE, "mine", labels);
	/* one that names no snapshotter has the daemon's own */
	container(k, "c2", "", "standard", "{}");
	container(k, "c3", "", "", "{}");
	assert_int_equal(collect(k).snapshots, 0);
	assert_true(there(k, &k->c, &a));
	snprintf(key, sizeof(key), "DELETE FROM containers WHERE id = 'c2'");
	sql(k, key);
	assert_int_equal(collect(k).snapshots, 1);
	assert_true(snapshot_there(k, "mine"));
}

static void test_dry(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct digest a = kit_put(k, &k->c, "1234"), b = kit_put(k, &k->c, "both"),
		      c = kit_put(k, &k->c, "used");
	struct gc_result dry, r;

	kit_put(k, &other, "both");
	kit_put(k, &other, "used");
	add_image(k, "other", "i", &c);
	snapshot(k, "x", "", "gone");
	store_events_clear(&k->events);
	OK(gc_run(&k->c, true, &dry));
	assert_null(k->events.first);
	assert_true(there(k, &k->c, &a) && there(k, &k->c, &b) && there(k, &k->c, &c));
	assert_true(snapshot_there(k, "gone"));
	r = collect(k);
	assert_int_equal(dry.content, 4);
	assert_int_equal(dry.snapshots, 1);
	assert_int_equal(dry.content, r.content);
	assert_int_equal(dry.snapshots, r.snapshots);
	assert_int_equal(dry.bytes, r.bytes);
	assert_int_equal(dry.marked, r.marked);
}

static void test_orphan_blob(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a");
	struct gc_result r;

	sql(k, "DELETE FROM content");
	r = collect(k);
	assert_int_equal(r.content, 0);
	assert_int_equal(r.bytes, 1);
	assert_false(file_there(k, &a));
	assert_int_equal(number(k, "SELECT count(*) FROM blobs"), 0);
}

/* Labels that cannot be read: what they refer to is not known. Nothing goes. */
static void test_damaged_labels(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a"), b = kit_put(k, &k->c, "b");
	struct gc_status status;
	struct gc_result r;

	add_image(k, "default", "i", &a);
	sql(k, "UPDATE images SET labels = '{\"" REF "content\": '");
	FAILS(gc_run(&k->c, false, &r), -EUCLEAN, FAULT_FAILED_PRECONDITION, "damaged");
	assert_true(there(k, &k->c, &a) && there(k, &k->c, &b));
	gc_get_status(k->s, &status);
	assert_int_equal(status.failures, 1);
	assert_non_null(strstr(status.failure, "damaged"));
	assert_true(gc_due(k->s) > 0);
	sql(k, "UPDATE images SET labels = '{}'");
	assert_int_equal(collect(k).content, 1);
	gc_get_status(k->s, &status);
	assert_string_equal(status.failure, "");
	assert_int_equal(status.runs, 2);
	assert_int_equal(status.last.content, 1);
}

static void test_cancel(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a");
	struct cancel cancel = { 0 };
	struct gc_result r;

	cancel_set(&cancel);
	k->c.cancel = &cancel;
	FAILS(gc_run(&k->c, false, &r), -ECANCELED, FAULT_CANCELLED, "");
	FAILS(gc_run(&k->c, true, &r), -ECANCELED, FAULT_CANCELLED, "");
	k->c.cancel = NULL;
	assert_true(there(k, &k->c, &a));
	assert_false(k->s->gc->watching);
	assert_int_equal(collect(k).content, 1);
}

/* As if they had been left alone for long. */
static void age_ingests(struct kit *k)
{
	static const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	char path[128];
	struct dirent *e;
	DIR *dir;

	kit_close(k);
	dir = opendir(kit_path(k, path, sizeof(path), "content/ingest"));
	assert_non_null(dir);
	while ((e = readdir(dir))) {
		CLEANUP_CLOSE int folder = -1;
		CLEANUP_CLOSE int fd = -1;

		if (e->d_name[0] == '.')
			continue;
		folder = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY);
		assert_true(folder >= 0);
		assert_int_equal(utimensat(folder, "data", old, 0), 0);
		fd = openat(folder, "updatedat", O_WRONLY | O_TRUNC);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, "1000", 4), 4);
	}
	closedir(dir);
	kit_open(k);
}

/* A run that was told to end, and a daemon that ends then: the next one goes on. */
static void test_cancelled_then_restarted(void **state)
{
	struct kit *k = *state;
	struct cancel cancel = { 0 };
	struct gc_result r;

	add_image(k, "default", "i", &(struct digest){ "none" });
	kit_put(k, &k->c, "a");
	sql(k, "DELETE FROM images");
	cancel_set(&cancel);
	k->c.cancel = &cancel;
	FAILS(gc_run(&k->c, false, &r), -ECANCELED, FAULT_CANCELLED, "");
	k->c.cancel = NULL;
	kit_close(k);
	kit_open(k);
	assert_true(gc_due(k->s) > 0);
	assert_int_equal(collect(k).content, 1);
}

static void test_ingests(void **state)
{
	struct kit *k = *state;
	struct gc_result r;
	struct ingest *i;

	for (int n = 0; n < 3; n++) {
		char ref[16];

		snprintf(ref, sizeof(ref), "ref%d", n);
		OK(ingest_open(&k->c, ref, NULL, -1, &i));
		OK(ingest_write(i, "hello", 5, &k->f));
		ingest_close(i);
	}
	assert_int_equal(collect(k).ingests, 0);
	OK(lease_create(&k->c, "l", NULL, 0, 0, NULL, NULL));
	OK(lease_add(&k->c, "l", LEASE_INGESTS, "ref1"));
	age_ingests(k);
	OK(gc_run(&k->c, true, &r));
	assert_int_equal(r.ingests, 2);
	assert_int_equal(r.bytes, 10);
	r = collect(k);
	assert_int_equal(r.ingests, 2);
	assert_int_equal(r.bytes, 10);
	OK(lease_delete(&k->c, "l"));
	assert_int_equal(collect(k).ingests, 1);
}

/* ---- what is due */

struct woken {
	atomic_int n;
};

static void wake(void *user)
{
	atomic_fetch_add(&((struct woken *)user)->n, 1);
}

static void test_due(void **state)
{
	struct kit *k = *state;
	struct woken w = { 0 };
	struct digest a = kit_put(k, &k->c, "a");
	int64_t due, now;

	gc_on_wake(k->s, wake, &w);
	add_image(k, "default", "i", &a);
	container(k, "c", "", "", "{}");
	assert_int_equal(gc_due(k->s), 0);
	assert_int_equal(w.n, 0);

	now = clock_now();
	sql(k, "DELETE FROM containers");
	due = gc_due(k->s);
	assert_true(due >= now + GC_DELAY_NS && due <= clock_now() + GC_DELAY_NS);
	assert_int_equal(w.n, 1);
	/* the last one counts, and wakes nobody again */
	sql(k, "DELETE FROM images");
	assert_true(gc_due(k->s) >= due);
	assert_int_equal(w.n, 1);
	/* but not for ever */
	k->s->gc->garbage_first -= GC_DELAY_MAX_NS;
	assert_true(gc_due(k->s) <= clock_now());
	collect(k);
	assert_int_equal(gc_due(k->s), 0);
	assert_int_equal(number(k, "SELECT count(*) FROM meta WHERE key = 'garbage'"), 0);

	/* what a run takes away itself is no news */
	snapshot(k, "x", "", "y");
	collect(k);
	assert_int_equal(gc_due(k->s), 0);

	/* an image that changes leaves something behind */
	a = kit_put(k, &k->c, "a");
	add_image(k, "default", "i", &a);
	sql(k, "UPDATE images SET updated_at = 2");
	assert_int_equal(gc_due(k->s), 0);
	sql(k, "UPDATE images SET digest = 'x'");
	assert_true(gc_due(k->s) > 0);
	collect(k);

	/* leases that end */
	w.n = 0;
	now = clock_now();
	OK(lease_create(&k->c, "b", NULL, 0, now + 7200 * CLOCK_NS_PER_SEC, NULL, NULL));
	OK(lease_create(&k->c, "c", NULL, 0, now + 9000 * CLOCK_NS_PER_SEC, NULL, NULL));
	OK(lease_create(&k->c, "a", NULL, 0, now + 3600 * CLOCK_NS_PER_SEC, NULL, NULL));
	OK(lease_create(&k->c, "d", NULL, 0, 0, NULL, NULL));
	assert_int_equal(gc_due(k->s), now + 3600 * CLOCK_NS_PER_SEC);
	assert_int_equal(w.n, 2);
	kit_close(k);
	kit_open(k);
	assert_int_equal(gc_due(k->s), now + 3600 * CLOCK_NS_PER_SEC);
	OK(lease_delete(&k->c, "a"));
	collect(k);
	assert_int_equal(gc_due(k->s), now + 7200 * CLOCK_NS_PER_SEC);
}

/* A daemon that ends before it has collected leaves word. */
static void test_due_after_restart(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a");

	add_image(k, "default", "i", &a);
	kit_close(k);
	kit_open(k);
	assert_int_equal(gc_due(k->s), 0);
	sql(k, "DELETE FROM images");
	kit_close(k);
	kit_open(k);
	assert_true(gc_due(k->s) > 0);
	assert_int_equal(collect(k).content, 1);
	kit_close(k);
	kit_open(k);
	assert_int_equal(gc_due(k->s), 0);
}

/* ---- the watch */

static void test_watch(void **state)
{
	struct kit *k = *state;
	struct gc *gc = k->s->gc;
	struct digest a = kit_put(k, &k->c, "a");
	struct gc_set *t = &gc->touched;

	assert_int_equal(t->n, 0);
	gc_watch_begin(k->s);
	label(k, &k->c, &a, "x", "y");
	add_image(k, "default", "i", &a);
	sql(k, "UPDATE images SET labels = '{\"a\":\"b\"}'");
	container(k, "c", "", "", "{}");
	snapshot(k, "key", "", "name");
	OK(lease_create(&k->c, "l", NULL, 0, 0, NULL, NULL));
	OK(lease_add(&k->c, "l", LEASE_CONTENT, "D"));
	OK(lease_add(&k->c, "l", LEASE_INGESTS, "R"));
	OK(lease_add(&k->c, "l", LEASE_SNAPSHOTS "overlayfs", "S"));
	OK(lease_add(&k->c, "l", LEASE_IMAGES, "I"));
	/* also what nobody tells of */
	sql(k, "UPDATE lease_resources SET id = 'S2' WHERE id = 'S'");
	assert_int_not_equal(gc_set_find(t, DB_KIND_CONTENT, "default", a.text), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_IMAGE, "default", "i"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_CONTAINER, "default", "c"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_SNAPSHOT, "default", "native/key"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_SNAPSHOT, "default", "native/name"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_LEASE, "default", "l"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_CONTENT, "default", "D"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_INGEST, "default", "R"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_SNAPSHOT, "default", "overlayfs/S"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_SNAPSHOT, "default", "overlayfs/S2"), GC_NONE);
	assert_int_not_equal(gc_set_find(t, DB_KIND_IMAGE, "default", "I"), GC_NONE);
	assert_int_equal(gc_set_find(t, DB_KIND_IMAGE, "other", "I"), GC_NONE);
	gc_watch_end(k->s);
	label(k, &k->c, &a, "x", "z");
	assert_int_equal(t->n, 0);
}

static void test_set(void **state)
{
	struct gc_set s;
	char key[32], ns[32];
	uint32_t at, again;

	(void)state;
	gc_set_init(&s);
	assert_int_equal(gc_set_find(&s, DB_KIND_IMAGE, "a", "b"), GC_NONE);
	for (int i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "key-%d", i);
		snprintf(ns, sizeof(ns), "ns%d", i % 7);
		assert_int_equal(gc_set_add(&s, i % 5, ns, key, &at), 0);
		assert_int_equal(at, i);
		assert_int_equal(gc_set_add(&s, i % 5, ns, key, &again), 0);
		assert_int_equal(again, i);
	}
	for (int i = 0; i < 20000; i++) {
		snprintf(key, sizeof(key), "key-%d", i);
		snprintf(ns, sizeof(ns), "ns%d", i % 7);
		assert_int_equal(gc_set_find(&s, i % 5, ns, key), i);
		assert_int_equal(gc_set_find(&s, (i + 1) % 5, ns, key), GC_NONE);
		assert_string_equal(gc_set_key(&s, (uint32_t)i), key);
		assert_string_equal(gc_set_ns(&s, (uint32_t)i), ns);
	}
	gc_set_clear(&s);
	assert_int_equal(gc_set_find(&s, DB_KIND_CONTENT, "ns0", "key-0"), GC_NONE);
}

/* ---- many, and all at once */

struct batches {
	size_t calls, events, last, largest;
};

static void sink(void *user, struct store_events *events, const struct cancel *cancel, bool last)
{
	struct batches *b = user;
	size_t n = 0;

	(void)cancel;
	for (struct store_event *e = events->first; e; e = e->next)
		n++;
	b->calls++;
	b->events += n;
	b->last += last;
	if (n > b->largest)
		b->largest = n;
	store_events_clear(events);
}

static void test_many(void **state)
{
	struct kit *k = *state;
	struct batches b = { 0 };
	struct gc_result r;

	/* rows without files: a file that is not there is gone already */
	sql(k, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) "
	       "INSERT INTO blobs SELECT printf('sha256:%064x', i * 7919), 10, 1 FROM n;"
	       "INSERT INTO content SELECT 'default', digest, '{}', 1, 1 FROM blobs;"
	       "INSERT INTO images SELECT 'default', digest, digest, '{}', '{}', 1, 1 FROM blobs "
	       "ORDER BY digest LIMIT 5000;");
	gc_set_sink(k->s, sink, &b);
	r = collect(k);
	assert_int_equal(r.content, 15000);
	assert_int_equal(r.bytes, 150000);
	assert_int_equal(number(k, "SELECT count(*) FROM content"), 5000);
	assert_int_equal(number(k, "SELECT count(*) FROM blobs"), 5000);
	assert_int_equal(b.events, 15000);
	assert_int_equal(b.last, 1);
	assert_true(b.largest < 2000 && b.calls > 10);
	assert_true(r.longest_lock > 0);
}

#define ACTORS 4
#define ROUNDS 60

struct actor {
	struct kit *k;
	pthread_t thread;
	unsigned n;
	atomic_int *left;
	struct fault f;
	char failed[1400];
};

/* In turns: content under a lease, then an image of it; the lease goes; it must all be there. */
static int act(struct actor *a, unsigned round)
{
	struct store_call c = { .store = a->k->s,
				.ns = a->n % 2 ? "default" : "other",
				.f = &a->f };
	struct db_label ref = { REF "content", NULL };
	struct digest child, parent;
	struct lease_hold hold;
	char text[64], image[400], *data;
	size_t size;
	int r = lease_hold(&c, &hold);

	/* some of the same as others have, which come and go all the time */
	snprintf(text, sizeof(text), "child %u", round % 5);
	if (!r)
		r = content_put(&c, text, strlen(text), NULL, 0, &child);
	ref.value = child.text;
	snprintf(text, sizeof(text), "parent %u %u", a->n, round % 3);
	if (!r)
		r = content_put(&c, text, strlen(text), &ref, 1, &parent);
	if (!r)
		r = db_begin(a->k->db, DB_FULL, &a->f);
	if (!r) {
		snprintf(image, sizeof(image),
			 "INSERT INTO images VALUES ('%s', 'i%u', '%s', '{}', '{}', 1, 1)", c.ns,
			 a->n, parent.text);
		r = db_end(a->k->db, db_exec(a->k->db, image, "image", &a->f), &a->f);
	}
	lease_release(&c, &hold);
	for (int look = 0; !r && look < 3; look++) {
		r = content_read_all(&c, parent.text, 100, &data, &size);
		if (!r)
			free(data);
		if (!r)
			r = content_read_all(&c, child.text, 100, &data, &size);
		if (!r)
			free(data);
	}
	if (r < 0)
		return r;
	r = db_begin(a->k->db, DB_FULL, &a->f);
	if (r < 0)
		return r;
	snprintf(image, sizeof(image), "DELETE FROM images WHERE name = 'i%u'", a->n);
	return db_end(a->k->db, db_exec(a->k->db, image, "image", &a->f), &a->f);
}

static void *actor(void *user)
{
	struct actor *a = user;

	for (unsigned round = 0; round < ROUNDS && !a->failed[0]; round++)
		if (act(a, round) < 0)
			snprintf(a->failed, sizeof(a->failed), "actor %u, round %u: %s", a->n,
				 round, a->f.message);
	atomic_fetch_sub(a->left, 1);
	return NULL;
}

/* What lives for a while under another name: snapshots upon those of before. */
static void *snapshots(void *user)
{
	struct actor *a = user;
	struct store_call c = { .store = a->k->s, .ns = "default", .f = &a->f };
	int r = 0;

	for (unsigned round = 0; round < ROUNDS && !r; round++) {
		char key[32], name[32], parent[32], child[32];
		struct lease_hold hold;

		snprintf(key, sizeof(key), "key%u", round);
		snprintf(name, sizeof(name), "name%u", round);
		snprintf(parent, sizeof(parent), "name%u", round - 1);
		snprintf(child, sizeof(child), "child%u", round);
		r = lease_hold(&c, &hold);
		if (!r)
			r = snapshot_prepare(&c, SNAPSHOTTER_NATIVE, key, NULL, NULL, 0, NULL);
		if (!r)
			r = snapshot_commit(&c, SNAPSHOTTER_NATIVE, name, key, NULL, 0);
		if (!r)
			r = snapshot_prepare(&c, SNAPSHOTTER_NATIVE, child, name, NULL, 0, NULL);
		if (!r)
			r = snapshot_stat(&c, SNAPSHOTTER_NATIVE, name, ignore_snapshot, NULL);
		lease_release(&c, &hold);
	}
	if (r < 0)
		snprintf(a->failed, sizeof(a->failed), "snapshots: %s", a->f.message);
	atomic_fetch_sub(a->left, 1);
	return NULL;
}

static void test_meanwhile(void **state)
{
	struct kit *k = *state;
	atomic_int left = ACTORS + 1;
	struct actor a[ACTORS + 1] = { 0 };
	uint64_t content = 0, runs = 0;

	for (unsigned i = 0; i <= ACTORS; i++) {
		a[i].k = k;
		a[i].n = i;
		a[i].left = &left;
		assert_int_equal(
			pthread_create(&a[i].thread, NULL, i < ACTORS ? actor : snapshots, &a[i]),
			0);
	}
	while (atomic_load(&left)) {
		struct gc_result r = collect(k);

		content += r.content;
		runs++;
	}
	for (unsigned i = 0; i <= ACTORS; i++)
		pthread_join(a[i].thread, NULL);
	for (unsigned i = 0; i <= ACTORS; i++)
		if (a[i].failed[0])
			fail_msg("%s", a[i].failed);
	assert_true(content > 0 && runs > 2);
	collect(k);
	collect(k);
	assert_int_equal(number(k, "SELECT count(*) FROM content"), 0);
	assert_int_equal(number(k, "SELECT count(*) FROM snapshots"), 0);
	assert_int_equal(number(k, "SELECT count(*) FROM blobs"), 0);
}

/* Runs wait for each other, and those that waited together share one. */
static void *runner(void *user)
{
	struct actor *a = user;
	struct store_call c = { .store = a->k->s, .ns = "default", .f = &a->f };
	struct gc_result r;

	if (gc_run(&c, false, &r) < 0)
		snprintf(a->failed, sizeof(a->failed), "%s", a->f.message);
	return NULL;
}

static void test_shared_runs(void **state)
{
	struct kit *k = *state;
	struct actor a[8] = { 0 };
	struct gc_status status;
	struct gc *gc = k->s->gc;
	uint64_t asked;

	kit_put(k, &k->c, "x");
	/* the first waits for the database, the others for the first */
	db_lock(k->db);
	for (unsigned i = 0; i < 8; i++) {
		a[i].k = k;
		assert_int_equal(pthread_create(&a[i].thread, NULL, runner, &a[i]), 0);
	}
	do {
		pthread_mutex_lock(&gc->lock);
		asked = gc->asked;
		pthread_mutex_unlock(&gc->lock);
		sched_yield();
	} while (asked < 8);
	db_unlock(k->db);
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(a[i].thread, NULL);
		if (a[i].failed[0])
			fail_msg("%s", a[i].failed);
	}
	gc_get_status(k->s, &status);
	assert_int_equal(status.runs, 2);
	assert_false(status.running);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, kit_setup, kit_teardown)
	const struct CMUnitTest tests[] = {
		T(test_nothing),
		T(test_image_tree),
		T(test_cycle),
		T(test_namespaces),
		T(test_root_label),
		T(test_leases),
		T(test_expired_leases),
		T(test_snapshots),
		T(test_snapshots_of_any_order),
		T(test_containers),
		T(test_dry),
		T(test_orphan_blob),
		T(test_damaged_labels),
		T(test_cancel),
		T(test_cancelled_then_restarted),
		T(test_ingests),
		T(test_due),
		T(test_due_after_restart),
		T(test_watch),
		cmocka_unit_test(test_set),
		T(test_many),
		T(test_meanwhile),
		T(test_shared_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
