// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as images, in a real store, and as folders: there and back, and every refusal
 */
#include "image_kit.h"

#include <sys/sysmacros.h>
#include <zstd.h>

#include "checkpoint/files_tar.h"
#include "checkpoint/frames.h"
#include "core/checkpoint_image.h"
#include "store/gc.h"
#include "util/json.h"
#include "util/limits.h"

#define DATA "tests/data/criu/"
#define NAME "checkpoints/web:1"

static const char *const small[] = { "core-1.img", "core-2.img",    "ids-1.img",
				     "ids-2.img",  "inventory.img", "mountpoints-13.img",
				     "pstree.img" };

/* ---- a checkpoint as the running side hands it over */

struct made {
	struct ckpt_record record;
	struct checkpoint_blob blobs[5];
	size_t n;
	unsigned char *pages; /* of pages-1.img */
	size_t pages_size;
	/* what came of it */
	struct oci_descriptor index;
	char *name;
	struct oci_descriptor *descriptors;
	size_t n_descriptors;
};

static struct bytes read_data(const char *name)
{
	struct bytes b;
	char path[256];

	snprintf(path, sizeof(path), DATA "%s", name);
	if (fd_read_file(AT_FDCWD, path, 1 << 20, &b.p, &b.n) < 0)
		fail_msg("%s cannot be read: run the test in the checkout's folder", path);
	return b;
}

static struct bytes files_tar(enum layer_compression compression)
{
	struct tarball t;

	tar_begin(&t, compression);
	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		struct bytes b = read_data(small[i]);

		tar_file(&t, small[i], b);
		free(b.p);
	}
	return tar_end(&t);
}

static struct checkpoint_blob put_blob(struct kit *k, const char *type, struct bytes b,
				       const char *file, uint64_t file_size)
{
	struct checkpoint_blob blob = { type, { "" }, b.n, file, file_size };

	OK(content_put(&k->c, b.p, b.n, NULL, 0, &blob.digest));
	free(b.p);
	return blob;
}

/* size bytes in frames of at most `frame`, with the seek table */
static struct bytes packed(const unsigned char *data, size_t size, size_t frame)
{
	struct frame_table t = { 0 };
	struct frame_codec *codec;
	struct bytes out = { malloc(size + FRAME_PACKED_MOST), 0 };
	unsigned char *one = malloc(FRAME_PACKED_MOST);

	assert_int_equal(frame_codec_new(&codec, 1), 0);
	for (size_t at = 0; at < size; at += frame) {
		size_t n = size - at < frame ? size - at : frame;
		ssize_t p = frame_pack(codec, data + at, n, one);

		assert_true(p > 0);
		memcpy(out.p + out.n, one, (size_t)p);
		out.n += (size_t)p;
		assert_int_equal(frame_table_add(&t, (uint32_t)p, (uint32_t)n), 0);
	}
	frame_table_write(&t, out.p + out.n);
	out.n += frame_table_bytes(&t);
	frame_codec_free(codec);
	frame_table_clear(&t);
	free(one);
	return out;
}

static void make_record(struct ckpt_record *r)
{
	struct bytes b = read_data("davit-checkpoint.json");
	struct fault f;

	assert_int_equal(ckpt_record_read(r, b.p, b.n, &f), 0);
	free(b.p);
}

static void make(struct kit *k, struct made *m)
{
	memset(m, 0, sizeof(*m));
	make_record(&m->record);
	m->pages_size = 100000;
	m->pages = malloc(m->pages_size);
	for (size_t i = 0; i < m->pages_size; i++)
		m->pages[i] = (unsigned char)(i * 2654435761u >> 13);
	m->blobs[m->n++] = put_blob(k, CHECKPOINT_FILES, files_tar(LAYER_ZSTD), NULL, 20480);
	m->blobs[m->n++] = put_blob(k, CHECKPOINT_PAGES, packed(m->pages, m->pages_size, 30000),
				    "pages-1.img", m->pages_size);
	m->blobs[m->n++] = put_blob(k, CHECKPOINT_PAGES_PLAIN, bytes_of("plain pages"),
				    "pages-2.img", 11);
	m->blobs[m->n++] = put_blob(k, OCI_LAYER_ZSTD, kit_layer("diff", LAYER_ZSTD), NULL, 0);
}

static int write_as(struct kit *k, struct made *m, const char *name, const char *base)
{
	struct checkpoint_write w = { name, &m->record, m->blobs, m->n, base, false };

	return checkpoint_image_write(&k->c, &w, &m->index, &m->name, &m->descriptors,
				      &m->n_descriptors);
}

static void written_clear(struct made *m)
{
	oci_descriptor_clear(&m->index);
	for (size_t i = 0; i < m->n_descriptors; i++)
		oci_descriptor_clear(&m->descriptors[i]);
	free(m->descriptors);
	free(m->name);
	m->descriptors = NULL;
	m->name = NULL;
	m->n_descriptors = 0;
}

static void made_clear(struct made *m)
{
	written_clear(m);
	ckpt_record_clear(&m->record);
	free(m->pages);
}

static json_object *document(struct kit *k, const struct digest *d)
{
	json_object *j = NULL;
	char *text;
	size_t size;

	OK(content_read_all(&k->c, d->text, 1 << 20, &text, &size));
	assert_int_equal(json_parse(text, size, &j, NULL), 0);
	free(text);
	return j;
}

