// SPDX-License-Identifier: Apache-2.0
/*
 * davit export
 */
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/outfile.h"
#include "cli/output.h"
#include "cli/progress.h"

static int names(struct cli *cli, json_object **out, struct fault *f)
{
	json_object *list CLEANUP_JSON = js_array();

	for (size_t i = 0; i < cli->n_args; i++) {
		json_object *image CLEANUP_JSON = NULL;
		int r = cli_image_find(cli, cli->args[i], 0, &image, f);

		if (r < 0)
			return r;
		js_push_str(list, js_str(image, "name"));
	}
	*out = TAKE_PTR(list);
	return 0;
}

static int request(struct cli *cli, struct outfile *out, struct fault *f)
{
	char *what CLEANUP_FREE = mem_printf("Exporting %s%s", cli->args[0],
					     cli->n_args > 1 ? " and others" : "");
	const char *format = args_get(cli, "format"), *platform = args_get(cli, "platform");
	json_object *list = NULL;
	struct progress_call call = { .method = "images.export",
				      .fds = &out->fd,
				      .n_fds = 1,
				      .what = what,
				      .events = true,
				      .watch = -1 };
	int r = names(cli, &list, f);

	if (r < 0)
		return r;
	call.params = js_object();
	js_set(call.params, "names", list);
	js_set_str(call.params, "stream", "fd:0");
	if (format)
		js_set_str(call.params, "format", format);
	if (platform)
		js_set_str(call.params, "platform", platform);
	return progress_run(cli, &call, NULL, f);
}

static int export(struct cli *cli)
{
	struct outfile out CLEANUP(outfile_clear) = { .fd = -1 };
	const char *path = args_get(cli, "output"), *format = args_get(cli, "format");
	struct fault f = { 0 };
	int r;

	if (format && strcmp(format, "oci") != 0 && strcmp(format, "docker") != 0) {
		fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "--format takes oci or docker, not \"%s\"",
			  format);
		return cli_fail(&f, NULL, "export");
	}
	r = outfile_open(&out, path ? path : "-", &f);
	if (r == 0)
		r = request(cli, &out, &f);
	if (r == 0)
		r = outfile_finish(&out, &f);
	return r < 0 ? cli_fail(&f, NULL, "cannot export %s", cli->args[0]) : 0;
}

static const struct cli_option options[] = {
	{ .name = "output",
	  .letter = 'o',
	  .argument = "FILE",
	  .doc = "write to this file (stdout)",
	  .flags = CLI_FILE },
	{ .name = "format",
	  .argument = "FORMAT",
	  .doc = "oci (the default), or docker for 'docker load' as well",
	  .words = "oci docker" },
	{ .name = "platform",
	  .argument = "PLATFORM",
	  .doc = "only this one of an image for several, as linux/arm64" },
	{ .name = NULL },
};

const struct cli_command cmd_export = {
	.name = "export",
	.summary = "Write images into an archive",
	.usage = "IMAGE...",
	.details = "The archive is a tar of an OCI image layout. Equal images give equal bytes.\n",
	.options = options,
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_IMAGES,
	.run = export,
};
