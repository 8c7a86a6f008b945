// SPDX-License-Identifier: Apache-2.0
/*
 * Limits
 *
 * Every number that a peer or an input controls has its limit here, by name, and a test.
 */
#pragma once

/* msgpack-RPC */
#define LIMIT_FRAME_BYTES (16u << 20) /* one message, bytes */
#define LIMIT_FRAME_DEPTH 32u /* nested arrays and maps */
#define LIMIT_FRAME_ITEMS                                                                          \
	(1u << 20) /* values in one message: each takes 24 bytes or more once unpacked */
#define LIMIT_CONN_REQUESTS 1024u /* in flight on a connection, other than tasks.wait */
#define LIMIT_CONN_WAITS 65536u /* tasks.wait in flight on a connection */
#define LIMIT_CONN_SUBSCRIPTIONS 256u
#define LIMIT_CONN_HELD_BYTES                                                                      \
	(64u << 20) /* large requests in flight on a connection; above it nothing more is read */
#define LIMIT_CONN_BACKLOG                                                                         \
	(1u << 20) /* answers and events not yet written; above it nothing more is read */
#define LIMIT_CONNECTIONS 1024u
#define LIMIT_CONNECTIONS_REFUSED                                                                  \
	64u /* beside them, those that are told resource_exhausted before they are closed */
#define LIMIT_SERVER_ORPHANS 65536u /* requests still worked on whose connection is gone */
#define LIMIT_REQUEST_FDS 16u /* fds passed with one request */
#define LIMIT_LIST_PAGE 10000u /* entries answered by one list call, unless `limit` says fewer */
#define LIMIT_LIST_BYTES (8u << 20) /* a list's page also ends where it has grown to this */

/* names */
#define LIMIT_ID_BYTES 76u /* container, exec, namespace, lease ids */
#define LIMIT_LABEL_BYTES 4096u /* key and value of a label together */
#define LIMIT_LABELS 1024u /* labels of one object */
#define LIMIT_NAMESPACES 4096u
#define LIMIT_PATH_BYTES 4095u /* of an argument that is a path */
#define LIMIT_NAME_BYTES 4096u /* image, runtime, snapshotter and snapshot key of a container */
#define LIMIT_EXTENSIONS_BYTES (1u << 20) /* of a container, packed */

/* OCI spec */
#define LIMIT_SPEC_BYTES (4u << 20) /* config.json as text */
#define LIMIT_SPEC_MOUNTS 4096u
#define LIMIT_SPEC_ARGS_BYTES (2u << 20)
#define LIMIT_JSON_DEPTH 64u

/* filters */
#define LIMIT_FILTER_BYTES 4096u
#define LIMIT_FILTERS 64u
#define LIMIT_FILTER_VALUE (64u << 10) /* a longer value matches no regular expression */

/* events */
#define LIMIT_EVENT_BYTES (1u << 20) /* payload of one event */
#define LIMIT_JOURNAL_BYTES_DEFAULT (64ull << 20)
#define LIMIT_JOURNAL_BYTES_MIN (1ull << 20)

/* terminals and logs */
#define LIMIT_TTY_REPLAY (64u << 10)
#define LIMIT_TTY_CLIENT_BACKLOG                                                                   \
	(1u << 20) /* an attached client further behind than this is detached */
#define LIMIT_LOG_LINE (16u << 10) /* longer lines are split as partial (P) */
#define LIMIT_LOG_SIZE_DEFAULT (16ll << 20)
#define LIMIT_LOG_QUEUE (1u << 20) /* of a terminal's output, on its way to the log thread */

/* hooks */
#define LIMIT_HOOK_OUTPUT (64u << 10) /* of a hook's stderr, kept for the error */
#define LIMIT_HOOK_SECONDS_DEFAULT 60u /* a hook without a timeout of its own */
