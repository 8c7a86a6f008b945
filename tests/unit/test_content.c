// SPDX-License-Identifier: Apache-2.0
/* Content: records and files of blobs, labels, namespaces, damage, the index. */
#include "content_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "store/lease.h"
#include "util/cleanup.h"
#include "util/json.h"
#include "util/limits.h"

#define NONE "sha256:0000000000000000000000000000000000000000000000000000000000000000"

struct seen {
	char digest[DIGEST_TEXT];
	uint64_t size;
	size_t n_labels;
	char labels[256]; /* key=value; … */
	int64_t created_at, updated_at;
	size_t n;
	size_t stop; /* ends after so many */
	char last[DIGEST_TEXT];
};

static int see(void *user, const struct content_info *info)
{
	struct seen *x = user;

	snprintf(x->digest, sizeof(x->digest), "%s", info->digest);
	x->size = info->size;
	x->n_labels = info->n_labels;
	x->labels[0] = '\0';
	for (size_t i = 0; i < info->n_labels; i++) {
		size_t n = strlen(x->labels);

		snprintf(x->labels + n, sizeof(x->labels) - n, "%s=%s;", info->labels[i].key,
			 info->labels[i].value);
	}
	x->created_at = info->created_at;
	x->updated_at = info->updated_at;
	if (x->n)
		assert_true(strcmp(x->last, info->digest) < 0);
	strcpy(x->last, x->digest);
	x->n++;
	return x->stop && x->n == x->stop ? 1 : 0;
}

static const char *blob_path(struct kit *k, const struct digest *d, char *to, size_t size)
{
	snprintf(to, size, "%s/content/blobs/sha256/%s", k->path, digest_hex(d));
	return to;
}

