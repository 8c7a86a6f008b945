// SPDX-License-Identifier: Apache-2.0
/*
 * run and create: what comes from an image
 *
 * From the first look at the image until the container's record refers to its snapshot, a lease
 * keeps all of it from being collected. It expires by itself, so a killed client keeps nothing for
 * ever.
 *
 * An image's config is as untrusted as its files. Its labels are taken over as podman does, but not
 * those by which davit and garbage collection are steered. Its ExposedPorts have no meaning without a
 * network of davit's; OnBuild and Shell are for builders; a Healthcheck is not run.
 *
 * A volume of an image is a folder on disk that is not part of the container's layer: it stays
 * writable with --read-only and is in no diff. It is another snapshot, held by a label of the
 * container, and so goes when the container goes: without names for volumes nobody could find it
 * afterwards.
 */
#include "cli/create_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/snaproot.h"
#include "cli/snapshot.h"
#include "cli/volume.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/limits.h"

#define LEASE_SECONDS 3600

/* ---- the image */

int cli_lease_new(struct cli *cli, char **id, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object();
	int r;

	js_set_int(p, "expire", LEASE_SECONDS * CLOCK_NS_PER_SEC);
	r = cli_call(cli, "leases.create", p, &answer, f);
	if (r == 0)
		*id = mem_strdup(js_str(answer, "lease.id"));
	return r;
}

static bool is_words(json_object *v)
{
	for (size_t i = 0; i < js_len(v); i++) {
		if (!json_object_is_type(js_at(v, i), json_type_string))
			return false;
	}
	return json_object_is_type(v, json_type_array);
}

int cli_image_config_check(json_object *config, struct fault *f)
{
	static const struct {
		const char *name;
		json_type type;
	} members[] = { { "Entrypoint", json_type_array },  { "Cmd", json_type_array },
			{ "Env", json_type_array },	    { "User", json_type_string },
			{ "WorkingDir", json_type_string }, { "StopSignal", json_type_string },
			{ "Volumes", json_type_object },    { "Labels", json_type_object } };

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		json_object *v;

		if (!json_object_object_get_ex(config, members[i].name, &v))
			continue;
		if (!v) {
			json_object_object_del(config, members[i].name);
			continue;
		}
		if (!json_object_is_type(v, members[i].type) ||
		    (members[i].type == json_type_array && !is_words(v)))
			return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
					 "the image's config is damaged: %s is no %s",
					 members[i].name,
					 members[i].type == json_type_array    ? "list of texts"
					 : members[i].type == json_type_object ? "map"
									       : "text");
	}
	return 0;
}

int cli_image_source_open(struct cli *cli, const char *text, struct image_source *out,
			  struct fault *f)
{
	json_object *record CLEANUP_JSON = NULL;
	int r;

	r = cli_image_find(cli, text, 0, &record, f);
	if (r == 0)
		r = cli_lease_new(cli, &out->lease, f);
	if (r < 0)
		return r;
	out->name = mem_strdup(js_str(record, "name"));
	out->snapshotter = mem_strdup(args_get(cli, "snapshotter"));
	r = cli_image_unpack(cli, out->name, NULL, out->lease, &out->chain_id, &out->snapshotter,
			     f);
	if (r == 0)
		r = cli_image_config(cli, record, out->chain_id, &out->document, f);
	if (r < 0)
		return r;
	if (json_object_is_type(out->document, json_type_object))
		out->config = js_object_at(out->document, "config");
	else
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0, "the config of %s is no map",
				 out->name);
	r = cli_image_config_check(out->config, f);
	if (r < 0)
		fault_prefix(f, "%s", out->name);
	return r;
}

void cli_lease_drop(struct cli *cli, const char *id)
{
	json_object *p;
	struct fault ignored;

	if (!id || !cli->client)
		return;
	p = js_object();
	js_set_str(p, "id", id);
	(void)cli_call(cli, "leases.delete", p, NULL, &ignored);
}

void cli_image_source_clear(struct cli *cli, struct image_source *s)
{
	cli_lease_drop(cli, s->lease);
	free(s->name);
	free(s->chain_id);
	free(s->lease);
	free(s->snapshotter);
	json_object_put(s->document);
	memset(s, 0, sizeof(*s));
}

static bool steers(const char *key)
{
	static const char *const prefixes[] = { "davit.", "containerd.io/", "org.davit." };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	}
	return false;
}

void cli_image_labels(json_object *config, json_object *labels)
{
	json_object *own = js_get(config, "Labels");
	size_t n = 0;

	if (!own)
		return;
	json_object_object_foreach (own, key, value) {
		const char *text = json_object_is_type(value, json_type_string)
					   ? json_object_get_string(value)
					   : NULL;

		if (!text || !*key || steers(key))
			continue;
		if (strlen(key) + strlen(text) > LIMIT_LABEL_BYTES || ++n > LIMIT_LABELS / 2) {
			cli_warn("the image's label %.64s is too much and was left out", key);
			continue;
		}
		if (!json_object_object_get_ex(labels, key, NULL))
			js_set_str(labels, key, text);
	}
}

/* ---- the container's root */

static void own(struct image_root *root, const char *key)
{
	if (!root->snapshots)
		root->snapshots = js_array();
	js_push_str(root->snapshots, key);
}

int cli_image_root_new(struct cli *cli, const struct image_source *s, const char *id,
		       struct image_root *out, struct fault *f)
{
	json_object *mounts CLEANUP_JSON = NULL;
	int r;

	out->image = s;
	out->fd = -1;
	r = cli_snapshot_new(cli, s->snapshotter, id, s->chain_id, s->lease, NULL, &out->key,
			     &mounts, f);
	if (r < 0)
		return r;
	own(out, out->key);
	r = snaproot_open(mounts, &out->fd, f);
	/* One of the daemon's group who is not root: numbers will do for what can be done without. */
	return r == -EPERM || r == -EACCES ? 0 : r;
}

