// SPDX-License-Identifier: Apache-2.0
/*
 * davit leases
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/units.h"
#include "cli/verbs.h"
#include "util/clock.h"

static void cell_id(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "id"));
}

static void cell_expires(json_object *row, char *buf, size_t size)
{
	int64_t at = js_int(row, "expires_at", 0);
	char text[64];

	if (!at) {
		snprintf(buf, size, "never");
		return;
	}
	output_duration(at - clock_now(), text, sizeof(text));
	snprintf(buf, size, at > clock_now() ? "in %s" : "expired", text);
}

static int list(struct cli *cli, char **args, size_t n, struct fault *f)
{
	static const struct list_column columns[] = {
		{ "ID", cell_id },
		{ "CREATED", cell_created },
		{ "EXPIRES", cell_expires },
		{ "LABELS", cell_labels },
		{ NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	int r = cli_list(cli, "leases.list", list_params(cli), "leases", &all, f);

	(void)args;
	(void)n;
	return r < 0 ? r : list_print(cli, all, "id", columns, f);
}

/* "90", "90s", "15m", "12h", "7d" */
static int duration(const char *text, int64_t *ns, struct fault *f)
{
	static const struct {
		char unit;
		int seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	size_t n = strlen(text);
	int64_t factor = 1, value;

	for (size_t i = 0; n && i < ARRAY_SIZE(units); i++) {
		if (text[n - 1] == units[i].unit) {
			char *number CLEANUP_FREE = mem_strndup(text, n - 1);
			int r = units_int(number, 1, INT32_MAX, &value, f);

			factor = units[i].seconds;
			*ns = value * factor * CLOCK_NS_PER_SEC;
			/* 2^31 days are more than an int of ns holds */
			if (r == 0 && value > INT64_MAX / CLOCK_NS_PER_SEC / factor / 4)
				r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s is too long", text);
			return r;
		}
	}
	if (units_int(text, 1, INT32_MAX, &value, f) < 0)
		return -EINVAL;
	*ns = value * CLOCK_NS_PER_SEC;
	return 0;
}

static int create(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p CLEANUP_JSON = js_object();
	const char *expire = args_get(cli, "expire");
	int64_t ns;
	int r = option_labels(cli, p, f);

	if (r == 0 && expire) {
		r = duration(expire, &ns, f);
		if (r < 0)
			fault_prefix(f, "--expire");
		else
			js_set_int(p, "expire", ns);
	}
	if (r < 0)
		return r;
	if (n)
		js_set_str(p, "id", args[0]);
	r = cli_call(cli, "leases.create", TAKE_PTR(p), &answer, f);
	if (r == 0)
		puts(js_str(answer, "lease.id"));
	return r;
}

static int rm(struct cli *cli, char **args, size_t n, struct fault *f)
{
	int code = 0;

	(void)f;
	for (size_t i = 0; i < n; i++) {
		json_object *p = js_object();
		struct fault why = { 0 };

		js_set_str(p, "id", args[i]);
		if (args_flag(cli, "sync") && i + 1 == n)
			js_set_bool(p, "sync", true);
		if (cli_call(cli, "leases.delete", p, NULL, &why) < 0)
			code = cli_fail(&why, NULL, "cannot remove the lease %s", args[i]);
		else
			puts(args[i]);
	}
	return code;
}

static void cell_type(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "type"));
}

static int resources(struct cli *cli, char **args, size_t n, struct fault *f)
{
	static const struct list_column columns[] = {
		{ "TYPE", cell_type },
		{ "ID", cell_id },
		{ NULL, NULL },
	};
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object();
	int r;

	(void)n;
	js_set_str(p, "id", args[0]);
	r = cli_list(cli, "leases.list_resources", p, "resources", &answer, f);
	return r < 0 ? r : list_print(cli, answer, "id", columns, f);
}

static int change(struct cli *cli, const char *method, char **args, struct fault *f)
{
	json_object *p = js_object();
	json_object *o = js_object_at(p, "resource");

	js_set_str(p, "id", args[0]);
	js_set_str(o, "type", args[1]);
	js_set_str(o, "id", args[2]);
	return cli_call(cli, method, p, NULL, f);
}

static int add(struct cli *cli, char **args, size_t n, struct fault *f)
{
	(void)n;
	return change(cli, "leases.add_resource", args, f);
}

static int drop(struct cli *cli, char **args, size_t n, struct fault *f)
{
	(void)n;
	return change(cli, "leases.delete_resource", args, f);
}

static int leases(struct cli *cli)
{
	static const struct cli_verb verbs[] = {
		{ "list", "ls", "", 0, 0, list, "list the leases" },
		{ "create", NULL, "[ID]", 0, 1, create, "make the lease" },
		{ "rm", "delete", "ID...", 1, 0, rm, "remove the lease" },
		{ "resources", NULL, "ID", 1, 1, resources, "list what the lease keeps" },
		{ "add", NULL, "ID TYPE RESOURCE", 3, 3, add, "add to the lease" },
		{ "drop", NULL, "ID TYPE RESOURCE", 3, 3, drop, "take from the lease" },
		{ 0 },
	};

	return verbs_run(cli, verbs);
}

static const struct cli_option options[] = {
	{ .name = "expire",
	  .argument = "TIME",
	  .doc = "for create: it ends by itself after so many seconds, or as 15m, 12h, 7d (never)" },
	{ .name = "label",
	  .letter = 'l',
	  .argument = "KEY=VALUE",
	  .doc = "for create",
	  .flags = CLI_MULTI },
	{ .name = "sync", .doc = "for rm: collect the garbage before it is done" },
	CLI_OPTION_QUIET,
	CLI_OPTION_FILTER("id==build, labels.app==shop"),
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_leases = {
	.name = "leases",
	.summary = "List, create and remove leases, and what they keep",
	.usage =
		"[list | create [ID] | rm ID... | resources ID | add ID TYPE RESOURCE | drop ID TYPE RESOURCE]",
	.details =
		"A lease keeps content, snapshots, images and ingests from garbage collection while nothing else refers to\n"
		"them. TYPE is content, images, ingests, or snapshots/NAME with a snapshotter's name.\n",
	.options = options,
	.max_args = -1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "list create rm resources add drop",
	.run = leases,
};
