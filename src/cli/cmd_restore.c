// SPDX-License-Identifier: Apache-2.0
/*
 * davit restore
 *
 * A container is made as the checkpoint's record says (restore_*.c), with a task that comes from the
 * checkpoint instead of a program that is started. From then on it is a container as any other, and
 * run.c has it in the foreground or in the background. What fails before the container runs leaves
 * nothing behind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/create.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/restore.h"
#include "cli/run.h"

static void restore_clear(struct restore *r)
{
	cli_restore_drop_source(r);
	cli_checkpoint_clear(&r->c);
	free(r->image);
	free(r->folder);
	free(r->id);
	json_object_put(r->spec);
	json_object_put(r->external);
	json_object_put(r->volumes);
	free(r->snapshotter);
	free(r->key);
	json_object_put(r->labels);
	json_object_put(r->snapshots);
}

/* ---- what it is to be */

static int taken(const struct restore *r, struct fault *f)
{
	return fault_set(
		f, FAULT_ALREADY_EXISTS, 0,
		"there is a container %s already; give the restored one another name with --name, or remove that one with 'davit rm %s'",
		r->id, r->id);
}

static int name(struct restore *r, struct fault *f)
{
	const char *given = args_get(r->cli, "name");
	json_object *p = js_object();
	int e;

	r->id = mem_strdup(given ? given : js_str(r->c.record, "container.id"));
	js_set_str(p, "id", r->id);
	e = cli_call(r->cli, "containers.get", p, NULL, f);
	if (e == 0)
		return taken(r, f);
	return f->code == FAULT_NOT_FOUND ? 0 : e;
}

static int check_tcp(struct restore *r, struct fault *f)
{
	bool had = js_bool(r->c.record, "options.open_tcp"),
	     established = args_flag(r->cli, "tcp-established");

	if (established && args_flag(r->cli, "tcp-close"))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "--tcp-established and --tcp-close exclude each other");
	if (established && !had)
		return fault_set(
			f, FAULT_FAILED_PRECONDITION, 0,
			"--tcp-established: the checkpoint was taken without established connections");
	return 0;
}

/* The daemon's folder of snapshots, "" when it does not tell. */
static char *snapshots_folder(struct cli *cli)
{
	json_object *answer CLEANUP_JSON = NULL;
	struct fault ignored;

	if (cli_call(cli, "server.info", NULL, &answer, &ignored) < 0 || !*js_str(answer, "root"))
		return mem_strdup("");
	return mem_printf("%s/snapshots", js_str(answer, "root"));
}

/* A stream that went outside of the container is given one again. */
static bool has_stdin(const struct restore *r)
{
	const char *text = json_object_get_string(js_at(js_get(r->c.record, "stdio"), 0));

	return text && *text;
}

static void labels(struct restore *r, bool interactive)
{
	json_object *recorded = js_get(r->c.record, "container.labels");

	r->labels = js_object();
	json_object_object_foreach (recorded, key, value) {
		/* Those that steer davit are not an archive's to give. */
		if (strncmp(key, "davit.", 6) != 0 && strncmp(key, "containerd.io/", 14) != 0 &&
		    json_object_is_type(value, json_type_string))
			js_set(r->labels, key, json_object_get(value));
	}
	if (args_flag(r->cli, "rm"))
		js_set_str(r->labels, LABEL_AUTO_REMOVE, "true");
	if (interactive)
		js_set_str(r->labels, LABEL_INTERACTIVE, "true");
}

static int create(struct restore *r, struct fault *f)
{
	const char *image = js_str(r->c.record, "container.image");
	json_object *p = js_object();
	int e;

	js_set_str(p, "id", r->id);
	js_set(p, "labels", json_object_get(r->labels));
	js_set_str(p, "spec",
		   mem_need((void *)json_object_to_json_string_ext(
			   r->spec, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)));
	if (r->key) {
		js_set_str(p, "image", image);
		js_set_str(p, "snapshotter", r->snapshotter);
		js_set_str(p, "snapshot_key", r->key);
	}
	e = cli_call(r->cli, "containers.create", p, NULL, f);
	return e < 0 && f->code == FAULT_ALREADY_EXISTS ? taken(r, f) : e;
}

/* All that is there before the task. */
static int prepare(struct restore *r, struct fault *f)
{
	char *folder CLEANUP_FREE = NULL;
	int e;

	e = cli_restore_find(r, r->cli->args[0], f);
	if (e == 0)
		e = name(r, f);
	if (e == 0)
		e = check_tcp(r, f);
	if (e < 0)
		return e;
	labels(r, js_bool(r->c.record, "terminal") || has_stdin(r));
	folder = snapshots_folder(r->cli);
	e = cli_restore_spec(r, folder, f);
	if (e == 0)
		e = cli_restore_root(r, f);
	return e < 0 ? e : create(r, f);
}