static void test_blob(void **state)
{
	struct kit *k = *state;
	struct digest d = kit_put(k, &k->c, "hello\n");
	struct seen seen = { 0 };
	char path[200], *data;
	struct stat st;
	uint64_t bytes;
	size_t size;
	int fd;

	assert_string_equal(
		d.text, "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
	assert_int_equal(stat(blob_path(k, &d, path, sizeof(path)), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0444);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(st.st_uid, getuid());
	assert_int_equal(kit_events(k, "/content/create"), 1);
	assert_string_equal(k->events.first->ns, "default");
	OK(content_info(&k->c, d.text, see, &seen));
	assert_string_equal(seen.digest, d.text);
	assert_int_equal(seen.size, 6);
	assert_int_equal(seen.n_labels, 0);
	assert_true(seen.created_at > 0 && seen.created_at == seen.updated_at);
	assert_int_equal(content_has(&k->c, d.text), 1);
	assert_int_equal(content_has(&k->c, NONE), 0);

	OK(content_open(&k->c, d.text, &fd, &bytes));
	assert_int_equal(bytes, 6);
	assert_int_equal(write(fd, "x", 1), -1);
	OK(content_read_all(&k->c, d.text, 6, &data, &size));
	assert_int_equal(size, 6);
	assert_string_equal(data, "hello\n");
	free(data);
	FAILS(content_read_all(&k->c, d.text, 5, &data, &size), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "has 6 bytes, 5 is the most");
	OK(content_verify(&k->c, d.text));

	/* what is open stays readable */
	OK(content_delete(&k->c, d.text));
	assert_int_equal(kit_events(k, "/content/delete"), 1);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(content_has(&k->c, d.text), 0);
	assert_int_equal(pread(fd, path, 6, 0), 6);
	close(fd);
	FAILS(content_delete(&k->c, d.text), -ENOENT, FAULT_NOT_FOUND, d.text);
	FAILS(content_info(&k->c, d.text, see, &seen), -ENOENT, FAULT_NOT_FOUND, d.text);
	FAILS(content_open(&k->c, d.text, &fd, NULL), -ENOENT, FAULT_NOT_FOUND, d.text);
	assert_int_equal(fd, -1);
	FAILS(content_verify(&k->c, d.text), -ENOENT, FAULT_NOT_FOUND, d.text);
	/* and it can come again */
	kit_put(k, &k->c, "hello\n");
	assert_int_equal(kit_events(k, "/content/create"), 2);
}

static void test_empty_blob(void **state)
{
	struct kit *k = *state;
	struct digest d = kit_put(k, &k->c, "");
	char *data;
	size_t size;

	OK(content_read_all(&k->c, d.text, 0, &data, &size));
	assert_int_equal(size, 0);
	assert_string_equal(data, "");
	free(data);
	OK(content_verify(&k->c, d.text));
}

static void test_wrong_digests(void **state)
{
	static const char *const wrong[] = { "", "x", "../../../etc/passwd", "sha256:../../../x",
					     "SHA256:" };
	struct kit *k = *state;
	struct seen seen = { 0 };
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		FAILS(content_info(&k->c, wrong[i], see, &seen), -EINVAL, FAULT_INVALID_ARGUMENT,
		      "is not a digest");
		assert_string_equal(k->f.argument, "digest");
		FAILS(content_has(&k->c, wrong[i]), -EINVAL, FAULT_INVALID_ARGUMENT,
		      "is not a digest");
		FAILS(content_open(&k->c, wrong[i], &fd, NULL), -EINVAL, FAULT_INVALID_ARGUMENT,
		      "is not a digest");
		FAILS(content_delete(&k->c, wrong[i]), -EINVAL, FAULT_INVALID_ARGUMENT,
		      "is not a digest");
		FAILS(content_verify(&k->c, wrong[i]), -EINVAL, FAULT_INVALID_ARGUMENT,
		      "is not a digest");
		FAILS(content_set_labels(&k->c, wrong[i], NULL, 0, NULL, NULL), -EINVAL,
		      FAULT_INVALID_ARGUMENT, "is not a digest");
	}
	FAILS(content_verify(&k->c, "sha512:abc"), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "sha512 is not supported");
}

static void test_labels(void **state)
{
	struct kit *k = *state;
	const struct db_label given[] = { { "a", "1" }, { "empty", "" }, { "b", "2" } };
	struct seen seen = { 0 };
	struct digest d;

	OK(content_put(&k->c, "x", 1, given, 3, &d));
	OK(content_info(&k->c, d.text, see, &seen));
	assert_string_equal(seen.labels, "a=1;b=2;");
	/* once more: labels are merged */
	OK(content_put(&k->c, "x", 1, (struct db_label[]){ { "b", "3" }, { "c", "4" } }, 2, &d));
	assert_int_equal(kit_events(k, "/content/create"), 1);
	seen.n = 0;
	OK(content_info(&k->c, d.text, see, &seen));
	assert_string_equal(seen.labels, "a=1;b=3;c=4;");
	OK(content_set_label(&k->c, d.text, "a", ""));
	OK(content_set_label(&k->c, d.text, "none", ""));
	OK(content_set_label(&k->c, d.text, "d", "\"quoted\" \xc3\xa4"));
	seen.n = 0;
	OK(content_info(&k->c, d.text, see, &seen));
	assert_string_equal(seen.labels, "b=3;c=4;d=\"quoted\" \xc3\xa4;");
	seen.n = 0;
	OK(content_set_labels(&k->c, d.text, given, 2, see, &seen));
	assert_string_equal(seen.labels, "a=1;");
	assert_true(seen.updated_at > seen.created_at);
	FAILS(content_set_labels(&k->c, NONE, given, 2, NULL, NULL), -ENOENT, FAULT_NOT_FOUND,
	      NONE);
	FAILS(content_set_label(&k->c, NONE, "a", "1"), -ENOENT, FAULT_NOT_FOUND, NONE);
	/* they last */
	kit_close(k);
	kit_open(k);
	seen.n = 0;
	OK(content_info(&k->c, d.text, see, &seen));
	assert_string_equal(seen.labels, "a=1;");
}

static void test_list(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	struct seen seen = { 0 };
	struct digest first;
	char text[16];

	OK(content_list(&k->c, "", see, &seen));
	assert_int_equal(seen.n, 0);
	for (int i = 0; i < 150; i++) {
		snprintf(text, sizeof(text), "%d", i);
		kit_put(k, i % 3 ? &k->c : &other, text);
	}
	OK(content_list(&k->c, "", see, &seen));
	assert_int_equal(seen.n, 100);
	seen = (struct seen){ 0 };
	OK(content_list(&other, "", see, &seen));
	assert_int_equal(seen.n, 50);
	/* it can be ended, and goes on behind a key */
	seen = (struct seen){ .stop = 70 };
	assert_int_equal(content_list(&k->c, "", see, &seen), 1);
	assert_int_equal(seen.n, 70);
	memcpy(&first.text, seen.digest, sizeof(first.text));
	seen = (struct seen){ 0 };
	OK(content_list(&k->c, first.text, see, &seen));
	assert_int_equal(seen.n, 30);
	assert_true(strcmp(seen.digest, first.text) > 0);
}

/* A file is shared, what a namespace sees is its own. */
static void test_namespaces(void **state)
{
	struct kit *k = *state;
	struct store_call other = kit_call(k, "other");
	const struct db_label label = { "mine", "yes" };
	struct seen seen = { 0 };
	struct digest d = kit_put(k, &k->c, "shared"), again;
	struct stat before, after;
	char path[200];
	int fd;

	FAILS(content_open(&other, d.text, &fd, NULL), -ENOENT, FAULT_NOT_FOUND, "namespace other");
	assert_int_equal(stat(blob_path(k, &d, path, sizeof(path)), &before), 0);
	OK(content_put(&other, "shared", 6, &label, 1, &again));
	assert_int_equal(kit_events(k, "/content/create"), 2);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	OK(content_info(&k->c, d.text, see, &seen));
	assert_int_equal(seen.n_labels, 0);
	OK(content_delete(&k->c, d.text));
	OK(content_verify(&other, d.text));
	OK(content_delete(&other, d.text));
	assert_int_equal(stat(path, &after), -1);
}

static void test_damage(void **state)
{
	struct kit *k = *state;
	struct digest d = kit_put(k, &k->c, "0123456789");
	char path[200], *data;
	size_t size;
	int fd;

	blob_path(k, &d, path, sizeof(path));
	/* one byte is another */
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "X", 1, 3), 1);
	close(fd);
	FAILS(content_verify(&k->c, d.text), -EUCLEAN, FAULT_FAILED_PRECONDITION,
	      "its file has the digest sha256:");
	assert_non_null(strstr(k->f.message, d.text));
	FAILS(content_read_all(&k->c, d.text, 100, &data, &size), -EUCLEAN,
	      FAULT_FAILED_PRECONDITION, "is damaged");
	/* shorter */
	assert_int_equal(truncate(path, 4), 0);
	FAILS(content_open(&k->c, d.text, &fd, NULL), -EUCLEAN, FAULT_FAILED_PRECONDITION,
	      "4 bytes instead of 10");
	assert_non_null(strstr(k->f.path, path));
	/* gone */
	assert_int_equal(unlink(path), 0);
	FAILS(content_open(&k->c, d.text, &fd, NULL), -EUCLEAN, FAULT_FAILED_PRECONDITION,
	      "is not there any more");
	/* a link in its place is not followed */
	assert_int_equal(symlink("/etc/passwd", path), 0);
	FAILS(content_open(&k->c, d.text, &fd, NULL), -EUCLEAN, FAULT_FAILED_PRECONDITION,
	      "no regular file");
	assert_int_equal(fd, -1);
	assert_int_equal(unlink(path), 0);
	/* deleting works in any case */
	OK(content_delete(&k->c, d.text));
	kit_put(k, &k->c, "0123456789");
	OK(content_verify(&k->c, d.text));
}

