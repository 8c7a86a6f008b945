// SPDX-License-Identifier: Apache-2.0
/*
 * OCI image-spec: descriptors, indexes, manifests, configs, and docker's twins of them
 */
#pragma once

#include <json-c/json.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/digest.h"
#include "util/fault.h"

#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define OCI_LAYER_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_LAYER_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"
#define DOCKER_INDEX "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define DOCKER_LAYER_GZIP "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define OCI_REF_NAME "org.opencontainers.image.ref.name"
#define OCI_IMAGE_NAME "io.containerd.image.name" /* the whole name, where ref.name is a tag */

struct oci_platform {
	char *os, *architecture, *variant; /* "" when not given */
};

struct oci_descriptor {
	char *media_type;
	struct digest digest;
	uint64_t size;
	bool has_platform;
	struct oci_platform platform;
	/* the whole, with what else it has (annotations, artifactType, urls …) */
	json_object *json;
};
void oci_descriptor_clear(struct oci_descriptor *d);
/* Keeps unknown members. -EINVAL, FAULT_FAILED_PRECONDITION with `what` at its beginning. */
int oci_descriptor_read(struct oci_descriptor *d, json_object *json, const char *what,
			struct fault *f);
/* Of an RPC's map {media_type, digest, size, annotations, …}: snake case becomes OCI's camel case. */
int oci_descriptor_from_mp(struct oci_descriptor *d, const msgpack_object *map, struct fault *f);
/* The other way round. */
void oci_descriptor_pack(msgpack_packer *pk, const struct oci_descriptor *d);
int oci_descriptor_new(struct oci_descriptor *d, const char *media_type,
		       const struct digest *digest, uint64_t size);
int oci_descriptor_copy(struct oci_descriptor *to, const struct oci_descriptor *from,
			struct fault *f);
/* NULL when it has none of that name. */
const char *oci_descriptor_annotation(const struct oci_descriptor *d, const char *key);

enum oci_kind { OCI_KIND_INDEX, OCI_KIND_MANIFEST, OCI_KIND_OTHER };
enum oci_kind oci_kind_of(const char *media_type);

/* An index or a manifest. `digest` names it in faults. */
struct oci_document {
	enum oci_kind kind;
	json_object *json;
	struct oci_descriptor config; /* of a manifest */
	struct oci_descriptor *children; /* manifests of an index, layers of a manifest */
	size_t n_children;
};
/* Schema version 1, unknown media types and wrong shapes are refused, with digest and reason. */
int oci_document_read(struct oci_document *d, const char *text, size_t size, const char *media_type,
		      const char *digest, struct fault *f);
void oci_document_clear(struct oci_document *d);

/* An image's config. Further members (config.Cmd, config.Env, …) are in json. */
bool oci_is_config(const char *media_type);
struct oci_config {
	json_object *json;
	struct oci_platform platform;
	struct digest *diff_ids;
	size_t n; /* of them: as many as the image has layers */
};
/* Shapes of what runs a container are checked as well (Cmd, Env and so on). */
int oci_config_read(struct oci_config *c, const char *text, size_t size, const char *digest,
		    struct fault *f);
void oci_config_clear(struct oci_config *c);
/* The member "config" or, by itself, what would be in it; `what` begins the fault. */
int oci_config_check(json_object *config, const char *what, struct fault *f);

/* "linux/amd64" or "linux/arm64/v8"; NULL or "": this machine's. Normalised (x86_64 is amd64). */
int oci_platform_parse(struct oci_platform *p, const char *text, struct fault *f);
void oci_platform_clear(struct oci_platform *p);
/* "linux/arm64/v8" into `out`, cut when there is no room. */
void oci_platform_text(const struct oci_platform *p, char *out, size_t size);
/* 0 no match, higher is better (an exact variant before none). */
int oci_platform_match(const struct oci_platform *wanted, const struct oci_platform *have);

/* chain(L0) = L0, chain(L0..Ln) = sha256(chain(L0..Ln-1) " " Ln): image-spec, config.md. */
int oci_chain_id(const struct digest *previous, const struct digest *diff_id, struct digest *out);
