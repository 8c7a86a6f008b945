// SPDX-License-Identifier: Apache-2.0
/*
 * davit stop, davit rm
 *
 * stop asks for all ends first and sends all stop signals, then waits for them together, so that
 * stopping ten containers takes as long as the slowest of them. What is left when the time is over
 * is killed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/cli.h"
#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/spec.h"
#include "cli/units.h"
#include "util/clock.h"

#define STOP_SECONDS 10

struct stop {
	const char *id;
	uint32_t wait_id;
	bool waiting;
};

/* The annotation's key has dots in it, so it is no path. */
static int stop_signal(struct cli *cli, const char *id, int *sig, struct fault *f)
{
	json_object *answer CLEANUP_JSON = NULL;
	json_object *p = js_object(), *v;
	int r;

	js_set_str(p, "id", id);
	r = cli_call(cli, "containers.get", p, &answer, f);
	if (r < 0)
		return r;
	*sig = 15;
	if (json_object_object_get_ex(js_get(answer, "container.spec.annotations"),
				      SPEC_STOP_SIGNAL, &v) &&
	    json_object_is_type(v, json_type_string))
		(void)units_signal(json_object_get_string(v), sig, NULL);
	return 0;
}

static int send_kill(struct cli *cli, const char *id, int sig, bool all, struct fault *f)
{
	json_object *p = cli_params(id, NULL);

	js_set_int(p, "signal", sig);
	if (all)
		js_set_bool(p, "all", true);
	return cli_call(cli, "tasks.kill", p, NULL, f);
}

/* 0: its end is awaited, 1: it does not run. */
static int begin(struct cli *cli, struct stop *s, int seconds, struct fault *f)
{
	json_object *task CLEANUP_JSON = NULL;
	const char *status;
	int sig, r;

	r = stop_signal(cli, s->id, &sig, f);
	if (r < 0)
		return r;
	r = cli_call(cli, "tasks.get", cli_params(s->id, NULL), &task, f);
	if (r < 0)
		return f->code == FAULT_NOT_FOUND ? 1 : r;
	status = js_str(task, "process.status");
	if (strcmp(status, "stopped") == 0)
		return 1;
	r = cli_send(cli, "tasks.wait", cli_params(s->id, NULL), NULL, 0, &s->wait_id, f);
	if (r < 0)
		return r;
	s->waiting = true;
	/* An init that was not started has no program yet that could heed a signal. */
	r = seconds == 0 || strcmp(status, "created") == 0 ? send_kill(cli, s->id, 9, true, f)
							   : send_kill(cli, s->id, sig, false, f);
	if (r < 0)
		/* it has ended meanwhile: the wait is answered */
		return f->code == FAULT_NOT_FOUND ? 0 : r;
	if (strcmp(status, "paused") == 0) {
		struct fault ignored;

		/* A frozen process sees no signal. It may be running again by another's hand. */
		(void)cli_call(cli, "tasks.resume", cli_params(s->id, NULL), NULL, &ignored);
	}
	return 0;
}

static struct stop *find(struct stop *list, size_t n, uint32_t wait_id)
{
	for (size_t i = 0; i < n; i++) {
		if (list[i].waiting && list[i].wait_id == wait_id)
			return &list[i];
	}
	return NULL;
}

/* After a restart of the daemon: the waits once more, for the signals have been sent. */
static int wait_again(struct cli *cli, struct stop *list, size_t n, struct fault *f)
{
	int r = cli_reconnect(cli, f);

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (list[i].waiting)
			r = cli_send(cli, "tasks.wait", cli_params(list[i].id, NULL), NULL, 0,
				     &list[i].wait_id, f);
	}
	return r;
}

/*
 * Takes answers until none is awaited or the time is over. Returns how many are still awaited, or
 * negative.
 */
