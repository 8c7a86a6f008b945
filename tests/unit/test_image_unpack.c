// SPDX-License-Identifier: Apache-2.0
/* Unpacking images, snapshots that get their parent later, and images made of folders. */
#include "image_kit.h"

#include <pthread.h>

#include "store/image_internal.h"
#include "store/snapshot.h"
#include "util/limits.h"

static int see_parent(void *user, const struct snapshot_info *info)
{
	snprintf(user, DIGEST_TEXT, "%s", info->parent);
	return 0;
}

static int count(void *user, const struct snapshot_info *info)
{
	(void)info;
	++*(size_t *)user;
	return 0;
}

static size_t snapshots(struct kit *k, const char *snapshotter)
{
	size_t n = 0;

	OK(snapshot_list(&k->c, snapshotter, "", count, &n));
	return n;
}

static bool is_there(struct kit *k, const char *snapshotter, const char *name, const char *file)
{
	struct stat st;
	bool found;
	int fd;

	OK(snapshot_folder(&k->c, snapshotter, name, &fd));
	found = !fstatat(fd, file, &st, AT_SYMLINK_NOFOLLOW);
	close(fd);
	return found;
}

static void skip_without_overlay(struct kit *k)
{
	if (!snapshotter_no_overlay(k->s))
		return;
	print_message("overlayfs cannot be used here: %s\n", snapshotter_no_overlay(k->s));
	skip();
}

static void chain_of(const struct kit_image *im, struct digest *chain)
{
	for (size_t i = 0; i < im->n; i++) {
		struct digest d = bytes_digest(im->layers[i]);

		assert_int_equal(oci_chain_id(i ? &chain[i - 1] : NULL, &d, &chain[i]), 0);
	}
}

static void check_unpack(struct kit *k, const char *snapshotter)
{
	struct kit_image im = kit_image("u", kit_architecture(), 3);
	struct digest chain[3], found, config = bytes_digest(im.config);
	CLEANUP_FREE char *key = bytes_fmt("containerd.io/gc.ref.snapshot.%s", snapshotter).p;
	char parent[DIGEST_TEXT], *label;
	bool merged = !snapshotter_is_overlay(snapshotter);

	chain_of(&im, chain);
	OK(kit_import(k, kit_layout(&im, "", LAYER_NONE), "u", NULL));
	OK(image_unpack(&k->c, "u", NULL, snapshotter, &found));
	assert_string_equal(found.text, chain[2].text);
	assert_int_equal(snapshots(k, snapshotter), 3);
	OK(snapshot_stat(&k->c, snapshotter, chain[2].text, see_parent, parent));
	assert_string_equal(parent, chain[1].text);
	OK(snapshot_stat(&k->c, snapshotter, chain[0].text, see_parent, parent));
	assert_string_equal(parent, "");
	assert_true(is_there(k, snapshotter, chain[2].text, "u2"));
	assert_int_equal(is_there(k, snapshotter, chain[2].text, "u0"), merged);
	label = kit_label(k, config.text, key);
	assert_string_equal(label, chain[2].text);
	free(label);
	assert_int_equal(kit_leases(k), 0);
	/* nothing to do */
	OK(image_unpack(&k->c, "u", NULL, snapshotter, &found));
	assert_string_equal(found.text, chain[2].text);
	assert_int_equal(snapshots(k, snapshotter), 3);
	kit_image_free(&im);
}

static void test_overlay(void **state)
{
	skip_without_overlay(*state);
	check_unpack(*state, SNAPSHOTTER_OVERLAYFS);
}

static void test_native(void **state)
{
	check_unpack(*state, SNAPSHOTTER_NATIVE);
}

/* What fails takes back what it has begun, but not what is complete. */
static void check_wrong(struct kit *k, const char *snapshotter)
{
	struct kit_image im = kit_image("w", kit_architecture(), 3);
	struct digest right = bytes_digest(im.layers[1]), before = bytes_digest(im.config), after,
		      found;
	CLEANUP_FREE char *packed = bytes_fmt("%s", bytes_digest(im.packed[1]).text).p;
	char *at = strstr(im.config.p, right.text);

	memset(at + 7, '7', 64);
	after = bytes_digest(im.config);
	memcpy(strstr(im.manifest.p, before.text), after.text, strlen(after.text));
	OK(kit_import(k, kit_layout(&im, "", LAYER_NONE), "w", NULL));
	FAILS(image_unpack(&k->c, "w", NULL, snapshotter, &found), -EBADMSG,
	      FAULT_FAILED_PRECONDITION, packed);
	assert_non_null(strstr(k->f.message, right.text));
	assert_non_null(strstr(k->f.message, "but the config says sha256:7777"));
	assert_true(snapshots(k, snapshotter) <= 1);
	assert_int_equal(kit_leases(k), 0);
	kit_image_free(&im);
}

