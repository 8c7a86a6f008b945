// SPDX-License-Identifier: Apache-2.0
/* Import: layouts and docker archives, names, platforms, and what must not be taken. */
#include "image_kit.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "store/image_import_internal.h"
#include "store/lease.h"
#include "util/limits.h"

#define NONE "sha256:0000000000000000000000000000000000000000000000000000000000000000"

/* ---- layouts */

static void test_layout(void **state)
{
	for (enum layer_compression how = LAYER_NONE; how <= LAYER_ZSTD; how++) {
		struct kit *k = *state;
		struct kit_image im = kit_image("f", kit_architecture(), 3);
		struct digest manifest = bytes_digest(im.manifest),
			      config = bytes_digest(im.config), layer = bytes_digest(im.packed[2]);
		struct kit_seen seen;
		char *label;

		OK(kit_import(k, kit_layout(&im, KIT_NAMED("busybox:1"), how), NULL, &seen));
		assert_string_equal(seen.names, "busybox:1 ");
		assert_string_equal(seen.digest, manifest.text);
		assert_string_equal(seen.annotations, "");
		assert_string_equal(seen.labels, "");
		assert_int_equal(kit_blobs(k), 5);
		label = kit_label(k, manifest.text, "containerd.io/gc.ref.content.config");
		assert_string_equal(label, config.text);
		free(label);
		label = kit_label(k, manifest.text, "containerd.io/gc.ref.content.l.2");
		assert_string_equal(label, layer.text);
		free(label);
		assert_int_equal(kit_leases(k), 0);
		/* what is there already is neither written nor told again */
		assert_int_equal(kit_events(k, "/content/create"), 5);
		assert_int_equal(kit_events(k, "/images/create"), 1);
		assert_int_equal(kit_events(k, "/images/update"), how);
		kit_image_free(&im);
	}
}

/* index.json last, blobs in any order, names with ./ and //, folders, a stranger's file. */
static void test_order(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("o", kit_architecture(), 2);
	struct digest digest = bytes_digest(im.packed[0]);
	CLEANUP_FREE char *odd = bytes_fmt(".//blobs/sha256/./%s", digest_hex(&digest)).p;
	struct bytes index = kit_index(
		kit_descriptor(OCI_MANIFEST, im.manifest, KIT_NAMED("late")).p, NULL);
	struct kit_seen seen;
	struct tarball t;

	tar_begin(&t, LAYER_NONE);
	tar_entry(&t, "./", AE_IFDIR, NULL, (struct bytes){ 0 });
	tar_entry(&t, "./blobs/", AE_IFDIR, NULL, (struct bytes){ 0 });
	tar_blob(&t, im.manifest);
	tar_blob(&t, im.packed[1]);
	tar_file(&t, odd, im.packed[0]);
	tar_text(&t, "README", "not for us");
	tar_blob(&t, im.config);
	tar_blob(&t, im.config); /* the same again */
	tar_text(&t, "./oci-layout", KIT_LAYOUT);
	tar_file(&t, "./index.json", index);
	OK(kit_import(k, tar_end(&t), NULL, &seen));
	assert_string_equal(seen.names, "late ");
	assert_int_equal(kit_blobs(k), 4);
	free(index.p);
	kit_image_free(&im);
}

