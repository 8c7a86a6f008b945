// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints as the command line sees them
 *
 * A checkpoint is an index with an artifact manifest, whose config is the record (JSON), and perhaps
 * the manifest of the container's image. All of it may come from a stranger. Each document is
 * checked against its digest, and what is used of the record against the types that it has to have;
 * whether its values are to be followed is decided by whoever uses them (restore_spec.c).
 */
#include "cli/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/units.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/json.h"
#include "util/limits.h"

#define ARTIFACT "application/vnd.davit.checkpoint.v1"
#define CONFIG "application/vnd.davit.checkpoint.config.v1+json"
#define OWN_LAYER "application/vnd.davit.checkpoint."
#define STALL_MAX_SECONDS (365 * 24 * 3600)
#define INDEX "application/vnd.oci.image.index.v1+json"

void cli_checkpoint_clear(struct checkpoint *c)
{
	json_object_put(c->record);
	json_object_put(c->target);
	json_object_put(c->diff);
	memset(c, 0, sizeof(*c));
}

/* ---- the record */

static int damaged(const char *what, struct fault *f)
{
	return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			 "the checkpoint's record is damaged: %s is missing or of a wrong type",
			 what);
}

static int check_record(json_object *record, struct fault *f)
{
	static const struct {
		const char *path;
		json_type type;
	} members[] = {
		{ "container", json_type_object },	{ "container.id", json_type_string },
		{ "container.spec", json_type_object }, { "container.labels", json_type_object },
		{ "mounts", json_type_array },		{ "network", json_type_string },
		{ "stdio", json_type_array },
	};

	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		json_object *o = js_get(record, members[i].path);

		if (!o || !json_object_is_type(o, members[i].type))
			return damaged(members[i].path, f);
	}
	return 0;
}

/* ---- an image */

/* The artifact's entry in the index, and whether there is an image's beside it. */
static json_object *find_artifact(json_object *index, bool *has_base)
{
	json_object *list = js_get(index, "manifests"), *found = NULL;

	*has_base = false;
	for (size_t i = 0; i < js_len(list); i++) {
		json_object *d = js_at(list, i);

		if (strcmp(js_str(d, "artifactType"), ARTIFACT) != 0)
			*has_base = true;
		else if (!found)
			found = d;
	}
	return found;
}

static void look_at_layers(json_object *manifest, struct checkpoint *c)
{
	json_object *layers = js_get(manifest, "layers");

	c->size = (uint64_t)js_int(manifest, "config.size", 0);
	for (size_t i = 0; i < js_len(layers); i++) {
		json_object *d = js_at(layers, i), *diff;

		c->size += (uint64_t)js_int(d, "size", 0);
		if (strncmp(js_str(d, "mediaType"), OWN_LAYER, strlen(OWN_LAYER)) == 0 || c->diff)
			continue;
		/* as the methods want it */
		diff = js_object();
		js_set_str(diff, "media_type", js_str(d, "mediaType"));
		js_set_str(diff, "digest", js_str(d, "digest"));
		js_set_int(diff, "size", js_int(d, "size", 0));
		c->diff = diff;
	}
}

static int read_manifest(struct cli *cli, const char *digest, struct checkpoint *c, struct fault *f)
{
	json_object *manifest CLEANUP_JSON = NULL;
	int r = cli_image_blob(cli, digest, &manifest, f);

	if (r < 0)
		return r;
	if (strcmp(js_str(manifest, "artifactType"), ARTIFACT) != 0 ||
	    strcmp(js_str(manifest, "config.mediaType"), CONFIG) != 0)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "the manifest %s is no checkpoint's: its config is \"%.64s\"",
				 digest, js_str(manifest, "config.mediaType"));
	look_at_layers(manifest, c);
	r = cli_image_blob_most(cli, js_str(manifest, "config.digest"),
				LIMIT_CHECKPOINT_RECORD_BYTES, &c->record, f);
	return r < 0 ? r : check_record(c->record, f);
}

static bool is_local(json_object *image)
{
	json_object *value;

	return json_object_object_get_ex(js_get(image, "labels"), CHECKPOINT_LABEL_LOCAL, &value) &&
	       json_object_is_type(value, json_type_string) &&
	       strcmp(json_object_get_string(value), "true") == 0;
}

