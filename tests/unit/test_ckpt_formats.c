// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others, in a real store: what is written, and what is taken back
 */
#include "image_kit.h"

#include "checkpoint/files_tar.h"
#include "checkpoint/image_file.h"
#include "checkpoint/images_check.h"
#include "checkpoint/stats_dump.h"
#include "core/ckpt_formats.h"
#include "util/json.h"
#include "util/limits.h"

#define DATA "tests/data/criu/"
#define NAME "kept:1"

static const char *const small[] = { "core-1.img", "core-2.img",    "ids-1.img",
				     "ids-2.img",  "inventory.img", "mountpoints-13.img",
				     "pstree.img" };

static struct bytes read_data(const char *name)
{
	struct bytes b;
	char path[256];

	snprintf(path, sizeof(path), DATA "%s", name);
	if (fd_read_file(AT_FDCWD, path, 1 << 20, &b.p, &b.n) < 0)
		fail_msg("%s cannot be read: run the test in the checkout's folder", path);
	return b;
}

/* A checkpoint whose pages take several frames, with a writable layer. */
static struct bytes make(struct kit *k, const char *name)
{
	struct bytes record = read_data("davit-checkpoint.json"),
		     pages = { malloc(9 << 20), 9 << 20 };
	struct ckpt_import in = { .name = name, .format = -1 };
	struct oci_descriptor index = { 0 };
	struct tarball t, diff;
	char *got;

	for (size_t i = 0; i < pages.n; i++)
		pages.p[i] = (char)(i * 2654435761u >> 13);
	tar_begin(&diff, LAYER_NONE);
	tar_text(&diff, "etc/new", "new");
	tar_text(&diff, "etc/.wh.gone", "");
	tar_text(&diff, "old/.wh..wh..opq", "");
	tar_end(&diff);
	tar_begin(&t, LAYER_ZSTD);
	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		struct bytes b = read_data(small[i]);

		tar_file(&t, small[i], b);
		free(b.p);
	}
	tar_file(&t, "pages-1.img", pages);
	tar_file(&t, CRIU_DIFF, diff.out);
	tar_file(&t, CHECKPOINT_RECORD_FILE, record);
	in.fd = bytes_fd(tar_end(&t));
	OK(ckpt_import(&k->c, &in, &index, &got));
	assert_string_equal(got, name);
	oci_descriptor_clear(&index);
	free(got);
	free(record.p);
	free(diff.out.p);
	close(in.fd);
	return pages;
}

static int memory_fd(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static int export_as(struct kit *k, enum ckpt_format format, enum layer_compression compression)
{
	struct ckpt_export e = {
		.name = NAME, .format = format, .fd = memory_fd(), .compression = compression
	};
	uint64_t size;

	OK(ckpt_export(&k->c, &e, &size));
	assert_int_equal(lseek(e.fd, 0, SEEK_END), size);
	lseek(e.fd, 0, SEEK_SET);
	return e.fd;
}

/* The entry's bytes; it has to be there. */
static struct bytes entry_of(int fd, const char *name)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	struct bytes b = { 0 };

	lseek(fd, 0, SEEK_SET);
	archive_read_support_filter_all(a);
	archive_read_support_format_tar(a);
	assert_int_equal(archive_read_open_fd(a, fd, 4096), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK)
		if (!strcmp(archive_entry_pathname(e), name)) {
			b.n = (size_t)archive_entry_size(e);
			b.p = malloc(b.n + 1);
			assert_int_equal(archive_read_data(a, b.p, b.n), b.n);
			b.p[b.n] = '\0';
		}
	archive_read_free(a);
	if (!b.p)
		fail_msg("there is no %s in the archive", name);
	return b;
}

static void same_entry(int fd, const char *name, struct bytes want)
{
	struct bytes b = entry_of(fd, name);

	assert_int_equal(b.n, want.n);
	assert_memory_equal(b.p, want.p, want.n);
	free(b.p);
}

/* ---- tests */

static void test_names(void **state)
{
	(void)state;
	for (int i = 0; i < CKPT_FORMATS; i++)
		assert_int_equal(ckpt_format_of(ckpt_format_name((enum ckpt_format)i)), i);
	assert_int_equal(ckpt_format_of("zip"), -EINVAL);
}

