// SPDX-License-Identifier: Apache-2.0
/*
 * run and create: from the command line to a container record
 *
 * The root file system comes from one of three sources: a folder (--rootfs), an OCI bundle
 * (--bundle), or an image (create_image.h). What is decided here about how the task will be run (terminal, stdin,
 * log size, removal) is kept in the spec and in labels, so that a later `davit start` does the
 * same.
 */
#include "cli/create.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/caps.h"
#include "cli/conn.h"
#include "cli/create_image.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/snapshot.h"
#include "cli/spec.h"
#include "cli/units.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/limits.h"

#define NAME_TRIES 16

const char create_usage[] = "(IMAGE | --rootfs DIR | --bundle DIR) [COMMAND [ARGUMENT...]]";
const char create_details[] =
	"IMAGE is a name that 'davit images' shows, a short form of one, or a digest. Its Entrypoint, Cmd, Env, User,\n"
	"WorkingDir, Volumes and StopSignal count, and options go before them.\n"
	"With --bundle the folder's config.json is the start, and only what is given here changes it.\n"
	"Everything else begins with a default as tight as podman's: own namespaces, no network but the loopback,\n"
	"eleven capabilities, a seccomp profile, masked and read-only paths in /proc and /sys.\n";

const struct cli_option create_options[] = {
	{ .name = "rootfs",
	  .argument = "DIR",
	  .doc = "the root file system is this folder",
	  .flags = CLI_FILE },
	{ .name = "bundle",
	  .letter = 'b',
	  .argument = "DIR",
	  .doc = "an OCI bundle: config.json and the root it names",
	  .flags = CLI_FILE },
	{ .name = "name", .argument = "NAME", .doc = "name of the container (a random one)" },
	{ .name = "rm", .doc = "remove the container after its end" },
	{ .name = "detach",
	  .letter = 'd',
	  .doc = "run in the background, its output goes to the log; print the name" },
	{ .name = "interactive", .letter = 'i', .doc = "pass stdin on (otherwise it is empty)" },
	{ .name = "tty", .letter = 't', .doc = "give it a terminal" },
	{ .name = "cidfile",
	  .argument = "FILE",
	  .doc = "write the name into this new file",
	  .flags = CLI_FILE },
	{ .name = "label",
	  .letter = 'l',
	  .argument = "KEY=VALUE",
	  .doc = "label of the container",
	  .flags = CLI_MULTI },
	{ .name = "env",
	  .letter = 'e',
	  .argument = "KEY=VALUE",
	  .doc = "environment variable; KEY alone takes the caller's, PRE* all that begin so",
	  .flags = CLI_MULTI },
	{ .name = "env-file",
	  .argument = "FILE",
	  .doc = "file of such lines",
	  .flags = CLI_MULTI | CLI_FILE },
	{ .name = "volume",
	  .letter = 'v',
	  .argument = "SRC:DST[:OPTS]",
	  .doc = "mount a path of the host; options as ro, nosuid, rshared",
	  .flags = CLI_MULTI | CLI_FILE },
	{ .name = "tmpfs",
	  .argument = "DST[:OPTS]",
	  .doc = "mount an empty tmpfs; options as size=64m, mode=1777, exec",
	  .flags = CLI_MULTI },
	{ .name = "device",
	  .argument = "SRC[:DST][:rwm]",
	  .doc = "give it a device, or all in a folder",
	  .flags = CLI_MULTI | CLI_FILE },
	{ .name = "workdir",
	  .letter = 'w',
	  .argument = "DIR",
	  .doc = "its working directory (the image's, or /)" },
	{ .name = "user",
	  .letter = 'u',
	  .argument = "USER[:GROUP]",
	  .doc = "run as this user, by name or number (the image's, or root)" },
	{ .name = "entrypoint",
	  .argument = "COMMAND",
	  .doc = "program before the command, instead of the image's: a word or a JSON array of words" },
	{ .name = "stop-signal",
	  .argument = "SIGNAL",
	  .doc = "what 'davit stop' sends first (the image's, or SIGTERM)" },
	{ .name = "memory",
	  .letter = 'm',
	  .argument = "SIZE",
	  .doc = "memory limit, as 64m or 1.5g" },
	{ .name = "cpus", .argument = "NUMBER", .doc = "CPU time limit, as 0.5 or 2" },
	{ .name = "pids-limit",
	  .argument = "NUMBER",
	  .doc = "most processes and threads (2048; 0 for no limit)" },
	{ .name = "ulimit",
	  .argument = "NAME=SOFT[:HARD]",
	  .doc = "resource limit, as nofile=1024:2048; host takes the caller's",
	  .flags = CLI_MULTI },
	{ .name = "read-only", .doc = "read-only root; /run, /tmp and /var/tmp are tmpfs" },
	{ .name = "cap-add",
	  .argument = "CAPABILITY",
	  .doc = "add a capability, or ALL",
	  .flags = CLI_MULTI },
	{ .name = "cap-drop",
	  .argument = "CAPABILITY",
	  .doc = "drop a capability, or ALL",
	  .flags = CLI_MULTI },
	{ .name = "privileged", .doc = "all capabilities and devices, nothing masked, no seccomp" },
	{ .name = "seccomp",
	  .argument = "PROFILE",
	  .doc = "default, unconfined, or a JSON file",
	  .flags = CLI_FILE,
	  .words = "default unconfined" },
	{ .name = "network",
	  .argument = "MODE",
	  .doc = "none (the default), host, container:NAME, or a namespace's path",
	  .words = "none host" },
	{ .name = "pid",
	  .argument = "MODE",
	  .doc = "private (the default), host, container:NAME, or a namespace's path",
	  .words = "private host" },
	{ .name = "ipc",
	  .argument = "MODE",
	  .doc = "private (the default), shareable, none, host, container:NAME, or a namespace's path",
	  .words = "private shareable none host" },
	{ .name = "hostname",
	  .letter = 'h',
	  .argument = "NAME",
	  .doc = "host name (the container's)" },
	{ .name = "init",
	  .doc = "run an init that reaps and forwards signals (catatonit or tini of the host)" },
	{ .name = "annotation",
	  .argument = "KEY=VALUE",
	  .doc = "OCI annotation",
	  .flags = CLI_MULTI },
	{ .name = "snapshotter",
	  .argument = "NAME",
	  .doc = "what keeps an image's layers: overlayfs, or native (what the daemon uses by itself)",
	  .words = "overlayfs native" },
	{ .name = "log-opt",
	  .argument = "max-size=SIZE",
	  .doc = "how large its log may grow before it is rotated (16m)",
	  .flags = CLI_MULTI },
	{ .name = NULL },
};

