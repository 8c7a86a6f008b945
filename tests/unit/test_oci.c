// SPDX-License-Identifier: Apache-2.0
/*
 * Image documents: descriptors, indexes, manifests, configs, platforms, chain ids
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include <cmocka.h>

#include "store/oci.h"
#include "util/json.h"
#include "util/limits.h"
#include "util/mp.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define DIGEST_A "sha256:" HEX_A
#define DIGEST_B "sha256:" HEX_B
#define DESC(type) "{\"mediaType\":\"" type "\",\"digest\":\"" DIGEST_A "\",\"size\":7}"

static json_object *parse(const char *text)
{
	struct fault f = { 0 };
	json_object *j;

	if (json_parse(text, strlen(text), &j, &f) < 0)
		fail_msg("%s: %s", text, f.message);
	return j;
}

static int read_descriptor(struct oci_descriptor *d, const char *text, struct fault *f)
{
	json_object *j = parse(text);
	int r = oci_descriptor_read(d, j, "index.json", f);

	json_object_put(j);
	return r;
}

static void test_descriptor(void **state)
{
	struct oci_descriptor d, copy;
	struct fault f = { 0 };

	(void)state;
	assert_int_equal(
		read_descriptor(
			&d,
			"{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A
			"\",\"size\":9007199254740993,"
			"\"platform\":{\"os\":\"Linux\",\"architecture\":\"aarch64\",\"variant\":\"8\","
			"\"os.version\":\"5\"},\"annotations\":{\"k\":\"v\"},\"x\":[1,{\"y\":null}]}",
			&f),
		0);
	assert_string_equal(d.media_type, "a/b");
	assert_string_equal(d.digest.text, DIGEST_A);
	assert_true(d.size == 9007199254740993u);
	assert_true(d.has_platform);
	assert_string_equal(d.platform.os, "linux");
	assert_string_equal(d.platform.architecture, "arm64");
	assert_string_equal(d.platform.variant, "");
	assert_string_equal(oci_descriptor_annotation(&d, "k"), "v");
	assert_null(oci_descriptor_annotation(&d, "l"));
	assert_int_equal(oci_descriptor_copy(&copy, &d, &f), 0);
	assert_true(json_object_equal(copy.json, d.json));
	assert_ptr_not_equal(copy.json, d.json);
	oci_descriptor_clear(&copy);
	oci_descriptor_clear(&d);
	oci_descriptor_clear(&d);

	assert_int_equal(read_descriptor(&d, DESC("a/b"), &f), 0);
	assert_false(d.has_platform);
	assert_string_equal(d.platform.variant, "");
	assert_null(oci_descriptor_annotation(&d, "k"));
	oci_descriptor_clear(&d);
}

static void test_bad_descriptors(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "[]", "index.json: a descriptor that is not an object" },
		{ "{}", "index.json: a descriptor without a mediaType" },
		{ "{\"mediaType\":7}", "index.json: \"mediaType\" is not a text" },
		{ "{\"mediaType\":\"a/b\"}", "index.json: a descriptor without a digest" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"sha256:ab\"}",
		  "index.json: 'sha256:ab' is not a digest" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"sha256:../../etc/passwd\"}",
		  "index.json: 'sha256:../../etc/passwd' is not a digest" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"sha512:" HEX_A HEX_A "\"}",
		  "index.json: the digest sha512:" HEX_A HEX_A ": only sha256 is supported" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A "\"}",
		  "index.json: the descriptor of " DIGEST_A " has no valid size" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A "\",\"size\":-1}",
		  "index.json: the descriptor of " DIGEST_A " has no valid size" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A
		  "\",\"size\":18446744073709551615}",
		  "index.json: the descriptor of " DIGEST_A " has no valid size" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A "\",\"size\":1.5}",
		  "index.json: the descriptor of " DIGEST_A " has no valid size" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A "\",\"size\":1,\"platform\":[]}",
		  "index.json: the platform is not an object" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A
		  "\",\"size\":1,\"platform\":{\"os\":1}}",
		  "index.json: \"os\" is not a text" },
		{ "{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A
		  "\",\"size\":1,\"annotations\":{\"a\":1}}",
		  "index.json: the annotations are not a map of texts" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct oci_descriptor d;
		struct fault f = { 0 };

		assert_int_equal(read_descriptor(&d, cases[i].text, &f), -EINVAL);
		assert_string_equal(f.message, cases[i].message);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		assert_null(d.json);
		assert_null(d.media_type);
	}
}

static msgpack_object unpack(msgpack_unpacked *u, const msgpack_sbuffer *sb)
{
	msgpack_unpacked_init(u);
	assert_int_equal(msgpack_unpack_next(u, sb->data, sb->size, NULL), MSGPACK_UNPACK_SUCCESS);
	return u->data;
}

static void test_rpc(void **state)
{
	json_object *rpc = parse(
		"{\"media_type\":\"a/b\",\"digest\":\"" DIGEST_A
		"\",\"size\":1,\"artifact_type\":\"c/d\",\"platform\":{\"os\":\"linux\","
		"\"architecture\":\"arm\",\"os_version\":\"6\"},\"unknown_thing\":{\"a_b\":1}}");
	struct oci_descriptor d;
	struct fault f = { 0 };
	msgpack_sbuffer in, out;
	msgpack_packer pk;
	msgpack_unpacked u;
	msgpack_object o;
	json_object *j;

	(void)state;
	msgpack_sbuffer_init(&in);
	mp_packer_init(&pk, &in);
	json_to_mp(rpc, &pk);
	o = unpack(&u, &in);
	assert_int_equal(oci_descriptor_from_mp(&d, &o, &f), 0);
	msgpack_unpacked_destroy(&u);
	assert_string_equal(
		json_object_to_json_string_ext(d.json, JSON_C_TO_STRING_PLAIN |
							       JSON_C_TO_STRING_NOSLASHESCAPE),
		"{\"mediaType\":\"a/b\",\"digest\":\"" DIGEST_A
		"\",\"size\":1,\"artifactType\":\"c/d\",\"platform\":{\"os\":\"linux\","
		"\"architecture\":\"arm\",\"os.version\":\"6\"},\"unknown_thing\":{\"a_b\":1}}");
	msgpack_sbuffer_init(&out);
	mp_packer_init(&pk, &out);
	oci_descriptor_pack(&pk, &d);
	o = unpack(&u, &out);
	assert_int_equal(json_from_mp(&o, &j, &f), 0);
	assert_true(json_object_equal(j, rpc));
	msgpack_unpacked_destroy(&u);
	json_object_put(j);
	json_object_put(rpc);
	oci_descriptor_clear(&d);

	/* a caller's mistake is not a damaged image */
	rpc = parse("{\"media_type\":\"a/b\",\"mediaType\":\"a/b\"}");
	msgpack_sbuffer_clear(&in);
	mp_packer_init(&pk, &in);
	json_to_mp(rpc, &pk);
	o = unpack(&u, &in);
	assert_int_equal(oci_descriptor_from_mp(&d, &o, &f), -EINVAL);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_non_null(strstr(f.message, "given twice"));
	msgpack_unpacked_destroy(&u);
	json_object_put(rpc);

	o.type = MSGPACK_OBJECT_ARRAY;
	o.via.array.size = 0;
	o.via.array.ptr = NULL;
	assert_int_equal(oci_descriptor_from_mp(&d, &o, &f), -EINVAL);
	assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
	assert_string_equal(f.message, "target: a descriptor without a mediaType");
	o.type = MSGPACK_OBJECT_BOOLEAN;
	assert_int_equal(oci_descriptor_from_mp(&d, &o, &f), -EINVAL);
	msgpack_sbuffer_destroy(&in);
	msgpack_sbuffer_destroy(&out);
}

