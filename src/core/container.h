// SPDX-License-Identifier: Apache-2.0
/*
 * Containers and namespaces: the records, in memory and in the database
 *
 * The reactor's copy is the truth for readers; a change is answered after the store thread has
 * committed it. Equal specs share one compressed copy (by digest), so that a thousand containers of
 * one kind cost a thousand small records.
 */
#pragma once

#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/method.h"
#include "util/fault.h"

struct davit;
struct container;
struct task;

int containers_new(struct davit *d); /* loads from d->db, before the loop runs */
void containers_free(struct davit *d);
extern const struct ipc_method container_methods[];
extern const struct ipc_method namespace_methods[];
/* For ipc_server_on_namespace: makes the namespace on first use. */
int namespace_touch(struct davit *d, const char *ns);
/* Whether anything (containers) lives in it; images and more later. */
bool namespace_empty(struct davit *d, const char *ns);

/* NULL when there is none, or while it is being created or deleted. */
struct container *container_find(struct davit *d, const char *ns, const char *id);
const char *container_ns(const struct container *c);
const char *container_id(const struct container *c);
const char *container_bundle(const struct container *c); /* "" for none */
const char *container_runtime(const struct container *c); /* "" for davit's own */
const char *container_image(const struct container *c); /* "" for none */
/* All of them, into an empty `to`. 0 or negative as labels_copy. */
struct labels;
int container_labels_copy(const struct container *c, struct labels *to);
const char *container_snapshotter(const struct container *c); /* "" for the default */
const char *container_snapshot_key(const struct container *c); /* "" for none */
/* Label's value or NULL. */
const char *container_label(const struct container *c, const char *key);
/*
 * The spec's zstd frame, shared: may be given to a job; spec_blob_put when done. Thread-safe
 * counting.
 */
struct spec_blob;
struct spec_blob *container_spec(struct container *c); /* a reference */
void spec_blob_put(struct spec_blob *b);
/* Decompressed text, malloc'ed, for any thread. */
int spec_blob_text(const struct spec_blob *b, char **text, size_t *size);

struct containers_stats {
	uint64_t containers, namespaces, specs; /* specs: distinct ones */
};
void containers_get_stats(struct davit *d, struct containers_stats *out);

/*
 * The container's task, NULL for none. Set by core/task.c. A container with a task cannot be
 * deleted.
 */
struct task *container_task(const struct container *c);
void container_set_task(struct container *c, struct task *t);
/*
 * Removes the record as containers.delete does, for nobody's request; what fails is logged. The
 * container has no task any more.
 */
void container_discard(struct davit *d, struct container *c);