struct source {
	char *rootfs, *bundle; /* absolute; bundle NULL for --rootfs */
	json_object *spec; /* of the bundle */
	char **args; /* the command */
	struct cli *cli;
	struct image_source image; /* name NULL when it is none */
};

static void source_clear(struct source *s)
{
	cli_image_source_clear(s->cli, &s->image);
	free(s->rootfs);
	free(s->bundle);
	json_object_put(s->spec);
}

static int folder(const char *path, const char *option, char **out, struct fault *f)
{
	struct stat st;
	int r;

	*out = realpath(path, NULL);
	if (!*out || stat(*out, &st) < 0 || !S_ISDIR(st.st_mode)) {
		r = fault_sys(f, *out ? ENOTDIR : errno, option, path);
		free(*out);
		*out = NULL;
		return r;
	}
	return 0;
}

static int source_bundle(struct source *s, const char *path, struct fault *f)
{
	char *config CLEANUP_FREE = NULL;
	const char *root;
	int r;

	r = folder(path, "--bundle", &s->bundle, f);
	if (r < 0)
		return r;
	config = mem_printf("%s/config.json", s->bundle);
	r = json_parse_file(AT_FDCWD, config, LIMIT_SPEC_BYTES, &s->spec, f);
	if (r < 0) {
		fault_prefix(f, "reading %s", config);
		return r;
	}
	root = js_str(s->spec, "root.path");
	if (*root)
		s->rootfs = *root == '/' ? mem_strdup(root) : mem_printf("%s/%s", s->bundle, root);
	return 0;
}

