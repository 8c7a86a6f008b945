// SPDX-License-Identifier: Apache-2.0
/*
 * msgpack-RPC server on a UNIX socket
 *
 * Owns the accepted connections, checks their peers, reads frames with fds, dispatches requests by the
 * method tables and writes answers and notifications. One libevent base, one thread.
 */
#pragma once

#include <event2/event.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/method.h"

struct ipc_server;
struct ipc_conn;

struct ipc_server_stats {
	uint64_t connections; /* open now */
	uint64_t accepted, refused, requests, notifications, bytes_in, bytes_out, in_flight;
};

/*
 * listen_fd is borrowed (the guardian owns the socket) and made non-blocking. gid: the group allowed
 * beside uid 0, (gid_t)-1 for none.
 */
int ipc_server_new(struct ipc_server **out, struct event_base *base, int listen_fd, gid_t gid);
/* Ends connections; requests in others' hands stay valid and answer nowhere. Not from within a handler. */
void ipc_server_free(struct ipc_server *s);
/* Tables are borrowed. A name twice is -EEXIST. */
int ipc_server_add(struct ipc_server *s, const struct ipc_method *table, void *user);
/* For rpc.describe; the table is borrowed. 0 or -ENOMEM. */
int ipc_server_topics(struct ipc_server *s, const struct ipc_topic *topics);
void ipc_server_stats(const struct ipc_server *s, struct ipc_server_stats *out);
/* Requests by method so far: calls fn for each method that was called. */
void ipc_server_each_method(const struct ipc_server *s,
			    void (*fn)(void *user, const struct ipc_method *m, uint64_t calls),
			    void *user);
/*
 * Called with a valid namespace (made on first use) before the handler of a method without
 * IPC_NO_NAMESPACE runs. Non-zero: the hook answered the request with an error.
 */
void ipc_server_on_namespace(struct ipc_server *s,
			     int (*fn)(void *user, struct ipc_request *req, const char *ns),
			     void *user);
/* No new requests are read or connections accepted; answers still go out. */
void ipc_server_quiesce(struct ipc_server *s);
/* version, rpc.describe, rpc.options and rpc.cancel are in the server itself; the texts are borrowed. */
void ipc_server_version(struct ipc_server *s, const char *version, const char *revision);

/*
 * Connections, for subscriptions. A notification is sent as prepared bytes: one whole msgpack message.
 * backlog is what waits to be written; the sender holds back while it is above LIMIT_CONN_BACKLOG.
 * drained is called each time the backlog has fallen to nothing after it had stood at half of that or
 * more; closed once when the connection goes, before it is freed.
 */
uint64_t ipc_conn_id(const struct ipc_conn *c);
/* copies; 0 or -ENOMEM, -EPIPE */
int ipc_conn_send(struct ipc_conn *c, const void *data, size_t size);
size_t ipc_conn_backlog(const struct ipc_conn *c);
/* The peer has closed it, although `closed` has perhaps not been called yet. */
bool ipc_conn_hung_up(const struct ipc_conn *c);
struct ipc_conn_watch { /* embedded by the watcher, who removes it before it dies */
	struct ipc_conn_watch *next, **prev;
	void (*drained)(struct ipc_conn_watch *w);
	void (*closed)(struct ipc_conn_watch *w); /* w is unlinked already */
	/* a connection that its peer has half closed, with nothing more to answer, may go for all of it */
	bool passive;
};
void ipc_conn_watch(struct ipc_conn *c, struct ipc_conn_watch *w);
void ipc_conn_unwatch(struct ipc_conn_watch *w);
