// SPDX-License-Identifier: Apache-2.0
/*
 * davit doctor
 *
 * Collects findings about this host and shows them. It asks nothing of the daemon but its state,
 * and starts none.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/conn.h"
#include "cli/doctor.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/spec.h"
#include "util/clock.h"
#include "util/fd.h"

#ifndef DAVIT_CRIU_DEFAULT
#define DAVIT_CRIU_DEFAULT "criu"
#endif
#define CRIU_SECONDS 20

static const char *const level_names[] = {
	[DOCTOR_OK] = "ok", [DOCTOR_NOTE] = "note", [DOCTOR_BAD] = "BAD"
};

void doctor_add(json_object *findings, const char *group, const char *name, enum doctor_level level,
		const char *detail, ...)
{
	char *text CLEANUP_FREE = NULL;
	json_object *o = js_object();
	va_list ap;

	va_start(ap, detail);
	text = mem_vprintf(detail, ap);
	va_end(ap);
	js_set_str(o, "group", group);
	js_set_str(o, "name", name);
	js_set_str(o, "level", level_names[level]);
	js_set_str(o, "detail", text);
	js_push(findings, o);
}

/*
 * Runs a program without a shell and takes its output, at most size - 1 bytes, for at most
 * CRIU_SECONDS. Returns its wait status or -errno.
 */
static int run(const char *const *argv, char *out, size_t size)
{
	int64_t deadline = clock_mono() + CRIU_SECONDS * CLOCK_NS_PER_SEC;
	posix_spawn_file_actions_t actions;
	int pipes[2], status, err;
	size_t n = 0;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 1);
	posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
	err = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(pipes[1]);
	if (err) {
		close(pipes[0]);
		return -err;
	}
	for (;;) {
		struct pollfd p = { .fd = pipes[0], .events = POLLIN };
		int64_t left = (deadline - clock_mono()) / 1000000;
		char rest[256];
		ssize_t got;

		if (left <= 0 || poll(&p, 1, (int)left) <= 0) {
			kill(pid, SIGKILL);
			break;
		}
		got = n < size - 1 ? read(pipes[0], out + n, size - 1 - n)
				   : read(pipes[0], rest, sizeof(rest));
		if (got <= 0)
			break;
		n += n < size - 1 ? (size_t)got : 0;
	}
	out[n] = '\0';
	close(pipes[0]);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return status;
}

void doctor_criu(json_object *findings, const char *path)
{
	const char *const version[] = { path, "--version", NULL }, *const check[] = { path, "check",
										      NULL };
	char text[4096], *line, *end;
	int status;

	status = run(version, text, sizeof(text));
	if (status < 0) {
		doctor_add(findings, "criu", "program", DOCTOR_NOTE,
			   "%s: %s; without it there are no checkpoints", path,
			   strerrordesc_np(-status));
		return;
	}
	text[strcspn(text, "\n")] = '\0';
	doctor_add(findings, "criu", "program", DOCTOR_OK, "%s, %s", path, text);
	status = run(check, text, sizeof(text));
	if (status == 0) {
		doctor_add(findings, "criu", "check", DOCTOR_OK, "%s", "works with this kernel");
		return;
	}
	/* Its last line says the least ("…"), the first one with an error the most. */
	line = strstr(text, "Error");
	line = line ? line : text;
	end = strchr(line, '\n');
	if (end)
		*end = '\0';
	doctor_add(findings, "criu", "check", DOCTOR_NOTE, "does not work with this kernel: %s",
		   status < 0 ? strerrordesc_np(-status) : line);
}

static void daemon_state(struct cli *cli, json_object *findings)
{
	json_object *info CLEANUP_JSON = NULL;
	struct fault f = { 0 };

	cli->autostart = false;
	if (cli_call(cli, "server.info", NULL, &info, &f) == 0)
		doctor_add(findings, "daemon", "socket", DOCTOR_OK, "%s, version %s, pid %lld",
			   cli_socket(cli), js_str(info, "version"),
			   (long long)js_int(info, "pid", 0));
	else if (f.code == FAULT_UNAVAILABLE)
		doctor_add(findings, "daemon", "socket", DOCTOR_OK,
			   "%s: no daemon runs; the first command starts one", cli_socket(cli));
	else
		doctor_add(findings, "daemon", "socket", DOCTOR_BAD, "%s", f.message);
}

static void tools(json_object *findings)
{
	struct fault f = { 0 };
	char *path = NULL;

	if (geteuid() == 0)
		doctor_add(findings, "host", "user", DOCTOR_OK, "root");
	else
		doctor_add(findings, "host", "user", DOCTOR_NOTE,
			   "not root: some answers here are for this user and not for the daemon");
	if (spec_find_init(&path, &f) == 0)
		doctor_add(findings, "host", "init", DOCTOR_OK, "%s, for --init", path);
	else
		doctor_add(findings, "host", "init", DOCTOR_NOTE,
			   "no catatonit or tini: --init is refused");
	free(path);
}

static void print(json_object *findings, bool all)
{
	static const char *const titles[] = { "", "WHAT", "", NULL };
	struct table *t = table_new(titles);
	size_t hidden = 0;

	for (size_t i = 0; i < js_len(findings); i++) {
		json_object *o = js_at(findings, i);

		if (!all && strcmp(js_str(o, "level"), "ok") == 0 &&
		    strcmp(js_str(o, "group"), "limits") == 0) {
			hidden++;
			continue;
		}
		table_cell(t, js_str(o, "level"));
		table_cellf(t, "%s %s", js_str(o, "group"), js_str(o, "name"));
		table_cell(t, js_str(o, "detail"));
	}
	table_print(t);
	table_free(t);
	if (hidden)
		printf("(%zu more that are fine: --all shows them)\n", hidden);
}

static int doctor(struct cli *cli)
{
	json_object *findings CLEANUP_JSON = js_array();
	const char *criu = args_get(cli, "criu");
	struct fault f = { 0 };
	bool bad = false;
	int json;

	json = output_format(cli, &f);
	if (json < 0)
		return cli_fail(&f, NULL, "doctor");
	tools(findings);
	doctor_kernel(findings);
	doctor_cgroups(findings);
	doctor_limits(findings);
	doctor_files(findings);
	doctor_criu(findings, criu ? criu : DAVIT_CRIU_DEFAULT);
	daemon_state(cli, findings);
	for (size_t i = 0; i < js_len(findings); i++)
		bad |= strcmp(js_str(js_at(findings, i), "level"), level_names[DOCTOR_BAD]) == 0;
	if (json)
		output_json(findings);
	else
		print(findings, args_flag(cli, "all"));
	return bad;
}

static const struct cli_option options[] = {
	{ .name = "all", .letter = 'a', .doc = "also the limits that are fine" },
	{ .name = "criu",
	  .argument = "PATH",
	  .doc = "the criu program to try",
	  .env = "DAVIT_CRIU",
	  .flags = CLI_FILE },
	CLI_OPTION_FORMAT,
	{ .name = NULL },
};

const struct cli_command cmd_doctor = {
	.name = "doctor",
	.summary = "Tell what this host can do, and what is lost without what it lacks",
	.details = "The exit code is 1 when something is missing that davit cannot run without.\n",
	.options = options,
	.max_args = 0,
	.run = doctor,
};
