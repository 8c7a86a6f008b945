// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints in the formats of others: podman's archive
 *
 *	config.dump           podman's own record of the container (libpod/container_config.go)
 *	spec.dump             the OCI runtime spec
 *	network.status        of its networks: none
 *	checkpoint/           criu's image files, and descriptors.json: what runc calls the streams
 *	stats-dump            criu's statistics
 *	devshm-checkpoint.tar what was in /dev/shm, where that is podman's mount: never here
 *	rootfs-diff.tar, deleted.files   the writable layer
 *
 * podman's ids are 64 hex digits; what stands there is the hash of our namespace and id, the id itself
 * is podman's name. Annotations of the spec say whose format it is, as podman's own do.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ckpt_formats.h"
#include "store/content.h"
#include "util/cleanup.h"
#include "util/limits.h"

#define MANAGER "io.container.manager"

struct podman {
	struct store_call *c;
	const struct checkpoint_read *read;
	struct ckpt_tar *tar;
};

static int put_json(struct podman *p, const char *name, json_object *j)
{
	size_t size;
	const char *text = ckpt_json_write(j, &size);

	return text ? ckpt_tar_file(p->tar, name, text, size) : checkpoint_no_memory(p->c->f);
}

/* ---- documents */

/* "sha256:…" of the base image's config, which is podman's id of an image; "" for none. */
static int image_id(struct podman *p, struct digest *out)
{
	CLEANUP_FREE char *text = NULL;
	json_object *j = NULL;
	const char *digest;
	size_t size;
	int r;

	out->text[0] = '\0';
	if (!p->read->base_manifest.text[0])
		return 0;
	r = content_has(p->c, p->read->base_manifest.text);
	if (r <= 0)
		return r;
	r = content_read_all(p->c, p->read->base_manifest.text, LIMIT_MANIFEST_BYTES, &text, &size);
	if (r < 0)
		return r;
	j = json_tokener_parse(text);
	digest = ckpt_json_get(json_object_object_get(j, "config"), "digest");
	if (digest_parse(digest, out) < 0)
		out->text[0] = '\0';
	json_object_put(j);
	return 0;
}

static void add_maps(json_object *to, bool *failed)
{
	json_object *maps = ckpt_json_made(json_object_new_object(), failed);

	ckpt_json_add(maps, "HostUIDMapping", json_object_new_boolean(true), failed);
	ckpt_json_add(maps, "HostGIDMapping", json_object_new_boolean(true), failed);
	ckpt_json_add(to, "idMappingsOptions", maps, failed);
}

static json_object *copy_of(json_object *from, bool *failed)
{
	json_object *to = NULL;

	if (!from || json_object_deep_copy(from, &to, NULL) < 0)
		to = NULL;
	return ckpt_json_made(to, failed);
}

/* podman takes only what its own runtime has made; the images are written as runc has them. */
static const char *runtime_name(const struct ckpt_record *k)
{
	return strstr(k->runtime, "crun") ? "crun" : "runc";
}

static void add_command(json_object *config, json_object *spec, bool *failed)
{
	json_object *process = json_object_object_get(spec, "process");
	json_object *args = json_object_is_type(process, json_type_object)
				    ? json_object_object_get(process, "args")
				    : NULL;

	if (json_object_is_type(args, json_type_array))
		ckpt_json_add(config, "command", json_object_get(args), failed);
}

static int put_config(struct podman *p, const struct digest *id, json_object *spec)
{
	const struct ckpt_record *k = &p->read->record;
	char when[CKPT_TIME_TEXT];
	struct digest image;
	bool failed = false;
	CLEANUP(checkpoint_json_putp) json_object *j = NULL;
	int r = image_id(p, &image);

	if (r < 0)
		return r;
	j = ckpt_json_made(json_object_new_object(), &failed);
	ckpt_time_text(k->created_at, when);
	ckpt_json_add(j, "spec", json_object_get(spec), &failed);
	ckpt_json_text(j, "id", digest_hex(id), &failed);
	ckpt_json_text(j, "name", k->id, &failed);
	add_maps(j, &failed);
	if (*k->image) {
		ckpt_json_text(j, "rootfsImageName", k->image, &failed);
		ckpt_json_text(j, "RawImageName", k->image, &failed);
	}
	if (*image.text)
		ckpt_json_text(j, "rootfsImageID", digest_hex(&image), &failed);
	ckpt_json_add(j, "shmSize", json_object_new_int64(64 << 20), &failed);
	if (json_object_object_length(k->labels))
		ckpt_json_add(j, "labels", json_object_get(k->labels), &failed);
	add_command(j, spec, &failed);
	ckpt_json_text(j, "createdTime", when, &failed);
	ckpt_json_text(j, "checkpointedTime", when, &failed);
	ckpt_json_text(j, "cgroupManager", "cgroupfs", &failed);
	ckpt_json_text(j, "cgroupsMode", "enabled", &failed);
	ckpt_json_text(j, "cgroupParent", "/libpod_parent", &failed);
	ckpt_json_text(j, "logDriver", "k8s-file", &failed);
	ckpt_json_add(j, "stopSignal", json_object_new_int(15), &failed);
	ckpt_json_add(j, "stopTimeout", json_object_new_int(10), &failed);
	ckpt_json_add(j, "createNetNS", json_object_new_boolean(false), &failed);
	ckpt_json_text(j, "runtime", runtime_name(k), &failed);
	return failed ? checkpoint_no_memory(p->c->f) : put_json(p, PODMAN_CONFIG, j);
}

