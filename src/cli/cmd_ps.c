// SPDX-License-Identifier: Apache-2.0
/*
 * davit ps, davit inspect
 *
 * ps joins two lists, the containers and the tasks, by id. A container without a task was created
 * and never started, or its task went with a reboot.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/clock.h"

#define COMMAND_WIDTH 24

static json_object *fields(const char *const *names)
{
	json_object *p = js_object();

	js_set(p, "fields", js_strings(names));
	return p;
}

/* Tasks by container id: an object that borrows nothing. */
static int tasks_by_id(struct cli *cli, json_object **out, struct fault *f)
{
	json_object *list CLEANUP_JSON = NULL;
	int r = cli_list(cli, "tasks.list", NULL, "tasks", &list, f);

	if (r < 0)
		return r;
	*out = js_object();
	for (size_t i = 0; i < js_len(list); i++)
		js_set(*out, js_str(js_at(list, i), "container_id"),
		       json_object_get(js_at(list, i)));
	return 0;
}

static void status_text(json_object *task, char *buf, size_t size)
{
	const char *status = js_str(task, "status");
	char ago[48];

	if (strcmp(status, "stopped") == 0) {
		output_duration(clock_now() - js_int(task, "exited_at", 0), ago, sizeof(ago));
		snprintf(buf, size, "Exited (%lld) %s ago",
			 (long long)js_int(task, "exit_status", 255), ago);
	} else if (strcmp(status, "running") == 0 || strcmp(status, "pausing") == 0) {
		output_duration(clock_now() - js_int(task, "started_at", 0), ago, sizeof(ago));
		snprintf(buf, size, "Up %s%s", ago, *status == 'p' ? " (pausing)" : "");
	} else if (strcmp(status, "paused") == 0) {
		snprintf(buf, size, "Paused");
	} else if (!task || strcmp(status, "created") == 0) {
		snprintf(buf, size, "Created");
	} else {
		snprintf(buf, size, "Unknown");
	}
}

static bool lives(json_object *task)
{
	const char *status = js_str(task, "status");

	return strcmp(status, "running") == 0 || strcmp(status, "paused") == 0 ||
	       strcmp(status, "pausing") == 0;
}

static json_object *task_of(json_object *tasks, json_object *c)
{
	json_object *task;

	return json_object_object_get_ex(tasks, js_str(c, "id"), &task) ? task : NULL;
}

/*
 * What a container looks like to scripts: the record without its spec, the command, and the task.
 */
static json_object *row(json_object *c, json_object *task)
{
	static const char *const kept[] = { "id",      "labels",     "image",
					    "runtime", "created_at", "updated_at" };
	json_object *o = js_object(), *v;

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		if (json_object_object_get_ex(c, kept[i], &v))
			js_set(o, kept[i], json_object_get(v));
	}
	v = js_get(c, "spec.process.args");
	js_set(o, "command", v ? json_object_get(v) : js_array());
	js_set_str(o, "status", task ? js_str(task, "status") : "created");
	js_set_int(o, "pid", task && lives(task) ? js_int(task, "pid", 0) : 0);
	if (task)
		js_set(o, "task", json_object_get(task));
	return o;
}

static void print_table(json_object *rows, bool whole)
{
	static const char *const titles[] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED",
					      "STATUS",	      "PID",   NULL };
	struct table *t = table_new(titles);
	char text[96];

	for (size_t i = 0; i < js_len(rows); i++) {
		json_object *o = js_at(rows, i), *task = js_get(o, "task");
		char *command = output_command(js_get(o, "command"), whole ? 0 : COMMAND_WIDTH);

		table_cell(t, js_str(o, "id"));
		table_cell(t, *js_str(o, "image") ? js_str(o, "image") : "-");
		table_cell(t, command);
		free(command);
		output_duration(clock_now() - js_int(o, "created_at", 0), text, sizeof(text));
		table_cellf(t, "%s ago", text);
		status_text(task, text, sizeof(text));
		table_cell(t, text);
		if (js_int(o, "pid", 0))
			table_cellf(t, "%lld", (long long)js_int(o, "pid", 0));
		else
			table_cell(t, "");
	}
	table_print(t);
	table_free(t);
}

static int ps(struct cli *cli)
{
	/* The spec is large: it is fetched only for what is shown of it. */
	static const char *const brief[] = { "id", NULL };
	static const char *const full[] = {
		"id", "labels", "image", "runtime", "created_at", "updated_at", "spec.process.args",
		NULL
	};
	json_object *containers CLEANUP_JSON = NULL;
	json_object *tasks CLEANUP_JSON = NULL;
	json_object *rows CLEANUP_JSON = js_array();
	bool all = args_flag(cli, "all"), quiet = args_flag(cli, "quiet");
	json_object *params;
	struct fault f = { 0 };
	const char *filter;
	size_t at = 0;
	int json;

	json = output_format(cli, &f);
	if (json < 0)
		return cli_fail(&f, NULL, "ps");
	params = fields(quiet && !json ? brief : full);
	while ((filter = args_each(cli, "filter", &at)))
		js_push_str(js_array_at(params, "filters"), filter);
	if (cli_list(cli, "containers.list", params, "containers", &containers, &f) < 0 ||
	    tasks_by_id(cli, &tasks, &f) < 0)
		return cli_fail(&f, NULL, "cannot list the containers");
	for (size_t i = 0; i < js_len(containers); i++) {
		json_object *c = js_at(containers, i), *task = task_of(tasks, c);

		if (all || lives(task))
			js_push(rows, row(c, task));
	}
	if (json) {
		output_json(rows);
	} else if (quiet) {
		for (size_t i = 0; i < js_len(rows); i++)
			puts(js_str(js_at(rows, i), "id"));
	} else {
		print_table(rows, args_flag(cli, "no-trunc"));
	}
	return 0;
}

static int inspect(struct cli *cli)
{
	json_object *all CLEANUP_JSON = js_array();
	int code = 0;

	for (size_t i = 0; i < cli->n_args; i++) {
		json_object *answer CLEANUP_JSON = NULL;
		json_object *task CLEANUP_JSON = NULL;
		json_object *p = js_object(), *o;
		struct fault f = { 0 };

		js_set_str(p, "id", cli->args[i]);
		if (cli_call(cli, "containers.get", p, &answer, &f) < 0) {
			code = cli_fail(&f, NULL, "cannot inspect %s", cli->args[i]);
			continue;
		}
		o = json_object_get(js_get(answer, "container"));
		if (cli_call(cli, "tasks.get", cli_params(cli->args[i], NULL), &task, &f) == 0)
			js_set(o, "task", json_object_get(js_get(task, "process")));
		else if (f.code == FAULT_NOT_FOUND)
			js_set(o, "task", NULL);
		else
			code = cli_fail(&f, NULL, "cannot inspect the task of %s", cli->args[i]);
		js_push(all, o);
	}
	output_json(all);
	return code;
}

static const struct cli_option ps_options[] = {
	{ .name = "all", .letter = 'a', .doc = "also those that do not run" },
	CLI_OPTION_QUIET,
	{ .name = "filter",
	  .letter = 'f',
	  .argument = "FILTER",
	  .doc = "only those that match, as id==web, labels.app==shop; more than one: any of them",
	  .flags = CLI_MULTI },
	{ .name = "no-trunc", .doc = "whole commands" },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_ps = {
	.name = "ps",
	.summary = "List containers",
	.options = ps_options,
	.max_args = 0,
	.run = ps,
};

const struct cli_command cmd_inspect = {
	.name = "inspect",
	.summary = "Show all that is known of containers, as JSON",
	.usage = "NAME...",
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = inspect,
};
