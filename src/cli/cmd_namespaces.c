// SPDX-License-Identifier: Apache-2.0
/*
 * davit namespaces
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
#include "cli/verbs.h"

static char *label_text(json_object *labels)
{
	char *text = mem_strdup("");

	if (!labels)
		return text;
	json_object_object_foreach (labels, key, value) {
		char *longer = mem_printf("%s%s%s=%s", text, *text ? "," : "", key,
					  json_object_get_string(value));

		free(text);
		text = longer;
	}
	return text;
}

static int list(struct cli *cli, struct fault *f)
{
	static const char *const titles[] = { "NAME", "LABELS", NULL };
	json_object *all CLEANUP_JSON = NULL;
	struct table *t;
	int json, r;

	json = output_format(cli, f);
	if (json < 0)
		return json;
	r = cli_list(cli, "namespaces.list", NULL, "namespaces", &all, f);
	if (r < 0)
		return r;
	if (json) {
		output_json(all);
		return 0;
	}
	if (args_flag(cli, "quiet")) {
		for (size_t i = 0; i < js_len(all); i++)
			puts(js_str(js_at(all, i), "name"));
		return 0;
	}
	t = table_new(titles);
	for (size_t i = 0; i < js_len(all); i++) {
		char *labels = label_text(js_get(js_at(all, i), "labels"));

		table_cell(t, js_str(js_at(all, i), "name"));
		table_cell(t, labels);
		free(labels);
	}
	table_print(t);
	table_free(t);
	return 0;
}

static int change(struct cli *cli, const char *method, const char *name, bool with_labels,
		  struct fault *f)
{
	json_object *p CLEANUP_JSON = js_object();
	int r;

	js_set_str(p, "name", name);
	r = with_labels ? option_labels(cli, p, f) : 0;
	if (r == 0)
		r = cli_call(cli, method, TAKE_PTR(p), NULL, f);
	if (r == 0)
		puts(name);
	return r;
}

static int namespaces(struct cli *cli)
{
	const char *verb = cli->n_args ? cli->args[0] : "list";
	struct fault f = { 0 };
	int code = 0;

	if (strcmp(verb, "list") == 0 || strcmp(verb, "ls") == 0) {
		if (list(cli, &f) < 0)
			return cli_fail(&f, NULL, "cannot list the namespaces");
		return 0;
	}
	if (strcmp(verb, "create") != 0 && strcmp(verb, "rm") != 0 && strcmp(verb, "label") != 0) {
		fault_set(&f, FAULT_INVALID_ARGUMENT, 0,
			  "\"%s\" is none of list, create, label and rm", verb);
		return cli_fail(&f, "see 'davit namespaces --help'", "namespaces");
	}
	if (cli->n_args < 2) {
		fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "a name is missing");
		return cli_fail(&f, "see 'davit namespaces --help'", "namespaces %s", verb);
	}
	for (size_t i = 1; i < cli->n_args; i++) {
		const char *method = *verb == 'c'   ? "namespaces.create"
				     : *verb == 'l' ? "namespaces.update"
						    : "namespaces.delete";

		if (change(cli, method, cli->args[i], *verb != 'r', &f) < 0)
			code = cli_fail(&f, NULL, "cannot %s the namespace %s",
					*verb == 'r' ? "remove" : verb, cli->args[i]);
	}
	return code;
}

static const struct cli_option options[] = {
	{ .name = "label",
	  .letter = 'l',
	  .argument = "KEY=VALUE",
	  .doc = "for create and label",
	  .flags = CLI_MULTI },
	CLI_OPTION_QUIET,
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_namespaces = {
	.name = "namespaces",
	.summary = "List, create, label and remove namespaces",
	.usage = "[list | create NAME... | label NAME... | rm NAME...]",
	.details = "A namespace is also made by its first use. Only an empty one can be removed.\n",
	.options = options,
	.max_args = -1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "list create label rm",
	.run = namespaces,
};
