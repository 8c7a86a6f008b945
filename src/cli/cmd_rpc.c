// SPDX-License-Identifier: Apache-2.0
/*
 * davit rpc, davit describe: the interface itself
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "util/json.h"
#include "util/limits.h"

static int read_stdin(char **text, size_t *size, struct fault *f)
{
	char *buf = NULL;
	size_t n = 0, got;

	do {
		if (n > LIMIT_FRAME_BYTES) {
			free(buf);
			return fault_set(f, FAULT_RESOURCE_EXHAUSTED, 0,
					 "the text on stdin is larger than a request may be");
		}
		buf = mem_need(realloc(buf, n + 65536));
		got = fread(buf + n, 1, 65536, stdin);
		n += got;
	} while (got);
	*text = buf;
	*size = n;
	return 0;
}

static int rpc(struct cli *cli)
{
	const char *method = cli->args[0];
	json_object *params = NULL, *result CLEANUP_JSON = NULL;
	char *text CLEANUP_FREE = NULL;
	struct fault f = { 0 };
	size_t size = 0;
	int r = 0;

	if (cli->n_args > 1 && strcmp(cli->args[1], "-") == 0) {
		r = read_stdin(&text, &size, &f);
	} else if (cli->n_args > 1) {
		text = mem_strdup(cli->args[1]);
		size = strlen(text);
	}
	if (r == 0 && text)
		r = json_parse(text, size, &params, &f);
	if (r == 0 && text && !json_object_is_type(params, json_type_object))
		r = fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "it is no map");
	if (r < 0) {
		json_object_put(params);
		return cli_fail(
			&f, "the arguments of a method are one JSON object, as '{\"id\": \"web\"}'",
			"cannot read the arguments");
	}
	if (cli_call(cli, method, params, &result, &f) < 0)
		return cli_fail(&f,
				f.code == FAULT_UNIMPLEMENTED ? "'davit describe' lists the methods"
							      : NULL,
				"%s", fault_code_name(f.code));
	output_json(result);
	return 0;
}

static const char *type_of(json_object *v)
{
	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

static void parameters(json_object *list, bool markdown)
{
	for (size_t i = 0; i < js_len(list); i++) {
		json_object *p = js_at(list, i), *dflt = js_get(p, "default");
		const char *name = js_str(p, "name");

		if (markdown) {
			printf("| `%s` | %s | %s | %s |\n", name, js_str(p, "type"),
			       js_bool(p, "required") ? "required"
			       : dflt		      ? type_of(dflt)
						      : "",
			       js_str(p, "doc"));
		} else {
			printf("  %-18s %-14s %s%s%s%s\n", name, js_str(p, "type"),
			       js_str(p, "doc"), js_bool(p, "required") ? " (required)" : "",
			       dflt && *type_of(dflt) ? " Default: " : "",
			       dflt ? type_of(dflt) : "");
		}
	}
}

static void print_method(json_object *m)
{
	printf("%s: %s\n", js_str(m, "name"), js_str(m, "summary"));
	if (js_len(js_get(m, "params"))) {
		puts("\nParameters:");
		parameters(js_get(m, "params"), false);
	}
	if (js_len(js_get(m, "result"))) {
		puts("\nResult:");
		parameters(js_get(m, "result"), false);
	}
	if (js_len(js_get(m, "errors"))) {
		printf("\nErrors:");
		for (size_t i = 0; i < js_len(js_get(m, "errors")); i++)
			printf(" %s", json_object_get_string(js_at(js_get(m, "errors"), i)));
		putchar('\n');
	}
}

static void print_markdown(json_object *api)
{
	json_object *methods = js_get(api, "methods"), *errors = js_get(api, "errors"),
		    *topics = js_get(api, "topics");

	puts("# Methods");
	for (size_t i = 0; i < js_len(methods); i++) {
		json_object *m = js_at(methods, i);

		printf("\n## %s\n\n%s\n", js_str(m, "name"), js_str(m, "summary"));
		if (js_len(js_get(m, "params"))) {
			puts("\n| parameter | type | default | |\n|---|---|---|---|");
			parameters(js_get(m, "params"), true);
		}
		if (js_len(js_get(m, "result"))) {
			puts("\n| result | type | | |\n|---|---|---|---|");
			parameters(js_get(m, "result"), true);
		}
	}
	puts("\n# Errors\n\n| code | |\n|---|---|");
	for (size_t i = 0; i < js_len(errors); i++)
		printf("| `%s` | %s |\n", js_str(js_at(errors, i), "code"),
		       js_str(js_at(errors, i), "doc"));
	puts("\n# Events\n\n| topic | fields | |\n|---|---|---|");
	for (size_t i = 0; i < js_len(topics); i++) {
		json_object *t = js_at(topics, i), *fields = js_get(t, "fields");

		printf("| `%s` |", js_str(t, "name"));
		for (size_t k = 0; k < js_len(fields); k++)
			printf(" %s", json_object_get_string(js_at(fields, k)));
		printf(" | %s |\n", js_str(t, "doc"));
	}
}

static int print_table(json_object *api, const char *name, struct fault *f)
{
	static const char *const titles[] = { "METHOD", "SUMMARY", NULL };
	json_object *methods = js_get(api, "methods");
	struct table *t;

	for (size_t i = 0; name && i < js_len(methods); i++) {
		if (strcmp(js_str(js_at(methods, i), "name"), name) == 0) {
			print_method(js_at(methods, i));
			return 0;
		}
	}
	if (name)
		return fault_set(f, FAULT_NOT_FOUND, 0,
				 "there is no method %s; 'davit describe' lists them", name);
	t = table_new(titles);
	for (size_t i = 0; i < js_len(methods); i++) {
		table_cell(t, js_str(js_at(methods, i), "name"));
		table_cell(t, js_str(js_at(methods, i), "summary"));
	}
	table_print(t);
	table_free(t);
	return 0;
}

static int describe(struct cli *cli)
{
	const char *format = args_get(cli, "format");
	json_object *api CLEANUP_JSON = NULL;
	struct fault f = { 0 };
	int r;

	r = format && strcmp(format, "markdown") == 0 ? 2 : output_format(cli, &f);
	if (r < 0)
		return cli_fail(&f, "or markdown", "describe");
	if (cli_call(cli, "rpc.describe", NULL, &api, &f) < 0)
		return cli_fail(&f, NULL, "cannot ask the daemon for its methods");
	if (r == 2)
		print_markdown(api);
	else if (r == 1)
		output_json(api);
	else if (print_table(api, cli->n_args ? cli->args[0] : NULL, &f) < 0)
		return cli_fail(&f, NULL, "describe");
	return 0;
}

const struct cli_command cmd_rpc = {
	.name = "rpc",
	.summary = "Call any method of the daemon and print its answer as JSON",
	.usage = "METHOD [JSON | -]",
	.details =
		"The arguments are one JSON object; - reads it from stdin. Numbers are integers as the method wants them.\n",
	.min_args = 1,
	.max_args = 2,
	.run = rpc,
};

static const struct cli_option describe_options[] = {
	{ .name = "format",
	  .argument = "FORMAT",
	  .doc = "table (the default), json or markdown",
	  .words = "table json markdown" },
	{ .name = NULL },
};

const struct cli_command cmd_describe = {
	.name = "describe",
	.summary = "Show the daemon's methods, or one of them",
	.usage = "[METHOD]",
	.options = describe_options,
	.max_args = 1,
	.run = describe,
};
