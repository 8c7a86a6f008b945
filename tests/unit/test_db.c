// SPDX-License-Identifier: Apache-2.0
/* The metadata database: rows, schema, damage, a full disk, a writer that is killed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/db_internal.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fd.h"

struct fixture {
	char path[64], file[80], wal[80];
	struct db *db;
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	assert_non_null(x);
	strcpy(x->path, "/tmp/test_db.XXXXXX");
	assert_non_null(mkdtemp(x->path));
	sprintf(x->file, "%s/meta.db", x->path);
	sprintf(x->wal, "%s/meta.db-wal", x->path);
	*state = x;
	return 0;
}

static void clear(struct fixture *x)
{
	char name[400];
	struct dirent *e;
	DIR *d = opendir(x->path);

	while ((e = readdir(d))) {
		snprintf(name, sizeof(name), "%s/%s", x->path, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	closedir(d);
}

static int teardown(void **state)
{
	struct fixture *x = *state;

	db_close(x->db);
	clear(x);
	rmdir(x->path);
	free(x);
	return 0;
}

static void open_db(struct fixture *x)
{
	struct fault f = { 0 };

	if (db_open(&x->db, x->path, &f) < 0)
		fail_msg("%s", f.message);
}

static void close_db(struct fixture *x)
{
	db_close(x->db);
	x->db = NULL;
}

static void shell(struct fixture *x, const char *text)
{
	sqlite3 *sql;
	char *error = NULL;

	assert_int_equal(sqlite3_open(x->file, &sql), SQLITE_OK);
	if (sqlite3_exec(sql, text, NULL, NULL, &error) != SQLITE_OK)
		fail_msg("%s", error);
	sqlite3_close(sql);
}

static const struct db_label labels[] = {
	{ "io.kubernetes/pod name", "a \"b\" \\ / \n" },
	{ "größe", "Übermaß" },
	{ "empty", "" },
	{ "\x01", "\xff\xfe" },
};

static struct db_container make(const char *ns, const char *id, const void *spec, size_t size)
{
	return (struct db_container){
		.ns = ns,
		.id = id,
		.image = "docker.io/library/busybox:latest",
		.runtime = "davit",
		.snapshotter = "",
		.snapshot_key = "",
		.bundle = "/b",
		.labels = labels,
		.n_labels = 4,
		.spec = spec,
		.spec_size = size,
		.created_at = INT64_MAX,
		.updated_at = -1,
	};
}

struct walk {
	unsigned n;
	char names[4096];
	int stop;
	const struct db_container *expect;
};

static void check_labels(const struct db_label *l, size_t n)
{
	assert_int_equal(n, ARRAY_SIZE(labels));
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(l[i].key, labels[i].key);
		assert_string_equal(l[i].value, labels[i].value);
	}
}

static int on_container(void *user, const struct db_container *c)
{
	const struct db_container *e = ((struct walk *)user)->expect;
	struct walk *w = user;

	w->n++;
	if (strlen(w->names) < 4000) {
		strcat(w->names, c->ns);
		strcat(w->names, "/");
		strcat(w->names, c->id);
		strcat(w->names, " ");
	}
	if (e) {
		assert_string_equal(c->image, e->image);
		assert_string_equal(c->runtime, e->runtime);
		assert_string_equal(c->snapshotter, e->snapshotter);
		assert_string_equal(c->snapshot_key, e->snapshot_key);
		assert_string_equal(c->bundle, e->bundle);
		check_labels(c->labels, c->n_labels);
		assert_int_equal(c->spec_size, e->spec_size);
		assert_memory_equal(c->spec, e->spec, e->spec_size);
		assert_int_equal(c->extensions_size, e->extensions_size);
		if (e->extensions_size)
			assert_memory_equal(c->extensions, e->extensions, e->extensions_size);
		assert_true(c->created_at == e->created_at && c->updated_at == e->updated_at);
	}
	return w->stop;
}

static int on_namespace(void *user, const struct db_namespace *ns)
{
	struct walk *w = user;

	w->n++;
	strcat(w->names, ns->name);
	strcat(w->names, " ");
	if (!strcmp(ns->name, "labelled"))
		check_labels(ns->labels, ns->n_labels);
	else
		assert_int_equal(ns->n_labels, 0);
	return w->stop;
}

static void test_rows(void **state)
{
	struct fixture *x = *state;
	static const char spec[] = "zstd\0frame";
	struct db_container c = make("default", "one", spec, sizeof(spec));
	struct db_namespace ns = { .name = "labelled", .labels = labels, .n_labels = 4 };
	struct walk w = { .expect = &c };
	struct stat st;

	open_db(x);
	assert_int_equal(stat(x->file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(x->wal, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(db_namespace_put(x->db, &ns, NULL), 0);
	assert_int_equal(db_namespace_put(x->db, &ns, NULL), 0);
	ns = (struct db_namespace){ .name = "default" };
	assert_int_equal(db_namespace_put(x->db, &ns, NULL), 0);
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	c.id = "two";
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	c.ns = "other";
	c.image = "first";
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	/* replaced */
	c.image = make("", "", "", 0).image;
	c.extensions = "\x81\xa1\x61\x01";
	c.extensions_size = 4;
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	c.ns = "default";
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	c.id = "one";
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	for (int again = 0; again < 2; again++) {
		memset(w.names, 0, sizeof(w.names));
		assert_int_equal(db_container_each(x->db, on_container, &w, NULL), 0);
		assert_string_equal(w.names, "default/one default/two other/two ");
		memset(w.names, 0, sizeof(w.names));
		assert_int_equal(db_namespace_each(x->db, on_namespace, &w, NULL), 0);
		assert_string_equal(w.names, "default labelled ");
		close_db(x);
		/* a clean end leaves one file */
		assert_int_equal(stat(x->wal, &st), -1);
		open_db(x);
	}
	assert_int_equal(db_container_delete(x->db, "default", "two", NULL), 0);
	assert_int_equal(db_container_delete(x->db, "default", "two", NULL), 0);
	assert_int_equal(db_namespace_delete(x->db, "labelled", NULL), 0);
	assert_int_equal(db_namespace_delete(x->db, "labelled", NULL), 0);
	memset(&w, 0, sizeof(w));
	assert_int_equal(db_container_each(x->db, on_container, &w, NULL), 0);
	assert_string_equal(w.names, "default/one other/two ");
	/* a walk that is stopped, and another one after it */
	w.stop = -ECANCELED;
	w.n = 0;
	assert_int_equal(db_container_each(x->db, on_container, &w, NULL), -ECANCELED);
	assert_int_equal(w.n, 1);
	w.stop = 7;
	assert_int_equal(db_namespace_each(x->db, on_namespace, &w, NULL), 7);
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
}

