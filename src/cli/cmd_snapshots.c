// SPDX-License-Identifier: Apache-2.0
/*
 * davit snapshots
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/snapmount.h"
#include "cli/verbs.h"

/* labels by which garbage collection keeps a snapshot */
#define GC_ROOT "containerd.io/gc.root"
#define GC_EXPIRE "containerd.io/gc.expire"

static json_object *snapshot_params(struct cli *cli, const char *key)
{
	json_object *p = js_object();

	if (args_get(cli, "snapshotter"))
		js_set_str(p, "snapshotter", args_get(cli, "snapshotter"));
	if (key)
		js_set_str(p, "key", key);
	return p;
}

static int all_of(struct cli *cli, json_object **out, struct fault *f)
{
	json_object *p = list_params(cli);

	if (args_get(cli, "snapshotter"))
		js_set_str(p, "snapshotter", args_get(cli, "snapshotter"));
	return cli_list(cli, "snapshots.list", p, "snapshots", out, f);
}

/* ---- list, tree */

static void cell_name(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "name"));
}

static void cell_parent(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "parent"));
}

static void cell_kind(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "kind"));
}

static int list(struct cli *cli, char **args, size_t n, struct fault *f)
{
	static const struct list_column columns[] = {
		{ "KEY", cell_name },  { "PARENT", cell_parent },
		{ "KIND", cell_kind }, { "CREATED", cell_created },
		{ NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	int r = all_of(cli, &all, f);

	(void)args;
	(void)n;
	return r < 0 ? r : list_print(cli, all, "name", columns, f);
}

static void print_name(const char *name)
{
	/* Names are anybody's: none may steer the terminal. */
	for (; *name; name++)
		putchar((unsigned char)*name < ' ' || *name == 0x7f ? '?' : *name);
	putchar('\n');
}

/*
 * Children of `parent`, each with its own below. `left` keeps a list that changed while it was read
 * from leading round in a circle.
 */
static void branch(json_object *all, const char *parent, const char *before, size_t *left)
{
	size_t last = js_len(all);

	for (size_t i = 0; i < js_len(all); i++) {
		if (strcmp(js_str(js_at(all, i), "parent"), parent) == 0)
			last = i;
	}
	for (size_t i = 0; i <= last && i < js_len(all); i++) {
		const char *name = js_str(js_at(all, i), "name");
		char *below CLEANUP_FREE = NULL;

		if (strcmp(js_str(js_at(all, i), "parent"), parent) != 0 || !*left)
			continue;
		--*left;
		below = mem_printf("%s%s", before, !*parent ? "  " : i == last ? "   " : "|  ");
		if (*parent)
			printf("%s%s", before, i == last ? "`- " : "|- ");
		print_name(name);
		branch(all, name, *parent ? below : "", left);
	}
}

static int tree(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *all CLEANUP_JSON = NULL;
	size_t left;
	int r = all_of(cli, &all, f);

	(void)args;
	(void)n;
	if (r < 0)
		return r;
	left = js_len(all);
	branch(all, "", "", &left);
	return 0;
}

/* ---- one */

static int info(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *all CLEANUP_JSON = js_array();

	for (size_t i = 0; i < n; i++) {
		json_object *answer CLEANUP_JSON = NULL;
		int r = cli_call(cli, "snapshots.stat", snapshot_params(cli, args[i]), &answer, f);

		if (r < 0)
			return r;
		js_push(all, json_object_get(js_get(answer, "info")));
	}
	output_json(all);
	return 0;
}

static void cell_key(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "key"));
}

static void cell_size(json_object *row, char *buf, size_t size)
{
	output_size((uint64_t)js_int(row, "size", 0), buf, size);
}

static void cell_inodes(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%lld", (long long)js_int(row, "inodes", 0));
}

static int usage_one(struct cli *cli, const char *key, bool may_be_gone, json_object *rows,
		     struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	int r = cli_call(cli, "snapshots.usage", snapshot_params(cli, key), &answer, f);

	if (r < 0)
		return may_be_gone && f->code == FAULT_NOT_FOUND ? 0 : r;
	js_set_str(answer, "key", key);
	js_push(rows, TAKE_PTR(answer));
	return 0;
}

