// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: containerd's image
 *
 * An OCI archive as `ctr image import` takes it, with the index that `ctr containers checkpoint
 * --task --rw --image` makes (containerd: container_checkpoint_opts.go, services/tasks/local.go):
 *
 *	annotations   the image's name, the runtime's, the snapshotter's
 *	  …criu.checkpoint.criu.tar            criu's image files and runc's descriptors.json
 *	  …checkpoint.config.v1+proto          the OCI runtime spec as JSON in a protobuf Any
 *	  …checkpoint.options.v1+proto         how it was taken, runc's options in an Any
 *	  …image.layer.v1.tar+gzip             the writable layer, when there is one
 *	  the base image's manifest            when the store has all of it
 *
 * A blob's name is its hash, which stands before its bytes: the tar is made twice, the first time for
 * the hash. The layer is packed by gzip, since a restore by containerd looks for no other; that goes
 * through the content store, where nothing holds it after.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/ckpt_formats.h"
#include "store/content.h"
#include "store/image.h"
#include "util/cleanup.h"
#include "util/fd.h"
#include "util/limits.h"

#define TYPE_CRIU "application/vnd.containerd.container.criu.checkpoint.criu.tar"
#define TYPE_CONFIG "application/vnd.containerd.container.checkpoint.config.v1+proto"
#define TYPE_OPTIONS "application/vnd.containerd.container.checkpoint.options.v1+proto"
#define NOTE_RUNTIME "io.containerd.checkpoint.runtime"
#define NOTE_SNAPSHOTTER "io.containerd.checkpoint.snapshotter"
#define RUNTIME "io.containerd.runc.v2"
#define SNAPSHOTTER "overlayfs"
#define URL_SPEC "types.containerd.io/opencontainers/runtime-spec/1/Spec"
#define URL_OPTIONS "containerd.runc.v1.CheckpointOptions"
#define LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}"
#define PIECE (256u << 10)

struct blob {
	const char *type;
	char *data; /* NULL: what the writer makes */
	size_t n, room;
	struct digest digest;
	uint64_t size;
};

struct exporting {
	struct store_call *c;
	const struct checkpoint_read *read;
	struct ckpt_tar *tar;
	struct blob criu, config, options, diff, index;
	struct oci_descriptor *base; /* the manifest and what is below it */
	size_t n_base;
	bool incomplete;
};

/* ---- protobuf */

static int put(struct exporting *x, struct blob *b, const void *data, size_t size)
{
	if (size > b->room - b->n) {
		size_t room = (b->n + size) * 2 + 256;
		char *grown = realloc(b->data, room);

		if (!grown)
			return checkpoint_no_memory(x->c->f);
		b->data = grown;
		b->room = room;
	}
	if (size > 0)
		memcpy(b->data + b->n, data, size);
	b->n += size;
	return 0;
}

