// SPDX-License-Identifier: Apache-2.0
/*
 * Talking to the daemon
 *
 * Requests and answers as JSON objects over ipc/client.h. The connection is made by the first call;
 * when no daemon is there, one is started (autostart.h). Answers come in any order: those that
 * arrive while another is awaited are kept until asked for.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/cli.h"
#include "util/fault.h"

/* A message from the daemon; its owner frees it. */
struct cli_reply {
	struct cli_reply *next;
	bool notification;
	uint32_t msgid; /* of an answer */
	json_object *result; /* of an answer; of a notification: its params (an array) */
	char *method; /* of a notification */
	bool failed; /* an error answer: fault is set */
	struct fault fault;
	int fd; /* that came with an answer, -1 for none */
};
void cli_reply_free(struct cli_reply *r); /* NULL is fine */

/* Connects if need be. A fault says what to do about a daemon that is not there. */
int cli_connect(struct cli *cli, struct fault *f);
/* Drops the connection and what was kept: the next call connects again. */
void cli_disconnect(struct cli *cli);
/*
 * After a broken connection: to the same daemon, which is being restarted. Starts none; waits for
 * half a minute.
 */
int cli_reconnect(struct cli *cli, struct fault *f);
/* Where the daemon's socket is. */
const char *cli_socket(const struct cli *cli);

/*
 * One request. params is taken over (NULL: none); the namespace is added unless it is there already
 * or the default's. fds are borrowed. -EPIPE: the connection broke.
 */
int cli_send(struct cli *cli, const char *method, json_object *params, const int *fds, size_t n_fds,
	     uint32_t *msgid, struct fault *f);
/*
 * The next message, kept ones first. timeout_ms -1: for ever. -EAGAIN when the time is over,
 * without a fault.
 */
int cli_recv(struct cli *cli, int timeout_ms, struct cli_reply **out, struct fault *f);
/*
 * The answer to msgid; others are kept. An error answer is negative with the fault filled. result
 * may be NULL.
 */
int cli_answer(struct cli *cli, uint32_t msgid, json_object **result, struct fault *f);
/* Request and answer. */
int cli_call(struct cli *cli, const char *method, json_object *params, json_object **result,
	     struct fault *f);
int cli_call_fds(struct cli *cli, const char *method, json_object *params, const int *fds,
		 size_t n_fds, json_object **result, struct fault *f);
/* The same for an answer that brings an fd (result "fd"): *fd is the caller's to close. */
int cli_call_for_fd(struct cli *cli, const char *method, json_object *params, int *fd,
		    json_object **result, struct fault *f);
/* As cli_answer; *out_fd is the answer's fd, -1 for none. */
int cli_answer_fd(struct cli *cli, uint32_t msgid, json_object **result, int *out_fd,
		  struct fault *f);
/* All entries of a list method over its pages: an array under the result's key. */
int cli_list(struct cli *cli, const char *method, json_object *params, const char *key,
	     json_object **out, struct fault *f);
/* The process that listens; this one when it is not known. */
pid_t cli_daemon_pid(const struct cli *cli);
/* For poll, after cli_recv found nothing; -1 without a connection. */
int cli_fd(const struct cli *cli);

/* The usual parameters {container_id: id} and, unless NULL, exec_id. */
json_object *cli_params(const char *container_id, const char *exec_id);