static const char *text_at(json_object *j, const char *pointer)
{
	json_object *at = NULL;

	if (json_pointer_get(j, pointer, &at) < 0)
		return "";
	return json_object_get_string(at);
}

/* ---- writing */

static void test_write(void **state)
{
	struct kit *k = *state;
	struct kit_seen seen = { 0 };
	json_object *index, *manifest;
	struct made m;
	char *label;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	assert_string_equal(m.name, NAME);
	assert_string_equal(m.index.media_type, OCI_INDEX);
	OK(image_get(&k->c, NAME, kit_see, &seen));
	assert_string_equal(seen.digest, m.index.digest.text);
	assert_string_equal(seen.labels, CHECKPOINT_LABEL "=true;" CHECKPOINT_LABEL_LOCAL "=true;");
	/* manifest, config, layers */
	assert_int_equal(m.n_descriptors, 6);
	assert_string_equal(m.descriptors[0].media_type, OCI_MANIFEST);
	assert_string_equal(m.descriptors[1].media_type, CHECKPOINT_CONFIG);
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(m.descriptors[2 + i].media_type, m.blobs[i].media_type);
		assert_string_equal(m.descriptors[2 + i].digest.text, m.blobs[i].digest.text);
		assert_true(m.descriptors[2 + i].size == m.blobs[i].size);
	}
	index = document(k, &m.index.digest);
	assert_string_equal(text_at(index, "/mediaType"), OCI_INDEX);
	assert_string_equal(text_at(index, "/schemaVersion"), "2");
	assert_string_equal(text_at(index, "/manifests/0/artifactType"), CHECKPOINT_ARTIFACT);
	assert_string_equal(text_at(index, "/manifests/0/digest"), m.descriptors[0].digest.text);
	assert_string_equal(
		text_at(index, "/manifests/0/annotations/org.davit.checkpoint.container"), "web");
	assert_string_equal(text_at(index, "/manifests/1"), "");
	manifest = document(k, &m.descriptors[0].digest);
	assert_string_equal(text_at(manifest, "/artifactType"), CHECKPOINT_ARTIFACT);
	assert_string_equal(text_at(manifest, "/mediaType"), OCI_MANIFEST);
	assert_string_equal(text_at(manifest, "/config/mediaType"), CHECKPOINT_CONFIG);
	assert_string_equal(text_at(manifest, "/layers/0/annotations/" CHECKPOINT_NOTE_SIZE),
			    "20480");
	assert_string_equal(text_at(manifest, "/layers/0/annotations/" CHECKPOINT_NOTE_FILE), "");
	assert_string_equal(text_at(manifest, "/layers/1/annotations/" CHECKPOINT_NOTE_FILE),
			    "pages-1.img");
	assert_string_equal(text_at(manifest, "/layers/1/annotations/" CHECKPOINT_NOTE_OFFSET),
			    "0");
	assert_string_equal(text_at(manifest, "/layers/1/annotations/" CHECKPOINT_NOTE_SIZE),
			    "100000");
	assert_string_equal(text_at(manifest, "/layers/3/annotations"), "");
	json_object_put(index);
	json_object_put(manifest);
	/* what keeps it all */
	label = kit_label(k, m.index.digest.text, "containerd.io/gc.ref.content.m.0");
	assert_string_equal(label, m.descriptors[0].digest.text);
	free(label);
	label = kit_label(k, m.descriptors[0].digest.text, "containerd.io/gc.ref.content.config");
	assert_string_equal(label, m.descriptors[1].digest.text);
	free(label);
	label = kit_label(k, m.descriptors[0].digest.text, "containerd.io/gc.ref.content.l.3");
	assert_string_equal(label, m.blobs[3].digest.text);
	free(label);
	assert_int_equal(kit_leases(k), 0);
	made_clear(&m);
}

static void test_gc(void **state)
{
	struct kit *k = *state;
	struct gc_result r;
	struct made m;

	OK(lease_create(&k->c, "dump", NULL, 0, 0, NULL, NULL));
	k->c.lease = "dump";
	make(k, &m);
	OK(write_as(k, &m, NULL, ""));
	k->c.lease = NULL;
	assert_int_equal(kit_blobs(k), 7);
	OK(lease_delete(&k->c, "dump"));
	OK(gc_run(&k->c, false, &r));
	assert_int_equal(kit_blobs(k), 7);
	OK(image_delete(&k->c, m.name));
	OK(gc_run(&k->c, false, &r));
	assert_int_equal(kit_blobs(k), 0);
	made_clear(&m);
}

static void test_names(void **state)
{
	struct kit *k = *state;
	struct digest first;
	size_t blobs, events;
	struct made m;

	make(k, &m);
	m.record.created_at = 1700000000012345678;
	OK(write_as(k, &m, NULL, NULL));
	assert_string_equal(m.name, "containerd.io/checkpoint/web:2023-11-14T22-13-20.012345678Z");
	first = m.index.digest;
	blobs = kit_blobs(k);
	written_clear(&m);
	/* the same again is the same */
	OK(write_as(k, &m, NULL, NULL));
	assert_string_equal(m.index.digest.text, first.text);
	assert_int_equal(kit_blobs(k), blobs);
	written_clear(&m);
	/* the same under another name */
	OK(write_as(k, &m, NAME, NULL));
	assert_string_equal(m.index.digest.text, first.text);
	written_clear(&m);
	/* another one under a name that is taken: nothing comes of it */
	m.record.created_at++;
	events = kit_events(k, "/content/create");
	FAILS(write_as(k, &m, NAME, NULL), -EEXIST, FAULT_ALREADY_EXISTS,
	      "the image '" NAME "' exists");
	assert_string_equal(k->f.argument, "name");
	assert_int_equal(kit_blobs(k), blobs);
	assert_int_equal(kit_events(k, "/content/create"), events);
	FAILS(write_as(k, &m, "", NULL), -EINVAL, FAULT_INVALID_ARGUMENT, "cannot be empty");
	made_clear(&m);
}

