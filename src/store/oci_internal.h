// SPDX-License-Identifier: Apache-2.0
/*
 * Image documents, inside: what the readers of OCI's JSON share
 */
#pragma once

#include <errno.h>

#include "store/oci.h"

static inline void oci_json_putp(json_object **j)
{
	json_object_put(*j);
}

static inline int oci_no_memory(struct fault *f)
{
	fault_set(f, FAULT_RESOURCE_EXHAUSTED, ENOMEM, "image documents");
	return -ENOMEM;
}
/* A copy of the text `key` of an object, "" when it has none; `what` begins the fault. */
int oci_text(json_object *object, const char *key, const char *what, char **out, struct fault *f);
/* Whether it is an object whose values are texts; `name` is what the fault calls it. */
int oci_text_map(json_object *map, const char *what, const char *name, struct fault *f);
/* A descriptor's platform object, or an image config as far as it names one; normalised. */
int oci_platform_of(struct oci_platform *p, json_object *json, const char *what, struct fault *f);
int oci_platform_normalise(struct oci_platform *p, struct fault *f);
/* Takes value over; NULL is lack of memory: -ENOMEM. */
int oci_add(json_object *object, const char *key, json_object *value);
int oci_append(json_object *array, json_object *value);
