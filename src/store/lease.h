// SPDX-License-Identifier: Apache-2.0
/*
 * Leases: what must not be collected although nothing refers to it yet
 */
#pragma once

#include "store/store.h"

/* Types of resources, as containerd names them. */
#define LEASE_CONTENT "content"
#define LEASE_INGESTS "ingests"
#define LEASE_IMAGES "images"
#define LEASE_SNAPSHOTS "snapshots/" /* and the snapshotter's name */
/* Removed at the next start of the daemon: made for work that a dead daemon does not finish. */
#define LEASE_LABEL_TRANSIENT "davit.transient"

struct lease_info {
	const char *id;
	const struct db_label *labels;
	size_t n_labels;
	int64_t created_at, expires_at; /* 0: never */
};
typedef int (*lease_fn)(void *user, const struct lease_info *info);
typedef int (*lease_resource_fn)(void *user, const char *type, const char *id);

/*
 * id NULL or "": a random one. expires_at 0: by the label containerd.io/gc.expire (RFC 3339), or
 * never.
 */
int lease_create(struct store_call *c, const char *id, const struct db_label *labels, size_t n,
		 int64_t expires_at, lease_fn fn, void *user);
int lease_delete(struct store_call *c, const char *id); /* FAULT_NOT_FOUND */
int lease_list(struct store_call *c, const char *after, lease_fn fn, void *user);
/* A resource need not exist. Twice is once. A wrong type or id: FAULT_INVALID_ARGUMENT. */
int lease_add(struct store_call *c, const char *id, const char *type, const char *resource);
int lease_remove(struct store_call *c, const char *id, const char *type, const char *resource);
/* In order; those behind `after`, which is "TYPE ID" or "". A positive answer of fn ends it. */
int lease_resources(struct store_call *c, const char *id, const char *after, lease_resource_fn fn,
		    void *user);
/*
 * For what a call has made or used: joins c->lease when there is one. FAULT_NOT_FOUND when that
 * lease does not exist. Inside the caller's transaction.
 */
int lease_join(struct store_call *c, const char *type, const char *resource);
/*
 * A lease for a piece of work, when the call has none: sets c->lease to a new transient one of 24 h,
 * whose id is in buf; lease_release deletes it (and leaves a lease that the caller has given).
 */
struct lease_hold {
	char id[48]; /* "" when the caller has one */
};
int lease_hold(struct store_call *c, struct lease_hold *hold);
void lease_release(struct store_call *c, struct lease_hold *hold);
/* At the start: transient ones go. */
int lease_expire_transient(struct store *s, struct fault *f);
