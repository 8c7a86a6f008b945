// SPDX-License-Identifier: Apache-2.0
/*
 * -u: users and groups by the container's own /etc/passwd and /etc/group
 */
#pragma once

#include <json-c/json.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/fault.h"

struct user {
	uid_t uid;
	gid_t gid;
	char *home; /* never NULL after a lookup */
	gid_t *groups; /* supplementary */
	size_t n_groups;
};

/*
 * text: "USER", "USER:GROUP", either by name or number; "" for root. root is a folder fd of the
 * root file system, or -1 for none: then names cannot be looked up. Numbers need not be listed; a
 * user without a group has that of its passwd entry, or 0. Supplementary groups are those that list
 * the user, unless a group was given.
 */
int user_lookup(int root, const char *text, struct user *out, struct fault *f);
void user_clear(struct user *u);
/* OCI's process.user. */
json_object *user_json(const struct user *u);