static json_object *new_spec(struct podman *p, bool *failed)
{
	const struct ckpt_record *k = &p->read->record;
	json_object *spec = copy_of(k->spec, failed);
	json_object *notes = spec ? json_object_object_get(spec, "annotations") : NULL;
	char when[CKPT_TIME_TEXT];

	if (!json_object_is_type(notes, json_type_object)) {
		notes = ckpt_json_made(json_object_new_object(), failed);
		if (spec)
			ckpt_json_add(spec, "annotations", notes, failed);
	}
	if (*failed)
		return spec;
	ckpt_time_text(k->created_at, when);
	ckpt_json_text(notes, MANAGER, "libpod", failed);
	ckpt_json_text(notes, "org.davit.container", k->id, failed);
	ckpt_json_text(notes, "io.kubernetes.cri-o.Created", when, failed);
	return spec;
}

static int put_documents(struct podman *p)
{
	const struct ckpt_record *k = &p->read->record;
	CLEANUP_FREE char *full = NULL;
	struct digest id;
	bool failed = false;
	CLEANUP(checkpoint_json_putp) json_object *spec = new_spec(p, &failed);
	int r;

	if (failed || asprintf(&full, "%s/%s", k->ns, k->id) < 0) {
		full = NULL;
		return checkpoint_no_memory(p->c->f);
	}
	if (digest_of(full, strlen(full), &id) < 0)
		return checkpoint_no_memory(p->c->f);
	r = put_config(p, &id, spec);
	if (!r)
		r = put_json(p, PODMAN_SPEC, spec);
	return r ? r : ckpt_tar_file(p->tar, PODMAN_NETWORK, "null", 4);
}

/* ---- criu's images */

static int put_descriptors(struct podman *p)
{
	CLEANUP(checkpoint_json_putp)
	json_object *list = ckpt_descriptors_new(&p->read->record);

	return list ? put_json(p, PODMAN_IMAGES "/" PODMAN_DESCRIPTORS, list)
		    : checkpoint_no_memory(p->c->f);
}

static int put_images(struct podman *p)
{
	int r = ckpt_tar_folder(p->tar, PODMAN_IMAGES "/");

	for (size_t i = 0; !r && i < p->read->files.n; i++) {
		const struct serve_file *file = &p->read->files.v[i];
		CLEANUP_FREE char *name = NULL;

		if (asprintf(&name, PODMAN_IMAGES "/%s", file->name) < 0) {
			name = NULL;
			return checkpoint_no_memory(p->c->f);
		}
		r = ckpt_tar_header(p->tar, name, ckpt_file_size(file));
		if (!r)
			r = ckpt_file_copy(p->c, file, ckpt_tar_data, p->tar);
	}
	return r ? r : put_descriptors(p);
}

/* ---- what is beside them */

struct gather {
	char data[8192];
	size_t n;
};

static int gather(void *user, const void *data, size_t size, struct fault *f)
{
	struct gather *g = user;

	if (size > sizeof(g->data) - g->n)
		return fault_set(f, FAULT_INTERNAL, 0, "an empty tar is larger than it can be");
	memcpy(g->data + g->n, data, size);
	g->n += size;
	return 0;
}

static int put_shm(struct podman *p)
{
	struct gather g = { .n = 0 };
	struct ckpt_tar *tar;
	uint64_t size;
	int r = ckpt_tar_new(&tar, p->c, -1, LAYER_NONE);

	if (r < 0)
		return r;
	ckpt_tar_tap(tar, gather, &g);
	r = ckpt_tar_close(tar, &size);
	ckpt_tar_free(tar);
	return r ? r : ckpt_tar_file(p->tar, PODMAN_SHM, g.data, g.n);
}

static int put_diff(struct podman *p)
{
	bool failed = false;
	CLEANUP(checkpoint_json_putp) json_object *deleted = NULL;
	uint64_t size = 0, again = 0;
	int r;

	if (!p->read->has_diff)
		return 0;
	deleted = ckpt_json_made(json_object_new_array(), &failed);
	if (failed)
		return checkpoint_no_memory(p->c->f);
	r = ckpt_podman_diff(p->c, p->read, deleted, NULL, NULL, &size);
	if (!r && json_object_array_length(deleted))
		r = put_json(p, PODMAN_DELETED, deleted);
	if (!r)
		r = ckpt_tar_header(p->tar, PODMAN_DIFF, size);
	if (!r)
		r = ckpt_podman_diff(p->c, p->read, NULL, ckpt_tar_data, p->tar, &again);
	return r;
}

int ckpt_export_podman(struct store_call *c, const struct checkpoint_read *read, struct ckpt_tar *t)
{
	struct podman p = { .c = c, .read = read, .tar = t };
	uint8_t stats[CKPT_STATS_ROOM];
	int r = put_documents(&p);

	if (!r)
		r = put_images(&p);
	if (!r)
		r = ckpt_tar_file(t, PODMAN_STATS, stats, ckpt_stats_image(&read->record, stats));
	if (!r)
		r = put_shm(&p);
	return r ? r : put_diff(&p);
}
