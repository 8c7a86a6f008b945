// SPDX-License-Identifier: Apache-2.0
/* A damaged database: noticed, set aside, made anew of its rows and of the disk. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zstd.h>

#include "content_kit.h"

#include "store/db_salvage.h"
#include "store/db_salvage_internal.h"
#include "store/gc.h"
#include "store/image.h"
#include "store/lease.h"
#include "store/snapshot.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/digest.h"

#define IMAGES 6
#define CONTAINERS 8
#define SEEDS 120

struct file {
	char *p;
	size_t n;
};

struct world {
	struct kit *k;
	struct digest index[IMAGES], layer[IMAGES];
	struct file db, wal; /* as they were */
};

/* ---- files */

static struct file load(struct kit *k, const char *name)
{
	struct file f = { 0 };

	fd_read_file(k->root_fd, name, 64 << 20, &f.p, &f.n);
	return f;
}

static void store(struct kit *k, const char *name, struct file f)
{
	CLEANUP_CLOSE int fd = -1;

	unlinkat(k->root_fd, name, 0);
	if (!f.p)
		return;
	fd = openat(k->root_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, f.p, f.n), 0);
}

static struct file copy(struct file f)
{
	struct file c = { malloc(f.n + 1), f.n };

	assert_non_null(c.p);
	memcpy(c.p, f.p, f.n);
	return c;
}

/* Names in ROOT that begin with this: how many; the last one is in `last`. */
static size_t count_of(struct kit *k, const char *prefix, bool all, char *last, size_t size)
{
	struct dirent *e;
	DIR *d = opendir(k->path);
	size_t n = 0;

	assert_non_null(d);
	while ((e = readdir(d)))
		if (!strncmp(e->d_name, prefix, strlen(prefix)) &&
		    (all || !strchr("lm", e->d_name[strlen(e->d_name) - 1]))) {
			if (last)
				snprintf(last, size, "%s", e->d_name);
			n++;
		}
	closedir(d);
	return n;
}

/* Without logs (-wal) and their indexes (-shm). */
static size_t count(struct kit *k, const char *prefix, char *last, size_t size)
{
	return count_of(k, prefix, false, last, size);
}

static void reopen_root(struct kit *k)
{
	k->root_fd = open(k->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(k->root_fd >= 0);
}

/* Puts back what salvaging has moved, and the files as they were. */
static void restore(struct world *w)
{
	struct kit *k = w->k;
	char name[300], path[400];
	struct dirent *e;

	while (count_of(k, "meta.db", true, name, sizeof(name)))
		assert_int_equal(unlinkat(k->root_fd, name, 0), 0);
	while (count(k, "damaged-", name, sizeof(name))) {
		DIR *d;

		snprintf(path, sizeof(path), "%s/%s/snapshots/native", k->path, name);
		d = opendir(path);
		while (d && (e = readdir(d))) {
			char to[300];

			snprintf(to, sizeof(to), "snapshots/native/%s", e->d_name);
			if (e->d_name[0] != '.')
				assert_int_equal(renameat(dirfd(d), e->d_name, k->root_fd, to), 0);
		}
		if (d)
			closedir(d);
		assert_int_equal(tree_remove(k->root_fd, name, NULL), 0);
	}
	store(k, "meta.db", w->db);
	store(k, "meta.db-wal", w->wal);
}

/* ---- what there is */

static void add_image(struct world *w, struct store_call *c, size_t i)
{
	struct kit *k = w->k;
	struct oci_descriptor target = { 0 };
	struct digest layer, config, manifest;
	char text[1024], name[64];

	size_t config_size, layer_size;

	layer_size = (size_t)snprintf(text, sizeof(text), "layer %zu, %s", i, c->ns);
	layer = kit_put(k, c, text);
	config_size = (size_t)snprintf(
		text, sizeof(text), "{\"architecture\":\"amd64\",\"os\":\"linux\",\"n\":%zu}", i);
	config = kit_put(k, c, text);
	snprintf(text, sizeof(text),
		 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST
		 "\",\"config\":{\"mediaType\":\"" OCI_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},"
		 "\"layers\":[{\"mediaType\":\"" OCI_LAYER "\",\"digest\":\"%s\",\"size\":%zu}]}",
		 config.text, config_size, layer.text, layer_size);
	manifest = kit_put(k, c, text);
	layer_size = strlen(text);
	snprintf(text, sizeof(text),
		 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX
		 "\",\"manifests\":[{\"mediaType\":\"" OCI_MANIFEST
		 "\",\"digest\":\"%s\",\"size\":%zu}]}",
		 manifest.text, layer_size);
	w->index[i] = kit_put(k, c, text);
	layer_size = strlen(text);
	w->layer[i] = layer;
	/* rows of a table without rowids that go on on other pages */
	memset(text, 'x', 300 + i * 120);
	text[300 + i * 120] = '\0';
	for (int n = 0; n < 4; n++) {
		snprintf(name, sizeof(name), "long-%d", n);
		OK(content_set_label(c, layer.text, name, text));
	}
	OK(oci_descriptor_new(&target, OCI_INDEX, &w->index[i], layer_size));
	snprintf(name, sizeof(name), "example.org/image:%zu", i);
	OK(image_create(c, name, &target, &(struct db_label){ "number", "one" }, 1, NULL, NULL));
	oci_descriptor_clear(&target);
}