static int source_find(struct cli *cli, struct source *s, struct fault *f)
{
	const char *rootfs = args_get(cli, "rootfs"), *bundle = args_get(cli, "bundle");

	s->cli = cli;
	s->args = cli->args;
	if (args_get(cli, "snapshotter") && (rootfs || bundle))
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0, "--snapshotter is for images");
	if (rootfs && bundle)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "--rootfs and --bundle exclude each other");
	if (bundle)
		return source_bundle(s, bundle, f);
	if (rootfs)
		return folder(rootfs, "--rootfs", &s->rootfs, f);
	if (!cli->n_args)
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "nothing to run: give --rootfs DIR, --bundle DIR or an image");
	s->args++;
	return cli_image_source_open(cli, cli->args[0], &s->image, f);
}

static int log_options(struct cli *cli, struct created *c, struct fault *f)
{
	const char *value;
	size_t at = 0;
	int r;

	while ((value = args_each(cli, "log-opt", &at))) {
		if (strncmp(value, "max-size=", 9) != 0)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--log-opt \"%s\" is not max-size=SIZE", value);
		r = units_size(value + 9, &c->log_max_size, f);
		if (r == 0 && c->log_max_size < 4096)
			r = fault_set(f, FAULT_INVALID_ARGUMENT, 0, "%s is too small for a log",
				      value + 9);
		if (r < 0) {
			fault_prefix(f, "--log-opt");
			return r;
		}
	}
	return 0;
}

static int labels(struct cli *cli, const struct created *c, json_object **out, struct fault *f)
{
	json_object *o CLEANUP_JSON = js_object();
	const char *value;
	size_t at = 0;

	while ((value = args_each(cli, "label", &at))) {
		size_t n = strcspn(value, "=");
		char *key CLEANUP_FREE = mem_strndup(value, n);

		if (!n)
			return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
					 "--label \"%s\" is not KEY=VALUE", value);
		js_set_str(o, key, value[n] ? value + n + 1 : "");
	}
	if (args_flag(cli, "rm"))
		js_set_str(o, LABEL_AUTO_REMOVE, "true");
	if (c->interactive)
		js_set_str(o, LABEL_INTERACTIVE, "true");
	if (c->log_max_size) {
		char *text CLEANUP_FREE = mem_printf("%lld", (long long)c->log_max_size);

		js_set_str(o, LABEL_LOG_MAX_SIZE, text);
	}
	*out = TAKE_PTR(o);
	return 0;
}

static void set_json(json_object *params, const char *key, json_object *value)
{
	js_set_str(params, key,
		   mem_need((void *)json_object_to_json_string_ext(
			   value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)));
}

/* What the spec begins as. */
static int begin_spec(const struct source *s, pid_t daemon, json_object **out, struct fault *f)
{
	const char *text;

	if (!s->bundle) {
		/* The daemon mounts an image's root where nobody else sees it. */
		*out = spec_default(s->rootfs ? s->rootfs : "rootfs", daemon);
		return 0;
	}
	/* Names may be tried in turn, and each needs the text as it was. */
	text = mem_need((void *)json_object_to_json_string_ext(s->spec, JSON_C_TO_STRING_PLAIN));
	return json_parse(text, strlen(text), out, f);
}

static int make_spec(struct cli *cli, const struct source *s, const struct created *c,
		     const char *id, int rootfs, json_object **out, struct fault *f)
{
	struct spec_build b = { .cli = cli,
				.id = id,
				.rootfs = rootfs,
				.image = s->image.config,
				.args = s->args,
				.from_bundle = s->bundle != NULL,
				.tty = c->tty };
	int r;

	b.available = caps_of(cli_daemon_pid(cli));
	r = begin_spec(s, cli_daemon_pid(cli), out, f);
	if (r < 0)
		return r;
	b.spec = *out;
	return spec_build(&b, f);
}

