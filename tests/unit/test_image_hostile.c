// SPDX-License-Identifier: Apache-2.0
/* Import: archives that are damaged, wrong, too large, or meant to do harm. */
#include "image_kit.h"

#include "util/limits.h"

/* ---- bad archives */

static void bad(struct kit *k, struct bytes archive, enum fault_code code, const char *message)
{
	size_t images = kit_events(k, "/images/create");
	int r;

	k->f = (struct fault){ 0 };
	r = kit_import(k, archive, "n", NULL);
	if (r >= 0 || k->f.code != code || !strstr(k->f.message, message))
		fail_msg("\"%s\" wanted: %d %s: %s", message, r, fault_code_name(k->f.code),
			 k->f.message);
	assert_int_equal(kit_events(k, "/images/create"), images);
	assert_int_equal(kit_leases(k), 0);
}

static void test_bad_tars(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("t", kit_architecture(), 3);
	struct bytes whole;

	bad(k, bytes_of(""), FAULT_FAILED_PRECONDITION, "the archive is empty");
	bad(k, bytes_of("hello, world, this is no archive of any kind"), FAULT_FAILED_PRECONDITION,
	    "no tar archive, plain or compressed");
	/* cut off, in each way of packing */
	for (enum layer_compression how = LAYER_NONE; how <= LAYER_ZSTD; how++) {
		whole = kit_layout(&im, KIT_NAMED("x"), how);
		whole.n = whole.n / 3;
		bad(k, whole, FAULT_FAILED_PRECONDITION, "");
	}
	/* at an entry's end: what is missing is named */
	whole = kit_layout(&im, KIT_NAMED("x"), LAYER_NONE);
	whole.n = 512 * 4;
	bad(k, whole, FAULT_FAILED_PRECONDITION, "the archive lacks the manifest sha256:");
	/* a flipped bit */
	whole = kit_layout(&im, KIT_NAMED("x"), LAYER_NONE);
	for (char *p = whole.p; p < whole.p + whole.n; p++)
		if (!strncmp(p, "{\"architecture\"", 15))
			p[2] ^= 1;
	bad(k, whole, FAULT_FAILED_PRECONDITION, bytes_digest(im.config).text);
	kit_image_free(&im);
}

static struct bytes one_entry(const char *name, unsigned type, const char *link)
{
	struct tarball t;

	tar_begin(&t, LAYER_NONE);
	tar_entry(&t, name, type, link, (struct bytes){ 0 });
	return tar_end(&t);
}