static void add_container(struct kit *k, size_t i)
{
	char spec[16000], frame[20000], id[32], key[32];
	struct db_container c = { .ns = i % 2 ? "default" : "other",
				  .id = id,
				  .image = "",
				  .runtime = "",
				  .snapshotter = SNAPSHOTTER_NATIVE,
				  .snapshot_key = key,
				  .bundle = "",
				  .spec = frame,
				  .extensions = "\x81\xa1x\x01",
				  .extensions_size = 4,
				  .created_at = 1,
				  .updated_at = 2 };
	size_t n = 0;

	snprintf(id, sizeof(id), "container-%zu", i);
	snprintf(key, sizeof(key), "key-%zu", i);
	/* most are larger than a page, also when compressed, by different parts of it: digits */
	n = (size_t)snprintf(spec, sizeof(spec), "{\"ociVersion\":\"1.0.2\",\"x\":\"");
	while (n < 15900 - i * 1700)
		n += (size_t)snprintf(spec + n, sizeof(spec) - n, "%08x", (unsigned)random());
	n += (size_t)snprintf(spec + n, sizeof(spec) - n, "\"}");
	c.spec_size = ZSTD_compress(frame, sizeof(frame), spec, n, 1);
	assert_false(ZSTD_isError(c.spec_size));
	OK(db_container_put(k->db, &c, &k->f));
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct store_call other;
	struct kit *k;
	void *kit;

	assert_non_null(w);
	kit_setup(&kit);
	k = w->k = kit;
	other = kit_call(k, "other");
	for (size_t i = 0; i < IMAGES; i++)
		add_image(w, i % 2 ? &k->c : &other, i);
	for (size_t i = 0; i < CONTAINERS; i++) {
		struct store_call *c = i % 2 ? &k->c : &other;
		char key[32], name[32];

		snprintf(key, sizeof(key), "tmp-%zu", i);
		snprintf(name, sizeof(name), "base-%zu", i);
		OK(snapshot_prepare(c, SNAPSHOTTER_NATIVE, key, NULL, NULL, 0, NULL));
		OK(snapshot_commit(c, SNAPSHOTTER_NATIVE, name, key, NULL, 0));
		snprintf(key, sizeof(key), "key-%zu", i);
		OK(snapshot_prepare(c, SNAPSHOTTER_NATIVE, key, name, NULL, 0, NULL));
		add_container(k, i);
	}
	OK(lease_create(&k->c, "mine", NULL, 0, 0, NULL, NULL));
	OK(lease_add(&k->c, "mine", LEASE_CONTENT, w->layer[1].text));
	OK(db_namespace_put(k->db, &(struct db_namespace){ .name = "default" }, &k->f));
	OK(db_namespace_put(k->db,
			    &(struct db_namespace){ .name = "other",
						    .labels = &(struct db_label){ "a", "b" },
						    .n_labels = 1 },
			    &k->f));
	kit_close(k);
	reopen_root(k);
	w->db = load(k, "meta.db");
	w->wal = load(k, "meta.db-wal");
	assert_non_null(w->db.p);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	void *kit = w->k;

	fd_close(&w->k->root_fd);
	free(w->db.p);
	free(w->wal.p);
	kit_teardown(&kit);
	free(w);
	return 0;
}