static void test_write_refusals(void **state)
{
	struct kit *k = *state;
	struct checkpoint_blob *many;
	struct made m;

	make(k, &m);
	/* a blob that is not there */
	memset(m.blobs[1].digest.text + 7, '0', 64);
	FAILS(write_as(k, &m, NAME, NULL), -EINVAL, FAULT_NOT_FOUND,
	      "there is no content sha256:000");
	/* more than can be kept */
	many = calloc(LIMIT_CHECKPOINT_BLOBS + 1, sizeof(*many));
	for (size_t i = 0; i <= LIMIT_CHECKPOINT_BLOBS; i++)
		many[i] = m.blobs[0];
	struct checkpoint_write w = {
		NAME, &m.record, many, LIMIT_CHECKPOINT_BLOBS + 1, NULL, false
	};

	FAILS(checkpoint_image_write(&k->c, &w, &m.index, &m.name, &m.descriptors,
				     &m.n_descriptors),
	      -EINVAL, FAULT_RESOURCE_EXHAUSTED, "1001 blobs; at most 1000");
	w.n_blobs--;
	OK(checkpoint_image_write(&k->c, &w, &m.index, &m.name, &m.descriptors, &m.n_descriptors));
	free(many);
	written_clear(&m);
	/* a record that could not be read again: a path that is no UTF-8 */
	m.n = 1;
	free(m.record.mounts.v[0].path);
	m.record.mounts.v[0].path = strdup("/a\xff");
	FAILS(write_as(k, &m, "other", NULL), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "the checkpoint cannot be written down: ");
	made_clear(&m);
}

/* ---- reading */

static void check_part(const struct serve_part *p, const void *want, size_t size)
{
	unsigned char *got = malloc(size + 1);

	assert_true(p->size == size);
	if (p->packed) {
		struct frame_codec *codec;
		unsigned char *raw = malloc(FRAME_PACKED_MOST);

		assert_int_equal(frame_codec_new(&codec, 1), 0);
		for (size_t i = 0; i < p->table.n; i++) {
			const struct frame_place *f = &p->table.v[i];

			assert_int_equal(pread(p->fd, raw, f->packed, (off_t)f->at), f->packed);
			assert_int_equal(
				frame_unpack(codec, raw, f->packed, got + f->offset, f->size), 0);
		}
		frame_codec_free(codec);
		free(raw);
	} else {
		assert_int_equal(pread(p->fd, got, size, 0), size);
	}
	assert_memory_equal(got, want, size);
	free(got);
}

static void check_read(struct kit *k, const struct made *m, struct checkpoint_read *r)
{
	const struct serve_file *file;

	assert_true(r->has_record);
	assert_string_equal(r->record.id, "web");
	assert_int_equal(r->record.mounts.n, 18);
	assert_int_equal(r->files.n, ARRAY_SIZE(small) + 2);
	for (size_t i = 0; i < ARRAY_SIZE(small); i++) {
		struct bytes b = read_data(small[i]);

		file = ckpt_files_find(&r->files, small[i]);
		assert_non_null(file);
		assert_int_equal(file->parts[0].fd, -1);
		assert_int_equal(file->parts[0].size, b.n);
		assert_memory_equal(file->parts[0].data, b.p, b.n);
		free(b.p);
	}
	file = ckpt_files_find(&r->files, "pages-1.img");
	assert_int_equal(file->n_parts, 1);
	assert_true(file->parts[0].packed && file->parts[0].table.n == 4);
	check_part(&file->parts[0], m->pages, m->pages_size);
	assert_string_equal(file->parts[0].digest, m->blobs[1].digest.text);
	file = ckpt_files_find(&r->files, "pages-2.img");
	assert_false(file->parts[0].packed);
	check_part(&file->parts[0], "plain pages", 11);
	assert_int_equal(r->n_pages, 2);
	assert_string_equal(r->pages[0].digest.text, m->blobs[1].digest.text);
	assert_string_equal(r->pages[1].digest.text, m->blobs[2].digest.text);
	for (size_t i = 0; i < r->n_pages; i++)
		OK(content_verify(&k->c, r->pages[i].digest.text));
	assert_true(r->has_diff);
	assert_string_equal(r->diff.digest.text, m->blobs[3].digest.text);
	assert_string_equal(r->base_image, "");
	assert_string_equal(r->base_manifest.text, "");
	OK(checkpoint_files_check(r, &(struct ckpt_tasks){ 0 }, &k->f));
}

