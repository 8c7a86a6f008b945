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
#define LIMIT_CONN_REQUESTS 1024u /* in flight on a connection, other than tasks.wait */
#define LIMIT_CONN_WAITS 65536u /* tasks.wait in flight on a connection */
#define LIMIT_CONN_SUBSCRIPTIONS 256u
#define LIMIT_CONNECTIONS 1024u
#define LIMIT_REQUEST_FDS 16u /* fds passed with one request */
#define LIMIT_LIST_PAGE 10000u /* entries answered by one list call, unless `limit` says fewer */

/* names */
#define LIMIT_ID_BYTES 76u /* container, exec, namespace, lease ids */
#define LIMIT_LABEL_BYTES 4096u /* key and value of a label together */
#define LIMIT_LABELS 1024u /* labels of one object */

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
#define LIMIT_TTY_CLIENT_BACKLOG (1u << 20) /* an attached client further behind than this is detached */
#define LIMIT_LOG_LINE (16u << 10) /* longer lines are split as partial (P) */
#define LIMIT_LOG_SIZE_DEFAULT (16ll << 20)

/* hooks */
#define LIMIT_HOOK_OUTPUT (64u << 10) /* of a hook's stderr, kept for the error */
#define LIMIT_HOOK_SECONDS_DEFAULT 60u /* a hook without a timeout of its own */