/* ---- looking */

static int64_t number(struct kit *k, const char *text)
{
	int64_t n;

	OK(db_pragma_int(k->db, text, &n, &k->f));
	return n;
}

/* Opens; the report, or NULL. */
static char *reopen(struct kit *k)
{
	struct fault f = { 0 };
	char *report;

	if (db_open_or_rebuild(&k->db, k->root_fd, k->path, &report, &f) < 0)
		fail_msg("%s", f.message);
	return report;
}

static void close_db(struct kit *k)
{
	db_close(k->db);
	k->db = NULL;
}

/* What can be had back by content/index.json and the blobs alone. */
static void check_images(struct world *w)
{
	struct kit *k = w->k;
	char text[512];

	assert_int_equal(number(k, "SELECT count(*) FROM images"), IMAGES);
	for (size_t i = 0; i < IMAGES; i++) {
		const char *ns = i % 2 ? "default" : "other";

		snprintf(text, sizeof(text),
			 "SELECT count(*) FROM images WHERE namespace = '%s' AND "
			 "name = 'example.org/image:%zu' AND digest = '%s' AND "
			 "json_extract(target, '$.digest') = digest",
			 ns, i, w->index[i].text);
		assert_int_equal(number(k, text), 1);
		snprintf(text, sizeof(text),
			 "SELECT count(*) FROM content WHERE namespace = '%s' AND digest = '%s'",
			 ns, w->layer[i].text);
		assert_int_equal(number(k, text), 1);
	}
	/* three documents and a layer each; with labels from document to document */
	assert_int_equal(number(k, "SELECT count(*) FROM blobs"), IMAGES * 4);
	assert_int_equal(number(k, "SELECT count(*) FROM content WHERE labels LIKE '%gc.ref%'"),
			 IMAGES * 2);
	assert_int_equal(number(k, "SELECT count(*) FROM namespaces WHERE name IN "
				   "('default', 'other')"),
			 2);
}

static void check_all(struct world *w)
{
	struct kit *k = w->k;

	check_images(w);
	assert_int_equal(number(k, "SELECT count(*) FROM containers"), CONTAINERS);
	assert_int_equal(number(k, "SELECT count(*) FROM snapshots"), CONTAINERS * 2);
	assert_int_equal(number(k, "SELECT count(*) FROM leases WHERE id = 'mine'"), 1);
	assert_int_equal(number(k, "SELECT count(*) FROM lease_resources WHERE lease = 'mine'"), 1);
	assert_int_equal(number(k, "SELECT count(*) FROM namespaces WHERE labels LIKE '%b%'"), 1);
	assert_int_equal(number(k, "SELECT sum(length(json_extract(labels, '$.\"long-3\"'))) "
				   "FROM content"),
			 IMAGES * 300 + IMAGES * (IMAGES - 1) / 2 * 120);
	assert_int_equal(number(k, "SELECT count(*) FROM images WHERE labels LIKE '%one%'"),
			 IMAGES);
}

/* ---- tests */

static void test_undamaged(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;

	assert_null(reopen(k));
	check_all(w);
	close_db(k);
	assert_int_equal(count(k, "meta.db.", NULL, 0), 0);
}