static void test_wrong_diff_id(void **state)
{
	check_wrong(*state, SNAPSHOTTER_NATIVE);
	skip_without_overlay(*state);
	check_wrong(*state, SNAPSHOTTER_OVERLAYFS);
}

static void test_errors(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("e", kit_architecture(), 2),
			 other = kit_image("o", "s390x", 1);
	struct digest d, found;
	struct cancel cancel = { 0 };
	struct oci_descriptor text;
	struct bytes index = kit_index(
		kit_descriptor(OCI_MANIFEST, other.manifest, KIT_PLATFORM("s390x")).p, NULL);
	struct oci_descriptor target;

	OK(kit_import(k, kit_layout(&im, "", LAYER_NONE), "e", NULL));
	FAILS(image_unpack(&k->c, "nothing", NULL, NULL, &found), -ENOENT, FAULT_NOT_FOUND,
	      "no image 'nothing'");
	FAILS(image_unpack(&k->c, "e", NULL, "zfs", &found), -ENOENT, FAULT_NOT_FOUND,
	      "no snapshotter 'zfs'");
	cancel_set(&cancel);
	k->c.cancel = &cancel;
	FAILS(image_unpack(&k->c, "e", NULL, SNAPSHOTTER_NATIVE, &found), -ECANCELED,
	      FAULT_CANCELLED, "");
	k->c.cancel = NULL;
	assert_int_equal(snapshots(k, SNAPSHOTTER_NATIVE), 0);

	/* not an image, and not for this machine */
	d = kit_put(k, &k->c, "text");
	assert_int_equal(oci_descriptor_new(&text, "text/plain", &d, 4), 0);
	OK(image_create(&k->c, "text", &text, NULL, 0, NULL, NULL));
	FAILS(image_unpack(&k->c, "text", NULL, NULL, &found), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "text: sha256:");
	oci_descriptor_clear(&text);
	OK(content_put(&k->c, index.p, index.n, NULL, 0, &d));
	assert_int_equal(oci_descriptor_new(&target, OCI_INDEX, &d, index.n), 0);
	OK(image_create(&k->c, "foreign", &target, NULL, 0, NULL, NULL));
	FAILS(image_unpack(&k->c, "foreign", NULL, NULL, &found), -ENOENT, FAULT_NOT_FOUND,
	      "(there is: linux/s390x)");
	oci_descriptor_clear(&target);

	OK(content_delete(&k->c, bytes_digest(im.packed[1]).text));
	FAILS(image_unpack(&k->c, "e", NULL, NULL, &found), -ENOENT, FAULT_FAILED_PRECONDITION,
	      bytes_digest(im.packed[1]).text);
	assert_int_equal(kit_leases(k), 0);
	free(index.p);
	kit_image_free(&im);
	kit_image_free(&other);
}

static void *unpack_thread(void *arg)
{
	struct kit *k = arg;
	struct fault f = { 0 };
	struct store_call c = { .store = k->s, .ns = "default", .f = &f };
	struct digest chain;

	for (int i = 0; i < 3; i++)
		for (int which = 0; which < 2; which++)
			if (image_unpack(&c, which ? "p" : "q", NULL, NULL, &chain) < 0)
				fail_msg("%s", f.message);
	return NULL;
}

/* Of the same image, and of one with the same layers below. */
static void test_parallel(void **state)
{
	struct kit *k = *state;
	struct kit_image p = kit_image("p", kit_architecture(), 3),
			 q = kit_image("p", kit_architecture(), 2);
	pthread_t threads[4];
	const char *snapshotter;

	OK(kit_import(k, kit_layout(&p, "", LAYER_NONE), "p", NULL));
	OK(kit_import(k, kit_layout(&q, "", LAYER_NONE), "q", NULL));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, unpack_thread, k);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	OK(snapshotter_name(k->s, NULL, &snapshotter, &k->f));
	assert_int_equal(snapshots(k, snapshotter), 3);
	assert_int_equal(kit_leases(k), 0);
	kit_image_free(&p);
	kit_image_free(&q);
}

/* ---- parents that come later */

