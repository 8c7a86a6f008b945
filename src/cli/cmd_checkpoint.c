// SPDX-License-Identifier: Apache-2.0
/*
 * davit checkpoint
 *
 * What can be refused is refused before the checkpoint is taken: after `--exit` the container has
 * ended. Once there is a checkpoint, whatever fails afterwards (an export) leaves it, and the error
 * says so.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/outfile.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/units.h"

enum form { FORM_OCI, FORM_PODMAN, FORM_CONTAINERD, FORM_FOLDER };
static const char *const forms[] = { "davit-oci", "podman", "containerd", "criu-dir" };

struct exporting {
	const char *path; /* NULL: no export */
	enum form form;
	const char *compression; /* NULL: the daemon's choice */
	struct outfile file; /* fd -1 for a folder */
};

static void exporting_clear(struct exporting *e)
{
	outfile_clear(&e->file);
}

/* ---- options */

static int invalid(struct fault *f, const char *message)
{
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s", message);
}

static int flags(struct cli *cli, json_object *o, struct fault *f)
{
	static const struct {
		const char *option, *member;
	} known[] = {
		{ "exit", "exit" },
		{ "tcp-established", "open_tcp" },
		{ "ext-unix-sk", "external_unix_sockets" },
		{ "shell-job", "terminal" },
		{ "file-locks", "file_locks" },
		{ "link-remap", "link_remap" },
	};

	if (args_flag(cli, "exit") && args_flag(cli, "leave-running"))
		return invalid(f, "--exit and --leave-running exclude each other");
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (args_flag(cli, known[i].option))
			js_set_bool(o, known[i].member, true);
	}
	return 0;
}

static int words(struct cli *cli, json_object *o, struct fault *f)
{
	static const struct {
		const char *option, *member;
		const char *words[8];
	} known[] = {
		{ "compression", "compression", { "zstd", "none" } },
		{ "network-lock", "network_lock", { "iptables", "nftables", "skip" } },
		{ "cgroups-mode",
		  "cgroups_mode",
		  { "ignore", "none", "props", "soft", "full", "strict" } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		const char *value = args_get(cli, known[i].option);
		const char *const *w = known[i].words;
		char *all CLEANUP_FREE = mem_strdup("");

		if (!value)
			continue;
		for (; *w && strcmp(*w, value) != 0; w++) {
			char *longer = mem_printf("%s%s%s", all, *all ? ", " : "", *w);

			free(all);
			all = longer;
		}
		if (!*w)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "--%s \"%s\" is none of %s",
					 known[i].option, value, all);
		js_set_str(o, known[i].member, value);
	}
	return 0;
}

static int numbers(struct cli *cli, json_object *o, struct fault *f)
{
	const char *level = args_get(cli, "level"), *compression = args_get(cli, "compression");
	int64_t n;
	int r = 0;

	if (level && compression && strcmp(compression, "none") == 0)
		return invalid(f, "--level is for --compression zstd");
	if (level) {
		r = units_int(level, -7, 19, &n, f);
		if (r < 0)
			fault_prefix(f, "--level");
		else
			js_set_int(o, "level", n);
	}
	return r == 0 ? cli_checkpoint_stall(cli, o, f) : r;
}

static int options_read(struct cli *cli, json_object *o, struct fault *f)
{
	static const struct {
		const char *option, *member;
	} paths[] = { { "image-path", "image_path" }, { "work-path", "work_path" } };
	const char *value;
	size_t at = 0;
	int r;

	r = flags(cli, o, f);
	if (r == 0)
		r = words(cli, o, f);
	if (r == 0)
		r = numbers(cli, o, f);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(paths); i++) {
		char *path CLEANUP_FREE = NULL;

		value = args_get(cli, paths[i].option);
		if (!value)
			continue;
		path = cli_checkpoint_absolute(value);
		js_set_str(o, paths[i].member, path);
	}
	while (r == 0 && (value = args_each(cli, "empty-ns", &at)))
		js_push_str(js_array_at(o, "empty_namespaces"), value);
	return r;
}

/* Before the checkpoint is taken: the daemon would refuse it only afterwards. */
static int compression_check(const struct exporting *e, struct fault *f)
{
	static const char *const known[] = { "zstd", "gzip", "none" };
	bool archive = e->form == FORM_PODMAN || e->form == FORM_CONTAINERD ||
		       (e->form == FORM_FOLDER && strcmp(e->path, "-") == 0);

	if (!archive)
		return invalid(f, "--export-compression is for archives in the formats podman, "
				  "containerd and criu-dir (to stdout)");
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(e->compression, known[i]))
			return 0;
	return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
			 "--export-compression takes zstd, gzip or none, not \"%s\"",
			 e->compression);
}