static void test_new(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	char path[100];
	struct fault f = { 0 };
	struct db *db;
	char *report;
	int fd;

	snprintf(path, sizeof(path), "%s/empty", k->path);
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(db_open_or_rebuild(&db, fd, path, &report, &f), 0);
	assert_null(report);
	db_close(db);
	close(fd);
}

/* Pages that cannot be read in a table's way, one after the other. */
static void test_each_page(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	size_t pages = w->db.n / 4096;

	assert_true(pages > 10);
	for (size_t page = 0; page < pages; page++) {
		struct file damaged = copy(w->db);
		char *report, name[300];

		memset(damaged.p + page * 4096, page % 2 ? 0xaa : 0, 4096);
		restore(w);
		store(k, "meta.db", damaged);
		report = reopen(k);
		if (report) {
			assert_int_equal(count(k, "meta.db.damaged-", name, sizeof(name)), 1);
			assert_non_null(strstr(report, name));
			assert_non_null(strstr(report, "rows: "));
			check_images(w);
			free(report);
		} else {
			check_all(w); /* a page that nothing is on */
		}
		close_db(k);
		/* it is well now */
		assert_null(reopen(k));
		close_db(k);
		free(damaged.p);
	}
}

static void test_random(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	size_t rebuilt = 0, containers = 0;

	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		struct file damaged = copy(w->db);
		size_t holes, small = seed % 3;
		struct fault f = { 0 };
		char *report;
		int r;

		srandom(seed);
		holes = 1 + (size_t)random() % 6;
		while (holes--) {
			size_t size = small ? 1 + (size_t)random() % 64
					    : 512 + (size_t)random() % 8192;
			size_t at = (size_t)random() % damaged.n;

			for (size_t i = at; i < at + size && i < damaged.n; i++)
				damaged.p[i] = (char)random();
		}
		restore(w);
		store(k, "meta.db", damaged);
		r = db_open_or_rebuild(&k->db, k->root_fd, k->path, &report, &f);
		if (r == -EEXIST || r == -EPROTO) {
			/* the numbers that say whose it is: nothing was touched */
			struct file now = load(k, "meta.db");

			assert_true(now.n == damaged.n && !memcmp(now.p, damaged.p, now.n));
			assert_int_equal(count(k, "meta.db.damaged", NULL, 0), 0);
			free(now.p);
			free(damaged.p);
			continue;
		}
		if (r < 0)
			fail_msg("seed %u: %s", seed, f.message);
		if (report) {
			rebuilt++;
			check_images(w);
			containers += (size_t)number(k, "SELECT count(*) FROM containers");
			free(report);
		}
		assert_int_equal(number(k, "SELECT count(*) FROM pragma_quick_check "
					   "WHERE quick_check = 'ok'"),
				 1);
		close_db(k);
		report = reopen(k);
		if (report)
			fail_msg("seed %u, the second time: %s", seed, report);
		close_db(k);
		free(damaged.p);
	}
	assert_true(rebuilt > SEEDS / 4);
	/* most of what was not hit is there */
	assert_true(containers * 2 > rebuilt * CONTAINERS);
}

static void test_truncated(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	static const size_t sizes[] = { 0, 1, 100, 4095, 4096, 4097, 10000, 30000 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct file part = { w->db.p, sizes[i] };
		char *report;

		restore(w);
		store(k, "meta.db", part);
		report = reopen(k);
		if (!report)
			fail_msg("%zu bytes of %zu", sizes[i], w->db.n);
		check_images(w);
		close_db(k);
		free(report);
	}
	/* not there at all: the images are */
	restore(w);
	assert_int_equal(unlinkat(k->root_fd, "meta.db", 0), 0);
	free(reopen(k));
	check_images(w);
	close_db(k);
}

static void test_header(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	struct file damaged = copy(w->db);
	char *report;

	memset(damaged.p, 'x', 100);
	restore(w);
	store(k, "meta.db", damaged);
	report = reopen(k);
	assert_non_null(report);
	/* no other byte was touched: nothing else is lost */
	check_all(w);
	close_db(k);
	free(report);
	free(damaged.p);
}