static void test_sqlite_shell_sees_labels(void **state)
{
	struct fixture *x = *state;
	struct db_container c = make("default", "one", "x", 1);

	open_db(x);
	c.n_labels = 3;
	assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	/* while the daemon has it open; and labels are JSON to it */
	shell(x, "CREATE TEMP TABLE t (n INTEGER CHECK (n = 1));"
		 "INSERT INTO t SELECT count(*) FROM containers "
		 "WHERE json_extract(labels, '$.größe') = 'Übermaß' AND id = 'one';");
}

static void refused(struct fixture *x, int r, const char *text)
{
	struct fault f = { 0 };
	int got = db_open(&x->db, x->path, &f);

	if (got != r || !strstr(f.message, text) || !strstr(f.message, x->file))
		fail_msg("%d for %d (%s), message: %s", got, r, text, f.message);
	assert_null(x->db);
	assert_int_equal(db_open(&x->db, x->path, NULL), r);
}

static void test_foreign(void **state)
{
	struct fixture *x = *state;
	size_t before, after;
	char *a, *b;

	open_db(x);
	close_db(x);
	shell(x, "PRAGMA user_version = 99");
	refused(x, -EPROTO, "newer davit (schema 99");
	shell(x, "PRAGMA user_version = -1");
	refused(x, -EPROTO, "newer");
	clear(x);
	shell(x, "CREATE TABLE music (title TEXT)");
	assert_int_equal(fd_read_file(AT_FDCWD, x->file, 1 << 20, &a, &before), 0);
	refused(x, -EEXIST, "another program");
	assert_int_equal(fd_read_file(AT_FDCWD, x->file, 1 << 20, &b, &after), 0);
	assert_int_equal(before, after);
	assert_memory_equal(a, b, before);
	free(a);
	free(b);
}

