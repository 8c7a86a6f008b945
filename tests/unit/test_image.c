// SPDX-License-Identifier: Apache-2.0
/* Images: records, what hangs below them, platforms, usage. */
#include "image_kit.h"

#include "store/image_internal.h"
#include "util/json.h"
#include "util/limits.h"

#define NONE "sha256:0000000000000000000000000000000000000000000000000000000000000000"

/* The blobs of an image, without labels or a record. */
static void put_blobs(struct kit *k, const struct kit_image *im)
{
	struct digest d;

	for (size_t i = 0; i < im->n; i++)
		OK(content_put(&k->c, im->packed[i].p, im->packed[i].n, NULL, 0, &d));
	OK(content_put(&k->c, im->config.p, im->config.n, NULL, 0, &d));
	OK(content_put(&k->c, im->manifest.p, im->manifest.n, NULL, 0, &d));
}

/* Of bytes that are, or are not, in the content. */
static struct oci_descriptor describe(const char *type, struct bytes b)
{
	struct oci_descriptor d;
	struct digest digest = bytes_digest(b);

	assert_int_equal(oci_descriptor_new(&d, type, &digest, b.n), 0);
	return d;
}

static void test_records(void **state)
{
	struct kit *k = *state;
	struct kit_image a = kit_image("a", "amd64", 2), b = kit_image("b", "amd64", 1);
	struct oci_descriptor first = describe(OCI_MANIFEST, a.manifest),
			      second = describe(OCI_MANIFEST, b.manifest);
	static const struct db_label labels[] = { { "k", "v" }, { "empty", "" }, { "l", "w" } };
	struct kit_seen seen = { 0 };
	struct store_call other = kit_call(k, "other");
	char *label;

	put_blobs(k, &a);
	put_blobs(k, &b);
	OK(image_create(&k->c, "one", &first, labels, 3, kit_see, &seen));
	assert_string_equal(seen.labels, "k=v;l=w;");
	assert_string_equal(seen.digest, first.digest.text);
	label = kit_label(k, first.digest.text, "containerd.io/gc.ref.content.l.1");
	assert_string_equal(label, bytes_digest(a.packed[1]).text);
	free(label);
	FAILS(image_create(&k->c, "one", &second, NULL, 0, NULL, NULL), -EEXIST,
	      FAULT_ALREADY_EXISTS, "the image 'one' exists");
	assert_string_equal(k->f.argument, "name");
	FAILS(image_update(&k->c, "two", &second, NULL, 0, NULL, NULL), -ENOENT, FAULT_NOT_FOUND,
	      "no image 'two'");
	FAILS(image_get(&other, "one", kit_see, &seen), -ENOENT, FAULT_NOT_FOUND,
	      "in the namespace 'other'");
	FAILS(image_create(&other, "one", &first, NULL, 0, NULL, NULL), -ENOENT, FAULT_NOT_FOUND,
	      first.digest.text);
	assert_string_equal(k->f.argument, "target");

	/* the target alone, the labels alone */
	OK(image_update(&k->c, "one", &second, NULL, 0, kit_see, &seen));
	assert_string_equal(seen.labels, "k=v;l=w;");
	assert_string_equal(seen.digest, second.digest.text);
	OK(image_update(&k->c, "one", NULL, labels, 1, kit_see, &seen));
	assert_string_equal(seen.labels, "k=v;");
	assert_string_equal(seen.digest, second.digest.text);
	OK(image_put(&k->c, "one", &first, NULL, 0, kit_see, &seen));
	assert_string_equal(seen.labels, "k=v;");
	OK(image_put(&k->c, "two", &first, NULL, 0, kit_see, &seen));
	assert_int_equal(kit_events(k, "/images/create"), 2);
	assert_int_equal(kit_events(k, "/images/update"), 3);

	OK(image_delete(&k->c, "one"));
	FAILS(image_delete(&k->c, "one"), -ENOENT, FAULT_NOT_FOUND, "no image 'one'");
	assert_int_equal(kit_events(k, "/images/delete"), 1);
	oci_descriptor_clear(&first);
	oci_descriptor_clear(&second);
	kit_image_free(&a);
	kit_image_free(&b);
}