static int collect(struct cli *cli, struct stop *list, size_t n, int64_t deadline, struct fault *f)
{
	int left = 0;

	for (size_t i = 0; i < n; i++)
		left += list[i].waiting;
	while (left) {
		int64_t ms = deadline < 0 ? -1 : (deadline - clock_mono() + 999999) / 1000000;
		struct cli_reply *reply;
		struct stop *s;
		int r;

		if (deadline >= 0 && ms <= 0)
			break;
		r = cli_recv(cli, (int)ms, &reply, f);
		if (r == -EAGAIN)
			continue;
		if (r < 0 && f->err == EPIPE) {
			r = wait_again(cli, list, n, f);
			if (r == 0)
				continue;
		}
		if (r < 0)
			return r;
		s = reply->notification ? NULL : find(list, n, reply->msgid);
		if (s) {
			/*
			 * An error here means that it was removed by another: it has ended all the
			 * same.
			 */
			s->waiting = false;
			left--;
			puts(s->id);
			fflush(stdout);
		}
		cli_reply_free(reply);
	}
	return left;
}

static int stop(struct cli *cli)
{
	struct stop *list CLEANUP_FREE = mem_alloc(cli->n_args * sizeof(*list));
	const char *text = args_get(cli, "time");
	int64_t seconds = STOP_SECONDS;
	struct fault f = { 0 };
	int code = 0, r;

	if (text && units_int(text, -1, 1 << 20, &seconds, &f) < 0)
		return cli_fail(&f, NULL, "stop: --time");
	for (size_t i = 0; i < cli->n_args; i++) {
		list[i].id = cli->args[i];
		r = begin(cli, &list[i], (int)seconds, &f);
		if (r < 0) {
			list[i].waiting = false;
			code = cli_fail(&f, NULL, "cannot stop %s", list[i].id);
		} else if (r == 1) {
			puts(list[i].id);
		}
	}
	r = collect(cli, list, cli->n_args,
		    seconds < 0 ? -1 : clock_mono() + seconds * CLOCK_NS_PER_SEC, &f);
	for (size_t i = 0; r > 0 && i < cli->n_args; i++) {
		if (list[i].waiting && send_kill(cli, list[i].id, 9, true, &f) < 0 &&
		    f.code != FAULT_NOT_FOUND)
			code = cli_fail(&f, NULL, "cannot kill %s", list[i].id);
	}
	if (r > 0)
		r = collect(cli, list, cli->n_args, -1, &f);
	return r < 0 ? cli_fail(&f, NULL, "stop") : code;
}

/*
 * podman's exit codes: 1 when there is no such container, 2 when one still runs, 125 for all else.
 */
static int rm(struct cli *cli)
{
	bool force = args_flag(cli, "force");
	int code = 0;

	for (size_t i = 0; i < cli->n_args; i++) {
		struct fault f = { 0 };
		int r = run_remove(cli, cli->args[i], force, &f);

		if (r < 0 && f.code == FAULT_NOT_FOUND && force)
			continue;
		if (r == 0) {
			puts(cli->args[i]);
		} else if (f.code == FAULT_NOT_FOUND) {
			cli_fail(&f, NULL, "cannot remove %s", cli->args[i]);
			code = code ? code : 1;
		} else if (f.code == FAULT_FAILED_PRECONDITION) {
			cli_fail(&f, "stop it first, or use 'davit rm -f'", "cannot remove %s",
				 cli->args[i]);
			code = code > 1 ? code : 2;
		} else {
			code = cli_fail(&f, NULL, "cannot remove %s", cli->args[i]);
		}
	}
	return code;
}

static const struct cli_option stop_options[] = {
	{ .name = "time",
	  .letter = 't',
	  .argument = "SECONDS",
	  .doc = "how long to wait before SIGKILL (10; -1: for ever)" },
	{ .name = NULL },
};

const struct cli_command cmd_stop = {
	.name = "stop",
	.summary = "End containers: their stop signal, some time, then SIGKILL",
	.usage = "NAME...",
	.options = stop_options,
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = stop,
};

static const struct cli_option rm_options[] = {
	{ .name = "force",
	  .letter = 'f',
	  .doc = "kill it first if it runs; a container that is not there is no error" },
	{ .name = NULL },
};

const struct cli_command cmd_rm = {
	.name = "rm",
	.summary = "Remove containers",
	.usage = "NAME...",
	.details =
		"The exit code is 1 when a container does not exist and 2 when one still runs.\n",
	.options = rm_options,
	.min_args = 1,
	.max_args = -1,
	.complete = CLI_COMPLETE_CONTAINERS,
	.run = rm,
};
