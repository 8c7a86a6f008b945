// SPDX-License-Identifier: Apache-2.0
/* Image documents: the first byte says what the rest is read as. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/oci.h"
#include "util/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NAME "sha256:0000000000000000000000000000000000000000000000000000000000000000"

static void check(int r, const struct fault *f)
{
	if (r < 0 && (!f->message[0] || f->code == FAULT_NONE))
		abort();
}

/* A copy of a descriptor is the same, and what was taken keeps its limits. */
static void check_descriptor(const struct oci_descriptor *d)
{
	struct oci_descriptor copy;
	struct fault f = { 0 };

	if (!digest_valid(d->digest.text) || !*d->media_type || d->size > INT64_MAX)
		abort();
	if (oci_descriptor_copy(&copy, d, &f) < 0 || !json_object_equal(copy.json, d->json))
		abort();
	oci_descriptor_clear(&copy);
}

static void read_document(const char *text, size_t size, const char *type)
{
	struct oci_document doc;
	struct fault f = { 0 };
	int r = oci_document_read(&doc, text, size, type, NAME, &f);

	check(r, &f);
	if (r < 0)
		return;
	if (doc.n_children > LIMIT_IMAGE_CHILDREN || doc.kind != oci_kind_of(type))
		abort();
	if (doc.kind == OCI_KIND_MANIFEST)
		check_descriptor(&doc.config);
	for (size_t i = 0; i < doc.n_children; i++)
		check_descriptor(&doc.children[i]);
	oci_document_clear(&doc);
}

static void read_config(const char *text, size_t size)
{
	struct oci_config config;
	struct digest chain = { "" };
	struct fault f = { 0 };
	int r = oci_config_read(&config, text, size, NAME, &f);

	check(r, &f);
	if (r < 0)
		return;
	if (config.n > LIMIT_IMAGE_LAYERS)
		abort();
	for (size_t i = 0; i < config.n; i++)
		if (oci_chain_id(&chain, &config.diff_ids[i], &chain) < 0 ||
		    !digest_valid(chain.text))
			abort();
	oci_config_clear(&config);
}

/* What a platform is written as is read as the same. */
static void read_platform(const char *text)
{
	struct oci_platform p, again;
	struct fault f = { 0 };
	char shown[256];
	int r = oci_platform_parse(&p, text, &f);

	check(r, &f);
	if (r < 0)
		return;
	oci_platform_text(&p, shown, sizeof(shown));
	if (oci_platform_parse(&again, shown, &f) < 0 || oci_platform_match(&p, &again) != 1000)
		abort();
	oci_platform_clear(&again);
	oci_platform_clear(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = { OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX,
					     DOCKER_MANIFEST };
	char *text;

	if (!size)
		return 0;
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0] % 6) {
	case 4:
		read_config(text, size - 1);
		break;
	case 5:
		read_platform(text);
		break;
	default:
		read_document(text, size - 1, types[data[0] % 6]);
	}
	free(text);
	return 0;
}