static void test_folder(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("d", kit_architecture(), 2),
			 other = kit_image("x", "s390x", 1);
	struct bytes index = kit_index(
		kit_descriptor(OCI_MANIFEST, im.manifest, KIT_NAMED("folder")).p, NULL);
	struct bytes blobs[] = { im.manifest, im.config, im.packed[0], im.packed[1], other.config };
	char path[200], at[300];
	struct image_import in = { 0 };
	struct kit_seen seen = { 0 };

	kit_path(k, path, sizeof(path), "layout");
	mkdir(path, 0755);
	snprintf(at, sizeof(at), "%s/blobs", path);
	mkdir(at, 0755);
	snprintf(at, sizeof(at), "%s/blobs/sha256", path);
	mkdir(at, 0755);
	for (size_t i = 0; i < ARRAY_SIZE(blobs); i++) {
		struct digest d = bytes_digest(blobs[i]);
		int fd;

		snprintf(at, sizeof(at), "%s/blobs/sha256/%s", path, digest_hex(&d));
		fd = open(at, O_WRONLY | O_CREAT, 0644);
		assert_int_equal(fd_write_all(fd, blobs[i].p, blobs[i].n), 0);
		close(fd);
	}
	in.fd = open(path, O_RDONLY | O_DIRECTORY);
	FAILS(image_import(&k->c, &in, kit_see, &seen), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "neither an OCI image layout");
	snprintf(at, sizeof(at), "%s/index.json", path);
	close(open(at, O_WRONLY | O_CREAT, 0644));
	assert_int_equal(fd_write_file(AT_FDCWD, at, index.p), 0);
	FAILS(image_import(&k->c, &in, kit_see, &seen), -ENOENT, FAULT_FAILED_PRECONDITION,
	      "no file oci-layout");
	snprintf(at, sizeof(at), "%s/oci-layout", path);
	assert_int_equal(symlink("/etc/hostname", at), 0);
	FAILS(image_import(&k->c, &in, kit_see, &seen), -ELOOP, FAULT_FAILED_PRECONDITION,
	      "oci-layout: links in an image folder are not followed");
	unlink(at);
	assert_int_equal(mkfifo(at, 0644), 0);
	FAILS(image_import(&k->c, &in, kit_see, &seen), -EINVAL, FAULT_FAILED_PRECONDITION,
	      "oci-layout is not a regular file");
	unlink(at);
	close(open(at, O_WRONLY | O_CREAT, 0644));
	assert_int_equal(fd_write_file(AT_FDCWD, at, KIT_LAYOUT), 0);
	OK(image_import(&k->c, &in, kit_see, &seen));
	assert_string_equal(seen.names, "folder ");
	/* only what is needed */
	assert_int_equal(kit_blobs(k), 4);

	/* one with another size than its descriptor says */
	OK(content_delete(&k->c, bytes_digest(im.packed[0]).text));
	{
		struct digest d = bytes_digest(im.packed[0]);

		snprintf(at, sizeof(at), "%s/blobs/sha256/%s", path, digest_hex(&d));
		assert_int_equal(truncate(at, 100), 0);
		FAILS(image_import(&k->c, &in, NULL, NULL), -EINVAL, FAULT_FAILED_PRECONDITION,
		      "has 100 bytes, but its descriptor says");
		assert_int_equal(truncate(at, (off_t)im.packed[0].n), 0);
		FAILS(image_import(&k->c, &in, NULL, NULL), -EINVAL, FAULT_FAILED_PRECONDITION,
		      digest_hex(&d));
		unlink(at);
		FAILS(image_import(&k->c, &in, NULL, NULL), -ENOENT, FAULT_FAILED_PRECONDITION,
		      "the archive lacks the layer");
		assert_int_equal(symlink("/etc/hostname", at), 0);
		FAILS(image_import(&k->c, &in, NULL, NULL), -ELOOP, FAULT_FAILED_PRECONDITION,
		      "links in an image folder are not followed");
	}
	close(in.fd);
	free(index.p);
	kit_image_free(&im);
	kit_image_free(&other);
}

/* ---- platforms */

static struct bytes two_platforms(const struct kit_image *own, const struct kit_image *other,
				  bool with_other, bool nameless)
{
	struct bytes index, list;
	struct tarball t;
	CLEANUP_FREE char *platform =
		bytes_fmt(",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}",
			  kit_architecture())
			.p;

	index = kit_index(
		kit_descriptor(OCI_MANIFEST, other->manifest, nameless ? "" : KIT_PLATFORM("s390x"))
			.p,
		kit_descriptor(OCI_MANIFEST, own->manifest, nameless ? "" : platform).p, NULL);
	list = kit_index(kit_descriptor(OCI_INDEX, index, KIT_NAMED("multi")).p, NULL);
	tar_begin(&t, LAYER_NONE);
	tar_image(&t, own);
	if (with_other)
		tar_image(&t, other);
	tar_blob(&t, index);
	tar_text(&t, "oci-layout", KIT_LAYOUT);
	tar_file(&t, "index.json", list);
	free(index.p);
	free(list.p);
	return tar_end(&t);
}

