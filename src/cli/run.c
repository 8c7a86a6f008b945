// SPDX-License-Identifier: Apache-2.0
/*
 * Running a container that is there
 *
 * In the foreground the order is: make the task, attach to its terminal, ask for its end, start it.
 * So neither a byte nor the end can be missed, however short it runs.
 */
#include "cli/run.h"

#include <errno.h>
#include <stdlib.h>

#include "cli/conn.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/session.h"
#include "cli/snapshot.h"
#include "util/clock.h"

#define REMOVAL_SECONDS 10 /* poststop hooks may take a while */

static json_object *create_params(const struct run *run)
{
	json_object *p = cli_params(run->id, NULL);

	if (run->more) {
		json_object_object_foreach (run->more, key, value)
			js_set(p, key, json_object_get(value));
	}
	if (run->log_max_size)
		js_set_int(js_object_at(p, "options"), "log_max_size", run->log_max_size);
	return p;
}

/* params are taken over */
static int create_task(struct cli *cli, const struct run *run, json_object *params, const int *fds,
		       size_t n_fds, struct fault *f)
{
	struct progress_call call = { .method = "tasks.create",
				      .params = params,
				      .fds = fds,
				      .n_fds = n_fds,
				      .what = run->what,
				      .events = true,
				      .watch = -1 };
	int r;

	if (run->what)
		r = progress_run(cli, &call, NULL, f);
	else
		r = cli_call_fds(cli, call.method, params, fds, n_fds, NULL, f);
	if (r == 0 && run->created)
		run->created(run->user);
	return r;
}

static void delete_task(struct cli *cli, const char *id)
{
	json_object *p = cli_params(id, NULL);
	struct fault ignored;

	js_set_bool(p, "kill", true);
	(void)cli_call(cli, "tasks.delete", p, NULL, &ignored);
}

/* NULL for none, or when they cannot be known: then they are collected later. */
static json_object *run_snapshots(struct cli *cli, const char *id)
{
	json_object *p = js_object(), *answer CLEANUP_JSON = NULL;
	struct fault ignored;

	js_set_str(p, "id", id);
	if (cli_call(cli, "containers.get", p, &answer, &ignored) < 0)
		return NULL;
	return cli_snapshots_of(cli, js_get(answer, "container"));
}

int run_remove(struct cli *cli, const char *id, bool force, struct fault *f)
{
	json_object *p = cli_params(id, NULL), *own;
	int r;

	if (force)
		js_set_bool(p, "kill", true);
	r = cli_call(cli, "tasks.delete", p, NULL, f);
	if (r < 0 && f->code != FAULT_NOT_FOUND)
		return r;
	own = run_snapshots(cli, id);
	p = js_object();
	js_set_str(p, "id", id);
	r = cli_call(cli, "containers.delete", p, NULL, f);
	if (r < 0)
		json_object_put(own);
	else
		cli_snapshots_forget(cli, own);
	return r;
}

/*
 * The daemon removes the container after its end, also when nobody is there any more to ask for it.
 * Who runs it in the foreground wants it gone on return, and so listens for that.
 */
static int watch_removal(struct cli *cli, struct session *s, const char *id, struct fault *f)
{
	char *filter CLEANUP_FREE = mem_printf("topic==/containers/delete,event.id==\"%s\"", id);
	json_object *p = js_object();

	js_push_str(js_array_at(p, "filters"), filter);
	js_set_str(p, "namespace", cli->ns);
	return session_subscribe(s, p, f);
}

static int await_removal(struct cli *cli, const char *id, struct fault *f)
{
	int64_t deadline = clock_mono() + REMOVAL_SECONDS * CLOCK_NS_PER_SEC;

	for (;;) {
		int64_t ms = (deadline - clock_mono()) / 1000000;
		struct cli_reply *reply;
		bool notified;
		int r;

		if (ms <= 0)
			break;
		r = cli_recv(cli, (int)ms, &reply, f);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return r;
		notified = reply->notification;
		cli_reply_free(reply);
		if (notified)
			return 0;
	}
	/* It does not come: the answer to doing it ourselves tells why. */
	return run_remove(cli, id, false, f);
}

static int foreground(struct cli *cli, const struct run *run, struct session *s, int *status,
		      struct fault *f)
{
	json_object *p = create_params(run), *answer CLEANUP_JSON = NULL;
	size_t n_fds;
	int fds[3], r;

	session_stdio(s, p, fds, &n_fds);
	r = run->remove ? watch_removal(cli, s, run->id, f) : 0;
	if (r < 0) {
		json_object_put(p);
		return r;
	}
	r = create_task(cli, run, p, fds, n_fds, f);
	if (r < 0)
		return r;
	r = session_attach(s, f);
	if (r == 0)
		r = session_wait(s, f);
	if (r == 0)
		r = cli_call(cli, "tasks.start", cli_params(run->id, NULL), NULL, f);
	if (r < 0) {
		struct fault why = *f;

		delete_task(cli, run->id);
		*f = why;
		return r;
	}
	r = session_loop(s, &answer, f);
	if (r == 0)
		*status = (int)js_int(answer, "exit_status", 255);
	return r;
}

int run_foreground(struct cli *cli, const struct run *run, int *status, struct fault *f)
{
	json_object *own = NULL;
	bool removed = run->remove;
	struct session *s;
	int r;

	if (run->remove && run->of_image)
		own = run_snapshots(cli, run->id);
	r = session_new(&s, cli, run->id, NULL, run->tty, run->interactive, f);
	if (r < 0) {
		json_object_put(own);
		return r;
	}
	r = foreground(cli, run, s, status, f);
	if (r == 0 && run->remove && !session_notified(s)) {
		r = await_removal(cli, run->id, f);
		removed = r == 0 || f->code == FAULT_NOT_FOUND;
		if (!removed)
			cli_warn("%s ended but could not be removed: %s", run->id, f->message);
		r = 0;
	}
	/* Detached, never started, or still there: whoever removes the container does it. */
	if (r == 0 && removed)
		cli_snapshots_forget(cli, own);
	else
		json_object_put(own);
	session_free(s);
	return r;
}

int run_background(struct cli *cli, const struct run *run, struct fault *f)
{
	json_object *p = create_params(run);
	int r;

	js_set_str(p, "stdout", "log:");
	if (run->tty)
		js_set_bool(p, "terminal", true);
	else
		js_set_str(p, "stderr", "log:");
	r = create_task(cli, run, p, NULL, 0, f);
	if (r < 0)
		return r;
	r = cli_call(cli, "tasks.start", cli_params(run->id, NULL), NULL, f);
	if (r < 0) {
		struct fault why = *f;

		delete_task(cli, run->id);
		*f = why;
	}
	return r;
}
