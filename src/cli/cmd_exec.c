// SPDX-License-Identifier: Apache-2.0
/*
 * davit exec
 *
 * The process starts from the container's own (environment, folder, user, capabilities), and the
 * options change it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/caps.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/create.h"
#include "cli/envlist.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/user.h"

/*
 * The container's root as its processes see it; without the right to look there, the folder of its
 * spec.
 */
static int open_rootfs(struct cli *cli, const char *id, json_object *spec)
{
	json_object *task CLEANUP_JSON = NULL;
	struct fault ignored;
	char path[64];
	int fd;

	if (cli_call(cli, "tasks.get", cli_params(id, NULL), &task, &ignored) == 0) {
		snprintf(path, sizeof(path), "/proc/%lld/root",
			 (long long)js_int(task, "process.pid", 0));
		fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			return fd;
	}
	return *js_str(spec, "root.path") == '/'
		       ? open(js_str(spec, "root.path"), O_PATH | O_DIRECTORY | O_CLOEXEC)
		       : -1;
}

/*
 * Another user than the container's: root gets all of the bounding set, others nothing, as an
 * ordinary login would.
 */
static void user_caps(json_object *process, uid_t uid)
{
	uint64_t bounding = caps_bits(js_get(process, "capabilities.bounding"));

	if (js_get(process, "capabilities"))
		js_set(process, "capabilities", caps_json(bounding, 0, uid == 0));
}

static int set_user(struct cli *cli, const char *id, json_object *spec, json_object *process,
		    struct fault *f)
{
	const char *text = args_get(cli, "user");
	int root CLEANUP_CLOSE = -1;
	char *home CLEANUP_FREE = NULL;
	struct user user;
	int r;

	if (!text)
		return 0;
	root = open_rootfs(cli, id, spec);
	r = user_lookup(root, text, &user, f);
	if (r < 0)
		return r;
	if (user.uid != (uid_t)js_int(process, "user.uid", 0))
		user_caps(process, user.uid);
	js_set(process, "user", user_json(&user));
	home = mem_printf("HOME=%s", user.home);
	envlist_set(js_array_at(process, "env"), home);
	user_clear(&user);
	return 0;
}

static int process_spec(struct cli *cli, const char *id, json_object **out, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object(), *spec, *process, *args;
	const char *value;
	size_t at = 0;
	int r;

	js_set_str(p, "id", id);
	r = cli_call(cli, "containers.get", p, &answer, f);
	if (r < 0)
		return r;
	spec = js_get(answer, "container.spec");
	process = js_object_at(spec, "process");
	r = set_user(cli, id, spec, process, f);
	while (r == 0 && (value = args_each(cli, "env-file", &at)))
		r = envlist_file(js_array_at(process, "env"), value, f);
	at = 0;
	while (r == 0 && (value = args_each(cli, "env", &at)))
		r = envlist_option(js_array_at(process, "env"), value, f);
	if (r < 0)
		return r;
	if (args_flag(cli, "tty"))
		envlist_default(js_array_at(process, "env"), "TERM", "xterm");
	js_set_bool(process, "terminal", args_flag(cli, "tty"));
	json_object_object_del(process, "consoleSize");
	value = args_get(cli, "workdir");
	if (value && *value != '/')
		return fault_set(f, FAULT_INVALID_ARGUMENT, 0,
				 "--workdir \"%s\" does not begin with '/'", value);
	if (value)
		js_set_str(process, "cwd", value);
	args = js_array();
	for (size_t i = 1; i < cli->n_args; i++)
		js_push_str(args, cli->args[i]);
	js_set(process, "args", args);
	*out = json_object_get(process);
	return 0;
}

static void delete_process(struct cli *cli, const char *id, const char *exec_id)
{
	json_object *p = cli_params(id, exec_id);
	struct fault ignored;

	js_set_bool(p, "kill", true);
	(void)cli_call(cli, "tasks.delete_process", p, NULL, &ignored);
}

