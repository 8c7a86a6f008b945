// SPDX-License-Identifier: Apache-2.0
/*
 * Talking to the daemon
 *
 * cli->client is the one connection of an invocation; cli->stash is the queue of messages that
 * arrived while another answer was awaited, oldest first. Everything is converted to JSON at this
 * border, so that commands handle one kind of object.
 */
#include "cli/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "cli/autostart.h"
#include "cli/js.h"
#include "cli/mem.h"
#include "ipc/client.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/json.h"
#include "util/mp.h"

#define DEFAULT_STATE "/run/davit"
#define SOCKET_NAME "davit.sock"
#define RECONNECT_SECONDS 30

const char *cli_socket(const struct cli *cli)
{
	return cli->socket ? cli->socket : DEFAULT_STATE "/" SOCKET_NAME;
}

void cli_reply_free(struct cli_reply *r)
{
	if (!r)
		return;
	json_object_put(r->result);
	free(r->method);
	fd_close(&r->fd);
	free(r);
}

static int cannot_connect(const struct cli *cli, int r, struct fault *f)
{
	if (r == -EACCES || r == -EPERM)
		return fault_set(
			f, FAULT_PERMISSION_DENIED, -r,
			"cannot use the daemon's socket %s; be root or a member of its group",
			cli_socket(cli));
	if ((r == -ENOENT || r == -ECONNREFUSED) && !cli->autostart)
		return fault_set(
			f, FAULT_UNAVAILABLE, 0,
			"no daemon listens on %s and DAVIT_AUTOSTART is 0; start one with 'davit serve'",
			cli_socket(cli));
	return fault_set(f, FAULT_UNAVAILABLE, -r, "cannot connect to %s", cli_socket(cli));
}

int cli_connect(struct cli *cli, struct fault *f)
{
	int r;

	if (cli->client)
		return 0;
	r = client_open(&cli->client, cli_socket(cli));
	if ((r == -ENOENT || r == -ECONNREFUSED) && cli->autostart) {
		r = autostart(cli, f);
		if (r < 0)
			return r;
		r = client_open(&cli->client, cli_socket(cli));
	}
	if (r < 0) {
		cli->client = NULL;
		return cannot_connect(cli, r, f);
	}
	return 0;
}

void cli_disconnect(struct cli *cli)
{
	struct cli_reply *r;

	while ((r = cli->stash)) {
		cli->stash = r->next;
		cli_reply_free(r);
	}
	if (cli->client)
		client_close(cli->client);
	cli->client = NULL;
}

int cli_reconnect(struct cli *cli, struct fault *f)
{
	int64_t deadline = clock_mono() + RECONNECT_SECONDS * CLOCK_NS_PER_SEC;
	int r;

	cli_disconnect(cli);
	cli->autostart = false;
	while ((r = cli_connect(cli, f)) < 0) {
		/*
		 * Its socket stays while it is restarted; only one that was replaced makes this
		 * wait.
		 */
		struct timespec pause = { .tv_nsec = 100000000 };

		if (f->code != FAULT_UNAVAILABLE || clock_mono() > deadline)
			return r;
		nanosleep(&pause, NULL);
	}
	return 0;
}

int cli_fd(const struct cli *cli)
{
	return cli->client ? client_fd(cli->client) : -1;
}

pid_t cli_daemon_pid(const struct cli *cli)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (!cli->client || getsockopt(cli_fd(cli), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 ||
	    peer.pid <= 0)
		return getpid();
	return peer.pid;
}

static int broken(int r, struct fault *f)
{
	if (r == -EPIPE || r == -ECONNRESET)
		return fault_set(f, FAULT_UNAVAILABLE, EPIPE, "the connection to the daemon broke");
	if (r == -EMSGSIZE)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, -r, "the request is too large");
	return fault_set(f, FAULT_UNAVAILABLE, -r, "the connection to the daemon failed");
}

int cli_send(struct cli *cli, const char *method, json_object *params, const int *fds, size_t n_fds,
	     uint32_t *msgid, struct fault *f)
{
	json_object *p CLEANUP_JSON = params ? params : js_object();
	msgpack_sbuffer sb;
	msgpack_packer pk;
	uint32_t id;
	int r;

	r = cli_connect(cli, f);
	if (r < 0)
		return r;
	if (cli->ns && strcmp(cli->ns, "default") != 0 &&
	    !json_object_object_get_ex(p, "namespace", NULL))
		js_set_str(p, "namespace", cli->ns);
	msgpack_sbuffer_init(&sb);
	msgpack_packer_init(&pk, &sb, msgpack_sbuffer_write);
	json_to_mp(p, &pk);
	r = client_send(cli->client, method, &sb, fds, n_fds, msgid ? msgid : &id);
	msgpack_sbuffer_destroy(&sb);
	return r < 0 ? broken(r, f) : 0;
}