static int put_varint(struct exporting *x, struct blob *b, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	do {
		bytes[n++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
		v >>= 7;
	} while (v);
	return put(x, b, bytes, n);
}

static int put_text(struct exporting *x, struct blob *b, unsigned field, const void *data,
		    size_t size)
{
	int r = put_varint(x, b, field << 3 | 2);

	if (!r)
		r = put_varint(x, b, size);
	return r ? r : put(x, b, data, size);
}

static int put_bool(struct exporting *x, struct blob *b, unsigned field, bool value)
{
	int r = value ? put_varint(x, b, field << 3) : 0;

	return r || !value ? r : put_varint(x, b, 1);
}

static int put_any(struct exporting *x, struct blob *b, const char *url, const void *data,
		   size_t size)
{
	int r = put_text(x, b, 1, url, strlen(url));

	return r || !size ? r : put_text(x, b, 2, data, size);
}

static int name_blob(struct exporting *x, struct blob *b)
{
	b->size = b->n;
	return digest_of(b->data, b->n, &b->digest) < 0 ? checkpoint_no_memory(x->c->f) : 0;
}

static int make_config(struct exporting *x)
{
	size_t size;
	const char *text = ckpt_json_write(x->read->record.spec, &size);
	int r = text ? put_any(x, &x->config, URL_SPEC, text, size) : checkpoint_no_memory(x->c->f);

	return r ? r : name_blob(x, &x->config);
}

/* containerd's api/types/runc/options: CheckpointOptions */
static int make_options(struct exporting *x)
{
	const struct ckpt_record *k = &x->read->record;
	struct blob o = { 0 };
	int r = put_bool(x, &o, 1, !k->left_running);

	if (!r)
		r = put_bool(x, &o, 2, k->open_tcp);
	if (!r)
		r = put_bool(x, &o, 3, k->external_unix_sockets);
	if (!r)
		r = put_bool(x, &o, 4, k->terminal);
	if (!r)
		r = put_bool(x, &o, 5, k->file_locks);
	for (size_t i = 0; !r && i < k->n_empty; i++)
		r = put_text(x, &o, 6, k->empty_namespaces[i], strlen(k->empty_namespaces[i]));
	if (!r && *k->cgroups_mode)
		r = put_text(x, &o, 7, k->cgroups_mode, strlen(k->cgroups_mode));
	if (!r)
		r = put_any(x, &x->options, URL_OPTIONS, o.data, o.n);
	free(o.data);
	return r ? r : name_blob(x, &x->options);
}

/* ---- criu's tar */

static int write_criu(struct exporting *x, struct ckpt_tar *tar)
{
	const struct checkpoint_read *read = x->read;
	CLEANUP(checkpoint_json_putp) json_object *streams = ckpt_descriptors_new(&read->record);
	size_t size;
	const char *text = streams ? ckpt_json_write(streams, &size) : NULL;
	int r = text ? ckpt_tar_file(tar, PODMAN_DESCRIPTORS, text, size)
		     : checkpoint_no_memory(x->c->f);

	for (size_t i = 0; !r && i < read->files.n; i++) {
		const struct serve_file *file = &read->files.v[i];

		r = ckpt_tar_header(tar, file->name, ckpt_file_size(file));
		if (!r)
			r = ckpt_file_copy(x->c, file, ckpt_tar_data, tar);
	}
	return r;
}

static int tap_hash(void *user, const void *data, size_t size, struct fault *f)
{
	(void)f;
	hasher_add(user, data, size);
	return 0;
}

/* put NULL: only its digest and size */
static int make_criu(struct exporting *x, layer_write_fn fn, void *user)
{
	struct hasher *hasher = NULL;
	struct ckpt_tar *tar;
	int r = ckpt_tar_new(&tar, x->c, -1, LAYER_NONE);

	if (r < 0)
		return r;
	if (!fn && hasher_new(&hasher) < 0)
		r = checkpoint_no_memory(x->c->f);
	if (!r) {
		ckpt_tar_tap(tar, fn ? fn : tap_hash, fn ? user : hasher);
		r = write_criu(x, tar);
	}
	if (!r)
		r = ckpt_tar_close(tar, &x->criu.size);
	if (!r && hasher && hasher_digest(hasher, &x->criu.digest) < 0)
		r = checkpoint_no_memory(x->c->f);
	ckpt_tar_free(tar);
	hasher_free(hasher);
	return r;
}

/* ---- the writable layer */

static int pack_diff(struct exporting *x, struct ingest *to)
{
	struct layer_sink *sink;
	struct digest diff_id;
	uint64_t size;
	int r = layer_sink_new(&sink, to, LAYER_GZIP, 0, x->c->f);

	if (!r)
		r = ckpt_layer_copy(x->c, &x->read->diff, layer_sink_write, sink, &size);
	if (!r)
		r = layer_sink_finish(sink, &diff_id, &size, x->c->f);
	layer_sink_free(sink);
	return r;
}

static int make_diff(struct exporting *x)
{
	struct ingest *to;
	char ref[64];
	int r;

	if (!x->read->has_diff)
		return 0;
	if (!strcmp(x->read->diff.media_type, OCI_LAYER_GZIP)) {
		x->diff.digest = x->read->diff.digest;
		x->diff.size = x->read->diff.size;
		return 0;
	}
	r = ckpt_ref_new(ref, sizeof(ref), x->c->f);
	if (!r)
		r = ingest_open(x->c, ref, NULL, -1, &to);
	if (r)
		return r;
	r = pack_diff(x, to);
	if (!r) {
		x->diff.size = ingest_offset(to);
		r = ingest_commit(x->c, to, -1, NULL, NULL, 0, &x->diff.digest);
		if (!r || r == -EEXIST)
			return 0;
	}
	ingest_discard(to);
	return r;
}

/* ---- the base image */

static int take_base(void *user, const struct oci_descriptor *d, bool missing)
{
	struct exporting *x = user;
	struct oci_descriptor *grown;

	x->incomplete |= missing;
	if (x->incomplete)
		return 0;
	grown = reallocarray(x->base, x->n_base + 1, sizeof(*grown));
	if (!grown)
		return checkpoint_no_memory(x->c->f);
	x->base = grown;
	grown[x->n_base] = (struct oci_descriptor){ 0 };
	return oci_descriptor_copy(&grown[x->n_base++], d, x->c->f);
}

static void drop_base(struct exporting *x)
{
	for (size_t i = 0; i < x->n_base; i++)
		oci_descriptor_clear(&x->base[i]);
	free(TAKE_PTR(x->base));
	x->n_base = 0;
}

static int find_base(struct exporting *x)
{
	CLEANUP(oci_descriptor_clear) struct oci_descriptor target = { 0 };
	const struct digest *digest = &x->read->base_manifest;
	CLEANUP_FREE char *text = NULL;
	size_t size;
	int r;

	if (!digest->text[0])
		return 0;
	r = content_has(x->c, digest->text);
	if (r <= 0)
		return r;
	r = content_read_all(x->c, digest->text, LIMIT_MANIFEST_BYTES, &text, &size);
	if (!r && oci_descriptor_new(&target,
				     strstr(text, DOCKER_MANIFEST) ? DOCKER_MANIFEST : OCI_MANIFEST,
				     digest, size) < 0)
		r = checkpoint_no_memory(x->c->f);
	if (!r)
		r = image_walk(x->c, &target, false, take_base, x);
	if (!r && x->incomplete)
		drop_base(x);
	return r;
}

/* ---- the index */

static json_object *descriptor(const char *type, const struct digest *digest, uint64_t size,
			       const struct oci_platform *platform, bool *failed)
{
	json_object *j = ckpt_json_made(json_object_new_object(), failed);
	json_object *p = ckpt_json_made(json_object_new_object(), failed);

	ckpt_json_text(j, "mediaType", type, failed);
	ckpt_json_text(j, "digest", digest->text, failed);
	ckpt_json_add(j, "size", json_object_new_uint64(size), failed);
	ckpt_json_text(p, "architecture", platform->architecture, failed);
	ckpt_json_text(p, "os", platform->os, failed);
	if (*platform->variant)
		ckpt_json_text(p, "variant", platform->variant, failed);
	ckpt_json_add(j, "platform", p, failed);
	return j;
}

static json_object *notes(const struct ckpt_record *k, bool *failed)
{
	json_object *j = ckpt_json_made(json_object_new_object(), failed);

	ckpt_json_text(j, OCI_REF_NAME, k->image, failed);
	ckpt_json_text(j, NOTE_RUNTIME,
		       strncmp(k->runtime, "io.containerd.", 14) ? RUNTIME : k->runtime, failed);
	ckpt_json_text(j, NOTE_SNAPSHOTTER, *k->snapshotter ? k->snapshotter : SNAPSHOTTER, failed);
	return j;
}

static int write_down(struct exporting *x, struct blob *b, json_object *j)
{
	size_t size;
	const char *text = ckpt_json_write(j, &size);

	return text ? put(x, b, text, size) : checkpoint_no_memory(x->c->f);
}

static int make_index(struct exporting *x)
{
	CLEANUP(oci_platform_clear) struct oci_platform here = { 0 };
	CLEANUP(checkpoint_json_putp) json_object *j = NULL;
	const struct blob *blobs[] = { &x->criu, &x->config, &x->options, &x->diff };
	json_object *list;
	bool failed = false;
	int r = oci_platform_parse(&here, NULL, x->c->f);

	if (r < 0)
		return r;
	j = ckpt_json_made(json_object_new_object(), &failed);
	list = ckpt_json_made(json_object_new_array(), &failed);
	ckpt_json_add(j, "schemaVersion", json_object_new_int(2), &failed);
	ckpt_json_text(j, "mediaType", OCI_INDEX, &failed);
	for (size_t i = 0; i < ARRAY_SIZE(blobs); i++)
		if (blobs[i]->size)
			ckpt_json_append(list,
					 descriptor(blobs[i]->type, &blobs[i]->digest,
						    blobs[i]->size, &here, &failed),
					 &failed);
	if (x->n_base)
		ckpt_json_append(list,
				 descriptor(x->base[0].media_type, &x->base[0].digest,
					    x->base[0].size, &here, &failed),
				 &failed);
	ckpt_json_add(j, "manifests", list, &failed);
	ckpt_json_add(j, "annotations", notes(&x->read->record, &failed), &failed);
	if (failed)
		return checkpoint_no_memory(x->c->f);
	r = write_down(x, &x->index, j);
	return r ? r : name_blob(x, &x->index);
}

/* ---- the archive */

static int put_head(struct exporting *x, const struct digest *digest, uint64_t size)
{
	char name[sizeof("blobs/sha256/") + DIGEST_HEX];

	snprintf(name, sizeof(name), "blobs/sha256/%s", digest_hex(digest));
	return ckpt_tar_header(x->tar, name, size);
}

static int put_memory(struct exporting *x, const struct blob *b)
{
	int r = put_head(x, &b->digest, b->size);

	return r ? r : ckpt_tar_data(x->tar, b->data, b->n, x->c->f);
}

static int put_content(struct exporting *x, const struct digest *digest, uint64_t size)
{
	CLEANUP_FREE char *buf = malloc(PIECE);
	CLEANUP_CLOSE int fd = -1;
	int r = buf ? content_verify(x->c, digest->text) : checkpoint_no_memory(x->c->f);

	if (!r)
		r = content_open(x->c, digest->text, &fd, NULL);
	if (!r)
		r = put_head(x, digest, size);
	while (!r && size) {
		size_t n = size < PIECE ? (size_t)size : PIECE;

		r = fd_read_all(fd, buf, n);
		if (r < 0)
			return fault_sys(x->c->f, -r, "read the content", digest->text);
		r = ckpt_tar_data(x->tar, buf, n, x->c->f);
		size -= n;
	}
	return r;
}

static int put_top(struct exporting *x, const char *name)
{
	const char *slash = strrchr(name, '/'), *colon = strrchr(name, ':');
	const char *tag = colon && (!slash || colon > slash) ? colon + 1 : "latest";
	CLEANUP(checkpoint_json_putp) json_object *j = NULL;
	json_object *list, *one, *notes_of;
	struct blob top = { 0 };
	bool failed = false;
	int r;

	j = ckpt_json_made(json_object_new_object(), &failed);
	list = ckpt_json_made(json_object_new_array(), &failed);
	one = ckpt_json_made(json_object_new_object(), &failed);
	notes_of = ckpt_json_made(json_object_new_object(), &failed);
	ckpt_json_text(notes_of, OCI_IMAGE_NAME, name, &failed);
	ckpt_json_text(notes_of, OCI_REF_NAME, tag, &failed);
	ckpt_json_text(one, "mediaType", OCI_INDEX, &failed);
	ckpt_json_text(one, "digest", x->index.digest.text, &failed);
	ckpt_json_add(one, "size", json_object_new_uint64(x->index.size), &failed);
	ckpt_json_add(one, "annotations", notes_of, &failed);
	ckpt_json_append(list, one, &failed);
	ckpt_json_add(j, "schemaVersion", json_object_new_int(2), &failed);
	ckpt_json_add(j, "manifests", list, &failed);
	r = failed ? checkpoint_no_memory(x->c->f) : write_down(x, &top, j);
	if (!r)
		r = ckpt_tar_file(x->tar, "index.json", top.data, top.n);
	free(top.data);
	return r ? r : ckpt_tar_file(x->tar, "oci-layout", LAYOUT, strlen(LAYOUT));
}

static int write_all(struct exporting *x, const char *name)
{
	int r = ckpt_tar_folder(x->tar, "blobs/");

	if (!r)
		r = ckpt_tar_folder(x->tar, "blobs/sha256/");
	if (!r)
		r = put_head(x, &x->criu.digest, x->criu.size);
	if (!r)
		r = make_criu(x, ckpt_tar_data, x->tar);
	if (!r)
		r = put_memory(x, &x->config);
	if (!r)
		r = put_memory(x, &x->options);
	if (!r && x->diff.size)
		r = put_content(x, &x->diff.digest, x->diff.size);
	for (size_t i = 0; !r && i < x->n_base; i++)
		r = put_content(x, &x->base[i].digest, x->base[i].size);
	if (!r)
		r = put_memory(x, &x->index);
	return r ? r : put_top(x, name);
}

int ckpt_export_containerd(struct store_call *c, const struct checkpoint_read *read,
			   const char *name, struct ckpt_tar *t)
{
	struct exporting x = {
		.c = c,
		.read = read,
		.tar = t,
		.criu = { .type = TYPE_CRIU },
		.config = { .type = TYPE_CONFIG },
		.options = { .type = TYPE_OPTIONS },
		.diff = { .type = OCI_LAYER_GZIP },
	};
	int r = make_criu(&x, NULL, NULL);

	if (!r)
		r = make_config(&x);
	if (!r)
		r = make_options(&x);
	if (!r)
		r = make_diff(&x);
	if (!r)
		r = find_base(&x);
	if (!r)
		r = make_index(&x);
	if (!r)
		r = write_all(&x, name);
	drop_base(&x);
	free(x.config.data);
	free(x.options.data);
	free(x.index.data);
	return r;
}
