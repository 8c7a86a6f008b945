// SPDX-License-Identifier: Apache-2.0
/*
 * The method table: methods as data
 *
 * A row names a method, its parameters, its result and its handler. The dispatcher checks arguments
 * against the row (required, unknown, type, range, limits) before the handler runs, so a handler
 * never sees a wrong type. rpc.describe, the reference in docs/ and the completions come from the same
 * rows. Parameters common to all (namespace, lease, timeout), to lists (filters, limit, after,
 * fields) and to updates (mask) are added by flags.
 */
#pragma once

#include <stdint.h>

struct ipc_request;

enum ipc_type {
	IPC_STR, /* min..max: bytes */
	IPC_ID, /* identifier: containerd's rule, at most LIMIT_ID_BYTES */
	IPC_INT, /* min..max */
	IPC_BOOL,
	IPC_BIN, /* str or bin */
	IPC_MAP,
	IPC_LABELS, /* map of str to str, LIMIT_LABEL_BYTES */
	IPC_LIST, /* array of anything */
	IPC_STRS, /* array of str */
	IPC_FD, /* "fd:N" of this request */
	IPC_STDIO, /* nil, a path beginning with '/', "file:///path", "fd:N", "log:" */
	IPC_SIGNAL, /* int or name; the handler gets it by ipc_arg_int */
	IPC_STR_OR_MAP, /* str, bin or map */
	IPC_ANY,
};

enum {
	IPC_REQUIRED = 1 << 0, /* of a parameter */
};

/* of a method */
enum {
	IPC_LISTS = 1 << 0, /* takes filters, limit, after, fields */
	IPC_UPDATES = 1 << 1, /* takes mask */
	IPC_WAITS = 1 << 2, /* counted against LIMIT_CONN_WAITS, not LIMIT_CONN_REQUESTS */
	IPC_NO_NAMESPACE = 1 << 3, /* `namespace` has no default here (events.subscribe) */
};

struct ipc_param {
	const char *name; /* NULL ends the array */
	enum ipc_type type;
	unsigned flags;
	int64_t min, max; /* both 0: no bounds */
	const char *dflt; /* as text for the reference, NULL for none */
	const char *doc;
};

struct ipc_field {
	const char *name; /* NULL ends the array */
	const char *type; /* for the reference: "int", "str", "map", "process", … */
	const char *doc;
};

struct ipc_method {
	const char *name; /* NULL ends a table */
	const char *summary;
	unsigned flags;
	const struct ipc_param *params; /* may be NULL */
	const struct ipc_field *result; /* may be NULL */
	const char *errors; /* codes beside the general ones, space separated */
	/*
	 * Answers now or later, exactly once, by ipc_reply_* of request.h. `user` is the one given with
	 * the table. Runs on the reactor; must not wait.
	 */
	void (*handler)(struct ipc_request *req, void *user);
};

struct ipc_topic {
	const char *name; /* NULL ends the array */
	const char *fields; /* space separated */
	const char *doc;
};