static int document(struct oci_document *d, const char *text, const char *type, struct fault *f)
{
	return oci_document_read(d, text, strlen(text), type, DIGEST_B, f);
}

static void test_documents(void **state)
{
	struct oci_document d;
	struct fault f = { 0 };

	(void)state;
	assert_int_equal(
		document(&d,
			 "{\"schemaVersion\":2,\"config\":" DESC(OCI_CONFIG) ",\"layers\":[" DESC(
				 OCI_LAYER) "," DESC(OCI_LAYER_GZIP) "]}",
			 OCI_MANIFEST, &f),
		0);
	assert_int_equal(d.kind, OCI_KIND_MANIFEST);
	assert_int_equal(d.n_children, 2);
	assert_string_equal(d.config.media_type, OCI_CONFIG);
	assert_string_equal(d.children[1].media_type, OCI_LAYER_GZIP);
	oci_document_clear(&d);

	assert_int_equal(document(&d,
				  "{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_INDEX
				  "\",\"manifests\":[" DESC(DOCKER_MANIFEST) "]}",
				  DOCKER_INDEX, &f),
			 0);
	assert_int_equal(d.kind, OCI_KIND_INDEX);
	assert_int_equal(d.n_children, 1);
	oci_document_clear(&d);

	/* Go's empty list */
	assert_int_equal(
		document(&d,
			 "{\"schemaVersion\":2,\"config\":" DESC(OCI_CONFIG) ",\"layers\":null}",
			 OCI_MANIFEST, &f),
		0);
	assert_int_equal(d.n_children, 0);
	oci_document_clear(&d);
}