static void test_read(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct store_call other = kit_call(k, "other");
	struct made m;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	OK(checkpoint_image_read(&k->c, NAME, NULL, &r));
	check_read(k, &m, &r);
	checkpoint_read_clear(&r);
	OK(checkpoint_image_read(&k->c, NULL, &m.index, &r));
	check_read(k, &m, &r);
	checkpoint_read_clear(&r);
	OK(checkpoint_image_read(&k->c, NULL, &m.descriptors[0], &r));
	check_read(k, &m, &r);
	checkpoint_read_clear(&r);
	FAILS(checkpoint_image_read(&k->c, "none", NULL, &r), -ENOENT, FAULT_NOT_FOUND,
	      "no image 'none'");
	FAILS(checkpoint_image_read(&other, NULL, &m.index, &r), -ENOENT, FAULT_NOT_FOUND,
	      m.index.digest.text);
	/* something that is no checkpoint */
	FAILS(checkpoint_image_read(&k->c, NULL, &m.descriptors[2], &r), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "is of the media type '" CHECKPOINT_FILES "'");
	made_clear(&m);
}

static void test_base(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("base", kit_architecture(), 2);
	struct checkpoint_read r;
	struct gc_result gc;
	json_object *index;
	struct made m;
	char *label;

	OK(kit_import(k, kit_layout(&im, "", LAYER_NONE), "base:1", NULL));
	make(k, &m);
	free(m.record.image);
	m.record.image = strdup("base:1");
	OK(write_as(k, &m, NAME, "base:1"));
	index = document(k, &m.index.digest);
	assert_string_equal(text_at(index, "/manifests/1/digest"), bytes_digest(im.manifest).text);
	assert_string_equal(text_at(index, "/manifests/1/platform/architecture"),
			    kit_architecture());
	assert_string_equal(text_at(index, "/manifests/1/platform/os"), "linux");
	json_object_put(index);
	label = kit_label(k, m.index.digest.text, "containerd.io/gc.ref.content.m.1");
	assert_string_equal(label, bytes_digest(im.manifest).text);
	free(label);
	/* it stays as long as the checkpoint does */
	OK(image_delete(&k->c, "base:1"));
	OK(gc_run(&k->c, false, &gc));
	OK(checkpoint_image_read(&k->c, NAME, NULL, &r));
	assert_string_equal(r.base_image, "base:1");
	assert_string_equal(r.base_manifest.text, bytes_digest(im.manifest).text);
	OK(content_verify(&k->c, bytes_digest(im.packed[1]).text));
	checkpoint_read_clear(&r);
	written_clear(&m);
	/* the image is gone: no base */
	OK(write_as(k, &m, "second", "base:1"));
	index = document(k, &m.index.digest);
	assert_string_equal(text_at(index, "/manifests/1"), "");
	json_object_put(index);
	written_clear(&m);
	/* an image that is not whole is none either; nor is another checkpoint */
	OK(kit_import(k, kit_layout(&im, "", LAYER_NONE), "base:1", NULL));
	OK(content_delete(&k->c, bytes_digest(im.config).text));
	OK(write_as(k, &m, "third", "base:1"));
	index = document(k, &m.index.digest);
	assert_string_equal(text_at(index, "/manifests/1"), "");
	json_object_put(index);
	written_clear(&m);
	m.record.created_at++;
	OK(write_as(k, &m, "fourth", "second"));
	index = document(k, &m.index.digest);
	assert_string_equal(text_at(index, "/manifests/1"), "");
	json_object_put(index);
	made_clear(&m);
	kit_image_free(&im);
}

/* ---- what others may have written */

static struct oci_descriptor put_json(struct kit *k, const char *type, json_object *j)
{
	const char *text = json_object_to_json_string_ext(j, JSON_C_TO_STRING_PLAIN);
	struct oci_descriptor d;
	struct digest digest;

	OK(content_put(&k->c, text, strlen(text), NULL, 0, &digest));
	assert_int_equal(oci_descriptor_new(&d, type, &digest, strlen(text)), 0);
	return d;
}

static json_object *json(const char *text)
{
	json_object *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	return j;
}

/* The manifest with `value` (JSON; NULL: removed) at the pointer. */
static int read_changed(struct kit *k, struct made *m, const char *pointer, const char *value,
			struct checkpoint_read *out)
{
	json_object *j = document(k, &m->descriptors[0].digest), *in = j;
	char path[256], *slash;
	struct oci_descriptor d;
	int r;

	snprintf(path, sizeof(path), "%s", pointer);
	if (value) {
		assert_int_equal(json_pointer_set(&j, path, json(value)), 0);
	} else {
		slash = strrchr(path, '/');
		*slash = '\0';
		if (*path)
			assert_int_equal(json_pointer_get(j, path, &in), 0);
		if (json_object_is_type(in, json_type_array))
			assert_int_equal(json_object_array_del_idx(in, (size_t)atoi(slash + 1), 1),
					 0);
		else
			json_object_object_del(in, slash + 1);
	}
	d = put_json(k, OCI_MANIFEST, j);
	k->f = (struct fault){ 0 };
	r = checkpoint_image_read(&k->c, NULL, &d, out);
	oci_descriptor_clear(&d);
	json_object_put(j);
	return r;
}

