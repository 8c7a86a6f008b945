// SPDX-License-Identifier: Apache-2.0
/*
 * Images: finding one, and reading what it says about itself
 *
 * A name as it stands goes before all short forms of others, so that a script's full name can never
 * become ambiguous. Documents (index, manifest, config) come from whoever made the image: they are
 * read with a limit, are checked against the digest they were asked for by, and may have any shape.
 */
#include "cli/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/progress.h"
#include "util/digest.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/limits.h"

#define SHOWN_NAMES 8 /* of an ambiguous one */

/* ---- finding */

static int ambiguous(const char *text, json_object *found, struct fault *f)
{
	char *names CLEANUP_FREE = mem_strdup("");

	for (size_t i = 0; i < js_len(found); i++) {
		char *longer = i < SHOWN_NAMES
				       ? mem_printf("%s%s%s", names, i ? ", " : "",
						    js_str(js_at(found, i), "name"))
				       : mem_printf("%s and %zu more", names, js_len(found) - i);

		free(names);
		names = longer;
		if (i == SHOWN_NAMES)
			break;
	}
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			 "\"%s\" may be any of these images: %s; give more of the name", text,
			 names);
}

static int choose(const char *text, json_object *all, unsigned flags, json_object **out,
		  struct fault *f)
{
	json_object *found CLEANUP_JSON = js_array();
	enum image_match best = IMAGE_MATCH_NONE;
	bool differ = false;

	for (size_t i = 0; i < js_len(all); i++) {
		json_object *image = js_at(all, i);
		enum image_match m = cli_image_match(text, js_str(image, "name"),
						     js_str(image, "target.digest"));

		if (m == IMAGE_MATCH_NONE || m < best)
			continue;
		if (m > best) {
			json_object_put(found);
			found = js_array();
			best = m;
		}
		js_push(found, json_object_get(image));
	}
	if (!js_len(found))
		return fault_set(f, FAULT_NOT_FOUND, 0,
				 "there is no image \"%s\"; 'davit images' lists those there are",
				 text);
	for (size_t i = 1; i < js_len(found); i++)
		differ |= strcmp(js_str(js_at(found, 0), "target.digest"),
				 js_str(js_at(found, i), "target.digest")) != 0;
	if (differ || (flags & IMAGE_FIND_ONE_NAME && js_len(found) > 1))
		return ambiguous(text, found, f);
	*out = json_object_get(js_at(found, 0));
	return 0;
}

int cli_image_find(struct cli *cli, const char *text, unsigned flags, json_object **out,
		   struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *all CLEANUP_JSON = NULL;
	json_object *p;
	int r;

	if (!*text || strlen(text) > LIMIT_IMAGE_NAME_BYTES)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "\"%.64s\" is no name of an image",
				 text);
	p = js_object();
	js_set_str(p, "name", text);
	r = cli_call(cli, "images.get", p, &answer, f);
	if (r == 0) {
		*out = json_object_get(js_get(answer, "image"));
		return 0;
	}
	if (f->code != FAULT_NOT_FOUND && f->code != FAULT_INVALID_ARGUMENT)
		return r;
	r = cli_list(cli, "images.list", NULL, "images", &all, f);
	return r < 0 ? r : choose(text, all, flags, out, f);
}

/* ---- documents */

int cli_image_blob_most(struct cli *cli, const char *digest, size_t most, json_object **out,
			struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object();
	char *text CLEANUP_FREE = NULL;
	int fd CLEANUP_CLOSE = -1;
	struct digest found;
	int64_t size;
	int r;

	js_set_str(p, "digest", digest);
	js_set_bool(p, "fd", true);
	r = cli_call_for_fd(cli, "content.read", p, &fd, &answer, f);
	if (r < 0)
		return r;
	size = js_int(answer, "size", -1);
	if (size < 0 || (uint64_t)size > most)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "%s has %lld bytes, which is too much for a document of an image",
				 digest, (long long)size);
	text = mem_alloc((size_t)size + 1);
	r = fd_read_all(fd, text, (size_t)size);
	if (r < 0)
		return fault_sys(f, -r, "reading the content", digest);
	if (digest_of(text, (size_t)size, &found) < 0)
		mem_need(NULL);
	if (strcmp(found.text, digest) != 0)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "the content %s is damaged: its bytes have the digest %s", digest,
				 found.text);
	r = json_parse(text, (size_t)size, out, f);
	if (r < 0)
		fault_prefix(f, "reading %s", digest);
	return r;
}

int cli_image_blob(struct cli *cli, const char *digest, json_object **out, struct fault *f)
{
	return cli_image_blob_most(cli, digest, LIMIT_MANIFEST_BYTES, out, f);
}