static void test_cancel(void **state)
{
	struct kit *k = *state;
	struct cancel cancel = { 0 };
	struct store_progress progress = { .done = 0 };
	struct digest d = kit_put(k, &k->c, "x");

	k->c.cancel = &cancel;
	k->c.progress = &progress;
	OK(content_verify(&k->c, d.text));
	assert_string_equal(atomic_load(&progress.phase), "verify");
	assert_int_equal(atomic_load(&progress.total), 1);
	assert_int_equal(atomic_load(&progress.done), 1);
	cancel_set(&cancel);
	FAILS(content_verify(&k->c, d.text), -ECANCELED, FAULT_CANCELLED, "");
}

/* Inside a transaction that is undone, the file stays. */
static void test_delete_undone(void **state)
{
	struct kit *k = *state;
	struct digest d = kit_put(k, &k->c, "a");
	char path[200];

	OK(db_begin(k->db, DB_FULL, &k->f));
	OK(content_delete(&k->c, d.text));
	db_rollback(k->db);
	OK(content_verify(&k->c, d.text));
	/* of one that is not undone it goes with the next start, if nothing else */
	kit_put(k, &k->c, "another");
	OK(db_begin(k->db, DB_FULL, &k->f));
	OK(content_delete(&k->c, d.text));
	OK(db_commit(k->db, &k->f));
	assert_int_equal(content_has(&k->c, d.text), 0);
	kit_close(k);
	kit_open(k);
	assert_int_equal(access(blob_path(k, &d, path, sizeof(path)), F_OK), -1);
}