static void test_bad_entries(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("e", kit_architecture(), 1);
	struct digest d = bytes_digest(im.config);
	CLEANUP_FREE char *blob = bytes_fmt("blobs/sha256/%s", digest_hex(&d)).p;
	struct tarball t;

	bad(k, one_entry("../index.json", AE_IFREG, NULL), FAULT_FAILED_PRECONDITION,
	    "'../index.json': a name that");
	bad(k, one_entry("/index.json", AE_IFREG, NULL), FAULT_FAILED_PRECONDITION,
	    "'/index.json': a name that");
	bad(k, one_entry("a/../../b", AE_IFREG, NULL), FAULT_FAILED_PRECONDITION, "a name that");
	bad(k, one_entry("null", AE_IFCHR, NULL), FAULT_FAILED_PRECONDITION, "'null': neither a");
	bad(k, one_entry("pipe", AE_IFIFO, NULL), FAULT_FAILED_PRECONDITION, "neither a");
	bad(k, one_entry("sda", AE_IFBLK, NULL), FAULT_FAILED_PRECONDITION, "neither a");
	bad(k, one_entry("index.json", AE_IFLNK, "x"), FAULT_FAILED_PRECONDITION,
	    "'index.json': a link is not allowed");
	bad(k, one_entry("manifest.json", 0, "x"), FAULT_FAILED_PRECONDITION,
	    "a link is not allowed");
	bad(k, one_entry(blob, AE_IFLNK, "x"), FAULT_FAILED_PRECONDITION, "a link is not allowed");
	bad(k, one_entry("a/layer.tar", AE_IFLNK, "/etc/passwd"), FAULT_FAILED_PRECONDITION,
	    "leads out");
	bad(k, one_entry("a/layer.tar", AE_IFLNK, "../../x"), FAULT_FAILED_PRECONDITION,
	    "leads out");
	bad(k, one_entry("a/layer.tar", 0, "../x"), FAULT_FAILED_PRECONDITION, "leads out");
	bad(k, one_entry("a/layer.tar", AE_IFLNK, "b/../../c/layer.tar"), FAULT_FAILED_PRECONDITION,
	    "neither an OCI image layout");

	/* twice */
	tar_begin(&t, LAYER_NONE);
	tar_text(&t, "index.json", "{}");
	tar_text(&t, "index.json", "{}");
	bad(k, tar_end(&t), FAULT_FAILED_PRECONDITION, "'index.json': it is there twice");
	tar_begin(&t, LAYER_NONE);
	tar_text(&t, "a.tar", "a");
	tar_text(&t, "a.tar", "b");
	bad(k, tar_end(&t), FAULT_FAILED_PRECONDITION, "'a.tar': it is there twice");
	/* not what its name says, new and beside one that is right */
	tar_begin(&t, LAYER_NONE);
	tar_text(&t, blob, "other");
	bad(k, tar_end(&t), FAULT_FAILED_PRECONDITION, d.text);
	tar_begin(&t, LAYER_NONE);
	tar_file(&t, blob, im.config);
	tar_text(&t, blob, "other");
	bad(k, tar_end(&t), FAULT_FAILED_PRECONDITION,
	    "has the digest sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, "
	    "expected was");
	/* links in a circle */
	tar_begin(&t, LAYER_NONE);
	tar_text(&t, "manifest.json", "[{\"Config\":\"a.json\"}]");
	tar_symlink(&t, "a.json", "b.json");
	tar_symlink(&t, "b.json", "a.json");
	bad(k, tar_end(&t), FAULT_FAILED_PRECONDITION, "names the config 'a.json'");
	kit_image_free(&im);
}

/* index.json and oci-layout of a layout with these blobs. */
static struct bytes layout(struct bytes index, const char *version, struct bytes *blobs, size_t n)
{
	struct tarball t;

	tar_begin(&t, LAYER_NONE);
	for (size_t i = 0; i < n; i++)
		tar_blob(&t, blobs[i]);
	if (version)
		tar_text(&t, "oci-layout", version);
	tar_file(&t, "index.json", index);
	free(index.p);
	return tar_end(&t);
}