/* Who has made a target is said of that target, not of whatever has the name later. */
static void test_labels_of_target(void **state)
{
	struct kit *k = *state;
	struct kit_image a = kit_image("a", "amd64", 1), b = kit_image("b", "amd64", 1);
	struct oci_descriptor first = describe(OCI_MANIFEST, a.manifest),
			      second = describe(OCI_MANIFEST, b.manifest);
	static const struct db_label labels[] = { { "containerd.io/checkpoint", "true" },
						  { "davit.checkpoint.local", "true" },
						  { "k", "v" } };
	struct kit_seen seen = { 0 };

	put_blobs(k, &a);
	put_blobs(k, &b);
	OK(image_create(&k->c, "one", &first, labels, 3, NULL, NULL));
	/* the same once more */
	OK(image_put(&k->c, "one", &first, NULL, 0, kit_see, &seen));
	assert_string_equal(seen.labels,
			    "containerd.io/checkpoint=true;davit.checkpoint.local=true;k=v;");
	OK(image_put(&k->c, "one", &second, NULL, 0, kit_see, &seen));
	assert_string_equal(seen.labels, "k=v;");
	OK(image_update(&k->c, "one", NULL, labels, 3, NULL, NULL));
	OK(image_update(&k->c, "one", &first, NULL, 0, kit_see, &seen));
	assert_string_equal(seen.labels, "k=v;");
	/* whoever says so, says so */
	OK(image_update(&k->c, "one", &second, labels, 2, kit_see, &seen));
	assert_string_equal(seen.labels,
			    "containerd.io/checkpoint=true;davit.checkpoint.local=true;");
	oci_descriptor_clear(&first);
	oci_descriptor_clear(&second);
	kit_image_free(&a);
	kit_image_free(&b);
}

static void test_bad_records(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("a", "amd64", 1);
	struct oci_descriptor d = describe(OCI_MANIFEST, im.manifest), wrong;
	char *name = malloc(LIMIT_IMAGE_NAME_BYTES + 2);

	put_blobs(k, &im);
	memset(name, 'n', LIMIT_IMAGE_NAME_BYTES + 1);
	name[LIMIT_IMAGE_NAME_BYTES + 1] = '\0';
	FAILS(image_create(&k->c, name, &d, NULL, 0, NULL, NULL), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "at most 4096 bytes");
	name[LIMIT_IMAGE_NAME_BYTES] = '\0';
	OK(image_create(&k->c, name, &d, NULL, 0, NULL, NULL));
	free(name);
	FAILS(image_create(&k->c, "", &d, NULL, 0, NULL, NULL), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "cannot be empty");
	FAILS(image_create(&k->c, "a\nb", &d, NULL, 0, NULL, NULL), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "control character");
	/* another size, another type */
	assert_int_equal(oci_descriptor_new(&wrong, OCI_MANIFEST, &d.digest, 7), 0);
	FAILS(image_create(&k->c, "x", &wrong, NULL, 0, NULL, NULL), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "but the descriptor says 7");
	oci_descriptor_clear(&wrong);
	assert_int_equal(oci_descriptor_new(&wrong, OCI_INDEX, &d.digest, d.size), 0);
	FAILS(image_create(&k->c, "x", &wrong, NULL, 0, NULL, NULL), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "it calls itself");
	oci_descriptor_clear(&wrong);
	/* what is no image may have a name as well */
	assert_int_equal(oci_descriptor_new(&wrong, "text/plain", &d.digest, d.size), 0);
	OK(image_create(&k->c, "x", &wrong, NULL, 0, NULL, NULL));
	oci_descriptor_clear(&wrong);
	oci_descriptor_clear(&d);
	kit_image_free(&im);
}

static int stop_at_second(void *user, const struct image_info *info)
{
	kit_see(user, info);
	return ((struct kit_seen *)user)->n == 2;
}

static void test_list(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("a", "amd64", 1);
	struct oci_descriptor d = describe(OCI_MANIFEST, im.manifest);
	struct kit_seen seen = { 0 };
	char name[16];

	put_blobs(k, &im);
	/* more than are read at a time */
	for (int i = 199; i >= 0; i--) {
		snprintf(name, sizeof(name), "i%03d", i);
		OK(image_create(&k->c, name, &d, NULL, 0, NULL, NULL));
	}
	assert_int_equal(image_list(&k->c, "", stop_at_second, &seen), 1);
	assert_string_equal(seen.names, "i000 i001 ");
	memset(&seen, 0, sizeof(seen));
	OK(image_list(&k->c, "i196", kit_see, &seen));
	assert_string_equal(seen.names, "i197 i198 i199 ");
	memset(&seen, 0, sizeof(seen));
	OK(image_list(&k->c, "", kit_see, &seen));
	assert_int_equal(seen.n, 200);
	oci_descriptor_clear(&d);
	kit_image_free(&im);
}

