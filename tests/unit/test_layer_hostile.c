// SPDX-License-Identifier: Apache-2.0
/* Layers that must not do what they want: ways out, marks of overlayfs, bombs, damage */
#include "layer_kit.h"

#include <zstd.h>

#define BAD FAULT_FAILED_PRECONDITION

static void test_dotdot(void **state)
{
	static const char *const names[] = { "..",	"../out",   "a/../../out", "a/..",
					     "/../out", "./../out", "a//..//b" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct lkit *k = *state;
		struct tar t = { 0 };

		ADD(&t, .name = names[i], .text = "x");
		tar_end(&t);
		REFUSED(&t, LAYER_OVERLAY, BAD, names[i], "'..'");
		assert_false(there(k->dir, "out"));
	}
}

/* What links lead to is within the root, always: the file is there, and not outside. */
static void test_links_stay_inside(void **state)
{
	static const char *const links[] = { "/",	  "..",		"../..",
					     "/../../..", "../outside", "/outside" };

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		for (int target = LAYER_OVERLAY; target <= LAYER_MERGE; target++) {
			struct lkit *k = *state;
			struct tar t = { 0 };
			int outside;

			ADD(&t, .name = "d/l", .type = '2', .link = links[i]);
			ADD(&t, .name = "d/l/evil", .text = "x");
			ADD(&t, .name = "d/l/deep/er", .type = '5');
			ADD(&t, .name = "d/l/.wh.keep");
			ADD(&t, .name = "d/l/deep/.wh..wh..opq");
			tar_end(&t);
			outside = lkit_folder(k, "outside");
			make_file(outside, "keep", "kept");
			make_file(k->dir, "keep", "kept");
			APPLY(&t, target);
			assert_false(there(k->dir, "evil") || there(outside, "evil"));
			assert_false(there(k->dir, "deep") || there(outside, "deep"));
			check_text(outside, "keep", "kept");
			check_text(k->dir, "keep", "kept");
			close(outside);
			assert_int_equal(tree_remove(k->dir, "outside", NULL), 0);
			assert_int_equal(tree_empty(k->root, NULL), 0);
		}
}

static void test_hard_links(void **state)
{
	struct lkit *k = *state;
	char path[100];
	struct tar t = { 0 };

	snprintf(path, sizeof(path), "%s/secret", k->path);
	make_file(k->dir, "secret", "s");
	ADD(&t, .name = "h", .type = '1', .link = "../secret");
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'h'", "'..'");
	ADD(&t, .name = "h", .type = '1', .link = path);
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'h'", "not there");
	/* a link in the way is followed within the root */
	ADD(&t, .name = "l", .type = '2', .link = "..");
	ADD(&t, .name = "h", .type = '1', .link = "l/secret");
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'h'", "not there");
	/* and one at the end is linked, not followed */
	ADD(&t, .name = "l", .type = '2', .link = path);
	ADD(&t, .name = "h", .type = '1', .link = "l");
	tar_end(&t);
	APPLY(&t, LAYER_OVERLAY);
	assert_true(S_ISLNK(look(k->root, "h").st_mode));
	/* written through neither */
	ADD(&t, .name = "h", .text = "evil");
	ADD(&t, .name = "l", .text = "evil");
	tar_end(&t);
	APPLY(&t, LAYER_MERGE);
	check_text(k->dir, "secret", "s");
	ADD(&t, .name = "d", .type = '5');
	ADD(&t, .name = "h", .type = '1', .link = "d");
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'h'", "a folder");
	ADD(&t, .name = "h", .type = '1', .link = ".");
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'h'", "the root");
	ADD(&t, .name = ".wh.w");
	ADD(&t, .name = "h2", .type = '1', .link = "w");
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'h2'", "deleted");
	assert_int_equal(look(k->dir, "secret").st_nlink, 1);
}

static void test_devices(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	ADD(&t, .name = "w", .type = '3');
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, BAD, "'w'", "0:0");
	ADD(&t, .name = "w", .type = '3');
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'w'", "0:0");
	ADD(&t, .name = "w", .type = '3', .major = 5000);
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'w'", "5000:0");
	assert_false(there(k->root, "w"));
}