static void test_bad_documents(void **state)
{
	static const struct {
		const char *text, *type, *message;
	} cases[] = {
		{ "{", OCI_INDEX, "not a JSON document" },
		{ "[]", OCI_INDEX, "not a JSON object" },
		{ "{\"schemaVersion\":2,\"schemaVersion\":2,\"manifests\":[]}", OCI_INDEX,
		  "duplicate key" },
		{ "{\"manifests\":[]}", OCI_INDEX, "schemaVersion is not 2" },
		{ "{\"schemaVersion\":\"2\",\"manifests\":[]}", OCI_INDEX,
		  "schemaVersion is not 2" },
		{ "{\"schemaVersion\":1,\"fsLayers\":[]}", DOCKER_MANIFEST, "schema version 1" },
		{ "{}", "application/vnd.docker.distribution.manifest.v1+prettyjws",
		  "schema version 1" },
		{ "{}", "application/vnd.docker.distribution.manifest.v1+json",
		  "schema version 1" },
		{ "{}", "application/vnd.example",
		  "the media type application/vnd.example is neither" },
		{ "{\"schemaVersion\":2}", OCI_INDEX, "an image index without \"manifests\"" },
		{ "{\"schemaVersion\":2,\"config\":" DESC(OCI_CONFIG) "}", OCI_MANIFEST,
		  "an image manifest without \"layers\"" },
		{ "{\"schemaVersion\":2,\"layers\":[]}", OCI_MANIFEST,
		  "a manifest without a config" },
		{ "{\"schemaVersion\":2,\"config\":null,\"layers\":[]}", OCI_MANIFEST,
		  "a descriptor that is not an object" },
		{ "{\"schemaVersion\":2,\"manifests\":{}}", OCI_INDEX,
		  "\"manifests\" is not a list" },
		{ "{\"schemaVersion\":2,\"manifests\":[7]}", OCI_INDEX,
		  "a descriptor that is not an object" },
		{ "{\"schemaVersion\":2,\"manifests\":[],\"layers\":[]}", OCI_INDEX,
		  "an index that also has" },
		{ "{\"schemaVersion\":2,\"manifests\":[],\"config\":" DESC(
			  OCI_CONFIG) ",\"layers\":[]}",
		  OCI_MANIFEST, "a manifest that also has \"manifests\"" },
		{ "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST "\",\"manifests\":[]}",
		  OCI_INDEX,
		  "it calls itself " OCI_MANIFEST ", but its descriptor says " OCI_INDEX },
		{ "{\"schemaVersion\":2,\"mediaType\":[],\"manifests\":[]}", OCI_INDEX,
		  "\"mediaType\" is not a text" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct oci_document d;
		struct fault f = { 0 };

		assert_int_equal(document(&d, cases[i].text, cases[i].type, &f), -EINVAL);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		if (!strstr(f.message, cases[i].message) || strncmp(f.message, DIGEST_B, 71))
			fail_msg("%s: %s", cases[i].text, f.message);
		assert_null(d.json);
	}
}

static void test_children_limit(void **state)
{
	size_t n = LIMIT_IMAGE_CHILDREN + 1, size = n * 2 + 64, at;
	char *text = malloc(size);
	struct oci_document d;
	struct fault f = { 0 };

	(void)state;
	at = (size_t)snprintf(text, size, "{\"schemaVersion\":2,\"manifests\":[");
	for (size_t i = 0; i < n; i++) {
		text[at++] = '1';
		text[at++] = i + 1 < n ? ',' : ']';
	}
	text[at++] = '}';
	assert_int_equal(oci_document_read(&d, text, at, OCI_INDEX, DIGEST_B, &f), -EINVAL);
	assert_non_null(strstr(f.message, "65537 entries; at most 65536"));
	free(text);
}

static int config(struct oci_config *c, const char *text, struct fault *f)
{
	return oci_config_read(c, text, strlen(text), DIGEST_B, f);
}

static void test_configs(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "PK\x03", "not a JSON document" },
		{ "7", "not a JSON object" },
		{ "{}", "without \"rootfs\"" },
		{ "{\"rootfs\":{\"diff_ids\":{}}}", "\"rootfs.diff_ids\" is not a list" },
		{ "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "entry 0 of \"rootfs.diff_ids\" is not" },
		{ "{\"rootfs\":{\"diff_ids\":[7]}}", "entry 0 of \"rootfs.diff_ids\" is not" },
		{ "{\"os\":[],\"rootfs\":{}}", "\"os\" is not a text" },
		{ "{\"rootfs\":{},\"config\":[]}", "\"config\" is not an object" },
		{ "{\"rootfs\":{},\"config\":{\"Cmd\":\"sh\"}}", "\"Cmd\" is not a list of texts" },
		{ "{\"rootfs\":{},\"config\":{\"Env\":[1]}}", "\"Env\" is not a list of texts" },
		{ "{\"rootfs\":{},\"config\":{\"User\":0}}", "\"User\" is not a text" },
		{ "{\"rootfs\":{},\"config\":{\"Volumes\":[]}}", "\"Volumes\" is not an object" },
		{ "{\"rootfs\":{},\"config\":{\"Labels\":{\"a\":1}}}", "the Labels are not a map" },
	};
	struct oci_config c;
	struct fault f = { 0 };

	(void)state;
	assert_int_equal(
		config(&c,
		       "{\"os\":\"linux\",\"architecture\":\"arm64\",\"variant\":\"v8\",\"config\":"
		       "{\"Cmd\":[\"sh\"],\"Env\":null,\"OnBuild\":7},\"rootfs\":{\"type\":\"layers\","
		       "\"diff_ids\":[\"" DIGEST_A "\",\"" DIGEST_B "\"]}}",
		       &f),
		0);
	assert_int_equal(c.n, 2);
	assert_string_equal(c.diff_ids[1].text, DIGEST_B);
	assert_string_equal(c.platform.architecture, "arm64");
	oci_config_clear(&c);
	assert_int_equal(config(&c, "{\"rootfs\":{\"diff_ids\":null},\"config\":null}", &f), 0);
	assert_int_equal(c.n, 0);
	oci_config_clear(&c);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		assert_int_equal(config(&c, cases[i].text, &f), -EINVAL);
		assert_int_equal(f.code, FAULT_FAILED_PRECONDITION);
		if (!strstr(f.message, cases[i].message) || strncmp(f.message, DIGEST_B, 71))
			fail_msg("%s: %s", cases[i].text, f.message);
		assert_null(c.json);
	}
}

