// SPDX-License-Identifier: Apache-2.0
/*
 * Arguments: checked by the method's row before the handler runs, and read by it afterwards
 *
 * The objects are the request's own, unpacked from a copy of its frame that lives as long as the
 * request. So the check may put them right in place, once, and accessors do not convert again: an
 * empty array where a map is expected becomes an empty map (and the other way round: clients
 * that cannot tell the two apart send either), a signal's name becomes its number, an empty
 * identifier that may be left out is left out.
 *
 * Text is handed out as C strings without copying: msgpack puts nothing behind a string, but what is
 * there, the head of the next value or the frame's spare last byte, has been read already, and so may
 * become the NUL.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/internal.h"
#include "ipc/signame.h"
#include "util/cleanup.h"
#include "util/limits.h"
#include "util/mp.h"

/* "tasks.create: container_id: REASON" */
static int bad(struct fault *f, const struct ipc_entry *e, const char *argument, const char *fmt,
	       ...) __attribute__((format(printf, 4, 5)));
static int bad(struct fault *f, const struct ipc_entry *e, const char *argument, const char *fmt,
	       ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_setv(f, FAULT_INVALID_ARGUMENT, 0, fmt, ap);
	va_end(ap);
	fault_prefix(f, "%s: %s", e->method->name, argument);
	fault_arg(f, argument);
	return -EINVAL;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* containerd's identifiers: alphanumeric groups joined by single '.', '_' or '-' */
static const char *id_reason(const char *p, size_t n)
{
	if (!n)
		return "must not be empty";
	if (n > LIMIT_ID_BYTES)
		return "is longer than 76 bytes";
	for (size_t i = 0; i < n; i++) {
		if (is_alnum(p[i]))
			continue;
		if (p[i] != '.' && p[i] != '_' && p[i] != '-')
			return "may only have letters, digits and '.', '_', '-' between them";
		if (!i || i + 1 == n || !is_alnum(p[i + 1]))
			return "must begin and end with a letter or digit, with single '.', '_', '-' between";
	}
	return NULL;
}

/* "fd:N": its number, or -1 */
static int fd_number(const char *p, size_t n)
{
	if (n < 4 || n > 5 || memcmp(p, "fd:", 3) || p[3] < '0' || p[3] > '9')
		return -1;
	if (n == 4)
		return p[3] - '0';
	if (p[3] == '0' || p[4] < '0' || p[4] > '9')
		return -1;
	return (p[3] - '0') * 10 + (p[4] - '0');
}

static const char *const type_texts[] = {
	[IPC_STR] = "a string",
	[IPC_ID] = "a string",
	[IPC_INT] = "an integer",
	[IPC_BOOL] = "a boolean",
	[IPC_BIN] = "a string or bytes",
	[IPC_MAP] = "a map",
	[IPC_LABELS] = "a map of strings",
	[IPC_LIST] = "an array",
	[IPC_STRS] = "an array of strings",
	[IPC_FD] = "a string \"fd:N\"",
	[IPC_STDIO] = "a string",
	[IPC_SIGNAL] = "an integer or a signal's name",
	[IPC_STR_OR_MAP] = "a string or a map",
	[IPC_ANY] = "anything",
};

struct check {
	struct ipc_request *req;
	const struct ipc_entry *e;
	const struct ipc_param *p;
	uint32_t place;
	struct stream_fds *fds;
	struct fault *f;
};

static int bad_type(struct check *c)
{
	return bad(c->f, c->e, c->p->name, "must be %s", type_texts[c->p->type]);
}

static int check_bounds(struct check *c, uint64_t n, const char *unit)
{
	if (!c->p->min && !c->p->max)
		return 0;
	if (n < (uint64_t)c->p->min && n == 0)
		return bad(c->f, c->e, c->p->name, "must not be empty");
	if (n < (uint64_t)c->p->min)
		return bad(c->f, c->e, c->p->name, "must have at least %lld %s",
			   (long long)c->p->min, unit);
	if (c->p->max && n > (uint64_t)c->p->max)
		return bad(c->f, c->e, c->p->name, "must have at most %lld %s",
			   (long long)c->p->max, unit);
	return 0;
}

static int check_text(struct check *c, const msgpack_object *o, const char **p, size_t *n)
{
	if (!mp_str(o, p, n))
		return bad_type(c);
	if (memchr(*p, '\0', *n))
		return bad(c->f, c->e, c->p->name, "must not have a NUL byte in it");
	return 0;
}

static int check_int(struct check *c, const msgpack_object *o)
{
	int64_t v;

	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER &&
	    o->type != MSGPACK_OBJECT_NEGATIVE_INTEGER)
		return bad_type(c);
	if (!mp_int(o, &v))
		return bad(c->f, c->e, c->p->name, "is larger than %lld", (long long)INT64_MAX);
	if (!c->p->min && !c->p->max)
		return 0;
	if (v < c->p->min)
		return bad(c->f, c->e, c->p->name, "must be at least %lld", (long long)c->p->min);
	if (v > c->p->max)
		return bad(c->f, c->e, c->p->name, "must be at most %lld", (long long)c->p->max);
	return 0;
}

