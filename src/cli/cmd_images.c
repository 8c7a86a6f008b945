// SPDX-License-Identifier: Apache-2.0
/*
 * davit images
 *
 * The sizes of all images are asked for at once, and their answers awaited after. One whose content
 * is not complete has no sizes; it is listed all the same.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/verbs.h"

#define AT_ONCE 256u /* requests under way */

static int usages(struct cli *cli, json_object *images, struct fault *f)
{
	uint32_t ids[AT_ONCE];
	size_t n = js_len(images);

	for (size_t from = 0; from < n; from += AT_ONCE) {
		size_t count = n - from < AT_ONCE ? n - from : AT_ONCE;

		for (size_t i = 0; i < count; i++) {
			json_object *p = js_object();
			int r;

			js_set_str(p, "name", js_str(js_at(images, from + i), "name"));
			r = cli_send(cli, "images.usage", p, NULL, 0, &ids[i], f);
			if (r < 0)
				return r;
		}
		for (size_t i = 0; i < count; i++) {
			json_object *answer = NULL;

			if (cli_answer(cli, ids[i], &answer, f) < 0) {
				/* removed meanwhile, or incomplete; a broken connection is the end */
				if (f->code == FAULT_UNAVAILABLE)
					return -f->err;
				continue;
			}
			js_set(js_at(images, from + i), "usage", answer);
		}
	}
	return 0;
}

static void cell_name(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "name"));
}

static void cell_digest(json_object *row, char *buf, size_t size)
{
	cli_image_short_digest(js_str(row, "target.digest"), buf, size);
}

static void cell_whole_digest(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "target.digest"));
}

static void cell_bytes(json_object *row, const char *key, char *buf, size_t size)
{
	int64_t n = js_int(row, key, -1);

	if (n < 0)
		snprintf(buf, size, "-");
	else
		output_size((uint64_t)n, buf, size);
}

static void cell_size(json_object *row, char *buf, size_t size)
{
	cell_bytes(row, "usage.size", buf, size);
}

static void cell_unpacked(json_object *row, char *buf, size_t size)
{
	cell_bytes(row, "usage.unpacked", buf, size);
}

static void cell_shared(json_object *row, char *buf, size_t size)
{
	cell_bytes(row, "usage.shared", buf, size);
}

static int images(struct cli *cli)
{
	static const struct list_column brief[] = {
		{ "NAME", cell_name },
		{ "DIGEST", cell_digest },
		{ "SIZE", cell_size },
		{ "UNPACKED", cell_unpacked },
		{ "SHARED", cell_shared },
		{ "CREATED", cell_created },
		{ NULL, NULL },
	};
	static const struct list_column whole[] = {
		{ "NAME", cell_name },
		{ "DIGEST", cell_whole_digest },
		{ "SIZE", cell_size },
		{ "UNPACKED", cell_unpacked },
		{ "SHARED", cell_shared },
		{ "CREATED", cell_created },
		{ NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	struct fault f = { 0 };
	int json = output_format(cli, &f), r;

	if (json < 0)
		return cli_fail(&f, NULL, "images");
	r = cli_list(cli, "images.list", list_params(cli), "images", &all, &f);
	if (r == 0 && (json || !args_flag(cli, "quiet")))
		r = usages(cli, all, &f);
	if (r == 0)
		r = list_print(cli, all, "name", args_flag(cli, "no-trunc") ? whole : brief, &f);
	return r < 0 ? cli_fail(&f, NULL, "cannot list the images") : 0;
}

static const struct cli_option options[] = {
	CLI_OPTION_QUIET,
	CLI_OPTION_FILTER("name==box, labels.app==shop, target.digest~=^sha256:12"),
	{ .name = "no-trunc", .doc = "whole digests" },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_images = {
	.name = "images",
	.summary = "List images",
	.details =
		"SIZE is what the image's blobs take, UNPACKED what its layers take as snapshots, SHARED what of its blobs\n"
		"other images have too.\n",
	.options = options,
	.max_args = 0,
	.run = images,
};
