// SPDX-License-Identifier: Apache-2.0
/*
 * Events that say how far a long request is
 *
 * For work of the reactor's own; that of a worker has store_job_start. At most ten a second, and only
 * when something has moved.
 */
#pragma once

#include <stdint.h>

#include "core/davit.h"
#include "ipc/request.h"

struct progress;

struct progress_state {
	const char *phase; /* a literal; NULL: nothing to say yet */
	uint64_t done, total; /* total 0: not known */
};

/*
 * *out is NULL, and 0 is returned, unless the request has the argument `progress`. ask is called on the
 * reactor until progress_end. topic is kept, ns is copied. -ENOMEM
 */
int progress_begin(struct progress **out, struct davit *d, struct ipc_request *req,
		   const char *topic, const char *ns,
		   void (*ask)(void *user, struct progress_state *state), void *user);
/* One more event, if there is something new, and no more. NULL is fine. */
void progress_end(struct progress *p);
