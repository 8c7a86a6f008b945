// SPDX-License-Identifier: Apache-2.0
/*
 * Commands with verbs, and the lists that they print
 */
#include "cli/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/clock.h"

#define CELL_BYTES 512

static int unknown(struct cli *cli, const struct cli_verb *list, const char *verb)
{
	char *names CLEANUP_FREE = mem_strdup("");
	char *hint CLEANUP_FREE = mem_printf("see 'davit %s --help'", cli->command->name);
	struct fault f;

	for (const struct cli_verb *v = list; v->name; v++) {
		char *longer = mem_printf("%s%s%s", names,
					  v == list   ? ""
					  : v[1].name ? ", "
						      : " and ",
					  v->name);

		free(names);
		names = longer;
	}
	fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" is none of %s", verb, names);
	return cli_fail(&f, hint, "%s", cli->command->name);
}

int verbs_run(struct cli *cli, const struct cli_verb *list)
{
	const char *verb = cli->n_args ? cli->args[0] : list->name;
	size_t n = cli->n_args ? cli->n_args - 1 : 0;
	char **args = cli->args + (cli->n_args ? 1 : 0);
	const struct cli_verb *v = list;
	struct fault f = { 0 };
	int r;

	while (v->name && strcmp(v->name, verb) != 0 && (!v->alias || strcmp(v->alias, verb) != 0))
		v++;
	if (!v->name)
		return unknown(cli, list, verb);
	if (n < v->min_args || (n > v->max_args && (v->max_args || !v->min_args))) {
		char *hint CLEANUP_FREE = mem_printf("davit %s %s%s%s", cli->command->name, v->name,
						     *v->arguments ? " " : "", v->arguments);

		fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "%s",
			  n < v->min_args ? "an argument is missing"
					  : "there are too many arguments");
		return cli_fail(&f, hint, "%s %s", cli->command->name, v->name);
	}
	r = v->run(cli, args, n, &f);
	return r < 0 ? cli_fail(&f, NULL, "cannot %s", v->cannot) : r;
}

int list_print(struct cli *cli, json_object *rows, const char *key,
	       const struct list_column *columns, struct fault *f)
{
	const char *titles[16];
	char cell[CELL_BYTES];
	struct table *t;
	size_t n = 0;
	int json = output_format(cli, f);

	if (json < 0)
		return json;
	if (json) {
		output_json(rows);
		return 0;
	}
	if (args_flag(cli, "quiet")) {
		for (size_t i = 0; i < js_len(rows); i++)
			puts(js_str(js_at(rows, i), key));
		return 0;
	}
	while (columns[n].title && n + 1 < ARRAY_SIZE(titles)) {
		titles[n] = columns[n].title;
		n++;
	}
	titles[n] = NULL;
	t = table_new(titles);
	for (size_t i = 0; i < js_len(rows); i++) {
		for (size_t k = 0; k < n; k++) {
			*cell = '\0';
			columns[k].cell(js_at(rows, i), cell, sizeof(cell));
			table_cell(t, cell);
		}
	}
	table_print(t);
	table_free(t);
	return 0;
}

json_object *list_params(struct cli *cli)
{
	json_object *p = js_object();
	const char *filter;
	size_t at = 0;

	while ((filter = args_each(cli, "filter", &at)))
		js_push_str(js_array_at(p, "filters"), filter);
	return p;
}

void cell_created(json_object *row, char *buf, size_t size)
{
	char text[64];

	output_duration(clock_now() - js_int(row, "created_at", 0), text, sizeof(text));
	snprintf(buf, size, "%s ago", text);
}

void cell_labels(json_object *row, char *buf, size_t size)
{
	json_object *labels = js_get(row, "labels");
	size_t n = 0;

	if (!json_object_is_type(labels, json_type_object))
		return;
	json_object_object_foreach (labels, key, value) {
		int wanted = snprintf(buf + n, size - n, "%s%s=%s", n ? "," : "", key,
				      json_object_get_string(value));

		n += (size_t)wanted;
		if (n >= size) {
			strcpy(buf + size - 4, "...");
			return;
		}
	}
}

int option_labels(struct cli *cli, json_object *o, struct fault *f)
{
	const char *value;
	size_t at = 0;

	while ((value = args_each(cli, "label", &at))) {
		size_t n = strcspn(value, "=");
		char *key CLEANUP_FREE = mem_strndup(value, n);

		if (!n)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--label \"%s\" is not KEY=VALUE", value);
		js_set_str(js_object_at(o, "labels"), key, value[n] ? value + n + 1 : "");
	}
	return 0;
}
