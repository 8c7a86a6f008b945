// SPDX-License-Identifier: Apache-2.0
/*
 * Running OCI hooks in the runtime's namespaces, one after another, from the reactor
 *
 * Each is started on a worker, its end comes by the reaper, its output is kept for the error, its timeout kills it.
 */
#pragma once

#include "core/davit.h"
#include "runtime/spec.h"
#include "util/fault.h"

struct hook_run;

struct hook_run_request {
	const struct spec *spec; /* borrowed until done */
	enum spec_hook_kind kinds[2]; /* run in this order */
	unsigned n_kinds;
	const char *id, *bundle, *status;
	pid_t pid;
	bool go_on; /* a hook that fails is logged and the next one runs (poststop) */
};

/*
 * done is called once, not from inside this call; fault is NULL when all went well. 0, or -errno (then done is not called).
 */
int hook_run_start(struct hook_run **out, struct davit *d, const struct hook_run_request *r,
		   void (*done)(void *user, const struct fault *fault), void *user);
/* Kills what runs and never calls done. NULL is fine. The spec may be freed after. */
void hook_run_cancel(struct hook_run *h);
