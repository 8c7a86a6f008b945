// SPDX-License-Identifier: Apache-2.0
/*
 * davit content
 *
 * Blobs are named by their digest, or by the beginning of one that no other has.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "util/clock.h"
#include "util/digest.h"
#include "util/fd.h"

#define CHUNK (1u << 20)

static json_object *digest_params(const char *digest)
{
	json_object *p = js_object();

	js_set_str(p, "digest", digest);
	return p;
}

/* The whole digest that a text means; a whole one is not looked for. */
static int resolve(struct cli *cli, const char *text, char **out, struct fault *f)
{
	static const char *const fields[] = { "digest", NULL };
	const char *hex = strncmp(text, "sha256:", 7) == 0 ? text + 7 : text, *found = NULL;
	json_object *all CLEANUP_JSON = NULL;
	json_object *p;
	size_t n = strlen(hex);
	int r;

	if (digest_valid(text)) {
		*out = mem_strdup(text);
		return 0;
	}
	if (n < 3 || strspn(hex, "0123456789abcdef") != n)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "\"%s\" is neither a digest nor three digits or more of one",
				 text);
	p = js_object();
	js_set(p, "fields", js_strings(fields));
	r = cli_list(cli, "content.list", p, "contents", &all, f);
	if (r < 0)
		return r;
	for (size_t i = 0; i < js_len(all); i++) {
		const char *digest = js_str(js_at(all, i), "digest"), *colon = strchr(digest, ':');

		if (!colon || strncmp(colon + 1, hex, n) != 0)
			continue;
		if (found)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "more than one digest begins with %s; give more of it",
					 text);
		found = digest;
	}
	if (!found)
		return fault_set(f, FAULT_NOT_FOUND, 0,
				 "no content has a digest that begins with %s", text);
	*out = mem_strdup(found);
	return 0;
}

/* ---- list, active */

static void cell_digest(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "digest"));
}

static void cell_size(json_object *row, char *buf, size_t size)
{
	output_size((uint64_t)js_int(row, "size", 0), buf, size);
}

