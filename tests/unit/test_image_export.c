// SPDX-License-Identifier: Apache-2.0
/* Export: what is in the archive, that it is always the same, and readers that go away. */
#include "image_kit.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "store/image_export_internal.h"
#include "util/json.h"
#include "util/limits.h"

static void import(struct kit *k, const struct kit_image *im, const char *name)
{
	OK(kit_import(k, kit_layout(im, "", LAYER_NONE), name, NULL));
}

/* The archive, from its start. */
static int export_to_file(struct kit *k, const char *const *names, size_t n,
			  enum image_format format, const char *platform)
{
	int fd = bytes_fd(bytes_of(""));
	uint64_t size;
	struct stat st;

	OK(image_export(&k->c, names, n, fd, format, platform, &size));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* Names, one a line; and the content of one of them. */
struct listing {
	char *names, *text;
	size_t n;
};

static struct listing list(int fd, const char *wanted)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	struct listing l = { .names = strdup("") };
	struct bytes more;

	archive_read_support_format_tar(a);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(archive_read_open_fd(a, fd, 10240), ARCHIVE_OK);
	while (archive_read_next_header(a, &e) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(e);

		assert_int_equal(archive_entry_mtime(e), 0);
		assert_int_equal(archive_entry_uid(e), 0);
		assert_int_equal(archive_entry_perm(e),
				 archive_entry_filetype(e) == AE_IFDIR ? 0755 : 0644);
		more = bytes_fmt("%s%s\n", l.names, name);
		free(l.names);
		l.names = more.p;
		l.n++;
		if (wanted && !strcmp(name, wanted)) {
			size_t size = (size_t)archive_entry_size(e);

			l.text = calloc(1, size + 1);
			assert_int_equal(archive_read_data(a, l.text, size), size);
		}
	}
	archive_read_free(a);
	return l;
}

static void listing_clear(struct listing *l)
{
	free(l->names);
	free(l->text);
}

static bool same_bytes(int a, int b)
{
	char x[4096], y[4096];
	ssize_t n;

	lseek(a, 0, SEEK_SET);
	lseek(b, 0, SEEK_SET);
	while ((n = read(a, x, sizeof(x))) > 0)
		if (read(b, y, sizeof(y)) != n || memcmp(x, y, (size_t)n))
			return false;
	return read(b, y, 1) == 0;
}

static void test_oci(void **state)
{
	struct kit *k = *state;
	struct kit_image a = kit_image("a", kit_architecture(), 3),
			 b = kit_image("b", kit_architecture(), 1);
	static const char *const names[] = { "two", "one:1", "two" }, *const others[] = { "one:1",
											  "two" };
	struct image_import in = { 0 };
	struct kit_seen seen = { 0 };
	struct listing l;
	int first, second;

	import(k, &a, "one:1");
	import(k, &b, "two");
	first = export_to_file(k, names, 3, IMAGE_OCI, NULL);
	second = export_to_file(k, others, 2, IMAGE_OCI, NULL);
	assert_true(same_bytes(first, second));
	l = list(first, "index.json");
	/* two folders, five and three blobs, two files */
	assert_int_equal(l.n, 12);
	assert_non_null(strstr(l.text, "\"" OCI_IMAGE_NAME "\":\"one:1\""));
	assert_non_null(strstr(l.text, "\"" OCI_REF_NAME "\":\"two\""));
	assert_true(strstr(l.text, "one:1") < strstr(l.text, "two"));
	assert_true(!strncmp(l.names, "blobs/\nblobs/sha256/\nblobs/sha256/", 34));
	assert_non_null(strstr(l.names, "\nindex.json\noci-layout\n"));
	listing_clear(&l);

	/* and it comes back, into another namespace */
	lseek(first, 0, SEEK_SET);
	in.fd = first;
	{
		struct store_call other = kit_call(k, "other");

		OK(image_import(&other, &in, kit_see, &seen));
	}
	assert_string_equal(seen.names, "one:1 two ");
	assert_string_equal(seen.digest, bytes_digest(b.manifest).text);
	close(first);
	close(second);
	kit_image_free(&a);
	kit_image_free(&b);
}

/* ---- docker */