/* Rows that SQLite sees nothing wrong with. */
static void test_spoilt_rows(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	char *report;

	assert_null(reopen(k));
	OK(db_exec(k->db,
		   "UPDATE images SET labels = '{' WHERE name LIKE '%:1';"
		   "UPDATE containers SET labels = 'null' WHERE id = 'container-3'",
		   "spoil", &k->f));
	close_db(k);
	report = reopen(k);
	assert_non_null(report);
	assert_non_null(strstr(report, "2 rows"));
	check_images(w);
	assert_int_equal(number(k, "SELECT count(*) FROM containers"), CONTAINERS - 1);
	assert_int_equal(number(k, "SELECT count(*) FROM images WHERE labels = '{}'"), 1);
	close_db(k);
	free(report);
}

/* What has no file has no row either; what has no row is set aside. */
static void test_disk(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	struct file damaged = copy(w->db);
	char name[300], path[400];
	struct stat st;
	char *report;

	memset(damaged.p, 'x', 100);
	restore(w);
	store(k, "meta.db", damaged);
	snprintf(name, sizeof(name), "content/blobs/sha256/%s", digest_hex(&w->index[0]));
	assert_int_equal(unlinkat(k->root_fd, name, 0), 0);
	/* folders are numbered 1, 2 (base-0, key-0) and so on */
	assert_int_equal(tree_remove(k->root_fd, "snapshots/native/1", NULL), 0);
	assert_int_equal(mkdirat(k->root_fd, "snapshots/native/77", 0700), 0);
	assert_int_equal(mkdirat(k->root_fd, "snapshots/native/77/fs", 0700), 0);
	report = reopen(k);
	assert_non_null(report);
	assert_int_equal(number(k, "SELECT count(*) FROM images"), IMAGES - 1);
	assert_non_null(strstr(report, "image example.org/image:0 (namespace other): its content"));
	assert_int_equal(number(k, "SELECT count(*) FROM snapshots"), CONTAINERS * 2 - 2);
	assert_non_null(strstr(report, "snapshot base-0 (namespace other): its folder"));
	assert_non_null(strstr(report, "container container-0 (namespace other): its snapshot"));
	assert_non_null(strstr(report, "2 folders of snapshots without a row"));
	assert_int_equal(count(k, "damaged-", name, sizeof(name)), 1);
	snprintf(path, sizeof(path), "%s/snapshots/native/77/fs", name);
	assert_int_equal(fstatat(k->root_fd, path, &st, 0), 0);
	snprintf(path, sizeof(path), "%s/snapshots/native/2/fs", name);
	assert_int_equal(fstatat(k->root_fd, path, &st, 0), 0);
	/* numbers are not used again */
	assert_int_equal(number(k, "SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'"), 77);
	free(report);
	free(damaged.p);
	close_db(k);

	/* the store opens, collects nothing for a week, and takes new ones */
	fd_close(&k->root_fd);
	kit_open(k);
	{
		struct gc_result r;

		OK(gc_run(&k->c, false, &r));
		assert_int_equal(r.content + r.snapshots, 0);
		assert_int_equal(number(k, "SELECT count(*) FROM leases WHERE id LIKE "
					   "'salvaged-%' AND expires_at > created_at"),
				 2);
		OK(snapshot_prepare(&k->c, SNAPSHOTTER_NATIVE, "new", NULL, NULL, 0, NULL));
		assert_int_equal(number(k, "SELECT max(id) FROM snapshots"), 78);
	}
	kit_close(k);
	reopen_root(k);
}

