// SPDX-License-Identifier: Apache-2.0
/*
 * Garbage collection: when it runs
 *
 * It is due by itself after deletions of images, leases, containers and snapshots and when a lease
 * ends: the database tells (store/gc.h), nobody has to. Who wants a collection before an answer
 * (delete with `sync`) makes a long job (store_job_start) and calls gc_run in it; the events of a
 * run are in the journal when gc_run returns.
 */
#pragma once

#include "core/davit.h"
#include "util/fault.h"

int gc_service_new(struct davit *d, struct fault *f); /* after the store */
/* Nothing is started any more; a run under way is told to end. */
void gc_service_stop(struct davit *d);
/* After the pools, before the journal and the store. NULL in d->gc is fine. */
void gc_service_free(struct davit *d);
/* For what leaves garbage behind without such a deletion: collects soon. */
void gc_kick(struct davit *d);