static void test_rebase(void **state)
{
	struct kit *k = *state;
	char parent[DIGEST_TEXT];

	skip_without_overlay(k);
	OK(snapshot_prepare(&k->c, SNAPSHOTTER_OVERLAYFS, "a", NULL, NULL, 0, NULL));
	OK(snapshot_commit(&k->c, SNAPSHOTTER_OVERLAYFS, "base", "a", NULL, 0));
	OK(snapshot_prepare(&k->c, SNAPSHOTTER_OVERLAYFS, "b", NULL, NULL, 0, NULL));
	FAILS(snapshot_rebase(&k->c, SNAPSHOTTER_OVERLAYFS, "b", "nothing"), -ENOENT,
	      FAULT_NOT_FOUND, "nothing");
	FAILS(snapshot_rebase(&k->c, SNAPSHOTTER_OVERLAYFS, "b", "b"), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "");
	FAILS(snapshot_rebase(&k->c, SNAPSHOTTER_OVERLAYFS, "base", "base"), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "not an active one");
	OK(snapshot_rebase(&k->c, SNAPSHOTTER_OVERLAYFS, "b", "base"));
	OK(snapshot_stat(&k->c, SNAPSHOTTER_OVERLAYFS, "b", see_parent, parent));
	assert_string_equal(parent, "base");
	FAILS(snapshot_rebase(&k->c, SNAPSHOTTER_OVERLAYFS, "b", "base"), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "without a parent");
	FAILS(snapshot_remove(&k->c, SNAPSHOTTER_OVERLAYFS, "base"), -EBUSY,
	      FAULT_FAILED_PRECONDITION, "");
	FAILS(snapshot_rebase(&k->c, SNAPSHOTTER_NATIVE, "b", "base"), -EOPNOTSUPP,
	      FAULT_UNIMPLEMENTED, "native");
	FAILS(snapshot_rebase(&k->c, "zfs", "b", "base"), -ENOENT, FAULT_NOT_FOUND, "zfs");
}

/* ---- folders */

static int from_dir(struct kit *k, const char *name, const char *config, struct kit_seen *seen)
{
	char path[200];
	int fd, r;

	kit_path(k, path, sizeof(path), "files");
	mkdir(path, 0755);
	fd = open(path, O_RDONLY | O_DIRECTORY);
	assert_true(fd >= 0);
	close(openat(fd, "one", O_WRONLY | O_CREAT, 0644));
	memset(seen, 0, sizeof(*seen));
	r = image_from_dir(&k->c, fd, name, config, kit_see, seen);
	close(fd);
	return r;
}

static void test_from_dir(void **state)
{
	struct kit *k = *state;
	struct kit_seen seen, again;
	struct image_usage usage;
	struct digest chain;

	OK(from_dir(k, "f", "{\"Cmd\":[\"/one\"]}", &seen));
	assert_string_equal(seen.names, "f ");
	OK(from_dir(k, "g", "{\"config\":{\"Cmd\":[\"/one\"]}}", &again));
	OK(from_dir(k, "h", NULL, &again));
	assert_string_not_equal(seen.digest, again.digest);
	OK(from_dir(k, "h", "{\"Cmd\":[\"/one\"]}", &again));
	assert_string_equal(seen.digest, again.digest);
	assert_int_equal(kit_leases(k), 0);
	OK(image_unpack(&k->c, "f", NULL, SNAPSHOTTER_NATIVE, &chain));
	assert_true(is_there(k, SNAPSHOTTER_NATIVE, chain.text, "one"));
	OK(image_usage(&k->c, "f", &usage));
	assert_true(usage.unpacked > 0);
}

static void test_from_dir_config(void **state)
{
	static const struct {
		const char *config, *message;
	} cases[] = {
		{ "{", "not a JSON document" },
		{ "7", "not a JSON object" },
		{ "{\"cmd\":[]}", "has no \"cmd\"" },
		{ "{\"Cmd\":7}", "\"Cmd\" is not a list of texts" },
		{ "{\"config\":{\"Env\":7}}", "\"Env\" is not a list of texts" },
		{ "{\"config\":7}", "\"config\" is not an object" },
		{ "{\"os\":7}", "\"os\" is not a text" },
	};
	struct kit *k = *state;
	struct kit_seen seen;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		FAILS(from_dir(k, "x", cases[i].config, &seen), -EINVAL, FAULT_INVALID_ARGUMENT,
		      cases[i].message);
		assert_string_equal(k->f.argument, "config");
	}
	FAILS(from_dir(k, "a\tb", NULL, &seen), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "control character");
	assert_int_equal(kit_blobs(k), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		T(test_overlay),  T(test_native), T(test_wrong_diff_id), T(test_errors),
		T(test_parallel), T(test_rebase), T(test_from_dir),	 T(test_from_dir_config),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