static void test_manifests(void **state)
{
#define NOTE(i, key) "/layers/" #i "/annotations/" CHECKPOINT_NOTE_##key
	static const struct {
		const char *pointer, *value, *says;
	} bad[] = {
		{ "/artifactType", NULL, "artifactType is ''" },
		{ "/artifactType", "\"application/vnd.oci.image.v1\"",
		  "artifactType is 'application/vnd.oci.image.v1'" },
		{ "/artifactType", "1", "artifactType is ''" },
		{ "/mediaType", "\"" OCI_INDEX "\"", "calls itself" },
		{ "/config/mediaType", "\"" OCI_CONFIG "\"",
		  "config of the media type '" OCI_CONFIG "'" },
		{ "/config/size", "5", "bytes, but its descriptor says 5" },
		{ "/config/digest",
		  "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
		  "there is no content sha256:000" },
		{ "/layers/0", NULL, "no layer of image files" },
		{ "/layers", "[]", "no layer of image files" },
		{ "/layers/2/mediaType", "\"" CHECKPOINT_FILES "\"",
		  "more than one layer of image files" },
		{ "/layers/2/mediaType", "\"" OCI_LAYER "\"", "more than one writable layer" },
		{ "/layers/3/mediaType", "\"application/x-evil\"",
		  "unknown media type 'application/x-evil'" },
		{ "/layers/3/mediaType", "\"application/vnd.davit.checkpoint.criu.pages.v2+zstd\"",
		  "unknown media type" },
		{ "/layers/0/size", "5", "bytes, but its descriptor says 5" },
		{ "/layers/1/size", "5", "bytes, but its descriptor says 5" },
		{ "/layers/0/size", "400000000", "at most 268435456 are taken" },
		{ "/layers/0/digest",
		  "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
		  "layer sha256:00" },
		{ "/layers/1/digest",
		  "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
		  "layer sha256:00" },
		{ NOTE(1, FILE), NULL, "without the annotation " CHECKPOINT_NOTE_FILE },
		{ NOTE(1, FILE), "\"../x\"", "has '../x', which no image file is called" },
		{ NOTE(1, FILE), "\"\"", "no image file is called" },
		{ NOTE(1, FILE), "\".hidden\"", "no image file is called" },
		{ NOTE(1, FILE), "\"core-1.img\"", "has the file core-1.img twice" },
		{ NOTE(1, OFFSET), "\"-1\"", "which is no size" },
		{ NOTE(1, OFFSET), "\"\"", "which is no size" },
		{ NOTE(1, OFFSET), "\"0x1\"", "which is no size" },
		{ NOTE(1, OFFSET), "\"99999999999999999999\"", "which is no size" },
		{ NOTE(1, OFFSET), "\"1\"", "from byte 1 on, but the part before it ends at 0" },
		{ NOTE(1, SIZE), "\"99999\"",
		  "holds 100000 bytes of pages-1.img, but its annotation says 99999" },
		{ NOTE(2, SIZE), "\"12\"", "holds 11 bytes of pages-2.img" },
		{ NOTE(2, SIZE), "\"12x\"", "which is no size" },
		/* a second one of the same place */
		{ NOTE(2, FILE), "\"pages-1.img\"",
		  "from byte 0 on, but the part before it ends at" },
		/* frames where there are none, and the other way round */
		{ "/layers/2/mediaType", "\"" CHECKPOINT_PAGES "\"", "more frames than are taken" },
		{ "/layers/0/mediaType", "\"" CHECKPOINT_PAGES "\"", "no layer of image files" },
	};
	struct kit *k = *state;
	struct checkpoint_read r;
	struct made m;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (read_changed(k, &m, bad[i].pointer, bad[i].value, &r) >= 0)
			fail_msg("%s = %s is taken", bad[i].pointer, bad[i].value);
		if ((k->f.code != FAULT_FAILED_PRECONDITION && k->f.code != FAULT_NOT_FOUND) ||
		    !strstr(k->f.message, bad[i].says))
			fail_msg("%s = %s: %s", bad[i].pointer, bad[i].value, k->f.message);
		assert_null(r.files.v);
		assert_null(r.pages);
	}
	/* what may be left out, and what is not known */
	OK(read_changed(k, &m, NOTE(1, OFFSET), NULL, &r));
	checkpoint_read_clear(&r);
	OK(read_changed(k, &m, NOTE(1, SIZE), NULL, &r));
	checkpoint_read_clear(&r);
	OK(read_changed(k, &m, "/layers/3", NULL, &r));
	assert_false(r.has_diff);
	checkpoint_read_clear(&r);
	OK(read_changed(k, &m, "/layers/1/annotations/other", "\"x\"", &r));
	checkpoint_read_clear(&r);
	OK(read_changed(k, &m, "/layers/0/mediaType", "\"" CHECKPOINT_FILES_PLAIN "\"", &r));
	checkpoint_read_clear(&r);
	made_clear(&m);
}