static int count_resources(void *user, const char *type, const char *id)
{
	(void)id;
	*(size_t *)user += !strcmp(type, LEASE_CONTENT) ? 1 : 1000;
	return 0;
}

static void test_lease(void **state)
{
	struct kit *k = *state;
	struct digest a = kit_put(k, &k->c, "a"), b;
	size_t n = 0;

	OK(lease_create(&k->c, "l", NULL, 0, 0, NULL, NULL));
	k->c.lease = "l";
	assert_int_equal(content_has(&k->c, NONE), 0);
	OK(lease_resources(&k->c, "l", "", count_resources, &n));
	assert_int_equal(n, 0);
	assert_int_equal(content_has(&k->c, a.text), 1);
	b = kit_put(k, &k->c, "b");
	OK(lease_resources(&k->c, "l", "", count_resources, &n));
	assert_int_equal(n, 2);
	k->c.lease = "none";
	FAILS(content_has(&k->c, a.text), -ENOENT, FAULT_NOT_FOUND, "none");
	FAILS(content_put(&k->c, "c", 1, NULL, 0, &b), -ENOENT, FAULT_NOT_FOUND, "none");
	k->c.lease = NULL;
	digest_of("c", 1, &b);
	assert_int_equal(content_has(&k->c, b.text), 0);
}

/* What a killed daemon leaves between file and row. */
/* Whoever writes it again puts it right, for all. */
static void test_damage_is_put_right(void **state)
{
	struct kit *k = *state;
	struct store_call other = k->c;
	struct digest d = kit_put(k, &k->c, "some bytes"), again;
	const struct db_label label = { "a", "b" };
	char path[200];
	struct ingest *i;
	int fd;

	other.ns = "other";
	for (int n = 0; n < 3; n++) {
		assert_int_equal(chmod(blob_path(k, &d, path, sizeof(path)), 0644), 0);
		fd = open(path, O_WRONLY);
		assert_int_equal(pwrite(fd, "B", 1, 5), 1);
		close(fd);
		FAILS(content_verify(&k->c, d.text), -EUCLEAN, FAULT_FAILED_PRECONDITION, d.text);
		if (n == 2) {
			OK(content_put(&k->c, "some bytes", 10, &label, 1, &again));
		} else {
			OK(ingest_open(n ? &other : &k->c, "r", NULL, -1, &i));
			OK(ingest_write(i, "some bytes", 10, &k->f));
			assert_int_equal(
				ingest_commit(n ? &other : &k->c, i, -1, NULL, NULL, 0, &again),
				n ? 0 : -EEXIST);
		}
		assert_string_equal(again.text, d.text);
		OK(content_verify(&k->c, d.text));
	}
}

