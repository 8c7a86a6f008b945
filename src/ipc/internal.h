// SPDX-License-Identifier: Apache-2.0
/*
 * The server's insides, shared by server.c, table.c, conn.c, dispatch.c, request.c, args.c, reply.c and builtin.c
 */
#pragma once

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/method.h"
#include "ipc/outq.h"
#include "ipc/reader.h"
#include "ipc/request.h"
#include "ipc/server.h"

/* A row of a method table with what lookup and checks need. */
struct ipc_entry {
	const struct ipc_method *method;
	void *user;
	const struct ipc_param **params; /* the method's own, then the common ones */
	uint32_t n_params, n_own;
	uint64_t calls;
	struct ipc_entry *next; /* of the same hash bucket */
	uint32_t hash, name_size;
	int at_namespace, at_timeout; /* places of these parameters */
	bool exempt; /* not counted in flight: rpc.cancel has to work when all is full */
};

struct ipc_table {
	struct ipc_entry **buckets;
	size_t n_buckets, n;
};

struct ipc_topics {
	STAILQ_ENTRY(ipc_topics) next;
	const struct ipc_topic *topics;
};

/* A request's first memory; with malloc's and the chunk's own head it is 512 bytes: a tasks.wait fits. */
#define IPC_ZONE_CHUNK (512u - 24)

struct ipc_request {
	RB_ENTRY(ipc_request) node; /* of conn->requests */
	struct ipc_request *next_free; /* in server->pool */
	uint64_t key, serial; /* key: the msgid, or NOTIFICATION */
	struct ipc_server *server;
	struct ipc_conn *conn; /* NULL: the connection is gone */
	struct ipc_entry *entry;
	msgpack_zone zone;
	char *frame; /* a large frame's memory, else it is in the zone */
	size_t frame_alloc;
	size_t held; /* bytes counted in conn->held */
	const msgpack_object **args; /* by place in entry->params; NULL: absent */
	struct ipc_named_fd *named; /* of the arguments that name one */
	uint32_t n_named;
	uint32_t msgid;
	const char *ns;
	void (*on_cancel)(struct ipc_request *req, void *user);
	void *on_cancel_user;
	struct event *timer;
	msgpack_packer packer;
	msgpack_sbuffer *sb; /* of the answer being packed: the server's, or `own` */
	msgpack_sbuffer own;
	size_t body; /* where the answer's object begins in sb */
	struct stream_fds *reply_fds;
	bool notification, answered, cancelling, in_tree;
};

struct ipc_named_fd {
	uint32_t param;
	int number; /* of "fd:N" */
	int fd; /* -1: taken */
};

RB_HEAD(ipc_request_tree, ipc_request);

#define IPC_KEY_NOTIFICATION (1ull << 32)

struct ipc_conn {
	TAILQ_ENTRY(ipc_conn) link; /* of server->conns */
	TAILQ_ENTRY(ipc_conn) dirty_link;
	struct ipc_server *server;
	int fd;
	uint64_t id;
	struct event read_ev, write_ev, timer_ev;
	struct reader reader;
	struct outq out;
	struct ipc_request_tree requests; /* dispatched and not finished */
	struct ipc_request *current; /* in its handler's first call, not yet in the tree */
	struct ipc_conn_watch *watches;
	size_t held;
	uint32_t n_requests, n_waits;
	bool reading, writing; /* read_ev, write_ev are added */
	bool dirty; /* in server->dirty */
	bool dead; /* is destroyed at the next safe point */
	bool ended; /* the peer sends no more, but may still read */
	bool refused; /* above LIMIT_CONNECTIONS */
	bool told; /* a refused one has been answered so */
	bool busy; /* frames are being dispatched */
	bool high; /* the backlog was high since it was last empty */
	bool stopped; /* not reading, because of a limit */
	bool text_errors;
};

TAILQ_HEAD(ipc_conns, ipc_conn);