/* What is read back is what was given, and survives a restart. */
static void test_descriptor_kept(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("a", "amd64", 1);
	CLEANUP_FREE char *text = kit_descriptor(
					  OCI_MANIFEST, im.manifest,
					  ",\"annotations\":{\"a\":\"ö\"},\"unknown\":[1.5,null]")
					  .p;
	struct oci_descriptor d, back;
	json_object *json;

	put_blobs(k, &im);
	OK(json_parse(text, strlen(text), &json, &k->f));
	OK(oci_descriptor_read(&d, json, "t", &k->f));
	OK(image_create(&k->c, "a", &d, NULL, 0, NULL, NULL));
	kit_close(k);
	kit_open(k);
	OK(image_target(&k->c, "a", &back));
	assert_string_equal(
		json_object_to_json_string_ext(back.json, JSON_C_TO_STRING_PLAIN |
								  JSON_C_TO_STRING_NOSLASHESCAPE),
		text);
	oci_descriptor_clear(&back);
	oci_descriptor_clear(&d);
	json_object_put(json);
	kit_image_free(&im);
}

/* ---- the walk */

struct walked {
	size_t n, missing;
	char first[DIGEST_TEXT], gone[DIGEST_TEXT];
};

static int on_walk(void *user, const struct oci_descriptor *d, bool missing)
{
	struct walked *w = user;

	if (!w->n++)
		strcpy(w->first, d->digest.text);
	if (missing) {
		w->missing++;
		strcpy(w->gone, d->digest.text);
	}
	return 0;
}

static void test_walk(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("a", "amd64", 3);
	struct bytes index = kit_index(kit_descriptor(OCI_MANIFEST, im.manifest, "").p,
				       kit_descriptor(OCI_MANIFEST, im.manifest, "").p,
				       kit_descriptor("text/plain", im.config, "").p, NULL);
	struct oci_descriptor d = describe(OCI_INDEX, index);
	struct walked w = { 0 };
	struct digest digest;
	char *label;

	put_blobs(k, &im);
	OK(content_put(&k->c, index.p, index.n, NULL, 0, &digest));
	OK(image_walk(&k->c, &d, false, on_walk, &w));
	assert_int_equal(w.n, 6);
	assert_int_equal(w.missing, 0);
	assert_string_equal(w.first, d.digest.text);
	assert_null(kit_label(k, d.digest.text, "containerd.io/gc.ref.content.m.0"));
	OK(content_delete(&k->c, bytes_digest(im.packed[1]).text));
	memset(&w, 0, sizeof(w));
	OK(image_walk(&k->c, &d, true, on_walk, &w));
	assert_int_equal(w.n, 6);
	assert_int_equal(w.missing, 1);
	assert_string_equal(w.gone, bytes_digest(im.packed[1]).text);
	label = kit_label(k, d.digest.text, "containerd.io/gc.ref.content.m.1");
	assert_string_equal(label, bytes_digest(im.manifest).text);
	free(label);
	label = kit_label(k, d.digest.text, "containerd.io/gc.ref.content.2");
	assert_string_equal(label, bytes_digest(im.config).text);
	free(label);
	/* a missing one may still come */
	label = kit_label(k, bytes_digest(im.manifest).text, "containerd.io/gc.ref.content.l.1");
	assert_string_equal(label, w.gone);
	free(label);
	oci_descriptor_clear(&d);
	free(index.p);
	kit_image_free(&im);
}

/* More entries than an object has labels. */
static void test_wide(void **state)
{
	struct kit *k = *state;
	struct bytes list = { 0 }, index;
	struct oci_descriptor d;
	struct digest digest;

	for (size_t i = 0; i < LIMIT_LABELS; i++) {
		CLEANUP_FREE char *one = bytes_fmt("%s{\"mediaType\":\"" OCI_MANIFEST
						   "\",\"digest\":\"sha256:%064zx\",\"size\":1}",
						   i ? "," : "", i)
						 .p;
		size_t n = strlen(one);

		list.p = realloc(list.p, list.n + n + 1);
		memcpy(list.p + list.n, one, n + 1);
		list.n += n;
	}
	index = bytes_fmt("{\"schemaVersion\":2,\"manifests\":[%s]}", list.p);
	d = describe(OCI_INDEX, index);
	OK(content_put(&k->c, index.p, index.n, NULL, 0, &digest));
	OK(image_walk(&k->c, &d, false, NULL, NULL));
	FAILS(image_create(&k->c, "wide", &d, NULL, 0, NULL, NULL), -E2BIG,
	      FAULT_FAILED_PRECONDITION, "has 1024 entries; at most 1023");
	oci_descriptor_clear(&d);
	free(list.p);
	free(index.p);
}

