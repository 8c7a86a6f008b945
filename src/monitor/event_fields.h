// SPDX-License-Identifier: Apache-2.0
/*
 * What a filter sees of an event: topic, namespace, event.FIELD
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "monitor/journal.h"

struct event_fields;

int event_fields_new(struct event_fields **out);
void event_fields_free(struct event_fields *f);
/* The event to look at, borrowed. Its payload is unpacked when a field of it is asked for. */
void event_fields_set(struct event_fields *f, const struct journal_event *e);
/* For filter_match; user is a struct event_fields. */
bool event_fields_get(void *user, const char *const *path, size_t n, const char **value);