static void test_orphans(void **state)
{
	struct kit *k = *state;
	struct digest d = kit_put(k, &k->c, "mine"), orphan;
	char path[200], other[200];
	int fd;

	digest_of("orphan", 6, &orphan);
	fd = open(blob_path(k, &orphan, path, sizeof(path)), O_WRONLY | O_CREAT, 0444);
	assert_int_equal(write(fd, "orphan", 6), 6);
	close(fd);
	kit_path(k, other, sizeof(other), "content/blobs/sha256/notes.txt");
	close(open(other, O_WRONLY | O_CREAT, 0644));
	kit_close(k);
	kit_open(k);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(other, F_OK), 0);
	OK(content_verify(&k->c, d.text));

	/* also when there is nothing else: the daemon was killed when it had taken the last record away */
	OK(content_delete(&k->c, d.text));
	close(open(path, O_WRONLY | O_CREAT, 0444));
	kit_path(k, other, sizeof(other), "content/.index.json.new");
	close(open(other, O_WRONLY | O_CREAT, 0644));
	kit_close(k);
	kit_open(k);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(other, F_OK), -1);

	/* beside an empty database nothing is taken away */
	d = kit_put(k, &k->c, "mine");
	kit_close(k);
	assert_int_equal(unlink(kit_path(k, other, sizeof(other), "meta.db")), 0);
	kit_open(k);
	assert_int_equal(content_has(&k->c, d.text), 0);
	assert_int_equal(access(blob_path(k, &d, path, sizeof(path)), F_OK), 0);
}

/* ---- index.json */

static json_object *read_index(struct kit *k)
{
	json_object *j;

	OK(json_parse_file(k->s->content_fd, "index.json", 1 << 20, &j, &k->f));
	assert_int_equal(json_object_get_int(json_object_object_get(j, "schemaVersion")), 2);
	return j;
}

static void put_image(struct kit *k, const char *ns, const char *name, const char *target)
{
	sqlite3_stmt *s;

	sqlite3_prepare_v2(k->db->sql, "INSERT INTO images VALUES (?1, ?2, '', ?3, '{}', 1, 1)", -1,
			   &s, NULL);
	db_bind_text(s, 1, ns);
	db_bind_text(s, 2, name);
	db_bind_text(s, 3, target);
	assert_int_equal(sqlite3_step(s), SQLITE_DONE);
	sqlite3_finalize(s);
}

static const char *note(json_object *manifests, size_t at, const char *key)
{
	json_object *d = json_object_array_get_idx(manifests, at);

	return json_object_get_string(
		json_object_object_get(json_object_object_get(d, "annotations"), key));
}

#define TARGET                                                                                     \
	"{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"" NONE         \
	"\",\"size\":7}"

