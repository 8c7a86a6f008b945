// SPDX-License-Identifier: Apache-2.0
/*
 * Commands with verbs, as `davit content verify DIGEST`
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"
#include "util/fault.h"

struct cli_verb {
	const char *name, *alias; /* alias NULL for none */
	/* what it takes, for the error when one is missing; "" for nothing */
	const char *arguments;
	size_t min_args, max_args; /* behind the verb; max 0 with min > 0: any number */
	/*
	 * 0, an exit code after it has reported itself, or negative with the fault filled. args:
	 * those behind the verb, NULL-terminated.
	 */
	int (*run)(struct cli *cli, char **args, size_t n, struct fault *f);
	const char *cannot; /* "list the leases": for the error */
};

/* The verb that the first argument names; the first of the list when there is none. Exit code. */
int verbs_run(struct cli *cli, const struct cli_verb *list);

/* Columns of a list. */
struct list_column {
	const char *title;
	void (*cell)(json_object *row, char *buf, size_t size);
};
/*
 * A list as --format and --quiet want it: JSON, the texts at `key` line by line, or a table. columns
 * ends with a NULL title.
 */
int list_print(struct cli *cli, json_object *rows, const char *key,
	       const struct list_column *columns, struct fault *f);
/* --filter options as the parameter `filters`; cells that many lists have. */
json_object *list_params(struct cli *cli);
void cell_created(json_object *row, char *buf, size_t size); /* "3 minutes ago" */
void cell_labels(json_object *row, char *buf, size_t size); /* "a=b,c=d" */
/* --label KEY=VALUE options into o.labels. */
int option_labels(struct cli *cli, json_object *o, struct fault *f);

#define CLI_OPTION_FILTER(example)                                                                 \
	{                                                                                          \
		.name = "filter", .letter = 'f', .argument = "FILTER",                             \
		.doc = "only those that match, as " example "; more than one: any of them",        \
		.flags = CLI_MULTI                                                                 \
	}
