// SPDX-License-Identifier: Apache-2.0
/*
 * The server's own methods: version and rpc.*
 *
 * They need nothing but the server, so that any daemon with this server describes itself. What
 * rpc.describe answers is made from the tables each time: it is rare, and never out of date.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/internal.h"
#include "util/cleanup.h"
#include "util/mp.h"

#define API 1 /* rises when something that clients rely on is changed, not when it is added to */

static const char *const type_names[] = {
	[IPC_STR] = "str",
	[IPC_ID] = "id",
	[IPC_INT] = "int",
	[IPC_BOOL] = "bool",
	[IPC_BIN] = "bin",
	[IPC_MAP] = "map",
	[IPC_LABELS] = "labels",
	[IPC_LIST] = "list",
	[IPC_STRS] = "list of str",
	[IPC_FD] = "fd",
	[IPC_STDIO] = "stdio",
	[IPC_SIGNAL] = "signal",
	[IPC_STR_OR_MAP] = "str or map",
	[IPC_ANY] = "any",
};

static const struct {
	enum fault_code code;
	const char *doc;
} error_docs[] = {
	{ FAULT_INVALID_ARGUMENT, "an argument is missing, unknown or not as it must be" },
	{ FAULT_NOT_FOUND, "what was named does not exist" },
	{ FAULT_ALREADY_EXISTS, "what was to be made exists" },
	{ FAULT_FAILED_PRECONDITION, "the object's state does not allow it" },
	{ FAULT_UNAVAILABLE, "not now; trying again later may help" },
	{ FAULT_UNIMPLEMENTED, "there is no such method, or not this way of it" },
	{ FAULT_ABORTED, "it was begun and given up because something else changed meanwhile" },
	{ FAULT_OUT_OF_RANGE, "a position is outside of what is there" },
	{ FAULT_PERMISSION_DENIED, "the kernel refused it" },
	{ FAULT_RESOURCE_EXHAUSTED, "a limit is reached, or memory, disk or fds are out" },
	{ FAULT_CANCELLED, "the request was cancelled by rpc.cancel" },
	{ FAULT_DEADLINE_EXCEEDED, "the request's timeout passed" },
	{ FAULT_INTERNAL, "a bug in davit" },
	{ FAULT_UNKNOWN, "a failure of another kind; the message tells" },
};

static void do_version(struct ipc_request *req, void *user)
{
	struct ipc_server *s = user;
	msgpack_packer *pk = ipc_reply_begin(req);

	msgpack_pack_map(pk, 3);
	mp_pack_key_str(pk, "version", s->version);
	mp_pack_key_str(pk, "revision", s->revision);
	mp_pack_key_int(pk, "api", API);
	ipc_reply_end(req);
}

static void pack_param(msgpack_packer *pk, const struct ipc_param *p, bool common)
{
	bool bounds = p->min || p->max;

	msgpack_pack_map(pk, 4 + (p->dflt != NULL) + 2 * bounds + common);
	mp_pack_key_str(pk, "name", p->name);
	mp_pack_key_str(pk, "type", type_names[p->type]);
	mp_pack_key_bool(pk, "required", p->flags & IPC_REQUIRED);
	if (p->dflt)
		mp_pack_key_str(pk, "default", p->dflt);
	if (bounds) {
		mp_pack_key_int(pk, "min", p->min);
		mp_pack_key_int(pk, "max", p->max);
	}
	mp_pack_key_str(pk, "doc", p->doc ? p->doc : "");
	if (common)
		mp_pack_key_bool(pk, "common", true);
}

static void pack_words(msgpack_packer *pk, msgpack_sbuffer *sb, const char *words)
{
	size_t mark = mp_array_begin(sb);
	uint32_t n = 0;

	while (words && *(words += strspn(words, " "))) {
		size_t size = strcspn(words, " ");

		mp_pack_strn(pk, words, size);
		words += size;
		n++;
	}
	mp_array_end(sb, mark, n);
}

static void pack_method(msgpack_packer *pk, msgpack_sbuffer *sb, const struct ipc_entry *e)
{
	const struct ipc_method *m = e->method;
	uint32_t n = 0;
	size_t mark;

	msgpack_pack_map(pk, 5);
	mp_pack_key_str(pk, "name", m->name);
	mp_pack_key_str(pk, "summary", m->summary ? m->summary : "");
	mp_pack_key(pk, "params");
	msgpack_pack_array(pk, e->n_params);
	for (uint32_t i = 0; i < e->n_params; i++)
		pack_param(pk, e->params[i], i >= e->n_own);
	mp_pack_key(pk, "result");
	mark = mp_array_begin(sb);
	for (const struct ipc_field *f = m->result; f && f->name; f++, n++) {
		msgpack_pack_map(pk, 3);
		mp_pack_key_str(pk, "name", f->name);
		mp_pack_key_str(pk, "type", f->type);
		mp_pack_key_str(pk, "doc", f->doc ? f->doc : "");
	}
	mp_array_end(sb, mark, n);
	mp_pack_key(pk, "errors");
	pack_words(pk, sb, m->errors);
}

static void pack_topics(msgpack_packer *pk, msgpack_sbuffer *sb, const struct ipc_server *s)
{
	const struct ipc_topics *t;
	size_t mark = mp_array_begin(sb);
	uint32_t n = 0;

	STAILQ_FOREACH (t, &s->topics, next) {
		for (const struct ipc_topic *row = t->topics; row->name; row++, n++) {
			msgpack_pack_map(pk, 3);
			mp_pack_key_str(pk, "name", row->name);
			mp_pack_key(pk, "fields");
			pack_words(pk, sb, row->fields);
			mp_pack_key_str(pk, "doc", row->doc ? row->doc : "");
		}
	}
	mp_array_end(sb, mark, n);
}