static void test_index(void **state)
{
	struct kit *k = *state;
	json_object *j = read_index(k), *list;
	char path[200], other[200], *text, name[32];
	struct stat before, after;

	assert_int_equal(json_object_array_length(json_object_object_get(j, "manifests")), 0);
	json_object_put(j);
	OK(fd_read_file(k->s->content_fd, "oci-layout", 100, &text, NULL));
	assert_string_equal(text, "{\"imageLayoutVersion\":\"1.0.0\"}");
	free(text);

	put_image(k, "default", "docker.io/library/busybox:latest", TARGET);
	put_image(k, "ci", "app:1",
		  "{\"digest\":\"" NONE "\",\"annotations\":{\"own\":\"kept\"},\"size\":1}");
	put_image(k, "ci", "broken", "no descriptor");
	OK(content_index_write(k->s, &k->f));
	j = read_index(k);
	list = json_object_object_get(j, "manifests");
	assert_int_equal(json_object_array_length(list), 2);
	assert_string_equal(note(list, 0, "org.opencontainers.image.ref.name"), "ci/app:1");
	assert_string_equal(note(list, 0, "org.davit.namespace"), "ci");
	assert_string_equal(note(list, 0, "own"), "kept");
	assert_string_equal(note(list, 1, "org.opencontainers.image.ref.name"),
			    "docker.io/library/busybox:latest");
	assert_string_equal(note(list, 1, "org.davit.namespace"), "default");
	assert_int_equal(json_object_get_int(json_object_object_get(
				 json_object_array_get_idx(list, 1), "size")),
			 7);
	json_object_put(j);

	/* more than are read at a time, each once */
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "%03d", i);
		put_image(k, i % 2 ? "a" : "b", name, TARGET);
	}
	OK(content_index_write(k->s, &k->f));
	j = read_index(k);
	list = json_object_object_get(j, "manifests");
	assert_int_equal(json_object_array_length(list), 202);
	assert_string_equal(note(list, 0, "org.opencontainers.image.ref.name"), "a/001");
	assert_string_equal(note(list, 99, "org.opencontainers.image.ref.name"), "a/199");
	assert_string_equal(note(list, 100, "org.opencontainers.image.ref.name"), "b/000");
	json_object_put(j);

	/* a start leaves it alone when it is right, and puts it right when not */
	kit_path(k, path, sizeof(path), "content/index.json");
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(before.st_mode & 0777, 0644);
	kit_close(k);
	kit_open(k);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	kit_close(k);
	assert_int_equal(truncate(path, 10), 0);
	kit_open(k);
	j = read_index(k);
	json_object_put(j);

	/* without a database it is all that is left, and stays */
	kit_close(k);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(unlink(kit_path(k, other, sizeof(other), "meta.db")), 0);
	kit_open(k);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(before.st_size, after.st_size);
}

#define WRITERS 8

struct index_writer {
	struct kit *k;
	int number, result;
	struct fault f;
};

static void *index_thread(void *arg)
{
	struct index_writer *w = arg;
	char name[32], full[40], *text;

	for (int i = 0; i < 20 && !w->result; i++) {
		snprintf(name, sizeof(name), "image-%d-%d", w->number, i);
		db_lock(w->k->db);
		put_image(w->k, "default", name, TARGET);
		db_unlock(w->k->db);
		w->result = content_index_write(w->k->s, &w->f);
		if (w->result < 0)
			break;
		/* whoever was answered finds it there */
		if (fd_read_file(w->k->s->content_fd, "index.json", 1 << 20, &text, NULL) < 0) {
			w->result = -1;
			break;
		}
		snprintf(full, sizeof(full), "\"%s\"", name);
		if (!strstr(text, full))
			w->result = -2;
		free(text);
	}
	return NULL;
}

static void test_index_threads(void **state)
{
	struct kit *k = *state;
	struct index_writer w[WRITERS];
	pthread_t threads[WRITERS];
	json_object *j;

	for (int i = 0; i < WRITERS; i++) {
		w[i] = (struct index_writer){ .k = k, .number = i };
		assert_int_equal(pthread_create(&threads[i], NULL, index_thread, &w[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(w[i].result, 0);
	}
	j = read_index(k);
	assert_int_equal(json_object_array_length(json_object_object_get(j, "manifests")),
			 WRITERS * 20);
	json_object_put(j);
}

/* What cannot be written is an error for each caller, and the old one stays. */
static void test_index_failure(void **state)
{
	struct kit *k = *state;
	int folder = k->s->content_fd, fd;

	fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	k->s->content_fd = fd;
	k->f = (struct fault){ 0 };
	assert_true(content_index_write(k->s, &k->f) < 0);
	assert_non_null(strstr(k->f.message, "content/index.json"));
	k->s->content_fd = folder;
	close(fd);
	OK(content_index_write(k->s, &k->f));
}

int main(void)
{
#define KIT(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
	static const struct CMUnitTest tests[] = {
		KIT(test_blob),
		KIT(test_empty_blob),
		KIT(test_wrong_digests),
		KIT(test_labels),
		KIT(test_list),
		KIT(test_namespaces),
		KIT(test_damage),
		KIT(test_cancel),
		KIT(test_delete_undone),
		KIT(test_lease),
		KIT(test_orphans),
		KIT(test_index),
		KIT(test_damage_is_put_right),
		KIT(test_index_threads),
		KIT(test_index_failure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
