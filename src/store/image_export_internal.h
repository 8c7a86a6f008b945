// SPDX-License-Identifier: Apache-2.0
/*
 * Export, inside: what is to be written, and writing it
 */
#pragma once

#include "store/image_internal.h"

struct export_blob {
	struct digest digest;
	uint64_t size;
	char *text; /* one that is made for the archive; else it is in the content: */
	struct digest packed; /* … compressed, under this digest; "" when as it is */
};

struct export_plan {
	struct store_call *c;
	const char *platform; /* NULL: none was asked for */
	struct export_blob *blobs; /* each once */
	size_t n_blobs;
	struct lh_table *known; /* digests of blobs */
	json_object *index, *manifests; /* index.json, and the list in it (borrowed) */
	json_object *docker; /* manifest.json; NULL for none */
	char missing[DIGEST_TEXT]; /* the first blob that was not there; "" for none */
	uint64_t total; /* bytes of all blobs */
};

/* Adds one that is not yet there. 1: it was added. text is taken over in any case. */
int export_add(struct export_plan *p, const struct digest *digest, uint64_t size, char *text,
	       const struct digest *packed);
/* Adds a blob of the content. 1: it is there, 0: it is missing. */
int export_content(struct export_plan *p, const struct oci_descriptor *d);
/* An entry of index.json. */
int export_entry(struct export_plan *p, const struct oci_descriptor *d, const char *name);
/* As image_manifest_here; one that is not for the platform that was asked for by name is FAULT_NOT_FOUND. */
int export_manifest(struct export_plan *p, const struct oci_descriptor *target,
		    const struct oci_platform *platform, struct oci_descriptor *manifest,
		    struct oci_document *doc);
/* FAULT_FAILED_PRECONDITION about p->missing. */
int export_incomplete(struct export_plan *p, const char *name);

/* image_export_docker.c: one image of manifest.json */
int export_docker(struct export_plan *p, const char *name, const struct oci_descriptor *target);
/* What docker calls the image, "" when that cannot be one of its names. */
void export_docker_tag(const char *name, char *out, size_t size);

/* image_export_tar.c */
int export_write(struct export_plan *p, int fd, uint64_t *size);
