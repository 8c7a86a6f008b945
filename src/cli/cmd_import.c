// SPDX-License-Identifier: Apache-2.0
/*
 * davit import
 *
 * A file is passed on; its offset, which moves with the daemon's reading, is the progress bar. A
 * folder is named to the daemon.
 */
#include <stdio.h>

#include "cli/args.h"
#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/input.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/progress.h"

static int request(struct cli *cli, const struct input *in, json_object **images, struct fault *f)
{
	static const char *const texts[] = { "name", "platform" };
	char *what CLEANUP_FREE = mem_printf("Importing %s", in->shown);
	json_object *answer CLEANUP_JSON = NULL;
	struct progress_call call = { .method = "images.import",
				      .params = js_object(),
				      .fds = &in->fd,
				      .n_fds = !in->folder,
				      .what = what,
				      .events = true,
				      .watch = in->size ? in->fd : -1,
				      .watch_size = in->size };
	int r;

	if (in->folder)
		js_set_str(call.params, "path", in->path);
	else
		js_set_str(call.params, "stream", "fd:0");
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		if (args_get(cli, texts[i]))
			js_set_str(call.params, texts[i], args_get(cli, texts[i]));
	}
	if (args_flag(cli, "all-platforms"))
		js_set_bool(call.params, "all_platforms", true);
	r = progress_run(cli, &call, &answer, f);
	if (r == 0)
		*images = json_object_get(js_get(answer, "images"));
	return r;
}

/* A checkpoint of a container that had no image, or whose image is not in it. */
static bool has_layers(struct cli *cli, json_object *image)
{
	struct checkpoint c CLEANUP(cli_checkpoint_clear) = { 0 };
	struct fault ignored;

	return cli_checkpoint_read(cli, image, &c, &ignored) != 0 || c.has_base;
}

static int import(struct cli *cli)
{
	const char *platform = args_get(cli, "platform");
	struct input in CLEANUP(input_clear) = { .fd = -1 };
	json_object *images CLEANUP_JSON = NULL;
	struct fault f = { 0 };
	int json, code = 0;

	json = output_format(cli, &f);
	if (json < 0)
		return cli_fail(&f, NULL, "import");
	if (args_flag(cli, "all-platforms") && platform) {
		fault_set(&f, FAULT_INVALID_ARGUMENT, 0,
			  "--platform and --all-platforms exclude each other");
		return cli_fail(&f, NULL, "import");
	}
	if (input_open(&in, cli->args[0], &f) < 0 || request(cli, &in, &images, &f) < 0)
		return cli_fail(&f, NULL, "cannot import %s", cli->args[0]);
	for (size_t i = 0; i < js_len(images) && !args_flag(cli, "no-unpack"); i++) {
		const char *name = js_str(js_at(images, i), "name");

		if (!has_layers(cli, js_at(images, i)))
			continue;
		if (cli_image_unpack(cli, name, platform, NULL, NULL, NULL, &f) < 0) {
			code = cli_fail(&f, "it is imported; 'davit rmi' removes it",
					"cannot unpack %s", name);
			if (cli->interrupted)
				return code;
		}
	}
	if (json)
		output_json(images);
	for (size_t i = 0; !json && i < js_len(images); i++)
		puts(js_str(js_at(images, i), "name"));
	return code;
}

static const struct cli_option options[] = {
	{ .name = "name",
	  .argument = "NAME",
	  .doc = "name for an archive's only image, or for one that has none" },
	{ .name = "platform",
	  .argument = "PLATFORM",
	  .doc = "of an image for several, as linux/arm64 (this machine's)" },
	{ .name = "all-platforms", .doc = "keep all of them" },
	{ .name = "no-unpack", .doc = "leave the layers packed until the first container" },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_import = {
	.name = "import",
	.summary = "Make images of an archive or an OCI layout",
	.usage = "(PATH | -)",
	.details =
		"PATH is a tar, also compressed by gzip or zstd, of an OCI image layout or as 'docker save' makes it, or a\n"
		"folder with such a layout. - is stdin. The names of the images are printed.\n",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_FILES,
	.run = import,
};
