// SPDX-License-Identifier: Apache-2.0
/*
 * davit checkpoints
 *
 * Which images are checkpoints is seen by their index, not by a label: one that was imported has no
 * labels. One that is labelled and cannot be read is listed with what is known of it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "util/clock.h"

static bool is_labelled(json_object *image)
{
	json_object *value;

	return json_object_object_get_ex(js_get(image, "labels"), CHECKPOINT_LABEL, &value);
}

/* The image's record, with what a list wants to know. */
static json_object *row_new(json_object *image, const struct checkpoint *c)
{
	json_object *row = js_object();

	js_set_str(row, "name", js_str(image, "name"));
	js_set_str(row, "digest", js_str(image, "target.digest"));
	js_set(row, "created_at", json_object_get(js_get(image, "created_at")));
	if (!c->record)
		return row;
	js_set_str(row, "container", js_str(c->record, "container.id"));
	js_set_str(row, "image", js_str(c->record, "container.image"));
	/* of the checkpoint, which is older than its name when it was imported */
	js_set_int(row, "created_at", js_int(c->record, "created_at", 0));
	js_set_int(row, "size", (int64_t)c->size);
	js_set_bool(row, "local", c->local);
	js_set(row, "options", json_object_get(js_get(c->record, "options")));
	js_set(row, "stats", json_object_get(js_get(c->record, "stats")));
	return row;
}

static int rows(struct cli *cli, json_object **out, struct fault *f)
{
	json_object *all CLEANUP_JSON = NULL;
	json_object *list CLEANUP_JSON = js_array();
	int r = cli_list(cli, "images.list", list_params(cli), "images", &all, f);

	if (r < 0)
		return r;
	for (size_t i = 0; i < js_len(all); i++) {
		struct checkpoint c CLEANUP(cli_checkpoint_clear) = { 0 };
		json_object *image = js_at(all, i);

		r = cli_checkpoint_read(cli, image, &c, f);
		if (r < 0 && f->code == FAULT_UNAVAILABLE)
			return r;
		if (r == 0 || is_labelled(image))
			js_push(list, row_new(image, &c));
	}
	*out = TAKE_PTR(list);
	return 0;
}

/* ---- cells */

static void cell_text(json_object *row, const char *key, char *buf, size_t size)
{
	const char *text = js_str(row, key);

	snprintf(buf, size, "%s", *text ? text : "-");
}

static void cell_name(json_object *row, char *buf, size_t size)
{
	cell_text(row, "name", buf, size);
}

static void cell_container(json_object *row, char *buf, size_t size)
{
	cell_text(row, "container", buf, size);
}

static void cell_size(json_object *row, char *buf, size_t size)
{
	int64_t n = js_int(row, "size", -1);

	if (n < 0)
		snprintf(buf, size, "-");
	else
		output_size((uint64_t)n, buf, size);
}

static void cell_ratio(json_object *row, char *buf, size_t size)
{
	cli_checkpoint_ratio(js_int(row, "stats.bytes_in", -1), js_int(row, "size", -1), buf, size);
}

static void cell_frozen(json_object *row, char *buf, size_t size)
{
	cli_checkpoint_time(js_int(row, "stats.frozen_us", -1), buf, size);
}

static int checkpoints(struct cli *cli)
{
	static const struct list_column columns[] = {
		{ "NAME", cell_name }, { "CONTAINER", cell_container }, { "CREATED", cell_created },
		{ "SIZE", cell_size }, { "RATIO", cell_ratio },		{ "FROZEN", cell_frozen },
		{ NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	struct fault f = { 0 };
	int r = output_format(cli, &f);

	if (r < 0)
		return cli_fail(&f, NULL, "checkpoints");
	r = rows(cli, &all, &f);
	if (r == 0)
		r = list_print(cli, all, "name", columns, &f);
	return r < 0 ? cli_fail(&f, NULL, "cannot list the checkpoints") : 0;
}

static const struct cli_option options[] = {
	CLI_OPTION_QUIET,
	CLI_OPTION_FILTER("name~=web, target.digest~=^sha256:12"),
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_checkpoints = {
	.name = "checkpoints",
	.summary = "List checkpoints",
	.details =
		"SIZE is what the checkpoint takes without its container's image, RATIO how much larger the memory and state\n"
		"in it are, FROZEN how long the container stood still for it.\n",
	.options = options,
	.max_args = 0,
	.run = checkpoints,
};