static int check_labels(struct check *c, const msgpack_object *o)
{
	if (o->via.map.size > LIMIT_LABELS)
		return bad(c->f, c->e, c->p->name, "has more than %u labels", LIMIT_LABELS);
	for (uint32_t i = 0; i < o->via.map.size; i++) {
		const msgpack_object_kv *kv = &o->via.map.ptr[i];
		const char *k, *v;
		size_t nk, nv;

		if (!mp_str(&kv->key, &k, &nk) || !mp_str(&kv->val, &v, &nv))
			return bad_type(c);
		if (!nk)
			return bad(c->f, c->e, c->p->name, "a label's key must not be empty");
		if (memchr(k, '\0', nk) || memchr(v, '\0', nv))
			return bad(c->f, c->e, c->p->name,
				   "a label must not have a NUL byte in it");
		if (nk + nv > LIMIT_LABEL_BYTES)
			return bad(c->f, c->e, c->p->name,
				   "label %.*s: key and value are together longer than %u bytes",
				   (int)(nk < 64 ? nk : 64), k, LIMIT_LABEL_BYTES);
	}
	return 0;
}

static int check_strs(struct check *c, const msgpack_object *o)
{
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		const char *p;
		size_t n;
		int r = check_text(c, &o->via.array.ptr[i], &p, &n);

		if (r)
			return r;
	}
	return 0;
}

/* The request's fd `number` becomes this argument's; named twice, it is duplicated. */
static int name_fd(struct check *c, int number)
{
	struct ipc_request *req = c->req;
	struct ipc_named_fd *named;
	size_t n = c->fds ? c->fds->n : 0;
	int fd;

	if ((size_t)number >= n)
		return bad(c->f, c->e, c->p->name, "fd:%d: the request came with %zu fds", number,
			   n);
	if (!req->named) {
		req->named = msgpack_zone_malloc(&req->zone,
						 c->e->n_params * sizeof(struct ipc_named_fd));
		if (!req->named)
			return fault_set(c->f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "%s",
					 c->e->method->name);
	}
	fd = TAKE_FD(c->fds->fds[number]);
	for (uint32_t i = 0; fd < 0 && i < req->n_named; i++) {
		if (req->named[i].number != number)
			continue;
		fd = fcntl(req->named[i].fd, F_DUPFD_CLOEXEC, 3);
		if (fd < 0) {
			int err = errno;

			fault_set(c->f, fault_code_of_errno(err), err, "%s: %s: fd:%d",
				  c->e->method->name, c->p->name, number);
			fault_arg(c->f, c->p->name);
			return -err;
		}
	}
	named = &req->named[req->n_named++];
	named->param = c->place;
	named->number = number;
	named->fd = fd;
	return 0;
}

static int check_fd(struct check *c, const char *p, size_t n)
{
	int number = fd_number(p, n);

	if (number < 0)
		return bad(c->f, c->e, c->p->name,
			   "must be \"fd:N\" with the number of a passed fd");
	return name_fd(c, number);
}

static int check_stdio(struct check *c, const msgpack_object *o, bool *absent)
{
	const char *p;
	size_t n;
	int r = check_text(c, o, &p, &n);

	if (r)
		return r;
	if (!n) {
		*absent = true;
		return 0;
	}
	if (n >= 3 && !memcmp(p, "fd:", 3))
		return check_fd(c, p, n);
	if (n == 4 && !memcmp(p, "log:", 4))
		return 0;
	if (n > 7 && !memcmp(p, "file://", 7)) {
		p += 7;
		n -= 7;
	}
	if (p[0] != '/')
		return bad(c->f, c->e, c->p->name,
			   "must be a path from /, \"file:///PATH\", \"fd:N\" or \"log:\"");
	if (n > 4095)
		return bad(c->f, c->e, c->p->name, "the path is longer than 4095 bytes");
	return 0;
}