static void fill(struct fixture *x, unsigned n)
{
	static char spec[1500];
	char id[32];

	for (unsigned i = 0; i < n; i++) {
		struct db_container c = make("default", id, spec, 300 + i * 37 % 1200);

		snprintf(id, sizeof(id), "c%05u", i);
		memset(spec, (int)i, sizeof(spec));
		assert_int_equal(db_container_put(x->db, &c, NULL), 0);
	}
}

static void damage(const char *path, off_t from, off_t size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char junk[4096];

	assert_true(fd >= 0);
	memset(junk, 0xa5, sizeof(junk));
	for (; size > 0; size -= (off_t)sizeof(junk), from += (off_t)sizeof(junk))
		assert_int_equal(pwrite(fd, junk, (size_t)(size < 4096 ? size : 4096), from),
				 size < 4096 ? size : 4096);
	close(fd);
}

static void test_damaged(void **state)
{
	struct fixture *x = *state;
	struct walk w = { 0 };
	struct fault f = { 0 };
	struct stat st, later;

	/* the head */
	open_db(x);
	fill(x, 200);
	close_db(x);
	assert_int_equal(stat(x->file, &st), 0);
	damage(x->file, 0, 50);
	refused(x, -EUCLEAN, "damaged");
	assert_int_equal(stat(x->file, &later), 0);
	assert_true(st.st_size == later.st_size && st.st_ino == later.st_ino);
	/* the rows: it opens, since it was closed well, and the walk tells */
	clear(x);
	open_db(x);
	fill(x, 200);
	close_db(x);
	damage(x->file, 8 * 4096, st.st_size - 8 * 4096);
	open_db(x);
	assert_int_equal(db_container_each(x->db, on_container, &w, &f), -EUCLEAN);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	assert_int_equal(f.err, EUCLEAN);
	assert_non_null(strstr(f.message, "damaged"));
	close_db(x);
	/* something that is no database at all */
	clear(x);
	open_db(x);
	close_db(x);
	damage(x->file, 0, 8192);
	refused(x, -EUCLEAN, "not a database");
}