static void test_bad_documents(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("q", kit_architecture(), 1),
			 gone = kit_image("gone", kit_architecture(), 1);
	struct bytes blob, config;

	bad(k, layout(bytes_of("{}"), NULL, NULL, 0), FAULT_FAILED_PRECONDITION,
	    "no file oci-layout");
	bad(k, layout(bytes_of("{}"), "7", NULL, 0), FAULT_FAILED_PRECONDITION,
	    "no imageLayoutVersion");
	bad(k, layout(bytes_of("{}"), "{\"imageLayoutVersion\":\"2.0\"}", NULL, 0),
	    FAULT_FAILED_PRECONDITION, "the version 2.0 is not supported");
	bad(k, layout(bytes_of("{"), KIT_LAYOUT, NULL, 0), FAULT_FAILED_PRECONDITION,
	    "index.json: not a JSON document");
	bad(k, layout(kit_index(NULL, NULL), KIT_LAYOUT, NULL, 0), FAULT_FAILED_PRECONDITION,
	    "the archive has no image");
	bad(k,
	    layout(kit_index(kit_descriptor("text/plain", im.manifest, "").p, NULL), KIT_LAYOUT,
		   &im.manifest, 1),
	    FAULT_FAILED_PRECONDITION, "of the type text/plain, which is no image");
	/* the descriptor's size is wrong */
	blob = (struct bytes){ im.manifest.p, im.manifest.n };
	{
		struct digest d = bytes_digest(blob);
		struct bytes index = bytes_fmt(
			"{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"" OCI_MANIFEST
			"\",\"digest\":\"%s\",\"size\":7}]}",
			d.text);

		bad(k, layout(index, KIT_LAYOUT, &blob, 1), FAULT_FAILED_PRECONDITION,
		    "but its descriptor says 7");
	}
	/* the manifest is no manifest, or an old one */
	blob = bytes_of("{\"schemaVersion\":1,\"fsLayers\":[]}");
	bad(k,
	    layout(kit_index(kit_descriptor(DOCKER_MANIFEST, blob, "").p, NULL), KIT_LAYOUT, &blob,
		   1),
	    FAULT_FAILED_PRECONDITION, "schema version 1");
	free(blob.p);
	/* config missing, config that is no JSON, config with another number of layers */
	bad(k,
	    layout(kit_index(kit_descriptor(OCI_MANIFEST, im.manifest, "").p, NULL), KIT_LAYOUT,
		   (struct bytes[]){ im.manifest, im.packed[0] }, 2),
	    FAULT_FAILED_PRECONDITION, "the archive lacks the config sha256:");
	bad(k,
	    layout(kit_index(kit_descriptor(OCI_MANIFEST, gone.manifest, "").p, NULL), KIT_LAYOUT,
		   (struct bytes[]){ gone.config }, 1),
	    FAULT_FAILED_PRECONDITION, "the archive lacks the manifest sha256:");
	config = bytes_of("no JSON");
	{
		CLEANUP_FREE char *d = kit_descriptor(OCI_CONFIG, config, "").p;

		blob = bytes_fmt("{\"schemaVersion\":2,\"config\":%s,\"layers\":[]}", d);
	}
	bad(k,
	    layout(kit_index(kit_descriptor(OCI_MANIFEST, blob, "").p, NULL), KIT_LAYOUT,
		   (struct bytes[]){ blob, config }, 2),
	    FAULT_FAILED_PRECONDITION, "not a JSON document");
	free(blob.p);
	free(config.p);
	{
		CLEANUP_FREE char *d = kit_descriptor(OCI_CONFIG, im.config, "").p;

		blob = bytes_fmt("{\"schemaVersion\":2,\"config\":%s,\"layers\":[]}", d);
	}
	bad(k,
	    layout(kit_index(kit_descriptor(OCI_MANIFEST, blob, "").p, NULL), KIT_LAYOUT,
		   (struct bytes[]){ blob, im.config }, 2),
	    FAULT_FAILED_PRECONDITION, "has 0 layers, but its config");
	free(blob.p);
	{
		CLEANUP_FREE char *d = kit_descriptor(OCI_CONFIG, im.config, "").p,
				  *l = kit_descriptor("application/x-cpio", im.packed[0], "").p;

		blob = bytes_fmt("{\"schemaVersion\":2,\"config\":%s,\"layers\":[%s]}", d, l);
	}
	bad(k,
	    layout(kit_index(kit_descriptor(OCI_MANIFEST, blob, "").p, NULL), KIT_LAYOUT,
		   (struct bytes[]){ blob, im.config, im.packed[0] }, 3),
	    FAULT_FAILED_PRECONDITION, "application/x-cpio");
	free(blob.p);
	kit_image_free(&gone);
	kit_image_free(&im);
}