/*
 * The same bytes under another name are as much this daemon's: an import of what it has exported, or a
 * name that was given through the API.
 */
static int is_local_elsewhere(struct cli *cli, json_object *image, bool *local, struct fault *f)
{
	char *filter CLEANUP_FREE = mem_printf("target.digest==\"%s\"",
					       js_str(image, "target.digest"));
	json_object *all CLEANUP_JSON = NULL;
	json_object *p = js_object();
	int r;

	js_push_str(js_array_at(p, "filters"), filter);
	r = cli_list(cli, "images.list", p, "images", &all, f);
	for (size_t i = 0; r == 0 && i < js_len(all); i++)
		*local |= is_local(js_at(all, i));
	return r;
}

int cli_checkpoint_read(struct cli *cli, json_object *image, struct checkpoint *out,
			struct fault *f)
{
	json_object *index CLEANUP_JSON = NULL;
	const char *digest = js_str(image, "target.digest");
	json_object *artifact;
	int r;

	memset(out, 0, sizeof(*out));
	if (strcmp(js_str(image, "target.media_type"), INDEX) != 0 || !digest_valid(digest))
		return CHECKPOINT_E_NONE;
	r = cli_image_blob(cli, digest, &index, f);
	if (r < 0)
		return r;
	artifact = find_artifact(index, &out->has_base);
	if (!artifact)
		return CHECKPOINT_E_NONE;
	r = read_manifest(cli, js_str(artifact, "digest"), out, f);
	out->local = is_local(image);
	if (r == 0 && !out->local)
		r = is_local_elsewhere(cli, image, &out->local, f);
	if (r < 0) {
		cli_checkpoint_clear(out);
		return r;
	}
	out->target = json_object_get(js_get(image, "target"));
	return 0;
}

/* ---- a folder */

int cli_checkpoint_read_folder(const char *path, struct checkpoint *out, struct fault *f)
{
	int folder CLEANUP_CLOSE = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	memset(out, 0, sizeof(*out));
	if (folder < 0)
		return fault_sys(f, errno, "opening the folder", path);
	if (faccessat(folder, CHECKPOINT_RECORD_FILE, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno == ENOENT)
		return fault_set(f, FAULT_NOT_FOUND, ENOENT, "%s has no " CHECKPOINT_RECORD_FILE,
				 path);
	r = json_parse_file(folder, CHECKPOINT_RECORD_FILE, LIMIT_CHECKPOINT_RECORD_BYTES,
			    &out->record, f);
	if (r == 0)
		r = check_record(out->record, f);
	if (r < 0) {
		fault_prefix(f, "reading %s/" CHECKPOINT_RECORD_FILE, path);
		cli_checkpoint_clear(out);
	}
	return r;
}

int cli_checkpoint_stall(struct cli *cli, json_object *options, struct fault *f)
{
	const char *stall = args_get(cli, "stall-timeout");
	int64_t seconds;
	int r;

	if (!stall)
		return 0;
	r = units_int(stall, 0, STALL_MAX_SECONDS, &seconds, f);
	if (r < 0)
		fault_prefix(f, "--stall-timeout");
	else
		js_set_int(options, "stall_timeout", seconds * CLOCK_NS_PER_SEC);
	return r;
}

/* ---- for people */

char *cli_checkpoint_absolute(const char *path)
{
	char *here, *whole;

	if (*path == '/')
		return mem_strdup(path);
	here = mem_need(getcwd(NULL, 0));
	whole = mem_printf("%s/%s", here, path);
	free(here);
	return whole;
}

void cli_checkpoint_time(int64_t us, char *buf, size_t size)
{
	double ms = (double)us / 1000;

	if (us < 0)
		snprintf(buf, size, "-");
	else if (ms < 10)
		snprintf(buf, size, "%.2f ms", ms);
	else if (ms < 100)
		snprintf(buf, size, "%.1f ms", ms);
	else if (ms < 1000)
		snprintf(buf, size, "%.0f ms", ms);
	else
		snprintf(buf, size, "%.2f s", ms / 1000);
}

void cli_checkpoint_ratio(int64_t in, int64_t out, char *buf, size_t size)
{
	if (in <= 0 || out <= 0)
		snprintf(buf, size, "-");
	else
		snprintf(buf, size, "%.1f", (double)in / (double)out);
}