static void test_platforms(void **state)
{
	struct kit *k = *state;
	struct kit_image own = kit_image("own", kit_architecture(), 1),
			 other = kit_image("other", "s390x", 1);
	struct digest first = bytes_digest(other.manifest), second = bytes_digest(own.manifest);
	struct image_import in = { 0 };
	struct kit_seen seen = { 0 };
	char *label;

	/* the other is not there at all, and not missed; with platforms in the index and without */
	OK(kit_import(k, two_platforms(&own, &other, false, true), NULL, &seen));
	OK(kit_import(k, two_platforms(&own, &other, false, false), NULL, &seen));
	label = kit_label(k, seen.digest, "containerd.io/gc.ref.content.m.1");
	assert_string_equal(label, second.text);
	free(label);
	assert_null(kit_label(k, seen.digest, "containerd.io/gc.ref.content.m.0"));
	/* but all of them are not there */
	in = (struct image_import){ .fd = bytes_fd(two_platforms(&own, &other, false, false)),
				    .all_platforms = true };
	FAILS(image_import(&k->c, &in, NULL, NULL), -ENOENT, FAULT_FAILED_PRECONDITION,
	      "the image for linux/s390x: the archive lacks the manifest sha256:");
	assert_non_null(strstr(k->f.message, first.text));
	close(in.fd);
	/* it is there, but not kept */
	OK(kit_import(k, two_platforms(&own, &other, true, false), NULL, &seen));
	assert_null(kit_label(k, seen.digest, "containerd.io/gc.ref.content.m.0"));
	assert_null(kit_label(k, first.text, "containerd.io/gc.ref.content.config"));
	/* asked for */
	in = (struct image_import){ .fd = bytes_fd(two_platforms(&own, &other, true, false)),
				    .all_platforms = true };
	OK(image_import(&k->c, &in, kit_see, &seen));
	close(in.fd);
	label = kit_label(k, seen.digest, "containerd.io/gc.ref.content.m.0");
	assert_string_equal(label, first.text);
	free(label);
	label = kit_label(k, first.text, "containerd.io/gc.ref.content.l.0");
	assert_string_equal(label, bytes_digest(other.packed[0]).text);
	free(label);
	/* alone */
	in = (struct image_import){ .fd = bytes_fd(two_platforms(&other, &own, true, false)),
				    .platform = "linux/ppc64le" };
	FAILS(image_import(&k->c, &in, NULL, NULL), -ENOENT, FAULT_NOT_FOUND,
	      "no image for linux/ppc64le (there is: linux/s390x");
	close(in.fd);
	in = (struct image_import){ .fd = bytes_fd(two_platforms(&own, &other, true, false)),
				    .platform = "nonsense" };
	FAILS(image_import(&k->c, &in, NULL, NULL), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "'nonsense' is not a platform");
	close(in.fd);
	kit_image_free(&own);
	kit_image_free(&other);
}

/* An archive of a single manifest. */
static int import_single(struct kit *k, const struct kit_image *im, const char *more,
			 const char *platform, bool all)
{
	struct image_import in = { .fd = bytes_fd(kit_layout(im, more, LAYER_NONE)),
				   .platform = platform,
				   .all_platforms = all };
	int r = image_import(&k->c, &in, NULL, NULL);

	close(in.fd);
	return r;
}

static void test_single_platform(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("single", "s390x", 1);

	/* not asked for: whatever it is */
	FAILS(import_single(k, &im, KIT_NAMED("s"), "linux/amd64", false), -ENOENT, FAULT_NOT_FOUND,
	      "is for linux/s390x, not for linux/amd64");
	assert_string_equal(k->f.argument, "platform");
	FAILS(image_get(&k->c, "s", NULL, NULL), -ENOENT, FAULT_NOT_FOUND, "s");
	OK(import_single(k, &im, KIT_NAMED("s"), NULL, false));
	OK(import_single(k, &im, KIT_NAMED("s"), "linux/s390x", false));
	/* every one that is there */
	OK(import_single(k, &im, KIT_NAMED("s"), "linux/amd64", true));
	/* its descriptor knows the variant, which the config does not say */
	FAILS(import_single(k, &im, KIT_NAMED("s") KIT_PLATFORM("arm"), "linux/arm/v6", false),
	      -ENOENT, FAULT_NOT_FOUND, "is for linux/arm, not for linux/arm/v6");
	OK(import_single(k, &im, KIT_NAMED("s") KIT_PLATFORM("arm"), "linux/arm64", false));
	kit_image_free(&im);
}

static void test_missing_platform(void **state)
{
	struct kit *k = *state;
	struct kit_image own = kit_image("own", kit_architecture(), 1),
			 other = kit_image("other", "s390x", 1);
	struct digest missing = bytes_digest(own.manifest);
	struct image_import in = { 0 };
	struct bytes archive = two_platforms(&other, &own, false, false);

	/* here the one that is wanted is the one that is not there */
	free(archive.p);
	{
		struct bytes index, list;
		struct tarball t;
		CLEANUP_FREE char *platform =
			bytes_fmt(",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}",
				  kit_architecture())
				.p;

		index = kit_index(
			kit_descriptor(OCI_MANIFEST, own.manifest, platform).p,
			kit_descriptor(OCI_MANIFEST, other.manifest, KIT_PLATFORM("s390x")).p,
			NULL);
		list = kit_index(kit_descriptor(OCI_INDEX, index, KIT_NAMED("m")).p, NULL);
		tar_begin(&t, LAYER_NONE);
		tar_image(&t, &other);
		tar_blob(&t, index);
		tar_text(&t, "oci-layout", KIT_LAYOUT);
		tar_file(&t, "index.json", list);
		archive = tar_end(&t);
		free(index.p);
		free(list.p);
	}
	in.fd = bytes_fd(archive);
	FAILS(image_import(&k->c, &in, NULL, NULL), -ENOENT, FAULT_FAILED_PRECONDITION,
	      missing.text);
	assert_int_equal(kit_leases(k), 0);
	close(in.fd);
	kit_image_free(&own);
	kit_image_free(&other);
}

