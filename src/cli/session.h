// SPDX-License-Identifier: Apache-2.0
/*
 * A process in the foreground: its stdio, the signals for it, its end
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "util/fault.h"

struct session;

enum { SESSION_E_DETACHED = 1 }; /* the user pressed the detach keys; the process runs on */

/*
 * id and exec_id (NULL: the container's init) are borrowed. Blocks the signals that are passed on.
 */
int session_new(struct session **out, struct cli *cli, const char *id, const char *exec_id,
		bool tty, bool interactive, struct fault *f);
void session_free(struct session *s); /* NULL is fine; puts the terminal and the signals back */

/*
 * The stdio arguments of tasks.create and tasks.exec for a foreground process: own fds, which go
 * along with the request (room for 3), or the terminal and its size.
 */
void session_stdio(struct session *s, json_object *params, int *fds, size_t *n_fds);
/*
 * With a terminal: the bytes of both directions begin to flow. Of an init before its start, so that
 * nothing is missed; of an exec after it.
 */
int session_attach(struct session *s, struct fault *f);
/* Asks for the end. Before start as well. */
int session_wait(struct session *s, struct fault *f);
/*
 * Until the process ends: passes signals and terminal bytes. *answer is that of tasks.wait. A
 * daemon that is restarted meanwhile is waited for.
 */
int session_loop(struct session *s, json_object **answer, struct fault *f);
/*
 * One subscription (parameters of events.subscribe, taken over), which outlives a restart of the
 * daemon without missing an event. session_notified tells whether one came.
 */
int session_subscribe(struct session *s, json_object *params, struct fault *f);
bool session_notified(const struct session *s);