static int usage(struct cli *cli, char **args, size_t n, struct fault *f)
{
	static const struct list_column columns[] = {
		{ "KEY", cell_key },
		{ "SIZE", cell_size },
		{ "INODES", cell_inodes },
		{ NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	json_object *rows CLEANUP_JSON = js_array();
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = usage_one(cli, args[i], false, rows, f);
	if (!n)
		r = all_of(cli, &all, f);
	for (size_t i = 0; r == 0 && i < js_len(all); i++)
		r = usage_one(cli, js_str(js_at(all, i), "name"), true, rows, f);
	return r < 0 ? r : list_print(cli, rows, "key", columns, f);
}

/* target NULL: a word in its place */
static int print_mounts(struct cli *cli, json_object *answer, const char *target, struct fault *f)
{
	json_object *mounts = js_get(answer, "mounts");
	int json = output_format(cli, f);

	if (json < 0)
		return json;
	if (json)
		output_json(mounts);
	for (size_t i = 0; !json && i < js_len(mounts); i++) {
		int r = snapmount_print(js_at(mounts, i), target, f);

		if (r < 0)
			return r;
	}
	return 0;
}

static int mounts(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	int r = cli_call(cli, "snapshots.mounts", snapshot_params(cli, args[0]), &answer, f);

	return r < 0 ? r : print_mounts(cli, answer, n > 1 ? args[1] : NULL, f);
}

/*
 * What is made here by hand nobody else refers to, so without a label it would be gone with the next
 * collection. Who gives one that says how long it stays has it so.
 */
static int kept_labels(struct cli *cli, json_object *p, struct fault *f)
{
	json_object *labels = js_object_at(p, "labels");
	int r = option_labels(cli, p, f);
	time_t now = time(NULL);
	struct tm tm;
	char text[32];

	if (r < 0 || json_object_object_get_ex(labels, GC_ROOT, NULL) ||
	    json_object_object_get_ex(labels, GC_EXPIRE, NULL))
		return r;
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	js_set_str(labels, GC_ROOT, text);
	return 0;
}

static int make(struct cli *cli, const char *method, char **args, size_t n, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p CLEANUP_JSON = snapshot_params(cli, args[0]);
	int r = kept_labels(cli, p, f);

	if (r < 0)
		return r;
	if (n > 1)
		js_set_str(p, "parent", args[1]);
	r = cli_call(cli, method, TAKE_PTR(p), &answer, f);
	if (r < 0)
		return r;
	r = print_mounts(cli, answer, NULL, f);
	if (r < 0)
		fault_prefix(f, "it is there, but");
	return r;
}

static int prepare(struct cli *cli, char **args, size_t n, struct fault *f)
{
	return make(cli, "snapshots.prepare", args, n, f);
}

static int view(struct cli *cli, char **args, size_t n, struct fault *f)
{
	return make(cli, "snapshots.view", args, n, f);
}

static int commit(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *p CLEANUP_JSON = snapshot_params(cli, args[0]);
	int r = kept_labels(cli, p, f);

	(void)n;
	if (r < 0)
		return r;
	js_set_str(p, "name", args[1]);
	r = cli_call(cli, "snapshots.commit", TAKE_PTR(p), NULL, f);
	if (r == 0)
		puts(args[1]);
	return r;
}

static int rm(struct cli *cli, char **args, size_t n, struct fault *f)
{
	int code = 0;

	(void)f;
	for (size_t i = 0; i < n; i++) {
		struct fault why = { 0 };

		if (cli_call(cli, "snapshots.remove", snapshot_params(cli, args[i]), NULL, &why) <
		    0)
			code = cli_fail(&why, NULL, "cannot remove %s", args[i]);
		else
			puts(args[i]);
	}
	return code;
}

static int snapshots(struct cli *cli)
{
	static const struct cli_verb verbs[] = {
		{ "list", "ls", "", 0, 0, list, "list the snapshots" },
		{ "tree", NULL, "", 0, 0, tree, "list the snapshots" },
		{ "info", NULL, "KEY...", 1, 0, info, "show the snapshot" },
		{ "usage", NULL, "[KEY...]", 0, (size_t)-1, usage, "tell the usage" },
		{ "mounts", NULL, "KEY [TARGET]", 1, 2, mounts, "tell the mounts" },
		{ "prepare", NULL, "KEY [PARENT]", 1, 2, prepare, "prepare the snapshot" },
		{ "view", NULL, "KEY [PARENT]", 1, 2, view, "make the view" },
		{ "commit", NULL, "KEY NAME", 2, 2, commit, "commit the snapshot" },
		{ "rm", "remove", "KEY...", 1, 0, rm, "remove the snapshot" },
		{ 0 },
	};

	return verbs_run(cli, verbs);
}

static const struct cli_option options[] = {
	{ .name = "snapshotter",
	  .argument = "NAME",
	  .doc = "overlayfs or native (what the daemon uses by itself)",
	  .words = "overlayfs native" },
	{ .name = "label",
	  .letter = 'l',
	  .argument = "KEY=VALUE",
	  .doc = "for prepare, view and commit",
	  .flags = CLI_MULTI },
	CLI_OPTION_QUIET,
	CLI_OPTION_FILTER("kind==active, name==web, labels.app==shop"),
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_snapshots = {
	.name = "snapshots",
	.summary = "List, make, mount and remove snapshots",
	.usage =
		"[list | tree | info KEY... | usage [KEY...] | mounts KEY [TARGET] | prepare KEY [PARENT] | view KEY [PARENT] | commit KEY NAME | rm KEY...]",
	.details =
		"mounts, prepare and view print the commands that mount a snapshot. What is made here stays until rm: it\n"
		"gets the label containerd.io/gc.root, unless that or containerd.io/gc.expire is given.\n",
	.options = options,
	.max_args = -1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "list tree info usage mounts prepare view commit rm",
	.run = snapshots,
};