/* ---- names */

static struct bytes named(const struct kit_image *a, const char *more_a, const struct kit_image *b,
			  const char *more_b)
{
	struct bytes index = kit_index(kit_descriptor(OCI_MANIFEST, a->manifest, more_a).p,
				       kit_descriptor(OCI_MANIFEST, b->manifest, more_b).p, NULL);
	struct tarball t;

	tar_begin(&t, LAYER_NONE);
	tar_image(&t, a);
	tar_image(&t, b);
	tar_text(&t, "oci-layout", KIT_LAYOUT);
	tar_file(&t, "index.json", index);
	free(index.p);
	return tar_end(&t);
}

/* An index.json that is the index of an image for several platforms itself. */
static int import_for(struct kit *k, struct bytes archive, const char *name, const char *platform,
		      bool all, struct kit_seen *seen)
{
	struct image_import in = {
		.fd = bytes_fd(archive), .name = name, .platform = platform, .all_platforms = all
	};
	int r;

	memset(seen, 0, sizeof(*seen));
	r = image_import(&k->c, &in, kit_see, seen);
	close(in.fd);
	return r;
}

static void test_one_name_for_platforms(void **state)
{
	struct kit *k = *state;
	struct kit_image own = kit_image("own", kit_architecture(), 1),
			 far = kit_image("far", "s390x", 1), old = kit_image("old", "s390x", 2);
	struct digest mine = bytes_digest(own.manifest), other = bytes_digest(far.manifest);
	static const char named_far[] = KIT_NAMED("x") KIT_PLATFORM("s390x");
	struct kit_seen seen;

	/* by the platform beside it, and by the config */
	OK(import_for(k, named(&far, named_far, &own, KIT_NAMED("x")), NULL, NULL, false, &seen));
	assert_string_equal(seen.names, "x ");
	assert_string_equal(seen.digest, mine.text);
	OK(import_for(k, named(&far, named_far, &own, KIT_NAMED("x")), NULL, "linux/s390x", false,
		      &seen));
	assert_string_equal(seen.digest, other.text);
	FAILS(import_for(k, named(&far, named_far, &own, KIT_NAMED("x")), NULL, "linux/riscv64",
			 false, &seen),
	      -ENOENT, FAULT_NOT_FOUND, "x: the archive has no image for linux/riscv64");
	assert_string_equal(k->f.argument, "platform");
	/* with a name of the caller's, also where the archive has none */
	OK(import_for(k, named(&far, named_far, &own, KIT_NAMED("x")), "y", NULL, false, &seen));
	assert_string_equal(seen.names, "y ");
	OK(import_for(k, named(&far, "", &own, ""), "z", NULL, false, &seen));
	assert_string_equal(seen.names, "z ");
	assert_string_equal(seen.digest, mine.text);
	/* a name is one image */
	FAILS(import_for(k, named(&far, named_far, &own, KIT_NAMED("x")), NULL, NULL, true, &seen),
	      -EINVAL, FAULT_FAILED_PRECONDITION, "two images of the name 'x'");
	FAILS(import_for(k, named(&far, named_far, &old, KIT_NAMED("x")), NULL, "linux/s390x",
			 false, &seen),
	      -EINVAL, FAULT_FAILED_PRECONDITION, "two images of the name 'x'");
	/* the same one twice */
	OK(import_for(k, named(&far, named_far, &far, KIT_NAMED("x")), NULL, NULL, false, &seen));
	assert_string_equal(seen.names, "x ");
	kit_image_free(&own);
	kit_image_free(&far);
	kit_image_free(&old);
}