/* A log that was changed behind SQLite's back, which would forget what is behind the change. */
static void test_log(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	struct file log;
	char *report;
	pid_t pid;
	int status;

	/* a daemon that is killed leaves its log */
	pid = fork();
	if (!pid) {
		struct fault f = { 0 };
		struct db *db;
		char text[200];

		if (db_open(&db, k->path, &f) < 0)
			_exit(1);
		for (int i = 0; i < 40; i++) {
			snprintf(text, sizeof(text),
				 "INSERT INTO leases VALUES ('default', 'lease%d', '{}', 1, 0)", i);
			if (db_exec(db, text, "write", &f) < 0)
				_exit(2);
		}
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	free(w->db.p);
	free(w->wal.p);
	w->db = load(k, "meta.db");
	w->wal = load(k, "meta.db-wal");
	log = copy(w->wal);
	assert_true(log.n > 20 * 4096);
	assert_null(reopen(k));
	assert_int_equal(number(k, "SELECT count(*) FROM leases WHERE id LIKE 'lease%'"), 40);
	close_db(k);

	/* in the middle */
	restore(w);
	memset(log.p + 32 + 10 * (24 + 4096) + 100, 'x', 4000);
	store(k, "meta.db-wal", log);
	report = reopen(k);
	assert_non_null(report);
	assert_non_null(strstr(report, "parts of its log"));
	check_all(w);
	assert_int_equal(number(k, "SELECT count(*) FROM leases WHERE id LIKE 'lease%'"), 40);
	close_db(k);
	free(report);

	/* its header */
	restore(w);
	memcpy(log.p, w->wal.p, log.n);
	memset(log.p, 'x', 32);
	store(k, "meta.db-wal", log);
	report = reopen(k);
	assert_non_null(report);
	check_all(w);
	assert_int_equal(number(k, "SELECT count(*) FROM leases WHERE id LIKE 'lease%'"), 40);
	close_db(k);
	free(report);

	/* all of it */
	restore(w);
	for (size_t i = 0; i < log.n; i++)
		log.p[i] = (char)random();
	store(k, "meta.db-wal", log);
	report = reopen(k);
	assert_non_null(report);
	check_images(w);
	close_db(k);
	free(report);

	/* a last frame that was not written to its end is what a killed daemon leaves */
	restore(w);
	memcpy(log.p, w->wal.p, log.n);
	log.n -= 1000;
	store(k, "meta.db-wal", log);
	assert_null(reopen(k));
	assert_true(number(k, "SELECT count(*) FROM leases WHERE id LIKE 'lease%'") >= 39);
	close_db(k);
	free(log.p);
}

/* Others' files stay as they are. */
static void test_not_ours(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	struct file damaged = copy(w->db), now;
	struct fault f = { 0 };
	char *report;
	sqlite3 *sql;
	char path[100];

	restore(w);
	damaged.p[68] = 'X'; /* application_id */
	store(k, "meta.db", damaged);
	assert_int_equal(db_open_or_rebuild(&k->db, k->root_fd, k->path, &report, &f), -EEXIST);
	assert_non_null(strstr(f.message, "another program"));
	damaged.p[68] = w->db.p[68];
	damaged.p[63] = 99; /* user_version */
	restore(w);
	store(k, "meta.db", damaged);
	assert_int_equal(db_open_or_rebuild(&k->db, k->root_fd, k->path, &report, &f), -EPROTO);
	assert_non_null(strstr(f.message, "newer davit"));
	now = load(k, "meta.db");
	assert_true(now.n == damaged.n && !memcmp(now.p, damaged.p, now.n));
	assert_int_equal(count(k, "meta.db.", NULL, 0), 0);
	free(now.p);
	free(damaged.p);

	/* in use by another process, which has it locked */
	restore(w);
	snprintf(path, sizeof(path), "%s/meta.db", k->path);
	{
		int ready[2], done[2], status;
		char c = 0;
		pid_t pid;

		assert_int_equal(pipe(ready) | pipe(done), 0);
		pid = fork();
		if (!pid) {
			if (sqlite3_open(path, &sql) != SQLITE_OK ||
			    sqlite3_exec(sql, "BEGIN; SELECT * FROM meta", NULL, NULL, NULL) ||
			    write(ready[1], &c, 1) != 1 || read(done[0], &c, 1) != 1)
				_exit(1);
			_exit(0);
		}
		assert_int_equal(read(ready[0], &c, 1), 1);
		assert_int_equal(db_open_or_rebuild(&k->db, k->root_fd, k->path, &report, &f),
				 -EBUSY);
		assert_int_equal(write(done[1], &c, 1), 1);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		for (int i = 0; i < 2; i++) {
			close(ready[i]);
			close(done[i]);
		}
	}
	assert_null(reopen(k));
	close_db(k);
}

/* Killed in the midst of it: the next start goes on, or begins again. */
static void test_interrupted(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	struct file damaged = copy(w->db), made, stamp = { (char *)"20260102T030405Z", 16 };
	char *report;

	memset(damaged.p, 'x', 100);
	/* a new one that was not finished */
	restore(w);
	store(k, "meta.db", damaged);
	store(k, "meta.db.new", (struct file){ damaged.p, 3000 });
	report = reopen(k);
	assert_non_null(report);
	check_all(w);
	close_db(k);
	free(report);
	assert_int_equal(count(k, "meta.db.new", NULL, 0), 0);
	made = load(k, "meta.db");

	/* finished, and the names were not yet, or half, changed */
	for (int moved = 0; moved < 3; moved++) {
		restore(w);
		if (moved < 2)
			store(k, "meta.db", damaged);
		else
			unlinkat(k->root_fd, "meta.db", 0);
		if (!moved)
			store(k, "meta.db-wal", (struct file){ damaged.p, 5000 });
		store(k, "meta.db.new", made);
		store(k, "meta.db.switch", stamp);
		assert_null(reopen(k));
		check_all(w);
		close_db(k);
		assert_int_equal(count(k, "meta.db.new", NULL, 0), 0);
		assert_int_equal(count(k, "meta.db.switch", NULL, 0), 0);
		assert_int_equal(count(k, "meta.db.damaged-20260102T030405Z", NULL, 0), moved < 2);
	}
	/* all but the last step */
	restore(w);
	store(k, "meta.db.switch", stamp);
	assert_null(reopen(k));
	check_all(w);
	close_db(k);
	assert_int_equal(count(k, "meta.db.switch", NULL, 0), 0);
	free(made.p);
	free(damaged.p);
}

/* A large one is looked at only once something in it was found to be damaged. */
static void test_suspected(void **state)
{
	struct world *w = *state;
	struct kit *k = w->k;
	struct file large;
	struct fault f = { 0 };
	char *report, *at;

	assert_null(reopen(k));
	OK(db_exec(
		k->db,
		"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
		"INSERT INTO lease_resources SELECT 'default', 'mine', 'images', "
		"printf('%0200d', i) FROM n",
		"fill", &k->f));
	close_db(k);
	large = load(k, "meta.db");
	assert_true(large.n > 5 << 20);
	at = memmem(large.p, large.n, "example.org/image:2", 19);
	assert_non_null(at);
	memset(large.p + (at - large.p) / 4096 * 4096, 0, 4096);
	store(k, "meta.db", large);
	free(large.p);
	assert_null(reopen(k));
	assert_true(sqlite3_exec(k->db->sql, "SELECT * FROM images", NULL, NULL, NULL) !=
		    SQLITE_OK);
	assert_int_equal(db_fault(k->db, "read", &f), -EUCLEAN);
	close_db(k);
	assert_int_equal(count(k, "meta.db.check", NULL, 0), 1);
	report = reopen(k);
	assert_non_null(report);
	check_images(w);
	assert_int_equal(number(k, "SELECT count(*) FROM lease_resources WHERE lease = 'mine'"),
			 30001);
	close_db(k);
	free(report);
	assert_int_equal(count(k, "meta.db.check", NULL, 0), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_undamaged), T(test_new),	     T(test_each_page),	  T(test_random),
		T(test_truncated), T(test_header),   T(test_spoilt_rows), T(test_disk),
		T(test_log),	   T(test_not_ours), T(test_interrupted), T(test_suspected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
