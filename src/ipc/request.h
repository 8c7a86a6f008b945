// SPDX-License-Identifier: Apache-2.0
/*
 * A request under way
 *
 * It lives from dispatch until its answer was handed to the connection, and may outlive the
 * connection: then the answer goes nowhere. Arguments and scratch memory are in its zone.
 * The handler, or whoever the handler gave it to, answers exactly once; after that the pointer is dead.
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/method.h"
#include "util/fault.h"

struct ipc_conn;

/* Arguments; of the method's own and of the common parameters. Absent and nil are the same. */
const msgpack_object *ipc_arg(struct ipc_request *req, const char *name); /* NULL: absent */
bool ipc_has(struct ipc_request *req, const char *name);
/* Whether the method has such a parameter, its own or a common one; of "a.b" it is "a". */
bool ipc_takes(struct ipc_request *req, const char *name);
/* NUL-terminated, in the request's memory; NULL when absent. That there is no NUL inside was checked. */
const char *ipc_arg_str(struct ipc_request *req, const char *name);
/* IPC_INT, IPC_SIGNAL */
int64_t ipc_arg_int(struct ipc_request *req, const char *name, int64_t dflt);
bool ipc_arg_bool(struct ipc_request *req, const char *name, bool dflt);
/* "fd:N": takes the fd out of the request; the caller closes it. -1 when absent or taken already. */
int ipc_arg_fd(struct ipc_request *req, const char *name);
/* IPC_STRS as an array in the zone; NULL and *n = 0 when absent. */
const char *const *ipc_arg_strs(struct ipc_request *req, const char *name, size_t *n);
/* Whether an update applies to this field path: no mask given, or a mask naming it or a parent of it. */
bool ipc_mask_has(struct ipc_request *req, const char *path);

/* "default" unless given; NULL with IPC_NO_NAMESPACE */
const char *ipc_namespace(struct ipc_request *req);
const struct ipc_method *ipc_request_method(struct ipc_request *req);
struct ipc_conn *ipc_request_conn(struct ipc_request *req); /* NULL once the connection is gone */
void *ipc_request_alloc(struct ipc_request *req, size_t size); /* from its zone, or NULL */

/*
 * Called once when the request will not be wanted: the client cancelled it, its timeout passed, or the
 * connection is gone. The dispatcher answers (cancelled, deadline_exceeded) right after the callback
 * returns, so the callee drops its pointer. Without a callback the handler goes on, and its late
 * answer is dropped. NULL removes it. The handler must remove it before its user dies.
 */
void ipc_request_on_cancel(struct ipc_request *req, void (*fn)(struct ipc_request *req, void *user),
			   void *user);

/*
 * The answer. Begin gives a packer: pack exactly one object (a map), then end, without returning to
 * the loop in between. ipc_reply_empty is `{}`. Faults get the method's and the argument's name put
 * before their message, unless it begins with them.
 * ipc_reply_fd, between begin and end, adds an fd that rides on the answer's first byte, takes
 * it over and returns its number N for "fd:N".
 */
msgpack_packer *ipc_reply_begin(struct ipc_request *req);
/* the packer's buffer, for mp_map_begin */
msgpack_sbuffer *ipc_reply_buffer(struct ipc_request *req);
int ipc_reply_fd(struct ipc_request *req, int fd); /* or -ENOMEM, -E2BIG: fd is closed */
void ipc_reply_end(struct ipc_request *req);
void ipc_reply_empty(struct ipc_request *req);
void ipc_reply_fault(struct ipc_request *req, const struct fault *f);
void ipc_reply_error(struct ipc_request *req, enum fault_code code, const char *argument,
		     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * For list methods: sorted keys are walked by the handler. ipc_list_begin reads limit, after and fields and compiles the
 * filters (faults are answered; it then returns false and the request is dead).
 *   if (!ipc_list_begin(req, "containers", &it)) return;
 *   for (each item with key > it.after, in order) {
 *       if (!ipc_list_want(&it, key, field_fn, item)) continue or, when it.full, break;
 *       pack the item with it.pk (exactly one object; `fields` picks are applied to it afterwards);
 *   }
 *   ipc_list_end(&it);
 * A page ends at `limit`, LIMIT_LIST_PAGE entries or LIMIT_LIST_BYTES. Then `next`, the last entry's key, is answered, but
 * only if a further entry passed the filters. To give up in the middle: ipc_list_abort, then answer a fault.
 */
struct ipc_list {
	struct ipc_request *req;
	msgpack_packer *pk;
	const char *after; /* "" when not given */
	bool full; /* the limit is reached: stop */
	/* private */
	struct filter *filter;
	const char *const *fields;
	size_t n_fields;
	char *last; /* key of the last entry, in the request's zone */
	size_t last_room;
	uint32_t count, limit;
	size_t map, array, item; /* places in the answer; item 0: none is being packed */
	msgpack_zone *zone; /* for picking fields */
	bool more, failed;
};
typedef bool (*ipc_field_fn)(void *user, const char *const *path, size_t n, const char **value);
bool ipc_list_begin(struct ipc_request *req, const char *result_name, struct ipc_list *it);
bool ipc_list_want(struct ipc_list *it, const char *key, ipc_field_fn field, void *user);
void ipc_list_end(struct ipc_list *it); /* answers */
void ipc_list_abort(struct ipc_list *it); /* does not answer */
/*
 * An entry that was packed elsewhere and is wanted: filters are not asked. False: it does not fit,
 * it.full is set.
 */
bool ipc_list_put(struct ipc_list *it, const char *key, const void *packed, size_t size);