/* The record, from all that was found out. */
static int make_record(struct cli *cli, const struct source *s, const struct created *c,
		       const char *id, struct image_root *root, struct fault *f)
{
	int rootfs CLEANUP_CLOSE = s->rootfs ? open(s->rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC)
					     : -1;
	json_object *params CLEANUP_JSON = js_object();
	json_object *spec CLEANUP_JSON = NULL;
	json_object *label_map = NULL;
	int r;

	r = labels(cli, c, &label_map, f);
	if (r < 0)
		return r;
	js_set(params, "labels", label_map);
	js_set_str(params, "id", id);
	r = make_spec(cli, s, c, id, root ? root->fd : rootfs, &spec, f);
	if (r < 0)
		return r;
	if (s->bundle)
		js_set_str(params, "bundle", s->bundle);
	if (root) {
		cli_image_labels(s->image.config, label_map);
		r = cli_image_root_finish(cli, root, id, args_get(cli, "workdir") != NULL, spec,
					  label_map, f);
		if (r < 0)
			return r;
		js_set_str(params, "image", s->image.name);
		js_set_str(params, "snapshotter", s->image.snapshotter);
		js_set_str(params, "snapshot_key", root->key);
	}
	set_json(params, "spec", spec);
	return cli_call(cli, "containers.create", TAKE_PTR(params), NULL, f);
}

/* Snapshot, spec and record under one name. */
static int make(struct cli *cli, const struct source *s, struct created *c, const char *id,
		struct fault *f)
{
	struct image_root root = { .fd = -1 };
	int r;

	/* Before the spec, which depends on what the daemon can give. */
	r = cli_connect(cli, f);
	if (r < 0)
		return r;
	if (!s->image.name)
		return make_record(cli, s, c, id, NULL, f);
	r = cli_image_root_new(cli, &s->image, id, &root, f);
	if (r == 0)
		r = make_record(cli, s, c, id, &root, f);
	if (r == 0) {
		c->snapshotter = mem_strdup(s->image.snapshotter);
		c->snapshot_key = mem_strdup(root.key);
	}
	cli_image_root_clear(cli, &root, r == 0);
	return r;
}

static int write_cidfile(int fd, const struct created *c, struct fault *f)
{
	int r = fd_write_all(fd, c->id, strlen(c->id));

	return r < 0 ? fault_sys(f, -r, "writing the cidfile", c->cidfile) : 0;
}

int create_container(struct cli *cli, struct created *out, struct fault *f)
{
	struct source s CLEANUP(source_clear) = { .cli = cli };
	const char *name = args_get(cli, "name"), *cidfile = args_get(cli, "cidfile");
	int cid CLEANUP_CLOSE = -1;
	char random[32];
	int r;

	memset(out, 0, sizeof(*out));
	out->tty = args_flag(cli, "tty");
	out->interactive = args_flag(cli, "interactive");
	r = log_options(cli, out, f);
	if (r == 0)
		r = source_find(cli, &s, f);
	if (r < 0)
		return r;
	if (js_bool(s.spec, "process.terminal"))
		out->tty = out->interactive = true;
	if (cidfile) {
		cid = open(cidfile, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (cid < 0)
			return fault_sys(f, errno, "making the cidfile", cidfile);
		out->cidfile = mem_strdup(cidfile);
	}
	if (name) {
		out->id = mem_strdup(name);
		r = make(cli, &s, out, name, f);
	} else {
		r = -EEXIST;
		for (int i = 0; i < NAME_TRIES; i++) {
			create_random_name(random, sizeof(random));
			r = make(cli, &s, out, random, f);
			if (r == 0 || f->code != FAULT_ALREADY_EXISTS)
				break;
		}
		out->id = mem_strdup(random);
	}
	if (r == 0 && cid >= 0) {
		r = write_cidfile(cid, out, f);
		if (r < 0) {
			json_object *p = js_object();

			js_set_str(p, "id", out->id);
			cli_call(cli, "containers.delete", p, NULL, NULL);
			if (out->snapshot_key)
				cli_snapshot_remove_quietly(cli, out->snapshotter,
							    out->snapshot_key);
		}
	}
	if (r < 0) {
		if (out->cidfile)
			unlink(out->cidfile);
		created_clear(out);
	}
	return r;
}

void created_clear(struct created *c)
{
	free(c->id);
	free(c->cidfile);
	free(c->snapshotter);
	free(c->snapshot_key);
	memset(c, 0, sizeof(*c));
}