static void test_names(void **state)
{
	struct kit *k = *state;
	struct kit_image a = kit_image("a", kit_architecture(), 1),
			 b = kit_image("b", kit_architecture(), 1);
	static const char both[] = ",\"annotations\":{\"" OCI_REF_NAME
				   "\":\"latest\",\"" OCI_IMAGE_NAME
				   "\":\"docker.io/library/a:latest\",\"else\":\"kept\"}";
	struct kit_seen seen;

	OK(kit_import(k, kit_layout(&a, both, LAYER_NONE), NULL, &seen));
	assert_string_equal(seen.names, "docker.io/library/a:latest ");
	assert_string_equal(seen.annotations, "{\"else\":\"kept\"}");
	OK(kit_import(k, kit_layout(&a, both, LAYER_NONE), "mine", &seen));
	assert_string_equal(seen.names, "mine ");
	OK(kit_import(k, kit_layout(&a, KIT_NAMED("latest"), LAYER_NONE), NULL, &seen));
	assert_string_equal(seen.names, "latest ");
	OK(kit_import(k, kit_layout(&a, "", LAYER_NONE), "given", &seen));
	assert_string_equal(seen.names, "given ");
	FAILS(kit_import(k, kit_layout(&a, "", LAYER_NONE), NULL, &seen), -EINVAL,
	      FAULT_INVALID_ARGUMENT, "does not name its image");
	assert_string_equal(k->f.argument, "name");
	FAILS(kit_import(k, kit_layout(&a, "", LAYER_NONE), "\x1b[31m", &seen), -EINVAL,
	      FAULT_INVALID_ARGUMENT, "control character");
	assert_string_equal(k->f.argument, "name");
	/* the archive's, and nobody's argument */
	FAILS(kit_import(k, kit_layout(&a, KIT_NAMED("\\u001b[31m"), LAYER_NONE), NULL, &seen),
	      -EINVAL, FAULT_FAILED_PRECONDITION, "the archive: a control character");
	assert_string_equal(k->f.argument, "");

	OK(kit_import(k, named(&a, KIT_NAMED("x"), &b, KIT_NAMED("y")), NULL, &seen));
	assert_string_equal(seen.names, "x y ");
	FAILS(kit_import(k, named(&a, KIT_NAMED("x"), &b, KIT_NAMED("y")), "z", &seen), -EINVAL,
	      FAULT_INVALID_ARGUMENT, "several images");
	/* one image with two names */
	OK(kit_import(k, named(&a, KIT_NAMED("x"), &a, KIT_NAMED("y")), "z", &seen));
	assert_string_equal(seen.names, "z ");
	OK(kit_import(k, named(&a, KIT_NAMED("x"), &a, KIT_NAMED("x")), NULL, &seen));
	assert_string_equal(seen.names, "x ");
	FAILS(kit_import(k, named(&a, KIT_NAMED("x"), &b, KIT_NAMED("x")), NULL, &seen), -EINVAL,
	      FAULT_FAILED_PRECONDITION, "two images of the name 'x'");
	/* those without a name beside one that has one are its parts */
	OK(kit_import(k, named(&a, "", &b, KIT_NAMED("y")), NULL, &seen));
	assert_string_equal(seen.names, "y ");
	FAILS(kit_import(k, named(&a, "", &b, ""), NULL, &seen), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "does not name");
	FAILS(kit_import(k, named(&a, "", &b, ""), "n", &seen), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "several images without names");
	kit_image_free(&a);
	kit_image_free(&b);
}

/* ---- docker archives */

struct docker {
	const char *manifest; /* NULL: the right one */
	const char *more; /* a file in its place: its name */
	bool gzip, links, repositories, no_layer, wrong_layer;
};

static struct bytes docker(const struct kit_image *im, const struct docker *how)
{
	struct digest config = bytes_digest(im->config), diff = bytes_digest(im->layers[0]);
	CLEANUP_FREE char *config_name = bytes_fmt("%s.json", digest_hex(&config)).p;
	CLEANUP_FREE char *layer = bytes_fmt("%s.tar", digest_hex(&diff)).p;
	CLEANUP_FREE char *link = bytes_fmt("%064d/layer.tar", 7).p;
	CLEANUP_FREE char *to = bytes_fmt("../%s", layer).p;
	struct bytes manifest =
		how->manifest
			? bytes_of(how->manifest)
			: bytes_fmt(
				  "[{\"Config\":\"%s\",\"RepoTags\":[\"d:1\",\"e:2\"],\"Layers\":[\"%s\"]}]",
				  config_name, how->links ? link : layer);
	struct bytes packed = kit_layer("g0", LAYER_GZIP);
	struct tarball t;