static int convert(struct client_msg *msg, struct cli_reply *r, struct fault *f)
{
	r->notification = msg->type == 2;
	if (r->notification) {
		r->method = mp_strdup(&msg->method);
		if (!r->method)
			return fault_set(f, FAULT_INTERNAL, 0,
					 "the daemon sent a notification without a name");
		return json_from_mp(&msg->params, &r->result, f);
	}
	r->msgid = msg->msgid;
	if (msg->error.type != MSGPACK_OBJECT_NIL) {
		r->failed = true;
		client_fault(&msg->error, &r->fault);
		return 0;
	}
	if (msg->n_fds)
		r->fd = TAKE_FD(msg->fds[0]);
	return json_from_mp(&msg->result, &r->result, f);
}

/* From the socket, past the kept ones. */
static int receive(struct cli *cli, int timeout_ms, struct cli_reply **out, struct fault *f)
{
	struct client_msg msg;
	struct cli_reply *reply;
	int r;

	if (!cli->client)
		return broken(-EPIPE, f);
	r = client_recv(cli->client, timeout_ms, &msg);
	if (r == -EAGAIN || r == -EINTR)
		return -EAGAIN;
	if (r < 0)
		return broken(r, f);
	reply = mem_alloc(sizeof(*reply));
	reply->fd = -1;
	r = convert(&msg, reply, f);
	client_msg_clear(&msg);
	if (r < 0) {
		fault_prefix(f, "cannot read the daemon's answer");
		cli_reply_free(reply);
		return r;
	}
	*out = reply;
	return 0;
}

int cli_recv(struct cli *cli, int timeout_ms, struct cli_reply **out, struct fault *f)
{
	if (cli->stash) {
		*out = cli->stash;
		cli->stash = cli->stash->next;
		(*out)->next = NULL;
		return 0;
	}
	return receive(cli, timeout_ms, out, f);
}

static struct cli_reply *take_kept(struct cli *cli, uint32_t msgid)
{
	for (struct cli_reply **p = &cli->stash; *p; p = &(*p)->next) {
		struct cli_reply *r = *p;

		if (!r->notification && r->msgid == msgid) {
			*p = r->next;
			return r;
		}
	}
	return NULL;
}

static void keep(struct cli *cli, struct cli_reply *r)
{
	struct cli_reply **p = &cli->stash;

	while (*p)
		p = &(*p)->next;
	*p = r;
}

int cli_answer_fd(struct cli *cli, uint32_t msgid, json_object **result, int *out_fd,
		  struct fault *f)
{
	struct cli_reply *r = take_kept(cli, msgid);
	int err;

	while (!r) {
		struct cli_reply *next = NULL;

		err = receive(cli, -1, &next, f);
		if (err < 0 && err != -EAGAIN)
			return err;
		if (next && (next->notification || next->msgid != msgid))
			keep(cli, next);
		else
			r = next;
	}
	err = 0;
	if (r->failed) {
		if (f)
			*f = r->fault;
		err = r->fault.err ? -r->fault.err : -EREMOTEIO;
	} else {
		if (result)
			*result = TAKE_PTR(r->result);
		if (out_fd)
			*out_fd = TAKE_FD(r->fd);
	}
	cli_reply_free(r);
	return err;
}

int cli_answer(struct cli *cli, uint32_t msgid, json_object **result, struct fault *f)
{
	return cli_answer_fd(cli, msgid, result, NULL, f);
}

int cli_call_for_fd(struct cli *cli, const char *method, json_object *params, int *fd,
		    json_object **result, struct fault *f)
{
	uint32_t id;
	int r;

	*fd = -1;
	r = cli_send(cli, method, params, NULL, 0, &id, f);
	if (r == 0)
		r = cli_answer_fd(cli, id, result, fd, f);
	if (r == 0 && *fd < 0)
		r = fault_set(f, FAULT_INTERNAL, 0, "%s answered without a file descriptor",
			      method);
	return r;
}

int cli_call_fds(struct cli *cli, const char *method, json_object *params, const int *fds,
		 size_t n_fds, json_object **result, struct fault *f)
{
	uint32_t id;
	int r = cli_send(cli, method, params, fds, n_fds, &id, f);

	return r < 0 ? r : cli_answer(cli, id, result, f);
}

int cli_call(struct cli *cli, const char *method, json_object *params, json_object **result,
	     struct fault *f)
{
	return cli_call_fds(cli, method, params, NULL, 0, result, f);
}

int cli_list(struct cli *cli, const char *method, json_object *params, const char *key,
	     json_object **out, struct fault *f)
{
	json_object *p CLEANUP_JSON = params ? params : js_object();
	json_object *all CLEANUP_JSON = js_array();

	for (;;) {
		json_object *page CLEANUP_JSON = NULL;
		json_object *entries;
		const char *next;
		int r;

		r = cli_call(cli, method, json_object_get(p), &page, f);
		if (r < 0)
			return r;
		entries = js_get(page, key);
		for (size_t i = 0; i < js_len(entries); i++)
			js_push(all, json_object_get(js_at(entries, i)));
		next = js_str(page, "next");
		if (!*next || !js_len(entries))
			break;
		js_set_str(p, "after", next);
	}
	*out = TAKE_PTR(all);
	return 0;
}

json_object *cli_params(const char *container_id, const char *exec_id)
{
	json_object *p = js_object();

	js_set_str(p, "container_id", container_id);
	if (exec_id)
		js_set_str(p, "exec_id", exec_id);
	return p;
}