static int foreground(struct cli *cli, const char *id, const char *exec_id, json_object *params,
		      int *status, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	struct session *s;
	size_t n_fds;
	int fds[3], r;

	r = session_new(&s, cli, id, exec_id, args_flag(cli, "tty"), args_flag(cli, "interactive"),
			f);
	if (r < 0) {
		json_object_put(params);
		return r;
	}
	session_stdio(s, params, fds, &n_fds);
	r = cli_call_fds(cli, "tasks.exec", params, fds, n_fds, NULL, f);
	if (r == 0) {
		r = session_wait(s, f);
		if (r == 0)
			r = cli_call(cli, "tasks.start", cli_params(id, exec_id), NULL, f);
		/* Its terminal is made by the start; what it has written since then is replayed. */
		if (r == 0)
			r = session_attach(s, f);
		if (r == 0)
			r = session_loop(s, &answer, f);
		if (r == 0)
			*status = (int)js_int(answer, "exit_status", 255);
		/* A process that was detached from runs on. */
		if (r != SESSION_E_DETACHED)
			delete_process(cli, id, exec_id);
	}
	session_free(s);
	return r;
}

static int background(struct cli *cli, const char *id, const char *exec_id, json_object *params,
		      struct fault *f)
{
	int r;

	if (args_flag(cli, "tty"))
		js_set_bool(params, "terminal", true);
	js_set_bool(params, "auto_remove", true); /* nobody stays to do it */
	r = cli_call(cli, "tasks.exec", params, NULL, f);
	if (r < 0)
		return r;
	r = cli_call(cli, "tasks.start", cli_params(id, exec_id), NULL, f);
	if (r < 0)
		delete_process(cli, id, exec_id);
	return r;
}

static int exec(struct cli *cli)
{
	const char *id = cli->args[0];
	json_object *process = NULL, *params;
	bool detach = args_flag(cli, "detach");
	struct fault f = { 0 };
	char exec_id[16];
	int r, status = 0;

	r = process_spec(cli, id, &process, &f);
	if (r < 0)
		return cli_fail(&f, NULL, "cannot execute in %s", id);
	create_random_id(exec_id, sizeof(exec_id));
	params = cli_params(id, exec_id);
	js_set(params, "spec", process);
	r = detach ? background(cli, id, exec_id, params, &f)
		   : foreground(cli, id, exec_id, params, &status, &f);
	if (r < 0)
		return cli_fail(&f, NULL, "cannot execute in %s", id);
	if (detach)
		puts(exec_id);
	return status;
}

static const struct cli_option options[] = {
	{ .name = "detach", .letter = 'd', .doc = "do not wait for it; print its exec id" },
	{ .name = "interactive", .letter = 'i', .doc = "pass stdin on (otherwise it is empty)" },
	{ .name = "tty", .letter = 't', .doc = "give it a terminal" },
	{ .name = "env",
	  .letter = 'e',
	  .argument = "KEY=VALUE",
	  .doc = "environment variable; KEY alone takes the caller's",
	  .flags = CLI_MULTI },
	{ .name = "env-file",
	  .argument = "FILE",
	  .doc = "file of such lines",
	  .flags = CLI_MULTI | CLI_FILE },
	{ .name = "workdir",
	  .letter = 'w',
	  .argument = "DIR",
	  .doc = "its working directory (the container's)" },
	{ .name = "user",
	  .letter = 'u',
	  .argument = "USER[:GROUP]",
	  .doc = "run as this user, by name or number (the container's)" },
	{ .name = NULL },
};

const struct cli_command cmd_exec = {
	.name = "exec",
	.summary = "Run a command in a running container",
	.usage = "NAME COMMAND [ARGUMENT...]",
	.details =
		"The exit code is the command's; 126 when it cannot be run, 127 when it does not exist, 125 when davit failed.\n",
	.options = options,
	.flags = CLI_ARGS_END_OPTIONS,
	.min_args = 2,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = exec,
};