	tar_begin(&t, LAYER_NONE);
	if (!how->repositories)
		tar_file(&t, "manifest.json", manifest);
	tar_text(&t, "repositories", "{}");
	if (how->links)
		tar_symlink(&t, link, to);
	tar_file(&t, config_name, im->config);
	if (!how->no_layer)
		tar_file(&t, layer,
			 how->wrong_layer ? im->config
			 : how->gzip	  ? packed
					  : im->layers[0]);
	if (how->more)
		tar_text(&t, how->more, "{}");
	free(manifest.p);
	free(packed.p);
	return tar_end(&t);
}

static void test_docker(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("g", kit_architecture(), 1);
	struct digest config = bytes_digest(im.config), layer = bytes_digest(im.layers[0]);
	struct kit_seen seen;
	char first[DIGEST_TEXT], *label;

	OK(kit_import(k, docker(&im, &(struct docker){ 0 }), NULL, &seen));
	assert_string_equal(seen.names, "d:1 e:2 ");
	label = kit_label(k, seen.digest, "containerd.io/gc.ref.content.config");
	assert_string_equal(label, config.text);
	free(label);
	label = kit_label(k, seen.digest, "containerd.io/gc.ref.content.l.0");
	assert_string_equal(label, layer.text);
	free(label);
	strcpy(first, seen.digest);
	OK(kit_import(k, docker(&im, &(struct docker){ .links = true }), "mine", &seen));
	assert_string_equal(seen.names, "mine ");
	assert_string_equal(seen.digest, first);
	/* a packed layer makes another manifest */
	OK(kit_import(k, docker(&im, &(struct docker){ .gzip = true }), NULL, &seen));
	assert_string_not_equal(seen.digest, first);
	OK(kit_import(k, docker(&im, &(struct docker){ .more = "VERSION" }), NULL, &seen));
	kit_image_free(&im);
}

/* The manifest is made here: its config alone tells. */
static void test_docker_platform(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("g", "s390x", 1);
	struct image_import in = { .platform = "linux/amd64" };

	in.fd = bytes_fd(docker(&im, &(struct docker){ 0 }));
	FAILS(image_import(&k->c, &in, NULL, NULL), -ENOENT, FAULT_NOT_FOUND,
	      "is for linux/s390x, not for linux/amd64");
	close(in.fd);
	in.platform = "linux/s390x";
	in.fd = bytes_fd(docker(&im, &(struct docker){ 0 }));
	OK(image_import(&k->c, &in, NULL, NULL));
	close(in.fd);
	kit_image_free(&im);
}