static int check_signal(struct check *c, msgpack_object *o)
{
	const char *p;
	size_t n;
	int64_t v;

	if (mp_str(o, &p, &n)) {
		int sig = signal_by_name(p, n);

		if (!sig)
			return bad(c->f, c->e, c->p->name, "%.*s: no such signal",
				   (int)(n < 32 ? n : 32), p);
		o->type = MSGPACK_OBJECT_POSITIVE_INTEGER;
		o->via.u64 = (uint64_t)sig;
		return 0;
	}
	if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER &&
	    o->type != MSGPACK_OBJECT_NEGATIVE_INTEGER)
		return bad_type(c);
	if (!mp_int(o, &v) || v < 1 || v > 64)
		return bad(c->f, c->e, c->p->name, "must be a signal from 1 to 64");
	return 0;
}

/* Empty arrays and empty maps become what the row wants. */
static void settle_empty(enum ipc_type type, msgpack_object *o)
{
	bool empty_array = o->type == MSGPACK_OBJECT_ARRAY && !o->via.array.size;
	bool empty_map = o->type == MSGPACK_OBJECT_MAP && !o->via.map.size;

	if (empty_array && (type == IPC_MAP || type == IPC_LABELS || type == IPC_STR_OR_MAP)) {
		o->type = MSGPACK_OBJECT_MAP;
		o->via.map.size = 0;
		o->via.map.ptr = NULL;
	} else if (empty_map && (type == IPC_LIST || type == IPC_STRS)) {
		o->type = MSGPACK_OBJECT_ARRAY;
		o->via.array.size = 0;
		o->via.array.ptr = NULL;
	}
}

static int check_value(struct check *c, msgpack_object *o, bool *absent)
{
	enum ipc_type type = c->p->type;
	const char *p, *reason;
	size_t n;
	int r;

	settle_empty(type, o);
	switch (type) {
	case IPC_STR:
		r = check_text(c, o, &p, &n);
		return r ? r : check_bounds(c, n, "bytes");
	case IPC_ID:
		if (!mp_str(o, &p, &n))
			return bad_type(c);
		if (!n && !(c->p->flags & IPC_REQUIRED)) {
			*absent = true;
			return 0;
		}
		reason = id_reason(p, n);
		return reason ? bad(c->f, c->e, c->p->name, "%s", reason) : 0;
	case IPC_INT:
		return check_int(c, o);
	case IPC_BOOL:
		return o->type == MSGPACK_OBJECT_BOOLEAN ? 0 : bad_type(c);
	case IPC_BIN:
		if (!mp_str(o, &p, &n))
			return bad_type(c);
		return check_bounds(c, n, "bytes");
	case IPC_MAP:
		if (o->type != MSGPACK_OBJECT_MAP)
			return bad_type(c);
		return check_bounds(c, o->via.map.size, "entries");
	case IPC_LABELS:
		return o->type == MSGPACK_OBJECT_MAP ? check_labels(c, o) : bad_type(c);
	case IPC_LIST:
	case IPC_STRS:
		if (o->type != MSGPACK_OBJECT_ARRAY)
			return bad_type(c);
		r = type == IPC_STRS ? check_strs(c, o) : 0;
		return r ? r : check_bounds(c, o->via.array.size, "entries");
	case IPC_FD:
		return mp_str(o, &p, &n) ? check_fd(c, p, n) : bad_type(c);
	case IPC_STDIO:
		return check_stdio(c, o, absent);
	case IPC_SIGNAL:
		return check_signal(c, o);
	case IPC_STR_OR_MAP:
		if (o->type == MSGPACK_OBJECT_MAP)
			return 0;
		r = check_text(c, o, &p, &n);
		return r ? r : check_bounds(c, n, "bytes");
	case IPC_ANY:
		break;
	}
	return 0;
}

static int unknown_argument(struct check *c, const msgpack_object *key)
{
	const char *p;
	char name[64];
	size_t n;

	if (!mp_str(key, &p, &n))
		return fault_set(c->f, FAULT_INVALID_ARGUMENT, 0,
				 "%s: arguments are named by strings", c->e->method->name);
	if (n >= sizeof(name))
		n = sizeof(name) - 1;
	for (size_t i = 0; i < n; i++)
		name[i] = (unsigned char)p[i] >= ' ' && p[i] != 0x7f ? p[i] : '?';
	name[n] = '\0';
	return bad(c->f, c->e, name, "no such argument");
}

int ipc_args_check(struct ipc_request *req, msgpack_object *params, struct stream_fds *fds,
		   struct fault *f)
{
	const struct ipc_entry *e = req->entry;
	struct check c = { .req = req, .e = e, .fds = fds, .f = f };
	uint32_t size = 0;

