// SPDX-License-Identifier: Apache-2.0
/*
 * msgpack-RPC client library, blocking, for the command line and the benches
 *
 * One connection, any number of requests in flight. Notifications that arrive while an answer is
 * awaited go to the handler.
 */
#pragma once

#include <msgpack.h>
#include <stdint.h>

#include "util/fault.h"

struct client;

/* A message that arrived; free with client_msg_clear. */
struct client_msg {
	int type; /* 1 answer, 2 notification */
	uint32_t msgid;
	msgpack_unpacked unpacked; /* owns error, result, params */
	msgpack_object error, result; /* of an answer */
	msgpack_object method, params; /* of a notification */
	int fds[16];
	size_t n_fds; /* closed by client_msg_clear; take one by setting it to -1 */
};

/* path NULL: $DAVIT_SOCKET or /run/davit/davit.sock. -ENOENT, -ECONNREFUSED: no daemon there. */
int client_open(struct client **out, const char *path);
void client_close(struct client *c);
int client_fd(const struct client *c); /* for poll */

/* Sends a request. params: one packed map, or NULL for none. fds are borrowed. */
int client_send(struct client *c, const char *method, const msgpack_sbuffer *params, const int *fds,
		size_t n_fds, uint32_t *msgid);
/* The next message. timeout_ms -1: for ever, 0: only what is there. 0, -EAGAIN (timeout), -EPIPE (end), -EPROTO. */
int client_recv(struct client *c, int timeout_ms, struct client_msg *msg);
void client_msg_clear(struct client_msg *msg);

/*
 * Request and answer. 0 with *msg for the caller to clear; an error answer or a broken connection is
 * negative with the fault filled (details' errno, step, path, exit_code, log too).
 */
int client_call(struct client *c, const char *method, const msgpack_sbuffer *params, const int *fds,
		size_t n_fds, struct client_msg *msg, struct fault *f);
void client_on_notify(struct client *c, void (*fn)(void *user, const struct client_msg *msg),
		      void *user);
/* Error object of an answer into a fault. */
void client_fault(const msgpack_object *error, struct fault *f);
