// SPDX-License-Identifier: Apache-2.0
/* Turns and transactions of the database: nesting, undoing, durability, threads, the watcher. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/db_internal.h"
#include "util/cleanup.h"
#include "util/tree.h"

struct fixture {
	char path[64];
	struct db *db;
	struct fault f;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->path, "/tmp/test_db_tx.XXXXXX");
	assert_non_null(mkdtemp(x->path));
	if (db_open(&x->db, x->path, &x->f) < 0)
		fail_msg("%s", x->f.message);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	db_close(x->db);
	assert_int_equal(tree_remove(AT_FDCWD, x->path, NULL), 0);
	free(x);
	return 0;
}

static int put(struct fixture *x, const char *key)
{
	char text[200];

	snprintf(text, sizeof(text), "INSERT INTO meta (key, value) VALUES ('%s', '')", key);
	return db_exec(x->db, text, "write", &x->f);
}

static int64_t number(struct fixture *x, const char *text)
{
	int64_t n;

	db_lock(x->db);
	assert_int_equal(db_pragma_int(x->db, text, &n, &x->f), 0);
	db_unlock(x->db);
	return n;
}

static bool has(struct fixture *x, const char *key)
{
	char text[200];

	snprintf(text, sizeof(text), "SELECT count(*) FROM meta WHERE key = '%s'", key);
	return number(x, text);
}

static void test_commit(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(put(x, "a"), 0);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_true(has(x, "a"));
	assert_int_equal(x->db->depth, 0);
}

static void test_rollback(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(put(x, "a"), 0);
	db_rollback(x->db);
	assert_false(has(x, "a"));
	/* the next one begins anew */
	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(put(x, "b"), 0);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_true(has(x, "b"));
}

static void test_nested(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(put(x, "outer"), 0);
	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(put(x, "inner"), 0);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_int_equal(x->db->depth, 1);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_true(has(x, "outer") && has(x, "inner"));
}

/* What an inner part has given up cannot be committed by the outer one. */
static void test_inner_rollback(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(put(x, "outer"), 0);
	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(put(x, "inner"), 0);
	db_rollback(x->db);
	assert_int_equal(db_commit(x->db, &x->f), -ECANCELED);
	assert_false(has(x, "outer") || has(x, "inner"));
	assert_int_equal(x->db->depth, 0);
	/* and that is over with it */
	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(put(x, "next"), 0);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_true(has(x, "next"));
}

static void test_durable_inside(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), -EINVAL);
	assert_non_null(strstr(x->f.message, "durable"));
	/* that begin did not succeed: the outer one goes on */
	assert_int_equal(x->db->depth, 1);
	assert_int_equal(put(x, "a"), 0);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_true(has(x, "a"));
}

static void test_end(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(put(x, "a"), 0);
	assert_int_equal(db_end(x->db, 0, &x->f), 0);
	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(put(x, "b"), 0);
	assert_int_equal(db_end(x->db, -ENOENT, &x->f), -ENOENT);
	assert_true(has(x, "a"));
	assert_false(has(x, "b"));
}

/* A statement that fails leaves the transaction to its owner. */
static void test_failed_statement(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(put(x, "a"), 0);
	assert_true(put(x, "a") < 0);
	assert_int_equal(x->db->depth, 1);
	db_rollback(x->db);
	assert_false(has(x, "a"));
}

/* Which commits are synced: what SQLite is told at that moment. */
static void test_durability(void **state)
{
	struct fixture *x = *state;

	assert_int_equal(number(x, "PRAGMA synchronous"), 1);
	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	assert_int_equal(number(x, "PRAGMA synchronous"), 2);
	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(number(x, "PRAGMA synchronous"), 2);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_int_equal(number(x, "PRAGMA synchronous"), 2);
	assert_int_equal(db_commit(x->db, &x->f), 0);
	assert_int_equal(number(x, "PRAGMA synchronous"), 1);
	assert_int_equal(db_begin(x->db, DB_FULL, &x->f), 0);
	db_rollback(x->db);
	assert_int_equal(number(x, "PRAGMA synchronous"), 1);
	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(number(x, "PRAGMA synchronous"), 1);
	db_rollback(x->db);
}

