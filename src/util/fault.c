// SPDX-License-Identifier: Apache-2.0
#define FAULT_IS_DEFINED_HERE
#include "util/fault.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[FAULT_CODES] = {
	[FAULT_NONE] = "ok",
	[FAULT_INVALID_ARGUMENT] = "invalid_argument",
	[FAULT_NOT_FOUND] = "not_found",
	[FAULT_ALREADY_EXISTS] = "already_exists",
	[FAULT_FAILED_PRECONDITION] = "failed_precondition",
	[FAULT_UNAVAILABLE] = "unavailable",
	[FAULT_UNIMPLEMENTED] = "unimplemented",
	[FAULT_ABORTED] = "aborted",
	[FAULT_OUT_OF_RANGE] = "out_of_range",
	[FAULT_PERMISSION_DENIED] = "permission_denied",
	[FAULT_RESOURCE_EXHAUSTED] = "resource_exhausted",
	[FAULT_CANCELLED] = "cancelled",
	[FAULT_DEADLINE_EXCEEDED] = "deadline_exceeded",
	[FAULT_INTERNAL] = "internal",
	[FAULT_UNKNOWN] = "unknown",
};

/* strerror without its buffer and locale */
static const char *errno_text(int err)
{
	const char *text = strerrordesc_np(err);

	return text ? text : "unknown error";
}

int fault_setv(struct fault *f, enum fault_code code, int err, const char *fmt, va_list ap)
{
	size_t used;

	if (!f)
		return err ? -err : -EINVAL;
	memset(f, 0, sizeof(*f));
	f->code = code;
	f->err = err;
	vsnprintf(f->message, sizeof(f->message), fmt, ap);
	used = strlen(f->message);
	if (err)
		snprintf(f->message + used, sizeof(f->message) - used, ": %s", errno_text(err));
	return err ? -err : -EINVAL;
}

int fault_set(struct fault *f, enum fault_code code, int err, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = fault_setv(f, code, err, fmt, ap);
	va_end(ap);
	return r;
}

int fault_sys(struct fault *f, int err, const char *step, const char *path)
{
	int r = fault_set(f, fault_code_of_errno(err), err, "%s%s%s", step, path ? " " : "",
			  path ? path : "");

	fault_at(f, step, path);
	return r;
}

void fault_at(struct fault *f, const char *step, const char *path)
{
	if (!f)
		return;
	if (step)
		snprintf(f->step, sizeof(f->step), "%s", step);
	if (path)
		snprintf(f->path, sizeof(f->path), "%s", path);
}

void fault_arg(struct fault *f, const char *argument)
{
	if (f && argument)
		snprintf(f->argument, sizeof(f->argument), "%s", argument);
}

void fault_prefix(struct fault *f, const char *fmt, ...)
{
	char old[sizeof(f->message)];
	size_t used;
	va_list ap;

	if (!f)
		return;
	memcpy(old, f->message, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(f->message, sizeof(f->message), fmt, ap);
	va_end(ap);
	used = strlen(f->message);
	snprintf(f->message + used, sizeof(f->message) - used, ": %s", old);
}

const char *fault_code_name(enum fault_code code)
{
	if ((unsigned)code >= FAULT_CODES)
		return "unknown";
	return code_names[code];
}

enum fault_code fault_code_by_name(const char *name)
{
	for (unsigned i = 0; i < FAULT_CODES; i++)
		if (!strcmp(code_names[i], name))
			return (enum fault_code)i;
	return FAULT_UNKNOWN;
}

enum fault_code fault_code_of_errno(int err)
{
	switch (err) {
	case 0:
		return FAULT_NONE;
	case ENOENT:
	case ESRCH:
	case ENXIO:
	case ENODEV:
		return FAULT_NOT_FOUND;
	case EEXIST:
		return FAULT_ALREADY_EXISTS;
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case EXDEV:
	case ENOEXEC:
	case EBUSY:
	case ENOTEMPTY:
	case EROFS:
	case ENOTSUP:
		return FAULT_FAILED_PRECONDITION;
	case EINVAL:
	case ENAMETOOLONG:
	case EILSEQ:
	case E2BIG:
		return FAULT_INVALID_ARGUMENT;
	case EPERM:
	case EACCES:
		return FAULT_PERMISSION_DENIED;
	case ENOSPC:
	case EDQUOT:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case EAGAIN:
	case EUSERS:
	case EFBIG:
		return FAULT_RESOURCE_EXHAUSTED;
	case ENOSYS:
		return FAULT_UNIMPLEMENTED;
	case ERANGE:
	case EOVERFLOW:
		return FAULT_OUT_OF_RANGE;
	case ECANCELED:
		return FAULT_CANCELLED;
	case ETIMEDOUT:
		return FAULT_DEADLINE_EXCEEDED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
		return FAULT_UNAVAILABLE;
	default:
		return FAULT_UNKNOWN;
	}
}

const char *fault_errno_name(int err)
{
	const char *name = err ? strerrorname_np(err) : "";

	return name ? name : "";
}
