// SPDX-License-Identifier: Apache-2.0
/*
 * Events: recording one, and the RPC methods around them
 */
#pragma once

#include <msgpack.h>

#include "core/davit.h"
#include "ipc/method.h"

extern const struct ipc_method event_methods[];
extern const struct ipc_topic event_topics[]; /* what davit itself sends */

int subscriptions_new(struct davit *d); /* after the bus */
void subscriptions_free(struct davit *d);
size_t subscriptions_count(const struct davit *d);

/*
 * One event in a commit of its own; the payload is one packed map. 0 or -errno: then it is not in
 * the journal.
 */
int event_emit(struct davit *d, const char *ns, const char *topic, const msgpack_sbuffer *payload);