static void test_bad_docker(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("g", kit_architecture(), 1);
	static const struct {
		struct docker how;
		const char *message;
	} cases[] = {
		{ { .repositories = true }, "docker's first format" },
		{ { .no_layer = true }, "names the layer" },
		{ { .wrong_layer = true }, "but the config says" },
		{ { .manifest = "{" }, "manifest.json: not a JSON document" },
		{ { .manifest = "{}" }, "manifest.json: not a list of images" },
		{ { .manifest = "[7]" }, "an image that is not an object" },
		{ { .manifest = "[]" }, "the archive has no image" },
		{ { .manifest = "[{}]" }, "an image without \"Config\"" },
		{ { .manifest = "[{\"Config\":\"nothing.json\"}]" },
		  "names the config 'nothing.json', which the archive has not" },
		{ { .manifest = "[{\"Config\":\"../../etc/passwd\"}]" },
		  "names the config '../../etc/passwd', which" },
		{ { .manifest = "[{\"Config\":\"a.json\",\"RepoTags\":{}}]", .more = "a.json" },
		  "\"RepoTags\" is not a list" },
		{ { .manifest = "[{\"Config\":\"a.json\",\"Layers\":[7]}]", .more = "a.json" },
		  "\"Layers\" is not a list of texts" },
		{ { .manifest = "[{\"Config\":\"a.json\"}]", .more = "a.json" },
		  "an image config without \"rootfs\"" },
		{ { .more = "manifest.json" }, "'manifest.json': it is there twice" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r;

		k->f = (struct fault){ 0 };
		r = kit_import(k, docker(&im, &cases[i].how), "n", NULL);
		if (r >= 0 || k->f.code != FAULT_FAILED_PRECONDITION ||
		    !strstr(k->f.message, cases[i].message))
			fail_msg("%zu: %d %s", i, r, k->f.message);
	}
	kit_image_free(&im);
}

static void test_docker_count(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("g", kit_architecture(), 1);
	struct digest config = bytes_digest(im.config);
	CLEANUP_FREE char *manifest =
		bytes_fmt("[{\"Config\":\"%s.json\",\"Layers\":[]}]", digest_hex(&config)).p;

	FAILS(kit_import(k, docker(&im, &(struct docker){ .manifest = manifest }), "n", NULL),
	      -EINVAL, FAULT_FAILED_PRECONDITION, "it lists 0 layers, but the config");
	kit_image_free(&im);
}

/* Both at once, as docker writes them now: the layout counts. */
static void test_both(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("b", kit_architecture(), 1);
	struct digest config = bytes_digest(im.config), layer = bytes_digest(im.packed[0]);
	struct bytes index = kit_index(
		kit_descriptor(OCI_MANIFEST, im.manifest, KIT_NAMED("oci")).p, NULL);
	struct bytes list = bytes_fmt(
		"[{\"Config\":\"blobs/sha256/%s\",\"RepoTags\":[\"docker\"],\"Layers\":[\"blobs/sha256/%s\"]}]",
		digest_hex(&config), digest_hex(&layer));
	struct kit_seen seen;
	struct tarball t;

	tar_begin(&t, LAYER_NONE);
	tar_image(&t, &im);
	tar_file(&t, "manifest.json", list);
	tar_text(&t, "oci-layout", KIT_LAYOUT);
	tar_file(&t, "index.json", index);
	OK(kit_import(k, tar_end(&t), NULL, &seen));
	assert_string_equal(seen.names, "oci ");
	/* and without the index, the blobs being there already */
	tar_begin(&t, LAYER_NONE);
	tar_image(&t, &im);
	tar_file(&t, "manifest.json", list);
	OK(kit_import(k, tar_end(&t), NULL, &seen));
	assert_string_equal(seen.names, "docker ");
	free(index.p);
	free(list.p);
	kit_image_free(&im);
}

/* ---- pipes */

static void *cancel_soon(void *arg)
{
	usleep(50000);
	cancel_set(arg);
	return NULL;
}

static void test_cancel(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("c", kit_architecture(), 1);
	struct bytes archive = kit_layout(&im, KIT_NAMED("x"), LAYER_NONE);
	int how;

	for (how = 0; how < 2; how++) {
		struct cancel cancel = { 0 };
		struct image_import in = { 0 };
		pthread_t thread;
		int fds[2];

		if (how)
			assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		else
			assert_int_equal(pipe(fds), 0);
		/* half of it, and then nothing more */
		assert_int_equal(write(fds[1], archive.p, 2000), 2000);
		in.fd = fds[0];
		k->c.cancel = &cancel;
		pthread_create(&thread, NULL, cancel_soon, &cancel);
		FAILS(image_import(&k->c, &in, NULL, NULL), -ECANCELED, FAULT_CANCELLED, "");
		pthread_join(thread, NULL);
		/* the client's end is as it was */
		assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
		close(fds[0]);
		close(fds[1]);
		k->c.cancel = NULL;
	}
	assert_int_equal(kit_leases(k), 0);
	free(archive.p);
	kit_image_free(&im);
}

struct feed {
	int fd;
	struct bytes data;
};

static void *feed(void *arg)
{
	struct feed *f = arg;

	/* in small pieces, and more behind the tar's end than a pipe holds */
	for (size_t at = 0; at < f->data.n;) {
		size_t n = f->data.n - at < 1000 ? f->data.n - at : 1000;

		assert_int_equal(fd_write_all(f->fd, f->data.p + at, n), 0);
		at += n;
	}
	for (int i = 0; i < 300; i++)
		assert_int_equal(fd_write_all(f->fd, (char[1024]){ 0 }, 1024), 0);
	close(f->fd);
	return NULL;
}

static void test_pipe(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("p", kit_architecture(), 3);
	struct feed f = { .data = kit_layout(&im, KIT_NAMED("piped"), LAYER_NONE) };
	struct image_import in = { 0 };
	struct kit_seen seen = { 0 };
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	f.fd = fds[1];
	in.fd = fds[0];
	pthread_create(&thread, NULL, feed, &f);
	OK(image_import(&k->c, &in, kit_see, &seen));
	pthread_join(thread, NULL);
	assert_string_equal(seen.names, "piped ");
	close(fds[0]);
	free(f.data.p);
	kit_image_free(&im);
}

static void test_wrong_fds(void **state)
{
	struct kit *k = *state;
	struct image_import in = { .fd = open("/dev/null", O_WRONLY) };

	FAILS(image_import(&k->c, &in, NULL, NULL), -EBADF, FAULT_INVALID_ARGUMENT,
	      "cannot be read");
	close(in.fd);
	in.fd = open("/etc/hostname", O_PATH);
	FAILS(image_import(&k->c, &in, NULL, NULL), -EBADF, FAULT_INVALID_ARGUMENT,
	      "cannot be read");
	close(in.fd);
}

/* ---- twice at once, and after a death */

static void *import_thread(void *arg)
{
	struct kit *k = arg;
	struct kit_image im = kit_image("z", kit_architecture(), 3);
	struct fault f = { 0 };
	struct store_call c = { .store = k->s, .ns = "default", .f = &f };
	struct image_import in = { 0 };

	for (int i = 0; i < 5; i++) {
		in.fd = bytes_fd(kit_layout(&im, KIT_NAMED("same"), LAYER_NONE));
		if (image_import(&c, &in, NULL, NULL) < 0)
			fail_msg("%s", f.message);
		close(in.fd);
	}
	kit_image_free(&im);
	return NULL;
}

static void test_parallel(void **state)
{
	struct kit *k = *state;
	pthread_t threads[4];

	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_create(&threads[i], NULL, import_thread, k);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(kit_blobs(k), 5);
	assert_int_equal(kit_leases(k), 0);
}

/* What an import that was interrupted has left, `restart`: and the daemon with it. */
static void leave_ingest(struct kit *k, const char *key, const char *expected, struct bytes data,
			 size_t total, bool restart)
{
	CLEANUP_FREE char *ref = bytes_fmt("image-%s", key).p;
	struct ingest *to;

	OK(ingest_open(&k->c, ref, expected, (int64_t)total, &to));
	OK(ingest_write(to, data.p, data.n, &k->f));
	ingest_close(to);
	if (!restart)
		return;
	kit_close(k);
	kit_open(k);
}

static int count_ingest(void *user, const struct ingest_status *status)
{
	(void)status;
	++*(size_t *)user;
	return 0;
}

/* It is gone on with where it is right, from wherever that is, and used up. */
static void test_left_ingest(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("l", kit_architecture(), 1);
	struct bytes config = im.config, wrong = { NULL, config.n };
	struct digest d = bytes_digest(config);
	size_t left = 0;
	const struct bytes cases[] = {
		{ (char *)"garbage", 7 },
		{ config.p, config.n / 2 },
		{ config.p, config.n },
		{ wrong.p = memcpy(malloc(config.n), config.p, config.n), config.n - 5 },
	};

	/* the same from the first byte to somewhere, which compares and hashes again */
	wrong.p[config.n / 2] ^= 1;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
		struct kit_seen seen = { 0 };

		leave_ingest(k, d.text, d.text, cases[i / 2], config.n, i % 2);
		OK(kit_import(k, kit_layout(&im, KIT_NAMED("x"), LAYER_NONE), NULL, &seen));
		assert_string_equal(seen.names, "x ");
		OK(ingest_list(&k->c, "", count_ingest, &left));
		assert_int_equal(left, 0);
		OK(content_verify(&k->c, d.text));
		OK(image_delete(&k->c, "x"));
		OK(content_delete(&k->c, d.text));
	}
	free(wrong.p);
	kit_image_free(&im);
}