static void test_layers_limit(void **state)
{
	static const char one[] = "\"" DIGEST_A "\"";
	char text[(LIMIT_IMAGE_LAYERS + 1) * (sizeof(one) + 1) + 64];
	struct oci_config c;
	struct fault f = { 0 };
	size_t at = (size_t)snprintf(text, sizeof(text), "{\"rootfs\":{\"diff_ids\":[");

	(void)state;
	for (size_t i = 0; i <= LIMIT_IMAGE_LAYERS; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i ? "," : "", one);
	snprintf(text + at, sizeof(text) - at, "]}}");
	assert_int_equal(config(&c, text, &f), -EINVAL);
	assert_non_null(strstr(f.message, "an image of 501 layers; at most 500"));
}

static struct oci_platform platform(const char *text)
{
	struct oci_platform p;
	struct fault f = { 0 };

	if (oci_platform_parse(&p, text, &f) < 0)
		fail_msg("%s: %s", text, f.message);
	return p;
}

static void test_platforms(void **state)
{
	static const struct {
		const char *text, *normal;
	} good[] = {
		{ "linux/amd64", "linux/amd64" },     { "Linux/x86_64", "linux/amd64" },
		{ "linux/amd64/v1", "linux/amd64" },  { "linux/amd64/v3", "linux/amd64/v3" },
		{ "linux/aarch64", "linux/arm64" },   { "linux/arm64/v8", "linux/arm64" },
		{ "linux/arm", "linux/arm" },	      { "linux/armhf", "linux/arm" },
		{ "linux/armel", "linux/arm/v6" },    { "linux/arm/6", "linux/arm/v6" },
		{ "linux/i686", "linux/386" },	      { "macos/arm64", "darwin/arm64" },
		{ "linux/riscv64", "linux/riscv64" },
	};
	static const char *const bad[] = {
		"linux",	"/",
		"linux/",	"/amd64",
		"linux/amd64/", "linux/amd64/v1/x",
		"lin ux/amd64", "linux/../x",
	};
	struct oci_platform p;
	struct fault f = { 0 };
	struct utsname host;
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		p = platform(good[i].text);
		oci_platform_text(&p, text, sizeof(text));
		assert_string_equal(text, good[i].normal);
		oci_platform_clear(&p);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(oci_platform_parse(&p, bad[i], &f), -EINVAL);
		assert_int_equal(f.code, FAULT_INVALID_ARGUMENT);
		assert_string_equal(f.argument, "platform");
		assert_null(p.os);
	}
	uname(&host);
	p = platform(NULL);
	assert_string_equal(p.os, "linux");
	if (!strcmp(host.machine, "x86_64"))
		assert_string_equal(p.architecture, "amd64");
	oci_platform_clear(&p);
	p = platform("");
	oci_platform_clear(&p);
}

