// SPDX-License-Identifier: Apache-2.0
/*
 * davit version
 */
#include <stdio.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/output.h"

#ifndef DAVIT_VERSION
#define DAVIT_VERSION "0"
#endif
#ifndef DAVIT_REVISION
#define DAVIT_REVISION ""
#endif

static void print(const char *who, const char *version, const char *revision)
{
	printf("%-7s %s%s%s%s\n", who, version, *revision ? " (" : "", revision,
	       *revision ? ")" : "");
}

/* A daemon that does not run is no error: the client has a version all the same. */
static int version(struct cli *cli)
{
	json_object *server CLEANUP_JSON = NULL;
	json_object *o CLEANUP_JSON = js_object();
	json_object *client = js_object();
	struct fault f = { 0 };
	int json, r;

	json = output_format(cli, &f);
	if (json < 0) {
		json_object_put(client);
		return cli_fail(&f, NULL, "version");
	}
	js_set_str(client, "version", DAVIT_VERSION);
	js_set_str(client, "revision", DAVIT_REVISION);
	js_set(o, "client", client);
	cli->autostart = false;
	r = cli_call(cli, "version", NULL, &server, &f);
	js_set(o, "server", r < 0 ? NULL : json_object_get(server));
	if (json) {
		output_json(o);
		return 0;
	}
	print("client", DAVIT_VERSION, DAVIT_REVISION);
	if (r == 0)
		print("server", js_str(server, "version"), js_str(server, "revision"));
	else if (f.code == FAULT_UNAVAILABLE)
		printf("%-7s not running\n", "server");
	else
		return cli_fail(&f, NULL, "cannot ask the daemon");
	return 0;
}

static const struct cli_option options[] = {
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_version = {
	.name = "version",
	.summary = "Show the versions of client and daemon",
	.options = options,
	.max_args = 0,
	.run = version,
};