static void test_stats(void **state)
{
	struct ckpt_record r = { .stats = json_tokener_parse("{\"frozen_us\": 5000000000, "
							     "\"pages\": 34}") };
	struct stats_dump s;
	struct fault f = { 0 };
	uint8_t image[CKPT_STATS_ROOM];
	size_t n = ckpt_stats_image(&r, image);

	(void)state;
	assert_int_equal(stats_dump_read(&s, image, n, &f), 0);
	assert_int_equal(s.frozen_time, UINT32_MAX);
	assert_int_equal(s.pages_written, 34);
	json_object_put(r.stats);
	r.stats = NULL;
	n = ckpt_stats_image(&r, image);
	assert_int_equal(stats_dump_read(&s, image, n, &f), 0);
	assert_int_equal(s.pages_written, 0);
}

static void test_criu_dir(void **state)
{
	static const enum layer_compression kinds[] = { LAYER_NONE, LAYER_GZIP, LAYER_ZSTD };
	struct kit *k = *state;
	struct bytes pages = make(k, NAME);

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int fd = export_as(k, CKPT_CRIU_DIR, kinds[i]);

		same_entry(fd, "pages-1.img", pages);
		for (size_t n = 0; n < ARRAY_SIZE(small); n++) {
			struct bytes b = read_data(small[n]);

			same_entry(fd, small[n], b);
			free(b.p);
		}
		close(fd);
	}
	free(pages.p);
}

static void test_podman(void **state)
{
	struct kit *k = *state;
	struct bytes pages = make(k, NAME), b;
	int fd = export_as(k, CKPT_PODMAN, LAYER_ZSTD), out;
	json_object *j;

	same_entry(fd, "checkpoint/pages-1.img", pages);
	b = entry_of(fd, PODMAN_CONFIG);
	assert_int_equal(json_parse(b.p, b.n, &j, NULL), 0);
	assert_string_equal(ckpt_json_get(j, "name"), "web");
	assert_int_equal(strlen(ckpt_json_get(j, "id")), 64);
	json_object_put(j);
	free(b.p);
	same_entry(fd, PODMAN_DELETED, (struct bytes){ "[\"/etc/gone\"]", 13 });
	same_entry(fd, "checkpoint/" PODMAN_DESCRIPTORS,
		   (struct bytes){ "[\"/dev/null\",\"pipe:[5587153]\",\"pipe:[5587155]\"]", 47 });
	b = entry_of(fd, PODMAN_DIFF);
	out = bytes_fd(b);
	same_entry(out, "etc/new", (struct bytes){ "new", 3 });
	close(out);
	close(fd);
	free(pages.p);
}

static int see_mount(void *user, const struct ckpt_image_mount *m)
{
	json_object *seen = user;

	json_object_object_add(seen, m->path, m->key ? json_object_new_string(m->key) : NULL);
	return 0;
}

static const char *key_of(json_object *seen, const char *path)
{
	json_object *key = NULL;

	assert_true(json_object_object_get_ex(seen, path, &key));
	return key ? json_object_get_string(key) : "";
}

/* Each mount of outside by the name that runc gives it, or one that needs none. */
static void test_runc_names(void **state)
{
	struct kit *k = *state;
	struct bytes pages = make(k, NAME);
	json_object *seen = json_object_new_object();
	struct checkpoint_read r;
	struct fault f = { 0 };

	OK(checkpoint_image_read(&k->c, NAME, NULL, &r));
	OK(ckpt_runc_images(&k->c, &r));
	assert_int_equal(ckpt_images_mounts(&r.files, see_mount, seen, &f), 0);
	assert_string_equal(key_of(seen, "/data"), "/data");
	assert_string_equal(key_of(seen, "/proc/keys"), "/dev/null");
	assert_string_equal(key_of(seen, "/proc/timer_list"), "/dev/null");
	assert_string_equal(key_of(seen, "/sys/fs/cgroup/pids"), "/sys/fs/cgroup/pids");
	assert_string_equal(key_of(seen, "/sys/fs/cgroup"), "");
	assert_string_equal(key_of(seen, "/proc/acpi"), "");
	assert_string_equal(key_of(seen, "/proc"), "");
	assert_false(json_object_object_get_ex(seen, "/sys/fs/cgroup/unified", NULL));
	/* for those that became the container's own */
	assert_non_null(ckpt_files_find(&r.files, "tmpfs-dev-64.tar.gz.img"));
	assert_non_null(ckpt_files_find(&r.files, "tmpfs-dev-66.tar.gz.img"));
	checkpoint_read_clear(&r);
	json_object_put(seen);
	free(pages.p);
}