static void test_docker(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("d", kit_architecture(), 3);
	static const char *const names[] = { "example.com/d", "Not/For/Docker", "example.com/d:2" };
	struct image_import in = { .name = "back" };
	struct kit_seen seen = { 0 };
	json_object *all, *entry, *layers;
	struct listing l;
	struct oci_descriptor target;
	int fd, again;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		import(k, &im, names[i]);
	fd = export_to_file(k, names, ARRAY_SIZE(names), IMAGE_DOCKER, NULL);
	l = list(fd, "manifest.json");
	OK(json_parse(l.text, strlen(l.text), &all, &k->f));
	assert_int_equal(json_object_array_length(all), 1);
	entry = json_object_array_get_idx(all, 0);
	assert_string_equal(json_object_to_json_string_ext(
				    json_object_object_get(entry, "RepoTags"),
				    JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
			    "[\"example.com/d:latest\",\"example.com/d:2\"]");
	layers = json_object_object_get(entry, "Layers");
	assert_int_equal(json_object_array_length(layers), 3);
	/* plain and gzip as they are, zstd unpacked */
	for (size_t i = 0; i < 3; i++) {
		struct digest d = bytes_digest(i == 2 ? im.layers[i] : im.packed[i]);
		const char *path = json_object_get_string(json_object_array_get_idx(layers, i));

		assert_string_equal(path + 13, digest_hex(&d));
		assert_non_null(strstr(l.names, path));
	}
	assert_null(strstr(l.names, bytes_digest(im.packed[2]).text + 7));
	json_object_put(all);
	listing_clear(&l);

	/* all of it can be read: the layout with the unpacked layer, and manifest.json */
	in.fd = fd;
	lseek(fd, 0, SEEK_SET);
	in.name = "back";
	OK(image_import(&k->c, &in, kit_see, &seen));
	assert_string_not_equal(seen.digest, bytes_digest(im.manifest).text);
	OK(image_target(&k->c, "back", &target));
	oci_descriptor_clear(&target);
	{
		static const char *const back[] = { "back" };

		/* nothing is left to convert, so the manifest is what it is */
		again = export_to_file(k, back, 1, IMAGE_DOCKER, NULL);
		l = list(again, NULL);
		assert_non_null(strstr(l.names, seen.digest + 7));
		listing_clear(&l);
		close(again);
	}
	close(fd);
	kit_image_free(&im);
}

static void test_docker_tags(void **state)
{
	static const struct {
		const char *name, *tag;
	} cases[] = {
		{ "busybox", "busybox:latest" },
		{ "busybox:1.36", "busybox:1.36" },
		{ "docker.io/library/busybox:latest", "docker.io/library/busybox:latest" },
		{ "localhost:5000/a/b_c/d__e/f-g", "localhost:5000/a/b_c/d__e/f-g:latest" },
		{ "localhost/x", "localhost/x:latest" },
		{ "Host.Example/x", "Host.Example/x:latest" },
		{ "UPPER", "" },
		{ "a/UPPER/b", "" },
		{ "a@sha256:abc", "" },
		{ "a//b", "" },
		{ "/a", "" },
		{ "a/", "" },
		{ "a:", "" },
		{ ":a", "" },
		{ "a:-x", "" },
		{ "a___b", "" },
		{ "a..b", "" },
		{ "-a", "" },
		{ "a-", "" },
		{ "with space", "" },
		{ "containerd.io/checkpoint/c:2026-01-01T00:00:00.0", "" },
	};
	char tag[300];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		export_docker_tag(cases[i].name, tag, sizeof(tag));
		if (strcmp(tag, cases[i].tag))
			fail_msg("%s: '%s'", cases[i].name, tag);
	}
}

/* ---- incomplete, damaged */

static void test_incomplete(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("i", kit_architecture(), 3);
	static const char *const name[] = { "i" }, *const none[] = { "nothing" };
	char path[200];
	uint64_t size;
	int fd = bytes_fd(bytes_of(""));
	struct digest d;

	FAILS(image_export(&k->c, name, 0, fd, IMAGE_OCI, NULL, &size), -EINVAL,
	      FAULT_INVALID_ARGUMENT, "no image is named");
	FAILS(image_export(&k->c, none, 1, fd, IMAGE_OCI, NULL, &size), -ENOENT, FAULT_NOT_FOUND,
	      "no image 'nothing'");
	import(k, &im, "i");
	/* a damaged blob is found while it is read */
	d = bytes_digest(im.packed[0]);
	snprintf(path, sizeof(path), "%s/content/blobs/sha256/%s", k->path, digest_hex(&d));
	chmod(path, 0644);
	{
		int blob = open(path, O_WRONLY);

		assert_int_equal(pwrite(blob, "X", 1, 600), 1);
		close(blob);
	}
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_OCI, NULL, &size), -EBADMSG,
	      FAULT_FAILED_PRECONDITION, "is damaged");
	OK(content_delete(&k->c, bytes_digest(im.packed[1]).text));
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_OCI, NULL, &size), -ENOENT,
	      FAULT_FAILED_PRECONDITION, "the image 'i' is not complete: sha256:");
	assert_int_equal(size, 0);
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_DOCKER, NULL, &size), -ENOENT,
	      FAULT_FAILED_PRECONDITION, "the image 'i' is not complete: sha256:");
	close(fd);
	kit_image_free(&im);
}