struct ipc_server {
	struct event_base *base; /* NULL once freed: then only requests hold it */
	int listen_fd;
	gid_t gid;
	struct event *accept_ev, *accept_timer, *flush_ev;
	struct ipc_conns conns, dirty;
	struct ipc_table table;
	STAILQ_HEAD(, ipc_topics) topics;
	int (*on_namespace)(void *user, struct ipc_request *req, const char *ns);
	void *on_namespace_user;
	const char *version, *revision;
	struct ipc_request *pool;
	size_t n_pool;
	struct outq_pool chunks;
	struct spare spare; /* memory of large requests */
	struct event *spare_ev; /* is pending while there may be some */
	msgpack_sbuffer scratch; /* for the answer being packed */
	bool scratch_used, flush_pending, flushing, quiesced;
	size_t n_dirty;
	uint64_t next_conn, next_serial;
	uint64_t n_conns, n_refused, n_requests, n_orphans; /* n_requests: structs in use */
	struct ipc_server_stats stats;
	char buf[64 * 1024]; /* all connections read into it */
};

/* table.c */
int ipc_table_add(struct ipc_table *t, const struct ipc_method *rows, void *user, bool exempt);
struct ipc_entry *ipc_table_find(const struct ipc_table *t, const char *name, size_t size);
void ipc_table_clear(struct ipc_table *t);
int ipc_entry_param(const struct ipc_entry *e, const char *name,
		    size_t size); /* its place, or -1 */

/* conn.c */
int ipc_conn_new(struct ipc_server *s, int fd,
		 bool refused); /* takes the fd over, also on failure */
void ipc_conn_destroy(struct ipc_conn *c);
void ipc_conn_kill(struct ipc_conn *c); /* destroys it soon */
void ipc_conn_quiesce(struct ipc_conn *c);
void ipc_conn_flush_dirty(struct ipc_server *s);
/* An answer: takes the memory of a large sbuffer over, and the fds. What cannot be queued ends the connection. */
void ipc_conn_answer(struct ipc_conn *c, msgpack_sbuffer *sb, struct stream_fds *fds);
/* A request ended: reading may go on. */
void ipc_conn_released(struct ipc_conn *c);

/* dispatch.c */
int ipc_dispatch(struct ipc_conn *c,
		 struct reader_frame *f); /* 0, or -errno: the connection has to end */

/* request.c */
RB_PROTOTYPE(ipc_request_tree, ipc_request, node, ipc_request_cmp)
struct ipc_request *ipc_request_new(struct ipc_conn *c);
void ipc_request_finish(struct ipc_request *req); /* its answer is out or not wanted */
void ipc_request_track(struct ipc_request *req); /* its handler returned and has not answered */
struct ipc_request *ipc_request_find(struct ipc_conn *c,
				     uint32_t msgid); /* tracked, not yet answered */
/* Ends it before its time: on_cancel, then the error. */
void ipc_request_abort(struct ipc_request *req, const struct fault *f);
void ipc_request_orphan(struct ipc_request *req); /* its connection goes */
int ipc_request_deadline(struct ipc_request *req, int64_t ns);
void ipc_request_pool_clear(struct ipc_server *s);

/* args.c */
/* Checks params (a map object or NULL) by the row. 0, or negative with the fault filled. Takes what is named out of `fds`. */
int ipc_args_check(struct ipc_request *req, msgpack_object *params, struct stream_fds *fds,
		   struct fault *f);

/* reply.c */
void ipc_reply_send_fault(struct ipc_request *req,
			  const struct fault *f); /* packs and sends, does not finish */

/* builtin.c */
int ipc_builtin_add(struct ipc_server *s);

/* server.c */
void ipc_server_spare(struct ipc_server *s, char *data, size_t size); /* keeps it for a while */
void ipc_server_unref(struct ipc_server *s); /* frees it when it is closed and no request is left */