/* Without doubled and final slashes; NULL for what nothing can be mounted on. */
static char *clean_path(const char *text)
{
	char *clean = mem_alloc(strlen(text) + 2);
	char *copy CLEANUP_FREE = mem_strdup(text);
	char *part, *save = NULL, *end = clean;

	for (part = strtok_r(copy, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			free(clean);
			return NULL;
		}
		*end++ = '/';
		end = stpcpy(end, part);
	}
	if (end == clean) {
		free(clean);
		return NULL;
	}
	return clean;
}

static int volume(struct cli *cli, struct image_root *root, const char *id, const char *path,
		  size_t number, json_object *spec, json_object *added, json_object *labels,
		  struct fault *f)
{
	static const char *const options[] = { "rbind", "rprivate", "rw", "nosuid", "nodev", NULL };
	const struct image_source *s = root->image;
	char *wanted CLEANUP_FREE = mem_printf("%s-volume-%zu", id, number);
	char *label CLEANUP_FREE = mem_printf(LABEL_GC_SNAPSHOT "%s" LABEL_VOLUME_SUFFIX "%zu",
					      s->snapshotter, number);
	char *key CLEANUP_FREE = NULL;
	json_object *mounts CLEANUP_JSON = NULL;
	json_object *note = js_object();
	int to CLEANUP_CLOSE = -1;
	int r;

	js_set_str(note, "davit.volume", path);
	r = cli_snapshot_new(cli, s->snapshotter, wanted, "", s->lease, note, &key, &mounts, f);
	if (r < 0)
		return r;
	own(root, key);
	if (js_len(mounts) != 1 || *js_str(js_at(mounts, 0), "source") != '/')
		return fault_set(f, FAULT_INTERNAL, 0, "an empty snapshot is no folder");
	r = snaproot_open(mounts, &to, f);
	if (r == 0)
		r = snaproot_copy(root->fd, path, to, f);
	if (r == 0) {
		/* a new one is for whoever runs, as podman has it */
		uid_t uid = (uid_t)js_int(spec, "process.user.uid", 0);
		gid_t gid = (gid_t)js_int(spec, "process.user.gid", 0);

		if (fchmod(to, 0755) < 0 || fchown(to, uid, gid) < 0)
			r = fault_sys(f, errno, "setting the owner of the volume", path);
		else
			r = snaproot_mkdir(root->fd, path, uid, gid, f);
	}
	if (r < 0)
		return r;
	js_push(added, volume_mount(path, "bind", js_str(js_at(mounts, 0), "source"), options));
	js_set_str(labels, label, key);
	return 0;
}

static int volumes(struct cli *cli, struct image_root *root, const char *id, json_object *spec,
		   json_object *labels, struct fault *f)
{
	json_object *wanted = js_get(root->image->config, "Volumes"),
		    *mounts = js_array_at(spec, "mounts"), *sorted,
		    *added CLEANUP_JSON = js_array();
	size_t n = 0;
	int r = 0;

	if (!wanted)
		return 0;
	json_object_object_foreach (wanted, name, ignored) {
		char *path CLEANUP_FREE = clean_path(name);

		(void)ignored;
		if (!path || volume_has(mounts, path) || volume_has(added, path))
			continue;
		if (root->fd < 0)
			return fault_set(
				f, FAULT_PERMISSION_DENIED, 0,
				"the image has a volume %s, which only root can make; be root, or give -v or --tmpfs for it",
				path);
		if (n == LIMIT_SPEC_MOUNTS / 2)
			return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
					 "the image has too many volumes");
		r = volume(cli, root, id, path, ++n, spec, added, labels, f);
		if (r < 0) {
			fault_prefix(f, "the image's volume %s", path);
			return r;
		}
	}
	if (!n)
		return 0;
	/* All by depth, so that what an option mounts within a volume is seen, and the other way. */
	for (size_t i = 0; i < js_len(added); i++)
		js_push(mounts, json_object_get(js_at(added, i)));
	sorted = js_array();
	volume_merge(sorted, mounts);
	js_set(spec, "mounts", sorted);
	return 0;
}

int cli_image_root_finish(struct cli *cli, struct image_root *root, const char *id,
			  bool own_workdir, json_object *spec, json_object *labels, struct fault *f)
{
	const char *folder = js_str(spec, "process.cwd");
	int r = volumes(cli, root, id, spec, labels, f);

	if (r < 0 || own_workdir || root->fd < 0 || strcmp(folder, "/") == 0)
		return r;
	for (size_t i = 0; i < js_len(js_get(spec, "mounts")); i++) {
		const char *at = js_str(js_at(js_get(spec, "mounts"), i), "destination");
		size_t n = strlen(at);

		/* It lies in something that is mounted over the image: there it has to be. */
		if (strncmp(folder, at, n) == 0 && (!folder[n] || folder[n] == '/'))
			return 0;
	}
	r = snaproot_mkdir(root->fd, folder, (uid_t)js_int(spec, "process.user.uid", 0),
			   (gid_t)js_int(spec, "process.user.gid", 0), f);
	if (r < 0)
		fault_prefix(f, "the image's working directory");
	return r < 0 ? r : 0;
}

void cli_image_root_clear(struct cli *cli, struct image_root *root, bool keep)
{
	fd_close(&root->fd);
	for (size_t i = 0; !keep && i < js_len(root->snapshots); i++)
		cli_snapshot_remove_quietly(cli, root->image->snapshotter,
					    json_object_get_string(js_at(root->snapshots, i)));
	json_object_put(root->snapshots);
	free(root->key);
	memset(root, 0, sizeof(*root));
	root->fd = -1;
}