/* Indexes in indexes, deeper than is taken. */
static void test_depth(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("deep", kit_architecture(), 1);
	struct bytes blobs[32], index;
	size_t n = 0;

	blobs[n++] = im.manifest;
	blobs[n++] = im.config;
	blobs[n++] = im.packed[0];
	index = kit_index(kit_descriptor(OCI_MANIFEST, im.manifest, "").p, NULL);
	for (unsigned i = 0; i < LIMIT_IMAGE_DEPTH + 2; i++) {
		struct bytes outer;
		struct kit_seen seen;

		if (i == LIMIT_IMAGE_DEPTH / 2) {
			OK(kit_import(
				k,
				layout(kit_index(kit_descriptor(OCI_INDEX, index, KIT_NAMED("half"))
							 .p,
						 NULL),
				       KIT_LAYOUT, (blobs[n] = index, blobs), n + 1),
				NULL, &seen));
			assert_string_equal(seen.names, "half ");
		}
		blobs[n++] = index;
		outer = kit_index(kit_descriptor(OCI_INDEX, index, "").p, NULL);
		index = outer;
	}
	bad(k, layout(bytes_of(index.p), KIT_LAYOUT, blobs, n), FAULT_FAILED_PRECONDITION,
	    "nested deeper than 16");
	free(index.p);
	for (size_t i = 3; i < n; i++)
		free(blobs[i].p);
	kit_image_free(&im);
}

/* ---- limits */

static void test_limits(void **state)
{
	struct kit *k = *state;
	struct bytes big = { calloc(1, LIMIT_MANIFEST_BYTES + 1), LIMIT_MANIFEST_BYTES + 1 };
	struct bytes frame, all = { 0 };
	struct tarball t;
	char name[64];

	tar_begin(&t, LAYER_ZSTD);
	tar_file(&t, "index.json", big);
	bad(k, tar_end(&t), FAULT_RESOURCE_EXHAUSTED, "index.json has 8388609 bytes; at most");
	free(big.p);

	tar_begin(&t, LAYER_ZSTD);
	for (size_t i = 0; i <= LIMIT_ARCHIVE_FILES; i++) {
		snprintf(name, sizeof(name), "%zu/layer.tar", i);
		tar_symlink(&t, name, "../x.tar");
	}
	bad(k, tar_end(&t), FAULT_RESOURCE_EXHAUSTED, "more than 16384 files");

	/* one frame again and again is one long tar */
	{
		CLEANUP_FREE char *tar = calloc(1000, 512);
		struct tarball plain;

		tar_begin(&plain, LAYER_NONE);
		tar_entry(&plain, "folder", AE_IFDIR, NULL, (struct bytes){ 0 });
		frame = tar_end(&plain);
		for (size_t i = 0; i < 1000; i++)
			memcpy(tar + i * 512, frame.p, 512);
		free(frame.p);
		{
			struct archive *a = archive_write_new();

			memset(&plain, 0, sizeof(plain));
			archive_write_set_format_raw(a);
			archive_write_set_bytes_in_last_block(a, 1);
			archive_write_add_filter_zstd(a);
			archive_write_open(a, &plain, NULL, tar_out, NULL);
			plain.a = a;
			tar_file(&plain, "data", (struct bytes){ tar, 512000 });
			frame = tar_end(&plain);
		}
	}
	for (size_t i = 0; i <= LIMIT_ARCHIVE_ENTRIES / 1000; i++) {
		all.p = realloc(all.p, all.n + frame.n);
		memcpy(all.p + all.n, frame.p, frame.n);
		all.n += frame.n;
	}
	free(frame.p);
	bad(k, all, FAULT_RESOURCE_EXHAUSTED, "more than 1000000 entries");
}

/* Much from little. */
static void test_ratio(void **state)
{
	struct kit *k = *state;
	struct bytes zeros = { calloc(1, 256u << 20), 256u << 20 };
	struct tarball t;

	tar_begin(&t, LAYER_ZSTD);
	tar_file(&t, "layer.tar", zeros);
	bad(k, tar_end(&t), FAULT_RESOURCE_EXHAUSTED, "more than 1000 times its size");
	free(zeros.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		T(test_bad_tars), T(test_bad_entries), T(test_bad_documents),
		T(test_depth),	  T(test_limits),      T(test_ratio),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
