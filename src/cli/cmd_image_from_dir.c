// SPDX-License-Identifier: Apache-2.0
/*
 * davit image-from-dir
 *
 * The config begins as what --config gives, a whole OCI image config or only its member "config";
 * options change it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/create_image.h"
#include "cli/envlist.h"
#include "cli/input.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/spec.h"
#include "cli/units.h"
#include "util/json.h"
#include "util/limits.h"

static int config_read(struct cli *cli, json_object **out, struct fault *f)
{
	const char *text = args_get(cli, "config");
	int r;

	if (!text) {
		*out = js_object();
		return 0;
	}
	r = *text == '{' ? json_parse(text, strlen(text), out, f)
			 : json_parse_input(text, LIMIT_MANIFEST_BYTES, out, f);
	if (r == 0 && !json_object_is_type(*out, json_type_object))
		r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "it is no JSON map");
	if (r < 0)
		fault_prefix(f, "--config");
	return r;
}

/* The member that options change: of a whole config, or the map itself. */
static json_object *config_inner(json_object *config)
{
	static const char *const whole[] = { "config", "rootfs", "architecture", "os", "history" };

	for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
		if (json_object_object_get_ex(config, whole[i], NULL))
			return js_object_at(config, "config");
	}
	return config;
}

static int words(struct cli *cli, json_object *o, const char *option, const char *member,
		 struct fault *f)
{
	char *shown CLEANUP_FREE = mem_printf("--%s", option);
	const char *text = args_get(cli, option);
	json_object *list = NULL;
	int r;

	if (!text)
		return 0;
	r = spec_words(shown, text, &list, f);
	if (r == 0)
		js_set(o, member, list);
	return r;
}

static int options_apply(struct cli *cli, json_object *o, struct fault *f)
{
	const char *value;
	size_t at = 0;
	int sig, r;

	r = words(cli, o, "entrypoint", "Entrypoint", f);
	if (r == 0)
		r = words(cli, o, "cmd", "Cmd", f);
	while (r == 0 && (value = args_each(cli, "env", &at)))
		r = envlist_option(js_array_at(o, "Env"), value, f);
	if (r < 0)
		return r;
	value = args_get(cli, "workdir");
	if (value && *value != '/')
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "--workdir \"%s\" does not begin with '/'", value);
	if (value)
		js_set_str(o, "WorkingDir", value);
	if (args_get(cli, "user"))
		js_set_str(o, "User", args_get(cli, "user"));
	value = args_get(cli, "stop-signal");
	if (value) {
		char name[16];

		r = units_signal(value, &sig, f);
		if (r < 0)
			return r;
		js_set_str(o, "StopSignal", units_signal_name(sig, name));
	}
	at = 0;
	while ((value = args_each(cli, "volume", &at))) {
		if (*value != '/')
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--volume \"%s\" does not begin with '/'", value);
		js_set(js_object_at(o, "Volumes"), value, js_object());
	}
	at = 0;
	while ((value = args_each(cli, "label", &at))) {
		size_t n = strcspn(value, "=");
		char *key CLEANUP_FREE = mem_strndup(value, n);

		if (!n)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--label \"%s\" is not KEY=VALUE", value);
		js_set_str(js_object_at(o, "Labels"), key, value[n] ? value + n + 1 : "");
	}
	return cli_image_config_check(o, f);
}

static int make(struct cli *cli, json_object *config, json_object **answer, struct fault *f)
{
	struct input in CLEANUP(input_clear) = { .fd = -1 };
	char *what CLEANUP_FREE = NULL;
	struct progress_call call = {
		.method = "images.from_dir", .fds = &in.fd, .n_fds = 1, .events = true, .watch = -1
	};
	int r = input_open(&in, cli->args[0], f);

	if (r < 0)
		return r;
	what = mem_printf("Packing %s", in.shown);
	call.what = what;
	if (in.size) {
		call.watch = in.fd;
		call.watch_size = in.size;
	}
	call.params = js_object();
	js_set_str(call.params, "stream", "fd:0");
	js_set_str(call.params, "name", cli->args[1]);
	if (json_object_object_length(config))
		js_set_str(
			call.params, "config",
			mem_need((void *)json_object_to_json_string_ext(
				config, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)));
	return progress_run(cli, &call, answer, f);
}

static int image_from_dir(struct cli *cli)
{
	json_object *config CLEANUP_JSON = NULL;
	json_object *answer CLEANUP_JSON = NULL;
	struct fault f = { 0 };
	int json = output_format(cli, &f), r;

	if (json < 0)
		return cli_fail(&f, NULL, "image-from-dir");
	r = config_read(cli, &config, &f);
	if (r == 0)
		r = options_apply(cli, config_inner(config), &f);
	if (r == 0)
		r = make(cli, config, &answer, &f);
	if (r < 0)
		return cli_fail(&f, NULL, "cannot make the image %s", cli->args[1]);
	if (json)
		output_json(js_get(answer, "image"));
	else
		puts(js_str(answer, "image.name"));
	return 0;
}

static const struct cli_option options[] = {
	{ .name = "config",
	  .argument = "FILE",
	  .doc = "OCI image config to begin with, as JSON: a file, or a text that begins with {",
	  .flags = CLI_FILE },
	{ .name = "entrypoint",
	  .argument = "COMMAND",
	  .doc = "program that every container runs: a word or a JSON array of words" },
	{ .name = "cmd",
	  .argument = "COMMAND",
	  .doc = "what it runs unless a command is given: a word or a JSON array of words" },
	{ .name = "env",
	  .letter = 'e',
	  .argument = "KEY=VALUE",
	  .doc = "environment variable",
	  .flags = CLI_MULTI },
	{ .name = "workdir", .letter = 'w', .argument = "DIR", .doc = "working directory (/)" },
	{ .name = "user",
	  .letter = 'u',
	  .argument = "USER[:GROUP]",
	  .doc = "user, by name or number (root)" },
	{ .name = "volume",
	  .letter = 'v',
	  .argument = "DIR",
	  .doc = "folder that is a volume in every container",
	  .flags = CLI_MULTI },
	{ .name = "stop-signal",
	  .argument = "SIGNAL",
	  .doc = "what 'davit stop' sends first (SIGTERM)" },
	{ .name = "label",
	  .letter = 'l',
	  .argument = "KEY=VALUE",
	  .doc = "label, which its containers get too",
	  .flags = CLI_MULTI },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_image_from_dir = {
	.name = "image-from-dir",
	.summary = "Make an image of a folder, or of a tar of files",
	.usage = "(DIR | FILE | -) NAME",
	.details =
		"The files become one layer. An image of that name is replaced. - is a tar from stdin.\n",
	.options = options,
	.min_args = 2,
	.max_args = 2,
	.complete = CLI_COMPLETE_FILES,
	.run = image_from_dir,
};