static int list(struct cli *cli, char **args, size_t n, struct fault *f)
{
	static const struct list_column columns[] = {
		{ "DIGEST", cell_digest }, { "SIZE", cell_size }, { "CREATED", cell_created },
		{ "LABELS", cell_labels }, { NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	int r = cli_list(cli, "content.list", list_params(cli), "contents", &all, f);

	(void)args;
	(void)n;
	return r < 0 ? r : list_print(cli, all, "digest", columns, f);
}

static void cell_ref(json_object *row, char *buf, size_t size)
{
	snprintf(buf, size, "%s", js_str(row, "ref"));
}

static void cell_offset(json_object *row, char *buf, size_t size)
{
	output_size((uint64_t)js_int(row, "offset", 0), buf, size);
}

static void cell_total(json_object *row, char *buf, size_t size)
{
	int64_t total = js_int(row, "total", -1);

	if (total > 0)
		output_size((uint64_t)total, buf, size);
	else
		snprintf(buf, size, "-");
}

static void cell_started(json_object *row, char *buf, size_t size)
{
	char text[64];

	output_duration(clock_now() - js_int(row, "started_at", 0), text, sizeof(text));
	snprintf(buf, size, "%s ago", text);
}

static int active(struct cli *cli, char **args, size_t n, struct fault *f)
{
	static const struct list_column columns[] = {
		{ "REF", cell_ref },	 { "WRITTEN", cell_offset },
		{ "TOTAL", cell_total }, { "STARTED", cell_started },
		{ NULL, NULL },
	};
	json_object *all CLEANUP_JSON = NULL;
	int r = cli_list(cli, "content.list_statuses", list_params(cli), "statuses", &all, f);

	(void)args;
	(void)n;
	return r < 0 ? r : list_print(cli, all, "ref", columns, f);
}

/* ---- one blob */

static int get(struct cli *cli, char **args, size_t n, struct fault *f)
{
	char *digest CLEANUP_FREE = NULL;
	char *buf CLEANUP_FREE = mem_alloc(CHUNK);
	json_object *p;
	int fd CLEANUP_CLOSE = -1;
	ssize_t got;
	int r;

	(void)n;
	r = resolve(cli, args[0], &digest, f);
	if (r < 0)
		return r;
	p = digest_params(digest);
	js_set_bool(p, "fd", true);
	r = cli_call_for_fd(cli, "content.read", p, &fd, NULL, f);
	if (r < 0)
		return r;
	while ((got = read(fd, buf, CHUNK)) > 0) {
		r = fd_write_all(STDOUT_FILENO, buf, (size_t)got);
		if (r < 0)
			return fault_sys(f, -r, "writing to", "stdout");
	}
	return got < 0 ? fault_sys(f, errno, "reading the content", digest) : 0;
}

static int info(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *all CLEANUP_JSON = js_array();

	for (size_t i = 0; i < n; i++) {
		json_object *answer CLEANUP_JSON = NULL;
		char *digest CLEANUP_FREE = NULL;
		int r = resolve(cli, args[i], &digest, f);

		if (r == 0)
			r = cli_call(cli, "content.info", digest_params(digest), &answer, f);
		if (r < 0)
			return r;
		js_push(all, json_object_get(js_get(answer, "info")));
	}
	output_json(all);
	return 0;
}

/* One after the other, each with an error of its own. */
static int each(struct cli *cli, char **args, size_t n, const char *method, const char *cannot,
		const char *what)
{
	int code = 0;

	for (size_t i = 0; i < n; i++) {
		char *digest CLEANUP_FREE = NULL;
		char *shown CLEANUP_FREE = mem_printf("%s %s", what ? what : "", args[i]);
		struct progress_call call = {
			.method = method, .what = shown, .events = what != NULL, .watch = -1
		};
		struct fault f = { 0 };
		int r = resolve(cli, args[i], &digest, &f);

		if (r == 0) {
			call.params = digest_params(digest);
			r = what ? progress_run(cli, &call, NULL, &f)
				 : cli_call(cli, method, call.params, NULL, &f);
		}
		if (r == 0)
			puts(digest);
		else
			code = cli_fail(&f, NULL, "cannot %s %s", cannot, args[i]);
		if (cli->interrupted)
			break;
	}
	return code;
}

static int verify(struct cli *cli, char **args, size_t n, struct fault *f)
{
	(void)f;
	return each(cli, args, n, "content.verify", "verify", "Verifying");
}

static int rm(struct cli *cli, char **args, size_t n, struct fault *f)
{
	(void)f;
	return each(cli, args, n, "content.delete", "remove", NULL);
}

/* Beside the labels that are there; an empty value takes one away. */
static int label(struct cli *cli, char **args, size_t n, struct fault *f)
{
	json_object *p CLEANUP_JSON = NULL;
	char *digest CLEANUP_FREE = NULL;
	int r = resolve(cli, args[0], &digest, f);

	if (r < 0)
		return r;
	p = digest_params(digest);
	for (size_t i = 1; i < n; i++) {
		size_t key_n = strcspn(args[i], "=");
		char *key CLEANUP_FREE = mem_strndup(args[i], key_n);
		char *path CLEANUP_FREE = mem_printf("labels.%s", key);

		if (!key_n || !args[i][key_n])
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "\"%s\" is not KEY=VALUE",
					 args[i]);
		js_set_str(js_object_at(p, "labels"), key, args[i] + key_n + 1);
		js_push_str(js_array_at(p, "mask"), path);
	}
	r = cli_call(cli, "content.update", TAKE_PTR(p), NULL, f);
	if (r == 0)
		puts(digest);
	return r;
}

static int abort_refs(struct cli *cli, char **args, size_t n, struct fault *f)
{
	int code = 0;

	(void)f;
	for (size_t i = 0; i < n; i++) {
		json_object *p = js_object();
		struct fault why = { 0 };

		js_set_str(p, "ref", args[i]);
		if (cli_call(cli, "content.abort", p, NULL, &why) < 0)
			code = cli_fail(&why, NULL, "cannot abort %s", args[i]);
		else
			puts(args[i]);
	}
	return code;
}

static int content(struct cli *cli)
{
	static const struct cli_verb verbs[] = {
		{ "list", "ls", "", 0, 0, list, "list the content" },
		{ "get", "cat", "DIGEST", 1, 1, get, "get the content" },
		{ "info", NULL, "DIGEST...", 1, 0, info, "show the content" },
		{ "verify", NULL, "DIGEST...", 1, 0, verify, "verify the content" },
		{ "label", NULL, "DIGEST KEY=VALUE...", 2, (size_t)-1, label, "label the content" },
		{ "rm", "delete", "DIGEST...", 1, 0, rm, "remove the content" },
		{ "active", NULL, "", 0, 0, active, "list what is being written" },
		{ "abort", NULL, "REF...", 1, 0, abort_refs, "abort" },
		{ 0 },
	};

	return verbs_run(cli, verbs);
}

static const struct cli_option options[] = {
	CLI_OPTION_QUIET,
	CLI_OPTION_FILTER("size==12, labels.app==shop"),
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_content = {
	.name = "content",
	.summary = "List, read, verify, label and remove blobs",
	.usage =
		"[list | get DIGEST | info DIGEST... | verify DIGEST... | label DIGEST KEY=VALUE... | rm DIGEST... | active | abort REF...]",
	.details =
		"get writes a blob to stdout, info shows its labels, verify hashes it again. active lists what is being\n"
		"written, and abort drops it. A label with an empty value is taken away. The beginning of a digest will do.\n",
	.options = options,
	.max_args = -1,
	.complete = CLI_COMPLETE_WORDS,
	.words = "list get info verify label rm active abort",
	.run = content,
};