int cli_image_chain_id(json_object *diff_ids, char *buf, size_t size)
{
	struct digest chain = { "" };

	for (size_t i = 0; i < js_len(diff_ids); i++) {
		const char *id = json_object_get_string(js_at(diff_ids, i));

		if (!json_object_is_type(js_at(diff_ids, i), json_type_string) || !digest_valid(id))
			return -EINVAL;
		if (i == 0) {
			if (digest_parse(id, &chain) < 0)
				return -EINVAL;
		} else {
			char text[2 * DIGEST_TEXT + 2];
			int n = snprintf(text, sizeof(text), "%s %s", chain.text, id);

			if (digest_of(text, (size_t)n, &chain) < 0)
				return -ENOMEM;
		}
	}
	snprintf(buf, size, "%s", chain.text);
	return 0;
}

static bool is_index(json_object *doc)
{
	return json_object_is_type(js_get(doc, "manifests"), json_type_array);
}

static int walk(struct cli *cli, const char *digest, const char *chain_id, unsigned depth,
		unsigned *left, json_object **out, struct fault *f);

/* The config of a manifest, when it belongs to the layers that are meant; else *out stays NULL. */
static int try_manifest(struct cli *cli, json_object *doc, const char *chain_id, json_object **out,
			struct fault *f)
{
	json_object *config CLEANUP_JSON = NULL;
	const char *digest = js_str(doc, "config.digest");
	char chain[DIGEST_TEXT];
	int r;

	if (!*digest)
		return 0; /* no image: an artifact, or something newer than this program */
	r = cli_image_blob(cli, digest, &config, f);
	if (r < 0)
		return r;
	if (cli_image_chain_id(js_get(config, "rootfs.diff_ids"), chain, sizeof(chain)) == 0 &&
	    strcmp(chain, chain_id) == 0)
		*out = TAKE_PTR(config);
	return 0;
}

static int try_children(struct cli *cli, json_object *doc, const char *chain_id, unsigned depth,
			unsigned *left, json_object **out, struct fault *f)
{
	json_object *list = js_get(doc, "manifests");

	for (size_t i = 0; i < js_len(list) && !*out; i++) {
		int r = walk(cli, js_str(js_at(list, i), "digest"), chain_id, depth + 1, left, out,
			     f);

		/* Other platforms' manifests need not be here. */
		if (r < 0 && f->code != FAULT_NOT_FOUND && f->code != FAULT_INVALID_ARGUMENT)
			return r;
	}
	return 0;
}

static int walk(struct cli *cli, const char *digest, const char *chain_id, unsigned depth,
		unsigned *left, json_object **out, struct fault *f)
{
	json_object *doc CLEANUP_JSON = NULL;
	int r;

	if (depth > LIMIT_IMAGE_DEPTH || !*left)
		return fault_set(f, FAULT_FAILED_PRECONDITION, 0,
				 "the image has too many indexes and manifests");
	--*left;
	r = cli_image_blob(cli, digest, &doc, f);
	if (r < 0)
		return r;
	return is_index(doc) ? try_children(cli, doc, chain_id, depth, left, out, f)
			     : try_manifest(cli, doc, chain_id, out, f);
}

int cli_image_config(struct cli *cli, json_object *record, const char *chain_id, json_object **out,
		     struct fault *f)
{
	const char *name = js_str(record, "name");
	unsigned left = 1024; /* documents: real images have a dozen */
	int r;

	*out = NULL;
	r = walk(cli, js_str(record, "target.digest"), chain_id, 0, &left, out, f);
	if (r == 0 && !*out)
		r = fault_set(f, FAULT_FAILED_PRECONDITION, 0,
			      "it has no config that belongs to its layers %s", chain_id);
	if (r < 0)
		fault_prefix(f, "the image %s", name);
	return r;
}

/* ---- unpacking */

/* Whose snapshots the layers have become: they are there by now. */
static char *snapshotter_of(struct cli *cli, const char *chain_id)
{
	json_object *p = js_object();
	struct fault ignored;

	js_set_str(p, "snapshotter", "overlayfs");
	js_set_str(p, "key", chain_id);
	if (*chain_id && cli_call(cli, "snapshots.stat", json_object_get(p), NULL, &ignored) == 0) {
		json_object_put(p);
		return mem_strdup("overlayfs");
	}
	json_object_put(p);
	return mem_strdup("native"); /* which also is where nothing but an empty root is wanted */
}

int cli_image_unpack(struct cli *cli, const char *name, const char *platform, const char *lease,
		     char **chain_id, char **snapshotter, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	char *what CLEANUP_FREE = mem_printf("Unpacking %s", name);
	struct progress_call call = { .method = "images.unpack",
				      .params = js_object(),
				      .what = what,
				      .events = true,
				      .watch = -1 };
	int r;

	js_set_str(call.params, "name", name);
	if (platform)
		js_set_str(call.params, "platform", platform);
	if (lease)
		js_set_str(call.params, "lease", lease);
	if (snapshotter && *snapshotter)
		js_set_str(call.params, "snapshotter", *snapshotter);
	r = progress_run(cli, &call, &answer, f);
	if (r < 0)
		return r;
	if (chain_id)
		*chain_id = mem_strdup(js_str(answer, "chain_id"));
	if (snapshotter && !*snapshotter)
		*snapshotter = snapshotter_of(cli, js_str(answer, "chain_id"));
	return 0;
}