	req->args = msgpack_zone_malloc(&req->zone, e->n_params * sizeof(void *));
	if (!req->args)
		return fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "%s", e->method->name);
	memset(req->args, 0, e->n_params * sizeof(void *));
	if (params && params->type == MSGPACK_OBJECT_MAP)
		size = params->via.map.size;
	for (uint32_t i = 0; i < size; i++) {
		msgpack_object_kv *kv = &params->via.map.ptr[i];
		bool absent = kv->val.type == MSGPACK_OBJECT_NIL;
		const char *name;
		size_t n;
		int place, r;

		if (!mp_str(&kv->key, &name, &n))
			return unknown_argument(&c, &kv->key);
		place = ipc_entry_param(e, name, n);
		if (place < 0)
			return unknown_argument(&c, &kv->key);
		c.place = (uint32_t)place;
		c.p = e->params[place];
		if (absent)
			continue;
		if (req->args[place])
			return bad(f, e, c.p->name, "is given twice");
		r = check_value(&c, &kv->val, &absent);
		if (r)
			return r;
		if (!absent)
			req->args[place] = &kv->val;
	}
	for (uint32_t i = 0; i < e->n_own; i++)
		if ((e->params[i]->flags & IPC_REQUIRED) && !req->args[i])
			return bad(f, e, e->params[i]->name, "required");
	return 0;
}

static int place_of(struct ipc_request *req, const char *name)
{
	return ipc_entry_param(req->entry, name, strlen(name));
}

const msgpack_object *ipc_arg(struct ipc_request *req, const char *name)
{
	int place = place_of(req, name);

	return place < 0 ? NULL : req->args[place];
}

bool ipc_has(struct ipc_request *req, const char *name)
{
	return ipc_arg(req, name);
}

bool ipc_takes(struct ipc_request *req, const char *name)
{
	return ipc_entry_param(req->entry, name, strcspn(name, ".")) >= 0;
}

static const char *c_string(const msgpack_object *o)
{
	const char *p;
	size_t n;

	if (!mp_str(o, &p, &n))
		return NULL;
	if (!n)
		return "";
	((char *)p)[n] = '\0'; /* see above: the frame is ours and has been read */
	return p;
}

const char *ipc_arg_str(struct ipc_request *req, const char *name)
{
	return c_string(ipc_arg(req, name));
}

int64_t ipc_arg_int(struct ipc_request *req, const char *name, int64_t dflt)
{
	int64_t v;

	return mp_int(ipc_arg(req, name), &v) ? v : dflt;
}

bool ipc_arg_bool(struct ipc_request *req, const char *name, bool dflt)
{
	const msgpack_object *o = ipc_arg(req, name);

	return o && o->type == MSGPACK_OBJECT_BOOLEAN ? o->via.boolean : dflt;
}

int ipc_arg_fd(struct ipc_request *req, const char *name)
{
	int place = place_of(req, name);

	for (uint32_t i = 0; place >= 0 && i < req->n_named; i++) {
		if (req->named[i].param == (uint32_t)place) {
			int fd = req->named[i].fd;

			req->named[i].fd = -1;
			return fd;
		}
	}
	return -1;
}

const char *const *ipc_arg_strs(struct ipc_request *req, const char *name, size_t *n)
{
	const msgpack_object *o = ipc_arg(req, name);
	const char **texts;

	*n = 0;
	if (!o || o->type != MSGPACK_OBJECT_ARRAY || !o->via.array.size)
		return NULL;
	texts = msgpack_zone_malloc(&req->zone, o->via.array.size * sizeof(char *));
	if (!texts)
		return NULL;
	for (uint32_t i = 0; i < o->via.array.size; i++)
		texts[i] = c_string(&o->via.array.ptr[i]);
	*n = o->via.array.size;
	return texts;
}

bool ipc_mask_has(struct ipc_request *req, const char *path)
{
	const msgpack_object *o = ipc_arg(req, "mask");
	size_t size = strlen(path);

	if (!o || !o->via.array.size)
		return true;
	for (uint32_t i = 0; i < o->via.array.size; i++) {
		const char *p;
		size_t n;

		if (!mp_str(&o->via.array.ptr[i], &p, &n) || n > size || memcmp(p, path, n))
			continue;
		if (n == size || (n && path[n] == '.'))
			return true;
	}
	return false;
}

const char *ipc_namespace(struct ipc_request *req)
{
	return req->ns;
}

const struct ipc_method *ipc_request_method(struct ipc_request *req)
{
	return req->entry->method;
}