/* Of a file whose digest nobody knows before: it becomes what this archive has there. */
static void test_left_ingest_of_docker(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("l", kit_architecture(), 1);
	struct digest d = bytes_digest(im.config), layer = bytes_digest(im.layers[0]), place;
	CLEANUP_FREE char *path = bytes_fmt("%s.json", digest_hex(&d)).p;
	struct bytes wrong = { strdup(im.config.p), im.config.n };
	size_t left = 0;
	struct kit_seen seen;

	assert_int_equal(digest_of(path, strlen(path), &place), 0);
	{
		CLEANUP_FREE char *key = bytes_fmt("file-%s", place.text).p;

		wrong.p[wrong.n / 2] ^= 1;
		leave_ingest(k, key, NULL, wrong, wrong.n, false);
	}
	OK(kit_import(k, docker(&im, &(struct docker){ 0 }), NULL, &seen));
	OK(content_verify(&k->c, d.text));
	OK(content_verify(&k->c, layer.text));
	OK(ingest_list(&k->c, "", count_ingest, &left));
	assert_int_equal(left, 0);
	free(wrong.p);
	kit_image_free(&im);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		T(test_layout),
		T(test_order),
		T(test_folder),
		T(test_platforms),
		T(test_names),
		T(test_docker),
		T(test_bad_docker),
		T(test_docker_count),
		T(test_both),
		T(test_cancel),
		T(test_pipe),
		T(test_wrong_fds),
		T(test_parallel),
		T(test_left_ingest),
		T(test_left_ingest_of_docker),
		T(test_missing_platform),
		T(test_one_name_for_platforms),
		T(test_single_platform),
		T(test_docker_platform),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
