// SPDX-License-Identifier: Apache-2.0
/*
 * Answers
 *
 * An answer is packed into the server's one scratch buffer, head first, and handed to the connection
 * when it is whole: so one that is given up half way, or whose handler causes an event to be sent
 * on the same connection meanwhile, leaves no trace there. Only when a second answer is begun before
 * the first has ended does it get a buffer of its own.
 *
 * Before it goes out the scanner walks over it: a handler that packs no value, or two, would put the
 * whole connection out of step. That is a bug, and answered as `internal`.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "util/limits.h"
#include "util/mp.h"

/* [1, msgid, error, result] up to the error. */
static void begin(struct ipc_request *req)
{
	struct ipc_server *s = req->server;

	if (!req->sb) {
		if (s->scratch_used) {
			req->sb = &req->own;
		} else {
			req->sb = &s->scratch;
			s->scratch_used = true;
		}
	}
	if (mp_failed(req->sb)) {
		msgpack_sbuffer_destroy(req->sb);
		msgpack_sbuffer_init(req->sb);
	}
	req->sb->size = 0;
	mp_packer_init(&req->packer, req->sb);
	msgpack_pack_array(&req->packer, 4);
	msgpack_pack_uint8(&req->packer, 1);
	msgpack_pack_uint32(&req->packer, req->msgid);
}

static void release(struct ipc_request *req)
{
	if (req->sb == &req->server->scratch)
		req->server->scratch_used = false;
	req->sb = NULL;
}

static void pack_log(msgpack_packer *pk, const char *log)
{
	size_t lines = 1;

	for (const char *p = log; *p; p++)
		lines += p[0] == '\n' && p[1];
	mp_pack_key(pk, "log");
	msgpack_pack_array(pk, lines);
	while (lines--) {
		size_t n = strcspn(log, "\n");

		mp_pack_strn(pk, log, n);
		log += n + (log[n] == '\n');
	}
}

static void pack_fault(msgpack_packer *pk, const struct fault *f)
{
	size_t n = 0;

	n += f->argument[0] != 0;
	n += f->step[0] != 0;
	n += f->path[0] != 0;
	n += f->err ? 2 : 0;
	n += f->exit_code != 0;
	n += f->log[0] != 0;

	msgpack_pack_map(pk, 3);
	mp_pack_key_str(pk, "code", fault_code_name(f->code));
	mp_pack_key_str(pk, "message", f->message);
	mp_pack_key(pk, "details");
	msgpack_pack_map(pk, n);
	if (f->argument[0])
		mp_pack_key_str(pk, "argument", f->argument);
	if (f->step[0])
		mp_pack_key_str(pk, "step", f->step);
	if (f->path[0])
		mp_pack_key_str(pk, "path", f->path);
	if (f->err) {
		mp_pack_key_int(pk, "errno", f->err);
		mp_pack_key_str(pk, "errname", fault_errno_name(f->err));
	}
	if (f->exit_code)
		mp_pack_key_int(pk, "exit_code", f->exit_code);
	if (f->log[0])
		pack_log(pk, f->log);
}

void ipc_reply_send_fault(struct ipc_request *req, const struct fault *f)
{
	struct ipc_conn *c = req->conn;
	msgpack_packer *pk = &req->packer;

	begin(req);
	if (c && c->text_errors) {
		char text[sizeof(f->message) + 64];

		snprintf(text, sizeof(text), "%s: %s", fault_code_name(f->code), f->message);
		mp_pack_str(pk, text);
	} else {
		pack_fault(pk, f);
	}
	msgpack_pack_nil(pk);
	stream_fds_free(req->reply_fds);
	req->reply_fds = NULL;
	if (c)
		ipc_conn_answer(c, req->sb, NULL);
	release(req);
}

msgpack_packer *ipc_reply_begin(struct ipc_request *req)
{
	begin(req);
	msgpack_pack_nil(&req->packer);
	req->body = req->sb->size;
	return &req->packer;
}

msgpack_sbuffer *ipc_reply_buffer(struct ipc_request *req)
{
	return req->sb;
}

int ipc_reply_fd(struct ipc_request *req, int fd)
{
	if (!req->reply_fds)
		req->reply_fds = calloc(1, sizeof(*req->reply_fds));
	if (!req->reply_fds || req->reply_fds->n == LIMIT_REQUEST_FDS) {
		close(fd);
		return req->reply_fds ? -E2BIG : -ENOMEM;
	}
	req->reply_fds->fds[req->reply_fds->n] = fd;
	return (int)req->reply_fds->n++;
}

/* Whether exactly one value was packed. */
static bool well_packed(const struct ipc_request *req)
{
	struct scan scan;
	size_t size = req->sb->size - req->body, found;

	scan_reset(&scan);
	return !scan_frame(&scan, req->sb->data + req->body, size, UINT32_MAX, &found) &&
	       found == size;
}

void ipc_reply_end(struct ipc_request *req)
{
	struct fault f = { 0 };

	if (mp_failed(req->sb))
		fault_set(&f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "%s", req->entry->method->name);
	else if (!well_packed(req))
		fault_set(&f, FAULT_INTERNAL, 0, "%s: the answer was packed wrongly",
			  req->entry->method->name);
	if (f.code) {
		ipc_reply_fault(req, &f);
		return;
	}
	if (req->conn && !req->notification && !req->answered && !req->cancelling)
		ipc_conn_answer(req->conn, req->sb, req->reply_fds);
	release(req);
	ipc_request_finish(req);
}

void ipc_reply_empty(struct ipc_request *req)
{
	msgpack_pack_map(ipc_reply_begin(req), 0);
	ipc_reply_end(req);
}

/* Puts "METHOD: " and "ARGUMENT: " before the message, unless they stand there. */
static void name_in_message(struct fault *f, const char *method)
{
	size_t n = strlen(method), m = strlen(f->argument);
	const char *p = f->message;

	if (!strncmp(p, method, n) && p[n] == ':')
		return;
	if (m && !(!strncmp(p, f->argument, m) && p[m] == ':'))
		fault_prefix(f, "%s", f->argument);
	fault_prefix(f, "%s", method);
}

void ipc_reply_fault(struct ipc_request *req, const struct fault *f)
{
	if (req->conn && !req->notification && !req->answered && !req->cancelling) {
		struct fault named = *f;

		/* an error must have a code that says so */
		if (named.code <= FAULT_NONE || named.code >= FAULT_CODES)
			named.code = FAULT_UNKNOWN;
		if (req->entry)
			name_in_message(&named, req->entry->method->name);
		ipc_reply_send_fault(req, &named);
	} else if (req->sb) {
		release(req);
	}
	ipc_request_finish(req);
}

void ipc_reply_error(struct ipc_request *req, enum fault_code code, const char *argument,
		     const char *fmt, ...)
{
	struct fault f;
	va_list ap;

	va_start(ap, fmt);
	fault_setv(&f, code, 0, fmt, ap);
	va_end(ap);
	fault_arg(&f, argument);
	ipc_reply_fault(req, &f);
}
