// SPDX-License-Identifier: Apache-2.0
/* Compression: media types, streams that unpack, sinks that pack, layers that come packed */
#include "layer_kit.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/mman.h>
#include <zstd.h>

#include "content_kit.h"

#define GZIP_HEADER "\x1f\x8b\x08\0\0\0\0\0\0\x03"

static void test_media_types(void **state)
{
	static const struct {
		const char *type;
		int compression; /* -1: refused */
	} rows[] = {
		{ "application/vnd.oci.image.layer.v1.tar", LAYER_NONE },
		{ "application/vnd.oci.image.layer.v1.tar+gzip", LAYER_GZIP },
		{ "application/vnd.oci.image.layer.v1.tar+zstd", LAYER_ZSTD },
		{ "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", LAYER_GZIP },
		{ "application/vnd.docker.image.rootfs.diff.tar", LAYER_NONE },
		{ "application/vnd.docker.image.rootfs.diff.tar.gzip", LAYER_GZIP },
		{ "application/vnd.docker.image.rootfs.diff.tar.zstd", LAYER_ZSTD },
		{ "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", LAYER_GZIP },
		{ "application/vnd.oci.image.layer.v1.tar+gzip+encrypted", -1 },
		{ "application/vnd.oci.image.layer.v1.tar+lzma", -1 },
		{ "application/vnd.oci.image.layer.v1.targz", -1 },
		{ "application/vnd.oci.image.config.v1+json", -1 },
		{ "", -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum layer_compression is = LAYER_NONE;
		struct fault f = { 0 };
		int r = layer_media_type(rows[i].type, &is, &f);

		assert_int_equal(r, rows[i].compression < 0 ? -EINVAL : 0);
		if (r) {
			assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
			assert_non_null(strstr(f.message, rows[i].type));
		} else {
			assert_int_equal(is, rows[i].compression);
		}
	}
}

/* ---- packing by the libraries themselves */

static struct tar gzip_of(const void *data, size_t size)
{
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	struct tar out = { .data = malloc(size + 4096) };

	assert_true(a && e && out.data);
	archive_write_set_format_raw(a);
	archive_write_add_filter_gzip(a);
	archive_write_set_bytes_in_last_block(a, 1);
	assert_int_equal(archive_write_open_memory(a, out.data, size + 4096, &out.size), 0);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_pathname(e, "x");
	assert_int_equal(archive_write_header(a, e), 0);
	assert_int_equal(archive_write_data(a, data, size), size);
	assert_int_equal(archive_write_close(a), 0);
	archive_write_free(a);
	archive_entry_free(e);
	return out;
}

static struct tar zstd_of(const void *data, size_t size)
{
	struct tar out = { .data = malloc(ZSTD_compressBound(size)) };

	assert_non_null(out.data);
	out.size = ZSTD_compress(out.data, ZSTD_compressBound(size), data, size, 3);
	assert_false(ZSTD_isError(out.size));
	return out;
}

/* Bytes that do not pack well. */
static char *noise(size_t size)
{
	char *data = malloc(size + 1);
	uint64_t x = 88172645463325252u;

	assert_non_null(data);
	for (size_t i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		data[i] = (char)x;
	}
	data[size] = '\0';
	return data;
}

/* All that comes out; negative as the stream says. */
static ssize_t unpack(const struct tar *in, char *to, size_t room, struct fault *f)
{
	int fd = memory_file(in->data, in->size);
	struct layer_stream *s;
	size_t got = 0;
	ssize_t n;
	int r = layer_stream_open(&s, fd, f);

	if (r < 0) {
		assert_null(s);
		close(fd);
		return r;
	}
	while ((n = layer_stream_read(s, to + got, room - got < 1000 ? room - got : 1000, f)) > 0)
		got += (size_t)n;
	layer_stream_free(s);
	close(fd);
	return n < 0 ? n : (ssize_t)got;
}

static void check_unpack(struct tar *in, const char *data, size_t size)
{
	char *to = malloc(size + 10);
	struct fault f = { 0 };
	ssize_t n;

	assert_non_null(to);
	n = unpack(in, to, size + 10, &f);
	if (n < 0)
		fail_msg("%s", f.message);
	assert_int_equal(n, size);
	assert_memory_equal(to, data, size);
	free(to);
}

static void test_streams(void **state)
{
	size_t size = 1234567;
	char *data = noise(size);
	struct tar plain = { .data = data, .size = size };
	struct tar gz = gzip_of(data, size), zst = zstd_of(data, size), more;
	unsigned char skip[12] = { 0x53, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4 };

	(void)state;
	check_unpack(&plain, data, size);
	check_unpack(&gz, data, size);
	check_unpack(&zst, data, size);
	plain.size = 0;
	check_unpack(&plain, "", 0);
	plain.size = 1;
	check_unpack(&plain, data, 1);
	/* several frames, and one that is to be skipped, in front as well */
	more = zstd_of(data, 100);
	tar_bytes(&more, skip, sizeof(skip));
	tar_bytes(&more, zst.data, zst.size);
	tar_clear(&zst);
	zst = more;
	memmove(data + 100, data, 100);
	tar_clear(&zst);
	more = (struct tar){ 0 };
	tar_bytes(&more, skip, sizeof(skip));
	zst = zstd_of(data, 100);
	tar_bytes(&more, zst.data, zst.size);
	tar_bytes(&more, skip, sizeof(skip));
	tar_bytes(&more, zst.data, zst.size);
	check_unpack(&more, data, 200);
	tar_clear(&more);
	/* several members; and what looks like gzip inside of gzip stays packed */
	tar_clear(&gz);
	gz = gzip_of(data, 100);
	more = gzip_of(gz.data, gz.size);
	check_unpack(&more, gz.data, gz.size);
	tar_clear(&more);
	tar_bytes(&more, gz.data, gz.size);
	tar_bytes(&more, gz.data, gz.size);
	check_unpack(&more, data, 200);
	tar_clear(&more);
	more = gzip_of("", 0);
	check_unpack(&more, "", 0);
	tar_clear(&more);
	tar_clear(&zst);
	tar_clear(&gz);
	free(data);
}

static void test_damaged(void **state)
{
	size_t size = 300000;
	char *data = noise(size), *to = malloc(size + 10);
	struct tar gz = gzip_of(data, size), zst = zstd_of(data, size), bad = { 0 };
	struct fault f = { 0 };

	(void)state;
	for (size_t cut = 1; cut < 200000; cut *= 7) {
		gz.size -= cut;
		assert_true(unpack(&gz, to, size + 10, &f) < 0);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_non_null(strstr(f.message, "gzip"));
		gz.size += cut;
		zst.size -= cut;
		assert_true(unpack(&zst, to, size + 10, &f) < 0);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_non_null(strstr(f.message, "zstd"));
		zst.size += cut;
	}
	tar_bytes(&zst, "what is this", 12);
	assert_true(unpack(&zst, to, size + 10, &f) < 0);
	tar_bytes(&bad, GZIP_HEADER "\xff\xff\xff\xff\xff\xff\xff\xff", 18);
	assert_true(unpack(&bad, to, size + 10, &f) < 0);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	/* a header with a bit that is not defined */
	bad.data[3] = (char)0xe0;
	assert_true(unpack(&bad, to, size + 10, &f) < 0);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	tar_clear(&bad);
	tar_bytes(&bad, "\x28\xb5\x2f\xfd\x00\x58\x29\xff\xff\xff", 10);
	assert_true(unpack(&bad, to, size + 10, &f) < 0);
	assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
	tar_clear(&bad);
	tar_clear(&gz);
	tar_clear(&zst);
	free(data);
	free(to);
}

static void test_pipe(void **state)
{
	struct layer_stream *s;
	struct fault f;
	char text[16];
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(write(fds[1], "he", 2), 2);
	assert_int_equal(write(fds[1], "llo", 3), 3);
	close(fds[1]);
	assert_int_equal(layer_stream_open(&s, fds[0], &f), 0);
	assert_int_equal(layer_stream_read(s, text, sizeof(text), &f), 5);
	assert_int_equal(layer_stream_read(s, text, sizeof(text), &f), 0);
	layer_stream_free(s);
	close(fds[0]);
	/* what cannot be read */
	fds[0] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(layer_stream_open(&s, fds[0], &f), -EISDIR);
	close(fds[0]);
}

static void test_packed_layers(void **state)
{
	struct lkit *k = *state;
	struct digest diff_id;
	struct tar t = { 0 }, packed;
	char *text = noise(3 << 20);

	for (size_t i = 0; i < 3 << 20; i++)
		text[i] = (char)(text[i] ? text[i] : 'z');
	ADD(&t, .name = "big", .text = text);
	ADD(&t, .name = "small", .text = "s");
	tar_end(&t);
	assert_int_equal(digest_of(t.data, t.size, &diff_id), 0);
	for (int kind = LAYER_GZIP; kind <= LAYER_ZSTD; kind++)
		/* also when the media type has said nothing, or the other one */
		for (int said = LAYER_NONE; said <= LAYER_ZSTD; said++) {
			int fd;

			packed = kind == LAYER_GZIP ? gzip_of(t.data, t.size)
						    : zstd_of(t.data, t.size);
			fd = memory_file(packed.data, packed.size);
			layer_result_clear(&k->result);
			atomic_store(&k->progress.done, 0);
			if (layer_apply(&k->c, fd, (enum layer_compression)said, k->root,
					LAYER_MERGE, NULL, &k->result) < 0)
				fail_msg("%s", k->f.message);
			assert_string_equal(k->result.diff_id.text, diff_id.text);
			assert_int_equal(k->result.size, t.size);
			assert_int_equal(atomic_load(&k->progress.done), packed.size);
			assert_int_equal(look(k->root, "big").st_size, 3 << 20);
			/* half of it is an error, and which file it was is told */
			assert_int_equal(ftruncate(fd, (off_t)packed.size / 2), 0);
			assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
			layer_result_clear(&k->result);
			assert_true(layer_apply(&k->c, fd, LAYER_NONE, k->root, LAYER_MERGE, NULL,
						&k->result) < 0);
			assert_int_equal(k->f.code, FAULT_FAILED_PRECONDITION);
			assert_non_null(strstr(k->f.message, "'big'"));
			close(fd);
			tar_clear(&packed);
		}
	/* but not when it is neither */
	for (int said = LAYER_GZIP; said <= LAYER_ZSTD; said++) {
		int fd = memory_file(t.data, t.size);

		assert_true(layer_apply(&k->c, fd, (enum layer_compression)said, k->root,
					LAYER_MERGE, NULL, &k->result) < 0);
		assert_int_equal(k->f.code, FAULT_FAILED_PRECONDITION);
		assert_non_null(strstr(k->f.message, "not packed with"));
		close(fd);
	}
	tar_clear(&t);
	free(text);
}

/* ---- sinks */

static struct digest put(struct kit *k, enum layer_compression compression, int level,
			 const char *data, size_t size, size_t piece, uint64_t *packed)
{
	struct digest diff_id, want, digest;
	struct layer_sink *sink;
	struct ingest *i;
	uint64_t in;
	int r;

	OK(ingest_open(&k->c, "sink", NULL, -1, &i));
	OK(layer_sink_new(&sink, i, compression, level, &k->f));
	for (size_t at = 0; at < size; at += piece)
		OK(layer_sink_write(sink, data + at, size - at < piece ? size - at : piece, &k->f));
	OK(layer_sink_finish(sink, &diff_id, &in, &k->f));
	layer_sink_free(sink);
	assert_int_equal(in, size);
	assert_int_equal(digest_of(data, size, &want), 0);
	assert_string_equal(diff_id.text, want.text);
	*packed = ingest_offset(i);
	r = ingest_commit(&k->c, i, -1, NULL, NULL, 0, &digest);
	assert_true(r == 0 || r == -EEXIST);
	return digest;
}

static void test_sinks(void **state)
{
	struct kit *k = *state;
	size_t size = 9 << 20;
	char *data = noise(size), *back = malloc(size + 1);
	uint64_t packed, again;

	assert_non_null(back);
	memset(data + (2 << 20), 'a', 5 << 20);
	for (int kind = LAYER_NONE; kind <= LAYER_ZSTD; kind++) {
		enum layer_compression c = (enum layer_compression)kind;
		struct digest one = put(k, c, 0, data, size, 1 << 20, &packed);
		struct digest two = put(k, c, 0, data, size, 77777, &again);
		struct layer_stream *s;
		size_t got = 0;
		ssize_t n;
		int fd;

		/* the same bytes, however they come */
		assert_string_equal(one.text, two.text);
		assert_int_equal(packed, again);
		assert_true(kind == LAYER_NONE ? packed == size : packed < size / 2);
		OK(content_open(&k->c, one.text, &fd, NULL));
		OK(layer_stream_open(&s, fd, &k->f));
		while ((n = layer_stream_read(s, back + got, size + 1 - got, &k->f)) > 0)
			got += (size_t)n;
		assert_int_equal(n, 0);
		assert_int_equal(got, size);
		assert_memory_equal(back, data, size);
		layer_stream_free(s);
		close(fd);
		put(k, c, 0, "", 0, 1, &packed);
	}
	put(k, LAYER_GZIP, 1, data, size, 1 << 20, &packed);
	put(k, LAYER_GZIP, 9, data, size, 1 << 20, &again);
	assert_true(again < packed);
	free(data);
	free(back);
}

static void test_sink_refuses(void **state)
{
	struct kit *k = *state;
	char *data = noise(1 << 20);
	struct layer_sink *sink;
	struct ingest *i;
	int r;

	OK(ingest_open(&k->c, "sink", NULL, 1000, &i));
	FAILS(layer_sink_new(&sink, i, LAYER_GZIP, 10, &k->f), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "level 10");
	FAILS(layer_sink_new(&sink, i, LAYER_ZSTD, 99, &k->f), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "level 99");
	FAILS(layer_sink_new(&sink, i, LAYER_ZSTD, -1, &k->f), -EINVAL, FAULT_INVALID_ARGUMENT,
	      "level -1");
	layer_sink_free(NULL);
	/* what the ingest does not take is an error of the sink's, also at its end */
	for (int kind = LAYER_NONE; kind <= LAYER_ZSTD; kind++) {
		char *given = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		struct digest d;

		assert_true(given != MAP_FAILED);
		memcpy(given, data, 1 << 20);
		OK(layer_sink_new(&sink, i, (enum layer_compression)kind, 0, &k->f));
		r = 0;
		for (int n = 0; n < 8 && !r; n++)
			r = layer_sink_write(sink, given, 1 << 20, &k->f);
		/* what it was given is the caller's, and may be gone before the sink is */
		munmap(given, 1 << 20);
		if (!r)
			r = layer_sink_finish(sink, &d, NULL, &k->f);
		assert_true(r < 0);
		assert_int_equal(k->f.code, FAULT_OUT_OF_RANGE);
		layer_sink_free(sink);
		/* one that nobody finishes */
		OK(layer_sink_new(&sink, i, (enum layer_compression)kind, 0, &k->f));
		layer_sink_write(sink, data, 100, &k->f);
		layer_sink_free(sink);
		OK(ingest_restart(i, 1000, &k->f));
	}
	ingest_discard(i);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_media_types),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_pipe),
		cmocka_unit_test_setup_teardown(test_packed_layers, lkit_setup, lkit_teardown),
		cmocka_unit_test_setup_teardown(test_sinks, kit_setup, kit_teardown),
		cmocka_unit_test_setup_teardown(test_sink_refuses, kit_setup, kit_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