/* What podman would write becomes a record with runc's keys; then it goes out again, the same. */
static void test_from_podman(void **state)
{
	struct kit *k = *state;
	struct bytes pages = make(k, NAME);
	struct ckpt_import in = { .fd = export_as(k, CKPT_PODMAN, LAYER_GZIP),
				  .name = "in:1",
				  .format = CKPT_PODMAN };
	struct oci_descriptor index = { 0 };
	struct kit_seen seen = { 0 };
	struct checkpoint_read r;
	size_t nulls = 0;
	char *name;

	OK(ckpt_import(&k->c, &in, &index, &name));
	OK(image_get(&k->c, "in:1", kit_see, &seen));
	assert_string_equal(seen.labels, CHECKPOINT_LABEL "=true;");
	OK(checkpoint_image_read(&k->c, "in:1", NULL, &r));
	assert_string_equal(r.record.id, "web");
	assert_int_equal(r.record.net, CKPT_NET_DUMPED);
	assert_int_equal(r.record.n_empty, 1);
	assert_string_equal(r.record.stdio[1], "pipe:[5587153]");
	for (size_t i = 0; i < r.record.mounts.n; i++) {
		const struct criu_mount *m = &r.record.mounts.v[i];

		nulls += m->kind == CRIU_MOUNT_NULL;
		assert_string_equal(m->key, m->kind == CRIU_MOUNT_NULL ? "/dev/null" : m->path);
	}
	assert_int_equal(nulls, 3);
	assert_int_equal(r.n_pages, 1);
	assert_true(r.has_diff);
	OK(checkpoint_files_check(&r, &(struct ckpt_tasks){ 0 }, &k->f));
	checkpoint_read_clear(&r);
	assert_int_equal(kit_leases(k), 0);
	oci_descriptor_clear(&index);
	free(name);
	free(pages.p);
	close(in.fd);
}

static void test_containerd(void **state)
{
	struct kit *k = *state;
	struct bytes pages = make(k, NAME), b, top;
	int fd = export_as(k, CKPT_CONTAINERD, LAYER_NONE);
	json_object *j, *list;
	char path[128];

	top = entry_of(fd, "index.json");
	assert_int_equal(json_parse(top.p, top.n, &j, NULL), 0);
	list = json_object_object_get(j, "manifests");
	snprintf(path, sizeof(path), "blobs/sha256/%s",
		 ckpt_json_get(json_object_array_get_idx(list, 0), "digest") + 7);
	json_object_put(j);
	b = entry_of(fd, path);
	assert_int_equal(json_parse(b.p, b.n, &j, NULL), 0);
	list = json_object_object_get(j, "manifests");
	assert_int_equal(json_object_array_length(list), 4);
	/* each is there under its digest and with its size */
	for (size_t i = 0; i < 4; i++) {
		json_object *d = json_object_array_get_idx(list, i);
		struct bytes blob;
		struct digest digest;

		snprintf(path, sizeof(path), "blobs/sha256/%s", ckpt_json_get(d, "digest") + 7);
		blob = entry_of(fd, path);
		digest = bytes_digest(blob);
		assert_string_equal(digest.text, ckpt_json_get(d, "digest"));
		assert_int_equal(blob.n, json_object_get_int64(json_object_object_get(d, "size")));
		free(blob.p);
	}
	json_object_put(j);
	free(b.p);
	free(top.p);
	free(pages.p);
	close(fd);
}