/* A file in three layers, in any order. */
static void test_spread(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct checkpoint_blob parts[3];
	json_object *j, *layers;
	struct oci_descriptor d;
	const struct serve_file *file;
	uint64_t offsets[3] = { 0, 50000, 50000 + 30000 };
	struct made m;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	parts[0] = put_blob(k, CHECKPOINT_PAGES, packed(m.pages, 50000, 7000), "pages-9.img",
			    50000);
	parts[1] = put_blob(k, CHECKPOINT_PAGES_PLAIN,
			    (struct bytes){ memcpy(malloc(30000), m.pages + 50000, 30000), 30000 },
			    "pages-9.img", 30000);
	parts[2] = put_blob(k, CHECKPOINT_PAGES, packed(m.pages + 80000, 20000, 20000),
			    "pages-9.img", 20000);
	for (int broken = 0; broken < 3; broken++) {
		j = document(k, &m.descriptors[0].digest);
		assert_int_equal(json_pointer_get(j, "/layers", &layers), 0);
		for (int i = 2; i >= 0; i--) {
			char text[1024];

			if (broken == 2 && i == 1)
				continue;
			snprintf(text, sizeof(text),
				 "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu,"
				 "\"annotations\":{\"" CHECKPOINT_NOTE_FILE "\":\"pages-9.img\","
				 "\"" CHECKPOINT_NOTE_OFFSET "\":\"%llu\"}}",
				 parts[i].media_type, parts[i].digest.text,
				 (unsigned long long)parts[i].size,
				 (unsigned long long)(offsets[i] - (broken == 1 && i == 2)));
			json_object_array_add(layers, json(text));
		}
		d = put_json(k, OCI_MANIFEST, j);
		if (broken) {
			FAILS(checkpoint_image_read(&k->c, NULL, &d, &r), -EINVAL,
			      FAULT_FAILED_PRECONDITION,
			      broken == 1
				      ? "from byte 79999 on, but the part before it ends at 80000"
				      : "from byte 80000 on, but the part before it ends at 50000");
		} else {
			OK(checkpoint_image_read(&k->c, NULL, &d, &r));
			file = ckpt_files_find(&r.files, "pages-9.img");
			assert_int_equal(file->n_parts, 3);
			for (int i = 0; i < 3; i++)
				check_part(&file->parts[i], m.pages + offsets[i],
					   parts[i].file_size);
			assert_int_equal(r.n_pages, 5);
			checkpoint_read_clear(&r);
		}
		oci_descriptor_clear(&d);
		json_object_put(j);
	}
	made_clear(&m);
}

static int read_index(struct kit *k, const char *manifests, struct checkpoint_read *out)
{
	char text[4096];
	struct oci_descriptor d;
	json_object *j;
	int r;

	snprintf(text, sizeof(text), "{\"schemaVersion\":2,\"manifests\":[%s]}", manifests);
	j = json(text);
	d = put_json(k, OCI_INDEX, j);
	json_object_put(j);
	k->f = (struct fault){ 0 };
	r = checkpoint_image_read(&k->c, NULL, &d, out);
	oci_descriptor_clear(&d);
	return r;
}

static void test_indexes(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	char ours[512], both[1100], plain[512];
	struct made m;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	snprintf(ours, sizeof(ours),
		 "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu,\"artifactType\":\"%s\"}",
		 OCI_MANIFEST, m.descriptors[0].digest.text,
		 (unsigned long long)m.descriptors[0].size, CHECKPOINT_ARTIFACT);
	OK(read_index(k, ours, &r));
	checkpoint_read_clear(&r);
	snprintf(both, sizeof(both), "%s,%s", ours, ours);
	FAILS(read_index(k, both, &r), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "more than one manifest");
	snprintf(plain, sizeof(plain), "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu}",
		 OCI_MANIFEST, m.descriptors[0].digest.text,
		 (unsigned long long)m.descriptors[0].size);
	FAILS(read_index(k, plain, &r), -EINVAL, FAULT_FAILED_PRECONDITION, "is no checkpoint");
	FAILS(read_index(k, "", &r), -EINVAL, FAULT_FAILED_PRECONDITION, "is no checkpoint");
	/* containerd's */
	snprintf(plain, sizeof(plain),
		 "{\"mediaType\":\"application/vnd.containerd.container.criu.checkpoint.criu.tar\","
		 "\"digest\":\"%s\",\"size\":%llu}",
		 m.blobs[0].digest.text, (unsigned long long)m.blobs[0].size);
	FAILS(read_index(k, plain, &r), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "holds 'application/vnd.containerd.container.criu.checkpoint.criu.tar'");
	/* says that it is ours, and is not */
	snprintf(plain, sizeof(plain),
		 "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu,\"artifactType\":\"%s\"}",
		 OCI_MANIFEST, m.index.digest.text, (unsigned long long)m.index.size,
		 CHECKPOINT_ARTIFACT);
	FAILS(read_index(k, plain, &r), -EINVAL, FAULT_FAILED_PRECONDITION, "");
	made_clear(&m);
}

/* ---- damage on the disk */