/* A layer that is not what the config says must not be passed on under its diff id. */
static void test_wrong_diff_id(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("w", kit_architecture(), 3);
	struct digest right = bytes_digest(im.layers[2]), config;
	static const char *const name[] = { "w" };
	char *at = strstr(im.config.p, right.text), *old;
	struct digest before = bytes_digest(im.config);
	uint64_t size;
	int fd = bytes_fd(bytes_of(""));

	memset(at + 7, '0', 64);
	config = bytes_digest(im.config);
	old = strstr(im.manifest.p, before.text);
	memcpy(old, config.text, strlen(config.text));
	import(k, &im, "w");
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_DOCKER, NULL, &size), -EINVAL,
	      FAULT_FAILED_PRECONDITION, right.text);
	close(fd);
	kit_image_free(&im);
}

/* ---- platforms */

static void test_platforms(void **state)
{
	struct kit *k = *state;
	struct kit_image amd = kit_image("amd", "amd64", 1), arm = kit_image("arm", "arm64", 1),
			 gone = kit_image("gone", "s390x", 1);
	struct bytes index = kit_index(
		kit_descriptor(OCI_MANIFEST, amd.manifest, KIT_PLATFORM("amd64")).p,
		kit_descriptor(OCI_MANIFEST, arm.manifest, KIT_PLATFORM("arm64")).p,
		kit_descriptor(OCI_MANIFEST, gone.manifest, KIT_PLATFORM("s390x")).p, NULL);
	struct bytes top = kit_index(kit_descriptor(OCI_INDEX, index, KIT_NAMED("m")).p, NULL);
	static const char *const name[] = { "m" };
	struct image_import in = { .all_platforms = true };
	struct tarball t;
	struct listing l;
	uint64_t size;
	int fd;

	tar_begin(&t, LAYER_NONE);
	tar_image(&t, &amd);
	tar_image(&t, &arm);
	tar_image(&t, &gone);
	tar_blob(&t, index);
	tar_text(&t, "oci-layout", KIT_LAYOUT);
	tar_file(&t, "index.json", top);
	in.fd = bytes_fd(tar_end(&t));
	OK(image_import(&k->c, &in, NULL, NULL));
	close(in.fd);
	OK(content_delete(&k->c, bytes_digest(gone.packed[0]).text));

	/* those that are complete */
	fd = export_to_file(k, name, 1, IMAGE_OCI, NULL);
	l = list(fd, "index.json");
	assert_int_equal(l.n, 2 + 3 + 3 + 1 + 2);
	assert_non_null(strstr(l.text, OCI_INDEX "\",\"digest"));
	listing_clear(&l);
	close(fd);
	fd = export_to_file(k, name, 1, IMAGE_OCI, "linux/arm64");
	l = list(fd, "index.json");
	assert_int_equal(l.n, 2 + 3 + 2);
	assert_non_null(strstr(l.text, bytes_digest(arm.manifest).text));
	listing_clear(&l);
	close(fd);
	fd = export_to_file(k, name, 1, IMAGE_DOCKER, "linux/arm64");
	l = list(fd, NULL);
	assert_int_equal(l.n, 2 + 3 + 3);
	listing_clear(&l);
	close(fd);
	fd = bytes_fd(bytes_of(""));
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_OCI, "linux/s390x", &size), -ENOENT,
	      FAULT_FAILED_PRECONDITION, "is not complete");
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_OCI, "linux/riscv64", &size), -ENOENT,
	      FAULT_NOT_FOUND, "no image for linux/riscv64");
	FAILS(image_export(&k->c, name, 1, fd, IMAGE_OCI, "x", &size), -EINVAL,
	      FAULT_INVALID_ARGUMENT, "is not a platform");
	close(fd);
	free(index.p);
	free(top.p);
	kit_image_free(&amd);
	kit_image_free(&arm);
	kit_image_free(&gone);
}