static void test_folder(void **state)
{
	struct kit *k = *state;
	struct bytes pages = make(k, NAME);
	struct ckpt_export e = { .name = NAME, .format = CKPT_CRIU_DIR, .fd = -1 };
	char folder[] = "/tmp/davit-formats-XXXXXX", path[128];
	struct checkpoint_read r;
	uint64_t size;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/new", folder);
	e.folder = path;
	OK(ckpt_export(&k->c, &e, &size));
	OK(checkpoint_folder_read(path, &r, &k->f));
	assert_true(r.has_record);
	assert_int_equal(ckpt_file_size(ckpt_files_find(&r.files, "pages-1.img")), pages.n);
	checkpoint_read_clear(&r);
	/* not a second time */
	FAILS(ckpt_export(&k->c, &e, &size), -EEXIST, FAULT_ALREADY_EXISTS, "is not empty");
	/* none that is left of a failure */
	snprintf(path, sizeof(path), "%s/other", folder);
	e.name = "nothing:1";
	FAILS(ckpt_export(&k->c, &e, &size), -ENOENT, FAULT_NOT_FOUND, "nothing:1");
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/new", folder);
	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		char file[160];

		snprintf(file, sizeof(file), "%s/%s", path, small[i]);
		assert_int_equal(unlink(file), 0);
	}
	static const char *const others[] = { "pages-1.img", PODMAN_STATS, CRIU_DIFF,
					      CHECKPOINT_RECORD_FILE };

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		char file[160];

		snprintf(file, sizeof(file), "%s/%s", path, others[i]);
		assert_int_equal(unlink(file), 0);
	}
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(folder), 0);
	free(pages.p);
}

/* ---- keys in a record */

static int read_with(json_object *mounts, const char *net_key, struct fault *f)
{
	struct bytes b = read_data("davit-checkpoint.json");
	struct ckpt_record r;
	json_object *j;
	const char *text;
	int e;

	assert_int_equal(json_parse(b.p, b.n, &j, f), 0);
	json_object_object_add(j, "mounts", mounts);
	if (net_key)
		json_object_object_add(j, "network_key", json_object_new_string(net_key));
	text = json_object_to_json_string(j);
	e = ckpt_record_read(&r, text, strlen(text), f);
	if (!e)
		ckpt_record_clear(&r);
	json_object_put(j);
	free(b.p);
	return e;
}

#define MOUNT(name, key, kind)                                                                     \
	"{\"name\":\"" name "\",\"key\":\"" key "\",\"path\":\"/" name "\",\"kind\":\"" kind "\"}"

static void test_keys(void **state)
{
	static const struct {
		const char *mounts, *net, *says;
	} cases[] = {
		{ "[" MOUNT("m0", "/dev/null", "null") "," MOUNT("m1", "/dev/null", "null") "]",
		  "extRootNetNS", NULL },
		{ "[" MOUNT("m0", "/a", "bind") "," MOUNT("m1", "/a", "bind") "]", NULL, "twice" },
		{ "[" MOUNT("m0", "/dev/null", "null") "," MOUNT("m1", "/dev/null", "bind") "]",
		  NULL, "twice" },
		{ "[" MOUNT("m0", "m1",
			    "bind") ",{\"name\":\"m1\",\"path\":\"/b\",\"kind\":\"bind\"}]",
		  NULL, "twice" },
		{ "[" MOUNT("m0", "", "bind") "]", NULL, "key" },
		{ "[" MOUNT("m0", "a]:b", "bind") "]", NULL, "key" },
		{ "[" MOUNT("m0", "CRIU:AUTOGENERATED", "bind") "]", NULL, "key" },
		{ "[]", "a]b", "network_key" },
		{ "[]", "a b", "network_key" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fault f = { 0 };
		int r = read_with(json_tokener_parse(cases[i].mounts), cases[i].net, &f);

		if (!cases[i].says && r < 0)
			fail_msg("%zu: %s", i, f.message);
		if (cases[i].says && (!r || !strstr(f.message, cases[i].says)))
			fail_msg("%zu: %s", i, f.message);
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_keys),
		TEST(test_criu_dir),
		TEST(test_podman),
		TEST(test_runc_names),
		TEST(test_from_podman),
		TEST(test_containerd),
		TEST(test_folder),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