static void test_marks(void **state)
{
	static const char *const names[] = { ".wh.", "a/.wh..", ".wh...", ".wh.x/y",
					     "a/.wh.b/c/d" };
	struct lkit *k = *state;
	struct tar t = { 0 };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ADD(&t, .name = names[i]);
		tar_end(&t);
		REFUSED(&t, LAYER_MERGE, BAD, names[i], "");
	}
	ADD(&t, .name = ".", .text = "x");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'.'", "the root");
	ADD(&t, .name = "l", .type = '2');
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'l'", "leads nowhere");
	ADD(&t, .name = "f", .text = "x");
	ADD(&t, .name = "f/g", .text = "x");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'f/g'", "Not a directory");
	ADD(&t, .name = "l1", .type = '2', .link = "l2");
	ADD(&t, .name = "l2", .type = '2', .link = "l1");
	ADD(&t, .name = "l1/x", .text = "x");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'l1/x'", "symbolic links");
	ADD(&t, .name = "o", .pax = { "uid", "5000000000" });
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'o'", "out of range");
	/* nothing that a terminal would obey */
	ADD(&t, .name = "a\x1b[31m\nb/..");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "a?[31m?b", "");
}

/* ---- limits */

static void test_names(void **state)
{
	struct lkit *k = *state;
	char name[8192];
	struct tar t = { 0 };

	memset(name, 'a', 256);
	name[256] = '\0';
	ADD(&t, .name = "x", .pax = { "path", name });
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "255 bytes", "'aaa");
	for (size_t i = 0; i < 4200; i++)
		name[i] = i % 100 ? 'b' : '/';
	name[4200] = '\0';
	ADD(&t, .name = "x", .pax = { "path", name });
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "4095 bytes", "bbb...'");
	for (size_t i = 0; i < 2 * (LIMIT_LAYER_DEPTH + 1); i++)
		name[i] = i % 2 ? '/' : 'c';
	name[2 * (LIMIT_LAYER_DEPTH + 1)] = '\0';
	ADD(&t, .name = "x", .pax = { "path", name });
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "deep", "c/c");
	name[2 * LIMIT_LAYER_DEPTH] = '\0';
	ADD(&t, .name = "x", .type = '5', .pax = { "path", name });
	/* not by going on behind a link either */
	ADD(&t, .name = "l", .type = '2', .link = "l", .pax = { "linkpath", name });
	ADD(&t, .name = "l/d/x", .text = "x");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, FAULT_UNKNOWN, "'l/d/x'", "Too many links");
	assert_true(there(k->root, name));
}

static void test_limits(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	k->limits.entries = 3;
	for (int i = 0; i < 4; i++)
		ADD(&t, .name = i == 3 ? "four" : "three");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, FAULT_RESOURCE_EXHAUSTED, "'four'", "more than 3 entries");
	k->limits.entries = 0;
	k->limits.bytes = 5;
	ADD(&t, .name = "a", .text = "123");
	ADD(&t, .name = "b", .text = "12");
	tar_end(&t);
	APPLY(&t, LAYER_MERGE);
	ADD(&t, .name = "a", .text = "123");
	ADD(&t, .name = "b", .text = "123");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, FAULT_RESOURCE_EXHAUSTED, "'b'", "larger than 5 bytes");
	/* holes count: this one says that it has 8 EiB */
	k->limits.bytes = 0;
	ADD(&t, .name = "s",
	    .pax = { "GNU.sparse.size", "9000000000000000000", "GNU.sparse.map", "0,0" });
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, FAULT_RESOURCE_EXHAUSTED, "'s'", "larger than");
}

static void test_memory(void **state)
{
	struct lkit *k = *state;
	char name[300] = "";
	struct tar t = { 0 };

	k->limits.memory = 20000;
	memset(name, 'm', 200);
	for (int i = 0; i < 100; i++) {
		snprintf(name + 200, sizeof(name) - 200, "%d", i);
		ADD(&t, .name = "x", .type = '5', .pax = { "path", name });
	}
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, FAULT_RESOURCE_EXHAUSTED, "'mmm", "more than 20000 bytes");
	/* of folders without an entry as well */
	memset(name, 'o', 200);
	for (int i = 0; i < 100; i++) {
		snprintf(name + 200, sizeof(name) - 200, "%d/x", i);
		ADD(&t, .name = "x", .pax = { "path", name });
	}
	tar_end(&t);
	REFUSED(&t, LAYER_OVERLAY, FAULT_RESOURCE_EXHAUSTED, "'ooo", "more than 20000 bytes");
}