/* An index of n manifests that are missing, numbered from `first`. */
static struct bytes many(size_t first, size_t n)
{
	static const char head[] = "{\"schemaVersion\":2,\"manifests\":[";
	struct bytes b = { malloc(n * 200 + 100), sizeof(head) - 1 };

	memcpy(b.p, head, b.n);
	for (size_t i = 0; i < n; i++)
		b.n += (size_t)sprintf(b.p + b.n,
				       "%s{\"mediaType\":\"" OCI_MANIFEST
				       "\",\"digest\":\"sha256:%064zx\",\"size\":1}",
				       i ? "," : "", first + i);
	b.n += (size_t)sprintf(b.p + b.n, "]}");
	return b;
}

static void test_too_many(void **state)
{
	struct kit *k = *state;
	struct bytes a = many(0, 40000), b = many(40000, 40000);
	struct bytes top = kit_index(kit_descriptor(OCI_INDEX, a, "").p,
				     kit_descriptor(OCI_INDEX, b, "").p, NULL);
	struct oci_descriptor d = describe(OCI_INDEX, top), manifest;
	struct oci_document doc;
	struct oci_platform p;
	struct digest digest;

	OK(content_put(&k->c, a.p, a.n, NULL, 0, &digest));
	OK(content_put(&k->c, b.p, b.n, NULL, 0, &digest));
	OK(content_put(&k->c, top.p, top.n, NULL, 0, &digest));
	FAILS(image_walk(&k->c, &d, false, NULL, NULL), -E2BIG, FAULT_FAILED_PRECONDITION,
	      "more than 65536 blobs");
	OK(oci_platform_parse(&p, NULL, &k->f));
	FAILS(image_manifest(&k->c, &d, &p, &manifest, &doc), -E2BIG, FAULT_FAILED_PRECONDITION,
	      "more than 65536 manifests");
	oci_platform_clear(&p);
	oci_descriptor_clear(&d);
	free(a.p);
	free(b.p);
	free(top.p);
}

static void test_cancelled(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("a", "amd64", 1);
	struct oci_descriptor d = describe(OCI_MANIFEST, im.manifest);
	struct cancel cancel = { 0 };

	put_blobs(k, &im);
	cancel_set(&cancel);
	k->c.cancel = &cancel;
	FAILS(image_walk(&k->c, &d, false, NULL, NULL), -ECANCELED, FAULT_CANCELLED, "");
	k->c.cancel = NULL;
	oci_descriptor_clear(&d);
	kit_image_free(&im);
}

/* ---- platforms */

static void choose(struct kit *k, const struct oci_descriptor *target, const char *platform,
		   const struct kit_image *expected)
{
	struct oci_descriptor manifest;
	struct oci_document doc;
	struct oci_platform p;

	OK(oci_platform_parse(&p, platform, &k->f));
	OK(image_manifest(&k->c, target, &p, &manifest, &doc));
	assert_string_equal(manifest.digest.text, bytes_digest(expected->manifest).text);
	assert_int_equal(doc.n_children, expected->n);
	oci_document_clear(&doc);
	oci_descriptor_clear(&manifest);
	oci_platform_clear(&p);
}

