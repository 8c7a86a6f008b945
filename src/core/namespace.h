// SPDX-License-Identifier: Apache-2.0
/*
 * Namespaces, for the rest of core; container.h has what others need
 */
#pragma once

#include <stddef.h>

#include "core/davit.h"

struct namespace;

int namespaces_new(struct davit *d); /* loads from d->db, before containers_new */
void namespaces_free(struct davit *d);
/* NULL for none. One that is being made by namespaces.create is found too. */
struct namespace *namespace_find(struct davit *d, const char *name);
/*
 * As namespace_find, or made in memory alone: for a record of the database whose namespace is not
 * there. NULL: no memory.
 */
struct namespace *namespace_load(struct davit *d, const char *name);
const char *namespace_name(const struct namespace *ns);
/* What lives in it, also what is just being made: as long as there is any, it is not deleted. */
void namespace_use(struct namespace *ns);
void namespace_unuse(struct namespace *ns);
size_t namespaces_count(const struct davit *d);
void namespaces_each(struct davit *d, void (*fn)(void *user, const char *name), void *user);