static int export_read(struct cli *cli, struct exporting *e, struct fault *f)
{
	const char *format = args_get(cli, "format");
	size_t form = 0;

	e->path = args_get(cli, "export");
	e->compression = args_get(cli, "export-compression");
	if (format && !e->path)
		return invalid(f, "--format is for --export FILE");
	if (e->compression && !e->path)
		return invalid(f, "--export-compression is for --export FILE");
	if (!e->path)
		return 0;
	if (args_get(cli, "image-path"))
		return invalid(
			f,
			"--image-path makes no image that could be exported; leave --export out, "
			"or export with --format criu-dir instead");
	while (format && form < ARRAY_SIZE(forms) && strcmp(format, forms[form]) != 0)
		form++;
	if (form == ARRAY_SIZE(forms))
		return fault_set(
			f, FAULT_INVALID_ARGUMENT, 0,
			"--format takes davit-oci, podman, containerd or criu-dir, not \"%s\"",
			format);
	e->form = (enum form)form;
	if (e->compression && compression_check(e, f) < 0)
		return -EINVAL;
	/* on stdout it is a tar of the folder */
	return e->form != FORM_FOLDER || strcmp(e->path, "-") == 0
		       ? outfile_open(&e->file, e->path, f)
		       : 0;
}

/* ---- export */

static int export(struct cli *cli, struct exporting *e, const char *image, struct fault *f)
{
	char *what CLEANUP_FREE = mem_printf("Exporting %s", image);
	char *path CLEANUP_FREE = cli_checkpoint_absolute(e->path);
	struct progress_call call = {
		.params = js_object(), .what = what, .events = true, .watch = -1
	};
	bool folder = e->form == FORM_FOLDER && e->file.fd < 0;
	int r;

	if (e->form == FORM_OCI) {
		call.method = "images.export";
		js_push_str(js_array_at(call.params, "names"), image);
	} else {
		call.method = "checkpoints.export";
		js_set_str(call.params, "name", image);
		js_set_str(call.params, "format", forms[e->form]);
		if (e->compression)
			js_set_str(call.params, "compression", e->compression);
	}
	if (folder) {
		js_set_str(call.params, "path", path);
	} else {
		call.fds = &e->file.fd;
		call.n_fds = 1;
		js_set_str(call.params, "stream", "fd:0");
	}
	r = progress_run(cli, &call, NULL, f);
	return r == 0 && !folder ? outfile_finish(&e->file, f) : r;
}

/* ---- what is said of it */

static void print_stats(json_object *stats, json_object *descriptors)
{
	int64_t in = js_int(stats, "bytes_in", 0), out = 0, total = js_int(stats, "total_us", -1);
	char frozen[16], whole[16], from[16], to[16], rate[16], ratio[16];

	for (size_t i = 1; i < js_len(descriptors); i++) /* the first is the manifest */
		out += js_int(js_at(descriptors, i), "size", 0);
	cli_checkpoint_time(js_int(stats, "frozen_us", -1), frozen, sizeof(frozen));
	cli_checkpoint_time(total, whole, sizeof(whole));
	fprintf(stderr, "frozen for %s, %s in all", frozen, whole);
	if (in > 0 && out > 0) {
		output_size((uint64_t)in, from, sizeof(from));
		output_size((uint64_t)out, to, sizeof(to));
		output_size(total > 0 ? (uint64_t)((double)in * 1e6 / (double)total) : 0, rate,
			    sizeof(rate));
		cli_checkpoint_ratio(in, out, ratio, sizeof(ratio));
		fprintf(stderr, "; %s in %s (%s to 1), %s/s", from, to, ratio, rate);
	}
	fputc('\n', stderr);
}

static int request(struct cli *cli, json_object *params, json_object **answer, struct fault *f)
{
	char *what CLEANUP_FREE = mem_printf("Checkpointing %s", cli->args[0]);
	struct progress_call call = { .method = "tasks.checkpoint",
				      .params = params,
				      .what = what,
				      .events = true,
				      .watch = -1 };

	return progress_run(cli, &call, answer, f);
}

