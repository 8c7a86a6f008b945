// SPDX-License-Identifier: Apache-2.0
/*
 * davit tag, davit rmi
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/run.h"

/* What is said of the target goes along: that it is a checkpoint, and of this daemon. */
static void target_labels(json_object *source, json_object *p, bool update)
{
	static const char *const keys[] = { CHECKPOINT_LABEL, CHECKPOINT_LABEL_LOCAL };
	json_object *labels = js_get(source, "labels"), *value;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		char *masked CLEANUP_FREE = mem_printf("labels.%s", keys[i]);

		if (update)
			js_push_str(js_array_at(p, "mask"), masked);
		if (labels && json_object_object_get_ex(labels, keys[i], &value))
			js_set(js_object_at(p, "labels"), keys[i], json_object_get(value));
	}
}

static int put(struct cli *cli, const char *method, const char *name, json_object *source,
	       struct fault *f)
{
	bool update = strcmp(method, "images.update") == 0;
	json_object *p = js_object();

	js_set_str(p, "name", name);
	js_set(p, "target", json_object_get(js_get(source, "target")));
	if (update)
		js_push_str(js_array_at(p, "mask"), "target");
	target_labels(source, p, update);
	return cli_call(cli, method, p, NULL, f);
}

static int tag(struct cli *cli)
{
	json_object *source CLEANUP_JSON = NULL;
	const char *name = cli->args[1];
	struct fault f = { 0 };
	int r;

	r = cli_image_find(cli, cli->args[0], 0, &source, &f);
	if (r == 0 && strcmp(js_str(source, "name"), name) != 0) {
		r = put(cli, "images.create", name, source, &f);
		if (r < 0 && f.code == FAULT_ALREADY_EXISTS)
			r = put(cli, "images.update", name, source, &f);
	}
	if (r < 0)
		return cli_fail(&f, NULL, "cannot tag %s", cli->args[0]);
	puts(name);
	return 0;
}

/* ---- rmi */

/* Ids of the containers that were made from it. */
static int users(struct cli *cli, const char *image, json_object **out, struct fault *f)
{
	static const char *const fields[] = { "id", "image", NULL };
	json_object *list CLEANUP_JSON = NULL;
	json_object *p = js_object();
	int r;

	js_set(p, "fields", js_strings(fields));
	r = cli_list(cli, "containers.list", p, "containers", &list, f);
	if (r < 0)
		return r;
	*out = js_array();
	for (size_t i = 0; i < js_len(list); i++) {
		/* Here and not by a filter, in which a name would have to be quoted. */
		if (strcmp(js_str(js_at(list, i), "image"), image) == 0)
			js_push_str(*out, js_str(js_at(list, i), "id"));
	}
	return 0;
}

static int end_users(struct cli *cli, const char *image, json_object *ids, struct fault *f)
{
	for (size_t i = 0; i < js_len(ids); i++) {
		const char *id = json_object_get_string(js_at(ids, i));
		int r;

		if (!args_flag(cli, "force"))
			return fault_set(
				f, FAULT_FAILED_PRECONDITION, 0,
				"the container %s%s uses it; remove %s first, or use 'davit rmi -f', which removes %s too",
				id, js_len(ids) > 1 ? " and others" : "",
				js_len(ids) > 1 ? "them" : "it", js_len(ids) > 1 ? "them" : "it");
		r = run_remove(cli, id, true, f);
		if (r < 0 && f->code != FAULT_NOT_FOUND) {
			fault_prefix(f, "the container %s, which uses %s", id, image);
			return r;
		}
	}
	return 0;
}

static int remove_one(struct cli *cli, const char *text, bool last, struct fault *f)
{
	json_object *image CLEANUP_JSON = NULL;
	json_object *ids CLEANUP_JSON = NULL;
	json_object *p;
	int r;

	r = cli_image_find(cli, text, IMAGE_FIND_ONE_NAME, &image, f);
	if (r == 0)
		r = users(cli, js_str(image, "name"), &ids, f);
	if (r == 0)
		r = end_users(cli, js_str(image, "name"), ids, f);
	if (r < 0)
		return r;
	p = js_object();
	js_set_str(p, "name", js_str(image, "name"));
	/* Its content is off the disk when the last is answered. */
	if (last)
		js_set_bool(p, "sync", true);
	r = cli_call(cli, "images.delete", p, NULL, f);
	if (r == 0)
		puts(js_str(image, "name"));
	return r;
}

static int rmi(struct cli *cli)
{
	int code = 0;

	for (size_t i = 0; i < cli->n_args; i++) {
		struct fault f = { 0 };
		int r = remove_one(cli, cli->args[i], i + 1 == cli->n_args, &f);

		if (r == 0 || (f.code == FAULT_NOT_FOUND && args_flag(cli, "force")))
			continue;
		cli_fail(&f, NULL, "cannot remove %s", cli->args[i]);
		if (f.code == FAULT_NOT_FOUND)
			code = code ? code : 1;
		else if (f.code == FAULT_FAILED_PRECONDITION)
			code = code > 1 ? code : 2;
		else
			code = CLI_EXIT_DAVIT;
	}
	return code;
}

const struct cli_command cmd_tag = {
	.name = "tag",
	.summary = "Give an image a further name",
	.usage = "IMAGE NAME",
	.details = "A name that another image has is moved to this one.\n",
	.min_args = 2,
	.max_args = 2,
	.complete = CLI_COMPLETE_IMAGES,
	.run = tag,
};

static const struct cli_option rmi_options[] = {
	{ .name = "force",
	  .letter = 'f',
	  .doc = "remove the containers made from it as well; an image that is not there is no error" },
	{ .name = NULL },
};

const struct cli_command cmd_rmi = {
	.name = "rmi",
	.summary = "Remove images",
	.usage = "IMAGE...",
	.details =
		"What no other image, container or lease needs goes from the disk. The exit code is 1 when an image does\n"
		"not exist and 2 when a container uses one.\n",
	.options = rmi_options,
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_IMAGES,
	.run = rmi,
};
