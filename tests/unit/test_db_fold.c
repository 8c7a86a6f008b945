// SPDX-License-Identifier: Apache-2.0
/* Folding the database's log beside a thread that writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/db.h"

struct folder {
	struct db *db;
	atomic_bool stop;
	unsigned folds, failed;
};

static void *fold_all_the_time(void *arg)
{
	struct folder *x = arg;

	while (!atomic_load(&x->stop)) {
		if (db_wal_pages(x->db) >= DB_FOLD_PAGES) {
			x->folds++;
			x->failed += db_fold(x->db, NULL) < 0;
		}
		usleep(200); /* as long as the reactor takes at least */
	}
	return NULL;
}

static void put(struct db *db, unsigned i)
{
	static const char spec[3000] = "a frame";
	struct fault f = { 0 };
	char id[32];
	struct db_container c = {
		.ns = "n",
		.id = id,
		.image = "",
		.runtime = "",
		.snapshotter = "",
		.snapshot_key = "",
		.bundle = "",
		.spec = spec,
		.spec_size = sizeof(spec),
		.created_at = i,
	};

	snprintf(id, sizeof(id), "c%u", i);
	assert_int_equal(db_container_put(db, &c, &f), 0);
}

static int count_one(void *user, const struct db_container *c)
{
	(void)c;
	++*(unsigned *)user;
	return 0;
}

static void test_fold(void **state)
{
	char root[] = "/tmp/davit-test-fold-XXXXXX", path[64];
	struct folder x = { 0 };
	struct fault f = { 0 };
	unsigned count = 0;
	pthread_t thread;
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(root));
	assert_int_equal(db_open(&x.db, root, &f), 0);
	/* without anybody's help nothing is lost either, and the log does not grow for ever */
	for (unsigned i = 0; i < 1000; i++)
		put(x.db, i);
	assert_true(db_wal_pages(x.db) > DB_FOLD_PAGES);
	assert_int_equal(db_fold(x.db, &f), 0);
	put(x.db, 1000);
	assert_true(db_wal_pages(x.db) < DB_FOLD_PAGES);

	assert_int_equal(pthread_create(&thread, NULL, fold_all_the_time, &x), 0);
	for (unsigned i = 1000; i < 4000; i++)
		put(x.db, i);
	atomic_store(&x.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(x.folds > 0);
	assert_int_equal(x.failed, 0);
	snprintf(path, sizeof(path), "%s/meta.db-wal", root);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 64 << 20);
	db_close(x.db);

	assert_int_equal(db_open(&x.db, root, &f), 0);
	assert_int_equal(db_container_each(x.db, count_one, &count, &f), 0);
	assert_int_equal(count, 4000);
	db_close(x.db);
	snprintf(path, sizeof(path), "%s/meta.db", root);
	assert_int_equal(unlink(path), 0);
	snprintf(path, sizeof(path), "%s/reserve", root);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(root), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_fold) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