static int checkpoint(struct cli *cli)
{
	const char *id = cli->args[0], *name = args_get(cli, "name"), *image;
	json_object *params CLEANUP_JSON = cli_params(id, NULL);
	json_object *answer CLEANUP_JSON = NULL;
	struct exporting e CLEANUP(exporting_clear) = { .file = { .fd = -1 } };
	struct fault f = { 0 };
	int r;

	if (name)
		js_set_str(params, "name", name);
	r = options_read(cli, js_object_at(params, "options"), &f);
	if (r == 0 && name && args_get(cli, "image-path"))
		r = invalid(&f, "--image-path makes no image, so there is nothing to --name");
	if (r == 0)
		r = export_read(cli, &e, &f);
	if (r < 0)
		return cli_fail(&f, NULL, "checkpoint");
	if (request(cli, json_object_get(params), &answer, &f) < 0)
		return cli_fail(&f, NULL, "cannot checkpoint %s", id);
	if (args_flag(cli, "verbose") || isatty(STDERR_FILENO))
		print_stats(js_get(answer, "stats"), js_get(answer, "descriptors"));
	image = js_str(answer, "image");
	if (e.path && export(cli, &e, image, &f) < 0) {
		char *hint CLEANUP_FREE = mem_printf("the checkpoint is there, as the image %s",
						     image);

		return cli_fail(&f, hint, "cannot export the checkpoint to %s", e.path);
	}
	if (!*image)
		puts(js_str(params, "options.image_path"));
	else if (!e.path || strcmp(e.path, "-") != 0)
		puts(image);
	return 0;
}

static const struct cli_option options[] = {
	{ .name = "name",
	  .argument = "NAME",
	  .doc = "name of the image (containerd.io/checkpoint/CONTAINER:DATE)" },
	{ .name = "exit", .doc = "end the container, once the checkpoint is safe on disk" },
	{ .name = "leave-running", .doc = "let the container go on (the default)" },
	{ .name = "tcp-established", .doc = "take established TCP connections along" },
	{ .name = "ext-unix-sk",
	  .doc = "allow UNIX sockets that are connected to processes outside" },
	{ .name = "shell-job",
	  .doc = "allow a terminal that the container did not get from davit" },
	{ .name = "file-locks", .doc = "take file locks along" },
	{ .name = "link-remap",
	  .doc = "allow open files that were deleted and have another name left" },
	{ .name = "empty-ns",
	  .argument = "NAMESPACE",
	  .doc = "leave out what is in this namespace; only network is possible",
	  .flags = CLI_MULTI,
	  .words = "network" },
	{ .name = "cgroups-mode",
	  .argument = "MODE",
	  .doc = "what criu keeps of cgroups: ignore (the default), none, props, soft, full or strict",
	  .words = "ignore none props soft full strict" },
	{ .name = "network-lock",
	  .argument = "METHOD",
	  .doc = "how the network is held meanwhile: nftables (the default with --tcp-established), skip (without), or iptables",
	  .words = "iptables nftables skip" },
	{ .name = "compression",
	  .argument = "METHOD",
	  .doc = "zstd (the default) or none",
	  .words = "zstd none" },
	{ .name = "level",
	  .argument = "NUMBER",
	  .doc = "of the compression, from -7 to 19: higher is smaller and slower (1)" },
	{ .name = "stall-timeout",
	  .argument = "SECONDS",
	  .doc = "give up when nothing has moved for so long; 0: never (30)" },
	{ .name = "image-path",
	  .argument = "DIR",
	  .doc = "write criu's files into this folder instead of making an image",
	  .flags = CLI_FILE },
	{ .name = "work-path",
	  .argument = "DIR",
	  .doc = "where criu leaves its log and statistics",
	  .flags = CLI_FILE },
	{ .name = "export",
	  .argument = "FILE",
	  .doc = "also write the checkpoint to this file (- is stdout), or folder with criu-dir",
	  .flags = CLI_FILE },
	{ .name = "format",
	  .argument = "FORMAT",
	  .doc = "of --export: davit-oci (the default), podman, containerd or criu-dir",
	  .words = "davit-oci podman containerd criu-dir" },
	{ .name = "export-compression",
	  .argument = "METHOD",
	  .doc = "of the exported archive: zstd, gzip or none (none for containerd, else zstd)",
	  .words = "zstd gzip none" },
	{ .name = "verbose",
	  .letter = 'v',
	  .doc = "tell on stderr how long and how large it was (always on a terminal)" },
	{ .name = NULL },
};

const struct cli_command cmd_checkpoint = {
	.name = "checkpoint",
	.summary = "Save the state of a running container as an image",
	.usage = "NAME",
	.details =
		"The image's name is printed. It holds the processes with their memory, and what the container has changed\n"
		"in the files of its image; bind mounts and volumes stay outside. 'davit restore' makes a container of it.\n",
	.options = options,
	.min_args = 1,
	.max_args = 1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = checkpoint,
};