/* ---- the task */

static int more_params(const struct restore *r, json_object *p, struct fault *f)
{
	json_object *options = js_object();
	const char *work = args_get(r->cli, "work-path");
	int e;

	if (r->folder)
		js_set_str(p, "checkpoint", r->folder);
	else
		js_set(p, "checkpoint", json_object_get(r->c.target));
	if (r->external)
		js_set(options, "external_mounts", json_object_get(r->external));
	if (args_flag(r->cli, "tcp-close"))
		js_set_bool(options, "tcp_close", true);
	if (work) {
		char *path CLEANUP_FREE = cli_checkpoint_absolute(work);

		js_set_str(options, "criu_work_path", path);
	}
	e = cli_checkpoint_stall(r->cli, options, f);
	js_set(p, "options", options);
	return e;
}

static void created(void *user)
{
	cli_restore_drop_source(user);
}

static int run(struct restore *r, struct fault *f)
{
	json_object *more CLEANUP_JSON = js_object();
	char *what CLEANUP_FREE = mem_printf("Restoring %s", r->id);
	bool terminal = js_bool(r->c.record, "terminal"), detach = args_flag(r->cli, "detach");
	struct run run = { .id = r->id,
			   .tty = terminal,
			   .interactive = terminal || has_stdin(r),
			   .remove = args_flag(r->cli, "rm"),
			   .of_image = r->snapshots != NULL,
			   .more = more,
			   .what = what,
			   .created = created,
			   .user = r };
	struct fault ignored;
	int e, status = 0;

	e = more_params(r, more, f);
	if (e == 0)
		e = detach ? run_background(r->cli, &run, f)
			   : run_foreground(r->cli, &run, &status, f);
	if (e < 0) {
		/* One that runs, although we know nothing of it any more, stays. */
		if (run_remove(r->cli, r->id, false, &ignored) == 0)
			cli_restore_root_undo(r);
		return e;
	}
	if (detach)
		puts(r->id);
	return status;
}

static int restore(struct cli *cli)
{
	struct restore r CLEANUP(restore_clear) = { .cli = cli };
	struct fault f = { 0 };
	int e;

	e = prepare(&r, &f);
	if (e < 0)
		cli_restore_root_undo(&r);
	else
		e = run(&r, &f);
	return e < 0 ? cli_fail(&f, NULL, "cannot restore %s", cli->args[0]) : e;
}

static const struct cli_option options[] = {
	{ .name = "name",
	  .argument = "NAME",
	  .doc = "name of the container (as it was called when the checkpoint was taken)" },
	{ .name = "detach",
	  .letter = 'd',
	  .doc = "run in the background, its output goes to the log; print the name" },
	{ .name = "rm", .doc = "remove the container after its end" },
	{ .name = "rootfs",
	  .argument = "DIR",
	  .doc = "its root file system is this folder",
	  .flags = CLI_FILE },
	{ .name = "volume",
	  .letter = 'v',
	  .argument = "SRC:DST",
	  .doc = "mount this path of the host where the container had another one",
	  .flags = CLI_MULTI | CLI_FILE },
	{ .name = "device",
	  .argument = "SRC[:DST]",
	  .doc = "give it a device that it had, when the checkpoint comes from elsewhere",
	  .flags = CLI_MULTI | CLI_FILE },
	{ .name = "network",
	  .argument = "MODE",
	  .doc = "none, host, container:NAME, or a namespace's path, instead of what it had",
	  .words = "none host" },
	{ .name = "tcp-established",
	  .doc = "keep established TCP connections (the default, when the checkpoint has them)" },
	{ .name = "tcp-close", .doc = "close them instead" },
	{ .name = "stall-timeout",
	  .argument = "SECONDS",
	  .doc = "give up when nothing has moved for so long; 0: never (30)" },
	{ .name = "work-path",
	  .argument = "DIR",
	  .doc = "where criu leaves its log",
	  .flags = CLI_FILE },
	{ .name = "trust",
	  .doc = "give a checkpoint from elsewhere all that it asks for: it gets to be root here" },
	{ .name = NULL },
};

const struct cli_command cmd_restore = {
	.name = "restore",
	.summary = "Make a container of a checkpoint, and let it go on",
	.usage = "CHECKPOINT",
	.details =
		"CHECKPOINT is an image that 'davit checkpoints' shows, a short form of its name or a digest; an archive that\n"
		"'davit checkpoint --export' or podman has written; or a folder with criu's files.\n"
		"Without -d the exit code is the container's. Terminal and stdin are as they were.\n",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_CHECKPOINTS,
	.run = restore,
};