static void damage(struct kit *k, const char *digest, off_t at)
{
	char path[256];
	unsigned char byte;
	int fd;

	snprintf(path, sizeof(path), "%s/content/blobs/sha256/%s", k->path, digest + 7);
	assert_int_equal(chmod(path, 0600), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	if (at < 0)
		at += lseek(fd, 0, SEEK_END);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x40;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static void test_damage(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct made m;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	/* of index, manifest, config, files: by digest */
	const char *blobs[] = { m.index.digest.text, m.descriptors[0].digest.text,
				m.descriptors[1].digest.text, m.blobs[0].digest.text };

	for (size_t i = 0; i < ARRAY_SIZE(blobs); i++) {
		damage(k, blobs[i], 30);
		k->f = (struct fault){ 0 };
		assert_true(checkpoint_image_read(&k->c, NAME, NULL, &r) < 0);
		assert_int_equal(k->f.code, FAULT_FAILED_PRECONDITION);
		if (!strstr(k->f.message, blobs[i]))
			fail_msg("%s", k->f.message);
		damage(k, blobs[i], 30);
	}
	/* any byte of the seek table of pages: 8 at its beginning, 8 for each of 4 frames, 9 */
	for (off_t at = -1; at >= -(8 + 4 * 8 + 9); at--) {
		damage(k, m.blobs[1].digest.text, at);
		k->f = (struct fault){ 0 };
		if (checkpoint_image_read(&k->c, NAME, NULL, &r) >= 0)
			fail_msg("a seek table with another byte %lld is taken", (long long)at);
		assert_int_equal(k->f.code, FAULT_FAILED_PRECONDITION);
		damage(k, m.blobs[1].digest.text, at);
	}
	OK(checkpoint_image_read(&k->c, NAME, NULL, &r));
	checkpoint_read_clear(&r);
	made_clear(&m);
}

/* What no format could see: a byte of an image file in a plain tar. */
static void test_silent_damage(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct made m;

	make(k, &m);
	m.blobs[0] = put_blob(k, CHECKPOINT_FILES_PLAIN, files_tar(LAYER_NONE), NULL, 20480);
	OK(write_as(k, &m, NAME, NULL));
	OK(checkpoint_image_read(&k->c, NAME, NULL, &r));
	checkpoint_read_clear(&r);
	damage(k, m.blobs[0].digest.text, 600);
	k->f = (struct fault){ 0 };
	assert_true(checkpoint_image_read(&k->c, NAME, NULL, &r) < 0);
	assert_int_equal(k->f.code, FAULT_FAILED_PRECONDITION);
	assert_true(strstr(k->f.message, m.blobs[0].digest.text) != NULL);
	made_clear(&m);
}

static void test_lost(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct made m;

	make(k, &m);
	OK(write_as(k, &m, NAME, NULL));
	for (int i = 2; i >= 0; i--) {
		OK(content_delete(&k->c, m.blobs[i].digest.text));
		FAILS(checkpoint_image_read(&k->c, NAME, NULL, &r), -ENOENT, FAULT_NOT_FOUND,
		      m.blobs[i].digest.text);
	}
	OK(content_delete(&k->c, m.descriptors[1].digest.text));
	FAILS(checkpoint_image_read(&k->c, NAME, NULL, &r), -ENOENT, FAULT_NOT_FOUND,
	      m.descriptors[1].digest.text);
	made_clear(&m);
}

/* A tar without the inventory is no checkpoint. */
static void test_not_whole(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct tarball t;
	struct made m;

	make(k, &m);
	tar_begin(&t, LAYER_NONE);
	tar_text(&t, "pstree.img", "x");
	m.blobs[0] = put_blob(k, CHECKPOINT_FILES_PLAIN, tar_end(&t), NULL, 10240);
	OK(write_as(k, &m, NAME, NULL));
	FAILS(checkpoint_image_read(&k->c, NAME, NULL, &r), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "is not whole: it has no inventory.img");
	made_clear(&m);
}

/* More frames than are taken, said in nine bytes. */
static void test_frames(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct bytes b = { calloc(1, 64), 64 };
	struct made m;

	make(k, &m);
	memcpy(b.p + 55, "\xff\xff\xff\x07\x00\xb1\xea\x92\x8f", 9);
	m.blobs[1] = put_blob(k, CHECKPOINT_PAGES, b, "pages-1.img", 1);
	OK(write_as(k, &m, NAME, NULL));
	FAILS(checkpoint_image_read(&k->c, NAME, NULL, &r), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "more frames than are taken");
	made_clear(&m);
}

/* ---- folders */

static void put_file(int dir, const char *name, struct bytes b)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, b.p, b.n), 0);
	close(fd);
	free(b.p);
}

static int make_folder(struct kit *k, char *path, size_t size)
{
	int dir;

	kit_path(k, path, size, "images");
	assert_int_equal(mkdir(path, 0700), 0);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(dir >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(small); i++)
		put_file(dir, small[i], read_data(small[i]));
	put_file(dir, "stats-dump", read_data("stats-dump"));
	put_file(dir, "dump.log", bytes_of("log"));
	return dir;
}

static void test_folder(void **state)
{
	struct kit *k = *state;
	struct bytes large = { calloc(1, (1 << 20) + 1), (1 << 20) + 1 };
	const struct serve_file *file;
	struct checkpoint_read r;
	char path[128];
	int dir = make_folder(k, path, sizeof(path));

	put_file(dir, "pages-1.img", large);
	put_file(dir, "pages-2.img", (struct bytes){ calloc(1, 1 << 20), 1 << 20 });
	put_file(dir, "pages-3.img", bytes_of(""));
	OK(checkpoint_folder_read(path, &r, &k->f));
	assert_false(r.has_record);
	assert_int_equal(r.files.n, ARRAY_SIZE(small) + 3);
	assert_string_equal(r.base_image, "");
	file = ckpt_files_find(&r.files, "pages-1.img");
	assert_true(file->parts[0].fd >= 0 && !file->parts[0].packed);
	assert_int_equal(file->parts[0].size, (1 << 20) + 1);
	file = ckpt_files_find(&r.files, "pages-2.img");
	assert_int_equal(file->parts[0].fd, -1);
	file = ckpt_files_find(&r.files, "pages-3.img");
	assert_int_equal(file->parts[0].size, 0);
	OK(checkpoint_files_check(&r, &(struct ckpt_tasks){ 0 }, &k->f));
	checkpoint_read_clear(&r);
	/* with a record */
	put_file(dir, CHECKPOINT_RECORD_FILE, read_data("davit-checkpoint.json"));
	OK(checkpoint_folder_read(path, &r, &k->f));
	assert_true(r.has_record);
	assert_string_equal(r.record.id, "web");
	assert_int_equal(r.files.n, ARRAY_SIZE(small) + 3);
	checkpoint_read_clear(&r);
	put_file(dir, CHECKPOINT_RECORD_FILE, bytes_of("{}"));
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "version: is missing");
	close(dir);
}