/* Whoever is killed in the midst of one has written nothing. */
static void test_killed(void **state)
{
	struct fixture *x = *state;
	int status;
	pid_t pid;

	db_close(x->db);
	x->db = NULL;
	pid = fork();
	if (!pid) {
		if (db_open(&x->db, x->path, &x->f) < 0 || db_begin(x->db, DB_FULL, &x->f) < 0 ||
		    put(x, "done") < 0 || db_commit(x->db, &x->f) < 0 ||
		    db_begin(x->db, DB_FULL, &x->f) < 0 || put(x, "half") < 0)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(db_open(&x->db, x->path, &x->f), 0);
	assert_true(has(x, "done"));
	assert_false(has(x, "half"));
}

/* ---- threads */

#define THREADS 4
#define ROUNDS 200

static void *count_up(void *user)
{
	struct fixture *x = user;
	struct fault f = { 0 };
	intptr_t failed = 0;

	for (int i = 0; i < ROUNDS; i++) {
		int64_t n;
		char text[128];
		int r = db_begin(x->db, DB_NORMAL, &f);

		if (r < 0) {
			failed++;
			continue;
		}
		/* read, then write: nobody may come between */
		r = db_pragma_int(x->db, "SELECT value FROM meta WHERE key = 'count'", &n, &f);
		snprintf(text, sizeof(text), "UPDATE meta SET value = %lld WHERE key = 'count'",
			 (long long)n + 1);
		if (!r)
			r = db_exec(x->db, text, "write", &f);
		/* every fourth is undone */
		if (i % 4 == 3)
			db_rollback(x->db);
		else if (db_end(x->db, r, &f) < 0)
			failed++;
	}
	return (void *)failed;
}

static void test_threads(void **state)
{
	struct fixture *x = *state;
	pthread_t threads[THREADS];
	void *failed;

	assert_int_equal(db_exec(x->db, "INSERT INTO meta VALUES ('count', 0)", "write", &x->f), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_up, x), 0);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &failed);
		assert_int_equal((intptr_t)failed, 0);
	}
	assert_int_equal(number(x, "SELECT value FROM meta WHERE key = 'count'"),
			 THREADS * ROUNDS * 3 / 4);
}

/* ---- the watcher */

struct seen {
	char text[1024];
	struct db *db;
	bool open; /* a transaction was, each time */
};

static void note(void *user, enum db_kind kind, const char *ns, const char *id)
{
	struct seen *s = user;
	size_t at = strlen(s->text);

	snprintf(s->text + at, sizeof(s->text) - at, "%d:%s:%s ", (int)kind, ns, id);
	s->open = s->open && s->db->depth;
}

static void test_watch(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .db = x->db };
	struct db_container c = { .ns = "a",
				  .id = "c",
				  .image = "",
				  .runtime = "",
				  .snapshotter = "",
				  .snapshot_key = "",
				  .bundle = "",
				  .created_at = 1,
				  .updated_at = 1 };

	db_touch(x->db, DB_KIND_IMAGE, "n", "nobody listens");
	db_watch(x->db, note, &s);
	db_touch(x->db, DB_KIND_CONTENT, "n", "d");
	assert_int_equal(db_container_put(x->db, &c, &x->f), 0);
	assert_string_equal(s.text, "0:n:d 5:a:c ");
	/* inside a transaction it is told at once, before the commit */
	s.text[0] = '\0';
	s.open = true;
	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(db_container_put(x->db, &c, &x->f), 0);
	assert_string_equal(s.text, "5:a:c ");
	assert_true(s.open);
	db_rollback(x->db);
	db_watch(x->db, NULL, NULL);
	assert_int_equal(db_container_put(x->db, &c, &x->f), 0);
	assert_string_equal(s.text, "5:a:c ");
}

static void *watch_off(void *user)
{
	db_watch(user, NULL, NULL);
	return NULL;
}

/* Who ends the watch waits for the transaction that is open: nothing is told afterwards. */
static void test_watch_waits(void **state)
{
	struct fixture *x = *state;
	struct seen s = { .db = x->db };
	pthread_t thread;

	db_watch(x->db, note, &s);
	assert_int_equal(db_begin(x->db, DB_NORMAL, &x->f), 0);
	assert_int_equal(pthread_create(&thread, NULL, watch_off, x->db), 0);
	db_touch(x->db, DB_KIND_LEASE, "n", "l");
	assert_string_equal(s.text, "3:n:l ");
	assert_int_equal(db_commit(x->db, &x->f), 0);
	pthread_join(thread, NULL);
	db_touch(x->db, DB_KIND_LEASE, "n", "m");
	assert_string_equal(s.text, "3:n:l ");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_commit),		  T(test_rollback),	  T(test_nested),
		T(test_inner_rollback),	  T(test_durable_inside), T(test_end),
		T(test_failed_statement), T(test_durability),	  T(test_killed),
		T(test_threads),	  T(test_watch),	  T(test_watch_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
