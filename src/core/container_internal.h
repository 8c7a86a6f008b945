// SPDX-License-Identifier: Apache-2.0
/*
 * Containers: what container.c (the records), container_change.c (changing them) and
 * svc_container.c (the methods) share
 */
#pragma once

#include <bsd/sys/tree.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/change.h"
#include "core/container.h"
#include "core/davit.h"
#include "core/labels.h"
#include "core/namespace.h"
#include "core/spec_blob.h"
#include "ipc/request.h"
#include "store/db.h"

/*
 * What is stored of a container: one block, never changed once made. row's pointers lead into the
 * block.
 */
struct record {
	struct db_container row;
	struct spec_blob *spec; /* a reference */
};

struct container {
	RB_ENTRY(container) node; /* by namespace and id */
	struct namespace *ns; /* in use */
	struct record *record; /* NULL while it is being created */
	struct task *task;
	struct change_queue changes;
	bool live; /* seen by readers */
	bool gone; /* out of the table; freed with its last change */
	char id[];
};
RB_HEAD(container_tree, container);

struct containers {
	struct container_tree tree;
	struct spec_table *specs;
	size_t count;
};

/* ---- container.c */

/*
 * Copies what row points to, but for the spec: a reference on it is taken over when this succeeds.
 */
struct record *record_new(const struct db_container *row, struct spec_blob *spec);
void record_free(struct record *r);

/* Whatever its state. */
struct container *container_lookup(struct davit *d, const char *ns, const char *id);
/* A new one, not live. NULL: no memory. */
struct container *container_add(struct davit *d, struct namespace *ns, const char *id);
void container_remove(struct davit *d, struct container *c); /* out of the table */
void container_free(struct container *c);
/*
 * The first of the namespace with an id behind `after` ("" for the first of all), then the next
 * ones; NULL at the namespace's end.
 */
struct container *container_first(struct davit *d, const char *ns, const char *after);
struct container *container_next(struct container *c);
/* For filters: id, image, runtime.name, labels.KEY. user: the container. */
bool container_field(void *user, const char *const *path, size_t n, const char **value);
/* The record as the RPC answers it. spec: rendered msgpack; NULL leaves it out. */
void container_pack(msgpack_packer *pk, const struct container *c, const msgpack_sbuffer *spec);

/* ---- container_change.c */

void container_request_create(struct davit *d, struct ipc_request *req);
void container_request_update(struct davit *d, struct ipc_request *req);
void container_request_delete(struct davit *d, struct ipc_request *req);