static void test_bad_folder(void **state)
{
	static const char *const says = "is no regular file";
	struct kit *k = *state;
	struct checkpoint_read r;
	char path[128], file[160];
	int dir = make_folder(k, path, sizeof(path));

	OK(checkpoint_folder_read(path, &r, &k->f));
	checkpoint_read_clear(&r);
	assert_int_equal(symlinkat("/etc/passwd", dir, "pages-1.img"), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION, says);
	assert_true(strstr(k->f.message, "pages-1.img in ") != NULL);
	assert_int_equal(unlinkat(dir, "pages-1.img", 0), 0);
	assert_int_equal(symlinkat("inventory.img", dir, "pages-1.img"), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION, says);
	assert_int_equal(unlinkat(dir, "pages-1.img", 0), 0);
	assert_int_equal(mkfifoat(dir, "pages-1.img", 0600), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION, says);
	assert_int_equal(unlinkat(dir, "pages-1.img", 0), 0);
	assert_int_equal(mkdirat(dir, "pages-1.img", 0700), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION, says);
	assert_int_equal(unlinkat(dir, "pages-1.img", AT_REMOVEDIR), 0);
	assert_int_equal(mknodat(dir, "pages-1.img", S_IFCHR | 0600, makedev(1, 3)), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION, says);
	assert_int_equal(unlinkat(dir, "pages-1.img", 0), 0);
	put_file(dir, "co re.img", bytes_of("x"));
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "a name that no image file has");
	assert_int_equal(unlinkat(dir, "co re.img", 0), 0);
	assert_int_equal(symlinkat("/tmp", dir, "parent"), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "changes to others");
	assert_int_equal(unlinkat(dir, "parent", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", dir, CHECKPOINT_RECORD_FILE), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION, says);
	assert_int_equal(unlinkat(dir, CHECKPOINT_RECORD_FILE, 0), 0);
	put_file(dir, CHECKPOINT_RECORD_FILE, bytes_of(""));
	snprintf(file, sizeof(file), "%s/" CHECKPOINT_RECORD_FILE, path);
	assert_int_equal(truncate(file, LIMIT_CHECKPOINT_RECORD_BYTES + 1), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "larger than any record");
	assert_int_equal(unlinkat(dir, CHECKPOINT_RECORD_FILE, 0), 0);
	assert_int_equal(unlinkat(dir, "inventory.img", 0), 0);
	FAILS(checkpoint_folder_read(path, &r, &k->f), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "has no inventory.img");
	FAILS(checkpoint_folder_read("/nonexistent/x", &r, &k->f), -ENOENT, FAULT_NOT_FOUND,
	      "/nonexistent/x");
	FAILS(checkpoint_folder_read("/etc/passwd", &r, &k->f), -ENOTDIR,
	      fault_code_of_errno(ENOTDIR), "/etc/passwd");
	close(dir);
}

/* What the record does not know may not be mounted. */
static void test_check(void **state)
{
	struct kit *k = *state;
	struct checkpoint_read r;
	struct made m;

	make(k, &m);
	m.record.mounts.n = 17;
	OK(write_as(k, &m, NAME, NULL));
	m.record.mounts.n = 18;
	OK(checkpoint_image_read(&k->c, NAME, NULL, &r));
	FAILS(checkpoint_files_check(&r, &(struct ckpt_tasks){ 0 }, &k->f), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "/sys/dev/block is refused");
	/* nor may a task be where who dumped it is: namespace 6 by the inventory */
	r.has_record = false;
	OK(checkpoint_files_check(&r, &(struct ckpt_tasks){ 0 }, &k->f));
	const struct serve_file *ids = ckpt_files_find(&r.files, "ids-2.img");
	unsigned char *mnt = memmem(ids->parts[0].data, ids->parts[0].size, "\x48\x0d", 2);

	assert_non_null(mnt);
	mnt[1] = 6;
	FAILS(checkpoint_files_check(&r, &(struct ckpt_tasks){ 0 }, &k->f), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "a task in the mount namespace of who took it");
	checkpoint_read_clear(&r);
	made_clear(&m);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, kit_setup, kit_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_write),	  TEST(test_gc),
		TEST(test_names),	  TEST(test_write_refusals),
		TEST(test_read),	  TEST(test_base),
		TEST(test_manifests),	  TEST(test_spread),
		TEST(test_indexes),	  TEST(test_damage),
		TEST(test_silent_damage), TEST(test_lost),
		TEST(test_not_whole),	  TEST(test_frames),
		TEST(test_folder),	  TEST(test_bad_folder),
		TEST(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