/* The machine went down with the file open: it is looked at as a whole. */
static void test_checked_after_power_cut(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	pid_t pid;
	int status;

	open_db(x);
	fill(x, 100);
	close_db(x);
	for (int same_boot = 1; same_boot >= 0; same_boot--) {
		pid = fork();
		if (pid == 0) {
			open_db(x);
			if (!same_boot &&
			    sqlite3_exec(x->db->sql, "UPDATE meta SET value = 'earlier'", NULL,
					 NULL, NULL) != SQLITE_OK)
				_exit(1);
			if (db_namespace_put(x->db, &(struct db_namespace){ .name = "n" }, NULL) <
			    0)
				_exit(1);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(status, 0);
		assert_int_equal(stat(x->wal, &st), 0);
		if (!same_boot) {
			damage(x->file, 10 * 4096, 4096);
			refused(x, -EUCLEAN, "damaged");
			/* and so it stays, its log too */
			refused(x, -EUCLEAN, "damaged");
			assert_int_equal(stat(x->wal, &st), 0);
			break;
		}
		open_db(x);
		close_db(x);
	}
}

static void test_killed_writer(void **state)
{
	struct fixture *x = *state;
	volatile unsigned *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal((void *)shared, MAP_FAILED);
	for (int round = 0; round < 8; round++) {
		struct walk w = { 0 };
		pid_t pid = fork();

		if (pid == 0) {
			static char spec[8000];
			char id[32];

			open_db(x);
			for (;;) {
				struct db_container c = make("default", id, spec,
							     100 + *shared * 131 % 7900);

				snprintf(id, sizeof(id), "c%07u", *shared + 1);
				if (db_container_put(x->db, &c, NULL) < 0)
					_exit(1);
				++*shared;
			}
		}
		usleep(20000 + 13000 * (unsigned)round);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		open_db(x);
		assert_int_equal(db_container_each(x->db, on_container, &w, NULL), 0);
		assert_true(w.n == *shared || w.n == *shared + 1);
		*shared = w.n;
		close_db(x);
	}
	assert_true(*shared > 50);
	print_message("%u rows\n", *shared);
	munmap((void *)shared, 4096);
}

static void test_full_disk(void **state)
{
	struct fixture *x = *state;
	static char spec[20000];
	struct db_container c = make("default", "big", spec, sizeof(spec));
	struct fault f = { 0 };
	struct walk w = { 0 };
	char id[32];
	unsigned n = 0;
	int r = 0;

	if (mount("tmpfs", x->path, "tmpfs", 0, "size=600k") < 0)
		skip();
	open_db(x);
	c.id = id;
	while (!r && n < 100) {
		snprintf(id, sizeof(id), "c%u", n);
		r = db_container_put(x->db, &c, &f);
		n += !r;
	}
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(f.code, FAULT_RESOURCE_EXHAUSTED);
	assert_int_equal(db_container_each(x->db, on_container, &w, NULL), 0);
	assert_int_equal(w.n, n);
	close_db(x);
	assert_int_equal(umount(x->path), 0);
}

static void test_locked(void **state)
{
	struct fixture *x = *state;
	struct fault f = { 0 };
	sqlite3 *other;

	open_db(x);
	assert_int_equal(sqlite3_open(x->file, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_busy_timeout(x->db->sql, 50);
	assert_int_equal(db_namespace_put(x->db, &(struct db_namespace){ .name = "n" }, &f),
			 -EBUSY);
	assert_int_equal(f.code, FAULT_UNAVAILABLE);
	sqlite3_exec(other, "COMMIT", NULL, NULL, NULL);
	assert_int_equal(db_namespace_put(x->db, &(struct db_namespace){ .name = "n" }, &f), 0);
	sqlite3_close(other);
}

static void test_no_folder(void **state)
{
	struct fault f = { 0 };
	struct db *db;

	(void)state;
	assert_int_equal(db_open(&db, "/nonexistent/davit", &f), -ENOENT);
	assert_int_equal(f.code, FAULT_NOT_FOUND);
	assert_null(db);
	db_close(NULL);
}

static void test_speed_and_memory(void **state)
{
	struct fixture *x = *state;
	int64_t begin;
	struct walk w = { 0 };

	open_db(x);
	begin = clock_mono();
	fill(x, 1000);
	print_message("%lld us a put, ", (long long)(clock_mono() - begin) / 1000000);
	close_db(x);
	begin = clock_mono();
	open_db(x);
	print_message("%lld us to open, ", (long long)(clock_mono() - begin) / 1000);
	begin = clock_mono();
	assert_int_equal(db_container_each(x->db, on_container, &w, NULL), 0);
	assert_int_equal(w.n, 1000);
	print_message("%lld us to read 1000, %lld KiB\n", (long long)(clock_mono() - begin) / 1000,
		      (long long)sqlite3_memory_used() / 1024);
	assert_true(sqlite3_memory_used() < 1 << 20);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rows),
		T(test_sqlite_shell_sees_labels),
		T(test_foreign),
		T(test_damaged),
		T(test_checked_after_power_cut),
		T(test_killed_writer),
		T(test_full_disk),
		T(test_locked),
		T(test_no_folder),
		T(test_speed_and_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