static int by_name(const void *a, const void *b)
{
	const struct ipc_entry *const *x = a, *const *y = b;

	return strcmp((*x)->method->name, (*y)->method->name);
}

static void do_describe(struct ipc_request *req, void *user)
{
	CLEANUP_FREE struct ipc_entry **entries = NULL;
	struct ipc_server *s = user;
	msgpack_packer *pk;
	msgpack_sbuffer *sb;
	size_t n = 0;

	entries = calloc(s->table.n, sizeof(struct ipc_entry *));
	if (!entries) {
		ipc_reply_error(req, FAULT_RESOURCE_EXHAUSTED, NULL, "no memory");
		return;
	}
	for (size_t i = 0; i < s->table.n_buckets; i++)
		for (struct ipc_entry *e = s->table.buckets[i]; e; e = e->next)
			entries[n++] = e;
	qsort(entries, n, sizeof(struct ipc_entry *), by_name);

	pk = ipc_reply_begin(req);
	sb = ipc_reply_buffer(req);
	msgpack_pack_map(pk, 3);
	mp_pack_key(pk, "methods");
	msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++)
		pack_method(pk, sb, entries[i]);
	mp_pack_key(pk, "errors");
	msgpack_pack_array(pk, ARRAY_SIZE(error_docs));
	for (size_t i = 0; i < ARRAY_SIZE(error_docs); i++) {
		msgpack_pack_map(pk, 2);
		mp_pack_key_str(pk, "code", fault_code_name(error_docs[i].code));
		mp_pack_key_str(pk, "doc", error_docs[i].doc);
	}
	mp_pack_key(pk, "topics");
	pack_topics(pk, sb, s);
	ipc_reply_end(req);
}

static void do_options(struct ipc_request *req, void *user)
{
	struct ipc_conn *c = ipc_request_conn(req);
	const char *errors = ipc_arg_str(req, "errors");
	msgpack_packer *pk;

	(void)user;
	if (errors && strcmp(errors, "map") && strcmp(errors, "string")) {
		ipc_reply_error(req, FAULT_INVALID_ARGUMENT, "errors",
				"must be \"map\" or \"string\"");
		return;
	}
	if (errors)
		c->text_errors = !strcmp(errors, "string");
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 1);
	mp_pack_key_str(pk, "errors", c->text_errors ? "string" : "map");
	ipc_reply_end(req);
}

static void do_cancel(struct ipc_request *req, void *user)
{
	uint32_t msgid = (uint32_t)ipc_arg_int(req, "msgid", 0);
	struct ipc_request *target = ipc_request_find(ipc_request_conn(req), msgid);
	msgpack_packer *pk;

	(void)user;
	if (target) {
		struct fault f;

		fault_set(&f, FAULT_CANCELLED, 0, "%s: cancelled",
			  ipc_request_method(target)->name);
		ipc_request_abort(target, &f);
	}
	pk = ipc_reply_begin(req);
	msgpack_pack_map(pk, 1);
	mp_pack_key_bool(pk, "cancelled", target != NULL);
	ipc_reply_end(req);
}

static const struct ipc_field version_result[] = {
	{ "version", "str", "version of the daemon" },
	{ "revision", "str", "source revision it was built from" },
	{ "api", "int", "version of this interface" },
	{ NULL, NULL, NULL },
};

static const struct ipc_field describe_result[] = {
	{ "methods", "list of map", "name, summary, params, result and errors of each method." },
	{ "errors", "list of map", "code and doc of each error code." },
	{ "topics", "list of map", "name, fields and doc of each event topic." },
	{ NULL, NULL, NULL },
};

static const struct ipc_param options_params[] = {
	{ "errors", IPC_STR, 0, 0, 0, "map",
	  "\"map\" for error objects, \"string\" for \"CODE: message\"" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static const struct ipc_field options_result[] = {
	{ "errors", "str", "the form of errors on this connection from now on" },
	{ NULL, NULL, NULL },
};

static const struct ipc_param cancel_params[] = {
	{ "msgid", IPC_INT, IPC_REQUIRED, 0, UINT32_MAX, NULL, "message id of the request to end" },
	{ NULL, IPC_ANY, 0, 0, 0, NULL, NULL },
};

static const struct ipc_field cancel_result[] = {
	{ "cancelled", "bool", "false when no request of that id is in flight" },
	{ NULL, NULL, NULL },
};

static const struct ipc_method methods[] = {
	{ "version", "Versions of the daemon and of its interface", IPC_NO_NAMESPACE, NULL,
	  version_result, NULL, do_version },
	{ "rpc.describe", "All methods, error codes and event topics", IPC_NO_NAMESPACE, NULL,
	  describe_result, NULL, do_describe },
	{ "rpc.options", "Sets how this connection is answered", IPC_NO_NAMESPACE, options_params,
	  options_result, NULL, do_options },
	{ "rpc.cancel", "Ends a request of this connection, which then answers cancelled",
	  IPC_NO_NAMESPACE, cancel_params, cancel_result, NULL, do_cancel },
	{ NULL, NULL, 0, NULL, NULL, NULL, NULL },
};

int ipc_builtin_add(struct ipc_server *s)
{
	return ipc_table_add(&s->table, methods, s, true);
}
