// SPDX-License-Identifier: Apache-2.0
/*
 * Environment lists: -e and --env-file
 */
#pragma once

#include <json-c/json.h>

#include "util/fault.h"

/* Sets KEY=VALUE in an array of such texts: in the place of an earlier one, else at the end. */
void envlist_set(json_object *list, const char *key_value);
/* Sets it unless the key is there already. */
void envlist_default(json_object *list, const char *key, const char *value);
/*
 * One -e: "K=V"; "K" takes the caller's value (nothing when it has none), "PREFIX*" all of the
 * caller's that begin so.
 */
int envlist_option(json_object *list, const char *text, struct fault *f);
/*
 * A file of such lines; empty ones and those that begin with '#' are skipped, values are taken as
 * they stand.
 */
int envlist_file(json_object *list, const char *path, struct fault *f);