static void test_single_platform(void **state)
{
	struct kit *k = *state;
	struct kit_image im = kit_image("single", "s390x", 1);
	static const char *const name[] = { "s" };
	struct listing l;
	uint64_t size;
	int fd;

	OK(kit_import(k, kit_layout(&im, KIT_NAMED("s"), LAYER_NONE), NULL, NULL));
	fd = bytes_fd(bytes_of(""));
	for (int format = IMAGE_OCI; format <= IMAGE_DOCKER; format++) {
		FAILS(image_export(&k->c, name, 1, fd, (enum image_format)format, "linux/amd64",
				   &size),
		      -ENOENT, FAULT_NOT_FOUND, "is for linux/s390x, not for linux/amd64");
		assert_string_equal(k->f.argument, "platform");
	}
	close(fd);
	fd = export_to_file(k, name, 1, IMAGE_OCI, "linux/s390x");
	l = list(fd, NULL);
	assert_int_equal(l.n, 2 + 3 + 2);
	listing_clear(&l);
	close(fd);
	/* nobody asked */
	close(export_to_file(k, name, 1, IMAGE_DOCKER, NULL));
	kit_image_free(&im);
}

/* ---- readers */

/* An image that no pipe holds. */
static void import_large(struct kit *k)
{
	struct kit_image im = kit_image("large", kit_architecture(), 1);
	struct bytes noise = { malloc(8 << 20), 8 << 20 };
	struct tarball t;
	struct digest layer, config;

	for (size_t i = 0; i < noise.n; i++)
		noise.p[i] = (char)(i * 2654435761u >> 13);
	free(im.layers[0].p);
	free(im.packed[0].p);
	tar_begin(&t, LAYER_NONE);
	tar_file(&t, "noise", noise);
	im.packed[0] = tar_end(&t);
	im.layers[0] = bytes_of("");
	free(noise.p);
	layer = bytes_digest(im.packed[0]);
	free(im.config.p);
	free(im.manifest.p);
	im.config = bytes_fmt(
		"{\"architecture\":\"%s\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","
		"\"diff_ids\":[\"%s\"]}}",
		kit_architecture(), layer.text);
	config = bytes_digest(im.config);
	im.manifest = bytes_fmt(
		"{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_CONFIG
		"\",\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":\"" OCI_LAYER
		"\",\"digest\":\"%s\",\"size\":%zu}]}",
		config.text, im.config.n, layer.text, im.packed[0].n);
	import(k, &im, "large");
	kit_image_free(&im);
}

struct reader {
	int fd;
	size_t limit; /* goes away after so many bytes */
	struct cancel *cancel; /* or stays, and has the call cancelled */
};

static void *read_some(void *arg)
{
	struct reader *r = arg;
	char buf[4096];
	size_t n = 0;
	ssize_t got;

	while (n < r->limit && (got = read(r->fd, buf, sizeof(buf))) > 0)
		n += (size_t)got;
	if (r->cancel) {
		usleep(50000);
		cancel_set(r->cancel);
	} else {
		close(r->fd);
	}
	return NULL;
}

static void test_readers(void **state)
{
	struct kit *k = *state;
	static const char *const name[] = { "large" };
	uint64_t size;
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	import_large(k);
	for (int socket = 0; socket < 2; socket++) {
		for (int stays = 0; stays < 2; stays++) {
			struct cancel cancel = { 0 };
			struct reader r = { .limit = 100000, .cancel = stays ? &cancel : NULL };
			pthread_t thread;

			if (socket)
				assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
			else
				assert_int_equal(pipe(fds), 0);
			r.fd = fds[0];
			k->c.cancel = &cancel;
			pthread_create(&thread, NULL, read_some, &r);
			if (stays)
				FAILS(image_export(&k->c, name, 1, fds[1], IMAGE_OCI, NULL, &size),
				      -ECANCELED, FAULT_CANCELLED, "");
			else
				FAILS(image_export(&k->c, name, 1, fds[1], IMAGE_OCI, NULL, &size),
				      -EPIPE, FAULT_ABORTED, "nobody reads");
			pthread_join(thread, NULL);
			assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
			if (stays)
				close(fds[0]);
			close(fds[1]);
			k->c.cancel = NULL;
		}
	}
	fds[0] = open("/dev/full", O_WRONLY);
	FAILS(image_export(&k->c, name, 1, fds[0], IMAGE_OCI, NULL, &size), -ENOSPC,
	      FAULT_RESOURCE_EXHAUSTED, "write the archive");
	close(fds[0]);
	fds[0] = open("/dev/null", O_RDONLY);
	FAILS(image_export(&k->c, name, 1, fds[0], IMAGE_OCI, NULL, &size), -EBADF,
	      FAULT_INVALID_ARGUMENT, "cannot be written to");
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, kit_setup, kit_teardown)
		T(test_oci),
		T(test_docker),
		cmocka_unit_test(test_docker_tags),
		T(test_incomplete),
		T(test_wrong_diff_id),
		T(test_platforms),
		T(test_single_platform),
		T(test_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
