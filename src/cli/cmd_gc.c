// SPDX-License-Identifier: Apache-2.0
/*
 * davit gc
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
#include "cli/progress.h"
#include "util/clock.h"

static void print(json_object *o, bool dry)
{
	static const struct {
		const char *key, *one, *many;
	} kinds[] = { { "removed.content", "blob", "blobs" },
		      { "removed.snapshots", "snapshot", "snapshots" },
		      { "removed.leases", "lease", "leases" },
		      { "removed.ingests", "ingest", "ingests" } };
	char *text CLEANUP_FREE = mem_strdup("");
	char size[16];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int64_t n = js_int(o, kinds[i].key, 0);
		char *longer;

		if (!n)
			continue;
		longer = mem_printf("%s%s%lld %s", text, *text ? ", " : "", (long long)n,
				    n == 1 ? kinds[i].one : kinds[i].many);
		free(text);
		text = longer;
	}
	output_size((uint64_t)js_int(o, "bytes", 0), size, sizeof(size));
	if (!*text)
		printf("nothing to remove (%.3f s)\n",
		       (double)js_int(o, "duration", 0) / (double)CLOCK_NS_PER_SEC);
	else
		printf("%s: %s, %s (%.3f s)\n", dry ? "would be removed" : "removed", text, size,
		       (double)js_int(o, "duration", 0) / (double)CLOCK_NS_PER_SEC);
}

static int gc(struct cli *cli)
{
	bool status = cli->n_args && strcmp(cli->args[0], "status") == 0,
	     dry = args_flag(cli, "dry-run");
	json_object *answer CLEANUP_JSON = NULL;
	struct progress_call call = { .method = status ? "gc.status" : "gc.run",
				      .what = "Collecting garbage",
				      .watch = -1 };
	struct fault f = { 0 };
	int json = output_format(cli, &f);

	if (json >= 0 && cli->n_args && !status)
		json = fault_set(&f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" is not \"status\"",
				 cli->args[0]);
	if (json < 0)
		return cli_fail(&f, NULL, "gc");
	call.params = js_object();
	if (dry && !status)
		js_set_bool(call.params, "dry", true);
	if (progress_run(cli, &call, &answer, &f) < 0)
		return cli_fail(&f, NULL, "cannot collect the garbage");
	if (json || status)
		output_json(answer);
	else
		print(answer, dry);
	return 0;
}

static const struct cli_option options[] = {
	{ .name = "dry-run", .doc = "only tell what would go" },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_gc = {
	.name = "gc",
	.summary = "Remove what nothing refers to any more",
	.usage = "[status]",
	.details =
		"Garbage collection also runs by itself, a while after something was removed. It covers all namespaces.\n"
		"status tells about the last run and what is due, as JSON.\n",
	.options = options,
	.max_args = 1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "status",
	.run = gc,
};