static int match(const char *wanted, const char *have)
{
	struct oci_platform w = platform(wanted), h = platform(have);
	int r = oci_platform_match(&w, &h);

	oci_platform_clear(&w);
	oci_platform_clear(&h);
	return r;
}

static void test_matches(void **state)
{
	(void)state;
	assert_true(match("linux/amd64", "linux/amd64") > 0);
	assert_int_equal(match("linux/amd64", "windows/amd64"), 0);
	assert_int_equal(match("linux/amd64", "linux/arm64"), 0);
	assert_int_equal(match("linux/amd64", "linux/amd64/v2"), 0);
	assert_true(match("linux/amd64/v3", "linux/amd64/v3") >
		    match("linux/amd64/v3", "linux/amd64/v2"));
	assert_true(match("linux/amd64/v3", "linux/amd64/v2") >
		    match("linux/amd64/v3", "linux/amd64"));
	assert_true(match("linux/amd64/v3", "linux/amd64") > 0);
	assert_true(match("linux/arm", "linux/arm/v6") > match("linux/arm", "linux/arm/v5"));
	assert_int_equal(match("linux/arm/v6", "linux/arm/v7"), 0);
	assert_true(match("linux/arm64", "linux/arm64") > match("linux/arm64", "linux/arm"));
	assert_true(match("linux/arm64", "linux/arm/v7") > match("linux/arm64", "linux/arm/v6"));
	assert_true(match("linux/amd64", "linux/386") > 0);
	assert_true(match("linux/amd64", "linux/386") < match("linux/amd64", "linux/amd64"));
	assert_int_equal(match("linux/386", "linux/amd64"), 0);
	assert_int_equal(match("linux/amd64", "unknown/unknown"), 0);
}

static void test_chain(void **state)
{
	/* printf 'sha256:aaa… sha256:bbb…' | sha256sum */
	struct digest a, b, chain, expected;
	static const char both[] = DIGEST_A " " DIGEST_B;

	(void)state;
	digest_parse(DIGEST_A, &a);
	digest_parse(DIGEST_B, &b);
	assert_int_equal(oci_chain_id(NULL, &a, &chain), 0);
	assert_string_equal(chain.text, DIGEST_A);
	assert_int_equal(oci_chain_id(&a, &b, &chain), 0);
	digest_of(both, sizeof(both) - 1, &expected);
	assert_string_equal(chain.text, expected.text);
	chain.text[0] = '\0';
	assert_int_equal(oci_chain_id(&chain, &b, &chain), 0);
	assert_string_equal(chain.text, DIGEST_B);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptor),    cmocka_unit_test(test_bad_descriptors),
		cmocka_unit_test(test_rpc),	      cmocka_unit_test(test_documents),
		cmocka_unit_test(test_bad_documents), cmocka_unit_test(test_children_limit),
		cmocka_unit_test(test_configs),	      cmocka_unit_test(test_layers_limit),
		cmocka_unit_test(test_platforms),     cmocka_unit_test(test_matches),
		cmocka_unit_test(test_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