static void test_xattr_limit(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 }, pax = { 0 };
	size_t size = 300000;
	char *value = malloc(size);

	/* libarchive refuses headers of more than 1 MiB as a whole, a value becomes 3/4 of base64 */
	assert_non_null(value);
	memset(value, 'x', size);
	ADD(&t, .name = "a", .key = "SCHILY.xattr.user.big", .value = value, .value_size = size);
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'a'", "extended attributes");
	/* many of them, which would not even be set */
	for (int i = 0; i < 10; i++) {
		char name[64];

		snprintf(name, sizeof(name), "SCHILY.xattr.security.x%d", i);
		pax_record(&pax, name, value, 60000);
	}
	tar_header(&t, &(struct ent){ .name = "pax" }, 'x', pax.size);
	tar_bytes(&t, pax.data, pax.size);
	tar_pad(&t);
	tar_clear(&pax);
	ADD(&t, .name = "b");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, FAULT_RESOURCE_EXHAUSTED, "'b'", "524288");
	free(value);
}

/* 100 MiB of zeros, packed. */
static void test_ratio(void **state)
{
	struct lkit *k = *state;
	size_t size = 100u << 20, room;
	struct tar t = { 0 };
	char *packed;

	tar_header(&t, &(struct ent){ .name = "zeros" }, '0', size);
	t.data = realloc(t.data, 512 + size + 1024);
	assert_non_null(t.data);
	memset(t.data + 512, 0, size + 1024);
	t.size = 512 + size + 1024;
	room = ZSTD_compressBound(t.size);
	packed = malloc(room);
	assert_non_null(packed);
	size = ZSTD_compress(packed, room, t.data, t.size, 1);
	assert_false(ZSTD_isError(size));
	tar_clear(&t);
	t.data = packed;
	t.size = size;
	REFUSED(&t, LAYER_MERGE, FAULT_RESOURCE_EXHAUSTED, "'zeros'", "more than 1000 times");
}

/* ---- damage */

static void test_truncated(void **state)
{
	struct lkit *k = *state;
	char text[5001];
	struct tar t = { 0 };

	memset(text, 'x', 5000);
	text[5000] = '\0';
	ADD(&t, .name = "first");
	ADD(&t, .name = "file", .text = text);
	t.size = 1024 + 2000;
	REFUSED(&t, LAYER_MERGE, BAD, "'file'", "damaged");
	/* all but the last byte of a file */
	ADD(&t, .name = "file", .text = text);
	t.size = 512 + 4999;
	REFUSED(&t, LAYER_MERGE, BAD, "'file'", "truncated");
	memset(text, 'x', 1024);
	text[1024] = '\0';
	ADD(&t, .name = "file", .text = text);
	t.size = 512 + 1023;
	REFUSED(&t, LAYER_MERGE, BAD, "'file'", "truncated");
	memset(text, 'x', 5000);
	ADD(&t, .name = "file", .text = text);
	t.size = 300;
	REFUSED(&t, LAYER_MERGE, BAD, "", "damaged");
	/* a header that was changed */
	ADD(&t, .name = "one");
	ADD(&t, .name = "two", .text = "two");
	t.data[512] = 'T';
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "'one'", "damaged");
	tar_bytes(&t, "this is no archive at all, but a text", 38);
	REFUSED(&t, LAYER_MERGE, BAD, "damaged", "");
	memset(text, 0xee, 5000);
	tar_bytes(&t, text, 5000);
	REFUSED(&t, LAYER_MERGE, BAD, "damaged", "");
	ADD(&t, .name = "p", .type = 'x', .text = "99 path=not so long\n");
	ADD(&t, .name = "q");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "damaged", "");
	/* headers of headers without an end */
	for (int i = 0; i < 200; i++)
		ADD(&t, .name = "g", .type = 'g', .text = "10 a=bcde\n");
	ADD(&t, .name = "q");
	tar_end(&t);
	REFUSED(&t, LAYER_MERGE, BAD, "", "");
}

/* Others than tar are not taken, whatever libarchive knows. */
static void test_other_formats(void **state)
{
	struct lkit *k = *state;
	struct tar t = { 0 };

	tar_bytes(
		&t,
		"070707000000000000000000000000000000000001000000000000000000000000000000001300000000000TRAILER!!!\0",
		98);
	REFUSED(&t, LAYER_MERGE, BAD, "damaged", "");
	tar_bytes(&t, "PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);
	REFUSED(&t, LAYER_MERGE, BAD, "damaged", "");
	tar_bytes(&t,
		  "\xfd"
		  "7zXZ\0\0\0\0\0",
		  10);
	REFUSED(&t, LAYER_MERGE, BAD, "damaged", "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, lkit_setup, lkit_teardown)
	const struct CMUnitTest tests[] = {
		T(test_dotdot),	     T(test_links_stay_inside),
		T(test_hard_links),  T(test_devices),
		T(test_marks),	     T(test_names),
		T(test_limits),	     T(test_memory),
		T(test_xattr_limit), T(test_ratio),
		T(test_truncated),   T(test_other_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
