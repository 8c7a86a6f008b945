// SPDX-License-Identifier: Apache-2.0
/*
 * Faults: errors that a user reads
 *
 * Inside davit functions return 0, a negative errno that is forwarded unchanged, or a positive
 * MODULE_E_* which the caller must handle. Where the reason is for a user, the function takes a
 * `struct fault *` as its last argument as well and fills it before it returns negative. A fault
 * has a fixed size and owns nothing: it can be copied, and filling it never fails.
 */
#pragma once

#include <stdarg.h>

enum fault_code {
	FAULT_NONE = 0,
	FAULT_INVALID_ARGUMENT,
	FAULT_NOT_FOUND,
	FAULT_ALREADY_EXISTS,
	FAULT_FAILED_PRECONDITION,
	FAULT_UNAVAILABLE,
	FAULT_UNIMPLEMENTED,
	FAULT_ABORTED,
	FAULT_OUT_OF_RANGE,
	FAULT_PERMISSION_DENIED,
	FAULT_RESOURCE_EXHAUSTED,
	FAULT_CANCELLED,
	FAULT_DEADLINE_EXCEEDED,
	FAULT_INTERNAL,
	FAULT_UNKNOWN,
	FAULT_CODES,
};

struct fault {
	enum fault_code code;
	int err; /* errno that caused it, 0 for none */
	int exit_code; /* 125, 126 or 127 for a program that cannot run, 0 when it does not apply */
	char argument[64]; /* name of the RPC argument or the spec's field path, "" for none */
	char step[64]; /* what was being done, "" for none */
	char path[512]; /* on which file, "" for none */
	char message[1024]; /* one line, without a final dot */
	/* further lines for the user (a hook's stderr, criu's log), '\n' between them */
	char log[2048];
};

/*
 * Fills f and returns -err, or -EINVAL when err is 0. With an err, its meaning is appended to the
 * message as ": TEXT". f may be NULL. Former contents are lost, but step, path and argument
 * can be set afterwards (fault_at, fault_arg).
 */
int fault_set(struct fault *f, enum fault_code code, int err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int fault_setv(struct fault *f, enum fault_code code, int err, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));

/*
 * The usual failure of a system call during a step: code is derived from err
 * (fault_code_of_errno), the message is "STEP PATH: MEANING". err is positive. Returns -err.
 */
int fault_sys(struct fault *f, int err, const char *step, const char *path);

/*
 * Tells clang's analyzer, which looks at one file alone and into no variadic function, that a call
 * answers with a negative number. Behind a variadic function of one's own:
 * #define refuse(...) FAULT_NEGATIVE(refuse(__VA_ARGS__))
 */
#ifdef __clang_analyzer__
#define FAULT_NEGATIVE(call) ((void)(call), -22)
#else
#define FAULT_NEGATIVE(call) (call)
#endif
#ifndef FAULT_IS_DEFINED_HERE
#define fault_set(...) FAULT_NEGATIVE(fault_set(__VA_ARGS__))
#define fault_setv(...) FAULT_NEGATIVE(fault_setv(__VA_ARGS__))
#define fault_sys(...) FAULT_NEGATIVE(fault_sys(__VA_ARGS__))
#endif

/* Add to a fault that is set. NULL leaves a member as it is, "" empties it. */
void fault_at(struct fault *f, const char *step, const char *path);
void fault_arg(struct fault *f, const char *argument);
/* Puts "PREFIX: " before the message. */
void fault_prefix(struct fault *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "invalid_argument" and so on, the names of the RPC contract; never NULL. */
const char *fault_code_name(enum fault_code code);
/* FAULT_UNKNOWN for a name that is none. */
enum fault_code fault_code_by_name(const char *name);
/* ENOENT is not_found, EEXIST already_exists, ENOSPC, EMFILE, ENOMEM, EAGAIN resource_exhausted, … */
enum fault_code fault_code_of_errno(int err);
/* "ENOENT"; "" when err is 0. */
const char *fault_errno_name(int err);