static void test_choose(void **state)
{
	struct kit *k = *state;
	struct kit_image amd = kit_image("amd", "amd64", 1), arm = kit_image("arm", "arm64", 2),
			 old = kit_image("old", "386", 1);
	struct bytes inner = kit_index(kit_descriptor(OCI_MANIFEST, arm.manifest, "").p, NULL);
	struct bytes index = kit_index(
		/* an attestation */
		kit_descriptor(OCI_MANIFEST, (struct bytes){ (char *)"not there", 9 },
			       ",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}")
			.p,
		kit_descriptor(OCI_MANIFEST, old.manifest, KIT_PLATFORM("386")).p,
		kit_descriptor(OCI_MANIFEST, amd.manifest, KIT_PLATFORM("amd64")).p,
		kit_descriptor(OCI_INDEX, inner, "").p, NULL);
	struct oci_descriptor d = describe(OCI_INDEX, index),
			      single = describe(OCI_MANIFEST, arm.manifest),
			      text = describe("text/plain", amd.config), manifest;
	struct oci_platform p;
	struct oci_document doc;
	struct digest digest;

	put_blobs(k, &amd);
	put_blobs(k, &arm);
	put_blobs(k, &old);
	OK(content_put(&k->c, inner.p, inner.n, NULL, 0, &digest));
	OK(content_put(&k->c, index.p, index.n, NULL, 0, &digest));
	choose(k, &d, "linux/amd64", &amd);
	choose(k, &d, "linux/386", &old);
	choose(k, &d, "linux/arm64/v8", &arm);
	/* there is nothing to choose */
	choose(k, &single, "linux/amd64", &arm);

	OK(oci_platform_parse(&p, "linux/s390x", &k->f));
	FAILS(image_manifest(&k->c, &d, &p, &manifest, &doc), -ENOENT, FAULT_NOT_FOUND,
	      "no image for linux/s390x (there is: linux/386, linux/amd64, linux/arm64)");
	FAILS(image_manifest(&k->c, &text, &p, &manifest, &doc), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "is no image: its type is text/plain");
	oci_platform_clear(&p);
	/* the best one is missing: not a worse one instead */
	OK(content_delete(&k->c, bytes_digest(amd.manifest).text));
	OK(oci_platform_parse(&p, "linux/amd64", &k->f));
	FAILS(image_manifest(&k->c, &d, &p, &manifest, &doc), -ENOENT, FAULT_FAILED_PRECONDITION,
	      bytes_digest(amd.manifest).text);
	assert_non_null(strstr(k->f.message, "the image for linux/amd64"));
	assert_non_null(strstr(k->f.message, "(there is: linux/386, linux/arm64)"));
	/* nor one of several where no platform was named; the only one is */
	FAILS(image_manifest_here(&k->c, &d, &p, &manifest, &doc), -ENOENT,
	      FAULT_FAILED_PRECONDITION, "the image for linux/amd64");
	OK(content_delete(&k->c, bytes_digest(old.manifest).text));
	OK(image_manifest_here(&k->c, &d, &p, &manifest, &doc));
	assert_string_equal(manifest.digest.text, bytes_digest(arm.manifest).text);
	assert_int_equal(doc.n_children, arm.n);
	oci_document_clear(&doc);
	oci_descriptor_clear(&manifest);
	oci_platform_clear(&p);
	oci_descriptor_clear(&d);
	oci_descriptor_clear(&single);
	oci_descriptor_clear(&text);
	free(inner.p);
	free(index.p);
	kit_image_free(&amd);
	kit_image_free(&arm);
	kit_image_free(&old);
}

/* ---- usage */

static void test_usage(void **state)
{
	struct kit *k = *state;
	struct kit_image a = kit_image("a", kit_architecture(), 2),
			 b = kit_image("a", kit_architecture(), 1);
	struct oci_descriptor first = describe(OCI_MANIFEST, a.manifest),
			      second = describe(OCI_MANIFEST, b.manifest);
	struct image_usage usage;

	/* the first layer is the same */
	put_blobs(k, &a);
	put_blobs(k, &b);
	OK(image_create(&k->c, "one", &first, NULL, 0, NULL, NULL));
	OK(image_usage(&k->c, "one", &usage));
	assert_int_equal(usage.size, a.packed[0].n + a.packed[1].n + a.config.n + a.manifest.n);
	assert_int_equal(usage.shared, 0);
	assert_int_equal(usage.unpacked, 0);
	OK(image_create(&k->c, "two", &second, NULL, 0, NULL, NULL));
	OK(image_create(&k->c, "three", &second, NULL, 0, NULL, NULL));
	OK(image_usage(&k->c, "one", &usage));
	assert_int_equal(usage.shared, a.packed[0].n);
	OK(image_usage(&k->c, "two", &usage));
	assert_int_equal(usage.shared, usage.size);
	FAILS(image_usage(&k->c, "four", &usage), -ENOENT, FAULT_NOT_FOUND, "no image 'four'");
	oci_descriptor_clear(&first);
	oci_descriptor_clear(&second);
	kit_image_free(&a);
	kit_image_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		T(test_records),
		T(test_labels_of_target),
		T(test_bad_records),
		T(test_list),
		T(test_descriptor_kept),
		T(test_walk),
		T(test_wide),
		T(test_too_many),
		T(test_cancelled),
		T(test_choose),
		T(test_usage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
